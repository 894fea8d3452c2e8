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
        slope: (x, σ(x)) → some D(x), by which σ is read as linear round x; σ'(x) where it exists.
        curvature: (x, e) → k with |σ(x + d) − σ(x) − D(x)·d| ≤ k d² for |d| ≤ e, up to roundings;
            None where σ has a kink.
        departure: (x, e) → an upper bound on the same over |d| ≤ e, where σ has a kink.
    """

    name: str
    function: Callable[[Array], Array]
    slope: Callable[[Array, Array], Array]
    curvature: Callable[[Array, Array], Array] | None = None
    departure: Callable[[Array, Array], Array] | None = None
    lipschitz: float = 1.0
    bound: float = math.inf
    at_zero: float = 0.0


def _leaky_relu(x: Array) -> Array:
    return np.where(x >= 0.0, x, LEAK * x)


def _elu(x: Array) -> Array:
    return np.where(x >= 0.0, x, np.expm1(np.minimum(x, 0.0)))


def _tanh_curvature(x: Array, e: Array) -> Array:
    """½·sup|tanh''|, where |tanh''| = 2|tanh|(1 − tanh²) peaks where |tanh| = 1/√3."""
    at = np.tanh(_nearest(np.abs(x), e, math.atanh(math.sqrt(1.0 / 3.0))))
    return at * (1.0 - at * at)


def _sigmoid_curvature(x: Array, e: Array) -> Array:
    """½·sup|s''|, where s(x) = (1 + tanh(x/2))/2, so that s'' = tanh''(x/2)/8."""
    at = np.tanh(0.5 * _nearest(np.abs(x), e, 2.0 * math.atanh(math.sqrt(1.0 / 3.0))))
    return at * (1.0 - at * at) / 8.0


def _nearest(x: Array, e: Array, peak: float) -> Array:
    """The point of [x − e, x + e] nearest to the peak, for x ≥ 0; a little further in."""
    wide = e * (1.0 + 1e-9) + 1e-12
    return np.clip(peak, np.maximum(x - wide, 0.0), x + wide)


def _kink(leak: float) -> Callable[[Array, Array], Array]:
    """Nothing on a piece, and across the kink the difference of the slopes times the overshoot."""
    return lambda x, e: (1.0 - leak) * np.maximum(e - np.abs(x), 0.0)


def _elu_curvature(x: Array, e: Array) -> Array:
    """½·sup elu'': elu' is continuous, elu'' is exp below 0 and 0 above."""
    return np.where(x >= e, 0.0, 0.5 * np.exp(np.minimum(x + e, 0.0)))


def _flat(x: Array, e: Array) -> Array:
    return np.zeros_like(e)


LEAK = 0.01
ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("identity", lambda x: x, lambda x, y: np.ones_like(x), _flat),
        Activation("tanh", np.tanh, lambda x, y: 1.0 - y * y, _tanh_curvature, bound=1.0),
        Activation(
            "relu",
            lambda x: np.maximum(x, 0.0),
            lambda x, y: np.where(x > 0.0, 1.0, 0.0),
            departure=_kink(0.0),
        ),
        Activation(
            "sigmoid",
            expit,
            lambda x, y: y * (1.0 - y),
            _sigmoid_curvature,
            lipschitz=0.25,
            bound=1.0,
            at_zero=0.5,
        ),
        Activation(
            "leaky_relu",
            _leaky_relu,
            lambda x, y: np.where(x > 0.0, 1.0, LEAK),
            departure=_kink(LEAK),
        ),
        Activation(
            "elu",
            _elu,
            lambda x, y: np.where(x > 0.0, 1.0, np.exp(np.minimum(x, 0.0))),
            _elu_curvature,
        ),
    )
}
