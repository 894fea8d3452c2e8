"""Level "arithmetic": everything that follows from the certificate's JSON alone.

η: by how much float64 may move a margin (theory, section 3, "Rounding").

The calculus once more, with a tag that is charged at every operation with the error that float64
commits there, and with norms enlarged so that they bound what is computed as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from recert.certificates.certificate import Certificate
from recert.certificates.schema import check_certificate
from recert.errors import RecertError
from recert.verifier import (
    black_box,
    hypotheses,
    posterior_bounds,
    titles,
)
from recert.verifier import hypotheses as wording
from recert.verifier.balls import ONE, ZERO, Ball, ball, log_of, total
from recert.verifier.calculus import Equations, RecordedCap, Value
from recert.verifier.horizon import TooLongError, output
from recert.verifier.limits import strange
from recert.verifier.record import Record, Sheet, number
from recert.verifier.statements import PAC_BAYES, STATEMENTS
from recert.verifier.structure import RecordedPart, Structure, read
from recert.verifier.verification import Check

# What values of a wrong type or out of range lead to.
UNUSABLE = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    AssertionError, StopIteration,
)  # fmt: skip


def check(data: Mapping[str, Any], sheet: Sheet) -> Record | None:
    """All checks on a sealed certificate of the present schema; None if it contradicts itself."""
    check_certificate(data)
    odd = strange(data)
    if not sheet.holds("text", not odd, odd, "letters that are seen, digits 0 to 9, no sign of 0"):
        return None
    record = Record(data)
    readable = hypotheses.check_statuses(record, sheet)
    if not wording.check_sentences(record, sheet) or not readable:
        return None
    again = Certificate.from_json(data).to_json()
    for key in (key for key in again if key != "seal"):
        # As text, because to Python 4 is 4.0 and 1 is true.
        same = json.dumps(again[key], sort_keys=True) == json.dumps(data[key], sort_keys=True)
        sheet.holds(key, same, _first(data[key]), _first(again[key]))
    if record.black_box:
        _guarded("assumptions", lambda: black_box.check(record, sheet), sheet)
        _statements(record, sheet)
        return record
    try:
        blocks = record.network.blocks
    except RecertError as error:
        sheet.holds("network", False, str(error), "a network of the family")
        return None
    sheet.holds("network", bool(blocks), len(blocks), "a network of the family")
    _guarded("assumptions", lambda: hypotheses.check_facts(record, sheet), sheet)
    _statements(record, sheet)
    _guarded("finite_list", lambda: posterior_bounds.check(record, sheet), sheet)
    _guarded("sample.float_slack", lambda: check_slack(record, sheet), sheet)
    _described(record, sheet)
    return record


def _statements(record: Record, sheet: Sheet) -> None:
    """Every bound, that they hold together, and the best of them."""
    _guarded("assumptions", lambda: wording.check(record, sheet), sheet)
    titles.check(record, sheet)
    names = [bound["name"] for bound in record.bounds]
    sheet.holds("bounds", len(set(names)) == len(names), names, "no name twice")
    # The best first: where there is too much to derive, it is the one that must be.
    for bound in sorted(record.bounds, key=lambda b: b["name"] != record.data["best"]):
        _bound(record, bound, sheet)
    _shares(record, sheet)
    _best(record, sheet)


def _described(record: Record, sheet: Sheet) -> None:
    """What no bound rests on."""
    sheet.decisive = False
    if "gates" in record.data["network"]:
        sheet.unchecked("network.gates", "…", "a description")
    sheet.decisive = True


def _guarded(row: str, run: Callable[[], None], sheet: Sheet) -> None:
    """Run some checks; what they cannot read does not stand."""
    try:
        run()
    except UNUSABLE as error:
        sheet.decisive = True
        sheet.unchecked(row, "…", f"unusable values: {error}")


def _first(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, type(None))) else "…"


def _bound(record: Record, bound: Mapping[str, Any], sheet: Sheet) -> None:
    """One bound: its hypotheses, its kind, and its numbers where it claims any."""
    name, kind = bound["name"], bound["kind"]
    if kind in ("order", "not applicable"):
        claimed = kind == "order" and name in STATEMENTS
        sheet.holds(f"{name}.kind", not claimed, kind, "a printed formula")
        if kind == "order":
            _printed(bound, sheet)
            return
        empty = bound["value"] is None and bound["log10"] is None
        sheet.holds(f"{name}.value", empty, bound["value"], "nothing is claimed")
        return
    fits = name in STATEMENTS
    fits = fits and any((who != "network") == record.gibbs for who in STATEMENTS[name].of)
    fits = fits and (record.black_box or name != black_box.LOSSES)
    if not sheet.holds(f"{name}.kind", fits, kind, "a statement of the theory"):
        return
    hypotheses.check_needs(record, bound, sheet)
    with sheet.of(record, bound):
        _numbers(record, bound, sheet)


def _printed(bound: Mapping[str, Any], sheet: Sheet) -> None:
    """A printed formula bounds nothing: its numbers are the producer's word."""
    before, sheet.decisive = sheet.decisive, False
    sheet.unchecked(f"{bound['name']}.value", bound["value"], "a printed formula, not derived")
    sheet.decisive = before


