"""The part of Python's pickles that a torch state_dict is written in, read without running any.

A pickle is a program. Here its instructions build strings, numbers, tuples, lists and dictionaries,
and name torch's storages and tensors; whatever names anything else is refused, and nothing is
called, imported or hashed that the file chose.

torch's files of a state_dict, as float64 arrays: both containers, read without torch.

Sizes are compared with the file's length before anything is made of them, archives that are
compressed (as torch writes none) are refused, and the pickle inside is read by
`recert.readers.weights.pickled`, which runs nothing.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recert.errors import FileError

MOST_AXES, MOST_NAME = 8, 1000
# Numpy's dtype by torch's name of a storage; bfloat16 is read as whole numbers and widened.
FLOATS = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
}


@dataclass(frozen=True)
class Named:
    """A name in a module, which is not imported."""

    path: str


@dataclass(frozen=True)
class Storage:
    """Numbers that lie elsewhere in the file."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, offset, sizes and strides counted in entries."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load(file: BinaryIO) -> Any:
    """One pickle's value: plain Python values, `Storage`, `Tensor`.

    Args:
        file: at the pickle's first byte; left after its last.

    Raises:
        FileError: the pickle ends early, holds anything else, or makes no sense.
    """
    machine = _Machine(file)
    try:
        return machine.run()
    except (IndexError, KeyError, TypeError, ValueError, struct.error):
        raise FileError("it makes no sense as a pickle") from None


