"""``recert data``: the data sets, and what was read of a user's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table
from typer.core import TyperGroup

from recert.cli.common import HoldoutData, Options, options_of
from recert.errors import InputError
from recert.utils.consoles import results

if TYPE_CHECKING:
    from recert.data import SequenceData

SHOWN = 12


class _NameOrCommand(TyperGroup):
    """``recert data NAME`` is ``recert data info NAME``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["info", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_NameOrCommand,
    help="The data sets: list them, or tell about one. Of a file of yours: what is read there.",
    no_args_is_help=True,
)


@app.command("list")
def list_all() -> None:
    """Every data set, a line each."""
    from recert.data import list_data

    table = Table(box=None)
    for column in ("name", "unit", "what it is"):
        table.add_column(column)
    for entry in list_data():
        table.add_row(entry.name, entry.unit, entry.summary)
    results().print(table)


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(help="Name of a data set, or the path of your own.")],
    holdout_data: HoldoutData = None,
    remember: Annotated[
        bool,
        typer.Option("--remember", help="Write the options beside the file, for the next time."),
    ] = False,
    option: Options = None,
) -> None:
    """What one data set is, and the options that it takes; of your own file, what is read there."""
    from recert import data

    entry, console = data.info(name), results()
    if entry.name != name:
        options = options_of(option, holdout_data)
        for label, text in _described(data.load(name, **options)):
            console.print(f"{label:9} {text}", soft_wrap=True, markup=False)
        if remember:
            for once in ("holdout", "seed"):
                options.pop(once, None)
            console.print(f"written: {data.remember(name, options)}", soft_wrap=True)
        return
    if remember or option or holdout_data is not None:
        raise InputError(f"{name} is no path; --remember, -o and --holdout-data are for files")
    for label in ("name", "summary", "unit", "inputs", "classes", "source"):
        console.print(f"{label:8} {getattr(entry, label)}", soft_wrap=True, markup=False)
    for option_name, default in entry.options.items():
        console.print(f"option   {option_name} (default {default})", soft_wrap=True, markup=False)


def _described(found: SequenceData) -> Iterator[tuple[str, str]]:
    """What was read, a line for each question that a user may have of it."""
    rest, held = found.by_role()
    yield "file", found.name
    yield "units", _counted(rest) + ("" if held is None else f"; held out: {_counted(held)}")
    n = found.lengths
    steps = (
        f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}, mostly {np.median(n):g}"
    )
    yield "steps", steps
    if found.alphabet is None:
        size = "a number" if found.input_dim == 1 else f"{found.input_dim} numbers"
        yield "inputs", f"{size} a step"
    else:
        yield "inputs", f"{len(found.alphabet)} tokens: {_listed(found.alphabet)}"
    where = "at each step" if found.labels.ndim == 2 else "at the last step"
    counts = np.bincount(rest.labels[rest.labels >= 0], minlength=found.K)
    pairs = [f"{name} ({k})" for name, k in zip(found.classes, counts, strict=True)]
    yield "classes", f"{found.K}, {where}: {_listed(pairs)}"
    if found.read_off:
        yield "read off", f"{', '.join(found.read_off)}; declare what you know beforehand (-o)"


def _counted(data: SequenceData) -> str:
    own = f"{data.m:,} {data.unit}s"
    return own if data.groups is None else f"{data.units:,} groups of {own}"


def _listed(names: Any) -> str:
    more = f", … {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, list(names)[:SHOWN])) + more
