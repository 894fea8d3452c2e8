"""Theorems 4 to 6, for the MGU, LSTM and convolutional variants, as printed: orders, no constants.

Every function takes the paper's letters by keyword and returns a `Printed` whose `log10` is that of
the complexity term and whose `confidence` is the printed √(log(1/δ)/m). S(β, t) stands for
(β^t − 1)/(β − 1), which is t at β = 1. In Theorems 4 and 5, d is the square root of the number of
parameters; in Theorem 6 it is the input dimension.
"""

from __future__ import annotations

from fractions import Fraction

from recert.numerics.logspace import ln
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
def theorem_4(
    *,
    t: int,
    m: int,
    gamma: float,
    d_x: int,
    d_h: int,
    d_y: int,
    B_x: float,
    B_V: float,
    B_Wh: float,
    B_Uh: float,
    B_Ur: float,
    r_max: float,
    one_minus_r_max: float,
    rho_y: float = 1,
    delta: float = 0.01,
) -> Printed:
    """Theorem 4: minimal gated unit (MGU).

    d ρ_y B_V min{√d, B_Wh B_x S(β, t)} √log(S(θ, t) d √m) / (√m γ),
    d = √(2 d_x d_h + 2 d_h² + d_h d_y), β = max_j {‖1 − r_j‖_∞ + B_Uh ‖r_j‖_∞²},
    θ = β + 2 B_Ur + B_Ur B_Uh. β is evaluated at the two maxima passed, which is never below the
    printed maximum over steps.

    Args:
        t: the step at which the output is read.
        m: number of training sequences.
        gamma: margin γ.
        d_x: input dimension.
        d_h: hidden dimension.
        d_y: output dimension, the number of classes.
        B_x: bound of ‖x_t‖.
        B_V: cap on the spectral norm of V.
        B_Wh: cap on the spectral norm of W_h.
        B_Uh: cap on the spectral norm of U_h.
        B_Ur: cap on the spectral norm of U_r.
        r_max: max_j ‖r_j‖_∞; a sigmoid's lies in [0, 1], taken as given.
        one_minus_r_max: max_j ‖1 − r_j‖_∞, likewise.
        rho_y: Lipschitz constant of σ_y.
        delta: failure probability δ.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Theorem 4, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    beta = Fraction(one_minus_r_max) + exact(B_Uh, r_max, r_max)
    theta = beta + 2 * Fraction(B_Ur) + exact(B_Ur, B_Uh)
    return _gated(
        "Theorem 4",
        ln_d(d_x, d_h, d_y, gates=2),
        beta,
        theta,
        t,
        m,
        gamma,
        B_x,
        B_V,
        B_Wh,
        rho_y,
        delta,
    )


@letters
def theorem_5(
    *,
    t: int,
    m: int,
    gamma: float,
    d_x: int,
    d_h: int,
    d_y: int,
    B_x: float,
    B_V: float,
    B_Wc: float,
    B_Uc: float,
    B_Ug: float,
    B_Ur: float,
    B_Uo: float,
    g_max: float,
    r_max: float,
    o_max: float,
    rho_y: float = 1,
    delta: float = 0.01,
) -> Printed:
    """Theorem 5: long short-term memory (LSTM).

    d ρ_y B_V min{√d, B_Wc B_x S(β, t)} √log(S(θ, t) d √m) / (√m γ),
    d = √(4 d_x d_h + 4 d_h² + d_h d_y), β = max_j {‖g_j‖_∞ + B_Uc ‖r_j‖_∞ ‖o_j‖_∞},
    θ = β + B_Ug + B_Ur + B_Uo. β is evaluated at the three maxima passed, which is never below the
    printed maximum over steps.

    Args:
        t: the step at which the output is read.
        m: number of training sequences.
        gamma: margin γ.
        d_x: input dimension.
        d_h: hidden dimension.
        d_y: output dimension, the number of classes.
        B_x: bound of ‖x_t‖.
        B_V: cap on the spectral norm of V.
        B_Wc: cap on the spectral norm of W_c.
        B_Uc: cap on the spectral norm of U_c.
        B_Ug: cap on the spectral norm of U_g.
        B_Ur: cap on the spectral norm of U_r.
        B_Uo: cap on the spectral norm of U_o.
        g_max: max_j ‖g_j‖_∞; a sigmoid's lies in [0, 1], taken as given.
        r_max: max_j ‖r_j‖_∞, likewise.
        o_max: max_j ‖o_j‖_∞, likewise.
        rho_y: Lipschitz constant of σ_y.
        delta: failure probability δ.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Theorem 5, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    beta = Fraction(g_max) + exact(B_Uc, r_max, o_max)
    theta = beta + Fraction(B_Ug) + Fraction(B_Ur) + Fraction(B_Uo)
    return _gated(
        "Theorem 5",
        ln_d(d_x, d_h, d_y, gates=4),
        beta,
        theta,
        t,
        m,
        gamma,
        B_x,
        B_V,
        B_Wc,
        rho_y,
        delta,
    )


@letters
def theorem_6(
    *, t: int, m: int, gamma: float, d: int, k: int, B_x: float, delta: float = 0.01
) -> Printed:
    """Theorem 6: convolutional RNN with orthogonal filters (Assumption 8).

    B_x k t √log(d t √m) / (√m γ). It does not apply where d t √m = 1.

    Args:
        t: the step at which the output is read.
        m: number of training sequences.
        gamma: margin γ.
        d: input dimension.
        k: number of channels, and the length of a filter.
        B_x: bound of ‖x_t‖.
        delta: failure probability δ.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Theorem 6, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    return order(
        paper("Theorem 6"),
        [ln(B_x), ln_int(k), ln_int(t), ln_margin_rate(m, gamma)],
        [LogFactor("d t √m", ln_int(d * t) + 0.5 * ln_int(m), 0.5)],
        root_inverse_delta(m, delta),
    )


def _gated(
    name: str,
    d: float,
    beta: Fraction,
    theta: Fraction,
    t: int,
    m: int,
    gamma: float,
    B_x: float,
    B_V: float,
    B_W: float,
    rho_y: float,
    delta: float,
) -> Printed:
    """The form that Theorems 4 and 5 have in common; d is ln d."""
    return order(
        paper(name),
        [
            d,
            ln(rho_y),
            ln(B_V),
            min(0.5 * d, ln(B_W) + ln(B_x) + ln_S(beta, t)),
            ln_margin_rate(m, gamma),
        ],
        [LogFactor("S(θ, t) d √m", ln_S(theta, t) + d + 0.5 * ln_int(m), 0.5)],
        root_inverse_delta(m, delta),
    )
