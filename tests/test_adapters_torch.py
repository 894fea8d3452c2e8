"""Networks read from torch modules: equal to the module, or refused by name."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recert.errors import InputError, ParityError, UnsupportedModelError
from recert.networks.forward import margins_of, network_predictor
from recert.networks.network import Network
from recert.readers import as_network, from_torch, torch_predictor

torch = pytest.importorskip("torch")
nn = torch.nn
F = nn.functional
torch.set_num_threads(1)  # small tensors: more threads only wait for each other
quick = settings(max_examples=25, deadline=None)


class Classifier(nn.Module):
    """A plain classifier with nn.RNN's options and three ways of reading inputs."""

    def __init__(
        self, reads="onehot", d_x=5, d_h=4, K=3, head_bias=True, returns="last", layout=True, **rnn
    ):
        super().__init__()
        self.reads, self.d_x, self.returns = reads, d_x, returns
        self.embed = nn.Embedding(d_x, 3) if reads == "embedding" else None
        width = 3 if reads == "embedding" else d_x
        self.core = nn.Module()
        self.core.rnn = nn.RNN(width, d_h, batch_first=layout, **rnn)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(d_h, K, bias=head_bias)

    def logits(self, x):
        if self.reads == "embedding":
            x = self.embed(x)
        elif self.reads == "onehot":
            x = F.one_hot(x, self.d_x).float()
        return self.head(self.drop(self.core.rnn(x)[0]))

    def forward(self, x):
        y = self.logits(x)
        time = 1 if self.core.rnn.batch_first else 0
        return y.select(time, -1) if self.returns == "last" else (y, None)


def data(reads, d_x=5, m=24, T=6, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, T + 1, m)
    if reads == "real":
        return rng.normal(size=(m, T, d_x)), lengths
    x = rng.integers(0, d_x, (m, T))
    return np.where(np.arange(T) < lengths[:, None], x, -1), lengths


def model_logits(model, x, length):
    """The module's own logits in float64, computed the plain way."""
    model = model.double().eval()
    with torch.no_grad():
        inputs = torch.as_tensor(x[None, :length])
        if model.reads == "embedding":
            inputs = model.embed(inputs)
        elif model.reads == "onehot":
            inputs = F.one_hot(inputs, model.d_x).double()
        if not model.core.rnn.batch_first:
            inputs = inputs.transpose(0, 1)
        return model.head(model.core.rnn(inputs)[1][-1])[0].numpy()


options = st.fixed_dictionaries(
    {
        "reads": st.sampled_from(["onehot", "embedding", "real"]),
        "num_layers": st.integers(1, 3),
        "bias": st.booleans(),
        "layout": st.booleans(),
        "nonlinearity": st.sampled_from(["tanh", "relu"]),
        "head_bias": st.booleans(),
        "returns": st.sampled_from(["last", "all"]),
    }
)


@quick
@given(options, st.sampled_from(["last", "average", 1]), st.integers(0, 99))
def test_every_option_gives_the_modules_logits(chosen, at, seed):
    torch.manual_seed(seed)
    model = Classifier(**chosen)
    x, lengths = data(chosen["reads"], seed=seed)
    first = None if chosen["layout"] else True
    network = from_torch(model, x, lengths=lengths, at=at, padding="cut", steps_first=first)
    got = network_predictor(network)(np.maximum(x, 0) if x.ndim == 2 else x, lengths, "last")
    want = [model_logits(model, row, n) for row, n in zip(x, lengths, strict=True)]
    np.testing.assert_allclose(got, want, atol=1e-12)
    assert network.input_kind == ("real" if chosen["reads"] == "real" else "onehot")
    assert ("b" in network.layers[0].blocks) == chosen["bias"]


