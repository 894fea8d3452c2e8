"""Tensors as torch names and stores them: fused gates taken apart, descriptions guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import InputError, UnsupportedModelError, an
from recert.networks.cells import CELLS
from recert.readers.weights.description import FORMAT, VERSION

Array = NDArray[np.float64]
Shapes = Mapping[str, tuple[int, ...]]

# The gates in the order in which torch stacks their rows.
STACKED = {"vanilla": ("",), "gru": ("_r", "_z", "_n"), "lstm": ("_r", "_g", "_c", "_o")}
_BY_GATES = {len(gates): cell for cell, gates in STACKED.items()}
_HH = re.compile(r"(?P<module>.*?)weight_hh(_l(?P<index>\d{1,6}))?(?P<reverse>_reverse)?")
_ENCODER = re.compile(r"(^|[._])(enc|encoder|pre|first|input|in)([._\d]|$)")


def roles_of(
    cell: str, W: Array, U: Array, biases: tuple[Array, Array] | None, P: Array | None = None
) -> dict[str, Array]:
    """Blocks by role from torch's fused tensors, gate by gate in the order of its gates.

    Both biases are summed, except those of a GRU's n, one of which stands inside the reset.

    Args:
        cell: ``"vanilla"``, ``"gru"`` or ``"lstm"``.
        W: weight_ih, (G·d_h, d_in).
        U: weight_hh, (G·d_h, d_out).
        biases: bias_ih and bias_hh, (G·d_h,), or None.
        P: weight_hr, (d_out, d_h), or None.

    Raises:
        InputError: the rows are not those of the cell's gates.
    """
    gates = STACKED[cell]
    rows = len(U)
    if U.ndim != 2 or W.ndim != 2 or rows == 0 or rows % len(gates) or len(W) != rows:
        raise InputError(
            f"shapes do not fit: weight_ih {W.shape} and weight_hh {U.shape} of {an(cell)} cell "
            f"must both have {len(gates)} rows for each of its units; check the cell"
        )
    if biases is not None and any(b.shape != (rows,) for b in biases):
        raise InputError(
            f"shapes do not fit: both biases of {an(cell)} cell must have {rows} entries"
        )
    roles: dict[str, Array] = {}
    for gate in CELLS[cell].gates:
        k = gates.index(gate)
        part = slice(k * rows // len(gates), (k + 1) * rows // len(gates))
        roles[f"U{gate}"], roles[f"W{gate}"] = U[part], W[part]
        if biases is not None:
            b_ih, b_hh = biases[0][part], biases[1][part]
            apart = cell == "gru" and gate == "_n"
            roles[f"b{gate}"] = b_ih if apart else b_ih + b_hh
            if apart:
                roles["b_hn"] = b_hh
    return roles if P is None else roles | {"P": P}


def fused_roles(
    cell: str,
    module: str,
    index: int | None,
    reverse: bool,
    names: Mapping[str, Any],
    take: Callable[[str], Array],
) -> dict[str, Array]:
    """`roles_of` the tensors of a torch module's layer in one direction.

    Args:
        cell: as in `roles_of`.
        module: dotted name, ``""`` for none.
        index: of the layer; None for an nn.*Cell.
        reverse: whether it is the backward direction.
        names: the tensors that are there.
        take: gives a tensor, or raises FileError.
    """
    before = f"{module}." if module else ""
    after = ("" if index is None else f"_l{index}") + ("_reverse" if reverse else "")
    W, U = take(f"{before}weight_ih{after}"), take(f"{before}weight_hh{after}")
    both = tuple(f"{before}bias_{which}{after}" for which in ("ih", "hh"))
    biases = (take(both[0]), take(both[1])) if any(name in names for name in both) else None
    projection = f"{before}weight_hr{after}"
    return roles_of(cell, W, U, biases, take(projection) if projection in names else None)


def suggestion(shapes: Shapes, *, ordered: bool) -> dict[str, Any]:
    """The description that a file's tensors most likely need, guessed from names and shapes.

    Args:
        shapes: of all tensors.
        ordered: whether they come in the order in which the model holds them.

    Raises:
        UnsupportedModelError: a recurrent layer has as many gates as no known cell.
    """
    if not ordered:
        shapes = {name: shapes[name] for name in sorted(shapes, key=_natural)}
    layers, width, d_in = _layers(shapes)
    description: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "input": "onehot",
        "read": "step",
        "embedding": None,
        "layers": layers,
    }
    dense = [n for n in shapes if len(shapes[n]) == 2 and not re.search(r"weight_[ih][hr]", n)]
    embedding = _embedding(shapes, dense, d_in)
    if embedding is not None:
        description["embedding"] = embedding
        dense.remove(embedding)
        d_in = shapes[embedding][1]
    encoder = _encoder(shapes, dense, d_in, ordered=ordered)
    if encoder is not None:
        description["encoder"] = [_dense(encoder, shapes)]
        description["input"] = "onehot" if embedding else "real"
        dense.remove(encoder)
    description["head"] = _head(_chain(shapes, dense, width), shapes)
    return description


def lacking(entry: Mapping[str, Any], shapes: Shapes) -> str:
    """What a guessed description names and the file does not hold, in words; empty if nothing."""
    if not any(name.endswith("weight") or _HH.fullmatch(name) for name in shapes):
        return ""  # names that are not torch's say nothing
    if not any(_HH.fullmatch(name) for name in shapes):
        return "no recurrent layer as torch names them"
    if entry["head"]["V"] not in shapes:
        return "no matrix that reads what the recurrent layers give (a head)"
    return ""


def _layers(shapes: Shapes) -> tuple[list[dict[str, Any]], int | None, int | None]:
    """Entries of the recurrent layers, the width of what they give out and of what they read."""
    found = [m for name in shapes if (m := _HH.fullmatch(name)) and len(shapes[name]) == 2]
    modules = list(dict.fromkeys(m["module"] for m in found))
    if not modules:
        return [{"cell": "vanilla", "activation": "tanh", "torch": "rnn", "index": 0}], None, None
    ordered = sorted(
        (m for m in found if not m["reverse"]),
        key=lambda m: (modules.index(m["module"]), int(m["index"] or 0)),
    )
    entries: list[dict[str, Any]] = []
    width = d_in = None
    for m in ordered:
        name = m[0]
        module, index = m["module"].removesuffix("."), m["index"]
        both = f"{name}_reverse" in shapes
        entries.append(
            _cell(name, shapes)
            | {"torch": module, "index": None if index is None else int(index)}
            | ({"bidirectional": True} if both else {})
        )
        reads = shapes.get(name.replace("weight_hh", "weight_ih"), (0,))[-1]
        d_in = reads if d_in is None else d_in
        width = shapes[name][1] * (2 if both else 1)
    return entries, width, d_in


def _cell(name: str, shapes: Shapes) -> dict[str, Any]:
    """Cell and activation by the number of gates in weight_hh's rows."""
    rows, units = shapes[name]
    projection = shapes.get(name.replace("weight_hh", "weight_hr"), ())
    if len(projection) == 2:
        units = projection[1]
    cell = _BY_GATES.get(rows // units) if units and rows % units == 0 else None
    if cell is None or (projection and cell != "lstm"):
        raise UnsupportedModelError(
            f"{name!r} has shape {shapes[name]}, which is that of no nn.RNN, nn.GRU or nn.LSTM; "
            "describe the network by hand (recert.readers.weights.description says how)"
        )
    return {"cell": cell} | ({"activation": "tanh"} if cell == "vanilla" else {})


def _embedding(shapes: Shapes, dense: list[str], d_in: int | None) -> str | None:
    """A table without a bias that is called an embedding, or is as wide as the first layer."""
    alone = [n for n in dense if n.endswith("weight") and _bias(n) not in shapes]
    called = [n for n in alone if "emb" in n.lower()]
    fitting = [n for n in alone if shapes[n][1] == d_in and len(dense) > 1]
    return next(iter([*called, *fitting]), None)


def _encoder(shapes: Shapes, dense: list[str], d_in: int | None, *, ordered: bool) -> str | None:
    """A dense layer before the recurrent ones, told by its name or by standing before them."""
    order = list(shapes)
    first = next((k for k, name in enumerate(order) if _HH.fullmatch(name)), 0) if ordered else 0
    before = (n for n in dense if order.index(n) < first or _ENCODER.search(n))
    found = next((n for n in before if shapes[n][0] == d_in), None)
    return found if len(dense) > 1 else None


def _natural(name: str) -> list[tuple[int, str]]:
    """Names in the order in which numbers in them count."""
    parts = re.split(r"([0-9]{1,9})", name)
    return [(int(part), "") if k % 2 else (-1, part) for k, part in enumerate(parts)]


def _chain(shapes: Shapes, dense: list[str], width: int | None) -> list[str]:
    """Dense layers each of which reads what the one before gives, from the recurrent output on."""
    left, chain = list(dense), []
    while found := [n for n in left if shapes[n][1] == width]:
        # With as many outputs as inputs, a layer may come before any other.
        name = next((n for n in found if shapes[n][0] == width), found[0])
        chain.append(name)
        left.remove(name)
        width = shapes[name][0]
    return chain


def _head(chain: list[str], shapes: Shapes) -> dict[str, Any]:
    *hidden, last = chain or ["head.weight"]
    head: dict[str, Any] = {"V": last}
    if _bias(last) in shapes:
        head["b_V"] = _bias(last)
    if hidden:
        head["hidden"] = [_dense(name, shapes) for name in hidden]
    if shapes.get(last, (0,))[0] == 1:
        head["single_logit"] = True
    return head


def _dense(name: str, shapes: Shapes) -> dict[str, Any]:
    bias = _bias(name)
    return {"A": name, "b": bias if bias in shapes else None, "activation": "relu"}


def _bias(name: str) -> str:
    return name.removesuffix("weight") + "bias"
