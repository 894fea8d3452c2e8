"""The tracker's numbers are recert's own on the same weights, and nothing but monitoring."""

from __future__ import annotations

import json
import math
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import recert  # noqa: E402
from recert.data.dataset import SequenceData  # noqa: E402
from recert.errors import FileError, InputError, MissingDependencyError  # noqa: E402
from recert.networks.forward import network_predictor  # noqa: E402
from recert.networks.margins import margin_table  # noqa: E402
from recert.numerics.norms import norm_bounds  # noqa: E402
from recert.samples.sample import Reading, Sample  # noqa: E402
from recert.sensitivities.gate_ranges import measured_gates  # noqa: E402
from recert.sensitivities.growth_rates import rates  # noqa: E402
from recert.training import Recipe, RecurrentClassifier, Tracker, constrain, read_csv, train  # noqa: E402
from recert.training.monitoring import CHEAP, PRINTED, QUANTILES  # noqa: E402

D, H, K, T, M = 3, 4, 3, 6, 60


class Reader(nn.Module):
    def __init__(self, kind: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.rnn = kind(D, H, batch_first=True, **options)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(H * (2 if options.get("bidirectional") else 1), K)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.rnn(x)[0]))


MODULES: dict[str, Any] = {
    "vanilla": lambda: Reader(nn.RNN),
    "plain vanilla": lambda: RecurrentClassifier(D, H, K, tokens=False),
    "LSTM": lambda: Reader(nn.LSTM),
    "GRU, two-way": lambda: Reader(nn.GRU, num_layers=2, bidirectional=True),
    "own MGU": lambda: RecurrentClassifier(D, H, K, cell="mgu", tokens=False),
    "own conv": lambda: RecurrentClassifier(4, H, K, cell="conv", tokens=False, bias=True),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = MODULES[name]()
    return module


def sample(d_x: int = D) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((M, T, d_x)).astype(np.float32)
    return x, rng.integers(0, K, M), rng.integers(1, T + 1, M)


def tokens(per_step: bool = False) -> SequenceData:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, T + 1, 80)
    past = np.arange(T)[None, :] >= lengths[:, None]
    x = np.where(past, -1, rng.integers(0, 5, (80, T)))
    y = np.where(past, -1, rng.integers(0, 2, (80, T))) if per_step else rng.integers(0, 2, 80)
    return SequenceData(
        "made up", x, y, lengths, ("a", "b"), tuple("vwxyz"), T, "tokens", "word", None, "here"
    )


@pytest.mark.parametrize("name", MODULES)
def test_numbers_are_those_of_recert_itself(name: str) -> None:
    module = made(name)
    x, y, lengths = sample(4 if name == "own conv" else D)
    tracker = Tracker((x, y, lengths), max_length=T, input_bound=9.0)
    row = tracker.record(module, 3, loss=0.25)
    assert row["kind"] == "monitoring" and row["step"] == 3 and row["loss"] == 0.25
    network = recert.from_torch(module, x[:8], lengths=lengths[:8], padding="cut")
    assert tracker.record(network, 3, loss=0.25) == row
    reading = Reading("real", network.d_x, K, "last", T)
    table = margin_table(Sample(x, y, reading, lengths=lengths), network_predictor(network))
    assert row["error"] == table.error
    for quantile, share in QUANTILES.items():
        expected = np.quantile(table.margins, share)
        assert row[f"margin.{quantile}"] == pytest.approx(expected, abs=1e-12)
    for block in network.blocks():
        if block.norm == "spectral":
            found = norm_bounds(block.value)
            for what in ("spectral", "frobenius", "two_one", "stable_rank"):
                assert row[f"{block.name}.{what}"] == getattr(found, what)
        else:
            what = "euclidean" if block.norm == "euclidean" else "operator"
            assert row[f"{block.name}.{what}"] == block.norm_bound()
    gates = measured_gates(network, Sample(x, y, reading, lengths=lengths))
    paper, repaired = rates(network, gates), rates(network, gates, repaired=True)
    for one, other in zip(paper, repaired, strict=True):
        number = str(one.layer) if len(network.layers) > 1 else ""
        suffix = number + ("_reverse" if one.direction == "backward" else "")
        assert row[f"beta{suffix}"] == one.beta[-1]
        assert row[f"theta{suffix}"] == one.theta[-1]
        assert row[f"theta_repaired{suffix}"] == other.theta[-1]
    cert = recert.certify(
        module, x, y, lengths=lengths, padding="cut", max_length=T, input_bound=9.0, bounds=CHEAP
    )
    for bound in cert.bounds:
        assert row[f"monitoring_log10.{bound.name}"] == bound.log10, bound.name
    best = min(
        (b for b in cert.bounds if b.kind == "certificate" and "gamma" in b.choices),
        key=lambda b: b.value,
    )
    assert row["gamma"] == best.choices["gamma"]
    assert row["ramp_risk"] == pytest.approx(float(table.ramp_risk(row["gamma"])), abs=1e-9)
    assert row["hard_risk"] == pytest.approx(float(table.hard_risk(row["gamma"])), abs=1e-9)


