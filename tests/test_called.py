"""How a module was called when it was compared: in which batches, with lengths or not, as what."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import rnn as rnn_tools

import recert
from recert.errors import InputError, ParityError
from recert.readers.torch import inputs
from recert.readers.torch.parity import BatchError, CallError

T, D, H, K = 6, 3, 5, 3
HOW = {"max_length": T, "input_bound": 4.0, "bounds": "margin_ball"}
HELD = HOW | {"bounds": ["held_out", "margin_ball"]}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def sample(m=80, seed=0):
    """Right-padded sequences, labels, lengths."""
    rng = np.random.default_rng(seed)
    x, y, n = rng.uniform(-1, 1, (m, T, D)), rng.integers(0, K, m), rng.integers(2, T + 1, m)
    x[np.arange(T) >= n[:, None]] = 0.0
    return x, y, n


def full(m=60, seed=5):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (m, T, D)), rng.integers(0, K, m), np.full(m, T)


def facts(certificate):
    return certificate.assumption("predictor").facts


class Last(nn.Module):
    """The last output, of padding if there is any."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(D, H, batch_first=True), nn.Linear(H, K)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Changed(Last):
    """As ``change`` has it."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x))


class Tokens(nn.Module):
    """Of −1 tokens it makes token 0."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(D, 4), nn.GRU(4, H, batch_first=True)
        self.head = nn.Linear(H, K)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x.clamp(min=0)))[0][:, -1])


class Gathered(Last):
    """The output at the last valid step."""

    def forward(self, x, lengths=None):
        n = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
        return self.head(self.rnn(x)[0][torch.arange(len(x)), n - 1])


class Asking(Gathered):
    def forward(self, x, lengths):
        return super().forward(x, lengths)


class Packed(Last):
    def forward(self, x, lengths=None):
        n = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
        packed = rnn_tools.pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][0][-1])


class Unlucky(Last):
    """Every answer is right without lengths; with them it is another one."""

    def forward(self, x, lengths=None):
        every = self.head(self.rnn(x)[0])
        return every if lengths is None else every[:, 0]


# Batches.


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "stream"])
def test_padding_of_later_batches_is_found(kind):
    batches = [full(), sample(), full(seed=7)]
    with pytest.raises(CallError, match=r"padding='cut' .* padding='as given'"):
        recert.certify(Last(), kind(batches), **HOW)
    chosen = recert.certify(Last(), kind(batches), padding="cut", **HOW)
    assert "without padding (with it the model answers otherwise)" in chosen.statement()
    given = recert.certify(Last(), kind(batches), padding="as given", **HOW)
    assert f"padded to {T} steps as given" in given.statement()
    same = recert.certify(Gathered(), kind(batches), padding="cut", **HOW)
    assert "called as model(x, lengths)" in same.statement()


def test_a_loader_that_reuses_its_arrays_is_shown_as_it_was():
    def batches():
        x, y, n = (np.empty_like(part) for part in sample())
        for part in (full(80), sample(), full(80, seed=7)):
            x[:], y[:], n[:] = part
            yield x, y.copy(), n

    with pytest.raises(CallError, match="answers otherwise"):
        recert.certify(Last(), batches(), **HOW)


def test_padding_tokens_of_later_batches_are_found():
    rng = np.random.default_rng(0)
    x, y, n = rng.integers(0, D, (40, T)), rng.integers(0, K, 40), rng.integers(2, T + 1, 40)
    short = np.where(np.arange(T) < n[:, None], x, -1)
    how = {"max_length": T, "bounds": "margin_ball"}
    with pytest.raises(CallError, match="answers otherwise"):
        recert.certify(Tokens(), [(x, y), (short, y)], **how)
    assert recert.certify(Tokens(), [(x, y), (short, y)], padding="cut", **how)


# Lengths that a module may be given.


