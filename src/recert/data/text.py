"""Any plain text file as next-symbol prediction, the paper's language-modelling set-up.

Windows of one text are not independent of each other. They are therefore grouped by document
(paragraph, line, or article under a heading), and the document is the unit of the sample.

Words in a binary code of 14 bits, by their place in a vocabulary or by their hash.

Section 6 of the paper reads words as x in [0, 1]^14, the code of the word's index. A vocabulary
made from the sample is an encoding learnt from the sample, and no certificate holds for it. One
made from documents that are then set aside is fixed before the sample is drawn, and so is a hash.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from recert.data.dataset import PADDING, SequenceData
from recert.errors import FileError, InputError
from recert.utils.files import open_regular
from recert.utils.validation import short

CHARACTERS = (*" abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()@<>=", "other")
"""The fixed alphabet; text is put into lower case, whatever is left over becomes "other"."""

WORD_BITS = 14
"""A word's input is 14 bits of its hash: x in [0, 1]^14, as in the paper's experiment."""

LARGEST_FILE = 1 << 28
"""Bytes of a text; what is made of it takes many times as much."""

MOST_ENTRIES = 1 << 27
"""Steps of all windows together, padding included."""

SPLITS = ("paragraph", "line", "article")
ENCODINGS = ("characters", "words")

_HEADING = re.compile(r"^ *= (?!=).* = *$")
_OTHER = len(CHARACTERS) - 1
_INDEX = {character: i for i, character in enumerate(CHARACTERS[:-1])}


def load(
    path: str | Path,
    *,
    encoding: str = "characters",
    split: str = "paragraph",
    max_length: int = 56,
    word_classes: int = 64,
) -> SequenceData:
    """Windows of at most `max_length` steps; the label at a step is the next symbol's class.

    Args:
        path: a UTF-8 text file.
        encoding: "characters", tokens over `CHARACTERS` whose label is the next character; or
            "words", 14 hash bits per word, whose label is the next word's hash bucket.
        split: what a document is: "paragraph" (between blank lines), "line", or "article" (from one
            heading "= Title =" to the next, as in WikiText).
        max_length: T; windows do not overlap, the last one of a document may be shorter.
        word_classes: number of buckets K for "words", fixed beforehand.

    Returns:
        Documents of at least two symbols, in the file's order; groups number the documents.

    Raises:
        FileError: the file is missing, not UTF-8, or holds no document of two symbols.
        InputError: an option out of range.

    """
    _check_options(encoding, split, max_length, word_classes)
    documents = split_documents(read_text(Path(path)), split)
    to_codes: Callable[[str], np.ndarray] = (
        character_codes if encoding == "characters" else word_codes
    )
    coded = [codes for codes in map(to_codes, documents) if len(codes) >= 2]
    if not coded:
        raise FileError(f"{path} holds no {split} of two {encoding}; give a longer text")
    inputs, targets, lengths, groups = windows(coded, max_length)
    characters = encoding == "characters"
    if not characters:
        targets = np.where(targets == PADDING, PADDING, targets % word_classes)
    return SequenceData(
        name="text",
        sequences=inputs if characters else bits(inputs),
        labels=targets,
        lengths=lengths,
        classes=CHARACTERS if characters else tuple(f"bucket {k}" for k in range(word_classes)),
        alphabet=CHARACTERS if characters else None,
        max_length=max_length,
        input_kind="tokens" if characters else "real",
        unit="document",
        population=None,
        source=f"{Path(path).name}, {encoding}, a document is one {split}",
        groups=groups,
        input_bound=1.0 if characters else math.sqrt(WORD_BITS),
    )


def read_text(path: Path) -> str:
    """The file's text.

    Raises:
        FileError: missing, unreadable, not UTF-8, or empty.

    """
    try:
        with open_regular(path) as file:
            raw = file.read(LARGEST_FILE + 1)
        if len(raw) > LARGEST_FILE:
            raise FileError(f"{path} has over {LARGEST_FILE:,} bytes; take a part of it")
        text = io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8").read()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read the text {path}: {error}") from error
    if not text.strip():
        raise FileError(f"the text {path} is empty")
    return text


def split_documents(text: str, split: str) -> list[str]:
    """The text's non-blank documents, in order, whitespace inside each reduced to single spaces."""
    documents: list[list[str]] = [[]]
    for line in text.splitlines():
        blank = not line.strip()
        ends_before = split == "line" or (split == "article" and _HEADING.match(line) is not None)
        if ends_before or (split == "paragraph" and blank):
            documents.append([])
        documents[-1].append(line)
    joined = (" ".join(" ".join(lines).split()) for lines in documents)
    return [document for document in joined if document]


def character_codes(document: str) -> np.ndarray:
    """The document's characters as indices into `CHARACTERS`."""
    return np.array(
        [_INDEX.get(character, _OTHER) for character in document.lower()], dtype=np.int32
    )


def word_codes(document: str) -> np.ndarray:
    """The document's words as the first 14 bits of their BLAKE2b hash: a code fixed beforehand."""
    return np.array([_word_code(word) for word in document.lower().split()], dtype=np.int32)


def bits(codes: np.ndarray) -> np.ndarray:
    """Integer codes (m, T) as their binary digits (m, T, 14), zero where the code is padding."""
    digits = (np.maximum(codes, 0)[..., None] >> np.arange(WORD_BITS)) & 1
    return digits.astype(np.float32)


def windows(
    coded: list[np.ndarray], max_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs and next-symbol targets (n, T) padded with −1, lengths (n,), document numbers (n,)."""
    pieces = [
        (codes[start : start + max_length + 1], document)
        for document, codes in enumerate(coded)
        for start in range(0, len(codes) - 1, max_length)
    ]
    lengths = np.array([len(piece) - 1 for piece, _ in pieces], dtype=np.int64)
    if len(pieces) * max_length > MOST_ENTRIES:
        raise InputError(
            f"{len(pieces)} windows of {short(max_length)} steps are too many; give a smaller "
            "max_length or a shorter text"
        )
    valid = np.arange(max_length)[None, :] < lengths[:, None]
    inputs = np.full(valid.shape, PADDING, dtype=np.int32)
    targets = np.full(valid.shape, PADDING, dtype=np.int64)
    inputs[valid] = np.concatenate([piece[:-1] for piece, _ in pieces])
    targets[valid] = np.concatenate([piece[1:] for piece, _ in pieces])
    return inputs, targets, lengths, np.array([document for _, document in pieces], dtype=np.int64)


def _word_code(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8"), digest_size=4).digest()
    return int.from_bytes(digest, "little") % (1 << WORD_BITS)


def _check_options(encoding: str, split: str, max_length: int, word_classes: int) -> None:
    if encoding not in ENCODINGS:
        raise InputError(f"text encoding is {encoding!r}; use one of {', '.join(ENCODINGS)}")
    if split not in SPLITS:
        raise InputError(f"text split is {split!r}; use one of {', '.join(SPLITS)}")
    if max_length < 1:
        raise InputError(f"max_length is {short(max_length)}; a window has at least 1 step")
    if not 2 <= word_classes <= 1 << WORD_BITS:
        raise InputError(f"word_classes is {short(word_classes)}; use 2 to {1 << WORD_BITS}")


SIZE = 1 << WORD_BITS
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
    inputs, targets, lengths, groups = windows(coded, max_length)
    return SequenceData(
        name="words",
        sequences=bits(inputs),
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
        input_bound=math.sqrt(WORD_BITS),
        encoding=encoding,
    )
