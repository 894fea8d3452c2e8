"""An upper bound on the empirical risk of the posterior, for the loss that reaches a ball further.

L(f, x) is 1 if some network within ε of f errs on x. For f within ε of the trained weights it is
at most 1 where some network within 2ε errs. That is counted; or, closer, f is drawn from the
posterior and what is within ε of it is counted, where the first count leaves it open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.concentration import kl_inverse_upper
from recert.local.draws import can_draw
from recert.local.parts import Parts
from recert.local.sequences import Sequences
from recert.margins import MarginTable
from recert.network import Network

Array = NDArray[np.float64]

# Margin forms carry roundings, of at most 1e-14 of a cap: balls are a little larger than ε.
REACH = 1.0 + 1e-6
# Sequences that are lost this near the trained weights are counted as lost without a draw.
OUTRIGHT = 0.5
# Draws for each undecided sequence, and how many in all at least and at most.
EACH, FEWEST, MOST = 20, 1_000, 30_000
SEED = 20181224
# Share of δ that goes to the draws.
SHARE = 0.05


@dataclass(frozen=True)
class Risk:
    """A bound on the posterior's empirical risk, and what it is made of (shares of the sample).

    Attributes:
        bound: the risk is at most this, with probability at least 1 − δ' over the draws.
        outright: share that was counted as lost.
        undecided: share that was left to draws.
        draws: number of pairs of a sequence and a network drawn for it.
        lost: number of pairs that were lost.
    """

    bound: float
    outright: float
    undecided: float = 0.0
    draws: int = 0
    lost: int = 0


def reached(
    network: Network, data: Sequences, table: MarginTable, parts: Parts, radii: Array
) -> Risk:
    """Without draws: whatever errs somewhere within 2ε."""
    risk = table.share(data.left(network, parts, 2.0 * REACH * radii, data.all()) <= 0.0)
    return Risk(risk, risk)


def drawn(
    network: Network,
    data: Sequences,
    table: MarginTable,
    parts: Parts,
    radii: Array,
    delta: float,
) -> Risk:
    """With draws from the posterior for the sequences that are lost within 2ε and not within ε/2.

    A pair is an undecided sequence, chosen with its weight in the risk, and a network drawn afresh
    for it; pairs are independent and lost with probability at most the mean over undecided ones.
    """
    lost = data.left(network, parts, 2.0 * REACH * radii, data.all()) <= 0.0
    near = np.flatnonzero(lost)
    sure = data.left(network, parts, OUTRIGHT * radii, near) <= 0.0
    outright, open_ = near[sure], near[~sure]
    share = table.share(_flags(len(lost), outright))
    if not len(open_):
        return Risk(share, share)
    draws = max(FEWEST, min(MOST, EACH * len(open_)))
    undecided = table.share(_flags(len(lost), open_))
    rng = np.random.default_rng(SEED)
    weights = None if table.weights is None else table.weights[open_] / table.weights[open_].sum()
    chosen = rng.choice(open_, size=draws, p=weights)
    left = data.left_of_draws(network, parts, radii, REACH * radii, chosen, rng)
    count = int((left <= 0.0).sum())
    limit = float(kl_inverse_upper(count / draws, -math.log(delta) / draws))
    bound = min(1.0, (share + undecided * limit) * (1.0 + 1e-12))
    return Risk(bound, share, undecided, draws, count)


def sequences_followed(m: int, drawing: bool) -> tuple[int, int, int]:
    """How many sequences each pass of a count follows, where a quarter of all is undecided."""
    return m, m, (max(FEWEST, min(MOST, EACH * m // 4)) if drawing else 0)


def applies(network: Network) -> bool:
    """Whether the posterior can be drawn from."""
    return can_draw(tuple(network.blocks()))


def _flags(n: int, index: NDArray[np.int64]) -> NDArray[np.bool_]:
    flags = np.zeros(n, dtype=bool)
    flags[index] = True
    return flags
