"""``recert demo`` and ``recert train``: networks made here.

``recert compress``: a network as a short file, and the certificate of the file.

``recert pacbayes`` and ``recert ladder``: posteriors, and all certificates of a data set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recert.cli.common import (
    CapList,
    Hidden,
    HoldoutData,
    Options,
    Required,
    Seed,
    Statements,
    answer,
    bounds_of,
    caps_of,
    check_required,
    check_writable,
    given,
    options_of,
    tell_what_is_paid,
)
from recert.errors import InputError
from recert.utils.consoles import messages, results
from recert.utils.validation import probability


def demo(
    out: Annotated[Path, typer.Option(help="Folder for certificates and pictures.")] = Path("demo"),
    seed: Seed = 0,
) -> None:
    """Train two networks on a real data set, certify both, draw the pictures."""
    from recert.workflows.demo import run

    check_writable(out)
    run(out, seed=seed, console=results())


def train(
    data: Annotated[str, typer.Argument(help="Name of a data set (recert data list), or a path.")],
    cell: Annotated[str, typer.Option(help="vanilla, mgu, gru, lstm or conv.")] = "vanilla",
    out: Annotated[Path, typer.Option(help="Folder for the network.")] = Path("network"),
    hidden: Hidden = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Recurrent layers.")] = None,
    bidirectional: Annotated[
        bool, typer.Option("--bidirectional", help="Read each sequence from its end, too.")
    ] = False,
    bias: Annotated[bool, typer.Option("--bias", help="Train with biases.")] = False,
    activation: Annotated[
        str | None, typer.Option(help="tanh or relu, of vanilla and conv cells.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help="Channels among which a conv cell's units are.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="Width of a conv cell's filters.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    caps: CapList = None,
    free: Annotated[bool, typer.Option("--free", help="Train without caps.")] = False,
    units: Annotated[
        int | None, typer.Option(min=1, help="Units to train on; the rest is held back.")
    ] = None,
    holdout: Annotated[
        str | None,
        typer.Option(
            help="Units, or their share (0.2), to set aside before anything else and use for "
            "nothing; certify gives their limit beside the bounds."
        ),
    ] = None,
    seed: Seed = 0,
    holdout_data: HoldoutData = None,
    option: Options = None,
) -> None:
    """Train a network and write it to disk (safetensors and a JSON description)."""
    from recert.workflows import networks

    if free and caps is not None:
        raise InputError("--free and --caps exclude each other; drop one of them")
    for name, value in (("--channels", channels), ("--width", width)):
        if value is not None and cell != "conv":
            raise InputError(f"{name} is for --cell conv; drop it for {cell} cells")
    check_writable(out)
    run = networks.train_and_save(
        data,
        out,
        options=options_of(option, holdout_data),
        cell=cell,
        caps=caps_of(caps),
        free=free,
        units=units,
        seed=seed,
        holdout=holdout,
        changes=given(
            d_h=hidden, layers=layers, bidirectional=bidirectional or None, bias=bias or None,
            activation=activation, channels=channels, width=width, epochs=epochs,
        ),
    )  # fmt: skip
    console = results()
    console.print(f"trained on {run.trained_on:,} units; training error {run.error:.4f}")
    if run.held_error is not None:
        console.print(f"error on the {run.held_back:,} units held back: {run.held_error:.4f}")
    if run.set_aside:
        console.print(f"{run.set_aside:,} units were set aside and not looked at")
    console.print(f"written to {run.path}")


def compress(
    data: Annotated[str, typer.Option(help="Name or path of the data to train and certify on.")],
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
    bounds: Statements = "occam",
    units: Annotated[
        int | None, typer.Option(min=1, help="Without MODEL: units to train on.")
    ] = None,
    seed: Seed = 0,
    require: Required = None,
    holdout_data: HoldoutData = None,
    option: Options = None,
) -> None:
    """Train with rounding, write the file whose certificate is smallest, and certify it."""
    from recert import report
    from recert.certification.certify import menu
    from recert.workflows import compress as compression_runs
    from recert.workflows import networks

    if model is not None and (cell, hidden, units) != (None, None, None):
        raise InputError("MODEL says its cell, units and sample; drop --cell, --hidden, --units")
    statements = bounds_of(bounds)
    menu(statements)
    probability("delta", delta)
    check_required(require)
    check_writable(out)
    told = messages()
    found = compression_runs.compress_and_save(
        data,
        out,
        model=model,
        options=options_of(option, holdout_data),
        units=units,
        seed=seed,
        delta=delta,
        prices=_prices(prices),
        changes=given(cell=cell, d_h=hidden, epochs=epochs),
        progress=lambda share: told.print(f"{share:.0%} of the trainings done"),
    )
    certificate = networks.certify_saved(
        found.path,
        data,
        options=options_of(option, holdout_data),
        delta=delta,
        bounds=statements,
    )
    saved = certificate.save(out / "certificate.json")
    picture = report.frontier(
        found.points(), f"Certified error against code length, {data}", out / "frontier.png"
    )
    written = (f"{found.path} ({found.best.bytes} bytes)", saved, picture)
    answer(certificate, f"Bounds for {found.path}", written, require, brief=True)


def _prices(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"prices {text!r} are not numbers separated by commas") from None


def pacbayes(
    data: Annotated[
        str | None, typer.Argument(help="Name of a data set (recert data list), or a path.")
    ] = None,
    posterior: Annotated[
        Path | None, typer.Option(help="Instead of DATA: a folder that pacbayes wrote.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for posterior and certificate.")] = Path(
        "posterior"
    ),
    cell: Annotated[str | None, typer.Option(help="vanilla, mgu, gru or lstm.")] = None,
    hidden: Hidden = None,
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
    seed: Seed = 0,
    require: Required = None,
    holdout_data: HoldoutData = None,
    option: Options = None,
) -> None:
    """Train a posterior over networks on DATA, and bound the error of weights drawn from it."""
    from recert import report
    from recert.workflows import posteriors

    if (data is None) == (posterior is None):
        raise InputError("give the name of a data set, or --posterior FOLDER: one of the two")
    probability("delta", delta)
    check_required(require)
    check_writable(out)
    told = messages()
    if data is not None:
        run = posteriors.train_and_save(
            data,
            out,
            options=options_of(option, holdout_data),
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
    certificate = posteriors.certify_saved(
        posterior, delta=delta, repetitions=repetitions, tried=tried
    )
    tell_what_is_paid(certificate, tried=tried)
    saved = certificate.save(out / "certificate.json")
    picture = report.ladder([(certificate, str(posterior))], out / "ladder.png")
    title = f"Bounds for the posterior in {posterior}"
    answer(certificate, title, (saved, picture), require)


def ladder(
    data: Annotated[str, typer.Argument(help="Name of a data set (recert data list), or a path.")],
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("ladder"),
    units: Annotated[
        int | None, typer.Option(min=1, help="Units to train on; the rest is for checking.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Failure probability of each certificate.")] = 0.01,
    seed: Seed = 0,
    option: Options = None,
) -> None:
    """Train a network, a short file and a posterior on DATA; every certificate in one picture."""
    from recert.workflows import ladder as experiment

    check_writable(out)
    experiment.run(
        data, out, options=options_of(option), units=units, seed=seed, delta=delta,
        console=results(),
    )  # fmt: skip
