"""What is said of padding that changes a model's answer, and whether it changes an ONNX model's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert import arrays
from recert.network import Network
from recert.padding import Aligned
from recert.predict import network_predictor
from recert.predictor import Apart
from recert.sample import At

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
