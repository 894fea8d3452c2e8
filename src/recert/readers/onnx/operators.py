"""RNN, GRU and LSTM nodes as layers: gates in ONNX's order, every option looked at.

Dense layers in an ONNX graph: matrices, biases, activations, and a softmax at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import FileError, InputError
from recert.readers.onnx import signals
from recert.readers.onnx.folding import axis_of
from recert.readers.onnx.model import OnnxNode
from recert.readers.onnx.signals import settle
from recert.readers.onnx.values import (
    Atom,
    DenseStep,
    Filled,
    Known,
    OnnxPiece,
    Opaque,
    RecurrentStep,
    Signal,
    Size,
    Value,
)
from recert.readers.weights import state_dicts

Array = NDArray[np.float64]

# The cell as torch has it, and where ONNX's gates stand in torch's order.
# ONNX stacks LSTM as input, output, forget, candidate, and GRU as update, reset, candidate.
_CELLS = {"RNN": ("vanilla", (0,)), "GRU": ("gru", (1, 0, 2)), "LSTM": ("lstm", (0, 2, 3, 1))}
_DEFAULTS = {"RNN": ("tanh",), "GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


@dataclass(frozen=True)
class Outputs:
    """Values of a recurrent node by place, and the input axis along which it steps."""

    values: tuple[Value, ...]
    time: int


def recurrent(node: OnnxNode, inputs: Sequence[Value | None]) -> Outputs:
    """A recurrent node's outputs Y, Y_h and Y_c.

    Raises:
        UnsupportedModelError: an option that is not covered.
        FileError: its weights do not fit its attributes.
        InputError: shapes do not fit.
    """
    most = len(_INPUTS) if node.op == "LSTM" else 6
    if len(inputs) > most:
        raise FileError(f"{node.where} has {len(inputs)} inputs; export the model again")
    given = dict(zip(_INPUTS, [*inputs, *[None] * (len(_INPUTS) - len(inputs))], strict=True))
    x = given["X"]
    if not isinstance(x, Signal) or len(x.axes) != 3 or x.last_width is None:
        raise node.unsupported("it does not read the sequences, or what a layer makes of them")
    layout = node.attribute("layout", int, 0)
    if layout not in (0, 1):
        raise FileError(f"{node.where}: layout is {layout}, not 0 or 1; export the model again")
    time, batch = (x.axes[1], x.axes[0]) if layout else (x.axes[0], x.axes[1])
    if len(time) != 1 or not isinstance(time[0].label, int) or len(batch) > 1:
        raise node.unsupported("the axis along which it steps is no axis of the model's input")
    settled = settle(x, node)
    if settled.when != "every" or x.normalized or settled.order != tuple(sorted(settled.order)):
        raise node.unsupported(
            "it does not read every step of the layer below, directions in order"
        )
    _check_options(node)
    directions = _directions(node, given, x.last_width)
    units = next(iter(directions[0].values())).shape[1]
    _check_states(node, given, (len(directions), units), batch, layout)
    _check_lengths(node, given["sequence_lens"], time[0].size)
    cell, activation = _cell(node)
    step = RecurrentStep(cell, activation, tuple(directions))
    return _outputs((*settled.steps, step), time, batch, units, layout)


def _outputs(
    steps: tuple[Any, ...],
    time: tuple[Atom, ...],
    batch: tuple[Atom, ...],
    units: int,
    layout: int,
) -> Outputs:
    count = len(steps[-1].directions)
    side = (Atom("D", Size(count)),) if count > 1 else ()
    features = (Atom("F", Size(units)),)
    every = tuple(OnnxPiece(steps, k) for k in range(count))
    ends = tuple(OnnxPiece(steps, k, "first" if k else "last") for k in range(count))
    if layout:
        Y = Signal((batch, time, side, features), every)
        Y_h = Signal((batch, side, features), ends)
    else:
        Y = Signal((time, side, batch, features), every)
        Y_h = Signal((side, batch, features), ends)
    label = time[0].label
    assert isinstance(label, int)
    return Outputs((Y, Y_h, Opaque("a layer's last cell state")), label)


def _check_options(node: OnnxNode) -> None:
    for name in ("clip", "activation_alpha", "activation_beta"):
        if name in node.attributes:
            raise node.unsupported(f"the attribute {name} is not covered")
    if node.attribute("input_forget", int, 0):
        raise node.unsupported("coupled gates (input_forget) are not covered")
    direction = node.attribute("direction", str, "forward")
    if direction not in ("forward", "bidirectional"):
        raise node.unsupported(f"direction {direction!r} alone is not covered")


def _cell(node: OnnxNode) -> tuple[str, str]:
    """The cell's name and activation; activations must be those that the cell has everywhere."""
    expected = _DEFAULTS[node.op]
    two = node.attribute("direction", str, "forward") == "bidirectional"
    given = node.attribute("activations", tuple, None)
    found = tuple(str(name).lower() for name in given) if given is not None else expected
    if len(found) == len(expected) * (2 if two else 1) and two:
        if found[: len(expected)] != found[len(expected) :]:
            raise node.unsupported("its directions have different activations")
        found = found[: len(expected)]
    if found != expected and not (node.op == "RNN" and found == ("relu",)):
        raise node.unsupported(f"activations {', '.join(found)[:60] or 'none'} are not covered")
    if node.op == "GRU" and not node.attribute("linear_before_reset", int, 0):
        return "gru_original", "tanh"
    return _CELLS[node.op][0], found[0] if node.op == "RNN" else "tanh"


