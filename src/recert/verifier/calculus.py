"""The sensitivity calculus in ball arithmetic (theory, section 3).

A value carries N ≥ ‖v‖_2, Z ≥ ‖v‖_∞ and Λ[k] for every tag k: the blocks, and the states that a
step starts from. Tags that are not listed have Λ = 0. Every number is an upper bound, so where the
theory takes a minimum either argument would be sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recert.verifier.balls import ONE, SATURATED, ZERO, Ball, ball, greater, lesser
from recert.verifier.structure import Affine, RecordedCell, RecordedPart

Lambda = Mapping[str, Ball]
QUARTER = ball(0.25)


@dataclass(frozen=True, slots=True)
class Value:
    """Bounds of one value of the network."""

    dim: int
    N: Ball
    Z: Ball
    lam: Lambda
    one_hot: bool = False


@dataclass(frozen=True)
class RecordedCap:
    """Caps on one block: its own norm, and its row sums where they are held."""

    norm: Ball
    row: Ball | None = None


def token(dim: int) -> Value:
    """A one-hot input."""
    return Value(dim, ONE, ONE, {}, one_hot=True)


def real(dim: int, bound: Ball) -> Value:
    """An input of norm at most B_x."""
    return Value(dim, bound, bound, {})


def scaled(factor: Ball, lam: Lambda) -> dict[str, Ball]:
    """Factor · Λ."""
    return {tag: factor * x for tag, x in lam.items()}


def summed(u: Lambda, v: Lambda) -> dict[str, Ball]:
    """Λ_u + Λ_v."""
    found = dict(u)
    for tag, x in v.items():
        found[tag] = found[tag] + x if tag in found else x
    return found


def hypot(u: Ball, v: Ball) -> Ball:
    """√(u² + v²)."""
    if v.is_zero():
        return u
    return v if u.is_zero() else (u * u + v * v).sqrt()


def tanh(x: Ball) -> Ball:
    """tanh of x ≥ 0, from above."""
    return ONE if x >= SATURATED else x.tanh()


def sigmoid(x: Ball) -> Ball:
    """1/(1 + e^−x) of x ≥ 0, from above."""
    return ONE if x >= SATURATED else ONE / (ONE + (-x).exp())


class Calculus:
    """The table's rows at some caps."""

    def __init__(self, caps: Mapping[str, RecordedCap]) -> None:
        self.caps = caps

    def linear(self, part: RecordedPart, v: Value) -> Value:
        """A·v of a dense block or a filter bank; a column of A for one-hot inputs."""
        cap = self.caps[part.name]
        c = cap.norm
        if v.one_hot:
            return Value(part.rows, c, c, {part.name: ONE})
        N = c * v.N
        Z = N if cap.row is None else lesser(N, cap.row * v.Z)
        return Value(part.rows, N, Z, summed(scaled(c, v.lam), {part.name: v.N}))

    def bias(self, part: RecordedPart) -> Value:
        """A bias as a value."""
        c = self.caps[part.name].norm
        return Value(part.rows, c, c, {part.name: ONE})

    def fixed(self, norm: Ball, row_sum: Ball | None, rows: int, v: Value) -> Value:
        """P·v for a map that is the same in the whole class."""
        N = norm * v.N
        Z = N if row_sum is None else lesser(N, row_sum * v.Z)
        return Value(rows, N, Z, scaled(norm, v.lam))

    def add(self, u: Value, v: Value) -> Value:
        """U + v."""
        return Value(u.dim, u.N + v.N, u.Z + v.Z, summed(u.lam, v.lam))

    def mul(self, u: Value, v: Value) -> Value:
        """U ⊙ v."""
        N = lesser(u.Z * v.N, v.Z * u.N)
        return Value(u.dim, N, u.Z * v.Z, summed(scaled(v.Z, u.lam), scaled(u.Z, v.lam)))

    def activation(self, name: str, v: Value) -> Value:
        """σ(v); those that are 1-Lipschitz, unbounded and 0 at 0 change no bound."""
        if name in ("identity", "relu", "leaky_relu", "elu"):
            return v
        root = ball(v.dim).sqrt()
        if name == "tanh":
            return Value(v.dim, root * tanh(lesser(v.N / root, v.Z)), tanh(v.Z), v.lam)
        if name == "sigmoid":
            s = sigmoid(v.Z)
            return Value(v.dim, root * s, s, scaled(QUARTER, v.lam))
        raise ValueError(f"activation {name!r} has no row in the table")

    def gate(self, r: Value, a: Value, b: Value) -> Value:
        """(1 − r) ⊙ a + r ⊙ b for a sigmoid gate r, entries of which lie in [1 − s, s]."""
        s = r.Z
        kappa = hypot(s, ONE - s)
        Z = greater(a.Z, b.Z)
        N = lesser(ball(r.dim).sqrt() * Z, s * a.N + s * b.N, kappa * hypot(a.N, b.N))
        lam = scaled(a.Z + b.Z, r.lam)
        for tag in a.lam.keys() | b.lam.keys():
            u, v = a.lam.get(tag, ZERO), b.lam.get(tag, ZERO)
            moved = lesser(s * (u + v), kappa * hypot(u, v))
            lam[tag] = lam[tag] + moved if tag in lam else moved
        return Value(r.dim, N, Z, lam)

    def beside(self, u: Value, v: Value) -> Value:
        """U and v side by side."""
        tags = u.lam.keys() | v.lam.keys()
        lam = {tag: hypot(u.lam.get(tag, ZERO), v.lam.get(tag, ZERO)) for tag in tags}
        return Value(u.dim + v.dim, hypot(u.N, v.N), greater(u.Z, v.Z), lam)

    def mean(self, v: Value, steps: int) -> Value:
        """The mean of values within these bounds."""
        return v

    def dense(self, layer: Affine, v: Value) -> Value:
        """σ(A v + b)."""
        z = self.linear(layer.A, v)
        if layer.b is not None:
            z = self.add(z, self.bias(layer.b))
        return self.activation(layer.activation, z)


