"""What is certified where nothing of its inside was read, and the units that it never met."""

from __future__ import annotations

import math
from typing import Any

from recert.certificates.hypotheses.facts import (
    Facts,
    Form,
    Sentences,
    among,
    by_status,
    count,
    digest,
    exact,
    named,
    perhaps,
    positive,
    quoted,
    text,
    truth,
)
from recert.certificates.hypotheses.predictor import LAYOUTS
from recert.certificates.hypotheses.sample import FAULT, RECURS, SHARED

_KINDS = {
    "module": "the torch module {x} in evaluation mode",
    "onnx": "the {x} model",
    "network": "the {x}",
    "keras": "the Keras model {x}, called as predict_on_batch",
    "estimator": "the estimator {x}, called as predict",
    "function": "the function {x}",
}
_READINGS = {
    "scores": "its answer is the class of the largest score, and ties are errors",
    "classes": "its answer is the class that it gives",
    "threshold": "its answer is class 1 above the score {t}, class 0 below, and {t} is an error",
}


def signed(x: Any) -> bool:
    """A finite number, no minus zero."""
    zero = isinstance(x, float) and x == 0.0 and math.copysign(1.0, x) < 0
    return type(x) is float and math.isfinite(x) and not zero


def _predictor(status: str, f: Facts) -> Sentences | None:
    if status != "declared" or (f["threshold"] is None) == (f["reading"] == "threshold"):
        return None
    said = ["the predictor is " + _KINDS[f["kind"]].format(x=named(f["name"]))]
    if f["output"] is not None:
        said.append(f"of which the output {named(f['output'])} counts")
    said.append("on batches as given, padding included")
    said.append("and their lengths" if f["lengths"] else "without lengths")
    if f["steps_first"]:
        said.append("steps first")
    if f["states"]:
        said.append("initial states of zeros")
    t = "" if f["threshold"] is None else exact(f["threshold"])
    said.append(_READINGS[f["reading"]].format(t=t))
    found = (
        f"nothing of its inside was read; it was run twice on {f['compared']:,} sequences, in "
        "other batches and in another order, some alone, and gave the same answers (SHA-256 "
        f"{f['digest']}); {LAYOUTS[f['layout']]}"
    )
    if f["unsure"]:
        found += f"; {f['unsure']:,} answers hang on roundings and count as errors"
    return ", ".join(said), found


def _losses(status: str, f: Facts) -> Sentences | None:
    if status != "declared" or not f["low"] < f["high"]:
        return None
    missing = f"; {f['missing']:,} that are no numbers count as the largest" if f["missing"] else ""
    return (
        f"the losses are those of one predictor, each of its own unit alone, and every loss that "
        f"a new unit can have lies from {exact(f['low'])} to {exact(f['high'])}",
        f"losses were given, and no predictor to run (SHA-256 {f['digest']}); the range was "
        f"declared, not read off them{missing}",
    )


def _holdout(status: str, f: Facts) -> Sentences | None:
    statement = (
        "the held-out units are independent draws that were used for nothing else; the "
        "predictor, with all that was chosen for it, was fixed before any of them, labelled or "
        "not, was seen"
    )
    if (f["beside"] is None) != (f["shared"] is None) or (f["beside"] is None and f["fault"]):
        return None
    seen = "no other units were given to compare them with"
    if f["beside"] is not None:
        seen = (
            f"{f['shared']:,} of {f['held_out']:,} held-out sequences occur among the "
            f"{f['beside']:,} of the sample"
        )
    why = f["why"] and quoted(f["why"])
    evidence = {}
    if f["fault"] is not None:
        evidence["violated"] = f"{seen}, {SHARED[f['fault']]}"
    elif f["own_fault"] is not None:
        evidence["violated"] = f"{seen}; of the held-out ones themselves: {RECURS[f['own_fault']]}"
    elif f["role"] == "checking":
        evidence["estimated"] = f"for checking: {why or 'may have been seen before'}; {seen}"
    else:
        evidence["declared"] = f"{why and why + ', '}declared by the user; {seen}"
    return by_status(statement, status, evidence)


FORMS: dict[str, tuple[Form, ...]] = {
    "predictor": (
        Form(
            {
                "kind": among(*_KINDS),
                "name": text,
                "layout": among(*LAYOUTS),
                "reading": among(*_READINGS),
                "output": perhaps(text),
                "lengths": truth,
                "states": truth,
                "steps_first": truth,
                "threshold": perhaps(signed),
                "compared": positive,
                "unsure": count,
                "digest": digest,
            },
            _predictor,
        ),
        Form({"low": signed, "high": signed, "missing": count, "digest": digest}, _losses),
    ),
    "holdout": (
        Form(
            {
                "role": among("certificate", "checking"),
                "why": text,
                "beside": perhaps(positive),
                "shared": perhaps(count),
                "held_out": positive,
                "fault": FAULT,
                "own_fault": FAULT,
            },
            _holdout,
        ),
    ),
}
