"""``recert compare``: certificates side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recert.cli.common import Options, check_writable, given, options_of
from recert.consoles import results
from recert.errors import InputError


def compare(
    certificates: Annotated[
        list[Path] | None, typer.Argument(help="Files that certify wrote.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Instead of files: train every cell on this data set and certify it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A picture to draw (PNG, SVG, PDF); with --data a folder for it all."),
    ] = None,
    cells: Annotated[
        str, typer.Option(help="With --data: the cells, separated by commas.")
    ] = "vanilla,mgu,gru,lstm,conv",
    hidden: Annotated[int | None, typer.Option(min=1, help="With --data: hidden units.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="With --data: epochs.")] = None,
    free: Annotated[bool, typer.Option("--free", help="With --data: train without caps.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="With --data: seed of all trainings.")] = 0,
    option: Options = None,
) -> None:
    """Show certificates side by side; with --data, those of every cell, trained for it."""
    from recert.experiments import comparison

    if bool(certificates) == (data is not None):
        raise InputError("compare takes files of certificates, or --data NAME: give one of the two")
    console = results()
    if data is None:
        comparison.show(certificates or [], console=console, picture=out)
        return
    folder = out or Path("compare")
    check_writable(folder)
    comparison.run(
        data,
        folder,
        cells=[name.strip() for name in cells.split(",")],
        options=options_of(option),
        changes=given(d_h=hidden, epochs=epochs),
        free=free,
        seed=seed,
        console=console,
    )
