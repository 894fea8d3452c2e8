"""Training a prior on the first part of a sample and a posterior on the bound itself (theory, 5b).

Everything about the prior, its centre w_0, its scale s_0, the temperature λ of the statement, is
found on the first m_0 units alone. A rehearsal on three quarters of them tells from the last
quarter which of some candidates does best, how large an error to expect and how much noise the
weights bear; then w_0 is trained on all of them. The posterior starts as the prior and
descends, on the units that the bound counts,

    (smooth error of networks that are drawn) + KL/(λ m'),

which is what the bound at temperature λ is made of.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from recert import arguments
from recert.choices import SCALE_GRID
from recert.compression.program import with_values
from recert.data.dataset import SequenceData
from recert.errors import InputError
from recert.gibbs import fixed_losses, gibbs_losses, part_digest, read
from recert.gibbs.roles import Part
from recert.network import Network
from recert.posterior import Posterior, Prior, around
from recert.sample import At, Reading
from recert.theorems.pac_bayes import temperature_for
from recert.training.loop import (
    _bar,
    _read,
    draw,
    input_type,
    learning_rate,
    margins,
    model_of,
    one_thread,
    time_first,
)
from recert.training.model import RecurrentClassifier
from recert.training.posterior_recipe import Candidate, PosteriorRecipe
from recert.training.recipes import Recipe

# Nats beside ln(1/δ) for which the temperature is chosen: shares of δ, and what a posterior moves.
EXPECTED_NATS = 1.0
# Candidates for the prior's scale: 2^(j/8).
SCALES = range(-96, 17, 4)
# Units of the rehearsal's last quarter on which scales are tried.
MOST_TRIED = 2048
PLACEHOLDER = "0" * 64


@dataclass(frozen=True, eq=False)
class TrainedPosterior:
    """What a run leaves.

    Attributes:
        posterior: with its prior.
        recipe: what it was trained by.
        seed: of initial weights, batches and draws.
        chosen: the candidate that the rehearsal chose.
        rehearsed_error: of its network, on units of the prior's part that it had not seen.
        seconds: wall time, not reproducible.
    """

    posterior: Posterior
    recipe: PosteriorRecipe
    seed: int
    chosen: Candidate
    rehearsed_error: float
    seconds: float


def train_posterior(
    data: SequenceData,
    recipe: PosteriorRecipe | None = None,
    *,
    seed: int = 0,
    delta: float = 0.01,
    progress: Progress | bool = False,
) -> TrainedPosterior:
    """Train a prior on the first units of ``data`` and a posterior on all.

    Labels (m,) are compared at the last valid step, labels (m, T) at every valid step. Arithmetic
    is float32 on one thread, randomness comes from ``seed`` alone.

    Args:
        data: the sample; its first units (a share of the recipe) make the prior.
        recipe: how; `PosteriorRecipe()` by default.
        seed: at least 0.
        delta: failure probability at which the posterior is to be certified; it bears on the
            temperature alone.
        progress: True draws a bar of its own, a rich `Progress` gets a task in it.

    Raises:
        InputError: there are too few units, or the loss stopped being finite.
    """
    recipe = recipe or PosteriorRecipe()
    seed, delta = arguments.whole("seed", seed, least=0), arguments.probability("delta", delta)
    m_0 = math.ceil(recipe.share * data.units)
    if m_0 < 8 or data.units - m_0 < 8:
        raise InputError(
            f"{data.units} units leave {m_0} for the prior and {data.units - m_0} for the bound; "
            "either needs at least 8: take more units or another share"
        )
    began = time.perf_counter()
    own, rest = data.split(m_0)
    at: At = "last" if data.labels.ndim == 1 else "average"
    total = (len(recipe.candidates) + 1) * recipe.prior.epochs + recipe.epochs
    with one_thread(), _bar(progress) as bar:
        task = None if bar is None else bar.add_task("training", total=total)

        def step() -> None:
            if bar is not None and task is not None:
                bar.advance(task)

        best = _rehearse(own, recipe, seed, at, step)
        scale = _bearable(best, own, recipe, seed, at)
        centre = _train_centre(own, recipe, best.candidate, seed, step)
        start = around(
            centre, m_0, part_digest(_part(own, at)), scale,
            temperature=temperature_for(best.error, _nats(data, delta), data.units - m_0),
        )  # fmt: skip
        found = _descend(start, rest, recipe, best.candidate.applied(recipe.prior), seed, step)
    seconds = time.perf_counter() - began
    return TrainedPosterior(found, recipe, seed, best.candidate, best.error, seconds)


# The prior.


def _part(data: SequenceData, at: At) -> Part:
    kind = "onehot" if data.input_kind == "tokens" else "real"
    reading = Reading(kind, data.input_dim, data.K, at, data.max_length)
    part, _ = read(data.sequences, data.labels, reading, lengths=data.lengths, groups=data.groups)
    return part


@dataclass(frozen=True, eq=False)
class _Rehearsal:
    """A candidate, its network, and how that does on units that it has not seen."""

    candidate: Candidate
    network: Network
    error: float


def _rehearse(
    own: SequenceData, recipe: PosteriorRecipe, seed: int, at: At, step: Any
) -> _Rehearsal:
    """The best candidate, trained on three quarters and tried on the last quarter."""
    training, trial = _quarters(own)
    part = _part(trial, at)
    found = []
    for candidate in recipe.candidates:
        network = _train_centre(training, recipe, candidate, seed, step)
        error = float(fixed_losses(network, part, at).mean())
        found.append(_Rehearsal(candidate, network, error))
    return min(found, key=lambda rehearsal: rehearsal.error)


def _quarters(own: SequenceData) -> tuple[SequenceData, SequenceData]:
    return own.split(own.units - math.ceil(own.units / 4))


def _nats(data: SequenceData, delta: float) -> float:
    """What the statement's confidence and choices are expected to cost."""
    encodings = data.encoding if isinstance(data.encoding, int) else 1
    return EXPECTED_NATS - math.log(delta) + math.log(encodings)


