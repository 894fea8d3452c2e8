"""The logarithm of the geometric sum, against 60-digit arithmetic and against plain sums."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recert.errors import InputError
from recert.numerics.logspace import ln, log_geometric_sum, log_S, log_sum, to_log10

BETAS = [
    1e-300,
    1e-9,
    0.5,
    0.99,
    1 - 1e-12,
    1 - 2**-53,
    1.0,
    1 + 2**-52,
    1 + 1e-12,
    1.01,
    2.68,
    1e3,
]
STEPS = [1, 2, 3, 56, 10**3, 10**6]


def oracle(beta: float, t: int) -> mp.mpf:
    with mp.workdps(60):
        b = mp.mpf(beta)
        return mp.log(t) if b == 1 else mp.log((b**t - 1) / (b - 1))


def close(value: float, truth: mp.mpf, digits: float = 1e-13) -> bool:
    return abs(mp.mpf(value) - truth) <= digits * abs(truth)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("t", STEPS)
def test_edges_scalar_and_array(beta, t):
    with mp.workdps(400):  # 1 + 1e-300 is not 1 here
        b = mp.mpf(beta)
        truth = mp.log(t) if b == 1 else mp.log((b**t - 1) / (b - 1))
        assert close(log_S(beta, t), truth)
        assert close(float(log_S(np.array([beta]), np.array([t]))[0]), truth)


@settings(max_examples=200, deadline=None)
@given(st.floats(math.log(1e-9), math.log(1e3)), st.integers(1, 10**6))
def test_log_uniform_betas(log_beta, t):
    beta = math.exp(log_beta)
    assert close(log_S(beta, t), oracle(beta, t))


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e-5, 1e-5), st.integers(1, 10**6))
def test_betas_around_one(offset, t):
    beta = 1.0 + offset
    assert close(log_S(beta, t), oracle(beta, t))


def test_plain_sum_of_few_terms():
    for beta in (0.0, 0.3, 1.0, 1.7):
        for t in (1, 2, 5):
            assert math.exp(log_S(beta, t)) == pytest.approx(
                sum(beta**j for j in range(t)), rel=1e-14
            )


def test_zero_steps_and_zero_beta():
    assert log_S(1.3, 0) == -math.inf
    assert log_S(0.0, 0) == -math.inf
    assert log_S(0.0, 5) == 0.0
    assert log_geometric_sum(-math.inf, 1) == 0.0
    table = log_S(np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 3]))
    assert table.shape == (3, 3)
    assert np.all(np.isneginf(table[:, 0]))
    assert table[:, 2] == pytest.approx([0.0, math.log(3), math.log(7)])


def test_huge_log_beta_does_not_overflow():
    assert log_geometric_sum(1e4, 10**6) == pytest.approx(1e4 * (10**6 - 1), rel=1e-15)
    assert log_geometric_sum(np.array([1e4]), 10**6)[0] == pytest.approx(1e4 * (10**6 - 1))


def test_scalars_are_plain_floats():
    assert type(log_S(1.5, 3)) is float
    assert type(log_S(np.float64(1.5), np.int64(3))) is float
    assert type(log_geometric_sum(0.1, 3)) is float


@pytest.mark.parametrize("beta", [-1e-9, math.nan, math.inf])
def test_bad_beta(beta):
    with pytest.raises(InputError, match="beta"):
        log_S(beta, 3)
    with pytest.raises(InputError, match="beta"):
        log_S(np.array([1.0, beta]), 3)


@pytest.mark.parametrize("t", [-1, math.nan, math.inf])
def test_bad_t(t):
    with pytest.raises(InputError, match="t must"):
        log_S(1.0, t)
    with pytest.raises(InputError, match="t must"):
        log_geometric_sum(np.array([0.0]), t)


def test_bad_log_beta():
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError, match="log_beta"):
            log_geometric_sum(bad, 2)
        with pytest.raises(InputError, match="log_beta"):
            log_geometric_sum(np.array([bad]), 2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.just(-math.inf), st.floats(-1e6, 1e6)), max_size=6))
def test_log_sum_against_mpmath(terms):
    got = log_sum(terms)
    with mp.workdps(60):
        total = mp.fsum(mp.exp(mp.mpf(v)) for v in terms if v != -math.inf)
        if total == 0:
            assert got == -math.inf
        else:
            truth = mp.log(total)
            assert abs(got - truth) <= 1e-13 * max(1, abs(truth))


def test_log_sum_of_arrays():
    terms = np.log(np.array([[1.0, 2.0, 4.0], [1.0, 1.0, 1.0]]))
    assert log_sum(terms, axis=1) == pytest.approx(np.log([7.0, 3.0]))
    assert log_sum(terms) == pytest.approx(math.log(10.0))
    assert np.isneginf(log_sum(np.full((2, 2), -np.inf), axis=0)).all()
    assert np.isneginf(log_sum(np.empty((3, 0)), axis=1)).all()
    assert log_sum(np.array([[1e6, 1e6]]), axis=1)[0] == pytest.approx(1e6 + math.log(2.0))


def test_ln_and_log10():
    assert ln(0.0) == -math.inf
    assert close(ln(1.0 + 2**-52), mp.log(1 + mp.mpf(2) ** -52))
    assert to_log10(ln(1000.0)) == pytest.approx(3.0, rel=1e-15)
