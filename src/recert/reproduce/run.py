"""Running a study: cells one by one, each kept once done; then table, claims, pictures, command.

A finished cell is a small JSON file in ``cells/`` whose name is a digest of its parameters. It is
written through a temporary name, so an interrupted run leaves finished cells and nothing else, and
the next run goes on from there. A file that is damaged, or whose parameters are not exactly those
that are asked for, is not used.
"""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from recert import __version__, consoles, files
from recert.errors import FileError, InputError
from recert.numerals import significant_up
from recert.plots.canvas import pyplot
from recert.reproduce.study import Cell, Claim, Conclusion, Request, Result, Study

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
        "claims": [
            {"place": c.place, "quote": c.quote, "verdict": c.verdict, "figure": c.figure}
            for c in conclusion.claims
        ],
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
