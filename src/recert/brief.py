"""One line for values that hold arrays, as a person wants them at a prompt: never the arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["Brief"]

LONGEST = 40  # letters of one field
LINE = 150  # and of all


class Brief:
    """A dataclass whose ``repr`` names its fields and says how large they are.

    Give the dataclass ``repr=False``, or it writes its own.
    """

    def __repr__(self) -> str:
        """One line: Name(field=value, …), arrays by shape and containers by size."""
        shown = (f for f in fields(self) if f.repr)  # type: ignore[arg-type]
        pairs = [(f.name, getattr(self, f.name, None)) for f in shown]
        text = ", ".join(f"{name}={_short(value)}" for name, value in pairs if value is not None)
        text = text if len(text) <= LINE else text[:LINE].rpartition(", ")[0] + ", …"
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
