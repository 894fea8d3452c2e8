"""Three predictors of a task, and what every bound of the menu says of each.

*free*: a network that is trained without constraints until it has memorised its few units.
*capped*: a smaller one on more units, inside caps and at a margin that are declared beforehand.
*compressed*: one trained to be a short file.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recert import adapters, compression
from recert.certificate import Bound
from recert.data import SequenceData, german_nouns
from recert.experiments.training_runs import error_of
from recert.margins import MarginTable, margin_table
from recert.network import Network
from recert.orders import order_bounds
from recert.pipeline import certify
from recert.reproduce.adaptivity_tasks import Material
from recert.reproduce.study import Result
from recert.sample import Reading, Sample

PREDICTORS = ("free", "capped", "compressed")
CERTIFIED = (
    "theorem_2_clipped",
    "theorem_2_single_scale",
    "theorem_3_l1_cover",
    "theorem_3_gaussian",
    "margin_ball",
    "local_ball",
    "held_out",
)
BY_CLASS = ("theorem_2_clipped", "theorem_2_single_scale", "margin_ball")
"""Statements whose complexity is that of the class: nothing of network or sample is in it."""
CAPS = {"U": 1.0, "W": 3.0, "V": 1.0}
MARGIN = 0.04
# All tasks pay alike for the nouns' horizon, which was chosen with the nouns in view.
ENCODING = german_nouns.LENGTHS
# γ of the printed formulas for free networks: at most this share of the sample lies below.
BELOW = 0.05


def free(material: Material, options: dict[str, Any], seed: int) -> Result:
    """Train without constraints on the first units; certificates with caps measured."""
    from recert.training import Recipe, train

    sample = material.sample.take(slice(0, options["few"]))
    recipe = Recipe(
        d_h=options["hidden"], epochs=options["memorising"], batch=100, learning_rate=0.02
    )
    network = train(sample, recipe, seed=seed).model.recert_network()
    table = _table(network, sample)
    gamma = largest_margin(table, BELOW)
    bounds = _certified(network, sample, material.held, CERTIFIED, options["delta"])
    return _result(network, material, table, [*bounds, *_printed(network, sample, table, gamma)],
                   gamma)  # fmt: skip


def capped(material: Material, options: dict[str, Any], seed: int) -> Result:
    """Train inside declared caps for a declared margin, which certificates then need not choose."""
    from recert.training import Recipe, train

    recipe = Recipe(
        d_h=8, caps=CAPS, loss="margin", margin=MARGIN, softness=(2.0, 0.2), convex_part=0.6,
        epochs=options["epochs"], batch=256, learning_rate=0.1,
    )  # fmt: skip
    trained = train(material.sample, recipe, seed=seed)
    network = trained.model.recert_network()
    table = _table(network, material.sample)
    bounds = _certified(
        network, material.sample, material.held, CERTIFIED, options["delta"],
        caps=trained.caps, margin=MARGIN,
    )  # fmt: skip
    printed = _printed(network, material.sample, table, MARGIN)
    return _result(network, material, table, [*bounds, *printed], MARGIN)


def compressed(material: Material, options: dict[str, Any], seed: int) -> Result:
    """Train to be a short file; the file's certificate."""
    from recert.training import Recipe
    from recert.training.rounding import RoundedRecipe, train_rounded

    recipe = Recipe(d_h=8, bias=True, epochs=options["epochs"], batch=128, learning_rate=0.03)
    program = train_rounded(material.sample, RoundedRecipe(recipe), seed=seed)
    sample = material.sample
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"program{compression.SUFFIX}"
        path.write_bytes(compression.encode(program))
        found = certify(
            path, sample.sequences, sample.labels, lengths=sample.lengths, bounds="occam",
            delta=options["delta"], max_length=sample.max_length, encoding=ENCODING,
        ).bounds[:1]  # fmt: skip
    network = program.network()
    return _result(network, material, _table(network, sample), found, None)


def largest_margin(table: MarginTable, below: float) -> float:
    """The largest γ > 0 such that at most this share of the margins is below it.

    Where more than that share is misclassified, the median of the absolute margins.
    """
    place = int(below * len(table.margins))
    gamma = float(np.sort(table.margins)[place])
    return gamma if gamma > 0 else float(np.median(np.abs(table.margins)))


def complexity(bound: Bound) -> float | None:
    """What a bound pays besides the empirical risk: nats a unit, or the term that is added.

    None for held-out limits, which have none.
    """
    terms = bound.terms
    if "log10_complexity" in terms and bound.kind == "order":
        return float(10.0 ** terms["log10_complexity"])
    if "rate" in terms:
        return float(terms["rate"])
    if "ramp_risk" in terms and bound.log10 is not None:
        return float(10.0**bound.log10 - terms["ramp_risk"])
    return None


def _certified(
    network: Network,
    sample: SequenceData,
    held: SequenceData,
    names: Sequence[str],
    delta: float,
    **declared: Any,
) -> list[Bound]:
    found = certify(
        network, sample.sequences, sample.labels, lengths=sample.lengths, bounds=names,
        delta=delta, max_length=sample.max_length, encoding=ENCODING,
        holdout=(held.sequences, held.labels, held.lengths), budget=math.inf, **declared,
    )  # fmt: skip
    return [b for b in found.bounds if b.kind in ("certificate", "estimate")]


def _printed(
    network: Network, sample: SequenceData, table: MarginTable, gamma: float
) -> list[Bound]:
    found = order_bounds(
        network, table, steps=sample.max_length, input_bound=1.0, gamma=gamma, delta=0.01
    )
    return [b for b in found if b.log10 is not None]


def _table(network: Network, sample: SequenceData) -> MarginTable:
    reading = Reading(network.input_kind, network.d_x, network.K, "last", sample.max_length)
    opened = Sample(sample.sequences, sample.labels, reading, lengths=sample.lengths)
    return margin_table(opened, adapters.torch_predictor(network))


def _result(
    network: Network,
    material: Material,
    table: MarginTable,
    bounds: Sequence[Bound],
    gamma: float | None,
) -> Result:
    return {
        "true risk": material.true_risk(network),
        "training error": table.error,
        "held-out error": error_of(network, material.held),
        "gamma": gamma,
        "norms": {b.name: float(np.linalg.norm(b.matrix(), 2)) for b in network.blocks()},
        "bounds": {
            b.name: {"kind": b.kind, "title": b.title, "log10": b.log10,
                     "complexity": _finite(complexity(b))}
            for b in bounds
        },
    }  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
