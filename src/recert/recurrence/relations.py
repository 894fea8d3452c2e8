"""What two sequences may have in common, as codes that agree, and how often codes occur."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.recurrence.evidence import Counts
from recert.recurrence.traces import BLOCKS, NUMBERS, Index, Prints, Traces, scrambled

Mask = NDArray[np.bool_]

# The kinds of what may be in common.
REPEATED, NEAR, OVERLAP = "repeated", "near", "overlap"
# Cells for projections, in halvings of their spread.
_LEVELS = (2, 4, 6, 9, 12, 16)
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


def nearest(first: Traces, second: Traces) -> Index:
    """(n',) for each of the second one of the first that differs in one part of eight, or −1."""
    found = np.full(len(second), -1, dtype=np.int64)
    fresh = ~np.isin(second.exact, first.exact)
    if not len(first):
        return found
    for chosen in _subsets()[-BLOCKS:]:
        values, places = np.unique(_parts(first, chosen), return_index=True)
        missing = np.flatnonzero(fresh & (found < 0))
        codes = _parts(second[missing], chosen)
        at = np.minimum(np.searchsorted(values, codes), len(values) - 1)
        found[missing] = np.where(values[at] == codes, places[at], -1)
    return found


def alike(first: Traces, second: Traces) -> Iterator[Relation]:
    """Sequences that are equal in part, or differ by little: one code for both sides."""
    for chosen in _subsets():
        yield Relation(NEAR, _parts(first, chosen), _parts(second, chosen))
    spread = _spread(np.concatenate([first.numbers, second.numbers]))
    if spread is None:
        return
    for level in _LEVELS:
        for offset in (0.0, 0.5):
            cell = spread * 2.0**-level
            one, other = (_cells(t.numbers, cell, offset) for t in (first, second))
            yield Relation(NEAR, one, other)


def a_step_off(first: Traces, second: Traces) -> Iterator[Relation]:
    """The second is the first without its first or its last step, or the other way round."""
    for cut in ("front", "back"):
        yield Relation(OVERLAP, getattr(first, cut), second.exact)
        yield Relation(OVERLAP, first.exact, getattr(second, cut))


def displaced(first: Traces, second: Traces) -> Iterator[Relation]:
    """The second lies further along one series: codes of other places."""
    pairs = [("front", "back"), ("starts", "ends"), ("heads", "tails")]
    for one, other in pairs + [(b, a) for a, b in pairs]:
        left, right = _columns(getattr(first, one)), _columns(getattr(second, other))
        for j in range(min(left.shape[1], right.shape[1])):
            yield Relation(OVERLAP, left[:, j], right[:, j])
    for shift in _common_shifts(first, second):
        price = float(np.log(2.0 * abs(shift) * (1.0 + np.log(_LONGEST))))
        yield Relation(OVERLAP, _placed(first, 0), _placed(second, shift), price, abs(shift))


def counts(codes: Prints) -> Counts:
    """How often each code occurs; of very many codes, a part."""
    found: Counts = np.unique(_few(codes, len(codes)), return_counts=True)[1]
    return found


def both_counts(relation: Relation, few: bool = True) -> tuple[Counts, Counts]:
    """How often each code occurs on either side; of very many codes, a part."""
    size = len(relation.first) + len(relation.second) if few else 0
    first, second = (_few(codes, size) for codes in (relation.first, relation.second))
    values, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    return (
        np.bincount(place[: len(first)], minlength=len(values)),
        np.bincount(place[len(first) :], minlength=len(values)),
    )


def _few(codes: Prints, size: int) -> Prints:
    """Codes but 0, which stands for none; of very many those with a hash that begins with zeros."""
    codes = codes[codes != 0]
    if size <= 2 * _CODES:
        return codes
    bits = int(np.log2(size / _CODES))
    return codes[scrambled(codes ^ np.uint64(0x5851F42D4C957F2D)) >> np.uint64(64 - bits) == 0]


def _subsets() -> list[list[int]]:
    """Parts that are kept: one of eight, a half, seven of eight."""
    all_ = list(range(BLOCKS))
    halves = [all_[: BLOCKS // 2], all_[BLOCKS // 2 :]]
    return [[i] for i in all_] + halves + [[j for j in all_ if j != i] for i in all_]


def _parts(traces: Traces, chosen: list[int]) -> Prints:
    codes = np.full(len(traces), len(chosen) + 100 * chosen[0], dtype=np.uint64)
    for i in chosen:
        codes = codes * np.uint64(0x9E3779B97F4A7C15) + traces.blocks[:, i]
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
    for i in range(NUMBERS):
        cells = np.floor(np.clip(numbers[:, i] / width[i] + offset, -(2.0**60), 2.0**60))
        codes = scrambled(codes + cells.astype(np.int64).view(np.uint64) + np.uint64(i + 1))
    return codes


def _columns(prints: NDArray[Any]) -> Prints:
    return (prints[:, None] if prints.ndim == 1 else prints).astype(np.uint64)


def _placed(traces: Traces, shift: int) -> Prints:
    place = (traces.place.astype(np.int64) + shift).astype(np.uint64)
    return scrambled(traces.anchor.astype(np.uint64) ^ scrambled(place + np.uint64(1)))


def _common_shifts(first: Traces, second: Traces) -> list[int]:
    """The commonest, between neighbours in the order of anchors, both ways round."""
    key = np.concatenate([first.anchor, second.anchor])
    place = np.concatenate([first.place, second.place]).astype(np.int64)
    order = np.lexsort((place, key))
    key, place = key[order], place[order]
    apart = (key[1:] == key[:-1]) & (place[1:] > place[:-1])
    shifts, times = np.unique((place[1:] - place[:-1])[apart], return_counts=True)
    common = shifts[np.argsort(-times, kind="stable")][:_SHIFTS]
    return [int(sign * shift) for shift in common for sign in (1, -1)]
