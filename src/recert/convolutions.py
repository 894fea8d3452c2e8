"""The operator norm of a filter bank with zero padding: true upper bounds, not estimates.

A bank A of shape (channels out, channels in, width) acts on L positions as the block Toeplitz
matrix with blocks A_j on its diagonals, y_o[p] = Σ_i Σ_j A[o, i, j] x_i[p + j − ⌊(width − 1)/2⌋].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recert.norms import EPS, UNIT, frobenius_norm_bound, spectral_norm_bound

Array = NDArray[np.float64]

# Up to this side the matrix itself is written out and bounded.
DENSE_SIDE = 1024


def convolution_matrix(bank: Array, positions: int) -> Array:
    """The matrix (channels out·L, channels in·L) by which a bank acts.

    Args:
        bank: (channels out, channels in, width).
        positions: L.
    """
    out, channels, width = bank.shape
    left = (width - 1) // 2
    matrix = np.zeros((out, positions, channels, positions))
    for j in range(width):
        offset = j - left
        p = np.arange(max(0, -offset), min(positions, positions - offset))
        if len(p):
            matrix[:, p, :, p + offset] = bank[None, :, :, j]
    return matrix.reshape(out * positions, channels * positions)


def convolution_norm_bound(bank: Array, positions: int, name: str = "") -> float:
    """An upper bound on the operator norm of a filter bank on L positions, zero padding.

    Small banks are written out as matrices. Large ones are embedded in a circulant matrix of
    N ≥ L + width − 1 positions, of which the zero-padded matrix is a part, so that its norm is at
    most that of the circulant one: the largest ‖F_n‖ of F_n = Σ_j A_j e^{2πi nj/N}, each complex
    matrix bounded as the real matrix [[Re, −Im], [Im, Re]]. A computed entry of F_n is wrong by at
    most (width + 16)·2u·Σ_j|A_j|, which is added in the Frobenius norm.

    Args:
        bank: (channels out, channels in, width), finite.
        positions: L ≥ 1.
        name: what errors call it.

    Raises:
        InputError: entries are not finite, or the norm leaves the range of float64.
    """
    out, channels, _ = bank.shape
    if max(out, channels) * positions <= DENSE_SIDE:
        return spectral_norm_bound(convolution_matrix(bank, positions), name=name)
    return circulant_norm_bound(bank, positions, name)


def circulant_norm_bound(bank: Array, positions: int, name: str = "") -> float:
    """`convolution_norm_bound` by the circulant embedding, whatever the size."""
    width = bank.shape[2]
    N = positions + width - 1
    n = np.arange(N // 2 + 1)  # the others are complex conjugates
    angles = 2.0 * math.pi * (np.outer(n, np.arange(width)) % N) / N
    real = np.einsum("oij,nj->noi", bank, np.cos(angles))
    imaginary = np.einsum("oij,nj->noi", bank, np.sin(angles))
    largest = max(
        spectral_norm_bound(np.block([[re, -im], [im, re]]), name=name)
        for re, im in zip(real, imaginary, strict=True)
    )
    whole = frobenius_norm_bound(bank.reshape(len(bank), -1), name=name)
    error = 4.0 * (width + 16) * UNIT * math.sqrt(width) * whole
    return (largest + error) * (1.0 + 4 * EPS)
