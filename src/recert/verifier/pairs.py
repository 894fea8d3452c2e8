"""Arrays of doubles with bounds on their errors, entry by entry and as a whole.

A value (v, e, s) says |v − exact| ≤ e entrywise and ‖v − exact‖₂ ≤ s row by row, where exact is
what the network with the recorded weights gives in real arithmetic. Entrywise errors grow by |A|,
those of whole rows by ‖A‖, which is often far less; the lesser of the two is kept, and both shrink
where σ is flat. The rules for roundings are those of running error analysis (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Slope = Callable[[Array, Array], Array]

UNIT = 2.0**-53
# For the roundings in bounds themselves, sums of at most 2^22 non-negative terms.
LARGER = 1.0 + 2.0**-30
# What underflows, and four units in the last place of a library's tanh or exponential, with room.
TINY, LIBRARY = 2.0**-900, 32.0 * UNIT
LEAK = 0.01
# ‖A‖ from the Frobenius norm of its 2^SQUARINGS-th power: too large by a factor n^(1/512) at most.
SQUARINGS = 8


def _whole(x: Array) -> Array:
    """A bound as a bound: what is no number bounds nothing."""
    return np.where(np.isnan(x), np.inf, x)


def lengths(e: Array) -> Array:
    """‖e‖₂ row by row, from above."""
    top = e.max(axis=1, initial=0.0)
    scale = np.where((top > 0.0) & np.isfinite(top), top, 1.0)
    squares: Array = np.sqrt(np.square(e / scale[:, None]).sum(axis=1))
    return _whole(squares * scale * LARGER + TINY * (top > 0.0))


def spectral(A: Array) -> float:
    """‖A‖₂ from above: ‖A‖² = ‖AᵀA‖, squared again and again, ends in a Frobenius norm.

    A computed AᵀA is off by at most (rows + 2)·u·‖A‖_F² in Frobenius norm, and by what underflows.
    """
    top = float(np.abs(A).max(initial=0.0))
    if top == 0.0 or not np.isfinite(top):
        return top
    # By a power of two, exactly; what underflows is below the norm's last place.
    power = int(np.frexp(top)[1])
    return float(np.ldexp(_unit_spectral(np.ldexp(A, -power), SQUARINGS), power) * LARGER) + 5e-324


def _unit_spectral(A: Array, squarings: int) -> float:
    frobenius = float(np.sqrt(np.square(A).sum())) * LARGER + TINY
    if squarings == 0:
        return frobenius
    # Scaled to at most 1, so that no power overflows.
    B = A / frobenius
    own = float(np.sqrt(np.square(B).sum())) * LARGER + TINY
    off = (len(A) + 4) * UNIT * own * own + A.size * TINY + 4.0 * UNIT
    return frobenius * float(np.sqrt(_unit_spectral(B.T @ B, squarings - 1) + off)) * LARGER


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix with what its products need: |A|, the lengths of its rows, and ‖A‖."""

    A: Array
    size: Array
    rows: Array
    norm: float

    @classmethod
    def of(cls, A: Array) -> Matrix:
        """Measured once."""
        return cls(A, np.abs(A), lengths(np.abs(A)), spectral(A))


