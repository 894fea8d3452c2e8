"""Gates: measured against equations written afresh, bounded class-wide, and the rates they give."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from family import random_network
from recert import report as plots
from recert.errors import InputError
from recert.networks import reading
from recert.networks.cells import CELLS
from recert.networks.forward import NumbersAlgebra
from recert.networks.layers import Bidirectional, layer_of
from recert.networks.network import Block, Head, Network
from recert.numerics.rounding import rounded_up, significant_up
from recert.report.gates import curves, gate_report, table
from recert.samples.sample import Reading, Sample
from recert.sensitivities import gate_ranges
from recert.sensitivities.gate_ranges import (
    classwide_gates,
    measured_gates,
    printed_gates,
)
from recert.sensitivities.growth_rates import SLOPE, rates

GATED = ("mgu", "gru", "gru_original", "lstm")
CLOSE = {"rel": 1e-12, "abs": 1e-15}


def real_batches(rng, *, d_x=4, m=30, T=9, sizes=(11, 19)):
    """Vectors of norm at most 1, in batches of these sizes, with lengths 1..T."""
    x = rng.standard_normal((m, T, d_x))
    x /= np.maximum(1.0, np.linalg.norm(x, axis=2, keepdims=True))
    lengths = rng.integers(1, T + 1, m)
    lengths[0] = T
    cuts = np.cumsum(sizes)[:-1]
    parts = zip(*(np.split(v, cuts) for v in (x, np.zeros(m, dtype=int), lengths)), strict=True)
    return x, lengths, list(parts)


def sample_of(network, parts):
    return Sample(iter(parts), None, Reading(network.input_kind, network.d_x, network.K))


# --- an oracle: the cells once more, in plain numpy, one sequence at a time ----------


def sigma(v):
    return 1.0 / (1.0 + np.exp(-v))


def oracle_step(layer, x, h, c):
    """Gates by letter, new h and c."""
    A = {role: block.value for role, block in layer.blocks.items()}

    def affine(gate, state):
        return A[f"W_{gate}"] @ x + A[f"U_{gate}"] @ state + A.get(f"b_{gate}", 0.0)

    found = {gate: sigma(affine(gate, h)) for gate in layer.spec.sigmoids}
    r = found["r"]
    if layer.cell == "mgu":
        return found, (1 - r) * h + r * np.tanh(affine("h", r * h)), c
    if layer.cell == "lstm":
        c = found["g"] * c + r * np.tanh(affine("c", h))
        h = found["o"] * np.tanh(c)
        return found, (A["P"] @ h if "P" in A else h), c
    if layer.cell == "gru":
        inner = A["U_n"] @ h + A.get("b_hn", 0.0)
        n = np.tanh(A["W_n"] @ x + A.get("b_n", 0.0) + r * inner)
    else:
        n = np.tanh(affine("n", r * h))
    return found, (1 - found["z"]) * n + found["z"] * h, c


def oracle(network, x, lengths):
    """(layer, direction, gate, step) → the largest entry and the largest of 1 − entry."""
    found: dict[tuple, np.ndarray] = {}
    for sequence, length in zip(x, lengths, strict=True):
        values = list(sequence[:length])
        for index, layers in enumerate(network.layers):
            outputs = []
            for direction, layer in zip(("forward", "backward"), layers.directions, strict=False):
                h, c, out = np.zeros(layer.d_out), np.zeros(layer.d_h), []
                for step, v in enumerate(values if direction == "forward" else values[::-1]):
                    opened, h, c = oracle_step(layer, v, h, c)
                    out.append(h)
                    for gate, r in opened.items():
                        key = (index, direction, gate, step)
                        new = np.array([r.max(), (1 - r).max()])
                        found[key] = np.maximum(found.get(key, new), new)
                outputs.append(out if direction == "forward" else out[::-1])
            values = [np.concatenate(pair) for pair in zip(*outputs, strict=True)]
    return found


SHAPES = [
    {},
    {"bias": False},
    {"layers": 2},
    {"two_way": True},
    {"two_way": True, "layers": 2, "read": "final"},
    {"read": "mean", "layers": 2},
]


@pytest.mark.parametrize("cell", GATED)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_measured_gates_are_the_equations_own(cell, shape):
    rng = np.random.default_rng(1)
    network = random_network(rng, cell, scale=2.0, **shape)
    x, lengths, parts = real_batches(rng)
    found = measured_gates(network, sample_of(network, parts))
    exact = oracle(network, x, lengths)
    assert found.kind == "estimate" and found.steps == 9
    assert len(found.ranges) * 9 == len(exact)
    for (layer, direction, gate, step), (largest, complement) in exact.items():
        got = found.of(gate, layer, direction)
        assert got.largest[step] == pytest.approx(largest, **CLOSE)
        assert got.complement[step] == pytest.approx(complement, **CLOSE)


def test_dense_sigmoids_and_other_cells_are_not_gates():
    rng = np.random.default_rng(2)
    x, lengths, parts = real_batches(rng)
    dense = random_network(rng, "lstm", proj=3, encoder=5, hidden=5, head_activation="sigmoid")
    found = measured_gates(dense, sample_of(dense, parts))
    assert [r.gate for r in found.ranges] == ["g", "r", "o"]
    encoded = sigma(x @ dense.encoder[0].A.value.T + dense.encoder[0].b.value)
    exact = oracle(dense, encoded, lengths)
    assert found.of("o").largest[4] == pytest.approx(exact[0, "forward", "o", 4][0], **CLOSE)
    for cell in ("vanilla", "conv", "conv_averaged"):
        other = random_network(rng, cell)
        assert measured_gates(other, sample_of(other, parts)).ranges == ()


def test_measured_gates_of_tokens():
    rng = np.random.default_rng(3)
    network = random_network(rng, "gru", tokens=True, d_x=5)
    tokens = rng.integers(0, 5, (20, 6))
    tokens[:10, 4:] = -1
    lengths = np.array([4] * 10 + [6] * 10)
    found = measured_gates(network, sample_of(network, [(tokens, np.zeros(20, dtype=int))]))
    exact = oracle(network, np.eye(5)[tokens], lengths)
    assert found.of("z").largest[5] == pytest.approx(exact[0, "forward", "z", 5][0], **CLOSE)


def test_no_sequences_and_no_numbers():
    rng = np.random.default_rng(4)
    network = random_network(rng, "mgu")
    with pytest.raises(InputError, match="without sequences"):
        measured_gates(network, [])
    with pytest.raises(InputError, match="no range of gate 'z' of layer 0 forward"):
        measured_gates(network, sample_of(network, real_batches(rng)[2])).of("z")


# --- class-wide ----------


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_measured_gates_are_within_the_class(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    cell = data.draw(st.sampled_from(GATED))
    network = random_network(
        rng,
        cell,
        bias=data.draw(st.booleans()),
        layers=data.draw(st.integers(1, 2)),
        two_way=data.draw(st.booleans()),
        proj=data.draw(st.sampled_from([0, 3])) if cell == "lstm" else 0,
        scale=10.0 ** data.draw(st.floats(-1.5, 1.0)),
        encoder=data.draw(st.sampled_from([0, 3])),
    )
    _, _, parts = real_batches(rng)
    measured = measured_gates(network, sample_of(network, parts))
    bound = classwide_gates(network, steps=9)
    loose = classwide_gates(
        network, steps=9, caps={block.name: block.norm_bound() for block in network.blocks()}
    )
    assert bound.kind == "bound"
    for found in measured.ranges:
        key = (found.gate, found.layer, found.direction)
        s, wide = bound.of(*key), loose.of(*key)
        assert np.all(found.largest <= s.largest) and np.all(found.complement <= s.complement)
        assert np.all(np.diff(s.largest) >= 0) and np.all(s.largest <= 1)
        assert np.all(s.largest <= wide.largest * (1 + 1e-9))


@pytest.mark.parametrize("cell", GATED)
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("tokens", [False, True])
def test_the_printed_range(cell, scale, tokens):
    network = paper_network(np.random.default_rng(5), cell, scale=scale, tokens=tokens)
    printed = printed_gates(network, steps=7)
    calculus = classwide_gates(network, steps=7)
    assert printed.kind == "order" and not printed.reason
    for gate in CELLS[cell].sigmoids:
        W, U = (network.block(f"{letter}_{gate}").value for letter in "WU")
        reach = np.linalg.norm(W, 2) + np.abs(U).sum(axis=1).max()
        exact = 1 / (1 + mp.exp(-mp.mpf(reach)))
        for values in (printed.of(gate).largest, printed.of(gate).complement):
            assert values.shape == (7,) and values == pytest.approx(float(exact), rel=1e-9)
        assert np.all(calculus.of(gate).largest <= printed.of(gate).largest * (1 + 1e-9))


def paper_network(rng, cell, **shape):
    """One of the paper's networks: no bias, not even in the head."""
    network = random_network(rng, cell, bias=False, **shape)
    return replace(network, head=replace(network.head, b=None))


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"layers": 2}, "one layer"),
        ({"two_way": True}, "one direction"),
        ({"proj": 3}, "no projection"),
        ({"tokens": True, "embedding": 3}, "no embedding"),
        ({"encoder": 3}, "no dense layers"),
        ({"hidden": 3}, "no dense layers"),
        ({"bias": True}, "no biases"),
        ({"read": "mean"}, "at one step"),
    ],
)
def test_where_the_printed_range_is_silent(shape, reason):
    network = random_network(np.random.default_rng(6), "lstm", **{"bias": False} | shape)
    if "hidden" not in shape and "encoder" not in shape and "bias" not in shape:
        network = paper_network(np.random.default_rng(6), "lstm", **shape)
    found = printed_gates(network, steps=3)
    assert found.ranges == () and reason in found.reason
    with pytest.raises(InputError, match=reason):
        rates(network, found)


