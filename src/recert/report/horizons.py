"""Bounds as functions of the horizon t, for one case: what the pictures against time show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from recert.certification.certify import Case, reported_margin
from recert.networks.norm_class import Cap
from recert.printed.evaluate import order_bounds
from recert.theorems import THEOREMS

CERTIFIED = {"margin_ball": "margin ball, certified", "theorem_2_clipped": "Theorem 2, certified"}
PRINTED = {
    "printed_theorem_2": "Theorem 2, printed",
    "printed_theorem_3_two_one": "Theorem 3 (3), printed",
    "printed_theorem_3_frobenius": "Theorem 3 (4), printed",
    "printed_zhang": "Zhang et al., printed",
}


def with_recurrent_cap(case: Case, B_U: float) -> Case:
    """The same network seen as a member of the class ‖U‖ ≤ B_U."""
    caps = dict(case.setting.caps)
    caps["U"] = Cap(B_U, caps["U"].row, caps["U"].l1)
    return replace(case, setting=case.setting.at_horizon(case.setting.steps, caps=caps))


def curves(
    case: Case, longest: int, replaced: Mapping[str, float] | None = None
) -> dict[str, list[float]]:
    """Name of a bound → its log10 at horizons 1..``longest``; margins stay as they are.

    Args:
        case: network, class and margins.
        longest: the last horizon.
        replaced: letters of the printed formulas to replace, such as ``{"B_U": 1.0}``.
    """
    theorems = [theorem for theorem in THEOREMS if theorem.name in CERTIFIED]
    found: dict[str, list[float]] = {}
    gamma = reported_margin([t.bound(case.setting, case.delta) for t in theorems], case.setting)
    for t in range(1, longest + 1):
        setting = case.setting.at_horizon(t)
        bounds = [theorem.bound(setting, case.delta) for theorem in theorems]
        bounds += order_bounds(
            case.network,
            setting.table,
            steps=t,
            input_bound=setting.input_bound,
            gamma=gamma,
            delta=case.delta,
            replaced=replaced,
        )
        for bound in bounds:
            title = {**CERTIFIED, **PRINTED}.get(bound.name)
            if title is not None:
                found.setdefault(title, []).append(math.nan if bound.log10 is None else bound.log10)
    return found
