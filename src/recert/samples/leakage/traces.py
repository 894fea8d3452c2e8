"""Traces by which sequences are known again: whole, in part, at another place, or nearly.

Every trace is a fixed function of one sequence (and its label).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.samples.leakage.stretches import Index, Marks, Prints, marks, powers, scrambled

# Numbers kept of real inputs.
NUMBERS = 16
# So many changes of value make a sequence of reals one that does not recur by itself; so many
# values are looked at.
CHANGES, _LOOKS = 4, 128
# Numbers of a step whose course is looked at, and how finely.
_COURSES, _FINE = 8, 16.0
# A change below these shares of a sequence's largest change and largest number is none.
_STILL, _ROUNDED = 1e-4, 5e-7
# Steps, or numbers, that are worked on at once.
_AT_ONCE = 1 << 19
_SEED = 20181228
_U = np.uint64


@dataclass(frozen=True, eq=False)
class Traces(Marks):
    """Traces of n sequences: prints of their steps and stretches (`Marks`), and further ones.

    Attributes:
        labelled: (n,) print of the whole sequence with its label, or labels.
        turned: (n,) print of the sequence that its reverse has, too.
        mixed: (n,) print of its steps in whatever order.
        numbers: (n, 16) random projections of real inputs; zeros for tokens.
        telling: (n,) whether the sequence is of reals, not whole numbers, that keep changing.
        course: of real inputs the prints of how they change, whatever their units: what is left
            where every number is shifted and multiplied by something positive. None for tokens.
    """

    labelled: Prints
    turned: Prints
    mixed: Prints
    numbers: NDArray[np.float32]
    telling: NDArray[np.bool_]
    course: Marks | None

    def some(self, most: int) -> Traces:
        """All, or as many as this at random, whatever they are."""
        if len(self) <= most:
            return self
        return self[np.random.default_rng(len(self)).permutation(len(self))[:most]]

    def once(self, times: int) -> Traces:
        """The same where every sequence had been repeated so many times, and now is not."""
        if times == 1:
            return self
        order = np.argsort(self.exact, kind="stable")
        exact = self.exact[order]
        starts = np.flatnonzero(np.r_[True, exact[1:] != exact[:-1]])
        sizes = np.diff(np.r_[starts, len(order)])
        rank = np.arange(len(order)) - np.repeat(starts, sizes)
        return self[np.sort(order[rank < np.repeat(-(-sizes // times), sizes)])]

    def of_units(self, units: Index | None) -> Traces:
        """One sequence's traces for each unit: those of the member whose print is least.

        ``labelled`` is of all members together. Without units each sequence is one.
        """
        if units is None or len(np.unique(units)) == len(self):
            return self
        order = np.lexsort((scrambled(self.exact), units))
        starts = np.flatnonzero(np.r_[True, units[order][1:] != units[order][:-1]])
        together = np.add.reduceat(scrambled(self.labelled[order]), starts)
        return replace(self[order[starts]], labelled=together)


def joined(parts: Sequence[Traces]) -> Traces:
    """Traces of several batches, one after the other."""
    return Traces.joined(parts)


def traces(x: NDArray[Any], labels: NDArray[np.int64], lengths: Index) -> Traces:
    """Traces of tokens (n, T) or reals (n, T, d_x), labels (n,) or (n, T), lengths (n,).

    Padding must be zero; neither it nor batches nor the number type of what is equal matter.
    """
    n, width = len(x), int(np.prod(x.shape[1:]))
    rows = max(1, _AT_ONCE // width)
    parts = [
        _traces(x[i : i + rows], labels[i : i + rows], lengths[i : i + rows])
        for i in range(0, n, rows)
    ]
    return joined(parts)


def _traces(x: NDArray[Any], labels: NDArray[np.int64], lengths: Index) -> Traces:
    if x.ndim == 3:
        x = np.ascontiguousarray(x, dtype=np.float64) + 0.0
    steps = _steps(x)
    found = marks(steps, lengths)
    steps_labels = labels.reshape(len(x), -1)
    labelled = scrambled(found.exact + scrambled(_mix(steps_labels, 1) + _U(3)))
    numbers, telling = _reals(x)
    of_steps: dict[str, Any] = {f.name: getattr(found, f.name) for f in fields(Marks)}
    return Traces(
        **of_steps,
        labelled=labelled,
        turned=_turned(steps, lengths),
        mixed=scrambled(scrambled(steps).sum(axis=1, dtype=np.uint64) + lengths.astype(np.uint64)),
        numbers=numbers,
        telling=telling,
        course=_course(x, lengths),
    )


def _turned(steps: Prints, lengths: Index) -> Prints:
    """The same of a sequence and of its reverse: both prints, added."""
    ahead, back = powers(steps.shape[1])
    onward = np.einsum("ij,j->i", steps, ahead[:-1])
    reverse = np.einsum("ij,j->i", steps, back[:-1]) * ahead[lengths - 1]
    return scrambled(scrambled(onward) + scrambled(reverse))


def _course(x: NDArray[Any], lengths: Index) -> Marks | None:
    """Of every change its share in two, and the sign of the one before, for some numbers of a step.

    Coarse cells, which rounding does not often leave.
    """
    if x.ndim == 2:
        return None
    chosen = np.unique(np.linspace(0, x.shape[2] - 1, _COURSES).astype(np.int64))
    part = x[:, :, chosen]
    if x.shape[1] < 4:
        part = np.pad(part, ((0, 0), (0, 4 - x.shape[1]), (0, 0)))
    n, T = part.shape[:2]
    with np.errstate(all="ignore"):
        change = np.diff(part, axis=1)
        if int(lengths.min()) < T:
            change[np.arange(1, T) >= lengths[:, None]] = 0.0
        size = np.abs(change)
        least = _STILL * size.max(axis=1) + _ROUNDED * np.abs(part).max(axis=1)
        size[size <= least[:, None]] = 0.0
        share = np.copysign(size[:, 1:], change[:, 1:]) / (size[:, 1:] + size[:, :-1])
        share[np.isnan(share)] = 2.0
        cells = np.rint(_FINE * share)
        codes = (cells + np.copysign(64.0, change[:, :-1]) * (size[:, :-1] > 0.0)).astype(np.int32)
    steps = scrambled(_mix(codes.reshape(n * (T - 2), -1), 2) + _U(5)).reshape(n, T - 2)
    return marks(steps, np.maximum(lengths - 2, 1))


def _steps(x: NDArray[Any]) -> Prints:
    """(n, T) prints of single steps."""
    if x.ndim == 2:
        return scrambled(x.astype(np.int64).view(np.uint64) + _U(1))
    return scrambled(_mix(x.reshape(-1, x.shape[2]), 0)).reshape(x.shape[:2])


def _mix(values: NDArray[Any], stream: int) -> Prints:
    """Σ_j a_j·word_j mod 2^64 over the 32-bit words of each row, with random 64-bit a_j."""
    words = np.ascontiguousarray(values).view(np.uint32)
    result: Prints = np.einsum("ij,j->i", words, _multipliers(words.shape[1], stream))
    return result


@lru_cache(maxsize=8)
def _multipliers(size: int, stream: int) -> Prints:
    generator = np.random.Generator(np.random.PCG64([_SEED, stream]))
    return generator.integers(0, 2**64, size=size, dtype=np.uint64)


@lru_cache(maxsize=4)
def _directions(size: int) -> NDArray[np.float64]:
    generator = np.random.Generator(np.random.PCG64([_SEED, 9]))
    return generator.standard_normal((size, NUMBERS))


def _reals(x: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Projections of real inputs, and whether they tell sequences apart."""
    n = len(x)
    if x.ndim == 2:
        return np.zeros((n, NUMBERS), dtype=np.float32), np.zeros(n, dtype=bool)
    flat = x.reshape(n, -1)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.nan_to_num(flat @ _directions(flat.shape[1]), posinf=3e38, neginf=-3e38)
        short: NDArray[np.float32] = np.clip(numbers, -3e38, 3e38).astype(np.float32)
    # A number is compared with the same one a step before, or with its neighbour in a single step.
    back = x.shape[2] if x.shape[1] > 1 else 1
    places = np.unique(np.linspace(back, flat.shape[1] - 1, _LOOKS).astype(np.int64))
    places = places[(places >= back) & (places < flat.shape[1])]
    looked = flat[:, places]
    changes = (looked != flat[:, places - back]).sum(axis=1)
    return short, (changes >= CHANGES) & (looked != np.rint(looked)).any(axis=1)
