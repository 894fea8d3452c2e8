"""Outputs of a network by plain loops over its equations, each number with a bound on its error.

A value is a pair (v, e) of arrays: v was computed in float64, and |v − exact| ≤ e entrywise, where
exact is what the network with the recorded weights gives in real arithmetic. The rules are those
of running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.verifier.structure import Affine, Cell, Part, Structure

Array = NDArray[np.float64]

UNIT = 2.0**-53
# For the roundings in bounds themselves, sums of at most 2^22 non-negative terms.
LARGER = 1.0 + 2.0**-30
# What underflows, and four units in the last place of a library's tanh or exponential, with room.
TINY, LIBRARY = 2.0**-900, 32.0 * UNIT
LEAK = 0.01
BATCH = 4096


@dataclass(frozen=True)
class Pair:
    """Computed values (n, d) and bounds on their errors, of the same shape."""

    v: Array
    e: Array

    def rows(self, chosen: NDArray[Any]) -> Pair:
        """Some rows."""
        return Pair(self.v[chosen], self.e[chosen])

    def where(self, mask: NDArray[np.bool_], other: Pair) -> Pair:
        """These rows where the mask (n,) is true, the other's elsewhere."""
        return Pair(
            np.where(mask[:, None], self.v, other.v), np.where(mask[:, None], self.e, other.e)
        )


def zeros(n: int, d: int) -> Pair:
    """Exact zeros."""
    return Pair(np.zeros((n, d)), np.zeros((n, d)))


def product(A: Array, p: Pair) -> Pair:
    """A p, in any order of summation."""
    v, size = p.v @ A.T, np.abs(A).T
    rounding = (A.shape[1] + 4) * UNIT * (np.abs(p.v) @ size)
    return Pair(v, (p.e @ size + rounding) * LARGER + A.shape[1] * TINY)


def add(p: Pair, q: Pair) -> Pair:
    """P + q."""
    v = p.v + q.v
    return Pair(v, (p.e + q.e + 2.0 * UNIT * np.abs(v)) * LARGER + TINY)


def mul(p: Pair, q: Pair) -> Pair:
    """P ⊙ q."""
    v = p.v * q.v
    moved = np.abs(p.v) * q.e + np.abs(q.v) * p.e + p.e * q.e
    return Pair(v, (moved + 2.0 * UNIT * np.abs(v)) * LARGER + TINY)


def beside(p: Pair, q: Pair) -> Pair:
    """Both, one after the other."""
    return Pair(np.concatenate([p.v, q.v], axis=1), np.concatenate([p.e, q.e], axis=1))


def scaled(factor: float, p: Pair) -> Pair:
    """A multiple of p by the double ``factor``."""
    v = factor * p.v
    return Pair(v, (abs(factor) * p.e + 2.0 * UNIT * np.abs(v)) * LARGER + TINY)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        found: Array = 1.0 / (1.0 + np.exp(-x))
    return found


def _tanh_slope(x: Array) -> Array:
    t = np.tanh(x)
    return (1.0 - t) * (1.0 + t)


def _sigmoid_slope(x: Array) -> Array:
    s = _sigmoid(x)
    return s * _sigmoid(-x)


def _steepest(x: Array) -> Array:
    return np.ones_like(x)


# σ, and a bound on |σ'| at all points at least so far from zero, which falls with the distance.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (lambda x: x, _steepest),
    "relu": (lambda x: np.maximum(x, 0.0), _steepest),
    "leaky_relu": (lambda x: np.where(x >= 0.0, x, LEAK * x), _steepest),
    "elu": (lambda x: np.where(x >= 0.0, x, np.expm1(np.minimum(x, 0.0))), _steepest),
    "tanh": (np.tanh, _tanh_slope),
    "sigmoid": (_sigmoid, _sigmoid_slope),
}


def activation(name: str, p: Pair) -> Pair:
    """σ(p); by the mean value theorem errors shrink where σ is flat all the way between."""
    function, slope = ACTIVATIONS[name]
    v = function(p.v)
    nearest = np.maximum(np.abs(p.v) - p.e, 0.0) * (1.0 - 2.0**-40)
    moved = p.e * (slope(nearest) * LARGER + 2.0**-48)
    return Pair(v, moved + (0.0 if name in ("identity", "relu") else LIBRARY * np.abs(v) + TINY))


