"""Theorems 1 to 3 and the rival bound of Zhang et al., as printed: orders without constants.

Every function takes the paper's letters by keyword and returns a `Printed` whose `log10` is that of
the complexity term and whose `confidence` is the printed √(log(1/δ)/m). S(β, t) stands for
(β^t − 1)/(β − 1), which is t at β = 1, and d is the square root of the number of parameters.
"""

from __future__ import annotations

from recert.numerics.logspace import ln, log_sum
from recert.printed.value import (
    LogFactor,
    Printed,
    exact,
    letters,
    ln_d,
    ln_int,
    ln_margin_rate,
    ln_S,
    order,
    paper,
    root_inverse_delta,
)


@letters
def theorem_1(
    *,
    t: int,
    m: int,
    gamma: float,
    d_x: int,
    d_h: int,
    d_y: int,
    B_U: float,
    B_V: float,
    B_W: float,
    delta: float = 0.01,
) -> Printed:
    """Theorem 1: vanilla tanh RNN with ‖x_t‖ ≤ 1.

    d·min{√d, ‖W‖ S(‖U‖, t)}·‖V‖·√log(t √d S(‖U‖, t)) / (√m γ), d = √(d_x d_h + d_h² + d_h d_y).

    Args:
        t: the step at which the output is read.
        m: number of training sequences.
        gamma: margin γ.
        d_x: input dimension.
        d_h: hidden dimension.
        d_y: output dimension, the number of classes.
        B_U: ‖U‖, spectral norm of the recurrent matrix.
        B_V: ‖V‖, spectral norm of the output matrix.
        B_W: ‖W‖, spectral norm of the input matrix.
        delta: failure probability δ.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Theorem 1 and the display before it, On Generalization Bounds of a Family of Recurrent
    Neural Networks.

    """
    d, S = ln_d(d_x, d_h, d_y), ln_S(exact(B_U), t)
    return order(
        paper("Theorem 1"),
        [d, min(0.5 * d, ln(B_W) + S), ln(B_V), ln_margin_rate(m, gamma)],
        [LogFactor("t √d S(‖U‖, t)", ln_int(t) + 0.5 * d + S, 0.5)],
        root_inverse_delta(m, delta),
    )


