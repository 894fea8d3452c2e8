"""What every bound must rest on, and how far each hypothesis can be known (theory, 4 to 6)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from recert.verifier.record import Record, Sheet

SOUND = ("proved", "enforced", "declared")
_UNIVERSAL = {"iid", "encoding", "step", "architecture"}
_CLASS = _UNIVERSAL | {"input_bound", "horizon", "caps", "margin", "floats"}
_DRAWN = _UNIVERSAL | {"prior", "roles", "draws"}

NEEDS: dict[str, set[str]] = {
    "theorem_2": _CLASS,
    "theorem_2_clipped": _CLASS,
    "theorem_2_single_scale": _CLASS,
    "theorem_3_l1": _CLASS | {"l1_caps"},
    "theorem_3_l1_cover": _CLASS | {"l1_caps"},
    "theorem_3_gaussian": (_CLASS - {"caps"}) | {"prior"},
    "theorem_3_gaussian_paper": (_CLASS - {"caps"}) | {"prior"},
    "margin_cover": _CLASS,
    "margin_ball": _CLASS,
    "local_ball": _UNIVERSAL | {"caps", "enclosures"},
    "occam": {"iid", "encoding", "step", "program"},
    "held_out": {"holdout", "encoding", "step"},
    "pac_bayes_kl": _DRAWN,
    "pac_bayes_temperature": _DRAWN,
    "majority_vote": _DRAWN,
}
# Statements that a sample without replacement does not weaken.
FOR_LISTS = {
    "margin_ball", "margin_cover", "local_ball", "occam", "theorem_3_gaussian",
    "theorem_3_gaussian_paper", "pac_bayes_kl", "pac_bayes_temperature", "majority_vote",
}  # fmt: skip

# The statuses that a hypothesis can have at all.
POSSIBLE: dict[str, set[str]] = {
    "iid": {"declared", "violated"},
    "architecture": {"declared"},
    "step": {"declared"},
    "encoding": {"declared", "violated"},
    "input_bound": {"proved", "enforced", "declared", "estimated", "violated"},
    "horizon": {"enforced", "declared", "estimated"},
    "caps": {"proved", "declared", "violated"},
    "margin": {"proved", "declared"},
    "l1_caps": {"proved"},
    "floats": {"proved"},
    "enclosures": {"proved"},
    "prior": {"proved", "declared", "violated"},
    "roles": {"enforced", "violated"},
    "draws": {"declared"},
    "holdout": {"declared", "estimated", "violated"},
    "program": {"proved"},
    "together": {"proved"},
}


def check_rows(record: Record, sheet: Sheet) -> None:
    """Every row of the ledger by itself, and against what the certificate records."""
    rows = record.data["assumptions"]
    ids = [row["id"] for row in rows]
    sheet.holds("assumptions", len(set(ids)) == len(ids), ids, "no id twice")
    for row in rows:
        possible = POSSIBLE.get(row["id"], set())
        sheet.holds(
            f"assumptions.{row['id']}.status", row["status"] in possible, row["status"],
            " or ".join(sorted(possible)) or "no such hypothesis",
        )  # fmt: skip
    by_id = {row["id"]: row for row in rows}
    for check in (_inputs, _horizon, _class, _choices, _sources):
        check(record, by_id, sheet)


Rows = Mapping[str, Mapping[str, Any]]


def _inputs(record: Record, rows: Rows, sheet: Sheet) -> None:
    """B_x: proved for tokens alone, and no smaller than the row says."""
    bound, row = record.sample["input_bound"], rows.get("input_bound")
    tokens = record.data["network"]["input"] == "onehot"
    given = record.declared["input_bound"]
    if bound["status"] in ("declared", "enforced", "violated") and not tokens and not record.gibbs:
        # Held up to 1 + 1e-12, and every statement is evaluated at the larger (theory, 7).
        fits = given is not None and given <= bound["value"] <= given * (1 + 1e-9)
        sheet.holds("sample.declared.input_bound", fits, given, bound["value"])
    elif bound["status"] == "estimated":
        sheet.holds("sample.declared.input_bound", given is None, given, None)
    if tokens and not record.gibbs:
        sheet.holds("sample.input_bound.value", bound["value"] == 1.0, bound["value"], 1.0)
    if row is None:
        return
    where = "assumptions.input_bound"
    sheet.holds(f"{where}.status", row["status"] == bound["status"], row["status"], bound["status"])
    sheet.holds(f"{where}.status", (row["status"] == "proved") == tokens, row["status"], "tokens")
    found = re.search(r"norm at most (\S+), fixed", row["statement"])
    said = math.inf if found is None else float(found.group(1))
    sheet.holds(f"{where}.statement", said <= bound["value"], said, bound["value"])


def _horizon(record: Record, rows: Rows, sheet: Sheet) -> None:
    """T, as the row says it; a loss read at a step looks no further."""
    row, T, at = rows.get("horizon"), record.sample["T"], record.data["at"]
    if row is not None:
        found = re.search(r"at most (\d+) steps", row["statement"])
        said = None if found is None else int(found.group(1))
        sheet.holds("assumptions.horizon.statement", said == T, said, T)
    if isinstance(at, int):
        sheet.holds("sample.T", at == T, T, at)


def _class(record: Record, rows: Rows, sheet: Sheet) -> None:
    """Caps are proved to hold where they were measured and paid for, else declared."""
    if record.gibbs:
        return
    blocks = [part.name for part in record.network.blocks]
    named = [row["block"] for row in record.data["network"]["caps"]]
    sheet.holds("network.caps", named == blocks, named, blocks)
    measured = [row["measured"] for row in record.class_rows.values()]
    status = record.statuses.get("caps")
    if status is not None:
        fits = all(measured) if status == "proved" else not any(measured)
        sheet.holds("assumptions.caps.status", fits, status, "as the class was found")
    for row in record.class_rows.values():
        held = row["held"] <= row["norm"] * (1 + 1e-9) or status == "violated"
        where = f"network.caps.{row['block']}"
        sheet.holds(where, held, row["held"], row["norm"], "given")
        sheet.holds(where, row["norm"] > 0, row["norm"], "above 0")
        part = record.network.part(row["block"])
        sheet.holds(where, row["row"] is None or part.norm != "operator", row["row"], "not held")
        sheet.holds(where, not row["measured"] or row["row"] is None, row["row"], "declared only")
        paid = row["l1"] is None or row["l1_measured"] or not row["measured"]
        sheet.holds(where, paid, row["l1"], "an l1 cap that is paid for")


def _choices(record: Record, rows: Rows, sheet: Sheet) -> None:
    """Margin, recipes and encodings: the rows say what the certificate declares."""
    declared = record.declared
    if "margin" in rows:
        status = "proved" if declared["margin"] is None else "declared"
        found = rows["margin"]["status"]
        sheet.holds("assumptions.margin.status", found == status, found, status)
    for id, key in (("architecture", "tried"), ("encoding", "encoding")):
        row = rows.get(id)
        if row is None:
            continue
        said = re.search(r"one of ([\d,]+)", row["evidence"])
        told = 1 if said is None else int(said.group(1).replace(",", ""))
        n = declared[key] if isinstance(declared[key], int) else 1
        sheet.holds(f"sample.declared.{key}", n == told, n, told)
    if "encoding" in rows:
        learnt = declared["encoding"] == "learnt"
        status = rows["encoding"]["status"]
        fits = (status == "violated") == learnt
        sheet.holds("assumptions.encoding.status", fits, status, declared["encoding"])
    together = declared["together"] > 1
    sheet.holds("assumptions.together", ("together" in rows) == together, "together" in rows,
                together)  # fmt: skip


def _sources(record: Record, rows: Rows, sheet: Sheet) -> None:
    """Programs, priors and held-out units are there where a row speaks of them."""
    program = "program" in record.data["network"]
    sheet.holds("assumptions.program", ("program" in rows) == program, "program" in rows, program)
    held = record.sample["holdout"] is not None
    sheet.holds("assumptions.holdout", ("holdout" in rows) == held, "holdout" in rows, held)
    prior = rows.get("prior")
    if prior is not None and record.gibbs:
        fits = prior["status"] != "proved"
        sheet.holds("assumptions.prior.status", fits, prior["status"], "declared at most")
    for bound in record.bounds:
        centre = bound["choices"].get("prior_center")
        if prior is not None and centre is not None and not record.gibbs:
            fits = (prior["status"] == "proved") == (centre == "zero")
            sheet.holds("assumptions.prior.status", fits, prior["status"], centre)
        if bound["name"].startswith("theorem_3_gaussian") and centre is not None:
            known = centre in ("zero", "initial weights")
            sheet.holds(f"{bound['name']}.choices.prior_center", known, centre, "a centre")
    unit, groups = record.sample["unit"], record.sample["groups"]
    sheet.holds("sample.unit", unit == ("sequence" if groups is None else "group of sequences"),
                unit, groups)  # fmt: skip
    population, reading = record.sample["population"], record.of_list
    sheet.holds("sample.reading", not reading or population is not None, population, "a list")
    if record.sample["unit"] == "sequence" or record.data["at"] == "average":
        expected = record.data["at"] != "average"
        found = record.sample["zero_one"]
        sheet.holds("sample.zero_one", found == expected, found, expected)


def check_needs(record: Record, bound: Mapping[str, Any], sheet: Sheet) -> None:
    """A bound's hypotheses, all of them in the ledger, and the kind that follows from them."""
    name, kind, where = bound["name"], bound["kind"], f"{bound['name']}.needs"
    needed = set(NEEDS[name])
    if record.gibbs and name == "held_out":
        needed.add("draws")
    sheet.holds(where, needed <= set(bound["needs"]), bound["needs"], sorted(needed))
    missing = sorted(set(bound["needs"]) - set(record.statuses))
    sheet.holds(where, not missing, missing, "rows of the ledger")
    sound = not missing and all(record.statuses[id] in SOUND for id in bound["needs"])
    if record.of_list and name not in FOR_LISTS:
        sound = False
    expected = "certificate" if sound else "estimate"
    sheet.holds(f"{name}.kind", kind == expected, kind, expected)
    whose = "network"
    if record.gibbs:
        whose = "majority vote" if name == "majority_vote" else "gibbs"
    sheet.holds(f"{name}.predictor", bound["predictor"] == whose, bound["predictor"], whose)
