"""``recert data``: the data sets."""

from __future__ import annotations

import typer
from rich.table import Table

from recert.utils.consoles import results

app = typer.Typer(help="The data sets: list them, or tell about one.", no_args_is_help=True)


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
def info(name: str) -> None:
    """What one data set is, and the options that it takes."""
    from recert.data import info

    entry = info(name)
    console = results()
    for label in ("name", "summary", "unit", "inputs", "classes", "source"):
        console.print(f"{label:8} {getattr(entry, label)}", soft_wrap=True, markup=False)
    for option, default in entry.options.items():
        console.print(f"option   {option} (default {default})", soft_wrap=True, markup=False)
