"""Whether a Network computes what an ONNX model computes: the model is run, node by node, in numpy.

ONNX's own reference evaluator runs all but the recurrent nodes, whose equations are written here
from the operators' specification: it knows not every option of theirs. All floats are float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from recert.errors import ParityError, UnsupportedModelError
from recert.networks.forward import network_predictor
from recert.networks.network import Network
from recert.readers.onnx.model import FLOATS, Graph, OnnxNode
from recert.readers.onnx.values import DenseStep, Signal, Size

Array = NDArray[np.float64]

TOLERANCE = 1e-7
LENGTHS, SEQUENCES = (1, 2, 7), 3
MOST_STEPS, MOST_INPUTS = 1 << 16, 1 << 24
SEED = 20_180_208
_DOUBLE, _TENSOR = 11, 4


def check(
    network: Network, graph: Graph, output: str, signal: Signal, time: int | None, last: DenseStep
) -> None:
    """Run both on drawn sequences of the model's length, or of 1, 2 and 7 steps.

    Args:
        network: read from the graph.
        graph: the model.
        output: name of its logits.
        signal: what the reader takes them for.
        time: the input axis along which layers step.
        last: the head's last step.

    Raises:
        ParityError: logits differ, or the model does not run.
        UnsupportedModelError: its fixed sizes are too large to run.
    """
    assert time is not None
    run = _runner(graph, output, last)
    given = graph.inputs[0]
    axes = given.shape if given.integers else given.shape[:-1]
    batch = next((k for k in range(len(axes)) if k != time), None)
    rng = np.random.default_rng(SEED)
    steps = LENGTHS if axes[time] is None else (int(axes[time] or 1),)
    for T in steps:
        n = SEQUENCES if batch is None else axes[batch] or SEQUENCES
        if n * T > MOST_STEPS or n * T * network.d_x > MOST_INPUTS:
            raise UnsupportedModelError(
                f"the model reads {n} sequences of {T} steps at once, too many to run it on; "
                "export it with shorter sequences or a dynamic time axis"
            )
        x = _drawn(rng, network, n, T)
        found = _run_rows(run, x, time, batch, signal)
        _compare(network, x, found)


def _drawn(rng: np.random.Generator, network: Network, n: int, T: int) -> NDArray[Any]:
    if network.input_kind == "onehot":
        return rng.integers(0, network.d_x, (n, T))
    return rng.standard_normal((n, T, network.d_x))


def _run_rows(
    run: Callable[[NDArray[Any]], Array],
    x: NDArray[Any],
    time: int,
    batch: int | None,
    signal: Signal,
) -> Array:
    """The model's outputs (n, K), or (n, T, K) where it gives every step."""
    if batch is None:
        rows = [_labelled(run(row), signal, {time: x.shape[1]}, time, None) for row in x]
        return np.concatenate(rows)
    lengths = {time: x.shape[1], batch: x.shape[0]}
    return _labelled(run(x.swapaxes(0, 1) if time == 0 else x), signal, lengths, time, batch)


def _labelled(
    out: Array, signal: Signal, lengths: dict[int, int], time: int, batch: int | None
) -> Array:
    """The output with its axes in the order batch, time if it is there, classes."""

    def length(size: Size) -> int:
        return int(size.factor * np.prod([lengths[k] for k in size.unknown], dtype=int))

    atoms = signal.atoms
    shape = tuple(length(atom.size) for atom in atoms)
    if out.dtype.kind != "f" or out.size != int(np.prod(shape)):
        raise ParityError(
            f"the model gives an output of shape {out.shape}, not the logits that its layers would "
            "give; export the plain classifier"
        )
    labels = [atom.label for atom in atoms]
    order = [labels.index(label) for label in (batch, time, "F") if label in labels]
    moved = out.reshape(shape).transpose(order)
    if batch not in labels:
        moved = moved[None]
    return moved if "F" in labels else moved[..., None]


