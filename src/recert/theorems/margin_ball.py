"""The margin ball (theory, 4b): PAC-Bayes-kl with uniform balls, and its covering form.

Statement. Prior uniform on the product of balls of radius c_k + ε_k, posterior uniform on the
balls of radius ε_k round the trained weights, √2·Σ_k Λ_k ε_k ≤ γ/2 with Λ at caps c_k + ε_k. With
probability ≥ 1−δ, for every trained network inside the caps,

    P(error) ≤ kl⁻¹( R̂_γ^hard , (Σ_k P_k ln(1 + c_k/ε_k) + ln(2√m/δ))/m ).

The covering form is kl⁻¹(R̂_γ^hard, (Σ_k P_k ln(1 + 2c_k/ε_k) + ln(1/δ))/m) with Λ at the caps: a
union over a proper cover and the Chernoff bound, more elementary and about 0.69 nats a parameter
worse; it is kept as the check.

Radii are functions of γ and the caps alone, so they cost nothing beyond what γ and the caps cost.

Hypotheses: i.i.d. units, inputs within B_x, length at most T, weights within the caps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.certificates.certificate import Bound
from recert.networks.norm_class import Cap
from recert.numerics.concentration import kl_inverse_upper, maurer_log_term
from recert.numerics.union_bound import total_nats
from recert.theorems.setting import OUTWARD, SQRT2, TINY, UNIVERSAL, Setting, Theorem, finish

Array = NDArray[np.float64]

ROUNDS = 3
# A radius above this multiple of the cap saves less than ln(1 + 1/LARGEST) a parameter.
LARGEST = 64.0


def ball_radii(setting: Setting, gammas: Array, rounds: int = ROUNDS) -> Array:
    """log ε_k (K, G) with √2·Σ Λ_k(c + ε) ε_k ≤ γ/2, budgets in proportion to P_k.

    A trial radius gives Λ at c + trial; whatever is at most the trial and within its budget at
    that Λ is admissible, because Λ grows with the caps. Trials from admissible radii sharpen it.
    """
    log_budget = _log_budget(setting, gammas)
    ceiling = setting.log_caps[:, None] + math.log(LARGEST)
    trial = _largest_radii(setting, gammas)
    radii, admissible = np.full_like(trial, -np.inf), trial
    for k in range(rounds):
        if k:
            trial = np.minimum(log_budget - _inflated(setting, admissible), ceiling)
        allowed = np.minimum(log_budget - _inflated(setting, trial), ceiling)
        admissible = np.minimum(trial, allowed)
        radii = np.where(_nats(setting, admissible) < _nats(setting, radii), admissible, radii)
    return radii


def _log_budget(setting: Setting, gammas: Array) -> Array:
    """log of each block's part of γ/(2√2), (K, G)."""
    shares = setting.parameters / setting.parameters.sum()
    budget: Array = np.log(shares)[:, None] + np.log(gammas)[None, :] - math.log(2 * SQRT2) - 1e-12
    return budget


def _largest_radii(setting: Setting, gammas: Array) -> Array:
    """log ε_k (K, G) at Λ at the caps, which is smaller than at c + ε: no radii are larger."""
    ceiling = setting.log_caps[:, None] + math.log(LARGEST)
    return np.minimum(_log_budget(setting, gammas) - setting.log_lambda[:, None], ceiling)


def worth_it(setting: Setting, values: Array) -> tuple[NDArray[np.int64], int]:
    """Which candidates γ are worked out, from values that theirs cannot be below, and how finely.

    Those whose value cannot be below 1 are left out: they are never better than another. Where
    none is left the first is worked out once, to have a row that says 1 whatever its radii are.
    """
    if setting.budget == math.inf:
        return np.arange(len(values)), ROUNDS
    hope = np.flatnonzero(values < 1.0)
    return (hope, ROUNDS) if len(hope) else (np.zeros(1, dtype=np.int64), 1)


def _inflated(setting: Setting, log_radii: Array) -> Array:
    """log Λ (K, G) at caps c + ε, row caps c_row + √d2·ε."""
    blocks = list(setting.network.blocks())
    systems = []
    for g in range(log_radii.shape[1]):
        system = {}
        for i, block in enumerate(blocks):
            cap, radius = setting.caps[block.name], math.exp(log_radii[i, g])
            row = None if cap.row is None else cap.row + math.sqrt(block.columns) * radius
            system[block.name] = Cap((cap.norm + radius) * (1 + 1e-14), row)
        systems.append(system)
    found = setting.sensitivities(systems)
    return np.stack([found.log_lambda[name] for name in setting.names])


