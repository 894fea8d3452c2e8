"""Certificates of predictors of which only the answers are known: held-out units are enough."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.certificates.certificate import PREDICTOR, Assumption, Bound, Certificate
from recert.certificates.hypotheses import Status
from recert.certification import ledger
from recert.certification.declared import Declared, Role
from recert.errors import InputError
from recert.networks.margins import MarginTable
from recert.networks.network import Network
from recert.numerics import rounding
from recert.numerics.union_bound import split_delta
from recert.readers import is_module
from recert.readers.outcomes import Outcomes, Units, outcomes
from recert.samples import arrays
from recert.samples.leakage import Traces, between, traces, within
from recert.samples.sample import At, Enforced, groups_digest, step_counts, unit_numbers
from recert.theorems import Theorem
from recert.theorems.held_out import HeldOutLosses, Losses
from recert.theorems.menu import graded
from recert.theorems.setting import not_applicable, paying, shared_costs
from recert.utils import validation
from recert.utils.validation import short

HELD_OUT = "held_out"
# Why statements on a network's structure say nothing of a predictor.
NO_SAMPLE = "no sample was given; it speaks of a network and the sample that it was trained on"
NO_STRUCTURE = "this predictor has no structure that is read; it was called for its answers alone"
NOT_COVERED = "the structure is not covered: "


def without_structure(
    model: Any,
    sequences: Any,
    labels: Any,
    declared: Declared,
    theorems: Sequence[Theorem],
    structure: str,
) -> Certificate | Callable[[Exception], Certificate] | None:
    """The certificate of a predictor with no structure, or with no sample beside held-out units.

    Returns:
        For a model whose structure may be read, what to do with the reader's refusal; None where
        that refusal is the answer.

    Raises:
        InputError: there is neither a sample nor held-out units.
    """
    may = structure == "optional" and declared.holdout is not None
    may = may and any(theorem.name == HELD_OUT for theorem in theorems)
    if sequences is None:
        if not may or labels is not None:
            raise InputError(
                "there are no sequences; pass a sample, or holdout=(sequences, labels) of units "
                "that the predictor has never met"
            )
        return certify_answers(
            model, None, declared.checked(), theorems, refusal=NO_SAMPLE, looked=False
        )
    if not may or labels is None or isinstance(model, tuple):
        return None
    sample = (sequences, labels, declared.lengths, declared.groups)
    if not (is_module(model) or isinstance(model, (Network, str, Path))):
        return certify_answers(
            model, sample, declared.checked(), theorems, refusal=NO_STRUCTURE, looked=False
        )

    def after(refusal: Exception) -> Certificate:
        line = " ".join(str(refusal).split())[:600]
        said = "".join(c for c in line if c.isprintable() and c not in "\u201c\u201d")
        return certify_answers(
            model, sample, declared.checked(), theorems, refusal=NOT_COVERED + said, looked=True
        )

    return after


@dataclass(frozen=True)
class _Only:
    """All that the statement on held-out units asks of a setting."""

    holdout: MarginTable


@rounding.usual
def certify_answers(
    model: Any,
    sample: Any,
    declared: Declared,
    theorems: Sequence[Theorem],
    *,
    refusal: str,
    looked: bool,
) -> Certificate:
    """The held-out limit of whatever answers; the other statements say what is not covered.

    Args:
        model: as in ``recert.certify``.
        sample: sequences that the predictor was trained on, to compare with, or None.
        declared: what the user says, checked.
        theorems: the menu, with the statement on held-out units.
        refusal: why the others say nothing.
        looked: whether this followed after a look at data, so that the limit has the share of δ
            that it would have beside every other statement of the menu.
    """
    units, groups = read_units(declared.holdout, declared.at)
    _refuse(declared, units)
    found = outcomes(
        model,
        units,
        output=declared.output,
        steps_first=declared.steps_first,
        threshold=declared.threshold,
    )
    table = errors_of(found, groups, units)
    rows = (
        Assumption(PREDICTOR, "declared", found.facts),
        _holdout_row(declared.holdout_role, units, groups, sample, declared.holdout_why),
        *_rest(declared.encoding),
        *ledger.together_rows(declared.together, declared.delta),
    )
    costs = shared_costs(declared.tried, declared.encoding)
    shares = split_delta(declared.delta, [t.name for t in theorems]) if looked else {}
    bounds = []
    for theorem in theorems:
        if theorem.name != HELD_OUT:
            bounds.append(not_applicable(theorem, refusal))
            continue
        share = shares.get(HELD_OUT, declared.delta)
        bounds.append(paying(theorem, _Only(table), share, costs))
    described = _described(
        table.m, table.unit, table.error, table.zero_one, declared.recorded(),
        units_digest(units), groups_digest(groups, len(units.x)),
    )  # fmt: skip
    return _certificate(
        found.facts["digest"], described, declared.at, declared.delta, rows, graded(bounds, rows)
    )


@rounding.usual
def certify_losses(
    losses: Any,
    *,
    range: tuple[float, float] = (0.0, 1.0),
    delta: float = 0.01,
    holdout_role: Role = "certificate",
    why: str = "",
) -> Certificate:
    """A limit on the mean loss of one predictor, from its losses on units that it never met.

    Args:
        losses: (n,) a loss for each independent unit, from any program; what is no number (NaN)
            counts as the largest.
        range: (a, b), in which every loss lies that a unit can have; declared, never read off.
        delta: failure probability.
        holdout_role: as in ``recert.certify``.
        why: in what sense the units are independent draws, for the ledger.

    Returns:
        A certificate; its bound is that of the loss rescaled to [0, 1], and
        ``cert["held_out_losses"].terms["loss"]`` that of the loss itself.

    Raises:
        InputError: losses lie outside the range, or are none.

    Source: theory, section 5e.
    """
    validation.word("holdout_role", holdout_role, ("certificate", "checking"))
    delta = validation.probability("delta", delta)
    found = _scaled(losses, range)
    data = np.ascontiguousarray(found.scaled.astype("<f8")).tobytes()
    digest = hashlib.sha256(data).hexdigest()
    facts = {"low": found.low, "high": found.high, "missing": found.missing, "digest": digest}
    status: Status = "estimated" if holdout_role == "checking" else "declared"
    held = {"role": holdout_role, "why": validation.line("why", why), "beside": None,
            "shared": None, "held_out": found.n, "fault": None, "own_fault": None}  # fmt: skip
    rows = (
        Assumption(PREDICTOR, "declared", facts), Assumption("holdout", status, held),
        ledger.settings_row(),
    )  # fmt: skip
    bound = HeldOutLosses().bound(found, delta)
    recorded = Declared().recorded()
    described = _described(found.n, "sequence", found.mean, False, recorded, digest, None)
    return _certificate(digest, described, "last", delta, rows, graded([bound], rows))


def _scaled(losses: Any, given: Any) -> Losses:
    ends = validation.listed("range", given, "give (a, b), the least and the largest loss")
    if len(ends) != 2:
        raise InputError(f"range is {short(given)}; give (a, b), the least and the largest loss")
    remedy = "give the least and the largest loss that a unit can have, declared"
    low, high = (validation.number("range", end, remedy) + 0.0 for end in ends)
    if not (low < high and high - low < np.inf):
        raise InputError(f"range is {short(given)}; {remedy}, less than 1.8e308 apart")
    values = arrays.numbers(losses, "losses").astype(np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"losses have shape {values.shape}; give one for each unit, (n,)")
    missing = np.isnan(values)
    beyond = values[(values < low) | (values > high)]
    if len(beyond):
        raise InputError(f"a loss is {beyond[0]:g}, outside the declared range {low:g} to {high:g}")
    scaled = np.where(missing, 1.0, (values - low) / (high - low))
    return Losses(np.clip(scaled, 0.0, 1.0), low, high, int(missing.sum()))


def read_units(holdout: Any, at: At) -> tuple[Units, Any]:
    """Held-out units as they are given, and their groups; InputError for unusable ones."""
    if not isinstance(holdout, (tuple, list)) or not 2 <= len(holdout) <= 4:
        raise InputError("holdout must be (sequences, labels[, lengths[, groups]])")
    x, y, lengths, groups = (*holdout, None, None)[:4]
    x, y = _array(x, "held-out sequences"), _array(y, "held-out labels")
    if not x.ndim or not len(x):
        raise InputError(f"held-out sequences have shape {x.shape}; give at least one unit")
    if y.dtype.kind != "U":
        y = arrays.whole(y, "labels")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    shapes = {(len(x),)} if at != "average" else set()
    if y.shape not in shapes | {x.shape[:2] if x.ndim > 1 else (len(x),)}:
        raise InputError(
            f"held-out labels have shape {y.shape} for sequences of shape {x.shape}; with "
            f"at={at!r} give one for each {'step' if at == 'average' else 'sequence'}"
        )
    if at == "average" and x.ndim < 2:
        raise InputError("losses averaged over steps need sequences (n, T) or (n, T, d_x)")
    counts = None if lengths is None else step_counts(_valid_steps(lengths, x), len(x))
    if counts is not None and not (x.ndim > 1 and (counts >= 1).all() and
                                   (counts <= x.shape[1]).all()):  # fmt: skip
        raise InputError("lengths must lie in 1..T, one for each held-out sequence")
    return Units(x, y, counts, at), groups


def _valid_steps(lengths: Any, x: NDArray[Any]) -> NDArray[Any]:
    """Lengths, or those that a mask (n, T) of steps on the left says."""
    found = arrays.numbers(lengths, "lengths")
    if found.ndim != 2 or found.shape != x.shape[:2]:
        return found
    counts = found.astype(bool).sum(axis=1)
    if not (found.astype(bool) == (np.arange(x.shape[1]) < counts[:, None])).all():
        raise InputError("the mask is true elsewhere than at the first steps; pad on the right")
    return np.asarray(counts)


def _array(value: Any, what: str) -> NDArray[Any]:
    """Numbers, or texts."""
    texts = isinstance(value, (list, tuple)) and all(isinstance(x, str) for x in value)
    if texts or getattr(getattr(value, "dtype", None), "kind", "") in ("U", "O", "S"):
        found = np.asarray(value)
        if all(isinstance(x, str) for x in found.ravel()):
            return found.astype(np.str_)
    return arrays.numbers(value, what)


def errors_of(found: Outcomes, groups: Any, units: Units) -> MarginTable:
    """The table of what is wrong, unit by unit: margins −1 and 1."""
    n = len(units.x)
    own, counts = unit_numbers(groups, n), np.bincount(found.rows, minlength=n)
    m, margins = int(own.max()) + 1, np.where(found.wrong, -1.0, 1.0)
    sizes = np.bincount(own, minlength=m)
    unit = "sequence" if groups is None else "group of sequences"
    if units.at != "average" and bool((sizes == 1).all()):
        return MarginTable(margins, m, unit)
    weights = 1.0 / (m * sizes[own[found.rows]] * counts[found.rows])
    return MarginTable(margins, m, unit, weights / weights.sum())


def _holdout_row(role: Role, units: Units, groups: Any, sample: Any, why: str) -> Assumption:
    """Whether held-out units recur, among themselves or in what the predictor was trained on."""
    held = _traces(units.x, units.labels, units.lengths)
    own = None if groups is None else unit_numbers(groups, len(units.x))
    of_held = within(held, own)
    beside, shared, fault = None, None, None
    if sample is not None:
        x, y, lengths, of = sample
        x, y = _array(x, "sequences"), _array(y, "labels")
        lengths = None if lengths is None else _valid_steps(lengths, x)
        others = _traces(x, y, lengths, like=units.x)
        if others is not None:
            of = None if of is None else unit_numbers(of, len(others))
            overlap = between(others, held, of, own, None, of_held)
            beside, shared = len(others), overlap.shared
            fault = overlap.kind if overlap.suspicious else None
    facts = {
        "role": role, "why": validation.line("holdout_why", why), "beside": beside,
        "shared": shared, "held_out": len(units.x), "fault": fault or None,
        "own_fault": of_held.kind if of_held.suspicious else None,
    }  # fmt: skip
    status: Status = "estimated" if role == "checking" else "declared"
    return Assumption("holdout", "violated" if fault or facts["own_fault"] else status, facts)


def _traces(
    x: NDArray[Any], y: NDArray[Any], lengths: Any, like: NDArray[Any] | None = None
) -> Any:
    """Traces of units of any shape; None where they are of another kind than others."""
    if like is not None and (x.dtype.kind == "f", x.ndim) != (like.dtype.kind == "f", like.ndim):
        return None
    if y.dtype.kind == "U":
        y = _codes(y)
    if x.dtype.kind == "U":
        x = _codes(x)
    if x.dtype.kind != "f":
        tokens = x.astype(np.int64).reshape(len(x), -1)
        return _told(tokens, y, lengths if x.ndim == 2 else None)
    rows = x.reshape(len(x), 1 if x.ndim < 2 else x.shape[1], -1)
    return _told(np.nan_to_num(rows.astype(np.float64)), y, lengths)


def _told(x: NDArray[Any], y: NDArray[Any], lengths: Any) -> Traces:
    full = np.full(len(x), x.shape[1], dtype=np.int64)
    counts = full if lengths is None else np.asarray(lengths, dtype=np.int64)
    padding = np.arange(x.shape[1])[None, :] >= counts[:, None]
    x = np.where(padding if x.ndim == 2 else padding[..., None], 0, x)
    return traces(x, y.astype(np.int64), counts)


def _codes(texts: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each text, the same for equal ones."""

    def code(text: str) -> int:
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")

    found = [code(str(text)) for text in texts.ravel()]
    return np.array(found, dtype=np.int64).reshape(texts.shape)


