"""The paper's formulas as printed, evaluated on a network (kind "order": never certificates)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recert import norms, printed
from recert.caps import HELD
from recert.certificate import Bound
from recert.logspace import LN10
from recert.margins import MarginTable
from recert.network import Network


@dataclass(frozen=True)
class Order:
    """A printed formula on the menu; ``letters`` are the arguments that it takes."""

    name: str
    title: str
    formula: Callable[..., printed.Printed]
    letters: tuple[str, ...]
    hard: bool = False


_DIMS = ("t", "m", "gamma", "d_x", "d_h", "d_y")
ORDERS: tuple[Order, ...] = (
    Order(
        "printed_zhang",
        "Zhang et al. 2018, as printed",
        printed.zhang_2018,
        (*_DIMS, "B_U", "B_V", "B_W"),
        hard=True,
    ),
    Order(
        "printed_theorem_3_two_one",
        "Theorem 3 (3), as printed",
        printed.theorem_3_two_one,
        (*_DIMS, "B_x", "B_U", "B_V", "B_W", "M_U", "M_V", "M_W", "delta"),
    ),
    Order(
        "printed_theorem_3_frobenius",
        "Theorem 3 (4), as printed",
        printed.theorem_3_frobenius,
        (*_DIMS, "B_x", "B_U", "B_W", "U_F", "V_F", "W_F", "delta"),
    ),
    Order(
        "printed_theorem_1",
        "Theorem 1, as printed",
        printed.theorem_1,
        (*_DIMS, "B_U", "B_V", "B_W", "delta"),
        hard=True,
    ),
    Order(
        "printed_theorem_2",
        "Theorem 2, as printed",
        printed.theorem_2,
        (*_DIMS, "B_x", "B_U", "B_V", "B_W", "delta"),
    ),
)


def letters(network: Network, input_bound: float) -> dict[str, float]:
    """The paper's letters of a one-layer vanilla network, spectral norms as measured."""
    values: dict[str, float] = {
        "d_x": network.d_x,
        "d_h": network.d_h,
        "d_y": network.K,
        "B_x": input_bound,
    }
    for name in ("U", "V", "W"):
        found = norms.norm_bounds(network.block(name).value, name=name)
        values |= {
            f"B_{name}": found.spectral,
            f"M_{name}": found.two_one,
            f"{name}_F": found.frobenius,
        }
    return values


def out_of_scope(network: Network) -> str:
    """Why the printed formulas do not describe this network; empty if they do."""
    if len(network.layers) > 1 or network.layers[0].cell != "vanilla":
        return "the paper states it for one vanilla layer"
    if network.embedding is not None:
        return "the paper's network has no embedding"
    if any(block.norm == "euclidean" for block in network.blocks()):
        return "the paper's network has no biases"
    if network.layers[0].activation != "tanh":
        return "the activation is not bounded, as Assumption 3 of the paper asks"
    return ""


def order_bounds(
    network: Network,
    table: MarginTable,
    *,
    steps: int,
    input_bound: float,
    gamma: float,
    delta: float,
    replaced: Mapping[str, float] | None = None,
) -> list[Bound]:
    """Every printed bound at horizon ``steps`` and margin ``gamma``; letters may be replaced."""
    reason = out_of_scope(network)
    given: dict[str, Any] = {"t": steps, "m": table.m, "gamma": gamma, "delta": delta}
    if not reason:
        given |= letters(network, input_bound) | dict(replaced or {})
    return [_evaluate(order, reason, given, table) for order in ORDERS]


def _evaluate(order: Order, reason: str, given: dict[str, Any], table: MarginTable) -> Bound:
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
        reason="as printed: no constants, so not a bound",
    )


def _inapplicable(order: Order, reason: str) -> Bound:
    return Bound(order.name, order.title, "not applicable", None, "as printed", reason=reason)