def test_class_wide_bounds_at_a_horizon_of_a_million():
    network = paper_network(np.random.default_rng(7), "lstm", scale=0.1)
    s = classwide_gates(network, steps=10**6).of("g").largest
    short = classwide_gates(network, steps=300).of("g").largest
    assert s.shape == (10**6,) and np.array_equal(s[:300], short)
    assert s[-1] == s[10**4]


def test_bounds_that_do_not_come_to_rest_are_refused(monkeypatch):
    monkeypatch.setattr(gate_ranges, "MOST_STEPS", 5)
    network = paper_network(np.random.default_rng(8), "lstm")
    with pytest.raises(InputError, match="still move after 5 steps"):
        classwide_gates(network, steps=10**6)


@pytest.mark.parametrize("function", [classwide_gates, printed_gates])
def test_bad_arguments(function):
    rng = np.random.default_rng(9)
    network, tokens = paper_network(rng, "mgu"), paper_network(rng, "mgu", tokens=True)
    for steps in (0, -1, 2.5, True, None):
        with pytest.raises(InputError, match=r"^steps is [^\n]*$"):
            function(network, steps=steps)
    for bound in (-1.0, math.nan, math.inf, "1"):
        with pytest.raises(InputError, match=r"^input_bound is [^\n]*$"):
            function(network, steps=3, input_bound=bound)
    with pytest.raises(InputError, match="one-hot inputs have norm 1"):
        function(tokens, steps=3, input_bound=2.0)
    assert function(network, steps=3, input_bound=0.0).of("r").largest[0] >= 0.5
    with pytest.raises(InputError, match="caps are missing"):
        classwide_gates(network, steps=3, caps={"V": 1.0})


