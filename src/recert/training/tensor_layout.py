"""Where the blocks of a torch module's Network are kept: rows of fused tensors, by block name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recert.errors import InputError, UnsupportedModelError, type_of
from recert.networks import cells
from recert.networks.layers import suffix_of
from recert.networks.network import Network
from recert.readers.torch.parity import CallError
from recert.readers.torch.parts import OWN, ModuleParts, one_module
from recert.readers.torch.read import Module, read_torch
from recert.readers.torch.running import evaluation_copy
from recert.readers.torch.weights import CELLS, ReadingPlan, Weights
from recert.readers.weights.assembly import two_rows
from recert.readers.weights.state_dicts import STACKED
from recert.training.architecture import Part
from recert.training.model import RecurrentClassifier


@dataclass(frozen=True)
class Place:
    """Rows of one tensor of a submodule.

    Attributes:
        module: dotted name of the submodule.
        tensor: its attribute, such as "weight_hh_l0".
        rows: the first row and the one after the last; None for all.
        transposed: whether the block is the tensor's transpose (an embedding's).
    """

    module: str
    tensor: str
    rows: tuple[int, int] | None = None
    transposed: bool = False

    def read(self, model: nn.Module) -> Tensor:
        """The tensor's part as the block's shape has it, differentiable."""
        value: Tensor = getattr(model.get_submodule(self.module), self.tensor)
        value = value if self.rows is None else value[slice(*self.rows)]
        return value.T if self.transposed else value


@dataclass(frozen=True)
class Site:
    """A block and where it is kept: the sum of its places, of one logit two rows ∓1/2 times it."""

    part: Part
    places: tuple[Place, ...]
    one_logit: bool = False

    def tensor(self, model: nn.Module) -> Tensor:
        """The block, differentiable, on the module's device and in its precision."""
        found = self.places[0].read(model)
        for place in self.places[1:]:
            found = found + place.read(model)
        return torch.cat([-found / 2, found / 2]) if self.one_logit else found

    def array(self, model: nn.Module) -> np.ndarray:
        """The block exactly as `recert.from_torch` reads it, float64."""
        found = sum(place.read(model).detach().to("cpu", torch.float64) for place in self.places)
        value: np.ndarray = cast(Tensor, found).numpy()
        if not self.one_logit:
            return value
        matrix = value if value.ndim == 2 else value[:, None]
        return two_rows(matrix, None)[0].reshape(2, *value.shape[1:])


@dataclass(frozen=True, eq=False)
class TensorLayout:
    """How a module is read: the plan of its parts, and the site of every block.

    A block I, the identity before a head's first layer, has no site.
    """

    parts: ModuleParts
    plan: ReadingPlan | None
    sites: dict[str, Site]
    signature: tuple[tuple[str, type], ...]
    output: str | int | None = None

    def network(self, model: nn.Module) -> Network:
        """The Network at the module's present weights, in float64; parity is not checked again.

        Only where hooks before forward may compute weights is the module read and run anew.
        """
        model = one_module(model)
        hooked = (m for m in model.modules() if not parametrize.is_parametrized(m))
        if self.plan is not None and any(m._forward_pre_hooks for m in hooked):
            how = {"input_kind": self.plan.input_kind, "output": self.output}
            return _read_in_any_order(model, None, how).network
        with evaluation_copy(model, torch.float64) as copy:
            if self.plan is None:
                return cast(Network, getattr(copy.get_submodule(self.parts.own or ""), OWN)())
            return Weights(copy).network(self.plan)


_KNOWN: WeakKeyDictionary[nn.Module, TensorLayout] = WeakKeyDictionary()


