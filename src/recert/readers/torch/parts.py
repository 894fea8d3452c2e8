"""A torch module taken apart: its parts found by exact type, every parameter accounted for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recert.errors import InputError, UnsupportedModelError, type_of

RECURRENT: tuple[type[nn.Module], ...] = (
    nn.RNN,
    nn.LSTM,
    nn.GRU,
    nn.RNNCell,
    nn.LSTMCell,
    nn.GRUCell,
)
ROLES: dict[str, tuple[type[nn.Module], ...]] = {
    "recurrent": RECURRENT,
    "head": (nn.Linear,),
    "embedding": (nn.Embedding,),
}
COVERED = (
    "covered are nn.RNN, nn.LSTM, nn.GRU and their cells, nn.Linear and one nn.Embedding, "
    "all without normalization"
)
BY_HAND = "describe the network by hand with recert.networks.network"
# A module with this method describes itself.
OWN = "recert_network"
_KNOWN_TENSOR = re.compile(
    r"(weight|bias)(_[ih][hr](_l\d+)?(_reverse)?)?(_orig|_mask|_g|_v|_u)?|parametrizations\..*"
)


@dataclass(frozen=True)
class ModuleParts:
    """Dotted names of the parts in a model, in the order of registration.

    Attributes:
        recurrent: recurrent layers.
        linears: linear layers, of an encoder or the head.
        embedding: or None.
        head: the linear layer that the user says is the last, or None.
        own: the module that describes itself; there are no other parts then.
    """

    recurrent: tuple[str, ...] = ()
    linears: tuple[str, ...] = ()
    embedding: str | None = None
    head: str | None = None
    own: str | None = None

    def names(self) -> tuple[str, ...]:
        """The names of all parts."""
        single = tuple(name for name in (self.embedding, self.own) if name is not None)
        return (*self.recurrent, *self.linears, *single)


class Composition(nn.Module):
    """Bare parts put together: tokens are embedded or read one-hot, the head reads every step."""

    def __init__(self, modules: tuple[nn.Module, ...]) -> None:
        super().__init__()
        if len(modules) not in (2, 3):
            raise InputError(
                f"a tuple of {len(modules)} modules is not a model; pass (nn.LSTM, nn.Linear) or "
                "(nn.Embedding, nn.LSTM, nn.Linear)"
            )
        self.embedding = modules[0] if len(modules) == 3 else None
        self.recurrent, self.head = modules[-2:]

    def forward(self, x: Tensor) -> Tensor:
        """(n, T) tokens or (n, T, d_x) vectors → logits (n, T, K)."""
        if self.embedding is not None:
            x = self.embedding(x)
        elif x.ndim == 2:
            rnn: Any = self.recurrent
            x = nn.functional.one_hot(x, rnn.input_size).to(rnn.weight_ih_l0.dtype)
        if not self.recurrent.batch_first:
            return self.head(self.recurrent(x.transpose(0, 1))[0]).transpose(0, 1)
        return self.head(self.recurrent(x)[0])


def one_module(model: Any) -> nn.Module:
    """The module behind a tuple of parts, torch.compile or data parallelism."""
    if isinstance(model, tuple):
        model = Composition(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedModelError(
            "a TorchScript module hides its layers; pass the module that it was made from"
        )
    if type(model).__name__ == "OptimizedModule":
        model = model._orig_mod
    if type(model).__name__ in ("DataParallel", "DistributedDataParallel"):
        model = model.module
    if not isinstance(model, nn.Module):
        raise InputError(f"{type_of(model)} is not a torch module; pass an nn.Module")
    refuse_unreadable_weights(model)
    return model


def refuse_unreadable_weights(model: nn.Module) -> None:
    """Weights that are no plain arrays of real numbers.

    Raises:
        UnsupportedModelError: they are quantised, complex, sparse, or of a kind unknown here.
        InputError: they have no values yet.

    """
    for name, module in model.named_modules():
        if ".quantized" in type(module).__module__:
            raise UnsupportedModelError(
                f"{title(module)} {name!r} is quantised, and so another network than the one that "
                "it was made from, which is covered; certify that one, and run it"
            )
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):
            _refuse_unreadable(name, value)


def _refuse_unreadable(name: str, value: Tensor) -> None:
    if nn.parameter.is_lazy(value):
        raise InputError(f"weight {name!r} has no shape yet; run the model once on some sequences")
    if value.is_meta:
        raise InputError("the model's weights are on the meta device; load them first")
    for found, what in (
        (value.is_quantized, "quantised; certify the float model, and run it"),
        (value.is_complex(), "complex, which is not covered; use real weights"),
        (value.layout != torch.strided, "sparse; make it dense with .to_dense()"),
    ):
        if found:
            raise UnsupportedModelError(f"weight {name!r} is {what}")
    if type(value) in (Tensor, nn.Parameter):
        return
    try:
        value.detach().to("cpu", torch.float64).numpy()
    except Exception:  # subclasses of tensors may raise anything
        raise UnsupportedModelError(
            f"weight {name!r} is {type_of(value)}, whose numbers cannot be read; make it "
            "an ordinary nn.Parameter"
        ) from None


def find_parts(model: nn.Module, given: Mapping[str, nn.Module | str | None]) -> ModuleParts:
    """Where the parts are: all modules of the covered types, or the one that is named.

    Raises:
        UnsupportedModelError: another layer has parameters, or a part is missing.
        InputError: a named part does not exist.

    """
    own = [name for name, module in model.named_modules() if callable(getattr(module, OWN, None))]
    if own:
        return ModuleParts(own=own[0])
    named = {role: _name_of(model, part, role) for role, part in given.items() if part is not None}
    _refuse_other_layers(model)
    found = {role: _all(model, role) for role in ROLES}
    for role in ("recurrent", "embedding"):
        if role in named:
            found[role] = (named[role],)
    for role in ("recurrent", "head"):
        if not found[role]:
            kinds = "nn.RNN, nn.LSTM or nn.GRU" if role == "recurrent" else "nn.Linear"
            raise UnsupportedModelError(
                f"the model has no {kinds} that could be its {role} part; {_with_it(model, role)}"
            )
    if len(found["embedding"]) > 1:
        names = ", ".join(map(repr, found["embedding"]))
        raise UnsupportedModelError(
            f"the model has {len(found['embedding'])} nn.Embedding modules ({names}) and one is "
            f"covered; remove what is unused, or {BY_HAND}"
        )
    embedding = found["embedding"][0] if found["embedding"] else None
    return ModuleParts(found["recurrent"], found["head"], embedding, named.get("head"))


def account(model: nn.Module, parts: ModuleParts) -> None:
    """Every parameter and persistent buffer belongs to one part, or is refused by name.

    A module that describes itself has all parameters; its Network is compared with them elsewhere.
    """
    owner: dict[int, str] = {}
    for part in parts.names():
        for local, tensor in model.get_submodule(part).state_dict(keep_vars=True).items():
            name = f"{part}.{local}" if part else local
            other = owner.setdefault(id(tensor), name)
            if other != name:
                raise UnsupportedModelError(
                    f"parameter {name!r} is the same as {other!r}, and weights that are shared "
                    f"between parts are not covered; train them apart, or {BY_HAND}"
                )
            if parts.own is None and not _KNOWN_TENSOR.fullmatch(local):
                del owner[id(tensor)]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, value in model.state_dict(keep_vars=True).items():
        if name in parameters and id(value) not in owner:
            raise UnsupportedModelError(
                f"parameter {name!r} of shape {tuple(value.shape)} belongs to no covered part "
                f"({COVERED}, from zero initial states); remove it if it is unused, or {BY_HAND}"
            )
        if id(value) not in owner or (name not in parameters and parts.own is not None):
            raise UnsupportedModelError(
                f"buffer {name!r} belongs to no covered part ({COVERED}); register it with "
                f"persistent=False if the data did not shape it, or {BY_HAND}"
            )


def title(module: nn.Module) -> str:
    """A module's type as people write it."""
    kind = _type(module)
    return f"nn.{kind.__name__}" if kind.__module__.startswith("torch.nn") else kind.__name__


