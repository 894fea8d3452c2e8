"""Statements on a Gibbs predictor: δ shared among them, each evaluated, each read for a list.

A posterior and the whole sample in, a certificate for its Gibbs predictor out (theory, 5b).
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recert.certificates.certificate import Assumption, Bound, Certificate, ListStatement
from recert.certificates.predictor import Call, Padding, predictor_row
from recert.certification import ledger
from recert.certification.declared import Declared, Role
from recert.certification.record import describe_network
from recert.errors import InputError, type_of
from recert.networks.network import Network
from recert.numerics import rounding
from recert.numerics.union_bound import split_delta, total_nats
from recert.pac_bayes.bounds import (
    GIBBS_THEOREMS,
    GibbsSetting,
    MonteCarlo,
    majority_vote,
    mean_network,
)
from recert.pac_bayes.measure import Drawing, Held, Progress, draw, held_out, rows_of, zero_one
from recert.pac_bayes.posterior import Posterior, load_posterior
from recert.pac_bayes.split import Roles, assign_roles
from recert.readers.padding import aligned, read_as, width_of
from recert.samples.sample import At, Reading, groups_digest
from recert.theorems.menu import evaluate as evaluate_each
from recert.theorems.menu import graded
from recert.theorems.setting import OUTWARD, shared_costs
from recert.utils import validation

# What the draws may fail with, δ'/δ, unless it is said.
MONTE_CARLO_SHARE = 0.02
# How δ less Monte Carlo's part is shared among the statements.
WEIGHTS = {"pac_bayes_temperature": 0.9, "pac_bayes_kl": 0.1, "held_out": 0.25}


def shares_of(declared: Declared, drawing: Drawing, posterior: Posterior) -> dict[str, float]:
    """Every statement's share of δ, and δ'; for a list Monte Carlo's lower limit counts, too."""
    weights = dict(WEIGHTS)
    if posterior.prior.temperature is None:
        del weights["pac_bayes_temperature"]
    if declared.holdout is None or declared.holdout_role != "certificate":
        del weights["held_out"]
    limits = 1 if declared.population is None else 2
    scale = (1.0 - limits * drawing.share) / math.fsum(weights.values())
    if scale <= 0.0:
        raise InputError(
            f"monte_carlo_share is {drawing.share}, which leaves nothing; use {MONTE_CARLO_SHARE}"
        )
    weights = {name: weight * scale for name, weight in weights.items()}
    weights["monte_carlo"] = drawing.share
    if limits == 2:
        weights["monte_carlo_lower"] = drawing.share
    return split_delta(declared.delta, list(weights), weights)


def evaluate(
    setting: GibbsSetting,
    shares: Mapping[str, float],
    declared: Declared,
    rows: Sequence[Assumption],
    *,
    of_list: bool,
) -> tuple[Bound, ...]:
    """Every statement, applicable or not; the vote and the mean network last."""
    every = {theorem.name: declared.delta for theorem in GIBBS_THEOREMS}
    found = graded(
        evaluate_each(GIBBS_THEOREMS, setting, every | dict(shares), setting.costs), rows
    )
    if of_list:
        found = [_not_for_lists(bound) for bound in found]
    gibbs = min((b for b in found if b.name.startswith("pac_bayes") and b.log10 is not None),
                key=lambda b: b.value)  # fmt: skip
    return (*found, majority_vote(gibbs), mean_network())


def _not_for_lists(bound: Bound) -> Bound:
    if bound.name != "held_out" or bound.kind != "certificate":
        return bound
    reason = "stated for draws with replacement, not for a list"
    return replace(bound, kind="estimate", reason=reason)


def described(posterior: Posterior, drawing: Drawing) -> dict[str, Any]:
    """What the certificate records of posterior, prior and draws."""
    prior = posterior.prior
    return {
        "posterior_digest": posterior.digest,
        "prior_units": prior.units,
        "prior_digest": prior.digest,
        "prior_scale": prior.s_0,
        "mean_scales": [
            float(np.exp(np.mean(posterior.log_scales[b.name]))) for b in posterior.mean.blocks()
        ],
        "repetitions": drawing.repetitions,
        "seed": drawing.seed,
    }


def finite_list(
    found: Sequence[Bound], drawn: MonteCarlo, roles: Roles, population: int | None
) -> tuple[ListStatement, ...]:
    """The statements read for the list less the prior's part, of which the rest is a sample."""
    if population is None:
        return ()
    N, m = population - roles.seen.m, roles.rest.m
    seen = drawn.lower_limit
    rows = []
    for bound in found:
        if bound.name.startswith("pac_bayes") and bound.kind == "certificate":
            unseen = (N * bound.value - m * seen) / (N - m) * (1 + OUTWARD) if m < N else 0.0
            threshold = (m * seen + N - m) / N
            rows.append(ListStatement(bound.name, N, bound.value, min(1.0, unseen), threshold))
    return tuple(rows)


