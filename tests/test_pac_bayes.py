"""5b as a statement: formulas against mpmath, inequalities, coverage by simulation.

The simulations run where everything is known exactly: one letter a sentence and a vanilla network
of one unit, whose error after drawing all weights is a one-dimensional integral.

    python -m pytest tests/test_pac_bayes.py -m slow -s   # 600 samples each, prints what it found
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom

import family
import recert
from recert.compression.program import with_values
from recert.errors import InputError
from recert.networks.network import Block, Network
from recert.numerics.concentration import kl_inverse_lower
from recert.numerics.union_bound import SCALE_GRID, Cost
from recert.pac_bayes import assign_roles, certify_posterior, gibbs_losses, part_digest
from recert.pac_bayes.bounds import (
    GIBBS_THEOREMS,
    GibbsHeldOut,
    GibbsSetting,
    MonteCarlo,
    PacBayesKl,
    PacBayesTemperature,
    best_rate,
    hoeffding_limit,
    majority_vote,
    mean_network,
    paired_limit,
    temperature_for,
)
from recert.pac_bayes.posterior import Posterior, Prior, around
from recert.samples.sample import Batch, Reading

mpmath.mp.dps = 40
DELTA = 0.2
DIGEST = "0" * 64


def allowed(runs: int, delta: float = DELTA) -> int:
    """More failures than this happen with probability below 1e-4 when each has at most δ."""
    return int(binom.ppf(1 - 1e-4, runs, delta))


# Formulas.


def exact_kl_inverse(q: mpmath.mpf, c: mpmath.mpf) -> mpmath.mpf:
    def kl(p: mpmath.mpf) -> mpmath.mpf:
        first = q * mpmath.log(q / p) if q > 0 else mpmath.mpf(0)
        return first + (1 - q) * mpmath.log((1 - q) / (1 - p))

    low, high = q, mpmath.mpf(1) - mpmath.mpf(10) ** -38
    for _ in range(150):
        middle = (low + high) / 2
        low, high = (low, middle) if kl(middle) > c else (middle, high)
    return high


SETTINGS = [
    GibbsSetting(3.25, MonteCarlo(0.12, 58_100, 4, 2e-4, 0.006, 0.12), temperature=0.05),
    GibbsSetting(0.0, MonteCarlo(0.0, 50, 1, 1e-3), temperature=1.5),
    GibbsSetting(
        800.0,
        MonteCarlo(0.3, 5000, 3, 1e-3),
        (Cost("prior scale s_0", 3, 1.0, SCALE_GRID.cost(3)),),
        0.4,
    ),
    GibbsSetting(40.0, MonteCarlo(0.25, 1000, 2, 1e-3, 0.3, 0.01), temperature=0.02),
]


def exact_limit(drawn: MonteCarlo) -> mpmath.mpf:
    mean, log = mpmath.mpf(drawn.mean), -mpmath.log(mpmath.mpf(drawn.delta))
    if drawn.rate is None:
        return exact_kl_inverse(mean, log / (drawn.units * drawn.repetitions))
    a, pairs = mpmath.mpf(drawn.rate), drawn.units * drawn.repetitions // 2
    excess = -(mpmath.log(1 - a) + a) * mpmath.mpf(drawn.disagreement) + log / pairs
    return mean + excess / (2 * a)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("delta", [0.01, 0.2])
def test_values_are_those_of_the_statement_rounded_up(setting: GibbsSetting, delta: float) -> None:
    m = setting.m
    limit = exact_limit(setting.monte_carlo)
    nats = mpmath.mpf(setting.divergence) + sum(mpmath.mpf(c.nats) for c in setting.costs)
    confidence = mpmath.log(2 * mpmath.sqrt(m) / mpmath.mpf(delta))
    kl = exact_kl_inverse(limit, (nats + confidence) / m)
    lam = mpmath.mpf(setting.temperature)
    exponent = lam * limit + (nats - mpmath.log(mpmath.mpf(delta))) / m
    fixed = min(mpmath.mpf(1), (1 - mpmath.exp(-exponent)) / (1 - mpmath.exp(-lam)))
    for theorem, exact in ((PacBayesKl(), kl), (PacBayesTemperature(), fixed)):
        bound = theorem.bound(setting, delta)
        assert exact <= bound.value <= exact + mpmath.mpf("1e-9")
        assert bound.log10 >= mpmath.log10(exact)
        assert bound.predictor == "gibbs" and bound.cost == setting.costs
        assert bound.terms["KL"] == setting.divergence
    assert limit <= setting.monte_carlo.limit <= limit + mpmath.mpf("1e-9")


def test_the_lower_limit_mirrors_the_upper_one() -> None:
    for setting in SETTINGS:
        drawn = setting.monte_carlo
        mirrored = replace(drawn, mean=1.0 - drawn.mean)
        assert drawn.lower_limit == pytest.approx(max(0.0, 1.0 - mirrored.limit), abs=1e-12)
        assert drawn.lower_limit <= drawn.mean <= drawn.limit


@given(st.floats(0, 1), st.floats(1e-6, 0.995))
@settings(max_examples=300, deadline=None)
def test_pairs_of_draws_form_a_supermartingale(p: float, a: float) -> None:
    """E exp(2a(p − A) − cD) ≤ 1, on which the Monte Carlo limit rests."""
    p, a = mpmath.mpf(p), mpmath.mpf(a)
    q, c = 1 - p, -(mpmath.log(1 - a) + a)
    moment = (
        q**2 * mpmath.exp(2 * a * p)
        + 2 * p * q * mpmath.exp(2 * a * (p - mpmath.mpf(1) / 2) - c)
        + p**2 * mpmath.exp(2 * a * (p - 1))
    )
    assert moment <= 1 + mpmath.mpf(10) ** -30


def test_a_smaller_price_of_disagreement_would_be_wrong() -> None:
    p, a = mpmath.mpf("0.001"), mpmath.mpf("0.9")
    q, c = 1 - p, -mpmath.mpf("0.9") * (mpmath.log(1 - a) + a)
    moment = (
        q**2 * mpmath.exp(2 * a * p)
        + 2 * p * q * mpmath.exp(2 * a * p - a - c)
        + p**2 * mpmath.exp(2 * a * (p - 1))
    )
    assert moment > 1


@given(st.floats(0, 1), st.floats(1e-4, 30), st.integers(1, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_fixed_temperature_never_beats_kl_without_its_root(
    risk: float, nats: float, m: int
) -> None:
    """The second statement at its best λ is kl⁻¹(R̂, c/m): kl is the supremum over λ."""
    drawn = MonteCarlo(risk, m, 1, 0.5)
    inner = exact_kl_inverse(mpmath.mpf(drawn.limit), mpmath.mpf(nats) / m)
    for lam in (0.01, 0.3, 2.0):
        value = PacBayesTemperature().bound(GibbsSetting(nats, drawn, (), lam), 0.999).value
        assert value >= float(inner) - 1e-9


def test_the_temperature_chosen_beforehand_is_the_best_one() -> None:
    q, nats, m = 0.12, 6.0, 58_000
    best = temperature_for(q, nats, m)

    def value(lam: float) -> float:
        return math.expm1(-lam * q - nats / m) / math.expm1(-lam)

    assert value(best) <= min(value(best * x) for x in (0.8, 0.97, 1.03, 1.3))
    assert value(best) == pytest.approx(
        float(exact_kl_inverse(mpmath.mpf(q), mpmath.mpf(nats) / m))
    )
    assert temperature_for(0.0, 5.0, 100) > 0 and temperature_for(1.0, 5.0, 100) > 0


def test_the_rate_chosen_beforehand_is_near_the_best_one() -> None:
    for disagreement, pairs in ((0.3, 1000), (0.004, 100_000), (0.0, 500)):
        rate = best_rate(disagreement, pairs, 1e-3)
        best = min(
            paired_limit(0.1, disagreement, pairs, 1e-3, a) for a in np.linspace(1e-4, 0.99, 4000)
        )
        assert paired_limit(0.1, disagreement, pairs, 1e-3, rate) <= best + 1e-4
        # It pays for disagreement only, where Hoeffding's limit pays for the variance of all.
        assert paired_limit(0.1, disagreement, pairs, 1e-3, rate) < hoeffding_limit(
            0.1, 2 * pairs, 1e-3
        ) or disagreement > 0.2  # fmt: skip
    with pytest.raises(InputError, match="rate"):
        paired_limit(0.1, 0.1, 10, 0.1, 1.0)


def test_the_vote_and_the_mean_network() -> None:
    gibbs = PacBayesKl().bound(SETTINGS[0], 0.01)
    vote = majority_vote(gibbs)
    assert vote.value == 2 * gibbs.value and vote.predictor == "majority vote"
    assert vote.delta == gibbs.delta and vote.needs == gibbs.needs
    assert majority_vote(PacBayesKl().bound(SETTINGS[2], 0.01)).value == 1.0
    assert mean_network().kind == "not applicable" and "margins" in mean_network().reason


def test_where_a_vote_is_wrong_the_draws_are_wrong_half_the_time() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        shares = rng.dirichlet(rng.uniform(0.1, 2.0, size=rng.integers(2, 6)))
        right = rng.integers(len(shares))
        others = np.delete(shares, right)
        if shares[right] <= others.max():  # ties count as errors
            assert 1.0 - shares[right] >= 0.5


def test_menu_names_are_distinct_and_say_what_they_need() -> None:
    assert len({t.name for t in GIBBS_THEOREMS}) == len(GIBBS_THEOREMS)
    bare = GibbsSetting(1.0, MonteCarlo(0.1, 10, 1, 0.1))
    assert PacBayesTemperature().supports(bare) and GibbsHeldOut().supports(bare)
    assert not PacBayesKl().supports(bare)


def test_held_out_limits_of_fractions() -> None:
    exact = GibbsHeldOut().bound(replace(SETTINGS[0], holdout=(0.1, 50, True)), 0.05)
    fraction = GibbsHeldOut().bound(replace(SETTINGS[0], holdout=(0.1, 50, False)), 0.05)
    assert 0.1 < exact.value < fraction.value
    assert fraction.value == pytest.approx(hoeffding_limit(0.1, 50, 0.05), abs=1e-9)


# The divergence.


def exact_divergence(posterior: Posterior) -> mpmath.mpf:
    s_0, total = mpmath.mpf(posterior.prior.s_0), mpmath.mpf(0)
    for block, start in zip(posterior.mean.blocks(), posterior.prior.centre.blocks(), strict=True):
        w = np.float32(block.value)
        for index in np.ndindex(block.shape):
            if index[-1] in block.zero_columns:
                continue
            s = mpmath.mpf(float(np.float32(np.exp(posterior.log_scales[block.name][index]))))
            move = mpmath.mpf(float(w[index])) - mpmath.mpf(float(start.value[index]))
            ratio = s / s_0
            total += (ratio**2 - 1 - 2 * mpmath.log(ratio) + (move / s_0) ** 2) / 2
    return total


@pytest.mark.parametrize("cell", family.CELLS)
@pytest.mark.parametrize("size", [1e-4, 0.1, 3.0])
def test_divergence_against_mpmath(cell: str, size: float) -> None:
    rng = np.random.default_rng(int(10 * size))
    centre = family.random_network(rng, cell)
    moved = {b.name: b.value + size * rng.standard_normal(b.shape) for b in centre.blocks()}
    scales = {b.name: math.log(0.3) + size * rng.standard_normal(b.shape) for b in centre.blocks()}
    prior = Prior(centre, 5, DIGEST, 0.2, index=int(rng.integers(-9, 9)))
    posterior = Posterior(with_values(centre, moved), scales, prior)
    exact = exact_divergence(posterior)
    assert exact <= posterior.divergence <= exact * (1 + mpmath.mpf("1e-9")) + mpmath.mpf("1e-8")


def test_columns_that_are_always_zero_cost_nothing() -> None:
    rng = np.random.default_rng(1)
    E = rng.standard_normal((3, 4))
    E[:, 2] = 0.0
    net = recert.vanilla(np.eye(2), rng.standard_normal((2, 3)), np.eye(2), input_kind="real")
    padded = Network(net.layers, net.head, "onehot", Block("E", E, "column", (2,)))
    at_prior = around(padded, 1, DIGEST, 0.1)
    assert at_prior.divergence == pytest.approx(0.0, abs=1e-6)
    scales = {b.name: math.log(0.1) * np.ones(b.shape) for b in padded.blocks()}
    scales["E"][:, 2] = 50.0
    assert replace(at_prior, log_scales=scales).divergence == pytest.approx(0.0, abs=1e-6)
    assert not at_prior.drawn["E"][1][:, 2].any()


# Simulation: a world in which everything is known.

LETTERS, SEEN, COUNTED = 20, 40, 160
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


@dataclass(frozen=True)
class World:
    """One letter a sentence, all equally likely; class = parity, turned with probability noise."""

    noise: float

    def draw(self, m: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        tokens = rng.integers(LETTERS, size=m)
        return tokens[:, None], (tokens + (rng.random(m) < self.noise)) % 2

    def risk(self, posterior: Posterior) -> float:
        """R(Q), exactly."""
        table = error_table(posterior)
        letters = np.arange(LETTERS)
        right, turned = table[letters, letters % 2], table[letters, 1 - letters % 2]
        return float(((1 - self.noise) * right + self.noise * turned).mean())


def error_table(posterior: Posterior) -> np.ndarray:
    """(letters, 2): the probability that drawn weights err on a letter of that class.

    The unit's input is normal, and given its output so is the margin.
    """
    drawn = {name: (w.astype(float), s.astype(float)) for name, (w, s) in posterior.drawn.items()}
    (W, sW), (b, sb), (V, sV), (c, sc) = (drawn[k] for k in ("W", "b", "V", "b_V"))
    mean, spread = W[0] + b[0], np.hypot(sW[0], sb[0])
    h = np.tanh(mean[:, None] + spread[:, None] * NODES[None, :])
    margin = (V[0, 0] - V[1, 0]) * h + c[0] - c[1]
    width = np.sqrt((sV**2).sum() * h * h + (sc**2).sum())
    wrong = ndtr(-margin / width) @ (NODE_WEIGHTS / NODE_WEIGHTS.sum())
    return np.stack([wrong, 1.0 - wrong], axis=1)


def network(votes: np.ndarray) -> Network:
    """A network that decides each letter by the sign of its vote."""
    return recert.vanilla(
        np.zeros((1, 1)), votes[None, :], np.array([[1.0], [-1.0]]), b=np.zeros(1), b_V=np.zeros(2)
    )


def counts_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(letters, 2)."""
    return np.bincount(2 * x[:, 0] + y, minlength=2 * LETTERS).reshape(LETTERS, 2)


