"""Hostile files: every reader with a valid file, and ways to damage one. Used by tests and fuzzers.

A `Target` writes its valid files into a folder, one of them replaced, and reads them as the package
does. `attack` fails unless that gives a value or one line of a `RecertError`.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import random
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recert.errors import RecertError

HERE = Path(__file__).parent
Mutate = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """A reader: the valid files, which of them is attacked, how it is read, how it is damaged."""

    name: str
    files: Mapping[str, bytes]
    victim: str
    read: Callable[[Path], object]
    mutate: tuple[Mutate, ...]

    @property
    def seed(self) -> bytes:
        """The valid file."""
        return self.files[self.victim]

    def mutated(self, rng: random.Random) -> bytes:
        """A damaged file: by structure mostly, by bytes otherwise."""
        kind = rng.choice((*self.mutate, *self.mutate, damaged_bytes))
        return kind(self.seed, rng)


def attack(target: Target, raw: bytes, folder: Path) -> str:
    """Read one file; the kind of error, or ``"read"``.

    Raises:
        AssertionError: a message of ours that is not one printable line.
        Exception: whatever else escapes the reader, which is a defect.
    """
    for name, content in target.files.items():
        (folder / name).write_bytes(raw if name == target.victim else content)
    try:
        target.read(folder)
    except RecertError as error:
        text = str(error)
        assert text.strip() and len(text) < 5000, text[:200]
        return type(error).__name__
    return "read"


# Ways to damage bytes.

_INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62,
                2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip


def damaged_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Some flips, cuts, repeats and numbers in place."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        kind, at = rng.randrange(7), rng.randrange(len(data) + 1)
        size = rng.choice((1, 2, 4, 8, 64))
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = rng.randbytes(size)
        elif kind == 4:
            data[at:at] = data[at : at + size] * rng.choice((1, 1, 50))
        elif kind == 5:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(_INTERESTING) % 256**width
            data[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif data:
            del data[rng.randrange(len(data)) :]
    return bytes(data)


# Ways to damage JSON.

RAW_JSON = (
    "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1" + "0" * 400, "1" + "0" * 5000, "-0",
    "9007199254740993", "18446744073709551616", "1e-400", "0.1", "-1", "0", "1", "true", "null",
    '"\\ud800"', '"\\u0000"', '"\\u001b[31m"', '"[/red]"', '"[bold"', '"$\\\\bad{$"', '"' * 2,
    '"' + "a" * 3000 + '"', "[]", "{}", "[" * 90 + "]" * 90, "[" * 5000 + "]" * 5000,
    '{"a":' * 900 + "1" + "}" * 900, '{"a":1,"a":2}', '"../../../etc/passwd"', '"/dev/zero"', "3",
    '"x\\ny"', '"%s{0}"', "[1,[2,[3]]]", '["U","W"]', '"lstm"', "300", "1.0", "65536", "2147483648",
)  # fmt: skip
_HOLE = "@@hole-{}@@"


def damaged_json(raw: bytes, rng: random.Random) -> bytes:
    """Values replaced, removed, doubled or exchanged; text that is no JSON here and there."""
    value: Any = {"": json.loads(raw)}
    holes: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        places = list(_places(value))
        holder, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind <= 2:
            holder[key] = _HOLE.format(len(holes))
            holes.append(rng.choice(RAW_JSON))
        elif kind == 3 and isinstance(holder, dict) and key != "":
            del holder[key]
        elif kind == 4:
            other, where = rng.choice(places)
            # A copy, so that nothing comes to hold itself.
            holder[key] = copy.deepcopy(other[where])
        elif isinstance(holder, dict) and key != "":
            holder[f"{key}{rng.choice(('', '_', chr(0xD800), chr(27)))}"] = holder.pop(key)
    text = json.dumps(value.get("", 0), ensure_ascii=rng.random() < 0.9)
    for k, hole in enumerate(holes):
        text = text.replace(json.dumps(_HOLE.format(k)), hole)
    if rng.random() < 0.03:
        text = "\ufeff" + text
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any) -> Any:
    """Every (container, key) of a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _places(inner)


def damaged_safetensors(raw: bytes, rng: random.Random) -> bytes:
    """The header damaged as JSON, its length mostly right."""
    size = int.from_bytes(raw[:8], "little")
    header = damaged_json(raw[8 : 8 + size], rng)
    told = len(header) if rng.random() < 0.9 else rng.choice(_INTERESTING)
    return told.to_bytes(8, "little") + header + raw[8 + size :]


