"""Whole numbers moved by one step where the certificate gets smaller: the end of `train_rounded`.

Training minimises a smooth loss of which every weight sees a noisy share; what is left behind can
be improved one number at a time. A blind search would read the whole sample for every number and
both directions. Here the moves are ranked first: with the gradient of each sequence's own margin,
M + ∂M/∂n·(±1) tells which sequences near the boundary a move would win and lose, for all moves at
once. The best are then tried exactly, and kept where kl⁻¹(error, bits) falls.

Nothing here needs to be right for a certificate to hold: that holds for every file at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recert.compression import CodedBlock, Grid, Program, coded_bits
from recert.data.dataset import SequenceData
from recert.errors import InputError
from recert.networks.forward import margins_of
from recert.networks.network import Network
from recert.numerics.concentration import kl_inverse_upper
from recert.readers.torch.predictor import torch_predictor
from recert.training import devices
from recert.training.loop import input_type, model_of, time_first
from recert.training.model import ModelReading, RecurrentClassifier
from recert.training.quantized import slopes
from recert.training.recipes import Recipe
from recert.utils.validation import probability

Array = NDArray[np.float64]
Places = tuple[NDArray[np.int64], ...]

_MAGIC_BITS = 8.0  # of a file's first byte, which `coded_bits` leaves out
_HELD = 1 << 22  # entries of all margins' gradients held at once
_ENTRIES = 1 << 28  # and those that are computed in a round


@dataclass(frozen=True)
class Refinement:
    """How much is searched; the result does not depend on the machine's speed.

    Attributes:
        rounds: the largest number of rankings; a search ends earlier where nothing is gained.
        tries: moves that are tried in a round.
        near: sequences, nearest to the boundary, by which moves are ranked.
        rest: rounds for which a move that failed is not tried again.

    Raises:
        InputError: a value is below 1.
    """

    rounds: int = 16
    tries: int = 80
    near: int = 24_000
    rest: int = 3

    def __post_init__(self) -> None:
        for name in ("rounds", "tries", "near", "rest"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; use an integer from 1 up")


def refine(
    program: Program,
    data: SequenceData,
    recipe: Recipe,
    *,
    delta: float = 0.01,
    search: Refinement | None = None,
    progress: Callable[[float], object] | None = None,
) -> Program:
    """A program near another one whose certificate on ``data`` is at most as large.

    Args:
        program: of the recipe's architecture, as `train_rounded` or a file gives it.
        data: the sample, labels (m,) at the last valid step or (m, T).
        recipe: tells the architecture; nothing else of it is used.
        delta: failure probability of the certificate that is sought.
        search: how much is searched.
        progress: called with the share of the rounds that is over.

    Raises:
        InputError: the program has other blocks than the recipe, or delta is out of range.
    """
    search = search or Refinement()
    run = _Search(program, data, recipe, probability("delta", delta), search)
    with devices.arithmetic("cpu"):
        for k in range(search.rounds):
            gained = run.round(k)
            if progress is not None:
                progress((k + 1) / search.rounds)
            if not gained and k + 1 - run.last > search.rest:
                break
    return run.program


@dataclass(frozen=True)
class _Moves:
    """Moves of all whole numbers by −1 (even places) and +1 (odd ones), grid after grid."""

    grids: tuple[tuple[str, int], ...]  # block, factor
    starts: NDArray[np.int64]  # of each grid's numbers; the last is their number

    @classmethod
    def of(cls, program: Program) -> _Moves:
        grids = [(n, k) for n, block in program.blocks.items() for k in range(len(block.factors))]
        sizes = [program.blocks[n].factors[k].integers.size for n, k in grids]
        return cls(tuple(grids), np.cumsum([0, *sizes]))

    @property
    def count(self) -> int:
        return 2 * int(self.starts[-1])

    def apply(self, program: Program, move: int) -> Program:
        """The program after a move."""
        number, up = divmod(move, 2)
        place = int(np.searchsorted(self.starts, number, side="right")) - 1
        name, k = self.grids[place]
        factors = list(program.blocks[name].factors)
        integers = np.array(factors[k].integers)
        integers.reshape(-1)[number - int(self.starts[place])] += 1 if up else -1
        factors[k] = Grid(integers, factors[k].mantissa, factors[k].exponent)
        return Program(program.skeleton, {**program.blocks, name: CodedBlock(tuple(factors))})


class _Search:
    """The best program so far, its margins, and what was tried."""

    def __init__(
        self, program: Program, data: SequenceData, recipe: Recipe, delta: float, search: Refinement
    ) -> None:
        self.data, self.search, self.delta, self.units = data, search, delta, data.units
        self.model = model_of(data, recipe)
        shapes = {name: tuple(block.shape) for name, block in self.model.blocks().items()}
        if {name: block.shape for name, block in program.blocks.items()} != shapes:
            raise InputError("the program has other blocks than the recipe's; give its own recipe")
        self.weights = weights_of(data)
        self.moves = _Moves.of(program)
        self.free_again = np.zeros(self.moves.count, dtype=np.int64)
        self.last = 0  # round in which something was gained
        self.set(program, self.margins(program.network(), data))

    def set(self, program: Program, margins: Array) -> None:
        self.program, self.margin = program, margins
        self.error = float(self.weights[~(margins > 0.0)].sum())
        self.bits = coded_bits(program)
        self.value = self.certificate(self.error, self.bits)

    def certificate(self, error: float, bits: float) -> float:
        nats = (bits + _MAGIC_BITS) * math.log(2.0) - math.log(self.delta)
        return float(kl_inverse_upper(min(1.0, max(0.0, error)), nats / self.units))

    def margins(self, network: Network, data: SequenceData) -> Array:
        """Margins of the shape of the labels; 1 where a sequence has ended."""
        last = data.labels.ndim == 1
        y = torch_predictor(network)(data.sequences, data.lengths, "last" if last else "average")
        found = margins_of(y, np.maximum(data.labels, 0).astype(np.int64))
        return found if last else np.where(data.labels >= 0, found, 1.0)

    def round(self, k: int) -> int:
        """Rank all moves, try the best; how many were kept."""
        near = self.nearest()
        few = self.data.take(near)
        kept = 0
        for move in self.ranked(few, near, k)[: self.search.tries].tolist():
            if self.tried(int(move), few, near):
                kept += 1
            else:
                self.free_again[move] = k + 1 + self.search.rest
        if kept:
            self.last = k + 1
        return kept

    def tried(self, move: int, few: SequenceData, near: NDArray[np.int64]) -> bool:
        """Whether a move makes the certificate smaller, and is kept: first on few sequences."""
        try:
            program = self.moves.apply(self.program, move)
            network = program.network()
        except InputError:  # beyond the whole numbers that a file may have
            return False
        bits = coded_bits(program)
        weights = self.weights[near]
        before = float(weights[~(self.margin[near] > 0.0)].sum())
        after = float(weights[~(self.margins(network, few) > 0.0)].sum())
        if not self.certificate(self.error + after - before, bits) < self.value:
            return False
        margins = self.margins(network, self.data)
        error = float(self.weights[~(margins > 0.0)].sum())
        if not self.certificate(error, bits) < self.value:
            return False
        self.set(program, margins)
        return True

    def nearest(self) -> NDArray[np.int64]:
        """Indices of the sequences with the smallest |M|, in their order."""
        steps = 1 if self.data.labels.ndim == 1 else self.data.T
        each = steps * self.moves.count
        count = max(1, min(self.data.m, self.search.near // steps, max(200, _ENTRIES // each)))
        size = np.abs(np.where(np.isfinite(self.margin), self.margin, 0.0))
        size = size if self.data.labels.ndim == 1 else size.min(axis=1)
        found: NDArray[np.int64] = np.sort(np.argpartition(size, count - 1)[:count])
        return found

    def ranked(self, few: SequenceData, near: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """Moves that promise a smaller certificate, the best first."""
        change = self.error_changes(few, near) + self.trade() * self.bit_changes()
        change[self.free_again > k] = math.inf
        found = np.argsort(change, kind="stable")
        return found[change[found] < 0.0]

    def trade(self) -> float:
        """How much error is worth one bit at the present certificate."""
        by_bits = self.certificate(self.error, self.bits + 16.0) - self.value
        by_error = self.certificate(self.error + 1e-3, self.bits) - self.value
        return by_bits / 16.0 / max(by_error / 1e-3, 1e-9)

    def bit_changes(self) -> Array:
        """About how many bits each move costs."""
        found = []
        for name, k in self.moves.grids:
            integers = self.program.blocks[name].factors[k].integers
            flat = torch.from_numpy(integers.reshape(len(integers), -1).astype(np.float32))
            cost = slopes(flat)
            level = flat.abs().clamp(max=cost.shape[1] - 1).long()
            column = torch.arange(flat.shape[1]).expand_as(level)
            outward, inward = cost[column, level], -cost[column, (level - 1).clamp(min=0)]
            down = torch.where(flat > 0, inward, outward)
            up = torch.where(flat < 0, inward, outward)
            found.append(torch.stack([down, up], dim=2).reshape(-1))
        return torch.cat(found).double().numpy()

    def error_changes(self, few: SequenceData, near: NDArray[np.int64]) -> Array:
        """What each move would change the error by, were margins linear in the weights."""
        total = torch.zeros(self.moves.count // 2, 2, dtype=torch.float64)
        weights = torch.from_numpy(self.weights[near])
        for margin, moved, rows in self.gradients(few):
            weight = weights[rows].float()
            now = float(weight[margin <= 0.0].sum())
            for way, sign in enumerate((-1.0, 1.0)):
                wrong = torch.add(margin[:, None], moved, alpha=sign) <= 0.0
                total[:, way] += (weight @ wrong.float() - now).double()
        return total.reshape(-1).numpy()

    def gradients(self, few: SequenceData) -> Iterator[tuple[Tensor, Tensor, Places]]:
        """Margins (B,), what one step of each number moves them by (B, numbers), and where."""
        last = few.labels.ndim == 1
        rows: Places = (np.arange(few.m),) if last else np.nonzero(few.labels >= 0)
        labels = few.labels[rows]
        lengths = few.lengths if last else rows[1] + 1  # a step is read where its prefix ends
        x = time_first(few).to(input_type(self.model))
        weights = {
            f"model.weights.{name}": torch.from_numpy(block.value()).float()
            for name, block in self.program.blocks.items()
        }
        of_one = torch.func.vmap(
            torch.func.grad_and_value(_Margin(self.model)), in_dims=(None, 1, 0, 0)
        )
        size = max(1, _HELD // (self.moves.count // 2))
        for i in range(0, len(labels), size):
            piece = slice(i, i + size)
            found, margin = of_one(
                weights,
                x[:, rows[0][piece]],
                torch.from_numpy(np.asarray(lengths[piece], dtype=np.int64)),
                torch.from_numpy(labels[piece].astype(np.int64)),
            )
            moved = [
                _of_factor(self.program.blocks[name], k, found[f"model.weights.{name}"])
                for name, k in self.moves.grids
            ]
            yield margin.detach(), torch.cat(moved, dim=1).detach(), tuple(r[piece] for r in rows)


class _Margin:
    """The margin of one sequence as a function of the weights, for `torch.func`."""

    def __init__(self, model: RecurrentClassifier) -> None:
        self.reading = ModelReading(model, last=True)

    def __call__(
        self, weights: dict[str, Tensor], x: Tensor, length: Tensor, label: Tensor
    ) -> Tensor:
        y = torch.func.functional_call(
            self.reading, weights, (x[:, None], length[None], label[None])
        )[0]
        own = torch.arange(len(y)) == label
        margin: Tensor = torch.where(own, y, 0.0).sum() - torch.where(own, -math.inf, y).amax()
        return margin


def _of_factor(block: CodedBlock, k: int, gradient: Tensor) -> Tensor:
    """(B, *shape) of a block to (B, numbers): by one step of each number of a factor."""
    factors = block.factors
    step = math.ldexp(factors[k].mantissa, factors[k].exponent)
    if len(factors) == 2:
        other = torch.from_numpy(factors[1 - k].value()).float()
        gradient = gradient @ other.T if k == 0 else other.T @ gradient
    return gradient.reshape(len(gradient), -1) * step


def weights_of(data: SequenceData) -> Array:
    """What an error at each label counts, of the labels' shape; the sum is 1.

    Sequences count alike within a group, and units alike; steps alike within a sequence.
    """
    each = np.full(data.m, 1.0 / data.m)
    if data.groups is not None:
        _, where, count = np.unique(data.groups, return_inverse=True, return_counts=True)
        each = 1.0 / (len(count) * count[where])
    if data.labels.ndim == 1:
        return each
    valid = data.labels >= 0
    found: Array = valid * (each / valid.sum(axis=1))[:, None]
    return found
