"""Training at a constant step size by one of several optimisers, watched at chosen steps.

`recert.training.train` lowers its rate and cuts gradients off; here nothing comes between the
optimiser and the weights but the constraint that was asked for, so that what the optimiser does to
the spectra can be seen. Constraints are on the recurrent blocks U; decay is on every block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recert.data.dataset import SequenceData
from recert.errors import InputError
from recert.training import devices
from recert.training.loop import draw, model_of, tensors
from recert.training.model import RecurrentClassifier
from recert.training.projections import project_spectral
from recert.training.recipes import Recipe
from recert.utils import validation

OPTIMISERS = ("sgd", "momentum", "adam")
CONSTRAINTS = ("none", "cap", "orthogonal", "decay")
MOMENTUM = 0.9
LARGEST = 3e38

Watch = Callable[[RecurrentClassifier, int], bool]


@dataclass(frozen=True)
class Descent:
    """How to go down.

    Attributes:
        optimiser: "sgd", "momentum" (of `MOMENTUM`) or "adam".
        step_size: the constant learning rate.
        constraint: "none"; "cap": ‖U‖ ≤ `cap`, by projection after each step; "orthogonal": U the
            `cap`-fold of its nearest orthogonal matrix; "decay": `decay`·Σ‖A‖_F² is added to the
            loss, over all blocks A.
        cap: of "cap" and "orthogonal".
        decay: of "decay".
        batch: sequences a step.

    Raises:
        InputError: a value is out of range.
    """

    optimiser: str = "sgd"
    step_size: float = 0.1
    constraint: str = "none"
    cap: float = 1.0
    decay: float = 1e-3
    batch: int = 64

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise InputError(f"optimiser is {self.optimiser!r}; use {', '.join(OPTIMISERS)}")
        if self.constraint not in CONSTRAINTS:
            raise InputError(f"constraint is {self.constraint!r}; use {', '.join(CONSTRAINTS)}")
        for name in ("step_size", "cap", "decay"):
            validation.positive(name, getattr(self, name))
        if self.step_size > LARGEST:
            raise InputError(f"step_size is {self.step_size:g}; float32 ends at {LARGEST:g}")
        validation.whole("batch", self.batch)

    def torch(self, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser; its weight_decay 2·decay is the penalty's gradient."""
        decay = 2.0 * self.decay if self.constraint == "decay" else 0.0
        if self.optimiser == "adam":
            return torch.optim.Adam(weights, lr=self.step_size, weight_decay=decay)
        momentum = MOMENTUM if self.optimiser == "momentum" else 0.0
        return torch.optim.SGD(weights, self.step_size, momentum=momentum, weight_decay=decay)


def descend(
    data: SequenceData,
    recipe: Recipe,
    descent: Descent,
    *,
    steps: int,
    seed: int = 0,
    at: Iterable[int] = (),
    watch: Watch | None = None,
    device: str | None = None,
) -> RecurrentClassifier:
    """Train by cross-entropy, one label a sequence; float32, one thread, nothing random but a seed.

    Args:
        data: the sample, labels (m,).
        recipe: its architecture is used, and nothing else of it.
        descent: how.
        steps: of the optimiser.
        seed: of initial weights and of batches.
        at: steps at which ``watch`` is called; 0 is before the first.
        watch: called with the model and the number of steps done; training ends when it says True.
        device: torch device of the arithmetic, None the one of `recert.training.devices`.

    Returns:
        The model in float64, on the CPU.

    Raises:
        InputError: labels are not one a sequence, or the loss stopped being finite.
    """
    if data.labels.ndim != 1:
        raise InputError("descend needs one label a sequence, (m,)")
    generator = torch.Generator().manual_seed(seed)
    looks = frozenset(at)
    with devices.arithmetic(device) as where:
        model = model_of(data, recipe)
        draw(model, {}, generator)
        model.to(where)
        _keep(model, descent)
        done = watch is not None and 0 in looks and watch(model, 0)
        if not done:
            for step in _steps(model, data, descent, steps, generator):
                if watch is not None and step in looks and watch(model, step):
                    break
    return model.cpu().double().eval()


def _steps(
    model: RecurrentClassifier,
    data: SequenceData,
    descent: Descent,
    steps: int,
    generator: torch.Generator,
) -> Iterator[int]:
    """Train in place; yield the number of steps done, after each."""
    optimiser = descent.torch(model.blocks().values())
    sequences, labels, lengths = tensors(model, data)
    for step, chosen in enumerate(_batches(data.m, descent.batch, steps, generator), start=1):
        y = model.head(model.last_states(sequences[:, chosen], lengths[chosen]))
        loss = nn.functional.cross_entropy(y, labels[chosen])
        if not math.isfinite(float(loss.detach())):
            raise InputError(f"the loss is not finite at step {step}; use a smaller step size")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        _keep(model, descent)
        yield step


def _batches(m: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of each step's sequences, every pass in an order of its own."""
    batch = min(batch, m)
    per_pass = m // batch
    order = torch.arange(m)
    for step in range(steps):
        place = step % per_pass
        if place == 0:
            order = torch.randperm(m, generator=generator)
        yield order[place * batch : (place + 1) * batch]


@torch.no_grad()
def _keep(model: RecurrentClassifier, descent: Descent) -> None:
    """Bring every U inside its constraint."""
    if descent.constraint not in ("cap", "orthogonal"):
        return
    for part in model.architecture.parts():
        if part.letter != "U":
            continue
        block = model.weights[part.name]
        if descent.constraint == "cap":
            block.copy_(project_spectral(block, descent.cap))
        else:
            left, _, right = torch.linalg.svd(block, full_matrices=False)
            block.copy_(descent.cap * (left @ right))
