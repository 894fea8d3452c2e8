"""Level "arithmetic": everything that follows from the certificate's JSON alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from recert.certificate import Certificate
from recert.errors import RecertError
from recert.schemas import check_certificate
from recert.verifier import (
    class_wide,
    ledger,
    lists,
    posteriors,
    rounding,
    titles,
    trained,
    wording,
)
from recert.verifier.balls import Ball, ball, log_of, total
from recert.verifier.costs import PAC_BAYES
from recert.verifier.horizon import TooLongError
from recert.verifier.limits import strange
from recert.verifier.record import Record, Sheet, number
from recert.verifier.verification import Check

Checker = Callable[[Record, Mapping[str, Any], Sheet], Ball]

CHECKERS: dict[str, Checker] = {
    "theorem_2": class_wide.theorem_2,
    "theorem_2_clipped": class_wide.theorem_2,
    "theorem_2_single_scale": class_wide.single_scale,
    "theorem_3_l1": class_wide.theorem_3_l1,
    "theorem_3_l1_cover": class_wide.theorem_3_l1_cover,
    "theorem_3_gaussian": trained.gaussian,
    "theorem_3_gaussian_paper": trained.gaussian,
    "margin_cover": class_wide.margin_cover,
    "margin_ball": class_wide.margin_ball,
    "local_ball": trained.local_ball,
    "occam": trained.occam,
    "held_out": trained.held_out,
    "pac_bayes_kl": posteriors.pac_bayes_kl,
    "pac_bayes_temperature": posteriors.pac_bayes_temperature,
    "majority_vote": posteriors.majority_vote,
}
# What values of a wrong type or out of range lead to.
UNUSABLE = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    AssertionError, StopIteration,
)  # fmt: skip
GIBBS_NAMES = (*PAC_BAYES, "majority_vote", "held_out")


def check(data: Mapping[str, Any], sheet: Sheet) -> Record | None:
    """All checks on a sealed certificate of the present schema; None if it contradicts itself."""
    check_certificate(data)
    odd = strange(data)
    if not sheet.holds("text", not odd, odd, "letters that are seen, digits 0 to 9, no sign of 0"):
        return None
    record = Record(data)
    readable = ledger.check_statuses(record, sheet)
    if not wording.check_sentences(record, sheet) or not readable:
        return None
    again = Certificate.from_json(data).to_json()
    for key in (key for key in again if key != "seal"):
        # As text, because to Python 4 is 4.0 and 1 is true.
        same = json.dumps(again[key], sort_keys=True) == json.dumps(data[key], sort_keys=True)
        sheet.holds(key, same, _first(data[key]), _first(again[key]))
    try:
        blocks = record.network.blocks
    except RecertError as error:
        sheet.holds("network", False, str(error), "a network of the family")
        return None
    sheet.holds("network", bool(blocks), len(blocks), "a network of the family")
    _guarded("assumptions", lambda: ledger.check_facts(record, sheet), sheet)
    _guarded("assumptions", lambda: wording.check(record, sheet), sheet)
    titles.check(record, sheet)
    names = [bound["name"] for bound in record.bounds]
    sheet.holds("bounds", len(set(names)) == len(names), names, "no name twice")
    # The best first: where there is too much to derive, it is the one that must be.
    for bound in sorted(record.bounds, key=lambda b: b["name"] != data["best"]):
        _bound(record, bound, sheet)
    _shares(record, sheet)
    _guarded("finite_list", lambda: lists.check(record, sheet), sheet)
    _best(record, sheet)
    _guarded("sample.float_slack", lambda: rounding.check(record, sheet), sheet)
    _described(record, sheet)
    return record


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
        claimed = kind == "order" and name in CHECKERS
        sheet.holds(f"{name}.kind", not claimed, kind, "a printed formula")
        if kind == "order":
            _printed(bound, sheet)
            return
        empty = bound["value"] is None and bound["log10"] is None
        sheet.holds(f"{name}.value", empty, bound["value"], "nothing is claimed")
        return
    fits = name in CHECKERS and (not record.gibbs or name in GIBBS_NAMES)
    fits = fits and (record.gibbs or name == "held_out" or name not in GIBBS_NAMES)
    if not sheet.holds(f"{name}.kind", fits, kind, "a statement of the theory"):
        return
    ledger.check_needs(record, bound, sheet)
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
        derived = CHECKERS[name](record, bound, sheet)
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
