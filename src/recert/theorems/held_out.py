"""Held-out units (theory, 5d): the exact binomial limit, for comparison.

Statement. For k errors on n units that were used for nothing else, the error is at most the
Clopper–Pearson upper limit at level δ; for losses that are fractions, kl⁻¹(R̂, ln(1/δ)/n).

Hypotheses: the held-out units are i.i.d. and independent of the network. Nothing about norms,
lengths or inputs, and the program as it computes is the hypothesis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from recert.certificates.certificate import Bound
from recert.numerics.concentration import binomial_upper_limit, kl_inverse_upper
from recert.theorems.setting import OUTWARD, SAID, Setting, Theorem, finish


@dataclass(frozen=True)
class HeldOut(Theorem):
    """The practitioner's bound."""

    name: str = "held_out"
    title: str = "held-out units (Clopper–Pearson)"
    needs: tuple[str, ...] = ("holdout", *SAID)
    reference: str = "theory 5d; Clopper and Pearson 1934"

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
