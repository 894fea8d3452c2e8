"""The command line: what it prints, its exit status, and that it leaves nothing half-written.

Most commands run in this process, through `main`; a few in one of their own.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TRAIN = ["train", "synthetic", "--hidden", "2", "--epochs", "2", "-o", "m=2000"]
CERTIFY = ["--data", "synthetic"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network on disk, trained once for the module in a process of its own."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("trained") / "network"
    command = [*TRAIN, "--caps", "U=0.9,W=3,V=3", "--out", str(folder)]
    found = subprocess.run(
        [sys.executable, "-m", "recert.cli", *command], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert "training error" in found.stdout and "Traceback" not in found.stderr
    return folder


@pytest.fixture(scope="module")
def certificate(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("certified")
    found = subprocess.run(
        [sys.executable, "-m", "recert.cli", "certify", str(trained), *CERTIFY, "--out", str(out)],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert sorted(p.name for p in out.iterdir()) == ["certificate.json", "ladder.png"]
    assert "What it rests on" in found.stdout and "With probability" in found.stdout
    assert "What each bound pays" in found.stdout and "share of δ" in found.stdout
    return out / "certificate.json"


def bad(result: tuple[int, str, str], *words: str) -> None:
    status, _, err = result
    assert status == 2, result
    assert err.startswith("recert: ") and err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err, err


def test_data_list_and_info(run: Run) -> None:
    status, out, err = run("data", "list")
    assert status == 0 and not err
    for name in ("german-nouns", "cmudict", "text", "idx", "synthetic", "recall"):
        assert name in out
        status, told, _ = run("data", "info", name)
        assert status == 0 and name in told and "source" in told
    bad(run("data", "info", "moon"), "moon", "german-nouns")


def test_version_and_help(run: Run) -> None:
    from recert import __version__

    assert run("version")[:2] == (0, f"{__version__}\n")
    status, out, _ = run("--help")
    assert status == 0
    for command in ("demo", "train", "certify", "compare", "data"):
        assert command in out


def test_what_train_wrote(trained: Path) -> None:
    assert sorted(p.name for p in trained.iterdir()) == ["network.json", "network.safetensors"]
    meta = json.loads((trained / "network.json").read_text())["meta"]
    assert meta["caps"] == {"U": 0.9, "W": 3.0, "V": 3.0} and meta["max_length"] == 5


CAPS = {"vanilla": "U=0.9,W=3,V=3", "mgu": "U=0.9,U_r=0.1,W=3,V=3", "conv": "U=0.9,W=1,E=3,V=3"}
ARCHITECTURES = [
    ("mgu", ["--bias", "--caps", f"{CAPS['mgu']},b=1,b_V=0.5"]),
    ("gru", ["--layers", "2", "--caps", CAPS["vanilla"]]),
    ("lstm", ["--caps", CAPS["vanilla"]]),
    ("lstm", ["--bidirectional", "--free", "--bias"]),
    ("conv", ["--hidden", "6", "--channels", "2", "--width", "5", "--caps", CAPS["conv"]]),
    ("vanilla", ["--bidirectional", "--layers", "2", "--caps", CAPS["vanilla"]]),
]


@pytest.mark.parametrize(("cell", "options"), ARCHITECTURES, ids=lambda v: "".join(v))
def test_every_cell_is_trained_and_certified(
    run: Run, tmp_path: Path, cell: str, options: list[str]
) -> None:
    pytest.importorskip("torch")
    folder = tmp_path / "net"
    status, out, err = run(*TRAIN, "--cell", cell, *options, "--out", folder)
    assert status == 0 and "training error" in out and not err
    meta = json.loads((folder / "network.json").read_text())["meta"]
    assert meta["cell"] == cell and meta["max_length"] == 5 and meta["units"] == 2000
    capped = "--caps" in options
    assert (meta["caps"] is not None) == capped
    status, out, err = run("certify", folder, *CERTIFY, "--bounds", "margin_ball", "--out", folder)
    assert status == 0 and not err
    written = json.loads((folder / "certificate.json").read_text())
    kind = next(b["kind"] for b in written["bounds"] if b["name"] == "margin_ball")
    assert kind == "certificate"
    caps = next(row for row in written["assumptions"] if row["id"] == "caps")
    assert caps["status"] == ("declared" if capped else "proved")


def test_every_cell_compared(run: Run, tmp_path: Path) -> None:
    """One command: trained in processes of their own, certified, one table, one picture."""
    pytest.importorskip("torch")
    common = ("--data", "synthetic", "--hidden", "2", "--epochs", "1", "-o", "m=2000")
    status, out, err = run("compare", *common, "--cells", "mgu,conv", "--out", tmp_path)
    assert status == 0, err
    assert "Best: " in out and "2, so all these statements hold together" in out
    for row in ("cell ", "units d_h", "parameters", "training error", "test error", "margin ball"):
        assert row in out
    names = ["certificate.json", "network.json", "network.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "compare.png",
        "conv",
        "gates.png",
        "mgu",
    ]
    for cell in ("conv", "mgu"):
        assert sorted(p.name for p in (tmp_path / cell).iterdir()) == names
        written = json.loads((tmp_path / cell / "certificate.json").read_text())
        ball = next(b for b in written["bounds"] if b["name"] == "margin_ball")
        assert 2.0 in [cost["value"] for cost in ball["cost"]]
    status, out, _ = run("compare", *(tmp_path / cell / names[0] for cell in ("conv", "mgu")))
    assert status == 0 and "failure probability of 0.02, the sum" in out


def test_compare_bad_options(run: Run, certificate: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    bad(run("compare"), "--data")
    bad(run("compare", certificate, "--data", "synthetic"), "--data")
    for options, word in (
        (["--data", "moon"], "moon"),
        (["--data", "synthetic", "--cells", "mgu,mgu"], "repeat"),
        (["--data", "synthetic", "--cells", "mgu,transformer"], "transformer"),
        (["--data", "synthetic", "--hidden", "3"], "channels"),
        (["--data", "synthetic", "-o", "m=many"], "many"),
    ):
        bad(run("compare", *options, "--out", tmp_path), word)
        assert not list(tmp_path.iterdir())


def test_certificate_of_what_was_declared(certificate: Path) -> None:
    data = json.loads(certificate.read_text())
    status = {row["id"]: row["status"] for row in data["assumptions"]}
    assert status["caps"] == "declared" and status["horizon"] == "enforced"
    assert data["sample"]["m"] == 2000
    best = next(b for b in data["bounds"] if b["name"] == data["best"])
    assert best["kind"] == "certificate"


def test_require(run: Run, trained: Path) -> None:
    common = ("certify", trained, *CERTIFY, "--bounds", "margin_ball")
    status, _, err = run(*common, "--require", "1.0")
    assert status == 0 and not err
    status, out, err = run(*common, "--require", "0.0001")
    assert status == 1 and "no certificate" not in out and "Bounds for" in out
    told = re.fullmatch(r"no certificate at most 0.0001: the best is (0\.\d{4})\n", err)
    assert told and told[1] in out, err


def test_require_is_not_met_by_an_estimate(run: Run, trained: Path) -> None:
    """Caps that the network breaks: whatever the number, the answer is no."""
    caps = ("--caps", "U=0.000001,W=0.000001,V=0.000001")
    status, out, err = run(
        "certify", trained, *CERTIFY, "--bounds", "margin_ball", *caps, "--require", "1.0"
    )
    assert status == 1 and "estimate" in out
    assert err.startswith("no certificate at most 1.0: ") and "only an estimate" in err


def test_options_of_certify(run: Run, trained: Path) -> None:
    status, out, _ = run(
        "certify", trained, *CERTIFY, "--units", "1500", "--delta", "0.1", "--bounds",
        "margin_ball,held_out", "--at", "last", "--tried", "3", "--max-length", "5",
    )  # fmt: skip
    assert status == 0 and "1,500 units" in out and "500 held back" in out
    assert "one of 3 fixed beforehand" in " ".join(out.replace("│", " ").split())


def test_compare_needs_neither_torch_nor_models(certificate: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "certificate.json"
    other.parent.mkdir()
    other.write_text(certificate.read_text())
    code = (
        "import sys\nsys.modules['torch'] = None\nsys.modules['safetensors'] = None\n"
        "from recert import cli\nsys.argv[0] = 'recert'\ncli.main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, "compare", str(certificate), str(other)],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "margin ball" in found.stdout and "units m" in found.stdout
    assert "2,000" in found.stdout and not found.stderr


def test_compare_draws(run: Run, certificate: Path, tmp_path: Path) -> None:
    for suffix in ("png", "svg"):
        picture = tmp_path / f"ladder.{suffix}"
        assert run("compare", certificate, "--out", picture)[0] == 0
        assert picture.stat().st_size > 1000
    assert len(list(tmp_path.iterdir())) == 2
    bad(run("compare", certificate, "--out", tmp_path / "ladder.docx"), "docx")
    assert len(list(tmp_path.iterdir())) == 2


def test_compare_bad_files(run: Run, certificate: Path, tmp_path: Path) -> None:
    bad(run("compare", tmp_path / "absent.json"), "absent.json")
    cut = tmp_path / "cut.json"
    cut.write_text(certificate.read_text()[:1000])
    bad(run("compare", certificate, cut), "cut.json")
    cut.write_text("[]")
    bad(run("compare", cut), "cut.json")
    bad(run("compare", tmp_path), str(tmp_path))


@pytest.mark.parametrize("field", ["kind", "log10", "terms", "title"])
def test_compare_damaged_files(run: Run, certificate: Path, tmp_path: Path, field: str) -> None:
    data = json.loads(certificate.read_text())
    data["bounds"][0][field] = ["?"]
    damaged = tmp_path / "damaged.json"
    damaged.write_text(json.dumps(data))
    bad(run("compare", damaged), "damaged.json")


BAD_TRAIN = [
    (["--caps", "U"], "U=0.8"),
    (["--caps", "U=big"], "U=big"),
    (["--caps", "Q=1"], "Q"),
    (["--caps", "U=-1"], "U"),
    (["--caps", "U=nan"], "U"),
    (["--caps", "U=0.5", "--free"], "--free"),
    (["--cell", "transformer"], "transformer", "vanilla"),
    (["--cell", "lstm", "--activation", "relu"], "relu", "lstm"),
    (["--cell", "lstm", "--channels", "2"], "--channels"),
    (["--width", "3"], "--width"),
    (["--cell", "conv", "--hidden", "3"], "channels"),
    (["--cell", "lstm", "--caps", "U_h=1"], "U_h", "U_g"),
    (["--caps", "b=1"], "b", "U, W, V"),
    (["--layers", "0"], "layers"),
    (["--layers", "two"], "layers"),
    (["--activation", "gelu"], "gelu"),
    (["--units", "5000"], "5000", "2000"),
    (["--units", "1800", "--holdout", "300"], "1800", "1700", "300"),
    (["--holdout", "2000"], "2000"),
    (["--holdout", "0"], "holdout"),
    (["--holdout", "-5"], "holdout"),
    (["--holdout", "1.5"], "holdout"),
    (["--holdout", "half"], "holdout"),
    (["-o", "m"], "NAME=VALUE"),
    (["-o", "m=many"], "many"),
    (["-o", "colour=red"], "colour"),
    (["-o", "noise=2"], "noise"),
    (["-o", "m=0"], "0"),
]


@pytest.mark.parametrize("case", BAD_TRAIN, ids=lambda case: " ".join(case[0]))
def test_bad_training(run: Run, case: tuple[list[str], str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    options, *words = case
    bad(run(*TRAIN, *options, "--out", tmp_path / "net"), *words)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


BAD_CERTIFY = [
    (["--delta", "0"], "delta"),
    (["--delta", "1.5"], "delta"),
    (["--at", "first"], "first"),
    (["--at", "9"], "9"),
    (["--at", "0"], "0"),
    (["--caps", "U=1"], "U, W, V"),
    (["--caps", "U=1,W=1,V=one"], "V=one"),
    (["--caps", "U=1,W=1,V=1,Q=1"], "U, W, V"),
    (["--caps", "U=nan,W=1,V=1"], "cap"),
    (["--bounds", "ball"], "ball", "margin_ball"),
    (["--bounds", ""], "margin_ball"),
    (["--input-bound", "3"], "input_bound"),
    (["--max-length", "0"], "max_length"),
    (["--units", "99999"], "99999"),
    (["--units", "1500", "--holdout-role", "certificate"], "trained on", "held out"),
    (["--holdout-role", "test"], "test", "checking"),
    (["--encoding", "learned"], "learned", "learnt"),
    (["--encoding", "0"], "encoding"),
    (["--tried", "0"], "tried"),
    (["-o", "letters=9"], ""),
    (["--data", "moon"], "moon"),
    (["--data", "text"], "path"),
    (["--out", "/dev/null/folder"], "/dev/null/folder"),
]


@pytest.mark.parametrize("case", BAD_CERTIFY, ids=lambda case: " ".join(case[0]))
def test_bad_certification(run: Run, trained: Path, case: tuple[list[str], str]) -> None:
    options, *words = case
    bad(run("certify", trained, *CERTIFY, *options), *words)


def test_networks_that_are_none(run: Run, trained: Path, tmp_path: Path) -> None:
    bad(run("certify", tmp_path / "absent", *CERTIFY), "absent")
    bad(run("certify", tmp_path, *CERTIFY), str(tmp_path))
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("network.json", "network.safetensors"):
        (broken / name).write_bytes((trained / name).read_bytes())
    (broken / "network.json").write_text("{")
    bad(run("certify", broken, *CERTIFY), "network.json")
    (broken / "network.json").unlink()
    bad(run("certify", broken, *CERTIFY), "network.json")
    (broken / "network.json").write_bytes((trained / "network.json").read_bytes())
    (broken / "network.safetensors").write_bytes(
        (trained / "network.safetensors").read_bytes()[:-3]
    )
    bad(run("certify", broken, *CERTIFY), "network.safetensors")


def test_meta_that_is_damaged(run: Run, trained: Path, tmp_path: Path) -> None:
    """A description edited by hand: used where it can be, else one line; never a traceback."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "network.safetensors").write_bytes((trained / "network.safetensors").read_bytes())
    description = json.loads((trained / "network.json").read_text())
    for key, value in {
        "caps": "none",
        "data": [1],
        "tried": "seven",
        "max_length": "long",
        "units": "all",
    }.items():
        changed = {**description, "meta": {**description["meta"], key: value}}
        (copy / "network.json").write_text(json.dumps(changed))
        result = run("certify", copy, *CERTIFY)
        if result[0] != 0:
            bad(result)