def layout_of(model: Any, sequences: Any = None, **parts: Any) -> TensorLayout:
    """The layout of a module, found and checked as `recert.from_torch` does, once for each module.

    Args:
        model: a torch module around nn.RNN, nn.LSTM, nn.GRU or their cells with linear layers, or
            a `RecurrentClassifier`.
        sequences: (m, T) tokens or (m, T, d_x) vectors on which it is compared; None draws some.
        parts: keywords of `recert.from_torch`, such as ``head`` or ``input_kind``.

    Raises:
        InputError: the model is no torch module, or its weights are unusable.
        UnsupportedModelError: a part is not covered, or the module describes itself and is none
            of this package's.
        ParityError: the module computes something else than any Network.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"{type_of(model)} is not a torch module; pass an nn.Module")
    model = one_module(model)
    signature = _signature(model)
    known = _KNOWN.get(model)
    if known is not None and known.signature == signature:
        return known
    read = _read_in_any_order(model, sequences, parts)
    network, found, plan = read.network, read.parts, read.plan
    sites = _sites(model, network, found, plan)
    layout = TensorLayout(found, plan, sites, signature, parts.get("output"))
    _KNOWN[model] = layout
    return layout


def _read_in_any_order(model: nn.Module, sequences: Any, how: Mapping[str, Any]) -> Module:
    """A module read; where its weights stand does not depend on how it is called or padded."""
    how = {"padding": "cut", **how}
    try:
        return read_torch(model, sequences, **how)
    except CallError:
        return read_torch(model, sequences, **{**how, "steps_first": True})


def _signature(model: nn.Module) -> tuple[tuple[str, type], ...]:
    """Names and types of the submodules, whatever is parametrized."""
    return tuple(
        (name, parametrize.type_before_parametrizations(module))
        for name, module in model.named_modules()
        if "parametrizations" not in name.split(".")
    )


def _sites(
    model: nn.Module, network: Network, parts: ModuleParts, plan: ReadingPlan | None
) -> dict[str, Site]:
    if plan is None:
        return _own_sites(model, parts.own or "")
    roles = {
        block.name: role for layer in network.directions() for role, block in layer.blocks.items()
    }
    places = dict(_places(model, plan))
    single = {"V", "b_V"} if cast(Any, model.get_submodule(plan.head)).out_features == 1 else set()
    found = {}
    for block in network.blocks():
        if block.name in places:
            role = roles.get(block.name, block.name.rstrip("0123456789"))
            part = Part(block.name, role, block.shape, block.norm)
            found[block.name] = Site(part, places[block.name], block.name in single)
    return found


def _own_sites(model: nn.Module, own: str) -> dict[str, Site]:
    module = model.get_submodule(own)
    if not isinstance(module, RecurrentClassifier):
        raise UnsupportedModelError(
            f"{type(module).__name__} describes itself by {OWN}(), which does not say where its "
            "blocks are kept; constrain its tensors by torch.nn.utils.parametrize"
        )
    home = f"{own}.weights" if own else "weights"
    return {
        part.name: Site(part, (Place(home, part.name),)) for part in module.architecture.parts()
    }


def _places(model: nn.Module, plan: ReadingPlan) -> Iterator[tuple[str, tuple[Place, ...]]]:
    """Block names with their places, named as `Weights.network` does."""
    if plan.embedding is not None:
        yield "E", (Place(plan.embedding, "weight", transposed=True),)
    for letter, dense in (("F", plan.encoder), ("G", plan.hidden)):
        for k, (name, _) in enumerate(dense):
            suffix = suffix_of(k, len(dense))
            yield f"{letter}{suffix}", (Place(name, "weight"),)
            yield f"b_{letter}{suffix}", (Place(name, "bias"),)
    modules: list[Any] = [model.get_submodule(name) for name in plan.recurrent]
    count = sum(getattr(module, "num_layers", 1) for module in modules)
    index = 0
    for name, module in zip(plan.recurrent, modules, strict=True):
        for k in range(getattr(module, "num_layers", 1)):
            for reverse in (False, True) if getattr(module, "bidirectional", False) else (False,):
                end = f"_l{k}" if isinstance(module, nn.RNNBase) else ""
                end += "_reverse" if reverse else ""
                suffix = suffix_of(index, count, reverse=reverse)
                for role, places in _roles(name, module, end):
                    yield f"{role}{suffix}", places
            index += 1
    yield "V", (Place(plan.head, "weight"),)
    yield "b_V", (Place(plan.head, "bias"),)


def _roles(name: str, module: Any, end: str) -> Iterator[tuple[str, tuple[Place, ...]]]:
    """Roles of one layer in one direction, gates being stacked in the rows of fused tensors."""
    cell = next(CELLS[kind] for kind in CELLS if isinstance(module, kind))
    d_h = module.hidden_size
    for gate in cells.CELLS[cell].gates:
        k = STACKED[cell].index(gate)
        rows = (k * d_h, (k + 1) * d_h)
        yield f"U{gate}", (Place(name, f"weight_hh{end}", rows),)
        yield f"W{gate}", (Place(name, f"weight_ih{end}", rows),)
        both = tuple(Place(name, f"bias_{which}{end}", rows) for which in ("ih", "hh"))
        if cell == "gru" and gate == "_n":
            yield f"b{gate}", both[:1]
            yield "b_hn", both[1:]
        else:
            yield f"b{gate}", both
    yield "P", (Place(name, f"weight_hr{end}"),)
