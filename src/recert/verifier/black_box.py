"""Certificates of black boxes: the held-out limit again, and, with predictor and units, the count.

The statement on losses in a range is derived here from ``docs/theory.md``, 5e. Answers are counted
again with the package's own code, which runs the predictor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recert.errors import InputError
from recert.verifier.balls import Ball, ball, kl_inverse, lesser
from recert.verifier.record import Record, Sheet, number

LOSSES = "held_out_losses"
_ANSWERS = {"predictor", "holdout", "step", "encoding", "settings"}
_LOSSES = {"predictor", "holdout", "settings"}


def held_out_losses(record: Record, bound: Mapping[str, Any], sheet: Sheet) -> Ball:
    """The smaller of kl⁻¹(R̂, ln(2/δ)/n) and R̂ + √(2V ln(4/δ)/n) + 7 ln(4/δ)/(3(n − 1))."""
    terms, held, facts = bound["terms"], record.sample["holdout"], record.facts("predictor")
    n, mean, V = held["m"], terms["error"], terms["variance"]
    where = f"{LOSSES}.terms"
    sheet.holds(f"{where}.units", terms["units"] == n, terms["units"], n)
    sheet.holds(f"{where}.error", mean == held["error"], mean, held["error"], "given")
    # Losses in [0, 1] of that mean have no larger variance.
    most = float(n) / max(1, n - 1) * mean * (1.0 - mean)
    if not (sheet.within(f"{where}.error", mean, 0.0, 1.0) and
            sheet.within(f"{where}.variance", V, 0.0, most * (1 + 1e-9) + 1e-9)):  # fmt: skip
        raise ValueError(LOSSES)
    sheet.holds(f"{LOSSES}.cost", not bound["cost"], len(bound["cost"]), "nothing is paid")
    delta = ball(bound["delta"])
    value = kl_inverse(ball(mean), (2 / delta).log() / n)
    if n > 1:
        rate = (4 / delta).log()
        spread = (2 * ball(V) * rate / n).sqrt() + 7 * rate / (3 * ball(n - 1))
        value = lesser(value, ball(mean) + spread)
    low, high = terms["low"], terms["high"]
    for key, end in (("low", low), ("high", high)):
        sheet.holds(f"{where}.{key}", end == facts["low" if key == "low" else "high"], end,
                    facts[key])  # fmt: skip
    sheet.at_least(f"{where}.loss", terms["loss"], ball(low) + (ball(high) - ball(low)) * value)
    return value


def check(record: Record, sheet: Sheet) -> None:
    """What a certificate of answers, or of losses, consists of: these rows, and one statement."""
    said, sample = record.facts("predictor"), record.sample
    of_losses = "low" in said
    ids, names = set(record.rows) - {"together"}, _LOSSES if of_losses else _ANSWERS
    sheet.holds("assumptions", ids == names, sorted(ids), sorted(names))
    claimed = [b["name"] for b in record.bounds if b["kind"] in ("certificate", "estimate")]
    expected = [LOSSES if of_losses else "held_out"]
    sheet.holds("bounds", claimed == expected, claimed, expected)
    digest = record.data["network"]["digest"]
    sheet.facts(record, "predictor", digest=digest)
    if "digest" not in said:
        sheet.holds("assumptions.predictor", False, sorted(said), "of a black box")
        return
    m, held = sample["m"], sample["holdout"]
    sheet.holds("sample.holdout.m", held["m"] == m, held["m"], m)
    same = held["zero_one"] == sample["zero_one"]
    sheet.holds("sample.holdout.zero_one", same, held["zero_one"], sample["zero_one"])
    alone = sample["groups"] is None
    units = record.facts("holdout").get("held_out")
    fits = number(units) and (units == m if alone else units >= m)
    sheet.holds("assumptions.holdout.facts.held_out", fits, units, m)
    unit = "sequence" if alone else "group of sequences"
    sheet.holds("sample.unit", sample["unit"] == unit, sample["unit"], unit)
    listed = (sample["reading"], sample["population"], len(record.data["finite_list"]))
    sheet.holds("sample.reading", listed == ("new draws", None, 0), listed, "new draws")
    if of_losses:
        sheet.holds("sample.zero_one", not sample["zero_one"], sample["zero_one"], "losses")
        return
    if alone:
        expected_kind = record.data["at"] != "average"
        sheet.holds("sample.zero_one", sample["zero_one"] == expected_kind, sample["zero_one"],
                    expected_kind)  # fmt: skip
    sheet.facts(record, "predictor", compared=units)
    sheet.facts(record, "encoding", encoding=record.declared["encoding"])
    n, together = record.declared["together"], record.facts("together").get("names", [])
    sheet.holds("assumptions.together", ("together" in record.rows) == (n > 1), len(together), n)


def recount(record: Record, model: Any, holdout: Sequence[Any] | None, sheet: Sheet) -> None:
    """Run the predictor on the held-out units again: digests, and the count of its errors.

    Raises:
        InputError: there is nothing to run, or no units; what running it raises.
    """
    from recert.certification import black_box
    from recert.readers.outcomes import outcomes
    from recert.samples.sample import groups_digest

    said, sample = record.facts("predictor"), record.sample
    if "low" in said:
        raise InputError("this certificate is of losses, of which no predictor was given; leave "
                         "the model out")  # fmt: skip
    if holdout is None:
        raise InputError("a black box is checked by running it on its held-out units; pass holdout")
    units, groups = black_box.read_units(holdout, record.data["at"])
    output = said["output"]
    if isinstance(output, str) and output.startswith("number "):
        output = int(output.removeprefix("number "))
    found = outcomes(model, units, output=output or None, threshold=said["threshold"],
                     steps_first=said["steps_first"] or None)  # fmt: skip
    table = black_box.errors_of(found, groups, units)
    derived: dict[str, tuple[Any, Any]] = {
        "sample.digest": (sample["digest"], black_box.units_digest(units)),
        "sample.groups": (sample["groups"], groups_digest(groups, len(units.x))),
        "sample.m": (sample["m"], table.m),
        "sample.zero_one": (sample["zero_one"], table.zero_one),
        "sample.holdout.error": (sample["holdout"]["error"], table.error),
        "network.digest": (record.data["network"]["digest"], found.facts["digest"]),
    }
    for where, (recorded, again) in derived.items():
        sheet.holds(where, recorded == again, recorded, again, "repeated")
    facts = {key: found.facts[key] for key in found.facts if key not in ("digest", "unsure")}
    sheet.facts(record, "predictor", "repeated", **facts)
