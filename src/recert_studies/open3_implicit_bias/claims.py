"""What the third open problem asks of SGD, each question with the runs that decide it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from recert_studies.claims import Claim
from recert_studies.open3_implicit_bias.figure import LEVELS as ERRORS
from recert_studies.statistics import TRENDS, kendall, ranged, verdict

PLACE = "Section 7 (III)"
SGD = ("sgd", "momentum")
HARD = ("cap", "orthogonal")
# Shares of pairs from which, and up to which, one side counts as the smaller.
MOST, FEW = 0.9, 0.1
LEVELS = tuple(f"{error:g}" for error in ERRORS)
"""Training errors at which SGD and Adam are compared besides the one that was asked for."""


@dataclass(frozen=True)
class BiasRun:
    """One training: setting, seed, and what became of it.

    Attributes:
        cell: "vanilla" or "gru".
        optimiser: as `recert.training.sgd` calls it.
        step_size: constant.
        constraint: likewise.
        seed: of weights, batches and sample.
        step_there: first look at the wanted training error; None where it is not reached.
        norm_there: ‖U‖ at that look.
        held_there: error on other nouns at that look.
        error: training error at the end.
        norm: ‖U‖ at the end.
        trend: of ‖U‖ over the last decade of steps.
        diverged: why training broke off, or "".
        norms_at: ‖U‖ where the training error comes down to each of `LEVELS`.
    """

    cell: str
    optimiser: str
    step_size: float
    constraint: str
    seed: int
    step_there: int | None
    norm_there: float | None
    held_there: float | None
    error: float
    norm: float
    trend: str
    diverged: str
    norms_at: Mapping[str, float | None] = field(default_factory=dict)


def claims(runs: Sequence[BiasRun]) -> list[Claim]:
    """Verdicts on free vanilla networks; those with constraints have a claim of their own."""
    free = [r for r in runs if r.cell == "vanilla" and r.constraint == "none"]
    return [
        _always_controlled(free),
        _orderly(free),
        _below_adam(free),
        _step_sizes(free),
        _hurts(runs),
        _constraints(runs),
        _gated([r for r in runs if r.cell == "gru"]),
    ]


def _always_controlled(free: Sequence[BiasRun]) -> Claim:
    """‖U‖ ≤ 1 is where the paper's β stops its bounds from growing with t."""
    by_sgd = [r for r in free if r.optimiser in SGD]
    there = [r for r in by_sgd if r.norm_there is not None]
    held = [r.norm_there is not None and r.norm_there <= 1.0 for r in there]
    return Claim(
        PLACE, "can SGD always yield well controlled spectra? In the sense of ‖U‖ ≤ 1",
        verdict(held),
        f"{sum(held)} of {len(held)} runs by SGD with and without momentum have ‖U‖ ≤ 1 at the "
        f"training error at which runs are compared; ‖U‖ = {_three(r.norm_there for r in there)}",
    )  # fmt: skip


def _orderly(free: Sequence[BiasRun]) -> Claim:
    by_sgd = [r for r in free if r.optimiser in SGD]
    held = [r.trend != "jump" and not r.diverged for r in by_sgd]
    parts = []
    for kind in TRENDS:
        found = [r for r in by_sgd if r.trend == kind]
        if found:
            parts.append(f"{kind} {len(found)} (‖U‖ ends at {_three(r.norm for r in found)})")
    return Claim(
        PLACE, "… in the sense that ‖U‖ grows without jumps at every step size", verdict(held),
        f"over the last decade of steps, {len(by_sgd)} runs: {'; '.join(parts)}",
    )  # fmt: skip


def _below_adam(free: Sequence[BiasRun]) -> Claim:
    pairs = [
        (a.norm_there, b.norm_there)
        for a in free
        for b in free
        if a.optimiser in SGD and b.optimiser == "adam" and a.seed == b.seed
        and a.norm_there is not None and b.norm_there is not None
    ]  # fmt: skip
    wins = sum(a < b for a, b in pairs)
    levels = ", ".join(_wins_at(free, level) for level in LEVELS)
    means = "; ".join(
        f"{name} {_three(r.norm_there for r in free if r.optimiser == name)}"
        for name in (*SGD, "adam")
    )
    return Claim(
        PLACE, "SGD tends to yield low complexity models: ‖U‖ below Adam's at equal training error",
        _share(wins, len(pairs)),
        f"‖U‖ by SGD is the smaller in {wins} of {len(pairs)} pairs of the same seed; {means}; "
        f"at other training errors: {levels}",
    )  # fmt: skip


