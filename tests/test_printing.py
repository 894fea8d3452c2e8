"""What is printed and drawn of a bound is never below it, and commands answer whoever reads.

Numbers: every bound goes through `recert.numerics.rounding`. Streams: any encoding, a closed pipe,
a full disk change neither the exit status nor the files of a command. Values at a prompt are one
line.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import io
import math
import os
import re
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recert import cli
from recert.cli.common import Stream, sturdy
from recert.numerics import rounding
from recert.utils import consoles
from recert.utils.validation import Brief

SOURCE = Path(rounding.__file__).resolve().parents[2]
NUMBERS = st.floats(0.0, allow_nan=False, allow_infinity=False)
SHARES = st.one_of(st.floats(0.0, 1.0), st.integers(0, 10**4).map(lambda k: k / 10**4))


def exact(text: str) -> Fraction:
    """The number that a text shows, without rounding."""
    return Fraction(Decimal(text))


# Numbers.


@given(NUMBERS, st.integers(0, 6))
def test_decimals_are_rounded_outwards_and_no_further(value: float, digits: int) -> None:
    up, down = rounding.rounded_up(value, digits), rounding.rounded_down(value, digits)
    assert exact(down) <= Fraction(value) <= exact(up)
    assert exact(up) - exact(down) <= Fraction(1, 10**digits)


@given(SHARES, st.integers(0, 4))
def test_percentages_are_rounded_outwards(value: float, digits: int) -> None:
    """Multiplied by 100 in floats, 0.29 would be 28.999999999999996."""
    up, down = rounding.percent_up(value, digits), rounding.percent_down(value, digits)
    assert up.endswith("%") and down.endswith("%")
    assert exact(down[:-1]) <= 100 * Fraction(value) <= exact(up[:-1])


@given(NUMBERS, st.integers(1, 6))
def test_significant_digits_are_rounded_outwards(value: float, digits: int) -> None:
    up, down = rounding.significant_up(value, digits), rounding.significant_down(value, digits)
    assert exact(down) <= Fraction(value) <= exact(up)
    assert exact(up) - exact(down) <= Fraction(value) / 10 ** (digits - 1)
    assert len(re.sub(r"e.*|[.]", "", up).strip("0")) <= digits


@given(st.floats(1e-300, 0.9999999), st.integers(1, 6))
def test_what_somebody_wrote_is_not_below_it(delta: float, digits: int) -> None:
    assert float(rounding.written_up(delta, digits)) >= delta
    assert exact(rounding.confidence(delta)) <= 100 * (1 - Fraction(repr(delta)))


def test_what_somebody_wrote_is_as_it_is_written() -> None:
    assert [rounding.written_up(d, 3) for d in (0.01, 0.05, 1e-7, 0.9)] == [
        "0.01", "0.05", "1e-07", "0.9"
    ]  # fmt: skip
    assert rounding.confidence(1e-7) == "99.99999" and rounding.confidence(0.05) == "95"


@given(st.floats(1e-12, 1e300))
def test_the_text_of_a_bound_is_not_below_it(value: float) -> None:
    text = rounding.bound_text(value, math.log10(value))
    shown = 10 ** exact(text[3:]) if text.startswith("10^") else exact(text)
    assert float(shown) >= value * (1 - 1e-12) if text.startswith("10^") else shown >= value


@given(st.floats(3.0, 1e12))
def test_the_power_of_ten_of_a_large_bound_is_not_below_it(log10: float) -> None:
    text = rounding.bound_text(math.inf, log10)
    assert text.startswith("10^") and exact(text[3:]) >= Fraction(log10)


@pytest.mark.parametrize("rounded", [rounding.rounded_up, rounding.significant_up])
def test_what_is_no_number_is_said(rounded: Any) -> None:
    assert [rounded(x, 3) for x in (math.inf, -math.inf, math.nan)] == ["∞", "−∞", "NaN"]
    assert rounding.bound_text(math.nan, None) == "—"
    assert exact(rounded(np.float32(0.5), 3)) == exact(rounded(Fraction(1, 2), 3)) == Fraction(1, 2)
    assert rounding.rounded_up(-0.00001, 2) == "0.00"


def test_a_frontier_shows_its_best_point_rounded_up(tmp_path: Path) -> None:
    """The picture said 0.2186 of 0.21864."""
    pytest.importorskip("matplotlib")
    from recert import report

    points = [report.CodePoint(100, 0.2, 0.21864, 0.2), report.CodePoint(200, 0.1, 0.3)]
    drawn = report.frontier(points, "title", tmp_path / "frontier.svg").read_text()
    assert "0.2187 at 100 bytes" in drawn and "0.2186 " not in drawn


def words_of(expression: ast.AST) -> set[str]:
    """Identifiers, attributes and keys in an expression."""
    found: set[str] = set()
    for node in ast.walk(expression):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def formatted(path: Path) -> list[tuple[str, set[str]]]:
    """Expressions that a file writes to nearest, with the words in them."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            assert isinstance(node.format_spec, ast.JoinedStr)
            spec = "".join(
                part.value if isinstance(part, ast.Constant) else "f"
                for part in node.format_spec.values
            )
            if re.search(r"[eEfFgG%]$", spec):
                found.append((ast.unparse(node.value), words_of(node.value)))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "format":
                found.append((ast.unparse(node.args[0]), words_of(node.args[0])))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            assert not isinstance(node.left, ast.Constant | ast.JoinedStr), ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = isinstance(node.func.value, ast.Constant) and node.func.attr == "format"
            if named and re.search(r":[^}]*[efg%]}", str(node.func.value.value)):
                found.append((ast.unparse(node), words_of(node)))
    return found


