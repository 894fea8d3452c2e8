"""The family's equations, each written once over an algebra.

A cell takes an algebra, a layer, an input and the layer's states, and returns the new states,
the first of which the layer gives out. Read with ``algebra.numbers`` it predicts; read with
``algebra.bounds`` it yields the norms and sensitivities that the theorems need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from recert.networks.blocks import Block
from recert.networks.layers import Bidirectional, Dense, FixedMap, Layer
from recert.networks.network import Chain

Value = Any
States = tuple[Value, ...]


class Algebra(Protocol):
    """The operations that a cell may use. None changes a value that it is given, but ``add``."""

    def linear(self, block: Block, v: Value) -> Value:
        """A·v for a dense block or a filter bank, or the columns of A that one-hot inputs name."""

    def bias(self, block: Block) -> Value:
        """A bias as a value."""

    def fixed(self, fixed: FixedMap, v: Value) -> Value:
        """P·v for a map P that is the same in the whole class."""

    def add(self, u: Value, v: Value) -> Value:
        """U + v; u is not read again."""

    def mul(self, u: Value, v: Value) -> Value:
        """U ⊙ v."""

    def activation(self, name: str, v: Value) -> Value:
        """σ(v), entrywise."""

    def opened(self, layer: Layer, gate: str, v: Value) -> Value:
        """σ(v), how far a gate of the layer opens, by the letter of its blocks."""
        return self.activation("sigmoid", v)

    def gate(self, r: Value, a: Value, b: Value) -> Value:
        """(1 − r) ⊙ a + r ⊙ b, where r came from a sigmoid."""

    def concatenate(self, values: Sequence[Value]) -> Value:
        """Values one after the other."""


def vanilla(algebra: Algebra, layer: Layer, x: Value, states: States) -> States:
    """h_t = σ_h(U h_{t−1} + W x_t + b) (Section 1 of the paper)."""
    (h,) = states
    return (algebra.activation(layer.activation, _affine(algebra, layer, "", x, h)),)


def mgu(algebra: Algebra, layer: Layer, x: Value, states: States) -> States:
    """r = σ(U_r h + W_r x), h̃ = tanh(U_h (r⊙h) + W_h x), h = (1−r)⊙h + r⊙h̃ (Section 5)."""
    (h,) = states
    r = _opened(algebra, layer, "r", x, h)
    candidate = algebra.activation("tanh", _affine(algebra, layer, "_h", x, algebra.mul(r, h)))
    return (algebra.gate(r, h, candidate),)


def gru(algebra: Algebra, layer: Layer, x: Value, states: States) -> States:
    """n = tanh(W_n x + b_n + r⊙(U_n h + b_hn)), h = (1−z)⊙n + z⊙h, as torch and ONNX have it."""
    (h,) = states
    r, z = (_opened(algebra, layer, gate, x, h) for gate in "rz")
    inner = algebra.linear(layer.blocks["U_n"], h)
    if "b_hn" in layer.blocks:
        inner = algebra.add(inner, algebra.bias(layer.blocks["b_hn"]))
    outer = algebra.linear(layer.blocks["W_n"], x)
    if "b_n" in layer.blocks:
        outer = algebra.add(outer, algebra.bias(layer.blocks["b_n"]))
    n = algebra.activation("tanh", algebra.add(outer, algebra.mul(r, inner)))
    return (algebra.gate(z, n, h),)


def gru_original(algebra: Algebra, layer: Layer, x: Value, states: States) -> States:
    """n = tanh(W_n x + U_n (r⊙h) + b_n), h = (1−z)⊙n + z⊙h: the reset before the product."""
    (h,) = states
    r, z = (_opened(algebra, layer, gate, x, h) for gate in "rz")
    n = algebra.activation("tanh", _affine(algebra, layer, "_n", x, algebra.mul(r, h)))
    return (algebra.gate(z, n, h),)


def lstm(algebra: Algebra, layer: Layer, x: Value, states: States) -> States:
    """c = g⊙c + r⊙c̃, h = o⊙tanh(c) with forget g, input r, output o (Section 5); P h if projected.

    Torch calls them f, i, o and the candidate g.
    """
    h, c = states
    g, r, o = (_opened(algebra, layer, gate, x, h) for gate in "gro")
    candidate = algebra.activation("tanh", _affine(algebra, layer, "_c", x, h))
    c = algebra.add(algebra.mul(g, c), algebra.mul(r, candidate))
    h = algebra.mul(o, algebra.activation("tanh", c))
    return (algebra.linear(layer.blocks["P"], h) if "P" in layer.blocks else h), c


def conv(algebra: Algebra, layer: Layer, x: Value, states: States) -> States:
    """h = σ_h(U*h + W*x + b) with filter banks, zero padding, one bias a channel."""
    (h,) = states
    z = _affine(algebra, layer, "", x, h, bias=False)
    if "b" in layer.blocks:
        spread = algebra.fixed(layer.fixed("spread"), algebra.bias(layer.blocks["b"]))
        z = algebra.add(z, spread)
    return (algebra.activation(layer.activation, z),)


def conv_averaged(algebra: Algebra, layer: Layer, x: Value, states: States) -> States:
    """h = σ_h(P(U*h + W*x)), P the average over the k channels (Appendix D)."""
    (h,) = states
    z = algebra.fixed(layer.fixed("average"), _affine(algebra, layer, "", x, h, bias=False))
    return (algebra.activation(layer.activation, z),)


def _affine(
    algebra: Algebra, layer: Layer, gate: str, x: Value, h: Value, *, bias: bool = True
) -> Value:
    """W x + U h + b with the blocks of one gate."""
    z = algebra.add(
        algebra.linear(layer.blocks[f"W{gate}"], x), algebra.linear(layer.blocks[f"U{gate}"], h)
    )
    if bias and f"b{gate}" in layer.blocks:
        z = algebra.add(z, algebra.bias(layer.blocks[f"b{gate}"]))
    return z


def _opened(algebra: Algebra, layer: Layer, gate: str, x: Value, h: Value) -> Value:
    """σ(W x + U h + b) with the blocks of a gate."""
    return algebra.opened(layer, gate, _affine(algebra, layer, f"_{gate}", x, h))


CELLS: dict[str, Callable[[Algebra, Layer, Value, States], States]] = {
    "vanilla": vanilla,
    "mgu": mgu,
    "gru": gru,
    "gru_original": gru_original,
    "lstm": lstm,
    "conv": conv,
    "conv_averaged": conv_averaged,
}


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
            new = CELLS[layer.cell](algebra, layer, x, tuple(states[start:end]))
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
