"""What is drawn for a certificate: on the units of the bound, on held-out ones, and a trial before.

Of the predictors that are fixed, the prior's centre is run as well, for the ledger.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert import adapters
from recert.case import Declared
from recert.errors import InputError
from recert.gibbs.draws import gibbs_losses
from recert.gibbs.roles import Part, read, take
from recert.gibbs.tally import Tally, tally, unit_losses
from recert.network import Network
from recert.padding import Told, aligned_holdout
from recert.posterior import Posterior
from recert.predict import margins_of, network_predictor
from recert.sample import BATCH, At, Reading
from recert.theorems.pac_bayes import MonteCarlo, best_rate

Array = NDArray[np.float64]
Progress = Callable[[int], object]

# Sequences on which the rate of the Monte Carlo limit is chosen, with draws of their own.
TRIAL = 4096


@dataclass(frozen=True)
class Drawing:
    """How networks are drawn: how many for a sequence, δ'/δ, the seed."""

    repetitions: int
    share: float
    seed: int


def zero_one(part: Part, at: At) -> bool:
    """Whether losses of units can only be 0 or 1, whatever the draws."""
    return at != "average" and part.m == len(part.units)


def draw(
    posterior: Posterior,
    part: Part,
    reading: Reading,
    drawing: Drawing,
    shares: Mapping[str, float],
    progress: Progress | None,
    *,
    nats: float = 0.0,
) -> tuple[MonteCarlo, Tally]:
    """Losses on the units of the bound, and the Monte Carlo limit with its rate fixed before.

    The limit pays ``nats`` for the choice of this posterior among others.
    """
    delta, rate = shares["monte_carlo"], None
    if zero_one(part, reading.at) and drawing.repetitions % 2 == 0:
        batch = take(part.batch, np.arange(min(TRIAL, len(part.units))))
        trial = gibbs_losses(
            posterior, batch, reading.at, repetitions=2, seed=drawing.seed, stream="trial"
        )
        expected = (float((trial[0] != trial[1]).sum()) + 1.0) / (trial.shape[1] + 2.0)
        rate = best_rate(expected, part.m * (drawing.repetitions // 2), delta, nats)
    losses = gibbs_losses(
        posterior, part.batch, reading.at, repetitions=drawing.repetitions, seed=drawing.seed,
        progress=progress,
    )  # fmt: skip
    counted = tally(losses, part.units, part.m)
    disagreement = None if rate is None else counted.disagreement
    drawn = MonteCarlo(counted.mean, part.m, drawing.repetitions, delta, disagreement, rate, nats)
    return drawn, counted


@dataclass(frozen=True, eq=False)
class Held:
    """Held-out units, what was drawn on them, and how they are padded."""

    part: Part
    tally: Tally
    zero_one: bool
    told: Told


def held_out(posterior: Posterior, reading: Reading, declared: Declared, drawing: Drawing) -> Held:
    """Losses on the held-out units, by networks drawn for each."""
    (sequences, labels, lengths, groups), told = aligned_holdout(
        declared.holdout, declared.padding, last=declared.at == "last"
    )
    if declared.groups is not None and groups is None:
        raise InputError(
            "the sample has groups and the held-out units have none; pass them as the fourth "
            "member of holdout"
        )
    part, _ = read(
        sequences, labels, reading, lengths=lengths, groups=groups, what="held-out sequences"
    )
    losses = gibbs_losses(
        posterior, part.batch, reading.at, repetitions=drawing.repetitions, seed=drawing.seed,
        stream="holdout", progress=declared.progress,
    )  # fmt: skip
    counted = tally(losses, part.units, part.m)
    return Held(part, counted, zero_one(part, reading.at), told)


def fixed_losses(network: Network, part: Part, at: At) -> Array:
    """(m,) losses of one network on the units of a part, ties counted as errors."""
    loaded = sys.modules.get("torch") is not None
    predictor = adapters.torch_predictor(network) if loaded else network_predictor(network)
    batch, found = part.batch, []
    for start in range(0, len(batch.x), BATCH):
        piece = slice(start, start + BATCH)
        x, labels, lengths = batch.x[piece], batch.labels[piece], batch.lengths[piece]
        wrong = margins_of(predictor(x, lengths, at), labels) <= 0.0
        if at == "average":
            valid = np.arange(x.shape[1])[None, :] < lengths[:, None]
            wrong = (wrong & valid).sum(axis=1) / lengths
        found.append(np.asarray(wrong, dtype=np.float64))
    return unit_losses(np.concatenate(found)[None, :], part.units, part.m)[0]
