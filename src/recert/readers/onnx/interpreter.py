"""An ONNX graph read node by node: what every value is in terms of the sequences.

Nothing is run here. A node that is not understood, in the way in which it is used, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import FileError, RecertError, UnsupportedModelError
from recert.readers.onnx import folding, signals
from recert.readers.onnx import operators as dense
from recert.readers.onnx.model import FLOATS, INTEGERS, Graph, GraphInput, OnnxNode, shown
from recert.readers.onnx.operators import recurrent
from recert.readers.onnx.values import (
    Atom,
    Filled,
    Known,
    OneHot,
    OnnxPiece,
    OnnxTable,
    Opaque,
    Signal,
    Size,
    Tokens,
    Value,
    Vectors,
    product,
)

Array = NDArray[np.float64]
Args = Sequence[Value | None]


class Interpreter:
    """Values by name after `run`; ``time`` is the input axis along which layers step."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.time: int | None = None
        entries = sum(value.size for value in graph.constants.values())
        self.budget = folding.Budget(8 * entries + (1 << 20))
        self.values: dict[str, Value] = {k: Known(v) for k, v in graph.constants.items()}
        for k, given in enumerate(graph.inputs):
            self.values[given.name] = sequences(given) if k == 0 else _other(given)

    def run(self, nodes: Sequence[OnnxNode]) -> None:
        """Read nodes in order.

        Raises:
            FileError: a node is malformed.
            UnsupportedModelError: a node is not covered.
            InputError: shapes do not fit.
        """
        for node in nodes:
            args = [self.values[name] if name else None for name in node.inputs]
            try:
                found = self._read(node, args)
            except RecertError:
                raise
            except (ValueError, IndexError, TypeError, OverflowError, MemoryError) as error:
                raise FileError(
                    f"{node.where}: its inputs do not fit ({type(error).__name__}); export the "
                    "model again"
                ) from None
            for name, value in zip(node.outputs, found, strict=False):
                self.values[name] = value
            for name in node.outputs[len(found) :]:
                self.values[name] = Opaque(f"a further output of {node.where}")

    def _read(self, node: OnnxNode, args: Args) -> tuple[Value, ...]:
        for value in args:
            if isinstance(value, Opaque):
                raise node.unsupported(f"it reads {value.what}")
        if node.op in ("RNN", "GRU", "LSTM"):
            outputs = recurrent(node, args)
            if self.time not in (None, outputs.time):
                raise node.unsupported("it steps along another axis than the layer below")
            self.time = outputs.time
            return outputs.values
        if node.op == "Constant":
            return (folding.constant(node),)
        if node.op not in _HANDLERS:
            raise node.unsupported("this operation is not covered")
        if not args or args[0] is None:
            raise FileError(f"{node.where} has no input; export the model again")
        return (_HANDLERS[node.op](self, node, args),)

    def axes(self, node: OnnxNode, args: Args, place: int, since: int) -> list[int] | None:
        """Axes, an attribute before some opset and an input since; None for none."""
        if self.graph.opset >= since:
            value = args[place] if len(args) > place else None
            return None if value is None else folding.integers(value, node, "axes")
        found = node.attribute("axes", tuple, None)
        return None if found is None else [int(axis) for axis in found]


def sequences(given: GraphInput) -> Signal:
    """The model's input: tokens (n, T) or (T,), or vectors (n, T, d) or (T, d); in either order."""
    rank = len(given.shape)
    sizes = [Size(1, (k,)) if n is None else Size(n) for k, n in enumerate(given.shape)]
    count = rank if given.integers else rank - 1
    if count not in (1, 2):
        raise UnsupportedModelError(
            f"input {shown(given.name)} has {rank} axes; sequences are tokens (n, T) or vectors "
            "(n, T, d)"
        )
    axes = tuple((Atom(k, sizes[k]),) for k in range(count))
    if given.integers:
        return Signal(axes, (OnnxPiece((Tokens(),)),))
    if not sizes[-1].known:
        raise UnsupportedModelError(
            f"input {shown(given.name)} does not say how many features a vector has; export it "
            "with a fixed last axis"
        )
    return Signal((*axes, (Atom("F", sizes[-1]),)), (OnnxPiece((Vectors(),)),))


def _other(given: GraphInput) -> Opaque:
    return Opaque(
        f"the model's further input {shown(given.name)} (covered are models of sequences alone, "
        "with zero initial states and no lengths)"
    )


def _signal(node: OnnxNode, value: Value | None) -> Signal:
    if not isinstance(value, Signal):
        raise node.unsupported("it does not read what is computed from the sequences")
    return value


