"""Dense layers in an ONNX graph: matrices, biases, activations, and a softmax at the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recert.adapters import onnx_signals as signals
from recert.adapters.onnx_file import Node
from recert.adapters.onnx_folding import axis_of
from recert.adapters.onnx_values import (
    Atom,
    DenseStep,
    Known,
    Piece,
    RecurrentStep,
    Signal,
    Size,
    Value,
)

Array = NDArray[np.float64]

ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
}
_SLOPES = {"LeakyRelu": 0.01, "Elu": 1.0}
_FLAT_SOFTMAX = 13  # before this opset Softmax took all axes from its own on together


def mat_mul(node: Node, x: Signal, weight: Value | None) -> Signal:
    """Features times a constant matrix."""
    return _dense(node, x, _matrix(node, weight).T, None)


def gemm(node: Node, x: Signal, B: Value | None, C: Value | None) -> Signal:
    """Rows of features times a constant matrix, and a bias."""
    if node.attribute("transA", int, 0) or len(x.axes) != 2:
        raise node.unsupported("it does not multiply rows of features by a matrix")
    alpha, beta = (node.attribute(name, float, 1.0) for name in ("alpha", "beta"))
    A = alpha * _matrix(node, B)
    A = A if node.attribute("transB", int, 0) else A.T
    return _dense(node, x, A, None if C is None else beta * _bias(node, C, len(A)))


def add_bias(node: Node, x: Signal, constant: Value | None) -> Signal:
    """A dense layer's bias, added by a node of its own."""
    if not isinstance(constant, Known):
        raise node.unsupported("sums of two computed tensors (residual links) are not covered")
    step = _last_dense(node, x)
    if step.b is not None or constant.array.ndim > len(x.axes) or x.find("F") != len(x.axes) - 1:
        raise node.unsupported("it adds something that is not a dense layer's one bias")
    return _with_dense(x, replace(step, b=_bias(node, constant, len(step.A))))


def activation(node: Node, x: Signal) -> Signal:
    """An activation after a dense layer, or of what the recurrent layers give out."""
    slope = _SLOPES.get(node.op)
    if slope is not None and abs(node.attribute("alpha", float, slope) - slope) > 1e-6 * slope:
        raise node.unsupported(f"alpha is covered only at {slope}")
    if isinstance(x.pieces[0].steps[-1], RecurrentStep):
        x = _dense(node, x, np.eye(x.last_width or 0), None, bare=True)
    step = _last_dense(node, x)
    return _with_dense(x, replace(step, activation=ACTIVATIONS[node.op], node=node.outputs[0]))


def softmax(node: Node, x: Signal, opset: int) -> Signal:
    """A softmax over the classes, which changes no margin's sign."""
    flat = opset < _FLAT_SOFTMAX
    axis = axis_of(node.attribute("axis", int, 1 if flat else -1), len(x.axes), node)
    classes = x.find("F")
    if classes is None or not (axis <= classes if flat else axis == classes):
        raise node.unsupported("it normalizes another axis than the classes'")
    _last_dense(node, x)
    return replace(x, normalized=True)


def _matrix(node: Node, value: Value | None) -> Array:
    if not isinstance(value, Known) or value.array.dtype != np.float64 or value.array.ndim != 2:
        raise node.unsupported("its weights are no constant matrix")
    return value.array


def _bias(node: Node, value: Value | None, width: int) -> Array:
    if not isinstance(value, Known) or value.array.dtype != np.float64:
        raise node.unsupported("its bias is no constant")
    if value.array.size != width or value.array.shape[-1:] not in ((width,), ()):
        raise node.unsupported(f"its bias has shape {value.array.shape}, not ({width},)")
    return value.array.reshape(width)


def _dense(node: Node, x: Signal, A: Array, b: Array | None, *, bare: bool = False) -> Signal:
    if x.last_width is None or x.normalized:
        raise node.unsupported("it does not read the features that the layer below gives")
    if A.shape[1] != x.last_width or A.size == 0:
        raise node.unsupported(f"its matrix reads {A.shape[1]} features of {x.last_width}")
    settled = signals.settle(x, node)
    if settled.order != tuple(sorted(settled.order)):
        parts = np.split(A, len(settled.order), axis=1)
        A = np.concatenate([parts[settled.order.index(d)] for d in range(len(parts))], axis=1)
    piece = Piece((*settled.steps, DenseStep(A, b, bare=bare)), None, settled.when)
    return Signal((*x.axes[:-1], (Atom("F", Size(len(A))),)), (piece,))


def _last_dense(node: Node, x: Signal) -> DenseStep:
    step = x.pieces[0].steps[-1]
    if len(x.pieces) > 1 or not isinstance(step, DenseStep) or x.normalized:
        raise node.unsupported("it acts on something else than what a dense layer gives")
    if step.activation != "identity":
        raise node.unsupported("it acts on what went through an activation already")
    return step


def _with_dense(x: Signal, step: DenseStep) -> Signal:
    piece = replace(x.pieces[0], steps=(*x.pieces[0].steps[:-1], step))
    return replace(x, pieces=(piece,))
