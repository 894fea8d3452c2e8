"""Units of one role that occur in another: as they are, nearly, or a shift apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.samples.leakage.evidence import (
    Counts,
    Judged,
    Weight,
    limit,
    mean_of_groups,
    too_even,
    too_mixed,
    too_often,
)
from recert.samples.leakage.relations import (
    NEAR,
    NEIGHBOURS,
    OVERLAP,
    REPEATED,
    Relation,
    alike,
    among,
    both_counts,
    changed,
    cut,
    displaced,
    in_other_units,
)
from recert.samples.leakage.stretches import Index
from recert.samples.leakage.traces import Traces, joined
from recert.samples.leakage.within import MANY, MOST, Within, falls, few_valued, of_reals, within


@dataclass(frozen=True)
class Between(Judged):
    """How units held out recur in the sample.

    Attributes:
        shared: held-out sequences that occur in the sample.
        held_out: how many there are.
        excess: nats by which the evidence against roles kept apart exceeds its limit.
        kind: what is shared (`relations`), or "" where nothing is.
    """

    shared: int
    held_out: int
    excess: float
    kind: str


def between(
    sample: Traces,
    held_out: Traces,
    units: Index | None = None,
    held_units: Index | None = None,
    of_sample: Within | None = None,
    of_held: Within | None = None,
) -> Between:
    """Compare roles.

    Args:
        sample: traces of the sample's sequences.
        held_out: of the held-out ones.
        units: (n,) the unit of each sequence of the sample; None where each is its own.
        held_units: likewise.
        of_sample: what recurs in the sample itself, where that is known already.
        of_held: likewise.
    """
    if of_sample is None:
        of_sample = within(sample, units)
    if of_held is None:
        of_held = within(held_out, held_units)
    own, other = sample.of_units(units), held_out.of_units(held_units)
    # How often either was repeated says nothing of what is shared, and is undone.
    near = of_sample.times if of_sample.kind == NEAR else 1
    own = own if near > 1 else own.once(of_sample.times)
    other = other.once(of_held.times if of_held.kind == REPEATED else 1)
    log, top = mean_of_groups((*_counted(sample, own, other, near), *_dealt(own, other)))
    excess = log - limit(len(own), len(other))
    kind = top.kind if excess > 0.0 else ""
    if not kind and _reals_shared(sample, units, held_out, of_sample):
        excess, kind = math.inf, REPEATED
    shared = int(np.isin(held_out.exact, sample.exact).sum())
    return Between(shared, len(held_out), excess, kind)


Groups = Iterator[Iterable[Weight]]


def _counted(sample: Traces, own: Traces, other: Traces, near: int) -> Groups:
    """Whether codes occur in both roles too often, and too evenly in the second.

    ``near``: how often the sample was repeated with small changes.
    """
    n, counted = len(other), _counts_of(own, other)
    for group in counted:
        yield [_in_both(*one, near) for one in group]
    for group in counted if own is sample else _counts_of(sample, other):
        yield [_on_codes(*one, n) for one in group]
    for look in NEIGHBOURS:
        yield falls(sample[:MOST], other[:MOST], look)


Counted = tuple[Relation, Counts, Counts]


def _counts_of(first: Traces, second: Traces) -> list[list[Counted]]:
    few, some = first.some(MANY), second.some(MANY)
    whole = Relation(REPEATED, first.exact, second.exact)
    related = (alike, changed, displaced, in_other_units)
    found = [[(r, *both_counts(r)) for r in relations(few, some)] for relations in related]
    return [[(whole, *both_counts(whole, few=False))], *found]


def _in_both(relation: Relation, first: Counts, second: Counts, near: int) -> Weight:
    if relation.kind == OVERLAP:
        return Weight(too_mixed(first, second) - relation.price, OVERLAP)
    once = -(-first // (near if relation.kind == NEAR else 1))
    rate = int(once.sum()) / int(first.sum()) if first.any() else 1.0
    share = len(relation.second) / (rate * len(relation.first) + len(relation.second))
    return Weight(too_mixed(once, second, share), relation.kind)


def _on_codes(relation: Relation, first: Counts, second: Counts, n: int) -> Weight:
    fallen = second[first > 0]
    log, _ = too_even(fallen[fallen > 0], n, zeros=int((fallen == 0).sum()))
    return Weight(log - relation.price, relation.kind)


def _dealt(own: Traces, other: Traces) -> Groups:
    """Whether held-out units are related to a half of the sample oftener than the other half is."""
    order = np.random.default_rng(len(own)).permutation(len(own))
    half = len(own) // 2
    known, rest = own[order[:half][:MOST]], own[order[half:][: MOST // 2]]
    known = known[np.unique(known.exact, return_index=True)[1]]
    some = other[np.random.default_rng(len(other)).permutation(len(other))[: MOST // 2]]
    pool = joined([rest, some])
    held = np.arange(len(pool)) >= len(rest)
    share = len(some) / len(pool)
    fresh = ~np.isin(pool.exact, known.exact)

    def weighed(hits: NDArray[np.bool_], kind: str, price: float = 0.0) -> Weight:
        return Weight(too_often(int((hits & held).sum()), int(hits.sum()), share) - price, kind)

    def related(relation: Relation) -> Weight:
        hits = fresh & (relation.second != 0) & among(relation.second, relation.first)
        return weighed(hits, relation.kind, relation.price)

    for look in NEIGHBOURS:
        yield [weighed(look(known, pool)[0] >= 0, NEAR)]
    for relations in (alike, changed, cut, displaced, in_other_units):
        yield [related(relation) for relation in relations(known, pool)]


def _reals_shared(sample: Traces, units: Index | None, held_out: Traces, of_sample: Within) -> bool:
    """Whether telling reals that do not recur among draws of the sample are shared."""
    if not np.isin(held_out.exact[held_out.telling], sample.exact).any():
        return False
    both = of_reals(joined([sample, held_out]))
    if not np.isin(held_out.exact[np.isin(held_out.exact, both.exact)], sample.exact).any():
        return False
    if of_sample.suspicious:
        return True
    if few_valued(both):
        return False
    telling = sample.telling
    known = sample.exact[telling]
    if units is not None:
        pairs = np.stack([known, units[telling].astype(np.uint64)], axis=1)
        known = np.unique(pairs, axis=0)[:, 0]
    return len(np.unique(known)) == len(known)