def _directions(
    node: OnnxNode, given: dict[str, Value | None], inputs: int
) -> list[dict[str, Array]]:
    """Blocks by role of each direction."""
    if given["P"] is not None:
        raise node.unsupported("peepholes (input P) are not covered")
    W, R = _weights(node, given, "W", 3), _weights(node, given, "R", 3)
    B = _weights(node, given, "B", 2) if given["B"] is not None else None
    count = 2 if node.attribute("direction", str, "forward") == "bidirectional" else 1
    gates, units = len(_CELLS[node.op][1]), R.shape[2]
    rows = gates * units
    declared = node.attribute("hidden_size", int, units)
    fits = W.shape == (count, rows, inputs) and R.shape == (count, rows, units)
    if not fits or declared != units or (B is not None and B.shape != (count, 2 * rows)):
        raise InputError(
            f"{node.where}: shapes do not fit: W {W.shape}, R {R.shape}"
            f"{'' if B is None else f', B {B.shape}'} for {count} direction(s), {gates} gate(s), "
            f"{declared} units and {inputs} inputs; export the model again"
        )
    return [_roles(node, W[d], R[d], None if B is None else B[d]) for d in range(count)]


def _weights(node: OnnxNode, given: dict[str, Value | None], name: str, axes: int) -> Array:
    value = given[name]
    if not isinstance(value, Known) or value.array.dtype != np.float64:
        raise node.unsupported(f"its weights {name} are no constant of floats")
    if value.array.ndim != axes or value.array.size == 0:
        raise InputError(f"{node.where}: shapes do not fit: {name} is {value.array.shape}")
    return value.array


def _roles(node: OnnxNode, W: Array, R: Array, B: Array | None) -> dict[str, Array]:
    cell, places = _CELLS[node.op]
    units = R.shape[1]

    def ordered(stacked: Array) -> Array:
        parts = stacked.reshape(len(places), units, *stacked.shape[1:])
        return np.concatenate([parts[k] for k in places])

    biases = None if B is None else (ordered(B[: len(R)]), ordered(B[len(R) :]))
    roles = state_dicts.roles_of(cell, ordered(W), ordered(R), biases)
    if node.op == "GRU" and not node.attribute("linear_before_reset", int, 0) and biases:
        # Here the reset stands before the product, and both biases outside it.
        roles["b_n"] = roles["b_n"] + roles.pop("b_hn")
    return roles


def _check_states(
    node: OnnxNode,
    given: dict[str, Value | None],
    shape: tuple[int, int],
    batch: tuple[Atom, ...],
    layout: int,
) -> None:
    """Initial states are absent, or zeros of the right shape."""
    n = batch[0].size if batch else Size(1)
    count, units = map(Size, shape)
    expected = (n, count, units) if layout else (count, n, units)
    for name in ("initial_h", "initial_c"):
        value = given[name]
        if value is None:
            continue
        if isinstance(value, Known) and not value.symbolic:
            zero, found = not np.any(value.array), tuple(map(Size, value.array.shape))
        elif isinstance(value, Filled):
            zero, found = value.value == 0.0, value.shape
        else:
            raise node.unsupported(f"its {name} is not constant; export with zero initial states")
        if not zero:
            raise node.unsupported(f"its {name} is not zero; export with zero initial states")
        if found != expected:
            raise node.unsupported(f"its {name} has another shape than the layer's states")


def _check_lengths(node: OnnxNode, lengths: Value | None, steps: Size) -> None:
    if lengths is None:
        return
    whole = isinstance(lengths, Known) and not lengths.symbolic and steps.known
    if not whole or not np.all(lengths.array == steps.factor):  # type: ignore[union-attr]
        raise node.unsupported(
            "its sequence_lens are not the length of every sequence; export without lengths"
        )


ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
}
_SLOPES = {"LeakyRelu": 0.01, "Elu": 1.0}
_FLAT_SOFTMAX = 13  # before this opset Softmax took all axes from its own on together


