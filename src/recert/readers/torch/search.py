"""What a module makes of its parts: candidates, of which the one that agrees with it is taken.

A copy of the module, its weights drawn anew so that no two candidates agree by accident, is run on
a few sequences. Which linear layers stand before the recurrent ones, which activations follow them
and what the head reads is what reproduces its outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, permutations, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recert.networks.activations import ACTIVATIONS
from recert.networks.forward import network_predictor
from recert.networks.network import Block, Head, InputKind, Network, Read
from recert.readers.torch.comparison import Wanted
from recert.readers.torch.parts import ModuleParts
from recert.readers.torch.running import InputGroup
from recert.readers.torch.weights import ReadingPlan, Weights
from recert.samples.sample import At

Array = NDArray[np.float64]

# Orders of at most so many layers are all tried; of more, the order of registration alone.
MOST_ORDERED = 4
# Choices of the activations of an encoder and of a head, fewest distinct ones first.
MOST_ENCODERS, MOST_HEADS = 120, 1500
LIKELY = ("relu", "tanh", "identity", "sigmoid", "leaky_relu", "elu")
_REGISTERED = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
}


@dataclass(frozen=True)
class ModuleStructure:
    """An order of the parts that their dimensions allow; activations and reading are open.

    Attributes:
        encoder: linear layers before the recurrent ones.
        recurrent: recurrent layers.
        head: linear layers after them.
        d_x: dimension of the inputs, the number of tokens for one-hot ones.
        halves: whether the head reads one direction of two.
        two_way: whether the top layer has two directions.
    """

    encoder: tuple[str, ...]
    recurrent: tuple[str, ...]
    head: tuple[str, ...]
    d_x: int
    halves: bool
    two_way: bool


def structures(model: nn.Module, parts: ModuleParts) -> list[ModuleStructure]:
    """Every order of the parts that their dimensions allow, in the order of registration first."""
    found = []
    for recurrent in _orders(parts.recurrent):
        for linears in _orders(parts.linears):
            if parts.head is not None and linears[-1] != parts.head:
                continue
            for k in range(len(linears)):
                structure = _structure(model, parts, linears[:k], recurrent, linears[k:])
                if structure is not None:
                    found.append(structure)
    return found


def draw_weights(module: nn.Module) -> None:
    """New parameters of moderate size, in place; torch's own random numbers are left alone."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = 1.0 / math.sqrt(max(1, parameter.shape[-1])) if parameter.ndim > 1 else 0.5
            drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((2.0 * drawn - 1.0) * scale)


def plans(
    model: nn.Module,
    parts: ModuleParts,
    structure: ModuleStructure,
    kind: InputKind,
    outputs: list[Array],
    group: InputGroup,
    at: At,
    tolerance: float,
) -> Iterator[tuple[float, ReadingPlan]]:
    """Plans of a structure, each with how far it is from the outputs, in units of rounding.

    Args:
        model: the copy whose outputs are given.
        parts: of the model.
        structure: one of its structures.
        kind: of the inputs.
        outputs: everything that the model returned for the group.
        group: sequences.
        at: as in `recert.readers.from_torch`.
        tolerance: relative difference that rounding is allowed.
    """
    weights, likely = Weights(model), _likely(model)
    x = _embedded(weights, parts, structure, kind, group)
    body = _Body(weights, structure)
    for encoder in _choices(likely, len(structure.encoder), MOST_ENCODERS):
        seen = _Seen(body, _through(weights, structure.encoder, encoder, x))
        for head in _heads(structure, likely):
            want = Wanted(
                _logits(weights, structure.head, head, seen.read(head.read, head.half)),
                group.steps,
                last=at == "last",
                whole=at == "average" and structure.two_way,
                tolerance=tolerance,
            )
            difference = want.closest(outputs)
            plan = ReadingPlan(
                kind,
                tuple(zip(structure.encoder, encoder, strict=True)),
                structure.recurrent,
                tuple(zip(structure.head[:-1], head.activations, strict=True)),
                structure.head[-1],
                head.read,
                head.half,
                head.onto,
                parts.embedding,
            )
            yield (np.inf if difference is None else difference.excess), plan


@dataclass(frozen=True)
class _Head:
    """What a head reads, what is done to it first, and the activations within."""

    read: Read
    half: int | None
    onto: str
    activations: tuple[str, ...]


def _heads(structure: ModuleStructure, likely: tuple[str, ...]) -> Iterator[_Head]:
    """Every head, those without an activation of what they read first."""
    reads: list[tuple[Read, int | None]] = []
    every: tuple[Read, ...] = ("step", "final", "mean")
    for read in every:
        if read != "final" or structure.two_way:
            reads += [(read, half) for half in ((0, 1) if structure.halves else (None,))]
    inside = list(_choices(likely, len(structure.head) - 1, MOST_HEADS))
    for onto in ("identity", *(name for name in likely if name != "identity")):
        for activations in inside:
            for read, half in reads:
                if onto == "identity" or half is None:
                    yield _Head(read, half, onto, activations)


