"""`recert reproduce`: runs that resume, slopes against closed forms, Figure 4 on a tiny text."""

from __future__ import annotations

import bz2
import gzip
import json
import math
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from recert import printed
from recert.data import packages, text, wikipedia
from recert.data import text as vocabulary
from recert.errors import FileError, InputError, MissingDependencyError
from recert.utils import files
from recert_studies import framework as running
from recert_studies import menu
from recert_studies.claims import Claim
from recert_studies.figure4 import claims as figure4_claims
from recert_studies.figure4 import study as figure4
from recert_studies.framework import Cell, Conclusion, Option, Request, Study
from recert_studies.statistics import fit, ranged, spread, verdict
from recert_studies.table1 import claims, classes
from recert_studies.table1 import study as table1

pytestmark = pytest.mark.studies

Run = Callable[..., tuple[int, str, str]]
QUIET = Console(quiet=True)


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def toy(log: list[int], stop_at: int | None = None) -> Study:
    """A study that squares its seeds, notes which were worked on, and may break off."""

    def cells(request: Request) -> list[Cell]:
        def work(seed: int) -> dict[str, Any]:
            if seed == stop_at:
                raise KeyboardInterrupt
            log.append(seed)
            return {"value": seed**2 + request.options["shift"]}

        return [
            Cell(f"seed {s}", {"seed": s, **request.options}, lambda _, s=s: work(s))
            for s in request.seeds
        ]

    def conclude(request: Request, found: Any) -> Conclusion:
        rows = [{"seed": s, **r} for s, r in zip(request.seeds, found, strict=True)]
        return Conclusion(rows, lambda path: files.write_text(path, "picture"))

    return Study("toy", "squares", {"shift": Option(0, "added", least=0)}, cells, conclude)


# The framework.


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    log: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        study = toy(log, stop_at=2)
        running.run(study, study.request(tmp_path), console=QUIET)
    assert log == [0, 1] and not (tmp_path / "results.json").exists()
    running.run(toy(log), toy(log).request(tmp_path), console=QUIET)
    assert log == [0, 1, 2]
    running.run(toy(log), toy(log).request(tmp_path), console=QUIET)
    assert log == [0, 1, 2]
    assert [row["value"] for row in results(tmp_path)["rows"]] == [0, 1, 4]
    assert (tmp_path / "results.csv").read_text() == "seed,value\n0,0\n1,1\n2,4\n"
    assert {p.name for p in tmp_path.iterdir()} == {
        "cells", "command.txt", "results.csv", "results.json", "toy.png", "toy.svg",
    }  # fmt: skip


def test_other_parameters_are_not_reused(tmp_path: Path) -> None:
    log: list[int] = []
    running.run(toy(log), toy(log).request(tmp_path), console=QUIET)
    running.run(toy(log), toy(log).request(tmp_path, given={"shift": 5}), console=QUIET)
    assert log == [0, 1, 2, 0, 1, 2]
    assert [row["value"] for row in results(tmp_path)["rows"]] == [5, 6, 9]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"seed": 1', '"seed": 7'),
        lambda text: "[]",
        lambda text: json.dumps({"parameters": json.loads(text)["parameters"], "result": 3}),
    ],
    ids=["half", "empty", "of another cell", "a list", "no result"],
)
def test_a_damaged_cell_is_done_again(tmp_path: Path, damage: Callable[[str], str]) -> None:
    log: list[int] = []
    study = toy(log)
    request = study.request(tmp_path)
    running.run(study, request, console=QUIET)
    path = tmp_path / "cells" / f"{study.cells(request)[1].digest}.json"
    whole = path.read_text()
    path.write_text(damage(whole))
    running.run(study, request, console=QUIET)
    assert log == [0, 1, 2, 1] and path.read_text() == whole


