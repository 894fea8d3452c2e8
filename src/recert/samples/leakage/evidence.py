"""How unlikely counts are under independent draws, whatever the distribution (theory 6, "Roles").

Everything here is the logarithm of an e-value: a non-negative number whose mean is at most 1 when
units are independent draws, their number being Poisson. Means of e-values are e-values, and one
exceeds 1/α with probability at most α (Markov). That the number of units is fixed costs a factor
e√m (`limit`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Counts = NDArray[np.int64]
Array = NDArray[np.float64]

# The probability of a false alarm, for each of the rows that `within` and `between` decide.
ALPHA = 1e-6
# Nats that the order of sums may move: what a verifier, with sums of its own, must not hinge on.
ROUNDING = 1e-6
# Shares of an e-value that are staked; none is lost whole.
_STAKES = np.array([0.999, 0.5, 0.2, 0.07, 0.02, 0.005, 0.001])
# Multiples that are looked for, and how many of the commonest counts are looked at.
_MULTIPLES, _COMMONEST = np.arange(2, 33), 16


def limit(*sizes: int) -> float:
    """What the mean e-value's logarithm must exceed, for fixed numbers of units in each role."""
    return -math.log(ALPHA) + sum(1.0 + 0.5 * math.log(max(1, n)) for n in sizes)


def mean_of(logs: Sequence[float] | Array) -> float:
    """The logarithm of the mean e-value; 0 without any."""
    return _log_sum(np.asarray(logs)) - math.log(len(logs)) if len(logs) else 0.0


class Judged:
    """What is judged by its evidence: ``excess`` nats beyond the limit."""

    excess: float

    @property
    def suspicious(self) -> bool:
        """Whether independent draws, or roles kept apart, do not explain it."""
        return self.excess > 0.0

    @property
    def blatant(self) -> bool:
        """Whether it is so however numbers are rounded."""
        return self.excess > ROUNDING


class Weight(NamedTuple):
    """One e-value.

    Attributes:
        log: its logarithm.
        kind: what it speaks of (`relations`).
        times: how often units were repeated, if they were.
        by: the shift in steps, or 0.
    """

    log: float
    kind: str
    times: int = 1
    by: int = 0


def mean_of_groups(groups: Iterable[Iterable[Weight]]) -> tuple[float, Weight]:
    """The logarithm of the mean over groups of the mean in each, and the largest of all."""
    found = [list(group) for group in groups]
    logs = [mean_of([one.log for one in group]) for group in found]
    return mean_of(logs), max((one for group in found for one in group), key=lambda one: one.log)


def _log_sum(logs: Array) -> float:
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).sum()))


def too_even(counts: Counts, size: int, zeros: int | None = None) -> tuple[float, int]:
    """That values recur too evenly: all twice, all 500 times, all a multiple of some number.

    Args:
        counts: (n,) how often each value occurs, at least once.
        size: the number of units, which no count exceeds.
        zeros: where values were known beforehand, how many of them do not occur.

    Returns:
        The evidence, and the number of times that it speaks of.
    """
    values, times = np.unique(counts, return_counts=True)
    if not len(values):
        return 0.0, 1
    price = 1.0 + math.log(size)
    here = dict(zip(values.tolist(), times.tolist(), strict=True))
    if zeros is not None:
        here[0] = zeros
    found: list[tuple[float, int]] = []
    common = values[times > 1][np.argsort(-times[times > 1], kind="stable")][:_COMMONEST]
    for k in common.tolist():
        if k > 1 or zeros is not None:
            single = _single_out(here.get(k - 1, 0), here[k], here.get(k + 1, 0), k)
            found.append((single - math.log(k * price), k))
            found.append((_around(values, times, zeros, k) - math.log(k * price), k))
    total = int(times.sum())
    hits = times @ (values[:, None] % _MULTIPLES == 0)
    for k in _MULTIPLES[hits * _MULTIPLES > total].tolist():
        share = _share(int(hits[k - 2]), total, _log_multiples(k))
        found.append((share - math.log(k * price), k))
    if not found:
        return 0.0, 1
    return _log_sum(np.array([log for log, _ in found])) - math.log(3.0), max(found)[1]


def _single_out(below: int, at: int, above: int, k: int) -> float:
    """Values that occur k times, against k − 1 and k + 1 times: 1 + x, 1 − y, 1 − z for each.

    λ^k/k!·x ≤ λ^(k−1)/(k−1)!·y + λ^(k+1)/(k+1)!·z for all λ if x = 2√(yzk/(k+1)).
    """
    y, z = _STAKES[:, None], _STAKES[None, :]
    x = 2.0 * np.sqrt(y * z * k / (k + 1.0))
    logs = at * np.log1p(x) + below * np.log1p(-y) + above * np.log1p(-z)
    return mean_of(logs.ravel())


