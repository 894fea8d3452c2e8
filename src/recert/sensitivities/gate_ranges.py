"""How far gates open: the range of every gate, measured on data or bounded from norms.

A gate σ(v) matters through ‖gate_j‖_∞ and ‖1 − gate_j‖_∞ at every step j. Cells are written once
over an algebra; here they are read with algebras that note what every sigmoid of a gate gives.
Steps are counted as a direction takes them: the backward direction's first is a sequence's last.
What the ranges mean for a bound's growth over time is in `recert.sensitivities.growth_rates`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from recert.errors import InputError
from recert.networks import reading
from recert.networks.forward import NumbersAlgebra, in_pieces, sorted_logits
from recert.networks.layers import Bidirectional, Layer
from recert.networks.network import Network
from recert.networks.norm_class import Cap, Caps, complete_caps
from recert.networks.reading import Stage
from recert.samples.sample import At, Batch
from recert.sensitivities.norm_domain import BoundsAlgebra, ValueBound
from recert.sensitivities.sensitivity import bounds_algebra, network_input
from recert.utils import validation
from recert.utils.validation import Brief

Array = NDArray[np.float64]
Direction = Literal["forward", "backward"]
Source = Literal["measured", "calculus", "printed"]
Key = tuple[int, Direction, str]

DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")
# Bounds that have not come to rest after this many steps are not followed further.
MOST_STEPS = 10_000


@dataclass(frozen=True, eq=False, repr=False)
class GateRange(Brief):
    """The range of one gate of one layer in one direction, at every step 1..T.

    ``largest[j − 1]`` is ‖gate_j‖_∞ and ``complement[j − 1]`` is ‖1 − gate_j‖_∞, (T,) each: the
    largest over what was measured, or upper bounds for a class.
    """

    layer: int
    direction: Direction
    gate: str
    largest: Array
    complement: Array

    def up_to(self, t: int) -> tuple[float, float]:
        """The largest ‖gate_j‖_∞ and ‖1 − gate_j‖_∞ over j ≤ t."""
        return float(self.largest[:t].max()), float(self.complement[:t].max())


@dataclass(frozen=True, eq=False, repr=False)
class Gates(Brief):
    """Ranges of all gates of a network, and where they come from.

    ``source`` is "measured" (on data, an estimate), "calculus" (bounds of the whole class) or
    "printed" (the paper's formula). ``reason`` says why there are none where the paper's formula
    does not speak of the network.
    """

    source: Source
    steps: int
    ranges: tuple[GateRange, ...]
    reason: str = ""

    @property
    def kind(self) -> str:
        """Whether the numbers are an "estimate", a "bound", or an "order" as printed."""
        return {"measured": "estimate", "calculus": "bound", "printed": "order"}[self.source]

    def of(self, gate: str, layer: int = 0, direction: Direction = "forward") -> GateRange:
        """The range of one gate; InputError if there is none."""
        for found in self.ranges:
            if (found.layer, found.direction, found.gate) == (layer, direction, gate):
                return found
        known = ", ".join(f"{f.gate} of layer {f.layer} {f.direction}" for f in self.ranges)
        raise InputError(
            f"no range of gate {gate!r} of layer {layer} {direction}; "
            f"{self.reason or f'there are {known or None}'}"
        )


def measured_gates(network: Network, batches: Iterable[Batch]) -> Gates:
    """The ranges of all gates on data, streamed; an estimate, never a bound.

    Args:
        network: any network; those without gates have no ranges.
        batches: validated batches, such as a `recert.samples.sample.Sample`; labels are not used.

    Raises:
        InputError: there are no sequences, or a gate is NaN because states overflow.
    """
    totals: dict[Key, Array] = {}
    algebra = _RecordedNumbers(network)
    steps = 0

    def logits(net: Network, x: NDArray[Any], lengths: NDArray[np.int64], at: At) -> Array:
        piece = _Piece(lengths)
        algebra.watch.note = piece.note
        found = sorted_logits(algebra, net, x, lengths, at)
        for key, extremes in piece.found.items():
            totals[key] = _joined(totals.get(key), extremes)
        return found

    with np.errstate(over="ignore", invalid="ignore"):
        for batch in batches:
            steps = max(steps, int(batch.lengths.max()))
            in_pieces(network, batch.x, batch.lengths, "last", logits)
    if steps == 0:
        raise InputError("gates cannot be measured without sequences; pass batches that hold some")
    if any(np.isnan(extremes).any() for extremes in totals.values()):
        raise InputError(
            "a gate is NaN: the network's states overflow on this sample; scale its inputs down"
        )
    return Gates("measured", steps, _ranges(totals))


def classwide_gates(
    network: Network, *, steps: int, input_bound: float = 1.0, caps: Caps | None = None
) -> Gates:
    """Upper bounds of all gates over a class and all inputs, by the calculus, biases included.

    A gate σ(v) lies in [1 − s, s] with s = 1/(1 + e^(−Z_v)) (theory 3), so s bounds both norms.

    Args:
        network: cells, dimensions and block names; its weights matter only if caps is None.
        steps: T, at least 1.
        input_bound: B_x ≥ ‖x_t‖_2; 1 for one-hot inputs.
        caps: block name → ``Cap`` or number; None caps every block at its own measured norm and
            row sum.

    Raises:
        InputError: steps or a bound is unusable, a block has no cap, or the bounds of more than
            10,000 steps are asked for and have not come to rest by then.
    """
    steps, input_bound = _checked(network, steps, input_bound)
    full = class_caps(network, caps)
    algebra = bounds_algebra(network, [full], kind=_RecordedBounds).tagged(())  # norms alone
    assert isinstance(algebra, _RecordedBounds)
    algebra.watch = _Watch(network)
    x = network_input(algebra, network, input_bound)
    totals: dict[Key, Array] = {}
    for stage in reading.stages(network):
        x = _walked(algebra, stage, x, steps, totals)
    return Gates("calculus", steps, _ranges(totals))


def printed_gates(network: Network, *, steps: int, input_bound: float = 1.0) -> Gates:
    """The paper's range of gates, 1/(1 + exp(−B_Wr B_x − ‖U_r‖_row)) at every step (Section 5).

    Stated for the MGU's r; it holds for any sigmoid gate of one layer without biases, whose state
    has entries of at most 1. Norms are those of the network's weights.

    Args:
        network: elsewhere there are no ranges but a reason.
        steps: T, at least 1.
        input_bound: B_x ≥ ‖x_t‖_2; 1 for one-hot inputs.

    Raises:
        InputError: steps or a bound is unusable.
    """
    steps, input_bound = _checked(network, steps, input_bound)
    reason = beyond_paper(network)
    if reason:
        return Gates("printed", steps, (), reason)
    (layer,) = network.directions()
    totals: dict[Key, Array] = {}
    for gate in layer.spec.sigmoids:
        s = printed_range(layer, gate, input_bound)
        totals[0, "forward", gate] = np.full((2, steps), s)
    return Gates("printed", steps, _ranges(totals))


def printed_range(layer: Layer, gate: str, input_bound: float) -> float:
    """1/(1 + exp(−B_W B_x − ‖U‖_row)) with the W and U of one gate."""
    W, U = (layer.blocks[f"{letter}_{gate}"] for letter in "WU")
    reach = W.matrix_norm("spectral") * input_bound + U.matrix_norm("row_sum")
    return float(expit(reach))


def beyond_paper(network: Network) -> str:
    """Why the network is not one of the paper's, whatever its cell; empty if it is."""
    if len(network.layers) > 1:
        return "the paper's network has one layer"
    first = network.layers[0]
    if isinstance(first, Bidirectional):
        return "the paper's network reads in one direction"
    if "P" in first.blocks:
        return "the paper's network has no projection"
    if network.embedding is not None:
        return "the paper's network has no embedding"
    if network.encoder or network.head.hidden:
        return "the paper's network has no dense layers"
    if any(block.norm == "euclidean" for block in network.blocks()):
        return "the paper's network has no biases"
    if network.read == "mean":
        return "the paper's network reads its state at one step"
    return ""


class _Watch:
    """What gates' values are noted by: the layer's index, its direction, the gate's letter."""

    def __init__(self, network: Network) -> None:
        self.note: Callable[[Key, Any], object] = _ignore
        self._places = {
            layer: (index, direction)
            for index, layers in enumerate(network.layers)
            for direction, layer in zip(DIRECTIONS, layers.directions, strict=False)
        }

    def seen(self, layer: Layer, gate: str, value: Any) -> Any:
        """The value, noted."""
        self.note((*self._places[layer], gate), value)
        return value


def _ignore(key: Key, value: Any) -> None:
    """Note nothing."""


class _RecordedNumbers(NumbersAlgebra):
    """The reading on arrays, its gates watched."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.watch = _Watch(network)

    def opened(self, layer: Layer, gate: str, v: Array) -> Array:
        return self.watch.seen(layer, gate, super().opened(layer, gate, v))


class _RecordedBounds(BoundsAlgebra):
    """The reading on bounds, its gates watched."""

    watch: _Watch

    def opened(self, layer: Layer, gate: str, v: ValueBound) -> ValueBound:
        return self.watch.seen(layer, gate, super().opened(layer, gate, v))


class _Piece:
    """Extremes of gates over sequences sorted by falling length; key → (2, T)."""

    def __init__(self, lengths: NDArray[np.int64]) -> None:
        self.lengths = lengths
        self.steps = int(lengths.max())
        self.found: dict[Key, Array] = {}
        self._calls: dict[Key, int] = {}

    def note(self, key: Key, gate: Array) -> None:
        """Entries (rows, d_h) of a gate at the next step of its direction."""
        call = self._calls.get(key, 0)
        self._calls[key] = call + 1
        found = self.found.setdefault(key, np.full((2, self.steps), -np.inf))
        largest, complement = gate.max(axis=1), 1.0 - gate.min(axis=1)
        # A backward step's rows have taken as many steps as lie between it and their ends.
        step = self.lengths[: len(gate)] - (self.steps - call)
        for row, extremes in zip(found, (largest, complement), strict=True):
            if key[1] == "backward":
                np.maximum.at(row, step, extremes)
            else:
                row[call] = extremes.max()


def _joined(total: Array | None, extremes: Array) -> Array:
    """The larger of two (2, T) with T that may differ."""
    if total is None:
        return extremes
    longest = max(total.shape[1], extremes.shape[1])
    padded = [
        np.pad(v, ((0, 0), (0, longest - v.shape[1])), constant_values=-np.inf)
        for v in (total, extremes)
    ]
    return np.maximum(*padded)


def _walked(
    algebra: _RecordedBounds, stage: Stage, x: ValueBound, steps: int, totals: dict[Key, Array]
) -> ValueBound:
    """What a stage gives out after T steps; fills the bounds of its gates at every step."""
    S = len(stage.dimensions)
    N, Z = (np.full((S, 1), -np.inf) for _ in range(2))
    for t in range(steps):
        now: dict[Key, ValueBound] = {}
        algebra.watch.note = now.__setitem__
        states = [
            algebra.state(dim, f"@state{i}", N[i], Z[i]) for i, dim in enumerate(stage.dimensions)
        ]
        after = stage.step(algebra, x, states)
        for key, gate in now.items():
            s = min(1.0, float(np.exp(gate.log_Z[0])) * (1.0 + 1e-12))
            totals.setdefault(key, np.empty((2, steps)))[:, t:] = s
        new_N, new_Z = np.stack([v.log_N for v in after]), np.stack([v.log_Z for v in after])
        if np.array_equal(new_N, N) and np.array_equal(new_Z, Z):
            break  # the same step from the same norms, for ever
        if t >= MOST_STEPS:
            raise InputError(
                f"bounds of gates still move after {MOST_STEPS} steps; ask for at most that many"
            )
        N, Z = new_N, new_Z
    found: ValueBound = stage.output(algebra, after)
    return found


def _checked(network: Network, steps: int, input_bound: float) -> tuple[int, float]:
    remedy = "B_x must be finite and >= 0"
    input_bound = validation.number("input_bound", input_bound, remedy)
    if input_bound < 0:
        raise InputError(f"input_bound is {input_bound}; {remedy}")
    if network.input_kind == "onehot" and input_bound != 1.0:
        raise InputError(f"input_bound is {input_bound}; one-hot inputs have norm 1, leave it out")
    return validation.whole("steps", steps), input_bound


def class_caps(network: Network, caps: Caps | None) -> dict[str, Cap]:
    """Declared caps, or the network's own norms and row sums."""
    if caps is not None:
        return complete_caps(network, caps)
    return {
        block.name: Cap(
            block.norm_bound(),
            block.matrix_norm("row_sum") if block.norm == "spectral" else None,
        )
        for block in network.blocks()
    }


def _ranges(totals: dict[Key, Array]) -> tuple[GateRange, ...]:
    """Frozen ranges, layers bottom first."""
    found = []
    for layer, direction, gate in sorted(totals, key=lambda key: (key[0], key[1] != "forward")):
        largest, complement = totals[layer, direction, gate].copy()
        for values in (largest, complement):
            values.setflags(write=False)
        found.append(GateRange(layer, direction, gate, largest, complement))
    return tuple(found)
