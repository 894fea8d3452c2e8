"""Optional libraries as they are, where they are installed: datasets, TensorBoard and pandas."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recert.data import text

CARD = """---
configs:
- config_name: wikitext-2-raw-v1
  data_files:
  - split: train
    path: train.parquet
---
"""
# As the hub has it: a row a line, blank lines without a line's end.
ROWS = [
    "",
    " = Lobster = \n",
    "",
    " The lobster is blue . \n",
    " It is long . \n",
    "",
    " By sea . \n",
]
FIND = """
import json
from recert.data import wikipedia
print(json.dumps(wikipedia.find()))
"""


def offline(folder: Path, *words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, for the library reads its settings when it is imported."""
    settings = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_wikitext_from_a_folder_and_from_the_cache(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    home, here, other = tmp_path / "home", tmp_path / "here", tmp_path / "other"
    folder = here / "Salesforce" / "wikitext"
    folder.mkdir(parents=True)
    other.mkdir()
    (folder / "README.md").write_text(CARD)
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"text": ROWS})
    parquet.write_table(table, folder / "train.parquet")
    first = offline(here, "-c", FIND, home=home)
    assert first.returncode == 0, first.stderr
    found, name = json.loads(first.stdout)
    assert name.startswith("WikiText-2") and "Retrying" not in first.stderr
    assert text.split_documents(found, "paragraph") == [
        "= Lobster =", "The lobster is blue . It is long .", "By sea .",
    ]  # fmt: skip
    # What was loaded once is found again without a network; the hub's sets have this name there.
    cache = home / "datasets"
    (cache / "wikitext").rename(cache / "Salesforce___wikitext")
    again = offline(other, "-c", FIND, home=home)
    assert again.returncode == 0 and json.loads(again.stdout) == [found, name], again.stderr
    assert "Using the latest cached version" not in again.stderr


def test_without_a_network_it_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    pytest.importorskip("matplotlib")
    call = "import sys; from recert.cli import main; sys.argv[0] = 'recert'; main()"
    words = ("reproduce", "figure4", "--quick", "--out", str(tmp_path / "out"))
    done = offline(tmp_path, "-c", call, *words, "-o", "source=datasets", home=tmp_path / "home")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("recert: datasets could not load WikiText-2 (")
    assert "--data-path" in done.stderr


@pytest.mark.filterwarnings("ignore")
def test_what_tensorboard_reads_is_what_was_tracked(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from recert.training import RecurrentClassifier, Tracker

    rng = np.random.default_rng(0)
    data = rng.standard_normal((20, 4, 3)).astype(np.float32), rng.integers(0, 2, 20)
    live, later = tmp_path / "live", tmp_path / "later"
    with Tracker(data, tensorboard=live, bounds="margin_ball") as tracker:
        tracker.record(RecurrentClassifier(3, 4, 2, tokens=False), 0, note="text")
        tracker.record(RecurrentClassifier(3, 4, 2, tokens=False), 7, loss=0.5, far=math.inf)
    tracker.to_tensorboard(later)
    numbers = [n for n in tracker.columns if n not in ("kind", "step", "caps", "note")]
    for folder in (live, later):
        events = EventAccumulator(str(folder))
        events.Reload()
        assert set(events.Tags()["scalars"]) == {f"monitoring/{name}" for name in numbers}
        for name in numbers:
            written = [(e.step, e.value) for e in events.Scalars(f"monitoring/{name}")]
            known = [(r["step"], r[name]) for r in tracker.rows if r.get(name) is not None]
            assert [step for step, _ in written] == [step for step, _ in known]
            # It keeps numbers in single precision.
            assert [v for _, v in written] == pytest.approx([v for _, v in known], rel=1e-6)


def test_a_frame_of_pandas_holds_the_rows() -> None:
    pytest.importorskip("torch")
    pandas = pytest.importorskip("pandas")
    from recert.training import RecurrentClassifier, Tracker

    rng = np.random.default_rng(0)
    data = rng.standard_normal((20, 4, 3)).astype(np.float32), rng.integers(0, 2, 20)
    tracker = Tracker(data, bounds=())
    for step in (0, 5):
        tracker.record(
            RecurrentClassifier(3, 4, 2, tokens=False), step, **{"loss": step} if step else {}
        )
    frame = tracker.to_frame()
    assert isinstance(frame, pandas.DataFrame) and list(frame.columns) == tracker.columns
    assert frame["step"].tolist() == [0, 5] and frame["kind"].unique().tolist() == ["monitoring"]
    assert frame["error"].tolist() == tracker.column("error").tolist()
    assert math.isnan(frame["loss"][0]) and frame["loss"][1] == 5
    assert frame["U.spectral"].dtype == np.float64