def _around(values: Counts, times: Counts, zeros: int | None, k: int) -> float:
    """Values that occur about k times, against all that do at least half as often."""
    known = zeros is not None and k == 1
    least = 0 if known else -(-k // 2)
    total = int(times[values >= least].sum()) + (zeros or 0) * known
    logs = []
    for width in (0, int(math.sqrt(k) / 8), int(math.sqrt(k) / 3)):
        hits = int(times[np.abs(values - k) <= width].sum())
        logs.append(_share(hits, total, _log_chance(k, width, least)))
    return mean_of(logs)


@cache
def _log_chance(k: int, width: int, least: int) -> float:
    """sup over λ of ln P(|count − k| ≤ width | count ≥ least)."""
    if k > 300:
        # Where the count is near k, it is at least k/2 but with a probability below 1e-6.
        c = k - width
        peak = c * math.log(c) - c - float(gammaln(c + 1)) + math.log(2 * width + 1)
        return min(0.0, peak + 1e-4)
    counts = np.arange(least, 2 * k + 40)
    rate = np.linspace(0.02, 1.5, 600)[:, None] * (k + width)
    pmf = np.exp(counts * np.log(rate) - rate - gammaln(counts + 1.0))
    near = pmf[:, np.abs(counts - k) <= width].sum(axis=1)
    return min(0.0, float(np.log((near / pmf.sum(axis=1)).max())) + 1e-3)


@cache
def _log_multiples(k: int) -> float:
    """sup over λ of ln P(count is a multiple of k | it is not 0)."""
    rate = np.geomspace(0.01, 40.0 * k * k, 1000)[:, None]
    angle = 2.0 * np.pi * np.arange(k) / k
    waves = np.exp(rate * (np.cos(angle) - 1.0)) * np.cos(rate * np.sin(angle))
    zero = np.exp(-rate[:, 0])
    return float(np.log(((waves.mean(axis=1) - zero) / -np.expm1(-rate[:, 0])).max())) + 1e-3


def too_often(hits: int, total: int, share: float) -> float:
    """That of ``total`` units with a property ``hits`` are in a role that holds a share of all."""
    return _share(hits, total, math.log(share)) if 0.0 < share < 1.0 else 0.0


def _share(hits: int, total: int, log_chance: float) -> float:
    """That ``hits`` of ``total`` independent events occurred, each of no more than a chance."""
    if log_chance >= 0.0:
        return 0.0
    won = np.log1p(_STAKES * math.expm1(min(-log_chance, 700.0)))
    logs = hits * won + (total - hits) * np.log1p(-_STAKES)
    return mean_of(logs)


def too_mixed(first: Counts, second: Counts, share: float | None = None) -> float:
    """That values occur in both roles oftener than independent roles have it.

    Args:
        first: (n,) how often each value occurs in the first role.
        second: (n,) in the second.
        share: the chance that a unit is in the second role, both being draws from one
            distribution; None where they need not be.
    """
    again = first + second >= 2
    a, b = first[again], second[again]
    t: Array = (a + b).astype(np.float64)
    if not len(t):
        return 0.0
    p = 0.5 if share is None else share
    with np.errstate(divide="ignore"):
        apart = np.logaddexp(t * math.log(p), t * math.log1p(-p))
    mixed: Array = np.minimum(np.log(np.maximum(-np.expm1(apart), 1e-300)), 0.0)
    alone: Array = (t - 1.0) * np.log1p(-1.0 / t)
    alone = np.where(t == 2.0, mixed, alone)
    equal: Array = np.where(
        t == 2.0, mixed, gammaln(t + 1) - 2 * gammaln(t / 2 + 1) - t * math.log(2)
    )
    logs = [
        _shares((a > 0) & (b > 0), mixed),
        _shares((b == 1) & (a > 0), alone),
        _shares(a == b, equal),
    ]
    if share is None:
        logs.append(_shares((a == 1) & (b > 0), alone))
    return mean_of(logs)


def _shares(hit: NDArray[np.bool_], log_chance: Array) -> float:
    """As ``_share``, every event having a chance of its own."""
    chances, times = np.unique(log_chance[hit], return_counts=True)
    won = np.log1p(_STAKES[:, None] * np.expm1(-chances)) @ times
    return mean_of(won + int((~hit).sum()) * np.log1p(-_STAKES))
