"""Where padding stands, and sequences moved to where every reader expects them: from step 1 on.

Valid steps are told by lengths, by a mask of the sequences' shape, or by −1 among tokens. Padding
on the left is taken off by moving the valid steps; padding that is part of the inputs stays.

What is said of padding that changes a model's answer, and whether it changes an ONNX model's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.certificates.predictor import PADDINGS, Apart, Padding, Read
from recert.errors import InputError
from recert.networks.forward import network_predictor
from recert.networks.network import Network
from recert.samples import arrays
from recert.samples.sample import At, batch_of
from recert.utils.validation import short

Index = NDArray[np.int64]
# Steps that are all the same before this many are no chance.
ENOUGH = 16
NO_TOKEN = (
    "{} hold tokens below 0, such as -1 for padding, which cannot be read; pad with a token for "
    "padding='as given', or use 'cut'"
)
# How a batch is padded, and to how many steps.
Told = tuple[Padding | None, int]


@dataclass(frozen=True, eq=False)
class Aligned:
    """Sequences whose valid steps come first, their labels and lengths, and how they were padded.

    Attributes:
        sequences: as they came, unless they had to be moved.
        labels: likewise.
        lengths: (m,), or None for all steps.
        padding: how padding is read; None where nothing says that there is any.
    """

    sequences: Any
    labels: Any
    lengths: Any
    padding: Padding | None = None


@dataclass(frozen=True, eq=False)
class Given:
    """A sample as it came, to compare models on, and as it is read.

    Attributes:
        shown: sequences and lengths as they came; of batches the first.
        sequences: with valid steps first.
        labels: of these; None in batches.
        lengths: likewise.
        told: how batches are padded, and to how many steps; grows while batches are read.
        kept: likewise, sequences and lengths as they came of a batch of every kind of padding.
    """

    shown: tuple[Any, Any]
    sequences: Any
    labels: Any
    lengths: Any
    told: list[Told]
    kept: list[tuple[Any, Any]]


def aligned(
    sequences: Any,
    labels: Any = None,
    lengths: Any = None,
    padding: Padding | None = None,
    *,
    last: bool = True,
    what: str = "sequences",
) -> Aligned:
    """Sequences as every reader expects them.

    Args:
        sequences: (m, T, d_x) vectors or (m, T) tokens.
        labels: (m,) or (m, T), or None.
        lengths: (m,) numbers of valid steps, a (m, T) mask that is true at valid steps, or None.
        padding: ``"cut"`` takes it off, wherever a mask says that it stands; ``"left"`` likewise,
            it stands on the left; ``"as given"`` leaves it as inputs; None asks.
        last: whether labels (m, T) count at the last valid step.
        what: the sequences' name in messages.

    Raises:
        InputError: padding stands on the left and nobody says so, a mask has gaps, or padding that
            is to be read cannot be.
    """
    told = _valid_steps(sequences, lengths, padding, what)
    if told is None:
        if lengths is not None or padding == "left":
            _need_told(lengths, padding, what)
        return Aligned(sequences, labels, lengths, "as given" if padding == "as given" else None)
    n, left = told
    width, each = np.shape(sequences)[1], np.ndim(labels) == 2 if labels is not None else False
    each = each and np.shape(labels)[1] == width
    rows = np.arange(len(n))
    if padding == "as given":
        if each and last and left and np.ndim(lengths) == 1:
            raise InputError(
                f"padding of the {what} stands on the left; pass as lengths a mask that is true "
                "at valid steps, to say where each ends"
            )
        if each and last:
            labels = arrays.numbers(labels, "labels")[rows, width - 1 if left else n - 1]
        return Aligned(sequences, labels, None, "as given")
    if bool((n == width).all()):
        return Aligned(sequences, labels, None if lengths is None else n)
    if not left:
        return Aligned(sequences, labels, None if lengths is None else n, "cut")
    order = (np.arange(width)[None, :] + (width - n)[:, None]) % width
    moved = arrays.numbers(labels, "labels")[rows[:, None], order] if each else labels
    return Aligned(arrays.numbers(sequences, what)[rows[:, None], order], moved, n, "left")


def _valid_steps(
    sequences: Any, lengths: Any, padding: Padding | None, what: str
) -> tuple[Index, bool] | None:
    """How many steps are valid, and whether padding stands before them.

    None where nothing says it, or what does is refused where samples are read.
    """
    if lengths is None and _rank(sequences) != 2:
        return None
    x = arrays.numbers(sequences, what)
    if x.ndim not in (2, 3) or x.dtype.kind not in "biuf" or 0 in x.shape:
        return None
    if lengths is None:
        if x.dtype.kind not in "if" or not (x < 0).any():
            return None
        if padding == "as given":
            raise InputError(NO_TOKEN.format(what))
        return _from_mask(x != -1, padding, what, told=False)
    if padding == "as given" and x.ndim == 2 and x.dtype.kind in "if" and (x < 0).any():
        raise InputError(NO_TOKEN.format(what))
    given = arrays.numbers(lengths, "lengths")
    if given.dtype.kind not in "biuf":
        return None
    if given.shape == x.shape[:2]:
        return _from_mask(_mask(given, what), padding, what, told=True)
    inside = (given >= 1) & (given <= x.shape[1]) & (given == np.floor(given))
    if given.shape != (len(x),) or given.dtype.kind == "b" or not inside.all():
        return None
    n = given.astype(np.int64)
    before = padding != "left" and _on_the_left(x, n)
    if before and padding != "as given":
        raise InputError(
            f"padding of the {what} stands on the left: their first steps are constant and "
            "those beyond the lengths are not; pass padding='left' to take it off, "
            "padding='as given' to read it, or for lengths a mask that is true at valid steps"
        )
    return n, before or padding == "left"


def _need_told(lengths: Any, padding: Padding | None, what: str) -> None:
    if lengths is None and padding == "left":
        raise InputError(
            f"padding='left' needs to know the valid steps of the {what}: pass lengths, or a mask"
        )


def width_of(sequences: Any) -> int:
    """Steps of a batch, padding included; 0 where it has none."""
    return int(np.shape(sequences)[1]) if _rank(sequences) > 1 else 0


def _rank(sequences: Any) -> int:
    """Number of axes; 0 for what is no array, which is refused where samples are read."""
    try:
        return len(np.shape(sequences))
    except Exception:  # whatever a stranger's array raises
        return 0


def aligned_batches(
    batches: Iterable[Any],
    padding: Padding | None,
    found: list[Told],
    kept: list[tuple[Any, Any]],
    *,
    last: bool = True,
) -> Iterator[tuple[Any, ...]]:
    """Batches (sequences, labels[, lengths]), each aligned; ``found`` is told how, once each.

    ``kept`` receives copies of the first batch of every kind of padding, which models are compared
    on when all have been read.

    Raises:
        InputError: padding is to be read as given and batches are of several widths.
    """
    width, kinds = None, set()
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            yield batch  # refused where samples are read
            continue
        x, y, n = (*batch, None)[:3]
        one = aligned(x, y, n, padding, last=last)
        found.append((one.padding, width_of(x)))
        kind = one.padding, n is None
        if one.padding in ("cut", "left") and kind not in kinds:
            kinds.add(kind)
            kept.append((copied(x, "sequences"), None if n is None else copied(n, "lengths")))
        if padding == "as given":
            if width is not None and width_of(x) != width:
                raise InputError(
                    f"batches are padded to {width} and to {width_of(x)} steps, so the answer "
                    "to a sequence depends on its batch; pad all to one length, or use "
                    "padding='cut'"
                )
            width = width_of(x)
        yield (one.sequences, one.labels, one.lengths)


def copied(given: Any, what: str) -> NDArray[Any]:
    """A loader may reuse what it gave."""
    return np.array(arrays.numbers(given, what))


def told_of(found: Iterable[Told]) -> Padding | None:
    """How a sample is padded whose batches are padded so: on the left if some are."""
    said = {padding for padding, _ in found}
    return next((padding for padding in PADDINGS[::-1] if padding in said), None)


def given_sample(
    sequences: Any, labels: Any, lengths: Any, padding: Padding | None, *, last: bool
) -> Given:
    """The sample, its padding taken off or read as it is; batches may be readable only once.

    Args:
        sequences: arrays, or batches where labels are None.
        labels: of arrays.
        lengths: likewise; or a mask.
        padding: how it is read, or None.
        last: whether labels (m, T) count at the last valid step.

    Raises:
        InputError: there is no batch, or as `aligned`.
    """
    told: list[Told] = []
    kept: list[tuple[Any, Any]] = []
    if labels is not None or hasattr(sequences, "shape"):
        one = aligned(sequences, labels, lengths, padding, last=last)
        told.append((one.padding, width_of(sequences)))
        shown = sequences, lengths
        return Given(shown, one.sequences, one.labels, one.lengths, told, kept)
    try:
        batches = iter(sequences)
    except Exception:  # whatever a stranger's __iter__ raises
        raise InputError(
            f"sequences are {short(sequences)}; pass arrays of sequences and labels, or batches "
            "(sequences, labels)"
        ) from None
    first = next(batches, None)
    if first is None:
        raise InputError("sequences hold no batch; pass (sequences, labels) pairs")
    first = batch_of(first)
    every = itertools.chain([first], batches)
    return Given(
        (first[0], (*first, None)[2]),
        aligned_batches(every, padding, told, kept, last=last),
        None,
        lengths,
        told,
        kept,
    )


def read_as(told: Sequence[Told], *, cut: int | None, radius: float | None) -> Read:
    """How sequences are read; InputError if padding is read as given, of several widths."""
    padding, widths = told_of(told), {width for _, width in told}
    if padding != "as given":
        return Read(padding, None, cut, radius)
    widths = {min(width, cut or width) for width in widths}
    if len(widths) > 1:
        raise InputError(
            f"sequences are padded to {' and '.join(map(str, sorted(widths)))} steps; with "
            "padding='as given' pad sample and held-out units to one length"
        )
    return Read(padding, widths.pop(), cut, radius)


def aligned_holdout(
    holdout: Any, padding: Padding | None, *, last: bool
) -> tuple[tuple[Any, Any, Any, Any], Told]:
    """Held-out sequences with valid steps first, labels, lengths, groups; and how they are padded.

    Raises:
        InputError: that is no holdout.
    """
    if not isinstance(holdout, (tuple, list)) or not 2 <= len(holdout) <= 4:
        raise InputError("holdout must be (sequences, labels[, lengths[, groups]])")
    sequences, labels, lengths, groups = (*holdout, None, None)[:4]
    one = aligned(
        sequences, labels, lengths, padding, last=last,
        what="held-out sequences",
    )  # fmt: skip
    told = one.padding, width_of(sequences)
    return (one.sequences, one.labels, one.lengths, groups), told


def _mask(given: NDArray[Any], what: str) -> NDArray[np.bool_]:
    if not np.isin(given, (0, 1)).all():
        raise InputError(
            f"the mask of the {what} is not of zeros and ones; it is 1 (or true) at valid steps"
        )
    return given.astype(bool)


def _from_mask(
    mask: NDArray[np.bool_], padding: Padding | None, what: str, *, told: bool
) -> tuple[Index, bool] | None:
    """Lengths, and whether padding stands on the left; None where −1 tokens say neither."""
    n = mask.sum(axis=1).astype(np.int64)
    steps = np.arange(mask.shape[1])[None, :]
    right = bool((mask == (steps < n[:, None])).all())
    left = bool((mask == (steps >= (mask.shape[1] - n)[:, None])).all())
    if told and bool((n == 0).any()):
        raise InputError(f"sequence {int(np.argmax(n == 0))} has no valid step; drop it")
    if right and padding != "left":
        return n, False
    if left and bool((n > 0).all()):
        if told or padding is not None:
            return n, True
        raise InputError(
            f"padding of the {what} stands on the left; pass padding='left' to take it off, or "
            "shift the sequences to the start"
        )
    if not told and padding is None:
        return None
    bad = mask != (steps >= (mask.shape[1] - n)[:, None])
    if padding != "left":
        bad &= mask != (steps < n[:, None])
    i = int(np.argmax(bad.any(axis=1)))
    raise InputError(
        f"the valid steps of sequence {i} do not stand together on the "
        f"{'right' if padding == 'left' else 'left or all on the right'}; padding may stand on one "
        "side of the sample only"
    )


def _on_the_left(x: NDArray[Any], n: Index) -> bool:
    """Whether the first T − n steps are the same in all sequences, and the last ones are not."""
    width = x.shape[1]
    padded = np.flatnonzero(n < width)
    if not len(padded):
        return False
    steps = np.arange(width)[None, :]
    beyond = steps >= n[padded, None]
    before = steps < (width - n[padded])[:, None]
    if before.sum() < ENOUGH:
        return False
    return _constant(x[padded], before) and not _constant(x[padded], beyond)


def _constant(x: NDArray[Any], where: NDArray[np.bool_]) -> bool:
    """Whether what stands there is one value (or vector), or at least one in each sequence."""
    found = x[where]
    if bool((found == found[0]).all()):
        return True
    several = np.flatnonzero(where.sum(axis=1) > 1)
    if len(several) < 2:
        return False
    first = x[several, where[several].argmax(axis=1)]
    same = (x[several] == first[:, None]).reshape(len(several), x.shape[1], -1).all(axis=2)
    return bool((same | ~where[several]).all())


MOST_NUMBERS = 1 << 22
CLOSE = 1e-9


def refusal(read: Aligned, apart: Apart = "padding", lengths: str = "lengths") -> str:
    """That the user has to say how padding is read; ``lengths`` is an argument's name."""
    side = "left" if read.padding == "left" else "cut"
    if apart == "without lengths":
        return (
            f"run on the batch as given model(x) answers otherwise than model(x, {lengths}), which "
            "answers as on the same sequences without their padding; say which call is meant: "
            f"padding={side!r} certifies model(x, {lengths}), padding='as given' model(x)"
        )
    if apart == "with lengths":
        return (
            f"run on the batch as given model(x, {lengths}) answers otherwise than model(x), which "
            "answers as on the same sequences without their padding; if you call model(x) say so "
            f"with padding={side!r}, else wrap the model in a module that passes the lengths"
        )
    return (
        "run on the batch as given the model answers otherwise than on the same sequences without "
        f"their padding; say which one is meant: padding={side!r} certifies its answers to "
        "sequences without padding, padding='as given' those with their padding, read as inputs"
    )