def damaged_zip(raw: bytes, rng: random.Random) -> bytes:
    """A file in the archive damaged, its checksum right; sometimes compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        victim = next(n for n in names if n.endswith("data.pkl"))
        victim = victim if rng.random() < 0.8 else rng.choice(names)
        for name in names:
            content = old.read(name)
            if name == victim:
                content = damaged_bytes(content, rng)
            kind = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
            new.writestr(name if rng.random() < 0.98 else f"../{name}", content, kind)
    return out.getvalue()


def damaged_onnx(raw: bytes, rng: random.Random) -> bytes:
    """Fields of random messages set, cleared, doubled, reordered."""
    import onnx

    model = onnx.ModelProto.FromString(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _damage_message(rng.choice(list(_messages(model))), rng)
    return model.SerializeToString()


def _messages(message: Any) -> Any:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if _repeated(field) else [value]:
                yield from _messages(inner)


def _repeated(field: Any) -> bool:
    found = getattr(field, "is_repeated", None)
    return bool(found) if found is not None else field.label == field.LABEL_REPEATED


_NUMBERS = (0, 1, -1, 2, 3, 4, 7, 8, 16, 100, 2**20, 2**31 - 1, 2**40, 2**62, -(2**63), 2**63 - 1)
_STRINGS = ("", "X", "h", "Loop", "If", "Expand", "Tile", "Range", "ConstantOfShape", "Gather",
            "../../etc/passwd", "\x1b[31m", "a\nb", "z" * 500, "Constant", "Reshape", "Slice",
            "Concat", "LSTM", "Pad", "RNN", "axis", "to", "perm", "value")  # fmt: skip


def _damage_message(message: Any, rng: random.Random) -> None:
    """One field of one message."""
    field = rng.choice(message.DESCRIPTOR.fields)
    if rng.random() < 0.5 and message.ListFields():
        field = rng.choice(message.ListFields())[0]
    if rng.random() < 0.1:
        message.ClearField(field.name)
        return
    try:
        if _repeated(field):
            _damage_list(getattr(message, field.name), field, rng)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
        else:
            setattr(message, field.name, _plain(field, rng))
    except (TypeError, ValueError, OverflowError):
        return


def _damage_list(values: Any, field: Any, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if field.message_type is not None:
        if kind == 0 or not values:
            values.add()
        elif kind == 1:
            del values[rng.randrange(len(values))]
        else:
            values.add().CopyFrom(rng.choice(list(values)))
        return
    if kind == 0 and values:
        del values[rng.randrange(len(values))]
    elif kind == 1 or not values:
        values.append(_plain(field, rng))
    elif kind == 2:
        values[rng.randrange(len(values))] = _plain(field, rng)
    else:
        values.extend(list(values))


def _plain(field: Any, rng: random.Random) -> Any:
    kind = field.cpp_type
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e30, float("nan"), float("inf")))
    if kind == field.CPPTYPE_STRING:
        text = rng.choice(_STRINGS)
        return text if field.type == field.TYPE_STRING else text.encode() * rng.choice((1, 3))
    if kind == field.CPPTYPE_ENUM:
        return rng.randrange(25)
    return rng.choice(_NUMBERS)


def damaged_lines(raw: bytes, rng: random.Random) -> bytes:
    """Lines doubled, dropped, exchanged, lengthened."""
    lines = raw.split(b"\n")
    for _ in range(rng.choice((1, 2, 5))):
        at = rng.randrange(len(lines))
        kind = rng.randrange(6)
        if kind == 0:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif kind == 1 and len(lines) > 1:
            del lines[at]
        elif kind == 2:
            lines[at] = lines[at][:300] * rng.choice((2, 1000))
        elif kind == 3:
            lines[at] += rng.choice((b'"', b'"\r', b"\0", b"\xff", b",,,", b"#", b"\xe2\x80\xa8"))
        elif kind == 4:
            lines[at] = damaged_bytes(lines[at], rng)
        else:
            lines[at] = rng.choice(("ſ", "İ" * 50, "\ufeff", "\ud800", "ß" * 9)).encode(
                "utf-8", "surrogatepass"
            )
    return b"\n".join(lines)


# The readers.


def _sealed_anew(path: Path) -> None:
    """Put the seal in order where the file is JSON at all, as whoever forges one would."""
    from recert.certificates.schema import seal

    if not path.is_file():
        return
    try:
        entry = json.loads(path.read_bytes())
        entry["seal"] = seal(entry)
        path.write_text(json.dumps(entry, allow_nan=False))
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError):
        return


def read_certificate(folder: Path) -> object:
    """Read, print and draw nothing: what `recert compare` does with a file."""
    from recert.certificates.certificate import load_certificate
    from recert.report import value_text
    from recert.utils.consoles import results
    from recert.workflows.compare import show

    path = folder / "certificate.json"
    _sealed_anew(path)
    certificate = load_certificate(path)
    str(certificate)
    json.dumps(certificate.to_json(), allow_nan=False).encode()
    for bound in certificate.bounds:
        value_text(bound)
    console = results()
    console.file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    show([path], console=console)
    return certificate


def _network(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from recert.readers import load_network
        from recert.workflows.networks import meta_of

        network = load_network(folder / name)
        if not name.endswith(".onnx"):
            meta_of(folder / name)
        return network

    return read


def _posterior(folder: Path) -> object:
    from recert.pac_bayes.posterior import load_posterior

    found = load_posterior(folder)
    return found.divergence


def _record(folder: Path) -> object:
    """A posterior's record, with the posterior and the data that it speaks of."""
    from recert.workflows import posteriors

    return posteriors.sample_of(folder)


