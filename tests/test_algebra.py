"""The two readings of a cell's equations: every rule of the calculus against random members."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recert.networks.forward import NumbersAlgebra, network_predictor
from recert.networks.network import Block, Head, Layer, Network, vanilla
from recert.networks.norm_class import Cap
from recert.numerics.logspace import affine_last, affine_orbit, log_matmul
from recert.sensitivities.norm_domain import ROUNDING, BoundsAlgebra, ValueBound
from recert.sensitivities.sensitivity import sensitivity

SAFE = 1.0 - 1e-12  # keeps a rescaled matrix inside its cap in spite of rounding


def own_norm(value, norm):
    """A block's own norm, by numpy: a reading independent of the package's."""
    if norm == "spectral":
        return float(np.linalg.norm(value, 2))
    return float(np.linalg.norm(value.reshape(len(value), -1), axis=0).max())


def fit(value, norm, cap):
    """The value scaled into its caps (own norm, and the row sum where one is held)."""
    size = own_norm(value, norm)
    if size > 0:
        value = value * (cap.norm * SAFE / size)
    if cap.row is not None:
        widest = np.abs(value).sum(axis=1).max()
        value = value * min(1.0, cap.row * SAFE / widest)
    return value


@st.composite
def classes(draw):
    """A network's shape, its caps, B_x and a horizon."""
    kind = draw(st.sampled_from(["onehot", "embedded", "real"]))
    depth = draw(st.integers(1, 2))
    activations = [draw(st.sampled_from(["tanh", "relu"])) for _ in range(depth)]
    widths = [draw(st.integers(1, 4)) for _ in range(depth)]
    d_x, K, d_e = draw(st.integers(1, 4)), draw(st.integers(2, 3)), draw(st.integers(1, 3))
    biased, head_bias = draw(st.booleans()), draw(st.booleans())
    shapes = {}
    width = d_x
    if kind == "embedded":
        shapes["E"], width = ((d_e, d_x), "column"), d_e
    for i, d in enumerate(widths):
        first = "column" if kind == "onehot" and i == 0 else "spectral"
        shapes[f"U{i}"] = ((d, d), "spectral")
        shapes[f"W{i}"] = ((d, width), first)
        if biased:
            shapes[f"b{i}"] = ((d,), "euclidean")
        width = d
    shapes["V"] = ((K, width), "spectral")
    if head_bias:
        shapes["b_V"] = ((K,), "euclidean")
    rows = draw(st.booleans())
    caps = {}
    for name, (_, norm) in shapes.items():
        c = draw(st.sampled_from([0.05, 0.5, 0.9, 1.0, 1.4, 3.0]))
        row = c * draw(st.sampled_from([0.4, 1.0, 1.3])) if rows and norm == "spectral" else None
        caps[name] = Cap(c, row)
    B_x = 1.0 if kind != "real" else draw(st.sampled_from([0.1, 1.0, 2.5]))
    return kind, activations, shapes, caps, B_x, draw(st.integers(1, 7)), draw(st.integers(0, 9999))


def build(kind, activations, shapes, values):
    def block(name):
        return Block(name, values[name], shapes[name][1])

    layers = []
    for i, activation in enumerate(activations):
        roles = {"U": block(f"U{i}"), "W": block(f"W{i}")}
        if f"b{i}" in shapes:
            roles["b"] = block(f"b{i}")
        layers.append(Layer("vanilla", roles, activation))
    head = Head(block("V"), block("b_V") if "b_V" in shapes else None)
    embedding = block("E") if "E" in shapes else None
    return Network(tuple(layers), head, "real" if kind == "real" else "onehot", embedding)


def member(rng, shapes, caps):
    """A member of the class; low rank or positive half of the time, where bounds are nearly met."""
    values = {}
    for name, (shape, norm) in shapes.items():
        style = rng.integers(3)
        if style == 0:
            raw = rng.normal(size=shape)
        elif style == 1:
            raw = np.abs(rng.normal(size=shape))
        else:
            raw = np.ones(shape) + 1e-3 * rng.normal(size=shape)
        values[name] = fit(raw, norm, caps[name])
    return values


