"""Verdicts and ranges in the words that all studies use."""

from __future__ import annotations

from collections.abc import Iterable


def verdict(held: Iterable[bool]) -> str:
    """``held`` where all do, ``held in part`` where some do; of nothing nothing is held."""
    found = list(held)
    if not any(found):
        return "not held"
    return "held" if all(found) else "held in part"


def ranged(values: Iterable[float | None], form: str = ".3f", *, none: str = "none") -> str:
    """The least to the largest value, or one of them where they agree in print.

    Args:
        values: None where there is none.
        form: of numbers below 10^5, as `format` takes it; others have two digits.
        none: what to say where there is no value at all.
    """
    found = [value for value in values if value is not None]
    if not found:
        return none
    low, high = (_number(value, form) for value in (min(found), max(found)))
    return low if low == high else f"{low} to {high}"


def _number(value: float, form: str) -> str:
    return format(value, form) if abs(value) < 1e5 else f"{value:.1e}"
