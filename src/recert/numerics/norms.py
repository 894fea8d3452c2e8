"""Matrix norms that are upper bounds, not estimates.

Every function takes a real matrix of shape (d1, d2) (a vector of length d counts as (d, 1)) and
returns a float that is at least the exact norm of the floats given. Norms have no unit beyond that
of the entries. Matrices without entries have norm 0. `InputError` is raised for entries that are
not finite, not real, not exactly representable in float64, for other shapes, and where the norm
itself leaves the range of float64.

Rounding is accounted for by hand. With u = 2^-53, a sum of n non-negative floats taken in a binary
tree of depth ceil(log2 n) is wrong by a factor of at most (1 - u)^-depth, a square or a square root
by one more factor, and the result is multiplied by what that amounts to. Matrices are first scaled
by a power of two so that the largest entry lies in [1/2, 1): what underflows then is below
2^-1000 times the result, and a spare unit of rounding pays for it.

The operator norm of a filter bank with zero padding: true upper bounds, not estimates.

A bank A of shape (channels out, channels in, width) acts on L positions as the block Toeplitz
matrix with blocks A_j on its diagonals, y_o[p] = Σ_i Σ_j A[o, i, j] x_i[p + j − ⌊(width − 1)/2⌋].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recert.errors import InputError

Matrix = NDArray[np.float64]

UNIT = 2.0**-53
EPS = 2.0**-52
SMALLEST = 2.0**-1074
# Norms from which the absolute rounding of entries is far below the relative one.
ROUNDED_BELOW = 1e-280
DENSE_LIMIT = 256
LANCZOS_STEPS = 200
LANCZOS_TOLERANCE = 1e-6
MAX_CHOLESKY = 24


@dataclass(frozen=True)
class NormBounds:
    """Upper bounds on the norms of one matrix, as `norm_bounds` returns them.

    `two_one` sums over columns of their Euclidean norms (the paper's M), `row_sum` is the largest
    absolute row sum, `column` the largest Euclidean norm of a column (the norm on one-hot inputs),
    `l1` the sum of all absolute entries.
    """

    spectral: float
    frobenius: float
    two_one: float
    row_sum: float
    column: float
    l1: float

    @property
    def frobenius_over_spectral(self) -> float:
        """‖A‖_F / ‖A‖, which the paper's Section 6 calls the stable rank; 0 for a zero matrix.

        A ratio of two upper bounds, so it describes the matrix and bounds nothing.
        """
        return self.frobenius / self.spectral if self.spectral > 0 else 0.0

    @property
    def stable_rank(self) -> float:
        """‖A‖_F² / ‖A‖², the usual stable rank, between 1 and the rank; 0 for a zero matrix.

        A ratio of two upper bounds, so it describes the matrix and bounds nothing.
        """
        return self.frobenius_over_spectral**2


def norm_bounds(A: ArrayLike, name: str = "") -> NormBounds:
    """Return all of the bounds of this module for one matrix; `name` is what errors call it."""
    S, e = _scaled(A, name)
    return NormBounds(
        spectral=_unscaled(_spectral(S), e, name, S.size),
        frobenius=_unscaled(_frobenius(S), e, name, S.size),
        two_one=_unscaled(_two_one(S), e, name, S.size),
        row_sum=_unscaled(_row_sum(S), e, name, S.size),
        column=_unscaled(_column(S), e, name, S.size),
        l1=_unscaled(_l1(S), e, name, S.size),
    )


def spectral_norm_bound(A: ArrayLike, name: str = "") -> float:
    """Return an upper bound on the spectral norm ‖A‖ (operator norm in Euclidean norms).

    An estimate λ of ‖A‖² (LAPACK up to a smaller side of 256, Lanczos with a fixed start above)
    is proved to be nearly large enough by factorising λI − AᵀA, after Rump, "Verification of
    positive definiteness", BIT 46 (2006). Let A have shape (p, n), p ≥ n (else transpose),
    γ_k = ku/(1−ku), G = fl(AᵀA) and M = fl(λI − G).

    * Every entry of G is an inner product of length p, so |G − AᵀA| ≤ γ_p|A|ᵀ|A| entrywise and
      ‖G − AᵀA‖ ≤ γ_p ‖A‖_F². It is the *longer* side that counts here.
    * M differs from λI − G on the diagonal only, by at most u·M_ii ≤ uλ.
    * If floating-point Cholesky of M, of size n, completes, then RᵀR = M + Δ with
      ‖Δ‖ ≤ γ_{n+1}/(1−γ_{n+1})·tr(M) in any order of summation (Higham, Theorems 10.3 and 10.5).
      One more index is taken because BLAS may divide through a rounded reciprocal, and
      γ_k/(1−γ_k) ≤ γ_{k+1}; tr(M) ≤ nλ. So M ≥ −γ_{n+3} nλ, as RᵀR is positive semidefinite.

    Adding up, and with uλ + γ_{n+3} nλ ≤ γ_{n+4} nλ,

        ‖A‖² ≤ λ + γ_p ‖A‖_F² + γ_{n+4} nλ,

    at most the customary λ + 2γ_{k+2}(‖A‖_F² + nλ) with k = max(p, n). The argument needs BLAS
    products that are sums of products (no Strassen) in float64. Failing factorisations only
    raise λ. The relative excess is about n²u/2 + pu/2·‖A‖_F²/‖A‖²: 1e-13 at 40 × 40, 3e-10 at
    2048 × 2048. Never above `frobenius_norm_bound`; equal to it for one row or one column.
    """
    S, e = _scaled(A, name)
    return _unscaled(_spectral(S), e, name, S.size)


def frobenius_norm_bound(A: ArrayLike, name: str = "") -> float:
    """Return an upper bound on the Frobenius norm; relative excess below 40·2^-52."""
    S, e = _scaled(A, name)
    return _unscaled(_frobenius(S), e, name, S.size)


def two_one_norm_bound(A: ArrayLike, name: str = "") -> float:
    """Return an upper bound on ‖A‖_{2,1}, the sum over columns of their Euclidean norms."""
    S, e = _scaled(A, name)
    return _unscaled(_two_one(S), e, name, S.size)


def row_sum_norm_bound(A: ArrayLike, name: str = "") -> float:
    """Return an upper bound on the largest absolute row sum (the norm ∞ → ∞)."""
    S, e = _scaled(A, name)
    return _unscaled(_row_sum(S), e, name, S.size)


def column_norm_bound(A: ArrayLike, name: str = "") -> float:
    """Return an upper bound on the largest Euclidean norm of a column (the norm 1 → 2)."""
    S, e = _scaled(A, name)
    return _unscaled(_column(S), e, name, S.size)


def l1_norm_bound(A: ArrayLike, name: str = "") -> float:
    """Return an upper bound on the sum of all absolute entries."""
    S, e = _scaled(A, name)
    return _unscaled(_l1(S), e, name, S.size)


MatrixNorm = Literal["spectral", "frobenius", "two_one", "row_sum", "column", "l1"]
BOUNDS: dict[MatrixNorm, Callable[[ArrayLike, str], float]] = {
    "spectral": spectral_norm_bound,
    "frobenius": frobenius_norm_bound,
    "two_one": two_one_norm_bound,
    "row_sum": row_sum_norm_bound,
    "column": column_norm_bound,
    "l1": l1_norm_bound,
}


def _as_matrix(A: ArrayLike, name: str) -> Matrix:
    where = f"matrix '{name}'" if name else "matrix"
    try:
        raw = np.asarray(A)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{where} is not an array ({error}); pass a plain numeric one") from None
    if raw.ndim == 1:
        raw = raw[:, None]
    if raw.ndim != 2:
        raise InputError(f"{where} has shape {raw.shape}; pass an array with one or two axes")
    if raw.size == 0:
        return np.zeros(raw.shape)
    if raw.dtype.kind not in "fiub" or raw.dtype.itemsize > 8:
        raise InputError(f"{where} has dtype {raw.dtype}; convert it to float64 or float32")
    if raw.dtype.kind in "iu" and max(int(raw.max()), -int(raw.min())) > 2**53:
        raise InputError(f"{where} holds integers above 2^53; scale them down to exact floats")
    M = raw.astype(np.float64)
    finite = np.isfinite(M)
    if not finite.all():
        i, j = (int(k) for k in np.argwhere(~finite)[0])
        raise InputError(
            f"{where} is not finite at [{i}, {j}] ({M[i, j]}); remove NaN and inf before bounding"
        )
    return M


def _scaled(A: ArrayLike, name: str) -> tuple[Matrix, int]:
    """Return S, e with A = 2^e S and the largest |entry| of S in [1/2, 1), or S without entries."""
    M = _as_matrix(A, name)
    top = max(float(M.max()), -float(M.min())) if M.size else 0.0
    if top == 0.0:
        return np.zeros((0, 0)), 0
    e = math.frexp(top)[1]
    with np.errstate(under="ignore"):
        return np.ldexp(M, -e), e


def _unscaled(x: float, e: int, name: str, entries: int) -> float:
    """2^e x, rounded up; below the normal floats every entry may be half a unit off what it is of.

    Matrices that were computed, such as a margin form's, round there by 2^-1075 an entry.
    """
    try:
        y = math.ldexp(x, e)
    except OverflowError:
        where = f"matrix '{name}'" if name else "matrix"
        raise InputError(f"{where} has a norm above the float64 range; scale it down") from None
    y = y if math.ldexp(y, -e) >= x else math.nextafter(y, math.inf)
    return y + entries * SMALLEST if 0.0 < y < ROUNDED_BELOW else y


def _up(x: float, roundings: int) -> float:
    """Return at least x/(1−u)^roundings, with two units to spare for this and for underflow."""
    return x * (1.0 + (roundings + 2) * EPS)


def _depth(n: int) -> int:
    return (n - 1).bit_length()


def _tree_sum(x: Matrix) -> Matrix:
    """Sum over the first axis in a binary tree, so that the error is known whatever numpy does."""
    while len(x) > 1:
        half = len(x) // 2
        y = x[:half] + x[half : 2 * half]
        x = y if len(x) % 2 == 0 else np.concatenate([y, x[-1:]])
    return x[0]


def _frobenius(S: Matrix) -> float:
    if not S.size:
        return 0.0
    with np.errstate(under="ignore"):
        total = float(_tree_sum(np.square(S).reshape(-1)))
    return _up(math.sqrt(total), _depth(S.size) + 2)


def _column_norms(S: Matrix) -> Matrix:
    with np.errstate(under="ignore"):
        return np.sqrt(_tree_sum(np.square(S)))


def _two_one(S: Matrix) -> float:
    if not S.size:
        return 0.0
    return _up(float(_tree_sum(_column_norms(S))), _depth(S.shape[0]) + _depth(S.shape[1]) + 2)


def _column(S: Matrix) -> float:
    return _up(float(_column_norms(S).max()), _depth(S.shape[0]) + 2) if S.size else 0.0


def _row_sum(S: Matrix) -> float:
    return _up(float(_tree_sum(np.abs(S.T)).max()), _depth(S.shape[1])) if S.size else 0.0


def _l1(S: Matrix) -> float:
    return _up(float(_tree_sum(np.abs(S).reshape(-1))), _depth(S.size)) if S.size else 0.0


def _gamma(k: int) -> float:
    return k * UNIT / (1.0 - k * UNIT)


def _spectral(S: Matrix) -> float:
    """Bound the spectral norm of a scaled matrix; the proof is in `spectral_norm_bound`."""
    frobenius = _frobenius(S)
    if not S.size or min(S.shape) == 1:
        return frobenius
    if S.shape[0] < S.shape[1]:
        S = S.T
    p, n = S.shape
    with np.errstate(under="ignore"):
        G = S.T @ S
        lam = _verified_level(G)
    if lam is None:
        return frobenius
    square = lam + _gamma(p) * frobenius**2 + _gamma(n + 4) * n * lam
    return min(frobenius, _up(math.sqrt(_up(square, 8)), 1))


def _verified_level(G: Matrix) -> float | None:
    """Return a λ near the largest eigenvalue of G for which Cholesky of λI − G completes."""
    n = len(G)
    diagonal = G.diagonal().copy()
    M = -G
    dense = n <= DENSE_LIMIT
    top, slack = (_top_eigenvalue(G), 0.0) if dense else _lanczos(G)
    slack = max(slack, 2 * n * UNIT)
    for attempt in range(MAX_CHOLESKY):
        lam = top * (1.0 + slack)
        np.fill_diagonal(M, lam - diagonal)
        if _cholesky_completes(M):
            return lam
        slack *= 8.0
        if attempt == 3 and not dense:
            # Lanczos missed the top: its start was nearly orthogonal to it, or it is clustered.
            top, slack = _top_eigenvalue(G), 2 * n * UNIT
    return None


def _top_eigenvalue(G: Matrix) -> float:
    return float(np.linalg.eigvalsh(G)[-1])


def _cholesky_completes(M: Matrix) -> bool:
    try:
        R = np.linalg.cholesky(M)
    except np.linalg.LinAlgError:
        return False
    pivots = R.diagonal()
    return bool(np.all(np.isfinite(pivots)) and np.all(pivots > 0))


def _lanczos(G: Matrix) -> tuple[float, float]:
    """Estimate the largest eigenvalue of G, and by which fraction it may be too low.

    Full reorthogonalisation; the start vector is fixed, so results repeat. A Ritz value with
    residual r is below the eigenvalue by at most about r²/gap.
    """
    n = len(G)
    q = np.random.default_rng(20190601).standard_normal(n)
    q /= np.linalg.norm(q)
    Q = np.empty((LANCZOS_STEPS, n))
    T = np.zeros((LANCZOS_STEPS + 1, LANCZOS_STEPS + 1))
    for k in range(LANCZOS_STEPS):
        Q[k] = q
        w = G @ q
        T[k, k] = q @ w
        for _ in range(2):
            w -= (Q[: k + 1] @ w) @ Q[: k + 1]
        beta = float(np.linalg.norm(w))
        stalled = beta <= 1e-13 * T[0, 0]
        if stalled or k % 8 == 7 or k == LANCZOS_STEPS - 1:
            values, vectors = np.linalg.eigh(T[: k + 1, : k + 1])
            top, residual = float(values[-1]), beta * abs(float(vectors[-1, -1]))
            if stalled or residual <= LANCZOS_TOLERANCE * top:
                break
        T[k, k + 1] = T[k + 1, k] = beta
        q = w / beta
    gap = top - float(values[-2]) if len(values) > 1 else top
    return top, min(residual, residual**2 / gap if gap > 0 else residual) / top


Array = NDArray[np.float64]

# Up to this side the matrix itself is written out and bounded.
DENSE_SIDE = 1024


def convolution_matrix(bank: Array, positions: int) -> Array:
    """The matrix (channels out·L, channels in·L) by which a bank acts.

    Args:
        bank: (channels out, channels in, width).
        positions: L.
    """
    out, channels, width = bank.shape
    left = (width - 1) // 2
    matrix = np.zeros((out, positions, channels, positions))
    for j in range(width):
        offset = j - left
        p = np.arange(max(0, -offset), min(positions, positions - offset))
        if len(p):
            matrix[:, p, :, p + offset] = bank[None, :, :, j]
    return matrix.reshape(out * positions, channels * positions)


def convolution_norm_bound(bank: Array, positions: int, name: str = "") -> float:
    """An upper bound on the operator norm of a filter bank on L positions, zero padding.

    Small banks are written out as matrices. Large ones are embedded in a circulant matrix of
    N ≥ L + width − 1 positions, of which the zero-padded matrix is a part, so that its norm is at
    most that of the circulant one: the largest ‖F_n‖ of F_n = Σ_j A_j e^{2πi nj/N}, each complex
    matrix bounded as the real matrix [[Re, −Im], [Im, Re]]. A computed entry of F_n is wrong by at
    most (width + 16)·2u·Σ_j|A_j|, which is added in the Frobenius norm.

    Args:
        bank: (channels out, channels in, width), finite.
        positions: L ≥ 1.
        name: what errors call it.

    Raises:
        InputError: entries are not finite, or the norm leaves the range of float64.
    """
    out, channels, _ = bank.shape
    if max(out, channels) * positions <= DENSE_SIDE:
        return spectral_norm_bound(convolution_matrix(bank, positions), name=name)
    return circulant_norm_bound(bank, positions, name)


def circulant_norm_bound(bank: Array, positions: int, name: str = "") -> float:
    """`convolution_norm_bound` by the circulant embedding, whatever the size."""
    width = bank.shape[2]
    N = positions + width - 1
    n = np.arange(N // 2 + 1)  # the others are complex conjugates
    angles = 2.0 * math.pi * (np.outer(n, np.arange(width)) % N) / N
    real = np.einsum("oij,nj->noi", bank, np.cos(angles))
    imaginary = np.einsum("oij,nj->noi", bank, np.sin(angles))
    largest = max(
        spectral_norm_bound(np.block([[re, -im], [im, re]]), name=name)
        for re, im in zip(real, imaginary, strict=True)
    )
    whole = frobenius_norm_bound(bank.reshape(len(bank), -1), name=name)
    error = 4.0 * (width + 16) * UNIT * math.sqrt(width) * whole
    return (largest + error) * (1.0 + 4 * EPS)