def _numbers(record: Record, bound: Mapping[str, Any], sheet: Sheet) -> None:
    name = bound["name"]
    ok = number(bound["delta"]) and 0 < bound["delta"] <= record.data["delta"]
    if not sheet.holds(f"{name}.delta", ok, bound["delta"], record.data["delta"]):
        return
    try:
        derived = STATEMENTS[name].derive(record, bound, sheet)
    except TooLongError as error:
        record.unverified.add(name)
        sheet.claimed = sheet.claimed and name == record.data["best"]
        sheet.unchecked(f"{name}.value", bound["value"], f"horizon too long: {error}")
        return
    except UNUSABLE as error:
        record.unverified.add(name)
        sheet.unchecked(f"{name}.value", bound["value"], f"no inputs to derive it from: {error}")
        return
    _value(bound, derived, sheet)


def _value(bound: Mapping[str, Any], derived: Ball, sheet: Sheet) -> None:
    """The number itself, its logarithm, and whether it says anything."""
    name, value, log10 = bound["name"], bound["value"], bound["log10"]
    ten = ball(10).log()
    if value is None:
        vast = number(log10) and log10 > 300
        sheet.holds(f"{name}.value", vast, value, "a number, or a logarithm beyond doubles")
    else:
        sheet.at_least(f"{name}.value", value, derived)
        same = bound["terms"].get("value") == value
        sheet.holds(f"{name}.terms.value", same, bound["terms"].get("value"), value)
        gap = abs(ball(float(log10)) - ball(value).log() / ten) if value > 0 else ball(1)
        sheet.holds(f"{name}.log10", bool(gap <= ball(1e-9)), log10, f"log10 of {value}")
    sheet.at_least(f"{name}.log10", log10, log_of(derived) / ten)
    vacuous = value is None or value >= 1.0
    sheet.holds(f"{name}.vacuous", bound["vacuous"] == vacuous, bound["vacuous"], vacuous)


def _shares(record: Record, sheet: Sheet) -> None:
    """All statements hold at once: their δ add up to no more than the certificate's.

    Those of estimates count as well: they would hold together if their hypotheses did.
    """
    spent = [
        ball(float(bound["delta"]))
        for bound in record.bounds
        if bound["kind"] in ("certificate", "estimate") and bound["name"] != "majority_vote"
    ]
    # One δ' pays for one limit of one set of draws.
    keys = ("monte_carlo_delta", "monte_carlo_draws", "gibbs_error_drawn", "disagreement",
            "monte_carlo_rate")  # fmt: skip
    limits = {
        tuple(bound["terms"].get(key) for key in keys)
        for bound in record.bounds
        if bound["name"] in PAC_BAYES and bound["kind"] in ("certificate", "estimate")
    }
    drawn = {limit[0] for limit in limits}
    sheet.holds("delta", len(limits) <= 1, sorted(map(str, limits)), "one limit of the draws")
    # For a list the draws' lower limit counts as well.
    times = 1 if record.sample["population"] is None else 2
    spent += [times * ball(float(delta)) for delta in drawn if number(delta)]
    sheet.at_least("delta", record.data["delta"], total(spent))


def _best(record: Record, sheet: Sheet) -> None:
    """The smallest certificate; without one, the smallest estimate."""
    for kind in ("certificate", "estimate"):
        values = {
            bound["name"]: float("inf") if bound["value"] is None else bound["value"]
            for bound in record.bounds
            if bound["kind"] == kind
        }
        if values:
            best = record.data["best"]
            ok = values.get(best) == min(values.values())
            sheet.holds("best", ok, best, min(values, key=lambda name: values[name]))
            return
    sheet.holds("best", record.data["best"] is None, record.data["best"], None)


def sealed(data: Mapping[str, Any], derived: str) -> Check:
    """Whether the seal fits what it closes."""
    return Check("seal", data.get("seal") == derived, data.get("seal"), derived, "re-derived")


TAG = "@rounding"
UNIT = ball(2) ** -53
UNDERFLOW = ball(2) ** -1073
# The key under which a certificate keeps a block's own norm.
OWN = {"spectral": "spectral", "column": "column", "euclidean": "column", "operator": "operator"}


