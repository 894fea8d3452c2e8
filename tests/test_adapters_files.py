"""Networks on disk: round trips, and files that are damaged, hostile or undescribed."""

import copy
import dataclasses
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recert
from family import CELLS, random_network
from recert.errors import FileError, InputError, RecertError, UnsupportedModelError
from recert.networks.activations import ACTIVATIONS
from recert.networks.forward import network_predictor
from recert.networks.layers import Bidirectional, Dense, Layer, group_average
from recert.networks.network import Block, Head, vanilla
from recert.readers import as_network, from_torch, load_description, load_network, save_network

DESCRIPTION = {
    "format": "recert-network",
    "version": 1,
    "cell": "vanilla",
    "activation": "tanh",
    "input": "onehot",
    "layers": [
        {
            "U": "rnn.weight_hh_l0",
            "W": "rnn.weight_ih_l0",
            "b": ["rnn.bias_ih_l0", "rnn.bias_hh_l0"],
        }
    ],
    "head": {"V": "head.weight", "b_V": "head.bias"},
}


def small(seed=0, **options):
    rng = np.random.default_rng(seed)
    U, W, V = rng.normal(size=(4, 4)), rng.normal(size=(4, 5)), rng.normal(size=(3, 4))
    return vanilla(U, W, V, b=rng.normal(size=4), **options)


def renamed(network):
    """The same network with other block names, each its own."""

    def block(old):
        return None if old is None else dataclasses.replace(old, name=f"my {old.name}")

    def layer(old):
        if isinstance(old, Bidirectional):
            return Bidirectional(layer(old.forward), layer(old.backward))
        return Layer(old.cell, {r: block(b) for r, b in old.blocks.items()}, old.activation)

    def dense(old):
        return Dense(block(old.A), block(old.b), old.activation)

    head = network.head
    return dataclasses.replace(
        network,
        layers=tuple(map(layer, network.layers)),
        embedding=block(network.embedding),
        encoder=tuple(map(dense, network.encoder)),
        head=Head(block(head.V), block(head.b), tuple(map(dense, head.hidden)), head.pool),
    )


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_saved_network_comes_back(tmp_path_factory, data):
    def choose(*values):
        return data.draw(st.sampled_from(values))

    cell = choose(*CELLS)
    conv = cell.startswith("conv")
    network = random_network(
        np.random.default_rng(data.draw(st.integers(0, 99))),
        cell,
        layers=choose(1, 2, 3),
        two_way=False if cell == "conv_averaged" else choose(False, True),
        bias=choose(False, True),
        proj=choose(0, 2) if cell == "lstm" else 0,
        encoder=choose(0, 4),
        hidden=choose(0, 3),
        read=choose("step", "final", "mean"),
        activation=choose("tanh", "relu") if cell == "vanilla" or conv else "tanh",
        head_activation=choose(*ACTIVATIONS),
        **({} if conv else choose({}, {"tokens": True}, {"tokens": True, "embedding": 4})),
    )
    if network.embedding is not None and choose(False, True):
        table = np.array(network.embedding.value)
        table[:, 2] = 0.0
        network = dataclasses.replace(network, embedding=Block("E", table, "column", (2,)))
    if choose(False, True):
        V = Block("pool", np.random.default_rng(0).normal(size=(7, network.head.d_in)), "spectral")
        if not network.head.hidden:
            head = dataclasses.replace(network.head, V=V, pool=group_average(7, 3))
            network = dataclasses.replace(network, head=head)
    network = renamed(network) if choose(False, True) else network
    path = tmp_path_factory.mktemp("saved") / "net"
    save_network(network, path, meta={"caps": {"U": 1.5}})
    back = load_network(path)
    assert back.digest == network.digest and back.description() == network.description()
    assert [b.zero_columns for b in back.blocks()] == [b.zero_columns for b in network.blocks()]
    assert load_description(path)["meta"] == {"caps": {"U": 1.5}}
    assert sorted(p.name for p in path.iterdir()) == ["network.json", "network.safetensors"]


