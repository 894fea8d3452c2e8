"""How the networks of ``recert reproduce tradeoff`` are constrained, and what memory allows them.

Two strings that differ in their first letter only have last states at most 2‖W‖_col‖U‖^(T−1) apart,
as tanh is 1-Lipschitz. Where their classes differ, the smaller of their margins is at most

    M* = √2 ‖V‖ ‖W‖_col ‖U‖^(T−1),

for the sum of both is at most (e_i − e_j)ᵀV(h − h'). Of the A strings that share all letters but
the first at most one has a larger margin, so for γ ≥ M* the hard-margin risk on
`recert.data.recall` is at least 1 − 1/A, that of guessing. A certificate that says more must take
γ < M*, which below ‖U‖ = 1 shrinks with T as sensitivities grow above it: forgetting is paid for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recert.data import SequenceData
from recert.networks.network import Network
from recert.numerics import norms

if TYPE_CHECKING:
    from recert.training import Recipe, TrainedModel

CAPS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
ORTHOGONAL, FREE = "orthogonal", "free"


@dataclass(frozen=True)
class Constraint:
    """What U is kept to: ‖U‖ at most ``cap``, UᵀU = I, or nothing."""

    name: str
    cap: float | None = None

    @property
    def place(self) -> float:
        """Where ‖U‖ is drawn if nothing was measured: the cap, and 1 for orthogonal U."""
        return 1.0 if self.cap is None else self.cap


CONSTRAINTS: tuple[Constraint, ...] = (
    *(Constraint(f"‖U‖ ≤ {cap:g}", cap) for cap in CAPS),
    Constraint(ORTHOGONAL, 1.0),
    Constraint(FREE),
)


def trained(
    sample: SequenceData, recipe: Recipe, constraint: Constraint, seed: int
) -> TrainedModel:
    """Train a vanilla network by a recipe without caps, with U constrained and nothing else.

    A cap is kept by projection after every step. An orthogonal U is moved to its polar factor, the
    nearest orthogonal matrix, before the first step and after every one.
    """
    from recert.training import train
    from recert.training.projections import keep_orthogonal

    caps = None if constraint.cap is None else {"U": constraint.cap}
    after = keep_orthogonal if constraint.name == ORTHOGONAL else None
    return train(sample, recipe, seed=seed, caps=caps, tracker=after)


def largest_margin(network: Network, T: int) -> float:
    """M* of the module's text for a vanilla network on strings of T letters.

    Source: as derived above.
    """
    U = norms.spectral_norm_bound(network.block("U").value)
    V = norms.spectral_norm_bound(network.block("V").value)
    W = network.block("W").norm_bound()
    return math.sqrt(2.0) * V * W * U ** (T - 1)
