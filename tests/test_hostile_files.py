"""Hostile files: a reader gives a value or one line, soon and in little memory.

Valid files of every kind are damaged by structure and by bytes (`hostile`); then come the tricks by
name: pipes, devices, bombs, deep and huge JSON, pickles, names that a terminal would obey.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hostile
from recert import data, report
from recert.certificates.certificate import load_certificate
from recert.certificates.schema import seal
from recert.errors import FileError, InputError, RecertError
from recert.numerics.rounding import rounded_up
from recert.pac_bayes.posterior import load_posterior
from recert.readers import load_network, save_network
from recert.readers.weights import pickled as pickles
from recert.readers.weights import pickled as state_files
from recert.utils import files
from recert.utils.consoles import results
from recert.workflows import compare, networks

NAMES = sorted(hostile.targets())
SLOW = 2.0  # seconds for one small file


def attacked(name: str, raw: bytes, folder: Path) -> None:
    start = time.process_time()
    hostile.attack(hostile.targets()[name], raw, folder)
    assert time.process_time() - start < SLOW


@pytest.mark.parametrize("name", NAMES)
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    target = hostile.targets()[name]
    found = hostile.attack(target, target.seed, tmp_path)
    assert found == ("FileError" if name == "undescribed" else "read")


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_give_one_line_or_a_value(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, target = tmp_path_factory.mktemp("damaged"), hostile.targets()[name]

    @settings(max_examples=25, deadline=None, database=None)
    @given(st.integers(0, 2**32), st.one_of(st.none(), st.binary(max_size=200)))
    def run(seed: int, raw: bytes | None) -> None:
        attacked(name, target.mutated(random.Random(seed)) if raw is None else raw, folder)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_damaged_files(name: str, tmp_path: Path) -> None:
    target = hostile.targets()[name]
    for seed in range(4000):
        attacked(name, target.mutated(random.Random(seed)), tmp_path)


# What is no plain file.


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


PLACES: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": _pipe,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "empty device": lambda path: path.symlink_to("/dev/null"),
    "no target": lambda path: path.symlink_to("/nowhere/at/all"),
    "loop": _loop,
}


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are files on POSIX only")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_plain_file_is_refused_at_once(name: str, place: str, tmp_path: Path) -> None:
    target = hostile.targets()[name]
    for other, content in target.files.items():
        if other != target.victim:
            (tmp_path / other).write_bytes(content)
    PLACES[place](tmp_path / target.victim)
    start = time.process_time()
    with pytest.raises(FileError) as caught:
        target.read(tmp_path)
    assert "\n" not in str(caught.value) and time.process_time() - start < SLOW


@pytest.mark.parametrize("name", ["\0", "a" * 5000, "x/" * 3000, "\udcff", "new\nline", "[/red]"])
def test_names_that_no_file_has(name: str, tmp_path: Path) -> None:
    readers: list[Callable[[Path], object]] = [
        load_certificate, load_network, load_posterior, files.read_json,
        lambda p: data.load("text", path=p), lambda p: data.load("idx", images=p, labels=p),
        lambda p: data.load("german-nouns", path=p), lambda p: data.load("cmudict", path=p),
    ]  # fmt: skip
    for suffix in ("", ".onnx", ".rcz", ".pt", ".safetensors", ".json"):
        for read in readers:
            with pytest.raises(FileError):
                read(tmp_path / f"{name}{suffix}")


# JSON.

HOSTILE_JSON = {
    "too large a float": "1e400",
    "too large a number": "1" + "0" * 400,
    "too many digits": "1" + "0" * 5000,
    "NaN": "NaN",
    "infinity": "[-Infinity]",
    "half a character": '"\\ud800"',
    "half a key": '{"\\udfff": 1}',
    "a key twice": '{"a": 1, "a": 2}',
    "deep list": "[" * 100_000,
    "deep and closed": "[" * 500 + "]" * 500,
    "deep object": '{"a":' * 70 + "1" + "}" * 70,
    "byte order mark": "\ufeff{}",
    "zero byte": "{}\0",
}


@pytest.mark.parametrize("raw", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_json_that_is_none(raw: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(raw)
    with pytest.raises(FileError, match="not valid JSON") as caught:
        files.read_json(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_json_that_is_large(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    for read in (files.read_json, load_certificate):
        with pytest.raises(FileError, match="larger than"):
            read(path)
    path.write_text(json.dumps([[0] * 1000] * 60))
    assert len(files.read_json(path)) == 60


def certificate_with(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    entry = json.loads(hostile.targets()["certificate"].seed)
    change(entry)
    entry["seal"] = seal(entry)
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(entry))
    return path


TITLES = ["[/red]", "[bold", "$\\bad{$", "a_$_b", ":smile:", "100%", "\U0001f4a9"]


def test_texts_of_certificates_are_shown_as_they_are(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    def change(entry: dict[str, Any]) -> None:
        for bound, title in zip(entry["bounds"], TITLES, strict=False):
            bound["title"] = title

    path = certificate_with(tmp_path, change)
    console = results()
    console.file = io.StringIO()
    compare.show([path, path], console=console, picture=tmp_path / "ladder.png")
    report.ladder([(load_certificate(path), " ".join(TITLES))], tmp_path / "other.svg")
    assert all(title in console.file.getvalue() for title in TITLES)
    report.cells([(TITLES[2], load_certificate(path))], tmp_path / "cells.png")


@pytest.mark.parametrize("text", ["\x1b[31m", "\x9b", "a\nb", "\x7f", "\x00"])
def test_texts_that_a_terminal_obeys_are_refused(text: str, tmp_path: Path) -> None:
    path = certificate_with(tmp_path, lambda entry: entry["bounds"][0].update(title=text))
    with pytest.raises(FileError, match="control characters"):
        load_certificate(path)


@pytest.mark.parametrize("value", [0.2, -1.0, 0.0, 1e300, 10**300])
def test_a_value_that_is_not_its_logarithm_s_is_refused(value: float, tmp_path: Path) -> None:
    def change(entry: dict[str, Any]) -> None:
        bound = next(b for b in entry["bounds"] if b["name"] == entry["best"])
        bound["terms"]["value"] = value

    with pytest.raises(FileError, match=r"not 10\^log10"):
        load_certificate(certificate_with(tmp_path, change))


def test_many_certificates_are_no_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    certificate = load_certificate(certificate_with(tmp_path, lambda entry: None))
    with pytest.raises(InputError, match="too many"):
        report.ladder([(certificate, "a")] * 61, tmp_path / "a.png")


def test_numbers_of_any_size_are_rounded_up() -> None:
    assert rounded_up(1e300, 4).startswith("1000000000000000052504760255204420248704468581108159")
    assert rounded_up(5e-324, 7) == "0.0000001"


# Descriptions and records.


@pytest.mark.parametrize("name", ["[31m\x1b", "a\nb"])
def test_control_characters_in_names_of_tensors_are_refused(name: str, tmp_path: Path) -> None:
    save_network(hostile.small_network(), tmp_path)
    path = tmp_path / "network.json"
    entry = json.loads(path.read_text())
    entry["head"]["V"] = name
    path.write_text(json.dumps(entry))
    with pytest.raises(FileError, match="control characters"):
        load_network(tmp_path)


@pytest.mark.parametrize("place", ["top", "layer", "direction"])
@pytest.mark.parametrize("cell", [["gru"], {"a": 1}, 3, None])
def test_a_cell_that_is_no_name(place: str, cell: object, tmp_path: Path) -> None:
    save_network(hostile.small_network(), tmp_path)
    path = tmp_path / "network.json"
    entry = json.loads(path.read_text())
    layer = entry["layers"][0] | {"cell": cell}
    entry["layers"] = [{"forward": layer, "backward": layer} if place == "direction" else layer]
    path.write_text(json.dumps(entry | ({"cell": cell} if place == "top" else {})))
    with pytest.raises(RecertError):
        load_network(tmp_path)


@pytest.mark.parametrize("options", [3, "m", [1], {"name": "text"}, {"m": 2**31}, {"m": "9"},
                                     {"seed": -1}, {"m": 10**30}, {"max_length": 0.5}])  # fmt: skip
def test_options_of_records_are_checked(options: object, tmp_path: Path) -> None:
    meta = {"data": {"name": "synthetic", "options": options}, "units": 5}
    save_network(hostile.small_network(), tmp_path, meta=meta)
    start = time.process_time()
    with pytest.raises(InputError):
        networks.roles_of(tmp_path, "synthetic")
    assert time.process_time() - start < SLOW


BAD = [None, True, -1, 0, 2**31, 2**53, 10**30, 10**400, 1e300, "", "\0", "/dev/zero", "/", [], {},
       b"1", float("nan"), float("inf"), 10**5000]  # fmt: skip


@pytest.mark.parametrize("name", ["german-nouns", "cmudict", "text", "idx", "synthetic", "recall"])
def test_options_of_data_sets_of_any_type_and_size(name: str, tmp_path: Path) -> None:
    targets = hostile.targets()
    for kind in ("nouns", "cmudict", "text", "idx images"):
        for file, content in targets[kind].files.items():
            (tmp_path / file).write_bytes(content)
    paths = {"german-nouns": {"path": "n"}, "cmudict": {"path": "c"}, "text": {"path": "t"},
             "idx": {"images": "i", "labels": "l"}, "synthetic": {},
             "recall": {}}  # fmt: skip
    known = {key: tmp_path / value for key, value in paths[name].items()}
    data.load(name, **known)
    for option in data.info(name).options:
        for value in BAD:
            if value is None and option == "path":
                continue  # the installed package's file
            start = time.process_time()
            try:
                data.load(name, **{**known, option: value})
            except RecertError as error:
                assert len(str(error)) < 1000
            assert time.process_time() - start < SLOW, (option, value)


def test_numpy_s_numbers_are_options() -> None:
    assert data.load("synthetic", m=np.int64(20), noise=np.float32(0.0), seed=np.int32(1)).m == 20


# Pickles, without running them.


def archive(pickled: bytes, numbers: bytes = b"", kind: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/data/0", numbers)
    return out.getvalue()


def tensor(count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The pickle of {"w": tensor} as torch writes it."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def number(value: int) -> bytes:
        raw = value.to_bytes(9, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    sizes = b"".join(b"(" + b"".join(map(number, part)) + b"t" for part in (shape, strides))
    arguments = b"(" + storage + number(count) + b"tQ" + number(offset) + sizes
    return (
        b"\x80\x02}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )  # fmt: skip


def test_a_state_dict_of_our_own_is_read() -> None:
    numbers = np.arange(6, dtype="<f4").tobytes()
    found = state_files.read(archive(tensor(6, 1, (2, 2), (1, 2)), numbers))
    np.testing.assert_array_equal(found["w"], [[1.0, 3.0], [2.0, 4.0]])


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (archive(tensor(6, 0, (200,), (1,)), bytes(24)), "beyond|claims"),
        (archive(tensor(200, 0, (9,), (1,)), bytes(24)), "bytes of numbers"),
        (archive(tensor(6, 5, (2,), (1,)), bytes(24)), "beyond"),
        (archive(tensor(6, 0, (2,), (2**61,)), bytes(24)), "beyond"),
        (archive(tensor(6, 0, (2**20, 2**20), (0, 0)), bytes(24)), "claims more entries"),
        (archive(tensor(6, 0, (2**61, 2**61), (0, 0)), bytes(24)), "claims more entries"),
        (archive(tensor(6, 0, (0, 2**61), (0, 0)), bytes(24)), "claims"),
        (archive(tensor(6, 0, (-2,), (1,)), bytes(24)), "sizes that are none"),
        (archive(tensor(6, 0, (2,), (-1,)), bytes(24)), "sizes that are none"),
        (archive(tensor(6, 0, (2,), (1, 1)), bytes(24)), "no sense"),
        (archive(b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R."), "names 'posix.system'"),
        (archive(b"\x80\x02ctorch.hub\nStorage\n)R."), "names 'torch.hub.Storage'"),
        (archive(b"\x80\x02ctorch\nFloatStorage\nJ\xff\xff\xff\x7f\x85R."), "calls"),
        (archive(b"\x80\x02ctorch\n_Storage.x\n)R."), "names"),
        (archive(b"\x80\x02}\x8c\x01a."), "instruction"),
        (archive(b"\x80\x02"), "ends early"),
        (archive(b"X\xff\xff\xff\xff"), "name of over"),
        (archive(b"."), "no sense"),
        (archive(b"t."), "no sense"),
        (archive(b"h\x05."), "no sense"),
        (archive(b"\x80\x02}.", bytes(10**8), zipfile.ZIP_DEFLATED), "compressed"),
        (b"PK\x03\x04" + bytes(100), "archive is damaged"),
        (b"\x8a\xff" + bytes(100), "ends early"),
    ],
)  # fmt: skip
def test_hostile_state_dicts(raw: bytes, words: str) -> None:
    with pytest.raises(FileError, match=words):
        state_files.read(raw)


def test_pickles_that_take_for_ever_elsewhere() -> None:
    doubled = b"\x80\x02})q\x00" + b"h\x00\x86q\x00" * 60
    start = time.process_time()
    with pytest.raises(FileError, match="neither a name nor a number"):
        pickles.load(io.BytesIO(doubled + b"K\x01s."))
    found = state_files.read
    with pytest.raises(FileError, match=r"no state_dict|not a dense tensor"):
        found(archive(b"\x80\x02}X\x01\0\0\0a" + doubled[3:] + b"s."))
    assert time.process_time() - start < SLOW


@pytest.mark.parametrize("new", [True, False])
def test_what_torch_writes_is_read_without_torch(new: bool) -> None:
    torch = pytest.importorskip("torch")
    state = {
        "half": torch.randn(3, 2).half(), "brain": torch.randn(3).bfloat16(),
        "double": torch.randn(2, 3).double().t(), "one": torch.tensor(2.5),
        "none": torch.zeros(0, 3), "part": torch.randn(5, 6)[1:4, ::2],
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }  # fmt: skip
    out = io.BytesIO()
    torch.save(state, out, _use_new_zipfile_serialization=new)
    found = state_files.read(out.getvalue())
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value.detach().double().numpy())
        assert found[name].shape == tuple(value.shape)


# Memory: each of these would fill it, were a claim believed.

BOMBS: dict[str, Callable[[Path], tuple[str, str]]] = {}


def bomb(make: Callable[[Path], tuple[str, str]]) -> Callable[[Path], tuple[str, str]]:
    BOMBS[make.__name__] = make
    return make


@bomb
def idx_gzipped(folder: Path) -> tuple[str, str]:
    raw = struct.pack(">4B3I", 0, 0, 8, 3, 30_000, 150, 150) + bytes(675_000_000)
    (folder / "i.gz").write_bytes(gzip.compress(raw, 1))
    (folder / "l.gz").write_bytes(gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 30_000)))
    return "i.gz", "data.load('idx', images=path, labels=path.with_name('l.gz'))"


@bomb
def torch_compressed(folder: Path) -> tuple[str, str]:
    (folder / "m.pt").write_bytes(archive(b"\x80\x02}.", bytes(6 * 10**8), zipfile.ZIP_DEFLATED))
    (folder / "m.json").write_bytes(hostile.targets()["state_dict"].files["m.json"])
    return "m.pt", "load_network(path)"


@bomb
def huge_hole(folder: Path) -> tuple[str, str]:
    for name in ("a.rcz", "a.onnx", "a.safetensors", "a.pt", "a.json", "a"):
        with (folder / name).open("wb") as file:
            file.truncate(1 << 40)
    calls = [f"load_network(path.with_name('a{s}'))" for s in (".rcz", ".onnx", ".safetensors")]
    calls += ["load_network(path.with_name('a.pt'))", "load_certificate(path)"]
    calls += [f"data.load('{n}', path=path)" for n in ("text", "german-nouns", "cmudict")]
    return "a.json", f"every({', '.join(f'lambda: {call}' for call in calls)})"


@bomb
def windows_of_text(folder: Path) -> tuple[str, str]:
    (folder / "t").write_text("ab\n\n" * 100)
    return "t", "data.load('text', path=path, max_length=2**40)"


LIMITED = """
import resource, sys
from pathlib import Path
from recert import data
from recert.readers import load_network
from recert.certificates.certificate import load_certificate
from recert.errors import RecertError
import recert.compression.file, scipy.special, safetensors, safetensors.numpy
try:
    import constriction, onnx
except ImportError:
    pass

def every(*calls):
    for call in calls:
        try:
            call()
        except RecertError:
            continue
        raise SystemExit('a bomb was read')
    raise RecertError('all are refused')

held = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (400 << 20),) * 2)
path = Path(sys.argv[1])
try:
    eval(sys.argv[2])
except RecertError as error:
    print(error)
    raise SystemExit(0)
raise SystemExit('a bomb was read')
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as on Linux")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_within_400_mib(name: str, tmp_path: Path) -> None:
    file, call = BOMBS[name](tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / file), call],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, (found.stdout, found.stderr)


def test_signalling_nans_are_refused_in_one_line(tmp_path: Path) -> None:
    """They make numpy warn where quiet ones do not."""
    save_network(hostile.small_network(1), tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    raw = bytearray(path.read_bytes())
    raw[-8:] = struct.pack("<Q", 0x7FF0000000000001)
    path.write_bytes(bytes(raw))
    with pytest.raises(RecertError):
        load_network(path)
