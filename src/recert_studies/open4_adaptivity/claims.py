"""What the fourth open problem says, each statement with the figures that decide it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recert.numerics.rounding import rounded_down, rounded_up, significant_up
from recert_studies.claims import Claim
from recert_studies.framework import Result
from recert_studies.open4_adaptivity.tasks import BY_CLASS, RANDOM, TASKS, TRUE, K
from recert_studies.statistics import kendall, ranged, verdict

PLACE = "Section 7 (IV)"
NOTICES = 0.7
"""Least rank correlation with the true risk, at every seed, of what notices the tasks."""
SLIGHTLY = 0.3
"""Mean rank correlation up to which something does not notice them at all."""
NOTHING = 0.999
"""From here on an error bound says nothing; kl⁻¹ comes close to 1 without reaching it."""
# Relative differences that rounding makes.
ALIKE = 1e-9


@dataclass(frozen=True, eq=False)
class Series:
    """A bound of one predictor over seeds and tasks.

    Attributes:
        predictor: "free", "capped" or "compressed".
        name: of the bound.
        title: of it, for people.
        kind: "certificate", "estimate", "order", or "norm" for what is no bound.
        values: by seed and task.
        complexities: what is paid besides the empirical risk, likewise; None where there is none.
        risks: true risks, likewise.
    """

    predictor: str
    name: str
    title: str
    kind: str
    values: Sequence[Sequence[float]]
    complexities: Sequence[Sequence[float | None]]
    risks: Sequence[Sequence[float]]

    def taus(self) -> list[float | None]:
        """Kendall's τ_b of value and true risk by seed; certificates are cut at `NOTHING`.

        None where every task has the same value.
        """
        cut = NOTHING if self.kind in ("certificate", "estimate") else np.inf
        return [
            _tau([min(v, cut) for v in values], risks)
            for values, risks in zip(self.values, self.risks, strict=True)
        ]

    def complexity_taus(self, *, nouns: bool = False) -> list[float | None]:
        """The same of the complexity; None where it is constant or there is none.

        With ``nouns`` over the nouns alone, where tasks differ in the share of random labels only.
        """
        chosen = [i for i, task in enumerate(TASKS) if not (nouns and task.rule)]
        found = []
        for costs, risks in zip(self.complexities, self.risks, strict=True):
            known = [c for i in chosen if (c := costs[i]) is not None]
            alike = len(known) < len(chosen)
            found.append(None if alike else _tau(known, [risks[i] for i in chosen]))
        return found

    @property
    def constant(self) -> bool:
        """Whether its complexity is the same for every task at every seed."""
        flat = [c for costs in self.complexities for c in costs]
        known = [c for c in flat if c is not None]
        return len(known) == len(flat) and max(known) <= min(known) * (1.0 + ALIKE)

    @property
    def verdict(self) -> str:
        """What its value does, then what its complexity does, in a few words."""
        value = judged(self.taus())
        if value == "all alike" and self.kind in ("certificate", "estimate"):
            value = "says nothing"
        if any(c is None for costs in self.complexities for c in costs):
            return value
        if self.kind == "norm":
            return value
        cost = "constant" if self.constant else judged(self.complexity_taus())
        return f"{value}; complexity: {cost}"


def judged(taus: Sequence[float | None]) -> str:
    """What rank correlations say: "notices", "in part", "does not", or "all alike"."""
    known = [t for t in taus if t is not None]
    if not known:
        return "all alike"
    if len(known) == len(taus) and min(known) >= NOTICES:
        return "notices"
    return "does not" if np.mean(known) <= SLIGHTLY else "in part"


def _tau(values: Sequence[float], risks: Sequence[float]) -> float | None:
    """Rank correlation where values that differ by rounding only are ties."""
    scale = max(abs(v) for v in values) or 1.0
    return kendall([v / scale for v in values], risks, tie=ALIKE)


def claims(
    every: Sequence[Series], found: Mapping[tuple[int, str], Mapping[str, Result]]
) -> list[Claim]:
    """Verdicts from all series and all results."""
    return [
        _sound(every),
        _vacuous(every),
        _blind(every),
        _complexity_follows(every),
        _memorised(found),
        _none_notices(every),
        _values_notice(every),
    ]


def _certificates(every: Sequence[Series]) -> list[Series]:
    return [s for s in every if s.kind == "certificate"]


def _sound(every: Sequence[Series]) -> Claim:
    """Certificates against true risks that are known exactly."""
    exact = [i for i, task in enumerate(TASKS) if task.exact]
    place = [task.name for task in TASKS].index(RANDOM)
    margins = [
        s.values[k][i] - ((K - 1) / K if i == place else s.risks[k][i])
        for s in _certificates(every)
        for k in range(len(s.values))
        for i in exact
    ]
    least = min((v[place] for s in _certificates(every) for v in s.values), default=np.nan)
    below = sum(m < 0 for m in margins)
    return Claim(
        PLACE, "the analysis holds even when features and labels are independent",
        "held" if not below else "not held",
        f"of {len(margins)} certificates for tasks whose true risk is known exactly {below} are "
        f"below it; the least on random labels is {rounded_up(least, 4)}, the true risk at "
        f"least {rounded_down((K - 1) / K, 4)}",
    )  # fmt: skip


def _vacuous(every: Sequence[Series]) -> Claim:
    """Memorised units: what certificates without held-out units say of true labels."""
    free = [s for s in _certificates(every) if s.predictor == "free" and s.name != "held_out"]
    places = [i for i, task in enumerate(TASKS) if task.name in (TRUE, "last letter")]
    held = [s.values[k][i] >= NOTHING for s in free for k in range(len(s.values)) for i in places]
    return Claim(
        PLACE, "this often yields very pessimistic results", verdict(held),
        f"{sum(held)} of {len(held)} certificates of free networks on true labels and on the "
        "easiest language are at least 0.999, held-out limits apart; their true risks there are "
        f"{_alike(s.risks[k][i] for s in free[:1] for k in range(len(s.risks)) for i in places)}",
    )  # fmt: skip


def _blind(every: Sequence[Series]) -> Claim:
    known = [s for s in every if s.predictor == "capped" and s.name in BY_CLASS]
    held = [s.constant for s in known]
    return Claim(
        PLACE, "what depends on declared caps and a declared γ alone cannot notice a task",
        verdict(held),
        f"{sum(held)} of {len(held)} such complexities are the same for all {len(TASKS)} tasks at "
        f"every seed, up to {ALIKE:g}: "
        + "; ".join(
            f"{s.title} {significant_up(_least(s), 4)}"
            for s in known
        ),
    )  # fmt: skip


def _least(s: Series) -> float:
    return min(c for v in s.complexities for c in v if c is not None)


def _complexity_follows(every: Sequence[Series]) -> Claim:
    """Norms, and complexities that know the network, of free networks."""
    wanted = ("‖U‖", "‖W‖", "‖V‖", "printed_theorem_2", "margin_ball", "local_ball")
    found = [s for s in every if s.predictor == "free" and s.name in wanted]
    held = [judged(s.complexity_taus()) == "notices" for s in found]
    return Claim(
        PLACE, "easier tasks lead to low complexity networks, harder ones to highly complex ones",
        verdict(held),
        "τ of complexity and true risk over the tasks, free networks: "
        + "; ".join(f"{s.title} {_alike(s.complexity_taus())}" for s in found)
        + "; over the nouns alone: "
        + "; ".join(f"{s.title} {_alike(s.complexity_taus(nouns=True))}" for s in found)
        + f"; 'held' is at least {NOTICES} at every seed in all of them",
    )  # fmt: skip


def _memorised(found: Mapping[tuple[int, str], Mapping[str, Result]]) -> Claim:
    errors = {name: r["free"]["training error"] for name, r in found.items()}
    held = [error <= 0.01 for error in errors.values()]
    random = [r["free"]["true risk"] for (_, task), r in found.items() if task == RANDOM]
    return Claim(
        "Zhang et al. 2016", "the same network can fit true and random labels alike",
        verdict(held),
        f"{sum(held)} of {len(held)} free networks have training errors of at most 0.01 (all: "
        f"{_alike(errors.values())}); true risk on random labels {_alike(random)}",
    )  # fmt: skip


def _none_notices(every: Sequence[Series]) -> Claim:
    printed = [s for s in every if s.predictor == "free" and s.kind == "order"]
    blind = [judged(s.taus()) != "notices" for s in printed]
    return Claim(
        PLACE, "none of the existing analysis can take the underlying distribution into account",
        verdict(blind),
        f"{sum(blind)} of {len(blind)} printed formulas do not rank the tasks as the true risk "
        "does, at training error near zero and γ from the margins: τ "
        + "; ".join(f"{s.title} {_alike(s.taus())}" for s in printed),
    )  # fmt: skip


def _values_notice(every: Sequence[Series]) -> Claim:
    known = [s for s in _certificates(every) if s.predictor != "free"]
    held = [judged(s.taus()) == "notices" for s in known]
    return Claim(
        PLACE, "certificates that count training errors notice a task that cannot be memorised",
        verdict(held),
        f"{sum(held)} of {len(held)} certificates of capped and compressed networks rank the tasks "
        "as the true risk does: τ "
        + "; ".join(f"{s.title} {_alike(s.taus())}" for s in known),
    )  # fmt: skip


def _alike(values: Iterable[float | None]) -> str:
    return ranged(values, ".2f", none="all alike")
