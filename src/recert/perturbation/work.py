"""What following moves through a sample takes, known before anything is followed.

Time is counted in products of numbers: sequences × steps × (what a step costs forward + wrong
classes × what it costs back), with sizes of states, weights and parts in both; and batches × values
× what a value costs however few sequences share it. Seconds are those of two nominal cores of fixed
speed, so that what is skipped for its time is the same on every machine.
Memory is counted in numbers that a batch holds; the number of sequences in a batch follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import cpu_count

from recert.networks import reading
from recert.networks.layers import Dense, Layer
from recert.networks.network import MarginForm
from recert.perturbation.ball import BallParts

# What is counted as one second: products of numbers, as one core of a laptop takes them.
A_SECOND = 4e9
# What a value and a small product of matrices cost however small, and how many products a number
# that is only read and written counts for: elsewhere than in products, memory is the limit.
VALUE, MATRIX, READ = 500.0, 3_000.0, 8.0
# What a value costs a batch of whatever size, with enclosures and to first order: 0.11 ms, 0.02 ms.
BATCHED, BATCHED_FIRST = 4.4e5, 8e4
# How many batches are taken to be followed at a time, which decides how much memory one has.
NOMINAL = 2
# The same for the sums over parts and classes of one functional.
SUMMED = 150.0
# Bytes that are held at once at most, by default.
MEMORY = 1 << 30
# Sequences in a batch at most.
BATCH = 512
NUMBER = 8


@dataclass(frozen=True)
class Work:
    """Products and numbers that one sequence takes.

    Attributes:
        tangent: products for the first order alone.
        full: products with enclosures.
        forward: numbers that a batch holds, but for what one wrong class adds.
        first: the same to first order.
        each_class: numbers that one wrong class adds.
        classes: wrong classes, K − 1.
        parts: number of parts.
        weights: number of weights.
        values: number of values, which a batch of any size makes one by one.
    """

    tangent: float
    full: float
    forward: float
    first: float
    each_class: float
    classes: int
    parts: int
    weights: int
    values: float

    def batch(self, memory: float, threads: int, *, first: bool = False) -> tuple[int, int]:
        """Sequences in a batch and wrong classes side by side, so that threads fit in memory."""
        room, held = memory / NUMBER / threads, self.first if first else self.forward
        classes = int(max(1.0, min(self.classes, held / self.each_class)))
        sequences = room / (held + classes * self.each_class)
        return int(max(1.0, min(BATCH, sequences))), classes

    def batching(self, n: int, memory: float, *, first: bool = False) -> float:
        """Products that n sequences of one length cost because they come in batches."""
        size, _ = self.batch(memory, NOMINAL, first=first)
        return -(-n // size) * self.values * (BATCHED_FIRST if first else BATCHED)

    def least_memory(self) -> float:
        """Bytes without which not even one sequence can be followed."""
        return NUMBER * (self.forward + self.each_class + 2.0 * self.weights)

    def pilot(self, memory: float, most: int) -> int:
        """Sequences whose first order can be held for all wrong classes, a few times over."""
        held = 8.0 * (self.classes * (self.parts + 8.0)) * NUMBER
        return int(max(1.0, min(most, memory / held)))


@dataclass(frozen=True)
class Estimate:
    """What a local ball takes on a sample, in seconds of one core, and sequences followed."""

    first: float
    all: float
    sequences: int


def threads() -> int:
    """How many batches are followed at a time."""
    return max(1, min(4, cpu_count() or 1))


def work_of(network: MarginForm, parts: BallParts, steps: int) -> Work:
    """What one sequence of ``steps`` steps takes."""
    wrong, weights = network.outputs, sum(block.parameters for block in network.blocks())
    once = [*network.encoder, *network.head.hidden]
    shallow = sum(2.0 * d.A.rows * d.A.columns + 6 * d.A.rows + VALUE for d in once)
    small = sum(d.A.rows for d in once)
    each = deep = held = transient = products = states = 0.0
    values = 3.0 * len(once)
    for stage in reading.stages(network):
        D = sum(stage.dimensions)
        for layer in stage.layers:
            each += _linear(layer)
            nodes, quadratic = _nodes(layer), _quadratic(layer)
            h = max(layer.d_h, layer.d_out)
            states += nodes * h
            values += nodes
            # J P Jᵀ of nodes that matter, J of every node; their squares stay.
            products += quadratic * (h * D * D + h * h * D + MATRIX) + nodes * (
                READ * h * D + VALUE
            )
            products += layer.d_h * layer.d_out * D * len(layer.gates)
            held += 6.0 * nodes * h + quadratic * h * h
            transient += nodes * h * D + quadratic * h * h
            deep += nodes * VALUE / 4.0 + quadratic * (h * h + READ * h) + READ * nodes * h
        products += 1.5 * D**3
        held += D * D
        transient += 6.0 * D * D
    top = max(sum(stage.dimensions) for stage in reading.stages(network))
    heads = sum(_head(d, top) for d in network.head.hidden)
    forward = steps * (each + shallow + products) + heads
    sums = SUMMED * (parts.count + wrong)
    back = steps * (each + shallow + deep) + sums
    plain = steps * (each + shallow + READ * (small + 2.0 * states))
    last = 2.0 * network.head.V.rows * network.head.V.columns
    heads_held = sum(
        2.0 * d.A.rows * (d.A.rows + top) + 12.0 * d.A.rows for d in network.head.hidden
    )
    return Work(
        tangent=plain + last + wrong * (plain + last + sums),
        full=forward + last + wrong * (back + last),
        forward=steps * (held + 12.0 * small) + transient + heads_held + 4.0 * wrong,
        first=steps * (2.0 * states + 12.0 * small) + heads_held + 4.0 * wrong,
        each_class=3.0 * parts.count + 6.0 * wrong + 8.0 * top + 8.0 * small,
        classes=wrong,
        parts=parts.count,
        weights=weights,
        values=steps * values,
    )


def _head(dense: Dense, D: int) -> float:
    rows = dense.A.rows
    return 2.0 * rows * (dense.A.columns * D + D * D + rows * D)


def _linear(layer: Layer) -> float:
    """Products of a step's matrices with vectors."""
    return float(sum(block.rows * block.columns for block in layer.blocks.values()))


def _nodes(layer: Layer) -> int:
    """Values that a step makes."""
    return 6 * len(layer.gates) + 6


def _quadratic(layer: Layer) -> int:
    """Values of a step with residuals of second order, and states."""
    return 1 if layer.activation == "relu" and layer.cell == "vanilla" else 3 * len(layer.gates)
