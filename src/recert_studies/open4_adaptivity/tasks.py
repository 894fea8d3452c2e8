"""Tasks of known difficulty: nouns with a share of labels drawn at random, and three languages.

All have the nouns' alphabet, K = 3 classes and one horizon, so that one architecture, one class of
networks and one declaration serve them all. What is said of true risks:

* nouns, every label drawn afresh, uniformly: (K − 1)/K for any network, exactly, and more only for
  one whose largest outputs tie (ties count as errors): u, the mean error over all K labels;
* nouns, a share p of labels so drawn: (1 − p)·e + p·u, e the error on the clean labels; ties and e
  are estimated from nouns that nothing else sees;
* languages: a finite sum over all sentences, which are equally likely, exactly.

Three predictors of a task, and what every bound of the menu says of each.

*free*: a network that is trained without constraints until it has memorised its few units.
*capped*: a smaller one on more units, inside caps and at a margin that are declared beforehand.
*compressed*: one trained to be a short file.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recert import compression, readers
from recert.certificates.certificate import Bound
from recert.certification.certify import certify
from recert.data import SequenceData, german_nouns
from recert.data.synthetic import SyntheticLanguage
from recert.errors import InputError
from recert.networks.margins import MarginTable, margin_table
from recert.networks.network import Network
from recert.printed.evaluate import order_bounds
from recert.samples.sample import Reading, Sample
from recert.workflows.networks import error_of
from recert_studies.framework import Result

K = 3
CHECKED = 10_000  # nouns at most from which an error is estimated


@dataclass(frozen=True)
class Task:
    """What is to be learnt.

    Attributes:
        name: for people.
        random: the share p of nouns whose label is drawn at random, or None for a language.
        rule: of a `SyntheticLanguage` with three letters and no noise, or "".
    """

    name: str
    random: float | None = None
    rule: str = ""

    @property
    def exact(self) -> bool:
        """Whether true risks are known exactly, but for ties, rather than estimated."""
        return self.rule != "" or self.random == 1.0


TASKS = (
    Task("last letter", rule="last"),
    Task("majority", rule="majority"),
    Task("first letter", rule="first"),
    Task("nouns", 0.0),
    Task("nouns, 25% random", 0.25),
    Task("nouns, 50% random", 0.5),
    Task("nouns, 100% random", 1.0),
)
TRUE, RANDOM = "nouns", "nouns, 100% random"


@dataclass(frozen=True, eq=False)
class Material:
    """A task's units in their roles, and the true risk of any predictor on it.

    Attributes:
        sample: units to train on.
        held: units held out, with labels like those of the sample.
        risk: the true risk of whatever has an error on data; called with a function that gives it.
    """

    sample: SequenceData
    held: SequenceData
    risk: Callable[[Callable[[SequenceData], float]], float]

    def true_risk(self, network: Network) -> float:
        """The true risk of one network."""
        return self.risk(lambda data: error_of(network, data))


def material(task: Task, nouns: SequenceData, m: int, held: int, seed: int) -> Material:
    """Draw a task's units by the seed.

    Args:
        task: one of `TASKS`.
        nouns: all of them, cut to the horizon.
        m: units to train on.
        held: units held out, with labels like those of the sample.
        seed: of everything drawn.

    Raises:
        InputError: there are fewer nouns than that.
    """
    if task.rule:
        return _language(task, nouns, m, held, seed)
    if m + held + 1000 > nouns.m:
        raise InputError(f"units and held leave too few of {nouns.m:,} nouns; use fewer")
    generator = np.random.Generator(np.random.PCG64([5, seed]))
    order = generator.permutation(nouns.m)
    share = task.random or 0.0
    drawn = blurred(nouns.take(order[: m + held]), share, generator)
    rest = nouns.take(order[m + held :][:CHECKED])

    def risk(error: Callable[[SequenceData], float]) -> float:
        clean = error(rest) if share < 1.0 else 0.0
        return (1.0 - share) * clean + share * (_over_labels(error, rest) if share else 0.0)

    return Material(drawn.take(slice(0, m)), drawn.take(slice(m, None)), risk)


def _over_labels(error: Callable[[SequenceData], float], data: SequenceData) -> float:
    """The error for labels drawn uniformly: the mean over all K."""
    every = [replace(data, labels=np.full_like(data.labels, k)) for k in range(K)]
    return sum(error(labelled) for labelled in every) / K


def blurred(data: SequenceData, share: float, generator: np.random.Generator) -> SequenceData:
    """Each label is with probability ``share`` drawn anew, uniformly over the K classes."""
    anew = generator.random(data.m) < share
    labels = np.where(anew, generator.integers(0, K, data.m), data.labels)
    return replace(data, labels=labels, population=None)


def _language(task: Task, nouns: SequenceData, m: int, held: int, seed: int) -> Material:
    """Sentences in the first three letters of the nouns' alphabet."""
    language = SyntheticLanguage(K, nouns.max_length, rule=task.rule, noise=0.0)
    drawn = _in_alphabet(language.sample(m + held, seed))
    tokens, lengths, _ = language.sentences()
    every = replace(
        drawn, sequences=tokens, lengths=lengths, labels=language.clean_labels(tokens, lengths)
    )
    return Material(drawn.take(slice(0, m)), drawn.take(slice(m, None)), lambda error: error(every))


def _in_alphabet(data: SequenceData) -> SequenceData:
    return replace(data, alphabet=german_nouns.ALPHABET)


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
    from recert.training.quantized import RoundedRecipe, train_rounded

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
    return margin_table(opened, readers.torch_predictor(network))


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
