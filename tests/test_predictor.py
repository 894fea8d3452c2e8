"""The predictor that is certified is what the user runs: output, call, padding, cut and radius."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import rnn as rnn_tools

import recert
from recert import Enforced
from recert.certificates.schema import seal
from recert.errors import InputError, ParityError, RecertError
from recert.networks.forward import network_predictor
from recert.pac_bayes.bounds import GIBBS_THEOREMS
from recert.readers.torch.calls import NoAnswerError
from recert.readers.torch.parity import CallError
from recert.theorems import THEOREMS

T, D, H, K = 6, 3, 5, 3
HOW = {"max_length": T, "input_bound": 4.0, "bounds": "margin_ball"}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def data(m=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (m, T, D)), rng.integers(0, K, m)


def padded(m=80, seed=0, fill=0.0):
    """Right-padded sequences, labels, lengths."""
    x, y = data(m, seed)
    n = np.random.default_rng(seed + 1).integers(2, T + 1, m)
    x[np.arange(T) >= n[:, None]] = fill
    return x, y, n


def to_the_left(x, n):
    return np.stack([np.roll(row, T - k, axis=0) for row, k in zip(x, n, strict=True)])


class Model(nn.Module):
    """The last output of an LSTM; ``change`` makes of (logits, states) what is returned."""

    def __init__(self, change=None, classes=K, batch_first=True):
        super().__init__()
        self.rnn = nn.LSTM(D, H, batch_first=batch_first)
        self.head = nn.Linear(H, classes)
        self.change = change or (lambda y, states: y)

    def forward(self, x):
        out, states = self.rnn(x)
        return self.change(self.head(out[:, -1] if self.rnn.batch_first else out), states)


Named = namedtuple("Named", "loss logits")
Pair = namedtuple("Pair", "answer other")


@dataclasses.dataclass
class Output:
    hidden: torch.Tensor
    logits: torch.Tensor


@dataclasses.dataclass
class Unnamed:
    first: torch.Tensor
    second: torch.Tensor


def turned(y):
    return y[:, [1, 2, 0]]


@pytest.mark.parametrize(
    ("change", "output"),
    [
        (lambda y, s: (y, s), None),
        (lambda y, s: [y, turned(y)], None),
        (lambda y, s: (y, None), None),
        (lambda y, s: (None, y), None),
        (lambda y, s: {"aux": turned(y), "logits": y}, None),
        (lambda y, s: {"scores": y}, None),
        (lambda y, s: OrderedDict(loss=y.sum(), logits=y), None),
        (lambda y, s: Named(y.sum(), y), None),
        (lambda y, s: Pair(y, turned(y)), None),
        (lambda y, s: Output(s[0], y), None),
        (lambda y, s: SimpleNamespace(aux=turned(y), logits=y), None),
        (lambda y, s: (y.sum(), y), 1),
        (lambda y, s: {"a": turned(y), "b": y}, "b"),
        (lambda y, s: {"logits": turned(y), "raw": y}, "raw"),
        (lambda y, s: Pair(turned(y), y), "other"),
        (lambda y, s: Unnamed(turned(y), y), "second"),
        (lambda y, s: Unnamed(turned(y), y), 1),
    ],
)
def test_the_answer_is_the_first_output_the_one_called_logits_or_the_one_named(change, output):
    x, y = data()
    certificate = recert.certify(Model(change), x, y, output=output, **HOW)
    said = certificate.assumption("predictor")
    assert said.sound and "model(x)" in said.statement
    assert "predictor" in certificate["margin_ball"].needs


@pytest.mark.parametrize(
    "change",
    [
        lambda y, s: {"logits": turned(y), "aux": y},
        lambda y, s: (turned(y), y),
        lambda y, s: [y[:, :2], y],
        lambda y, s: Named(y, turned(y)),
        lambda y, s: Output(y, turned(y)),
        lambda y, s: SimpleNamespace(logits=turned(y), aux=y),
        lambda y, s: {"a": y, "b": turned(y)},
        lambda y, s: Unnamed(y, turned(y)),
        lambda y, s: (y.sum(), y),
        lambda y, s: (y.argmax(1), y),
        lambda y, s: {"hidden": s[0], "out": {"logits": y}},
    ],
)
def test_another_tensor_that_matches_is_no_reason_to_accept(change):
    x, y = data()
    with pytest.raises(ParityError, match=r"output"):
        recert.certify(Model(change), x, y, **HOW)


def test_outputs_that_are_not_there_and_names_that_are_none():
    model, (x, _) = Model(lambda y, s: {"a": y, "b": y}), data()
    with pytest.raises(NoAnswerError, match=r"no output 'c'; its outputs are 'a', 'b'"):
        recert.from_torch(model, x, output="c")
    with pytest.raises(NoAnswerError, match=r"none is called 'logits'; name .* with output="):
        recert.from_torch(model, x)
    for wrong in (-1, True, 1.5, "", "a\n"):
        with pytest.raises(InputError, match="output is"):
            recert.from_torch(model, x, output=wrong)
    network = recert.from_torch(model, x, output="a")
    with pytest.raises(InputError, match="leave it out"):
        recert.certify(network, x, data()[1], output="a", **HOW)
    with pytest.raises(InputError, match="steps_first is for torch modules"):
        recert.certify(network, x, data()[1], steps_first=True, **HOW)


def test_classes_are_compared_where_numbers_no_longer_tell():
    class Saturated(Model):
        def forward(self, x):
            return torch.sigmoid(super().forward(x))

    x, y = data()
    model = Saturated()
    assert recert.certify(model, x, y, **HOW)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([40.0, 60.0, 90.0]))
    with pytest.raises(ParityError, match="predicts another class"):
        recert.certify(model, x, y, **HOW)


def test_tiny_logits_do_not_pass_for_others():
    with torch.no_grad():
        model = Model(lambda y, s: turned(y))
        model.head.weight.mul_(1e-12)
        model.head.bias.mul_(1e-12)
    x, y = data()
    with pytest.raises(ParityError):
        recert.certify(model, x, y, **HOW)


def test_a_model_that_is_another_in_its_own_precision_is_refused():
    class Narrow(Model):
        def forward(self, x):
            y = super().forward(x)
            return turned(y) if x.dtype == torch.float32 else y

    x, y = data()
    with pytest.raises(ParityError, match="run in float32, the model predicts another class"):
        recert.certify(Narrow(), x, y, **HOW)


def test_every_token_is_in_a_sequence_that_is_compared():
    class Spoiled(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = nn.Embedding(9, 4), nn.GRU(4, 5, batch_first=True)
            self.head = nn.Linear(5, 2)

        def forward(self, x):
            y = self.head(self.rnn(self.embed(x))[0][:, -1])
            return torch.where((x == 7).any(1, keepdim=True), -y, y)

    rng = np.random.default_rng(0)
    x = rng.integers(0, 7, (5000, 8))
    model = Spoiled()
    assert recert.certify(model, x, x[:, 0] % 2, max_length=8, bounds="margin_ball")
    x[2718, 3] = 7
    with pytest.raises(ParityError, match="sequence 2718"):
        recert.certify(model, x, x[:, 0] % 2, max_length=8, bounds="margin_ball")


# Steps first.


def test_steps_first_is_refused_where_model_of_x_runs_too_and_said_where_chosen():
    x, _ = data()
    y = np.zeros((len(x), T), dtype=int)
    how = HOW | {"at": "average"}
    model = Model(lambda out, s: out, batch_first=False)
    with pytest.raises(CallError, match=r"batch_first=True, or pass steps_first=True"):
        recert.certify(model, x, y, **how)
    with pytest.raises(ParityError):
        recert.certify(model, x, y, steps_first=False, **how)
    certificate = recert.certify(model, x, y, steps_first=True, **how)
    assert "called as model(x with steps first)" in certificate.statement()
    facts = certificate.assumption("predictor").facts
    assert facts["steps_first"] is True and facts["layout"] == "T, n, K"
    with pytest.raises(ParityError):
        recert.certify(Model(), x, data()[1], steps_first=True, **HOW)
    with pytest.raises(InputError, match="steps_first is 1"):
        recert.certify(model, x, y, steps_first=1, **how)


def test_the_layout_of_answers_is_in_the_row():
    class Tagger(Model):
        def forward(self, x):
            return self.head(self.rnn(x)[0]).transpose(1, 2)

    x, _ = data()
    certificate = recert.certify(
        Tagger(), x, np.zeros((len(x), T), dtype=int), **HOW | {"at": "average"}
    )
    assert "classes before steps" in certificate.assumption("predictor").evidence


# Padding.


def error_of(model, x, y):
    with torch.no_grad():
        return float((model(torch.tensor(x, dtype=torch.float32)).argmax(1).numpy() != y).mean())


def error_without_padding(model, x, y, n):
    found = [error_of(model, x[i : i + 1, : n[i]], y[i : i + 1]) for i in range(len(x))]
    return float(np.mean(found))


def test_padding_that_changes_the_answer_is_refused_or_chosen():
    (x, y, n), held = padded(), padded(seed=9)
    model = Model()
    how = HOW | {"bounds": ["held_out", "margin_ball"], "holdout": held}
    with pytest.raises(CallError, match=r"padding='cut' .* padding='as given'"):
        recert.certify(model, x, y, lengths=n, **how)
    cut = recert.certify(model, x, y, lengths=n, padding="cut", **how)
    assert "on sequences without padding" in cut.statement()
    assert cut.sample["training_error"] == error_without_padding(model, x, y, n)
    assert cut.sample["holdout"]["error"] == error_without_padding(model, *held)
    given = recert.certify(model, x, y, lengths=n, padding="as given", **how)
    assert f"padded to {T} steps as given" in given.statement()
    assert given.sample["training_error"] == error_of(model, x, y)
    assert given.sample["holdout"]["error"] == error_of(model, held[0], held[1])
    for certificate in (cut, given):
        assert "predictor" in certificate["held_out"].needs
        network = recert.from_torch(model, x, lengths=n, padding=certificate.sample["padding"])
        found = recert.verify(certificate, network, x, y, lengths=n, holdout=held)
        assert found, str(found)


class Packed(Model):
    """Its answers do not depend on padding: lengths are passed, or found, or outputs gathered."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def forward(self, x, lengths=None):
        n = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
        if self.way == "found":
            n = (x != 0).any(-1).sum(1)
        if self.way == "packed":
            packed = rnn_tools.pack_padded_sequence(x, n, batch_first=True)
            return self.head(self.rnn(packed)[1][0][-1])
        if self.way == "unpacked":
            packed = rnn_tools.pack_padded_sequence(x, n, batch_first=True)
            return self.head(rnn_tools.pad_packed_sequence(self.rnn(packed)[0], True)[0])
        out = self.head(self.rnn(x)[0])
        return out if self.way == "every" else out[torch.arange(len(x)), n - 1]