@quick
@given(options, st.sampled_from(["last", "average", 2]), st.integers(0, 99))
def test_torch_predictor_is_network_predictor(chosen, at, seed):
    torch.manual_seed(seed)
    network = from_torch(Classifier(**chosen), steps_first=None if chosen["layout"] else True)
    x, lengths = data(chosen["reads"], seed=seed)
    x, lengths = np.maximum(x, 0) if x.ndim == 2 else x, np.maximum(lengths, 2)
    slow, fast = network_predictor(network), torch_predictor(network)
    np.testing.assert_allclose(fast(x, lengths, at), slow(x, lengths, at), atol=1e-12)


@quick
@given(st.integers(1, 2), st.integers(0, 99))
def test_permuting_hidden_units_leaves_margins(num_layers, seed):
    torch.manual_seed(seed)
    model, mixed = (Classifier(num_layers=num_layers) for _ in range(2))
    state, order = model.state_dict(), torch.randperm(4)
    for name, value in state.items():
        if "core" in name:
            value = value[order]
        if "weight_hh" in name or "weight_ih_l1" in name or name == "head.weight":
            value = value[:, order]
        mixed.state_dict()[name].copy_(value)
    x, lengths = data("onehot", seed=seed)
    labels = np.random.default_rng(seed).integers(0, 3, len(x))
    a, b = (
        margins_of(network_predictor(from_torch(m, x))(np.maximum(x, 0), lengths, "last"), labels)
        for m in (model, mixed)
    )
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_names_norms_and_padding_column():
    model = Classifier("embedding", num_layers=2)
    model.embed = nn.Embedding(5, 3, padding_idx=2)
    network = from_torch(model)
    assert [b.name for b in network.blocks()] == [
        "E",
        "U0",
        "W0",
        "b0",
        "U1",
        "W1",
        "b1",
        "V",
        "b_V",
    ]
    assert network.block("E").norm == "column" and network.block("E").zero_columns == (2,)
    assert network.block("W0").norm == "spectral"
    with torch.no_grad():
        model.embed.weight[2] = 1.0
    assert from_torch(model).block("E").zero_columns == ()
    first = from_torch(Classifier("onehot"), data("onehot")[0])
    assert [b.name for b in first.blocks()] == ["U", "W", "b", "V", "b_V"]
    assert first.block("W").norm == "column"


@pytest.mark.parametrize("reads", ["onehot", "embedding", "real"])
def test_without_sequences_the_input_kind_is_found_by_running(reads):
    assert from_torch(Classifier(reads)).input_kind == ("real" if reads == "real" else "onehot")


def test_pairs_and_named_parts_and_the_front_door():
    rnn, head = nn.RNN(5, 4), nn.Linear(4, 3)
    x, _ = data("onehot")
    network = as_network((rnn, head), x)
    assert network.input_kind == "onehot" and from_torch((rnn, head)).input_kind == "real"
    assert as_network(network) is network
    triple = from_torch((nn.Embedding(7, 5), rnn, head))
    assert triple.d_x == 7
    model = Classifier()
    named = from_torch(model, recurrent="core.rnn", head=model.head)
    assert named.digest == as_network(model, x).digest
    for thing in (3, (), (rnn, 3), {"a": 1}):
        with pytest.raises(InputError, match="not a model"):
            as_network(thing)
    with pytest.raises(InputError, match="no such submodule"):
        from_torch(model, recurrent="core.lstm")
    with pytest.raises(InputError, match="no part of the model"):
        from_torch(model, head=nn.Linear(4, 3))
    with pytest.raises(InputError, match="tuple of 1"):
        from_torch((rnn,))


def test_the_model_is_left_as_it_was():
    model = Classifier()
    model.head.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    from_torch(model, data("onehot")[0])
    assert model.training and model.core.rnn.training and not model.head.training
    assert model.head.weight.dtype == torch.float32 and torch.get_default_dtype() == torch.float32
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_any_float_are_read_exactly(dtype):
    model = Classifier().to(dtype)
    network = from_torch(model, data("onehot")[0])
    np.testing.assert_array_equal(network.block("V").value, model.head.weight.detach().double())


class Stack(Classifier):
    """A classifier whose forward is changed by a function of (self, x, logits)."""

    def __init__(self, change, **options):
        super().__init__(**options)
        self.change = change

    def forward(self, x):
        return self.change(self, x, super().forward(x))


