"""What is drawn for a certificate: on the units of the bound, on held-out ones, and a trial before.

Of the predictors that are fixed, the prior's centre is run as well, for the ledger.

The ledger of a Gibbs certificate: what it rests on, and how far that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert import readers
from recert.certificates.certificate import Assumption
from recert.certificates.hypotheses import COUNTED
from recert.certification import ledger
from recert.certification.declared import Declared, Holdout
from recert.networks.forward import margins_of
from recert.networks.network import Network
from recert.pac_bayes.bounds import MonteCarlo, best_rate
from recert.pac_bayes.posterior import Posterior
from recert.pac_bayes.sampling import Tally, gibbs_losses, tally, unit_losses
from recert.pac_bayes.split import DEVIATIONS, Roles, SamplePart, drift, read, take
from recert.samples.leakage import between, joined
from recert.samples.sample import BATCH, At, Reading

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


def zero_one(part: SamplePart, at: At) -> bool:
    """Whether losses of units can only be 0 or 1, whatever the draws."""
    return at != "average" and part.m == len(part.units)


def draw(
    posterior: Posterior,
    part: SamplePart,
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
    """Held-out units, and what was drawn on them."""

    part: SamplePart
    tally: Tally
    zero_one: bool


def held_out(
    posterior: Posterior, reading: Reading, given: Holdout, declared: Declared, drawing: Drawing
) -> Held:
    """Losses on the held-out units, by networks drawn for each."""
    declared.need_groups_of(given)
    part, _ = read(
        given.sequences, given.labels, reading, lengths=given.lengths, groups=given.groups,
        what="held-out sequences",
    )  # fmt: skip
    losses = gibbs_losses(
        posterior, part.batch, reading.at, repetitions=drawing.repetitions, seed=drawing.seed,
        stream="holdout", progress=declared.progress,
    )  # fmt: skip
    counted = tally(losses, part.units, part.m)
    return Held(part, counted, zero_one(part, reading.at))


def fixed_losses(network: Network, part: SamplePart, at: At) -> Array:
    """(m,) losses of one network on the units of a part, ties counted as errors."""
    predictor = readers.predictor_of(network)
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


def rows_of(
    posterior: Posterior,
    roles: Roles,
    reading: Reading,
    declared: Declared,
    held: Held | None,
) -> tuple[Assumption, ...]:
    """Every hypothesis that some statement on the Gibbs predictor uses."""
    rows = [
        _draws_row(roles, declared),
        *ledger.recipe_rows(declared.tried, COUNTED),
        ledger.encoding_row(declared.encoding, COUNTED),
        ledger.settings_row(),
        _prior_row(posterior, roles, reading.at),
        _roles_row(roles),
        Assumption("draws", "declared"),
    ]
    if held is not None:
        seen = joined([roles.seen.traces, roles.rest.traces])
        units = np.concatenate([roles.seen.units, roles.rest.units + roles.seen.m])
        own = held.part.recurring
        overlap = between(seen, held.part.traces, units, held.part.units, of_held=own)
        rows.append(ledger.holdout_row(declared.holdout_role, overlap, own))
    return tuple(rows)


def _draws_row(roles: Roles, declared: Declared) -> Assumption:
    return ledger.draws_row(
        declared.draws,
        roles.rest.recurring,
        population=declared.population,
        prior_units=roles.seen.m,
    )


def _prior_row(posterior: Posterior, roles: Roles, at: At) -> Assumption:
    """That the prior knows the first units alone: declared, unless its own errors contradict."""
    centre = posterior.prior.centre
    on_rest = fixed_losses(centre, roles.rest, at)
    found = drift(on_rest)
    facts = {
        "units": roles.seen.m,
        "own": float(fixed_losses(centre, roles.seen, at).mean()),
        "rest": float(on_rest.mean()),
        "deviations": found if found > DEVIATIONS else None,
    }
    return Assumption("prior", "violated" if found > DEVIATIONS else "declared", facts)


def _roles_row(roles: Roles) -> Assumption:
    shared = roles.shared
    facts = {
        "units": roles.seen.m,
        "shared": shared.shared,
        "further": shared.held_out,
        "fault": shared.kind or None,
    }
    return Assumption("roles", "violated" if shared.suspicious else "enforced", facts)
