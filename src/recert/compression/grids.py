"""A block's grids as decisions: one or two factors, their steps, their integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recert.blocks import Block
from recert.compression.coder import HALF, Coder
from recert.compression.integers import IntegerCode
from recert.compression.program import LARGEST_EXPONENT, CodedBlock, Grid, Integers
from recert.compression.symbols import Adaptive, flag, natural, signed
from recert.errors import InputError

LARGEST_RANK = 1 << 16
# The first step is expected at 1/4.
_FIRST_SIZE = -2
_DIGITS = 7  # of a mantissa after its first


class BlockCode:
    """Codes one block after another, and remembers steps and counts.

    Args:
        coder: writes, reads or measures.
        pay: takes the weights of factors off what a file may declare.
    """

    def __init__(self, coder: Coder, pay: Callable[[int], None]) -> None:
        self.coder, self.pay = coder, pay
        self.integers = IntegerCode(coder)
        self.products, self.zeros, self.same = Adaptive(15, 1), Adaptive(15, 1), Adaptive()
        self.step: tuple[int, int] | None = None  # the last mantissa and exponent

    def block(self, block: Block, old: CodedBlock | None) -> CodedBlock:
        """The coded value of a block of the architecture.

        Args:
            block: tells shape, letter and columns that are always zero.
            old: what to write; None for a reader.
        """
        keep = np.ones(block.shape[-1], dtype=bool)
        keep[list(block.zero_columns)] = False
        factors = None if old is None else old.factors
        two = len(block.shape) == 2 and self.products(self.coder, len(factors or ()) == 2)
        if not two:
            only = self.grid(block.name[0], block.shape, keep, factors[0] if factors else None)
            return CodedBlock((only,))
        rank = natural(self.coder, 0 if old is None else old.rank, LARGEST_RANK)
        rows, columns = block.shape
        self.pay(rank * (rows + columns))
        everything = np.ones(rank, dtype=bool)
        first, last = factors if factors else (None, None)
        left = self.grid(block.name[0] + "<", (rows, rank), everything, first)
        right = self.grid(block.name[0] + ">", (rank, columns), keep, last)
        return CodedBlock((left, right))

    def grid(self, letter: str, shape: tuple[int, ...], keep: np.ndarray, old: Grid | None) -> Grid:
        """A grid without its columns that are always zero."""
        integers = None if old is None else old.integers
        if integers is not None and integers[..., ~keep].any():
            raise InputError(f"a column of {letter} that is declared always zero is not")
        if self.zeros(self.coder, integers is not None and not integers.any()):
            return Grid(np.zeros(shape, dtype=np.int64))
        mantissa, exponent = self.scale(old)
        whole = np.zeros(shape, dtype=np.int64)
        kept = whole[..., keep]
        rows = kept.shape[0]
        columns = kept.size // rows if rows else 0
        written: Integers | None = None
        if integers is not None:
            written = integers[..., keep].reshape(rows, columns)
        found = self.integers.grid(letter, rows, columns, written)
        whole[..., keep] = found.reshape(kept.shape)
        return Grid(whole, mantissa, exponent)

    def scale(self, old: Grid | None) -> tuple[int, int]:
        """Mantissa and exponent: those of the last grid, or how far the step is from its step."""
        coder = self.coder
        mantissa, exponent = (1, 0) if old is None else (old.mantissa, old.exponent)
        if self.step is not None and self.same(coder, (mantissa, exponent) == self.step):
            return self.step
        guess = _FIRST_SIZE if self.step is None else _size(*self.step)
        size = guess + signed(coder, _size(mantissa, exponent) - guess, 2 * LARGEST_EXPONENT + 16)
        digits = 0
        while digits < _DIGITS and flag(coder, mantissa.bit_length() - 1 > digits):
            digits += 1
        found = 1
        for place in range(digits - 1, 0, -1):
            found = 2 * found + coder.bit(HALF, mantissa >> place & 1)
        if digits:
            found = 2 * found + 1  # mantissas are odd
        self.step = (found, size - digits)
        return self.step


def _size(mantissa: int, exponent: int) -> int:
    """Log2 of the step, rounded down."""
    return mantissa.bit_length() - 1 + exponent
