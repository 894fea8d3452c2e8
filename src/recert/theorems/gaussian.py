"""Theorem 3 (4) of the paper, repaired (theory, 5c): Gaussian prior, for the network itself.

Statement. Prior N(w_0, s_k² I) with w_0 = 0 or the initial weights, posterior N(w, σ_k² I), Z
fixed. With probability ≥ Z every perturbation obeys ‖δA_k‖ ≤ ξ_k,

    ξ_k = σ_k(√d1 + √d2 + √(2 ln(n/(1−Z))))          dense blocks, n blocks in all,
    ξ_k = σ_k(√d1 + √(2 ln(n d2/(1−Z))))             blocks that read one-hot inputs, biases,
    ξ_k = σ_k√w(min{√o + √(iw), √(ow) + √i} + √(2 ln(n/(1−Z))))    o × i filters of width w.

(For a filter bank the operator at frequency ω is [A_1 … A_w](e(ω) ⊗ I) with ‖e(ω) ⊗ I‖ = √w, and
its adjoint form; so the operator norm is at most √w times the spectral norm of either matrix.)

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

from recert.certificates.certificate import Bound
from recert.networks.network import Block
from recert.networks.norm_class import SMALLEST, Cap
from recert.numerics.concentration import binary_entropy, kl_inverse_upper, maurer_log_term
from recert.numerics.norms import frobenius_norm_bound
from recert.numerics.union_bound import SCALE_GRID, Cost, total_nats
from recert.theorems.margin_ball import ROUNDS, worth_it
from recert.theorems.setting import OUTWARD, SQRT2, UNIVERSAL, Setting, Theorem, finish

Array = NDArray[np.float64]

Z_FIXED = 0.999


def spread_factors(setting: Setting, Z: float) -> Array:
    """ξ_k/σ_k, (K,)."""
    blocks = list(setting.network.blocks())
    return np.array([_spread(block, len(blocks), Z) for block in blocks]) * (1.0 + OUTWARD)


def _spread(block: Block, n: int, Z: float) -> float:
    if block.norm == "spectral":
        root = math.sqrt(2.0 * math.log(n / (1.0 - Z)))
        return math.sqrt(block.rows) + math.sqrt(block.columns) + root
    if block.norm == "operator":
        out, channels, width = block.shape
        sides = min(
            math.sqrt(out) + math.sqrt(channels * width),
            math.sqrt(out * width) + math.sqrt(channels),
        )
        return math.sqrt(width) * (sides + math.sqrt(2.0 * math.log(n / (1.0 - Z))))
    return math.sqrt(block.rows) + math.sqrt(2.0 * math.log(n * block.columns / (1.0 - Z)))


@dataclass(frozen=True)
class GaussianBall(Theorem):
    """Theorem 3 (4), repaired; no caps."""

    paper: bool = False
    needs: tuple[str, ...] = (*UNIVERSAL, "input_bound", "horizon", "margin", "floats", "prior")
    reference: str = "theory 5c; Theorem 3 (4) of the paper, repaired; Neyshabur et al. 2018"
    for_lists: bool = True

    @property
    def name(self) -> str:
        """Identifier."""
        return "theorem_3_gaussian_paper" if self.paper else "theorem_3_gaussian"

    @property
    def title(self) -> str:
        """For tables."""
        return "Theorem 3 (4) repaired" + (", the paper’s one σ" if self.paper else "")

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The best γ on the grid, paid for."""
        gammas, prices, _ = setting.margin_choices
        Z, log_term = self.Z, maurer_log_term(setting.m, delta)
        least = _least_divergences(setting, gammas, Z, common=self.paper) * (1.0 - 1e-9)
        rates = (least / Z + log_term + prices) / setting.m
        risks = setting.table.hard_risk(gammas)
        values = kl_inverse_upper(risks, np.minimum(rates, 1e300))
        among, rounds = worth_it(setting, values)
        found = self._at(setting, delta, among, rounds)
        if rounds < ROUNDS and found.value < 1.0:
            # Scales are functions of γ and norms alone, unless what they lead to says nothing.
            found = self._at(setting, delta, np.arange(len(gammas)), ROUNDS)
        return found

    @property
    def Z(self) -> float:
        """The probability with which a perturbation is small."""
        return 0.5 if self.paper else Z_FIXED

    def _at(self, setting: Setting, delta: float, among: NDArray[np.int64], rounds: int) -> Bound:
        """The best of some γ."""
        Z, (gammas, prices, every) = self.Z, setting.margin_choices
        gammas, prices, rows = gammas[among], prices[among], [every[i] for i in among]
        log_sigma = admissible_scales(setting, gammas, Z, common=self.paper, rounds=rounds)
        KL, cost_rows = _divergences(setting, log_sigma, common=self.paper)
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
                "log_sigma": [float(max(x, -1e300)) for x in log_sigma[:, i]],
                "prior_center": "zero" if setting.initial is None else "initial weights",
                "distances": [_distance(setting, block) for block in setting.network.blocks()],
            },
            cost=(*setting.choice_costs, *cost_rows[i], rows[i]),
        )