@letters
def theorem_2(
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
    delta: float = 0.01,
) -> Printed:
    """Theorem 2: vanilla RNN with general activations.

    d ρ_y B_V min{b √d, ρ_h B_x B_W S(β, t)} √log(t √(dm) S(β, t)) / (√m γ),
    d = √(d_x d_h + d_h² + d_h d_y), β = ρ_h B_U.

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
        delta: failure probability δ.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Theorem 2, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    d, S = ln_d(d_x, d_h, d_y), ln_S(exact(rho_h, B_U), t)
    state = min(ln(b) + 0.5 * d, ln(rho_h) + ln(B_x) + ln(B_W) + S)
    return order(
        paper("Theorem 2"),
        [d, ln(rho_y), ln(B_V), state, ln_margin_rate(m, gamma)],
        [LogFactor("t √(dm) S(β, t)", ln_int(t) + 0.5 * (d + ln_int(m)) + S, 0.5)],
        root_inverse_delta(m, delta),
    )


@letters
def theorem_3_two_one(
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
    M_U: float,
    M_V: float,
    M_W: float,
    rho_h: float = 1,
    rho_y: float = 1,
    delta: float = 0.01,
) -> Printed:
    """Theorem 3, equation (3): vanilla RNN with capped (2,1) norms.

    α (M_U + M_V + M_W) t S(β, t) √(log d) log(m √d) / (√m γ),
    α = ρ_h² ρ_y B_V B_W B_x, d = √(d_x d_h + d_h² + d_h d_y), β = ρ_h B_U.

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
        M_U: cap on ‖U‖_{2,1}, the sum of the Euclidean norms of the columns.
        M_V: cap on ‖V‖_{2,1}.
        M_W: cap on ‖W‖_{2,1}.
        rho_h: Lipschitz constant of σ_h.
        rho_y: Lipschitz constant of σ_y.
        delta: failure probability δ.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Theorem 3, equation (3), On Generalization Bounds of a Family of Recurrent Neural
    Networks.

    """
    d, S = ln_d(d_x, d_h, d_y), ln_S(exact(rho_h, B_U), t)
    alpha = 2.0 * ln(rho_h) + ln(rho_y) + ln(B_V) + ln(B_W) + ln(B_x)
    norms = log_sum([ln(M_U), ln(M_V), ln(M_W)])
    return order(
        paper("Theorem 3, equation (3)"),
        [alpha, norms, ln_int(t), S, ln_margin_rate(m, gamma)],
        [LogFactor("d", d, 0.5), LogFactor("m √d", ln_int(m) + 0.5 * d, 1.0)],
        root_inverse_delta(m, delta),
    )


@letters
def theorem_3_frobenius(
    *,
    t: int,
    m: int,
    gamma: float,
    d_x: int,
    d_h: int,
    d_y: int,
    B_x: float,
    B_U: float,
    B_W: float,
    U_F: float,
    V_F: float,
    W_F: float,
    rho_h: float = 1,
    rho_y: float = 1,
    b: float = 1,
    delta: float = 0.01,
) -> Printed:
    """Theorem 3, equation (4): vanilla RNN with capped Frobenius norms.

    ρ_y ρ_h (λ_t B_U + B_x B_W) S(β, t) √(d ln d (‖U‖_F² + ‖W‖_F² + ‖V‖_F²)) / (√m γ),
    λ_t = min{b √d, ρ_h B_x B_W S(β, t)}, d = √(d_x d_h + d_h² + d_h d_y), β = ρ_h B_U.
    Equation (4) has no δ term, so the confidence is 0.

    Args:
        t: the step at which the output is read.
        m: number of training sequences.
        gamma: margin γ.
        d_x: input dimension.
        d_h: hidden dimension.
        d_y: output dimension, the number of classes.
        B_x: bound of ‖x_t‖.
        B_U: cap on the spectral norm of U.
        B_W: cap on the spectral norm of W.
        U_F: cap on the Frobenius norm of U.
        V_F: cap on the Frobenius norm of V.
        W_F: cap on the Frobenius norm of W.
        rho_h: Lipschitz constant of σ_h.
        rho_y: Lipschitz constant of σ_y.
        b: entrywise bound of σ_h.
        delta: failure probability δ; checked, but equation (4) does not use it.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Theorem 3, equation (4), On Generalization Bounds of a Family of Recurrent Neural
    Networks.

    """
    d, S = ln_d(d_x, d_h, d_y), ln_S(exact(rho_h, B_U), t)
    drive = ln(B_x) + ln(B_W)
    state = min(ln(b) + 0.5 * d, ln(rho_h) + drive + S)
    squares = log_sum([2.0 * ln(U_F), 2.0 * ln(W_F), 2.0 * ln(V_F)])
    return order(
        paper("Theorem 3, equation (4)"),
        [
            ln(rho_y),
            ln(rho_h),
            log_sum([state + ln(B_U), drive]),
            S,
            0.5 * (d + squares),
            ln_margin_rate(m, gamma),
        ],
        [LogFactor("d", d, 0.5)],
    )


@letters
def zhang_2018(
    *,
    t: int,
    m: int,
    gamma: float,
    d_x: int,
    d_h: int,
    d_y: int,
    B_U: float,
    B_V: float,
    B_W: float,
) -> Printed:
    """The bound of Zhang, Lei and Dhillon (2018) in the form the paper compares itself with.

    d t² ‖W‖ ‖V‖ max{1, ‖U‖^t} / (√m γ), d = √(d_x d_h + d_h² + d_h d_y). The paper prints no δ term
    for it, so the confidence is 0.

    Args:
        t: the step at which the output is read.
        m: number of training sequences.
        gamma: margin γ.
        d_x: input dimension.
        d_h: hidden dimension.
        d_y: output dimension, the number of classes.
        B_U: ‖U‖, spectral norm of the recurrent matrix.
        B_V: ‖V‖, spectral norm of the output matrix.
        B_W: ‖W‖, spectral norm of the input matrix.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Section 1, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    return order(
        paper("Zhang et al. (2018) as quoted in Section 1"),
        [
            ln_d(d_x, d_h, d_y),
            2.0 * ln_int(t),
            ln(B_W),
            ln(B_V),
            max(0.0, t * ln(B_U)),
            ln_margin_rate(m, gamma),
        ],
    )
