"""What the runs of ``recert reproduce open-1`` answer, in sentences made of their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recert.numerics.rounding import rounded_up
from recert_studies.framework import Result
from recert_studies.open1_tightness.anatomy import (
    BEYOND,
    PRINTED,
    STEPS,
    TITLES,
    crossing,
    entropy_integral,
)
from recert_studies.open1_tightness.networks import TRAINEES
from recert_studies.statistics import fit, limits, mean_and_half, ranged

Row = Mapping[str, Any]
Runs = Mapping[tuple[str, int, int], Result]

LEVELS = (1.0, 0.5)
VACUOUS = 1.0 - 1e-3
"""kl forms never exceed 1; from here on they count as saying nothing."""
CERTIFIED_STEPS = tuple(name for name in STEPS if name != "constants")


def answers(runs: Runs, rows: Sequence[Row], parts: Sequence[Row]) -> dict[str, str]:
    """Sentences by topic; ``runs`` and ``parts`` are those of networks that norms certify."""
    found = {
        "gain": _gain(parts),
        "why": _why(runs, rows),
        "parts": _parts(parts),
        "locality": _locality(rows),
        "slopes": _slopes(runs, rows),
        "size": _size(rows),
        "distance": _distance(rows),
        "beyond norms": _beyond(rows),
    }
    found |= {f"below {level:g}": _below(rows, level) for level in LEVELS}
    return {topic: text for topic, text in found.items() if text}


def gains(parts: Sequence[Row], what: str) -> dict[str, list[float]]:
    """What certified steps gain, one number for every network and size: decades or useful."""
    return {
        step: values
        for step in CERTIFIED_STEPS
        if (values := [row[f"{what}: {step}"] for row in parts if f"{what}: {step}" in row])
    }


def _gain(parts: Sequence[Row]) -> str:
    sentences = []
    for what, words in (
        ("decades", "Most decades are gained by the step"),
        ("useful", "Most of the limit on the error (values above 1 read as 1) is gained by"),
    ):
        found = gains(parts, what)
        best = max(found, key=lambda step: mean_and_half(found[step])[0])
        each = "; ".join(
            f"{step} {mean_and_half(v)[0]:.3f} ({ranged(v, '.3f')})" for step, v in found.items()
        )
        sentences.append(f"{words} '{best}': {each}.")
    return " ".join(sentences)


def _why(runs: Runs, rows: Sequence[Row]) -> str:
    constants = [
        run["rungs"]["theorem_2"]["log10"] - run["rungs"]["printed_theorem_2"]["log10"]
        for run in runs.values()
        if "printed_theorem_2" in run["rungs"]
    ]
    ratio = [
        entropy_integral(run["rungs"]["theorem_2_clipped"])
        / (run["rungs"]["theorem_2_single_scale"]["value"] - run["error"])
        for run in runs.values()
    ]
    ball = [row["nats a parameter"] for row in rows if row["bound"] == "margin_ball"]
    first = (
        f"Theorem 2 with its constants, at its own best γ, is 10^({ranged(constants, '.2f')}) "
        "times the printed formula, which is evaluated at the γ of the best statement. "
        if constants
        else ""
    )
    blame = (
        "less than the single scale, so the integral loses by its constant alone"
        if max(ratio) < 1.0
        else "so the constant is not all that the integral loses by"
    )
    return (
        f"{first}Without its constant 24 the complexity of the clipped entropy integral would be "
        f"{ranged(ratio, '.2f')} times what the single scale adds to the training error: {blame}. "
        f"The logarithm that the margin ball pays is {limits(ball, 2)} nats a parameter."
    )


def _parts(parts: Sequence[Row]) -> str:
    largest = max(row["m"] for row in parts)
    there = [row for row in parts if row["m"] == largest]
    named = ("training error", "margin", "complexity", "confidence and choices")
    words = [
        f"{name} {ranged([row[f'margin_ball: {name}'] for row in there], '.2f')}" for name in named
    ]
    free = [
        row["margin_ball: complexity"] + row["margin_ball: training error"] + sum(
            row[f"margin_ball: {name}"] for name in ("margin", "confidence and choices")
        ) - row["margin_ball: at one nat a parameter"]
        for row in there
    ]  # fmt: skip
    return (
        f"The margin ball at m = {largest:,} consists of {', '.join(words)}. At one nat a "
        f"parameter and the same margin it would be smaller by {ranged(free, '.2f')}: no "
        "certificate, but what the logarithms cost."
    )


def _locality(rows: Sequence[Row]) -> str:
    local = [row for row in rows if row["bound"] == "local_ball"]
    ball = {(r["network"], r["m"]): r for r in rows if r["bound"] == "margin_ball"}
    if not local:
        return ""
    each = [
        f"{row['network']} at m = {row['m']:,}: "
        f"{rounded_up(ball[row['network'], row['m']]['value'], 4)} to "
        f"{rounded_up(row['value'], 4)}, nats a parameter "
        f"{rounded_up(ball[row['network'], row['m']]['nats a parameter'], 2)} to "
        f"{rounded_up(row['nats a parameter'], 2)}"
        for row in local
    ]
    return f"Locality: {'; '.join(each)}."


def _slopes(runs: Runs, rows: Sequence[Row]) -> str:
    found = []
    for bound in TITLES:
        powers = {
            r["network"]: r["slope in m"]
            for r in rows
            if r["bound"] == bound and r["slope in m"] is not None
        }
        if powers:
            mean = mean_and_half(list(powers.values()))[0]
            found.append(f"{TITLES[bound]} {mean:.2f} ({ranged(list(powers.values()), '.2f')})")
    rates = rate_slopes(runs)
    return (
        f"Exponents of m in value − test error, over networks: {'; '.join(found)}. The nats a unit "
        f"of the margin ball fall like m^({ranged(rates, '.2f')}): kl⁻¹ is flat near 1, so what it "
        "gives falls more slowly while they are large."
    )


def rate_slopes(runs: Runs) -> list[float]:
    """The exponent of m in the margin ball's nats a unit, for every network and seed."""
    found = []
    for name, seed in dict.fromkeys((name, seed) for name, _, seed in runs):
        there = {m: run for (n, m, s), run in runs.items() if (n, s) == (name, seed)}
        logs = [math.log(run["rungs"]["margin_ball"]["terms"]["rate"]) for run in there.values()]
        found.append(fit([float(m) for m in there], logs).power)
    return found


