"""`recert reproduce open-2`: what decides the answers against closed forms; a tiny run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from recert import data
from recert.data import SequenceData, synthetic
from recert.errors import InputError
from recert.networks.network import vanilla
from recert.numerics.concentration import kl_inverse_upper
from recert_studies import framework as running
from recert_studies.open2_margins import answers, watch
from recert_studies.open2_margins import figure as study
from recert_studies.open2_margins import study as open2
from recert_studies.open2_margins.study import OPEN_2

pytestmark = pytest.mark.studies

QUIET = Console(quiet=True)
TINY: dict[str, Any] = {
    "units": 300, "held": 200, "widths": "2,3,4", "base": 3, "noises": "0,0.4", "epochs": 2,
    "batch": 50, "gated": "3", "fit_units": "60", "fit_noises": "0,0.5,1", "fit_vanilla": 4,
    "fit_gru": 3, "fit_epochs": 2, "fit_batch": 20,
}  # fmt: skip


@pytest.fixture
def small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strings in place of nouns, so that nothing has to be installed."""

    def load(_: str, *, seed: int) -> SequenceData:
        return synthetic.load(800, seed=seed)

    monkeypatch.setattr(data, "load", load)


def row(**known: Any) -> dict[str, Any]:
    """A row as the watch keeps it."""
    usual = {
        "epoch": 1, "training error": 0.1, "test error": 0.2, "clean test error": 0.2,
        **dict.fromkeys(watch.QUANTILES, 1.0), "gamma": 0.5, "hard risk": 0.2, "beta": 0.5,
        **{f"log10 {name}": -0.5 for name in watch.BOUNDS}, "range": 4.0,
        "sensitivity": 40.0,
    }  # fmt: skip
    return usual | known


# What decides the answers.


@pytest.mark.parametrize(
    ("x", "y"),
    [([1, 2, 3, 4], [1, 3, 2, 9]), ([1, 1, 2, 5, 0], [4, 2, 2, 1, 8]), ([3, 2, 1], [1, 2, 3])],
)
def test_rank_correlation_is_spearmans(x: Sequence[float], y: Sequence[float]) -> None:
    exact = scipy.stats.spearmanr(x, y).statistic
    assert answers.rank_correlation(x, y) == pytest.approx(exact, abs=1e-12)


def test_rank_correlation_says_when_it_is_not_defined() -> None:
    assert answers.rank_correlation([1, 2], [1, 2]) is None
    assert answers.rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_noise_draws_labels_afresh() -> None:
    clean = synthetic.load(6000, seed=0)
    K = clean.K
    for share in (0.25, 1.0):
        made = watch.noisy(clean, share, seed=3, stream=0)
        changed = float((made.labels != clean.labels).mean())
        assert changed == pytest.approx(share * (K - 1) / K, abs=0.03)
    assert watch.noisy(clean, 0.0, seed=3, stream=0) is clean
    again = watch.noisy(clean, 0.25, seed=3, stream=0)
    assert (again.labels == watch.noisy(clean, 0.25, seed=3, stream=0).labels).all()
    assert (again.labels != watch.noisy(clean, 0.25, seed=3, stream=1).labels).any()


def test_normalisers_are_those_of_the_closed_form() -> None:
    u, v, w, T = 0.5, 2.0, 0.25, 7
    network = vanilla([[u]], [[w, w]], [[v], [-v]], activation="relu")
    # The head in K − 1 rows has the norm √2 v; a ReLU's norms and sensitivities are linear.
    state, by_u = 0.0, 0.0
    for _ in range(T):
        by_u = u * by_u + state
        state = u * state + w
    head = math.sqrt(2.0) * v
    found = watch.normalisers(network, T, 1.0)
    assert found["range"] == pytest.approx(math.sqrt(2.0) * head * state, rel=0.06)
    moved = head * (state + state + u * by_u)
    assert found["sensitivity"] == pytest.approx(math.sqrt(2.0) * moved, rel=0.06)


def test_a_saturated_ball_has_no_best_margin() -> None:
    found = answers.readable(row(**{"log10 margin_ball": -0.001}))
    assert found["gamma"] is None and found["hard risk"] is None
    kept = answers.readable(row())
    assert kept["gamma"] == 0.5 and kept["margin_ball"] == pytest.approx(10**-0.5)
    assert answers.readable(row(**{"log10 theorem_2_clipped": 400.0}))["theorem_2_clipped"] is None


def test_a_best_margin_that_follows_a_quantile_is_found() -> None:
    medians = (1.0, 2.0, 4.0, 8.0)
    # γ is a tenth of the median, and q75 says nothing of it.
    rows = [
        row(median=x, gamma=0.1 * x, q75=y, q95=10.0)
        for x, y in zip(medians, (5.0, 1.0, 7.0, 2.0), strict=True)
    ]
    share, octaves = answers.explained(rows, "median") or (0.0, 1.0)
    assert share == pytest.approx(1.0) and octaves == pytest.approx(0.0, abs=1e-12)
    other, _ = answers.explained(rows, "q75") or (1.0, 0.0)
    assert other < 0.5
    assert answers.explained([row(gamma=None)] * 4, "median") is None
    found = {(4, 0.0): [[row(), *rows]]}
    assert "follows a quantile" in answers._quantile(found)
    scattered = [row(median=x, q75=x, q95=x, gamma=8 / x**2) for x in medians]
    assert "does not follow" in answers._quantile({(4, 0.0): [[row(), *scattered]]})


