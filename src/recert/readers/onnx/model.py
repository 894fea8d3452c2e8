"""An ONNX file taken apart into plain values, before anything in it is believed.

Nothing outside the file is opened, and nothing larger than the file is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import FileError, UnsupportedModelError

OPSETS = range(7, 24)
DOMAINS = ("", "ai.onnx")
ADVICE = (
    "export a plain classifier (recurrent layers from zero states, linear head), or keep its "
    "weights in safetensors with a description"
)
# Data types by ONNX's number: (name, bytes of one entry, field that holds it if not raw).
_TYPES = {
    1: ("FLOAT", 4, "float_data"),
    6: ("INT32", 4, "int32_data"),
    7: ("INT64", 8, "int64_data"),
    9: ("BOOL", 1, "int32_data"),
    10: ("FLOAT16", 2, "int32_data"),
    11: ("DOUBLE", 8, "double_data"),
    16: ("BFLOAT16", 2, "int32_data"),
}
FLOATS, INTEGERS = (1, 10, 11, 16), (6, 7)
_TENSOR, _EXTERNAL = 4, 1


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One operation: its type, inputs, outputs and plain attributes."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: Any

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"{shown(self.op)[1:-1]} node {shown(self.name or (self.outputs or ('',))[0])}"

    def attribute(self, name: str, kind: type, default: Any) -> Any:
        """An attribute of that type (``tuple`` for lists), or the default.

        Raises:
            FileError: it has another type.
        """
        value = self.attributes.get(name, default)
        if value is not default and not isinstance(value, kind):
            raise FileError(
                f"{self.where}: attribute {name} is no {kind.__name__}; export the model again"
            )
        return value

    def unsupported(self, what: str) -> UnsupportedModelError:
        """The error for a node that is used in a way that is not covered."""
        return UnsupportedModelError(f"{self.where}: {what}; {ADVICE}")


@dataclass(frozen=True)
class GraphInput:
    """A tensor that the model is given: whether of integers or floats, sizes (None: any)."""

    name: str
    integers: bool
    shape: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """A model: nodes in order, constants by name, inputs, names of outputs."""

    opset: int
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, NDArray[Any]]
    inputs: tuple[GraphInput, ...]
    outputs: tuple[str, ...]

    def leading_to(self, *names: str) -> tuple[list[OnnxNode], set[str]]:
        """The nodes on which values depend, in order, and the names of all those values."""
        wanted, found = set(names), []
        for node in reversed(self.nodes):
            if not wanted.isdisjoint(node.outputs):
                found.append(node)
                wanted.update(node.inputs)
        return found[::-1], wanted - {""}


def shown(name: str) -> str:
    """A name as errors show it: quoted, on one line, not endless."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def parse(raw: bytes) -> Graph:
    """A model from a file's bytes.

    Raises:
        FileError: it is no complete ONNX model.
        UnsupportedModelError: operators or tensors of a kind that is not covered.
    """
    import onnx

    try:
        model = onnx.ModelProto.FromString(raw)
        return _graph(model)
    except (FileError, UnsupportedModelError):
        raise
    except Exception as error:  # protobuf raises its own types, and UnicodeDecodeError later
        raise FileError(
            f"it is no complete ONNX model ({type(error).__name__}); copy or export it again"
        ) from None


def _graph(model: Any) -> Graph:
    if not model.HasField("graph") or not model.graph.node:
        raise FileError("it is no complete ONNX model (no graph); copy or export it again")
    opset = _opset(model)
    graph = model.graph
    if graph.sparse_initializer:
        raise UnsupportedModelError("sparse tensors are not covered; export dense weights")
    constants: dict[str, NDArray[Any]] = {}
    for tensor in graph.initializer:
        if not tensor.name or tensor.name in constants:
            raise FileError(f"initializer {shown(tensor.name)} has no name of its own")
        constants[tensor.name] = array_of(tensor, f"tensor {shown(tensor.name)}")
    nodes = tuple(_node(proto) for proto in graph.node)
    inputs = tuple(_input(value) for value in graph.input if value.name not in constants)
    outputs = tuple(value.name for value in graph.output)
    _check_order(nodes, [*constants, *(i.name for i in inputs)], outputs)
    for node in nodes:
        _check_operator(node, opset)
    return Graph(opset, nodes, constants, inputs, outputs)


def _opset(model: Any) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in DOMAINS]
    if len(versions) != 1:
        raise FileError("it declares no one version of ONNX's operators; copy or export it again")
    if versions[0] not in OPSETS:
        raise UnsupportedModelError(
            f"operators of version {versions[0]} are not covered; export with opset "
            f"{OPSETS[0]} to {OPSETS[-1]}"
        )
    return int(versions[0])


