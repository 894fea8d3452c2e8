"""What every bound must rest on, and how far each hypothesis can be known (theory, 4 to 6).

The words that a certificate may use: of hypotheses those of their facts, of bounds known names.

A hypothesis in other words, or a term that nothing derives, would be a claim that was not checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from recert.certificates.hypotheses import COUNTED, SAMPLE, words
from recert.errors import InputError
from recert.verifier.costs import CAP, on_grid
from recert.verifier.record import Record, Sheet, number
from recert.verifier.statements import GAMMA, LISTED, STATEMENTS, is_float

# Deviations beyond which a prior has seen more than it says; up to what factor caps are held.
DEVIATIONS, HELD = 6.0, 1.0 + 1e-9

SOUND = ("proved", "enforced", "declared")
# What a row says of a model's calls where there was none to call.
NOT_RUN: dict[str, Any] = {
    "steps_first": False, "output": None, "layout": None, "states": False, "lengths": False,
    "compared": None, "batch": None, "alone": False, "reordered": False, "padded": None,
    "apart": None, "stored": None, "arithmetic": None,
}  # fmt: skip
# Rows that only one kind of certificate has.
OF_NETWORKS = {"input_bound", "horizon", "caps", "margin", "l1_caps", "floats", "enclosures"}
OF_DRAWN = {"roles", "draws"}
_NOT_FOR_LISTS = {
    (False, False): "not claimed for a sample without replacement",
    (True, False): "stated for draws with replacement; see the finite list",
    (True, True): "stated for draws with replacement, not for a list",
}

# The statuses that a hypothesis can have at all.
POSSIBLE: dict[str, set[str]] = {
    "predictor": {"enforced", "declared"},
    "iid": {"declared", "violated"},
    "architecture": {"declared"},
    "step": {"declared"},
    "encoding": {"declared", "violated"},
    "settings": {"declared"},
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


def check_statuses(record: Record, sheet: Sheet) -> bool:
    """Every hypothesis is one of the theory's, once, with a status that it can have."""
    strange = OF_NETWORKS if record.gibbs else OF_DRAWN
    ids = [row["id"] for row in record.data["assumptions"]]
    fits = sheet.holds("assumptions", len(set(ids)) == len(ids), ids, "no id twice")
    for id, status in record.statuses.items():
        possible = set() if id in strange else POSSIBLE.get(id, set())
        told = " or ".join(sorted(possible)) or "no such hypothesis"
        fits &= sheet.holds(f"assumptions.{id}.status", status in possible, status, told)
    return fits


def check_facts(record: Record, sheet: Sheet) -> None:
    """The facts of every row against what the certificate records elsewhere."""
    for check in (_predictor, _inputs, _horizon, _class, _choices, _units, _sources):
        check(record, sheet)


def _predictor(record: Record, sheet: Sheet) -> None:
    """What is certified: its padding, its cut and its radius are those that are used."""
    sample, row, where = record.sample, record.rows.get("predictor"), "assumptions.predictor"
    if not sheet.holds(where, row is not None, row is not None, "said what is certified"):
        return
    said, T, bound = record.facts("predictor"), sample["T"], sample["input_bound"]
    sheet.holds(f"{where}.facts.of", (said["of"] == "posterior") == record.gibbs, said["of"],
                "whose answer it is")  # fmt: skip
    sheet.facts(record, "predictor", padding=sample["padding"])
    if said["of"] in ("network", "posterior"):
        sheet.facts(record, "predictor", **NOT_RUN)
    for name in ("cut", "width"):
        fits = said[name] is None or (said[name] == T if name == "cut" else said[name] <= T)
        sheet.holds(f"{where}.facts.{name}", fits, said[name], T)
    horizon = record.statuses.get("horizon")
    if horizon is not None:
        sheet.facts(record, "predictor", cut=T if horizon == "enforced" else None)
    if bound["status"] != "violated":
        scaled = bound["status"] == "enforced"
        radius = record.declared["input_bound"] if scaled else None
        sheet.facts(record, "predictor", radius=radius)


def _inputs(record: Record, sheet: Sheet) -> None:
    """B_x: proved for tokens alone, as declared, and no smaller than the row says."""
    bound, given = record.sample["input_bound"], record.declared["input_bound"]
    status = bound["status"]
    if record.data["network"]["input"] == "onehot":
        sheet.holds("sample.input_bound.status", status == "proved", status, "proved for tokens")
        sheet.holds("sample.input_bound.value", bound["value"] == 1.0, bound["value"], 1.0)
        value: Any = 1.0
    else:
        sheet.holds("sample.input_bound.status", status != "proved", status, "not proved")
        measured = status == "estimated"
        fits = (given is None) == measured
        sheet.holds("sample.declared.input_bound", fits, given, status)
        value = record.facts("input_bound").get("value") if measured else given
        value = bound["value"] if record.gibbs else value
        # Held up to 1 + 1e-12, and every statement is evaluated at the larger (theory, 7).
        fits = number(value) and value <= bound["value"] <= value * HELD
        sheet.holds("sample.input_bound.value", fits, bound["value"], value)
    if record.gibbs:
        return
    found = record.statuses.get("input_bound")
    sheet.holds("assumptions.input_bound.status", found == status, found, status)
    sheet.facts(record, "input_bound", value=value)
    largest = record.facts("input_bound").get("largest")
    if largest is not None and number(value):
        fits = (largest > value) if status == "violated" else (largest <= value * HELD)
        sheet.holds("assumptions.input_bound.facts.largest", fits, largest, f"{status} at {value}")


