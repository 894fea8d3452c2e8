"""The menu: statements by their names, each evaluated at its share of δ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from recert.certificates.certificate import SOUND, Assumption, Bound
from recert.errors import InputError
from recert.numerics.union_bound import Cost, split_delta
from recert.theorems import THEOREMS, Theorem
from recert.theorems.setting import not_applicable, paying
from recert.utils import validation


def menu(bounds: str | Sequence[str]) -> list[Theorem]:
    """The statements of these names; InputError for a name that is not on the menu."""
    if isinstance(bounds, str) and bounds == "all":
        return list(THEOREMS)
    known = {theorem.name: theorem for theorem in THEOREMS}
    menu = f"use 'all' or names on the menu: {', '.join(known)}"
    wanted = [bounds] if isinstance(bounds, str) else validation.listed("bounds", bounds, menu)
    if not wanted:
        raise InputError(f"bounds are none; {menu}")
    for name in wanted:
        if not isinstance(name, str) or name not in known:
            raise InputError(f"there is no bound {validation.short(name)}; {menu}")
    return [known[name] for name in known if name in wanted]


def split_among(theorems: Iterable[Any], setting: Any, delta: float) -> dict[str, float]:
    """δ shared equally by the statements that apply.

    Whether a statement ``supports`` a setting follows from the architecture and from what was
    declared, never from what the sample holds. One that is skipped after looking (for its time,
    its memory, or for want of hope) keeps its share, so shares do not depend on the sample.
    """
    applicable = [theorem.name for theorem in theorems if not theorem.supports(setting)]
    return split_delta(delta, applicable) if applicable else {}


def evaluate(
    theorems: Iterable[Any], setting: Any, shares: Mapping[str, float], costs: Sequence[Cost]
) -> list[Bound]:
    """Every statement that applies, at its share of δ and paying; the others with reasons."""
    found = []
    for theorem in theorems:
        reason = theorem.supports(setting)
        found.append(
            not_applicable(theorem, reason)
            if reason
            else paying(theorem, setting, shares[theorem.name], costs)
        )
    return found


def graded(found: Iterable[Bound], rows: Sequence[Assumption]) -> list[Bound]:
    """Bounds are certificates only if every hypothesis that they need is sound."""
    status = {row.id: row.status for row in rows}
    return [
        bound
        if bound.kind == "not applicable"
        else replace(
            bound,
            kind="certificate"
            if all(status[need] in SOUND for need in bound.needs)
            else "estimate",
        )
        for bound in found
    ]