def runs_apart(network: Network, sequences: Any, read: Aligned, at: At, *, every: bool) -> bool:
    """Whether a model that reads every step answers otherwise to padded sequences, as given.

    Args:
        network: what the model computes.
        sequences: as given, with their padding.
        read: the same ones, their padding taken off.
        at: where the loss is read.
        every: whether the model gives an answer at every step, of which the valid ones are read.

    Returns:
        False also for tokens −1, which stand for no input.
    """
    raw = arrays.numbers(sequences, "sequences")
    fits = raw.ndim == (2 if network.input_kind == "onehot" else 3)
    if read.padding not in ("cut", "left") or read.lengths is None or not fits:
        return False
    n = np.asarray(arrays.numbers(read.lengths, "lengths")).astype(np.int64)
    rows = np.flatnonzero(n < raw.shape[1])
    rows = rows[: max(1, MOST_NUMBERS // max(1, raw[0].size))]
    raw, x, n = raw[rows], arrays.numbers(read.sequences, "sequences")[rows], n[rows]
    if not len(rows) or (raw.ndim == 2 and ((raw < 0) | (raw >= network.d_x)).any()):
        return False
    if raw.ndim == 2:
        raw, x = raw.astype(np.int64), x.astype(np.int64)
    predict, whole = network_predictor(network), np.full(len(rows), raw.shape[1])
    if not every or network.read != "step":
        return _apart(predict(raw, whole, "last"), predict(x, n, "last"))
    steps = np.arange(raw.shape[1])[None, :]
    start = raw.shape[1] - n if read.padding == "left" else np.zeros_like(n)
    inside, valid = steps < n[:, None], (steps >= start[:, None]) & (steps < (start + n)[:, None])
    if at == "average":
        return _apart(predict(raw, whole, at)[valid], predict(x, n, at)[inside])
    step = n - 1 if at == "last" else np.minimum(n, at) - 1
    index = np.arange(len(rows))
    return _apart(predict(raw, whole, "average")[index, start + step], predict(x, step + 1, "last"))


def _apart(found: NDArray[np.float64], want: NDArray[np.float64]) -> bool:
    with np.errstate(invalid="ignore", over="ignore"):
        return not bool(np.abs(found - want).max() <= CLOSE * (1.0 + np.abs(want).max()))
