"""``recert pacbayes`` and ``recert ladder``: posteriors, and all certificates of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recert.arguments import probability
from recert.cli.common import (
    Options,
    check_required,
    check_writable,
    enforce,
    given,
    options_of,
    tell_what_is_paid,
)
from recert.consoles import messages, results


def pacbayes(
    data: Annotated[
        str | None, typer.Argument(help="Name of a data set (recert data list).")
    ] = None,
    posterior: Annotated[
        Path | None, typer.Option(help="Instead of DATA: a folder that pacbayes wrote.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for posterior and certificate.")] = Path(
        "posterior"
    ),
    cell: Annotated[str | None, typer.Option(help="vanilla, mgu, gru or lstm.")] = None,
    hidden: Annotated[int | None, typer.Option(min=1, help="Hidden units d_h of a layer.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of the prior.")] = None,
    share: Annotated[
        float | None, typer.Option(help="Share of the units that makes the prior.")
    ] = None,
    closeness: Annotated[
        float | None,
        typer.Option(
            help="Have a pilot seek the smallest limit that lies at most this share above the "
            "error, say 0.06. By default the smallest limit of all."
        ),
    ] = None,
    delta: Annotated[float, typer.Option(help="Failure probability of everything.")] = 0.01,
    repetitions: Annotated[
        int, typer.Option(min=1, help="Networks drawn for each sequence, when certifying.")
    ] = 4,
    units: Annotated[
        int | None, typer.Option(min=1, help="Units to use; the rest is held back.")
    ] = None,
    holdout: Annotated[
        str | None, typer.Option(help="Units, or their share, to set aside before anything else.")
    ] = None,
    tried: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Recipes (cells, shares, seeds …) among which you chose this one with the units "
            "of the bound in view; at least as many as the packaged recipe pays for, or, with "
            "--posterior, as were declared.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    require: Annotated[
        float | None, typer.Option(help="Exit with status 1 unless the limit is at most this.")
    ] = None,
    option: Options = None,
) -> None:
    """Train a posterior over networks on DATA, and bound the error of weights drawn from it."""
    from recert import plots
    from recert.errors import InputError
    from recert.experiments import gibbs_runs
    from recert.report import tables

    if (data is None) == (posterior is None):
        raise InputError("give the name of a data set, or --posterior FOLDER: one of the two")
    probability("delta", delta)
    check_required(require)
    check_writable(out)
    console, told = results(), messages()
    if data is not None:
        run = gibbs_runs.train_and_save(
            data,
            out,
            options=options_of(option),
            units=units,
            seed=seed,
            delta=delta,
            holdout=holdout,
            changes=given(cell=cell, d_h=hidden, epochs=epochs, share=share, closeness=closeness),
            tried=tried,
            progress=True,
        )
        told.print(
            f"{run.prior_units:,} units made the prior, {run.bound_units:,} are left for the "
            f"bound; trained in {run.seconds:.0f} s, written to {run.path}",
            soft_wrap=True,
        )
        told.print(f"the rehearsal on the prior's part chose {run.described}", soft_wrap=True)
        posterior = run.path
    assert posterior is not None
    certificate = gibbs_runs.certify_saved(
        posterior, delta=delta, repetitions=repetitions, tried=tried
    )
    tell_what_is_paid(certificate, tried=tried)
    saved = certificate.save(out / "certificate.json")
    picture = plots.ladder([(certificate, str(posterior))], out / "ladder.png")
    console.print(tables.ladder(certificate, f"Bounds for the posterior in {posterior}"))
    console.print(tables.costs(certificate))
    console.print(tables.finite_list(certificate))
    console.print(tables.ledger(certificate))
    console.print(certificate.statement(), soft_wrap=True)
    for path in (saved, picture):
        console.print(f"written: {path}", soft_wrap=True)
    enforce(require, certificate)


def ladder(
    data: Annotated[str, typer.Argument(help="Name of a data set (recert data list).")],
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("ladder"),
    units: Annotated[
        int | None, typer.Option(min=1, help="Units to train on; the rest is for checking.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Failure probability of each certificate.")] = 0.01,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    option: Options = None,
) -> None:
    """Train a network, a short file and a posterior on DATA; every certificate in one picture."""
    from recert.experiments import ladder as experiment

    check_writable(out)
    experiment.run(
        data, out, options=options_of(option), units=units, seed=seed, delta=delta,
        console=results(),
    )  # fmt: skip
