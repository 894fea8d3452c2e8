"""Ellipsoids in which deviations lie: sums and products of them, enclosed with the least trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Relative error allowed for one operation on up to 4,000 terms, far above what float64 loses.
ROUND, MOST_TERMS = 1e-12, 4_000
# What an entry or a norm may lose where squares underflow; semi-axes are at least this.
UNDERFLOW = 1e-140
# What the length of a matrix of squares may lose, where their squares underflow.
FADED = 1e-150
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
    squares = [np.square(np.maximum(x, UNDERFLOW)) for x in (u, v)]
    n, m = (np.sqrt(x.sum(axis=1, keepdims=True)) for x in squares)
    total = n + m
    merged: Array = np.sqrt(squares[0] * (total / n) + squares[1] * (total / m)) * LARGER
    return merged


def box(b: Array, total: Array | None = None) -> Array:
    """Semi-axes of a diagonal ellipsoid around {|x_i| ≤ b_i, Σ|x_i| ≤ total}, (n, dim), (n,)."""
    b = np.maximum(b, UNDERFLOW)
    most = b.sum(axis=1, keepdims=True)
    if total is not None:
        most = np.minimum(most, total[:, None] + UNDERFLOW)
    return np.sqrt(b * most) * LARGER


def side_by_side(parts: Sequence[Array]) -> Array:
    """Semi-axes of one ellipsoid around the product of several: Σ ‖ξ_i‖²/w_i ≤ 1, Σ w_i = 1."""
    if len(parts) == 1:
        return parts[0]
    parts = [np.maximum(a, UNDERFLOW) for a in parts]
    norms = [np.sqrt(np.square(a).sum(axis=1, keepdims=True)) for a in parts]
    total = sum(norms)
    scaled = [a * np.sqrt(total / n) for a, n in zip(parts, norms, strict=True)]
    return np.concatenate(scaled, axis=1) * LARGER
