"""Logits of a Network through torch's float64 kernels, which beat numpy's on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recert.errors import UnsupportedModelError
from recert.network import Block, Layer, Network
from recert.predict import Predictor, falling, restored
from recert.sample import At

Array = NDArray[np.float64]
Drive = Callable[[Tensor], Tensor]


def torch_predictor(network: Network) -> Predictor:
    """A function (x, lengths, at) → logits (n, K), or (n, T, K) for ``at="average"``, in float64.

    Args:
        network: of vanilla layers; its weights are used exactly.

    Raises:
        UnsupportedModelError: a layer is not vanilla.

    """
    layers = [_TorchLayer(layer) for layer in network.layers]
    drive = _first_drive(network, layers[0])
    V, b_V = _transposed(network.head.V), _vector(network.head.b, network.K)

    def predict(x: NDArray[Any], lengths: NDArray[np.int64], at: At) -> Array:
        until = int(at) if isinstance(at, int) else x.shape[1]
        order = falling(lengths)
        cut = x[:, :until] if order is None else x[order, :until]
        inputs = np.ascontiguousarray(np.moveaxis(cut, 1, 0))
        active = (lengths[None, :] >= np.arange(1, until + 1)[:, None]).sum(axis=1)
        with torch.inference_mode():
            y = _run(layers, drive, torch.from_numpy(inputs), active, V, b_V, at == "average")
        return y if order is None else restored(y, order)

    return predict


class _TorchLayer:
    """A vanilla layer's weights, transposed, and its step."""

    def __init__(self, layer: Layer) -> None:
        if layer.cell != "vanilla":
            raise UnsupportedModelError(
                f"cell {layer.cell!r} has no torch prediction; use recert.predict.network_predictor"
            )
        self.U, self.W = _transposed(layer.blocks["U"]), _transposed(layer.blocks["W"])
        self.b = _vector(layer.blocks.get("b"), layer.d_h)
        self.relu = layer.activation == "relu"
        self.d_h = layer.d_h

    def drive(self, x: Tensor) -> Tensor:
        """W x + b, (n, d_in) → (n, d_h)."""
        return torch.addmm(self.b, x, self.W)

    def step(self, drive: Tensor, h: Tensor) -> None:
        """Turn h into σ(U h + drive), using up the drive."""
        z = drive.addmm_(h, self.U)
        if self.relu:
            torch.clamp(z, min=0.0, out=h)
        else:
            torch.tanh(z, out=h)


def _first_drive(network: Network, layer: _TorchLayer) -> Drive:
    """What the first layer adds to U h: looked up by token, or W x + b."""
    if network.input_kind == "real":
        return lambda x: layer.drive(x.to(torch.float64))
    table = layer.W + layer.b
    if network.embedding is not None:
        table = layer.drive(_transposed(network.embedding))
    return lambda tokens: functional.embedding(tokens, table)


def _run(
    layers: list[_TorchLayer],
    drive: Drive,
    inputs: Tensor,
    active: NDArray[np.int64],
    V: Tensor,
    b_V: Tensor,
    every: bool,
) -> Array:
    """Logits at each sequence's last step, or at every step; rows sorted by falling length."""
    n, steps = inputs.shape[1], inputs.shape[0]
    states = [torch.zeros((n, layer.d_h), dtype=torch.float64) for layer in layers]
    y = torch.zeros((n, steps, len(b_V)), dtype=torch.float64) if every else None
    for t, (x, count) in enumerate(zip(inputs, active.tolist(), strict=True)):
        if count == 0:
            break
        above = drive(x[:count])
        for k, (layer, h) in enumerate(zip(layers, states, strict=True)):
            layer.step(above if k == 0 else layer.drive(above), h[:count])
            above = h[:count]
        if y is not None:
            y[:count, t] = torch.addmm(b_V, above, V)
    result: Array = (torch.addmm(b_V, states[-1], V) if y is None else y).numpy()
    return result


def _transposed(block: Block) -> Tensor:
    return torch.from_numpy(np.array(block.value.T, order="C"))


def _vector(block: Block | None, size: int) -> Tensor:
    return torch.from_numpy(np.zeros(size) if block is None else np.array(block.value))