KILLED = """
import sys, time
from pathlib import Path
from rich.console import Console
from recert_studies.framework import run
from recert_studies.framework import Cell, Conclusion, Study

def work(seed):
    time.sleep(0 if seed == 0 or "fast" in sys.argv else 60)
    return {"by": sys.argv[2], "seed": seed}

study = Study("toy", "toy", {},
    lambda r: [Cell("c", {"seed": s}, lambda _, s=s: work(s)) for s in r.seeds],
    lambda r, found: Conclusion(found, lambda path: path.write_text("") and path or path))
run(study, study.request(Path(sys.argv[1])), console=Console(quiet=True))
"""


@pytest.mark.skipif(os.name != "posix", reason="elsewhere no signal kills at once")
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen([*command, "first"]) as process:
        until = time.monotonic() + 30
        while not list((tmp_path / "cells").glob("[0-9a-f]*.json")):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    subprocess.run([*command, "second", "fast"], check=True)
    assert [row["by"] for row in results(tmp_path)["rows"]] == ["first", "second", "second"]


def test_requests_are_checked(tmp_path: Path) -> None:
    study = toy([])
    for wrong in ((), (1, 1), (-1,)):
        with pytest.raises(InputError, match="seed"):
            study.request(tmp_path, seeds=wrong)
    for wrong_options in ({"moon": 1}, {"shift": "x"}, {"shift": -1}, {"shift": True}):
        with pytest.raises(InputError):
            study.request(tmp_path, given=wrong_options)
    request = study.request(tmp_path / "a b", quick=True, seeds=[3, 1], given={"shift": 2})
    words = shlex.split(request.command)
    assert words[:5] == ["recert", "reproduce", "toy", "--out", str(tmp_path / "a b")]
    assert words[5:] == ["--quick", "--seeds", "3,1", "-o", "shift=2"]
    with pytest.raises(InputError, match="verdict"):
        Claim("", "", "perhaps", "")


def test_seeds_of_quick_runs(tmp_path: Path) -> None:
    study = replace(toy([]), quick_seeds=(0, 1))
    assert study.request(tmp_path, quick=True).seeds == (0, 1)
    assert study.request(tmp_path).seeds == toy([]).request(tmp_path, quick=True).seeds == (0, 1, 2)
    assert study.request(tmp_path, quick=True, seeds=[5]).seeds == (5,)


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"study": "moon"}')
    with pytest.raises(InputError, match="moon"):
        running.run(toy([]), toy([]).request(tmp_path), console=QUIET)


def test_names_on_the_menu() -> None:
    names = [study.name for study in menu.STUDIES]
    assert len(set(names)) == len(names) and {"figure4", "table1"} <= set(names)
    assert menu.study("table1") is table1.TABLE1


# Slopes.


def test_exact_powers_and_rates_are_found() -> None:
    x = spread(3, 10**5, 12)
    assert x[0] == 3 and x[-1] == 10**5
    found = fit(x, [2.0 + 1.5 * math.log(t) for t in x])
    assert found.power == pytest.approx(1.5, abs=1e-9) and found.residual < 1e-9
    both = fit(x, [math.log(t) + 0.25 * t for t in x], exponential=True)
    assert both.power == pytest.approx(1.0, abs=1e-4) and both.rate == pytest.approx(0.25, rel=1e-9)
    for wrong in (([1, 1], [0, 0]), ([0, 1], [0, 0]), ([1, 2], [0, math.inf]), ([1, 2], [1])):
        with pytest.raises(InputError):
            fit(*wrong)


