"""Limits on a mean or a rate from a sample, rounded outwards. Logarithms are natural.

Sources: Maurer, "A note on the PAC Bayesian theorem" (2004), for kl and ln(2√m/δ); Clopper and
Pearson (1934) for the exact binomial limit. Arguments broadcast where arrays are accepted; two
scalars give a float. `InputError` is raised for NaN and for values outside the stated ranges.
"""

from __future__ import annotations

import math
import operator
from fractions import Fraction
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recert.errors import InputError

Array = NDArray[np.float64]

KL_RELATIVE_ERROR = 2.0**-43  # `kl` stays a factor of ten below this; tests compare with mpmath
KL_ABSOLUTE_ERROR = 2.0**-1068
TAIL_RELATIVE_ERROR = 1e-9  # allowed for scipy's incomplete beta function, good to about 1e-12
BELOW_ONE = math.nextafter(1.0, 0.0)
SERIES_LIMIT = 0.2
MAX_STEPS = 200


@overload
def kl(q: float, p: float) -> float: ...
@overload
def kl(q: ArrayLike, p: ArrayLike) -> Any: ...
def kl(q: ArrayLike, p: ArrayLike) -> Any:
    """Return the binary relative entropy in nats, q ln(q/p) + (1−q) ln((1−q)/(1−p)).

    q and p in [0, 1]; inf where p is 0 or 1 and q is not. Computed without cancellation as
    q φ((p−q)/q) + (1−q) φ((q−p)/(1−q)), φ(u) = u − log1p(u) ≥ 0; relative error below 2^-43.
    """
    qa, pa = np.broadcast_arrays(_unit("q", q), _unit("p", p))
    return _result(_kl(qa, pa), q, p)


@overload
def kl_inverse_upper(q: float, c: float) -> float: ...
@overload
def kl_inverse_upper(q: ArrayLike, c: ArrayLike) -> Any: ...
def kl_inverse_upper(q: ArrayLike, c: ArrayLike) -> Any:
    """Return sup{p ≥ q : kl(q, p) ≤ c}, never below it, and above by at most 1e-12 of itself.

    q in [0, 1] is an empirical mean, c ≥ 0 (inf allowed) the complexity in nats per unit;
    beside `KL_ABSOLUTE_ERROR` a c that is as small counts as up to eight times that more.
    """
    qa, ca = np.broadcast_arrays(_unit("q", q), _nonnegative("c", c))
    p = _kl_inverse(qa.reshape(-1), ca.reshape(-1)).reshape(qa.shape)
    return _result(p, q, c)


@overload
def kl_inverse_lower(q: float, c: float) -> float: ...
@overload
def kl_inverse_lower(q: ArrayLike, c: ArrayLike) -> Any: ...
def kl_inverse_lower(q: ArrayLike, c: ArrayLike) -> Any:
    """Return inf{p ≤ q : kl(q, p) ≤ c}, never above it, and below by at most 1e-12 (absolute).

    Same arguments as `kl_inverse_upper`, of which it is the mirror image in 1 − q.
    """
    qa, ca = np.broadcast_arrays(_unit("q", q), _nonnegative("c", c))
    # The upper limit grows with its first argument, so where 1 − q is rounded, take more.
    exact = (qa >= 0.5) | (qa == 0)
    mirrored = np.where(exact, 1.0 - qa, np.minimum(np.nextafter(1.0 - qa, 2.0), 1.0))
    upper = _kl_inverse(mirrored.reshape(-1), ca.reshape(-1)).reshape(qa.shape)
    p = np.clip(np.nextafter(1.0 - upper, -1.0), 0.0, qa)
    return _result(np.where(ca == 0, qa, p), q, c)


def binary_entropy(z: ArrayLike) -> Any:
    """Return −z ln z − (1−z) ln(1−z) in nats for z in [0, 1], rounded up, elementwise."""
    a = _unit("z", z)
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        h = -a * np.log(a) - (1.0 - a) * np.log1p(-a)
    h = np.where((a == 0) | (a == 1), 0.0, np.nextafter(h * (1.0 + 2.0**-49), np.inf))
    return _result(h, z)


