"""Whole numbers as decisions whose chances are learnt from what was coded before.

A number n is coded as |n| > 0?, |n| > 1?, … and its sign. The chance of each step is a blend of
counts: of all grids so far, of the grids of the same letter, of this grid; and then of this column,
with or without the same column of earlier grids of the same letter and shape (the gates of a
cell). Several such blends are weighed by how well each did on this grid (Bayes's rule).

Every chance comes from whole numbers by single additions, multiplications and divisions of
float64, in an order that is written out, so that it is the same on every machine.

How many bits a grid will take, estimated fast, for searches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from recert.compression.coder import SCALE, Adaptive, Coder
from recert.compression.program import Grid, Integers

STEPS = 15
"""|n| is counted up in single steps so far; what is above follows in Elias's gamma code."""

_BLEND = 8.0  # how many decisions a wider count is worth in a narrower one
_FIRST, _NEXT = 0.4, 0.45  # chances of |n| > 0 and of |n| > k before anything is known
# Blends by column: worth of the grid's chance, and whether earlier grids' columns count.
_COLUMNS = ((2.0, True), (8.0, False), (8.0, True), (32.0, False), (32.0, True))
_LEAST = 1e-6  # weight of a blend, so that none is lost for ever
_SIGN = 8  # halves of a sign that each side starts with

Counts = list[int]
Key = tuple[int, int]


class IntegerCode:
    """Codes one grid after another, and remembers.

    Args:
        coder: writes, reads or measures.
    """

    def __init__(self, coder: Coder) -> None:
        self.coder = coder
        self._everywhere = _Steps()
        self._letters: dict[str, _Steps] = {}
        self._columns: dict[tuple[str, int, int], dict[Key, Counts]] = {}
        self._tail = [2, 2]

    def grid(self, letter: str, rows: int, columns: int, old: Integers | None) -> Integers:
        """A grid as (rows, columns).

        Args:
            letter: what it is; grids of one letter are expected to be alike.
            rows: d1.
            columns: d2.
            old: int64 of that shape; None for a reader.
        """
        found = np.zeros((rows, columns), dtype=np.int64)
        values = _values(old)
        model = _GridModel(self, letter, rows, columns)
        for i in range(rows):
            for j in range(columns):
                n = model.number(j, next(values))
                if n:
                    found[i, j] = n
        model.close()
        return found


class _Steps:
    """Counts (no, yes) of the decision |n| > k, by k."""

    def __init__(self) -> None:
        self.counts = [[0, 0] for _ in range(STEPS)]

    def blended(self, k: int, wider: float) -> float:
        """The chance from these counts and a wider one."""
        no, yes = self.counts[k]
        return (yes + _BLEND * wider) / (no + yes + _BLEND)


