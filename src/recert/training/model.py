"""The torch module that is trained here: any trainable cell, layers, directions, a linear head.

The cells' steps in torch, written for speed on short sequences and few units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from recert.networks import cells
from recert.networks.blocks import Block
from recert.networks.layers import Bidirectional, Layer
from recert.networks.network import Head, Network, Read
from recert.training.architecture import Architecture, Direction, Part


class RecurrentClassifier(nn.Module):
    """Recurrent layers from zero states and a linear head, y = V h + b_V.

    The layers compute the equations of `recert.networks.cells`; conv cells read tokens through an
    embedding.

    Args:
        input_dim: d_x; for tokens the size of the alphabet.
        d_h: hidden dimension.
        classes: K.
        options: the other fields of `recert.training.architecture.Architecture`.

    Raises:
        InputError: an option is out of range.

    """

    def __init__(self, input_dim: int, d_h: int, classes: int, **options: Any) -> None:
        super().__init__()
        self.architecture = Architecture(input_dim, d_h, classes, **options)
        self.weights = nn.ParameterDict()
        for part in self.architecture.parts():
            self.weights[part.name] = nn.Parameter(_drawn(part))
            if part.norm == "operator":
                index = bank_index(part.shape, part.positions)
                self.register_buffer(f"index_{part.name}", index, persistent=False)

    @property
    def tokens(self) -> bool:
        """Whether the inputs are integers."""
        return self.architecture.tokens

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Outputs (B, T, K) at all steps; (B, K) at step `lengths[i]` of sequence i.

        `x` is (B, T) integers, padded with −1, or (B, T, d_x) reals. A network that reads final
        states gives (B, K) always, without `lengths` those of whole sequences.
        """
        x = x.transpose(0, 1)
        if self.tokens:
            x = torch.where(x < 0, self.architecture.input_dim, x.long())
        else:
            x = x.to(self.weights["V"].dtype)
        if lengths is None and self.architecture.read == "step":
            return self.head(self.states(x)).transpose(0, 1)
        if lengths is None:
            lengths = _whole(x)
        return self.head(self.last_states(x, lengths.long()))

    def head(self, h: Tensor) -> Tensor:
        """Outputs (…, K) of states (…, d_out)."""
        bias = self.weights["b_V"] if self.architecture.bias else None
        return nn.functional.linear(h, self.weights["V"], bias)

    def states(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the top layer gives out at every step, (T, B, d_out).

        Here `x` has the time first: (T, B) integers with d_x for padding, or (T, B, d_x) reals.
        `lengths` tell where two-way layers begin to read backwards; None means at step T.
        """
        lengths = _whole(x) if lengths is None else lengths
        return _side_by_side(self._top(x, lengths), lengths)

    def last_states(self, x: Tensor, lengths: Tensor) -> Tensor:
        """What the head reads of each sequence, (B, d_out): its last or its final states."""
        if self.architecture.read == "step":
            return _at(self.states(x, lengths), lengths)
        return torch.cat([_at(way, lengths) for way in self._top(x, lengths)], dim=1)

    def blocks(self) -> dict[str, nn.Parameter]:
        """The trained parameters by the names of the Network's blocks."""
        return dict(self.weights.items())

    def recert_network(self) -> Network:
        """The same function as a `Network`, its weights exactly these in float64."""
        plan = self.architecture
        layers: list[Layer | Bidirectional] = []
        for directions in plan.stack:
            ways = [
                Layer(
                    plan.cell,
                    {role: self._block(part) for role, part in way.parts.items()},
                    plan.activation,
                )
                for way in directions
            ]
            layers.append(Bidirectional(*ways) if len(ways) == 2 else ways[0])
        head = [self._block(part) for part in plan.head]
        embedding = None if plan.embedding is None else self._block(plan.embedding)
        return Network(
            tuple(layers),
            Head(head[0], head[1] if plan.bias else None),
            "onehot" if plan.tokens else "real",
            embedding,
            read=cast(Read, plan.read),
        )

    def _block(self, part: Part) -> Block:
        value = self.weights[part.name].detach().to("cpu", torch.float64).numpy()
        return Block(part.name, value, part.norm, positions=part.positions)

    def _top(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """The top layer's states (T, B, d_h), one tensor a direction, in the order of reading."""
        ways: list[Tensor] = []
        for directions in self.architecture.stack:
            if ways:
                x = _side_by_side(ways, lengths)
            ways = [self._scan(way, turned(x, lengths) if way.reverse else x) for way in directions]
        return ways

    def _scan(self, way: Direction, x: Tensor) -> Tensor:
        """The states of one layer in one direction, (T, B, d_h)."""
        blocks = {role: self._matrix(part) for role, part in way.parts.items()}
        W = [block for role, block in blocks.items() if role.startswith("W")]
        stacked = W[0] if len(W) == 1 else torch.cat(W)
        if x.is_floating_point():
            drive = x @ stacked.T
        elif way.reads_tokens:
            drive = look_up(stacked, x)
        else:
            drive = look_up(stacked @ self.weights["E"], x)
        b = [block for role, block in blocks.items() if role.startswith("b") and role != "b_hn"]
        if b:
            drive = drive + (b[0] if len(b) == 1 else torch.cat(b))
        plan = self.architecture
        return torch.stack(SCANS[plan.cell](drive, blocks, plan.activation))

    def _matrix(self, part: Part) -> Tensor:
        """A block as the matrix by which it acts; a conv cell's bias at every position."""
        value = self.weights[part.name]
        if part.norm == "operator":
            return bank_matrix(value, self.get_buffer(f"index_{part.name}"))
        if self.architecture.convolutional and part.letter == "b":
            return value.repeat_interleave(self.architecture.positions)
        return value


class ModelReading(nn.Module):
    """A model's outputs (n, K) at the steps that have labels, to call with other weights.

    Args:
        model: as it is, or with weights given by `torch.func.functional_call`.
        last: labels (B,) stand for the last step of each sequence; otherwise labels are (B, T).
    """

    def __init__(self, model: RecurrentClassifier, last: bool) -> None:
        super().__init__()
        self.model, self.last = model, last

    def forward(self, x: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Outputs for inputs (T, B, …), lengths (B,) and labels, negative where there is none."""
        if self.last:
            return self.model.head(self.model.last_states(x, lengths))
        return self.model.head(self.model.states(x, lengths)[labels.T >= 0])


def _drawn(part: Part) -> Tensor:
    """Initial values for modules that are built by hand; training draws its own."""
    return torch.randn(part.shape) / max(1, part.shape[-1]) ** 0.5


def _whole(x: Tensor) -> Tensor:
    """Lengths (B,) of sequences (T, B, …) without padding."""
    return torch.full((x.shape[1],), x.shape[0], device=x.device)


def _side_by_side(ways: list[Tensor], lengths: Tensor) -> Tensor:
    """Both directions in the order of the sequence, (T, B, d_out)."""
    if len(ways) == 1:
        return ways[0]
    return torch.cat([ways[0], turned(ways[1], lengths)], dim=2)


def _at(states: Tensor, lengths: Tensor) -> Tensor:
    """States (T, B, d) at step `lengths[i]` of sequence i."""
    return states[lengths - 1, torch.arange(len(lengths), device=states.device)]


Blocks = Mapping[str, Tensor]
Scan = Callable[[Tensor, Blocks, str], list[Tensor]]


def vanilla(drive: Tensor, blocks: Blocks, activation: str) -> list[Tensor]:
    """H_t = σ(U h_{t−1} + drive_t); also for conv cells, whose U is then a matrix."""
    activate = torch.tanh if activation == "tanh" else torch.relu
    states = [activate(drive[0])]
    transposed = blocks["U"].T
    for step in drive[1:]:
        states.append(activate(torch.addmm(step, states[-1], transposed)))
    return states


def mgu(drive: Tensor, blocks: Blocks, activation: str) -> list[Tensor]:
    """r = σ(U_r h + …), h̃ = tanh(U_h (r⊙h) + …), h = (1−r)⊙h + r⊙h̃."""
    d_h = blocks["U_r"].shape[0]
    gates, candidates = drive.split(d_h, dim=2)
    U_r, U_h = blocks["U_r"].T, blocks["U_h"].T
    states = [torch.sigmoid(gates[0]) * torch.tanh(candidates[0])]
    for gate, candidate in zip(gates[1:], candidates[1:], strict=True):
        h = states[-1]
        r = torch.sigmoid(torch.addmm(gate, h, U_r))
        new = torch.tanh(torch.addmm(candidate, r * h, U_h))
        states.append(torch.lerp(h, new, r))
    return states


def gru(drive: Tensor, blocks: Blocks, activation: str) -> list[Tensor]:
    """n = tanh(W_n x + b_n + r⊙(U_n h + b_hn)), h = (1−z)⊙n + z⊙h."""
    d_h = blocks["U_r"].shape[0]
    U = torch.cat([blocks[f"U{gate}"] for gate in cells.CELLS["gru"].gates]).T
    gates, candidates = drive.split([2 * d_h, d_h], dim=2)
    h = drive.new_zeros(drive.shape[1], d_h)
    states = []
    for gate, candidate in zip(gates, candidates, strict=True):
        recurrent = h @ U
        r, z = torch.sigmoid(gate + recurrent[:, : 2 * d_h]).split(d_h, dim=1)
        inner = recurrent[:, 2 * d_h :]
        if "b_hn" in blocks:
            inner = inner + blocks["b_hn"]
        h = torch.lerp(torch.tanh(torch.addcmul(candidate, r, inner)), h, z)
        states.append(h)
    return states


def lstm(drive: Tensor, blocks: Blocks, activation: str) -> list[Tensor]:
    """c = g⊙c + r⊙c̃, h = o⊙tanh(c) with forget g, input r, output o."""
    d_h = blocks["U_g"].shape[0]
    U = torch.cat([blocks[f"U{gate}"] for gate in cells.CELLS["lstm"].gates]).T
    h = c = drive.new_zeros(drive.shape[1], d_h)
    states = []
    for step in drive:
        z = torch.addmm(step, h, U)
        g, r, o = torch.sigmoid(z[:, : 3 * d_h]).split(d_h, dim=1)
        c = torch.addcmul(g * c, r, torch.tanh(z[:, 3 * d_h :]))
        h = o * torch.tanh(c)
        states.append(h)
    return states


SCANS: dict[str, Scan] = {
    "vanilla": vanilla,
    "mgu": mgu,
    "gru": gru,
    "lstm": lstm,
    "conv": vanilla,
}


def look_up(W: Tensor, tokens: Tensor) -> Tensor:
    """Columns of W (d, d_x) that tokens (T, B) name; zeros for d_x, which stands for padding.

    Looking columns up costs far less than multiplying by one-hot vectors.
    """
    return nn.functional.embedding(tokens, torch.cat([W.T, W.new_zeros(1, W.shape[0])]))


def bank_index(shape: tuple[int, ...], positions: int) -> Tensor:
    """Where each entry of a filter bank's matrix is found in the flattened bank and one zero."""
    out, channels, width = shape
    p = torch.arange(positions)
    j = p[None, :] - p[:, None] + (width - 1) // 2  # which tap leads from position q to p
    taps = torch.arange(out * channels).reshape(out, 1, channels, 1) * width + j[None, :, None, :]
    inside = ((j >= 0) & (j < width))[None, :, None, :].expand_as(taps)
    nothing = torch.full_like(taps, out * channels * width)
    return torch.where(inside, taps, nothing).reshape(out * positions, channels * positions)


def bank_matrix(bank: Tensor, index: Tensor) -> Tensor:
    """The matrix (channels out·L, channels in·L) by which a filter bank acts."""
    return torch.cat([bank.reshape(-1), bank.new_zeros(1)])[index]


def turned(x: Tensor, lengths: Tensor) -> Tensor:
    """Sequences (T, B, …) each read from its own end; what is past the end stays where it is."""
    t = torch.arange(x.shape[0], device=x.device)[:, None]
    index = torch.where(t < lengths[None, :], lengths[None, :] - 1 - t, t)
    return x[index, torch.arange(x.shape[1], device=x.device)[None, :]]
