"""Files of labelled series in the format .ts of sktime and aeon, as `TableUnits`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recert.data.units import ABSENT, NUMBER, TableUnits
from recert.errors import InputError

_STAMPED = re.compile(r"\(([^(),]*),([^(),]*)\)")
_TRUTH = {"true": True, "false": False}


@dataclass
class _Header:
    classes: tuple[str, ...] = ()
    timestamps: bool = False
    univariate: bool | None = None
    equal: bool | None = None
    dimensions: int | None = None


def read_ts(path: Path, text: str) -> TableUnits:
    """The series of a file, (T,) or (T, d) each, with the classes that its header declares.

    Raises:
        InputError: a line does not follow the format, or a value is missing; it names the line.
    """
    lines = enumerate(text.splitlines(), start=1)
    header = _header(path.name, lines)
    values: list[np.ndarray] = []
    labels: list[str] = []
    places: list[int] = []
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith(("#", "%")):
            continue
        where = f"{path.name}, line {number}"
        value, label = _case(where, line, header)
        if header.equal and values and len(value) != len(values[0]):
            raise InputError(f"{where}: {len(value)} steps, although @equalLength is true")
        values.append(value)
        labels.append(label)
        places.append(number)
    return TableUnits(
        path.name, values, labels, lambda i: f"line {places[i]}", classes=header.classes
    )


def _header(source: str, lines: Iterator[tuple[int, str]]) -> _Header:
    header = _Header()
    for number, line in lines:
        words = line.split()
        if not words or words[0].startswith(("#", "%")):
            continue
        tag, rest, where = words[0].lower(), words[1:], f"{source}, line {number}"
        if not tag.startswith("@"):
            raise InputError(f"{where}: {words[0][:40]!r} before @data; is it a .ts file?")
        if tag == "@data":
            if not header.classes:
                raise InputError(f"{source} declares no @classLabel; only classes can be certified")
            return header
        _read_tag(where, tag, rest, header)
    raise InputError(f"{source} has no @data; it is cut off, or no .ts file")


def _read_tag(where: str, tag: str, rest: list[str], header: _Header) -> None:
    if tag == "@classlabel":
        if len(set(rest[1:])) < len(rest[1:]):
            raise InputError(f"{where}: a class is named twice")
        header.classes = tuple(rest[1:]) if rest[:1] and _truth(where, tag, rest) else ()
    elif tag == "@targetlabel" and _truth(where, tag, rest):
        raise InputError(f"{where}: the target is a number; only classes can be certified")
    elif tag == "@timestamps":
        header.timestamps = _truth(where, tag, rest)
    elif tag == "@univariate":
        header.univariate = _truth(where, tag, rest)
    elif tag == "@equallength":
        header.equal = _truth(where, tag, rest)
    elif tag in ("@dimension", "@dimensions"):
        if len(rest) != 1 or not re.fullmatch("[1-9][0-9]{0,8}", rest[0], re.ASCII):
            raise InputError(f"{where}: {tag} needs a whole number from 1 up")
        header.dimensions = int(rest[0])


def _truth(where: str, tag: str, rest: list[str]) -> bool:
    if not rest or rest[0].lower() not in _TRUTH:
        raise InputError(f"{where}: {tag} needs true or false")
    return _TRUTH[rest[0].lower()]


def _case(where: str, line: str, header: _Header) -> tuple[np.ndarray, str]:
    """One unit: channels and label, separated by colons."""
    body, colon, label = line.strip().rpartition(":")
    if not colon or label.strip() not in header.classes:
        known = ", ".join(header.classes)[:80]
        raise InputError(f"{where}: it ends in {label.strip()[:40]!r}, none of the classes {known}")
    if header.timestamps:
        channels = [_unstamped(where, c) for c in re.split(r"(?<=\))\s*:", body)]
    else:
        channels = [c.split(",") for c in body.split(":")]
    wanted = header.dimensions or (1 if header.univariate else None)
    if wanted is not None and len(channels) != wanted:
        raise InputError(f"{where}: {len(channels)} channels, where the header says {wanted}")
    if len({len(channel) for channel in channels}) > 1:
        raise InputError(f"{where}: channels of different lengths; a step needs all of them")
    numbers = [[_number(where, k, cell) for k, cell in enumerate(c)] for c in channels]
    value = np.array(numbers, dtype=np.float64).T
    return (value[:, 0] if header.univariate else value), label.strip()


def _unstamped(where: str, channel: str) -> list[str]:
    """The values of a channel of (time, value) pairs."""
    found = _STAMPED.findall(channel)
    if ",".join(f"({time},{value})" for time, value in found) != re.sub(
        r"\)\s*,\s*", "),", channel
    ):
        raise InputError(f"{where}: a channel is not of the form (time,value),(time,value)")
    return [value for _, value in found]


def _number(where: str, k: int, cell: str) -> float:
    text = cell.strip()
    if not NUMBER.fullmatch(text):
        missing = text.lower() in ABSENT
        what = "is missing" if missing else f"is {text[:40]!r}, which is no number"
        raise InputError(f"{where}: step {k + 1} {what}; repair or drop the series")
    return float(text)
