"""Networks trained from the command line: trained, saved with what was declared, certified again.

What was declared before training (caps, horizon, number of recipes, which units were trained on and
which were set aside) goes into the network's description, so that ``certify`` finds it there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recert import data, readers
from recert.certificates.certificate import Certificate
from recert.certificates.predictor import Padding
from recert.certification.certify import JointCertificate, certify_declared, shares_of
from recert.certification.declared import Declared, Role
from recert.compression import SUFFIX
from recert.data import SequenceData
from recert.errors import InputError
from recert.networks.margins import MarginTable, margin_table
from recert.networks.network import Network
from recert.samples.sample import At, Reading, Sample
from recert.theorems.setting import dearest, most_tried
from recert.utils import files
from recert.utils.validation import short
from recert.workflows import split

if TYPE_CHECKING:
    from recert.training import Recipe

# Units of the default data that are trained on; other sets are trained on whole.
DEFAULT_UNITS = {"german-nouns": 70_000}


@dataclass(frozen=True)
class TrainingRun:
    """A network on disk and its errors.

    Units are trained on, set aside (and not looked at), or neither: held back, on which
    ``held_error`` is measured.
    """

    path: Path
    trained_on: int
    held_back: int
    error: float
    held_error: float | None
    seconds: float
    set_aside: int = 0


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
    holdout: float | str | None = None,
) -> TrainingRun:
    """Train on a data set and write the network to ``out``; see ``recert train --help``.

    ``contenders`` networks are trained to choose among them, for which each pays. ``holdout``
    units, or that share of all, are set aside before anything else.
    """
    from recert.training import train

    recipe = recipe_for(name, cell, caps, free=free, changes=changes)
    known = seeded(name, options, seed)
    loaded = data.load(name, **known)
    aside = split.held_out_units(loaded, holdout)
    divided = split.for_training(
        loaded, units=units, usual=DEFAULT_UNITS.get(name), holdout=aside, seed=seed
    )
    training, spare = divided.sample, divided.spare
    trained = train(training, recipe, seed=seed, progress=progress, description=f"training {cell}")
    network = trained.model.recert_network()
    meta = {
        "data": {"name": name, "options": known},
        **split.recorded(divided, seed),
        "cell": cell,
        "caps": trained.caps or None,
        "max_length": declared_length(training),
        "tried": recipes_tried(name, cell) * contenders,
        "seed": seed,
    }
    readers.save_network(network, out, meta=meta)
    return TrainingRun(
        out,
        training.units,
        0 if spare is None else spare.units,
        error_of(network, training),
        None if spare is None else error_of(network, spare),
        trained.seconds,
        aside,
    )


def recipes_tried(name: str, cell: str) -> int:
    """How many recipes the packaged one was chosen among with these data in view."""
    from recert.training.recipes import GERMAN_NOUNS_CHOICES

    return GERMAN_NOUNS_CHOICES[cell] if name == "german-nouns" else 1


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
        known = ", ".join(Recipe.__dataclass_fields__)
        raise InputError(f"unknown recipe fields {', '.join(unknown)}; a recipe has {known}")
    if free or (caps is None and name != "german-nouns"):
        return replace(GERMAN_NOUNS_FREE, cell=cell, **changes)
    recipe = GERMAN_NOUNS[cell]
    if caps is None:
        caps = {**(recipe.caps or {}), **(WITH_BIASES if changes.get("bias") else {})}
    return replace(recipe, caps=caps, **changes)


def error_of(network: Network, loaded: SequenceData) -> float:
    """Error at the last step, or averaged over the steps that have labels, per unit."""
    return margins_of(network, loaded).error


def margins_of(network: Network, loaded: SequenceData) -> MarginTable:
    """Margins at the last step, or at all steps that have labels."""
    at: At = "last" if loaded.labels.ndim == 1 else "average"
    reading = Reading(network.input_kind, network.d_x, network.K, at)
    sample = Sample(loaded.sequences, loaded.labels, reading, lengths=loaded.lengths)
    return margin_table(sample, readers.torch_predictor(network), groups=loaded.groups)


def certify_saved(
    model: Path,
    name: str,
    *,
    options: dict[str, Any] | None = None,
    delta: float = 0.01,
    at: Any = "last",
    caps: dict[str, float] | None = None,
    input_bound: float | None = None,
    max_length: int | None = None,
    tried: int | None = None,
    units: int | None = None,
    bounds: str | Sequence[str] = "all",
    encoding: str | int | None = None,
    holdout_role: Role | None = None,
    padding: Padding | None = None,
    output: str | int | None = None,
    together: tuple[str, ...] = (),
    budget: float = 60.0,
    progress: Any = None,
) -> Certificate:
    """Certify a network on disk on a data set, with what its description declares.

    ``tried`` and ``encoding`` may declare more than the description and the data set do, not less:
    what is known to have been chosen is paid for.
    """
    meta = meta_of(model)
    network = readers.as_network(model, output=output)
    divided = roles_of(model, name, options, units, holdout_role, network)
    sample, held = divided.sample, divided.held
    if sample.labels.ndim == 2 and at == "last":
        at = "average"
    tokens = sample.input_kind == "tokens"
    declared = Declared(
        delta=delta,
        at=at,
        lengths=sample.lengths,
        groups=sample.groups,
        caps=_complete_caps(network, caps, meta.get("caps")),
        input_bound=sample.input_bound if input_bound is None and not tokens else input_bound,
        max_length=_first(max_length, meta.get("max_length"), declared_length(sample)),
        holdout=None if held is None else (held.sequences, held.labels, held.lengths, held.groups),
        holdout_role=divided.role,
        holdout_why=divided.why,
        population=sample.population,
        draws=f"{sample.unit}s are regarded as draws from an unbounded source of them",
        tried=most_tried(meta.get("tried"), tried),
        encoding=dearest(sample.encoding, encoding),
        together=together,
        budget=budget,
        progress=progress,
        padding=padding,
        output=output,
    )
    # A file of a program is certified as one, by its length; an ONNX model by its answers.
    subject = model if model.suffix in (SUFFIX, readers.ONNX) else network
    return certify_declared(subject, sample.sequences, sample.labels, declared, bounds)


def certify_together(
    models: Sequence[Path], name: str, *, delta: float, **same: Any
) -> JointCertificate:
    """Certify networks on disk so that all statements hold at once; arguments as for one."""
    names = names_of(models)
    shares = shares_of(delta, names)
    found = [
        certify_saved(model, name, delta=shares[which], together=names, **same)
        for which, model in zip(names, models, strict=True)
    ]
    return JointCertificate(names, tuple(found), delta)


def names_of(models: Sequence[Path]) -> tuple[str, ...]:
    """Short names that tell networks on disk apart, each good for a folder.

    Raises:
        InputError: one of them is given twice.
    """
    places = [path.resolve() for path in models]
    if len(set(places)) != len(places):
        raise InputError("a network is given twice; name each once")
    depth = 1
    while True:
        names = tuple("-".join(place.parts[1:][-depth:]) for place in places)
        if len(set(names)) == len(names) or depth > max(len(place.parts) for place in places):
            return names
        depth += 1


def _complete_caps(
    network: Network, caps: dict[str, float] | None, recorded: dict[str, float] | None
) -> dict[str, float] | None:
    """Caps for every block: the user's, or the recorded ones if they name all blocks."""
    blocks = [block.name for block in network.blocks()]
    if caps is not None and set(caps) != set(blocks):
        raise InputError(f"--caps must name every block of the network: {', '.join(blocks)}")
    declared = recorded if caps is None else caps
    return declared if declared is not None and set(declared) == set(blocks) else None