def _wins_at(free: Sequence[BiasRun], level: str) -> str:
    """Such as "16 of 54 at 0.1"."""
    pairs = [
        (x, y)
        for a in free
        for b in free
        if a.optimiser in SGD and b.optimiser == "adam" and a.seed == b.seed
        and (x := a.norms_at.get(level)) is not None
        and (y := b.norms_at.get(level)) is not None
    ]  # fmt: skip
    return f"{sum(x < y for x, y in pairs)} of {len(pairs)} at {level}"


def _step_sizes(free: Sequence[BiasRun]) -> Claim:
    """Whether a larger step finds a flatter, smaller solution, as is often said."""
    pairs = [
        (a.norm_there, b.norm_there)
        for a in free
        for b in free
        if a.optimiser == b.optimiser and a.seed == b.seed and a.step_size < b.step_size
        and a.norm_there is not None and b.norm_there is not None
    ]  # fmt: skip
    wins = sum(large < small for small, large in pairs)
    return Claim(
        PLACE, "… and a larger step size gives a smaller ‖U‖ at equal training error",
        _share(wins, len(pairs)),
        f"of two step sizes of one optimiser the larger has the smaller ‖U‖ in {wins} of "
        f"{len(pairs)} pairs",
    )  # fmt: skip


def _hurts(runs: Sequence[BiasRun]) -> Claim:
    """Rank correlation of ‖U‖ with the held-out error of free runs; capped runs against free ones.

    "Held" takes both, "held in part" one of them.
    """
    free = [r for r in runs if r.cell == "vanilla" and r.constraint == "none"]
    found = []
    for seed in sorted({r.seed for r in free}):
        there = [r for r in free if r.seed == seed and r.norm_there is not None]
        tau = kendall([r.norm_there or 0.0 for r in there], [r.held_there or 0.0 for r in there])
        if len(there) > 2 and tau is not None:
            found.append(tau)
    pairs = [
        (a.held_there, b.held_there)
        for a in runs
        for b in free
        if a.cell == "vanilla" and a.constraint in HARD and a.seed == b.seed
        and (a.optimiser, a.step_size) == (b.optimiser, b.step_size)
        and a.held_there is not None and b.held_there is not None
    ]  # fmt: skip
    wins = sum(capped < plain for capped, plain in pairs)
    taus = ", ".join(f"{tau:.2f}" for tau in found) or "too few runs"
    held = [bool(found) and min(found, default=0.0) >= 0.5, 0 < MOST * len(pairs) <= wins]
    return Claim(
        PLACE, "spectra that are not well controlled may hurt generalization", verdict(held),
        f"at equal training error the error on other nouns is smaller with ‖U‖ capped or U "
        f"orthogonal in {wins} of {len(pairs)} pairs ({_three(a for a, _ in pairs)} against "
        f"{_three(b for _, b in pairs)}); among free runs Kendall's τ between ‖U‖ and that error "
        f"is, by seed, {taus} (0.5 would be wanted)",
    )  # fmt: skip


def _constraints(runs: Sequence[BiasRun]) -> Claim:
    """Whether caps and orthogonality cost the training error."""
    hard = [r for r in runs if r.cell == "vanilla" and r.constraint in HARD]
    held = [r.norm_there is not None for r in hard]
    alike = [
        r for r in runs if r.cell == "vanilla" and r.constraint == "none"
        and (r.optimiser, r.step_size) in {(h.optimiser, h.step_size) for h in hard}
    ]  # fmt: skip
    decay = [r for r in runs if r.constraint == "decay"]
    return Claim(
        "Sections 1 and 7", "constraints control the spectrum, and training reaches the same error",
        verdict(held),
        f"with ‖U‖ capped or U orthogonal {sum(held)} of {len(held)} runs reach it (errors at the "
        f"end {_three(r.error for r in hard)}), free ones at the same step sizes "
        f"{sum(r.norm_there is not None for r in alike)} of {len(alike)} "
        f"({_three(r.error for r in alike)}); with weight decay ‖U‖ ends at "
        f"{_three(r.norm for r in decay)} against {_three(r.norm for r in alike)} without",
    )  # fmt: skip


def _gated(gated: Sequence[BiasRun]) -> Claim:
    held = [r.norm <= 1.0 for r in gated]
    return Claim(
        PLACE, "… which is crucial to gated networks: the GRU's blocks U stay at norm 1 or below",
        verdict(held),
        f"{sum(held)} of {len(held)} runs; the largest of the three ends at "
        f"{_three(r.norm for r in gated)}",
    )  # fmt: skip


def _share(wins: int, pairs: int) -> str:
    """The verdict on "smaller" from how many pairs say so."""
    if not pairs or wins <= FEW * pairs:
        return "not held"
    return "held" if wins >= MOST * pairs else "held in part"


def _three(values: Iterable[float | None]) -> str:
    return ranged(values, ".3g")
