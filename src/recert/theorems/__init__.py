"""One file per certified statement; the menu is this explicit tuple."""

from __future__ import annotations

from recert.theorems.gaussian import GaussianBall
from recert.theorems.held_out import HeldOut
from recert.theorems.l1_cover import L1Cover, L1Entropy
from recert.theorems.local_ball import LocalBall
from recert.theorems.margin_ball import MarginBall, MarginCover
from recert.theorems.occam import Occam
from recert.theorems.rademacher import SingleScale, Theorem2
from recert.theorems.setting import Setting, Theorem

THEOREMS: tuple[Theorem, ...] = (
    Theorem2(clipped=False),
    Theorem2(clipped=True),
    SingleScale(),
    L1Entropy(),
    L1Cover(),
    GaussianBall(paper=True),
    GaussianBall(),
    MarginCover(),
    MarginBall(),
    LocalBall(),
    Occam(),
    HeldOut(),
)

__all__ = ["THEOREMS", "Setting", "Theorem"]
