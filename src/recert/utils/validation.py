"""Checks of arguments from outside, each with one line that names the argument and the remedy.

One line for values that hold arrays, as a person wants them at a prompt: never the arrays.
"""

from __future__ import annotations

import math
import operator
import unicodedata
from collections.abc import Collection, Mapping, Sized
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any, Literal

from recert.errors import InputError, type_of

LARGEST = 2**53
# Letters that a line of a user's own words may have.
LINE = 200


def number(name: str, value: Any, remedy: str) -> float:
    """A finite real number as a float; InputError otherwise."""
    if _is_one(value):
        try:
            found = float(value)
        except Exception:  # whatever a stranger's __float__ raises
            found = math.nan
        if math.isfinite(found):
            return found
    raise InputError(f"{name} is {short(value)}; {remedy}")


def _is_one(value: Any) -> bool:
    """Whether this may be one real number: no text, truth value, complex number or array."""
    if isinstance(value, (bool, str, bytes, bytearray, complex)):
        return False
    if getattr(value, "ndim", None) not in (None, 0):
        return False
    return not any(word in str(getattr(value, "dtype", "")) for word in ("bool", "complex"))


def share(name: str, value: Any) -> float:
    """A part of a whole, strictly between 0 and 1."""
    return probability(name, value, "a share")


def probability(name: str, value: Any, what: str = "a failure probability") -> float:
    """A number strictly between 0 and 1."""
    remedy = f"{what} lies strictly between 0 and 1"
    found = number(name, value, remedy)
    if not 0.0 < found < 1.0:
        raise InputError(f"{name} is {value}; {remedy}")
    return found


def positive(name: str, value: Any, *, low: float = 1e-250, high: float = 1e250) -> float:
    """A positive number of ordinary size."""
    remedy = "it must be a positive number of ordinary size"
    found = number(name, value, remedy)
    if not low <= found <= high:
        raise InputError(f"{name} is {value}; {remedy}")
    return found


def whole(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number, at least ``least``."""
    remedy = f"it must be a whole number, at least {least}"
    try:
        found = operator.index(value) if _is_one(value) else None
    except Exception:  # whatever a stranger's __index__ raises
        found = None
    if found is None:
        raise InputError(f"{name} is {short(value)}; {remedy}")
    if not least <= found <= LARGEST:
        raise InputError(f"{name} is {short(found)}; {remedy}, and below 2^53")
    return found


def line(name: str, value: Any) -> str:
    """A line of somebody's own words, such as may stand in a certificate; InputError otherwise."""
    why = not_plain(value) if isinstance(value, str) else f"it is a {type(value).__name__}"
    if why:
        raise InputError(f"{name} is no plain line of text ({why}); write a few words")
    return str(value)


def not_plain(text: str) -> str:
    """Why a text is no plain line; empty if it is one.

    It is shown in double quotation marks, so it holds none; and nothing in it looks like something
    else: no digits but 0 to 9, no control characters, none that are invisible or change direction.
    """
    if len(text) > LINE:
        return f"it is longer than {LINE} letters"
    if text != text.strip():
        return "it begins or ends with a blank"
    for letter in text:
        kind = unicodedata.category(letter)
        if not letter.isprintable():
            return f"it holds U+{ord(letter):04X}, which is no visible character"
        if kind[0] == "N" and not letter.isascii():
            return f"it holds U+{ord(letter):04X}, a digit other than 0 to 9"
        if letter in _MARKS or (kind in ("Pi", "Pf") and letter not in "‘’"):
            return f"it holds {letter}, a quotation mark"
    return ""


_MARKS = '"＂„‟〝〞〟″‶'


def word(name: str, value: Any, allowed: Collection[str]) -> str:
    """One of some words."""
    if isinstance(value, str) and value in allowed:
        return value
    raise InputError(f"{name} is {short(value)}; use {' or '.join(map(repr, allowed))}")


def text(name: str, value: Any) -> str:
    """A text."""
    if isinstance(value, str):
        return value
    raise InputError(f"{name} is {short(value)}; it must be a text")


def listed(name: str, value: Any, remedy: str) -> list[Any]:
    """The entries of a list, tuple or the like, not of a text or a mapping."""
    if not isinstance(value, (str, bytes, Mapping)):
        with suppress(Exception):  # whatever a stranger's __iter__ raises
            return list(value)
    raise InputError(f"{name} is {short(value)}; {remedy}")


def step(name: str, value: Any) -> Literal["last", "average"] | int:
    """Where a loss is read: ``"last"``, ``"average"`` or a step from 1 on."""
    if isinstance(value, str) and value == "last":
        return "last"
    if isinstance(value, str) and value == "average":
        return "average"
    remedy = "use 'last', 'average' or a step 1..T"
    if isinstance(value, str):
        raise InputError(f"{name} is {value!r}; {remedy}")
    return whole(name, value)


def short(value: Any) -> str:
    """A value on one line of at most 60 letters, for messages."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not write numbers of over 4300 digits
        text = "a number of thousands of digits"
    except Exception:  # whatever a stranger's __repr__ raises
        text = f"{type_of(value)}"
    return text if len(text) <= 60 else f"{text[:57]}..."


__all__ = ["Brief"]

LONGEST = 40  # letters of one field
SHOWN = 150  # and of all


class Brief:
    """A dataclass whose ``repr`` names its fields and says how large they are.

    Give the dataclass ``repr=False``, or it writes its own.
    """

    def __repr__(self) -> str:
        """One line: Name(field=value, …), arrays by shape and containers by size."""
        shown = (f for f in fields(self) if f.repr)  # type: ignore[arg-type]
        pairs = [(f.name, getattr(self, f.name, None)) for f in shown]
        text = ", ".join(f"{name}={_short(value)}" for name, value in pairs if value is not None)
        text = text if len(text) <= SHOWN else text[:SHOWN].rpartition(", ")[0] + ", …"
        return f"{type(self).__name__}({text})"


def _short(value: Any) -> str:
    if hasattr(value, "shape"):
        return "×".join(map(str, value.shape)) + f" {value.dtype}" if value.shape else str(value)
    if is_dataclass(value):
        return type(value).__name__
    if isinstance(value, Mapping) or (isinstance(value, Sized) and not isinstance(value, str)):
        return f"{len(value)} entries"
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
