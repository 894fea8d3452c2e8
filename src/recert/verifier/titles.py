"""Names, titles, references and reasons that bounds may have: what people read of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recert.verifier.record import Record, Sheet
from recert.verifier.statements import STATEMENTS

# Stated, but with no value to derive: the network of mean weights has none.
WITHOUT_VALUE = {
    "mean_network": (
        "network of mean weights", "theory 5b",
        "PAC-Bayes bounds the networks that are drawn, not their mean; a limit for the mean "
        "network needs margins (theory 5c) or held-out units",
    ),
}  # fmt: skip
_PAPER = "On Generalization Bounds of a Family of Recurrent Neural Networks"
_ZHANG = "Zhang et al. (2018) as quoted in Section 1"
# Formulas of the paper, which are no bounds: their values are not derived, nor claimed.
PRINTED = {
    "printed_zhang": ("Zhang et al. 2018, as printed", _ZHANG),
    "printed_theorem_3_two_one": ("Theorem 3 (3), as printed", "Theorem 3, equation (3)"),
    "printed_theorem_3_frobenius": ("Theorem 3 (4), as printed", "Theorem 3, equation (4)"),
    "printed_theorem_1": ("Theorem 1, as printed", "Theorem 1"),
    "printed_theorem_2": ("Theorem 2, as printed", "Theorem 2"),
    "printed_theorem_4": ("Theorem 4 (MGU), as printed", "Theorem 4"),
    "printed_theorem_4_measured": ("Theorem 4 (MGU), as printed, gates measured", "Theorem 4"),
    "printed_theorem_5": ("Theorem 5 (LSTM), as printed", "Theorem 5"),
    "printed_theorem_5_measured": ("Theorem 5 (LSTM), as printed, gates measured", "Theorem 5"),
    "printed_theorem_6": ("Theorem 6 (Conv RNN), as printed", "Theorem 6"),
}

# Why nothing but held-out units says anything of a black box.
NO_STRUCTURE = (
    "no sample was given; it speaks of a network and the sample that it was trained on",
    "this predictor has no structure that is read; it was called for its answers alone",
)
# Followed by the reader's own refusal.
NOT_COVERED = "the structure is not covered: "
_ONE_LAYER = ("one vanilla layer", "one MGU layer", "one LSTM layer",
              "one convolutional layer whose channels are averaged")  # fmt: skip
_LOGS = ("S(B_U, t)", "d t √m", "S(θ, t) d √m", "t √d S(‖U‖, t)", "t √(dm) S(β, t)", "d", "m √d")
BEYOND_THE_PAPER = (
    *(f"the paper states it for {layer}" for layer in _ONE_LAYER),
    "the paper's network has one layer",
    "the paper's network reads in one direction",
    "the paper's network has no projection",
    "the paper's network has no embedding",
    "the paper's network has no dense layers",
    "the paper's network has no biases",
    "the paper's network reads its state at one step",
    "the activation is not bounded, as Assumption 3 of the paper asks",
    "the paper pools the output of Conv RNNs alone",
    "the paper's Conv RNN has a pooled filter bank as its head",
    *(f"the paper has k filters of width k on one channel, {block} has shape #x#x#"
      for block in "UVW"),
    "Assumption 8 wants orthogonal filters; ‖AᵀA − I/k‖ is # for U, # for V, # for W with k = #",
    *(f"the argument of the printed log({log}) is at most 1" for log in _LOGS),
    "the formula supposes inputs of norm at most 1",
)  # fmt: skip
AS_PRINTED = "as printed: no constants, so not a bound"


def _reads(said: str, template: str) -> bool:
    parts = (re.escape(part) for part in template.split("#"))
    return re.fullmatch(r"[0-9][0-9.,e+\-]*".join(parts), said) is not None


def check(record: Record, sheet: Sheet) -> None:
    """Every bound is called what it is, printed formulas included."""
    for bound in record.bounds:
        name, kind = bound["name"], bound["kind"]
        if name in PRINTED:
            _printed(bound, sheet)
            continue
        if name in WITHOUT_VALUE:
            title, reference, *reasons = WITHOUT_VALUE[name]
        elif name in STATEMENTS:
            row = STATEMENTS[name]
            title, reference, reasons = row.title, row.reference, list(row.reasons)
        else:
            missing = f"the verifier has no checker for statement {name!r}"
            sheet.holds(f"{name}.title", False, bound["title"], missing)
            continue
        found = (bound["title"], bound["reference"])
        if name == "held_out" and record.gibbs:
            title = "held-out units (Gibbs)"
        expected = (title, reference)
        for key, said, derived in zip(("title", "reference"), found, expected, strict=True):
            sheet.holds(f"{name}.{key}", said == derived, said, derived)
        if kind == "not applicable" and record.black_box:
            said = bound["reason"]
            told = said in NO_STRUCTURE or said.startswith(NOT_COVERED)
            told = told and name != "held_out"
            sheet.holds(f"{name}.reason", told, bound["reason"], NO_STRUCTURE)
        elif kind == "not applicable":
            known = any(_reads(bound["reason"], reason) for reason in reasons)
            true = _applies_not(record, name)
            sheet.holds(f"{name}.reason", known and true, bound["reason"], tuple(reasons))


def _applies_not(record: Record, name: str) -> bool:
    """Whether what a statement is said to lack is lacking, as far as the certificate shows it."""
    if name == "held_out":
        return record.sample["holdout"] is None
    if name == "occam":
        return "program" not in record.data["network"]
    if name.startswith("theorem_3_l1"):
        return all(row["l1"] is None for row in record.class_rows.values())
    return True


def _printed(bound: Mapping[str, Any], sheet: Sheet) -> None:
    """A formula of the paper claims nothing, and says so or why not."""
    name, kind, reason = bound["name"], bound["kind"], bound["reason"]
    title, place = PRINTED[name]
    sheet.holds(f"{name}.title", bound["title"] == title, bound["title"], title)
    sheet.holds(f"{name}.kind", kind in ("order", "not applicable"), kind, "a printed formula")
    known: tuple[str, ...] = (AS_PRINTED,)
    reference = f"{place}, {_PAPER}"
    if name.endswith("_measured"):
        known = (f"{AS_PRINTED}, and gates are read off the sample",)
    if kind == "not applicable":
        reference, known = "as printed", BEYOND_THE_PAPER
    found = bound["reference"]
    sheet.holds(f"{name}.reference", found == reference, found, reference)
    fits = any(_reads(reason, template) for template in known)
    sheet.holds(f"{name}.reason", fits, reason, "a reason of the package")
