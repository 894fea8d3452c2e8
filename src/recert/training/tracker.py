"""A tracker that writes down norms, rates, margins and bounds while a network is trained.

Everything here is monitoring, not certificate: rows hold plain numbers, never a `Certificate`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recert import report
from recert.certification.declared import Declared
from recert.data.dataset import SequenceData
from recert.errors import FileError, InputError, type_of
from recert.networks.network import Network
from recert.samples.sample import At
from recert.training.monitoring import KIND, Row, Value, Watched, monitored, names_of
from recert.training.tensor_layout import layout_of
from recert.utils import files, validation

_INTEGERS = ("step",)
# Sequences on which a module is compared with its Network when it is first seen.
_COMPARED = 64


class Tracker:
    """Records a network through training: one row of `recert.training.monitoring.monitored` a time.

    Usable in any loop (``tracker(model, step)`` after each step, or ``record`` whenever wanted), in
    `recert.training.train` (``train(data, tracker=tracker)``), and as a context, which closes what
    it writes to TensorBoard. It changes neither the model nor any random numbers.

    Args:
        data: a `SequenceData`, or (sequences, labels) or (sequences, labels, lengths) as
            `recert.certify` takes them.
        every: steps between rows, when it is called.
        bounds: "cheap" (milliseconds each), "all", or names of statements and printed formulas; ()
            for none. Values are those that `recert.certify(bounds=…)` finds on this sample.
        max_length: T; None takes that of a `SequenceData`, else the longest sequence.
        input_bound: B_x; None takes that of a `SequenceData`, else the largest input.
        caps: block → cap for every block, as for `recert.certify`; None takes measured norms.
        at: where the loss is read; None: at the last step, averaged where labels are per step.
        delta: shared by the statements of a row.
        most: sequences that are looked at, drawn by `seed`, with their bounds; None for all.
        seed: of that draw.
        tensorboard: a folder to which every row is written at once, or None.
        parts: keywords of `recert.from_torch`, such as ``head``.

    Raises:
        InputError: a value is out of range or a bound unknown.
        MissingDependencyError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        data: SequenceData | Sequence[Any],
        *,
        every: int = 1,
        bounds: str | Sequence[str] = "cheap",
        max_length: int | None = None,
        input_bound: float | None = None,
        caps: Mapping[str, float] | None = None,
        at: At | None = None,
        delta: float = 0.01,
        most: int | None = None,
        seed: int = 0,
        tensorboard: str | Path | None = None,
        **parts: Any,
    ) -> None:
        self.every = validation.whole("every", every)
        if isinstance(data, SequenceData):
            bounded = data.input_bound if data.input_kind == "real" else None
            input_bound = bounded if input_bound is None else input_bound
            max_length = data.max_length if max_length is None else max_length
            taken = (data.sequences, data.labels, data.lengths, data.groups)
        else:
            taken = _taken(data)
        sequences, labels, lengths, groups = _drawn(taken, most, seed)
        declared = Declared(
            lengths=lengths,
            groups=groups,
            at=("average" if labels.ndim == 2 else "last") if at is None else at,
            max_length=max_length,
            input_bound=input_bound,
            caps=caps,
            delta=validation.probability("delta", delta),
            arithmetic="torch",
        )
        self.watched = Watched(sequences, labels, declared, names_of(bounds))
        self._rows: list[Row] = []
        self._parts = parts
        self._writer = None if tensorboard is None else _summary_writer(tensorboard)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is written to TensorBoard; rows stay."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __call__(self, model: Any, step: int, **extra: Value) -> Row | None:
        """Record if `every` divides the step; the row, or None."""
        if validation.whole("step", step, least=0) % self.every:
            return None
        return self.record(model, step, **extra)

    def record(self, model: Any, step: int, **extra: Value) -> Row:
        """Add a row for the model as it is, and return it.

        Args:
            model: any torch module that `recert.certify` reads, constrained ones as they run; or a
                `Network`.
            step: of training, from 0.
            extra: further numbers or texts, such as ``loss=0.3``.

        Raises:
            InputError: weights or outputs are not finite, or an extra name is a column already.
            UnsupportedModelError, ParityError: as from `recert.from_torch`, at the first row.
        """
        step = validation.whole("step", step, least=0)
        found = monitored(self._network(model), self.watched)
        taken = [name for name in extra if name in found or name in ("kind", "step")]
        if taken:
            raise InputError(f"{', '.join(taken)} are columns already; give them other names")
        row: Row = {"kind": KIND, "step": step, **{n: _plain(n, extra[n]) for n in extra}, **found}
        self._rows.append(row)
        if self._writer is not None:
            _write_scalars(self._writer, row)
        return dict(row)

    def _network(self, model: Any) -> Network:
        """The model's Network, compared with it when it is first seen."""
        if isinstance(model, Network):
            return model
        few, declared = slice(0, _COMPARED), self.watched.declared
        layout = layout_of(
            model,
            self.watched.sequences[few],
            lengths=None if declared.lengths is None else declared.lengths[few],
            at=declared.at,
            **self._parts,
        )
        return layout.network(model)

    @property
    def rows(self) -> list[Row]:
        """Copies of the rows so far; each has ``kind`` "monitoring"."""
        return [dict(row) for row in self._rows]

    @property
    def columns(self) -> list[str]:
        """Every column that some row has, in order of appearance."""
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def column(self, name: str) -> np.ndarray:
        """One numeric column (rows,), NaN where a row has nothing; InputError if there is none."""
        if name not in self.columns:
            raise InputError(f"there is no column {name!r}; there are {', '.join(self.columns)}")
        values = [row.get(name) for row in self._rows]
        return np.array([math.nan if v is None else float(v) for v in values])

    def to_csv(self, path: str | Path) -> Path:
        """Write the rows as CSV, through a temporary name; `read_csv` gives them back exactly."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self._rows:
            writer.writerow([_cell(row.get(name)) for name in self.columns])
        return files.write_text(path, text.getvalue())

    def save_json(self, path: str | Path) -> Path:
        """Write {"kind": "monitoring", "rows": […]}; infinite values as text."""
        rows = [{n: _json(v) for n, v in row.items()} for row in self._rows]
        return files.write_text(path, json.dumps({"kind": KIND, "rows": rows}, indent=1) + "\n")

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame; MissingDependencyError without pandas."""
        try:
            import pandas
        except ImportError:
            raise files.missing("pandas", "pandas", "a data frame") from None
        return pandas.DataFrame(self.rows, columns=self.columns)

    def to_tensorboard(self, folder: str | Path) -> None:
        """Write every number of every row so far as a scalar monitoring/….

        Raises:
            MissingDependencyError: TensorBoard is not installed.
        """
        writer = _summary_writer(folder)
        try:
            for row in self._rows:
                _write_scalars(writer, row)
        finally:
            writer.close()

    def plot(self, path: str | Path) -> Path:
        """Draw norms, rates, margins and bounds against the step; PNG, SVG or PDF.

        Raises:
            InputError: there are no rows, or another suffix.
            MissingDependencyError: matplotlib is not installed.
        """
        if not self._rows:
            raise InputError("the tracker has no rows; record some before drawing")
        norms = [n for n in self.columns if n.endswith((".spectral", ".operator"))]
        rates = [n for n in self.columns if n.startswith(("beta", "theta"))]
        margins = [n for n in self.columns if n.startswith("margin.")]
        bounds = [n for n in self.columns if n.startswith(f"{KIND}_log10.")]
        panels = (
            ("spectral norms", "norm", norms),
            ("rates of the paper's bounds", "rate", rates),
            ("margins", "margin", margins),
            ("bounds (monitoring, no certificates)", "log10", bounds),
        )
        return report.through_training(
            [int(step) for step in self.column("step")],
            [
                (title, axis, {n.removeprefix(f"{KIND}_log10."): self.column(n) for n in names})
                for title, axis, names in panels
                if names
            ],
            path,
        )


