"""A claim of the paper as rows: what was found, by which criterion, how often it held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recert.errors import InputError
from recert_studies.statistics import at_least, limits, ranged, verdict

VERDICTS = ("held", "held in part", "not held")


@dataclass(frozen=True)
class Finding:
    """A quantity over seeds, networks or tasks, and how often it was as a claim says.

    Attributes:
        quantity: what it is.
        values: its values, one or several; None where there is none.
        criterion: what would make the claim true of it.
        held: whether it was so, each time; empty where nothing hangs on it.
        kind: a limit is a bound from above, at least one from below: neither is rounded inwards.
        form: of measured values, as `format` takes it.
        digits: of bounds.
        none: what to say where there is no value at all.
    """

    quantity: str
    values: tuple[float | None, ...] = ()
    criterion: str = ""
    held: tuple[bool, ...] = ()
    kind: Literal["measured", "limit", "at least"] = "measured"
    form: str = ".3f"
    digits: int = 3
    none: str = "none"

    @property
    def figure(self) -> str:
        """The row in words: the quantity, its range, the criterion and how often it held."""
        parts = [self.quantity]
        if self.values:
            parts.append(self._range())
        if self.held:
            parts.append(f"({self._count()})")
        return " ".join(parts)

    def _count(self) -> str:
        if self.criterion and len(self.held) == 1:
            return self.criterion if self.held[0] else f"{self.criterion}: not so"
        count = f"{sum(self.held)} of {len(self.held)}"
        return f"{self.criterion}: {count}" if self.criterion else count

    def _range(self) -> str:
        if self.kind == "measured":
            return ranged(self.values, self.form, none=self.none)
        span = limits if self.kind == "limit" else at_least
        return span(self.values, self.digits, none=self.none)

    def record(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        return {
            "quantity": self.quantity, "kind": self.kind, "values": list(self.values),
            "criterion": self.criterion, "held": list(self.held),
        }  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and the figure that decides it.

    Attributes:
        place: section or theorem.
        quote: the paper's words, shortened.
        verdict: one of `VERDICTS`.
        figure: the numbers that decide it, in words.
        findings: the same as rows.
    """

    place: str
    quote: str
    verdict: str
    figure: str
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise InputError(f"a verdict is one of {', '.join(VERDICTS)}, not {self.verdict!r}")

    def finding(self, quantity: str) -> Finding:
        """The row of this quantity; KeyError where there is none."""
        return {row.quantity: row for row in self.findings}[quantity]

    def record(self) -> Mapping[str, Any]:
        """The claim as JSON holds it."""
        return {
            "place": self.place, "quote": self.quote, "verdict": self.verdict,
            "figure": self.figure, "findings": [row.record() for row in self.findings],
        }  # fmt: skip


def decided(
    place: str,
    quote: str,
    findings: Iterable[Finding] = (),
    remark: str = "",
    *,
    verdict_of: str | None = None,
) -> Claim:
    """The claim that these findings decide, by all of what held; its figure has a part each.

    Args:
        place: section or theorem.
        quote: the paper's words, shortened.
        findings: rows.
        remark: what else a reader should know.
        verdict_of: the verdict where it is more than a count, such as an argument's.
    """
    rows = tuple(findings)
    held = [one for row in rows for one in row.held]
    figure = "; ".join([*(row.figure for row in rows), *([remark] if remark else [])])
    return Claim(place, quote, verdict_of or verdict(held), figure, rows)
