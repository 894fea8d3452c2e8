"""From a black box's answers to its errors, having checked that it is a function of the unit.

The answer to a unit is the class of its largest score, the class that was given, or on which side
of a declared threshold its one score lies. Ties, and what is no number, are errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.certificates.predictor import Output, plain
from recert.errors import InputError, ParityError, UnsupportedModelError
from recert.readers.black_box import Caller, callers
from recert.samples.sample import At
from recert.utils.validation import Brief

BATCH, OTHER_BATCH, PROBE = 256, 97, 7
# Largest difference between answers to the same unit, relative to 1 + its largest score.
TOLERANCE = 1e-3
SEED = 20_180_208
LAYOUTS = ("sequence", "n, T, K", "T, n, K", "n, K, T", "n T, K", "T n, K")


@dataclass(frozen=True, eq=False)
class Units(Brief):
    """Units as they are given: x (n, …), labels (n,) or (n, T), lengths (n,) or None."""

    x: NDArray[Any]
    labels: NDArray[Any]
    lengths: NDArray[np.int64] | None
    at: At

    @property
    def width(self) -> int:
        """T, steps to which sequences are padded."""
        return int(self.x.shape[1]) if self.x.ndim > 1 else 1

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """(n, T), the steps whose loss counts."""
        steps = np.arange(self.width)
        if self.at == "average":
            found = np.broadcast_to(steps, self.labels.shape)
            inside = self.labels != -1 if self.lengths is None else found < self.lengths[:, None]
            return np.asarray(inside)
        if isinstance(self.at, int):
            return np.tile(steps == self.at - 1, (len(self.x), 1))
        last = np.full(len(self.x), self.width) if self.lengths is None else self.lengths
        return np.asarray(steps[None, :] == last[:, None] - 1)


@dataclass(frozen=True, eq=False)
class Outcomes(Brief):
    """Which answers were wrong: (e,) for each step that counts, with the sequence of each.

    ``facts`` say how the predictor was called and read; ``digest`` is that of its answers.
    """

    wrong: NDArray[np.bool_]
    rows: NDArray[np.int64]
    facts: dict[str, Any]


def outcomes(
    model: Any,
    units: Units,
    *,
    output: Output = None,
    steps_first: bool | None = None,
    threshold: float | None = None,
) -> Outcomes:
    """Run a predictor on units twice, in other batches and another order, and count its errors.

    Raises:
        ParityError: it is no function of the unit: it draws, keeps a state, or looks at the batch.
        InputError, UnsupportedModelError: it cannot be called, or its answers not be read.
    """
    given = units.lengths is not None
    with callers(
        model, output=output, steps_first=steps_first, with_lengths=given, at=units.at
    ) as ways:
        way, layout = _chosen(ways, units)
        n = len(units.x)
        first = _all(way, layout, units, np.arange(n), way.batch or BATCH)
        order = np.random.default_rng(SEED).permutation(n)
        second = _all(way, layout, units, order, min(way.batch or n, OTHER_BATCH))
    classes, unsure = _agreed(way, first, second, threshold)
    return _compared(units, way, layout, classes, unsure, threshold, output, first)


def _chosen(ways: list[Caller], units: Units) -> tuple[Caller, str]:
    """The first way and layout by which a unit has its answer alone and beside others.

    Raises:
        InputError: batches with steps first are answered as well, and otherwise.
    """
    failures: list[Exception] = []
    found: list[tuple[Caller, str, NDArray[Any]]] = []
    for way in ways:
        if way.steps_first and units.x.ndim < 2:
            continue
        if any(way.steps_first == kept[0].steps_first for kept in found):
            continue
        try:
            probed = _probed(way, units)
        except (InputError, UnsupportedModelError, ParityError) as error:
            failures.append(error)
            continue
        except Exception as error:  # a stranger's predictor may raise anything
            lines = str(error).splitlines() or [""]
            failures.append(ParityError(
                f"the predictor does not run on inputs of shape {units.x.shape} "
                f"({type(error).__name__}: {lines[0][:160]}); pass units of the kind that it "
                "reads, or a function that calls it"
            ))  # fmt: skip
            continue
        found.append((way, *probed))
    if not found:
        raise failures[0]
    if len(found) > 1 and not _close(found[0][2], found[1][2]).all():
        raise InputError(
            "the predictor answers to batches with steps first as well, and otherwise; say "
            "which one is meant with steps_first="
        )
    return found[0][:2]


def _probed(way: Caller, units: Units) -> tuple[str, NDArray[Any]]:
    few = np.arange(min(PROBE, len(units.x), way.batch or PROBE))
    together = way(units.x[few], _some(units.lengths, few))
    again = way(units.x[few], _some(units.lengths, few))
    if together.shape != again.shape or not _close(together, again).all():
        raise ParityError(
            "the predictor gives other answers when it is run again: it draws random numbers or "
            "keeps a state between calls; call model.eval(), leave out dropout and sampling, or "
            "wrap it in a function that computes the same every time"
        )
    singles = [way(units.x[i : i + 1], _some(units.lengths, few[i : i + 1])) for i in few]
    for layout in LAYOUTS:
        whole = _read(together, layout, units, few)
        alone = [_read(s, layout, units, few[i : i + 1]) for i, s in enumerate(singles)]
        if whole is None or any(a is None or a.shape[1:] != whole.shape[1:] for a in alone):
            continue
        if _close(whole, np.concatenate([a for a in alone if a is not None])).all():
            return layout, whole
    if any(_read(together, layout, units, few) is not None for layout in LAYOUTS):
        raise ParityError(
            "the predictor gives a unit another answer alone than beside others, so it is no "
            "function of the unit; let it look at each by itself (batch statistics, padding)"
        )
    raise UnsupportedModelError(
        f"the predictor answers {len(few)} units with an array of shape {together.shape}; return "
        "classes, or one score a class, for each unit (or for each step)"
    )


def _some(lengths: NDArray[np.int64] | None, rows: Any) -> NDArray[np.int64] | None:
    return None if lengths is None else lengths[rows]


def _read(
    answers: NDArray[Any], layout: str, units: Units, rows: NDArray[np.int64]
) -> NDArray[Any] | None:
    """Answers (n,), (n, K) or, of steps, (n, T, K) or (n, T); None if not laid out so."""
    n, T = len(rows), units.width
    steps = units.labels.ndim == 2 or units.at != "last"
    scores = answers.dtype.kind == "f"
    if layout == "sequence":
        fits = answers.ndim in (1, 2) and len(answers) == n and units.labels.ndim == 1
        fits = fits and units.at == "last"
        if units.labels.ndim == 2 and units.at == "last" and scores:
            fits = answers.ndim == 2 and len(answers) == n
        return answers if fits and (scores or answers.ndim == 1 or answers.shape[1] == 1) else None
    least = T if units.lengths is None else int(units.lengths[rows].max())
    if layout in ("n T, K", "T n, K"):
        if answers.ndim != 2 or len(answers) % n or len(answers) == n:
            return None
        shape = (n, -1) if layout == "n T, K" else (-1, n)
        answers = answers.reshape(*shape, answers.shape[1])
    elif answers.ndim == 2 and not scores and layout == "n, T, K" and steps:
        fits = len(answers) == n and least <= answers.shape[1] <= T
        return _counting(answers, units, rows) if fits else None
    if answers.ndim != 3:
        return None
    if layout == "n, K, T":
        answers = answers.swapaxes(1, 2)
    elif layout in ("T, n, K", "T n, K"):
        answers = answers.swapaxes(0, 1)
    fits = len(answers) == n and least <= answers.shape[1] <= T
    return _counting(answers, units, rows) if fits else None


def _counting(answers: NDArray[Any], units: Units, rows: NDArray[np.int64]) -> NDArray[Any]:
    """With as many steps as sequences are padded to, and zeros at those that do not count."""
    edges = [(0, 0), (0, units.width - answers.shape[1]), *[(0, 0)] * (answers.ndim - 2)]
    counts = units.valid[rows]
    found = np.pad(answers, edges)
    found[~counts] = np.zeros((), dtype=found.dtype)
    return found


def _all(
    way: Caller, layout: str, units: Units, order: NDArray[np.int64], size: int
) -> NDArray[Any]:
    """Answers to all units, run in that order and in batches of that size."""
    parts: list[NDArray[Any]] = []
    for rows in _batches(order, size):
        found = _read(way(units.x[rows], _some(units.lengths, rows)), layout, units, rows)
        if found is None or (parts and found.shape[1:] != parts[0].shape[1:]):
            raise UnsupportedModelError(
                "the predictor's answers have another shape in other batches; return classes, or "
                "one score a class, for each unit (or for each step)"
            )
        parts.append(found)
    together = np.concatenate(parts)
    back = np.empty_like(together)
    back[order] = together
    return back


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (order[i : i + size] for i in range(0, len(order), size))


def _close(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Which answers are the same, roundings of scores apart."""
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return np.asarray(a == b)
    with np.errstate(all="ignore"):
        size = np.nan_to_num(np.maximum(np.abs(a), np.abs(b)), nan=0.0, posinf=0.0, neginf=0.0)
        size = size.max(axis=-1, keepdims=True) if a.ndim > 1 else size
        near = np.abs(a - b) <= TOLERANCE * (1.0 + size)
    return np.asarray((a == b) | near | (np.isnan(a) & np.isnan(b)))


