"""`recert reproduce gates`: closed forms of rates, nats by part, claims from made-up figures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from recert import data
from recert.certification.certify import evaluate_menu, menu
from recert.errors import InputError
from recert.networks.cells import CELLS
from recert.networks.norm_class import Cap
from recert.sensitivities.gate_ranges import GateRange, Gates
from recert.sensitivities.growth_rates import rates
from recert_studies import framework as running
from recert_studies.framework import Study
from recert_studies.gates import claims, measures
from recert_studies.gates import measures as gates_networks
from recert_studies.gates import measures as gates_theory
from recert_studies.gates import study as gates
from recert_studies.gates.measures import CONTENDERS, FREE, SMALL

pytestmark = pytest.mark.studies

pytest.importorskip("torch")

QUIET = Console(quiet=True)
TINY = {"units": 300, "batch": 64, "effort": 0.1, "longest": 14, "points": 3}
GATED = ("mgu", "gru", "lstm")


@pytest.fixture(autouse=True)
def nouns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A list of made-up nouns, whose gender is told by the last letter, and few held back."""
    generator = np.random.default_rng(0)
    lines = ["lemma,genus"]
    for _ in range(600):
        word = "".join(generator.choice(list("abcdefgh"), 7))
        lines.append(f"{word},{'fmn'[ord(word[-1]) % 3]}")
    path = tmp_path / "nouns.csv"
    path.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(data.german_nouns, "locate", lambda: path)
    monkeypatch.setattr(gates, "HELD", 100)


def network_of(cell: str) -> Any:
    from recert.training import Recipe, train

    sample = data.load("german-nouns").split(300)[0]
    caps = gates_networks.small_caps(cell)
    recipe = Recipe(cell=cell, d_h=3, epochs=2, batch=64, caps=caps)
    return train(sample, recipe), sample


def ranges(s: dict[str, float], steps: int) -> Gates:
    found = tuple(
        GateRange(0, "forward", gate, np.full(steps, v), np.full(steps, v)) for gate, v in s.items()
    )
    return Gates("calculus", steps, found)


@pytest.mark.parametrize("cell", GATED)
@pytest.mark.parametrize("reach", [0.0, 0.2, 0.45])
@pytest.mark.parametrize("letter", ["beta", "theta"])
def test_at_the_largest_norm_the_rate_is_one(cell: str, reach: float, letter: str) -> None:
    trained, _ = network_of(cell)
    network = trained.model.recert_network()
    s = {g: gates_theory.gate_range(reach + 0.01 * i) for i, g in enumerate("grzo")}
    s = {gate: s[gate] for gate in CELLS[cell].sigmoids}
    norms = dict.fromkeys(s, 0.01)
    largest = gates_theory.largest_recurrent_norm(
        cell, s, norms if letter == "theta" else None, d_h=3
    )
    assert 0.9 < largest <= 2.0
    caps = {block.name: Cap(1.0) for block in network.blocks()}
    caps |= {f"U_{gate}": Cap(0.01) for gate in s}
    caps[gates_networks.recurrent(cell)] = Cap(largest)
    (rate,) = rates(network, ranges(s, 400), repaired=True, caps=caps)
    assert getattr(rate, letter)[-1] == pytest.approx(1.0, abs=1e-9)


def test_gates_stop_helping_at_the_golden_ratio() -> None:
    s = gates_theory.gate_range(gates_theory.GOLDEN_REACH)
    assert s == pytest.approx((math.sqrt(5) - 1) / 2) and s + s * s == pytest.approx(1.0)
    assert pytest.approx(0.4812, abs=1e-4) == gates_theory.GOLDEN_REACH
    for cell, names in (("mgu", "r"), ("gru", "rz"), ("lstm", "gro")):
        at = {name: gates_theory.gate_range(0.0) for name in names}
        assert gates_theory.largest_recurrent_norm(cell, at) == pytest.approx(2.0)
        at = dict.fromkeys(names, s)
        assert gates_theory.largest_recurrent_norm(cell, at) == pytest.approx(1.0)
    assert gates_theory.largest_recurrent_norm("vanilla", {}) == 1.0


def test_nats_by_part_are_those_of_the_ball() -> None:
    trained, sample = network_of("mgu")
    case = measures.case_of(trained.model.recert_network(), sample, trained.caps, 1, 0.01)
    (ball,) = evaluate_menu(menu("margin_ball"), case.setting, 0.01, case.rows)
    parts = measures.parts_of("mgu", case, ball)
    assert sum(parts.values()) == pytest.approx(ball.terms["complexity_nats"], rel=1e-9)
    assert min(parts.values()) > 0
    assert gates_networks.is_gate("mgu", "W_r") and not gates_networks.is_gate("mgu", "W_h")
    assert gates_networks.is_gate("lstm", "U_g") and not gates_networks.is_gate("vanilla", "U")


