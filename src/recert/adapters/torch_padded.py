"""Whether a module answers to padded sequences as it does to the same ones without padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recert.adapters.torch_arguments import Arguments
from recert.adapters.torch_comparison import Wanted, readings
from recert.adapters.torch_groups import MOST_INPUTS, MOST_STEPS, array_of, spread
from recert.adapters.torch_parity import Compared
from recert.adapters.torch_running import DoesNotRunError, Group, Runner, Usage, evaluation_copy
from recert.network import Network
from recert.padding import Aligned
from recert.predict import network_predictor
from recert.sample import At

Array = NDArray[np.float64]

PADDED = 128


def answers_apart(
    network: Network,
    model: nn.Module,
    arguments: Arguments,
    usage: Usage,
    compared: Compared,
    sequences: Any,
    read: Aligned,
    at: At,
) -> bool:
    """Whether the module answers otherwise to the batch as given than without its padding.

    Args:
        network: what the module computes on sequences without padding.
        model: the module.
        arguments: what its forward asks for; lengths are given as they are.
        usage: what the user says of it.
        compared: how it was called on sequences without padding.
        sequences: as given, with their padding.
        read: the same ones, their padding taken off.
        at: as in `recert.adapters.from_torch`.

    Returns:
        False also where it does not run on the batch as given, as on tokens −1.
    """
    if read.padding not in ("cut", "left") or (isinstance(at, int) and read.padding == "cut"):
        return False  # up to a step that all sequences reach, none is padded
    raw = array_of(sequences, network.input_kind, network.d_x)
    x = array_of(read.sequences, network.input_kind, network.d_x)
    n = _lengths(x, read.lengths)
    rows = _rows(raw, n, network.d_x)
    if arguments.batch is not None:
        rows = np.resize(rows, arguments.batch)
    ends = None if read.padding == "left" else n[rows] - 1
    want = _wanted(network, x[rows], n[rows], at)
    group = Group(rows, raw[rows])
    for dtype in (torch.float64, None):
        with evaluation_copy(model, dtype) as module:
            try:
                runner = Runner(module, arguments, usage)
            except DoesNotRunError:
                continue
            found = [
                _same(runner, group, compared, want, ends, n[rows], at, optional)
                for optional in dict.fromkeys(("", arguments.optional))
            ]
            # Some models sort a batch by length and answer in that order.
            turned = Group(rows[::-1].copy(), raw[rows[::-1]])
            end = None if ends is None else ends[::-1]
            found_turned = [
                _same(runner, turned, compared, want[::-1], end, n[rows[::-1]], at, optional)
                for optional in dict.fromkeys(("", arguments.optional))
            ]
        if any(same is not None for same in found):
            # In the order in which it is no more the network, though it runs.
            return not any(
                same and other is not False for same, other in zip(found, found_turned, strict=True)
            )
    return False


def _lengths(x: NDArray[Any], lengths: Any) -> NDArray[np.int64]:
    if lengths is not None:
        given = lengths.detach().cpu() if hasattr(lengths, "detach") else lengths
        return np.asarray(given).astype(np.int64)
    padding = x < 0
    ended = np.where(padding.any(axis=1), padding.argmax(axis=1), x.shape[1])
    return ended.astype(np.int64)


def _rows(x: NDArray[Any], n: NDArray[np.int64], d_x: int) -> NDArray[np.int64]:
    """Padded sequences and the longest one, the longer ones first, as some packing asks for."""
    padded = np.flatnonzero(n < x.shape[1])
    size = x.shape[1] * (1 if x.ndim == 2 else d_x)
    most = max(1, min(PADDED, MOST_INPUTS // size, MOST_STEPS * PADDED // x.shape[1]))
    by_length = padded[np.argsort(n[padded], kind="stable")]
    rows = np.union1d(spread(by_length, most), [int(np.argmax(n))])
    return rows[np.argsort(-n[rows], kind="stable")]


def _wanted(network: Network, x: NDArray[Any], n: NDArray[np.int64], at: At) -> Array:
    """The network's logits without padding: (n, K) at the step that is read, or (n, T, K)."""
    safe = np.where(np.arange(x.shape[1])[None, :] < n[:, None], x, 0) if x.ndim == 2 else x
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(at, int):
            return network_predictor(network)(safe, np.minimum(n, at), "last")
        return network_predictor(network)(safe, n, at)


def _same(
    runner: Runner,
    group: Group,
    compared: Compared,
    want: Array,
    ends: NDArray[np.int64] | None,
    n: NDArray[np.int64],
    at: At,
    optional: str,
) -> bool | None:
    """Whether the answers are the network's; None if the module does not run on this batch."""
    lengths = [int(length) for length in n]
    try:
        tensor = runner.call(group, compared.form, lengths, optional=optional)
    except Exception:  # a user's forward may raise anything
        return None
    output = tensor.detach().to("cpu", torch.float64).numpy()
    for steps in dict.fromkeys((group.steps, int(n.max()))):
        for _, found in readings(output, len(n), want.shape[-1], steps):
            pair = _at(found, want, ends, n, at)
            if pair is None:
                continue
            there, expected = pair
            flat = Wanted(expected[:, None], 1, last=True, whole=False, tolerance=runner.tolerance)
            difference = flat.closest([there])
            if difference is not None and difference.within:
                return True
    return False


def _at(
    found: Array, want: Array, ends: NDArray[np.int64] | None, n: NDArray[np.int64], at: At
) -> tuple[Array, Array] | None:
    """What was returned at the steps that are read, and what the network gives there."""
    rows = np.arange(len(n))
    if want.ndim == 2:
        if found.shape[1] == 1:
            return found[:, 0], want
        last = np.full(len(n), found.shape[1] - 1) if ends is None else ends
        if isinstance(at, int):
            last = np.minimum(n, at) - 1 + (0 if ends is not None else found.shape[1] - n)
        return found[rows, last], want
    if found.shape[1] == 1:
        return found[:, 0], want[rows, n - 1]
    steps = np.arange(found.shape[1])[None, :]
    valid = steps < n[:, None] if ends is not None else steps >= (found.shape[1] - n)[:, None]
    inside = np.arange(want.shape[1])[None, :] < n[:, None]
    return found[valid], want[inside]
