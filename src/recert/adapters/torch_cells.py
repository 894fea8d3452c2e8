"""One direction of a recurrent layer in torch: its gates stacked, its steps computed in place.

These loops beat torch's own CPU kernels in float64, which allocate for every operation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recert.activations import LEAK
from recert.blocks import Block
from recert.layers import Dense, Layer

# The gates in the order in which they are stacked: sigmoids first, side by side.
ORDER = {
    "vanilla": ("",),
    "mgu": ("_r", "_h"),
    "gru": ("_r", "_z", "_n"),
    "gru_original": ("_r", "_z", "_n"),
    "lstm": ("_g", "_r", "_o", "_c"),
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda v: v,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": lambda v: functional.leaky_relu(v, LEAK),
    "elu": functional.elu,
}


class Way:
    """The weights of a layer in one direction, gates stacked, and its step.

    Attributes:
        W: (d_in, gates·d_h), transposed.
        b: (gates·d_h,), added to W x.
        width: gates·d_h.
        dimensions: of the output and of the state inside.
    """

    def __init__(self, layer: Layer) -> None:
        gates = ORDER[layer.cell]
        self.d_h, self.width = layer.d_h, len(gates) * layer.d_h
        self.dimensions = (layer.d_out, layer.d_h)
        self.W = torch.cat([transposed(layer.blocks[f"W{gate}"]) for gate in gates], dim=1)
        self._U = torch.cat([transposed(layer.blocks[f"U{gate}"]) for gate in gates], dim=1)
        self.b = torch.cat([vector(layer.blocks.get(f"b{gate}"), self.d_h) for gate in gates])
        self._P = transposed(layer.blocks["P"]) if "P" in layer.blocks else None
        self._relu = layer.activation == "relu"
        # U_n h + b_hn is multiplied by r, so it cannot be added to the other sums.
        inner = vector(layer.blocks.get("b_hn"), self.d_h)
        self._b_U = torch.cat([torch.zeros(self.width - self.d_h, dtype=torch.float64), inner])
        self.step: Callable[[Tensor, Tensor, Tensor], None] = {
            "vanilla": self._vanilla,
            "mgu": self._mgu,
            "gru": self._gru,
            "gru_original": self._gru_original,
            "lstm": self._lstm,
        }[layer.cell]

    def drive(self, x: Tensor, out: Tensor) -> Tensor:
        """W x + b of (n, d_in) into (n, width)."""
        return torch.addmm(self.b, x, self.W, out=out)

    def _vanilla(self, z: Tensor, h: Tensor, inside: Tensor) -> None:
        z.addmm_(h, self._U)
        if self._relu:
            torch.clamp(z, min=0.0, out=h)
        else:
            torch.tanh(z, out=h)

    def _mgu(self, z: Tensor, h: Tensor, inside: Tensor) -> None:
        d = self.d_h
        r, candidate = z[:, :d], z[:, d:]
        r.addmm_(h, self._U[:, :d]).sigmoid_()
        candidate.addmm_(torch.mul(r, h, out=inside), self._U[:, d:]).tanh_()
        torch.lerp(h, candidate, r, out=h)

    def _gru(self, z: Tensor, h: Tensor, inside: Tensor) -> None:
        d = self.d_h
        inner = torch.addmm(self._b_U, h, self._U)
        z[:, : 2 * d].add_(inner[:, : 2 * d]).sigmoid_()
        n = z[:, 2 * d :].addcmul_(z[:, :d], inner[:, 2 * d :]).tanh_()
        torch.lerp(n, h, z[:, d : 2 * d], out=h)

    def _gru_original(self, z: Tensor, h: Tensor, inside: Tensor) -> None:
        d = self.d_h
        z[:, : 2 * d].addmm_(h, self._U[:, : 2 * d]).sigmoid_()
        n = z[:, 2 * d :]
        n.addmm_(torch.mul(z[:, :d], h, out=inside), self._U[:, 2 * d :]).tanh_()
        torch.lerp(n, h, z[:, d : 2 * d], out=h)

    def _lstm(self, z: Tensor, h: Tensor, c: Tensor) -> None:
        d = self.d_h
        z.addmm_(h, self._U)
        z[:, : 3 * d].sigmoid_()
        candidate = z[:, 3 * d :].tanh_()
        c.mul_(z[:, :d]).addcmul_(z[:, d : 2 * d], candidate)
        o = z[:, 2 * d : 3 * d]
        if self._P is None:
            torch.tanh(c, out=h).mul_(o)
        else:
            torch.mm(torch.tanh(c).mul_(o), self._P, out=h)


class TorchDense:
    """A dense layer, (n, d_in) → (n, d_out)."""

    def __init__(self, dense: Dense) -> None:
        self.A, self.b = transposed(dense.A), vector(dense.b, dense.A.rows)
        self._activation = ACTIVATIONS[dense.activation]

    def __call__(self, v: Tensor) -> Tensor:
        """σ(A v + b)."""
        return self._activation(torch.addmm(self.b, v, self.A))

    def of_tokens(self) -> Tensor:
        """What every token gives, (tokens, d_out)."""
        return self._activation(self.A + self.b)


def transposed(block: Block) -> Tensor:
    """A block's value, transposed, in float64."""
    return torch.from_numpy(np.array(block.value.T, order="C"))


def vector(block: Block | None, size: int) -> Tensor:
    """A bias, or zeros."""
    return torch.from_numpy(np.zeros(size) if block is None else np.array(block.value))
