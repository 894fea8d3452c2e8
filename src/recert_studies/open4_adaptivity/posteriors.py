"""Posteriors of a task: what PAC-Bayes says where the first part of a sample makes the prior.

Two posteriors have one prior's centre, and draw fresh weights for every sequence:

*careful*: descends on its bound, at the temperature that the prior's units tell;
*memorising*: may pay `price` nats to be right on one more unit, which makes it learn labels by
heart whatever they are. That price is a temperature fixed beforehand, and costs nothing itself.

Beside them stands what the same units say of the centre alone where they count as held out.

What posteriors add to the fourth open problem: their series, their table, their verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from recert.data import SequenceData
from recert.errors import InputError
from recert.networks.network import Network
from recert.numerics.concentration import binomial_upper_limit, kl
from recert.numerics.rounding import rounded_down, rounded_up
from recert.pac_bayes import certify_posterior, fixed_losses, gibbs_losses
from recert.pac_bayes.posterior import Posterior
from recert_studies.claims import Claim
from recert_studies.framework import Result
from recert_studies.open4_adaptivity.claims import NOTHING, NOTICES, PLACE, Series, judged
from recert_studies.open4_adaptivity.tasks import ENCODING, RANDOM, TASKS, TRUE, Material
from recert_studies.statistics import (
    at_least,
    limit_and_spread,
    limits,
    mean_and_spread,
    ranged,
    verdict,
)

if TYPE_CHECKING:
    from recert.training.recipes import PosteriorRecipe

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
    from recert.training.recipes import PosteriorRecipe, Recipe, RecipeCandidate

    one = RecipeCandidate(
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


MEMORISED = 0.1
"""Largest error of drawn networks on the bound's units that counts as labels learnt by heart."""
LARGER = 1.5
"""How many times as many nats random labels must cost as true ones to be told from them."""
TITLE = "PAC-Bayes, prior from the first part"
OF_CENTRE = "prior's centre, held-out units (Clopper–Pearson)"


@dataclass(frozen=True, eq=False)
class Posteriors:
    """Results of posteriors by number of units, seed and task."""

    found: Mapping[tuple[int, int, str], Result]

    @property
    def sizes(self) -> list[int]:
        """Numbers of units, prior's and bound's together."""
        return list(dict.fromkeys(m for m, _, _ in self.found))

    @property
    def seeds(self) -> list[int]:
        """Seeds, in the order in which they were asked for."""
        return list(dict.fromkeys(seed for _, seed, _ in self.found))

    def table(self, m: int, of: str, what: str) -> list[list[float]]:
        """A number by seed and task.

        Args:
            m: units.
            of: "centre", "careful" or "memorising".
            what: the number's name in the result.
        """
        return [[self.found[m, seed, task.name][of][what] for task in TASKS] for seed in self.seeds]

    def nats_apart(self, m: int) -> list[float]:
        """Nats that random labels cost a memorising posterior over those of true ones, by seed."""
        true, random = (self.of_task(m, task, "nats") for task in (TRUE, RANDOM))
        return [b / a for a, b in zip(true, random, strict=True)]

    def memorised(self, m: int) -> list[float]:
        """The larger error of true and random labels, memorised, by seed."""
        true, random = (self.of_task(m, task, "error") for task in (TRUE, RANDOM))
        return [max(pair) for pair in zip(true, random, strict=True)]

    def of_task(self, m: int, task: str, what: str) -> list[float]:
        """A number of the memorising posterior of one task, by seed."""
        return [self.found[m, seed, task]["memorising"][what] for seed in self.seeds]


def series(runs: Posteriors) -> list[Series]:
    """Both posteriors, and the limit for the prior's centre, at every number of units."""
    made = []
    for m in runs.sizes:
        for kind in KINDS:
            grades = {r[kind]["kind"] for (size, _, _), r in runs.found.items() if size == m}
            made.append(
                Series(
                    f"{kind}, {m:,} units", f"posterior_{kind}", TITLE,
                    "certificate" if grades == {"certificate"} else "estimate",
                    runs.table(m, kind, "value"), runs.table(m, kind, "nats"),
                    runs.table(m, kind, "true risk"),
                )
            )  # fmt: skip
        limits = runs.table(m, "centre", "limit")
        made.append(
            Series(
                f"centre, {m:,} units", "held_out_centre", OF_CENTRE, "certificate",
                limits, [[None] * len(row) for row in limits], runs.table(m, "centre", "true risk"),
            )
        )  # fmt: skip
    return made


def rows(runs: Posteriors) -> list[dict[str, Any]]:
    """A posterior of a task at a number of units: means and spreads over seeds."""
    made = []
    for m in runs.sizes:
        for task in TASKS:
            there = [runs.found[m, seed, task.name] for seed in runs.seeds]
            row: dict[str, Any] = {"units": m, "task": task.name}
            for kind in KINDS:
                for what in ("error", "true risk", "least nats"):
                    row[f"{kind}: {what}"] = mean_and_spread([r[kind][what] for r in there])
                for what in ("nats", "value"):
                    row[f"{kind}: {what}"] = limit_and_spread([r[kind][what] for r in there])
            for what in ("error", "true risk"):
                row[f"centre: {what}"] = mean_and_spread([r["centre"][what] for r in there])
            row["centre: limit"] = limit_and_spread([r["centre"]["limit"] for r in there])
            made.append(row)
    return made


