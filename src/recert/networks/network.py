"""Network: a recurrent classifier as a frozen value: cells, layers, named blocks, head.

Nothing here knows a framework. A network reads sequences x_1, …, x_T, runs its layers from zero
states, and answers with y = V h + b_V, where h is what the head reads of the top layer's outputs.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from recert.errors import InputError
from recert.networks.blocks import Array, Block, FixedMap, Norm
from recert.networks.layers import Bidirectional, Dense, Layer, check_dimension
from recert.utils import validation

__all__ = [
    "Array",
    "Bidirectional",
    "Block",
    "Chain",
    "Dense",
    "Head",
    "InputKind",
    "Layer",
    "MarginForm",
    "Network",
    "Norm",
    "Read",
    "vanilla",
]

LONGEST_CHAIN = 6  # parts that a repr names one by one
InputKind = Literal["onehot", "real"]
Read = Literal["step", "final", "mean"]


@dataclass(frozen=True, eq=False)
class Head:
    """The read-out y = V h + b_V with K rows, after any hidden dense layers.

    Args:
        V: the last block.
        b: its bias, or None.
        hidden: dense layers before V, first one first.
        pool: a fixed map after V, giving K rows (the paper's average pooling), or None.
    """

    V: Block
    b: Block | None = None
    hidden: tuple[Dense, ...] = ()
    pool: FixedMap | None = None

    def __repr__(self) -> str:
        """One line: its dimensions."""
        widths = [self.d_in, *(dense.A.rows for dense in self.hidden), self.rows]
        return f"Head({'→'.join(map(str, widths))})"

    @property
    def rows(self) -> int:
        """Rows of the output."""
        return self.V.rows if self.pool is None else self.pool.rows

    @property
    def d_in(self) -> int:
        """Dimension of what the head reads."""
        return self.hidden[0].A.columns if self.hidden else self.V.columns

    def blocks(self) -> Iterator[Block]:
        """Every block once: hidden layers, V, b."""
        for dense in self.hidden:
            yield from dense.blocks
        yield self.V
        if self.b is not None:
            yield self.b


@dataclass(frozen=True, eq=False)
class Chain(ABC):
    """What a `Network` and its `MarginForm` share: layers one after the other, and a head."""

    layers: tuple[Layer | Bidirectional, ...]
    head: Head
    input_kind: InputKind = "onehot"
    embedding: Block | None = None
    encoder: tuple[Dense, ...] = ()
    read: Read = "step"

    def __repr__(self) -> str:
        """One line: ``Network(LSTM 28→32 → 10 classes, 8,138 weights)``."""
        embedded = [] if self.embedding is None else [f"embedding {self.d_x}→{self.embedding.rows}"]
        dense = [f"dense {d.A.columns}→{d.A.rows}" for d in (*self.encoder, *self.head.hidden)]
        before, after = dense[: len(self.encoder)], dense[len(self.encoder) :]
        parts = [*embedded, *before, *(layer.short() for layer in self.layers), *after]
        if len(parts) > LONGEST_CHAIN:
            parts = [*parts[:2], f"… {len(parts) - 4} more …", *parts[-2:]]
        weights = sum(block.parameters for block in self.blocks())
        path = " → ".join([*parts, self._answer()])
        return f"{type(self).__name__}({path}, {weights:,} weights)"

    @abstractmethod
    def _answer(self) -> str:
        """What comes out, in a word or two."""

    @property
    def d_x(self) -> int:
        """Dimension of an input: the number of tokens for one-hot inputs."""
        if self.embedding is not None:
            return self.embedding.columns
        return self.encoder[0].A.columns if self.encoder else self.layers[0].d_in

    @property
    def d_h(self) -> int:
        """Dimension of the top layer's output."""
        return self.layers[-1].d_out

    @property
    def two_way(self) -> bool:
        """Whether some layer reads the sequence from its end, too."""
        return any(isinstance(layer, Bidirectional) for layer in self.layers)

    def directions(self) -> Iterator[Layer]:
        """Every recurrent layer in every direction, bottom first."""
        for layer in self.layers:
            yield from layer.directions

    def blocks(self) -> Iterator[Block]:
        """Every block once: embedding, encoder, layers bottom first, head."""
        if self.embedding is not None:
            yield self.embedding
        for dense in self.encoder:
            yield from dense.blocks
        for layer in self.directions():
            yield from layer.blocks.values()
        yield from self.head.blocks()

    def block(self, name: str) -> Block:
        """The block of that name; InputError if there is none."""
        for block in self.blocks():
            if block.name == name:
                return block
        known = ", ".join(b.name for b in self.blocks())
        raise InputError(f"the network has no block {name!r}; its blocks are {known}")


@dataclass(frozen=True, eq=False, repr=False)
class MarginForm(Chain):
    """A network's margins, its head written in K−1 outputs: for bounds, never to predict.

    Row z less row j of `margin_basis` is the functional of the outputs that is y_z − y_j.
    """

    @property
    def outputs(self) -> int:
        """K−1, rows of the head."""
        return self.head.rows

    @property
    def classes(self) -> int:
        """K, the network's classes."""
        return self.outputs + 1

    def _answer(self) -> str:
        return f"margins of {self.classes} classes"


@dataclass(frozen=True, eq=False, repr=False)
class Network(Chain):
    """A recurrent classifier.

    Args:
        layers: recurrent layers, bottom first, each in one direction or in two.
        head: read-out.
        input_kind: ``"onehot"`` for integer tokens, ``"real"`` for vectors.
        embedding: (d_e, tokens) block read by one-hot inputs, or None. Without it a one-hot
            network's first blocks W read the tokens themselves, in the column norm.
        encoder: dense layers between inputs (or embedding) and the first recurrent layer.
        read: what the head reads: ``"step"``, the top outputs at the step where the loss is read;
            ``"final"``, the outputs with which each direction ends (the backward one at step 1);
            ``"mean"``, the mean of the outputs over the valid steps.

    Raises:
        InputError: dimensions do not fit together, or names repeat, or K < 2.
    """

    def _answer(self) -> str:
        return f"{self.K} classes"

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("a network needs at least one recurrent layer")
        validation.word("read", self.read, ("step", "final", "mean"))
        validation.word("input_kind", self.input_kind, ("onehot", "real"))
        if self.embedding is not None and self.input_kind != "onehot":
            raise InputError("an embedding reads tokens: set input_kind='onehot'")
        self._check_chain()
        if self.K < 2:
            raise InputError(f"a classifier needs at least 2 classes, the head gives {self.K}")
        if self.head.pool is not None:
            check_dimension(
                "pool reads", self.head.pool.matrix.shape[1], "V gives", self.head.V.rows
            )
        if self.head.b is not None:
            check_dimension("b_V has", self.head.b.rows, "the output has", self.K)
        names = [block.name for block in self.blocks()]
        if len(set(names)) != len(names):
            raise InputError(f"block names repeat: {', '.join(names)}; give each its own")
        _check_norms(self)

    def _check_chain(self) -> None:
        """Every part reads what the part before it gives."""
        width = None if self.embedding is None else self.embedding.rows
        what = "the embedding gives"
        for dense in self.encoder:
            if width is not None:
                check_dimension(f"{dense.A.name} reads", dense.A.columns, what, width)
            width, what = dense.A.rows, f"{dense.A.name} gives"
        for k, layer in enumerate(self.layers):
            if width is not None:
                check_dimension(f"layer {k} reads", layer.d_in, what, width)
            width, what = layer.d_out, f"layer {k} gives"
        for dense in self.head.hidden:
            check_dimension(f"{dense.A.name} reads", dense.A.columns, what, width or 0)
            width, what = dense.A.rows, f"{dense.A.name} gives"
        check_dimension("V reads", self.head.V.columns, what, width or 0)

    @property
    def K(self) -> int:
        """d_y, the number of classes."""
        return self.head.rows

    def margin_form(self) -> MarginForm:
        """The same margins with the head written in K−1 rows.

        The margin ignores a row common to V's rows, so V may be replaced by its part orthogonal to
        the constant vector, written in an orthonormal basis of that subspace: (K−1) d_h parameters,
        and a norm that is not larger. Where V is pooled, the pooling map is so replaced, and V
        stays.
        """
        head, b, V = self.head, self.head.b, self.head.V
        if b is not None:
            b = Block(b.name, _centred(b.value), "euclidean")
        if head.pool is not None:
            head = replace(head, b=b, pool=FixedMap(_centred(head.pool.matrix)))
        else:
            V = Block(V.name, _centred(V.value), "spectral", V.zero_columns)
            head = replace(head, V=V, b=b)
        return MarginForm(
            self.layers, head, self.input_kind, self.embedding, self.encoder, self.read
        )

    def description(self) -> dict[str, object]:
        """Everything but the weights, as plain JSON values."""
        plain: dict[str, object] = {
            "input": self.input_kind,
            "embedding": self.embedding is not None,
            "layers": [layer.description() for layer in self.layers],
            "classes": self.K,
            "head_bias": self.head.b is not None,
        }
        if self.encoder:
            plain["encoder"] = [dense.description() for dense in self.encoder]
        if self.head.hidden:
            plain["head_hidden"] = [dense.description() for dense in self.head.hidden]
        if self.head.pool is not None:
            plain["pooled"] = True
        if self.head.V.norm == "operator":
            plain["head_filters"] = [*self.head.V.shape, self.head.V.positions]
        if self.read != "step":
            plain["read"] = self.read
        return plain

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the description and every weight's little-endian float64 bytes."""
        sha = hashlib.sha256(json.dumps(self.description(), sort_keys=True).encode())
        for block in self.blocks():
            sha.update(f"{block.name}:{block.norm}:{block.shape}".encode())
            sha.update(block.value.astype("<f8").tobytes())
            if block.zero_columns:
                sha.update(f"zero:{block.zero_columns}".encode())
        if self.head.pool is not None:
            sha.update(self.head.pool.matrix.astype("<f8").tobytes())
        return sha.hexdigest()


def vanilla(
    U: Any,
    W: Any,
    V: Any,
    *,
    b: Any = None,
    b_V: Any = None,
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
    validation.word("input_kind", input_kind, ("onehot", "real"))
    blocks = {
        "U": Block("U", U, "spectral"),
        "W": Block("W", W, "column" if input_kind == "onehot" else "spectral"),
    }
    if b is not None:
        blocks["b"] = Block("b", b, "euclidean")
    head_bias = None if b_V is None else Block("b_V", b_V, "euclidean")
    head = Head(Block("V", V, "spectral"), head_bias)
    return Network((Layer("vanilla", blocks, activation),), head, input_kind)


def _centred(rows: Array) -> Array:
    """(K, …) → (K−1, …): the part orthogonal to the constant vector, in Helmert's basis.

    By differences: however large a part the rows share, roundings are small beside what is left.
    """
    K = len(rows)
    found: Array = np.stack(
        [(rows[:j] - rows[j]).sum(axis=0) / np.sqrt(j * (j + 1.0)) for j in range(1, K)]
    )
    return found


def margin_basis(K: int) -> Array:
    """(K, K−1) matrix with orthonormal columns, all orthogonal to the constant vector (Helmert).

    Row z less row j is the functional of the margin form's output that is y_z − y_j.
    """
    basis = np.zeros((K, K - 1))
    for j in range(1, K):
        basis[:j, j - 1] = 1.0 / np.sqrt(j * (j + 1.0))
        basis[j, j - 1] = -j / np.sqrt(j * (j + 1.0))
    return basis


def _check_norms(network: Network) -> None:
    """What reads vectors is measured in the spectral norm, what reads tokens in the column norm."""
    readers: set[int] = set()
    if network.embedding is not None:
        readers = {id(network.embedding)}
    elif network.input_kind == "onehot":
        first = network.layers[0]
        readers = {id(network.encoder[0].A)} if network.encoder else {
            id(layer.blocks[f"W{gate}"]) for layer in first.directions for gate in layer.gates
        }  # fmt: skip
    for block in network.blocks():
        matrix: Norm = "column" if id(block) in readers else "spectral"
        axes = block.value.ndim
        allowed: Norm = matrix if axes == 2 else "euclidean" if axes == 1 else "operator"
        if block.norm != allowed or (axes == 3 and id(block) in readers):
            raise InputError(
                f"block {block.name} is measured in the {block.norm} norm but is used in a way "
                f"that only the {allowed if axes < 3 else 'column'} norm bounds; declare it so"
            )
