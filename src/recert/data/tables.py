"""Tables with named columns, long (a row a step) or wide (a row a unit), as `TableUnits`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from recert.data.layout import Layout
from recert.data.units import ABSENT, NUMBER, TableUnits
from recert.errors import InputError
from recert.utils.validation import short

# Names that columns are known by where no option names them.
USUAL = {
    "sequence": ("sequence", "sequences", "series", "text", "tokens", "input_ids", "x", "values"),
    "label": ("label", "labels", "class", "target", "y"),
    "unit": ("unit", "unit_id", "id", "sequence_id", "series_id", "case"),
    "order": ("order", "step", "time", "timestamp", "t"),
    "lengths": ("length", "lengths", "mask"),
    "group": ("group", "groups", "subject"),
    "role": ("role", "split"),
}
_PLAIN = re.compile(r"[-+0-9.eE ]*", re.ASCII)
ROLES = {"train": False, "training": False, "holdout": True, "test": True}


@dataclass
class DataTable:
    """Columns of equal length: lists of texts (or what JSON holds), or numpy arrays.

    Attributes:
        source: of the table, for messages.
        columns: by name, in the file's order.
        place: where a row stands, in words.
        classes: by column, names of the classes that the source declares.
    """

    source: str
    columns: dict[str, Any]
    place: Callable[[int], str]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def refuse(self, row: int, problem: str) -> InputError:
        """The error for one row."""
        return InputError(f"{self.source}, {self.place(row)}: {problem}")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), ()))

    def where(self, role: str, layout: Layout) -> str | None:
        """The column for a purpose: the one that was named, else one of a usual name.

        Raises:
            InputError: the one that was named is not there.
        """
        named: str | None = getattr(layout, role)
        if named is not None:
            self.check_has(named)
            return named
        lower = {name.lower(): name for name in reversed(self.columns)}
        return next((lower[usual] for usual in USUAL[role] if usual in lower), None)

    def check_has(self, name: str) -> None:
        """InputError where there is no such column."""
        if name not in self.columns:
            names = ", ".join(self.columns)[:200]
            raise InputError(f"{self.source} has no column {name!r}; it has {names}")


def units_of(table: DataTable, layout: Layout) -> TableUnits:
    """The units of a table, long where a column says which rows are one unit, in what order.

    Raises:
        InputError: a column is missing, or a cell is not usable.
    """
    names = ", ".join(table.columns)[:200]
    at = {role: table.where(role, layout) for role in USUAL}
    if at["label"] is None:
        raise InputError(f"{table.source} has no column 'label'; say which is: label=, of {names}")
    if not table.rows:
        raise InputError(f"{table.source} has no rows; it may be cut off")
    unit = at["unit"]
    if unit is None and at["order"] is not None and layout.features is None:
        raise InputError(
            f"{table.source} is in order by {at['order']!r}, and no column says of which "
            f"unit; say unit=, of {names}"
        )
    repeats = unit is not None and len(set(_listed(table, unit))) < len(table.columns[unit])
    return (_long if repeats or (unit and at["order"]) else _wide)(table, layout, at)


def _listed(table: DataTable, name: str) -> list[Any]:
    column = table.columns[name]
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def _features(table: DataTable, layout: Layout, at: Mapping[str, str | None]) -> list[str]:
    """The columns of inputs: those named, else all that have no other purpose."""
    for name in layout.features or ():
        table.check_has(name)
    other = {at[role] for role in USUAL if role != "sequence"}
    found = list(layout.features or (name for name in table.columns if name not in other))
    if not found:
        raise InputError(f"{table.source} has no column of inputs; it has only a label and ids")
    return found


def _reals(table: DataTable, name: str) -> np.ndarray:
    """A column as finite float64 numbers."""
    column = table.columns[name]
    if isinstance(column, np.ndarray) and column.dtype.kind in "iuf":
        found = column.astype(np.float64)
    elif all(isinstance(cell, str) for cell in column) and _PLAIN.fullmatch(" ".join(column)):
        try:
            found = np.array(column, dtype=np.float64)
        except ValueError:  # one of them is no number, and is named below
            found = np.array([_number(table, row, name, cell) for row, cell in enumerate(column)])
    else:
        numbers = (_number(table, row, name, cell) for row, cell in enumerate(column))
        found = np.fromiter(numbers, dtype=np.float64, count=len(column))
    wrong = np.flatnonzero(~np.isfinite(found))
    if wrong.size:
        raise table.refuse(int(wrong[0]), f"{name!r} is missing or infinite; repair or drop it")
    return found


def _number(table: DataTable, row: int, name: str, cell: Any) -> float:
    if isinstance(cell, str) and NUMBER.fullmatch(cell.strip()):
        return float(cell)
    if isinstance(cell, (int, float, np.number)) and not isinstance(cell, bool):
        return float(cell)
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in ABSENT):
        raise table.refuse(row, f"{name!r} is missing; repair or drop the row")
    raise table.refuse(
        row, f"{name!r} is {short(cell)}, no number; say which columns are inputs: features="
    )


def _roles(table: DataTable, name: str | None, rows: list[int]) -> list[bool] | None:
    """Of some rows, whether they are held out."""
    if name is None:
        return None
    found = []
    for row in rows:
        cell = table.columns[name][row]
        word = str(cell).strip().lower()
        if word not in ROLES:
            raise table.refuse(row, f"{name!r} is {short(cell)}; a role is {', '.join(ROLES)}")
        found.append(ROLES[word])
    return found


def _wide(table: DataTable, layout: Layout, at: Mapping[str, str | None]) -> TableUnits:
    """A row a unit: its sequence in one cell, or its steps in many."""
    column = _sequence_column(table, layout, at)
    if column is not None:
        values, integers = _cells(table, column, layout)
    else:
        values, integers = _steps(table, _features(table, layout, at)), False
    labels = _listed(table, str(at["label"]))
    if at["lengths"] is not None:
        _cut(table, values, labels, at["lengths"], layout)
    return _units(table, at, values, labels, list(range(len(labels))), integers)


def _units(
    table: DataTable,
    at: Mapping[str, str | None],
    values: list[Any],
    labels: list[Any],
    rows: list[int],
    integers: bool,
) -> TableUnits:
    """Units, each with the row that speaks for it."""
    group = at["group"]
    return TableUnits(
        table.source,
        values,
        labels,
        lambda i: table.place(rows[i]),
        None if group is None else [table.columns[group][row] for row in rows],
        _roles(table, at["role"], rows),
        integers,
        table.classes.get(str(at["label"])),
    )


def _sequence_column(table: DataTable, layout: Layout, at: Mapping[str, str | None]) -> str | None:
    """The column whose cells are whole sequences; None where steps are columns."""
    if layout.features is not None or layout.sequence is not None:
        return layout.sequence
    left = _features(table, layout, at)
    name = left[0] if len(left) == 1 else at["sequence"]
    if name is None:
        return None
    first = table.columns[name][0]
    one = isinstance(first, (int, float, np.number)) or bool(NUMBER.fullmatch(str(first).strip()))
    return name if len(left) == 1 or not one else None


def _cut(table: DataTable, values: list[Any], labels: list[Any], name: str, layout: Layout) -> None:
    """Leave the valid steps of each row, as its length or its mask says."""
    for row, given in enumerate(table.columns[name]):
        T, mask = len(values[row]), np.ndim(given) > 0
        n = float(np.sum(given)) if mask else _number(table, row, name, given)
        if n != int(n) or not 1 <= n <= T or (mask and len(given) != T):
            raise table.refuse(row, f"{name!r} says {n:g} steps of a sequence of {T}")
        begin = 0 if layout.side == "right" else T - int(n)
        steps = slice(begin, begin + int(n))
        if mask and not np.all(given[steps]):
            raise table.refuse(row, f"{name!r} leaves out steps before others; say side=left?")
        values[row] = values[row][steps]
        if np.ndim(labels[row]):
            labels[row] = labels[row][steps]


def _cells(table: DataTable, name: str, layout: Layout) -> tuple[list[Any], bool]:
    """Sequences that stand in one cell each, and whether all are typed whole numbers."""
    values: list[Any] = []
    integers, kind = True, layout.kind
    for row, cell in enumerate(_listed(table, name)):
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            raise table.refuse(row, f"{name!r} is missing; repair or drop the row")
        if isinstance(cell, str):
            integers = False
            parts = _parts(cell, layout.separator)
            numeric = all(NUMBER.fullmatch(part) for part in parts)
            kind = kind or ("real" if numeric else "tokens")
            if kind == "real":
                values.append(np.array([_number(table, row, name, part) for part in parts]))
            elif layout.kind is not None and numeric:  # asked for tokens, given their numbers
                values.append(np.array([float(part) for part in parts]))
            else:
                values.append(parts if layout.separator else list(cell))
            continue
        many = isinstance(cell, (list, tuple)) or (isinstance(cell, np.ndarray) and cell.ndim > 0)
        value = _array(table, row, name, cell if many else [cell])
        integers = integers and isinstance(value, np.ndarray) and value.dtype.kind in "iu"
        values.append(value)
    return values, integers


def _parts(text: str, separator: str | None) -> list[str]:
    if separator and separator.strip():
        return [part.strip() for part in text.split(separator)]
    return re.split(r"\s+" if separator else r"[\s,;]+", text.strip())


def _array(table: DataTable, row: int, name: str, cell: Any) -> Any:
    """A list as an array (T,) or (T, d), or as a list of texts."""
    if not len(cell):
        raise table.refuse(row, f"{name!r} has no step; drop the row")
    if all(isinstance(each, str) for each in cell):
        return list(cell)
    try:
        value = np.asarray(cell)
    except (ValueError, OverflowError):
        raise table.refuse(row, f"{name!r} has steps of different widths; make them one") from None
    if value.dtype.kind not in "iuf" or value.ndim > 2:
        raise table.refuse(row, f"{name!r} holds what is missing, no number, or nested too deep")
    return value


def _steps(table: DataTable, names: list[str]) -> list[Any]:
    """A column a step; empty cells at a row's end are no steps."""
    columns = [table.columns[name] for name in names]
    if all(isinstance(column, np.ndarray) for column in columns):
        return list(np.stack([_reals(table, name) for name in names], axis=1))
    found = []
    for row, cells in enumerate(zip(*columns, strict=True)):
        steps = len(cells)
        while steps and cells[steps - 1] in ("", None):
            steps -= 1
        pairs = zip(names[:steps], cells[:steps], strict=True)
        found.append(np.array([_number(table, row, name, cell) for name, cell in pairs]))
    return found


