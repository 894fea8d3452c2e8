"""Coverage for the rest of the family: gated, two-way and convolutional networks, known risks.

As tests/test_coverage.py, whose adversary and broken variants it uses, with pools of networks of
other cells inside declared caps.

    python -m pytest tests/test_coverage_family.py -m slow -s   # many samples, every cell
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

import family
from recert.networks.forward import network_predictor
from recert.networks.layers import Bidirectional, Layer
from recert.networks.network import Block, Head, Network
from test_coverage import (
    CLASS_WIDE,
    DELTA,
    LANGUAGE,
    OFTEN,
    World,
    allowed,
    count_failures,
    limit_with_power,
)

POOL = 400
# Small enough that some statements are below 1 on a few thousand units.
CAP = {"spectral": 0.5, "column": 3.0, "euclidean": 0.3, "operator": 0.5}
KINDS = {
    "mgu": {"d_h": 1, "bias": False},
    "gru": {"d_h": 1, "bias": True},
    "gru_original": {"d_h": 1, "bias": False},
    "lstm": {"d_h": 1, "bias": False},
    "lstm two-way": {"d_h": 1, "bias": False, "two_way": True, "read": "final"},
    "lstm projected": {"d_h": 2, "bias": False, "proj": 1},
    "vanilla mean": {"d_h": 2, "bias": True, "read": "mean", "hidden": 2},
    "conv": {"d_h": 2, "bias": True, "embedding": 2},
}


def inside(block: Block, rng: np.random.Generator) -> Block:
    """The block scaled to a random share of its cap."""
    cap = 3.0 if block.name == "V" else CAP[block.norm]
    factor = rng.uniform(0.3, 0.99) * cap / block.norm_bound()
    return Block(block.name, block.value * factor, block.norm, positions=block.positions)


def scaled(net: Network, rng: np.random.Generator) -> Network:
    def layer(one: Layer) -> Layer:
        return Layer(one.cell, {r: inside(b, rng) for r, b in one.blocks.items()}, one.activation)

    layers = tuple(
        Bidirectional(*map(layer, item.directions)) if isinstance(item, Bidirectional)
        else layer(item) for item in net.layers
    )  # fmt: skip
    # Enough of the input's signal in a two-class head for risks to differ.
    head = Head(inside(net.head.V, rng), None, net.head.hidden)
    if net.head.hidden:
        dense = net.head.hidden[0]
        dense = type(dense)(inside(dense.A, rng), inside(dense.b, rng), dense.activation)
        head = Head(head.V, None, (dense,))
    table = None if net.embedding is None else inside(net.embedding, rng)
    return Network(layers, head, net.input_kind, table, (), net.read)


@cache
def pool(kind: str) -> World:
    rng = np.random.default_rng(7)
    sentences, lengths, p = LANGUAGE.sentences()
    classes = LANGUAGE.class_probabilities(sentences, lengths)
    networks, signed = [], []
    for _ in range(POOL):
        raw = family.random_network(rng, kind.split()[0], d_x=2, K=2, tokens=True, **KINDS[kind])
        networks.append(scaled(raw, rng))
        y = network_predictor(networks[-1])(sentences, np.asarray(lengths), "last")
        signed.append(y[:, 0] - y[:, 1])
    found = np.stack(signed)
    return World(
        np.concatenate([sentences, sentences]),
        np.repeat([0, 1], len(sentences)),
        np.concatenate(classes.T * p),
        tuple(networks),
        np.concatenate([found, -found], axis=1),
    )


def failures(kind: str, runs: int, m: int, seed: int, **how: Any) -> Counter[str]:
    place = pool(kind)
    caps = {b.name: 3.0 if b.name == "V" else CAP[b.norm] for b in place.networks[0].blocks()}
    return count_failures(runs, m, place, seed, caps, **how)


def test_certificates_of_every_cell_fail_rarely() -> None:
    """Counted over all cells together: few samples of each have no power, 64 in all have."""
    each, found = 8, Counter[str]()
    for seed, kind in enumerate(KINDS):  # samples of their own: only independent ones add power
        found += failures(kind, each, 3000, seed, delta=OFTEN, margins=(0.0,))
    most = limit_with_power(each * len(KINDS))
    for theorem in CLASS_WIDE:
        assert found[theorem.name] <= most, theorem.name
    assert found["2δ"] > most
    assert found["margin_ball below 1"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_certificates_of_every_cell_in_many_samples(kind: str) -> None:
    runs = 60
    found = failures(kind, runs, 20_000, 2)
    print(f"\n{kind}: {runs} samples of 20,000, δ = {DELTA}")
    for theorem in CLASS_WIDE:
        assert found[theorem.name] <= allowed(runs), theorem.name
        below = found[f"{theorem.name} below 1"]
        print(f"  {theorem.name:26} failed {found[theorem.name]:3}, below 1 in {below}")
    assert found["margin_ball below 1"] > 0
