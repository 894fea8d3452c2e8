"""How a network is read over an algebra: its layers in stages, what comes before and after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from recert.networks.cells import Algebra, Value
from recert.networks.layers import Bidirectional, Dense, Layer
from recert.networks.network import Chain


@dataclass(frozen=True, eq=False)
class Stage:
    """Layers that take their steps together: a stack in one direction, or two directions at once.

    What a stage above a two-way layer reads depends on the whole sequence, so stages are walked
    one after the other.
    """

    layers: tuple[Layer, ...]
    two_way: bool = False

    @cached_property
    def dimensions(self) -> tuple[int, ...]:
        """Dimensions of all states, layer by layer."""
        return tuple(dim for layer in self.layers for dim in layer.state_dimensions)

    @cached_property
    def output_index(self) -> int:
        """Which state the top layer gives out (of a stack in one direction)."""
        return sum(len(layer.state_dimensions) for layer in self.layers[:-1])

    def step(self, algebra: Algebra, x: Value, states: Sequence[Value]) -> tuple[Value, ...]:
        """One step: in a stack each layer reads the new output of the layer below."""
        after: list[Value] = []
        start = 0
        for layer in self.layers:
            end = start + len(layer.state_dimensions)
            new = layer.spec.step(algebra, layer, x, tuple(states[start:end]))
            after.extend(new)
            start = end
            if not self.two_way:
                x = new[0]
        return tuple(after)

    def output(self, algebra: Algebra, states: Sequence[Value]) -> Value:
        """What the stage gives out: the top output, or those of both directions."""
        last = states[self.output_index]
        return algebra.concatenate([states[0], last]) if self.two_way else last


def stages(network: Chain) -> tuple[Stage, ...]:
    """The network's layers in groups that can be walked together, bottom first."""
    found: list[Stage] = []
    for layer in network.layers:
        if isinstance(layer, Bidirectional):
            found.append(Stage(layer.directions, two_way=True))
        elif found and not found[-1].two_way:
            found[-1] = Stage((*found[-1].layers, layer))
        else:
            found.append(Stage((layer,)))
    return tuple(found)


def encode(algebra: Algebra, network: Chain, x: Value) -> Value:
    """What the first recurrent layer reads: the embedded and encoded input."""
    if network.embedding is not None:
        x = algebra.linear(network.embedding, x)
    for dense in network.encoder:
        x = apply_dense(algebra, dense, x)
    return x


def apply_dense(algebra: Algebra, dense: Dense, v: Value) -> Value:
    """σ(A v + b)."""
    v = algebra.linear(dense.A, v)
    if dense.b is not None:
        v = algebra.add(v, algebra.bias(dense.b))
    return algebra.activation(dense.activation, v)


def head(algebra: Algebra, network: Chain, h: Value) -> Value:
    """y = V h + b_V after the head's hidden layers, pooled where the head pools."""
    for dense in network.head.hidden:
        h = apply_dense(algebra, dense, h)
    y = algebra.linear(network.head.V, h)
    if network.head.pool is not None:
        y = algebra.fixed(network.head.pool, y)
    return y if network.head.b is None else algebra.add(y, algebra.bias(network.head.b))
