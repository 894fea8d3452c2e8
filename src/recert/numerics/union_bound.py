"""What was chosen after looking at the data is paid for, in nats.

A statement that holds with probability 1 − δ for one fixed setting holds for all settings j at
once if ln(1/δ) is replaced by ln(1/δ) + cost(j), as long as Σ_j exp(−cost(j)) ≤ 1 (a union bound
with weights exp(−cost)). Costs are rounded up, shares of δ are rounded down.

The grids that come with the package have base 1 and these ratios:

* `MARGIN_GRID`, 2^(1/4), for margins γ and resolutions η: a bound is flat near its best margin.
* `CAP_GRID`, 2^(1/64), for norms that are measured and rounded up. Rounding up by a factor r costs
  ln r for every parameter, and r^T in a sensitivity over T steps, while a finer grid costs
  only 2 ln of the refinement once: fine is cheap.
* `SCALE_GRID`, 2^(1/8), for standard deviations of priors and posteriors. A Gaussian KL is
  quadratic round its best scale: at most about P·(ln r / 2)² = 0.002·P nats are lost for P
  parameters.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from recert.errors import InputError

MIN_RATIO = 1.0 + 2.0**-20


def _log_up(n: int) -> float:
    """Return ln n rounded up (libm is within one unit in the last place; two are added)."""
    return math.log(n) * (1.0 + 2.0**-51) if n > 1 else 0.0


def _integer(what: str, x: int) -> int:
    try:
        return operator.index(x)
    except TypeError:
        raise InputError(f"{what} is {x!r}; pass an integer") from None


@dataclass(frozen=True)
class GeometricGrid:
    """The floats base·ratio^j for integers j of either sign; `cost` prices the choice of one j.

    `InputError` if base is not positive and finite or ratio is not finite and above 1 + 2^-20.
    """

    base: float
    ratio: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.base) and self.base > 0):
            raise InputError(f"grid base is {self.base}; it must be positive and finite")
        if not (math.isfinite(self.ratio) and self.ratio >= MIN_RATIO):
            raise InputError(f"grid ratio is {self.ratio}; it must be finite and above 1 + 2^-20")

    def value(self, j: int) -> float:
        """Return base·ratio^j in float64; `InputError` where that is not a normal float."""
        index = _integer("grid index", j)
        try:
            x = self.base * math.pow(self.ratio, index)
        except OverflowError:
            x = math.inf
        if not 2.0**-1022 <= x < math.inf:
            raise InputError(f"grid index {j} gives {x}, outside float64; use a smaller |index|")
        return x

    def index_at_least(self, x: float) -> int:
        """Return the smallest j with value(j) ≥ x, compared as floats; x positive and finite."""
        j = math.ceil(self._position(x))
        while self.value(j) < x:
            j += 1
        while self.value(j - 1) >= x:
            j -= 1
        return j

    def index_at_most(self, x: float) -> int:
        """Return the largest j with value(j) ≤ x, compared as floats; x positive and finite."""
        j = math.floor(self._position(x))
        while self.value(j) > x:
            j -= 1
        while self.value(j + 1) <= x:
            j += 1
        return j

    def values_between(self, lo: float, hi: float) -> NDArray[np.int64]:
        """Return the indices j, ascending, with lo ≤ value(j) ≤ hi; possibly none."""
        if not lo <= hi:
            raise InputError(f"grid range is [{lo}, {hi}]; the lower end must not exceed the upper")
        return np.arange(self.index_at_least(lo), self.index_at_most(hi) + 1, dtype=np.int64)

    @staticmethod
    def cost(j: int) -> float:
        """Return ln(2(|j|+1)(|j|+2)) nats, rounded up; Σ_j exp(−cost(j)) over all j is 3/4."""
        k = abs(_integer("grid index", j))
        return _log_up(2 * (k + 1) * (k + 2))

    def _position(self, x: float) -> float:
        if not (math.isfinite(x) and x > 0):
            raise InputError(
                f"{x} has no place on a geometric grid; pass a positive finite number "
                "(for a zero norm declare a cap)"
            )
        return (math.log(x) - math.log(self.base)) / math.log(self.ratio)


@dataclass(frozen=True)
class FiniteChoice:
    """One choice among n items that were fixed before looking; `InputError` if n < 1."""

    n: int

    def __post_init__(self) -> None:
        if _integer("number of items", self.n) < 1:
            raise InputError(f"number of items is {self.n}; a choice needs at least one")

    def cost(self, j: int = 0) -> float:
        """Return ln n nats, rounded up; `InputError` if the item j is not in 0..n−1."""
        if not 0 <= _integer("item index", j) < self.n:
            raise InputError(f"item index is {j}; it must lie in 0..{self.n - 1}")
        return _log_up(operator.index(self.n))


@dataclass(frozen=True)
class Cost:
    """A row of a certificate: what was chosen, its index, the value it has, its price in nats."""

    what: str
    index: int | None
    value: float
    nats: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.nats) and self.nats >= 0):
            raise InputError(f"cost of '{self.what}' is {self.nats}; nats are finite and >= 0")


def total_nats(costs: Iterable[Cost]) -> float:
    """Return the sum of the rows' nats, rounded up; 0 for no rows."""
    rows = [c.nats for c in costs]
    total = math.fsum(rows)
    exact = sum((Fraction(x) for x in rows), Fraction(0))
    return total if Fraction(total) >= exact else math.nextafter(total, math.inf)


def split_delta(
    delta: float,
    names: Sequence[str],
    weights: Mapping[str, float] | Sequence[float] | None = None,
) -> dict[str, float]:
    """Share a failure probability among named statements: name → share, exact sum at most delta.

    Shares are proportional to `weights` (a mapping by name, or a sequence in the order of the
    names; equal if None) and rounded down. `InputError` unless 0 < delta < 1, names are at least
    one and distinct, and weights are positive, finite and one for each name.
    """
    if not 0.0 < delta < 1.0:
        raise InputError(f"delta is {delta}; a failure probability lies strictly between 0 and 1")
    if isinstance(names, str) or not names:
        raise InputError("no names to share delta among; pass a sequence of at least one name")
    if len(set(names)) != len(names):
        raise InputError(f"names {list(names)} repeat; give every statement its own name")
    w = _weights(names, weights)
    total = sum(w, Fraction(0))
    return {
        name: _share(name, Fraction(delta) * x / total) for name, x in zip(names, w, strict=True)
    }


def _weights(
    names: Sequence[str], weights: Mapping[str, float] | Sequence[float] | None
) -> list[Fraction]:
    if weights is None:
        return [Fraction(1)] * len(names)
    if len(weights) != len(names) or (isinstance(weights, Mapping) and set(weights) != set(names)):
        raise InputError("weights do not match the names of delta's shares; give one for each name")
    listed = [weights[n] for n in names] if isinstance(weights, Mapping) else list(weights)
    for name, x in zip(names, listed, strict=True):
        if not (math.isfinite(x) and x > 0):
            raise InputError(f"weight of '{name}' is {x}; weights are positive and finite")
    return [Fraction(x) for x in listed]


def _share(name: str, exact: Fraction) -> float:
    x = float(exact)
    x = x if Fraction(x) <= exact else math.nextafter(x, 0.0)
    if x <= 0.0:
        raise InputError(f"the share of delta for '{name}' rounds down to 0; use a larger delta")
    return x


MARGIN_GRID = GeometricGrid(1.0, 2.0**0.25)
CAP_GRID = GeometricGrid(1.0, 2.0 ** (1 / 64))
SCALE_GRID = GeometricGrid(1.0, 2.0**0.125)
