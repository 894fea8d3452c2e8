"""The rules for gates, products, fixed maps, activations and two directions: each on its own.

Above the exact rule in 50 digits, whatever the logarithms; above every vector that random and
adversarial search finds; met by some.
"""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from recert.networks.activations import ACTIVATIONS
from recert.networks.blocks import FixedMap
from recert.networks.forward import NumbersAlgebra
from recert.networks.layers import channel_average, group_average, over_positions
from recert.networks.network import Block, vanilla
from recert.numerics.logspace import affine_last, affine_power
from recert.sensitivities.norm_domain import ROUNDING, BoundsAlgebra, ValueBound
from recert.sensitivities.recursions import below

TAGS = ("A", "B", ROUNDING)
# Logs as they come: zero, below and above what float64 holds, everything between.
EXTREME = (
    -math.inf,
    -2000.0,
    -690.8,
    -40.0,
    -19.9,
    -3.0,
    -1e-9,
    0.0,
    0.7,
    3.9,
    4.1,
    7.1,
    40.0,
    690.8,
)
LOGS = st.one_of(st.sampled_from(EXTREME), st.floats(-30.0, 8.0), st.floats(-700.0, 700.0))
SIDES = st.tuples(LOGS, LOGS, LOGS, LOGS)  # N, Z and two sensitivities of a value


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


def algebra_of(**more):
    return BoundsAlgebra({"A": np.log([1.5]), "B": np.log([0.5])}, {}, TAGS, 4, **more)


def value(dim, log_N, log_Z, log_A=-math.inf, log_B=-math.inf):
    lam = np.array([[log_A], [log_B], [-math.inf]])
    return ValueBound(dim, np.array([log_N]), np.array([log_Z]), lam)


def exp(log):
    return mpf(0) if log == -math.inf else mp.exp(mpf(log))


def close_above(log_found, exact, scale=1.0):
    """Not low by more than a rounding of the logarithms met, nor high by more than 1e-12."""
    found = float(np.asarray(log_found).reshape(-1)[0])
    assert not math.isnan(found)
    if exact == 0:
        assert found == -math.inf
        return
    want = mp.log(exact)
    size = max(1.0, abs(float(want)), scale)
    assert -8 * 2.0**-52 * size <= float(mpf(found) - want) <= 1e-12 * size


def sides(*values):
    return ([exp(x) for x in side] for side in values)


def largest(*logs):
    return max([1.0, *(abs(x) for x in logs if math.isfinite(x))])


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 50), SIDES, SIDES)
def test_products_and_sums_in_fifty_digits(dim, first, second):
    u, v = value(dim, *first), value(dim, *second)
    (N_u, Z_u, *lam_u), (N_v, Z_v, *lam_v) = sides(first, second)
    algebra, scale = algebra_of(), 2 * largest(*first, *second)
    product, total = algebra.mul(u, v), algebra.add(u, v)
    close_above(product.log_N, min(Z_u * N_v, Z_v * N_u), scale)
    close_above(product.log_Z, Z_u * Z_v, scale)
    both = algebra.concatenate([u, v])
    close_above(total.log_N, N_u + N_v, scale)
    close_above(total.log_Z, Z_u + Z_v, scale)
    close_above(both.log_N, mp.sqrt(N_u**2 + N_v**2), scale)
    close_above(both.log_Z, max(Z_u, Z_v), scale)
    assert (product.dim, total.dim, both.dim) == (dim, dim, 2 * dim)
    for i in range(2):
        close_above(product.log_lam[i], Z_v * lam_u[i] + Z_u * lam_v[i], scale)
        close_above(total.log_lam[i], lam_u[i] + lam_v[i], scale)
        close_above(both.log_lam[i], mp.sqrt(lam_u[i] ** 2 + lam_v[i] ** 2), scale)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 50), LOGS, SIDES, SIDES)