def _agreed(
    way: Caller, first: NDArray[Any], second: NDArray[Any], threshold: float | None
) -> tuple[NDArray[Any], int]:
    """The class of every answer, −1, NaN or "" for none; and how many hang on roundings."""
    if not _close(first, second).all():
        raise ParityError(
            "the predictor gives some units other answers in other batches, or in another order; "
            "let it look at each unit by itself, and draw nothing"
        )
    classes, others = (_classes(way, a, threshold) for a in (first, second))
    differ = classes != others
    none: Any = {"U": "", "f": np.nan}.get(classes.dtype.kind, -1)
    return np.where(differ, none, classes), int(differ.sum())


def _classes(way: Caller, answers: NDArray[Any], threshold: float | None) -> NDArray[Any]:
    if answers.ndim > 1 and answers.shape[-1] == 1:
        answers = answers[..., 0]
        one = True
    else:
        one = answers.ndim == 1
    if answers.dtype.kind != "f":
        return answers.astype(np.int64) if answers.dtype.kind in "biu" else answers
    if one and way.classes:
        return answers
    if not one:
        top = answers.max(axis=-1)
        single = (answers == top[..., None]).sum(axis=-1) == 1
        return np.where(single & ~np.isnan(answers).any(axis=-1), answers.argmax(axis=-1), -1)
    if threshold is None:
        raise InputError(
            "the predictor answers with one number a unit; declare threshold= (0 for logits, 0.5 "
            "for probabilities), above which it says class 1, or return classes as whole numbers"
        )
    said = np.where(answers > threshold, 1, 0)
    return np.where((answers == threshold) | np.isnan(answers), -1, said)


