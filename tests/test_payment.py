"""What is declared is paid for: more of it never makes a certificate smaller (theory 6).

The lattice of declarations is walked through the public face. A certificate that becomes an
estimate counts as infinite: nothing is certified then.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import recert
from recert.certificates.certificate import Bound, Certificate
from recert.compression import CodedBlock, Grid, program_of, save_program
from recert.data import SequenceData
from recert.errors import InputError
from recert.numerics.union_bound import Cost, FiniteChoice
from recert.pac_bayes import assign_roles, part_digest
from recert.pac_bayes.posterior import around
from recert.samples.sample import Reading
from recert.theorems import THEOREMS
from recert.theorems.setting import (
    ENCODINGS,
    RECIPES,
    dearest,
    most_tried,
    owed,
    paying,
    shared_costs,
)

TRIED, ENCODED = (1, 2, 500), ("fixed", 1, 2, 32, "learnt")
NAMES = tuple(theorem.name for theorem in THEOREMS)
QUICK = tuple(name for name in NAMES if name != "local_ball")
# One unit decides between two letters; with so few weights every statement is below 1.
W, V = np.array([[2, -2]]), np.array([[1], [-1]])
NETWORK = recert.vanilla(np.zeros((1, 1)), W.astype(float), V.astype(float))


def draw(m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One letter a sequence; the class is the letter, or the other one on 5%."""
    rng = np.random.default_rng(seed)
    letters = rng.integers(0, 2, size=(m, 1))
    return letters, letters[:, 0] ^ (rng.random(m) < 0.05)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "n.rcz"
    values = {"U": np.zeros((1, 1), dtype=int), "W": W, "V": V}
    blocks = {name: CodedBlock((Grid(value, 1, 0),)) for name, value in values.items()}
    save_program(program_of(NETWORK, blocks), path)
    return path


# The pieces.


def test_prices_grow_with_their_own_number_and_know_of_no_other() -> None:
    for tried, encoding in itertools.product(TRIED, ENCODED):
        rows = {cost.what: cost.nats for cost in shared_costs(tried, encoding)}
        assert rows.get(RECIPES, 0.0) == pytest.approx(math.log(tried))
        n = encoding if isinstance(encoding, int) else 1
        assert rows.get(ENCODINGS, 0.0) == pytest.approx(math.log(n))
        assert all(math.exp(nats) >= n for nats in (rows.get(ENCODINGS, 0.0),))


def test_what_is_known_is_never_lowered() -> None:
    ranks = {"fixed": 1.0, "learnt": math.inf}
    for pair in itertools.product((*ENCODED, None), repeat=2):
        found = dearest(*pair)
        rank = [ranks.get(str(e), e) for e in (found, *(e for e in pair if e is not None))]
        assert rank[0] == max(rank, key=float)
    assert [most_tried(12, n) for n in (None, 1, 12, 13)] == [12, 12, 12, 13]
    assert most_tried(None, None) == 1 and dearest(None) == "fixed"
    for wrong in (0, "seven", 2.5, True):
        with pytest.raises(InputError):
            most_tried(12, wrong)
        with pytest.raises(InputError):
            dearest(32, wrong)


@dataclass(frozen=True)
class Careless:
    """A statement that does not think of choices."""

    name: str
    free: tuple[str, ...] = ()

    def bound(self, setting: object, delta: float) -> Bound:
        return Bound(self.name, "", "certificate", math.log10(-math.log(delta)), "", delta=delta)


def test_what_a_statement_forgets_is_collected() -> None:
    costs = (*shared_costs(40, 32), Cost("something new", 0, 1.0, 1.5))
    for free, nats in (((), math.log(40 * 32)), ((RECIPES,), math.log(32))):
        nats += 1.5
        careless = Careless("new", free)
        found = paying(careless, None, 0.01, costs)
        assert found.value == pytest.approx(-math.log(0.01) + nats) and found.delta == 0.01
        assert list(found.cost) == list(owed(careless, costs)) and len(found.cost) == 3 - len(free)
        assert found.value > -math.log(0.01) + nats
    gratis = paying(Careless("new"), None, 0.01, ())
    assert gratis.value == pytest.approx(-math.log(0.01)) and gratis.cost == ()


