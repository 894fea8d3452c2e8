"""How far each part may move: radii and caps on grids fixed beforehand, chosen and paid for.

A block has a cap c_k, declared or measured and paid for by the caller, and a radius
ε_k = c_k·2^(j/16), j paid for as any index of a grid. Where columns move apart, column i of a block
has radius ε_k·2^(a/2), a in 0..15, and cap c_k·2^(−b/2), b in 0..7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.numerics.union_bound import Cost, FiniteChoice, GeometricGrid
from recert.perturbation.adjoint import MarginLosses
from recert.perturbation.ball import BallParts

Array = NDArray[np.float64]

RADIUS_GRID = GeometricGrid(1.0, 2.0 ** (1 / 16))
RADIUS_LEVELS, CAP_LEVELS = 16, 8
LARGEST = 64.0  # of a radius, in caps
SMALLEST = 1e-6
ROUNDS, RATE = 160, 0.1


@dataclass(frozen=True, eq=False)
class Radii:
    """Chosen radii ε_p and caps c_p of all parts, (parts,), and what the choice costs."""

    radii: Array
    caps: Array
    costs: tuple[Cost, ...]

    def nats(self, parts: BallParts) -> float:
        """Σ_p P_p ln(1 + c_p/ε_p), rounded up."""
        moving = parts.parameters > 0
        ratio = self.caps[moving] / self.radii[moving]
        return float(parts.parameters[moving] @ np.log1p(ratio)) * (1.0 + 1e-12)


def column_caps(parts: BallParts, caps: dict[str, float]) -> Array:
    """c_p: the caps of blocks, or of columns the smallest on their grid that hold."""
    found = np.empty(parts.count)
    for block in parts.blocks:
        first, last = parts.starts[block.name]
        cap = caps[block.name]
        found[first:last] = cap
        if not parts.split(block):
            continue
        norms = np.sqrt(np.square(block.value / cap).sum(axis=0)) * (1.0 + 1e-12)
        steps = np.floor(-2.0 * np.log2(np.maximum(norms, 1e-300)) - 1e-9)
        level = np.clip(steps, 0, CAP_LEVELS - 1)
        found[first:last] = cap * 2.0 ** (-level / 2.0)
    return found


def on_grid(parts: BallParts, wanted: Array, caps: dict[str, float]) -> Radii:
    """The radii on the grids that are nearest to what is wanted."""
    radii, costs = np.empty(parts.count), []
    for block in parts.blocks:
        first, last = parts.starts[block.name]
        cap = caps[block.name]
        share = np.clip(wanted[first:last] / cap, SMALLEST, LARGEST)
        moving = parts.parameters[first:last] > 0
        least = share[moving].min() if moving.any() else 1.0
        if parts.split(block):
            # The widest spread on the grid: raise the base rather than cut many columns short.
            least = max(least, float(np.median(share[moving])) * 2.0 ** (-(RADIUS_LEVELS - 1) / 4))
        j = RADIUS_GRID.index_at_most(least * RADIUS_GRID.ratio**0.5)
        base = cap * RADIUS_GRID.value(j)
        costs.append(
            Cost(f"radius of {block.name}, in caps", j, RADIUS_GRID.value(j), RADIUS_GRID.cost(j))
        )
        level = np.zeros(last - first)
        if parts.split(block):
            level = np.round(2.0 * np.log2(np.maximum(share * cap / base, 1e-300)))
            level = np.clip(level, 0, RADIUS_LEVELS - 1)
            costs += _column_costs(block.name, int(moving.sum()))
        radii[first:last] = np.where(moving, base * 2.0 ** (level / 2.0), 0.0)
    return Radii(radii, column_caps(parts, caps), tuple(costs))


def _column_costs(name: str, columns: int) -> list[Cost]:
    each = [FiniteChoice(RADIUS_LEVELS).cost(), FiniteChoice(CAP_LEVELS).cost()]
    what = [f"radii of the columns of {name}", f"caps of the columns of {name}"]
    return [
        Cost(w, None, float(columns), columns * e * (1.0 + 1e-12))
        for w, e in zip(what, each, strict=True)
    ]


def start(parts: BallParts, found: MarginLosses, caps: Array) -> Array:
    """Radii to begin from: each part's share of a twentieth of a typical margin."""
    typical = found.S.mean(axis=(0, 1)) + 1e-12
    shares = np.maximum(parts.parameters, 1e-9) / parts.parameters.sum()
    margin = float(np.median(np.abs(found.M))) or 1.0
    radii: Array = np.clip(0.05 * margin * shares / typical, SMALLEST * caps, LARGEST * caps)
    return radii


