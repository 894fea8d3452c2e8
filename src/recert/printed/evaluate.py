"""The paper's formulas as printed, evaluated on a network (kind "order": never certificates).

Every formula is stated for one cell. Those of vanilla cells are always listed; Theorems 4 to 6 are
listed for networks with other cells. A formula that does not speak of a network is listed with the
reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recert import printed
from recert.certificates.certificate import Bound
from recert.networks.layers import Layer
from recert.networks.margins import MarginTable
from recert.networks.network import Network
from recert.networks.norm_class import HELD
from recert.numerics import norms
from recert.numerics.logspace import LN10
from recert.sensitivities.gate_ranges import Gates, beyond_paper, printed_range


@dataclass(frozen=True)
class PrintedFormula:
    """A printed formula on the menu.

    Args:
        name: as certificates list it.
        title: for people.
        formula: of `recert.printed`.
        letters: the arguments that it takes.
        hard: whether it stands beside the hard-margin risk instead of the ramp risk.
        cell: the cell for which the paper states it.
        measured: whether its gates' ranges are those measured on data.
    """

    name: str
    title: str
    formula: Callable[..., printed.Printed]
    letters: tuple[str, ...]
    hard: bool = False
    cell: str = "vanilla"
    measured: bool = False


_DIMS = ("t", "m", "gamma", "d_x", "d_h", "d_y")
ORDERS: tuple[PrintedFormula, ...] = (
    PrintedFormula(
        "printed_zhang",
        "Zhang et al. 2018, as printed",
        printed.zhang_2018,
        (*_DIMS, "B_U", "B_V", "B_W"),
        hard=True,
    ),
    PrintedFormula(
        "printed_theorem_3_two_one",
        "Theorem 3 (3), as printed",
        printed.theorem_3_two_one,
        (*_DIMS, "B_x", "B_U", "B_V", "B_W", "M_U", "M_V", "M_W", "delta"),
    ),
    PrintedFormula(
        "printed_theorem_3_frobenius",
        "Theorem 3 (4), as printed",
        printed.theorem_3_frobenius,
        (*_DIMS, "B_x", "B_U", "B_W", "U_F", "V_F", "W_F", "delta"),
    ),
    PrintedFormula(
        "printed_theorem_1",
        "Theorem 1, as printed",
        printed.theorem_1,
        (*_DIMS, "B_U", "B_V", "B_W", "delta"),
        hard=True,
    ),
    PrintedFormula(
        "printed_theorem_2",
        "Theorem 2, as printed",
        printed.theorem_2,
        (*_DIMS, "B_x", "B_U", "B_V", "B_W", "delta"),
    ),
)

_MGU = (*_DIMS, "B_x", "B_V", "B_Wh", "B_Uh", "B_Ur", "r_max", "one_minus_r_max", "delta")
_LSTM = (
    *(*_DIMS, "B_x", "B_V", "B_Wc", "B_Uc", "B_Ug", "B_Ur", "B_Uo"),
    *("g_max", "r_max", "o_max", "delta"),
)
# For networks with cells other than vanilla. Gates' ranges are class-wide unless measured.
VARIANTS: tuple[PrintedFormula, ...] = (
    PrintedFormula(
        "printed_theorem_4",
        "Theorem 4 (MGU), as printed",
        printed.theorem_4,
        _MGU,
        cell="mgu",
    ),
    PrintedFormula(
        "printed_theorem_4_measured",
        "Theorem 4 (MGU), as printed, gates measured",
        printed.theorem_4,
        _MGU,
        cell="mgu",
        measured=True,
    ),
    PrintedFormula(
        "printed_theorem_5",
        "Theorem 5 (LSTM), as printed",
        printed.theorem_5,
        _LSTM,
        cell="lstm",
    ),
    PrintedFormula(
        "printed_theorem_5_measured",
        "Theorem 5 (LSTM), as printed, gates measured",
        printed.theorem_5,
        _LSTM,
        cell="lstm",
        measured=True,
    ),
    PrintedFormula(
        "printed_theorem_6",
        "Theorem 6 (Conv RNN), as printed",
        printed.theorem_6,
        ("t", "m", "gamma", "d", "k", "B_x", "delta"),
        cell="conv_averaged",
    ),
)
_STATED = {
    "vanilla": "the paper states it for one vanilla layer",
    "mgu": "the paper states it for one MGU layer",
    "lstm": "the paper states it for one LSTM layer",
    "conv_averaged": "the paper states it for one convolutional layer whose channels are averaged",
}
# How far filters may be from Assumption 8 and still satisfy it to rounding.
ORTHOGONAL = 1e-12


def letters(network: Network, input_bound: float) -> dict[str, float]:
    """The paper's letters of a one-layer vanilla network, spectral norms as measured."""
    values = _dimensions(network, input_bound)
    for name in ("U", "V", "W"):
        found = network.block(name).matrix_norms()
        values |= {
            f"B_{name}": found.spectral,
            f"M_{name}": found.two_one,
            f"{name}_F": found.frobenius,
        }
    return values


