"""The networks of ``recert reproduce gates``: every cell, with small gates and trained freely.

Units and epochs were chosen so that training errors come close to each other on German nouns; each
certificate pays for such choices by the number of classes in `GERMAN_NOUNS_CHOICES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recert.gates import SIGMOIDS

if TYPE_CHECKING:
    from recert.training import Recipe

SMALL, FREE = "small gates", "free"
# The candidate's U is capped above 1, where a vanilla cell's bound grows.
RECURRENT = 1.2
# ‖W_r‖ (largest column) and ‖U_r‖ of a small gate.
GATE_W, GATE_U = 0.3, 0.002
CANDIDATE = {"mgu": "h", "gru": "n", "lstm": "c"}


@dataclass(frozen=True, eq=False)
class Contender:
    """One network to train.

    Attributes:
        name: for people, distinct within a regime.
        regime: `SMALL` or `FREE`.
        cell: of the family.
        fields: of its `Recipe`.
    """

    name: str
    regime: str
    cell: str
    fields: Mapping[str, Any]

    def recipe(self, effort: float, batch: int) -> Recipe:
        """Its recipe, at a share ``effort`` of its epochs."""
        from recert.training import Recipe

        fields = dict(self.fields)
        fields["epochs"] = max(1, round(effort * fields["epochs"]))
        return Recipe(cell=self.cell, batch=batch, **fields)


def recurrent(cell: str) -> str:
    """The role of the block U whose norm stands in β."""
    return f"U_{CANDIDATE[cell]}" if cell in CANDIDATE else "U"


def is_gate(cell: str, role: str) -> bool:
    """Whether a block belongs to one of the cell's sigmoid gates."""
    return role[2:] in SIGMOIDS.get(cell, ()) and role[1:2] == "_"


def small_caps(cell: str) -> dict[str, float]:
    """Caps inside which a gated cell's gates stay near one half, ‖U‖ ≤ 1.2 of its candidate."""
    candidate = CANDIDATE[cell]
    caps = {f"U_{candidate}": RECURRENT, f"W_{candidate}": 3.0, "V": 1.0}
    for gate in SIGMOIDS[cell]:
        caps |= {f"U_{gate}": GATE_U, f"W_{gate}": GATE_W}
    return caps


_MARGIN = {
    "loss": "margin", "softness": (2.0, 0.2), "convex_part": 0.6,
    "learning_rate": 0.1, "epochs": 12,
}  # fmt: skip
_ENTROPY = {"learning_rate": 0.03, "epochs": 10}


def _small(name: str, cell: str, d_h: int, margin: float, **more: Any) -> Contender:
    fields = {**_MARGIN, "d_h": d_h, "margin": margin, **more}
    if "caps" not in more:
        fields["caps"] = small_caps(cell)
    return Contender(name, SMALL, cell, fields)


def _vanilla(cap: float) -> Contender:
    caps = {"U": cap, "W": 3.0, "V": 1.0}
    return _small(f"vanilla, ‖U‖ ≤ {cap:g}", "vanilla", 6, 0.04, caps=caps)


CONTENDERS: tuple[Contender, ...] = (
    _vanilla(0.8),
    _vanilla(RECURRENT),
    _small("MGU", "mgu", 8, 0.02, epochs=18),
    _small("GRU", "gru", 8, 0.02, epochs=18),
    _small("LSTM", "lstm", 8, 0.02, epochs=18),
    _small(
        "conv",
        "conv",
        20,
        0.04,
        epochs=18,
        channels=4,
        width=5,
        caps={"E": 6.0, "U": 1.0, "W": 1.0, "V": 1.0},
    ),
    Contender("vanilla", FREE, "vanilla", {**_ENTROPY, "d_h": 10}),
    Contender("MGU", FREE, "mgu", {**_ENTROPY, "d_h": 6}),
    Contender("GRU", FREE, "gru", {**_ENTROPY, "d_h": 5}),
    Contender("LSTM", FREE, "lstm", {**_ENTROPY, "d_h": 5}),
    Contender("conv", FREE, "conv", {**_ENTROPY, "d_h": 20, "channels": 4, "width": 5}),
)
