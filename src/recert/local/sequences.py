"""The sample as arrays, and its losses under moves of the weights, on every core."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert import cells
from recert.local.draws import draw
from recert.local.parts import Parts
from recert.local.passes import Losses, by_length, losses
from recert.network import Network, margin_functionals
from recert.sample import Sample

Array = NDArray[np.float64]
Index = NDArray[np.int64]

PILOT = 6000
# Sequences in a batch at most, and numbers that a batch holds for one operation of all its steps.
BATCH, HELD = 512, 1 << 22
# In products of numbers, of which one core takes some 6·10^8 a second.
MOST_WORK = 6e10


def states_of(network: Network) -> int:
    """D, the number of entries in the states of the largest stage."""
    return max(sum(stage.dimensions) for stage in cells.stages(network))


def work(network: Network, sequences: int, steps: int) -> float:
    """What following moves through a sample costs, in products of numbers."""
    D, gates = states_of(network), sum(len(layer.gates) for layer in network.directions())
    return float(sequences) * steps * D * D * (D + 64) * gates


@dataclass(frozen=True, eq=False)
class Sequences:
    """The sample as arrays: tokens or vectors, labels, lengths."""

    x: NDArray[Any]
    labels: Index
    lengths: Index

    @classmethod
    def of(cls, sample: Sample) -> Sequences:
        """Every batch of a sample; cut at the step where the loss is read, where that is a step."""
        batches = list(sample)
        at = sample.reading.at
        x = _padded([batch.x for batch in batches])
        lengths = np.concatenate([batch.lengths for batch in batches])
        if isinstance(at, int):
            lengths = np.minimum(lengths, at)
        return cls(x, np.concatenate([batch.labels for batch in batches]), lengths)

    def all(self) -> Index:
        """Every sequence."""
        return np.arange(len(self.labels))

    def pilot(self) -> Index:
        """The sequences on which radii are sought."""
        return np.arange(min(PILOT, len(self.labels)))

    def losses(self, network: Network, parts: Parts, radii: Array, chosen: Index) -> Losses:
        """Losses of some sequences, in their order."""
        wrong, n = network.K, len(chosen)  # the margin form has K − 1 outputs
        found = Losses(
            np.empty((wrong, n)), np.empty((wrong, n, parts.count)), np.empty((wrong, n))
        )

        def work(rows: Index) -> None:
            piece = self._piece(network, parts, radii, chosen[rows])
            found.M[:, rows], found.S[:, rows], found.Q[:, rows] = piece.M, piece.S, piece.Q

        self._each(network, chosen, work)
        return found

    def left(self, network: Network, parts: Parts, radii: Array, chosen: Index) -> Array:
        """What is left of the margins of some sequences at these radii, (n,)."""
        found = np.empty(len(chosen))

        def work(rows: Index) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                found[rows] = self._piece(network, parts, radii, chosen[rows]).left(radii)

        self._each(network, chosen, work)
        return np.where(np.isnan(found), -math.inf, found)

    def left_of_draws(
        self,
        network: Network,
        parts: Parts,
        apart: Array,
        radii: Array,
        chosen: Index,
        rng: np.random.Generator,
    ) -> Array:
        """The same with weights drawn within ``apart`` for each of the chosen sequences, (n,)."""
        found = np.empty(len(chosen))
        seeds = margin_functionals(network.K + 1)
        for rows in by_length(self.lengths[chosen], self._batch(network)):
            index = chosen[rows]
            x = self.x[index][:, : int(self.lengths[index[0]])]
            weights = draw(parts, apart, len(rows), rng)
            with np.errstate(over="ignore", invalid="ignore"):
                piece = losses(network, seeds, x, self.labels[index], parts, radii, weights, apart)
                found[rows] = piece.left(radii)
        return np.where(np.isnan(found), -math.inf, found)

    def _batch(self, network: Network) -> int:
        """Sequences in a batch, so that what it holds fits."""
        D = states_of(network)
        return max(1, min(BATCH, HELD // (int(self.lengths.max()) * D * (D + 8))))

    def _piece(self, network: Network, parts: Parts, radii: Array, index: Index) -> Losses:
        x = self.x[index][:, : int(self.lengths[index[0]])]
        seeds = margin_functionals(network.K + 1)
        with np.errstate(over="ignore", invalid="ignore"):
            return losses(network, seeds, x, self.labels[index], parts, radii)

    def _each(self, network: Network, chosen: Index, work: Callable[[Index], None]) -> None:
        with ThreadPoolExecutor(max(1, min(4, cpu_count() or 1))) as pool:
            for _ in pool.map(work, by_length(self.lengths[chosen], self._batch(network))):
                pass


def _padded(pieces: list[NDArray[Any]]) -> NDArray[Any]:
    """Batches one after the other, padded with zeros to one number of steps."""
    steps = max(piece.shape[1] for piece in pieces)
    wide = [
        np.pad(piece, [(0, 0), (0, steps - piece.shape[1])] + [(0, 0)] * (piece.ndim - 2))
        for piece in pieces
    ]
    return np.concatenate(wide)