# Words of what bounds: written to nearest, it could be shown too small (or, from below, too large).
BOUNDS = {
    "beta", "bound", "ball", "best", "certificate", "certified", "classwide", "complexities",
    "complexity_nats", "cost", "delta", "held_out", "limit", "limits", "log10", "margin_ball",
    "nats", "nats a parameter", "nats a unit", "risk_bound", "theta", "threshold", "total_nats",
    "unseen", "value", "values", "delta_of_draws", "kl", "divergence",
}  # fmt: skip
# What has such a name and is none: parameters, measurements, fits, places on an axis.
MEASURED = {
    "gate_claims": {"beta", "theta", "beta + 0.03"},  # what the paper prints at one point
    "curves": {"value"},  # ticks of an axis
    "claims": {"limits[0]", "mean(cost)", "beta"},  # of a quotient of norms; at which ‖U‖
    "growth": {"self.beta"},  # at which ‖U‖
    "arrays": {"limit"},  # what a number type holds
    "fits": {"value[0]", "value[1]"},  # shares of a variance
    "evaluate": {"value"},  # letters of the printed formulas
    "framework": {"value"},  # columns of a study that are no limits
    "study": {"beta"},
    "tables": {"same[0].value"},  # of a choice, such as γ
    "statistics": {"np.mean(values)", "np.std(values, ddof=1)", "value"},
}


def test_no_bound_is_written_to_nearest() -> None:
    wrong, used = [], set()
    for path in sorted(SOURCE.rglob("*.py")):
        if path == Path(rounding.__file__).resolve():
            continue
        for text, words in formatted(path):
            if not words & BOUNDS:
                continue
            if text in MEASURED.get(path.stem, ()):
                used.add((path.stem, text))
            else:
                wrong.append(f"{path.relative_to(SOURCE)}: {text}")
    assert not wrong
    known = {(name, text) for name, texts in MEASURED.items() for text in texts}
    assert used == known


def test_the_check_sees_a_bound_written_to_nearest(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(
        "f'{row[\"value\"]:.4f} {bound.value:.2%} {error:.3f} {n:,}'\nformat(limit, 'g')"
    )
    found = [words & BOUNDS for _, words in formatted(path)]
    assert sorted(map(sorted, found)) == [[], ["bound", "value"], ["limit"], ["value"]]


# Letters.


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("‖U‖ ≤ 1", "||U|| <= 1"),
        ("δ − γ", "delta - gamma"),
        ("x² kl⁻¹ UᵀU", "x^2 kl^-1 U^TU"),
        ("Σ Λ … ∞", "Sigma Lambda ... inf"),
        ("é Ĉ ß", "e C ss"),
        ("日", "\\u65e5"),
        ("\udcff", "\\udcff"),
    ],
)
def test_letters_that_are_lacking_are_named(text: str, shown: str) -> None:
    assert text.encode("ascii", consoles.READABLE).decode() == shown


def test_every_letter_of_the_package_is_readable() -> None:
    sources = [path for path in SOURCE.rglob("*.py") if path.stem != "validation"]  # reads quotes
    letters = {c for path in sources for c in path.read_text(encoding="utf-8")}
    lost = {c for c in letters if "\\" in consoles.readable(c) and c != "\\"}
    assert not lost


def test_columns_are_as_wide_as_what_is_written() -> None:
    """A letter that becomes a word must not shift the lines of a table."""
    from rich.table import Table

    table = Table()
    table.add_column("δ ≤ ½")
    table.add_column("ε")
    table.add_row("γ", "‖U‖")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=consoles.READABLE)
    consoles.PlainConsole(file=stream).print(table)
    stream.flush()
    lines = stream.buffer.getvalue().decode().splitlines()  # type: ignore[attr-defined]
    assert len({len(line) for line in lines}) == 1 and "delta <= 1/2" in lines[1]


