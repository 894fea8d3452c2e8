r"""The reading on enclosures: what a network computes on sequences, and how far off it may be.

Every weight block may move by at most r_k in its own norm. A value is a ``Node``: the array c that
was computed at the trained weights, and an enclosure of its deviation, exact value of a moved
network minus c, for every move at once:

    deviation ∈ J·s + {a ∘ ξ : ‖ξ‖_2 ≤ 1},   s ∈ {s : (u·s)² ≤ uᵀ P u for all u},

s the deviation of the states that the step started from, P the ``Frame`` of that step. Roundings
are part of deviations, so nothing is assumed of the arithmetic but its unit roundoff.

Every node also keeps how it arose, so that a functional of the output can be drawn back through
the graph (``recert.local.backward``). With e_v ≥ |deviation| entrywise, a node that is linear in
its parents adds no residual but its rounding; a product adds e_u e_v, an activation its departure
from the tangent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.networks.activations import ACTIVATIONS
from recert.networks.blocks import Block, FixedMap
from recert.networks.cells import Algebra
from recert.numerics.norms import convolution_matrix
from recert.perturbation.ellipsoids import (
    LARGER,
    ROUND,
    UNDERFLOW,
    Frame,
    Move,
    Node,
    Quadratic,
    box,
    merged,
    side_by_side,
)

Array = NDArray[np.float64]


class EnclosureAlgebra(Algebra):
    """Evaluates a network's equations on enclosures, for n sequences side by side.

    Args:
        blocks: every block of the network.
        radii: block name → r_k, or for blocks that read one-hot inputs (d2,), one a column.
        drawn: block name → weights (n, …) of its own for every sequence, in place of the block's.
        apart: how far drawn weights are from the block's at most, as ``radii``.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        radii: Mapping[str, float | Array],
        drawn: Mapping[str, Array] | None = None,
        apart: Mapping[str, float | Array] | None = None,
    ) -> None:
        self.radii = radii
        self.nodes: list[Node] = []
        self._settled = 0
        drawn, apart = drawn or {}, apart or {}
        matrices = [b for b in blocks if b.value.ndim > 1]
        self._biases = {
            b.name: drawn.get(b.name, b.value[None, :]) for b in blocks if b.value.ndim == 1
        }
        self._matrices = {b.name: drawn.get(b.name, _matrix(b)) for b in matrices}
        self._norms = {
            b.name: (b.norm_bound() + float(np.max(apart.get(b.name, 0.0)))) * LARGER
            for b in matrices
        }
        self._rows = {k: np.linalg.norm(A, axis=-1) + UNDERFLOW for k, A in self._matrices.items()}
        self._lengths = {
            k: np.linalg.norm(A, axis=(-2, -1)) + UNDERFLOW for k, A in self._matrices.items()
        }

    def node(self, c: Array, J: Array | None, a: Array, frame: Frame | None, **more: Any) -> Node:
        """A new node of the graph."""
        node = Node(len(self.nodes), c, J, a, frame, **more)
        self.nodes.append(node)
        return node

    def given(self, c: Array) -> Node:
        """A value that no move changes."""
        return self.node(c, None, np.zeros_like(c), None)

    def starting(self, states: Sequence[Node]) -> Sequence[Node]:
        """The states that the next step starts from; what came before them is settled."""
        end = len(self.nodes)
        found = self.based(states, step_frame(states))
        for node in self.nodes[self._settled : end]:
            node.settled()
        self._settled = end
        return found

    def based(self, nodes: Sequence[Node], frame: Frame) -> list[Node]:
        """The same values as the states that a step starts from: s in ``frame``."""
        found, start = [], 0
        D = sum(node.c.shape[1] for node in nodes)
        for node in nodes:
            dim = node.c.shape[1]
            J = np.zeros((1, dim, D))
            J[0, np.arange(dim), start + np.arange(dim)] = 1.0
            start += dim
            parents = ((node, same, 1.0),)
            found.append(self.node(node.c, J, np.zeros((1, dim)), frame, parents=parents))
        return found

    def free(self, v: Node) -> Node:
        """The same value in no frame, as other stages and means read it."""
        if v.J is None:
            return v
        return self.node(v.c, None, box(v.entries), None, parents=((v, same, 1.0),))

    def linear(self, block: Block, v: Any) -> Node:
        """A·v for a matrix that moves, or a column of it."""
        if not isinstance(v, Node):
            return self._column(block, v)
        A, length = self._matrices[block.name], self._lengths[block.name]
        radius, read, size = self.radii[block.name], norm_of(v.c), v.size
        ball = _image(A, self._norms[block.name], v.a) + radius * (read + size) * LARGER
        ball = ball + ROUND * length * (read + v.rough) + UNDERFLOW
        c = applied(A, v.c)
        return self.node(
            c,
            None if v.J is None else A @ v.J,
            np.broadcast_to(ball[:, None], c.shape),
            v.frame,
            parents=((v, pulled(A), length),),
            residual=ROUND * self._rows[block.name] * read[:, None] + UNDERFLOW,
            move=Move(block, read, size),
        )

    def _column(self, block: Block, tokens: NDArray[np.int64]) -> Node:
        A = self._matrices[block.name]
        c = A.T.take(tokens, axis=0) if A.ndim == 2 else A[np.arange(len(A)), :, tokens]
        radii = np.broadcast_to(self.radii[block.name], block.shape[1]).take(tokens)
        a = np.broadcast_to(radii[:, None] * LARGER, c.shape)
        return self.node(c, None, a, None, move=Move(block, tokens=tokens))

    def bias(self, block: Block) -> Node:
        """A bias, (1, d1) for all sequences, or (n, d1)."""
        c = self._biases[block.name]
        a = np.full(c.shape, float(np.max(self.radii[block.name])) * LARGER)
        return self.node(c, None, a, None, move=Move(block))

    def fixed(self, fixed: FixedMap, v: Node) -> Node:
        """P·v."""
        A, length = fixed.matrix, float(np.linalg.norm(fixed.matrix)) + UNDERFLOW
        read = norm_of(v.c)
        ball = _image(A, fixed.norm, v.a) + ROUND * length * (read + v.rough) + UNDERFLOW
        c = v.c @ A.T
        return self.node(
            c,
            None if v.J is None else A @ v.J,
            np.broadcast_to(ball[:, None], c.shape),
            v.frame,
            parents=((v, pulled(A), length),),
            residual=ROUND * np.linalg.norm(A, axis=1) * read[:, None] + UNDERFLOW,
        )

    def add(self, u: Node, v: Node) -> Node:
        """U + v."""
        c = u.c + v.c
        return self._sum(c, [(u, np.ones(1)), (v, np.ones(1))])

    def mul(self, u: Node, v: Node) -> Node:
        """U ⊙ v."""
        c = u.c * v.c
        return self._sum(c, [(u, v.c), (v, u.c)], [Quadratic(np.ones_like(c), u, v)])

    def scaled(self, v: Node, factor: Array) -> Node:
        """V times fixed numbers, broadcast."""
        return self._sum(v.c * factor, [(v, factor)])

    def activation(self, name: str, v: Node) -> Node:
        """σ(v)."""
        sigma = ACTIVATIONS[name]
        c = sigma.function(v.c)
        terms = [(v, sigma.slope(v.c, c))]
        rounding = ROUND * v.entries
        if sigma.curvature is not None:
            k = np.broadcast_to(sigma.curvature(v.c, v.entries) * LARGER, c.shape)
            return self._sum(c, terms, [Quadratic(k, v, v)], rounding)
        assert sigma.departure is not None
        return self._sum(c, terms, [], rounding + sigma.departure(v.c, v.entries) * LARGER)

    def gate(self, r: Node, a: Node, b: Node) -> Node:
        """(1 − r) ⊙ a + r ⊙ b."""
        difference = b.c - a.c
        c = a.c + r.c * difference
        one = np.ones_like(c)
        quadratic = [Quadratic(one, r, a), Quadratic(one, r, b)]
        rounding = ROUND * (np.abs(a.c) + np.abs(b.c))
        return self._sum(c, [(a, 1.0 - r.c), (b, r.c), (r, difference)], quadratic, rounding)

    def concatenate(self, values: Sequence[Node]) -> Node:
        """Values one after the other."""
        if len(values) == 1:
            return values[0]
        n = max(len(v.c) for v in values)
        c = np.concatenate([np.broadcast_to(v.c, (n, v.c.shape[1])) for v in values], axis=1)
        a = side_by_side([np.broadcast_to(v.a, (n, v.c.shape[1])) for v in values])
        parents, start = [], 0
        for v in values:
            end = start + v.c.shape[1]
            parents.append((v, within(start, end), 1.0))
            start = end
        return self.node(c, _stacked(values), a, _frame(values), parents=tuple(parents))

    def _sum(
        self,
        c: Array,
        terms: Sequence[tuple[Node, Array]],
        quadratic: Sequence[Quadratic] = (),
        more: Array | float = 0.0,
    ) -> Node:
        """Σ slope ∘ deviation, plus residuals: quadratic ones, ``more`` entrywise, and rounding."""
        residual = more + ROUND * np.abs(c) + UNDERFLOW
        beyond = residual + sum((q.k * q.u.entries * q.v.entries for q in quadratic), np.zeros(1))
        rough = sum((np.abs(slope) * v.rough[:, None] for v, slope in terms), np.zeros(1))
        small = residual + ROUND * rough
        total = np.broadcast_to(small, c.shape).sum(axis=1)
        for q in quadratic:
            first = q.u.weighted(q.k)
            total = total + first * (first if q.u is q.v else q.v.weighted(q.k))
        a = box(np.broadcast_to(beyond * LARGER + ROUND * rough, c.shape), total * LARGER)
        J: Array | None = None
        for v, slope in terms:
            a = merged(a, np.broadcast_to(np.abs(slope) * v.a, c.shape))
            if v.J is not None:
                moved = v.J if slope.ndim == 1 else slope[:, :, None] * v.J
                J = moved if J is None else J + moved
        parents = tuple((v, times(slope), _largest(slope)) for v, slope in terms)
        frame = _frame([v for v, _ in terms])
        return self.node(
            c, J, a, frame, parents=parents, residual=residual, quadratic=tuple(quadratic)
        )


