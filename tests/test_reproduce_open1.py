"""`recert reproduce open-1`: what decides the answers against closed forms; a tiny run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from recert.data import catalogue, synthetic
from recert.errors import InputError
from recert.numerics.concentration import kl_inverse_upper
from recert.numerics.rounding import rounded_up
from recert_studies import framework as running
from recert_studies.open1_tightness import anatomy, answers, networks, study
from recert_studies.open1_tightness.study import OPEN_1
from recert_studies.open1_tightness.training import CERTIFIED

pytestmark = pytest.mark.studies

QUIET = Console(quiet=True)
TINY: dict[str, Any] = {
    "networks": "nouns-capped-8,nouns-free-16", "smallest": 200, "largest": 400, "sizes": 2,
    "held": 300, "steps": 4, "batch": 64, "local": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strings in place of nouns, so that nothing has to be installed."""
    monkeypatch.setattr(
        networks,
        "loaded",
        lambda trainee, seed: synthetic.load(800, seed=seed),
    )


def rung(value: float, **terms: float) -> dict[str, Any]:
    return {"kind": "certificate", "value": value, "log10": math.log10(value), "terms": terms}


# What decides the answers.


def test_steps_are_ratios_of_neighbours() -> None:
    rungs = {
        "printed_theorem_5": rung(100.0),
        "theorem_2": rung(10.0),
        "theorem_2_clipped": rung(2.0),
        "theorem_2_single_scale": rung(0.8),
        "margin_cover": rung(0.4),
    }
    found = {step.name: step for step in anatomy.steps(rungs)}
    assert set(found) == {"constants", "range", "entropy integral", "kl for deviations"}
    assert found["constants"].decades == pytest.approx(1.0)
    assert found["range"].decades == pytest.approx(math.log10(5.0))
    assert found["range"].useful == 0.0
    assert found["entropy integral"].useful == pytest.approx(0.2)
    assert found["kl for deviations"].useful == pytest.approx(0.4)
    assert found["constants"].useful == 0.0


def test_parts_sum_to_the_value() -> None:
    m, nats, risk, rest = 1000, 300.0, 0.25, 12.0
    value = float(kl_inverse_upper(risk, (nats + rest) / m))
    ball = rung(value, hard_margin_risk=risk, complexity_nats=nats, rate=(nats + rest) / m)
    parts = anatomy.anatomy(ball, 0.2, m)
    assert sum(parts.values()) == pytest.approx(value, abs=1e-12)
    assert parts["margin"] == pytest.approx(0.05) and min(parts.values()) > 0
    # Without logarithms the same 300 nats are those of 300 parameters.
    assert anatomy.without_logarithms(ball, 300, m) == pytest.approx(value)
    assert anatomy.nats_a_parameter("margin_ball", ball, 100) == pytest.approx(3.0)
    assert anatomy.nats_a_parameter("theorem_2", ball, 100) is None
    with_complexity = rung(3.0, log10_complexity=math.log10(2.4))
    assert anatomy.entropy_integral(with_complexity) == pytest.approx(0.1)


def test_slopes_leave_out_what_is_saturated() -> None:
    sizes = (100, 1000, 10_000)
    error = dict.fromkeys(sizes, 0.1)
    exact = {m: 0.1 + 50.0 / math.sqrt(m) for m in sizes}
    assert anatomy.slope(exact, error) == pytest.approx(-0.5)
    assert anatomy.slope({100: 0.5}, error) is None
    values = {(100, 0): 0.97, (100, 1): 0.99, (1000, 0): 0.6, (1000, 1): 0.7}
    assert anatomy.unsaturated("margin_ball", values) == [1000]
    assert anatomy.unsaturated("theorem_2", values) == [100, 1000]


def test_crossings_lie_on_the_power_law() -> None:
    values = {m: 100.0 / math.sqrt(m) for m in (1000, 100_000)}
    assert anatomy.crossing(values, 1.0) == pytest.approx(10_000)
    assert anatomy.crossing(values, 0.1) is None
    assert anatomy.crossing(values, 50.0) == 1000
    with pytest.raises(InputError):
        anatomy.crossing({}, 1.0)


def test_the_answer_names_the_step_that_gains_most() -> None:
    def parts(large: str) -> list[dict[str, Any]]:
        row: dict[str, Any] = {"network": "n", "m": 10}
        for step in answers.CERTIFIED_STEPS:
            row[f"decades: {step}"] = 2.0 if step == large else 0.1
            row[f"useful: {step}"] = 0.0 if step == large else 0.1
        return [row]

    for step in answers.CERTIFIED_STEPS:
        assert f"Most decades are gained by the step '{step}'" in answers._gain(parts(step))


def test_every_rung_has_a_title() -> None:
    known = {*CERTIFIED, "local_ball", *anatomy.PRINTED, *anatomy.BEYOND}
    assert known == set(anatomy.TITLES)
    assert set(anatomy.NATS) <= known and set(anatomy.KL_FORMS) <= known


