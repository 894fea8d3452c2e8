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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.affine import affine_last, affine_orbit, affine_power
from recert.algebra.bounds import Bound, BoundsAlgebra
from recert.cells import Stage
from recert.growth import EPS, HUGE, affine_probe, below, grown, growth

Array = NDArray[np.float64]

# Steps taken one by one before affine growth is looked for (at every power of 2), before stretches
# begin, and before the norms of a bounded vanilla cell are rounded up to a fixed point.
AFFINE_AFTER = 64
STRETCHES_AFTER = 128
EXACT_STEPS = 2048
# Within a stretch no log norm may rise by more than this, unless it is as short as allowed.
STRETCH, SHORTEST = 0.05, 8


@dataclass(frozen=True, eq=False)
class Track:
    """Log norms (S, H, G) and sensitivities (S, kept, H, G) of a stage's states at H horizons."""

    log_N: Array
    log_Z: Array
    lam: Array

    @staticmethod
    def joined(parts: list[Track]) -> Track:
        """Parts one after the other in time."""
        return Track(
            np.concatenate([part.log_N for part in parts], axis=1),
            np.concatenate([part.log_Z for part in parts], axis=1),
            np.concatenate([part.lam for part in parts], axis=2),
        )


@dataclass
class Account:
    """What rounding may have cost: steps walked, and the largest log met."""

    walked: int = 0
    largest_log: float = 1.0

    def note(self, lam: Array) -> None:
        """A step was taken that led to these sensitivities."""
        self.walked += 1
        finite = np.where(np.isneginf(lam), 0.0, lam)
        self.largest_log = max(self.largest_log, float(np.abs(finite).max()))

    def rounded_up(self, log_value: Array) -> Array:
        """Logs moved up by what the steps taken may have lost, relative to the largest log met."""
        finite = np.where(np.isneginf(log_value), 0.0, log_value)
        loss = 8 * EPS * (self.walked + 256) * np.maximum(self.largest_log, np.abs(finite))
        return np.where(np.isneginf(log_value), log_value, finite + loss)


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
        self, algebra: BoundsAlgebra, stage: Stage, x: Bound, kept: int, account: Account
    ) -> None:
        self.algebra, self.stage, self.x, self.kept = algebra, stage, x, kept
        self.account = account
        self.S = len(stage.dimensions)
        self.tags = algebra.tags[kept : kept + self.S]
        # N ≤ √dim·Z for every vector.
        self.half = 0.5 * np.log(np.array(stage.dimensions, dtype=float))[:, None]

    def step(self, log_N: Array, log_Z: Array) -> tuple[Array, Array, Array, Array]:
        """One step from states of these norms: new N, Z (S, G), A (S, S, G), b (S, kept, G)."""
        states = [
            self.algebra.state(dim, tag, log_N[i], log_Z[i])
            for i, (dim, tag) in enumerate(zip(self.stage.dimensions, self.tags, strict=True))
        ]
        after: tuple[Bound, ...] = self.stage.step(self.algebra, self.x, states)
        lam = np.stack([value.log_lam for value in after])
        return (
            np.stack([value.log_N for value in after]),
            np.stack([value.log_Z for value in after]),
            lam[:, self.kept : self.kept + self.S],
            lam[:, : self.kept],
        )

    def track(self, steps: int, *, every: bool = False, diagonal: bool = False) -> Track:
        """Norms and sensitivities after ``steps`` steps, or after every one of them.

        With ``diagonal`` the systems of caps are horizons 1, 2, …, over and over, and each is
        followed to its own horizon only; every step is then taken.
        """
        self.algebra.hold(self.x)
        G = self.algebra.size
        log_N = np.full((self.S, G), -np.inf)
        log_Z = np.full((self.S, G), -np.inf)
        lam = np.full((self.S, self.kept, G), -np.inf)
        horizon = np.arange(G) % steps + 1
        trace: list[Track] = []
        tail: Track | None = None
        for t in range(1, steps + 1):
            before = log_N, log_Z, lam
            log_N, log_Z, A, b = self.step(log_N, log_Z)
            lam = _apply(A, b, lam)
            self.account.note(lam[:, :-1])  # all but the rounding tag, which has slack of its own
            if diagonal:
                done = horizon < t
                log_N, log_Z, lam = (
                    np.where(done, old, new)
                    for old, new in zip(before, (log_N, log_Z, lam), strict=True)
                )
                continue
            if every:
                trace.append(_at_once(log_N, log_Z, lam))
            if t < steps:
                tail = self._tail(t, before[:2], log_N, log_Z, lam, steps - t, every)
            if tail is not None:
                break
        if not every:
            return _at_once(log_N, log_Z, lam) if tail is None else tail
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
        if _standing(before, (log_N, log_Z)).all():
            return self._constant(log_N, log_Z, lam, steps, every)
        if t >= AFFINE_AFTER and t & (t - 1) == 0 and not self._plain:
            tail = self._affine(before, log_N, log_Z, lam, steps, every)
            if tail is None and t >= STRETCHES_AFTER:
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
        up_N, up_Z = log_N + 2.0 * rise, log_Z + rise
        new_N, new_Z, A, b = self.step(up_N, up_Z)
        copied = new_Z == up_Z
        if not (below(new_N, up_N) and below(np.where(copied, -np.inf, new_Z), up_Z)):
            return None
        if copied.any():
            # A gate hands on the larger Z as it is. Were it a coincidence instead, every step could
            # hide one rounding, as a step that is walked does.
            self.account.walked += steps
        return _at_fixed_norms(up_N, up_Z, A, b, lam, steps, every)

    def _affine(
        self,
        before: tuple[Array, Array],
        log_N: Array,
        log_Z: Array,
        lam: Array,
        steps: int,
        every: bool,
    ) -> Track | None:
        """Norms that grow for ever (ReLU): N, too, follows an affine map, found by probing.

        States whose norms stand still are held a little above where they stand. For the others Z is
        set to N, which is sound. The map is checked at further points; if it is not affine, None is
        returned.
        """
        S, K, G = lam.shape
        free = np.invert(_standing(before, (log_N, log_Z)))[:, None]
        up_N, up_Z = log_N + 1e-12, log_Z + 1e-12
        probe = affine_probe(self.step, up_N, up_Z, free)
        if probe is None:
            return None
        A, b_0, b_N, N_0, N_N = probe
        # For every tag k: z = (Λ_k, N, 1) with Λ_k ← A Λ_k + b_N,k N + b_0,k and N ← N_N N + N_0.
        n = 2 * S + 1
        M = np.full((K, G, n, n), -np.inf)
        M[:, :, :S, :S] = A.transpose(2, 0, 1)[None]
        M[:, :, :S, S : 2 * S] = b_N.transpose(2, 3, 1, 0)
        M[:, :, :S, 2 * S] = b_0.transpose(1, 2, 0)
        M[:, :, S : 2 * S, S : 2 * S] = N_N.transpose(2, 1, 0)[None]
        M[:, :, S : 2 * S, 2 * S] = N_0.T[None]
        M[:, :, 2 * S, 2 * S] = 0.0
        z = np.zeros((K, G, n))
        z[:, :, :S] = lam.transpose(1, 2, 0)
        z[:, :, S : 2 * S] = np.where(free, log_N, -np.inf).T[None]
        out = affine_orbit(M, z, steps) if every else affine_last(M, z, steps)[:, :, None]
        grown = out[0, ..., S : 2 * S].transpose(2, 1, 0)  # (G, H, S) → (S, H, G)
        norms = [np.where(free[:, None], grown, up[:, None]) for up in (up_N, up_Z)]
        return Track(norms[0], norms[1], out[..., :S].transpose(3, 0, 2, 1))

    def _stretches(
        self, log_N: Array, log_Z: Array, lam: Array, steps: int, every: bool
    ) -> Track | None:
        """The remaining steps in stretches, each at norms that are not exceeded within it.

        Norms of states that stay bounded are at most their limits, approached from above. With
        those at their limits, the others (an LSTM's c, a ReLU layer) follow an affine map, once
        for N with Z = N and once for Z with N = √dim·Z; the lesser of both serves.
        """
        limit_N, limit_Z = self._limits()
        free = np.isposinf(limit_N)
        maps = [
            growth(self.step, limit_N, limit_Z, free, self.half, of_Z=of_Z)
            for of_Z in (False, True)
        ]
        if all(found is None for found in maps):
            return None
        parts, length = [], 4 * SHORTEST

        def at_end(length: int) -> tuple[Array, Array]:
            """Norms that are not exceeded within the next ``length`` steps."""
            up_N, up_Z = limit_N, limit_Z
            for of_Z, found in zip((False, True), maps, strict=True):
                if found is not None:
                    end = grown(found, log_Z if of_Z else log_N, free, length)
                    up_N = np.minimum(up_N, end + (self.half if of_Z else 0.0))
                    up_Z = np.minimum(up_Z, end)
            return np.maximum(up_N, log_N), np.maximum(up_Z, log_Z)

        while steps > 0:
            length = min(2 * length, steps)
            up_N, up_Z = at_end(length)
            while length > SHORTEST and (up_Z - log_Z)[free[:, 0]].max(initial=0.0) > STRETCH:
                length = max(SHORTEST, length // 2)
                up_N, up_Z = at_end(length)
            new_N, new_Z, A, b = self.step(up_N, up_Z)
            self.account.note(lam[:, :-1])
            if below(new_N, up_N + 1e-12) and below(new_Z, up_Z + 1e-12):
                last = self._constant(up_N, up_Z, lam, steps, every)
                if last is not None:
                    parts.append(last)
                    break
            part = _at_fixed_norms(up_N, up_Z, A, b, lam, length, every)
            parts.append(part)
            log_N, log_Z, lam = up_N, up_Z, part.lam[:, :, -1]
            steps -= length
        return Track.joined(parts) if every else parts[-1]

    def _limits(self) -> tuple[Array, Array]:
        """Norms that no step exceeds, infinite for states that have none.

        Norms start at zero and grow with the norms before them, so a step from anything above all
        of them stays above all of them.
        """
        log_N = np.full((self.S, self.algebra.size), HUGE)
        log_Z = log_N.copy()
        for _ in range(12):
            new_N, new_Z, _, _ = self.step(log_N, log_Z)
            log_N, log_Z = np.minimum(log_N, new_N), np.minimum(log_Z, new_Z)
        free = np.any(log_N > HUGE / 2, axis=1, keepdims=True)
        return np.where(free, np.inf, log_N), np.where(free, np.inf, log_Z)


def _at_once(log_N: Array, log_Z: Array, lam: Array) -> Track:
    return Track(log_N[:, None], log_Z[:, None], lam[:, :, None])


def _at_fixed_norms(
    log_N: Array, log_Z: Array, A: Array, b: Array, lam: Array, steps: int, every: bool
) -> Track:
    """``steps`` steps with the same A and b: for every tag k, (Λ_k, 1) follows a linear map."""
    S, K, G = lam.shape
    if not every:
        power, total = (m.transpose(1, 2, 0) for m in affine_power(A.transpose(2, 0, 1), steps))
        return _at_once(log_N, log_Z, np.logaddexp(_moved(power, lam), _moved(total, b)))
    M = np.full((K, G, S + 1, S + 1), -np.inf)
    M[:, :, :S, :S] = A.transpose(2, 0, 1)[None]
    M[:, :, :S, S] = b.transpose(1, 2, 0)
    M[:, :, S, S] = 0.0
    z = np.zeros((K, G, S + 1))
    z[:, :, :S] = lam.transpose(1, 2, 0)
    found = affine_orbit(M, z, steps)[..., :S].transpose(3, 0, 2, 1)
    shape = (S, found.shape[2], G)
    return Track(
        np.broadcast_to(log_N[:, None], shape), np.broadcast_to(log_Z[:, None], shape), found
    )


def _apply(A: Array, b: Array, lam: Array) -> Array:
    """A Λ + b in logs: (S, S', G), (S, K, G), (S', K, G) → (S, K, G)."""
    return np.logaddexp(_moved(A, lam), b)


def _moved(A: Array, lam: Array) -> Array:
    """A Λ in logs: (S, S', G), (S', K, G) → (S, K, G)."""
    if A.shape[0] == 1:
        return A[:, 0][:, None] + lam
    moved: Array = np.logaddexp.reduce(A[:, :, None, :] + lam[None], axis=1)
    return moved


def _standing(before: tuple[Array, Array], after: tuple[Array, Array]) -> NDArray[np.bool_]:
    """Which states' norms (S, G) did not move in a step, in any system: (S,)."""
    still = np.ones(len(after[0]), dtype=bool)
    for old, new in zip(before, after, strict=True):
        moved = old != new
        with np.errstate(invalid="ignore"):
            far = ~(np.abs(new - old) <= 1e-15 * (1.0 + np.abs(new)))
        still &= np.invert((moved & far).any(axis=1))
    return still
