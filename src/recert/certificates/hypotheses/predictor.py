"""What is certified, in words: whose answer, to which call, with which padding, cut and scaled."""

from __future__ import annotations

from recert.certificates.hypotheses.facts import (
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
_APART = {
    None: "",
    "padding": " (with it the model answers otherwise)",
    "without lengths": " (with it and without lengths the model answers otherwise)",
    "with lengths": " (with it and with lengths the model answers otherwise)",
}


STORED = ("float64", "float32", "float16", "bfloat16", "mixed")
NARROW = ("float16", "bfloat16", "mixed")


def _predictor(status: str, f: Facts) -> Sentences | None:
    words = ["the predictor is " + _WHOSE[f["of"]].format(x=_passed(f))]
    if f["output"] is not None:
        which = f"its output {named(f['output'])}" if f["output"] else "the first of its outputs"
        words.append(f"of which {which} counts")
    if f["stored"] in NARROW:
        kind = "in several types" if f["stored"] == "mixed" else f"in {f['stored']}"
        words.append(f"its weights, stored {kind}, computed with in real arithmetic")
    if f["padding"] == "as given":
        words.append(f"on sequences padded to {f['width']} steps as given")
    elif f["padding"] is not None:
        words.append(f"on sequences without padding{_APART[f['apart']]}")
    if f["cut"] is not None:
        words.append(f"cut at {f['cut']} steps")
    if f["radius"] is not None:
        words.append(f"inputs scaled to norm at most {exact(f['radius'])}")
    enforced = f["cut"] is not None or f["radius"] is not None
    if status != ("enforced" if enforced else "declared") or not _known(f):
        return None
    return ", ".join(words), _evidence(f)


def _known(f: Facts) -> bool:
    """Whether facts go together."""
    known = (f["padding"] == "as given") == (f["width"] is not None)
    known &= f["apart"] is None or f["padding"] in ("cut", "left")
    known &= f["apart"] != "without lengths" or f["lengths"]
    known &= f["apart"] != "with lengths" or not f["lengths"]
    known &= f["padded"] is None or f["padding"] in ("cut", "left")
    return known and (f["stored"] is None) == (f["arithmetic"] is None) == (f["batch"] is None)


def _passed(f: Facts) -> str:
    """What a module is called with."""
    x = "x with steps first" if f["steps_first"] else "x"
    if not f["lengths"]:
        return x
    return f"{x}, lengths" + (f" of {f['width']} steps each" if f["width"] is not None else "")


def _evidence(f: Facts) -> str:
    if f["of"] in ("network", "posterior"):
        said = ["its weights were passed, and no model to run"]
    else:
        said = ["it was run, and gave its weights' answers on " + _compared(f)]
    if f["stored"] is not None:
        kind = "several types" if f["stored"] == "mixed" else f["stored"]
        said.append(f"its weights are stored in {kind}, and it was compared in {f['arithmetic']}")
    if f["layout"] is not None:
        said.append(LAYOUTS[f["layout"]])
    if f["states"]:
        said.append("initial states of zeros were passed")
    if f["padding"] == "left":
        said.append("padding stood on the left and was taken off")
    if f["apart"] is not None:
        said.append("which of its answers is meant was chosen by the user")
    return "; ".join(said)


def _compared(f: Facts) -> str:
    """On what a model was compared, and in which batches."""
    on = "drawn sequences" if f["compared"] is None else f"{f['compared']:,} sequences"
    ways = [] if f["batch"] is None else [f"in batches of up to {f['batch']:,}"]
    ways += ["alone"] * f["alone"] + ["in another order"] * f["reordered"]
    if ways:
        on += " (" + ", ".join(ways) + ")"
    called = "given lengths" if f["lengths"] else "called so"
    return on if f["padded"] is None else f"{on}, and {called} on {f['padded']:,} with padding"


FORMS: dict[str, tuple[Form, ...]] = {
    "predictor": (
        Form(
            {
                "of": among(*_WHOSE),
                "steps_first": truth,
                "output": perhaps(text),
                "layout": among(None, *LAYOUTS),
                "states": truth,
                "lengths": truth,
                "compared": perhaps(positive),
                "batch": perhaps(positive),
                "alone": truth,
                "reordered": truth,
                "padded": perhaps(positive),
                "apart": among(*_APART),
                "stored": among(None, *STORED),
                "arithmetic": among(None, "float64", "float32"),
                "padding": among(None, "cut", "left", "as given"),
                "width": perhaps(positive),
                "cut": perhaps(positive),
                "radius": perhaps(number),
            },
            _predictor,
        ),
    ),
}
