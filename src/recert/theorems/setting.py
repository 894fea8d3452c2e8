"""What every certified statement is given, and the form that each takes.

A theorem is a frozen object with a ``name``, a ``title``, a ``reference``, the ids of the
hypotheses it ``needs``, ``supports(setting)`` and ``bound(setting, delta)``.

What every certificate pays for what was declared, all of it in this one place (theory 6).

Two choices concern every statement, whatever it is: the recipe, one of ``tried``, and the encoding
of inputs, one of so many. Each costs the logarithm of its number. Statements that hold for whatever
network a recipe gives out owe nothing for recipes; all owe for the encoding, in whose choice all
units were in view, held-out ones included.

More that is declared never costs less: a price grows with its own number and knows of no other,
`most_tried` and `dearest` never lower what is known already, and `paying` collects what a statement
left out.
Networks that are certified together share δ besides (`recert.certification.certify`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from recert.certificates.certificate import Bound, Predictor
from recert.errors import InputError
from recert.networks.margins import MarginTable
from recert.networks.network import MarginForm
from recert.networks.norm_class import SMALLEST, Cap
from recert.numerics.union_bound import MARGIN_GRID, Cost, FiniteChoice, total_nats
from recert.samples.sample import Sample
from recert.sensitivities.sensitivity import Sensitivity, sensitivities
from recert.utils import validation
from recert.utils.validation import Brief

Array = NDArray[np.float64]
S = TypeVar("S", contravariant=True)

# Relative amount by which every value is moved outwards, for the few dozen roundings in it.
OUTWARD = 1e-12
# Added to sums of logarithms, which may be smaller than any double.
TINY = 1e-300
SQRT2 = math.sqrt(2.0)
# What every statement needs, and those on a recipe that was chosen.
SAID = ("predictor", "encoding", "step", "settings")
UNIVERSAL = ("iid", *SAID, "architecture")


@dataclass(frozen=True, eq=False, repr=False)
class Setting(Brief):
    """A network, its class, and what the sample says; what theorems are evaluated on.

    Args:
        network: the trained network's margins.
        table: margins of the training sample.
        steps: T, the horizon.
        input_bound: B_x.
        caps: the class, one ``Cap`` per block of ``network``.
        cap_costs: prices of caps that were measured.
        l1_costs: prices of ℓ1 caps that were measured.
        choice_costs: prices of choices that concern every statement (`recert.theorems.setting`).
        margin: γ declared before looking, or None to choose it on the grid and pay.
        initial: block name → weights before training, for priors centred there.
        holdout: margins on held-out units, or None.
        code_bytes: length of the self-delimiting file that the network was decoded from, or None.
        reread: opens the training sample once more, or None where it could be read only once.
        budget: seconds of a nominal core that a statement may take, by an estimate beforehand.
        memory: GiB that a statement may hold at once.
        progress: called with the number of sequences that were followed since the last call.
    """

    network: MarginForm
    table: MarginTable
    steps: int
    input_bound: float
    caps: dict[str, Cap]
    cap_costs: tuple[Cost, ...] = ()
    l1_costs: tuple[Cost, ...] = ()
    choice_costs: tuple[Cost, ...] = ()
    margin: float | None = None
    initial: dict[str, Array] | None = None
    holdout: MarginTable | None = None
    code_bytes: int | None = None
    reread: Callable[[], Sample] | None = None
    budget: float = 60.0
    memory: float = 1.0
    progress: Callable[[int], object] | None = None

    @property
    def m(self) -> int:
        """Number of independent units."""
        return self.table.m

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Block names, in the order of every (K, …) array below."""
        return tuple(block.name for block in self.network.blocks())

    @cached_property
    def parameters(self) -> Array:
        """P_k."""
        return np.array([float(block.parameters) for block in self.network.blocks()])

    @cached_property
    def log_caps(self) -> Array:
        """log c_k."""
        with np.errstate(divide="ignore"):
            return np.log(np.array([self.caps[name].norm for name in self.names]))

    @cached_property
    def at_caps(self) -> Sensitivity:
        """N_y and Λ_y at the caps; arrays lead with an axis of length 1."""
        return self.sensitivities([self.caps])

    @cached_property
    def log_lambda(self) -> Array:
        """log Λ_k at the caps, (K,)."""
        return np.array([float(self.at_caps.log_lambda[name][0]) for name in self.names])

    @cached_property
    def log_lambda_at_norms(self) -> Array:
        """log Λ_k at the weights' own norms as caps, (K,)."""
        caps = {
            # Never zero: a block of norm 0 still moves, however little float64 sees of it.
            block.name: Cap(max(block.norm_bound() * (1 + 1e-12), SMALLEST))
            for block in self.network.blocks()
        }
        found = self.sensitivities([caps])
        return np.array([float(found.log_lambda[name][0]) for name in self.names])

    @cached_property
    def log_a(self) -> Array:
        """log a_k, a_k = 2√2·c_k Λ_k P/P_k (theory, 4a)."""
        shares = np.log(self.parameters.sum() / self.parameters)
        return math.log(2 * SQRT2) + self.log_caps + self.log_lambda + shares

    def sensitivities(self, systems: list[dict[str, Cap]]) -> Sensitivity:
        """Sensitivities at other caps, at this setting's horizon and input bound."""
        return sensitivities(self.network, systems, steps=self.steps, input_bound=self.input_bound)

    @cached_property
    def margin_choices(self) -> tuple[Array, Array, list[Cost | None]]:
        """Candidate γ, their prices in nats, and the cost rows (None when γ is declared)."""
        if self.margin is not None:
            return np.array([self.margin]), np.zeros(1), [None]
        largest = float(self.table.sorted_margins[-1])
        if largest <= 0.0:
            largest = float(np.abs(self.table.sorted_margins).max()) or 1.0
        largest = min(max(largest, 1e-250), 1e250)
        rows = []
        for j in MARGIN_GRID.values_between(largest * 2.0**-12, largest * 2.0):
            value = MARGIN_GRID.value(int(j))
            rows.append(Cost("margin γ", int(j), value, MARGIN_GRID.cost(int(j))))
        gammas = np.array([row.value for row in rows])
        return gammas, np.array([row.nats for row in rows]), list(rows)

    def at_horizon(self, steps: int, **changes: Any) -> Setting:
        """The same setting at another horizon, and with other fields replaced."""
        return replace(self, steps=steps, **changes)