def test_the_gate_in_fifty_digits(dim, log_x, first, second):
    """The gate itself comes from a sigmoid of entries up to e^log_x, tiny or huge."""
    algebra, scale = algebra_of(), 2 * largest(log_x, *first, *second)
    r = algebra.activation("sigmoid", value(dim, log_x, log_x, 0.3))
    s = 1 / (1 + mp.exp(-exp(log_x)))
    close_above(r.log_Z, s)
    close_above(r.log_N, mp.sqrt(dim) * s)
    a, b = value(dim, *first), value(dim, *second)
    (N_a, Z_a, *lam_a), (N_b, Z_b, *lam_b) = sides(first, second)
    out = algebra.gate(r, a, b)
    kappa, top, low = mp.sqrt(s**2 + (1 - s) ** 2), max(Z_a, Z_b), min(Z_a, Z_b)
    # The table's Z, or the sharper s·max + (1 − s)·min.
    sharp = s * top + (1 - s) * low
    found = float(out.log_Z[0])
    if top == 0:
        assert found == -math.inf
    else:
        assert float(mp.log(sharp)) - 1e-14 * scale <= found <= float(mp.log(top)) + 1e-14 * scale
    used = mp.exp(mpf(found)) if top else mpf(0)
    N = min(s * (N_a + N_b), kappa * mp.sqrt(N_a**2 + N_b**2))
    low_N, high_N = (min(N, mp.sqrt(dim) * Z) for Z in (min(used, top), max(used, top)))
    if low_N == 0:
        assert out.log_N[0] == -math.inf
    else:
        assert mp.log(low_N) - 1e-14 * scale <= out.log_N[0] <= mp.log(high_N) + 1e-12 * scale
    lam_r = [exp(0.3) / 4, mpf(0)]
    for i in range(2):
        either = min(s * (lam_a[i] + lam_b[i]), kappa * mp.sqrt(lam_a[i] ** 2 + lam_b[i] ** 2))
        close_above(out.log_lam[i], (Z_a + Z_b) * lam_r[i] + either, scale)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(ACTIVATIONS)), st.integers(1, 50), LOGS, LOGS, LOGS)
def test_activations_in_fifty_digits(name, dim, log_N, log_Z, log_lam):
    out = algebra_of().activation(name, value(dim, log_N, log_Z, log_lam))
    N, Z, lam, root = exp(log_N), exp(log_Z), exp(log_lam), mp.sqrt(dim)
    scale = largest(log_N, log_Z, log_lam)
    if name == "tanh":
        want = root * mp.tanh(min(N / root, Z)), mp.tanh(Z), lam
    elif name == "sigmoid":
        s = 1 / (1 + mp.exp(-Z))
        want = root * s, s, lam / 4
    else:
        want = N, Z, lam
    # tanh x ≤ x is taken for x where both are one number to float64.
    for found, exact in zip((out.log_N, out.log_Z, out.log_lam[0]), want, strict=True):
        close_above(found, exact, scale)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6), LOGS, LOGS, LOGS)
def test_fixed_maps_in_fifty_digits(rows, columns, seed, log_N, log_Z, log_lam):
    P = FixedMap(np.random.default_rng(seed).normal(size=(rows, columns)))
    out = algebra_of().fixed(P, value(columns, log_N, log_Z, log_lam))
    norm = max(mp.svd_r(mp.matrix(P.matrix.tolist() if rows >= columns else P.matrix.T.tolist()),
                        compute_uv=False))  # fmt: skip
    row = max(mp.fsum(abs(mpf(float(a))) for a in r) for r in P.matrix)
    N, Z, lam = exp(log_N), exp(log_Z), exp(log_lam)
    scale = largest(log_N, log_Z, log_lam)
    close_above(out.log_N, norm * N, scale)
    close_above(out.log_Z, min(norm * N, row * Z), scale)
    close_above(out.log_lam[0], norm * lam, scale)
    assert mpf(P.norm) >= norm and mpf(P.row_sum) >= row and out.dim == P.rows == rows


def least_above(found: float, exact: float) -> None:
    """Not below (but for the last place of what is compared with), and above by 1e-12 at most."""
    assert exact * (1 - 2.0**-52) <= found <= exact * (1 + 1e-12)


@pytest.mark.parametrize(("channels", "positions"), [(1, 1), (3, 4), (7, 2), (64, 3)])
def test_norms_of_the_fixed_maps_that_cells_use(channels, positions):
    average, spread = channel_average(channels, positions), over_positions(channels, positions)
    least_above(average.norm, channels**-0.5)
    least_above(average.row_sum, 1.0)
    least_above(spread.norm, positions**0.5)
    least_above(spread.row_sum, 1.0)
    h = np.arange(float(channels * positions))
    np.testing.assert_allclose(average.matrix @ h, h.reshape(channels, positions).mean(axis=0))
    b = np.arange(float(channels))
    np.testing.assert_array_equal(spread.matrix @ b, np.repeat(b, positions))
    groups = group_average(channels * positions, positions)
    least_above(groups.row_sum, 1.0)
    least_above(groups.norm, channels**-0.5)


