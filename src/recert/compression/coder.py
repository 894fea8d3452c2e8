"""One stream of binary decisions, each with the chance that it is 1: written, read or measured.

The stream is cut after the fewest bytes that fix it whatever follows: every continuation of them
decodes to the same decisions. Hence no file is the beginning of another, and none needs a length.
"""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from recert.errors import FileError
from recert.files import missing

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
