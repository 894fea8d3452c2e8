"""Arithmetic as it is by default, whatever a program that calls this package has set for itself.

Numbers as text: what bounds from above is rounded up, what bounds from below is rounded down.

Every bound that is printed or drawn goes through here, so that no page promises more than was
proved; ``tests/test_printing.py`` holds that. What was measured is written to nearest, elsewhere.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Any)


def usual(function: F) -> F:
    """The function under numpy's own float modes: a caller's ``np.seterr`` does not reach it."""
    modes: Any = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
    found: F = modes(function)
    return found


def decimals(digits: int) -> Context:
    """A context for `decimal.localcontext` of so many digits, without a caller's traps."""
    return Context(prec=digits, Emin=-999999, Emax=999999, traps=[])


__all__ = [
    "bound_text",
    "confidence",
    "percent_down",
    "percent_up",
    "rounded_down",
    "rounded_up",
    "significant_down",
    "significant_up",
    "written_up",
]

Number = float | Decimal | Fraction
# As many digits as the largest and the smallest float have together.
EXACT = 1200
LARGE = 3.0  # log10 from which a bound is shown as a power of ten
HUGE = 1e5  # log10 from which that power has three digits


def rounded_up(value: Number, digits: int) -> str:
    """A number with so many decimals, never smaller than it is; ``"∞"`` and ``"NaN"`` as such."""
    return _decimals(value, digits, ROUND_CEILING, 0)


def rounded_down(value: Number, digits: int) -> str:
    """A number with so many decimals, never larger than it is."""
    return _decimals(value, digits, ROUND_FLOOR, 0)


def percent_up(value: Number, digits: int) -> str:
    """A share as a percentage with so many decimals, never smaller than it is."""
    return _decimals(value, digits, ROUND_CEILING, 2) + "%"


def percent_down(value: Number, digits: int) -> str:
    """A share as a percentage with so many decimals, never larger than it is."""
    return _decimals(value, digits, ROUND_FLOOR, 2) + "%"


def significant_up(value: Number, digits: int) -> str:
    """A number with so many significant digits, never smaller than it is; 1.3e+07 where long."""
    return _significant(value, digits, ROUND_CEILING)


def significant_down(value: Number, digits: int) -> str:
    """A number with so many significant digits, never larger than it is."""
    return _significant(value, digits, ROUND_FLOOR)


def written_up(value: float, digits: int) -> str:
    """A number that somebody wrote, such as δ: as it is written, or rounded up if that is long."""
    return _significant(Decimal(repr(float(value))), digits, ROUND_CEILING)


def confidence(delta: float) -> str:
    """100·(1 − δ) rounded down, with as many digits as it takes to stay below 100."""
    with localcontext(decimals(400)):
        given = Decimal(repr(float(delta)))
        exact = 100 * (1 - given)
        for digits in range(340):
            found = exact.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_FLOOR)
            if 100 - found <= Decimal("1.01") * 100 * given:
                break
        return f"{found:f}"


def bound_text(value: float, log10: float | None) -> str:
    """A bound for people, rounded up: 0.3714, or 10^7.3 where large; "—" where there is none."""
    if log10 is None:
        return "—"
    if log10 < LARGE:
        return rounded_up(value, 4 if value < 10 else 1)
    return f"10^{rounded_up(log10, 1) if log10 < HUGE else significant_up(log10, 3)}"


def _decimals(value: Number, digits: int, rounding: str, power: int) -> str:
    """The number times a power of ten, with so many decimals."""
    special = _special(value)
    if special:
        return special
    with localcontext(decimals(EXACT)):
        exact = _exact(value, rounding).scaleb(power)
        found = exact.quantize(Decimal(1).scaleb(-digits), rounding=rounding)
        return f"{found if found else abs(found):f}"


def _significant(value: Number, digits: int, rounding: str) -> str:
    special = _special(value)
    if special:
        return special
    with localcontext(decimals(EXACT)) as context:
        exact = _exact(value, rounding)
        context.prec, context.rounding = digits, rounding
        found = +exact
        if not found:
            return "0"
        place = found.adjusted()
        plain = found.normalize()
        if -5 <= place < max(digits, 5):
            return f"{plain:f}"
        return f"{plain.scaleb(-place):f}e{place:+03d}"


def _exact(value: Number, rounding: str) -> Decimal:
    if not isinstance(value, Fraction):
        return Decimal(value if isinstance(value, (int, Decimal)) else float(value))
    with localcontext(decimals(EXACT)) as context:
        context.rounding = rounding
        return Decimal(value.numerator) / Decimal(value.denominator)


def _special(value: Number) -> str:
    """What is no number, in words; empty for a number."""
    if isinstance(value, Fraction) or math.isfinite(value):
        return ""
    if math.isnan(value):
        return "NaN"
    return "∞" if value > 0 else "−∞"
