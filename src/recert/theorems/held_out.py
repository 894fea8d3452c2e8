"""Held-out units (theory, 5d): the exact binomial limit, for comparison.

Statement. For k errors on n units that were used for nothing else, the error is at most the
Clopper–Pearson upper limit at level δ; for losses that are fractions, kl⁻¹(R̂, ln(1/δ)/n).

Losses in a declared range [a, b], here rescaled to [0, 1]: the smaller of kl⁻¹(R̂, ln(2/δ)/n) and
R̂ + √(2V ln(4/δ)/n) + 7 ln(4/δ)/(3(n − 1)), V the unbiased variance (theory, 5e).

Hypotheses: the held-out units are i.i.d. and independent of the network. Nothing about norms,
lengths or inputs, and the program as it computes is the hypothesis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.certificates.certificate import Bound
from recert.numerics.concentration import binomial_upper_limit, kl_inverse_upper
from recert.theorems.setting import OUTWARD, RECIPES, SAID, Setting, Statement, Theorem, finish


@dataclass(frozen=True)
class HeldOut(Theorem):
    """The practitioner's bound."""

    name: str = "held_out"
    title: str = "held-out units (Clopper–Pearson)"
    needs: tuple[str, ...] = ("holdout", *SAID)
    reference: str = "theory 5d; Clopper and Pearson 1934"
    # Held-out units say what they say of whatever network comes out of a sample.
    free: tuple[str, ...] = (RECIPES,)

    def supports(self, setting: Setting) -> str:
        """Needs held-out units."""
        return "" if setting.holdout is not None else "no held-out units were given"

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The limit at level δ."""
        table = setting.holdout
        assert table is not None
        if table.zero_one:
            value = binomial_upper_limit(table.errors(), table.m, delta)
        else:
            rate = -math.log(delta) / table.m * (1 + OUTWARD)
            value = float(kl_inverse_upper(min(1.0, table.error + 1e-12), rate))
        return finish(
            self,
            value,
            math.log(value),
            delta=delta,
            terms={"error": table.error, "units": float(table.m)},
            choices={},
            cost=(),
        )


@dataclass(frozen=True)
class Losses:
    """n losses in [low, high]: mean and unbiased variance of them rescaled to [0, 1], rounded up.

    ``missing`` of them are no numbers, and count as ``high``; ``scaled`` (n,) are the others' own.
    """

    scaled: NDArray[np.float64]
    low: float
    high: float
    missing: int = 0

    @property
    def n(self) -> int:
        """Number of units."""
        return len(self.scaled)

    @property
    def mean(self) -> float:
        """Their mean."""
        found = math.fsum(self.scaled) / self.n * (1 + OUTWARD)
        return min(1.0, found + 4 * math.ulp(1.0) if found else 0.0)

    @property
    def variance(self) -> float:
        """Their unbiased variance; 0 for a single one."""
        if self.n < 2:
            return 0.0
        found = math.fsum((self.scaled - math.fsum(self.scaled) / self.n) ** 2) / (self.n - 1)
        return found * (1 + OUTWARD) + (1e-15 if found else 0.0)


@dataclass(frozen=True)
class HeldOutLosses(Statement[Losses]):
    """The mean loss of held-out units, for losses in a declared range."""

    name: str = "held_out_losses"
    title: str = "held-out losses (kl, or variance)"
    needs: tuple[str, ...] = ("holdout", "predictor", "settings")
    reference: str = "theory 5e; Maurer and Pontil 2009, Theorem 4"

    def supports(self, losses: Losses) -> str:
        """It always applies."""
        return ""

    def bound(self, losses: Losses, delta: float) -> Bound:
        """The limit at level δ, of losses rescaled to [0, 1]; ``terms["loss"]`` in their range."""
        n, mean, variance = losses.n, losses.mean, losses.variance
        value = kl_inverse_upper(mean, math.log(2.0 / delta) / n * (1 + OUTWARD))
        if n > 1:
            rate = math.log(4.0 / delta)
            spread = math.sqrt(2.0 * variance * rate / n) + 7.0 * rate / (3.0 * (n - 1))
            value = min(value, (mean + spread) * (1 + OUTWARD))
        loss = losses.low + (losses.high - losses.low) * value
        room = OUTWARD * (abs(losses.low) + abs(losses.high))
        return finish(
            self,  # type: ignore[arg-type]
            value,
            math.log(value),
            delta=delta,
            terms={
                "error": mean,
                "variance": variance,
                "units": float(n),
                "low": losses.low,
                "high": losses.high,
                "loss": loss + room,
            },
            choices={},
            cost=(),
        )