def test_rising_functions_of_logits_are_accepted_and_others_are_not():
    x, _ = data("onehot")
    for final in (torch.log_softmax, torch.softmax, lambda y, _: y.sigmoid()):
        network = from_torch(Stack(lambda s, x, y, final=final: final(y, -1)), x)
        assert isinstance(network, Network) and network.K == 3
    with pytest.raises(ParityError, match="logits differ by"):
        from_torch(Stack(lambda s, x, y: y.softmax(0)), x)


@pytest.mark.parametrize(
    "change",
    [
        lambda s, x, y: y + 1e-6 * s.head(F.one_hot(x[:, -1], 5)[:, :4].to(y.dtype)),
        lambda s, x, y: 1.001 * y,
        lambda s, x, y: y.relu(),
        lambda s, x, y: y * float("nan"),
        lambda s, x, y: s.head(s.core.rnn(F.one_hot(x, 5).float())[0].amax(1)),
        lambda s, x, y: s.head(s.core.rnn(F.one_hot(x, 5).float())[0].sum(1)),
    ],
)
def test_another_forward_is_refused(change):
    torch.manual_seed(0)
    with pytest.raises(ParityError, match=r"step [0-9]+ of sequence [0-9]+"):
        from_torch(Stack(change), data("onehot")[0])


def test_at_last_only_the_last_step_counts():
    def spoil(s, x, y):
        y = y[0].clone()
        y[:, :-1] = 0.0
        return y

    model, (x, _) = Stack(spoil, returns="all"), data("onehot")
    assert from_torch(model, x, at="last")
    with pytest.raises(ParityError):
        from_torch(model, x, at="average")


def test_layouts_of_outputs_and_arguments():
    x, _ = data("onehot")

    class WithLengths(Classifier):
        def forward(self, x, lengths):
            y = self.logits(x)
            return {"loss": None, "logits": y[torch.arange(len(x)), lengths - 1]}

    class WithHidden(Classifier):
        def forward(self, x, hidden):
            out, hidden = self.core.rnn(F.one_hot(x, 5).float(), hidden)
            return F.log_softmax(self.head(out).view(-1, 3), dim=1), hidden

    class OwnStart(Classifier):
        def forward(self, x):
            start = torch.zeros(1, len(x), 4)
            out, _ = self.core.rnn(F.one_hot(x, 5).to(torch.float32), start)
            return self.head(out).transpose(1, 2)

    class Asks(Classifier):
        def forward(self, x, mask, weight):
            return x

    for kind in (WithLengths, WithHidden, OwnStart):
        assert from_torch(kind(), x, at="average").K == 3
    assert from_torch(WithHidden(layout=False), x).K == 3
    with pytest.raises(UnsupportedModelError, match="asks for mask, weight"):
        from_torch(Asks(), x)


def test_a_float32_only_forward_is_compared_in_float32():
    class Stubborn(Classifier):
        def forward(self, x):
            if self.head.weight.dtype != torch.float32:
                raise RuntimeError("only float32")
            return super().forward(x)

    assert from_torch(Stubborn(), data("onehot")[0])


def test_chaotic_networks_are_compared_where_rounding_allows():
    model = Classifier(d_h=32, returns="all")
    with torch.no_grad():
        model.core.rnn.weight_hh_l0.normal_(0, 0.6)
    x = np.random.default_rng(0).integers(0, 5, (4, 400))
    assert from_torch(model, x)
    with pytest.raises(ParityError):
        from_torch(
            Stack(lambda s, x, y: s.head(s.core.rnn(F.one_hot(x, 5).float())[0].sin()), d_h=32), x
        )


