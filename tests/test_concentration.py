"""Limits are compared with mpmath, with exact rationals, and with simulated coverage."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recert.errors import InputError
from recert.numerics import concentration as con

unit = st.one_of(
    st.floats(0, 1),
    st.floats(-300, 0).map(lambda e: 10.0**e),
    st.floats(-16, 0).map(lambda e: 1.0 - 10.0**e),
    st.sampled_from([0.0, 1.0, 0.5, con.BELOW_ONE, 1e-300, 5e-324]),
)
level = st.one_of(
    st.floats(0, 50),
    st.floats(-300, 5).map(lambda e: 10.0**e),
    st.sampled_from([0.0, 1e-300, 1e300, math.inf, math.log(2)]),
)
delta = st.one_of(st.floats(1e-12, 0.9), st.sampled_from([0.05, 0.01, 1e-9]))


def kl_exact(q, p):
    q, p = mpmath.mpf(q), mpmath.mpf(p)
    first = q * mpmath.log(q / p) if q > 0 and p > 0 else (mpmath.inf if q > 0 else mpmath.mpf(0))
    if q == 1:
        return first
    return first + (1 - q) * mpmath.log((1 - q) / (1 - p)) if p < 1 else mpmath.inf


@settings(max_examples=400, deadline=None)
@given(unit, unit)
@example(0.5, 0.5 + 2.0**-40)
@example(1e-9, 1.0 - 1e-15)
@example(1.0 - 1e-15, 1e-9)
def test_kl_is_accurate(q, p):
    value = con.kl(q, p)
    with mpmath.workdps(400):
        true = kl_exact(q, p)
        if mpmath.isinf(true):
            assert value == math.inf
        else:
            allowed = con.KL_RELATIVE_ERROR / 8 * true + con.KL_ABSOLUTE_ERROR / 8
            assert abs(value - true) <= allowed


@settings(max_examples=400, deadline=None)
@given(unit, level)
@example(0.0, 1e-300)
@example(0.3, 1e-300)
@example(1.0, 0.0)
@example(con.BELOW_ONE, 1e-5)
@example(0.99, 0.5)
@example(1e-300, 5e-324)
@example(5e-324, 5e-324)
def test_kl_inverse_upper_never_errs_low_and_is_tight(q, c):
    p = con.kl_inverse_upper(q, c)
    assert q <= p <= 1.0
    with mpmath.workdps(400):
        assert p == 1.0 or kl_exact(q, p) >= c
        lower = mpmath.mpf(p) * (1 - mpmath.mpf(10) ** -12) - mpmath.mpf(10) ** -318
        assert lower <= q or kl_exact(q, lower) < c + 8 * con.KL_ABSOLUTE_ERROR


@settings(max_examples=200, deadline=None)
@given(unit, level)
@example(1.0, 1e-300)
@example(1e-20, 1e-3)
def test_kl_inverse_lower_never_errs_high_and_is_tight(q, c):
    p = con.kl_inverse_lower(q, c)
    assert 0.0 <= p <= q
    with mpmath.workdps(400):
        assert p == 0.0 or c == 0 or kl_exact(q, p) >= c
        upper = mpmath.mpf(p) + mpmath.mpf(10) ** -12
        assert upper >= q or kl_exact(q, upper) < c


def test_kl_inverse_closed_forms():
    c = np.array([1e-300, 1e-5, 0.1, 1.0, 30.0])
    np.testing.assert_allclose(con.kl_inverse_upper(0.0, c), -np.expm1(-c), rtol=1e-12)
    assert con.kl_inverse_upper(0.3, 0.0) == 0.3
    assert con.kl_inverse_upper(0.3, 1e300) == con.kl_inverse_upper(0.3, math.inf) == 1.0
    assert con.kl_inverse_upper(1.0, 0.0) == con.kl_inverse_upper(1.0, 5.0) == 1.0
    assert con.kl_inverse_lower(0.0, 2.0) == con.kl_inverse_lower(0.4, math.inf) == 0.0
    assert con.kl_inverse_lower(1.0, 0.7) == pytest.approx(math.exp(-0.7), rel=1e-12)


def test_kl_inverse_broadcasts_and_is_monotone():
    q = np.linspace(0, 1, 41)[:, None]
    c = np.concatenate([[0.0], np.logspace(-12, 3, 60)])
    p = con.kl_inverse_upper(q, c)
    assert p.shape == (41, 61)
    assert (np.diff(p, axis=0) >= -1e-13).all() and (np.diff(p, axis=1) >= -1e-13).all()
    assert p[5, 17] == con.kl_inverse_upper(float(q[5, 0]), float(c[17]))
    assert isinstance(con.kl_inverse_upper(0.1, 0.2), float)
    assert con.kl_inverse_upper(np.zeros((0, 3)), 0.1).shape == (0, 3)


@pytest.mark.parametrize("f", [con.kl_inverse_upper, con.kl_inverse_lower])
@pytest.mark.parametrize(
    ("q", "c"), [(-0.1, 1), (1.1, 1), (math.nan, 1), (0.5, math.nan), (0.5, -1e-9), ("a", 1)]
)
def test_kl_inverse_bad_input(f, q, c):
    with pytest.raises(InputError, match=r"^(q|c) "):
        f(q, c)


def binomial_tail(k, n, p):
    """P(Bin(n, p) <= k), summed downwards from k until the terms no longer count."""
    term = mpmath.binomial(n, k) * p**k * (1 - p) ** (n - k)
    total = mpmath.mpf(0)
    for i in range(k, -1, -1):
        total += term
        if term < total * mpmath.mpf(10) ** -38 and i < n * p:
            break
        term *= i * (1 - p) / ((n - i + 1) * p)
    return total


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), delta)
@example(100000, 0.2, 0.01)
@example(1, 0.0, 0.5)
@example(1000000, 0.0, 1e-9)
def test_binomial_upper_limit_against_mpmath(n, fraction, d):
    k = min(int(fraction * n), n)
    p = con.binomial_upper_limit(k, n, d)
    if k == n:
        assert p == 1.0
        return
    with mpmath.workdps(40):
        assert p == 1.0 or binomial_tail(k, n, mpmath.mpf(p)) <= d
        assert binomial_tail(k, n, mpmath.mpf(p) * (1 - mpmath.mpf(1e-8))) > d
        if n <= 500:
            beta = mpmath.betainc(n - k, k + 1, 0, 1 - mpmath.mpf(p), regularized=True)
            assert mpmath.almosteq(beta, binomial_tail(k, n, mpmath.mpf(p)), 1e-25)


def test_binomial_upper_limit_is_monotone_and_below_kl():
    limits = [con.binomial_upper_limit(k, 200, 0.05) for k in range(201)]
    assert all(a < b for a, b in itertools.pairwise(limits)) and limits[-1] == 1.0
    chernoff = con.kl_inverse_upper(np.arange(201) / 200, math.log(20) / 200)
    assert (np.array(limits) <= chernoff + 1e-12).all()
    assert con.binomial_upper_limit(np.int64(3), 200, 0.01) > limits[3]


def hypergeometric_exact(k, n, N, d):
    best = None
    for D in range(N + 1):
        ways = sum(
            math.comb(D, i) * math.comb(N - D, n - i) for i in range(min(k, D, n) + 1) if n - i >= 0
        )
        if Fraction(ways, math.comb(N, n)) > Fraction(d):
            best = D
    return best


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_hypergeometric_upper_limit_against_enumeration(data):
    N = data.draw(st.integers(1, 40))
    n = data.draw(st.integers(1, N))
    k = data.draw(st.integers(0, n))
    d = data.draw(st.sampled_from([0.3, 0.05, 1e-3, 1e-7]))
    rate = con.hypergeometric_upper_limit(k, n, N, d)
    exact = hypergeometric_exact(k, n, N, d)
    in_doubt = hypergeometric_exact(k, n, N, d * (1 - 1e-9))  # ties within rounding are possible
    assert Fraction(exact, N) <= rate <= math.nextafter(in_doubt / N, 2.0)


def test_hypergeometric_ties_count_as_possible():
    # P(Hyp(4, 2, 2) <= 0) = 1/6 and P(Hyp(4, 1, 2) <= 0) = 1/2: at delta = 1/2 the tie is kept.
    assert con.hypergeometric_upper_limit(0, 2, 4, 0.5) == 0.25


def test_hypergeometric_limits_and_monotonicity():
    assert con.hypergeometric_upper_limit(7, 50, 50, 0.01) >= 0.14
    assert con.hypergeometric_upper_limit(7, 50, 50, 0.01) == pytest.approx(0.14)
    rates = [con.hypergeometric_upper_limit(k, 100, 70000, 0.05) for k in range(101)]
    assert rates == sorted(rates) and rates[-1] == 1.0
    # A small sample of a long list: with or without replacement hardly matters.
    assert rates[10] == pytest.approx(con.binomial_upper_limit(10, 100, 0.05), rel=2e-3)
    large = con.hypergeometric_upper_limit(20000, 100000, 10**6, 1e-3)
    assert 0.2 < large < con.binomial_upper_limit(20000, 100000, 1e-3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: con.binomial_upper_limit(3, 2, 0.1),
        lambda: con.binomial_upper_limit(-1, 2, 0.1),
        lambda: con.binomial_upper_limit(0, 0, 0.1),
        lambda: con.binomial_upper_limit(0.5, 2, 0.1),
        lambda: con.binomial_upper_limit(1, 2, 0.0),
        lambda: con.binomial_upper_limit(1, 2, math.nan),
        lambda: con.hypergeometric_upper_limit(0, 5, 4, 0.1),
        lambda: con.hypergeometric_upper_limit(6, 5, 9, 0.1),
        lambda: con.hypergeometric_upper_limit(1, 5, 9, 1.0),
        lambda: con.maurer_log_term(0, 0.1),
        lambda: con.maurer_log_term(10, 2.0),
        lambda: con.binary_entropy([0.5, 1.5]),
        lambda: con.kl(2.0, 0.5),
    ],
)
def test_bad_input(call):
    with pytest.raises(InputError):
        call()


@settings(max_examples=100, deadline=None)
@given(unit)
def test_binary_entropy_is_rounded_up(z):
    h = con.binary_entropy(z)
    with mpmath.workdps(400):
        x = mpmath.mpf(z)
        parts = [-y * mpmath.log(y) for y in (x, 1 - x) if y > 0]
        true = mpmath.fsum(parts)
        assert true <= h <= true * (1 + mpmath.mpf(1e-14)) + mpmath.mpf(10) ** -320
    assert con.binary_entropy([0.0, 0.5, 1.0]) == pytest.approx([0.0, math.log(2), 0.0])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 10**9), delta)
def test_maurer_log_term_is_rounded_up(m, d):
    value = con.maurer_log_term(m, d)
    with mpmath.workdps(40):
        true = mpmath.log(2 * mpmath.sqrt(m) / mpmath.mpf(d))
        assert true <= value <= true * (1 + mpmath.mpf(1e-13))


def test_maurer_constant_below_eight():
    for m in range(1, 60):
        total = sum(
            math.comb(m, k) * Fraction(k, m) ** k * Fraction(m - k, m) ** (m - k)
            for k in range(m + 1)
        )
        assert total**2 <= 4 * m


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3])
def test_coverage(rate):
    """5000 samples each: the limits fail at most as often as promised, up to four deviations."""
    n, d, repeats = 60, 0.1, 5000
    errors = np.random.default_rng(11).binomial(n, rate, repeats)
    exact = np.array([con.binomial_upper_limit(k, n, d) for k in range(n + 1)])
    chernoff = con.kl_inverse_upper(np.arange(n + 1) / n, math.log(1 / d) / n)
    allowed = d + 4 * math.sqrt(d * (1 - d) / repeats)
    for limits in (exact, chernoff):
        assert (limits[errors] < rate).mean() <= allowed


def test_hypergeometric_coverage():
    n, population, wrong, d, repeats = 60, 200, 50, 0.1, 5000
    errors = np.random.default_rng(12).hypergeometric(wrong, population - wrong, n, repeats)
    limits = np.array([con.hypergeometric_upper_limit(k, n, population, d) for k in range(n + 1)])
    assert (limits[errors] < wrong / population).mean() <= d + 4 * math.sqrt(d * (1 - d) / repeats)
