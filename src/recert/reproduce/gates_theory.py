"""When gates make a bound's rate of growth less than 1 although ‖U‖ is larger: closed forms.

Over a class whose gates lie in [1 − s, s] (theory 3) both ‖gate‖ and ‖1 − gate‖ are at most s, and
s ≥ 1/2. The rates of `recert.rates` are then linear in the norm B of the candidate's U:

| cell | β | θ, repaired |
|---|---|---|
| vanilla | B | B |
| MGU | s + s²B | β + (2 + B)B_Ur/4 |
| GRU | s_z + s_z s_r B | β + (2B_Uz + √d_h B·B_Ur)/4 |
| LSTM | s_g + s_r s_o B | β + (s_o Ĉ B_Ug + s_o B_Ur + B_Uo)/4, Ĉ = s_r/(1 − s_g) |

so each is below 1 up to a largest B. With all gates alike and no U in them it is (1 − s)/s²: 2 at
most, where gates cannot move, and 1 at s = (√5 − 1)/2, where a gate's reach B_W B_x + ‖U‖_row is
ln((1 + √5)/2) = 0.4812. Past that a gated cell with ‖U‖ ≥ 1 has a rate above 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from recert.rates import SLOPE

# Reach of gates at which s + s² = 1.
GOLDEN_REACH = math.log((1 + math.sqrt(5)) / 2)

Norms = Mapping[str, float]


def gate_range(reach: float) -> float:
    """The class-wide bound s of a gate whose argument is at most ``reach``: 1/(1 + e^−reach)."""
    return 1.0 / (1.0 + math.exp(-reach))


def largest_recurrent_norm(
    cell: str, s: Norms, gate_norms: Norms | None = None, d_h: int = 1
) -> float:
    """The B below which the cell's rate is less than 1; at most 0 where there is none.

    Args:
        cell: "vanilla", "conv", "mgu", "gru" or "lstm".
        s: gate → its class-wide bound, in [1/2, 1).
        gate_norms: gate → cap on its U, for θ (repaired); None for β.
        d_h: of a GRU, whose reset gate feels √d_h B.
    """
    if cell not in _LARGEST:
        return 1.0
    gates = dict.fromkeys(s, 0.0) if gate_norms is None else dict(gate_norms)
    return _LARGEST[cell](s, gates, d_h)


def _mgu(s: Norms, B: Norms, d_h: int) -> float:
    return (1.0 - s["r"] - 2.0 * SLOPE * B["r"]) / (s["r"] ** 2 + SLOPE * B["r"])


def _gru(s: Norms, B: Norms, d_h: int) -> float:
    room = 1.0 - s["z"] - 2.0 * SLOPE * B["z"]
    return room / (s["z"] * s["r"] + SLOPE * math.sqrt(d_h) * B["r"])


def _lstm(s: Norms, B: Norms, d_h: int) -> float:
    if s["g"] >= 1.0:
        return 0.0
    state = s["r"] / (1.0 - s["g"])
    moved = SLOPE * (s["o"] * state * B["g"] + s["o"] * B["r"] + B["o"])
    return (1.0 - s["g"] - moved) / (s["r"] * s["o"])


_LARGEST: dict[str, Callable[[Norms, Norms, int], float]] = {
    "mgu": _mgu,
    "gru": _gru,
    "lstm": _lstm,
}
