"""How many bits a grid will take, estimated fast, for searches."""

from __future__ import annotations

import math

import numpy as np

from recert.compression.integers import STEPS
from recert.compression.program import Grid, Integers

_BITS = 1.0 / math.log(2.0)


def code_length_bits(grid: Grid | Integers) -> float:
    """An estimate of the bits of a grid's integers by their counts alone.

    What Krichevsky and Trofimov's estimate pays for the decisions |n| > 0, |n| > 1, …, and one bit
    for a sign. The file's code also learns from other grids and from columns, and is mostly a few
    per cent shorter.
    """
    integers = grid.integers if isinstance(grid, Grid) else np.asarray(grid)
    sizes = np.abs(integers).ravel()
    least = np.minimum(sizes, STEPS)
    counts = np.bincount(least.astype(np.int64), minlength=STEPS + 1)
    above = np.append(np.cumsum(counts[::-1])[::-1], 0)  # how many reach k
    bits = float(above[1])
    for k in range(STEPS):
        if above[k] == 0:
            break
        bits += _decisions(int(above[k] - above[k + 1]), int(above[k + 1]))
    rest = sizes[sizes >= STEPS] - STEPS + 1
    if len(rest):
        bits += _gamma(np.floor(np.log2(rest)).astype(np.int64))
    return bits


def _gamma(digits: Integers) -> float:
    """Bits of numbers in Elias's gamma code with learnt lengths, by their digits but the first."""
    bits, there = float(digits.sum()), len(digits)
    for k in range(int(digits.max()) + 1):
        more = int((digits > k).sum())
        bits += _decisions(there - more, more)
        there = more
    return bits


def _decisions(no: int, yes: int) -> float:
    """Bits of so many decisions: −log2 of Γ(no + ½)·Γ(yes + ½)/(π·Γ(no + yes + 1))."""
    value = math.lgamma(no + yes + 1) - math.lgamma(no + 0.5) - math.lgamma(yes + 0.5)
    return (value + math.log(math.pi)) * _BITS