class Rounded(Equations):
    """The calculus on what float64 computes.

    Args:
        caps: norms of the blocks.
        longest: n, the longest inner product, with which any sum may be started.
        widest: d, the largest dimension.
    """

    def __init__(self, caps: Mapping[str, RecordedCap], longest: int, widest: int) -> None:
        super().__init__(caps)
        self.longest = longest
        self.growth = ONE + 4 * (longest + 16) * ball(widest).sqrt() * UNIT

    def _charged(self, v: Value, error: Ball, operations: int) -> Value:
        """A value with an operation's error, relative and absolute, and its norms enlarged."""
        lam = dict(v.lam)
        lam[TAG] = lam.get(TAG, ZERO) + error + operations * UNDERFLOW
        return Value(v.dim, v.N * self.growth, v.Z * self.growth, lam)

    def _summed(self, v: Value, length: int, side: int) -> Value:
        """A sum of so many products, of Frobenius norm at most √side·N."""
        n = max(length, self.longest)
        return self._charged(v, 2 * (n + 4) * UNIT * ball(side).sqrt() * v.N, n * v.dim)

    def linear(self, part: RecordedPart, v: Value) -> Value:
        """A column that is read is exact."""
        found = super().linear(part, v)
        if v.one_hot:
            return found
        return self._summed(found, part.columns, min(part.rows, part.columns))

    def fixed(self, norm: Ball, row_sum: Ball | None, rows: int, v: Value) -> Value:
        """A product with a matrix."""
        found = super().fixed(norm, row_sum, rows, v)
        return self._summed(found, v.dim, min(rows, v.dim))

    def add(self, u: Value, v: Value) -> Value:
        """A library may start an inner product from what it is added to."""
        return self._summed(super().add(u, v), 1, 1)

    def mul(self, u: Value, v: Value) -> Value:
        """One rounding an entry, and one to spare."""
        found = super().mul(u, v)
        return self._charged(found, 2 * UNIT * found.N, found.dim)

    def activation(self, name: str, v: Value) -> Value:
        """Tanh and the sigmoid as libraries compute them; what only compares is exact."""
        found = super().activation(name, v)
        if name in ("identity", "relu"):
            return found
        return self._charged(found, 24 * UNIT * found.N, found.dim)

    def gate(self, r: Value, a: Value, b: Value) -> Value:
        """In whichever order it is computed."""
        return self._charged(super().gate(r, a, b), 8 * UNIT * (a.N + b.N), r.dim)

    def mean(self, v: Value, steps: int) -> Value:
        """A sum over steps, and a quotient; no norm grows."""
        found = self._charged(v, 2 * (steps + 4) * UNIT * v.N, steps * v.dim)
        return Value(v.dim, v.N, v.Z, found.lam)


def check_slack(record: Record, sheet: Sheet) -> None:
    """The recorded η is not below √2·‖ỹ − y‖ at the recorded norms of the weights."""
    where, recorded = "sample.float_slack", record.sample["float_slack"]
    if record.gibbs or recorded is None:
        return  # the program is the hypothesis, or every unit counts as an error
    network = record.data["network"]
    try:
        if network.get("pooled", False):
            sheet.decisive = False
            sheet.unchecked(where, recorded, "the pooling map is not recorded")
            return
        structure = read(network, as_computed=True)
        norms = {row["name"]: row["norms"][OWN[row["norm"]]] for row in network["blocks"]}
        sheet.at_least(where, recorded, slack(record, structure, norms))
    except TooLongError as error:
        sheet.decisive = False
        sheet.unchecked(where, recorded, f"horizon too long: {error}")
    finally:
        sheet.decisive = True


def slack(record: Record, network: Structure, norms: Mapping[str, float]) -> Ball:
    """√2·‖ỹ − y‖ after T steps."""
    longest = max(max(_terms(part), part.columns) for part in network.blocks)
    widest = max(max(part.rows, part.columns) for part in network.blocks)
    # A norm of zero is read as a tiny one: larger is sound.
    caps = {name: RecordedCap(ball(max(norm, 0.0))) for name, norm in norms.items()}
    y = output(
        Rounded(caps, longest, widest), network, int(record.sample["T"]),
        ball(float(record.sample["input_bound"]["value"])),
        mean=record.data["network"].get("read") == "mean", budget=record.budget,
    )  # fmt: skip
    return ball(2).sqrt() * y.lam.get(TAG, ZERO)


def _terms(part: RecordedPart) -> int:
    """Products in one entry of what a block gives out."""
    return part.entries // part.shape[0]