def _compare(network: Network, x: NDArray[Any], found: Array) -> None:
    every = found.ndim == 3
    if found.shape[-1] == 1:
        found = np.concatenate([-found / 2, found / 2], axis=-1)
    lengths = np.full(len(x), x.shape[1])
    want = network_predictor(network)(x, lengths, "average" if every else "last")
    with np.errstate(invalid="ignore", over="ignore"):
        if found.shape != want.shape or not np.isfinite(want).all():
            size = np.inf
        else:
            gap = found - want
            size = float(np.abs(gap - gap.mean(axis=-1, keepdims=True)).max())
        largest = float(np.abs(want).max())
    if not size <= TOLERANCE * (1.0 + largest):
        raise ParityError(
            f"the model does not compute what its layers would: on sequences of {x.shape[1]} steps "
            f"the logits differ by {size:.2g} (logits up to {largest:.2g}); export the plain "
            "classifier with a dynamic time axis"
        )


def _runner(graph: Graph, output: str, last: DenseStep) -> Callable[[NDArray[Any]], Array]:
    """A function from the model's input to its logits."""
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(_wide_model(graph, output, last), new_ops=_recurrent_ops())
    except Exception as error:
        raise _does_not_run(error) from None

    def run(x: NDArray[Any]) -> Array:
        try:
            with np.errstate(all="ignore"):
                (found,) = evaluator.run([output], {graph.inputs[0].name: x})
        except Exception as error:  # operators may raise anything
            raise _does_not_run(error) from None
        return np.asarray(found)

    return run


def _does_not_run(error: Exception) -> ParityError:
    why = " ".join(str(error).split())[:120]
    return ParityError(
        f"the model does not run ({type(error).__name__}: {why}), so what was read cannot be "
        "checked; export it again"
    )


