"""From a torch module to the Network that it computes: parts, plan, weights, parity."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import nn

from recert import arrays, floats
from recert.adapters import torch_blame, torch_parity, torch_search
from recert.adapters.torch_arguments import Arguments, arguments_of
from recert.adapters.torch_parts import Parts, account, find_parts, one_module
from recert.adapters.torch_running import (
    Array,
    DoesNotRunError,
    Group,
    Runner,
    evaluating,
    evaluation_copy,
    usual_torch,
)
from recert.adapters.torch_search import Structure
from recert.adapters.torch_weights import Plan, Weights, own_network, refuse_stale_weights
from recert.arguments import step, word
from recert.errors import InputError, ParityError
from recert.network import InputKind, Network
from recert.sample import At

# Sequences and steps of a user's sample on which plans are looked for.
MOST_ROWS, MOST_SEARCHED = 32, 32
# Plans that are tried of one model on one kind of inputs.
MOST_PLANS = 30_000
_ONE_AT_A_TIME = threading.RLock()


@floats.usual
def from_torch(model: Any, sequences: Any = None, **how: Any) -> Network:
    """See `recert.adapters.from_torch`, which this is; ``how`` as `read_torch` takes it."""
    return read_torch(model, sequences, **how)[0]


def read_torch(
    model: Any,
    sequences: Any = None,
    *,
    lengths: Any = None,
    recurrent: nn.Module | str | None = None,
    head: nn.Module | str | None = None,
    embedding: nn.Module | str | None = None,
    at: At = "last",
    input_kind: InputKind | None = None,
) -> tuple[Network, Parts, Plan | None]:
    """As `from_torch`, with the module's parts and their plan, None where it describes itself."""
    # One at a time: the module's training mode and torch's default dtype are changed for a while.
    with _ONE_AT_A_TIME, usual_torch():
        return _read(
            one_module(model),
            {"recurrent": recurrent, "head": head, "embedding": embedding},
            (sequences, lengths, at, input_kind),
        )


def _read(
    model: nn.Module,
    named: dict[str, nn.Module | str | None],
    how: tuple[Any, Any, At, InputKind | None],
) -> tuple[Network, Parts, Plan | None]:
    sequences, lengths, at, input_kind = how
    step("at", at)
    if sequences is not None:
        sequences = arrays.numbers(sequences, "sequences")
        arrays.refuse_fractions(sequences, "sequences")
    lengths = None if lengths is None else arrays.numbers(lengths, "lengths")
    parts = find_parts(model, named)
    account(model, parts)
    with evaluating(model):  # a copy's weights would be fresh
        refuse_stale_weights(model, parts.recurrent)
    below = model.get_submodule(parts.recurrent[0]) if parts.recurrent else None
    arguments = arguments_of(model, below)
    if parts.own is not None:
        return _described(model, parts, arguments, sequences, lengths, at), parts, None
    kinds = _possible_kinds(sequences, parts.embedding is not None, input_kind)
    reader = _Reader(model, parts, arguments, kinds, sequences, lengths, at)
    return reader.network(), parts, reader.plan


def _described(
    model: nn.Module, parts: Parts, arguments: Arguments, sequences: Any, lengths: Any, at: At
) -> Network:
    """The Network that a module gives of itself."""
    with evaluation_copy(model, torch.float64) as copy:
        network = own_network(copy, parts)
    if sequences is None:
        groups = torch_parity.drawn(network.input_kind, network.d_x)
    else:
        groups = torch_parity.given(network.input_kind, network.d_x, sequences, lengths)
    torch_parity.check(network, model, arguments, groups, at)
    return network


