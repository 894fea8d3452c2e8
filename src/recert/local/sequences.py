"""The sample as arrays, and its losses under moves of the weights, on every core."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert import cells
from recert.local.draws import draw
from recert.local.parts import Parts
from recert.local.passes import Losses, by_length, pieces, walked
from recert.local.work import MEMORY, threads, work_of
from recert.network import Network
from recert.sample import Sample

Array = NDArray[np.float64]
Index = NDArray[np.int64]

PILOT = 6000
# Networks are drawn this many at a time at most, which decides the stream of numbers that they are
# drawn from: numbers that states of drawn networks take, and weights.
TOGETHER, STATES, WEIGHTS = 512, 1 << 22, 1 << 24


@dataclass(frozen=True, eq=False)
class Sequences:
    """The sample as arrays: tokens or vectors, labels, lengths.

    ``memory`` is how many bytes may be held at once, ``progress`` is called with the number of
    sequences that were followed since the last call.
    """

    x: NDArray[Any]
    labels: Index
    lengths: Index
    memory: float = MEMORY
    progress: Callable[[int], object] | None = None

    @classmethod
    def of(cls, sample: Sample, **more: Any) -> Sequences:
        """Every batch of a sample; cut at the step where the loss is read, where that is a step."""
        batches = list(sample)
        at = sample.reading.at
        x = _padded([batch.x for batch in batches])
        lengths = np.concatenate([batch.lengths for batch in batches])
        if isinstance(at, int):
            lengths = np.minimum(lengths, at)
        return cls(x, np.concatenate([batch.labels for batch in batches]), lengths, **more)

    def all(self) -> Index:
        """Every sequence."""
        return np.arange(len(self.labels))

    def pilot(self, network: Network, parts: Parts, most: int = PILOT) -> Index:
        """The sequences on which radii are sought: the first ones, as many as memory holds."""
        work = work_of(network, parts, int(self.lengths.max()))
        return np.arange(work.pilot(0.5 * self.memory, min(most, len(self.labels))))

    def losses(self, network: Network, parts: Parts, radii: Array | None, chosen: Index) -> Losses:
        """Losses of some sequences, in their order; to first order alone where radii are None."""
        wrong, n = network.K, len(chosen)  # the margin form has K − 1 outputs
        found = Losses(
            np.empty((wrong, n)), np.empty((wrong, n, parts.count)), np.empty((wrong, n))
        )

        def work(rows: Index, classes: int) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                graph = walked(network, self._steps(chosen[rows]), parts, radii)
                for place, piece in pieces(graph, self.labels[chosen[rows]], parts, classes):
                    found.M[place, rows], found.Q[place, rows] = piece.M, piece.Q
                    found.S[place, rows] = piece.S

        self._each(network, parts, chosen, work, first=radii is None)
        return found

    def left(self, network: Network, parts: Parts, radii: Array, chosen: Index) -> Array:
        """What is left of the margins of some sequences at these radii, (n,)."""
        found = np.full(len(chosen), np.inf)

        def work(rows: Index, classes: int) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                graph = walked(network, self._steps(chosen[rows]), parts, radii)
                found[rows] = self._left(graph, chosen[rows], parts, radii, classes)

        self._each(network, parts, chosen, work)
        return found

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
        batch, classes = self._batch(network, parts)
        for rows in by_length(self.lengths[chosen], self._drawn_together(network)):
            weights = draw(parts, apart, len(rows), rng)
            for start in range(0, len(rows), batch):
                few = slice(start, start + batch)
                index = chosen[rows[few]]
                own = {name: value[few] for name, value in weights.items()}
                with np.errstate(over="ignore", invalid="ignore"):
                    graph = walked(network, self._steps(index), parts, radii, own, apart)
                    found[rows[few]] = self._left(graph, index, parts, radii, classes)
                self._tell(len(index))
        return found

    def _left(self, graph: Any, index: Index, parts: Parts, radii: Array, classes: int) -> Array:
        """(n,) the least over wrong classes; what overflowed is lost."""
        each = [piece.left(radii) for _, piece in pieces(graph, self.labels[index], parts, classes)]
        left: Array = np.where(np.isnan(each), -math.inf, each).min(axis=0)
        return left

    def _steps(self, index: Index) -> NDArray[Any]:
        """Sequences of one length, without what pads them."""
        return self.x[index][:, : int(self.lengths[index[0]])]

    def _batch(
        self, network: Network, parts: Parts, workers: int = 1, *, first: bool = False
    ) -> tuple[int, int]:
        """Sequences in a batch and wrong classes side by side, so that what they hold fits."""
        work = work_of(network, parts, int(self.lengths.max()))
        return work.batch(0.5 * self.memory, workers, first=first)

    def _drawn_together(self, network: Network) -> int:
        """For how many sequences networks are drawn at a time, whatever memory there is."""
        D = max(sum(stage.dimensions) for stage in cells.stages(network))
        weights = sum(block.parameters for block in network.blocks())
        most = min(STATES // (int(self.lengths.max()) * D * (D + 8)), WEIGHTS // weights)
        return max(1, min(TOGETHER, most))

    def _each(
        self,
        network: Network,
        parts: Parts,
        chosen: Index,
        work: Callable[[Index, int], None],
        *,
        first: bool = False,
    ) -> None:
        workers = threads()
        batch, classes = self._batch(network, parts, workers, first=first)

        def one(rows: Index) -> int:
            work(rows, classes)
            return len(rows)

        with ThreadPoolExecutor(workers) as pool:
            for count in pool.map(one, by_length(self.lengths[chosen], batch)):
                self._tell(count)

    def _tell(self, count: int) -> None:
        if self.progress is not None:
            self.progress(count)


def _padded(pieces: list[NDArray[Any]]) -> NDArray[Any]:
    """Batches one after the other, padded with zeros to one number of steps."""
    steps = max(piece.shape[1] for piece in pieces)
    wide = [
        np.pad(piece, [(0, 0), (0, steps - piece.shape[1])] + [(0, 0)] * (piece.ndim - 2))
        for piece in pieces
    ]
    return np.concatenate(wide)
