"""A task that needs memory: the class is the first of T random letters, read at the last one.

Letters are independent and uniform, so no letter but the first says anything: whoever has forgotten
it errs with probability 1 − 1/A, and whoever has not need never err.
"""

from __future__ import annotations

import numpy as np

from recert.data.dataset import SequenceData
from recert.errors import InputError
from recert.utils import validation
from recert.utils.validation import short

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Letters that are drawn at once: an option beside a model may ask for any number.
MOST_DRAWN = 20_000_000


def load(m: int = 10_000, *, seed: int = 0, letters: int = 3, max_length: int = 10) -> SequenceData:
    """Draw m strings of ``max_length`` letters, each labelled with its first letter.

    Args:
        m: number of strings.
        seed: of numpy's PCG64, at least 0.
        letters: A, the number of letters and of classes, 2 to 26.
        max_length: T, the length of every string; the first letter is T − 1 steps old at the end.

    Raises:
        InputError: an option is out of range, or m·T letters are too many.

    """
    m, seed = validation.whole("m", m), validation.whole("seed", seed, least=0)
    letters = validation.whole("letters", letters, least=2)
    max_length = validation.whole("max_length", max_length)
    if letters > len(LETTERS):
        raise InputError(f"letters is {short(letters)}; use 2 to {len(LETTERS)}")
    if m * max_length > MOST_DRAWN:
        raise InputError(
            f"{short(m)} strings of {short(max_length)} letters are too many; draw at most "
            f"{MOST_DRAWN:,} letters"
        )
    generator = np.random.Generator(np.random.PCG64(seed))
    tokens = generator.integers(letters, size=(m, max_length), dtype=np.int32)
    names = tuple(LETTERS[:letters])
    return SequenceData(
        name="recall",
        sequences=tokens,
        labels=tokens[:, 0].astype(np.int64),
        lengths=np.full(m, max_length, dtype=np.int64),
        classes=names,
        alphabet=names,
        max_length=max_length,
        input_kind="tokens",
        unit="string",
        population=None,
        source=f"drawn from seed {seed}: the first of {max_length} letters, {letters} kinds",
    )


def chance_error(letters: int) -> float:
    """The smallest error of an answer that does not depend on the first letter, 1 − 1/A."""
    return 1.0 - 1.0 / letters
