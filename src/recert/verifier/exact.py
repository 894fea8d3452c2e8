"""Arrays of balls: the same operations as `Pair`, in arithmetic of as many bits as are asked for.

Radii are python-flint's own. Precision is that of flint's context where an operation runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb, arb_mat
from numpy.typing import NDArray

from recert.verifier.pairs import LEAK, Array

Objects = NDArray[np.object_]
# Beyond this e^x is not taken: tanh is as good there as its logarithm.
FAR = arb(2) ** 30


def _array(values: Iterable[Any], shape: tuple[int, ...]) -> Objects:
    """Balls as an array of objects; numpy must not look into them."""
    found = np.empty(int(np.prod(shape)), dtype=object)
    found[:] = list(values)
    return found.reshape(shape)


def _balls(A: Array) -> Objects:
    """Doubles, exactly."""
    return _array((arb(x) for x in A.ravel().tolist()), A.shape)


@dataclass(frozen=True, eq=False)
class Columns:
    """A matrix: transposed for products, and its columns for tokens."""

    transposed: arb_mat
    columns: Objects


@dataclass(frozen=True, eq=False)
class Balls:
    """Balls (n, d)."""

    x: Objects

    @classmethod
    def exact(cls, v: Array) -> Balls:
        """Doubles as they are."""
        return cls(_balls(v))

    @staticmethod
    def matrix(A: Array) -> Columns:
        """A matrix of doubles for products."""
        columns = _balls(np.ascontiguousarray(A.T))
        rows, width = columns.shape
        return Columns(arb_mat(rows, width, columns.ravel().tolist()), columns)

    @staticmethod
    def columns(M: Columns, tokens: NDArray[np.int64]) -> Balls:
        """The columns that tokens (n,) name."""
        return Balls(M.columns[tokens])

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.x)

    def rows(self, chosen: NDArray[Any]) -> Balls:
        """Some rows."""
        return Balls(self.x[chosen])

    def where(self, mask: NDArray[np.bool_], other: Balls) -> Balls:
        """These rows where the mask (n,) is true, the other's elsewhere."""
        return Balls(np.where(mask[:, None], self.x, other.x))

    def beside(self, q: Balls) -> Balls:
        """Both, one after the other."""
        return Balls(np.concatenate([self.x, q.x], axis=1))

    def under(self, M: Columns) -> Balls:
        """A p."""
        n, d = self.x.shape
        found = arb_mat(n, d, self.x.ravel().tolist()) * M.transposed
        return Balls(_array(found.entries(), (self.n, M.transposed.ncols())))

    def plus(self, q: Balls) -> Balls:
        """P + q."""
        return Balls(self.x + q.x)

    def times(self, q: Balls) -> Balls:
        """P ⊙ q."""
        return Balls(self.x * q.x)

    def scaled(self, factor: Array) -> Balls:
        """Rows divided by whole numbers (n,)."""
        return Balls(self.x / _balls(factor)[:, None])

    def between(self, a: Balls, b: Balls) -> Balls:
        """(1 − r) ⊙ a + r ⊙ b for a gate r."""
        return Balls((1 - self.x) * a.x + self.x * b.x)

    def activation(self, name: str) -> Balls:
        """σ(p)."""
        return Balls(np.frompyfunc(ACTIVATIONS[name], 1, 1)(self.x))

    def margins(self, labels: NDArray[np.int64]) -> list[arb]:
        """y_z − max_{j≠z} y_j (n,)."""
        found = []
        for row, z in zip(self.x, labels, strict=True):
            rest = [y for j, y in enumerate(row) if j != z]
            top = rest[0]
            for y in rest[1:]:
                top = top.max(y)
            found.append(row[z] - top)
        return found


def _sigmoid(x: arb) -> arb:
    if abs(x) < FAR:
        # e^x of a very negative number keeps its relative accuracy.
        return 1 / (1 + (-x).exp()) if x > 0 else _small(x.exp())
    return (1 + (x / 2).tanh()) / 2


def _small(e: arb) -> arb:
    return e / (1 + e)


def _relu(x: arb) -> arb:
    return x.max(arb(0))


def _leaky(x: arb) -> arb:
    if x >= 0:
        return x
    return x * LEAK if x <= 0 else x.max(x * LEAK)


def _elu(x: arb) -> arb:
    return x if x >= 0 else _relu(x) + x.min(arb(0)).expm1()


ACTIVATIONS = {
    "identity": lambda x: x, "relu": _relu, "leaky_relu": _leaky, "elu": _elu,
    "tanh": lambda x: x.tanh(), "sigmoid": _sigmoid,
}  # fmt: skip
