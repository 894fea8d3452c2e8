"""From a torch module to the Network that it computes: parts, plan, weights, parity."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import nn

from recert.certificates.predictor import Call, Output, Padding, check_output, check_padding
from recert.errors import InputError, ParityError
from recert.networks.network import InputKind, Network
from recert.readers.padding import Aligned, aligned
from recert.readers.torch import inputs, parity, refusals, search
from recert.readers.torch.calls import Arguments, arguments_of
from recert.readers.torch.padded import PaddedCaller, Seen
from recert.readers.torch.parity import BatchError, CallError, Compared
from recert.readers.torch.parts import Composition, ModuleParts, account, find_parts, one_module
from recert.readers.torch.running import (
    Array,
    DoesNotRunError,
    InputGroup,
    Runner,
    Usage,
    check_order,
    evaluating,
    evaluation_copy,
    usual_torch,
)
from recert.readers.torch.search import ModuleStructure
from recert.readers.torch.weights import ReadingPlan, Weights, own_network, refuse_stale_weights
from recert.samples import arrays
from recert.samples.sample import At
from recert.utils.validation import step, word

# Sequences and steps of a user's sample on which plans are looked for.
MOST_ROWS, MOST_SEARCHED = 32, 32
# Plans that are tried of one model on one kind of inputs.
MOST_PLANS = 30_000
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Module:
    """What was read of a module.

    Attributes:
        network: what it computes.
        parts: of which it consists.
        plan: how they are put together; None where it describes itself.
        call: how it is called.
    """

    network: Network
    parts: ModuleParts
    plan: ReadingPlan | None
    call: Call


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
    output: Output = None,
    steps_first: bool | None = None,
    padding: Padding | None = None,
) -> Module:
    """As `from_torch`, with the module's parts, their plan, and how the module is called."""
    step("at", at)
    usage = Usage(check_output(output), check_order(steps_first))
    if sequences is not None:
        sequences = arrays.numbers(sequences, "sequences")
        arrays.refuse_fractions(sequences, "sequences")
    lengths = None if lengths is None else arrays.numbers(lengths, "lengths")
    # One at a time: the module's training mode and torch's default dtype are changed for a while.
    with _ONE_AT_A_TIME, usual_torch():
        return _read(
            one_module(model),
            {"recurrent": recurrent, "head": head, "embedding": embedding},
            usage,
            _Given(sequences, lengths, check_padding(padding), at),
            input_kind,
        )


@dataclass(frozen=True, eq=False)
class _Given:
    """A user's sequences, as given and with padding taken off, and where the loss is read."""

    sequences: Any
    lengths: Any
    padding: Padding | None
    at: At

    @cached_property
    def read(self) -> Aligned:
        if self.sequences is None:
            return Aligned(None, None, None)
        return aligned(self.sequences, None, self.lengths, self.padding)

    def largest(self, network: Network) -> InputGroup | None:
        """Many of them, in one batch."""
        if self.sequences is None:
            return None
        return inputs.largest(network, self.read.sequences, self.read.lengths)

    def groups(self, kind: InputKind, d_x: int, **many: bool) -> list[InputGroup]:
        """Sequences without padding on which a module is run."""
        return inputs.given(kind, d_x, self.read.sequences, self.read.lengths, **many)


def _read(
    model: nn.Module,
    named: dict[str, nn.Module | str | None],
    usage: Usage,
    given: _Given,
    input_kind: InputKind | None,
) -> Module:
    parts = find_parts(model, named)
    account(model, parts)
    with evaluating(model):  # a copy's weights would be fresh
        refuse_stale_weights(model, parts.recurrent)
    below = model.get_submodule(parts.recurrent[0]) if parts.recurrent else None
    arguments = arguments_of(model, below)
    if parts.own is not None:
        network, compared = _described(model, parts, arguments, usage, given)
        plan = None
    else:
        kinds = _possible_kinds(given.sequences, parts.embedding is not None, input_kind)
        reader = _Reader(model, parts, arguments, usage, kinds, given)
        network, compared = reader.network()
        plan = reader.plan
    caller = PaddedCaller(network, model, arguments, usage, compared, given.padding, given.at)
    call = replace(_call(model, compared, given), lengths=caller.asks)
    if given.sequences is None:
        call = replace(call, again=partial(_again, caller, Seen(), call))
    else:
        call = _again(caller, Seen(), call, given.sequences, given.lengths)
    return Module(network, parts, plan, call)