# The lattice.

Point = tuple[Any, ...]


def certified(found: Certificate) -> dict[str, float]:
    """Every certified number by name, list statements among them; what is none is infinite."""
    values = {
        bound.name: bound.value if bound.kind == "certificate" else math.inf
        for bound in found.bounds
        if bound.kind in ("certificate", "estimate")
    }
    lists = {f"list {row.bound}": row.unseen for row in found.finite_list}
    return {**{f"list {name}": math.inf for name in NAMES}, **values, **lists}


def rising(
    axes: Mapping[str, tuple[Any, ...]], at: Callable[..., dict[str, float]]
) -> Counter[str]:
    """Walk a lattice: along no axis may any value fall. How often each strictly rose."""
    found = {
        point: at(**dict(zip(axes, point, strict=True)))
        for point in itertools.product(*axes.values())
    }
    rose: Counter[str] = Counter()
    for point, values in found.items():
        for i, axis in enumerate(axes.values()):
            place = axis.index(point[i])
            if place + 1 < len(axis):
                more = found[(*point[:i], axis[place + 1], *point[i + 1 :])]
                fell = [name for name in values if more.get(name, math.inf) < values[name]]
                assert not fell, (point, axis[place + 1], fell)
                rose.update(name for name in values if more.get(name, math.inf) > values[name])
    return rose