@pytest.mark.parametrize("way", ["every", "found"])
def test_padding_that_changes_nothing_is_accepted(way):
    x, y, n = padded()
    certificate = recert.certify(Packed(way), x, y, lengths=n, **HOW)
    assert "on sequences without padding, cut" in certificate.statement()
    assert certificate.assumption("predictor").facts["apart"] is None


def test_two_directions_read_padding_at_every_step():
    class Tagger(Model):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(D, H, batch_first=True, bidirectional=True)
            self.head = nn.Linear(2 * H, K)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    x, _, n = padded()
    y = np.zeros((len(x), T), dtype=int)
    with pytest.raises(CallError, match="padding"):
        recert.certify(Tagger(), x, y, lengths=n, **HOW | {"at": "average"})
    with pytest.raises(InputError, match="at='last' only"):
        recert.certify(Tagger(), x, y, lengths=n, padding="as given", **HOW | {"at": "average"})


def test_padding_on_the_left_is_found_and_read():
    x, y, n = padded()
    left, model = to_the_left(x, n), Model()
    mask = np.arange(T) >= (T - n)[:, None]
    for padding in (None, "cut"):
        with pytest.raises(InputError, match=r"stands on the left.*padding='left'"):
            recert.certify(model, left, y, lengths=n, padding=padding, **HOW)
    with pytest.raises(CallError, match=r"padding='left' .* padding='as given'"):
        recert.certify(model, left, y, lengths=mask, **HOW)
    wanted = error_without_padding(model, x, y, n)
    ways = [(n, "left"), (mask, "left"), (mask, "cut"), (torch.tensor(mask), "cut")]
    for lengths, padding in ways:
        found = recert.certify(model, left, y, lengths=lengths, padding=padding, **HOW)
        assert found.sample["training_error"] == wanted
        assert found.sample["padding"] == "left" and "without padding" in found.statement()
        network = recert.from_torch(model, left, lengths=lengths, padding=padding)
        assert recert.verify(found, network, left, y, lengths=lengths)
    for lengths in (n, mask, mask.astype(int)):
        given = recert.certify(model, left, y, lengths=lengths, padding="as given", **HOW)
        assert given.sample["training_error"] == error_of(model, left, y)


