"""``recert demo`` and ``recert train``: networks made here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recert.cli.common import (
    CapList,
    Options,
    caps_of,
    check_writable,
    given,
    options_of,
)
from recert.consoles import results
from recert.errors import InputError


def demo(
    out: Annotated[Path, typer.Option(help="Folder for certificates and pictures.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of shuffle and training.")] = 0,
) -> None:
    """Train two networks on a real data set, certify both, draw the pictures."""
    from recert.experiments.demo import run

    check_writable(out)
    run(out, seed=seed, console=results())


def train(
    data: Annotated[str, typer.Argument(help="Name of a data set (recert data list).")],
    cell: Annotated[str, typer.Option(help="vanilla, mgu, gru, lstm or conv.")] = "vanilla",
    out: Annotated[Path, typer.Option(help="Folder for the network.")] = Path("network"),
    hidden: Annotated[int | None, typer.Option(min=1, help="Hidden units d_h of a layer.")] = None,
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
    seed: Annotated[int, typer.Option(min=0)] = 0,
    option: Options = None,
) -> None:
    """Train a network and write it to disk (safetensors and a JSON description)."""
    from recert.experiments import training_runs

    if free and caps is not None:
        raise InputError("--free and --caps exclude each other; drop one of them")
    for name, value in (("--channels", channels), ("--width", width)):
        if value is not None and cell != "conv":
            raise InputError(f"{name} is for --cell conv; drop it for {cell} cells")
    check_writable(out)
    run = training_runs.train_and_save(
        data,
        out,
        options=options_of(option),
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
