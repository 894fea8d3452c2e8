"""Norms of weights against recorded numbers, proved in ball arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from flint import arb, arb_mat
from numpy.typing import NDArray

from recert.verifier.balls import ONE, ZERO, Ball, ball, greater, total

Array = NDArray[np.float64]

# Sides up to which pivots are computed one by one, and up to which anything is computed.
PIVOTS, LARGEST = 200, 1100


def balls_of(A: NDArray[Any]) -> arb_mat:
    """A matrix of doubles, exactly."""
    return arb_mat(A.shape[0], A.shape[1], [float(x) for x in A.ravel()])


def centred(A: arb_mat) -> arb_mat:
    """A with the mean of its rows taken off: the head's part orthogonal to the constant vector.

    In an orthonormal basis that part has one row fewer and the same spectral and column norms.
    """
    K = A.nrows()
    rows = A.tolist()
    mean = [total(column) / K for column in zip(*rows, strict=True)]
    return arb_mat([[x - y for x, y in zip(row, mean, strict=True)] for row in rows])


def helmert(A: arb_mat) -> arb_mat:
    """The same part in Helmert's basis, K − 1 rows: (Σ_{i<j} A_i − j A_j)/√(j(j + 1))."""
    rows, found = A.tolist(), []
    sums = [ZERO] * A.ncols()
    for j in range(1, A.nrows()):
        sums = [s + x for s, x in zip(sums, rows[j - 1], strict=True)]
        root = ball(j * (j + 1)).sqrt()
        found.append([(s - j * x) / root for s, x in zip(sums, rows[j], strict=True)])
    return arb_mat(found)


def acting(bank: Array, positions: int) -> Array:
    """The matrix by which a filter bank acts on so many positions, zero padding included."""
    out, inputs, width = bank.shape
    left = (width - 1) // 2
    found = np.zeros((out * positions, inputs * positions))
    for p in range(positions):
        for j in range(width):
            q = p + j - left
            if 0 <= q < positions:
                found[p::positions, q::positions] = bank[:, :, j]
    return found


def spectral_at_most(A: arb_mat, c: Ball) -> bool | None:
    """Whether ‖A‖ ≤ c is proved: c²I − AᵀA is positive semidefinite. None where A is too large."""
    n = min(A.nrows(), A.ncols())
    if n > LARGEST:
        return None
    # By a power of two near 1, so that no square leaves what doubles hold.
    power = arb(2) ** -math.frexp(float(c.mid()))[1]
    A, c = A * power, c * power
    G = A * A.transpose() if A.nrows() <= A.ncols() else A.transpose() * A
    square = c * c
    M = arb_mat(n, n)
    for i in range(n):
        M[i, i] = square
    M = M - G
    return _pivots(M) if n <= PIVOTS else _factored(M, float(square.mid()))


def _pivots(M: arb_mat) -> bool:
    """Whether all pivots of a symmetric matrix are positive, or it is zero."""
    rows: list[list[Ball]] = M.tolist()
    n = len(rows)
    for k in range(n):
        pivot = rows[k][k]
        if not pivot > 0:
            # A zero matrix at a cap of zero is no smaller than it must be.
            return all(x.is_zero() for row in rows[k:] for x in row[k:])
        for i in range(k + 1, n):
            factor = rows[i][k] / pivot
            row, column = rows[i], rows
            for j in range(k + 1, i + 1):
                row[j] = row[j] - factor * column[j][k]
        for i in range(k + 1, n):
            rows[k][i] = ZERO
    return True


def _factored(M: arb_mat, square: float) -> bool:
    """Positive semidefinite, as RᵀR + (what it lacks) with the latter above t·c²·(I − 1)."""
    n = M.nrows()
    if all(x.is_zero() for x in M.entries()):
        return True
    approximate = np.array([[float(x.mid()) for x in row] for row in M.tolist()])
    for share in (1e-3, 1e-6, 1e-9, 1e-11, 1e-12):
        shift = share * square
        try:
            R = np.linalg.cholesky(approximate - shift * np.eye(n))
        except np.linalg.LinAlgError:
            continue
        factor = balls_of(np.asarray(R, dtype=np.float64))
        rest = M - factor * factor.transpose()
        moved = ball(shift)
        lacks = total(
            (x - moved if i == j else x) ** 2
            for i, row in enumerate(rest.tolist())
            for j, x in enumerate(row)
        )
        if lacks <= moved * moved:
            return True
    return False


def column_norms(A: arb_mat) -> list[Ball]:
    """Euclidean norms of all columns."""
    return [total(x * x for x in column).sqrt() for column in A.transpose().tolist()]


def largest(values: Sequence[Ball]) -> Ball:
    """The largest of some balls."""
    found = ZERO
    for value in values:
        found = greater(found, value)
    return found


def frobenius(A: arb_mat) -> Ball:
    """‖A‖_F."""
    return total(x * x for x in A.entries()).sqrt()


def entrywise(A: arb_mat) -> Ball:
    """Σ|A_ij|."""
    return total(abs(x) for x in A.entries())


def row_sums(A: arb_mat) -> Ball:
    """The largest absolute row sum."""
    return largest([total(abs(x) for x in row) for row in A.tolist()])


def divergence(parts: Sequence[tuple[Any, Any, Any]], s_0: float) -> Ball:
    """½ Σ [ρ² − 1 − ln ρ² + ((w − w_0)/s_0)²], ρ = s/s_0, over w, s, w_0 of drawn entries (5b)."""
    scale, widths, found = ball(s_0), {}, ZERO
    for w, s, start in parts:
        for x, y, z in zip(w.ravel(), s.ravel(), start.ravel(), strict=True):
            key = float(y)
            if key not in widths:
                ratio = (arb(key) / scale) ** 2
                widths[key] = ratio - ONE - ratio.log()
            found = found + widths[key] + ((arb(float(x)) - arb(float(z))) / scale) ** 2
    return found / 2