def test_a_network_of_arrays_meets_padding_on_the_left_as_well():
    x, y, n = padded()
    left = to_the_left(x, n)
    network = recert.from_torch(Model(), x[:, :2])
    with pytest.raises(InputError, match="stands on the left"):
        recert.certify(network, left, y, lengths=n, **HOW)
    right = recert.certify(network, x, y, lengths=n, **HOW)
    found = recert.certify(network, left, y, lengths=n, padding="left", **HOW)
    assert found.sample["digest"] == right.sample["digest"]
    assert "the network as given, on sequences without padding" in right.statement()
    mask = np.arange(T) < n[:, None]
    assert recert.certify(network, x, y, lengths=mask, **HOW).sample == right.sample
    batches = [(left[i : i + 20], y[i : i + 20], n[i : i + 20]) for i in range(0, 80, 20)]
    found = recert.certify(network, batches, padding="left", **HOW)
    assert found.sample["digest"] == right.sample["digest"]
    ragged = [(x[:, :T], y), (x[:, : T - 1], y)]
    with pytest.raises(InputError, match="depends on its batch"):
        recert.certify(network, ragged, padding="as given", **HOW)


def test_labels_at_every_step_move_with_their_steps():
    x, _, n = padded()
    rng = np.random.default_rng(5)
    y = rng.integers(0, K, (len(x), T))
    y[np.arange(T) >= n[:, None]] = -1
    left, moved = to_the_left(x, n), to_the_left(y, n)
    network, how = recert.from_torch(Model(), x[:, :2]), HOW | {"at": "average"}
    right = recert.certify(network, x, y, lengths=n, **how)
    found = recert.certify(network, left, moved, lengths=n, padding="left", **how)
    assert found.sample["digest"] == right.sample["digest"]
    assert found.sample["training_error"] == right.sample["training_error"]
    mask = np.arange(T) >= (T - n)[:, None]
    one, every = (
        recert.certify(network, left, labels, lengths=mask, padding="as given", **HOW)
        for labels in (moved[:, -1], moved)
    )
    assert one.sample == every.sample
    assert recert.verify(every, network, left, moved, lengths=mask)


