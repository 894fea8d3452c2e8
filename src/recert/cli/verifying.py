"""``recert verify``: whether a certificate's numbers follow, and whether they are its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn

from recert.cli.common import Options, options_of
from recert.consoles import progress, results
from recert.errors import InputError

if TYPE_CHECKING:
    from recert.data import SequenceData
    from recert.verifier.verification import Check


def verify(
    certificate: Annotated[Path, typer.Argument(help="A certificate's JSON.")],
    model: Annotated[
        Path | None, typer.Option(help="The network, file or posterior that it speaks of.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Name of the data set that it was made from; needs --model.")
    ] = None,
    initial: Annotated[
        Path | None,
        typer.Option(help="The network before training, where a prior is centred there."),
    ] = None,
    units: Annotated[
        int | None, typer.Option(min=1, help="As given to recert certify, if it was.")
    ] = None,
    option: Options = None,
) -> None:
    """Derive a certificate's numbers anew: exit status 0 yes, 1 no, 2 unreadable."""
    from recert import verify as check

    if data is None:
        found = check(certificate, model, initial=initial)
    elif model is None:
        raise InputError("--data is measured on a network; give --model as well")
    else:
        sample, held = _units(model, data, units, option)
        with progress(
            "verifying", BarColumn(), "{task.completed} of {task.total} sequences"
        ) as bar:
            count = len(sample.sequences) + (0 if held is None else len(held.sequences))
            task = bar.add_task("sequences", total=count)
            found = check(
                certificate,
                model,
                sample.sequences,
                sample.labels,
                lengths=sample.lengths,
                groups=sample.groups,
                holdout=None
                if held is None
                else (held.sequences, held.labels, held.lengths, held.groups),
                initial=initial,
                progress=lambda done: bar.advance(task, done),
            )
        if found:
            found = replace(found, checks=(*found.checks, *_paid(certificate, model, sample)))
    results().print(str(found), soft_wrap=True, markup=False)
    if not found:
        raise typer.Exit(1)


def _paid(certificate: Path, model: Path, sample: SequenceData) -> Iterator[Check]:
    """What training recorded and the data say of choices is no less than what is paid for."""
    from recert import load_certificate
    from recert.experiments import gibbs_runs, training_runs
    from recert.payment import dearest, most_tried
    from recert.verifier.verification import Check

    posterior = (model / gibbs_runs.RECORD).is_file()
    tried, encoding = (
        gibbs_runs.choices_known(model) if posterior else training_runs.choices_known(model, sample)
    )
    declared = load_certificate(certificate).sample["declared"]
    n, code = declared["tried"], declared["encoding"]
    yield Check("sample.declared.tried", n == most_tried(tried, n), n, f"{tried} recorded")
    same = code == dearest(code, encoding)
    yield Check("sample.declared.encoding", same, code, f"{encoding}, as the data say")


def _units(
    model: Path, data: str, units: int | None, option: list[str] | None
) -> tuple[SequenceData, SequenceData | None]:
    """The units that a model on disk was trained on, and those held out."""
    from recert.experiments import gibbs_runs, training_runs

    if (model / gibbs_runs.RECORD).is_file():
        if units is not None or option:
            raise InputError("a posterior's record says its units and options; drop --units and -o")
        sample, held = gibbs_runs.sample_of(model)
        if sample.name != data:
            raise InputError(
                f"{model} was made from {sample.name}, not from {data}; give --data {sample.name}"
            )
        return sample, held
    return training_runs.units_of(model, data, options_of(option), units)
