"""The sample as arrays, and its losses under moves of the weights, on every core.

An upper bound on the empirical risk of the posterior, for the loss that reaches a ball further.

L(f, x) is 1 if some network within ε of f errs on x. For f within ε of the trained weights it is
at most 1 where some network within 2ε errs. That is counted; or, closer, f is drawn from the
posterior and what is within ε of it is counted, where the first count leaves it open.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.networks import reading
from recert.networks.margins import MarginTable
from recert.networks.network import MarginForm
from recert.numerics.concentration import kl_inverse_upper
from recert.perturbation.adjoint import MarginLosses, by_length, pieces, walked
from recert.perturbation.ball import BallParts, can_draw, draw
from recert.perturbation.work import MEMORY, threads, work_of
from recert.samples.sample import Sample

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

    def pilot(self, network: MarginForm, parts: BallParts, most: int = PILOT) -> Index:
        """The sequences on which radii are sought: the first ones, as many as memory holds."""
        work = work_of(network, parts, int(self.lengths.max()))
        return np.arange(work.pilot(0.5 * self.memory, min(most, len(self.labels))))

    def losses(
        self, network: MarginForm, parts: BallParts, radii: Array | None, chosen: Index
    ) -> MarginLosses:
        """Losses of some sequences, in their order; to first order alone where radii are None."""
        wrong, n = network.outputs, len(chosen)
        found = MarginLosses(
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

    def left(self, network: MarginForm, parts: BallParts, radii: Array, chosen: Index) -> Array:
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
        network: MarginForm,
        parts: BallParts,
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

    def _left(
        self, graph: Any, index: Index, parts: BallParts, radii: Array, classes: int
    ) -> Array:
        """(n,) the least over wrong classes; what overflowed is lost."""
        each = [piece.left(radii) for _, piece in pieces(graph, self.labels[index], parts, classes)]
        left: Array = np.where(np.isnan(each), -math.inf, each).min(axis=0)
        return left

    def _steps(self, index: Index) -> NDArray[Any]:
        """Sequences of one length, without what pads them."""
        return self.x[index][:, : int(self.lengths[index[0]])]

    def _batch(
        self, network: MarginForm, parts: BallParts, workers: int = 1, *, first: bool = False
    ) -> tuple[int, int]:
        """Sequences in a batch and wrong classes side by side, so that what they hold fits."""
        work = work_of(network, parts, int(self.lengths.max()))
        return work.batch(0.5 * self.memory, workers, first=first)

    def _drawn_together(self, network: MarginForm) -> int:
        """For how many sequences networks are drawn at a time, whatever memory there is."""
        D = max(sum(stage.dimensions) for stage in reading.stages(network))
        weights = sum(block.parameters for block in network.blocks())
        most = min(STATES // (int(self.lengths.max()) * D * (D + 8)), WEIGHTS // weights)
        return max(1, min(TOGETHER, most))

    def _each(
        self,
        network: MarginForm,
        parts: BallParts,
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


# Margin forms carry roundings, of at most 1e-14 of a cap: balls are a little larger than ε.
REACH = 1.0 + 1e-6
# Sequences that are lost this near the trained weights are counted as lost without a draw.
OUTRIGHT = 0.5
# Draws for each undecided sequence, and how many in all at least and at most.
EACH, FEWEST, MOST = 20, 1_000, 30_000
SEED = 20181224
# Share of δ that goes to the draws.
SHARE = 0.05


@dataclass(frozen=True)
class Risk:
    """A bound on the posterior's empirical risk, and what it is made of (shares of the sample).

    Attributes:
        bound: the risk is at most this, with probability at least 1 − δ' over the draws.
        outright: share that was counted as lost.
        undecided: share that was left to draws.
        draws: number of pairs of a sequence and a network drawn for it.
        lost: number of pairs that were lost.
    """

    bound: float
    outright: float
    undecided: float = 0.0
    draws: int = 0
    lost: int = 0


def reached(
    network: MarginForm, data: Sequences, table: MarginTable, parts: BallParts, radii: Array
) -> Risk:
    """Without draws: whatever errs somewhere within 2ε."""
    risk = table.share(data.left(network, parts, 2.0 * REACH * radii, data.all()) <= 0.0)
    return Risk(risk, risk)


def drawn(
    network: MarginForm,
    data: Sequences,
    table: MarginTable,
    parts: BallParts,
    radii: Array,
    delta: float,
) -> Risk:
    """With draws from the posterior for the sequences that are lost within 2ε and not within ε/2.

    A pair is an undecided sequence, chosen with its weight in the risk, and a network drawn afresh
    for it; pairs are independent and lost with probability at most the mean over undecided ones.
    """
    lost = data.left(network, parts, 2.0 * REACH * radii, data.all()) <= 0.0
    near = np.flatnonzero(lost)
    sure = data.left(network, parts, OUTRIGHT * radii, near) <= 0.0
    outright, open_ = near[sure], near[~sure]
    share = table.share(_flags(len(lost), outright))
    if not len(open_):
        return Risk(share, share)
    draws = max(FEWEST, min(MOST, EACH * len(open_)))
    undecided = table.share(_flags(len(lost), open_))
    rng = np.random.default_rng(SEED)
    weights = None if table.weights is None else table.weights[open_] / table.weights[open_].sum()
    chosen = rng.choice(open_, size=draws, p=weights)
    left = data.left_of_draws(network, parts, radii, REACH * radii, chosen, rng)
    count = int((left <= 0.0).sum())
    limit = float(kl_inverse_upper(count / draws, -math.log(delta) / draws))
    bound = min(1.0, (share + undecided * limit) * (1.0 + 1e-12))
    return Risk(bound, share, undecided, draws, count)


def sequences_followed(m: int, drawing: bool) -> tuple[int, int, int]:
    """How many sequences each pass of a count follows, where a quarter of all is undecided."""
    return m, m, (max(FEWEST, min(MOST, EACH * m // 4)) if drawing else 0)


def applies(network: MarginForm) -> bool:
    """Whether the posterior can be drawn from."""
    return can_draw(tuple(network.blocks()))


def _flags(n: int, index: NDArray[np.int64]) -> NDArray[np.bool_]:
    flags = np.zeros(n, dtype=bool)
    flags[index] = True
    return flags
