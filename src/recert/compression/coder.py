"""One stream of binary decisions, each with the chance that it is 1: written, read or measured.

The stream is cut after the fewest bytes that fix it whatever follows: every continuation of them
decodes to the same decisions. Hence no file is the beginning of another, and none needs a length.

Numbers and choices as binary decisions, with priors that are fixed and generic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, Protocol, TypeVar

import numpy as np

from recert.errors import FileError, InputError
from recert.utils.files import missing

SCALE = 1 << 16
"""Chances are whole numbers of 1/SCALE, strictly between 0 and SCALE, so they are exact."""
HALF = SCALE // 2


class Coder(Protocol):
    """What the code of a file is written against, once for both directions."""

    def bit(self, chance: int, value: int) -> int:
        """Code a decision that is 1 with probability chance/SCALE; a reader ignores ``value``."""


class Writer:
    """Collects decisions; `finish` gives their bytes."""

    def __init__(self) -> None:
        self._chances: list[int] = []
        self._values: list[int] = []

    def bit(self, chance: int, value: int) -> int:
        """Append a decision."""
        self._chances.append(chance)
        self._values.append(value)
        return value

    def finish(self) -> bytes:
        """The shortest bytes of which every continuation decodes to the decisions."""
        encoder = _library().stream.queue.RangeEncoder()
        if self._values:
            chances = np.array(self._chances, dtype=np.float64) / SCALE
            encoder.encode(np.array(self._values, dtype=np.int32), _family(), chances)
        return _shortest(*_interval(encoder))


class Reader:
    """Decodes decisions from bytes, a few of them beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._left = 8.0 * len(data) + 8.0
        padded = data + bytes(16 + -len(data) % 4)
        words = np.frombuffer(padded, dtype=">u4").astype(np.uint32)
        self._decode = _library().stream.queue.RangeDecoder(words).decode

    def bit(self, chance: int, value: int) -> int:
        """The next decision.

        Raises:
            FileError: more was read than the bytes can hold, or what no encoder writes.
        """
        try:
            found: int = self._decode(_model(chance))
        except (AssertionError, ValueError):
            raise FileError("it is damaged: there is nothing that its code stands for") from None
        self._left += math.log2((chance if found else SCALE - chance) / SCALE)
        if self._left < 0.0:
            raise FileError("it is truncated: it ends before its network does")
        return found


class Meter:
    """Adds up the bits that decisions cost."""

    def __init__(self) -> None:
        self.bits = 0.0

    def bit(self, chance: int, value: int) -> int:
        """Pay for a decision."""
        self.bits -= math.log2((chance if value else SCALE - chance) / SCALE)
        return value


def _interval(encoder: Any) -> tuple[int, int, int]:
    """What the decisions fix: [low, high) in units of 2^−bits."""
    position, (lower, width) = encoder.pos()
    words = encoder.get_compressed()[:position]
    whole = int.from_bytes(words.astype(">u4").tobytes(), "big")
    # The words are those of a point 2^32 − 1 above the lower end; undo its carry.
    if lower + 2**32 - 1 >= 2**64:
        whole -= 1
    low = (whole << 64) + lower
    return low, low + width, 32 * position + 64


def _shortest(low: int, high: int, bits: int) -> bytes:
    """The shortest bytes B with [0.B, 0.B + 256^−length) inside [low, high)·2^−bits."""
    length = 0
    while True:
        free = bits - 8 * length
        if free < 0:
            low, high, bits, free = low << 8, high << 8, bits + 8, free + 8
        start = -(-low >> free)
        if (start + 1) << free <= high:
            return start.to_bytes(length, "big")
        length += 1


@cache
def _model(chance: int) -> Any:
    return _library().stream.model.Bernoulli(chance / SCALE, perfect=False)


@cache
def _family() -> Any:
    return _library().stream.model.Bernoulli(perfect=False)


@cache
def _library() -> ModuleType:
    try:
        import constriction
    except ImportError:
        raise missing(
            "constriction", "'recert[compress]'", "writing or reading a compressed network"
        ) from None
    module: ModuleType = constriction
    return module


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
