"""stdout and stderr that never stop a command: any encoding, a closed pipe, a full disk.

What a command does and answers must not depend on who reads along. So what cannot be written is
dropped, and told at the end.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from recert.consoles import READABLE

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
