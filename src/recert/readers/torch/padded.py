"""Whether a module answers to padded sequences as it does to the same ones without padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recert.certificates.predictor import Apart, Call, Padding
from recert.networks.forward import network_predictor
from recert.networks.network import Network
from recert.readers.padding import Aligned, aligned, refusal
from recert.readers.torch.calls import STATES, Arguments
from recert.readers.torch.comparison import Wanted, readings
from recert.readers.torch.inputs import (
    MOST_INPUTS,
    MOST_NUMBERS,
    MOST_STEPS,
    array_of,
    spread,
    width,
)
from recert.readers.torch.parity import BatchError, CallError, Compared
from recert.readers.torch.running import DoesNotRunError, InputGroup, Runner, Usage, evaluation_copy
from recert.samples.sample import At

Array = NDArray[np.float64]

PADDED = 128
# How far answers to one batch in two orders may be apart, relative to the largest.
ORDER = 1e-3


@dataclass(frozen=True)
class Same:
    """Whether one call gives the network's answers where padding stands, on how many sequences.

    None where it was not run, or does not run, as on tokens −1.
    """

    same: bool | None = None
    on: int = 0

    def joined(self, other: Same) -> Same:
        """Of all that was shown."""
        told = [same for same in (self.same, other.same) if same is not None]
        return Same(all(told) if told else None, self.on + other.on)


@dataclass(frozen=True)
class Seen:
    """What a module answers where padding stands.

    Attributes:
        plain: called with what it asks for.
        given: called with lengths that it does not ask for.
    """

    plain: Same = Same()
    given: Same = Same()

    @property
    def apart(self) -> Apart | None:
        """Which call answers otherwise than without padding."""
        said = self.plain.same, self.given.same
        if False not in said:
            return None
        if True not in said:
            return "padding"
        return "without lengths" if said[0] is False else "with lengths"

    @property
    def with_lengths(self) -> bool:
        """Whether only the call with further lengths answers as without padding."""
        return self.given.same is True and self.plain.same is not True

    def told(self, call: Call) -> Call:
        """The call that is certified, of those that ran."""
        meant = self.given if self.with_lengths else self.plain
        padded = meant.on if meant.same else None
        lengths = call.lengths or self.with_lengths
        return replace(call, lengths=lengths, padded=padded, apart=self.apart)


@dataclass(frozen=True, eq=False)
class PaddedCaller:
    """A module that is called on padded sequences.

    Attributes:
        network: what the module computes on sequences without padding.
        model: the module.
        arguments: what its forward asks for; lengths are given as they are.
        usage: what the user says of it.
        compared: how it was called on sequences without padding.
        padding: how it is read; None where nobody said.
        at: as in `recert.readers.from_torch`.
    """

    network: Network
    model: nn.Module
    arguments: Arguments
    usage: Usage
    compared: Compared
    padding: Padding | None
    at: At

    @property
    def asks(self) -> bool:
        """Whether its forward asks for lengths."""
        return not STATES.issuperset(self.arguments.names)

    def shown(self, seen: Seen, sequences: Any, lengths: Any) -> Seen:
        """What was seen, once these sequences were shown as they came.

        Raises:
            CallError: the module answers otherwise where padding stands, and nobody said which of
                its answers is meant.
            BatchError: it answers a batch in another order than it was asked.
        """
        read = aligned(sequences, None, lengths, self.padding)
        seen = self._joined(seen, sequences, read)
        if seen.apart is not None and self.padding is None:
            raise CallError(refusal(read, seen.apart, self.arguments.optional))
        return seen

    def _joined(self, seen: Seen, sequences: Any, read: Aligned) -> Seen:
        if read.padding not in ("cut", "left"):
            return seen
        raw = array_of(sequences, self.network.input_kind, self.network.d_x)
        x = array_of(read.sequences, self.network.input_kind, self.network.d_x)
        n = _lengths(x, read.lengths)
        rows = _rows(raw, n, self.network)
        if self.arguments.batch is not None:
            rows = np.resize(rows, self.arguments.batch)
        ends = None if read.padding == "left" else n[rows] - 1
        want = _wanted(self.network, x[rows], n[rows], self.at)
        group, optional = InputGroup(rows, raw[rows]), self.arguments.optional
        for dtype in (torch.float64, None):
            with evaluation_copy(self.model, dtype) as module:
                try:
                    runner = Runner(module, self.arguments, self.usage)
                except DoesNotRunError:
                    continue
                plain = self._same(runner, group, want, ends, n[rows], "")
                given = self._same(runner, group, want, ends, n[rows], optional)
            if plain.same is not None or given.same is not None:
                given = given if optional else Same()
                return Seen(seen.plain.joined(plain), seen.given.joined(given))
        return seen

    def _same(
        self,
        runner: Runner,
        group: InputGroup,
        want: Array,
        ends: NDArray[np.int64] | None,
        n: NDArray[np.int64],
        optional: str,
    ) -> Same:
        """Whether the answers are the network's; they have to be in the order of the batch."""
        try:
            output = self._answer(runner, group, n, optional)
        except Exception:  # a user's forward may raise anything
            return Same()
        steps = tuple(dict.fromkeys((group.steps, int(n.max()))))
        found = _layouts(output, len(n), want.shape[-1], steps)
        try:
            turned = InputGroup(group.rows[::-1].copy(), group.x[::-1].copy())
            again = self._answer(runner, turned, n[::-1].copy(), optional)
        except Exception:  # some packing takes sequences in the order of their lengths alone
            again = output[:0]
        _refuse_other_order(found, _layouts(again, len(n), want.shape[-1], steps))
        if isinstance(self.at, int) and ends is not None:
            return Same()  # up to a step that all sequences reach, none is padded
        same = any(self._is(one, want, ends, n, runner.tolerance) for one in found.values())
        return Same(same, int((n < group.steps).sum()))

    def _answer(
        self, runner: Runner, group: InputGroup, n: NDArray[np.int64], optional: str
    ) -> Array:
        tensor = runner.call(group, self.compared.form, n.tolist(), optional=optional)
        found: Array = tensor.detach().to("cpu", torch.float64).numpy()
        return found

    def _is(
        self,
        found: Array,
        want: Array,
        ends: NDArray[np.int64] | None,
        n: NDArray[np.int64],
        tolerance: float,
    ) -> bool:
        """Whether what was returned is, at the steps that are read, the network's."""
        pair = _at(found, want, ends, n, self.at)
        if pair is None:
            return False
        there, expected = pair
        flat = Wanted(expected[:, None], 1, last=True, whole=False, tolerance=tolerance)
        difference = flat.closest([there])
        return difference is not None and difference.within


