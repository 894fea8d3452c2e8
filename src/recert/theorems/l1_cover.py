"""Theorem 3 (3) of the paper, repaired (theory, 4c): blocks that are small in the ℓ1 norm.

Statement. For a block whose entrywise ℓ1 norm is at most λ (and λ ≤ √d1·‖A‖_{2,1}),

    ln N_k(ε) ≤ min( P_k ln(1 + 2c_k/ε), ⌈4λ_k²/ε²⌉ ln(2 d1 d2 + 1) )

(same-norm covering; Maurey's lemma in the Frobenius norm, the 4 making the cover proper). Put into
the entropy integral from a scale α > 0, which adds 8α/γ, and into the covering form of 4b.

Hypotheses: those of 4a and 4b, and the ℓ1 caps, declared or paid for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.certificates.certificate import Bound
from recert.numerics.union_bound import total_nats
from recert.theorems.margin_ball import best_margin
from recert.theorems.rademacher import deviation
from recert.theorems.setting import OUTWARD, SQRT2, TINY, UNIVERSAL, Setting, Theorem, finish

Array = NDArray[np.float64]

NEEDS = (*UNIVERSAL, "input_bound", "horizon", "caps", "l1_caps", "margin", "floats")
REFERENCE = "theory 4c; Theorem 3 (3) of the paper, repaired"
# Points per octave of the upper Riemann sum, and octaves below r that α may reach.
PER_OCTAVE, OCTAVES = 16, 24


def log_cover(setting: Setting, log_scale: Array) -> Array:
    """ln N at which no margin moves by more than s, from log s of any shape."""
    total = np.zeros(np.shape(log_scale))
    shares = setting.parameters / setting.parameters.sum()
    for i, block in enumerate(setting.network.blocks()):
        log_eps = math.log(shares[i] / SQRT2) + log_scale - setting.log_lambda[i] - 1e-12
        dense = setting.parameters[i] * np.logaddexp(
            0.0, math.log(2.0) + setting.log_caps[i] - log_eps
        )
        cap = setting.caps[block.name].l1
        if cap is None:
            total += dense
            continue
        # Operator norms of filter banks are at most √width times the Frobenius norm.
        scale = math.log(block.shape[2]) if block.norm == "operator" else 0.0
        log_cap = math.log(cap) if cap > 0 else -math.inf
        log_count = math.log(4.0) + scale + 2.0 * log_cap - 2.0 * log_eps
        # At least one term where anything is to be covered, however far below doubles its square.
        count = np.ceil(np.exp(np.minimum(log_count + 1e-12, 600.0)))
        count = np.maximum(count, 1.0 if cap > 0 else 0.0)
        total += np.minimum(dense, count * math.log(2.0 * block.value.size + 1.0))
    return total * (1.0 + OUTWARD) + TINY


def _no_l1_caps(setting: Setting) -> str:
    if all(cap.l1 is None for cap in setting.caps.values()):
        return "no block has a cap on its entrywise l1 norm"
    return ""


@dataclass(frozen=True)
class L1Entropy(Theorem):
    """The entropy integral with Maurey's covering numbers."""

    name: str = "theorem_3_l1"
    title: str = "Theorem 3 (3) repaired, entropy integral"
    needs: tuple[str, ...] = NEEDS
    reference: str = REFERENCE

    def supports(self, setting: Setting) -> str:
        """Needs an ℓ1 cap on some block."""
        return _no_l1_caps(setting)

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The best γ on the grid, paid for, and the best α, which costs nothing."""
        gammas, nats, rows = setting.margin_choices
        l1_paid = total_nats(setting.l1_costs)
        log_range = math.log(SQRT2) + float(setting.at_caps.log_norm[0])
        log_r = np.minimum(log_range, np.log(gammas) - math.log(2.0))
        steps = np.arange(PER_OCTAVE * OCTAVES + 1) / PER_OCTAVE * math.log(2.0)
        log_s = log_r[:, None] - steps[None, ::-1]  # rising to r
        root = np.sqrt(log_cover(setting, log_s))
        s = np.maximum(np.exp(log_s), TINY)
        # The entropy falls with s: the left end of each cell bounds the integral from above.
        cells = root[:, :-1] * np.diff(s, axis=1)
        from_alpha = np.cumsum(cells[:, ::-1], axis=1)[:, ::-1]
        over = 24.0 * from_alpha / (gammas[:, None] * math.sqrt(setting.m))
        over = over + 8.0 * s[:, :-1] / gammas[:, None]
        best = np.argmin(over, axis=1)
        complexity = over[np.arange(len(gammas)), best] * (1.0 + OUTWARD)
        ramp = setting.table.ramp_risk(gammas)
        spread = deviation(setting, delta, nats + l1_paid)
        values = (ramp + complexity + spread) * (1.0 + OUTWARD)
        i = int(np.argmin(values))
        return finish(
            self,
            float(values[i]),
            math.log(values[i]),
            delta=delta,
            terms={
                "ramp_risk": float(ramp[i]),
                "log10_complexity": math.log10(max(complexity[i], 1e-300)) + OUTWARD,
                "deviation": float(spread[i]),
            },
            choices={"gamma": float(gammas[i]), "alpha": float(s[i, best[i]])},
            cost=(*setting.cap_costs, *setting.l1_costs, *setting.choice_costs, rows[i]),
        )


@dataclass(frozen=True)
class L1Cover(Theorem):
    """The covering form of the margin ball with Maurey's covering numbers."""

    name: str = "theorem_3_l1_cover"
    title: str = "Theorem 3 (3) repaired, covering form"
    needs: tuple[str, ...] = NEEDS
    quick: bool = True
    reference: str = REFERENCE

    def supports(self, setting: Setting) -> str:
        """Needs an ℓ1 cap on some block."""
        return _no_l1_caps(setting)

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The best γ on the grid, paid for."""
        gammas, _, _ = setting.margin_choices
        nats = log_cover(setting, np.log(gammas) - math.log(2.0))
        log_term = (-math.log(delta) + total_nats(setting.l1_costs)) * (1.0 + OUTWARD)
        found = best_margin(self, setting, delta, nats, log_term, {})
        return _with_costs(found, setting)


def _with_costs(bound: Bound, setting: Setting) -> Bound:
    """The same bound, its ℓ1 caps shown among the costs."""
    data = {name: getattr(bound, name) for name in bound.__dataclass_fields__}
    terms = dict(bound.terms)
    terms["confidence_nats"] -= total_nats(setting.l1_costs)
    return Bound(**{**data, "terms": terms, "cost": (*setting.l1_costs, *bound.cost)})
