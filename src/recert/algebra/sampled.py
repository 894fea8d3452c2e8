"""The reading on arrays with weights of its own for every row: for predictors that draw weights.

Values are (batch, dim) arrays, or (batch,) integers that say which of a row's columns to take.
Rows are sequences sorted by falling length, so that a shorter batch is always its first rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from recert.activations import ACTIVATIONS
from recert.blocks import Block
from recert.layers import FixedMap

Array = NDArray[Any]


class SampledAlgebra:
    """Evaluates a network's equations, the blocks of row i being those drawn for row i.

    Args:
        weights: block name → (batch, d1, d2) for matrices, (batch, d) for biases, (batch, channels
            out, channels in, width) for filter banks; for a block that reads tokens (batch, slots,
            d1), of which a token's number picks one. All of one floating type, in which every
            operation is done.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._dtype = next(iter(weights.values())).dtype

    def linear(self, block: Block, v: Array) -> Array:
        """(batch, d2) → (batch, d1) with each row's own matrix, or slots (batch,) → columns."""
        matrix = self._weights[block.name][: len(v)]
        if v.ndim == 1:
            return matrix[np.arange(len(v)), v]
        v = v.astype(self._dtype, copy=False)
        if block.norm == "operator":
            return _convolved(block, matrix, v)
        product: Array = np.matmul(matrix, v[:, :, None])[:, :, 0]
        return product

    def bias(self, block: Block) -> Array:
        """(batch, d1), of which ``add`` takes the first rows."""
        return self._weights[block.name]

    def fixed(self, fixed: FixedMap, v: Array) -> Array:
        """P v."""
        product: Array = v @ fixed.matrix.T.astype(self._dtype)
        return product

    def add(self, u: Array, v: Array) -> Array:
        """U + v, into u; v may have more rows."""
        return np.add(u, v[: len(u)], out=u)

    def mul(self, u: Array, v: Array) -> Array:
        """U ⊙ v."""
        return np.multiply(u, v, dtype=self._dtype, casting="same_kind")

    def activation(self, name: str, v: Array) -> Array:
        """σ(v)."""
        return ACTIVATIONS[name].function(v).astype(self._dtype, copy=False)

    def gate(self, r: Array, a: Array, b: Array) -> Array:
        """(1 − r) ⊙ a + r ⊙ b, as a + r ⊙ (b − a)."""
        out = np.subtract(b, a, dtype=self._dtype, casting="same_kind")
        out *= r
        return np.add(out, a, out=out, casting="same_kind")

    def concatenate(self, values: Sequence[Array]) -> Array:
        """Side by side."""
        return np.concatenate(values, axis=-1) if len(values) > 1 else values[0]


def _convolved(block: Block, banks: Array, v: Array) -> Array:
    """Each row's filter bank (batch, out, in, width) on its (batch, channels·L), zero padding."""
    out, channels, width = block.shape
    left, L = (width - 1) // 2, block.positions
    padded = np.pad(v.reshape(len(v), channels, L), ((0, 0), (0, 0), (left, width - 1 - left)))
    windows = sliding_window_view(padded, width, axis=2).transpose(0, 1, 3, 2)
    flat = windows.reshape(len(v), channels * width, L)
    product: Array = np.matmul(banks.reshape(len(v), out, channels * width), flat)
    return product.reshape(len(v), out * L)
