"""Values of the reading on enclosures: what was computed, how far off it may be, whence it came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.algebra.ellipsoids import FADED, LARGER, ROUND, UNDERFLOW, Frame
from recert.blocks import Block

Array = NDArray[np.float64]


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
    """A value of the walk: computed array (n, dim), enclosure of its deviation, and origin."""

    index: int
    c: Array
    J: Array | None
    a: Array
    frame: Frame | None
    parents: tuple[tuple[Node, Callable[[Array], Array], Any], ...] = ()
    residual: Array | None = None
    quadratic: tuple[Quadratic, ...] = ()
    move: Move | None = None
    _entries: Array | None = field(default=None, repr=False)

    @property
    def entries(self) -> Array:
        """Bounds on |deviation|, entrywise (n, dim)."""
        if self._entries is None:
            e = self.a
            if self.J is not None and self.frame is not None:
                e = e + np.sqrt(self._spread())
            self._entries = e * LARGER
        return self._entries

    def _spread(self) -> Array:
        """Diagonal of J P Jᵀ with its rounding."""
        assert self.J is not None and self.frame is not None
        moved = self.J @ self.frame.P
        squares = np.einsum("nij,nij->ni", moved, np.broadcast_to(self.J, moved.shape))
        error = (np.square(self.J).sum(axis=2) + UNDERFLOW**2) * (
            ROUND * np.square(self.frame.size)
        )[:, None]
        return np.maximum(squares, 0.0) + error + UNDERFLOW**2

    @property
    def size(self) -> Array:
        """(n,) a bound on ‖deviation‖_2: √λ_max(J P Jᵀ) is at most the root of its length."""
        rest = self.a.max(axis=1)
        if self.J is None or self.frame is None:
            return rest * LARGER
        spread = self.J @ self.frame.P @ np.swapaxes(self.J, 1, 2)
        length = np.sqrt(np.square(spread).sum(axis=(1, 2))) + self._error() + FADED
        size: Array = (np.sqrt(length) + rest) * LARGER
        return size

    def weighted(self, w: Array) -> Array:
        """(n,) a bound on √Σ w_i·deviation_i², for weights w ≥ 0 of shape (n, dim).

        Over the ellipsoid of s that sum has the largest value λ_max(P½ Jᵀ diag(w) J P½), at most
        the root of tr((P Jᵀ diag(w) J)²); over the rest, max_i w_i a_i².
        """
        rest = np.sqrt((w * np.square(self.a)).max(axis=1))
        if self.J is None or self.frame is None:
            return rest * LARGER
        product = self.frame.P @ (np.swapaxes(self.J * w[:, :, None], 1, 2) @ self.J)
        square = np.einsum("nij,nji->n", product, product)
        length = np.sqrt(np.maximum(square, 0.0)) + FADED
        length = length + (w.max(axis=1) + UNDERFLOW) * self._error()
        bound: Array = (np.sqrt(length) + rest) * LARGER
        return bound

    def _error(self) -> Array:
        """(n,) what the arithmetic above may lose, for weights of at most 1."""
        assert self.J is not None and self.frame is not None
        squares = np.square(self.J).sum(axis=(1, 2)) + UNDERFLOW**2
        error: Array = ROUND * squares * np.square(self.frame.size)
        return error

    @property
    def rough(self) -> Array:
        """(n,) a cheaper and larger bound on ‖deviation‖_2."""
        rest = self.a.max(axis=1)
        if self.J is None or self.frame is None:
            return rest * LARGER
        length = np.sqrt(np.square(self.J).sum(axis=(1, 2))) + UNDERFLOW
        size: Array = (length * self.frame.size + rest) * LARGER
        return size
