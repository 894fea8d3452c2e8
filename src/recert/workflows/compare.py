"""Certificates side by side: of files, or of every cell, each trained and certified for it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from recert import readers
from recert import report as plots
from recert.certificates.certificate import Certificate, load_certificate
from recert.data import load
from recert.errors import InputError, RecertError
from recert.report import gates, tables
from recert.samples.sample import Reading, Sample
from recert.utils import consoles
from recert.utils.processes import in_processes
from recert.workflows import networks

DELTA = 0.01
# Units on which gates are measured.
GATE_UNITS = 10_000


@dataclass(frozen=True)
class Entry:
    """One cell to train and certify, in a process of its own."""

    data: str
    cell: str
    folder: Path
    options: dict[str, Any]
    changes: dict[str, Any]
    free: bool
    seed: int
    contenders: int


@dataclass(frozen=True)
class Finished:
    """What a process answers: how long the training took, or what went wrong."""

    cell: str
    seconds: float = 0.0
    error: RecertError | None = None


def show(files: Sequence[Path], *, console: Console, picture: Path | None = None) -> None:
    """Print the certificates in these files side by side, and draw their ladders.

    Raises:
        FileError: a file is no certificate, or the picture cannot be written.
    """
    loaded = [(_name(path, files), load_certificate(path)) for path in files]
    drawn = None
    if picture is not None:
        drawn = plots.ladder([(certificate, name) for name, certificate in loaded], picture)
    console.print(tables.comparison(loaded))
    console.print(tables.best_of(loaded), soft_wrap=True)
    if drawn is not None:
        console.print(f"written: {drawn}", soft_wrap=True)


def run(
    data: str,
    out: Path,
    *,
    cells: Sequence[str],
    options: dict[str, Any],
    changes: dict[str, Any],
    free: bool,
    seed: int,
    console: Console,
) -> dict[str, Certificate]:
    """Train every cell on a data set by its own recipe, certify each, compare them.

    Each network pays for being one of several, so all statements hold together and the best may
    be chosen. Networks and certificates go to ``out``, a folder for each cell, and so does the
    picture; nothing is written unless everything succeeds.

    Raises:
        InputError: cells repeat or are unknown, the data set is, or a value is out of range.
    """
    if len(set(cells)) != len(cells):
        raise InputError(f"cells repeat: {', '.join(cells)}; name each once")
    _check(data, cells, options, changes, free, seed)
    told = consoles.messages()
    with tempfile.TemporaryDirectory(prefix=".compare-", dir=out) as name:
        work = Path(name)
        entries = [
            Entry(data, cell, work / cell, options, changes, free, seed, len(cells))
            for cell in cells
        ]
        for done in _finished(entries):
            if done.error is not None:
                raise done.error
            told.print(f"{done.cell}: trained in {done.seconds:.0f} s and certified")
        loaded = [(cell, load_certificate(work / cell / "certificate.json")) for cell in cells]
        plots.cells(loaded, work / "compare.png")
        reports = _gates(work, data, cells)
        longest = max(report.steps for report in reports.values())
        plots.gates_against_time(gates.curves(reports), work / "gates.png", longest=longest)
        for path in sorted(work.iterdir()):
            _move(path, out / path.name)
    console.print(tables.comparison(loaded))
    console.print(tables.best_of(loaded, paid=True), soft_wrap=True)
    for cell, report in reports.items():
        if report.measured.ranges:
            console.print(gates.table(report, f"Gates of the {cell} network"))
    console.print(
        f"written to {out}: a folder for each cell, compare.png, gates.png (β_t and θ_t as the "
        f"paper has them, gates measured on {GATE_UNITS:,} units)",
        soft_wrap=True,
    )
    return dict(loaded)


def _check(
    data: str,
    cells: Sequence[str],
    options: dict[str, Any],
    changes: dict[str, Any],
    free: bool,
    seed: int,
) -> None:
    """InputError before anything is trained, where some cell cannot be."""
    from recert.training import check_cell
    from recert.training.loop import model_of

    for cell in cells:
        check_cell(cell, "tanh")
    units = load(data, **networks.seeded(data, options, seed))
    for cell in cells:
        model_of(units, networks.recipe_for(data, cell, None, free=free, changes=changes))


def one(entry: Entry) -> Finished:
    """Train, save and certify one cell; errors of ours are answers, so that they reach the user."""
    try:
        trained = networks.train_and_save(
            entry.data,
            entry.folder,
            options=entry.options,
            cell=entry.cell,
            caps=None,
            free=entry.free,
            units=None,
            seed=entry.seed,
            changes=entry.changes,
            contenders=entry.contenders,
            progress=False,
        )
        certificate = networks.certify_saved(
            entry.folder,
            entry.data,
            delta=DELTA,
        )
        certificate.save(entry.folder / "certificate.json")
    except RecertError as error:
        return Finished(entry.cell, error=error)
    return Finished(entry.cell, trained.seconds)


def _gates(folder: Path, data: str, cells: Sequence[str]) -> dict[str, gates.GateReport]:
    """The gates of every network, measured on its first units and bounded within its caps."""
    reports = {}
    for cell in cells:
        network = readers.load_network(folder / cell)
        units = networks.units_of(folder / cell, data)[0]
        few = slice(0, GATE_UNITS)
        reading = Reading(network.input_kind, network.d_x, network.K)
        labels = units.labels if units.labels.ndim == 1 else units.labels[:, 0].clip(0)
        sample = Sample(units.sequences[few], labels[few], reading, lengths=units.lengths[few])
        declared = readers.load_description(folder / cell)["meta"].get("caps")
        complete = declared and set(declared) == {block.name for block in network.blocks()}
        bound = 1.0 if network.input_kind == "onehot" else units.input_bound or 1.0
        reports[cell] = gates.gate_report(
            network, sample, input_bound=bound, caps=declared if complete else None
        )
    return reports


def _finished(entries: list[Entry]) -> Iterator[Finished]:
    """The entries' answers in their order; training is on one thread, so each core takes one."""
    processes = min(len(entries), os.cpu_count() or 1)
    if processes == 1:
        yield from map(one, entries)
        return
    yield from in_processes(one, [(entry,) for entry in entries], processes)


def _move(path: Path, target: Path) -> None:
    """Put a file or the files of a folder in their place."""
    if path.is_dir():
        target.mkdir(exist_ok=True)
        for inner in path.iterdir():
            shutil.move(inner, target / inner.name)
    else:
        shutil.move(path, target)


def _name(path: Path, paths: Sequence[Path]) -> str:
    """A short name that tells the files apart."""
    same = [other for other in paths if other.stem == path.stem]
    if len(same) == 1:
        return path.stem
    parents = [other.parent.name for other in same]
    short = len(set(parents)) == len(parents) and path.parent.name
    return path.parent.name if short else str(path.parent / path.stem)