# --- rates ----------


def exact_rates(network, found, t, repaired):
    """β_t and θ_t of a network of one layer, in mpmath, straight from the table."""
    (layer,) = network.directions()
    B = {k: mp.mpf(float(np.linalg.norm(b.value, 2))) for k, b in layer.blocks.items()}
    B |= {k: v * B["P"] for k, v in B.items() if "P" in B and k[0] == "U"}
    slope = mp.mpf("0.25") if repaired else mp.mpf(1)
    upper = {r.gate: [mp.mpf(float(v)) for v in r.largest[:t]] for r in found.ranges}
    lower = {r.gate: [mp.mpf(float(v)) for v in r.complement[:t]] for r in found.ranges}
    if layer.cell == "mgu":
        pairs = zip(lower["r"], upper["r"], strict=True)
        beta = max(q + B["U_h"] * r**2 for q, r in pairs)
        return beta, beta + slope * (2 * B["U_r"] + B["U_r"] * B["U_h"])
    if layer.cell == "lstm":
        g, r, o = (upper[gate] for gate in "gro")
        if not repaired:
            beta = max(a + B["U_c"] * b * c for a, b, c in zip(g, r, o, strict=True))
            return beta, beta + B["U_g"] + B["U_r"] + B["U_o"]
        g, r, o = max(g), max(r), max(o)
        c = r * sum(g**j for j in range(t - 1))
        move = o * c * B["U_g"] + o * B["U_r"] + B["U_o"]
        beta = g + B["U_c"] * r * o
        return beta, beta + move / 4
    pairs = zip(upper["z"], lower["z"], upper["r"], strict=True)
    beta = max(z + q * B["U_n"] * r for z, q, r in pairs)
    kappa = B["U_n"]
    if layer.cell == "gru":
        kappa = mp.mpf(float(np.abs(layer.blocks["U_n"].value).sum(axis=1).max()))
        kappa = min(kappa, mp.sqrt(layer.d_h) * B["U_n"])
        if "b_hn" in layer.blocks:
            kappa += mp.mpf(float(np.linalg.norm(layer.blocks["b_hn"].value)))
    return beta, beta + slope * (2 * B["U_z"] + kappa * B["U_r"])