def _nats(setting: Setting, log_radii: Array, factor: float = 1.0) -> Array:
    """Σ_k P_k ln(1 + factor·c_k/ε_k) for every γ, rounded up."""
    log_ratio = setting.log_caps[:, None] + math.log(factor) - log_radii
    total: Array = setting.parameters @ np.logaddexp(0.0, log_ratio) * (1.0 + OUTWARD) + TINY
    return total


def best_margin(
    theorem: Theorem,
    setting: Setting,
    delta: float,
    nats: Array,
    log_term: float,
    more: dict[str, Array],
    among: NDArray[np.int64] | None = None,
) -> Bound:
    """kl⁻¹(R̂_γ^hard, (nats + log term + costs)/m) at the γ where it is smallest, of ``among``."""
    gammas, prices, rows = setting.margin_choices
    if among is not None:
        gammas, prices, rows = gammas[among], prices[among], [rows[i] for i in among]
    risks, rates, values = _values(setting, gammas, nats + prices, log_term)
    i = int(np.argmin(values))
    return finish(
        theorem,
        float(values[i]),
        math.log(values[i]),
        delta=delta,
        terms={
            "hard_margin_risk": float(risks[i]),
            "complexity_nats": float(nats[i]),
            "confidence_nats": log_term,
            "rate": float(rates[i]),
        },
        choices={
            "gamma": float(gammas[i]),
            **{what: [float(x) for x in array[:, i]] for what, array in more.items()},
        },
        cost=(*setting.cap_costs, *setting.choice_costs, rows[i]),
    )


def _values(
    setting: Setting, gammas: Array, nats: Array, log_term: float
) -> tuple[Array, Array, Array]:
    """Risks, rates and values at every γ."""
    paid = total_nats((*setting.cap_costs, *setting.choice_costs))
    risks = setting.table.hard_risk(gammas)
    rates = (nats + log_term + paid) / setting.m * (1.0 + OUTWARD)
    return risks, rates, kl_inverse_upper(risks, rates)


@dataclass(frozen=True)
class MarginBall(Theorem):
    """PAC-Bayes-kl with uniform balls: the certificate of the class."""

    name: str = "margin_ball"
    title: str = "margin ball (PAC-Bayes-kl)"
    needs: tuple[str, ...] = (*UNIVERSAL, "input_bound", "horizon", "caps", "margin", "floats")
    quick: bool = True
    reference: str = "theory 4b; Maurer 2004"
    for_lists: bool = True

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The best γ on the grid, paid for."""
        gammas, prices, _ = setting.margin_choices
        log_term = maurer_log_term(setting.m, delta)
        least = _nats(setting, _largest_radii(setting, gammas)) * (1.0 - OUTWARD)
        among, rounds = worth_it(setting, _values(setting, gammas, least + prices, log_term)[2])
        found = self._at(setting, delta, among, rounds)
        if rounds < ROUNDS and found.value < 1.0:
            # Radii are functions of γ and caps alone, unless what they lead to says nothing.
            found = self._at(setting, delta, np.arange(len(gammas)), ROUNDS)
        return found

    def _at(self, setting: Setting, delta: float, among: NDArray[np.int64], rounds: int) -> Bound:
        log_radii = ball_radii(setting, setting.margin_choices[0][among], rounds)
        nats, log_term = _nats(setting, log_radii), maurer_log_term(setting.m, delta)
        more = {"log_radii": log_radii}
        return best_margin(self, setting, delta, nats, log_term, more, among)


@dataclass(frozen=True)
class MarginCover(Theorem):
    """A union over a proper cover: the elementary version, kept as the check."""

    name: str = "margin_cover"
    title: str = "margin ball, covering form"
    needs: tuple[str, ...] = (*UNIVERSAL, "input_bound", "horizon", "caps", "margin", "floats")
    quick: bool = True
    reference: str = "theory 4b, covering form; Chernoff–Hoeffding"
    for_lists: bool = True

    def bound(self, setting: Setting, delta: float) -> Bound:
        """The best γ on the grid, paid for."""
        gammas, _, _ = setting.margin_choices
        shares = setting.parameters / setting.parameters.sum()
        log_budget = np.log(shares)[:, None] + np.log(gammas)[None, :] - math.log(2 * SQRT2)
        ceiling = setting.log_caps[:, None] + math.log(LARGEST)
        log_radii = np.minimum(log_budget - setting.log_lambda[:, None] - 1e-12, ceiling)
        nats = _nats(setting, log_radii, factor=2.0)
        log_term = -math.log(delta) * (1.0 + OUTWARD)
        return best_margin(self, setting, delta, nats, log_term, {"log_radii": log_radii})
