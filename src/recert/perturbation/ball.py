"""The parts of a network's weights that move apart: blocks, or the columns of a block.

A block that reads one-hot inputs is, column by column, so many vectors that are read apart; each
may have a cap and a radius of its own. A rare letter's column then moves as far as it likes.

Networks drawn from the uniform posterior on balls round the trained weights.

A matrix in the ball of the spectral norm: the first d1 rows of d2 orthonormal columns of length
d1 + d2 + 1, uniform on the Stiefel manifold, have a density proportional to det(I − XᵀX)^0 there
(Eaton 1989), that is, a uniform one. A vector: a Gaussian's direction, and a length U^(1/d).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.networks.blocks import Block

Array = NDArray[np.float64]

# Blocks with more columns than this are one part.
MOST_COLUMNS = 256


@dataclass(frozen=True, eq=False)
class BallParts:
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


def parts_of(blocks: tuple[Block, ...], *, columns: bool) -> BallParts:
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
    return BallParts(blocks, starts, np.array(parameters))


def whole(apart: BallParts, S: Array, blocks: BallParts) -> Array:
    """S (…, parts) of columns as S of their blocks: a block's columns move by as much at once."""
    return np.stack(
        [S[..., slice(*apart.starts[block.name])].sum(axis=-1) for block in blocks.blocks], axis=-1
    )


def can_draw(blocks: Sequence[Block]) -> bool:
    """Whether every ball can be drawn from: not those of filter banks."""
    return all(block.norm != "operator" for block in blocks)


def draw(parts: BallParts, radii: Array, n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Weights (n, …) of every block, drawn apart for each of n sequences.

    Args:
        parts: of the blocks, none of which is a filter bank.
        radii: (parts,) of the balls.
        n: number of draws.
        rng: source of randomness.
    """
    found = {}
    for block in parts.blocks:
        first, last = parts.starts[block.name]
        if block.norm == "spectral":
            moving = [j for j in range(block.shape[1]) if j not in block.zero_columns]
            move = np.zeros((n, *block.shape))
            move[:, :, moving] = radii[first] * spectral_ball(block.rows, len(moving), n, rng)
        elif block.norm == "column":
            columns = euclidean_ball(block.rows, n * block.shape[1], rng)
            move = (
                columns.reshape(n, block.shape[1], block.rows).transpose(0, 2, 1)
                * radii[first:last]
            )
            move[:, :, list(block.zero_columns)] = 0.0
        else:
            move = radii[first] * euclidean_ball(block.rows, n, rng)
        found[block.name] = block.value + move
    return found


def spectral_ball(rows: int, columns: int, n: int, rng: np.random.Generator) -> Array:
    """(n, rows, columns), uniform on the matrices of spectral norm at most 1."""
    if columns > rows:
        return np.swapaxes(spectral_ball(columns, rows, n, rng), 1, 2)
    if columns == 0:
        return np.zeros((n, rows, 0))
    q, r = np.linalg.qr(rng.standard_normal((n, rows + columns + 1, columns)))
    # Signs as the diagonal of R make the columns uniform.
    found: Array = (q * np.sign(np.einsum("nii->ni", r))[:, None, :])[:, :rows]
    return found


def euclidean_ball(d: int, n: int, rng: np.random.Generator) -> Array:
    """(n, d), uniform on the vectors of length at most 1."""
    directions = rng.standard_normal((n, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found: Array = directions * rng.random((n, 1)) ** (1.0 / d)
    return found
