"""Table 1 of the paper: the orders of Theorem 2 and of equations (3) and (4), by regime of β."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recert.errors import InputError
from recert.logspace import ln, log_sum
from recert.printed.value import Printed, letters, ln_d, ln_margin_rate, order, paper


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