SCALE, TEMPERATURE = 0.25, 0.45


def learn(x: np.ndarray, y: np.ndarray, *, cheat: bool = False) -> Posterior:
    """Prior from the first part (or, cheating, from all), posterior the best of many for the bound.

    An adversary: R̂(Q) of every candidate is computed exactly, and the smallest bound wins.
    """
    part = assign_roles(x, y, Reading("onehot", LETTERS, 2, "last", 1), m_0=SEEN, digest=None).seen
    seen = counts_of(x, y) if cheat else counts_of(x[:SEEN], y[:SEEN])
    votes = 0.6 * np.sign(seen[:, 0] - seen[:, 1])
    prior = Prior(network(votes), SEEN, part_digest(part), SCALE, temperature=TEMPERATURE)
    start = around(prior.centre, SEEN, prior.digest, SCALE, temperature=TEMPERATURE)
    rest = counts_of(x[SEEN:], y[SEEN:])
    wish = np.sign(rest[:, 0] - rest[:, 1])
    candidates = [start]
    for size in () if cheat else (0.03, 0.08, 0.2, 0.5):
        moved = network(votes + size * wish)
        candidates.append(replace(start, mean=moved))
    return min(candidates, key=lambda q: bounds_of(q, rest)["pac_bayes_temperature"])


