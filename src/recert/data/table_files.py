"""Files as `DataTable`: .csv, .jsonl, .parquet, .arrow, and folders that `datasets` saved.

What comes from strangers is data: nothing in it is run, and what it declares of its size is
compared with what a file may have before memory is taken for it.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from recert.data.tables import DataTable
from recert.errors import FileError, InputError
from recert.utils import files

LARGEST_TEXT = 2**30
MOST_ROWS, MOST_VALUES = 10**8, 2**31
_JSON = 2**20


def text_of(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        FileError: it cannot be read, is too large, or is in another encoding.
    """
    raw = files.read_bytes(path, LARGEST_TEXT)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileError(f"{path} is in UTF-16; save it in UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: byte {error.start} is not UTF-8; save it in UTF-8") from None
    if not text.strip():
        raise FileError(f"{path} is empty; check the path")
    return text


def read_csv(path: Path) -> DataTable:
    """A table with a line of names; fields are separated by commas, semicolons or tabs.

    Raises:
        FileError: it cannot be read; InputError: a line is damaged.
    """
    text = text_of(path)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    header: list[str] = []
    cells: list[list[str]] = []
    lines: list[int] = []
    before = 0
    try:
        for row in rows:
            number, before = before + 1, rows.line_num
            if not row:
                continue
            if not header:
                header = _header(path.name, row)
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{path.name}, line {number}: {len(row)} fields instead of {len(header)}"
                )
            cells.append(row)
            lines.append(number)
    except csv.Error as error:
        raise InputError(f"{path.name}, line {rows.line_num}: {error}; check its quotes") from None
    columns = zip(*cells, strict=True) if cells else ([] for _ in header)
    named = {name: list(column) for name, column in zip(header, columns, strict=True)}
    return DataTable(path.name, named, lambda row: f"line {lines[row]}", {})


def _delimiter(text: str) -> str:
    first = re.sub('"[^"]*"', "", text.lstrip().partition("\n")[0])
    return max(",;\t", key=first.count)