def _call(model: nn.Module, compared: Compared, given: _Given) -> Call:
    """How the module was called when it was its network."""
    parts = isinstance(model, Composition)
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.parameters()}
    kind = kinds.pop() if len(kinds) == 1 else "mixed"
    return Call(
        "parts" if parts else "module",
        compared.form.steps_first,
        None if parts else compared.answered,
        None if parts else compared.layout,
        compared.stated,
        compared=None if given.sequences is None else compared.sequences,
        batch=compared.batch,
        alone=compared.alone,
        reordered=compared.reordered,
        stored=kind,
        arithmetic=compared.arithmetic,
    )


def _again(caller: PaddedCaller, seen: Seen, call: Call, sequences: Any, lengths: Any) -> Call:
    """The call of a module that is shown further sequences, as they came."""
    with _ONE_AT_A_TIME, usual_torch():
        seen = caller.shown(seen, sequences, lengths)
    call = seen.told(call)
    return replace(call, again=partial(_again, caller, seen, call))


def _described(
    model: nn.Module, parts: ModuleParts, arguments: Arguments, usage: Usage, given: _Given
) -> tuple[Network, Compared]:
    """The Network that a module gives of itself."""
    with evaluation_copy(model, torch.float64) as copy:
        network = own_network(copy, parts)
    if given.sequences is None:
        groups = inputs.drawn(network.input_kind, network.d_x)
    else:
        groups = given.groups(network.input_kind, network.d_x)
    largest = given.largest(network)
    return network, parity.check(network, model, arguments, usage, groups, given.at, largest)


