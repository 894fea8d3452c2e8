"""How far what a module returned is from a Network's logits, in every layout and form it may have.

A module may return logits, up to a constant common to all classes, which no margin sees; their
softmax or log-softmax; their sigmoids; for two classes the difference of the logits alone, or its
sigmoid. None of these forms changes the order of the classes; where they are so close to 0 or 1
that a comparison of numbers no longer tells, the classes themselves are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """The largest difference between what was returned and what was expected, and where it is.

    Attributes:
        size: of the difference.
        excess: its size in multiples of what rounding is allowed.
        row: of which sequence.
        step: at which step.
        found: what was returned, (n, T, K) or (n, 1, K), K = 1 for a difference of two logits.
        want: the network's logits there.
        threshold: above which one number a sequence means class 1.
        layout: of what was returned, one of `recert.certificates.hypotheses.predictor.LAYOUTS`.
    """

    size: float
    excess: float
    row: int
    step: int
    found: Array
    want: Array
    threshold: float = 0.0
    layout: str = "sequence"

    @property
    def within(self) -> bool:
        """Whether rounding is allowed as much."""
        return self.excess <= 1.0

    @property
    def classes(self) -> NDArray[np.int64]:
        """(n, T) the classes that are predicted by what was returned."""
        if self.found.shape[-1] == 1:
            return np.asarray(self.found[..., 0] > self.threshold, dtype=np.int64)
        return np.asarray(np.argmax(self.found, axis=-1))

    def behind(self) -> Array:
        """(n, T) by how much the network puts that class behind its own, in logits."""
        theirs = np.take_along_axis(self.want, self.classes[..., None], axis=-1)[..., 0]
        return np.asarray(self.want.max(axis=-1) - theirs)


@dataclass(frozen=True)
class Wanted:
    """A network's logits (n, T, K) of n sequences of T steps, (n, 1, K) if it gives one output.

    Args:
        logits: all of them.
        steps: T.
        last: whether only the last step counts.
        whole: whether an output (n, K) says nothing of the steps before.
        tolerance: what rounding is allowed, relative to 1 + max |logit|.
    """

    logits: Array
    steps: int
    last: bool
    whole: bool
    tolerance: float

    @property
    def largest(self) -> float:
        """Max |logit|."""
        return float(np.abs(self.logits).max())

    def closest(self, outputs: Iterable[Array]) -> Difference | None:
        """The smallest difference over all outputs, layouts and forms; None if no shape fits.

        The first that rounding allows will do.
        """
        best: Difference | None = None
        for output in outputs:
            for layout, found in readings(
                output, len(self.logits), self.logits.shape[2], self.steps
            ):
                for difference in self._differences(found):
                    if best is None or difference.excess < best.excess:
                        best = replace(difference, layout=layout)
                    if best.within:
                        return best
        return best

    def _differences(self, found: Array) -> Iterator[Difference]:
        """Found (n, 1, K) at the last step or (n, T, K), K = 1 for a difference of two logits."""
        if found.shape[1] != self.logits.shape[1] or self.last:
            if self.whole and found.shape[1] < self.logits.shape[1]:
                return
            if self.logits.shape[1] == 1 and found.shape[1] > 1:
                return
            found, want = found[:, -1:], self.logits[:, -1:]
        else:
            want = self.logits
        with np.errstate(over="ignore", invalid="ignore"):
            yield from self._forms(found, want)

    def _forms(self, found: Array, want: Array) -> Iterator[Difference]:
        probable = bool((found >= 0.0).all() and (found <= 1.0).all())
        if found.shape[-1] == 1:
            ahead = want[..., 1:] - want[..., :1]
            yield self._difference(found, want, found - ahead, of_logits=True)
            if probable:
                gap = found - expit(ahead)
                difference = self._difference(found, want, gap, of_logits=False)
                yield replace(difference, threshold=0.5)
            return
        yield self._difference(found, want, _centred(found) - _centred(want), of_logits=True)
        if probable:
            for form in (softmax(want, axis=-1), expit(want)):
                yield self._difference(found, want, found - form, of_logits=False)

    def _difference(self, found: Array, want: Array, gaps: Array, *, of_logits: bool) -> Difference:
        gap = np.abs(gaps).max(axis=-1)
        gap = np.where(np.isnan(gap), np.inf, gap)
        row, step = np.unravel_index(int(np.argmax(gap)), gap.shape)
        size = float(gap[row, step])
        limit = self.tolerance * (1.0 + (self.largest if of_logits else 0.0))
        excess = size / limit if np.isfinite(size) and np.isfinite(limit) else np.inf
        place = self.steps - gap.shape[1] + int(step)
        return Difference(size, excess, int(row), place, found, want)


def readings(output: Array, n: int, K: int, steps: int) -> Iterator[tuple[str, Array]]:
    """An output as (n, 1, K) or (n, T, K), in every way, with how it is laid out.

    K = 1 stands for a difference of two logits.
    """
    yield from _layouts(output, n, steps, K)
    if K == 2:
        yield from _layouts(_without_ones(output, n, steps), n, steps, 1)


def _layouts(out: Array, n: int, steps: int, K: int) -> Iterator[tuple[str, Array]]:
    """An output as (n, 1, K) or (n, T, K), in every layout that its shape allows."""
    if out.shape in ((n, K), (1, n, K), (n, 1, K)):
        yield "sequence", out.reshape(n, 1, K)
    if out.shape == (n, steps, K) and steps > 1:
        yield "n, T, K", out
    if out.shape == (steps, n, K) and steps > 1:
        yield "T, n, K", out.transpose(1, 0, 2)
    if out.shape == (n, K, steps) and (steps > 1 or K > 1):
        yield "n, K, T", out.transpose(0, 2, 1)
    if out.shape == (n * steps, K) and steps > 1:
        yield "n T, K", out.reshape(n, steps, K)
        yield "T n, K", out.reshape(steps, n, K).transpose(1, 0, 2)


def _without_ones(out: Array, n: int, steps: int) -> Array:
    """An output of one number a sequence or a step, with one axis for it."""
    rest = tuple(size for size in out.shape if size != 1)
    if out.size == n and len(rest) <= 1:
        return out.reshape(n, 1)
    if rest == tuple(size for size in (n, steps) if size != 1):
        return out.reshape(n, steps, 1)
    if rest == tuple(size for size in (steps, n) if size != 1):
        return out.reshape(steps, n, 1)
    return out.reshape(*out.shape, 1) if out.ndim == 1 else out


def _centred(logits: Array) -> Array:
    centred: Array = logits - logits.mean(axis=-1, keepdims=True)
    return centred
