"""Whether units recur: within the sample, and between the sample and the held-out units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Prints = NDArray[np.uint64]

_SEED = 20181228


def fingerprints(x: NDArray[Any], labels: NDArray[np.int64], lengths: NDArray[np.int64]) -> Prints:
    """A 64-bit print of every sequence with its length and labels; padding must be zero.

    Equal sequences have equal prints whatever their padding and batch; prints of different ones
    collide by chance only.
    """
    if x.dtype.kind == "f":
        x = x.astype(np.float64, copy=False).view(np.int64)
    columns = x.reshape(len(x), -1).astype(np.uint64, copy=False)
    answers = labels.reshape(len(x), -1).astype(np.uint64)
    # Separate streams of multipliers, so that a prefix of one length has the same ones.
    total = _mix(columns, 0) + _mix(answers, 1) + _mix(lengths[:, None].astype(np.uint64), 2)
    mixed: Prints = total ^ (total >> np.uint64(31))
    return mixed


def _mix(columns: Prints, stream: int) -> Prints:
    generator = np.random.Generator(np.random.PCG64([_SEED, stream]))
    drawn = generator.integers(0, 2**63, size=(1, columns.shape[1]), dtype=np.uint64)
    odd = drawn * np.uint64(2) + np.uint64(1)
    # Spread the bits first: sums of small multiples would let near neighbours collide.
    spread = (columns ^ (columns >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    spread ^= spread >> np.uint64(29)
    result: Prints = (spread * odd).sum(axis=1, dtype=np.uint64)
    return result


@dataclass(frozen=True)
class Within:
    """Repetitions within a sample: distinct sequences, and those that occur exactly once."""

    sequences: int
    distinct: int
    single: int

    @property
    def tiled(self) -> bool:
        """Whether every sequence occurs more than once."""
        return self.single == 0 and self.sequences > 1


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
