"""The architecture as a few decisions: what a file says before its weights.

Read and written by the same lines. A reader has no network: its values are ignored by the coder.
Names are not kept: blocks are called by their letters, as everywhere in the package.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from recert.compression.coder import HALF, SCALE, Coder, flag, member, natural
from recert.errors import InputError
from recert.networks.activations import ACTIVATIONS
from recert.networks.blocks import Block, FixedMap, Norm
from recert.networks.cells import CELLS, is_bias, is_vector
from recert.networks.layers import (
    Bidirectional,
    Dense,
    Layer,
    group_average,
    suffix_of,
)
from recert.networks.network import Head, InputKind, Network, Read

T = TypeVar("T")

LARGEST_SIZE = 1 << 24
MOST_LAYERS = 64
LONGEST_NAME = 64
# Entries of the fixed maps that convolutional layers and pools build.
MOST_ENTRIES = 1 << 22

RARE, UNUSUAL, OFTEN = SCALE // 16, SCALE // 8, 3 * SCALE // 4
# The cells that files of the first kind know. Files of the second kind spell cells' names.
_CELLS = [("gru", 4), ("vanilla", 3), ("lstm", 3), ("mgu", 3), ("conv", 1), ("conv_averaged", 1),
          ("gru_original", 1)]  # fmt: skip
_READS: list[tuple[Read, int]] = [("step", 6), ("final", 1), ("mean", 1)]
_ACTIVATIONS = [(name, 1) for name in sorted(ACTIVATIONS)]


class ArchitectureCode:
    """Codes a network's architecture; afterwards ``names`` pairs its block names with new ones.

    Args:
        coder: writes, reads or measures.
        budget: the largest number of weights that is allowed.
        spelt: whether cells are named in full.
    """

    def __init__(self, coder: Coder, budget: int, spelt: bool = False) -> None:
        self.coder, self.budget, self.spelt = coder, budget, spelt
        self.names: list[tuple[str, str]] = []
        self._zeros: tuple[int, ...] = ()
        self._any_zeros = False

    def network(self, old: Network | None) -> Network:
        """A network of the architecture with all weights zero.

        Raises:
            InputError: something has no code, or sizes are larger than a file may have.
        """
        coder = self.coder
        tokens = flag(coder, of(old, lambda n: n.input_kind == "onehot"), OFTEN)
        kind: InputKind = "onehot" if tokens else "real"
        width = natural(coder, of(old, lambda n: n.d_x), LARGEST_SIZE)
        self._any_zeros = flag(
            coder, of(old, lambda n: any(b.zero_columns for b in n.blocks())), UNUSUAL
        )
        embedding, reads_tokens = None, tokens
        if tokens and flag(coder, of(old, lambda n: n.embedding is not None), SCALE // 4):
            table = None if old is None else old.embedding
            embedding = self.matrix("E", table, width, True)
            width, reads_tokens = embedding.rows, False
        encoder = self.dense("F", () if old is None else old.encoder, width, reads_tokens)
        if encoder:
            width, reads_tokens = encoder[-1].A.rows, False
        layers = self.layers(() if old is None else old.layers, width, reads_tokens)
        read = member(coder, None if old is None else old.read, _READS)
        head = self.head(None if old is None else old.head, layers[-1].d_out)
        return Network(layers, head, kind, embedding, encoder, read)

    def layers(
        self, old: tuple[Layer | Bidirectional, ...], width: int, tokens: bool
    ) -> tuple[Layer | Bidirectional, ...]:
        """Recurrent layers, bottom first."""
        count = natural(self.coder, len(old), MOST_LAYERS)
        found: list[Layer | Bidirectional] = []
        before: Layer | None = None
        for k in range(count):
            part = old[k] if old else None
            both = flag(self.coder, isinstance(part, Bidirectional), UNUSUAL)
            ways = []
            for reverse in (False, True)[: 1 + both]:
                way = part.directions[reverse] if part is not None else None
                suffix = suffix_of(k, count, reverse=reverse)
                before = self.layer(way, width, tokens and k == 0, suffix, before)
                ways.append(before)
            found.append(Bidirectional(*ways) if both else ways[0])
            width = found[-1].d_out
        return tuple(found)

    def layer(
        self, old: Layer | None, d_in: int, tokens: bool, suffix: str, before: Layer | None
    ) -> Layer:
        """One direction of a layer; its cell is mostly that of the one before."""
        coder = self.coder
        cell, activation = before.cell if before else "", before.activation if before else ""
        if not (
            before
            and flag(coder, of(old, lambda n: (n.cell, n.activation) == (cell, activation)), OFTEN)
        ):
            cell = self.cell(None if old is None else old.cell)
            free = "relu" in CELLS[cell].activations
            relu = free and flag(coder, of(old, lambda n: n.activation == "relu"), SCALE // 4)
            activation = "relu" if relu else "tanh"
        roles = self.roles(old, cell)
        shapes, positions = self.shapes(old, cell, d_in, "P" in roles)
        blocks = {}
        for role in roles:
            column = tokens and role[0] == "W"
            norm: Norm = "euclidean" if is_vector(role) else "column" if column else "spectral"
            if CELLS[cell].filters and norm != "euclidean":
                norm = "operator"
            block = None if old is None else old.blocks[role]
            at = positions if norm == "operator" else 1
            blocks[role] = self.block(f"{role}{suffix}", block, shapes[role], norm, at)
        return Layer(cell, blocks, activation)

    def cell(self, old: str | None) -> str:
        """The name of a cell: one of the first kind's, or any in ASCII."""
        if not self.spelt:
            return member(self.coder, old, _CELLS)
        name = (old or "").encode("ascii", "replace")
        count = natural(self.coder, len(name), LONGEST_NAME)
        bits = [
            self.coder.bit(HALF, bool(name) and name[k // 7] >> k % 7 & 1) for k in range(7 * count)
        ]
        found = bytes(sum(bits[7 * k + i] << i for i in range(7)) for k in range(count)).decode()
        if found not in CELLS:
            raise InputError(f"cell {found!r} is not covered; the cells are {', '.join(CELLS)}")
        return found

    def roles(self, old: Layer | None, cell: str) -> list[str]:
        """Roles that have blocks, gate by gate; biases mostly all or none."""
        spec = CELLS[cell]
        biases = spec.biases
        there = set() if old is None else set(old.blocks)
        held = set()
        if biases and flag(self.coder, bool(there & set(biases))):
            held = set(biases)
            if not flag(self.coder, held <= there, OFTEN):
                held = {role for role in biases if flag(self.coder, role in there)}
        roles = []
        for gate in spec.gates:
            roles += [role for role in (f"U{gate}", f"W{gate}") if role in spec.needed]
            roles += [f"b{gate}"] if f"b{gate}" in held else []
        roles += spec.vectors
        for role in spec.optional:
            if role in held if is_bias(role) else flag(self.coder, role in there, UNUSUAL):
                roles.append(role)
        return roles

    def shapes(
        self, old: Layer | None, cell: str, d_in: int, projected: bool
    ) -> tuple[dict[str, tuple[int, ...]], int]:
        """Shape by role, and the positions of a convolutional cell."""
        if CELLS[cell].filters:
            return self.filters(old, cell, d_in)
        d_h = natural(self.coder, of(old, lambda n: n.d_h), LARGEST_SIZE)
        d_out = natural(self.coder, of(old, lambda n: n.d_out), LARGEST_SIZE) if projected else d_h
        matrices = {"P": (d_out, d_h), "U": (d_h, d_out), "W": (d_h, d_in)}
        return {role: matrices.get(role[0], (d_h,)) for role in CELLS[cell].roles}, 1

    def near(self, value: int, usual: int) -> int:
        """A size that is mostly the usual one."""
        if flag(self.coder, value == usual, SCALE - UNUSUAL):
            return usual
        return natural(self.coder, value, LARGEST_SIZE)

    def filters(
        self, old: Layer | None, cell: str, d_in: int
    ) -> tuple[dict[str, tuple[int, ...]], int]:
        """As `shapes`, of a convolutional cell."""
        coder, averaged = self.coder, CELLS[cell].filters == "averaged"
        channels = natural(coder, of(old, lambda n: n.blocks["U"].shape[0]), LARGEST_SIZE)
        positions = natural(coder, of(old, lambda n: n.positions), 1 << 16)
        square = channels * positions * (positions if averaged else channels)
        if square > MOST_ENTRIES or d_in % positions:
            raise InputError(f"{channels} channels on {positions} positions are not what it reads")
        width = natural(coder, of(old, lambda n: n.blocks["U"].shape[2]), LARGEST_SIZE)
        width_W = self.near(of(old, lambda n: n.blocks["W"].shape[2]), width)
        states = 1 if averaged else channels
        shapes = {
            "U": (channels, states, width),
            "W": (channels, d_in // positions, width_W),
            "b": (channels,),
        }
        return dict(shapes), positions

    def head(self, old: Head | None, width: int) -> Head:
        """The read-out."""
        coder = self.coder
        hidden = self.dense("G", () if old is None else old.hidden, width, False)
        if hidden:
            width = hidden[-1].A.rows
        V = self.matrix("V", None if old is None else old.V, width, False)
        pool = None
        if flag(coder, of(old, lambda h: h.pool is not None), RARE):
            pool = self.pool(None if old is None else old.pool, V.rows)
        b = None
        if flag(coder, of(old, lambda h: h.b is not None)):
            rows = V.rows if pool is None else pool.rows
            b = self.block("b_V", None if old is None else old.b, (rows,), "euclidean")
        return Head(V, b, hidden, pool)

    def pool(self, old: FixedMap | None, columns: int) -> FixedMap:
        """Means over consecutive groups, or any matrix as its 64-bit numbers."""
        coder = self.coder
        rows = natural(coder, of(old, lambda p: p.rows), LARGEST_SIZE)
        if rows * columns > MOST_ENTRIES:
            raise InputError(f"a pool of {rows} times {columns} entries is larger than a file's")
        usual = group_average(columns, rows) if rows <= columns else None
        same = of(old, lambda p: usual is not None and np.array_equal(p.matrix, usual.matrix))
        if usual is not None and flag(coder, same, SCALE - UNUSUAL):
            return usual
        self.pay(rows * columns)
        values = np.zeros(rows * columns) if old is None else old.matrix.reshape(-1)
        found = [self.number(float(value)) for value in values]
        return FixedMap(np.array(found).reshape(rows, columns))

    def number(self, value: float) -> float:
        """A finite float64 as it is."""
        (bits,) = struct.unpack(">Q", struct.pack(">d", value))
        got = 0
        for place in range(63, -1, -1):
            got = 2 * got + self.coder.bit(SCALE // 2, bits >> place & 1)
        (found,) = struct.unpack(">d", struct.pack(">Q", got))
        if not math.isfinite(found):
            raise InputError("its pool holds NaN or infinite numbers")
        return float(found)

    def dense(
        self, letter: str, old: tuple[Dense, ...], width: int, tokens: bool
    ) -> tuple[Dense, ...]:
        """Dense layers, first one first."""
        coder, count = self.coder, 0
        while flag(coder, count < len(old), UNUSUAL):
            count += 1
            if count > MOST_LAYERS:
                raise InputError(f"it has more than {MOST_LAYERS} dense layers")
        found: list[Dense] = []
        for k in range(count):
            part, suffix = (old[k] if old else None), suffix_of(k, count)
            block = None if part is None else part.A
            A = self.matrix(f"{letter}{suffix}", block, width, tokens and k == 0)
            b = None
            if flag(coder, of(part, lambda d: d.b is not None), OFTEN):
                block = None if part is None else part.b
                b = self.block(f"b_{letter}{suffix}", block, (A.rows,), "euclidean")
            activation = member(coder, None if part is None else part.activation, _ACTIVATIONS)
            found.append(Dense(A, b, activation))
            width = A.rows
        return tuple(found)

    def matrix(self, name: str, old: Block | None, width: int, tokens: bool) -> Block:
        """A dense block that reads ``width`` numbers, or a filter bank."""
        coder = self.coder
        if tokens or not flag(coder, of(old, lambda b: b.norm == "operator"), RARE // 4):
            rows = natural(coder, of(old, lambda b: b.shape[0]), LARGEST_SIZE)
            return self.block(name, old, (rows, width), "column" if tokens else "spectral")
        channels = natural(coder, of(old, lambda b: b.shape[0]), LARGEST_SIZE)
        positions = natural(coder, of(old, lambda b: b.positions), 1 << 16)
        taps = natural(coder, of(old, lambda b: b.shape[2]), LARGEST_SIZE)
        if width % positions:
            raise InputError(f"{positions} positions do not divide the {width} numbers it reads")
        return self.block(name, old, (channels, width // positions, taps), "operator", positions)

    def block(
        self, name: str, old: Block | None, shape: tuple[int, ...], norm: Norm, positions: int = 1
    ) -> Block:
        """A block of zeros, if the budget allows it."""
        self.pay(math.prod(shape))
        zeros = () if norm == "operator" or not self._any_zeros else self.zeros(old, shape[-1])
        self.names.append((name if old is None else old.name, name))
        return Block(name, np.zeros(shape), norm, zeros, positions)

    def zeros(self, old: Block | None, columns: int) -> tuple[int, ...]:
        """Columns that are always zero: none, those of the last block that had some, or others."""
        coder, value = self.coder, () if old is None else tuple(sorted(set(old.zero_columns)))
        if not flag(coder, bool(value)):
            return ()
        fits = bool(self._zeros) and self._zeros[-1] < columns
        if fits and flag(coder, value == self._zeros):
            return self._zeros
        found, last = [], -1
        for k in range(natural(coder, len(value), columns)):
            last += natural(coder, value[k] - last if value else 1, columns)
            found.append(last)
        if last >= columns:
            raise InputError(f"column {last} of {columns} is declared always zero")
        self._zeros = tuple(found)
        return self._zeros

    def pay(self, size: int) -> None:
        """Take weights off the budget."""
        self.budget -= size
        if self.budget < 0:
            raise InputError("it has more weights than a file of its length may declare")


def spelt(network: Network) -> bool:
    """Whether files of the first kind lack one of its cells."""
    return any(layer.cell not in dict(_CELLS) for layer in network.directions())


def of(part: Any, ask: Callable[[Any], T]) -> Any:
    """What to write of a part; 0 where a reader has none."""
    return 0 if part is None else ask(part)
