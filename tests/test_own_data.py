"""A user's own data: what is written in any format is read again, what is damaged is refused."""

from __future__ import annotations

import csv
import io
import json
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recert import data
from recert.data import SequenceData, own, table_files
from recert.errors import FileError, InputError, MissingDependencyError

NAMES = ['n, "o"', "ö", "ja", "x y"]
# What both float32 and a decimal text of it hold.
VALUES = st.floats(-1e6, 1e6, width=32)


@st.composite
def samples(draw: st.DrawFn) -> dict[str, Any]:
    """Ragged series of d numbers a step, with labels by name and groups."""
    d = draw(st.integers(1, 3))
    steps = st.lists(VALUES, min_size=d, max_size=d)
    units = draw(st.lists(st.lists(steps, min_size=1, max_size=4), min_size=2, max_size=5))
    labels = [NAMES[k] for k in draw(st.permutations(range(4)))]
    labels = [labels[i % draw(st.integers(2, 4))] for i in range(len(units))]
    labels[:2] = sorted(NAMES[:2])
    groups = draw(st.lists(st.integers(0, 2), min_size=len(units), max_size=len(units)))
    return {"units": units, "labels": labels, "groups": groups, "d": d}


def check(found: SequenceData, sample: dict[str, Any]) -> None:
    """The arrays are those that were written, in the order of the units."""
    assert found.input_kind == "real" and found.input_dim == sample["d"]
    assert found.lengths.tolist() == [len(unit) for unit in sample["units"]]
    for i, unit in enumerate(sample["units"]):
        np.testing.assert_array_equal(
            found.sequences[i, : len(unit)], np.array(unit, dtype=np.float32)
        )
        assert not found.sequences[i, len(unit) :].any()
    assert found.classes == tuple(sorted(set(sample["labels"])))
    assert [found.classes[k] for k in found.labels] == sample["labels"]
    again: dict[int, int] = {}
    assert found.groups is not None
    assert found.groups.tolist() == [again.setdefault(g, len(again)) for g in sample["groups"]]
    assert found.encoding == "fixed" and set(found.read_off) == {"max_length", "classes"}


