"""Keeping weights inside declared caps: projections during training, an exact check after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from recert.convolutions import convolution_norm_bound
from recert.errors import InputError
from recert.training import steps
from recert.training.architecture import Part

SLACK = 1e-9
"""Final weights stay this relative distance inside their caps, far more than rounding can undo."""

# Up to this side the norm of a filter bank is that of its matrix, beyond it a cheap upper bound.
_DENSE_SIDE = 128


def resolve(caps: Mapping[str, float] | None, parts: Iterable[Part]) -> dict[str, float]:
    """The caps by block: a block's own name goes before its role, its role before its letter.

    Letters are E, U, W, V, b (the biases of all layers) and b_V; roles are letters with the gate.

    Raises:
        InputError: a cap is on nothing that the network has.

    """
    caps, parts = dict(caps or {}), list(parts)
    known = {name for part in parts for name in (part.name, part.role, part.letter)}
    for name in caps:
        if name not in known:
            raise InputError(
                f"there is a cap on {name}, but the network has no block {name}; its blocks are "
                f"{', '.join(part.name for part in parts)}"
            )
    found = {}
    for part in parts:
        names = [n for n in (part.name, part.role, part.letter) if n in caps]
        if names:
            found[part.name] = caps[names[0]]
    return found


def project_spectral(A: Tensor, cap: float) -> Tensor:
    """The nearest matrix of spectral norm at most `cap`: singular values are cut off there."""
    left, s, right = torch.linalg.svd(A, full_matrices=False)
    return (left * s.clamp(max=cap)) @ right


def project_columns(A: Tensor, cap: float) -> Tensor:
    """The nearest matrix whose columns have Euclidean norm at most `cap`; also for a vector."""
    norms = torch.linalg.vector_norm(A, dim=0, keepdim=True)
    return A * (cap / norms.clamp(min=cap))


def scale_bank(bank: Tensor, cap: float, positions: int) -> Tensor:
    """A filter bank scaled down until its operator norm is at most `cap`, up to rounding."""
    out, channels, width = bank.shape
    if max(out, channels) * positions <= _DENSE_SIDE:
        matrix = steps.bank_matrix(bank, steps.bank_index(tuple(bank.shape), positions))
        norm = torch.linalg.matrix_norm(matrix, 2)
    else:  # zero padding makes it a part of a circulant matrix
        spectrum = torch.fft.rfft(bank, n=positions + width - 1).permute(2, 0, 1)
        norm = torch.linalg.matrix_norm(spectrum, 2).max()
    return bank * (cap / norm.clamp(min=cap))


def centre(V: Tensor) -> Tensor:
    """V less its mean over the classes (rows), which no margin notices and no norm grows by."""
    return V - V.mean(dim=0, keepdim=True)


@torch.no_grad()
def project(
    blocks: Mapping[str, torch.nn.Parameter], parts: Iterable[Part], caps: Mapping[str, float]
) -> None:
    """Move every capped block, in place, inside its cap; V is centred first.

    Dense blocks and biases go to the nearest point there, filter banks are scaled down.
    """
    for part in parts:
        if part.name not in caps:
            continue
        block, cap = blocks[part.name], caps[part.name]
        value = centre(block) if part.role == "V" else block
        if part.norm == "operator":
            block.copy_(scale_bank(value, cap, part.positions))
        elif part.norm == "spectral":
            block.copy_(project_spectral(value, cap))
        else:
            block.copy_(project_columns(value, cap))


def capped_norm(part: Part, value: np.ndarray) -> float:
    """The norm that a cap limits, in float64; an upper bound for filter banks, else some 1e-15."""
    value = np.asarray(value, dtype=np.float64)
    if part.norm == "operator":
        return convolution_norm_bound(value, part.positions, name=part.name)
    if part.norm == "column":
        return float(np.linalg.norm(value, axis=0).max())
    return float(np.linalg.norm(value, 2))


def enforce(
    weights: Mapping[str, np.ndarray], parts: Iterable[Part], caps: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """float64 copies of the weights, shrunk where needed to lie strictly inside their caps."""
    inside = {name: np.array(value, dtype=np.float64) for name, value in weights.items()}
    for part in parts:
        if part.name not in caps:
            continue
        if part.role == "V":
            inside[part.name] -= inside[part.name].mean(axis=0, keepdims=True)
        target = caps[part.name] * (1.0 - SLACK)
        norm = capped_norm(part, inside[part.name])
        if norm > target:
            inside[part.name] *= target / norm
    return inside
