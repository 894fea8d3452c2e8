"""A stage walked on bounds: norms and sensitivities of its states after T steps, in logs.

One step maps the sensitivities of the states affinely, Λ_t = A Λ_{t−1} + b, with A and b depending
on the states' norms N, Z alone. Steps are taken one by one until the norms stand still; from there
on one affine map serves every step and is raised to its power by squaring, so T = 10^6 costs a few
dozen matrix products. Norms that never stand still are followed in closed form (ReLU stacks) or
raised a little from one stretch of steps to the next (an LSTM's cell state). All arithmetic is on
logarithms of non-negative numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recert.networks.reading import Stage
from recert.numerics.logspace import affine_last, affine_orbit
from recert.sensitivities.norm_domain import BoundsAlgebra, ValueBound
from recert.sensitivities.recursions import (
    Account,
    Group,
    Norms,
    State,
    Step,
    Track,
    at_fixed_norms,
    at_once,
    below,
    groups,
    grown,
)

Array = NDArray[np.float64]

# Steps taken one by one before affine growth is looked for (at every power of 2), before stretches
# begin, and before the norms of a bounded vanilla cell are rounded up to a fixed point.
AFFINE_AFTER = 64
STRETCHES_AFTER = 128
EXACT_STEPS = 2048
# Within a stretch no log norm may rise by more than RISE; norms that hardly move any more are first
# looked for within STRETCH.
STRETCH, RISE = 0.05, 0.065
# Stretches are made as long as lets the log norms rise by about this much.
AIM, FIRST_STRETCH = 0.04, 8
# Norms that rose by more within a stretch do not stand still after it.
NEARLY = 1e-3


@dataclass(frozen=True, eq=False)
class Ahead:
    """The steps that remain of a walk after step t, and whether each is asked for or the last."""

    t: int
    before: Norms
    state: State
    steps: int
    every: bool


class Walk:
    """One stage on bounds; arrays end in an axis of G systems of caps.

    Args:
        algebra: of the whole network; its tags end with as many state tags as are ever needed.
        stage: what is walked.
        x: what the stage reads, the same at every step.
        kept: number of tags before the state tags.
        account: of roundings.
    """

    def __init__(
        self, algebra: BoundsAlgebra, stage: Stage, x: ValueBound, kept: int, account: Account
    ) -> None:
        self.algebra, self.stage, self.x, self.kept = algebra.reading(x), stage, x, kept
        self.account = account
        self.S = len(stage.dimensions)
        self.tags = algebra.tags[kept : kept + self.S]
        self.groups = groups(stage)
        # States that a gate mixes with a candidate.
        gated = [layer.spec.mixes for layer in stage.layers for _ in layer.state_dimensions]
        self._gated = np.array(gated)[:, None]
        # Ways to take all remaining steps at once, each where it can.
        self._strategies = (self._still, self._affine, self._stretches, self._raised)

    @cached_property
    def _quick(self) -> Walk:
        """The same on the states' own tags alone, for norms and how states move with states."""
        algebra = self.algebra.tagged(self.tags)
        x = self.x._replace(log_lam=algebra.still())
        return Walk(algebra, self.stage, x, 0, self.account)

    def step(self, norms: Norms) -> Step:
        """One step from states of these norms."""
        states = [
            self.algebra.state(dim, tag, log_N, log_Z)
            for dim, tag, log_N, log_Z in zip(self.stage.dimensions, self.tags, *norms, strict=True)
        ]
        after: tuple[ValueBound, ...] = self.stage.step(self.algebra, self.x, states)
        lam = np.array([value.log_lam for value in after])
        return Step(
            Norms(*(np.array([value[i] for value in after]) for i in (1, 2))),
            lam[:, self.kept : self.kept + self.S],
            lam[:, : self.kept],
            {
                i: value.mixed[1]
                for i, (tag, value) in enumerate(zip(self.tags, after, strict=True))
                if value.mixed is not None and value.mixed[0] == tag
            },
        )

    def track(self, steps: int, *, every: bool = False, diagonal: bool = False) -> Track:
        """Norms and sensitivities after ``steps`` steps, or after every one of them.

        With ``diagonal`` the systems of caps are horizons 1, 2, …, over and over, and each is
        followed to its own horizon only; every step is then taken.
        """
        G = self.algebra.size
        zero = np.full((self.S, G), -np.inf)
        state = State(Norms(zero, zero), np.full((self.S, self.kept, G), -np.inf))
        horizon = np.arange(G) % steps + 1
        trace: list[Track] = []
        for t in range(1, steps + 1):
            before = state
            state = self.step(before.norms).after(before.lam)
            self._note(state.lam)
            if diagonal:
                done = horizon < t
                norms = before.norms.where(done, state.norms)
                state = State(norms, np.where(done, before.lam, state.lam))
                continue
            if every or t == steps:
                trace.append(at_once(state))
            ahead = Ahead(t, before.norms, state, steps - t, every)
            tail = self._tail(ahead) if t < steps else None
            if tail is not None:
                trace.append(tail)
                break
        if diagonal:
            return at_once(state)
        return Track.joined(trace) if every else trace[-1]

    def _note(self, lam: Array) -> None:
        """A step is accounted for by all but the rounding tag, which has slack of its own."""
        self.account.note(lam[:, :-1])

    def _tail(self, ahead: Ahead) -> Track | None:
        """The remaining steps at once, where one of the strategies can tell."""
        found = (strategy(ahead) for strategy in self._strategies)
        return next((track for track in found if track is not None), None)

    @property
    def _plain(self) -> bool:
        """Whether all cells are vanilla with tanh, whose norms always come to stand still."""
        return all(c.cell == "vanilla" and c.activation == "tanh" for c in self.stage.layers)

    def _still(self, ahead: Ahead) -> Track | None:
        """Norms that stand still, held a little above where they stand."""
        standing = _standing(ahead.before, ahead.state.norms, 4.0 * self.algebra.inflation)
        return self._constant(ahead) if standing.all() else None

    def _raised(self, ahead: Ahead) -> Track | None:
        """Norms raised to where a step does not enlarge them, after many steps."""
        rises = range(-12, 7) if ahead.t == EXACT_STEPS else ()
        found = (self._constant(ahead, math.log1p(10.0**exponent)) for exponent in rises)
        return next((track for track in found if track is not None), None)

    def _constant(self, ahead: Ahead, rise: float = 1e-12) -> Track | None:
        """The remaining steps at norms a little larger, if a step does not enlarge these."""
        norms, lam = ahead.state
        up = self._lifted(norms, rise, ahead.steps)
        held = self._held(norms.log_Z + rise, up)
        return None if held is None else at_fixed_norms(held, lam, ahead.steps, ahead.every)

    def _lifted(self, norms: Norms, rise: float, steps: int) -> Norms:
        """Norms above these by a rise and what roundings add in so many steps."""
        drift = steps * self.algebra.inflation
        up_Z = norms.log_Z + rise
        return Norms(norms.log_N + 2.0 * (rise + drift), np.where(self._gated, up_Z + drift, up_Z))

    def _held(self, first_Z: Array, up: Norms) -> Step | None:
        """The step at norms that it does not enlarge, with these; None if it does.

        A gate hands on the larger of two Z. Where the other one stays below ``first_Z``, from which
        the state's Z starts, the state's own stays where it is, but for the gate's roundings, which
        lead from ``first_Z`` to ``up`` at most.
        """
        step = self.step(up)
        self.account.walked += 1
        new = Norms(step.norms.log_N, step.norms.log_Z.copy())
        for i, mixed in step.mixed.items():
            if not below(mixed, first_Z[i]):
                return None
            new.log_Z[i] = -np.inf
        return replace(step, norms=up) if new.below(up) else None

    def _affine(self, ahead: Ahead) -> Track | None:
        """ReLU layers whose norms grow for ever, above layers whose norms stand still, or None.

        The latter are held a little above where they stand; N of the others is linear in N of the
        others, and so is b. Z is set to N, which is sound, and which N of a ReLU does not feel.
        """
        if self._plain or ahead.t < AFFINE_AFTER or ahead.t & (ahead.t - 1):
            return None
        (norms, lam), steps = ahead.state, ahead.steps
        S, K, G = lam.shape
        free = np.invert(_standing(ahead.before, norms, 0.0))
        growing = {i for group in self.groups if not group.of_c for i in group.states}
        rows = [int(i) for i in np.flatnonzero(free)]
        if not rows or not set(rows) <= growing or not free[rows[0] :].all():
            return None
        if self.stage.two_way and not free.all():
            return None
        mask = free[:, None]
        up = Norms(norms.log_N + 1e-12, norms.log_Z + 1e-12)
        # States below do not feel those above, so that they stay where they are is seen at once.
        step = self.step(Norms(*(np.where(mask, -np.inf, v) for v in up)))
        if not step.norms.of(~free).below(up.of(~free)):
            return None
        N_N, b_N = self._slopes(rows)
        N_0 = np.where(mask, step.norms.log_N, -np.inf)
        # For every tag k: z = (Λ_k, N, 1) with Λ_k ← A Λ_k + b_N,k N + b_0,k and N ← N_N N + N_0.
        n = 2 * S + 1
        M = np.full((K, G, n, n), -np.inf)
        M[:, :, :S, :S] = step.A.transpose(2, 0, 1)[None]
        M[:, :, :S, S : 2 * S] = b_N.transpose(2, 3, 1, 0)
        M[:, :, :S, 2 * S] = step.b.transpose(1, 2, 0)
        M[:, :, S : 2 * S, S : 2 * S] = N_N.transpose(2, 1, 0)[None]
        M[:, :, S : 2 * S, 2 * S] = N_0.T[None]
        M[:, :, 2 * S, 2 * S] = 0.0
        z = np.zeros((K, G, n))
        z[:, :, :S] = lam.transpose(1, 2, 0)
        z[:, :, S : 2 * S] = np.where(mask, norms.log_N, -np.inf).T[None]
        out = affine_orbit(M, z, steps) if ahead.every else affine_last(M, z, steps)[:, :, None]
        grown_N = out[0, ..., S : 2 * S].transpose(2, 1, 0)  # (G, H, S) → (S, H, G)
        end_N, end_Z = (np.where(mask[:, None], grown_N, v[:, None]) for v in up)
        return Track(end_N, end_Z, out[..., :S].transpose(3, 0, 2, 1))

    def _slopes(self, rows: list[int]) -> tuple[Array, Array]:
        """N (S, S', G) and b (S, S', kept, G) per unit of N of each ReLU state, without constants.

        Read where all else is zero, inputs and biases included: nothing is subtracted, so that no
        weak coupling is lost. Entries of b that do not vanish there are constants of a bias.
        """
        G = self.algebra.size
        zero = np.full((self.S, G), -np.inf)
        x = ValueBound(self.x.dim, zero[0], zero[0], self.algebra.still())
        bare = Walk(self.algebra.without_constants(), self.stage, x, self.kept, self.account)
        b_start = bare.step(Norms(zero, zero)).b
        constant = np.isfinite(b_start)
        constant[:, -1] = False  # the rounding tag: the constant is counted again, which is sound
        N_N = np.full((self.S, self.S, G), -np.inf)
        b_N = np.full((self.S, *b_start.shape), -np.inf)
        for s in rows:
            unit = zero.copy()
            unit[s] = 0.0
            step = bare.step(Norms(unit, unit))
            N_N[s, rows] = step.norms.log_N[rows]
            b_N[s] = np.where(constant, -np.inf, step.b)
        return N_N, b_N

    def _stretches(self, ahead: Ahead) -> Track | None:
        """The remaining steps in stretches, each at norms that are not exceeded within it."""
        if self._plain or ahead.t != STRETCHES_AFTER:
            return None
        parts, length = [], FIRST_STRETCH
        state, steps, every = ahead.state, ahead.steps, ahead.every
        while steps > 0:
            length = min(length, steps)
            found = None
            while found is None and length > 1:
                found = self._stretch(state.norms, length)
                length = length if found is not None else length // 2
            self._note(state.lam)
            length = length if found is not None else 1
            step = found or self.step(state.norms)
            part = at_fixed_norms(step, state.lam, length, every)
            parts.append(part)
            rise = _rise(state.norms, step.norms)
            state = State(step.norms, part.lam[:, :, -1])
            steps -= length
            length = max(FIRST_STRETCH, int(length * min(2.0, AIM / max(rise, 1e-9))))
            if steps and found is not None and rise < NEARLY:
                last = self._constant(replace(ahead, state=state, steps=steps))
                if last is not None:
                    parts.append(last)
                    break
        return Track.joined(parts) if every else parts[-1]

    def _stretch(self, norms: Norms, length: int) -> Step | None:
        """The step at norms that ``length`` steps do not exceed, and these; None if none was found.

        Suppose that all norms stay below such (N, Z) for some steps. Then the norms of a group
        (`recert.sensitivities.recursions`) follow an affine map with coefficients taken there, to
        an end that must be below (N, Z), and the other norms are at most what a step makes of (N,
        Z), which must be below it too. So they stay below it for the next step.
        """
        others = np.ones(self.S, dtype=bool)
        others[[i for group in self.groups for i in group.states]] = False
        up = self._grown(norms, self._lifted(norms, STRETCH, length), length)
        new = self._mixed(self._quick.step(up), norms, length)
        if not new.of(others).below(up.of(others)):
            return None
        # What a step makes of norms that are not exceeded is not exceeded.
        least = (np.minimum(u, np.maximum(*ends)) for u, *ends in zip(up, new, norms, strict=True))
        up = self._grown(norms, Norms(*least).where(others[:, None], up), length)
        if _rise(norms, up) > RISE and length > 8:
            return None
        return replace(self.step(up), norms=up)

    def _mixed(self, step: Step, norms: Norms, length: int) -> Norms:
        """Norms after a step, a gated state's Z the first one or the candidate's, and roundings."""
        new_Z = step.norms.log_Z.copy()
        for i, mixed in step.mixed.items():
            new_Z[i] = np.maximum(norms.log_Z[i], mixed) + length * self.algebra.inflation
        return Norms(step.norms.log_N, new_Z)

    def _grown(self, norms: Norms, up: Norms, length: int) -> Norms:
        """``up`` with every group's norms after ``length`` steps, bottom first."""
        ends = Norms(*(v.copy() for v in up))
        for group in self.groups:
            rows = list(group.states)
            ends.log_N[rows], ends.log_Z[rows] = self._group_end(group, norms, ends, length)
        return ends

    def _group_end(self, group: Group, norms: Norms, up: Norms, length: int) -> tuple[Array, Array]:
        """Norms of a group after ``length`` steps while all others stay below ``up``."""
        rows = list(group.states)
        still = Norms(*(v.copy() for v in up))
        still.log_N[rows] = still.log_Z[rows] = -np.inf
        step = self._quick.step(still)
        start, first = norms.of(rows), step.norms.of(rows)
        if group.of_c:
            # Z_c ← s Z_c + Z_0, and N likewise: s is how c moves with c, raised for roundings.
            slope = step.A[rows][:, rows] + 4.0 * self.algebra.inflation + 1e-15
            end_N = grown(slope, first.log_N, start.log_N, length)
            return end_N, grown(slope, first.log_Z, start.log_Z, length)
        slope = self._linear[rows][:, rows].transpose(1, 0, 2)
        end = grown(slope, first.log_N, start.log_N, length)
        return end, end

    @cached_property
    def _linear(self) -> Array:
        """N (S, S', G) per unit of N of each ReLU state."""
        return self._slopes([i for g in self.groups if not g.of_c for i in g.states])[0]


def _rise(norms: Norms, up: Norms) -> float:
    """By how much a log Z rose at most."""
    with np.errstate(invalid="ignore"):
        return float(np.where(np.isfinite(norms.log_Z), up.log_Z - norms.log_Z, 0.0).max())


def _standing(before: Norms, after: Norms, drift: float) -> NDArray[np.bool_]:
    """Which states' norms did not move in a step beyond a drift, in any system: (S,)."""
    still = np.ones(len(after.log_N), dtype=bool)
    for old, new in zip(before, after, strict=True):
        with np.errstate(invalid="ignore"):
            near = np.abs(new - old) <= 1e-15 * (1.0 + np.abs(new)) + drift
        still &= ((old == new) | near).all(axis=1)
    return still
