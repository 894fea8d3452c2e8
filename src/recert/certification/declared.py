"""What a user says of a sample, and how the sample is read by it: one value for every pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from recert.certificates.predictor import Padding, check_padding
from recert.errors import InputError
from recert.networks.forward import check_reading
from recert.networks.network import Network
from recert.networks.norm_class import Cap
from recert.readers import Arithmetic
from recert.readers.padding import Told, aligned_holdout
from recert.samples.sample import At, Enforced, Reading
from recert.theorems.setting import encoding_of
from recert.utils import validation
from recert.utils.validation import Brief, short

Role = Literal["certificate", "checking"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Declared(Brief):
    """What a user says of a sample, before and after looking; ``recert.certify`` explains it all.

    Three fields are not among that function's arguments: ``together`` lists the names of the
    networks that are certified together (δ is this network's share), ``holdout_why`` says why the
    held-out units have their role, ``arithmetic`` is that of `recert.readers.predictor_of`.
    """

    delta: float = 0.01
    at: At = "last"
    lengths: Any = None
    groups: Any = None
    input_bound: float | Enforced | None = None
    max_length: int | None = None
    caps: Mapping[str, Cap | float] | None = None
    margin: float | None = None
    initial: Any = None
    holdout: Sequence[Any] | None = None
    holdout_role: Role = "certificate"
    holdout_why: str = ""
    population: int | None = None
    tried: int = 1
    encoding: str | int = "fixed"
    draws: str = ""
    together: tuple[str, ...] = ()
    budget: float = 60.0
    memory: float = 1.0
    progress: Any = None
    recurrent: Any = None
    head: Any = None
    embedding: Any = None
    output: str | int | None = None
    steps_first: bool | None = None
    padding: Padding | None = None
    threshold: float | None = None
    arithmetic: Arithmetic | None = None

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> Declared:
        """From a function's arguments by name, those that are declarations."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: arguments[name] for name in names if name in arguments})

    def checked(self) -> Declared:
        """The same, its plain values checked; InputError for the first that is out of range."""
        validation.word("holdout_role", self.holdout_role, ("certificate", "checking"))
        validation.text("draws", self.draws)
        if self.progress is not None and not callable(self.progress):
            raise InputError(f"progress is {short(self.progress)}; pass a function of a count")
        margin, population, T = self.margin, self.population, self.max_length
        padding = check_padding(self.padding)
        if padding == "as given" and self.at != "last":
            raise InputError("with padding='as given' the loss is read at='last' only")
        return replace(
            self,
            padding=padding,
            threshold=_threshold(self.threshold),
            delta=validation.probability("delta", self.delta),
            at=validation.step("at", self.at),
            max_length=None if T is None else validation.whole("max_length", T),
            input_bound=_radius(self.input_bound),
            margin=None if margin is None else validation.positive("margin", margin),
            tried=validation.whole("tried", self.tried),
            encoding=encoding_of(self.encoding),
            budget=_limit("budget", self.budget),
            memory=_limit("memory", self.memory),
            population=None if population is None else validation.whole("population", population),
        )

    @property
    def of_list(self) -> bool:
        """Whether statements speak of a finite list, not of new draws."""
        return self.population is not None and not self.draws

    def recorded(self) -> dict[str, Any]:
        """What certificates keep of it: from these values follows which choices are paid for."""
        given = self.input_bound
        bound = given.value if isinstance(given, Enforced) else given
        return {
            "margin": self.margin,
            "tried": self.tried,
            "encoding": self.encoding,
            "together": len(self.together) or 1,
            "input_bound": None if bound is None else float(bound),
        }

    def reading(self, network: Network) -> Reading:
        """How a network reads the sample; InputError for a step that it does not read."""
        at, max_length = self.at, self.max_length
        if not isinstance(at, str):
            if max_length is not None and max_length < at:
                raise InputError(
                    f"at is step {at}, beyond max_length = {max_length}; sequences are cut there"
                )
            max_length = at
        enforce = self.input_bound.value if isinstance(self.input_bound, Enforced) else None
        check_reading(network, at)
        return Reading(network.input_kind, network.d_x, network.K, at, max_length, enforce)

    def held_back(self) -> Holdout | None:
        """The held-out units, with valid steps first; InputError if that is no holdout."""
        if self.holdout is None:
            return None
        read, told = aligned_holdout(self.holdout, self.padding, last=self.at == "last")
        lengths = self.holdout[2] if len(self.holdout) > 2 else None
        return Holdout((self.holdout[0], lengths), *read, told)

    def need_groups_of(self, holdout: Holdout) -> None:
        """InputError if the sample has groups and the held-out units have none."""
        if self.groups is not None and holdout.groups is None:
            raise InputError(
                "the sample has groups and the held-out units have none; pass them as the fourth "
                "member of holdout"
            )


@dataclass(frozen=True, eq=False, repr=False)
class Holdout(Brief):
    """Held-out units.

    Attributes:
        shown: sequences and lengths as they came.
        sequences: with valid steps first.
        labels: of these.
        lengths: likewise.
        groups: (n,) ids, or None.
        told: how they are padded.
    """

    shown: tuple[Any, Any]
    sequences: Any
    labels: Any
    lengths: Any
    groups: Any
    told: Told


def _threshold(given: Any) -> float | None:
    remedy = "give the score above which a predictor with one score says class 1"
    return None if given is None else validation.number("threshold", given, remedy) + 0.0


def _radius(given: Any) -> float | Enforced | None:
    """An input bound as a plain float, whatever number it came as."""
    if isinstance(given, Enforced):
        return Enforced(validation.positive("input_bound", given.value))
    return None if given is None else validation.positive("input_bound", given)


def _limit(what: str, value: Any) -> float:
    """A number of seconds or GiB; infinity lifts the limit."""
    if isinstance(value, float) and value == math.inf:
        return value
    return validation.positive(what, value)
