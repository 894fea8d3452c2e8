"""Networks trained from the command line: trained, saved with what was declared, certified again.

What was declared before training (caps, horizon, number of recipes, which units were trained on)
goes into the network's description, so that ``certify`` finds it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recert import adapters, data
from recert.certificate import Certificate
from recert.data import SequenceData
from recert.errors import InputError
from recert.margins import margin_table
from recert.network import Network
from recert.pipeline import certify
from recert.sample import At, Reading, Sample

if TYPE_CHECKING:
    from recert.training import Recipe

# Units of the default data that are trained on; other sets are trained on whole.
DEFAULT_UNITS = {"german-nouns": 70_000}


@dataclass(frozen=True)
class Run:
    """A network on disk and its errors."""

    path: Path
    trained_on: int
    held_back: int
    error: float
    held_error: float | None
    seconds: float


def train_and_save(
    name: str,
    out: Path,
    *,
    options: dict[str, Any],
    caps: dict[str, float] | None,
    free: bool,
    units: int | None,
    seed: int,
    changes: dict[str, Any],
    cell: str = "vanilla",
    contenders: int = 1,
    progress: bool = True,
) -> Run:
    """Train on a data set and write the network to ``out``; see ``recert train --help``.

    ``contenders`` networks are trained to choose among them, for which each pays.
    """
    from recert.training import train
    from recert.training.recipes import GERMAN_NOUNS_CHOICES

    recipe = recipe_for(name, cell, caps, free=free, changes=changes)
    loaded = _load(name, options, seed)
    training, held = _split(loaded, DEFAULT_UNITS.get(name) if units is None else units)
    trained = train(training, recipe, seed=seed, progress=progress, description=f"training {cell}")
    network = trained.model.recert_network()
    tried = GERMAN_NOUNS_CHOICES[cell] if name == "german-nouns" else 1
    meta = {
        "data": {"name": name, "options": {**options, **_seeded(name, options, seed)}},
        "units": training.units,
        "cell": cell,
        "caps": trained.caps or None,
        "max_length": training.max_length,
        "tried": tried * contenders,
        "seed": seed,
    }
    adapters.save_network(network, out, meta=meta)
    return Run(
        out,
        training.units,
        0 if held is None else held.units,
        _error(network, training),
        None if held is None else _error(network, held),
        trained.seconds,
    )


def recipe_for(
    name: str, cell: str, caps: dict[str, float] | None, *, free: bool, changes: dict[str, Any]
) -> Recipe:
    """How a cell is trained: inside declared caps, inside those of the default data, or freely.

    Raises:
        InputError: there is no such cell, or a value is out of range.
    """
    from recert.training import Recipe, check_cell
    from recert.training.recipes import GERMAN_NOUNS, GERMAN_NOUNS_FREE, WITH_BIASES

    check_cell(cell, changes.get("activation", "tanh"))
    unknown = sorted(set(changes) - set(Recipe.__dataclass_fields__))
    if unknown:
        raise InputError(f"unknown recipe fields {', '.join(unknown)}")
    if free or (caps is None and name != "german-nouns"):
        return replace(GERMAN_NOUNS_FREE, cell=cell, **changes)
    recipe = GERMAN_NOUNS[cell]
    if caps is None:
        caps = {**(recipe.caps or {}), **(WITH_BIASES if changes.get("bias") else {})}
    return replace(recipe, caps=caps, **changes)


def _error(network: Network, loaded: SequenceData) -> float:
    """Error at the last step, or averaged over the steps that have labels, per unit."""
    at: At = "last" if loaded.labels.ndim == 1 else "average"
    reading = Reading(network.input_kind, network.d_x, network.K, at)
    sample = Sample(loaded.sequences, loaded.labels, reading, lengths=loaded.lengths)
    return margin_table(sample, adapters.torch_predictor(network), groups=loaded.groups).error


def certify_saved(
    model: Path,
    name: str,
    *,
    options: dict[str, Any],
    delta: float,
    at: Any,
    caps: dict[str, float] | None,
    input_bound: float | None,
    max_length: int | None,
    tried: int | None,
    units: int | None,
    bounds: str | Sequence[str],
) -> Certificate:
    """Certify a network on disk on a data set, with what its description declares."""
    meta = _meta(model)
    network = adapters.load_network(model)
    sample, held = units_of(model, name, options, units)
    declared = caps if caps is not None else meta.get("caps")
    complete = declared is not None and set(declared) == {b.name for b in network.blocks()}
    if caps is not None and not complete:
        blocks = ", ".join(block.name for block in network.blocks())
        raise InputError(f"--caps must name every block of the network: {blocks}")
    if sample.labels.ndim == 2 and at == "last":
        at = "average"
    return certify(
        network,
        sample.sequences,
        sample.labels,
        delta=delta,
        at=at,
        lengths=sample.lengths,
        groups=sample.groups,
        caps=declared if complete else None,
        input_bound=input_bound if sample.input_kind == "tokens" or input_bound is not None
        else sample.input_bound,
        max_length=_first(max_length, meta.get("max_length"), sample.max_length),
        holdout=None if held is None else (held.sequences, held.labels, held.lengths, held.groups),
        holdout_role="checking",
        population=sample.population,
        draws=f"{sample.unit}s are regarded as draws from an unbounded source of them",
        tried=_first(tried, meta.get("tried"), 1),
        bounds=bounds,
    )  # fmt: skip


def units_of(
    model: Path, name: str, options: dict[str, Any] | None = None, units: int | None = None
) -> tuple[SequenceData, SequenceData | None]:
    """The units that a network on disk was trained on, and those held back, if any."""
    meta = _meta(model)
    recorded = meta.get("data") or {}
    same = recorded.get("name") == name
    known = recorded.get("options") or {} if same else {}
    loaded = _load(name, {**known, **(options or {})}, 0)
    return _split(loaded, meta.get("units") if units is None and same else units)


# What a description may declare, and of what type.
_META: dict[str, type] = {"data": dict, "units": int, "caps": dict, "max_length": int, "tried": int}


def _meta(model: Path) -> dict[str, Any]:
    """What was declared when the network was trained; InputError if it was damaged since."""
    meta = adapters.load_description(model).get("meta") or {}
    for name, kind in _META.items():
        value = meta.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise InputError(
                f"the description of {model} has {name} = {value!r}, which should be of type "
                f"{kind.__name__}; repair or remove it"
            )
    return dict(meta)


def _first(*values: int | None) -> int:
    """The first value that is not None."""
    return next(value for value in values if value is not None)


def _seeded(name: str, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """The seed as an option of the data set, where it takes one."""
    return {"seed": seed} if "seed" in data.info(name).options and "seed" not in options else {}


def _load(name: str, options: dict[str, Any], seed: int) -> SequenceData:
    return data.load(name, **{**_seeded(name, options, seed), **options})


def _split(loaded: SequenceData, units: int | None) -> tuple[SequenceData, SequenceData | None]:
    if units is None or units == loaded.units:
        return loaded, None
    if units > loaded.units:
        raise InputError(
            f"{units} units asked for, {loaded.name} has {loaded.units}; ask for fewer"
        )
    return loaded.split(units)
