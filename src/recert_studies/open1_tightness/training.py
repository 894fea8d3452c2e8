"""Trains what ``recert reproduce open-1`` climbs with, and certifies it: errors and every rung.

Networks are certified by norms. A network as a short file and a posterior over networks leave norms
behind; they are trained as `recert compress` and `recert pacbayes` do, by one recipe each in place
of several that compete.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from recert import compression
from recert.certificates.certificate import Certificate
from recert.certification.certify import certify
from recert.data import SequenceData
from recert.pac_bayes import certify_posterior
from recert.workflows import compress
from recert.workflows.networks import error_of
from recert_studies.framework import Result
from recert_studies.open1_tightness import anatomy, networks
from recert_studies.open1_tightness.networks import Trainee

CERTIFIED = (
    "theorem_2",
    "theorem_2_clipped",
    "theorem_2_single_scale",
    "theorem_3_l1_cover",
    "theorem_3_gaussian",
    "margin_cover",
    "margin_ball",
    "held_out",
)


@dataclass(frozen=True, eq=False)
class TightnessTask:
    """What is trained, on what.

    Attributes:
        trainee: what it is.
        sample: units to train on and to certify with.
        held: units that it is not shown, on which its error is measured.
        seed: of training.
        steps: of a network's training, about.
        batch: units a step of it.
        delta: failure probability of its bounds.
        local: evaluate the local margin ball, too; of networks alone.
    """

    trainee: Trainee
    sample: SequenceData
    held: SequenceData
    seed: int
    steps: int
    batch: int
    delta: float
    local: bool


def trained(task: TightnessTask, bar: Progress | bool = False) -> Result:
    """Train one predictor and certify it.

    Args:
        task: what is trained.
        bar: where progress is drawn.

    Returns:
        ``parameters``, ``error``, ``held_error``, and ``rungs`` by the statement's name.
    """
    if task.trainee.how == "file":
        return _file(task)
    return (_posterior if task.trainee.how == "posterior" else _network)(task, bar)


def _network(task: TightnessTask, bar: Progress | bool) -> Result:
    from recert.training import train

    trainee, sample, held = task.trainee, task.sample, task.held
    recipe = networks.recipe(trainee, sample.m, steps=task.steps, batch=task.batch)
    title = f"{trainee.cell}, {sample.m}"
    run = train(sample, recipe, seed=task.seed, progress=bar, description=title)
    network = run.model.recert_network()
    few = held.take(slice(0, max(1, min(held.m, sample.m // 4))))
    certificate = certify(
        network,
        sample.sequences,
        sample.labels,
        input_bound=sample.input_bound,
        caps=run.caps or None,
        holdout=(few.sequences, few.labels, few.lengths),
        holdout_role="checking",
        bounds=(*CERTIFIED, "local_ball") if task.local else CERTIFIED,
        budget=math.inf,
        **_declared(task),
    )
    return {
        "parameters": sum(block.parameters for block in network.margin_form().blocks()),
        "error": float(certificate.sample["training_error"]),
        "held_error": error_of(network, held),
        "rungs": _rungs(certificate, anatomy.TITLES),
    }


def _file(task: TightnessTask) -> Result:
    """A network that was trained on grids, as a file whose bytes are what it pays."""
    trainee, sample = task.trainee, task.sample
    changes = {"cell": trainee.cell, "d_h": trainee.d_h}
    recipe = compress.recipe_for(sample, changes)
    contents = compress.trained_file(sample, recipe, None, task.seed, task.delta)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / compress.FILE
        path.write_bytes(contents)
        certificate = certify(
            path, sample.sequences, sample.labels, bounds=("occam",), **_declared(task)
        )
    network = compression.decode(contents).network()
    return {
        "parameters": sum(block.parameters for block in network.blocks()),
        "bytes": len(contents),
        "error": float(certificate.sample["training_error"]),
        "held_error": error_of(network, task.held),
        "rungs": _rungs(certificate, anatomy.TITLES),
    }


def _posterior(task: TightnessTask, bar: Progress | bool) -> Result:
    """Weights that are drawn; the error is that of single draws, on the units of the bound."""
    from recert.training.posterior import train_posterior
    from recert.training.recipes import PosteriorRecipe, RecipeCandidate

    trainee, sample, held = task.trainee, task.sample, task.held
    one = RecipeCandidate(cell=trainee.cell, d_h=trainee.d_h)
    declared = _declared(task)
    run = train_posterior(
        sample, PosteriorRecipe(candidates=(one,)), seed=task.seed, delta=task.delta,
        tried=declared["tried"], progress=bar,
    )  # fmt: skip
    certificate = certify_posterior(
        run.posterior,
        sample.sequences,
        sample.labels,
        holdout=(held.sequences, held.labels, held.lengths),
        holdout_role="checking",
        seed=task.seed,
        **declared,
    )
    return {
        "parameters": sum(block.parameters for block in run.posterior.mean.blocks()),
        "prior units": run.posterior.prior.units,
        "error": float(certificate.sample["training_error"]),
        "held_error": float(certificate.sample["holdout"]["error"]),
        "rungs": _rungs(certificate, anatomy.BEYOND),
    }


def _rungs(certificate: Certificate, names: Collection[str]) -> dict[str, dict[str, Any]]:
    return {
        b.name: {
            "kind": b.kind,
            "value": float(b.value),
            "log10": b.log10,
            "gamma": b.choices.get("gamma"),
            "terms": dict(b.terms),
        }
        for b in certificate.bounds
        if b.log10 is not None and b.name in names
    }


def _declared(task: TightnessTask) -> dict[str, Any]:
    """What every certificate is told of the sample, and of choices that it pays for."""
    sample = task.sample
    return {
        "delta": task.delta,
        "lengths": sample.lengths,
        "max_length": sample.max_length,
        "draws": f"{sample.unit}s are regarded as draws from an unbounded source of them",
        **networks.paid(task.trainee, sample),
    }
