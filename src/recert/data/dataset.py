"""`SequenceData`: labelled sequences as a frozen, validated value, the form of all data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from recert.data import sources
from recert.data.layout import layout_of
from recert.data.tables import DataTable, units_of
from recert.data.units import PADDING, sequence_fields
from recert.errors import InputError
from recert.utils.validation import Brief

# So that units are set aside, and shuffled, by other random numbers than anything else is drawn by.
_SET_ASIDE, _SHUFFLE = 54, 55


def padded(rows: Sequence[Sequence[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 1 to ``width`` tokens as one padded array (m, width) of int32, and lengths (m,)."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    tokens = np.full((len(rows), width), PADDING, dtype=np.int32)
    # A boolean mask fills in row order, which is the order of what is put there.
    tokens[np.arange(width)[None, :] < lengths[:, None]] = np.fromiter(
        chain.from_iterable(rows), dtype=np.int32, count=int(lengths.sum())
    )
    return tokens, lengths


@dataclass(frozen=True, eq=False, repr=False)
class SequenceData(Brief):
    """Labelled sequences, right-padded to one length, and what is known about where they come from.

    Attributes:
        name: what the data set is called in reports.
        sequences: (m, T) integer tokens 0..len(alphabet)−1 with −1 past the end, or (m, T, d_x)
            finite reals, stored as float32.
        labels: (m,) classes 0..K−1, or (m, T) with −1 exactly past the end.
        lengths: (m,) numbers of valid steps, 1..T.
        classes: names of the K ≥ 2 classes, fixed before the data were seen.
        alphabet: names of the tokens, fixed before the data were seen; None for real inputs.
        max_length: the declared longest length; it equals T and is never read off the sample.
        input_kind: "tokens" or "real".
        unit: what is independent, in words: "noun", "image", "document".
        population: size of the finite list the units are drawn from, where there is one.
        source: where the data come from, for the certificate's ledger.
        groups: (m,) integers naming the unit each sequence belongs to; None if each is its own.
        input_bound: declared bound on ‖x_t‖_2; 1 for tokens, which are read one-hot.
        encoding: "fixed" before the data were seen; n where alphabet, max_length or scale were
            chosen among n after looking, which certificates pay for; "learnt" from the data.
        aside: (m,) booleans, true where the data themselves set a sequence aside; None where not.
        read_off: names of the fields above that nobody declared: they were read off the data.

    Raises:
        InputError: if anything above is not so; the message names the field.

    """

    name: str
    sequences: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    classes: tuple[str, ...]
    alphabet: tuple[str, ...] | None
    max_length: int
    input_kind: str
    unit: str
    population: int | None
    source: str
    groups: np.ndarray | None = None
    input_bound: float | None = None
    encoding: str | int = "fixed"
    aside: np.ndarray | None = None
    read_off: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_lengths()
        if self.input_kind == "tokens":
            self._check_tokens()
        else:
            self._check_reals()
        self._check_labels()

    @classmethod
    def from_arrays(
        cls,
        sequences: Any,
        labels: Any,
        *,
        lengths: Any = None,
        groups: Any = None,
        roles: Any = None,
        name: str = "arrays",
        **options: Any,
    ) -> SequenceData:
        """Labelled sequences from arrays, tensors, or lists of sequences of different lengths.

        Args:
            sequences: (m, T) tokens or series, or (m, T, d_x), or a list of (T,) or (T, d_x).
            labels: (m,) classes by number or name, or (m, T), or a list of (T,).
            lengths: (m,) numbers of valid steps, or a mask (m, T).
            groups: (m,) what each sequence belongs to.
            roles: (m,) "train" or "holdout".
            name: what the data are called.
            options: as of a file, those of `recert.data.layout.Layout`: classes, kind, ….

        Raises:
            InputError: a value is not usable; it names the row.

        """
        given = {
            "sequence": sequences, "label": labels, "lengths": lengths, "group": groups,
            "role": roles,
        }  # fmt: skip
        return cls.from_table(sources.table_of_arrays(name, given), options)

    @classmethod
    def from_frame(cls, frame: Any, *, name: str = "frame", **options: Any) -> SequenceData:
        """Labelled sequences from a pandas frame (or what looks like one), long or wide.

        Args:
            frame: with columns as a .csv file has them.
            name: what the data are called.
            options: as of a file: label, unit, order, features, ….

        Raises:
            InputError: a column is missing, or a cell is not usable; it names the row.

        """
        return cls.from_table(sources.table_of_frame(name, frame), options)

    @classmethod
    def from_torch(cls, dataset: Any, *, name: str = "dataset", **options: Any) -> SequenceData:
        """Labelled sequences from a torch ``Dataset`` or ``DataLoader``, read once, item by item.

        Args:
            dataset: items ``(x, y)``, or ``(x, y, length)``; batches of them from a loader.
            name: what the data are called.
            options: as of a file: classes, kind, ….

        Raises:
            InputError: an item is not usable; it names the row.

        """
        return cls.from_table(sources.table_of_torch(name, dataset), options)

    @classmethod
    def from_table(cls, table: DataTable, options: Mapping[str, Any]) -> SequenceData:
        """Labelled sequences from a table that was read, with options as of a file."""
        layout = layout_of(options)
        made = sequence_fields(units_of(table, layout), layout)
        return cls(name=table.source, source=table.source, **made)

    @property
    def m(self) -> int:
        """Number of sequences (of which `units` count as independent)."""
        return int(self.sequences.shape[0])

    @property
    def T(self) -> int:
        """Longest length, the declared `max_length`."""
        return int(self.sequences.shape[1])

    @property
    def K(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def input_dim(self) -> int:
        """d_x: the number of tokens for one-hot inputs, the last axis for real ones."""
        return len(self.alphabet) if self.alphabet is not None else int(self.sequences.shape[2])

    @property
    def units(self) -> int:
        """Number of independent units: groups where there are groups, sequences otherwise."""
        return self.m if self.groups is None else int(np.unique(self.groups).size)

    @property
    def valid(self) -> np.ndarray:
        """(m, T) booleans, true on the steps before the end of each sequence."""
        return np.arange(self.T)[None, :] < self.lengths[:, None]

    @property
    def digest(self) -> str:
        """SHA-256 of the sequences, labels and lengths, in their order, on every machine alike."""
        found = hashlib.sha256()
        kind = "<i8" if self.input_kind == "tokens" else "<f4"
        for array, form in ((self.sequences, kind), (self.labels, "<i8"), (self.lengths, "<i8")):
            found.update(str(array.shape).encode())
            found.update(np.ascontiguousarray(array.astype(form, copy=False)).data)
        return found.hexdigest()

    def take(self, indices: np.ndarray | slice) -> SequenceData:
        """The sequences at `indices`, in that order; everything else is kept."""
        return replace(
            self,
            sequences=self.sequences[indices],
            labels=self.labels[indices],
            lengths=self.lengths[indices],
            groups=None if self.groups is None else self.groups[indices],
            aside=None if self.aside is None else self.aside[indices],
        )

    def shuffled(self, seed: int) -> SequenceData:
        """In an order drawn by numpy's PCG64 with `seed`; what is set aside stays behind the rest.

        The order of the rest does not depend on what is set aside.
        """
        aside = np.zeros(self.m, dtype=bool) if self.aside is None else self.aside
        rest = np.flatnonzero(~aside)
        order = np.random.Generator(np.random.PCG64([_SHUFFLE, seed])).permutation(len(rest))
        return self.take(np.concatenate([rest[order], np.flatnonzero(aside)]))

    def by_role(self) -> tuple[SequenceData, SequenceData | None]:
        """What is not set aside, and what is, by the data themselves; None where nothing is."""
        if self.aside is None or not self.aside.any():
            return replace(self, aside=None), None
        plain = replace(self, aside=None)
        return plain.take(~self.aside), plain.take(self.aside)

    def split(self, m_train: int) -> tuple[SequenceData, SequenceData]:
        """The first `m_train` units, and the rest. A unit (a group) is never divided.

        Raises:
            InputError: if either side would be empty.

        """
        if not 0 < m_train < self.units:
            raise InputError(
                f"cannot split {self.name!r} after {m_train} {self.unit}s: it has {self.units}; "
                f"choose a number from 1 to {self.units - 1}"
            )
        if self.groups is None:
            return self.take(slice(0, m_train)), self.take(slice(m_train, None))
        inside = np.isin(self.groups, self._names()[:m_train])
        return self.take(inside), self.take(~inside)

    def set_aside(self, count: int, seed: int) -> tuple[SequenceData, SequenceData]:
        """All units but `count` drawn at random, and those, each in their order.

        The draw, by numpy's PCG64 with `seed`, makes no use of the order of the units.

        Raises:
            InputError: if either side would be empty.

        """
        if not 0 < count < self.units:
            raise InputError(
                f"cannot hold out {count} of the {self.units} {self.unit}s of {self.name!r}; "
                f"choose a number from 1 to {self.units - 1}"
            )
        generator = np.random.Generator(np.random.PCG64([_SET_ASIDE, seed]))
        chosen = self._names()[generator.permutation(self.units)[:count]]
        held = np.isin(np.arange(self.m) if self.groups is None else self.groups, chosen)
        return self.take(~held), self.take(held)

    def _names(self) -> np.ndarray:
        """The groups, in the order in which they first occur."""
        groups = np.arange(self.m) if self.groups is None else self.groups
        names, first = np.unique(groups, return_index=True)
        return names[np.argsort(first, kind="stable")]

    def _check_sizes(self) -> None:
        if self.input_kind not in ("tokens", "real"):
            self._refuse(f"input_kind is {self.input_kind!r}; use 'tokens' or 'real'")
        dimensions = 2 if self.input_kind == "tokens" else 3
        shape = self.sequences.shape
        if len(shape) != dimensions:
            wanted = "(m, T)" if dimensions == 2 else "(m, T, d_x)"
            self._refuse(f"sequences have shape {shape}; {self.input_kind} need {wanted}")
        if shape[0] == 0:
            self._refuse("the sample is empty; give at least one sequence")
        if 0 in shape:
            self._refuse(f"sequences have shape {shape}; every length must be at least 1")
        if shape[1] != self.max_length:
            self._refuse(
                f"sequences are {shape[1]} steps wide but max_length is declared as "
                f"{self.max_length}; pad or truncate them to the declared length"
            )
        if len(self.classes) < 2:
            self._refuse(f"there are {len(self.classes)} classes; a margin needs at least 2")
        if (self.alphabet is None) != (self.input_kind == "real"):
            self._refuse("an alphabet belongs to tokens, and to tokens only")
        number = isinstance(self.encoding, int) and not isinstance(self.encoding, bool)
        if self.encoding not in ("fixed", "learnt") and not (number and int(self.encoding) >= 1):
            self._refuse(f"encoding is {self.encoding!r}; use 'fixed', 'learnt' or a number")
        if self.groups is not None and self.groups.shape != (shape[0],):
            self._refuse(f"groups have shape {self.groups.shape}; give one per sequence")
        if self.aside is not None and (self.aside.shape != (shape[0],) or self.aside.all()):
            self._refuse("every sequence is set aside, or roles are not one per sequence")

    def _check_lengths(self) -> None:
        if self.lengths.shape != (self.m,) or self.lengths.dtype.kind not in "iu":
            self._refuse(f"lengths must be {self.m} integers, not {_kind(self.lengths)}")
        wrong = np.flatnonzero((self.lengths < 1) | (self.lengths > self.T))
        if wrong.size:
            i = int(wrong[0])
            self._refuse(
                f"sequence {i} has length {self.lengths[i]}; lengths run from 1 to {self.T}"
            )

    def _check_tokens(self) -> None:
        if self.sequences.dtype.kind not in "iu":
            self._refuse(f"tokens must be integers, not {_kind(self.sequences)}")
        if self.input_bound is None:
            object.__setattr__(self, "input_bound", 1.0)
        self._check_padded(self.sequences, self.input_dim, "token")

    def _check_reals(self) -> None:
        if self.sequences.dtype.kind not in "fiu":
            self._refuse(f"real inputs must be numbers, not {_kind(self.sequences)}")
        object.__setattr__(self, "sequences", np.asarray(self.sequences, dtype=np.float32))
        finite = np.isfinite(self.sequences).all(axis=(1, 2))
        if not finite.all():
            i = int(np.flatnonzero(~finite)[0])
            self._refuse(f"sequence {i} holds NaN or an infinity (as float32); remove or repair it")

    def _check_labels(self) -> None:
        if self.labels.dtype.kind not in "iu":
            self._refuse(f"labels must be integers, not {_kind(self.labels)}")
        if self.labels.shape == (self.m, self.T):
            self._check_padded(self.labels, self.K, "label")
            return
        if self.labels.shape != (self.m,):
            self._refuse(f"labels have shape {self.labels.shape}; use (m,) or (m, T)")
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= self.K))
        if wrong.size:
            i = int(wrong[0])
            self._refuse(f"sequence {i} has label {self.labels[i]}; labels run 0..{self.K - 1}")

    def _check_padded(self, values: np.ndarray, count: int, what: str) -> None:
        valid = self.valid
        in_range = (values >= 0) & (values < count)
        wrong = np.argwhere(np.where(valid, ~in_range, values != PADDING))
        if wrong.size:
            i, t = (int(k) for k in wrong[0])
            wanted = f"0..{count - 1}" if valid[i, t] else f"{PADDING}, being past the end"
            self._refuse(f"{what} {values[i, t]} at sequence {i}, step {t + 1} should be {wanted}")

    def _refuse(self, problem: str) -> None:
        raise InputError(f"data {self.name!r}: {problem}")


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}"
