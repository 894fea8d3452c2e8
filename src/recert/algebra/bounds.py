r"""The reading on bounds: norms and sensitivities of a whole class of weights.

A value v carries, in natural logarithms and for several systems of caps side by side (axis G),

    dim v,   N_v ≥ ‖v‖_2,   Z_v ≥ ‖v‖_∞,   Λ_v[k] for every tag k,

valid over all inputs and all weights within the caps, such that for any two members of the class
‖v − v'‖_2 ≤ Σ_k Λ_v[k]·‖A_k − A_k'‖_k. Tags are the blocks, the states that a step starts from
(so one step is an affine map of sensitivities), and ROUNDING, whose Λ bounds what float64
evaluation adds to v. The rules are the rows of the table in ``docs/theory.md``, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recert.network import Block

Array = NDArray[np.float64]

ROUNDING = "@rounding"
UNIT_ROUNDOFF = 2.0**-53
# numpy's, torch's and libm's tanh are within 4 units in the last place (8 unit roundoffs).
ACTIVATION_ERROR = 16 * UNIT_ROUNDOFF


@dataclass(frozen=True, slots=True)
class Bound:
    """Bounds of one value; ``log_N``, ``log_Z`` are (G,), ``log_lam`` is (tags, G)."""

    dim: int
    log_N: Array
    log_Z: Array
    log_lam: Array
    onehot: bool = False


class BoundsAlgebra:
    """Evaluates a network's equations on bounds.

    Args:
        log_caps: block name → log of the cap on its norm, (G,).
        log_rows: block name → log of a cap on its largest absolute row sum, where one is held.
        tags: every tag, blocks first.
        sum_length: the longest inner product in the network. A library may start it from what it
            is added to, so every addition is charged with that many roundings.
    """

    def __init__(
        self,
        log_caps: Mapping[str, Array],
        log_rows: Mapping[str, Array],
        tags: tuple[str, ...],
        sum_length: int,
    ) -> None:
        self.log_caps = dict(log_caps)
        self.log_rows = dict(log_rows)
        self.tags = tags
        self.log_roundings = math.log(2 * (sum_length + 4) * UNIT_ROUNDOFF)
        self.size = next(iter(self.log_caps.values())).shape[0]
        self._index = {tag: i for i, tag in enumerate(tags)}

    def still(self) -> Array:
        """No sensitivity to anything: Λ = 0."""
        return np.full((len(self.tags), self.size), -np.inf)

    def onehot(self, dim: int) -> Bound:
        """A one-hot input."""
        one = np.zeros(self.size)
        return Bound(dim, one, one, self.still(), onehot=True)

    def real(self, dim: int, log_B_x: float) -> Bound:
        """An input with ‖x‖_2 ≤ B_x."""
        norm = np.full(self.size, log_B_x)
        return Bound(dim, norm, norm, self.still())

    def state(self, dim: int, tag: str, log_N: Array, log_Z: Array) -> Bound:
        """A state that a step starts from: it moves as its own tag does."""
        lam = self.still()
        lam[self._index[tag]] = 0.0
        return Bound(dim, log_N, log_Z, lam)

    def linear(self, block: Block, v: Bound) -> Bound:
        """N = c N_v, Λ = c Λ_v, + N_v on the block itself; a column of it for one-hot inputs."""
        c = self.log_caps[block.name]
        if v.onehot:
            return self._parameter(block, block.rows, c)
        log_N = c + v.log_N
        log_Z = log_N
        if block.name in self.log_rows:
            rows = self.log_rows[block.name]
            held = np.where(np.isfinite(rows), rows, 0.0) + v.log_Z
            log_Z = np.where(np.isposinf(rows), log_N, np.minimum(log_N, held))
        lam = c + v.log_lam
        self._accrue(lam, block.name, v.log_N)
        frobenius = 0.5 * math.log(min(block.rows, block.columns))
        self._accrue(lam, ROUNDING, self.log_roundings + frobenius + log_N)
        return Bound(block.rows, log_N, log_Z, lam)

    def bias(self, block: Block) -> Bound:
        """N = Z = c, Λ = 1 on the bias."""
        return self._parameter(block, block.rows, self.log_caps[block.name])

    def add(self, u: Bound, v: Bound) -> Bound:
        """Everything adds."""
        log_N = np.logaddexp(u.log_N, v.log_N)
        lam = np.logaddexp(u.log_lam, v.log_lam)
        self._accrue(lam, ROUNDING, self.log_roundings + log_N)
        return Bound(u.dim, log_N, np.logaddexp(u.log_Z, v.log_Z), lam)

    def activation(self, name: str, v: Bound) -> Bound:
        """tanh: N = √dim·tanh(min(N/√dim, Z)), Z = tanh Z, Λ; ReLU: all three unchanged."""
        if name == "relu":
            return v
        half = 0.5 * math.log(v.dim)
        log_N = half + _log_tanh(np.minimum(v.log_N - half, v.log_Z))
        lam = v.log_lam.copy()
        self._accrue(lam, ROUNDING, math.log(ACTIVATION_ERROR) + log_N)
        return replace(v, log_N=log_N, log_Z=_log_tanh(v.log_Z), log_lam=lam)

    def _parameter(self, block: Block, dim: int, c: Array) -> Bound:
        lam = self.still()
        lam[self._index[block.name]] = 0.0
        return Bound(dim, c, c, lam)

    def _accrue(self, lam: Array, tag: str, log_amount: Array) -> None:
        row = self._index[tag]
        lam[row] = np.logaddexp(lam[row], log_amount)


def _log_tanh(log_x: Array) -> Array:
    """Log tanh x from log x; tanh x ≤ x serves where x is tiny, so it never errs low."""
    tiny = log_x < -20.0
    x = np.exp(np.clip(log_x, -20.0, 4.0))
    return np.where(tiny, log_x, np.log(np.tanh(x)))
