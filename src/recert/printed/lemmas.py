"""Lemmas 2, 4, 6, 7 and 11 of the paper as quantities, exactly as printed, errors included.

`log10` is that of the quantity that the lemma bounds: a Lipschitz constant, a norm, an empirical
Rademacher complexity, a gap. The confidence is 0: no lemma here carries a δ term, except Lemma 11,
whose δ is inside. Which lines are wrong, and what is right instead, is told in the errata.

Lemmas 3, 8, 9 and 10 of the paper, covering numbers and what is made of them, as printed.

For a covering number N, `log10` is log10 N and `ln` is log N; for the entropy integral of Lemma 9
it is that of its value. The confidence is 0. Which lines are wrong is told in the errata.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from recert.errors import InputError
from recert.numerics.logspace import ln, log_sum, to_log10
from recert.printed.value import (
    Printed,
    exact,
    letters,
    ln_c,
    ln_d,
    ln_int,
    ln_margin_rate,
    ln_S,
    order,
    paper,
)


class BlockLogs(NamedTuple):
    """One base-10 logarithm per weight matrix; None for a matrix the lemma does not speak of."""

    U: float | None
    V: float | None
    W: float | None


@dataclass(frozen=True, slots=True)
class PrintedLipschitz:
    """Lipschitz constants at step t, one `Printed` per weight matrix (None where not stated)."""

    L_U: Printed
    L_V: Printed | None
    L_W: Printed
    reference: str
    confidence: float = 0.0
    applies: bool = True
    reason: str = ""
    kind: str = "order"

    @property
    def log10(self) -> BlockLogs:
        """The base-10 logarithms of the constants."""
        return BlockLogs(self.L_U.log10, self.L_V.log10 if self.L_V else None, self.L_W.log10)


@letters
def lemma_2(
    *,
    t: int,
    B_x: float,
    B_U: float,
    B_V: float,
    B_W: float,
    rho_h: float = 1,
    rho_y: float = 1,
) -> PrintedLipschitz:
    """Lemma 2: Lipschitz constants of the output y_t in U, V and W.

    L_U,t = ρ_h B_V B_W t a_t, L_V,t = B_W a_t, L_W,t = B_V a_t, a_t = ρ_y ρ_h B_x S(ρ_h B_U, t).

    Args:
        t: the step at which the output is read.
        B_x: bound of ‖x_t‖.
        B_U: cap on the spectral norm of U.
        B_V: cap on the spectral norm of V.
        B_W: cap on the spectral norm of W.
        rho_h: Lipschitz constant of σ_h.
        rho_y: Lipschitz constant of σ_y.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Lemma 2, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    reference = paper("Lemma 2")
    a = [ln(rho_y), ln(rho_h), ln(B_x), ln_S(exact(rho_h, B_U), t)]
    return PrintedLipschitz(
        L_U=order(reference, [ln(rho_h), ln(B_V), ln(B_W), ln_int(t), *a]),
        L_V=order(reference, [ln(B_W), *a]),
        L_W=order(reference, [ln(B_V), *a]),
        reference=reference,
    )


@letters
def lemma_4(
    *,
    t: int,
    m: int,
    gamma: float,
    d_x: int,
    d_h: int,
    d_y: int,
    B_x: float,
    B_U: float,
    B_V: float,
    B_W: float,
    rho_h: float = 1,
    rho_y: float = 1,
    b: float = 1,
) -> Printed:
    """Lemma 4 with its own constants: empirical Rademacher complexity of the ramp loss class.

    4/(mγ) + 24/(√m γ)·√(3 d² r² log(24c √(dm) t S(β, t))),
    r = ρ_y B_V min{b √d, ρ_h B_x B_W S(β, t)}, c = ρ_y ρ_h B_V B_W B_x max{1, ρ_h B_U},
    d = √(d_x d_h + d_h² + d_h d_y), β = ρ_h B_U.
    It does not apply where the logarithm's argument is at most 1 (small caps).

    Args:
        t: the step at which the output is read.
        m: number of training sequences.
        gamma: margin γ.
        d_x: input dimension.
        d_h: hidden dimension.
        d_y: output dimension, the number of classes.
        B_x: bound of ‖x_t‖.
        B_U: cap on the spectral norm of U.
        B_V: cap on the spectral norm of V.
        B_W: cap on the spectral norm of W.
        rho_h: Lipschitz constant of σ_h.
        rho_y: Lipschitz constant of σ_y.
        b: entrywise bound of σ_h.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Lemma 4 and the last display of its proof, On Generalization Bounds of a Family of
    Recurrent Neural Networks.

    """
    reference = paper("Lemma 4")
    d, S = ln_d(d_x, d_h, d_y), ln_S(exact(rho_h, B_U), t)
    c = ln_c(B_x, B_U, B_V, B_W, rho_h, rho_y)
    argument = math.fsum([math.log(24.0), c, 0.5 * (d + ln_int(m)), ln_int(t), S])
    if not argument > 0.0:
        reason = "the argument of the printed log(24c √(dm) t S(β, t)) is at most 1"
        return Printed(None, 0.0, reference, applies=False, reason=reason)
    r = ln(rho_y) + ln(B_V) + min(ln(b) + 0.5 * d, ln(rho_h) + ln(B_x) + ln(B_W) + S)
    first = math.log(4.0) - ln_int(m) - ln(gamma)
    root = 0.5 * (math.log(3.0) + math.log(argument)) + d + r
    return order(reference, [log_sum([first, math.log(24.0) + ln_margin_rate(m, gamma) + root])])


