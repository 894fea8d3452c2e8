"""Entrywise activations: how they are computed, and what bounds need to know of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Activation:
    """σ with |σ(x) − σ(y)| ≤ ρ|x − y|, |σ| ≤ b and |σ(0)| = s_0.

    Attributes:
        name: as layers call it.
        function: σ on float64 arrays of any shape; returns a fresh array or its argument.
        lipschitz: ρ, an upper bound.
        bound: b; infinite where σ is unbounded.
        at_zero: s_0.
    """

    name: str
    function: Callable[[Array], Array]
    lipschitz: float = 1.0
    bound: float = math.inf
    at_zero: float = 0.0


def _leaky_relu(x: Array) -> Array:
    return np.where(x >= 0.0, x, LEAK * x)


def _elu(x: Array) -> Array:
    return np.where(x >= 0.0, x, np.expm1(np.minimum(x, 0.0)))


LEAK = 0.01
ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("identity", lambda x: x),
        Activation("tanh", np.tanh, bound=1.0),
        Activation("relu", lambda x: np.maximum(x, 0.0)),
        Activation("sigmoid", expit, lipschitz=0.25, bound=1.0, at_zero=0.5),
        Activation("leaky_relu", _leaky_relu),
        Activation("elu", _elu),
    )
}
