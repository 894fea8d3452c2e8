"""Names, titles and references that bounds may have: the plain words repeat them to people."""

from __future__ import annotations

from recert.verifier.record import Record, Sheet

_TWO = "theory 4a; Theorem 2 of the paper with its constants"
_THREE = "theory 4c; Theorem 3 (3) of the paper, repaired"
_FOUR = "theory 5c; Theorem 3 (4) of the paper, repaired; Neyshabur et al. 2018"
_HELD = "theory 5d; Clopper and Pearson 1934"
TITLES: dict[str, tuple[str, str]] = {
    "theorem_2": ("Theorem 2 with constants, paper’s range", _TWO),
    "theorem_2_clipped": ("Theorem 2 with constants, clipped range", _TWO),
    "theorem_2_single_scale": ("Theorem 2 with constants, single scale", _TWO),
    "theorem_3_l1": ("Theorem 3 (3) repaired, entropy integral", _THREE),
    "theorem_3_l1_cover": ("Theorem 3 (3) repaired, covering form", _THREE),
    "theorem_3_gaussian": ("Theorem 3 (4) repaired", _FOUR),
    "theorem_3_gaussian_paper": ("Theorem 3 (4) repaired, the paper’s one σ", _FOUR),
    "margin_cover": (
        "margin ball, covering form", "theory 4b, covering form; Chernoff–Hoeffding",
    ),
    "margin_ball": ("margin ball (PAC-Bayes-kl)", "theory 4b; Maurer 2004"),
    "local_ball": ("local margin ball (PAC-Bayes-kl)", "theory 4d; Maurer 2004"),
    "occam": ("Occam (length of the file)", "theory 5a; Chernoff–Hoeffding and Kraft"),
    "held_out": ("held-out units (Clopper–Pearson)", _HELD),
    "pac_bayes_kl": (
        "PAC-Bayes-kl (Gibbs)", "theory 5b; Maurer 2004, Langford and Seeger 2001",
    ),
    "pac_bayes_temperature": (
        "PAC-Bayes at a fixed temperature (Gibbs)", "theory 5b; Catoni 2007",
    ),
    "majority_vote": ("plurality vote, twice the Gibbs limit", "theory 5b"),
    "mean_network": ("network of mean weights", "theory 5b"),
}  # fmt: skip
# Formulas of the paper, which are no bounds: their values are not derived, nor claimed.
PRINTED = {
    "printed_zhang": "Zhang et al. 2018, as printed",
    "printed_theorem_3_two_one": "Theorem 3 (3), as printed",
    "printed_theorem_3_frobenius": "Theorem 3 (4), as printed",
    "printed_theorem_1": "Theorem 1, as printed",
    "printed_theorem_2": "Theorem 2, as printed",
    "printed_theorem_4": "Theorem 4 (MGU), as printed",
    "printed_theorem_4_measured": "Theorem 4 (MGU), as printed, gates measured",
    "printed_theorem_5": "Theorem 5 (LSTM), as printed",
    "printed_theorem_5_measured": "Theorem 5 (LSTM), as printed, gates measured",
    "printed_theorem_6": "Theorem 6 (Conv RNN), as printed",
}


def check(record: Record, sheet: Sheet) -> None:
    """Every bound is called what it is, printed formulas included."""
    for bound in record.bounds:
        name, title = bound["name"], bound["title"]
        if name in PRINTED:
            sheet.holds(f"{name}.title", title == PRINTED[name], title, PRINTED[name])
            printed = bound["kind"] in ("order", "not applicable")
            sheet.holds(f"{name}.kind", printed, bound["kind"], "a printed formula")
            continue
        if not sheet.holds(f"{name}.title", name in TITLES, title, "a statement of the theory"):
            continue
        expected, reference = TITLES[name]
        if name == "held_out" and record.gibbs:
            expected = "held-out units (Gibbs)"
        sheet.holds(f"{name}.title", title == expected, title, expected)
        found = bound["reference"]
        sheet.holds(f"{name}.reference", found == reference, found, reference)