def admissible_scales(
    setting: Setting, gammas: Array, Z: float, *, common: bool, rounds: int = ROUNDS
) -> Array:
    """log σ_k (K, G) with √2·Σ Λ_k ξ_k ≤ γ/2 at caps ‖A_k‖ + ξ_k; −inf where none was found.

    As for the margin ball: a trial σ gives Λ at its caps, and what is below both the trial and its
    budget at that Λ is admissible. A scale common to all blocks lies on the grid.
    """
    log_factors = np.log(spread_factors(setting, Z))[:, None]
    norms = _norms(setting)

    def fit(log_lambda: Array) -> Array:
        return _fit(setting, gammas, Z, log_lambda, common=common)

    trial = fit(setting.log_lambda_at_norms[:, None])
    best, admissible = np.full_like(trial, -np.inf), trial
    for k in range(rounds):
        if k:
            trial = fit(_lambda_at(setting, norms, np.exp(log_factors + admissible)))
        allowed = fit(_lambda_at(setting, norms, np.exp(log_factors + trial)))
        admissible = np.minimum(trial, allowed)
        better = setting.parameters @ admissible > _score(setting, best)
        best = np.where(better, admissible, best)
    return best


def _norms(setting: Setting) -> Array:
    return np.array([block.norm_bound() for block in setting.network.blocks()])[:, None]


def _fit(setting: Setting, gammas: Array, Z: float, log_lambda: Array, *, common: bool) -> Array:
    """The largest log σ (K, G) within the budgets of γ at sensitivities (K, G) or (K, 1)."""
    log_factors, norms = np.log(spread_factors(setting, Z))[:, None], _norms(setting)
    log_budget = np.log(gammas)[None, :] - math.log(2 * SQRT2) - OUTWARD
    ceiling = np.log(np.maximum(norms, 1e-9)) + 4.0
    if common:
        log_sum = np.logaddexp.reduce(log_lambda + log_factors, axis=0)
        return _down_to_grid(np.minimum(log_budget - log_sum, ceiling.max()), len(norms))
    log_shares = np.log(setting.parameters / setting.parameters.sum())[:, None]
    return np.minimum(log_shares + log_budget - log_factors - log_lambda, ceiling)


def _least_divergences(setting: Setting, gammas: Array, Z: float, *, common: bool) -> Array:
    """KL (G,) below which no scales come: at Λ at the norms themselves, and the best s.

    Over s, ½[P(σ²/s² − 1 + ln(s²/σ²)) + d²/s²] is at least ½ P ln(1 + d²/(Pσ²)).
    """
    log_sigma = _fit(setting, gammas, Z, setting.log_lambda_at_norms[:, None], common=common)
    distances = np.array([_distance(setting, b) for b in setting.network.blocks()])[:, None]
    log_distances = np.log(np.maximum(distances, 1e-300))
    log_ratio = np.where(distances > 0.0, 2.0 * (log_distances - log_sigma), -np.inf)
    if common:
        found: Array = 0.5 * np.exp(np.minimum(np.logaddexp.reduce(log_ratio, axis=0), 690.0))
        return found
    P = setting.parameters
    return 0.5 * P @ np.logaddexp(0.0, log_ratio - np.log(P)[:, None])


def _score(setting: Setting, log_sigma: Array) -> Array:
    """Σ_k P_k log σ_k: the larger, the smaller the divergence."""
    with np.errstate(invalid="ignore"):
        score: Array = setting.parameters @ log_sigma
    return np.where(np.isnan(score), -np.inf, score)


