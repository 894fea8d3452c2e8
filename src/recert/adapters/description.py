"""The JSON description beside a file of weights: which tensor plays which part.

Version 1::

    {"format": "recert-network", "version": 1,
     "cell": "vanilla", "activation": "tanh", "input": "onehot",
     "layers": [{"U": "rnn.weight_hh_l0", "W": "rnn.weight_ih_l0",
                 "b": ["rnn.bias_ih_l0", "rnn.bias_hh_l0"]}],
     "head": {"V": "head.weight", "b_V": "head.bias"},
     "embedding": null}

``cell`` and ``activation`` may also stand in a layer. ``b``, ``b_V`` and ``embedding`` may be null
or absent; a list of names is a sum. Further keys: ``embedding_layout`` (``"tokens_first"``, the
default and as torch stores it, or ``"tokens_last"``), ``zero_columns`` ({tensor: [columns that are
zero in every network of the class]}), ``block_names`` (``"tensors"``: blocks are called as their
tensors), ``digest`` (of the Network, checked), ``meta`` (anything; not read).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import FileError, InputError, RecertError
from recert.network import Block, Head, InputKind, Layer, Network, Norm

Array = NDArray[np.float64]
Tensors = Mapping[str, Array]

FORMAT, VERSION = "recert-network", 1
MOST_BYTES = 1_000_000
_KEYS = {
    "format": str,
    "version": int,
    "cell": str,
    "activation": str,
    "input": str,
    "layers": list,
    "head": dict,
    "embedding": (str, type(None)),
    "embedding_layout": str,
    "zero_columns": dict,
    "block_names": str,
    "digest": str,
    "meta": dict,
}
_REQUIRED = ("format", "version", "input", "layers", "head")


def parse(raw: bytes, where: str) -> dict[str, Any]:
    """A description from a JSON file's bytes, its keys and types checked.

    Raises:
        FileError: not JSON, too large, or not a description of this version.

    """
    if len(raw) > MOST_BYTES:
        raise FileError(f"{where} is larger than {MOST_BYTES} bytes; a description is a short JSON")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_distinct_keys)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{where} is not readable JSON ({error}); write it anew") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise FileError(f'{where} is not a description of a network; it needs "format": "{FORMAT}"')
    if value.get("version") != VERSION or isinstance(value["version"], bool):
        raise FileError(
            f"{where} has version {value.get('version')!r} and this recert reads {VERSION}; "
            "save the network with this version of recert"
        )
    _check_keys(value, _KEYS, where)
    missing = [key for key in _REQUIRED if key not in value]
    if missing:
        raise FileError(f"{where} lacks {missing[0]!r}; add it")
    return value


def network_from(description: Mapping[str, Any], tensors: Tensors, where: str) -> Network:
    """The Network that a description makes of a file's tensors.

    Args:
        description: from `parse`.
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


