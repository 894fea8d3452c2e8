"""What is certified: how a model is called, and how sequences are read before it sees them.

How it is called, which of its outputs counts, whether padding is read, at which step longer
sequences are cut, and into which ball inputs are scaled: all this is part of the predictor, and
stands in one row of the ledger, on which every statement rests
(`recert.certificates.hypotheses.predictor`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from recert.certificates.certificate import PREDICTOR, Assumption
from recert.errors import InputError
from recert.utils.validation import short

Padding = Literal["cut", "as given", "left"]
PADDINGS: tuple[Padding, ...] = ("cut", "as given", "left")
Output = str | int | None
# The output of this name is a model's answer, unless another one is named.
LOGITS = "logits"

Subject = Literal["network", "parts", "module", "onnx", "posterior"]
# Which call answers to padded sequences otherwise than to the same ones without their padding.
Apart = Literal["padding", "without lengths", "with lengths"]


@dataclass(frozen=True)
class Call:
    """How a model was called when it was compared with its network.

    Attributes:
        of: what was passed: a network, a tuple of modules, a module, an ONNX model, a posterior.
        steps_first: whether it was given sequences with steps first.
        output: name or number of the output that counts; None for the only one, "" for the first.
        layout: of its answers; None where nothing was run.
        states: whether it was passed initial states of zeros.
        lengths: whether it was passed the numbers of valid steps.
        compared: on how many of the sequences it gave the network's answers; None for drawn ones.
        batch: sequences of the largest batch in which it did; None where nothing was run.
        alone: whether it did on single ones.
        reordered: whether it did on the same ones in another order.
        padded: on how many sequences with their padding it did; None where none was shown.
        apart: which call answers differently where padding stands; the other one was chosen.
        stored: type of a module's weights, ``"mixed"`` for several; None where nothing was run.
        arithmetic: in which it was compared.
        again: the same, once it has been shown further sequences and their lengths as well.
    """

    of: Subject = "network"
    steps_first: bool = False
    output: Output = None
    layout: str | None = None
    states: bool = False
    lengths: bool = False
    compared: int | None = None
    batch: int | None = None
    alone: bool = False
    reordered: bool = False
    padded: int | None = None
    apart: Apart | None = None
    stored: str | None = None
    arithmetic: str | None = None
    again: Callable[[Any, Any], Call] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Read:
    """How sequences are read before the network sees them.

    Attributes:
        padding: how padding is read; None where there is none.
        width: steps to which sequences are padded, where padding is read as given.
        cut: T where longer sequences are cut there.
        radius: B where inputs are scaled into the ball of that radius.
    """

    padding: Padding | None = None
    width: int | None = None
    cut: int | None = None
    radius: float | None = None


def predictor_row(call: Call, read: Read) -> Assumption:
    """The row of the ledger that says what is certified."""
    output = call.output
    facts: dict[str, Any] = {
        "of": call.of,
        "steps_first": call.steps_first,
        "output": output if output is None else plain(output),
        "layout": call.layout,
        "states": call.states,
        "lengths": call.lengths,
        "compared": call.compared,
        "batch": call.batch,
        "alone": call.alone,
        "reordered": call.reordered,
        "padded": call.padded,
        "apart": call.apart,
        "stored": call.stored,
        "arithmetic": call.arithmetic,
        "padding": read.padding,
        "width": read.width,
        "cut": read.cut,
        "radius": read.radius,
    }
    enforced = read.cut is not None or read.radius is not None
    return Assumption(PREDICTOR, "enforced" if enforced else "declared", facts)


def plain(output: str | int) -> str:
    """An output's name as a sentence can hold it, or its number."""
    if isinstance(output, int):
        return f"number {output}"
    return "".join(c if c.isprintable() and c not in "\u201c\u201d" else "_" for c in output)[:80]


def check_padding(padding: object) -> Padding | None:
    """One of the readings of padding, or None; InputError for anything else."""
    if padding is None:
        return None
    for known in PADDINGS:
        if isinstance(padding, str) and padding == known:
            return known
    known_ones = ", ".join(map(repr, PADDINGS))
    raise InputError(f"padding is {short(padding)}; use {known_ones}, or leave it out")


def check_output(output: object) -> Output:
    """A name, a number from 0, or None; InputError for anything else."""
    if output is None:
        return None
    if isinstance(output, int) and not isinstance(output, bool) and output >= 0:
        return output
    if isinstance(output, str) and output and output.isprintable():
        return output
    raise InputError(
        f"output is {short(output)}; give the name or the number (from 0) of an output"
    )
