"""Every recurrent layer of torch with every option, in models as other people write them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recert
from family import random_network
from recert.errors import InputError, ParityError, UnsupportedModelError
from recert.networks.blocks import Block
from recert.networks.forward import network_predictor
from recert.networks.layers import Bidirectional
from recert.networks.network import Network
from recert.readers import as_network, from_torch, torch_predictor
from recert.sensitivities.sensitivity import sensitivity

torch = pytest.importorskip("torch")
nn = torch.nn
F = nn.functional
rnn_tools = nn.utils.rnn
torch.set_num_threads(1)  # small tensors: more threads only wait for each other
quick = settings(max_examples=25, deadline=None)

KINDS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
ACTIVATIONS = {
    "identity": lambda v: v,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
}
D_X, D_H = 5, 4


class Any(nn.Module):
    """A classifier with all options."""

    def __init__(
        self, kind, reads, layers, two_way, bias, batch_first, proj, read, encoder, hidden, outputs,
        ends, lengths,
    ):  # fmt: skip
        super().__init__()
        self.reads, self.read, self.ends, self.packs = reads, read, ends, lengths
        self.embed = nn.Embedding(D_X, 3) if reads == "embedding" else None
        width = 3 if reads == "embedding" else D_X
        self.encoder = nn.Linear(width, 6) if encoder else None
        self.activation, self.second = encoder, hidden
        proj = {"proj_size": 3} if proj and kind == "lstm" else {}
        self.rnn = KINDS[kind](
            6 if encoder else width, D_H, layers, bias=bias, batch_first=batch_first,
            bidirectional=two_way, dropout=0.3 if layers > 1 else 0.0, **proj,
        )  # fmt: skip
        self.drop = nn.Dropout(0.5)
        width = (2 if two_way else 1) * (3 if proj else D_H)
        self.hidden = nn.Linear(width, 5) if hidden else None
        self.out = nn.Linear(5 if hidden else width, outputs)

    def read_states(self, out, state, n, steps):
        if self.read == "last":
            return out[:, -1]
        if self.read == "all":
            return out
        if self.read == "mean":
            return out.mean(1)
        h = state[0] if isinstance(state, tuple) else state
        if self.rnn.bidirectional:
            return torch.cat((h[-2], h[-1]), dim=1)
        return h[-1]

    def forward(self, x, lengths=None):
        n, steps = x.shape[:2]
        if self.embed is not None:
            x = self.embed(x)
        elif self.reads == "onehot":
            x = F.one_hot(x, D_X).to(self.out.weight.dtype)
        if self.encoder is not None:
            x = ACTIVATIONS[self.activation](self.encoder(x))
        x = x if self.rnn.batch_first else x.transpose(0, 1)
        if self.packs:
            lengths = torch.full((n,), steps)
            x = rnn_tools.pack_padded_sequence(
                x, lengths, batch_first=self.rnn.batch_first, enforce_sorted=False
            )
        out, state = self.rnn(x)
        if self.packs:
            out, _ = rnn_tools.pad_packed_sequence(out, batch_first=self.rnn.batch_first)
        out = out if self.rnn.batch_first else out.transpose(0, 1)
        h = self.drop(self.read_states(out, state, n, steps))
        if self.hidden is not None:
            h = ACTIVATIONS[self.second](self.hidden(h))
        y = self.out(h)
        if y.shape[-1] == 1:
            y = y.squeeze(-1)
            return torch.sigmoid(y) if self.ends else y
        return {None: y, "log": F.log_softmax(y, -1), "soft": F.softmax(y, -1)}[self.ends]


options = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(list(KINDS)),
        "reads": st.sampled_from(["onehot", "embedding", "real"]),
        "layers": st.integers(1, 3),
        "two_way": st.booleans(),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
        "proj": st.booleans(),
        "read": st.sampled_from(["last", "all", "final", "mean"]),
        "encoder": st.sampled_from([None, *ACTIVATIONS]),
        "hidden": st.sampled_from([None, *ACTIVATIONS]),
        "outputs": st.sampled_from([1, 2, 3]),
        "ends": st.sampled_from([None, "log", "soft"]),
        "lengths": st.booleans(),
    }
)


def data(reads, m=24, steps=6, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, steps + 1, m)
    if reads == "real":
        return rng.standard_normal((m, steps, D_X)), lengths
    return np.where(
        np.arange(steps) < lengths[:, None], rng.integers(0, D_X, (m, steps)), -1
    ), lengths


def module_logits(model, x, lengths):
    """Centred logits of a module in float64, sequence by sequence."""
    model = model.double().eval()
    found = []
    for row, n in zip(x, lengths, strict=True):
        with torch.no_grad():
            torch.set_default_dtype(torch.float64)
            try:
                # Twice, for a mean over steps would otherwise be of one sequence of one step.
                y = model(torch.as_tensor(np.stack([row[:n]] * 2)))[0]
            finally:
                torch.set_default_dtype(torch.float32)
        if model.read == "all":
            y = y[-1]
        if y.ndim == 0:
            y = torch.logit(y) if model.ends else y
            y = torch.stack([-y / 2, y / 2])
        elif model.ends == "soft":
            y = y.log()
        found.append(y.numpy())
    return centred(np.array(found))


def centred(y):
    return y - y.mean(axis=-1, keepdims=True)


@quick
@given(options, st.integers(0, 99))
def test_every_option_gives_the_modules_logits(chosen, seed):
    torch.manual_seed(seed)
    model = Any(**chosen)
    x, lengths = data(chosen["reads"], seed=seed)
    network = from_torch(model, x, lengths=lengths, padding="cut")
    safe = np.maximum(x, 0) if x.ndim == 2 else x
    got = network_predictor(network)(safe, lengths, "last")
    want = module_logits(model, x, lengths)
    np.testing.assert_allclose(centred(got), want, rtol=1e-9, atol=1e-9)
    fast = torch_predictor(network)(safe, lengths, "last")
    np.testing.assert_allclose(fast, got, atol=1e-12)
    assert network.two_way == chosen["two_way"]
    assert len(network.layers) == chosen["layers"]


cells = st.sampled_from(["vanilla", "mgu", "gru", "gru_original", "lstm"])


@quick
@given(
    st.fixed_dictionaries(
        {
            "cell": cells,
            "layers": st.integers(1, 3),
            "two_way": st.booleans(),
            "bias": st.booleans(),
            "tokens": st.booleans(),
            "encoder": st.sampled_from([0, 3]),
            "hidden": st.sampled_from([0, 3]),
            "read": st.sampled_from(["step", "final", "mean"]),
            "head_activation": st.sampled_from(list(ACTIVATIONS)),
        }
    ),
    st.booleans(),
    st.sampled_from(["last", "average", 2]),
    st.integers(0, 99),
)
def test_torch_predictor_is_network_predictor(chosen, embedded, at, seed):
    rng = np.random.default_rng(seed)
    embedding = 3 if embedded and chosen["tokens"] else 0
    proj = 2 if chosen["cell"] == "lstm" and seed % 2 else 0
    network = random_network(rng, **chosen, embedding=embedding, proj=proj)
    lengths = np.maximum(rng.integers(1, 7, 9), 2)
    x = rng.integers(0, 4, (9, 6)) if chosen["tokens"] else rng.standard_normal((9, 6, 4))
    x.setflags(write=False)
    slow, fast = network_predictor(network), torch_predictor(network)
    if chosen["read"] != "step" and at != "last":
        with pytest.raises(InputError, match="one output a sequence"):
            fast(x, lengths, at)
        return
    np.testing.assert_allclose(fast(x, lengths, at), slow(x, lengths, at), atol=1e-12)


def test_torch_predictor_takes_filter_banks_and_long_tables(monkeypatch):
    from recert.readers.torch import predictor

    rng = np.random.default_rng(0)
    for options in ({"cell": "conv"}, {"cell": "lstm", "tokens": True, "embedding": 3}):
        network = random_network(rng, **options)
        monkeypatch.setattr(predictor, "MOST_TABLE", 0)
        monkeypatch.setattr(predictor, "BLOCK", 1)
        x = rng.integers(0, 4, (600, 5)) if "tokens" in options else rng.normal(size=(600, 5, 4))
        lengths = rng.integers(1, 6, 600)
        want = network_predictor(network)(x, lengths, "last")
        np.testing.assert_allclose(torch_predictor(network)(x, lengths, "last"), want, atol=1e-12)


@quick
@given(st.sampled_from(list(KINDS)), st.integers(1, 2), st.booleans(), st.integers(0, 99))
def test_permuting_hidden_units_changes_no_bound(kind, layers, two_way, seed):
    torch.manual_seed(seed)
    chosen = {
        "kind": kind, "reads": "embedding", "layers": layers, "two_way": two_way, "bias": True,
        "batch_first": True, "proj": False, "read": "final", "encoder": None, "hidden": None,
        "outputs": 3, "ends": None, "lengths": False,
    }  # fmt: skip
    model, mixed = Any(**chosen), Any(**chosen)
    order = torch.randperm(D_H)
    gates = model.rnn.weight_hh_l0.shape[0] // D_H
    rows = torch.cat([k * D_H + order for k in range(gates)])
    both = torch.cat([order, D_H + order]) if two_way else order
    for name, value in model.state_dict().items():
        if name.startswith("rnn"):
            value = value[rows]
        if "weight_hh" in name:
            value = value[:, order]
        if "weight_ih_l1" in name or name == "out.weight":
            value = value[:, both]
        mixed.state_dict()[name].copy_(value)
    one, other = from_torch(model), from_torch(mixed)
    assert one.digest != other.digest or bool((order == torch.arange(D_H)).all())
    for a, b in zip(one.blocks(), other.blocks(), strict=True):
        assert a.name == b.name
        np.testing.assert_allclose(a.norm_bound(), b.norm_bound(), rtol=1e-9)
    a, b = (sensitivity(network, steps=5) for network in (one, other))
    np.testing.assert_allclose(a.log_norm, b.log_norm, atol=1e-9)
    for name in a.blocks:
        np.testing.assert_allclose(a.log_lambda[name], b.log_lambda[name], atol=1e-9)


# Models as they stand in other people's repositories.


class SentimentLSTM(nn.Module):
    def __init__(self, vocab_size=30, embedding_dim=6, hidden_dim=5, n_layers=2, drop_prob=0.5):
        super().__init__()
        self.output_size, self.n_layers, self.hidden_dim = 1, n_layers, hidden_dim
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(
            embedding_dim, hidden_dim, n_layers, dropout=drop_prob, batch_first=True
        )
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(hidden_dim, 1)
        self.sig = nn.Sigmoid()

    def forward(self, x, hidden):
        batch_size = x.size(0)
        embeds = self.embedding(x.long())
        lstm_out, hidden = self.lstm(embeds, hidden)
        lstm_out = lstm_out.contiguous().view(-1, self.hidden_dim)
        out = self.sig(self.fc(self.dropout(lstm_out)))
        return out.view(batch_size, -1)[:, -1], hidden


class CharRNN(nn.Module):
    def __init__(self, n_chars=12, hidden_size=7):
        super().__init__()
        self.encoder = nn.Embedding(n_chars, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size, 2)
        self.decoder = nn.Linear(hidden_size, n_chars)

    def forward(self, input, hidden):
        output, hidden = self.gru(self.encoder(input), hidden)
        output = self.decoder(output)
        return output, hidden


class BiLSTMTagger(nn.Module):
    def __init__(self, vocab=20, tags=4):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 5, bidirectional=True, batch_first=True)
        self.hidden2tag = nn.Linear(10, tags)

    def forward(self, sentence):
        out, _ = self.lstm(self.word_embeddings(sentence))
        return F.log_softmax(self.hidden2tag(out), dim=-1)


class BiGRUCat(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.rnn = nn.GRU(6, 5, num_layers=2, bidirectional=True, dropout=0.5)
        self.fc = nn.Linear(10, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, text):
        embedded = self.dropout(self.embedding(text.t()))
        _, hidden = self.rnn(embedded)
        hidden = self.dropout(torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1))
        return self.fc(hidden)


class BiRNNLast(nn.Module):
    """Both directions at the last step, initial states of zeros."""

    def __init__(self):
        super().__init__()
        self.hidden_size, self.num_layers = 6, 2
        self.lstm = nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(12, 3)

    def forward(self, x):
        h0 = torch.zeros(self.num_layers * 2, x.size(0), self.hidden_size).to(x.device)
        c0 = torch.zeros(self.num_layers * 2, x.size(0), self.hidden_size).to(x.device)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1, :])


class DeepLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, num_layers=3, dropout=0.5, batch_first=True)
        self.classifier = nn.Sequential(
            nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3)
        )

    def forward(self, x):
        _, (h_n, _) = self.lstm(x)
        return self.classifier(h_n[-1])


class ReluBeforeHead(nn.Module):
    """Two linear layers and a relu before each."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.fc_1 = nn.Linear(6, 8)
        self.fc = nn.Linear(8, 3)
        self.relu = nn.ReLU()

    def forward(self, x):
        h_0 = torch.autograd.Variable(torch.zeros(1, x.size(0), 6))
        c_0 = torch.autograd.Variable(torch.zeros(1, x.size(0), 6))
        _, (hn, _) = self.lstm(x, (h_0, c_0))
        out = self.relu(hn.view(-1, 6))
        out = self.relu(self.fc_1(out))
        return self.fc(out)


