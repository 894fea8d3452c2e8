"""Theorem 3 (4) of the paper, repaired (theory, 5c): Gaussian prior, for the network itself.

Statement. Prior N(w_0, s_k² I) with w_0 = 0 or the initial weights, posterior N(w, σ_k² I), Z
fixed. With probability ≥ Z every perturbation obeys ‖δA_k‖ ≤ ξ_k,

    ξ_k = σ_k(√d1 + √d2 + √(2 ln(n/(1−Z))))          dense blocks, n blocks in all,
    ξ_k = σ_k(√d1 + √(2 ln(n d2/(1−Z))))             blocks that read one-hot inputs, biases.

If √2·Σ_k Λ_k ξ_k ≤ γ/2 with Λ at caps ‖A_k‖ + ξ_k then, H the binary entropy in nats,

    P(error) ≤ kl⁻¹( R̂_γ^hard , ((KL + H(Z))/Z + ln(2√m/δ))/m ),
    KL = Σ_k ½[P_k(σ_k²/s_k² − 1 + ln(s_k²/σ_k²)) + ‖w_k − w_0k‖²/s_k²].

No caps are declared or paid for; s_k lies on a grid that is paid for, σ_k is free. ``paper=True``
is the paper's own shape, one σ = s for all blocks and Z = ½, on the same grid.

Hypotheses: i.i.d. units, inputs within B_x, length at most T, w_0 chosen before the sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.caps import Cap
from recert.certificate import Bound
from recert.choices import SCALE_GRID, Cost, total_nats
from recert.concentration import binary_entropy, kl_inverse_upper, maurer_log_term
from recert.network import Block
from recert.norms import frobenius_norm_bound
from recert.theorems.base import OUTWARD, SQRT2, UNIVERSAL, Setting, finish
from recert.theorems.margin_ball import ROUNDS

Array = NDArray[np.float64]

Z_FIXED = 0.999
SMALLEST = 1e-150


def spread_factors(setting: Setting, Z: float) -> Array:
    """ξ_k/σ_k, (K,)."""
    blocks = list(setting.network.blocks())
    return np.array([_spread(block, len(blocks), Z) for block in blocks]) * (1.0 + OUTWARD)


def _spread(block: Block, n: int, Z: float) -> float:
    if block.norm == "spectral":
        root = math.sqrt(2.0 * math.log(n / (1.0 - Z)))
        return math.sqrt(block.rows) + math.sqrt(block.columns) + root
    return math.sqrt(block.rows) + math.sqrt(2.0 * math.log(n * block.columns / (1.0 - Z)))


@dataclass(frozen=True)
class GaussianBall:
    """Theorem 3 (4), repaired; no caps."""

    paper: bool = False
    needs: tuple[str, ...] = (*UNIVERSAL, "input_bound", "horizon", "margin", "floats", "prior")
    reference: str = "theory 5c; Theorem 3 (4) of the paper, repaired; Neyshabur et al. 2018"

    @property
    def name(self) -> str:
        """Identifier."""
        return "theorem_3_gaussian_paper" if self.paper else "theorem_3_gaussian"

    @property
    def title(self) -> str:
        """For tables."""
        return "Theorem 3 (4) repaired" + (", the paper’s one σ" if self.paper else "")

    def supports(self, setting: Setting) -> str:
        """Applies to every network of the family."""
        return ""

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The best γ on the grid, paid for."""
        Z = 0.5 if self.paper else Z_FIXED
        gammas, prices, rows = setting.margin_choices
        sigma = _admissible_scales(setting, gammas, Z, common=self.paper)
        KL, cost_rows = _divergences(setting, sigma, common=self.paper)
        scale_nats = np.array([total_nats(r) for r in cost_rows])
        paid = total_nats(setting.choice_costs)
        nats = (KL + float(binary_entropy(Z)) * (1.0 + OUTWARD)) / Z
        log_term = maurer_log_term(setting.m, delta)
        rates = (nats + log_term + paid + prices + scale_nats) / setting.m * (1.0 + OUTWARD)
        risks = setting.table.hard_risk(gammas)
        values = kl_inverse_upper(risks, np.minimum(rates, 1e300))
        i = int(np.argmin(values))
        return finish(
            self,
            float(values[i]),
            math.log(values[i]),
            delta=delta,
            terms={
                "hard_margin_risk": float(risks[i]),
                "KL": float(min(KL[i], 1e300)),
                "confidence_nats": log_term,
                "rate": float(min(rates[i], 1e300)),
            },
            choices={
                "gamma": float(gammas[i]),
                "Z": Z,
                "sigma": [float(x) for x in sigma[:, i]],
                "prior_center": "zero" if setting.initial is None else "initial weights",
            },
            cost=(*setting.choice_costs, *cost_rows[i], rows[i]),
        )


