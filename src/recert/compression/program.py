"""Program: a network whose weights are whole numbers on grids, as a file of few bits holds it.

A value on a grid is n·μ·2^e with whole n and a whole mantissa μ, so that it is the same number on
every machine, and float64 holds it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import InputError
from recert.networks.blocks import Array, Block
from recert.networks.layers import Bidirectional, Dense, Layer
from recert.networks.network import Network
from recert.utils.validation import whole

Integers = NDArray[np.int64]

LARGEST_INTEGER = 2**53
LARGEST_MANTISSA = 255
LARGEST_EXPONENT = 400


@dataclass(frozen=True, eq=False)
class Grid:
    """Whole numbers and the step of the grid that they lie on: values integers·μ·2^e.

    The mantissa is kept odd (an even one is halved into the exponent), and where all integers are
    zero the step is 1, so that equal values of equal integers have one form.

    Args:
        integers: int64, 1 to 3 axes. Copied and made read-only.
        mantissa: μ, from 1 to 255.
        exponent: e, from −400 to 400.

    Raises:
        InputError: integers that are not whole, or μ, e or a value that float64 does not hold.
    """

    integers: Integers
    mantissa: int = 1
    exponent: int = 0

    def __repr__(self) -> str:
        """One line: shape and step."""
        shape = "×".join(map(str, self.integers.shape))
        return f"Grid({shape}, step {self.mantissa}·2^{self.exponent})"

    def __post_init__(self) -> None:
        integers = _whole_numbers(self.integers)
        mantissa, exponent = whole("mantissa", self.mantissa), _exponent(self.exponent)
        if not integers.any():
            mantissa, exponent = 1, 0
        while mantissa % 2 == 0:
            mantissa, exponent = mantissa // 2, exponent + 1
        if mantissa > LARGEST_MANTISSA:
            raise InputError(
                f"the mantissa of a grid is {self.mantissa}; use one up to {LARGEST_MANTISSA}"
            )
        _exponent(exponent)
        largest = max(abs(int(integers.min())), abs(int(integers.max())))
        if largest * mantissa > LARGEST_INTEGER:
            raise InputError(
                f"a grid holds {largest}·{mantissa}, which float64 does not hold exactly; use a "
                "wider step"
            )
        integers.setflags(write=False)
        for name, value in (
            ("integers", integers), ("mantissa", mantissa), ("exponent", exponent),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the integers."""
        return self.integers.shape

    @property
    def step(self) -> float:
        """μ·2^e."""
        return float(np.ldexp(float(self.mantissa), self.exponent))

    def value(self) -> Array:
        """The values, exact."""
        return np.ldexp((self.integers * self.mantissa).astype(np.float64), self.exponent)

    def __eq__(self, other: object) -> bool:
        """Whether integers and step are the same."""
        if not isinstance(other, Grid):
            return NotImplemented
        same = (self.mantissa, self.exponent) == (other.mantissa, other.exponent)
        return same and np.array_equal(self.integers, other.integers)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class CodedBlock:
    """A block as one grid, or as the product of two: (d1, r) times (r, d2), r its rank.

    Raises:
        InputError: another number of factors, or factors that do not fit together.
    """

    factors: tuple[Grid, ...]

    def __repr__(self) -> str:
        """One line: shape, and rank if it is a product."""
        product = f", rank {self.rank}" if self.rank else ""
        return f"CodedBlock({'×'.join(map(str, self.shape))}{product})"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(self.factors))
        if len(self.factors) not in (1, 2):
            raise InputError(f"a block is one grid or a product of two, not {len(self.factors)}")
        if len(self.factors) == 2:
            left, right = (factor.shape for factor in self.factors)
            if len(left) != 2 or len(right) != 2 or left[1] != right[0]:
                raise InputError(f"factors of shapes {left} and {right} have no product")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        first, last = self.factors[0].shape, self.factors[-1].shape
        return first if len(self.factors) == 1 else (first[0], last[1])

    @property
    def rank(self) -> int:
        """The common dimension of two factors; 0 for one grid."""
        return 0 if len(self.factors) == 1 else self.factors[0].shape[1]

    def value(self, shape: tuple[int, ...] | None = None) -> Array:
        """The block's value, exact.

        Args:
            shape: what the shape must be, or None.

        Raises:
            InputError: another shape, or a product that float64 does not hold exactly.
        """
        if shape is not None and tuple(shape) != self.shape:
            raise InputError(f"a coded block has shape {self.shape}, the network's {tuple(shape)}")
        if len(self.factors) == 1:
            return self.factors[0].value()
        return _product(*self.factors)


