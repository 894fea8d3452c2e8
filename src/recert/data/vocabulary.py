"""Words in a binary code of 14 bits, by their place in a vocabulary or by their hash.

Section 6 of the paper reads words as x in [0, 1]^14, the code of the word's index. A vocabulary
made from the sample is an encoding learnt from the sample, and no certificate holds for it. One
made from documents that are then set aside is fixed before the sample is drawn, and so is a hash.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from recert.data import text
from recert.data.dataset import PADDING, SequenceData
from recert.errors import InputError

SIZE = 1 << text.WORD_BITS
UNKNOWN = 0
"""The code of words outside the vocabulary."""

Code = Callable[[str], np.ndarray]


def codes_of(documents: Iterable[str]) -> dict[str, int]:
    """The 2^14 − 1 most frequent words, numbered from 1 by falling frequency, ties by alphabet."""
    counts = Counter(word for document in documents for word in document.lower().split())
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: place for place, word in enumerate(ordered[: SIZE - 1], start=1)}


def coder(vocabulary: dict[str, int]) -> Code:
    """What turns a document into its words' numbers (n,), 0 for words it does not know."""

    def code(document: str) -> np.ndarray:
        words = document.lower().split()
        return np.array([vocabulary.get(word, UNKNOWN) for word in words], dtype=np.int32)

    return code


def word_sequences(
    documents: Sequence[str],
    code: Code,
    *,
    encoding: str,
    source: str,
    max_length: int = 56,
    classes: int = 64,
) -> SequenceData:
    """Windows of words in their 14-bit code; the label at a step is the next word's class.

    The class of a word is its number modulo ``classes``, which spreads frequent words over them.

    Args:
        documents: a document is the unit of the sample.
        code: a document's words as numbers below 2^14.
        encoding: "fixed" or "learnt", how the code came about.
        source: where the text is from.
        max_length: T; windows do not overlap.
        classes: K.

    Raises:
        InputError: no document of two words, or a number out of range.
    """
    if max_length < 1 or not 2 <= classes <= SIZE:
        raise InputError(f"use max_length from 1 and classes from 2 to {SIZE}")
    coded = [codes for codes in map(code, documents) if len(codes) >= 2]
    if not coded:
        raise InputError(f"{source} holds no document of two words here; give a longer text")
    inputs, targets, lengths, groups = text.windows(coded, max_length)
    return SequenceData(
        name="words",
        sequences=text.bits(inputs),
        labels=np.where(targets == PADDING, PADDING, targets % classes),
        lengths=lengths,
        classes=tuple(f"class {k}" for k in range(classes)),
        alphabet=None,
        max_length=max_length,
        input_kind="real",
        unit="document",
        population=None,
        source=source,
        groups=groups,
        input_bound=math.sqrt(text.WORD_BITS),
        encoding=encoding,
    )
