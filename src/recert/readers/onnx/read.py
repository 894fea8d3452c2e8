"""ONNX models: read, made a Network, and run to check that it is the same.

Covered are RNN, GRU and LSTM nodes in stacks, in one direction or two, from zero states; tokens
embedded or one-hot, or vectors, perhaps through dense layers; dense layers with activations after;
every step, the last one, the final states or the mean over time. Weights are taken as they are
stored and computed with in float64, whatever the precision that the model runs in.

A softmax at the end is left out, since it changes no order of the classes; so is a sigmoid. One
logit, the log odds of class 1, becomes the two logits −y/2 and y/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.certificates.predictor import LOGITS, Output
from recert.errors import FileError, RecertError, UnsupportedModelError
from recert.networks.blocks import Block, Norm
from recert.networks.layers import Bidirectional, Dense, Layer, layer_of, suffix_of
from recert.networks.network import Head, InputKind, Network, Read
from recert.readers.onnx import model, parity
from recert.readers.onnx.interpreter import Interpreter
from recert.readers.onnx.model import Graph, shown
from recert.readers.onnx.values import (
    DenseStep,
    OneHot,
    OnnxPiece,
    OnnxTable,
    RecurrentStep,
    Signal,
    Step,
    Tokens,
    Vectors,
)
from recert.readers.weights.assembly import two_rows

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Model:
    """What was read of an ONNX model.

    Attributes:
        network: what it computes.
        output: the output that counts; None where there is no other.
        every: whether that gives an answer at every step.
    """

    network: Network
    output: str | None
    every: bool


def read(raw: bytes, where: str, output: Output = None) -> Model:
    """The Network that an ONNX model computes, checked by running both on drawn sequences.

    Args:
        raw: the file's bytes.
        where: the file, for messages.
        output: name or number (from 0) of the output that counts; None for the one called
            ``logits``, else the first.

    Raises:
        FileError: the file is no complete ONNX model.
        UnsupportedModelError: a part is not covered; the message names the node.
        InputError: weights are not finite or their shapes do not fit.
        ParityError: the model computes something else than the Network.
    """
    try:
        graph = model.parse(raw)
        interpreter = Interpreter(graph)
        interpreter.run(_nodes_behind_outputs(graph))
        name, signal = _logits(graph, interpreter, output)
        _account(graph, name)
        network, last = _network(signal, interpreter.time)
        parity.check(network, graph, name, signal, interpreter.time, last)
    except RecertError as error:
        raise type(error)(f"{where}: {error}") from None
    every = any(atom.label == interpreter.time for atom in signal.atoms)
    return Model(network, name if len(graph.outputs) > 1 else None, every)


def _nodes_behind_outputs(graph: Graph) -> list[model.OnnxNode]:
    if not graph.inputs:
        raise FileError("the model has no input; export it again")
    return graph.leading_to(*graph.outputs)[0]


def _logits(graph: Graph, interpreter: Interpreter, output: Output) -> tuple[str, Signal]:
    """The output that is the model's answer, which a dense layer gives after the recurrent ones."""
    name = _answer(graph.outputs, output)
    value = interpreter.values[name]
    if (
        not isinstance(value, Signal)
        or not isinstance(value.pieces[0].steps[-1], DenseStep)
        or not any(isinstance(step, RecurrentStep) for step in value.pieces[0].steps)
    ):
        others = ", ".join(map(shown, graph.outputs[:8]))
        raise UnsupportedModelError(
            f"output {shown(name)} is not read from recurrent layers by a linear head (the outputs "
            f"are {others}); export the classifier with its logits, or name them with output="
        )
    return name, value


def _answer(outputs: Sequence[str], output: Output) -> str:
    """The output that is named, or called ``logits``, or the first."""
    if not outputs:
        raise FileError("the model has no output; export it again")
    if isinstance(output, int) and output < len(outputs):
        return outputs[output]
    if output in outputs:
        return str(output)
    if output is not None:
        raise UnsupportedModelError(
            f"there is no output {output!r}; the outputs are {', '.join(map(shown, outputs[:8]))}"
        )
    return LOGITS if LOGITS in outputs else outputs[0]


def _account(graph: Graph, name: str) -> None:
    """Every initializer has a part in the logits."""
    _, used = graph.leading_to(name)
    unused = sorted(set(graph.constants) - used)
    if unused:
        raise UnsupportedModelError(
            f"tensor {shown(unused[0])} has no part in the output {shown(name)}; remove it, or "
            "export the model without what is unused"
        )


