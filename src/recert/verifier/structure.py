"""A network's structure in margin form, read from a certificate's JSON alone.

Blocks are found by their role, shapes are checked against the layers that use them, and the head is
written in K − 1 rows (theory, section 0). Weights play no part here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recert.errors import InputError

# Gates of every cell, and blocks that it may have beside U, W, b of each gate.
GATES = {
    "vanilla": ("",),
    "mgu": ("_r", "_h"),
    "gru": ("_r", "_z", "_n"),
    "gru_original": ("_r", "_z", "_n"),
    "lstm": ("_g", "_r", "_o", "_c"),
    "peephole_lstm": ("_g", "_r", "_o", "_c"),
    "min_gru": ("_z", "_h"),
    "conv": ("",),
    "conv_averaged": ("",),
}
EXTRA = {"gru": "b_hn", "lstm": "P"}
# Blocks that a cell has beside: vectors (d_h,). Cells without U; cells with a second state c.
VECTORS = {"peephole_lstm": {"p_g", "p_r", "p_o"}}
NO_U, WITH_C = ("min_gru",), ("lstm", "peephole_lstm")
# Blocks of the largest network that is read.
MOST = 1000


@dataclass(frozen=True)
class RecordedPart:
    """A block: its name and norm, the dimensions that it maps between, its free parameters."""

    name: str
    role: str
    norm: str
    rows: int
    columns: int
    shape: tuple[int, ...]
    parameters: int
    zero_columns: tuple[int, ...] = ()

    @property
    def entries(self) -> int:
        """The number of entries, always zero ones included."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class RecordedCell:
    """One recurrent layer in one direction."""

    cell: str
    activation: str
    parts: Mapping[str, RecordedPart]

    @property
    def first(self) -> RecordedPart:
        """U of its first gate, or W where it has no U."""
        return self.parts[f"{'W' if self.cell in NO_U else 'U'}{GATES[self.cell][0]}"]

    @property
    def channels(self) -> int:
        """Channels out of a filter bank."""
        return self.first.shape[0]

    @property
    def positions(self) -> int:
        """L of a convolutional cell."""
        return self.first.rows // self.channels

    @property
    def units(self) -> int:
        """d_h."""
        return self.positions if self.cell == "conv_averaged" else self.first.rows

    @property
    def out(self) -> int:
        """Dimension of what it gives out."""
        return self.parts["P"].rows if "P" in self.parts else self.units

    @property
    def states(self) -> tuple[int, ...]:
        """Dimensions of its states, the output's first."""
        return (self.out, self.units) if self.cell in WITH_C else (self.out,)


@dataclass(frozen=True)
class Affine:
    """σ(A v + b)."""

    A: RecordedPart
    b: RecordedPart | None
    activation: str


@dataclass(frozen=True)
class Structure:
    """Everything that the calculus needs to know of a network, in margin form."""

    tokens: bool
    inputs: int
    embedding: RecordedPart | None
    encoder: tuple[Affine, ...]
    layers: tuple[tuple[RecordedCell, ...], ...]
    hidden: tuple[Affine, ...]
    V: RecordedPart
    b: RecordedPart | None
    pool_norm: float | None
    blocks: tuple[RecordedPart, ...]

    @property
    def parameters(self) -> int:
        """P."""
        return sum(part.parameters for part in self.blocks)

    def part(self, name: str) -> RecordedPart:
        """The block of that name."""
        return {part.name: part for part in self.blocks}[name]


