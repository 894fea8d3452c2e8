"""Which parts move, and how far: sought on the first sequences, so that the bound comes out small.

Only a search. Whatever it finds lies on grids and is paid for, and is then counted on the sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recert.networks.network import MarginForm
from recert.numerics.union_bound import Cost, FiniteChoice, total_nats
from recert.perturbation import posterior_risk
from recert.perturbation.adjoint import MarginLosses
from recert.perturbation.ball import BallParts, parts_of, whole
from recert.perturbation.posterior_risk import PILOT, Sequences
from recert.perturbation.radius_search import (
    ROUNDS,
    Radii,
    about,
    column_caps,
    curvature,
    descend,
    on_grid,
    start,
)
from recert.perturbation.work import A_SECOND, MEMORY, Estimate, Work

Array = NDArray[np.float64]

# From here on nothing below 1 can come out.
HOPELESS = 0.98
# Sequences on which it is asked whether there is any hope, and products for each number of S that
# a step of the search reads.
FIRST, SEARCHED = 512, 4.0
# Sequences on which a common factor of all radii is sought, and the least factor, 2^(−LEAST/2).
COUNTED, LEAST = 2000, 24


@dataclass(frozen=True, eq=False)
class BallPlan:
    """Parts, their radii, the price of the parts, and what the first sequences promise."""

    parts: BallParts
    radii: Radii
    costs: tuple[Cost, ...]
    promise: float


def plan_radii(
    network: MarginForm, caps: dict[str, float], data: Sequences, m: int, reach: float
) -> BallPlan:
    """What promises most on the first sequences."""
    plan = first_order(network, caps, data, m, reach)
    if plan.promise >= HOPELESS:
        return plan
    # So far the second order was left out.
    parts, radii = plan.parts, plan.radii
    known = data.losses(network, parts, radii.radii * reach, data.pilot(network, parts))
    known = known.in_margins(column_caps(parts, caps))
    radii = _promise(m, reach, parts, known, caps, radii.radii)[1]
    promise, radii = _scaled(m, reach, network, caps, parts, data, radii)
    return replace(plan, radii=radii, promise=promise)


def estimate(work: Work, n: int, *, drawing: bool, memory: float = MEMORY) -> Estimate:
    """What planning and counting take on n sequences; scaling of radii takes some six counts."""
    pilot, few = min(PILOT, n), min(FIRST, n)
    search = SEARCHED * ROUNDS * work.classes * work.parts
    passes = (pilot, *[min(COUNTED, n)] * 6, *posterior_risk.sequences_followed(n, drawing))
    sequences, room = sum(passes), 0.5 * memory
    first = few * (work.tangent + 2.0 * search) + work.batching(few, room, first=True)
    products = first + pilot * (work.tangent + 3.0 * search) + sequences * work.full
    products += work.batching(pilot, room, first=True)
    products += sum(work.batching(count, room) for count in passes)
    return Estimate(first / A_SECOND, products / A_SECOND, few + pilot + sequences)


def first_order(
    network: MarginForm,
    caps: dict[str, float],
    data: Sequences,
    m: int,
    reach: float,
    most: int = PILOT,
) -> BallPlan:
    """What promises most to first order on the first ``most`` sequences, which is quickly known."""
    blocks = tuple(network.blocks())
    parts, joined = parts_of(blocks, columns=True), parts_of(blocks, columns=False)
    each = column_caps(parts, caps)
    at_rest = data.losses(network, parts, None, data.pilot(network, parts, most)).in_margins(each)
    plans = [(joined, replace(at_rest, S=whole(parts, at_rest.S, joined)))]
    apart: tuple[Cost, ...] = ()
    if parts.count > joined.count:
        plans.append((parts, at_rest))
    found = [_promise(m, reach, plan, kept, caps) for plan, kept in plans]
    which = min(range(len(plans)), key=lambda i: found[i][0])
    if len(plans) == 2:
        apart = (Cost("columns apart", which, float(which), FiniteChoice(2).cost()),)
    promise, radii = found[which]
    return BallPlan(plans[which][0], radii, apart, promise)


def _scaled(
    m: int,
    reach: float,
    network: MarginForm,
    caps: dict[str, float],
    parts: BallParts,
    data: Sequences,
    radii: Radii,
) -> tuple[float, Radii]:
    """All radii smaller by one factor, where the first sequences, counted, like that better.

    The second order can grow much faster than a square, above all in gated cells.
    """
    few = data.pilot(network, parts)[:COUNTED]

    def counted(steps: int) -> tuple[float, Radii]:
        at = on_grid(parts, radii.radii * 2.0 ** (steps / 2), caps)
        lost = data.left(network, parts, at.radii * reach, few) <= 0.0
        return about(float(lost.mean()), _rate(m, parts, at)), at

    best, steps, worse = counted(0), -1, 0
    while worse < 2 and steps >= -LEAST:
        found = counted(steps)
        # Where all is lost, smaller radii may still help.
        worse = 0 if found[0] < best[0] or best[0] >= 1.0 else worse + 1
        best, steps = min(best, found, key=lambda pair: pair[0]), steps - 1
    return best


def _rate(m: int, parts: BallParts, radii: Radii) -> float:
    return (radii.nats(parts) + total_nats(radii.costs)) / m


def _promise(
    m: int,
    reach: float,
    parts: BallParts,
    found: MarginLosses,
    caps: dict[str, float],
    begin: Array | None = None,
) -> tuple[float, Radii]:
    """The bound that the first sequences promise, and the radii that it takes."""
    each = column_caps(parts, caps)
    if begin is None:
        begin, found = start(parts, found, each), replace(found, Q=np.zeros_like(found.Q))
    begin = np.maximum(begin, 1e-12 * each)
    wanted = descend(parts, found, each, begin, m=m, reach=reach)
    radii = on_grid(parts, wanted, caps)
    order = found.S @ (radii.radii * reach)
    curved = curvature(found, begin * reach)
    lost = (found.M - order - curved * np.square(order)).min(axis=0) <= 0.0
    return about(float(lost.mean()), _rate(m, parts, radii)), radii
