"""What ``recert reproduce gates`` measures on one trained network: ranges, rates, bounds, nats.

The networks of ``recert reproduce gates``: every cell, with small gates and trained freely.

Units and epochs were chosen so that training errors come close to each other on German nouns; each
certificate pays for such choices by the number of classes in `GERMAN_NOUNS_CHOICES`.

When gates make a bound's rate of growth less than 1 although ‖U‖ is larger: closed forms.

Over a class whose gates lie in [1 − s, s] (theory 3) both ‖gate‖ and ‖1 − gate‖ are at most s, and
s ≥ 1/2. The rates of `recert.sensitivities.growth_rates` are then linear in the norm B of the
candidate's U:

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recert.certificates.certificate import Bound
from recert.certification.certify import evaluate_menu, menu, prepare, reported_margin
from recert.certification.prepare import Case
from recert.networks.cells import CELLS
from recert.networks.network import Network
from recert.numerics.logspace import LN10
from recert.printed.evaluate import order_bounds
from recert.samples.sample import Reading, Sample
from recert.sensitivities.gate_ranges import (
    Gates,
    classwide_gates,
    measured_gates,
    printed_gates,
)
from recert.sensitivities.growth_rates import SLOPE, rates

CERTIFIED = ("theorem_2_clipped", "margin_ball")
PRINTED = {
    "printed_theorem_2": "as printed",
    "printed_theorem_4": "as printed",
    "printed_theorem_5": "as printed",
    "printed_theorem_4_measured": "as printed, gates measured",
    "printed_theorem_5_measured": "as printed, gates measured",
}
# Sequences on which gates are measured.
MEASURED_ON = 5_000


def case_of(
    network: Network, sample: Any, caps: Mapping[str, float], tried: int, delta: float
) -> Case:
    """Everything a certificate of the network needs; ``tried`` classes are paid for."""
    return prepare(
        network,
        sample.sequences,
        sample.labels,
        lengths=sample.lengths,
        max_length=sample.max_length,
        caps=dict(caps) or None,
        tried=tried,
        encoding=sample.encoding,
        delta=delta,
        draws=f"{sample.unit}s are regarded as draws from an unbounded source of them",
    )


def measure(
    contender: Contender, case: Case, sample: Any, horizons: Sequence[int]
) -> dict[str, Any]:
    """Norms, gates, rates and bounds of a network, as plain numbers."""
    network, caps = case.network, case.setting.caps
    role = recurrent(contender.cell)
    longest = max(horizons)
    bounded = classwide_gates(network, steps=longest, caps=caps)
    found = _measured(network, sample)
    return {
        "weights": int(case.setting.parameters.sum()),
        "error": case.setting.table.error,
        "U": network.block(role).norm_bound(),
        "cap on U": caps[role].norm,
        "gates": _ranges(network, contender.cell, found, bounded),
        "rates": _rates(network, caps, found, bounded),
        **_thresholds(contender.cell, network, caps, bounded),
        **_bounds(contender.cell, case, found, horizons),
    }


def _measured(network: Network, sample: Any) -> Gates:
    few = slice(0, MEASURED_ON)
    reading = Reading(network.input_kind, network.d_x, network.K)
    part = Sample(sample.sequences[few], sample.labels[few], reading, lengths=sample.lengths[few])
    return measured_gates(network, part)


def _ranges(network: Network, cell: str, found: Gates, bounded: Gates) -> dict[str, Any]:
    """Gate → least and largest entry measured, s by the calculus and by the paper's formula."""
    printed = printed_gates(network, steps=found.steps)
    ranges = {}
    for gate in CELLS[cell].sigmoids:
        largest, complement = found.of(gate).up_to(found.steps)
        ranges[gate] = {
            "least": 1.0 - complement,
            "largest": largest,
            "class": bounded.of(gate).up_to(bounded.steps)[0],
            "printed": None if printed.reason else printed.of(gate).up_to(found.steps)[0],
        }
    return ranges