def _node(proto: Any) -> OnnxNode:
    if proto.domain not in DOMAINS:
        raise UnsupportedModelError(
            f"{shown(proto.op_type)[1:-1]} node {shown(proto.name)} belongs to the domain "
            f"{shown(proto.domain)}, whose operators are not covered; {ADVICE}"
        )
    where = f"{shown(proto.op_type)[1:-1]} node {shown(proto.name)}"
    attributes = {a.name: _attribute(a, where) for a in proto.attribute}
    return OnnxNode(
        proto.op_type, proto.name, tuple(proto.input), tuple(proto.output), attributes, proto
    )


def _attribute(proto: Any, where: str) -> Any:
    """Int, float, str, array or tuple; None for graphs and whatever else."""
    if proto.ref_attr_name:
        raise UnsupportedModelError(f"{where} refers to a function's attribute; {ADVICE}")
    if proto.type == _TENSOR:
        return array_of(proto.t, f"the tensor in {where}")
    if proto.type in (6, 7):
        return tuple(proto.floats if proto.type == 6 else proto.ints)
    if proto.type == 8:
        return tuple(text.decode() for text in proto.strings)
    return {1: proto.f, 2: proto.i, 3: proto.s.decode()}.get(proto.type)


def array_of(tensor: Any, where: str) -> NDArray[Any]:
    """A tensor's entries: float64, int64 or bool.

    Raises:
        FileError: it lies in another file, or has not as many entries as its shape asks for.
        UnsupportedModelError: its data type is not covered.
    """
    from onnx import numpy_helper

    if tensor.data_location == _EXTERNAL or tensor.external_data:
        raise FileError(
            f"{where} lies outside the file, and no other file is opened; save the model with its "
            "weights inside"
        )
    if tensor.data_type not in _TYPES:
        raise UnsupportedModelError(
            f"{where} has data type {tensor.data_type}, which is not covered; weights are "
            f"{', '.join(name for name, _, _ in _TYPES.values())}"
        )
    _, size, field = _TYPES[tensor.data_type]
    raw = len(tensor.raw_data)
    entries = raw // size if raw else len(getattr(tensor, field))
    dims = tuple(tensor.dims)
    if tensor.HasField("segment") or any(d < 0 for d in dims) or math.prod(dims) != entries:
        raise FileError(
            f"{where} has shape {dims} and {entries} entries; copy or export the model again"
        )
    value = numpy_helper.to_array(tensor)
    if tensor.data_type in FLOATS:
        with np.errstate(invalid="ignore"):
            return value.astype(np.float64)
    return value if value.dtype == np.bool_ else value.astype(np.int64)


def _input(value: Any) -> GraphInput:
    name = shown(value.name)
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in (*FLOATS, *INTEGERS):
        raise UnsupportedModelError(f"input {name} is no tensor of floats or integers; {ADVICE}")
    if not kind.HasField("shape"):
        raise UnsupportedModelError(f"input {name} has no shape; export the model with shapes")
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    if any(size is not None and size < 1 for size in sizes):
        raise FileError(
            f"input {name} has an axis of size {min(s for s in sizes if s is not None)}"
        )
    return GraphInput(value.name, kind.elem_type in INTEGERS, tuple(sizes))


def _check_order(nodes: tuple[OnnxNode, ...], given: list[str], outputs: tuple[str, ...]) -> None:
    """Every value is made once, and before it is used."""
    known = {"", *given}
    for node in nodes:
        for name in node.inputs:
            if name not in known:
                raise FileError(
                    f"{node.where} reads {shown(name)}, which nothing before it gives (it is "
                    "missing, or the graph has a cycle); export the model again"
                )
        made = [name for name in node.outputs if name]
        if len(set(made)) < len(made) or known & set(made):
            raise FileError(f"{node.where} gives a value that another has given; export it again")
        known.update(made)
    for name in outputs:
        if not name or name not in known:
            raise FileError(f"nothing gives the output {shown(name)}; export the model again")


def _check_operator(node: OnnxNode, opset: int) -> None:
    """FileError unless inputs and attributes are the operator's; others are refused later."""
    known = _operator(node.op, opset)
    if known is None:
        return
    if not known:
        raise UnsupportedModelError(f"{node.where}: opset {opset} has no such operator")
    attributes, least, most = known
    stray = sorted(set(node.attributes) - attributes)
    count = len(node.inputs)
    if stray or not least <= count <= most:
        what = f"the attribute {shown(stray[0])}" if stray else f"{count} inputs"
        raise FileError(f"{node.where} has {what}, unlike its operator; export the model again")


@lru_cache(maxsize=1024)
def _operator(op: str, opset: int) -> tuple[frozenset[str], int, int] | tuple[()] | None:
    """An operator's attributes and numbers of inputs; None if unknown, () if not in the opset."""
    from onnx import defs

    if not defs.has(op):
        return None
    try:
        schema = defs.get_schema(op, opset, "")
    except defs.SchemaError:
        return ()
    return frozenset(schema.attributes), int(schema.min_input), int(schema.max_input)
