"""Parts of a block that are being searched: real numbers, the grid that they are rounded to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recert.compression.integers import code_length_bits
from recert.compression.program import LARGEST_EXPONENT, CodedBlock, Grid, Program
from recert.networks.blocks import Array
from recert.networks.network import Network

# Steps in an octave: 4, 5, 6 and 7 times a power of two.
NOTCHES = 4
DEAD_ZONES = (0.5, 0.6, 0.7, 0.85, 1.0)
Step = tuple[int, int]  # mantissa and exponent
_SHORT = 200.0  # bits, up to which a part may be dropped in one move


@dataclass(frozen=True, eq=False)
class CodedPart:
    """Real numbers and how they are rounded.

    Args:
        value: float64.
        step: mantissa and exponent.
        dead_zone: below this many steps, from ½ to 1, numbers become zero.
        mask: False where a number is dropped; None for nowhere.
    """

    value: Array
    step: Step
    dead_zone: float = 0.5
    mask: Any = None
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def grid(self) -> Grid:
        """The numbers, rounded."""
        if "grid" not in self._cache:
            steps = self.value / math.ldexp(*self.step)
            integers = np.where(np.abs(steps) < self.dead_zone, 0.0, np.rint(steps))
            if self.mask is not None:
                integers = np.where(self.mask, integers, 0.0)
            self._cache["grid"] = Grid(integers, *self.step)
        grid: Grid = self._cache["grid"]
        return grid

    @property
    def bits(self) -> float:
        """An estimate of the integers' code."""
        if "bits" not in self._cache:
            self._cache["bits"] = code_length_bits(self.grid)
        bits: float = self._cache["bits"]
        return bits

    def at(self, **changes: Any) -> CodedPart:
        """The same numbers rounded in another way."""
        return replace(self, **changes)


State = Mapping[str, tuple[CodedPart, ...]]


def rounded_to(
    network: Network, quality: float, dead_zone: float
) -> dict[str, tuple[CodedPart, ...]]:
    """Every block of a network on a grid of about ``quality`` times its root mean square."""
    state: dict[str, tuple[CodedPart, ...]] = {}
    for block in network.blocks():
        state[block.name] = (
            CodedPart(block.value, notched(quality * _size(block.value)), dead_zone),
        )
    return state


def parts_of(program: Program) -> dict[str, tuple[CodedPart, ...]]:
    """The parts of a program, on its own grids."""
    return {
        name: tuple(CodedPart(g.value(), (g.mantissa, g.exponent)) for g in block.factors)
        for name, block in program.blocks.items()
    }


def coded(state: State) -> dict[str, CodedBlock]:
    """The coded blocks of a state."""
    return {name: CodedBlock(tuple(part.grid for part in parts)) for name, parts in state.items()}


def estimated_bits(state: State) -> float:
    """What a state's file will take, without its header."""
    total, last = 0.0, (1, -2)
    for parts in state.values():
        for part in parts:
            if part.grid.integers.any():
                total += part.bits + _step_bits(part.step, last)
                last = part.step
    return total


def _step_bits(step: Step, last: Step) -> float:
    """About what a file takes to tell a step after the last one."""
    if step == last:
        return 0.7
    digits = [mantissa.bit_length() - 1 for mantissa, _ in (step, last)]
    apart = abs(step[1] + digits[0] - last[1] - digits[1])
    return 2.3 + 2 * digits[0] + (2 * apart.bit_length() if apart else 0)


def notched(step: float, change: int = 0) -> Step:
    """The notch nearest to a step, or so many notches wider, within what a grid may have."""
    size, exponent = math.frexp(step)  # step = size·2^exponent, size in [½, 1)
    notch = NOTCHES * (exponent - 3) + round(size * 8.0) - 4 + change
    limit = NOTCHES * (LARGEST_EXPONENT - 8)
    notch = min(max(notch, -limit), limit)
    mantissa, exponent = 4 + notch % NOTCHES, notch // NOTCHES
    while mantissa % 2 == 0:
        mantissa, exponent = mantissa // 2, exponent + 1
    return mantissa, exponent


