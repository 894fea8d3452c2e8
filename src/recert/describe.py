"""Networks, samples and finite lists as the plain values that a certificate records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from recert import norms
from recert.certificate import Assumption, Bound, ListStatement
from recert.concentration import hypergeometric_upper_limit
from recert.errors import InputError
from recert.gates import Gates
from recert.margins import MarginTable
from recert.network import Block, Network
from recert.sample import Sample
from recert.theorems import Setting
from recert.theorems.base import OUTWARD

# Statements that hold for a finite list sampled without replacement (theory, section 6).
LIST_STATEMENTS = (
    "margin_ball",
    "margin_cover",
    "local_ball",
    "occam",
    "theorem_3_gaussian",
    "theorem_3_gaussian_paper",
)


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
    status = {row.id: row.sound for row in rows}
    statements = []
    for bound in found:
        if bound.name in LIST_STATEMENTS and bound.kind == "certificate":
            statements.append(_whole_list(bound, setting.table, N))
        elif bound.name == "held_out" and setting.table.zero_one and status.get("holdout"):
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
    unseen = hypergeometric_upper_limit(held.errors(), held.m, N - m, bound.delta)
    value = min(1.0, (m * error + (N - m) * unseen) / N * (1 + OUTWARD))
    return [ListStatement(bound.name, N, value, unseen, (m * error + N - m) / N)]


def describe_network(network: Network) -> dict[str, Any]:
    """Structure, norms and digest of a network."""
    return {
        **network.description(),
        "dims": {"d_x": network.d_x, "d_h": network.d_h, "d_y": network.K},
        "parameters": sum(block.parameters for block in network.blocks()),
        "blocks": [_describe_block(block) for block in network.blocks()],
        "digest": network.digest,
    }


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


def _describe_block(block: Block) -> dict[str, Any]:
    found = norms.norm_bounds(block.matrix(), name=block.name)
    measured = {
        what: getattr(found, what)
        for what in ("spectral", "frobenius", "two_one", "row_sum", "column", "l1")
    }
    if block.norm == "operator":
        measured["operator"] = block.norm_bound()
    return {
        "name": block.name,
        "shape": list(block.shape),
        "parameters": block.parameters,
        "norm": block.norm,
        "norms": measured,
    }


def describe_sample(
    sample: Sample,
    setting: Setting,
    input_row: Assumption,
    reading: str,
    population: int | None,
) -> dict[str, Any]:
    """Size, unit, horizon, digest and errors of a sample."""
    table, held = setting.table, setting.holdout
    return {
        "m": table.m,
        "unit": table.unit,
        "reading": reading,
        "population": population,
        "T": setting.steps,
        "digest": sample.digest,
        "input_bound": {"value": setting.input_bound, "status": input_row.status},
        "training_error": table.error,
        "holdout": None if held is None else {"m": held.m, "error": held.error},
        "float_slack": table.slack if math.isfinite(table.slack) else None,
    }
