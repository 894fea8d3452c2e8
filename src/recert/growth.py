"""Norms that grow from step to step: affine maps found by probing a step, and followed.

All arithmetic is on logarithms of non-negative numbers; −inf stands for 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recert.affine import affine_last

Array = NDArray[np.float64]
Step = Callable[[Array, Array], tuple[Array, Array, Array, Array]]

# A log norm that no bounded state reaches, from which limits are approached from above.
HUGE = 1e6
EPS = 2.0**-52


def growth(
    step: Step,
    limit_N: Array,
    limit_Z: Array,
    free: NDArray[np.bool_],
    half: Array,
    *,
    of_Z: bool,
) -> tuple[Array, Array] | None:
    """Slopes (S, S', G) and constants (S, G) of the free norms, the others at their limits.

    Found by probing and checked at further points: first for each free norm by itself, the other
    free ones out of all bounds (c of a layer feels those below through tanh alone), then for all of
    them together. None if neither map is affine.
    """
    S, G = limit_N.shape
    rows = np.flatnonzero(free[:, 0])

    def at(norms: Array) -> Array:
        N = np.where(free, norms + (half if of_Z else 0.0), limit_N)
        Z = np.where(free, norms, limit_Z)
        return step(N, Z)[1 if of_Z else 0]

    for others, groups in ((HUGE, [[int(s)] for s in rows]), (-np.inf, [rows.tolist()])):
        slopes, constant = np.full((S, S, G), -np.inf), np.full((S, G), -np.inf)
        if all(_probe(at, others, group, slopes, constant) for group in groups):
            return slopes + 2e-14, constant + 2e-11
    return None


def _probe(
    at: Callable[[Array], Array],
    others: float,
    group: list[int],
    slopes: Array,
    constant: Array,
) -> bool:
    """Whether the norms of a group are affine in each other; fills their slopes and constants."""
    S, G = constant.shape

    def point(values: Array) -> Array:
        norms = np.full((S, G), others)
        norms[group] = values[group]
        return norms

    start = at(point(np.full((S, G), -np.inf)))[group]
    if (start > HUGE / 2).any():
        return False
    constant[group] = start
    reach = 40.0 + max(0.0, float(np.where(np.isfinite(start), start, 0.0).max(initial=0.0)))
    for s in group:
        values = np.full((S, G), -np.inf)
        values[s] = reach
        slopes[group, s] = _log_difference(at(point(values))[group], start) - reach
    for values in _check_points(S, G):
        moved = np.logaddexp.reduce(slopes[group][:, group] + values[None, group], axis=1)
        found = at(point(values))[group]
        if not np.allclose(np.logaddexp(moved, start), found, rtol=0, atol=1e-11):
            return False
    return True


def grown(maps: tuple[Array, Array], log_norm: Array, free: NDArray[np.bool_], steps: int) -> Array:
    """The free norms after ``steps`` steps (S, G), the largest on the way; infinite for others."""
    slopes, constant = maps
    S, G = log_norm.shape
    M = np.full((G, S + 1, S + 1), -np.inf)
    M[:, :S, :S] = slopes.transpose(2, 0, 1)
    M[:, :S, S] = constant.T
    M[:, S, S] = 0.0
    z = np.zeros((G, S + 1))
    z[:, :S] = np.where(free, log_norm, -np.inf).T
    # Growing from zero, norms never fall, so the last is the largest.
    end = affine_last(M, z, steps)[:, :S].T
    return np.where(free, np.maximum(end, log_norm), np.inf)


def below(log_new: Array, log_up: Array) -> bool:
    """Whether new ≤ up by more than a step's own roundings, in logs (−inf is below anything)."""
    finite = np.isfinite(log_new)
    gap = 16 * EPS * (1.0 + np.abs(log_up[finite]))
    return bool(np.all(log_new[finite] <= log_up[finite] - gap))


def affine_probe(
    step: Step, up_N: Array, up_Z: Array, free: NDArray[np.bool_]
) -> tuple[Array, Array, Array, Array, Array] | None:
    """Coefficients of a step that is affine in the free states' norms, or None if it is not.

    The other states stay at ``up_N``, ``up_Z``, which a step must not enlarge.
    """
    S, G = up_N.shape

    def at(norms: Array) -> tuple[Array, Array, Array] | None:
        N, Z, A, b = step(np.where(free, norms, up_N), np.where(free, norms, up_Z))
        held = ~free[:, 0]
        if not (below(N[held], up_N[held]) and below(Z[held], up_Z[held])):
            return None
        return np.where(free, N, -np.inf), A, b

    zero = np.full((S, G), -np.inf)
    start = at(zero)
    if start is None:
        return None
    N_0, A, b_0 = start
    # Far enough out that the slope is read off without cancellation.
    reach = 40.0 + np.maximum(0.0, np.where(np.isfinite(N_0), N_0, 0.0).max())
    N_N, b_N = np.full((S, *N_0.shape), -np.inf), np.full((S, *b_0.shape), -np.inf)
    for s in np.flatnonzero(free[:, 0]):
        point = zero.copy()
        point[s] = reach
        there = at(point)
        if there is None:
            return None
        N_N[s] = _log_difference(there[0], N_0) - reach
        b_N[s] = _log_difference(there[2], b_0) - reach
    for point in _check_points(S, G):
        there = at(point)
        if there is None or not np.array_equal(A, there[1]):
            return None
        predicted_N = np.logaddexp(np.logaddexp.reduce(N_N + point[:, None], axis=0), N_0)
        predicted_b = np.logaddexp(np.logaddexp.reduce(b_N + point[:, None, None], axis=0), b_0)
        for predicted, found in ((predicted_N, there[0]), (predicted_b, there[2])):
            if not np.allclose(predicted, found, rtol=0, atol=1e-11):
                return None
    return A, b_0 + 2e-11, b_N + 2e-14, N_0 + 2e-11, N_N + 2e-14


def _check_points(S: int, G: int) -> tuple[Array, Array]:
    """Log norms far from where an affine map was probed, large and small."""
    far = np.log(np.arange(3.0, 3.0 + S * G).reshape(S, G) * 1e3)
    return far, far - 25.0


def _log_difference(log_a: Array, log_b: Array) -> Array:
    """log(e^a − e^b) for a ≥ b, −inf where they are equal to rounding."""
    gap = log_b - np.where(np.isneginf(log_a), 0.0, log_a)
    ratio = np.where(np.isneginf(log_a), 1.0, np.exp(np.minimum(gap, 0.0)))
    with np.errstate(divide="ignore"):
        return np.where(ratio > 1 - 1e-14, -np.inf, log_a + np.log1p(-np.minimum(ratio, 1.0)))