# Streams.


def test_a_stream_that_fails_takes_everything() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    stream = Stream(Full())
    assert stream.write("abc") == 3
    stream.flush()
    stream.settle()
    assert stream.lost == "No space left on device"
    broken = Stream(Full())
    broken.error = BrokenPipeError(32, "Broken pipe")
    assert broken.lost == ""


def test_streams_are_as_before_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with sturdy() as (out, _):
        assert sys.stdout is out
        print("≤")
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "≤\n"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vanilla network that fits its data not at all."""
    from recert import readers
    from recert.networks.network import vanilla

    found = vanilla(0.5 * np.eye(2), np.full((2, 4), 0.1), np.array([[1.0, 0.0], [0.0, 1.0]] * 3))
    folder = tmp_path_factory.mktemp("printing") / "network"
    readers.save_network(found, folder)
    return folder


def certify(network: Path, out: Path, *more: str) -> list[str]:
    options = ["--data", "synthetic", "-o", "m=400", "--bounds", "margin_ball", "--out", str(out)]
    return [sys.executable, "-m", "recert.cli", "certify", str(network), *options, *more]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "PYTHONIO"))}
    return kept | more


ENCODINGS = ["ascii:strict", "cp1252", "latin-1", "cp437", "utf-16", "utf-8"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_encoding(
    network: Path, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = ENCODINGS.index(encoding) % 2
    name, _, errors = encoding.partition(":")
    streams = [io.BytesIO(), io.BytesIO()]
    for stream, inner in zip(("stdout", "stderr"), streams, strict=True):
        text_stream = io.TextIOWrapper(inner, encoding=name, errors=errors or "strict")
        monkeypatch.setattr(sys, stream, text_stream)
    words = certify(network, tmp_path, "--require", "0.01" if status else "1.0")
    monkeypatch.setattr(sys, "argv", ["recert", *words[3:]])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    sys.stdout.flush(), sys.stderr.flush()
    text, told = (inner.getvalue().decode(name) for inner in streams)
    assert (stop.value.code or 0) == status and told.count("\n") == status
    assert sorted(p.name for p in tmp_path.iterdir()) == ["certificate.json", "ladder.png"]
    assert "Bounds for" in text and "?" not in text
    assert told.startswith("no certificate at most 0.01: the best is ") == bool(status)


def test_the_c_locale(network: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        certify(network, tmp_path), capture_output=True,
        env=environment(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0"),
    )  # fmt: skip
    assert found.returncode == 0 and b"share of delta" in found.stdout


POSIX = pytest.mark.skipif(os.name != "posix", reason="a shell's redirections")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


@POSIX
@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("where", [">&- 2>&- <&-", "| true", "| head -1"])
def test_whoever_reads(network: Path, tmp_path: Path, where: str, status: int) -> None:
    """The exit status and the files do not depend on it; all that is told is what was asked."""
    require = "0.01" if status else "1.0"
    words = certify(network, tmp_path, "--require", require)
    command = " ".join(f"'{word}'" for word in words)
    shell = f"{command} {where}" if "|" not in where else (
        f"set -o pipefail; ({command}; echo $? > '{tmp_path}/status') {where} > /dev/null"
    )  # fmt: skip
    found = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    ended = found.returncode
    if "|" in where:
        ended = int((tmp_path / "status").read_text())
        (tmp_path / "status").unlink()
    assert ended == status
    assert found.stderr.count("\n") == (status if "|" in where else 0)
    assert found.stderr == "" or found.stderr.startswith("no certificate at most 0.01: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["certificate.json", "ladder.png"]


@FULL
@pytest.mark.parametrize(("require", "status"), [("1.0", 2), ("0.01", 1)])
def test_a_full_disk_for_what_is_printed(
    network: Path, tmp_path: Path, require: str, status: int
) -> None:
    """A "no" stays one; a "yes" that nobody could read is told, the files being written."""
    with open("/dev/full", "w") as full:
        found = subprocess.run(
            certify(network, tmp_path, "--require", require), stdout=full, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
    assert found.returncode == status
    assert found.stderr.count("\n") == 1 and "Traceback" not in found.stderr
    assert found.stderr.startswith("no certificate" if status == 1 else "recert: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["certificate.json", "ladder.png"]


@POSIX
@pytest.mark.parametrize("where", ["2>&-", "> /dev/null", "| true"])
def test_bad_input_is_status_2_whoever_reads(network: Path, tmp_path: Path, where: str) -> None:
    words = certify(network, tmp_path, "--delta", "7")
    command = " ".join(f"'{word}'" for word in words)
    found = subprocess.run(
        ["bash", "-c", f"{command} {where}; exit ${{PIPESTATUS[0]}}"], capture_output=True
    )
    assert found.returncode == 2 and found.stdout == b""


def test_progress_is_on_stderr_and_only_for_terminals(tmp_path: Path, run: Any) -> None:
    pytest.importorskip("torch")
    train = ["train", "synthetic", "--hidden", "2", "--epochs", "2", "-o", "m=400", "--out"]
    command = [sys.executable, "-m", "recert.cli", *train, str(tmp_path / "net")]
    status, out, told = run(*train, tmp_path / "net")
    assert status == 0 and told == "" and out.startswith("trained on 400 units")
    drawn = subprocess.run(
        command, capture_output=True, text=True, env=environment(FORCE_COLOR="1")
    )
    assert "training vanilla" in drawn.stderr and "training vanilla" not in drawn.stdout


# Values at a prompt.


def one_line(value: object) -> None:
    text = repr(value)
    assert "\n" not in text and "array(" not in text and len(text) < 200, text


def test_values_are_one_line(network: Path) -> None:
    import recert
    from recert.certification.certify import prepare
    from recert.certification.declared import Declared
    from recert.compression import compress
    from recert.pac_bayes.posterior import around

    found = recert.load_network(network)
    units = recert.data.load("synthetic", m=300)
    given = {"lengths": units.lengths, "max_length": units.max_length}
    certificate = recert.certify(
        found, units.sequences, units.labels, bounds=["margin_ball", "held_out"], **given
    )
    joint = recert.certify_all(
        [found, found],
        units.sequences,
        units.labels,
        names=["a", "b"],
        bounds=["margin_ball"],
        **given,
    )
    case = prepare(found, units.sequences, units.labels, **given)
    program = compress(found, lambda network: 0.5, m=300, evaluations=10).frontier[0].program
    for value in (
        found, *found.layers, found.head, *found.blocks(), units, certificate, *certificate.bounds,
        joint, case, case.setting, case.setting.table, Declared(holdout=(units.sequences,)),
        around(found, 3, "0" * 64, 0.1), program, *program.blocks.values(),
        *program.blocks["U"].factors, recert.verify(joint["a"]),
    ):  # fmt: skip
        one_line(value)
    assert repr(found) == "Network(RNN 4→2 → 6 classes, 24 weights)"
    shown = re.fullmatch(r"Bound\(margin_ball: (.*), certificate\)", repr(certificate.bounds[0]))
    assert shown is not None and float(shown[1]) >= certificate.bounds[0].value


def test_a_network_says_what_it_is() -> None:
    torch = pytest.importorskip("torch")
    from recert import from_torch

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.LSTM(28, 32, num_layers=2, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.body(x)[0])

    found = from_torch(Classifier(), torch.zeros(3, 5, 28))
    assert repr(found).startswith("Network(LSTM 28→2×32 → LSTM 64→2×32 → 10 classes, ")
    assert repr(found.layers[0]) == "Bidirectional(LSTM 28→2×32)"
    assert repr(found.block("V")) == "Block('V', 10×64, spectral)"
    one_line(found)


def test_whatever_holds_arrays_says_them_by_shape() -> None:
    """No dataclass of the public rooms writes an array at a prompt."""
    rooms = (
        "networks.blocks", "networks.layers", "networks.network", "networks.margins",
        "samples.sample", "sensitivities.sensitivity", "sensitivities.gate_ranges",
        "sensitivities.growth_rates", "certificates.certificate", "certification.prepare",
        "certification.declared",
        "certification.certify", "pac_bayes.posterior", "data.dataset", "compression.program",
        "theorems.setting", "training.loop",
    )  # fmt: skip
    plain = []
    for room in rooms:
        if room.startswith("training"):
            pytest.importorskip("torch")
        module = importlib.import_module(f"recert.{room}")
        for value in vars(module).values():
            if not (isinstance(value, type) and value.__module__ == module.__name__):
                continue
            if not dataclasses.is_dataclass(value) or issubclass(value, Brief):
                continue
            held = [f for f in dataclasses.fields(value) if f.repr]
            big = [f.name for f in held if re.search("[aA]rray|Any|Block", str(f.type))]
            written = value.__repr__ is not object.__repr__ and value.__repr__.__doc__
            if big and not written:  # what a dataclass writes by itself says nothing of it
                plain.append(f"{room}.{value.__name__}: {big}")
    assert not plain