def _layouts(output: Array, n: int, K: int, steps: tuple[int, ...]) -> dict[Any, Array]:
    """An answer in every layout that its shape allows, by layout, steps and classes."""
    return {
        (layout, T, found.shape[-1]): found
        for T in steps
        for layout, found in readings(output, n, K, T)
    }


def _refuse_other_order(found: dict[Any, Array], turned: dict[Any, Array]) -> None:
    """Answers to sequences in the other order have to stand in that order, rounding apart."""
    both = found.keys() & turned.keys()
    if both and not any(_close(found[key], turned[key][::-1]) for key in both):
        raise BatchError(
            "the model answers a batch in another order than it was asked, such as that of its "
            "lengths; let forward put its answers back in the order of the batch"
        )


def _close(a: Array, b: Array) -> bool:
    """Whether they differ by less than other sequences' answers would."""
    if a.shape != b.shape:
        return False
    return np.allclose(a, b, rtol=0.0, atol=ORDER * float(np.abs(a).max()), equal_nan=True)


def _lengths(x: NDArray[Any], lengths: Any) -> NDArray[np.int64]:
    if lengths is not None:
        given = lengths.detach().cpu() if hasattr(lengths, "detach") else lengths
        return np.asarray(given).astype(np.int64)
    padding = x < 0
    ended = np.where(padding.any(axis=1), padding.argmax(axis=1), x.shape[1])
    return ended.astype(np.int64)


def _rows(x: NDArray[Any], n: NDArray[np.int64], network: Network) -> NDArray[np.int64]:
    """Padded sequences and the longest one, the longer ones first, as some packing asks for."""
    padded = np.flatnonzero(n < x.shape[1])
    size = x.shape[1] * (1 if x.ndim == 2 else network.d_x)
    most = max(1, min(PADDED, MOST_INPUTS // size, MOST_STEPS * PADDED // x.shape[1]))
    most = max(most, MOST_NUMBERS // (x.shape[1] * width(network)))
    by_length = padded[np.argsort(n[padded], kind="stable")]
    rows = np.union1d(spread(by_length, most), [int(np.argmax(n))])
    return rows[np.argsort(-n[rows], kind="stable")]


def _wanted(network: Network, x: NDArray[Any], n: NDArray[np.int64], at: At) -> Array:
    """The network's logits without padding: (n, K) at the step that is read, or (n, T, K)."""
    safe = np.where(np.arange(x.shape[1])[None, :] < n[:, None], x, 0) if x.ndim == 2 else x
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(at, int):
            return network_predictor(network)(safe, np.minimum(n, at), "last")
        return network_predictor(network)(safe, n, at)


def _at(
    found: Array, want: Array, ends: NDArray[np.int64] | None, n: NDArray[np.int64], at: At
) -> tuple[Array, Array] | None:
    """What was returned at the steps that are read, and what the network gives there."""
    rows = np.arange(len(n))
    if want.ndim == 2:
        if found.shape[1] == 1:
            return found[:, 0], want
        last = np.full(len(n), found.shape[1] - 1) if ends is None else ends
        if isinstance(at, int):
            last = np.minimum(n, at) - 1 + (0 if ends is not None else found.shape[1] - n)
        return found[rows, last], want
    if found.shape[1] == 1:
        return found[:, 0], want[rows, n - 1]
    steps = np.arange(found.shape[1])[None, :]
    valid = steps < n[:, None] if ends is not None else steps >= (found.shape[1] - n)[:, None]
    inside = np.arange(want.shape[1])[None, :] < n[:, None]
    return found[valid], want[inside]
