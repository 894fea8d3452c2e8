"""Whether units recur: within the sample, and between the sample and the held-out units."""

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
