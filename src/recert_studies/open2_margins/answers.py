"""What the runs of ``recert reproduce open-2`` answer, in sentences made of their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from recert_studies.claims import Claim
from recert_studies.framework import Result
from recert_studies.open2_margins import watch
from recert_studies.open2_margins.watch import BOUNDS
from recert_studies.statistics import limit_plus_minus, mean_and_half, verdict

Key = tuple[int, float]
Found = Mapping[Key, Sequence[Sequence[Result]]]
"""(d_h, noise) → for every seed its rows, one an epoch."""

SAYS_NOTHING = 0.98
"""Above this the margin ball is flat in γ, so its best γ means nothing."""
LEVELS = ("median", "q75", "q95")
STRONG = 0.8
"""A rank correlation from here on counts as following, below minus this as opposite."""
Pick = Callable[[Result], float | None]


def readable(row: Result) -> Result:
    """The row with values of bounds for their logarithms, and no γ where it means nothing."""
    found = {name: value for name, value in row.items() if not name.startswith("log10 ")}
    for name in BOUNDS:
        log10 = row[f"log10 {name}"]
        found[name] = None if log10 is None or log10 > 300 else 10.0**log10
    ball = found["margin_ball"]
    if ball is None or ball > SAYS_NOTHING:
        found["gamma"] = found["hard risk"] = None
    return found


def mean_of(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and half the range; None where a value is missing."""
    there = [v for v in values if v is not None]
    return mean_and_half(there) if len(there) == len(values) else (None, None)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's ρ; None for fewer than three points or where one side is constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(stats.spearmanr(x, y).statistic)


def correlations(series: Sequence[Sequence[Result]], x: Pick, y: Pick) -> list[float]:
    """ρ of two quantities along each series, where it is defined."""
    found = []
    for rows in series:
        pairs = [(a, b) for row in rows if (a := x(row)) is not None and (b := y(row)) is not None]
        rho = rank_correlation([a for a, _ in pairs], [b for _, b in pairs])
        found += [] if rho is None else [rho]
    return found


def along_epochs(found: Found, keys: Sequence[Key]) -> list[list[Result]]:
    """For every run its rows, the untrained network left out."""
    return [[readable(row) for row in rows[1:]] for key in keys for rows in found[key]]


def along(found: Found, keys: Sequence[Key]) -> list[list[Result]]:
    """For every seed the last rows of runs of these kinds, in their order."""
    return [[readable(seeds[-1]) for seeds in run] for run in zip(*(found[k] for k in keys),
            strict=True)]  # fmt: skip


def widths(found: Found) -> list[Key]:
    """Runs without noise, by width."""
    return sorted(key for key in found if key[1] == 0.0)


def noises(found: Found, base: Key) -> list[Key]:
    """Runs at the base's width, by noise."""
    return sorted(key for key in found if key[0] == base[0])


def final(found: Found) -> dict[Key, list[Result]]:
    """The last row of every run, by kind, one a seed."""
    return {key: [readable(rows[-1]) for rows in seeds] for key, seeds in found.items()}


def column(name: str) -> Pick:
    """A column of a row."""
    return lambda row: row[name]


def gap(row: Result) -> float:
    """Test error − training error."""
    return float(row["test error"] - row["training error"])


def normalised(row: Result) -> float:
    """The median margin over √2 N_y, the largest that the class allows."""
    return float(row["median"] / row["range"])


def excess(row: Result) -> float | None:
    """What the margin ball adds to the training error."""
    ball = row["margin_ball"]
    return None if ball is None else float(ball - row["training error"])


def balanced_share(risk: float, ball: float, parameters: int, m: int) -> float:
    """`open2_ball.balanced_share` from the value p of the margin ball."""
    return watch.balanced_share(risk, -math.log1p(-ball), parameters, m)


def balance(
    found: Found, parameters: Mapping[Key, int], m: int
) -> dict[Key, tuple[float, float, float, float]]:
    """By kind of run: share within γ, the share that balances, their quotient, its spread.

    Means over seeds and trained epochs where the ball says something; the spread is a standard
    deviation.
    """
    by_kind = {}
    for key in found:
        rows = [row for series in along_epochs(found, [key]) for row in series]
        there = [row for row in rows if row["gamma"] is not None]
        if not there:
            continue
        share = np.array([row["hard risk"] - row["training error"] for row in there])
        even = np.array(
            [balanced_share(r["hard risk"], r["margin_ball"], parameters[key], m) for r in there]
        )
        ratio = share / even
        by_kind[key] = (
            float(share.mean()), float(even.mean()), float(ratio.mean()), float(ratio.std())
        )  # fmt: skip
    return by_kind


