"""What a study is: what it may be asked, the cells of work it consists of, what it concludes.

Running a study: cells one by one, each kept once done; then table, claims, pictures, command.

A finished cell is a small JSON file in ``cells/`` whose name is a digest of its parameters. It is
written through a temporary name, so an interrupted run leaves finished cells and nothing else, and
the next run goes on from there. A file that is damaged, or whose parameters are not exactly those
that are asked for, is not used.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import platform
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from recert import __version__
from recert.errors import FileError, InputError
from recert.numerics.rounding import significant_up
from recert.report.canvas import pyplot
from recert.utils import consoles, files
from recert.utils.validation import probability, whole
from recert_studies.claims import Claim

Result = dict[str, Any]


@dataclass(frozen=True)
class Option:
    """An option of a study, given as ``-o NAME=VALUE``.

    Attributes:
        default: its value in full size; its type is the option's type. Where None, any text.
        help: one line.
        quick: its value with ``--quick``, or None for the same.
        choices: the only values allowed; empty for any.
        least: the smallest number allowed.
    """

    default: Any
    help: str
    quick: Any = None
    choices: tuple[Any, ...] = ()
    least: float = 1


@dataclass(frozen=True)
class Request:
    """What a run was asked for.

    Attributes:
        study: its name.
        out: the folder for everything.
        quick: whether a small run is wanted.
        seeds: distinct, at least one.
        given: options that were given; those of `options` complete them.
        options: every option's value.
        device: on which networks are trained: auto, cpu, cuda or cuda:N.
    """

    study: str
    out: Path
    quick: bool
    seeds: tuple[int, ...]
    given: Mapping[str, Any]
    options: Mapping[str, Any]
    device: str = "auto"

    @property
    def command(self) -> str:
        """The exact command that asks for the same."""
        words = ["recert", "reproduce", self.study, "--out", str(self.out)]
        words += ["--quick"] if self.quick else []
        words += ["--seeds", ",".join(map(str, self.seeds))]
        words += [] if self.device == "auto" else ["--device", self.device]
        for name, value in self.given.items():
            words += ["-o", f"{name}={value}"]
        return shlex.join(words)


@dataclass(frozen=True, eq=False)
class Cell:
    """A piece of work that is done once and kept, such as one seed at one setting.

    Attributes:
        title: beside the progress bar.
        parameters: everything that the result depends on, as JSON can hold it.
        work: called with a progress display; its result must be JSON and depend on nothing else.
    """

    title: str
    parameters: Mapping[str, Any]
    work: Callable[[Progress], Result]

    @cached_property
    def digest(self) -> str:
        """Names the cell's file: 20 hex digits of the parameters' SHA-256."""
        text = json.dumps(self.parameters, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def on(self, device: str) -> Cell:
        """The cell whose networks are trained there: another one, as other devices round otherwise.

        Results without a device in their parameters are the CPU's.
        """
        if device == "cpu":
            return self
        return replace(self, parameters={**self.parameters, "device": device})


@dataclass(frozen=True)
class Conclusion:
    """What a study concludes from its cells.

    Attributes:
        rows: the table, a dictionary of plain values a row; the CSV's columns are their keys.
        claims: claims of the paper with their verdicts.
        notes: sentences for the reader, such as what data were used.
        extra: more for the JSON file.
        draw: called with a path, draws the picture there; suffixes are PNG and SVG.
        table: columns of `rows` that are printed; empty for all.
        limits: columns that bound from above, which are printed rounded up.
    """

    rows: Sequence[Mapping[str, Any]]
    draw: Callable[[Path], Path]
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    table: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A command of ``recert reproduce``.

    Attributes:
        name: as it is called.
        summary: one line.
        options: by name.
        cells: the work, in order, from a request; reads and checks the data.
        conclude: from a request and the cells' results, in the same order.
        seeds: used where none are given.
        quick_seeds: used in a quick run where none are given; None for the same.
        trains: whether its cells train networks; if not, no device matters and torch is not needed.
    """

    name: str
    summary: str
    options: Mapping[str, Option]
    cells: Callable[[Request], Sequence[Cell]]
    conclude: Callable[[Request, Sequence[Result]], Conclusion]
    seeds: tuple[int, ...] = (0, 1, 2)
    quick_seeds: tuple[int, ...] | None = None
    trains: bool = True

    def request(
        self,
        out: Path,
        *,
        quick: bool = False,
        seeds: Sequence[int] | None = None,
        given: Mapping[str, Any] | None = None,
        device: str = "auto",
    ) -> Request:
        """The request with its options checked and completed.

        Raises:
            InputError: seeds repeat or are negative, or an option is unknown or out of range.
        """
        usual_seeds = self.quick_seeds if quick and self.quick_seeds else self.seeds
        chosen = usual_seeds if seeds is None else tuple(seeds)
        for seed in chosen:
            whole("seed", seed, least=0)
        if not chosen or len(set(chosen)) != len(chosen) or min(chosen) < 0:
            raise InputError(f"seeds are {list(chosen)}; give distinct whole numbers from 0 up")
        given = dict(given or {})
        unknown = sorted(set(given) - set(self.options))
        if unknown:
            raise InputError(
                f"{self.name} has no option {', '.join(unknown)}; it has {', '.join(self.options)}"
            )
        values = {}
        for name, option in self.options.items():
            usual = option.quick if quick and option.quick is not None else option.default
            values[name] = _checked(name, option, given[name]) if name in given else usual
        return Request(self.name, out, quick, chosen, given, values, device)


