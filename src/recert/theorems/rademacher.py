"""Theorem 2 of the paper, with its constants (theory, 4a): three certified forms.

Statement. Let a_k = 2√2·c_k Λ_k P/P_k and J(r) = √(r·Σ_k P_k [r ln(1+a_k/r) + a_k ln(1+r/a_k)]).
With probability ≥ 1−δ, for every network within the caps,

    P(error) ≤ R̂_γ + 24 J(r)/(γ√m) + √(ln(1/δ)/(2m)),

with r = √2·N_y (the paper's range) or r = min(√2·N_y, γ/2) (the ramp loss sees no more); and

    P(error) ≤ R̂_γ + 2η/γ + √((ln N(η) + ln(1/δ))/(2m)),   ln N(η) = Σ_k P_k ln(1 + a_k/η),

at a single scale η from a grid fixed beforehand. η is chosen by minimising terms that do not
depend on the sample, so it costs nothing; γ is paid for when the sample chose it.

Hypotheses: i.i.d. units, inputs within B_x, length at most T, weights within the caps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.certificates.certificate import Bound
from recert.numerics.union_bound import total_nats
from recert.theorems.setting import (
    OUTWARD,
    SQRT2,
    TINY,
    UNIVERSAL,
    Setting,
    Theorem,
    finish,
    log10_of,
)

Array = NDArray[np.float64]

REFERENCE = "theory 4a; Theorem 2 of the paper with its constants"
SCALES = 2.0 ** (-np.arange(4, 121) / 4.0)  # η/γ


def log_dudley(log_a: Array, parameters: Array, log_r: Array) -> Array:
    """log J(r), with a_k in logs; log_a and parameters (K,), log_r any shape (…)."""
    la, lr = log_a[:, None], np.atleast_1d(log_r)[None, :]
    first = lr + np.log(np.maximum(np.logaddexp(0.0, la - lr), 1e-320))
    x = np.exp(np.minimum(lr - la, 700.0))
    # a ln(1 + r/a) is r times ln(1+x)/x with x = r/a.
    ratio = np.where(x > 1e-8, np.log1p(x) / np.maximum(x, 1e-300), 1.0)
    second = lr + np.log(ratio)
    weights = np.log(parameters)[:, None]
    total = np.logaddexp.reduce(weights + np.logaddexp(first, second), axis=0)
    result: Array = 0.5 * (np.atleast_1d(log_r) + total)
    return result


def deviation(setting: Setting, delta: float, extra: Array) -> Array:
    """√((ln(1/δ) + costs + extra)/(2m)), per candidate γ."""
    paid = total_nats((*setting.cap_costs, *setting.choice_costs))
    return np.sqrt((-math.log(delta) + paid + extra) / (2.0 * setting.m)) * (1.0 + OUTWARD)


@dataclass(frozen=True)
class Theorem2(Theorem):
    """The entropy-integral form, with the paper's range or the clipped one."""

    clipped: bool
    needs: tuple[str, ...] = (*UNIVERSAL, "input_bound", "horizon", "caps", "margin", "floats")
    reference: str = REFERENCE

    @property
    def name(self) -> str:
        """Identifier."""
        return "theorem_2_clipped" if self.clipped else "theorem_2"

    @property
    def title(self) -> str:
        """For tables."""
        return f"Theorem 2 with constants, {'clipped' if self.clipped else 'paper’s'} range"

    @property
    def quick(self) -> bool:
        """The smaller of the two."""
        return self.clipped

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The best γ on the grid, paid for."""
        gammas, nats, rows = setting.margin_choices
        log_gamma = np.log(gammas)
        log_range = math.log(SQRT2) + float(setting.at_caps.log_norm[0])
        log_r = np.full(len(gammas), log_range)
        if self.clipped:
            log_r = np.minimum(log_r, log_gamma - math.log(2.0))
        log_J = log_dudley(setting.log_a, setting.parameters, log_r)
        log_complexity = math.log(24.0) + log_J - log_gamma - 0.5 * math.log(setting.m)
        rest = setting.table.ramp_risk(gammas) + deviation(setting, delta, nats)
        log_value = np.logaddexp(log_complexity, np.log(rest)) + OUTWARD
        i = int(np.argmin(log_value))
        return finish(
            self,
            math.exp(log_value[i]) if log_value[i] < 700 else math.inf,
            float(log_value[i]),
            delta=delta,
            terms={
                "ramp_risk": float(setting.table.ramp_risk(gammas[i])),
                "log10_complexity": log10_of(float(log_complexity[i])),
                "deviation": float(deviation(setting, delta, nats)[i]),
            },
            choices={"gamma": float(gammas[i]), "log_range": float(log_r[i]) + OUTWARD},
            cost=(*setting.cap_costs, *setting.choice_costs, rows[i]),
        )


@dataclass(frozen=True)
class SingleScale(Theorem):
    """One cover at one scale, in place of the entropy integral."""

    name: str = "theorem_2_single_scale"
    title: str = "Theorem 2 with constants, single scale"
    needs: tuple[str, ...] = (*UNIVERSAL, "input_bound", "horizon", "caps", "margin", "floats")
    quick: bool = True
    reference: str = REFERENCE

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The best γ on the grid, paid for, and the best η, which costs nothing."""
        gammas, nats, rows = setting.margin_choices
        log_eta = np.log(gammas)[:, None] + np.log(SCALES)[None, :]
        cover = np.tensordot(
            setting.parameters,
            np.logaddexp(0.0, setting.log_a[:, None, None] - log_eta[None]),
            axes=1,
        )
        spread = 2.0 * SCALES[None, :] + deviation(setting, delta, nats[:, None] + cover)
        best = np.argmin(spread, axis=1)
        chosen = spread[np.arange(len(gammas)), best]
        ramp = setting.table.ramp_risk(gammas)
        values = (ramp + chosen) * (1.0 + OUTWARD)
        i = int(np.argmin(values))
        return finish(
            self,
            float(values[i]),
            math.log(values[i]),
            delta=delta,
            terms={
                "ramp_risk": float(ramp[i]),
                "scale": 2.0 * float(SCALES[best[i]]),
                "deviation": float(chosen[i] - 2.0 * SCALES[best[i]]) * (1.0 + 4 * OUTWARD),
                "log_cover": float(cover[i, best[i]]) * (1.0 + OUTWARD) + TINY,
            },
            choices={"gamma": float(gammas[i]), "eta_over_gamma": float(SCALES[best[i]])},
            cost=(*setting.cap_costs, *setting.choice_costs, rows[i]),
        )