class Statement(Protocol[S]):
    """A certified statement, evaluated on a setting of its kind."""

    @property
    def name(self) -> str:
        """Identifier, unique on the menu."""

    @property
    def title(self) -> str:
        """A few words for tables."""

    @property
    def reference(self) -> str:
        """Where the statement is proved."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Ids of the hypotheses in the ledger."""

    @property
    def predictor(self) -> Predictor:
        """Whose error it bounds."""
        return "network"

    @property
    def for_lists(self) -> bool:
        """Whether it holds for a finite list sampled without replacement (theory, section 6)."""
        return False

    @property
    def free(self) -> tuple[str, ...]:
        """Rows that it owes nothing for; all else it pays."""
        return ()

    @property
    def quick(self) -> bool:
        """Whether it costs some milliseconds once margins are known."""
        return False

    def supports(self, setting: S) -> str:
        """Empty if the statement applies, otherwise the reason why not."""
        return ""

    def bound(self, setting: S, delta: float) -> Bound:
        """The bound at failure probability ``delta``, as if every hypothesis held."""


Theorem = Statement[Setting]


def log10_of(log_value: float) -> float:
    """Natural log to log10, rounded up."""
    return log_value / math.log(10.0) + OUTWARD


def not_applicable(theorem: Theorem, reason: str) -> Bound:
    """The row of a statement that says nothing here."""
    return Bound(
        theorem.name, theorem.title, "not applicable", None, theorem.reference,
        needs=theorem.needs, reason=reason, predictor=theorem.predictor,
    )  # fmt: skip


def finish(
    theorem: Theorem,
    value: float,
    log_value: float,
    *,
    delta: float,
    terms: dict[str, float],
    choices: dict[str, Any],
    cost: tuple[Cost | None, ...],
    predictor: Predictor = "network",
) -> Bound:
    """A Bound of a theorem; ``value`` may be inf where only its log is finite."""
    if math.isfinite(value):
        terms = {"value": value, **terms}
    return Bound(
        name=theorem.name,
        title=theorem.title,
        kind="certificate",
        log10=log10_of(log_value),
        reference=theorem.reference,
        needs=theorem.needs,
        delta=delta,
        terms=terms,
        choices=choices,
        cost=tuple(row for row in cost if row is not None),
        predictor=predictor,
    )


RECIPES, ENCODINGS = "recipes tried on this sample", "encodings to choose among"


def encoding_of(encoding: Any) -> str | int:
    """How inputs came to be encoded, checked: ``"fixed"``, ``"learnt"``, or one of how many.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(encoding, str) and encoding in ("fixed", "learnt"):
        return encoding
    remedy = "use 'fixed', 'learnt', or the number of encodings among which it was chosen"
    if isinstance(encoding, (bool, str)):
        raise InputError(f"encoding is {encoding!r}; {remedy}")
    return validation.whole("encoding", encoding)


def most_tried(*counts: Any) -> int:
    """The largest of several numbers of recipes, each checked; None says nothing, 1 is the least.

    Raises:
        InputError: one of them is no whole number from 1 up.
    """
    return max((validation.whole("tried", n) for n in counts if n is not None), default=1)


def dearest(*encodings: Any) -> str | int:
    """The encoding that says most: learnt, else the largest number; None says nothing.

    Raises:
        InputError: one of them is no such declaration.
    """
    ranks = {"fixed": 1.0, "learnt": math.inf}
    found = [encoding_of(e) for e in encodings if e is not None]
    return max(found, key=lambda e: ranks[e] if isinstance(e, str) else e, default="fixed")


def shared_costs(tried: int, encoding: str | int) -> tuple[Cost, ...]:
    """The rows of what every statement may owe.

    Args:
        tried: recipes among which this one was chosen on the sample.
        encoding: as in `encoding_of`; a learnt one has no price, but makes a hypothesis violated.
    """
    found = []
    for what, n in ((RECIPES, tried), (ENCODINGS, encoding)):
        if isinstance(n, int) and n > 1:
            found.append(Cost(what, None, float(n), FiniteChoice(n).cost()))
    return tuple(found)


def owed(theorem: Any, costs: Iterable[Cost]) -> tuple[Cost, ...]:
    """Those rows that a statement owes: all, unless it says of what it is free."""
    free = getattr(theorem, "free", ())
    return tuple(cost for cost in costs if cost.what not in free)


def paying(theorem: Any, setting: Any, share: float, costs: Iterable[Cost]) -> Bound:
    """A statement at its share of δ, having paid what it owes whether or not it thought of it.

    To pay n nats is to be evaluated at δ·e^−n.
    """
    bound: Bound = theorem.bound(setting, share)
    unpaid = [cost for cost in owed(theorem, costs) if cost not in bound.cost]
    if not unpaid or bound.kind == "not applicable":
        return bound
    # A little lower, for the roundings of the product.
    less = share * math.exp(-total_nats(unpaid)) * (1.0 - 1e-12)
    return replace(theorem.bound(setting, less), delta=share, cost=(*bound.cost, *unpaid))
