"""The sequences on which a module is compared with its Network: the user's, or drawn ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import InputError
from recert.networks.network import Network
from recert.readers.torch.running import InputGroup
from recert.samples import arrays
from recert.samples.sample import check_lengths, step_counts, wanted

SEQUENCES = 256
LENGTHS = 8
MANY, MANY_LENGTHS = 1 << 14, 64
MOST_STEPS = 2048
MOST_INPUTS = 20_000_000
DRAWN_STEPS = (7, 1, 2)
# Numbers that a module may hold for every step of its largest batch.
MOST_NUMBERS = 1 << 22


def drawn(kind: str, d_x: int, padding: int | None = None) -> list[InputGroup]:
    """Random sequences of 7, 1 and 2 steps without padding tokens; equal for equal arguments.

    Args:
        kind: ``"onehot"`` or ``"real"``.
        d_x: number of tokens, or dimension.
        padding: a token that is not drawn, for models that skip it; None draws all.
    """
    rng = np.random.default_rng(0)
    groups = []
    for steps in DRAWN_STEPS:
        n = max(1, min(16, MOST_INPUTS // (steps * d_x)))
        x: NDArray[Any]
        if kind == "onehot":
            x = rng.integers(0, d_x, size=(n, steps))
            if padding is not None and d_x > 1:
                x = np.where(x == padding, (padding + 1) % d_x, x)
        else:
            x = rng.standard_normal((n, steps, d_x))
        groups.append(InputGroup(np.arange(n), x))
    return groups


def given(
    kind: str,
    d_x: int,
    sequences: Any,
    lengths: Any,
    *,
    every: bool = False,
    few: bool = False,
) -> list[InputGroup]:
    """A user's sequences: up to 256 of up to 8 lengths, from all over, each at most 2048 steps.

    Of tokens there are more unless ``few`` will do, so that every token stands in one that is
    compared, if it can. With ``every`` they are as many as can be, 16,384 of 64 lengths.

    Raises:
        InputError: they are not (m, T) tokens below d_x or (m, T, d_x) vectors.
    """
    x = array_of(sequences, kind, d_x)
    valid = _valid_lengths(x, lengths)
    many, most_lengths = (MANY, MANY_LENGTHS) if every else (SEQUENCES, LENGTHS)
    distinct = spread(np.unique(valid), most_lengths)
    groups = []
    for length in distinct:
        steps = max(1, min(int(length), MOST_STEPS, MOST_INPUTS // d_x))
        most = max(1, min(many // len(distinct), MOST_INPUTS // (steps * d_x)))
        rows = spread(np.flatnonzero(valid == length), most)
        groups.append(InputGroup(rows, _checked(x[rows, :steps], kind, d_x, rows)))
    return groups if kind == "real" or few else [*groups, *_with_tokens(x, valid, groups, d_x)]


def width(network: Network) -> int:
    """How many numbers a module holds for one step of one sequence, about."""
    return max(network.d_x, *(max(block.shape) for block in network.blocks()))


def largest(network: Network, sequences: Any, lengths: Any) -> InputGroup:
    """As many as can be of a user's sequences of one length, the one that most of them have."""
    kind, d_x = network.input_kind, network.d_x
    x = array_of(sequences, kind, d_x)
    valid = _valid_lengths(x, lengths)
    lengths_found, counts = np.unique(valid, return_counts=True)
    length = int(lengths_found[np.argmax(counts)])
    steps = max(1, min(length, MOST_STEPS, MOST_INPUTS // d_x))
    rows = np.flatnonzero(valid == length)[: max(1, MOST_NUMBERS // (steps * width(network)))]
    return InputGroup(rows, _checked(x[rows, :steps], kind, d_x, rows))


def spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly from first to last."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _with_tokens(
    x: NDArray[Any], valid: NDArray[np.int64], groups: list[InputGroup], d_x: int
) -> list[InputGroup]:
    """One sequence more for each token that the groups lack, 256 at most, one length a group."""
    some = slice(0, max(1, MOST_INPUTS // x.shape[1]))
    x, valid = x[some], valid[some]
    steps = np.arange(x.shape[1])[None, :]
    inside = (steps < np.minimum(valid, MOST_STEPS)[:, None]) & (x >= 0) & (x < d_x)
    rows = np.broadcast_to(np.arange(len(x))[:, None], x.shape)[inside]
    tokens, first = np.unique(x[inside], return_index=True)
    seen = np.unique(np.concatenate([np.ravel(group.x) for group in groups]))
    lacking = np.unique(rows[first[~np.isin(tokens, seen)]])
    found: list[InputGroup] = []
    for row in spread(lacking, SEQUENCES):
        length = int(min(valid[row], MOST_STEPS))
        index = np.array([row])
        found.append(InputGroup(index, _checked(x[index, :length], "onehot", d_x, index)))
    return _joined(found)


def _joined(groups: list[InputGroup]) -> list[InputGroup]:
    """Groups of one length each, put together."""
    lengths = sorted({group.steps for group in groups})
    return [
        InputGroup(
            np.concatenate([g.rows for g in groups if g.steps == length]),
            np.concatenate([g.x for g in groups if g.steps == length]),
        )
        for length in lengths
    ]


def array_of(sequences: Any, kind: str, d_x: int) -> NDArray[Any]:
    """Sequences as an array that suits the network; InputError if they are none."""
    x = arrays.numbers(sequences, "sequences")
    rank = 2 if kind == "onehot" else 3
    fits = x.ndim == rank and (rank == 2 or x.shape[2] == d_x)
    if not fits or 0 in x.shape:
        raise InputError(
            f"sequences have shape {x.shape} and dtype {x.dtype}; this network reads "
            f"{wanted(rank, d_x, x.ndim)}"
        )
    return x


def _valid_lengths(x: NDArray[Any], lengths: Any) -> NDArray[np.int64]:
    valid: NDArray[Any]
    if lengths is not None:
        valid = step_counts(arrays.numbers(lengths, "lengths"), len(x))
    elif x.ndim == 2:
        padding = x < 0
        valid = np.where(padding.any(axis=1), padding.argmax(axis=1), x.shape[1])
    else:
        valid = np.full(len(x), x.shape[1])
    check_lengths(x, valid, given=lengths is not None)
    return valid.astype(np.int64)


def _checked(x: NDArray[Any], kind: str, d_x: int, rows: NDArray[np.int64]) -> NDArray[Any]:
    if kind == "real":
        bad = ~np.isfinite(x).all(axis=(1, 2))
        what = "holds NaN or infinite inputs; repair or drop it"
    else:
        bad = ((x != np.floor(x)) | (x < 0) | (x >= d_x)).any(axis=1)
        what = f"holds tokens that are not integers in 0..{d_x - 1}, which the model reads; "
        what += "pad with -1 on the right, or give lengths"
    if bad.any():
        raise InputError(f"sequence {int(rows[np.argmax(bad)])} {what}")
    return x.astype(np.float64 if kind == "real" else np.int64)