def _balance(found: Found, parameters: Mapping[Key, int], m: int) -> str:
    each = [
        f"d_h = {d_h}, noise {noise:g}: {share:.4f} against {even:.4f}, quotient {ratio:.2f} "
        f"(sd {spread:.2f})"
        for (d_h, noise), (share, even, ratio, spread) in balance(found, parameters, m).items()
    ]
    if not each:
        return ""
    return (
        "The share of units right by less than the best γ, against (P/m)/ln(p(1−q)/(q(1−p))), "
        f"where a larger γ would lose as much risk as it saves nats: {'; '.join(each)}."
    )


def answers(
    found: Found, base: Key, parameters: Mapping[Key, int] | None = None, m: int = 1
) -> dict[str, str]:
    """Sentences by topic; that on the balance only where numbers of parameters are given."""
    said = {
        "margins": _margins(found, base),
        "width": _kinds(found, widths(found), "width d_h", lambda key: f"{key[0]}"),
        "noise": _kinds(found, noises(found, base), "noise", lambda key: f"{key[1]:g}"),
        "quantile": _quantile(found),
        "balance": _balance(found, parameters, m) if parameters else "",
    }
    for topic, series in series_of(found, base).items():
        said[f"follows {topic}"] = follows(topic, series)
    return {topic: text for topic, text in said.items() if text}


def series_of(found: Found, base: Key) -> dict[str, list[list[Result]]]:
    """Rows along which bounds and errors are compared."""
    return {
        "over epochs": along_epochs(found, list(found)),
        "over epochs, base": along_epochs(found, [base]),
        "over widths": along(found, widths(found)),
        "over noises": along(found, noises(found, base)),
    }


def plus_minus(values: Sequence[float | None], form: str = ".3f") -> str:
    """Mean ± half the range in this form, and of how many values where some are missing."""
    there = [v for v in values if v is not None]
    if not there:
        return "none"
    middle, half = mean_and_half(there)
    text = f"{middle:{form}} ± {half:{form}}"
    return text if len(there) == len(values) else f"{text} ({len(there)} of {len(values)})"


