"""Synthetic languages, small enough that the true risk of any predictor is computed, not estimated.

A sentence is a string of independent letters. Its class is a fixed function of the letters (the
first, the last, or the most frequent), replaced with known probability by one of the other classes.
All A^T sentences can be listed with their probabilities, so the risk of an arbitrary network is a
finite sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recert.data.dataset import PADDING, SequenceData
from recert.errors import InputError
from recert.utils import validation
from recert.utils.validation import short

RULES = ("first", "last", "majority")
_MOST_SENTENCES = 1_000_000
# Of sentences drawn at once: a record beside a model may ask for any number.
MOST_SAMPLED = 10_000_000


@dataclass(frozen=True)
class SyntheticLanguage:
    """A distribution over labelled strings of A letters; class k is letter k, so K = A.

    Attributes:
        letters: A, the number of letters and classes, 2 to 26.
        max_length: T.
        min_length: lengths are uniform on min_length..T; None means that all have length T.
        rule: "first", "last" or "majority" (the most frequent letter, the smallest on ties).
        noise: probability that the label is one of the K−1 other classes, each equally likely.
        letter_probabilities: A numbers that sum to 1; None for uniform letters.

    Raises:
        InputError: if anything above is not so, or there are over a million sentences.

    """

    letters: int = 3
    max_length: int = 5
    min_length: int | None = None
    rule: str = "last"
    noise: float = 0.1
    letter_probabilities: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.letters <= 26:
            raise InputError(f"letters is {short(self.letters)}; use 2 to 26")
        if self.max_length < 1:
            raise InputError(
                f"max_length is {short(self.max_length)}; a sentence has at least 1 letter"
            )
        if not 1 <= self.shortest <= self.max_length:
            raise InputError(
                f"min_length is {short(self.min_length)}; use 1 to {short(self.max_length)}"
            )
        if self.rule not in RULES:
            raise InputError(f"rule is {self.rule!r}; use one of {', '.join(RULES)}")
        if not 0 <= self.noise <= 1:
            raise InputError(f"noise is {short(self.noise)}; a probability lies in [0, 1]")
        p = self.letter_distribution
        if p.shape != (self.letters,) or not (p >= 0).all() or not abs(p.sum() - 1) < 1e-9:
            raise InputError(f"letter_probabilities must be {self.letters} numbers with sum 1")
        if self.max_length * np.log(self.letters) > np.log(_MOST_SENTENCES):
            raise InputError(
                f"{self.letters} letters and {self.max_length} steps make over "
                f"{_MOST_SENTENCES} sentences; take fewer of either"
            )

    @property
    def shortest(self) -> int:
        """The smallest possible length."""
        return self.max_length if self.min_length is None else self.min_length

    @property
    def letter_distribution(self) -> np.ndarray:
        """(A,) probabilities of the letters."""
        if self.letter_probabilities is None:
            return np.full(self.letters, 1.0 / self.letters)
        return np.asarray(self.letter_probabilities, dtype=np.float64)

    @property
    def bayes_risk(self) -> float:
        """The smallest risk that any predictor has."""
        best = self.class_probabilities(*self.sentences()[:2]).max(axis=1)
        return float(1.0 - self.sentences()[2] @ best)

    def sentences(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All sentences: tokens (n, T) padded with −1, lengths (n,), probabilities (n,)."""
        lengths_used = range(self.shortest, self.max_length + 1)
        tokens, lengths, probabilities = [], [], []
        for length in lengths_used:
            count = self.letters**length
            digits = np.arange(count)[:, None] // self.letters ** np.arange(length) % self.letters
            padded = np.full((count, self.max_length), PADDING, dtype=np.int32)
            padded[:, :length] = digits
            tokens.append(padded)
            lengths.append(np.full(count, length, dtype=np.int64))
            probabilities.append(self.letter_distribution[digits].prod(axis=1) / len(lengths_used))
        return np.concatenate(tokens), np.concatenate(lengths), np.concatenate(probabilities)

    def clean_labels(self, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """(n,) classes that the rule gives, before noise."""
        if self.rule == "first":
            return tokens[:, 0].astype(np.int64)
        if self.rule == "last":
            return tokens[np.arange(len(tokens)), lengths - 1].astype(np.int64)
        counts = (tokens[:, :, None] == np.arange(self.letters)).sum(axis=1)
        return counts.argmax(axis=1).astype(np.int64)

    def class_probabilities(self, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """(n, K) probabilities of the classes given the sentence."""
        others = self.noise / (self.letters - 1)
        table = np.full((len(tokens), self.letters), others)
        table[np.arange(len(tokens)), self.clean_labels(tokens, lengths)] = 1.0 - self.noise
        return table

    def sample(self, m: int, seed: int = 0) -> SequenceData:
        """Draw m independent labelled sentences.

        Raises:
            InputError: m below 1 or a negative seed.

        """
        if m < 1 or seed < 0:
            raise InputError(
                f"m is {short(m)} and seed {short(seed)}; m is at least 1 and a seed at least 0"
            )
        rng = np.random.Generator(np.random.PCG64(seed))
        lengths = rng.integers(self.shortest, self.max_length + 1, size=m)
        drawn = rng.choice(self.letters, size=(m, self.max_length), p=self.letter_distribution)
        valid = np.arange(self.max_length)[None, :] < lengths[:, None]
        tokens = np.where(valid, drawn, PADDING).astype(np.int32)
        shift = (rng.random(m) < self.noise) * rng.integers(1, self.letters, size=m)
        names = tuple("abcdefghijklmnopqrstuvwxyz"[: self.letters])
        return SequenceData(
            name="synthetic",
            sequences=tokens,
            labels=(self.clean_labels(tokens, lengths) + shift) % self.letters,
            lengths=lengths,
            classes=names,
            alphabet=names,
            max_length=self.max_length,
            input_kind="tokens",
            unit="sentence",
            population=None,
            source=f"synthetic language {self}",
        )

    def true_risk(
        self, predict: Callable[[np.ndarray, np.ndarray], np.ndarray], *, margin: float = 0.0
    ) -> float:
        """The exact probability of {M ≤ margin}; ties count as errors at margin 0.

        Args:
            predict: maps tokens (n, T) and lengths (n,) to the outputs (n, K) that are compared.
            margin: 0 for the risk of the prediction, γ for the hard-margin risk.

        Raises:
            InputError: outputs of the wrong shape or not finite.

        """
        tokens, lengths, probabilities = self.sentences()
        outputs = np.asarray(predict(tokens, lengths), dtype=np.float64)
        if outputs.shape != (len(tokens), self.letters) or not np.isfinite(outputs).all():
            raise InputError(
                f"predict gave an array of shape {outputs.shape}; "
                f"finite outputs of shape {(len(tokens), self.letters)} are needed"
            )
        margins = np.stack(
            [
                outputs[:, k] - np.delete(outputs, k, axis=1).max(axis=1)
                for k in range(self.letters)
            ],
            axis=1,
        )
        wrong = (margins <= margin) * self.class_probabilities(tokens, lengths)
        return float(probabilities @ wrong.sum(axis=1))


def load(
    m: int = 10_000,
    *,
    seed: int = 0,
    letters: int = 3,
    max_length: int = 5,
    min_length: int | None = None,
    rule: str = "last",
    noise: float = 0.1,
) -> SequenceData:
    """Draw m sentences of the `SyntheticLanguage` with uniform letters; options as there.

    Raises:
        InputError: an option out of range.

    """
    for name, value in {"m": m, "letters": letters, "max_length": max_length}.items():
        validation.whole(name, value)
    if m > MOST_SAMPLED:
        raise InputError(f"m is {short(m)}; draw at most {MOST_SAMPLED} sentences at once")
    validation.whole("seed", seed, least=0)
    validation.number("noise", noise, "a probability lies in [0, 1]")
    language = SyntheticLanguage(letters, max_length, min_length, rule, noise)
    return language.sample(m, seed)