def test_a_head_of_filter_banks_comes_back(tmp_path):
    network = random_network(np.random.default_rng(0), "conv")
    bank = np.random.default_rng(1).normal(size=(3, 2, 3))
    head = Head(Block("V", bank, "operator", positions=2), pool=group_average(6, 3))
    network = dataclasses.replace(network, head=head)
    save_network(network, tmp_path / "net")
    assert load_network(tmp_path / "net").digest == network.digest


def test_paths_that_mean_a_network(tmp_path):
    network = small(b_V=np.ones(3))
    assert save_network(network, tmp_path / "a.safetensors") == tmp_path / "a.safetensors"
    for path in (tmp_path / "a.safetensors", tmp_path / "a", str(tmp_path / "a.json")):
        assert as_network(path).digest == network.digest
    save_network(small(1), tmp_path / "a.safetensors")
    assert load_network(tmp_path / "a").digest == small(1).digest


@pytest.fixture
def trained(tmp_path):
    torch = pytest.importorskip("torch")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.RNN(5, 4, batch_first=True)
            self.head = torch.nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.rnn(torch.nn.functional.one_hot(x, 5).float())[0])

    return Model()


@pytest.mark.parametrize("half", [False, True])
def test_torch_state_dict_and_safetensors_are_one_network(tmp_path, trained, half):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    model = trained.bfloat16() if half else trained
    network = from_torch(model, np.array([[0, 1, 2, 3, 4]]))
    torch.save(model.state_dict(), tmp_path / "a.pt")
    save_file(model.state_dict(), tmp_path / "b.safetensors")
    for stem in "ab":
        (tmp_path / f"{stem}.json").write_text(json.dumps(DESCRIPTION))
    save_network(network, tmp_path / "c")
    names = ("a.pt", "b.safetensors", "c")
    assert {load_network(tmp_path / n).digest for n in names} == {network.digest}


@pytest.mark.parametrize("legacy", [False, True])
def test_the_remedy_for_a_missing_description_works(tmp_path, legacy):
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict(
        {
            "embed": torch.nn.Embedding(7, 5),
            "rnn": torch.nn.RNN(5, 4, num_layers=2),
            "head": torch.nn.Linear(4, 3),
        }
    )
    path = tmp_path / "model.pth"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(FileError, match=r"write .*model\.json such as") as caught:
        load_network(path)
    text = str(caught.value)
    assert "\n" not in text
    (tmp_path / "model.json").write_text(text[text.index("{") : text.rindex("}") + 1])
    parts = tuple(model[name] for name in ("embed", "rnn", "head"))
    assert load_network(path).digest == from_torch(parts).digest


def suggested(error, path):
    """Write the description that an error suggests."""
    text = str(error.value)
    assert "\n" not in text
    entry = json.loads(text[text.index("{") : text.rindex("}") + 1])
    path.with_suffix(".json").write_text(json.dumps(entry))
    return entry


