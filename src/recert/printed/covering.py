"""Lemmas 3, 8, 9 and 10 of the paper, covering numbers and what is made of them, as printed.

For a covering number N, `log10` is log10 N and `ln` is log N; for the entropy integral of Lemma 9
it is that of its value. The confidence is 0. Which lines are wrong is told in the errata.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from recert.errors import InputError
from recert.logspace import ln, log_sum, to_log10
from recert.printed.value import (
    Printed,
    exact,
    letters,
    ln_c,
    ln_d,
    ln_int,
    ln_S,
    paper,
)


@letters
def lemma_3(
    *,
    t: int,
    epsilon: float,
    d_x: int,
    d_h: int,
    d_y: int,
    B_x: float,
    B_U: float,
    B_V: float,
    B_W: float,
    rho_h: float = 1,
    rho_y: float = 1,
) -> Printed:
    """Lemma 3: covering number of the class of outputs y_t in the sup norm.

    N ≤ (1 + 6c √d t S(β, t)/ε)^(3d²), c = ρ_y ρ_h B_V B_W B_x max{1, ρ_h B_U},
    d = √(d_x d_h + d_h² + d_h d_y), β = ρ_h B_U.

    Args:
        t: the step at which the output is read.
        epsilon: scale ε of the cover.
        d_x: input dimension.
        d_h: hidden dimension.
        d_y: output dimension, the number of classes.
        B_x: bound of ‖x_t‖.
        B_U: cap on the spectral norm of U.
        B_V: cap on the spectral norm of V.
        B_W: cap on the spectral norm of W.
        rho_h: Lipschitz constant of σ_h.
        rho_y: Lipschitz constant of σ_y.

    Returns:
        `log10` is log10 N, `ln` is log N.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Lemma 3, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    c = ln_c(B_x, B_U, B_V, B_W, rho_h, rho_y)
    d, S = ln_d(d_x, d_h, d_y), ln_S(exact(rho_h, B_U), t)
    ln_ratio = math.fsum([math.log(6.0), c, 0.5 * d, ln_int(t), S, -ln(epsilon)])
    exponent = 3 * (d_x * d_h + d_h * d_h + d_h * d_y)
    return _count_of_balls(paper("Lemma 3"), exponent, ln_ratio)


@letters
def lemma_8(*, d_1: int, d_2: int, lam: float, epsilon: float) -> Printed:
    """Lemma 8: covering number, in Frobenius norm, of {A : ‖A‖ ≤ λ} in R^(d_1 × d_2).

    N ≤ (1 + 2 min{√d_1, √d_2} λ/ε)^(d_1 d_2).

    Args:
        d_1: number of rows.
        d_2: number of columns.
        lam: cap λ on the spectral norm.
        epsilon: scale ε of the cover.

    Returns:
        `log10` is log10 N, `ln` is log N.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Lemma 8, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    ln_ratio = math.fsum([math.log(2.0), 0.5 * ln_int(min(d_1, d_2)), ln(lam), -ln(epsilon)])
    return _count_of_balls(paper("Lemma 8"), d_1 * d_2, ln_ratio)


@letters
def lemma_9(
    *, r: float, m: int, log_covering: Callable[[float], float], alpha: float | None = None
) -> Printed:
    """Lemma 9: Dudley's entropy integral for a class with values in [−r, r].

    inf_α (4α/√m + (12/m) ∫_α^{2r√m} √(log N(H, ε, ‖·‖)) dε). The norm is the unnormalised Euclidean
    one over the sample. N falls with ε, so the expression is convex in α and least where
    log N(α) = m/9; the integral is taken in ln ε.

    Args:
        r: half-range of the class.
        m: number of points in the sample.
        log_covering: the natural log of the covering number as a function of ε, non-increasing.
        alpha: lower end of the integral; by default the best one.

    Raises:
        InputError: a letter is not finite or out of range, α exceeds 2r√m, or log_covering returns
            a value that is negative or not finite.

    Source: Lemma 9, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    from scipy.integrate import quad  # costs a tenth of a second, and only this lemma needs it

    top = 2.0 * r * math.sqrt(m)
    entropy = _checked_entropy(log_covering)
    low = _best_alpha(entropy, top, m) if alpha is None else alpha
    if low > top:
        raise InputError(f"alpha must be at most 2r√m = {top!r}, got {low!r}: pass a smaller one")

    def integrand(u: float) -> float:
        return math.sqrt(entropy(math.exp(u))) * math.exp(u)

    integral = quad(integrand, math.log(low), math.log(top), epsabs=0.0, epsrel=1e-10, limit=500)[0]
    value = 4.0 * low / math.sqrt(m) + 12.0 / m * integral
    return Printed(to_log10(ln(value)), 0.0, paper("Lemma 9"))


@letters
def lemma_10(*, d_1: int, d_2: int, lam: float, epsilon: float) -> Printed:
    """Lemma 10: covering number of {A : ‖A‖_{2,1} ≤ λ} in R^(d_1 × d_2), false as printed.

    log N ≤ (λ²/ε²) log(2 d_1 d_2).

    Args:
        d_1: number of rows.
        d_2: number of columns.
        lam: cap λ on the (2,1) norm.
        epsilon: scale ε of the cover.

    Returns:
        `log10` is log10 N, `ln` is log N.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Lemma 10, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    factors = [2.0 * (ln(lam) - ln(epsilon)), math.log(math.log(2 * d_1 * d_2))]
    return _from_ln_ln(paper("Lemma 10"), math.fsum(factors))


def _count_of_balls(reference: str, exponent: int, ln_ratio: float) -> Printed:
    """N = (1 + ratio)^exponent."""
    return Printed(to_log10(exponent * log_sum([0.0, ln_ratio])), 0.0, reference)


def _from_ln_ln(reference: str, ln_ln: float) -> Printed:
    if ln_ln > 700.0:
        raise InputError(
            "epsilon is so small that log N exceeds every float: pass a larger epsilon"
        )
    return Printed(to_log10(math.exp(ln_ln)), 0.0, reference)


def _checked_entropy(log_covering: Callable[[float], float]) -> Callable[[float], float]:
    def entropy(epsilon: float) -> float:
        value = float(log_covering(epsilon))
        if not 0.0 <= value < math.inf:
            raise InputError(
                f"log_covering({epsilon!r}) must be finite and at least 0, got {value!r}"
            )
        return value

    return entropy


def _best_alpha(entropy: Callable[[float], float], top: float, m: int) -> float:
    """The α at which log N(α) passes m/9, within [10^-12, 1] times the upper end."""
    low, high = math.log(top) + math.log(1e-12), math.log(top)
    if entropy(top) >= m / 9.0:
        return top
    for _ in range(100):
        middle = 0.5 * (low + high)
        if entropy(math.exp(middle)) > m / 9.0:
            low = middle
        else:
            high = middle
    return min(math.exp(high), top)