SHARED_SAMPLE: dict[str, dict[str, Any]] = {
    "sequences": {},
    "a list": {"population": 60_000},
    "a list and new draws": {"population": 60_000, "draws": "as draws"},
    "groups": {"groups": np.arange(3000) // 2},
}


def sampled(kind: str) -> dict[str, Any]:
    held = draw(400, 2)
    if kind == "groups":
        return {**SHARED_SAMPLE[kind], "holdout": (*held, None, np.arange(400) // 2)}
    return {**SHARED_SAMPLE[kind], "holdout": held}


@pytest.mark.parametrize("kind", SHARED_SAMPLE)
def test_more_that_is_declared_never_costs_less(kind: str, program: Path) -> None:
    x, y = draw(3000, 1)
    more = sampled(kind)

    def at(together: int, role: str, tried: int, encoding: Any) -> dict[str, float]:
        joint = recert.certify_all(
            [program] * together, x, y, max_length=1, tried=tried, encoding=encoding,
            holdout_role=role, bounds=QUICK, **more,
        )  # fmt: skip
        return certified(joint["1"])

    axes = {
        "together": (1, 2), "role": ("certificate", "checking"), "tried": (1, 500),
        "encoding": ("fixed", 2, 32, "learnt"),
    }  # fmt: skip
    rose = rising(axes, at)
    reached = {name for name in QUICK if kind != "groups" or name != "held_out"}
    assert {name for name in reached if not rose[name]} <= {"held_out"} | (
        set() if kind != "a list" else {n for n in QUICK if n.startswith("theorem_")}
    )


def test_the_local_ball_pays_as_well(program: Path) -> None:
    x, y = draw(2000, 1)

    def at(tried: int, encoding: Any) -> dict[str, float]:
        return certified(
            recert.certify(
                program, x, y, max_length=1, tried=tried, encoding=encoding, bounds="local_ball"
            )
        )

    assert rising({"tried": (1, 30), "encoding": ("fixed", 32, "learnt")}, at)["local_ball"] == 6


def test_more_statements_leave_less_for_each(program: Path) -> None:
    x, y = draw(3000, 1)
    every = {
        (count, tried): certified(
            recert.certify(
                program,
                x,
                y,
                max_length=1,
                tried=tried,
                encoding=32,
                holdout=draw(400, 2),
                population=60_000,
                draws="as draws",
                bounds=QUICK[-count:],
            )
        )
        for count in range(1, len(QUICK) + 1)
        for tried in (1, 9)
    }
    for (count, tried), values in every.items():
        more = every.get((count + 1, tried), {})
        on_menu = {name: value for name, value in values.items() if value < math.inf}
        assert all(more.get(name, math.inf) >= value for name, value in on_menu.items())
        assert more.get("held_out", 1.0) > values["held_out"]


def posterior_sample() -> tuple[Any, np.ndarray, np.ndarray, dict[str, Any]]:
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 2, size=(900, 12)), rng.integers(0, 2, 900)
    held = rng.integers(0, 2, size=(300, 12)), rng.integers(0, 2, 300)
    seen = assign_roles(x, y, Reading("onehot", 2, 2, "last", 12), m_0=200, digest=None).seen
    posterior = around(NETWORK, 200, part_digest(seen), 0.05, temperature=0.3)
    return posterior, x, y, {"max_length": 12, "holdout": held, "repetitions": 2}


@pytest.mark.parametrize("listed", [{}, {"population": 5000}])
def test_posteriors_pay_as_well(listed: dict[str, Any]) -> None:
    posterior, x, y, more = posterior_sample()

    def at(tried: int, encoding: Any) -> dict[str, float]:
        return certified(
            recert.certify_posterior(
                posterior, x, y, tried=tried, encoding=encoding, **more, **listed
            )
        )

    rose = rising({"tried": TRIED, "encoding": ENCODED}, at)
    for name in ("pac_bayes_kl", "pac_bayes_temperature"):
        assert rose[name] and (not listed or rose[f"list {name}"])
    assert rose["held_out"] or listed
    # A role that certifies more takes δ from the others.
    role = [
        certified(recert.certify_posterior(posterior, x, y, holdout_role=r, **more, **listed))
        for r in ("checking", "certificate")
    ]
    assert role[1]["pac_bayes_kl"] > role[0]["pac_bayes_kl"]


# Networks on disk: what training recorded and what the data say is never undercut.


def runs_on(monkeypatch: pytest.MonkeyPatch, loaded: SequenceData) -> Any:
    pytest.importorskip("torch")
    from recert.workflows import networks as training_runs

    monkeypatch.setattr(training_runs.data, "load", lambda name, **options: loaded)
    return training_runs


def test_records_and_data_are_never_undercut(
    monkeypatch: pytest.MonkeyPatch, program: Path, tmp_path: Path
) -> None:
    coded = replace(recert.data.load("synthetic", m=3000, letters=2, max_length=1), encoding=32)
    runs = runs_on(monkeypatch, coded)
    from recert import readers

    held = runs.split.for_training(coded, units=None, usual=None, holdout=400, seed=0)
    meta = {"data": {"name": "synthetic", "options": {}}, "tried": 12, "max_length": 1}
    meta |= runs.split.recorded(held, 0)
    readers.save_network(NETWORK, tmp_path, meta=meta)
    options = {"bounds": ("margin_ball", "held_out"), "holdout_role": "certificate"}

    def found(tried: Any, encoding: Any) -> Certificate:
        return runs.certify_saved(tmp_path, "synthetic", tried=tried, encoding=encoding, **options)

    def at(tried: Any, encoding: Any) -> dict[str, float]:
        return certified(found(tried, encoding))

    axes = {"tried": (None, 1, 2, 12, 500), "encoding": (None, "fixed", 1, 32, 40, "learnt")}
    assert rising(axes, at)["margin_ball"]
    for tried, encoding in itertools.product((None, 1, 2), (None, "fixed", 2)):
        again = found(tried, encoding)
        assert again.sample["declared"]["tried"] == 12
        assert again.sample["declared"]["encoding"] == 32
        assert [cost.value for cost in again["held_out"].cost] == [32.0]
        assert {12.0, 32.0} <= {cost.value for cost in again["margin_ball"].cost}


def test_the_length_of_nouns_is_paid_whatever_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    nouns = recert.data.load("german-nouns").take(slice(0, 6000))
    training_runs = runs_on(monkeypatch, nouns)
    training_runs.train_and_save(
        "german-nouns", tmp_path, options={}, caps=None, free=False, units=400, seed=0,
        changes={"epochs": 1}, progress=False, holdout=3000,
    )  # fmt: skip
    values = []
    for tried, encoding in ((None, None), (1, None), (2, None), (2, "fixed"), (10**6, 1)):
        found = training_runs.certify_saved(
            tmp_path, "german-nouns", tried=tried, encoding=encoding,
            bounds=("margin_ball", "held_out"), holdout_role="certificate",
        )  # fmt: skip
        assert found.assumption("encoding").evidence.startswith("one of 32")
        assert found["held_out"].kind == "certificate"
        assert [cost.what for cost in found["held_out"].cost] == [ENCODINGS]
        values.append(found["held_out"].value)
        errors = round(found["held_out"].terms["error"] * 3000)
        # δ is shared by two statements.
        level = binom.cdf(errors, 3000, found["held_out"].value)
        assert level == pytest.approx(0.01 / 2 / 32, rel=1e-6)
    assert len(set(values)) == 1
    status, _, told = run(
        "certify", tmp_path, "--data", "german-nouns", "--bounds", "held_out", "--tried", "1",
        "--encoding", "fixed",
    )  # fmt: skip
    assert status == 0 and "--encoding fixed is less than" in told and "; 32 is paid for" in told
    assert "--tried 1 is less than" in told
    # Who verifies with the data is told where a certificate does not pay for them.
    folder = tmp_path / "c"
    for declared, answer, row in (
        ({"tried": 25_600, "encoding": 32}, 0, ""),
        ({"tried": 25_601, "encoding": "learnt"}, 0, ""),
        ({"tried": 25_600, "encoding": "fixed"}, 1, "sample.declared.encoding: recorded fixed"),
        ({"tried": 9, "encoding": 32}, 1, "sample.declared.tried: recorded 9"),
    ):
        rest, held = training_runs.units_of(tmp_path, "german-nouns")
        apart = (held.sequences, held.labels, held.lengths)
        recert.certify(
            tmp_path, rest.sequences, rest.labels, lengths=rest.lengths, max_length=12,
            bounds="held_out", holdout=apart, **declared,
        ).save(folder / "certificate.json")  # fmt: skip
        status, out, _ = run(
            "verify", folder / "certificate.json", "--model", tmp_path, "--data", "german-nouns"
        )
        assert status == answer and row in out, out


def test_packaged_data_say_what_was_chosen_with_them_in_view() -> None:
    from recert.data import cmudict, german_nouns

    pytest.importorskip("torch")
    from recert.training.recipes import GERMAN_NOUNS
    from recert.workflows import posteriors, split
    from recert.workflows.networks import recipes_tried

    for module in (german_nouns, cmudict):
        assert module.LENGTHS == 32 and 1 <= module.MAX_LENGTH <= module.LENGTHS
        with pytest.raises(InputError, match="keep 1 to 32"):
            module.load(max_length=33)
    for cell in GERMAN_NOUNS:
        assert recipes_tried("german-nouns", cell) >= 32 and recipes_tried("cmudict", cell) == 1
    assert set(posteriors.TRIED) == set(posteriors.LOOKED_AT) > set(split.LOOKED_AT)


# It is needed: a simulation, and a variant without payment that it catches.


def tokens_of(code: np.ndarray, letters: np.ndarray) -> np.ndarray:
    return code[letters][:, None]


def test_an_encoding_chosen_with_all_units_in_view_must_be_paid_for() -> None:
    """Labels are coins, so no network errs on less than half; the luckiest of 64 codes is taken."""
    rng = np.random.default_rng(7)
    runs, m, n, codes, delta = 60, 60, 80, 64, 0.2
    table = rng.integers(0, 2, size=(codes, 50))
    failed: Counter[str] = Counter()
    for _ in range(runs):
        letters, labels = rng.integers(0, 50, n), rng.integers(0, 2, n)
        best = table[int(np.argmin((table[:, letters] != labels).sum(axis=1)))]
        x, y = rng.integers(0, 50, m), rng.integers(0, 2, m)
        for name, encoding in (("unpaid", "fixed"), ("paid", codes)):
            found = recert.certify(
                NETWORK,
                tokens_of(best, x),
                y,
                max_length=1,
                delta=delta,
                encoding=encoding,
                holdout=(tokens_of(best, letters), labels),
                bounds="held_out",
            )["held_out"]
            failed[name] += found.value < 0.5
    most = int(binom.ppf(1 - 1e-4, runs, delta))
    assert failed["paid"] <= most < failed["unpaid"]


# A network that is a file.


def test_other_statements_on_a_file_pay_for_its_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nouns = recert.data.load("german-nouns").take(slice(0, 1500))
    runs = runs_on(monkeypatch, nouns)
    from recert.workflows import compress

    found = compress.compress_and_save(
        "german-nouns", tmp_path, prices=(3.0,), units=1000, processes=1,
        changes={"epochs": 2, "d_h": 2, "batch": 500},
    )  # fmt: skip
    bounds = ("margin_ball", "occam", "held_out")
    certificate = runs.certify_saved(found.path, "german-nouns", bounds=bounds)
    paid = {bound.name: {c.what: c.value for c in bound.cost} for bound in certificate.bounds[:3]}
    assert paid["occam"] == paid["held_out"] == {ENCODINGS: 32.0}
    assert paid["margin_ball"][RECIPES] == runs.recipes_tried("german-nouns", "vanilla") > 32
    assert recert.verify(certificate)


def test_a_list_statement_needs_what_its_bound_needs(program: Path) -> None:
    from recert.certificates.schema import seal

    x, y = draw(3000, 1)
    common: dict[str, Any] = {
        "max_length": 1, "holdout": draw(400, 2), "population": 60_000, "bounds": "held_out",
    }  # fmt: skip
    fixed = recert.certify(program, x, y, **common).to_json()
    assert [row["bound"] for row in fixed["finite_list"]] == ["held_out"] and recert.verify(fixed)
    learnt = recert.certify(program, x, y, encoding="learnt", **common).to_json()
    assert learnt["finite_list"] == [] and recert.verify(learnt)
    forged = {**learnt, "finite_list": fixed["finite_list"]}
    result = recert.verify({**forged, "seal": seal(forged)})
    wrong = {check.row for check in result.checks if not check.ok}
    printed = {row for row in wrong if row.startswith("printed_")}  # which are not checked
    assert wrong - printed == {"finite_list.held_out"} and not result


@pytest.mark.parametrize("n", [2, 3, 32, 1000, 25_600, 10**9])
@pytest.mark.parametrize("share", [0.01, 0.01 / 9, 1e-5, 0.3])
def test_what_is_paid_late_is_paid_whole_and_hardly_more(n: int, share: float) -> None:
    """One of n costs a statement that did not think of it a factor n of its δ, in exact numbers."""
    asked: list[float] = []

    class Forgetful:
        name = "forgetful"

        def bound(self, setting: object, delta: float) -> Bound:
            asked.append(delta)
            return Bound("forgetful", "", "certificate", -1.0, "", delta=delta)

    costs = (Cost("items", None, float(n), FiniteChoice(n).cost()),)
    found = paying(Forgetful(), None, share, costs)
    assert found.delta == share and found.cost == costs and len(asked) == 2
    owed = Fraction(share) / n
    assert (1 - Fraction(1, 10**11)) * owed < Fraction(asked[1]) < owed * (1 - Fraction(1, 10**14))
