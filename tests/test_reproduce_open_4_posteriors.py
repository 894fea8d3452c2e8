"""Posteriors of `recert reproduce open-4`: prices, risks and verdicts against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from recert.compression.program import with_values
from recert.data import SequenceData, german_nouns
from recert.errors import InputError
from recert.networks.blocks import Block
from recert.networks.layers import Layer
from recert.networks.network import Head, Network
from recert.pac_bayes.posterior import Posterior, around
from recert.training import Recipe
from recert.training.posterior import train_posterior
from recert.training.recipes import PosteriorRecipe, RecipeCandidate
from recert_studies.open4_adaptivity import posteriors as made
from recert_studies.open4_adaptivity import posteriors as said
from recert_studies.open4_adaptivity.posteriors import Posteriors
from recert_studies.open4_adaptivity.tasks import RANDOM, TASKS, TRUE, K, Material, material

pytestmark = pytest.mark.studies

OPTIONS = {
    "share": 0.5, "price": 50.0, "cell": "vanilla", "hidden": 4, "passes": 3, "steps": 16,
    "delta": 0.01,
}  # fmt: skip


def words(m: int, seed: int = 0) -> SequenceData:
    """Words of four letters like the nouns, whose class is their last letter modulo 3."""
    tokens = np.random.Generator(np.random.PCG64(seed)).integers(0, 30, (m, 4)).astype(np.int32)
    return SequenceData(
        name="words", sequences=tokens, labels=tokens[:, -1].astype(np.int64) % K,
        lengths=np.full(m, 4), classes=("f", "m", "n"), alphabet=german_nouns.ALPHABET,
        max_length=4, input_kind="tokens", unit="word", population=m, source="made",
    )  # fmt: skip


def reads_last() -> Network:
    """A network whose answer is its last letter modulo 3."""
    W = np.zeros((K, 30))
    W[np.arange(30) % K, np.arange(30)] = 1.0
    cell = {"U": Block("U", np.zeros((K, K)), "spectral"), "W": Block("W", W, "column")}
    head = Head(Block("V", np.eye(K), "spectral"), None)
    return Network((Layer("vanilla", cell, "tanh"),), head, "onehot")


def drawn_round(scale: float) -> Posterior:
    return around(reads_last(), 1, "0" * 64, scale)


def of(name: str) -> Material:
    return material(next(t for t in TASKS if t.name == name), words(4000), 100, 50, seed=2)


# Prices and risks.


def test_division() -> None:
    assert made.division(401, 0.5) == made.Division(201, 200)
    for m, share in ((40, 0.9), (15, 0.5), (400, 1.0)):
        with pytest.raises(InputError, match="either needs 8"):
            made.division(m, share)
    made.check(OPTIONS, [40, 16])
    with pytest.raises(InputError, match="price"):
        made.check({**OPTIONS, "price": 1001.0}, [40])


def test_least_nats() -> None:
    """Uniform labels of K classes, all memorised, cost ln K nats each, whoever memorises them."""
    assert made.least_nats(0.0, (K - 1) / K) == pytest.approx(math.log(K))
    assert made.least_nats(0.0, 0.5) == pytest.approx(math.log(2))
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert made.least_nats(0.25, 0.5) == pytest.approx(expected)
    assert made.least_nats(0.3, 0.3) == made.least_nats(0.4, 0.3) == 0.0


def test_held_out_limit_pays_what_posteriors_pay() -> None:
    paid = 0.01 / (made.TRIED * german_nouns.LENGTHS)
    assert made.held_limit(0, 200, 0.01) == pytest.approx(1.0 - paid ** (1 / 200))
    assert made.held_limit(200, 200, 0.01) == 1.0
    assert made.held_limit(50, 200, 0.01) > made.held_limit(49, 200, 0.01)


@pytest.mark.parametrize("name", ["last letter", "majority", TRUE, "nouns, 50% random"])
def test_risk_without_noise_is_that_of_the_mean_network(name: str) -> None:
    found = of(name)
    risk = made.gibbs_risk(drawn_round(1e-9), found, seed=0)
    assert risk == pytest.approx(found.true_risk(reads_last()), abs=1e-12)


def test_risk_is_the_mean_over_drawn_networks() -> None:
    found, scale = of(TRUE), 0.6
    rng = np.random.default_rng(5)
    risks = []
    for _ in range(40):
        values = {
            b.name: b.value + scale * rng.standard_normal(b.shape) for b in reads_last().blocks()
        }
        risks.append(found.true_risk(with_values(reads_last(), values)))
    error = float(np.std(risks, ddof=1)) / math.sqrt(len(risks))
    risk = made.gibbs_risk(drawn_round(scale), found, seed=0)
    assert 0.1 < risk < 0.6 and abs(risk - np.mean(risks)) < 4.0 * error
    assert made.gibbs_risk(drawn_round(scale), found, seed=0) == risk


def test_risk_on_random_labels_is_exact_whatever_is_drawn() -> None:
    assert made.gibbs_risk(drawn_round(3.0), of(RANDOM), seed=1) == pytest.approx((K - 1) / K)


# Training.


def test_a_fixed_temperature_is_the_price_of_an_error() -> None:
    """On random labels the dearer an error the fewer of them, and the more nats."""
    data = words(240)
    labels = np.random.Generator(np.random.PCG64(3)).integers(0, K, data.m)
    data = replace(data, labels=labels)
    one = RecipeCandidate(
        0.02, 0.0, 0.0, d_h=8, bidirectional=False, cell="vanilla", epochs=10, batch=20
    )  # fmt: skip
    recipe = PosteriorRecipe(
        prior=Recipe(), candidates=(one,), share=0.5, disagreement=0.3, epochs=150, batch=60,
        rate=0.1, width=1.0,
    )  # fmt: skip
    cheap, dear = (
        train_posterior(data, replace(recipe, temperature=price), seed=1).posterior
        for price in (0.1, 100.0)
    )
    assert cheap.prior.temperature == 0.1 and dear.prior.temperature == 100.0
    assert cheap.prior.centre.digest == dear.prior.centre.digest
    assert cheap.divergence < 1.0 < 50.0 < dear.divergence
    for wrong in (0.0, -1.0, 2000.0, math.nan):
        with pytest.raises(InputError, match="temperature"):
            PosteriorRecipe(temperature=wrong)


def test_both_posteriors_have_one_centre_and_say_the_same_again() -> None:
    found = of("last letter")
    first = made.posteriors(found, 60, OPTIONS, 4)
    assert first == made.posteriors(found, 60, OPTIONS, 4)
    assert first["units"] == 30 and set(first) == {"units", "centre", *made.KINDS}
    assert first["memorising"]["temperature"] == 50.0 != first["careful"]["temperature"]
    for kind in made.KINDS:
        its = first[kind]
        assert its["kind"] == "certificate" and its["value"] >= its["true risk"]
        assert its["nats"] == pytest.approx(its["KL"] / 30)
        assert its["least nats"] == made.least_nats(its["error"], its["true risk"])
    errors = round(30 * first["centre"]["error"])
    assert first["centre"]["limit"] == made.held_limit(errors, 30, 0.01)
    parts = made.division(60, 0.5)
    assert made.recipe("careful", parts, OPTIONS).temperature is None
    # 16 steps of two batches a pass.
    assert made.recipe("memorising", parts, OPTIONS).epochs == 8
    assert made.recipe("careful", parts, OPTIONS).epochs == 1


# Verdicts.

RISKS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 2 / 3]


def results(
    nats: list[float], values: list[float], limits: list[float], error: float = 0.05
) -> Posteriors:
    def of_task(i: int) -> dict[str, Any]:
        one = {
            "error": error, "true risk": RISKS[i], "nats": nats[i], "least nats": 0.1,
            "value": values[i], "kind": "certificate",
        }  # fmt: skip
        centre = {"error": error, "true risk": RISKS[i], "limit": limits[i]}
        return {"centre": centre, "careful": one, "memorising": one}

    return Posteriors(
        {(m, s, t.name): of_task(i) for m in (40, 80) for s in (0, 1) for i, t in enumerate(TASKS)}
    )


def verdicts(runs: Posteriors) -> list[str]:
    return [claim.verdict for claim in said.claims(runs)]


def test_results_decide_the_verdicts() -> None:
    up = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    good = results([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], up, [0.8] * 7)
    assert verdicts(good) == ["held"] * 6
    assert good.sizes == [40, 80] and good.seeds == [0, 1]
    assert good.nats_apart(40) == [1.75, 1.75] and good.memorised(80) == [0.05, 0.05]
    bad = results([7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [1.0] * 7, [0.1] * 7)
    assert verdicts(bad) == ["not held"] * 6


def test_what_is_no_evidence() -> None:
    up, nats = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    # Labels that were not learnt by heart, and random ones that cost little more.
    assert verdicts(results(nats, up, [0.8] * 7, error=0.11))[2] == "not held"
    assert verdicts(results([*nats[:6], 5.9], up, [0.8] * 7))[2] == "not held"
    # One limit below its risk is enough.
    wrong = results(nats, [*up[:6], 0.66], [0.8] * 7)
    assert verdicts(wrong)[0] == "not held"
    assert min(said.distances(said.series(wrong))) == pytest.approx(0.66 - 2 / 3)
    assert verdicts(results(nats, up, [0.35] * 7))[5] == "held in part"


def test_series_and_table() -> None:
    runs = results([1.0] * 7, [0.5] * 7, [0.4] * 7)
    every = said.series(runs)
    assert [s.predictor for s in every] == [
        "careful, 40 units", "memorising, 40 units", "centre, 40 units",
        "careful, 80 units", "memorising, 80 units", "centre, 80 units",
    ]  # fmt: skip
    assert every[0].constant and every[2].complexity_taus() == [None, None]
    rows = said.rows(runs)
    assert len(rows) == 2 * len(TASKS) and rows[0]["centre: limit"] == "0.4001 ± 0"