def test_growth_a_step_is_that_of_the_radii() -> None:
    entry = {"gates": 0.0, "head": 0.0}
    nats = [entry | {"candidate": 50 * t * math.log(1.2)} for t in (100, 300)]
    found = measures.growth_a_step({"nats": nats, "weights": 50}, [100, 300])
    assert found == pytest.approx(1.2)


def test_crossing() -> None:
    assert measures.crossing([1, 2, 3, 4], [1, 3, 2, 1], [2, 2, 3, 3]) == 3
    assert measures.crossing([1, 2], [3, 3], [1, 1]) is None


@pytest.fixture
def done(tmp_path: Path) -> tuple[Study, Path]:
    out = tmp_path / "out"
    running.run(gates.GATES, gates.GATES.request(out, seeds=[5], given=TINY), console=QUIET)
    return gates.GATES, out


def test_gates_from_end_to_end(done: tuple[Study, Path]) -> None:
    study, out = done
    found = json.loads((out / "results.json").read_text())
    assert len(found["rows"]) == len(CONTENDERS) and len(found["cells"]) == len(CONTENDERS)
    assert 12 in found["horizons"] and found["horizons"][-1] == 14
    for name in ("results.csv", "gates.png", "gates.svg", "command.txt"):
        assert (out / name).stat().st_size > 0
    for cell in found["cells"]:
        what, result = cell["parameters"], cell["result"]
        assert set(result["kinds"].values()) == {"certificate"}
        for source, rate in result["rates"].items():
            assert len(rate["β"]) == len(rate["θ"]) == (14 if source.startswith("class") else 7)
            assert all(a <= b for a, b in zip(rate["β"], rate["θ"], strict=True))
        for gate in result["gates"].values():
            assert 0 < gate["least"] <= gate["largest"] <= gate["class"] <= 1
        if what["regime"] == SMALL and result["gates"]:
            assert result["rates"]["class, repaired"]["θ"][-1] < 1 < result["cap on U"]
            assert result["cap on U"] < result["largest U, θ"] < result["largest U, β"]
    # What was done is used again.
    cells = study.cells(study.request(out, seeds=[5], given=TINY))
    assert all(running.kept(cell, out / "cells") is not None for cell in cells)


def test_same_seed_same_numbers(tmp_path: Path) -> None:
    request = gates.GATES.request(tmp_path, seeds=[3], given=TINY)
    lstm = [cell for cell in gates._cells(request) if cell.title.startswith("LSTM, small")]
    first, second = (json.dumps(lstm[0].work(None)) for _ in range(2))  # type: ignore[arg-type]
    assert first == second


def figures(theta: float, nats: float, own: float) -> dict[str, Any]:
    """A result with one rate, one number of nats and one certified error."""
    rate = {"β": [theta / 2], "θ": [theta]}
    sources = ("class, repaired", "measured, repaired")
    return {
        "error": 0.2, "U": 1.2, "cap on U": 1.2, "reach": 0.3, "largest U, θ": 1.3, "weights": 10,
        "rates": dict.fromkeys(sources, rate), "log10": {"margin_ball": [math.log10(own)] * 3},
        "nats": [{"gates": nats, "candidate": k * 10.0, "head": 1.0} for k in range(3)],
    }  # fmt: skip


def keyed(theta: float, nats: float, own: float) -> dict[tuple[str, str], list[dict[str, Any]]]:
    return {
        (c.regime, c.name): [
            figures(theta, nats, own) if c.cell in GATED else figures(1.5, 0.0, 0.5)
        ]
        for c in CONTENDERS
    }


def test_verdicts_follow_the_figures() -> None:
    good = claims.claims(keyed(0.9, 1.0, 0.4), [1, 12, 40], 1)
    bad = claims.claims(keyed(3.0, 99.0, 0.6), [1, 12, 40], 1)
    by_quote = {c.quote: (c.verdict, d.verdict) for c, d in zip(good, bad, strict=True)}
    for quote, pair in by_quote.items():
        if "smaller certificate" in quote or "θ" in quote or "leaves them" in quote:
            assert pair == ("held", "not held"), quote
    # The rest saves nothing here, so no gate is worth its nats.
    assert {v for q, v in by_quote.items() if "what gates save" in q} == {("not held", "not held")}
    assert "comparable" in claims.comparable(keyed(1, 1, 0.5), FREE)
    far = keyed(1, 1, 0.5)
    far[FREE, "GRU"] = [far[FREE, "GRU"][0] | {"error": 0.3}]
    assert "apart" in claims.comparable(far, FREE)


def test_bad_options(tmp_path: Path) -> None:
    for given in ({"units": 1}, {"longest": "x"}, {"moon": 1}):
        with pytest.raises(InputError):
            gates.GATES.request(tmp_path, given=given)
    request = gates.GATES.request(tmp_path, given={**TINY, "units": 10**6})
    with pytest.raises(InputError, match="1000000"):
        gates.GATES.cells(request)
    assert replace(request, seeds=(1,)).seeds == (1,)
