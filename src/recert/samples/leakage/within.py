"""Units of one role that recur: repeated, nearly repeated, or overlapping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from recert.samples.leakage.evidence import (
    Counts,
    Judged,
    Weight,
    limit,
    mean_of_groups,
    too_even,
    too_mixed,
)
from recert.samples.leakage.relations import (
    NEAR,
    NEIGHBOURS,
    OVERLAP,
    REPEATED,
    Neighbours,
    Relation,
    alike,
    both_counts,
    changed,
    counts,
    cut,
    displaced,
    in_other_units,
)
from recert.samples.leakage.stretches import Index, scrambled
from recert.samples.leakage.traces import Traces

# So many sequences are compared with as many for all that is near.
MOST = 1 << 15
# Of more than this many a random part is looked at for what is near or overlaps.
MANY = 1 << 17
# Of different sequences of reals so many have a part that no other has, or they are no reals.
_ALONE = 0.9


@dataclass(frozen=True)
class Within(Judged):
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


def within(traces: Traces, units: Index | None = None) -> Within:
    """Whether units recur more evenly, or at other places, than independent draws would.

    Args:
        traces: of the sequences.
        units: (n,) the unit of each sequence; None where each is its own.
    """
    own = traces.of_units(units)
    distinct = len(np.unique(traces.exact))
    log, top = mean_of_groups(_groups(own))
    excess = log - limit(len(own))
    if excess <= 0.0 and not _reals_recur(own):
        return Within(len(traces), distinct, excess)
    if excess <= 0.0:
        return Within(len(traces), distinct, math.inf, REPEATED)
    return Within(len(traces), distinct, excess, top.kind, top.times, top.by)


def _groups(own: Traces) -> Iterator[Iterable[Weight]]:
    """Evidence of each sort, of which none is diluted by the number of another."""
    m, some = len(own), own.some(MANY)
    all_ = (np.unique(codes, return_counts=True)[1] for codes in (own.exact, own.labelled))
    yield (_even(found, m, REPEATED) for found in all_)
    for relations in (alike(some, some), changed(some, some)):
        yield (_even(counts(relation.first), m, NEAR) for relation in relations)
    half = scrambled(some.exact) >> np.uint64(63) == 0
    first, second = some[half], some[~half]
    for look in NEIGHBOURS:
        yield falls(first[:MOST], second[:MOST], look)
    yield (_mixed(relation) for relation in (*displaced(first, second), *cut(first, second)))
    yield (_mixed(relation) for relation in in_other_units(first, second))


def _even(found: Counts, m: int, kind: str) -> Weight:
    log, times = too_even(found, m)
    return Weight(log, kind, times)


def _mixed(relation: Relation) -> Weight:
    log = too_mixed(*both_counts(relation)) - relation.price
    return Weight(log, OVERLAP, 1, relation.by)


def falls(known: Traces, others: Traces, look: Neighbours) -> list[Weight]:
    """Evidence that units fall too evenly on the neighbourhoods of what is known.

    On all of them, and on those of units that have no neighbour among what is known.
    """
    known = known[np.unique(known.exact, return_index=True)[1]]
    near, single = look(known, others)
    at, times = np.unique(near[near >= 0], return_counts=True)
    found = []
    for who in (np.ones(len(known), dtype=np.bool_), single):
        hits = times[who[at]]
        log, k = too_even(hits, max(1, len(others)), zeros=int(who.sum()) - len(hits))
        found.append(Weight(log, NEAR, k + 1))
    return found


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
    reals = of_reals(own)
    times = np.unique(reals.exact, return_counts=True)[1]
    return 2 * int((times == 1).sum()) < len(times) and not few_valued(reals)


def few_valued(reals: Traces) -> bool:
    """Whether most of the different sequences have a stretch in common with another.

    As curves at a few whole phases: these recur among independent draws.
    """
    first = np.unique(reals.exact, return_index=True)[1]
    _, place, sharing = np.unique(reals.anchor[first], return_inverse=True, return_counts=True)
    return 2 * int((sharing[place] > 1).sum()) > len(first)
