"""Statements on a Gibbs predictor: δ shared among them, each evaluated, each read for a list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recert import ledger
from recert.case import Declared
from recert.certificate import Assumption, Bound, ListStatement
from recert.choices import split_delta
from recert.errors import InputError
from recert.gibbs.measure import Drawing
from recert.gibbs.roles import Roles
from recert.payment import paying
from recert.posterior import Posterior
from recert.theorems.base import OUTWARD
from recert.theorems.pac_bayes import (
    GIBBS_THEOREMS,
    GibbsSetting,
    MonteCarlo,
    majority_vote,
    mean_network,
)

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
    found: list[Bound] = []
    for theorem in GIBBS_THEOREMS:
        reason = theorem.supports(setting)
        if reason:
            found.append(
                Bound(
                    theorem.name, theorem.title, "not applicable", None, theorem.reference,
                    needs=theorem.needs, reason=reason, predictor="gibbs",
                )
            )  # fmt: skip
            continue
        share = shares.get(theorem.name, declared.delta)
        bound = paying(theorem, setting, share, setting.costs)
        bound = replace(bound, kind=ledger.grade(bound, rows))
        if theorem.name == "held_out" and of_list and bound.kind == "certificate":
            bound = replace(
                bound, kind="estimate", reason="stated for draws with replacement, not for a list"
            )
        found.append(bound)
    gibbs = min((b for b in found if b.name.startswith("pac_bayes") and b.log10 is not None),
                key=lambda b: b.value)  # fmt: skip
    return (*found, majority_vote(gibbs), mean_network())


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
