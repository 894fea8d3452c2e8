"""The class of networks: caps on the norms of blocks, declared or measured and paid for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from recert.errors import InputError
from recert.networks.network import Chain, MarginForm
from recert.numerics.union_bound import CAP_GRID, Cost
from recert.utils import validation

# Computed norms carry roundings: caps and input bounds are held up to this factor, and every
# statement is evaluated with caps and input bounds larger by it.
HELD = 1.0 + 1e-12
# A cap of zero is read as this: larger, hence sound, and with a logarithm.
SMALLEST = 1e-250


@dataclass(frozen=True)
class Cap:
    """Caps on one block: its own norm, and where held the row sum and the entrywise ℓ1 norm.

    Raises:
        InputError: a cap is negative, NaN or infinite.
    """

    norm: float
    row: float | None = None
    l1: float | None = None

    def __post_init__(self) -> None:
        for what in ("norm", "row", "l1"):
            value = getattr(self, what)
            if what != "norm" and value is None:
                continue
            remedy = "it must be finite and >= 0"
            found = validation.number(f"cap on the {what}", value, remedy)
            if found < 0:
                raise InputError(f"cap on the {what} is {value}; {remedy}")
            # A float32 would make float32 of whatever it is multiplied with.
            object.__setattr__(self, what, found)


Caps = Mapping[str, Cap] | Mapping[str, float] | Mapping[str, Cap | float]


def complete_caps(network: Chain, caps: Caps | None) -> dict[str, Cap]:
    """A ``Cap`` for every block, in order; InputError for missing or unknown names."""
    if caps is None:
        return {block.name: Cap(block.norm_bound()) for block in network.blocks()}
    names = [block.name for block in network.blocks()]
    if not isinstance(caps, Mapping) or not all(isinstance(name, str) for name in caps):
        raise InputError(f"caps must map block names to norms; the blocks are {names}")
    unknown, missing = sorted(set(caps) - set(names)), sorted(set(names) - set(caps))
    if unknown:
        raise InputError(f"caps name unknown blocks {unknown}; the blocks are {names}")
    if missing:
        raise InputError(f"caps are missing for blocks {missing}; declare a norm for each block")
    full = {name: _as_cap(caps[name]) for name in names}
    for block in network.blocks():
        if block.norm == "operator" and full[block.name].row is not None:
            raise InputError(
                f"block {block.name} is a filter bank, for which a cap on row sums is not covered; "
                "leave it out"
            )
    return full


def _as_cap(cap: Cap | float) -> Cap:
    return cap if isinstance(cap, Cap) else Cap(cap)


def measured_cap(what: str, name: str, norm: float) -> tuple[float, Cost]:
    """A cap read off the trained network: rounded up to the grid, with its price."""
    j = CAP_GRID.index_at_least(max(norm, SMALLEST))
    value = CAP_GRID.value(j)
    return value, Cost(f"{what} of {name}", j, value, CAP_GRID.cost(j))


def class_of(
    form: MarginForm, declared: dict[str, Cap] | None
) -> tuple[dict[str, Cap], tuple[Cost, ...], tuple[Cost, ...]]:
    """The class of networks: declared caps, or measured ones with their prices; ℓ1 caps always."""
    caps, cap_costs, l1_costs = {}, [], []
    for block in form.blocks():
        cap = None if declared is None else declared[block.name]
        if cap is None:
            norm, cost = measured_cap("cap", block.name, block.norm_bound() * HELD)
            cap_costs.append(cost)
            cap = Cap(norm)
        else:
            cap = Cap(
                max(cap.norm * HELD, SMALLEST),
                None if cap.row is None else cap.row * HELD,
                None if cap.l1 is None else cap.l1 * HELD,
            )
        if cap.l1 is None:
            measured = block.matrix_norm("l1")
            l1, cost = measured_cap("l1 cap", block.name, measured * HELD)
            l1_costs.append(cost)
            cap = replace(cap, l1=l1)
        caps[block.name] = cap
    return caps, tuple(cap_costs), tuple(l1_costs)