def _long(table: DataTable, layout: Layout, at: Mapping[str, str | None]) -> TableUnits:
    """A row a step: rows of one unit are put in order and made one sequence."""
    rows = _ordered_rows(table, str(at["unit"]), at["order"])
    names = [layout.sequence] if layout.sequence else _features(table, layout, at)
    values, integers = _rows_values(table, names, rows, layout)
    label = str(at["label"])
    if layout.each_step:
        labels: list[Any] = [[table.columns[label][row] for row in unit] for unit in rows]
    else:
        labels = [_constant(table, label, unit, ", or say each_step=true") for unit in rows]
    for role in ("group", "role"):
        for unit in rows if at[role] is not None else ():
            _constant(table, str(at[role]), unit, "")
    return _units(table, at, values, labels, [unit[0] for unit in rows], integers)


def _rows_values(
    table: DataTable, names: list[str], rows: list[list[int]], layout: Layout
) -> tuple[list[Any], bool]:
    """Steps of each unit, and whether they are typed whole numbers."""
    first = table.columns[names[0]]
    text = isinstance(first[0], str) and not NUMBER.fullmatch(first[0].strip())
    if len(names) == 1 and (isinstance(layout.alphabet, tuple) or (text and layout.kind != "real")):
        for row, cell in enumerate(first):
            if cell is None or str(cell).strip().lower() in ABSENT:
                raise table.refuse(row, f"{names[0]!r} is missing; repair or drop the row")
        return [[str(first[row]).strip() for row in unit] for unit in rows], False
    x = np.stack([_reals(table, name) for name in names], axis=1)
    typed = isinstance(first, np.ndarray) and first.dtype.kind in "iu"
    return [x[unit] if len(names) > 1 else x[unit, 0] for unit in rows], typed and len(names) == 1


