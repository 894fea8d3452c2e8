"""N and Λ of a network's output after T steps (theory, section 3: one step is affine; stages).

Steps are taken one by one. Once a step maps slightly larger norms to nothing larger, norms are
frozen there and the rest is one affine power; layers with ReLU alone are one linear system; where
an LSTM's c creeps towards its bound, steps are taken in stretches. Where none serves, at most
`LONGEST` steps are taken; a longer horizon is not checked.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flint import arb, arb_mat

from recert.verifier.balls import ONE, ZERO, Ball, ball, greater
from recert.verifier.calculus import Equations, RecordedCap, Value, real, summed, token
from recert.verifier.structure import RecordedCell, Structure

LONGEST = 20_000
# Steps before an affine power is sought for ReLU, and before norms are raised noticeably.
EXACT, SLOW = 2000, 2048
STILL, RISE = arb(2) ** -76, arb(2) ** -66
# By how much norms may rise within a stretch.
LIFT = arb(2) ** -6


class TooLongError(Exception):
    """A horizon that would take too many steps."""


class WalkBudget:
    """What all walks of a certificate may take together, in products of numbers, about."""

    def __init__(self, left: float = 6e7) -> None:
        self.left = left

    def spend(self, much: float) -> None:
        """Take something off; TooLongError where there is no more."""
        self.left -= much
        if self.left < 0:
            raise TooLongError("all steps together take too long")


@dataclass(frozen=True)
class Reach:
    """N_y and Λ_y[k] of the output, class-wide."""

    N: Ball
    lam: Mapping[str, Ball]


def reach(
    network: Structure,
    caps: Mapping[str, RecordedCap],
    steps: int,
    input_bound: Ball,
    budget: WalkBudget | None = None,
) -> Reach:
    """N and Λ of the output in margin form after at most T steps.

    Raises:
        TooLongError: the horizon is too long to be walked.
    """
    y = output(Equations(caps), network, steps, input_bound, budget=budget)
    return Reach(y.N, {part.name: y.lam.get(part.name, ZERO) for part in network.blocks})


def output(
    equations: Equations,
    network: Structure,
    steps: int,
    input_bound: Ball,
    *,
    mean: bool = False,
    budget: WalkBudget | None = None,
) -> Value:
    """The output as these equations read it; ``mean`` where the head reads the mean over steps."""
    x = token(network.inputs) if network.tokens else real(network.inputs, input_bound)
    if network.embedding is not None:
        x = equations.linear(network.embedding, x)
    for dense in network.encoder:
        x = equations.dense(dense, x)
    for stage in stages(network):
        x = _Walk(equations, stage, x, budget or WalkBudget(float("inf"))).output(steps)
    if mean:
        x = equations.mean(x, steps)
    for dense in network.hidden:
        x = equations.dense(dense, x)
    y = equations.linear(network.V, x)
    if network.pool_norm is not None:
        # Larger is sound, and a map of norm zero is read as a tiny one.
        y = equations.fixed(ball(max(network.pool_norm, 1e-250)), None, y.dim, y)
    if network.b is not None:
        y = equations.add(y, equations.bias(network.b))
    return y


@dataclass(frozen=True)
class HorizonStage:
    """Layers that take their steps together."""

    cells: tuple[RecordedCell, ...]
    two_way: bool


def stages(network: Structure) -> list[HorizonStage]:
    """The layers in groups that take their steps together, bottom first."""
    found: list[HorizonStage] = []
    for cells in network.layers:
        if len(cells) == 2:
            found.append(HorizonStage(cells, True))
        elif found and not found[-1].two_way:
            found[-1] = HorizonStage((*found[-1].cells, *cells), False)
        else:
            found.append(HorizonStage(cells, False))
    return found


def _kinds(stage: HorizonStage) -> list[str]:
    """What every state of a stage is: "c" where it is an LSTM's, whose gates do not see it."""
    return [
        "c" if i and cell.cell == "lstm" else "h"
        for cell in stage.cells
        for i in range(len(cell.states))
    ]


