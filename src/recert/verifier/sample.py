"""Labelled sequences as verify reads them: cut, checked, and known by a digest of its own.

The digest is defined in docs/certificate.md; padding, batches and number types are not in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert import arrays
from recert.errors import InputError
from recert.verifier.pairs import LARGER, UNIT

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Sequences (m, T) or (m, T, d_x), labels (m,) or (m, T), lengths (m,), the unit of each.

    ``longest`` is the longest before the cut, ``cut`` how many were cut.
    """

    x: NDArray[Any]
    labels: Index
    lengths: Index
    units: Index
    longest: int
    cut: int

    @property
    def m(self) -> int:
        """Number of units."""
        return int(self.units.max()) + 1

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(m, T), true before a sequence's end."""
        found: NDArray[np.bool_] = np.arange(self.x.shape[1])[None, :] < self.lengths[:, None]
        return found

    def rows(self, chosen: NDArray[Any]) -> Sample:
        """Some sequences, their units numbered anew."""
        units = np.unique(self.units[chosen], return_inverse=True)[1]
        return Sample(
            self.x[chosen], self.labels[chosen], self.lengths[chosen], units, self.longest,
            self.cut,
        )  # fmt: skip

    def digest(self) -> str:
        """SHA-256 of valid steps, labels and lengths."""
        tokens, each = self.x.ndim == 2, self.labels.ndim == 2
        streams = (
            self.x[self.valid].astype("<i8" if tokens else "<f8"),
            (self.labels[self.valid] if each else self.labels).astype("<i8"),
            self.lengths.astype("<i8"),
        )
        kind, width = ("tokens", 0) if tokens else ("vectors", self.x.shape[2])
        lines = [f"recert-sample-1 {kind} {width} {'step' if each else 'sequence'}"]
        lines += [hashlib.sha256(stream.tobytes()).hexdigest() for stream in streams]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def units_digest(self) -> str:
        """SHA-256 of which sequences are one unit."""
        return hashlib.sha256(self.units.astype("<i8").tobytes()).hexdigest()

    def sequences(self) -> list[bytes]:
        """Every sequence's valid steps as bytes, without its label."""
        return [row[:n].tobytes() for row, n in zip(self.x, self.lengths, strict=True)]

    def norm_bound(self) -> float:
        """An upper bound of the inputs' norms; 1 for tokens."""
        if self.x.ndim == 2:
            return 1.0
        squares = np.square(self.x[self.valid]).sum(axis=-1).max(initial=0.0)
        return float(np.sqrt(squares) * (1.0 + (self.x.shape[2] + 8) * UNIT) * LARGER)


def read(record: Mapping[str, Any], data: tuple[Any, ...], *, whole: bool = False) -> Sample:
    """Sequences, labels, lengths and groups (the last two may be missing), as a record reads them.

    Args:
        record: the certificate.
        data: what was passed.
        whole: whether sequences are read to their end, T being no more than what was seen.

    Raises:
        InputError: shapes do not fit, or a value is out of range.
    """
    sequences, labels, lengths, groups = (*data, None, None)[:4]
    x, y = _array(sequences, "sequences"), _array(labels, "labels")
    tokens, at = record["network"]["input"] == "onehot", record["at"]
    _need(x.ndim == (2 if tokens else 3), f"sequences have shape {x.shape}")
    _need(len(x) > 0 and x.shape[1] > 0, f"sequences have shape {x.shape}")
    _need(len(y) == len(x) and y.ndim in (1, 2), f"labels have shape {y.shape}")
    n = _lengths(x, tokens) if lengths is None else _whole(_array(lengths, "lengths"), "lengths")
    _need(n.shape == (len(x),), f"lengths have shape {n.shape}")
    _need(bool(((n >= 1) & (n <= x.shape[1])).all()), "a length is out of range")
    longest, width = int(n.max()), x.shape[1]
    T = at if isinstance(at, int) else width if whole else int(record["sample"]["T"])
    cut = int((n > T).sum())
    x, n = x[:, :T], np.minimum(n, T)
    valid = np.arange(x.shape[1])[None, :] < n[:, None]
    x = _tokens(x, valid, record) if tokens else _vectors(x, valid, record)
    wide = (width, x.shape[1])
    y = _labels(_whole(y, "labels"), n, wide, at, int(record["network"]["classes"]))
    return Sample(x, y, n, _units(groups, len(x)), longest, cut)


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise InputError(f"{what}; give the data that the certificate was made from")


def _array(value: Any, what: str) -> NDArray[Any]:
    found = arrays.numbers(value, what)
    _need(found.ndim > 0, f"{what} are one number")
    return found


def _whole(array: NDArray[Any], what: str) -> Index:
    return arrays.whole(array, what)


def _lengths(x: NDArray[Any], tokens: bool) -> Index:
    """Up to the first −1 among tokens; vectors are whole."""
    if not tokens or not (x < 0).any():
        return np.full(len(x), x.shape[1], dtype=np.int64)
    ended = np.concatenate([x < 0, np.ones((len(x), 1), dtype=bool)], axis=1)
    return ended.argmax(axis=1)


def _tokens(x: NDArray[Any], valid: NDArray[np.bool_], record: Mapping[str, Any]) -> Index:
    found = np.where(valid, _whole(x, "tokens"), 0)
    size = int(record["network"]["dims"]["d_x"])
    _need(bool(((found >= 0) & (found < size)).all()), "a token is out of range")
    return found


def _vectors(
    x: NDArray[Any], valid: NDArray[np.bool_], record: Mapping[str, Any]
) -> NDArray[np.float64]:
    d_x = int(record["network"]["dims"]["d_x"])
    _need(x.shape[2] == d_x, f"sequences have shape {x.shape}, the network reads {d_x} numbers")
    found = np.where(valid[:, :, None], x, 0.0).astype(np.float64)
    _need(bool(np.isfinite(found).all()), "an input is not finite")
    bound = record["sample"]["input_bound"]
    if bound["status"] == "enforced":
        # The model as declared: inputs beyond the bound are scaled into the ball.
        given = record["sample"]["declared"]["input_bound"]
        _need(given is not None, "the radius into which inputs are scaled is not recorded")
        radius = float(given)
        norms = np.sqrt(np.square(found).sum(axis=-1, keepdims=True))
        found = found * np.minimum(1.0, radius * (1.0 - 1e-12) / np.maximum(norms, 1e-300))
    return found


def _labels(y: Index, n: Index, wide: tuple[int, int], at: str | int, classes: int) -> Index:
    """Labels (m,), or (m, T) of averaged losses; ``wide`` are widths before and after the cut."""
    rows = np.arange(len(n))
    if at == "average":
        _need(y.ndim == 2 and y.shape[1] in wide, f"labels have shape {y.shape}")
        y = y[:, : wide[1]]
        used = np.arange(y.shape[1])[None, :] < n[:, None]
    else:
        _need(not isinstance(at, int) or bool((n >= at).all()), f"a sequence has no step {at}")
        y = y if y.ndim == 1 else y[rows, n - 1]
        used = np.ones(len(y), dtype=bool)
    _need(bool(((y >= 0) & (y < classes))[used].all()), "a label is out of range")
    return np.where(used, y, 0)


def _units(groups: Any, count: int) -> Index:
    """The unit of every sequence, numbered by first occurrence."""
    if groups is None:
        return np.arange(count)
    ids = arrays.ids(groups, count)
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    found: Index = rank[inverse]
    return found