def mat_mul(node: OnnxNode, x: Signal, weight: Value | None) -> Signal:
    """Features times a constant matrix."""
    return _dense(node, x, _matrix(node, weight).T, None)


def gemm(node: OnnxNode, x: Signal, B: Value | None, C: Value | None) -> Signal:
    """Rows of features times a constant matrix, and a bias."""
    if node.attribute("transA", int, 0) or len(x.axes) != 2:
        raise node.unsupported("it does not multiply rows of features by a matrix")
    alpha, beta = (node.attribute(name, float, 1.0) for name in ("alpha", "beta"))
    A = alpha * _matrix(node, B)
    A = A if node.attribute("transB", int, 0) else A.T
    return _dense(node, x, A, None if C is None else beta * _bias(node, C, len(A)))


def add_bias(node: OnnxNode, x: Signal, constant: Value | None) -> Signal:
    """A dense layer's bias, added by a node of its own."""
    if not isinstance(constant, Known):
        raise node.unsupported("sums of two computed tensors (residual links) are not covered")
    step = _last_dense(node, x)
    if step.b is not None or constant.array.ndim > len(x.axes) or x.find("F") != len(x.axes) - 1:
        raise node.unsupported("it adds something that is not a dense layer's one bias")
    return _with_dense(x, replace(step, b=_bias(node, constant, len(step.A))))


def activation(node: OnnxNode, x: Signal) -> Signal:
    """An activation after a dense layer, or of what the recurrent layers give out."""
    slope = _SLOPES.get(node.op)
    if slope is not None and abs(node.attribute("alpha", float, slope) - slope) > 1e-6 * slope:
        raise node.unsupported(f"alpha is covered only at {slope}")
    if isinstance(x.pieces[0].steps[-1], RecurrentStep):
        x = _dense(node, x, np.eye(x.last_width or 0), None, bare=True)
    step = _last_dense(node, x)
    return _with_dense(x, replace(step, activation=ACTIVATIONS[node.op], node=node.outputs[0]))


def softmax(node: OnnxNode, x: Signal, opset: int) -> Signal:
    """A softmax over the classes, which changes no margin's sign."""
    flat = opset < _FLAT_SOFTMAX
    axis = axis_of(node.attribute("axis", int, 1 if flat else -1), len(x.axes), node)
    classes = x.find("F")
    if classes is None or not (axis <= classes if flat else axis == classes):
        raise node.unsupported("it normalizes another axis than the classes'")
    _last_dense(node, x)
    return replace(x, normalized=True)


def _matrix(node: OnnxNode, value: Value | None) -> Array:
    if not isinstance(value, Known) or value.array.dtype != np.float64 or value.array.ndim != 2:
        raise node.unsupported("its weights are no constant matrix")
    return value.array


def _bias(node: OnnxNode, value: Value | None, width: int) -> Array:
    if not isinstance(value, Known) or value.array.dtype != np.float64:
        raise node.unsupported("its bias is no constant")
    if value.array.size != width or value.array.shape[-1:] not in ((width,), ()):
        raise node.unsupported(f"its bias has shape {value.array.shape}, not ({width},)")
    return value.array.reshape(width)


def _dense(node: OnnxNode, x: Signal, A: Array, b: Array | None, *, bare: bool = False) -> Signal:
    if x.last_width is None or x.normalized:
        raise node.unsupported("it does not read the features that the layer below gives")
    if A.shape[1] != x.last_width or A.size == 0:
        raise node.unsupported(f"its matrix reads {A.shape[1]} features of {x.last_width}")
    settled = signals.settle(x, node)
    if settled.order != tuple(sorted(settled.order)):
        parts = np.split(A, len(settled.order), axis=1)
        A = np.concatenate([parts[settled.order.index(d)] for d in range(len(parts))], axis=1)
    piece = OnnxPiece((*settled.steps, DenseStep(A, b, bare=bare)), None, settled.when)
    return Signal((*x.axes[:-1], (Atom("F", Size(len(A))),)), (piece,))


def _last_dense(node: OnnxNode, x: Signal) -> DenseStep:
    step = x.pieces[0].steps[-1]
    if len(x.pieces) > 1 or not isinstance(step, DenseStep) or x.normalized:
        raise node.unsupported("it acts on something else than what a dense layer gives")
    if step.activation != "identity":
        raise node.unsupported("it acts on what went through an activation already")
    return step


def _with_dense(x: Signal, step: DenseStep) -> Signal:
    piece = replace(x.pieces[0], steps=(*x.pieces[0].steps[:-1], step))
    return replace(x, pieces=(piece,))