def closed_form(bound: str, n: int, t: int, beta: float, case: str) -> Any:
    """The printed complexity of a class of Table 1 in 60 digits, B_x = B_V = B_W = γ = 1."""
    mp = mpmath.mp
    d, b = mpmath.sqrt(3) * n, mpmath.mpf(beta)
    S = mpmath.mpf(t) if beta == 1 else (b**t - 1) / (b - 1)
    F, M = (mpmath.sqrt(n), n) if case == "extreme" else (1, mpmath.sqrt(n))
    m, total, root = classes.M, M * (b + 2), F * mpmath.sqrt(b**2 + 2)
    state = min(mpmath.sqrt(d), S)
    assert mp.dps >= 50
    value = {
        "Theorem 1": lambda: d * state * mpmath.sqrt(mpmath.log(t * mpmath.sqrt(d) * S)),
        "Theorem 2": lambda: d * state * mpmath.sqrt(mpmath.log(t * mpmath.sqrt(d * m) * S)),
        "Bound (3)": lambda: (
            total * t * S * mpmath.sqrt(mpmath.log(d)) * mpmath.log(m * mpmath.sqrt(d))
        ),
        "Bound (4)": lambda: (state * b + 1) * S * mpmath.sqrt(d * mpmath.log(d)) * root,
        "Zhang et al.": lambda: d * t**2 * max(1, b**t),
    }[bound]()
    return mpmath.log(value / mpmath.sqrt(m))


@pytest.mark.parametrize("case", classes.CASES)
@pytest.mark.parametrize("bound", classes.PRINTED)
def test_printed_slopes_are_those_of_the_closed_forms(bound: str, case: str) -> None:
    with mpmath.workdps(60):
        for regime, beta in classes.REGIMES.items():
            where = table1.fitted_range(bound, regime)
            ts, ns = spread(*where.t, 5), spread(*where.n, 5)
            for n, t in ((128, 1), (128, 56), (ns[-1], ts[1])):
                ours = classes.printed_logs(n, t, beta, 1.0, case)[bound]
                assert ours == pytest.approx(float(closed_form(bound, n, t, beta, case)), rel=1e-9)
            order = table1.order(bound, regime, case)
            exact = [float(closed_form(bound, where.n_fixed, t, beta, case)) for t in ts]
            grown = fit(ts, exact, exponential=order.rate > 0)
            assert grown.power == pytest.approx(order.t, abs=table1.TOLERANCE)
            assert grown.rate == pytest.approx(order.rate * math.log(beta), abs=1e-4)
            exact = [float(closed_form(bound, n, where.t_fixed, beta, case)) for n in ns]
            assert fit(ns, exact).power == pytest.approx(order.d, abs=table1.TOLERANCE)


@pytest.mark.parametrize("case", classes.CASES)
def test_classes_have_the_norms_that_their_letters_say(case: str) -> None:
    network = classes.class_network(32, 1.5, 0.5, case)
    letters = classes.class_letters(32, 1.5, 0.5, case)
    for name in ("U", "V", "W"):
        A = network.block(name).value
        assert np.linalg.norm(A, 2) == pytest.approx(letters[f"B_{name}"])
        assert np.linalg.norm(A) == pytest.approx(letters[f"{name}_F"])
        assert np.linalg.norm(A, axis=0).sum() == pytest.approx(letters[f"M_{name}"])


def test_certified_complexities_follow_theory() -> None:
    """A class's margin ball has Σ_k P_k ln(1 + c_k/ε_k) nats: √t at β > 1, flat below 1."""
    for beta, low, high in ((0.5, -0.01, 0.01), (1.5, 0.4, 0.55)):
        ts = [1000, 4000]
        found = classes.certified_logs(classes.class_network(8, beta, 1.0, "extreme"), ts)
        assert set(found) == set(classes.CERTIFIED)
        for values in found.values():
            assert low < fit(ts, values).power < high


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """`recert reproduce table1 --quick` in a process of its own, and its seconds."""
    out = tmp_path_factory.mktemp("table1")
    began = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-m", "recert.cli", "reproduce", "table1", "--quick", "--out", str(out)],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert not found.stderr and "What the paper claims" in found.stdout
    return out, time.monotonic() - began


