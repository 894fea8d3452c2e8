"""From a trained network to a short file: a search over grids by what the certificate would be.

Nothing here needs to be right for the certificate to hold: that holds for every file at once. The
search only looks for a good one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recert.compression.file import file_bytes
from recert.compression.parts import (
    CodedPart,
    State,
    coded,
    estimated_bits,
    groups,
    moves,
    parts_of,
    rounded_to,
)
from recert.compression.program import Program, program_of
from recert.errors import InputError
from recert.networks.network import Network
from recert.numerics.concentration import kl_inverse_upper
from recert.utils.validation import probability, whole

Error = Callable[[Network], float]

QUALITIES = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4)
FIRST_DEAD_ZONES = (0.5, 0.7, 0.85)
# The weight of a bit against what it has in the certificate, and the share of evaluations.
TRADES = ((1.0, 0.6), (3.0, 0.2), (1.0 / 3.0, 0.2))
FIRST_SHARE = 1.0 / 12.0  # of all numbers, moved at once
HEADER_BITS = 40.0
FINALISTS = 16


@dataclass(frozen=True, eq=False)
class Candidate:
    """A program with the length of its file, its error on the sample and its certificate."""

    program: Program
    bytes: int
    error: float
    certificate: float


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    Attributes:
        frontier: programs of which none is both shorter and better than another, shortest first.
        best: the one with the smallest certificate.
        evaluations: how often an error was computed.
    """

    frontier: tuple[Candidate, ...]
    best: Candidate
    evaluations: int


def certified(error: float, length: int, m: int, delta: float) -> float:
    """The Occam certificate of a file of so many bytes, for a search; see `theorems.occam`."""
    nats = 8 * length * math.log(2.0) - math.log(delta)
    return float(kl_inverse_upper(min(1.0, max(0.0, error)), nats / m))


