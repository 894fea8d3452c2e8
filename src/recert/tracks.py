"""Norms and sensitivities of a stage's states at some horizons, and steps that share one map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.affine import affine_orbit, affine_power
from recert.growth import EPS

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Track:
    """Log norms (S, H, G) and sensitivities (S, kept, H, G) of a stage's states at H horizons."""

    log_N: Array
    log_Z: Array
    lam: Array

    @staticmethod
    def joined(parts: list[Track]) -> Track:
        """Parts one after the other in time."""
        return Track(
            np.concatenate([part.log_N for part in parts], axis=1),
            np.concatenate([part.log_Z for part in parts], axis=1),
            np.concatenate([part.lam for part in parts], axis=2),
        )


@dataclass
class Account:
    """What rounding may have cost: steps walked, and the largest log met."""

    walked: int = 0
    largest_log: float = 1.0

    def note(self, lam: Array) -> None:
        """A step was taken that led to these sensitivities."""
        self.walked += 1
        finite = np.where(np.isneginf(lam), 0.0, lam)
        self.largest_log = max(self.largest_log, float(np.abs(finite).max()))

    def rounded_up(self, log_value: Array) -> Array:
        """Logs moved up by what the steps taken may have lost, relative to the largest log met."""
        finite = np.where(np.isneginf(log_value), 0.0, log_value)
        loss = 8 * EPS * (self.walked + 256) * np.maximum(self.largest_log, np.abs(finite))
        return np.where(np.isneginf(log_value), log_value, finite + loss)


def at_once(log_N: Array, log_Z: Array, lam: Array) -> Track:
    """One horizon: norms (S, G) and sensitivities (S, kept, G)."""
    return Track(log_N[:, None], log_Z[:, None], lam[:, :, None])


def at_fixed_norms(
    log_N: Array, log_Z: Array, A: Array, b: Array, lam: Array, steps: int, every: bool
) -> Track:
    """``steps`` steps with the same A and b: for every tag k, (Λ_k, 1) follows a linear map."""
    S, K, G = lam.shape
    if not every:
        power, total = (m.transpose(1, 2, 0) for m in affine_power(A.transpose(2, 0, 1), steps))
        return at_once(log_N, log_Z, np.logaddexp(_moved(power, lam), _moved(total, b)))
    M = np.full((K, G, S + 1, S + 1), -np.inf)
    M[:, :, :S, :S] = A.transpose(2, 0, 1)[None]
    M[:, :, :S, S] = b.transpose(1, 2, 0)
    M[:, :, S, S] = 0.0
    z = np.zeros((K, G, S + 1))
    z[:, :, :S] = lam.transpose(1, 2, 0)
    found = affine_orbit(M, z, steps)[..., :S].transpose(3, 0, 2, 1)
    shape = (S, found.shape[2], G)
    return Track(
        np.broadcast_to(log_N[:, None], shape), np.broadcast_to(log_Z[:, None], shape), found
    )


def applied(A: Array, b: Array, lam: Array) -> Array:
    """A Λ + b in logs: (S, S', G), (S, K, G), (S', K, G) → (S, K, G)."""
    return np.logaddexp(_moved(A, lam), b)


def _moved(A: Array, lam: Array) -> Array:
    """A Λ in logs: (S, S', G), (S', K, G) → (S, K, G)."""
    if A.shape[0] == 1:
        return A[:, 0][:, None] + lam
    moved: Array = np.logaddexp.reduce(A[:, :, None, :] + lam[None], axis=1)
    return moved
