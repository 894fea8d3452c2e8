"""Which units the prior has seen, and whether they stay out of the bound.

A sample is cut after its first m_0 units: those made the prior, the rest counts for the bound. The
digest of the first part says that it is the one that the prior speaks of. What a digest cannot see,
a unit of the first part that comes again in the rest, shows in traces; and a prior that was
in truth made from more units than it says errs less on the first ones of the rest than later.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import InputError
from recert.samples.leakage import Between, Traces, Within, between, within
from recert.samples.sample import Batch, Reading, Sample, SampleDigest, unit_numbers, units_digest

Index = NDArray[np.int64]

# Deviations that the prior's errors on the rest may show between its beginning and its end.
DEVIATIONS = 6.0


@dataclass(frozen=True, eq=False)
class SamplePart:
    """One part of a sample: checked sequences, their units, and the traces by which they are known.

    Attributes:
        batch: sequences, labels, lengths.
        units: number of each sequence's unit, 0 up to ``m`` − 1.
        m: number of units.
        traces: by which sequences that recur are found.
    """

    batch: Batch
    units: Index
    m: int
    traces: Traces

    @cached_property
    def recurring(self) -> Within:
        """How these units recur among themselves."""
        return within(self.traces, self.units)


@dataclass(frozen=True, eq=False)
class Roles:
    """A sample in its two parts.

    Attributes:
        seen: the units that made the prior.
        rest: the others, which the bound counts.
        sample: both together, read: its digest, its longest sequence, its largest input.
    """

    seen: SamplePart
    rest: SamplePart
    sample: Sample

    @cached_property
    def shared(self) -> Between:
        """Sequences of the rest that occur in the prior's part, and whether chance explains it."""
        seen, rest = self.seen, self.rest
        return between(
            seen.traces, rest.traces, seen.units, rest.units, seen.recurring, rest.recurring
        )


def assign_roles(
    sequences: Any,
    labels: Any,
    reading: Reading,
    *,
    m_0: int,
    digest: str | None,
    lengths: Any = None,
    groups: Any = None,
) -> Roles:
    """Check the whole sample and cut it after its first m_0 units.

    Args:
        sequences: (m, T, d_x) reals or (m, T) tokens, the whole sample in its order.
        labels: (m,) or (m, T) classes.
        reading: how the sample is read.
        m_0: units that the prior has seen.
        digest: what these units' digest must be; None asks nothing.
        lengths: (m,) valid steps, or None.
        groups: (m,) ids; sequences of one id are one unit, in the order of first occurrence.

    Raises:
        InputError: the first units are others than those that the prior was made from, nothing is
            left for the bound, or the sample is not usable.
    """
    everything, sample = read(sequences, labels, reading, lengths=lengths, groups=groups)
    whole, units, total = everything.batch, everything.units, everything.m
    if total <= m_0:
        raise InputError(
            f"the sample has {total} units and the prior has seen {m_0}, so none is left for the "
            "bound; pass the whole sample, the prior's part first"
        )
    first = units < m_0
    seen, rest = (_part(whole, units, sample, mask) for mask in (first, ~first))
    if digest is not None and part_digest(seen) != digest:
        raise InputError(
            f"the first {m_0} units of this sample are not those that the prior was made from; "
            "pass the whole sample in the order of training, with the same labels, lengths, "
            "groups, at and max_length"
        )
    return Roles(seen, rest, sample)


def read(
    sequences: Any,
    labels: Any,
    reading: Reading,
    *,
    lengths: Any = None,
    groups: Any = None,
    what: str = "sequences",
) -> tuple[SamplePart, Sample]:
    """A sample in one part, and what was seen on the way."""
    if labels is None:
        raise InputError(f"a posterior is certified on arrays: pass {what} and labels, whole")
    sample = Sample(sequences, labels, reading, lengths=lengths, track=True, what=what)
    batches = list(sample)
    whole = Batch(
        np.concatenate([b.x for b in batches]),
        np.concatenate([b.labels for b in batches]),
        np.concatenate([b.lengths for b in batches]),
    )
    units = unit_numbers(groups, len(whole.x))
    return _part(whole, units, sample, np.ones(len(units), dtype=bool)), sample


def _part(whole: Batch, units: Index, sample: Sample, mask: NDArray[np.bool_]) -> SamplePart:
    own = units[mask]
    return SamplePart(
        take(whole, mask),
        own - own.min(initial=own[0]),
        int(own.max()) - int(own.min()) + 1,
        sample.traces[mask],
    )


def take(batch: Batch, rows: NDArray[Any]) -> Batch:
    """Some rows of a batch."""
    return Batch(batch.x[rows], batch.labels[rows], batch.lengths[rows])


def part_digest(part: SamplePart) -> str:
    """SHA-256 of units in their order: all valid steps, labels and lengths, and who goes with whom.

    Neither padding nor the number type that inputs came in matters.
    """
    digest = SampleDigest()
    digest.update(part.batch.x, part.batch.labels, part.batch.lengths)
    both = f"{digest.hexdigest()}\n{units_digest(part.units)}"
    return hashlib.sha256(both.encode()).hexdigest()


def drift(losses: NDArray[np.float64]) -> float:
    """How much less a predictor loses on the first of these units than later, in deviations.

    Args:
        losses: (m,) in [0, 1], of units in their order, by a predictor that is fixed.

    Returns:
        The largest deviation, over beginnings of a share of 1/64, 2/64, …, of (later mean − mean of
        the beginning); units in random order stay below `DEVIATIONS` but once in 10^7.
    """
    m = len(losses)
    cuts = np.unique(np.arange(1, 64) * m // 64)
    cuts = cuts[(cuts >= 10) & (cuts <= m - 10)]
    mean = float(losses.mean())
    spread = math.sqrt(max(mean * (1.0 - mean), 10.0 / m))
    if not len(cuts):
        return 0.0
    sums = np.cumsum(losses)
    gaps = (sums[-1] - sums[cuts - 1]) / (m - cuts) - sums[cuts - 1] / cuts
    return float((gaps / (spread * np.sqrt(1.0 / cuts + 1.0 / (m - cuts)))).max())
