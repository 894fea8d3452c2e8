"""Training that knows of the rounding: weights on grids, and the length of their code in the loss.

Every block's weights are whole numbers times a step of its own. The forward pass sees the rounded
weights, the backward pass lets gradients through to the weights before rounding, and to the steps
(learnt step sizes, Esser et al. 2020). To the loss comes λ/m for each bit that an adaptive code of
the whole numbers takes, by the slope of its code length between neighbouring whole numbers.

What one more whole number costs in bits, approximately and quickly, for training and search.

The code that files are written in is `recert.compression`'s; a certificate counts its bits. This is
a smooth stand-in for it that gradients and rankings can follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from recert.compression import CodedBlock, Grid, Program, coded_bits
from recert.data.dataset import SequenceData
from recert.errors import InputError
from recert.networks.network import Network
from recert.training import devices
from recert.training.loop import draw, learning_rate, model_of, tensors
from recert.training.model import ModelReading, RecurrentClassifier
from recert.training.recipes import Recipe

FINEST = 30  # steps up to a block's largest weight, so that no step vanishes
DIGITS = 2  # binary digits of a step's mantissa after its first


@dataclass(frozen=True)
class RoundedRecipe:
    """How to train on grids.

    Attributes:
        recipe: architecture, epochs, batch and learning rate; caps, loss and margin are not used.
        price: λ, what a bit costs in units of 1/m.
        begin: share of the run before rounding begins; 0 from a trained network.
        full: share of the run after which a bit costs its full price.
        sharpness: ‖V‖ in the loss, at the beginning and at the end; errors do not change with it.
        hardness: exponent of the loss (1 − p^h)/h at the end; 0 is cross-entropy, 1 counts errors.

    Raises:
        InputError: a value is out of range.
    """

    recipe: Recipe
    price: float = 3.0
    begin: float = 0.2
    full: float = 0.4
    sharpness: tuple[float, float] = (20.0, 60.0)
    hardness: float = 0.7

    def __post_init__(self) -> None:
        if not (math.isfinite(self.price) and self.price > 0):
            raise InputError(f"price is {self.price}; use a positive number")
        if not 0.0 <= self.begin < self.full <= 1.0:
            raise InputError("begin and full are shares of the run, 0 <= begin < full <= 1")
        if not 0.0 < self.hardness <= 1.0:
            raise InputError(f"hardness is {self.hardness}; use a number in (0, 1]")


# Three classes from the last letters of a noun: found on these data, which a file pays for itself.
GERMAN_NOUNS_ROUNDED = RoundedRecipe(
    Recipe(d_h=16, bias=True, epochs=200, batch=4096, learning_rate=0.03)
)


def train_rounded(
    data: SequenceData,
    rounded: RoundedRecipe,
    *,
    start: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Callable[[float], object] | None = None,
) -> Program:
    """Train on all of ``data`` and return the program that the rounded weights are.

    Args:
        data: labels (m,) at the last valid step, or (m, T).
        rounded: how.
        start: weights by block of a trained network of that architecture to go on from, or None.
        seed: of initial weights and batches.
        device: torch device of the arithmetic, None the one of `recert.training.devices`.
        progress: called with the share of the run that is over, after each epoch.

    Raises:
        InputError: the loss stopped being finite, or ``start`` has another architecture.
    """
    with devices.arithmetic(device):
        return _Run(data, rounded, start, seed).train(progress)


class _Run:
    """The state of one training."""

    def __init__(
        self,
        data: SequenceData,
        rounded: RoundedRecipe,
        start: Mapping[str, np.ndarray] | None,
        seed: int,
    ) -> None:
        self.data, self.rounded = data, rounded
        self.generator = torch.Generator().manual_seed(seed)
        self.model: RecurrentClassifier = model_of(data, rounded.recipe)
        draw(self.model, {}, self.generator)
        if start is not None:
            _copy(start, self.model.blocks())
        self.device = devices.current()
        self.model.to(self.device)
        free = {name: _free(name, block.detach()) for name, block in self.model.blocks().items()}
        self.names = list(free)
        self.shapes = {name: value.shape for name, value in free.items()}
        self.weights = {name: value.clone().requires_grad_() for name, value in free.items()}
        self.steps = {n: torch.zeros((), device=self.device, requires_grad=True) for n in free}
        self.slopes: dict[str, Tensor] = {}

    def train(self, progress: Callable[[float], object] | None) -> Program:
        recipe, data = self.rounded.recipe, self.data
        x, labels, lengths = tensors(self.model, data)
        batch = min(recipe.batch, data.m)
        each = data.m // batch
        total = recipe.epochs * each
        optimiser = torch.optim.Adam(
            [
                {"params": list(self.weights.values())},
                {"params": list(self.steps.values())},
            ],
            betas=(0.9, 0.999),
        )
        for epoch in range(recipe.epochs):
            order = torch.randperm(data.m, generator=self.generator)
            for i in range(each):
                step = epoch * each + i
                chosen = order[i * batch : (i + 1) * batch]
                rate = learning_rate(recipe, step, total)
                optimiser.param_groups[0]["lr"] = rate
                optimiser.param_groups[1]["lr"] = 0.3 * rate
                self.step(x[:, chosen], labels[chosen], lengths[chosen], step, step / total)
                optimiser.step()
                self.floor()
            if progress is not None:
                progress((epoch + 1) / recipe.epochs)
        return self.program()

    def step(self, x: Tensor, labels: Tensor, lengths: Tensor, step: int, done: float) -> None:
        """Gradients of one batch, into weights and steps."""
        rounding = done >= self.rounded.begin
        if rounding and not self.slopes:
            self.begin()
        seen = {}
        scaled = {}
        for name, weight in self.weights.items():
            value = weight.detach()
            if rounding:
                scaled[name] = value / self.steps[name].detach().exp()
                value = torch.round(scaled[name]) * self.steps[name].detach().exp()
            seen[name] = value.clone().requires_grad_()
        loss = self.loss(seen, x, labels, lengths, done)
        if not torch.isfinite(loss):
            raise InputError("the loss is not finite; lower learning_rate")
        found = torch.autograd.grad(loss, list(seen.values()))
        length = math.sqrt(sum(float(g.square().sum()) for g in found))
        limit = self.rounded.recipe.clip or math.inf
        shrink = min(1.0, limit / max(length, 1e-30))
        if rounding and step % 5 == 0:
            counted = {n: torch.round(z).cpu() for n, z in scaled.items()}
            self.slopes = {n: slopes(integers).to(self.device) for n, integers in counted.items()}
        ramp = (done - self.rounded.begin) / (self.rounded.full - self.rounded.begin)
        price = self.rounded.price * min(1.0, max(0.0, ramp)) / self.data.m
        for name, gradient in zip(self.names, found, strict=True):
            gradient = gradient * shrink
            self.steps[name].grad = torch.zeros((), device=self.device)
            if rounding:
                z, s = scaled[name], float(self.steps[name].detach().exp())
                slope = slope_at(self.slopes[name], z) * price
                moved = gradient * (torch.round(z) - z) * s - slope * z.abs()
                self.steps[name].grad = moved.sum()
                gradient = gradient + slope * z.sign() / s
            self.weights[name].grad = gradient

    def floor(self) -> None:
        """Keep steps from vanishing where a block's numbers all go to zero."""
        if not self.slopes:
            return
        with torch.no_grad():
            for name, weight in self.weights.items():
                least = float(weight.abs().max()) / FINEST + 1e-3
                self.steps[name].clamp_(min=math.log(least))

    def begin(self) -> None:
        """The first steps: a block's standard deviation."""
        for name, weight in self.weights.items():
            spread = float(weight.detach().std(unbiased=False)) if weight.numel() > 1 else 1.0
            with torch.no_grad():
                self.steps[name].fill_(math.log(max(spread, 1e-3)))
            self.slopes[name] = torch.zeros(1, LARGEST, device=self.device)

    def loss(
        self, seen: dict[str, Tensor], x: Tensor, labels: Tensor, lengths: Tensor, done: float
    ) -> Tensor:
        """(1 − p^h)/h of the true class's share p, h rising from 0.02."""
        y, target = self.outputs(seen, x, labels, lengths)
        first, last = self.rounded.sharpness
        sharp = first * (last / first) ** done
        y = y * (sharp / seen["V"].norm().clamp(min=1e-6))
        h = self.rounded.hardness * min(1.0, max(0.02, done / 0.3))
        p = torch.softmax(y, dim=1).gather(1, target[:, None])[:, 0]
        return ((1.0 - p.clamp(min=1e-6) ** h) / h).mean()

    def outputs(
        self, seen: dict[str, Tensor], x: Tensor, labels: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Outputs at the steps that have labels, and these labels."""
        full = {f"weights.{name}": _whole(name, value) for name, value in seen.items()}
        reading = ModelReading(self.model, labels.dim() == 1)
        y = torch.func.functional_call(
            reading, {f"model.{k}": v for k, v in full.items()}, (x, lengths, labels)
        )
        target = labels if labels.dim() == 1 else labels.T[labels.T >= 0]
        return y, target

    def program(self) -> Program:
        """The rounded weights as a program, each step cut to a short mantissa."""
        network = self.model.cpu().double().eval().recert_network()
        blocks = {}
        for name, weight in self.weights.items():
            step = float(self.steps[name].detach().exp())
            exponent = math.floor(math.log2(step)) - DIGITS
            mantissa = max(1, round(step / 2.0**exponent))
            integers = torch.round(weight.detach() / step).to("cpu", torch.int64).numpy()
            blocks[name] = _coded(name, Grid(integers, mantissa, exponent))
        return _shorter_head(network, blocks)


def _free(name: str, block: Tensor) -> Tensor:
    """What is trained of a block: of the head all rows but the last, which the others lose."""
    return block[:-1] - block[-1:] if name in ("V", "b_V") else block.clone()


def _whole(name: str, value: Tensor) -> Tensor:
    """The block of what is trained of it: the head's last row is zero."""
    return torch.cat([value, torch.zeros_like(value[:1])]) if name in ("V", "b_V") else value


def _coded(name: str, grid: Grid) -> CodedBlock:
    if name not in ("V", "b_V"):
        return CodedBlock((grid,))
    integers = np.concatenate([grid.integers, np.zeros_like(grid.integers[:1])])
    return CodedBlock((Grid(integers, grid.mantissa, grid.exponent),))


def _shorter_head(network: Network, blocks: dict[str, CodedBlock]) -> Program:
    """The program with its head's zero row written out, or as a product with it; the shorter."""
    plain = Program(network, blocks)
    grid = blocks["V"].factors[0]
    rows = len(grid.integers) - 1
    left = np.eye(rows + 1, rows, dtype=np.int64)
    product = CodedBlock((Grid(left), Grid(grid.integers[:-1], grid.mantissa, grid.exponent)))
    if not grid.integers.any():
        return plain
    other = Program(network, {**blocks, "V": product})
    return min((plain, other), key=coded_bits)


def network_with(data: SequenceData, recipe: Recipe, weights: Mapping[str, np.ndarray]) -> Network:
    """The network of a recipe's architecture with these weights, rounded to float32.

    Args:
        data: what it reads.
        recipe: of which only the architecture counts.
        weights: by block; biases that are not there are zeros.

    Raises:
        InputError: the blocks are other ones.
    """
    model = model_of(data, recipe)
    still = {
        part.name: np.zeros(part.shape)
        for part in model.architecture.parts()
        if part.norm == "euclidean"
    }
    _copy({**still, **weights}, model.blocks())
    return model.eval().recert_network()


def _copy(given: Mapping[str, np.ndarray], named: dict[str, nn.Parameter]) -> None:
    """The weights of a trained network into a model of the same blocks."""
    shapes = {name: tuple(block.shape) for name, block in named.items()}
    if {name: value.shape for name, value in given.items()} != shapes:
        raise InputError("the network has other blocks than the recipe's")
    with torch.no_grad():
        for name, value in given.items():
            named[name].copy_(torch.from_numpy(np.array(value)))


LARGEST = 40  # whole numbers beyond it are priced as it


def slopes(q: Tensor, worth: float = 16.0) -> Tensor:
    """Bits from |n| to |n| + 1 in an adaptive code, (columns, LARGEST).

    A number is coded by the decisions |n| > 0, |n| > 1, …, each with the chance that it had in
    the block, columns of a matrix with chances of their own where they have numbers enough.
    """
    n = q.abs().clamp(max=LARGEST).long().reshape(len(q), -1) if q.dim() else q.reshape(1, 1).long()
    counts = torch.bincount(n.flatten(), minlength=LARGEST + 1).float()
    reached = counts.flip(0).cumsum(0).flip(0)
    yes, among = reached[1:], reached[:-1]
    later = (yes[1:].sum() + 1.0) / (among[1:].sum() + 2.0)
    chance = (yes + 4.0 * later) / (among + 4.0)
    chance[0] = (yes[0] + 0.5) / (among[0] + 1.0)
    chances = chance.repeat(n.shape[1], 1)
    if n.shape[0] > 1 and n.shape[1] > 1:
        alive = (n > 0).float().sum(0)
        chances[:, 0] = (alive + worth * chance[0]) / (n.shape[0] + worth)
        extra = (n.clamp(min=1) - 1).float().sum(0)
        weight = (extra + alive + worth)[:, None]
        chances[:, 1:] = (extra[:, None] + worth * chance[None, 1:]) / weight
    chances = chances.clamp(0.002, 0.998)
    passed = torch.cumsum(-torch.log2(chances), dim=1)
    stop = -torch.log2(1.0 - chances)
    bits = torch.zeros(n.shape[1], LARGEST + 1)
    bits[:, 0] = stop[:, 0]
    bits[:, 1:LARGEST] = 1.0 + passed[:, :-1] + stop[:, 1:]  # the 1 is the sign
    bits[:, LARGEST] = 1.0 + passed[:, -1]
    return bits[:, 1:] - bits[:, :-1]


def slope_at(slopes: Tensor, z: Tensor) -> Tensor:
    """The slope of the code's length at every weight, of the weight's shape."""
    flat = z.reshape(len(z), -1) if z.dim() else z.reshape(1, 1)
    level = flat.abs().floor().clamp(max=LARGEST - 1).long()
    columns = (
        torch.arange(flat.shape[1], device=z.device).expand_as(level) if len(slopes) > 1 else 0
    )
    found: Tensor = slopes[columns, level]
    return found.reshape(z.shape)
