"""Random networks of the whole family, for tests."""

from __future__ import annotations

import numpy as np

from recert.networks.cells import CELLS as SPECS
from recert.networks.layers import Bidirectional, Dense, Layer, layer_of, suffix_of
from recert.networks.network import Block, Head, Network

CELLS = tuple(SPECS)
SIMPLE = tuple(cell for cell in CELLS if not SPECS[cell].filters)


def random_layer(
    rng: np.random.Generator,
    cell: str,
    d_in: int,
    d_h: int,
    *,
    bias: bool = True,
    proj: int = 0,
    scale: float = 1.0,
    suffix: str = "",
    reads_tokens: bool = False,
    activation: str = "tanh",
    width: int = 3,
) -> Layer:
    """A layer with normal weights; "conv" has 2 channels of d_h/2 positions, which d_in fills."""

    def draw(*shape: int) -> np.ndarray:
        return scale * rng.standard_normal(shape) / np.sqrt(max(1, shape[-1]))

    values: dict[str, np.ndarray] = {}
    d_out = proj or d_h
    spec = SPECS[cell]
    for gate in spec.gates:
        if cell == "conv":
            values["U"], values["W"] = draw(2, 2, width), draw(2, 2 * d_in // d_h, width)
        elif cell == "conv_averaged":
            values["U"], values["W"] = draw(width, 1, width), draw(width, d_in // d_h, width)
        else:
            if spec.reads_state:
                values[f"U{gate}"] = draw(d_h, d_out)
            values[f"W{gate}"] = draw(d_h, d_in)
        if bias and cell != "conv_averaged":
            values[f"b{gate}"] = draw(2 if cell == "conv" else d_h)
    values |= {role: draw(d_h) for role in spec.vectors}
    if bias and "b_hn" in spec.optional:
        values["b_hn"] = draw(d_h)
    if proj:
        values["P"] = draw(proj, d_h)
    positions = {"conv": d_h // 2, "conv_averaged": d_h}.get(cell, 1)
    return layer_of(
        cell,
        values,
        suffix=suffix,
        reads_tokens=reads_tokens,
        activation=activation,
        positions=positions,
    )


def random_network(
    rng: np.random.Generator,
    cell: str,
    *,
    d_x: int = 4,
    d_h: int = 4,
    K: int = 3,
    layers: int = 1,
    two_way: bool = False,
    bias: bool = True,
    proj: int = 0,
    tokens: bool = False,
    embedding: int = 0,
    encoder: int = 0,
    hidden: int = 0,
    read: str = "step",
    activation: str = "tanh",
    head_activation: str = "relu",
    scale: float = 1.0,
) -> Network:
    """A network; ``embedding``, ``encoder`` and ``hidden`` are widths, 0 for none."""

    def block(name: str, *shape: int, norm: str = "spectral") -> Block:
        value = scale * rng.standard_normal(shape) / np.sqrt(shape[-1])
        return Block(name, value, norm)  # type: ignore[arg-type]

    width, column = d_x, tokens
    table = None
    if embedding:
        table, width, column = block("E", embedding, d_x, norm="column"), embedding, False
    encoders: tuple[Dense, ...] = ()
    if encoder:
        A = block("F", encoder, width, norm="column" if column else "spectral")
        encoders = (Dense(A, block("b_F", encoder, norm="euclidean"), head_activation),)
        width, column = encoder, False
    stack: list[Layer | Bidirectional] = []
    for k in range(layers):
        pair = [
            random_layer(
                rng,
                cell,
                width,
                d_h,
                bias=bias,
                proj=proj,
                scale=scale,
                suffix=suffix_of(k, layers, reverse=reverse),
                reads_tokens=column and k == 0,
                activation=activation,
            )
            for reverse in ((False, True) if two_way else (False,))
        ]
        stack.append(Bidirectional(*pair) if two_way else pair[0])
        width = stack[-1].d_out
    dense: tuple[Dense, ...] = ()
    if hidden:
        b = block("b_G", hidden, norm="euclidean")
        dense = (Dense(block("G", hidden, width), b, head_activation),)
        width = hidden
    head = Head(block("V", K, width), block("b_V", K, norm="euclidean"), dense)
    kind = "onehot" if tokens else "real"
    return Network(tuple(stack), head, kind, table, encoders, read)  # type: ignore[arg-type]