def read_csv(path: str | Path) -> list[Row]:
    """The rows that `Tracker.to_csv` wrote; None where a row has nothing.

    Raises:
        FileError: the file cannot be read or has no rows of monitoring.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as stream:
            found = [
                {n: _value(n, text) for n, text in row.items()} for row in csv.DictReader(stream)
            ]
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise FileError(f"cannot read {path}: {error}; check the path") from None
    if any(row.get("kind") != KIND for row in found):
        raise FileError(f"{path} holds rows that are not of kind {KIND!r}; it is another table")
    return found


def _taken(data: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise InputError("data must be a SequenceData or (sequences, labels[, lengths])")
    sequences, labels, lengths = (*data, None)[:3]
    arrays = _array(sequences), _array(labels)
    if len(arrays[0]) != len(arrays[1]):
        raise InputError(f"{len(arrays[1])} labels for {len(arrays[0])} sequences; give one each")
    return *arrays, None if lengths is None else _array(lengths), None


def _array(value: Any) -> np.ndarray:
    """Numpy's view of an array or a tensor."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _drawn(
    taken: tuple[Any, Any, Any, Any], most: int | None, seed: int
) -> tuple[Any, Any, Any, Any]:
    """At most so many sequences, in their order."""
    if most is None or validation.whole("most", most) >= len(taken[0]):
        return taken
    chosen = np.random.Generator(np.random.PCG64(seed)).permutation(len(taken[0]))[:most]
    chosen.sort()
    sequences, labels, lengths, groups = (None if v is None else v[chosen] for v in taken)
    return sequences, labels, lengths, groups


def _plain(name: str, value: Any) -> Value:
    """A number as Python has it, or text."""
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, float):
        return value
    raise InputError(f"{name} is {type_of(value)}; give a number or text")


def _cell(value: Value) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _value(name: str, text: str) -> Value:
    if name in _INTEGERS:
        return int(text)
    if text == "":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _json(value: Value) -> Value:
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _summary_writer(folder: str | Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise files.missing("tensorboard", "tensorboard", "writing for TensorBoard") from None
    return SummaryWriter(str(folder))


def _write_scalars(writer: Any, row: Row) -> None:
    for name, value in row.items():
        if isinstance(value, (int, float)) and name != "step":
            writer.add_scalar(f"{KIND}/{name}", value, row["step"])
