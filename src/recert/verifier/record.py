"""A certificate's JSON as checkers read it, and the sheet on which they note what they found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeGuard

from recert.verifier import structure
from recert.verifier.balls import Ball, ball, claims, shown
from recert.verifier.calculus import RecordedCap
from recert.verifier.horizon import Reach, WalkBudget, reach
from recert.verifier.structure import Structure
from recert.verifier.verification import Check, How

TRIED, ENCODINGS = "recipes tried on this sample", "encodings to choose among"


class Sheet:
    """Checks noted one after the other: what is false is decisive, unless it is needed for nothing.

    What cannot be checked is decisive only where a bound that is claimed rests on it.
    """

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.decisive = True
        self.claimed = True

    @contextmanager
    def of(self, record: Record, bound: Mapping[str, Any] | None) -> Iterator[None]:
        """Inside, checks are those of a bound."""
        before, self.claimed = self.claimed, record.claims(bound)
        try:
            yield
        finally:
            self.claimed = before

    @contextmanager
    def needed_by(self, record: Record, *ids: str) -> Iterator[None]:
        """Inside, checks are decisive only where a bound that is claimed needs one of these."""
        before = self.decisive
        self.decisive = before and record.needed(*ids)
        try:
            yield
        finally:
            self.decisive = before

    @property
    def fits(self) -> bool:
        """Whether model and structure are the certificate's, so that data may be measured on it."""
        names = ("network", "network.blocks", "network.digest")
        return all(check.ok for check in self.checks if check.row in names)

    def holds(
        self, row: str, ok: bool, recorded: Any, derived: Any, how: How = "re-derived"
    ) -> bool:
        """A statement that is true or not."""
        self.checks.append(Check(row, bool(ok), recorded, derived, how, self.decisive))
        return bool(ok)

    def at_least(self, row: str, recorded: Any, derived: Ball, how: How = "re-derived") -> bool:
        """A recorded upper quantity, not below the upper end of what was derived."""
        ok = number(recorded) and claims(float(recorded), derived)
        return self.holds(row, ok, recorded, shown(derived), how)

    def within(self, row: str, recorded: Any, low: float, high: float) -> bool:
        """An input that is taken as given, in its range."""
        ok = number(recorded) and low <= recorded <= high
        return self.holds(row, ok, recorded, f"in [{low:g}, {high:g}]", "given")

    def facts(self, record: Record, id: str, how: How = "re-derived", **derived: Any) -> None:
        """Facts of a hypothesis, where the ledger has it."""
        if id in record.rows:
            for name, value in derived.items():
                said = record.facts(id).get(name)
                self.holds(f"assumptions.{id}.facts.{name}", said == value, said, value, how)

    def unchecked(self, row: str, recorded: Any, why: str) -> None:
        """What cannot be checked: it does not stand."""
        decisive = self.decisive and self.claimed
        self.checks.append(Check(row, False, recorded, why, "not checked", decisive))


def number(x: Any) -> TypeGuard[float]:
    """Whether this is a number, not a truth value."""
    return isinstance(x, (int, float)) and not isinstance(x, bool)