def test_places_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    bad(run(*TRAIN, "--out", file), "cannot write")
    bad(run(*TRAIN, "--out", file / "below"), "cannot write")
    bad(run("demo", "--out", file / "below"), "cannot write")
    assert file.read_text() == "kept" and len(list(tmp_path.iterdir())) == 1


def test_usage_errors_have_status_2(run: Run) -> None:
    for arguments in (["certify"], ["train", "synthetic", "--hidden", "x"], ["fly"]):
        status, _, err = run(*arguments)
        assert status == 2 and err and "Traceback" not in err


def seen(process: subprocess.Popen[bytes], word: bytes, seconds: float) -> bytes:
    """What a process tells on stderr until a word appears, or until it ends or time is up."""
    assert process.stderr is not None
    found, deadline = b"", time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr, selectors.EVENT_READ)
        while word not in found and selector.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(process.stderr.fileno(), 4096)
            if not chunk:
                break
            found += chunk
    return found


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a process cannot be sent Ctrl-C alone")
def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "net"
    command = ["train", "synthetic", "--epochs", "100000", "-o", "m=2000", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "recert.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A test run in the background passes on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "FORCE_COLOR": "1"},  # the bar is drawn though nobody looks
    )
    try:
        assert b"training" in seen(process, b"training", 240), process.poll()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=240)
    finally:
        process.kill()
    # Python may end itself by the signal after our message; a shell shows 130 either way.
    assert process.returncode in (130, -signal.SIGINT)
    assert b"interrupted" in err and b"Traceback" not in err
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
