"""What is certified, in words: whose answer, to which call, with which padding, cut and scaled."""

from __future__ import annotations

from recert.hypotheses.facts import (
    Facts,
    Form,
    Sentences,
    among,
    exact,
    named,
    number,
    perhaps,
    positive,
    text,
    truth,
)

LAYOUTS = {
    "sequence": "one answer a sequence",
    "n, T, K": "one answer a step",
    "T, n, K": "one answer a step, steps first",
    "n, K, T": "one answer a step, classes before steps",
    "n T, K": "one answer a step, sequence after sequence in one axis",
    "T n, K": "one answer a step, step after step in one axis",
}
_WHOSE = {
    "network": "the network as given",
    "parts": "the network of the modules as given",
    "module": "the module in evaluation mode, called as model({x})",
    "onnx": "the ONNX model as given",
    "posterior": "a network drawn from the posterior as given",
}


def _predictor(status: str, f: Facts) -> Sentences | None:
    x = "x with steps first" if f["steps_first"] else "x"
    words = ["the predictor is " + _WHOSE[f["of"]].format(x=x)]
    if f["output"] is not None:
        which = f"its output {named(f['output'])}" if f["output"] else "the first of its outputs"
        words.append(f"of which {which} counts")
    if f["padding"] == "as given":
        words.append(f"on sequences padded to {f['width']} steps as given")
    elif f["padding"] is not None:
        apart = " (with it the model answers otherwise)" if f["apart"] else ""
        words.append(f"on sequences without padding{apart}")
    if f["cut"] is not None:
        words.append(f"cut at {f['cut']} steps")
    if f["radius"] is not None:
        words.append(f"inputs scaled to norm at most {exact(f['radius'])}")
    enforced = f["cut"] is not None or f["radius"] is not None
    known = (f["padding"] == "as given") == (f["width"] is not None)
    known &= not f["apart"] or f["padding"] in ("cut", "left")
    if status != ("enforced" if enforced else "declared") or not known:
        return None
    return ", ".join(words), _evidence(f)


def _evidence(f: Facts) -> str:
    if f["of"] in ("network", "posterior"):
        said = ["its weights were passed, and no model to run"]
    else:
        on = "drawn sequences" if f["compared"] is None else f"{f['compared']:,} sequences"
        said = [f"it was run, and gave its weights' answers on {on}"]
    if f["layout"] is not None:
        said.append(LAYOUTS[f["layout"]])
    if f["states"]:
        said.append("initial states of zeros were passed")
    if f["padding"] == "left":
        said.append("padding stood on the left and was taken off")
    if f["apart"]:
        said.append("which of its answers is meant was chosen by the user")
    return "; ".join(said)


FORMS: dict[str, tuple[Form, ...]] = {
    "predictor": (
        Form(
            {
                "of": among(*_WHOSE),
                "steps_first": truth,
                "output": perhaps(text),
                "layout": among(None, *LAYOUTS),
                "states": truth,
                "compared": perhaps(positive),
                "apart": truth,
                "padding": among(None, "cut", "left", "as given"),
                "width": perhaps(positive),
                "cut": perhaps(positive),
                "radius": perhaps(number),
            },
            _predictor,
        ),
    ),
}