def test_tokens_that_are_padded_with_minus_one_on_the_left():
    rng = np.random.default_rng(0)
    n = rng.integers(2, T + 1, 40)
    x = rng.integers(0, D, (40, T))
    right = np.where(np.arange(T) < n[:, None], x, -1)
    left, y = to_the_left(right, n), rng.integers(0, K, 40)
    network = recert.from_torch((nn.RNN(D, H, batch_first=True), nn.Linear(H, K)), right)
    how = {"max_length": T, "bounds": "margin_ball"}
    with pytest.raises(InputError, match=r"stands on the left; pass padding='left'"):
        recert.certify(network, left, y, **how)
    found = recert.certify(network, left, y, padding="left", **how)
    wanted = recert.certify(network, right, y, **how)
    assert found.sample["digest"] == wanted.sample["digest"]
    assert recert.verify(found, network, left, y)
    with pytest.raises(InputError, match="below 0"):
        recert.certify(network, right, y, padding="as given", **how)
    gaps = left.copy()
    gaps[0, 1], gaps[0, -1] = 0, -1
    with pytest.raises(InputError, match="do not stand together"):
        recert.certify(network, gaps, y, padding="left", **how)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"padding": "right"}, "padding is 'right'"),
        ({"padding": "left"}, "needs to know the valid steps"),
        ({"lengths": np.full((80, T), 2)}, "not of zeros and ones"),
        ({"lengths": np.zeros((80, T))}, "has no valid step"),
        ({"lengths": np.tile([1, 0, 1, 1, 0, 1], (80, 1))}, "do not stand together"),
    ],
)
def test_paddings_and_masks_that_are_none(how, words):
    x, y, _ = padded()
    network = recert.from_torch(Model(), x)
    with pytest.raises(InputError, match=words):
        recert.certify(network, x, y, **HOW, **how)