def test_table_1_quickly(quick: tuple[Path, float]) -> None:
    out, seconds = quick
    assert seconds < 120
    for name in ("results.csv", "command.txt", "table1.png", "table1.svg"):
        assert (out / name).stat().st_size > 0
    found = results(out)
    rows = found["rows"]
    assert len(rows) == 6 * (len(classes.PRINTED) + len(classes.CERTIFIED))
    assert {row["verdict"] for row in rows if row["kind"] == "printed"} == {"as in the table"}
    ball = [row for row in rows if row["bound"] == classes.CERTIFIED["margin_ball"]]
    assert all(row["verdict"] != "above" for row in ball)
    assert all(row["d_power"] == pytest.approx(1.0, abs=0.1) for row in ball)
    verdicts = {claim["quote"]: claim["verdict"] for claim in found["claims"]}
    assert verdicts["… by a factor of t for case (II)"] == "held"
    assert "not held" in verdicts.values() and "held in part" in verdicts.values()


def test_claims_name_a_place_and_a_figure() -> None:
    found = claims.claims(3)
    assert len(found) > 20
    for claim in found:
        assert claim.place and claim.figure and any(c.isdigit() for c in claim.figure)


# Figure 4.

TINY = ["-o", "hidden=6", "-o", "horizon=5", "-o", "classes=3", "-o", "epochs=2"]