@dataclass(frozen=True, eq=False)
class Record:
    """A certificate of the present schema, read once; which bounds could not be checked."""

    data: Mapping[str, Any]
    unverified: set[str] = field(default_factory=set)
    budget: WalkBudget = field(default_factory=WalkBudget)
    _reached: dict[Any, Reach] = field(default_factory=dict)

    @cached_property
    def network(self) -> Structure:
        """Structure in margin form."""
        return structure.read(self.data["network"])

    @property
    def sample(self) -> Mapping[str, Any]:
        """What is recorded of the sample."""
        found: Mapping[str, Any] = self.data["sample"]
        return found

    @property
    def declared(self) -> Mapping[str, Any]:
        """What was declared of it."""
        found: Mapping[str, Any] = self.sample["declared"]
        return found

    @property
    def m(self) -> int:
        """Units that statements count."""
        return int(self.sample["m"])

    @property
    def gibbs(self) -> bool:
        """Whether weights are drawn: then no class is recorded."""
        return "caps" not in self.data["network"] and not self.black_box

    @property
    def black_box(self) -> bool:
        """Whether only answers are known."""
        return "black_box" in self.data["network"]

    @property
    def of_list(self) -> bool:
        """Whether the statements speak of a finite list."""
        return bool(self.sample["reading"] == "finite list")

    @cached_property
    def statuses(self) -> dict[str, str]:
        """Id of a hypothesis → status."""
        return {row["id"]: row["status"] for row in self.data["assumptions"]}

    @cached_property
    def rows(self) -> dict[str, Mapping[str, Any]]:
        """Id of a hypothesis → its row of the ledger."""
        return {row["id"]: row for row in self.data["assumptions"]}

    def facts(self, id: str) -> Mapping[str, Any]:
        """The facts of a hypothesis; none where the ledger lacks it."""
        found: Mapping[str, Any] = self.rows.get(id, {"facts": {}})["facts"]
        return found

    @cached_property
    def class_rows(self) -> dict[str, Mapping[str, Any]]:
        """Block name → its row of the class."""
        return {row["block"]: row for row in self.data["network"].get("caps", ())}

    @property
    def bounds(self) -> Sequence[Mapping[str, Any]]:
        """Every bound."""
        found: Sequence[Mapping[str, Any]] = self.data["bounds"]
        return found

    def claims(self, bound: Mapping[str, Any] | None) -> bool:
        """Whether the certificate falls with this bound: certificates, and the best estimate."""
        if bound is None or bound["kind"] not in ("certificate", "estimate"):
            return False
        return bool(bound["kind"] == "certificate" or bound["name"] == self.data["best"])

    def needed(self, *ids: str) -> bool:
        """Whether a bound that is claimed needs one of these hypotheses."""
        return any(set(ids) & set(b["needs"]) for b in self.bounds if self.claims(b))

    def bound(self, name: str) -> Mapping[str, Any] | None:
        """The bound of that name."""
        return next((b for b in self.bounds if b["name"] == name), None)

    @cached_property
    def caps(self) -> dict[str, RecordedCap]:
        """The class, as recorded."""
        return {
            name: RecordedCap(ball(row["norm"]), None if row["row"] is None else ball(row["row"]))
            for name, row in self.class_rows.items()
        }

    def at_caps(self) -> Reach:
        """N and Λ at the caps of the class."""
        return self.reach(self.caps)

    def reach(self, caps: Mapping[str, RecordedCap]) -> Reach:
        """N and Λ at these caps, at the certificate's horizon and input bound."""
        key = tuple((name, _exact(cap.norm), _exact(cap.row)) for name, cap in caps.items())
        if key not in self._reached:
            B_x = ball(float(self.sample["input_bound"]["value"]))
            T = int(self.sample["T"])
            self._reached[key] = reach(self.network, caps, T, B_x, self.budget)
        return self._reached[key]

    def risk(self, recorded: float) -> Ball:
        """A risk as recorded; k/m itself where losses are 0 or 1."""
        return share(recorded, self.m) if self.sample["zero_one"] else ball(float(recorded))


def _exact(x: Ball | None) -> str:
    """An exact number as text; ValueError for a ball that is none."""
    return "" if x is None else str(x.man_exp())


def share(recorded: float, n: int) -> Ball:
    """The share k/n that a double stands for."""
    return ball(round(recorded * n)) / n


def is_share(recorded: Any, n: int) -> bool:
    """Whether a double is k/n for a whole number k, up to its rounding."""
    if not number(recorded) or not 0 <= recorded <= 1:
        return False
    return abs(recorded * n - round(recorded * n)) <= 1e-9 * max(1.0, recorded * n)
