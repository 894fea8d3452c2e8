"""One pass forward and K−1 passes back: margins, and what moves of the weights do to them.

Let h' be what a moved network computes exactly, c what was computed here. For any adjoints b_v,

    u·(y' − c_y) = Σ_v b_v·(what the deviation of v is beyond the linear image of its parents'),

up to Σ (defect of b)·deviation, where the sum over v holds the moves ΔA c, the products
ΔA·(deviation), and the residuals. So the loss of a functional u of the output is at most

    Σ_p r_p S_p + Q,   S_p = Σ ‖b‖·‖what was read‖ over the uses of part p,

with Q the sum of |b|·residual, r‖b‖·‖deviation read‖, and the roundings of b. Proof in
``docs/theory.md``, 4d.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.networks import reading
from recert.networks.network import MarginForm, margin_basis
from recert.networks.reading import Stage
from recert.perturbation.ball import BallParts
from recert.perturbation.ellipsoids import LARGER, ROUND, UNDERFLOW, Node
from recert.perturbation.enclosure_domain import EnclosureAlgebra
from recert.perturbation.tangents import TangentAlgebra

Array = NDArray[np.float64]

# The most that a loss counts in a search, in typical margins.
MOST = 1e30


@dataclass(frozen=True, eq=False)
class MarginLosses:
    """For n sequences and K−1 wrong classes: M (K−1, n), S (K−1, n, parts) and Q (K−1, n).

    The margin over a wrong class stays above M − Σ_p r_p S_p − Q while every part moves by at most
    r_p. Q was computed for radii that the pass was given, and holds for these and smaller ones.
    """

    M: Array
    S: Array
    Q: Array

    def in_margins(self, caps: Array) -> MarginLosses:
        """The same for a search: a typical margin is 1, and what overflowed is only very large."""
        M = np.where(np.isfinite(self.M), self.M, 0.0)
        unit = float(np.median(np.abs(M))) or float(np.abs(M).max()) or 1.0
        with np.errstate(all="ignore"):
            M, S, Q = (
                np.nan_to_num(x, nan=MOST, posinf=MOST, neginf=-MOST).clip(-MOST, MOST)
                for x in (M / unit, self.S / unit * caps, self.Q / unit)
            )
            return MarginLosses(M, S / caps, Q)

    def left(self, radii: Array) -> Array:
        """(n,) what is certainly left of the margin at radii up to those of Q."""
        loss = self.S @ radii
        left: Array = (self.M - loss * LARGER - self.Q).min(axis=0)
        return left


def walked(
    network: MarginForm,
    x: NDArray[Any],
    parts: BallParts,
    radii: Array | None,
    drawn: Mapping[str, Array] | None = None,
    apart: Array | None = None,
) -> tuple[EnclosureAlgebra, Node]:
    """The graph of sequences of one length, and its output node.

    Args:
        network: whose margins they are.
        x: (n, T) tokens or (n, T, d_x) vectors.
        parts: of the network's blocks.
        radii: (parts,) how far each may move; None for the first order alone.
        drawn: weights of its own for every sequence, in place of the network's.
        apart: (parts,) how far drawn weights are from the network's at most.
    """
    kind = TangentAlgebra if radii is None else EnclosureAlgebra
    spread = parts.spread(np.zeros(parts.count) if radii is None else radii)
    algebra = kind(parts.blocks, spread, drawn, None if apart is None else parts.spread(apart))
    return algebra, forward(algebra, network, x)


def pieces(
    graph: tuple[EnclosureAlgebra, Node], labels: NDArray[np.int64], parts: BallParts, classes: int
) -> Iterator[tuple[slice, MarginLosses]]:
    """Losses over some wrong classes at a time, each with its place among the K−1.

    Args:
        graph: as `walked` gives it.
        labels: (n,).
        parts: of the network's blocks.
        classes: how many wrong classes are drawn back side by side at most.
    """
    algebra, y = graph
    d_out = y.c.shape[1]  # K−1 in margin form
    basis = margin_basis(d_out + 1)
    for start in range(0, d_out, classes):
        place = slice(start, min(start + classes, d_out))
        others = (labels + 1 + np.arange(place.start, place.stop)[:, None]) % (d_out + 1)
        u = basis[labels] - basis[others]
        size = np.sqrt(np.square(u).sum(axis=-1) * np.square(y.c).sum(axis=1))
        M = (u * y.c).sum(axis=-1) - ROUND * size - UNDERFLOW
        yield place, MarginLosses(M, *backward(algebra, y, u, parts))


def losses(
    network: MarginForm, x: NDArray[Any], labels: NDArray[np.int64], parts: BallParts, radii: Array
) -> MarginLosses:
    """Losses of sequences of one length over all wrong classes; arguments as above."""
    ((_, found),) = pieces(walked(network, x, parts, radii), labels, parts, network.outputs)
    return found


def forward(algebra: EnclosureAlgebra, network: MarginForm, x: NDArray[Any]) -> Node:
    """The output node (n, d_out) of sequences of one length, at the last step."""
    n, T = x.shape[:2]
    values: list[Node] = []
    for t in range(T):
        step = x[:, t] if network.input_kind == "onehot" else algebra.given(x[:, t].astype(float))
        values.append(reading.encode(algebra, network, step))
    *below, top = reading.stages(network)
    for stage in below:
        values = _outputs(algebra, stage, values, n)
    if network.read == "final" and top.two_way:
        ahead, back = (Stage((layer,)) for layer in top.layers)
        ends = [_freed(algebra, ahead, values, n)[-1], _freed(algebra, back, values[::-1], n)[-1]]
        return reading.head(algebra, network, algebra.concatenate(ends))
    if network.read == "mean" or top.two_way:
        outputs = _outputs(algebra, top, values, n)
    else:
        outputs = [states[top.output_index] for states in _states(algebra, top, values, n)]
    if network.read != "mean":
        return reading.head(algebra, network, outputs[-1])
    total = outputs[0]
    for h in outputs[1:]:
        total = algebra.add(total, h)
    return reading.head(algebra, network, algebra.scaled(total, np.full(1, 1.0 / T)))


def _outputs(algebra: EnclosureAlgebra, stage: Stage, values: list[Node], n: int) -> list[Node]:
    """What a stage gives out at every step, in no frame."""
    if not stage.two_way:
        return _freed(algebra, stage, values, n)
    ahead, back = (Stage((layer,)) for layer in stage.layers)
    one = _freed(algebra, ahead, values, n)
    other = _freed(algebra, back, values[::-1], n)[::-1]
    return [algebra.concatenate(list(pair)) for pair in zip(one, other, strict=True)]


def _freed(algebra: EnclosureAlgebra, stage: Stage, values: list[Node], n: int) -> list[Node]:
    """The outputs of a stage in one direction after every step, freed before the next one."""
    place = stage.output_index
    return [algebra.free(states[place]) for states in _states(algebra, stage, values, n)]


def _states(
    algebra: EnclosureAlgebra, stage: Stage, values: list[Node], n: int
) -> Iterator[tuple[Node, ...]]:
    """All states after every step; they are settled when the next one is asked for."""
    states: Sequence[Node] = [algebra.given(np.zeros((n, dim))) for dim in stage.dimensions]
    for t, x in enumerate(values):
        if t:
            states = algebra.starting(states)
        states = stage.step(algebra, x, states)
        yield tuple(states)


def backward(algebra: EnclosureAlgebra, y: Node, u: Array, parts: BallParts) -> tuple[Array, Array]:
    """S (…, n, parts) and Q (…, n) of functionals u (…, n, d_out) of the output."""
    shape = u.shape[:-1]
    adjoints: dict[int, Array] = {y.index: u}
    sums: dict[str, Array] = {}
    S, Q = np.zeros((*shape, parts.count)), np.zeros(shape)
    for node in reversed(algebra.nodes[: y.index + 1]):
        b = adjoints.pop(node.index, None)
        if b is None:
            continue
        length = np.sqrt(np.square(b).sum(axis=-1)) + UNDERFLOW
        if node.residual is not None:
            Q += (np.abs(b) * node.residual).sum(axis=-1)
        for q in node.quadratic:
            w = np.abs(b) * q.k + UNDERFLOW**2
            left = q.u.weighted(w)
            Q += left * (left if q.v is q.u else q.v.weighted(w))
        if node.move is not None:
            _price(node, b, length, parts, algebra, S, Q, sums)
        for parent, pull, gain in node.parents:
            Q += ROUND * (gain * length + UNDERFLOW) * parent.rough
            pulled = pull(b)
            held = adjoints.get(parent.index)
            adjoints[parent.index] = pulled if held is None else held + pulled
    for name, b in sums.items():
        S[..., parts.starts[name][0]] += np.sqrt(np.square(b).sum(axis=-1)) + UNDERFLOW
    return S * LARGER, Q * LARGER + UNDERFLOW


def _price(
    node: Node,
    b: Array,
    length: Array,
    parts: BallParts,
    algebra: EnclosureAlgebra,
    S: Array,
    Q: Array,
    sums: dict[str, Array],
) -> None:
    """Add what a use of a block costs."""
    move = node.move
    assert move is not None
    block, first = move.block, parts.starts[move.block.name][0]
    if move.tokens is not None:
        split = parts.split(block)
        S[..., np.arange(S.shape[-2]), first + (move.tokens if split else 0)] += length
    elif move.norms is not None and move.sizes is not None:
        S[..., first] += length * move.norms
        Q += float(np.max(algebra.radii[block.name])) * length * move.sizes
    else:
        sums[block.name] = sums.get(block.name, 0.0) + b
        # What the sum loses to rounding is far below its terms.
        S[..., first] += ROUND * length


def by_length(lengths: NDArray[np.int64], batch: int) -> Iterator[NDArray[np.int64]]:
    """Indices of sequences of one length, at most ``batch`` at a time."""
    order = np.argsort(lengths, kind="stable")
    cuts = np.flatnonzero(np.diff(lengths[order])) + 1
    for same in np.split(order, cuts):
        for start in range(0, len(same), batch):
            yield same[start : start + batch]