def step_frame(states: Sequence[Node]) -> Frame:
    """The frame of the step that follows: all states' deviations in one ellipsoid."""
    n = max(len(state.c) for state in states)
    a = side_by_side([np.broadcast_to(s.a, (n, s.c.shape[1])) for s in states])
    J, frame = _stacked(states), _frame(states)
    spread = np.square(a)
    P = np.zeros((n, a.shape[1], a.shape[1]))
    diagonal = np.einsum("nii->ni", P)
    if J is None or frame is None:
        diagonal[...] = spread
        return Frame.of(P * LARGER)
    carried = J @ frame.P @ np.swapaxes(J, 1, 2)
    carried = 0.5 * (carried + np.swapaxes(carried, 1, 2))
    squares = np.square(J).sum(axis=(1, 2)) + UNDERFLOW**2
    error = ROUND * squares * np.square(frame.size) + UNDERFLOW**2
    p = np.sqrt(np.maximum(np.einsum("nii->n", carried), 0.0) + a.shape[1] * error)
    q = np.sqrt(spread.sum(axis=1))
    total = p + q
    with np.errstate(divide="ignore", invalid="ignore"):
        of_carried = np.where(p != 0.0, total / p, 0.0)
        of_spread = np.where(q != 0.0, total / q, 0.0)
    P += carried * of_carried[:, None, None]
    diagonal += spread * of_spread[:, None] + (error * of_carried)[:, None]
    return Frame.of(P * LARGER)


