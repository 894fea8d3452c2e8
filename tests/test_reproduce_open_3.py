"""`recert reproduce open-3`: training at constant steps, trends against closed forms, verdicts."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("torch")
import torch

from recert import cli
from recert.data.synthetic import load
from recert.errors import InputError
from recert.training import Recipe, RecurrentClassifier, penalty
from recert.training.loop import draw, model_of
from recert.training.sgd import MOMENTUM, Descent, descend
from recert_studies.open3_implicit_bias import study
from recert_studies.open3_implicit_bias.claims import BiasRun, claims
from recert_studies.open3_implicit_bias.study import (
    FREE,
    BiasSetting,
    looks,
    norm_at,
    settings,
    spectra,
)
from recert_studies.statistics import kendall, mean_and_spread, trend

pytestmark = pytest.mark.studies

needs_nouns = pytest.mark.skipif(find_spec("german_nouns") is None, reason="no german-nouns")
STEPS = np.geomspace(100, 1000, 20)


# Trends and rankings.


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (1.0 + 0.5 * np.log(STEPS), "log"),
        (0.1 * STEPS**0.8, "power"),
        (3.0 + 0.0 * STEPS, "plateau"),
        (2.0 - np.exp(-STEPS / 20), "plateau"),
        (np.where(STEPS < 400, 2.0, 900.0), "jump"),
        (2.0 * STEPS**0.03 + 1e-3 * np.sin(STEPS), "log or power"),
    ],
)
def test_trends_of_closed_forms(values: np.ndarray, kind: str) -> None:
    assert trend(STEPS.tolist(), values.tolist()).kind == kind


def test_slopes_are_exact() -> None:
    found = trend(STEPS.tolist(), (1.0 + 0.5 * np.log(STEPS)).tolist())
    assert found.slope == pytest.approx(0.5) and found.log_residual < 1e-12
    found = trend(STEPS.tolist(), (0.1 * STEPS**0.8).tolist())
    assert found.power == pytest.approx(0.8) and found.power_residual < 1e-12
    for wrong in (([1, 2, 3], [1, 1, 1]), ([4, 3, 2, 1], [1] * 4), ([1, 2, 3, 4], [1, 1, 0, 1])):
        with pytest.raises(InputError):
            trend(*wrong)


def test_kendall_is_scipys() -> None:
    generator = np.random.default_rng(0)
    for _ in range(30):
        x, y = generator.integers(0, 5, (2, 9)).tolist()
        assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)
    assert kendall([1, 1], [1, 2]) is None
    assert kendall([1, 1 + 1e-12, 2], [1, 1, 2]) == pytest.approx(1.0)
    assert mean_and_spread([1.0, 3.0]) == "2 ± 1.4" and mean_and_spread([]) == "—"


def look(error: float, norm: float, step: int = 1) -> dict[str, Any]:
    return {"step": step, "error": error, "singular values": {"U": [norm, 0.1], "W": [9.0]}}


def test_equal_error_is_interpolated() -> None:
    seen = [look(0.6, 1.0), look(0.3, 2.0), look(0.1, 4.0), look(0.2, 5.0)]
    assert norm_at(seen, 0.2) == pytest.approx(3.0)
    assert norm_at(seen, 0.1) == pytest.approx(4.0)
    assert norm_at(seen, 0.7) == 1.0 and norm_at(seen, 0.05) is None


def test_looks_are_dense_enough() -> None:
    for steps in (12, 200, 1500):
        found = looks(steps)
        assert found[0] == 0 and found[-1] == steps
        late = [s for s in found if s >= max(1, steps / 10)]
        assert len(late) >= 4


# Training.


def start(seed: int = 0) -> tuple[Any, RecurrentClassifier]:
    data = load(40, seed=1, max_length=4)
    model = model_of(data, Recipe(d_h=4))
    draw(model, {}, torch.Generator().manual_seed(seed))
    return data, model


def gradient(data: Any, model: RecurrentClassifier, decay: float = 0.0) -> dict[str, torch.Tensor]:
    """The gradient of the whole sample's loss, and of the penalty as `penalty` has it."""
    model.zero_grad()
    tokens = torch.from_numpy(data.sequences.astype(np.int64))
    y = model(tokens, torch.from_numpy(data.lengths))
    loss = torch.nn.functional.cross_entropy(y, torch.from_numpy(data.labels))
    if decay:
        loss = loss + penalty(model, dict.fromkeys(model.blocks(), decay), kind="frobenius")
    loss.backward()
    return {n: b.grad.clone() for n, b in model.blocks().items() if b.grad is not None}


@pytest.mark.parametrize("optimiser", ["sgd", "momentum"])
@pytest.mark.parametrize("constraint", ["none", "decay"])
def test_two_steps_by_hand(optimiser: str, constraint: str) -> None:
    data, model = start()
    decay = 0.05 if constraint == "decay" else 0.0
    velocity: dict[str, torch.Tensor] = {}
    for _ in range(2):
        for name, slope in gradient(data, model, decay).items():
            before = velocity.get(name, torch.zeros_like(slope))
            velocity[name] = slope + (MOMENTUM * before if optimiser == "momentum" else 0.0)
        with torch.no_grad():
            for name, block in model.blocks().items():
                block -= 0.3 * velocity[name]
    descent = Descent(optimiser, 0.3, constraint, decay=0.05, batch=40)
    found = descend(data, Recipe(d_h=4), descent, steps=2)
    for name, block in found.blocks().items():
        expected = model.blocks()[name].detach().double()
        torch.testing.assert_close(block.detach(), expected, rtol=1e-5, atol=1e-6)


