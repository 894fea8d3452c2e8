"""Prints by which sequences are known again: whole, in part, at another place, or nearly.

Every trace is a fixed function of one sequence (and its label). Prints of substrings come from one
running sum Σ_t s_t·β^t mod 2^64 over scrambled prints s_t of the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Prints = NDArray[np.uint64]
Short = NDArray[np.uint32]
Index = NDArray[np.int64]

# Parts into which a sequence is cut, numbers kept of real inputs, steps at either end that are
# known one by one; beyond them ends are known by scales, each √2 of the one before.
BLOCKS, NUMBERS, EDGES = 8, 4, 8
# So many changes of value make a sequence of reals one that does not recur by itself; so many
# values are looked at.
CHANGES, _LOOKS = 4, 128
# Steps, or numbers, that are worked on at once.
_AT_ONCE = 1 << 18
_SEED = 20181228
_BASE = 0x9E3779B97F4A7C15
_U = np.uint64


@dataclass(frozen=True, eq=False)
class Traces:
    """Traces of n sequences.

    Attributes:
        exact: (n,) print of the whole sequence with its length, not its label.
        labelled: (n,) the same with its label, or labels.
        front: (n,) print of what is left without the first step, as `exact` has it.
        back: (n,) likewise without the last step.
        blocks: (n, 8) prints of eight parts.
        anchor: (n,) print of the stretch, a quarter to a half as long, that has the least print.
        place: (n,) where that stretch begins.
        starts: (n, 8) prints of the first 1, 2, …, 8 steps; 0 where no more than these are there.
        ends: (n, 8) likewise of the last ones.
        heads: (n, J) print of the least of the short stretches in the first r_j steps, r being 8,
            11, 16, 22, …; 0 where the sequence is shorter than r_(j+1).
        tails: likewise in the last r_(j+1) steps.
        numbers: (n, 4) random projections of real inputs; zeros for tokens.
        telling: (n,) whether the sequence is of reals, not whole numbers, that keep changing.
    """

    exact: Prints
    labelled: Prints
    front: Prints
    back: Prints
    blocks: Short
    anchor: Short
    place: NDArray[np.int32]
    starts: Short
    ends: Short
    heads: Short
    tails: Short
    numbers: NDArray[np.float32]
    telling: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.exact)

    def __getitem__(self, rows: Any) -> Traces:
        return Traces(*(getattr(self, f.name)[rows] for f in fields(self)))

    def some(self, most: int) -> Traces:
        """All, or as many as this at random, whatever they are."""
        if len(self) <= most:
            return self
        return self[np.random.default_rng(len(self)).permutation(len(self))[:most]]

    def once(self, times: int) -> Traces:
        """The same where every sequence had been repeated so many times, and now is not."""
        if times == 1:
            return self
        order = np.argsort(self.exact, kind="stable")
        exact = self.exact[order]
        starts = np.flatnonzero(np.r_[True, exact[1:] != exact[:-1]])
        sizes = np.diff(np.r_[starts, len(order)])
        rank = np.arange(len(order)) - np.repeat(starts, sizes)
        return self[np.sort(order[rank < np.repeat(-(-sizes // times), sizes)])]

    def of_units(self, units: Index | None) -> Traces:
        """One sequence's traces for each unit: those of the member whose print is least.

        ``labelled`` is of all members together. Without units each sequence is one.
        """
        if units is None or len(np.unique(units)) == len(self):
            return self
        order = np.lexsort((scrambled(self.exact), units))
        starts = np.flatnonzero(np.r_[True, units[order][1:] != units[order][:-1]])
        found = self[order[starts]]
        together = np.add.reduceat(scrambled(self.labelled[order]), starts)
        return Traces(
            *(together if f.name == "labelled" else getattr(found, f.name) for f in fields(self))
        )


def joined(parts: Sequence[Traces]) -> Traces:
    """Traces of several batches, one after the other."""
    return Traces(*(_stacked([getattr(p, f.name) for p in parts]) for f in fields(Traces)))


def _stacked(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Rows of all, filled up with zeros to the widest."""
    if arrays[0].ndim == 1:
        return np.concatenate(arrays)
    widest = max(a.shape[1] for a in arrays)
    return np.concatenate([np.pad(a, ((0, 0), (0, widest - a.shape[1]))) for a in arrays])


