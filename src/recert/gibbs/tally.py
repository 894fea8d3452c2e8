"""From losses of drawn networks to what the Monte Carlo limit needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """Losses per unit and repetition, summed up.

    Attributes:
        units: number of units.
        repetitions: networks drawn for each sequence.
        mean: mean loss over units and repetitions.
        disagreement: share of (unit, pair of repetitions) in which exactly one of the two networks
            errs, over the pairs (1st, 2nd), (3rd, 4th), …; None where losses are not all 0 or 1 or
            repetitions do not come in pairs.
        first: mean loss over units of the first repetition alone.
        zero_one: whether every unit's loss is 0 or 1.
    """

    units: int
    repetitions: int
    mean: float
    disagreement: float | None
    first: float
    zero_one: bool

    @property
    def draws(self) -> int:
        """n_MC: pairs (unit, repetition)."""
        return self.units * self.repetitions

    @property
    def pairs(self) -> int:
        """Pairs of repetitions, counted for every unit."""
        return self.units * (self.repetitions // 2)


def tally(losses: Array, units: NDArray[np.int64], m: int) -> Tally:
    """Sum up losses.

    Args:
        losses: (repetitions, n) in [0, 1], one column a sequence.
        units: (n,) the unit of every sequence, 0..m−1.
        m: number of units.
    """
    per_unit = unit_losses(losses, units, m)
    zero_one = bool(((per_unit == 0.0) | (per_unit == 1.0)).all())
    disagreement = None
    if zero_one and len(losses) % 2 == 0:
        different = per_unit[0::2] != per_unit[1::2]
        disagreement = int(different.sum()) / different.size
    total = float(per_unit.sum())
    mean = total / per_unit.size if zero_one else min(1.0, total / per_unit.size * (1 + 1e-12))
    return Tally(m, len(losses), mean, disagreement, float(per_unit[0].mean()), zero_one)


def unit_losses(losses: Array, units: NDArray[np.int64], m: int) -> Array:
    """(repetitions, m): the mean loss over the sequences of every unit."""
    if len(units) == m:
        ordered = np.empty_like(losses)
        ordered[:, units] = losses
        return ordered
    sizes = np.bincount(units, minlength=m)
    sums = np.stack([np.bincount(units, weights=row, minlength=m) for row in losses])
    means: Array = sums / sizes
    return np.minimum(means, 1.0)