def _rates(network: Network, caps: Any, found: Gates, bounded: Gates) -> dict[str, Any]:
    """β_t and θ_t at every step: measured up to T, class-wide up to the longest horizon."""
    curves = {}
    for name, gates in (("measured", found), ("class", bounded)):
        for repaired in (False, True):
            (rate,) = rates(network, gates, repaired=repaired, caps=caps)
            curves[f"{name}, {'repaired' if repaired else 'printed'}"] = {
                "β": _finite(rate.beta), "θ": _finite(rate.theta),
            }  # fmt: skip
    return curves


def _finite(values: Any) -> list[float]:
    return [float(v) for v in np.minimum(values, 1e300)]


def _thresholds(cell: str, network: Network, caps: Any, bounded: Gates) -> dict[str, Any]:
    """How far the class's gates reach, and the ‖U‖ below which its rates are less than 1."""
    s = {gate: bounded.of(gate).up_to(bounded.steps)[0] for gate in CELLS[cell].sigmoids}
    if not s:
        return {"reach": None, "largest U, β": 1.0, "largest U, θ": 1.0}
    norms = {gate: caps[f"U_{gate}"].norm for gate in s}
    d_h = next(iter(network.directions())).d_h
    widest = max(s.values())
    return {
        "reach": math.log(widest / (1.0 - widest)) if widest < 1.0 else 1e300,
        "largest U, β": largest_recurrent_norm(cell, s),
        "largest U, θ": largest_recurrent_norm(cell, s, norms, d_h),
    }


def _bounds(cell: str, case: Case, measured: Gates, horizons: Sequence[int]) -> dict[str, Any]:
    """log10 of bounds, and the margin ball's nats by what its blocks are for, at every horizon."""
    values: dict[str, list[float]] = {}
    nats: list[dict[str, float]] = []
    kinds: dict[str, str] = {}
    for t in horizons:
        setting = case.setting.at_horizon(t)
        bounds = evaluate_menu(menu(CERTIFIED), setting, case.delta, case.rows)
        kinds |= {bound.name: bound.kind for bound in bounds}
        orders = order_bounds(
            case.network, setting.table, steps=t, input_bound=setting.input_bound,
            gamma=reported_margin(bounds, setting), delta=case.delta, measured=measured,
        )  # fmt: skip
        for bound in (*bounds, *orders):
            title = PRINTED.get(bound.name, bound.name if bound.name in CERTIFIED else "")
            if title and bound.log10 is not None:
                values.setdefault(title, []).append(bound.log10)
        ball = next(bound for bound in bounds if bound.name == "margin_ball")
        nats.append(parts_of(cell, case, ball) | {"a unit": float(ball.terms["rate"])})
    return {"log10": values, "kinds": kinds, "nats": nats}


def parts_of(cell: str, case: Case, ball: Bound) -> dict[str, float]:
    """P_k ln(1 + c_k/ε_k) of a margin ball, summed over gates' blocks, the head's, and others."""
    setting = case.setting
    log_ratio = setting.log_caps - np.array(ball.choices["log_radii"])
    found = {"gates": 0.0, "candidate": 0.0, "head": 0.0}
    for name, nats in zip(
        setting.names, setting.parameters * np.logaddexp(0.0, log_ratio), strict=True
    ):
        kind = "gates" if is_gate(cell, name) else "head" if name == "V" else "candidate"
        found[kind] += float(nats)
    return found


def growth_a_step(result: Mapping[str, Any], horizons: Sequence[int]) -> float:
    """The factor a step by which the margin ball's radii shrink at the longest two horizons.

    Radii that shrink by a factor e^−r a step cost P·r nats a step.
    """
    total = [sum(entry[k] for k in ("gates", "candidate", "head")) for entry in result["nats"]]
    slope = (total[-1] - total[-2]) / (horizons[-1] - horizons[-2])
    return math.exp(slope / result["weights"])


def crossing(horizons: Sequence[int], lower: Sequence[float], upper: Sequence[float]) -> int | None:
    """The first horizon from which on ``lower`` stays below ``upper``, or None."""
    first = None
    for t, a, b in zip(horizons, lower, upper, strict=True):
        if a >= b:
            first = None
        elif first is None:
            first = t
    return first


