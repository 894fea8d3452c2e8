"""A torch module taken apart: its parts found, every parameter accounted for, weights read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recert.adapters import torch_parity, torch_running
from recert.errors import InputError, UnsupportedModelError
from recert.network import Block, Head, InputKind, Layer, Network, Norm
from recert.sample import At

Array = NDArray[np.float64]

ROLES: dict[str, type[nn.Module]] = {
    "recurrent": nn.RNN,
    "head": nn.Linear,
    "embedding": nn.Embedding,
}
COVERED = "covered are one nn.RNN, one nn.Linear head and at most one nn.Embedding"
BY_HAND = "describe the network by hand with recert.network.vanilla"
_KNOWN_TENSOR = re.compile(
    r"(weight|bias)(_[ih]h_l\d+(_reverse)?)?(_orig|_mask|_g|_v|_u)?|parametrizations\..*"
)


@dataclass(frozen=True)
class Parts:
    """Dotted names of the parts in a model."""

    recurrent: str
    head: str
    embedding: str | None = None

    def names(self) -> tuple[str, ...]:
        """The names of the parts that are there."""
        return tuple(n for n in (self.recurrent, self.head, self.embedding) if n is not None)


class Composition(nn.Module):
    """Bare parts put together: tokens are embedded or read one-hot, the head reads every step."""

    def __init__(self, modules: tuple[nn.Module, ...]) -> None:
        super().__init__()
        if len(modules) not in (2, 3):
            raise InputError(
                f"a tuple of {len(modules)} modules is not a model; pass (nn.RNN, nn.Linear) or "
                "(nn.Embedding, nn.RNN, nn.Linear)"
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


def from_torch(
    model: Any,
    sequences: Any = None,
    *,
    lengths: Any = None,
    recurrent: nn.Module | str | None = None,
    head: nn.Module | str | None = None,
    embedding: nn.Module | str | None = None,
    at: At = "last",
    input_kind: InputKind | None = None,
) -> Network:
    """See `recert.adapters.from_torch`, which this is."""
    model = _one_module(model)
    parts = find_parts(model, recurrent, head, embedding)
    account(model, parts)
    with torch_running.evaluating(model):  # a copy's weights would be fresh
        _refuse_stale_weights(model.get_submodule(parts.recurrent), parts.recurrent)
    kinds = _possible_kinds(sequences, parts.embedding is not None, input_kind)
    with torch_running.evaluation_copy(model, torch.float64) as copy:
        networks = [read_network(copy, parts, kind) for kind in kinds]
    for network in networks[:-1]:
        try:
            torch_parity.check(network, model, None, None, at)
            return network
        except torch_running.DoesNotRunError:
            continue
    torch_parity.check(networks[-1], model, sequences, lengths, at)
    return networks[-1]


def find_parts(
    model: nn.Module,
    recurrent: nn.Module | str | None,
    head: nn.Module | str | None,
    embedding: nn.Module | str | None,
) -> Parts:
    """Where the parts are: as named, or the only module of the type.

    Raises:
        UnsupportedModelError: another layer has parameters, a part is missing or repeats.
        InputError: a named part does not exist.

    """
    given = {"recurrent": recurrent, "head": head, "embedding": embedding}
    named = {role: _name_of(model, part, role) for role, part in given.items() if part is not None}
    _refuse_other_layers(model, set(named.values()))
    found = {role: named.get(role) or _only(model, role) for role in ROLES}
    if found["recurrent"] is None or found["head"] is None:
        role = "recurrent" if found["recurrent"] is None else "head"
        raise UnsupportedModelError(
            f"the model has no nn.{ROLES[role].__name__} that could be its {role} part; "
            f"name it with {role}=, or {BY_HAND}"
        )
    return Parts(found["recurrent"], found["head"], found["embedding"])


def account(model: nn.Module, parts: Parts) -> None:
    """Every parameter and persistent buffer belongs to a part, or is refused by name."""
    mine: set[int] = set()
    for name in parts.names():
        tensors = model.get_submodule(name).state_dict(keep_vars=True)
        mine.update(id(t) for local, t in tensors.items() if _KNOWN_TENSOR.fullmatch(local))
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in mine:
            continue
        if name in parameters:
            raise UnsupportedModelError(
                f"parameter {name!r} belongs to no covered part ({COVERED}); "
                f"remove it if it is unused, or {BY_HAND}"
            )
        raise UnsupportedModelError(
            f"buffer {name!r} belongs to no covered part ({COVERED}); register it with "
            f"persistent=False if the data did not shape it, or {BY_HAND}"
        )


def read_network(model: nn.Module, parts: Parts, input_kind: InputKind) -> Network:
    """The weights of a model's parts as a Network.

    Raises:
        UnsupportedModelError: an option of a part is not covered.
        InputError: weights are not finite, shapes do not fit.

    """
    linear: Any = model.get_submodule(parts.head)
    bias = None if linear.bias is None else Block("b_V", _value(linear.bias), "euclidean")
    head = Head(Block("V", _value(linear.weight), "spectral"), bias)
    table = None
    if parts.embedding is not None:
        table = _embedding_block(model.get_submodule(parts.embedding), parts.embedding)
    reads_tokens = table is None and input_kind == "onehot"
    rnn = model.get_submodule(parts.recurrent)
    layers = _layers(rnn, parts.recurrent, "column" if reads_tokens else "spectral")
    return Network(layers, head, input_kind, table)


def _one_module(model: Any) -> nn.Module:
    """The module behind a tuple of parts, torch.compile or data parallelism."""
    if isinstance(model, tuple):
        return Composition(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedModelError(
            "a TorchScript module hides its layers; pass the module that it was made from"
        )
    if type(model).__name__ == "OptimizedModule":
        model = model._orig_mod
    if type(model).__name__ in ("DataParallel", "DistributedDataParallel"):
        model = model.module
    if not isinstance(model, nn.Module):
        raise InputError(f"a {type(model).__name__} is not a torch module; pass an nn.Module")
    return model


def _possible_kinds(
    sequences: Any, embedded: bool, declared: InputKind | None
) -> tuple[InputKind, ...]:
    """The input kinds to try, in order."""
    if declared not in (None, "onehot", "real"):
        raise InputError(f"input_kind is {declared!r}; choose 'onehot' or 'real'")
    if embedded and declared == "real":
        raise InputError("the model embeds tokens, so its input_kind is 'onehot'; drop 'real'")
    if declared is not None:
        return (declared,)
    if embedded:
        return ("onehot",)
    if sequences is None:
        return ("real", "onehot")
    return ("onehot",) if np.ndim(sequences) == 2 else ("real",)


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
    if not isinstance(module, ROLES[role]):
        raise UnsupportedModelError(
            f"{_title(module)} {name!r} is not covered as the {role} part in this version; "
            f"it must be an nn.{ROLES[role].__name__}"
        )
    return name


def _only(model: nn.Module, role: str) -> str | None:
    names = [name for name, m in model.named_modules() if _type(m) is ROLES[role]]
    if len(names) > 1:
        kind = f"nn.{ROLES[role].__name__}"
        raise UnsupportedModelError(
            f"the model has {len(names)} {kind} modules ({', '.join(map(repr, names))}) and one is "
            f"covered in this version; remove what is unused, or {BY_HAND}"
        )
    return names[0] if names else None


def _refuse_other_layers(model: nn.Module, named: set[str]) -> None:
    covered = {n for n, m in model.named_modules() if _type(m) in ROLES.values()} | named
    inside = tuple(f"{name}." for name in covered)
    for name, module in model.named_modules():
        if name in covered or name.startswith(inside):
            continue
        own = [local for local, _ in module.named_parameters(recurse=False)]
        if not own:
            continue
        leaf = name and not list(module.children())
        if type(module).__module__.startswith("torch.nn") or leaf:
            raise UnsupportedModelError(
                f"{_title(module)} {name or 'given as the model'!r} is not covered in this version "
                f"({COVERED}); remove it if it is unused, or use a model of covered parts"
            )


def _type(module: nn.Module) -> type[nn.Module]:
    """The type that was written down, under any parametrization."""
    return parametrize.type_before_parametrizations(module)


def _title(module: nn.Module) -> str:
    kind = _type(module)
    return f"nn.{kind.__name__}" if kind.__module__.startswith("torch.nn") else kind.__name__


def _value(tensor: Tensor) -> Array:
    if tensor.is_meta:
        raise InputError("the model's weights are on the meta device; load them first")
    value: Array = tensor.detach().to("cpu", torch.float64).numpy()
    return value


def _embedding_block(module: Any, name: str) -> Block:
    if module.max_norm is not None:
        raise UnsupportedModelError(
            f"nn.Embedding {name!r} has max_norm={module.max_norm}, which rescales weights as it "
            "reads them; train without max_norm, or fold it into the weights"
        )
    value = _value(module.weight).T
    padding = module.padding_idx
    zero = padding is not None and not np.any(value[:, padding])
    return Block("E", value, "column", (padding,) if zero else ())


def _layers(rnn: Any, name: str, first_norm: Norm) -> tuple[Layer, ...]:
    if rnn.bidirectional:
        raise UnsupportedModelError(
            f"nn.RNN {name!r} with bidirectional=True is not covered in this version; "
            "train one direction"
        )
    layers = []
    for k in range(rnn.num_layers):
        suffix = "" if rnn.num_layers == 1 else str(k)
        W = _value(getattr(rnn, f"weight_ih_l{k}"))
        blocks = {
            "U": Block(f"U{suffix}", _value(getattr(rnn, f"weight_hh_l{k}")), "spectral"),
            "W": Block(f"W{suffix}", W, first_norm if k == 0 else "spectral"),
        }
        if rnn.bias:
            both = _value(getattr(rnn, f"bias_ih_l{k}")) + _value(getattr(rnn, f"bias_hh_l{k}"))
            blocks["b"] = Block(f"b{suffix}", both, "euclidean")
        layers.append(Layer("vanilla", blocks, rnn.nonlinearity))
    return tuple(layers)


def _refuse_stale_weights(rnn: Any, name: str) -> None:
    """nn.RNN keeps its own list of weights, which a parametrization does not reach."""
    for local, held in zip(rnn._flat_weights_names, rnn._flat_weights, strict=True):
        shown = getattr(rnn, local)
        if shown.data_ptr() != held.data_ptr() and not torch.equal(shown, held):
            raise UnsupportedModelError(
                f"nn.RNN {name!r} runs with another {local} than it shows, because torch's fused "
                "kernel does not see its parametrization; make the weight an ordinary parameter "
                "(torch.nn.utils.parametrize.remove_parametrizations) and check the model again"
            )
