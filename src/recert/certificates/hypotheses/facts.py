"""What facts may be, the form of a row, and how numbers and names stand in a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recert.utils import validation

Status = Literal["proved", "enforced", "declared", "estimated", "violated"]
Facts = Mapping[str, Any]
Kind = Callable[[Any], bool]
Sentences = tuple[str, str]

# Members of a list.
MOST = 1000
# Whose units a choice was made without looking at.
SAMPLE, COUNTED = "sample", "units that the bound counts"


# What facts may be. Types are exact, so that 4.0, true and -0 are no numbers of steps.


def count(x: Any) -> bool:
    """A whole number, 0 or more."""
    return type(x) is int and 0 <= x <= validation.LARGEST


def positive(x: Any) -> bool:
    """A whole number above 0."""
    return count(x) and x > 0


def number(x: Any) -> bool:
    """A finite number, 0 or more."""
    return type(x) is float and math.isfinite(x) and math.copysign(1.0, x) > 0


def truth(x: Any) -> bool:
    """Yes or no."""
    return x is True or x is False


def text(x: Any) -> bool:
    """A line of somebody's own words, or none."""
    return isinstance(x, str) and not validation.not_plain(x)


def perhaps(kind: Kind) -> Kind:
    """Null, or of that kind."""
    return lambda x: x is None or kind(x)


def among(*values: str | None) -> Kind:
    """One of these words."""
    return lambda x: (x is None or isinstance(x, str)) and x in values


def each(kind: Kind, least: int = 0) -> Kind:
    """A list of such."""
    return lambda x: isinstance(x, list) and least <= len(x) <= MOST and all(map(kind, x))


def digest(x: Any) -> bool:
    """SHA-256 in hexadecimal."""
    return isinstance(x, str) and re.fullmatch("[0-9a-f]{64}", x) is not None


def encoding(x: Any) -> bool:
    """How inputs are encoded."""
    return positive(x) or x in ("fixed", "learnt")


def excess(x: Any) -> bool:
    """A block, which of its norms, what it is, and the cap below that."""
    return (
        isinstance(x, list) and len(x) == 4 and text(x[0])
        and x[1] in ("norm", "row norm", "l1 norm") and number(x[2]) and number(x[3])
    )  # fmt: skip


@dataclass(frozen=True)
class Form:
    """The facts that a row has, and its sentences; None for a status that it never has."""

    facts: Mapping[str, Kind]
    words: Callable[[str, Facts], Sentences | None]


def always(status: str, statement: str, evidence: str) -> Form:
    """A row without facts."""
    return Form({}, lambda found, _: (statement, evidence) if found == status else None)


def by_status(statement: str, found: str, evidence: Mapping[str, str]) -> Sentences | None:
    """The sentences of a row whose evidence depends on its status."""
    return (statement, evidence[found]) if found in evidence else None


def exact(x: float) -> str:
    """A number as text that reads back as itself."""
    return short if float(short := f"{x:g}") == x else repr(x)


def quoted(words: str) -> str:
    """Somebody's own words; `arguments.not_plain` keeps such marks out of them."""
    return f"“{words}”"


def named(name: str) -> str:
    """A name, in marks unless it is one word."""
    return name if re.fullmatch(r"[A-Za-z0-9_.\-]{1,40}", name) else quoted(name)