@rounding.usual
def certify_posterior(
    posterior: Posterior | str | Path,
    sequences: Any,
    labels: Any,
    *,
    delta: float = 0.01,
    at: At = "last",
    lengths: Any = None,
    groups: Any = None,
    max_length: int | None = None,
    repetitions: int = 4,
    monte_carlo_share: float = MONTE_CARLO_SHARE,
    seed: int = 0,
    holdout: Sequence[Any] | None = None,
    holdout_role: Role = "certificate",
    population: int | None = None,
    tried: int = 1,
    encoding: str | int = "fixed",
    draws: str = "",
    padding: Padding | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Bounds on the error of the predictor that draws fresh weights for every sequence.

    Args:
        posterior: the posterior with its prior, or the folder of a saved one.
        sequences: (m, T, d_x) reals or (m, T) integer tokens, the **whole** sample, the units that
            made the prior first and in the order of training. It is split here; the bound counts
            the others alone, and a sample whose first units are not the prior's is refused.
        labels: (m,) classes 0..K−1, or (m, T).
        delta: failure probability of everything together, Monte Carlo included.
        at: ``"last"`` valid step, ``"average"`` over valid steps, or a step 1..T.
        lengths: (m,) valid steps of padded sequences, or a (m, T) mask that is true at them.
        groups: (m,) ids; sequences of one id are one unit, and count as one draw.
        max_length: T, declared; longer sequences are cut as part of the model.
        repetitions: networks drawn for each sequence; an even number is used best.
        monte_carlo_share: δ'/δ, what the draws may fail with.
        seed: of the draws.
        holdout: ``(sequences, labels[, lengths[, groups]])`` held back.
        holdout_role: as in ``recert.certify``.
        population: N when the sample is drawn without replacement from a list of N units.
        tried: number of recipes among which this one was chosen on units that the bound counts.
        encoding: as in ``recert.certify``.
        draws: in what sense the units are independent draws, for the ledger.
        padding: as in ``recert.certify``; None takes it off.
        progress: called with the number of (sequence, repetition) pairs done.

    Raises:
        InputError: the first units are not those of the prior, none is left for the bound, or an
            argument is out of range; FileError: the posterior cannot be read.

    Source: theory, sections 5b and 6.
    """
    declared = Declared.among(locals()).checked()
    drawing = Drawing(
        validation.whole("repetitions", repetitions),
        validation.share("monte_carlo_share", monte_carlo_share),
        validation.whole("seed", seed, least=0),
    )
    if isinstance(posterior, (str, Path)):
        posterior = load_posterior(posterior)
    if not isinstance(posterior, Posterior):
        raise InputError(f"{type_of(posterior)} is no posterior; pass one, or its folder")
    return _certify(posterior, sequences, labels, declared, drawing)


def _certify(
    posterior: Posterior, sequences: Any, labels: Any, declared: Declared, drawing: Drawing
) -> Certificate:
    reading, holdout = declared.reading(posterior.mean), declared.held_back()
    prior = posterior.prior
    one = aligned(sequences, labels, declared.lengths, declared.padding, last=declared.at == "last")
    roles = assign_roles(
        one.sequences, one.labels, reading, m_0=prior.units, digest=prior.digest,
        lengths=one.lengths, groups=declared.groups,
    )  # fmt: skip
    _check_population(declared, roles)
    held = None if holdout is None else held_out(posterior, reading, holdout, declared, drawing)
    told = [(one.padding, width_of(sequences)), *(() if holdout is None else (holdout.told,))]
    read = read_as(told, cut=_cut(posterior.mean, reading), radius=None)
    rows = (
        predictor_row(Call("posterior"), read),
        *rows_of(posterior, roles, reading, declared, held),
    )
    shares = shares_of(declared, drawing, posterior)
    chosen = shared_costs(declared.tried, declared.encoding)
    drawn, counted = draw(
        posterior, roles.rest, reading, drawing, shares, declared.progress, nats=total_nats(chosen)
    )
    setting = GibbsSetting(
        divergence=posterior.divergence,
        monte_carlo=drawn,
        costs=(*chosen, *prior.cost),
        temperature=prior.temperature,
        holdout=None if held is None else (held.tally.first, held.tally.units, held.zero_one),
        choices=described(posterior, drawing),
    )
    found = evaluate(setting, shares, declared, rows, of_list=declared.of_list)
    input_row = ledger.input_bound_row(posterior.mean, roles.sample, None)
    return Certificate(
        network=describe_network(posterior.mean),
        sample={
            "m": roles.rest.m,
            "unit": "sequence" if declared.groups is None else "group of sequences",
            "reading": "finite list" if declared.of_list else "new draws",
            "population": declared.population,
            "T": reading.max_length or _longest(roles, held),
            "padding": read.padding,
            "digest": roles.sample.digest,
            "groups": groups_digest(declared.groups, len(roles.sample.traces)),
            "input_bound": {
                "value": ledger.input_bound(posterior.mean, roles.sample, None),
                "status": input_row.status,
            },
            "training_error": counted.mean,
            "zero_one": zero_one(roles.rest, reading.at),
            "holdout": None
            if held is None
            else {"m": held.tally.units, "error": held.tally.mean, "zero_one": held.zero_one},
            "float_slack": None,
            "declared": declared.recorded(),
        },
        at=declared.at,
        delta=declared.delta,
        assumptions=rows,
        bounds=found,
        finite_list=finite_list(found, drawn, roles, declared.population),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _cut(network: Network, reading: Reading) -> int | None:
    """T where longer sequences are cut there; what follows a step that is read may not count."""
    after = isinstance(reading.at, int) and not network.two_way
    return None if after else reading.max_length


def _longest(roles: Roles, held: Held | None) -> int:
    """Steps of the longest sequence that is read."""
    seen = roles.sample.longest
    return seen if held is None else max(seen, int(held.part.batch.lengths.max()))


def _check_population(declared: Declared, roles: Roles) -> None:
    units = roles.seen.m + roles.rest.m
    if declared.population is not None and declared.population < units:
        raise InputError(
            f"population is {declared.population}, smaller than the {units} units drawn from it"
        )