@pytest.mark.parametrize("model", [Gathered, Packed])
def test_which_call_is_meant_is_said_where_lengths_change_the_answer(model):
    x, y, n = sample()
    with pytest.raises(CallError, match=r"'cut' certifies model\(x, lengths\).*given' model\(x\)"):
        recert.certify(model(), x, y, lengths=n, **HOW)
    cut = recert.certify(model(), x, y, lengths=n, padding="cut", **HOW)
    words = "called as model(x, lengths), on sequences without padding (with it and without lengths"
    assert words in cut.statement()
    assert facts(cut)["apart"] == "without lengths" and facts(cut)["padded"] == (n < T).sum()
    assert "given lengths on" in cut.assumption("predictor").evidence
    given = recert.certify(model(), x, y, lengths=n, padding="as given", **HOW)
    assert f"called as model(x), on sequences padded to {T} steps as given" in given.statement()
    plain = recert.certify(model(), *full()[:2], **HOW)
    assert "called as model(x), cut" in plain.statement()
    for certificate in (cut, given, plain):
        assert recert.verify(certificate)


def test_lengths_that_a_module_asks_for_are_in_its_call():
    x, y, n = sample()
    found = recert.certify(Asking(), x, y, lengths=n, **HOW)
    assert "called as model(x, lengths), on sequences without padding, cut" in found.statement()
    given = recert.certify(Asking(), x, y, lengths=n, padding="as given", **HOW)
    assert f"model(x, lengths of {T} steps each), on sequences padded" in given.statement()
    assert recert.verify(found) and recert.verify(given)


def test_lengths_that_spoil_the_answer_are_found():
    x, y, n = sample()
    with pytest.raises(CallError, match=r"model\(x, lengths\) answers otherwise than model\(x\)"):
        recert.certify(Unlucky(), x, y, lengths=n, **HOW)
    found = recert.certify(Unlucky(), x, y, lengths=n, padding="cut", **HOW)
    assert "called as model(x), on sequences without padding (with it and with lengths" in (
        found.statement()
    )


# Order, and batches.


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("padding", [None, "cut"])
def test_answers_in_the_order_of_lengths_are_refused_however_padding_is_read(padding, descending):
    class Sorting(Last):
        def forward(self, x, lengths):
            n, order = lengths.sort(descending=descending, stable=True)
            packed = rnn_tools.pack_padded_sequence(
                x[order], n, batch_first=True, enforce_sorted=False
            )
            return self.head(self.rnn(packed)[1][0][-1])

    x, y, n = sample()
    with pytest.raises(BatchError, match="another order than it was asked"):
        recert.certify(Sorting(), x, y, lengths=n, padding=padding, **HOW)


def test_an_order_that_depends_on_the_batch_is_refused():
    class Turning(Last):
        def forward(self, x):
            y = super().forward(x)
            return y.flip(0) if len(x) > 1 and x[0, 0, 0] == 2.0 else y

    x, y, _ = full()
    x[-1, 0, 0] = 2.0
    with pytest.raises(BatchError, match="in another order the model answers otherwise"):
        recert.certify(Turning(), x, y, **HOW)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: y if len(y) <= 256 else -y, "in one batch of 300 sequences"),
        (lambda y: torch.cat([y[:256], y[256:].flip(1)]), "in one batch of 300 sequences"),
        (lambda y: y if len(y) > 1 else -y, "asked one sequence alone"),
    ],
)
def test_answers_that_depend_on_the_size_of_the_batch_are_refused(change, words):
    x, y, _ = full(300)
    with pytest.raises(BatchError, match=words):
        recert.certify(Changed(change), x, y, **HOW)


def test_how_a_module_was_compared_is_in_the_row():
    x, y, _ = full(300)
    found = recert.certify(Last(), x, y, **HOW)
    words = "on 300 sequences (in batches of up to 300, alone, in another order)"
    assert words in found.assumption("predictor").evidence
    alone = recert.certify(Changed(lambda y: y.squeeze()), x, y, **HOW)
    assert facts(alone)["alone"] is False and facts(alone)["reordered"] is True
    assert recert.verify(found) and recert.verify(alone)


def test_large_batches_stay_within_a_number_of_values(monkeypatch):
    monkeypatch.setattr(inputs, "MOST_NUMBERS", 50 * T * 4 * H)
    found = recert.certify(Last(), *full(300)[:2], **HOW)
    assert facts(found)["batch"] == 256  # as many as are compared anyway