def test_networks_take_as_many_steps_whatever_m_is() -> None:
    for m in (64, 1000, 9000):
        recipe = networks.recipe(networks.TRAINEES["nouns-free-8"], m, steps=300, batch=100)
        assert recipe.epochs * (m // recipe.batch) == pytest.approx(300, rel=0.16)
    names = {catalogue.info(t.data).name for t in networks.TRAINEES.values()}
    assert names == {"german-nouns", "cmudict"}


# The command.


def test_a_tiny_run_resumes_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = tmp_path / "a" / "cells"
    first = OPEN_1.request(tmp_path / "a", seeds=(0, 1), given=TINY)
    running.run(OPEN_1, first, console=QUIET)
    found = json.loads((tmp_path / "a" / "results.json").read_text())
    assert {row["bound"] for row in found["rows"]} >= {*CERTIFIED, "printed_theorem_2"}
    assert {row["kind"] for row in found["rows"]} <= {"order", "certificate", "estimate"}
    assert {"gain", "why", "slopes", "below 1", "below 0.5"} <= set(found["answers"])
    for name in ("results.csv", "open-1.png", "open-1.svg", "command.txt"):
        assert (tmp_path / "a" / name).stat().st_size > 0
    kept = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in cells.iterdir()}
    assert len(kept) == 8
    gone = min(kept)
    gone.unlink()
    # Pictures were drawn once; what is done again is the one cell, to the same numbers.
    monkeypatch.setattr(study, "ladder_against_m", lambda *_, **__: _[2])
    running.run(OPEN_1, first, console=QUIET)
    now = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in cells.iterdir()}
    assert [p for p in now if now[p][0] != kept[p][0]] == [gone]
    assert now[gone][1] == kept[gone][1]


def test_files_and_posteriors_leave_norms_behind(tmp_path: Path) -> None:
    names = "nouns-free-8,nouns-file,nouns-posterior"
    request = OPEN_1.request(tmp_path / "a", seeds=(0,), given=TINY | {"networks": names})
    running.run(OPEN_1, request, console=QUIET)
    found = json.loads((tmp_path / "a" / "results.json").read_text())
    rows = {(row["network"], row["m"], row["bound"]): row for row in found["rows"]}
    cells = {
        (cell["parameters"]["network"], cell["parameters"]["m"]): cell["result"]
        for cell in found["cells"]
    }
    for m in (200, 400):
        program, posterior = cells["nouns-file", m], cells["nouns-posterior", m]
        assert set(program["rungs"]) == {"occam"}
        assert set(posterior["rungs"]) == {"pac_bayes_temperature"}
        occam, drawn = program["rungs"]["occam"], posterior["rungs"]["pac_bayes_temperature"]
        assert occam["kind"] == drawn["kind"] == "certificate"
        # Every bit of the file is paid, and the posterior's recipe, its alphabet and length.
        bits = 8 * program["bytes"]
        assert occam["terms"]["complexity_nats"] >= bits * math.log(2)
        units = m - posterior["prior units"]
        assert drawn["terms"]["rate"] * units > math.log(300) + math.log(1 / 0.01)
        assert occam["value"] > program["error"] and drawn["value"] > posterior["error"]
        row = rows["nouns-file", m, "occam"]
        nats = row["nats a parameter"] * row["parameters"]
        assert nats == pytest.approx(occam["terms"]["complexity_nats"])
        assert f"m = {m}: {rounded_up(row['value'], 4)}" in found["answers"]["beyond norms"]
    # What norms say is of the network that norms certify alone.
    assert {part["network"] for part in found["parts"]} == {"nouns-free-8"}
    assert "nouns-file" not in found["answers"]["distance"]


def test_choices_are_paid_by_what_they_served() -> None:
    sample = synthetic.load(50, seed=0)
    coded = replace(sample, encoding=32)
    paid = {
        name: networks.paid(networks.TRAINEES[name], coded)
        for name in ("nouns-free-8", "nouns-file", "nouns-posterior", "cmudict-posterior")
    }
    assert paid["nouns-free-8"]["encoding"] == 32 and paid["nouns-free-8"]["tried"] > 10**4
    assert paid["nouns-file"] == {"tried": 1, "encoding": 32}
    assert paid["nouns-posterior"] == {"tried": 300, "encoding": 32}
    assert paid["cmudict-posterior"] == {"tried": 4, "encoding": 32}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"networks": "moon"}, "moon"),
        ({"networks": "nouns-file,nouns-posterior"}, "name one, too"),
        ({"networks": "nouns-free-8,nouns-free-8"}, "each once"),
        ({"largest": 60, "smallest": 60}, "rise"),
        ({"largest": 700}, "held back"),
    ],
    ids=str,
)
def test_bad_requests(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    request: Callable[[], Any] = lambda: OPEN_1.cells(  # noqa: E731
        OPEN_1.request(tmp_path, given=TINY | given)
    )
    with pytest.raises(InputError, match=words):
        request()
