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

import numpy as np
from numpy.typing import NDArray

from recert.networks.reading import Stage
from recert.numerics.logspace import affine_last, affine_orbit
from recert.sensitivities.norm_domain import BoundsAlgebra, ValueBound
from recert.sensitivities.recursions import (
    Account,
    Group,
    Track,
    applied,
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
class Step:
    """What one step makes of states of some norms.

    New norms N, Z (S, G); A (S, S, G) and b (S, kept, G) of the sensitivities; and for every state
    that a gate mixes with a candidate the candidate's Z (G,), by the state's position.
    """

    log_N: Array
    log_Z: Array
    A: Array
    b: Array
    mixed: dict[int, Array]


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
        self._linear: Array | None = None
        # States that a gate mixes with a candidate.
        gated = [layer.spec.mixes for layer in stage.layers for _ in layer.state_dimensions]
        self._gated = np.array(gated)[:, None]

    def step(self, log_N: Array, log_Z: Array) -> Step:
        """One step from states of these norms (S, G)."""
        states = [
            self.algebra.state(dim, tag, log_N[i], log_Z[i])
            for i, (dim, tag) in enumerate(zip(self.stage.dimensions, self.tags, strict=True))
        ]
        after: tuple[ValueBound, ...] = self.stage.step(self.algebra, self.x, states)
        lam = np.array([value.log_lam for value in after])
        return Step(
            np.array([value.log_N for value in after]),
            np.array([value.log_Z for value in after]),
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
        log_N = np.full((self.S, G), -np.inf)
        log_Z = np.full((self.S, G), -np.inf)
        lam = np.full((self.S, self.kept, G), -np.inf)
        horizon = np.arange(G) % steps + 1
        trace: list[Track] = []
        tail: Track | None = None
        for t in range(1, steps + 1):
            before = log_N, log_Z, lam
            step = self.step(log_N, log_Z)
            log_N, log_Z, lam = step.log_N, step.log_Z, applied(step.A, step.b, lam)
            self.account.note(lam[:, :-1])  # all but the rounding tag, which has slack of its own
            if diagonal:
                done = horizon < t
                log_N, log_Z, lam = (
                    np.where(done, old, new)
                    for old, new in zip(before, (log_N, log_Z, lam), strict=True)
                )
                continue
            if every:
                trace.append(at_once(log_N, log_Z, lam))
            if t < steps:
                tail = self._tail(t, before[:2], log_N, log_Z, lam, steps - t, every)
            if tail is not None:
                break
        if not every:
            return at_once(log_N, log_Z, lam) if tail is None else tail
        return Track.joined(trace if tail is None else [*trace, tail])

    def _tail(
        self,
        t: int,
        before: tuple[Array, Array],
        log_N: Array,
        log_Z: Array,
        lam: Array,
        steps: int,
        every: bool,
    ) -> Track | None:
        """The remaining steps at once, where that can be told after step t."""
        if _standing(before, (log_N, log_Z), 4.0 * self.algebra.inflation).all():
            tail = self._constant(log_N, log_Z, lam, steps, every)
            if tail is not None:
                return tail
        if t >= AFFINE_AFTER and t & (t - 1) == 0 and not self._plain:
            tail = self._affine(before, log_N, log_Z, lam, steps, every)
            if tail is None and t == STRETCHES_AFTER:
                tail = self._stretches(log_N, log_Z, lam, steps, every)
            return tail
        if t == EXACT_STEPS:
            for exponent in range(-12, 7):
                rise = math.log1p(10.0**exponent)
                tail = self._constant(log_N, log_Z, lam, steps, every, rise)
                if tail is not None:
                    return tail
        return None

    @property
    def _plain(self) -> bool:
        """Whether all cells are vanilla with tanh, whose norms always come to stand still."""
        return all(c.cell == "vanilla" and c.activation == "tanh" for c in self.stage.layers)

    def _constant(
        self, log_N: Array, log_Z: Array, lam: Array, steps: int, every: bool, rise: float = 1e-12
    ) -> Track | None:
        """The remaining steps at norms a little larger, if a step does not enlarge these."""
        drift = steps * self.algebra.inflation
        up_N, up_Z = log_N + 2.0 * (rise + drift), log_Z + rise
        up_Z = np.where(self._gated, up_Z + drift, up_Z)
        held = self._held(log_Z + rise, up_N, up_Z)
        if held is None:
            return None
        return at_fixed_norms(up_N, up_Z, held.A, held.b, lam, steps, every)

    def _held(self, first_Z: Array, up_N: Array, up_Z: Array) -> Step | None:
        """The step at norms that it does not enlarge; None if it does.

        A gate hands on the larger of two Z. Where the other one stays below ``first_Z``, from which
        the state's Z starts, the state's own stays where it is, but for the gate's roundings, which
        lead from ``first_Z`` to ``up_Z`` at most.
        """
        step = self.step(up_N, up_Z)
        self.account.walked += 1
        new_Z = step.log_Z.copy()
        for i, mixed in step.mixed.items():
            if not below(mixed, first_Z[i]):
                return None
            new_Z[i] = -np.inf
        return step if below(step.log_N, up_N) and below(new_Z, up_Z) else None

    def _affine(
        self,
        before: tuple[Array, Array],
        log_N: Array,
        log_Z: Array,
        lam: Array,
        steps: int,
        every: bool,
    ) -> Track | None:
        """ReLU layers whose norms grow for ever, above layers whose norms stand still, or None.

        The latter are held a little above where they stand; N of the others is linear in N of the
        others, and so is b. Z is set to N, which is sound, and which N of a ReLU does not feel.
        """
        S, K, G = lam.shape
        free = np.invert(_standing(before, (log_N, log_Z), 0.0))
        growing = {i for group in self.groups if not group.of_c for i in group.states}
        rows = [int(i) for i in np.flatnonzero(free)]
        if not rows or not set(rows) <= growing or not free[rows[0] :].all():
            return None
        if self.stage.two_way and not free.all():
            return None
        mask = free[:, None]
        up_N, up_Z = log_N + 1e-12, log_Z + 1e-12
        # States below do not feel those above, so that they stay where they are is seen at once.
        step = self.step(np.where(mask, -np.inf, up_N), np.where(mask, -np.inf, up_Z))
        if not (below(step.log_N[~free], up_N[~free]) and below(step.log_Z[~free], up_Z[~free])):
            return None
        N_N, b_N = self._slopes(rows)
        N_0 = np.where(mask, step.log_N, -np.inf)
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
        z[:, :, S : 2 * S] = np.where(mask, log_N, -np.inf).T[None]
        out = affine_orbit(M, z, steps) if every else affine_last(M, z, steps)[:, :, None]
        grown_N = out[0, ..., S : 2 * S].transpose(2, 1, 0)  # (G, H, S) → (S, H, G)
        norms = [np.where(mask[:, None], grown_N, up[:, None]) for up in (up_N, up_Z)]
        return Track(norms[0], norms[1], out[..., :S].transpose(3, 0, 2, 1))

    def _slopes(self, rows: list[int]) -> tuple[Array, Array]:
        """N (S, S', G) and b (S, S', kept, G) per unit of N of each ReLU state, without constants.

        Read where all else is zero, inputs and biases included: nothing is subtracted, so that no
        weak coupling is lost. Entries of b that do not vanish there are constants of a bias.
        """
        G = self.algebra.size
        zero = np.full((self.S, G), -np.inf)
        x = ValueBound(self.x.dim, zero[0], zero[0], self.algebra.still())
        bare = Walk(self.algebra.without_constants(), self.stage, x, self.kept, self.account)
        b_start = bare.step(zero, zero).b
        constant = np.isfinite(b_start)
        constant[:, -1] = False  # the rounding tag: the constant is counted again, which is sound
        N_N = np.full((self.S, self.S, G), -np.inf)
        b_N = np.full((self.S, *b_start.shape), -np.inf)
        for s in rows:
            unit = zero.copy()
            unit[s] = 0.0
            step = bare.step(unit, unit)
            N_N[s, rows] = step.log_N[rows]
            b_N[s] = np.where(constant, -np.inf, step.b)
        return N_N, b_N

    def _stretches(self, log_N: Array, log_Z: Array, lam: Array, steps: int, every: bool) -> Track:
        """The remaining steps in stretches, each at norms that are not exceeded within it."""
        parts, length = [], FIRST_STRETCH
        while steps > 0:
            length = min(length, steps)
            found, start = None, log_Z
            while found is None and length > 1:
                found = self._stretch(log_N, log_Z, length)
                length = length if found is not None else length // 2
            self.account.note(lam[:, :-1])
            if found is None:
                length = 1
                step = self.step(log_N, log_Z)
            else:
                step = found
            log_N, log_Z = step.log_N, step.log_Z
            part = at_fixed_norms(log_N, log_Z, step.A, step.b, lam, length, every)
            parts.append(part)
            lam = part.lam[:, :, -1]
            steps -= length
            rise = _rise(start, log_Z)
            length = max(FIRST_STRETCH, int(length * min(2.0, AIM / max(rise, 1e-9))))
            if steps and found is not None and rise < NEARLY:
                last = self._constant(log_N, log_Z, lam, steps, every)
                if last is not None:
                    parts.append(last)
                    break
        return Track.joined(parts) if every else parts[-1]

    def _stretch(self, log_N: Array, log_Z: Array, length: int) -> Step | None:
        """The step at norms that ``length`` steps do not exceed, and these; None if none was found.

        Suppose that all norms stay below such (N, Z) for some steps. Then the norms of a group
        (`recert.sensitivities.recursions`) follow an affine map with coefficients taken there, to
        an end that must be below (N, Z), and the other norms are at most what a step makes of (N,
        Z), which must be below it too. So they stay below it for the next step.
        """
        drift = length * self.algebra.inflation
        others = np.ones((self.S, 1), dtype=bool)
        others[[i for group in self.groups for i in group.states]] = False
        up_N, up_Z = log_N + 2.0 * (STRETCH + drift), log_Z + STRETCH
        up_Z = np.where(self._gated, up_Z + drift, up_Z)
        for attempt in range(2):
            for group in self.groups:
                rows = list(group.states)
                ends = self._group_end(group, log_N, log_Z, up_N, up_Z, length)
                up_N[rows], up_Z[rows] = ends
            step = self.step(up_N, up_Z)
            new_N, new_Z = step.log_N, step.log_Z.copy()
            for i, mixed in step.mixed.items():  # the first Z or the candidate's, and roundings
                new_Z[i] = np.maximum(log_Z[i], mixed) + drift
            rest = others[:, 0]
            if attempt == 0 and not (
                below(new_N[rest], up_N[rest]) and below(new_Z[rest], up_Z[rest])
            ):
                return None
            if attempt == 0:  # what a step makes of norms that are not exceeded is not exceeded
                up_N = np.where(others, np.minimum(up_N, np.maximum(new_N, log_N)), up_N)
                up_Z = np.where(others, np.minimum(up_Z, np.maximum(new_Z, log_Z)), up_Z)
        if _rise(log_Z, up_Z) > RISE and length > 8:
            return None
        return replace(step, log_N=up_N, log_Z=up_Z)

    def _group_end(
        self, group: Group, log_N: Array, log_Z: Array, up_N: Array, up_Z: Array, length: int
    ) -> tuple[Array, Array]:
        """Norms of a group after ``length`` steps while all others stay below (up_N, up_Z)."""
        rows = list(group.states)
        still_N, still_Z = up_N.copy(), up_Z.copy()
        still_N[rows] = still_Z[rows] = -np.inf
        step = self.step(still_N, still_Z)
        if group.of_c:
            # Z_c ← s Z_c + Z_0, and N likewise: s is how c moves with c, raised for roundings.
            slope = step.A[rows][:, rows] + 4.0 * self.algebra.inflation + 1e-15
            end_N = grown(slope, step.log_N[rows], log_N[rows], length)
            end_Z = grown(slope, step.log_Z[rows], log_Z[rows], length)
            return end_N, end_Z
        if self._linear is None:
            self._linear = self._slopes([i for g in self.groups if not g.of_c for i in g.states])[0]
        slope = self._linear[rows][:, rows].transpose(1, 0, 2)
        end = grown(slope, step.log_N[rows], log_N[rows], length)
        return end, end


def _rise(log_Z: Array, up_Z: Array) -> float:
    """By how much a log norm rose at most."""
    with np.errstate(invalid="ignore"):
        return float(np.where(np.isfinite(log_Z), up_Z - log_Z, 0.0).max())


def _standing(
    before: tuple[Array, Array], after: tuple[Array, Array], drift: float
) -> NDArray[np.bool_]:
    """Which states' norms (S, G) did not move in a step beyond a drift, in any system: (S,)."""
    still = np.ones(len(after[0]), dtype=bool)
    for old, new in zip(before, after, strict=True):
        with np.errstate(invalid="ignore"):
            near = np.abs(new - old) <= 1e-15 * (1.0 + np.abs(new)) + drift
        still &= ((old == new) | near).all(axis=1)
    return still