def _wide_model(graph: Graph, output: str, last: DenseStep) -> Any:
    """The nodes behind the logits in float64, without softmax or sigmoid at the end."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, names = graph.leading_to(output)
    final = {last.node} if last.activation == "sigmoid" else set()
    made = helper.make_graph(
        _without_copies([_wide_node(node, final) for node in nodes], output),
        "model",
        [helper.make_tensor_value_info(graph.inputs[0].name, TensorProto.DOUBLE, None)],
        [helper.make_tensor_value_info(output, TensorProto.DOUBLE, None)],
        [
            numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
            for name, value in graph.constants.items()
            if name in names
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", graph.opset)])


def _without_copies(protos: list[Any], output: str) -> list[Any]:
    """The same nodes without Identity nodes, but for the one that gives the output."""
    first: dict[str, str] = {}
    kept = []
    for proto in protos:
        given = [first.get(name, name) for name in proto.input]
        if proto.op_type == "Identity" and proto.output[0] != output:
            first[proto.output[0]] = given[0]
            continue
        del proto.input[:]
        proto.input.extend(given)
        kept.append(proto)
    return kept


def _wide_node(node: OnnxNode, final: set[str]) -> Any:
    from onnx import helper, numpy_helper

    if node.op in ("Softmax", "LogSoftmax") or (node.outputs and node.outputs[0] in final):
        return helper.make_node("Identity", [node.inputs[0]], [node.outputs[0]])
    proto = copy.deepcopy(node.proto)
    for attribute in proto.attribute:
        if attribute.type == _TENSOR:
            value = np.ascontiguousarray(node.attributes[attribute.name])
            value = value.reshape(node.attributes[attribute.name].shape)
            attribute.t.CopyFrom(numpy_helper.from_array(value))
        elif node.op == "Cast" and attribute.name == "to" and attribute.i in FLOATS:
            attribute.i = _DOUBLE
    return proto


def _recurrent_ops() -> list[type]:
    """RNN, GRU and LSTM for the reference evaluator."""
    from onnx.reference.op_run import OpRun

    def operator(name: str, cell: Callable[..., tuple[Array, Array]]) -> type:
        def _run(self: Any, X: Array, W: Array, R: Array, *rest: Any, **options: Any) -> Any:
            padded = [*rest, None, None, None]
            return _recurrent(cell, X, W, R, padded[0], padded[2], options)[
                : len(self.onnx_node.output)
            ]

        return type(name, (OpRun,), {"op_domain": "", "_run": _run})

    return [operator("RNN", _rnn), operator("GRU", _gru), operator("LSTM", _lstm)]


def _recurrent(
    cell: Callable[..., tuple[Array, Array]],
    X: Array,
    W: Array,
    R: Array,
    B: Array | None,
    initial: Array | None,
    options: dict[str, Any],
) -> tuple[Array, Array, Array]:
    """Y, Y_h and Y_c as the specification lays them out; initial states are zeros."""
    layout = options.get("layout") or 0
    if layout:
        X = X.swapaxes(0, 1)
    units = R.shape[2]
    B = np.zeros((len(W), 2 * W.shape[1])) if B is None else B
    if initial is not None and np.any(initial):
        raise ValueError("initial states are not zero")
    outputs, hidden, inner = [], [], []
    for d in range(len(W)):
        h = c = np.zeros((X.shape[1], units))
        found = []
        for x in X[::-1] if d else X:
            h, c = cell(x, h, c, W[d], R[d], B[d], options)
            found.append(h)
        outputs.append(np.stack(found[::-1] if d else found))
        hidden.append(h)
        inner.append(c)
    Y, Y_h, Y_c = np.stack(outputs, axis=1), np.stack(hidden), np.stack(inner)
    if layout:
        return Y.transpose(2, 0, 1, 3), Y_h.swapaxes(0, 1), Y_c.swapaxes(0, 1)
    return Y, Y_h, Y_c


def _rnn(
    x: Array, h: Array, c: Array, W: Array, R: Array, B: Array, options: dict[str, Any]
) -> tuple[Array, Array]:
    """Ht = f(Xt·W^T + Ht-1·R^T + Wb + Rb)."""
    Wb, Rb = np.split(B, 2)
    z = x @ W.T + h @ R.T + Wb + Rb
    relu = str((options.get("activations") or ["Tanh"])[0]).lower() == "relu"
    return (np.maximum(z, 0.0) if relu else np.tanh(z)), c


def _gru(
    x: Array, h: Array, c: Array, W: Array, R: Array, B: Array, options: dict[str, Any]
) -> tuple[Array, Array]:
    """Ht = (1 − zt) ⊙ ht + zt ⊙ Ht-1, the reset before or after the linear map of Ht-1."""
    (Wz, Wr, Wh), (Rz, Rr, Rh) = np.split(W, 3), np.split(R, 3)
    Wbz, Wbr, Wbh, Rbz, Rbr, Rbh = np.split(B, 6)
    z = expit(x @ Wz.T + h @ Rz.T + Wbz + Rbz)
    r = expit(x @ Wr.T + h @ Rr.T + Wbr + Rbr)
    if options.get("linear_before_reset"):
        candidate = np.tanh(x @ Wh.T + r * (h @ Rh.T + Rbh) + Wbh)
    else:
        candidate = np.tanh(x @ Wh.T + (r * h) @ Rh.T + Rbh + Wbh)
    return (1.0 - z) * candidate + z * h, c


def _lstm(
    x: Array, h: Array, c: Array, W: Array, R: Array, B: Array, options: dict[str, Any]
) -> tuple[Array, Array]:
    """Ct = ft ⊙ Ct-1 + it ⊙ ct, Ht = ot ⊙ tanh(Ct), gates in the order i, o, f, c."""
    Wb, Rb = np.split(B, 2)
    i, o, f, candidate = np.split(x @ W.T + h @ R.T + Wb + Rb, 4, axis=1)
    c = expit(f) * c + expit(i) * np.tanh(candidate)
    return expit(o) * np.tanh(c), c