class Equations(Calculus):
    """The cells' equations, as the paper and torch have them, over the calculus."""

    def __init__(self, caps: Mapping[str, RecordedCap]) -> None:
        super().__init__(caps)
        self._x: Value | None = None
        self._of_x: dict[str, Value] = {}

    def step(self, cell: RecordedCell, x: Value, states: tuple[Value, ...]) -> tuple[Value, ...]:
        """New states of one cell, the output's first."""
        found: tuple[Value, ...] = getattr(self, f"_{cell.cell}")(cell, x, states)
        return found

    def hold(self, x: Value) -> None:
        """What a stage reads, the same at every step: products with it are taken once."""
        self._x, self._of_x = x, {}

    def _input(self, part: RecordedPart, x: Value) -> Value:
        if x is not self._x:
            return self.linear(part, x)
        if part.name not in self._of_x:
            self._of_x[part.name] = self.linear(part, x)
        return self._of_x[part.name]

    def _pre(self, cell: RecordedCell, gate: str, x: Value, h: Value) -> Value:
        """W x + U h + b of one gate."""
        parts = cell.parts
        z = self.add(self._input(parts[f"W{gate}"], x), self.linear(parts[f"U{gate}"], h))
        return self.add(z, self.bias(parts[f"b{gate}"])) if f"b{gate}" in parts else z

    def _sigmoid(self, cell: RecordedCell, gate: str, x: Value, h: Value) -> Value:
        return self.activation("sigmoid", self._pre(cell, gate, x, h))

    def _vanilla(
        self, cell: RecordedCell, x: Value, states: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        return (self.activation(cell.activation, self._pre(cell, "", x, states[0])),)

    def _mgu(self, cell: RecordedCell, x: Value, states: tuple[Value, ...]) -> tuple[Value, ...]:
        h = states[0]
        r = self._sigmoid(cell, "_r", x, h)
        n = self.activation("tanh", self._pre(cell, "_h", x, self.mul(r, h)))
        return (self.gate(r, h, n),)

    def _gru(self, cell: RecordedCell, x: Value, states: tuple[Value, ...]) -> tuple[Value, ...]:
        h, parts = states[0], cell.parts
        r, z = self._sigmoid(cell, "_r", x, h), self._sigmoid(cell, "_z", x, h)
        inner = self.linear(parts["U_n"], h)
        if "b_hn" in parts:
            inner = self.add(inner, self.bias(parts["b_hn"]))
        outer = self._input(parts["W_n"], x)
        if "b_n" in parts:
            outer = self.add(outer, self.bias(parts["b_n"]))
        n = self.activation("tanh", self.add(outer, self.mul(r, inner)))
        return (self.gate(z, n, h),)

    def _gru_original(
        self, cell: RecordedCell, x: Value, states: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        h = states[0]
        r, z = self._sigmoid(cell, "_r", x, h), self._sigmoid(cell, "_z", x, h)
        n = self.activation("tanh", self._pre(cell, "_n", x, self.mul(r, h)))
        return (self.gate(z, n, h),)

    def _lstm(self, cell: RecordedCell, x: Value, states: tuple[Value, ...]) -> tuple[Value, ...]:
        h, c = states
        g, r, o = (self._sigmoid(cell, gate, x, h) for gate in ("_g", "_r", "_o"))
        candidate = self.activation("tanh", self._pre(cell, "_c", x, h))
        c = self.add(self.mul(g, c), self.mul(r, candidate))
        h = self.mul(o, self.activation("tanh", c))
        return (self.linear(cell.parts["P"], h) if "P" in cell.parts else h), c

    def _peephole_lstm(
        self, cell: RecordedCell, x: Value, states: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        h, c = states

        def gate(letter: str, seen: Value) -> Value:
            z = self._pre(cell, f"_{letter}", x, h)
            z = self.add(z, self.mul(self.bias(cell.parts[f"p_{letter}"]), seen))
            return self.activation("sigmoid", z)

        candidate = self.activation("tanh", self._pre(cell, "_c", x, h))
        new = self.add(self.mul(gate("g", c), c), self.mul(gate("r", c), candidate))
        return self.mul(gate("o", new), self.activation("tanh", new)), new

    def _min_gru(
        self, cell: RecordedCell, x: Value, states: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        z = self.activation("sigmoid", self._of_input(cell, "_z", x))
        return (self.gate(z, states[0], self._of_input(cell, "_h", x)),)

    def _of_input(self, cell: RecordedCell, gate: str, x: Value) -> Value:
        """W x + b of one gate."""
        z = self._input(cell.parts[f"W{gate}"], x)
        return self.add(z, self.bias(cell.parts[f"b{gate}"])) if f"b{gate}" in cell.parts else z

    def _conv(self, cell: RecordedCell, x: Value, states: tuple[Value, ...]) -> tuple[Value, ...]:
        parts = cell.parts
        z = self.add(self._input(parts["W"], x), self.linear(parts["U"], states[0]))
        if "b" in parts:
            # One bias a channel, spread over L positions by a map of norm √L, row sums 1.
            root = ball(cell.positions).sqrt()
            z = self.add(z, self.fixed(root, ONE, z.dim, self.bias(parts["b"])))
        return (self.activation(cell.activation, z),)

    def _conv_averaged(
        self, cell: RecordedCell, x: Value, states: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        parts = cell.parts
        z = self.add(self._input(parts["W"], x), self.linear(parts["U"], states[0]))
        # The mean over k channels has norm 1/√k and row sums 1.
        norm = ONE / ball(cell.channels).sqrt()
        return (self.activation(cell.activation, self.fixed(norm, ONE, cell.units, z)),)
