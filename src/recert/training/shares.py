"""How many of a sample's units should make the prior: told by a learning curve on a pilot alone.

More units for the prior make its errors fewer and leave fewer units to the bound. The pilot, the
first units of all, shows how the error falls with the number of units trained on; from that the
number m_0 follows by a rule that was fixed beforehand. So m_0 is a function of units that the bound
does not count, and costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recert.concentration import kl_inverse_upper
from recert.theorems.pac_bayes import best_rate, paired_limit

# Largest share of the units that the rule gives to the prior, and how finely it looks.
MOST, STEPS = 0.8, 64
# Steepest fall of an error with the number of units: like 1/√n.
STEEPEST = 0.5


@dataclass(frozen=True)
class LearningCurve:
    """e(n) = scale · n^(−slope), an error after training on n units."""

    scale: float
    slope: float

    def error(self, units: float) -> float:
        """The error that is expected after training on so many units."""
        return min(1.0, self.scale * units**-self.slope)


def learning_curve(units: Sequence[int], errors: Sequence[float], trial: int) -> LearningCurve:
    """The power law through measured errors, by least squares of logarithms.

    Args:
        units: numbers of units trained on, ascending; at least two.
        errors: on a trial part, one for each.
        trial: units of that part; errors below half a unit are read as half a unit.
    """
    n = np.log(np.asarray(units, dtype=np.float64))
    e = np.log(np.maximum(np.asarray(errors, dtype=np.float64), 0.5 / trial))
    slope = -float(np.polyfit(n - n.mean(), e, 1)[0])
    slope = min(max(slope, 0.0), STEEPEST)
    # Through the last point, which knows most.
    return LearningCurve(math.exp(e[-1] + slope * n[-1]), slope)


def prior_units(
    curve: LearningCurve,
    units: int,
    pilot: int,
    *,
    nats: float,
    closeness: float | None,
    disagreement: float,
    delta: float,
) -> int:
    """m_0 with the smallest limit to expect, among those within ``closeness`` of its error if any.

    Args:
        curve: of the pilot.
        units: m, of the whole sample.
        pilot: units of the pilot, the least that m_0 can be.
        nats: that the bound is expected to pay, ln(1/δ) included.
        closeness: largest share of the error by which the limit may lie above it, or None.
        disagreement: of two networks that are drawn, to expect.
        delta: δ' of the draws, two pairs a unit.
    """
    most = max(pilot, min(int(MOST * units), units - 8))
    tried = sorted({int(n) for n in np.linspace(pilot, most, STEPS)})
    rate = best_rate(disagreement, 2 * (units - pilot), delta)
    limits, close = [], []
    for m_0 in tried:
        error, left = curve.error(m_0), units - m_0
        drawn = paired_limit(error, disagreement, 2 * left, delta, rate)
        limit = float(kl_inverse_upper(drawn, nats / left))
        limits.append(limit)
        close.append(closeness is None or limit <= (1.0 + closeness) * error)
    allowed = [i for i in range(len(tried)) if close[i]] or list(range(len(tried)))
    return tried[min(allowed, key=lambda i: limits[i])]
