"""Margins of labelled sequences, each with a bound on its error, by walking every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.verifier.forward import (
    LARGER,
    TINY,
    UNIT,
    Array,
    Loops,
    Pair,
    Weights,
    beside,
    zeros,
)  # fmt: skip
from recert.verifier.horizon import Stage, stages
from recert.verifier.structure import Structure

Index = NDArray[np.int64]
# Numbers that a stage may hold for all steps of a batch.
HELD = 1 << 24


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

    def margins(self, x: NDArray[Any], labels: Index, lengths: Index) -> Margins:
        """Margins of sequences (m, T) or (m, T, d_x), labels (m,) or (m, T), lengths (m,)."""
        if isinstance(self.at, int):
            x, lengths = x[:, : self.at], np.minimum(lengths, self.at)
        parts = []
        rows = max(1, HELD // (x.shape[1] * self._width()))
        for i in range(0, len(x), rows):
            piece = slice(i, i + rows)
            found = self._piece(x[piece], labels[piece], lengths[piece])
            parts.append(Margins(found.M, found.e, found.owner + i))
        return Margins(
            np.concatenate([p.M for p in parts]),
            np.concatenate([p.e for p in parts]),
            np.concatenate([p.owner for p in parts]),
        )

    def _width(self) -> int:
        return max(sum(cell.out for cell in cells) for cells in self.network.layers)

    def _piece(self, x: NDArray[Any], labels: Index, lengths: Index) -> Margins:
        loops = Loops(self.network, self.weights)
        steps = int(lengths.max())
        values = [loops.encoded(x[:, t]) for t in range(steps)]
        *below, top = stages(self.network)
        for stage in below:
            values = list(_joined(stage, *_states(loops, stage, values, lengths)))
        ahead, back = _states(loops, top, values, lengths)
        if self.at == "average":
            return self._every(loops, list(_joined(top, ahead, back)), labels, lengths)
        if self.read == "final":
            h = beside(ahead[-1], back[0]) if top.two_way else ahead[-1]
        elif self.read == "mean":
            h = _mean(list(_joined(top, ahead, back)), lengths)
        else:
            h = _at(list(_joined(top, ahead, back)), lengths - 1)
        own = labels
        if labels.ndim == 2:
            own = labels[np.arange(len(labels)), lengths - 1]
        M, e = _margins(loops.head(h), own)
        return Margins(M, e, np.arange(len(M)))

    def _every(self, loops: Loops, outputs: list[Pair], labels: Index, lengths: Index) -> Margins:
        found = []
        for t, h in enumerate(outputs):
            rows = np.flatnonzero(lengths > t)
            M, e = _margins(loops.head(h.rows(rows)), labels[rows, t])
            found.append((M, e, rows))
        M, e, owner = (np.concatenate(column) for column in zip(*found, strict=True))
        return Margins(M, e, owner)


def _states(
    loops: Loops, stage: Stage, values: Sequence[Any], lengths: Index
) -> tuple[list[Pair], list[Pair]]:
    """Outputs of the first direction at every step, kept after a sequence's end, and of the other.

    A stack has no other direction; the backward one begins with zero states at a sequence's end.
    """
    if not stage.two_way:
        return list(_ahead(loops, stage.cells, values, lengths)), []
    first, second = stage.cells
    ahead = list(_ahead(loops, (first,), values, lengths))
    steps = range(len(values))
    back = _ahead(loops, (second,), values, lengths, steps[::-1])
    return ahead, list(back)[::-1]


def _ahead(
    loops: Loops, cells: Sequence[Any], values: Sequence[Any], lengths: Index, steps: Any = None
) -> Iterator[Pair]:
    states = [[zeros(len(lengths), dim) for dim in cell.states] for cell in cells]
    for t in range(len(values)) if steps is None else steps:
        x, valid = values[t], lengths > t
        for k, cell in enumerate(cells):
            new = loops.step(cell, x, states[k])
            states[k] = [n.where(valid, old) for n, old in zip(new, states[k], strict=True)]
            x = states[k][0]
        yield x


def _joined(stage: Stage, ahead: list[Pair], back: list[Pair]) -> Iterator[Pair]:
    """What a stage gives out at every step."""
    if not stage.two_way:
        yield from ahead
        return
    for a, b in zip(ahead, back, strict=True):
        yield beside(a, b)


def _at(outputs: list[Pair], steps: Index) -> Pair:
    """The output of every sequence at a step of its own."""
    found = outputs[0]
    for t, h in enumerate(outputs):
        found = h.where(steps == t, found)
    return found


def _mean(outputs: list[Pair], lengths: Index) -> Pair:
    """The mean over a sequence's steps."""
    n = lengths[:, None].astype(float)
    v, size, e = (np.zeros_like(outputs[0].v) for _ in range(3))
    for t, h in enumerate(outputs):
        valid = (lengths > t)[:, None]
        v, size, e = v + valid * h.v, size + valid * np.abs(h.v), e + valid * h.e
    return Pair(v / n, ((e + (len(outputs) + 4) * UNIT * size) / n) * LARGER + TINY)


def _margins(y: Pair, labels: Index) -> tuple[Array, Array]:
    """y_z − max_{j≠z} y_j, and a bound on its error."""
    rows = np.arange(len(labels))
    rest = y.v.copy()
    rest[rows, labels] = -np.inf
    own = y.v[rows, labels]
    M = own - rest.max(axis=1)
    return M, (y.e[rows, labels] + y.e.max(axis=1) + 4.0 * UNIT * np.abs(M)) * LARGER + TINY
