"""Filter banks in the theorems: spreads, coverings, caps; and new parts in certificates."""

from __future__ import annotations

import math

import numpy as np
import pytest

import family
import recert
from recert.certification.certify import prepare
from recert.errors import InputError
from recert.networks.blocks import FixedMap
from recert.networks.network import Block, Head, Network
from recert.networks.norm_class import Cap
from recert.numerics.norms import convolution_matrix
from recert.theorems.gaussian import _spread
from recert.theorems.l1_cover import log_cover


def bank(shape: tuple[int, int, int], positions: int, value: float = 1.0) -> Block:
    return Block("U", np.full(shape, value), "operator", positions=positions)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (2, 4, 3), (6, 1, 6)])
@pytest.mark.parametrize(("n", "Z"), [(1, 0.5), (7, 0.999)])
def test_the_spread_is_the_formula_and_holds_for_gaussian_filters(shape, n, Z):
    out, channels, width = shape
    root = math.sqrt(2.0 * math.log(n / (1.0 - Z)))
    one = math.sqrt(out) + math.sqrt(channels * width)
    other = math.sqrt(out * width) + math.sqrt(channels)
    found = _spread(bank(shape, 8), n, Z)
    assert found == pytest.approx(math.sqrt(width) * (min(one, other) + root), rel=1e-14)
    rng = np.random.default_rng(0)
    norms = [
        np.linalg.norm(convolution_matrix(rng.standard_normal(shape), 8), 2) for _ in range(300)
    ]
    assert np.mean(np.array(norms) > found) <= (1.0 - Z) / n
    assert max(norms) > found / 4.0  # a quarter of it would not do


def test_one_filter_needs_the_root_of_its_width():
    """‖A‖ ≤ √w·‖A‖_F is attained in the limit of many positions."""
    wide = bank((1, 1, 5), 400)
    assert wide.norm_bound() == pytest.approx(math.sqrt(5) * math.sqrt(5), rel=1e-3)


def conv_case() -> object:
    rng = np.random.default_rng(1)
    net = family.random_network(rng, "conv", d_x=4, d_h=4, K=2, bias=False)
    x = rng.standard_normal((300, 3, 4))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return prepare(net, x, rng.integers(0, 2, 300), input_bound=1.0, max_length=3)


def test_maurey_covers_filter_banks_at_a_scale_of_one_over_the_root_of_the_width():
    setting = conv_case().setting
    log_s = 3.0
    want = 0.0
    P = setting.parameters.sum()
    for i, block in enumerate(setting.network.blocks()):
        eps = (
            (block.parameters / P)
            * math.exp(log_s)
            / (math.sqrt(2) * math.exp(setting.log_lambda[i]))
        )
        cap = setting.caps[block.name]
        dense = block.parameters * math.log1p(2 * cap.norm / eps)
        width = block.shape[2] if block.norm == "operator" else 1
        terms = math.ceil(4 * width * cap.l1**2 / eps**2)
        want += min(dense, terms * math.log(2 * block.value.size + 1))
    assert float(log_cover(setting, np.array(log_s))) == pytest.approx(want, rel=1e-9)
    assert float(log_cover(setting, np.array(log_s))) >= want


def test_row_caps_on_filter_banks_are_refused():
    net = family.random_network(np.random.default_rng(0), "conv")
    caps = {b.name: Cap(b.norm_bound(), 3.0 if b.name == "U" else None) for b in net.blocks()}
    with pytest.raises(InputError, match="U is a filter bank"):
        recert.sensitivity(net, steps=2, caps=caps)


def test_padding_columns_of_the_head_stay_and_tell_networks_apart():
    rng = np.random.default_rng(0)
    net = family.random_network(rng, "gru", K=3)
    V = np.array(net.head.V.value)
    V[:, 1] = 0.0

    def made(zero):
        return Network(net.layers, Head(Block("V", V, "spectral", zero), net.head.b), "real")

    plain, declared = made(()), made((1,))
    assert plain.digest != declared.digest
    free = declared.margin_form().head.V.parameters
    assert free == 2 * 3 == plain.margin_form().head.V.parameters - 2


def test_a_pool_of_equal_rows_has_margin_zero_and_a_bound():
    net = family.random_network(np.random.default_rng(0), "vanilla", K=4, bias=False)
    head = Head(net.head.V, None, pool=FixedMap(np.ones((2, 4))))
    pooled = Network(net.layers, head, "real").margin_form()
    found = recert.sensitivity(pooled, steps=3)
    assert math.isfinite(float(found.log_norm)) and float(found.log_norm) < -30


@pytest.mark.parametrize("two_way", [False, True])
def test_gates_and_horizons_in_certificates(two_way):
    rng = np.random.default_rng(0)
    net = family.random_network(rng, "lstm", K=2, tokens=True, two_way=two_way)
    x, y = rng.integers(0, 4, (40, 5)), rng.integers(0, 2, 40)
    cert = recert.certify(net, x, y, at=3)
    directions = {"forward", "backward"} if two_way else {"forward"}
    assert {row["direction"] for row in cert.network["gates"]} == directions
    for row in cert.network["gates"]:
        least, largest = row["measured"]
        assert 1.0 - row["bound"] <= least <= largest <= row["bound"]
    horizon = next(row for row in cert.assumptions if row.id == "horizon")
    assert horizon.status == ("enforced" if two_way else "declared")
    assert ("cut" in horizon.evidence) == two_way


def test_a_mean_over_steps_is_charged_for_its_sum():
    net = family.random_network(np.random.default_rng(0), "gru", read="mean", bias=False, scale=0.1)
    step = Network(net.layers, net.head, "real")
    of_mean, of_step = (
        float(recert.sensitivity(n, steps=500, computed=True).log_rounding) for n in (net, step)
    )
    assert of_mean > of_step
    with pytest.raises(InputError, match="at='last' only"):
        recert.certify(net, np.zeros((3, 2, 4)), [0, 1, 2], at="average")
