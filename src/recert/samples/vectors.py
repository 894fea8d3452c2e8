"""Norms of input vectors, in float64 whatever the vectors come in, and scaling into a ball."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def largest_norm(x: NDArray[Any], known: float) -> float:
    """The largest Euclidean norm of the rows (n, d), rounded up, where it may exceed ``known``.

    Rows are first ranked in float32, or in float64 if they are so; only those near the top are done
    in float64. What squares lose below the smallest normal number is less than a rounding each
    where the top is not ``small``.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if x.dtype.itemsize < 4:  # squares of half floats are subnormal from 0.008 on
            x = x.astype(np.float32)
        rough = np.sqrt(np.einsum("nd,nd->n", x, x))
        top, type_ = float(rough.max()), np.finfo(x.dtype)
        margin = 1.0 - 4 * (x.shape[1] + 4) * float(type_.eps)
        small = 2.0 * math.sqrt(float(type_.tiny) / float(type_.eps))
        if small < top < known * margin:
            return known
        usable = small < top < math.inf and margin > 0
        near = np.asarray(x[rough >= top * margin] if usable else x, dtype=np.float64)
        largest = float(np.abs(near).max())
        if largest == 0.0 or not math.isfinite(largest):
            return largest
        exact = largest * float(np.sqrt(np.square(near / largest).sum(axis=1).max()))
    return exact * (1.0 + (x.shape[1] + 6) * 2.0**-52)


def scale_into_ball(x: NDArray[Any], radius: float) -> NDArray[np.float64]:
    """Vectors along the last axis in float64, scaled to norm at most ``radius``."""
    wide = x.astype(np.float64)
    norms = np.sqrt(np.square(wide).sum(axis=-1, keepdims=True))
    if not np.isfinite(norms).all():
        return wide
    factor = np.minimum(1.0, radius * (1.0 - 1e-12) / np.maximum(norms, 1e-300))
    return wide * factor