class _GridModel:
    """The chances within one grid."""

    def __init__(self, code: IntegerCode, letter: str, rows: int, columns: int) -> None:
        self.code, self.coder = code, code.coder
        self.tail = code._tail
        self.letter = code._letters.setdefault(letter, _Steps())
        self.levels = (code._everywhere, self.letter, _Steps())
        self.sign = Adaptive(_SIGN, _SIGN)
        self.lengths = [Adaptive() for _ in range(64)]
        self.by_column = rows > 1 and columns > 1
        self.own: dict[Key, Counts] = {}
        self.earlier = code._columns.setdefault((letter, rows, columns), {})
        even = 1.0 / (len(_COLUMNS) + 1)
        # Of |n| > 0 and of all later steps together.
        self.weights = [[even] * (len(_COLUMNS) + 1) for _ in range(2)]

    def number(self, column: int, value: int) -> int:
        """Code one number in a column."""
        size = abs(value)
        k = 0
        while k < STEPS and self.step(k, column, int(size > k)):
            k += 1
        if k == STEPS:
            k += self.rest(size - STEPS)
        if k == 0:
            return 0
        return -k if self.sign(self.coder, value < 0) else k

    def rest(self, value: int) -> int:
        """What is above the single steps, at least 0."""
        digits = 1
        while digits < 55 and self.lengths[digits](self.coder, (value + 1).bit_length() > digits):
            digits += 1
        found = 1
        for place in range(digits - 2, -1, -1):
            found = 2 * found + self.coder.bit(SCALE // 2, (value + 1) >> place & 1)
        return found - 1

    def step(self, k: int, column: int, value: int) -> int:
        """Code whether |n| > k, and learn from it."""
        chance = self.base(k)
        later = int(k > 0)
        if not self.by_column:
            found = self.coder.bit(_whole(chance), value)
        else:
            key = (column, later)
            own = self.own.get(key)
            if own is None:
                own = self.own[key] = [0, 0]
            found = self.mixed(chance, own, self.earlier.get(key, _NOTHING), later, value)
            own[found] += 1
        for level in self.levels:
            level.counts[k][found] += 1
        if later:
            self.tail[found] += 2
        return found

    def base(self, k: int) -> float:
        """The chance from the counts of all grids, of this letter's and of this one."""
        if k == 0:
            chance = _FIRST
        elif k == 1:
            chance = _NEXT
        else:
            chance = self.tail[1] / (self.tail[0] + self.tail[1])
        for level in self.levels:
            chance = level.blended(k, chance)
        return chance

    def mixed(self, base: float, own: Counts, earlier: Counts, later: int, value: int) -> int:
        """Code by the weighted chances, then weigh them by what happened."""
        no, yes = own
        every, all_yes = no + yes, yes
        all_yes += earlier[1]
        every += earlier[0] + earlier[1]
        chances = [base]
        for worth, with_earlier in _COLUMNS:
            if with_earlier:
                chances.append((all_yes + worth * base) / (every + worth))
            else:
                chances.append((yes + worth * base) / (no + yes + worth))
        weights = self.weights[later]
        total = 0.0
        # Python's own sum of floats differs between its versions.
        for weight, chance in zip(weights, chances, strict=True):
            total += weight * chance
        found = self.coder.bit(_whole(total), value)
        likelihood = total if found else 1.0 - total
        for i, chance in enumerate(chances):
            weight = weights[i] * (chance if found else 1.0 - chance) / likelihood
            weights[i] = weight if weight > _LEAST else _LEAST
        return found

    def close(self) -> None:
        """Keep the columns' counts for later grids."""
        for key, (no, yes) in self.own.items():
            kept = self.earlier.setdefault(key, [0, 0])
            kept[0] += no
            kept[1] += yes


_NOTHING: Counts = [0, 0]


def _whole(chance: float) -> int:
    whole = int(chance * SCALE)
    return 1 if whole < 1 else whole if whole < SCALE else SCALE - 1


def _values(old: Integers | None) -> Iterator[int]:
    """The numbers row by row; zeros for a reader, who ignores them."""
    if old is not None:
        yield from old.reshape(-1).tolist()
    while True:
        yield 0


_BITS = 1.0 / math.log(2.0)


def code_length_bits(grid: Grid | Integers) -> float:
    """An estimate of the bits of a grid's integers by their counts alone.

    What Krichevsky and Trofimov's estimate pays for the decisions |n| > 0, |n| > 1, …, and one bit
    for a sign. The file's code also learns from other grids and from columns, and is mostly a few
    per cent shorter.
    """
    integers = grid.integers if isinstance(grid, Grid) else np.asarray(grid)
    sizes = np.abs(integers).ravel()
    least = np.minimum(sizes, STEPS)
    counts = np.bincount(least.astype(np.int64), minlength=STEPS + 1)
    above = np.append(np.cumsum(counts[::-1])[::-1], 0)  # how many reach k
    bits = float(above[1])
    for k in range(STEPS):
        if above[k] == 0:
            break
        bits += _decisions(int(above[k] - above[k + 1]), int(above[k + 1]))
    rest = sizes[sizes >= STEPS] - STEPS + 1
    if len(rest):
        bits += _gamma(np.floor(np.log2(rest)).astype(np.int64))
    return bits


def _gamma(digits: Integers) -> float:
    """Bits of numbers in Elias's gamma code with learnt lengths, by their digits but the first."""
    bits, there = float(digits.sum()), len(digits)
    for k in range(int(digits.max()) + 1):
        more = int((digits > k).sum())
        bits += _decisions(there - more, more)
        there = more
    return bits


def _decisions(no: int, yes: int) -> float:
    """Bits of so many decisions: −log2 of Γ(no + ½)·Γ(yes + ½)/(π·Γ(no + yes + 1))."""
    value = math.lgamma(no + yes + 1) - math.lgamma(no + 0.5) - math.lgamma(yes + 0.5)
    return (value + math.log(math.pi)) * _BITS