@pytest.mark.parametrize(
    ("cell", "shape"),
    [(cell, {"bias": bias}) for cell in GATED for bias in (True, False)] + [("lstm", {"proj": 3})],
    ids=str,
)
@pytest.mark.parametrize("repaired", [False, True])
def test_rates_against_the_table(cell, repaired, shape):
    rng = np.random.default_rng(10)
    network = random_network(rng, cell, scale=1.5, **shape)
    _, _, parts = real_batches(rng)
    for found in (measured_gates(network, sample_of(network, parts)),
                  classwide_gates(network, steps=9)):  # fmt: skip
        (got,) = rates(network, found, repaired=repaired)
        assert (got.cell, got.source, got.repaired) == (cell, found.source, repaired)
        for t in (1, 2, 9):
            beta, theta = exact_rates(network, found, t, repaired)
            assert got.beta[t - 1] == pytest.approx(float(beta), rel=1e-9)
            assert got.theta[t - 1] == pytest.approx(float(theta), rel=1e-9)
        assert np.all(np.diff(got.beta) >= 0) and np.all(np.diff(got.theta) >= 0)


def test_rates_of_cells_without_gates():
    rng = np.random.default_rng(11)
    network = random_network(rng, "vanilla")
    (got,) = rates(network, classwide_gates(network, steps=4))
    assert got.beta == pytest.approx([np.linalg.norm(network.block("U").value, 2)] * 4)
    assert got.theta is got.beta
    (capped,) = rates(
        network,
        printed_gates(paper_network(rng, "vanilla"), steps=2),
        caps={b.name: 0.5 for b in network.blocks()},
    )
    assert capped.beta == pytest.approx([0.5, 0.5])
    averaged = random_network(rng, "conv_averaged")
    (got,) = rates(averaged, classwide_gates(averaged, steps=1))
    assert got.beta[0] == pytest.approx(averaged.block("U").norm_bound() / math.sqrt(3))


