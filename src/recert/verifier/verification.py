"""What a verification found: checks row by row, and whether the certificate stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

How = Literal["re-derived", "re-measured", "repeated", "given", "not checked"]
Level = Literal["arithmetic", "model", "full"]

GIVEN = {
    "arithmetic": (
        "Counts, risks and digests of the sample, and norms, digests and divergences of the "
        "weights, are taken as given"
    ),
    "model": "Counts, risks and digests of the sample are taken as given",
    "full": (
        "What is counted on the sample was counted again; rows called repeated, with the "
        "package's own code"
    ),
}


@dataclass(frozen=True)
class Check:
    """One row of a certificate against what was derived for it.

    Attributes:
        row: where in the certificate, such as ``margin_ball.terms.rate``.
        ok: whether it stands.
        recorded: what the certificate says.
        derived: what it is held against: a number that it must not be below, or words.
        how: ``re-derived`` from the theory, ``re-measured`` on model or data, ``repeated`` with the
            package's own code, ``given`` where only the range of an input could be checked, or
            ``not checked``.
        decisive: whether the certificate falls with it.
    """

    row: str
    ok: bool
    recorded: Any
    derived: Any
    how: How = "re-derived"
    decisive: bool = True


@dataclass(frozen=True)
class Verification:
    """All checks of one certificate; true where every decisive one stands."""

    level: Level
    checks: tuple[Check, ...]

    def __repr__(self) -> str:
        """One line: whether it stands, at which level, after how many checks."""
        verdict = "stands" if self.ok else "does NOT stand"
        return f"Verification({verdict} at level {self.level}, {len(self.checks)} checks)"

    @property
    def ok(self) -> bool:
        """Whether every decisive check stands."""
        return bool(self.checks) and all(c.ok for c in self.checks if c.decisive)

    @property
    def first_failure(self) -> Check | None:
        """The first decisive check that does not stand."""
        return next(self.failures(), None)

    def failures(self) -> Iterator[Check]:
        """Decisive checks that do not stand, in order."""
        return (c for c in self.checks if c.decisive and not c.ok)

    def __bool__(self) -> bool:
        """Whether the certificate stands."""
        return self.ok

    def __str__(self) -> str:
        """One paragraph, and a line for every failure."""
        counts = {how: sum(c.how == how for c in self.checks) for how in How.__args__}  # type: ignore[attr-defined]
        told = ", ".join(f"{n} {how}" for how, n in counts.items() if n)
        verdict = "The certificate stands" if self.ok else "The certificate does NOT stand"
        lines = [
            f"{verdict} at level {self.level}: {len(self.checks)} checks ({told}). "
            f"{GIVEN[self.level]}; declared hypotheses are declared, and nothing here proves them."
        ]
        for check in self.failures():
            lines.append(
                f"  {check.row}: recorded {_short(check.recorded)}, against "
                f"{_short(check.derived)} ({check.how})"
            )
        unchecked = [c.row for c in self.checks if c.how == "not checked" and not c.decisive]
        if unchecked:
            lines.append("Not checked, and not needed: " + ", ".join(unchecked))
        return "\n".join(lines)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 90 else f"{text[:87]}..."
