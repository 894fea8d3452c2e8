"""The family's equations, each written once over an algebra.

A cell takes an algebra, a layer, an input and the layer's states, and returns the new states,
the first of which the layer gives out. Read with ``algebra.numbers`` it predicts; read with
``algebra.bounds`` it yields the norms and sensitivities that the theorems need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from recert.network import Block, Layer, Network

Value = Any
States = tuple[Value, ...]


class Algebra(Protocol):
    """The operations that a cell may use."""

    def linear(self, block: Block, v: Value) -> Value:
        """A·v for a dense block, or the columns of A that one-hot inputs name."""

    def bias(self, block: Block) -> Value:
        """A bias as a value."""

    def add(self, u: Value, v: Value) -> Value:
        """U + v."""

    def activation(self, name: str, v: Value) -> Value:
        """σ_h(v), entrywise."""


def vanilla(algebra: Algebra, layer: Layer, x: Value, states: States) -> States:
    """h_t = σ_h(U h_{t−1} + W x_t + b) (Section 1 of the paper)."""
    (h,) = states
    z = algebra.add(algebra.linear(layer.blocks["W"], x), algebra.linear(layer.blocks["U"], h))
    if "b" in layer.blocks:
        z = algebra.add(z, algebra.bias(layer.blocks["b"]))
    return (algebra.activation(layer.activation, z),)


CELLS: dict[str, Callable[[Algebra, Layer, Value, States], States]] = {"vanilla": vanilla}


def state_dimensions(network: Network) -> tuple[tuple[int, ...], ...]:
    """The dimensions of every layer's states, layer by layer."""
    return tuple((layer.d_h,) for layer in network.layers)


def step(
    algebra: Algebra, network: Network, x: Value, states: tuple[States, ...]
) -> tuple[States, ...]:
    """One step of all layers: each reads the new output of the layer below."""
    if network.embedding is not None:
        x = algebra.linear(network.embedding, x)
    after = []
    for layer, before in zip(network.layers, states, strict=True):
        new = CELLS[layer.cell](algebra, layer, x, before)
        after.append(new)
        x = new[0]
    return tuple(after)


def head(algebra: Algebra, network: Network, h: Value) -> Value:
    """Y = V h + b_V."""
    y = algebra.linear(network.head.V, h)
    return y if network.head.b is None else algebra.add(y, algebra.bias(network.head.b))
