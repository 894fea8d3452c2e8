"""Every norm is compared with its exact value in rationals or in 60-digit arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recert.errors import InputError
from recert.numerics import norms

FUNCTIONS = {
    "spectral": norms.spectral_norm_bound,
    "frobenius": norms.frobenius_norm_bound,
    "two_one": norms.two_one_norm_bound,
    "row_sum": norms.row_sum_norm_bound,
    "column": norms.column_norm_bound,
    "l1": norms.l1_norm_bound,
}

entries = st.one_of(
    st.floats(-1e3, 1e3),
    st.sampled_from([0.0, 1.0, -1.0, 0.1, 1e-200, 3e150, 5e-324, -(2.0**-1030)]),
)


@st.composite
def matrices(draw, side=5):
    d1, d2 = draw(st.integers(1, side)), draw(st.integers(1, side))
    flat = draw(st.lists(entries, min_size=d1 * d2, max_size=d1 * d2))
    return np.array(flat).reshape(d1, d2)


def exact(A):
    """The norms other than the spectral one, as mpf at 60 digits, from exact rational sums."""
    F = [[Fraction(float(a)) for a in row] for row in A]
    columns = [sum(x * x for x in col) for col in zip(*F, strict=True)]

    def root(x):
        return mpmath.sqrt(mpmath.mpf(x.numerator) / x.denominator)

    def number(x):
        return mpmath.mpf(x.numerator) / x.denominator

    return {
        "frobenius": root(sum(columns)),
        "two_one": mpmath.fsum(root(c) for c in columns),
        "row_sum": number(max(sum(abs(x) for x in row) for row in F)),
        "column": root(max(columns)),
        "l1": number(sum(abs(x) for row in F for x in row)),
    }


@settings(max_examples=150, deadline=None)
@given(matrices())
def test_elementary_norms_are_tight_upper_bounds(A):
    with mpmath.workdps(60):
        for kind, true in exact(A).items():
            bound = FUNCTIONS[kind](A)
            assert bound >= true, kind
            assert bound <= true * (1 + mpmath.mpf(40) * 2.0**-52) + 5e-324 * (A.size + 2), kind


@pytest.mark.parametrize(
    "pair",  # of 4·10^6 drawn pairs those that the roundings make smallest
    [
        (0.5000864153079638, 0.5313287970801712),
        (0.5163281175009525, 0.5002768997713326),
        (0.5098000388382117, 0.5080301660609579),
        (0.6498096401491075, 0.2996185914665114),
    ],
)
@pytest.mark.parametrize("kind", ["column", "frobenius", "two_one"])
def test_the_allowance_covers_the_worst_roundings_of_two_entries(kind, pair):
    square = sum(Fraction(a) ** 2 for a in pair)
    assert Fraction(FUNCTIONS[kind](np.array(pair)[:, None])) ** 2 >= square


@settings(max_examples=60, deadline=None)
@given(matrices(side=4))
@example(np.full((4, 4), 5e-324))  # entries of computed matrices round by half of this
def test_spectral_is_a_tight_upper_bound(A):
    bound = norms.spectral_norm_bound(A)
    with mpmath.workdps(60):
        M = mpmath.matrix(A.tolist())
        scale = max(abs(x) for x in M)
        true = scale * max(mpmath.svd_r(M / scale, compute_uv=False)) if scale else mpmath.mpf(0)
        assert bound >= true * (1 - mpmath.mpf(10) ** -50)
        assert bound <= true * (1 + mpmath.mpf(1e-13)) + 5e-324 * (A.size + 2)


@pytest.mark.parametrize("shape", [(40, 40), (7, 300), (300, 7), (64, 48)])
def test_spectral_against_lapack(shape):
    A = np.random.default_rng(1).standard_normal(shape)
    top = np.linalg.norm(A, 2)
    bound = norms.spectral_norm_bound(A)
    assert top * (1 - 1e-14) <= bound <= top * (1 + 1e-12)
    assert norms.spectral_norm_bound(A.T) == pytest.approx(bound, rel=1e-12)


def known_orthogonal(n):
    """Householder reflection with an exact norm of 1 up to the rounding of its entries."""
    v = np.random.default_rng(2).standard_normal(n)
    return np.eye(n) - 2 * np.outer(v, v) / (v @ v)


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal", "low rank", "clustered", "wide"])
def test_lanczos_branch(kind):
    n = 300
    rng = np.random.default_rng(3)
    A = {
        "gaussian": rng.standard_normal((n, n)),
        "orthogonal": known_orthogonal(n),
        "low rank": np.outer(rng.standard_normal(n), rng.standard_normal(n)),
        "clustered": np.diag(1 - 1e-9 * np.arange(n) ** 2),
        "wide": rng.standard_normal((n, 500)),
    }[kind]
    top = np.linalg.norm(A, 2)
    bound = norms.spectral_norm_bound(A)
    assert top * (1 - 1e-13) <= bound <= top * (1 + (1e-7 if kind == "clustered" else 1e-9))


def test_lanczos_missing_the_top_is_repaired_by_cholesky(monkeypatch):
    monkeypatch.setattr(norms, "_lanczos", lambda G: (1e-3, 0.0))
    A = np.diag(np.linspace(0.5, 3.0, 260))
    assert 3.0 <= norms.spectral_norm_bound(A) <= 3.0 * (1 + 1e-10)


def test_an_estimate_from_below_never_gets_through(monkeypatch):
    true_top = norms._top_eigenvalue
    monkeypatch.setattr(norms, "_top_eigenvalue", lambda G: true_top(G) * 0.9)
    A = np.random.default_rng(4).standard_normal((20, 20))
    assert norms.spectral_norm_bound(A) >= np.linalg.norm(A, 2)


def test_failing_cholesky_falls_back_to_frobenius(monkeypatch):
    monkeypatch.setattr(norms, "_cholesky_completes", lambda M: False)
    A = np.random.default_rng(5).standard_normal((9, 6))
    assert norms.spectral_norm_bound(A) == norms.frobenius_norm_bound(A)


def test_exact_gram_error_is_covered_for_long_sides():
    """λI − AᵀA must be positive semidefinite in rationals for λ the square of the bound."""
    A = np.random.default_rng(6).standard_normal((2000, 2)).astype(np.float32)
    cap = Fraction(norms.spectral_norm_bound(A)) ** 2
    F = [[Fraction(float(x)) for x in row] for row in A]
    a, b, c = (sum(r[i] * r[j] for r in F) for i, j in [(0, 0), (0, 1), (1, 1)])
    assert cap >= a and (cap - a) * (cap - c) >= b * b


@pytest.mark.parametrize("exponent", [-1060, -600, 0, 600, 1000])
def test_scaling_by_powers_of_two(exponent):
    A = np.array([[0.75, 0.5], [-0.25, 1.0], [0.5, 0.5]])
    scaled = norms.norm_bounds(np.ldexp(A, exponent))
    base = norms.norm_bounds(A)
    for kind in FUNCTIONS:
        expected = math.ldexp(getattr(base, kind), exponent)
        assert expected <= getattr(scaled, kind) <= expected * (1 + 1e-3)
    if exponent >= -600:
        assert scaled.spectral == math.ldexp(base.spectral, exponent)


def test_norm_bounds_agrees_with_the_single_functions():
    A = np.random.default_rng(7).standard_normal((6, 11))
    all_of_them = norms.norm_bounds(A, name="U")
    for kind, f in FUNCTIONS.items():
        assert getattr(all_of_them, kind) == f(A)
    ratio = np.linalg.norm(A) / np.linalg.norm(A, 2)
    assert all_of_them.frobenius_over_spectral == pytest.approx(ratio)
    assert all_of_them.stable_rank == pytest.approx(ratio**2)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (4, 4), (1, 5), (0,)])
def test_zero_and_empty(shape):
    zero = norms.norm_bounds(np.zeros(shape))
    assert zero == norms.NormBounds(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert zero.frobenius_over_spectral == zero.stable_rank == 0.0


@pytest.mark.parametrize("A", [[3.0, 4.0], [[3.0, 4.0]], [[3.0], [4.0]], [[3, 4]]])
def test_vectors_are_euclidean(A):
    assert 5.0 <= norms.spectral_norm_bound(A) <= 5.0 * (1 + 1e-14)


def test_float32_is_read_exactly():
    A = np.array([[0.1, 0.2]], dtype=np.float32)
    assert norms.l1_norm_bound(A) >= Fraction(float(A[0, 0])) + Fraction(float(A[0, 1]))


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_names_the_matrix(kind, value):
    with pytest.raises(InputError, match=r"matrix 'W_g' is not finite at \[1, 0\]"):
        FUNCTIONS[kind]([[1.0, 2.0], [value, 0.0]], name="W_g")


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.ones((2, 2, 2)), "shape"),
        (np.float64(1.0), "shape"),
        ([[1.0], [1.0, 2.0]], "not an array"),
        (np.array([[1j]]), "dtype"),
        (np.array([["a"]]), "dtype"),
        (np.array([[2**60]]), "2\\^53"),
        (np.full((2, 2), 1.7e308), "float64 range"),
    ],
)
def test_bad_input(A, message):
    with pytest.raises(InputError, match=message):
        norms.norm_bounds(A, name="V")