class _Machine:
    """A stack, what was set aside at marks, and the memo."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := self.take(1)) != b".":
            if code in _PUSHES:
                value = _PUSHES[code](self)  # may exchange the stack
                self.stack.append(value)
            elif code in _CHANGES:
                _CHANGES[code](self)
            else:
                raise FileError(f"it holds the instruction {code!r}, which no state_dict has")
        return self.stack.pop()

    def take(self, count: int) -> bytes:
        raw = self.file.read(count)
        if len(raw) != count:
            raise FileError("it ends early")
        return raw

    def version(self) -> None:
        self.take(1)

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, form: str) -> str:
        count = self.number(form)
        if count > MOST_NAME:
            raise FileError(f"it holds a name of over {MOST_NAME} bytes")
        return self.take(count).decode("utf-8")

    def since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.marks.pop()
        return found

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def tuple_of(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError
        found = tuple(self.stack[-count:])
        del self.stack[-count:]
        return found

    def named(self) -> Named:
        parts = []
        for _ in range(2):
            line = self.file.readline(MOST_NAME)
            if not line.endswith(b"\n"):
                raise FileError("it ends early")
            parts.append(line[:-1].decode("utf-8"))
        path = ".".join(parts)
        stored = parts[0] == "torch" and parts[1].isidentifier() and parts[1].endswith("Storage")
        if path not in _CALLS and not stored:
            raise FileError(f"it names {path[:80]!r}, and weights only are read, nothing is run")
        return Named(path)

    def call(self) -> None:
        arguments = self.stack.pop()
        what = self.stack.pop()
        if not isinstance(what, Named) or what.path not in _CALLS or type(arguments) is not tuple:
            raise FileError("it calls what no state_dict calls")
        self.stack.append(_CALLS[what.path](*arguments))

    def build(self) -> None:
        # Only the versions of torch's modules, which stand beside an ordered dictionary.
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise FileError("it changes an object in a way that no state_dict does")

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing tuples of tuples may take for ever.
            if type(key) not in (str, int):
                raise FileError("it has a key that is neither a name nor a number")
            target[key] = value

    def put(self, form: str) -> None:
        self.memo[self.number(form)] = self.stack[-1]

    def get(self, form: str) -> Any:
        return self.memo[self.number(form)]

    def storage(self) -> Storage:
        kind, named, key, _, count, *rest = self.stack.pop()
        if kind != "storage" or not isinstance(named, Named) or named.path in _CALLS:
            raise FileError("it speaks of numbers that are no storage of torch's")
        if type(key) is not str or not _whole(count) or rest not in ([], [None]):
            raise TypeError
        return Storage(named.path.removeprefix("torch."), key, count)

    def long(self) -> int:
        return int.from_bytes(self.take(self.number("<B")), "little", signed=True)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    same = type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides)
    if not isinstance(storage, Storage) or not same or len(shape) > MOST_AXES:
        raise TypeError
    if not all(map(_whole, (offset, *shape, *strides))):
        raise FileError("a tensor has sizes that are none")
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError
    return tensor


def _dictionary(*items: Any) -> dict[Any, Any]:
    if items:
        raise FileError("it fills a dictionary in a way that no state_dict does")
    return {}


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
# Instructions that put a value on the stack, and those that do something else with it.
_PUSHES: dict[bytes, Callable[[_Machine], Any]] = {
    b"N": lambda m: None,
    b"\x88": lambda m: True,
    b"\x89": lambda m: False,
    b")": lambda m: (),
    b"]": lambda m: [],
    b"}": lambda m: {},
    b"J": lambda m: m.number("<i"),
    b"K": lambda m: m.number("<B"),
    b"M": lambda m: m.number("<H"),
    b"G": lambda m: m.number(">d"),
    b"\x8a": _Machine.long,
    b"X": lambda m: m.text("<I"),
    b"U": lambda m: m.text("<B"),
    b"c": _Machine.named,
    b"t": lambda m: tuple(m.since_mark()),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"h": lambda m: m.get("<B"),
    b"j": lambda m: m.get("<I"),
    b"Q": _Machine.storage,
}
_CHANGES: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine.version,
    b"(": _Machine.mark,
    b"R": _Machine.call,
    b"b": _Machine.build,
    b"q": lambda m: m.put("<B"),
    b"r": lambda m: m.put("<I"),
    b"a": lambda m: m.append([m.stack.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"s": lambda m: m.set_items(list(m.tuple_of(2))),
    b"u": lambda m: m.set_items(m.since_mark()),
}


Array = NDArray[np.float64]
Bytes = Callable[[Storage], bytes]

MOST_PICKLE = 64 << 20
# Tensors may share their numbers, so together they may claim more than the file holds.
SHARED = 4
# What zipfile raises of archives that are damaged.
_DAMAGED = (
    ValueError,
    KeyError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    RuntimeError,
    NotImplementedError,
    struct.error,
)
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read(raw: bytes) -> dict[str, Array]:
    """The tensors of a state_dict by name, as torch.save wrote it in its zip or older format.

    Args:
        raw: the file's bytes.

    Returns:
        float64 arrays of the tensors' shapes, contiguous.

    Raises:
        FileError: damaged, no state_dict of dense float tensors, or it claims more than it holds.
    """
    state, numbers, order = _zipped(raw) if raw[:2] == b"PK" else _legacy(raw)
    if type(state) is not dict or not state:
        raise FileError("it holds no state_dict")
    found, claimed = {}, 0
    for name, tensor in state.items():
        dtype = FLOATS.get(tensor.storage.kind) if isinstance(tensor, Tensor) else None
        if not isinstance(name, str) or dtype is None:
            shown = name if isinstance(name, (str, int)) else "?"
            raise FileError(
                f"entry {shown!r} is not a dense tensor of floats; store the model's state_dict "
                "alone, without what is not a weight"
            )
        claimed += math.prod(tensor.shape) * int(dtype[1])
        if math.prod(tensor.shape) * int(dtype[1]) > len(raw) or claimed > SHARED * len(raw):
            raise FileError(f"tensor {name!r} claims more entries than the file holds")
        found[name] = _array(tensor, np.dtype(order + dtype), numbers, name)
    return found


def _array(tensor: Tensor, dtype: np.dtype[Any], numbers: Bytes, name: str) -> Array:
    storage, shape = tensor.storage, tensor.shape
    data = numbers(storage)
    if len(data) != storage.count * dtype.itemsize:
        raise FileError(
            f"tensor {name!r} has {len(data)} bytes of numbers where its storage should have "
            f"{storage.count * dtype.itemsize}"
        )
    values = np.frombuffer(data, dtype)
    if dtype.kind == "u":
        values = (values.astype("<u4") << 16).view("<f4")
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, tensor.strides, strict=True))
    if 0 in shape:
        if math.prod(n or 1 for n in shape) > 1 << 50:
            raise FileError(f"tensor {name!r} claims more entries than the file holds")
        return np.zeros(shape)
    if last >= storage.count:
        raise FileError(f"tensor {name!r} reaches beyond its storage")
    view = np.lib.stride_tricks.as_strided(
        values[tensor.offset :],
        shape,
        [s * values.itemsize for s in tensor.strides],
        writeable=False,
    )
    with np.errstate(invalid="ignore"):
        return np.array(view, dtype=np.float64, order="C")


def _zipped(raw: bytes) -> tuple[Any, Bytes, str]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        entries = {entry.filename: entry for entry in archive.infolist()}
        _check(entries, len(archive.infolist()), len(raw))
        (pickled,) = [name for name in entries if name.endswith("/data.pkl")]
        folder = pickled.removesuffix("data.pkl")
        state = load(io.BytesIO(archive.read(pickled)))
        order = f"{folder}byteorder"
        big = order in entries and archive.read(order) == b"big"
    except _DAMAGED as error:
        raise FileError(f"its archive is damaged: {type(error).__name__}") from None

    def numbers(storage: Storage) -> bytes:
        try:
            return archive.read(f"{folder}data/{storage.key}")
        except _DAMAGED:
            raise FileError(f"its numbers {storage.key[:20]!r} are missing or damaged") from None

    return state, numbers, ">" if big else "<"


def _check(entries: dict[str, zipfile.ZipInfo], count: int, size: int) -> None:
    """FileError for archives that torch does not write: repeated names, compressed, too large."""
    if len(entries) != count:
        raise FileError("its archive names a part twice")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise FileError("its archive is compressed, as torch writes none")
    if sum(entry.file_size for entry in entries.values()) > size:
        raise FileError("its archive claims more than the file holds")
    if any(e.file_size > MOST_PICKLE for n, e in entries.items() if n.endswith("data.pkl")):
        raise FileError(f"its pickle has more than {MOST_PICKLE} bytes")


def _legacy(raw: bytes) -> tuple[Any, Bytes, str]:
    """What torch wrote before it wrote archives: pickles one after another, then numbers."""
    file = io.BytesIO(raw)
    if load(file) != _LEGACY_MAGIC or load(file) != _LEGACY_PROTOCOL:
        raise FileError("it does not begin as torch's files do")
    system = load(file)
    little = not isinstance(system, dict) or system.get("little_endian") is not False
    state, keys = load(file), load(file)
    kinds = _kinds(state)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise FileError("it does not say which numbers it holds")
    stored: dict[str, bytes] = {}
    for key in keys:
        size = int(FLOATS.get(kinds.get(key, ""), "f0")[1])
        if not size or key in stored:
            raise FileError("it holds numbers of no dense tensor of floats")
        stored[key] = _numbers(file, size, ">" if not little else "<")

    def numbers(storage: Storage) -> bytes:
        if storage.key not in stored:
            raise FileError(f"its numbers {storage.key[:20]!r} are missing")
        return stored[storage.key]

    return state, numbers, "<" if little else ">"


def _numbers(file: BinaryIO, size: int, order: str) -> bytes:
    told = file.read(8)
    count = int.from_bytes(told, "little" if order == "<" else "big", signed=True)
    data = file.read(count * size) if len(told) == 8 and 0 <= count < 2**40 else b""
    if len(told) < 8 or len(data) != count * size:
        raise FileError("it ends before its numbers do")
    return data


def _kinds(state: Any) -> dict[str, str]:
    """The kind of every storage that an entry is a view of."""
    values = state.values() if isinstance(state, dict) else ()
    return {v.storage.key: v.storage.kind for v in values if isinstance(v, Tensor)}