def test_every_layer_and_direction_has_its_rates():
    network = random_network(np.random.default_rng(12), "gru", layers=2, two_way=True)
    assert all(isinstance(layer, Bidirectional) for layer in network.layers)
    got = rates(network, classwide_gates(network, steps=3))
    assert [(r.layer, r.direction) for r in got] == [
        (0, "forward"), (0, "backward"), (1, "forward"), (1, "backward")
    ]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_step_multiplies_by_no_more_than_the_rates(data):
    """Two states of one network that then read the same input come closer to, or part by ≤ θ."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    cell = data.draw(st.sampled_from(GATED))
    scale, T = 10.0 ** data.draw(st.floats(-1, 1)), data.draw(st.integers(2, 12))
    network = random_network(rng, cell, bias=data.draw(st.booleans()), scale=scale)
    found = classwide_gates(network, steps=T)
    (stage,) = reading.stages(network)
    algebra = NumbersAlgebra(network)
    xs = rng.standard_normal((T, 2, 4))
    xs /= np.linalg.norm(xs, axis=2, keepdims=True)
    xs[-1, 1] = xs[-1, 0]
    trace = [tuple(np.zeros((2, dim)) for dim in stage.dimensions)]
    for x in xs:
        trace.append(stage.step(algebra, x, trace[-1]))
    o = found.of("o").up_to(T)[0] if cell == "lstm" else 1.0
    for repaired in (True, False):
        if cell == "lstm" and not repaired:
            continue  # erratum 11
        (got,) = rates(network, found, repaired=repaired)
        before, after = (gap(states, o) for states in trace[-2:])
        assert after <= got.theta[-1] * before * (1 + 1e-9) + 1e-13


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_without_input_the_state_grows_by_no_more_than_beta(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    cell = data.draw(st.sampled_from(GATED))
    scale, T = 10.0 ** data.draw(st.floats(-1, 1)), data.draw(st.integers(2, 8))
    network = random_network(rng, cell, bias=False, scale=scale)
    found = classwide_gates(network, steps=T)
    (got,) = rates(network, found, repaired=True)
    (stage,) = reading.stages(network)
    states = tuple(np.zeros((1, dim)) for dim in stage.dimensions)
    for t in range(T):
        x = np.zeros((1, 4)) if t == T - 1 else rng.standard_normal((1, 4))
        before = states
        states = stage.step(NumbersAlgebra(network), x / max(1.0, float(np.linalg.norm(x))), states)
    o = found.of("o").up_to(T)[0] if cell == "lstm" else 1.0
    sizes = [max(np.linalg.norm(s[-1]), np.linalg.norm(s[0]) / o) for s in (before, states)]
    assert sizes[1] <= got.beta[-1] * sizes[0] * (1 + 1e-9) + 1e-13


def gap(states, o):
    """F = max(‖c − c'‖, ‖h − h'‖/ô), ‖h − h'‖ without c."""
    h = np.linalg.norm(states[0][0] - states[0][1])
    if len(states) == 1:
        return h
    return max(np.linalg.norm(states[1][0] - states[1][1]), h / o)


# Instances in which one term of θ is nearly attained. Unit 0 is driven to a limit by x = e_0, unit
# 1 is moved a little at the last step but one (e_1), and U hands the move on at the last one (e_2).
DRIVE = {
    "mgu": {"W_r": {(0, 0): 10}, "W_h": {(0, 0): -10, (1, 1): 1}},
    "gru": {"W_z": {(0, 0): -10}, "W_n": {(0, 0): -10, (1, 1): 1}},
    "lstm": {"W_g": {(0, 0): 10}, "W_r": {(0, 0): 10}, "W_o": {(0, 0): 10, (1, 0): 10},
             "W_c": {(0, 0): 10, (1, 1): 1}},
}  # fmt: skip
DRIVE["gru_original"] = DRIVE["gru"]
RESET = {"W_z": {(0, 2): -10}, "W_n": {(0, 2): 0.5}, "U_n": {(0, 0): 1}, "U_r": {(0, 1): 100}}
ATTAINED = [
    ("mgu", {"U_r": {(0, 1): 40}, "W_h": {(0, 2): 10}}),
    ("mgu", {"U_h": {(0, 1): 40}, "W_r": {(0, 2): 10, (1, 0): 10, (1, 2): 10}}),
    ("gru", {"U_z": {(0, 1): 40}, "W_n": {(0, 2): 10}}),
    ("gru_original", {"U_z": {(0, 1): 40}, "W_n": {(0, 2): 10}}),
    ("gru", RESET),
    ("gru_original", RESET),
    ("gru", {"U_n": {(0, 1): 40}, "W_z": {(0, 2): -10}, "W_r": {(0, 2): 10}}),
    ("lstm", {"U_g": {(0, 1): 4}}),
    ("lstm", {"U_r": {(0, 1): 40}, "W_c": {(0, 2): 10}}),
    ("lstm", {"U_o": {(0, 1): 40}, "W_g": {(0, 2): 10}}),
    ("lstm", {"U_c": {(0, 1): 10}, "W_r": {(0, 2): 10}}),
]


