"""``recert reproduce table1``: how every bound grows in t and in d, against the orders of Table 1.

Printed formulas are cheap at any size, so their slopes are fitted far out, where the factors that Õ
hides are flat; certified statements need matrices and are fitted where these are affordable.
Table 1 mixes two regimes of min{b√d, ρ_h B_x B_W S(β, t)}: at β = 1 its column for Theorem 2 takes
the second term, its column for (4) the first. Each is fitted in the regime that its cell supposes;
`claims_growth` has the slopes in the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from recert.numerics.logspace import LN10
from recert_studies import charts
from recert_studies.framework import Cell, Conclusion, Option, Request, Result, Study
from recert_studies.statistics import Growth, fit, spread
from recert_studies.table1 import claims, classes
from recert_studies.table1.classes import CASES, CERTIFIED, PRINTED, REGIMES

# How far a fitted exponent may be from the order: logarithms that Õ hides, over the fitted range.
TOLERANCE = 0.1
# Of Table 1's columns, that whose order a certified statement is held against.
COLUMN = {
    "theorem_2": "Theorem 2",
    "theorem_2_clipped": "Theorem 2",
    "theorem_2_single_scale": "Theorem 2",
    "theorem_3_l1_cover": "Bound (3)",
    "theorem_3_gaussian": "Bound (4)",
    "margin_ball": "Theorem 2",
}
BELOW, ONE, ABOVE = REGIMES


@dataclass(frozen=True)
class Order:
    """Exponents of an order t^t · β^{rate·t} · d^d."""

    t: float
    rate: float
    d: float


def order(bound: str, regime: str, case: str) -> Order:
    """Table 1's order of a bound (Section 1's for Theorem 1 and Zhang et al.), norms put in.

    In the extreme case M ~ d and ‖·‖_F ~ √d, in the low-rank case M ~ √d and ‖·‖_F ~ 1.
    """
    columns, frobenius = (1.0, 0.5) if case == "extreme" else (0.5, 0.0)
    rows = {
        "Theorem 2": (Order(0, 0, 1), Order(1, 0, 1), Order(0.5, 0, 1.5)),
        "Bound (3)": (Order(1, 0, columns), Order(2, 0, columns), Order(1, 1, columns)),
        "Bound (4)": (
            Order(0, 0, 0.5 + frobenius),
            Order(1, 0, 1 + frobenius),
            Order(0, 1, 1 + frobenius),
        ),
        "Zhang et al.": (Order(2, 0, 1), Order(2, 0, 1), Order(2, 1, 1)),
    }
    rows["Theorem 1"] = rows["Theorem 2"]
    return rows[bound][tuple(REGIMES).index(regime)]


@dataclass(frozen=True)
class Range:
    """Where a printed bound is fitted: t at fixed n = d_h, and n at fixed t."""

    t: tuple[int, int]
    n_fixed: int
    n: tuple[int, int]
    t_fixed: int


def fitted_range(bound: str, regime: str) -> Range:
    """The range in the regime of min{…} that Table 1's cell supposes."""
    if regime == ONE and bound in ("Theorem 1", "Theorem 2"):
        return Range((10, 10**4), 10**14, (10**8, 10**14), 100)  # B_x B_W t below √d
    if regime == ONE and bound == "Bound (4)":
        return Range((10**3, 10**6), 100, (10**6, 10**12), 10**9)  # above √d
    return Range((10**3, 10**6), 10**4, (10**6, 10**12), 1000)


def _cells(request: Request) -> list[Cell]:
    works = {"printed": _printed, "certified": _certified}
    # Of a printed bound no certified option is part.
    wanted = {"printed": ("points", "n"), "certified": ("n", "largest", "few")}
    cells = []
    for case, regime, kind in itertools.product(CASES, REGIMES, works):
        # What a result depends on besides these is the code, which the revision stands for.
        what = {
            "study": "table1", "revision": 1, "kind": kind, "case": case, "regime": regime,
            **{name: request.options[name] for name in wanted[kind]},
        }  # fmt: skip
        cells.append(Cell(f"{kind}, {regime}, {case}", what, _worker(works[kind], what)))
    return cells


