"""``recert compress``: a network as a short file, and the certificate of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recert.arguments import probability
from recert.cli.common import (
    Options,
    bounds_of,
    check_required,
    check_writable,
    enforce,
    given,
    options_of,
)
from recert.consoles import messages, results
from recert.errors import InputError


def compress(
    data: Annotated[str, typer.Option(help="Name of the data set to train and certify on.")],
    model: Annotated[
        Path | None, typer.Argument(help="A network on disk to go on from; none to begin anew.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for file, certificate, picture.")] = Path(
        "compressed"
    ),
    cell: Annotated[str | None, typer.Option(help="Without MODEL: the cell.")] = None,
    hidden: Annotated[int | None, typer.Option(min=1, help="Without MODEL: units d_h.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes of each training.")] = None,
    prices: Annotated[
        str, typer.Option(help="Prices of a bit, in units of 1/m; one training each.")
    ] = "3,4",
    delta: Annotated[float, typer.Option(help="Failure probability of all bounds.")] = 0.01,
    bounds: Annotated[
        str, typer.Option(help="'all', or names of statements separated by commas.")
    ] = "occam",
    units: Annotated[
        int | None, typer.Option(min=1, help="Without MODEL: units to train on.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    require: Annotated[
        float | None, typer.Option(help="Exit with status 1 unless a certificate is at most this.")
    ] = None,
    option: Options = None,
) -> None:
    """Train with rounding, write the file whose certificate is smallest, and certify it."""
    from recert import plots
    from recert.experiments import compression_runs, training_runs
    from recert.pipeline import menu
    from recert.report import tables

    if model is not None and (cell, hidden, units) != (None, None, None):
        raise InputError("MODEL says its cell, units and sample; drop --cell, --hidden, --units")
    statements = bounds_of(bounds)
    menu(statements)
    probability("delta", delta)
    check_required(require)
    check_writable(out)
    console, told = results(), messages()
    found = compression_runs.compress_and_save(
        data,
        out,
        model=model,
        options=options_of(option),
        units=units,
        seed=seed,
        delta=delta,
        prices=_prices(prices),
        changes=given(cell=cell, d_h=hidden, epochs=epochs),
        progress=lambda share: told.print(f"{share:.0%} of the trainings done"),
    )
    certificate = training_runs.certify_saved(
        found.path,
        data,
        options=options_of(option),
        delta=delta,
        bounds=statements,
    )
    saved = certificate.save(out / "certificate.json")
    picture = plots.frontier(
        found.points(), f"Certified error against code length, {data}", out / "frontier.png"
    )
    console.print(tables.ladder(certificate, f"Bounds for {found.path}"))
    console.print(tables.costs(certificate))
    console.print(certificate.statement(), soft_wrap=True)
    written = f"written: {found.path} ({found.best.bytes} bytes), {saved}, {picture}"
    console.print(written, soft_wrap=True)
    enforce(require, certificate)


def _prices(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"prices {text!r} are not numbers separated by commas") from None
