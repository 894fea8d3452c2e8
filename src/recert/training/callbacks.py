"""Callbacks of `recert.training.train` that constrain weights where no cap does."""

from __future__ import annotations

import torch

from recert.training.model import RecurrentClassifier
from recert.training.projections import orthogonal


@torch.no_grad()
def keep_orthogonal(model: RecurrentClassifier, step: int, loss: float | None = None) -> None:
    """Move every dense block U to its polar factor, the nearest orthogonal matrix.

    As ``tracker=`` of the trainer it is called before the first step and after every one.

    Args:
        model: changed in place.
        step: not used.
        loss: not used.

    Raises:
        InputError: a block has not full rank.
    """
    blocks = model.blocks()
    for part in model.architecture.parts():
        if part.letter == "U" and part.norm == "spectral":
            blocks[part.name].copy_(orthogonal(blocks[part.name], 1.0))
