"""What posteriors add to the fourth open problem: their series, their table, their verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recert.numerals import rounded_down, rounded_up
from recert.reproduce.adaptivity_claims import NOTHING, NOTICES, PLACE, Series, judged
from recert.reproduce.adaptivity_posteriors import KINDS
from recert.reproduce.adaptivity_tasks import RANDOM, TASKS, TRUE
from recert.reproduce.study import Claim, Result
from recert.reproduce.trends import limit_and_spread, mean_and_spread
from recert.reproduce.words import at_least, limits, ranged, verdict

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