def inputs(rng, kind, B_x, T, n, d_x):
    if kind != "real":
        return rng.integers(0, d_x, size=(n, T))
    x = rng.normal(size=(n, T, d_x))
    if rng.integers(2):
        x = np.abs(x[:, :1]) + np.zeros((n, T, d_x))
    return x * (B_x * SAFE / np.linalg.norm(x, axis=-1, keepdims=True))


@settings(max_examples=150, deadline=None)
@given(classes(), st.sampled_from(["far", "near", "one block"]))
def test_two_members_differ_by_at_most_their_sensitivities(spec, how):
    kind, activations, shapes, caps, B_x, T, seed = spec
    rng = np.random.default_rng(seed)
    first = member(rng, shapes, caps)
    second = member(rng, shapes, caps)
    if how == "near":
        second = {k: SAFE * (first[k] + 1e-3 * (second[k] - first[k])) for k in shapes}
    elif how == "one block":
        moved = list(shapes)[rng.integers(len(shapes))]
        second = {name: (second if name == moved else first)[name] for name in shapes}
    net, other = (build(kind, activations, shapes, v) for v in (first, second))
    x = inputs(rng, kind, B_x, T, 12, net.d_x)
    lengths = np.full(len(x), T)
    y = network_predictor(net)(x, lengths, "average")
    y_other = network_predictor(other)(x, lengths, "average")
    found = sensitivity(net, steps=T, input_bound=B_x, caps=caps, every=True)
    norm = np.exp(found.log_norm)  # (T,)
    largest = np.linalg.norm(y, axis=-1).max(axis=0)
    assert (largest <= norm * (1 + 1e-12)).all()
    change = np.linalg.norm(y - y_other, axis=-1).max(axis=0)
    allowed = sum(
        np.exp(found.log_lambda[name]) * own_norm(first[name] - second[name], shapes[name][1])
        for name in shapes
    )
    assert (change <= allowed + 1e-13 * (1 + norm)).all()
    at_end = sensitivity(net, steps=T, input_bound=B_x, caps=caps)
    assert float(at_end.log_norm) == found.log_norm[-1]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 5), st.floats(1e-3, 1e3), st.floats(0.1, 3), st.integers(0)
)
def test_linear_rule_bounds_norm_and_entries(d1, d2, c, tightness, seed):
    rng = np.random.default_rng(seed)
    A = fit(rng.normal(size=(d1, d2)), "spectral", Cap(c, c * tightness))
    v = rng.normal(size=d2)
    block = Block("A", A, "spectral")
    algebra = BoundsAlgebra(
        {"A": np.log([c])}, {"A": np.log([c * tightness])}, ("A", ROUNDING, "@state0"), d2
    )
    start = algebra.state(d2, "@state0", np.log([np.linalg.norm(v)]), np.log([np.abs(v).max()]))
    out = algebra.linear(block, start)
    assert np.linalg.norm(A @ v) <= math.exp(out.log_N[0]) * (1 + 1e-12)
    assert np.abs(A @ v).max() <= math.exp(out.log_Z[0]) * (1 + 1e-12)
    # Moving A by D and v by w moves the product by at most Λ_A‖D‖ + Λ_v‖w‖ (telescoped).
    B, w = fit(rng.normal(size=(d1, d2)), "spectral", Cap(c, c * tightness)), 0.1 * v
    moved = np.linalg.norm(B @ (v + w) - A @ (v + w) + A @ w)
    allowed = math.exp(out.log_lam[0, 0]) * 1.1 * np.linalg.norm(A - B, 2)
    allowed += math.exp(out.log_lam[2, 0]) * np.linalg.norm(w)
    assert moved <= allowed * (1 + 1e-12)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        # Below, numpy's own norm underflows.
        st.floats(-30, 30).filter(lambda x: x == 0 or abs(x) > 1e-140),
        min_size=1,
        max_size=6,
    )
)
def test_tanh_rule_bounds_every_vector_and_is_met_by_constant_ones(entries):
    v = np.array(entries)
    N, Z = np.linalg.norm(v), np.abs(v).max()
    algebra = BoundsAlgebra({"A": np.zeros(1)}, {}, ("A", ROUNDING), 1)
    with np.errstate(divide="ignore"):
        start = ValueBound(len(v), np.log([N]), np.log([Z]), algebra.still())
    out = algebra.activation("tanh", start)
    assert np.linalg.norm(np.tanh(v)) <= math.exp(out.log_N[0]) * (1 + 1e-13)
    assert np.tanh(Z) <= math.exp(out.log_Z[0]) * (1 + 1e-13)
    flat = np.full(len(v), Z)
    with np.errstate(divide="ignore"):
        start = ValueBound(len(v), np.log([np.linalg.norm(flat)]), np.log([Z]), algebra.still())
    met = math.exp(algebra.activation("tanh", start).log_N[0])
    assert met == pytest.approx(np.linalg.norm(np.tanh(flat)), rel=1e-12, abs=1e-300)