def _down_to_grid(log_sigma: Array, blocks: int) -> Array:
    """Common scales (1, G) or (G,), rounded down to the grid; −inf below float64."""
    flat = np.ravel(log_sigma)
    logs = [
        math.log(SCALE_GRID.value(SCALE_GRID.index_at_most(math.exp(x)))) - 1e-13
        if -700.0 < x < 700.0
        else -math.inf
        for x in flat
    ]
    return np.broadcast_to(np.array(logs), (blocks, len(flat)))


def _lambda_at(setting: Setting, norms: Array, xi: Array) -> Array:
    """log Λ (K, G) at caps ‖A_k‖ + ξ_k."""
    # Never zero: a block of norm 0 still moves, however little float64 sees of it.
    caps = np.maximum((norms + xi) * (1 + 1e-12), SMALLEST)
    systems = [
        {name: Cap(float(min(caps[i, g], 1e300))) for i, name in enumerate(setting.names)}
        for g in range(xi.shape[1])
    ]
    found = setting.sensitivities(systems)
    return np.stack([found.log_lambda[name] for name in setting.names])


def _divergences(
    setting: Setting, log_sigma: Array, *, common: bool
) -> tuple[Array, list[tuple[Cost, ...]]]:
    """KL (G,) and the price rows of the prior scales, for every γ; inf where no σ is admissible."""
    blocks = list(setting.network.blocks())
    distances = [_distance(setting, block) for block in blocks]
    KL, cost_rows = [], []
    for column in log_sigma.T:
        total, rows = math.inf, []
        if not np.isfinite(column).all():
            pass
        elif common:
            total, row = _common_divergence(math.hypot(*distances), float(column[0]))
            rows.append(row)
        else:
            total = 0.0
            for block, distance, log_s in zip(blocks, distances, column, strict=True):
                KL_k, row = _block_divergence(block, distance, float(log_s))
                total += KL_k
                rows.append(row)
        KL.append(total * (1.0 + OUTWARD))
        cost_rows.append(tuple(rows))
    return np.array(KL), cost_rows


def _common_divergence(distance: float, log_sigma: float) -> tuple[float, Cost]:
    """KL with one scale for prior and posterior, ‖w − w_0‖²/(2σ²), and the price of the scale."""
    j = SCALE_GRID.index_at_most(math.exp(log_sigma) * (1 + 1e-12))
    sigma = SCALE_GRID.value(j)
    log_KL = 2.0 * (math.log(max(distance, 1e-300)) - math.log(sigma)) - math.log(2.0) + OUTWARD
    KL = math.exp(log_KL) if log_KL < 700.0 else math.inf
    return KL, Cost("scale σ", j, sigma, SCALE_GRID.cost(j))


def _distance(setting: Setting, block: Block) -> float:
    """‖w_k − w_0k‖_F, rounded up."""
    if setting.initial is None:
        return block.matrix_norm("frobenius") * (1 + OUTWARD)
    value = block.value - setting.initial[block.name]
    return frobenius_norm_bound(value.reshape(len(value), -1), name=block.name) * (1 + OUTWARD)


def _block_divergence(block: Block, distance: float, log_sigma: float) -> tuple[float, Cost]:
    """KL of one block at the better of the two grid scales round the optimum, and its price."""
    P = float(block.parameters)
    sigma = math.exp(log_sigma)
    j = SCALE_GRID.index_at_most(max(math.hypot(sigma, distance / math.sqrt(P)), 1e-250))
    options = []
    for index in (j, j + 1):
        s = SCALE_GRID.value(index)
        ratio = (sigma / s) ** 2
        # The divergence of N(w, σ²) from N(w_0, s²); σ may be below float64, its logarithm is not.
        KL = 0.5 * (P * (ratio - 1.0 + 2.0 * (math.log(s) - log_sigma)) + (distance / s) ** 2)
        KL = max(KL, 0.0) + 1e-12 * P * (1.0 + abs(log_sigma))
        options.append((KL, Cost(f"prior scale of {block.name}", index, s, SCALE_GRID.cost(index))))
    return min(options, key=lambda option: option[0] + option[1].nats)
