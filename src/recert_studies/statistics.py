"""How fast a positive quantity grows: exponents fitted to its logarithms by least squares.

How a norm grows with the steps of training, and whether two rankings agree.

Verdicts and ranges in the words that all studies use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
from scipy import stats

from recert.errors import InputError
from recert.numerics.rounding import rounded_down, rounded_up, significant_down, significant_up


@dataclass(frozen=True)
class Growth:
    """y ≈ c · x^power · e^(rate·x) over a range of x.

    Attributes:
        power: the exponent of x, the slope on log-log axes.
        rate: nats per unit of x, the slope on log-linear axes; 0 where it was not fitted.
        residual: largest deviation of ln y from the fit, in nats.
        start: smallest x.
        stop: largest x.
    """

    power: float
    rate: float
    residual: float
    start: float
    stop: float


def fit(x: Sequence[float], log_y: Sequence[float], *, exponential: bool = False) -> Growth:
    """The growth of y in x, from ln y at points x.

    Args:
        x: (n,) distinct positive points.
        log_y: (n,) natural logarithms of y.
        exponential: fit a rate as well; otherwise a power alone.

    Raises:
        InputError: fewer points than unknowns, or a value that is not finite.
    """
    points, values = np.asarray(x, dtype=float), np.asarray(log_y, dtype=float)
    unknowns = 3 if exponential else 2
    if points.shape != values.shape or len(set(points.tolist())) < unknowns:
        raise InputError(f"a fit needs {unknowns} distinct points, each with a value")
    if not (np.isfinite(points).all() and np.isfinite(values).all() and points.min() > 0):
        raise InputError("a fit needs positive points and finite logarithms")
    # The linear column is scaled to 1, or its square would drown the others.
    columns = [np.ones_like(points), np.log(points)]
    columns += [points / points.max()] if exponential else []
    design = np.stack(columns, axis=1)
    found = np.linalg.lstsq(design, values, rcond=None)[0]
    residual = float(np.abs(design @ found - values).max())
    rate = float(found[2] / points.max()) if exponential else 0.0
    return Growth(float(found[1]), rate, residual, float(points.min()), float(points.max()))


def spread(start: int, stop: int, count: int) -> list[int]:
    """At most ``count`` whole numbers from start to stop, evenly in their logarithms."""
    numbers = np.exp(np.linspace(math.log(start), math.log(stop), count))
    return sorted({round(float(n)) for n in numbers})


JUMP = 2.0
"""A factor between neighbouring looks that no smooth growth makes."""
FLAT = 0.05
"""Growth over a decade of steps, relative to the last value, that still counts as a plateau."""
CLEAR = 1.5
"""How much smaller a fit's residual must be for it to be preferred."""
TRENDS = ("plateau", "log", "log or power", "power", "jump")


@dataclass(frozen=True)
class Trend:
    """What a positive quantity does over a range of steps.

    Attributes:
        kind: one of `TRENDS`; "log or power" where neither fit is clearly the better one.
        slope: b of the fit a + b ln s, in units of the quantity.
        power: p of the fit c·s^p.
        log_residual: root mean square of the deviations from the former, over the last value.
        power_residual: likewise from the latter.
        start: first step of the range.
        stop: last one.
    """

    kind: str
    slope: float
    power: float
    log_residual: float
    power_residual: float
    start: float
    stop: float


def trend(steps: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a + b ln s and c·s^p by least squares, and say which it is.

    A jump is a factor of more than `JUMP`, up or down, from one step to the next; a plateau is a
    fitted growth per decade of at most `FLAT` of the last value. A fit is preferred where its
    residual is smaller by the factor `CLEAR`.

    Args:
        steps: (n,) increasing and positive, n ≥ 4, neighbours at most a factor 1.5 apart.
        values: (n,) positive.

    Raises:
        InputError: fewer points, or values that are not positive.
    """
    s, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if s.shape != y.shape or len(s) < 4 or not (np.diff(s) > 0).all() or s[0] <= 0:
        raise InputError("a trend needs at least 4 increasing steps, each with a value")
    if not (np.isfinite(y).all() and (y > 0).all()):
        raise InputError("a trend needs positive finite values")
    design = np.stack([np.ones_like(s), np.log(s)], axis=1)
    linear = np.linalg.lstsq(design, y, rcond=None)[0]
    powers = np.linalg.lstsq(design, np.log(y), rcond=None)[0]
    log_residual = _rms(design @ linear - y) / y[-1]
    power_residual = _rms(np.exp(design @ powers) - y) / y[-1]
    slope, power = float(linear[1]), float(powers[1])
    return Trend(
        _kind(y, slope, log_residual, power_residual),
        slope, power, log_residual, power_residual, float(s[0]), float(s[-1]),
    )  # fmt: skip


def _kind(y: np.ndarray, slope: float, log_residual: float, power_residual: float) -> str:
    if np.abs(np.diff(np.log(y))).max() > math.log(JUMP):
        return "jump"
    if abs(slope) * math.log(10.0) <= FLAT * y[-1]:
        return "plateau"
    if log_residual * CLEAR < power_residual:
        return "log"
    return "power" if power_residual * CLEAR < log_residual else "log or power"


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def kendall(x: Sequence[float], y: Sequence[float], *, tie: float = 1e-9) -> float | None:
    """Kendall's τ_b of two rankings, −1 to 1; None where one of them ties everything.

    Args:
        x: (n,) finite numbers.
        y: (n,) finite numbers.
        tie: sorted numbers that differ by less from the one before count as equal.

    Source: Kendall, "The treatment of ties in ranking problems", 1945.
    """
    if len(x) != len(y):
        raise InputError(f"rankings of {len(x)} and {len(y)} things do not compare")
    a, b = _levels(x, tie), _levels(y, tie)
    if not (a.any() and b.any()):
        return None
    return float(stats.kendalltau(a, b).statistic)


def _levels(x: Sequence[float], tie: float) -> np.ndarray:
    """The number of each value's level, from 0, where nearly equal ones share a level."""
    v = np.asarray(x, dtype=float)
    order = np.argsort(v)
    levels = np.zeros(len(v), dtype=int)
    levels[order[1:]] = np.cumsum(np.diff(v[order]) > tie)
    return levels


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds (n − 1), in four digits; "—" of nothing."""
    if not values:
        return "—"
    return f"{np.mean(values):.4g}{_spread(values)}"


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the range."""
    return sum(values) / len(values), (max(values) - min(values)) / 2.0


def means(columns: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean of every column that has values, and half its range as "± NAME"."""
    row: dict[str, float] = {}
    for name, values in columns.items():
        if values:
            row |= {name: mean(values), f"± {name}": (max(values) - min(values)) / 2}
    return row


def limit_and_spread(values: Sequence[float]) -> str:
    """The same of bounds from above: their mean is rounded up."""
    if not values:
        return "—"
    return f"{significant_up(float(np.mean(values)), 4)}{_spread(values)}"


def _spread(values: Sequence[float]) -> str:
    return f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""


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
    middle, half = mean_and_half(values)
    return f"{rounded_up(middle, digits)} ± {rounded_up(half, digits)}"


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