@dataclass
class _Reader:
    """Finds the plan of a model's parts with which the Network is the model."""

    model: nn.Module
    parts: ModuleParts
    arguments: Arguments
    usage: Usage
    kinds: tuple[InputKind, ...]
    given: _Given
    failures: dict[InputKind, DoesNotRunError] = field(default_factory=dict)
    ran: list[InputGroup] = field(default_factory=list)
    closest: tuple[float, ReadingPlan, list[InputGroup]] | None = None
    plan: ReadingPlan | None = None

    def network(self) -> tuple[Network, Compared]:
        """The Network, and how the module was called."""
        structures = search.structures(self.model, self.parts)
        first: ParityError | None = None
        for redrawn in (True, False):
            for plan, groups in self._plans(structures, redrawn):
                try:
                    return self._checked(plan, groups, every=not redrawn)
                except (BatchError, CallError):
                    raise
                except ParityError as error:
                    first = first or error
        if first is not None:
            raise first
        return self._refused(structures)

    def _checked(
        self, plan: ReadingPlan, groups: list[InputGroup], *, every: bool
    ) -> tuple[Network, Compared]:
        """The plan's Network, if it is the model on the user's sequences.

        All of them, where nothing but these sequences tells that it is.
        """
        with evaluation_copy(self.model, torch.float64) as copy:
            # Weights that a hook computes are computed when the module runs.
            with suppress(DoesNotRunError):
                Runner(copy, self.arguments, self.usage).outputs(groups[0])
            network = Weights(copy).network(plan)
        if self.given.sequences is not None:
            groups = self.given.groups(plan.input_kind, network.d_x, every=every)
        compared = parity.check(
            network, self.model, self.arguments, self.usage, groups, self.given.at,
            self.given.largest(network),
        )  # fmt: skip
        self.plan = plan
        return network, compared

    def _plans(
        self, structures: list[ModuleStructure], redrawn: bool
    ) -> Iterator[tuple[ReadingPlan, list[InputGroup]]]:
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
                            search.draw_weights(copy)
                        outputs = self._outputs(copy, kind, groups)
                        if outputs:
                            yield from self._agreeing(copy, kind, alike, outputs)
                            break

    def _groups(self, kind: InputKind, d_x: int, redrawn: bool) -> list[InputGroup]:
        """Drawn sequences, or a few of the user's."""
        given = self.given.sequences is not None and kind == "real"
        shape: tuple[int, ...] = np.shape(self.given.sequences) if given else ()
        if len(shape) == 3 and shape[-1] != d_x:
            return []
        if redrawn or self.given.sequences is None:
            padding = None
            if self.parts.embedding is not None:
                table: Any = self.model.get_submodule(self.parts.embedding)
                padding = table.padding_idx
            groups = inputs.drawn(kind, d_x, padding)
        else:
            groups = self.given.groups(kind, d_x, few=True)[::-1]
            groups = [
                InputGroup(group.rows[:MOST_ROWS], group.x[:MOST_ROWS, :MOST_SEARCHED])
                for group in groups
            ]
        batch = self.arguments.batch
        return groups if batch is None else [group.of_size(batch) for group in groups]

    def _outputs(
        self, copy: nn.Module, kind: InputKind, groups: list[InputGroup]
    ) -> list[tuple[InputGroup, list[Array], float]]:
        """What the module gives for those groups on which it runs, with the tolerance."""
        found = []
        for group in groups:
            try:
                runner = Runner(copy, self.arguments, self.usage)
                found.append((group, runner.outputs(group), runner.tolerance))
                self.ran.append(group)
            except DoesNotRunError as error:
                self.failures.setdefault(kind, error)
        return found

    def _agreeing(
        self,
        copy: nn.Module,
        kind: InputKind,
        structures: list[ModuleStructure],
        outputs: list[tuple[InputGroup, list[Array], float]],
    ) -> Iterator[tuple[ReadingPlan, list[InputGroup]]]:
        (group, first, tolerance), *others = outputs
        groups = [one[0] for one in outputs]
        every = chain.from_iterable(
            search.plans(copy, self.parts, one, kind, first, group, self.given.at, tolerance)
            for one in structures
        )
        for excess, plan in islice(every, MOST_PLANS):
            readable = plan.read == "step" or self.given.at == "last"
            if readable and (self.closest is None or excess < self.closest[0]):
                self.closest = excess, plan, groups
            if excess <= 1.0:
                network = Weights(copy).network(plan)
                if all(
                    parity.compare(network, there, other, self.given.at, tolerance)
                    for other, there, _ in others
                ):
                    yield plan, groups

    def _refused(self, structures: list[ModuleStructure]) -> tuple[Network, Compared]:
        """No plan agrees: why, as well as can be said; or the closest one agrees after all."""
        if not self.ran and structures and self.failures:
            raise self.failures.get(self.kinds[-1]) or next(iter(self.failures.values()))
        ran = self.ran or self._guessed()
        refusals.blame(self.model, self.parts, self.arguments, self.usage, ran)
        if self.closest is not None:
            return self._checked(self.closest[1], self.closest[2], every=True)
        if structures:  # inputs of another dimension than any structure reads
            d_x = structures[0].d_x
            self.given.groups(self.kinds[0], d_x)
        raise refusals.no_order(self.model, self.parts)

    def _guessed(self) -> list[InputGroup]:
        """Sequences of every dimension that some part reads, for a model of no known structure."""
        sizes: list[int] = []
        if self.parts.embedding is not None:
            table: Any = self.model.get_submodule(self.parts.embedding)
            sizes = [table.num_embeddings]
        for name in (*self.parts.linears, *self.parts.recurrent) if not sizes else ():
            sizes.append(search.dimensions(self.model.get_submodule(name))[0])
        return [inputs.drawn(kind, size)[0] for kind in self.kinds for size in dict.fromkeys(sizes)]


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