def _network(signal: Signal, time: int | None) -> tuple[Network, DenseStep]:
    """The Network of the steps behind the logits, and the last step."""
    piece = signal.pieces[0]
    places = [k for k, step in enumerate(piece.steps) if isinstance(step, RecurrentStep)]
    before, layers = piece.steps[: places[0]], piece.steps[places[0] : places[-1] + 1]
    if any(not isinstance(step, RecurrentStep) for step in layers):
        raise UnsupportedModelError(
            "dense layers between recurrent layers are not covered; train without them"
        )
    *hidden, last = piece.steps[places[-1] + 1 :]
    assert isinstance(last, DenseStep)
    if last.bare:
        raise UnsupportedModelError(
            "there is no linear head after the recurrent layers; export the classifier with it"
        )
    if last.activation not in ("identity", "sigmoid"):
        raise UnsupportedModelError(
            f"the logits go through {last.activation}, which changes margins; export without it"
        )
    tokens, table, reads_tokens, encoder = _inputs(before)
    A, b = last.A, last.b
    if len(A) == 1:
        A, b = two_rows(A, b)
    head = Head(_block("V", A), _vector("b_V", b), _hidden(hidden))
    stack = tuple(
        _layer(step, k, len(layers), reads_tokens and not encoder and k == 0)
        for k, step in enumerate(layers)
        if isinstance(step, RecurrentStep)
    )
    kind: InputKind = "onehot" if tokens else "real"
    network = Network(stack, head, kind, table, encoder, _reading(piece, signal, time))
    return network, last


def _inputs(steps: tuple[Step, ...]) -> tuple[bool, Block | None, bool, tuple[Dense, ...]]:
    """Whether inputs are tokens, the embedding, whether what follows reads tokens, the encoder."""
    first, *rest = steps
    table = None
    reads_tokens = bool(rest) and isinstance(rest[0], OneHot)
    if rest and isinstance(rest[0], OnnxTable):
        table = Block("E", rest[0].rows.T, "column")
    if isinstance(first, Tokens):
        rest = rest[1:]
    assert isinstance(first, (Tokens, Vectors))
    return isinstance(first, Tokens), table, reads_tokens, _dense(rest, "F", tokens=reads_tokens)


def _hidden(steps: list[Step]) -> tuple[Dense, ...]:
    """The head's dense layers; a bare activation of the states is one with the identity."""
    first = steps[0] if steps else None
    if not (isinstance(first, DenseStep) and first.bare):
        return _dense(steps, "G")
    return (Dense(_block("I", first.A), None, first.activation), *_dense(steps[1:], "G"))


def _dense(steps: list[Step], letter: str, *, tokens: bool = False) -> tuple[Dense, ...]:
    found = []
    for k, step in enumerate(steps):
        assert isinstance(step, DenseStep)
        suffix = suffix_of(k, len(steps))
        A = _block(f"{letter}{suffix}", step.A, "column" if tokens and k == 0 else "spectral")
        found.append(Dense(A, _vector(f"b_{letter}{suffix}", step.b), step.activation))
    return tuple(found)


def _layer(step: RecurrentStep, index: int, count: int, tokens: bool) -> Layer | Bidirectional:
    made = [
        layer_of(
            step.cell,
            roles,
            suffix=suffix_of(index, count, reverse=bool(d)),
            reads_tokens=tokens,
            activation=step.activation,
        )
        for d, roles in enumerate(step.directions)
    ]
    return Bidirectional(*made) if len(made) == 2 else made[0]


def _reading(piece: OnnxPiece, signal: Signal, time: int | None) -> Read:
    if piece.when == "every" and not any(atom.label == time for atom in signal.atoms):
        # The time axis, of size 1, was dropped: the only step is the last.
        return "step"
    if piece.when == "first":
        raise UnsupportedModelError(
            "the logits are read at the first step, which is no sequence; read them at the last"
        )
    readings: dict[str, Read] = {"mean": "mean", "final": "final"}
    return readings.get(piece.when, "step")


def _block(name: str, value: Array, norm: Norm = "spectral") -> Block:
    return Block(name, value, norm)


def _vector(name: str, value: Array | None) -> Block | None:
    return None if value is None else Block(name, value, "euclidean")
