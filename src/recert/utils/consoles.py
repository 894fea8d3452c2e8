"""Where things are printed: results to stdout, messages and progress to stderr, in any encoding.

The names of the files that were written are results; that a limit was not met is a message.

A letter that the encoding of a stream lacks is written so that a person reads it: ``<=`` for ≤,
``delta`` for δ, ``||U||`` for ‖U‖. Nothing is coloured, boxed or redrawn where no terminal is.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TimeElapsedColumn
from rich.text import Text

__all__ = ["READABLE", "PlainConsole", "counted", "messages", "progress", "readable", "results"]

READABLE = "recert.readable"
"""The name of the error handler, for ``str.encode`` and ``reconfigure(errors=…)``."""
WIDTH = 132  # of a page where output goes elsewhere than to a terminal

_SYMBOLS = {
    "‖": "||", "−": "-", "–": "-", "—": "-", "‐": "-", "√": "sqrt ", "·": "*", "⊙": "o",
    "⊗": "x", "×": "x", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "±": "+-", "∓": "-+",
    "→": "->", "←": "<-", "↦": "->", "…": "...", "∞": "inf", "ℓ": "l", "½": "1/2", "∂": "d",
    "∫": "integral ", "∈": " in ", "∘": "o", "⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")",
    "’": "'", "‘": "'", "“": '"', "”": '"', "◀": "<-", "•": "*", "ß": "ss", "\u0302": "^",
    "\u0303": "~", "\u00a0": " ", "ﬁ": "fi", "∑": "sum ", "∏": "prod ",
}  # fmt: skip
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀⁿⁱ", "0123456789+-Tni")
_RAISED_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀⁿⁱ]+")


def readable(text: str) -> str:
    """The text in ASCII, for people: every other letter by its usual name or its code."""
    text = _RAISED_RUN.sub(lambda run: "^" + run.group().translate(_RAISED), text)
    return "".join(c if c.isascii() else _SYMBOLS.get(c) or _named(c) for c in text)


def _named(letter: str) -> str:
    name = unicodedata.name(letter, "")
    size, _, greek = name.removeprefix("GREEK ").partition(" LETTER ")
    if name.startswith("GREEK ") and greek.isalpha():
        word = greek.lower().replace("lamda", "lambda")
        return word.capitalize() if size == "CAPITAL" else word
    bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return bare.strip() or letter.encode("ascii", "backslashreplace").decode()


def _handle(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return readable(error.object[error.start : error.end]), error.end


codecs.register_error(READABLE, _handle)


class PlainConsole(Console):
    """A console that takes what it is given as plain text, and lays out what it can write."""

    def __init__(self, **options: Any) -> None:
        # What is printed comes from files and paths, in which [red] or :x: are no instructions.
        super().__init__(highlight=False, markup=False, emoji=False, **options)
        if not self.is_terminal:
            self.width = WIDTH

    def render_str(self, text: str, *args: Any, **options: Any) -> Text:
        """As usual, with letters that the stream has: columns are as wide as what is written."""
        if not self.encoding.startswith("utf"):
            text = text.encode(self.encoding, READABLE).decode(self.encoding)
        return super().render_str(text, *args, **options)


def results() -> Console:
    """Where answers go: stdout."""
    return PlainConsole()


class Counted:
    """A bar that counts sequences, as ``progress`` of ``recert.certify``."""

    def __init__(self, bar: Progress, what: str) -> None:
        self._bar, self._task, self._total = bar, bar.add_task(what, total=None), 0

    def __call__(self, count: int) -> None:
        """So many more are done."""
        self._bar.advance(self._task, count)

    def expect(self, count: int) -> None:
        """About so many more will come."""
        self._total += count
        self._bar.update(self._task, total=self._total)


@contextmanager
def counted(what: str) -> Iterator[Counted]:
    """A bar on stderr for the time of a certificate."""
    with progress("{task.description}", BarColumn(), TimeElapsedColumn()) as bar:
        yield Counted(bar, what)


def messages() -> Console:
    """Where people are told how far it is: stderr."""
    return PlainConsole(stderr=True)


def progress(*columns: str | ProgressColumn) -> Progress:
    """A bar on stderr; none where stderr is no terminal."""
    console = messages()
    return Progress(*columns, console=console, disable=not console.is_terminal)
