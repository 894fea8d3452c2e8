"""Margins against thresholds: what doubles leave open is walked again in balls.

Bits are doubled until a margin is on one side, or to a limit; those that are nearest to a threshold
come first. What is still open then counts as the worse of the two. A margin that *is* the threshold
stays open unless its ball is a point.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from flint import arb, ctx
from numpy.typing import NDArray

from recert.verifier.exact import Balls
from recert.verifier.reading import HELD_BALLS, Margins, Walk
from recert.verifier.sample import Sample

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

    walk: Walk
    sample: Sample
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
            part.rows for cell in cells for role, part in cell.parts.items() if role[0] == "U"
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
