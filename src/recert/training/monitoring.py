"""One row of monitoring: what a network's norms, rates, margins and bounds are at one moment.

Rows are plain numbers by column. A network that was looked at while it was trained, on the sample
that it is trained on, has no certificate by that; `recert.certify` makes one of the final network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recert.certification.certify import reported_margin
from recert.certification.declared import Declared
from recert.certification.prepare import caps_row, decide, measure_sample, read_model
from recert.errors import InputError
from recert.networks.layers import suffix_of
from recert.networks.network import Block, Network
from recert.numerics.norms import convolution_norm_bound, frobenius_norm_bound, norm_bounds
from recert.printed.evaluate import ORDERS, VARIANTS, order_bounds
from recert.sensitivities.gate_ranges import Gates
from recert.sensitivities.growth_rates import rates
from recert.theorems import THEOREMS, Setting
from recert.theorems.menu import evaluate, split_among

KIND = "monitoring"
"""What every row says of itself."""

Value = float | int | str | None
Row = dict[str, Value]

CHEAP = tuple(theorem.name for theorem in THEOREMS if theorem.quick)
"""Statements that cost some milliseconds once margins are known; printed formulas all do."""
QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
PRINTED = tuple(order.name for order in (*ORDERS, *VARIANTS))


@dataclass(frozen=True, eq=False)
class Watched:
    """The sample that is watched, and what is declared of it; see `recert.certify`.

    Attributes:
        sequences: (n, T) tokens or (n, T, d_x) vectors.
        labels: (n,) or (n, T).
        declared: of the sample; its δ is shared by the statements of a row.
        bounds: names of statements and of printed formulas.
    """

    sequences: Any
    labels: Any
    declared: Declared
    bounds: tuple[str, ...] = CHEAP + PRINTED


def names_of(bounds: str | Sequence[str]) -> tuple[str, ...]:
    """Names of statements: "cheap" ones, "all", or those given; InputError for unknown ones."""
    certified = tuple(theorem.name for theorem in THEOREMS)
    if isinstance(bounds, str):
        if bounds in ("cheap", "all"):
            return (CHEAP if bounds == "cheap" else certified) + PRINTED
        bounds = (bounds,)
    unknown = [name for name in bounds if name not in certified + PRINTED]
    if unknown:
        raise InputError(
            f"unknown bounds {unknown}; use 'cheap', 'all', or of {', '.join(certified + PRINTED)}"
        )
    return tuple(bounds)


def monitored(network: Network, watched: Watched) -> Row:
    """The columns of one row, without its kind and step.

    ============================  ============================================================
    ``<block>.spectral`` …        norms of a block, from above: spectral, frobenius, two_one,
                                  stable_rank (‖A‖_F²/‖A‖²); a filter bank's operator and
                                  frobenius; a bias's euclidean
    ``beta``, ``theta``           β_t and θ_t of the paper at the last step, gates as measured on
                                  the first 1,024 sequences; layers and directions have suffixes
    ``theta_repaired``            with the sigmoid's slope 1/4 (`recert.sensitivities.growth_rates`)
    ``error``                     empirical error on the sample
    ``margin.min`` …              quantiles of margins, every entry alike
    ``caps``                      "measured", "declared", or "violated" by the present weights
    ``gamma``                     the γ of the best statement of the row
    ``ramp_risk``, ``hard_risk``  at that γ
    ``monitoring_log10.<name>``   log10 of a statement, None where it does not apply
    ============================  ============================================================

    Args:
        network: at its present weights.
        watched: the sample and what is declared.

    Raises:
        InputError: weights or outputs are not finite, or the sample does not suit the network.
    """
    declared = watched.declared
    subject = read_model(network, watched.sequences, watched.labels, declared)
    found = measure_sample(subject, declared, track=False)
    setting, values = decide(subject, found, declared), found.table.margins
    gates = found.gates or Gates("measured", setting.steps, ())
    quantiles = np.quantile(values, list(QUANTILES.values()))
    row: Row = {
        "error": found.table.error,
        **{f"margin.{name}": float(q) for name, q in zip(QUANTILES, quantiles, strict=True)},
        "caps": "measured"
        if declared.caps is None
        else caps_row(network, setting, declared).status,
        **_bounds(network, setting, gates, watched),
    }
    for block in network.blocks():
        row |= {f"{block.name}.{what}": value for what, value in _norms(block)}
    return row | _rates(network, gates)


def _bounds(network: Network, setting: Setting, gates: Gates, watched: Watched) -> Row:
    """Values of statements and formulas, and the risks at the best statement's γ."""
    delta, names = watched.declared.delta, watched.bounds
    wanted = [theorem for theorem in THEOREMS if theorem.name in names]
    found = evaluate(wanted, setting, split_among(wanted, setting, delta), ())
    gamma = reported_margin(found, setting)
    if set(names) & set(PRINTED):
        found += order_bounds(
            network, setting.table, steps=setting.steps, input_bound=setting.input_bound,
            gamma=gamma, delta=delta, measured=gates if gates.ranges else None,
        )  # fmt: skip
    return {
        "gamma": gamma,
        "ramp_risk": float(setting.table.ramp_risk(gamma)),
        "hard_risk": float(setting.table.hard_risk(gamma)),
        **{f"{KIND}_log10.{bound.name}": bound.log10 for bound in found if bound.name in names},
    }


def _rates(network: Network, gates: Gates) -> Row:
    """β_t and θ_t at the last step that was measured, of every layer in every direction."""
    row: Row = {}
    count = len(network.layers)
    for repaired, what in ((False, ("beta", "theta")), (True, ("", "theta_repaired"))):
        for found in rates(network, gates, repaired=repaired):
            suffix = suffix_of(found.layer, count, reverse=found.direction == "backward")
            for name, values in zip(what, (found.beta, found.theta), strict=True):
                if name:
                    row[f"{name}{suffix}"] = float(values[-1])
    return row


def _norms(block: Block) -> Iterator[tuple[str, float]]:
    if block.norm == "euclidean":
        yield "euclidean", block.norm_bound()
    elif block.norm == "operator":
        yield "operator", convolution_norm_bound(block.value, block.positions, name=block.name)
        yield "frobenius", frobenius_norm_bound(block.matrix(), name=block.name)
    else:
        found = norm_bounds(block.value, name=block.name)
        for what in ("spectral", "frobenius", "two_one", "stable_rank"):
            yield what, getattr(found, what)
        if block.norm == "column":
            yield "column", found.column
