"""Why no plan of its parts computes what a module computes, said as well as can be."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from recert.errors import ParityError, UnsupportedModelError
from recert.readers.torch.calls import Arguments
from recert.readers.torch.parts import BY_HAND, ModuleParts, title
from recert.readers.torch.running import CallForm, InputGroup, Runner, Usage, evaluation_copy, same

# Activations of torch that are none of the package's, or only with their usual constants.
_OTHER = (
    nn.GELU, nn.SiLU, nn.Mish, nn.SELU, nn.CELU, nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid,
    nn.Hardswish, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink, nn.Tanhshrink,
    nn.LogSigmoid, nn.RReLU, nn.GLU, nn.Threshold,
)  # fmt: skip


def blame(
    model: nn.Module,
    parts: ModuleParts,
    arguments: Arguments,
    usage: Usage,
    groups: list[InputGroup],
) -> None:
    """Refuse a module for memory, for unused parts or for an activation, if that can be shown.

    Args:
        model: the module.
        parts: of the module.
        arguments: what its forward asks for.
        usage: how it is used.
        groups: sequences on which it may run.

    Raises:
        ParityError: it keeps a state between calls, or draws random numbers.
        UnsupportedModelError: a part plays no role, or an activation is not covered.
    """
    unused = next(filter(None, (_unused(model, arguments, usage, group) for group in groups)), [])
    for part in parts.names():
        names = [name for name in unused if name.startswith(f"{part}.")]
        if names and len(names) == len(list(model.get_submodule(part).parameters())):
            raise UnsupportedModelError(
                f"{title(model.get_submodule(part))} {part!r} plays no part in what the model "
                f"returns, nor does its parameter {names[0]!r}; remove it from the module"
            )
    if groups:
        _refuse_changing(model, arguments, usage, groups[0])
    for name, module in model.named_modules():
        usual = {nn.LeakyReLU: ("negative_slope", 0.01), nn.ELU: ("alpha", 1.0)}.get(type(module))
        other = usual is not None and getattr(module, usual[0]) != usual[1]
        if isinstance(module, _OTHER) or other:
            raise UnsupportedModelError(
                f"{title(module)} {name!r} is no activation that is covered, which are the "
                "identity, tanh, relu, sigmoid, leaky_relu (0.01) and elu (1.0); train with one of "
                "them"
            )


def no_order(model: nn.Module, parts: ModuleParts) -> UnsupportedModelError:
    """That the layers' dimensions allow no order, with the dimensions."""
    shapes = []
    for name in (*(() if parts.embedding is None else (parts.embedding,)), *parts.recurrent):
        shapes.append(f"{title(model.get_submodule(name))} {name!r}")
    for name in parts.linears:
        linear: Any = model.get_submodule(name)
        shapes.append(f"nn.Linear {name!r} ({linear.in_features} to {linear.out_features})")
    return UnsupportedModelError(
        f"{', '.join(shapes)} do not form a chain of encoder, recurrent layers and head, each "
        f"reading what the one before it gives; remove what is unused, or {BY_HAND}"
    )


def _unused(model: nn.Module, arguments: Arguments, usage: Usage, group: InputGroup) -> list[str]:
    """Parameters on which the answer does not depend; none if that cannot be found out."""
    try:
        module = copy.deepcopy(model).to("cpu", torch.float64).train(False)
        for parameter in module.parameters():
            parameter.requires_grad_(True)
        named = dict(module.named_parameters())
        with torch.enable_grad():
            form = CallForm(usage.orders[0])
            total = Runner(module, arguments, usage).call(group, form).sum()
            found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    except Exception:  # a user's module may raise anything
        return []
    return [name for name, value in zip(named, found, strict=True) if value is None]


def _refuse_changing(
    model: nn.Module, arguments: Arguments, usage: Usage, group: InputGroup
) -> None:
    """ParityError for a module that gives other outputs for the same sequences."""
    with evaluation_copy(model, None) as module:
        try:
            runner, form = Runner(module, arguments, usage), CallForm(usage.orders[0])
            if same(*(runner.call(group, form) for _ in range(2))):
                return
            why = runner.why_other(group, form)
        except Exception:  # a user's module may raise anything
            return
    raise ParityError(why)
