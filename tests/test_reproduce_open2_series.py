"""Gated cells and networks that fit noise, in `recert reproduce open-2`: what decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

from recert import data
from recert.data import synthetic
from recert.networks.network import vanilla
from recert.numerics.concentration import kl, kl_inverse_upper
from recert.theorems.margin_ball import MarginBall
from recert.training import Recipe, train
from recert_studies.gates.measures import case_of
from recert_studies.open2_margins import answers, fits, gated, watch
from recert_studies.open2_margins import runs as open2_runs
from recert_studies.open2_margins.runs import MarginRun
from recert_studies.open2_margins.study import OPEN_2
from test_reproduce_open2 import TINY, row

pytestmark = pytest.mark.studies


def seen(**known: Any) -> dict[str, Any]:
    """A row that has the columns of the ball, too."""
    usual = {
        "ball gamma": 0.5, "ball risk": 0.1, "ball density": 0.1, "ball nats": 9.0,
        "ball shortfall": 10.0, "slack": 1e-9,
    }  # fmt: skip
    return row(**usual) | known


# The ball where it is near 1.


def test_the_shortfall_is_that_of_the_inverse_where_doubles_hold_it() -> None:
    risks, nats = np.meshgrid([0.0, 0.01, 0.3, 0.9], [1e-3, 0.2, 0.7])
    exact = -np.log1p(-kl_inverse_upper(risks, nats))
    assert watch.shortfall(risks, nats) == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize(("q", "c"), [(0.0, 900.0), (0.05, 200.0), (0.5, 40.0), (0.98, 3000.0)])
def test_the_shortfall_inverts_kl_beyond_doubles(q: float, c: float) -> None:
    found = float(watch.shortfall(q, c))
    with mpmath.workdps(60 + int(found)):
        missing = mpmath.exp(-mpmath.mpf(found))
        rest = (1 - mpmath.mpf(q)) * mpmath.log((1 - mpmath.mpf(q)) / missing)
        back = rest + (q * mpmath.log(q / (1 - missing)) if q else 0)
        assert float(back) == pytest.approx(c, rel=1e-12)
    entropy = -q * math.log(q) - (1 - q) * math.log(1 - q) if q else 0.0
    assert found == pytest.approx((c + entropy) / (1 - q), rel=1e-9)


def test_the_shortfall_of_nothing_right_is_infinite() -> None:
    assert watch.shortfall([1.0, 0.0], [3.0, 3.0]).tolist() == [math.inf, 3.0]


def test_best_is_the_margin_ball_where_that_says_something() -> None:
    sample = synthetic.load(3000, seed=0)
    recipe = Recipe(cell="gru", d_h=2, epochs=4, batch=100, learning_rate=0.03)
    network = train(sample, recipe, seed=0).model.recert_network()
    bound = MarginBall().bound(case_of(network, sample, {}, 1, 0.01).setting, 0.01)
    found = watch.best(network, sample, 0.01)
    assert bound.value < 0.98
    assert -math.expm1(-found["ball shortfall"]) == pytest.approx(bound.value, rel=1e-6)
    assert found["ball gamma"] == bound.choices["gamma"]
    assert found["ball nats"] == pytest.approx(bound.terms["rate"], rel=1e-9)
    assert found["ball risk"] == bound.terms["hard_margin_risk"]
    assert 0.0 < found["slack"] < found["ball gamma"]


def test_best_says_so_where_no_unit_is_right() -> None:
    sample = synthetic.load(60, seed=0)
    tied = vanilla(
        [[0.5]], [[0.1] * sample.input_dim], [[1.0]] * sample.K, activation="tanh"
    )  # every output the same: each margin is 0, an error
    found = watch.best(tied, sample, 0.01)
    assert found["ball risk"] == 1.0 and found["ball shortfall"] is None
    run = MarginRun("gated", "gru", 60, 2)
    lost = seen(**found)
    assert gated.balance({run: [[lost, lost]]}, 30, 3) == {}
    assert "L none" in gated.described([lost])


def test_the_balance_holds_where_the_ball_is_1() -> None:
    # Margins with a flat density f near 0; as many weights as units.
    error, f, P, m, c_0 = 0.01, 0.02, 1_000, 1_000, 60_000.0
    gammas = np.exp(np.linspace(math.log(0.01), math.log(40.0), 8001))
    risks = error + f * gammas
    missing = watch.shortfall(risks, (c_0 - P * np.log(gammas)) / m)
    i = int(np.argmin(missing))
    assert -math.expm1(-missing[i]) == 1.0
    even = watch.balanced_share(float(risks[i]), float(missing[i]), P, m)
    assert f * gammas[i] == pytest.approx(even, rel=0.01)
    run = MarginRun("fitting", "vanilla", m, 2, 0.5)
    there = seen(**{"ball risk": float(risks[i]), "ball shortfall": float(missing[i]),
                    "ball density": f * float(gammas[i]), "training error": error})  # fmt: skip
    # 2·(2 + d_x) + 2·(K − 1) weights are 1,000.
    density, within, balanced, quotient = gated.balance({run: [[seen(), there]]}, 496, 3)[run]
    assert density == pytest.approx(within) and balanced == pytest.approx(even)
    assert quotient == pytest.approx(1.0, abs=0.01)


def test_a_trackers_row_is_completed_by_its_own_ball() -> None:
    q, c = 0.2, 0.7
    p = kl_inverse_upper(q, c)
    found = gated.completed(row(**{"log10 margin_ball": math.log10(p), "hard risk": q}))
    assert found["ball nats"] == pytest.approx(c) == pytest.approx(kl(q, p))
    assert found["ball shortfall"] == pytest.approx(-math.log(1 - p))
    assert found["ball gamma"] == 0.5 and found["ball risk"] == q
    assert gated.completed(row(**{"log10 margin_ball": 0.0}))["ball nats"] is None


# The runs.


@pytest.mark.parametrize("cell", ["vanilla", "gru", "lstm"])
def test_weights_are_those_that_the_ball_pays_for(cell: str) -> None:
    sample = synthetic.load(60, seed=0)
    network = train(sample, Recipe(cell=cell, d_h=3, epochs=1, batch=20)).model.recert_network()
    paid = sum(block.parameters for block in network.margin_form().blocks())
    assert open2_runs.weights(cell, 3, sample.input_dim, sample.K) == paid


def test_gated_cells_are_matched_by_weights() -> None:
    # Vanilla 16·(16 + 30) + 2·16 = 768; GRU 3·7·37 + 14 = 791, 3·6·36 + 12 = 660; LSTM 710, 876.
    assert open2_runs.matched("gru", 16, 30, 3) == 7
    assert open2_runs.matched("lstm", 16, 30, 3) == 5
    assert open2_runs.matched("vanilla", 16, 30, 3) == 16
    assert open2_runs.matched("lstm", 1, 30, 3) == 1


def test_looks_are_spread_and_end_at_the_end() -> None:
    assert open2_runs.looks(100) == list(range(0, 101, 10))
    assert open2_runs.looks(2) == [0, 1, 2]
    assert len(open2_runs.looks(37)) == 11 and open2_runs.looks(37)[-1] == 37


def test_cells_of_vanilla_runs_keep_their_descriptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "load", lambda _, *, seed: synthetic.load(800, seed=seed))
    cells = OPEN_2.cells(OPEN_2.request(tmp_path, seeds=(0,), given=TINY))
    assert {tuple(cell.parameters) for cell in cells[:4]} == {
        ("study", "revision", "d_h", "noise", "seed", "sample", "held back", "epochs", "batch",
         "learning_rate", "delta")
    }  # fmt: skip
    assert {cell.parameters["revision"] for cell in cells[:4]} == {1}
    assert [cell.parameters["series"] for cell in cells[4:]] == ["gated"] * 2 + ["fitting"] * 6
    assert len({cell.digest for cell in cells}) == len(cells)


# What networks that fit noise say.


def by_noise(*seeds: Sequence[float]) -> list[list[dict[str, Any]]]:
    """Rows by noise whose medians are, for every seed, these."""
    return [[seen(median=x) for x in noise] for noise in zip(*seeds, strict=True)]


@pytest.mark.parametrize(
    ("seeds", "word"),
    [
        (([4, 3, 2, 1], [8, 4, 4, 2]), "falls"),
        (([1, 2, 4, 3], [1, 2, 3, 4]), "rises"),
        (([4, 3, 2, 1], [1, 2, 3, 4]), "neither"),
        (([1, 4, 2, 3], [4, 1, 3, 2]), "neither"),
        (([2, 1], [2, 1]), "neither"),
        (([1, 1, 1, 1], [4, 3, 2, 1]), "neither"),
    ],
)
def test_moves_are_decided_by_ranks_at_every_seed(seeds: Any, word: str) -> None:
    found, ratios, _ = fits.moves(by_noise(*seeds), lambda r: r["median"])
    assert found == word
    assert ratios == [seed[-1] / seed[0] for seed in seeds]


def fitting(
    medians: Sequence[float], error: float = 0.0
) -> dict[MarginRun, list[list[dict[str, Any]]]]:
    """Runs of one network over noises, a seed, that ends with these medians."""
    return {
        MarginRun("fitting", "gru", 400, 32, noise): [
            [
                seen(**{"training error": 0.6}),
                seen(**{"training error": 0.2}),
                seen(**{"training error": error, "median": x, "q05": x, "ball gamma": x / 2}),
                seen(**{"training error": error, "median": 2 * x, "q05": x, "ball gamma": x / 2}),
            ]
        ]
        for noise, x in zip((0.0, 0.5, 1.0), medians, strict=True)
    }


def test_the_first_fitted_look() -> None:
    found = fitting((3.0, 2.0, 1.0))
    runs = sorted(found)
    first = fits.first_fitted(found[runs[0]][0])
    assert first is not None and first["median"] == 3.0
    starts = fits.starts(found, runs)
    assert starts is not None and [rows[0]["median"] for rows in starts] == [3.0, 2.0, 1.0]
    assert [rows[0]["median"] for rows in fits.ends(found, runs)] == [6.0, 4.0, 2.0]
    assert fits.starts(fitting((3.0, 2.0, 1.0), 0.1), runs) is None


def test_the_classical_claim_is_decided_where_noise_is_fitted() -> None:
    assert "median/√2 N_y held: falls" in fits.classical(fitting((3.0, 2.0, 1.0)))
    assert "median/√2 N_y not held: rises" in fits.classical(fitting((1.0, 2.0, 3.0)))
    assert fits.classical(fitting((3.0, 2.0, 1.0), 0.1)) == ""
    said = fits.answers(fitting((3.0, 2.0, 1.0)), 30, 3)
    assert "(fits)" in said["fitting moves GRU, d_h = 32, 400 units"]
    assert "median falls (×0.333 ± 0" in said["fitting moves GRU, d_h = 32, 400 units"]


def test_a_best_margin_at_a_quantile_and_void_roundings_are_told() -> None:
    found = fitting((3.0, 2.0, 1.0))
    assert "the q05 1.00" in fits.quantile(found)
    assert fits.quantile(fitting((3.0, 2.0, 1.0), 0.1)) == ""
    assert "0 of 3 networks" in gated.roundings(found)
    for seeds in found.values():
        seeds[0][-1]["slack"] = None
    assert "3 of 3 networks" in gated.roundings(found)


def test_the_papers_sentence_is_asked_of_gated_cells() -> None:
    found = {
        MarginRun("gated", cell, 1000, d_h): [
            [seen(), *(seen(**{"ball gamma": 1 / k, "ball shortfall": float(k), "median": 1 / k})
                       for k in (1, 2, 3 + place))]
        ]
        for cell in ("gru", "lstm") for place, d_h in enumerate((2, 4, 8))
    }  # fmt: skip
    made = gated.claims("gated cells", gated.series_of(found))
    assert len(made) == 2 and {claim.verdict for claim in made} == {"held"}
    assert "over sizes -1.00" in made[0].figure
    said = gated.answers(found, {(4, 0.0): [[row()]]}, 30, 3)
    assert "GRU, d_h = 2" in said["gated"] and "vanilla, d_h = 4" in said["gated"]
    assert answers.normalised(seen(median=2.0)) == 0.5