def test_onehot_and_bias_rules():
    algebra = BoundsAlgebra({"W": np.log([2.0]), "b": np.log([0.5])}, {}, ("W", "b", ROUNDING), 2)
    W, b = Block("W", np.ones((3, 2)), "column"), Block("b", np.ones(3), "euclidean")
    z = algebra.linear(W, algebra.onehot(2))
    assert (z.dim, math.exp(z.log_N[0]), math.exp(z.log_lam[0, 0])) == (3, 2.0, 1.0)
    both = algebra.add(z, algebra.bias(b))
    assert math.exp(both.log_N[0]) == pytest.approx(2.5, rel=1e-15)
    assert math.exp(both.log_Z[0]) == pytest.approx(2.5, rel=1e-15)
    np.testing.assert_allclose(np.exp(both.log_lam[:2, 0]), 1.0)
    assert algebra.activation("relu", both) is both


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["tanh", "relu"]), st.booleans())
def test_numbers_are_the_equations(seed, activation, onehot):
    rng = np.random.default_rng(seed)
    d_h, d_x, K, T, n = (int(k) for k in rng.integers(2, 5, size=5))
    U, W, V = (rng.normal(size=s) for s in ((d_h, d_h), (d_h, d_x), (K, d_h)))
    b, b_V = rng.normal(size=d_h), rng.normal(size=K)
    kind = "onehot" if onehot else "real"
    net = vanilla(U, W, V, b=b, b_V=b_V, activation=activation, input_kind=kind)
    x = rng.integers(0, d_x, size=(n, T)) if onehot else rng.normal(size=(n, T, d_x))
    before = x.copy()
    y = network_predictor(net)(x, np.full(n, T), "average")
    assert np.array_equal(x, before)
    for i in range(n):
        h = [0.0] * d_h
        for t in range(T):
            read = np.eye(d_x)[x[i, t]] if onehot else x[i, t]
            z = [
                b[r]
                + sum(U[r, c] * h[c] for c in range(d_h))
                + sum(W[r, c] * read[c] for c in range(d_x))
                for r in range(d_h)
            ]
            h = [math.tanh(a) if activation == "tanh" else max(a, 0.0) for a in z]
            want = [b_V[r] + sum(V[r, c] * h[c] for c in range(d_h)) for r in range(K)]
            np.testing.assert_allclose(y[i, t], want, rtol=1e-10, atol=1e-11)
    assert all(block.value.flags.writeable is False for block in net.blocks())
    assert NumbersAlgebra(net).bias(net.block("b")) is net.block("b").value


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 70), st.integers(0, 10**6))
def test_affine_powers_are_repeated_products(n, steps, seed):
    rng = np.random.default_rng(seed)
    M, v = rng.uniform(0, 1.2, size=(2, n, n)), rng.uniform(0, 1, size=(2, n))
    M[rng.uniform(size=M.shape) < 0.3] = 0.0
    with np.errstate(divide="ignore"):
        log_M, log_v = np.log(M), np.log(v)
    orbit = affine_orbit(log_M, log_v, steps)
    assert orbit.shape == (2, steps, n)
    w = v
    for i in range(steps):
        w = np.einsum("gij,gj->gi", M, w)
        np.testing.assert_allclose(np.exp(orbit[:, i]), w, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(np.exp(affine_last(log_M, log_v, steps)), w, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(np.exp(log_matmul(log_M, log_M)), M @ M, rtol=1e-12, atol=1e-300)
