"""Exponents of printed bounds far out, and claims of Sections 1 to 5 that are about these alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from recert import printed
from recert_studies.claims import Claim, Finding, decided
from recert_studies.statistics import fit, spread
from recert_studies.table1 import classes

NEAR = spread(10, 10**4, 13)
FAR = spread(10**3, 10**6, 13)
WIDE = spread(10**6, 10**12, 13)
TOLERANCE = 0.1
"""How far an exponent may be from the claimed one: logarithms are hidden in it."""
LINEAR, PAST = "‖W‖t < √d", "‖W‖t > √d"
RANGES = {
    ("t", ""): (10**4, FAR), ("t", LINEAR): (10**14, NEAR), ("t", PAST): (100, FAR),
    ("d", ""): (1000, WIDE), ("d", LINEAR): (100, WIDE),
}  # fmt: skip
"""What is fixed, n or t, and the points of the other, by letter and state."""


def sigmoid(x: float) -> float:
    """1/(1 + e^−x)."""
    return 1.0 / (1.0 + math.exp(-x))


def logarithm(bound: str, n: int, t: int, beta: float | None, case: str) -> float:
    """ln of a printed bound at d_x = d_h = d_y = n; Theorem 4 has gates with norms of 0.01."""
    if bound == "Theorem 6":
        value = printed.theorem_6(t=56, m=classes.M, gamma=1, d=n, k=8, B_x=1).ln
        assert value is not None
        return value
    assert beta is not None
    if bound != "Theorem 4":
        return classes.printed_logs(n, t, beta, 1.0, case)[bound]
    s = sigmoid(0.02)
    value = printed.theorem_4(
        t=t, m=classes.M, gamma=1, d_x=n, d_h=n, d_y=n, B_x=1, B_V=1, B_Wh=1, B_Uh=beta,
        B_Ur=0.01, r_max=s, one_minus_r_max=s,
    ).ln  # fmt: skip
    assert value is not None
    return value


@dataclass(frozen=True)
class Exponent:
    """An exponent of a printed bound, or by how much it is above another's.

    Attributes:
        letter: "t" or "d".
        bound: its name.
        beta: ‖U‖; None for filters, which have none.
        order: what it is said to be; None where nothing is said of it.
        over: the other bound, whose exponent is subtracted, or "".
        state: "", or on which side of √d the state is.
        case: "extreme" or "low rank".
    """

    letter: str
    bound: str
    beta: float | None
    order: float | None = None
    over: str = ""
    state: str = ""
    case: str = "extreme"

    def value(self) -> float:
        """The exponent, fitted by least squares."""
        fixed, points = RANGES[self.letter, self.state]

        def power(bound: str) -> float:
            at: Callable[[int], tuple[int, int]] = (
                (lambda x: (fixed, x)) if self.letter == "t" else (lambda x: (x, fixed))
            )
            return fit(
                points, [logarithm(bound, *at(x), self.beta, self.case) for x in points]
            ).power

        return power(self.bound) - (power(self.over) if self.over else 0.0)

    def finding(self) -> Finding:
        """The row of it."""
        value = self.value()
        over = f" less that of {self.over}" if self.over else ""
        where = [] if self.beta is None else [f"β = {self.beta:g}"]
        where += [self.state] if self.state else []
        at = f" at {', '.join(where)}" if where else ""
        quantity = f"exponent of {self.bound}{over} in {self.letter}{at}:"
        if self.order is None:
            return Finding(quantity, (value,))
        held = abs(value - self.order) < TOLERANCE
        return Finding(quantity, (value,), f"{self.order:g} ± {TOLERANCE:g}", (held,))


@dataclass(frozen=True)
class Growing:
    """A claim that exponents decide."""

    place: str
    quote: str
    exponents: tuple[Exponent, ...]
    remark: str = ""
    most: str = "held"
    """The best that may be said where every exponent is as claimed."""

    def __call__(self) -> Claim:
        """Fitted and decided."""
        made = decided(self.place, self.quote, [e.finding() for e in self.exponents], self.remark)
        if made.verdict != "held" or self.most == "held":
            return made
        return decided(self.place, self.quote, made.findings, self.remark, verdict_of=self.most)


_T, _Z = "Theorem 1", "Zhang et al."
_EXTREME, _LOW = "Section 4, extreme case", "Section 4, low rank"

BELOW_ONE = Growing(
    "Section 1 (I)", "‖U‖ < 1: Õ(d/(√m γ)), only a logarithmic dependence on t",
    (Exponent("t", _T, 0.5, 0), Exponent("d", _T, 0.5, 1)),
)  # fmt: skip
AT_ONE = Growing(
    "Section 1 (II)", "‖U‖ = 1: Õ(dt/(√m γ)), linear in d and t",
    (Exponent("t", _T, 1.0, 1, state=LINEAR), Exponent("d", _T, 1.0, 1, state=LINEAR),
     Exponent("t", _T, 1.0, state=PAST)),
    "there the formula is flatter than claimed",
)  # fmt: skip
ABOVE_ONE = Growing(
    "Section 1 (III)", "‖U‖ > 1: Õ(√(d³t)/(√m γ)), polynomial in d and t",
    (Exponent("t", _T, 1.5, 0.5), Exponent("d", _T, 1.5, 1.5)),
)  # fmt: skip
TIGHTER_BY_T2 = Growing(
    "Section 1", "tighter than Zhang et al. by a factor of t² for case (I)",
    (Exponent("t", _Z, 0.5, 2, over=_T),),
)  # fmt: skip
TIGHTER_BY_T = Growing(
    "Section 1", "… by a factor of t for case (II)",
    (Exponent("t", _Z, 1.0, 1, over=_T, state=LINEAR), Exponent("t", _Z, 1.0, over=_T, state=PAST)),
)  # fmt: skip
MEETS = Growing(
    _EXTREME, "(4) meets Theorem 2 for β < 1",
    (Exponent("d", "Bound (4)", 0.5, 0, over="Theorem 2"), Exponent("d", "Theorem 2", 0.5)),
    "both flat in t",
)  # fmt: skip
WORSE_AT_ONE = Growing(
    _EXTREME, "(4) is worse for β = 1",
    tuple(Exponent("t", "Bound (4)", 1.0, 1, over="Theorem 2", state=s) for s in (LINEAR, PAST)),
    "Table 1 itself has Theorem 2 in the first regime and (4) in the second; in the first (4) is "
    "√d t² ‖·‖_F, not d t ‖·‖_F",
)  # fmt: skip
FOUR_BETTER = Growing(
    _LOW, "(4) improves Theorem 2 for β < 1 by reducing dependence on d",
    tuple(Exponent("d", bound, 0.5, order, case="low rank")
          for bound, order in (("Bound (4)", 0.5), ("Theorem 2", 1.0))),
)  # fmt: skip
GATES_SHRINK = Growing(
    "Section 5, Theorem 4", "gated units reduce the dependence on d and t",
    (Exponent("t", "Theorem 4", 1.5, 0), Exponent("t", "Theorem 2", 1.5, 0.5),
     Exponent("d", "Theorem 4", 1.5, 1), Exponent("d", "Theorem 2", 1.5, 1.5)),
    "β is B_Uh or B_U, B_Wr B_x = ‖U_r‖ = 0.01; such gates are nearly constant. `recert compare` "
    "shows gates after free training: open",
)  # fmt: skip
FILTERS = Growing(
    "Section 5, Remark 1", "convolutional filters reduce the dependence on d",
    (Exponent("d", "Theorem 6", None, 0),),
    "but the theorem supposes filters that are exactly orthogonal, which training does not keep "
    "(errata 12)", "held in part",
)  # fmt: skip
