"""Classes of vanilla networks for Table 1: the extreme and the low-rank case of Section 4.

All three matrices are n × n: d_x = d_h = d_y = n, so d = √3·n. Spectral norms are ‖U‖ = β,
‖W‖ = B_W, ‖V‖ = 1. In the *extreme* case each is a multiple of an orthogonal matrix,
‖·‖_F = √n‖·‖ and ‖·‖_{2,1} = n‖·‖. In the *low-rank* case each has rank one and columns of equal
norm, ‖·‖_F = ‖·‖ and ‖·‖_{2,1} = √n‖·‖.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from recert import printed
from recert.errors import InputError
from recert.networks.margins import MarginTable
from recert.networks.network import MarginForm, Network, vanilla
from recert.networks.norm_class import Cap
from recert.numerics import norms
from recert.numerics.logspace import LN10
from recert.theorems import THEOREMS, Setting

CASES = ("extreme", "low rank")
REGIMES = {"β < 1": 0.5, "β = 1": 1.0, "β > 1": 1.5}

# Sample size, margin and failure probability; they are factors, or hide in logarithms.
M, GAMMA, DELTA = 10_000, 1.0, 0.01

PRINTED: dict[str, tuple[Callable[..., printed.Printed], tuple[str, ...]]] = {
    "Theorem 2": (printed.theorem_2, ("B_U", "B_V", "B_W", "B_x")),
    "Bound (3)": (
        printed.theorem_3_two_one,
        ("B_U", "B_V", "B_W", "B_x", "M_U", "M_V", "M_W"),
    ),
    "Bound (4)": (printed.theorem_3_frobenius, ("B_U", "B_W", "B_x", "U_F", "V_F", "W_F")),
    "Theorem 1": (printed.theorem_1, ("B_U", "B_V", "B_W")),
    "Zhang et al.": (printed.zhang_2018, ("B_U", "B_V", "B_W")),
}

# Statements of the menu, and the term of each that is its complexity: a logarithm, or nats.
CERTIFIED = {
    "theorem_2": "Theorem 2 with constants, the paper's range",
    "theorem_2_clipped": "Theorem 2 with constants, clipped range",
    "theorem_2_single_scale": "Theorem 2 with constants, single scale",
    "theorem_3_l1_cover": "(3) repaired, covering form",
    "theorem_3_gaussian": "(4) repaired",
    "margin_ball": "margin ball, class-wide",
}
_NATS = ("complexity_nats", "KL", "log_cover")


def class_letters(n: int, beta: float, B_W: float, case: str) -> dict[str, float]:
    """The paper's letters of such a class, ‖x_t‖ ≤ 1, in closed form."""
    if case not in CASES:
        raise InputError(f"case is {case!r}; use {' or '.join(CASES)}")
    frobenius, columns = (math.sqrt(n), float(n)) if case == "extreme" else (1.0, math.sqrt(n))
    found = {"B_x": 1.0}
    for name, norm in (("U", beta), ("W", B_W), ("V", 1.0)):
        found |= {
            f"B_{name}": norm,
            f"{name}_F": frobenius * norm,
            f"M_{name}": columns * norm,
        }
    return found


def printed_logs(n: int, t: int, beta: float, B_W: float, case: str) -> dict[str, float]:
    """ln of every printed complexity of the class at horizon t, with its 1/(√m γ)."""
    letters = class_letters(n, beta, B_W, case)
    shape = {"t": t, "m": M, "gamma": GAMMA, "d_x": n, "d_h": n, "d_y": n}
    found = {}
    for name, (formula, wanted) in PRINTED.items():
        value = formula(**shape, **{letter: letters[letter] for letter in wanted})
        if value.ln is not None:
            found[name] = value.ln
    return found


def class_network(n: int, beta: float, B_W: float, case: str) -> Network:
    """A member of the class at its edge, in margin form (V stands for K − 1 = n rows)."""
    return vanilla(
        beta * matrix(n, case, 1), B_W * matrix(n, case, 2), matrix(n, case, 3), input_kind="real"
    )


def matrix(n: int, case: str, seed: int) -> NDArray[np.float64]:
    """An n × n matrix of spectral norm 1: orthogonal, or of rank one with equal columns."""
    generator = np.random.default_rng(seed)
    if case == "extreme":
        return np.asarray(np.linalg.qr(generator.standard_normal((n, n)))[0])
    column = generator.standard_normal(n)
    return np.outer(column / np.linalg.norm(column), np.full(n, n**-0.5))


def certified_logs(
    network: Network, steps: list[int], gamma: float = GAMMA
) -> dict[str, list[float]]:
    """ln of the complexity term of every statement at these horizons and margin γ, by its name.

    It is what stands beside the empirical risk in Theorem 2's forms; for statements of the form
    kl⁻¹(R̂, nats/m) it is √(nats/(2m)), their distance from R̂ by Pinsker's inequality.
    """
    caps = {}
    for block in network.blocks():
        caps[block.name] = Cap(block.norm_bound(), l1=norms.l1_norm_bound(block.value))
    table = MarginTable(np.full(M, 2.0 * gamma), M)
    found: dict[str, list[float]] = {name: [] for name in CERTIFIED}
    form = MarginForm(network.layers, network.head, network.input_kind)  # V as the paper has it
    theorems = [theorem for theorem in THEOREMS if theorem.name in CERTIFIED]
    for t in steps:
        setting = Setting(form, table, t, 1.0, caps, margin=gamma)
        for theorem in theorems:
            found[theorem.name].append(_complexity(theorem.bound(setting, DELTA).terms))
    return found


def _complexity(terms: Mapping[str, float]) -> float:
    if "log10_complexity" in terms:
        return float(terms["log10_complexity"]) * LN10
    nats = next(float(terms[name]) for name in _NATS if name in terms)
    return 0.5 * math.log(nats / (2.0 * M))
