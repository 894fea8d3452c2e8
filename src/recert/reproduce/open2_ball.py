"""The margin ball where its value is near 1: its best γ and its nats, which still say something.

A network that fits noise has a ball of 1 in every digit of a double, and so every γ would be as
good as any other. The logarithm of what is missing to 1 tells them apart. Margins are taken as they
were computed: what a certificate allows for roundings may exceed them all in a free gated cell.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recert.choices import total_nats
from recert.concentration import maurer_log_term
from recert.data import SequenceData
from recert.network import Network
from recert.reproduce.gates_measures import case_of
from recert.reproduce.study import Result
from recert.theorems.margin_ball import ball_radii

Array = NDArray[np.float64]
# Halvings of an interval that is at most a few thousand nats long.
HALVINGS = 80


def shortfall(risk: ArrayLike, nats: ArrayLike) -> Array:
    """−ln(1 − p) of p = kl⁻¹(q, c), however close p comes to 1. No bound: not rounded outwards.

    With L = −ln(1 − p), kl(q, p) = −H(q) − q ln(1 − e^−L) + (1 − q) L, which rises in L from 0 at
    −ln(1 − q) on. For c far above ln 2 it is (c + H(q))/(1 − q) but for e^−L.

    Args:
        risk: q, between 0 and 1.
        nats: c ≥ 0, nats a unit, of the same shape.

    Returns:
        L, in nats, of that shape; inf where q is 1.
    """
    q, c = np.broadcast_arrays(np.asarray(risk, dtype=float), np.asarray(nats, dtype=float))
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(q > 0, q * np.log(q), 0.0) - np.where(
            q < 1, (1.0 - q) * np.log1p(-q), 0.0
        )
        low, high = -np.log1p(-q), (c + entropy) / (1.0 - q)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            missed = np.where(q > 0, q * np.log(-np.expm1(-middle)), 0.0)
            above = (1.0 - q) * middle - entropy - missed > c
            low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(q < 1, high, np.inf)


def best(network: Network, sample: SequenceData, delta: float) -> Result:
    """The class-wide margin ball at the γ of the grid where it is smallest, by its shortfall.

    Args:
        network: at its present weights; its own norms are the class, and are paid for.
        sample: units with labels (m,).
        delta: of the ball alone.

    Returns:
        ``ball gamma``; ``ball risk``, the hard-margin risk there; ``ball density``, the share of
        units with margins within a factor √2 of it, by the octave's length ln 2; ``ball nats``, all
        nats that are paid, a unit; ``ball shortfall``, −ln(1 − its value), None where no unit is
        right; ``slack``, what a certificate would allow for roundings of a margin, None where that
        is not finite.
    """
    setting = case_of(network, sample, {}, 1, delta).setting
    gammas, prices, _ = setting.margin_choices
    log_ratios = setting.log_caps[:, None] - ball_radii(setting, gammas)
    paid = total_nats((*setting.cap_costs, *setting.choice_costs))
    fixed = paid + maurer_log_term(setting.m, delta)
    nats = setting.parameters @ np.logaddexp(0.0, log_ratios) + prices + fixed
    margins = setting.table.with_slack(0.0)
    risks = margins.hard_risk(gammas)
    missing = shortfall(risks, nats / setting.m)
    i = int(np.argmin(missing))
    below, above = margins.hard_risk(gammas[i] * np.array([0.5, 2.0]) ** 0.5)
    return {
        "ball gamma": float(gammas[i]),
        "ball risk": float(risks[i]),
        "ball density": float(above - below) / math.log(2.0),
        "ball nats": float(nats[i]) / setting.m,
        "ball shortfall": _finite(missing[i]),
        "slack": _finite(setting.table.slack),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def balanced_share(risk: float, missing: float, parameters: int, m: int) -> float:
    """The share of units an e-fold of γ takes in where the margin ball is smallest in γ.

    With p = kl⁻¹(q, c), a step of ln γ lowers c by P/m (the nats are P ln(1/γ) and more) and raises
    q by the share of units that it takes in, γ times the density of margins at γ. The two balance
    where that is (P/m)·(∂p/∂c)/(∂p/∂q) = (P/m)/ln(p(1−q)/(q(1−p))). Where the density is flat from
    0 to γ, it is the share of units with a margin in (0, γ].

    Args:
        risk: q, the hard-margin risk at γ, positive.
        missing: −ln(1 − p), p the value of the margin ball.
        parameters: P.
        m: number of units.
    """
    odds = math.log(-math.expm1(-missing)) + missing + math.log((1.0 - risk) / risk)
    return parameters / m / odds
