"""Numbers and choices as binary decisions, with priors that are fixed and generic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from recert.compression.coder import HALF, SCALE, Coder
from recert.errors import InputError

T = TypeVar("T")


def flag(coder: Coder, value: bool, chance: int = HALF) -> bool:
    """A decision with a fixed chance of being yes, in 1/65536."""
    return bool(coder.bit(chance, int(value)))


def member(coder: Coder, value: T | None, options: Sequence[tuple[T, int]]) -> T:
    """One of some options, each with its weight; a reader passes None."""
    left = sum(weight for _, weight in options)
    for option, weight in options[:-1]:
        if flag(coder, value == option, chance_of(weight, left)):
            return option
        left -= weight
    last, _ = options[-1]
    if value is not None and value != last:
        raise InputError(f"{value!r} has no code; a file knows {[o for o, _ in options]}")
    return last


def natural(coder: Coder, value: int, most: int, least: int = 1) -> int:
    """A whole number from ``least`` on, by Elias's gamma code of value − least + 1.

    Raises:
        InputError: it is above ``most``.
    """
    value += 1 - least
    digits = 1
    while flag(coder, value.bit_length() > digits):
        digits += 1
        if digits > most.bit_length() + 1:
            break
    found = 1
    for place in range(digits - 2, -1, -1):
        found = 2 * found + coder.bit(HALF, value >> place & 1)
    found += least - 1
    if found > most:
        raise InputError(f"a size or a number in it passes {most}, the largest that is read")
    return found


def signed(coder: Coder, value: int, most: int) -> int:
    """A whole number of either sign: whether it is 0, its sign, its size."""
    if flag(coder, value == 0):
        return 0
    negative = flag(coder, value < 0)
    size = natural(coder, abs(value), most)
    return -size if negative else size


def chance_of(part: int, whole: int) -> int:
    """The chance part/whole, kept away from 0 and 1."""
    return min(max(part * SCALE // whole, 1), SCALE - 1)


class Adaptive:
    """A decision whose chance is learnt as it is coded (Krichevsky and Trofimov's estimate)."""

    def __init__(self, no: int = 1, yes: int = 1) -> None:
        self.counts = [no, yes]  # in halves

    def __call__(self, coder: Coder, value: Any) -> bool:
        """Code one, and learn from it."""
        no, yes = self.counts
        found = coder.bit(chance_of(yes, no + yes), int(value))
        self.counts[found] += 2
        return bool(found)