# --- vectors ---


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**9))
def test_no_vectors_escape_the_gate(dim, seed):
    """Norm, entries, and moves of all arguments at once, taken one after the other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=dim) * rng.choice([0.01, 1.0, 5.0])
    if rng.integers(2):
        x = np.abs(x).max() * np.sign(x)  # a gate at the ends of its range
    end = np.abs(x).max()
    y = np.clip(x + rng.choice([0.01, 3.0]) * rng.normal(size=dim), -end, end)

    def pair():
        scale = rng.choice([0.1, 1.0, 4.0])
        u = rng.normal(size=dim) * scale
        v = u + rng.normal(size=dim) * rng.choice([1e-3, 1.0]) * scale
        return u, v

    (a, a_2), (b, b_2) = pair(), pair()
    if rng.integers(2):
        b = b * np.where(rng.integers(2, size=dim), 1.0, 1e-6)
    algebra = algebra_of()

    def bound(first, second, log_lam):
        with np.errstate(divide="ignore"):
            N = np.log(max(np.linalg.norm(first), np.linalg.norm(second)))
            Z = np.log(max(np.abs(first).max(), np.abs(second).max()))
        return value(dim, float(N), float(Z), *log_lam)

    with np.errstate(divide="ignore"):
        moves = [float(np.log(np.linalg.norm(u - v))) for u, v in ((x, y), (a, a_2), (b, b_2))]
    # Tag A moves gate and b, tag B moves a: both by their whole length.
    r = algebra.activation("sigmoid", bound(x, y, (moves[0], -math.inf)))
    of_a, of_b = bound(a, a_2, (-math.inf, moves[1])), bound(b, b_2, (moves[2], -math.inf))
    out = algebra.gate(r, of_a, of_b)
    s = 1 / (1 + np.exp(-np.stack([x, y])))
    one, two = (1 - s[0]) * a + s[0] * b, (1 - s[1]) * a_2 + s[1] * b_2
    up = 1 + 1e-12
    for found in (one, two):
        assert np.linalg.norm(found) <= math.exp(out.log_N[0]) * up
        assert np.abs(found).max() <= math.exp(out.log_Z[0]) * up
    allowed = np.exp(out.log_lam[:2, 0]).sum()
    # Differences of nearby numbers lose digits of their own.
    assert np.linalg.norm(one - two) <= allowed * up + 1e-13
    product = algebra.mul(r, of_a)
    assert (
        np.linalg.norm(s[0] * a - s[1] * a_2) <= np.exp(product.log_lam[:2, 0]).sum() * up + 1e-13
    )
    assert np.linalg.norm(s[0] * a) <= math.exp(product.log_N[0]) * up


def test_the_gate_s_rules_are_met():
    """κ by a gate at s with states in its ratio; s N_a + s N_b where both ends are used."""
    algebra = algebra_of()
    z = 1.7
    s = 1 / (1 + math.exp(-z))
    r = algebra.activation("sigmoid", value(1, math.log(z), math.log(z)))
    out = algebra.gate(r, value(1, math.log(s), 9.0, math.log(1 - s)), value(
        1, math.log(1 - s), 9.0, math.log(s)))  # fmt: skip
    # (1 − r) a + r b at r = 1 − s, a = s, b = 1 − s, and with moves at r = s.
    assert math.exp(out.log_N[0]) == pytest.approx(s * s + (1 - s) ** 2, rel=1e-12)
    assert math.exp(out.log_lam[0, 0]) == pytest.approx(s * s + (1 - s) ** 2, rel=1e-12) or (
        math.exp(out.log_lam[0, 0]) >= s * (1 - s)
    )
    two = algebra.gate(
        algebra.activation("sigmoid", value(2, math.log(z), math.log(z))),
        value(2, 0.0, 0.0, 0.0), value(2, math.log(0.5), 0.0, math.log(0.5)),
    )  # fmt: skip
    # a = (1, 0) under gate 1 − s, b = (0, 1/2) under gate s.
    assert math.exp(two.log_N[0]) >= math.hypot(s, s / 2) * (1 - 1e-12)
    kappa = math.hypot(s, 1 - s)
    assert math.exp(two.log_N[0]) == pytest.approx(
        min(1.5 * s, kappa * math.hypot(1, 0.5)), rel=1e-12
    )


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(ACTIVATIONS)), st.integers(1, 6), st.integers(0, 10**9))
def test_no_vectors_escape_an_activation(name, dim, seed):
    rng = np.random.default_rng(seed)
    v = rng.normal(size=dim) * rng.choice([1e-3, 1.0, 30.0])
    w = v + rng.normal(size=dim) * rng.choice([1e-4, 1.0])
    N, Z = (max(f(v), f(w)) for f in (np.linalg.norm, lambda u: np.abs(u).max()))
    move = np.linalg.norm(v - w)
    out = algebra_of().activation(name, value(dim, math.log(N), math.log(Z), math.log(move)))
    function = ACTIVATIONS[name].function
    for u in (v, w):
        assert np.linalg.norm(function(u.copy())) <= math.exp(out.log_N[0]) * (1 + 1e-12)
        assert np.abs(function(u.copy())).max() <= math.exp(out.log_Z[0]) * (1 + 1e-12)
    change = np.linalg.norm(function(v.copy()) - function(w.copy()))
    assert change <= math.exp(out.log_lam[0, 0]) * (1 + 1e-12) + 1e-15 * N


def test_rules_rise_with_what_they_are_given():
    """Walks rely on it: a step from larger norms is larger, in every rule and every argument."""
    algebra, levels = algebra_of(), (-math.inf, -25.0, -2.0, 0.5, 3.0, 30.0)
    for low, high in itertools.pairwise(levels):
        for other in levels:
            rows = []
            for log in (low, high):
                u, v = value(4, log + 0.5, log, log), value(4, other + 0.5, other, other)
                r = [algebra.activation("sigmoid", w) for w in (u, v)]
                found = [rule(u, v) for rule in (algebra.mul, algebra.add)]
                found += [algebra.gate(r[0], v, v), algebra.gate(r[1], u, v)]
                found += [algebra.gate(r[1], v, u), algebra.concatenate([u, v])]
                found += [algebra.activation(name, u) for name in ACTIVATIONS]
                rows.append([*found, algebra.fixed(channel_average(2, 2), u)])
            for small, large in zip(*rows, strict=True):
                assert float(small.log_N[0]) <= float(large.log_N[0]) + 1e-14
                assert float(small.log_Z[0]) <= float(large.log_Z[0]) + 1e-14
                assert (small.log_lam[:, 0] <= large.log_lam[:, 0] + 1e-13).all()


def test_inflated_norms_exceed_plain_ones():
    plain, inflated = algebra_of(), algebra_of(inflation=1e-10)
    u, v = value(3, 0.2, 0.1, 0.0), value(3, -0.4, -0.5, 1.0)
    r = plain.activation("sigmoid", u)
    for rule in ("mul", "add"):
        one, two = (getattr(a, rule)(u, v) for a in (plain, inflated))
        assert two.log_N[0] == pytest.approx(one.log_N[0] + 1e-10, abs=1e-15)
    assert inflated.gate(r, u, v).log_Z[0] > plain.gate(r, u, v).log_Z[0]
    assert inflated.activation("tanh", u).log_N[0] > plain.activation("tanh", u).log_N[0]
    assert inflated.mean(u, 7).log_N[0] > u.log_N[0]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 4), st.integers(1, 200), st.integers(0, 10**6))
def test_powers_with_sums_are_repeated_steps(n, steps, seed):
    rng = np.random.default_rng(seed)
    A, b, v = (rng.normal(size=s) * 2 for s in ((2, n, n), (2, n), (2, n)))
    A[rng.uniform(size=A.shape) < 0.3] = -np.inf
    b[rng.uniform(size=b.shape) < 0.3] = -np.inf
    power, total = affine_power(A, steps)
    found = np.logaddexp(
        np.logaddexp.reduce(power + v[:, None], axis=-1),
        np.logaddexp.reduce(total + b[:, None], axis=-1),
    )
    M = np.full((2, n + 1, n + 1), -np.inf)
    M[:, :n, :n], M[:, :n, n], M[:, n, n] = A, b, 0.0
    want = affine_last(M, np.concatenate([v, np.zeros((2, 1))], axis=1), steps)[:, :n]
    np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-10)


def test_below_asks_for_room_and_lets_zero_pass():
    assert below(np.array([-np.inf, 1.0]), np.array([-np.inf, 1.0 + 1e-13]))
    assert not below(np.array([1.0]), np.array([1.0]))
    assert not below(np.array([-5.0]), np.array([-np.inf]))


def test_sums_in_place_change_nothing_that_is_read_again():
    """``add`` writes into its first argument: biases and shared inputs must never be it."""
    net = vanilla(np.eye(2), np.eye(2), np.eye(2), b=np.ones(2), input_kind="real")
    algebra, x = NumbersAlgebra(net), np.ones((3, 2))
    z = algebra.linear(net.block("W"), x)
    assert algebra.add(z, algebra.bias(net.block("b"))) is z
    np.testing.assert_array_equal(net.block("b").value, 1.0)
    np.testing.assert_array_equal(x, 1.0)
    bank = Block("F", np.ones((2, 1, 3)), "operator", positions=2)
    assert (bank.rows, bank.columns, bank.terms, bank.parameters) == (4, 2, 3, 6)
