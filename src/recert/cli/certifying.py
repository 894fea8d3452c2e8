"""``recert certify``: bounds on the error of trained networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recert.cli.common import (
    CapList,
    Options,
    bounds_of,
    caps_of,
    check_required,
    check_writable,
    enforce,
    options_of,
    tell_what_is_paid,
    whole_or_word,
)
from recert.consoles import counted, results
from recert.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from recert.certificate import Certificate
    from recert.joint import JointCertificate

ROLES = ("certificate", "checking")


def certify(
    models: Annotated[
        list[Path],
        typer.Argument(help="Networks on disk; several share δ: one may choose."),
    ],
    data: Annotated[str, typer.Option(help="Name of the data set that they were trained on.")],
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
    bounds: Annotated[
        str, typer.Option(help="'all', or names of statements separated by commas.")
    ] = "all",
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
    require: Annotated[
        float | None, typer.Option(help="Exit with status 1 unless a certificate is at most this.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for certificates and picture.")] = None,
    option: Options = None,
) -> None:
    """Bound the error of trained networks on new sequences."""
    from recert.experiments import training_runs

    if holdout_role is not None and holdout_role not in ROLES:
        raise InputError(f"--holdout-role is {holdout_role!r}; use {' or '.join(ROLES)}")
    check_required(require)
    if out is not None:
        check_writable(out)
    declared: dict[str, Any] = {
        "options": options_of(option),
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
    console = results()
    if len(models) == 1:
        with counted("certifying") as bar:
            best = training_runs.certify_saved(
                models[0], data, delta=delta, progress=bar, **declared
            )
        tell_what_is_paid(best, tried=tried, encoding=declared["encoding"])
        written = _write_one(best, str(models[0]), out)
        _show(best, f"Bounds for {models[0]}", console)
    else:
        with counted("certifying") as bar:
            joint = training_runs.certify_together(
                models, data, delta=delta, progress=bar, **declared
            )
        best = joint.best
        tell_what_is_paid(best, tried=tried, encoding=declared["encoding"])
        written = _write_joint(joint, out)
        _show_joint(joint, console)
    for path in written:
        console.print(f"written: {path}", soft_wrap=True)
    enforce(require, best)


def _show(certificate: Certificate, title: str, console: Console) -> None:
    from recert.report import tables

    console.print(tables.ladder(certificate, title))
    console.print(tables.costs(certificate))
    console.print(tables.finite_list(certificate))
    console.print(tables.ledger(certificate))
    console.print(certificate.statement(), soft_wrap=True)


def _show_joint(joint: JointCertificate, console: Console) -> None:
    from recert.report import tables

    _show(joint.best, f"Bounds for {joint.best_name}, the best of {len(joint)}", console)
    console.print(tables.comparison(joint.pairs()))
    console.print(tables.best_of(joint.pairs(), joint=True), soft_wrap=True)


def _write_one(certificate: Certificate, title: str, out: Path | None) -> list[Path]:
    from recert import plots

    if out is None:
        return []
    saved = certificate.save(out / "certificate.json")
    return [saved, plots.ladder([(certificate, title)], out / "ladder.png")]


def _write_joint(joint: JointCertificate, out: Path | None) -> list[Path]:
    from recert import plots

    if out is None:
        return []
    return [*joint.save(out), plots.cells(joint.pairs(), out / "compare.png")]