def test_figure_4_twice_and_from_its_command(run: Run, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    a, b = tmp_path / "a", tmp_path / "b"
    command = ["reproduce", "figure4", "--seeds", "0,4", "--data-path", corpus, *TINY]
    status, out, err = run(*command, "--out", a)
    assert status == 0 and not err, err
    assert "13.68" in out and "B_U = 2.6801" in out
    first = results(a)
    for cell in first["cells"]:
        assert cell["result"]["bounds"]["margin_ball"]["kind"] == "certificate"
    paper, seed = first["rows"][:2]
    assert paper["‖U‖_F/‖U‖"] == pytest.approx(5.105, abs=1e-3)
    assert paper["‖U‖_F²/‖U‖²"] == pytest.approx(26.06, abs=1e-2)
    assert paper["M_U/‖U‖_F"] == pytest.approx(11.295, abs=1e-3)
    assert 1 <= seed["‖U‖_F²/‖U‖²"] <= 6
    said = [float(x) for x in re.findall(r" (\d+\.\d{4}) \(", " ".join(first["notes"]))]
    values = [
        [bound["value"] for bound in cell["result"]["bounds"].values()] for cell in first["cells"]
    ]
    assert len(said) == 2
    for shown, every in zip(said, values, strict=True):
        assert 0 <= shown - min(every) < 1e-4  # never rounded down
    words = shlex.split((a / "command.txt").read_text())
    assert words[:3] == ["recert", "reproduce", "figure4"]
    words[words.index(str(a))] = str(b)
    assert run(*words[1:])[0] == 0
    second = results(b)
    assert second["cells"] == first["cells"] and second["rows"] == first["rows"]
    assert (a / "results.csv").read_text() == (b / "results.csv").read_text()


def test_section_6_as_in_the_paper() -> None:
    """The four complexities against the displays of Section 6, evaluated in 50 digits."""
    letters = {
        "d_h": 128, "B_U": 2.6801, "B_V": 3.0, "B_W": 2.0, "M_U": 154.5439, "M_V": 60.0,
        "M_W": 20.0, "U_F": 13.6823, "V_F": 6.0, "W_F": 5.0,
    }  # fmt: skip
    with mpmath.workdps(50):
        u, t = mpmath.mpf(2.6801), 56
        S = (u**t - 1) / (u - 1)
        state = mpmath.sqrt(128)
        frobenius = mpmath.sqrt(128 * (mpmath.mpf(13.6823) ** 2 + 61))
        exact = {
            "Ours": 128 * 3 * state * mpmath.sqrt(mpmath.log(S)),
            "Bound 1": 128 * mpmath.mpf(t) ** 2 * 6 * u**t,
            "Bound 2": 6 * (mpmath.mpf(154.5439) + 80) * t * S,
            "Bound 3": (state * u + 2) * S * frobenius,
        }
        found = figure4.section6(letters, t)
        assert set(found) == set(exact)
        for name, value in exact.items():
            assert found[name] == pytest.approx(float(mpmath.log10(value)), rel=1e-10)
    assert found["Ours"] < found["Bound 3"] < found["Bound 2"] < found["Bound 1"]


@pytest.mark.parametrize(("code", "kind"), [("learnt", "estimate"), ("hash", "certificate")])
def test_how_the_code_came_about_decides(
    run: Run, corpus: Path, tmp_path: Path, code: str, kind: str
) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "out"
    command = ["reproduce", "figure4", "--seeds", "0", "--data-path", corpus, *TINY]
    assert run(*command, "-o", f"code={code}", "--out", out)[0] == 0
    bounds = results(out)["cells"][0]["result"]["bounds"]
    assert bounds["margin_ball"]["kind"] == bounds["theorem_2"]["kind"] == kind


@pytest.fixture
def strips(tmp_path: Path) -> list[object]:
    """Options that name 40 images of random pixels, gzipped, and their labels."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    images, labels = tmp_path / "images.gz", tmp_path / "labels"
    header = b"\0\0\x08\x03" + struct.pack(">3I", *pixels.shape)
    images.write_bytes(gzip.compress(header + pixels.tobytes()))
    answers = (np.arange(40) % 10).astype(np.uint8)
    labels.write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 40) + answers.tobytes())
    return ["--images", images, "--labels", labels]


SMALL = ["--seeds", "0", "-o", "hidden=6", "-o", "epochs=2"]


def test_figure_4_on_strips_of_images(run: Run, strips: list[object], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "out"
    command = ["reproduce", "figure4", *strips, *SMALL, "--out", out]
    status, printed, err = run(*command, "-o", "local=yes")
    assert status == 0 and not err
    found = results(out)
    cell = found["cells"][0]["result"]
    assert cell["letters"]["d_x"] == 14 and cell["letters"]["d_y"] == 10 and cell["units"] == 34
    assert cell["bounds"]["local_ball"]["kind"] == "certificate"
    assert "34 images of idx files" in found["notes"][0] and cell["steps"] == 56
    assert not {"horizon", "classes", "code"} & set(found["cells"][0]["parameters"])
    # U is still about 0.7 times an orthogonal matrix, so that claim isn't asked.
    assert cell["letters"]["B_U"] < 1 and "polynomial" not in printed
    again = [*command, "-o", "horizon=28"]
    status, _, err = run(*again)
    assert status == 2 and "horizon" in err and "text" in err


def test_why_there_is_no_local_ball_of_a_text(run: Run, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "out"
    command = ["reproduce", "figure4", "--data-path", corpus, *SMALL, "--out", out]
    assert run(*command, "-o", "local=yes")[0] == 0
    found = results(out)
    assert found["notes"][-1].startswith("The local margin ball does not apply: it reads one")
    assert "local_ball" not in found["cells"][0]["result"]["bounds"]


def test_much_smaller_is_a_factor_of_ten() -> None:
    """And what is said of B_U > 1 is asked of such seeds only."""

    def result(norm: float, gap: float) -> dict[str, Any]:
        letters = {"d_h": 4.0, **dict.fromkeys(("B_U", "U_F"), norm)}
        letters |= dict.fromkeys(("M_U", "M_V", "M_W", "V_F", "W_F"), 1.0)
        printed = {f"Bound {k}": gap for k in (1, 2, 3)} | {"Ours": 0.0}
        later = {f"Bound {k}": 9.0 + gap for k in (1, 2, 3)} | {"Ours": 0.1}
        return {"letters": letters, "printed": printed, "printed at twice t": later}

    def verdicts(*found: dict[str, Any]) -> dict[str, str]:
        return {claim.quote: claim.verdict for claim in figure4_claims.claims(found)}

    much = "our complexity bound is much smaller than Bound 1"
    growth = "for B_U > 1 only ours is polynomial, Bounds 1 to 3 are exponential in t"
    for gaps, wanted in (
        ((1.5, 2.0), "held"),
        ((1.5, 0.5), "held in part"),
        ((0.5, 0.5), "held in part"),
        ((-0.5, -1.0), "not held"),
    ):
        assert verdicts(*(result(2.0, gap) for gap in gaps))[much] == wanted
    assert growth not in verdicts(result(0.9, 2.0))
    assert verdicts(result(0.9, 2.0), result(2.0, 2.0))[growth] == "held"


def test_bars_of_two_seeds_end_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from recert_studies import charts

    kept: list[Any] = []
    monkeypatch.setattr(charts, "save", lambda figure, path: kept.append(figure) or path)
    groups = [("log10", [("one", "red", [1.0, 2.0]), ("other", "blue", [-0.001, -0.003])])]
    charts.bars(groups, tmp_path / "bars.png", title="bars")
    axis = kept[0].axes[0]
    assert [bar.get_height() for bar in axis.patches] == [1.5, -0.002]
    assert [note.get_text() for note in axis.texts] == ["1.50", "0.00"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["moon"], ["moon", "figure4"]),
        (["table1", "--seeds", "a"], ["seeds"]),
        (["table1", "-o", "n=0"], ["n", "8"]),
        (["table1", "-o", "moon=1"], ["moon"]),
        (["figure4", "--images", "x"], ["labels"]),
        (["figure4", "--data-path", "absent.txt"], ["absent.txt"]),
        (["figure4", "-o", "code=moon"], ["code", "hash"]),
        (["figure4", "--data-path", __file__, "-o", "split=article"], ["documents"]),
    ],
    ids=lambda v: " ".join(v[:3]) if isinstance(v, list) else "",
)
def test_bad_input_is_one_line(
    run: Run, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    status, _, err = run("reproduce", *arguments, "--out", tmp_path / "out")
    assert status == 2 and err.startswith("recert: ") and err.count("\n") == 1, err
    assert all(word in err for word in words), err


def test_list(run: Run) -> None:
    status, out, _ = run("reproduce", "list")
    assert status == 0 and "figure4" in out and "-o horizon=" in out


# Data.


def test_vocabulary_codes() -> None:
    codes = vocabulary.codes_of(["b a b", "c b a"])
    assert codes == {"b": 1, "a": 2, "c": 3}
    made = vocabulary.word_sequences(
        ["b a moon b"], vocabulary.coder(codes), encoding="fixed", source="s", max_length=2,
        classes=2,
    )  # fmt: skip
    assert made.sequences.shape == (2, 2, text.WORD_BITS) and made.groups is not None
    assert (made.sequences[0, 0, :3] == [1, 0, 0]).all() and made.sequences[1, 0].sum() == 0
    assert made.labels.tolist() == [[0, 0], [1, -1]]
    with pytest.raises(InputError):
        vocabulary.word_sequences(["a"], vocabulary.coder(codes), encoding="fixed", source="s")


DUMP = """<page><title>Lobster &amp; co</title><text xml:space="preserve">{{box|a={{b}}}}
The '''lobster''' (''Homarus'') is a [[crustacean|crustacean]] of the [[sea]], {{convert|60|cm}}
long&lt;ref&gt;a book&lt;/ref&gt; at most, which many people have looked at for a long time indeed.
== Heading ==
* a list of things that is not prose, however long it may be, and it is quite long by now, isn't it
Short.</text></page><page><title>R</title><text>#REDIRECT [[Lobster]]</text></page>"""


def test_a_dump_becomes_plain_text(tmp_path: Path) -> None:
    found = wikipedia.plain(DUMP.replace("\nlong", " long").replace("cm}}\n", "cm}} "))
    assert found.startswith("= Lobster & co =\n\n")
    for markup in ("{{", "[[", "''", "<", "&lt;", "a book", "==", "REDIRECT"):
        assert markup not in found
    with pytest.raises(FileError, match="article"):
        wikipedia.plain("nothing")


def test_the_excerpt_is_guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / wikipedia.EXCERPT
    monkeypatch.setattr(packages, "file_of", lambda *_: path)
    with pytest.raises(FileError):
        wikipedia.excerpt()
    path.write_bytes(bz2.compress(b"0" * 10_000))
    monkeypatch.setattr(wikipedia, "LARGEST", 1000)
    with pytest.raises(FileError, match="expands"):
        wikipedia.excerpt()
    path.write_bytes(b"not bzip2")
    with pytest.raises(FileError, match="cannot read"):
        wikipedia.excerpt()


def test_without_any_text_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wikipedia, "find_spec", lambda _: None)
    monkeypatch.setattr(packages, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="--data-path"):
        wikipedia.find()
    with pytest.raises(MissingDependencyError, match="datasets"):
        wikipedia.find("datasets")
    monkeypatch.setattr(wikipedia, "find_spec", lambda _: True)
    monkeypatch.setattr(wikipedia, "_downloaded", lambda: 1 / 0)
    with pytest.raises(MissingDependencyError, match=r"no text .*could not load") as caught:
        wikipedia.find()
    assert "pip install datasets" not in str(caught.value)
    with pytest.raises(FileError, match="division"):
        wikipedia.find("datasets")
    monkeypatch.setattr(wikipedia, "_downloaded", lambda: "= A =\n")
    assert wikipedia.find()[0] == "= A =\n"


