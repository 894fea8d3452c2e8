"""docs/choices.md lists everything that can be set, and says of each what it costs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recert
from recert.verifier.hypotheses import POSSIBLE
from recert.verifier.statements import STATEMENTS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "choices.md"
ANSWERS = ("paid", "declared", "estimate", "free", "below", "as in ", "as `")
FUNCTIONS = ("certify", "certify_all", "certify_posterior", "Cap", "Enforced")
# Commands that print no new number.
SILENT = {"version", "verify", "data"}


def sections() -> dict[str, dict[str, str]]:
    """Title → argument → what it costs."""
    found: dict[str, dict[str, str]] = {}
    title = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ")
            found[title] = {}
        elif line.startswith("| `") and title:
            names, cost = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:3])
            for name in re.findall(r"`([^`]+)`", names):
                assert name not in found[title], (title, name)
                found[title][name] = cost
    return found


def recipes() -> dict[str, set[str]]:
    """Title → fields, of what says how to train."""
    pytest.importorskip("torch")
    from recert.training.quantized import RoundedRecipe
    from recert.training.recipes import PosteriorRecipe, Recipe, RecipeCandidate

    known: tuple[Any, ...] = (Recipe, RoundedRecipe, PosteriorRecipe, RecipeCandidate)
    return {
        f"Training in Python: {kind.__name__}": set(kind.__dataclass_fields__) for kind in known
    }


def faces() -> dict[str, set[str]]:
    """Title → everything that can be set there."""
    typer = pytest.importorskip("typer")
    from recert.cli.entry import app
    from recert.data import list_data

    found = {
        f"recert.{name}": set(inspect.signature(getattr(recert, name)).parameters)
        for name in FUNCTIONS
    }
    for name, command in typer.main.get_command(app).commands.items():
        if name not in SILENT:
            found[f"recert {name}"] = {
                parameter.opts[0]
                if parameter.param_type_name == "option"
                else parameter.name.upper()
                for parameter in command.params
            }
    return found | recipes() | {f"Data: {e.name}": set(e.options) for e in list_data()}


def test_everything_that_can_be_set_is_listed() -> None:
    listed, known = sections(), faces()
    missing = {
        title: sorted(names - set(listed.get(title, {})))
        for title, names in known.items()
        if names - set(listed.get(title, {}))
    }
    assert not missing, f"say in docs/choices.md what these cost: {missing}"
    assert {title for title, rows in listed.items() if rows} == set(known)


def test_every_answer_is_one_of_four_and_names_rows_that_there_are() -> None:
    for title, rows in sections().items():
        for name, cost in rows.items():
            assert any(answer in cost for answer in ANSWERS), (title, name, cost)
            for ids in re.findall(r"declared: ((?:`\w+`(?:, )?)+)", cost):
                assert set(re.findall(r"`(\w+)`", ids)) <= set(POSSIBLE), (title, name, cost)


def test_a_new_argument_would_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def certify(model: object, brand_new: int = 0) -> None:
        """As if one had been added."""

    monkeypatch.setattr(recert, "certify", certify)
    with pytest.raises(AssertionError, match="brand_new"):
        test_everything_that_can_be_set_is_listed()


# The row that says so.


def certificates() -> list[Any]:
    from recert.pac_bayes import assign_roles, part_digest
    from recert.pac_bayes.posterior import around
    from recert.samples.sample import Reading

    rng = np.random.default_rng(0)
    net = recert.vanilla(
        0.2 * rng.normal(size=(2, 2)), rng.normal(size=(2, 3)), rng.normal(size=(3, 2))
    )
    x, y = rng.integers(0, 3, (200, 9)), rng.integers(0, 3, 200)
    held = (rng.integers(0, 3, (50, 9)), rng.integers(0, 3, 50))
    seen = assign_roles(x, y, Reading("onehot", 3, 3, "last", 9), m_0=50, digest=None).seen
    posterior = around(net, 50, part_digest(seen), 0.1, temperature=0.2)
    more: dict[str, Any] = {"max_length": 9, "holdout": held}
    return [
        recert.certify(net, x, y, **more),
        recert.certify_all([net, net], x, y, bounds="held_out", **more)["2"],
        recert.certify_posterior(posterior, x, y, repetitions=2, **more),
    ]


def test_every_statement_needs_the_row_on_settings() -> None:
    for found in certificates():
        row = found.assumption("settings")
        assert row.status == "declared" and "another δ, choice of statements" in row.evidence
        claimed = [b for b in found.bounds if b.kind in ("certificate", "estimate")]
        assert claimed and all("settings" in bound.needs for bound in claimed)
        assert "all other settings that are not paid for were fixed" in found.statement()
    assert all("settings" in row.needs for row in STATEMENTS.values())


@pytest.mark.parametrize("which", range(3))
def test_a_certificate_without_it_is_refused(which: int) -> None:
    from recert.certificates.schema import seal

    plain = certificates()[which].to_json()
    assert recert.verify(plain)
    plain["assumptions"] = [row for row in plain["assumptions"] if row["id"] != "settings"]
    for bound in plain["bounds"]:
        bound["needs"] = [id for id in bound["needs"] if id != "settings"]
    from recert.certificates.certificate import Certificate

    plain["seal"] = seal(plain)
    plain["statement"] = Certificate.from_json(plain).statement()
    plain["seal"] = seal(plain)
    result = recert.verify(plain)
    assert not result and result.first_failure is not None
    assert result.first_failure.row.endswith(".needs")