def test_constraints_hold_at_every_step() -> None:
    data, _ = start()
    for constraint in ("cap", "orthogonal"):
        seen: list[np.ndarray] = []

        def watch(model: RecurrentClassifier, step: int, seen: list[np.ndarray] = seen) -> bool:
            seen.append(np.linalg.svd(model.weights["U"].detach().numpy(), compute_uv=False))
            return step >= 5

        descent = Descent("adam", 0.1, constraint, cap=0.9)
        descend(data, Recipe(d_h=4), descent, steps=9, at=range(10), watch=watch)
        assert len(seen) == 6
        assert max(s.max() for s in seen) <= 0.9 * (1 + 1e-5)
        if constraint == "orthogonal":
            assert min(s.min() for s in seen) >= 0.9 * (1 - 1e-5)


def test_descents_are_checked() -> None:
    for wrong in (
        {"optimiser": "moon"},
        {"constraint": "x"},
        {"step_size": 0.0},
        {"step_size": 1e39},
        {"batch": 0},
    ):
        with pytest.raises(InputError):
            Descent(**wrong)
    data, _ = start()
    with pytest.raises(InputError, match="not finite"):
        descend(data, Recipe(d_h=4), Descent(step_size=2e38), steps=50)
    with pytest.raises(InputError, match="one label"):
        descend(
            replace(data, labels=np.zeros((40, 4), dtype=np.int64)), Recipe(), Descent(), steps=1
        )


def test_spectra_are_those_of_the_blocks() -> None:
    _, model = start()
    network = model.recert_network()
    first = {b.name: np.array(b.value) + 1.0 for b in network.blocks()}
    found = spectra(network, first)
    for block in network.blocks():
        exact = np.linalg.svd(block.value, compute_uv=False)
        assert found["singular values"][block.name] == pytest.approx(exact, rel=1e-5)
        assert found["distance"][block.name] == pytest.approx(math.sqrt(block.value.size), rel=1e-5)


# Verdicts.


def made(optimiser: str, size: float, there: float | None, **more: Any) -> BiasRun:
    known = {
        "cell": "vanilla", "constraint": "none", "seed": 0, "step_there": 5, "held_there": there,
        "error": 0.0, "norm": 2.0, "trend": "log", "diverged": "",
    }  # fmt: skip
    return BiasRun(optimiser=optimiser, step_size=size, norm_there=there, **{**known, **more})


def test_runs_decide_the_verdicts() -> None:
    good = [made("sgd", 0.1, 0.9), made("sgd", 1.0, 0.8), made("adam", 0.1, 1.5)]
    good += [made("sgd", 0.1, 0.7, constraint="cap"), made("sgd", 1.0, 0.9, cell="gru", norm=0.9)]
    assert [c.verdict for c in claims(good)] == ["held"] * 7
    bad = [
        made("sgd", 0.1, 1.8, trend="jump", held_there=0.1), made("sgd", 1.0, 1.9, trend="jump"),
        made("adam", 0.1, 1.5, held_there=3.0), made("sgd", 0.1, None, constraint="cap"),
        made("sgd", 1.0, 0.9, cell="gru"),
    ]  # fmt: skip
    assert [c.verdict for c in claims(bad)] == ["not held"] * 7
    mixed = [*good, *(replace(r, seed=1) for r in bad)]
    assert [c.verdict for c in claims(mixed)] == ["held in part"] * 7
    assert all(any(c.isdigit() for c in claim.figure) for claim in claims(mixed))


def test_nothing_decides_nothing() -> None:
    assert {c.verdict for c in claims([])} == {"not held"}


# The command.


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["recert", "reproduce", "open-3", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    return 0


TINY = [
    "--seeds", "0,1", "-o", "units=40", "-o", "held=20", "-o", "hidden=3", "-o", "horizon=3",
    "-o", "steps=20", "-o", "target=0.6",
]  # fmt: skip


@needs_nouns
def test_twice_and_resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few = [
        BiasSetting("vanilla", "sgd", 0.3), BiasSetting("vanilla", "adam", 0.01, "cap"),
        BiasSetting("gru", "adam", 0.01),
    ]  # fmt: skip
    monkeypatch.setattr(study, "settings", lambda: few)
    a = tmp_path / "a"
    assert call(monkeypatch, *TINY, "--out", a) == 0
    first = json.loads((a / "results.json").read_text())
    assert len(first["rows"]) == 3 and len(first["runs"]) == 6
    for cell in first["cells"]:
        seen = cell["result"]["looks"]
        assert [row["step"] for row in seen] == looks(20)
        assert seen[0]["distance"]["V"] == 0.0 and seen[-1]["distance"]["V"] > 0.0
        if cell["parameters"]["constraint"] == "cap":
            assert all(row["singular values"]["U"][0] <= 1.0 for row in seen)
        if cell["parameters"]["cell"] == "vanilla":
            assert all(row["beta"] == row["singular values"]["U"][0] for row in seen)
    for path in sorted((a / "cells").iterdir())[:2]:
        path.unlink()
    assert call(monkeypatch, *TINY, "--out", a) == 0
    again = json.loads((a / "results.json").read_text())
    assert again["cells"] == first["cells"] and again["claims"] == first["claims"]
    assert (a / "open-3.png").stat().st_size and (a / "open-3.svg").stat().st_size
    assert "open-3" in (a / "command.txt").read_text()


@needs_nouns
@pytest.mark.parametrize("wrong", ["units=0", "units=999999", "moon=1", "steps=x", "cap=0"])
def test_bad_input_is_one_line(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "-o", wrong, "--out", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert err.startswith("recert: ") and err.count("\n") == 1


def test_every_optimiser_and_constraint_is_tried() -> None:
    every = settings()
    assert len(set(every)) == len(every)
    assert {s.optimiser for s in every} == set(FREE)
    assert {s.constraint for s in every} == {"none", "cap", "orthogonal", "decay"}