def gated_letters(network: Network, input_bound: float) -> dict[str, float]:
    """The letters of a one-layer MGU or LSTM network: spectral norms, and the paper's gate range.

    ``r_max`` and ``one_minus_r_max`` are 1/(1 + exp(−B_Wr B_x − ‖U_r‖_row)), and so for every gate.
    """
    layer = _only(network)
    values = _dimensions(network, input_bound)
    values["B_V"] = network.head.V.matrix_norm("spectral")
    for role, block in layer.blocks.items():
        values[f"B_{role.replace('_', '')}"] = block.matrix_norm("spectral")
    for gate in layer.spec.sigmoids:
        s = printed_range(layer, gate, input_bound)
        values |= {f"{gate}_max": s, f"one_minus_{gate}_max": s}
    return values


def conv_letters(network: Network, input_bound: float) -> dict[str, float]:
    """The letters of the paper's convolutional network: d positions, k channels."""
    layer = _only(network)
    return {"d": layer.positions, "k": int(layer.blocks["U"].shape[0]), "B_x": input_bound}


_LETTERS: dict[str, Callable[[Network, float], dict[str, float]]] = {
    "vanilla": letters,
    "mgu": gated_letters,
    "lstm": gated_letters,
    "conv_averaged": conv_letters,
}


def out_of_scope(network: Network, cell: str = "vanilla") -> str:
    """Why the formulas that the paper states for a cell do not describe this network, or ""."""
    if any(layer.cell != cell for layer in network.directions()) or len(network.layers) > 1:
        return _STATED[cell]
    reason = beyond_paper(network)
    if reason:
        return reason
    layer = _only(network)
    if layer.activation != "tanh":
        return "the activation is not bounded, as Assumption 3 of the paper asks"
    if cell == "conv_averaged":
        return _beyond_assumption_8(network, layer)
    return "" if network.head.pool is None else "the paper pools the output of Conv RNNs alone"


def orthogonality(bank: norms.Matrix) -> float:
    """How far k filters (k, 1, k) are from Assumption 8: ‖𝒰ᵀ𝒰 − I/k‖, which is ‖𝒰𝒰ᵀ − I/k‖."""
    filters = bank[:, 0, :]
    k = len(filters)
    return norms.spectral_norm_bound(filters @ filters.T - np.eye(k) / k)


def _beyond_assumption_8(network: Network, layer: Layer) -> str:
    """Why a network of the convolutional cell is not the paper's; empty if it is."""
    if network.head.pool is None or network.head.V.norm != "operator":
        return "the paper's Conv RNN has a pooled filter bank as its head"
    banks = {"U": layer.blocks["U"], "V": network.head.V, "W": layer.blocks["W"]}
    k = int(layer.blocks["U"].shape[0])
    for name, block in banks.items():
        if block.shape != (k, 1, k):
            shape = "x".join(str(n) for n in block.shape)
            return f"the paper has k filters of width k on one channel, {name} has shape {shape}"
    found = {name: orthogonality(block.value) for name, block in banks.items()}
    if max(found.values()) <= ORTHOGONAL:
        return ""
    measured = ", ".join(f"{value:.3g} for {name}" for name, value in found.items())
    return f"Assumption 8 wants orthogonal filters; ‖AᵀA − I/k‖ is {measured} with k = {k}"


