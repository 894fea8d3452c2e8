"""What was said of data: which column is what, and what was declared of classes and lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from recert.errors import InputError
from recert.utils import validation

KINDS = ("real", "tokens")
SIDES = ("right", "left")
COLUMNS = ("sequence", "label", "unit", "order", "lengths", "group", "role", "separator")


@dataclass(frozen=True)
class Layout:
    """Where things stand in a file, and what was declared of them; None where nobody said.

    Attributes:
        sequence: column (or array) that holds a whole sequence: a list, or a text.
        features: columns of one step's numbers in a long table, or the steps of a wide one.
        label: column of the class.
        unit: column that says which rows of a long table are one sequence.
        order: column that orders the rows of a sequence: numbers, or dates as ISO 8601 writes them.
        lengths: column (or array) of numbers of valid steps; an array may be a mask (m, T).
        group: column of what is independent, where several sequences are not.
        role: column that says train, or holdout (or test).
        kind: "real" or "tokens".
        padding: the value that stands for steps that are none, at the padded side.
        side: where padding stands: "right" or "left".
        separator: between the tokens or numbers of a text; none means letters, or numbers.
        each_step: whether every step has a label of its own.
        classes: names of the classes in order, or how many there are.
        alphabet: names of the tokens in order, or how many there are.
        max_length: T, declared; longer sequences are cut.
        input_bound: bound on the norm of a step, declared.
        called: what one unit is, in a word.
    """

    sequence: str | None = None
    features: tuple[str, ...] | None = None
    label: str | None = None
    unit: str | None = None
    order: str | None = None
    lengths: str | None = None
    group: str | None = None
    role: str | None = None
    kind: str | None = None
    padding: float | None = None
    side: str = "right"
    separator: str | None = None
    each_step: bool = False
    classes: tuple[str, ...] | int | None = None
    alphabet: tuple[str, ...] | int | None = None
    max_length: int | None = None
    input_bound: float | None = None
    called: str = "sequence"

    def __post_init__(self) -> None:
        for name in COLUMNS:
            if getattr(self, name) is not None:
                validation.text(name, getattr(self, name))
        if self.kind is not None:
            validation.word("kind", self.kind, KINDS)
        validation.word("side", self.side, SIDES)
        validation.line("called", self.called)
        for name in ("classes", "alphabet", "features"):
            value = getattr(self, name)
            if isinstance(value, tuple):
                if not value or len(set(value)) < len(value):
                    raise InputError(f"{name} are {validation.short(value)}; name each once")
            elif value is not None and name != "features":
                validation.whole(name, value)
            elif value is not None:
                raise InputError(f"features are {validation.short(value)}; name columns")
        if self.max_length is not None:
            validation.whole("max_length", self.max_length)
        if self.input_bound is not None:
            validation.positive("input_bound", self.input_bound)
        if self.padding is not None and not isinstance(self.padding, (int, float)):
            raise InputError(f"padding is {validation.short(self.padding)}; it must be a number")
        if not isinstance(self.each_step, bool):
            raise InputError(f"each_step is {validation.short(self.each_step)}; use true or false")

    def changes(self) -> dict[str, Any]:
        """What differs from the default, as JSON holds it."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        usual = {f.name: f.default for f in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value != usual[name]
        }


def layout_of(options: Mapping[str, Any]) -> Layout:
    """Options as a `Layout`; lists may be texts with commas, an alphabet may be its letters.

    Raises:
        InputError: an option is unknown, or of the wrong type.
    """
    known = {f.name for f in fields(Layout)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputError(f"own data have no option {unknown[0]!r}; they have {', '.join(known)}")
    found = {name: value for name, value in options.items() if value is not None}
    for name in ("features", "classes", "alphabet"):
        value = found.get(name)
        if isinstance(value, str):
            letters = name == "alphabet" and "," not in value
            value = list(value) if letters else [part.strip() for part in value.split(",")]
        if isinstance(value, (list, tuple)):
            found[name] = tuple(map(str, value))
    return Layout(**found)