def choices_known(model: Path, sample: SequenceData) -> tuple[int, str | int]:
    """What is known to have been chosen: recipes that training recorded, the data's encoding."""
    return most_tried(meta_of(model).get("tried")), sample.encoding


def units_of(
    model: Path, name: str, options: dict[str, Any] | None = None, units: int | None = None
) -> tuple[SequenceData, SequenceData | None]:
    """The units that a network on disk was trained on, and those held back, if any."""
    own_data = data.info(name).name == "own"
    network = readers.as_network(model) if own_data else None
    divided = roles_of(model, name, options, units, network=network)
    return divided.sample, divided.held


def roles_of(
    model: Path,
    name: str,
    options: dict[str, Any] | None = None,
    units: int | None = None,
    asked: Role | None = None,
    network: Network | None = None,
) -> split.DataRoles:
    """The units that a network on disk was trained on, those held out, and what these may do.

    A user's own data that it was not trained on have the classes and tokens that ``network`` has,
    where nobody says otherwise.
    """
    meta, options = meta_of(model), options or {}
    recorded = meta.get("data") or {}
    if not data.same(str(recorded.get("name")), name):
        if network is not None and data.info(name).name == "own":
            tokens = network.d_x if network.input_kind == "onehot" else None
            options = data.filled(name, options, classes=network.K, alphabet=tokens)
        loaded = data.load(name, **seeded(name, options, 0))
        return split.for_certifying(loaded, {}, units=units, asked=asked)
    known = recorded.get("options") or {}
    if not isinstance(known, dict):
        raise InputError(f"the description of {model} has damaged options of its data; train again")
    loaded = data.load(name, **seeded(name, {**known, **options}, 0))
    changed = any(known.get(key) != value for key, value in options.items() if key != "holdout")
    return split.for_certifying(loaded, meta, units=units, asked=asked, changed=changed)


# What a description may declare, and of what type.
_META: dict[str, type] = {
    "data": dict,
    "units": int,
    "digest": str,
    "holdout": dict,
    "caps": dict,
    "max_length": int,
    "tried": int,
}


def meta_of(model: Path) -> dict[str, Any]:
    """What was declared when the network was trained; InputError if it was damaged since."""
    if model.suffix == SUFFIX:
        beside = model.with_suffix(".json")
        description = files.read_json(beside) if os.path.lexists(beside) else {}
    else:
        description = readers.load_description(model)
    meta = description.get("meta") if isinstance(description, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    for name, kind in _META.items():
        value = meta.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise InputError(
                f"the description of {model} has {name} = {short(value)}, not of type "
                f"{kind.__name__}; repair or remove it"
            )
    return dict(meta)


def _first(*values: int | None) -> int | None:
    """The first value that is not None, if any."""
    return next((value for value in values if value is not None), None)


def declared_length(sample: SequenceData) -> int | None:
    """T where it was declared; None where it was read off the data."""
    return None if "max_length" in sample.read_off else sample.max_length


def seeded(name: str, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """The options, with the seed where the data set takes one and none is given."""
    takes = "seed" in data.info(name).options and "seed" not in options
    return {**options, "seed": seed} if takes else dict(options)
