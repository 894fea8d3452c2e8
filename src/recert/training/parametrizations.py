"""Caps on the blocks of any torch module that `recert` reads, kept by parametrizations.

    caps = constrain(model, {"U": 0.9, "V": 4.0})    # before or after the optimiser is made
    …                                                # any training loop; settle(model) after a step
    release(model)                                   # ordinary weights again, strictly inside
    recert.certify(model, …, caps=caps)

While a module is constrained, the weights that it runs with are projections of its parameters, so
they are within the caps up to rounding. `release` makes them ordinary parameters and shrinks them
by a few roundings until `check`, which bounds norms rigorously, passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recert.errors import InputError
from recert.numerics.norms import (
    column_norm_bound,
    convolution_norm_bound,
    frobenius_norm_bound,
    spectral_norm_bound,
)
from recert.readers.torch.parts import one_module
from recert.training import projections
from recert.training.architecture import Part
from recert.training.projections import resolve
from recert.training.tensor_layout import Place, Site, TensorLayout, layout_of
from recert.utils import validation

Kind = Literal["spectral", "column", "frobenius", "orthogonal"]
KINDS = ("spectral", "column", "frobenius", "orthogonal")
"""Norms that a cap may limit: σ_1, the largest column norm, ‖·‖_F; "orthogonal" fixes all σ_i."""

Kinds = str | Mapping[str, str] | None
# After so many tries, each with four times the slack, weights cannot be brought inside.
_TRIES = 12


@dataclass(frozen=True)
class Piece:
    """What is kept of the rows of one tensor: the block, the norm, and the cap in that norm."""

    block: str
    kind: str
    cap: float
    limit: float
    place: Place
    positions: int = 1

    def project(self, value: Tensor) -> Tensor:
        """The rows (of the block's orientation, or transposed) inside the limit."""
        if not torch.isfinite(value).all():
            raise InputError(
                f"block {self.block} holds NaN or infinite weights; lower the learning rate"
            )
        if self.kind == "operator":
            return projections.operator(value, self.limit, self.positions)
        found = _PROJECTIONS[self.kind](value.T if self.place.transposed else value, self.limit)
        return found.T if self.place.transposed else found


_PROJECTIONS = {
    "spectral": projections.spectral,
    "column": projections.columns,
    "frobenius": projections.frobenius,
    "orthogonal": projections.orthogonal,
    "euclidean": projections.frobenius,
}


class Constrained(nn.Module):
    """The parametrization of one tensor: the rows of every capped block projected, others kept."""

    def __init__(self, pieces: tuple[Piece, ...]) -> None:
        super().__init__()
        self.pieces = tuple(sorted(pieces, key=lambda piece: piece.place.rows or (0, 0)))

    def forward(self, X: Tensor) -> Tensor:
        """The tensor within its caps, of X's shape."""
        if self.pieces[0].place.rows is None:
            return self.pieces[0].project(X)
        found, end = [], 0
        for piece in self.pieces:
            start, stop = piece.place.rows or (0, len(X))
            found += [X[end:start], piece.project(X[start:stop])]
            end = stop
        return torch.cat([*found, X[end:]])

    def right_inverse(self, X: Tensor) -> Tensor:
        """Parameters from which X comes; where X is outside the caps, the nearest ones."""
        with torch.no_grad():
            return self.forward(X)


def constrain(
    module: nn.Module,
    caps: Mapping[str, float],
    *,
    kind: Kinds = None,
    sequences: Any = None,
    **parts: Any,
) -> dict[str, float]:
    """Keep blocks of a module inside caps while it is trained, by `torch.nn.utils.parametrize`.

    The parameters stay the same objects, so an optimiser that holds them needs no change. Gates of
    nn.LSTM and nn.GRU are blocks of their own. Where torch adds two biases, each gets half the cap.

    Args:
        module: around nn.RNN, nn.LSTM, nn.GRU or their cells and linear layers, or a
            `RecurrentClassifier`; it is changed in place.
        caps: positive numbers by block name as `recert.from_torch` calls it ("U_r1_reverse"), by
            role ("U_r") or by letter ("U": all blocks U); the more special name goes first.
        kind: None keeps the norm in which a certificate measures the block. One of `KINDS`, or a
            mapping by the same names as `caps`, keeps another; biases always the Euclidean norm,
            filter banks the operator norm.
        sequences: see `recert.training.tensor_layout.layout_of`.
        parts: likewise.

    Returns:
        `declared` of these caps for the blocks that they name.

    Raises:
        InputError: a cap names no block, is not positive, a kind is unknown or does not suit the
            block, the module is constrained already, or weights are not finite.
        UnsupportedModelError, ParityError: as from `recert.from_torch`.
    """
    layout = layout_of(module, sequences, **parts)
    model = one_module(module)
    if any(True for _ in _constrained(model)):
        raise InputError("the module is constrained already; release it first")
    limits, kinds = _resolved(layout, caps, kind)
    tensors: dict[tuple[str, str], list[Piece]] = {}
    for name in limits:
        for piece in _pieces(layout.sites[name], kinds[name], limits[name]):
            tensors.setdefault((piece.place.module, piece.place.tensor), []).append(piece)
    for pieces in tensors.values():  # a projection that fails must leave the module as it was
        with torch.no_grad():
            for piece in pieces:
                value = piece.place.read(model)
                piece.project(value.T if piece.place.transposed else value)
    for (home, tensor), pieces in tensors.items():
        host = model.get_submodule(home)
        parametrize.register_parametrization(host, tensor, Constrained(tuple(pieces)))
    for host in {id(h): h for h in map(model.get_submodule, (k[0] for k in tensors))}.values():
        _attach(host)
    return _declared(layout, limits, kinds)


def settle(module: nn.Module) -> None:
    """Move the parameters of a constrained module to their projections; its outputs stay the same.

    A parameter that an optimiser took out of its cap feels no gradient that would bring it back.
    Called after every step of the optimiser, this makes training projected gradient descent.
    """
    with torch.no_grad():
        for host, tensor, _ in _constrained(one_module(module)):
            setattr(host, tensor, getattr(host, tensor))


def release(module: nn.Module) -> dict[str, tuple[float, float]]:
    """Make the constrained weights ordinary parameters again, strictly inside their caps.

    Weights are scaled down by as few roundings of their precision as it takes.

    Returns:
        Block → (rigorous bound on its norm, cap), as `check` gives it.

    Raises:
        InputError: the module is not constrained, or weights are not finite.
    """
    model = one_module(module)
    layout = layout_of(model)
    found = list(_constrained(model))
    if not found:
        raise InputError("the module is not constrained; call constrain first")
    kept = {piece.block: piece for _, _, pieces in found for piece in pieces}
    for host, tensor, _ in found:
        parametrize.remove_parametrizations(host, tensor, leave_parametrized=True)
    for host in {id(host): host for host, _, _ in found}.values():
        _detach(host)
    for name, piece in kept.items():
        _shrink(model, layout.sites[name], piece)
    limits = {name: piece.cap for name, piece in kept.items()}
    return _checked(model, layout, limits, {name: piece.kind for name, piece in kept.items()})


def check(
    module: nn.Module,
    caps: Mapping[str, float],
    *,
    kind: Kinds = None,
    sequences: Any = None,
    **parts: Any,
) -> dict[str, tuple[float, float]]:
    """The exact post-check: rigorous upper bounds on the norms of a module's blocks, and the caps.

    Args:
        module: as for `constrain`; whether or not it was constrained.
        caps: as for `constrain`.
        kind: likewise; of an "orthogonal" block the spectral norm is checked.
        sequences: likewise.
        parts: likewise.

    Returns:
        Block → (upper bound on its norm by `recert.numerics.norms`, cap).

    Raises:
        InputError: a norm may exceed its cap; the message has every such block with both numbers.
    """
    layout = layout_of(module, sequences, **parts)
    return _checked(one_module(module), layout, *_resolved(layout, caps, kind))


def declared(
    module: nn.Module,
    caps: Mapping[str, float],
    *,
    kind: Kinds = None,
    sequences: Any = None,
    **parts: Any,
) -> dict[str, float]:
    """Caps in the norms in which a certificate measures blocks, for ``recert.certify(caps=…)``.

    ‖A‖ ≤ ‖A‖_F and ‖A‖_col ≤ ‖A‖, so caps of other kinds pass on as they are, except that largest
    column norms c give ‖A‖ ≤ c·√d_2. `recert.certify` needs a cap for every block.
    """
    layout = layout_of(module, sequences, **parts)
    return _declared(layout, *_resolved(layout, caps, kind))


def _resolved(
    layout: TensorLayout, caps: Mapping[str, float], kind: Kinds
) -> tuple[dict[str, float], dict[str, str]]:
    """Caps and kinds by block, checked."""
    sites = [site.part for site in layout.sites.values()]
    caps = {name: validation.positive(f"cap on {name}", cap) for name, cap in dict(caps).items()}
    limits = resolve(caps, sites)
    if not limits:
        raise InputError(f"there are no caps; the blocks are {', '.join(layout.sites)}")
    wanted: dict[str, Any] = {}
    if isinstance(kind, str):
        wanted = dict.fromkeys(limits, kind)
    elif kind is not None:
        wanted = dict(resolve(kind, sites))  # type: ignore[arg-type]
    return limits, {name: _kind(layout.sites[name].part, wanted.get(name)) for name in limits}


def _kind(part: Part, wanted: Any) -> str:
    if wanted is not None and wanted not in KINDS:
        raise InputError(f"kind is {wanted!r}; use {', '.join(KINDS)}, or None")
    if part.norm == "operator" and wanted not in (None, "spectral"):
        raise InputError(
            f"block {part.name} is a filter bank, whose operator norm alone can be kept; leave its "
            "kind out"
        )
    if part.norm in ("operator", "euclidean"):
        return part.norm
    return str(wanted or part.norm)


def _declared(
    layout: TensorLayout, limits: Mapping[str, float], kinds: Mapping[str, str]
) -> dict[str, float]:
    found = {}
    for name, cap in limits.items():
        part = layout.sites[name].part
        wider = part.norm == "spectral" and kinds[name] == "column"
        root = math.sqrt(part.shape[1]) if wider else 1.0
        found[name] = cap if root == 1.0 else math.nextafter(cap * root, math.inf)
    return found


def _pieces(site: Site, kind: str, cap: float) -> Iterator[Piece]:
    """A cap on a block as limits of what its tensors hold."""
    limit = cap / len(site.places)
    if site.one_logit:  # rows −v/2 and v/2 have norm ‖v‖/√2
        limit *= math.sqrt(2.0)
    for place in site.places:
        yield Piece(site.part.name, kind, cap, limit, place, site.part.positions)


def _checked(
    model: nn.Module, layout: TensorLayout, limits: Mapping[str, float], kinds: Mapping[str, str]
) -> dict[str, tuple[float, float]]:
    found = {
        name: (_bound(layout.sites[name], model, kinds[name]), cap) for name, cap in limits.items()
    }
    outside = [
        f"{name} has {_WORDS[kinds[name]]} norm {norm!r} > {cap!r}"
        for name, (norm, cap) in found.items()
        if not norm <= cap
    ]
    if outside:
        raise InputError(f"outside the caps: {'; '.join(outside)}; constrain and release them")
    return found


_WORDS = {
    "spectral": "spectral",
    "orthogonal": "spectral",
    "column": "column",
    "frobenius": "Frobenius",
    "euclidean": "Euclidean",
    "operator": "operator",
}


def _bound(site: Site, model: nn.Module, kind: str) -> float:
    """A rigorous upper bound on a block's norm."""
    value, name = site.array(model), site.part.name
    if kind == "operator":
        if not np.isfinite(value).all():
            raise InputError(f"block {name} holds NaN or infinite weights")
        return convolution_norm_bound(value, site.part.positions, name=name)
    if kind in ("frobenius", "euclidean"):
        return frobenius_norm_bound(value, name=name)
    if kind == "column":
        return column_norm_bound(value, name=name)
    return spectral_norm_bound(value, name=name)


@torch.no_grad()
def _shrink(model: nn.Module, site: Site, piece: Piece) -> None:
    """Scale a block's tensors in place until the bound on its norm is at most the cap."""
    slack = 0.0
    for _ in range(_TRIES):
        norm = _bound(site, model, piece.kind)
        if norm <= piece.cap:
            return
        for place in site.places:
            rows = place.read(model)
            slack = max(4.0 * slack, torch.finfo(rows.dtype).eps)
            rows.copy_(rows.double() * (piece.cap / norm * (1.0 - slack)))


def _constrained(model: nn.Module) -> Iterator[tuple[nn.Module, str, tuple[Piece, ...]]]:
    """Hosts and tensors that `constrain` parametrized."""
    for host in list(model.modules()):
        lists: Any = host.parametrizations if parametrize.is_parametrized(host) else {}
        for tensor, steps in list(lists.items()):
            for step in steps:
                if isinstance(step, Constrained):
                    yield host, tensor, step.pieces


def _attach(host: Any) -> None:
    """Let nn.RNN and its kin run with the parametrized weights, each computed once a call.

    They keep a list of weights of their own. What torch does by itself to renew it computes every
    weight three times, and leaves a graph in the list, so that the module cannot be copied.
    """
    if isinstance(host, nn.RNNBase) and _renew not in host._forward_pre_hooks.values():
        host.register_forward_pre_hook(_renew)
        host.register_forward_hook(_forget)
        host._update_flat_weights = _nothing  # type: ignore[method-assign]
        _renew(host, None)
        _forget(host, None, None)


def _detach(host: Any) -> None:
    if not isinstance(host, nn.RNNBase):
        return
    if not parametrize.is_parametrized(host):
        for hooks, own in ((host._forward_pre_hooks, _renew), (host._forward_hooks, _forget)):
            for key in [key for key, hook in hooks.items() if hook is own]:
                del hooks[key]
        host.__dict__.pop("_update_flat_weights", None)
    host.to(next(host.parameters()).dtype)  # renews the list of weights, as moving does


def _renew(module: Any, inputs: Any) -> None:
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
    module.flatten_parameters()


def _forget(module: Any, inputs: Any, outputs: Any) -> None:
    module._flat_weights = [
        weight if weight.is_leaf else weight.detach() for weight in module._flat_weights
    ]


def _nothing() -> None:
    """In place of torch's own renewal."""
