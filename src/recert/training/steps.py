"""The cells' steps in torch, written for speed on short sequences and few units."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from recert.layers import GATES

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
    U = torch.cat([blocks[f"U{gate}"] for gate in GATES["gru"]]).T
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
    U = torch.cat([blocks[f"U{gate}"] for gate in GATES["lstm"]]).T
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
