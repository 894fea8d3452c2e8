"""The commands put together, and the entry point."""

from __future__ import annotations

import _thread
import atexit
import signal
import sys
import threading
from importlib.metadata import entry_points
from types import FrameType
from typing import Annotated, Any

import typer

from recert import __version__
from recert.cli import certify, data, train
from recert.cli import certify as comparing
from recert.cli import certify as verifying
from recert.cli import train as posteriors
from recert.cli import train as training
from recert.cli.common import Stream, sturdy
from recert.errors import RecertError

INTERRUPTED = 130  # what typer answers to Ctrl-C
# typer may carry click inside or use the installed one; both name the base of usage errors so.
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="recert",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(training.demo)
app.command()(training.train)
app.command()(certify.certify)
app.command()(comparing.compare)
app.command()(train.compress)
app.command()(posteriors.pacbayes)
app.command()(posteriors.ladder)
app.command()(verifying.verify)
# Commands of other packages, such as recert_studies.
for _entry in entry_points(group="recert.commands"):
    app.command(_entry.name)(_entry.load())
app.add_typer(data.app, name="data")


@app.command()
def version() -> None:
    """The version of the package."""
    print(__version__)


def _tell_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def recert(
    tell: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version."),
    ] = False,
) -> None:
    """Generalization certificates for recurrent networks."""


def main() -> None:
    """Run a command; one line and status 2 for what goes wrong, never a traceback.

    Raises:
        SystemExit: always.
        KeyboardInterrupt: Ctrl-C; `recert.cli.main` says so.
    """
    before, sys.unraisablehook = sys.unraisablehook, _not_lost
    plain = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if plain and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)
    try:
        with sturdy() as (out, _):
            status = _settled(_status(), out)
        sys.exit(status)
    finally:
        # Once the work is done, nobody has anything to say about Ctrl-C: what is registered last is
        # called first, before what libraries do at their end.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        sys.unraisablehook = before
        if signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _status() -> int:
    """Run the command; its exit status."""
    try:
        status = int(app(standalone_mode=False) or 0)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        return status
    except RecertError as error:
        return _refused(str(error))
    except USAGE_ERROR as error:
        return _refused(error.format_message())
    except typer.Abort:
        raise KeyboardInterrupt from None
    except OSError as error:
        why = error.strerror or error or type(error).__name__
        return _refused(f"{why}{_where(error)}; make room or choose another place")
    except MemoryError:
        return _refused("there is not enough memory for this; use fewer units or a smaller network")


def _settled(status: int, out: Stream) -> int:
    """The status once everything is printed: a lost "yes" is none, a "no" stays one."""
    out.flush()
    if status == 0 and out.lost:
        return _refused(f"cannot print: {out.lost}; files that were asked for are written")
    return status


def _refused(message: str) -> int:
    """The message on one line in printable characters, and status 2; no line for an empty one."""
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in " ".join(message.split()))
    if line:  # without arguments, help was printed instead
        print(f"recert: {line}", file=sys.stderr)
    return 2


def _where(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C waits while a library is loaded: inside its initializers torch would abort."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _again()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _again() -> None:
    """Ctrl-C once more, in a moment."""
    timer = threading.Timer(0.05, _thread.interrupt_main)
    timer.daemon = True
    timer.start()


def _not_lost(unraisable: Any) -> None:
    """Ctrl-C that came inside a destructor, where Python would only print it, comes again."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _again()
    else:
        sys.__unraisablehook__(unraisable)
