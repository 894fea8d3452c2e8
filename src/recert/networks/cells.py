"""The cells: each one's equations, written once over an algebra, and one table of what they have.

A cell takes an algebra, a layer, an input and the layer's states, and returns the new states,
the first of which the layer gives out. Read with `recert.networks.forward` it predicts; read with
`recert.sensitivities.norm_domain` it yields the norms and sensitivities that the theorems need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from recert.networks.blocks import Block, FixedMap

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

    def opened(self, layer: Any, gate: str, v: Value) -> Value:
        """σ(v), how far a gate of the layer opens, by the letter of its blocks."""
        return self.activation("sigmoid", v)

    def gate(self, r: Value, a: Value, b: Value) -> Value:
        """(1 − r) ⊙ a + r ⊙ b, where r came from a sigmoid."""

    def concatenate(self, values: Sequence[Value]) -> Value:
        """Values one after the other."""


class Parts(Protocol):
    """What equations read of a layer (`recert.networks.layers.Layer`)."""

    @property
    def activation(self) -> str:
        """Of cells that have a choice."""

    @property
    def blocks(self) -> Mapping[str, Block]:
        """Blocks by role."""

    def fixed(self, name: str) -> FixedMap:
        """A fixed map of a convolutional cell: ``"average"`` or ``"spread"``."""


def vanilla(algebra: Algebra, layer: Parts, x: Value, states: States) -> States:
    """h_t = σ_h(U h_{t−1} + W x_t + b) (Section 1 of the paper)."""
    (h,) = states
    return (algebra.activation(layer.activation, _affine(algebra, layer, "", x, h)),)


def mgu(algebra: Algebra, layer: Parts, x: Value, states: States) -> States:
    """r = σ(U_r h + W_r x), h̃ = tanh(U_h (r⊙h) + W_h x), h = (1−r)⊙h + r⊙h̃ (Section 5)."""
    (h,) = states
    r = _opened(algebra, layer, "r", x, h)
    candidate = algebra.activation("tanh", _affine(algebra, layer, "_h", x, algebra.mul(r, h)))
    return (algebra.gate(r, h, candidate),)


def gru(algebra: Algebra, layer: Parts, x: Value, states: States) -> States:
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


def gru_original(algebra: Algebra, layer: Parts, x: Value, states: States) -> States:
    """n = tanh(W_n x + U_n (r⊙h) + b_n), h = (1−z)⊙n + z⊙h: the reset before the product."""
    (h,) = states
    r, z = (_opened(algebra, layer, gate, x, h) for gate in "rz")
    n = algebra.activation("tanh", _affine(algebra, layer, "_n", x, algebra.mul(r, h)))
    return (algebra.gate(z, n, h),)


def lstm(algebra: Algebra, layer: Parts, x: Value, states: States) -> States:
    """c = g⊙c + r⊙c̃, h = o⊙tanh(c) with forget g, input r, output o (Section 5); P h if projected.

    Torch calls them f, i, o and the candidate g.
    """
    h, c = states
    g, r, o = (_opened(algebra, layer, gate, x, h) for gate in "gro")
    candidate = algebra.activation("tanh", _affine(algebra, layer, "_c", x, h))
    c = algebra.add(algebra.mul(g, c), algebra.mul(r, candidate))
    h = algebra.mul(o, algebra.activation("tanh", c))
    return (algebra.linear(layer.blocks["P"], h) if "P" in layer.blocks else h), c


def peephole_lstm(algebra: Algebra, layer: Parts, x: Value, states: States) -> States:
    """An LSTM whose gates see c: g, r add p⊙c_{t−1} inside the sigmoid, o adds p_o⊙c_t.

    Source: Gers and Schmidhuber, Recurrent nets that time and count, IJCNN 2000.
    """
    h, c = states

    def gate(letter: str, seen: Value) -> Value:
        peep = algebra.mul(algebra.bias(layer.blocks[f"p_{letter}"]), seen)
        z = algebra.add(_affine(algebra, layer, f"_{letter}", x, h), peep)
        return algebra.opened(layer, letter, z)

    candidate = algebra.activation("tanh", _affine(algebra, layer, "_c", x, h))
    c = algebra.add(algebra.mul(gate("g", c), c), algebra.mul(gate("r", c), candidate))
    return algebra.mul(gate("o", c), algebra.activation("tanh", c)), c


def min_gru(algebra: Algebra, layer: Parts, x: Value, states: States) -> States:
    """z = σ(W_z x + b_z), h̃ = W_h x + b_h, h = (1−z)⊙h + z⊙h̃: nothing reads the state but h.

    Source: Feng et al., Were RNNs all we needed?, 2024 (their minGRU in real numbers).
    """
    (h,) = states
    z = _opened(algebra, layer, "z", x)
    return (algebra.gate(z, h, _affine(algebra, layer, "_h", x)),)


def conv(algebra: Algebra, layer: Parts, x: Value, states: States) -> States:
    """h = σ_h(U*h + W*x + b) with filter banks, zero padding, one bias a channel."""
    (h,) = states
    z = _affine(algebra, layer, "", x, h, bias=False)
    if "b" in layer.blocks:
        spread = algebra.fixed(layer.fixed("spread"), algebra.bias(layer.blocks["b"]))
        z = algebra.add(z, spread)
    return (algebra.activation(layer.activation, z),)


def conv_averaged(algebra: Algebra, layer: Parts, x: Value, states: States) -> States:
    """h = σ_h(P(U*h + W*x)), P the average over the k channels (Appendix D)."""
    (h,) = states
    z = algebra.fixed(layer.fixed("average"), _affine(algebra, layer, "", x, h, bias=False))
    return (algebra.activation(layer.activation, z),)


def _affine(
    algebra: Algebra,
    layer: Parts,
    gate: str,
    x: Value,
    h: Value | None = None,
    *,
    bias: bool = True,
) -> Value:
    """W x + U h + b with the blocks of one gate; U only where a state is given."""
    z = algebra.linear(layer.blocks[f"W{gate}"], x)
    if h is not None:
        z = algebra.add(z, algebra.linear(layer.blocks[f"U{gate}"], h))
    if bias and f"b{gate}" in layer.blocks:
        z = algebra.add(z, algebra.bias(layer.blocks[f"b{gate}"]))
    return z


def _opened(algebra: Algebra, layer: Parts, gate: str, x: Value, h: Value | None = None) -> Value:
    """σ(W x + U h + b) with the blocks of a gate."""
    return algebra.opened(layer, gate, _affine(algebra, layer, f"_{gate}", x, h))


@dataclass(frozen=True)
class CellSpec:
    """What every part of the package needs to know of a cell.

    Roles of blocks: ``U…`` reads the output (d_h, d_out), ``W…`` the input, ``P`` projects the
    output; all others are vectors (d_h,), of which ``b…`` are biases. Each of ``gates`` has W,
    U unless the cell has none, and perhaps b.

    Attributes:
        title: what people call it.
        step: its equations.
        gates: suffixes of the gates' roles.
        sigmoids: letters of those that come from a sigmoid, such as ``"r"`` for ``"_r"``.
        reads_state: whether gates have U.
        vectors: further blocks that it must have, vectors.
        optional: further blocks that it may have.
        inner: whether it has a second state c (d_h,).
        mixes: whether its state is mixed with a candidate by `Algebra.gate`.
        affine_c: whether c ← g⊙c + v where neither g nor v depends on c.
        filters: of a convolutional cell, whether its channels are kept or averaged.
        activations: those it may have.
    """

    title: str
    step: Callable[[Algebra, Any, Value, States], States]
    gates: tuple[str, ...] = ("",)
    sigmoids: tuple[str, ...] = ()
    reads_state: bool = True
    vectors: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    inner: bool = False
    mixes: bool = False
    affine_c: bool = False
    filters: Literal["", "kept", "averaged"] = ""
    activations: tuple[str, ...] = ("tanh",)

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """Roles that it must have, gate by gate."""
        letters = "UW" if self.reads_state else "W"
        return (*(f"{letter}{g}" for g in self.gates for letter in letters), *self.vectors)

    @property
    def biases(self) -> tuple[str, ...]:
        """Roles of biases that it may have."""
        own = () if self.filters == "averaged" else tuple(f"b{gate}" for gate in self.gates)
        return (*own, *(role for role in self.optional if is_bias(role)))

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles that it may have."""
        return (*self.needed, *self.biases, *(r for r in self.optional if not is_bias(r)))


