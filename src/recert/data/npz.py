"""NumPy's .npz files as tables: arrays of numbers or texts, never pickled objects."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from recert.data.layout import Layout
from recert.data.tables import DataTable
from recert.errors import FileError, InputError
from recert.utils.files import open_regular

MOST_BYTES = 2**33
# What is compressed better than so, and is larger than this, is made to fill the memory.
_EXPANSION, _SMALL = 200, 2**26


def read_npz(path: Path, label: str | None) -> DataTable:
    """The arrays of an .npz file that have a row for each label, as columns.

    Arrays such as x_train, y_train, x_test, y_test are put together, with a column ``role``.

    Raises:
        FileError: the file is damaged, holds pickled objects, or expands beyond all measure.
        InputError: no array has as many rows as the labels.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            names = [n for n in archive.namelist() if n.endswith(".npy")]
            room = [MOST_BYTES]
            columns = {n.removesuffix(".npy"): _array(archive, n, room) for n in names}
    except MemoryError:
        raise FileError(f"{path} holds more than there is memory for") from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["damaged"])[0]
        raise FileError(f"cannot read {path}: {reason[:160]}; write it with numpy.savez") from None
    table = DataTable(path.name, _together(columns), lambda row: f"row {row} (from 0)")
    name = table.where("label", Layout(label=label))
    m = len(table.columns[name]) if name is not None and np.ndim(table.columns[name]) else -1
    kept = {n: a for n, a in table.columns.items() if np.ndim(a) and len(a) == m}
    if len(kept) < 2:
        shapes = ", ".join(f"{n} {a.shape}" for n, a in columns.items())[:200] or "none"
        raise InputError(f"{path.name} needs labels and sequences, a row each; it has {shapes}")
    table.columns = kept
    return table


def _together(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Pairs of arrays NAME_train and NAME_test as one column each, and their role."""
    found: dict[str, Any] = dict(arrays)
    for one in [name for name in arrays if name.endswith("_train")]:
        other = one.removesuffix("train") + "test"
        if other in arrays and arrays[one].ndim and arrays[other].ndim:
            found[one.removesuffix("_train")] = [*found.pop(one), *found.pop(other)]
            found["role"] = ["train"] * len(arrays[one]) + ["test"] * len(arrays[other])
    return found


def _array(archive: zipfile.ZipFile, name: str, room: list[int]) -> np.ndarray:
    """One array, its declared size compared with the file's before memory is taken for it."""
    entry = archive.getinfo(name)
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"{name} is of an unknown version")
    if dtype.hasobject or dtype.kind not in "biufU":
        raise ValueError(f"{name} holds {dtype}, no numbers or texts")
    size = math.prod(shape) * dtype.itemsize
    room[0] -= size
    if size > entry.file_size or room[0] < 0:
        raise ValueError(f"{name} declares {size} bytes, more than it has or there may be")
    if entry.file_size > max(entry.compress_size * _EXPANSION, _SMALL):
        raise ValueError(f"{name} expands {entry.compress_size} bytes to {entry.file_size}")
    with archive.open(entry) as file:
        found: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return found
