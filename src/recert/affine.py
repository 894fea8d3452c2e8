"""Powers of a non-negative affine map, in logarithms, by squaring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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
