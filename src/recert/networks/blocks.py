"""Block: parameters that move together, and the norm in which their moves are measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recert.errors import InputError
from recert.numerics import norms
from recert.numerics.norms import convolution_norm_bound
from recert.samples import arrays
from recert.utils import validation

Norm = Literal["spectral", "column", "euclidean", "operator"]
Array = NDArray[np.float64]

_AXES = {"spectral": 2, "column": 2, "euclidean": 1, "operator": 3}


@dataclass(frozen=True, eq=False)
class Block:
    """A named block of parameters and the norm in which its moves are measured.

    Args:
        name: unique in the network, such as ``"U"``.
        value: float64, (d1, d2) for matrices, (d,) for biases, (channels out, channels in, width)
            for filter banks. Copied into memory that nobody can write to: norms are found once.
        norm: ``"spectral"`` for a dense block, ``"column"`` (largest column Euclidean norm) for one
            that only ever reads one-hot inputs, ``"euclidean"`` for a bias, ``"operator"`` for a
            filter bank: the spectral norm of the matrix by which it acts.
        zero_columns: columns that are zero in every member of the class (padding tokens).
        positions: L, the number of positions that a filter bank acts on, with zero padding:
            channel i of its input holds entries iL, …, iL + L − 1, and output o at position p is
            Σ_i Σ_j value[o, i, j]·x_i[p + j − ⌊(width − 1)/2⌋].

    Raises:
        InputError: the value is not finite, or has another shape than its norm asks for.
    """

    name: str
    value: Array
    norm: Norm
    zero_columns: tuple[int, ...] = ()
    positions: int = 1
    _norms: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def __repr__(self) -> str:
        """One line: name, shape, norm."""
        return f"Block({self.name!r}, {'×'.join(map(str, self.value.shape))}, {self.norm})"

    def __post_init__(self) -> None:
        validation.line("the name of a block", self.name)
        given = arrays.numbers(self.value, f"weights of block {self.name}")
        value = np.array(given, dtype=np.float64, order="C", copy=True)
        expected = _AXES[self.norm]
        if value.ndim != expected:
            raise InputError(
                f"block {self.name}: {value.ndim} dimensions, expected {expected} for a block "
                f"measured in the {self.norm} norm; pass an array of that shape"
            )
        if value.size == 0:
            raise InputError(f"block {self.name} is empty (shape {value.shape}); give it entries")
        if not np.isfinite(value).all():
            raise InputError(
                f"block {self.name} holds NaN or infinite weights; retrain or repair the file"
            )
        if self.positions < 1 or (self.positions > 1 and self.norm != "operator"):
            raise InputError(
                f"block {self.name}: positions is {self.positions}; a filter bank acts on at least "
                "1, other blocks have none"
            )
        for column in self.zero_columns:
            if (
                self.norm == "operator"
                or not 0 <= column < value.shape[-1]
                or np.any(value[..., column])
            ):
                raise InputError(
                    f"block {self.name}: column {column} is declared always zero and is not; "
                    "drop the declaration or zero the column"
                )
        # An array over bytes cannot be made writable again, one that owns its memory can.
        fixed = np.frombuffer(value.tobytes(), dtype=np.float64).reshape(value.shape)
        object.__setattr__(self, "value", fixed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made anew, so theirs are read-only, too."""
        return Block, (self.name, self.value, self.norm, self.zero_columns, self.positions)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self.value.shape

    @property
    def rows(self) -> int:
        """d1, the dimension of what the block gives out."""
        return int(self.value.shape[0]) * self.positions

    @property
    def columns(self) -> int:
        """d2, the dimension of what the block reads (1 for a bias)."""
        return 1 if self.norm == "euclidean" else int(self.value.shape[1]) * self.positions

    @property
    def terms(self) -> int:
        """The number of products in one entry of what the block gives out."""
        return int(self.value[0].size)

    @property
    def parameters(self) -> int:
        """P_k, the number of free parameters."""
        if self.norm == "operator":
            return int(self.value.size)
        return self.rows * (self.columns - len(self.zero_columns))

    def matrix(self) -> Array:
        """The value as a matrix with one row for each first index; biases as a column."""
        return self.value.reshape(self.value.shape[0], -1)

    def norm_bound(self) -> float:
        """An upper bound of the value in the block's own norm, rounded up."""
        if self.norm == "operator":
            if "operator" not in self._norms:
                self._norms["operator"] = convolution_norm_bound(
                    self.value, self.positions, name=self.name
                )
            return self._norms["operator"]
        return self.matrix_norm("spectral" if self.norm == "spectral" else "column")

    def matrix_norm(self, what: norms.MatrixNorm) -> float:
        """An upper bound of a norm of ``matrix()``, worked out once.

        Args:
            what: the name of a field of `recert.numerics.norms.NormBounds`.
        """
        if what not in self._norms:
            self._norms[what] = norms.BOUNDS[what](self.matrix(), self.name)
        return self._norms[what]

    def matrix_norms(self) -> norms.NormBounds:
        """All of them."""
        return norms.NormBounds(**{what: self.matrix_norm(what) for what in norms.BOUNDS})


@dataclass(frozen=True, eq=False)
class FixedMap:
    """A linear map that is the same in every member of the class, with upper bounds of its norms.

    Args:
        matrix: (d1, d2).
    """

    matrix: Array

    def __repr__(self) -> str:
        """One line: its dimensions."""
        return f"FixedMap({self.matrix.shape[1]}→{self.rows})"

    @cached_property
    def norm(self) -> float:
        """The spectral norm, rounded up."""
        return norms.spectral_norm_bound(self.matrix)

    @cached_property
    def row_sum(self) -> float:
        """The largest absolute row sum, rounded up."""
        return norms.row_sum_norm_bound(self.matrix)

    @property
    def rows(self) -> int:
        """d1."""
        return int(self.matrix.shape[0])
