"""The parts of a network's weights that move apart: blocks, or the columns of a block.

A block that reads one-hot inputs is, column by column, so many vectors that are read apart; each
may have a cap and a radius of its own. A rare letter's column then moves as far as it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.blocks import Block

Array = NDArray[np.float64]

# Blocks with more columns than this are one part.
MOST_COLUMNS = 256


@dataclass(frozen=True, eq=False)
class Parts:
    """Names, parameters, and where each block's parts lie in arrays over parts.

    Attributes:
        blocks: the network's blocks.
        starts: block name → first part and one past the last.
        parameters: (parts,) P_p.
    """

    blocks: tuple[Block, ...]
    starts: Mapping[str, tuple[int, int]]
    parameters: Array

    @property
    def count(self) -> int:
        """Number of parts."""
        return len(self.parameters)

    def split(self, block: Block) -> bool:
        """Whether the block's columns are parts of their own."""
        first, last = self.starts[block.name]
        return last - first > 1

    def spread(self, radii: Array) -> dict[str, float | Array]:
        """Radii (parts,) as ``EnclosureAlgebra`` takes them."""
        found: dict[str, float | Array] = {}
        for block in self.blocks:
            first, last = self.starts[block.name]
            found[block.name] = radii[first:last] if self.split(block) else float(radii[first])
        return found


def parts_of(blocks: tuple[Block, ...], *, columns: bool) -> Parts:
    """Every block a part, or with ``columns`` each column of blocks that read one-hot inputs."""
    starts: dict[str, tuple[int, int]] = {}
    parameters: list[float] = []
    for block in blocks:
        first = len(parameters)
        apart = columns and block.norm == "column" and 1 < block.shape[1] <= MOST_COLUMNS
        if apart:
            # A column that is always zero has no parameters, and does not move.
            zero = set(block.zero_columns)
            parameters += [0.0 if j in zero else float(block.rows) for j in range(block.shape[1])]
        else:
            parameters.append(float(block.parameters))
        starts[block.name] = (first, len(parameters))
    return Parts(blocks, starts, np.array(parameters))


def whole(apart: Parts, S: Array, blocks: Parts) -> Array:
    """S (…, parts) of columns as S of their blocks: a block's columns move by as much at once."""
    return np.stack(
        [S[..., slice(*apart.starts[block.name])].sum(axis=-1) for block in blocks.blocks], axis=-1
    )