def logits_of(torch, network, rnn, parts, x):
    """What torch computes: an embedding perhaps, the recurrent layers, then dense layers."""
    with torch.no_grad():
        z = parts["embed"](x) if "embed" in parts else x
        z = torch.relu(parts["first"](z)) if "first" in parts else z
        z = rnn(z)[0]
        z = torch.relu(parts["middle"](z)) if "middle" in parts else z
        return parts["head"](z).numpy()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("kind", "options", "extra"),
    [
        ("RNN", {"bidirectional": True}, ()),
        ("GRU", {"num_layers": 2}, ("embed",)),
        ("GRU", {"bias": False, "bidirectional": True, "num_layers": 2}, ("middle",)),
        ("LSTM", {}, ("embed", "middle")),
        ("LSTM", {"bidirectional": True, "num_layers": 2}, ("first", "middle")),
        ("LSTM", {"proj_size": 2}, ("embed",)),
        ("LSTM", {"proj_size": 2, "bidirectional": True, "num_layers": 2}, ("first",)),
    ],
)
def test_suggested_descriptions_load_and_compute_what_torch_does(
    tmp_path, suffix, kind, options, extra
):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    width = options.get("proj_size", 4) * (2 if options.get("bidirectional") else 1)
    modules = {"embed": torch.nn.Embedding(7, 5)} if "embed" in extra else {}
    modules |= {"first": torch.nn.Linear(6, 5)} if "first" in extra else {}
    modules["rnn"] = getattr(torch.nn, kind)(5, 4, batch_first=True, **options)
    modules |= {"middle": torch.nn.Linear(width, 9)} if "middle" in extra else {}
    modules["head"] = torch.nn.Linear(9 if "middle" in extra else width, 3)
    model = torch.nn.ModuleDict(modules).double()
    path = tmp_path / f"m{suffix}"
    torch.save(model.state_dict(), path) if suffix == ".pt" else save_file(model.state_dict(), path)
    with pytest.raises(FileError, match="such as") as caught:
        load_network(path)
    entry = suggested(caught, path)
    network = load_network(path)
    if not extra or extra == ("middle",):
        path.with_suffix(".json").write_text(json.dumps(entry | {"input": "real"}))
        network = load_network(path)
    tokens = network.input_kind == "onehot"
    x = torch.randint(0, 7, (2, 4)) if tokens else torch.randn(2, 4, network.d_x).double()
    want = logits_of(torch, network, model["rnn"], modules, x)
    got = network_predictor(network)(x.numpy(), np.full(2, 4), "average")
    np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_tensors_of_torch_cells(tmp_path, kind):
    torch = pytest.importorskip("torch")
    cell, head = getattr(torch.nn, f"{kind}Cell")(3, 4), torch.nn.Linear(4, 1)
    model = torch.nn.ModuleDict({"cell": cell, "out": head}).double()
    torch.save(model.state_dict(), tmp_path / "m.pt")
    with pytest.raises(FileError, match="such as") as caught:
        load_network(tmp_path / "m.pt")
    entry = suggested(caught, tmp_path / "m.pt")
    assert entry["head"]["single_logit"] is True
    (tmp_path / "m.json").write_text(json.dumps(entry | {"input": "real"}))
    network = load_network(tmp_path / "m.pt")
    x = torch.randn(2, 5, 3).double()
    with torch.no_grad():
        state = None
        for t in range(5):
            state = cell(x[:, t], state)
        want = head(state[0] if kind == "LSTM" else state).numpy()[:, 0]
    y = network_predictor(network)(x.numpy(), np.full(2, 5), "last")
    np.testing.assert_allclose(y[:, 1] - y[:, 0], want, atol=1e-12)
    np.testing.assert_array_equal(y[:, 1], -y[:, 0])


def test_tensors_that_no_cell_of_torch_has(tmp_path):
    from safetensors.numpy import save_file

    tensors = {"r.weight_hh_l0": np.ones((10, 5)), "r.weight_ih_l0": np.ones((10, 5))}
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(UnsupportedModelError, match=r"'r\.weight_hh_l0' has shape \(10, 5\)"):
        load_network(tmp_path / "m.safetensors")


@pytest.fixture
def fused(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict(
        {"rnn": torch.nn.LSTM(3, 4, bidirectional=True), "head": torch.nn.Linear(8, 2)}
    )
    torch.save(model.state_dict(), tmp_path / "m.pt")
    return tmp_path / "m.pt"


FUSED = {"cell": "lstm", "torch": "rnn", "index": 0, "bidirectional": True}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (FUSED | {"bidirectional": False}, "has no part|shapes do not fit"),
        (FUSED | {"index": 1}, r"'rnn\.weight_ih_l1' of layers\[0\] is not in the file"),
        (FUSED | {"index": True}, "wrong type"),
        (FUSED | {"index": None}, "one direction"),
        (FUSED | {"torch": "lstm"}, "not in the file"),
        (FUSED | {"cell": "gru"}, "rows for each"),
        (FUSED | {"cell": "mgu"}, "torch has no mgu cell"),
        (FUSED | {"cell": "transformer"}, "'transformer' is not covered"),
        (FUSED | {"U": "rnn.weight_hh_l0"}, "unknown key 'U'"),
        ({"forward": FUSED}, "name both or none"),
        ({"forward": 3, "backward": FUSED}, "wrong type"),
    ],
)
def test_fused_layers_that_do_not_fit(fused, layer, words):
    entry = {"format": "recert-network", "version": 2, "input": "real", "layers": [layer]}
    entry["head"] = {"V": "head.weight", "b_V": "head.bias"}
    fused.with_suffix(".json").write_text(json.dumps(entry))
    with pytest.raises(RecertError, match=words):
        load_network(fused)


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    torch = pytest.importorskip("torch")
    witness = tmp_path / "witness"

    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(witness),))

    (tmp_path / "model.json").write_text(json.dumps(DESCRIPTION))
    for new in (True, False):
        torch.save({"w": Payload()}, tmp_path / "model.pt", _use_new_zipfile_serialization=new)
        with pytest.raises(FileError, match="weights only"):
            load_network(tmp_path / "model.pt")
    assert not witness.exists()


