"""Training a prior on the first part of a sample and a posterior on the bound itself (theory, 5b).

Everything about the prior, its centre w_0, its scale s_0, the temperature λ of the statement, is
found on the first m_0 units alone (`recert.training.prior`). The posterior starts as the prior and
descends, on the units that the bound counts,

    (smooth error of networks that are drawn) + KL/(λ m'),

which is what the bound at temperature λ is made of.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from recert.compression.program import with_values
from recert.data.dataset import SequenceData
from recert.errors import InputError
from recert.pac_bayes import MONTE_CARLO_SHARE, part_digest
from recert.pac_bayes.bounds import temperature_for
from recert.pac_bayes.posterior import Posterior, Prior, around
from recert.training import devices
from recert.training import prior as priors
from recert.training.loop import (
    labelled_outputs,
    learning_rate,
    margins,
    model_of,
    progress_bar,
    tensors,
)
from recert.training.model import RecurrentClassifier
from recert.training.prior import Step, prior_units
from recert.training.recipes import PosteriorRecipe, Recipe, RecipeCandidate
from recert.utils import validation

# Nats beside ln(1/δ) for which the temperature is chosen: shares of δ, and what a posterior moves.
EXPECTED_NATS = 1.0


@dataclass(frozen=True, eq=False)
class TrainedPosterior:
    """What a run leaves.

    Attributes:
        posterior: with its prior.
        data: the sample in the encoding that the rehearsal chose.
        recipe: what it was trained by.
        seed: of initial weights, batches and draws.
        chosen: the candidate that the rehearsal chose.
        rehearsed_error: what the prior's units say of its centre's error.
        seconds: wall time, not reproducible.
    """

    posterior: Posterior
    data: SequenceData
    recipe: PosteriorRecipe
    seed: int
    chosen: RecipeCandidate
    rehearsed_error: float
    seconds: float


def train_posterior(
    data: SequenceData,
    recipe: PosteriorRecipe | None = None,
    *,
    views: Sequence[SequenceData] = (),
    seed: int = 0,
    delta: float = 0.01,
    tried: int = 1,
    processes: int = 1,
    device: str | None = None,
    progress: Progress | bool = False,
) -> TrainedPosterior:
    """Train a prior on the first units of ``data`` and a posterior on all.

    Labels (m,) are compared at the last valid step, labels (m, T) at every valid step. Arithmetic
    is float32 on one thread, randomness comes from ``seed`` alone.

    Args:
        data: the sample; its first units make the prior, a share of the recipe or as many as a
            pilot among them advises.
        recipe: how; `PosteriorRecipe()` by default.
        views: the same units in the same order in other encodings, say cut to other lengths. The
            rehearsal chooses among these and ``data`` by the first candidate, on the prior's units
            alone; so where they are all that was chosen among, the encoding is "fixed" for the
            certificate.
        seed: at least 0.
        delta: failure probability at which the posterior is to be certified.
        tried: as it will be declared for the certificate; like ``delta`` it bears on the
            temperature alone.
        processes: trainings of the rehearsal at once. More than one are begun as fresh processes,
            so that a script must have its work under ``if __name__ == "__main__":``.
        device: torch device of the arithmetic, None the one of `recert.training.devices`.
        progress: True draws a bar of its own, a rich `Progress` gets a task in it.

    Raises:
        InputError: there are too few units, the views are not of one sample, or the loss stopped
            being finite.
    """
    recipe = recipe or PosteriorRecipe()
    seed, delta = validation.whole("seed", seed, least=0), validation.probability("delta", delta)
    tried, processes = validation.whole("tried", tried), validation.whole("processes", processes)
    first = math.ceil((recipe.pilot if recipe.share is None else recipe.share) * data.units)
    if first < 8 or data.units - first < 8:
        raise InputError(
            f"{data.units} units leave {first} for the prior and {data.units - first} for the "
            "bound; either needs at least 8: take more units or another share"
        )
    _check_views(data, views)
    began = time.perf_counter()
    everything = (data, *views)
    pilots = [view.split(first)[0] for view in everything]
    with devices.arithmetic(device), progress_bar(progress) as bar:
        task = None if bar is None else bar.add_task("training", total=_epochs(recipe, len(views)))

        def step(epochs: int) -> None:
            if bar is not None and task is not None:
                bar.advance(task, epochs)

        best = priors.rehearse(pilots, recipe, seed, processes, step)
        whole, pilot = everything[best.view], pilots[best.view]
        nats = _nats(whole, delta, tried, chosen=bool(views))
        stages = _Stages(best, pilot, whole, recipe, seed, step)
        m_0, error = stages.units(nats, MONTE_CARLO_SHARE * delta)
        start = stages.prior(m_0, error, nats)
        rest = whole.split(m_0)[1]
        found = _descend(start, rest, recipe, best.candidate.applied(recipe.prior), seed, step)
    seconds = time.perf_counter() - began
    return TrainedPosterior(found, whole, recipe, seed, best.candidate, error, seconds)


@dataclass(frozen=True, eq=False)
class _Stages:
    """What follows the rehearsal and comes before the descent, found on the first units alone.

    Attributes:
        best: what the rehearsal chose.
        pilot: the units that it saw, in the encoding that it chose.
        whole: all units in that encoding.
        recipe: how.
        seed: of initial weights, batches and draws.
        step: told of epochs that are done.
    """

    best: priors.Rehearsal
    pilot: SequenceData
    whole: SequenceData
    recipe: PosteriorRecipe
    seed: int
    step: Step

    def units(self, nats: float, delta: float) -> tuple[int, float]:
        """m_0, the units that make the prior, and the error that they tell of its centre.

        Args:
            nats: that confidence and choices cost.
            delta: failure probability of the error of draws.
        """
        recipe = self.recipe
        if recipe.share is not None:
            return self.pilot.units, self.best.error
        curve = priors.curve_of(self.best, self.pilot, recipe, self.seed, self.step)
        m_0 = prior_units(
            curve, self.whole.units, self.pilot.units, nats=nats, closeness=recipe.closeness,
            disagreement=recipe.disagreement, delta=delta,
        )  # fmt: skip
        return m_0, curve.error(m_0)

    def prior(self, m_0: int, error: float, nats: float) -> Posterior:
        """The posterior that is the prior; its temperature expects this error and these nats."""
        own = self.whole.split(m_0)[0]
        scale = priors.bearable_scale(self.best, self.pilot, self.recipe, self.seed)
        centre = priors.train_centre(own, self.recipe, self.best.candidate, self.seed, self.step)
        temperature = self.recipe.temperature or temperature_for(
            error, nats, self.whole.units - m_0
        )
        digest = part_digest(priors.part_of(own))
        return around(centre, m_0, digest, scale, temperature=temperature)


def _epochs(recipe: PosteriorRecipe, views: int) -> int:
    """How many there are at least, for the bar."""
    usual = recipe.candidates[0].epochs
    curve = 2 * usual if recipe.share is None else 0
    return priors.rehearsed_epochs(recipe, 1 + views) + curve + usual + recipe.epochs


def _check_views(data: SequenceData, views: Sequence[SequenceData]) -> None:
    for view in views:
        alike = view.labels.shape == data.labels.shape and (view.labels == data.labels).all()
        groups = data.groups is None and view.groups is None
        if data.groups is not None and view.groups is not None:
            groups = np.array_equal(view.groups, data.groups)
        if not (alike and groups and view.classes == data.classes):
            raise InputError(
                "views are not of one sample: they need the same units, labels and groups in the "
                "same order"
            )


def _nats(data: SequenceData, delta: float, tried: int, *, chosen: bool) -> float:
    """What the statement's confidence and choices are expected to cost."""
    encodings = data.encoding if isinstance(data.encoding, int) and not chosen else 1
    return EXPECTED_NATS - math.log(delta) + math.log(encodings) + math.log(tried)