def _bearable(
    best: _Rehearsal, own: SequenceData, recipe: PosteriorRecipe, seed: int, at: At
) -> float:
    """The largest scale on the grid at which drawn networks err as the mean one on all but few."""
    trial = _quarters(own)[1]
    few = _part(trial.split(MOST_TRIED)[0] if trial.units > MOST_TRIED else trial, at)
    still = around(best.network, 1, PLACEHOLDER, 1e-18)
    calm = gibbs_losses(still, few.batch, at, repetitions=1, seed=seed)
    low, high = 0, len(SCALES)
    while high - low > 1:
        middle = (low + high) // 2
        noisy = around(best.network, 1, PLACEHOLDER, SCALE_GRID.value(SCALES[middle]))
        losses = gibbs_losses(noisy, few.batch, at, repetitions=1, seed=seed, stream="trial")
        if float(np.abs(losses - calm).mean()) <= recipe.disagreement:
            low = middle
        else:
            high = middle
    return SCALE_GRID.value(SCALES[low])


def _train_centre(
    data: SequenceData,
    recipe: PosteriorRecipe,
    candidate: Candidate,
    seed: int,
    step: Any,
) -> Network:
    """A network trained by cross-entropy with weight decay, its weights float32 numbers."""
    prior = candidate.applied(recipe.prior)
    generator = torch.Generator().manual_seed(seed)
    model = model_of(data, prior)
    draw(model, {}, generator)
    blocks = list(model.blocks().values())
    optimiser = torch.optim.AdamW(blocks, betas=(0.9, 0.99), weight_decay=candidate.weight_decay)
    sequences, labels, lengths = _tensors(model, data)
    batch = min(prior.batch, data.m)
    steps = prior.epochs * (data.m // batch)
    for epoch, done, chosen in _batches(data.m, batch, prior.epochs, generator):
        y, target = _read(model, sequences[:, chosen], labels[chosen], lengths[chosen])
        loss = nn.functional.cross_entropy(y, target, label_smoothing=candidate.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        if prior.clip is not None:
            nn.utils.clip_grad_norm_(blocks, prior.clip)
        optimiser.param_groups[0]["lr"] = learning_rate(prior, done, steps)
        optimiser.step()
        if (done + 1) % (steps // prior.epochs) == 0:
            if not math.isfinite(float(loss.detach())):
                raise InputError(
                    f"the loss is not finite in epoch {epoch + 1}; lower learning_rate"
                )
            step()
    return model.eval().recert_network()


def _tensors(model: RecurrentClassifier, data: SequenceData) -> tuple[Tensor, Tensor, Tensor]:
    sequences = time_first(data).to(input_type(model))
    labels = torch.from_numpy(data.labels.astype(np.int64))
    return sequences, labels, torch.from_numpy(data.lengths.astype(np.int64))


def _batches(
    m: int, batch: int, epochs: int, generator: torch.Generator
) -> Iterator[tuple[int, int, Tensor]]:
    """(epoch, steps done before, indices) of every step."""
    per_epoch = m // batch
    for epoch in range(epochs):
        order = torch.randperm(m, generator=generator)
        for i in range(per_epoch):
            yield epoch, epoch * per_epoch + i, order[i * batch : (i + 1) * batch]


# The posterior.


class _Reader(nn.Module):
    """Outputs at the steps that have labels, for weights that are put in its model's place."""

    def __init__(self, model: RecurrentClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, labels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return _read(self.model, x, labels, lengths)


def _descend(
    start: Posterior,
    rest: SequenceData,
    recipe: PosteriorRecipe,
    shape: Recipe,
    seed: int,
    step: Any,
) -> Posterior:
    """Descend on the bound; means move in units of s_0, the scale of a block as a whole."""
    prior, temperature = start.prior, start.prior.temperature
    assert temperature is not None
    if recipe.epochs == 0:
        return start
    generator = torch.Generator().manual_seed(seed + 1)
    model = model_of(rest, shape)
    reader = _Reader(model)
    centre = {
        block.name: torch.from_numpy(block.value.astype(np.float32))
        for block in prior.centre.blocks()
    }
    moves = {name: torch.zeros_like(w, requires_grad=True) for name, w in centre.items()}
    widths = {name: torch.zeros(1, requires_grad=True) for name in centre}
    optimiser = torch.optim.Adam(
        [{"params": list(moves.values())}, {"params": list(widths.values())}], betas=(0.9, 0.99)
    )
    sequences, labels, lengths = _tensors(model, rest)
    batch = min(recipe.batch, rest.m)
    steps = recipe.epochs * (rest.m // batch)
    price = 1.0 / (temperature * rest.units)
    pace = replace(shape, learning_rate=recipe.rate)
    for _, done, chosen in _batches(rest.m, batch, recipe.epochs, generator):
        drawn = {
            f"model.weights.{name}": w
            + prior.s_0
            * (moves[name] + widths[name].exp() * torch.randn(w.shape, generator=generator))
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
            step()
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
        move = moves[block.name].detach().numpy().astype(np.float64)
        if not np.isfinite(move).all():
            raise InputError("the posterior's training diverged; lower its rate")
        keep = np.ones(block.shape[-1])
        keep[list(block.zero_columns)] = 0.0
        values[block.name] = block.value + prior.s_0 * move * keep
        scales[block.name] = np.asarray(math.log(prior.s_0) + float(widths[block.name].detach()))
    return Posterior(with_values(prior.centre, values), scales, prior)
