"""The four complexities that Section 6 of the paper plots against each other, as printed.

Here d = d_h, log factors common to all are dropped, and neither m nor γ nor δ appears, so the
confidence of each is 0. S(β, t) stands for (β^t − 1)/(β − 1), which is t at β = 1.
"""

from __future__ import annotations

from recert.logspace import ln, log_sum
from recert.printed.value import LogFactor, Printed, exact, letters, ln_int, ln_S, order, paper


@letters
def section6_ours(*, d_h: int, t: int, B_U: float, B_V: float, B_W: float) -> Printed:
    """Section 6, "Ours": d B_V min{√d, B_W S(B_U, t)} √log S(B_U, t), d = d_h.

    It does not apply where S(B_U, t) = 1, that is at t = 1 or B_U = 0.

    Args:
        d_h: hidden dimension.
        t: the step at which the output is read.
        B_U: spectral norm of U.
        B_V: spectral norm of V.
        B_W: spectral norm of W.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Section 6, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    d, S = ln_int(d_h), ln_S(exact(B_U), t)
    return order(
        paper("Section 6, Ours"),
        [d, ln(B_V), min(0.5 * d, ln(B_W) + S)],
        [LogFactor("S(B_U, t)", S, 0.5)],
    )


@letters
def section6_bound_1(*, d_h: int, t: int, B_U: float, B_V: float, B_W: float) -> Printed:
    """Section 6, Bound 1 (Zhang et al. 2018): d t² B_V B_W max{1, B_U^t}, d = d_h.

    Args:
        d_h: hidden dimension.
        t: the step at which the output is read.
        B_U: spectral norm of U.
        B_V: spectral norm of V.
        B_W: spectral norm of W.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Section 6, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    growth = max(0.0, t * ln(B_U))
    return order(
        paper("Section 6, Bound 1"), [ln_int(d_h), 2.0 * ln_int(t), ln(B_V), ln(B_W), growth]
    )


@letters
def section6_bound_2(
    *, t: int, B_U: float, B_V: float, B_W: float, M_U: float, M_V: float, M_W: float
) -> Printed:
    """Section 6, Bound 2 (equation (3)): B_V B_W (M_U + M_V + M_W) t S(B_U, t).

    Args:
        t: the step at which the output is read.
        B_U: spectral norm of U.
        B_V: spectral norm of V.
        B_W: spectral norm of W.
        M_U: ‖U‖_{2,1}, the sum of the Euclidean norms of the columns.
        M_V: ‖V‖_{2,1}.
        M_W: ‖W‖_{2,1}.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Section 6, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    norms = log_sum([ln(M_U), ln(M_V), ln(M_W)])
    return order(
        paper("Section 6, Bound 2"), [ln(B_V), ln(B_W), norms, ln_int(t), ln_S(exact(B_U), t)]
    )


@letters
def section6_bound_3(
    *, d_h: int, t: int, B_U: float, B_W: float, U_F: float, V_F: float, W_F: float
) -> Printed:
    """Section 6, Bound 3 (equation (4)).

    (min{√d, B_W S(B_U, t)} B_U + B_W) S(B_U, t) √(d (‖U‖_F² + ‖W‖_F² + ‖V‖_F²)), d = d_h.

    Args:
        d_h: hidden dimension.
        t: the step at which the output is read.
        B_U: spectral norm of U.
        B_W: spectral norm of W.
        U_F: Frobenius norm of U.
        V_F: Frobenius norm of V.
        W_F: Frobenius norm of W.

    Raises:
        InputError: a letter is not finite or out of range.

    Source: Section 6, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    d, S = ln_int(d_h), ln_S(exact(B_U), t)
    squares = log_sum([2.0 * ln(U_F), 2.0 * ln(W_F), 2.0 * ln(V_F)])
    change = log_sum([min(0.5 * d, ln(B_W) + S) + ln(B_U), ln(B_W)])
    return order(paper("Section 6, Bound 3"), [change, S, 0.5 * (d + squares)])
