"""German nouns and their grammatical gender, from the list in the PyPI package `german-nouns`.

The package's `nouns.csv` (from the German Wiktionary, CC BY-SA 4.0) is read as a file; the package
is never imported, so its own dependencies are not needed.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np

from recert.data.dataset import SequenceData, padded
from recert.data.packages import file_of
from recert.errors import FileError, InputError
from recert.utils.files import open_regular
from recert.utils.validation import short

ALPHABET = tuple("abcdefghijklmnopqrstuvwxyzäöüß")
GENDERS = ("f", "m", "n")
MAX_LENGTH = 12
"""T: letters kept, from the end, where German shows gender. Part of the model."""

LENGTHS = 32
"""T was chosen with these nouns in view, as one of 1 to 32, which is paid for, and is no other."""

_LARGEST_FILE = 100_000_000
_GENUS_COLUMNS = ("genus", "genus 1", "genus 2", "genus 3", "genus 4")


def load(
    path: str | Path | None = None, *, seed: int = 0, max_length: int = MAX_LENGTH
) -> SequenceData:
    """The nouns of one gender as token sequences, labels f, m, n, in an order set by the seed.

    Kept are lemmas which in lower case consist of a–z, ä, ö, ü, ß and which have exactly one of
    the genders f, m, n over all rows and genus columns; each counts once. They are sorted, then
    shuffled by numpy's PCG64 with `seed`. Of a noun longer than `max_length` the last letters are
    read.

    Args:
        path: the file `nouns.csv`; by default the one inside the installed package.
        seed: of the shuffle, at least 0.
        max_length: T, the letters kept from the end.

    Raises:
        MissingDependencyError: the package is not installed and no path was given.
        FileError: the file is missing, unreadable or not such a table.
        InputError: max_length or seed out of range.

    """
    if not 1 <= max_length <= LENGTHS:
        raise InputError(f"max_length is {short(max_length)}; keep 1 to {LENGTHS} letters")
    if seed < 0:
        raise InputError(f"seed is {short(seed)}; use an integer that is at least 0")
    nouns = read_nouns(locate() if path is None else Path(path))
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(nouns))
    words = [nouns[i][0][-max_length:] for i in order]
    tokens, lengths = encode(words, max_length)
    return SequenceData(
        name="german-nouns",
        sequences=tokens,
        labels=np.array([GENDERS.index(nouns[i][1]) for i in order], dtype=np.int64),
        lengths=lengths,
        classes=GENDERS,
        alphabet=ALPHABET,
        max_length=max_length,
        input_kind="tokens",
        unit="noun",
        population=len(nouns),
        source="nouns.csv of the PyPI package german-nouns (German Wiktionary, CC BY-SA 4.0)",
        encoding=LENGTHS,
    )


def locate() -> Path:
    """Where the installed package keeps `nouns.csv`.

    Raises:
        MissingDependencyError: the package is not installed.

    """
    return file_of("german-nouns", "german_nouns", "german-nouns==1.2.5", "nouns.csv")


def read_nouns(path: Path) -> list[tuple[str, str]]:
    """Pairs (noun in lower case, its only gender), sorted, each noun once.

    Raises:
        FileError: the file is missing, unreadable, not such a table, or holds no usable noun.

    """
    try:
        genders = _genders_by_noun(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"cannot read the noun list {path}: {error}") from error
    letters = frozenset(ALPHABET)
    nouns = sorted(
        (noun, next(iter(found)))
        for noun, found in genders.items()
        if len(found) == 1 and found <= frozenset(GENDERS) and noun and letters.issuperset(noun)
    )
    if len({gender for _, gender in nouns}) < 2:
        raise FileError(f"{path} holds no nouns of two genders; is it the package's nouns.csv?")
    return nouns


def encode(words: list[str], max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Words over `ALPHABET`, 1 to `max_length` letters each, as tokens (m, T) and lengths (m,)."""
    place = {letter: i for i, letter in enumerate(ALPHABET)}
    return padded([[place[letter] for letter in word] for word in words], max_length)


def _genders_by_noun(path: Path) -> dict[str, set[str]]:
    genders: dict[str, set[str]] = {}
    with open_regular(path) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        if os.fstat(raw.fileno()).st_size > _LARGEST_FILE:
            raise FileError(f"{path} has over {_LARGEST_FILE:,} bytes; is it nouns.csv?")
        rows = csv.reader(file)
        header = next(rows, [])
        if "lemma" not in header or "genus" not in header:
            raise FileError(
                f"{path} has no columns lemma and genus; is it the package's nouns.csv?"
            )
        lemma = header.index("lemma")
        columns = [header.index(name) for name in _GENUS_COLUMNS if name in header]
        for row in rows:
            if len(row) != len(header):
                raise FileError(
                    f"{path}, line {rows.line_num}: {len(row)} fields instead of {len(header)}; "
                    "the file is cut off or damaged"
                )
            found = genders.setdefault(row[lemma].lower(), set())
            found.update(row[column] for column in columns if row[column])
    return genders
