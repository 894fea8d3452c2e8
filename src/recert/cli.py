"""The command line: parses, calls, prints. Exit status 0 done, 1 the answer is no, 2 bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from recert import __version__
from recert.errors import FileError, InputError, RecertError

app = typer.Typer(
    name="recert",
    help="Generalization certificates for recurrent networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="The data sets: list them, or tell about one.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="Option of the data set, NAME=VALUE; repeat as needed."),
]
CapList = Annotated[
    str | None,
    typer.Option(
        "--caps",
        help="Caps declared before training, by letter or block, as U=0.8,W=3,V=1 or U_g=0.1.",
    ),
]


INTERRUPTED = 130
# typer may carry click inside or use the installed one; both name the base of usage errors so.
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def main() -> None:
    """Entry point: one line and status 2 for bad input, never a traceback."""
    try:
        status = app(standalone_mode=False) or 0
        if status == INTERRUPTED:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
        sys.exit(status)
    except RecertError as error:
        print(f"recert: {error}", file=sys.stderr)
        sys.exit(2)
    except USAGE_ERROR as error:
        message = " ".join(error.format_message().split())
        if message:  # without arguments, help was printed instead
            print(f"recert: {message}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("recert: interrupted; nothing half-written was left", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for certificates and pictures.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of shuffle and training.")] = 0,
) -> None:
    """Train two networks on a real data set, certify both, draw the pictures."""
    from recert.experiments.demo import run

    _writable(out)
    run(out, seed=seed, console=_console())


@app.command()
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
    _writable(out)
    run = training_runs.train_and_save(
        data,
        out,
        options=_options(option),
        cell=cell,
        caps=_caps(caps),
        free=free,
        units=units,
        seed=seed,
        changes=_given(
            d_h=hidden, layers=layers, bidirectional=bidirectional or None, bias=bias or None,
            activation=activation, channels=channels, width=width, epochs=epochs,
        ),
    )  # fmt: skip
    console = _console()
    console.print(f"trained on {run.trained_on:,} units; training error {run.error:.4f}")
    if run.held_error is not None:
        console.print(f"error on the {run.held_back:,} units held back: {run.held_error:.4f}")
    console.print(f"written to {run.path}")


@app.command()
def certify(
    model: Annotated[Path, typer.Argument(help="A network on disk.")],
    data: Annotated[str, typer.Option(help="Name of the data set that it was trained on.")],
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
        int | None, typer.Option(min=1, help="Recipes among which this one was chosen.")
    ] = None,
    units: Annotated[
        int | None, typer.Option(min=1, help="First units to use; by default those trained on.")
    ] = None,
    bounds: Annotated[
        str, typer.Option(help="'all', or names of statements separated by commas.")
    ] = "all",
    require: Annotated[
        float | None, typer.Option(help="Exit with status 1 unless a certificate is at most this.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for certificate and picture.")] = None,
    option: Options = None,
) -> None:
    """Bound the error of a trained network on new sequences."""
    from recert import plots
    from recert.experiments import training_runs
    from recert.report import tables

    if out is not None:
        _writable(out)
    certificate = training_runs.certify_saved(
        model,
        data,
        options=_options(option),
        delta=delta,
        at=int(at) if at.lstrip("-").isdigit() else at,
        caps=_caps(caps),
        input_bound=input_bound,
        max_length=max_length,
        tried=tried,
        units=units,
        bounds="all" if bounds == "all" else [name.strip() for name in bounds.split(",")],
    )
    console = _console()
    console.print(tables.ladder(certificate, f"Bounds for {model}"))
    console.print(tables.finite_list(certificate))
    console.print(tables.ledger(certificate))
    console.print(certificate.statement(), soft_wrap=True)
    if out is not None:
        console.print(f"written: {certificate.save(out / 'certificate.json')}", soft_wrap=True)
        picture = plots.ladder([(certificate, str(model))], out / "ladder.png")
        console.print(f"written: {picture}", soft_wrap=True)
    if require is not None and not (
        certificate.kind == "certificate" and certificate.risk_bound <= require
    ):
        console.print(f"no certificate at most {require}")
        raise typer.Exit(1)


@app.command()
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
    console = _console()
    if data is None:
        comparison.show(certificates or [], console=console, picture=out)
        return
    folder = out or Path("compare")
    _writable(folder)
    comparison.run(
        data,
        folder,
        cells=[name.strip() for name in cells.split(",")],
        options=_options(option),
        changes=_given(d_h=hidden, epochs=epochs),
        free=free,
        seed=seed,
        console=console,
    )


@data_app.command("list")
def data_list() -> None:
    """Every data set, a line each."""
    from recert.data import list_data

    table = Table(box=None)
    for column in ("name", "unit", "what it is"):
        table.add_column(column)
    for entry in list_data():
        table.add_row(entry.name, entry.unit, entry.summary)
    _console().print(table)


@data_app.command("info")
def data_info(name: str) -> None:
    """What one data set is, and the options that it takes."""
    from recert.data import info

    entry = info(name)
    console = _console()
    for label in ("name", "summary", "unit", "inputs", "classes", "source"):
        console.print(f"{label:8} {getattr(entry, label)}", soft_wrap=True, markup=False)
    for option, default in entry.options.items():
        console.print(f"option   {option} (default {default})", soft_wrap=True, markup=False)


@app.command()
def version() -> None:
    """The version of the package."""
    print(__version__)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=132)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _writable(folder: Path) -> None:
    """Fail before the work, not after it."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(
            f"cannot write to {folder}: {error.strerror or error}; choose another folder"
        ) from None


def _options(pairs: list[str] | None) -> dict[str, Any]:
    """NAME=VALUE pairs; values that read as JSON numbers or booleans are those."""
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise InputError(f"option {pair!r} is not of the form NAME=VALUE")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        found[name] = value if isinstance(value, (int, float, bool)) else text
    return found


def _caps(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    caps: dict[str, float] = {}
    for pair in text.split(","):
        name, equals, number = pair.partition("=")
        try:
            caps[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise InputError(f"caps {text!r} are not of the form U=0.8,W=3,V=1")
    return caps


if __name__ == "__main__":
    main()