def _same(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    value = args[0]
    assert value is not None
    return value


def _dropout(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    training = args[2] if len(args) > 2 else None
    if training is not None and not (isinstance(training, Known) and not training.array.any()):
        raise node.unsupported("it drops entries at random; export in evaluation mode")
    return _same(interpreter, node, args)


def _cast(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    value = _same(interpreter, node, args)
    to = node.attribute("to", int, 0)
    if to not in (*FLOATS, *INTEGERS):
        raise node.unsupported("casts to other types than floats and integers are not covered")
    if not isinstance(value, Signal):
        return folding.cast(node, value)
    whole = isinstance(value.pieces[0].steps[-1], Tokens)
    if whole != (to in INTEGERS) and not isinstance(value.pieces[0].steps[-1], OneHot):
        raise node.unsupported("a cast between integers and floats changes what is computed")
    return value


def _shape(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    value = _same(interpreter, node, args)
    if isinstance(value, Signal):
        sizes = [value.size(k) for k in range(len(value.axes))]
    elif isinstance(value, Filled):
        sizes = list(value.shape)
    else:
        assert isinstance(value, Known)
        sizes = [Size(n) for n in value.array.shape]
    start, end = node.attribute("start", int, 0), node.attribute("end", int, None)
    return folding.known_sizes(sizes[start:end])


def _transpose(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    value = _same(interpreter, node, args)
    perm = node.attribute("perm", tuple, None)
    if isinstance(value, Known):
        return Known(value.array.transpose(perm))
    value = _signal(node, value)
    return signals.transpose(value, perm or range(len(value.axes))[::-1], node)


def _squeeze(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    axes = interpreter.axes(node, args, 1, 13)
    value = args[0]
    if isinstance(value, Known):
        return Known(np.squeeze(value.array, None if axes is None else tuple(axes)))
    return signals.squeeze(_signal(node, value), axes, node)


def _unsqueeze(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    axes = interpreter.axes(node, args, 1, 13)
    value = args[0]
    if axes is None or len(set(axes)) < len(axes):
        raise FileError(f"{node.where} names no axes, or one twice; export the model again")
    if isinstance(value, Known):
        if len(axes) > folding.MOST_AXES:
            raise node.unsupported("it makes too many axes")
        return Known(np.expand_dims(value.array, tuple(axes)))
    return signals.unsqueeze(_signal(node, value), axes, node)


def _reshape(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    if node.attribute("allowzero", int, 0):
        raise node.unsupported("allowzero is not covered")
    value, shape = args[0], args[1]
    if isinstance(value, Known):
        return folding.reshape(node, value, folding.integers(_given(node, shape), node, "shape"))
    sizes = folding.sizes_of(_given(node, shape), node)
    return signals.reshape(_signal(node, value), sizes, node)


def _flatten(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    value = _signal(node, args[0])
    rank = len(value.axes)
    axis = node.attribute("axis", int, 1)
    axis = rank if axis == rank else folding.axis_of(axis, rank, node)
    two = (range(axis), range(axis, rank))
    return signals.reshape(value, [product(value.size(k) for k in part) for part in two], node)


def _given(node: OnnxNode, value: Value | None) -> Value:
    if value is None:
        raise FileError(f"{node.where} lacks an input; export the model again")
    return value


def _slice(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    if interpreter.graph.opset < 10:
        parts = [node.attribute(name, tuple, None) for name in ("starts", "ends", "axes")]
        lists: list[Any] = [*parts, None]
    else:
        named = zip(("starts", "ends", "axes", "steps"), [*args[1:], *[None] * 4], strict=False)
        lists = [None if v is None else folding.integers(v, node, what) for what, v in named]
    starts, ends, axes, steps = lists
    if not starts or not ends:
        raise FileError(f"{node.where} has no starts or ends; export the model again")
    axes = axes if axes is not None else list(range(len(starts)))
    steps = steps if steps is not None else [1] * len(starts)
    value = _given(node, args[0])
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        value = _sliced(interpreter, node, value, axis, start, end, step)
    return value


def _sliced(
    interpreter: Interpreter,
    node: OnnxNode,
    value: Value,
    axis: int,
    start: int,
    end: int,
    step: int,
) -> Value:
    if isinstance(value, Known):
        axis = folding.axis_of(axis, value.array.ndim, node)
        stop = None if step < 0 and end < -value.array.shape[axis] else end
        part = (*[slice(None)] * axis, slice(start, stop, step))
        return Known(value.array[part])
    if isinstance(value, Filled):
        axis = folding.axis_of(axis, len(value.shape), node)
        return folding.slice_filled(value, axis, start, end, step, node)
    value = _signal(node, value)
    axis = folding.axis_of(axis, len(value.axes), node)
    return signals.cut(value, axis, start, end, step, interpreter.time, node)


def _gather(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    value, indices = _given(node, args[0]), _given(node, args[1])
    axis = node.attribute("axis", int, 0)
    if isinstance(value, Known):
        axis = folding.axis_of(axis, value.array.ndim, node)
        if isinstance(indices, Signal):
            return _embed(node, value, indices, axis)
        if not isinstance(indices, Known):
            raise node.unsupported("its indices are not constant")
        return folding.gather(node, value, indices, axis, interpreter.budget)
    value = _signal(node, value)
    axis = folding.axis_of(axis, len(value.axes), node)
    (index,) = folding.integers(indices, node, "index")
    picked = signals.pick(value, axis, index, interpreter.time, node)
    assert isinstance(indices, Known)
    return signals.unsqueeze(picked, [axis], node) if indices.array.ndim else picked


def _embed(node: OnnxNode, table: Known, tokens: Signal, axis: int) -> Signal:
    if not _reads_tokens(tokens) or axis != 0 or table.array.ndim != 2 or table.symbolic:
        raise node.unsupported("only tokens looked up in the rows of a table are covered")
    width = (Atom("F", Size(table.array.shape[1])),)
    step = OnnxTable(table.array.astype(np.float64))
    return Signal((*tokens.axes, width), (OnnxPiece((*tokens.pieces[0].steps, step)),))


def _reads_tokens(signal: Signal) -> bool:
    return isinstance(signal.pieces[0].steps[-1], Tokens)


def _one_hot(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    tokens, depth, values = _signal(node, args[0]), args[1], args[2]
    axis = node.attribute("axis", int, -1)
    (count,) = folding.integers(_given(node, depth), node, "depth")
    plain = isinstance(values, Known) and not values.symbolic
    if not _reads_tokens(tokens) or axis not in (-1, len(tokens.axes)) or count < 1:
        raise node.unsupported("only tokens made one-hot along a last axis are covered")
    if not plain or values.array.tolist() != [0, 1]:  # type: ignore[union-attr]
        raise node.unsupported("one-hot vectors of other numbers than 0 and 1 are not covered")
    step = OneHot(count)
    return Signal((*tokens.axes, (Atom("F", Size(count)),)), (OnnxPiece((Tokens(), step)),))


def _concat(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    axis = node.attribute("axis", int, 0)
    known = [value for value in args if isinstance(value, Known)]
    if len(known) == len(args):
        return folding.concatenate(node, known, axis, interpreter.budget)
    return signals.join([_signal(node, value) for value in args], axis, node)


def _reduce_mean(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    axes = interpreter.axes(node, args, 1, 18)
    if not axes:
        raise node.unsupported("a mean over every axis is not covered")
    keep = bool(node.attribute("keepdims", int, 1))
    return signals.mean_over(_signal(node, args[0]), axes, keep, interpreter.time, node)


def _mat_mul(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    return dense.mat_mul(node, _signal(node, args[0]), args[1])


def _gemm(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    return dense.gemm(node, _signal(node, args[0]), args[1], args[2] if len(args) > 2 else None)


def _arithmetic(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    left, right = args[0], args[1]
    if isinstance(left, Known) and isinstance(right, Known):
        return folding.arithmetic(node, left, right, interpreter.budget)
    if node.op != "Add":
        raise node.unsupported("this arithmetic on what is computed from sequences is not covered")
    x, constant = (right, left) if isinstance(left, Known) else (left, right)
    return dense.add_bias(node, _signal(node, x), constant)


def _activation(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    return dense.activation(node, _signal(node, args[0]))


def _softmax(interpreter: Interpreter, node: OnnxNode, args: Args) -> Value:
    return dense.softmax(node, _signal(node, args[0]), interpreter.graph.opset)


_HANDLERS: dict[str, Callable[[Interpreter, OnnxNode, Args], Value]] = {
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
    "Shape": _shape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Slice": _slice,
    "Gather": _gather,
    "OneHot": _one_hot,
    "Concat": _concat,
    "ReduceMean": _reduce_mean,
    "MatMul": _mat_mul,
    "Gemm": _gemm,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "ConstantOfShape": lambda _, node, args: folding.constant_of_shape(node, _given(node, args[0])),
    "Expand": lambda _, node, args: folding.expand(
        node, _given(node, args[0]), _given(node, args[1])
    ),
    **dict.fromkeys(dense.ACTIVATIONS, _activation),
}
