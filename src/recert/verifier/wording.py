"""The words that a certificate may use: what its hypotheses say, and what terms its bounds have.

A hypothesis in other words, or a term that nothing derives, would be a claim that was not checked.
"""

from __future__ import annotations

import re

from recert.verifier.record import Record, Sheet

_N = r"([\d,]+)"
_ENCODING_PAID = (
    "the encoding of inputs was one of a number fixed beforehand; the choice is paid for"
)
_LESS = ", less the units that made the prior"
HYPOTHESES: dict[str, tuple[str, ...]] = {
    "iid": (
        "the units of the sample are independent draws from the distribution of new units",
        f"the sample was drawn without replacement from a list of {_N} units, of which the "
        f"statements speak(?:{_LESS})?",
    ),
    "architecture": ("the architecture was fixed beforehand, or its choice is paid for",),
    "step": ("the step at which the loss is read was fixed beforehand",),
    "encoding": (
        "the encoding of inputs was fixed before looking at the sample",
        _ENCODING_PAID,
    ),
    "input_bound": (r"every input has Euclidean norm at most \S+, fixed before looking",),
    "horizon": (r"the network reads at most \d+ steps, fixed before looking",),
    "caps": ("the norms of the weights are at most the caps",),
    "margin": ("the margin γ was fixed, or its choice is paid for",),
    "l1_caps": ("the entrywise l1 norms of the weights are at most their caps",),
    "floats": ("margins of the real-number network differ from the float64 ones by at most η",),
    "enclosures": (
        "what moves of the weights can do was bounded at the trained network, roundings included",
    ),
    "prior": (
        "the prior's centre was fixed before looking at the sample",
        f"the prior, its centre, scale and temperature, was made from the first {_N} units alone",
    ),
    "roles": ("no unit that made the prior is counted by the bound",),
    "draws": (
        "weights are drawn independently, from normal distributions, for a posterior and from a "
        "seed that were fixed before",
    ),
    "holdout": ("the held-out units are independent draws that were used for nothing else",),
    "program": (
        f"the network is the decoding of a file of {_N} bytes, in which nothing but the file is "
        "read",
    ),
    "together": (
        f"this is one of {_N} networks certified together; each statement holds at its share of δ, "
        "so all hold at once with probability 1 − δ, and the best may be chosen after looking",
    ),
}
# A Gibbs bound counts a part of the sample; the units that made its prior may choose.
OF_GIBBS: dict[str, tuple[str, ...]] = {
    "encoding": (
        "the encoding of inputs was fixed before looking at the units that the bound counts",
        _ENCODING_PAID,
    ),
}

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


def check(record: Record, sheet: Sheet) -> None:
    """Every hypothesis in the theory's words, with the numbers of the certificate; known terms."""
    units = {
        int(b["choices"]["prior_units"]) for b in record.bounds if "prior_units" in b["choices"]
    }
    if record.gibbs:
        sheet.holds("choices.prior_units", len(units) <= 1, sorted(units), "one prior")
    numbers = {
        "prior": next(iter(units), None),
        "iid": record.sample["population"],
        "program": record.data["network"].get("program", {}).get("bytes"),
        "together": record.declared["together"],
    }
    allowed = HYPOTHESES | (OF_GIBBS if record.gibbs else {})
    for row in record.data["assumptions"]:
        where = f"assumptions.{row['id']}.statement"
        patterns = allowed.get(row["id"], ())
        found = next((m for p in patterns if (m := re.fullmatch(p, row["statement"]))), None)
        sheet.holds(where, found is not None, row["statement"], "in the theory's words")
        if found is not None and found.groups() and row["id"] in numbers:
            said, known = int(found.group(1).replace(",", "")), numbers[row["id"]]
            sheet.holds(where, said == known, said, known)
        if row["id"] == "iid" and found is not None:
            listed = bool(found.groups()) and found.group(1) is not None
            sheet.holds("sample.reading", listed == record.of_list, record.sample["reading"],
                        row["statement"])  # fmt: skip
            # Statements on drawn weights speak of the list less the prior's part, others of all.
            less = row["statement"].endswith(_LESS)
            told = row["status"] == "violated" or less == (listed and record.gibbs)
            sheet.holds(where, told, row["statement"], "the list that the statements speak of")
        if row["id"] == "encoding" and found is not None:
            paid, n = row["statement"] == _ENCODING_PAID, record.declared["encoding"]
            chosen = isinstance(n, int) and n > 1
            sheet.holds(where, paid == chosen, row["statement"], n)
    for bound in record.bounds:
        if bound["kind"] in ("certificate", "estimate"):
            strange = sorted(set(bound["terms"]) - TERMS.get(bound["name"], set()) - {"value"})
            sheet.holds(f"{bound['name']}.terms", not strange, strange, "no other terms")
            if record.gibbs:
                strange = sorted(set(bound["choices"]) - CHOICES.get(bound["name"], set()))
                sheet.holds(f"{bound['name']}.choices", not strange, strange, "no others")
