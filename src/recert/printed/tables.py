"""Table 1 of the paper: the orders of Theorem 2 and of equations (3) and (4), by regime of β.

The four complexities that Section 6 of the paper plots against each other, as printed.

Here d = d_h, log factors common to all are dropped, and neither m nor γ nor δ appears, so the
confidence of each is 0. S(β, t) stands for (β^t − 1)/(β − 1), which is t at β = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recert.errors import InputError
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
)


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One cell: the printed order as a formula and, given values, evaluated (else None)."""

    symbol: str
    value: Printed | None

    @property
    def log10(self) -> float | None:
        """Base-10 logarithm of the order; None without values or in another regime."""
        return None if self.value is None else self.value.log10


@dataclass(frozen=True, slots=True)
class TableRow:
    """One regime of β with its three orders."""

    regime: str
    theorem_2: TableEntry
    bound_3: TableEntry
    bound_4: TableEntry


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """Table 1: three rows, for β < 1, β = 1 and β > 1."""

    below: TableRow
    one: TableRow
    above: TableRow
    reference: str
    confidence: float = 0.0
    kind: str = "order"

    @property
    def rows(self) -> tuple[TableRow, TableRow, TableRow]:
        """The rows in the printed order."""
        return (self.below, self.one, self.above)


_REFERENCE = paper("Table 1")
_REGIMES = ("β < 1", "β = 1", "β > 1")
_SYMBOLS = (
    ("d/(√m γ)", "t(M_U+M_V+M_W)/(√m γ)", "√(d(‖U‖_F²+‖W‖_F²+‖V‖_F²))/(√m γ)"),
    ("d t/(√m γ)", "t²(M_U+M_V+M_W)/(√m γ)", "d t √(‖U‖_F²+‖W‖_F²+‖V‖_F²)/(√m γ)"),
    ("√(d³ t)/(√m γ)", "t β^t (M_U+M_V+M_W)/(√m γ)", "d β^t √(‖U‖_F²+‖W‖_F²+‖V‖_F²)/(√m γ)"),
)


@letters
def table_1(
    *,
    beta: float | None = None,
    t: int | None = None,
    m: int | None = None,
    gamma: float | None = None,
    d_x: int | None = None,
    d_h: int | None = None,
    d_y: int | None = None,
    M_U: float | None = None,
    M_V: float | None = None,
    M_W: float | None = None,
    U_F: float | None = None,
    V_F: float | None = None,
    W_F: float | None = None,
) -> PrintedTable:
    """Table 1: orders (log factors hidden) of Theorem 2, (3) and (4) for β < 1, β = 1, β > 1.

        β < 1:  d,       t (M_U+M_V+M_W),      √(d (‖U‖_F²+‖W‖_F²+‖V‖_F²))
        β = 1:  d t,     t² (M_U+M_V+M_W),     d t √(‖U‖_F²+‖W‖_F²+‖V‖_F²)
        β > 1:  √(d³ t), t β^t (M_U+M_V+M_W),  d β^t √(‖U‖_F²+‖W‖_F²+‖V‖_F²)

    each over √m γ, with d = √(d_x d_h + d_h² + d_h d_y). Without values the cells are symbols. With
    values, all must be given; the row of β's own regime is evaluated and the others do not apply.

    Args:
        beta: β = ρ_h B_U.
        t: the step at which the output is read.
        m: number of training sequences.
        gamma: margin γ.
        d_x: input dimension.
        d_h: hidden dimension.
        d_y: output dimension, the number of classes.
        M_U: cap on ‖U‖_{2,1}.
        M_V: cap on ‖V‖_{2,1}.
        M_W: cap on ‖W‖_{2,1}.
        U_F: cap on the Frobenius norm of U.
        V_F: cap on the Frobenius norm of V.
        W_F: cap on the Frobenius norm of W.

    Raises:
        InputError: a letter is not finite or out of range, or only some letters are given.

    Source: Table 1, On Generalization Bounds of a Family of Recurrent Neural Networks.

    """
    given = dict(
        beta=beta, t=t, m=m, gamma=gamma, d_x=d_x, d_h=d_h, d_y=d_y,
        M_U=M_U, M_V=M_V, M_W=M_W, U_F=U_F, V_F=V_F, W_F=W_F,
    )  # fmt: skip
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return _table([None, None, None])
    if missing:
        raise InputError(f"table_1 takes all of its letters or none: pass {', '.join(missing)}")
    return _evaluated({name: float(value) for name, value in given.items() if value is not None})


def _evaluated(a: dict[str, float]) -> PrintedTable:
    beta, m, t = a["beta"], int(a["m"]), ln(a["t"])
    d = ln_d(int(a["d_x"]), int(a["d_h"]), int(a["d_y"]))
    columns = log_sum([ln(a["M_U"]), ln(a["M_V"]), ln(a["M_W"])])
    root = 0.5 * log_sum([2 * ln(a["U_F"]), 2 * ln(a["W_F"]), 2 * ln(a["V_F"])])
    current = 0 if beta < 1.0 else 1 if beta == 1.0 else 2
    power = a["t"] * ln(beta)
    factors = (
        ([d], [t, columns], [0.5 * d, root]),
        ([d, t], [2.0 * t, columns], [d, t, root]),
        ([1.5 * d, 0.5 * t], [t, power, columns], [d, power, root]),
    )[current]
    rate = ln_margin_rate(m, a["gamma"])
    values = [order(_REFERENCE, [*cell, rate]) for cell in factors]
    away = Printed(None, 0.0, _REFERENCE, False, f"β = {beta!r}, so {_REGIMES[current]} holds")
    rows = [[away] * 3, [away] * 3, [away] * 3]
    rows[current] = values
    return _table(rows)


def _table(rows: Sequence[Sequence[Printed] | None]) -> PrintedTable:
    made = []
    for regime, symbols, row in zip(_REGIMES, _SYMBOLS, rows, strict=True):
        values = row if row is not None else (None, None, None)
        made.append(TableRow(regime, *(map(TableEntry, symbols, values))))
    below, one, above = made
    return PrintedTable(below, one, above, _REFERENCE)


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
