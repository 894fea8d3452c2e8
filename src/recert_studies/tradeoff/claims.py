"""Answers of ``recert reproduce tradeoff``, each decided by the run's own figures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

from recert.numerics.rounding import rounded_up
from recert_studies.claims import Claim
from recert_studies.statistics import limits, ranged, verdict
from recert_studies.tradeoff.training import CAPS, CONSTRAINTS, ORTHOGONAL

Keyed = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
Measure = Callable[[Mapping[str, Any]], float]
NOUNS, RECALL = "german-nouns", "recall"
# Errors that differ by less are called alike.
ALIKE = 0.01


def claims(found: Keyed) -> list[Claim]:
    """Every answer, in the order of the paper's paragraph."""
    return [
        *(_limited(found, task) for task in (RECALL, NOUNS)),
        *(_worse(found, task, what, of) for task in (NOUNS, RECALL) for what, of in _WORSE),
        *(_balanced(found, task) for task in (NOUNS, RECALL)),
        _orthogonal(found),
    ]


def cap_name(cap: float) -> str:
    """The constraint of a cap, as rows call it."""
    return f"‖U‖ ≤ {cap:g}"


def ball(result: Mapping[str, Any]) -> float:
    """The margin ball's certified error."""
    return float(result["bounds"]["margin_ball"]["value"])


def gap(result: Mapping[str, Any]) -> float:
    """Error held back less training error."""
    return float(result["held-back error"] - result["error"])


def test_error(result: Mapping[str, Any]) -> float:
    """Error held back."""
    return float(result["held-back error"])


def best(found: Keyed, task: str) -> str:
    """A sentence on where the margin ball is smallest in the mean over seeds, and the error."""
    names = [constraint.name for constraint in CONSTRAINTS]
    certified = min(names, key=lambda name: mean(map(ball, found[task, name])))
    error = min(names, key=lambda name: mean(map(test_error, found[task, name])))
    return (
        f"{task}: smallest margin ball "
        f"{rounded_up(mean(map(ball, found[task, certified])), 4)} at {certified}, "
        f"smallest error held back {mean(map(test_error, found[task, error])):.4f} "
        f"at {error}."
    )


def _by_cap(found: Keyed, task: str, of: Measure, form: str = ".3f") -> str:
    text = limits if of is ball else functools.partial(ranged, form=form)
    return ", ".join(f"{cap:g}: {text(map(of, found[task, cap_name(cap)]))}" for cap in CAPS)


def _limited(found: Keyed, task: str) -> Claim:
    """Held at a seed if ‖U‖ ≤ 1/2 and ≤ 0.8 err more than the best wider cap."""
    wide = [found[task, cap_name(cap)] for cap in CAPS if cap > 1]
    held = [
        test_error(r) > min(test_error(seeds[i]) for seeds in wide) + ALIKE
        for cap in (0.5, 0.8)
        for i, r in enumerate(found[task, cap_name(cap)])
    ]
    at_one = [
        test_error(r) - min(test_error(seeds[i]) for seeds in wide)
        for i, r in enumerate(found[task, cap_name(1.0)])
    ]
    return Claim(
        "Section 2", f"β < 1: the hidden state has limited representation ability, {task}",
        verdict(held),
        f"error held back by cap: {_by_cap(found, task, test_error)}; ‖U‖ ≤ 1 costs "
        f"{ranged(at_one)} against the best wider cap",
    )  # fmt: skip


_WORSE: tuple[tuple[str, Measure], ...] = (("the gap", gap), ("the certificate", ball))


def _worse(found: Keyed, task: str, what: str, of: Measure) -> Claim:
    at_one, at_three = (found[task, cap_name(cap)] for cap in (1.0, 3.0))
    held = [of(b) > of(a) + ALIKE for a, b in zip(at_one, at_three, strict=True)]
    return Claim(
        "Section 2", f"β > 1: generalization becomes worse ({what}), {task}",
        verdict(held),
        f"larger at ‖U‖ ≤ 3 than at ≤ 1, by more than {ALIKE}, at {sum(held)} of {len(held)} "
        f"seeds; by cap: {_by_cap(found, task, of, '.4f' if what == 'the gap' else '.3f')}",
    )  # fmt: skip


def _balanced(found: Keyed, task: str) -> Claim:
    """Held at a seed if the best certificate of all has ‖U‖ ≤ 1 or UᵀU = I."""
    names = [constraint.name for constraint in CONSTRAINTS]
    balanced = {cap_name(1.0), ORTHOGONAL}
    seeds = range(len(found[task, names[0]]))
    winners = [
        min(names, key=lambda name, i=i: ball(found[task, name][i]))  # type: ignore[misc]
        for i in seeds
    ]
    figures = ", ".join(f"{name} {limits(map(ball, found[task, name]))}" for name in names)
    return Claim(
        "Section 2", f"UᵀU = I or ‖U‖ ≤ 1 helps balance the two, {task}",
        verdict(name in balanced for name in winners),
        f"best margin ball by seed: {', '.join(winners)}; certified errors {figures}",
    )  # fmt: skip


def _orthogonal(found: Keyed) -> Claim:
    """Held at a seed and task if an orthogonal U errs less than ‖U‖ ≤ 1."""
    held, figures = [], []
    for task in (NOUNS, RECALL):
        pairs = list(zip(found[task, ORTHOGONAL], found[task, cap_name(1.0)], strict=True))
        held += [test_error(a) < test_error(b) for a, b in pairs]
        figures.append(
            f"{task}: error held back {ranged(test_error(a) for a, _ in pairs)} against "
            f"{ranged(test_error(b) for _, b in pairs)}, certified "
            f"{limits(ball(a) for a, _ in pairs)} against {limits(ball(b) for _, b in pairs)}"
        )
    return Claim(
        "Section 1", "orthogonal constraints help, against ‖U‖ ≤ 1 alone", verdict(held),
        "; ".join(figures),
    )  # fmt: skip