def _admissible_scales(setting: Setting, gammas: Array, Z: float, common: bool) -> Array:
    """σ_k (K, G) with √2·Σ Λ_k ξ_k ≤ γ/2 at caps ‖A_k‖ + ξ_k; on the grid if common to all."""
    factors = spread_factors(setting, Z)[:, None]
    norms = np.array([block.norm_bound() for block in setting.network.blocks()])[:, None]
    budget = gammas[None, :] / (2 * SQRT2) * (1.0 - OUTWARD)
    shares = (setting.parameters / setting.parameters.sum())[:, None]

    def fit(log_lambda: Array) -> Array:
        """The largest σ within the budget at these sensitivities."""
        if common:
            log_sum = np.logaddexp.reduce(log_lambda + np.log(factors), axis=0)
            return np.broadcast_to(np.exp(np.log(budget) - log_sum), log_lambda.shape)
        log_each = np.log(shares * budget / factors) - log_lambda
        return np.exp(np.minimum(log_each, np.log(np.maximum(norms, 1e-9)) + 4.0))

    def grid(sigma: Array) -> Array:
        """Down to the grid, where one scale serves as the prior's as well."""
        sigma = np.maximum(sigma, SMALLEST)
        if not common:
            return sigma
        down = [SCALE_GRID.value(SCALE_GRID.index_at_most(float(x))) for x in sigma.min(axis=0)]
        return np.broadcast_to(np.array(down), sigma.shape)

    at_norms = np.zeros((len(norms), len(gammas)))
    trial = grid(fit(_lambda_at(setting, norms, at_norms)))
    sigma = np.full_like(trial, SMALLEST)
    for _ in range(ROUNDS):
        allowed = fit(_lambda_at(setting, norms, factors * trial))
        admissible = grid(np.minimum(trial, allowed))
        sigma = np.where(admissible.sum(axis=0) > sigma.sum(axis=0), admissible, sigma)
        trial = grid(fit(_lambda_at(setting, norms, factors * admissible)))
    return sigma


def _lambda_at(setting: Setting, norms: Array, xi: Array) -> Array:
    """Log Λ (K, G) at caps ‖A_k‖ + ξ_k."""
    caps = (norms + xi) * (1 + 1e-14)
    systems = [
        {name: Cap(float(min(caps[i, g], 1e300))) for i, name in enumerate(setting.names)}
        for g in range(xi.shape[1])
    ]
    found = setting.sensitivities(systems)
    return np.stack([found.log_lambda[name] for name in setting.names])


def _divergences(
    setting: Setting, sigma: Array, common: bool
) -> tuple[Array, list[tuple[Cost, ...]]]:
    """KL (G,) and the price rows of the prior scales, for every γ."""
    blocks = list(setting.network.blocks())
    squares = [_distance(setting, block) ** 2 * (1.0 + OUTWARD) for block in blocks]
    KL, cost_rows = [], []
    for g in range(sigma.shape[1]):
        total, rows = 0.0, []
        if common:
            j = SCALE_GRID.index_at_most(float(sigma[0, g]) * (1 + 1e-12))
            rows.append(Cost("scale σ", j, float(sigma[0, g]), SCALE_GRID.cost(j)))
            total = sum(squares) / (2.0 * float(sigma[0, g]) ** 2)
        else:
            for block, square, s in zip(blocks, squares, sigma[:, g], strict=True):
                KL_k, row = _block_divergence(block, square, float(s))
                total += KL_k
                rows.append(row)
        KL.append(total * (1.0 + OUTWARD))
        cost_rows.append(tuple(rows))
    return np.array(KL), cost_rows


def _distance(setting: Setting, block: Block) -> float:
    """‖w_k − w_0k‖_F, rounded up."""
    value = block.value
    if setting.initial is not None:
        value = value - setting.initial[block.name]
    return frobenius_norm_bound(value.reshape(block.rows, -1), name=block.name) * (1 + OUTWARD)


def _block_divergence(block: Block, square: float, sigma: float) -> tuple[float, Cost]:
    """KL of one block at the better of the two grid scales round the optimum, and its price."""
    P = float(block.parameters)
    j = SCALE_GRID.index_at_most(math.hypot(sigma, math.sqrt(square / P)))
    options = []
    for index in (j, j + 1):
        s = SCALE_GRID.value(index)
        ratio = (sigma / s) ** 2
        KL = 0.5 * (P * (ratio - 1.0 + 2.0 * (math.log(s) - math.log(sigma))) + square / s**2)
        KL = max(KL, 0.0) + 1e-12 * P * (1.0 + abs(math.log(sigma)))
        options.append((KL, Cost(f"prior scale of {block.name}", index, s, SCALE_GRID.cost(index))))
    return min(options, key=lambda option: option[0] + option[1].nats)
