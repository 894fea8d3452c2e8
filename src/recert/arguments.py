"""Checks of arguments from outside, each with one line that names the argument and the remedy."""

from __future__ import annotations

import math
import operator
import unicodedata
from typing import Any

from recert.errors import InputError

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


def probability(name: str, value: Any) -> float:
    """A number strictly between 0 and 1."""
    remedy = "a failure probability lies strictly between 0 and 1"
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


def short(value: Any) -> str:
    """A value on one line of at most 60 letters, for messages."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not write numbers of over 4300 digits
        text = "a number of thousands of digits"
    except Exception:  # whatever a stranger's __repr__ raises
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