def test_state_dicts_that_are_none(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    (tmp_path / "model.json").write_text(json.dumps(DESCRIPTION))
    huge = torch.zeros(1).expand(10**6, 10**6)
    for thing, words in (
        ([1], "no state_dict"),
        ({"epoch": 3}, "'epoch' is not a dense tensor"),
        ({"n": torch.ones(2, dtype=torch.int64)}, "'n' is not"),
        ({"w": huge}, "claims more entries"),
    ):
        torch.save(thing, path)
        with pytest.raises(FileError, match=words):
            load_network(path)


@pytest.fixture
def saved(tmp_path):
    save_network(small(b_V=np.ones(3)), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_truncated_files_anywhere(saved, trained):
    torch = pytest.importorskip("torch")
    torch.save(trained.state_dict(), saved.with_name("model.pt"))
    saved.with_name("model.json").write_text(json.dumps(DESCRIPTION))
    for path in (saved, saved.with_name("model.pt"), saved.with_suffix(".json")):
        raw = path.read_bytes()
        for size in {0, 1, 9, len(raw) // 2, len(raw) - 2}:
            path.write_bytes(raw[:size])
            with pytest.raises(FileError) as caught:
                load_network(path)
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        path.write_bytes(raw)


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 66)
        + b'{"U":{"dtype":"F64","shape":[99999999,9999999],"data_offsets":[0,8]}}'[:66],
        b"\x80\x04pickle",
        struct.pack("<Q", 2) + b"[]",
    ],
)
def test_hostile_safetensors(saved, raw):
    saved.write_bytes(raw)
    with pytest.raises(FileError, match="no complete safetensors"):
        load_network(saved)


def change(path, **changes):
    entry = copy.deepcopy(json.loads(path.with_suffix(".json").read_text()))
    entry.pop("digest", None)
    for key, value in changes.items():
        entry[key] = value
    path.with_suffix(".json").write_text(json.dumps(entry))


