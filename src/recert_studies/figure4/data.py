"""What Figure 4 is drawn from: a text cut into documents with their roles, or images as strips."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recert.data import SequenceData, text, wikipedia
from recert.data import images as idx
from recert.data import text as vocabulary
from recert.errors import InputError
from recert_studies.framework import Request

CODES = ("vocabulary", "learnt", "hash")
# Options that say where data lie, and those that only a text has.
_PLACES = ("data_path", "images", "labels", "source")
_OF_TEXT = ("source", "split", "code", "horizon", "classes")
# Shares of the documents: for making the vocabulary, and held back. The rest is the sample.
VOCABULARY_SHARE, HELD_SHARE = 0.25, 0.15
_HEADING = re.compile(r"^(= ?)+[^=]*( ?=)+$")
_FEWEST = 20


@dataclass(frozen=True, eq=False)
class TextParts:
    """The sample, the units held back, and how the code of the inputs came about."""

    sample: SequenceData
    held: SequenceData
    code: str

    @property
    def constant_error(self) -> float:
        """Error on the units held back, each unit counting alike, of the sample's usual class."""
        labels = self.sample.labels
        usual = int(np.bincount(labels[labels >= 0]).argmax())
        held = self.held
        wrong = (held.labels != usual) & (held.labels >= 0)
        if held.labels.ndim == 2:
            wrong = wrong.sum(axis=1) / held.lengths
        groups = np.arange(held.m) if held.groups is None else held.groups
        _, places = np.unique(groups, return_inverse=True)
        return float((np.bincount(places, wrong) / np.bincount(places)).mean())


@dataclass(frozen=True, eq=False)
class Source:
    """Documents or images, read once.

    Attributes:
        name: what they are, for people.
        digest: of their content.
        documents: of a text, or empty.
        images: or None.
    """

    name: str
    digest: str
    documents: tuple[str, ...] = ()
    images: SequenceData | None = None

    def deciding(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those options on which a result depends beside the data."""
        idle = {*_PLACES, *(_OF_TEXT if self.images is not None else ())}
        return {name: value for name, value in options.items() if name not in idle}

    def parts(self, options: dict[str, Any], seed: int) -> TextParts:
        """Sample and units held back; which unit is what is drawn by ``seed``."""
        if self.images is not None:
            return _image_parts(self.images, options, seed)
        return _text_parts(self.documents, self.name, options, seed)


def read(request: Request) -> Source:
    """The data that a request names.

    Raises:
        InputError: images without labels or with options of a text, or too few documents.
        FileError: a file cannot be read.
        MissingDependencyError: no text was named and none is at hand.
    """
    options = request.options
    if (options["images"] is None) != (options["labels"] is None):
        raise InputError("images and their labels belong together; give both --images and --labels")
    if options["images"] is not None:
        if options["data_path"] is not None:
            raise InputError("give a text or images, not both")
        idle = [name for name in _OF_TEXT if name in request.given]
        if idle:
            raise InputError(f"{', '.join(idle)}: options of a text; leave them out with images")
        loaded = idx.load(options["images"], options["labels"], layout="strips")
        return Source(loaded.source, loaded.digest[:20], images=loaded)
    found, name = _text(options)
    documents = tuple(
        document
        for document in text.split_documents(found, options["split"])
        if not _HEADING.match(document)
    )
    if len(documents) < _FEWEST:
        raise InputError(
            f"{name} has {len(documents)} documents; roles need at least {_FEWEST}: give a longer "
            "text, or another -o split="
        )
    digest = hashlib.sha256("\n".join(documents).encode()).hexdigest()[:20]
    return Source(name, digest, documents)


def _text(options: Any) -> tuple[str, str]:
    if options["data_path"] is not None:
        path = Path(options["data_path"])
        return text.read_text(path), path.name
    return wikipedia.find(options["source"])


def _text_parts(
    documents: tuple[str, ...], name: str, options: dict[str, Any], seed: int
) -> TextParts:
    order = np.random.Generator(np.random.PCG64([4, seed])).permutation(len(documents))
    chosen = [documents[i] for i in order[: options["units"]]]
    apart = int(VOCABULARY_SHARE * len(chosen)) if options["code"] == "vocabulary" else 0
    held = int(HELD_SHARE * len(chosen))
    known, rest, sample = chosen[:apart], chosen[apart : apart + held], chosen[apart + held :]
    code: vocabulary.Code
    if options["code"] == "hash":
        code = text.word_codes
    else:
        code = vocabulary.coder(
            vocabulary.codes_of(sample if options["code"] == "learnt" else known)
        )
    made = {
        "encoding": "learnt" if options["code"] == "learnt" else "fixed",
        "source": name,
        "max_length": options["horizon"],
        "classes": options["classes"],
    }
    how = {
        "vocabulary": f"vocabulary of {len(known):,} documents set aside for it: fixed",
        "learnt": "vocabulary of the sample itself: learnt, so every bound is an estimate",
        "hash": "hash of the word: fixed",
    }[options["code"]]
    return TextParts(
        vocabulary.word_sequences(sample, code, **made),
        vocabulary.word_sequences(rest, code, **made),
        how,
    )


def _image_parts(images: SequenceData, options: dict[str, Any], seed: int) -> TextParts:
    order = np.random.Generator(np.random.PCG64([4, seed])).permutation(images.m)
    order = order[: options["units"]]
    held = int(HELD_SHARE * len(order))
    if held < 1:
        raise InputError(f"{len(order)} images are too few; use at least 7")
    return TextParts(images.take(order[held:]), images.take(order[:held]), "pixels: fixed")
