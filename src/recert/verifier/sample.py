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

from recert.errors import InputError
from recert.samples import arrays
from recert.verifier.pairs import LARGER, UNIT

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GivenSample:
    """Sequences (m, T) or (m, T, d_x), labels (m,) or (m, T), lengths (m,), the unit of each.

    ``longest`` is the longest before the cut, ``cut`` how many were cut, ``padded`` whether some
    were padded and no longer are.
    """

    x: NDArray[Any]
    labels: Index
    lengths: Index
    units: Index
    longest: int
    cut: int
    padded: bool = False

    @property
    def m(self) -> int:
        """Number of units."""
        return int(self.units.max()) + 1

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(m, T), true before a sequence's end."""
        found: NDArray[np.bool_] = np.arange(self.x.shape[1])[None, :] < self.lengths[:, None]
        return found

    def rows(self, chosen: NDArray[Any]) -> GivenSample:
        """Some sequences, their units numbered anew."""
        units = np.unique(self.units[chosen], return_inverse=True)[1]
        return GivenSample(
            self.x[chosen], self.labels[chosen], self.lengths[chosen], units, self.longest,
            self.cut,
            self.padded,
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


def read(record: Mapping[str, Any], data: tuple[Any, ...], *, whole: bool = False) -> GivenSample:
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
    x, y, n, padded = _unpadded(x, y, lengths, tokens, record["sample"]["padding"], at)
    _need(bool(((n >= 1) & (n <= x.shape[1])).all()), "a length is out of range")
    longest, width = int(n.max()), x.shape[1]
    T = at if isinstance(at, int) else width if whole else int(record["sample"]["T"])
    cut = int((n > T).sum())
    x, n = x[:, :T], np.minimum(n, T)
    valid = np.arange(x.shape[1])[None, :] < n[:, None]
    x = _tokens(x, valid, record) if tokens else _vectors(x, valid, record)
    wide = (width, x.shape[1])
    y = _labels(_whole(y, "labels"), n, wide, at, int(record["network"]["classes"]))
    return GivenSample(x, y, n, _units(groups, len(x)), longest, cut, padded)


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise InputError(f"{what}; give the data that the certificate was made from")


def _array(value: Any, what: str) -> NDArray[Any]:
    found = arrays.numbers(value, what)
    _need(found.ndim > 0, f"{what} are one number")
    return found


def _whole(array: NDArray[Any], what: str) -> Index:
    return arrays.whole(array, what)


def _unpadded(
    x: NDArray[Any], y: NDArray[Any], lengths: Any, tokens: bool, padding: str | None, at: str | int
) -> tuple[NDArray[Any], NDArray[Any], Index, bool]:
    """Sequences with their valid steps first, labels likewise, lengths, and whether they were
    padded; as they are where padding is read as inputs.
    """
    width = x.shape[1]
    valid = _valid(x, lengths, tokens, padding)
    n = valid.sum(axis=1)
    rows = np.arange(len(x))
    start = valid.argmax(axis=1)
    if padding == "as given":
        _need(not tokens or not (x < 0).any(), "a token that is read is negative")
        if at == "last" and y.ndim == 2 and y.shape[1] == width:
            y = y[rows, np.maximum(start + n - 1, 0)]
        return x, y, np.full(len(x), width, dtype=np.int64), False
    order = (np.arange(width)[None, :] + start[:, None]) % width
    if start.any():
        x = x[rows[:, None], order]
        y = y[rows[:, None], order] if y.ndim == 2 and y.shape[1] == width else y
    return x, y, n.astype(np.int64), bool((n < width).any())


def _valid(x: NDArray[Any], lengths: Any, tokens: bool, padding: str | None) -> NDArray[np.bool_]:
    """(m, T), true at valid steps, which stand together: by lengths, a mask, or −1 tokens."""
    steps, width = np.arange(x.shape[1])[None, :], x.shape[1]
    if lengths is None:
        found = x >= 0 if tokens else np.ones(x.shape[:2], dtype=bool)
    else:
        given = _array(lengths, "lengths")
        if given.ndim == 2:
            _need(given.shape == x.shape[:2], f"the mask has shape {given.shape}")
            _need(bool(np.isin(given, (0, 1)).all()), "the mask is not of zeros and ones")
            found = given.astype(bool)
        else:
            n = _whole(given, "lengths")
            _need(n.shape == (len(x),), f"lengths have shape {n.shape}")
            _need(bool(((n >= 1) & (n <= width)).all()), "a length is out of range")
            left = padding == "left"
            found = steps >= (width - n)[:, None] if left else steps < n[:, None]
    n, start = found.sum(axis=1), found.argmax(axis=1)
    together = (steps >= start[:, None]) & (steps < (start + n)[:, None])
    _need(bool((found == together).all()), "valid steps do not stand together")
    _need(padding == "left" or not start.any() or padding == "as given", "steps begin with padding")
    return found


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