def describe(network: Network, meta: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The description of a network whose tensors are called as its blocks."""
    head = {"V": network.head.V.name}
    if network.head.b is not None:
        head["b_V"] = network.head.b.name
    layers = [
        {"cell": layer.cell, "activation": layer.activation}
        | {role: block.name for role, block in layer.blocks.items()}
        for layer in network.layers
    ]
    description: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "input": network.input_kind,
        "layers": layers,
        "head": head,
        "embedding": None if network.embedding is None else network.embedding.name,
        "embedding_layout": "tokens_last",
        "block_names": "tensors",
        "digest": network.digest,
    }
    zero = {b.name: list(map(int, b.zero_columns)) for b in network.blocks() if b.zero_columns}
    if zero:
        description["zero_columns"] = zero
    if meta is not None:
        description["meta"] = dict(meta)
    return description


def to_bytes(description: Mapping[str, Any]) -> bytes:
    """A description as JSON; InputError if ``meta`` holds what JSON cannot."""
    try:
        raw = (json.dumps(description, indent=2, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"meta cannot be written as JSON ({error}); use plain values") from None
    if len(raw) > MOST_BYTES:
        raise InputError(f"meta makes the description larger than {MOST_BYTES} bytes; shorten it")
    return raw


class _Reader:
    """Takes tensors one by one and in the end refuses what nobody took."""

    def __init__(self, description: Mapping[str, Any], tensors: Tensors) -> None:
        self.description, self.tensors = description, tensors
        self.used: set[str] = set()
        self.by_tensor = _choice(description, "block_names", ("letters", "tensors")) == "tensors"
        self.zero_columns: Mapping[str, Any] = description.get("zero_columns", {})

    def network(self) -> Network:
        kind: InputKind = _choice(self.description, "input", ("onehot", "real"))
        embedding = self.embedding()
        reads_tokens = embedding is None and kind == "onehot"
        entries = self.description["layers"]
        layers = tuple(
            self.layer(entry, k, len(entries), "column" if reads_tokens and k == 0 else "spectral")
            for k, entry in enumerate(entries)
        )
        network = Network(layers, self.head(), kind, embedding)
        unused = sorted(set(self.tensors) - self.used)
        if unused:
            raise FileError(
                f"tensor {unused[0]!r} has no part in the description; name its part, or remove it "
                "from the file if it is unused"
            )
        stray = sorted(set(self.zero_columns) - self.used)
        if stray:
            raise FileError(f"zero_columns names {stray[0]!r}, which is no tensor of the network")
        return network

    def layer(self, entry: Any, index: int, count: int, norm: Norm) -> Layer:
        where = f"layers[{index}]"
        names = (str, list, type(None))
        keys = {"cell": str, "activation": str, "U": names, "W": names, "b": names}
        _check_keys(entry, keys, where)
        suffix = "" if count == 1 else str(index)
        blocks = {}
        for role in entry:
            if role not in ("cell", "activation") and entry[role] is not None:
                norm_of = {"U": "spectral", "W": norm, "b": "euclidean"}[role]
                blocks[role] = self.block(entry[role], f"{role}{suffix}", norm_of, where)
        cell, activation = (
            entry.get(key, self.description.get(key, default))
            for key, default in (("cell", "vanilla"), ("activation", "tanh"))
        )
        return Layer(cell, blocks, activation) if {"U", "W"} <= set(blocks) else _lacks(where)

    def head(self) -> Head:
        entry = self.description["head"]
        _check_keys(entry, {"V": (str, list), "b_V": (str, list, type(None))}, "head")
        if "V" not in entry:
            raise FileError("head lacks 'V', the name of the read-out's tensor; add it")
        b = entry.get("b_V")
        return Head(
            self.block(entry["V"], "V", "spectral", "head"),
            None if b is None else self.block(b, "b_V", "euclidean", "head"),
        )

    def embedding(self) -> Block | None:
        name = self.description.get("embedding")
        layout = _choice(self.description, "embedding_layout", ("tokens_first", "tokens_last"))
        if name is None:
            return None
        return self.block(name, "E", "column", "embedding", transpose=layout == "tokens_first")

    def block(
        self, names: Any, letter: str, norm: Any, where: str, *, transpose: bool = False
    ) -> Block:
        names = [names] if isinstance(names, str) else names
        if not names or not all(isinstance(name, str) for name in names):
            raise FileError(f"{where}: {names!r} names no tensor; give a name or a list of names")
        values = [self.take(name, where) for name in names]
        if len({value.shape for value in values}) > 1:
            raise InputError(f"{where}: {' and '.join(names)} are summed but differ in shape")
        value = np.add.reduce(values)
        name = names[0] if self.by_tensor else letter
        return Block(name, value.T if transpose else value, norm, self.zeros(names[0]))

    def take(self, name: str, where: str) -> Array:
        if name not in self.tensors:
            there = ", ".join(sorted(self.tensors)[:12]) or "no tensor"
            raise FileError(f"tensor {name!r} of {where} is not in the file, which holds {there}")
        if name in self.used:
            raise FileError(f"tensor {name!r} is named twice in the description; give it one part")
        self.used.add(name)
        return self.tensors[name]

    def zeros(self, name: str) -> tuple[int, ...]:
        columns = self.zero_columns.get(name, [])
        if not isinstance(columns, list) or not all(type(c) is int for c in columns):
            raise FileError(f"zero_columns of {name!r} must be a list of column numbers")
        return tuple(sorted(set(columns)))


def _lacks(where: str) -> Layer:
    raise FileError(f"{where} lacks 'U' or 'W', the names of its tensors; add them")


def _choice(description: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> Any:
    """The value of a key among those allowed, the first by default."""
    value = description.get(key, allowed[0])
    if value not in allowed:
        raise FileError(f"{key!r} is {value!r} in the description; choose {' or '.join(allowed)}")
    return value


def _check_keys(entry: Any, types: Mapping[str, Any], where: str) -> None:
    if not isinstance(entry, dict):
        raise FileError(f"{where} must be a JSON object with {', '.join(types)}")
    for key, value in entry.items():
        if key not in types:
            raise FileError(f"{where} has an unknown key {key!r}; the keys are {', '.join(types)}")
        if not isinstance(value, types[key]):
            raise FileError(f"{where}: {key!r} has the wrong type ({type(value).__name__})")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return entry
