"""The reading on arrays: values are (batch, dim) float64 arrays, or (batch,) integer tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from recert.activations import ACTIVATIONS
from recert.blocks import Block
from recert.layers import FixedMap
from recert.network import Network

Array = NDArray[np.float64]


class NumbersAlgebra:
    """Evaluates a network's equations in float64.

    Every operation returns a fresh array except ``bias`` and ``concatenate`` of one value, and
    ``add`` reuses its first argument's memory: a cell's intermediate sums are read once.
    """

    def __init__(self, network: Network) -> None:
        self._transposed = {
            block.name: np.ascontiguousarray(block.matrix().T)
            for block in network.blocks()
            if block.value.ndim > 1
        }

    def linear(self, block: Block, v: NDArray[Any]) -> Array:
        """(batch, d2) → (batch, d1), or tokens (batch,) → the columns that they name."""
        matrix = self._transposed[block.name]
        if block.norm == "operator":
            return _convolved(block, matrix, v)
        return matrix.take(v, axis=0) if v.ndim == 1 else v @ matrix

    def bias(self, block: Block) -> Array:
        """(d1,), broadcast over the batch."""
        return block.value

    def fixed(self, fixed: FixedMap, v: Array) -> Array:
        """P v."""
        return v @ fixed.matrix.T

    def add(self, u: Array, v: Array) -> Array:
        """U + v, into u."""
        return np.add(u, v, out=u)

    def mul(self, u: Array, v: Array) -> Array:
        """U ⊙ v."""
        return u * v

    def activation(self, name: str, v: Array) -> Array:
        """σ(v)."""
        return ACTIVATIONS[name].function(v)

    def gate(self, r: Array, a: Array, b: Array) -> Array:
        """(1 − r) ⊙ a + r ⊙ b, as a + r ⊙ (b − a)."""
        out = b - a
        out *= r
        out += a
        return out

    def concatenate(self, values: Sequence[Array]) -> Array:
        """Side by side."""
        return np.concatenate(values, axis=-1) if len(values) > 1 else values[0]


def _convolved(block: Block, matrix: Array, v: Array) -> Array:
    """The filter bank on (batch, channels·L), zero padding; ``matrix`` is (channels·width, out)."""
    out, channels, width = block.shape
    left = (width - 1) // 2
    padded = np.pad(
        v.reshape(len(v), channels, block.positions), ((0, 0), (0, 0), (left, width - 1 - left))
    )
    windows = sliding_window_view(padded, width, axis=2).transpose(0, 2, 1, 3)
    flat = windows.reshape(len(v) * block.positions, channels * width)
    product = (flat @ matrix).reshape(len(v), block.positions, out)
    return np.ascontiguousarray(product.transpose(0, 2, 1)).reshape(len(v), -1)
