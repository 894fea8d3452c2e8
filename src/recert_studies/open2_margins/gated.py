"""What gated cells answer in ``recert reproduce open-2``, beside vanilla ones of their weights.

Their margin ball comes close to 1, so it is compared by L = −ln(1 − its value), which rises with it
and does not saturate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from recert.numerics.concentration import kl
from recert_studies.claims import Claim
from recert_studies.framework import Result
from recert_studies.open2_margins import answers as open2_answers
from recert_studies.open2_margins.answers import (
    Pick,
    column,
    follows,
    normalised,
    plus_minus,
    readable,
)
from recert_studies.open2_margins.runs import GATED_CELLS, Found, MarginRun, weights
from recert_studies.open2_margins.watch import balanced_share
from recert_studies.statistics import ranged

MISSING = column("ball shortfall")
FOLLOWS: Mapping[str, tuple[Pick, Pick]] = {
    "L and test error": (MISSING, column("test error")),
    "Theorem 2 clipped and test error": open2_answers.FOLLOWS["Theorem 2 clipped and test error"],
    "training and test error": open2_answers.FOLLOWS["training and test error"],
    "L and gap": (MISSING, open2_answers.gap),
    "median/√2 N_y and test error": open2_answers.FOLLOWS["median/√2 N_y and test error"],
}

Group = tuple[str, int]
"""A network in words and its number of units."""


def completed(row: Result) -> Result:
    """A row of the tracker's ball with the columns of `open2_ball.best` that follow from it.

    The nats a unit are kl(q, p) of its hard risk q and value p. None where p is 1 in a double.
    """
    ball = 10.0 ** row["log10 margin_ball"]
    known = ball < 1.0
    return {
        **row,
        "ball gamma": row["gamma"] if known else None,
        "ball risk": row["hard risk"] if known else None,
        "ball nats": float(kl(row["hard risk"], ball)) if known else None,
        "ball shortfall": -math.log1p(-ball) if known else None,
    }


def described(rows: Sequence[Result]) -> str:
    """Margins, ball and errors in words; a row a seed, as the watch keeps it."""
    there = [readable(row) for row in rows]
    return (
        f"median margin {plus_minus([r['median'] for r in there])}, over √2 N_y "
        f"{plus_minus([normalised(r) for r in there], '.4f')}, over √2 Σ Λ c "
        f"{plus_minus([r['median'] / r['sensitivity'] for r in there], '.2e')}, best γ "
        f"{plus_minus([r['ball gamma'] for r in there], '.4f')}, nats a unit "
        f"{plus_minus([r['ball nats'] for r in there])}, L "
        f"{plus_minus([r['ball shortfall'] for r in there], '.2f')}, margin ball "
        f"{plus_minus([r['margin_ball'] for r in there])}, test error "
        f"{plus_minus([r['test error'] for r in there])}, training error "
        f"{plus_minus([r['training error'] for r in there])}"
    )


def balance(found: Found, d_x: int, K: int) -> dict[MarginRun, tuple[float, float, float, float]]:
    """By run: margins' share an e-fold at the best γ, share within γ, what balances, quotient.

    Means over seeds and trained looks with a risk at γ between 0 and 1. The first and the third
    are the sides of `open2_ball.balanced_share`'s equation, the second stands for the first where
    the density is flat from 0 to γ; the quotient is of the means of first and third.
    """
    sides = {}
    for run, seeds in found.items():
        there = [row for rows in seeds for row in rows[1:] if 0 < row["ball risk"] < 1]
        if not there:
            continue
        P = run.weights(d_x, K)
        even = [balanced_share(r["ball risk"], r["ball shortfall"], P, run.units) for r in there]
        density = float(np.mean([row["ball density"] for row in there]))
        within = float(np.mean([row["ball risk"] - row["training error"] for row in there]))
        sides[run] = (density, within, float(np.mean(even)), density / float(np.mean(even)))
    return sides


def balance_words(found: Found, d_x: int, K: int) -> str:
    """The sides of the balance, run by run."""
    each = [
        f"{run.network}{f', {run.units:,} units' if run.series == 'fitting' else ''}, noise "
        f"{run.noise:g}: {density:.3f} (within γ {within:.3f}) against {even:.3f}, quotient "
        f"{quotient:.2f}"
        for run, (density, within, even, quotient) in balance(found, d_x, K).items()
    ]
    return (
        "Share of units that an e-fold of γ takes in at the best γ, against "
        f"(P/m)/ln(p(1−q)/(q(1−p))): {'; '.join(each)}."
        if each
        else ""
    )


def groups(found: Found) -> dict[Group, list[MarginRun]]:
    """Runs by network and units; those of a group differ in noise alone, and rise in it."""
    by_group: dict[Group, list[MarginRun]] = {}
    for run in sorted(found):
        by_group.setdefault((run.network, run.units), []).append(run)
    return by_group


def roundings(found: Found) -> str:
    """Where what a certificate allows for roundings exceeds the best γ, so that none is left."""
    each = []
    for (network, units), runs in groups(found).items():
        slacks = [rows[-1]["slack"] for run in runs for rows in found[run]]
        gammas = [rows[-1]["ball gamma"] for run in runs for rows in found[run]]
        void = sum(s is None or s >= g for s, g in zip(slacks, gammas, strict=True))
        each.append(
            f"{network}, {units:,} units {void} of {len(slacks)} networks (allowed "
            f"{ranged(slacks, '.2g')}, γ {ranged(gammas)})"
        )
    return f"Allowances for roundings that exceed the best γ: {'; '.join(each)}." if each else ""


def answers(found: Found, base: open2_answers.Found, d_x: int, K: int) -> dict[str, str]:
    """Sentences by topic.

    Args:
        found: gated runs.
        base: vanilla runs.
        d_x: size of the alphabet.
        K: classes.
    """
    if not found:
        return {}
    said = {
        "gated": _sizes(found, base, d_x, K),
        "gated epochs": _epochs(found),
        "gated balance": balance_words(found, d_x, K),
        "gated roundings": roundings(found),
    }
    for topic, series in series_of(found).items():
        said[f"gated follows {topic}"] = follows(f"of gated cells {topic}", series, FOLLOWS)
    return {topic: text for topic, text in said.items() if text}


def series_of(found: Found) -> dict[str, list[list[Result]]]:
    """Rows along which bounds and margins are compared: every run; every cell and seed by size."""
    epochs = [[readable(row) for row in rows[1:]] for seeds in found.values() for rows in seeds]
    sizes = []
    for cell in GATED_CELLS:
        runs = sorted(run for run in found if run.cell == cell)
        for one in zip(*(found[run] for run in runs), strict=True):
            sizes.append([readable(rows[-1]) for rows in one])
    return {"over epochs": epochs, "over sizes": sizes}


def claims(what: str, topics: Mapping[str, Sequence[Sequence[Result]]]) -> list[Claim]:
    """The paper's sentence on margins, for networks whose rows have the columns of the ball.

    Args:
        what: kind of networks.
        topics: `series_of` their runs.
    """
    picks = {"γ": column("ball gamma"), "median/√2 N_y": normalised}
    made = [
        open2_answers.claim(f"{what}, margin as {name}", pick, MISSING, topics)
        for name, pick in picks.items()
    ]
    return [one for one in made if one is not None]


def _sizes(found: Found, base: open2_answers.Found, d_x: int, K: int) -> str:
    vanilla = [
        (weights("vanilla", d_h, d_x, K), f"vanilla, d_h = {d_h}",
         [completed(rows[-1]) for rows in base[d_h, noise]])
        for d_h, noise in open2_answers.widths(base)
    ]  # fmt: skip
    gated = [
        (run.weights(d_x, K), run.network, [rows[-1] for rows in seeds])
        for run, seeds in found.items()
    ]
    each = [
        f"{network} ({count:,} weights): {described(rows)}"
        for count, network, rows in sorted(vanilla + gated, key=lambda one: one[0])
    ]
    return "By weights, no noise, last epoch (L = −ln(1 − margin ball)): " + "; ".join(each)


def _epochs(found: Found) -> str:
    each = []
    for run, seeds in found.items():
        last = len(seeds[0]) - 1
        parts = []
        for k in sorted({1, (last + 1) // 2, last}):
            there = [rows[k] for rows in seeds]
            moved = [row["median"] / row["sensitivity"] for row in there]
            parts.append(
                f"after epoch {there[0]['epoch']} "
                f"{plus_minus([normalised(row) for row in there], '.4f')} and "
                f"{plus_minus(moved, '.1e')}, best γ "
                f"{plus_minus([row['ball gamma'] for row in there], '.4f')}, L "
                f"{plus_minus([row['ball shortfall'] for row in there], '.2f')}"
            )
        each.append(f"{run.network}: {', '.join(parts)}")
    return "Medians over √2 N_y and over √2 Σ Λ c through training: " + "; ".join(each)