def known(risk: float, m: int) -> MonteCarlo:
    """R̂(Q) as good as without drawing: no disagreement, no confidence."""
    return MonteCarlo(risk, m, 2, 1.0 - 1e-12, 0.0, 0.5)


def bounds_of(posterior: Posterior, rest: np.ndarray) -> dict[str, float]:
    """Both statements with R̂(Q) known exactly."""
    risk = float((error_table(posterior) * rest).sum() / rest.sum())
    setting = GibbsSetting(posterior.divergence, known(risk, int(rest.sum())), (), TEMPERATURE)
    return {t.name: t.bound(setting, DELTA).value for t in (PacBayesKl(), PacBayesTemperature())}


def test_the_world_is_known_exactly() -> None:
    rng = np.random.default_rng(0)
    votes = rng.standard_normal(LETTERS)
    posterior = replace(
        around(network(votes), 1, DIGEST, 0.3),
        log_scales={"U": -1.0, "W": -0.5, "b": -1.5, "V": -1.2, "b_V": -0.9},
    )
    x = np.repeat(np.arange(LETTERS), 2)[:, None]
    y = np.tile([0, 1], LETTERS)
    batch = Batch(x, y, np.ones(len(x), dtype=np.int64))
    losses = gibbs_losses(posterior, batch, "last", repetitions=4000, seed=1)
    found = losses.mean(axis=0).reshape(LETTERS, 2)
    assert np.abs(found - error_table(posterior)).max() < 5 * 0.5 / math.sqrt(4000)


