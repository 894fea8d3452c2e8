"""Operator norms of filter banks: true upper bounds, tight, by either branch."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from recert.errors import InputError
from recert.numerics.norms import (
    DENSE_SIDE,
    circulant_norm_bound,
    convolution_matrix,
    convolution_norm_bound,
    frobenius_norm_bound,
)

BANKS = st.tuples(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 7),
    st.integers(1, 9),
    st.integers(0, 10**6),
)


def drawn(spec):
    out, channels, width, positions, seed = spec
    rng = np.random.default_rng(seed)
    bank = rng.normal(size=(out, channels, width)) * 10.0 ** rng.integers(-3, 4)
    return np.abs(bank) if seed % 3 == 0 else bank, positions


def true_norm(bank, positions):
    """The largest singular value in 40 digits, of the matrix written entry by entry."""
    out, channels, width = bank.shape
    left = (width - 1) // 2
    with mpmath.workdps(40):
        matrix = mp.zeros(out * positions, channels * positions)
        for o in range(out):
            for p in range(positions):
                for i in range(channels):
                    for j in range(width):
                        q = p + j - left
                        if 0 <= q < positions:
                            matrix[o * positions + p, i * positions + q] = mp.mpf(
                                float(bank[o, i, j])
                            )
        if matrix.rows < matrix.cols:
            matrix = matrix.T
        return max(mp.svd_r(matrix, compute_uv=False))


@settings(max_examples=100, deadline=None)
@given(BANKS)
def test_both_branches_are_upper_bounds(spec):
    bank, positions = drawn(spec)
    exact = np.linalg.norm(convolution_matrix(bank, positions), 2)
    dense, circulant = (
        convolution_norm_bound(bank, positions),
        circulant_norm_bound(bank, positions),
    )
    assert exact * (1 - 1e-13) <= dense <= exact * (1 + 1e-12)
    assert exact * (1 - 1e-13) <= circulant
    # Nothing that a bank does to a vector can exceed the sum of its taps' norms.
    taps = sum(np.linalg.norm(bank[:, :, j], 2) for j in range(bank.shape[2]))
    assert circulant <= taps * (1 + 1e-11)
    assert dense <= np.sqrt(min(positions, bank.shape[2])) * frobenius_norm_bound(
        bank.reshape(len(bank), -1)
    ) * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_both_branches_are_above_the_norm_in_forty_digits(seed):
    rng = np.random.default_rng(seed)
    out, channels, width, positions = (int(k) for k in rng.integers(1, (3, 3, 6, 5)))
    bank = rng.normal(size=(out, channels, width))
    exact = true_norm(bank, positions)
    for found in (convolution_norm_bound(bank, positions), circulant_norm_bound(bank, positions)):
        assert exact <= mp.mpf(found)
    assert mp.mpf(convolution_norm_bound(bank, positions)) <= exact * (1 + mp.mpf("1e-13"))


@settings(max_examples=60, deadline=None)
@given(BANKS)
def test_the_matrix_is_torch_s_convolution(spec):
    torch = pytest.importorskip("torch")
    bank, positions = drawn(spec)
    x = np.random.default_rng(spec[-1]).normal(size=(3, bank.shape[1], positions))
    left = (bank.shape[2] - 1) // 2
    padded = torch.nn.functional.pad(torch.as_tensor(x), (left, bank.shape[2] - 1 - left))
    want = torch.nn.functional.conv1d(padded, torch.as_tensor(bank)).numpy()
    found = x.reshape(3, -1) @ convolution_matrix(bank, positions).T
    scale = np.abs(bank).sum() * np.abs(x).max()
    np.testing.assert_allclose(found, want.reshape(3, -1), rtol=0, atol=1e-13 * scale)
    if bank.shape[2] % 2:  # torch pads even widths itself, with a warning about the copy
        same = torch.nn.functional.conv1d(
            torch.as_tensor(x), torch.as_tensor(bank), padding="same"
        ).numpy()
        np.testing.assert_allclose(found, same.reshape(3, -1), rtol=0, atol=1e-13 * scale)


@settings(max_examples=60, deadline=None)
@given(BANKS, st.floats(1e-6, 1e6))
def test_invariants(spec, factor):
    bank, positions = drawn(spec)
    for bound in (convolution_norm_bound, circulant_norm_bound):
        base = bound(bank, positions)
        assert bound(factor * bank, positions) == pytest.approx(factor * base, rel=1e-10)
        assert bound(-bank, positions) == pytest.approx(base, rel=1e-12)
        # Orders of channels do not matter; a part is never larger; more positions only add.
        assert bound(bank[::-1], positions) == pytest.approx(base, rel=1e-11)
        assert bound(bank[:, ::-1], positions) == pytest.approx(base, rel=1e-11)
        assert bound(bank[:1], positions) <= base * (1 + 1e-11)
        assert bound(np.abs(bank), positions) >= base * (1 - 1e-11) or bank.min() < 0
    dense = [convolution_norm_bound(bank, L) for L in (1, positions, positions + 3)]
    assert dense[0] <= dense[1] * (1 + 1e-11) <= dense[2] * (1 + 1e-10)
    # Odd widths: mirrored filters are the mirrored map; transposing swaps channels and mirrors.
    if bank.shape[2] % 2:
        mirrored = bank[:, :, ::-1]
        adjoint = mirrored.transpose(1, 0, 2)
        for other in (mirrored, adjoint):
            assert convolution_norm_bound(other, positions) == pytest.approx(dense[1], rel=1e-11)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("positions", [1, 2, 3, 300])
def test_known_norms(width, positions):
    """A single tap is a shift, a constant filter an average; one channel, one position is exact."""
    for j in range(width):
        shift = np.zeros((1, 1, width))
        shift[0, 0, j] = -2.5
        inside = abs(j - (width - 1) // 2) < positions
        dense = convolution_norm_bound(shift, positions)
        assert dense == pytest.approx(2.5 if inside else 0.0, rel=1e-10)
        assert circulant_norm_bound(shift, positions) == pytest.approx(2.5, rel=1e-11)
        assert circulant_norm_bound(shift, positions) >= 2.5
    ones = np.ones((1, 1, width))
    assert convolution_norm_bound(ones, positions) <= width * (1 + 1e-10)
    assert circulant_norm_bound(ones, positions) == pytest.approx(width, rel=1e-11)
    if positions == 300:
        assert convolution_norm_bound(ones, positions) >= width * (1 - 1e-3)


def test_large_banks_take_the_circulant_branch_and_lose_little():
    rng = np.random.default_rng(0)
    bank, positions = rng.normal(size=(3, 2, 5)), DENSE_SIDE // 3 + 1
    found = convolution_norm_bound(bank, positions)
    assert found == circulant_norm_bound(bank, positions)
    exact = np.linalg.norm(convolution_matrix(bank, positions), 2)
    assert exact <= found <= exact * 1.001


def test_wider_than_the_input_and_zero_and_refused():
    bank = np.arange(1.0, 8.0).reshape(1, 1, 7)
    assert convolution_norm_bound(bank, 1) == pytest.approx(4.0, rel=1e-12)
    assert circulant_norm_bound(bank, 1) >= 4.0
    for bound in (convolution_norm_bound, circulant_norm_bound):
        assert bound(np.zeros((2, 3, 4)), 5) == 0.0
        for wrong in (np.nan, np.inf):
            with pytest.raises(InputError, match="finite"):
                bound(np.full((1, 1, 3), wrong), 4)
        with pytest.raises(InputError, match=r"range|finite"):
            bound(np.full((2, 2, 3), 1.7e308), 4)
        for tiny in (1e-300, 5e-324):
            found = bound(np.full((1, 1, 2), tiny), 400)
            assert tiny * 1.99 <= found <= tiny * 2.01 or tiny == 5e-324 <= found
