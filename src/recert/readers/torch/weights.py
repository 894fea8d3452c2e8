"""The weights of a module's parts, in float64, and the Network that a plan makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recert.errors import UnsupportedModelError, type_of
from recert.networks.layers import Bidirectional, Dense, Layer, layer_of, suffix_of
from recert.networks.network import Block, Head, InputKind, Network, Read
from recert.readers.torch.parts import OWN, ModuleParts, title
from recert.readers.weights.assembly import two_rows
from recert.readers.weights.state_dicts import roles_of

Array = NDArray[np.float64]
CELLS: dict[type[nn.Module], str] = {
    nn.RNN: "vanilla",
    nn.RNNCell: "vanilla",
    nn.LSTM: "lstm",
    nn.LSTMCell: "lstm",
    nn.GRU: "gru",
    nn.GRUCell: "gru",
}


@dataclass(frozen=True)
class ReadingPlan:
    """How a model's parts are put together.

    Args:
        input_kind: what it reads.
        encoder: linear layers before the recurrent ones, with their activations.
        recurrent: recurrent layers, bottom first.
        hidden: linear layers of the head before the last, with their activations.
        head: the last linear layer.
        read: what the head reads of the top layer.
        half: 0 or 1 where the head reads one direction only, else None.
        onto: an activation of what the head reads, before any linear layer.
        embedding: or None.
    """

    input_kind: InputKind
    encoder: tuple[tuple[str, str], ...]
    recurrent: tuple[str, ...]
    hidden: tuple[tuple[str, str], ...]
    head: str
    read: Read = "step"
    half: int | None = None
    onto: str = "identity"
    embedding: str | None = None


class Weights:
    """A module's weights by part, read once each when they are first asked for."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._dense: dict[str, tuple[Array, Array | None]] = {}

    def dense(self, name: str) -> tuple[Array, Array | None]:
        """A linear layer's matrix and bias; one row of logits stays one."""
        if name not in self._dense:
            linear: Any = self._module.get_submodule(name)
            bias = None if linear.bias is None else _value(linear.bias)
            self._dense[name] = _value(linear.weight), bias
        return self._dense[name]

    def head(self, name: str) -> tuple[Array, Array | None]:
        """The last linear layer's matrix and bias, of one logit as two rows."""
        V, b = self.dense(name)
        return two_rows(V, b) if len(V) == 1 else (V, b)

    def embedding(self, name: str) -> Block:
        """The embedding, one column a token.

        Raises:
            UnsupportedModelError: its vectors are rescaled as they are read.
        """
        module: Any = self._module.get_submodule(name)
        if module.max_norm is not None:
            raise UnsupportedModelError(
                f"nn.Embedding {name!r} has max_norm={module.max_norm}, which rescales weights as "
                "it reads them; train without max_norm, or fold it into the weights"
            )
        value = _value(module.weight).T
        padding = module.padding_idx
        zero = padding is not None and not np.any(value[:, padding])
        return Block("E", value, "column", (padding,) if zero else ())

    def layers(
        self, names: tuple[str, ...], *, reads_tokens: bool
    ) -> tuple[Layer | Bidirectional, ...]:
        """The recurrent layers of several modules, one above the other."""
        modules: list[Any] = [self._module.get_submodule(name) for name in names]
        count = sum(getattr(module, "num_layers", 1) for module in modules)
        layers: list[Layer | Bidirectional] = []
        for module in modules:
            for k in range(getattr(module, "num_layers", 1)):
                first = reads_tokens and not layers
                ways = [
                    _layer(module, k, suffix_of(len(layers), count, reverse=reverse), first)
                    for reverse in ((False, True) if _two_way(module) else (False,))
                ]
                layers.append(Bidirectional(*ways) if len(ways) == 2 else ways[0])
        return tuple(layers)

    def network(self, plan: ReadingPlan) -> Network:
        """The Network of a plan, with blocks E, F, U, W, b, …, G, V, b_V.

        Raises:
            UnsupportedModelError: an option of a part is not covered.
            InputError: weights are not finite, shapes do not fit.
        """
        table = None if plan.embedding is None else self.embedding(plan.embedding)
        tokens = table is None and plan.input_kind == "onehot"
        encoder = tuple(
            self._dense_layer(part, "F", suffix_of(k, len(plan.encoder)), tokens and k == 0)
            for k, part in enumerate(plan.encoder)
        )
        layers = self.layers(plan.recurrent, reads_tokens=tokens and not encoder)
        hidden = [
            self._dense_layer(part, "G", suffix_of(k, len(plan.hidden)))
            for k, part in enumerate(plan.hidden)
        ]
        V, b = self.head(plan.head)
        last = Block("V", V, "spectral")
        width = layers[-1].d_out
        if plan.half is not None and hidden:
            hidden[0] = Dense(_half(hidden[0].A, plan.half), hidden[0].b, hidden[0].activation)
        elif plan.half is not None:
            last = _half(last, plan.half)
        if plan.onto != "identity":
            hidden.insert(0, Dense(Block("I", np.eye(width), "spectral"), None, plan.onto))
        bias = None if b is None else Block("b_V", b, "euclidean")
        head = Head(last, bias, tuple(hidden))
        return Network(layers, head, plan.input_kind, table, encoder, plan.read)

    def _dense_layer(
        self, part: tuple[str, str], letter: str, suffix: str, tokens: bool = False
    ) -> Dense:
        A, b = self.dense(part[0])
        return Dense(
            Block(f"{letter}{suffix}", A, "column" if tokens else "spectral"),
            None if b is None else Block(f"b_{letter}{suffix}", b, "euclidean"),
            part[1],
        )