def test_the_balanced_share_is_where_the_ball_is_smallest() -> None:
    # Margins with a flat density f near 0, nats c_0 + P ln(1/γ): the ball in closed form.
    error, f, P, m, c_0 = 0.2, 0.3, 500, 10_000, 900.0

    gammas = np.exp(np.linspace(math.log(0.01), 0.0, 4001))
    nats = c_0 - P * np.log(gammas)
    balls = kl_inverse_upper(error + f * gammas, nats / m)
    best, ball = float(gammas[np.argmin(balls)]), float(balls.min())
    even = answers.balanced_share(error + f * best, ball, P, m)
    assert f * best == pytest.approx(even, rel=0.01)
    log10 = math.log10(ball)
    rows = [row(**{"log10 margin_ball": log10, "training error": error,
                   "hard risk": error + f * best})] * 3  # fmt: skip
    found = answers.balance({(4, 0.0): [rows]}, {(4, 0.0): P}, m)
    assert found[4, 0.0][2] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("sign", "verdict"), [(-1, "held"), (1, "not held")])
def test_the_papers_sentence_is_decided_by_ranks(sign: int, verdict: str) -> None:
    def last(k: int) -> dict[str, Any]:
        return row(gamma=2.0 ** (sign * k), median=2.0 ** (sign * k),
                   **{"log10 margin_ball": -1.0 + 0.1 * k})  # fmt: skip

    widths = {(d_h, 0.0): [[row(), *map(last, (k, k + 1, k + 2))]] for k, d_h in
              enumerate((2, 4, 8))}  # fmt: skip
    made = answers.claims(widths, (4, 0.0))
    assert len(made) == 2 and {claim.verdict for claim in made} == {verdict}


# The command.


def test_runs_are_widths_and_noises(tmp_path: Path) -> None:
    request = OPEN_2.request(tmp_path, given=TINY)
    assert open2.runs(request) == [(2, 0.0), (3, 0.0), (4, 0.0), (3, 0.4)]


@pytest.mark.usefixtures("small_data")
def test_a_tiny_run_resumes_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = tmp_path / "a" / "cells"
    first = OPEN_2.request(tmp_path / "a", seeds=(0, 1), given=TINY)
    running.run(OPEN_2, first, console=QUIET)
    found = json.loads((tmp_path / "a" / "results.json").read_text())
    # 4 kinds of vanilla runs, 2 of gated ones, 2 networks to fit 3 shares of noise; 2 epochs each.
    assert len(found["rows"]) == (4 + 2 + 2 * 3) * (2 + 1)
    assert {"margins", "width", "quantile"} <= set(found["answers"])
    assert {"gated", "gated epochs", "fitting moves GRU, d_h = 3, 60 units"} <= set(
        found["answers"]
    )
    for name in ("results.csv", "open-2.png", "open-2.svg", "command.txt"):
        assert (tmp_path / "a" / name).stat().st_size > 0
    kept = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in cells.iterdir()}
    assert len(kept) == 2 * (4 + 2 + 2 * 3)
    gone = min(kept)
    gone.unlink()
    # Pictures were drawn once; what is done again is the one cell, to the same numbers.
    monkeypatch.setattr(study, "margins_through_training", lambda *_, **__: _[3])
    running.run(OPEN_2, first, console=QUIET)
    now = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in cells.iterdir()}
    assert [p for p in now if now[p][0] != kept[p][0]] == [gone]
    assert now[gone][1] == kept[gone][1]


@pytest.mark.usefixtures("small_data")
def test_a_row_is_what_the_tracker_and_the_margins_say() -> None:
    loaded = synthetic.load(800, seed=0)
    sample, held = loaded.take(slice(0, 300)), loaded.take(slice(600, None))
    options = {"epochs": 2, "batch": 50, "learning_rate": 0.01, "delta": 0.01}
    rows = watch.watched(sample, held, d_h=3, noise=0.0, seed=0, options=options)["rows"]
    assert [r["epoch"] for r in rows] == [0, 1, 2]
    for r in rows:
        assert r["min"] <= r["q05"] <= r["median"] <= r["q95"] <= r["range"]
        assert r["training error"] <= r["hard risk"] and r["test error"] == r["clean test error"]


@pytest.mark.usefixtures("small_data")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"widths": "0"}, "widths"),
        ({"widths": "4,4"}, "widths"),
        ({"noises": "0,2"}, "noises"),
        ({"noises": "moon"}, "noises"),
        ({"gated": "0"}, "gated cells"),
        ({"fit_units": "60,60"}, "units to fit"),
        ({"fit_noises": "-1"}, "noises to fit"),
        ({"fit_units": "700"}, "held back"),
        ({"units": 700}, "held back"),
    ],
    ids=str,
)
def test_bad_requests(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    request = OPEN_2.request(tmp_path, given=TINY | given)
    with pytest.raises(InputError, match=words):
        OPEN_2.cells(request)