@pytest.mark.parametrize(("cell", "last"), ATTAINED, ids=lambda v: v if isinstance(v, str) else "")
def test_every_term_of_the_repaired_rates_is_needed(cell, last):
    values = {
        f"{letter}_{gate[1:]}": np.zeros((2, 2 if letter == "U" else 3))
        for gate in CELLS[cell].gates
        for letter in "UW"
    }
    for entries in (DRIVE[cell], last):
        for role, places in entries.items():
            for place, value in places.items():
                values[role][place] = value
    T, small = 21, 1e-5
    head = Head(Block("V", np.eye(2), "spectral"))
    network = Network((layer_of(cell, values),), head, "real")
    (stage,) = reading.stages(network)
    xs = np.zeros((T, 2, 3))
    xs[:-1, :, 0], xs[-2, :, 1], xs[-1, :, 2] = 1.0 - small, [small, -small], 1.0
    states = tuple(np.zeros((2, dim)) for dim in stage.dimensions)
    for x in xs:
        before, states = states, stage.step(NumbersAlgebra(network), x, states)
    found = classwide_gates(network, steps=T)
    o = found.of("o").up_to(T)[0] if cell == "lstm" else 1.0
    (got,) = rates(network, found, repaired=True)
    ratio = gap(states, o) / (got.theta[-1] * gap(before, o))
    assert 0.88 < ratio <= 1 + 1e-9


# --- tables and pictures ----------


def reports(**shape):
    rng = np.random.default_rng(13)
    _, _, parts = real_batches(rng)
    found = {}
    for cell in ("vanilla", "mgu", "gru", "lstm"):
        network = paper_network(rng, cell, **shape)
        found[cell] = gate_report(network, sample_of(network, parts))
    return found


def shown(item):
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(item)
    return console.export_text()


def test_a_table_of_gates():
    found = reports()["lstm"]
    text = shown(table(found, "LSTM"))
    assert "LSTM, T = 9" in text and "gate g" in text and "θ_T, repaired" in text
    assert f"{found.measured.of('o').up_to(9)[0]:.4f}" in text
    assert rounded_up(found.printed.of("o").up_to(9)[0], 4) in text
    assert significant_up(found.rates("printed").theta[-1], 4) in text
    wide = random_network(np.random.default_rng(14), "mgu", layers=2, two_way=True)
    report = gate_report(wide, sample_of(wide, real_batches(np.random.default_rng(15))[2]))
    text = shown(table(report))
    assert "1 backward" in text and "printed: the paper's network has one layer" in text


def test_rates_in_a_report():
    report = reports()["gru"]
    for source in ("measured", "calculus", "printed"):
        assert report.rates(source).source == source
    measured, bound = (report.rates(s, repaired=True) for s in ("measured", "calculus"))
    assert np.all(measured.beta <= bound.beta) and np.all(measured.theta <= bound.theta)
    printed = report.rates("calculus")
    assert bound.theta - bound.beta == pytest.approx(SLOPE * (printed.theta - printed.beta))
    with pytest.raises(InputError, match=r"^source is 'guessed'"):
        report.rates("guessed")
    with pytest.raises(InputError, match="no layer 3"):
        report.rates("measured", layer=3)


@pytest.mark.parametrize("repaired", [False, True])
def test_a_picture_of_rates_against_time(tmp_path, repaired):
    panels = curves(reports(), repaired=repaired)
    assert [set(networks) for _, networks in panels] == [{"vanilla", "mgu", "gru", "lstm"}] * 2
    for _, networks in panels:
        for measured, bound in networks.values():
            assert len(measured) == len(bound) == 9
            assert all(a <= b for a, b in zip(measured, bound, strict=True))
    path = plots.gates_against_time(panels, tmp_path / "gates.png", longest=9, marked=5)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="choose one"):
        plots.gates_against_time(panels, tmp_path / "gates.txt", longest=9)
