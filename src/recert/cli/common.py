"""stdout and stderr that never stop a command: any encoding, a closed pipe, a full disk.

What a command does and answers must not depend on who reads along. So what cannot be written is
dropped, and told at the end.

What several commands share: options, their parsing, the console.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from recert.certificates.certificate import Certificate
from recert.errors import FileError, InputError
from recert.numerics.rounding import rounded_up
from recert.utils.consoles import READABLE, messages, results

__all__ = ["Stream", "sturdy"]


class Stream:
    """A text stream that takes everything; ``error`` is why some of it was lost, or None."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        """Write, or drop what cannot be written."""
        self._attempt(lambda: self.inner.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        self._attempt(self.inner.flush)

    def _attempt(self, action: Any) -> None:
        if self.error is not None:
            return
        try:
            action()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed by somebody
            self.error = error

    @property
    def lost(self) -> str:
        """Why something could not be written, in words; empty where nobody reads on by choice."""
        if self.error is None or isinstance(self.error, BrokenPipeError):
            return ""
        return getattr(self.error, "strerror", None) or str(self.error)

    def settle(self) -> None:
        """Flush; what is left of a broken stream is not tried again when Python ends."""
        self.flush()
        if self.error is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.inner.fileno())
                os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@contextlib.contextmanager
def sturdy() -> Iterator[tuple[Stream, Stream]]:
    """Stdout and stderr as `Stream`s, within; they write letters that their encoding lacks anew."""
    _open_what_is_closed()
    before = sys.stdout, sys.stderr
    streams = Stream(before[0]), Stream(before[1])
    errors = [_reconfigured(stream, READABLE) for stream in before]
    sys.stdout, sys.stderr = streams  # type: ignore[assignment]
    try:
        yield streams
    finally:
        for stream in streams:
            stream.settle()
        sys.stdout, sys.stderr = before
        for inner, was in zip(before, errors, strict=True):
            _reconfigured(inner, was)


def _reconfigured(stream: Any, errors: str | None) -> str | None:
    """Set how a stream writes letters that it lacks; the handler that it had, None without one."""
    if errors is None or not isinstance(stream, io.TextIOWrapper):
        return None
    was = stream.errors
    with contextlib.suppress(OSError, ValueError):
        stream.reconfigure(errors=errors)
    return was


def _open_what_is_closed() -> None:
    """Closed standard streams lead nowhere: else the next file opened would be one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, so this very one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8"))


Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="Option of the data set, NAME=VALUE; repeat as needed."),
]
HoldoutData = Annotated[
    Path | None,
    typer.Option(help="A second file of your own data, whose units are held out of everything."),
]
CapList = Annotated[
    str | None,
    typer.Option(
        "--caps",
        help="Caps declared before training, by letter or block, as U=0.8,W=3,V=1 or U_g=0.1.",
    ),
]

Required = Annotated[
    float | None,
    typer.Option("--require", help="Exit with status 1 unless a certificate is at most this."),
]
Statements = Annotated[
    str, typer.Option("--bounds", help="'all', or names of statements separated by commas.")
]
Hidden = Annotated[int | None, typer.Option("--hidden", min=1, help="Hidden units d_h of a layer.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of shuffles, draws and trainings.")]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def check_writable(folder: Path) -> None:
    """Fail before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(
            f"cannot write to {folder}: {error.strerror or error}; choose another folder"
        ) from None


def tell_what_is_paid(certificate: Certificate, **given: int | str | None) -> None:
    """Say so where more is known to have been chosen than was declared: it is paid for."""
    for name, value in given.items():
        paid = certificate.sample["declared"][name]
        if value is not None and value != paid and {value, paid} != {"fixed", 1}:
            messages().print(
                f"--{name} {value} is less than training and the data say; {paid} is paid for",
                soft_wrap=True,
            )


def check_required(require: float | None) -> None:
    """Refuse before the work what no error can be."""
    if require is not None and not 0.0 <= require <= 1.0:
        raise InputError(f"--require is {require}; an error lies between 0 and 1")


def enforce(require: float | None, certificate: Certificate) -> None:
    """Exit with status 1 unless the certificate is one and at most what is required, if it is."""
    if require is None:
        return
    kind, value = certificate.kind, certificate.risk_bound
    if kind != "certificate" or not value <= require:
        best = rounded_up(value, 4)
        found = f"the best is {best}" if kind == "certificate" else f"{best} is only an {kind}"
        messages().print(f"no certificate at most {require}: {found}", soft_wrap=True)
        raise typer.Exit(1)


def answer(
    certificate: Certificate,
    title: str,
    written: Sequence[object],
    require: float | None,
    *,
    more: Sequence[RenderableType] = (),
    brief: bool = False,
) -> None:
    """Print a certificate and which files were written, then hold it to what is required.

    Args:
        certificate: what was found.
        title: of its table.
        written: paths, a line each.
        require: as for `enforce`.
        more: printed after the statement.
        brief: without the finite list and the ledger.
    """
    from recert.report import tables

    console = results()
    console.print(tables.ladder(certificate, title))
    console.print(tables.costs(certificate))
    if not brief:
        console.print(tables.finite_list(certificate))
        console.print(tables.ledger(certificate))
    console.print(certificate.statement(), soft_wrap=True)
    for item in more:
        console.print(item, soft_wrap=isinstance(item, str))
    for path in written:
        console.print(f"written: {path}", soft_wrap=True)
    enforce(require, certificate)


def options_of(pairs: list[str] | None, holdout: Path | None = None) -> dict[str, Any]:
    """NAME=VALUE pairs; values that read as JSON numbers or booleans are those."""
    found: dict[str, Any] = {} if holdout is None else {"holdout": str(holdout)}
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


def caps_of(text: str | None) -> dict[str, float] | None:
    """Caps as U=0.8,W=3,V=1; None where none were given."""
    if text is None:
        return None
    caps: dict[str, float] = {}
    for pair in text.split(","):
        name, equals, number = pair.partition("=")
        try:
            value = float(number)
        except ValueError:
            equals = ""
        if not equals or not name.strip() or name.strip() in caps:
            raise InputError(f"caps {text!r} are not of the form U=0.8,W=3,V=1, each block once")
        caps[name.strip()] = value
    return caps


def whole_or_word(text: str) -> int | str:
    """A whole number where the text is one, else the text."""
    return int(text) if re.fullmatch("-?[0-9]{1,20}", text) else text


def bounds_of(text: str) -> str | list[str]:
    """``"all"``, or names separated by commas."""
    return text if text == "all" else [name.strip() for name in text.split(",")]
