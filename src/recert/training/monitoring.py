"""One row of monitoring: what a network's norms, rates, margins and bounds are at one moment.

Rows are plain numbers by column. A network that was looked at while it was trained, on the sample
that it is trained on, has no certificate by that; `recert.certify` makes one of the final network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recert.certification import ledger
from recert.certification.certify import reported_margin
from recert.certification.prepare import GATE_SEQUENCES
from recert.errors import InputError
from recert.networks.layers import suffix_of
from recert.networks.margins import MarginTable, margin_table
from recert.networks.network import Block, Network
from recert.networks.norm_class import HELD, Caps, class_of, complete_caps
from recert.numerics.norms import convolution_norm_bound, frobenius_norm_bound, norm_bounds
from recert.numerics.union_bound import split_delta
from recert.printed.evaluate import ORDERS, VARIANTS, order_bounds
from recert.readers import torch_predictor
from recert.samples.sample import At, Reading, Sample
from recert.sensitivities.gate_ranges import SIGMOIDS, Gates, measured_gates
from recert.sensitivities.growth_rates import rates
from recert.theorems import THEOREMS, Setting

KIND = "monitoring"
"""What every row says of itself."""

Value = float | int | str | None
Row = dict[str, Value]

CHEAP = (
    "theorem_2_clipped",
    "theorem_2_single_scale",
    "theorem_3_l1_cover",
    "margin_cover",
    "margin_ball",
)
"""Statements that cost some milliseconds once margins are known; printed formulas all do."""
QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
PRINTED = tuple(order.name for order in (*ORDERS, *VARIANTS))


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched:
    """The sample that is watched, and what is declared of it; see `recert.certify`.

    Attributes:
        sequences: (n, T) tokens or (n, T, d_x) vectors.
        labels: (n,) or (n, T).
        lengths: (n,) or None.
        groups: (n,) or None.
        at: where the loss is read.
        max_length: T, or None.
        input_bound: B_x, or None.
        caps: of every block, or None.
        delta: shared by the statements of a row.
        bounds: names of statements and of printed formulas.
    """

    sequences: Any
    labels: Any
    lengths: Any = None
    groups: Any = None
    at: At = "last"
    max_length: int | None = None
    input_bound: float | None = None
    caps: Caps | None = None
    delta: float = 0.01
    bounds: tuple[str, ...] = CHEAP + PRINTED

    def opened(self, network: Network, most: int | None = None) -> Sample:
        """The sample as the network reads it; its first `most` sequences."""
        few = slice(0, most)
        reading = Reading(network.input_kind, network.d_x, network.K, self.at, self.max_length)
        lengths = None if self.lengths is None else self.lengths[few]
        return Sample(self.sequences[few], self.labels[few], reading, lengths=lengths)


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
    row: Row = {}
    sample = watched.opened(network)
    table = margin_table(sample, torch_predictor(network), groups=watched.groups)
    row["error"] = table.error
    values = np.quantile(table.margins, list(QUANTILES.values()))
    row |= {f"margin.{name}": float(q) for name, q in zip(QUANTILES, values, strict=True)}
    setting = _setting(network, sample, watched, table)
    row["caps"] = _caps(network, setting, watched)
    gates = _gates(network, watched, setting.steps)
    row |= _bounds(network, setting, gates, watched)
    for block in network.blocks():
        row |= {f"{block.name}.{what}": value for what, value in _norms(block)}
    return row | _rates(network, gates)


def _setting(network: Network, sample: Sample, watched: Watched, table: MarginTable) -> Setting:
    """What statements are evaluated on, as `recert.certify` sets it up."""
    B_x, _ = ledger.input_bound_row(network, sample, watched.input_bound)
    T, _ = ledger.horizon_row(network, sample, watched.at, watched.max_length)
    B_x = B_x if network.input_kind == "onehot" else B_x * HELD
    form = network.margin_form()
    caps = None if watched.caps is None else complete_caps(form, watched.caps)
    return Setting(
        form,
        table.with_slack(ledger.rounding_slack(network, T, B_x)),
        T,
        B_x,
        *class_of(form, caps),
        reread=lambda: watched.opened(network),
    )


def _caps(network: Network, setting: Setting, watched: Watched) -> str:
    """Whether the class is that of declared caps, and whether the network is in it."""
    if watched.caps is None:
        return "measured"
    caps = complete_caps(setting.network, watched.caps)
    return ledger.caps_row(network, setting.network, caps).status


def _bounds(network: Network, setting: Setting, gates: Gates, watched: Watched) -> Row:
    """Values of statements and formulas, and the risks at the best statement's γ."""
    wanted = [theorem for theorem in THEOREMS if theorem.name in watched.bounds]
    applicable = [theorem for theorem in wanted if not theorem.supports(setting)]
    shares = split_delta(watched.delta, [t.name for t in applicable]) if applicable else {}
    found = [theorem.bound(setting, shares[theorem.name]) for theorem in applicable]
    gamma = reported_margin(found, setting)
    row: Row = {
        "gamma": gamma,
        "ramp_risk": float(setting.table.ramp_risk(gamma)),
        "hard_risk": float(setting.table.hard_risk(gamma)),
    }
    values: dict[str, float | None] = {bound.name: bound.log10 for bound in found}
    if set(watched.bounds) & set(PRINTED):
        printed = order_bounds(
            network,
            setting.table,
            steps=setting.steps,
            input_bound=setting.input_bound,
            gamma=gamma,
            delta=watched.delta,
            measured=gates if gates.ranges else None,
        )
        values |= {bound.name: bound.log10 for bound in printed}
    known = [theorem.name for theorem in wanted] + [n for n in PRINTED if n in values]
    return row | {
        f"{KIND}_log10.{name}": values.get(name) for name in known if name in watched.bounds
    }


def _gates(network: Network, watched: Watched, steps: int) -> Gates:
    if not any(layer.cell in SIGMOIDS for layer in network.directions()):
        return Gates("measured", steps, ())
    return measured_gates(network, watched.opened(network, GATE_SEQUENCES))


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