def _header(source: str, row: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    if len(set(names)) < len(names) or "" in names:
        raise InputError(f"{source}: columns without a name, or two of one name; name each")
    if all(re.fullmatch(r"[-+0-9.eE]+", name, re.ASCII) for name in names):
        raise InputError(f"{source} begins with numbers; give it a first line of column names")
    return names


def read_jsonl(path: Path) -> DataTable:
    """A JSON object a line, all with the same keys.

    Raises:
        FileError: it cannot be read; InputError: a line is damaged.
    """
    columns: dict[str, list[Any]] = {}
    lines: list[int] = []
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            entry = files.parse_json(line.encode())
        except ValueError as error:
            raise InputError(f"{where} is not valid JSON ({error})") from None
        if not isinstance(entry, dict) or (columns and set(entry) != set(columns)):
            keys = ", ".join(columns) or "keys"
            raise InputError(f"{where} is no object with the keys of the first line ({keys[:80]})")
        for name, value in entry.items():
            # Lists of Python's numbers are five times as large as arrays.
            compact = _compact(value) if isinstance(value, list) else value
            columns.setdefault(name, []).append(compact)
        lines.append(number)
    return DataTable(path.name, dict(columns), lambda row: f"line {lines[row]}", {})


def _compact(value: list[Any]) -> Any:
    try:
        found = np.asarray(value)
    except (ValueError, OverflowError):
        return value
    return found if found.dtype.kind in "if" else value


def pyarrow() -> Any:
    """The library that reads Arrow and Parquet; MissingDependencyError where there is none."""
    try:
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise files.missing(
            "pyarrow", "'recert[tables]'", "reading .parquet and .arrow files"
        ) from None
    return pyarrow


def read_arrow(path: Path) -> DataTable:
    """A table in Parquet, or in Arrow's file or stream format.

    Raises:
        FileError: it cannot be read; MissingDependencyError: pyarrow is not installed.
    """
    return _table(path.name, _arrow_table(path), {})


def _arrow_table(path: Path) -> Any:
    pa = pyarrow()
    try:
        with files.open_regular(path) as file:
            if path.suffix == ".parquet":
                return _parquet(pa, path, file)
            return _ipc(pa, path, file)
    except (OSError, pa.ArrowException, MemoryError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else "not enough memory"
        raise FileError(f"cannot read {path}: {reason}; it may be damaged") from None


def _parquet(pa: Any, path: Path, file: Any) -> Any:
    found = pa.parquet.ParquetFile(file)
    meta = found.metadata
    groups = [meta.row_group(k) for k in range(meta.num_row_groups)]
    values = sum(g.column(c).num_values for g in groups for c in range(g.num_columns))
    _check_size(path, meta.num_rows, values)
    return found.read()


def _ipc(pa: Any, path: Path, file: Any) -> Any:
    """Batches one after the other, so that at most one is too much."""
    begin = file.read(6)
    file.seek(0)
    if begin == b"ARROW1":
        reader = pa.ipc.open_file(file)
        batches = (reader.get_batch(k) for k in range(reader.num_record_batches))
    else:
        reader = pa.ipc.open_stream(file)
        batches = iter(reader)
    kept, rows, size = [], 0, 0
    for batch in batches:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        _check_size(path, rows, size // 8)
        kept.append(batch)
    table = pa.Table.from_batches(kept, reader.schema)
    table.validate(full=True)
    return table


def _check_size(path: Path, rows: int, values: int) -> None:
    if rows > MOST_ROWS or values > MOST_VALUES:
        raise FileError(f"{path} declares {rows:,} rows and {values:,} values, too many to read")


def _table(source: str, table: Any, classes: dict[str, tuple[str, ...]]) -> DataTable:
    names = table.column_names
    if len(set(names)) < len(names):
        raise InputError(f"{source} has two columns of one name; name each once")
    columns = {name: _column(table.column(name)) for name in names}
    return DataTable(source, columns, lambda row: f"row {row + 1}", classes)


def _column(column: Any) -> Any:
    """As a numpy array of numbers, or a list of arrays, or a list of what Python has for it."""
    array = column.combine_chunks()
    pa = pyarrow()
    kind, types = array.type, pa.types
    if types.is_dictionary(kind):
        return _column(pa.chunked_array([array.dictionary_decode()]))
    if (types.is_integer(kind) or types.is_floating(kind)) and not array.null_count:
        return array.to_numpy(zero_copy_only=False)
    nested = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if nested and not array.null_count:
        inner = array.flatten()
        plain = types.is_integer(inner.type) or types.is_floating(inner.type)
        if plain and not inner.null_count:
            ends = np.cumsum(array.value_lengths().to_numpy(zero_copy_only=False))
            return np.split(inner.to_numpy(zero_copy_only=False), ends[:-1]) if len(ends) else []
    return array.to_pylist()


def read_saved(path: Path) -> DataTable:
    """A folder that Hugging Face's `datasets` saved; splits of a `DatasetDict` become roles.

    Raises:
        FileError: a file is missing or damaged; MissingDependencyError: pyarrow is not installed.
    """
    splits = path / "dataset_dict.json"
    if not splits.exists():
        return _saved(path)
    names = _json(splits).get("splits")
    if not isinstance(names, list) or not names:
        raise FileError(f"{splits} names no splits; save the data set again")
    parts = [_saved(_inside(path, name)) for name in names]
    first = parts[0]
    if any(set(part.columns) != set(first.columns) for part in parts):
        raise InputError(f"{path.name}: its splits have different columns")
    columns: dict[str, list[Any]] = {
        name: [each for part in parts for each in part.columns[name]] for name in first.columns
    }
    columns["split"] = [n for n, part in zip(names, parts, strict=True) for _ in range(part.rows)]
    where = [f"split {n}, row {k + 1}" for n, p in zip(names, parts, strict=True)
             for k in range(p.rows)]  # fmt: skip
    return DataTable(path.name, columns, lambda row: where[row], first.classes)


def _saved(path: Path) -> DataTable:
    state, info = _json(path / "state.json"), _json(path / "dataset_info.json")
    listed = state.get("_data_files")
    if state.get("_indices_data_files") or not isinstance(listed, list) or not listed:
        raise FileError(f"{path / 'state.json'} lists no data files; save the data set again")
    pa = pyarrow()
    names = [each.get("filename") if isinstance(each, dict) else None for each in listed]
    tables = [_arrow_table(_inside(path, name)) for name in names]
    features = info.get("features")
    classes = {
        name: tuple(map(str, feature["names"]))
        for name, feature in (features.items() if isinstance(features, dict) else ())
        if isinstance(feature, dict) and isinstance(feature.get("names"), list)
    }
    try:
        return _table(path.name, pa.concat_tables(tables), classes)
    except pa.ArrowException:
        raise FileError(f"{path}: its files do not belong together; save it again") from None


def _inside(path: Path, name: Any) -> Path:
    """A file or folder of a folder, and nothing outside it."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w][\w.=-]*", name):
        raise FileError(f"{path} names {str(name)[:40]!r}, which is no file of it; save it again")
    return path / name


def _json(path: Path) -> dict[str, Any]:
    found = files.read_json(path, _JSON)
    if not isinstance(found, dict):
        raise FileError(f"{path} is no JSON object; save the data set again")
    return found