def long_rows(sample: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a step, the last step first: the column of order puts them right."""
    return [
        {"id": f"u{i}", "step": t, **{f"f{k}": v for k, v in enumerate(values)},
         "label": sample["labels"][i], "group": sample["groups"][i]}
        for i, unit in enumerate(sample["units"])
        for t, values in reversed(list(enumerate(unit)))
    ]  # fmt: skip


def wide_rows(sample: dict[str, Any]) -> list[dict[str, Any]]:
    rows = zip(sample["units"], sample["labels"], sample["groups"], strict=True)
    return [{"sequence": unit, "label": label, "group": group} for unit, label, group in rows]


def csv_text(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_csv(folder: Path, sample: dict[str, Any]) -> Path:
    path = folder / "own.csv"
    path.write_text(csv_text(long_rows(sample)), encoding="utf-8-sig", newline="")
    return path


def write_jsonl_long(folder: Path, sample: dict[str, Any]) -> Path:
    path = folder / "long.jsonl"
    path.write_text(jsonl(long_rows(sample)), encoding="utf-8")
    return path


def write_jsonl(folder: Path, sample: dict[str, Any]) -> Path:
    path = folder / "own.jsonl"
    path.write_text(jsonl(wide_rows(sample)), encoding="utf-8")
    return path


def write_npz(folder: Path, sample: dict[str, Any]) -> Path:
    units = sample["units"]
    x = np.full((len(units), max(map(len, units)), sample["d"]), np.nan, dtype=np.float32)
    for i, unit in enumerate(units):
        x[i, : len(unit)] = unit
    path = folder / "own.npz"
    np.savez_compressed(
        path, x=x, y=np.array(sample["labels"]), lengths=np.array([len(u) for u in units]),
        groups=np.array(sample["groups"]), scale=np.array(3.0),
    )  # fmt: skip
    return path


def write_parquet(folder: Path, sample: dict[str, Any]) -> Path:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    path = folder / "own.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(wide_rows(sample)), path, row_group_size=2)
    return path


def write_arrow(folder: Path, sample: dict[str, Any]) -> Path:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.ipc")
    path = folder / "own.arrow"
    table = pa.Table.from_pylist(long_rows(sample))
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def write_saved(folder: Path, sample: dict[str, Any]) -> Path:
    """As `Dataset.save_to_disk` writes: a stream in parts, a state, a description."""
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.ipc")
    path = folder / "saved"
    path.mkdir(exist_ok=True)
    names = sorted(set(sample["labels"]))
    rows = [{**row, "label": names.index(row["label"])} for row in wide_rows(sample)]
    parts = [f"data-{k:05}-of-00002.arrow" for k in range(2)]
    for name, chunk in zip(parts, (rows[:1], rows[1:]), strict=True):
        table = pa.Table.from_pylist(chunk)
        with pa.ipc.new_stream(str(path / name), table.schema) as writer:
            writer.write_table(table)
    state = {"_data_files": [{"filename": name} for name in parts], "_fingerprint": "0"}
    (path / "state.json").write_text(json.dumps(state))
    info = {"features": {"label": {"names": names, "_type": "ClassLabel"}}}
    (path / "dataset_info.json").write_text(json.dumps(info))
    return path


WRITERS = (write_csv, write_jsonl, write_jsonl_long, write_npz, write_parquet, write_arrow)


@pytest.mark.parametrize("write", WRITERS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(sample=samples())
def test_what_is_written_is_read_again(
    write: Callable[[Path, dict[str, Any]], Path],
    sample: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    check(data.load(str(write(tmp_path_factory.mktemp("own"), sample))), sample)


@settings(max_examples=25, deadline=None)
@given(sample=samples())
def test_arrays_of_any_kind_are_read_alike(sample: dict[str, Any]) -> None:
    units = [np.array(unit) for unit in sample["units"]]
    check(SequenceData.from_arrays(units, sample["labels"], groups=sample["groups"]), sample)


@settings(max_examples=25, deadline=None)
@given(sample=samples())
def test_frames_are_read_as_files_are(sample: dict[str, Any]) -> None:
    pd = pytest.importorskip("pandas")
    check(SequenceData.from_frame(pd.DataFrame(long_rows(sample))), sample)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(sample=samples())
def test_a_folder_that_datasets_saved(
    sample: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = data.load(str(write_saved(tmp_path_factory.mktemp("saved"), sample)))
    assert "classes" not in found.read_off
    labels = [found.classes[k] for k in found.labels]
    assert labels == sample["labels"]
    assert found.lengths.tolist() == [len(unit) for unit in sample["units"]]


def write(tmp_path: Path, name: str, content: str | bytes) -> str:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


# .ts, as the archives have it

STAMPED = """%# from UnitTestTimeStamps of aeon
@problemName UnitTestTimeStamps
@timeStamps True
@missing false
@univariate true
@equalLength true
@seriesLength 4
@classLabel true 1 2
@data
(2007-01-01 00:00:00,241.97),(2007-01-01 00:01:00,241.75),(2007-01-01 00:02:00,241.64):1
(2008-09-09 20:56:00,4.0),(2008-09-09 20:57:00,0.0),(2008-09-09 20:58:00,1.0):2
"""
RAGGED = """#Japanese vowels, cut
@problemName JapaneseVowels
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true 2 1
@data
1.860936,1.891651,1.939205:-0.207383,-0.193249,-0.239664:1

1.303905,1.28828:0.067256,0.018672:2
"""


def test_ts_with_times(tmp_path: Path) -> None:
    found = data.load(write(tmp_path, "a.ts", STAMPED))
    assert found.sequences.shape == (2, 3, 1) and found.classes == ("1", "2")
    np.testing.assert_array_equal(found.sequences[1, :, 0], [4.0, 0.0, 1.0])
    assert found.labels.tolist() == [0, 1] and "classes" not in found.read_off


def test_ts_of_several_channels_and_lengths(tmp_path: Path) -> None:
    found = data.load(write(tmp_path, "a.ts", RAGGED))
    assert found.lengths.tolist() == [3, 2] and found.classes == ("2", "1")
    np.testing.assert_allclose(found.sequences[0, 2], [1.939205, -0.239664], rtol=1e-6)
    assert found.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("1.860936,", "?,"), "line 10: step 1 is missing"),
        (("1.303905", "1.3o"), "line 12: step 1 is '1.3o'"),
        ((",0.018672", ""), "line 12: channels of different lengths"),
        ((":0.067256,0.018672", ""), "line 12: 1 channels, where the header says 2"),
        ((":2\n", ":3\n"), "line 12: it ends in '3'"),
        (("true 2 1", "false"), "no @classLabel"),
        (("@equalLength false", "@equalLength true"), "line 12: 2 steps"),
        (("@equalLength false", "@equalLength yes"), "line 7: @equallength needs"),
        (("@classLabel true 2 1", "@targetLabel true"), "line 8: the target is a number"),
        (("@data", ""), "before @data"),
        (("true 2 1", "true 2 2"), "named twice"),
        (("@dimensions 2", "@dimensions 0"), "whole number"),
    ],
)  # fmt: skip
def test_damaged_ts(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        data.load(write(tmp_path, "a.ts", RAGGED.replace(*change)))
    assert "\n" not in str(error.value) and "a.ts" in str(error.value)


# Damaged tables: one line that names the file and the row

LONG = "id,step,x,label\na,1,0.5,p\na,2,0.25,p\nb,1,1,q\nb,2,2,q\n"
WIDE = "x1,x2,x3,label\n1,2,3,p\n4,5,6,q\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\ufeff \n", "is empty"),
        ("id,step,x,label\n", "no rows"),
        ("1,2,3\n4,5,6\n", "begins with numbers"),
        ("x,x,label\n1,2,p\n", "two of one name"),
        (LONG.replace("label", "sort"), "no column 'label'"),
        (LONG.replace("id,", "who,"), "in order by 'step'"),
        (LONG.replace("0.25,p", "0.25"), "line 3: 3 fields instead of 4"),
        (LONG.replace("0.25,p", '0.25,"p'), "check its quotes"),
        (LONG.replace("0.25,p", "0.25,q"), "line 3: 'label' is 'q' within a unit"),
        (LONG.replace("a,2", "a,1"), "line 3: 'step' is '1' twice"),
        (LONG.replace("0.25", ""), "line 3: 'x' is missing"),
        (LONG.replace("0.25", "nan"), "line 3: 'x' is missing"),
        (LONG.replace("0.25", "1e999"), "line 3: 'x' is missing or infinite"),
        (LONG.replace("0.25", "1_0"), "line 3: 'x' is '1_0', no number"),
        (LONG.replace("0.25", "٣"), "line 3: 'x' is '٣', no number"),
        (LONG.replace("0.25", "0,25"), "line 3: 5 fields"),
        (LONG.replace("q", "p"), "every label is 'p'"),
        (LONG.replace(",q", ","), "line 4: the label is missing"),
        (LONG.replace("q", "1").replace("p", "0.5"), "line 2: label 0.5 is not whole"),
        (LONG.replace("q", "1e400").replace("p", "0"), "line"),
        (LONG.replace("a,2", "a,Tuesday"), "line 3: 'step' is 'Tuesday'"),
        (LONG.replace("a,2", ",2"), "line 3: 'id' is missing"),
        (WIDE.replace("4,5,6", "4,,6"), "line 3: 'x2' is missing"),
        (WIDE.replace("4,5,6", ",,"), "line 3: the sequence has no step"),
        (WIDE.replace("4,5", "4,five"), "line 3: 'x2' is 'five'"),
        (LONG.replace("label", "label,role").replace("p\n", "p,dev\n").replace("q\n", "q,train\n"),
         "line 2: 'role' is 'dev'"),
        (LONG.replace("label", "label,role").replace("p\n", "p,test\n").replace("q\n", "q,test\n"),
         "every unit is held out"),
        (LONG.encode("utf-16"), "UTF-16"),
        (LONG.replace("p", "ü").encode("latin-1"), "not UTF-8"),
    ],
)  # fmt: skip
def test_damaged_csv(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises((InputError, FileError), match=message) as error:
        data.load(write(tmp_path, "a.csv", text))
    assert "\n" not in str(error.value) and "a.csv" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"x": [1.5], "y": 0}\n{"x": [1.5], "y": 1\n', "line 2 is not valid JSON"),
        ('{"x": [1.5], "y": 0}\n{"x": [NaN], "y": 1}\n', "line 2 is not valid JSON"),
        ('{"x": [1.5], "y": 0}\n{"x": [1.5]}\n', "line 2 is no object with the keys"),
        ('{"x": [1.5], "y": 0}\n[1]\n', "line 2 is no object"),
        ('{"x": [1.5], "y": 0}\n{"x": [], "y": 1}\n', "line 2: 'x' has no step"),
        ('{"x": [1.5], "y": 0}\n{"x": [null], "y": 1}\n', "line 2: 'x' holds what is missing"),
        ('{"x": [1.5], "y": 0}\n{"x": null, "y": 1}\n', "line 2: 'x' is missing"),
        ('{"x": [[1.5, 2]], "y": 0}\n{"x": [[1.5, 2], [3]], "y": 1}\n', "line 2: .* widths"),
        ('{"x": [[1.5, 2]], "y": 0}\n{"x": [[1.5]], "y": 1}\n', "line 2: 1 numbers a step"),
        ('{"x": [1.5], "y": 0}\n{"x": [1.5], "y": 0.5}\n', "line 2: label 0.5 is not whole"),
        ('{"x": [1.5], "y": 0}\n{"x": [1.5], "y": null}\n', "line 2: the label is missing"),
        ('{"x": [1.5], "y": [0]}\n{"x": [1.5], "y": [0, 1]}\n', "line 2: 2 labels for 1 steps"),
        ('{"x": [1.5], "y": [0]}\n{"x": [1.5], "y": 1}\n', "line 2: one label"),
        ('{"x": [1], "y": 0}\n{"x": [-2], "y": 1}\n', "line 2: token -2"),
        ('{"x": "ab", "y": 0}\n{"x": [1], "y": 1}\n', "line 2: token 1 is not in the alphabet"),
        ('{"x": [1e39], "y": 0}\n{"x": [1.0], "y": 1}\n', "line 1: step 1 is missing or infinite"),
    ],
)  # fmt: skip
def test_damaged_jsonl(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        data.load(write(tmp_path, "a.jsonl", text))
    assert "\n" not in str(error.value) and "a.jsonl" in str(error.value)


# .npz: never a pickle, never more memory than the file can mean


def member(header: str, body: bytes) -> bytes:
    raw = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + body


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (member("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 99999999999)}", b"0" * 64),
         "declares"),
        (member("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}", b"0" * 64), "numbers"),
        (member("__import__('os').abort()", b"0" * 64), "cannot read"),
        (b"\x93NUMPY\x09\x00", "unknown version"),
        (b"nothing", "cannot read"),
        (member("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 40000000)}",
                bytes(320_000_000)), "expands"),
    ],
)  # fmt: skip
def test_hostile_npz(tmp_path: Path, x: bytes, message: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(tmp_path / "y.npz", y=np.array([0, 1]))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", zipfile.ZipFile(tmp_path / "y.npz").read("y.npy"))
    with pytest.raises(FileError, match=message) as error:
        data.load(str(path))
    assert "\n" not in str(error.value)


def test_npz_of_other_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), y=np.array([0, 1]))
    with pytest.raises(InputError, match=r"x \(3, 2\)"):
        data.load(str(tmp_path / "a.npz"))
    with pytest.raises(FileError, match="not a zip file"):
        data.load(write(tmp_path, "b.npz", b"PK nothing"))


def test_npz_of_train_and_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(4, 3, 2)), rng.normal(size=(2, 3, 2))
    np.savez(tmp_path / "a.npz", x_train=one, y_train=[0, 1, 0, 1], x_test=other, y_test=[0, 1])
    train, held = data.load(str(tmp_path / "a.npz")).by_role()
    assert held is not None
    np.testing.assert_array_equal(train.sequences, one.astype(np.float32))
    np.testing.assert_array_equal(held.sequences, other.astype(np.float32))


def test_a_padded_array_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recert.data.units.MOST_CELLS", 5)
    path = write(tmp_path, "a.csv", WIDE)
    with pytest.raises(InputError, match="declare a smaller max_length"):
        data.load(path)
    assert data.load(path, max_length=2).T == 2


# Tokens, padding, labels


def test_tokens_by_letters_words_and_numbers(tmp_path: Path) -> None:
    letters = write(tmp_path, "a.csv", "text,label\nabba,p\nca,q\n")
    found = data.load(letters)
    assert found.alphabet == ("a", "b", "c") and found.encoding == "learnt"
    assert found.sequences.tolist() == [[0, 1, 1, 0], [2, 0, -1, -1]]
    declared = data.load(letters, alphabet="cab")
    assert declared.alphabet == ("c", "a", "b") and declared.encoding == "fixed"
    with pytest.raises(InputError, match="line 3: token 'c' is not in the alphabet"):
        data.load(letters, alphabet="ab")
    words = write(tmp_path, "w.csv", "text,label\nto be or,p\nnot to be,q\n")
    assert data.load(words, separator=" ").alphabet == ("be", "not", "or", "to")
    numbers = write(tmp_path, "n.csv", "tokens,label\n3 0 1,p\n2,q\n")
    assert data.load(numbers).input_kind == "real"
    tokens = data.load(numbers, kind="tokens", alphabet=5)
    assert tokens.sequences.tolist() == [[3, 0, 1], [2, -1, -1]] and tokens.input_dim == 5
    assert tokens.encoding == "fixed" and data.load(numbers, kind="tokens").encoding == "learnt"


def test_long_tokens_and_a_label_a_step(tmp_path: Path) -> None:
    text = "id,step,word,label\na,1,der,D\na,2,Hund,N\nb,1,er,P\n"
    path = write(tmp_path, "a.csv", text)
    with pytest.raises(InputError, match=r"line 3: 'label' is 'N' within a unit.*each_step"):
        data.load(path)
    found = data.load(path, each_step=True)
    assert found.classes == ("D", "N", "P") and found.labels.tolist() == [[0, 1], [2, -1]]
    assert found.alphabet == ("Hund", "der", "er")


@pytest.mark.parametrize(("side", "wanted"), [("right", [5, 0, 7]), ("left", [5, 0, 7])])
def test_padding_at_either_side(side: str, wanted: list[int]) -> None:
    x = np.array([[5.0, 0.0, 7.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    x[0] = x[0] if side == "right" else np.roll(x[0], 1)
    found = SequenceData.from_arrays(x, [0, 1], kind="real", padding=0.0, side=side)
    assert found.lengths.tolist() == [3, 4]
    assert found.sequences[0, :3, 0].tolist() == wanted


@pytest.mark.parametrize("side", ["right", "left"])
def test_lengths_and_masks(side: str) -> None:
    x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    mask = np.array([[1, 1, 0], [1, 1, 1]]) if side == "right" else np.array([[0, 1, 1], [1, 1, 1]])
    wanted = [1.0, 2.0] if side == "right" else [2.0, 3.0]
    for lengths in (mask, mask.astype(bool), mask.sum(axis=1)):
        found = SequenceData.from_arrays(x, [0, 1], lengths=lengths, side=side)
        assert found.lengths.tolist() == [2, 3]
        assert found.sequences[0, :2, 0].tolist() == wanted
    with pytest.raises(InputError, match=r"row 0 .*leaves out steps before others"):
        SequenceData.from_arrays(x, [0, 1], lengths=np.roll(mask, 1, axis=1), side="right")
    with pytest.raises(InputError, match=r"row 1 .*says 4 steps of a sequence of 3"):
        SequenceData.from_arrays(x, [0, 1], lengths=[1, 4])


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        ([0, 2, 1], ("0", "1", "2"), [0, 2, 1]),
        ([0, 2, 2], ("0", "1", "2"), [0, 2, 2]),
        ([1, 3, 3], ("1", "3"), [0, 1, 1]),
        ([2.0, 10.0, 1.0], ("1", "2", "10"), [1, 2, 0]),
        (["10", "9", "9"], ("9", "10"), [1, 0, 0]),
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        ([True, False, True], ("false", "true"), [1, 0, 1]),
        ([-1, 1, 1], ("-1", "1"), [0, 1, 1]),
    ],
)
def test_labels_become_classes(labels: list[Any], classes: Any, numbers: list[int]) -> None:
    found = SequenceData.from_arrays(np.zeros((3, 2)), labels)
    assert found.classes == classes and found.labels.tolist() == numbers
    assert "classes" in found.read_off


def test_declared_classes() -> None:
    x = np.zeros((3, 2))
    found = SequenceData.from_arrays(x, ["b", "b", "c"], classes="c,b,a")
    assert found.labels.tolist() == [1, 1, 0] and "classes" not in found.read_off
    assert SequenceData.from_arrays(x, [1, 1, 0], classes=5).K == 5
    named = SequenceData.from_arrays(x, [1, 1, 0], classes=["no", "yes"])
    assert named.classes == ("no", "yes") and named.labels.tolist() == [1, 1, 0]
    with pytest.raises(InputError, match=r"row 2 .*label 'd' is none of"):
        SequenceData.from_arrays(x, ["b", "a", "d"], classes="a,b,c")
    with pytest.raises(InputError, match=r"row 0 .*label 7 is none of"):
        SequenceData.from_arrays(x, [7, 1, 1], classes=2)


# Roles, groups, a second file, what is remembered


def test_roles_by_a_column_and_by_a_file(tmp_path: Path) -> None:
    column = write(
        tmp_path, "a.csv", "x1,x2,label,role\n1,2,p,train\n3,4,q,holdout\n5,6,q,train\n7,8,p,test\n"
    )
    train, held = data.load(column).by_role()
    assert held is not None
    assert train.sequences[:, 0, 0].tolist() == [1, 5]
    assert held.sequences[:, 0, 0].tolist() == [3, 7]
    one = write(tmp_path, "one.csv", "x1,x2,label\n1,2,p\n5,6,q\n")
    other = write(tmp_path, "other.csv", "x1,x2,label\n3,4,q\n7,8,p\n")
    again, aside = data.load(one, holdout=other).by_role()
    assert aside is not None
    assert (again.digest, aside.digest) == (train.digest, held.digest)
    with pytest.raises(InputError, match="held-out units twice"):
        data.load(column, holdout=other)


def test_nothing_is_read_off_what_is_held_out(tmp_path: Path) -> None:
    one = write(tmp_path, "one.csv", "text,label\nab,p\nb,q\n")
    for text, message in (("ab,r", "label 'r' is none of"), ("abc,p", "token 'c' is not in the")):
        other = write(tmp_path, "other.csv", f"text,label\n{text}\n")
        with pytest.raises(InputError, match=f"other.csv: line 2: {message}"):
            data.load(one, holdout=other)


def test_a_group_stays_in_one_role(tmp_path: Path) -> None:
    text = "x1,x2,label,group,role\n1,2,p,a,train\n3,4,q,b,train\n5,6,q,a,holdout\n"
    path = write(tmp_path, "a.csv", text)
    with pytest.raises(InputError, match="line 4: group 'a' is trained on and held out"):
        data.load(path)
    found = data.load(write(tmp_path, "b.csv", text.replace("q,a", "q,c")))
    assert found.units == 3


def test_what_is_said_once_is_remembered(tmp_path: Path) -> None:
    path = write(tmp_path, "my.csv", "a,b,kind\n1,2,p\n3,4,q\n")
    with pytest.raises(InputError, match="no column 'label'"):
        data.load(path)
    beside = own.remember(path, {"label": "kind", "max_length": 2, "input_bound": 5.0})
    assert beside.name == "my.csv.recert.json"
    found = data.load(path)
    assert found.classes == ("p", "q") and found.max_length == 2 and found.input_bound == 5.0
    assert found.read_off == ("classes",)  # remembered, not declared
    write(tmp_path, "my.csv", "a,b,kind\n1,2,q\n3,4,q\n")
    assert data.load(path).labels.tolist() == [1, 1]
    assert data.load(path, classes="q,p").read_off == ()


def test_remembering_does_not_make_an_alphabet_declared(tmp_path: Path) -> None:
    path = write(tmp_path, "my.csv", "text,label\nab,p\nb,q\n")
    own.remember(path, {})
    assert data.load(path).encoding == "learnt"
    assert data.load(path, alphabet="ab").encoding == "fixed"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"schema": "recert-data/2", "options": {}, "read_off": {}}',
        '{"schema": "recert-data/1", "options": {"eval": "1"}, "read_off": {}}',
        '{"schema": "recert-data/1", "options": {"label": 3}, "read_off": {}}',
        '{"schema": "recert-data/1", "options": {"classes": true}, "read_off": {}}',
        '{"schema": "recert-data/1", "options": {"classes": ["a", "a"]}, "read_off": {}}',
        '{"schema": "recert-data/1", "options": {"max_length": -1}, "read_off": {}}',
        '{"schema": "recert-data/1", "options": {"padding": "0"}, "read_off": {}}',
        '{"schema": "recert-data/1", "options": {"each_step": 1}, "read_off": {}}',
        '{"schema": "recert-data/1", "options": {"features": 7}, "read_off": {}}',
        '{"schema": "recert-data/1", "options": {"side": []}, "read_off": {}}',
        '{"schema": "recert-data/1", "options": {}, "read_off": {"label": "x"}}',
        "nothing",
    ],
)
def test_a_damaged_sidecar(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "my.csv", WIDE)
    write(tmp_path, "my.csv.recert.json", text)
    with pytest.raises((InputError, FileError)) as error:
        data.load(path)
    assert "\n" not in str(error.value)


# Names and paths


def test_names_stay_names_and_paths_are_paths(tmp_path: Path) -> None:
    assert data.info("german-nouns").name == "german-nouns"
    assert data.info("my.csv").name == "own"
    with pytest.raises(FileError, match=r"my\.csv"):
        data.load(str(tmp_path / "my.csv"))
    with pytest.raises(InputError, match="there is no data set 'nothing'"):
        data.load("nothing")
    with pytest.raises(InputError, match="is of no kind that is read"):
        data.load(write(tmp_path, "a.xlsx", b"PK"))
    with pytest.raises(InputError, match="has no option 'labels'"):
        data.load(write(tmp_path, "a.csv", WIDE), labels="x")
    with pytest.raises(InputError, match="no column 'z'"):
        data.load(write(tmp_path, "a.csv", WIDE), features="x1,z")


def test_semicolons_and_tabs(tmp_path: Path) -> None:
    for mark in ";\t":
        found = data.load(write(tmp_path, "a.csv", WIDE.replace(",", mark)))
        assert found.sequences[1, :, 0].tolist() == [4, 5, 6]


def test_rows_are_put_in_order_by_dates(tmp_path: Path) -> None:
    text = "id,time,x,label\na,2024-03-01,2,p\na,2024-02-01T10:00:00+02:00,1,p\nb,2024-01-01,3,q\n"
    found = data.load(write(tmp_path, "a.csv", text))
    assert found.sequences[:, :, 0].tolist() == [[1, 2], [3, 0]]


# Arrow and torch


def test_without_pyarrow_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "pyarrow.ipc", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'recert\[tables\]'"):
        data.load(write(tmp_path, "a.parquet", b"PAR1"))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff\x10\0\0\0"])
def test_damaged_arrow(tmp_path: Path, name: str, content: bytes) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises((FileError, InputError)) as error:
        data.load(write(tmp_path, name, content))
    assert "\n" not in str(error.value)


def test_parquet_that_declares_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path, {"units": [[[1.0]], [[2.0]]], "labels": NAMES[:2],
                                    "groups": [0, 1]})  # fmt: skip
    monkeypatch.setattr(table_files, "MOST_VALUES", 1)
    with pytest.raises(FileError, match="too many to read"):
        data.load(str(path))


def test_saved_folders_name_only_their_own_files(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    sample = {"units": [[[1.0]], [[2.0]]], "labels": NAMES[:2], "groups": [0, 1], "d": 1}
    path = write_saved(tmp_path, sample)
    (path / "state.json").write_text('{"_data_files": [{"filename": "../own.arrow"}]}')
    with pytest.raises(FileError, match="which is no file of it"):
        data.load(str(path))
    (path / "state.json").write_text("{}")
    with pytest.raises(FileError, match="lists no data files"):
        data.load(str(path))


def test_splits_of_a_saved_folder_are_roles(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    sample = {"units": [[[1.0]], [[2.0]]], "labels": NAMES[:2], "groups": [0, 1], "d": 1}
    whole = tmp_path / "dict"
    whole.mkdir()
    for k, split in enumerate(("train", "test")):
        write_saved(tmp_path, {**sample, "groups": [k, k]}).rename(whole / split)
    (whole / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    train, held = data.load(str(whole)).by_role()
    assert held is not None and (train.m, held.m) == (2, 2)


def test_torch_datasets_and_loaders() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    x, y = torch.randn(5, 3, 2), torch.tensor([0, 1, 1, 0, 1])
    n = torch.tensor([3, 2, 1, 3, 3])
    for source in (TensorDataset(x, y, n), DataLoader(TensorDataset(x, y, n), batch_size=2)):
        found = SequenceData.from_torch(source)
        assert found.lengths.tolist() == n.tolist() and found.labels.tolist() == y.tolist()
        np.testing.assert_array_equal(found.sequences[1, :2], x[1, :2].numpy())
    ragged = [(x[0, :2], 0), (x[1], 1)]
    assert SequenceData.from_torch(ragged).lengths.tolist() == [2, 3]
    with pytest.raises(InputError, match="item 0 is a Tensor"):
        SequenceData.from_torch(x)
    with pytest.raises(InputError, match="no Dataset"):
        SequenceData.from_torch(3)


def test_batches_of_different_widths_need_lengths() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    def collate(items: Any) -> Any:
        x = torch.nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)
        return x, torch.tensor([y for _, y in items])

    ragged = [(torch.randn(t, 2), t % 2) for t in (1, 2, 3, 4)]
    with pytest.raises(InputError, match="batches of different widths are padded"):
        SequenceData.from_torch(DataLoader(ragged, batch_size=2, collate_fn=collate))


def test_what_is_no_array_is_refused() -> None:
    with pytest.raises(InputError, match="3 of label for 2 sequences"):
        SequenceData.from_arrays(np.zeros((2, 2)), [0, 1, 1])
    with pytest.raises(InputError, match=r"sequence are an int"):
        SequenceData.from_arrays(3, [0])
    with pytest.raises(InputError, match="no frame"):
        SequenceData.from_frame([1])