class HumanActivity(nn.Module):
    """A linear layer and a relu before two LSTMs, time first."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(9, 6)
        self.lstm1 = nn.LSTM(6, 6, num_layers=1)
        self.lstm2 = nn.LSTM(6, 5, num_layers=1)
        self.fc2 = nn.Linear(5, 6)

    def forward(self, x):
        x = x.permute(1, 0, 2)
        steps, n, _ = x.shape
        x = F.relu(self.fc1(x.reshape(-1, 9))).view(steps, n, -1)
        x, _ = self.lstm1(x)
        x, _ = self.lstm2(x)
        return self.fc2(x[-1])


class CellLoop(nn.Module):
    def __init__(self, kind=nn.GRUCell, stacked=2):
        super().__init__()
        self.cells = nn.ModuleList([kind(4 if k == 0 else 6, 6) for k in range(stacked)])
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        pair = isinstance(self.cells[0], nn.LSTMCell)
        zero = torch.zeros(x.shape[0], 6)
        states = [(zero, zero) if pair else zero for _ in self.cells]
        for t in range(x.shape[1]):
            v = x[:, t]
            for k, cell in enumerate(self.cells):
                states[k] = cell(v, states[k])
                v = states[k][0] if pair else states[k]
        return self.out(v)


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(15, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 5, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(10, 1)

    def forward(self, text, text_lengths):
        packed = rnn_tools.pack_padded_sequence(
            self.embed(text), text_lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, (hidden, _) = self.lstm(packed)
        return self.fc(torch.cat((hidden[-2], hidden[-1]), dim=1)).squeeze(1)


class MeanPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(15, 4, padding_idx=0)
        self.gru = nn.GRU(4, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        mask = (x != 0).unsqueeze(-1)
        out, _ = self.gru(self.embed(x))
        return self.head((out * mask).sum(1) / mask.sum(1))


class OwnPadding(nn.Module):
    """Lengths found where tokens are not 0, without torch knowing of padding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(15, 4)
        self.gru = nn.GRU(4, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        lengths = (x != 0).sum(1).clamp(min=1)
        out, _ = self.gru(self.embed(x))
        return self.head(out[torch.arange(len(x)), lengths - 1])


class FixedBatch(nn.Module):
    """A batch size that was written down once."""

    def __init__(self):
        super().__init__()
        self.batch_size = 20
        self.rnn = nn.RNN(4, 5, nonlinearity="relu")
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        x = x.permute(1, 0, 2)
        h0 = torch.zeros(1, self.batch_size, 5)
        _, h = self.rnn(x, h0)
        return self.fc(h).view(-1, 3)


class BackwardHalf(nn.Module):
    """The last of the final states: those of the backward direction alone."""

    def __init__(self, reads=-1):
        super().__init__()
        self.reads = reads
        self.lstm = nn.LSTM(4, 5, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.lstm(x)[1][0][self.reads])


class SplitStates(nn.Module):
    """The states as two arguments, probabilities first and logits second."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.fc = nn.Linear(5, 2)

    def forward(self, x, h0, c0):
        out, _ = self.lstm(x, (h0, c0))
        y = self.fc(out[:, -1])
        return y.softmax(1), y


class HandWired(nn.Module):
    """Only the weights of the parts are used, registered the other way round."""

    def __init__(self):
        super().__init__()
        self.top = nn.Linear(7, 3)
        self.middle = nn.Linear(5, 7)
        self.cell = nn.LSTMCell(6, 5)
        self.bottom = nn.Linear(4, 6, bias=False)

    def forward(self, x):
        state = None
        for t in range(x.shape[1]):
            state = self.cell(F.elu(F.linear(x[:, t], self.bottom.weight)), state)
        return self.top(F.leaky_relu(self.middle(state[0])))


REPOSITORY = [
    (SentimentLSTM, "step", 2),
    (CharRNN, "step", 12),
    (BiLSTMTagger, "step", 4),
    (BiGRUCat, "final", 3),
    (BiRNNLast, "step", 3),
    (DeepLSTM, "step", 3),
    (ReluBeforeHead, "step", 3),
    (HumanActivity, "step", 6),
    (CellLoop, "step", 3),
    (lambda: CellLoop(nn.LSTMCell, 1), "step", 3),
    (lambda: CellLoop(nn.RNNCell, 3), "step", 3),
    (Packed, "final", 2),
    (MeanPool, "mean", 3),
    (FixedBatch, "step", 3),
    (BackwardHalf, "final", 3),
    (lambda: BackwardHalf(0), "step", 3),
    (SplitStates, "step", 2),
    (HandWired, "step", 3),
]


@pytest.mark.parametrize(("make", "read", "K"), REPOSITORY)
def test_models_as_people_write_them(make, read, K):
    torch.manual_seed(0)
    model = make()
    network = from_torch(model)
    assert (network.read, network.K) == (read, K)
    parameters = sum(p.numel() for p in model.parameters())
    assert sum(block.value.size for block in network.blocks()) >= parameters / 2
    rng = np.random.default_rng(1)
    if network.input_kind == "onehot":
        x = rng.integers(1, network.d_x, (40, 5))
    else:
        x = rng.standard_normal((40, 5, network.d_x))
    lengths = rng.integers(1, 6, 40)
    assert from_torch(model, x, lengths=lengths, padding="cut").digest == network.digest
    assert from_torch(model, torch.as_tensor(x)).digest == network.digest


def test_models_that_hold_computed_tensors_are_copied_all_the_same():
    model = ReluBeforeHead()
    prune = pytest.importorskip("torch.nn.utils.prune")
    prune.l1_unstructured(model.fc, "weight", amount=0.3)
    model.held = [model.fc(torch.ones(1, 8))]
    network = from_torch(model)
    np.testing.assert_array_equal(network.head.V.value, model.fc.weight.detach().double())
    assert [dense.activation for dense in network.head.hidden] == ["relu", "relu"]
    assert model.fc.weight_orig.dtype == torch.float32


def test_what_is_read_before_the_head():
    network = from_torch(ReluBeforeHead())
    assert [dense.activation for dense in network.head.hidden] == ["relu", "relu"]
    np.testing.assert_array_equal(network.block("I").value, np.eye(6))
    network = from_torch(BackwardHalf())
    assert network.head.V.zero_columns == tuple(range(5))
    assert from_torch(HumanActivity()).encoder[0].activation == "relu"
    network = from_torch(HandWired())
    assert network.encoder[0].activation == "elu"
    assert network.head.hidden[0].activation == "leaky_relu"


def test_models_that_skip_a_token_are_compared_on_the_users_sequences():
    model, rng = OwnPadding(), np.random.default_rng(0)
    with pytest.raises(ParityError):
        from_torch(model)
    assert from_torch(model, rng.integers(1, 15, (30, 6))).K == 3


def test_gates_of_torch_are_those_of_the_paper():
    model = nn.LSTM(3, 2)
    network = from_torch((model, nn.Linear(2, 3)))
    W, b = (model.weight_ih_l0.detach().double().numpy(), (model.bias_ih_l0 + model.bias_hh_l0))
    for k, role in enumerate(("_r", "_g", "_c", "_o")):
        np.testing.assert_array_equal(network.block(f"W{role}").value, W[2 * k : 2 * k + 2])
    assert b.shape == (8,) and "b_hn" not in network.layers[0].blocks
    stacked = from_torch((nn.Embedding(9, 3), nn.GRU(3, 2, 2, bidirectional=True), nn.Linear(4, 2)))
    names = [block.name for block in stacked.blocks()]
    assert {"U_r0", "W_z0_reverse", "b_hn1", "b_n1_reverse", "E", "V", "b_V"} <= set(names)
    assert isinstance(stacked.layers[1], Bidirectional)


def test_one_logit_is_two_rows():
    head = nn.Linear(4, 1)
    network = from_torch((nn.LSTM(3, 4), head))
    v = head.weight.detach().double().numpy()
    np.testing.assert_array_equal(network.head.V.value, np.concatenate([-v / 2, v / 2]))
    np.testing.assert_array_equal(np.diff(network.head.b.value), head.bias.detach().double())


def test_two_way_networks_have_no_average_of_what_they_do_not_return():
    x = np.random.default_rng(0).standard_normal((20, 5, 4))
    with pytest.raises(ParityError, match="shape"):
        from_torch(BiRNNLast(), x, at="average")
    with pytest.raises(InputError, match="one output a sequence"):
        from_torch(BackwardHalf(), x, at="average")
    tags = np.random.default_rng(0).integers(1, 20, (20, 5))
    assert from_torch(BiLSTMTagger(), tags, at="average").read == "step"


def test_certify_reads_gated_modules():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 15, (40, 5)), rng.integers(0, 2, 40)
    certificate = recert.certify(Packed(), x, y, max_length=5)
    assert certificate.bounds


class Base(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.fc = nn.Linear(5, 3)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])


class LearntStart(Base):
    def __init__(self):
        super().__init__(h0=nn.Parameter(torch.zeros(1, 1, 5)))

    def forward(self, x):
        h0 = self.h0.expand(-1, len(x), -1).contiguous()
        return self.fc(self.lstm(x, (h0, torch.zeros_like(h0)))[0][:, -1])


class OnesStart(Base):
    def forward(self, x):
        h0 = torch.ones(1, len(x), 5)
        return self.fc(self.lstm(x, (h0, h0))[0][:, -1])


class Normalized(Base):
    def forward(self, x):
        return self.fc(self.norm(self.lstm(x)[0][:, -1]))


class Smooth(Base):
    def forward(self, x):
        return self.fc(self.act(self.lstm(x)[0][:, -1]))


class Maximum(Base):
    def forward(self, x):
        return self.fc(self.lstm(x)[0].max(1).values)


class CellState(Base):
    def forward(self, x):
        return self.fc(self.lstm(x)[1][1][-1])


class Twice(Base):
    def forward(self, x):
        return self.fc(self.again(self.lstm(self.again(x))[0][:, -1]))


class Remembers(Base):
    state = None

    def forward(self, x):
        out, state = self.lstm(x, self.state)
        self.state = tuple(s.detach() for s in state)
        return self.fc(out[:, -1])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 5)
        self.gru = nn.GRU(5, 5, batch_first=True)
        self.out = nn.Linear(5, 9)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(self.gru(self.embed(x))[0])


class Between(Base):
    """A linear layer between two recurrent ones."""

    def forward(self, x):
        return self.fc(self.above(self.mid(self.lstm(x)[0]))[0][:, -1])


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (LearntStart, UnsupportedModelError, "parameter 'h0' .* zero initial states"),
        (OnesStart, ParityError, "at step"),
        (lambda: Normalized(norm=nn.LayerNorm(5)), UnsupportedModelError, "nn.LayerNorm 'norm'"),
        (lambda: Normalized(norm=nn.BatchNorm1d(5)), UnsupportedModelError, "nn.BatchNorm1d 'norm"),
        (lambda: Smooth(act=nn.GELU()), UnsupportedModelError, "nn.GELU 'act' is no activation"),
        (lambda: Smooth(act=nn.LeakyReLU(0.2)), UnsupportedModelError, "nn.LeakyReLU 'act'"),
        (lambda: Smooth(act=nn.Softmax(1)), ParityError, "does not compute what its parts would"),
        (Maximum, ParityError, "does not compute what its parts would"),
        (CellState, ParityError, "does not compute what its parts would"),
        (Remembers, ParityError, "keeps a state between calls"),
        (Tied, UnsupportedModelError, "'out.weight' is the same as 'embed.weight'|'embed.weight'"),
        (lambda: Base(extra=nn.Linear(5, 5)), UnsupportedModelError, "'extra' plays no part"),
        (lambda: Base(scale=nn.Parameter(torch.ones(1))), UnsupportedModelError, "'scale'"),
        (
            lambda: Between(mid=nn.Linear(5, 6), above=nn.GRU(6, 5, batch_first=True)),
            UnsupportedModelError,
            "do not form a chain",
        ),
        (lambda: torch.jit.trace(Base(), torch.ones(2, 3, 4)), UnsupportedModelError, "TorchScr"),
        (lambda: Base().to("meta"), InputError, "meta device"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_what_is_refused_is_named(make, error, words):
    with pytest.raises(error, match=words):
        from_torch(make())


def test_a_layer_that_is_used_twice_is_refused():
    model = Twice(again=nn.Linear(4, 4))
    model.lstm = nn.LSTM(4, 4, batch_first=True)
    model.fc = nn.Linear(4, 3)
    with pytest.raises(ParityError, match="does not compute what its parts would"):
        from_torch(model)


def test_weights_that_are_not_finite_and_renormalized_embeddings():
    model = Base()
    with torch.no_grad():
        model.lstm.weight_hh_l0[0, 0] = float("nan")
    with pytest.raises(InputError, match="block U_r holds NaN"):
        from_torch(model)
    packed = MeanPool()
    packed.embed = nn.Embedding(15, 4, max_norm=1.0)
    with pytest.raises(UnsupportedModelError, match=r"nn\.Embedding 'embed' has max_norm"):
        from_torch(packed)


class Described(nn.Module):
    """A convolutional cell of its own, that says what it is."""

    def __init__(self, cell="mgu", **changes):
        super().__init__()
        self.cell, self.changes = cell, changes
        drawn = random_network(np.random.default_rng(0), cell)
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.tensor(b.value).float()) for b in drawn.blocks()]
        )
        self.drawn = [drawn]

    def recert_network(self):
        from recert.readers.torch.parity import with_blocks

        values = [w.detach().double().numpy() for w in self.weights]
        named = dict(zip((b.name for b in self.drawn[0].blocks()), values, strict=True))
        named |= self.changes
        return with_blocks(
            self.drawn[0],
            lambda b: Block(b.name, named[b.name], b.norm, positions=b.positions),
        )

    def forward(self, x):
        lengths = np.full(len(x), x.shape[1])
        network = Described.recert_network(self)
        return torch.tensor(network_predictor(network)(x.numpy(), lengths, "last"))


@pytest.mark.parametrize("cell", ["mgu", "conv", "conv_averaged"])
def test_modules_that_describe_themselves(cell):
    model = Described(cell)
    network = as_network(model)
    assert isinstance(network, Network) and network.layers[0].cell == cell
    model.more = nn.Parameter(torch.ones(2))
    with pytest.raises(UnsupportedModelError, match="every parameter be in exactly one block"):
        from_torch(model)
    outside = nn.Module()
    outside.inner, outside.more = Described(cell), nn.Linear(2, 2)
    with pytest.raises(UnsupportedModelError, match=r"parameter 'more\.weight'"):
        from_torch(outside)


def test_a_wrong_description_is_refused():
    model = Described("mgu", b_V=np.zeros(3))
    with pytest.raises(UnsupportedModelError, match="their values differ"):
        from_torch(model)

    class Other(Described):
        def forward(self, x):
            return super().forward(x).flip(1)

    with pytest.raises(ParityError, match="at step"):
        from_torch(Other())

    class Silent(Described):
        def recert_network(self):
            return None

    with pytest.raises(UnsupportedModelError, match="gives a NoneType"):
        from_torch(Silent())


def test_modules_that_are_trained_here_describe_themselves():
    training = pytest.importorskip("recert.training")
    for cell in ("mgu", "conv", "gru"):
        model = training.RecurrentClassifier(6, 4, 3, cell=cell)
        assert as_network(model).digest == model.recert_network().digest
