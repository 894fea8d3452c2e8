"""How norms grow within a stretch of steps: affine maps read off a step's structure, and followed.

Only where growth is affine by the cells' own equations is it used, and no difference of nearby
numbers is taken: a ReLU layer's N is linear in the N of the ReLU layers below it, an LSTM's c obeys
Z_c ← Z_g Z_c + Z_r Z_c̃. All arithmetic is on logarithms of non-negative numbers; −inf stands for 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.affine import affine_last
from recert.cells import Stage

Array = NDArray[np.float64]

EPS = 2.0**-52


@dataclass(frozen=True)
class Group:
    """States (positions in a stage) whose norms grow by an affine map of their own norms.

    Either consecutive ReLU layers of a stack, or the cell state of one LSTM layer (``of_c``); of
    two directions those of both.
    """

    states: tuple[int, ...]
    of_c: bool


def groups(stage: Stage) -> tuple[Group, ...]:
    """The groups of a stage, bottom first."""
    found: list[Group] = []
    start, chain = 0, False
    for layer in stage.layers:
        if layer.cell == "lstm":
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
