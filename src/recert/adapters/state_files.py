"""torch's files of a state_dict, as float64 arrays: both containers, read without torch.

Sizes are compared with the file's length before anything is made of them, archives that are
compressed (as torch writes none) are refused, and the pickle inside is read by
`recert.adapters.pickles`, which runs nothing.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recert.adapters import pickles
from recert.adapters.pickles import FLOATS, Storage, Tensor
from recert.errors import FileError

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
        state = pickles.load(io.BytesIO(archive.read(pickled)))
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
    if pickles.load(file) != _LEGACY_MAGIC or pickles.load(file) != _LEGACY_PROTOCOL:
        raise FileError("it does not begin as torch's files do")
    system = pickles.load(file)
    little = not isinstance(system, dict) or system.get("little_endian") is not False
    state, keys = pickles.load(file), pickles.load(file)
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
