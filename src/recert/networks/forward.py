"""Logits of a network on batches of sequences, in float64, through the cells' own equations.

The reading on arrays: values are (batch, dim) float64 arrays, or (batch,) integer tokens.

The reading on arrays with weights of its own for every row: for predictors that draw weights.

Values are (batch, dim) arrays, or (batch,) integers that say which of a row's columns to take.
Rows are sequences sorted by falling length, so that a shorter batch is always its first rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from recert.errors import InputError
from recert.networks import cells, reading
from recert.networks.activations import ACTIVATIONS
from recert.networks.blocks import Block, FixedMap
from recert.networks.network import Network
from recert.networks.reading import Stage
from recert.samples.sample import At

Array = NDArray[np.float64]
Predictor = Callable[[NDArray[Any], NDArray[np.int64], At], Array]

# Outputs of all steps that are held at once, in numbers of float64.
MOST_HELD = 1 << 25


def network_predictor(network: Network) -> Predictor:
    """A function (x, lengths, at) → logits: (n, K), or (n, T, K) for ``at="average"``.

    Sequences are sorted by length, so that no step is computed beyond a sequence's end.
    """
    algebra = NumbersAlgebra(network)

    def predict(x: NDArray[Any], lengths: NDArray[np.int64], at: At) -> Array:
        check_reading(network, at)
        # What overflows reaches the margins, which are refused there.
        with np.errstate(over="ignore", invalid="ignore"):
            return in_pieces(network, x, lengths, at, lambda *piece: sorted_logits(algebra, *piece))

    return predict


def check_reading(network: Network, at: At) -> None:
    """InputError where the head reads the whole sequence and the loss is read within it."""
    if network.read != "step" and at != "last":
        raise InputError(
            f"this network gives one output a sequence (it reads the {network.read} of its "
            "states), so its loss can be read at='last' only"
        )


def in_pieces(
    network: Network,
    x: NDArray[Any],
    lengths: NDArray[np.int64],
    at: At,
    logits: Callable[[Network, NDArray[Any], NDArray[np.int64], At], Array],
) -> Array:
    """Logits of sequences sorted by falling length and cut at a step that is read, in pieces.

    A piece is small enough that the outputs of all its steps can be held at once.
    """
    if isinstance(at, int):
        x, lengths = x[:, :at], np.minimum(lengths, at)
    order = falling(lengths)
    if order is not None:
        x, lengths = x[order], lengths[order]
    widest = max(layer.d_out for layer in network.layers)
    rows = max(1, MOST_HELD // (x.shape[1] * widest))
    y = np.concatenate(
        [
            logits(network, x[i : i + rows], lengths[i : i + rows], at)
            for i in range(0, len(x), rows)
        ]
    )
    return y if order is None else restored(y, order)


def falling(lengths: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """An order in which lengths fall, or None if they are all the same."""
    return None if bool((lengths == lengths[0]).all()) else np.argsort(-lengths, kind="stable")


def restored(y: Array, order: NDArray[np.int64]) -> Array:
    """Rows that were taken in ``order``, put back."""
    out = np.empty_like(y)
    out[order] = y
    return out


def active_rows(lengths: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    """How many sequences are at least t steps long, for t = 1..``steps``."""
    counts: NDArray[np.int64] = (lengths[None, :] >= np.arange(1, steps + 1)[:, None]).sum(axis=1)
    return counts


def sorted_logits(
    algebra: NumbersAlgebra, network: Network, x: NDArray[Any], lengths: NDArray[np.int64], at: At
) -> Array:
    """Logits of sequences sorted by falling length: (n, K), or (n, T, K)."""
    active = active_rows(lengths, int(lengths.max()))
    *below, top = reading.stages(network)
    values: Iterable[Array] = _inputs(algebra, network, x, active)
    for stage in below:
        values = _outputs(algebra, stage, values, active)
    if network.read == "final":
        return reading.head(algebra, network, _final(algebra, top, values, active))
    outputs = _outputs(algebra, top, values, active)
    if at == "average":
        y = np.zeros((len(x), x.shape[1], network.K))
        for t, h in enumerate(outputs):
            y[: len(h), t] = reading.head(algebra, network, h)
        return y
    if network.read == "mean":
        total = np.zeros((len(x), network.d_h))
        for h in outputs:
            total[: len(h)] += h
        return reading.head(algebra, network, total / lengths[:, None])
    return reading.head(algebra, network, _last(outputs, active))


def _inputs(
    algebra: NumbersAlgebra, network: Network, x: NDArray[Any], active: NDArray[np.int64]
) -> Iterator[Array]:
    """What the first layer reads at every step, rows of the sequences that are long enough."""
    if network.input_kind == "onehot":
        steps = np.ascontiguousarray(x.T)
    else:
        steps = np.ascontiguousarray(x.transpose(1, 0, 2), dtype=np.float64)
    for x_t, n in zip(steps, active, strict=False):
        yield reading.encode(algebra, network, x_t[:n])


def _outputs(
    algebra: NumbersAlgebra, stage: Stage, values: Iterable[Array], active: NDArray[np.int64]
) -> Iterator[Array]:
    """What a stage gives out at every step."""
    if not stage.two_way:
        for states in _forward(algebra, stage, values, int(active[0])):
            yield states[stage.output_index]
        return
    held = list(values)
    forward, backward = (Stage((layer,)) for layer in stage.layers)
    back = list(_backward(algebra, backward, held))[::-1]
    for states, b in zip(_forward(algebra, forward, held, int(active[0])), back, strict=True):
        yield algebra.concatenate([states[0], b])


def _forward(
    algebra: NumbersAlgebra, stage: Stage, values: Iterable[Array], rows: int
) -> Iterator[tuple[Array, ...]]:
    """All states after every step; sequences that have ended drop out."""
    states = tuple(np.zeros((rows, dim)) for dim in stage.dimensions)
    for x in values:
        if len(x) < len(states[0]):
            states = tuple(s[: len(x)] for s in states)
        states = stage.step(algebra, x, states)
        yield states


def _backward(algebra: NumbersAlgebra, stage: Stage, values: list[Array]) -> Iterator[Array]:
    """The outputs from the last step to the first; sequences join with zero states at their end."""
    states = tuple(np.zeros((0, dim)) for dim in stage.dimensions)
    for x in reversed(values):
        joining = len(x) - len(states[0])
        if joining:
            states = tuple(np.concatenate([s, np.zeros((joining, s.shape[1]))]) for s in states)
        states = stage.step(algebra, x, states)
        yield states[0]


def _final(
    algebra: NumbersAlgebra, stage: Stage, values: Iterable[Array], active: NDArray[np.int64]
) -> Array:
    """The outputs with which each direction ends."""
    if not stage.two_way:
        return _last(_outputs(algebra, stage, values, active), active)
    held = list(values)
    forward, backward = (Stage((layer,)) for layer in stage.layers)
    ends = (states[0] for states in _forward(algebra, forward, held, int(active[0])))
    *_, first = _backward(algebra, backward, held)
    return algebra.concatenate([_last(ends, active), first])


def _last(outputs: Iterable[Array], active: NDArray[np.int64]) -> Array:
    """Each sequence's last output."""
    last: Array | None = None
    for h, following in zip(outputs, [*active[1:], 0], strict=True):
        if last is None:
            last = np.empty((len(h), h.shape[1]))
        last[following : len(h)] = h[following:]
    assert last is not None
    return last


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