# The posterior.


class _Reader(nn.Module):
    """Outputs at the steps that have labels, for weights that are put in its model's place."""

    def __init__(self, model: RecurrentClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, labels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return labelled_outputs(self.model, x, labels, lengths)


def _descend(
    start: Posterior,
    rest: SequenceData,
    recipe: PosteriorRecipe,
    shape: Recipe,
    seed: int,
    step: Step,
) -> Posterior:
    """Descend on the bound; means move in units of s_0, the scale of a block as a whole."""
    prior, temperature = start.prior, start.prior.temperature
    assert temperature is not None
    if recipe.epochs == 0:
        return start
    generator = torch.Generator().manual_seed(seed + 1)
    where = devices.current()
    model = model_of(rest, shape).to(where)
    reader = _Reader(model)
    centre = {
        block.name: torch.from_numpy(block.value.astype(np.float32)).to(where)
        for block in prior.centre.blocks()
    }
    moves = {name: torch.zeros_like(w, requires_grad=True) for name, w in centre.items()}
    widths = {name: torch.zeros(1, device=where, requires_grad=True) for name in centre}
    optimiser = torch.optim.Adam(
        [{"params": list(moves.values())}, {"params": list(widths.values())}], betas=(0.9, 0.99)
    )
    sequences, labels, lengths = tensors(model, rest)
    batch = min(recipe.batch, rest.m)
    steps = recipe.epochs * (rest.m // batch)
    price = 1.0 / (temperature * rest.units)
    pace = replace(shape, learning_rate=recipe.rate)
    for _, done, chosen in priors.batches(rest.m, batch, recipe.epochs, generator):
        noise = {n: torch.randn(w.shape, generator=generator).to(where) for n, w in centre.items()}
        drawn = {
            f"model.weights.{name}": w
            + prior.s_0 * (moves[name] + widths[name].exp() * noise[name])
            for name, w in centre.items()
        }
        y, target = torch.func.functional_call(
            reader, drawn, (sequences[:, chosen], labels[chosen], lengths[chosen])
        )
        loss = torch.sigmoid(-margins(y, target) / recipe.width).mean()
        objective = loss + price * _divergence(moves, widths)
        optimiser.zero_grad()
        objective.backward()
        rate = learning_rate(pace, done, steps)
        for group, factor in zip(optimiser.param_groups, (1.0, 0.1), strict=True):
            group["lr"] = rate * factor
        optimiser.step()
        if (done + 1) % (steps // recipe.epochs) == 0:
            step(1)
    return _posterior(start, moves, widths)


def _divergence(moves: dict[str, Tensor], widths: dict[str, Tensor]) -> Tensor:
    """KL in nats, ½ Σ [e^{2ρ} − 1 − 2ρ + move²]."""
    terms = [
        0.5 * (moves[name].square().sum() + moves[name].numel() * (torch.expm1(2 * r) - 2 * r))
        for name, r in widths.items()
    ]
    return torch.cat(terms).sum()


def _posterior(start: Posterior, moves: dict[str, Tensor], widths: dict[str, Tensor]) -> Posterior:
    prior: Prior = start.prior
    values, scales = {}, {}
    for block in prior.centre.blocks():
        move = moves[block.name].detach().cpu().numpy().astype(np.float64)
        if not np.isfinite(move).all():
            raise InputError("the posterior's training diverged; lower its rate")
        keep = np.ones(block.shape[-1])
        keep[list(block.zero_columns)] = 0.0
        values[block.name] = block.value + prior.s_0 * move * keep
        scales[block.name] = np.asarray(math.log(prior.s_0) + float(widths[block.name].detach()))
    return Posterior(with_values(prior.centre, values), scales, prior)
