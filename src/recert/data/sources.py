"""What people have in memory as tables: arrays, frames, torch's datasets and loaders.

No library is imported for it: a tensor is what has ``numpy``, a frame what has columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from recert.data.tables import DataTable
from recert.errors import InputError, type_of


def table_of_arrays(name: str, given: Mapping[str, Any]) -> DataTable:
    """Columns of arrays by purpose, each with one row a unit.

    Raises:
        InputError: there are not as many of one as of another, or one is no array.
    """
    columns = {role: _rows(name, role, value) for role, value in given.items() if value is not None}
    m = len(columns["sequence"])
    for role, column in columns.items():
        if len(column) != m:
            raise InputError(f"{name}: {len(column)} of {role} for {m} sequences; give one each")
    return DataTable(name, columns, lambda row: f"row {row} (from 0)")


def _rows(name: str, role: str, value: Any) -> Any:
    plain = _plain(value)
    if isinstance(plain, np.ndarray) and plain.ndim:
        return list(plain) if plain.ndim > 1 or plain.dtype.kind == "O" else plain
    if isinstance(plain, (list, tuple)):
        return [each[()] if np.shape(each) == () and hasattr(each, "shape") else each
                for each in map(_plain, plain)]  # fmt: skip
    raise InputError(f"{name}: {role} are {type_of(value)}; give an array, or a list of them")


def _plain(value: Any) -> Any:
    """Tensors (on any device) and frames' columns as numpy arrays; all else as it is."""
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    if hasattr(value, "to_numpy"):
        return value.to_numpy()
    return value


def table_of_frame(name: str, frame: Any) -> DataTable:
    """The columns of a frame; the row's number in messages counts from 0.

    Raises:
        InputError: it is no frame, or two columns have one name.
    """
    names = list(map(str, getattr(frame, "columns", ())))
    if not names or not hasattr(frame, "__getitem__"):
        raise InputError(f"{name} is {type_of(frame)}, no frame with columns")
    if len(set(names)) < len(names):
        raise InputError(f"{name} has two columns of one name; name each once")
    columns = {}
    for key, own in zip(names, frame.columns, strict=True):
        column = np.asarray(frame[own])
        columns[key] = column if column.dtype.kind in "iufM" else _cells(column)
    return DataTable(name, columns, lambda row: f"row {row} (from 0)")


def _cells(column: np.ndarray) -> list[Any]:
    """Python's values, None where pandas has its own words for what is missing."""
    absent = ("NAType", "NaTType")
    return [None if type(cell).__name__ in absent else cell for cell in column.tolist()]


def table_of_torch(name: str, dataset: Any) -> DataTable:
    """The items of a ``Dataset``, or of a ``DataLoader``'s batches.

    Raises:
        InputError: an item is not (x, y) or (x, y, length).
    """
    batched = hasattr(dataset, "dataset") and getattr(dataset, "batch_size", None) is not None
    columns: dict[str, list[Any]] = {"sequence": [], "label": [], "lengths": []}
    widths = set()
    for i, item in enumerate(_items(dataset)):
        if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
            what = "batch" if batched else "item"
            raise InputError(
                f"{name}, {what} {i} is {type_of(item)}; give (x, y), or (x, y, length)"
            )
        parts = [_plain(part) for part in item]
        if batched:
            widths.add(np.shape(parts[0])[1:2])
        for role, part in zip(columns, parts, strict=False):
            columns[role].extend(part if batched else [part])
    if not columns["sequence"]:
        raise InputError(f"{name} is empty; give at least one item")
    if not columns["lengths"]:
        del columns["lengths"]
        if len(widths) > 1:
            raise InputError(f"{name}: batches of different widths are padded; add lengths to each")
    return table_of_arrays(name, columns)


def _items(dataset: Any) -> Iterator[Any]:
    """A loader's or an iterable's items; those of what has only length and places, one by one."""
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        return (dataset[i] for i in range(len(dataset)))
    try:
        return iter(dataset)
    except TypeError:
        raise InputError(f"{type_of(dataset)} is no Dataset and no DataLoader") from None
