"""Sequences, labels, lengths and groups from a user, checked and cut into batches.

A ``Sample`` never copies what it is given; it hands out validated batches. Inputs are real
(m, T, d_x) or integer tokens (m, T) with −1 as padding on the right; longer sequences are cut to
the declared horizon, as part of the model.

What a sample is known by: a SHA-256 that anybody can compute again from the data alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recert.errors import InputError
from recert.samples import arrays
from recert.samples.leakage import Traces, joined, traces
from recert.samples.vectors import largest_norm, scale_into_ball
from recert.utils.validation import Brief

At = Literal["last", "average"] | int
BATCH = 8192
# Labels of so few sequences may look one-hot by chance.
FEW = 32


@dataclass(frozen=True)
class Enforced:
    """An input bound that the model itself enforces: inputs are scaled into the ball."""

    value: float


@dataclass(frozen=True, eq=False, repr=False)
class Batch(Brief):
    """Sequences (n, T', d_x) or (n, T'), labels (n,) or (n, T'), lengths (n,), all validated."""

    x: NDArray[Any]
    labels: NDArray[np.int64]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Raw(Brief):
    """A batch as it came: sequences, labels, lengths or None, and the number of its first."""

    x: NDArray[Any]
    y: NDArray[Any]
    lengths: Any
    start: int


@dataclass(frozen=True, eq=False, repr=False)
class Checked(Brief):
    """A validated batch and what it says of the sample."""

    batch: Batch
    longest: int
    truncated: int
    largest_norm: float
    traces: Traces | None


@dataclass(frozen=True, eq=False)
class Reading:
    """How a sample is read: by which network's input, at which step, up to which length."""

    input_kind: str
    d_x: int
    K: int
    at: At = "last"
    max_length: int | None = None
    enforce: float | None = None


class Sample:
    """A checked view of sequences and labels.

    Args:
        sequences: (m, T, d_x) real or (m, T) integer arrays (numpy or torch), or an iterable of
            batches ``(sequences, labels)`` or ``(sequences, labels, lengths)`` read once.
        labels: (m,) integers, or (m, T) with −1 on padding; None for an iterable of batches.
        lengths: (m,) numbers of valid steps, or None for all (or up to the first −1 token).
        what: the sample's name in messages.
        track: identify what is read: a digest, and traces of every sequence.

    Raises:
        InputError: a shape, a value or a length is not usable; the message names it.
    """

    def __init__(
        self,
        sequences: Any,
        labels: Any,
        reading: Reading,
        *,
        lengths: Any = None,
        what: str = "sequences",
        track: bool = False,
    ) -> None:
        self.reading = reading
        self.what = what
        self.longest = 0
        self.largest_norm = 0.0
        self.truncated = 0
        self._traces: list[Traces] = []
        self._track = track
        self._digest = SampleDigest()
        self._source = self._open(sequences, labels, lengths)

    def _open(self, sequences: Any, labels: Any, lengths: Any) -> Iterable[tuple[Any, Any, Any]]:
        if labels is None:
            if hasattr(sequences, "shape") or isinstance(sequences, (str, bytes)):
                raise InputError("labels are missing; pass one class per sequence (or per step)")
            if lengths is not None:
                raise InputError("lengths come with their batch: (sequences, labels, lengths)")
            return map(batch_of, sequences)
        x, y = arrays.numbers(sequences, self.what), arrays.numbers(labels, "labels")
        n = None if lengths is None else arrays.numbers(lengths, "lengths")
        if x.ndim < 2:
            raise InputError(
                f"{self.what} have shape {x.shape}; expected (m, T) tokens or (m, T, d_x) vectors"
            )
        if len(x) == 0:
            raise InputError(f"the sample is empty: {self.what} have shape {x.shape}")
        for other, name in ((y, "labels"), (n, "lengths")):
            if other is not None and (other.ndim == 0 or len(other) != len(x)):
                raise InputError(
                    f"{name} have shape {other.shape} for {len(x)} {self.what}; give one each"
                )
        return (
            (x[i : i + BATCH], y[i : i + BATCH], None if n is None else n[i : i + BATCH])
            for i in range(0, len(x), BATCH)
        )

    def __iter__(self) -> Iterator[Batch]:
        """Checked batches in order; running facts (digest, longest, largest norm) grow with it."""
        for raw in self.raw():
            checked = self.check(raw)
            self.absorb(checked)
            yield checked.batch

    def raw(self) -> Iterator[Raw]:
        """Batches in order, unchecked; for those who check them elsewhere (on other cores)."""
        start = 0
        for x, y, n in self._source:
            raw = Raw(arrays.numbers(x, self.what), arrays.numbers(y, "labels"), n, start)
            if raw.x.ndim < 2 or raw.y.ndim == 0 or len(raw.x) != len(raw.y):
                raise InputError(
                    f"{self.what} have shape {raw.x.shape} and labels {raw.y.shape}; expected "
                    "(m, T) tokens or (m, T, d_x) vectors, and one label (or row of them) each"
                )
            if len(raw.x) == 0:
                continue
            start += len(raw.x)
            yield raw
        if start == 0:
            raise InputError("the sample is empty: no batch held a sequence")

    def absorb(self, checked: Checked) -> None:
        """Take note of what a checked batch says of the sample; in order."""
        self.longest = max(self.longest, checked.longest)
        self.largest_norm = max(self.largest_norm, checked.largest_norm)
        self.truncated += checked.truncated
        if checked.traces is None:
            return
        self._traces.append(checked.traces)
        batch = checked.batch
        self._digest.update(batch.x, batch.labels, batch.lengths)

    @property
    def traces(self) -> Traces:
        """Traces of the sequences read so far, by which units that recur are found."""
        if len(self._traces) > 1:
            self._traces = [joined(self._traces)]
        return self._traces[0]

    @property
    def digest(self) -> str:
        """SHA-256 of every sequence, label and length read so far (with ``track``)."""
        return self._digest.hexdigest()

    def check(self, raw: Raw) -> Checked:
        """Validate a batch and cut it to the horizon; changes nothing here."""
        x, start = raw.x, raw.start
        rank, d_x = 2 if self.reading.input_kind == "onehot" else 3, self.reading.d_x
        if rank == 2:
            arrays.refuse_fractions(x, self.what)
        if x.ndim != rank or (rank == 3 and x.shape[2] != self.reading.d_x):
            raise InputError(
                f"{self.what} have shape {x.shape}; this network reads {wanted(rank, d_x, x.ndim)}"
            )
        if x.shape[1] == 0:
            raise InputError(f"{self.what} have T = 0 steps; sequences need at least one step")
        lengths, width = self._lengths(x, raw.lengths, start), x.shape[1]
        longest, truncated = int(lengths.max(initial=0)), 0
        limit = self.reading.max_length
        if limit is not None:
            truncated = int((lengths > limit).sum())
            x, lengths = x[:, :limit], np.minimum(lengths, limit)
        valid = np.arange(x.shape[1])[None, :] < lengths[:, None]
        norm = 0.0
        if rank == 2:
            x = self._tokens(x, valid, start)
        else:
            x, norm = self._vectors(x, valid, start)
        labels = self._labels(raw.y, valid, lengths, start, width)
        known = traces(x, labels, lengths) if self._track else None
        return Checked(Batch(x, labels, lengths), longest, truncated, norm, known)

    def _lengths(self, x: NDArray[Any], n: Any, start: int) -> NDArray[np.int64]:
        if n is None:
            lengths = self._until_padding(x, start)
        else:
            lengths = step_counts(arrays.numbers(n, "lengths"), len(x))
        check_lengths(x, lengths, start, given=n is not None)
        return lengths.astype(np.int64)

    def _until_padding(self, x: NDArray[Any], start: int) -> NDArray[np.int64]:
        """Lengths up to the first −1 token, after which nothing but −1 may follow."""
        full = np.full(len(x), x.shape[1], dtype=np.int64)
        if x.ndim != 2 or x.dtype.kind not in "if" or not (x < 0).any():
            return full
        negative = x < 0
        lengths = np.where(negative.any(axis=1), np.argmax(negative, axis=1), full)
        padding = np.arange(x.shape[1])[None, :] >= lengths[:, None]
        bad = np.argwhere(padding & (x != -1))
        if bad.size:
            i, t = bad[0]
            raise InputError(
                f"token {x[i, t]} at step {t + 1} of sequence {start + i} stands in or for "
                "padding; pad with -1 on the right only, or give lengths"
            )
        return lengths

    def _tokens(self, x: NDArray[Any], valid: NDArray[np.bool_], start: int) -> NDArray[np.int64]:
        tokens = arrays.whole(x, self.what)
        if valid.all() and tokens.min() >= 0 and tokens.max() < self.reading.d_x:
            return tokens
        bad = np.argwhere(valid & ((tokens < 0) | (tokens >= self.reading.d_x)))
        if bad.size:
            i, t = bad[0]
            raise InputError(
                f"token {int(tokens[i, t])} at step {t + 1} of sequence {start + i} is outside "
                f"0..{self.reading.d_x - 1}; pad with -1 on the right or give lengths"
            )
        return np.where(valid, tokens, 0)

    def _vectors(
        self, x: NDArray[Any], valid: NDArray[np.bool_], start: int
    ) -> tuple[NDArray[Any], float]:
        """Inputs with padding zeroed, and their largest norm (or a known one above it)."""
        if not np.issubdtype(x.dtype, np.floating):
            x = x.astype(np.float64)
        masked = x if valid.all() else np.where(valid[:, :, None], x, x.dtype.type(0))
        if self.reading.enforce is not None:
            masked = scale_into_ball(masked, self.reading.enforce)
        largest = largest_norm(masked.reshape(-1, x.shape[2]), self.largest_norm)
        if not math.isfinite(largest):
            self._refuse_infinite(masked, start)
        return masked, largest

    def _refuse_infinite(self, x: NDArray[Any], start: int) -> None:
        bad = np.flatnonzero(~np.isfinite(x).all(axis=(1, 2)))
        if bad.size:
            raise InputError(
                f"sequence {start + int(bad[0])} holds NaN or infinite inputs; repair or drop it"
            )
        raise InputError(f"{self.what} hold inputs whose norm overflows; scale them down")

    def _refuse_onehot(self, labels: NDArray[np.int64], width: int) -> None:
        """InputError for one-hot labels (m, K), unless they may be labels of steps.

        With K = T they may be either, and reading a step would give labels 0 and 1.
        """
        K = self.reading.K
        if labels.ndim != 2 or labels.shape[1] != K:
            return
        if width == K and (self.reading.at == "average" or len(labels) < FEW):
            return
        if bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise InputError(
                f"labels of shape {labels.shape} are one-hot rows; pass labels.argmax(axis=1), or "
                "the labels (m,) of the step that is read"
            )

    def _labels(
        self,
        y: NDArray[Any],
        valid: NDArray[np.bool_],
        lengths: NDArray[np.int64],
        start: int,
        width: int,
    ) -> NDArray[np.int64]:
        labels = arrays.whole(y, "labels")
        at = self.reading.at
        if labels.ndim == 2 and labels.shape[1] == width:
            labels = labels[:, : valid.shape[1]]
        self._refuse_onehot(labels, width)
        if labels.shape not in {(len(valid),), valid.shape} or (
            at == "average" and labels.ndim == 1
        ):
            expected = "(m, T)" if at == "average" else "(m,) or (m, T)"
            column = "; pass labels[:, 0]" if labels.shape == (len(valid), 1) else ""
            raise InputError(
                f"labels have shape {labels.shape}; with at={at!r} expected {expected}{column}"
            )
        if isinstance(at, int) and (lengths < at).any():
            short = int(np.argmax(lengths < at))
            raise InputError(
                f"sequence {start + short} has {int(lengths[short])} steps, so no step {at}; "
                "choose a smaller step or at='last'"
            )
        if labels.ndim == 2 and at != "average":
            step = lengths - 1 if at == "last" else np.full(len(labels), int(at) - 1)
            labels = labels[np.arange(len(labels)), step]
        used = valid if labels.ndim == 2 else np.ones(len(labels), dtype=bool)
        bad = np.argwhere(used & ((labels < 0) | (labels >= self.reading.K)))
        if bad.size:
            i = int(bad[0][0])
            raise InputError(
                f"label {int(labels[tuple(bad[0])])} of sequence {start + i} is outside "
                f"0..{self.reading.K - 1}; the network has {self.reading.K} classes"
            )
        return np.where(used, labels, 0)


def batch_of(given: Any) -> tuple[Any, Any, Any]:
    """Sequences, labels, lengths or None of a user's batch; InputError for another one."""
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise InputError("a batch must be (sequences, labels) or (sequences, labels, lengths)")
    return given[0], given[1], given[2] if len(given) == 3 else None


def wanted(rank: int, d_x: int, given: int) -> str:
    """What sequences a network reads, for one that was given arrays with so many axes."""
    if rank == 2:
        return "(m, T) integer tokens"
    axis = "; add an axis, x[..., None]" if given == 2 and d_x == 1 else ""
    return f"(m, T, {d_x}) vectors{axis}"


def check_lengths(
    x: NDArray[Any], lengths: NDArray[Any], start: int = 0, *, given: bool = True
) -> None:
    """InputError unless every length is in 1..T; those that nobody gave come from −1 in tokens."""
    bad = np.flatnonzero((lengths < 1) | (lengths > x.shape[1]))
    if not bad.size:
        return
    i = int(bad[0])
    if given:
        raise InputError(
            f"sequence {start + i} has length {int(lengths[i])}; lengths lie in "
            f"1..{x.shape[1]}: drop empty sequences, pad longer ones"
        )
    first = float(x[i, 0])
    if first == -1:
        raise InputError(
            f"sequence {start + i} begins with -1, which stands for padding, so it is empty; drop "
            "it; padding stands on the right"
        )
    raise InputError(
        f"sequence {start + i} begins with {first:g}, which is no token; tokens count from 0, and "
        "-1 on the right is padding"
    )


def step_counts(given: NDArray[Any], m: int) -> NDArray[np.int64]:
    """Lengths (m,); InputError for others, also for masks that do not suit the sequences."""
    if given.dtype.kind == "b" and given.size:
        raise InputError(
            "lengths are true or false; pass numbers of steps, or a mask (m, T) of the sequences"
        )
    if given.shape != (m,):
        raise InputError(f"lengths have shape {given.shape}; give one per sequence, shape ({m},)")
    return arrays.whole(given, "lengths")


def unit_numbers(groups: Any, sequences: int) -> NDArray[np.int64]:
    """The unit of every sequence, numbered by first occurrence; without groups each is its own.

    Raises:
        InputError: groups do not suit the sequences.
    """
    if groups is None:
        return np.arange(sequences, dtype=np.int64)
    ids = arrays.ids(groups, sequences)
    try:
        _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    except TypeError:
        raise InputError(
            "groups are of several types, or cannot be sorted; use integers, or texts, for all"
        ) from None
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    found: NDArray[np.int64] = rank[inverse]
    return found


def groups_digest(groups: Any, sequences: int) -> str | None:
    """SHA-256 of which sequences are one unit; None where each is its own."""
    return None if groups is None else units_digest(unit_numbers(groups, sequences))


class SampleDigest:
    """SHA-256 of sequences in their order; how they came in batches or number types is not in it.

    Three streams are hashed: the valid steps of all sequences one after the other (tokens as
    little-endian int64, vectors as float64), the labels (int64; of labels at every step those of
    the valid steps) and the lengths (int64). The digest is that of four lines, joined by newlines:
    ``recert-sample-1 KIND WIDTH LABELS`` and the three hexadecimal digests. KIND is ``tokens`` or
    ``vectors``, WIDTH is d_x (0 for tokens), LABELS is ``sequence`` or ``step``.
    """

    def __init__(self) -> None:
        self._streams = [hashlib.sha256() for _ in range(3)]
        self._header = ""

    def update(
        self, x: NDArray[Any], labels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> None:
        """Take in sequences (n, T) or (n, T, d_x), labels (n,) or (n, T), lengths (n,)."""
        tokens, each = x.ndim == 2, labels.ndim == 2
        width = 0 if tokens else x.shape[2]
        names = ("tokens" if tokens else "vectors", width, "step" if each else "sequence")
        self._header = "recert-sample-1 {} {} {}".format(*names)
        valid = np.arange(x.shape[1])[None, :] < lengths[:, None]
        arrays = (
            x[valid].astype("<i8" if tokens else "<f8"),
            (labels[valid] if each else labels).astype("<i8"),
            lengths.astype("<i8"),
        )
        for stream, array in zip(self._streams, arrays, strict=True):
            stream.update(np.ascontiguousarray(array).data)

    def hexdigest(self) -> str:
        """The digest of what was taken in so far."""
        parts = (self._header, *(stream.hexdigest() for stream in self._streams))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def units_digest(units: NDArray[np.int64]) -> str:
    """SHA-256 of which sequences (m,) are one unit, numbered in the order of first occurrence."""
    return hashlib.sha256(units.astype("<i8").tobytes()).hexdigest()
