"""The JSON description beside a file of weights: which tensor plays which part.

Version 2; every key of version 1 means the same and is still read::

    {"format": "recert-network", "version": 2, "input": "onehot", "read": "step",
     "embedding": "embed.weight",
     "encoder": [{"A": "first.weight", "b": "first.bias", "activation": "relu"}],
     "layers": [{"cell": "vanilla", "activation": "tanh", "U": "rnn.weight_hh_l0",
                 "W": "rnn.weight_ih_l0", "b": ["rnn.bias_ih_l0", "rnn.bias_hh_l0"]}],
     "head": {"hidden": [{"A": "mid.weight", "b": "mid.bias", "activation": "tanh"}],
              "V": "last.weight", "b_V": "last.bias"}}

Only ``format``, ``version``, ``input``, ``layers`` and ``head`` are required; any part may be null
or absent where the network has none. A list of names is a sum. A layer names the tensor of every
role that its cell has (`recert.networks.cells.CELLS`: ``U_r``, ``W_r``, ``b_r``, …, ``P``);
``cell`` and ``activation`` may also stand at the top, for all layers. A layer in two directions is
``{"forward": {…}, "backward": {…}}``.

Tensors that torch fused are named by their module and read in torch's order of gates::

    {"cell": "lstm", "torch": "rnn", "index": 0, "bidirectional": true}

means rnn.weight_ih_l0, rnn.weight_hh_l0, both biases and rnn.weight_hr_l0 where they are there, and
the same with _reverse. ``"index": null`` means the tensors of an nn.RNNCell, nn.GRUCell or
nn.LSTMCell (rnn.weight_ih, …); ``"torch": ""`` those that have no module's name before them. The
cells are ``vanilla``, ``gru`` and ``lstm``.

In the head, ``pool`` names a fixed matrix after V (no parameter), and ``"single_logit": true`` says
that V has one row v, the log odds of class 1: it is read as the two rows −v/2, v/2.

Further keys: ``positions`` ({tensor: number of positions on which that filter bank acts}),
``embedding_layout`` (``"tokens_first"``, the default and as torch stores it, or ``"tokens_last"``),
``zero_columns`` ({tensor: [columns that are zero in every network of the class]}), ``block_names``
(``"tensors"``: blocks are called as their tensors), ``digest`` (of the Network, checked), ``meta``
(anything; not read).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recert.errors import FileError, InputError
from recert.networks.blocks import Block
from recert.networks.layers import Bidirectional, Dense, Layer
from recert.networks.network import Network
from recert.utils.files import CONTROL, parse_json, texts
from recert.utils.validation import short

FORMAT, VERSION, READ_VERSIONS = "recert-network", 2, (1, 2)
MOST_BYTES = 1_000_000
NAMES = (str, list, type(None))
_KEYS = {
    "format": str,
    "version": int,
    "cell": str,
    "activation": str,
    "input": str,
    "read": str,
    "layers": list,
    "head": dict,
    "encoder": (list, type(None)),
    "embedding": (str, type(None)),
    "embedding_layout": str,
    "positions": dict,
    "zero_columns": dict,
    "block_names": str,
    "digest": str,
    "meta": dict,
}
_REQUIRED = ("format", "version", "input", "layers", "head")


def parse(raw: bytes, where: str) -> dict[str, Any]:
    """A description from a JSON file's bytes, its keys and types checked.

    Raises:
        FileError: not JSON, too large, or not a description of a version that is read.

    """
    if len(raw) > MOST_BYTES:
        raise FileError(f"{where} is larger than {MOST_BYTES} bytes; a description is a short JSON")
    try:
        value = parse_json(raw)
    except ValueError as error:
        raise FileError(f"{where} is not readable JSON ({error}); write it anew") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise FileError(f'{where} is not a description of a network; it needs "format": "{FORMAT}"')
    if type(value.get("version")) is not int or value["version"] not in READ_VERSIONS:
        raise FileError(
            f"{where} has version {value.get('version')!r} and this recert reads "
            f"{' and '.join(map(str, READ_VERSIONS))}; save the network with this version of recert"
        )
    check_keys(value, _KEYS, where)
    names = {key: inner for key, inner in value.items() if key != "meta"}
    if any(CONTROL.search(text) for text in texts(names)):
        raise FileError(f"{where} has control characters in a name; rename that tensor")
    missing = [key for key in _REQUIRED if key not in value]
    if missing:
        raise FileError(f"{where} lacks {missing[0]!r}; add it")
    return value


def describe(network: Network, meta: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The description of a network whose tensors are called as its blocks."""
    description: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "input": network.input_kind,
        "read": network.read,
        "embedding": None if network.embedding is None else network.embedding.name,
        "embedding_layout": "tokens_last",
        "encoder": [_dense(dense) for dense in network.encoder],
        "layers": [_layer(layer) for layer in network.layers],
        "head": _head(network),
        "block_names": "tensors",
        "digest": network.digest,
    }
    blocks = list(network.blocks())
    positions = {b.name: b.positions for b in blocks if b.norm == "operator"}
    zero = {b.name: list(map(int, b.zero_columns)) for b in blocks if b.zero_columns}
    if positions:
        description["positions"] = positions
    if zero:
        description["zero_columns"] = zero
    if meta is not None:
        if not isinstance(meta, Mapping):
            raise InputError(f"meta is {short(meta)}; it must be a mapping of plain values")
        description["meta"] = dict(meta)
    return description