@dataclass(frozen=True)
class _Step:
    """What one step makes of norms: new ones, A on the incoming states, b on the blocks."""

    N: list[Ball]
    Z: list[Ball]
    A: list[list[Ball]]
    b: list[dict[str, Ball]]


class _Walk:
    """One stage, walked from zero states."""

    def __init__(
        self, equations: Equations, stage: HorizonStage, x: Value, budget: WalkBudget
    ) -> None:
        self.equations, self.stage, self.x, self.budget = equations, stage, x, budget
        self.dims = [dim for cell in stage.cells for dim in cell.states]
        self.tags = [f"@{i}" for i in range(len(self.dims))]
        # An LSTM's c has no bound of its own; it creeps towards one where its gate stays below 1.
        self.cells_c = [i for i, kind in enumerate(_kinds(stage)) if kind == "c"]
        self.biases = {
            part.name
            for cell in stage.cells
            for role, part in cell.parts.items()
            if role.startswith("b")
        }
        equations.hold(x)

    def output(self, steps: int) -> Value:
        """What the stage gives out after at most so many steps."""
        states = self._after(steps)
        first, top = 0, sum(len(cell.states) for cell in self.stage.cells[:-1])
        if self.stage.two_way:
            return self.equations.beside(states[first], states[top])
        return states[top]

    def _after(self, steps: int) -> list[Value]:
        S = len(self.dims)
        N, Z = [ZERO] * S, [ZERO] * S
        lam: list[dict[str, Ball]] = [{} for _ in range(S)]
        if steps > EXACT and all(cell.activation == "relu" for cell in self.stage.cells):
            return self._linear_growth(steps)
        for t in range(1, steps + 1):
            step = self._step(N, Z)
            lam = self._moved(step, lam)
            still = self._standing(N, Z, step)
            N, Z = step.N, step.Z
            if t < steps and (still or t == SLOW):
                frozen = self._frozen(N, Z, [RISE] if still else _rises())
                if frozen is not None:
                    N, Z, step = frozen
                    return self._values(N, Z, self._power(step, lam, steps - t))
                if t == SLOW and self.cells_c:
                    return self._stretches(N, Z, lam, steps - t)
            if t >= LONGEST and t < steps:
                raise TooLongError(f"{steps} steps whose norms do not stand still")
        return self._values(N, Z, lam)

    def _step(self, N: Sequence[Ball], Z: Sequence[Ball]) -> _Step:
        states = [
            Value(dim, N[i], Z[i], {self.tags[i]: ONE}) for i, dim in enumerate(self.dims)
        ]  # fmt: skip
        after: list[Value] = []
        start, x = 0, self.x
        for cell in self.stage.cells:
            end = start + len(cell.states)
            new = self.equations.step(cell, x, tuple(states[start:end]))
            after.extend(new)
            start = end
            if not self.stage.two_way:
                x = new[0]
        self.budget.spend((20 + len(after) / 4) * sum(len(v.lam) for v in after))
        A = [[v.lam.get(tag, ZERO) for tag in self.tags] for v in after]
        b = [{tag: x for tag, x in v.lam.items() if tag not in self.tags} for v in after]
        return _Step([v.N for v in after], [v.Z for v in after], A, b)

    @staticmethod
    def _moved(step: _Step, lam: Sequence[Mapping[str, Ball]]) -> list[dict[str, Ball]]:
        """A Λ + b."""
        found = []
        for row, own in zip(step.A, step.b, strict=True):
            new = dict(own)
            for a, old in zip(row, lam, strict=True):
                if not a.is_zero():
                    new = summed(new, {tag: a * x for tag, x in old.items()})
            found.append(new)
        return found

    @staticmethod
    def _standing(N: Sequence[Ball], Z: Sequence[Ball], step: _Step) -> bool:
        """Whether a step hardly moved any norm."""
        pairs = zip([*N, *Z], [*step.N, *step.Z], strict=True)
        return all(new.is_zero() or abs(new - old) <= STILL * new for old, new in pairs)

    def _frozen(
        self, N: Sequence[Ball], Z: Sequence[Ball], rises: Sequence[Ball]
    ) -> tuple[list[Ball], list[Ball], _Step] | None:
        """Norms a little larger that a step does not enlarge, with that step; None if none do.

        By monotonicity all later norms stay below them (theory, section 3).
        """
        for rise in rises:
            up_N = [(x * (ONE + 2 * rise)).upper() for x in N]
            up_Z = [(x * (ONE + rise)).upper() for x in Z]
            step = self._step(up_N, up_Z)
            pairs = zip([*step.N, *step.Z], [*up_N, *up_Z], strict=True)
            if all(new.upper() <= old for new, old in pairs):
                return up_N, up_Z, step
        return None

    def _stretches(
        self, N: list[Ball], Z: list[Ball], lam: Sequence[Mapping[str, Ball]], steps: int
    ) -> list[Value]:
        """The remaining steps in stretches, each at norms that are not exceeded within it."""
        length = 4
        while steps:
            length = min(2 * length, steps)
            found = self._stretch(N, Z, length)
            while found is None and length > 1:
                length //= 2
                found = self._stretch(N, Z, length)
            if found is None:
                raise TooLongError("norms grow too fast")
            N, Z, step = found
            lam, steps = self._power(step, lam, length), steps - length
        return self._values(N, Z, lam)

    def _stretch(
        self, N: Sequence[Ball], Z: Sequence[Ball], length: int
    ) -> tuple[list[Ball], list[Ball], _Step] | None:
        """Norms that so many steps do not exceed, with a step at them; None if none are found.

        Suppose that all norms stay below (up_N, up_Z) for some steps. Then those of c follow an
        affine map with coefficients taken there, to an end that is put in their place, and the
        others are at most what a step makes of (up_N, up_Z), which must be below it too.
        """
        up_N, up_Z = ([(x * (ONE + LIFT)).upper() for x in norms] for norms in (N, Z))
        rest = [i for i in range(len(self.dims)) if i not in self.cells_c]
        for attempt in range(2):
            for i in self.cells_c:
                up_N[i], up_Z[i] = self._end(i, N, Z, up_N, up_Z, length)
            step = self._step(up_N, up_Z)
            fits = all(step.N[i].upper() <= up_N[i] and step.Z[i].upper() <= up_Z[i] for i in rest)
            if attempt == 0 and not fits:
                return None
            if attempt == 0:  # what a step makes of norms that are not exceeded is not exceeded
                for i in rest:
                    up_N[i] = greater(step.N[i], N[i]).upper()
                    up_Z[i] = greater(step.Z[i], Z[i]).upper()
        small = all(up_Z[i] <= Z[i] * (ONE + LIFT) for i in self.cells_c)
        return (up_N, up_Z, step) if small or length == 1 else None

    def _end(
        self,
        i: int,
        N: Sequence[Ball],
        Z: Sequence[Ball],
        up_N: Sequence[Ball],
        up_Z: Sequence[Ball],
        length: int,
    ) -> tuple[Ball, Ball]:
        """The largest norms of c within a stretch, while all others stay below (up_N, up_Z).

        Z_c ← s·Z_c + Z_0, and N_c is at most s·N_c + N_0.
        """
        whole = self._step(up_N, up_Z)
        bare_N, bare_Z = ([*norms[:i], ZERO, *norms[i + 1 :]] for norms in (up_N, up_Z))
        bare = self._step(bare_N, bare_Z)
        s = ((whole.Z[i] - bare.Z[i]) / up_Z[i]).upper()
        power = s**length
        terms = (ONE - power) / (ONE - s) if s < 1 else ball(length) * greater(ONE, power)
        ends = (power * x[i] + terms * z[i] for x, z in ((N, bare.N), (Z, bare.Z)))
        end_N, end_Z = ends
        return greater(end_N, N[i]).upper(), greater(end_Z, Z[i]).upper()

    def _power(
        self, step: _Step, lam: Sequence[Mapping[str, Ball]], steps: int
    ) -> list[dict[str, Ball]]:
        """Λ after so many steps with the same A and b, by squaring."""
        S = len(self.dims)
        tags = sorted({tag for row in (*step.b, *lam) for tag in row})
        K = len(tags)
        self.budget.spend((S + K) ** 3 * steps.bit_length() / 30)
        M = arb_mat(S + K, S + K)
        for i in range(S):
            for j in range(S):
                M[i, j] = step.A[i][j]
            for k, tag in enumerate(tags):
                M[i, S + k] = step.b[i].get(tag, ZERO)
        for k in range(K):
            M[S + k, S + k] = ONE
        z = arb_mat(S + K, K)
        for k, tag in enumerate(tags):
            for i in range(S):
                z[i, k] = lam[i].get(tag, ZERO)
            z[S + k, k] = ONE
        z = applied_power(M, z, steps)
        return [{tag: z[i, k] for k, tag in enumerate(tags)} for i in range(S)]

    def _linear_growth(self, steps: int) -> list[Value]:
        """Cells with ReLU alone: (Λ_k, N, 1) follows a linear map for every tag k; Z ≤ N."""
        S = len(self.dims)
        zero = [ZERO] * S
        base = self._step(zero, zero)
        # Slopes are read where inputs and biases are zero, so that nothing large is subtracted.
        bare = self._without_constants()
        rest = bare._step(zero, zero)
        units = [[ONE if i == j else ZERO for i in range(S)] for j in range(S)]
        moved = [bare._step(unit, unit) for unit in units]
        tags = sorted({tag for row in (*base.b, *(r for m in moved for r in m.b)) for tag in row})
        N = [ZERO] * S
        lam: list[dict[str, Ball]] = [{} for _ in range(S)]
        self.budget.spend(len(tags) * (2 * S + 1) ** 3 * steps.bit_length() / 30)
        for tag in tags:
            M = arb_mat(2 * S + 1, 2 * S + 1)
            for i in range(S):
                M[i, 2 * S], M[S + i, 2 * S] = base.b[i].get(tag, ZERO), base.N[i]
                for j in range(S):
                    M[i, j] = base.A[i][j]
                    if tag not in self.biases:  # whose Λ does not depend on norms
                        own = rest.b[i].get(tag, ZERO)
                        M[i, S + j] = _excess(moved[j].b[i].get(tag, ZERO), own)
                    M[S + i, S + j] = moved[j].N[i]
            M[2 * S, 2 * S] = ONE
            z = arb_mat(2 * S + 1, 1)
            z[2 * S, 0] = ONE
            z = applied_power(M, z, steps)
            N = [z[S + i, 0] for i in range(S)]
            for i in range(S):
                lam[i][tag] = z[i, 0]
        return self._values(N, N, lam)

    def _without_constants(self) -> _Walk:
        """The same stage with zero inputs and biases: what is left is linear in the states."""
        equations = copy.copy(self.equations)
        still = {name: RecordedCap(ZERO) for name in self.biases}
        equations.caps = {**equations.caps, **still}
        return _Walk(equations, self.stage, Value(self.x.dim, ZERO, ZERO, {}), self.budget)

    def _values(
        self, N: Sequence[Ball], Z: Sequence[Ball], lam: Sequence[Mapping[str, Ball]]
    ) -> list[Value]:
        return [Value(dim, N[i], Z[i], lam[i]) for i, dim in enumerate(self.dims)]


def applied_power(M: arb_mat, z: arb_mat, n: int) -> arb_mat:
    """M^n z."""
    while n:
        if n & 1:
            z = M * z
        n >>= 1
        if n:
            M = M * M
    return z


def _excess(u: Ball, v: Ball) -> Ball:
    """An upper bound of u − v where that is known not to be negative."""
    found = (u - v).upper()
    return found if found > 0 else ZERO


def _rises() -> list[Ball]:
    return [arb(10) ** exponent for exponent in range(-18, 7)]
