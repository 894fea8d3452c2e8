"""Certificate, Bound, Assumption: frozen values, and their JSON.

A ``Bound`` is one statement evaluated; an ``Assumption`` is one row of the ledger of hypotheses; a
``Certificate`` holds both, for one network on one sample. A bound's kind is

* ``certificate``: every hypothesis it needs is proved, enforced or declared;
* ``estimate``: one is estimated from the sample, or violated; the number proves nothing;
* ``order``: the paper's formula as printed, without constants;
* ``not applicable``: the statement says nothing here, for the reason given.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recert import __version__
from recert.certificates.hypotheses import Facts, Sentences, Status, words
from recert.certificates.schema import check_certificate, seal
from recert.errors import FileError, InputError
from recert.numerics.rounding import bound_text, confidence, percent_up, rounded_up, written_up
from recert.numerics.union_bound import Cost
from recert.utils import files
from recert.utils.validation import short

SCHEMA = "recert-certificate-4"
Kind = Literal["certificate", "estimate", "order", "not applicable"]
Predictor = Literal["network", "gibbs", "majority vote"]
WHOSE: dict[str, str] = {
    "network": "",
    "gibbs": " of a network whose weights are drawn afresh for every prediction",
    "majority vote": " of the vote among networks whose weights are so drawn",
}
# The row of the ledger that says what is certified.
PREDICTOR = "predictor"
SOUND: tuple[Status, ...] = ("proved", "enforced", "declared")


@dataclass(frozen=True)
class Assumption:
    """One hypothesis: what is supposed, how far it is known, and on what evidence.

    ``facts`` are the numbers and words that its sentences speak of, by name;
    `recert.certificates.hypotheses` renders them, and nothing else can be said. InputError where no
    row has such facts.
    """

    id: str
    status: Status
    facts: Facts = field(default_factory=dict)
    _words: Sentences = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_words", words(self.id, self.status, self.facts))

    @property
    def statement(self) -> str:
        """What is supposed."""
        return self._words[0]

    @property
    def evidence(self) -> str:
        """Why it may be."""
        return self._words[1]

    @property
    def sound(self) -> bool:
        """Whether a certificate may rest on it."""
        return self.status in SOUND


@dataclass(frozen=True)
class Bound:
    """One statement evaluated on one network and one sample.

    ``log10`` is log10 of the value, None when the bound is not applicable. ``terms`` are the
    parts that the value is made of, ``choices`` what was chosen (γ, radii, scales), ``cost`` what
    each choice costs in nats, ``delta`` the failure probability spent on this bound. ``predictor``
    is whose error is bounded: the network's, that of weights drawn afresh from a posterior round it
    (``"gibbs"``), or that of the vote among such draws.
    """

    name: str
    title: str
    kind: Kind
    log10: float | None
    reference: str
    needs: tuple[str, ...] = ()
    delta: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    cost: tuple[Cost, ...] = ()
    reason: str = ""
    predictor: Predictor = "network"

    def __repr__(self) -> str:
        """One line: name, kind, value rounded up."""
        return f"Bound({self.name}: {bound_text(self.value, self.log10)}, {self.kind})"

    @property
    def value(self) -> float:
        """The bound on the risk; NaN when not applicable, inf when too large for a float."""
        if self.log10 is None:
            return math.nan
        if "value" in self.terms:
            return self.terms["value"]
        return 10.0**self.log10 if self.log10 < 308 else math.inf

    @property
    def vacuous(self) -> bool:
        """Whether the bound says no more than "the error is at most 1"."""
        return self.log10 is None or self.value >= 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        value = self.value
        return {
            "name": self.name,
            "title": self.title,
            "predictor": self.predictor,
            "kind": self.kind,
            "value": _plain(value) if math.isfinite(value) else None,
            "log10": _plain(self.log10),
            "vacuous": self.vacuous,
            "delta": self.delta,
            "needs": list(self.needs),
            "terms": {key: _plain(float(value)) for key, value in self.terms.items()},
            "choices": {key: _plain(value) for key, value in self.choices.items()},
            "cost": [
                {
                    "what": c.what,
                    "index": c.index,
                    "value": _plain(float(c.value)),
                    "nats": _plain(float(c.nats)),
                }
                for c in self.cost
            ],
            "reference": self.reference,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bound:
        """The inverse of ``to_json``."""
        terms = {key: float(value) for key, value in data["terms"].items()}
        _check_value(data["name"], data["log10"], terms.get("value"))
        return cls(
            name=data["name"],
            title=data["title"],
            kind=data["kind"],
            log10=data["log10"],
            reference=data["reference"],
            needs=tuple(data["needs"]),
            delta=data["delta"],
            terms=terms,
            choices=dict(data["choices"]),
            cost=tuple(Cost(c["what"], c["index"], c["value"], c["nats"]) for c in data["cost"]),
            reason=data["reason"],
            predictor=data["predictor"],
        )


@dataclass(frozen=True)
class ListStatement:
    """A certificate read for a finite list, of which the sample was drawn without replacement.

    ``value`` bounds the error on the whole list, ``unseen`` the error on the part not sampled;
    ``trivial`` says that the list bound is no better than calling every unseen unit wrong.
    """

    bound: str
    population: int
    value: float
    unseen: float
    threshold: float

    @property
    def trivial(self) -> bool:
        """Whether the value is above (m·R̂ + N − m)/N."""
        return self.value >= self.threshold


@dataclass(frozen=True)
class Certificate:
    """Everything that was concluded about one network from one sample.

    ``network`` and ``sample`` are plain JSON values (structure, norms, digests). ``bounds`` holds
    every bound on the menu, applicable or not.
    """

    network: Mapping[str, Any]
    sample: Mapping[str, Any]
    at: str | int
    delta: float
    assumptions: tuple[Assumption, ...]
    bounds: tuple[Bound, ...]
    finite_list: tuple[ListStatement, ...] = ()
    created: str = ""

    def __getitem__(self, name: str) -> Bound:
        """The bound of that name."""
        for bound in self.bounds:
            if isinstance(name, str) and bound.name == name:
                return bound
        known = ", ".join(b.name for b in self.bounds)
        raise InputError(f"the certificate has no bound {short(name)}; it has {known}")

    @property
    def best(self) -> Bound | None:
        """The smallest certificate; without one, the smallest estimate; without that, None."""
        for kind in ("certificate", "estimate"):
            found = [b for b in self.bounds if b.kind == kind]
            if found:
                return min(found, key=lambda b: b.value)
        return None

    @property
    def risk_bound(self) -> float:
        """The best bound on the error, at most 1."""
        return 1.0 if self.best is None else min(1.0, self.best.value)

    @property
    def kind(self) -> Kind:
        """The kind of the best bound."""
        return "not applicable" if self.best is None else self.best.kind

    @property
    def vacuous(self) -> bool:
        """Whether nothing below 1 was concluded."""
        return self.risk_bound >= 1.0

    def assumption(self, id: str) -> Assumption:
        """The row of the ledger with that id."""
        for row in self.assumptions:
            if isinstance(id, str) and row.id == id:
                return row
        known = ", ".join(row.id for row in self.assumptions)
        raise InputError(f"the ledger has no row {short(id)}; it has {known}")

    def rests_on(self, bound: Bound) -> list[Assumption]:
        """The rows of the ledger that a bound needs."""
        return [row for row in self.assumptions if row.id in bound.needs]

    def __repr__(self) -> str:
        """One line: what was concluded, of how many units."""
        best = self.best
        if best is None:
            return f"Certificate(nothing applies, m = {self.sample['m']:,})"
        weak = "" if best.kind == "certificate" else f"{best.kind}: "
        return (
            f"Certificate({weak}error ≤ {rounded_up(self.risk_bound, 4)} by {best.name}, "
            f"δ = {written_up(self.delta, 3)}, m = {self.sample['m']:,})"
        )

    def __str__(self) -> str:
        """The statement, and a line per bound: title, kind, value (or its log10 where large)."""
        lines = [self.statement(), ""]
        for bound in self.bounds:
            value = bound_text(bound.value, bound.log10)
            lines.append(f"{bound.title:45} {bound.kind:15} {value:>10}")
        return "\n".join(lines)

    def statement(self) -> str:
        """One paragraph in plain words."""
        best = self.best
        if best is None:
            return "No bound on the menu applies to this network and sample."
        m, unit = int(best.terms.get("units", self.sample["m"])), self.sample["unit"]
        percent = percent_up(self.risk_bound, 2)
        if best.kind != "certificate":
            weak = [row for row in self.rests_on(best) if not row.sound]
            because = "; ".join(f"{row.id}: {row.evidence}" for row in weak) or best.reason
            return (
                f"This is an estimate, not a certificate ({because}). Were every hypothesis met, "
                f"the error on new draws would be at most {percent}.{self._predictor()}"
            )
        if self.vacuous:
            return (
                f"Nothing was concluded from {m:,} units (each a {unit}): every certificate on the "
                f"menu is 100% or more; the smallest is {best.title}.{self._conditional()}"
                f"{self._predictor()}"
            )
        which = "held-out units" if best.name == "held_out" else "units"
        of_list = self.sample.get("reading") == "finite list"
        whom = (
            f"the error{WHOSE[best.predictor]} on {'the whole list' if of_list else 'a new draw'}"
        )
        real = not {"floats", "enclosures"}.isdisjoint(best.needs)
        arithmetic = ", for the network in real arithmetic" if real else ""
        if "loss" in best.terms:
            whom, percent = "the mean loss on a new draw", rounded_up(best.terms["loss"], 6)
        if unit != "sequence":
            whom += ", averaged within a unit and then over units,"
        return (
            f"With probability at least {confidence(self.delta)}% over the draw of {m:,} {which} "
            f"(each a {unit}), {whom} is at most {percent} ({best.title}){arithmetic}, provided "
            "that: "
            + "; ".join(row.statement for row in self.rests_on(best) if row.id != PREDICTOR)
            + f".{self._predictor()}"
        )

    def _predictor(self) -> str:
        """What is certified, in a sentence: the words of its row."""
        said = next((row.statement for row in self.assumptions if row.id == PREDICTOR), "")
        return f" {said[:1].upper()}{said[1:]}." if said else ""

    def _conditional(self) -> str:
        """What would follow, were the hypotheses of the smallest estimate met."""
        estimates = [b for b in self.bounds if b.kind == "estimate" and not b.vacuous]
        if not estimates:
            return ""
        best = min(estimates, key=lambda b: b.value)
        lacking = [f"{row.id}: {row.evidence}" for row in self.rests_on(best) if not row.sound]
        return (
            f" An estimate, not a certificate, is {percent_up(best.value, 2)} "
            f"({best.title}); what it lacks is {'; '.join(lacking)}."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, in the layout of ``certificates/certificate.json``, sealed."""
        best = self.best
        plain: dict[str, Any] = {
            "schema": SCHEMA,
            "recert": __version__,
            "created": self.created,
            "network": dict(self.network),
            "sample": dict(self.sample),
            "at": self.at,
            "delta": self.delta,
            "statement": self.statement(),
            "assumptions": [
                {
                    "id": a.id,
                    "status": a.status,
                    "facts": dict(a.facts),
                    "statement": a.statement,
                    "evidence": a.evidence,
                }
                for a in self.assumptions
            ],
            "bounds": [bound.to_json() for bound in self.bounds],
            "finite_list": [
                {
                    "bound": row.bound,
                    "population": row.population,
                    "value": row.value,
                    "unseen": row.unseen,
                    "threshold": row.threshold,
                    "trivial": row.trivial,
                }
                for row in self.finite_list
            ],
            "best": None if best is None else best.name,
        }
        return plain | {"seal": seal(plain)}

    def save(self, path: str | Path) -> Path:
        """Write JSON to ``path``, through a temporary name.

        Raises:
            FileError: it cannot be written, or a network's description stands there.
        """
        files.spare_description(path)
        text = json.dumps(self.to_json(), indent=2, allow_nan=False, ensure_ascii=False)
        return files.write_text(path, text + "\n")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Certificate:
        """The inverse of ``to_json``; InputError if the data are not of this schema."""
        try:
            if data["schema"] == SCHEMA:
                check_certificate(data)
                if data["seal"] != seal(data):
                    raise InputError(
                        "the certificate was changed after it was written; its seal does not fit"
                    )
            else:
                raise InputError(
                    f"certificate has schema {data['schema']!r}, this version reads {SCHEMA!r}; "
                    "certify the network again"
                )
            return cls(
                network=dict(data["network"]),
                sample=dict(data["sample"]),
                at=data["at"],
                delta=data["delta"],
                assumptions=tuple(
                    Assumption(a["id"], a["status"], dict(a["facts"])) for a in data["assumptions"]
                ),
                bounds=tuple(Bound.from_json(b) for b in data["bounds"]),
                finite_list=tuple(
                    ListStatement(
                        r["bound"], r["population"], r["value"], r["unseen"], r["threshold"]
                    )
                    for r in data["finite_list"]
                ),
                created=data["created"],
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"not a certificate: {error!r} while reading it") from None

    def to_frame(self) -> Any:
        """The bounds as a pandas DataFrame, one row per bound (needs pandas)."""
        try:
            import pandas as pd
        except ImportError:
            raise files.missing("pandas", "pandas", "to_frame") from None
        return pd.DataFrame([bound.to_json() for bound in self.bounds]).set_index("name")

    def plot(self, path: str | Path) -> Path:
        """Draw the ladder of bounds (log axis, the line at 1) to a PNG, SVG or PDF file."""
        from recert import report

        return report.ladder([(self, "")], path)


def _plain(value: Any) -> Any:
    """A value as JSON has it: plain floats, no minus zero."""
    if isinstance(value, float):
        return float(value) + 0.0
    return [_plain(x) for x in value] if isinstance(value, (list, tuple)) else value


def _check_value(name: str, log10: float | None, value: float | None) -> None:
    """InputError where a bound's value is another number than its logarithm says."""
    if log10 is None or value is None or (value == 0.0 and log10 < -300.0):
        return
    if value <= 0.0 or abs(math.log10(value) - log10) > 1e-6:
        raise InputError(f"not a certificate: the value of {name} is not 10^log10")


def load_certificate(path: str | Path) -> Certificate:
    """Read a certificate file; FileError if it is missing, truncated or of another schema."""
    path = files.path_of(path)
    try:
        return Certificate.from_json(files.read_json(path, printable=True))
    except InputError as error:
        raise FileError(f"{path}: {error}; pass a file that `recert certify` wrote") from None
