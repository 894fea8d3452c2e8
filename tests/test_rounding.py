"""Training on grids, and `recert compress`: every cell, anew and from a trained network."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import recert
from recert import compression, data
from recert.cli.entry import app
from recert.compression import decode, encode, load_program
from recert.errors import InputError
from recert.training import Recipe, train
from recert.training.quantized import RoundedRecipe, slope_at, slopes, train_rounded
from recert.workflows import compress, networks

SAMPLE = data.load("synthetic", m=600, seed=3)


def rounded(cell: str = "vanilla", **more: object) -> RoundedRecipe:
    recipe = Recipe(cell=cell, d_h=4, epochs=6, batch=100, learning_rate=0.05, **more)
    return RoundedRecipe(recipe)


def error(program: compression.Program) -> float:
    return networks.error_of(program.network(), SAMPLE)


@pytest.mark.parametrize("cell", ["vanilla", "mgu", "gru", "lstm", "conv"])
@pytest.mark.parametrize("bias", [False, True])
def test_every_cell(cell: str, bias: bool) -> None:
    program = train_rounded(SAMPLE, rounded(cell, bias=bias))
    back = decode(encode(program))
    assert back.network().description() == program.network().description()
    assert error(back) == error(program)


def test_two_layers_two_ways() -> None:
    program = train_rounded(SAMPLE, rounded("gru", layers=2, bidirectional=True))
    assert program.network().two_way and error(decode(encode(program))) == error(program)


def test_the_network_learns_and_a_dear_bit_makes_it_short() -> None:
    recipe = rounded(bias=True)
    recipe = replace(recipe, recipe=replace(recipe.recipe, epochs=20))
    shares: list[float] = []
    cheap = train_rounded(SAMPLE, replace(recipe, price=0.1), progress=shares.append)
    dear = train_rounded(SAMPLE, replace(recipe, price=100.0))
    assert shares[-1] == 1.0 and len(shares) == 20
    assert compression.file_bytes(dear) < compression.file_bytes(cheap)
    classes = np.bincount(SAMPLE.labels)
    assert error(cheap) < 1.0 - classes.max() / classes.sum()
    assert encode(train_rounded(SAMPLE, replace(recipe, price=0.1))) == encode(cheap)


def test_going_on_from_a_trained_network() -> None:
    recipe = Recipe(d_h=4, epochs=8, batch=100, learning_rate=0.05)
    network = train(SAMPLE, recipe).model.recert_network()
    start = {block.name: block.value for block in network.blocks()}
    short = replace(rounded(), begin=0.0, full=0.3)
    found = train_rounded(SAMPLE, short, start=start)
    assert error(found) <= networks.error_of(network, SAMPLE) + 0.1
    with pytest.raises(InputError, match="other blocks"):
        train_rounded(SAMPLE, rounded("gru"), start=start)


def test_slopes_are_differences_of_code_lengths() -> None:
    q = torch.tensor([[0.0, 1.0, -2.0], [0.0, 0.0, 3.0], [0.0, 1.0, 0.0]])
    found = slopes(q)
    assert found.shape[0] == 3 and bool((found > 0).all())
    # A first step out of zero costs more in a column of zeros than in one with numbers.
    assert found[0, 0] > found[2, 0]
    at = slope_at(found, torch.tensor([[0.2, 1.5, -2.7]] * 3))
    assert at[0].tolist() == [float(found[0, 0]), float(found[1, 1]), float(found[2, 2])]


@pytest.mark.parametrize(
    "change", [{"price": 0.0}, {"price": math.nan}, {"begin": 0.5}, {"hardness": 0.0}]
)
def test_recipes_out_of_range(change: dict[str, float]) -> None:
    with pytest.raises(InputError):
        replace(rounded(), **change)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_compress_and_certify_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = compress.compress_and_save(
        "synthetic", out, options={"m": 600}, prices=(2.0, 20.0), processes=1,
        changes={"d_h": 3, "epochs": 4, "batch": 100},
    )  # fmt: skip
    length = found.path.stat().st_size
    assert length == found.best.bytes and found.best in found.frontier
    sizes = [candidate.bytes for candidate in found.frontier]
    errors = [candidate.error for candidate in found.frontier]
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)
    certificate = recert.certify(
        found.path, found.sample.sequences, found.sample.labels, lengths=found.sample.lengths,
        bounds="occam",
    )  # fmt: skip
    occam = certificate["occam"]
    assert occam.kind == "certificate" and occam.choices["bytes"] == length
    assert certificate.network["program"]["bytes"] == length
    # The same network without its file has no such certificate.
    bare = recert.certify(
        load_program(found.path).network(), found.sample.sequences, found.sample.labels,
        lengths=found.sample.lengths, bounds="occam",
    )  # fmt: skip
    assert bare["occam"].kind == "not applicable" and "recert compress" in bare["occam"].reason
    again = run("certify", str(found.path), "--data", "synthetic", "--bounds", "occam")
    assert again.exit_code == 0, again.output


def test_bad_options(tmp_path: Path) -> None:
    for options, word in (
        (("--prices", "a,b"), "prices"),
        (("--prices", "nan"), "price"),
        ((str(tmp_path), "--cell", "gru"), "MODEL"),
        (("-o", "nothing=1"), "no option 'nothing'"),
    ):
        found = run("compress", *options, "--data", "synthetic", "--out", str(tmp_path / "o"))
        assert found.exit_code != 0
        assert word in str(found.exception)
