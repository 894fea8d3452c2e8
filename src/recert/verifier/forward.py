"""Outputs of a network by plain loops over its equations, in whichever arithmetic.

Values are `Pair`s, doubles with bounds on their errors, or `Balls`. Both enclose what the network
with the recorded weights gives in real arithmetic, and both know the same operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.verifier.structure import Affine, Cell, Part, Structure

Array = NDArray[np.float64]
# A `Pair` or `Balls`, and the class of it.
Value = Any
Kind = Any


@dataclass(frozen=True, eq=False)
class Weights:
    """The arrays of a network by name of block, the head in K rows, and its pooling map."""

    arrays: Mapping[str, Array]
    pool: Array | None = None


@dataclass(frozen=True, eq=False)
class Read:
    """Weights as one arithmetic reads them; whatever products need of a matrix is found once."""

    weights: Weights
    kind: Kind
    _held: dict[str, Any] = field(default_factory=dict)

    def matrix(self, name: str, A: Array) -> Any:
        """A matrix for products, by a name of its own."""
        if name not in self._held:
            self._held[name] = self.kind.matrix(A)
        return self._held[name]

    def linear(self, part: Part, p: Value | NDArray[np.int64]) -> Value:
        """A p of a matrix or a filter bank; the columns that tokens (n,) name."""
        A = self.weights.arrays[part.name]
        if part.norm == "operator" and part.name not in self._held:
            A = banded(A, part.rows // part.shape[0])
        M = self.matrix(part.name, A)
        return self.kind.columns(M, p) if isinstance(p, np.ndarray) else p.under(M)

    def bias(self, part: Part, repeated: int = 1) -> Value:
        """B as a row."""
        return self.kind.exact(self.weights.arrays[part.name].repeat(repeated)[None, :])

    def affine(self, layer: Affine, p: Value | NDArray[np.int64]) -> Value:
        """σ(A p + b)."""
        z = self.linear(layer.A, p)
        return (z if layer.b is None else z.plus(self.bias(layer.b))).activation(layer.activation)


def banded(bank: Array, positions: int) -> Array:
    """The matrix by which a bank (out, in, width) acts on zero-padded maps of L positions."""
    out, channels, width = bank.shape
    found = np.zeros((out, positions, channels, positions))
    for p in range(positions):
        for j in range(width):
            q = p + j - (width - 1) // 2
            if 0 <= q < positions:
                found[:, p, :, q] = bank[:, :, j]
    return found.reshape(out * positions, channels * positions)


class Loops:
    """The cells' equations on pairs."""

    def __init__(self, network: Structure, weights: Read) -> None:
        self.network, self.weights = network, weights

    def encoded(self, x: NDArray[Any]) -> Value | NDArray[np.int64]:
        """What the first layer reads of tokens (n,) or vectors (n, d_x)."""
        found: Any = x if self.network.tokens else self.weights.kind.exact(x)
        if self.network.embedding is not None:
            found = self.weights.linear(self.network.embedding, found)
        for dense in self.network.encoder:
            found = self.weights.affine(dense, found)
        return found  # type: ignore[no-any-return]

    def head(self, h: Value) -> Value:
        """y = V h + b_V, after hidden layers, pooled where the head pools."""
        for dense in self.network.hidden:
            h = self.weights.affine(dense, h)
        y = self.weights.linear(self.network.V, h)
        if self.weights.weights.pool is not None:
            y = y.under(self.weights.matrix("@pool", self.weights.weights.pool))
        return y if self.network.b is None else y.plus(self.weights.bias(self.network.b))

    def step(self, cell: Cell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        """New states of one cell, the output's first."""
        found: tuple[Value, ...] = getattr(self, f"_{cell.cell}")(cell, x, states)
        return found

    def _pre(self, cell: Cell, gate: str, x: Any, h: Value) -> Value:
        """W x + U h + b of one gate."""
        parts, weights = cell.parts, self.weights
        z = weights.linear(parts[f"W{gate}"], x).plus(weights.linear(parts[f"U{gate}"], h))
        return z.plus(weights.bias(parts[f"b{gate}"])) if f"b{gate}" in parts else z

    def _gate(self, cell: Cell, gate: str, x: Any, h: Value) -> Value:
        return self._pre(cell, gate, x, h).activation("sigmoid")

    def _vanilla(self, cell: Cell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        return (self._pre(cell, "", x, states[0]).activation(cell.activation),)

    def _mgu(self, cell: Cell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        h = states[0]
        r = self._gate(cell, "_r", x, h)
        candidate = self._pre(cell, "_h", x, r.times(h)).activation("tanh")
        return (r.between(h, candidate),)

    def _gru(self, cell: Cell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        h, parts = states[0], cell.parts
        r, z = self._gate(cell, "_r", x, h), self._gate(cell, "_z", x, h)
        inner = self.weights.linear(parts["U_n"], h)
        if "b_hn" in parts:
            inner = inner.plus(self.weights.bias(parts["b_hn"]))
        outer = self.weights.linear(parts["W_n"], x)
        if "b_n" in parts:
            outer = outer.plus(self.weights.bias(parts["b_n"]))
        n = outer.plus(r.times(inner)).activation("tanh")
        return (z.between(n, h),)

    def _gru_original(self, cell: Cell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        h = states[0]
        r, z = self._gate(cell, "_r", x, h), self._gate(cell, "_z", x, h)
        n = self._pre(cell, "_n", x, r.times(h)).activation("tanh")
        return (z.between(n, h),)

    def _lstm(self, cell: Cell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        h, c = states
        g, r, o = (self._gate(cell, gate, x, h) for gate in ("_g", "_r", "_o"))
        candidate = self._pre(cell, "_c", x, h).activation("tanh")
        c = g.times(c).plus(r.times(candidate))
        h = o.times(c.activation("tanh"))
        return (self.weights.linear(cell.parts["P"], h) if "P" in cell.parts else h), c

    def _conv(self, cell: Cell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        z = self._maps(cell, x, states[0])
        if "b" in cell.parts:
            z = z.plus(self.weights.bias(cell.parts["b"], cell.positions))
        return (z.activation(cell.activation),)

    def _conv_averaged(self, cell: Cell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        z = self._maps(cell, x, states[0])
        k, L = cell.channels, cell.positions
        channels = self.weights.matrix(f"@sum {k} {L}", np.tile(np.eye(L), k))
        mean = z.under(channels).scaled(np.full(z.n, float(k)))
        return (mean.activation(cell.activation),)

    def _maps(self, cell: Cell, x: Any, h: Value) -> Value:
        """W*x + U*h."""
        linear = self.weights.linear
        return linear(cell.parts["W"], x).plus(linear(cell.parts["U"], h))