def count_failures(runs: int, noise: float, seed: int) -> Counter[str]:
    """Samples on which a bound lies below the true Gibbs risk: as it is, and broken."""
    world, rng = World(noise), np.random.default_rng(seed)
    failures: Counter[str] = Counter()
    for run in range(runs):
        x, y = world.draw(SEEN + COUNTED, rng)
        honest, cheat = learn(x, y), learn(x, y, cheat=True)
        found = certify_posterior(
            honest, x, y, delta=DELTA, max_length=1, seed=run, repetitions=2, monte_carlo_share=0.1
        )
        risk = world.risk(honest)
        assert found.kind == "certificate"
        failures["certified"] += found.risk_bound < risk
        failures["below 1"] += found.risk_bound < 1.0
        for name in ("pac_bayes_kl", "pac_bayes_temperature"):
            failures[name] += found[name].value < risk
        rest = counts_of(x[SEEN:], y[SEEN:])
        for name, value in bounds_of(honest, rest).items():
            failures[f"{name} alone"] += value < risk
        for name, value in bounds_of(cheat, rest).items():
            failures[f"{name}, prior saw the data"] += value < world.risk(cheat)
        drawn = found["pac_bayes_kl"].terms
        low = kl_inverse_lower(drawn["gibbs_error_limit"], drawn["rate"])
        failures["kl inverse on the wrong side"] += float(low) < risk
    return failures


