"""What one more whole number costs in bits, approximately and quickly, for training and search.

The code that files are written in is `recert.compression`'s; a certificate counts its bits. This is
a smooth stand-in for it that gradients and rankings can follow.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 40  # whole numbers beyond it are priced as it


def slopes(q: Tensor, worth: float = 16.0) -> Tensor:
    """Bits from |n| to |n| + 1 in an adaptive code, (columns, LARGEST).

    A number is coded by the decisions |n| > 0, |n| > 1, …, each with the chance that it had in
    the block, columns of a matrix with chances of their own where they have numbers enough.
    """
    n = q.abs().clamp(max=LARGEST).long().reshape(len(q), -1) if q.dim() else q.reshape(1, 1).long()
    counts = torch.bincount(n.flatten(), minlength=LARGEST + 1).float()
    reached = counts.flip(0).cumsum(0).flip(0)
    yes, among = reached[1:], reached[:-1]
    later = (yes[1:].sum() + 1.0) / (among[1:].sum() + 2.0)
    chance = (yes + 4.0 * later) / (among + 4.0)
    chance[0] = (yes[0] + 0.5) / (among[0] + 1.0)
    chances = chance.repeat(n.shape[1], 1)
    if n.shape[0] > 1 and n.shape[1] > 1:
        alive = (n > 0).float().sum(0)
        chances[:, 0] = (alive + worth * chance[0]) / (n.shape[0] + worth)
        extra = (n.clamp(min=1) - 1).float().sum(0)
        weight = (extra + alive + worth)[:, None]
        chances[:, 1:] = (extra[:, None] + worth * chance[None, 1:]) / weight
    chances = chances.clamp(0.002, 0.998)
    passed = torch.cumsum(-torch.log2(chances), dim=1)
    stop = -torch.log2(1.0 - chances)
    bits = torch.zeros(n.shape[1], LARGEST + 1)
    bits[:, 0] = stop[:, 0]
    bits[:, 1:LARGEST] = 1.0 + passed[:, :-1] + stop[:, 1:]  # the 1 is the sign
    bits[:, LARGEST] = 1.0 + passed[:, -1]
    return bits[:, 1:] - bits[:, :-1]


def slope_at(slopes: Tensor, z: Tensor) -> Tensor:
    """The slope of the code's length at every weight, of the weight's shape."""
    flat = z.reshape(len(z), -1) if z.dim() else z.reshape(1, 1)
    level = flat.abs().floor().clamp(max=LARGEST - 1).long()
    columns = (
        torch.arange(flat.shape[1], device=z.device).expand_as(level) if len(slopes) > 1 else 0
    )
    found: Tensor = slopes[columns, level]
    return found.reshape(z.shape)