def _worker(
    work: Callable[[Mapping[str, Any]], Result], what: Mapping[str, Any]
) -> Callable[[Progress], Result]:
    return lambda _: work(what)


def _printed(what: Mapping[str, Any]) -> Result:
    """Fits and curves of the printed bounds of one regime and case."""
    regime, case, points = what["regime"], what["case"], what["points"]
    beta = REGIMES[regime]
    fits = {}
    for bound in PRINTED:
        where = fitted_range(bound, regime)
        exponential = order(bound, regime, case).rate > 0

        def log(n: int, t: int, bound: str = bound) -> float:
            return classes.printed_logs(n, t, beta, 1.0, case)[bound]

        ts, ns = spread(*where.t, points), spread(*where.n, points)
        in_t = fit(ts, [log(where.n_fixed, t) for t in ts], exponential=exponential)
        in_d = fit(ns, [log(n, where.t_fixed) for n in ns])
        fits[bound] = _entry(in_t, in_d, where.n_fixed, where.t_fixed)
    curve: dict[str, list[float]] = {}
    steps = _drawn(what)
    for t in steps:
        for bound, value in classes.printed_logs(what["n"], t, beta, 1.0, case).items():
            curve.setdefault(bound, []).append(value / LN10)
    return {"fits": fits, "steps": steps, "curves": curve}


