"""What ``recert reproduce gates`` measures on one trained network: ranges, rates, bounds, nats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recert.case import Case
from recert.certificate import Bound
from recert.gates import SIGMOIDS, Gates, classwide_gates, measured_gates, printed_gates
from recert.logspace import LN10
from recert.network import Network
from recert.orders import order_bounds
from recert.pipeline import evaluate_menu, menu, prepare, reported_margin
from recert.rates import rates
from recert.reproduce.gates_networks import Contender, is_gate, recurrent
from recert.reproduce.gates_theory import largest_recurrent_norm
from recert.sample import Reading, Sample

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
    for gate in SIGMOIDS.get(cell, ()):
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
    s = {gate: bounded.of(gate).up_to(bounded.steps)[0] for gate in SIGMOIDS.get(cell, ())}
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
