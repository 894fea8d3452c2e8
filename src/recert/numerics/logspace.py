"""Sums and products over time, held as natural logarithms so that nothing overflows.

The quantity behind most formulas here is the geometric sum

    S(β, t) = 1 + β + … + β^(t−1) = (β^t − 1)/(β − 1),      S(1, t) = t.

At β = 1000 and t = 10^6 it is near 10^3000000, and close to β = 1 the quotient is 0/0; its
logarithm is harmless in both places. Zero is −inf throughout, a legitimate value that sums and
products respect.

Powers of a non-negative affine map, in logarithms, by squaring.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recert.errors import InputError

__all__ = ["LN10", "ln", "log_S", "log_geometric_sum", "log_sum", "to_log10"]

LN10 = math.log(10.0)
_LARGE = 30.0  # from here on e^x − 1 is taken as e^x (1 − e^−x), which cannot overflow in logs
_SMALL = -0.5  # below this ln β, the two terms of ln(1 − β^t) − ln(1 − β) hardly cancel

Array = NDArray[np.float64]


@overload
def log_geometric_sum(log_beta: float, t: float) -> float: ...
@overload
def log_geometric_sum(log_beta: ArrayLike, t: ArrayLike) -> Any: ...
def log_geometric_sum(log_beta: ArrayLike, t: ArrayLike) -> Any:
    """ln S(β, t) from ln β; scalars give a float, arrays broadcast.

    S(β, t) = (β^t − 1)/(β − 1), and t at β = 1. With x = t ln β this is
    ln(expm1(x)/expm1(ln β)), for large x rewritten as x + log1p(−e^−x) − ln expm1(ln β). The value
    is −inf at t = 0, and 0 at β = 0 (ln β = −inf) for t ≥ 1.

    Args:
        log_beta: ln β, −inf for β = 0. It must be accurate near 0 (β near 1): take `log_S` where β
            itself is at hand.
        t: number of terms, t ≥ 0.

    Raises:
        InputError: ln β is NaN or +inf, or t is negative or not finite.

    """
    if _is_scalar(log_beta) and _is_scalar(t):
        return _log_geometric_sum(float(log_beta), float(t))  # type: ignore[arg-type]
    return _log_geometric_sums(np.asarray(log_beta, np.float64), np.asarray(t, np.float64))


@overload
def log_S(beta: float, t: float) -> float: ...
@overload
def log_S(beta: ArrayLike, t: ArrayLike) -> Any: ...
def log_S(beta: ArrayLike, t: ArrayLike) -> Any:
    """ln S(β, t) from β itself; scalars give a float, arrays broadcast.

    As `log_geometric_sum`; ln β is log1p(β − 1), where β − 1 is exact for β in [1/2, 2].

    Raises:
        InputError: β is negative or not finite, or t is negative or not finite.

    """
    if _is_scalar(beta) and _is_scalar(t):
        b = float(beta)  # type: ignore[arg-type]
        if not 0.0 <= b < math.inf:
            raise InputError(f"beta must be finite and at least 0, got {b!r}")
        return _log_geometric_sum(ln(b), float(t))  # type: ignore[arg-type]
    betas = np.asarray(beta, np.float64)
    if not np.all(np.isfinite(betas) & (betas >= 0.0)):
        raise InputError("beta must be finite and at least 0 in every entry")
    with np.errstate(all="ignore"):
        near = (betas >= 0.5) & (betas <= 2.0)
        log_beta = np.where(near, np.log1p(betas - 1.0), np.log(betas))
    return _log_geometric_sums(log_beta, np.asarray(t, np.float64))


@overload
def log_sum(terms: Iterable[float]) -> float: ...
@overload
def log_sum(terms: Array, axis: int) -> Any: ...
def log_sum(terms: Any, axis: int | None = None) -> Any:
    """ln of a sum of non-negative terms that are given by their logarithms.

    Args:
        terms: the logarithms, −inf for a zero; an empty sum is −inf.
        axis: sum an array along this axis; without it everything is summed to one float.

    """
    if axis is not None:
        return _log_sums(np.asarray(terms, np.float64), axis)
    values = sorted((float(v) for v in np.ravel(terms)) if isinstance(terms, np.ndarray) else terms)
    if not values or math.isinf(values[-1]):
        return values[-1] if values else -math.inf
    top = values[-1]
    return top + math.log1p(math.fsum(math.exp(v - top) for v in values[:-1]))


def ln(x: float) -> float:
    """Natural logarithm of a non-negative number, −inf at 0."""
    if x == 0:
        return -math.inf
    return math.log1p(x - 1.0) if 0.5 <= x <= 2.0 else math.log(x)


def to_log10(log_value: float) -> float:
    """Base-10 logarithm from a natural one."""
    return log_value / LN10


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating))


def _log_expm1(y: float) -> float:
    return y + math.log1p(-math.exp(-y)) if y > _LARGE else math.log(math.expm1(y))


def _log_geometric_sum(y: float, t: float) -> float:
    if not y < math.inf:
        raise InputError(f"log_beta must be a number below infinity, got {y!r}")
    if not 0.0 <= t < math.inf:
        raise InputError(f"t must be finite and at least 0, got {t!r}")
    if t == 0.0:
        return -math.inf
    if t == 1.0 or y == -math.inf:
        return 0.0
    if y == 0.0:
        return math.log(t)
    x = t * y
    if x > _LARGE:
        return x + math.log1p(-math.exp(-x)) - _log_expm1(y)
    if y < _SMALL:
        return math.log1p(-math.exp(x)) - math.log1p(-math.exp(y))
    return math.log(math.expm1(x) / math.expm1(y))


def _log_geometric_sums(y: Array, t: Array) -> Array:
    if not np.all(y < np.inf):
        raise InputError("log_beta must be a number below infinity in every entry")
    if not np.all(np.isfinite(t) & (t >= 0.0)):
        raise InputError("t must be finite and at least 0 in every entry")
    with np.errstate(all="ignore"):
        x = t * y
        log_expm1 = np.where(y > _LARGE, y + np.log1p(-np.exp(-y)), np.log(np.expm1(y)))
        large = x + np.log1p(-np.exp(-x)) - log_expm1
        small = np.log1p(-np.exp(x)) - np.log1p(-np.exp(y))
        middle = np.log(np.expm1(x) / np.expm1(y))
        out = np.where(x > _LARGE, large, np.where(y < _SMALL, small, middle))
        out = np.where(y == 0.0, np.log(t), out)
    out = np.where((t == 1.0) | np.isneginf(y), 0.0, out)
    return np.where(t == 0.0, -np.inf, out)


def _log_sums(terms: Array, axis: int) -> Array:
    if terms.shape[axis] == 0:
        return np.full(np.delete(terms.shape, axis), -np.inf)
    top = np.max(terms, axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        summed = np.log(np.sum(np.exp(terms - shift), axis=axis))
    return summed + np.squeeze(shift, axis=axis)


def log_matmul(A: Array, B: Array) -> Array:
    """log(exp(A) exp(B)) for (…, n, n) stacks; −inf stands for 0."""
    return np.logaddexp.reduce(A[..., :, :, None] + B[..., None, :, :], axis=-2)


def log_matvec(A: Array, v: Array) -> Array:
    """log(exp(A) exp(v)) for (…, n, n) and (…, n)."""
    return np.logaddexp.reduce(A + v[..., None, :], axis=-1)


def affine_power(A: Array, steps: int) -> tuple[Array, Array]:
    """log(exp(A)^steps) and log(Σ_{i<steps} exp(A)^i) for (…, n, n), in O(log steps) products.

    Then exp(A)^steps v + (Σ_{i<steps} exp(A)^i) b is where ``steps`` steps v ← exp(A) v + b lead.
    """
    power, total = A, np.where(np.eye(A.shape[-1], dtype=bool), 0.0, -np.inf)
    total = np.broadcast_to(total, A.shape)
    found: tuple[Array, Array] | None = None
    while True:
        if steps & 1:
            found = (power, total) if found is None else (
                log_matmul(power, found[0]),
                np.logaddexp(log_matmul(power, found[1]), total),
            )  # fmt: skip
        steps >>= 1
        if not steps:
            break
        power, total = log_matmul(power, power), np.logaddexp(log_matmul(power, total), total)
    assert found is not None, "at least one step"
    return found


def affine_last(M: Array, v: Array, steps: int) -> Array:
    """log(exp(M)^steps exp(v)), in O(log steps) products; (…, n, n), (…, n) → (…, n)."""
    while steps:
        if steps & 1:
            v = log_matvec(M, v)
        steps >>= 1
        if steps:
            M = log_matmul(M, M)
    return v


def affine_orbit(M: Array, v: Array, steps: int) -> Array:
    """log(exp(M)^i exp(v)) for i = 1..steps; (…, n, n), (…, n) → (…, steps, n).

    The orbit doubles: with M^k at hand, the first k members give the next k.
    """
    orbit = log_matvec(M, v)[..., None, :]
    power = M
    while orbit.shape[-2] < steps:
        count = min(orbit.shape[-2], steps - orbit.shape[-2])
        more = log_matvec(power[..., None, :, :], orbit[..., :count, :])
        orbit = np.concatenate([orbit, more], axis=-2)
        power = log_matmul(power, power)
    return orbit
