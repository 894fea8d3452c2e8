"""The words that a certificate may use: of hypotheses those of their facts, of bounds known names.

A hypothesis in other words, or a term that nothing derives, would be a claim that was not checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from recert.errors import InputError
from recert.hypotheses import words
from recert.verifier.record import Record, Sheet

Kind = Callable[[Any], bool]

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
_OPTIONAL = {"disagreement", "monte_carlo_rate"}
_PRINTED = {"empirical_risk", "log10_complexity", "confidence"}


def _float(x: Any) -> bool:
    return type(x) is float and math.isfinite(x)


def _whole(x: Any) -> bool:
    return type(x) is int and x >= 0


def _text(x: Any) -> bool:
    return isinstance(x, str)


def _list(of: Kind) -> Kind:
    return lambda x: isinstance(x, list) and all(map(of, x))


_GAMMA: dict[str, Kind] = {"gamma": _float}
_RADII = _GAMMA | {"log_radii": _list(_float)}
_SIGMA = _GAMMA | {
    "Z": _float, "log_sigma": _list(_float), "prior_center": _text, "distances": _list(_float),
}  # fmt: skip
_PRIOR = {
    "posterior_digest": _text, "prior_units": _whole, "prior_digest": _text, "prior_scale": _float,
    "mean_scales": _list(_float), "repetitions": _whole, "seed": _whole,
}  # fmt: skip
CHOICES: dict[str, dict[str, Kind]] = {
    "theorem_2": _GAMMA | {"log_range": _float},
    "theorem_2_clipped": _GAMMA | {"log_range": _float},
    "theorem_2_single_scale": _GAMMA | {"eta_over_gamma": _float},
    "theorem_3_l1": _GAMMA | {"alpha": _float},
    "theorem_3_l1_cover": _GAMMA,
    "theorem_3_gaussian": _SIGMA,
    "theorem_3_gaussian_paper": _SIGMA,
    "margin_cover": _RADII,
    "margin_ball": _RADII,
    "local_ball": {
        "parts": _list(_text), "log_radii": _list(_float), "log_caps": _list(_float),
    },
    "occam": {"bytes": _whole, "bits": _whole},
    "held_out": {},
    "pac_bayes_kl": _PRIOR,
    "pac_bayes_temperature": _PRIOR | {"temperature": _float},
    "majority_vote": {"from": _text},
}  # fmt: skip


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
        allowed, kinds = TERMS.get(name, set()), CHOICES.get(name, {})
        if bound["kind"] == "order":
            allowed, kinds = _PRINTED, _GAMMA
        elif bound["kind"] == "not applicable":
            allowed, kinds = set(), {}
        elif bound["value"] is not None:
            allowed = allowed | {"value"}
        strange = sorted((set(terms) ^ allowed) - (allowed & _OPTIONAL))
        strange += [key for key, value in terms.items() if not _float(value)]
        sheet.holds(f"{name}.terms", not strange, strange, "the statement's terms")
        strange = sorted(set(choices) ^ set(kinds))
        strange += [key for key, kind in kinds.items() if key in choices and not kind(choices[key])]
        sheet.holds(f"{name}.choices", not strange, strange, "the statement's choices")
        if bound["kind"] in ("order", "not applicable"):
            empty = bound["delta"] is None and not bound["cost"]
            sheet.holds(f"{name}.cost", empty, bound["delta"], "no share, and nothing is paid")
