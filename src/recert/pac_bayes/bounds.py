"""PAC-Bayes for the Gibbs predictor that draws its weights afresh (theory, 5b).

Statement. Prior P = N(w_0, s_0² I) from the first m_0 units of the sample alone, posterior
Q = N(w, diag s²) from whatever one likes; m' further units, losses in [0, 1]. R(Q) is the mean loss
on a new unit of networks drawn from Q, R̂(Q) that on the m' units. With c = KL(Q‖P) + costs:

    R(Q) ≤ kl⁻¹( R̂(Q), (c + ln(2√m'/δ))/m' )                            for all Q at once,
    R(Q) ≤ (1 − exp(−λ R̂(Q) − (c + ln(1/δ))/m')) / (1 − e^{−λ})         for all Q at once,

each with probability at least 1 − δ, the second for one λ > 0 that the first m_0 units fixed. R̂(Q)
is not known but estimated by drawing: with probability 1 − δ' over n draws, one for every pair
(unit, repetition), of mean loss R_MC,

    R̂(Q) ≤ kl⁻¹( R_MC, ln(1/δ')/n ),                                    losses in [0, 1],
    R̂(Q) ≤ R_MC + (−(ln(1−a) + a) D + ln(1/δ')/N)/(2a),                 losses 0 or 1,

N = n/2 pairs of draws for one unit, D the share of them in which one of the two errs and the other
does not, a ∈ (0, 1) fixed before the draws. Both bounds on R(Q) grow with R̂(Q). The draws speak of
one Q: where it was chosen among n, all of which could have been drawn from, δ'/n takes the place of
δ'.

Proofs. (1) Maurer 2004. (2) Catoni 2007: E exp(−λℓ) ≤ 1 − (1−e^{−λ})R, so for every fixed w
E exp(m'[−ln(1−(1−e^{−λ})R(w)) − λR̂(w)]) ≤ 1; Markov, Donsker and Varadhan, and Jensen for the
convex function −ln(1−(1−e^{−λ})p). No 2√m' is paid, because λ is fixed. (3) Hoeffding 1956: n
independent variables in [0, 1] of unequal means; their mean obeys kl(R_MC, R̂) ≤ ln(1/δ')/n as if
they were equal. (4) For a unit on which Q errs with probability p let A = (Y + Y')/2, D = 1[Y ≠ Y']
and e^{−c} = (1−a)e^{a}. Then E exp(2a(p − A) − cD) ≤ 1: dividing by e^{2ap} it says
q² + 2pq(1−a) + p²e^{−2a} ≤ e^{−2ap}, q = 1 − p. As the left side is
(1−ap)² + p²(e^{−2a} − (1−a)²), put f(u) = (e^{−2u} − (1−u)²)/u² = (e^{−2u} − 1 + 2u)/u² − 1, which
falls in u > 0, and use f(ap) ≥ f(a). Multiply over all units and pairs, and use Markov. It errs by
√(D ln(1/δ')/(2N)), kl by √(2R̂(1−R̂) ln(1/δ')/n): this pays only for what draws disagree about.

The plurality vote. Where the class that most networks of Q choose is not the right one, the right
one has at most half of the weight: right and chosen class are different, and the chosen one has no
less. So Q errs there with probability at least 1/2, and the vote's risk is at most 2R(Q).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recert.certificates.certificate import Bound, Predictor
from recert.errors import InputError
from recert.numerics.concentration import binomial_upper_limit, kl_inverse_upper, maurer_log_term
from recert.numerics.union_bound import Cost, total_nats
from recert.theorems.setting import OUTWARD, RECIPES, SAID, UNIVERSAL, Statement, finish
from recert.utils.validation import Brief

# Candidates for the rate a of the Monte Carlo limit.
RATES = 0.99 * 2.0 ** (-np.arange(0, 80) / 8)


@dataclass(frozen=True)
class MonteCarlo:
    """What drawing showed of R̂(Q), and how sure one may be.

    Args:
        mean: R_MC, over all units and repetitions.
        units: m'.
        repetitions: networks drawn for each unit.
        delta: δ'.
        disagreement: D, for losses 0 or 1 and repetitions in pairs, else None.
        rate: a, fixed before the draws; None for Hoeffding's limit.
        nats: price of the choice among posteriors, each of which has draws of its own.
    """

    mean: float
    units: int
    repetitions: int
    delta: float
    disagreement: float | None = None
    rate: float | None = None
    nats: float = 0.0

    @property
    def limit(self) -> float:
        """An upper limit of R̂(Q), rounded up."""
        return self._limit(self.mean)

    @property
    def lower_limit(self) -> float:
        """A lower limit of R̂(Q), rounded down; fails with probability δ' of its own."""
        return max(0.0, 1.0 - self._limit(min(1.0, math.nextafter(1.0 - self.mean, 2.0))))

    def _limit(self, mean: float) -> float:
        if self.disagreement is None or self.rate is None:
            return hoeffding_limit(mean, self.units * self.repetitions, self.delta, self.nats)
        pairs = self.units * (self.repetitions // 2)
        return paired_limit(mean, self.disagreement, pairs, self.delta, self.rate, self.nats)


def hoeffding_limit(mean: float, n: int, delta: float, nats: float = 0.0) -> float:
    """kl⁻¹(mean, (ln(1/δ) + nats)/n), for n independent losses in [0, 1], rounded up."""
    return float(kl_inverse_upper(mean, (nats - math.log(delta)) / n * (1.0 + OUTWARD)))


def paired_limit(
    mean: float, disagreement: float, pairs: int, delta: float, rate: float, nats: float = 0.0
) -> float:
    """R_MC + (−(ln(1−a) + a) D + (ln(1/δ) + nats)/N)/(2a), losses 0 or 1, N pairs, rounded up."""
    if not 0.0 < rate < 1.0:
        raise InputError(f"the rate of the Monte Carlo limit is {rate}; it lies between 0 and 1")
    price = -(math.log1p(-rate) + rate) + 1e-15
    excess = (price * disagreement + (nats - math.log(delta)) / pairs) / (2.0 * rate)
    return min(1.0, mean + excess * (1.0 + OUTWARD) + 2.0**-52)


def best_rate(disagreement: float, pairs: int, delta: float, nats: float = 0.0) -> float:
    """The a that makes `paired_limit` smallest where so much disagreement is expected."""
    limits = [paired_limit(0.0, disagreement, pairs, delta, float(a), nats) for a in RATES]
    return float(RATES[int(np.argmin(limits))])


def temperature_for(risk: float, nats: float, m: int) -> float:
    """The λ at which the second statement is smallest for this R̂ and c + ln(1/δ) on m units."""
    q = min(max(risk, 1e-6), 1.0 - 1e-6)
    p = min(float(kl_inverse_upper(q, nats / m)), 1.0 - 1e-9)
    return math.log(p / q) + math.log1p(-q) - math.log1p(-p)


@dataclass(frozen=True, repr=False)
class GibbsSetting(Brief):
    """What the statements are evaluated on.

    Args:
        divergence: KL(Q‖P) in nats, rounded up.
        monte_carlo: the draws on the m' units.
        costs: prices of what was chosen after looking.
        temperature: λ fixed by the first units, or None.
        holdout: draws on held-out units, one network a sequence: mean loss, units, whether every
            loss is 0 or 1; or None.
        choices: what else the certificate records.
    """

    divergence: float
    monte_carlo: MonteCarlo
    costs: tuple[Cost, ...] = ()
    temperature: float | None = None
    holdout: tuple[float, int, bool] | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def m(self) -> int:
        """m', units that the prior has not seen."""
        return self.monte_carlo.units

    def terms(self) -> dict[str, float]:
        """The parts that both statements are made of."""
        drawn = self.monte_carlo
        found = {
            "units": float(drawn.units),
            "KL": self.divergence,
            "gibbs_error_drawn": drawn.mean,
            "gibbs_error_limit": drawn.limit,
            "monte_carlo_draws": float(drawn.units * drawn.repetitions),
            "monte_carlo_delta": drawn.delta,
        }
        if drawn.disagreement is not None and drawn.rate is not None:
            found |= {"disagreement": drawn.disagreement, "monte_carlo_rate": drawn.rate}
        return found


GibbsTheorem = Statement[GibbsSetting]

NEEDS = (*UNIVERSAL, "prior", "roles", "draws")


@dataclass(frozen=True)
class PacBayesKl(Statement["GibbsSetting"]):
    """PAC-Bayes-kl, Monte Carlo limit included."""

    name: str = "pac_bayes_kl"
    title: str = "PAC-Bayes-kl (Gibbs)"
    needs: tuple[str, ...] = NEEDS
    reference: str = "theory 5b; Maurer 2004, Langford and Seeger 2001"
    predictor: Predictor = "gibbs"

    def supports(self, setting: GibbsSetting) -> str:
        """Applies always."""
        return ""

    def bound(self, setting: GibbsSetting, delta: float) -> Bound:
        """kl⁻¹ of the limit of R̂(Q)."""
        confidence = maurer_log_term(setting.m, delta)
        rate = (setting.divergence + total_nats(setting.costs) + confidence) / setting.m
        rate *= 1.0 + OUTWARD
        value = float(kl_inverse_upper(setting.monte_carlo.limit, min(rate, 1e300)))
        return _finished(
            self, value, math.log(value), delta=delta,
            terms={**setting.terms(), "confidence_nats": confidence, "rate": min(rate, 1e300)},
            choices=dict(setting.choices), cost=setting.costs,
        )  # fmt: skip


@dataclass(frozen=True)
class PacBayesTemperature(Statement["GibbsSetting"]):
    """PAC-Bayes at a temperature that was fixed beforehand, Monte Carlo limit included."""

    name: str = "pac_bayes_temperature"
    title: str = "PAC-Bayes at a fixed temperature (Gibbs)"
    needs: tuple[str, ...] = NEEDS
    reference: str = "theory 5b; Catoni 2007"
    predictor: Predictor = "gibbs"

    def supports(self, setting: GibbsSetting) -> str:
        """Needs a λ."""
        return "" if setting.temperature is not None else "the prior fixed no temperature"

    def bound(self, setting: GibbsSetting, delta: float) -> Bound:
        """(1 − exp(−λR̂ − c))/(1 − e^{−λ})."""
        assert setting.temperature is not None
        lam, confidence = setting.temperature, -math.log(delta) * (1.0 + OUTWARD)
        rate = (setting.divergence + total_nats(setting.costs) + confidence) / setting.m
        rate *= 1.0 + OUTWARD
        exponent = lam * setting.monte_carlo.limit + rate
        value = min(1.0, math.expm1(-exponent) / math.expm1(-lam) * (1.0 + OUTWARD))
        return _finished(
            self, value, math.log(value), delta=delta,
            terms={**setting.terms(), "confidence_nats": confidence, "rate": min(rate, 1e300)},
            choices={"temperature": lam, **setting.choices}, cost=setting.costs,
        )  # fmt: skip


@dataclass(frozen=True)
class GibbsHeldOut(Statement["GibbsSetting"]):
    """Held-out units, one fresh network for each: their errors are independent and of one mean."""

    name: str = "held_out"
    title: str = "held-out units (Gibbs)"
    needs: tuple[str, ...] = ("holdout", *SAID, "draws")
    reference: str = "theory 5d; Clopper and Pearson 1934"
    predictor: Predictor = "gibbs"
    free: tuple[str, ...] = (RECIPES, "prior scale s_0")

    def supports(self, setting: GibbsSetting) -> str:
        """Needs held-out units."""
        return "" if setting.holdout is not None else "no held-out units were given"

    def bound(self, setting: GibbsSetting, delta: float) -> Bound:
        """Exact for losses 0 or 1, else kl⁻¹."""
        assert setting.holdout is not None
        mean, n, zero_one = setting.holdout
        if zero_one:
            value = binomial_upper_limit(round(mean * n), n, delta)
        else:
            value = hoeffding_limit(min(1.0, mean + 1e-12), n, delta)
        return _finished(
            self, value, math.log(value), delta=delta,
            terms={"error": mean, "units": float(n)}, choices={}, cost=(),
        )  # fmt: skip


def _finished(theorem: Any, value: float, log_value: float, **parts: Any) -> Bound:
    """`recert.theorems.setting.finish`, for a statement on the Gibbs predictor."""
    return finish(theorem, value, log_value, predictor="gibbs", **parts)


GIBBS_THEOREMS: tuple[GibbsTheorem, ...] = (PacBayesTemperature(), PacBayesKl(), GibbsHeldOut())


def majority_vote(gibbs: Bound) -> Bound:
    """The limit for the plurality vote, min(1, 2 × that of the Gibbs predictor)."""
    value = min(1.0, 2.0 * gibbs.value)
    return replace(
        gibbs,
        name="majority_vote",
        title="plurality vote, twice the Gibbs limit",
        log10=math.log10(value) + OUTWARD,
        reference="theory 5b",
        terms={"value": value, "gibbs": gibbs.value, "units": gibbs.terms["units"]},
        choices={"from": gibbs.name},
        predictor="majority vote",
    )


def mean_network() -> Bound:
    """What 5b says of the network with the mean weights: nothing."""
    return Bound(
        "mean_network", "network of mean weights", "not applicable", None, "theory 5b",
        reason="PAC-Bayes bounds the networks that are drawn, not their mean; a limit for the mean "
        "network needs margins (theory 5c) or held-out units",
    )  # fmt: skip
