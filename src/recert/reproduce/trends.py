"""How a norm grows with the steps of training, and whether two rankings agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from recert.errors import InputError
from recert.numerals import significant_up

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


def limit_and_spread(values: Sequence[float]) -> str:
    """The same of bounds from above: their mean is rounded up."""
    if not values:
        return "—"
    return f"{significant_up(float(np.mean(values)), 4)}{_spread(values)}"


def _spread(values: Sequence[float]) -> str:
    return f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
