"""Training a recurrent network on a `SequenceData`: one function, the same numbers every run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from recert.data.dataset import SequenceData
from recert.errors import InputError
from recert.training import devices
from recert.training.architecture import Architecture, Part
from recert.training.model import RecurrentClassifier
from recert.training.projections import enforce, project, resolve
from recert.training.recipes import ARCHITECTURE, Recipe
from recert.utils import consoles
from recert.utils.validation import Brief

_RISE = 50  # steps over which the learning rate rises to its peak


@dataclass(frozen=True, eq=False, repr=False)
class TrainedModel(Brief):
    """What a training run leaves.

    Attributes:
        model: in float64, in evaluation mode; its weights are exactly `weights`.
        weights: float64 arrays by the names of the Network's blocks, strictly inside the caps.
        caps: the recipe's caps by block name; empty if it has none.
        recipe: what it was trained by.
        seed: of initial weights and batches.
        losses: mean training loss of each epoch.
        seconds: wall time, not reproducible.

    """

    model: RecurrentClassifier
    weights: dict[str, np.ndarray]
    caps: dict[str, float]
    recipe: Recipe
    seed: int
    losses: tuple[float, ...]
    seconds: float


def train(
    data: SequenceData,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    progress: Progress | bool = False,
    description: str = "training",
    tracker: Callable[..., Any] | None = None,
    device: str | None = None,
    **changes: Any,
) -> TrainedModel:
    """Train on all of `data` by `recipe`; the loss is read at the last valid step, or at each one.

    Labels (m,) are compared at the last valid step, labels (m, T) at every valid step. Arithmetic
    is float32 on one thread, randomness comes from `seed` alone, so a machine repeats its numbers.
    Nothing is written to disk; an interrupt leaves nothing behind.

    Args:
        data: the sample, every sequence of which is used.
        recipe: how; `Recipe()` by default.
        seed: of initial weights and batches, at least 0.
        progress: True draws a bar of its own, a rich `Progress` gets a task in it.
        description: the task's name beside the bar.
        tracker: called as ``tracker(model, step, loss=…)`` before the first step (0, no loss) and
            after every one, such as a `recert.training.Tracker`.
        device: torch device of the arithmetic, None the one of `recert.training.devices`; the
            trained model is on the CPU.
        changes: fields of the recipe to replace, such as d_h=8 or epochs=3.

    Raises:
        InputError: a recipe field or the seed is out of range, or the loss stopped being finite.

    """
    recipe = _changed(recipe or Recipe(), changes)
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}; use an integer from 0 to 2^63 − 1")
    began = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    with devices.arithmetic(device) as where, progress_bar(progress) as bar:
        task = None if bar is None else bar.add_task(description, total=recipe.epochs)
        model = model_of(data, recipe)
        caps = resolve(recipe.caps, model.architecture.parts())
        draw(model, caps, generator)
        model.to(where)
        losses = []
        for loss in _epochs(model, data, recipe, caps, generator, tracker):
            losses.append(loss)
            if bar is not None and task is not None:
                bar.advance(task)
        weights = _finish(model, caps)
    seconds = time.perf_counter() - began
    return TrainedModel(model, weights, caps, recipe, seed, tuple(losses), seconds)


@torch.no_grad()
def outputs(model: RecurrentClassifier, data: SequenceData, batch: int = 8192) -> np.ndarray:
    """Outputs (m, K) of the model at the last valid step of each sequence."""
    sequences, _, lengths = tensors(model, data)
    found = []
    for start in range(0, data.m, batch):
        chosen = slice(start, start + batch)
        found.append(model.head(model.last_states(sequences[:, chosen], lengths[chosen])))
    return torch.cat(found).cpu().numpy()


def error_rate(model: RecurrentClassifier, data: SequenceData) -> float:
    """Share of sequences whose label does not win strictly at the last step (labels (m,))."""
    if data.labels.ndim != 1:
        raise InputError("error_rate needs one label per sequence; use the margins of a Network")
    y = torch.from_numpy(outputs(model, data))
    return float((margins(y, torch.from_numpy(data.labels.astype(np.int64))) <= 0).double().mean())


def margin_loss(margins: Tensor, recipe: Recipe, done: float) -> Tensor:
    """The mean smooth step 1[M ≤ γ] when the share `done` of the run is over.

    Its width shrinks linearly from the first to the second `softness`. At first it is a softplus,
    whose gradient reaches every mistake; towards the end a sigmoid, close to what the certificate
    counts.
    """
    start, end = recipe.softness
    width = recipe.margin * (start + (end - start) * done)
    z = (recipe.margin - margins) / width
    convex = max(0.0, 1.0 - done / recipe.convex_part)
    step = torch.sigmoid(z)
    return (
        convex * nn.functional.softplus(z) + (1.0 - convex) * step if convex > 0 else step
    ).mean()


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Rate at `step` of `steps`: a linear rise over the first 50, times half a cosine to 0."""
    rise = min(1.0, (step + 1) / _RISE)
    return recipe.learning_rate * rise * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    try:
        return replace(recipe, **changes)
    except TypeError as error:
        known = ", ".join(Recipe.__dataclass_fields__)
        raise InputError(f"unknown recipe field among {sorted(changes)}; use {known}") from error


def model_of(data: SequenceData, recipe: Recipe) -> RecurrentClassifier:
    """A module of the recipe's architecture for such data."""
    final = recipe.bidirectional and data.labels.ndim == 1
    try:
        return RecurrentClassifier(
            data.input_dim,
            recipe.d_h,
            data.K,
            tokens=data.input_kind == "tokens",
            read="final" if final else "step",
            **{name: getattr(recipe, name) for name in ARCHITECTURE},
        ).float()
    except RuntimeError:  # what torch says where memory does not suffice
        raise InputError(
            f"a network of {recipe.d_h:,} hidden units does not fit into memory; use fewer"
        ) from None