class _Body:
    """Encoded inputs (n, T, d) → outputs of the recurrent layers."""

    def __init__(self, weights: Weights, structure: ModuleStructure) -> None:
        layers = weights.layers(structure.recurrent, reads_tokens=False)
        width = layers[-1].d_out
        # A network's logits are its outputs if V is the identity; a row more, for K is at least 2.
        head = Head(Block("V", np.eye(width + 1, width), "spectral"))
        self._step = Network(layers, head, "real")
        self._final = Network(layers, head, "real", read="final")

    def every(self, x: Array) -> Array:
        """At every step, (n, T, d_out)."""
        lengths = np.full(len(x), x.shape[1])
        return network_predictor(self._step)(x, lengths, "average")[..., :-1]

    def final(self, x: Array) -> Array:
        """With which each direction ends, (n, d_out)."""
        lengths = np.full(len(x), x.shape[1])
        return network_predictor(self._final)(x, lengths, "last")[..., :-1]


class _Seen:
    """What heads may read of the recurrent layers' outputs, each computed once."""

    def __init__(self, body: _Body, x: Array) -> None:
        self._body, self._x = body, x

    @cached_property
    def _every(self) -> Array:
        return self._body.every(self._x)

    @cached_property
    def _final(self) -> Array:
        return self._body.final(self._x)

    def read(self, read: Read, half: int | None) -> Array:
        """(n, T, d), or (n, 1, d) where there is one output a sequence."""
        if read == "step":
            h = self._every
        elif read == "mean":
            h = self._every.mean(axis=1, keepdims=True)
        else:
            h = self._final[:, None]
        if half is None:
            return h
        middle = h.shape[-1] // 2
        return h[..., middle:] if half else h[..., :middle]


def _logits(weights: Weights, names: tuple[str, ...], head: _Head, h: Array) -> Array:
    h = ACTIVATIONS[head.onto].function(h)
    h = _through(weights, names[:-1], head.activations, h)
    V, b = weights.head(names[-1])
    return h @ V.T if b is None else h @ V.T + b


def _through(
    weights: Weights, names: tuple[str, ...], activations: tuple[str, ...], v: Array
) -> Array:
    for name, activation in zip(names, activations, strict=True):
        A, b = weights.dense(name)
        v = ACTIVATIONS[activation].function(v @ A.T if b is None else v @ A.T + b)
    return v


def _embedded(
    weights: Weights,
    parts: ModuleParts,
    structure: ModuleStructure,
    kind: InputKind,
    group: InputGroup,
) -> Array:
    """The sequences as vectors, (n, T, d)."""
    if parts.embedding is not None:
        return weights.embedding(parts.embedding).value.T[group.x]
    if kind == "real":
        return group.x
    onehot: Array = (group.x[..., None] == np.arange(structure.d_x)).astype(np.float64)
    return onehot


def _structure(
    model: nn.Module,
    parts: ModuleParts,
    encoder: tuple[str, ...],
    recurrent: tuple[str, ...],
    head: tuple[str, ...],
) -> ModuleStructure | None:
    """The structure if every part reads as many numbers as the part before it gives."""
    d_x = width = None
    if parts.embedding is not None:
        table: Any = model.get_submodule(parts.embedding)
        d_x, width = table.num_embeddings, table.embedding_dim
    directions = 1
    for name in (*encoder, *recurrent):
        module: Any = model.get_submodule(name)
        size, after, directions = dimensions(module)
        if width is not None and size != width:
            return None
        d_x, width = d_x or size, after
    assert width is not None and d_x is not None
    reads = dimensions(model.get_submodule(head[0]))[0]
    halves = directions == 2 and 2 * reads == width
    if reads != width and not halves:
        return None
    for below, above in pairwise(head):
        given = dimensions(model.get_submodule(below))[1]
        if given != dimensions(model.get_submodule(above))[0]:
            return None
    return ModuleStructure(encoder, recurrent, head, d_x, halves, directions == 2)


def dimensions(module: Any) -> tuple[int, int, int]:
    """What a linear or recurrent layer reads, what it gives, and its number of directions."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features, 1
    directions = 2 if getattr(module, "bidirectional", False) else 1
    width = getattr(module, "proj_size", 0) or module.hidden_size
    return module.input_size, directions * width, directions


def _orders(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return permutations(names) if len(names) <= MOST_ORDERED else iter((names,))


def _choices(likely: tuple[str, ...], count: int, most: int) -> list[tuple[str, ...]]:
    """Activations of so many layers: the same ones throughout first."""
    if len(likely) ** count <= 100 * most:
        every = sorted(product(likely, repeat=count), key=lambda names: len(set(names)))
        return every[:most]
    return [(name,) * count for name in likely]


def _likely(model: nn.Module) -> tuple[str, ...]:
    """All activations, those that the model holds as modules first."""
    kinds = [type(module) for module in model.modules()]
    held = {name for kind, name in _REGISTERED.items() if kind in kinds}
    return tuple(sorted(LIKELY, key=lambda name: name not in held))
