"""Networks on disk: round trips, and files that are damaged, hostile or undescribed."""

import copy
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recert.adapters import as_network, from_torch, load_description, load_network, save_network
from recert.errors import FileError, InputError, RecertError, UnsupportedModelError
from recert.network import Block, Head, Layer, Network, vanilla

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


def deep(count, kind, activations, names, seed):
    rng = np.random.default_rng(seed)
    layers = []
    for k in range(count):
        norm = "spectral" if k or kind != "onehot" else "column"
        blocks = {
            "U": Block(f"{names}U{k}", rng.normal(size=(4, 4)), "spectral"),
            "W": Block(f"{names}W{k}", rng.normal(size=(4, 4)), norm),
        }
        layers.append(Layer("vanilla", blocks, activations[k]))
    table = rng.normal(size=(4, 6))
    table[:, 2] = 0.0
    embedding = Block(f"{names}E", table, "column", (2,)) if kind == "embedded" else None
    head = Head(Block(f"{names}V", rng.normal(size=(3, 4)), "spectral"))
    return Network(tuple(layers), head, "real" if kind == "real" else "onehot", embedding)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from(["onehot", "real", "embedded"]),
    st.lists(st.sampled_from(["tanh", "relu"]), min_size=3, max_size=3),
    st.sampled_from(["", "my "]),
    st.integers(0, 99),
)
def test_a_saved_network_comes_back(tmp_path_factory, count, kind, activations, names, seed):
    network = deep(count, kind, activations, names, seed)
    path = tmp_path_factory.mktemp("saved") / "net"
    save_network(network, path, meta={"caps": {"U": 1.5}})
    back = load_network(path)
    assert back.digest == network.digest and back.description() == network.description()
    assert [b.zero_columns for b in back.blocks()] == [b.zero_columns for b in network.blocks()]
    assert load_description(path)["meta"] == {"caps": {"U": 1.5}}
    assert sorted(p.name for p in path.iterdir()) == ["network.json", "network.safetensors"]


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


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "bidirectional"])
def test_state_dicts_of_other_cells_are_refused_by_name(tmp_path, kind):
    torch = pytest.importorskip("torch")
    two = kind == "bidirectional"
    layer = torch.nn.RNN(3, 4, bidirectional=True) if two else getattr(torch.nn, kind)(3, 4)
    torch.save(layer.state_dict(), tmp_path / "model.pt")
    with pytest.raises(UnsupportedModelError, match=kind):
        load_network(tmp_path / "model.pt")


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
    entry.pop("digest")
    for key, value in changes.items():
        entry[key] = value
    path.with_suffix(".json").write_text(json.dumps(entry))


LAYER = {"U": "U", "W": "W", "b": "b"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"version": True}, "version True"),
        ({"format": "other"}, "not a description"),
        ({"input": "text"}, "choose onehot or real"),
        ({"input": 3}, "wrong type"),
        ({"layers": {}}, "wrong type"),
        ({"layers": []}, "at least one recurrent layer"),
        ({"layers": [3]}, r"layers\[0\] must be a JSON object"),
        ({"layers": [{"U": "U", "b": "b"}]}, "lacks 'U' or 'W'"),
        ({"layers": [LAYER | {"R": "b"}]}, "unknown key 'R'"),
        ({"layers": [LAYER | {"b": []}]}, "names no tensor"),
        ({"layers": [LAYER | {"b": [3]}]}, "names no tensor"),
        ({"layers": [LAYER | {"b": ["b", "b_V"]}]}, "differ in shape"),
        ({"layers": [LAYER | {"b": "nothing"}]}, r"'nothing' of layers\[0\] is not in the file"),
        ({"layers": [LAYER | {"b": None}]}, "tensor 'b' has no part"),
        ({"layers": [LAYER | {"W": "U"}]}, "named twice"),
        ({"layers": [LAYER | {"U": "W", "W": "U"}]}, "shapes do not fit"),
        ({"layers": [LAYER | {"U": "b", "b": "U"}]}, "dimensions"),
        ({"layers": [LAYER | {"cell": "lstm"}]}, "'lstm' is not covered"),
        ({"layers": [LAYER | {"activation": "sin"}]}, "'sin' is not covered"),
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
    with pytest.raises(FileError, match="need a description"):
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
        "import sys; from recert.adapters import load_network\n"
        f"load_network({str(saved)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