def with_part(**parts):
    model = Classifier()
    for name, part in parts.items():
        setattr(model, name, part)
    return model


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"extra": nn.LSTM(3, 4)}, "nn.LSTM 'extra' plays no part"),
        ({"extra": nn.GRU(5, 4)}, "nn.GRU 'extra' plays no part"),
        ({"extra": nn.RNNCell(3, 4)}, "nn.RNNCell 'extra' plays no part"),
        ({"extra": nn.Bilinear(3, 4, 2)}, "nn.Bilinear 'extra' is not covered"),
        ({"extra": nn.MultiheadAttention(4, 2)}, "nn.MultiheadAttention 'extra' is not covered"),
        ({"extra": nn.PReLU()}, "nn.PReLU 'extra' is not covered"),
        ({"extra": nn.Conv1d(3, 4, 2)}, "nn.Conv1d 'extra' is not covered"),
        ({"norm": nn.LayerNorm(4)}, "nn.LayerNorm 'norm'"),
        ({"norm": nn.BatchNorm1d(4)}, "nn.BatchNorm1d 'norm'"),
        ({"extra": nn.Linear(4, 4)}, "nn.Linear 'extra' plays no part"),
        ({"extra": nn.Linear(5, 5)}, "nn.Linear 'extra' plays no part"),
        ({"other": nn.Embedding(5, 5), "embed": nn.Embedding(5, 5)}, "2 nn.Embedding modules"),
        ({"scale": nn.Parameter(torch.ones(1))}, "parameter 'scale'"),
        ({"core": nn.Identity()}, "no nn.RNN"),
        ({"head": nn.Identity()}, "no nn.Linear"),
        ({"embed": nn.Embedding(5, 5, max_norm=1.0)}, "max_norm"),
    ],
)
def test_what_is_not_covered_is_named(parts, words):
    with pytest.raises(UnsupportedModelError, match=words):
        from_torch(with_part(**parts), data("onehot")[0])


def test_a_bare_layer_is_no_classifier():
    with pytest.raises(UnsupportedModelError, match=r"nn\.LayerNorm 'given as the model'"):
        from_torch(nn.LayerNorm(3))
    for bare in (nn.RNN(3, 4), nn.LSTM(3, 4, bidirectional=True), nn.GRU(3, 4)):
        with pytest.raises(UnsupportedModelError, match="could be its head part") as refused:
            from_torch(bare)
        assert "(rnn, linear)" in str(refused.value)
        assert "return self.linear(states[:, -1])" in str(refused.value)


@pytest.mark.parametrize(("first", "words"), [(-1, "so it is empty"), (-3, "which is no token")])
def test_what_a_sequence_begins_with_is_named_where_nobody_gave_lengths(first, words):
    x = data("onehot")[0].copy()
    x[3] = first
    with pytest.raises(InputError, match=f"sequence 3 begins with {first}, .*{words}"):
        from_torch(with_part(), x)
    x[3] = 0
    with pytest.raises(InputError, match="sequence 3 has length 0"):
        from_torch(with_part(), x, lengths=[len(x[0])] * 3 + [0] + [len(x[0])] * (len(x) - 4))


def test_naming_parts_does_not_hide_others():
    model = with_part(extra=nn.Linear(4, 4))
    with pytest.raises(UnsupportedModelError, match=r"parameter 'extra\.weight'"):
        from_torch(model, head="head")
    model = with_part(extra=nn.RNN(5, 4))
    with pytest.raises(UnsupportedModelError, match=r"parameter 'extra\.weight_ih_l0'"):
        from_torch(model, recurrent="core.rnn")
    model = with_part(core=nn.LSTM(5, 4))
    with pytest.raises(ParityError, match="has no attribute 'rnn'"):
        from_torch(model, recurrent="core")


def test_persistent_buffers_are_refused_and_others_are_not():
    model = Classifier()
    model.register_buffer("scratch", torch.ones(3), persistent=False)
    assert from_torch(model)
    model.register_buffer("table", torch.ones(3))
    with pytest.raises(UnsupportedModelError, match="buffer 'table'"):
        from_torch(model)


