"""How far the output moves when weights move: N and Λ of a network after T steps, in logs.

One step of a network maps the sensitivities of its states affinely, Λ_t = A Λ_{t−1} + b, with A and
b depending on the states' norms N, Z alone. Steps are taken one by one until the norms stand
still (or, without a bounded activation, until they are seen to grow affinely); from there on one
affine map serves every step and is raised to its power by squaring, so T = 10^6 costs a few dozen
matrix products. All arithmetic is on logarithms of non-negative numbers; results are rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert import cells
from recert.affine import affine_last, affine_orbit
from recert.algebra.bounds import ROUNDING, Bound, BoundsAlgebra
from recert.caps import Cap, Caps, complete_caps
from recert.errors import InputError
from recert.network import Network

Array = NDArray[np.float64]

# Steps taken one by one before affine growth is looked for, and before norms are rounded up.
AFFINE_AFTER = 64
EXACT_STEPS = 2048
EPS = 2.0**-52


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Norm and sensitivities of the output y, class-wide.

    ``log_lambda[k]`` is log Λ_y[k] with ‖y − y'‖_2 ≤ Σ_k Λ_y[k]·‖A_k − A_k'‖_k for any two members
    of the class; ``log_norm`` is log N_y. Shapes: () for one horizon, (steps,) with
    ``every=True``, a leading axis of systems of caps with ``sensitivities``.
    ``log_rounding`` bounds the float64 evaluation's error ‖ỹ − y‖_2.
    """

    blocks: tuple[str, ...]
    log_lambda: Mapping[str, Array]
    log_norm: Array
    log_rounding: Array
    caps: Mapping[str, Cap]
    steps: int


def sensitivity(
    network: Network,
    *,
    steps: int,
    input_bound: float = 1.0,
    caps: Caps | None = None,
    every: bool = False,
) -> Sensitivity:
    """N_y and Λ_y of the whole class within the caps after ``steps`` steps.

    Args:
        network: gives cells, dimensions and block names; its weights matter only if caps is None.
        steps: T, the longest sequence, at least 1. With zero initial states T serves every t ≤ T.
        input_bound: B_x ≥ ‖x_t‖_2; 1 for one-hot inputs (other values are refused).
        caps: block name → ``Cap`` or number; None caps every block at its own measured norm.
        every: give every step 1..T instead of step T alone.

    Raises:
        InputError: steps < 1, a bound that is not finite, a block without a cap.

    Source: theory, section 3; Lemmas 2, 6 and 7 of "On Generalization Bounds of a Family of
    Recurrent Neural Networks", of which it is never above the vanilla values.
    """
    if not isinstance(network, Network):
        raise InputError(
            f"network is a {type(network).__name__}; make a Network of it with recert.from_torch "
            "or recert.load_network"
        )
    full = complete_caps(network, caps)
    found = sensitivities(network, [full], steps=steps, input_bound=input_bound, every=every)
    return Sensitivity(
        found.blocks,
        {name: lam[0] for name, lam in found.log_lambda.items()},
        found.log_norm[0],
        found.log_rounding[0],
        full,
        steps,
    )


def sensitivities(
    network: Network,
    systems: list[dict[str, Cap]],
    *,
    steps: int,
    input_bound: float = 1.0,
    every: bool = False,
) -> Sensitivity:
    """``sensitivity`` for several systems of caps at once; results lead with an axis of systems."""
    _check_horizon(network, steps, input_bound)
    blocks = tuple(block.name for block in network.blocks())
    walk = _Walk(network, systems, blocks, input_bound)
    N_h, lam_h = walk.top_states(steps, every)
    log_N, log_lam = walk.output(N_h, lam_h)
    log_N, log_lam = walk.rounded_up(log_N), walk.rounded_up(log_lam)
    return Sensitivity(
        blocks,
        {name: log_lam[i] for i, name in enumerate(blocks)},
        log_N,
        log_lam[len(blocks)],
        systems[0] if len(systems) == 1 else {},
        steps,
    )


def _row(cap: Cap) -> float:
    return math.inf if cap.row is None else cap.row