def check_coverage(runs: int, noise: float, seed: int) -> Counter[str]:
    found = count_failures(runs, noise, seed)
    for name in ("certified", "pac_bayes_kl", "pac_bayes_temperature"):
        assert found[name] <= allowed(runs), name
        assert found[f"{name} alone"] <= allowed(runs), name
    if noise > 0.4:  # where there is little to learn, a prior that knows the labels gains most
        assert found["pac_bayes_temperature, prior saw the data"] > allowed(runs)
    assert found["kl inverse on the wrong side"] > allowed(runs)
    assert found["below 1"] > 0.9 * runs
    return found


def test_certificates_fail_rarely() -> None:
    check_coverage(40, 0.5, 1)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.5, 0.3, 0.45])
def test_certificates_fail_rarely_in_many_samples(noise: float) -> None:
    runs = 600
    found = check_coverage(runs, noise, int(100 * noise))
    print(
        f"\nnoise {noise}, {runs} samples, δ = {DELTA}, at most {allowed(runs)} failures allowed:"
    )
    for name, count in sorted(found.items()):
        print(f"  {name:45} {count}")


def monte_carlo_failures(runs: int, seed: int, repetitions: int) -> Counter[str]:
    """How often R̂(Q) of one fixed sample lies above its limit from draws."""
    rng = np.random.default_rng(seed)
    x, y = World(0.3).draw(COUNTED, rng)
    posterior = replace(
        around(network(0.4 * rng.standard_normal(LETTERS)), 1, DIGEST, 0.3),
        log_scales={name: math.log(0.3) for name in ("U", "W", "b", "V", "b_V")},
    )
    table = error_table(posterior)
    truth = float(table[x[:, 0], y].mean())
    batch = Batch(x, y, np.ones(len(x), dtype=np.int64))
    pairs = COUNTED * repetitions // 2
    rate = best_rate(float((2 * table * (1 - table)).mean()), pairs, DELTA)
    failures: Counter[str] = Counter()
    for run in range(runs):
        losses = gibbs_losses(posterior, batch, "last", repetitions=repetitions, seed=run)
        mean = float(losses.mean())
        different = float((losses[0::2] != losses[1::2]).mean())
        paired = MonteCarlo(mean, COUNTED, repetitions, DELTA, different, rate)
        plain = MonteCarlo(mean, COUNTED, repetitions, DELTA)
        failures["paired"] += paired.limit < truth
        failures["paired, lower"] += paired.lower_limit > truth
        failures["Hoeffding"] += plain.limit < truth
        failures["left out"] += mean < truth
        failures["paired is smaller"] += paired.limit < plain.limit
    return failures


def check_monte_carlo(runs: int, seed: int) -> Counter[str]:
    found = monte_carlo_failures(runs, seed, 2)
    for name in ("paired", "paired, lower", "Hoeffding"):
        assert found[name] <= allowed(runs), name
    assert found["left out"] > allowed(runs)
    return found