class NumbersAlgebra(cells.Algebra):
    """Evaluates a network's equations in float64.

    Every operation returns a fresh array except ``bias`` and ``concatenate`` of one value, and
    ``add`` reuses its first argument's memory: a cell's intermediate sums are read once.
    """

    def __init__(self, network: Network) -> None:
        self._transposed = {
            block.name: np.ascontiguousarray(block.matrix().T)
            for block in network.blocks()
            if block.value.ndim > 1
        }

    def linear(self, block: Block, v: NDArray[Any]) -> Array:
        """(batch, d2) → (batch, d1), or tokens (batch,) → the columns that they name."""
        matrix = self._transposed[block.name]
        if block.norm == "operator":
            return _convolved(block, matrix, v)
        return matrix.take(v, axis=0) if v.ndim == 1 else v @ matrix

    def bias(self, block: Block) -> Array:
        """(d1,), broadcast over the batch."""
        return block.value

    def fixed(self, fixed: FixedMap, v: Array) -> Array:
        """P v."""
        return v @ fixed.matrix.T

    def add(self, u: Array, v: Array) -> Array:
        """U + v, into u."""
        return np.add(u, v, out=u)

    def mul(self, u: Array, v: Array) -> Array:
        """U ⊙ v."""
        return u * v

    def activation(self, name: str, v: Array) -> Array:
        """σ(v)."""
        return ACTIVATIONS[name].function(v)

    def gate(self, r: Array, a: Array, b: Array) -> Array:
        """(1 − r) ⊙ a + r ⊙ b, as a + r ⊙ (b − a)."""
        out = b - a
        out *= r
        out += a
        return out

    def concatenate(self, values: Sequence[Array]) -> Array:
        """Side by side."""
        return np.concatenate(values, axis=-1) if len(values) > 1 else values[0]


