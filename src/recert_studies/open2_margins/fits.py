"""What networks that fit noise answer in ``recert reproduce open-2``.

Their training error is near 0 at every share of noise, so nothing but margins and norms can tell
noise from labels. Bartlett, Foster and Telgarsky ("Spectrally-normalized margin bounds for neural
networks", 2017) find margins over norms smaller where random labels are fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from recert_studies.framework import Result
from recert_studies.open2_margins import answers as open2_answers
from recert_studies.open2_margins.answers import (
    STRONG,
    Pick,
    column,
    follows,
    normalised,
    plus_minus,
    rank_correlation,
    readable,
)
from recert_studies.open2_margins.gated import MISSING, balance_words, described, groups, roundings
from recert_studies.open2_margins.runs import Found, MarginRun
from recert_studies.statistics import verdict

FITTED = 0.01
"""A training error of at most this is near 0: nouns that the horizon makes alike may differ."""

NORMALISED: Mapping[str, Pick] = {
    "median/√2 N_y": normalised,
    "5% quantile/√2 N_y": lambda row: row["q05"] / row["range"],
    "median/√2 Σ Λ c": lambda row: row["median"] / row["sensitivity"],
}
MOVES: Mapping[str, Pick] = {
    "median": column("median"),
    "√2 N_y": column("range"),
    **NORMALISED,
    "best γ": column("ball gamma"),
    "nats a unit": column("ball nats"),
    "L": MISSING,
}
FOLLOWS: Mapping[str, tuple[Pick, Pick]] = {
    "L and test error": (MISSING, column("test error")),
    "nats a unit and test error": (column("ball nats"), column("test error")),
    **{f"{name} and test error": (pick, column("test error")) for name, pick in NORMALISED.items()},
}

ByNoise = Sequence[Sequence[Result]]
"""For every share of noise, rising, a row a seed."""


def first_fitted(rows: Sequence[Result]) -> Result | None:
    """The first trained look with a training error of at most `FITTED`."""
    return next((row for row in rows[1:] if row["training error"] <= FITTED), None)


def ends(found: Found, runs: Sequence[MarginRun]) -> ByNoise:
    """The last rows of these runs."""
    return [[rows[-1] for rows in found[run]] for run in runs]


def starts(found: Found, runs: Sequence[MarginRun]) -> ByNoise | None:
    """The rows at which these runs first fit; None unless every one does."""
    firsts = [[first_fitted(rows) for rows in found[run]] for run in runs]
    there = [[row for row in rows if row is not None] for rows in firsts]
    whole = all(len(a) == len(b) for a, b in zip(firsts, there, strict=True))
    return there if whole else None


def is_fitted(rows: ByNoise) -> bool:
    """Whether all of these rows have a training error near 0."""
    return all(row["training error"] <= FITTED for seeds in rows for row in seeds)


def moves(rows: ByNoise, pick: Pick) -> tuple[str, list[float], list[float]]:
    """How a quantity moves as noise grows.

    Args:
        rows: for every share of noise, rising, a row a seed.
        pick: the quantity, positive; where it is None it counts as 0.

    Returns:
        ("falls" or "rises" where its rank correlation with noise says so at every seed, else
        "neither"; its value at the most noise over that at the least, a seed each; the rank
        correlations, of seeds where they are defined).
    """
    ratios, correlations = [], []
    for one in zip(*rows, strict=True):
        values = [float(pick(row) or 0.0) for row in one]
        ratios.append(values[-1] / values[0] if values[0] else math.nan)
        rho = rank_correlation(range(len(values)), values)
        # −0.8 of four points must not be lost to a rounding.
        correlations += [] if rho is None else [round(rho, 9)]
    if len(correlations) < len(ratios):
        return "neither", ratios, correlations
    falls, rises = max(correlations) <= -STRONG, min(correlations) >= STRONG
    return "falls" if falls else "rises" if rises else "neither", ratios, correlations


def answers(found: Found, d_x: int, K: int) -> dict[str, str]:
    """Sentences by topic.

    Args:
        found: runs that are to fit their noise.
        d_x: size of the alphabet.
        K: classes.
    """
    said = {}
    for (network, units), runs in groups(found).items():
        name = f"{network}, {units:,} units"
        said[f"fitting {name}"] = f"{name}, last epoch: " + "; ".join(
            f"noise {run.noise:g}: {described([rows[-1] for rows in found[run]])}, smallest margin "
            f"{plus_minus([rows[-1]['min'] for rows in found[run]])}, 5% quantile over √2 N_y "
            f"{plus_minus([NORMALISED['5% quantile/√2 N_y'](rows[-1]) for rows in found[run]])}"
            for run in runs
        )
        said[f"fitting moves {name}"] = _moved(name, found, runs)
    said["fitting classical"] = classical(found)
    said["fitting quantile"] = quantile(found)
    said["fitting roundings"] = roundings(found)
    said["fitting balance"] = balance_words(found, d_x, K)
    for topic, series in series_of(found).items():
        text = follows(f"of networks that fit {topic}", series, FOLLOWS)
        said[f"fitting follows {topic}"] = text
    return {topic: text for topic, text in said.items() if text}


def _moved(name: str, found: Found, runs: Sequence[MarginRun]) -> str:
    if len(runs) < 2:
        return ""
    places = {"at the last epoch": ends(found, runs), "when first fitted": starts(found, runs)}
    parts = []
    for place, rows in places.items():
        if rows is None:
            parts.append(f"{place}: some run never fits")
            continue
        each = []
        for what, pick in MOVES.items():
            word, ratios, rho = moves(rows, pick)
            ranked = f", ρ {min(rho):+.2f} to {max(rho):+.2f}" if rho else ""
            each.append(f"{what} {word} (×{plus_minus(ratios, '.3g')}{ranked})")
        parts.append(f"{place}: {', '.join(each)}")
    fit = "fits" if is_fitted(ends(found, runs)) else "does not always fit"
    return (
        f"As noise goes from {runs[0].noise:g} to {runs[-1].noise:g}, {name} ({fit}): "
        f"{'; '.join(parts)}."
    )


def classical(found: Found) -> str:
    """Whether normalised margins get smaller as noise grows that is fitted, with what decides."""
    there = {
        group: ends(found, runs)
        for group, runs in groups(found).items()
        if len(runs) > 2 and is_fitted(ends(found, runs))
    }
    if not there:
        return ""
    parts = []
    for name, pick in NORMALISED.items():
        words = {group: moves(rows, pick)[0] for group, rows in there.items()}
        each = ", ".join(f"{word} ({network}, {m:,} units)" for (network, m), word in words.items())
        decided = verdict(word == "falls" for word in words.values())
        parts.append(f"{name} {decided}: {each}")
    return (
        "Normalised margins get smaller as noise grows, where it is fitted (Bartlett, Foster, "
        f"Telgarsky 2017): {'; '.join(parts)}."
    )


def quantile(found: Found) -> str:
    """How well the best γ of networks that have fitted is a constant times a quantile."""
    there = [
        {**row, "gamma": row["ball gamma"]}
        for seeds in found.values()
        for rows in seeds
        for row in rows[1:]
        if row["training error"] <= FITTED and row["q05"] > 0
    ]
    known = {level: open2_answers.explained(there, level) for level in ("q05", "q25", "median")}
    each = [
        f"the {level} {value[0]:.2f} (γ/quantile varies by {value[1]:.2f} octaves)"
        for level, value in known.items()
        if value is not None
    ]
    if not each:
        return ""
    return (
        f"Where noise is fitted ({len(there)} rows), of the variance of log2 γ a constant times a "
        f"quantile explains: {'; '.join(each)}."
    )


def series_of(found: Found) -> dict[str, list[list[Result]]]:
    """Rows along which bounds and margins are compared: every run; groups and seeds by noise."""
    epochs = [[readable(row) for row in rows[1:]] for seeds in found.values() for rows in seeds]
    noises = [
        [readable(row) for row in one]
        for runs in groups(found).values()
        for one in zip(*ends(found, runs), strict=True)
    ]
    return {"over epochs": epochs, "over noises": noises}
