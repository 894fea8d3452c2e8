"""Network: a recurrent classifier as a frozen value: cells, layers, named blocks, head.

Nothing here knows a framework. A network reads sequences x_1, …, x_T, runs its layers from zero
states, and answers y_t = V h_t + b_V with h_t the state of the top layer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recert import norms
from recert.errors import InputError, UnsupportedModelError

Norm = Literal["spectral", "column", "euclidean"]
InputKind = Literal["onehot", "real"]
Array = NDArray[np.float64]

ACTIVATIONS = ("tanh", "relu")


@dataclass(frozen=True, eq=False)
class Block:
    """A named block of parameters and the norm in which its moves are measured.

    Args:
        name: unique in the network, such as ``"U"``.
        value: float64, (d1, d2) for matrices, (d,) for biases. Copied and made read-only.
        norm: ``"spectral"`` for a dense block, ``"column"`` (largest column Euclidean norm) for one
            that only ever reads one-hot inputs, ``"euclidean"`` for a bias.
        zero_columns: columns that are zero in every member of the class (padding tokens).

    Raises:
        InputError: the value is not finite, or has another shape than its norm asks for.
    """

    name: str
    value: Array
    norm: Norm
    zero_columns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        value = np.array(self.value, dtype=np.float64, order="C", copy=True)
        expected = 1 if self.norm == "euclidean" else 2
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
        for column in self.zero_columns:
            if not 0 <= column < value.shape[-1] or np.any(value[..., column]):
                raise InputError(
                    f"block {self.name}: column {column} is declared always zero and is not; "
                    "drop the declaration or zero the column"
                )
        value.setflags(write=False)
        object.__setattr__(self, "value", value)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self.value.shape

    @property
    def rows(self) -> int:
        """d1, the dimension of what the block gives out."""
        return int(self.value.shape[0])

    @property
    def columns(self) -> int:
        """d2, the dimension of what the block reads (1 for a bias)."""
        return 1 if self.norm == "euclidean" else int(self.value.shape[1])

    @property
    def parameters(self) -> int:
        """P_k, the number of free parameters."""
        return self.rows * (self.columns - len(self.zero_columns))

    def norm_bound(self) -> float:
        """An upper bound of the value in the block's own norm, rounded up."""
        if self.norm == "spectral":
            return norms.spectral_norm_bound(self.value, name=self.name)
        return norms.column_norm_bound(self.value.reshape(self.rows, -1), name=self.name)


@dataclass(frozen=True, eq=False)
class Layer:
    """One recurrent layer: a cell's name, its activation, and its blocks by role.

    For ``cell="vanilla"`` the roles are ``U`` (d_h, d_h), ``W`` (d_h, d_x) and optionally ``b``.
    """

    cell: str
    blocks: Mapping[str, Block]
    activation: str = "tanh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", MappingProxyType(dict(self.blocks)))
        if self.activation not in ACTIVATIONS:
            raise UnsupportedModelError(
                f"activation {self.activation!r} is not covered; use {' or '.join(ACTIVATIONS)}"
            )

    @property
    def d_h(self) -> int:
        """Dimension of the hidden state."""
        return self.blocks["U"].rows

    @property
    def d_in(self) -> int:
        """Dimension of what the layer reads."""
        return self.blocks["W"].columns