def _convolved(block: Block, matrix: Array, v: Array) -> Array:
    """The filter bank on (batch, channels·L), zero padding; ``matrix`` is (channels·width, out)."""
    out, channels, width = block.shape
    left = (width - 1) // 2
    padded = np.pad(
        v.reshape(len(v), channels, block.positions), ((0, 0), (0, 0), (left, width - 1 - left))
    )
    windows = sliding_window_view(padded, width, axis=2).transpose(0, 2, 1, 3)
    flat = windows.reshape(len(v) * block.positions, channels * width)
    product = (flat @ matrix).reshape(len(v), block.positions, out)
    return np.ascontiguousarray(product.transpose(0, 2, 1)).reshape(len(v), -1)


class SampledAlgebra(cells.Algebra):
    """Evaluates a network's equations, the blocks of row i being those drawn for row i.

    Args:
        weights: block name → (batch, d1, d2) for matrices, (batch, d) for biases, (batch, channels
            out, channels in, width) for filter banks; for a block that reads tokens (batch, slots,
            d1), of which a token's number picks one. All of one floating type, in which every
            operation is done.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._dtype = next(iter(weights.values())).dtype

    def linear(self, block: Block, v: Array) -> Array:
        """(batch, d2) → (batch, d1) with each row's own matrix, or slots (batch,) → columns."""
        matrix = self._weights[block.name][: len(v)]
        if v.ndim == 1:
            return matrix[np.arange(len(v)), v]
        v = v.astype(self._dtype, copy=False)
        if block.norm == "operator":
            return _convolved_each(block, matrix, v)
        product: Array = np.matmul(matrix, v[:, :, None])[:, :, 0]
        return product

    def bias(self, block: Block) -> Array:
        """(batch, d1), of which ``add`` takes the first rows."""
        return self._weights[block.name]

    def fixed(self, fixed: FixedMap, v: Array) -> Array:
        """P v."""
        product: Array = v @ fixed.matrix.T.astype(self._dtype)
        return product

    def add(self, u: Array, v: Array) -> Array:
        """U + v, into u; v may have more rows."""
        return np.add(u, v[: len(u)], out=u)

    def mul(self, u: Array, v: Array) -> Array:
        """U ⊙ v; either, such as a vector among the weights, may have more rows."""
        return np.multiply(u[: len(v)], v[: len(u)], dtype=self._dtype, casting="same_kind")

    def activation(self, name: str, v: Array) -> Array:
        """σ(v)."""
        return ACTIVATIONS[name].function(v).astype(self._dtype, copy=False)

    def gate(self, r: Array, a: Array, b: Array) -> Array:
        """(1 − r) ⊙ a + r ⊙ b, as a + r ⊙ (b − a)."""
        out = np.subtract(b, a, dtype=self._dtype, casting="same_kind")
        out *= r
        return np.add(out, a, out=out, casting="same_kind")

    def concatenate(self, values: Sequence[Array]) -> Array:
        """Side by side."""
        return np.concatenate(values, axis=-1) if len(values) > 1 else values[0]


def _convolved_each(block: Block, banks: Array, v: Array) -> Array:
    """Each row's filter bank (batch, out, in, width) on its (batch, channels·L), zero padding."""
    out, channels, width = block.shape
    left, L = (width - 1) // 2, block.positions
    padded = np.pad(v.reshape(len(v), channels, L), ((0, 0), (0, 0), (left, width - 1 - left)))
    windows = sliding_window_view(padded, width, axis=2).transpose(0, 1, 3, 2)
    flat = windows.reshape(len(v), channels * width, L)
    product: Array = np.matmul(banks.reshape(len(v), out, channels * width), flat)
    return product.reshape(len(v), out * L)