def bound_value(result: Mapping[str, Any], place: int, name: str = "margin_ball") -> float:
    """The certified error at a horizon's place, at most 1."""
    return min(1.0, math.exp(result["log10"][name][place] * LN10))


if TYPE_CHECKING:
    from recert.training import Recipe

SMALL, FREE = "small gates", "free"
# The candidate's U is capped above 1, where a vanilla cell's bound grows.
RECURRENT = 1.2
# ‖W_r‖ (largest column) and ‖U_r‖ of a small gate.
GATE_W, GATE_U = 0.3, 0.002
CANDIDATE = {"mgu": "h", "gru": "n", "lstm": "c"}


@dataclass(frozen=True, eq=False)
class Contender:
    """One network to train.

    Attributes:
        name: for people, distinct within a regime.
        regime: `SMALL` or `FREE`.
        cell: of the family.
        fields: of its `Recipe`.
    """

    name: str
    regime: str
    cell: str
    fields: Mapping[str, Any]

    def recipe(self, effort: float, batch: int) -> Recipe:
        """Its recipe, at a share ``effort`` of its epochs."""
        from recert.training import Recipe

        fields = dict(self.fields)
        fields["epochs"] = max(1, round(effort * fields["epochs"]))
        return Recipe(cell=self.cell, batch=batch, **fields)


def recurrent(cell: str) -> str:
    """The role of the block U whose norm stands in β."""
    return f"U_{CANDIDATE[cell]}" if cell in CANDIDATE else "U"


def is_gate(cell: str, role: str) -> bool:
    """Whether a block belongs to one of the cell's sigmoid gates."""
    return role[2:] in CELLS[cell].sigmoids and role[1:2] == "_"


def small_caps(cell: str) -> dict[str, float]:
    """Caps inside which a gated cell's gates stay near one half, ‖U‖ ≤ 1.2 of its candidate."""
    candidate = CANDIDATE[cell]
    caps = {f"U_{candidate}": RECURRENT, f"W_{candidate}": 3.0, "V": 1.0}
    for gate in CELLS[cell].sigmoids:
        caps |= {f"U_{gate}": GATE_U, f"W_{gate}": GATE_W}
    return caps


_MARGIN = {
    "loss": "margin", "softness": (2.0, 0.2), "convex_part": 0.6,
    "learning_rate": 0.1, "epochs": 12,
}  # fmt: skip
_ENTROPY = {"learning_rate": 0.03, "epochs": 10}


def _small(name: str, cell: str, d_h: int, margin: float, **more: Any) -> Contender:
    fields = {**_MARGIN, "d_h": d_h, "margin": margin, **more}
    if "caps" not in more:
        fields["caps"] = small_caps(cell)
    return Contender(name, SMALL, cell, fields)


def _vanilla(cap: float) -> Contender:
    caps = {"U": cap, "W": 3.0, "V": 1.0}
    return _small(f"vanilla, ‖U‖ ≤ {cap:g}", "vanilla", 6, 0.04, caps=caps)


CONTENDERS: tuple[Contender, ...] = (
    _vanilla(0.8),
    _vanilla(RECURRENT),
    _small("MGU", "mgu", 8, 0.02, epochs=18),
    _small("GRU", "gru", 8, 0.02, epochs=18),
    _small("LSTM", "lstm", 8, 0.02, epochs=18),
    _small(
        "conv",
        "conv",
        20,
        0.04,
        epochs=18,
        channels=4,
        width=5,
        caps={"E": 6.0, "U": 1.0, "W": 1.0, "V": 1.0},
    ),
    Contender("vanilla", FREE, "vanilla", {**_ENTROPY, "d_h": 10}),
    Contender("MGU", FREE, "mgu", {**_ENTROPY, "d_h": 6}),
    Contender("GRU", FREE, "gru", {**_ENTROPY, "d_h": 5}),
    Contender("LSTM", FREE, "lstm", {**_ENTROPY, "d_h": 5}),
    Contender("conv", FREE, "conv", {**_ENTROPY, "d_h": 20, "channels": 4, "width": 5}),
)


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
