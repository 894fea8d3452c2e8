"""What the rungs of a ladder are made of: steps between them, parts of a value, growth in m.

A rung is a dictionary as `recert_studies.open1_tightness.study` keeps it: ``value``, ``log10``,
``terms``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recert.errors import InputError
from recert.numerics.concentration import kl_inverse_upper
from recert_studies.statistics import fit

Rung = Mapping[str, Any]

PRINTED = ("printed_theorem_2", "printed_theorem_5")
TITLES = {
    "printed_theorem_2": "Theorem 2, as printed",
    "printed_theorem_5": "Theorem 5, as printed",
    "theorem_2": "Theorem 2 with constants, paper's range",
    "theorem_2_clipped": "Theorem 2 with constants, clipped range",
    "theorem_2_single_scale": "Theorem 2, single scale",
    "theorem_3_l1_cover": "Theorem 3 (3) repaired",
    "theorem_3_gaussian": "Theorem 3 (4) repaired",
    "margin_cover": "margin ball, covering form",
    "margin_ball": "margin ball",
    "local_ball": "local margin ball",
    "occam": "a short file (Occam)",
    "pac_bayes_temperature": "a posterior (PAC-Bayes), weights drawn",
    "held_out": "held-out limit, at most m/4 more units",
}
BEYOND = ("occam", "pac_bayes_temperature")
"""Statements on predictors of their own, for which norms are nothing."""
KL_FORMS = (
    "theorem_3_l1_cover",
    "theorem_3_gaussian",
    "margin_cover",
    "margin_ball",
    "local_ball",
    *BEYOND,
    "held_out",
)
"""Statements kl⁻¹(risk, nats/m): at most 1, and saturated near it."""
SATURATED = 0.98
"""A value of a kl form above this says nothing of how it falls with m."""
NATS = {
    "theorem_2_single_scale": "log_cover",
    "theorem_3_gaussian": "KL",
    "margin_cover": "complexity_nats",
    "margin_ball": "complexity_nats",
    "local_ball": "complexity_nats",
    "occam": "complexity_nats",
    "pac_bayes_temperature": "KL",
}
"""Where a statement keeps the nats that it pays for the network."""
STEPS = {
    "constants": (*PRINTED, "theorem_2"),
    "range": ("theorem_2", "theorem_2_clipped"),
    "entropy integral": ("theorem_2_clipped", "theorem_2_single_scale"),
    "kl for deviations": ("theorem_2_single_scale", "margin_cover"),
    "PAC-Bayes for a union": ("margin_cover", "margin_ball"),
    "locality": ("margin_ball", "local_ball"),
}
"""Steps down the ladder, each from its first statement that there is to its last."""


@dataclass(frozen=True)
class AnatomyStep:
    """A step down the ladder.

    Attributes:
        name: one of `STEPS`.
        decades: log10 of the value above over the value below; negative where it goes up.
        useful: by how much the limit on the error falls, values above 1 read as 1.
    """

    name: str
    decades: float
    useful: float


def steps(rungs: Mapping[str, Rung]) -> list[AnatomyStep]:
    """The steps whose two ends there are."""
    found = []
    for name, (*above, below) in STEPS.items():
        ends = [rungs[key] for key in above if key in rungs][:1]
        if ends and below in rungs:
            upper, lower = ends[0]["log10"], rungs[below]["log10"]
            useful = 10 ** min(upper, 0.0) - 10 ** min(lower, 0.0)
            # A formula without constants limits no error: nothing useful is gained or lost.
            useful = 0.0 if name == "constants" else useful
            found.append(AnatomyStep(name, upper - lower, useful))
    return found


def anatomy(rung: Rung, error: float, m: int) -> dict[str, float]:
    """Parts of a margin ball's value, which they sum to.

    Args:
        rung: of ``margin_ball``, ``margin_cover`` or ``local_ball``.
        error: the training error.
        m: number of units.

    Returns:
        ``training error``; ``margin``, the units that are right by less than the margin (of the
        local ball: that moves may lose); ``complexity``, what kl⁻¹ adds at the nats of the network
        alone; ``confidence and choices``, what it adds for δ, γ, caps and recipes.
    """
    terms = rung["terms"]
    risk = terms.get("hard_margin_risk", terms.get("posterior_risk"))
    complex_ = float(kl_inverse_upper(risk, terms["complexity_nats"] / m))
    return {
        "training error": error,
        "margin": risk - error,
        "complexity": complex_ - risk,
        "confidence and choices": rung["value"] - complex_,
    }


def without_logarithms(rung: Rung, parameters: int, m: int) -> float:
    """A margin ball's value at its margin, were each parameter one nat: no certificate."""
    terms = rung["terms"]
    rest = terms["rate"] * m - terms["complexity_nats"]
    risk = terms.get("hard_margin_risk", terms.get("posterior_risk"))
    return float(kl_inverse_upper(risk, (rest + parameters) / m))


def nats_a_parameter(name: str, rung: Rung, parameters: int) -> float | None:
    """The logarithm that a statement pays for a parameter, on average; None where it has none."""
    return rung["terms"][NATS[name]] / parameters if name in NATS else None


def entropy_integral(rung: Rung) -> float:
    """The complexity of Theorem 2 (clipped) without the 24 of Dudley's integral."""
    return float(10 ** rung["terms"]["log10_complexity"]) / 24.0


def unsaturated(name: str, values: Mapping[tuple[int, int], float]) -> list[int]:
    """The sizes m at which a statement says enough at every seed for its fall with m to count.

    Args:
        name: of the statement; those that are not kl forms are never saturated.
        values: (m, seed) → value.
    """
    sizes = sorted({m for m, _ in values})
    if name not in KL_FORMS:
        return sizes
    return [m for m in sizes if max(v for (k, _), v in values.items() if k == m) < SATURATED]


def slope(values: Mapping[int, float], error: Mapping[int, float]) -> float | None:
    """The exponent of m in value − error; None for fewer than two sizes with value > error.

    Args:
        values: m → value.
        error: m → error on units held back.
    """
    kept = [m for m, value in sorted(values.items()) if value > error[m]]
    if len(kept) < 2:
        return None
    return fit(kept, [math.log(values[m] - error[m]) for m in kept]).power


def crossing(values: Mapping[int, float], level: float) -> float | None:
    """The m at which a falling value passes a level, between sizes by ln value against ln m.

    The smallest size itself where the value is below the level there; None where it nowhere is.

    Raises:
        InputError: there are no values.
    """
    if not values:
        raise InputError("there are no values to cross a level")
    sizes = sorted(values)
    for i, m in enumerate(sizes):
        if values[m] >= level:
            continue
        if i == 0:
            return float(m)
        before = sizes[i - 1]
        high, low = math.log(values[before]), math.log(values[m])
        share = (high - math.log(level)) / (high - low)
        return math.exp(math.log(before) + share * (math.log(m) - math.log(before)))
    return None
