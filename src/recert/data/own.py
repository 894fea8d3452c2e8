"""A user's own data, by path: .npz, .parquet, .arrow, .csv, .jsonl, .ts, or a saved folder.

What was said of a file can be remembered beside it, in ``FILE.recert.json``; options that are given
later go before what is remembered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recert.data import table_files
from recert.data.dataset import SequenceData
from recert.data.layout import Layout, layout_of
from recert.data.npz import read_npz
from recert.data.tables import units_of
from recert.data.ts_format import read_ts
from recert.data.units import TableUnits, sequence_fields
from recert.errors import FileError, InputError
from recert.utils import files, validation

SUFFIXES = (".npz", ".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".ndjson", ".ts")
SIDECAR, SCHEMA = ".recert.json", "recert-data/1"


def is_path(name: str) -> bool:
    """Whether a name of data is meant as a path."""
    if not Path(name).name:  # nothing, a dot, a root
        return False
    return name.lower().endswith(SUFFIXES) or "/" in name or "\\" in name or Path(name).exists()


def load(
    path: str | Path,
    *,
    holdout: str | Path | None = None,
    sequence: str | None = None,
    features: str | list[str] | tuple[str, ...] | None = None,
    label: str | None = None,
    unit: str | None = None,
    order: str | None = None,
    lengths: str | None = None,
    group: str | None = None,
    role: str | None = None,
    kind: str | None = None,
    padding: float | None = None,
    side: str | None = None,
    separator: str | None = None,
    each_step: bool | None = None,
    classes: str | int | list[str] | tuple[str, ...] | None = None,
    alphabet: str | int | list[str] | tuple[str, ...] | None = None,
    max_length: int | None = None,
    input_bound: float | None = None,
    called: str | None = None,
    seed: int | None = None,
) -> SequenceData:
    """Read labelled sequences from a file or a folder, by its ending.

    Args:
        path: of the data.
        holdout: a second file of the same layout, whose units are held out; nothing is read off it.
        sequence: column (or array) that holds a whole sequence: a list, or a text.
        features: columns of a step's numbers in a long table, or of the steps in a wide one.
        label: column of the class; by default one called label, class, target or y.
        unit: column that says which rows are one sequence: then the table is long.
        order: column that orders the rows of a sequence.
        lengths: column or array of valid steps; an array may be a mask.
        group: column of what is independent, where several sequences are not.
        role: column that says train or holdout.
        kind: "real" or "tokens".
        padding: value that stands for steps that are none.
        side: of the padding: "right" or "left".
        separator: between the tokens or numbers of a text; without one tokens are its letters.
        each_step: whether every step has a label of its own.
        classes: names in order, or their number; read off the labels where nobody says.
        alphabet: names of the tokens in order, or their number; likewise, which no certificate
            takes for fixed beforehand.
        max_length: T, declared; longer sequences are cut.
        input_bound: declared bound on the norm of a step.
        called: what one unit is, in a word.
        seed: of a shuffle, as the commands do it: the first units of a file that is sorted are no
            sample of it. None keeps the file's order.

    Raises:
        InputError: a row is not usable, or a column is not there.
        FileError: a file is missing or damaged.
        MissingDependencyError: .parquet and .arrow need pyarrow.
    """
    asked = {
        n: v for n, v in locals().items() if n not in ("path", "holdout", "seed") and v is not None
    }
    where = files.path_of(path)
    known, presumed = remembered(where)
    layout = layout_of({**known, **presumed, **asked})
    units = read_units(where, layout)
    if holdout is not None:
        units = units.joined(read_units(files.path_of(holdout), layout))
    made = sequence_fields(units, layout, set(presumed) - set(asked))
    found = SequenceData(name=where.name, source=f"the file {where.name}", **made)
    if seed is None:
        return found
    return found.shuffled(validation.whole("seed", seed, least=0))


def same(recorded: str, name: str) -> bool:
    """Whether two names of data are one: of files, whether their last parts are."""
    if recorded == name:
        return True
    return is_path(recorded) and is_path(name) and Path(recorded).name == Path(name).name


def filled(path: str, options: Mapping[str, Any], **usual: Any) -> dict[str, Any]:
    """The options, and others that hold where neither they nor what is remembered say so."""
    known, presumed = remembered(files.path_of(path))
    said = {**known, **presumed, **options}
    return {**{n: v for n, v in usual.items() if v is not None and n not in said}, **options}


def read_units(path: Path, layout: Layout) -> TableUnits:
    """The units of a file or folder, as they stand there."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return units_of(table_files.read_saved(path), layout)
    if suffix == ".npz":
        return units_of(read_npz(path, layout.label), layout)
    if suffix == ".ts":
        return read_ts(path, table_files.text_of(path))
    if suffix in (".parquet", ".arrow"):
        return units_of(table_files.read_arrow(path), layout)
    if suffix in (".csv", ".tsv"):
        return units_of(table_files.read_csv(path), layout)
    if suffix in (".jsonl", ".ndjson"):
        return units_of(table_files.read_jsonl(path), layout)
    raise InputError(f"{path} is of no kind that is read; use {', '.join(SUFFIXES)} or a folder")


def sidecar_of(path: str | Path) -> Path:
    """Where what was said of a file is remembered."""
    where = files.path_of(path)
    return where.with_name(where.name + SIDECAR)


def remembered(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file beside the data remembers: what was declared, and what was read off then.

    Raises:
        FileError: it is damaged, or of another kind.
    """
    beside = sidecar_of(path)
    if not beside.exists():
        return {}, {}
    found = files.read_json(beside, 2**24, printable=True)
    keys = {"schema", "options", "read_off"}
    if not isinstance(found, dict) or set(found) != keys or found["schema"] != SCHEMA:
        raise FileError(f"{beside} is no description of data ({SCHEMA}); remove it")
    options, presumed = found["options"], found["read_off"]
    if not isinstance(options, dict) or not isinstance(presumed, dict):
        raise FileError(f"{beside} is damaged; remove it")
    layout_of({**options, **presumed})
    return options, presumed


def remember(path: str | Path, options: Mapping[str, Any]) -> Path:
    """Write the options beside the data, and the classes and tokens that they were read to have.

    The path alone finds them again. What was read off stays so: it does not become declared.

    Raises:
        InputError: an option or a row is not usable; FileError: the file cannot be written.
    """
    where = files.path_of(path)
    data = load(where, **options)
    known, presumed = remembered(where)
    layout = layout_of({**known, **options}).changes()
    presumed = {
        name: list(names)
        for name, names in (("classes", data.classes), ("alphabet", data.alphabet))
        if name in data.read_off and names is not None
    }
    text = json.dumps({"schema": SCHEMA, "options": layout, "read_off": presumed}, indent=2)
    return files.write_text(sidecar_of(where), text + "\n")
