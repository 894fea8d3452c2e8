"""Several networks certified together, and what may not be said of certificates made apart."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recert
from recert.certificates.certificate import Certificate
from recert.certification.certify import JointCertificate, certify_all
from recert.errors import InputError
from recert.numerics.rounding import rounded_up, written_up
from recert.report import tables

CAPS = {"U": 0.9, "W": 4.0, "V": 4.0}
DECLARED = {"max_length": 4, "caps": CAPS}


def sample(m: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, (m, 4))
    return x, np.where(rng.random(m) < 0.9, x[:, -1] > 1, x[:, -1] < 2).astype(int)


def network(strength: float = 2.0) -> recert.Network:
    U = np.array([[0.3, 0.1], [0.0, 0.2]])
    W = np.array([[-2.0, -2.0, 2.0, 2.0], [0.1, 0.2, 0.0, 0.1]])
    return recert.vanilla(U, W, strength * np.array([[-1.0, 0.1], [1.0, 0.0]]))


MODELS = [network(0.3), network(2.0), network(1.0)]


def together(**more: Any) -> JointCertificate:
    options = {**DECLARED, "names": ["weak", "strong", "middle"], **more}
    return certify_all(MODELS, *sample(), **options)


def test_each_network_has_its_share_of_delta() -> None:
    for delta in (0.01, 0.3, 1e-9):
        joint = together(delta=delta, holdout=sample(200, 7))
        spent = [b.delta for c in joint for b in c.bounds if b.kind == "certificate"]
        assert sum(map(Fraction, spent)) <= Fraction(delta) and math.fsum(spent) > 0.999 * delta
        for certificate in joint:
            assert certificate.delta == pytest.approx(delta / 3, rel=1e-12)
            assert Fraction(certificate.delta) * 3 <= Fraction(delta)
        assert joint.delta == delta


def test_each_certificate_is_the_one_of_its_share() -> None:
    held = sample(200, 7)
    joint = together(holdout=held)
    for model, certificate in zip(MODELS, joint, strict=True):
        alone = recert.certify(model, *sample(), **DECLARED, holdout=held, delta=certificate.delta)
        assert alone.bounds == certificate.bounds
        cheaper = recert.certify(model, *sample(), **DECLARED, holdout=held)
        for name in ("margin_ball", "held_out"):
            assert cheaper[name].value < certificate[name].value


def test_the_ledger_and_the_statement_say_so() -> None:
    joint = together()
    for certificate in joint:
        row = certificate.assumption("together")
        assert "one of 3 networks certified together" in row.statement
        assert "the best may be chosen after looking" in row.statement
        assert row.evidence.endswith("weak, strong, middle") and row.status == "proved"
    assert "With probability at least 99.6" in joint["weak"].statement()
    assert "failure probability of 0.01" in joint.statement() and "strong" in joint.statement()
    alone = recert.certify(MODELS[0], *sample(), **DECLARED)
    with pytest.raises(InputError, match="together"):
        alone.assumption("together")
    assert together(names=None).names == ("1", "2", "3")
    one = certify_all(MODELS[:1], *sample(), **DECLARED)
    assert one["1"].bounds == alone.bounds and len(one) == 1


def test_the_best_is_a_certificate_and_the_smallest() -> None:
    joint = together()
    assert joint.best_name == "strong" and joint.best is joint["strong"]
    assert joint.best.risk_bound == min(c.risk_bound for c in joint)
    # Caps that the strongest breaks make its numbers estimates, however small.
    each = [{}, {"caps": {**CAPS, "V": 0.1}}, {}]
    broken = together(each=each, bounds="margin_ball")
    assert broken["strong"].kind == "estimate" and broken.best_name == "middle"
    assert broken["strong"].risk_bound < broken.best.risk_bound
    nothing = together(encoding="learnt")
    assert nothing.best.kind == "estimate"


def test_networks_may_differ_in_what_was_declared() -> None:
    start = recert.vanilla(*(0.9 * MODELS[2].block(name).value for name in "UWV"))
    joint = together(each=[{}, {"caps": None}, {"initial": start}])
    assert [c.assumption("caps").status for c in joint] == ["declared", "proved", "declared"]
    assert [c.assumption("prior").evidence for c in joint][2] == "the initial weights, as declared"


def test_certificates_made_apart_are_no_joint_certificate() -> None:
    apart = tuple(recert.certify(model, *sample(), **DECLARED) for model in MODELS)
    with pytest.raises(InputError, match=r"only at δ = 0\.03"):
        JointCertificate(("a", "b", "c"), apart, 0.01)
    assert JointCertificate(("a", "b", "c"), apart, 0.0301).best_name == "b"
    for names in (("a", "b"), ("a", "a", "c"), ("a", "b/c", "d"), ("a", "", "d"), ("..", "b", "c")):
        with pytest.raises(InputError):
            JointCertificate(names, apart, 0.5)


@pytest.mark.parametrize(
    "cheat",
    [
        {"names": ["a", "a", "b"]},
        {"names": ["a", "b"]},
        {"names": ["a", "../b", "c"]},
        {"each": [{}]},
        {"each": [{}, {"delta": 0.5}, {}]},
        {"each": [{}, {"together": ()}, {}]},
        {"each": [{}, {"holdout_why": "trust me"}, {}]},
        {"together": ()},
        {"luck": 7},
        {"delta": 1.5},
        {"delta": 0.0},
        {"bounds": "free_lunch"},
        {"tried": 0},
    ],
)
def test_no_way_round_the_share(cheat: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        together(**cheat)
    assert "\n" not in str(caught.value)


def test_models_and_samples_that_cannot_be_certified_together() -> None:
    with pytest.raises(InputError, match="at least one"):
        certify_all([], *sample(), **DECLARED)
    x, y = sample()
    batches = [(x[:300], y[:300]), (x[300:], y[300:])]
    with pytest.raises(InputError, match="read only once"):
        certify_all(MODELS, iter(batches), **DECLARED)
    found = certify_all(MODELS, batches, **DECLARED)
    names = [b.name for b in found["1"].bounds if b.kind == "certificate"]
    assert "local_ball" not in names  # it reads the sample once more
    whole = together(bounds=names)
    for name in names:
        assert found["2"][name].value >= whole["strong"][name].value * (1 - 1e-12)


def test_saved_and_read_again(tmp_path: Path) -> None:
    joint = together()
    paths = joint.save(tmp_path)
    assert sorted(p.parent.name for p in paths) == ["middle", "strong", "weak"]
    read = [recert.load_certificate(p) for p in paths]
    assert [c.bounds for c in read] == [c.bounds for c in joint]
    assert JointCertificate(joint.names, tuple(read), 0.01).best_name == "strong"


# Choosing without paying.


def guesses(n: int, seed: int) -> list[recert.Network]:
    """Networks that know nothing of the labels: the error of each is exactly one half."""
    rng = np.random.default_rng(seed)
    return [
        recert.vanilla(*(rng.normal(size=shape) for shape in ((2, 2), (2, 4), (2, 2))))
        for _ in range(n)
    ]


def coin_flips(m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (m, 4)), rng.integers(0, 2, m)


def limits(n: int, seed: int, delta: float) -> tuple[float, float]:
    """The smallest held-out limit of n networks, made apart and together."""
    models = guesses(n, seed)
    held = coin_flips(100, seed + 1)
    options: dict[str, Any] = {
        "max_length": 4, "holdout": held, "bounds": "held_out", "delta": delta,
    }  # fmt: skip
    tiny = coin_flips(20, seed + 2)
    apart = [recert.certify(model, *tiny, **options).risk_bound for model in models]
    joint = certify_all(models, *tiny, **options)
    return min(apart), joint.best.risk_bound


def test_the_best_of_many_runs_is_no_certificate_unless_all_paid() -> None:
    """The smallest of 30 limits made apart is below the true error; made together it is not."""
    apart, joint = limits(30, seed=11, delta=0.1)
    assert apart < 0.5 <= joint


@pytest.mark.slow
def test_coverage_of_the_best_of_many_runs() -> None:
    delta, trials = 0.1, 100
    found = [limits(10, seed=1000 * t, delta=delta) for t in range(trials)]
    apart = sum(a < 0.5 for a, _ in found) / trials
    joint = sum(j < 0.5 for _, j in found) / trials
    assert joint <= delta + 3 * math.sqrt(delta / trials)
    assert apart > 3 * delta  # the broken variant: choosing without paying


# What the tables say.


def made_apart(delta: float, n: int = 3) -> list[tuple[str, Certificate]]:
    return [
        (name, recert.certify(model, *sample(), **DECLARED, delta=delta, bounds="margin_ball"))
        for name, model in zip("abc"[:n], MODELS, strict=False)
    ]


def test_certificates_made_apart_hold_together_at_the_sum() -> None:
    said = str(tables.best_of(made_apart(0.01)))
    assert "a failure probability of 0.03, the sum" in said and "by itself" in said
    assert "Best: b" in said
    assert "3e-14," in str(tables.best_of(made_apart(1e-14)))
    hopeless = str(tables.best_of(made_apart(0.4)))
    assert "nothing can be said of all at once" in hopeless and "1.2" not in hopeless
    assert "failure probability" not in str(tables.best_of(made_apart(0.01, n=1)))
    # What was made together adds up to the δ of all.
    joint = together()
    assert "a failure probability of 0.01, the sum" in str(tables.best_of(joint.pairs()))
    said = str(tables.best_of(joint.pairs(), joint=True))
    assert "Certified together" in said and "probability of 0.01, so the best may be chosen" in said


def rendered(table: Any, width: int = 132) -> str:
    from rich.console import Console

    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    console.file.close()
    return console.export_text()


def test_the_table_of_what_is_paid() -> None:
    found = recert.certify(
        MODELS[1], *sample(), max_length=4, tried=7, encoding=3, holdout=sample(100, 5)
    )
    said = rendered(tables.costs(found))
    for bound in found.bounds:
        titled = (row for row in said.splitlines() if row.startswith(f"│ {bound.title}  "))
        line = next(titled, None) or next(
            (row for row in said.splitlines() if row.startswith(f"│ {bound.title} │")), None
        )
        if bound.kind == "certificate":
            assert line is not None
            assert written_up(bound.delta, 3) in line
            assert rounded_up(math.fsum(c.nats for c in bound.cost), 1) in line
        else:
            assert line is None
    flat = " ".join(said.replace("│", " ").split())
    assert "cap of U W V" in flat and "margin γ = " in flat
    assert "recipes tried on this sample = 7 (2.0)" in flat
    assert "encodings to choose among = 3 (1.1)" in flat
    declared = recert.certify(MODELS[1], *sample(), **DECLARED, margin=0.5, bounds="margin_ball")
    assert "none" in rendered(tables.costs(declared))
    ladder = rendered(tables.ladder(found, "title"))
    assert ladder.count("◀ best") == 1
    for bound in found.bounds:
        assert bound.title[:20] in ladder
    reasons = rendered(tables.ladder(recert.certify(MODELS[1], *sample(), max_length=4), "title"))
    assert "no held-out units were given" in " ".join(reasons.replace("│", " ").split())


def test_the_best_statement_for_a_list_is_told() -> None:
    found = recert.certify(MODELS[1], *sample(), **DECLARED, population=900)
    said = " ".join(rendered(tables.finite_list(found)).split())
    smallest = min(row.value for row in found.finite_list)
    assert f"at most {smallest:.3f}"[:-1] in said and "of 900" in said
    assert rendered(tables.finite_list(together().best)).strip() == ""


# The command line.


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    pytest.importorskip("torch")
    from recert.workflows import networks

    base = tmp_path_factory.mktemp("joint")
    found = []
    for place, cell in (("one/net", "vanilla"), ("two/net", "gru")):
        networks.train_and_save(
            "synthetic", base / place, options={"m": 2000}, caps=None, free=True, units=None,
            seed=1, changes={"d_h": 2, "epochs": 4}, cell=cell, progress=False, holdout="300",
        )  # fmt: skip
        found.append(base / place)
    return found


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    import sys

    from recert import cli

    monkeypatch.setattr(sys, "argv", ["recert", *map(str, arguments)])
    capsys.readouterr()
    try:
        cli.main()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0
    out, err = capsys.readouterr()
    return status, out, err


def test_several_networks_on_the_command_line(
    folders: list[Path], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    bounds = ("--bounds", "margin_ball,held_out")
    status, out, err = run(
        capsys, monkeypatch, "certify", *folders, "--data", "synthetic", *bounds, "--out", tmp_path
    )
    assert status == 0 and not err
    assert "Certified together: all 2 statements hold at once" in out
    assert "Bounds side by side" in out and "one-net" in out and "two-net" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["compare.png", "one-net", "two-net"]
    values = {}
    for name in ("one-net", "two-net"):
        written = json.loads((tmp_path / name / "certificate.json").read_text())
        assert written["delta"] == 0.005
        assert any(row["id"] == "together" for row in written["assumptions"])
        values[name] = next(b["value"] for b in written["bounds"] if b["name"] == written["best"])
    best = min(values, key=lambda name: values[name])
    assert f"Best: {best}" in out and f"Bounds for {best}, the best of 2" in out
    files = [tmp_path / name / "certificate.json" for name in values]
    status, out, _ = run(capsys, monkeypatch, "compare", *files)
    assert status == 0 and "failure probability of 0.01, the sum" in out


def test_require_and_mistakes_with_several(
    folders: list[Path], capsys: Any, monkeypatch: Any
) -> None:
    common = ("--data", "synthetic", "--bounds", "held_out")
    assert run(capsys, monkeypatch, "certify", *folders, *common, "--require", "0.99")[0] == 0
    status, out, err = run(capsys, monkeypatch, "certify", *folders, *common, "--require", "0.001")
    assert status == 1 and "no certificate at most" in err and "no certificate" not in out
    for wrong in (
        ("certify", folders[0], folders[0], *common),
        ("certify", *folders, *common, "--caps", "U=1,W=1,V=1"),
        ("certify", folders[0], folders[1].parent, *common),
        ("certify", *common),
        ("certify", *folders, *common, "--holdout-role", "training"),
        ("certify", *folders, *common, "--encoding", "half"),
    ):
        status, _, err = run(capsys, monkeypatch, *wrong)
        assert status == 2 and err.count("\n") == 1 and err.startswith("recert: "), err


def test_declarations_on_the_command_line(
    folders: list[Path], capsys: Any, monkeypatch: Any
) -> None:
    one = ("certify", folders[0], "--data", "synthetic", "--bounds", "held_out")
    status, out, _ = run(capsys, monkeypatch, *one)
    flat = " ".join(out.replace("│", " ").split())
    assert status == 0 and "With probability at least 99%" in out
    assert "set aside at random before training" in flat and "on 300 held back" in flat
    for option in (("--encoding", "learnt"), ("--holdout-role", "checking")):
        status, out, _ = run(capsys, monkeypatch, *one, *option)
        assert status == 0 and "This is an estimate, not a certificate" in out
    status, out, _ = run(capsys, monkeypatch, *one, "--encoding", "9")
    assert status == 0 and "encodings to choose among = 9 (2.2)" in out
    status, _, err = run(capsys, monkeypatch, *one, "--units", "1701")
    assert status == 2 and "besides the 300 held out" in err
