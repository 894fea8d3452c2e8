"""The words that a certificate may use: of hypotheses those of their facts, of bounds known names.

A hypothesis in other words, or a term that nothing derives, would be a claim that was not checked.
"""

from __future__ import annotations

from recert.errors import InputError
from recert.hypotheses import words
from recert.verifier.record import Record, Sheet

_RAMP = {"ramp_risk", "log10_complexity", "deviation"}
_HARD = {"hard_margin_risk", "complexity_nats", "confidence_nats", "rate"}
_GAUSS = {"hard_margin_risk", "KL", "confidence_nats", "rate"}
_DRAWN = {
    "units", "KL", "gibbs_error_drawn", "gibbs_error_limit", "monte_carlo_draws",
    "monte_carlo_delta", "confidence_nats", "rate", "disagreement", "monte_carlo_rate",
}  # fmt: skip
TERMS: dict[str, set[str]] = {
    "theorem_2": _RAMP,
    "theorem_2_clipped": _RAMP,
    "theorem_2_single_scale": {"ramp_risk", "scale", "deviation", "log_cover"},
    "theorem_3_l1": _RAMP,
    "theorem_3_l1_cover": _HARD,
    "theorem_3_gaussian": _GAUSS,
    "theorem_3_gaussian_paper": _GAUSS,
    "margin_cover": _HARD,
    "margin_ball": _HARD,
    "local_ball": {
        "posterior_risk", "lost_outright", "undecided", "draws", "draws_lost", "delta_of_draws",
        "complexity_nats", "confidence_nats", "rate",
    },
    "occam": {"error", "complexity_nats", "confidence_nats", "rate"},
    "held_out": {"error", "units"},
    "pac_bayes_kl": _DRAWN,
    "pac_bayes_temperature": _DRAWN,
    "majority_vote": {"gibbs", "units"},
}  # fmt: skip
# What a bound on drawn weights records of choices.
_PRIOR = {
    "posterior_digest", "prior_units", "prior_digest", "prior_scale", "mean_scales",
    "repetitions", "seed",
}  # fmt: skip
CHOICES: dict[str, set[str]] = {
    "pac_bayes_kl": _PRIOR,
    "pac_bayes_temperature": _PRIOR | {"temperature"},
    "majority_vote": {"from"},
    "held_out": set(),
}


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
    """Bounds have no other terms and choices than the theory gives them."""
    for bound in record.bounds:
        if bound["kind"] in ("certificate", "estimate"):
            strange = sorted(set(bound["terms"]) - TERMS.get(bound["name"], set()) - {"value"})
            sheet.holds(f"{bound['name']}.terms", not strange, strange, "no other terms")
            if record.gibbs:
                strange = sorted(set(bound["choices"]) - CHOICES.get(bound["name"], set()))
                sheet.holds(f"{bound['name']}.choices", not strange, strange, "no others")