def test_which_text_it_is_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wikipedia, "excerpt", lambda: "= B =\n")
    monkeypatch.setattr(wikipedia, "_downloaded", lambda: 1 / 0)
    inside = "an excerpt of the English Wikipedia inside gensim"
    for there, name in ((None, inside), (1, f"{inside}, as datasets could not load WikiText-2")):
        monkeypatch.setattr(wikipedia, "find_spec", lambda _, there=there: there)
        assert wikipedia.find() == ("= B =\n", name)
    assert wikipedia.find("gensim") == ("= B =\n", inside)


def test_rows_of_a_text_are_lines() -> None:
    """Blank lines, which part paragraphs, are rows without a line's end."""
    found = wikipedia.lines(["", " = A = \n", "", " One . \n", " Two . \n", "", " Three . \n"])
    assert text.split_documents(found, "paragraph") == ["= A =", "One . Two .", "Three ."]


def test_bounds_in_notes_are_rounded_up() -> None:
    assert figure4._shown(0.96710001) == "0.9672" and figure4._shown(0.5) == "0.5000"
    assert figure4._shown(None) == figure4._shown(1e300) == "above 1e+300"


def test_verdicts_and_ranges() -> None:
    assert [verdict(held) for held in ([], [False], [True, False], [True])] == [
        "not held", "not held", "held in part", "held",
    ]  # fmt: skip
    assert ranged([0.1, None, 0.3]) == "0.100 to 0.300"
    assert ranged([1.0001, 1.0002], ".2f") == "1.00"
    assert ranged([None], none="all alike") == "all alike"
    assert ranged([1.0, 123456.0], ".1f") == "1.0 to 1.2e+05"


