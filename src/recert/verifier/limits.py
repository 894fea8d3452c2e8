"""What may be read at all: plain JSON of a certificate's size, so that nothing takes for ever.

A certificate of a hundred blocks has some ten thousand values. What is far beyond that, or no JSON,
is refused before anything is derived from it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from recert.errors import InputError, type_of

DEPTH, VALUES, LETTERS, TEXT = 12, 200_000, 10_000, 4_000_000
# Whole numbers that every JSON reader agrees on.
WHOLE = 2**53
# Lists whose members are compared with each other.
NEEDS = 64


def check_size(data: Mapping[str, Any]) -> None:
    """InputError for what is no JSON, or larger than any certificate."""
    values, letters = 0, 0
    waiting: list[tuple[Any, int]] = [(data, 0)]
    while waiting:
        value, depth = waiting.pop()
        values += 1
        _need(depth <= DEPTH and values <= VALUES, "it is too large")
        if isinstance(value, Mapping):
            _need(all(isinstance(key, str) for key in value), "a key is no text")
            waiting += [(key, depth + 1) for key in value]
            waiting += [(x, depth + 1) for x in value.values()]
            needs = value.get("needs", ())
            _need(not isinstance(needs, (list, tuple)) or len(needs) <= NEEDS, "it is too large")
        elif isinstance(value, (list, tuple)):
            waiting += [(x, depth + 1) for x in value]
        elif isinstance(value, str):
            letters += len(value)
            _need(len(value) <= LETTERS and letters <= TEXT, "a text is too long")
        elif isinstance(value, int):
            _need(abs(value) <= WHOLE, "a whole number is beyond 2^53")
        elif isinstance(value, float):
            _need(math.isfinite(value), "a number is not finite")
        else:
            _need(value is None, f"{type_of(value)} is no JSON")


def strange(value: Any) -> str:
    """What of some JSON reads as something else: an invisible letter, another digit, a minus zero.

    Returns:
        The first such text or number; empty where there is none.
    """
    if isinstance(value, Mapping):
        return strange([*value, *value.values()])
    if isinstance(value, (list, tuple)):
        return next((found for x in value if (found := strange(x))), "")
    if isinstance(value, str):
        return "" if _readable(value) else ascii(value)
    signed = isinstance(value, float) and value == 0.0 and math.copysign(1.0, value) < 0
    return "-0.0" if signed else ""


def _readable(text: str) -> bool:
    """Whether all is visible, and digits are 0 to 9: others look like these, or like letters."""
    return text.isprintable() and all(
        letter.isascii() or unicodedata.category(letter)[0] != "N" for letter in text
    )


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise InputError(f"that is no certificate ({what}); pass what `recert certify` wrote")