def _margins(found: Found, base: Key) -> str:
    parts = []
    for k in sorted({1, len(found[base][0]) // 2, len(found[base][0]) - 1}):
        rows = [readable(rows[k]) for rows in found[base]]
        parts.append(
            f"after epoch {rows[0]['epoch']} median {plus_minus([r['median'] for r in rows])}, "
            f"√2 N_y {plus_minus([r['range'] for r in rows])}, their quotient "
            f"{plus_minus([r['median'] / r['range'] for r in rows], '.4f')}, median over √2 Σ Λ c "
            f"{plus_minus([r['median'] / r['sensitivity'] for r in rows], '.2e')}, best γ "
            f"{plus_minus([r['gamma'] for r in rows])}"
        )
    return f"Margins at d_h = {base[0]} without noise (± half the range over seeds): " + "; ".join(
        parts
    )


def _kinds(found: Found, keys: Sequence[Key], what: str, label: Callable[[Key], str]) -> str:
    if len(keys) < 2:
        return ""
    parts = []
    for key in keys:
        rows = final(found)[key]
        parts.append(
            f"{label(key)}: median margin {plus_minus([r['median'] for r in rows])}, over √2 N_y "
            f"{plus_minus([r['median'] / r['range'] for r in rows], '.4f')}, over √2 Σ Λ c "
            f"{plus_minus([r['median'] / r['sensitivity'] for r in rows], '.2e')}, best γ "
            f"{plus_minus([r['gamma'] for r in rows])}, margin ball "
            f"{limit_plus_minus([r['margin_ball'] for r in rows])}, test error "
            f"{plus_minus([r['test error'] for r in rows])}, training error "
            f"{plus_minus([r['training error'] for r in rows])}"
        )
    return f"By {what}, last epoch: " + "; ".join(parts)


def explained(rows: Sequence[Result], level: str) -> tuple[float, float] | None:
    """How well γ is a constant times a quantile of the margins.

    Returns:
        (share of the variance of log2 γ that log2 of the quantile explains at slope 1; standard
        deviation of log2(γ/quantile), in octaves); None where γ does not vary. Only rows with a
        positive median count, so that quantiles are compared on the same rows.
    """
    there = [(r["gamma"], r[level]) for r in rows if r["gamma"] is not None and r["median"] > 0]
    if len(there) < 3:
        return None
    gamma, quantile = np.log2(np.array(there)).T
    if np.ptp(gamma) == 0:
        return None
    left = gamma - quantile
    return float(1.0 - left.var() / gamma.var()), float(left.std())


def _quantile(found: Found) -> str:
    rows = [row for series in along_epochs(found, list(found)) for row in series]
    there = [row for row in rows if row["gamma"] is not None]
    words = {level: explained(there, level) for level in LEVELS}
    known = {level: value for level, value in words.items() if value is not None}
    if not known:
        return "The margin ball says nothing in these runs, so its best γ means nothing."
    best = max(known, key=lambda level: known[level][0])
    each = "; ".join(
        f"{level} {share:.2f} (γ/quantile varies by {octaves:.2f} octaves)"
        for level, (share, octaves) in known.items()
    )
    levels = [(r["hard risk"] - r["training error"]) / (1 - r["training error"]) for r in there]
    share, _ = known[best]
    word = "follows" if share >= STRONG else "follows in part" if share > 0 else "does not follow"
    return (
        f"Best γ {word} a quantile of the margins: of the variance of log2 γ over "
        f"{len(there)} of {len(rows)} rows (elsewhere the ball says nothing) a constant times a "
        f"quantile explains {each}. Of the units that are right, the share within γ is "
        f"{np.mean(levels):.3f}, from {min(levels):.3f} to {max(levels):.3f}."
    )


FOLLOWS: Mapping[str, tuple[Pick, Pick]] = {
    "margin ball and test error": (column("margin_ball"), column("test error")),
    "Theorem 2 clipped and test error": (column("theorem_2_clipped"), column("test error")),
    "training and test error": (column("training error"), column("test error")),
    "ball − training error and gap": (excess, gap),
    "median/√2 N_y and test error": (normalised, column("test error")),
}


def follows(
    topic: str,
    series: Sequence[Sequence[Result]],
    pairs: Mapping[str, tuple[Pick, Pick]] = FOLLOWS,
) -> str:
    """Rank correlations of pairs of quantities along every series; empty where none is defined."""
    each = []
    for name, (x, y) in pairs.items():
        rho = correlations(series, x, y)
        if rho:
            each.append(
                f"{name} {np.mean(rho):+.2f} (± {np.std(rho):.2f}, {min(rho):+.2f} to "
                f"{max(rho):+.2f}, {len(rho)} series)"
            )
    return (
        f"Rank correlation {topic} (mean, standard deviation): {'; '.join(each)}." if each else ""
    )


def claim(
    what: str, pick: Pick, bound: Pick, topics: Mapping[str, Sequence[Sequence[Result]]]
) -> Claim | None:
    """Section 7 (II): a larger margin value yields a better bound, decided by ranks.

    Args:
        what: of which networks and margins.
        pick: the margin value.
        bound: what is to be small.
        topics: series by what they go along; each counts by its mean rank correlation.
    """
    found = {topic: correlations(series, pick, bound) for topic, series in topics.items()}
    each = {topic: rho for topic, rho in found.items() if rho}
    if not each:
        return None
    words = "; ".join(
        f"{topic} {np.mean(rho):+.2f} ({min(rho):+.2f} to {max(rho):+.2f})"
        for topic, rho in each.items()
    )
    return Claim(
        "Section 7 (II)",
        f"a larger margin value yields a better generalization bound, {what}",
        verdict(float(np.mean(rho)) <= -STRONG for rho in each.values()),
        f"rank correlation with the margin ball: {words}; −{STRONG:g} or less counts",
    )


def claims(found: Found, base: Key) -> list[Claim]:
    """The paper's sentence on margins, for free vanilla networks."""
    picks = {"γ": column("gamma"), "median/√2 N_y": normalised}
    topics = series_of(found, base)
    del topics["over epochs, base"]
    made = [
        claim(f"margin as {name}", pick, column("margin_ball"), topics)
        for name, pick in picks.items()
    ]
    return [one for one in made if one is not None]
