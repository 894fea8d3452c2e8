"""From units as they come, ragged and with names for labels, to the fields of `SequenceData`.

What was declared is used; what was not is read off the units that are not held out, and named in
``read_off``, so that no certificate takes it for declared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recert.data.layout import Layout
from recert.errors import InputError
from recert.utils import validation

PADDING = -1
"""The token, and the per-step label, of a step past the end of a sequence."""

MOST_CLASSES = 10_000
MOST_CELLS = 2**30  # of a padded array: 4 GiB of float32
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
ABSENT = ("", "na", "nan", "null", "none", "?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?", re.ASCII)


@dataclass
class TableUnits:
    """Units as read.

    Attributes:
        source: what they were read from, for messages.
        values: of each unit (T,) or (T, d) numbers, or T texts.
        labels: of each unit a text or a number, or one for each step.
        place: where in the source a unit stands, in words.
        groups: of each unit what names its group; None where there are none.
        aside: of each unit whether it is held out; None where nobody said.
        integers: whether the source itself says that values are whole numbers.
        classes: names that the source itself declares.
    """

    source: str
    values: list[Any]
    labels: list[Any]
    place: Callable[[int], str]
    groups: list[Any] | None = None
    aside: list[bool] | None = None
    integers: bool = False
    classes: tuple[str, ...] | None = None

    def refuse(self, i: int, problem: str) -> InputError:
        """The error for one unit."""
        return InputError(f"{self.source}, {self.place(i)}: {problem}")

    def joined(self, held: TableUnits) -> TableUnits:
        """These units, and others that are held out."""
        if self.aside is not None or held.aside is not None:
            raise InputError(
                f"{self.source} is given held-out units twice, by a column and by a file; drop one"
            )
        if (self.groups is None) != (held.groups is None):
            raise InputError(f"{self.source} and {held.source}: only one of them has groups")
        m = len(self.values)
        return replace(
            self,
            values=self.values + held.values,
            labels=self.labels + held.labels,
            place=lambda i: self.place(i) if i < m else f"of {held.source}: {held.place(i - m)}",
            groups=None if self.groups is None else [*self.groups, *(held.groups or [])],
            aside=[False] * m + [True] * len(held.values),
        )


def sequence_fields(
    units: TableUnits, layout: Layout, presumed: Collection[str] = ()
) -> dict[str, Any]:
    """What `SequenceData` is made of.

    Args:
        units: as read.
        layout: what was declared.
        presumed: what of it was read off data earlier, and so was not declared.

    Raises:
        InputError: a value, a label, a length or a group is not usable; it names file and row.
    """
    if not units.values:
        raise InputError(f"{units.source} holds no unit; give at least one")
    if units.classes is not None and layout.classes in (None, len(units.classes)):
        layout = replace(layout, classes=units.classes)
    values, labels = _trimmed(units, layout)
    basis = [not held for held in units.aside] if units.aside else [True] * len(values)
    if not any(basis):
        raise InputError(f"{units.source}: every unit is held out; leave some to train on")
    lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
    T = int(lengths.max()) if layout.max_length is None else layout.max_length
    tokens = _is_tokens(units, values, layout)
    if tokens:
        x, alphabet, known = _token_array(units, values, lengths, T, layout, basis)
    else:
        x, alphabet, known = _real_array(units, values, lengths, T), None, True
    y, classes, declared = _label_array(units, labels, lengths, T, layout, basis)
    said = {"max_length": layout.max_length is not None, "alphabet": known, "classes": declared}
    read_off = tuple(name for name, so in said.items() if not so or name in presumed)
    return {
        "sequences": x,
        "labels": y,
        "lengths": lengths,
        "classes": classes,
        "alphabet": alphabet,
        "max_length": T,
        "input_kind": "tokens" if tokens else "real",
        "unit": layout.called,
        "population": None,
        "groups": _group_numbers(units),
        "input_bound": layout.input_bound,
        "encoding": "learnt" if tokens and "alphabet" in read_off else "fixed",
        "aside": np.array(units.aside, dtype=bool) if any(units.aside or ()) else None,
        "read_off": read_off,
    }


def _trimmed(units: TableUnits, layout: Layout) -> tuple[list[Any], list[Any]]:
    """Values and labels of each unit without padding, cut to the declared length."""
    values, labels = [], []
    for i, value in enumerate(units.values):
        begin, end = _span(value, layout)
        if begin >= end:
            raise units.refuse(i, "the sequence has no step; drop it")
        if layout.max_length is not None:
            end = min(end, begin + layout.max_length)
        label = units.labels[i]
        if not _is_scalar(label):
            if len(label) != len(value):
                raise units.refuse(i, f"{len(label)} labels for {len(value)} steps; give one each")
            label = label[begin:end]
        values.append(value[begin:end])
        labels.append(label)
    return values, labels


def _span(value: Any, layout: Layout) -> tuple[int, int]:
    """First step, and the one after the last, that are not padding."""
    if layout.padding is None or (len(value) and isinstance(value[0], str)):
        return 0, len(value)
    array = np.asarray(value, dtype=np.float64)
    real = (array != layout.padding) & ~(np.isnan(array) & np.isnan(layout.padding))
    steps = np.flatnonzero(real if real.ndim == 1 else real.any(axis=1))
    if not steps.size:
        return 0, 0
    return (0, int(steps[-1]) + 1) if layout.side == "right" else (int(steps[0]), len(value))


def _is_scalar(label: Any) -> bool:
    return isinstance(label, (str, bytes)) or not hasattr(label, "__len__")


def _is_tokens(units: TableUnits, values: list[Any], layout: Layout) -> bool:
    if layout.kind is not None:
        return layout.kind == "tokens"
    first = values[0]
    if isinstance(first[0], str) or layout.alphabet is not None:
        return True
    return units.integers and np.asarray(first).ndim == 1


def _real_array(units: TableUnits, values: list[Any], lengths: np.ndarray, T: int) -> np.ndarray:
    """(m, T, d) float32, zeros past the ends."""
    shapes = [np.shape(value)[1:] for value in values]
    width = shapes[0][0] if shapes[0] else 1
    _check_room(units, len(values) * T * width)
    x = np.zeros((len(values), T, width), dtype=np.float32)
    for i, value in enumerate(values):
        if shapes[i] != shapes[0]:
            found, wanted = (s[0] if s else 1 for s in (shapes[i], shapes[0]))
            raise units.refuse(i, f"{found} numbers a step, where the first unit has {wanted}")
        if isinstance(value[0], str):
            raise units.refuse(i, f"{validation.short(value[0])} is no number; use kind=tokens")
        with np.errstate(over="ignore"):
            x[i, : lengths[i]] = np.asarray(value).reshape(-1, width)
        if not np.isfinite(x[i]).all():
            step = int(np.flatnonzero(~np.isfinite(x[i]).all(axis=1))[0])
            raise units.refuse(i, f"step {step + 1} is missing or infinite; repair or drop it")
    return x


def _token_array(
    units: TableUnits,
    values: list[Any],
    lengths: np.ndarray,
    T: int,
    layout: Layout,
    basis: list[bool],
) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """(m, T) int32 with −1 past the ends, the alphabet, and whether that was declared."""
    _check_room(units, len(values) * T)
    symbols = isinstance(values[0][0], str)
    known = layout.alphabet
    names: tuple[str, ...] | None = known if isinstance(known, tuple) else None
    if symbols and names is None:
        pairs = zip(values, basis, strict=True)
        names = tuple(sorted({s for v, used in pairs if used for s in v if isinstance(s, str)}))
        if isinstance(known, int) and known != len(names):
            raise InputError(f"{units.source} has {len(names)} tokens, not {known}; name them all")
    place = {name: k for k, name in enumerate(names or ())}
    x = np.full((len(values), T), PADDING, dtype=np.int32)
    for i, value in enumerate(values):
        x[i, : lengths[i]] = _tokens_of(units, i, value, place if symbols else None)
    if names is None:
        rows = x[np.array(basis)]
        names = tuple(map(str, range(known if isinstance(known, int) else int(rows.max()) + 1)))
    outside = np.argwhere(x >= len(names))
    if outside.size:
        i, t = map(int, outside[0])
        raise units.refuse(i, f"token {x[i, t]} is not among 0..{len(names) - 1}; declare alphabet")
    return x, names, isinstance(known, tuple) or (known is not None and not symbols)


def _tokens_of(units: TableUnits, i: int, value: Any, place: dict[str, int] | None) -> Any:
    if place is not None:
        for symbol in value:
            if symbol not in place:
                what = validation.short(getattr(symbol, "tolist", lambda s=symbol: s)())
                raise units.refuse(i, f"token {what} is not in the alphabet; declare it there")
        return [place[symbol] for symbol in value]
    if isinstance(value[0], str) or np.ndim(value) != 1:
        raise units.refuse(i, "tokens are one whole number a step, or one text, in all units alike")
    array = np.asarray(value)
    wrong = ~np.isfinite(array) | (array != np.floor(array)) | (array < 0) | (array >= 2**31)
    if wrong.any():
        found = array[np.flatnonzero(wrong)[0]]
        raise units.refuse(i, f"token {found} is no whole number from 0 up; are inputs kind=real?")
    return array


def _check_room(units: TableUnits, cells: int) -> None:
    if cells > MOST_CELLS:
        raise InputError(
            f"{units.source}: padded to one length it has {cells:.3g} numbers, more than "
            f"{MOST_CELLS:.3g}; declare a smaller max_length"
        )


def _label_array(
    units: TableUnits,
    labels: list[Any],
    lengths: np.ndarray,
    T: int,
    layout: Layout,
    basis: list[bool],
) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """(m,) or (m, T) classes, their names, and whether these were declared."""
    steps = [not _is_scalar(label) for label in labels]
    if any(steps) and not all(steps):
        raise units.refuse(steps.index(not steps[0]), "one label, where other units have many")
    flat: list[Any] = [each for label in labels for each in label] if steps[0] else labels
    owner = np.repeat(np.arange(len(labels)), lengths) if steps[0] else np.arange(len(labels))
    texts = [str(label).strip() for label in flat]
    if isinstance(layout.classes, tuple) and set(texts) <= set(layout.classes):
        found: Sequence[Any] = texts
    else:
        found = plain_labels(flat, lambda k, problem: units.refuse(int(owner[k]), problem))
    used = np.array(basis)[owner]
    names, direct = _class_names([v for v, u in zip(found, used, strict=True) if u], units, layout)
    code = {name: k for k, name in enumerate(names)}
    y = np.empty(len(found), dtype=np.int64)
    for k, value in enumerate(found):
        number = value if direct else code.get(str(value), -1)
        if not isinstance(number, int) or not 0 <= number < len(names):
            what, one_of = validation.short(value), validation.short(list(names))
            raise units.refuse(int(owner[k]), f"label {what} is none of {one_of}; declare classes")
        y[k] = number
    declared = layout.classes is not None
    if not steps[0]:
        return y, names, declared
    padded = np.full((len(labels), T), PADDING, dtype=np.int64)
    padded[np.arange(T)[None, :] < lengths[:, None]] = y
    return padded, names, declared


def plain_labels(
    values: Sequence[Any], refuse: Callable[[int, str], InputError]
) -> list[int] | list[str]:
    """Labels as whole numbers where all are, as texts otherwise."""
    found: list[Any] = []
    for k, value in enumerate(values):
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, str):
            value = value.strip()
        if isinstance(value, bool):
            value = str(value).lower()
        if value is None or value != value or str(value).lower() in ABSENT:
            raise refuse(k, "the label is missing; repair or drop the row")
        if isinstance(value, float):
            if not value.is_integer():
                raise refuse(k, f"label {value} is not whole; classes are whole numbers or texts")
            value = int(value)
        found.append(value)
    texts = [str(value) for value in found]
    if all(_WHOLE.fullmatch(text) for text in texts):
        return [int(text.partition(".")[0]) for text in texts]
    if all(NUMBER.fullmatch(text) for text in texts):
        k = next(k for k, text in enumerate(texts) if not _WHOLE.fullmatch(text))
        raise refuse(k, f"label {texts[k]} is not whole; classes are whole numbers or texts")
    return texts


def _class_names(
    found: list[Any], units: TableUnits, layout: Layout
) -> tuple[tuple[str, ...], bool]:
    """Names of the classes, and whether labels are their numbers."""
    numbers = isinstance(found[0], int)
    if isinstance(layout.classes, int):
        names = tuple(map(str, range(layout.classes)))
        if numbers:
            return names, True
        names = tuple(sorted(set(found)))
        if len(names) != layout.classes:
            raise InputError(
                f"{units.source} has {len(names)} labels, not {layout.classes}; name them: classes="
            )
        return names, False
    if layout.classes is not None:
        named = set(map(str, found)) <= set(layout.classes)
        return layout.classes, numbers and not named
    if numbers and min(found) == 0:
        if max(found) >= MOST_CLASSES:
            raise InputError(f"{units.source}: label {max(found)} is too large; declare classes")
        return tuple(map(str, range(max(found) + 1))), True
    distinct = sorted(set(found))
    if len(distinct) < 2:
        raise InputError(f"{units.source}: every label is {distinct[0]!r}; declare classes")
    if len(distinct) > MOST_CLASSES:
        raise InputError(f"{units.source} has {len(distinct)} labels; are they classes?")
    return tuple(map(str, distinct)), False


def _group_numbers(units: TableUnits) -> np.ndarray | None:
    """Groups numbered by first occurrence; a group is in one role."""
    if units.groups is None:
        return None
    numbers: dict[Any, int] = {}
    role: dict[int, bool] = {}
    found = np.empty(len(units.groups), dtype=np.int64)
    for i, group in enumerate(units.groups):
        group = group.item() if isinstance(group, np.generic) else group
        if group is None or group != group or str(group).strip().lower() in ABSENT:
            raise units.refuse(i, "the group is missing; repair or drop the row")
        found[i] = numbers.setdefault(group, len(numbers))
        held = bool(units.aside and units.aside[i])
        if role.setdefault(int(found[i]), held) != held:
            what = validation.short(group)
            raise units.refuse(i, f"group {what} is trained on and held out; keep it in one role")
    return found