def _check_horizon(network: Network, steps: int, input_bound: float) -> None:
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise InputError(f"steps is {steps!r}; the horizon T must be a whole number >= 1")
    if not (math.isfinite(input_bound) and input_bound >= 0):
        raise InputError(f"input_bound is {input_bound!r}; B_x must be finite and >= 0")
    if network.input_kind == "onehot" and input_bound != 1.0:
        raise InputError(
            f"input_bound is {input_bound!r}; one-hot inputs have norm 1, leave it out"
        )


class _Walk:
    """Runs a network's cells on bounds; arrays are (states, …, G) with G systems of caps."""

    def __init__(
        self,
        network: Network,
        systems: list[dict[str, Cap]],
        blocks: tuple[str, ...],
        input_bound: float,
    ) -> None:
        self.network = network
        self.walked = 0
        self.largest_log = 1.0
        self.dims = [dim for layer in cells.state_dimensions(network) for dim in layer]
        self.layout = [len(layer) for layer in cells.state_dimensions(network)]
        self.state_tags = tuple(f"@state{i}" for i in range(len(self.dims)))
        self.kept = len(blocks) + 1
        with np.errstate(divide="ignore"):
            log_caps = {k: np.log([caps[k].norm for caps in systems]) for k in blocks}
            log_rows = {
                k: np.log([_row(caps[k]) for caps in systems])
                for k in blocks
                if any(caps[k].row is not None for caps in systems)
            }
            log_B_x = math.log(input_bound) if input_bound > 0 else -math.inf
        self.sum_length = max(block.columns for block in network.blocks())
        tags = (*blocks, ROUNDING, *self.state_tags)
        self.algebra = BoundsAlgebra(log_caps, log_rows, tags, self.sum_length)
        if network.input_kind == "onehot":
            self.x = self.algebra.onehot(network.d_x)
        else:
            self.x = self.algebra.real(network.d_x, log_B_x)

    def step(self, log_N: Array, log_Z: Array) -> tuple[Array, Array, Array, Array]:
        """One step from states of these norms: new N, Z (S, G), A (S, S, G), b (S, kept, G)."""
        flat = [
            self.algebra.state(dim, tag, log_N[i], log_Z[i])
            for i, (dim, tag) in enumerate(zip(self.dims, self.state_tags, strict=True))
        ]
        states, start = [], 0
        for count in self.layout:
            states.append(tuple(flat[start : start + count]))
            start += count
        new = cells.step(self.algebra, self.network, self.x, tuple(states))
        after: list[Bound] = [value for layer in new for value in layer]
        lam = np.stack([value.log_lam for value in after])
        return (
            np.stack([value.log_N for value in after]),
            np.stack([value.log_Z for value in after]),
            lam[:, self.kept :],
            lam[:, : self.kept],
        )

    def top_states(self, steps: int, every: bool) -> tuple[Array, Array]:
        """(N, Λ) of what the top layer gives out: (G[, steps]) and (kept, G[, steps])."""
        S, G = len(self.dims), self.algebra.size
        top = S - self.layout[-1]
        log_N = np.full((S, G), -np.inf)
        log_Z = np.full((S, G), -np.inf)
        lam = np.full((S, self.kept, G), -np.inf)
        trace: list[tuple[Array, Array]] = []
        tail: tuple[Array, Array] | None = None
        for t in range(1, steps + 1):
            before = log_N, log_Z
            log_N, log_Z, A, b = self.step(log_N, log_Z)
            lam = _apply(A, b, lam)
            self._keep_account(lam[:, :-1])  # all but the rounding tag, which has slack of its own
            if every:
                trace.append((log_N[top], lam[top]))
            if t < steps and _stands_still(before, (log_N, log_Z)):
                tail = self._constant_tail(log_N, log_Z, lam, steps - t, every)
            elif t == AFFINE_AFTER and t < steps:
                tail = self._affine_tail(log_N, lam, steps - t, every)
            elif t == EXACT_STEPS and t < steps:
                tail = self._late_tail(log_N, log_Z, lam, steps - t, every)
            if tail is not None:
                break
        if tail is None:
            tail_N, tail_lam = (log_N[top][:, None], lam[top][..., None])
            if every:
                return _stack_trace(trace)
            return tail_N[:, 0], tail_lam[..., 0]
        tail_N, tail_lam = tail[0], tail[1]
        if not every:
            return tail_N[:, -1], tail_lam[..., -1]
        head_N, head_lam = _stack_trace(trace)
        return (
            np.concatenate([head_N, tail_N], axis=-1),
            np.concatenate([head_lam, tail_lam], axis=-1),
        )

    def _keep_account(self, lam: Array) -> None:
        self.walked += 1
        finite = np.where(np.isneginf(lam), 0.0, lam)
        self.largest_log = max(self.largest_log, float(np.abs(finite).max()))

    def rounded_up(self, log_value: Array) -> Array:
        """Logs moved up by what the steps taken may have lost, relative to the largest log met."""
        finite = np.where(np.isneginf(log_value), 0.0, log_value)
        loss = 8 * EPS * (self.walked + 256) * np.maximum(self.largest_log, np.abs(finite))
        return np.where(np.isneginf(log_value), log_value, finite + loss)

    def _constant_tail(
        self, log_N: Array, log_Z: Array, lam: Array, steps: int, every: bool
    ) -> tuple[Array, Array] | None:
        """The remaining steps at fixed norms, if slightly larger norms are reproduced by a step."""
        up_N, up_Z = log_N + 1e-12, log_Z + 1e-12
        return self._tail_at(up_N, up_Z, lam, steps, every)

    def _late_tail(
        self, log_N: Array, log_Z: Array, lam: Array, steps: int, every: bool
    ) -> tuple[Array, Array] | None:
        """After EXACT_STEPS: norms a little larger that a step does not enlarge, if any."""
        for exponent in range(-12, 7):
            rise = math.log1p(10.0**exponent)
            tail = self._tail_at(log_N + rise, log_Z + rise, lam, steps, every)
            if tail is not None:
                return tail
        return None

    def _tail_at(
        self, up_N: Array, up_Z: Array, lam: Array, steps: int, every: bool
    ) -> tuple[Array, Array] | None:
        new_N, new_Z, A, b = self.step(up_N, up_Z)
        if not (_below(new_N, up_N) and _below(new_Z, up_Z)):
            return None
        S, K, G = lam.shape
        # For every tag k: z = (Λ_k, 1) with Λ_k ← A Λ_k + b_k.
        M = np.full((K, G, S + 1, S + 1), -np.inf)
        M[:, :, :S, :S] = A.transpose(2, 0, 1)[None]
        M[:, :, :S, S] = b.transpose(1, 2, 0)
        M[:, :, S, S] = 0.0
        z = np.zeros((K, G, S + 1))
        z[:, :, :S] = lam.transpose(1, 2, 0)
        top = S - self.layout[-1]
        out = affine_orbit(M, z, steps) if every else affine_last(M, z, steps)[:, :, None]
        tail_lam = out[..., top]
        return np.broadcast_to(up_N[top][:, None], (G, tail_lam.shape[-1])), tail_lam

    def _affine_tail(
        self, log_N: Array, lam: Array, steps: int, every: bool
    ) -> tuple[Array, Array] | None:
        """Norms that grow for ever (ReLU): N, too, follows an affine map, found by probing.

        Z is set to N, which is sound. The map is checked at a third point; if it is not affine,
        None is returned and every step is taken.
        """
        S, K, G = lam.shape
        probe = _affine_probe(self.step, S, G)
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
        z[:, :, S : 2 * S] = log_N.T[None]
        top = S - self.layout[-1]
        out = affine_orbit(M, z, steps) if every else affine_last(M, z, steps)[:, :, None]
        return out[0, ..., S + top], out[..., top]

    def output(self, log_N: Array, lam: Array) -> tuple[Array, Array]:
        """The head on every horizon: N_y (G, …) and Λ_y (kept, G, …)."""
        flat_N = log_N.reshape(self.algebra.size, -1)
        horizons = flat_N.shape[1]
        algebra = BoundsAlgebra(
            {k: np.repeat(v, horizons) for k, v in self.algebra.log_caps.items()},
            {k: np.repeat(v, horizons) for k, v in self.algebra.log_rows.items()},
            self.algebra.tags,
            self.sum_length,
        )
        h = Bound(
            self.network.d_h,
            flat_N.ravel(),
            flat_N.ravel(),
            np.concatenate(
                [
                    lam.reshape(self.kept, -1),
                    np.full((len(self.state_tags), flat_N.size), -np.inf),
                ]
            ),
        )
        y = cells.head(algebra, self.network, h)
        return y.log_N.reshape(log_N.shape), y.log_lam[: self.kept].reshape(lam.shape)


