"""A network watched while it is trained: margins, their best γ, norms, errors, epoch by epoch.

All numbers are monitoring. The tracker's margin ball is that of the class of the norms as they are
at that epoch, evaluated on the sample that is trained on; that it was looked at at many epochs is
not paid for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from recert.caps import class_of
from recert.data import SequenceData
from recert.network import Network
from recert.reproduce import open2_ball
from recert.reproduce.study import Result
from recert.sensitivities import sensitivities

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
    from recert.experiments.training_runs import error_of

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
    more = partial(open2_ball.best, sample=sample, delta=options["delta"]) if ball else None
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
