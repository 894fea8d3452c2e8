"""Penalties on the norms of a module's blocks, differentiable, for any training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recert.errors import InputError
from recert.readers.torch.parts import one_module
from recert.training import model as steps
from recert.training.architecture import Part
from recert.training.projections import resolve
from recert.training.tensor_layout import layout_of
from recert.utils import validation

Penalty = Literal["spectral", "frobenius", "two_one", "orthogonal", "hinge"]


def penalty(
    module: nn.Module,
    weights: Mapping[str, float],
    *,
    kind: Penalty = "spectral",
    caps: Mapping[str, float] | None = None,
    sequences: Any = None,
    **parts: Any,
) -> Tensor:
    """The sum over blocks of a weight times a function of the block; penalties may be added up.

    =============  ===========================================================================
    ``spectral``   ‖A‖², of a filter bank the operator norm, of a bias the Euclidean one
    ``frobenius``  ‖A‖_F² (weight decay of the block)
    ``two_one``    ‖A‖_{2,1}, the sum over columns of their norms: the paper's M_A
    ``orthogonal`` ‖AᵀA − I‖_F², for a block wider than high ‖AAᵀ − I‖_F²
    ``hinge``      max(0, ‖A‖ − c)² in the norm in which a certificate measures the block
    =============  ===========================================================================

    Args:
        module: as for `recert.training.parametrizations.constrain`; constrained ones will do.
        weights: numbers ≥ 0 by block name, role or letter, as caps are named.
        kind: of the table.
        caps: c of a hinge, named likewise; every weighted block needs one.
        sequences: see `recert.training.tensor_layout.layout_of`.
        parts: likewise.

    Returns:
        A scalar on the module's device and in its precision.

    Raises:
        InputError: a name is no block's, a weight is negative, a cap is missing, or the kind does
            not suit a block.
        UnsupportedModelError, ParityError: as from `recert.from_torch`.
    """
    layout = layout_of(module, sequences, **parts)
    model = one_module(module)
    if kind not in _KINDS:
        raise InputError(f"kind is {kind!r}; use {', '.join(_KINDS)}")
    every = [site.part for site in layout.sites.values()]
    wanted = resolve({name: _weight(name, value) for name, value in weights.items()}, every)
    if not wanted:
        raise InputError(f"there are no weights; the blocks are {', '.join(layout.sites)}")
    limits = resolve(caps, every)
    terms = []
    for name, weight in wanted.items():
        site = layout.sites[name]
        if kind == "hinge" and name not in limits:
            raise InputError(f"block {name} has no cap; give caps for all blocks with a hinge")
        value = _KINDS[kind](site.tensor(model), site.part, limits.get(name, 0.0))
        terms.append(weight * value)
    return torch.stack(terms).sum()


def _weight(name: str, value: Any) -> float:
    found = validation.number(f"weight of {name}", value, "it must be a number >= 0")
    if found < 0.0:
        raise InputError(f"weight of {name} is {value}; it must be a number >= 0")
    return found


def _norm(A: Tensor, part: Part) -> Tensor:
    """The largest singular value; the largest norm of a column where the block reads tokens."""
    if A.ndim == 1:
        return torch.linalg.vector_norm(A)
    if part.norm == "column":
        return torch.linalg.vector_norm(A, dim=0).amax()
    return _largest(A, part)


def _largest(A: Tensor, part: Part) -> Tensor:
    if A.ndim == 1:
        return torch.linalg.vector_norm(A)
    if part.norm == "operator":
        index = steps.bank_index(tuple(A.shape), part.positions).to(A.device)
        A = steps.bank_matrix(A, index)
    return torch.linalg.matrix_norm(A, 2)


def _spectral(A: Tensor, part: Part, cap: float) -> Tensor:
    return _largest(A, part).square()


def _frobenius(A: Tensor, part: Part, cap: float) -> Tensor:
    return A.square().sum()


def _two_one(A: Tensor, part: Part, cap: float) -> Tensor:
    matrix = A[:, None] if A.ndim == 1 else A.flatten(1)
    return torch.linalg.vector_norm(matrix, dim=0).sum()


def _orthogonal(A: Tensor, part: Part, cap: float) -> Tensor:
    if A.ndim != 2:
        raise InputError(f"block {part.name} is no matrix, so nothing can be orthogonal in it")
    A = A if A.shape[0] >= A.shape[1] else A.T
    eye = torch.eye(A.shape[1], dtype=A.dtype, device=A.device)
    return (A.T @ A - eye).square().sum()


def _hinge(A: Tensor, part: Part, cap: float) -> Tensor:
    return (_norm(A, part) - cap).clamp(min=0.0).square()


_KINDS: dict[str, Callable[[Tensor, Part, float], Tensor]] = {
    "spectral": _spectral,
    "frobenius": _frobenius,
    "two_one": _two_one,
    "orthogonal": _orthogonal,
    "hinge": _hinge,
}
