"""Posteriors of a task: what PAC-Bayes says where the first part of a sample makes the prior.

Two posteriors have one prior's centre, and draw fresh weights for every sequence:

*careful*: descends on its bound, at the temperature that the prior's units tell;
*memorising*: may pay `price` nats to be right on one more unit, which makes it learn labels by
heart whatever they are. That price is a temperature fixed beforehand, and costs nothing itself.

Beside them stands what the same units say of the centre alone where they count as held out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from recert.concentration import binomial_upper_limit, kl
from recert.data import SequenceData
from recert.errors import InputError
from recert.gibbs import certify_posterior, fixed_losses, gibbs_losses
from recert.network import Network
from recert.posterior import Posterior
from recert.reproduce.adaptivity_bounds import ENCODING
from recert.reproduce.adaptivity_tasks import Material
from recert.reproduce.study import Result

if TYPE_CHECKING:
    from recert.training.posterior_recipe import PosteriorRecipe

KINDS = ("careful", "memorising")
TRIED = 32
"""Settings of a posterior that were tried on nouns before this one was taken; they are paid for."""
# Of units that draws decide otherwise than their mean, by kind: how wide the prior is. What is to
# be learnt by heart needs a wide one, from which weights have not far to go.
DISAGREEMENT = {"careful": 0.003, "memorising": 0.3}
STATEMENTS = ("pac_bayes_temperature", "pac_bayes_kl")
LEAST = 8  # units that the prior needs, and the bound
LARGEST_PRICE = 1000.0


@dataclass(frozen=True)
class Division:
    """How many of m units make the prior, and how many are left to the bound."""

    prior: int
    bound: int


def division(m: int, share: float) -> Division:
    """The first ⌈share·m⌉ units and the others.

    Raises:
        InputError: one of the two parts has fewer than eight.
    """
    first = math.ceil(share * m)
    if min(first, m - first) < LEAST:
        raise InputError(
            f"a share of {share:g} leaves {first} of {m:,} units to the prior and {m - first} to "
            f"the bound; either needs {LEAST}"
        )
    return Division(first, m - first)


def check(options: Mapping[str, Any], sizes: list[int]) -> None:
    """InputError where no posterior can be trained with these options on so many units."""
    for m in sizes:
        division(m, options["share"])
    if options["price"] > LARGEST_PRICE:
        raise InputError(f"price is {options['price']:g}; use at most {LARGEST_PRICE:g} nats")


def posteriors(
    material: Material, m: int, options: Mapping[str, Any], seed: int, bar: Progress | bool = False
) -> Result:
    """Train and certify both posteriors on the first m units.

    Args:
        material: the task.
        m: units, prior's and bound's together.
        options: ``share``, ``price``, ``cell``, ``hidden``, ``passes``, ``steps`` and ``delta``.
        seed: of training and draws.
        bar: where progress is drawn.

    Returns:
        ``units`` of the bound, ``centre`` (of the prior: errors, true risk, held-out limit), and by
        kind what `_certified` says.

    Raises:
        InputError: there are too few units.
    """
    from recert.training.posterior import train_posterior

    parts = division(m, options["share"])
    sample = replace(material.sample.take(slice(0, m)), encoding=ENCODING)
    found: Result = {"units": parts.bound}
    for kind in KINDS:
        posterior = train_posterior(
            sample, recipe(kind, parts, options), seed=seed, delta=options["delta"], tried=TRIED,
            progress=bar,
        ).posterior  # fmt: skip
        if "centre" not in found:
            centre = posterior.prior.centre
            found["centre"] = _centre(centre, sample, parts, material, options["delta"])
        found[kind] = _certified(posterior, sample, material, seed, options["delta"])
    return found


def recipe(kind: str, parts: Division, options: Mapping[str, Any]) -> PosteriorRecipe:
    """How a posterior of this kind is trained, with one candidate."""
    from recert.training.posterior_recipe import Candidate, PosteriorRecipe
    from recert.training.recipes import Recipe

    one = Candidate(
        cell=options["cell"], d_h=options["hidden"], bidirectional=False, learning_rate=0.02,
        epochs=options["passes"], batch=max(1, min(100, parts.prior // 4)),
    )  # fmt: skip
    batch = min(250, parts.bound // 2)
    steps = options["steps"] if kind == "memorising" else options["steps"] // 8
    found = PosteriorRecipe(
        prior=Recipe(bias=False), candidates=(one,), share=options["share"], batch=batch,
        epochs=max(1, steps // (parts.bound // batch)), disagreement=DISAGREEMENT[kind],
    )  # fmt: skip
    if kind == "careful":
        return found
    # A wide step, so that units that are far from right still pull.
    return replace(found, temperature=options["price"], rate=0.1, width=1.0)


def held_limit(errors: int, units: int, delta: float) -> float:
    """Clopper and Pearson's limit where the choices that posteriors pay for are paid alike."""
    return binomial_upper_limit(errors, units, delta / (TRIED * ENCODING))


def least_nats(error: float, risk: float) -> float:
    """kl(R̂, R): nats a unit below which no prior and posterior can be, up to the confidence.

    The bound itself says so: with probability 1 − δ, KL/m' ≥ kl(R̂, R) − ln(2√m'/δ)/m'.

    Args:
        error: R̂(Q), on the units of the bound.
        risk: R(Q).

    Returns:
        It; 0 where the error is no smaller than the risk.
    """
    return float(kl(error, risk)) if error < risk else 0.0


def gibbs_risk(posterior: Posterior, material: Material, seed: int) -> float:
    """The mean true risk of networks that are drawn, a fresh one for every sentence of the task.

    Draws are others than those of the certificate. By whatever labels one sentence is judged, it is
    the same network's answer, so that uniform labels give (K − 1)/K exactly, but for ties.
    """
    from recert.training.prior import part_of

    def error(data: SequenceData) -> float:
        drawn = gibbs_losses(
            posterior, part_of(data).batch, "last", repetitions=1, seed=seed, stream="holdout"
        )
        return float(drawn.mean())

    return material.risk(error)


def _centre(
    centre: Network, sample: SequenceData, parts: Division, material: Material, delta: float
) -> Result:
    """The network that the first part trained, with the other units held out from it."""
    from recert.training.prior import part_of

    own, rest = (fixed_losses(centre, part_of(part), "last") for part in sample.split(parts.prior))
    return {
        "own error": float(own.mean()),
        "error": float(rest.mean()),
        "true risk": material.true_risk(centre),
        "limit": held_limit(round(float(rest.sum())), parts.bound, delta),
    }


def _certified(
    posterior: Posterior, sample: SequenceData, material: Material, seed: int, delta: float
) -> Result:
    """Errors, nats and limit of a posterior; the limit is the better one of its two statements."""
    certificate = certify_posterior(
        posterior, sample.sequences, sample.labels, lengths=sample.lengths, delta=delta,
        max_length=sample.max_length, seed=seed, tried=TRIED, encoding=ENCODING,
        draws=f"{sample.unit}s are drawn from the task's distribution",
    )  # fmt: skip
    best = min((certificate[name] for name in STATEMENTS), key=lambda bound: bound.value)
    error = float(certificate.sample["training_error"])
    risk = gibbs_risk(posterior, material, seed)
    return {
        "error": error,
        "true risk": risk,
        "KL": posterior.divergence,
        "nats": posterior.divergence / best.terms["units"],
        "least nats": least_nats(error, risk),
        "temperature": posterior.prior.temperature,
        "s_0": posterior.prior.s_0,
        "statement": best.name,
        "kind": best.kind,
        "value": min(1.0, float(best.value)),
    }