def traces(x: NDArray[Any], labels: NDArray[np.int64], lengths: Index) -> Traces:
    """Traces of tokens (n, T) or reals (n, T, d_x), labels (n,) or (n, T), lengths (n,).

    Padding must be zero; neither it nor batches nor the number type of what is equal matter.
    """
    n, width = len(x), int(np.prod(x.shape[1:]))
    rows = max(1, _AT_ONCE // width)
    parts = [
        _traces(x[i : i + rows], labels[i : i + rows], lengths[i : i + rows])
        for i in range(0, n, rows)
    ]
    return joined(parts)


def _traces(x: NDArray[Any], labels: NDArray[np.int64], lengths: Index) -> Traces:
    n, T = x.shape[:2]
    if x.ndim == 3:
        x = np.ascontiguousarray(x, dtype=np.float64) + 0.0
    steps = _steps(x)
    if int(lengths.min()) < T:
        steps[np.arange(T) >= lengths[:, None]] = 0
    stretches = _Stretches(steps)
    first, last = np.zeros(n, dtype=np.int64), lengths - 1
    exact = stretches.whole(first, lengths)
    steps_labels = labels.reshape(n, -1)
    labelled = scrambled(exact + scrambled(_mix(steps_labels, 1) + _U(3)))
    edges = np.arange(BLOCKS + 1) * lengths[:, None] // BLOCKS
    return Traces(
        exact,
        labelled,
        stretches.whole(first + 1, lengths),
        stretches.whole(first, last),
        _short(scrambled(np.diff(stretches.sums_at(edges), axis=1) + _U(1))),
        *_anchors(stretches, lengths),
        *_edges(stretches, lengths),
        *_scales(stretches, lengths),
        *_reals(x),
    )


class _Stretches:
    """Prints of stretches of steps, wherever they stand."""

    def __init__(self, steps: Prints) -> None:
        T = steps.shape[1]
        powers, self._back = _powers(T)
        self.sums = np.zeros((len(steps), T + 1), dtype=np.uint64)
        np.cumsum(steps * powers[:T], axis=1, out=self.sums[:, 1:])

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
        return _short(scrambled(prints[rows, at] + _U(k))), start + at


def _edges(found: _Stretches, lengths: Index) -> tuple[Short, Short]:
    """Prints of the first and of the last steps, as many as are fewer than all."""
    starts, ends = (np.zeros((len(lengths), EDGES), dtype=np.uint32) for _ in range(2))
    for o in range(1, min(EDGES, int(lengths.max()) - 1) + 1):
        longer = lengths > o
        first, last = np.where(longer, o, 0), np.where(longer, lengths - o, lengths)
        begun = found.whole(np.zeros_like(first), first)
        ended = found.whole(last, lengths)
        starts[:, o - 1] = np.where(longer, _short(begun), 0)
        ends[:, o - 1] = np.where(longer, _short(ended), 0)
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


def _steps(x: NDArray[Any]) -> Prints:
    """(n, T) prints of single steps."""
    if x.ndim == 2:
        return scrambled(x.astype(np.int64).view(np.uint64) + _U(1))
    return scrambled(_mix(x.reshape(-1, x.shape[2]), 0)).reshape(x.shape[:2])


def _mix(values: NDArray[Any], stream: int) -> Prints:
    """Σ_j a_j·word_j mod 2^64 over the 32-bit words of each row, with random 64-bit a_j."""
    words = np.ascontiguousarray(values).view(np.uint32)
    result: Prints = np.einsum("ij,j->i", words, _multipliers(words.shape[1], stream))
    return result


@lru_cache(maxsize=8)
def _multipliers(size: int, stream: int) -> Prints:
    generator = np.random.Generator(np.random.PCG64([_SEED, stream]))
    return generator.integers(0, 2**64, size=size, dtype=np.uint64)


@lru_cache(maxsize=4)
def _directions(size: int) -> NDArray[np.float64]:
    generator = np.random.Generator(np.random.PCG64([_SEED, 9]))
    return generator.standard_normal((size, NUMBERS))


def _reals(x: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Projections of real inputs, and whether they tell sequences apart."""
    n = len(x)
    if x.ndim == 2:
        return np.zeros((n, NUMBERS), dtype=np.float32), np.zeros(n, dtype=bool)
    flat = x.reshape(n, -1)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.nan_to_num(flat @ _directions(flat.shape[1]), posinf=3e38, neginf=-3e38)
        short: NDArray[np.float32] = np.clip(numbers, -3e38, 3e38).astype(np.float32)
    # A number is compared with the same one a step before, or with its neighbour in a single step.
    back = x.shape[2] if x.shape[1] > 1 else 1
    places = np.unique(np.linspace(back, flat.shape[1] - 1, _LOOKS).astype(np.int64))
    places = places[(places >= back) & (places < flat.shape[1])]
    looked = flat[:, places]
    changes = (looked != flat[:, places - back]).sum(axis=1)
    return short, (changes >= CHANGES) & (looked != np.rint(looked)).any(axis=1)


def scrambled(x: Prints) -> Prints:
    """A bijection of 64-bit words that looks random (the finaliser of splitmix64)."""
    x = (x ^ (x >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U(27))) * _U(0x94D049BB133111EB)
    return x ^ (x >> _U(31))


def _short(x: Prints) -> Short:
    """The upper half of prints, never 0."""
    return np.maximum((x >> _U(32)).astype(np.uint32), np.uint32(1))


def _powers(T: int) -> tuple[Prints, Prints]:
    """β^0, …, β^T and their inverses mod 2^64."""
    found = []
    for base in (_BASE, pow(_BASE, -1, 2**64)):
        powers = np.ones(T + 1, dtype=np.uint64)
        np.multiply.accumulate(np.full(T, base, dtype=np.uint64), out=powers[1:])
        found.append(powers)
    return found[0], found[1]
