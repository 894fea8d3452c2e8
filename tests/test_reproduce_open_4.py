"""`recert reproduce open-4`: tasks of known risk, complexities of a class, verdicts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from recert import cli
from recert.data import SequenceData, german_nouns
from recert.data.synthetic import SyntheticLanguage
from recert.errors import InputError
from recert.networks.blocks import Block
from recert.networks.layers import Layer
from recert.networks.margins import MarginTable
from recert.networks.network import Head, Network
from recert_studies.open4_adaptivity import claims as adaptivity_claims
from recert_studies.open4_adaptivity import posteriors as adaptivity_posterior_claims
from recert_studies.open4_adaptivity import study
from recert_studies.open4_adaptivity.claims import Series, claims, judged
from recert_studies.open4_adaptivity.tasks import (
    BY_CLASS,
    RANDOM,
    TASKS,
    TRUE,
    K,
    Task,
    blurred,
    largest_margin,
    material,
)

pytestmark = pytest.mark.studies

needs_nouns = pytest.mark.skipif(find_spec("german_nouns") is None, reason="no german-nouns")
T = 4


def words(m: int = 4000) -> SequenceData:
    """Words like the nouns, whose class is their last letter modulo 3."""
    tokens = np.random.Generator(np.random.PCG64(0)).integers(0, 30, (m, T)).astype(np.int32)
    return SequenceData(
        name="words", sequences=tokens, labels=tokens[:, -1].astype(np.int64) % K,
        lengths=np.full(m, T), classes=("f", "m", "n"), alphabet=german_nouns.ALPHABET,
        max_length=T, input_kind="tokens", unit="word", population=m, source="made",
    )  # fmt: skip


def reads_last(bias: float = 0.0) -> Network:
    """A network whose answer is its last letter modulo 3; with a bias always class 0."""
    W = np.zeros((K, 30))
    W[np.arange(30) % K, np.arange(30)] = 1.0
    cell = {
        "U": Block("U", np.zeros((K, K)), "spectral"),
        "W": Block("W", W, "column"),
    }
    head = Head(Block("V", np.eye(K), "spectral"), Block("b_V", bias * np.eye(K)[0], "euclidean"))
    return Network((Layer("vanilla", cell, "tanh"),), head, "onehot")


def task(name: str) -> Task:
    return next(t for t in TASKS if t.name == name)


# Tasks.


def test_random_labels_are_uniform_and_as_many_as_asked() -> None:
    data = words(30_000)
    for share in (0.0, 0.25, 1.0):
        found = blurred(data, share, np.random.Generator(np.random.PCG64(1)))
        changed = (found.labels != data.labels).mean()
        assert changed == pytest.approx(share * (K - 1) / K, abs=0.02)
        assert (found.sequences == data.sequences).all()
    counts = np.bincount(found.labels + K * data.labels, minlength=K * K) / data.m
    assert counts == pytest.approx(np.full(K * K, 1 / K**2), abs=0.02)


@pytest.mark.parametrize(
    ("share", "name"), [(0.0, TRUE), (0.5, "nouns, 50% random"), (1.0, RANDOM)]
)
def test_true_risk_of_blurred_labels(share: float, name: str) -> None:
    found = material(task(name), words(), 500, 200, seed=3)
    assert found.true_risk(reads_last()) == pytest.approx(share * (K - 1) / K, abs=1e-12)
    constant = (1 - share) * (1 - 1 / K) + share * (K - 1) / K
    assert found.true_risk(reads_last(9.0)) == pytest.approx(constant, abs=0.03)
    assert found.sample.m == 500 and found.held.m == 200
    with pytest.raises(InputError, match="nouns"):
        material(task(name), words(), 3500, 200, seed=3)


def test_true_risk_of_languages() -> None:
    for rule, name in (
        ("last", "last letter"),
        ("first", "first letter"),
        ("majority", "majority"),
    ):
        found = material(task(name), words(), 100, 50, seed=0)
        language = SyntheticLanguage(K, T, rule=rule, noise=0.0)

        def last(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
            return np.eye(K)[tokens[np.arange(len(tokens)), lengths - 1]]

        exact = language.true_risk(last)
        assert found.true_risk(reads_last()) == pytest.approx(exact, abs=1e-12)
        assert found.sample.alphabet == german_nouns.ALPHABET
    assert [t.exact for t in TASKS] == [True, True, True, False, False, False, True]


def test_margin_of_the_printed_formulas() -> None:
    table = MarginTable(np.arange(-1.0, 99.0), 100)
    assert largest_margin(table, 0.05) == 4.0
    assert (table.margins < largest_margin(table, 0.05)).mean() <= 0.05
    assert largest_margin(MarginTable(np.full(10, -2.0), 10), 0.05) == 2.0


# Verdicts.

RISKS = [[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 2 / 3]]


def series(values: list[float], costs: list[float | None] | None = None, **more: Any) -> Series:
    known = {"predictor": "free", "name": "margin_ball", "title": "B", "kind": "certificate"}
    return Series(
        **{**known, **more}, values=[values], complexities=[costs or [None] * 7], risks=RISKS
    )


def test_what_notices() -> None:
    up, down = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]
    assert series(up).taus() == [pytest.approx(1.0)] and series(up).verdict == "notices"
    assert series(down).taus() == [None] and series(down).verdict == "says nothing"
    assert series(down, kind="order").taus() == [pytest.approx(-1.0)]
    assert series(down, kind="order").verdict == "does not"
    flat = series(up, [0.3] * 6 + [0.3 * (1 + 1e-13)])
    assert flat.constant and flat.complexity_taus() == [None]
    assert flat.verdict == "notices; complexity: constant"
    assert not series(up, [0.3] * 6 + [0.31]).constant
    assert judged([0.9, 0.65]) == "in part" and judged([0.9, None]) == "in part"
    assert judged([0.7, 0.8]) == "notices" and judged([None]) == "all alike"


def results(free_error: float) -> dict[tuple[int, str], dict[str, Any]]:
    return {
        (0, t.name): {"free": {"training error": free_error, "true risk": 2 / 3}} for t in TASKS
    }


def verdicts(every: list[Series], free_error: float = 0.0) -> list[str]:
    return [c.verdict for c in claims(every, results(free_error))]


def test_series_decide_the_verdicts() -> None:
    up, big = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]
    flat: list[float | None] = [0.3] * 7
    good = [
        series(big, [*up]), series(big, flat, kind="order", name="printed_theorem_2"),
        *(series(up, flat, predictor="capped", name=name) for name in BY_CLASS),
    ]  # fmt: skip
    assert verdicts(good) == ["held", "held", "held", "held in part", "held", "held", "held"]
    wrong = [
        series([0.5] * 7, [*big]), series(up, [*up], kind="order", name="printed_theorem_1"),
        *(series(big, [*up], predictor="capped", name=name) for name in BY_CLASS),
    ]  # fmt: skip
    assert verdicts(wrong, 0.2) == ["not held"] * 7


def test_a_certificate_below_an_exact_risk_is_found() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert verdicts([series(values)])[0] == "held"
    assert verdicts([series([*values[:6], 0.66])])[0] == "not held"
    assert verdicts([series([*values[:6], 0.66], kind="estimate")])[0] == "held"
    # The risk of nouns is estimated: it does not decide.
    assert verdicts([series([*values[:3], 0.2, *values[4:]])])[0] == "held"


# The command.


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["recert", "reproduce", "open-4", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    return 0


TINY = [
    "--seeds", "0", "-o", "units=120", "-o", "few=40", "-o", "held=60", "-o", "hidden=4",
    "-o", "horizon=3", "-o", "epochs=2", "-o", "memorising=3", "-o", "passes=2", "-o", "steps=8",
]  # fmt: skip


@needs_nouns
def test_twice_and_resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few = tuple(task(name) for name in ("last letter", TRUE, RANDOM))
    monkeypatch.setattr(study, "TASKS", few)
    monkeypatch.setattr(adaptivity_claims, "TASKS", few)
    monkeypatch.setattr(adaptivity_posterior_claims, "TASKS", few)
    out = tmp_path / "a"
    assert call(monkeypatch, *TINY, "--out", out) == 0
    first = json.loads((out / "results.json").read_text())
    networks, posteriors = first["cells"][:3], first["cells"][3:]
    assert len(posteriors) == 2 * 3 and [row["task"] for row in first["tasks"]] == [
        t.name for t in few
    ]
    verdict = {c["quote"]: c["verdict"] for c in first["claims"]}
    assert verdict["what depends on declared caps and a declared γ alone cannot notice a task"] == (
        "held"
    )
    for cell in networks:
        for found in cell["result"].values():
            risk = found["true risk"]
            if cell["parameters"]["task"] == RANDOM:
                assert risk == pytest.approx(2 / 3)
            if cell["parameters"]["task"] != TRUE:
                certified = [b for b in found["bounds"].values() if b["kind"] == "certificate"]
                assert certified and all(10 ** b["log10"] >= risk for b in certified)
    for cell in posteriors:
        for kind in ("careful", "memorising"):
            found = cell["result"][kind]
            assert found["kind"] == "certificate" and found["value"] >= found["true risk"]
            if cell["parameters"]["task"] == RANDOM:
                assert found["true risk"] == pytest.approx(2 / 3)
    assert verdict["limits of posteriors and of their priors' centres are above the true risk"] == (
        "held"
    )
    path = next((out / "cells").iterdir())
    path.unlink()
    assert call(monkeypatch, *TINY, "--out", out) == 0
    again = json.loads((out / "results.json").read_text())
    assert again["cells"] == first["cells"] and again["rows"] == first["rows"]
    assert (out / "open-4.png").stat().st_size and (out / "open-4.svg").stat().st_size


@needs_nouns
@pytest.mark.parametrize(
    "wrong",
    ["units=1", "few=999", "moon=1", "epochs=x", "delta=0", "horizon=13", "held=99999", "cell=conv",
     "share=0.9", "share=1", "price=2000"],
)  # fmt: skip
def test_bad_input_is_one_line(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wanted = [*TINY, "-o", wrong, "--out", tmp_path / "out"]
    assert call(monkeypatch, *wanted) == 2
    err = capsys.readouterr().err
    assert err.startswith("recert: ") and err.count("\n") == 1


@needs_nouns
def test_cells_of_networks_know_nothing_of_posteriors(tmp_path: Path) -> None:
    """Results that were kept before there were posteriors stay valid."""
    before, after = (
        study.OPEN_4.request(tmp_path, seeds=(0,), given=given)
        for given in ({}, {"price": 7.0, "cell": "lstm", "share": 0.4, "passes": 1, "steps": 9})
    )
    cells, others = study.OPEN_4.cells(before), study.OPEN_4.cells(after)
    assert [c.digest for c in cells[:7]] == [c.digest for c in others[:7]]
    assert set(cells[0].parameters) == {
        "study", "revision", "seed", "task", "digest", "units", "few", "held", "hidden", "horizon",
        "epochs", "memorising", "delta",
    }  # fmt: skip
    posteriors = {c.digest for c in (*cells[7:], *others[7:])}
    assert len(cells) == 21 and len(posteriors) == 28


def test_seven_tasks() -> None:
    assert len({t.name for t in TASKS}) == len(TASKS) == 7
    assert replace(task(RANDOM), random=0.5).exact is False