def _matrix(block: Block) -> Array:
    """The matrix by which a block acts."""
    if block.norm == "operator":
        return convolution_matrix(block.value, block.positions)
    return block.value


def applied(A: Array, v: Array) -> Array:
    """A·v, row by row: A (d1, d2) or (n, d1, d2), v (n, d2)."""
    product: Array = v @ A.T if A.ndim == 2 else np.einsum("noi,ni->no", A, v)
    return product


def pulled(A: Array) -> Callable[[Array], Array]:
    """Adjoints (…, n, d1) drawn back through A, (d1, d2) or (n, d1, d2)."""
    if A.ndim == 2:
        return lambda adjoint: adjoint @ A

    def pull(adjoint: Array) -> Array:
        side = adjoint[:, None] if adjoint.ndim == 2 else np.swapaxes(adjoint, 0, 1)
        pulled = side @ A
        found: Array = pulled[:, 0] if adjoint.ndim == 2 else np.swapaxes(pulled, 0, 1)
        return found

    return pull


def _image(A: Array, norm: float, a: Array) -> Array:
    """(n,) a bound on ‖A·(a ∘ ξ)‖ over ‖ξ‖ ≤ 1."""
    length = np.sqrt((np.square(a) * np.square(A).sum(axis=-2)).sum(axis=-1))
    image: Array = np.minimum(norm * a.max(axis=1), length) * LARGER
    return image


def norm_of(c: Array) -> Array:
    """(n,) ‖c‖, rounded up."""
    norm: Array = np.sqrt(np.square(c).sum(axis=1)) * LARGER + UNDERFLOW
    return norm


def _stacked(values: Sequence[Node]) -> Array | None:
    """J of values one after the other."""
    framed = [v.J for v in values if v.J is not None]
    if not framed:
        return None
    n, D = max(len(J) for J in framed), framed[0].shape[2]
    rows = [
        np.zeros((n, v.c.shape[1], D)) if v.J is None else np.broadcast_to(v.J, (n, *v.J.shape[1:]))
        for v in values
    ]
    return np.concatenate(rows, axis=1)


def _frame(values: Sequence[Node]) -> Frame | None:
    return next((v.frame for v in values if v.J is not None), None)


def same(adjoint: Array) -> Array:
    """Adjoints of what is only renamed."""
    return adjoint


def times(slope: Array) -> Callable[[Array], Array]:
    """Adjoints drawn back through a product with ``slope``."""
    return lambda adjoint: adjoint * slope


def _largest(slope: Array) -> Array | float:
    """(n,) the largest absolute entry, the gain of a product with it."""
    return 1.0 if slope.ndim == 1 else np.abs(slope).max(axis=1)


def within(start: int, end: int) -> Callable[[Array], Array]:
    """Adjoints of a part of what was concatenated."""
    return lambda adjoint: adjoint[..., start:end]