def _meta(folder: Path) -> object:
    from recert.workflows import networks

    return networks.roles_of(folder / "network.safetensors", "synthetic")


def _program_record(folder: Path) -> object:
    from recert.workflows import networks

    return networks.roles_of(folder / "program.rcz", "synthetic")


def _data(name: str, **paths: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from recert import data

        return data.load(name, **{key: folder / value for key, value in paths.items()})

    return read


@functools.cache
def targets() -> dict[str, Target]:
    """Every reader by name; those whose optional library is absent are left out."""
    found = [*_json_targets(), *_weight_targets(), *_data_targets()]
    for optional in (_state_dicts, _onnx, _programs):
        try:
            found += optional()
        except ImportError:
            continue
    return {target.name: target for target in found}


def small_network(seed: int = 0) -> Any:
    """Vanilla, 3 units, 4 letters, 2 classes, with a bias: of the synthetic data's sizes."""
    from recert.networks.network import vanilla

    rng = np.random.default_rng(seed)
    U, W, V = rng.normal(size=(3, 3)) / 4, rng.normal(size=(3, 4)), rng.normal(size=(2, 3))
    return vanilla(U, W, V, b=rng.normal(size=3) / 4)


def _folder_of(write: Callable[[Path], object]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        return {p.name: p.read_bytes() for p in sorted(Path(name).iterdir())}


DATA = {"name": "synthetic", "options": {"m": 60, "seed": 0}}


def _synthetic_meta() -> dict[str, Any]:
    from recert import data
    from recert.workflows import split

    loaded = data.load("synthetic", **DATA["options"])
    divided = split.for_training(loaded, units=None, usual=None, holdout=10, seed=3)
    return {
        "data": DATA, **split.recorded(divided, 3), "max_length": loaded.max_length
    }  # fmt: skip


def _json_targets() -> list[Target]:
    import recert
    from recert.pac_bayes.posterior import around, save_posterior
    from recert.readers import save_network

    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 4, (80, 3)), rng.integers(0, 2, 80)
    certificate = recert.certify(
        small_network(), x, y, max_length=3, holdout=(x, y), population=10**6
    )
    network, meta = small_network(), _synthetic_meta()
    saved = _folder_of(lambda f: save_network(network, f, meta={**meta, "caps": None, "tried": 2}))
    posterior = _folder_of(
        lambda f: save_posterior(around(network, 20, "a" * 64, 0.1, index=3, temperature=1.0), f)
    )
    record = {"data.json": json.dumps({**meta, "encoding": "fixed", "tried": 1}).encode()}
    certified = _folder_of(lambda f: certificate.save(f / "certificate.json"))
    json_ = (damaged_json,)
    return [
        Target("certificate", certified, "certificate.json", read_certificate, json_),
        Target("description", saved, "network.json", _network(""), json_),
        Target("description's data", saved, "network.json", _meta, json_),
        Target("posterior", posterior, "posterior.json", _posterior, json_),
        Target("posterior's record", record, "data.json", _record, json_),
    ]


def _weight_targets() -> list[Target]:
    from recert.pac_bayes.posterior import around, save_posterior
    from recert.readers import save_network

    saved = _folder_of(lambda f: save_network(small_network(), f))
    posterior = _folder_of(lambda f: save_posterior(around(small_network(), 20, "a" * 64, 0.1), f))
    safe = (damaged_safetensors,)
    free = dict(saved)
    free["network.json"] = json.dumps(
        {k: v for k, v in json.loads(saved["network.json"]).items() if k != "digest"}
    ).encode()
    alone = {"network.safetensors": saved["network.safetensors"]}
    return [
        Target("safetensors", free, "network.safetensors", _network(""), safe),
        Target("undescribed", alone, "network.safetensors", _network(""), safe),
        Target("scales", posterior, "scales.safetensors", _posterior, safe),
    ]


def _state_dicts() -> list[Target]:
    import torch

    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"rnn": torch.nn.GRU(4, 3), "head": torch.nn.Linear(3, 2)})
    entry = {
        "format": "recert-network", "version": 2, "input": "onehot",
        "layers": [{"cell": "gru", "torch": "rnn", "index": 0}],
        "head": {"V": "head.weight", "b_V": "head.bias"},
    }  # fmt: skip
    found = []
    for name, new in (("state_dict", True), ("legacy state_dict", False)):
        out = io.BytesIO()
        torch.save(model.state_dict(), out, _use_new_zipfile_serialization=new)
        files = {"m.pt": out.getvalue(), "m.json": json.dumps(entry).encode()}
        ways: tuple[Mutate, ...] = (damaged_zip,) if new else (damaged_bytes,)
        found.append(Target(name, files, "m.pt", _network("m.pt"), ways))
    return found