def _compared(
    units: Units,
    way: Caller,
    layout: str,
    classes: NDArray[Any],
    unsure: int,
    threshold: float | None,
    output: Output,
    answers: NDArray[Any],
) -> Outcomes:
    scores = answers.dtype.kind == "f" and not (way.classes and answers.ndim == 1)
    one = answers.ndim == 1 or answers.shape[-1] == 1
    K = (2 if one else answers.shape[-1]) if scores else None
    stepwise = classes.ndim == 2 or units.labels.ndim == 2
    valid = units.valid if stepwise else np.ones((len(classes), 1), dtype=bool)
    rows = np.nonzero(valid)[0]
    if len(np.unique(rows)) != len(units.x):
        raise InputError("some units have no step whose loss counts; check at, labels and lengths")
    labels = units.labels[valid] if units.labels.ndim == 2 else units.labels[rows]
    said = classes[valid] if classes.ndim == 2 else classes[rows]
    _check_labels(labels, said, K)
    wrong = said != labels
    reading = "threshold" if scores and one else "scores" if scores else "classes"
    data = "\n".join(map(str, classes.ravel().tolist())).encode()
    facts = {
        "kind": way.kind, "name": plain(way.name), "layout": layout, "reading": reading,
        "output": output if output is None else plain(output),
        "lengths": way.lengths, "states": way.states, "steps_first": way.steps_first,
        "threshold": float(threshold) if reading == "threshold" and threshold is not None else None,
        "compared": len(units.x), "unsure": unsure, "digest": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    return Outcomes(np.asarray(wrong), rows.astype(np.int64), facts)


def _check_labels(labels: NDArray[Any], said: NDArray[Any], K: int | None) -> None:
    """InputError for labels that no answer can equal."""
    if (labels.dtype.kind == "U") != (said.dtype.kind == "U"):
        raise InputError("labels and answers are of different kinds; pass the classes as answered")
    if labels.dtype.kind == "U":
        return
    if K is not None and labels.size and not (labels.min() >= 0 and labels.max() < K):
        raise InputError(f"labels must be classes 0..{K - 1}, as many as the predictor has scores")
