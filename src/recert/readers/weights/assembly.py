"""From a description and a file's tensors to a Network: every tensor has one part or is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import FileError, InputError, RecertError, UnsupportedModelError
from recert.networks.blocks import Block, FixedMap, Norm
from recert.networks.cells import CELLS
from recert.networks.layers import Bidirectional, Dense, Layer, layer_of, suffix_of
from recert.networks.network import Head, InputKind, Network
from recert.readers.weights import state_dicts
from recert.readers.weights.description import NAMES, check_keys, choice

Array = NDArray[np.float64]
Tensors = Mapping[str, Array]

# Positions of a filter bank, and entries of the fixed maps that a convolutional layer builds.
MOST_POSITIONS, MOST_ENTRIES = 1 << 16, 1 << 27
_FUSED = {
    "cell": str,
    "activation": str,
    "torch": str,
    "index": (int, type(None)),
    "bidirectional": bool,
}
_HEAD = {
    "V": (str, list),
    "b_V": NAMES,
    "hidden": (list, type(None)),
    "pool": (str, type(None)),
    "single_logit": bool,
}


def network_from(description: Mapping[str, Any], tensors: Tensors, where: str) -> Network:
    """The Network that a description makes of a file's tensors.

    Args:
        description: from `recert.readers.weights.description.parse`.
        tensors: float64 arrays by name.
        where: the weights' file, for messages.

    Raises:
        FileError: a tensor is missing or has no part, a value's type is wrong, digests differ.
        InputError: weights are not finite or their shapes do not fit.
        UnsupportedModelError: a cell or activation that is not covered.

    """
    try:
        network = _Reader(description, tensors).network()
    except RecertError as error:
        raise type(error)(f"{where}: {error}") from None
    if description.get("digest") not in (None, network.digest):
        raise FileError(
            f"{where}: its weights are not those that the description was saved with (the digests "
            "differ); save the network again"
        )
    return network


def two_rows(V: Array, b: Array | None) -> tuple[Array, Array | None]:
    """One logit, the log odds of class 1, as the two rows −v/2 and v/2, and so its bias.

    Raises:
        InputError: there is another number of rows than one.
    """
    if len(V) != 1:
        raise InputError(
            f'a single logit needs one row in the head, V has {len(V)}; drop "single_logit"'
        )
    return np.concatenate([-V / 2, V / 2]), None if b is None else np.concatenate([-b / 2, b / 2])


class _Reader:
    """Takes tensors one by one and in the end refuses what nobody took."""

    def __init__(self, description: Mapping[str, Any], tensors: Tensors) -> None:
        self.description, self.tensors = description, tensors
        self.used: set[str] = set()
        self.by_tensor = choice(description, "block_names", ("letters", "tensors")) == "tensors"
        self.zero_columns: Mapping[str, Any] = description.get("zero_columns", {})
        self.positions: Mapping[str, Any] = description.get("positions", {})

    def network(self) -> Network:
        kind: InputKind = choice(self.description, "input", ("onehot", "real"))
        read = choice(self.description, "read", ("step", "final", "mean"))
        embedding = self.embedding()
        reads_tokens = embedding is None and kind == "onehot"
        entries = self.description.get("encoder") or []
        encoder = self.dense(entries, "encoder", "F", reads_tokens)
        reads_tokens = reads_tokens and not encoder
        entries = self.description["layers"]
        layers = tuple(
            self.layer(entry, k, len(entries), reads_tokens and k == 0)
            for k, entry in enumerate(entries)
        )
        network = Network(layers, self.head(), kind, embedding, encoder, read)
        self.check_all_used()
        return network

    def check_all_used(self) -> None:
        unused = sorted(set(self.tensors) - self.used)
        if unused:
            raise FileError(
                f"tensor {unused[0]!r} has no part in the description; name its part, or remove it "
                "from the file if it is unused"
            )
        for key, named in (("zero_columns", self.zero_columns), ("positions", self.positions)):
            stray = sorted(set(named) - self.used)
            if stray:
                raise FileError(f"{key} names {stray[0]!r}, which is no tensor of the network")

    def layer(self, entry: Any, index: int, count: int, tokens: bool) -> Layer | Bidirectional:
        where = f"layers[{index}]"
        forward = suffix_of(index, count)
        backward = suffix_of(index, count, reverse=True)
        if isinstance(entry, dict) and "torch" in entry:
            check_keys(entry, _FUSED, where)
            first = self.fused(entry, where, forward, tokens, reverse=False)
            if not entry.get("bidirectional", False):
                return first
            return Bidirectional(first, self.fused(entry, where, backward, tokens, reverse=True))
        if isinstance(entry, dict) and {"forward", "backward"} & set(entry):
            check_keys(entry, {"forward": dict, "backward": dict}, where)
            if len(entry) < 2:
                raise FileError(f"{where} has one of 'forward' and 'backward'; name both or none")
            return Bidirectional(
                self.direction(entry["forward"], f"{where}.forward", forward, tokens),
                self.direction(entry["backward"], f"{where}.backward", backward, tokens),
            )
        return self.direction(entry, where, forward, tokens)

    def cell(self, entry: Mapping[str, Any]) -> tuple[str, str]:
        """Cell and activation of a layer; the top's activation is for cells that have a choice."""
        cell = entry.get("cell", self.description.get("cell", "vanilla"))
        if not isinstance(cell, str) or cell not in CELLS:
            raise UnsupportedModelError(
                f"cell {cell!r} is not covered; the cells are {', '.join(CELLS)}"
            )
        return cell, entry.get("activation", self.description.get("activation", "tanh"))

    def direction(self, entry: Any, where: str, suffix: str, tokens: bool) -> Layer:
        if not isinstance(entry, dict):
            raise FileError(f"{where} must be a JSON object with the layer's cell and tensors")
        cell, activation = self.cell(entry)
        roles = CELLS[cell].roles
        check_keys(entry, {"cell": str, "activation": str} | dict.fromkeys(roles, NAMES), where)
        missing = [role for role in CELLS[cell].needed if entry.get(role) is None]
        if missing:
            raise FileError(f"{where} lacks {missing[0]!r}, the name of its tensor; add it")
        blocks = {
            role: self.block(entry[role], f"{role}{suffix}", where, tokens and role[0] == "W")
            for role in entry
            if role in roles and entry[role] is not None
        }
        if CELLS[cell].filters:
            _check_size(blocks["U"], where, square=CELLS[cell].filters == "averaged")
        return Layer(cell, blocks, activation)

    def fused(
        self, entry: Mapping[str, Any], where: str, suffix: str, tokens: bool, *, reverse: bool
    ) -> Layer:
        cell, activation = self.cell(entry)
        if cell not in state_dicts.STACKED:
            raise FileError(
                f'{where}: torch has no {cell} cell; with "torch" the cells are '
                f"{', '.join(state_dicts.STACKED)}"
            )
        index = entry.get("index", 0)
        if index is None and entry.get("bidirectional", False):
            raise FileError(f"{where}: a torch cell without 'index' has one direction")
        values = state_dicts.fused_roles(
            cell,
            entry["torch"],
            index,
            reverse,
            self.tensors,
            lambda name: self.take(name, where),
        )
        return layer_of(cell, values, suffix=suffix, reads_tokens=tokens, activation=activation)

    def dense(
        self, entries: list[Any], part: str, letter: str, tokens: bool = False
    ) -> tuple[Dense, ...]:
        found = []
        for k, entry in enumerate(entries):
            where, suffix = f"{part}[{k}]", suffix_of(k, len(entries))
            check_keys(entry, {"A": (str, list), "b": NAMES, "activation": str}, where)
            if "A" not in entry:
                raise FileError(f"{where} lacks 'A', the name of its tensor; add it")
            A = self.block(entry["A"], f"{letter}{suffix}", where, tokens and k == 0)
            b = self.optional(entry.get("b"), f"b_{letter}{suffix}", where)
            found.append(Dense(A, b, entry.get("activation", "identity")))
        return tuple(found)

    def head(self) -> Head:
        entry = self.description["head"]
        check_keys(entry, _HEAD, "head")
        if "V" not in entry:
            raise FileError("head lacks 'V', the name of the read-out's tensor; add it")
        hidden = self.dense(entry.get("hidden") or [], "head.hidden", "G")
        V, b = self.block(entry["V"], "V", "head"), self.optional(entry.get("b_V"), "b_V", "head")
        pool = self.pool(entry.get("pool"))
        if entry.get("single_logit", False):
            if pool is not None or V.norm != "spectral":
                raise InputError("a single logit is read by a matrix V with one row and no pool")
            rows, bias = two_rows(V.value, None if b is None else b.value)
            V = Block(V.name, rows, V.norm, V.zero_columns, V.positions)
            b = None if b is None or bias is None else Block(b.name, bias, b.norm)
        elif pool is None and V.rows == 1:
            raise InputError(
                'the head has one row; if that is the log odds of class 1 say "single_logit": true '
                "in the head, otherwise it is no classifier"
            )
        return Head(V, b, hidden, pool)

    def pool(self, name: str | None) -> FixedMap | None:
        if name is None:
            return None
        matrix = self.take(name, "head.pool")
        if matrix.ndim != 2 or matrix.size == 0 or not np.isfinite(matrix).all():
            raise InputError(f"pool {name!r} must be a matrix of finite numbers; repair the file")
        return FixedMap(matrix)

    def embedding(self) -> Block | None:
        name = self.description.get("embedding")
        layout = choice(self.description, "embedding_layout", ("tokens_first", "tokens_last"))
        if name is None:
            return None
        return self.block(name, "E", "embedding", True, transpose=layout == "tokens_first")

    def optional(self, names: Any, letter: str, where: str) -> Block | None:
        return None if names is None else self.block(names, letter, where)

    def block(
        self, names: Any, letter: str, where: str, tokens: bool = False, *, transpose: bool = False
    ) -> Block:
        names = [names] if isinstance(names, str) else names
        if not names or not all(isinstance(name, str) for name in names):
            raise FileError(f"{where}: {names!r} names no tensor; give a name or a list of names")
        values = [self.take(name, where) for name in names]
        if len({value.shape for value in values}) > 1:
            raise InputError(
                f"{where}: {' and '.join(names)} are summed but differ in shape; name what belongs "
                "together"
            )
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and ∞ are refused by the block
            value = np.add.reduce(values)
        norms: dict[int, Norm] = {1: "euclidean", 2: "column" if tokens else "spectral"}
        norm = norms.get(value.ndim, "operator")
        name = names[0] if self.by_tensor else letter
        vector = letter[0] not in "EFGPUVW"
        if value.ndim not in ((1,) if vector else (2, 3)):
            raise InputError(
                f"{where}: {names[0]!r} has {value.ndim} dimensions, expected "
                f"{'1 for a vector' if vector else '2, or 3 for a filter bank'}"
            )
        value = value.T if transpose else value
        return Block(name, value, norm, self.zeros(names[0]), self.acts_on(names[0]))

    def take(self, name: str, where: str) -> Array:
        if name not in self.tensors:
            there = ", ".join(sorted(self.tensors)[:12]) or "no tensor"
            raise FileError(
                f"tensor {name!r} of {where} is not in the file, which holds {there}; "
                "correct the name, or join the files that the weights were split into"
            )
        if name in self.used:
            raise FileError(f"tensor {name!r} is named twice in the description; give it one part")
        self.used.add(name)
        return self.tensors[name]

    def zeros(self, name: str) -> tuple[int, ...]:
        columns = self.zero_columns.get(name, [])
        if not isinstance(columns, list) or not all(type(c) is int for c in columns):
            raise FileError(f"zero_columns of {name!r} must be a list of column numbers")
        return tuple(sorted(set(columns)))

    def acts_on(self, name: str) -> int:
        positions = self.positions.get(name, 1)
        if type(positions) is not int or not 1 <= positions <= MOST_POSITIONS:
            raise FileError(f"positions of {name!r} must be a whole number from 1 on")
        return positions


def _check_size(U: Block, where: str, *, square: bool) -> None:
    """InputError where the declared positions would make a layer's fixed maps huge."""
    channels, positions = U.shape[0], U.positions
    if (channels * positions**2 if square else channels**2 * positions) > MOST_ENTRIES:
        raise InputError(
            f"{where}: {channels} channels on {positions} positions are more than recert handles; "
            "check positions in the description"
        )
