"""From any trained network that a recipe can build, or that computes what one builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import recert
from recert.data import SequenceData, SyntheticLanguage
from recert.networks.network import Network
from recert.training import Recipe, train
from recert.workflows import compress
from recert.workflows.compress import start_of

SAMPLE = SyntheticLanguage(letters=3, max_length=5, rule="last", noise=0.05).sample(300, 3)


class Tagger(nn.Module):
    """Tokens through an embedding, a recurrent layer, a linear head, read at the last step."""

    def __init__(self, rnn: nn.Module, *, bias: bool = True, width: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 2)
        self.rnn = rnn
        self.head = nn.Linear(width, 3, bias=bias)

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(self.embedding(x))[0])


def read(model: nn.Module) -> Network:
    return recert.from_torch(model.eval(), torch.zeros(2, 5, dtype=torch.long))


@pytest.mark.parametrize(
    "model",
    [
        lambda: Tagger(nn.GRU(2, 4, batch_first=True)),
        lambda: Tagger(nn.LSTM(2, 4, batch_first=True, num_layers=2)),
        lambda: Tagger(nn.RNN(2, 4, batch_first=True, bias=False)),
        lambda: Tagger(nn.RNN(2, 4, batch_first=True, nonlinearity="relu"), bias=False),
    ],
    ids=["gru", "lstm", "no bias below", "no bias above"],
)
def test_an_embedding_is_part_of_the_layer_above_it(model: Any) -> None:
    torch.manual_seed(0)
    network = read(model())
    found = start_of(network, SAMPLE)
    assert found is not None and "E" not in found.weights and found.shape["bias"]
    assert found.weights["V"].shape == (3, 4)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(cell="conv", d_h=6, channels=2, width=3, embedded=2, epochs=1, batch=50),
        Recipe(cell="conv", d_h=6, channels=3, bias=True, epochs=1, batch=50),
        Recipe(cell="gru", d_h=3, bidirectional=True, layers=2, epochs=1, batch=50),
        Recipe(cell="mgu", d_h=3, bias=True, epochs=1, batch=50),
    ],
    ids=["conv", "conv with biases", "two ways", "mgu"],
)
def test_what_a_recipe_built_is_its_own_start(recipe: Recipe) -> None:
    network = train(SAMPLE, recipe).model.recert_network()
    found = start_of(network, SAMPLE)
    assert found is not None
    for name, value in found.shape.items():
        assert getattr(recipe, name) == value, name
    assert {b.name for b in network.blocks()} == set(found.weights)


def test_what_no_recipe_builds_has_no_start() -> None:
    torch.manual_seed(0)
    cell = nn.LSTM(2, 4, proj_size=2, batch_first=True)
    assert start_of(read(Tagger(cell, width=2)), SAMPLE) is None
    one = train(SAMPLE, Recipe(d_h=3, epochs=1, batch=50)).model.recert_network()
    mean = Network(one.layers, one.head, input_kind="onehot", read="mean")
    assert start_of(mean, SAMPLE) is None


@pytest.mark.parametrize("kind", ["conv", "embedded"])
def test_compressing_goes_on_from_them(kind: str, tmp_path: Path) -> None:
    network: Any
    if kind == "conv":
        shape = {"cell": "conv", "d_h": 6, "channels": 2, "embedded": 2}
        network = train(SAMPLE, Recipe(epochs=8, batch=50, **shape)).model.recert_network()
    else:
        torch.manual_seed(0)
        network = read(Tagger(nn.GRU(2, 4, batch_first=True)))
    whole: SequenceData = SyntheticLanguage(
        letters=3, max_length=5, rule="last", noise=0.05
    ).sample(2000, 4)
    start = start_of(network, whole)
    assert start is not None
    recipe = compress.recipe_for(whole, {"epochs": 12, "learning_rate": 0.05}, start)
    assert recipe.recipe.cell == start.shape["cell"] and recipe.begin == 0.0
    contents = compress.trained_file(whole, recipe, start.weights, 0, 0.01)
    path = tmp_path / "program.rcz"
    path.write_bytes(contents)
    found = recert.certify(
        path, whole.sequences, whole.labels, lengths=whole.lengths, max_length=5, bounds="occam"
    )
    assert found["occam"].kind == "certificate" and found["occam"].value < 0.4
    assert np.isclose(found.sample["training_error"], 0.05, atol=0.05)
