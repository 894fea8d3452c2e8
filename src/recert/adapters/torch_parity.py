"""Whether a Network computes what a torch module computes: both are run and compared.

Sequences are cut to equal lengths before the module sees them, so that no padding is involved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recert import arrays
from recert.adapters.torch_arguments import Arguments
from recert.adapters.torch_comparison import Difference, Wanted
from recert.adapters.torch_running import DoesNotRunError, Group, Runner, evaluation_copy
from recert.errors import InputError, ParityError
from recert.network import Bidirectional, Block, Dense, Layer, Network
from recert.predict import check_reading, network_predictor
from recert.sample import At, step_counts, wanted

Array = NDArray[np.float64]

SEQUENCES = 256
LENGTHS = 8
MOST_STEPS = 2048
MOST_INPUTS = 20_000_000
DRAWN_STEPS = (7, 1, 2)


def check(
    network: Network, model: nn.Module, arguments: Arguments, groups: list[Group], at: At
) -> None:
    """Run both, the module in float64 if it can be.

    Args:
        network: read from the model.
        model: left as it was.
        arguments: what its forward asks for.
        groups: sequences, from `given` or `drawn`.
        at: as in `recert.adapters.from_torch`.

    Raises:
        DoesNotRunError: the module cannot be run on the sequences.
        ParityError: logits differ by more than rounding explains.
        InputError: the network gives one output a sequence and the loss is read within it.

    """
    check_reading(network, at)
    failure: DoesNotRunError | None = None
    for dtype in (torch.float64, None):
        with evaluation_copy(model, dtype) as module:
            try:
                for group in groups:
                    _check_group(network, Runner(module, arguments), group, at)
                return
            except DoesNotRunError as error:
                failure = failure or error
    assert failure is not None
    raise failure


def compare(network: Network, outputs: list[Array], group: Group, at: At, tolerance: float) -> bool:
    """Whether a module's outputs on a group are the network's logits, rounding apart."""
    difference = _wanted(network, group, at, tolerance).closest(outputs)
    return difference is not None and difference.within


def _check_group(network: Network, runner: Runner, group: Group, at: At) -> None:
    """Halves the sequences while rounding alone would move the logits as far as they differ."""
    if runner.arguments.batch is not None:
        group = group.of_size(runner.arguments.batch)
    while True:
        want = _wanted(network, group, at, runner.tolerance)
        difference = want.closest(runner.outputs(group))
        if difference is None:
            raise ParityError(
                "the model returns no tensor of the shape (n, K) or (n, T, K) with "
                f"K = {network.K} for {len(group.x)} sequences of {group.steps} steps; "
                "wrap it in a module whose forward returns the logits alone"
            )
        if difference.within:
            _check_again(runner, group, want)
            return
        if group.steps == 1 or difference.size > 100.0 * _rounding(network, runner, group, want):
            raise ParityError(mismatch(difference, group, want.largest))
        group = Group(group.rows, group.x[:, : group.steps // 2])


def _check_again(runner: Runner, group: Group, want: Wanted) -> None:
    """The same sequences must give the same logits once more: a certificate knows no memory."""
    again = want.closest(runner.outputs(group))
    if again is None or not again.within:
        raise ParityError(runner.why_other(group))


def mismatch(difference: Difference, group: Group, largest: float) -> str:
    """That the module does something else, and where."""
    return (
        "the model does not compute what its parts would: at step "
        f"{difference.step + 1} of sequence {int(group.rows[difference.row])} the logits differ by "
        f"{difference.size:.2g} (logits up to {largest:.2g}), so a certificate would not speak of "
        "it; let forward return the head's logits of the recurrent states from a zero start and "
        "nothing else, name the parts with recurrent=, head=, embedding=, or describe the network "
        "by hand with recert.network"
    )


def _wanted(network: Network, group: Group, at: At, tolerance: float) -> Wanted:
    return Wanted(
        _logits(network, group),
        group.steps,
        last=at == "last",
        whole=at == "average" and network.two_way,
        tolerance=tolerance,
    )


def _logits(network: Network, group: Group) -> Array:
    """(n, T, K), or (n, 1, K) where the network gives one output a sequence."""
    lengths = np.full(len(group.x), group.steps)
    with np.errstate(over="ignore", invalid="ignore"):
        if network.read == "step":
            return network_predictor(network)(group.x, lengths, "average")
        return network_predictor(network)(group.x, lengths, "last")[:, None]


def _rounding(network: Network, runner: Runner, group: Group, want: Wanted) -> float:
    """How far the logits move when every weight moves in its last bits; inf where they overflow."""
    if not np.isfinite(want.logits).all():
        return np.inf
    moved = _logits(_jittered(network, 4.0 * torch.finfo(runner.dtype).eps), group)
    largest = float(np.abs(moved - want.logits).max())
    return largest if np.isfinite(largest) else np.inf


def _jittered(network: Network, scale: float) -> Network:
    rng = np.random.default_rng(0)

    def moved(block: Block) -> Block:
        noise = rng.choice([-scale, scale], size=block.shape)
        return replace(block, value=block.value * (1.0 + noise))

    return with_blocks(network, moved)


def with_blocks(network: Network, change: Callable[[Block], Block]) -> Network:
    """The same network with every block replaced."""

    def layer(old: Layer) -> Layer:
        blocks = {role: change(block) for role, block in old.blocks.items()}
        return Layer(old.cell, blocks, old.activation)

    def dense(old: Dense) -> Dense:
        return replace(old, A=change(old.A), b=None if old.b is None else change(old.b))

    head = network.head
    return replace(
        network,
        layers=tuple(
            Bidirectional(layer(old.forward), layer(old.backward))
            if isinstance(old, Bidirectional)
            else layer(old)
            for old in network.layers
        ),
        head=replace(
            head,
            V=change(head.V),
            b=None if head.b is None else change(head.b),
            hidden=tuple(map(dense, head.hidden)),
        ),
        embedding=None if network.embedding is None else change(network.embedding),
        encoder=tuple(map(dense, network.encoder)),
    )


def drawn(kind: str, d_x: int, padding: int | None = None) -> list[Group]:
    """Random sequences of 7, 1 and 2 steps without padding tokens; equal for equal arguments.

    Args:
        kind: ``"onehot"`` or ``"real"``.
        d_x: number of tokens, or dimension.
        padding: a token that is not drawn, for models that skip it; None draws all.
    """
    rng = np.random.default_rng(0)
    groups = []
    for steps in DRAWN_STEPS:
        n = max(1, min(16, MOST_INPUTS // (steps * d_x)))
        x: NDArray[Any]
        if kind == "onehot":
            x = rng.integers(0, d_x, size=(n, steps))
            if padding is not None and d_x > 1:
                x = np.where(x == padding, (padding + 1) % d_x, x)
        else:
            x = rng.standard_normal((n, steps, d_x))
        groups.append(Group(np.arange(n), x))
    return groups


def given(kind: str, d_x: int, sequences: Any, lengths: Any) -> list[Group]:
    """A user's sequences: up to 256 of up to 8 lengths, each at most 2048 steps.

    Raises:
        InputError: they are not (m, T) tokens below d_x or (m, T, d_x) vectors.
    """
    x = _array(sequences, kind, d_x)
    valid = _valid_lengths(x, lengths)
    distinct = np.unique(valid)
    if len(distinct) > LENGTHS:
        distinct = distinct[np.linspace(0, len(distinct) - 1, LENGTHS).round().astype(int)]
    groups = []
    for length in distinct:
        steps = max(1, min(int(length), MOST_STEPS, MOST_INPUTS // d_x))
        most = max(1, min(SEQUENCES // len(distinct), MOST_INPUTS // (steps * d_x)))
        rows = np.flatnonzero(valid == length)[:most]
        groups.append(Group(rows, _checked(x[rows, :steps], kind, d_x, rows)))
    return groups


def _array(sequences: Any, kind: str, d_x: int) -> NDArray[Any]:
    x = arrays.numbers(sequences, "sequences")
    rank = 2 if kind == "onehot" else 3
    fits = x.ndim == rank and (rank == 2 or x.shape[2] == d_x)
    if not fits or 0 in x.shape:
        raise InputError(
            f"sequences have shape {x.shape} and dtype {x.dtype}; this network reads "
            f"{wanted(rank, d_x, x.ndim)}"
        )
    return x


def _valid_lengths(x: NDArray[Any], lengths: Any) -> NDArray[np.int64]:
    valid: NDArray[Any]
    if lengths is not None:
        valid = step_counts(arrays.numbers(lengths, "lengths"), len(x))
    elif x.ndim == 2:
        padding = x < 0
        valid = np.where(padding.any(axis=1), padding.argmax(axis=1), x.shape[1])
    else:
        valid = np.full(len(x), x.shape[1])
    bad = np.flatnonzero((valid < 1) | (valid > x.shape[1]))
    if bad.size:
        raise InputError(
            f"sequence {int(bad[0])} has length {valid[bad[0]]}; lengths lie in "
            f"1..{x.shape[1]}: drop empty sequences, pad longer ones"
        )
    return valid.astype(np.int64)


def _checked(x: NDArray[Any], kind: str, d_x: int, rows: NDArray[np.int64]) -> NDArray[Any]:
    if kind == "real":
        bad = ~np.isfinite(x).all(axis=(1, 2))
        what = "holds NaN or infinite inputs; repair or drop it"
    else:
        bad = ((x != np.floor(x)) | (x < 0) | (x >= d_x)).any(axis=1)
        what = f"holds tokens that are not integers in 0..{d_x - 1}, which the model reads"
    if bad.any():
        raise InputError(f"sequence {int(rows[np.argmax(bad)])} {what}")
    return x.astype(np.float64 if kind == "real" else np.int64)