@dataclass
class _Reader:
    """Finds the plan of a model's parts with which the Network is the model."""

    model: nn.Module
    parts: Parts
    arguments: Arguments
    kinds: tuple[InputKind, ...]
    sequences: Any
    lengths: Any
    at: At
    failures: dict[InputKind, DoesNotRunError] = field(default_factory=dict)
    ran: list[Group] = field(default_factory=list)
    closest: tuple[float, Plan, list[Group]] | None = None
    plan: Plan | None = None

    def network(self) -> Network:
        structures = torch_search.structures(self.model, self.parts)
        first: ParityError | None = None
        for redrawn in (True, False):
            for plan, groups in self._plans(structures, redrawn):
                try:
                    return self._checked(plan, groups)
                except ParityError as error:
                    first = first or error
        if first is not None:
            raise first
        return self._refused(structures)

    def _checked(self, plan: Plan, groups: list[Group]) -> Network:
        """The plan's Network, if it is the model on the user's sequences."""
        with evaluation_copy(self.model, torch.float64) as copy:
            # Weights that a hook computes are computed when the module runs.
            with suppress(DoesNotRunError):
                next(Runner(copy, self.arguments).outputs(groups[0]), None)
            network = Weights(copy).network(plan)
        if self.sequences is not None:
            groups = torch_parity.given(plan.input_kind, network.d_x, self.sequences, self.lengths)
        torch_parity.check(network, self.model, self.arguments, groups, self.at)
        self.plan = plan
        return network

    def _plans(
        self, structures: list[Structure], redrawn: bool
    ) -> Iterator[tuple[Plan, list[Group]]]:
        """Plans that agree on a few sequences, and those sequences."""
        for kind in self.kinds:
            for d_x in dict.fromkeys(structure.d_x for structure in structures):
                groups = self._groups(kind, d_x, redrawn)
                alike = [structure for structure in structures if structure.d_x == d_x]
                for dtype in (torch.float64, None) if groups else ():
                    with evaluation_copy(self.model, dtype) as copy:
                        if copy is self.model and redrawn:
                            continue
                        if redrawn:
                            torch_search.draw_weights(copy)
                        outputs = self._outputs(copy, kind, groups)
                        if outputs:
                            yield from self._agreeing(copy, kind, alike, outputs)
                            break

    def _groups(self, kind: InputKind, d_x: int, redrawn: bool) -> list[Group]:
        """Drawn sequences, or a few of the user's."""
        given = self.sequences is not None and kind == "real"
        shape: tuple[int, ...] = np.shape(self.sequences) if given else ()
        if len(shape) == 3 and shape[-1] != d_x:
            return []
        if redrawn or self.sequences is None:
            padding = None
            if self.parts.embedding is not None:
                table: Any = self.model.get_submodule(self.parts.embedding)
                padding = table.padding_idx
            groups = torch_parity.drawn(kind, d_x, padding)
        else:
            groups = torch_parity.given(kind, d_x, self.sequences, self.lengths)[::-1]
            groups = [
                Group(group.rows[:MOST_ROWS], group.x[:MOST_ROWS, :MOST_SEARCHED])
                for group in groups
            ]
        batch = self.arguments.batch
        return groups if batch is None else [group.of_size(batch) for group in groups]

    def _outputs(
        self, copy: nn.Module, kind: InputKind, groups: list[Group]
    ) -> list[tuple[Group, list[Array], float]]:
        """What the module gives for those groups on which it runs, with the tolerance."""
        found = []
        for group in groups:
            try:
                runner = Runner(copy, self.arguments)
                found.append((group, list(runner.outputs(group)), runner.tolerance))
                self.ran.append(group)
            except DoesNotRunError as error:
                self.failures.setdefault(kind, error)
        return found

    def _agreeing(
        self,
        copy: nn.Module,
        kind: InputKind,
        structures: list[Structure],
        outputs: list[tuple[Group, list[Array], float]],
    ) -> Iterator[tuple[Plan, list[Group]]]:
        (group, first, tolerance), *others = outputs
        groups = [one[0] for one in outputs]
        every = chain.from_iterable(
            torch_search.plans(copy, self.parts, one, kind, first, group, self.at, tolerance)
            for one in structures
        )
        for excess, plan in islice(every, MOST_PLANS):
            readable = plan.read == "step" or self.at == "last"
            if readable and (self.closest is None or excess < self.closest[0]):
                self.closest = excess, plan, groups
            if excess <= 1.0:
                network = Weights(copy).network(plan)
                if all(
                    torch_parity.compare(network, there, other, self.at, tolerance)
                    for other, there, _ in others
                ):
                    yield plan, groups

    def _refused(self, structures: list[Structure]) -> Network:
        """No plan agrees: why, as well as can be said; or the closest one agrees after all."""
        if not self.ran and structures and self.failures:
            raise self.failures.get(self.kinds[-1]) or next(iter(self.failures.values()))
        ran = self.ran or self._guessed()
        torch_blame.blame(self.model, self.parts, self.arguments, ran)
        if self.closest is not None:
            return self._checked(self.closest[1], self.closest[2])
        if structures:  # inputs of another dimension than any structure reads
            d_x = structures[0].d_x
            torch_parity.given(self.kinds[0], d_x, self.sequences, self.lengths)
        raise torch_blame.no_order(self.model, self.parts)

    def _guessed(self) -> list[Group]:
        """Sequences of every dimension that some part reads, for a model of no known structure."""
        sizes: list[int] = []
        if self.parts.embedding is not None:
            table: Any = self.model.get_submodule(self.parts.embedding)
            sizes = [table.num_embeddings]
        for name in (*self.parts.linears, *self.parts.recurrent) if not sizes else ():
            sizes.append(torch_search.dimensions(self.model.get_submodule(name))[0])
        return [
            torch_parity.drawn(kind, size)[0]
            for kind in self.kinds
            for size in dict.fromkeys(sizes)
        ]


def _possible_kinds(
    sequences: Any, embedded: bool, declared: InputKind | None
) -> tuple[InputKind, ...]:
    """The input kinds to try, in order."""
    if declared is not None:
        word("input_kind", declared, ("onehot", "real"))
    if embedded and declared == "real":
        raise InputError("the model embeds tokens, so its input_kind is 'onehot'; drop 'real'")
    if declared is not None:
        return (declared,)
    if embedded:
        return ("onehot",)
    if sequences is None:
        return ("real", "onehot")
    return ("onehot",) if np.ndim(sequences) == 2 else ("real",)
