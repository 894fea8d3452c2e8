"""``recert certify``: bounds on the error of trained networks.

``recert compare``: certificates side by side.

``recert verify``: whether a certificate's numbers follow, and whether they are its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn

from recert.cli.common import (
    CapList,
    HoldoutData,
    Options,
    Required,
    Statements,
    answer,
    bounds_of,
    caps_of,
    check_required,
    check_writable,
    given,
    options_of,
    tell_what_is_paid,
    whole_or_word,
)
from recert.errors import InputError
from recert.utils.consoles import counted, progress, results

if TYPE_CHECKING:
    from recert.certificates.certificate import Certificate
    from recert.certification.certify import JointCertificate

ROLES = ("certificate", "checking")


def certify(
    models: Annotated[
        list[Path],
        typer.Argument(help="Networks on disk; several share δ: one may choose."),
    ],
    data: Annotated[str, typer.Option(help="Name or path of the data that they were trained on.")],
    holdout_data: HoldoutData = None,
    delta: Annotated[
        float, typer.Option(help="Failure probability of all bounds together.")
    ] = 0.01,
    at: Annotated[str, typer.Option(help="last, average, or a step.")] = "last",
    caps: CapList = None,
    input_bound: Annotated[
        float | None, typer.Option(help="B_x, declared before looking at the sample.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="T, declared; longer sequences are cut.")
    ] = None,
    tried: Annotated[
        int | None,
        typer.Option(
            min=1, help="Recipes among which this one was chosen; at least those of training."
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="How inputs came to be encoded as they are: fixed, learnt from the sample, or the "
            "number of encodings to choose among; at least what the data set says of its own."
        ),
    ] = None,
    units: Annotated[
        int | None, typer.Option(min=1, help="First units to use; by default those trained on.")
    ] = None,
    holdout_role: Annotated[
        str | None,
        typer.Option(
            help="certificate declares that units set aside or held back were used for nothing "
            "else, checking that they may have been seen. By default as training recorded."
        ),
    ] = None,
    bounds: Statements = "all",
    budget: Annotated[
        float,
        typer.Option(
            help="Seconds of one core that a statement may take, by an estimate beforehand; one "
            "above it is skipped."
        ),
    ] = 60.0,
    padding: Annotated[
        str | None,
        typer.Option(
            help="cut, left or 'as given': which answer to padded sequences is meant, where a "
            "model's differ."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Name or number (from 0) of the output of an ONNX model that counts."),
    ] = None,
    require: Required = None,
    out: Annotated[Path | None, typer.Option(help="Folder for certificates and picture.")] = None,
    option: Options = None,
) -> None:
    """Bound the error of trained networks on new sequences."""
    from recert.report import tables
    from recert.workflows import networks

    if holdout_role is not None and holdout_role not in ROLES:
        raise InputError(f"--holdout-role is {holdout_role!r}; use {' or '.join(ROLES)}")
    check_required(require)
    if out is not None:
        check_writable(out)
    declared: dict[str, Any] = {
        "options": options_of(option, holdout_data),
        "at": whole_or_word(at),
        "caps": caps_of(caps),
        "input_bound": input_bound,
        "max_length": max_length,
        "tried": tried,
        "encoding": None if encoding is None else whole_or_word(encoding),
        "units": units,
        "holdout_role": holdout_role,
        "budget": budget,
        "padding": padding,
        "output": None if output is None else whole_or_word(output),
        "bounds": bounds_of(bounds),
    }
    told = {"tried": tried, "encoding": declared["encoding"]}
    with counted("certifying") as bar:
        if len(models) == 1:
            best = networks.certify_saved(models[0], data, delta=delta, progress=bar, **declared)
        else:
            joint = networks.certify_together(models, data, delta=delta, progress=bar, **declared)
            best = joint.best
    tell_what_is_paid(best, **told)
    if len(models) == 1:
        written = _write_one(best, str(models[0]), out)
        answer(best, f"Bounds for {models[0]}", written, require)
        return
    title = f"Bounds for {joint.best_name}, the best of {len(joint)}"
    pairs = joint.pairs()
    more = (tables.comparison(pairs), tables.best_of(pairs, joint=True))
    answer(best, title, _write_joint(joint, out), require, more=more)


def _write_one(certificate: Certificate, title: str, out: Path | None) -> list[Path]:
    from recert import report

    if out is None:
        return []
    saved = certificate.save(out / "certificate.json")
    return [saved, report.ladder([(certificate, title)], out / "ladder.png")]


def _write_joint(joint: JointCertificate, out: Path | None) -> list[Path]:
    from recert import report

    if out is None:
        return []
    return [*joint.save(out), report.cells(joint.pairs(), out / "compare.png")]


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
    from recert.workflows import compare as comparison

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


if TYPE_CHECKING:
    from recert.data import SequenceData
    from recert.verifier.verification import Check


def verify(
    certificate: Annotated[Path, typer.Argument(help="A certificate's JSON.")],
    model: Annotated[
        Path | None, typer.Option(help="The network, file or posterior that it speaks of.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Name or path of the data that it was made from; needs --model."),
    ] = None,
    holdout_data: HoldoutData = None,
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
        sample, held = _units(model, data, units, option, holdout_data)
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
    from recert.theorems.setting import dearest, most_tried
    from recert.verifier.verification import Check
    from recert.workflows import networks, posteriors

    posterior = (model / posteriors.RECORD).is_file()
    tried, encoding = (
        posteriors.choices_known(model) if posterior else networks.choices_known(model, sample)
    )
    declared = load_certificate(certificate).sample["declared"]
    n, code = declared["tried"], declared["encoding"]
    yield Check("sample.declared.tried", n == most_tried(tried, n), n, f"{tried} recorded")
    same = code == dearest(code, encoding)
    yield Check("sample.declared.encoding", same, code, f"{encoding}, as the data say")


def _units(
    model: Path,
    data: str,
    units: int | None,
    option: list[str] | None,
    holdout_data: Path | None,
) -> tuple[SequenceData, SequenceData | None]:
    """The units that a model on disk was trained on, and those held out."""
    from recert.workflows import networks, posteriors

    if (model / posteriors.RECORD).is_file():
        if units is not None or option or holdout_data is not None:
            raise InputError(
                "a posterior's record says its units and options; drop --units, --holdout-data, -o"
            )
        return posteriors.sample_of(model, data)
    return networks.units_of(model, data, options_of(option, holdout_data), units)
