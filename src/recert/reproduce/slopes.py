"""How fast a positive quantity grows: exponents fitted to its logarithms by least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recert.errors import InputError


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
