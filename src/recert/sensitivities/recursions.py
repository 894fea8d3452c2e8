"""How norms grow within a stretch of steps: affine maps read off a step's structure, and followed.

Only where growth is affine by the cells' own equations is it used, and no difference of nearby
numbers is taken: a ReLU layer's N is linear in the N of the ReLU layers below it, an LSTM's c obeys
Z_c ← Z_g Z_c + Z_r Z_c̃. All arithmetic is on logarithms of non-negative numbers; −inf stands for
0.

Norms and sensitivities of a stage's states at some horizons, and steps that share one map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recert.networks.reading import Stage
from recert.numerics.logspace import affine_last, affine_orbit, affine_power

Array = NDArray[np.float64]

EPS = 2.0**-52


@dataclass(frozen=True)
class Group:
    """States (positions in a stage) whose norms grow by an affine map of their own norms.

    Either consecutive ReLU layers of a stack, or the cell state of one layer that
    is affine in itself (``of_c``); of two directions those of both.
    """

    states: tuple[int, ...]
    of_c: bool


def groups(stage: Stage) -> tuple[Group, ...]:
    """The groups of a stage, bottom first."""
    found: list[Group] = []
    start, chain = 0, False
    for layer in stage.layers:
        if layer.spec.affine_c:
            found.append(Group((start + 1,), True))
            chain = False
        elif layer.activation == "relu":
            if chain and not stage.two_way:
                found[-1] = Group((*found[-1].states, start), False)
            else:
                found.append(Group((start,), False))
            chain = True
        else:
            chain = False
        start += len(layer.state_dimensions)
    if stage.two_way:  # neither direction feels the other: one group of each kind
        kinds = [
            tuple(i for g in found if g.of_c == bool(kind) for i in g.states) for kind in (0, 1)
        ]
        found = [Group(states, bool(kind)) for kind, states in enumerate(kinds) if states]
    return tuple(found)


def grown(slopes: Array, constant: Array, log_norm: Array, steps: int) -> Array:
    """Norms (S, G) after ``steps`` steps of u ← slopes u + constant, at least the first ones.

    Args:
        slopes: (S, S, G), the norm given before the one that is read.
        constant: (S, G).
        log_norm: (S, G), from which to start.
        steps: at least 1.
    """
    S, G = log_norm.shape
    M = np.full((G, S + 1, S + 1), -np.inf)
    M[:, :S, :S] = slopes.transpose(2, 0, 1)
    M[:, :S, S] = constant.T
    M[:, S, S] = 0.0
    z = np.zeros((G, S + 1))
    z[:, :S] = log_norm.T
    # Growing from zero, norms never fall, so the last is the largest.
    return np.maximum(affine_last(M, z, steps)[:, :S].T, log_norm)


def below(log_new: Array, log_up: Array) -> bool:
    """Whether new ≤ up by more than a step's own roundings, in logs (−inf is below anything)."""
    finite = np.isfinite(log_new)
    gap = 16 * EPS * (1.0 + np.abs(log_up[finite]))
    return bool(np.all(log_new[finite] <= log_up[finite] - gap))


class Norms(NamedTuple):
    """Log norms N and Z of a stage's states, (S, G) each."""

    log_N: Array
    log_Z: Array

    def below(self, up: Norms) -> bool:
        """Whether both are, each by more than a step's own roundings."""
        return below(self.log_N, up.log_N) and below(self.log_Z, up.log_Z)

    def of(self, rows: list[int] | NDArray[np.bool_]) -> Norms:
        """Those of some states."""
        return Norms(self.log_N[rows], self.log_Z[rows])

    def where(self, mask: NDArray[np.bool_], others: Norms) -> Norms:
        """These where the mask says so, else the others."""
        return Norms(*(np.where(mask, a, b) for a, b in zip(self, others, strict=True)))


class State(NamedTuple):
    """A stage's states after some steps: norms, and log sensitivities Λ (S, kept, G)."""

    norms: Norms
    lam: Array


@dataclass(frozen=True, eq=False)
class Step:
    """What one step makes of states of some norms.

    New norms; A (S, S, G) and b (S, kept, G) of the sensitivities; and for every state that a gate
    mixes with a candidate the candidate's Z (G,), by the state's position.
    """

    norms: Norms
    A: Array
    b: Array
    mixed: dict[int, Array]

    def after(self, lam: Array) -> State:
        """The state whose sensitivities were Λ (S, kept, G): A Λ + b in logs."""
        return State(self.norms, np.logaddexp(_moved(self.A, lam), self.b))


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


def at_once(state: State) -> Track:
    """One horizon."""
    log_N, log_Z = state.norms
    return Track(log_N[:, None], log_Z[:, None], state.lam[:, :, None])


def at_fixed_norms(step: Step, lam: Array, steps: int, every: bool) -> Track:
    """``steps`` times the same step: for every tag k, (Λ_k, 1) follows a linear map."""
    A, b = step.A, step.b
    S, K, G = lam.shape
    if not every:
        power, total = (m.transpose(1, 2, 0) for m in affine_power(A.transpose(2, 0, 1), steps))
        last = np.logaddexp(_moved(power, lam), _moved(total, b))
        return at_once(State(step.norms, last))
    M = np.full((K, G, S + 1, S + 1), -np.inf)
    M[:, :, :S, :S] = A.transpose(2, 0, 1)[None]
    M[:, :, :S, S] = b.transpose(1, 2, 0)
    M[:, :, S, S] = 0.0
    z = np.zeros((K, G, S + 1))
    z[:, :, :S] = lam.transpose(1, 2, 0)
    found = affine_orbit(M, z, steps)[..., :S].transpose(3, 0, 2, 1)
    shape = (S, found.shape[2], G)
    log_N, log_Z = (np.broadcast_to(v[:, None], shape) for v in step.norms)
    return Track(log_N, log_Z, found)


def _moved(A: Array, lam: Array) -> Array:
    """A Λ in logs: (S, S', G), (S', K, G) → (S, K, G)."""
    if A.shape[0] == 1:
        return A[:, 0][:, None] + lam
    moved: Array = np.logaddexp.reduce(A[:, :, None, :] + lam[None], axis=1)
    return moved
