"""Units of one role that recur: repeated, nearly repeated, or overlapping."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recert.recurrence.evidence import ROUNDING, limit, mean_of, too_even, too_mixed
from recert.recurrence.relations import (
    NEAR,
    OVERLAP,
    REPEATED,
    alike,
    both_counts,
    counts,
    displaced,
    nearest,
)
from recert.recurrence.traces import Index, Traces, scrambled

# So many sequences are compared with as many for all that is near.
MOST = 1 << 15
# Of more than this many a random part is looked at for what is near or overlaps.
MANY = 1 << 17
# Of different sequences of reals so many have a part that no other has, or they are no reals.
_ALONE = 0.9


@dataclass(frozen=True)
class Within:
    """How units of one role recur.

    Attributes:
        sequences: how many there are.
        distinct: different ones among them.
        excess: nats by which the evidence against independent draws exceeds its limit.
        kind: what recurs (`relations`), or "" where nothing does.
        times: how often units were repeated, where that is what was found; else 1.
        by: the shift in steps, or 0 where none is known.
    """

    sequences: int
    distinct: int
    excess: float
    kind: str = ""
    times: int = 1
    by: int = 0

    @property
    def suspicious(self) -> bool:
        """Whether units recur as independent draws do not."""
        return self.excess > 0.0

    @property
    def blatant(self) -> bool:
        """Whether it is so however numbers are rounded."""
        return self.excess > ROUNDING


def within(traces: Traces, units: Index | None = None) -> Within:
    """Whether units recur more evenly, or at other places, than independent draws would.

    Args:
        traces: of the sequences.
        units: (n,) the unit of each sequence; None where each is its own.
    """
    own = traces.of_units(units)
    m, distinct = len(own), len(np.unique(traces.exact))
    found: list[tuple[float, str, int, int]] = []
    for codes in (own.exact, own.labelled):
        log, times = too_even(np.unique(codes, return_counts=True)[1], m)
        found.append((log, REPEATED, times, 0))
    some = own.some(MANY)
    for relation in alike(some, some):
        log, times = too_even(counts(relation.first), m)
        found.append((log, NEAR, times, 0))
    half = scrambled(some.exact) >> np.uint64(63) == 0
    first, second = some[half], some[~half]
    log, times = falls(first[:MOST], second[:MOST])
    found.append((log, NEAR, times + 1, 0))
    for relation in displaced(first, second):
        weighed = too_mixed(*both_counts(relation)) - relation.price
        found.append((weighed, OVERLAP, 1, relation.by))
    excess = mean_of([one[0] for one in found]) - limit(m)
    if excess <= 0.0 and not _reals_recur(own):
        return Within(len(traces), distinct, excess)
    if excess <= 0.0:
        return Within(len(traces), distinct, math.inf, REPEATED)
    _, kind, times, by = max(found)
    return Within(len(traces), distinct, excess, kind, times, by)


def falls(known: Traces, others: Traces) -> tuple[float, int]:
    """Evidence that units fall too evenly on the neighbourhoods of what is known."""
    near = nearest(known, others)
    times = np.unique(near[near >= 0], return_counts=True)[1]
    zeros = len(np.unique(known.exact)) - len(times)
    return too_even(times, max(1, len(others)), zeros=zeros)


def of_reals(own: Traces) -> Traces:
    """Sequences that would not recur by chance: telling reals, if a part of nearly each is its own.

    Where no eighth of them tells the different ones apart, as for looked-up tokens, there are none.
    """
    telling = own[own.telling]
    first = np.unique(telling.exact, return_index=True)[1]
    parts = telling.blocks[first].T
    alone = max((len(np.unique(part)) for part in parts), default=0)
    return telling if len(first) and alone >= _ALONE * len(first) else telling[:0]


def _reals_recur(own: Traces) -> bool:
    """Whether most of the different sequences of telling reals occur more than once."""
    times = np.unique(of_reals(own).exact, return_counts=True)[1]
    return len(times) > 0 and 2 * int((times == 1).sum()) < len(times)