@settings(max_examples=200, deadline=None)
@given(st.floats(-40, 6), st.floats(-6, 6), st.floats(0, 9), st.floats(0, 9), st.floats(0, 1))
def test_ours_is_below_the_others_at_the_papers_norms(
    log_W: float, log_V: float, more_W: float, more_V: float, rank: float
) -> None:
    """What `claims` say of the paper's own network, at whatever V and W it may have had."""
    d, t, B_U = 128, 56, figure4_claims.PAPER["‖U‖"]
    B_W, B_V = 10.0**log_W, 10.0**log_V
    printed_at = {"t": t, "B_U": B_U, "B_V": B_V, "B_W": B_W}
    columns = {"M_U": figure4_claims.PAPER["M_U"], "M_V": B_V * more_V, "M_W": B_W * more_W}
    frobenius = {
        "U_F": figure4_claims.PAPER["‖U‖_F"], "V_F": B_V * d ** (rank / 2),
        "W_F": B_W * d ** (rank / 2),
    }  # fmt: skip
    ours = printed.section6_ours(d_h=d, **printed_at).log10
    one = printed.section6_bound_1(d_h=d, **printed_at).log10
    two = printed.section6_bound_2(**printed_at, **columns).log10
    three = printed.section6_bound_3(d_h=d, t=t, B_U=B_U, B_W=B_W, **frobenius).log10
    assert ours is not None and one is not None and two is not None and three is not None
    least_three, least_one, least_two, from_one, from_two = said_of_the_paper()
    assert one - ours >= math.log10(least_one)
    assert two - ours >= math.log10(least_two)
    assert three - ours >= least_three
    if log_W >= from_one:
        assert one - ours > 20
    if log_W >= from_two:
        assert two - ours > 20