def test_dear_statements_too_and_declared_caps() -> None:
    module = made("vanilla")
    x, y, _ = sample()
    caps = constrain(module, {"U": 0.7, "W": 1.0, "V": 1.0, "b": 1.0, "b_V": 1.0})
    tracker = Tracker((x, y), max_length=T, input_bound=9.0, caps=caps, bounds="all")
    row = tracker.record(module, 0)
    cert = recert.certify(module, x, y, max_length=T, input_bound=9.0, caps=caps)
    for bound in cert.bounds:
        assert row[f"monitoring_log10.{bound.name}"] == bound.log10, bound.name
    assert row["U.spectral"] <= 0.7 * (1 + 1e-6) and row["caps"] == "declared"
    free = Tracker((x, y), bounds=(), caps=caps).record(made("vanilla"), 0)
    assert free["caps"] == "violated"
    assert Tracker((x, y), bounds=()).record(module, 0)["caps"] == "measured"


@pytest.mark.parametrize("per_step", [False, True])
def test_in_our_trainer(per_step: bool, tmp_path: Path) -> None:
    data = tokens(per_step)
    recipe = Recipe(d_h=3, epochs=2, batch=20, caps={"U": 0.8})
    bare = train(data, recipe, seed=1)
    first, second = (Tracker(data, every=3) for _ in range(2))
    one, two = (train(data, recipe, seed=1, tracker=t) for t in (first, second))
    for name, value in bare.weights.items():
        assert np.array_equal(value, one.weights[name])
    assert first.rows == second.rows and np.array_equal(one.weights["U"], two.weights["U"])
    assert [row["step"] for row in first.rows] == [0, 3, 6]
    assert "loss" not in first.rows[0] and first.rows[1]["loss"] > 0
    assert all(row["U.spectral"] <= 0.8 * (1 + 1e-6) for row in first.rows)
    assert all(row["kind"] == "monitoring" for row in first.rows)
    last = first.record(one.model, 8)
    at = "average" if per_step else "last"
    cert = recert.certify(one.model, data.sequences, data.labels, max_length=T, at=at, bounds=CHEAP)
    for bound in cert.bounds:
        assert last[f"monitoring_log10.{bound.name}"] == bound.log10
    written = first.to_csv(tmp_path / "rows.csv")
    expected = [{name: row.get(name) for name in first.columns} for row in first.rows]
    assert read_csv(written) == expected
    assert list(tmp_path.iterdir()) == [written]


def test_in_a_foreign_loop(tmp_path: Path) -> None:
    """It changes neither the module, nor its mode, nor what torch draws."""

    def run(tracker: Tracker | None) -> dict[str, torch.Tensor]:
        module = made("LSTM")
        constrain(module, {"U": 0.6})
        optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
        for step in range(5):
            if tracker is not None:
                tracker(module, step)
            optimiser.zero_grad()
            y = module(torch.from_numpy(x))[:, -1]
            nn.functional.cross_entropy(y, torch.from_numpy(labels)).backward()
            optimiser.step()
            assert module.training
        return dict(module.state_dict())

    x, labels, _ = sample()
    with Tracker((torch.from_numpy(x), labels), every=2, most=20, bounds=()) as tracker:
        watched, bare = run(tracker), run(None)
    assert all(torch.equal(watched[name], bare[name]) for name in bare)
    assert [row["step"] for row in tracker.rows] == [0, 2, 4]
    assert not any("log10" in name for name in tracker.columns)
    assert len(tracker.watched.labels) == 20
    values = tracker.column("U_g.spectral")
    assert values.shape == (3,) and (values <= 0.6 * (1 + 1e-6)).all()
    picture = tracker.plot(tmp_path / "run.svg")
    assert "step of training" in picture.read_text() or picture.stat().st_size > 5000


