"""What a sample is known by: a SHA-256 that anybody can compute again from the data alone."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