LAYER = {"U": "U", "W": "W", "b": "b"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 3}, "version 3"),
        ({"version": True}, "version True"),
        ({"format": "other"}, "not a description"),
        ({"input": "text"}, "choose onehot or real"),
        ({"input": 3}, "wrong type"),
        ({"layers": {}}, "wrong type"),
        ({"layers": []}, "at least one recurrent layer"),
        ({"layers": [3]}, r"layers\[0\] must be a JSON object"),
        ({"layers": [{"U": "U", "b": "b"}]}, r"layers\[0\] lacks 'W'"),
        ({"layers": [LAYER | {"R": "b"}]}, "unknown key 'R'"),
        ({"layers": [LAYER | {"b": []}]}, "names no tensor"),
        ({"layers": [LAYER | {"b": [3]}]}, "names no tensor"),
        ({"layers": [LAYER | {"b": ["b", "b_V"]}]}, "differ in shape"),
        ({"layers": [LAYER | {"b": "nothing"}]}, r"'nothing' of layers\[0\] is not in the file"),
        ({"layers": [LAYER | {"b": None}]}, "tensor 'b' has no part"),
        ({"layers": [LAYER | {"W": "U"}]}, "named twice"),
        ({"layers": [LAYER | {"U": "W", "W": "U"}]}, "shapes do not fit"),
        ({"layers": [LAYER | {"U": "b", "b": "U"}]}, "dimensions"),
        ({"layers": [LAYER | {"cell": "lstm"}]}, "unknown key 'U'; the keys are .*U_g"),
        ({"layers": [LAYER | {"cell": "elman"}]}, "'elman' is not covered"),
        ({"layers": [LAYER | {"cell": "conv"}]}, "must be a filter bank"),
        ({"layers": [LAYER | {"activation": "sin"}]}, "'sin' of a vanilla cell is not covered"),
        ({"read": "all"}, "choose step or final or mean"),
        ({"positions": {"U": 2}}, "positions is 2"),
        ({"positions": {"U": 0}}, "whole number"),
        ({"positions": {"X": 2}}, "no tensor of the network"),
        ({"encoder": [3]}, r"encoder\[0\] must be a JSON object"),
        ({"encoder": [{"b": "b"}]}, "lacks 'A'"),
        ({"encoder": [{"A": "U", "activation": "sin"}]}, "'sin' is not covered"),
        ({"head": {"V": "V", "b_V": "b_V", "hidden": [{"A": "X"}]}}, "'X' of head.hidden"),
        ({"head": {"V": "V", "b_V": "b_V", "single_logit": True}}, "needs one row"),
        ({"head": {"V": "V", "pool": "b_V"}}, "must be a matrix"),
        ({"head": {}}, "head lacks 'V'"),
        ({"head": {"V": None}}, "wrong type"),
        ({"embedding_layout": "up"}, "choose tokens_first"),
        ({"zero_columns": {"W": [1]}}, "declared always zero"),
        ({"zero_columns": {"W": [1.5]}}, "list of column numbers"),
        ({"zero_columns": {"X": [1]}}, "no tensor of the network"),
        ({"activaton": "relu"}, "unknown key 'activaton'"),
        ({"digest": "0" * 64}, "digests differ"),
    ],
)
def test_descriptions_that_do_not_fit(saved, changes, words):
    change(saved, **changes)
    with pytest.raises(RecertError, match=words) as caught:
        load_network(saved)
    assert str(saved.with_suffix("")) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"[" * 500_000,
        b'{"format": "recert-network", "format": "recert-network"}',
        b'{"a": "' + b"x" * 1_000_001 + b'"}',
        b"null",
        b"1" * 10_000,
    ],
)
def test_hostile_json(saved, raw):
    saved.with_suffix(".json").write_bytes(raw)
    with pytest.raises(FileError, match=r"net\.json"):
        load_network(saved)


def test_weights_that_are_not_finite_or_not_floats(saved):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(saved)
    change(saved)
    save_file(tensors | {"U": np.full((4, 4), np.nan)}, saved)
    with pytest.raises(InputError, match=r"net\.safetensors: block U holds NaN"):
        load_network(saved)
    save_file(tensors | {"U": np.ones((4, 4), dtype=np.int64)}, saved)
    with pytest.raises(FileError, match="'U' has dtype I64"):
        load_network(saved)


def test_a_bank_on_absurdly_many_positions_is_refused(tmp_path):
    network = random_network(np.random.default_rng(0), "conv_averaged")
    save_network(network, tmp_path / "net.safetensors")
    change(tmp_path / "net.safetensors", positions={"U": 1 << 15, "W": 1 << 15})
    with pytest.raises(InputError, match="more than recert handles"):
        load_network(tmp_path / "net.safetensors")
    change(tmp_path / "net.safetensors", positions={"U": 1 << 40, "W": 1 << 40})
    with pytest.raises(FileError, match="whole number"):
        load_network(tmp_path / "net.safetensors")


def test_a_head_of_one_row_must_say_what_it_is(saved):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(saved)
    save_file(tensors | {"V": tensors["V"][:1].copy(), "b_V": np.ones(1)}, saved)
    change(saved)
    with pytest.raises(InputError, match=r'"single_logit": true'):
        load_network(saved)
    change(saved, head={"V": "V", "b_V": "b_V", "single_logit": True})
    np.testing.assert_array_equal(load_network(saved).head.V.value[1], tensors["V"][0] / 2)


def test_files_of_version_1_still_load(saved):
    digest = load_network(saved).digest
    entry = {
        "format": "recert-network",
        "version": 1,
        "input": "onehot",
        "layers": [{"cell": "vanilla", "activation": "tanh", "U": "U", "W": "W", "b": "b"}],
        "head": {"V": "V", "b_V": "b_V"},
        "embedding": None,
        "embedding_layout": "tokens_last",
        "block_names": "tensors",
        "digest": digest,
    }
    saved.with_suffix(".json").write_text(json.dumps(entry))
    assert load_network(saved).digest == digest


