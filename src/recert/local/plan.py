"""Which parts move, and how far: sought on the first sequences, so that the bound comes out small.

Only a search. Whatever it finds lies on grids and is paid for, and is then counted on the sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recert.choices import Cost, FiniteChoice, total_nats
from recert.local.parts import Parts, parts_of, whole
from recert.local.passes import Losses
from recert.local.radii import Radii, about, column_caps, descend, on_grid, start
from recert.local.sequences import Sequences
from recert.network import Network

Array = NDArray[np.float64]

# From here on nothing below 1 can come out.
HOPELESS = 0.98


@dataclass(frozen=True, eq=False)
class Plan:
    """Parts, their radii, the price of the parts, and what the first sequences promise."""

    parts: Parts
    radii: Radii
    costs: tuple[Cost, ...]
    promise: float


def plan_radii(
    network: Network, caps: dict[str, float], data: Sequences, m: int, reach: float
) -> Plan:
    """What promises most on the first sequences."""
    blocks = tuple(network.blocks())
    pilot = data.pilot()
    parts, joined = parts_of(blocks, columns=True), parts_of(blocks, columns=False)
    at_rest = data.losses(network, parts, 1e-9 * column_caps(parts, caps), pilot).capped()
    plans = [(joined, replace(at_rest, S=whole(parts, at_rest.S, joined)))]
    apart: tuple[Cost, ...] = ()
    if parts.count > joined.count:
        plans.append((parts, at_rest))
    found = [_promise(m, reach, plan, kept, caps) for plan, kept in plans]
    which = min(range(len(plans)), key=lambda i: found[i][0])
    if len(plans) == 2:
        apart = (Cost("columns apart", which, float(which), FiniteChoice(2).cost()),)
    parts, (promise, radii) = plans[which][0], found[which]
    if promise < HOPELESS:
        # So far the second order was left out.
        known = data.losses(network, parts, radii.radii * reach, pilot).capped()
        promise, radii = _promise(m, reach, parts, known, caps, radii.radii)
    return Plan(parts, radii, apart, promise)


def _promise(
    m: int,
    reach: float,
    parts: Parts,
    found: Losses,
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
    curved = found.Q / np.maximum(np.square(found.S @ (begin * reach)), 1e-300)
    lost = (found.M - order - curved * np.square(order)).min(axis=0) <= 0.0
    rate = (radii.nats(parts) + total_nats(radii.costs)) / m
    return about(float(lost.mean()), rate), radii
