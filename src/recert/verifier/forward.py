"""Outputs of a network by plain loops over its equations, in whichever arithmetic.

Values are `Pair`s, doubles with bounds on their errors, or `Balls`. Both enclose what the network
with the recorded weights gives in real arithmetic, and both know the same operations.

Margins of labelled sequences, by walking every step in whichever arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.verifier.horizon import HorizonStage, stages
from recert.verifier.pairs import Array, Pair
from recert.verifier.structure import Affine, RecordedCell, RecordedPart, Structure

# A `Pair` or `Balls`, and the class of it.
Value = Any
Kind = Any


@dataclass(frozen=True, eq=False)
class RecordedWeights:
    """The arrays of a network by name of block, the head in K rows, and its pooling map."""

    arrays: Mapping[str, Array]
    pool: Array | None = None


@dataclass(frozen=True, eq=False)
class ReadOut:
    """Weights as one arithmetic reads them; whatever products need of a matrix is found once."""

    weights: RecordedWeights
    kind: Kind
    _held: dict[str, Any] = field(default_factory=dict)

    def matrix(self, name: str, A: Array) -> Any:
        """A matrix for products, by a name of its own."""
        if name not in self._held:
            self._held[name] = self.kind.matrix(A)
        return self._held[name]

    def linear(self, part: RecordedPart, p: Value | NDArray[np.int64]) -> Value:
        """A p of a matrix or a filter bank; the columns that tokens (n,) name."""
        A = self.weights.arrays[part.name]
        if part.norm == "operator" and part.name not in self._held:
            A = banded(A, part.rows // part.shape[0])
        M = self.matrix(part.name, A)
        return self.kind.columns(M, p) if isinstance(p, np.ndarray) else p.under(M)

    def bias(self, part: RecordedPart, repeated: int = 1) -> Value:
        """B as a row."""
        return self.kind.exact(self.weights.arrays[part.name].repeat(repeated)[None, :])

    def affine(self, layer: Affine, p: Value | NDArray[np.int64]) -> Value:
        """σ(A p + b)."""
        z = self.linear(layer.A, p)
        return (z if layer.b is None else z.plus(self.bias(layer.b))).activation(layer.activation)


def banded(bank: Array, positions: int) -> Array:
    """The matrix by which a bank (out, in, width) acts on zero-padded maps of L positions."""
    out, channels, width = bank.shape
    found = np.zeros((out, positions, channels, positions))
    for p in range(positions):
        for j in range(width):
            q = p + j - (width - 1) // 2
            if 0 <= q < positions:
                found[:, p, :, q] = bank[:, :, j]
    return found.reshape(out * positions, channels * positions)


class Loops:
    """The cells' equations on pairs."""

    def __init__(self, network: Structure, weights: ReadOut) -> None:
        self.network, self.weights = network, weights

    def encoded(self, x: NDArray[Any]) -> Value | NDArray[np.int64]:
        """What the first layer reads of tokens (n,) or vectors (n, d_x)."""
        found: Any = x if self.network.tokens else self.weights.kind.exact(x)
        if self.network.embedding is not None:
            found = self.weights.linear(self.network.embedding, found)
        for dense in self.network.encoder:
            found = self.weights.affine(dense, found)
        return found  # type: ignore[no-any-return]

    def head(self, h: Value) -> Value:
        """y = V h + b_V, after hidden layers, pooled where the head pools."""
        for dense in self.network.hidden:
            h = self.weights.affine(dense, h)
        y = self.weights.linear(self.network.V, h)
        if self.weights.weights.pool is not None:
            y = y.under(self.weights.matrix("@pool", self.weights.weights.pool))
        return y if self.network.b is None else y.plus(self.weights.bias(self.network.b))

    def step(self, cell: RecordedCell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        """New states of one cell, the output's first."""
        found: tuple[Value, ...] = getattr(self, f"_{cell.cell}")(cell, x, states)
        return found

    def _pre(self, cell: RecordedCell, gate: str, x: Any, h: Value) -> Value:
        """W x + U h + b of one gate."""
        parts, weights = cell.parts, self.weights
        z = weights.linear(parts[f"W{gate}"], x).plus(weights.linear(parts[f"U{gate}"], h))
        return z.plus(weights.bias(parts[f"b{gate}"])) if f"b{gate}" in parts else z

    def _gate(self, cell: RecordedCell, gate: str, x: Any, h: Value) -> Value:
        return self._pre(cell, gate, x, h).activation("sigmoid")

    def _vanilla(self, cell: RecordedCell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        return (self._pre(cell, "", x, states[0]).activation(cell.activation),)

    def _mgu(self, cell: RecordedCell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        h = states[0]
        r = self._gate(cell, "_r", x, h)
        candidate = self._pre(cell, "_h", x, r.times(h)).activation("tanh")
        return (r.between(h, candidate),)

    def _gru(self, cell: RecordedCell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        h, parts = states[0], cell.parts
        r, z = self._gate(cell, "_r", x, h), self._gate(cell, "_z", x, h)
        inner = self.weights.linear(parts["U_n"], h)
        if "b_hn" in parts:
            inner = inner.plus(self.weights.bias(parts["b_hn"]))
        outer = self.weights.linear(parts["W_n"], x)
        if "b_n" in parts:
            outer = outer.plus(self.weights.bias(parts["b_n"]))
        n = outer.plus(r.times(inner)).activation("tanh")
        return (z.between(n, h),)

    def _gru_original(
        self, cell: RecordedCell, x: Any, states: Sequence[Value]
    ) -> tuple[Value, ...]:
        h = states[0]
        r, z = self._gate(cell, "_r", x, h), self._gate(cell, "_z", x, h)
        n = self._pre(cell, "_n", x, r.times(h)).activation("tanh")
        return (z.between(n, h),)

    def _lstm(self, cell: RecordedCell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        h, c = states
        g, r, o = (self._gate(cell, gate, x, h) for gate in ("_g", "_r", "_o"))
        candidate = self._pre(cell, "_c", x, h).activation("tanh")
        c = g.times(c).plus(r.times(candidate))
        h = o.times(c.activation("tanh"))
        return (self.weights.linear(cell.parts["P"], h) if "P" in cell.parts else h), c

    def _peephole_lstm(
        self, cell: RecordedCell, x: Any, states: Sequence[Value]
    ) -> tuple[Value, ...]:
        h, c = states

        def gate(letter: str, seen: Value) -> Value:
            peep = self.weights.bias(cell.parts[f"p_{letter}"]).times(seen)
            return self._pre(cell, f"_{letter}", x, h).plus(peep).activation("sigmoid")

        candidate = self._pre(cell, "_c", x, h).activation("tanh")
        new = gate("g", c).times(c).plus(gate("r", c).times(candidate))
        return gate("o", new).times(new.activation("tanh")), new

    def _min_gru(self, cell: RecordedCell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        z = self._of_input(cell, "_z", x).activation("sigmoid")
        return (z.between(states[0], self._of_input(cell, "_h", x)),)

    def _of_input(self, cell: RecordedCell, gate: str, x: Any) -> Value:
        """W x + b of one gate."""
        z = self.weights.linear(cell.parts[f"W{gate}"], x)
        return z.plus(self.weights.bias(cell.parts[f"b{gate}"])) if f"b{gate}" in cell.parts else z

    def _conv(self, cell: RecordedCell, x: Any, states: Sequence[Value]) -> tuple[Value, ...]:
        z = self._maps(cell, x, states[0])
        if "b" in cell.parts:
            z = z.plus(self.weights.bias(cell.parts["b"], cell.positions))
        return (z.activation(cell.activation),)

    def _conv_averaged(
        self, cell: RecordedCell, x: Any, states: Sequence[Value]
    ) -> tuple[Value, ...]:
        z = self._maps(cell, x, states[0])
        k, L = cell.channels, cell.positions
        channels = self.weights.matrix(f"@sum {k} {L}", np.tile(np.eye(L), k))
        mean = z.under(channels).scaled(np.full(z.n, float(k)))
        return (mean.activation(cell.activation),)

    def _maps(self, cell: RecordedCell, x: Any, h: Value) -> Value:
        """W*x + U*h."""
        linear = self.weights.linear
        return linear(cell.parts["W"], x).plus(linear(cell.parts["U"], h))


Index = NDArray[np.int64]
# Numbers that a stage may hold for all steps of a batch, as pairs and as balls.
HELD, HELD_BALLS = 1 << 23, 1 << 18
Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Margins:
    """What was read of a sample: every entry of its losses.

    Attributes:
        M: margins (n,) as computed here.
        e: (n,) bounds on their distance from those of the network in real arithmetic.
        owner: (n,) the sequence that an entry belongs to.
    """

    M: Array
    e: Array
    owner: Index


@dataclass(frozen=True, eq=False)
class ForwardWalk:
    """How a network is read.

    Attributes:
        network: structure.
        weights: arrays.
        read: ``"step"``, ``"final"`` or ``"mean"``: what of the states the head reads.
        at: ``"last"``, ``"average"`` or a step.
    """

    network: Structure
    weights: RecordedWeights
    read: str
    at: str | int

    def margins(
        self, x: NDArray[Any], labels: Index, lengths: Index, progress: Progress | None = None
    ) -> Margins:
        """Margins of sequences (m, T) or (m, T, d_x), labels (m,) or (m, T), lengths (m,)."""
        # What overflows has no bound on its error.
        with np.errstate(over="ignore", invalid="ignore"):
            parts = list(self.pieces(Pair, HELD, x, labels, lengths, progress))
        pairs, owner = [found for found, _ in parts], [rows for _, rows in parts]
        return Margins(
            np.concatenate([M for M, _ in pairs]),
            np.concatenate([e for _, e in pairs]),
            np.concatenate(owner),
        )

    def pieces(
        self,
        kind: Kind,
        held: int,
        x: NDArray[Any],
        labels: Index,
        lengths: Index,
        progress: Progress | None = None,
    ) -> Iterator[tuple[Any, Index]]:
        """What an arithmetic finds of margins, and the sequences they belong to, piece by piece."""
        if isinstance(self.at, int):
            x, lengths = x[:, : self.at], np.minimum(lengths, self.at)
        rows = max(1, held // (x.shape[1] * self._width()))
        loops = Loops(self.network, ReadOut(self.weights, kind))
        for i in range(0, len(x), rows):
            piece = slice(i, i + rows)
            for found, owner in self._piece(loops, x[piece], labels[piece], lengths[piece]):
                yield found, owner + i
            if progress is not None:
                progress(len(x[piece]))

    def _width(self) -> int:
        return max(sum(cell.out for cell in cells) for cells in self.network.layers)

    def _piece(
        self, loops: Loops, x: NDArray[Any], labels: Index, lengths: Index
    ) -> Iterator[tuple[Any, Index]]:
        values: Iterable[Any] = (loops.encoded(x[:, t]) for t in range(int(lengths.max())))
        *below, top = stages(self.network)
        for stage in below:
            values = _outputs(loops, stage, values, lengths)
        if self.at == "average":
            for t, h in enumerate(_outputs(loops, top, values, lengths)):
                rows = np.flatnonzero(lengths > t)
                yield loops.head(h.rows(rows)).margins(labels[rows, t]), rows
            return
        if self.read == "final" and top.two_way:
            held, (first, second) = list(values), top.cells
            h = _last(_ahead(loops, (first,), held, lengths)).beside(
                _last(_back(loops, second, held, lengths))
            )
        elif self.read == "mean":
            h = _mean(_outputs(loops, top, values, lengths), lengths)
        else:
            h = _at(_outputs(loops, top, values, lengths), lengths - 1)
        own = labels
        if labels.ndim == 2:
            own = labels[np.arange(len(labels)), lengths - 1]
        yield loops.head(h).margins(own), np.arange(len(own))


def _outputs(
    loops: Loops, stage: HorizonStage, values: Iterable[Any], lengths: Index
) -> Iterator[Value]:
    """What a stage gives out at every step; after a sequence's end, what it gave there.

    A backward direction begins with zero states at a sequence's end.
    """
    if not stage.two_way:
        yield from _ahead(loops, stage.cells, values, lengths)
        return
    held, (first, second) = list(values), stage.cells
    back = list(_back(loops, second, held, lengths))[::-1]
    for a, b in zip(_ahead(loops, (first,), held, lengths), back, strict=True):
        yield a.beside(b)


def _back(loops: Loops, cell: Any, held: list[Any], lengths: Index) -> Iterator[Value]:
    return _ahead(loops, (cell,), held[::-1], lengths, range(len(held))[::-1])


def _ahead(
    loops: Loops, cells: Sequence[Any], values: Iterable[Any], lengths: Index, steps: Any = None
) -> Iterator[Value]:
    """Outputs of a stack after each of its inputs; states stay where a sequence has ended."""
    kind = loops.weights.kind
    states = [[kind.exact(np.zeros((len(lengths), d))) for d in cell.states] for cell in cells]
    for k, x in enumerate(values):
        valid = lengths > (k if steps is None else steps[k])
        for j, cell in enumerate(cells):
            new = loops.step(cell, x, states[j])
            states[j] = [n.where(valid, old) for n, old in zip(new, states[j], strict=True)]
            x = states[j][0]
        yield x


def _last(outputs: Iterable[Value]) -> Value:
    *_, found = outputs
    return found


def _at(outputs: Iterable[Value], steps: Index) -> Value:
    """The output of every sequence at a step of its own."""
    found: Value = None
    for t, h in enumerate(outputs):
        found = h if found is None else h.where(steps == t, found)
    return found


def _mean(outputs: Iterable[Value], lengths: Index) -> Value:
    """The mean over a sequence's steps."""
    found: Value = None
    for t, h in enumerate(outputs):
        found = h if found is None else found.plus(h).where(lengths > t, found)
    return found.scaled(lengths.astype(float))