def onnx_model(layers: int = 1) -> Any:
    """An embedding, an LSTM, a linear head, time first."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def constant(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"]),
        helper.make_node("LSTM", ["e", "W", "R", "B"], ["Y", "h"], hidden_size=3),
        helper.make_node("Squeeze", ["h", "zero"], ["s"]),
        helper.make_node("Gemm", ["s", "V", "b"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["T", "N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [constant("table", 4, 5), constant("W", 1, 12, 5), constant("R", 1, 12, 3),
         constant("B", 1, 24), constant("V", 2, 3), constant("b", 2),
         numpy_helper.from_array(np.array([0]), "zero")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _onnx() -> list[Target]:
    files = {"m.onnx": onnx_model().SerializeToString()}
    return [Target("onnx", files, "m.onnx", _network("m.onnx"), (damaged_onnx,))]


def _programs() -> list[Target]:
    import constriction  # noqa: F401

    from recert.compression import SUFFIX, encode
    from recert.compression.parts import coded, rounded_to
    from recert.compression.program import Program

    network = small_network()
    program = Program(network, coded(rounded_to(network, 0.5, 0.5)))
    name = f"program{SUFFIX}"
    files = {
        name: encode(program),
        "program.json": json.dumps({"meta": _synthetic_meta()}).encode(),
    }
    return [
        Target("program", files, name, _network(name), (damaged_bytes,)),
        Target("program's record", files, "program.json", _program_record, (damaged_json,)),
    ]


NOUNS = "lemma,pos,genus,genus 1\n" + "".join(
    f"{word},Substantiv,{genus},\n"
    for word, genus in (("Haus", "n"), ("Katze", "f"), ("Hund", "m"), ("Öl", "n"), ('"A,b"', "f"))
)
SOUNDS = "abandon AH0 B AE1 N D AH0 N\nabbey AE1 B IY0 # x\nabout(2) AH0 B AW1 T\nago AH0 G OW1\n"


def _data_targets() -> list[Target]:
    import gzip
    import struct

    rng = np.random.default_rng(2)
    images = struct.pack(">4B3I", 0, 0, 8, 3, 5, 4, 6) + rng.bytes(120)
    labels = struct.pack(">4BI", 0, 0, 8, 1, 5) + bytes([0, 1, 2, 3, 9])
    text = "= A title =\n\nOne two three.\n\nFour\u2028five, sechs: ß\n".encode()
    plain = {"i": images, "l": labels}
    zipped = {"i.gz": gzip.compress(images), "l.gz": gzip.compress(labels)}
    lines = (damaged_lines,)
    pair = _data("idx", images="i", labels="l")
    pair_gz = _data("idx", images="i.gz", labels="l.gz")
    return [
        Target("idx images", plain, "i", pair, (damaged_bytes,)),
        Target("idx labels", plain, "l", pair, (damaged_bytes,)),
        Target("idx gzipped", zipped, "i.gz", pair_gz, (_regzipped, damaged_bytes)),
        Target("text", {"t": text}, "t", _data("text", path="t"), lines),
        Target("nouns", {"n": NOUNS.encode()}, "n", _data("german-nouns", path="n"), lines),
        Target("cmudict", {"c": SOUNDS.encode()}, "c", _data("cmudict", path="c"), lines),
    ]


def _regzipped(raw: bytes, rng: random.Random) -> bytes:
    import gzip

    return gzip.compress(damaged_bytes(gzip.decompress(raw), rng))
