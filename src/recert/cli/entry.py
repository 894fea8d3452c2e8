"""The commands put together, and the entry point."""

from __future__ import annotations

import sys
from typing import Any

import typer

from recert import __version__
from recert.cli import (
    certifying,
    comparing,
    compressing,
    datasets,
    posteriors,
    reproducing,
    training,
    verifying,
)
from recert.errors import RecertError

INTERRUPTED = 130
# typer may carry click inside or use the installed one; both name the base of usage errors so.
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="recert",
    help="Generalization certificates for recurrent networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(training.demo)
app.command()(training.train)
app.command()(certifying.certify)
app.command()(comparing.compare)
app.command()(compressing.compress)
app.command()(posteriors.pacbayes)
app.command()(posteriors.ladder)
app.command()(reproducing.reproduce)
app.command()(verifying.verify)
app.add_typer(datasets.app, name="data")


@app.command()
def version() -> None:
    """The version of the package."""
    print(__version__)


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
