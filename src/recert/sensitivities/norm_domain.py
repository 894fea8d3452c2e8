r"""The reading on bounds: norms and sensitivities of a whole class of weights.

A value v carries, in natural logarithms and for several systems of caps side by side (axis G),

    dim v,   N_v ≥ ‖v‖_2,   Z_v ≥ ‖v‖_∞,   Λ_v[k] for every tag k,

valid over all inputs and all weights within the caps, such that for any two members of the class
‖v − v'‖_2 ≤ Σ_k Λ_v[k]·‖A_k − A_k'‖_k. Tags are the blocks, the states that a step starts from
(so one step is an affine map of sensitivities), and ROUNDING, whose Λ bounds what float64
evaluation adds to v. The rules are the rows of the table in ``docs/theory.md``, section 3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from recert.networks.activations import ACTIVATIONS, Activation
from recert.networks.blocks import Block, FixedMap
from recert.networks.cells import Algebra

Array = NDArray[np.float64]

ROUNDING = "@rounding"
UNIT_ROUNDOFF = 2.0**-53
# numpy's, torch's and libm's tanh and exp are within 4 units in the last place (8 unit roundoffs).
ACTIVATION_ERROR = 24 * UNIT_ROUNDOFF
# A product, or (1 − r) a + r b in whichever order it is computed.
PRODUCT_ERROR = 2 * UNIT_ROUNDOFF
GATE_ERROR = 8 * UNIT_ROUNDOFF
# An operation that underflows errs absolutely: by at most 2^-1074 an entry and an operation.
LOG_UNDERFLOW = -1073.0 * math.log(2.0)
# A fixed map that is zero is read as one of this norm: larger, hence sound, and with a logarithm.
SMALLEST_NORM = 1e-250
# Numbers that every step needs are arrays: numpy takes longer to make them of a float than to add.
LOG_4, TINY, FOUR, SEVEN = (np.array(v) for v in (math.log(4.0), -20.0, 4.0, 7.0))


class ValueBound(NamedTuple):
    """Bounds of one value; ``log_N``, ``log_Z`` are (G,), ``log_lam`` is (tags, G).

    A gate's mixture of a state with another value keeps ``mixed``: the state, and Z of the other.
    """

    dim: int
    log_N: Array
    log_Z: Array
    log_lam: Array
    onehot: bool = False
    state: str | None = None
    mixed: tuple[str, Array] | None = None


class BoundsAlgebra(Algebra):
    """Evaluates a network's equations on bounds.

    Args:
        log_caps: block name → log of the cap on its norm, (G,).
        log_rows: block name → log of a cap on its largest absolute row sum, where one is held.
        tags: every tag, blocks first.
        sum_length: the longest inner product in the network. A library may start it from what it
            is added to, so every addition is charged with that many roundings.
        inflation: relative amount, at least that of one operation's roundings, by which every N and
            Z is enlarged so that they bound computed values too; 0 for the real-number network.
        vectors: names of the blocks that are biases.
    """

    def __init__(
        self,
        log_caps: Mapping[str, Array],
        log_rows: Mapping[str, Array],
        tags: tuple[str, ...],
        sum_length: int,
        inflation: float = 0.0,
        vectors: tuple[str, ...] = (),
    ) -> None:
        self.log_caps = dict(log_caps)
        self.log_rows = dict(log_rows)
        self.tags = tags
        self.sum_length = sum_length
        self.inflation = inflation
        self.vectors = vectors
        # What is read at every step; products with it are worked out once.
        self._constant: ValueBound | None = None
        self._prepare()

    def _prepare(self) -> None:
        self.size = next(iter(self.log_caps.values())).shape[0]
        self._index = {tag: i for i, tag in enumerate(self.tags)}
        # Values that are the same at every step are worked out once; no operation changes them.
        self._parameters: dict[str, ValueBound] = {}
        self._products: dict[str, ValueBound] = {}
        self._tagged: dict[str, Array] = {}

    def _changed(self, **attributes: Any) -> Self:
        """The same but for these attributes."""
        found = copy.copy(self)
        vars(found).update(attributes)
        found._prepare()
        return found

    def reading(self, x: ValueBound) -> Self:
        """The same, but products with x, which a stage reads at every step, are worked out once."""
        return self._changed(_constant=x)

    def tagged(self, tags: tuple[str, ...]) -> Self:
        """The same with these tags alone: the others' sensitivities are not worked out."""
        return self._changed(tags=tags)

    def without_constants(self) -> Self:
        """The same with all biases zero: what remains is linear in states where cells are."""
        zero = dict.fromkeys(self.vectors, np.full(self.size, -np.inf))
        return self._changed(log_caps={**self.log_caps, **zero})

    def repeated(self, times: int) -> Self:
        """The same for every system of caps ``times`` times over, one after the other."""
        return self._changed(
            log_caps={k: np.repeat(v, times) for k, v in self.log_caps.items()},
            log_rows={k: np.repeat(v, times) for k, v in self.log_rows.items()},
        )

    def still(self) -> Array:
        """No sensitivity to anything: Λ = 0."""
        return np.full((len(self.tags), self.size), -np.inf)

    def onehot(self, dim: int) -> ValueBound:
        """A one-hot input."""
        one = np.zeros(self.size)
        return ValueBound(dim, one, one, self.still(), onehot=True)

    def real(self, dim: int, log_B_x: float) -> ValueBound:
        """An input with ‖x‖_2 ≤ B_x."""
        norm = np.full(self.size, log_B_x)
        return ValueBound(dim, norm, norm, self.still())

    def state(self, dim: int, tag: str, log_N: Array, log_Z: Array) -> ValueBound:
        """A state that a step starts from: it moves as its own tag does."""
        return ValueBound(dim, log_N, log_Z, self._own(tag), state=tag)

    def linear(self, block: Block, v: ValueBound) -> ValueBound:
        """N = c N_v, Λ = c Λ_v, + N_v on the block itself; a column of it for one-hot inputs."""
        if v is not self._constant:
            return self._linear(block, v)
        if block.name not in self._products:
            self._products[block.name] = self._linear(block, v)
        return self._products[block.name]

    def _linear(self, block: Block, v: ValueBound) -> ValueBound:
        c = self.log_caps[block.name]
        if v.onehot:
            return self._parameter(block, c)
        log_N = c + v.log_N
        log_Z = log_N
        if block.name in self.log_rows:
            rows = self.log_rows[block.name]
            held = np.where(np.isfinite(rows), rows, 0.0) + v.log_Z
            log_Z = np.where(np.isposinf(rows), log_N, np.minimum(log_N, held))
        lam = c + v.log_lam
        self._accrue(lam, block.name, v.log_N)
        self._charge_sum(lam, block.columns, min(block.rows, block.columns), block.rows, log_N)
        return self._value(block.rows, log_N, log_Z, lam)

    def bias(self, block: Block) -> ValueBound:
        """N = Z = c, Λ = 1 on the bias."""
        return self._parameter(block, self.log_caps[block.name])

    def fixed(self, fixed: FixedMap, v: ValueBound) -> ValueBound:
        """N = ‖P‖ N_v, Z = min(‖P‖ N_v, ‖P‖_row Z_v), Λ = ‖P‖ Λ_v."""
        norm = math.log(max(fixed.norm, SMALLEST_NORM))
        log_N = norm + v.log_N
        lam = norm + v.log_lam
        rows, columns = fixed.matrix.shape
        self._charge_sum(lam, columns, min(rows, columns), rows, log_N)
        log_Z = np.minimum(log_N, math.log(max(fixed.row_sum, SMALLEST_NORM)) + v.log_Z)
        return self._value(fixed.rows, log_N, log_Z, lam)

    def add(self, u: ValueBound, v: ValueBound) -> ValueBound:
        """Everything adds."""
        log_N = np.logaddexp(u.log_N, v.log_N)
        lam = np.logaddexp(u.log_lam, v.log_lam)
        self._charge_sum(lam, 1, 1, u.dim, log_N)
        return self._value(u.dim, log_N, np.logaddexp(u.log_Z, v.log_Z), lam)

    def mul(self, u: ValueBound, v: ValueBound) -> ValueBound:
        """N = min(Z_u N_v, Z_v N_u), Z = Z_u Z_v, Λ = Z_v Λ_u + Z_u Λ_v."""
        log_N = np.minimum(u.log_Z + v.log_N, v.log_Z + u.log_N)
        lam = np.logaddexp(v.log_Z + u.log_lam, u.log_Z + v.log_lam)
        self._charge(lam, PRODUCT_ERROR, log_N, u.dim)
        return self._value(u.dim, log_N, u.log_Z + v.log_Z, lam)

    def activation(self, name: str, v: ValueBound) -> ValueBound:
        """σ with ρ, b and s_0; sharper where σ is monotone and concave on the right."""
        if name in ("relu", "identity"):
            return v
        half = _log_root(v.dim)
        if name == "tanh":
            entry, log_Z = _log_tanh(np.array([np.minimum(v.log_N - half, v.log_Z), v.log_Z]))
            log_N, lam = half + entry, v.log_lam.copy()
        elif name == "sigmoid":
            log_Z, lam = _log_sigmoid(v.log_Z), v.log_lam - LOG_4
            log_N = half + log_Z
        else:
            log_N, log_Z, lam = _general(ACTIVATIONS[name], v, half)
        self._charge(lam, ACTIVATION_ERROR, log_N, v.dim)
        return self._value(v.dim, log_N, log_Z, lam)

    def gate(self, r: ValueBound, a: ValueBound, b: ValueBound) -> ValueBound:
        """(1 − r)⊙a + r⊙b with entries of r in [1 − s, s]; κ = √(s² + (1 − s)²).

        N is the least of √dim·max(Z_a, Z_b), s N_a + s N_b and κ√(N_a² + N_b²); Λ is
        (Z_a + Z_b) Λ_r and, for every tag, the lesser of sΛ_a + sΛ_b and κ√(Λ_a² + Λ_b²).
        """
        log_s = r.log_Z
        s = np.exp(log_s)
        # κ is at least that of the exact s, of which s may be a rounding above.
        log_kappa = 0.5 * np.log(np.square(s) + np.square(1.0 - s)) + 1e-15
        log_Z = np.maximum(a.log_Z, b.log_Z)
        log_N = np.minimum(
            _log_root(r.dim) + log_Z,
            np.minimum(
                log_s + np.logaddexp(a.log_N, b.log_N), log_kappa + _log_hypot(a.log_N, b.log_N)
            ),
        )
        either = np.minimum(
            log_s + np.logaddexp(a.log_lam, b.log_lam),
            log_kappa + _log_hypot(a.log_lam, b.log_lam),
        )
        lam = np.logaddexp(np.logaddexp(a.log_Z, b.log_Z) + r.log_lam, either)
        self._charge(lam, GATE_ERROR, np.logaddexp(a.log_N, b.log_N), r.dim)
        found = self._value(r.dim, log_N, log_Z, lam)
        for kept, other in ((a, b), (b, a)):
            if kept.state is not None:
                found = found._replace(mixed=(kept.state, other.log_Z))
        return found

    def concatenate(self, values: Sequence[ValueBound]) -> ValueBound:
        """N = √(N_u² + N_v²), Z the larger, Λ = √(Λ_u² + Λ_v²) for every tag."""
        first, *others = values
        for v in others:
            first = ValueBound(
                first.dim + v.dim,
                _log_hypot(first.log_N, v.log_N),
                np.maximum(first.log_Z, v.log_Z),
                _log_hypot(first.log_lam, v.log_lam),
            )
        return first

    def mean(self, v: ValueBound, steps: int) -> ValueBound:
        """The mean of at most ``steps`` values within v's bounds, with a sum's rounding."""
        lam = v.log_lam.copy()
        self._charge(lam, 2 * (steps + 4) * UNIT_ROUNDOFF, v.log_N, steps * v.dim)
        return self._value(v.dim, v.log_N, v.log_Z, lam)

    def _charge_sum(self, lam: Array, length: int, side: int, dim: int, log_N: Array) -> None:
        """A sum of ``length`` products, of Frobenius norm at most √side·N; longer if added to."""
        length = max(length, self.sum_length)
        factor = 2 * (length + 4) * UNIT_ROUNDOFF * math.sqrt(side)
        self._charge(lam, factor, log_N, length * dim)

    def _charge(self, lam: Array, factor: float, log_N: Array, operations: int) -> None:
        """Rounding relative to N, and the underflow of so many operations."""
        if ROUNDING in self._index:
            log_factor, floor = _log_charges(factor, operations)
            self._accrue(lam, ROUNDING, np.logaddexp(log_factor + log_N, floor))

    def _value(self, dim: int, log_N: Array, log_Z: Array, lam: Array) -> ValueBound:
        if self.inflation:
            log_N, log_Z = log_N + self.inflation, log_Z + self.inflation
        return ValueBound(dim, log_N, log_Z, lam)

    def _parameter(self, block: Block, c: Array) -> ValueBound:
        if block.name not in self._parameters:
            self._parameters[block.name] = ValueBound(block.rows, c, c, self._own(block.name))
        return self._parameters[block.name]

    def _own(self, tag: str) -> Array:
        """Λ = 1 for a tag."""
        if tag not in self._tagged:
            self._tagged[tag] = self.still()
            if tag in self._index:
                self._tagged[tag][self._index[tag]] = 0.0
        return self._tagged[tag]

    def _accrue(self, lam: Array, tag: str, log_amount: Array) -> None:
        if tag in self._index:
            row = lam[self._index[tag]]
            np.logaddexp(row, log_amount, row)