def claims(runs: Posteriors) -> list[Claim]:
    """Verdicts from all posteriors."""
    every = series(runs)
    return [
        _sound(every),
        _complexity_follows(every),
        _told_apart(runs),
        _values_notice(every),
        _something(runs),
        _more_than_held_out(runs),
    ]


def distances(every: Sequence[Series]) -> list[float]:
    """Limit − true risk, of every certificate at every seed and task."""
    return [
        value - risk
        for s in every
        if s.kind == "certificate"
        for values, risks in zip(s.values, s.risks, strict=True)
        for value, risk in zip(values, risks, strict=True)
    ]


def _sound(every: Sequence[Series]) -> Claim:
    margins = distances(every)
    below = sum(margin < 0 for margin in margins)
    return Claim(
        PLACE, "limits of posteriors and of their priors' centres are above the true risk",
        verdict([bool(margins) and not below]),
        f"{below} of {len(margins)} are below it; the least distance is "
        f"{rounded_down(min(margins, default=float('nan')), 4)}; true risks are means over drawn "
        "networks, of languages over all sentences, of nouns over nouns that nothing else sees",
    )  # fmt: skip


def _complexity_follows(every: Sequence[Series]) -> Claim:
    known = [s for s in every if s.name == "posterior_memorising"]
    return Claim(
        PLACE,
        "with a prior from the sample's first part easier tasks lead to low complexity, harder "
        "ones to high complexity",
        verdict([judged(s.complexity_taus()) == "notices" for s in known]),
        "τ of nats and true risk over the tasks, "
        + _taus(known, lambda s: s.complexity_taus())
        + "; over the nouns alone, "
        + _taus(known, lambda s: s.complexity_taus(nouns=True))
        + f"; 'held' is at least {NOTICES} at every seed and number of units",
    )


def _told_apart(runs: Posteriors) -> Claim:
    held = [
        error <= MEMORISED and apart >= LARGER
        for m in runs.sizes
        for error, apart in zip(runs.memorised(m), runs.nats_apart(m), strict=True)
    ]
    return Claim(
        PLACE,
        "a complexity can be small for memorised true labels and large for memorised random ones",
        verdict(held),
        f"{sum(held)} of {len(held)} memorising posteriors pay at least {LARGER} times as much for "
        f"random labels with errors of at most {MEMORISED} on the bound's units: "
        + "; ".join(
            f"{m:,} units {ranged(runs.nats_apart(m))} times, errors up to "
            f"{rounded_up(max(runs.memorised(m)), 3)}, nats a unit on true labels "
            f"{limits(runs.of_task(m, TRUE, 'nats'), 2)}, at least "
            f"{at_least(runs.of_task(m, TRUE, 'least nats'), 2)} for any"
            for m in runs.sizes
        ),
    )


def _values_notice(every: Sequence[Series]) -> Claim:
    known = [s for s in every if s.name != "held_out_centre"]
    return Claim(
        PLACE, "limits of posteriors notice the task",
        verdict([judged(s.taus()) == "notices" for s in known]),
        "τ of limit and true risk, " + _taus(known, lambda s: s.taus()),
    )  # fmt: skip


def _something(runs: Posteriors) -> Claim:
    places = [task.name for task in TASKS].index(TRUE)
    true = {
        f"{kind}, {m:,} units": [row[places] for row in runs.table(m, kind, "value")]
        for m in runs.sizes
        for kind in KINDS
    }
    return Claim(
        PLACE, "posteriors say something of true labels at these numbers of units",
        verdict([value < NOTHING for values in true.values() for value in values]),
        f"limits on true labels, below {NOTHING} where they say something: "
        + "; ".join(f"{name} {limits(values)}" for name, values in true.items()),
    )  # fmt: skip


def _more_than_held_out(runs: Posteriors) -> Claim:
    held, figures = [], []
    for m in runs.sizes:
        limits = runs.table(m, "centre", "limit")
        for kind in KINDS:
            over = [
                a - b
                for row, other in zip(runs.table(m, kind, "value"), limits, strict=True)
                for a, b in zip(row, other, strict=True)
            ]
            held += [gap < 0 for gap in over]
            figures.append(f"{kind}, {m:,} units {ranged(over)}")
    return Claim(
        PLACE, "a posterior says more than its units say, held out, of the prior's centre",
        verdict(held),
        f"{sum(held)} of {len(held)} limits are below the held-out one; distances: "
        + "; ".join(figures),
    )  # fmt: skip


def _taus(every: Sequence[Series], of: Callable[[Series], Sequence[float | None]]) -> str:
    return "; ".join(f"{s.predictor} {ranged(of(s), '.2f', none='all alike')}" for s in every)
