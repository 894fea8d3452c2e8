"""A network watched while it is trained: margins, their best γ, norms, errors, epoch by epoch.

All numbers are monitoring. The tracker's margin ball is that of the class of the norms as they are
at that epoch, evaluated on the sample that is trained on; that it was looked at at many epochs is
not paid for.

The margin ball where its value is near 1: its best γ and its nats, which still say something.

A network that fits noise has a ball of 1 in every digit of a double, and so every γ would be as
good as any other. The logarithm of what is missing to 1 tells them apart. Margins are taken as they
were computed: what a certificate allows for roundings may exceed them all in a free gated cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recert.data import SequenceData
from recert.networks.network import Network
from recert.networks.norm_class import class_of
from recert.numerics.concentration import maurer_log_term
from recert.numerics.union_bound import total_nats
from recert.sensitivities.sensitivity import sensitivities
from recert.theorems.margin_ball import ball_radii
from recert_studies.framework import Result
from recert_studies.gates.measures import case_of

if TYPE_CHECKING:
    from recert.training import Tracker

BALL = "margin_ball"
BOUNDS = (BALL, "theorem_2_clipped", "theorem_2_single_scale", "printed_theorem_2")
QUANTILES = ("min", "q05", "q25", "median", "q75", "q95")
LOG10 = "monitoring_log10."
# Streams of random numbers for the labels trained on and for those held back.
_NOISE = 62


@dataclass(eq=False)
class Watch:
    """A callback of `recert.training.train` that records once an epoch.

    Attributes:
        tracker: of the sample that is trained on.
        per_epoch: steps in an epoch.
        held: sequences held back, with labels of the distribution that is trained on.
        clean: the same with their true labels.
        looks: epochs after which it records; None for all.
        more: what else a row holds of the network as it is.
        rows: what was recorded.
    """

    tracker: Tracker
    per_epoch: int
    held: SequenceData
    clean: SequenceData
    looks: Collection[int] | None = None
    more: Callable[[Network], Result] | None = None
    rows: list[Result] = field(default_factory=list)

    def __call__(self, model: Any, step: int, **_: Any) -> None:
        """Record if an epoch ends here (step 0 counts as one)."""
        epoch, rest = divmod(step, self.per_epoch)
        if rest or (self.looks is not None and epoch not in self.looks):
            return
        seen = self.tracker.record(model, step)
        network = model.recert_network()
        self.rows.append(
            {
                "epoch": epoch,
                **kept(seen),
                **normalisers(network, self.held.max_length, float(self.held.input_bound or 1.0)),
                **errors(network, self.held, self.clean),
                **({} if self.more is None else self.more(network)),
            }
        )


def kept(row: Mapping[str, Any]) -> Result:
    """Of a tracker's row: errors, quantiles, the best γ, bounds. Numbers only, None for none."""
    values = {name.removeprefix(LOG10): row.get(LOG10 + name) for name in BOUNDS}
    return {
        "training error": row["error"],
        **{name: row[f"margin.{name}"] for name in QUANTILES},
        "gamma": row["gamma"],
        "hard risk": row["hard_risk"],
        "beta": row.get("beta"),
        **{f"log10 {name}": _finite(values[name]) for name in BOUNDS},
    }


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def normalisers(network: Network, steps: int, input_bound: float) -> dict[str, float]:
    """What margins are measured against, over the class of the network's own norms.

    Args:
        network: at its present weights.
        steps: T.
        input_bound: B_x.

    Returns:
        ``range`` √2·N_y, the largest margin that the class allows; ``sensitivity``
        √2·Σ_k Λ_k c_k, by how much the margin may fall if every block moves by its own norm.
    """
    form = network.margin_form()
    caps, _, _ = class_of(form, None)
    found = sensitivities(form, [caps], steps=steps, input_bound=input_bound)
    moved = sum(math.exp(float(found.log_lambda[k][0])) * caps[k].norm for k in found.blocks)
    return {
        "range": math.sqrt(2.0) * math.exp(float(found.log_norm[0])),
        "sensitivity": math.sqrt(2.0) * moved,
    }


def errors(network: Network, held: SequenceData, clean: SequenceData) -> dict[str, float]:
    """Errors on units held back, with noisy and with true labels."""
    from recert.workflows.networks import error_of

    error = error_of(network, held)
    return {
        "test error": error,
        "clean test error": error if held is clean else error_of(network, clean),
    }


def noisy(data: SequenceData, share: float, *, seed: int, stream: int) -> SequenceData:
    """The data with a share of labels drawn afresh, evenly among all K classes.

    A label that is drawn afresh may come out as it was, with probability 1/K.

    Args:
        data: labels (m,).
        share: of labels, between 0 and 1; each is drawn afresh with this probability.
        seed: of the run.
        stream: another number for other random numbers.
    """
    if share == 0.0:
        return data
    generator = np.random.Generator(np.random.PCG64([_NOISE, stream, seed]))
    fresh = generator.integers(0, data.K, data.m)
    chosen = generator.random(data.m) < share
    return replace(data, labels=np.where(chosen, fresh, data.labels).astype(data.labels.dtype))


def watched(
    sample: SequenceData,
    clean: SequenceData,
    *,
    d_h: int,
    noise: float,
    seed: int,
    options: Mapping[str, Any],
    progress: Any = False,
    cell: str = "vanilla",
    looks: Collection[int] | None = None,
    ball: bool = False,
) -> Result:
    """Train one free network by Adam and cross-entropy, and give its rows.

    Args:
        sample: units to train on, with true labels.
        clean: units held back, with true labels.
        d_h: hidden units.
        noise: share of labels drawn afresh, in training and held back alike.
        seed: of noise, weights and batches.
        options: epochs, batch, learning_rate, delta.
        progress: as for `recert.training.train`.
        cell: of the recipe.
        looks: epochs after which the network is looked at; None for all.
        ball: whether rows have the columns of `open2_ball.best`, too.
    """
    from recert.training import Recipe, Tracker, train

    sample = noisy(sample, noise, seed=seed, stream=0)
    held = noisy(clean, noise, seed=seed, stream=1)
    batch = min(options["batch"], sample.m)
    tracker = Tracker(sample, bounds=BOUNDS, delta=options["delta"])
    more = partial(best, sample=sample, delta=options["delta"]) if ball else None
    watch = Watch(tracker, sample.m // batch, held, clean, looks, more)
    recipe = Recipe(
        d_h=d_h, cell=cell, epochs=options["epochs"], batch=batch,
        learning_rate=options["learning_rate"],
    )  # fmt: skip
    train(
        sample, recipe, seed=seed, progress=progress, tracker=watch,
        description=f"d_h = {d_h}, noise {noise:g}",
    )  # fmt: skip
    return {"rows": watch.rows}


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
        "ball shortfall": _finite_value(missing[i]),
        "slack": _finite_value(setting.table.slack),
    }


def _finite_value(value: float) -> float | None:
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
