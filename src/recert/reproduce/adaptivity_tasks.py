"""Tasks of known difficulty: nouns with a share of labels drawn at random, and three languages.

All have the nouns' alphabet, K = 3 classes and one horizon, so that one architecture, one class of
networks and one declaration serve them all. What is said of true risks:

* nouns, every label drawn afresh, uniformly: (K − 1)/K for any network, exactly, and more only for
  one whose largest outputs tie (ties count as errors): u, the mean error over all K labels;
* nouns, a share p of labels so drawn: (1 − p)·e + p·u, e the error on the clean labels; ties and e
  are estimated from nouns that nothing else sees;
* languages: a finite sum over all sentences, which are equally likely, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from recert.data import SequenceData, german_nouns
from recert.data.synthetic import SyntheticLanguage
from recert.errors import InputError
from recert.experiments.training_runs import error_of
from recert.network import Network

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