def _certified(what: Mapping[str, Any]) -> Result:
    """Fits and curves of the certified statements of one regime and case."""
    regime, case, n, few = what["regime"], what["case"], what["n"], what["few"]
    beta = REGIMES[regime]
    # At β = 1 the state stays below √d only while B_x B_W t does; the unit of γ is that of W.
    drive = 0.001 if regime == ONE else 1.0
    ts = spread(*((16, 512) if regime == ONE else (512, 8192)), few)
    ns = spread(max(4, n // 8), what["largest"], few)
    t_fixed = 1024 if regime == ABOVE else 128
    network = classes.class_network(n, beta, drive, case)
    in_t = classes.certified_logs(network, ts, drive)
    in_d: dict[str, list[float]] = {name: [] for name in CERTIFIED}
    for size in ns:
        found = classes.certified_logs(
            classes.class_network(size, beta, drive, case), [t_fixed], drive
        )
        for name, values in found.items():
            in_d[name] += values
    fits = {
        name: _entry(fit(ts, in_t[name]), fit(ns, in_d[name]), n, t_fixed) for name in CERTIFIED
    }
    steps = _drawn(what)
    drawn = classes.certified_logs(classes.class_network(n, beta, 1.0, case), steps)
    curves = {name: [value / LN10 for value in values] for name, values in drawn.items()}
    return {"fits": fits, "steps": steps, "curves": curves}


def _drawn(what: Mapping[str, Any]) -> list[int]:
    """Horizons of the curves; certified ones are drawn at fewer."""
    return spread(1, 512, what["few"] + 3 if what["kind"] == "certified" else 40)


def _entry(in_t: Growth, in_d: Growth, n: int, t: int) -> dict[str, Any]:
    return {
        "t_power": in_t.power, "t_rate": in_t.rate, "t_residual": in_t.residual,
        "t_range": [in_t.start, in_t.stop], "n_fixed": n,
        "d_power": in_d.power, "d_residual": in_d.residual,
        "n_range": [in_d.start, in_d.stop], "t_fixed": t,
    }  # fmt: skip


def _rows(cells: Sequence[Mapping[str, Any]], results: Sequence[Result]) -> list[dict[str, Any]]:
    rows = []
    for what, result in zip(cells, results, strict=True):
        for name, entry in result["fits"].items():
            column = name if what["kind"] == "printed" else COLUMN[name]
            expected = order(column, what["regime"], what["case"])
            rows.append(_row(what, name, entry, expected))
    return rows


def _row(
    what: Mapping[str, Any], name: str, entry: Mapping[str, Any], expected: Order
) -> dict[str, Any]:
    low, high = entry["t_range"]
    least, most = entry["n_range"]
    return {
        "bound": CERTIFIED.get(name, name),
        "kind": what["kind"],
        "regime": what["regime"],
        "case": what["case"],
        "slope in t": _in_t(entry),
        "order in t": _in_t({"t_power": expected.t, "t_rate": expected.rate}, "ln β"),
        "slope in d": f"{entry['d_power']:.2f}",
        "order in d": f"{expected.d:g}",
        "verdict": _verdict(what, entry, expected),
        "t fitted": f"{low:.3g} to {high:.3g} at n = {entry['n_fixed']:.3g}",
        "d fitted": f"n = {least:.3g} to {most:.3g} at t = {entry['t_fixed']:.3g}",
        **{key: entry[key] for key in ("t_power", "t_rate", "t_residual", "d_power", "d_residual")},
    }


def _in_t(entry: Mapping[str, Any], unit: str = "") -> str:
    power, rate = entry["t_power"], entry["t_rate"]
    if not rate:
        return f"{power:.2f}" if not unit else f"{power:g}"
    return f"{power:g}, e^(t {unit})" if unit else f"{power:.2f}, e^({rate:.4f} t)"


def _verdict(what: Mapping[str, Any], entry: Mapping[str, Any], expected: Order) -> str:
    """As Table 1 has it, or below, or above."""
    beta = REGIMES[what["regime"]]
    rate = expected.rate * math.log(beta)
    exponents = [
        entry["t_power"] - expected.t if not rate or entry["t_rate"] else 0.0,
        entry["d_power"] - expected.d,
    ]
    slower = bool(rate) and not entry["t_rate"]
    if max(exponents) > TOLERANCE or entry["t_rate"] > rate + 1e-3:
        return "above"
    return "below" if slower or min(exponents) < -TOLERANCE else "as in the table"


def _conclude(request: Request, results: Sequence[Result]) -> Conclusion:
    cells = [cell.parameters for cell in _cells(request)]
    rows = _rows(cells, results)
    panels = []
    for case in CASES:
        for regime, beta in REGIMES.items():
            drawn = [
                (what["kind"], r["steps"], r["curves"])
                for what, r in zip(cells, results, strict=True)
                if (what["case"], what["regime"]) == (case, regime)
            ]
            panels.append((f"{case}, β = {beta:g}", drawn))

    def draw(path: Path) -> Path:
        return charts.growth(panels, path, titles=CERTIFIED)

    notes = (
        f"Slopes are least-squares exponents; 'as in the table' means within {TOLERANCE} of the "
        "order, which hides logarithms. A certified statement is held against the column of "
        "Table 1 that it repairs; 'below' is a slower growth.",
        f"Classes: d_x = d_h = d_y = n, so d = √3·n; m = {classes.M:,}. The picture has n = "
        f"{request.options['n']}, B_W = B_V = γ = 1.",
    )
    shown = ("bound", "regime", "case", "slope in t", "order in t", "slope in d", "order in d")
    return Conclusion(rows, draw, claims.claims(request.seeds[0]), notes, table=(*shown, "verdict"))


TABLE1 = Study(
    "table1",
    "Table 1: growth of every bound in t and in d",
    {
        "n": Option(128, "hidden units of the classes of matrices", quick=64, least=8),
        "largest": Option(512, "most hidden units of the fits in d", quick=128, least=16),
        "few": Option(8, "points of each certified fit", quick=3, least=3),
        "points": Option(13, "points of each printed fit", least=4),
    },
    _cells,
    _conclude,
    seeds=(0,),
    trains=False,
)