@torch.no_grad()
def draw(model: RecurrentClassifier, caps: dict[str, float], generator: torch.Generator) -> None:
    """Initial weights, inside the caps."""
    blocks, parts = model.blocks(), list(model.architecture.parts())
    drawn = [torch.randn(part.shape, generator=generator) for part in parts]
    for part, numbers in zip(parts, drawn, strict=True):
        blocks[part.name].copy_(_initial(part, numbers, model.architecture))
    project(blocks, parts, caps)


def _initial(part: Part, draw: Tensor, plan: Architecture) -> Tensor:
    """What standard normal numbers become as initial weights of a block."""
    if part.norm == "operator":
        return 0.7 * draw * (part.shape[1] * part.shape[2]) ** -0.5
    if part.letter == "U":
        return 0.7 * torch.linalg.qr(draw)[0]
    if part.letter == "W":
        width = plan.d_h if part.norm == "column" else part.shape[1]
        return 0.5 * width**-0.5 * draw
    if part.letter == "E":
        return part.shape[0] ** -0.5 * draw
    if part.letter == "V":
        return part.shape[1] ** -0.5 * draw
    return torch.zeros_like(draw)


def _epochs(
    model: RecurrentClassifier,
    data: SequenceData,
    recipe: Recipe,
    caps: dict[str, float],
    generator: torch.Generator,
    tracker: Callable[..., Any] | None = None,
) -> Iterator[float]:
    """Train in place; yield each epoch's mean loss."""
    blocks, parts = model.blocks(), list(model.architecture.parts())
    optimiser = torch.optim.Adam(list(blocks.values()), betas=(0.9, 0.99))
    sequences, labels, lengths = tensors(model, data)
    batch = min(recipe.batch, data.m)
    per_epoch = data.m // batch
    steps = recipe.epochs * per_epoch
    if tracker is not None:
        tracker(model, 0)
    for epoch in range(recipe.epochs):
        order = torch.randperm(data.m, generator=generator)
        total = 0.0
        for i in range(per_epoch):
            step = epoch * per_epoch + i
            chosen = order[i * batch : (i + 1) * batch]
            y, target = labelled_outputs(
                model, sequences[:, chosen], labels[chosen], lengths[chosen]
            )
            loss = _loss(y, target, recipe, step / steps)
            optimiser.zero_grad()
            loss.backward()
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(list(blocks.values()), recipe.clip)
            optimiser.param_groups[0]["lr"] = learning_rate(recipe, step, steps)
            optimiser.step()
            project(blocks, parts, caps)
            total += float(loss.detach())
            if tracker is not None:
                tracker(model, step + 1, loss=float(loss.detach()))
        if not math.isfinite(total):
            raise InputError(f"the loss is not finite in epoch {epoch + 1}; lower learning_rate")
        yield total / per_epoch


def labelled_outputs(
    model: RecurrentClassifier, x: Tensor, labels: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs (n, K) at the steps that have labels, and those labels (n,)."""
    if labels.dim() == 1:
        return model.head(model.last_states(x, lengths)), labels
    valid = labels.T >= 0
    return model.head(model.states(x, lengths)[valid]), labels.T[valid]


def _loss(y: Tensor, target: Tensor, recipe: Recipe, done: float) -> Tensor:
    if recipe.loss == "cross_entropy":
        return nn.functional.cross_entropy(y, target)
    return margin_loss(margins(y, target), recipe, done)


def margins(y: Tensor, target: Tensor) -> Tensor:
    """Margins (n,) of outputs (n, K)."""
    index = target.unsqueeze(1)
    others = y.scatter(1, index, -math.inf).amax(dim=1)
    return y.gather(1, index).squeeze(1) - others


def _finish(model: RecurrentClassifier, caps: dict[str, float]) -> dict[str, np.ndarray]:
    """Turn the model to float64, strictly inside the caps, and return its weights."""
    model.cpu().double().eval()
    blocks = model.blocks()
    raw = {name: block.detach().numpy() for name, block in blocks.items()}
    weights = enforce(raw, list(model.architecture.parts()), caps)
    with torch.no_grad():
        for name, value in weights.items():
            blocks[name].copy_(torch.from_numpy(value))
    return weights


def time_first(data: SequenceData) -> Tensor:
    """Sequences as `RecurrentClassifier.states` reads them."""
    if data.input_kind == "real":
        return torch.from_numpy(np.ascontiguousarray(data.sequences.swapaxes(0, 1)))
    tokens = np.where(data.sequences < 0, data.input_dim, data.sequences).astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(tokens.T))


def input_type(model: RecurrentClassifier) -> torch.dtype:
    """What the model reads: integers, or numbers as its weights."""
    return torch.int64 if model.tokens else model.weights["V"].dtype


def tensors(model: RecurrentClassifier, data: SequenceData) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences (T, m, …) of the model's input type, labels and lengths, on its device."""
    device = model.weights["V"].device
    sequences = time_first(data).to(device, input_type(model))
    labels = torch.from_numpy(data.labels.astype(np.int64)).to(device)
    return sequences, labels, torch.from_numpy(data.lengths.astype(np.int64)).to(device)


def progress_bar(progress: Progress | bool) -> Any:
    """A context whose value is the bar to use: the one given, a new one, or None."""
    if isinstance(progress, Progress):
        return nullcontext(progress)
    if not progress:
        return nullcontext(None)
    return consoles.progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )
