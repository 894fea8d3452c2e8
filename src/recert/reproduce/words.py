"""Verdicts and ranges in the words that all studies use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from recert.numerals import rounded_down, rounded_up, significant_down, significant_up

LONG = 1e5  # from which numbers have two digits


def verdict(held: Iterable[bool]) -> str:
    """``held`` where all do, ``held in part`` where some do; of nothing nothing is held."""
    found = list(held)
    if not any(found):
        return "not held"
    return "held" if all(found) else "held in part"


def ranged(values: Iterable[float | None], form: str = ".3f", *, none: str = "none") -> str:
    """The least to the largest measured value, or one of them where they agree in print.

    Args:
        values: None where there is none.
        form: of numbers below 10^5, as `format` takes it; others have two digits.
        none: what to say where there is no value at all.
    """
    return _span(values, lambda value: _number(value, form), none)


def limits(values: Iterable[float | None], digits: int = 3, *, none: str = "none") -> str:
    """The least to the largest of bounds from above, none of them printed too small."""
    return _span(values, lambda value: _outwards(value, digits, rounded_up, significant_up), none)


def at_least(values: Iterable[float | None], digits: int = 3, *, none: str = "none") -> str:
    """The least to the largest of bounds from below, none of them printed too large."""
    return _span(
        values, lambda value: _outwards(value, digits, rounded_down, significant_down), none
    )


def limit_plus_minus(values: Sequence[float], digits: int = 3) -> str:
    """Mean of bounds ± half their range, neither printed too small."""
    mean, half = sum(values) / len(values), (max(values) - min(values)) / 2
    return f"{rounded_up(mean, digits)} ± {rounded_up(half, digits)}"


def _span(values: Iterable[float | None], text: Callable[[float], str], none: str) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return none
    low, high = text(min(found)), text(max(found))
    return low if low == high else f"{low} to {high}"


def _number(value: float, form: str) -> str:
    return format(value, form) if abs(value) < LONG else f"{value:.1e}"


def _outwards(
    value: float,
    digits: int,
    short: Callable[[float, int], str],
    long: Callable[[float, int], str],
) -> str:
    return short(value, digits) if abs(value) < LONG else long(value, 2)