def _constant(table: DataTable, name: str, rows: list[int], remedy: str) -> Any:
    """What all rows of a unit say alike."""
    column = table.columns[name]
    for row in rows:
        one, other = column[rows[0]], column[row]
        if one != other and not (one != one and other != other):
            raise table.refuse(
                row,
                f"{name!r} is {short(other)} within a unit where it is {short(one)} before; keep "
                f"it the same{remedy}",
            )
    return column[rows[0]]


def _ordered_rows(table: DataTable, unit: str, order: str | None) -> list[list[int]]:
    """Rows of each unit, units by first occurrence, rows by the order's column or the file's."""
    found: dict[Any, list[int]] = {}
    for row, name in enumerate(_listed(table, unit)):
        if name is None or name != name or name == "":
            raise table.refuse(row, f"{unit!r} is missing; repair or drop the row")
        found.setdefault(name, []).append(row)
    if order is None:
        return list(found.values())
    keys = _order_keys(table, order)
    for rows in found.values():
        rows.sort(key=keys.__getitem__)
        for one, other in pairwise(rows):
            if keys[one] == keys[other]:
                what = short(table.columns[order][other])
                raise table.refuse(other, f"{order!r} is {what} twice within one unit; keep one")
    return list(found.values())


def _order_keys(table: DataTable, order: str) -> list[Any]:
    """What rows are sorted by: numbers, or dates."""
    column = table.columns[order]
    if isinstance(column, np.ndarray) and column.dtype.kind in "Mm":
        found: list[Any] = column.astype("int64").tolist()
        return found
    first = column[0]
    if isinstance(first, (int, float, np.number)) or NUMBER.fullmatch(str(first).strip()):
        return [float(each) for each in _reals(table, order)]
    keys = []
    for row, cell in enumerate(column):
        try:
            date = datetime.fromisoformat(str(cell).strip())
        except ValueError:
            what = short(cell)
            raise table.refuse(row, f"{order!r} is {what}, no number and no ISO date") from None
        keys.append(date if date.tzinfo else date.replace(tzinfo=UTC))
    return keys
