r"""What the ranges of its gates make of a cell: the rates β_t and θ_t of the paper's bounds.

The paper's bounds for gated cells grow like S(β_t, t) and S(θ_t, t), where β_t multiplies the state
from one step to the next and θ_t its change. With g, r, o, z a cell's gates, every norm of a gate
the entrywise one, all gates at step j, ℓ the slope of the sigmoid, and ‖h‖_∞ ≤ 1 throughout:

| cell | β_t = max over j ≤ t of | θ_t − β_t |
|---|---|---|
| vanilla, convolutional | B_U (B_U·‖P‖ with an average P) | 0 |
| MGU (Theorem 4) | ‖1−r‖ + B_Uh‖r‖² | ℓ(2 + B_Uh)B_Ur |
| LSTM (Theorem 5) | ‖g‖ + B_Uc‖r‖‖o‖ | ℓ(B_Ug + B_Ur + B_Uo) |
| GRU (not in the paper) | ‖z‖ + ‖1−z‖B_Un‖r‖ | ℓ(2B_Uz + κB_Ur) |

The paper takes ℓ = 1. *GRU*, in the paper's manner: ‖h_t‖ ≤ ‖z‖‖h_{t−1}‖ + ‖1−z‖‖n‖ and
‖n‖ ≤ ‖r‖B_Un‖h_{t−1}‖ + what does not depend on the state, which gives β. For the change,
‖h_t − h_t'‖ ≤ ‖z − z'‖(‖h'‖_∞ + ‖n'‖_∞) + ‖z‖‖h − h'‖ + ‖1−z‖‖n − n'‖, where
‖z − z'‖ ≤ ℓB_Uz‖h − h'‖ and ‖n − n'‖ ≤ (‖r‖B_Un + κℓB_Ur)‖h − h'‖. Here κ ≥ ‖U_n h + b_hn‖_∞ is
‖U_n‖_row + ‖b_hn‖; in the form that resets before the product it is B_Un.

*Repaired*: ℓ = 1/4, and for LSTMs θ_t = β_t + (ô Ĉ B_Ug + ô B_Ur + B_Uo)/4 with ô, r̂, ĝ the
largest ‖o_j‖, ‖r_j‖, ‖g_j‖ over j ≤ t, β_t = ĝ + B_Uc r̂ ô, and Ĉ = r̂ S(ĝ, t−1) ≥ ‖c_{t−1}‖_∞. For

    ‖c_t − c_t'‖ ≤ ĝ‖c_{t−1} − c_{t−1}'‖ + (Ĉ B_Ug/4 + B_Ur/4 + r̂ B_Uc)‖h_{t−1} − h_{t−1}'‖,
    ‖h_t − h_t'‖ ≤ ô‖c_t − c_t'‖ + (B_Uo/4)‖h_{t−1} − h_{t−1}'‖,

so F_t = max(‖c_t − c_t'‖, ‖h_t − h_t'‖/ô) obeys F_t ≤ θ_t F_{t−1} (errata 10 and 11).

A projected LSTM is one that reads o ⊙ tanh(c) through U·P, so B_P multiplies its B_U. Layers and
directions have rates of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.networks.layers import Layer
from recert.networks.network import Network
from recert.networks.norm_class import Cap, Caps
from recert.numerics.logspace import log_S
from recert.sensitivities.gate_ranges import (
    DIRECTIONS,
    Direction,
    GateRange,
    Gates,
    Source,
    class_caps,
)
from recert.utils.validation import Brief

Array = NDArray[np.float64]

# The sigmoid's Lipschitz constant; the paper has 1.
SLOPE = 0.25


@dataclass(frozen=True, eq=False, repr=False)
class Rates(Brief):
    """β_t and θ_t of one layer in one direction at t = 1..T, (T,) each; see the module's table."""

    layer: int
    direction: Direction
    cell: str
    source: Source
    repaired: bool
    beta: Array
    theta: Array


