"""Drawing weights for every sequence, and the losses of the networks so drawn.

The predictor draws standard normal numbers z in float32, puts w + s·z in float32 for the weights,
and computes in float32; this program is the hypothesis. Numbers depend on the seed alone, not on
how many threads share the work.

From losses of drawn networks to what the Monte Carlo limit needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import InputError
from recert.networks.blocks import Block
from recert.networks.forward import (
    SampledAlgebra,
    check_reading,
    falling,
    margins_of,
    restored,
    sorted_logits,
)
from recert.pac_bayes.posterior import Posterior
from recert.samples.sample import At, Batch

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

# Weights drawn at once, in numbers of float32, and sequences at once.
MOST_DRAWN, MOST_ROWS = 1 << 21, 1024
# What draws are for; every purpose has a stream of its own.
STREAMS = {"bound": 0, "trial": 1, "holdout": 2}


def draw_weights(
    posterior: Posterior, tokens: NDArray[Any] | None, rows: int, rng: np.random.Generator
) -> tuple[dict[str, Array32], NDArray[np.int64] | None]:
    """Fresh weights for each of some sequences.

    Of blocks that read tokens only the columns that a sequence reads are drawn, one for each token
    that occurs in it, however often; what is not drawn has no influence.

    Args:
        posterior: where they are drawn from.
        tokens: (rows, T) of a network that reads tokens, or None.
        rows: number of sequences.
        rng: source of the draws.

    Returns:
        The weights as `SampledAlgebra` takes them, and the slots (rows, T) to feed it for tokens.
    """
    slots, columns = _slots(posterior, tokens)
    weights = {}
    for block in posterior.mean.blocks():
        w, s = posterior.drawn[block.name]
        if block.norm == "column":
            w, s = w.T, s.T
            if columns is not None:
                w, s = w[columns], s if _constant(s) else s[columns]
            shape = (rows, *w.shape[-2:])
        else:
            shape = (rows, *block.shape)
        z = rng.standard_normal(shape, dtype=np.float32)
        z *= s.flat[0] if _constant(s) else s
        z += w
        weights[block.name] = z
    return weights, slots


def gibbs_losses(
    posterior: Posterior,
    batch: Batch,
    at: At,
    *,
    repetitions: int,
    seed: int,
    stream: str = "bound",
    progress: Callable[[int], object] | None = None,
) -> Array:
    """Losses of fresh networks on every sequence, ties counted as errors.

    Args:
        posterior: where weights are drawn from.
        batch: checked sequences, labels, lengths.
        at: the step that is read; with ``"average"`` a loss is the mean over valid steps.
        repetitions: how many networks are drawn for each sequence.
        seed: of all draws, together with the stream.
        stream: what the draws are for, a key of `STREAMS`.
        progress: called with a number of (sequence, repetition) pairs done.

    Returns:
        (repetitions, n) losses in [0, 1].

    Raises:
        InputError: a drawn network's outputs are not finite, or the step cannot be read.
    """
    check_reading(posterior.mean, at)
    _ = posterior.drawn
    n = len(batch.x)
    rows = _rows(posterior, batch)
    losses = np.empty((repetitions, n))
    tasks = [(r, start) for r in range(repetitions) for start in range(0, n, rows)]

    def work(task: tuple[int, int]) -> int:
        r, start = task
        piece = slice(start, min(start + rows, n))
        rng = np.random.Generator(
            np.random.SFC64(np.random.SeedSequence([seed, STREAMS[stream], r, start]))
        )
        few = Batch(batch.x[piece], batch.labels[piece], batch.lengths[piece])
        losses[r, piece] = _losses(posterior, few, at, rng)
        return len(few.x)

    for count in _in_parallel(work, tasks):
        if progress is not None:
            progress(count)
    return losses


def _in_parallel(work: Callable[[Any], int], tasks: list[Any]) -> Iterator[int]:
    workers = max(1, min(4, os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        try:
            waiting: list[Future[int]] = [pool.submit(work, task) for task in tasks]
            for future in waiting:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _losses(posterior: Posterior, batch: Batch, at: At, rng: np.random.Generator) -> Array:
    """Losses of one fresh network for each sequence of a small batch."""
    x, labels, lengths = batch.x, batch.labels, batch.lengths
    if isinstance(at, int):
        x, lengths = x[:, :at], np.minimum(lengths, at)
    order = falling(lengths)
    if order is not None:
        x, lengths = x[order], lengths[order]
    x = x[:, : int(lengths[0])]
    tokens = x if posterior.mean.input_kind == "onehot" else None
    weights, slots = draw_weights(posterior, tokens, len(x), rng)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        logits = sorted_logits(
            SampledAlgebra(weights),  # type: ignore[arg-type]
            posterior.mean,
            x if slots is None else slots,
            lengths,
            at,
        )
        y = np.asarray(logits if order is None else restored(logits, order), dtype=np.float64)
        if at != "average":
            return _wrong(margins_of(y, labels))
        wide = labels[:, : y.shape[1]]
        valid = np.arange(y.shape[1])[None, :] < batch.lengths[:, None]
        wrong = np.where(valid, _wrong(np.where(valid, margins_of(y, wide), 0.0)), 0.0)
    found: Array = wrong.sum(axis=1) / batch.lengths
    return found


def _wrong(margins: Array) -> Array:
    if not np.isfinite(margins).all():
        raise InputError(
            "the outputs of a drawn network are not finite on this sample; its weights or their "
            "scales are too large"
        )
    return (margins <= 0.0).astype(np.float64)


def _slots(
    posterior: Posterior, tokens: NDArray[Any] | None
) -> tuple[NDArray[np.int64] | None, NDArray[Any] | None]:
    """Which slot each step reads, and the token of every slot; None where slots are tokens."""
    if tokens is None:
        return None, None
    if tokens.shape[1] >= posterior.mean.d_x:
        return tokens.astype(np.int64, copy=False), None
    same = tokens[:, :, None] == tokens[:, None, :]
    return np.argmax(same, axis=2), tokens


def _rows(posterior: Posterior, batch: Batch) -> int:
    """Sequences for which weights are drawn at once; padding makes no difference to it."""
    steps = min(int(batch.lengths.max()), posterior.mean.d_x)
    count = sum(_drawn_size(block, steps) for block in posterior.mean.blocks())
    return max(1, min(MOST_ROWS, MOST_DRAWN // max(1, count)))


def _drawn_size(block: Block, steps: int) -> int:
    return block.shape[0] * steps if block.norm == "column" else int(block.value.size)


def _constant(s: Array32) -> bool:
    return bool((s == s.flat[0]).all())


@dataclass(frozen=True)
class Tally:
    """Losses per unit and repetition, summed up.

    Attributes:
        units: number of units.
        repetitions: networks drawn for each sequence.
        mean: mean loss over units and repetitions.
        disagreement: share of (unit, pair of repetitions) in which exactly one of the two networks
            errs, over the pairs (1st, 2nd), (3rd, 4th), …; None where losses are not all 0 or 1 or
            repetitions do not come in pairs.
        first: mean loss over units of the first repetition alone.
        zero_one: whether every unit's loss is 0 or 1.
    """

    units: int
    repetitions: int
    mean: float
    disagreement: float | None
    first: float
    zero_one: bool

    @property
    def draws(self) -> int:
        """n_MC: pairs (unit, repetition)."""
        return self.units * self.repetitions

    @property
    def pairs(self) -> int:
        """Pairs of repetitions, counted for every unit."""
        return self.units * (self.repetitions // 2)


def tally(losses: Array, units: NDArray[np.int64], m: int) -> Tally:
    """Sum up losses.

    Args:
        losses: (repetitions, n) in [0, 1], one column a sequence.
        units: (n,) the unit of every sequence, 0..m−1.
        m: number of units.
    """
    per_unit = unit_losses(losses, units, m)
    zero_one = bool(((per_unit == 0.0) | (per_unit == 1.0)).all())
    disagreement = None
    if zero_one and len(losses) % 2 == 0:
        different = per_unit[0::2] != per_unit[1::2]
        disagreement = int(different.sum()) / different.size
    total = float(per_unit.sum())
    mean = total / per_unit.size if zero_one else min(1.0, total / per_unit.size * (1 + 1e-12))
    return Tally(m, len(losses), mean, disagreement, float(per_unit[0].mean()), zero_one)


def unit_losses(losses: Array, units: NDArray[np.int64], m: int) -> Array:
    """(repetitions, m): the mean loss over the sequences of every unit."""
    if len(units) == m:
        ordered = np.empty_like(losses)
        ordered[:, units] = losses
        return ordered
    sizes = np.bincount(units, minlength=m)
    sums = np.stack([np.bincount(units, weights=row, minlength=m) for row in losses])
    means: Array = sums / sizes
    return np.minimum(means, 1.0)
