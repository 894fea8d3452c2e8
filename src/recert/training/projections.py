"""Projections onto balls of norms, differentiable wherever they can be.

A function of singular values, F(A) = P f(Σ) Qᵀ with A = P Σ Qᵀ, has a derivative even where
singular values coincide and those of P and Q do not exist. With H a direction, Ĥ = PᵀHQ,

    dF = P [Γ ∘ sym(Ĥ) + Γ' ∘ skew(Ĥ)] Qᵀ + (I − PPᵀ) H Q D Qᵀ + P D Pᵀ H (I − QQᵀ),

Γ_ij = (f_i − f_j)/(σ_i − σ_j), f'(σ_i) in the limit; Γ'_ij = (f_i + f_j)/(σ_i + σ_j);
D = diag(f_i/σ_i). The map H → dF is its own adjoint, so gradients go back by the same formula.
Source: Noferini, "A formula for the Fréchet derivative of a generalized matrix function", 2017.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recert.errors import InputError
from recert.training.constraints import scale_bank

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