@dataclass(frozen=True, eq=False)
class Head:
    """The linear read-out y = V h + b_V, with K rows."""

    V: Block
    b: Block | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """A recurrent classifier.

    Args:
        layers: recurrent layers, bottom first.
        head: linear read-out.
        input_kind: ``"onehot"`` for integer tokens, ``"real"`` for vectors.
        embedding: (d_e, tokens) block read by one-hot inputs, or None. Without it a one-hot
            network's first ``W`` reads the tokens itself, and is measured in the column norm.

    Raises:
        InputError: dimensions do not fit together, or names repeat, or K < 2.
        UnsupportedModelError: a cell that the package does not know.
    """

    layers: tuple[Layer, ...]
    head: Head
    input_kind: InputKind = "onehot"
    embedding: Block | None = None
    _cache: dict[str, object] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("a network needs at least one recurrent layer")
        for index, layer in enumerate(self.layers):
            _check_layer(layer, index)
        width = self.layers[0].d_in
        if self.embedding is not None:
            if self.input_kind != "onehot":
                raise InputError("an embedding reads tokens: set input_kind='onehot'")
            _check_dimension(
                "W of layer 0 reads", width, "the embedding gives", self.embedding.rows
            )
        for below, above in zip(self.layers, self.layers[1:], strict=False):
            _check_dimension("a layer reads", above.d_in, "the layer below gives", below.d_h)
        _check_dimension("V reads", self.head.V.columns, "the top layer gives", self.layers[-1].d_h)
        if self.K < 2:
            raise InputError(f"a classifier needs at least 2 classes, the head gives {self.K}")
        if self.head.b is not None:
            _check_dimension("b_V has", self.head.b.rows, "V has rows", self.K)
        names = [block.name for block in self.blocks()]
        if len(set(names)) != len(names):
            raise InputError(f"block names repeat: {', '.join(names)}; give each its own")
        _check_norms(self)

    @property
    def K(self) -> int:
        """d_y, the number of classes."""
        return self.head.V.rows

    @property
    def d_x(self) -> int:
        """Dimension of an input: the number of tokens for one-hot inputs."""
        return self.embedding.columns if self.embedding is not None else self.layers[0].d_in

    @property
    def d_h(self) -> int:
        """Dimension of the top layer's hidden state."""
        return self.layers[-1].d_h

    def blocks(self) -> Iterator[Block]:
        """Every block once: embedding, layers bottom first, head."""
        if self.embedding is not None:
            yield self.embedding
        for layer in self.layers:
            yield from layer.blocks.values()
        yield self.head.V
        if self.head.b is not None:
            yield self.head.b

    def block(self, name: str) -> Block:
        """The block of that name; InputError if there is none."""
        for block in self.blocks():
            if block.name == name:
                return block
        known = ", ".join(b.name for b in self.blocks())
        raise InputError(f"the network has no block {name!r}; its blocks are {known}")

    def margin_form(self) -> Network:
        """The same margins with the head written in K−1 rows.

        The margin ignores a row common to V's rows, so V may be replaced by its part orthogonal to
        the constant vector, written in an orthonormal basis of that subspace: (K−1) d_h parameters,
        and a norm that is not larger. Used for bounds, never to predict (for K = 2 only one row).
        """
        basis = _centred_basis(self.K)
        V = Block(self.head.V.name, basis.T @ self.head.V.value, "spectral")
        b = self.head.b
        if b is not None:
            b = Block(b.name, basis.T @ b.value, "euclidean")
        form = object.__new__(Network)
        for name, value in (
            ("layers", self.layers),
            ("head", Head(V, b)),
            ("input_kind", self.input_kind),
            ("embedding", self.embedding),
            ("_cache", {}),
        ):
            object.__setattr__(form, name, value)
        return form

    def description(self) -> dict[str, object]:
        """Everything but the weights, as plain JSON values."""
        return {
            "input": self.input_kind,
            "embedding": self.embedding is not None,
            "layers": [
                {
                    "cell": layer.cell,
                    "activation": layer.activation,
                    "d_in": layer.d_in,
                    "d_h": layer.d_h,
                    "bias": "b" in layer.blocks,
                }
                for layer in self.layers
            ],
            "classes": self.K,
            "head_bias": self.head.b is not None,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the description and every weight's little-endian float64 bytes."""
        if "digest" not in self._cache:
            sha = hashlib.sha256(json.dumps(self.description(), sort_keys=True).encode())
            for block in self.blocks():
                sha.update(f"{block.name}:{block.norm}:{block.shape}".encode())
                sha.update(block.value.astype("<f8").tobytes())
            self._cache["digest"] = sha.hexdigest()
        return str(self._cache["digest"])


def vanilla(
    U: object,
    W: object,
    V: object,
    *,
    b: object = None,
    b_V: object = None,
    activation: str = "tanh",
    input_kind: InputKind = "onehot",
) -> Network:
    """A one-layer vanilla network h_t = σ_h(U h_{t−1} + W x_t + b), y_t = V h_t + b_V.

    Args:
        U: (d_h, d_h).
        W: (d_h, d_x).
        V: (K, d_h).
        b: (d_h,) or None.
        b_V: (K,) or None.
        activation: ``"tanh"`` or ``"relu"``.
        input_kind: ``"onehot"`` for integer tokens below d_x, ``"real"`` for vectors.

    Source: Section 1 of "On Generalization Bounds of a Family of Recurrent Neural Networks".
    """
    blocks = {
        "U": Block("U", np.asarray(U), "spectral"),
        "W": Block("W", np.asarray(W), "column" if input_kind == "onehot" else "spectral"),
    }
    if b is not None:
        blocks["b"] = Block("b", np.asarray(b), "euclidean")
    head_bias = None if b_V is None else Block("b_V", np.asarray(b_V), "euclidean")
    head = Head(Block("V", np.asarray(V), "spectral"), head_bias)
    return Network((Layer("vanilla", blocks, activation),), head, input_kind)


def _centred_basis(K: int) -> Array:
    """(K, K−1) matrix with orthonormal columns, all orthogonal to the constant vector (Helmert)."""
    basis = np.zeros((K, K - 1))
    for j in range(1, K):
        basis[:j, j - 1] = 1.0 / np.sqrt(j * (j + 1.0))
        basis[j, j - 1] = -j / np.sqrt(j * (j + 1.0))
    return basis


def _check_layer(layer: Layer, index: int) -> None:
    if layer.cell != "vanilla":
        raise UnsupportedModelError(
            f"layer {index}: cell {layer.cell!r} is not covered; the cells are: vanilla"
        )
    roles = set(layer.blocks)
    if not {"U", "W"} <= roles <= {"U", "W", "b"}:
        raise InputError(
            f"layer {index}: a vanilla cell has blocks U, W and perhaps b, got {sorted(roles)}"
        )
    U = layer.blocks["U"]
    _check_dimension("U has columns", U.columns, "U has rows", U.rows)
    _check_dimension("W has rows", layer.blocks["W"].rows, "U has rows", U.rows)
    if "b" in layer.blocks:
        _check_dimension("b has", layer.blocks["b"].rows, "U has rows", U.rows)


def _check_dimension(what: str, found: int, other: str, expected: int) -> None:
    if found != expected:
        raise InputError(f"shapes do not fit: {what} {found}, {other} {expected}")


def _check_norms(network: Network) -> None:
    """A block read by vectors must be measured in the spectral norm, a bias in the Euclidean."""
    first = network.layers[0].blocks["W"]
    reads_tokens = network.embedding is None and network.input_kind == "onehot"
    for block in network.blocks():
        onehot = block is network.embedding or (block is first and reads_tokens)
        matrix: Norm = "column" if onehot else "spectral"
        allowed = matrix if block.value.ndim == 2 else "euclidean"
        if block.norm != allowed:
            raise InputError(
                f"block {block.name} is measured in the {block.norm} norm but is used in a way "
                f"that only the {allowed} norm bounds; declare it so"
            )
