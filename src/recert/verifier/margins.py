"""Margins against thresholds: what doubles leave open is walked again in balls.

Bits are doubled until a margin is on one side, or to a limit; those that are nearest to a threshold
come first. What is still open then counts as the worse of the two. A margin that *is* the threshold
stays open unless its ball is a point.

Arrays of balls: the same operations as `Pair`, in arithmetic of as many bits as are asked for.

Radii are python-flint's own. Precision is that of flint's context where an operation runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flint import arb, arb_mat, ctx
from numpy.typing import NDArray

from recert.verifier.forward import HELD_BALLS, ForwardWalk, Margins
from recert.verifier.pairs import LEAK, Array
from recert.verifier.sample import GivenSample

Mask = NDArray[np.bool_]
FIRST, MOST_BITS = 128, 2048
# What all walks in balls of one sample may take together, in microseconds of one core, about.
WORK = 10e6
PER_PRODUCT, PER_ENTRY = 0.05, 6.0


@dataclass(eq=False)
class Decided:
    """Margins of a sample, and on which side of some thresholds those lie that were walked again.

    Args:
        walk: how the network is read.
        sample: what it reads.
        margins: what doubles found.
        work: how much may be done in balls, in microseconds of one core, about.
    """

    walk: ForwardWalk
    sample: GivenSample
    margins: Margins
    work: float = WORK
    _above: dict[float, Mask] = field(default_factory=dict)
    _below: dict[float, Mask] = field(default_factory=dict)
    _equal: dict[float, Mask] = field(default_factory=dict)

    def above(self, t: float) -> Mask:
        """(n,) where a margin is proved to be larger than t."""
        # What overflowed compares with nothing, and is not.
        found: Mask = self.margins.M - self.margins.e > t
        return found | self._above[t] if t in self._above else found

    def below(self, t: float) -> Mask:
        """(n,) where a margin is proved to be at most t."""
        found: Mask = self.margins.M + self.margins.e <= t
        return found | self._below[t] if t in self._below else found

    def beneath(self, t: float) -> Mask:
        """(n,) where a margin is proved to be at most t, other than by being t."""
        return self.below(t) & ~self._equal[t] if t in self._equal else self.below(t)

    def open(self, t: float) -> Mask:
        """(n,) where neither is proved."""
        return ~(self.above(t) | self.below(t))

    def decide(self, t: float) -> None:
        """Walk again what is open at t, in balls, as far as the work allows."""
        for side in (self._above, self._below, self._equal):
            side.setdefault(t, np.zeros(len(self.margins.M), dtype=bool))
        rows, bits = self._nearest(t), FIRST
        with np.errstate(all="ignore"):
            while len(rows) and bits <= MOST_BITS:
                rows = rows[: self._affordable(rows, bits)]
                self._walked(rows, t, bits)
                still = np.unique(self.margins.owner[self.open(t)])
                rows, bits = rows[np.isin(rows, still)], 2 * bits

    def _nearest(self, t: float) -> NDArray[np.int64]:
        """Sequences with an open entry, the nearest first."""
        left = np.flatnonzero(self.open(t))
        gap = np.nan_to_num(np.abs(self.margins.M[left] - t), nan=np.inf)
        owner = self.margins.owner[left[np.argsort(gap, kind="stable")]]
        first = np.unique(owner, return_index=True)[1]
        return owner[np.sort(first)]

    def _affordable(self, rows: NDArray[np.int64], bits: int) -> int:
        """How many of these sequences may be walked at so many bits; their work is taken off."""
        cost = np.cumsum(self.sample.lengths[rows] * self._step() * bits / FIRST)
        count = int(np.searchsorted(cost, self.work, side="right"))
        self.work -= float(cost[count - 1]) if count else 0.0
        return count

    def _step(self) -> float:
        """Microseconds for one step of one sequence at the first precision, about."""
        cells = [cell for cells in self.walk.network.layers for cell in cells]
        products = sum(part.rows * part.columns for part in self.walk.network.blocks)
        entries = sum(
            part.rows for cell in cells for role, part in cell.parts.items() if role[0] == "W"
        )
        return PER_PRODUCT * products + PER_ENTRY * entries

    def _walked(self, rows: NDArray[np.int64], t: float, bits: int) -> None:
        order = np.argsort(self.margins.owner, kind="stable")
        starts = np.searchsorted(self.margins.owner[order], np.arange(len(self.sample.x) + 1))
        met = np.zeros(len(self.sample.x), dtype=np.int64)
        threshold, said = arb(t), self.sample
        with ctx.workprec(bits):
            pieces = self.walk.pieces(
                Balls, HELD_BALLS, said.x[rows], said.labels[rows], said.lengths[rows]
            )
            for balls, owner in pieces:
                for M, row in zip(balls, rows[owner], strict=True):
                    entry = order[starts[row] + met[row]]
                    met[row] += 1
                    self._above[t][entry] |= bool((M - threshold) > 0)
                    self._below[t][entry] |= bool((M - threshold) <= 0)
                    self._equal[t][entry] |= bool((M - threshold) == 0)


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