def test_rows_are_plain_and_never_certificates() -> None:
    tracker = Tracker(tokens())
    row = tracker.record(RecurrentClassifier(5, 3, 2), 0)
    assert all(value is None or isinstance(value, (int, float, str)) for value in row.values())
    assert {row["kind"]} == {"monitoring"}
    statements = [name for name in row if any(known in name for known in (*CHEAP, *PRINTED))]
    assert statements and all(name.startswith("monitoring_log10.") for name in statements)
    row["kind"] = "certificate"
    tracker.rows[0]["error"] = 0.0
    assert tracker.rows[0]["kind"] == "monitoring" and tracker.rows[0]["error"] > 0
    for thing in (tracker, tracker.watched):
        held = [v for v in vars(thing).values() if isinstance(v, recert.Certificate)]
        assert not held
    public = [name for name in dir(tracker) if not name.startswith("_")]
    assert not any("certif" in name for name in public)


def test_the_files(tmp_path: Path) -> None:
    x, y, _ = sample()
    tracker = Tracker((x, y), max_length=T, input_bound=9.0)
    module = made("vanilla")
    tracker.record(module, 0, note="start, with a comma", scale=math.inf)
    with torch.no_grad():
        module.rnn.weight_hh_l0.mul_(30.0)
    tracker.record(module, 1, late=1e-300)
    rows = read_csv(tracker.to_csv(tmp_path / "deep" / "rows.csv"))
    assert rows == [{name: row.get(name) for name in tracker.columns} for row in tracker.rows]
    assert rows[0]["scale"] == math.inf and rows[1]["late"] == 1e-300 and rows[1]["note"] is None
    saved = json.loads(tracker.save_json(tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert saved["kind"] == "monitoring" and saved["rows"][0]["scale"] == "inf"
    assert saved["rows"][1]["U.spectral"] == tracker.rows[1]["U.spectral"]
    assert math.isnan(tracker.column("late")[0])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileError, match="other table"):
        read_csv(tmp_path / "other.csv")
    with pytest.raises(FileError, match="cannot read"):
        read_csv(tmp_path / "absent.csv")


def test_tensorboard_and_pandas_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []
    closed: list[bool] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            self.folder = folder

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            closed.append(True)

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    with Tracker(tokens(), tensorboard=tmp_path, bounds="margin_ball") as tracker:
        row = tracker.record(RecurrentClassifier(5, 3, 2), 4, loss=0.5, note="text")
    live, written = list(written), []
    numbers = {n: v for n, v in row.items() if isinstance(v, (int, float)) and n != "step"}
    assert live == [(f"monitoring/{name}", value, 4) for name, value in numbers.items()]
    tracker.to_tensorboard(tmp_path)
    assert written == live and closed == [True, True]
    frames = types.ModuleType("pandas")
    frames.DataFrame = lambda rows, columns: (rows, columns)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", frames)
    assert tracker.to_frame() == (tracker.rows, tracker.columns)


def test_without_them_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="needs tensorboard, which is not installed"):
        Tracker(tokens(), tensorboard=tmp_path)
    with pytest.raises(MissingDependencyError, match="needs pandas, which is not installed"):
        Tracker(tokens()).to_frame()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"every": 0}, "every is 0"),
    ({"delta": 1.0}, "delta is 1.0"),
    ({"bounds": "margin"}, r"unknown bounds \['margin'\]; use 'cheap', 'all', or of theorem_2"),
    ({"most": 0}, "most is 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda v: str(v)[:20])
def test_bad_arguments(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tracker(tokens(), **options)


def test_bad_rows_leave_the_table_as_it_was() -> None:
    x, y, _ = sample()
    for data in (3, (x,), (x, y[:-1])):
        with pytest.raises(InputError, match=r"data must be|labels for"):
            Tracker(data)  # type: ignore[arg-type]
    tracker = Tracker((x, y))
    module = made("vanilla")
    with pytest.raises(InputError, match="no rows"):
        tracker.plot("nowhere.png")
    for extra, message in (
        ({"error": 1.0}, "error are columns already"),
        ({"loss": [1.0]}, "loss is a list"),
    ):
        with pytest.raises(InputError, match=message):
            tracker.record(module, 0, **extra)
    with pytest.raises(InputError, match="step is -1"):
        tracker.record(module, -1)
    with torch.no_grad():
        module.rnn.weight_hh_l0[0, 0] = float("nan")
    with pytest.raises(InputError, match="block U holds NaN"):
        tracker.record(module, 0)
    with pytest.raises(InputError, match="no column 'error'"):
        tracker.column("error")
    assert tracker.rows == []


def test_the_examples_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).resolve().parent.parent / "docs" / "training.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 5
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    known: dict[str, Any] = {}
    for example in examples:
        exec(example, known)
    assert {path.name for path in tmp_path.iterdir()} == {"run.csv", "run.json", "run.png"}
    assert [row["step"] for row in known["tracker"].rows] == [0, 10, 20]