def compress(
    start: Network | Program,
    error: Error,
    *,
    m: int,
    delta: float = 0.05,
    quick: Error | None = None,
    evaluations: int = 300,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Found:
    """Search for programs near a trained network whose certificate is small.

    Block by block other steps, dead zones, fewer columns and low rank are tried, then numbers of
    the best are moved towards zero a few at a time; what makes the certificate smaller stays.

    Args:
        start: a trained network, or a program from which to go on.
        error: network → error rate on the whole sample; called for the last few programs.
        m: units of the sample.
        delta: failure probability of the certificate.
        quick: the same on a part of the sample, for all other calls; ``error`` if None.
        evaluations: the largest number of calls of ``quick``.
        seed: of the choice of numbers that are moved.
        progress: called with the number of calls done and the largest number, or None.

    Raises:
        InputError: an argument is out of range, or an error rate is not a number in [0, 1].
    """
    m, evaluations = whole("m", m), whole("evaluations", evaluations, least=10)
    delta = probability("delta", delta)
    network = start if isinstance(start, Network) else start.skeleton
    run = _Run(network, quick or error, m, delta, evaluations, progress)
    if isinstance(start, Program):
        state: State = parts_of(start)
        run.value(state)
    else:
        starts = [rounded_to(network, q, z) for q in QUALITIES for z in FIRST_DEAD_ZONES]
        state = min(starts, key=run.value)
    # A program's grids were chosen with care; a network's are to be found.
    climb = evaluations * (1 if isinstance(start, Program) else 3) // 5
    for trade, share in TRADES:
        found = run.climb(state, trade, run.calls + int(climb * share))
        if trade == 1.0:
            state = found
    run.polish(run.best(), np.random.default_rng(seed))
    return run.finish(error, start)


class _Run:
    """The state of a search: what was tried, and how good it was."""

    def __init__(
        self,
        network: Network,
        quick: Error,
        m: int,
        delta: float,
        most: int,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self.network, self.quick, self.m, self.delta = network, quick, m, delta
        self.most, self.progress = most, progress
        self.calls = 0
        self.tried: list[tuple[float, float, State]] = []  # bits, error, state

    def value(self, state: State, trade: float = 1.0) -> float:
        """What the certificate would be, a bit weighing ``trade``; inf where it has no file."""
        bits = estimated_bits(state) + HEADER_BITS
        try:
            network = program_of(self.network, coded(state)).network()
        except InputError:
            return math.inf
        error = rate(self.quick(network))
        self.calls += 1
        if self.progress is not None:
            self.progress(self.calls, self.most)
        self.tried.append((bits, error, state))
        return self.score(bits, error, trade)

    def score(self, bits: float, error: float, trade: float = 1.0) -> float:
        nats = trade * bits * math.log(2.0) - math.log(self.delta)
        return float(kl_inverse_upper(error, nats / self.m))

    def best(self) -> State:
        """The state with the smallest value so far."""
        return min(self.tried, key=lambda found: self.score(*found[:2]))[2]

    def climb(self, state: State, trade: float, until: int) -> State:
        """Take moves that lower the value, group after group of blocks."""
        value = min(
            (self.score(b, e, trade) for b, e, s in self.tried if s is state), default=math.inf
        )
        better = True
        while better and self.calls < until:
            better = False
            for group in groups(state):
                for other in moves(state, group):
                    if self.calls >= until:
                        return state
                    found = self.value(other, trade)
                    if found < value:
                        state, value, better = other, found, True
                        break
        return state

    def polish(self, state: State, rng: np.random.Generator) -> None:
        """Move numbers towards zero by one step, a handful at a time, while it pays.

        Each pass goes through all numbers in a random order; where less than a quarter of them
        could be moved, the next pass takes half as many at a time.
        """
        state = {name: tuple(map(_on_grid, parts)) for name, parts in state.items()}
        value, share = self.value(state), FIRST_SHARE
        while self.calls < self.most:
            ranks = {
                name: tuple(rng.random(part.value.shape) for part in parts)
                for name, parts in state.items()
            }
            taken = 0
            for low in np.arange(0.0, 1.0, share):
                if self.calls >= self.most:
                    return
                other = {
                    name: tuple(
                        _shrunk(part, (rank >= low) & (rank < low + share))
                        for part, rank in zip(parts, ranks[name], strict=True)
                    )
                    for name, parts in state.items()
                }
                found = self.value(other)
                if found < value:
                    state, value, taken = other, found, taken + 1
            if taken * share < 0.25:
                share /= 2.0

    def finish(self, error: Error, start: Network | Program) -> Found:
        """Files and errors on the whole sample of the programs that were best."""
        states = [state for _, _, state in self.finalists()]
        programs = [program_of(self.network, coded(state)) for state in states]
        if isinstance(start, Program):
            programs.append(start)
        found = []
        for program in programs:
            length, risk = file_bytes(program), rate(error(program.network()))
            value = certified(risk, length, self.m, self.delta)
            found.append(Candidate(program, length, risk, value))
        best = min(found, key=lambda candidate: candidate.certificate)
        return Found(pareto(found), best, self.calls + len(found))

    def finalists(self) -> list[tuple[float, float, State]]:
        """The best by value, and some of those that none beats in both bits and error."""
        ranked = sorted(self.tried, key=lambda found: self.score(*found[:2]))[: FINALISTS // 4]
        front, lowest = [], math.inf
        for found in sorted(self.tried, key=lambda found: found[:2]):
            if found[1] < lowest:
                front.append(found)
                lowest = found[1]
        count = min(len(front), FINALISTS - len(ranked))
        spread = [front[i] for i in np.linspace(0, len(front) - 1, count).astype(int)]
        return [*ranked, *(found for found in spread if all(found is not r for r in ranked))]


def pareto(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    """Those of which none is both shorter and better than another, shortest first."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.bytes, c.error)):
        if not front or candidate.error < front[-1].error:
            front.append(candidate)
    return tuple(front)


def rate(error: float) -> float:
    """An error rate that a caller's function gave; InputError unless it lies in [0, 1]."""
    if not 0.0 <= error <= 1.0:
        raise InputError(f"the error function gave {error}; it must return a rate between 0 and 1")
    return float(error)


def _on_grid(part: CodedPart) -> CodedPart:
    """A part whose real numbers are its rounded ones."""
    return CodedPart(part.grid.value(), part.step)


def _shrunk(part: CodedPart, chosen: np.ndarray) -> CodedPart:
    """Those of the chosen numbers that are not zero, one step nearer to it."""
    integers = part.grid.integers
    moved = integers - np.sign(integers) * chosen
    return CodedPart(np.ldexp((moved * part.step[0]).astype(np.float64), part.step[1]), part.step)