def order_bounds(
    network: Network,
    table: MarginTable,
    *,
    steps: int,
    input_bound: float,
    gamma: float,
    delta: float,
    replaced: Mapping[str, float] | None = None,
    measured: Gates | None = None,
) -> list[Bound]:
    """Every printed bound at horizon ``steps`` and margin ``gamma``; letters may be replaced.

    Args:
        network: any; what the paper does not speak of is "not applicable".
        table: margins, for the empirical risk.
        steps: t.
        input_bound: B_x.
        gamma: γ.
        delta: δ.
        replaced: letter → value, such as ``{"B_U": 1.0}``.
        measured: ranges of gates that `recert.sensitivities.gate_ranges.measured_gates` found;
            Theorems 4 and 5 are then listed a second time, at the ranges up to step t.

    Source: Theorems 1 to 6 of "On Generalization Bounds of a Family of Recurrent Neural Networks".
    """
    menu = [*ORDERS]
    if any(layer.cell != "vanilla" for layer in network.directions()):
        menu += [order for order in VARIANTS if measured is not None or not order.measured]
    given: dict[str, Any] = {"t": steps, "m": table.m, "gamma": gamma, "delta": delta}
    cells = {order.cell for order in menu}
    reasons = {cell: out_of_scope(network, cell) for cell in cells}
    known = {
        cell: given | (_LETTERS[cell](network, input_bound) if not reasons[cell] else {})
        for cell in cells
    }
    found = []
    for order in menu:
        values = dict(known[order.cell])
        if order.measured and measured is not None and not reasons[order.cell]:
            values |= _measured_letters(measured, steps)
        if not reasons[order.cell]:
            values |= replaced or {}
        found.append(_evaluate(order, reasons[order.cell], values, table))
    return found


def _measured_letters(measured: Gates, steps: int) -> dict[str, float]:
    """The largest measured gates up to a step, in the letters of Theorems 4 and 5."""
    values: dict[str, float] = {}
    for found in measured.ranges:
        largest, complement = found.up_to(steps)
        values |= {f"{found.gate}_max": largest, f"one_minus_{found.gate}_max": complement}
    return values


def _evaluate(
    order: PrintedFormula, reason: str, given: dict[str, Any], table: MarginTable
) -> Bound:
    if not reason and "B_x" not in order.letters and given["B_x"] > HELD:
        reason = "the formula supposes inputs of norm at most 1"
    if reason:
        return _inapplicable(order, reason)
    found = order.formula(**{letter: given[letter] for letter in order.letters})
    if not found.applies or found.log10 is None:
        return _inapplicable(order, found.reason)
    gamma = given["gamma"]
    risk = float(table.hard_risk(gamma) if order.hard else table.ramp_risk(gamma))
    rest = risk + found.confidence
    log10 = max(found.log10, -1e300)
    if rest > 0:
        log10 = float(np.logaddexp(log10 * LN10, math.log(rest))) / LN10
    gates = ", and gates are read off the sample" if order.measured else ""
    return Bound(
        name=order.name,
        title=order.title,
        kind="order",
        log10=log10,
        reference=found.reference,
        terms={
            "empirical_risk": risk,
            "log10_complexity": max(found.log10, -1e300),
            "confidence": found.confidence,
        },
        choices={"gamma": gamma},
        reason=f"as printed: no constants, so not a bound{gates}",
    )


def _inapplicable(order: PrintedFormula, reason: str) -> Bound:
    return Bound(order.name, order.title, "not applicable", None, "as printed", reason=reason)


def _dimensions(network: Network, input_bound: float) -> dict[str, float]:
    return {"d_x": network.d_x, "d_h": network.d_h, "d_y": network.K, "B_x": input_bound}


def _only(network: Network) -> Layer:
    """The layer of a network that has one, in one direction."""
    (layer,) = network.directions()
    return layer