def rates(
    network: Network, gates: Gates, *, repaired: bool = False, caps: Caps | None = None
) -> tuple[Rates, ...]:
    """β_t and θ_t of every layer in every direction, from ranges of its gates.

    With ranges of a class they hold for the class; with measured ones they describe the network on
    those data.

    Args:
        network: whose gates they are.
        gates: ranges found in any way that `recert.sensitivities.gate_ranges` offers.
        repaired: the sigmoid's slope 1/4, and the LSTM's θ as derived above, instead of the
            paper's.
        caps: as for `recert.sensitivities.gate_ranges.classwide_gates`.

    Raises:
        InputError: a gate's range is missing, or a block has no cap.

    Source: Theorems 4 and 5 (Section 5); the GRU's are derived above in the same manner.
    """
    full = class_caps(network, caps)
    found = []
    for index, layers in enumerate(network.layers):
        for direction, layer in zip(DIRECTIONS, layers.directions, strict=False):
            if layer.cell not in RATES:
                continue
            ranges = {gate: gates.of(gate, index, direction) for gate in layer.spec.sigmoids}
            beta, theta = RATES[layer.cell](_Letters(layer, full), ranges, gates.steps, repaired)
            found.append(Rates(index, direction, layer.cell, gates.source, repaired, beta, theta))
    return tuple(found)


class _Letters:
    """Caps of a layer's blocks by role, in the paper's letters."""

    def __init__(self, layer: Layer, caps: dict[str, Cap]) -> None:
        self.layer = layer
        self._caps = caps

    def B(self, role: str) -> float:
        """The cap on a block that reads the state, times that on the projection if there is one."""
        cap = self._caps[self.layer.blocks[role].name].norm
        return cap * self.B("P") if role != "P" and "P" in self.layer.blocks else cap

    def kappa(self) -> float:
        """κ ≥ ‖U_n h + b_hn‖_∞ for ‖h‖_∞ ≤ 1 (in the original form, of the product's factor)."""
        if self.layer.cell == "gru_original":
            return self.B("U_n")
        row = self._caps[self.layer.blocks["U_n"].name].row
        reach = math.sqrt(self.layer.d_h) * self.B("U_n")
        bias = self.B("b_hn") if "b_hn" in self.layer.blocks else 0.0
        return (reach if row is None else min(row, reach)) + bias


Ranges = dict[str, GateRange]


def _vanilla(letters: _Letters, ranges: Ranges, steps: int, repaired: bool) -> tuple[Array, Array]:
    norm = 1.0
    if letters.layer.cell == "conv_averaged":
        norm = letters.layer.fixed("average").norm
    beta = np.full(steps, letters.B("U") * norm)
    return beta, beta


def _mgu(letters: _Letters, ranges: Ranges, steps: int, repaired: bool) -> tuple[Array, Array]:
    r, B = ranges["r"], letters.B
    beta = np.maximum.accumulate(r.complement + B("U_h") * r.largest**2)
    return beta, beta + _slope(repaired) * (2.0 + B("U_h")) * B("U_r")


def _gru(letters: _Letters, ranges: Ranges, steps: int, repaired: bool) -> tuple[Array, Array]:
    r, z, B = ranges["r"], ranges["z"], letters.B
    beta = np.maximum.accumulate(z.largest + z.complement * B("U_n") * r.largest)
    return beta, beta + _slope(repaired) * (2.0 * B("U_z") + letters.kappa() * B("U_r"))


def _lstm(letters: _Letters, ranges: Ranges, steps: int, repaired: bool) -> tuple[Array, Array]:
    g, r, o = (ranges[gate].largest for gate in "gro")
    B = letters.B
    if not repaired:
        beta = np.maximum.accumulate(g + B("U_c") * r * o)
        return beta, beta + B("U_g") + B("U_r") + B("U_o")
    # A step's candidate reads the state of the step before, so each gate takes its own maximum.
    g, r, o = (np.maximum.accumulate(v) for v in (g, r, o))
    beta = g + B("U_c") * r * o
    c = r * np.exp(np.minimum(log_S(g, np.arange(steps)), 700.0))
    return beta, beta + SLOPE * (o * c * B("U_g") + o * B("U_r") + B("U_o"))


RATES: dict[str, Callable[[_Letters, Ranges, int, bool], tuple[Array, Array]]] = {
    "vanilla": _vanilla,
    "conv": _vanilla,
    "conv_averaged": _vanilla,
    "mgu": _mgu,
    "gru": _gru,
    "gru_original": _gru,
    "lstm": _lstm,
}


def _slope(repaired: bool) -> float:
    return SLOPE if repaired else 1.0
