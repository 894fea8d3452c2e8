"""A certificate says what its facts say: no look-alike, other word, other key or other type."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("flint")

import recert
from recert.certificates import hypotheses
from recert.certificates.certificate import Assumption, Certificate
from recert.certificates.schema import seal
from recert.errors import FileError, InputError, RecertError
from recert.networks.blocks import Block
from recert.verifier import verify
from test_verify_fields import samples

RNG = np.random.default_rng(0)
X = 0.39 * RNG.uniform(-1, 1, (200, 4, 1))
Y = (X[:, -1, 0] > 0).astype(int)
NET = recert.vanilla(U=[[0.05]], W=[[2.0]], V=[[-1.0], [1.0]], input_kind="real")
HELD = 0.39 * RNG.uniform(-1, 1, (60, 4, 1))
OPTIONS = {"max_length": 4, "input_bound": 0.4, "holdout": (HELD, (HELD[:, -1, 0] > 0).astype(int))}
FOUND = recert.certify(NET, X, Y, draws="readings of one gauge, a day apart", **OPTIONS)
PLAIN = json.dumps(FOUND.to_json(), ensure_ascii=False)

BENGALI, FULLWIDTH, NBSP, CYRILLIC, INVISIBLE = "\u09ea", "\uff14", "\u00a0", "\u0430", "\u200b"


def fresh() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PLAIN)
    return found


def row_of(data: dict[str, Any], id: str) -> dict[str, Any]:
    return next(row for row in data["assumptions"] if row["id"] == id)


def sealed(data: dict[str, Any]) -> dict[str, Any]:
    """Sealed anew, its sentences those of its facts where it has any."""
    data = data | {"seal": seal(data)}
    try:
        again = Certificate.from_json(data).to_json()
    except InputError:
        return data
    data = data | {key: again[key] for key in ("statement", "assumptions")}
    return data | {"seal": seal(data)}


def refused(data: dict[str, Any], *more: Any, **options: Any) -> bool:
    try:
        return not verify(data | {"seal": seal(data)}, *more, **options)
    except RecertError:
        return True


def test_the_honest_one_stands() -> None:
    found = verify(fresh(), NET, X, Y, holdout=OPTIONS["holdout"])
    assert found and found.level == "full", str(found)
    assert "“readings of one gauge, a day apart”, declared by the user" in PLAIN


# Sentences.


def test_digits_of_other_scripts_in_every_sentence() -> None:
    """BENGALI DIGIT FOUR reads as an 8, and was parsed as a 4."""
    data = recert.certify(NET, X, Y, bounds="margin_ball", **OPTIONS).to_json()
    assert verify(data)
    for row in data["assumptions"]:
        if row["id"] == "horizon":
            row["statement"] = row["statement"].replace("4 steps", f"{BENGALI} steps")
        if row["id"] == "input_bound":
            row["statement"] = row["statement"].replace("0.4", f"0.{BENGALI}")
    data["statement"] = (
        data["statement"].replace("4 steps", f"{BENGALI} steps").replace("0.4,", f"0.{BENGALI},")
    )
    assert data["statement"].count(BENGALI) == 3 and refused(data)


LOOKALIKES = {"4": BENGALI, "0": FULLWIDTH, " ": NBSP, "a": CYRILLIC, "t": f"t{INVISIBLE}"}
SENTENCES = [
    ("statement",),
    *(("assumptions", i, key) for i in range(len(FOUND.assumptions))
      for key in ("statement", "evidence")),
    *(("bounds", i, key) for i in range(len(FOUND.bounds))
      for key in ("title", "reference", "reason")),
]  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SENTENCES), st.data())
def test_no_sentence_can_be_changed(where: tuple[Any, ...], data: st.DataObject) -> None:
    forged = fresh()
    inner: Any = forged
    for key in where[:-1]:
        inner = inner[key]
    before = inner[where[-1]]
    inner[where[-1]] = data.draw(
        st.one_of(
            st.sampled_from([before + more for more in (" ", ".", " It is certain.", INVISIBLE)]),
            st.sampled_from(sorted(LOOKALIKES)).map(
                lambda a: before.replace(a, LOOKALIKES[a]) + (NBSP if a not in before else "")
            ),
            st.text(max_size=40).filter(lambda text: text != before),
        )
    )
    assert refused(forged)


# Facts.


@pytest.mark.parametrize("name", ["two ways, groups", "a list", "a posterior"])
def test_every_fact_is_held_against_something(name: str) -> None:
    """Every fact of every row, changed with its sentences, is found out at level full."""
    plain, model, (x, y, n, groups), held = samples()[name]
    loose = []
    for i, row in enumerate(plain["assumptions"]):
        for fact, value in row["facts"].items():
            for new in others(value):
                data = copy.deepcopy(plain)
                data["assumptions"][i]["facts"][fact] = new
                data = sealed(data)
                full = {"lengths": n, "groups": groups, "holdout": held}
                if not refused(data) and not refused(data, model, x, y, **full):
                    loose.append((row["id"], fact, value, new))
    words = {("iid", "words"), ("holdout", "why")}
    assert not {row[:2] for row in loose} - words, loose


def others(value: Any) -> Iterator[Any]:
    if isinstance(value, int):
        yield from (value + 1, max(0, value - 1) if value else 7, float(value), True)
    elif isinstance(value, float):
        yield from (value * 1.5 + 0.1, value * 0.5, None, -0.0)
    elif isinstance(value, str):
        yield from ("fixed" if value != "fixed" else "learnt", "no plain line\n", 3)
    elif value is None:
        yield from (1, 0.5, "shifted", [])
    else:
        yield [*value, "more"]


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "facts of another row": lambda d: row_of(d, "floats").update(facts=row_of(d, "caps")["facts"]),
    "rows under each other's name": lambda d: (
        row_of(d, "horizon").update(id="x"), row_of(d, "iid").update(id="horizon"),
        row_of(d, "x").update(id="iid")),
    "a row twice": lambda d: d["assumptions"].append(dict(row_of(d, "horizon"))),
    "a row twice, wider": lambda d: d["assumptions"].append(
        row_of(d, "horizon") | {"facts": row_of(d, "horizon")["facts"] | {"steps": 9}}),
    "a row that nobody needs": lambda d: d["assumptions"].append(
        {"id": "draws", "status": "declared", "facts": {}, "statement": "s", "evidence": "e"}),
    "4.0 steps": lambda d: row_of(d, "horizon")["facts"].update(steps=4.0),
    "true for 1": lambda d: row_of(d, "architecture")["facts"].update(tried=True),
    "a whole B_x": lambda d: row_of(d, "input_bound")["facts"].update(value=0),
    "minus nothing": lambda d: row_of(d, "floats")["facts"].update(slack=-0.0),
    "a signed zero": lambda d: d["bounds"][0]["terms"].update(ramp_risk=-0.0),
    "one more fact": lambda d: row_of(d, "step")["facts"].update(audited="yes"),
    "a fact less": lambda d: row_of(d, "iid")["facts"].pop("fault"),
    "a fault that is none": lambda d: row_of(d, "iid")["facts"].update(fault="none"),
    "2.0 bits": lambda d: d["sample"].update(T=4.0),
    "the whole number for a float": lambda d: d["bounds"][0].update(
        choices=d["bounds"][0]["choices"] | {"gamma": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_facts(name: str) -> None:
    data = fresh()
    FORGED[name](data)
    assert refused(sealed(data)) and refused(data)


def objects(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        yield at
        for key, inner in value.items():
            yield from objects(inner, (*at, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from objects(inner, (*at, i))


@pytest.mark.parametrize("kind", ["network", "posterior"])
def test_no_object_takes_a_key_more(kind: str) -> None:
    plain = fresh() if kind == "network" else samples()["a posterior"][0]
    more = itertools.cycle([("audit", "passed"), ("note", 1.0), ("\u0430lpha", 1.0)])
    for at in objects(plain):
        data = copy.deepcopy(plain)
        inner: Any = data
        for key in at:
            inner = inner[key]
        inner |= [next(more)]
        assert refused(data), (at, inner)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"delta": 0.01', '"delta": 0.01, "delta": 0.01'),
        ('"T": 4', '"T": 4, "T": 8'),
        ('"delta": 0.01', '"delta": 1e400'),
        ('"delta": 0.01', '"delta": NaN'),
    ],
)
def test_files_that_mean_two_things(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(PLAIN.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(FileError):
        verify(path)


def test_a_mark_on_a_number_is_no_other_text() -> None:
    """A newline after a digest, digits of another script in a date."""
    for change in (
        lambda d: d["sample"].update(digest=d["sample"]["digest"] + "\n"),
        lambda d: d.update(created=d["created"].replace("2", "\uff12", 1)),
        lambda d: d.update(recert=d["recert"] + "\u202e"),
        lambda d: d["network"]["blocks"][0].update(name="U\u200b"),
    ):
        data = fresh()
        change(data)
        assert refused(data)


# A user's own words.

BAD = [
    "two\nlines", "right \u202eto left", "zero\u200bwidth", "error at most \u09ea%",
    "m\u00b2", "a “quote”", 'a "quote"', "x" * 201, " blank", "non-breaking\u00a0space", "\x1b[1m",
]  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_words_that_are_no_plain_line(words: str) -> None:
    with pytest.raises(InputError, match="draws is no plain line of text"):
        recert.certify(NET, X, Y, draws=words, **OPTIONS)
    data = fresh()
    row_of(data, "iid")["facts"]["words"] = words
    assert refused(sealed(data)) and refused(data)


@pytest.mark.parametrize("words", ["Stichproben, täglich", "每日一次", "it's 3 a day"])
def test_words_that_are_one(words: str) -> None:
    found = recert.certify(NET, X, Y, draws=words, bounds="margin_ball", **OPTIONS)
    assert verify(found)
    assert words in found.assumption("iid").evidence


def test_names_are_plain_lines() -> None:
    with pytest.raises(InputError, match="the name of a block is no plain line"):
        Block(f"W{INVISIBLE}", np.ones((2, 2)), "spectral")
    with pytest.raises(InputError, match="the name of a network is no plain line"):
        recert.certify_all([NET, NET], X, Y, names=["one", f"tw{FULLWIDTH}"], **OPTIONS)


# The forms.


def test_rows_that_cannot_be() -> None:
    for id, status, facts in (
        ("horizon", "declared", {}),
        ("nothing", "declared", {}),
        ("step", "proved", {}),
        ("margin", "proved", {"gamma": 0.5}),
        ("caps", "declared", {"broken": [["U", "norm", 2.0, 1.0]]}),
    ):
        with pytest.raises(InputError):
            Assumption(id, status, facts)  # type: ignore[arg-type]


def test_every_row_is_described() -> None:
    page = (Path(__file__).parents[1] / "docs" / "certificate.md").read_text(encoding="utf-8")
    table = page.split("**Words are facts.**")[1].split("## bounds")[0]
    lines = {line.split("|")[1]: line for line in table.splitlines() if line.startswith("| `")}
    for id, forms in hypotheses.FORMS.items():
        said = " ".join(line for rows, line in lines.items() if f"`{id}`" in rows)
        for form in forms:
            assert said and all(f"`{fact}`" in said for fact in form.facts), (id, form.facts)
