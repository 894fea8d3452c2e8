"""How a prior and a posterior are trained, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from recert import arguments
from recert.errors import InputError
from recert.training.architecture import check_cell
from recert.training.recipes import Recipe


@dataclass(frozen=True)
class Candidate:
    """What the rehearsal chooses between.

    Attributes:
        learning_rate: peak of Adam's rate in the prior's training.
        weight_decay: decoupled from the gradient.
        label_smoothing: of the cross-entropy.
        d_h: hidden units of each layer in each direction.
        bidirectional: whether each layer also reads from the sequence's end.
        cell: vanilla, mgu, gru or lstm.
        epochs: passes over the prior's units.
        batch: sequences per step.

    Raises:
        InputError: a value is out of range; the message names it.
    """

    learning_rate: float = 0.1
    weight_decay: float = 0.1
    label_smoothing: float = 0.1
    d_h: int = 48
    bidirectional: bool = True
    cell: str = "gru"
    epochs: int = 16
    batch: int = 256

    def __post_init__(self) -> None:
        check_cell(self.cell, "tanh")
        arguments.positive("learning_rate", self.learning_rate)
        for name in ("d_h", "epochs", "batch"):
            arguments.whole(name, getattr(self, name))
        for name, most in (("label_smoothing", 0.99), ("weight_decay", 100.0)):
            value = arguments.number(name, getattr(self, name), f"use a number from 0 to {most:g}")
            if not 0.0 <= value <= most:
                raise InputError(f"{name} is {value}; use a number from 0 to {most:g}")

    def applied(self, prior: Recipe) -> Recipe:
        """A recipe with this candidate's architecture, rate, epochs and batch."""
        return replace(
            prior,
            cell=self.cell,
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            d_h=self.d_h,
            bidirectional=self.bidirectional,
        )


CANDIDATES = (
    Candidate(),
    Candidate(learning_rate=0.03),
    Candidate(weight_decay=0.03),
    Candidate(weight_decay=0.3),
    Candidate(label_smoothing=0.0),
    Candidate(d_h=32),
    Candidate(bidirectional=False),
    Candidate(cell="mgu"),
    Candidate(cell="lstm"),
    Candidate(cell="vanilla"),
    Candidate(epochs=32),
    Candidate(batch=128),
)
"""A usual training, and others that differ from it in one thing each."""


@dataclass(frozen=True)
class PosteriorRecipe:
    """How a prior and a posterior are trained.

    Attributes:
        prior: biases and clip of the prior's centre; what candidates name, and caps and loss, are
            not used.
        candidates: among which the rehearsal chooses.
        share: of the units, that make the prior; None where a pilot tells
            (`recert.training.shares`).
        pilot: share of the units, the first ones, on which the rehearsal runs where ``share`` is
            None; the prior gets these and, as a rule, more.
        closeness: with a pilot, by how large a share of the error the limit may at most be expected
            above it; None for the smallest limit, however far above.
        disagreement: largest share of units on which a network that is drawn may err otherwise than
            the mean network; it fixes the prior's scale.
        epochs: passes of the posterior over the units that the bound counts; 0 leaves the prior.
        batch: sequences per step of the posterior, which share a network that is drawn.
        rate: peak of the posterior's learning rate, in units of s_0.
        width: of the smooth step that stands for the error, in units of the margin.
        temperature: λ where it is fixed before any unit is seen: what an error on one unit may cost
            in nats. Large ones make the posterior memorise. None where the prior's units tell.

    Raises:
        InputError: a value is out of range; the message names it.
    """

    prior: Recipe = field(default_factory=lambda: Recipe(bias=True))
    candidates: tuple[Candidate, ...] = CANDIDATES
    share: float | None = None
    pilot: float = 0.1
    closeness: float | None = None
    disagreement: float = 0.003
    epochs: int = 2
    batch: int = 512
    rate: float = 0.05
    width: float = 0.5
    temperature: float | None = None

    def __post_init__(self) -> None:
        for name in ("share", "pilot", "disagreement"):
            if getattr(self, name) is not None:
                arguments.share(name, getattr(self, name))
        if self.closeness is not None:
            arguments.positive("closeness", self.closeness)
        if not self.candidates:
            raise InputError("candidates are none; give at least one")
        arguments.whole("epochs", self.epochs, least=0)
        arguments.whole("batch", self.batch)
        arguments.positive("rate", self.rate)
        arguments.positive("width", self.width)
        if self.temperature is not None:
            arguments.positive("temperature", self.temperature, low=1e-9, high=1e3)

    def fixing(self, **changes: Any) -> PosteriorRecipe:
        """The same with some fields of all candidates fixed, those that become equal being one."""
        fixed = dict.fromkeys(replace(candidate, **changes) for candidate in self.candidates)
        return replace(self, candidates=tuple(fixed))
