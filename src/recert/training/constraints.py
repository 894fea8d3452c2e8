"""Keeping weights inside declared caps: projections during training, an exact check after it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recert.errors import InputError
from recert.training.recipes import Caps

SLACK = 1e-9
"""Final weights stay this relative distance inside their caps, far more than rounding can undo."""


def project_spectral(A: Tensor, cap: float) -> Tensor:
    """The nearest matrix of spectral norm at most `cap`: singular values are cut off there."""
    left, s, right = torch.linalg.svd(A, full_matrices=False)
    return (left * s.clamp(max=cap)) @ right


def project_columns(A: Tensor, cap: float) -> Tensor:
    """The nearest matrix whose columns have Euclidean norm at most `cap`; also for a vector."""
    norms = torch.linalg.vector_norm(A, dim=0, keepdim=True)
    return A * (cap / norms.clamp(min=cap))


def centre(V: Tensor) -> Tensor:
    """V less its mean over the classes (rows), which no margin notices and no norm grows by."""
    return V - V.mean(dim=0, keepdim=True)


@torch.no_grad()
def project(blocks: dict[str, torch.nn.Parameter], caps: Caps, *, tokens: bool) -> None:
    """Move every capped block, in place, to the nearest point inside its cap; V is centred first.

    Raises:
        InputError: a cap is set on a block that the network lacks.

    """
    for name, cap in caps.as_dict().items():
        if name not in blocks:
            raise InputError(f"there is a cap on {name}, but the network has no block {name}")
        block = blocks[name]
        value = centre(block) if name == "V" else block
        columns = block.dim() == 1 or (name == "W" and tokens)
        block.copy_((project_columns if columns else project_spectral)(value, cap))


def capped_norm(name: str, value: np.ndarray, *, tokens: bool) -> float:
    """The norm that the cap on block `name` limits, in float64 (an estimate to some 1e-15)."""
    value = np.asarray(value, dtype=np.float64)
    if value.ndim == 1:
        return float(np.linalg.norm(value))
    if name == "W" and tokens:
        return float(np.linalg.norm(value, axis=0).max())
    return float(np.linalg.norm(value, 2))


def enforce(
    weights: dict[str, np.ndarray], caps: Caps | None, *, tokens: bool
) -> dict[str, np.ndarray]:
    """float64 copies of the weights, shrunk where needed to lie strictly inside their caps."""
    inside = {name: np.array(value, dtype=np.float64) for name, value in weights.items()}
    for name, cap in ({} if caps is None else caps.as_dict()).items():
        if name == "V":
            inside[name] -= inside[name].mean(axis=0, keepdims=True)
        target = cap * (1.0 - SLACK)
        norm = capped_norm(name, inside[name], tokens=tokens)
        if norm > target:
            inside[name] *= target / norm
    return inside