def _horizon(record: Record, sheet: Sheet) -> None:
    """T, as the row says it; a loss read at a step looks no further."""
    T, at = record.sample["T"], record.data["at"]
    said, status = record.facts("horizon"), record.statuses.get("horizon")
    step = at if isinstance(at, int) else None
    sheet.facts(record, "horizon", steps=T, read_at=step)
    if step is not None:
        sheet.holds("sample.T", step == T, T, step)
        two_way = any("forward" in layer for layer in record.data["network"]["layers"])
        fits = status in (None, "enforced" if two_way else "declared")
        sheet.holds("assumptions.horizon.status", fits, status, f"two-way: {two_way}")
    if said.get("cut") is not None:
        cut, longest = said["cut"], said["longest"]
        sheet.holds("assumptions.horizon.facts.cut", (cut > 0) == (longest > T), cut, longest)


def _class(record: Record, sheet: Sheet) -> None:
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
        for cap, of in ((row["norm"], "measured"), (row["l1"], "l1_measured")):
            fits = not row[of] or _on_grid(cap)
            sheet.holds(where, fits, cap, "measured: on the grid of caps")
        part = record.network.part(row["block"])
        sheet.holds(where, row["row"] is None or part.norm != "operator", row["row"], "not held")
        sheet.holds(where, not row["measured"] or row["row"] is None, row["row"], "declared only")
        paid = row["l1"] is None or row["l1_measured"] or not row["measured"]
        sheet.holds(where, paid, row["l1"], "an l1 cap that is paid for")
    _broken(record, sheet)


def _on_grid(cap: Any) -> bool:
    return number(cap) and cap > 0 and on_grid(cap, CAP, round(CAP * math.log2(cap)))


def _broken(record: Record, sheet: Sheet) -> None:
    """Caps that a violated row names are the class's, and exceeded."""
    for block, what, held, cap in record.facts("caps").get("broken", ()):
        row = record.class_rows.get(block, {})
        limit = row.get({"norm": "norm", "row norm": "row", "l1 norm": "l1"}[what])
        fits = limit is not None and cap <= limit <= cap * HELD and held > cap
        where = "assumptions.caps.facts.broken"
        sheet.holds(where, fits, [block, what, held, cap], limit)


def _choices(record: Record, sheet: Sheet) -> None:
    """Margin, recipes and encodings: the rows say what the certificate declares."""
    declared, counted = record.declared, COUNTED if record.gibbs else SAMPLE
    sheet.facts(record, "margin", gamma=declared["margin"])
    sheet.facts(record, "architecture", tried=declared["tried"], of=counted)
    sheet.facts(record, "encoding", encoding=declared["encoding"], of=counted)
    n, names = declared["together"], record.facts("together").get("names", [])
    sheet.holds("assumptions.together", ("together" in record.rows) == (n > 1), len(names), n)
    if names:
        sheet.holds("assumptions.together.facts.names", len(set(names)) == n, names, n)
        sheet.facts(record, "together", share=record.data["delta"])
    if not record.gibbs:
        sheet.facts(record, "floats", slack=record.sample["float_slack"])


def _units(record: Record, sheet: Sheet) -> None:
    """What the units are, of which list, and how many the rows speak of."""
    sample, said, held = record.sample, record.facts("iid"), record.sample["holdout"]
    unit, alone = sample["unit"], sample["groups"] is None
    sheet.holds("sample.unit", unit == ("sequence" if alone else "group of sequences"), unit, alone)
    if alone or record.data["at"] == "average":
        expected, found = record.data["at"] != "average", sample["zero_one"]
        sheet.holds("sample.zero_one", found == expected, found, expected)
    listed = sample["population"] is not None and not said.get("words", "")
    sheet.holds("sample.reading", listed == record.of_list, sample["reading"], said.get("words"))
    prior = prior_units(record, sheet) if record.gibbs else None
    sheet.facts(record, "iid", population=sample["population"], prior_units=prior)
    if record.gibbs:
        sheet.facts(record, "prior", units=prior)
    sheet.facts(record, "roles", units=prior)
    sheet.holds("assumptions.holdout", ("holdout" in record.rows) == (held is not None), held, "")
    if alone:
        sheet.facts(record, "iid", sequences=record.m)
        sheet.facts(record, "holdout", held_out=None if held is None else held["m"])