def _size(rows: Sequence[Row]) -> str:
    """How the nats of free vanilla networks grow with their parameters, at the largest m."""
    largest = max(row["m"] for row in rows)
    there = [
        row
        for row in rows
        if row["m"] == largest
        and row["bound"] == "margin_ball"
        and _is_free_vanilla(str(row["network"]))
    ]
    if len({row["parameters"] for row in there}) < 2:
        return ""
    counts = [float(row["parameters"]) for row in there]
    logs = [math.log(row["nats a parameter"] * row["parameters"]) for row in there]
    values = ", ".join(f"{rounded_up(row['value'], 4)} at {row['parameters']:,}" for row in there)
    return (
        f"Width: the margin ball's nats grow like P^{fit(counts, logs).power:.2f} in the number P "
        f"of parameters (free vanilla networks on nouns, m = {largest:,}); its values are {values}."
    )


def _is_free_vanilla(name: str) -> bool:
    kind = TRAINEES[name]
    return kind.cell == "vanilla" and not kind.capped and kind.data == "german-nouns"


def _distance(rows: Sequence[Row]) -> str:
    largest = max(row["m"] for row in rows)
    found = []
    for network in dict.fromkeys(row["network"] for row in rows if row["bound"] not in BEYOND):
        there = {r["bound"]: r for r in rows if r["network"] == network and r["m"] == largest}
        norms = [b for b in there if b not in (*PRINTED, "held_out")]
        best = min(norms, key=lambda b: there[b]["value"])
        error = there[best]["test error"]
        found.append(
            f"{network} {TITLES[best]} {rounded_up(there[best]['value'], 4)}, held-out limit "
            f"{rounded_up(there['held_out']['value'], 4)}, test error {error:.4f}"
        )
    return f"At m = {largest:,}: {'; '.join(found)}."


def _beyond(rows: Sequence[Row]) -> str:
    """Files and posteriors, at every m; and the smallest value that norms give on the same data."""
    found = []
    for name, kind in TRAINEES.items():
        own = [row for row in rows if row["network"] == name and row["bound"] in BEYOND]
        if not own:
            continue
        each = "; ".join(
            f"m = {row['m']:,}: {rounded_up(row['value'], 4)} at test error "
            f"{row['test error']:.4f}, "
            f"{math.ceil(row['nats a parameter'] * row['parameters']):,} nats"
            for row in own
        )
        best = [
            min(values)
            for m in (row["m"] for row in own)
            if (values := [r["value"] for r in rows if r["m"] == m and _of_norms(r, kind.data)])
        ]
        norms = f" (norms: {', '.join(rounded_up(value, 4) for value in best)})" if best else ""
        found.append(f"{name} {each}{norms}")
    return f"Without norms: {'. '.join(found)}." if found else ""


def _of_norms(row: Row, data: str) -> bool:
    """A certificate of a network's norms, on these data."""
    kind = TRAINEES[row["network"]]
    named = row["bound"] not in (*PRINTED, "held_out")
    return kind.how == "norms" and kind.data == data and named


def smallest_below(
    rows: Sequence[Row], network: str, bound: str, level: float
) -> tuple[int | None, float | None]:
    """The smallest m that was run with a mean value below a level, and the m in between."""
    mark = min(level, VACUOUS) if level >= 1.0 else level
    values = {
        row["m"]: row["value"]
        for row in rows
        if row["network"] == network and row["bound"] == bound
    }
    there = [m for m in sorted(values) if values[m] < mark]
    return (there[0] if there else None), (crossing(values, mark) if values else None)


def _below(rows: Sequence[Row], level: float) -> str:
    networks = list(dict.fromkeys(row["network"] for row in rows))
    found = []
    for bound in TITLES:
        if bound in PRINTED:
            continue
        run_on = [
            n for n in networks if any((r["network"], r["bound"]) == (n, bound) for r in rows)
        ]
        each = [smallest_below(rows, network, bound, level) for network in run_on]
        reached = [(m, between) for m, between in each if m is not None and between is not None]
        if not run_on:
            continue
        if not reached:
            found.append(f"{TITLES[bound]} nowhere")
            continue
        crossed = ranged([between for _, between in reached], ",.0f")
        found.append(f"{TITLES[bound]} on {len(reached)} of {len(run_on)}, from m ≈ {crossed}")
    return (
        f"Values below {min(level, VACUOUS):g} (mean over seeds; m between sizes by interpolation, "
        f"the smallest size where it is below at once): {'; '.join(found)}."
    )