def _refuse(declared: Declared, units: Units) -> None:
    """InputError for declarations that a black box cannot be held to."""
    if isinstance(declared.input_bound, Enforced):
        raise InputError(
            "inputs of a predictor whose structure is not read are not scaled; scale them in the "
            "predictor, or give input_bound as a number"
        )
    if declared.padding in ("cut", "left"):
        raise InputError(
            f"padding={declared.padding!r} is for models whose structure is read; this one is "
            "called with batches as given: leave it out, or cut padding off in the predictor"
        )
    longest = units.width if units.lengths is None else int(units.lengths.max())
    if declared.max_length is not None and longest > declared.max_length:
        raise InputError(
            f"a held-out sequence has {longest} steps, beyond max_length = {declared.max_length}; "
            "inputs of a predictor whose structure is not read are not cut: cut them beforehand"
        )
    if declared.population is not None:
        raise InputError(
            "population is for networks whose structure is read; leave it out, and the statement "
            "is on new draws"
        )


def _rest(encoding: str | int) -> tuple[Assumption, ...]:
    return (
        Assumption("step", "declared"), ledger.encoding_row(encoding), ledger.settings_row(),
    )  # fmt: skip


def units_digest(units: Units) -> str:
    """SHA-256 of type and shape, and of every number as it stands: sequences, labels, lengths."""
    sha = hashlib.sha256(b"recert-units-1")
    lengths = np.zeros(0, dtype=np.int64) if units.lengths is None else units.lengths
    for array in (units.x, units.labels, lengths):
        if array.dtype.kind == "U":
            data = "\0".join(map(str, array.ravel())).encode()
        else:
            data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
        sha.update(f"\n{array.dtype.kind}{array.dtype.itemsize if array.dtype.kind != 'U' else ''}"
                   f"{array.shape}{len(data)}\n".encode())  # fmt: skip
        sha.update(data)
    return sha.hexdigest()


def _described(
    m: int, unit: str, error: float, zero_one: bool, declared: Any, digest: str, groups: str | None
) -> dict[str, Any]:
    return {
        "m": m, "unit": unit, "reading": "new draws", "population": None, "padding": None,
        "digest": digest, "groups": groups, "zero_one": zero_one, "declared": dict(declared),
        "holdout": {"m": m, "error": error, "zero_one": zero_one},
    }  # fmt: skip


def _certificate(
    digest: str, sample: Any, at: At, delta: float, rows: Any, bounds: Sequence[Bound]
) -> Certificate:
    return Certificate(
        network={"black_box": True, "digest": digest},
        sample=sample,
        at=at,
        delta=delta,
        assumptions=tuple(rows),
        bounds=tuple(bounds),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
