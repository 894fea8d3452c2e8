"""Networks, samples and finite lists as the plain values that a certificate records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from recert.certificates.certificate import Assumption, Bound, ListStatement
from recert.certification.declared import Declared
from recert.errors import InputError
from recert.networks.margins import MarginTable
from recert.networks.network import Block, Network
from recert.numerics.concentration import hypergeometric_upper_limit
from recert.numerics.union_bound import total_nats
from recert.samples.sample import Sample
from recert.sensitivities.gate_ranges import Gates
from recert.theorems import THEOREMS, Setting
from recert.theorems.setting import OUTWARD

# Statements that hold for a finite list sampled without replacement (theory, section 6).
LIST_STATEMENTS = {theorem.name for theorem in THEOREMS if theorem.for_lists}


def finite_list(
    found: Sequence[Bound],
    setting: Setting,
    population: int | None,
    rows: Sequence[Assumption],
) -> tuple[ListStatement, ...]:
    """The certificates read for a list of ``population`` units sampled without replacement.

    With R̂ the sample's error, the error on the N − m unseen units is (N·R − m·R̂)/(N − m). The
    held-out units are a sample of the unseen part, so their limit is hypergeometric.

    Raises:
        InputError: the list is smaller than the sample.

    Source: theory, section 6 (Hoeffding's convex comparison for the others).
    """
    if population is None:
        return ()
    N, m = population, setting.m
    drawn = m + (0 if setting.holdout is None else setting.holdout.m)
    if drawn > N:
        raise InputError(f"population is {N}, smaller than the {drawn} units drawn from it")
    sound = {row.id for row in rows if row.sound}
    statements = []
    for bound in found:
        if bound.name in LIST_STATEMENTS and bound.kind == "certificate":
            statements.append(_whole_list(bound, setting.table, N))
        elif bound.name == "held_out" and setting.table.zero_one and sound >= set(bound.needs):
            statements.extend(_unseen_part(bound, setting, N))
    return tuple(statements)


def only_for_lists(bound: Bound) -> Bound:
    """A certified statement, read for a sample drawn without replacement from a list."""
    if bound.name in LIST_STATEMENTS or bound.kind != "certificate":
        return bound
    reason = "not claimed for a sample without replacement"
    if bound.name == "held_out":
        reason = "stated for draws with replacement; see the finite list"
    return replace(bound, kind="estimate", reason=reason)


def _whole_list(bound: Bound, table: MarginTable, N: int) -> ListStatement:
    m, seen = table.m, table.certain_error
    unseen = (N * bound.value - m * seen) / (N - m) * (1 + OUTWARD) if m < N else 0.0
    threshold = (m * seen + N - m) / N
    return ListStatement(bound.name, N, bound.value, min(1.0, unseen), threshold)


def _unseen_part(bound: Bound, setting: Setting, N: int) -> list[ListStatement]:
    held, m, error = setting.holdout, setting.m, setting.table.error
    if held is None or not held.zero_one or bound.delta is None or m == N:
        return []
    # Held-out units pay for the encoding that was chosen with all units in view.
    level = bound.delta * math.exp(-total_nats(bound.cost)) * (1.0 - OUTWARD)
    unseen = hypergeometric_upper_limit(held.errors(), held.m, N - m, level)
    value = min(1.0, (m * error + (N - m) * unseen) / N * (1 + OUTWARD))
    return [ListStatement(bound.name, N, value, unseen, (m * error + N - m) / N)]


def describe_network(network: Network) -> dict[str, Any]:
    """Structure, norms and digest of a network."""
    places = {id(block): role for role, block in _roles(network)}
    plain = {
        **network.description(),
        "dims": {"d_x": network.d_x, "d_h": network.d_h, "d_y": network.K},
        "parameters": sum(block.parameters for block in network.blocks()),
        "blocks": [_describe_block(block, places[id(block)]) for block in network.blocks()],
        "digest": network.digest,
    }
    pool = network.margin_form().head.pool
    return plain if pool is None else plain | {"pool_norm": pool.norm}


def _roles(network: Network) -> Iterator[tuple[str, Block]]:
    """Every block with the part that it plays, such as ``layers.0.forward.U_r``."""
    if network.embedding is not None:
        yield "embedding", network.embedding
    for k, layer in enumerate(network.layers):
        names = ("forward.", "backward.") if len(layer.directions) > 1 else ("",)
        for name, direction in zip(names, layer.directions, strict=True):
            for role, block in direction.blocks.items():
                yield f"layers.{k}.{name}{role}", block
    for part, chain in (("encoder", network.encoder), ("head.hidden", network.head.hidden)):
        for k, dense in enumerate(chain):
            for role, block in zip("Ab", dense.blocks, strict=False):
                yield f"{part}.{k}.{role}", block
    yield "head.V", network.head.V
    if network.head.b is not None:
        yield "head.b", network.head.b


def describe_class(setting: Setting) -> list[dict[str, Any]]:
    """The class: every block's caps as statements use them, and its norm in margin form.

    Caps stand enlarged by the factor up to which they are held (theory, section 7).
    """
    measured = {cost.what for cost in (*setting.cap_costs, *setting.l1_costs)}
    rows = []
    for block in setting.network.blocks():
        cap = setting.caps[block.name]
        rows.append(
            {
                "block": block.name,
                "norm": cap.norm,
                "row": cap.row,
                "l1": cap.l1,
                "measured": f"cap of {block.name}" in measured,
                "l1_measured": f"l1 cap of {block.name}" in measured,
                "held": block.norm_bound(),
            }
        )
    return rows


def describe_gates(bounded: Gates, measured: Gates | None) -> list[dict[str, Any]]:
    """The range of every gate: class-wide s (entries lie in [1 − s, s]), and as measured."""
    rows = []
    for found in bounded.ranges:
        row: dict[str, Any] = {
            "layer": found.layer,
            "direction": found.direction,
            "gate": found.gate,
            "bound": found.up_to(bounded.steps)[0],
        }
        if measured is not None:
            largest, complement = measured.of(found.gate, found.layer, found.direction).up_to(
                measured.steps
            )
            row["measured"] = [max(0.0, 1.0 - complement), largest]
        rows.append(row)
    return rows


def _describe_block(block: Block, role: str) -> dict[str, Any]:
    found = block.matrix_norms()
    measured = {
        what: getattr(found, what)
        for what in ("spectral", "frobenius", "two_one", "row_sum", "column", "l1")
    }
    if block.norm == "operator":
        measured["operator"] = block.norm_bound()
    plain = {
        "name": block.name,
        "role": role,
        "shape": list(block.shape),
        "parameters": block.parameters,
        "norm": block.norm,
        "norms": measured,
    }
    if block.zero_columns:
        plain["zero_columns"] = [int(column) for column in block.zero_columns]
    if block.norm == "operator":
        plain["positions"] = block.positions
    return plain


def describe_sample(
    sample: Sample,
    setting: Setting,
    input_row: Assumption,
    declared: Declared,
    groups: str | None,
    padding: str | None,
) -> dict[str, Any]:
    """Size, unit, horizon, digest and errors of a sample, and what was declared of it."""
    table, held = setting.table, setting.holdout
    return {
        "m": table.m,
        "unit": table.unit,
        "reading": "finite list" if declared.of_list else "new draws",
        "population": declared.population,
        "T": setting.steps,
        "padding": padding,
        "digest": sample.digest,
        "groups": groups,
        "input_bound": {"value": setting.input_bound, "status": input_row.status},
        "training_error": table.error,
        "zero_one": table.zero_one,
        "holdout": None
        if held is None
        else {"m": held.m, "error": held.error, "zero_one": held.zero_one},
        "float_slack": table.slack if math.isfinite(table.slack) else None,
        "declared": declared.recorded(),
    }