def test_the_monte_carlo_limit_is_needed() -> None:
    check_monte_carlo(150, 1)


@pytest.mark.slow
def test_the_monte_carlo_limit_in_many_draws() -> None:
    print(f"\n2000 draws, δ' = {DELTA}: {dict(check_monte_carlo(2000, 2))}")


def best_of_draws(recipes: int, runs: int, nats: float) -> int:
    """How often R̂(Q) = 1/2 lies above its limit for the luckiest of some posteriors."""
    rng, failures, rate = np.random.default_rng(5), 0, best_rate(0.5, 60, DELTA / 2, nats)
    for _ in range(runs):
        losses = rng.random((recipes, 60, 2)) < 0.5
        different = (losses[..., 0] != losses[..., 1]).mean(axis=1)
        limits = [
            MonteCarlo(float(mean), 60, 2, DELTA / 2, float(D), rate, nats).limit
            for mean, D in zip(losses.mean(axis=(1, 2)), different, strict=True)
        ]
        failures += min(limits) < 0.5
    return failures


def test_a_posterior_chosen_among_many_pays_for_its_draws() -> None:
    runs, recipes = 100, 100
    assert best_of_draws(recipes, runs, math.log(recipes)) <= allowed(runs, DELTA / 2)
    assert best_of_draws(recipes, runs, 0.0) > allowed(runs, DELTA / 2)
    # So does a certificate, for recipes and encodings alike.
    x, y = World(0.5).draw(60, np.random.default_rng(1))
    options = {"max_length": 1, "repetitions": 2, "delta": DELTA}
    free, paid, both = (
        certify_posterior(learn(x, y), x, y, tried=n, encoding=k, **options)["pac_bayes_kl"].terms
        for n, k in ((1, "fixed"), (9, "fixed"), (3, 3))
    )
    assert free["gibbs_error_drawn"] == paid["gibbs_error_drawn"]
    limits = [terms["gibbs_error_limit"] for terms in (free, paid, both)]
    assert limits[0] < limits[1] == pytest.approx(limits[2], rel=1e-9)


def scale_failures(runs: int, seed: int, *, paid: bool) -> int:
    """One prior for every scale on the grid, each with errors of its own, risk 1/2, KL = 0."""
    rng, m, indices = np.random.default_rng(seed), 60, np.arange(-30, 31)
    net = network(np.zeros(LETTERS))
    limits = []
    for j in indices:
        prior = Prior(net, 1, DIGEST, 0.1, index=int(j), temperature=0.6)
        values = []
        for errors in range(m + 1):
            costs = prior.cost if paid else ()
            setting = GibbsSetting(0.0, known(errors / m, m), costs, prior.temperature)
            values.append(PacBayesTemperature().bound(setting, DELTA).value)
        limits.append(values)
    errors = rng.binomial(m, 0.5, size=(runs, len(indices)))
    best = np.array(limits)[np.arange(len(indices)), errors].min(axis=1)
    return int((best < 0.5).sum())


def test_a_scale_chosen_after_looking_must_be_paid_for() -> None:
    assert scale_failures(1000, 1, paid=True) <= allowed(1000)
    assert scale_failures(1000, 1, paid=False) > allowed(1000)


@pytest.mark.parametrize("count", [1, 2, 300])
def test_limits_of_draws_pay_for_every_posterior_that_was_tried(count: int) -> None:
    """δ'/n in place of δ', for losses of either kind."""
    nats, delta = math.log(count), 0.02
    paying = hoeffding_limit(0.2, 4000, delta, nats)
    assert paying == pytest.approx(hoeffding_limit(0.2, 4000, delta / count), rel=1e-9)
    assert count == 1 or paying > hoeffding_limit(0.2, 4000, delta)
    paired = paired_limit(0.2, 0.01, 2000, delta, 0.3, nats)
    assert paired == pytest.approx(paired_limit(0.2, 0.01, 2000, delta / count, 0.3), rel=1e-9)
    for rate, disagreement in ((None, None), (0.3, 0.01)):
        drawn = MonteCarlo(0.2, 1000, 4, delta, disagreement, rate, nats)
        assert drawn.limit == (paying if rate is None else paired)
        # The lower limit is that of what is right, and pays as well.
        free = MonteCarlo(0.2, 1000, 4, delta, disagreement, rate)
        assert drawn.lower_limit <= free.lower_limit <= 0.2
        assert count == 1 or drawn.lower_limit < free.lower_limit