def is_vector(role: str) -> bool:
    """Whether the block of this role is a vector (d_h,)."""
    return role[0] not in "UWP"


def is_bias(role: str) -> bool:
    """Whether the block of this role is a bias."""
    return role[0] == "b"


_FREE = ("tanh", "relu")
# Every cell by name. Whatever the package knows of a cell by name, it reads here.
CELLS: dict[str, CellSpec] = {
    "vanilla": CellSpec("RNN", vanilla, activations=_FREE),
    "mgu": CellSpec("MGU", mgu, ("_r", "_h"), ("r",), mixes=True),
    "gru": CellSpec(
        "GRU", gru, ("_r", "_z", "_n"), ("r", "z"), optional=("b_hn",), mixes=True
    ),
    "gru_original": CellSpec(
        "GRU (original)", gru_original, ("_r", "_z", "_n"), ("r", "z"), mixes=True
    ),
    "lstm": CellSpec(
        "LSTM", lstm, ("_g", "_r", "_o", "_c"), ("g", "r", "o"),
        optional=("P",), inner=True, affine_c=True,
    ),
    "peephole_lstm": CellSpec(
        "LSTM (peephole)", peephole_lstm, ("_g", "_r", "_o", "_c"), ("g", "r", "o"),
        vectors=("p_g", "p_r", "p_o"), inner=True,
    ),
    "min_gru": CellSpec("minGRU", min_gru, ("_z", "_h"), ("z",), reads_state=False, mixes=True),
    "conv": CellSpec("conv RNN", conv, filters="kept", activations=_FREE),
    "conv_averaged": CellSpec(
        "conv RNN (averaged)", conv_averaged, filters="averaged", activations=_FREE
    ),
}  # fmt: skip
