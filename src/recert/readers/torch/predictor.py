"""One direction of a recurrent layer in torch: its gates stacked, its steps computed in place.

These loops beat torch's own CPU kernels in float64, which allocate for every operation.

Logits of a Network through torch's float64 operations, which beat numpy's on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recert.networks.activations import LEAK
from recert.networks.blocks import Block
from recert.networks.forward import (
    Predictor,
    active_rows,
    check_reading,
    in_pieces,
    network_predictor,
)
from recert.networks.layers import Dense, Layer
from recert.networks.network import Network
from recert.readers.torch.running import usual_torch
from recert.samples.sample import At

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


Array = NDArray[np.float64]

# Entries of all gates' sums in one step: enough to keep the kernels busy, few enough for a cache.
BLOCK = 1 << 17
# Entries of a table with what each token adds to the gates.
MOST_TABLE = 1 << 23


def torch_predictor(network: Network) -> Predictor:
    """A function (x, lengths, at) → logits (n, K), or (n, T, K) for ``at="average"``, in float64.

    Args:
        network: its weights are used exactly. Networks with filter banks are left to
            `recert.networks.forward.network_predictor`.

    """
    if any(layer.cell not in ORDER for layer in network.directions()) or any(
        block.norm == "operator" for block in network.blocks()
    ):
        return network_predictor(network)
    with usual_torch():
        runner = _TorchNetwork(network)

    def predict(x: NDArray[Any], lengths: NDArray[np.int64], at: At) -> Array:
        check_reading(network, at)
        with torch.inference_mode(), usual_torch():
            return in_pieces(network, x, lengths, at, runner.logits)

    return predict


class _TorchNetwork:
    """A network's weights in torch, and its walk over sequences of falling length."""

    def __init__(self, network: Network) -> None:
        self.layers = [tuple(map(Way, layer.directions)) for layer in network.layers]
        self.inputs = _Inputs(network, self.layers[0])
        self.head = _head(network)
        self.read, self.K = network.read, network.K
        widest = max(way.width for ways in self.layers for way in ways)
        self.rows = max(256, BLOCK // widest)

    def logits(
        self, network: Network, x: NDArray[Any], lengths: NDArray[np.int64], at: At
    ) -> Array:
        """(n, K), or (n, T, K); block by block, so that a block's states stay in the cache."""
        y = np.zeros((len(x), x.shape[1], self.K) if at == "average" else (len(x), self.K))
        for i in range(0, len(x), self.rows):
            rows = slice(i, i + self.rows)
            n = lengths[rows]
            # Copied, for torch warns of arrays that it may not write to.
            cut = np.array(np.swapaxes(x[rows, : int(n[0])], 0, 1), order="C")
            self._block(torch.from_numpy(cut), n, at, torch.from_numpy(y[rows]))
        return y

    def _block(self, x: Tensor, lengths: NDArray[np.int64], at: At, y: Tensor) -> None:
        """Logits of sequences (T, n) or (T, n, d_x) into y."""
        active: list[int] = active_rows(lengths, len(x)).tolist()
        drive = self.inputs.drive(x, active)
        for ways in self.layers[:-1]:
            drive = _drive_of(_outputs(ways, drive, active))
        top = self.layers[-1]
        if at == "average":
            for t, h in enumerate(_outputs(top, drive, active)):
                y[: active[t], t] = self.head(h[: active[t]])
        elif self.read == "mean":
            y.copy_(self.head(_mean(top, drive, active, lengths)))
        else:
            y.copy_(self.head(_last(top, drive, active, final=self.read == "final")))


# (way, step, sequences, memory) → what the step adds to U h, (sequences, width).
Drive = Callable[[Way, int, Any, Tensor], Tensor]


class _Inputs:
    """What the first layer adds to U h: looked up by token where a table is small, or W x + b."""

    def __init__(self, network: Network, ways: tuple[Way, ...]) -> None:
        self._encoder = [TorchDense(dense) for dense in network.encoder]
        self._rows: Tensor | None = None
        self._tables: dict[Way, Tensor] = {}
        if network.input_kind == "real":
            return
        if network.embedding is not None:
            self._rows = self._encoded(transposed(network.embedding))
        elif self._encoder:
            self._rows = self._encoded(self._encoder[0].of_tokens(), start=1)
        if self._rows is None:
            self._tables = {way: way.W + way.b for way in ways}
        elif network.d_x * sum(way.width for way in ways) <= MOST_TABLE:
            self._tables = {way: torch.addmm(way.b, self._rows, way.W) for way in ways}

    def drive(self, x: Tensor, active: list[int]) -> Drive:
        """The drive of sequences (T, n) or (T, n, d_x)."""
        if self._tables:
            return lambda way, t, rows, z: torch.index_select(
                self._tables[way], 0, x[t, rows], out=z
            )
        if self._rows is not None:
            table = self._rows
            return _drive_of([table[step[:n]] for step, n in zip(x, active, strict=True)])
        x = x.to(torch.float64)
        if self._encoder:
            return _drive_of([self._encoded(step[:n]) for step, n in zip(x, active, strict=True)])
        return _drive_of(x)

    def _encoded(self, v: Tensor, start: int = 0) -> Tensor:
        for dense in self._encoder[start:]:
            v = dense(v)
        return v


def _drive_of(values: Any) -> Drive:
    """W x + b of what a layer reads at every step: T times (n, d_in)."""
    return lambda way, t, rows, z: way.drive(values[t][rows], z)


def _head(network: Network) -> Callable[[Tensor], Tensor]:
    """(n, d) → (n, K)."""
    hidden = [TorchDense(dense) for dense in network.head.hidden]
    V, b = transposed(network.head.V), vector(network.head.b, network.K)
    pool = network.head.pool
    P = None if pool is None else torch.from_numpy(np.array(pool.matrix.T, order="C"))

    def head(h: Tensor) -> Tensor:
        for dense in hidden:
            h = dense(h)
        return torch.addmm(b, h, V) if P is None else (h @ V) @ P + b

    return head


def _scan(
    way: Way,
    drive: Drive,
    active: list[int],
    order: Iterable[int],
    each: Callable[[int, Tensor], object] | None = None,
) -> Tensor:
    """The states (n, d_out) after the steps in that order; ``each`` sees the active rows' ones.

    Sequences that have ended keep their states, those not begun have zeros, in either order.
    """
    n = active[0]
    h, inside = (torch.zeros((n, size), dtype=torch.float64) for size in way.dimensions)
    memory = torch.empty((n, way.width), dtype=torch.float64)
    for t in order:
        count = active[t]
        way.step(drive(way, t, slice(count), memory[:count]), h[:count], inside[:count])
        if each is not None:
            each(t, h[:count])
    return h


def _orders(ways: tuple[Way, ...], active: list[int]) -> list[tuple[Way, Iterable[int], slice]]:
    """Each direction, the steps in its order, and its columns in the output."""
    found: list[tuple[Way, Iterable[int], slice]] = []
    start = 0
    for k, way in enumerate(ways):
        end = start + way.dimensions[0]
        steps = range(len(active))
        found.append((way, reversed(steps) if k else steps, slice(start, end)))
        start = end
    return found


def _size(ways: tuple[Way, ...]) -> int:
    return sum(way.dimensions[0] for way in ways)


def _outputs(ways: tuple[Way, ...], drive: Drive, active: list[int]) -> Tensor:
    """What a layer gives out at every step, (T, n, d_out); rows that are not active are unset."""
    out = torch.empty((len(active), active[0], _size(ways)), dtype=torch.float64)
    for way, order, columns in _orders(ways, active):

        def keep(t: int, h: Tensor, columns: slice = columns) -> None:
            out[t, : len(h), columns] = h

        _scan(way, drive, active, order, keep)
    return out


def _mean(
    ways: tuple[Way, ...], drive: Drive, active: list[int], lengths: NDArray[np.int64]
) -> Tensor:
    """The mean of the outputs over each sequence's steps, (n, d_out)."""
    total = torch.zeros((active[0], _size(ways)), dtype=torch.float64)
    for way, order, columns in _orders(ways, active):

        def add(t: int, h: Tensor, columns: slice = columns) -> None:
            total[: len(h), columns] += h

        _scan(way, drive, active, order, add)
    return total / torch.from_numpy(lengths)[:, None]


def _last(ways: tuple[Way, ...], drive: Drive, active: list[int], *, final: bool) -> Tensor:
    """The outputs at each sequence's last step, or those with which each direction ends."""
    forward, *backward = ways
    parts = [_scan(forward, drive, active, range(len(active)))]
    for way in backward:
        if final:
            parts.append(_scan(way, drive, active, reversed(range(len(active)))))
        else:
            parts.append(_first_steps(way, drive, active))
    return torch.cat(parts, dim=1) if backward else parts[0]


def _first_steps(way: Way, drive: Drive, active: list[int]) -> Tensor:
    """At a sequence's last step the backward direction has read one input only."""
    h, inside = (torch.zeros((active[0], size), dtype=torch.float64) for size in way.dimensions)
    memory = torch.empty((active[0], way.width), dtype=torch.float64)
    for t, (count, after) in enumerate(zip(active, [*active[1:], 0], strict=True)):
        if count > after:
            rows = slice(after, count)
            way.step(drive(way, t, rows, memory[rows]), h[rows], inside[rows])
    return h