def maurer_log_term(m: int, delta: float) -> float:
    """Return ln(2√m/δ), rounded up: the price of δ in the PAC-Bayes-kl bound on m ≥ 1 units.

    Maurer (2004) proves Σ_k C(m,k) (k/m)^k (1−k/m)^(m−k) ≤ 2√m for m ≥ 8; below that the sum
    itself is at most 2√m (checked in the tests).
    """
    m = _count("m", m, least=1)
    _probability(delta)
    value = math.log(2.0) + 0.5 * math.log(m) - math.log(delta)
    return value * (1.0 + 2.0**-49)


def binomial_upper_limit(errors: int, n: int, delta: float) -> float:
    """Return the exact one-sided upper limit (Clopper and Pearson 1934) of an error rate.

    The p with P(Bin(n, p) ≤ errors) = delta, never below it; 1 when errors = n. For independent
    0/1 losses; for losses in between use `kl_inverse_upper(mean, ln(1/delta)/n)`.
    """
    n = _count("n", n, least=1)
    k = _count("errors", errors, least=0, most=n)
    _probability(delta)
    if k == n:
        return 1.0
    if k == 0:
        return min(1.0, -math.expm1(math.log(delta) / n) * (1.0 + 2.0**-48))
    from scipy.special import betaincc, betainccinv

    p = float(betainccinv(k + 1, n - k, delta))
    p = p if 0.0 < p < 1.0 else 0.0
    step = 1e-12 * max(p, 1.0 / n)
    while p < 1.0 and not float(betaincc(k + 1, n - k, p)) <= delta * (1 - TAIL_RELATIVE_ERROR):
        p = min(1.0, p + step)
        step *= 2.0
    return p


def hypergeometric_upper_limit(errors: int, n: int, population: int, delta: float) -> float:
    """Return an upper limit of the error rate over a finite list, from a sample without return.

    max{D : P(Hyp(population, D, n) ≤ errors) > delta}/population, D the errors on the whole list,
    sample included; n units were drawn, `errors` of them wrong. Fails with probability at most
    delta; where rounding leaves a D in doubt, it counts as possible.
    """
    N = _count("population", population, least=1)
    n = _count("n", n, least=1, most=N)
    k = _count("errors", errors, least=0, most=n)
    _probability(delta)
    lo, hi = k, N - (n - k)  # lo is always possible; the tail falls as D grows
    while lo < hi:
        D = (lo + hi + 1) // 2
        if _hypergeometric_possible(k, n, N, D, delta):
            lo = D
        else:
            hi = D - 1
    rate = lo / N
    return rate if Fraction(rate) >= Fraction(lo, N) else math.nextafter(rate, 2.0)


def _hypergeometric_possible(k: int, n: int, N: int, D: int, delta: float) -> bool:
    """Whether P(Hyp(N, D, n) ≤ k) > delta, yes where rounding leaves it open."""
    from scipy.special import gammaln

    def log_choose(a: Any, b: Any) -> Any:
        return gammaln(a + 1.0) - gammaln(b + 1.0) - gammaln(a - b + 1.0)

    i = np.arange(max(0, n - (N - D)), min(k, D) + 1)
    if not len(i):
        return False
    logs = log_choose(D, i) + log_choose(N - D, n - i) - log_choose(N, n)
    top = float(logs.max())
    with np.errstate(under="ignore"):
        tail = top + math.log(float(np.exp(logs - top).sum()))
    # Nine terms, none above ln N!, each good to a few units in the last place.
    tolerance = 1e-12 + 64 * 2.0**-52 * math.lgamma(N + 2.0)
    return tail + tolerance > math.log(delta)


def _kl(q: Array, p: Array) -> Array:
    with np.errstate(all="ignore"):
        d = p - q
        value = _kl_half(q, p, d) + _kl_half(1.0 - q, 1.0 - p, -d)
    return np.where(d == 0, 0.0, value)


def _kl_half(a: Array, b: Array, d: Array) -> Array:
    """Return a φ(d/a) = d − a ln(b/a) ≥ 0 for d = b − a, to a small relative error."""
    u = d / a
    s = u / (2.0 + u)
    s2 = s * s
    tail = np.zeros_like(s)
    for k in range(21, 1, -2):
        tail = 1.0 / k + s2 * tail
    # log1p(u) = 2 artanh(s), so φ(u) = us − 2s³(1/3 + s²/5 + ...): no cancellation for small u.
    series = a * (u * s - 2.0 * s * s2 * tail)
    ratio = b / a
    normal = (ratio > 2.0**-1000) & (ratio < np.inf)  # else the quotient has lost its digits
    log = np.where(normal, np.log(ratio), np.log(b) - np.log(a))
    direct = d - a * log
    return np.where(a == 0, np.maximum(d, 0.0), np.where(np.abs(u) < SERIES_LIMIT, series, direct))