def prior_units(record: Record, sheet: Sheet) -> int | None:
    """How many units made the prior, as every bound on drawn weights says."""
    found = {int(b["choices"].get("prior_units", 0)) for b in record.bounds} - {0}
    sheet.holds("choices.prior_units", len(found) == 1, sorted(found), "one prior")
    return next(iter(found), None)


def _sources(record: Record, sheet: Sheet) -> None:
    """Programs and priors are there where a row speaks of them."""
    program = record.data["network"].get("program")
    known = ("program" in record.rows) == (program is not None)
    sheet.holds("assumptions.program", known, "program" in record.rows, program)
    sheet.facts(record, "program", **(program or {}))
    said = record.facts("prior")
    if said:
        sheet.holds("assumptions.prior.facts", ("units" in said) == record.gibbs, sorted(said),
                    "of drawn weights" if record.gibbs else "of Gaussian priors")  # fmt: skip
    deviations = said.get("deviations")
    sheet.holds("assumptions.prior.facts.deviations", deviations is None or deviations > DEVIATIONS,
                deviations, f"above {DEVIATIONS}")  # fmt: skip
    for bound in record.bounds:
        if bound["name"].startswith("theorem_3_gaussian") and bound["choices"]:
            centre = bound["choices"].get("prior_center")
            same = centre == said.get("centre")
            where = f"{bound['name']}.choices.prior_center"
            sheet.holds(where, same, centre, said.get("centre"))


def check_needs(record: Record, bound: Mapping[str, Any], sheet: Sheet) -> None:
    """A bound's hypotheses, all of them in the ledger, and the kind that follows from them."""
    name, kind, where = bound["name"], bound["kind"], f"{bound['name']}.needs"
    needed = set(STATEMENTS[name].needs)
    if record.gibbs and name == "held_out":
        needed.add("draws")
    sheet.holds(where, needed <= set(bound["needs"]), bound["needs"], sorted(needed))
    missing = sorted(set(bound["needs"]) - set(record.statuses))
    sheet.holds(where, not missing, missing, "rows of the ledger")
    sound = not missing and all(record.statuses[id] in SOUND for id in bound["needs"])
    reason = ""
    if sound and record.of_list and name not in LISTED:
        sound, reason = False, _NOT_FOR_LISTS[name == "held_out", record.gibbs]
    sheet.holds(f"{name}.reason", bound["reason"] == reason, bound["reason"], reason)
    expected = "certificate" if sound else "estimate"
    sheet.holds(f"{name}.kind", kind == expected, kind, expected)
    whose = "network"
    if record.gibbs:
        whose = "majority vote" if name == "majority_vote" else "gibbs"
    sheet.holds(f"{name}.predictor", bound["predictor"] == whose, bound["predictor"], whose)


_OPTIONAL = {"disagreement", "monte_carlo_rate"}
_PRINTED = frozenset({"empirical_risk", "log10_complexity", "confidence"})


def check_sentences(record: Record, sheet: Sheet) -> bool:
    """Every row of the ledger has facts of its kind, and says of them what the package says."""
    readable = True
    for row in record.data["assumptions"]:
        where = f"assumptions.{row['id']}"
        try:
            found = words(row["id"], row["status"], row["facts"])
        except InputError as error:
            readable = sheet.holds(f"{where}.facts", False, row["facts"], str(error))
            continue
        for key, sentence in zip(("statement", "evidence"), found, strict=True):
            sheet.holds(f"{where}.{key}", row[key] == sentence, row[key], sentence)
    return readable


def check(record: Record, sheet: Sheet) -> None:
    """Bounds have the terms and choices that the theory gives them, of their types, no others."""
    for bound in record.bounds:
        name, terms, choices = bound["name"], bound["terms"], bound["choices"]
        row = STATEMENTS.get(name)
        allowed, kinds = (row.terms, row.choices) if row else (frozenset(), {})
        if bound["kind"] == "order":
            allowed, kinds = _PRINTED, GAMMA
        elif bound["kind"] == "not applicable":
            allowed, kinds = frozenset(), {}
        elif bound["value"] is not None:
            allowed = allowed | {"value"}
        strange = sorted((set(terms) ^ allowed) - (allowed & _OPTIONAL))
        strange += [key for key, value in terms.items() if not is_float(value)]
        sheet.holds(f"{name}.terms", not strange, strange, "the statement's terms")
        strange = sorted(set(choices) ^ set(kinds))
        strange += [key for key, kind in kinds.items() if key in choices and not kind(choices[key])]
        sheet.holds(f"{name}.choices", not strange, strange, "the statement's choices")
        if bound["kind"] in ("order", "not applicable"):
            empty = bound["delta"] is None and not bound["cost"]
            sheet.holds(f"{name}.cost", empty, bound["delta"], "no share, and nothing is paid")