def low_rank(part: CodedPart, rank: int) -> tuple[CodedPart, CodedPart]:
    """A matrix as the product of two of that rank, on grids about as fine as its own."""
    left, sizes, right = np.linalg.svd(part.value, full_matrices=False)
    root = np.sqrt(sizes[:rank])
    quality = 0.7 * math.ldexp(*part.step) / _size(part.value)
    first, last = left[:, :rank] * root, root[:, None] * right[:rank]
    return (
        CodedPart(first, notched(quality * _size(first))),
        CodedPart(last, notched(quality * _size(last))),
    )


def _size(value: Array) -> float:
    """Root mean square; 1 for zeros."""
    return math.sqrt(float(np.mean(np.square(value)))) or 1.0


def groups(state: State) -> list[tuple[str, ...]]:
    """Blocks that are moved together: all, those of one letter, and each for itself.

    The longest first, of each kind.
    """
    sizes = {name: sum(part.bits for part in parts) for name, parts in state.items()}
    names = sorted(sizes, key=lambda name: -sizes[name])
    letters = {name[0]: tuple(n for n in names if n[0] == name[0]) for name in names}
    together = [group for group in letters.values() if 1 < len(group) < len(names)]
    return [tuple(names), *together, *((name,) for name in names)]


def moves(state: State, names: tuple[str, ...]) -> Iterator[State]:
    """Other ways to code some blocks, the likelier gains first."""
    for change, by in ((_wider, 2), (_wider, 1), (_wider, -1), (_emptier, 1), (_emptier, -1)):
        yield {
            name: tuple(change(part, by) for part in parts) if name in names else parts
            for name, parts in state.items()
        }
    if len(names) == 1:
        yield from _moves_of_one(state, names[0])


def _wider(part: CodedPart, by: int) -> CodedPart:
    """A step that is so many notches wider."""
    return part.at(step=notched(math.ldexp(*part.step), by))


def _emptier(part: CodedPart, by: int) -> CodedPart:
    """A dead zone that is so many places wider."""
    place = DEAD_ZONES.index(part.dead_zone) + by
    return part.at(dead_zone=DEAD_ZONES[min(max(place, 0), len(DEAD_ZONES) - 1)])


def _moves_of_one(state: State, name: str) -> Iterator[State]:
    """What is tried on one block alone: others' steps, fewer columns, zeros, low rank."""
    parts = state[name]
    steps = sorted({part.step for other in state.values() for part in other})
    for k, part in enumerate(parts):
        width = math.ldexp(*part.step)
        near = [s for s in steps if s != part.step and 0.6 < math.ldexp(*s) / width < 1.7]
        changed = [part.at(step=step) for step in near]
        changed += [part.at(mask=mask) for mask in _fewer_columns(part)]
        if part.bits < _SHORT:
            changed.append(part.at(mask=np.zeros(part.value.shape, dtype=bool)))
        yield from ({**state, name: (*parts[:k], new, *parts[k + 1 :])} for new in changed)
    if len(parts) == 1 and parts[0].value.ndim == 2:
        yield from ({**state, name: low_rank(parts[0], rank)} for rank in _ranks(parts[0]))


def _fewer_columns(part: CodedPart) -> Iterator[Any]:
    """Masks without the weakest columns: an eighth, a quarter of those that are there."""
    if part.value.ndim < 2 or part.value.shape[-1] < 4:
        return
    norms = np.abs(part.grid.integers).reshape(-1, part.value.shape[-1]).sum(axis=0)
    there = np.flatnonzero(norms)
    order = there[np.argsort(norms[there], kind="stable")]
    before = np.ones(part.value.shape, dtype=bool) if part.mask is None else part.mask
    for share in (8, 4):
        count = len(there) // share
        if count:
            mask = np.array(before)
            mask[..., order[:count]] = False
            yield mask


def _ranks(part: CodedPart) -> Iterator[int]:
    rows, columns = part.value.shape
    for share in (2, 4):
        rank = min(rows, columns) // share
        if rank >= 1 and rank * (rows + columns) < rows * columns:
            yield rank
