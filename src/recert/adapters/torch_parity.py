"""Whether a Network computes what a torch module computes: both are run and compared.

Sequences are cut to equal lengths before the module sees them, so that no padding is involved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recert.adapters.torch_running import (
    DoesNotRunError,
    Group,
    Runner,
    evaluation_copy,
    extra_argument,
)
from recert.errors import InputError, ParityError
from recert.network import Block, Head, Layer, Network
from recert.predict import network_predictor
from recert.sample import At

Array = NDArray[np.float64]

SEQUENCES = 256
LENGTHS = 8
MOST_STEPS = 2048
MOST_INPUTS = 20_000_000


@dataclass(frozen=True)
class Difference:
    """The largest difference between two sets of centred logits, and where it is."""

    size: float
    row: int
    step: int


def check(network: Network, model: nn.Module, sequences: Any, lengths: Any, at: At) -> None:
    """Run both on up to 256 sequences of up to 8 lengths, each at most 2048 steps.

    Args:
        network: read from the model.
        model: left as it was.
        sequences: as in `recert.adapters.from_torch`.
        lengths: as there.
        at: as there.

    Raises:
        DoesNotRunError: the module cannot be run on the sequences.
        ParityError: logits differ by more than rounding explains.
        InputError: the sequences do not suit the network.
        UnsupportedModelError: forward asks for arguments that are not known here.

    """
    groups = _drawn(network) if sequences is None else _given(network, sequences, lengths)
    extra = extra_argument(model)
    failure: DoesNotRunError | None = None
    for dtype in (torch.float64, None):
        with evaluation_copy(model, dtype) as module:
            try:
                for group in groups:
                    _check_group(network, Runner(module, extra, network), group, at)
                return
            except DoesNotRunError as error:
                failure = failure or error
    assert failure is not None
    raise failure


def _check_group(network: Network, runner: Runner, group: Group, at: At) -> None:
    """Halves the sequences while rounding alone would move the logits as far as they differ."""
    while True:
        want = _logits(network, group)
        limit = runner.tolerance * (1.0 + float(np.abs(want).max()))
        differences = []
        for found in runner.readings(group):
            difference = _difference(found, want, at)
            if difference.size <= limit:
                _check_again(runner, group, want, at, limit)
                return
            differences.append(difference)
        if not differences:
            raise ParityError(
                "the model returns no tensor of the shape (n, K) or (n, T, K) with "
                f"K = {network.K} for {len(group.x)} sequences of {group.steps} steps; "
                "wrap it in a module whose forward returns the logits alone"
            )
        closest = min(differences, key=lambda d: d.size)
        if group.steps == 1 or closest.size > 100.0 * _rounding(network, runner, group, want):
            raise ParityError(_mismatch(closest, group, want))
        group = Group(group.rows, group.x[:, : group.steps // 2])


def _check_again(runner: Runner, group: Group, want: Array, at: At, limit: float) -> None:
    """The same sequences must give the same logits once more: a certificate knows no memory."""
    if not any(_difference(f, want, at).size <= limit for f in runner.readings(group)):
        raise ParityError(
            "the model gives other logits when the same sequences are run again, so it keeps a "
            "state between calls; let forward start from zero states"
        )


def _mismatch(difference: Difference, group: Group, want: Array) -> str:
    return (
        "the model does not compute what its parts would: at step "
        f"{difference.step + 1} of sequence {int(group.rows[difference.row])} the logits differ by "
        f"{difference.size:.2g} (logits up to {float(np.abs(want).max()):.2g}), so a certificate "
        "would not speak of it; let forward return the head's logits of the recurrent states from "
        "a zero start and nothing else, name the parts with recurrent=, head=, embedding=, or "
        "describe the network by hand with recert.network.vanilla"
    )


def _logits(network: Network, group: Group) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.full(len(group.x), group.steps)
        return network_predictor(network)(group.x, lengths, "average")


def _difference(found: Array, want: Array, at: At) -> Difference:
    """Largest |found − want| after each row lost its mean, which no margin sees."""
    first = 0
    if found.ndim == 2 or at == "last":
        first = want.shape[1] - 1
        want = want[:, -1:]
        found = found[:, None] if found.ndim == 2 else found[:, -1:]
    with np.errstate(over="ignore", invalid="ignore"):
        gap = np.abs(_centred(found) - _centred(want)).max(axis=-1)
    gap = np.where(np.isnan(gap), np.inf, gap)
    row, step = np.unravel_index(int(np.argmax(gap)), gap.shape)
    return Difference(float(gap[row, step]), int(row), first + int(step))


def _centred(logits: Array) -> Array:
    centred: Array = logits - logits.mean(axis=-1, keepdims=True)
    return centred


def _rounding(network: Network, runner: Runner, group: Group, want: Array) -> float:
    """How far the logits move when every weight moves in its last bits; inf where they overflow."""
    if not np.isfinite(want).all():
        return np.inf
    moved = _logits(_jittered(network, 4.0 * torch.finfo(runner.dtype).eps), group)
    largest = float(np.abs(moved - want).max())
    return largest if np.isfinite(largest) else np.inf


def _jittered(network: Network, scale: float) -> Network:
    rng = np.random.default_rng(0)

    def moved(block: Block) -> Block:
        noise = rng.choice([-scale, scale], size=block.shape)
        return replace(block, value=block.value * (1.0 + noise))

    layers = tuple(
        Layer(layer.cell, {k: moved(b) for k, b in layer.blocks.items()}, layer.activation)
        for layer in network.layers
    )
    head = Head(moved(network.head.V), None if network.head.b is None else moved(network.head.b))
    embedding = None if network.embedding is None else moved(network.embedding)
    return Network(layers, head, network.input_kind, embedding)


def _drawn(network: Network) -> list[Group]:
    """Random sequences of 1, 2 and 7 steps."""
    rng = np.random.default_rng(0)
    groups = []
    for steps in (1, 2, 7):
        n = max(1, min(16, MOST_INPUTS // (steps * network.d_x)))
        x: NDArray[Any]
        if network.input_kind == "onehot":
            x = rng.integers(0, network.d_x, size=(n, steps))
        else:
            x = rng.standard_normal((n, steps, network.d_x))
        groups.append(Group(np.arange(n), x))
    return groups


def _given(network: Network, sequences: Any, lengths: Any) -> list[Group]:
    x = _array(sequences, network)
    valid = _valid_lengths(x, lengths)
    distinct = np.unique(valid)
    if len(distinct) > LENGTHS:
        distinct = distinct[np.linspace(0, len(distinct) - 1, LENGTHS).round().astype(int)]
    groups = []
    for length in distinct:
        steps = max(1, min(int(length), MOST_STEPS, MOST_INPUTS // network.d_x))
        most = max(1, min(SEQUENCES // len(distinct), MOST_INPUTS // (steps * network.d_x)))
        rows = np.flatnonzero(valid == length)[:most]
        groups.append(Group(rows, _checked(x[rows, :steps], network, rows)))
    return groups


def _array(sequences: Any, network: Network) -> NDArray[Any]:
    if isinstance(sequences, Tensor):
        sequences = sequences.detach().cpu()
        sequences = sequences.double() if sequences.is_floating_point() else sequences
    try:
        x = np.asarray(sequences)
    except ValueError:
        raise InputError("sequences are ragged; pad them and pass lengths") from None
    rank = 2 if network.input_kind == "onehot" else 3
    fits = x.ndim == rank and (rank == 2 or x.shape[2] == network.d_x)
    if x.dtype.kind not in "biuf" or not fits or 0 in x.shape:
        wanted = "(m, T) integer tokens" if rank == 2 else f"(m, T, {network.d_x}) vectors"
        raise InputError(
            f"sequences have shape {x.shape} and dtype {x.dtype}; this network reads {wanted}"
        )
    return x


def _valid_lengths(x: NDArray[Any], lengths: Any) -> NDArray[np.int64]:
    valid: NDArray[Any]
    if lengths is not None:
        valid = np.asarray(lengths.detach().cpu() if isinstance(lengths, Tensor) else lengths)
        if valid.shape != (len(x),):
            raise InputError(f"lengths have shape {valid.shape}; give one per sequence")
    elif x.ndim == 2:
        padding = x < 0
        valid = np.where(padding.any(axis=1), padding.argmax(axis=1), x.shape[1])
    else:
        valid = np.full(len(x), x.shape[1])
    bad = np.flatnonzero((valid < 1) | (valid > x.shape[1]))
    if bad.size:
        raise InputError(
            f"sequence {int(bad[0])} has length {valid[bad[0]]}; lengths lie in 1..{x.shape[1]}"
        )
    return valid.astype(np.int64)


def _checked(x: NDArray[Any], network: Network, rows: NDArray[np.int64]) -> NDArray[Any]:
    if network.input_kind == "real":
        bad = ~np.isfinite(x).all(axis=(1, 2))
        what = "holds NaN or infinite inputs; repair or drop it"
    else:
        bad = ((x != np.floor(x)) | (x < 0) | (x >= network.d_x)).any(axis=1)
        what = f"holds tokens that are not integers in 0..{network.d_x - 1}"
    if bad.any():
        raise InputError(f"sequence {int(rows[np.argmax(bad)])} {what}")
    return x.astype(np.float64 if network.input_kind == "real" else np.int64)
