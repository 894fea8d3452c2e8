"""From a network and sequences to the margins of every unit, streamed, and their risks.

A unit is one sequence, or one group of sequences (a document). A unit's loss is read at one step,
at the last valid step, or averaged over valid steps, then averaged over the unit's sequences.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recert.errors import InputError
from recert.networks.forward import Predictor, margins_of
from recert.samples.sample import Checked, Raw, Sample, unit_numbers
from recert.utils.validation import Brief

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class MarginTable(Brief):
    """Margins and the weight that each has in the mean over units.

    Args:
        margins: (n,) float64, every entry that a unit's loss reads.
        m: number of units.
        unit: what a unit is, for people.
        weights: (n,) with sum 1, or None when every entry weighs 1/m.
        slack: η ≥ |computed margin − margin of the real-number network|, in the margin's units.
    """

    margins: Array
    m: int
    unit: str = "sequence"
    weights: Array | None = None
    slack: float = 0.0

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.margins, kind="stable")

    @cached_property
    def sorted_margins(self) -> Array:
        """Margins in rising order."""
        return self.margins[self._order]

    @cached_property
    def _prefix(self) -> tuple[Array, Array]:
        """Prefix sums of weights and of weight·margin, in rising order of margin, from 0."""
        w = np.full(len(self.margins), 1.0 / self.m) if self.weights is None else self.weights
        w = w[self._order]
        zero = np.zeros(1)
        return (
            np.concatenate([zero, np.cumsum(w)]),
            np.concatenate([zero, np.cumsum(w * self.sorted_margins)]),
        )

    @property
    def sum_error(self) -> float:
        """What a running sum of the weights may lose: n roundings of a sum that is at most 1."""
        return (len(self.margins) + 4) * 2.0**-52

    def hard_risk(self, gamma: ArrayLike) -> Array:
        """R̂_γ^hard = mean 1[M ≤ γ], counted as M_float ≤ γ + η so that it never errs low."""
        limit = np.asarray(gamma, dtype=float) + self.slack
        count = np.searchsorted(self.sorted_margins, limit, side="right")
        if self.weights is None:
            return np.asarray(count / self.m)
        return np.where(count == 0, 0.0, np.minimum(1.0, self._prefix[0][count] + self.sum_error))

    def ramp_risk(self, gamma: ArrayLike) -> Array:
        """R̂_γ = mean ℓ_γ(−M), with every margin lowered by η; rounded up."""
        g = np.asarray(gamma, dtype=float)
        if math.isinf(self.slack):
            return np.ones_like(g)
        low = np.searchsorted(self.sorted_margins, self.slack, side="right")
        high = np.searchsorted(self.sorted_margins, g + self.slack, side="right")
        weight, moment = self._prefix
        inside = weight[high] - weight[low]
        sloped = inside - (moment[high] - moment[low] - self.slack * inside) / g
        scale = np.abs(self.sorted_margins[[0, -1]]).max() / g
        below = low / self.m if self.weights is None else weight[low]
        return np.clip(below + sloped + 2.0 * self.sum_error * (1.0 + scale), 0.0, 1.0)

    def share(self, lost: NDArray[np.bool_]) -> float:
        """The mean over units of entries (n,) that are 0 or 1, rounded up."""
        if self.weights is None:
            return int(lost.sum()) / self.m
        return min(1.0, float(self.weights[lost].sum()) + self.sum_error) if lost.any() else 0.0

    @property
    def certain_error(self) -> float:
        """A lower bound on the empirical error of the real-number network: mean 1[M ≤ −η]."""
        if math.isinf(self.slack):
            return 0.0
        wrong = self.margins <= -self.slack
        if self.weights is None:
            return int(wrong.sum()) / self.m
        return max(0.0, float(self.weights[wrong].sum()) - self.sum_error)

    @cached_property
    def error(self) -> float:
        """Empirical error: M ≤ 0, ties counted as errors, margins as computed (no slack)."""
        wrong = self.margins <= 0.0
        if self.weights is None:
            return int(wrong.sum()) / self.m
        return min(1.0, float(self.weights[wrong].sum()))

    @property
    def zero_one(self) -> bool:
        """Whether every unit's loss is 0 or 1 (one entry per unit)."""
        return self.weights is None

    def errors(self) -> int:
        """Number of wrong units, when losses are 0 or 1."""
        return int((self.margins <= 0.0).sum())

    def with_slack(self, slack: float) -> MarginTable:
        """The same margins with another bound on what float64 did to them."""
        return MarginTable(self.margins, self.m, self.unit, self.weights, slack)


def announce(progress: Any, count: int) -> None:
    """Tell a progress callback that can be told (`recert.certify`) how many sequences will come."""
    expect = getattr(progress, "expect", None)
    if expect is not None:
        expect(count)


def margin_table(
    sample: Sample, predictor: Predictor, *, groups: Any = None, progress: Any = None
) -> MarginTable:
    """Margins of every unit of a sample.

    Args:
        sample: validated sequences and labels.
        predictor: (x, lengths, at) → logits.
        groups: (m,) any hashable ids; sequences with the same id are one unit.
        progress: called with the number of sequences done after each batch, or None.

    Raises:
        InputError: logits are not finite, groups do not match the sequences.
    """
    parts, counts = [], []
    for margins, count in _stream(sample, predictor):
        parts.append(margins)
        counts.append(count)
        if progress is not None:
            progress(len(count))
    margins, count = np.concatenate(parts), np.concatenate(counts)
    sequences = len(count)
    unit = "sequence" if groups is None else "group of sequences"
    units = unit_numbers(groups, sequences)
    m = int(units.max()) + 1
    sizes = np.bincount(units, minlength=m)
    if sample.reading.at != "average" and bool(np.all(sizes == 1)):
        return MarginTable(margins, m, unit)
    weights = np.repeat(1.0 / (m * sizes[units] * count), count)
    return MarginTable(margins, m, unit, weights / math.fsum(weights))


def _stream(sample: Sample, predictor: Predictor) -> Iterator[tuple[Array, NDArray[np.int64]]]:
    """Margins and their number per sequence, batch by batch, on every core, in order."""
    at = sample.reading.at

    def work(raw: Raw) -> tuple[Checked, Array, NDArray[np.int64]]:
        checked = sample.check(raw)
        batch = checked.batch
        margins = margins_of(predictor(batch.x, batch.lengths, at), batch.labels)
        if at != "average":
            return checked, _finite(margins), np.ones(len(batch.x), dtype=np.int64)
        valid = np.arange(batch.x.shape[1])[None, :] < batch.lengths[:, None]
        return checked, _finite(margins[valid]), batch.lengths

    def done(
        future: Future[tuple[Checked, Array, NDArray[np.int64]]],
    ) -> tuple[Array, NDArray[np.int64]]:
        checked, margins, count = future.result()
        sample.absorb(checked)
        return margins, count

    workers = max(1, min(4, os.cpu_count() or 1))
    waiting: deque[Future[tuple[Checked, Array, NDArray[np.int64]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for raw in sample.raw():
                waiting.append(pool.submit(work, raw))
                if len(waiting) > 2 * workers:
                    yield done(waiting.popleft())
            while waiting:
                yield done(waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _finite(margins: Array) -> Array:
    if not np.isfinite(margins).all():
        raise InputError(
            "the network's outputs overflow on this sample, so it has no margins; scale its "
            "inputs or weights down"
        )
    return margins
