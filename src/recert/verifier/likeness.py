"""Whether a certificate describes the model that was passed, and not another with its weights.

Weights do not say how they are used: a GRU and its original form, or tanh and ReLU, may share every
array. So the model's own structure is read off its parts and held against what is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recert.verifier.record import Record, Sheet

# Keys of a certificate's network that describe its structure, and enter its digest.
DESCRIPTION = (
    "input", "embedding", "layers", "classes", "head_bias", "encoder", "head_hidden", "pooled",
    "head_filters", "read",
)  # fmt: skip


def check(record: Record, network: Any, sheet: Sheet) -> bool:
    """The model's description, and of every block its place, norm, shape and fixed columns."""
    said = record.data["network"]
    own = dict(network.description())
    recorded = {key: said[key] for key in DESCRIPTION if key in said}
    fits = sheet.holds("network", recorded == own, recorded, own, "re-measured")
    rows = {row["name"]: _recorded(row) for row in said["blocks"]}
    places = {id(block): place for place, block in _places(network)}
    found = {block.name: _found(block, places[id(block)]) for block in network.blocks()}
    names = list(rows) == list(found)
    fits &= sheet.holds("network.blocks", names, list(rows), list(found), "re-measured")
    for name, facts in found.items():
        if name in rows:
            same = rows[name] == facts
            where = "network.blocks" if same else f"network.blocks.{name}"
            fits &= sheet.holds(where, same, rows[name], facts, "re-measured")
    return fits


def _recorded(row: Mapping[str, Any]) -> dict[str, Any]:
    zero = sorted(set(row.get("zero_columns", ())))
    return {
        "role": row["role"], "norm": row["norm"], "shape": list(row["shape"]),
        "zero_columns": zero, "positions": row.get("positions", 1),
    }  # fmt: skip


def _found(block: Any, place: str) -> dict[str, Any]:
    zero = sorted({int(column) for column in block.zero_columns})
    return {
        "role": place, "norm": block.norm, "shape": [int(n) for n in block.value.shape],
        "zero_columns": zero, "positions": int(block.positions),
    }  # fmt: skip


def _places(network: Any) -> Iterator[tuple[str, Any]]:
    """Every block with the part that it plays."""
    if network.embedding is not None:
        yield "embedding", network.embedding
    for k, layer in enumerate(network.layers):
        ways = layer.directions
        for way, cell in zip(("forward.", "backward.") if len(ways) == 2 else ("",), ways,
                             strict=True):  # fmt: skip
            for role, block in cell.blocks.items():
                yield f"layers.{k}.{way}{role}", block
    for where, chain in (("encoder", network.encoder), ("head.hidden", network.head.hidden)):
        for k, dense in enumerate(chain):
            yield f"{where}.{k}.A", dense.A
            if dense.b is not None:
                yield f"{where}.{k}.b", dense.b
    yield "head.V", network.head.V
    if network.head.b is not None:
        yield "head.b", network.head.b
