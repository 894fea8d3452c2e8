"""Projections onto balls of norms, differentiable wherever they can be.

A function of singular values, F(A) = P f(Σ) Qᵀ with A = P Σ Qᵀ, has a derivative even where
singular values coincide and those of P and Q do not exist. With H a direction, Ĥ = PᵀHQ,

    dF = P [Γ ∘ sym(Ĥ) + Γ' ∘ skew(Ĥ)] Qᵀ + (I − PPᵀ) H Q D Qᵀ + P D Pᵀ H (I − QQᵀ),

Γ_ij = (f_i − f_j)/(σ_i − σ_j), f'(σ_i) in the limit; Γ'_ij = (f_i + f_j)/(σ_i + σ_j);
D = diag(f_i/σ_i). The map H → dF is its own adjoint, so gradients go back by the same formula.
Source: Noferini, "A formula for the Fréchet derivative of a generalized matrix function", 2017.

Keeping weights inside declared caps: projections during training, an exact check after it.

Callbacks of `recert.training.train` that constrain weights where no cap does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recert.errors import InputError
from recert.numerics.norms import convolution_norm_bound
from recert.training import model
from recert.training.architecture import Part
from recert.training.model import RecurrentClassifier

# Norms count as within a cap up to so many units of rounding, so that gradients pass at the cap.
ROUNDINGS = 4.0


def spectral(A: Tensor, cap: float) -> Tensor:
    """The nearest matrix (d1, d2) of spectral norm at most `cap`, singular values being cut off.

    The gradient does not see by how much a singular value lies above the cap.
    """
    return _wide(A, cap, False)


def orthogonal(A: Tensor, cap: float) -> Tensor:
    """`cap` times the orthogonal factor of A's polar decomposition, all singular values `cap`.

    Its columns are orthogonal where A (d1, d2) has d1 ≥ d2, its rows otherwise.

    Raises:
        InputError: A has not full rank.
    """
    return _wide(A, cap, True)


def columns(A: Tensor, cap: float) -> Tensor:
    """The nearest matrix whose columns have Euclidean norm at most `cap`; also for a vector."""
    return _scaled(A, torch.linalg.vector_norm(A, dim=0, keepdim=True), cap)


def frobenius(A: Tensor, cap: float) -> Tensor:
    """The nearest array of Frobenius (of a vector: Euclidean) norm at most `cap`."""
    return _scaled(A, torch.linalg.vector_norm(A), cap)


def operator(bank: Tensor, cap: float, positions: int) -> Tensor:
    """A filter bank (out, in, width) scaled until its operator norm is at most `cap`."""
    return scale_bank(bank, cap, positions)


def _scaled(A: Tensor, norm: Tensor, cap: float) -> Tensor:
    limit = cap * (1.0 + ROUNDINGS * torch.finfo(A.dtype).eps)
    return A * torch.where(norm > limit, cap / norm.clamp(min=cap), 1.0)


def _wide(A: Tensor, cap: float, orthogonal: bool) -> Tensor:
    """In float64 where the device has it: float32 alone adds some 5e-7 to norms at 128 units."""
    wide = A.float() if A.device.type == "mps" else A.double()
    slack = ROUNDINGS * torch.finfo(A.dtype).eps
    found: Tensor = _OfSingularValues.apply(wide, cap, orthogonal, slack)
    return found.to(A.dtype)


class _OfSingularValues(torch.autograd.Function):
    """F(A) and its adjoint derivative, for f(σ) = min(σ, cap) or f = cap."""

    @staticmethod
    def forward(ctx: Any, A: Tensor, cap: float, orthogonal: bool, slack: float) -> Tensor:
        P, sigma, Qt = torch.linalg.svd(A, full_matrices=False)
        if orthogonal and float(sigma[-1]) <= torch.finfo(A.dtype).eps * max(A.shape) * float(
            sigma[0]
        ):
            raise InputError(
                "a matrix without full rank has no orthogonal factor; draw its weights anew, or "
                "use kind='spectral'"
            )
        ctx.save_for_backward(P, sigma, Qt)
        ctx.cap, ctx.orthogonal, ctx.slack = cap, orthogonal, slack
        f = torch.full_like(sigma, cap) if orthogonal else sigma.clamp(max=cap)
        return (P * f) @ Qt

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        P, sigma, Qt = ctx.saved_tensors
        same, opposite, ratio = _factors(sigma, ctx.cap, ctx.orthogonal, ctx.slack)
        inner = P.T @ grad @ Qt.T
        core = 0.5 * (same * (inner + inner.T) + opposite * (inner - inner.T))
        found = P @ core @ Qt
        if P.shape[0] > P.shape[1]:
            right = grad @ Qt.T
            found = found + ((right - P @ (P.T @ right)) * ratio) @ Qt
        if Qt.shape[1] > Qt.shape[0]:
            left = P.T @ grad
            found = found + (P * ratio) @ (left - (left @ Qt.T) @ Qt)
        return found, None, None, None


def _factors(
    sigma: Tensor, cap: float, orthogonal: bool, slack: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Γ and Γ' (k, k), and the diagonal of D (k,)."""
    total = sigma[:, None] + sigma[None, :]
    if orthogonal:
        return torch.zeros_like(total), 2.0 * cap / total, cap / sigma
    f = sigma.clamp(max=cap)
    inside = sigma <= cap * (1.0 + slack)
    both = inside[:, None] & inside[None, :]
    neither = ~inside[:, None] & ~inside[None, :]
    difference = sigma[:, None] - sigma[None, :]
    across = (f[:, None] - f[None, :]) / torch.where(both | neither, 1.0, difference)
    same = torch.where(both, 1.0, torch.where(neither, 0.0, across))
    opposite = torch.where(both, 1.0, (f[:, None] + f[None, :]) / torch.where(both, 1.0, total))
    return same, opposite, torch.where(inside, 1.0, cap / torch.where(inside, cap, sigma))


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
        matrix = model.bank_matrix(bank, model.bank_index(tuple(bank.shape), positions))
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