@cache
def _log_charges(factor: float, operations: int) -> tuple[Array, Array]:
    """Logs of a charge relative to N, and of the underflow of so many operations."""
    return np.array(math.log(factor)), np.array(math.log(operations) + LOG_UNDERFLOW)


@cache
def _log_root(dim: int) -> Array:
    """log √dim."""
    return np.array(0.5 * math.log(dim))


def _general(activation: Activation, v: ValueBound, half: Array) -> tuple[Array, Array, Array]:
    """The table's row for any ρ, b and s_0."""
    rho = math.log(activation.lipschitz)
    start = math.log(activation.at_zero) if activation.at_zero > 0 else -math.inf
    log_N, log_Z = np.logaddexp(rho + v.log_N, half + start), np.logaddexp(rho + v.log_Z, start)
    if math.isfinite(activation.bound):
        bound = math.log(activation.bound)
        log_N, log_Z = np.minimum(log_N, half + bound), np.minimum(log_Z, bound)
    return log_N, log_Z, rho + v.log_lam


def _log_hypot(log_a: Array, log_b: Array) -> Array:
    """log √(a² + b²)."""
    return 0.5 * np.logaddexp(2.0 * log_a, 2.0 * log_b)


def _log_sigmoid(log_x: Array) -> Array:
    """log of 1/(1 + e^−x) from log x."""
    return -np.log1p(np.exp(-np.exp(np.minimum(log_x, SEVEN))))


def _log_tanh(log_x: Array) -> Array:
    """log tanh x from log x; tanh x ≤ x serves where x is tiny, so it never errs low."""
    tiny = log_x < TINY
    x = np.exp(np.minimum(np.maximum(log_x, TINY), FOUR))
    return np.where(tiny, log_x, np.log(np.tanh(x)))
