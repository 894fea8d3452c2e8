"""``recert compress``: from data, or a trained network, to a short file and its certificate.

Several prices of a bit are tried, each a training that knows of the rounding; of a trained network
besides, rounding after training alone. The file that promises the smallest certificate is written,
with a record of the data beside it, so that ``recert certify FILE`` finds them again. Choosing
among files costs nothing: the certificate holds for all files at once.

From a trained network to where training on grids can go on from: a recipe's shape, and weights.

A recipe builds fewer networks than can be certified. Some that it does not build compute what one
that it builds computes: an embedding before a dense layer is part of that layer's W, and a bias
that is not there is a bias of zeros.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recert import compression, data, readers
from recert.compression import Candidate, Program
from recert.compression.search import certified
from recert.data import SequenceData
from recert.errors import InputError
from recert.networks.blocks import Array
from recert.networks.network import Network
from recert.report import CodePoint
from recert.utils import files, validation
from recert.utils.processes import in_processes
from recert.utils.validation import Brief
from recert.workflows import networks, split
from recert.workflows.networks import error_of, margins_of

if TYPE_CHECKING:
    from recert.training import Recipe
    from recert.training.quantized import RoundedRecipe

FILE, RECORD = f"program{compression.SUFFIX}", "program.json"
PRICES = (3.0, 4.0)
EVALUATIONS = 200
STEPS = 3400  # of a training at least; batches are made smaller for it, down to 64
QUICK = 20_000  # sequences on which most programs of a search are tried


@dataclass(frozen=True, eq=False, repr=False)
class Compressed(Brief):
    """What was found and written.

    Attributes:
        path: of the file.
        best: the program in it.
        frontier: all programs of which none is both shorter and better than another.
        sample: the units that were trained on.
        held: other units, for checking, or None.
    """

    path: Path
    best: Candidate
    frontier: tuple[Candidate, ...]
    sample: SequenceData
    held: SequenceData | None

    def points(self) -> list[CodePoint]:
        """The frontier with test errors, for the picture."""
        return [
            CodePoint(
                found.bytes,
                found.error,
                found.certificate,
                None if self.held is None else error_of(found.program.network(), self.held),
            )
            for found in self.frontier
        ]


def compress_and_save(
    name: str,
    out: Path,
    *,
    model: Path | None = None,
    options: Mapping[str, Any] | None = None,
    units: int | None = None,
    seed: int = 0,
    delta: float = 0.01,
    prices: Sequence[float] = PRICES,
    changes: Mapping[str, Any] | None = None,
    processes: int = 2,
    progress: Callable[[float], object] | None = None,
) -> Compressed:
    """Compress and write ``program.rcz`` and its record to ``out``.

    Args:
        name: of the data set.
        out: folder.
        model: a network on disk to go on from; None trains one from the start.
        options: of the data set.
        units: to train on, where no model says.
        seed: of the data's order and of the trainings.
        delta: failure probability of the certificate that is sought.
        prices: of a bit, in units of 1/m; one training each.
        changes: fields of the recipe to replace.
        processes: trainings at once.
        progress: called with the share of the work that is done.

    Raises:
        InputError, FileError: as ``recert train`` and ``recert certify`` do.
    """
    delta = validation.probability("delta", delta)
    if not prices:
        raise InputError("prices are empty; give at least one")
    options = dict(options or {})
    if model is None:
        known = networks.seeded(name, options, seed)
        loaded = data.load(name, **known)
        usual = networks.DEFAULT_UNITS.get(name)
        divided = split.for_training(loaded, units=units, usual=usual, holdout=0, seed=seed)
        record = {"data": {"name": name, "options": known}, **split.recorded(divided, seed)}
        record["max_length"] = networks.declared_length(divided.sample)
        # The file pays by its length; other statements on the network pay for its architecture.
        cell = recipe_for(divided.sample, dict(changes or {})).recipe.cell
        record["tried"] = networks.recipes_tried(name, cell)
        sample, held, start = divided.sample, divided.spare, None
    else:
        start = readers.load_network(model)
        divided = networks.roles_of(model, name, options, units, network=start)
        sample, held = divided.sample, divided.held
        record = {**networks.meta_of(model), "caps": None}
    m = sample.units
    found = _trained(sample, start, seed, prices, dict(changes or {}), processes, progress, delta)
    if start is not None:
        found += _searched(start, sample, m, delta, seed)
    candidates = [_candidate(program, sample, m, delta) for program in found]
    best = min(candidates, key=lambda candidate: candidate.certificate)
    record = {key: value for key, value in record.items() if value is not None}
    text = json.dumps({"meta": record}, indent=2) + "\n"
    files.write_together(
        {out / FILE: compression.encode(best.program), out / RECORD: text.encode()}
    )
    return Compressed(out / FILE, best, _frontier(candidates), sample, held)


def recipe_for(
    sample: SequenceData, changes: dict[str, Any], start: Start | None = None
) -> RoundedRecipe:
    """How to train on grids: as packaged, or in the architecture of a trained network."""
    from recert.training import Recipe
    from recert.training.quantized import GERMAN_NOUNS_ROUNDED

    unknown = sorted(set(changes) - set(Recipe.__dataclass_fields__))
    if unknown:
        known = ", ".join(Recipe.__dataclass_fields__)
        raise InputError(f"unknown recipe fields {', '.join(unknown)}; a recipe has {known}")
    rounded = GERMAN_NOUNS_ROUNDED
    if start is None:
        return replace(
            rounded, recipe=_batched(replace(rounded.recipe, **changes), sample, changes)
        )
    usual = {"epochs": 60, **changes}
    recipe = _batched(replace(rounded.recipe, **{**usual, **start.shape}), sample, changes)
    return replace(rounded, recipe=recipe, begin=0.0, full=0.3)


def _batched(recipe: Recipe, sample: SequenceData, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with batches small enough for `STEPS` steps, unless they were asked for."""
    if "batch" in changes:
        return recipe
    return replace(recipe, batch=min(recipe.batch, max(64, recipe.epochs * sample.m // STEPS)))


def _trained(
    sample: SequenceData,
    network: Network | None,
    seed: int,
    prices: Sequence[float],
    changes: dict[str, Any],
    processes: int,
    progress: Callable[[float], object] | None,
    delta: float,
) -> list[Program]:
    """One program for each price, in processes of their own; none where nothing trains so."""
    start = None if network is None else start_of(network, sample)
    if network is not None and start is None:
        return []
    recipe = recipe_for(sample, changes, start)
    weights = None if start is None else start.weights
    jobs = [(sample, replace(recipe, price=price), weights, seed, delta) for price in prices]
    alone = processes == 1 or len(jobs) == 1
    answers = starmap(trained_file, jobs) if alone else in_processes(trained_file, jobs, processes)
    found = []
    for answer in answers:
        found.append(compression.decode(answer))
        if progress is not None:
            progress(len(found) / len(jobs))
    return found


def trained_file(
    sample: SequenceData,
    recipe: RoundedRecipe,
    start: Mapping[str, Array] | None,
    seed: int,
    delta: float,
) -> bytes:
    """One training on grids and a search around it; a file is what processes can hand over."""
    from recert.training.quantized import train_rounded
    from recert.training.quantized_search import refine

    program = train_rounded(sample, recipe, start=start, seed=seed)
    return compression.encode(refine(program, sample, recipe.recipe, delta=delta))


def _searched(
    start: Network, sample: SequenceData, m: int, delta: float, seed: int
) -> list[Program]:
    """Programs near the network as it was trained."""
    few = sample.take(slice(0, min(QUICK, sample.m)))
    found = compression.compress(
        start,
        lambda network: error_of(network, sample),
        m=m,
        delta=delta,
        quick=lambda network: error_of(network, few),
        evaluations=EVALUATIONS,
        seed=seed,
    )
    return [candidate.program for candidate in found.frontier]


def _candidate(program: Program, sample: SequenceData, m: int, delta: float) -> Candidate:
    length, error = (
        compression.file_bytes(program),
        error_of(program.network(), sample),
    )
    return Candidate(program, length, error, certified(error, length, m, delta))


def _frontier(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that no other beats in both length and error, shortest first."""
    found: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.bytes, c.error)):
        if not found or candidate.error < found[-1].error:
            found.append(candidate)
    return tuple(found)


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
    from recert.training.quantized import network_with

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
