"""The first order of the reading on enclosures: arrays and how they arose, without enclosures.

At the trained weights S, what a margin falls by to first order, needs no enclosure of deviations.
The nodes are those of `algebra.enclosures` in number, order and value; deviations and residuals
are zero, so whatever is drawn back from them prices moves alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.networks.activations import ACTIVATIONS
from recert.networks.blocks import Block, FixedMap
from recert.perturbation.ellipsoids import Move, Node
from recert.perturbation.enclosure_domain import (
    EnclosureAlgebra,
    applied,
    norm_of,
    pulled,
    same,
    times,
    within,
)

Array = NDArray[np.float64]

_NOTHING = np.zeros((1, 1))
_ZERO = np.zeros(1)


class TangentAlgebra(EnclosureAlgebra):
    """Evaluates a network's equations on arrays, and keeps how to draw functionals back."""

    def _made(
        self, c: Array, parents: Sequence[tuple[Node, Any]], move: Move | None = None
    ) -> Node:
        linked = tuple((v, pull, 0.0) for v, pull in parents)
        return self.node(c, None, _NOTHING, None, parents=linked, move=move)

    def given(self, c: Array) -> Node:
        """A value that no move changes."""
        return self._made(c, ())

    def starting(self, states: Sequence[Node]) -> Sequence[Node]:
        """The same states."""
        return states

    def free(self, v: Node) -> Node:
        """The same value."""
        return v

    def linear(self, block: Block, v: Any) -> Node:
        """A·v, or a column of A."""
        A = self._matrices[block.name]
        if not isinstance(v, Node):
            return self._made(A.T.take(v, axis=0), (), Move(block, tokens=v))
        move = Move(block, norm_of(v.c), _ZERO)
        return self._made(applied(A, v.c), ((v, pulled(A)),), move)

    def bias(self, block: Block) -> Node:
        """A bias, (1, d1)."""
        return self._made(self._biases[block.name], (), Move(block))

    def fixed(self, fixed: FixedMap, v: Node) -> Node:
        """P·v."""
        return self._made(v.c @ fixed.matrix.T, ((v, pulled(fixed.matrix)),))

    def add(self, u: Node, v: Node) -> Node:
        """U + v."""
        return self._made(u.c + v.c, ((u, same), (v, same)))

    def mul(self, u: Node, v: Node) -> Node:
        """U ⊙ v."""
        return self._made(u.c * v.c, ((u, times(v.c)), (v, times(u.c))))

    def scaled(self, v: Node, factor: Array) -> Node:
        """V times fixed numbers, broadcast."""
        return self._made(v.c * factor, ((v, times(factor)),))

    def activation(self, name: str, v: Node) -> Node:
        """σ(v)."""
        sigma = ACTIVATIONS[name]
        c = sigma.function(v.c)
        return self._made(c, ((v, times(sigma.slope(v.c, c))),))

    def gate(self, r: Node, a: Node, b: Node) -> Node:
        """(1 − r) ⊙ a + r ⊙ b."""
        difference = b.c - a.c
        parents = ((a, times(1.0 - r.c)), (b, times(r.c)), (r, times(difference)))
        return self._made(a.c + r.c * difference, parents)

    def concatenate(self, values: Sequence[Node]) -> Node:
        """Values one after the other."""
        if len(values) == 1:
            return values[0]
        n = max(len(v.c) for v in values)
        ends = np.cumsum([v.c.shape[1] for v in values])
        c = np.concatenate([np.broadcast_to(v.c, (n, v.c.shape[1])) for v in values], axis=1)
        parents = tuple(
            (v, within(int(end) - v.c.shape[1], int(end)))
            for v, end in zip(values, ends, strict=True)
        )
        return self._made(c, parents)