def curvature(found: MarginLosses, radii: Array) -> Array:
    """(K−1, n) the second order in units of the first order's square, from losses at some radii."""
    curved: Array = found.Q / np.maximum(np.square(found.S @ radii), 1e-60)
    return curved


def descend(
    parts: BallParts, found: MarginLosses, caps: Array, begin: Array, *, m: int, reach: float
) -> Array:
    """Radii that make kl⁻¹ of a smoothed count small, by gradient steps on their logarithms.

    Only a search: whatever it finds is then counted exactly. ``reach`` is how many radii a loss
    reaches (2: moves of a posterior that itself moves by a radius). ``found.Q`` belongs to
    ``reach``·``begin`` and is taken to grow with the square of the first order.
    """
    z = np.log(begin)
    width = 0.1 * float(np.median(np.abs(found.M))) or 1.0
    curved = curvature(found, reach * begin)
    rows = np.arange(found.M.shape[1])
    first, second = np.zeros_like(z), np.zeros_like(z)
    best, best_value = begin, math.inf
    for k in range(1, ROUNDS + 1):
        e = np.exp(z)
        order = found.S @ (reach * e)
        left = found.M - order - curved * np.square(order)
        worst = left.argmin(axis=0)
        lost = left[worst, rows]
        rate = float(parts.parameters @ np.log1p(caps / e)) / m
        value = about(float((lost <= 0).mean()), rate)
        if value < best_value:
            best, best_value = e, value
        narrow = width * (0.1 + 0.9 * (1.0 - k / ROUNDS))
        soft = 1.0 / (1.0 + np.exp(np.clip(lost / narrow, -500, 500)))
        by_order = 1.0 + 2.0 * (curved * order)[worst, rows]
        slope = (soft * (1.0 - soft) / narrow * by_order) @ found.S[worst, rows] / len(rows)
        by_risk, by_rate = _derivatives(float(soft.mean()), rate)
        of_nats = -parts.parameters * (caps / e) / (1.0 + caps / e) / m
        gradient = by_risk * slope * reach * e + by_rate * of_nats
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        step = first / (1 - 0.9**k) / (np.sqrt(second / (1 - 0.99**k)) + 1e-12)
        lowest, highest = np.log(SMALLEST * caps), np.log(LARGEST * caps)
        z = np.clip(z - RATE * (1.0 - 0.9 * k / ROUNDS) * step, lowest, highest)
    return best


def about(q: float, c: float) -> float:
    """kl⁻¹(q, c) to some six digits, for searches."""
    low, high = q, 1.0
    for _ in range(26):
        p = 0.5 * (low + high)
        kl = (1.0 - q) * math.log((1.0 - q) / (1.0 - p)) if q < 1.0 else 0.0
        kl += q * math.log(q / p) if q > 0.0 else 0.0
        low, high = (p, high) if kl < c else (low, p)
    return high


def _derivatives(q: float, c: float) -> tuple[float, float]:
    """Of p = kl⁻¹(q, c) by q and by c."""
    q = min(max(q, 1e-6), 1.0 - 1e-6)
    p = min(about(q, c), 1.0 - 1e-9)
    by_p = max((p - q) / (p * (1.0 - p)), 1e-9)
    by_q = math.log(q / p) - math.log((1.0 - q) / (1.0 - p))
    return -by_q / by_p, 1.0 / by_p