def said_of_the_paper() -> list[float]:
    """Decades above ours of Bound 3; factors of Bounds 1 and 2; log10 ‖W‖ from which 10^20."""
    said = figure4_claims._paper_itself().figure
    found = re.search(
        r"by 10\^([\d.]+) at .* factors of ([\d.]+) and ([\d.]+) at .*"
        r"below 10\^(-[\d.]+) and 10\^(-\d+\.\d+)",
        said,
    )
    assert found is not None, said
    return [float(number) for number in found.groups()]


def test_what_is_said_of_the_papers_network_could_not_be_more() -> None:
    """Each number is attained to one decimal, at a small W and at the W that it names."""
    d, t, B_U = 128, 56, figure4_claims.PAPER["‖U‖"]
    columns = {"M_U": figure4_claims.PAPER["M_U"], "M_V": 0.0, "M_W": 0.0}

    def decades(log_W: float) -> tuple[float, float, float]:
        a = {"t": t, "B_U": B_U, "B_W": 10.0**log_W}
        ours = printed.section6_ours(d_h=d, B_V=1e30, **a).log10
        one = printed.section6_bound_1(d_h=d, B_V=1e30, **a).log10
        two = printed.section6_bound_2(B_V=1e30, **a, **columns).log10
        three = printed.section6_bound_3(
            d_h=d, U_F=figure4_claims.PAPER["‖U‖_F"], V_F=1e30, W_F=10.0**log_W, **a
        ).log10
        assert ours is not None and one is not None and two is not None and three is not None
        return one - ours, two - ours, three - ours

    least_three, least_one, least_two, from_one, from_two = said_of_the_paper()
    one, two, three = decades(-40.0)
    assert 10**one < least_one + 0.11 and 10**two < least_two + 0.11 and three < least_three + 0.11
    assert decades(from_one - 0.11)[0] < 20 < decades(from_one)[0]
    assert decades(from_two - 0.11)[1] < 20 < decades(from_two)[1]


def test_theorem_1_against_zhang_at_small_t() -> None:
    """By how much it is larger at t = 1, and from where on it is smaller, from the formulas."""
    said = claims._always_tighter()
    n = 128
    for beta in (0.5, 1.0, 1.5):
        (larger,) = said.finding(f"decades over Zhang et al. at t = 1, β = {beta:g}:").values
        (first,) = said.finding(f"below it from t, β = {beta:g}:").values
        decades = []
        for t in range(1, 57):
            values = classes.printed_logs(n, t, beta, 1.0, "extreme")
            decades.append((values["Theorem 1"] - values["Zhang et al."]) / math.log(10.0))
        assert decades[0] > 0 and decades[0] == pytest.approx(larger)
        assert all(x >= 0 for x in decades[: int(first) - 1]) and all(
            x < 0 for x in decades[int(first) - 1 :]
        )


def test_a_study_that_trains_nothing_has_no_device(run: Run, tmp_path: Path) -> None:
    status, _, err = run("reproduce", "table1", "--device", "tpu", "--out", tmp_path / "out")
    assert status == 2 and "table1 trains no network" in err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