# Held-out units.


@pytest.mark.parametrize("as_mask", [False, True], ids=["lengths", "mask"])
def test_padding_of_held_out_units_alone_is_found(as_mask):
    (x, y, n), model = sample(), Last()
    held = (x, y, np.arange(T) < n[:, None] if as_mask else n)
    how = HELD | {"holdout": held}
    with pytest.raises(CallError, match="answers otherwise"):
        recert.certify(model, *full()[:2], **how)
    chosen = recert.certify(model, *full()[:2], padding="cut", **how)
    assert "with it the model answers otherwise" in chosen.statement()
    by_lengths = recert.certify(model, *full()[:2], padding="cut", **HELD | {"holdout": (x, y, n)})
    assert chosen.sample["holdout"] == by_lengths.sample["holdout"]


def test_padding_of_held_out_units_is_found_where_the_sample_is_padded_too():
    x, y, n = sample()
    tail = sample(seed=3)
    tail[0][np.arange(T) >= tail[2][:, None]] = 9.0

    class Marked(Gathered):
        def forward(self, x, lengths):
            return super().forward(x, lengths) * torch.where((x == 9.0).any(), -1.0, 1.0)

    with pytest.raises(CallError, match="answers otherwise"):
        recert.certify(Marked(), x, y, lengths=n, holdout=tail, **HELD)


def test_padding_tokens_of_held_out_units_are_found():
    rng = np.random.default_rng(0)
    x, y, n = rng.integers(0, D, (40, T)), rng.integers(0, K, 40), rng.integers(2, T + 1, 40)
    short = np.where(np.arange(T) < n[:, None], rng.integers(0, D, (40, T)), -1)
    how = {"max_length": T, "bounds": ["held_out"], "holdout": (short, y)}
    with pytest.raises(CallError, match="answers otherwise"):
        recert.certify(Tokens(), x, y, **how)
    assert recert.certify(Tokens(), x, y, padding="cut", **how)
    with pytest.raises(InputError, match="holdout must be"):
        recert.certify(Tokens(), x, y, **how | {"holdout": (short,)})


# Number types.


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_type_of_the_weights_is_in_the_row_and_narrow_ones_in_the_statement(kind):
    name = str(kind).removeprefix("torch.")
    x, y, _ = full()
    found = recert.certify(Last().to(kind), x, y, **HOW)
    row = found.assumption("predictor")
    assert row.facts["stored"] == name and row.facts["arithmetic"] == "float64"
    assert f"its weights are stored in {name}, and it was compared in float64" in row.evidence
    said = f"its weights, stored in {name}, computed with in real arithmetic" in found.statement()
    assert said == (name in ("bfloat16", "float16"))
    assert recert.verify(found)


def test_weights_of_several_types_are_said_to_be():
    model = Last()
    model.head.double()
    model.forward = lambda x: model.head(model.rnn(x)[0][:, -1].double())
    found = recert.certify(model, *full()[:2], **HOW)
    assert facts(found)["stored"] == "mixed" and "stored in several types" in found.statement()


@pytest.mark.parametrize(
    "change",
    [
        {"lengths": True, "apart": "with lengths", "padding": "cut"},
        {"apart": "without lengths", "padding": "cut"},
        {"apart": "padding"},
        {"padded": 3},
        {"stored": None},
        {"batch": None},
        {"arithmetic": "bfloat16"},
    ],
)
def test_rows_whose_facts_do_not_go_together_are_none(change):
    row = recert.certify(Last(), *full()[:2], **HOW).assumption("predictor")
    with pytest.raises(InputError):
        dataclasses.replace(row, facts={**row.facts, **change})


def test_chaotic_modules_are_not_taken_for_others():
    """Rounding alone moves the answers of large weights; that is no other order."""
    model = Last()
    with torch.no_grad():
        for weight in model.rnn.parameters():
            weight.mul_(30.0)
    try:
        recert.certify(model, *full()[:2], **HOW)
    except ParityError as error:
        assert not isinstance(error, BatchError)
