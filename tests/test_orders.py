"""The printed formulas on networks: the right letters, every reason, every cell."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from family import random_network
from recert import printed
from recert.networks.layers import group_average, layer_of
from recert.networks.margins import MarginTable
from recert.networks.network import Block, Head, Network
from recert.printed.evaluate import ORDERS, VARIANTS, order_bounds, orthogonality
from recert.samples.sample import Reading, Sample
from recert.sensitivities.gate_ranges import measured_gates

SETTING = {"steps": 7, "input_bound": 1.0, "gamma": 0.5, "delta": 0.01}
VANILLA = [order.name for order in ORDERS]


def table(m: int = 1000) -> MarginTable:
    return MarginTable(np.linspace(-0.5, 3.0, m), m)


def orders(network, **changes):
    return {b.name: b for b in order_bounds(network, table(), **(SETTING | changes))}


def paper_network(cell, *, seed=0, bias=False, **shape):
    network = random_network(np.random.default_rng(seed), cell, bias=bias, **shape)
    return replace(network, head=replace(network.head, b=None))


def measured_of(network):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((50, 9, network.d_x))
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    reading = Reading("real", network.d_x, network.K)
    return measured_gates(network, Sample(x, np.zeros(50, dtype=int), reading))


def complexity(bound):
    return bound.terms["log10_complexity"]


def norm(network, name):
    return float(np.linalg.norm(network.block(name).value, 2))


def gate_bound(network, gate, B_x=1.0):
    row = np.abs(network.block(f"U_{gate}").value).sum(axis=1).max()
    return 1 / (1 + math.exp(-norm(network, f"W_{gate}") * B_x - row))


def dims(network):
    found = {"t": 7, "m": 1000, "gamma": 0.5, "delta": 0.01, "B_V": norm(network, "V")}
    return found | {"d_x": network.d_x, "d_h": network.d_h, "d_y": network.K}


def test_vanilla_networks_have_the_rows_of_vanilla_cells_alone():
    found = orders(paper_network("vanilla"))
    assert list(found) == VANILLA
    assert {bound.kind for bound in found.values()} == {"order"}
    biased = orders(random_network(np.random.default_rng(1), "vanilla"))
    assert list(biased) == VANILLA
    assert {bound.kind for bound in biased.values()} == {"not applicable"}


@pytest.mark.parametrize("tokens", [False, True])
def test_theorem_4_on_a_network(tokens):
    network = paper_network("mgu", tokens=tokens)
    B_x = 1.0 if tokens else 0.8
    bound = orders(network, input_bound=B_x)["printed_theorem_4"]
    s = gate_bound(network, "r", B_x)
    exact = printed.theorem_4(
        **dims(network),
        B_x=B_x,
        B_Wh=norm(network, "W_h"),
        B_Uh=norm(network, "U_h"),
        B_Ur=norm(network, "U_r"),
        r_max=s,
        one_minus_r_max=s,
    )
    assert bound.kind == "order" and "no constants" in bound.reason
    assert complexity(bound) == pytest.approx(exact.log10, rel=1e-9)
    risk = float(table().ramp_risk(0.5))
    assert bound.value == pytest.approx(10**exact.log10 + risk + exact.confidence, rel=1e-9)


def test_theorem_5_on_a_network():
    network = paper_network("lstm")
    bound = orders(network, input_bound=2.0)["printed_theorem_5"]
    exact = printed.theorem_5(
        **dims(network),
        B_x=2.0,
        B_Wc=norm(network, "W_c"),
        **{f"B_U{gate}": norm(network, f"U_{gate}") for gate in "cgro"},
        **{f"{gate}_max": gate_bound(network, gate, 2.0) for gate in "gro"},
    )
    assert bound.kind == "order"
    assert complexity(bound) == pytest.approx(exact.log10, rel=1e-9)


@pytest.mark.parametrize(("cell", "number"), [("mgu", 4), ("lstm", 5)])
def test_measured_gates_give_a_second_row(cell, number):
    network = paper_network(cell)
    name = f"printed_theorem_{number}"
    assert f"{name}_measured" not in orders(network)
    measured = measured_of(network)
    found = orders(network, measured=measured)
    first, second = found[name], found[f"{name}_measured"]
    assert complexity(second) < complexity(first)
    assert "read off the sample" in second.reason and second.kind == "order"
    largest = {f"{r.gate}_max": float(r.largest[:7].max()) for r in measured.ranges}
    largest |= {f"one_minus_{r.gate}_max": float(r.complement[:7].max()) for r in measured.ranges}
    assert complexity(second) == complexity(orders(network, replaced=largest)[name])
    other = found[f"printed_theorem_{9 - number}_measured"]
    assert other.kind == "not applicable" and "one" in other.reason


def test_measured_gates_of_a_longer_horizon_than_was_measured():
    network = paper_network("mgu")
    found = orders(network, measured=measured_of(network), steps=500)
    assert complexity(found["printed_theorem_4_measured"]) > 0


@pytest.mark.parametrize("cell", ["mgu", "gru", "gru_original", "lstm", "conv", "conv_averaged"])
def test_other_cells_list_every_theorem_with_its_reason(cell):
    network = paper_network(cell)
    found = orders(network, measured=measured_of(network))
    assert list(found) == VANILLA + [order.name for order in VARIANTS]
    for name in VANILLA:
        assert found[name].kind == "not applicable"
        assert found[name].reason == "the paper states it for one vanilla layer"
    stated = {"mgu": 4, "lstm": 5}.get(cell)
    for order in VARIANTS:
        row = found[order.name]
        applies = stated is not None and f"theorem_{stated}" in order.name
        assert (row.kind == "order") is applies
        if not applies:
            assert row.log10 is None and row.reason.startswith("the paper")


REASONS = [
    ({"layers": 2}, "for one"),
    ({"two_way": True}, "in one direction"),
    ({"tokens": True, "embedding": 3}, "no embedding"),
    ({"encoder": 3}, "no dense layers"),
    ({"hidden": 3}, "no dense layers"),
    ({"bias": True}, "no biases"),
    ({"read": "mean"}, "at one step"),
]


@pytest.mark.parametrize(("shape", "reason"), REASONS)
@pytest.mark.parametrize(("cell", "name"), [
    ("vanilla", "printed_theorem_2"), ("mgu", "printed_theorem_4"), ("lstm", "printed_theorem_5"),
])  # fmt: skip
def test_why_a_network_is_not_the_papers(cell, name, shape, reason):
    row = orders(paper_network(cell, **shape))[name]
    assert row.kind == "not applicable" and reason in row.reason


def test_further_reasons():
    projected = orders(paper_network("lstm", proj=3))["printed_theorem_5"]
    assert "no projection" in projected.reason
    relu = orders(paper_network("vanilla", activation="relu"))["printed_theorem_2"]
    assert "Assumption 3" in relu.reason
    network = paper_network("mgu", K=4)
    pooled = replace(network, head=replace(network.head, pool=group_average(4, 2)))
    assert "pools" in orders(pooled)["printed_theorem_4"].reason
    mixed = Network(
        (paper_network("vanilla").layers[0], second_layer()), paper_network("vanilla").head, "real"
    )
    assert {row.kind for row in orders(mixed).values()} == {"not applicable"}


def second_layer():
    rng = np.random.default_rng(3)
    values = {role: rng.standard_normal((4, 4)) for role in ("U_r", "W_r", "U_h", "W_h")}
    return layer_of("mgu", values)


def test_final_reading_in_one_direction_is_the_last_step():
    assert orders(paper_network("mgu", read="final"))["printed_theorem_4"].kind == "order"


def test_a_horizon_of_a_million_and_huge_weights():
    for cell, name in (("mgu", "printed_theorem_4"), ("lstm", "printed_theorem_5")):
        row = orders(paper_network(cell, scale=1e3), steps=10**6)[name]
        assert math.isfinite(row.log10) and row.log10 > 0


# --- Theorem 6 ----------


def conv_network(rng, *, k=3, d=8, K=2, move=0.0, activation="tanh", shape=None, pool=True):
    """The paper's Conv RNN with orthogonal filters, U moved by ``move`` in every entry."""

    def bank():
        return (np.linalg.qr(rng.normal(size=(k, k)))[0] / math.sqrt(k))[:, None, :]

    U = bank() + move if shape is None else rng.normal(size=shape)
    layer = layer_of("conv_averaged", {"U": U, "W": bank()}, positions=d, activation=activation)
    if not pool:
        return Network((layer,), Head(Block("V", np.ones((K, d)), "spectral")), "real")
    head = Head(Block("V", bank(), "operator", positions=d), pool=group_average(k * d, K))
    return Network((layer,), head, "real")


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_theorem_6_under_assumption_8(k):
    network = conv_network(np.random.default_rng(k), k=k)
    bound = orders(network, input_bound=3.0)["printed_theorem_6"]
    exact = printed.theorem_6(t=7, m=1000, gamma=0.5, d=8, k=k, B_x=3.0, delta=0.01)
    assert bound.kind == "order" and complexity(bound) == pytest.approx(exact.log10, rel=1e-12)


def test_theorem_6_tells_how_far_filters_are_from_orthogonal():
    network = conv_network(np.random.default_rng(4), move=1e-3)
    filters = network.block("U").value[:, 0, :]
    for product in (filters.T @ filters, filters @ filters.T):
        deviation = np.linalg.norm(product - np.eye(3) / 3, 2)
        assert orthogonality(network.block("U").value) == pytest.approx(deviation, rel=1e-9)
    row = orders(network)["printed_theorem_6"]
    assert row.kind == "not applicable" and "Assumption 8" in row.reason
    assert f"{deviation:.3g} for U" in row.reason


@pytest.mark.parametrize(("change", "reason"), [
    ({"activation": "relu"}, "not bounded"),
    ({"shape": (3, 1, 5)}, "U has shape 3x1x5"),
    ({"pool": False}, "pooled filter bank"),
])  # fmt: skip
def test_theorem_6_is_for_the_papers_network(change, reason):
    row = orders(conv_network(np.random.default_rng(6), **change))["printed_theorem_6"]
    assert row.kind == "not applicable" and reason in row.reason
