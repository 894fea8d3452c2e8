"""Ellipsoids in which deviations lie: sums and products of them, enclosed with the least trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Relative error allowed for one operation on up to 4,000 terms, far above what float64 loses.
ROUND = 1e-12
# What underflow may lose in an entry.
UNDERFLOW = 1e-290
# Enclosures are enlarged by this factor for the roundings of their own arithmetic.
LARGER = 1.0 + 1e-9


@dataclass(frozen=True, eq=False)
class Frame:
    """Where a step starts: P (n, D, D), and the square root of its trace, (n,)."""

    P: Array
    size: Array

    @classmethod
    def of(cls, P: Array) -> Frame:
        """With the trace rounded up."""
        return cls(P, np.sqrt(np.maximum(np.einsum("nii->n", P), 0.0)) * LARGER)


def merged(u: Array, v: Array) -> Array:
    """Semi-axes of a diagonal ellipsoid around the sum of two: the one of least trace."""
    n, m = (np.sqrt(np.square(x).sum(axis=1, keepdims=True)) for x in (u, v))
    total = n + m
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(n != 0.0, u * np.sqrt(total / n), 0.0)
        second = np.where(m != 0.0, v * np.sqrt(total / m), 0.0)
    return np.sqrt(np.square(first) + np.square(second)) * LARGER


def box(b: Array) -> Array:
    """Semi-axes of a diagonal ellipsoid around {|x_i| ≤ b_i}."""
    return np.sqrt(b * b.sum(axis=1, keepdims=True)) * LARGER


def side_by_side(parts: Sequence[Array]) -> Array:
    """Semi-axes of one ellipsoid around the product of several: Σ ‖ξ_i‖²/w_i ≤ 1, Σ w_i = 1."""
    if len(parts) == 1:
        return parts[0]
    norms = [np.sqrt(np.square(a).sum(axis=1, keepdims=True)) for a in parts]
    total = sum(norms)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = [
            np.where(n != 0.0, a * np.sqrt(total / n), 0.0)
            for a, n in zip(parts, norms, strict=True)
        ]
    return np.concatenate(scaled, axis=1) * LARGER
