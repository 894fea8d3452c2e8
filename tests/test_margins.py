"""Margins and risks against their definitions, term by term."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recert.errors import InputError
from recert.networks.forward import margins_of, network_predictor
from recert.networks.margins import MarginTable, margin_table
from recert.networks.network import vanilla
from recert.samples.sample import BATCH, Reading, Sample

numbers = st.one_of(
    st.floats(-4, 4), st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0, 1e-300, 2.0**-40, 3.0, 1e9])
)


@st.composite
def tables(draw, slack=True):
    margins = np.array(draw(st.lists(numbers, min_size=1, max_size=30)))
    weights = None
    if draw(st.booleans()):
        raw = [draw(st.integers(1, 5)) for _ in margins]
        weights = np.array([r / sum(raw) for r in raw])
    eta = draw(st.sampled_from([0.0, 1e-9, 0.25, 3.0])) if slack else 0.0
    return MarginTable(margins, len(margins), "sequence", weights, eta)


def exact_weights(table):
    if table.weights is None:
        return [Fraction(1, table.m)] * table.m
    return [Fraction(w) for w in table.weights]


def hard(table, gamma):
    limit = Fraction(gamma) + Fraction(table.slack)
    pairs = zip(table.margins, exact_weights(table), strict=True)
    return sum((w for a, w in pairs if Fraction(a) <= limit), Fraction(0))


def ramp(table, gamma):
    total = Fraction(0)
    for a, w in zip(table.margins, exact_weights(table), strict=True):
        low = Fraction(a) - Fraction(table.slack)
        total += w * min(Fraction(1), max(Fraction(0), 1 - low / Fraction(gamma)))
    return total


@settings(max_examples=300, deadline=None)
@given(tables(), st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.5, 1e-6, 1e3]), min_size=1))
def test_risks_are_their_definitions_and_never_err_low(table, gammas):
    found_hard, found_ramp = table.hard_risk(np.array(gammas)), table.ramp_risk(np.array(gammas))
    for gamma, h, r in zip(gammas, found_hard, found_ramp, strict=True):
        want_h, want_r = hard(table, gamma), ramp(table, gamma)
        # Sums of weights round by at most a few units in the last place.
        assert Fraction(float(h)) >= min(want_h, Fraction(1)) * (1 - Fraction(1, 2**52))
        assert float(h) <= float(want_h) + 3e-12
        assert Fraction(float(r)) >= min(want_r, Fraction(1)) * (1 - Fraction(1, 2**52))
        largest = float(np.abs(table.margins).max())
        assert float(r) <= float(want_r) + 3e-12 * (1 + (largest + table.slack) / gamma)
        assert float(r) <= float(h) + 3e-12 * (1 + (largest + table.slack) / gamma)
        assert float(table.hard_risk(gamma)) == h and float(table.ramp_risk(gamma)) == r


@settings(max_examples=100, deadline=None)
@given(tables(slack=False))
def test_error_counts_ties_and_ignores_slack(table):
    wrong = sum(w for a, w in zip(table.margins, exact_weights(table), strict=True) if a <= 0)
    for slack in (0.0, 0.5):
        assert table.with_slack(slack).error == pytest.approx(float(wrong), abs=1e-12)
    assert table.zero_one == (table.weights is None)
    assert table.errors() == int((table.margins <= 0).sum())
    assert float(table.hard_risk(1e-12)) >= float(wrong) * (1 - 2.0**-52)


def test_a_margin_exactly_at_gamma_counts():
    table = MarginTable(np.array([0.0, 0.5, 1.0]), 3)
    assert table.hard_risk([0.5, 0.4999, 1.0]).tolist() == [2 / 3, 1 / 3, 1.0]
    assert float(table.with_slack(0.25).hard_risk(0.25)) == 2 / 3
    assert float(table.ramp_risk(1.0)) == pytest.approx(0.5, abs=1e-11)


def test_infinite_slack_counts_every_unit():
    table = MarginTable(np.array([5.0, 7.0]), 2, slack=math.inf)
    assert table.hard_risk([0.1, 4.0]).tolist() == [1.0, 1.0]
    assert table.ramp_risk([0.1, 4.0]).tolist() == [1.0, 1.0]
    weighted = MarginTable(np.array([5.0, 7.0]), 2, weights=np.array([0.5, 0.5]), slack=math.inf)
    assert float(weighted.hard_risk(1.0)) == 1.0


@pytest.mark.parametrize("n", [10**6, 3 * 10**6])
def test_risks_of_large_samples_do_not_err_low(n):
    """A running sum of n equal weights drifts by far more than 1e-12 at this size."""
    margins = np.full(n, -1.0)
    margins[n // 2 :] = 5.0
    weighted = MarginTable(margins, n, weights=np.full(n, 1.0 / n))
    exact = Fraction(1.0 / n) * (n // 2)
    assert Fraction(float(weighted.hard_risk(0.5))) >= exact
    plain = MarginTable(margins, n)
    assert Fraction(float(plain.ramp_risk(0.5))) >= Fraction(1, 2)
    assert float(plain.ramp_risk(0.5)) <= 0.5 + 1e-7
    flat = MarginTable(np.full(n, 0.375), n)
    assert Fraction(float(flat.ramp_risk(0.5))) >= Fraction(1, 4)
    assert float(flat.ramp_risk(0.5)) <= 0.25 + 1e-7


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_margins_of_is_own_minus_best_other(seed):
    rng = np.random.default_rng(seed)
    n, T, K = int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(2, 6))
    y = rng.integers(-2, 3, size=(n, T, K)).astype(float)
    z = rng.integers(0, K, size=(n, T))
    M = margins_of(y, z)
    for i in range(n):
        for t in range(T):
            others = [y[i, t, j] for j in range(K) if j != z[i, t]]
            assert M[i, t] == y[i, t, z[i, t]] - max(others)


def naive_states(net, x, activation):
    """Logits after every step by the equations, one sequence at a time."""
    U, W, V = (net.block(k).value for k in "UWV")
    b, b_V = net.block("b").value, net.block("b_V").value
    h, out = np.zeros(len(U)), []
    for x_t in x:
        read = W[:, x_t] if np.ndim(x_t) == 0 else W @ x_t
        z = U @ h + read + b
        h = np.tanh(z) if activation == "tanh" else np.maximum(z, 0)
        out.append(V @ h + b_V)
    return out


def some_network(rng, activation, kind, d_x):
    return vanilla(
        rng.normal(size=(4, 4)) * 0.4,
        rng.normal(size=(4, d_x)),
        rng.normal(size=(3, 4)),
        b=rng.normal(size=4),
        b_V=rng.normal(size=3),
        activation=activation,
        input_kind=kind,
    )


def naive_margins(net, x, labels, lengths, at, activation):
    """One list of margins per sequence: those that its loss reads."""
    out = []
    for row, z, n in zip(x, labels, lengths, strict=True):
        y = naive_states(net, row[:n], activation)
        steps = {"last": [n - 1], "average": range(n)}.get(at) or [int(at) - 1]
        one = []
        for t in steps:
            label = z if np.ndim(z) == 0 else z[t]
            one.append(y[t][label] - max(y[t][j] for j in range(3) if j != label))
        out.append(one)
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["tanh", "relu"]),
    st.sampled_from(["onehot", "real"]),
    st.sampled_from(["last", "average", 2]),
    st.sampled_from(["plain", "groups", "batches"]),
    st.booleans(),
)
def test_margin_table_is_the_naive_loop(seed, activation, kind, at, how, per_step):
    rng = np.random.default_rng(seed)
    m, T, d_x = 9, 5, 3
    net = some_network(rng, activation, kind, d_x)
    lengths = rng.integers(2, T + 1, size=m)
    valid = np.arange(T)[None] < lengths[:, None]
    if kind == "onehot":
        x = np.where(valid, rng.integers(0, d_x, size=(m, T)), -1)
    else:
        x = np.where(valid[..., None], rng.normal(size=(m, T, d_x)), np.nan)  # padding is not read
    if at == "average" or per_step:
        labels = np.where(valid, rng.integers(0, 3, size=(m, T)), -1)
    else:
        labels = rng.integers(0, 3, size=m)
    want = naive_margins(net, x, labels, lengths, at, activation)
    reading = Reading(kind, d_x, 3, at)
    if how == "batches":
        cuts = [(0, 4), (4, 5), (5, 9)]
        source = iter([(x[a:b], labels[a:b], lengths[a:b]) for a, b in cuts])
        sample = Sample(source, None, reading)
    else:
        sample = Sample(x, labels, reading, lengths=lengths)
    groups = np.array(list("abacbabca")) if how == "groups" else None
    table = margin_table(sample, network_predictor(net), groups=groups)
    np.testing.assert_allclose(table.margins, np.concatenate(want), rtol=1e-10, atol=1e-11)
    ids = np.arange(m) if groups is None else groups
    units = {g: [i for i in range(m) if ids[i] == g] for g in ids}
    assert table.m == len(units)
    weight = []
    for i in range(m):
        size = len(units[ids[i]])
        weight += [1 / (len(units) * size * len(want[i]))] * len(want[i])
    if at != "average" and how != "groups":
        assert table.weights is None and table.zero_one
    else:
        np.testing.assert_allclose(table.weights, weight, rtol=1e-12)
    risk = np.mean(
        [np.mean([np.mean([a <= 0 for a in want[i]]) for i in u]) for u in units.values()]
    )
    assert table.error == pytest.approx(risk, abs=1e-12)


@pytest.mark.parametrize("at", ["last", "average", 1])
def test_batch_boundaries_change_nothing(at):
    rng = np.random.default_rng(5)
    m, T = BATCH + 3, 3
    net = some_network(rng, "tanh", "onehot", 4)
    x = rng.integers(0, 4, size=(m, T))
    labels, lengths = rng.integers(0, 3, size=(m, T)), rng.integers(1, T + 1, size=m)
    reading = Reading("onehot", 4, 3, at)
    calls = []
    whole = margin_table(
        Sample(x, labels, reading, lengths=lengths), network_predictor(net), progress=calls.append
    )
    assert calls == [BATCH, 3]
    pieces = [slice(a, a + 1000) for a in range(0, m, 1000)]
    batches = ((x[s], labels[s], lengths[s]) for s in pieces)
    parts = margin_table(Sample(batches, None, reading), network_predictor(net))
    np.testing.assert_allclose(whole.margins, parts.margins, rtol=1e-13, atol=1e-14)
    assert (whole.m, len(whole.margins)) == (m, int(lengths.sum()) if at == "average" else m)
    edge = slice(BATCH - 2, BATCH + 3)
    want = naive_margins(net, x[edge], labels[edge], lengths[edge], at, "tanh")
    start = int(lengths[: BATCH - 2].sum()) if at == "average" else BATCH - 2
    got = whole.margins[start:]
    np.testing.assert_allclose(got, np.concatenate(want), rtol=1e-10, atol=1e-11)


def test_averages_weigh_every_sequence_alike():
    net = vanilla(np.zeros((1, 1)), np.array([[1.0, -1.0]]), np.array([[1.0], [-1.0]]))
    x = np.array([[0, -1, -1], [1, 1, 1]])
    labels = np.array([[0, -1, -1], [0, 0, 0]])
    table = margin_table(
        Sample(x, labels, Reading("onehot", 2, 2, "average")), network_predictor(net)
    )
    assert table.margins.shape == (4,)
    np.testing.assert_allclose(table.weights, [1 / 2, 1 / 6, 1 / 6, 1 / 6], rtol=1e-15)
    assert table.error == pytest.approx(0.5)


def test_what_is_not_finite_or_does_not_match_is_refused():
    net = vanilla(np.zeros((1, 1)), np.array([[1.0, -1.0]]), np.array([[1.0], [-1.0]]))
    x, labels = np.array([[0, 1]]), np.array([0])
    reading = Reading("onehot", 2, 2)
    with pytest.raises(InputError, match="groups have shape"):
        margin_table(Sample(x, labels, reading), network_predictor(net), groups=[1, 2])

    def overflowing(x, lengths, at):
        return np.tile([np.inf, 1.0], (len(x), 1))

    with pytest.raises(InputError, match="overflow"):
        margin_table(Sample(x, labels, reading), overflowing)
