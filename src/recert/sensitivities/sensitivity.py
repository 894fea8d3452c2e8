"""How far the output moves when weights move: N and Λ of a network after T steps, in logs.

A network is walked stage by stage (`recert.sensitivities.unroll`). What a stage gives out after T
steps bounds its outputs at every position of every sequence of at most T steps, in either
direction, because norms and sensitivities grow from zero states with every step: that is what the
stage above reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recert.errors import InputError, type_of
from recert.networks import reading
from recert.networks.network import Chain
from recert.networks.norm_class import Cap, Caps, complete_caps
from recert.networks.reading import Stage
from recert.sensitivities.norm_domain import ROUNDING, UNIT_ROUNDOFF, BoundsAlgebra, ValueBound
from recert.sensitivities.recursions import Account, Track
from recert.sensitivities.unroll import Walk
from recert.utils import validation
from recert.utils.validation import Brief

Array = NDArray[np.float64]

# With several stages every horizon needs a walk of its own; more than this many are refused.
MOST_HORIZONS = 1024


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(Brief):
    """Norm and sensitivities of the output y, class-wide.

    ``log_lambda[k]`` is log Λ_y[k] with ‖y − y'‖_2 ≤ Σ_k Λ_y[k]·‖A_k − A_k'‖_k for any two members
    of the class; ``log_norm`` is log N_y. Shapes: () for one horizon, (steps,) with
    ``every=True``, a leading axis of systems of caps with ``sensitivities``.
    ``log_rounding`` bounds the float64 evaluation's error ‖ỹ − y‖_2, where ``computed`` was set.
    """

    blocks: tuple[str, ...]
    log_lambda: Mapping[str, Array]
    log_norm: Array
    log_rounding: Array
    caps: Mapping[str, Cap]
    steps: int


def sensitivity(
    network: Chain,
    *,
    steps: int,
    input_bound: float = 1.0,
    caps: Caps | None = None,
    every: bool = False,
    computed: bool = False,
) -> Sensitivity:
    """N_y and Λ_y of the whole class within the caps after ``steps`` steps.

    Args:
        network: gives cells, dimensions and block names; its weights matter only if caps is None.
        steps: T, the longest sequence, at least 1. With zero initial states T serves every t ≤ T.
        input_bound: B_x ≥ ‖x_t‖_2; 1 for one-hot inputs (other values are refused).
        caps: block name → ``Cap`` or number; None caps every block at its own measured norm.
        every: give every step 1..T instead of step T alone; with two-way layers at most 1024.
        computed: let norms bound what float64 computes, too, as ``log_rounding`` asks.

    Raises:
        InputError: steps < 1, a bound that is not finite, a block without a cap, or more horizons
            than can be walked.

    Source: theory, section 3; Lemmas 2, 6 and 7 of "On Generalization Bounds of a Family of
    Recurrent Neural Networks", of which it is never above the vanilla values.
    """
    if not isinstance(network, Chain):
        raise InputError(
            f"network is {type_of(network)}; make a Network of it with recert.from_torch "
            "or recert.load_network"
        )
    full = complete_caps(network, caps)
    found = sensitivities(
        network, [full], steps=steps, input_bound=input_bound, every=every, computed=computed
    )
    return Sensitivity(
        found.blocks,
        {name: lam[0] for name, lam in found.log_lambda.items()},
        found.log_norm[0],
        found.log_rounding[0],
        full,
        steps,
    )


def sensitivities(
    network: Chain,
    systems: list[dict[str, Cap]],
    *,
    steps: int,
    input_bound: float = 1.0,
    every: bool = False,
    computed: bool = False,
) -> Sensitivity:
    """``sensitivity`` for several systems of caps at once; results lead with an axis of systems."""
    _check_horizon(network, steps, input_bound)
    names = tuple(block.name for block in network.blocks())
    stages = reading.stages(network)
    kept = len(names) + 1
    algebra = bounds_algebra(network, systems, computed=computed)
    x = network_input(algebra, network, input_bound)
    account = Account()
    horizons = steps if every else 1
    if every and len(stages) > 1:
        if steps > MOST_HORIZONS:
            raise InputError(
                f"{steps} horizons of a network with two-way layers; ask for at most "
                f"{MOST_HORIZONS}, or for the last one alone"
            )
        algebra, x = algebra.repeated(steps), _repeated(x, steps)
    for stage in stages:
        walk = Walk(algebra, stage, x, kept, account)
        diagonal = every and len(stages) > 1
        track = walk.track(steps, every=every and not diagonal, diagonal=diagonal)
        if every and not diagonal:
            algebra = algebra.repeated(steps)
        x = _stage_output(algebra, stage, track, kept)
    if network.read == "mean":
        x = algebra.mean(x, steps)
    y = reading.head(algebra, network, x)
    shape = (len(systems), horizons) if every else (len(systems),)
    log_N = account.rounded_up(y.log_N).reshape(shape)
    log_lam = account.rounded_up(y.log_lam[:kept]).reshape((kept, *shape))
    return Sensitivity(
        names,
        {name: log_lam[i] for i, name in enumerate(names)},
        log_N,
        log_lam[kept - 1],
        systems[0] if len(systems) == 1 else {},
        steps,
    )


def _row(cap: Cap) -> float:
    return math.inf if cap.row is None else cap.row


def _check_horizon(network: Chain, steps: int, input_bound: float) -> None:
    validation.whole("steps", steps)
    remedy = "B_x must be finite and >= 0"
    if validation.number("input_bound", input_bound, remedy) < 0:
        raise InputError(f"input_bound is {input_bound!r}; {remedy}")
    if network.input_kind == "onehot" and input_bound != 1.0:
        raise InputError(
            f"input_bound is {input_bound!r}; one-hot inputs have norm 1, leave it out"
        )


def bounds_algebra(
    network: Chain,
    systems: list[dict[str, Cap]],
    *,
    computed: bool = False,
    kind: type[BoundsAlgebra] = BoundsAlgebra,
) -> BoundsAlgebra:
    """The reading on bounds within these caps; its tags are blocks, ROUNDING, and states."""
    names = tuple(block.name for block in network.blocks())
    stages = reading.stages(network)
    with np.errstate(divide="ignore"):
        log_caps = {k: np.log([caps[k].norm for caps in systems]) for k in names}
        log_rows = {
            k: np.log([_row(caps[k]) for caps in systems])
            for k in names
            if any(caps[k].row is not None for caps in systems)
        }
    most = max(len(stage.dimensions) for stage in stages)
    tags = (*names, ROUNDING, *(f"@state{i}" for i in range(most)))
    blocks = list(network.blocks())
    vectors = tuple(block.name for block in blocks if block.norm == "euclidean")
    pool = network.head.pool
    fixed = [] if pool is None else [pool.matrix.shape[1]]
    terms = max(*(max(block.terms, block.columns) for block in blocks), *fixed, 1)
    inflation = 0.0
    if computed:
        widest = max(max(block.rows, block.columns, *fixed, 1) for block in blocks)
        inflation = 4.0 * (terms + 16) * math.sqrt(widest) * UNIT_ROUNDOFF
    return kind(log_caps, log_rows, tags, terms, inflation, vectors)


def network_input(algebra: BoundsAlgebra, network: Chain, input_bound: float) -> ValueBound:
    """What the first recurrent layer reads."""
    if network.input_kind == "onehot":
        x = algebra.onehot(network.d_x)
    else:
        log_B_x = math.log(input_bound) if input_bound > 0 else -math.inf
        x = algebra.real(network.d_x, log_B_x)
    found: ValueBound = reading.encode(algebra, network, x)
    return found


def _repeated(x: ValueBound, times: int) -> ValueBound:
    return ValueBound(
        x.dim,
        np.repeat(x.log_N, times),
        np.repeat(x.log_Z, times),
        np.repeat(x.log_lam, times, axis=-1),
        x.onehot,
    )


def _stage_output(algebra: BoundsAlgebra, stage: Stage, track: Track, kept: int) -> ValueBound:
    """What the stage above, or the head, reads: horizons and systems on one axis, systems first."""
    S = len(stage.dimensions)
    log_N, log_Z = (v.transpose(0, 2, 1).reshape(S, -1) for v in (track.log_N, track.log_Z))
    lam = track.lam.transpose(0, 1, 3, 2).reshape(S, kept, -1)
    still = np.full((len(algebra.tags) - kept, log_N.shape[1]), -np.inf)
    states = [
        ValueBound(dim, log_N[i], log_Z[i], np.concatenate([lam[i], still]))
        for i, dim in enumerate(stage.dimensions)
    ]
    found: ValueBound = stage.output(algebra, states)
    return found
