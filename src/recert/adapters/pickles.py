"""The part of Python's pickles that a torch state_dict is written in, read without running any.

A pickle is a program. Here its instructions build strings, numbers, tuples, lists and dictionaries,
and name torch's storages and tensors; whatever names anything else is refused, and nothing is
called, imported or hashed that the file chose.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

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