@letters
def lemma_6(
    *,
    t: int,
    d_x: int,
    d_h: int,
    d_y: int,
    B_x: float,
    B_U: float,
    B_W: float,
    rho_h: float = 1,
    b: float = 1,
) -> Printed:
    """Lemma 6: norm of the hidden state, ‖h_t‖ ≤ min{b √d, ρ_h B_W B_x S(ρ_h B_U, t)}.

    d = √(d_x d_h + d_h² + d_h d_y), as the paper fixes it in Theorem 2.

    Args:
        t: the step at which the state is read.
        d_x: input dimension.
        d_h: hidden dimension.
        d_y: output dimension, the number of classes.
        B_x: bound of ‖x_t‖.
        B_U: cap on the spectral norm of U.
        B_W: cap on the spectral norm of W.
        rho_h: Lipschitz constant of σ_h.
        b: entrywise bound of σ_h.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Lemma 6, equation (6), On Generalization Bounds of a Family of Recurrent Neural
    Networks.

    """
    growth = ln(rho_h) + ln(B_W) + ln(B_x) + ln_S(exact(rho_h, B_U), t)
    return order(paper("Lemma 6"), [min(ln(b) + 0.5 * ln_d(d_x, d_h, d_y), growth)])


@letters
def lemma_7(*, t: int, B_x: float, B_U: float, B_W: float, rho_h: float = 1) -> PrintedLipschitz:
    """Lemma 7: Lipschitz constants of the hidden state h_t in U and W (V does not enter: None).

    L_W,t = ρ_h B_x S(ρ_h B_U, t), L_U,t = ρ_h² B_W B_x t S(ρ_h B_U, t).

    Args:
        t: the step at which the state is read.
        B_x: bound of ‖x_t‖.
        B_U: cap on the spectral norm of U.
        B_W: cap on the spectral norm of W.
        rho_h: Lipschitz constant of σ_h.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Lemma 7, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    reference = paper("Lemma 7")
    common = [ln(rho_h), ln(B_x), ln_S(exact(rho_h, B_U), t)]
    return PrintedLipschitz(
        L_U=order(reference, [ln(rho_h), ln(B_W), ln_int(t), *common]),
        L_V=None,
        L_W=order(reference, common),
        reference=reference,
    )


@letters
def lemma_11(*, m: int, KL: float, delta: float = 0.01) -> Printed:
    """Lemma 11: the PAC-Bayes gap between risk and empirical margin risk.

    4 √((KL + log(6m/δ))/(m − 1)). δ is inside the root, so the confidence is 0.

    Args:
        m: number of training sequences, at least 2.
        KL: divergence of the perturbed weights from the prior, in nats.
        delta: failure probability δ.

    Raises:
        InputError: a letter is not finite or out of range, or m = 1.

    Source: Lemma 11, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    if m < 2:
        raise InputError(f"m must be at least 2 in Lemma 11, got {m!r}: use more sequences")
    inside = KL + math.log(6 * m) - math.log(delta)
    return order(paper("Lemma 11"), [math.log(4.0), 0.5 * (math.log(inside) - ln_int(m - 1))])


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
