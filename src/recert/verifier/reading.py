"""Margins of labelled sequences, by walking every step in whichever arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.verifier.forward import Kind, Loops, Read, Value, Weights
from recert.verifier.horizon import Stage, stages
from recert.verifier.pairs import Array, Pair
from recert.verifier.structure import Structure

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
class Walk:
    """How a network is read.

    Attributes:
        network: structure.
        weights: arrays.
        read: ``"step"``, ``"final"`` or ``"mean"``: what of the states the head reads.
        at: ``"last"``, ``"average"`` or a step.
    """

    network: Structure
    weights: Weights
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
        loops = Loops(self.network, Read(self.weights, kind))
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


def _outputs(loops: Loops, stage: Stage, values: Iterable[Any], lengths: Index) -> Iterator[Value]:
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
