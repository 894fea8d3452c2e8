"""What the printed formulas share: the value returned, the check of the letters, their logs."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, ParamSpec, TypeVar

from recert.errors import InputError
from recert.numerics.logspace import LN10, ln, log_geometric_sum, to_log10

PAPER = "On Generalization Bounds of a Family of Recurrent Neural Networks"

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Printed:
    """The value of one printed formula: an order or a quantity, never a certificate.

    Attributes:
        log10: base-10 logarithm of the complexity term (of the quantity itself for a lemma); −inf
            only where it is exactly zero (some norm is zero), None where the formula does not
            apply. Never NaN and never +inf.
        confidence: the printed δ term √(log(1/δ)/m); 0 where the paper has none.
        reference: theorem, lemma or equation, and the paper.
        applies: whether the printed formula means anything at these values.
        reason: why it does not apply; empty if it does.
        kind: always "order".

    """

    log10: float | None
    confidence: float
    reference: str
    applies: bool = True
    reason: str = ""
    kind: str = "order"

    @property
    def ln(self) -> float | None:
        """The natural logarithm of the same term."""
        return None if self.log10 is None else self.log10 * LN10


class LogFactor(NamedTuple):
    """A factor (log argument)^power of a printed formula; undefined unless the argument is > 1."""

    text: str
    ln_argument: float
    power: float


def paper(place: str) -> str:
    """The reference of a place in the paper."""
    return f"{place}, {PAPER}"


def order(
    reference: str,
    factors: Sequence[float],
    logs: Sequence[LogFactor] = (),
    confidence: float = 0.0,
) -> Printed:
    """A product of factors, given as natural logs, and of powers of printed logarithms."""
    for factor in logs:
        if not factor.ln_argument > 0.0:
            reason = f"the argument of the printed log({factor.text}) is at most 1"
            return Printed(None, confidence, reference, applies=False, reason=reason)
    total = math.fsum([*factors, *(f.power * math.log(f.ln_argument) for f in logs)])
    if total == math.inf:
        raise InputError("the value exceeds every float even as a logarithm: use smaller arguments")
    return Printed(to_log10(total), confidence, reference)


def root_inverse_delta(m: int, delta: float) -> float:
    """The printed δ term, √(log(1/δ)/m)."""
    return math.sqrt(-math.log(delta) / m)


def ln_margin_rate(m: int, gamma: float) -> float:
    """ln of 1/(√m γ)."""
    return -0.5 * ln_int(m) - ln(gamma)


def ln_int(n: int) -> float:
    """ln of a positive integer of any size."""
    return math.log(n)


def ln_d(d_x: int, d_h: int, d_y: int, gates: int = 1) -> float:
    """ln of d = √(gates·d_x d_h + gates·d_h² + d_h d_y), the root of the number of parameters."""
    return 0.5 * ln_int(gates * d_x * d_h + gates * d_h * d_h + d_h * d_y)


def exact(*factors: float) -> Fraction:
    """The product without rounding.

    S(β, t) at t = 10^6 feels the rounding of β = ρ_h B_U near 1 in the 12th digit, so β is formed
    exactly and only its logarithm is rounded.
    """
    return functools.reduce(operator.mul, (Fraction(f) for f in factors), Fraction(1))


def ln_exact(value: Fraction) -> float:
    """ln of a non-negative rational to full relative accuracy, −inf at 0."""
    if value == 0:
        return -math.inf
    if Fraction(1, 2) <= value <= 2:
        return math.log1p(float(value - 1))
    if Fraction(1, 10**300) < value < 10**300:
        return math.log(float(value))
    return math.log(value.numerator) - math.log(value.denominator)


def ln_S(beta: Fraction, t: int) -> float:
    """ln S(β, t), the geometric sum of `recert.numerics.logspace`, from an exact β."""
    return log_geometric_sum(ln_exact(beta), t)


def ln_c(B_x: float, B_U: float, B_V: float, B_W: float, rho_h: float, rho_y: float) -> float:
    """ln of c = ρ_y ρ_h B_V B_W B_x max{1, ρ_h B_U} (Lemma 3)."""
    return math.fsum(
        [ln(rho_y), ln(rho_h), ln(B_V), ln(B_W), ln(B_x), max(0.0, ln(rho_h) + ln(B_U))]
    )


def letters(function: Callable[P, R]) -> Callable[P, R]:
    """Check and convert the letters of a printed formula, by name, before it is evaluated."""
    parameters = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in kwargs.items():
            if name in parameters and not (value is None and parameters[name].default is None):
                kwargs[name] = _check(name, value)
        return function(*args, **kwargs)

    return checked


def _check(name: str, value: Any) -> Any:
    if name in _COUNTS:
        return _count(name, value)
    if name == "log_covering":
        if not callable(value):
            raise InputError(f"{name} must be a function of the scale: pass a callable")
        return value
    number = _number(name, value)
    if name == "delta" and not 0.0 < number < 1.0:
        raise InputError(f"{name} must lie strictly between 0 and 1, got {value!r}: pass e.g. 0.01")
    if name in _POSITIVE and number <= 0.0:
        raise InputError(f"{name} must be above 0, got {value!r}: pass a positive number")
    if number < 0.0:
        raise InputError(f"{name} must be at least 0, got {value!r}: pass a norm or a constant ≥ 0")
    return number


_COUNTS = frozenset({"t", "m", "d_x", "d_h", "d_y", "d", "k", "d_1", "d_2"})
_POSITIVE = frozenset({"gamma", "epsilon", "alpha", "r"})


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} must be a finite number, got {value!r}: pass a float") from None
    if isinstance(value, str) or not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {value!r}: pass a float")
    return number


def _count(name: str, value: Any) -> int:
    try:
        whole = int(value)
        if isinstance(value, (str, bool)) or whole != value:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} must be a whole number, got {value!r}: pass an int") from None
    if not 1 <= whole <= 10**100:
        raise InputError(
            f"{name} must be at least 1 (at most 1e100), got {value!r}: pass such an int"
        )
    return whole
