"""Whether units recur: within the sample, and between the sample and the held-out units.

Two traces are kept of every sequence: a print of the whole, for repetitions, and an anchor, one
stretch of it and where it stands, for windows that overlap. Shifted copies share anchors at other
places. Independent draws X, Y with anchors (w, a) may do so as well, but
Σ_w P(w, a)·P(w, a + d) summed over a is at most Σ_w P(w, a)² summed over a (Cauchy and Schwarz):
never, on average, more often than anchors are shared at the same place, whatever the distribution.
That is what shifted pairs are compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Prints = NDArray[np.uint64]

_SEED = 20181228


def fingerprints(x: NDArray[Any], lengths: NDArray[np.int64]) -> Prints:
    """A 64-bit print of every sequence with its length, not its label; padding must be zero.

    Equal sequences have equal prints whatever their padding and batch; prints of different ones
    collide by chance only.
    """
    if x.dtype.kind == "f":
        x = x.astype(np.float64, copy=False)
    # Separate streams of multipliers, so that a prefix of one length has the same ones.
    parts = (x, 0), (lengths, 1)
    sums = [np.zeros(len(x), dtype=np.uint64), np.zeros(len(x), dtype=np.uint64)]
    for part, stream in parts:
        for half in (0, 1):
            sums[half] += _mix(part, stream, half)
    first, second = sums
    result: Prints = first ^ ((second << np.uint64(29)) | (second >> np.uint64(35)))
    return result


def _mix(values: NDArray[Any], stream: int, half: int) -> Prints:
    """Σ_j a_j·word_j mod 2^64 over the 32-bit words of each row, with random 64-bit a_j.

    Two such sums with other multipliers agree for different rows with probability at most 2^−66.
    """
    words = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint32)
    generator = np.random.Generator(np.random.PCG64([_SEED, stream, half]))
    multipliers = generator.integers(0, 2**64, size=words.shape[1], dtype=np.uint64)
    result: Prints = np.einsum("ij,j->i", words, multipliers)
    return result


@dataclass(frozen=True)
class Within:
    """Repetitions within a sample: distinct sequences, and those that occur exactly once."""

    sequences: int
    distinct: int
    single: int

    @property
    def tiled(self) -> bool:
        """Whether most of the sample repeats the rest."""
        return 2 * self.distinct <= self.sequences and self.sequences > 1


def within(prints: Prints) -> Within:
    """Count repetitions."""
    _, counts = np.unique(prints, return_counts=True)
    return Within(len(prints), len(counts), int((counts == 1).sum()))


@dataclass(frozen=True)
class Between:
    """Held-out sequences that occur in the sample, and how many chance would explain."""

    shared: int
    held_out: int
    limit: float

    @property
    def suspicious(self) -> bool:
        """Whether more are shared than independent draws would explain."""
        return self.shared > self.limit


def between(sample: Prints, held_out: Prints, *, discrete: bool) -> Between:
    """Compare roles.

    The chance that a new draw was seen before is near 1 − (share of sequences seen once), the
    Good–Turing estimate; the limit leaves it five deviations. Real inputs that never recur within
    the sample should not recur at all.
    """
    inside = within(sample)
    shared = int(np.isin(held_out, sample).sum())
    m, n = len(sample), len(held_out)
    seen_again = 1.0 - inside.single / m
    if seen_again == 0.0 and not discrete:
        return Between(shared, n, 0.0)
    chance = min(1.0, seen_again + 5.0 * math.sqrt(seen_again / m) + 10.0 / m)
    return Between(shared, n, n * chance + 5.0 * math.sqrt(n * chance))


# Steps of sequences that are worked on at once.
_AT_ONCE = 1 << 21
# So many more pairs at one shift than in place are no accident; they are blatant where they take in
# a share of the sequences.
_MORE, _ACCIDENTS = 1.5, 30
_BLATANT = 0.05
# The shifts that are looked at: the commonest between neighbours in the order of anchors.
_SHIFTS = 8


def anchors(x: NDArray[Any], lengths: NDArray[np.int64]) -> Prints:
    """(n, 2): a stretch's print and its place, for every sequence; padding must be zero.

    The stretch takes half the steps and is the one, of all so long in the sequence, whose print is
    smallest: windows that overlap by more mostly choose the same.
    """
    n, T = x.shape[:2]
    found = np.empty((n, 2), dtype=np.uint64)
    rows = max(1, _AT_ONCE // T)
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        found[part] = _anchors(_steps(x[part]), lengths[part])
    return found


def _steps(x: NDArray[Any]) -> Prints:
    """(n, T) prints of single steps."""
    if x.ndim == 2:
        return _scrambled(x.astype(np.int64).view(np.uint64) + np.uint64(1))
    wide = x.astype(np.float64, copy=False) if x.dtype.kind == "f" else x
    rows = np.ascontiguousarray(wide).reshape(-1, x.shape[2])
    return _scrambled(_mix(rows, 2, 0)).reshape(x.shape[:2])


def _anchors(steps: Prints, lengths: NDArray[np.int64]) -> Prints:
    n, T = steps.shape
    base = np.uint64(0x9E3779B97F4A7C15)
    powers = np.ones(T, dtype=np.uint64)
    np.multiply.accumulate(np.full(T - 1, base), out=powers[1:])
    backwards = np.ones(T, dtype=np.uint64)
    inverse = np.uint64(pow(int(base), -1, 2**64))
    np.multiply.accumulate(np.full(T - 1, inverse), out=backwards[1:])
    sums = np.zeros((n, T + 1), dtype=np.uint64)
    np.cumsum(steps * powers, axis=1, out=sums[:, 1:])
    widths = (lengths + 1) // 2
    found = np.empty((n, 2), dtype=np.uint64)
    for k in np.unique(widths):
        chosen = np.flatnonzero(widths == k)
        stretch = sums[chosen][:, k:] - sums[chosen][:, : T + 1 - k]
        prints = _scrambled(stretch * backwards[: T + 1 - k] + np.uint64(k))
        outside = np.arange(T + 1 - k)[None, :] > (lengths[chosen] - k)[:, None]
        prints[outside] = np.iinfo(np.uint64).max
        place = prints.argmin(axis=1)
        found[chosen, 0] = prints[np.arange(len(chosen)), place]
        found[chosen, 1] = place.astype(np.uint64)
    return found


def _scrambled(x: Prints) -> Prints:
    """A bijection of 64-bit words that looks random (the finaliser of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Shifted:
    """Sequences that share a stretch with another unit's at another place, at the commonest shift.

    ``pairs`` counts such pairs at the shift ``by``. ``in_place`` counts pairs that share one at the
    same place, both ways round, because a shift may be taken both ways.
    """

    sequences: int
    shifted: int
    by: int
    pairs: int
    in_place: int

    @property
    def blatant(self) -> bool:
        """Whether there are many, and more than independent draws could have."""
        return self._uncommon and self.shifted >= _BLATANT * self.sequences

    @property
    def _uncommon(self) -> bool:
        return self.pairs > _MORE * self.in_place + _ACCIDENTS

    @property
    def told(self) -> int:
        """How many the ledger speaks of: none where accidents explain them."""
        return self.shifted if self._uncommon else 0


def shifted_within(found: Prints, units: NDArray[np.int64] | None = None) -> Shifted:
    """Shifted copies among sequences of different units, from their anchors."""
    own = np.arange(len(found)) if units is None else units
    return _shifted(found, own, np.ones(len(found), dtype=bool))


def shifted_between(sample: Prints, held_out: Prints) -> Shifted:
    """Held-out sequences that are shifted copies of the sample's, from the anchors of both."""
    role = np.repeat([0, 1], [len(sample), len(held_out)])
    return _shifted(np.concatenate([sample, held_out]), role, role == 1)


def _shifted(found: Prints, units: NDArray[np.int64], counted: NDArray[np.bool_]) -> Shifted:
    """The most pairs at one shift, among sequences of different units."""
    key, place = found[:, 0], found[:, 1].astype(np.int64)
    occurs = _Occurrences(key, place, units)
    in_place = int(occurs.elsewhere(0).sum())
    pairs, by = 0, 0
    for shift in _common_shifts(key, place, units):
        at_shift = int(occurs.elsewhere(shift).sum())
        if at_shift > pairs:
            pairs, by = at_shift, shift
    copies = 0
    if pairs:
        partners = occurs.elsewhere(by) + occurs.elsewhere(-by)
        copies = int(((partners > 0) & counted).sum())
    return Shifted(int(counted.sum()), copies, by, pairs, in_place)


def _common_shifts(key: Prints, place: NDArray[np.int64], units: NDArray[np.int64]) -> list[int]:
    order = np.lexsort((place, key))
    key, place, units = key[order], place[order], units[order]
    apart = (key[1:] == key[:-1]) & (units[1:] != units[:-1]) & (place[1:] > place[:-1])
    shifts, times = np.unique((place[1:] - place[:-1])[apart], return_counts=True)
    return [int(shift) for shift in shifts[np.argsort(-times, kind="stable")][:_SHIFTS]]


class _Occurrences:
    """How often anchors occur at a place, in all units and in one."""

    def __init__(self, key: Prints, place: NDArray[np.int64], units: NDArray[np.int64]) -> None:
        self._key, self._place = key, place
        self._all = np.unique(self._codes(0), return_counts=True)
        self._alone = len(np.unique(units)) == len(units)
        if not self._alone:
            self._unit = _scrambled(units.astype(np.uint64) + np.uint64(7))
            self._own = np.unique(self._codes(0) ^ self._unit, return_counts=True)

    def elsewhere(self, shift: int) -> NDArray[np.int64]:
        """For every sequence how many of other units have its anchor, so many places further."""
        codes = self._codes(shift)
        found = _times(self._all, codes)
        if self._alone:
            return found - (shift == 0)
        return found - _times(self._own, codes ^ self._unit)

    def _codes(self, shift: int) -> Prints:
        place = (self._place + shift).astype(np.uint64)
        return _scrambled(self._key ^ _scrambled(place + np.uint64(1)))


def _times(counted: tuple[Prints, NDArray[np.int64]], codes: Prints) -> NDArray[np.int64]:
    values, counts = counted
    at = np.minimum(np.searchsorted(values, codes), len(values) - 1)
    found: NDArray[np.int64] = np.where(values[at] == codes, counts[at], 0)
    return found