def own_network(model: nn.Module, parts: ModuleParts) -> Network:
    """What a module says of itself, its blocks holding exactly the model's parameters.

    Raises:
        UnsupportedModelError: it says something else, or a parameter is in no block.
    """
    assert parts.own is not None
    network = getattr(model.get_submodule(parts.own), OWN)()
    if not isinstance(network, Network):
        raise UnsupportedModelError(
            f"{OWN}() gives {type_of(network)}; let it return a recert Network"
        )
    stated = _sorted([block.value for block in network.blocks()])
    readings = [_sorted(values) for values in _readings(model)]
    if not any(np.array_equal(mine, stated) for mine in readings):
        sizes = " or ".join(map(str, dict.fromkeys(mine.size for mine in readings)))
        raise UnsupportedModelError(
            f"the model has {sizes} parameters and the network of {OWN}() has {stated.size}, or "
            "their values differ; let every parameter be in exactly one block (both biases of "
            "torch's recurrent layers in one, as their sum)"
        )
    return network


def _readings(model: nn.Module) -> Iterator[list[Array]]:
    """The parameters as a Network may hold them.

    One by one; or with both biases of torch's recurrent layers summed, as `Weights` sums them; or
    with one logit as two rows, too.
    """
    every = effective_tensors(model)
    yield [_value(tensor) for tensor in every]
    names = [
        n for n, m in model.named_modules() if parametrize.type_before_parametrizations(m) in CELLS
    ]
    weights, summed, owned = Weights(model), [], set()
    for name in names:
        module = model.get_submodule(name)
        owned |= {id(tensor) for tensor in effective_tensors(module)}
        for layer in weights.layers((name,), reads_tokens=False):
            for way in layer.directions:
                summed += [block.value for block in way.blocks.values()]
    rest = [tensor for tensor in every if id(tensor) not in owned]
    yield summed + [_value(tensor) for tensor in rest]
    yield summed + [_halved(_value(tensor)) for tensor in rest]


def _halved(value: Array) -> Array:
    """One logit's weights or bias as two rows; others as they are."""
    return np.concatenate([-value / 2, value / 2]) if value.shape[:1] == (1,) else value


def effective_tensors(model: nn.Module) -> list[Tensor]:
    """The tensors that a module computes with: a parametrized weight in place of its originals."""
    hosts: list[Any] = [module for module in model.modules() if parametrize.is_parametrized(module)]
    originals = {id(p) for host in hosts for p in host.parametrizations.parameters()}
    plain: list[Tensor] = [p for p in model.parameters() if id(p) not in originals]
    return plain + [getattr(host, name) for host in hosts for name in host.parametrizations]


def refuse_stale_weights(model: nn.Module, names: tuple[str, ...]) -> None:
    """nn.RNN keeps its own list of weights, which a parametrization need not reach."""
    for name in names:
        rnn: Any = model.get_submodule(name)
        if not isinstance(rnn, nn.RNNBase) or _renews(rnn):
            continue
        weights: Any = zip(rnn._flat_weights_names, rnn._flat_weights, strict=True)
        for local, held in weights:
            shown: Any = getattr(rnn, local)
            if shown.data_ptr() != held.data_ptr() and not torch.equal(shown, held):
                raise UnsupportedModelError(
                    f"{title(rnn)} {name!r} runs with another {local} than it shows, because "
                    "torch's fused kernel does not see its parametrization; make the weight an "
                    "ordinary parameter (torch.nn.utils.parametrize.remove_parametrizations) and "
                    "check the model again"
                )


def _renews(rnn: Any) -> bool:
    """Whether the layer will see that its weights are others, and take them, when it next runs."""
    changed = getattr(rnn, "_weights_have_changed", None)
    return changed is not None and bool(changed())


def _layer(module: Any, k: int, suffix: str, reads_tokens: bool) -> Layer:
    end = f"_l{k}" if isinstance(module, nn.RNNBase) else ""
    end += "_reverse" if suffix.endswith("_reverse") else ""
    cell = CELLS[next(kind for kind in CELLS if isinstance(module, kind))]
    W, U = (_value(getattr(module, f"weight_{what}{end}")) for what in ("ih", "hh"))
    biases = None
    if module.bias:
        biases = (
            _value(getattr(module, f"bias_ih{end}")),
            _value(getattr(module, f"bias_hh{end}")),
        )
    P = getattr(module, f"weight_hr{end}", None)
    roles = roles_of(cell, W, U, biases, None if P is None else _value(P))
    return layer_of(
        cell,
        roles,
        suffix=suffix,
        reads_tokens=reads_tokens,
        activation=module.nonlinearity if cell == "vanilla" else "tanh",
    )


def _two_way(module: Any) -> bool:
    return bool(getattr(module, "bidirectional", False))


def _half(block: Block, half: int) -> Block:
    """A matrix that reads one of two directions, as one that reads both."""
    width = block.columns
    nothing = np.zeros_like(block.value)
    value = np.hstack([nothing, block.value] if half else [block.value, nothing])
    zero = tuple(range(width) if half else range(width, 2 * width))
    return Block(block.name, value, block.norm, zero)


def _sorted(values: list[Array]) -> Array:
    return np.sort(np.concatenate([np.ravel(value) for value in values]))


def _value(tensor: Tensor) -> Array:
    value: Array = tensor.detach().to("cpu", torch.float64).numpy()
    return value
