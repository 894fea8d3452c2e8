"""Errors as the package's own code computes them, where bounds on roundings leave a sign open."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.verifier.sample import GivenSample


def losses_again(network: Any, sample: GivenSample, at: Any) -> NDArray[np.float64]:
    """(m,) the share of a sequence's entries with M ≤ 0.

    Batches are those in which `certify` reads an array, so that sums come out alike.
    """
    from recert.networks.forward import margins_of, network_predictor
    from recert.samples.sample import BATCH

    predict, found = network_predictor(network), []
    for i in range(0, len(sample.x), BATCH):
        piece = slice(i, i + BATCH)
        lengths = sample.lengths[piece]
        M = margins_of(predict(sample.x[piece], lengths, at), sample.labels[piece])
        # What overflowed compares with nothing, and is lost.
        wrong = ~(M > 0.0)
        if at == "average":
            valid = np.arange(M.shape[1])[None, :] < lengths[:, None]
            wrong = (wrong & valid).sum(axis=1) / lengths
        found.append(wrong.astype(np.float64))
    return np.concatenate(found)
