"""Programs as bytes and back: one byte that tells the kind of file, then one stream of decisions.

No file is the beginning of another: the stream is cut where every continuation decodes to the same
program (`recert.compression.coder`), and a program has one file only, because what was decoded is
coded again and compared. So Σ 256^−length over all files is at most 1 (Kraft), and length·ln 256 is
the price of a program in an Occam bound.

A block's grids as decisions: one or two factors, their steps, their integers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from recert.compression.architecture import ArchitectureCode, spelt
from recert.compression.coder import (
    HALF,
    Adaptive,
    Coder,
    Meter,
    Reader,
    Writer,
    flag,
    natural,
    signed,
)
from recert.compression.integers import IntegerCode
from recert.compression.program import LARGEST_EXPONENT, CodedBlock, Grid, Integers, Program
from recert.errors import FileError, InputError, MissingDependencyError, RecertError
from recert.networks.blocks import Block
from recert.utils.files import read_bytes, write_atomically

SUFFIX = ".rcz"
# First bytes: of files with cells of the first list alone, and of those that spell cells' names.
MAGIC, SPELT = b"\xce", b"\xcf"
LARGEST_FILE = 1 << 22
MOST_WEIGHTS = 1 << 19
# A file may declare so many weights, and so many more for each of its bytes.
WEIGHTS, WEIGHTS_PER_BYTE = 4096, 512


def encode(program: Program) -> bytes:
    """The file of a program; `decode` gives back its architecture and its numbers exactly.

    Names of blocks are not kept (they become the package's letters), nor the order of roles.

    Raises:
        InputError: a part of the program has no code, or it is larger than a file may be.
        MissingDependencyError: constriction is not installed.
    """
    program.network()
    data, names = _written(program)
    try:
        found = decode(data)
    except FileError as error:
        raise InputError(f"the program cannot be a file: {error}") from None
    if _blocks(found, names) != _blocks(program) or _plan(found, names) != _plan(program, names):
        raise InputError("the program does not decode to itself; please report this")
    return data


def decode(data: bytes) -> Program:
    """The program of a file's bytes.

    Raises:
        FileError: these are not the bytes of a program: damaged, too short, or followed by more.
        MissingDependencyError: constriction is not installed.
    """
    if len(data) > LARGEST_FILE:
        raise FileError(f"it has {len(data)} bytes, more than the {LARGEST_FILE} that are read")
    if data[:1] not in (MAGIC, SPELT):
        raise FileError("it is not a compressed network of recert; check the path")
    budget = min(MOST_WEIGHTS, WEIGHTS + WEIGHTS_PER_BYTE * len(data))
    try:
        program, _ = _code(Reader(data[1:]), None, budget, data[:1] == SPELT)
        program.network()
        expected, _ = _written(program)
    except (FileError, MissingDependencyError):
        raise
    except RecertError as error:
        raise FileError(f"it is damaged: {error}") from None
    if data == expected:
        return program
    if data.startswith(expected):
        raise FileError(
            f"{len(data) - len(expected)} bytes follow the {len(expected)} of the network, and a "
            "file holds nothing else; cut them off"
        )
    raise FileError("it is damaged or truncated: no network has these bytes")


def coded_bits(program: Program) -> float:
    """What a program costs before its file is cut to whole bytes; no library is needed.

    The file has at most (bits + 9)/8, rounded up, and one byte more.
    """
    meter = Meter()
    _code(meter, program, MOST_WEIGHTS, spelt(program.skeleton))
    return meter.bits


def save_program(program: Program, path: str | Path) -> int:
    """Write the file of a program; returns its length in bytes.

    Raises:
        FileError: it cannot be written. Otherwise as `encode`.
    """
    data = encode(program)
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
    return len(data)


def load_program(path: str | Path) -> Program:
    """The program in a file.

    Raises:
        FileError: it cannot be read, or is not the file of a program.
        MissingDependencyError: constriction is not installed.
    """
    data = read_bytes(path, LARGEST_FILE)
    try:
        return decode(data)
    except FileError as error:
        raise FileError(f"{path}: {error}") from None


def file_bytes(program: Program) -> int:
    """The length of a program's file, which is not checked by decoding it."""
    return len(_written(program)[0])


def _written(program: Program) -> tuple[bytes, list[tuple[str, str]]]:
    writer, kind = Writer(), spelt(program.skeleton)
    _, names = _code(writer, program, MOST_WEIGHTS, kind)
    return (SPELT if kind else MAGIC) + writer.finish(), names


def _code(
    coder: Coder, program: Program | None, budget: int, kind: bool
) -> tuple[Program, list[tuple[str, str]]]:
    """Write a program, or read one where there is none; with pairs (its name, a file's name)."""
    architecture = ArchitectureCode(coder, budget, kind)
    skeleton = architecture.network(None if program is None else program.skeleton)
    old = {new: name for name, new in architecture.names}
    code = BlockCode(coder, architecture.pay)
    blocks = {
        block.name: code.block(block, None if program is None else program.blocks[old[block.name]])
        for block in skeleton.blocks()
    }
    return Program(skeleton, blocks), architecture.names


def _blocks(program: Program, names: list[tuple[str, str]] | None = None) -> object:
    """Coded blocks by the names that they had before they were a file's."""
    back = {new: old for old, new in names or ()}
    return {back.get(name, name): coded for name, coded in program.blocks.items()}


def _plan(program: Program, names: list[tuple[str, str]]) -> object:
    """All else that a file must keep."""
    network = program.skeleton
    there = {block.name: block for block in network.blocks()}
    blocks = [there.get(old) or there[new] for old, new in names]
    pool = network.head.pool
    return (
        network.description(),
        [(b.norm, b.shape, sorted(set(b.zero_columns)), b.positions) for b in blocks],
        [dense.activation for dense in (*network.encoder, *network.head.hidden)],
        None if pool is None else pool.matrix.tolist(),
    )


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