def _name_of(model: nn.Module, part: nn.Module | str, role: str) -> str:
    if isinstance(part, str):
        try:
            module = model.get_submodule(part)
        except AttributeError:
            raise InputError(f"{role}={part!r}: the model has no such submodule") from None
        name = part
    else:
        names = [name for name, module in model.named_modules() if module is part]
        if not names:
            raise InputError(f"{role}= is a module that is no part of the model; pass its own")
        name, module = names[0], part
    if _type(module) not in ROLES[role]:
        kinds = " or ".join(f"nn.{kind.__name__}" for kind in ROLES[role])
        raise UnsupportedModelError(
            f"{title(module)} {name!r} is not covered as the {role} part; it must be {kinds}"
        )
    return name


def _all(model: nn.Module, role: str) -> tuple[str, ...]:
    return tuple(name for name, module in model.named_modules() if _type(module) in ROLES[role])


def _with_it(model: nn.Module, role: str) -> str:
    """What to do where a part is missing; bare layers lack the head that they were trained with."""
    if role == "head" and _type(model) in RECURRENT:
        return (
            "it gives states and no logits: pass it with its linear head, as (rnn, linear), or as "
            "a module whose forward is: states, _ = self.rnn(x); return self.linear(states[:, -1])"
        )
    return BY_HAND


def _refuse_other_layers(model: nn.Module) -> None:
    covered = {name for role in ROLES for name in _all(model, role)}
    inside = tuple(f"{name}." for name in covered if name)
    for name, module in model.named_modules():
        if name in covered or name.startswith(inside):
            continue
        own = [local for local, _ in module.named_parameters(recurse=False)]
        leaf = name and not list(module.children())
        if own and (type(module).__module__.startswith("torch.nn.") or leaf):
            raise UnsupportedModelError(
                f"{title(module)} {name or 'given as the model'!r} is not covered ({COVERED}); "
                "remove it if it is unused, or use a model of covered parts"
            )


def _type(module: nn.Module) -> type[nn.Module]:
    """The type that was written down, under any parametrization."""
    return parametrize.type_before_parametrizations(module)
