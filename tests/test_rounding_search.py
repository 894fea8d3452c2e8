"""The search after training on grids: every cell, every kind of label, no worse certificate."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from recert import compression, data
from recert.compression import Grid, Program
from recert.compression.program import CodedBlock
from recert.data import SequenceData
from recert.errors import InputError
from recert.training import Recipe
from recert.training.quantized import RoundedRecipe, train_rounded
from recert.training.quantized_search import Refinement, _Search, refine, weights_of
from recert.workflows.networks import error_of

SAMPLE = data.load("synthetic", m=300, seed=3)
SHORT = Refinement(rounds=3, tries=10, near=200)


def recipe(cell: str = "vanilla", **more: object) -> Recipe:
    return Recipe(cell=cell, d_h=4, epochs=3, batch=100, learning_rate=0.05, **more)


def searched(program: Program, how: Recipe, sample: SequenceData = SAMPLE) -> _Search:
    return _Search(program, sample, how, 0.01, SHORT)


def per_step() -> SequenceData:
    """The sample with a label at every step, in groups of unequal sizes."""
    labels = np.where(SAMPLE.valid, SAMPLE.labels[:, None], -1)
    groups = np.arange(SAMPLE.m) ** 2 // 700
    return replace(SAMPLE, labels=labels, groups=groups, population=None)


@pytest.mark.parametrize("cell", ["vanilla", "mgu", "gru", "lstm", "conv"])
def test_every_cell_gains_and_the_value_is_that_of_the_file(cell: str) -> None:
    how = recipe(cell, bias=True)
    program = train_rounded(SAMPLE, RoundedRecipe(how))
    before = searched(program, how).value
    found = refine(program, SAMPLE, how, search=SHORT)
    after = searched(found, how)
    assert after.value < before
    assert after.error == pytest.approx(error_of(found.network(), SAMPLE), abs=1e-12)
    length = 8 * compression.file_bytes(found)
    assert after.bits <= length <= after.bits + 24
    back = compression.decode(compression.encode(found))
    assert back.network().digest == found.network().digest


@pytest.mark.parametrize("more", [{"layers": 2}, {"bidirectional": True}])
def test_layers_and_directions(more: dict[str, object]) -> None:
    how = recipe("gru", **more)
    program = train_rounded(SAMPLE, RoundedRecipe(how))
    found = refine(program, SAMPLE, how, search=SHORT)
    assert searched(found, how).value <= searched(program, how).value
    assert compression.encode(found) == compression.encode(
        refine(program, SAMPLE, how, search=SHORT)
    )


def test_labels_at_every_step_and_groups() -> None:
    sample, how = per_step(), recipe()
    program = train_rounded(sample, RoundedRecipe(how))
    run = searched(program, how, sample)
    assert weights_of(sample).sum() == pytest.approx(1.0)
    assert run.error == pytest.approx(error_of(program.network(), sample), abs=1e-12)
    found = refine(program, sample, how, search=SHORT)
    assert searched(found, how, sample).value <= run.value


def test_predicted_moves_are_those_of_the_margins() -> None:
    """Gradients against margins after a move, on a grid so fine that a move is small."""
    how = recipe(bias=True)
    coarse = train_rounded(SAMPLE, RoundedRecipe(how))
    fine = Program(
        coarse.skeleton,
        {
            name: CodedBlock(tuple(_finer(g, 10) for g in block.factors))
            for name, block in coarse.blocks.items()
        },
    )
    run = searched(fine, how)
    pieces = list(run.gradients(SAMPLE))
    margins = np.concatenate([m.numpy() for m, _, _ in pieces])
    moved = np.concatenate([d.numpy() for _, d, _ in pieces])
    assert np.allclose(margins, run.margin, atol=1e-4)
    other = 0
    for number in range(0, run.moves.count // 2, 7):
        program = run.moves.apply(fine, 2 * number + 1)
        change = run.margins(program.network(), SAMPLE) - run.margin
        other += not np.allclose(moved[:, number], change, atol=2e-3 + 0.02 * np.abs(change).max())
    assert other == 0


def _finer(grid: Grid, by: int) -> Grid:
    """The same numbers on a finer grid."""
    return Grid(grid.integers << by, grid.mantissa, grid.exponent - by)


def test_a_move_changes_one_number() -> None:
    how = recipe()
    program = train_rounded(SAMPLE, RoundedRecipe(how))
    moves = searched(program, how).moves
    for move in range(0, moves.count, 5):
        after = moves.apply(program, move)
        changes = [
            int(np.sum(new.integers - old.integers))
            for name in program.blocks
            for old, new in zip(
                program.blocks[name].factors, after.blocks[name].factors, strict=True
            )
            if not np.array_equal(old.integers, new.integers)
        ]
        assert changes == [1 if move % 2 else -1]


def test_bad_arguments() -> None:
    how = recipe()
    program = train_rounded(SAMPLE, RoundedRecipe(how))
    with pytest.raises(InputError, match="other blocks"):
        refine(program, SAMPLE, recipe("gru"))
    with pytest.raises(InputError):
        refine(program, SAMPLE, how, delta=1.0)
    with pytest.raises(InputError, match="tries"):
        Refinement(tries=0)


def test_the_value_rises_with_bits_and_errors() -> None:
    run = searched(train_rounded(SAMPLE, RoundedRecipe(recipe())), recipe())
    assert run.certificate(0.1, 100.0) < run.certificate(0.1, 101.0)
    assert run.certificate(0.1, 100.0) < run.certificate(0.2, 100.0)
    assert 0.0 < run.trade() < math.inf