def test_weights_of_another_save_are_noticed(saved):
    other = saved.with_name("other.safetensors")
    save_network(small(1, b_V=np.ones(3)), other)
    other.replace(saved)
    with pytest.raises(FileError, match="digests differ"):
        load_network(saved)


def test_missing_files(tmp_path, saved):
    for path in (tmp_path / "no", tmp_path / "no.pt", tmp_path / "no.json", tmp_path / "no.txt"):
        with pytest.raises(FileError, match=r"no"):
            load_network(path)
    with pytest.raises(FileError, match=r"holds no network\.safetensors"):
        load_network(tmp_path)
    saved.with_suffix(".json").unlink()
    with pytest.raises(FileError, match="description"):
        load_network(saved)
    with pytest.raises(FileError, match="has no description; write"):
        load_description(saved)


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write"):
        save_network(small(), tmp_path / "file" / "net")
    with pytest.raises(InputError, match="meta"):
        save_network(small(), tmp_path / "net", meta={"a": object()})
    with pytest.raises(InputError, match="meta"):
        save_network(small(), tmp_path / "net", meta={"a": float("nan")})
    assert not (tmp_path / "net").exists()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileError, match="No space left"):
        save_network(small(), tmp_path / "net")
    assert list((tmp_path / "net").iterdir()) == []


def test_an_interrupted_save_keeps_the_old_network(saved, monkeypatch):
    before = load_network(saved).digest

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        save_network(small(1), saved)
    assert load_network(saved).digest == before
    assert sorted(p.name for p in saved.parent.iterdir()) == ["net.json", "net.safetensors"]


def test_safetensors_are_read_without_torch(saved):
    code = (
        "import sys; from recert.readers import load_network\n"
        f"load_network({str(saved)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Messages for what lies beside, and for what is missing.


def certificate_of(network):
    x = np.random.default_rng(0).integers(0, network.d_x, (30, 3))
    return recert.certify(network, x, x[:, 0] % network.K, max_length=3, bounds="margin_ball")


def test_a_certificate_beside_weights_is_no_description(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 4), "fc": torch.nn.Linear(4, 2)})
    torch.save(model.state_dict(), tmp_path / "net.pt")
    certificate_of(small()).save(tmp_path / "net.json")
    for call in (load_network, load_description):
        with pytest.raises(FileError, match=r"net\.json is a certificate: move it, and write"):
            call(tmp_path / "net.pt")


def test_a_certificate_is_not_written_over_a_description(saved):
    before = saved.with_suffix(".json").read_bytes()
    with pytest.raises(FileError, match="description of a network stands there"):
        certificate_of(small()).save(saved.with_suffix(".json"))
    assert saved.with_suffix(".json").read_bytes() == before
    again = saved.with_name("certificate.json")
    certificate_of(small()).save(again)
    certificate_of(small()).save(again)


def test_a_shard_without_a_head_says_so(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 4)}).state_dict(), tmp_path / "a.pt")
    with pytest.raises(FileError, match=r"\(a head\).*shards.*join"):
        load_network(tmp_path / "a.pt")
    torch.save(torch.nn.ModuleDict({"fc": torch.nn.Linear(3, 4)}).state_dict(), tmp_path / "b.pt")
    with pytest.raises(FileError, match=r"no recurrent layer.*shards.*join"):
        load_network(tmp_path / "b.pt")


@pytest.mark.parametrize("shape", [[0, 2**60], [2**60, 0], [2**31, 2**31, 0]])
def test_absurd_shapes_without_entries(tmp_path, saved, shape):
    header = json.dumps({"U": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    path = tmp_path / "empty.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    path.with_suffix(".json").write_bytes(saved.with_suffix(".json").read_bytes())
    with pytest.raises(FileError, match="absurd shape"):
        load_network(path)


@pytest.mark.parametrize("name", ["net.ckpt", "net.bin", "net"])
def test_files_of_other_kinds_are_told_how_to_be_saved(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(FileError, match=r"is no network.*state_dict"):
        load_network(tmp_path / name)
