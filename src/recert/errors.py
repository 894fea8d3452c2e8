"""What can go wrong, as types. Every message says what is wrong, where, and what to do about it."""

from __future__ import annotations


class RecertError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(RecertError, ValueError):
    """A value from outside is unusable: wrong shape, not finite, out of range, empty."""


class UnsupportedModelError(RecertError):
    """A part of a model is not covered, so no certificate can speak of it."""


class ParityError(RecertError):
    """The Network read from a model does not compute what the model computes."""


class CallError(ParityError):
    """How the module is called decides what it answers, and the user has to say it."""


class BatchError(ParityError):
    """The answer to a sequence depends on the batch that it is in."""


class FileError(RecertError):
    """A file is missing, truncated, of the wrong kind, or cannot be written."""


class MissingDependencyError(RecertError, ImportError):
    """An optional library is needed for what was asked; the message names the extra."""


def an(word: str) -> str:
    """A word with its article, as it is read aloud: a list, an int, an LSTM, a uint64."""
    aloud = word.lower()
    spelt = aloud.startswith(("nd", "nn.", "lstm", "rnn", "mgu", "hf", "onnx"))
    vowel = aloud.startswith(("a", "e", "i", "o", "u")) and not aloud.startswith(("uint", "uni"))
    return f"{'an' if spelt or vowel else 'a'} {word}"


def type_of(value: object) -> str:
    """What a value is, for messages: a list, an int."""
    return an(type(value).__name__)
