"""Prints of the stretches of a series of steps, wherever they stand.

Those of substrings come from one running sum Σ_t s_t·β^t mod 2^64 over scrambled prints s_t of the
steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Prints = NDArray[np.uint64]
Short = NDArray[np.uint32]
Index = NDArray[np.int64]

# Parts into which a sequence is cut, and steps at either end that are known one by one; beyond them
# ends are known by scales, each √2 of the one before.
BLOCKS, EDGES = 16, 8
_BASE = 0x9E3779B97F4A7C15
_U = np.uint64


@dataclass(frozen=True, eq=False)
class Marks:
    """Prints of n series and of their stretches.

    Attributes:
        exact: (n,) print of the whole series with its length.
        front: (n,) print of what is left without the first step, as `exact` has it.
        back: (n,) likewise without the last step.
        blocks: (n, 16) prints of sixteen parts.
        anchor: (n,) print of the stretch, a quarter to a half as long, that has the least print.
        place: (n,) where that stretch begins.
        starts: (n, 8) prints of the first 1, 2, …, 8 steps; 0 where no more than these are there.
        ends: (n, 8) likewise of the last ones.
        heads: (n, J) print of the least of the short stretches in the first r_j steps, r being 8,
            11, 16, 22, …; 0 where the series is shorter than r_(j+1).
        tails: likewise in the last r_(j+1) steps.
    """

    exact: Prints
    front: Prints
    back: Prints
    blocks: Short
    anchor: Short
    place: NDArray[np.int32]
    starts: Short
    ends: Short
    heads: Short
    tails: Short

    def __len__(self) -> int:
        return len(self.exact)

    def __getitem__(self, rows: Any) -> Self:
        found: dict[str, Any] = {}
        for f in fields(self):
            one = getattr(self, f.name)
            found[f.name] = None if one is None else one[rows]
        return type(self)(**found)

    @property
    def eighths(self) -> Prints:
        """(n, 8) prints of eight parts."""
        blocks: Prints = self.blocks.astype(np.uint64)
        return (blocks[:, ::2] << _U(32)) + blocks[:, 1::2]

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of several batches, one after the other."""
        return cls(*(_stacked([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def _stacked(parts: list[Any]) -> Any:
    """Rows of all, filled up with zeros to the widest; None where one part has none."""
    if any(part is None for part in parts):
        return None
    if isinstance(parts[0], Marks):
        return Marks.joined(parts)
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    widest = max(a.shape[1] for a in parts)
    return np.concatenate([np.pad(a, ((0, 0), (0, widest - a.shape[1]))) for a in parts])


def marks(steps: Prints, lengths: Index) -> Marks:
    """Prints of steps (n, T), of which those beyond the lengths (n,) are set to 0 here."""
    n, T = steps.shape
    if int(lengths.min()) < T:
        steps[np.arange(T) >= lengths[:, None]] = 0
    stretches = _Stretches(steps)
    first, last = np.zeros(n, dtype=np.int64), lengths - 1
    edges = np.arange(BLOCKS + 1) * lengths[:, None] // BLOCKS
    return Marks(
        stretches.whole(first, lengths),
        stretches.whole(first + 1, lengths),
        stretches.whole(first, last),
        short(scrambled(np.diff(stretches.sums_at(edges), axis=1) + _U(1))),
        *_anchors(stretches, lengths),
        *_edges(stretches, lengths),
        *_scales(stretches, lengths),
    )


class _Stretches:
    """Prints of stretches of steps, wherever they stand."""

    def __init__(self, steps: Prints) -> None:
        T = steps.shape[1]
        ahead, self._back = powers(T)
        self.sums = np.zeros((len(steps), T + 1), dtype=np.uint64)
        np.cumsum(steps * ahead[:T], axis=1, out=self.sums[:, 1:])

    def rows(self, own: Index) -> _Stretches:
        """Those of some sequences."""
        if len(own) == len(self.sums):
            return self
        part = object.__new__(_Stretches)
        part.sums, part._back = self.sums[own], self._back
        return part

    def sums_at(self, places: Index) -> Prints:
        """(n, k) running sums at places (n, k)."""
        found: Prints = np.take_along_axis(self.sums, places, axis=1)
        return found

    def whole(self, start: Index, end: Index) -> Prints:
        """(n,) prints of the steps from start to end, with their number."""
        ends = self.sums_at(np.stack([start, end], axis=1))
        many = scrambled((end - start).astype(np.uint64) + _U(7))
        return scrambled((ends[:, 1] - ends[:, 0]) * self._back[start] + many)

    def least(self, k: int, start: Index, count: int) -> tuple[Short, Index]:
        """The least print of ``count`` stretches of k steps, the first at start, and its place."""
        first = int(start[0])
        if bool((start == first).all()):
            low, high = self.sums[:, first : first + count], self.sums[:, first + k :][:, :count]
            back = self._back[first : first + count]
        else:
            places = start[:, None] + np.arange(count)
            low, high, back = self.sums_at(places), self.sums_at(places + k), self._back[places]
        prints = (high - low) * back
        # Odd multiples are enough of a hash to choose by; what is chosen is scrambled.
        ranks = (prints + _U(k)) * _U(0xD1342543DE82EF95)
        ranks ^= ranks >> _U(32)
        ranks *= _U(0xBF58476D1CE4E5B9)
        at = ranks.argmin(axis=1)
        rows = np.arange(len(at))
        return short(scrambled(prints[rows, at] + _U(k))), start + at


def _edges(found: _Stretches, lengths: Index) -> tuple[Short, Short]:
    """Prints of the first and of the last steps, as many as are fewer than all."""
    starts, ends = (np.zeros((len(lengths), EDGES), dtype=np.uint32) for _ in range(2))
    for o in range(1, min(EDGES, int(lengths.max()) - 1) + 1):
        longer = lengths > o
        first, last = np.where(longer, o, 0), np.where(longer, lengths - o, lengths)
        begun = found.whole(np.zeros_like(first), first)
        ended = found.whole(last, lengths)
        starts[:, o - 1] = np.where(longer, short(begun), 0)
        ends[:, o - 1] = np.where(longer, short(ended), 0)
    return starts, ends


def _scale(j: int) -> int:
    return int(EDGES * 2.0 ** (j / 2.0))


def _scales(found: _Stretches, lengths: Index) -> tuple[Short, Short]:
    """Heads and tails: of what two windows share some head is nearly all, and some tail as well."""
    n, longest = len(lengths), int(lengths.max())
    count = next(j for j in range(100) if _scale(j + 1) > longest)
    heads, tails = (np.zeros((n, count), dtype=np.uint32) for _ in range(2))
    for j in range(count):
        head, tail, k = _scale(j), _scale(j + 1), _scale(j) // 2
        own = np.flatnonzero(lengths >= tail)
        part, start = found.rows(own), np.zeros(len(own), dtype=np.int64)
        heads[own, j] = part.least(k, start, head - k + 1)[0]
        tails[own, j] = part.least(k, lengths[own] - tail, tail - k + 1)[0]
    return heads, tails


def _anchors(found: _Stretches, lengths: Index) -> tuple[Short, NDArray[np.int32]]:
    """Anchors and their places; lengths from 2^c to 2^(c+1) − 1 have stretches of 2^(c−1) steps."""
    n = len(lengths)
    anchor, place = np.zeros(n, dtype=np.uint32), np.zeros(n, dtype=np.int32)
    for size in np.unique(lengths):
        own = np.flatnonzero(lengths == size)
        k = max(1, 1 << (int(size).bit_length() - 2)) if size > 1 else 1
        start = np.zeros(len(own), dtype=np.int64)
        anchor[own], place[own] = found.rows(own).least(k, start, int(size) - k + 1)
    return anchor, place


def scrambled(x: Prints) -> Prints:
    """A bijection of 64-bit words that looks random (the finaliser of splitmix64)."""
    x = (x ^ (x >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U(27))) * _U(0x94D049BB133111EB)
    return x ^ (x >> _U(31))


def short(x: Prints) -> Short:
    """The upper half of prints, never 0."""
    return np.maximum((x >> _U(32)).astype(np.uint32), np.uint32(1))


@lru_cache(maxsize=8)
def powers(T: int) -> tuple[Prints, Prints]:
    """β^0, …, β^T and their inverses mod 2^64."""
    found = []
    for base in (_BASE, pow(_BASE, -1, 2**64)):
        one = np.ones(T + 1, dtype=np.uint64)
        np.multiply.accumulate(np.full(T, base, dtype=np.uint64), out=one[1:])
        one.flags.writeable = False
        found.append(one)
    return found[0], found[1]
