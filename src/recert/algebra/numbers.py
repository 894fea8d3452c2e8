"""The reading on arrays: values are (batch, dim) float64 arrays, or (batch,) integer tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.network import Block, Network

Array = NDArray[np.float64]


class NumbersAlgebra:
    """Evaluates a network's equations in float64.

    Every operation returns a fresh array except ``bias``, and ``add`` and ``activation`` reuse
    their first argument's memory: a cell's intermediate values are read once.
    """

    def __init__(self, network: Network) -> None:
        self._transposed = {
            block.name: np.ascontiguousarray(block.value.T)
            for block in network.blocks()
            if block.value.ndim == 2
        }

    def linear(self, block: Block, v: NDArray[Any]) -> Array:
        """(batch, d2) → (batch, d1), or tokens (batch,) → the columns that they name."""
        matrix = self._transposed[block.name]
        return matrix.take(v, axis=0) if v.ndim == 1 else v @ matrix

    def bias(self, block: Block) -> Array:
        """(d1,), broadcast over the batch."""
        return block.value

    def add(self, u: Array, v: Array) -> Array:
        """U + v, into u."""
        return np.add(u, v, out=u)

    def activation(self, name: str, v: Array) -> Array:
        """σ_h(v), into v."""
        if name == "tanh":
            return np.tanh(v, out=v)
        return np.maximum(v, 0.0, out=v)
