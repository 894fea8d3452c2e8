"""What two sequences may have in common, as codes that agree, and how often codes occur."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.samples.leakage.evidence import Counts
from recert.samples.leakage.stretches import Index, Marks, Prints, scrambled, short
from recert.samples.leakage.traces import Traces

# (n',) for each of the second a neighbour in the first, or −1, and (n,) which of the first have no
# neighbour among themselves.
Near = tuple[Index, NDArray[np.bool_]]

# The kinds of what may be in common.
REPEATED, NEAR, OVERLAP = "repeated", "near", "overlap"
# Cells for projections, in halvings of their spread.
_LEVELS = (2, 4, 6, 9, 12, 16)
# Projections that make a cell.
_PROJECTIONS = 4
# So many steps at either end are looked at, less one.
_ENDS = (1, 3, 7)
# So many sequences have their distances from twice as many compared, some rows at once.
_CLOSE, _ROWS, _HALF = 1 << 12, 1 << 7, 0.5
# So many codes are compared at once; of more, those whose hash begins with zeros.
_CODES = 1 << 15
# The commonest shifts are looked at, each for its share of the evidence.
_SHIFTS, _LONGEST = 8, 1 << 30


@dataclass(frozen=True, eq=False)
class Relation:
    """Codes of one side and of the other; sequences are related where theirs agree.

    Attributes:
        kind: what is in common.
        first: (n,) codes of the one.
        second: (n',) codes of the other.
        price: the logarithm by which evidence is lowered, for relations that are chosen.
        by: steps from one place to the other, or 0.
    """

    kind: str
    first: Prints
    second: Prints
    price: float = 0.0
    by: int = 0


def nearest(first: Traces, second: Traces, apart: int = 1) -> Near:
    """Neighbours differ in one part of sixteen, or in some parts of eight."""
    found = np.full(len(second), -1, dtype=np.int64)
    single = np.ones(len(first), dtype=np.bool_)
    fresh = ~np.isin(second.exact, first.exact)
    if not len(first):
        return found, single
    one, other = (t.blocks if apart == 1 else t.eighths for t in (first, second))
    size = one.shape[1]
    for chosen in combinations(range(size), size - apart):
        codes = _parts(one, chosen)
        missing = np.flatnonzero(fresh & (found < 0))
        others = _parts(other[missing], chosen)
        if _all_differ(np.concatenate([codes, others])):
            continue
        values, places, own, times = np.unique(codes, True, True, True)
        single &= times[own] == 1
        codes = others
        at = np.minimum(np.searchsorted(values, codes), len(values) - 1)
        found[missing] = np.where(values[at] == codes, places[at], -1)
    return found, single


def closest(first: Traces, second: Traces) -> Near:
    """Neighbours are nearer than half the distance from that of the first to its own neighbour.

    There are none among tokens.
    """
    found = np.full(len(second), -1, dtype=np.int64)
    single = np.zeros(len(first), dtype=np.bool_)
    known = np.random.default_rng(len(first)).permutation(len(first))[:_CLOSE]
    fresh = np.flatnonzero(~np.isin(second.exact, first.exact))
    fresh = np.random.default_rng(len(fresh)).permutation(fresh)[: 2 * _CLOSE]
    a, b = first.numbers[known].astype(np.float64), second.numbers[fresh].astype(np.float64)
    if len(a) < 2 or not len(b) or not a.any():
        return found, single
    scale = max(float(np.abs(a).max()), float(np.abs(b).max()))
    middle = (a / scale).mean(axis=0)
    a, b = ((one / scale - middle).astype(np.float32) for one in (a, b))
    own, _ = _least_distances(a, a, itself=True)
    distance, at = _least_distances(a, b)
    near = distance < _HALF**2 * own[at]
    found[fresh[near]] = known[at[near]]
    single[known] = own > _HALF**4 * np.percentile(own, 90)
    return found, single


def _least_distances(
    known: NDArray[np.float32], others: NDArray[np.float32], itself: bool = False
) -> tuple[NDArray[np.float32], Index]:
    """(n',) squares of the least distances, and to which."""
    squares = (known * known).sum(axis=1)
    least, at = np.empty(len(others), dtype=np.float32), np.empty(len(others), dtype=np.int64)
    for i in range(0, len(others), _ROWS):
        some = slice(i, i + _ROWS)
        apart = (-2.0 * others[some]) @ known.T
        apart += squares
        rows = np.arange(len(apart))
        if itself:
            apart[rows, i + rows] = np.inf
        at[some] = apart.argmin(axis=1)
        least[some] = apart[rows, at[some]] + (others[some] * others[some]).sum(axis=1)
    return np.maximum(least, 0.0), at


def alike(first: Traces, second: Traces) -> Iterator[Relation]:
    """Sequences that are equal in part, or differ by little: one code for both sides."""
    yield from _in_part(first, second)
    spread = _spread(np.concatenate([first.numbers, second.numbers])[:, :_PROJECTIONS])
    if spread is None:
        return
    for level in _LEVELS:
        for offset in (0.0, 0.5):
            cell = spread * 2.0**-level
            one, other = (_cells(t.numbers, cell, offset) for t in (first, second))
            yield Relation(NEAR, one, other)


def _in_part(first: Marks, second: Marks) -> Iterator[Relation]:
    one, other = first.eighths, second.eighths
    for chosen in _subsets(one.shape[1]):
        yield Relation(NEAR, _parts(one, chosen), _parts(other, chosen))


def changed(first: Traces, second: Traces) -> Iterator[Relation]:
    """Steps in reverse or in another order, the same course in other units, ends cut off."""
    for name in ("turned", "mixed"):
        yield Relation(NEAR, getattr(first, name), getattr(second, name))
    if first.course is not None and second.course is not None:
        yield Relation(NEAR, first.course.exact, second.course.exact)
        yield from _in_part(first.course, second.course)
    for name in ("starts", "ends", "heads", "tails"):
        left, right = (_columns(getattr(one, name)) for one in (first, second))
        for j in range(min(left.shape[1], right.shape[1])):
            if name in ("heads", "tails") or j in _ENDS:
                yield Relation(NEAR, left[:, j], right[:, j])


def cut(first: Marks, second: Marks) -> Iterator[Relation]:
    """The second is the first without its first or its last steps, or the other way round.

    One step is missing, or at most eight are left.
    """
    for end in ("front", "back"):
        yield Relation(OVERLAP, getattr(first, end), second.exact)
        yield Relation(OVERLAP, first.exact, getattr(second, end))
    for name in ("starts", "ends"):
        left, right = (_columns(getattr(one, name)) for one in (first, second))
        for j in range(left.shape[1]):
            yield Relation(OVERLAP, left[:, j], short(second.exact).astype(np.uint64))
            yield Relation(OVERLAP, short(first.exact).astype(np.uint64), right[:, j])


def displaced(first: Marks, second: Marks) -> Iterator[Relation]:
    """The second lies further along one series: codes of other places."""
    pairs = [("front", "back"), ("starts", "ends"), ("heads", "tails")]
    for one, other in pairs + [(b, a) for a, b in pairs]:
        left, right = _columns(getattr(first, one)), _columns(getattr(second, other))
        for j in range(min(left.shape[1], right.shape[1])):
            yield Relation(OVERLAP, left[:, j], right[:, j])
    for shift in _common_shifts(first, second):
        price = float(np.log(2.0 * abs(shift) * (1.0 + np.log(_LONGEST))))
        yield Relation(OVERLAP, _placed(first, 0), _placed(second, shift), price, abs(shift))


def in_other_units(first: Traces, second: Traces) -> Iterator[Relation]:
    """Displaced windows, whatever each was shifted and scaled by."""
    if first.course is not None and second.course is not None:
        yield from displaced(first.course, second.course)


Neighbours = Callable[[Traces, Traces], Near]
# Units of the first do not recur. What their neighbourhoods are, they alone decide.
NEIGHBOURS: tuple[Neighbours, ...] = (nearest, partial(nearest, apart=2), closest)


def counts(codes: Prints) -> Counts:
    """How often each code occurs; of very many codes, a part."""
    found: Counts = np.unique(_few(codes, len(codes)), return_counts=True)[1]
    return found


def both_counts(relation: Relation, few: bool = True) -> tuple[Counts, Counts]:
    """How often each code occurs on either side; of very many codes, a part."""
    size = len(relation.first) + len(relation.second) if few else 0
    first, second = (_few(codes, size) for codes in (relation.first, relation.second))
    both = np.concatenate([first, second])
    if _all_differ(both):
        mine = (np.arange(len(both)) < len(first)).astype(np.int64)
        return mine, 1 - mine
    values, place = np.unique(both, return_inverse=True)
    return (
        np.bincount(place[: len(first)], minlength=len(values)),
        np.bincount(place[len(first) :], minlength=len(values)),
    )


def among(codes: Prints, known: Prints) -> NDArray[np.bool_]:
    """(n,) which codes are known ones."""
    if not len(known):
        return np.zeros(len(codes), dtype=np.bool_)
    known = np.sort(known)
    at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    found: NDArray[np.bool_] = known[at] == codes
    return found


def _all_differ(codes: Prints) -> bool:
    codes = np.sort(codes)
    return not bool((codes[1:] == codes[:-1]).any())


def _few(codes: Prints, size: int) -> Prints:
    """Codes but 0, which stands for none; of very many those with a hash that begins with zeros."""
    codes = codes[codes != 0]
    if size <= 2 * _CODES:
        return codes
    bits = int(np.log2(size / _CODES))
    return codes[scrambled(codes ^ np.uint64(0x5851F42D4C957F2D)) >> np.uint64(64 - bits) == 0]


def _subsets(size: int) -> list[list[int]]:
    """Parts that are kept: one, a half, all but one."""
    all_ = list(range(size))
    halves = [all_[: size // 2], all_[size // 2 :]]
    return [[i] for i in all_] + halves + [[j for j in all_ if j != i] for i in all_]


def _parts(blocks: NDArray[Any], chosen: Sequence[int]) -> Prints:
    codes = np.full(len(blocks), len(chosen) + 100 * chosen[0], dtype=np.uint64)
    for i in chosen:
        codes = codes * np.uint64(0x9E3779B97F4A7C15) + blocks[:, i]
    return scrambled(codes)


def _spread(numbers: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """(4,) the spread of projections, a power of two; None where nothing spreads."""
    low, high = np.percentile(numbers.astype(np.float64), [16, 84], axis=0)
    spread = (high - low) / 2.0
    spread = np.where(spread > 0.0, spread, numbers.astype(np.float64).std(axis=0))
    if not (spread > 0.0).any():
        return None
    exponents = np.log2(np.where(spread > 0.0, spread, 1.0)).round()
    found: NDArray[np.float64] = np.exp2(np.clip(exponents, -900, 900))
    return found


def _cells(numbers: NDArray[np.float32], width: NDArray[np.float64], offset: float) -> Prints:
    codes = np.zeros(len(numbers), dtype=np.uint64)
    for i in range(_PROJECTIONS):
        cells = np.floor(np.clip(numbers[:, i] / width[i] + offset, -(2.0**60), 2.0**60))
        codes = scrambled(codes + cells.astype(np.int64).view(np.uint64) + np.uint64(i + 1))
    return codes


def _columns(prints: NDArray[Any]) -> Prints:
    return (prints[:, None] if prints.ndim == 1 else prints).astype(np.uint64)


def _placed(traces: Marks, shift: int) -> Prints:
    place = (traces.place.astype(np.int64) + shift).astype(np.uint64)
    return scrambled(traces.anchor.astype(np.uint64) ^ scrambled(place + np.uint64(1)))


def _common_shifts(first: Marks, second: Marks) -> list[int]:
    """The commonest, between neighbours in the order of anchors, both ways round."""
    key = np.concatenate([first.anchor, second.anchor])
    place = np.concatenate([first.place, second.place]).astype(np.int64)
    order = np.lexsort((place, key))
    key, place = key[order], place[order]
    apart = (key[1:] == key[:-1]) & (place[1:] > place[:-1])
    shifts, times = np.unique((place[1:] - place[:-1])[apart], return_counts=True)
    common = shifts[np.argsort(-times, kind="stable")][:_SHIFTS]
    return [int(sign * shift) for shift in common for sign in (1, -1)]
