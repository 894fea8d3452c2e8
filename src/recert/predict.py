"""Logits of a network on batches of sequences, in float64, through the cells' own equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert import cells
from recert.algebra.numbers import NumbersAlgebra
from recert.network import Network
from recert.sample import At

Array = NDArray[np.float64]
Predictor = Callable[[NDArray[Any], NDArray[np.int64], At], Array]


def network_predictor(network: Network) -> Predictor:
    """A function (x, lengths, at) → logits: (n, K), or (n, T, K) for ``at="average"``.

    Sequences are sorted by length, so that no step is computed beyond a sequence's end.
    """
    algebra = NumbersAlgebra(network)

    def predict(x: NDArray[Any], lengths: NDArray[np.int64], at: At) -> Array:
        order = falling(lengths)
        sorted_x = x if order is None else x[order]
        active = (lengths[None, :] >= np.arange(1, x.shape[1] + 1)[:, None]).sum(axis=1)
        # What overflows reaches the margins, which are refused there.
        with np.errstate(over="ignore", invalid="ignore"):
            if at == "average":
                y = _every_step(algebra, network, sorted_x, active)
            else:
                until = x.shape[1] if at == "last" else int(at)
                h = _final_states(algebra, network, sorted_x, active[:until])
                y = cells.head(algebra, network, h)
        return y if order is None else restored(y, order)

    return predict


def falling(lengths: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """An order in which lengths fall, or None if they are all the same."""
    return None if bool((lengths == lengths[0]).all()) else np.argsort(-lengths, kind="stable")


def restored(y: Array, order: NDArray[np.int64]) -> Array:
    """Rows that were taken in ``order``, put back."""
    out = np.empty_like(y)
    out[order] = y
    return out


def _zero_states(network: Network, n: int) -> tuple[cells.States, ...]:
    return tuple(
        tuple(np.zeros((n, dim)) for dim in layer) for layer in cells.state_dimensions(network)
    )


def _inputs(network: Network, x: NDArray[Any]) -> list[NDArray[Any]]:
    """One contiguous input per step."""
    if network.input_kind == "onehot":
        return list(np.ascontiguousarray(x.T))
    return list(np.ascontiguousarray(x.transpose(1, 0, 2), dtype=np.float64))


def _final_states(
    algebra: NumbersAlgebra, network: Network, x: NDArray[Any], active: NDArray[np.int64]
) -> Array:
    """The top state (n, d_h) at each sequence's last step; rows sorted by falling length."""
    states = _zero_states(network, len(x))
    final = np.empty((len(x), network.d_h))
    remaining = len(x)
    for x_t, n in zip(_inputs(network, x[:, : len(active)]), active, strict=True):
        if n < remaining:
            final[n:remaining] = states[-1][0][n:remaining]
            states = tuple(tuple(s[:n] for s in layer) for layer in states)
            remaining = int(n)
        if n == 0:
            break
        states = cells.step(algebra, network, x_t[:n], states)
    final[:remaining] = states[-1][0][:remaining]
    return final


def _every_step(
    algebra: NumbersAlgebra, network: Network, x: NDArray[Any], active: NDArray[np.int64]
) -> Array:
    """Logits (n, T, K) at every valid step, zero elsewhere."""
    states = _zero_states(network, len(x))
    y = np.zeros((len(x), len(active), network.K))
    for t, (x_t, n) in enumerate(zip(_inputs(network, x), active, strict=True)):
        if n == 0:
            break
        states = tuple(tuple(s[:n] for s in layer) for layer in states)
        states = cells.step(algebra, network, x_t[:n], states)
        y[:n, t] = cells.head(algebra, network, states[-1][0])
    return y


def margins_of(logits: Array, labels: NDArray[np.int64]) -> Array:
    """M(y, z) = y_z − max_{j≠z} y_j along the last axis; (…, K), (…) → (…)."""
    flat, z = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    rows = np.arange(len(flat))
    own = flat[rows, z]
    rest = flat.copy()
    rest[rows, z] = -np.inf
    with np.errstate(invalid="ignore"):  # overflowing logits are refused by the caller
        margins: Array = own - rest.max(axis=1)
    return margins.reshape(labels.shape)
