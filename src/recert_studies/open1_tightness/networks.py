"""On what ``recert reproduce open-1`` climbs down its ladder: data, recipe, what is paid.

Networks that norms certify take about as many steps at every m (whole epochs), so that rungs differ
by the sample and little by training.
The caps were found on German nouns: certificates there pay for the search; on cmudict they were
fixed beforehand and cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from recert import data
from recert.data import SequenceData
from recert.errors import InputError
from recert.workflows import posteriors
from recert.workflows.networks import recipes_tried

if TYPE_CHECKING:
    from recert.training import Recipe


@dataclass(frozen=True)
class Trainee:
    """A kind of network that is trained.

    Attributes:
        data: name of its data set.
        cell: of the recipe.
        d_h: hidden units.
        capped: inside the caps that were declared for German nouns, or free.
        local: whether the local margin ball is affordable.
        how: what is certified: a network by its "norms", a network as a short "file", or a
            "posterior" over networks.
    """

    data: str
    cell: str
    d_h: int
    capped: bool = False
    local: bool = False
    how: Literal["norms", "file", "posterior"] = "norms"


TRAINEES: dict[str, Trainee] = {
    "nouns-capped-8": Trainee("german-nouns", "vanilla", 8, capped=True, local=True),
    "nouns-free-8": Trainee("german-nouns", "vanilla", 8, local=True),
    "nouns-free-16": Trainee("german-nouns", "vanilla", 16),
    "nouns-free-32": Trainee("german-nouns", "vanilla", 32),
    "nouns-gru-4": Trainee("german-nouns", "gru", 4, capped=True),
    "nouns-lstm-4": Trainee("german-nouns", "lstm", 4, capped=True),
    "cmudict-capped-8": Trainee("cmudict", "vanilla", 8, capped=True, local=True),
    "cmudict-free-8": Trainee("cmudict", "vanilla", 8, local=True),
    "nouns-file": Trainee("german-nouns", "vanilla", 16, how="file"),
    "nouns-posterior": Trainee("german-nouns", "gru", 48, how="posterior"),
    "cmudict-file": Trainee("cmudict", "vanilla", 16, how="file"),
    "cmudict-posterior": Trainee("cmudict", "gru", 48, how="posterior"),
}
QUICK = "nouns-capped-8,nouns-free-16,nouns-lstm-4,cmudict-capped-8"


def named(names: str) -> dict[str, Trainee]:
    """The kinds of networks of these names, separated by commas, or "all" of them.

    Raises:
        InputError: a name is unknown or repeats.
    """
    if names == "all":
        return dict(TRAINEES)
    parts = [part.strip() for part in names.split(",")]
    unknown = [part for part in parts if part not in TRAINEES]
    if unknown or len(set(parts)) != len(parts):
        raise InputError(
            f"networks are {names!r}; use 'all' or some of {', '.join(TRAINEES)}, each once"
        )
    found = {part: TRAINEES[part] for part in parts}
    if all(trainee.how != "norms" for trainee in found.values()):
        raise InputError(f"networks are {names!r}; name one, too, that is no file or posterior")
    return found


def recipe(trainee: Trainee, m: int, *, steps: int, batch: int) -> Recipe:
    """How such a network is trained on m units: about as many steps at any m."""
    from recert.training.recipes import GERMAN_NOUNS, GERMAN_NOUNS_FREE

    usual = GERMAN_NOUNS[trainee.cell] if trainee.capped else GERMAN_NOUNS_FREE
    batch = min(batch, m)
    epochs = max(1, round(steps / (m // batch)))
    return replace(usual, cell=trainee.cell, d_h=trainee.d_h, batch=batch, epochs=epochs)


def parts(loaded: SequenceData, m: int, held: int) -> tuple[SequenceData, SequenceData]:
    """The first m units of a shuffled data set, and its last `held`, which no network is shown.

    Raises:
        InputError: there are fewer units.
    """
    if m + held > loaded.m:
        raise InputError(
            f"{loaded.name} has {loaded.m:,} units; {m:,} to train on and {held:,} held back "
            "are more: lower largest or held"
        )
    return loaded.take(slice(0, m)), loaded.take(slice(loaded.m - held, None))


def paid(trainee: Trainee, sample: SequenceData) -> dict[str, Any]:
    """What `recert.certify` is told of choices that were made with the sample in view."""
    if trainee.how == "posterior":
        return {"tried": posteriors.TRIED.get(trainee.data, 1), "encoding": sample.encoding}
    # Files pay for recipes by their length.
    tried = recipes_tried(trainee.data, trainee.cell) if trainee.how == "norms" else 1
    return {"tried": tried, "encoding": sample.encoding}


def loaded(trainee: Trainee, seed: int) -> SequenceData:
    """Its data set in the order of this seed."""
    return data.load(trainee.data, seed=seed)