@dataclass(frozen=True, eq=False)
class Pair:
    """Computed values (n, d) with bounds on their errors, (n, d) and (n,)."""

    v: Array
    e: Array
    s: Array

    @classmethod
    def of(cls, v: Array, e: Array, s: Array | None = None) -> Pair:
        """Each bound no larger than what the other allows."""
        e = _whole(e)
        whole = lengths(e) if s is None else np.minimum(_whole(s), lengths(e))
        return cls(v, np.minimum(e, whole[:, None]), whole)

    @classmethod
    def exact(cls, v: Array) -> Pair:
        """Doubles as they are."""
        return cls(v, np.zeros_like(v), np.zeros(len(v)))

    @staticmethod
    def matrix(A: Array) -> Matrix:
        """A matrix of doubles for products."""
        return Matrix.of(A)

    @staticmethod
    def columns(M: Matrix, tokens: NDArray[np.int64]) -> Pair:
        """The columns that tokens (n,) name."""
        return Pair.exact(M.A.T[tokens])

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.v)

    def rows(self, chosen: NDArray[Any]) -> Pair:
        """Some rows."""
        return Pair(self.v[chosen], self.e[chosen], self.s[chosen])

    def where(self, mask: NDArray[np.bool_], other: Pair) -> Pair:
        """These rows where the mask (n,) is true, the other's elsewhere."""
        wide = mask[:, None]
        return Pair(
            np.where(wide, self.v, other.v), np.where(wide, self.e, other.e),
            np.where(mask, self.s, other.s),
        )  # fmt: skip

    def beside(self, q: Pair) -> Pair:
        """Both, one after the other."""
        return Pair.of(
            np.concatenate([self.v, q.v], axis=1), np.concatenate([self.e, q.e], axis=1),
            np.hypot(self.s, q.s) * LARGER,
        )  # fmt: skip

    def under(self, M: Matrix) -> Pair:
        """A p, in any order of summation."""
        v = self.v @ M.A.T
        terms = M.A.shape[1]
        rounding = (terms + 4) * UNIT * (np.abs(self.v) @ M.size.T) * LARGER + terms * TINY
        moved = np.minimum(_whole(self.e @ M.size.T), _whole(self.s[:, None] * M.rows))
        s = self.s * M.norm + lengths(rounding)
        return Pair.of(v, moved * LARGER + rounding, s * LARGER)

    def plus(self, q: Pair) -> Pair:
        """P + q."""
        v = self.v + q.v
        rounding = 2.0 * UNIT * np.abs(v) + TINY
        s = self.s + q.s + lengths(rounding)
        return Pair.of(v, (self.e + q.e + rounding) * LARGER, s * LARGER)

    def times(self, q: Pair) -> Pair:
        """P ⊙ q."""
        v = self.v * q.v
        rounding = 2.0 * UNIT * np.abs(v) + TINY
        moved = np.abs(self.v) * q.e + np.abs(q.v) * self.e + self.e * q.e
        s = _top(self.v) * q.s + _top(np.abs(q.v) + q.e) * self.s + lengths(rounding)
        return Pair.of(v, (moved + rounding) * LARGER, s * LARGER)

    def scaled(self, factor: Array) -> Pair:
        """Rows divided by whole numbers (n,), for means."""
        v = self.v / factor[:, None]
        rounding = 2.0 * UNIT * np.abs(v) + TINY
        e = self.e / factor[:, None] + rounding
        return Pair.of(v, e * LARGER, (self.s / factor + lengths(rounding)) * LARGER)

    def between(self, a: Pair, b: Pair) -> Pair:
        """(1 − r) ⊙ a + r ⊙ b for a gate r, computed and exact in [0, 1]."""
        r, gap = np.clip(self.v, 0.0, 1.0), b.v - a.v
        v = a.v + r * gap
        wide = np.abs(gap) + a.e + b.e
        rest = (1.0 - r) * LARGER
        rounding = 8.0 * UNIT * (np.abs(a.v) + np.abs(b.v)) + TINY
        e = rest * a.e + r * b.e + self.e * wide + rounding
        s = _top(rest) * a.s + _top(r) * b.s + _top(wide) * self.s + lengths(rounding)
        return Pair.of(v, e * LARGER, s * LARGER)

    def activation(self, name: str) -> Pair:
        """σ(p); by the mean value theorem errors shrink where σ is flat all the way between."""
        function, slope, low, high = ACTIVATIONS[name]
        v, steep = function(self.v), slope(self.v, self.e)
        # Nothing to round where only signs are compared.
        rounding = 0.0 * v if name in ("identity", "relu") else LIBRARY * np.abs(v) + TINY
        e, s = steep * self.e + rounding, _top(steep) * self.s + lengths(rounding)
        if not np.isfinite(high):
            return Pair.of(v, e * LARGER, s * LARGER)
        # What overflowed on the way in is somewhere in the range.
        v = np.where(np.isnan(v), (low + high) / 2.0, v)
        return Pair.of(v, np.minimum(_whole(e * LARGER), high - low), s * LARGER)

    def margins(self, labels: NDArray[np.int64]) -> tuple[Array, Array]:
        """y_z − max_{j≠z} y_j (n,), and bounds on its errors.

        A difference of two entries moves by at most √2 times what the row moves by.
        """
        rows = np.arange(self.n)
        rest = self.v.copy()
        rest[rows, labels] = -np.inf
        M = self.v[rows, labels] - rest.max(axis=1)
        e = np.minimum(self.e[rows, labels] + self.e.max(axis=1), np.sqrt(2.0) * self.s)
        return M, (e + 4.0 * UNIT * np.abs(M)) * LARGER + TINY


def _top(x: Array) -> Array:
    found: Array = np.abs(x).max(axis=1, initial=0.0)
    return found


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        found: Array = 1.0 / (1.0 + np.exp(-x))
    return found


def _nearest(v: Array, e: Array) -> Array:
    """How far from zero everything between is, from below; 0 where nothing is known."""
    return np.nan_to_num(np.maximum(np.abs(v) - e, 0.0) * (1.0 - 2.0**-40), nan=0.0)


def _tanh_slope(v: Array, e: Array) -> Array:
    t = np.tanh(_nearest(v, e))
    return (1.0 - t) * (1.0 + t) * LARGER + 2.0**-48


def _sigmoid_slope(v: Array, e: Array) -> Array:
    x = _nearest(v, e)
    return _sigmoid(x) * _sigmoid(-x) * LARGER + 2.0**-48


def _elu_slope(v: Array, e: Array) -> Array:
    # Everything between is below zero where its upper end is.
    return np.where(v + e < 0.0, np.exp(np.minimum(v + e, 0.0)) * LARGER + 2.0**-48, 1.0)


def _below(slope: float) -> Slope:
    return lambda v, e: np.where(v + e < 0.0, slope, 1.0)


INF = float("inf")
# σ; a bound on |σ'| at all points within e of v; its range.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Slope, float, float]] = {
    "identity": (lambda x: x, _below(1.0), -INF, INF),
    "relu": (lambda x: np.maximum(x, 0.0), _below(0.0), 0.0, INF),
    "leaky_relu": (lambda x: np.where(x >= 0.0, x, LEAK * x), _below(LEAK), -INF, INF),
    "elu": (lambda x: np.where(x >= 0.0, x, np.expm1(np.minimum(x, 0.0))), _elu_slope, -1.0, INF),
    "tanh": (np.tanh, _tanh_slope, -1.0, 1.0),
    "sigmoid": (_sigmoid, _sigmoid_slope, 0.0, 1.0),
}
