"""Layers: the recurrent cells' blocks by role, two directions side by side, dense layers.

Roles follow the paper's letters, with the gate as an index: ``U_r`` reads the state, ``W_r`` the
input, ``b_r`` is added. The equations are in `recert.networks.cells`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from recert.errors import InputError, UnsupportedModelError, an
from recert.networks.activations import ACTIVATIONS
from recert.networks.blocks import Block, FixedMap
from recert.networks.cells import CELLS, CellSpec, is_bias, is_vector
from recert.utils.validation import short


def channel_average(channels: int, positions: int) -> FixedMap:
    """(channels·L) → L: the mean over channels, of norm 1/√channels."""
    return FixedMap(np.tile(np.eye(positions), (1, channels)) / channels)


def over_positions(channels: int, positions: int) -> FixedMap:
    """Channels → (channels·L): the same value at every position, of norm √L."""
    return FixedMap(np.repeat(np.eye(channels), positions, axis=0))


def group_average(size: int, groups: int) -> FixedMap:
    """Size → groups: means over consecutive groups, as equal as can be (the paper's pooling to K).

    Raises:
        InputError: there are more groups than entries.
    """
    if not 1 <= groups <= size:
        raise InputError(f"{size} entries cannot be averaged in {groups} groups; use fewer")
    index = np.arange(size) * groups // size
    matrix = (index[None, :] == np.arange(groups)[:, None]).astype(float)
    return FixedMap(matrix / matrix.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class Layer:
    """One recurrent layer in one direction: a cell's name, its activation, its blocks by role.

    Which roles a cell has says `recert.networks.cells.CELLS`: mostly U, W and perhaps b for each
    of its gates, such as ``U_g``, ``W_g``, ``b_g`` of an LSTM's forget gate.

    Raises:
        InputError: roles are missing or unknown, shapes do not fit.
        UnsupportedModelError: a cell or an activation that the package does not know.
    """

    cell: str
    blocks: Mapping[str, Block]
    activation: str = "tanh"
    _fixed: dict[str, FixedMap] = field(default_factory=dict, init=False, repr=False)

    def __repr__(self) -> str:
        """One line: the cell and its dimensions."""
        return f"Layer({self.short()})"

    def short(self) -> str:
        """The cell and its dimensions, as ``LSTM 28→32``."""
        relu = ", relu" if self.activation != "tanh" else ""
        return f"{self.spec.title} {self.d_in}→{self.d_out}{relu}"

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", MappingProxyType(dict(self.blocks)))
        if not isinstance(self.cell, str) or self.cell not in CELLS:
            raise UnsupportedModelError(
                f"cell {short(self.cell)} is not covered; the cells are {', '.join(CELLS)}"
            )
        allowed = self.spec.activations
        if not isinstance(self.activation, str) or self.activation not in allowed:
            raise UnsupportedModelError(
                f"activation {short(self.activation)} of {an(self.cell)} cell is not covered; use "
                f"{' or '.join(allowed)}"
            )
        self._check_roles()
        self._check_shapes()
        self._make_fixed()

    def _check_roles(self) -> None:
        needed, allowed = set(self.spec.needed), set(self.spec.roles)
        roles = set(self.blocks)
        if not needed <= roles <= allowed:
            raise InputError(
                f"{an(self.cell)} cell has blocks {', '.join(sorted(needed))} and perhaps "
                f"{', '.join(sorted(allowed - needed))}; got {', '.join(sorted(roles)) or 'none'}"
            )

    def _check_shapes(self) -> None:
        units, inputs = self.d_h, self.d_in
        for role, block in self.blocks.items():
            if role == "P":
                check_dimension("P reads", block.columns, "the cell has units", units)
                continue
            own = block.value.shape[0] if self.convolutional else block.rows
            check_dimension(f"{role} has rows", own, "the cell has units", self._channels)
            if role.startswith("U"):
                check_dimension(f"{role} reads", block.columns, "the state has", self.d_out)
            elif role.startswith("W"):
                check_dimension(f"{role} reads", block.columns, "the input has", inputs)
            matrix = not is_vector(role)
            if matrix == (block.norm == "euclidean"):
                kind = "matrix" if matrix else "vector"
                raise InputError(f"{role} of {an(self.cell)} cell must be a {kind}")
            if self.convolutional and matrix and block.norm != "operator":
                raise InputError(f"{role} of {an(self.cell)} cell must be a filter bank")
            if not self.convolutional and block.norm == "operator":
                raise InputError(f"{role} of {an(self.cell)} cell cannot be a filter bank")
            if self.convolutional and matrix and block.positions != self.positions:
                raise InputError(
                    f"{role} acts on {block.positions} positions, U on {self.positions}"
                )

    def _make_fixed(self) -> None:
        if self.spec.filters == "averaged":
            self._fixed["average"] = channel_average(self._channels, self.positions)
        elif self.spec.filters and "b" in self.blocks:
            self._fixed["spread"] = over_positions(self._channels, self.positions)

    @property
    def spec(self) -> CellSpec:
        """What is known of its cell."""
        return CELLS[self.cell]

    @property
    def gates(self) -> tuple[str, ...]:
        """Suffixes of the gates' roles."""
        return self.spec.gates

    @property
    def convolutional(self) -> bool:
        """Whether U and W are filter banks."""
        return bool(self.spec.filters)

    @property
    def _first(self) -> Block:
        return self.blocks[self.spec.needed[0]]

    @property
    def _channels(self) -> int:
        return int(self._first.value.shape[0])

    @property
    def positions(self) -> int:
        """L, the positions of a convolutional cell; 1 for others."""
        return self._first.positions

    @property
    def d_h(self) -> int:
        """Number of hidden units."""
        return self.positions if self.spec.filters == "averaged" else self._first.rows

    @property
    def d_out(self) -> int:
        """Dimension of what the layer gives out."""
        return self.blocks["P"].rows if "P" in self.blocks else self.d_h

    @property
    def d_in(self) -> int:
        """Dimension of what the layer reads."""
        return self.blocks[f"W{self.gates[0]}"].columns

    @property
    def state_dimensions(self) -> tuple[int, ...]:
        """Dimensions of the states, the output's first."""
        return (self.d_out, self.d_h) if self.spec.inner else (self.d_out,)

    @property
    def directions(self) -> tuple[Layer, ...]:
        """Itself alone."""
        return (self,)

    def fixed(self, name: str) -> FixedMap:
        """A fixed map of a convolutional cell: ``"average"`` or ``"spread"``."""
        return self._fixed[name]

    def description(self) -> dict[str, object]:
        """Everything but the weights, as plain JSON values."""
        plain: dict[str, object] = {
            "cell": self.cell,
            "activation": self.activation,
            "d_in": self.d_in,
            "d_h": self.d_h,
            "bias": any(is_bias(role) for role in self.blocks),
        }
        if self.d_out != self.d_h:
            plain["d_out"] = self.d_out
        if self.convolutional:
            plain["filters"] = {
                role: [*block.shape, block.positions]
                for role, block in self.blocks.items()
                if block.norm == "operator"
            }
        return plain


def layer_of(
    cell: str,
    values: Mapping[str, object],
    *,
    suffix: str = "",
    reads_tokens: bool = False,
    activation: str = "tanh",
    positions: int = 1,
    zero_columns: tuple[int, ...] = (),
) -> Layer:
    """A layer from arrays by role; each block is called by its role and a suffix.

    Args:
        cell: name of the cell.
        values: role → array.
        suffix: see `suffix_of`.
        reads_tokens: whether the blocks W read one-hot inputs.
        activation: of vanilla and convolutional cells.
        positions: L, for convolutional cells.
        zero_columns: columns of the blocks W that are always zero.
    """
    blocks = {}
    for role, value in values.items():
        array = np.asarray(value, dtype=np.float64)
        if array.ndim == 3:
            blocks[role] = Block(f"{role}{suffix}", array, "operator", positions=positions)
        elif array.ndim == 1:
            blocks[role] = Block(f"{role}{suffix}", array, "euclidean")
        elif role.startswith("W") and reads_tokens:
            blocks[role] = Block(f"{role}{suffix}", array, "column", zero_columns)
        else:
            blocks[role] = Block(f"{role}{suffix}", array, "spectral")
    return Layer(cell, blocks, activation)


def suffix_of(index: int, count: int, *, reverse: bool = False) -> str:
    """What tells a layer's block names apart: its number where there are several, its direction."""
    return f"{index if count > 1 else ''}{'_reverse' if reverse else ''}"


@dataclass(frozen=True, eq=False)
class Bidirectional:
    """Two layers over the same inputs, one from each end; at every step their outputs side by side.

    Raises:
        InputError: they read inputs of different dimensions.
    """

    forward: Layer
    backward: Layer

    def __repr__(self) -> str:
        """One line: the cells and their dimensions."""
        return f"Bidirectional({self.short()})"

    def short(self) -> str:
        """The cells and their dimensions, as ``LSTM 28→2×32``."""
        kinds = dict.fromkeys(way.spec.title for way in self.directions)
        widths = [way.d_out for way in self.directions]
        both = f"2×{widths[0]}" if len(set(widths)) == 1 else "+".join(map(str, widths))
        return f"{'/'.join(kinds)} {self.d_in}→{both}"

    def __post_init__(self) -> None:
        check_dimension(
            "the backward layer reads", self.backward.d_in, "the forward layer", self.forward.d_in
        )

    @property
    def d_in(self) -> int:
        """Dimension of what the layer reads."""
        return self.forward.d_in

    @property
    def d_out(self) -> int:
        """Dimension of both outputs together."""
        return self.forward.d_out + self.backward.d_out

    @property
    def d_h(self) -> int:
        """Number of hidden units of both directions together."""
        return self.forward.d_h + self.backward.d_h

    @property
    def directions(self) -> tuple[Layer, ...]:
        """Forward, backward."""
        return (self.forward, self.backward)

    def description(self) -> dict[str, object]:
        """Everything but the weights, as plain JSON values."""
        return {
            "forward": self.forward.description(),
            "backward": self.backward.description(),
        }


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear layer with an entrywise activation: v ↦ σ(A v + b).

    Raises:
        InputError: shapes do not fit.
        UnsupportedModelError: an activation that the package does not know.
    """

    A: Block
    b: Block | None = None
    activation: str = "identity"

    def __repr__(self) -> str:
        """One line: dimensions and activation."""
        return f"Dense({self.A.columns}→{self.A.rows}, {self.activation})"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise UnsupportedModelError(
                f"activation {self.activation!r} is not covered; use {', '.join(ACTIVATIONS)}"
            )
        if self.b is not None:
            check_dimension(
                f"{self.b.name} has", self.b.rows, f"{self.A.name} has rows", self.A.rows
            )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """A, and b if there is one."""
        return (self.A,) if self.b is None else (self.A, self.b)

    def description(self) -> dict[str, object]:
        """Everything but the weights, as plain JSON values."""
        return {
            "d_in": self.A.columns,
            "d_out": self.A.rows,
            "bias": self.b is not None,
            "activation": self.activation,
        }


def check_dimension(what: str, found: int, other: str, expected: int) -> None:
    """InputError unless two dimensions agree."""
    if found != expected:
        raise InputError(f"shapes do not fit: {what} {found}, {other} {expected}")