@dataclass(frozen=True, eq=False)
class Weights:
    """The arrays of a network by name of block, the head in K rows, and its pooling map."""

    arrays: Mapping[str, Array]
    pool: Array | None = None

    def linear(self, part: Part, p: Pair | NDArray[np.int64]) -> Pair:
        """A p of a matrix or a filter bank; the columns that tokens (n,) name."""
        A = self.arrays[part.name]
        if part.norm == "operator":
            A = banded(A, part.rows // part.shape[0])
        if isinstance(p, Pair):
            return product(A, p)
        return Pair(A.T[p], np.zeros((len(p), len(A))))

    def bias(self, part: Part) -> Pair:
        """B as a row."""
        b = self.arrays[part.name][None, :]
        return Pair(b, np.zeros_like(b))

    def affine(self, layer: Affine, p: Pair | NDArray[np.int64]) -> Pair:
        """σ(A p + b)."""
        z = self.linear(layer.A, p)
        return activation(layer.activation, z if layer.b is None else add(z, self.bias(layer.b)))


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

    def __init__(self, network: Structure, weights: Weights) -> None:
        self.network, self.weights = network, weights

    def encoded(self, x: NDArray[Any]) -> Pair | NDArray[np.int64]:
        """What the first layer reads of tokens (n,) or vectors (n, d_x)."""
        found: Any = x if self.network.tokens else Pair(x, np.zeros_like(x))
        if self.network.embedding is not None:
            found = self.weights.linear(self.network.embedding, found)
        for dense in self.network.encoder:
            found = self.weights.affine(dense, found)
        return found  # type: ignore[no-any-return]

    def head(self, h: Pair) -> Pair:
        """y = V h + b_V, after hidden layers, pooled where the head pools."""
        for dense in self.network.hidden:
            h = self.weights.affine(dense, h)
        y = self.weights.linear(self.network.V, h)
        if self.weights.pool is not None:
            y = product(self.weights.pool, y)
        return y if self.network.b is None else add(y, self.weights.bias(self.network.b))

    def step(self, cell: Cell, x: Any, states: Sequence[Pair]) -> tuple[Pair, ...]:
        """New states of one cell, the output's first."""
        found: tuple[Pair, ...] = getattr(self, f"_{cell.cell}")(cell, x, states)
        return found

    def _pre(self, cell: Cell, gate: str, x: Any, h: Pair) -> Pair:
        """W x + U h + b of one gate."""
        parts, weights = cell.parts, self.weights
        z = add(weights.linear(parts[f"W{gate}"], x), weights.linear(parts[f"U{gate}"], h))
        return add(z, weights.bias(parts[f"b{gate}"])) if f"b{gate}" in parts else z

    def _gate(self, cell: Cell, gate: str, x: Any, h: Pair) -> Pair:
        return activation("sigmoid", self._pre(cell, gate, x, h))

    def _vanilla(self, cell: Cell, x: Any, states: Sequence[Pair]) -> tuple[Pair, ...]:
        return (activation(cell.activation, self._pre(cell, "", x, states[0])),)

    def _mgu(self, cell: Cell, x: Any, states: Sequence[Pair]) -> tuple[Pair, ...]:
        h = states[0]
        r = self._gate(cell, "_r", x, h)
        candidate = activation("tanh", self._pre(cell, "_h", x, mul(r, h)))
        return (_between(r, h, candidate),)

    def _gru(self, cell: Cell, x: Any, states: Sequence[Pair]) -> tuple[Pair, ...]:
        h, parts = states[0], cell.parts
        r, z = self._gate(cell, "_r", x, h), self._gate(cell, "_z", x, h)
        inner = self.weights.linear(parts["U_n"], h)
        if "b_hn" in parts:
            inner = add(inner, self.weights.bias(parts["b_hn"]))
        outer = self.weights.linear(parts["W_n"], x)
        if "b_n" in parts:
            outer = add(outer, self.weights.bias(parts["b_n"]))
        n = activation("tanh", add(outer, mul(r, inner)))
        return (_between(z, n, h),)

    def _gru_original(self, cell: Cell, x: Any, states: Sequence[Pair]) -> tuple[Pair, ...]:
        h = states[0]
        r, z = self._gate(cell, "_r", x, h), self._gate(cell, "_z", x, h)
        n = activation("tanh", self._pre(cell, "_n", x, mul(r, h)))
        return (_between(z, n, h),)

    def _lstm(self, cell: Cell, x: Any, states: Sequence[Pair]) -> tuple[Pair, ...]:
        h, c = states
        g, r, o = (self._gate(cell, gate, x, h) for gate in ("_g", "_r", "_o"))
        candidate = activation("tanh", self._pre(cell, "_c", x, h))
        c = add(mul(g, c), mul(r, candidate))
        h = mul(o, activation("tanh", c))
        return (self.weights.linear(cell.parts["P"], h) if "P" in cell.parts else h), c

    def _conv(self, cell: Cell, x: Any, states: Sequence[Pair]) -> tuple[Pair, ...]:
        z = self._maps(cell, x, states[0])
        if "b" in cell.parts:
            b = self.weights.arrays[cell.parts["b"].name].repeat(cell.positions)[None, :]
            z = add(z, Pair(b, np.zeros_like(b)))
        return (activation(cell.activation, z),)

    def _conv_averaged(self, cell: Cell, x: Any, states: Sequence[Pair]) -> tuple[Pair, ...]:
        z = self._maps(cell, x, states[0])
        k, L = cell.channels, cell.positions
        mean = np.tile(np.eye(L), k) / k
        return (activation(cell.activation, product(mean, z)),)

    def _maps(self, cell: Cell, x: Any, h: Pair) -> Pair:
        """W*x + U*h."""
        linear = self.weights.linear
        return add(linear(cell.parts["W"], x), linear(cell.parts["U"], h))


def _between(r: Pair, a: Pair, b: Pair) -> Pair:
    """(1 − r) ⊙ a + r ⊙ b, as a + r ⊙ (b − a)."""
    return add(a, mul(r, add(b, Pair(-a.v, a.e))))
