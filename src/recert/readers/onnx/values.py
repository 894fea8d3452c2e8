"""What an ONNX value is to the reader: known numbers, sizes, constant fills, or a signal.

A signal is a tensor computed from the sequences. Its axes are groups of atoms: an atom is an axis
of the model's input (its batch, its time), or ``F``, the features, or ``D``, pieces side by side,
such as the directions of a layer. Merging axes merges groups, an empty group is an axis of size 1,
so that Reshape, Transpose, Squeeze and their like only move atoms about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recert.errors import UnsupportedModelError

Array = NDArray[np.float64]
# Layers one after the other, and tensors side by side, at most.
MOST_LAYERS, MOST_PIECES = 1000, 16
When = Literal["every", "last", "first", "mean", "final"]


@dataclass(frozen=True)
class Size:
    """A whole number times the unknown lengths of some of the input's axes."""

    factor: int
    unknown: tuple[int, ...] = ()

    def __mul__(self, other: Size) -> Size:
        return Size(self.factor * other.factor, tuple(sorted(self.unknown + other.unknown)))

    @property
    def known(self) -> bool:
        """Whether it is a number."""
        return not self.unknown


def product(sizes: Iterable[Size]) -> Size:
    """The product; 1 of none."""
    return math.prod(sizes, start=Size(1))


@dataclass(frozen=True, eq=False)
class Known:
    """Numbers that do not depend on the sequences; an object array holds `Size` entries."""

    array: NDArray[Any]

    @property
    def symbolic(self) -> bool:
        """Whether some entry is an unknown size."""
        return self.array.dtype == object


@dataclass(frozen=True)
class Filled:
    """A tensor whose entries are all the same number."""

    value: float
    shape: tuple[Size, ...]


@dataclass(frozen=True)
class Opaque:
    """A value that has no part in a classifier; whoever reads it is refused."""

    what: str


@dataclass(frozen=True)
class Atom:
    """An axis that is never taken apart: an input axis by its number, ``F`` or ``D``."""

    label: int | str
    size: Size


@dataclass(frozen=True, eq=False)
class Tokens:
    """The sequences are integers."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """The sequences are vectors."""


@dataclass(frozen=True, eq=False)
class OneHot:
    """Tokens become unit vectors."""

    depth: int


@dataclass(frozen=True, eq=False)
class OnnxTable:
    """Tokens are looked up in the rows of a table."""

    rows: Array


@dataclass(frozen=True, eq=False)
class DenseStep:
    """v ↦ σ(A v + b); ``node`` is the output name of the node that applied σ.

    ``bare``: the model has σ alone, and A is the identity.
    """

    A: Array
    b: Array | None = None
    activation: str = "identity"
    node: str = ""
    bare: bool = False


@dataclass(frozen=True, eq=False)
class RecurrentStep:
    """A layer: cell, activation, blocks by role of each direction."""

    cell: str
    activation: str
    directions: tuple[dict[str, Array], ...]


Step = Tokens | Vectors | OneHot | OnnxTable | DenseStep | RecurrentStep


@dataclass(frozen=True, eq=False)
class OnnxPiece:
    """What was done to the sequences, which direction's output it is (None: all), at which step."""

    steps: tuple[Step, ...]
    direction: int | None = None
    when: When = "every"

    def __post_init__(self) -> None:
        # Every value holds all steps behind it: without a limit, as many as layers squared.
        if len(self.steps) > MOST_LAYERS:
            raise UnsupportedModelError(f"more than {MOST_LAYERS:,} layers are not covered")


@dataclass(frozen=True, eq=False)
class Signal:
    """Axes as groups of atoms, and the pieces along ``D``.

    Args:
        axes: the groups.
        pieces: one, or as many as ``D`` is long.
        normalized: whether classes went through a softmax.
    """

    axes: tuple[tuple[Atom, ...], ...]
    pieces: tuple[OnnxPiece, ...]
    normalized: bool = False

    def __post_init__(self) -> None:
        if len(self.pieces) > MOST_PIECES:
            raise UnsupportedModelError(
                f"more than {MOST_PIECES} tensors side by side are not covered"
            )

    def size(self, axis: int) -> Size:
        """The length of an axis."""
        return product(atom.size for atom in self.axes[axis])

    def find(self, label: int | str) -> int | None:
        """The axis that consists of this atom alone."""
        for axis, atoms in enumerate(self.axes):
            if [atom.label for atom in atoms] == [label]:
                return axis
        return None

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """All atoms in order."""
        return tuple(atom for group in self.axes for atom in group)

    @property
    def last_width(self) -> int | None:
        """The number of features, where the last axis holds them all and nothing else."""
        group = self.axes[-1] if self.axes else ()
        labels = [atom.label for atom in group]
        if labels not in (["F"], ["D", "F"]) or any(a.label == "D" for a in self.atoms[:-2]):
            return None
        if labels == ["F"] and len(self.pieces) > 1:
            return None
        return self.size(-1).factor


Value = Known | Filled | Opaque | Signal
