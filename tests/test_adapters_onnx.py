"""ONNX models: what torch exports, what the specification allows, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from family import random_network
from recert.errors import (
    FileError,
    InputError,
    MissingDependencyError,
    ParityError,
    RecertError,
    UnsupportedModelError,
)
from recert.networks.forward import network_predictor
from recert.networks.layers import Bidirectional, Dense
from recert.networks.network import Block
from recert.readers import as_network, load_network
from recert.readers.onnx.parity import _recurrent_ops

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

OPS = {
    "vanilla": ("RNN", ("",)),
    "gru": ("GRU", ("_z", "_r", "_n")),
    "gru_original": ("GRU", ("_z", "_r", "_n")),
    "lstm": ("LSTM", ("_r", "_o", "_g", "_c")),
}
NODES = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "leaky_relu": "LeakyRelu"}
NODES["elu"] = "Elu"


class Builder:
    """Nodes and constants of a model under construction."""

    def __init__(self, opset=17):
        self.nodes, self.constants, self.opset, self.count = [], {}, opset, 0

    def const(self, value, dtype=None):
        self.count += 1
        name = f"const{self.count}"
        self.constants[name] = np.asarray(value, dtype=dtype)
        return name

    def node(self, op, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"v{self.count}_{k}" for k in range(outputs)]
        self.nodes.append(
            helper.make_node(op, list(inputs), names, name=f"n{self.count}", **attributes)
        )
        return names[0] if outputs == 1 else names

    def ints(self, *values):
        return self.const(values, np.int64)

    def squeeze(self, x, axis):
        if self.opset < 13:
            return self.node("Squeeze", x, axes=[axis])
        return self.node("Squeeze", x, self.ints(axis))

    def model(self, output, shape, *, integers, extra=()):
        kind = TensorProto.INT64 if integers else TensorProto.DOUBLE
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", kind, shape), *extra],
            [helper.make_tensor_value_info(output, TensorProto.DOUBLE, None)],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])


def recurrent(b, x, layer, *, layout=0, **options):
    """A layer as a node: its outputs Y, Y_h."""
    directions = layer.directions
    op, gates = OPS[directions[0].cell]

    def stack(letter):
        return np.stack(
            [np.concatenate([d.blocks[f"{letter}{g}"].value for g in gates]) for d in directions]
        )

    inputs = [x, b.const(stack("W")), b.const(stack("U"))]
    if any(r.startswith("b") for r in directions[0].blocks):
        rows = []
        for d in directions:
            zeros = np.zeros(d.d_h)
            own = [d.blocks[f"b{g}"].value for g in gates]
            inner = [
                d.blocks["b_hn"].value if g == "_n" and d.cell == "gru" else zeros for g in gates
            ]
            rows.append(np.concatenate([*own, *inner]))
        inputs.append(b.const(np.stack(rows)))
    if directions[0].cell == "gru":
        options["linear_before_reset"] = 1
    if directions[0].activation == "relu":
        options["activations"] = ["Relu"] * len(directions)
    if layout:
        options["layout"] = 1
    if len(directions) > 1:
        options["direction"] = "bidirectional"
    return b.node(op, *inputs, outputs=2, hidden_size=directions[0].d_h, **options)


def dense(b, x, A, bias, *, gemm=False):
    if gemm:
        return b.node("Gemm", x, b.const(A), b.const(bias), transB=1)
    return b.node("Add", b.node("MatMul", x, b.const(A.T)), b.const(bias))


def exported(network, *, layout=0, opset=17, gemm=True, shape=None, tail=()):
    """A network of the family as a model, with time first unless the layout is 1."""
    b = Builder(opset)
    x = "x"
    tokens = network.input_kind == "onehot"
    if network.embedding is not None:
        x = b.node("Gather", b.const(network.embedding.value.T), x)
    elif tokens:
        x = b.node("OneHot", x, b.const(network.d_x, np.int64), b.const([0.0, 1.0]))
    for step in network.encoder:
        x = b.node(NODES[step.activation], dense(b, x, step.A.value, step.b.value))
    for layer in network.layers:
        y, last = recurrent(b, x, layer, layout=layout)
        if network.read == "final" and layer is network.layers[-1]:
            continue
        if isinstance(layer, Bidirectional):
            y = y if layout else b.node("Transpose", y, perm=[0, 2, 1, 3])
            x = b.node("Reshape", y, b.ints(0, 0, -1))
        else:
            x = b.squeeze(y, 2 if layout else 1)
    time = 1 if layout else 0
    if network.read == "mean":
        x = b.node("ReduceMean", x, axes=[time], keepdims=0)
    elif network.read == "final":
        if network.two_way:
            h = last if layout else b.node("Transpose", last, perm=[1, 0, 2])
            x = b.node("Reshape", h, b.ints(0, -1))
        else:
            x = b.squeeze(last, 1 if layout else 0)
    rows = network.read != "step"
    for step in network.head.hidden:
        x = b.node(NODES[step.activation], dense(b, x, step.A.value, step.b.value))
    head = network.head
    x = dense(b, x, head.V.value, head.b.value, gemm=gemm and rows)
    for op, attributes in tail:
        x = b.node(op, x, **attributes)
    shape = shape or (["b", "t"] if layout else ["t", "b"])
    return b.model(x, shape if tokens else [*shape, network.d_x], integers=tokens)


def save(model, path):
    path.write_bytes(model.SerializeToString())
    return path


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_models_of_the_family_come_back_with_their_digest(tmp_path, data):
    def choose(*values):
        return data.draw(st.sampled_from(values))

    cell = choose(*OPS)
    read = choose("step", "final", "mean")
    inputs = choose({}, {"tokens": True}, {"tokens": True, "embedding": 5})
    network = random_network(
        np.random.default_rng(data.draw(st.integers(0, 99))),
        cell,
        layers=choose(1, 2),
        two_way=(two_way := choose(False, True)),
        bias=choose(True, False),
        encoder=choose(0, 3),
        hidden=choose(0, 5),
        read=read,
        activation=choose("tanh", "relu") if cell == "vanilla" else "tanh",
        head_activation=choose(*NODES),
        **inputs,
    )
    shape = choose(None, [6, 2], [1, 1], [3, "b"], ["t", 1])
    layout = choose(0, 1)
    opset = choose(14, 15, 17) if layout else choose(9, 12, 13, 17)
    path = save(exported(network, layout=layout, opset=opset, shape=shape), tmp_path / "m.onnx")
    back = load_network(path)
    if read == "final" and not two_way:
        # The final state of one direction is its last step.
        assert back.read == "step"
        back = dataclasses.replace(back, read="final")
    assert back.digest == network.digest


def build_torch(cell, *, tokens, layers, two_way, read, batch_first, relu=False, classes=3):
    torch = pytest.importorskip("torch")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            options = {"nonlinearity": "relu"} if relu else {}
            self.embed = torch.nn.Embedding(7, 5) if tokens else None
            self.rnn = getattr(torch.nn, cell)(
                5, 4, layers, bidirectional=two_way, batch_first=batch_first, **options
            )
            self.head = torch.nn.Linear(4 * (1 + two_way), classes)

        def forward(self, x):
            y, h = self.rnn(self.embed(x) if tokens else x)
            h = h[0] if isinstance(h, tuple) else h
            time = 1 if batch_first else 0
            if read == "final":
                z = torch.cat((h[-2], h[-1]), 1) if two_way else h[-1]
            elif read == "swapped":
                z = torch.cat((h[-1], h[-2]), 1)
            elif read == "ends":
                z = torch.cat((y[:, -1, :4], y[:, 0, 4:]), 1)
            elif read == "mean":
                z = y.mean(time)
            elif read == "flat":
                z = y.contiguous().view(-1, y.shape[-1])
            else:
                z = y if read == "all" else y.select(time, -1)
            z = self.head(z)
            return torch.sigmoid(z) if classes == 1 else z

    return Model().eval()


def torch_export(model, path, *, tokens, dynamic, opset=17, fold=True):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.onnx")
    x = torch.randint(0, 7, (2, 5)) if tokens else torch.randn(2, 5, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (x,),
            str(path),
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "a", 1: "b"}} if dynamic else None,
            opset_version=opset,
            do_constant_folding=fold,
        )
    return x


CASES = [
    # cell, tokens, layers, two_way, read, batch_first, dynamic, opset, fold
    ("LSTM", True, 1, False, "step", True, True, 17, True),
    ("LSTM", True, 2, True, "final", True, False, 17, True),
    ("LSTM", False, 2, True, "step", False, True, 11, True),
    ("LSTM", False, 1, True, "ends", True, True, 17, False),
    ("LSTM", True, 1, False, "flat", True, True, 20, False),
    ("GRU", True, 2, False, "final", False, False, 17, True),
    ("GRU", False, 2, True, "final", True, True, 17, True),
    ("GRU", True, 1, True, "all", True, True, 9, True),
    ("GRU", False, 1, False, "mean", False, True, 18, True),
    ("RNN", True, 1, False, "mean", True, True, 17, True),
    ("RNN", False, 2, True, "all", False, False, 13, True),
    ("RNN", True, 2, False, "flat", False, False, 17, True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
def test_what_torch_exports_is_what_torch_computes(tmp_path, case):
    cell, tokens, layers, two_way, read, batch_first, dynamic, opset, fold = case
    pytest.importorskip("torch")
    from safetensors.torch import save_file

    model = build_torch(
        cell,
        tokens=tokens,
        layers=layers,
        two_way=two_way,
        read=read,
        batch_first=batch_first,
        relu=cell == "RNN" and layers == 2,
    )
    path = tmp_path / "m.onnx"
    x = torch_export(model, path, tokens=tokens, dynamic=dynamic, opset=opset, fold=fold)
    network = load_network(path)
    every = read in ("flat", "all")
    rows = (x if batch_first else x.transpose(0, 1)).numpy()
    got = network_predictor(network)(
        rows, np.full(len(rows), rows.shape[1]), "average" if every else "last"
    )
    want = model.double()(x if tokens else x.double()).detach().numpy()
    if every:
        want = want.reshape(*x.shape[:2], 3)
        want = want if batch_first else want.swapaxes(0, 1)
    np.testing.assert_allclose(got, want, atol=1e-10)
    assert network.read == {"mean": "mean"}.get(
        read, "final" if two_way and read in ("final", "ends") else "step"
    )
    # The same weights in safetensors, with the description that recert suggests.
    save_file(model.float().state_dict(), tmp_path / "m.safetensors")
    with pytest.raises(FileError, match="such as") as caught:
        load_network(tmp_path / "m.safetensors")
    text = str(caught.value)
    entry = json.loads(text[text.index("{") : text.rindex("}") + 1])
    entry["input"] = "onehot" if tokens else "real"
    entry["read"] = network.read
    if cell == "RNN" and layers == 2:
        entry["layers"] = [layer | {"activation": "relu"} for layer in entry["layers"]]
    (tmp_path / "m.json").write_text(json.dumps(entry))
    assert load_network(tmp_path / "m.safetensors").digest == network.digest


def test_directions_joined_the_other_way_round(tmp_path):
    model = build_torch(
        "GRU", tokens=False, layers=1, two_way=True, read="swapped", batch_first=True
    )
    x = torch_export(model, tmp_path / "m.onnx", tokens=False, dynamic=True)
    network = load_network(tmp_path / "m.onnx")
    V = model.head.weight.detach().double().numpy()
    np.testing.assert_array_equal(network.head.V.value, np.roll(V, 4, axis=1))
    y = network_predictor(network)(x.double().numpy(), np.full(2, 5), "last")
    np.testing.assert_allclose(y, model.double()(x.double()).detach().numpy(), atol=1e-10)


def test_an_activation_between_layers_is_refused(tmp_path):
    model = plain("gru", layers=2)
    insert_after(model, "Squeeze", "Relu")
    with pytest.raises(UnsupportedModelError, match="between recurrent layers"):
        load_network(save(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize("hidden", [0, 5])
def test_an_activation_of_the_states(tmp_path, hidden):
    network = random_network(np.random.default_rng(0), "gru", two_way=True, hidden=hidden)
    model = exported(network)
    insert_after(model, "Reshape", "Relu")
    back = load_network(save(model, tmp_path / "m.onnx"))
    identity = Dense(Block("I", np.eye(network.d_h), "spectral"), None, "relu")
    head = dataclasses.replace(network.head, hidden=(identity, *network.head.hidden))
    assert back.digest == dataclasses.replace(network, head=head).digest


def test_one_logit_becomes_two(tmp_path):
    model = build_torch(
        "GRU", tokens=True, layers=1, two_way=False, read="step", batch_first=True, classes=1
    )
    x = torch_export(model, tmp_path / "m.onnx", tokens=True, dynamic=True)
    network = load_network(tmp_path / "m.onnx")
    y = network_predictor(network)(x.numpy(), np.full(2, 5), "last")
    p = model.double()(x).detach().numpy()[:, 0]
    np.testing.assert_allclose(y[:, 1] - y[:, 0], np.log(p / (1 - p)), atol=1e-9)
    assert network.K == 2


@pytest.mark.parametrize(
    "tail",
    [
        [("Softmax", {"axis": 1})],
        [("LogSoftmax", {"axis": -1})],
        [("Sigmoid", {})],
        [("Identity", {}), ("Dropout", {}), ("Cast", {"to": TensorProto.FLOAT})],
        [("Flatten", {"axis": 1})],
        [("Transpose", {"perm": [1, 0]})],
    ],
)
@pytest.mark.parametrize("opset", [7, 13])
def test_what_comes_after_the_logits(tmp_path, tail, opset):
    network = random_network(np.random.default_rng(0), "lstm", read="mean")
    path = save(exported(network, tail=tail, opset=opset), tmp_path / "m.onnx")
    assert load_network(path).digest == network.digest


def test_states_that_are_returned_too_are_no_logits(tmp_path):
    network = random_network(np.random.default_rng(0), "gru")
    model = exported(network)
    states = next(n for n in model.graph.node if n.op_type == "GRU").output[1]
    model.graph.output.append(helper.make_tensor_value_info(states, TensorProto.DOUBLE, None))
    assert load_network(save(model, tmp_path / "m.onnx")).digest == network.digest
    # The first output is the answer, unless another is called logits or named.
    logits = model.graph.output.pop(0)
    model.graph.output.append(logits)
    path = save(model, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedModelError, match=r"not read .* by a linear head .*output="):
        load_network(path)
    for output in (1, logits.name):
        assert as_network(path, output=output).digest == network.digest
    with pytest.raises(UnsupportedModelError, match="no output 'other'"):
        as_network(path, output="other")
    for node in model.graph.node:
        node.output[:] = ["logits" if name == logits.name else name for name in node.output]
    model.graph.output[1].name = "logits"
    assert load_network(save(model, path)).digest == network.digest


@pytest.mark.parametrize("two_way", [False, True])
@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("reset", [0, 1])
def test_the_written_operators_agree_with_onnxs_own(op, gates, two_way, reset):
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(1)
    D, H = 1 + two_way, 3
    options = {"linear_before_reset": reset} if op == "GRU" else {}
    direction = "bidirectional" if two_way else "forward"
    names = ["Y", "Y_h"] + ["Y_c"] * (op == "LSTM")
    node = helper.make_node(
        op, ["X", "W", "R", "B"], names, hidden_size=H, direction=direction, **options
    )
    shapes = {
        "X": (5, 2, 4),
        "W": (D, gates * H, 4),
        "R": (D, gates * H, H),
        "B": (D, 2 * gates * H),
    }
    infos = [helper.make_tensor_value_info(k, TensorProto.DOUBLE, s) for k, s in shapes.items()]
    outs = [helper.make_tensor_value_info(k, TensorProto.DOUBLE, None) for k in names]
    model = helper.make_model(
        helper.make_graph([node], "g", infos, outs), opset_imports=[helper.make_opsetid("", 17)]
    )
    feed = {k: rng.standard_normal(s) for k, s in shapes.items()}
    own = ReferenceEvaluator(model).run(None, feed)
    written = ReferenceEvaluator(model, new_ops=_recurrent_ops()).run(None, feed)
    for a, b in zip(own, written, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_reader_that_is_wrong_is_noticed(tmp_path, monkeypatch):
    from recert.readers.onnx import operators

    network = random_network(np.random.default_rng(0), "lstm")
    path = save(exported(network), tmp_path / "m.onnx")
    monkeypatch.setitem(operators._CELLS, "LSTM", ("lstm", (0, 1, 2, 3)))
    with pytest.raises(ParityError, match=r"m\.onnx: .*logits differ by") as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


# Refusals. Each changes a plain model; the words must stand in the error.


def plain(cell="lstm", **options):
    return exported(random_network(np.random.default_rng(0), cell, **options))


def first(model, op):
    return next(n for n in model.graph.node if n.op_type == op)


def initializer(model, shape):
    return next(t for t in model.graph.initializer if tuple(t.dims) == shape)


def set_attribute(model, op, **attributes):
    node = first(model, op)
    for name, value in attributes.items():
        for old in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(old)
        node.attribute.append(helper.make_attribute(name, value))


def replace_tensor(model, shape, value):
    tensor = initializer(model, shape)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def external(model):
    tensor = initializer(model, (1, 16, 4))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"


def add_input(model, place, name, shape, kind=TensorProto.DOUBLE):
    node = first(model, "LSTM")
    while len(node.input) <= place:
        node.input.append("")
    node.input[place] = name
    model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))


def add_constant(model, place, value, op="LSTM"):
    node = first(model, op)
    while len(node.input) <= place:
        node.input.append("")
    node.input[place] = "added"
    model.graph.initializer.append(numpy_helper.from_array(value, "added"))


def insert_after(model, op, new, **attributes):
    """Another node between a node and who reads it."""
    node = first(model, op)
    name = node.output[0]
    node.output[0] = "before"
    made = helper.make_node(new, ["before"], [name], name="inserted", **attributes)
    model.graph.node.insert(list(model.graph.node).index(node) + 1, made)


def huge_fill(model):
    node = first(model, "LSTM")
    while len(node.input) <= 5:
        node.input.append("")
    node.input[5] = "fill"
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([1 << 20, 1 << 20, 4], np.int64), "big")
    )
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["big"], ["fill"], name="fill"))


def doubling(model):
    name = initializer(model, (1, 16, 4)).name
    for k in range(60):
        made = helper.make_node("Concat", [name, name], [f"d{k}"], name=f"d{k}", axis=0)
        model.graph.node.insert(k, made)
        name = f"d{k}"
    first(model, "LSTM").input[1] = name


def huge_claim(model):
    tensor = initializer(model, (1, 16, 4))
    tensor.dims[0] = 1 << 40


def cyclic(model):
    first(model, "LSTM").input[0] = model.graph.output[0].name


def custom_domain(model):
    first(model, "LSTM").domain = "com.example"


def opset(version):
    def change(model):
        model.opset_import[0].version = version

    return change


def no_opset(model):
    del model.opset_import[:]


def residual(model):
    node = first(model, "Add")
    other = first(model, "MatMul").output[0]
    node.input[1] = other


def replaced(op, new, **attributes):
    def change(model):
        node = first(model, op)
        node.op_type = new
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())

    return change


def shape_of_input(*shape):
    def change(model):
        kind = model.graph.input[0].type.tensor_type.elem_type
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", kind, shape))

    return change


def nan(model):
    replace_tensor(model, (1, 16, 4), np.full((1, 16, 4), np.nan))


def unused(model):
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3), "extra"))


REFUSED = [
    (external, FileError, "outside the file"),
    (huge_claim, FileError, "entries"),
    (huge_fill, UnsupportedModelError, "too large"),
    (doubling, UnsupportedModelError, "larger than the model"),
    (cyclic, FileError, "cycle"),
    (custom_domain, UnsupportedModelError, r"LSTM node .* domain 'com\.example'"),
    (opset(6), UnsupportedModelError, "version 6"),
    (opset(24), UnsupportedModelError, "version 24"),
    (opset(-1), UnsupportedModelError, "version -1"),
    (no_opset, FileError, "no one version"),
    (residual, UnsupportedModelError, "residual"),
    (nan, InputError, "NaN"),
    (unused, UnsupportedModelError, "'extra' has no part"),
    (lambda m: replace_tensor(m, (1, 16, 4), np.ones((1, 15, 4))), InputError, "do not fit"),
    (lambda m: replace_tensor(m, (1, 32), np.ones((1, 16))), InputError, "do not fit"),
    (lambda m: replace_tensor(m, (4, 3), np.ones((5, 3))), UnsupportedModelError, "reads 5"),
    (lambda m: replace_tensor(m, (3,), np.ones(2)), UnsupportedModelError, "bias has shape"),
    (lambda m: replace_tensor(m, (3,), np.ones(3, np.int8)), UnsupportedModelError, "data type"),
    (lambda m: set_attribute(m, "LSTM", hidden_size=5), InputError, "do not fit"),
    (lambda m: set_attribute(m, "LSTM", hidden_size="4"), FileError, "hidden_size"),
    (lambda m: set_attribute(m, "LSTM", clip=3.0), UnsupportedModelError, "clip"),
    (lambda m: set_attribute(m, "LSTM", input_forget=1), UnsupportedModelError, "input_forget"),
    (lambda m: set_attribute(m, "LSTM", direction="reverse"), UnsupportedModelError, "'reverse'"),
    (lambda m: set_attribute(m, "LSTM", layout=2), FileError, "layout"),
    (
        lambda m: set_attribute(m, "LSTM", activations=["HardSigmoid", "Tanh", "Tanh"]),
        UnsupportedModelError,
        "hardsigmoid",
    ),
    (lambda m: add_input(m, 5, "h0", [1, "b", 4]), UnsupportedModelError, "further input 'h0'"),
    (
        lambda m: add_input(m, 4, "n", ["b"], TensorProto.INT32),
        UnsupportedModelError,
        "no lengths",
    ),
    (lambda m: add_constant(m, 5, np.ones((1, 1, 4))), UnsupportedModelError, "not zero"),
    (lambda m: add_constant(m, 5, np.zeros((1, 1, 3))), UnsupportedModelError, "another shape"),
    (lambda m: add_constant(m, 4, np.full(2, 3)), UnsupportedModelError, "sequence_lens"),
    (lambda m: add_constant(m, 7, np.zeros((1, 12))), UnsupportedModelError, "peepholes"),
    (lambda m: insert_after(m, "LSTM", "Softmax"), UnsupportedModelError, "Softmax .* acts on"),
    (lambda m: insert_after(m, "Add", "Relu"), UnsupportedModelError, "changes margins"),
    (lambda m: insert_after(m, "Squeeze", "Erf"), UnsupportedModelError, "Erf node 'inserted'"),
    (lambda m: insert_after(m, "Add", "Softmax", axis=0), UnsupportedModelError, "another axis"),
    (
        lambda m: insert_after(m, "Squeeze", "Transpose", perm=[2, 1, 0]),
        UnsupportedModelError,
        "does not read the features",
    ),
    (
        lambda m: insert_after(m, "Squeeze", "Cast", to=TensorProto.INT64),
        UnsupportedModelError,
        "integers",
    ),
    (replaced("Squeeze", "Elu"), FileError, "Elu node .* has 2 inputs"),
    (lambda m: set_attribute(m, "LSTM", kind=1), FileError, "attribute 'kind'"),
    (lambda m: insert_after(m, "Add", "Elu", alpha=2.0), UnsupportedModelError, "alpha"),
    (replaced("LSTM", "Scan"), UnsupportedModelError, "Scan node"),
    (shape_of_input("t"), UnsupportedModelError, "axes"),
    (shape_of_input("t", "b", "d"), UnsupportedModelError, "fixed last axis"),
    (shape_of_input("t", "b", 5), InputError, "do not fit"),
    (shape_of_input(0, "b", 4), FileError, "size 0"),
    (shape_of_input(1 << 40, 1 << 40, 4), UnsupportedModelError, "at once"),
]


@pytest.mark.parametrize(("change", "kind", "words"), REFUSED)
def test_models_that_are_refused(tmp_path, change, kind, words):
    model = plain()
    change(model)
    path = save(model, tmp_path / "m.onnx")
    with pytest.raises(kind, match=words) as caught:
        load_network(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_fixed_lengths_and_zero_states_are_accepted(tmp_path):
    network = random_network(np.random.default_rng(0), "lstm")
    model = exported(network, shape=[6, 2])
    add_constant(model, 4, np.full(2, 6))
    first(model, "LSTM").input.extend(["zeros", "zeros"])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 2, 4)), "zeros"))
    assert load_network(save(model, tmp_path / "m.onnx")).digest == network.digest


@pytest.fixture
def good(tmp_path):
    return save(plain(), tmp_path / "m.onnx")


def test_truncated_anywhere(good):
    raw = good.read_bytes()
    for size in range(0, len(raw) - 1, max(1, len(raw) // 80)):
        good.write_bytes(raw[:size])
        with pytest.raises(RecertError) as caught:
            load_network(good)
        assert str(good) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"\x80\x04pickle", b"PK\x03\x04", b"\xff" * 1000, b"{}"])
def test_files_that_are_no_protobuf(good, raw):
    good.write_bytes(raw)
    with pytest.raises(FileError, match="no complete ONNX model"):
        load_network(good)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4))
def test_damaged_bytes_raise_typed_errors_only(tmp_path, damage):
    # Mostly structure, few weights, so that damage hits what is parsed.
    path = tmp_path / "m.onnx"
    raw = bytearray(plain("gru", d_x=1, d_h=1, two_way=True, read="final").SerializeToString())
    for place, value in damage:
        raw[int(place * len(raw))] = value
    path.write_bytes(bytes(raw))
    try:
        load_network(path)
    except RecertError as error:
        assert "\n" not in str(error)


def test_missing_and_oversized_files(tmp_path, good, monkeypatch):
    with pytest.raises(FileError, match="does not exist"):
        load_network(tmp_path / "no.onnx")
    monkeypatch.setattr("recert.readers.load.MOST_ONNX_BYTES", 10)
    with pytest.raises(FileError, match="larger than 10 bytes"):
        load_network(good)


def test_without_onnx_the_extra_is_named(good, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"recert\[onnx\]"):
        load_network(good)


def test_reading_needs_no_torch_and_importing_no_onnx(good):
    code = (
        "import sys, recert; recert.load_network, recert.certify\n"
        "import recert.readers.onnx.read\n"
        "assert 'onnx' not in sys.modules\n"
        f"recert.load_network({str(good)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def many(kind, n):
    """A classifier with n more nodes, outputs, or layers, of one kind."""
    b = Builder()
    W, R, V = (b.const(np.full(shape, 0.1), np.float32) for shape in ((1, 4, 3), (1, 4, 4), (4, 2)))
    _, states = b.node("RNN", "x", W, R, outputs=2, hidden_size=4)
    y = b.node("MatMul", b.node("Squeeze", states, b.const([0])), V)
    outputs, square = [y], b.const(np.eye(2), np.float32)
    if kind == "outputs":
        outputs = [b.node("Identity", y) for _ in range(n)]
    for _ in range(n):
        if kind == "copies":
            outputs = [b.node("Identity", outputs[0])]
        elif kind == "layers":
            outputs = [b.node("MatMul", outputs[0], square)]
    made = helper.make_graph(
        b.nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "N", 3])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [
            numpy_helper.from_array(value, name)
            for name, value in b.constants.items()
            if kind == "layers" or value is not b.constants[square]
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


class Visits:
    """Nodes in order; counts how many are looked at."""

    def __init__(self, nodes):
        self.nodes, self.seen = nodes, 0

    def __iter__(self):
        for node in self.nodes:
            self.seen += 1
            yield node

    def __reversed__(self):
        for node in self.nodes[::-1]:
            self.seen += 1
            yield node


@pytest.mark.parametrize("kind", ["outputs", "copies"])
def test_nodes_are_looked_at_a_few_times_however_many_outputs_there_are(kind, monkeypatch):
    from recert.readers.onnx import model as onnx_file
    from recert.readers.onnx import read as onnx_reader

    parse, graphs = onnx_file.parse, []

    def watched(raw):
        graph = parse(raw)
        graphs.append(dataclasses.replace(graph, nodes=Visits(graph.nodes)))
        return graphs[-1]

    monkeypatch.setattr(onnx_file, "parse", watched)
    found = onnx_reader.read(many(kind, 3000), "here")
    assert (found.output is None) == (kind == "copies")  # of several outputs the first counts
    assert graphs[0].nodes.seen <= 4 * 3004


def test_layers_have_a_limit_since_every_value_holds_all_behind_it(tmp_path):
    (tmp_path / "deep.onnx").write_bytes(many("layers", 900))
    assert len(load_network(tmp_path / "deep.onnx").head.hidden) == 900
    (tmp_path / "deeper.onnx").write_bytes(many("layers", 1200))
    with pytest.raises(UnsupportedModelError, match="more than 1,000 layers"):
        load_network(tmp_path / "deeper.onnx")
