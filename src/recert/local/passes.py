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

from recert import cells
from recert.algebra.deviations import Node
from recert.algebra.ellipsoids import LARGER, ROUND, UNDERFLOW
from recert.algebra.enclosures import EnclosureAlgebra, step_frame
from recert.cells import Stage
from recert.local.parts import Parts
from recert.network import Network

Array = NDArray[np.float64]

# The most that a loss counts in a search, in typical margins.
MOST = 1e30


@dataclass(frozen=True, eq=False)
class Losses:
    """For n sequences and K−1 wrong classes: M (K−1, n), S (K−1, n, parts) and Q (K−1, n).

    The margin over a wrong class stays above M − Σ_p r_p S_p − Q while every part moves by at most
    r_p. Q was computed for radii that the pass was given, and holds for these and smaller ones.
    """

    M: Array
    S: Array
    Q: Array

    def in_margins(self, caps: Array) -> Losses:
        """The same for a search: a typical margin is 1, and what overflowed is only very large."""
        M = np.where(np.isfinite(self.M), self.M, 0.0)
        unit = float(np.median(np.abs(M))) or float(np.abs(M).max()) or 1.0
        with np.errstate(all="ignore"):
            M, S, Q = (
                np.nan_to_num(x, nan=MOST, posinf=MOST, neginf=-MOST).clip(-MOST, MOST)
                for x in (M / unit, self.S / unit * caps, self.Q / unit)
            )
            return Losses(M, S / caps, Q)

    def left(self, radii: Array) -> Array:
        """(n,) what is certainly left of the margin at radii up to those of Q."""
        loss = self.S @ radii
        left: Array = (self.M - loss * LARGER - self.Q).min(axis=0)
        return left


def losses(
    network: Network,
    seeds: Array,
    x: NDArray[Any],
    labels: NDArray[np.int64],
    parts: Parts,
    radii: Array,
    drawn: Mapping[str, Array] | None = None,
    apart: Array | None = None,
) -> Losses:
    """Losses of sequences of one length.

    Args:
        network: in margin form.
        seeds: (K, K, d_out) the functional of the output that is the margin of z over j.
        x: (n, T) tokens or (n, T, d_x) vectors.
        labels: (n,).
        parts: of the network's blocks.
        radii: (parts,) how far each may move.
        drawn: weights of its own for every sequence, in place of the network's.
        apart: (parts,) how far drawn weights are from the network's at most.
    """
    algebra = EnclosureAlgebra(
        parts.blocks, parts.spread(radii), drawn, None if apart is None else parts.spread(apart)
    )
    y = forward(algebra, network, x)
    K, n = len(seeds), len(x)
    M, S, Q = np.empty((K - 1, n)), np.empty((K - 1, n, parts.count)), np.empty((K - 1, n))
    for i in range(K - 1):
        others = (labels + 1 + i) % K
        u = seeds[labels, others]
        size = np.sqrt(np.square(u).sum(axis=1) * np.square(y.c).sum(axis=1))
        M[i] = np.einsum("nk,nk->n", u, y.c) - ROUND * size - UNDERFLOW
        S[i], Q[i] = backward(algebra, y, u, parts)
    return Losses(M, S, Q)


def forward(algebra: EnclosureAlgebra, network: Network, x: NDArray[Any]) -> Node:
    """The output node (n, d_out) of sequences of one length, at the last step."""
    n, T = x.shape[:2]
    values: list[Node] = []
    for t in range(T):
        step = x[:, t] if network.input_kind == "onehot" else algebra.given(x[:, t].astype(float))
        values.append(cells.encode(algebra, network, step))
    *below, top = cells.stages(network)
    for stage in below:
        values = [algebra.free(v) for v in _outputs(algebra, stage, values, n)]
    if network.read == "final" and top.two_way:
        ahead, back = (Stage((layer,)) for layer in top.layers)
        ends = [_states(algebra, ahead, values, n)[-1], _states(algebra, back, values[::-1], n)[-1]]
        return cells.head(algebra, network, algebra.concatenate([algebra.free(s[0]) for s in ends]))
    outputs = _outputs(algebra, top, values, n)
    if network.read != "mean":
        return cells.head(algebra, network, outputs[-1])
    total = algebra.free(outputs[0])
    for h in outputs[1:]:
        total = algebra.add(total, algebra.free(h))
    return cells.head(algebra, network, algebra.scaled(total, np.full(1, 1.0 / T)))


def _outputs(algebra: EnclosureAlgebra, stage: Stage, values: list[Node], n: int) -> list[Node]:
    """What a stage gives out at every step."""
    if not stage.two_way:
        return [states[stage.output_index] for states in _states(algebra, stage, values, n)]
    ahead, back = (Stage((layer,)) for layer in stage.layers)
    one = _states(algebra, ahead, values, n)
    other = _states(algebra, back, values[::-1], n)[::-1]
    return [
        algebra.concatenate([algebra.free(a[0]), algebra.free(b[0])])
        for a, b in zip(one, other, strict=True)
    ]


def _states(
    algebra: EnclosureAlgebra, stage: Stage, values: list[Node], n: int
) -> list[tuple[Node, ...]]:
    """All states after every step."""
    states: Sequence[Node] = [algebra.given(np.zeros((n, dim))) for dim in stage.dimensions]
    found: list[tuple[Node, ...]] = []
    for x in values:
        if found:
            states = algebra.based(states, step_frame(states))
        new = stage.step(algebra, x, states)
        found.append(new)
        states = new
    return found


def backward(algebra: EnclosureAlgebra, y: Node, u: Array, parts: Parts) -> tuple[Array, Array]:
    """S (n, parts) and Q (n,) of the functional u (n, d_out) of the output."""
    n = len(u)
    adjoints: dict[int, Array] = {y.index: u}
    sums: dict[str, Array] = {}
    S, Q = np.zeros((n, parts.count)), np.zeros(n)
    for node in reversed(algebra.nodes[: y.index + 1]):
        b = adjoints.pop(node.index, None)
        if b is None:
            continue
        length = np.sqrt(np.square(b).sum(axis=1)) + UNDERFLOW
        if node.residual is not None:
            Q += (np.abs(b) * node.residual).sum(axis=1)
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
        S[:, parts.starts[name][0]] += np.sqrt(np.square(b).sum(axis=1)) + UNDERFLOW
    return S * LARGER, Q * LARGER + UNDERFLOW


def _price(
    node: Node,
    b: Array,
    length: Array,
    parts: Parts,
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
        S[np.arange(len(S)), first + (move.tokens if split else 0)] += length
    elif move.norms is not None and move.sizes is not None:
        S[:, first] += length * move.norms
        Q += float(np.max(algebra.radii[block.name])) * length * move.sizes
    else:
        sums[block.name] = sums.get(block.name, 0.0) + b
        # What the sum loses to rounding is far below its terms.
        S[:, first] += ROUND * length


def by_length(lengths: NDArray[np.int64], batch: int) -> Iterator[NDArray[np.int64]]:
    """Indices of sequences of one length, at most ``batch`` at a time."""
    order = np.argsort(lengths, kind="stable")
    cuts = np.flatnonzero(np.diff(lengths[order])) + 1
    for same in np.split(order, cuts):
        for start in range(0, len(same), batch):
            yield same[start : start + batch]
