"""The shape of a network that is to be trained: its blocks by name, before they have weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from recert.errors import InputError
from recert.networks import cells
from recert.networks.blocks import Norm
from recert.networks.layers import suffix_of

CELLS = ("vanilla", "mgu", "gru", "lstm", "conv")
"""The cells that can be trained."""


@dataclass(frozen=True)
class Part:
    """A block without weights.

    Attributes:
        name: as the `Network` calls it: role and suffix.
        role: "U_r", "W", "b_V", "E", …
        shape: of its value.
        norm: the norm that a cap limits: "spectral", "column", "euclidean" or "operator".
        positions: of a filter bank.

    """

    name: str
    role: str
    shape: tuple[int, ...]
    norm: Norm
    positions: int = 1

    @property
    def letter(self) -> str:
        """E, U, W, V, b; the head's bias b_V is a letter of its own."""
        return self.role if self.role == "b_V" else self.role[0]


@dataclass(frozen=True)
class Direction:
    """One layer in one direction: the parts of its blocks by role, and what it reads."""

    parts: dict[str, Part]
    reverse: bool
    reads_tokens: bool


@dataclass(frozen=True)
class Architecture:
    """Everything about a network but its weights.

    Attributes:
        input_dim: d_x; for tokens the size of the alphabet.
        d_h: hidden units of each layer in each direction; for conv channels · positions.
        classes: K.
        cell: one of `CELLS`.
        tokens: whether the inputs are integers (−1 being padding).
        activation: "tanh" or "relu", of vanilla and conv cells; gated cells have tanh.
        bias: whether layers and head have biases.
        layers: number of recurrent layers.
        bidirectional: whether each layer also reads the sequence from its end.
        channels: of a conv cell's state, laid out over d_h / channels positions.
        width: of a conv cell's filters.
        embedded: channels into which a conv cell's embedding turns tokens.
        read: what the head reads: "step" or "final", as in `recert.Network`.

    Raises:
        InputError: a value is out of range or does not suit another; the message names it.

    """

    input_dim: int
    d_h: int
    classes: int
    cell: str = "vanilla"
    tokens: bool = True
    activation: str = "tanh"
    bias: bool = False
    layers: int = 1
    bidirectional: bool = False
    channels: int = 2
    width: int = 3
    embedded: int = 1
    read: str = "step"

    def __post_init__(self) -> None:
        check_cell(self.cell, self.activation)
        for name in ("input_dim", "d_h", "layers", "channels", "width", "embedded"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; use an integer from 1 up")
        if self.classes < 2:
            raise InputError(f"classes is {self.classes}; a classifier needs at least 2")
        if self.read not in ("step", "final"):
            raise InputError(f"read is {self.read!r}; use 'step' or 'final'")
        if self.convolutional and self.d_h % self.channels:
            raise InputError(
                f"d_h is {self.d_h}, which {self.channels} channels do not divide; choose a "
                "multiple of the channels"
            )
        if self.convolutional and not self.tokens and self.input_dim % self.positions:
            raise InputError(
                f"inputs have {self.input_dim} entries, which {self.positions} positions do not "
                "divide; choose d_h / channels so that they do"
            )

    @property
    def spec(self) -> cells.CellSpec:
        """What is known of the cell."""
        return cells.CELLS[self.cell]

    @property
    def convolutional(self) -> bool:
        """Whether U and W are filter banks."""
        return bool(self.spec.filters)

    @property
    def positions(self) -> int:
        """L, the positions of a conv cell's state; 1 for others."""
        return self.d_h // self.channels if self.convolutional else 1

    @property
    def d_out(self) -> int:
        """What the head reads: the units of both directions together."""
        return self.d_h * (1 + self.bidirectional)

    @cached_property
    def embedding(self) -> Part | None:
        """E, through which conv cells read tokens."""
        if not (self.convolutional and self.tokens):
            return None
        return Part("E", "E", (self.embedded * self.positions, self.input_dim), "column")

    @cached_property
    def stack(self) -> tuple[tuple[Direction, ...], ...]:
        """Layers, bottom first, each as its directions."""
        found = []
        d_in = self.input_dim if self.embedding is None else self.embedding.shape[0]
        for k in range(self.layers):
            tokens = self.tokens and k == 0 and self.embedding is None
            ways = (False, True) if self.bidirectional else (False,)
            found.append(
                tuple(
                    Direction(
                        self._parts(d_in, suffix_of(k, self.layers, reverse=reverse), tokens),
                        reverse,
                        tokens,
                    )
                    for reverse in ways
                )
            )
            d_in = self.d_out
        return tuple(found)

    @cached_property
    def head(self) -> tuple[Part, ...]:
        """V, and b_V where there are biases."""
        V = Part("V", "V", (self.classes, self.d_out), "spectral")
        return (V, Part("b_V", "b_V", (self.classes,), "euclidean")) if self.bias else (V,)

    def parts(self) -> Iterator[Part]:
        """Every block, as they are drawn and trained: matrices first, then biases."""
        blocks = [] if self.embedding is None else [self.embedding]
        for layer in self.stack:
            for direction in layer:
                blocks.extend(direction.parts.values())
        blocks.extend(self.head)
        yield from (part for part in blocks if len(part.shape) > 1)
        yield from (part for part in blocks if len(part.shape) == 1)

    def _parts(self, d_in: int, suffix: str, tokens: bool) -> dict[str, Part]:
        """The blocks of one layer in one direction."""
        found: dict[str, Part] = {}

        def add(role: str, shape: tuple[int, ...], norm: Norm, positions: int = 1) -> None:
            found[role] = Part(f"{role}{suffix}", role, shape, norm, positions)

        for gate in self.spec.gates:
            if self.convolutional:
                L, C = self.positions, self.channels
                add(f"U{gate}", (C, C, self.width), "operator", L)
                add(f"W{gate}", (C, d_in // L, self.width), "operator", L)
            else:
                add(f"U{gate}", (self.d_h, self.d_h), "spectral")
                add(f"W{gate}", (self.d_h, d_in), "column" if tokens else "spectral")
            if self.bias:
                add(f"b{gate}", (self.channels if self.convolutional else self.d_h,), "euclidean")
        if self.bias and "b_hn" in self.spec.optional:
            add("b_hn", (self.d_h,), "euclidean")
        return found


def check_cell(cell: str, activation: str) -> None:
    """InputError unless such a cell with such an activation can be trained."""
    if cell not in CELLS:
        raise InputError(f"cell is {cell!r}; use {', '.join(CELLS)}")
    if activation not in ("tanh", "relu"):
        raise InputError(f"activation is {activation!r}; use 'tanh' or 'relu'")
    if activation not in cells.CELLS[cell].activations:
        raise InputError(f"activation is {activation!r}; {cell} cells have tanh, leave it out")
