"""`recert reproduce tradeoff`: the memory task, what memory allows, claims, runs that repeat."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from recert import data
from recert.data import recall
from recert.errors import InputError
from recert.networks.forward import network_predictor
from recert.networks.margins import margin_table
from recert.networks.network import Network, vanilla
from recert.samples.sample import Reading, Sample
from recert_studies import framework as running
from recert_studies.tradeoff import claims
from recert_studies.tradeoff import study as tradeoff
from recert_studies.tradeoff.training import (  # fmt: skip
    CONSTRAINTS,
    FREE,
    ORTHOGONAL,
    Constraint,
    largest_margin,
    trained,
)

pytestmark = pytest.mark.studies

QUIET = Console(quiet=True)
TINY = {"units": 200, "epochs": 1, "batch": 64, "hidden": 3, "length": 4, "local": "yes"}


# The task.


def test_recall_is_the_first_of_independent_letters() -> None:
    sample = recall.load(6000, seed=3, letters=3, max_length=5)
    assert sample.sequences.shape == (6000, 5) and sample.K == 3 and sample.input_dim == 3
    assert (sample.labels == sample.sequences[:, 0]).all() and (sample.lengths == 5).all()
    assert sample.digest == data.load("recall", m=6000, seed=3, letters=3, max_length=5).digest
    assert sample.digest != recall.load(6000, seed=4, letters=3, max_length=5).digest
    # No later letter, nor two of them together, says anything of the class.
    for i in range(1, 5):
        errors = [(sample.labels != (sample.sequences[:, i] + k) % 3).mean() for k in range(3)]
        assert min(errors) > recall.chance_error(3) - 0.03
    assert recall.chance_error(3) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "options", [{"letters": 1}, {"letters": 27}, {"m": 0}, {"seed": -1}, {"max_length": 10**9}]
)
def test_recall_refuses(options: dict[str, int]) -> None:
    with pytest.raises(InputError):
        recall.load(**options)  # type: ignore[arg-type]


# What memory allows.


def reader(u: float, T: int) -> tuple[Network, np.ndarray]:
    """A network that holds the first letter in u·I as well as it can, and its margins."""
    rng = np.random.default_rng(T)
    U = u * np.linalg.qr(rng.standard_normal((3, 3)))[0]
    network = vanilla(U, 0.1 * np.eye(3), np.linalg.matrix_power(U, T - 1).T, input_kind="onehot")
    tokens = np.indices((3,) * T).reshape(T, -1).T.astype(np.int32)
    sample = Sample(tokens, tokens[:, 0].astype(np.int64), Reading("onehot", 3, 3))
    return network, margin_table(sample, network_predictor(network)).margins


@pytest.mark.parametrize("u", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("T", [2, 4, 6])
def test_few_strings_have_margins_above_the_largest(u: float, T: int) -> None:
    network, margins = reader(u, T)
    limit = largest_margin(network, T)
    assert (margins > limit * (1 + 1e-9)).mean() <= 1 / 3 + 1e-12
    V = np.linalg.norm(network.block("V").value, 2)
    assert limit == pytest.approx(math.sqrt(2) * V * 0.1 * u ** (T - 1), rel=1e-9)


# Training.


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda c: c.name)
def test_constraints_hold_after_training(constraint: Constraint) -> None:
    pytest.importorskip("torch")
    from recert.training import Recipe

    sample = recall.load(300, max_length=4)
    recipe = Recipe(d_h=5, epochs=4, batch=64, learning_rate=0.3)
    weights = [trained(sample, recipe, constraint, seed=1).weights["U"] for _ in range(2)]
    assert (weights[0] == weights[1]).all()
    singular = np.linalg.svd(weights[0], compute_uv=False)
    if constraint.name == ORTHOGONAL:
        assert np.allclose(singular, 1.0, atol=1e-6) and singular[0] < 1
    elif constraint.name == FREE:
        assert singular[0] > 1.05
    else:
        assert constraint.cap is not None and singular[0] < constraint.cap
        assert constraint.place == constraint.cap


# Claims.


def figures(error: float, gap: float, own: float) -> dict[str, Any]:
    return {
        "error": error, "held-back error": error + gap, "bounds": {"margin_ball": {"value": own}},
    }  # fmt: skip


def keyed(by_name: dict[str, tuple[float, float, float]]) -> Any:
    return {
        (task, c.name): [figures(*by_name[c.name])] * 2 for task in tradeoff.TASKS
        for c in CONSTRAINTS
    }  # fmt: skip


def test_verdicts_follow_the_figures() -> None:
    paper = {
        "‖U‖ ≤ 0.5": (0.6, 0.0, 0.9), "‖U‖ ≤ 0.8": (0.5, 0.0, 0.8), "‖U‖ ≤ 1": (0.2, 0.01, 0.4),
        "‖U‖ ≤ 1.5": (0.1, 0.02, 0.5), "‖U‖ ≤ 2": (0.1, 0.03, 0.6), "‖U‖ ≤ 3": (0.1, 0.04, 0.7),
        ORTHOGONAL: (0.1, 0.01, 0.3), FREE: (0.1, 0.05, 0.8),
    }  # fmt: skip
    found = claims.claims(keyed(paper))
    assert {claim.verdict for claim in found} == {"held"} and len(found) == 9
    turned = {
        "‖U‖ ≤ 0.5": (0.1, 0.05, 0.5), "‖U‖ ≤ 0.8": (0.1, 0.05, 0.4), "‖U‖ ≤ 1": (0.1, 0.05, 0.5),
        "‖U‖ ≤ 1.5": (0.2, 0.02, 0.2), "‖U‖ ≤ 2": (0.2, 0.03, 0.3), "‖U‖ ≤ 3": (0.2, 0.04, 0.4),
        ORTHOGONAL: (0.3, 0.01, 0.6), FREE: (0.2, 0.05, 0.8),
    }  # fmt: skip
    found = claims.claims(keyed(turned))
    assert {claim.verdict for claim in found} == {"not held"}
    assert "ball 0.2001 at ‖U‖ ≤ 1.5" in claims.best(keyed(turned), "recall")


# From end to end.


def test_tradeoff_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(tradeoff, "HELD", 100)
    monkeypatch.setattr(tradeoff, "TASKS", ("recall",))
    monkeypatch.setattr(claims, "claims", lambda found: [claims._limited(found, "recall")])
    out = tmp_path / "out"
    study = tradeoff.TRADEOFF
    running.run(study, study.request(out, seeds=[0, 4], given=TINY), console=QUIET)
    first = json.loads((out / "results.json").read_text())
    assert len(first["rows"]) == len(CONSTRAINTS) and first["claims"]
    for name in ("results.csv", "tradeoff.png", "tradeoff.svg", "command.txt"):
        assert (out / name).stat().st_size > 0
    for cell in first["cells"]:
        bounds = cell["result"]["bounds"]
        for name in ("margin_ball", "local_ball"):
            assert bounds[name]["kind"] == "certificate"
            assert bounds[name]["value"] >= cell["result"]["error"]
        assert bounds["printed_theorem_2"]["kind"] == "order"
    # An interrupted run loses what was not finished only; what is done again is the same.
    files = sorted((out / "cells").glob("*.json"))
    files[0].unlink()
    running.run(study, study.request(out, seeds=[0, 4], given=TINY), console=QUIET)
    assert json.loads((out / "results.json").read_text())["cells"] == first["cells"]


def test_bad_options(tmp_path: Path) -> None:
    for given in ({"letters": 1}, {"local": "moon"}, {"units": 1}, {"learning_rate": 0}):
        with pytest.raises(InputError):
            tradeoff.TRADEOFF.request(tmp_path, given=given)
    request = tradeoff.TRADEOFF.request(tmp_path, given={"letters": 30})
    with pytest.raises(InputError, match="letters"):
        tradeoff._parts("recall", request.options, 0)
