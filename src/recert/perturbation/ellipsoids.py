"""Ellipsoids in which deviations lie: sums and products of them, enclosed with the least trace.

Values of the reading on enclosures: what was computed, how far off it may be, whence it came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.networks.blocks import Block

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


@dataclass(frozen=True, eq=False)
class Move:
    """A use of a block: what it read, so that moves of the block can be priced.

    Attributes:
        block: the block.
        norms: (n,) ‖c‖ of what it read, or None for tokens and biases.
        sizes: (n,) bound on ‖deviation‖ of what it read, or None likewise.
        tokens: (n,) for a block that reads one-hot inputs, else None.
    """

    block: Block
    norms: Array | None = None
    sizes: Array | None = None
    tokens: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Quadratic:
    """A residual of at most k_i·|deviation of u|_i·|deviation of v|_i, entry by entry."""

    k: Array
    u: Node
    v: Node


@dataclass(eq=False)
class Node:
    """A value of the walk: computed array (n, dim), enclosure of its deviation, and origin.

    What follows from the enclosure is worked out once. A node that is ``settled`` has given up J
    and its frame, which are what takes memory, and has kept what the passes back ask for.
    """

    index: int
    c: Array
    J: Array | None
    a: Array
    frame: Frame | None
    parents: tuple[tuple[Node, Callable[[Array], Array], Any], ...] = ()
    residual: Array | None = None
    quadratic: tuple[Quadratic, ...] = ()
    move: Move | None = None
    _gone: bool = field(default=False, repr=False)

    def settled(self) -> None:
        """Give up J and the frame; no later value may be made of this one in its frame."""
        if self._framed() is not None:
            _ = self.rough
            self.J, self.frame, self._gone = None, None, True
        self.__dict__.pop("spread", None)

    def _framed(self) -> tuple[Array, Frame] | None:
        """J and its frame; None where there is none.

        Raises:
            RuntimeError: they were given up, so what is asked for cannot be told any more.
        """
        if self._gone:
            raise RuntimeError("a settled node is asked for what it did not keep")
        return None if self.J is None or self.frame is None else (self.J, self.frame)

    @cached_property
    def spread(self) -> Array | None:
        """(n, dim, dim) J P Jᵀ as computed, wrong by at most ``_error``; None outside frames."""
        framed = self._framed()
        if framed is None:
            return None
        J, frame = framed
        found: Array = J @ frame.P @ np.swapaxes(J, 1, 2)
        return found

    @cached_property
    def entries(self) -> Array:
        """Bounds on |deviation|, entrywise (n, dim)."""
        e, framed = self.a, self._framed()
        if framed is not None:
            assert self.spread is not None
            J, frame = framed
            squares = np.square(J).sum(axis=2) + UNDERFLOW**2
            error = squares * (ROUND * np.square(frame.size))[:, None]
            diagonal = np.maximum(np.einsum("nii->ni", self.spread), 0.0)
            e = e + np.sqrt(diagonal + error + UNDERFLOW**2)
        return e * LARGER

    @cached_property
    def size(self) -> Array:
        """(n,) a bound on ‖deviation‖_2: √λ_max(J P Jᵀ) is at most the root of its length."""
        rest = self.a.max(axis=1)
        if self.spread is None:
            return rest * LARGER
        length = np.sqrt(np.square(self.spread).sum(axis=(1, 2))) + self._error + FADED
        size: Array = (np.sqrt(length) + rest) * LARGER
        return size

    @cached_property
    def _squares(self) -> Array | None:
        """(n, dim, dim) squares of the entries of J P Jᵀ."""
        return None if self.spread is None else np.square(self.spread)

    def weighted(self, w: Array) -> Array:
        """(…, n) a bound on √Σ w_i·deviation_i², for weights w ≥ 0 of shape (…, n, dim).

        Over the ellipsoid of s that sum has the largest value λ_max(P½ Jᵀ diag(w) J P½), at most
        the root of tr((P Jᵀ diag(w) J)²) = Σ_ij w_i w_j (J P Jᵀ)_ij²; over the rest,
        max_i w_i a_i².
        """
        rest = np.sqrt((w * np.square(self.a)).max(axis=-1))
        if self._squares is None:
            return rest * LARGER
        # Weights of one sequence side by side: one product of matrices a sequence.
        side = w[:, None] if w.ndim == 2 else np.swapaxes(w, 0, 1)
        total = (side @ self._squares * side).sum(axis=-1)
        length = np.sqrt(np.maximum(total[:, 0] if w.ndim == 2 else total.T, 0.0)) + FADED
        length = length + (w.max(axis=-1) + UNDERFLOW) * (self._error + FADED)
        bound: Array = (np.sqrt(length) + rest) * LARGER
        return bound

    @cached_property
    def _error(self) -> Array:
        """(n,) what the arithmetic above may lose, for weights of at most 1."""
        framed = self._framed()
        assert framed is not None
        J, frame = framed
        squares = np.square(J).sum(axis=(1, 2)) + UNDERFLOW**2
        error: Array = ROUND * squares * np.square(frame.size)
        return error

    @cached_property
    def rough(self) -> Array:
        """(n,) a cheaper and larger bound on ‖deviation‖_2."""
        rest, framed = self.a.max(axis=1), self._framed()
        if framed is None:
            return rest * LARGER
        J, frame = framed
        length = np.sqrt(np.square(J).sum(axis=(1, 2))) + UNDERFLOW
        size: Array = (length * frame.size + rest) * LARGER
        return size
