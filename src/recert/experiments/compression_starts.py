"""From a trained network to where training on grids can go on from: a recipe's shape, and weights.

A recipe builds fewer networks than can be certified. Some that it does not build compute what one
that it builds computes: an embedding before a dense layer is part of that layer's W, and a bias
that is not there is a bias of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recert.blocks import Array
from recert.data import SequenceData
from recert.errors import InputError
from recert.experiments.training_runs import margins_of
from recert.network import Network

# Sequences on which the network and what is built from it must agree.
COMPARED = 256


@dataclass(frozen=True, eq=False)
class Start:
    """Where to go on from.

    Attributes:
        shape: fields of a recipe.
        weights: by block of the module that the recipe builds.
    """

    shape: dict[str, Any]
    weights: dict[str, Array]


def start_of(network: Network, sample: SequenceData) -> Start | None:
    """The recipe's shape and weights that compute what a network does; None where none does.

    Args:
        network: trained.
        sample: data that it reads; on its first `COMPARED` sequences outputs are compared.
    """
    from recert.training import Recipe
    from recert.training.rounding import network_with

    shape = _shape(network)
    if shape is None:
        return None
    given = {block.name: np.array(block.value) for block in network.blocks()}
    if "embedded" not in shape and network.embedding is not None:
        _fold(given, network)
    try:
        other = network_with(sample, Recipe(**shape), given)
    except InputError:
        return None
    weights = {block.name: np.array(block.value) for block in other.blocks()}
    return Start(shape, weights) if _agree(network, other, sample) else None


def _shape(network: Network) -> dict[str, Any] | None:
    """The architecture as fields of a recipe; None where no recipe has it."""
    from recert.training import CELLS

    first = network.layers[0].directions[0]
    plain = not network.encoder and not network.head.hidden and network.head.pool is None
    if not plain or first.cell not in CELLS:
        return None
    convolutional = first.cell == "conv"
    tokens = network.input_kind == "onehot"
    if convolutional and (network.embedding is None) == tokens:
        return None
    shape: dict[str, Any] = {
        "cell": first.cell,
        "activation": first.activation,
        "d_h": first.d_out,
        "bias": any(block.norm == "euclidean" for block in network.blocks()),
        "layers": len(network.layers),
        "bidirectional": network.two_way,
    }
    if convolutional:
        shape |= {"channels": first.d_out // first.positions, "width": first.blocks["U"].shape[2]}
        if network.embedding is not None:
            shape["embedded"] = max(1, network.embedding.rows // first.positions)
    return shape


def _fold(given: dict[str, Array], network: Network) -> None:
    """The embedding into every W that reads it."""
    assert network.embedding is not None
    E = given.pop(network.embedding.name)
    for layer in network.layers[0].directions:
        for role, block in layer.blocks.items():
            if role.startswith("W"):
                given[block.name] = given[block.name] @ E


def _agree(one: Network, other: Network, sample: SequenceData) -> bool:
    few = sample.take(slice(0, COMPARED))
    a, b = margins_of(one, few).margins, margins_of(other, few).margins
    return bool(np.allclose(a, b, rtol=0.0, atol=1e-4 * max(1.0, float(np.abs(a).max()))))
