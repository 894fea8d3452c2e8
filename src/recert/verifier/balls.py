"""Ball arithmetic: enclosures of real numbers, and what may be concluded from them.

Doubles go in exactly. A decision is taken on the safe end of a ball: a recorded upper quantity
stands only if it is at least the upper end of what was derived.

Norms of weights against recorded numbers, proved in ball arithmetic.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
from flint import arb, arb_mat, ctx, fmpz
from numpy.typing import NDArray

Ball = arb
P = ParamSpec("P")
R = TypeVar("R")

PRECISION = 192
ZERO, ONE, TWO, HALF = arb(0), arb(1), arb(2), arb("0.5")
# Terms of a tail that are added one by one, and the share of it that need not be.
MOST_TERMS, TAIL = 10_000, arb(2) ** -70
# Beyond this, tanh and the sigmoid are read as 1, which they do not exceed.
SATURATED = arb(2) ** 40


def precise(f: Callable[P, R]) -> Callable[P, R]:
    """Run at `PRECISION` bits, whatever the caller has set."""

    @functools.wraps(f)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with ctx.workprec(PRECISION):
            return f(*args, **kwargs)

    return inside


def ball(x: float | int | Ball) -> Ball:
    """An exact number as a ball; ValueError for what is not finite."""
    if isinstance(x, float) and not math.isfinite(x):
        raise ValueError(f"{x} is no number")
    return arb(x)


def lesser(*values: Ball) -> Ball:
    """One of some upper bounds, each valid: the one that is least by its midpoint."""
    best = values[0]
    for value in values[1:]:
        if value.mid() < best.mid():
            best = value
    return best


def greater(u: Ball, v: Ball) -> Ball:
    """The maximum of two upper bounds, as a ball round it."""
    if u >= v:
        return u
    return v if v >= u else u.max(v)


def total(values: Iterable[Ball]) -> Ball:
    """A sum."""
    found = ZERO
    for value in values:
        found = found + value
    return found


def claims(recorded: float, derived: Ball) -> bool:
    """Whether a recorded double is at least the upper end of a ball."""
    return bool(arb(recorded) >= derived.upper()) if math.isfinite(recorded) else recorded > 0


def shown(value: Ball) -> float:
    """A double that is not below a ball, for tables."""
    found = float(value.upper())
    return found if not math.isfinite(found) or arb(found) >= value.upper() else _next(found)


def _next(x: float) -> float:
    return math.nextafter(x, math.inf)


def log_of(value: Ball) -> Ball:
    """The natural logarithm; −∞ as a very negative number for an exact zero."""
    return value.log() if value > 0 else (value.upper() + arb(2) ** -100000).log()


def kl(q: Ball, p: Ball) -> Ball:
    """Binary relative entropy for 0 ≤ q < p < 1."""
    rest = (ONE - q) * ((ONE - q) / (ONE - p)).log()
    return rest if q.is_zero() else q * (q / p).log() + rest


def kl_inverse(q: Ball, c: Ball) -> Ball:
    """An upper bound of sup{p ≥ q : kl(q, p) ≤ c}, exact number; 1 where nothing less serves.

    Bisection between q and 1: the upper end counts only where kl there is at least c in full.
    """
    q, c = q.upper(), c.upper()
    low, high = q, ONE
    if q >= 1:
        return ONE
    for _ in range(100):
        p = ((low + high) * HALF).mid()
        if not low < p < high:
            break
        if kl(q, p) >= c:
            high = p
        else:
            low = p
    return high


def price(index: int) -> Ball:
    """ln(2(|j|+1)(|j|+2)): index j of a grid (theory, section 6)."""
    j = abs(index)
    return arb(fmpz(2 * (j + 1) * (j + 2))).log()


def binomial_tail(k: int, n: int, p: Ball) -> Ball:
    """P(Bin(n, p) ≤ k), for p ≥ k/n; from above where there are very many terms."""
    if k >= n or p <= 0:
        return ONE
    if p >= 1:
        return ZERO
    odds = (ONE - p) / p
    logs = k * p.log() + (n - k) * (ONE - p).log()
    return _falling(_choose(n, k, logs), k, lambda i: odds * i / (n - i + 1))


def _falling(term: Ball, last: int, ratio: Callable[[int], Ball]) -> Ball:
    """The sum of terms down from the last, each ``ratio(i)`` times the one above it.

    Ratios fall on the way down, so what is left at any place is below a geometric series.
    """
    found = term
    for i in range(last, 0, -1):
        r = ratio(i)
        rest = term * r / (ONE - r) if r < 1 else None
        enough = last - i >= MOST_TERMS or (rest is not None and rest < found * TAIL)
        if enough:
            return ONE if rest is None else found + rest.upper()
        term = term * r
        found = found + term
    return found


def binomial_limit(k: int, n: int, delta: Ball) -> Ball:
    """A p at which P(Bin(n, p) ≤ k) ≤ δ, as small as bisection finds: Clopper and Pearson's."""
    low, high = arb(k) / n, ONE
    for _ in range(80):
        p = ((low + high) * HALF).mid()
        if binomial_tail(k, n, p) <= delta:
            high = p
        else:
            low = p
    return high if k < n else ONE


def hypergeometric_tail(k: int, n: int, N: int, D: int) -> Ball:
    """P(Hyp(N, D, n) ≤ k): n draws without replacement from N of which D are wrong."""
    first, last = max(0, n - (N - D)), min(k, n, D)
    if first > last:
        return ZERO
    top = _choose(D, last) * _choose(N - D, n - last) / _choose(N, n)
    down = N - D - n
    return _falling(
        top, last - first,
        lambda j: ball((first + j) * (down + first + j))
        / ((D - first - j + 1) * (n - first - j + 1)),
    )  # fmt: skip


def hypergeometric_limit(k: int, n: int, N: int, delta: Ball) -> int:
    """The largest D with P(Hyp(N, D, n) ≤ k) not proved to be at most δ."""
    low, high = k, N - (n - k)
    while low < high:
        D = (low + high + 1) // 2
        if hypergeometric_tail(k, n, N, D) <= delta:
            high = D - 1
        else:
            low = D
    return low


def _choose(n: int, k: int, log: Ball = ZERO) -> Ball:
    """C(n, k) e^log."""
    found: Any = arb(n + 1).lgamma() - arb(k + 1).lgamma() - arb(n - k + 1).lgamma()
    return (found + log).exp()


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