def test_parametrized_parts_are_read_as_they_act():
    x, _ = data("onehot")
    model = Classifier()
    nn.utils.parametrizations.weight_norm(model.head)
    network = from_torch(model, x)
    np.testing.assert_allclose(network.block("V").value, model.head.weight.detach(), atol=1e-6)
    nn.utils.parametrizations.spectral_norm(model.head)
    assert from_torch(model, x)
    prune = pytest.importorskip("torch.nn.utils.prune")
    pruned = Classifier()
    prune.l1_unstructured(pruned.head, "weight", amount=0.5)
    assert from_torch(pruned, x)


class Half(nn.Module):
    def forward(self, w):
        return 0.5 * w


def test_a_parametrization_is_read_as_the_fused_kernel_runs_it():
    model = Classifier()
    before = from_torch(model).block("U").value
    nn.utils.parametrize.register_parametrization(model.core.rnn, "weight_hh_l0", Half())
    halved = from_torch(model)
    np.testing.assert_allclose(halved.block("U").value, 0.5 * before, rtol=1e-6)
    sequences = torch.randint(0, 5, (3, 4))
    model(sequences).sum().backward()
    with torch.no_grad():  # torch's own list of weights is now that of the step before
        model.core.rnn.parametrizations.weight_hh_l0.original.mul_(2.0)
    np.testing.assert_allclose(from_torch(model).block("U").value, before, rtol=1e-6)
    nn.utils.parametrize.remove_parametrizations(model.core.rnn, "weight_hh_l0")
    np.testing.assert_allclose(from_torch(model).block("U").value, before, rtol=1e-6)


def test_a_parametrization_that_the_fused_kernel_ignores_is_refused(monkeypatch):
    model = Classifier()
    nn.utils.parametrize.register_parametrization(model.core.rnn, "weight_hh_l0", Half())
    # As in versions of torch that do not look whether weights have changed.
    monkeypatch.setattr(nn.RNNBase, "_weights_have_changed", lambda self: False)
    with pytest.raises(UnsupportedModelError, match="another weight_hh_l0 than it shows"):
        from_torch(model)


def test_hooks_that_change_the_output_are_seen():
    model = Classifier()
    model.head.register_forward_hook(lambda module, args, out: 2.0 * out)
    with pytest.raises(ParityError):
        from_torch(model)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(bad):
    model = Classifier()
    with torch.no_grad():
        model.head.weight[0, 0] = bad
    with pytest.raises(InputError, match="block V holds NaN or infinite"):
        from_torch(model)
    model = Classifier()
    with torch.no_grad():
        model.core.rnn.weight_hh_l0[1, 2] = bad
    with pytest.raises(InputError, match="block U holds NaN or infinite"):
        from_torch(model)


@pytest.mark.parametrize(
    ("x", "lengths", "words"),
    [
        ([[0, 1, 5]], None, r"sequence 0 holds tokens .* 0\.\.4"),
        ([[0.5, 1.0]], None, "no token"),
        ([[0, 1]], [3], "length 3"),
        ([[-1, -1]], None, "begins with -1"),
        ([[0, 1]], [1, 1], "one per sequence"),
        (np.zeros((0, 3), int), None, "shape"),
        ([[0, 1], [1]], None, "ragged"),
        ([["a"]], None, "dtype"),
    ],
)
def test_unusable_sequences(x, lengths, words):
    with pytest.raises(InputError, match=words):
        from_torch(Classifier(), x, lengths=lengths, input_kind="onehot")


def test_contradictory_input_kinds():
    with pytest.raises(InputError, match="drop 'real'"):
        from_torch(Classifier("embedding"), input_kind="real")
    with pytest.raises(InputError, match="use 'onehot' or 'real'"):
        from_torch(Classifier(), input_kind="tokens")
    with pytest.raises(ParityError, match="does not run on inputs"):
        from_torch(Classifier("real"), data("onehot")[0])


def test_importing_adapters_does_not_import_torch():
    code = (
        "import sys, recert.readers as a\n"
        "try: a.as_network(3)\n"
        "except ValueError: pass\n"
        "assert 'torch' not in sys.modules and 'safetensors' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