def _apply(A: Array, b: Array, lam: Array) -> Array:
    """A Λ + b in logs: (S, S', G), (S, K, G), (S', K, G) → (S, K, G)."""
    if A.shape[0] == 1:
        return np.logaddexp(A[:, 0][:, None] + lam, b)
    moved = np.logaddexp.reduce(A[:, :, None, :] + lam[None], axis=1)
    return np.logaddexp(moved, b)


def _stands_still(before: tuple[Array, Array], after: tuple[Array, Array]) -> bool:
    for old, new in zip(before, after, strict=True):
        moved = old != new
        if np.any(np.isinf(old[moved])) or np.any(np.isinf(new[moved])):
            return False
        if np.any(np.abs(new[moved] - old[moved]) > 1e-15 * (1.0 + np.abs(new[moved]))):
            return False
    return True


def _below(log_new: Array, log_up: Array) -> bool:
    """Whether new ≤ up by more than a step's own roundings, in logs (−inf is below anything)."""
    finite = np.isfinite(log_new)
    gap = 16 * EPS * (1.0 + np.abs(log_up[finite]))
    return bool(np.all(log_new[finite] <= log_up[finite] - gap))


def _stack_trace(trace: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    return (
        np.stack([N for N, _ in trace], axis=-1),
        np.stack([lam for _, lam in trace], axis=-1),
    )


def _affine_probe(step, S: int, G: int):  # type: ignore[no-untyped-def]
    """Coefficients of a step that is affine in the states' norms, or None if it is not."""
    zero = np.full((S, G), -np.inf)
    N_0, _, A, b_0 = step(zero, zero)
    # Far enough out that the slope is read off without cancellation.
    reach = 40.0 + np.maximum(0.0, np.where(np.isfinite(N_0), N_0, 0.0).max())
    slopes_N, slopes_b = [], []
    for s in range(S):
        point = zero.copy()
        point[s] = reach
        N_1, _, _, b_1 = step(point, point)
        slopes_N.append(_log_difference(N_1, N_0) - reach)
        slopes_b.append(_log_difference(b_1, b_0) - reach)
    N_N, b_N = np.stack(slopes_N), np.stack(slopes_b)
    far = np.log(np.arange(3.0, 3.0 + S * G).reshape(S, G) * 1e3)
    N_far, _, A_far, b_far = step(far, far)
    predicted_N = np.logaddexp(np.logaddexp.reduce(N_N + far[:, None], axis=0), N_0)
    predicted_b = np.logaddexp(np.logaddexp.reduce(b_N + far[:, None, None], axis=0), b_0)
    agrees = (
        np.array_equal(A, A_far)
        and np.allclose(predicted_N, N_far, rtol=0, atol=1e-11)
        and np.allclose(predicted_b, b_far, rtol=0, atol=1e-11)
    )
    return (A, b_0 + 2e-11, b_N + 2e-14, N_0 + 2e-11, N_N + 2e-14) if agrees else None


def _log_difference(log_a: Array, log_b: Array) -> Array:
    """log(e^a − e^b) for a ≥ b, −inf where they are equal to rounding."""
    gap = log_b - np.where(np.isneginf(log_a), 0.0, log_a)
    ratio = np.where(np.isneginf(log_a), 1.0, np.exp(np.minimum(gap, 0.0)))
    with np.errstate(divide="ignore"):
        return np.where(ratio > 1 - 1e-14, -np.inf, log_a + np.log1p(-np.minimum(ratio, 1.0)))