def test_constant_beginnings_are_no_padding_where_what_follows_is_constant():
    x, y, n = padded(fill=7.0)
    x[:, 0] = 0.5
    network = recert.from_torch(Model(), x)
    assert recert.certify(network, x, y, lengths=n, **HOW | {"input_bound": 20.0})


# The row.


def test_every_statement_needs_the_row():
    for theorem in (*THEOREMS, *GIBBS_THEOREMS):
        assert "predictor" in theorem.needs, theorem.name


def test_cut_and_radius_are_in_the_statement_and_in_every_need():
    x, y = data()
    held = data(seed=5)
    network = recert.from_torch(Model(), x)
    found = recert.certify(
        network, x, y, max_length=4, input_bound=Enforced(0.5), holdout=held,
        bounds=["held_out", "margin_ball"],
    )  # fmt: skip
    words = "The predictor is the network as given, cut at 4 steps, inputs scaled to norm at most "
    assert f"{words}0.5." in found.statement()
    assert found.assumption("predictor").status == "enforced"
    plain = recert.certify(network, x, y, holdout=held, bounds=["held_out", "margin_ball"])
    assert "The predictor is the network as given." in plain.statement()
    assert plain.assumption("predictor").status == "declared"
    assert recert.verify(found, network, x, y, holdout=held)
    assert recert.verify(plain, network, x, y, holdout=held)


FORGED = [
    ("cut", 5), ("cut", None), ("radius", None), ("radius", 0.25), ("padding", None),
    ("padding", "as given"), ("padding", "left"), ("width", 3), ("of", "posterior"),
    ("apart", "padding"), ("lengths", True), ("batch", 80), ("stored", "bfloat16"),
    ("layout", "sideways"), ("compared", 0), ("steps_first", 0),
]  # fmt: skip


def resealed(certificate, change):
    plain = copy.deepcopy(certificate.to_json())
    change(plain)
    plain["seal"] = seal(plain)
    return plain


@pytest.mark.parametrize(("name", "value"), FORGED)
def test_a_row_that_says_something_else_does_not_verify(name, value):
    x, y, n = padded()
    network = recert.from_torch(Model(), x)
    found = recert.certify(
        network, x, y, lengths=n, max_length=T, input_bound=Enforced(0.5), bounds="margin_ball"
    )
    assert recert.verify(found)
    row = next(i for i, a in enumerate(found.assumptions) if a.id == "predictor")

    def change(plain):
        facts = plain["assumptions"][row]["facts"]
        facts[name] = value
        try:
            honest = dataclasses.replace(found.assumptions[row], facts=facts)
        except RecertError:
            return
        plain["assumptions"][row].update(statement=honest.statement, evidence=honest.evidence)

    assert not recert.verify(resealed(found, change))