def tensors_of(network: Network) -> dict[str, Any]:
    """The arrays that go with `describe`, by name."""
    arrays: dict[str, Any] = {block.name: block.value for block in network.blocks()}
    if network.head.pool is not None:
        arrays[_pool_name(network)] = network.head.pool.matrix
    return arrays


def to_bytes(description: Mapping[str, Any]) -> bytes:
    """A description as JSON; InputError if ``meta`` holds what JSON cannot."""
    try:
        raw = (json.dumps(description, indent=2, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"meta cannot be written as JSON ({error}); use plain values") from None
    if len(raw) > MOST_BYTES:
        raise InputError(f"meta makes the description larger than {MOST_BYTES} bytes; shorten it")
    return raw


def choice(description: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> Any:
    """The value of a key among those allowed, the first by default."""
    value = description.get(key, allowed[0])
    if value not in allowed:
        raise FileError(f"{key!r} is {value!r} in the description; choose {' or '.join(allowed)}")
    return value


def check_keys(entry: Any, types: Mapping[str, Any], where: str) -> None:
    """FileError unless this is an object with some of these keys and values of these types."""
    if not isinstance(entry, dict):
        raise FileError(f"{where} must be a JSON object with {', '.join(types)}")
    for key, value in entry.items():
        if key not in types:
            raise FileError(f"{where} has an unknown key {key!r}; the keys are {', '.join(types)}")
        allowed = types[key] if isinstance(types[key], tuple) else (types[key],)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise FileError(f"{where}: {key!r} has the wrong type ({type(value).__name__})")


def _layer(layer: Layer | Bidirectional) -> dict[str, Any]:
    if isinstance(layer, Bidirectional):
        return {"forward": _layer(layer.forward), "backward": _layer(layer.backward)}
    names = {role: block.name for role, block in layer.blocks.items()}
    return {"cell": layer.cell, "activation": layer.activation} | names


def _dense(dense: Dense) -> dict[str, Any]:
    return {"A": dense.A.name, "b": _name(dense.b), "activation": dense.activation}


def _head(network: Network) -> dict[str, Any]:
    head = network.head
    entry: dict[str, Any] = {"V": head.V.name, "b_V": _name(head.b)}
    if head.hidden:
        entry["hidden"] = [_dense(dense) for dense in head.hidden]
    if head.pool is not None:
        entry["pool"] = _pool_name(network)
    return entry


def _name(block: Block | None) -> str | None:
    return None if block is None else block.name


def _pool_name(network: Network) -> str:
    """A name that no block has."""
    taken = {block.name for block in network.blocks()}
    name = "pool"
    while name in taken:
        name += "_"
    return name