def _kl_below(q: Array, p: Array) -> Array:
    """Return a proven lower bound on kl(q, p)."""
    return _kl(q, p) * (1.0 - KL_RELATIVE_ERROR) - KL_ABSOLUTE_ERROR


def _kl_inverse(q: Array, c: Array) -> Array:
    """Invert kl in its second argument for flat arrays, outwards.

    kl(q, ·) is convex and rises from 0 at q, so Newton's method from a point above the root falls
    onto it. Whatever it returns counts only after kl has been bounded from below there; as
    (p−q)·kl' ≥ kl, moving p − q by the relative error of kl is enough.
    """
    p = np.where(c == 0, q, 1.0)
    open_ = (c > 0) & (q < 1) & (_kl_below(q, np.full_like(q, BELOW_ONE)) >= c)
    open_ &= q < BELOW_ONE
    if not open_.any():
        return p
    x, target = q[open_], c[open_]
    y = _newton(x, target * (1.0 + 2.0 * KL_RELATIVE_ERROR))
    step = np.maximum((y - x) * KL_RELATIVE_ERROR, 2.0**-1074)
    for _ in range(1100):
        short = _kl_below(x, y) < target
        if not short.any():
            break
        raised = np.minimum(np.nextafter(y + step, 2.0), BELOW_ONE)
        y = np.where(short, raised, y)
        step = np.where(short, 2.0 * step, step)
    p[open_] = np.where(_kl_below(x, y) >= target, y, 1.0)
    return p


def _newton(q: Array, c: Array) -> Array:
    """Return a point close to the root p > q of kl(q, p) = c, from starts above it."""
    least = np.nextafter(q, 2.0)
    # kl ≥ 2(p−q)² (Pinsker) and kl ≥ (p−q)²/(2p) give two points above the root.
    start = q + np.minimum(np.sqrt(c / 2.0), 2.0 * c + np.sqrt(2.0 * q) * np.sqrt(c))
    p = np.clip(start, least, BELOW_ONE)
    with np.errstate(all="ignore"):
        for _ in range(MAX_STEPS):
            slope = (p - q) / p / (1.0 - p)
            new = np.clip(p - (_kl(q, p) - c) / slope, least, BELOW_ONE)
            done = np.isnan(new) | (new >= p)
            if done.all():
                break
            p = np.where(done, p, new)
    return p


def _result(value: Array, *arguments: ArrayLike) -> Any:
    return float(value) if all(np.ndim(a) == 0 for a in arguments) else np.asarray(value)


def _numbers(name: str, x: ArrayLike) -> Array:
    try:
        a = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} is not numeric; pass a real number or an array") from None
    if np.isnan(a).any():
        raise InputError(f"{name} contains NaN; find where it arose before bounding")
    return a


def _unit(name: str, x: ArrayLike) -> Array:
    a = _numbers(name, x)
    bad = (a < 0) | (a > 1)
    if bad.any():
        raise InputError(f"{name} holds {a[bad].flat[0]}; it must lie in [0, 1]")
    return a


def _nonnegative(name: str, x: ArrayLike) -> Array:
    a = _numbers(name, x)
    if (a < 0).any():
        raise InputError(f"{name} holds {a[a < 0].flat[0]}; it must not be negative")
    return a


def _count(name: str, x: int, least: int, most: int | None = None) -> int:
    try:
        value = operator.index(x)
    except TypeError:
        raise InputError(f"{name} is {x!r}; pass an integer") from None
    if value < least or (most is not None and value > most):
        raise InputError(f"{name} is {value}; it must be at least {least}" + _at_most(most))
    return value


def _at_most(most: int | None) -> str:
    return "" if most is None else f" and at most {most}"


def _probability(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise InputError(f"delta is {delta}; a failure probability lies strictly between 0 and 1")