def test_a_certificate_without_the_row_does_not_verify():
    x, y = data()
    network = recert.from_torch(Model(), x)
    found = recert.certify(network, x, y, **HOW)

    def drop(plain):
        plain["assumptions"] = [a for a in plain["assumptions"] if a["id"] != "predictor"]

    def unneeded(plain):
        for bound in plain["bounds"]:
            bound["needs"] = [need for need in bound["needs"] if need != "predictor"]

    for change in (drop, unneeded):
        assert not recert.verify(resealed(found, change))


def test_data_show_padding_that_a_certificate_is_silent_about():
    x, y, n = padded()
    network = recert.from_torch(Model(), x)
    whole = recert.certify(network, x, y, **HOW)
    assert recert.verify(whole, network, x, y)
    assert not recert.verify(whole, network, x, y, lengths=n)


def test_the_first_logits_of_a_module_are_those_of_its_network():
    """What is certified gives the classes that the user's own loop gives."""
    x, _, n = padded()
    model = Packed("packed")
    network = recert.from_torch(model, x, lengths=n, padding="cut")
    order = np.argsort(-n, kind="stable")
    with torch.no_grad():
        inputs = torch.tensor(x[order], dtype=torch.float32)
        own = model(inputs, torch.tensor(n[order])).argmax(1).numpy()
    ours = network_predictor(network)(x[order], n[order], "last").argmax(1)
    np.testing.assert_array_equal(own, ours)


def test_posteriors_say_it_too():
    from recert.pac_bayes.posterior import around
    from recert.pac_bayes.split import assign_roles, part_digest
    from recert.samples.sample import Reading

    x, y, n = padded(200)
    network = recert.from_torch(Model(), x)
    reading = Reading("real", D, K, "last", 4)
    seen = assign_roles(x, y, reading, m_0=50, digest=None, lengths=n).seen
    posterior = around(network, 50, part_digest(seen), 0.1)
    found = recert.certify_posterior(posterior, x, y, lengths=n, max_length=4, seed=1)
    words = "a network drawn from the posterior as given, on sequences without padding, cut at 4"
    assert words in found.statement()
    assert recert.verify(found, posterior, x, y, lengths=n)
    left = to_the_left(x, n)
    mask = np.arange(T) >= (T - n)[:, None]
    again = recert.certify_posterior(posterior, left, y, lengths=mask, max_length=4, seed=1)
    assert again.sample["digest"] == found.sample["digest"]


class Sorted(Model):
    """Sorts a batch by length for packing, and leaves its answers in that order."""

    def forward(self, x, lengths):
        n, order = lengths.sort(descending=True, stable=True)
        packed = rnn_tools.pack_padded_sequence(x[order], n, batch_first=True)
        return self.head(self.rnn(packed)[1][0][-1])


def test_answers_in_another_order_than_the_batch_are_refused():
    x, y, n = padded()
    with pytest.raises(recert.errors.ParityError, match="another order"):
        recert.certify(Sorted(), x, y, lengths=n, **HOW)


def test_padding_of_held_out_units_alone_is_refused_or_chosen():
    x, y, n = padded()
    full = n == n.max()
    x_full, y_full = np.tile(x[full], (1, 1, 1)), y[full]
    how = HOW | {"holdout": (x, y, n)}
    with pytest.raises(recert.errors.ParityError, match="answers otherwise"):
        recert.certify(Model(), x_full, y_full, **how)
    chosen = recert.certify(Model(), x_full, y_full, padding="cut", **how)
    assert "with it the model answers otherwise" in chosen.statement()