def _checked(name: str, option: Option, value: Any) -> Any:
    """The value as the option's type; InputError if it is not of it or out of range."""
    kind = str if option.default is None else type(option.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is str and not isinstance(value, str):
        value = str(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"option {name} is {value!r}; use a value like {option.default!r}")
    if option.choices and value not in option.choices:
        raise InputError(
            f"option {name} is {value!r}; use one of {', '.join(map(str, option.choices))}"
        )
    if isinstance(value, (int, float)) and not option.least <= value < 1e12:
        raise InputError(f"option {name} is {value!r}; use a number from {option.least} up")
    return probability(name, value) if name == "delta" else value


PICTURES = (".png", ".svg")


def run(study: Study, request: Request, *, console: Console | None = None) -> Conclusion:
    """Do what is not done yet, conclude, and write everything to the request's folder.

    Written are ``results.json``, ``results.csv``, NAME.png, NAME.svg and ``command.txt``.

    Raises:
        InputError: the folder holds another study, the data are unusable, or the device is not
            there.
        FileError: a file cannot be read or written.
        MissingDependencyError: an optional library is needed and absent.
    """
    console = console or consoles.results()
    pyplot()  # missing libraries are reported before the work, not after it
    _check_folder(request)
    with _device(study, request) as (device, machine):
        cells = [cell.on(device) for cell in study.cells(request)]
        files.write_text(request.out / "command.txt", request.command + "\n")
        results = _done(cells, request.out / "cells")
    conclusion = study.conclude(request, results)
    pictures = [conclusion.draw(request.out / f"{study.name}{suffix}").name for suffix in PICTURES]
    _write_json(request, machine, cells, results, conclusion, pictures)
    files.write_text(request.out / "results.csv", to_csv(conclusion.rows))
    _show(study, conclusion, console)
    written = ", ".join(["results.json", "results.csv", *pictures, "command.txt"])
    console.print(f"written to {request.out}: {written}", soft_wrap=True)
    return conclusion


@contextmanager
def _device(study: Study, request: Request) -> Iterator[tuple[str, str]]:
    """The device on which networks are trained meanwhile, and what it is in words."""
    if not study.trains:
        if request.device not in ("auto", "cpu"):
            raise InputError(f"{study.name} trains no network; leave device {request.device!r} out")
        yield "cpu", "cpu"
        return
    from recert.training import devices

    device = devices.named(request.device)
    with devices.on(device):
        yield device, devices.described(device)


def kept(cell: Cell, folder: Path) -> Result | None:
    """The result of a cell that was done before with exactly these parameters, or None."""
    path = folder / f"{cell.digest}.json"
    if not path.is_file():
        return None
    try:
        found = files.read_json(path)
    except FileError:
        return None
    wanted = json.loads(json.dumps(dict(cell.parameters)))
    if not isinstance(found, dict) or found.get("parameters") != wanted:
        return None
    result = found.get("result")
    return result if isinstance(result, dict) else None


def keep(cell: Cell, result: Result, folder: Path) -> Result:
    """Write a cell's result, and return it as it will be read again."""
    text = json.dumps(
        {"parameters": dict(cell.parameters), "result": result},
        indent=1,
        ensure_ascii=False,
        allow_nan=False,
    )
    files.write_text(folder / f"{cell.digest}.json", text + "\n")
    again: Result = json.loads(text)["result"]
    return again


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV text; columns in the order in which they first occur."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _done(cells: Sequence[Cell], folder: Path) -> list[Result]:
    """Every cell's result, from its file or by doing it."""
    results = []
    reused = 0
    with _progress() as progress:
        task = progress.add_task("cells of work", total=len(cells))
        for cell in cells:
            progress.update(task, description=cell.title)
            found = kept(cell, folder)
            reused += found is not None
            results.append(keep(cell, cell.work(progress), folder) if found is None else found)
            progress.advance(task)
        progress.update(task, description="cells of work")
    if reused:
        told = consoles.messages()
        told.print(f"{reused} of {len(cells)} cells were done before and are used again")
    return results


def _check_folder(request: Request) -> None:
    path = request.out / "results.json"
    if not path.is_file():
        return
    before = files.read_json(path)
    other = before.get("study") if isinstance(before, dict) else None
    if other != request.study:
        raise InputError(
            f"{request.out} holds the results of {other or 'something else'}; choose another folder"
        )


def _write_json(
    request: Request,
    machine: str,
    cells: Sequence[Cell],
    results: Sequence[Result],
    conclusion: Conclusion,
    pictures: Sequence[str],
) -> None:
    found = {
        "study": request.study,
        "command": request.command,
        "version": __version__,
        "machine": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "processor": platform.machine(),
            "device": machine,
        },
        "quick": request.quick,
        "seeds": list(request.seeds),
        "options": dict(request.options),
        "notes": list(conclusion.notes),
        "rows": [dict(row) for row in conclusion.rows],
        "claims": [claim.record() for claim in conclusion.claims],
        **conclusion.extra,
        "pictures": list(pictures),
        "cells": [
            {"parameters": dict(cell.parameters), "result": result}
            for cell, result in zip(cells, results, strict=True)
        ],
    }
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    files.write_text(request.out / "results.json", text + "\n")


def _show(study: Study, conclusion: Conclusion, console: Console) -> None:
    columns = conclusion.table or tuple(dict.fromkeys(k for row in conclusion.rows for k in row))
    table = Table(title=study.summary, box=None, title_justify="left")
    for name in columns:
        table.add_column(name)
    for row in conclusion.rows:
        table.add_row(*(_text(row.get(name), name in conclusion.limits) for name in columns))
    console.print(table)
    if conclusion.claims:
        console.print(_claims(conclusion.claims))
    for note in conclusion.notes:
        console.print(note, soft_wrap=True, markup=False)


def _claims(claims: Sequence[Claim]) -> Table:
    table = Table(title="What the paper claims", box=None, title_justify="left")
    for name in ("place", "claim", "verdict", "figure that decides"):
        table.add_column(name, overflow="fold")
    for claim in claims:
        table.add_row(claim.place, claim.quote, claim.verdict, claim.figure)
    return table


def _text(value: Any, limit: bool) -> str:
    if isinstance(value, float):
        return significant_up(value, 4) if limit else f"{value:.4g}"
    return "" if value is None else str(value)


def _progress() -> Progress:
    return consoles.progress(
        TextColumn("{task.description:34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