@dataclass(frozen=True, eq=False)
class Program:
    """An architecture and a coded value for each of its blocks.

    Args:
        skeleton: a network of that architecture; its weights do not count.
        blocks: coded blocks by the names of the skeleton's blocks.

    Raises:
        InputError: a block is missing, unknown or of another shape.
    """

    skeleton: Network
    blocks: Mapping[str, CodedBlock]
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __repr__(self) -> str:
        """One line: what it decodes to."""
        return f"Program({self.skeleton!r})"

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", MappingProxyType(dict(self.blocks)))
        names = [block.name for block in self.skeleton.blocks()]
        if set(names) != set(self.blocks):
            odd = sorted(set(names) ^ set(self.blocks))
            raise InputError(
                f"{len(names)} blocks must be coded and {len(self.blocks)} are; check {odd[0]!r}"
            )
        for block in self.skeleton.blocks():
            if self.blocks[block.name].shape != block.shape:
                raise InputError(
                    f"block {block.name} has shape {block.shape}, coded it has "
                    f"{self.blocks[block.name].shape}"
                )

    def network(self) -> Network:
        """The network with the coded weights.

        Raises:
            InputError: a value that is not exact, or a column declared zero that is not.
        """
        if "network" not in self._cache:
            values = {name: coded.value() for name, coded in self.blocks.items()}
            self._cache["network"] = with_values(self.skeleton, values)
        found: Network = self._cache["network"]
        return found


def program_of(network: Network, blocks: Mapping[str, CodedBlock]) -> Program:
    """The program with a network's architecture and these coded blocks.

    Args:
        network: its weights are replaced.
        blocks: by the names of the network's blocks; see `Program`.
    """
    return Program(network, blocks)


def with_values(network: Network, values: Mapping[str, Array]) -> Network:
    """A network of the same architecture with other weights.

    Args:
        network: the architecture.
        values: arrays by block name; blocks that are not named keep theirs.
    """

    def changed(block: Block) -> Block:
        return replace(block, value=values[block.name]) if block.name in values else block

    def optional(block: Block | None) -> Block | None:
        return None if block is None else changed(block)

    def dense(part: Dense) -> Dense:
        return replace(part, A=changed(part.A), b=optional(part.b))

    def one_way(layer: Layer) -> Layer:
        return replace(layer, blocks={role: changed(b) for role, b in layer.blocks.items()})

    def layer(part: Layer | Bidirectional) -> Layer | Bidirectional:
        if isinstance(part, Layer):
            return one_way(part)
        return Bidirectional(one_way(part.forward), one_way(part.backward))

    head = network.head
    return replace(
        network,
        layers=tuple(map(layer, network.layers)),
        embedding=optional(network.embedding),
        encoder=tuple(map(dense, network.encoder)),
        head=replace(
            head, V=changed(head.V), b=optional(head.b), hidden=tuple(map(dense, head.hidden))
        ),
    )


def _product(left: Grid, right: Grid) -> Array:
    """The product of two grids; InputError where it is not exact in float64."""
    a, b = left.integers, right.integers
    mantissa, exponent = left.mantissa * right.mantissa, left.exponent + right.exponent
    with np.errstate(over="ignore"):
        largest = float((np.abs(a).astype(float) @ np.abs(b).astype(float)).max()) * mantissa
    # Half of 2^53 leaves room for what this sum in float64 may lose.
    if not largest <= LARGEST_INTEGER / 2:
        raise InputError(
            f"a product of two grids reaches {largest:.3g}, beyond the whole numbers that float64 "
            "holds; use wider steps"
        )
    return np.ldexp(((a @ b) * mantissa).astype(np.float64), exponent)


def _whole_numbers(integers: Any) -> Integers:
    found = np.asarray(integers)
    if found.dtype.kind not in "iu" and not (
        found.dtype.kind == "f" and bool(np.all(found == np.rint(found)))
    ):
        raise InputError("a grid holds whole numbers; round them first")
    if not 1 <= found.ndim <= 3 or found.size == 0:
        raise InputError(f"a grid of shape {found.shape} holds nothing to code; give it entries")
    if not bool(np.all((found <= LARGEST_INTEGER) & (found >= -LARGEST_INTEGER))):
        raise InputError("a grid holds whole numbers up to 2^53; use a wider step")
    return found.astype(np.int64, order="C", copy=True)


def _exponent(exponent: Any) -> int:
    found = int(exponent)
    if found != exponent or abs(found) > LARGEST_EXPONENT:
        raise InputError(
            f"the exponent of a grid is {exponent}; use a whole number up to ±{LARGEST_EXPONENT}"
        )
    return found
