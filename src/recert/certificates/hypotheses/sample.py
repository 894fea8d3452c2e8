"""Hypotheses on units, inputs and their roles."""

from __future__ import annotations

from recert.certificates.hypotheses.facts import (
    COUNTED,
    SAMPLE,
    Facts,
    Form,
    Sentences,
    always,
    among,
    by_status,
    count,
    encoding,
    exact,
    number,
    perhaps,
    positive,
    quoted,
    text,
)
from recert.numerics.rounding import significant_up

# So far, relatively, may inputs scaled in float32 be beyond the norm that they were scaled to.
ROUNDED = 1e-5


def _input_bound(status: str, f: Facts) -> Sentences | None:
    largest = f["largest"]
    evidence = {
        "proved": "tokens are one-hot vectors of norm 1",
        "estimated": "read off the sample; a certificate needs input_bound, fixed before looking",
        "enforced": "inputs are scaled into the ball as part of the model",
    }
    if largest is not None:
        evidence = {
            "declared": f"declared; largest norm seen is {significant_up(largest, 6)}",
            "violated": _longer(f["value"], largest),
        }
    statement = f"every input has Euclidean norm at most {exact(f['value'])}, fixed before looking"
    return by_status(statement, status, evidence)


def _longer(bound: float, largest: float) -> str:
    """That an input is longer than the bound; where by rounding only, what would hold."""
    if largest > bound * (1.0 + ROUNDED):
        return (
            f"the sample holds an input of norm {significant_up(largest, 6)}; a bound that large, "
            "fixed before looking, holds, and so does Enforced, which scales inputs into the ball"
        )
    room = significant_up(bound * (1.0 + ROUNDED), 8)
    return (
        f"the sample holds an input of norm {significant_up(largest, 10)}, beyond the bound by no "
        f"more than float32 rounds; a bound with room for that, {room}, holds"
    )


def _horizon(status: str, f: Facts) -> Sentences | None:
    steps, cut, longest = f["steps"], f["cut"], f["longest"]
    evidence = {}
    if f["read_at"] is not None:
        read = f"the loss is read at step {f['read_at']}"
        evidence = {
            "enforced": f"{read}; inputs are cut there, as part of the model",
            "declared": f"{read}, nothing later counts",
        }
    elif cut is None:
        evidence = {
            "estimated": "read off the sample; a certificate needs max_length, fixed before looking"
        }
    elif longest is not None:
        seen = f"longer inputs are cut as part of the model; longest seen {longest}"
        told = f"{cut} longer sequences were cut, as part of the model"
        evidence = {"enforced": told if cut else seen}
    return by_status(
        f"the network reads at most {steps} steps, fixed before looking", status, evidence
    )


# What recurs, by kind; and what another role shares with it.
RECURS = {
    "repeated": "sequences were repeated: they recur more evenly than draws do",
    "near": "sequences were repeated with small changes: near ones recur more evenly than in draws",
    "overlap": "windows of one text are one unit: pass groups; they overlap oftener than draws do",
}
SHARED = {
    "repeated": "more than chance explains",
    "near": "and others differ from it by little, more of them than chance explains",
    "overlap": "and others lie some steps further, more of them than chance explains",
}


def _iid(status: str, f: Facts) -> Sentences | None:
    N, own, fault = f["population"], f["words"], f["fault"]
    statement = "the units of the sample are independent draws from the distribution of new units"
    if N is not None and not own:
        less = "" if f["prior_units"] is None else ", less the units that made the prior"
        statement = (
            f"the sample was drawn without replacement from a list of {N:,} units, of which the "
            f"statements speak{less}"
        )
    seen = f"{f['distinct']:,} of {f['sequences']:,} sequences are distinct"
    if fault is not None:
        at = f", at a shift of {f['shift']}" if f["shift"] else ""
        return by_status(statement, status, {"violated": f"{RECURS[fault]}; {seen}{at}"})
    if f["shift"]:
        return None
    of_list = f", drawn without replacement from {N:,}" if own and N is not None else ""
    who = f"{own and quoted(own) + ', '}declared by the user"
    return by_status(statement, status, {"declared": f"{who}{of_list}; {seen}"})


def _encoding(status: str, f: Facts) -> Sentences | None:
    n = f["encoding"]
    statement = f"the encoding of inputs was fixed before looking at the {f['of']}"
    if n == "learnt":
        why = "learnt from the sample (a vocabulary, a normaliser), which nothing here pays for"
        return by_status(statement, status, {"violated": why})
    if n == "fixed" or n == 1:
        who = "declared by the user"
        if f["of"] == COUNTED:
            who += ", or chosen on the units that made the prior"
        return by_status(statement, status, {"declared": who})
    statement = (
        "the encoding of inputs was one of a number fixed beforehand; the choice is paid for"
    )
    return by_status(statement, status, {"declared": f"one of {n:,}, declared by the user"})


def _holdout(status: str, f: Facts) -> Sentences | None:
    statement = "the held-out units are independent draws that were used for nothing else"
    seen = f"{f['shared']:,} of {f['held_out']:,} held-out sequences occur in the sample"
    why = f["why"] and quoted(f["why"])
    evidence = {}
    if f["fault"] is not None:
        evidence["violated"] = f"{seen}, {SHARED[f['fault']]}"
    elif f["own_fault"] is not None:
        own = RECURS[f["own_fault"]]
        evidence["violated"] = f"{seen}; of the held-out ones themselves: {own}"
    elif f["role"] == "checking":
        evidence["estimated"] = f"for checking: {why or 'may have been seen before'}; {seen}"
    else:
        evidence["declared"] = f"{why and why + ', '}declared by the user; {seen}"
    return by_status(statement, status, evidence)


def _roles(status: str, f: Facts) -> Sentences | None:
    seen = (
        f"the first {f['units']:,} units have the digest that the prior was made with; "
        f"{f['shared']:,} of {f['further']:,} further sequences occur among them"
    )
    evidence = {"enforced": seen}
    if f["fault"] is not None:
        evidence = {"violated": f"{seen}, {SHARED[f['fault']]}"}
    return by_status("no unit that made the prior is counted by the bound", status, evidence)


FAULT = among(None, *RECURS)
_NORM = {"value": number, "largest": perhaps(number)}
_STEPS = {
    "steps": positive, "read_at": perhaps(positive), "cut": perhaps(count),
    "longest": perhaps(positive),
}  # fmt: skip
_DRAWS = {
    "words": text, "population": perhaps(positive), "prior_units": perhaps(positive),
    "sequences": positive, "distinct": positive, "shift": count, "fault": FAULT,
}  # fmt: skip
FORMS: dict[str, tuple[Form, ...]] = {
    "input_bound": (Form(_NORM, _input_bound),),
    "horizon": (Form(_STEPS, _horizon),),
    "iid": (Form(_DRAWS, _iid),),
    "encoding": (Form({"encoding": encoding, "of": among(SAMPLE, COUNTED)}, _encoding),),
    "holdout": (
        Form(
            {
                "role": among("certificate", "checking"),
                "why": text,
                "shared": count,
                "held_out": positive,
                "fault": FAULT,
                "own_fault": FAULT,
            },
            _holdout,
        ),
    ),
    "roles": (
        Form({"units": positive, "shared": count, "further": positive, "fault": FAULT}, _roles),
    ),
    "draws": (
        always(
            "declared",
            "weights are drawn independently, from normal distributions, for a posterior and from "
            "a seed that were fixed before",
            "by a pseudo-random generator, in float32; the divergence is that of the float32 means "
            "and scales",
        ),
    ),
}
