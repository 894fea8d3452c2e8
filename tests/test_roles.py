"""Units and roles: windows that overlap, encodings that were learnt, units that were set aside.

Most of these are attempts to get a certificate for what is none, through the public face.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recert
from recert import data
from recert.data import SequenceData, text
from recert.errors import InputError
from recert.samples.leakage import traces, within
from recert.workflows import split

RNG = np.random.default_rng(5)
PROSE = Path(__file__).parent.parent / "docs" / "theory.md"


def network(letters: int = len(text.CHARACTERS)) -> recert.Network:
    rng = np.random.default_rng(1)
    return recert.vanilla(
        0.2 * rng.normal(size=(3, 3)), rng.normal(size=(3, letters)), rng.normal(size=(2, 3))
    )


def real_network() -> recert.Network:
    rng = np.random.default_rng(1)
    U, W, V = rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), rng.normal(size=(2, 3))
    return recert.vanilla(0.2 * U, W, V, input_kind="real")


def prose(words: bool = False) -> np.ndarray:
    found = PROSE.read_text(encoding="utf-8")
    return (text.word_codes(found) % 50 if words else text.character_codes(found))[:20_000]


def windows(codes: np.ndarray, T: int, stride: int, seed: int = 0) -> np.ndarray:
    """Overlapping windows in an order that hides where they come from."""
    found = np.lib.stride_tricks.sliding_window_view(codes, T, axis=0)[::stride]
    found = np.moveaxis(found, -1, 1)
    return found[np.random.default_rng(seed).permutation(len(found))]


# Windows that overlap.


@pytest.mark.parametrize(
    ("T", "stride"), [(24, 1), (24, 3), (56, 1), (56, 14), (200, 7), (200, 40)]
)
def test_overlapping_windows_are_no_independent_units(T: int, stride: int) -> None:
    x = windows(prose(), T, stride)
    y = RNG.integers(0, 2, len(x))
    found = recert.certify(network(), x, y, max_length=T, bounds=("margin_ball",))
    row = found.assumption("iid")
    assert row.status == "violated" and "pass groups" in row.evidence
    assert found.kind == "estimate"


def test_overlapping_windows_of_one_document_are_one_unit() -> None:
    codes = prose().reshape(100, 200)
    parts = [windows(document, 24, 1, seed=i) for i, document in enumerate(codes)]
    x, groups = np.concatenate(parts), np.repeat(np.arange(100), [len(p) for p in parts])
    y = RNG.integers(0, 2, len(x))
    common = {"max_length": 24, "bounds": "margin_ball"}
    grouped = recert.certify(network(), x, y, groups=groups, **common)
    assert grouped.assumption("iid").status == "declared" and grouped.kind == "certificate"
    assert grouped.sample["m"] == 100
    # Names for groups are not what makes them independent.
    for cheat in (None, np.arange(len(x)), [f"unit {i}" for i in RNG.permutation(len(x))]):
        found = recert.certify(network(), x, y, groups=cheat, **common)
        assert found.assumption("iid").status == "violated" and found.kind == "estimate"
        assert found.sample["m"] == len(x)


def test_windows_of_real_series_and_of_part_of_a_text() -> None:
    series = np.cumsum(RNG.normal(size=(6000, 2)), axis=0) / 50
    x = windows(series, 40, 5).astype(np.float32)
    for half in (slice(None), slice(0, len(x) // 2)):
        y = RNG.integers(0, 2, len(x))[half]
        found = recert.certify(real_network(), x[half], y, max_length=40, input_bound=1e3)
        assert found.assumption("iid").status == "violated" and found.kind == "estimate"


def test_windows_as_batches_are_found_as_well() -> None:
    x = windows(prose(), 56, 3)
    y = RNG.integers(0, 2, len(x))
    batches = ((x[i : i + 500], y[i : i + 500]) for i in range(0, len(x), 500))
    found = recert.certify(network(), batches, max_length=56, bounds="margin_ball")
    assert found.assumption("iid").status == "violated"


def test_windows_dealt_out_to_both_roles_are_no_held_out_units() -> None:
    x = windows(prose(), 56, 2)
    y = RNG.integers(0, 2, len(x))
    held = (x[:2000], y[:2000])
    rest = {"max_length": 56, "bounds": "held_out"}
    found = recert.certify(network(), x[2000:], y[2000:], holdout=held, **rest)
    row = found.assumption("holdout")
    assert row.status == "violated" and found["held_out"].kind == "estimate"
    assert "0 of 2,000 held-out sequences occur" in row.evidence
    # Grouping the sample does not help held-out windows of the same documents.
    groups = np.zeros(len(x) - 2000, dtype=int)
    grouped = recert.certify(
        network(), x[2000:], y[2000:], groups=groups, holdout=(*held, None, np.arange(2000)), **rest
    )
    assert grouped["held_out"].kind == "estimate"


def test_a_list_of_windows_is_a_list() -> None:
    """Drawn without replacement from a list, of which alone the statements speak."""
    x = windows(prose(), 56, 3)
    y = RNG.integers(0, 2, len(x))
    common = {"max_length": 56, "population": 10_000, "bounds": "margin_ball"}
    of_list = recert.certify(network(), x, y, **common)
    assert of_list.assumption("iid").status == "declared" and of_list.kind == "certificate"
    assert "without replacement from a list of 10,000" in of_list.assumption("iid").statement
    of_draws = recert.certify(network(), x, y, draws="regarded as draws", **common)
    assert of_draws.assumption("iid").status == "violated"


def test_text_of_ours_is_grouped_and_clean() -> None:
    found = text.load(PROSE, max_length=24)
    assert found.groups is not None and found.encoding == "fixed"
    known = traces(np.where(found.valid, found.sequences, 0), found.labels, found.lengths)
    assert not within(known, found.groups).suspicious


def test_duplicates_across_roles_are_told_with_numbers() -> None:
    x, y = RNG.standard_normal((200, 4, 2)), RNG.integers(0, 2, 200)
    fresh = RNG.standard_normal((100, 4, 2)), RNG.integers(0, 2, 100)
    common = {"max_length": 4, "input_bound": 20.0}
    clean = recert.certify(real_network(), x, y, holdout=fresh, **common).assumption("holdout")
    assert "0 of 100 held-out sequences occur in the sample" in clean.evidence
    mixed = (np.concatenate([fresh[0], x[:7]]), np.concatenate([fresh[1], y[:7]]))
    found = recert.certify(real_network(), x, y, holdout=mixed, **common).assumption("holdout")
    assert found.status == "violated" and "7 of 107 held-out sequences occur" in found.evidence
    repeated = np.concatenate([x, x[:10]])
    row = recert.certify(real_network(), repeated, np.r_[y, y[:10]], **common).assumption("iid")
    assert "200 of 210 sequences are distinct" in row.evidence


# How inputs came to be encoded.


def letters_sample(m: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).integers(0, 4, (m, 5))
    return x, (x[:, -1] > 1).astype(int)


def certify_letters(**more: Any) -> recert.Certificate:
    common = {"max_length": 5, "holdout": letters_sample(300, 9)}
    return recert.certify(network(4), *letters_sample(), **{**common, **more})


def certified(found: recert.Certificate) -> list[Any]:
    return [b for b in found.bounds if b.kind in ("certificate", "estimate")]


def test_a_learnt_encoding_makes_every_number_an_estimate() -> None:
    found = certify_letters(encoding="learnt")
    assert found.assumption("encoding").status == "violated"
    assert {bound.kind for bound in certified(found)} == {"estimate"} and found.kind == "estimate"
    assert "learnt from the sample" in found.statement()
    fixed = certify_letters()
    assert {bound.kind for bound in certified(fixed)} == {"certificate"}
    assert [b.value for b in certified(found)] == [b.value for b in certified(fixed)]


def test_an_encoding_chosen_among_n_is_paid_for_in_every_statement() -> None:
    fixed, chosen = certify_letters(), certify_letters(encoding=1000)
    assert chosen.assumption("encoding").sound
    assert "one of 1,000" in chosen.assumption("encoding").evidence
    for bound in certified(chosen):
        rows = [row for row in bound.cost if "encoding" in row.what]
        assert len(rows) == 1 and rows[0].value == 1000
        assert math.log(1000) <= rows[0].nats <= math.log(1000) * (1 + 1e-12)
        assert bound.value >= fixed[bound.name].value
        assert bound.delta == fixed[bound.name].delta
    assert chosen["margin_ball"].value > fixed["margin_ball"].value
    one = certify_letters(encoding=1)
    assert [b.cost for b in certified(one)] == [b.cost for b in certified(fixed)]


def test_held_out_units_pay_for_the_encoding_and_not_for_recipes() -> None:
    from scipy.stats import binom

    alone = {"bounds": "held_out", "delta": 0.05}
    fixed, chosen = certify_letters(**alone), certify_letters(**alone, encoding=20)
    errors = round(fixed["held_out"].terms["error"] * 300)
    assert binom.cdf(errors, 300, fixed["held_out"].value) == pytest.approx(0.05, rel=1e-6)
    assert binom.cdf(errors, 300, chosen["held_out"].value) == pytest.approx(0.0025, rel=1e-6)
    tried = certify_letters(**alone, tried=20)
    assert tried["held_out"] == fixed["held_out"]


@pytest.mark.parametrize("encoding", ["learned", "", True, 0, -3, 2.5, None, [3], math.nan])
def test_encodings_that_are_none(encoding: Any) -> None:
    with pytest.raises(InputError, match="encoding"):
        certify_letters(encoding=encoding)


def test_our_data_say_how_they_were_encoded(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one two three four")
    assert data.load("text", path=path).encoding == "fixed"
    assert data.load("synthetic").encoding == "fixed"
    assert data.load("german-nouns").encoding == data.load("cmudict").encoding == 32
    # A text's alphabet is fixed beforehand: what a text holds does not change its codes.
    other = tmp_path / "b.txt"
    other.write_text("zebras want two")
    first, second = (text.word_codes(p.read_text()) for p in (path, other))
    assert first[1] == second[2]


# Units that are set aside: the division itself.


def toy(m: int = 50, name: str = "toy", groups: np.ndarray | None = None) -> SequenceData:
    x = np.random.default_rng(m).integers(0, 4, (m, 5)).astype(np.int32)
    return SequenceData(
        name, x, np.arange(m) % 2, np.full(m, 5), ("a", "b"), tuple("wxyz"), 5, "tokens",
        "word" if groups is None else "document", None, "here", groups,
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 80), st.integers(0, 10**6), st.booleans(), st.data())
def test_units_set_aside_are_whole_and_the_rest_is_the_rest(
    m: int, seed: int, grouped: bool, pick: st.DataObject
) -> None:
    groups = np.random.default_rng(seed).integers(0, 9, m) if grouped else None
    loaded = toy(m, groups=groups)
    if loaded.units < 2:
        return
    count = pick.draw(st.integers(1, loaded.units - 1))
    rest, held = loaded.set_aside(count, seed)
    assert (rest.units, held.units, rest.m + held.m) == (loaded.units - count, count, m)
    again = loaded.set_aside(count, seed)[1]
    assert again.digest == held.digest
    if groups is not None:
        assert rest.groups is not None and held.groups is not None
        assert not set(rest.groups) & set(held.groups)
    rows = np.concatenate([rest.sequences, held.sequences])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, loaded.sequences))


def test_units_set_aside_are_drawn_at_random() -> None:
    loaded = toy(50, groups=np.arange(50))
    times = np.zeros(50)
    for seed in range(400):
        held = loaded.set_aside(10, seed)[1]
        times[held.groups] += 1
    assert times.min() > 40 and times.max() < 130  # 80 on average


def test_what_holdout_may_say() -> None:
    loaded = toy(50)
    said = {None: 0, "10": 10, "0.2": 10, 0.001: 1, "1": 1, "1e1": 10, 0.99: 49}
    for value, count in said.items():
        assert split.held_out_units(loaded, value) == count
    for value in ("0", "-1", "1.5", "nan", "inf", "many", "", 50, "60", "1e300"):
        with pytest.raises(InputError, match=r"hold.?out"):
            split.held_out_units(loaded, value)


def test_units_and_holdout_together() -> None:
    loaded = toy(50)

    def divided(units: int | None, usual: int | None, holdout: int) -> tuple[int, int, int]:
        found = split.for_training(loaded, units=units, usual=usual, holdout=holdout, seed=3)
        spare, held = found.spare, found.held
        return found.sample.units, 0 if spare is None else spare.units, held.units if held else 0

    assert divided(None, None, 10) == (40, 0, 10)
    assert divided(30, None, 10) == (30, 10, 10)
    assert divided(40, 45, 10) == (40, 0, 10)
    assert divided(None, 45, 10) == (40, 0, 10)
    assert divided(None, 25, 10) == (25, 15, 10)
    assert divided(None, 25, 0) == (25, 25, 0)
    with pytest.raises(InputError, match="besides the 10 held out"):
        divided(41, None, 10)


def record(loaded: SequenceData, *, units: int | None = None, holdout: int = 10) -> dict[str, Any]:
    divided = split.for_training(loaded, units=units, usual=None, holdout=holdout, seed=3)
    return split.recorded(divided, 3)


def test_recorded_units_are_found_again() -> None:
    loaded = toy(50)
    found = split.for_certifying(loaded, record(loaded), units=None)
    trained = split.for_training(loaded, units=None, usual=None, holdout=10, seed=3)
    assert found.role == "certificate" and found.held is not None and trained.held is not None
    assert found.sample.digest == trained.sample.digest
    assert found.held.digest == trained.held.digest
    fewer = split.for_certifying(loaded, record(loaded), units=20)
    assert fewer.sample.units == 20 and fewer.held is not None and fewer.held.units == 10
    assert fewer.role == "certificate"
    checking = split.for_certifying(loaded, record(loaded), units=None, asked="checking")
    assert checking.role == "checking"
    with pytest.raises(InputError, match="ask for fewer"):
        split.for_certifying(loaded, record(loaded), units=41)


def test_other_data_than_were_recorded_are_refused() -> None:
    loaded = toy(50)
    good = record(loaded)
    for change in (
        {"holdout": {**good["holdout"], "seed": 4}},
        {"holdout": {**good["holdout"], "units": 11}},
        {"holdout": {**good["holdout"], "digest": "0" * 64}},
        {"digest": "0" * 64},
        {"units": 39},
        {"units": 400},
        {"units": None},
    ):
        with pytest.raises(InputError, match="not what the network was trained on"):
            split.for_certifying(loaded, {**good, **change}, units=None)
    for damaged in ("many", [1], {"units": 3}, {"units": -1, "seed": 0, "digest": ""}, {**good}):
        with pytest.raises(InputError, match=r"damaged|recorded"):
            split.for_certifying(loaded, {**good, "holdout": damaged}, units=None)
    with pytest.raises(InputError, match="not what the network"):
        split.for_certifying(toy(51), good, units=None)


def test_a_record_that_was_added_later_is_refused() -> None:
    """Trained on everything; then somebody writes a holdout into the description."""
    loaded = toy(50)
    honest = record(loaded, holdout=0)
    forged = {**honest, "holdout": record(loaded)["holdout"]}
    for units in (50, 40):
        with pytest.raises(InputError, match="not what the network was trained on"):
            split.for_certifying(loaded, {**forged, "units": units}, units=None)


def test_units_that_were_trained_on_cannot_be_held_out() -> None:
    loaded = toy(50)
    trained = record(loaded, holdout=0)
    with pytest.raises(InputError, match="cannot be held out"):
        split.for_certifying(loaded, trained, units=30, asked="certificate")
    found = split.for_certifying(loaded, trained, units=30)
    assert found.role == "checking" and "trained on" in found.why
    apart = record(loaded, units=30, holdout=0)
    assert split.for_certifying(loaded, apart, units=None).role == "checking"
    declared = split.for_certifying(loaded, apart, units=None, asked="certificate")
    assert declared.role == "certificate" and "declared by the user" in declared.why


def test_data_that_were_looked_at_are_for_checking_only() -> None:
    nouns = toy(50, name="german-nouns")
    found = split.for_certifying(nouns, record(nouns), units=None)
    assert found.role == "checking" and "with these nouns in view" in found.why
    declared = split.for_certifying(nouns, record(nouns), units=None, asked="certificate")
    assert declared.role == "certificate" and "although" in declared.why
    back = split.for_certifying(nouns, record(nouns, units=30, holdout=0), units=None)
    assert back.role == "checking" and "with these nouns in view" in back.why


# Units that are set aside: from training to the certificate.

TRAIN: dict[str, Any] = {
    "options": {"m": 2000},
    "caps": {"U": 0.9, "W": 3.0, "V": 3.0},
    "free": False,
    "units": None,
    "seed": 2,
    "changes": {"d_h": 2, "epochs": 2},
    "progress": False,
}
CERTIFY: dict[str, Any] = {
    "options": {},
    "delta": 0.01,
    "at": "last",
    "caps": None,
    "input_bound": None,
    "max_length": None,
    "tried": None,
    "units": None,
    "bounds": ["margin_ball", "held_out"],
}


@pytest.fixture(scope="module")
def runs() -> Any:
    pytest.importorskip("torch")
    from recert.workflows import networks

    return networks


@pytest.fixture(scope="module")
def trained(runs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roles") / "network"
    run = runs.train_and_save("synthetic", folder, holdout="0.25", **TRAIN)
    assert (run.trained_on, run.set_aside, run.held_back) == (1500, 500, 0)
    assert run.held_error is None
    return folder


def test_training_never_reads_what_is_set_aside(
    runs: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = runs.data.load

    def spoilt(name: str, **options: Any) -> SequenceData:
        loaded = before(name, **options)
        held = replace(loaded, groups=np.arange(2000)).set_aside(500, 2)[1].groups
        labels = loaded.labels.copy()
        labels[held] = (labels[held] + 1) % 3
        return replace(loaded, labels=labels)

    monkeypatch.setattr(runs.data, "load", spoilt)
    runs.train_and_save("synthetic", tmp_path / "other", holdout="0.25", **TRAIN)
    weights = [(f / "network.safetensors").read_bytes() for f in (trained, tmp_path / "other")]
    assert weights[0] == weights[1]
    metas = [
        json.loads((f / "network.json").read_text())["meta"] for f in (trained, tmp_path / "other")
    ]
    assert metas[0]["holdout"]["digest"] != metas[1]["holdout"]["digest"]


def test_certify_finds_what_training_set_aside(runs: Any, trained: Path) -> None:
    from scipy.stats import binom

    found = runs.certify_saved(trained, "synthetic", **CERTIFY)
    assert found.sample["m"] == 1500 and found.sample["holdout"]["m"] == 500
    row = found.assumption("holdout")
    assert row.status == "declared" and "set aside at random before training" in row.evidence
    bound = found["held_out"]
    assert bound.kind == "certificate" and bound.delta == 0.005
    held = data.load("synthetic", m=2000, seed=2).set_aside(500, 2)[1]
    outputs = recert.certify(
        recert.load_network(trained), held.sequences, held.labels, lengths=held.lengths,
        max_length=5,
    )  # fmt: skip
    errors = round(outputs.sample["training_error"] * 500)
    assert binom.cdf(errors, 500, bound.value) == pytest.approx(0.005, rel=1e-6)


def test_a_role_that_is_declared(runs: Any, trained: Path) -> None:
    found = runs.certify_saved(trained, "synthetic", **CERTIFY, holdout_role="checking")
    assert found["held_out"].kind == "estimate"
    assert "declared by the user" in found.assumption("holdout").evidence


def test_other_draws_of_the_data_have_no_recorded_units(runs: Any, trained: Path) -> None:
    """Certified on data that were drawn anew: what was set aside is not among them."""
    other = {**CERTIFY, "options": {"seed": 77}}
    found = runs.certify_saved(trained, "synthetic", **other)
    assert found.sample["m"] == 1500 and found["held_out"].kind == "estimate"
    same = runs.certify_saved(trained, "synthetic", **{**CERTIFY, "options": {"seed": 2}})
    assert same["held_out"].kind == "certificate"


def test_a_description_that_was_tampered_with(runs: Any, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "network.safetensors").write_bytes((trained / "network.safetensors").read_bytes())
    description = json.loads((trained / "network.json").read_text())
    meta = description["meta"]
    for change in (
        {"units": 1499},
        {"digest": "0" * 64},
        {"holdout": {**meta["holdout"], "seed": 5}},
        {"holdout": {**meta["holdout"], "units": 2000}},
        {"holdout": {**meta["holdout"], "units": "all"}},
        {"holdout": [1, 2]},
        {"holdout": {}},
    ):
        text_ = json.dumps({**description, "meta": {**meta, **change}})
        (tmp_path / "network.json").write_text(text_)
        with pytest.raises(InputError) as caught:
            runs.certify_saved(tmp_path, "synthetic", **CERTIFY)
        assert "\n" not in str(caught.value)