def read(network: Mapping[str, Any], *, as_computed: bool = False) -> Structure:
    """The structure that a certificate records; InputError where it contradicts itself.

    In margin form, or as the network computes: then the head has K rows.
    """
    _need(len(network["blocks"]) <= MOST, f"more than {MOST} blocks")
    parts = [_part(row, network, as_computed) for row in network["blocks"]]
    by_role = {part.role: part for part in parts}
    _need(len(by_role) == len(parts), "two blocks play one role")
    _need(len({part.name for part in parts}) == len(parts), "two blocks have one name")
    tokens = network["input"] == "onehot"
    embedding = by_role.get("embedding")
    _need((embedding is not None) == network["embedding"], "embedding")
    encoder = _chain(network.get("encoder", []), "encoder", by_role)
    layers = tuple(_layer(k, row, by_role) for k, row in enumerate(network["layers"]))
    hidden = _chain(network.get("head_hidden", []), "head.hidden", by_role)
    _need("head.V" in by_role, "the head has no V")
    V, b = by_role["head.V"], by_role.get("head.b")
    _need((b is not None) == network["head_bias"], "head_bias")
    pooled = bool(network.get("pooled", False))
    _need(pooled == ("pool_norm" in network), "pool_norm")
    rows = network["classes"] - (0 if as_computed else 1)
    _need(pooled or V.rows == rows, "V has another number of rows than there are classes")
    _need(b is None or b.rows == rows, "b_V has another length than there are classes")
    if "head_filters" in network:
        _need(tuple(network["head_filters"]) == (*V.shape, V.rows // V.shape[0]), "head_filters")
    found = Structure(
        tokens, network["dims"]["d_x"], embedding, encoder, layers, hidden, V, b,
        network.get("pool_norm"), tuple(parts),
    )  # fmt: skip
    _check_chain(found, network)
    _check_norms(found)
    used = {part.role for part in _used(found)}
    _need(used == set(by_role), f"blocks {sorted(set(by_role) - used)} have no place")
    return found


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise InputError(f"network: its description contradicts itself ({what})")


def _part(row: Mapping[str, Any], network: Mapping[str, Any], as_computed: bool) -> RecordedPart:
    """A block, V and b_V of the head in K − 1 rows unless as computed."""
    shape, norm, role = list(row["shape"]), row["norm"], row["role"]
    axes = {"spectral": 2, "column": 2, "euclidean": 1, "operator": 3}[norm]
    _need(len(shape) == axes, f"shape of {row['name']}")
    positions = row.get("positions", 1)
    _need((norm == "operator") == ("positions" in row), f"positions of {row['name']}")
    zero = tuple(sorted(set(row.get("zero_columns", []))))
    _need(not zero or (axes == 2 and zero[-1] < shape[1]), f"zero columns of {row['name']}")
    whole = _free(shape, len(zero))
    _need(row["parameters"] == whole, f"parameters of {row['name']}")
    head = role == "head.b" or (role == "head.V" and not network.get("pooled", False))
    shape[0] -= head and not as_computed
    _need(shape[0] >= 1, f"shape of {row['name']}")
    columns = 1 if axes == 1 else shape[1] * positions
    return RecordedPart(
        row["name"], role, norm, shape[0] * positions, columns, tuple(shape),
        _free(shape, len(zero)), zero,
    )  # fmt: skip


def _free(shape: list[int], zero: int) -> int:
    """Free parameters: all entries but those of columns that are always zero."""
    return shape[0] * (shape[1] - zero) if len(shape) == 2 else math.prod(shape)


def _chain(
    rows: list[Mapping[str, Any]], where: str, by_role: Mapping[str, RecordedPart]
) -> tuple[Affine, ...]:
    found = []
    for k, row in enumerate(rows):
        _need(f"{where}.{k}.A" in by_role, f"{where}.{k}.A is missing")
        A, b = by_role[f"{where}.{k}.A"], by_role.get(f"{where}.{k}.b")
        _need((A.columns, A.rows) == (row["d_in"], row["d_out"]), f"shape of {A.name}")
        _need((b is not None) == row["bias"] and (b is None or b.rows == A.rows), f"{where}.{k}.b")
        found.append(Affine(A, b, row["activation"]))
    return tuple(found)


def _layer(
    k: int, row: Mapping[str, Any], by_role: Mapping[str, RecordedPart]
) -> tuple[RecordedCell, ...]:
    if "cell" in row:
        return (_cell(f"layers.{k}.", row, by_role),)
    return tuple(_cell(f"layers.{k}.{d}.", row[d], by_role) for d in ("forward", "backward"))


def _cell(prefix: str, row: Mapping[str, Any], by_role: Mapping[str, RecordedPart]) -> RecordedCell:
    parts = {
        role[len(prefix) :]: part
        for role, part in by_role.items()
        if role.startswith(prefix) and "." not in role[len(prefix) :]
    }
    name = row["cell"]
    if name not in GATES:
        raise InputError(
            f"network: the verifier has no checker for cell {name!r}; it knows {', '.join(GATES)}"
        )
    letters = "W" if name in NO_U else "UW"
    needed = {f"{letter}{gate}" for gate in GATES[name] for letter in letters}
    needed |= VECTORS.get(name, set())
    allowed = needed | {f"b{gate}" for gate in GATES[name]} | {EXTRA.get(name, "")}
    _need(needed <= set(parts) <= allowed, f"blocks of {prefix[:-1]}")
    cell = RecordedCell(name, row["activation"], parts)
    free = name in ("vanilla", "conv", "conv_averaged")
    _need(cell.activation in (("tanh", "relu") if free else ("tanh",)), "activation of a cell")
    _need((cell.units, cell.out) == (row["d_h"], row.get("d_out", row["d_h"])), "units of a cell")
    _need(row["bias"] == any(role.startswith("b") for role in parts), "biases of a cell")
    _need(not (name == "conv_averaged" and row["bias"]), "a conv_averaged cell has no bias")
    _check_cell(cell, row)
    return cell


def _check_cell(cell: RecordedCell, row: Mapping[str, Any]) -> None:
    maps = cell.cell in ("conv", "conv_averaged")
    for role, part in cell.parts.items():
        if role == "P":
            _need(part.columns == cell.units and part.norm == "spectral", "P of a cell")
            continue
        rows = cell.channels if maps and role.startswith("b") else cell.first.rows
        _need(part.rows == rows, f"rows of {part.name}")
        if role[0] in "bp":
            _need(part.norm == "euclidean", f"norm of {part.name}")
            continue
        _need((part.norm == "operator") == maps, f"norm of {part.name}")
        columns = cell.out if role.startswith("U") else row["d_in"]
        _need(part.columns == columns, f"columns of {part.name}")
        _need(not maps or part.rows // part.shape[0] == cell.positions, "positions of a cell")
    banks = {role: part for role, part in cell.parts.items() if part.norm == "operator"}
    recorded = {role: [*part.shape, cell.positions] for role, part in banks.items()}
    _need(row.get("filters", {}) == recorded, "filters of a cell")


def _check_chain(found: Structure, network: Mapping[str, Any]) -> None:
    """Every part reads what the part below it gives."""
    width = found.inputs
    for part in [] if found.embedding is None else [found.embedding]:
        _need(part.columns == width, "the embedding reads tokens")
        width = part.rows
    for dense in found.encoder:
        _need(dense.A.columns == width, f"{dense.A.name} reads")
        width = dense.A.rows
    for cells in found.layers:
        for cell in cells:
            _need(cell.parts[f"W{GATES[cell.cell][0]}"].columns == width, "a layer reads")
        width = sum(cell.out for cell in cells)
    _need(network["dims"]["d_h"] == width, "d_h")
    for dense in found.hidden:
        _need(dense.A.columns == width, f"{dense.A.name} reads")
        width = dense.A.rows
    _need(found.V.columns == width, "V reads")
    _need(network["dims"]["d_y"] == network["classes"], "d_y")
    _need(network["parameters"] == sum(row["parameters"] for row in network["blocks"]), "P")


def _check_norms(found: Structure) -> None:
    """The column norm bounds only what reads tokens, and what reads tokens needs it."""
    readers: list[RecordedPart] = []
    if found.embedding is not None:
        readers = [found.embedding]
    elif found.tokens and found.encoder:
        readers = [found.encoder[0].A]
    elif found.tokens:
        cells = found.layers[0]
        readers = [cell.parts[f"W{gate}"] for cell in cells for gate in GATES[cell.cell]]
    _need(found.embedding is None or found.tokens, "an embedding reads tokens")
    names = {part.name for part in readers}
    for part in found.blocks:
        _need((part.norm == "column") == (part.name in names), f"norm of {part.name}")
        vector = part.role.rpartition(".")[2][0] in "bp"
        _need(vector == (part.norm == "euclidean"), f"norm of {part.name}")


def _used(found: Structure) -> list[RecordedPart]:
    parts = [found.V] + [p for p in (found.embedding, found.b) if p is not None]
    for dense in (*found.encoder, *found.hidden):
        parts += [dense.A] if dense.b is None else [dense.A, dense.b]
    for cells in found.layers:
        for cell in cells:
            parts += cell.parts.values()
    return parts
