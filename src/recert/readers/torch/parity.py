"""Whether a Network computes what a torch module computes: both are run and compared.

Sequences are cut to equal lengths before the module sees them, so that no padding is involved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recert.certificates.predictor import Output
from recert.errors import BatchError, CallError, ParityError
from recert.networks.forward import check_reading, network_predictor
from recert.networks.network import Bidirectional, Block, Dense, Layer, Network
from recert.readers.torch.calls import Arguments
from recert.readers.torch.comparison import Difference, Wanted
from recert.readers.torch.running import (
    CallForm,
    DoesNotRunError,
    InputGroup,
    Runner,
    Usage,
    evaluation_copy,
)
from recert.samples.sample import At

Array = NDArray[np.float64]

# A class is tied with another that is behind by so many tolerances, relative to the largest logit.
RELATIVE = 4.0
# Sequences of a group that are run as the module is stored, and how far classes may then be apart.
AS_STORED = 64
COARSE = {torch.bfloat16: 2.0**-3}
# A tolerance with which the closest of all forms is found, however far.
NONE_WITHIN = 1e-30


@dataclass(frozen=True)
class Compared:
    """How a module was called when it gave the Network's logits.

    Attributes:
        form: the way of giving it sequences.
        answered: which of its outputs that was; None for the only one, "" for the first.
        layout: of the answer.
        sequences: on how many.
        batch: how many of them at once, at most.
        alone: whether single ones were run, too.
        reordered: whether the same ones were, in another order.
        stated: whether it asked for states.
        arithmetic: in which it was run.
    """

    form: CallForm
    answered: Output
    layout: str
    sequences: int
    batch: int
    alone: bool
    reordered: bool
    stated: bool
    arithmetic: str


@dataclass(frozen=True)
class _Found:
    """A group as it was compared, how, and what is wanted of it."""

    form: CallForm
    layout: str
    group: InputGroup
    want: Wanted


def check(
    network: Network,
    model: nn.Module,
    arguments: Arguments,
    usage: Usage,
    groups: list[InputGroup],
    at: At,
    largest: InputGroup | None = None,
) -> Compared:
    """Run both, the module in float64 if it can be; and once more as it is stored.

    Args:
        network: read from the model.
        model: left as it was.
        arguments: what its forward asks for.
        usage: what the user says of it.
        groups: sequences, from `given` or `drawn`.
        at: as in `recert.readers.from_torch`.
        largest: many sequences that are run in one batch, where the module can be.

    Raises:
        DoesNotRunError: the module cannot be run on the sequences.
        BatchError: the answer to a sequence depends on the others of its batch.
        CallError: it gives these logits with steps first only, and it runs on plain sequences.
        ParityError: logits differ by more than rounding explains, or classes do.
        InputError: the network gives one output a sequence and the loss is read within it.

    """
    check_reading(network, at)
    failure: DoesNotRunError | None = None
    for dtype in (torch.float64, None):
        with evaluation_copy(model, dtype) as module:
            try:
                runner = Runner(module, arguments, usage)
                found = _compared(network, runner, groups, at, largest)
            except DoesNotRunError as error:
                failure = failure or error
                continue
        _check_as_stored(network, model, arguments, usage, found, groups, at)
        return found
    assert failure is not None
    raise failure


def compare(
    network: Network, outputs: list[Array], group: InputGroup, at: At, tolerance: float
) -> bool:
    """Whether an answer of a module to a group is the network's logits, rounding apart."""
    difference = _wanted(network, group, at, tolerance).closest(outputs)
    return difference is not None and difference.within


def _compared(
    network: Network, runner: Runner, groups: list[InputGroup], at: At, largest: InputGroup | None
) -> Compared:
    """The first way of calling the module on which it is the network throughout."""
    if runner.arguments.batch is not None:
        groups, largest = [group.of_size(runner.arguments.batch) for group in groups], None
    first: ParityError | None = None
    for steps_first in runner.usage.orders:
        try:
            ordered = runner.with_order(steps_first)
            found = [_check_group(network, ordered, group, at) for group in groups]
        except ParityError as error:
            if first is None or isinstance(first, DoesNotRunError):
                first = error
            continue
        if steps_first and runner.usage.steps_first is None:
            _refuse_if_plain_runs(runner, groups, found[0].form)
        most = max(len(group.rows) for group in groups)
        more = largest is not None and len(largest.rows) > most
        if largest is not None and more and _runs_at_once(network, ordered, largest, at):
            groups = [*groups, largest]
        longest = max(found, key=lambda one: one.group.steps)
        return Compared(
            longest.form,
            ordered.answered,
            longest.layout,
            len(np.unique(np.concatenate([group.rows for group in groups]))),
            max(len(group.rows) for group in groups),
            min([_same_in_order(ordered, one, slice(1)) for one in found]),
            min([_same_in_order(ordered, one, slice(None, None, -1)) for one in found]),
            runner.arguments.variants > 1,
            str(runner.dtype).removeprefix("torch."),
        )
    assert first is not None
    raise first


def _runs_at_once(network: Network, runner: Runner, group: InputGroup, at: At) -> bool:
    """Whether the module runs on one large batch, where it has to be the network as well."""
    try:
        _check_group(network, runner, group, at)
    except DoesNotRunError:
        return False
    except ParityError as error:
        raise BatchError(
            f"in one batch of {len(group.rows)} sequences the model answers otherwise than in "
            f"smaller ones: {error}"
        ) from None
    return True


def _same_in_order(runner: Runner, found: _Found, order: slice) -> bool:
    """Whether the module runs on these sequences of a group, in that order, and answers the same.

    Raises:
        BatchError: it runs and answers otherwise.
    """
    group, alone = found.group, order == slice(1)
    one = InputGroup(group.rows[order], group.x[order].copy())
    if runner.arguments.batch is not None and alone:
        return False
    try:
        output = runner.run(one, found.form)
    except Exception:  # a user's forward may raise anything
        return False
    # Another order of sums moves logits by as much as parity allows.
    want = replace(found.want, logits=found.want.logits[order], tolerance=4 * found.want.tolerance)
    difference = want.closest([output])
    if difference is None or difference.layout != found.layout:
        return False
    if not difference.within:
        how = "asked one sequence alone" if alone else "asked the same sequences in another order"
        raise BatchError(
            f"{how} the model answers otherwise: logits differ by {difference.size:.2g}, so what "
            "it answers depends on the others in a batch, or on their order; let forward answer "
            "each sequence by itself, in the place where it stands"
        )
    return True


def _refuse_if_plain_runs(runner: Runner, groups: list[InputGroup], form: CallForm) -> None:
    """What is computed with steps first is no answer to a call that runs without."""
    for group in groups:
        try:
            answered = runner.run(group, replace(form, steps_first=False))
        except Exception:  # a user's forward may raise anything
            continue
        raise CallError(
            "the model computes a network of its parts only where it is given steps first; "
            f"model(x) on sequences of shape {group.x.shape} also runs and answers otherwise "
            f"(shape {answered.shape}): it steps over the sequences of a batch. Build its "
            "layers with batch_first=True, or pass steps_first=True if you give it "
            "x.transpose(0, 1)"
        )


def _check_group(network: Network, runner: Runner, group: InputGroup, at: At) -> _Found:
    """Halves the sequences while rounding alone would move the logits as far as they differ."""
    while True:
        want = _wanted(network, group, at, runner.tolerance)
        ((form, output),) = runner.answers(group)
        difference = want.closest([output])
        if difference is None:
            raise ParityError(_unfit(runner, output, network.K, group))
        if difference.within:
            share = RELATIVE * runner.tolerance
            _check_classes(network, runner.dtype, group, want, difference, share)
            _check_again(runner, group, want, form)
            return _Found(form, difference.layout, group, want)
        if group.steps == 1 or difference.size > 100.0 * _rounding(
            network, runner.dtype, group, want
        ):
            raise ParityError(mismatch(difference, group, want.largest, runner.answered))
        group = group.short(group.steps // 2)


def _unfit(runner: Runner, output: Array, K: int, group: InputGroup) -> str:
    which = _which(runner.answered) or "what the model returns"
    return (
        f"{which} has the shape {output.shape}, not (n, K) or (n, T, K) with "
        f"K = {K} for {len(group.x)} sequences of {group.steps} steps; if another of its outputs "
        "holds the logits name it with output=, else wrap the model in a module whose forward "
        "returns the logits alone"
    )


def _check_again(runner: Runner, group: InputGroup, want: Wanted, form: CallForm) -> None:
    """The same sequences must give the same logits once more: a certificate knows no memory."""
    again = want.closest([runner.run(group, form)])
    if again is None or not again.within:
        raise ParityError(runner.why_other(group, form))


def _check_classes(
    network: Network,
    dtype: torch.dtype,
    group: InputGroup,
    want: Wanted,
    difference: Difference,
    share: float,
) -> None:
    """Numbers may agree so close to 0 or 1 that the classes do not: these have to, too.

    Classes whose logits differ by less than ``share`` of the largest, or than rounding moves them,
    are ties.
    """
    behind = difference.behind()
    if float(behind.max()) <= share * want.largest:
        return
    if float(behind.max()) <= 100.0 * _rounding(network, dtype, group, want):
        return
    row = int(np.unravel_index(int(np.argmax(behind)), behind.shape)[0])
    kind = str(dtype).removeprefix("torch.")
    raise ParityError(
        f"run in {kind}, the model predicts another class for sequence {int(group.rows[row])} than "
        f"its own weights in exact arithmetic, where that class lies {behind.max():.2g} behind "
        f"(logits up to {want.largest:.2g}); let forward return logits, without sigmoids or "
        "conversions"
    )


def _check_as_stored(
    network: Network,
    model: nn.Module,
    arguments: Arguments,
    usage: Usage,
    compared: Compared,
    groups: list[InputGroup],
    at: At,
) -> None:
    """The classes once more in the precision in which the module is stored and used."""
    with evaluation_copy(model, None) as module:
        runner = Runner(module, arguments, usage, coarse=True)
        if runner.dtype == torch.float64:
            return
        for group in groups:
            some = InputGroup(group.rows[:AS_STORED], group.x[:AS_STORED])
            if arguments.batch is not None:
                some = group.of_size(arguments.batch)
            try:
                output = runner.run(some, compared.form)
            except Exception:  # it may be stored in a precision that no CPU computes with
                return
            want = _wanted(network, some, at, NONE_WITHIN)
            difference = want.closest([output])
            if difference is not None:
                share = COARSE.get(runner.dtype, 2.0**-6)
                _check_classes(network, runner.dtype, some, want, difference, share)


def _which(answered: Output) -> str:
    if answered is None:
        return ""
    return "the first of its outputs" if answered == "" else f"output {answered!r}"


def mismatch(
    difference: Difference, group: InputGroup, largest: float, answered: Output = None
) -> str:
    """That the module does something else, and where; ``answered`` is the output that counts."""
    which = _which(answered)
    which = f"{which} counts, or the one that output= names, and in it " if which else ""
    return (
        f"{which}the model does not compute what its parts would: at step "
        f"{difference.step + 1} of sequence {int(group.rows[difference.row])} the logits differ by "
        f"{difference.size:.2g} (logits up to {largest:.2g}), so a certificate would not speak of "
        "it; let forward return the head's logits of the recurrent states from a zero start and "
        "nothing else, name the parts with recurrent=, head=, embedding=, or describe the network "
        "by hand with recert.networks.network"
    )


def _wanted(network: Network, group: InputGroup, at: At, tolerance: float) -> Wanted:
    return Wanted(
        _logits(network, group),
        group.steps,
        last=at == "last",
        whole=at == "average" and network.two_way,
        tolerance=tolerance,
    )


def _logits(network: Network, group: InputGroup) -> Array:
    """(n, T, K), or (n, 1, K) where the network gives one output a sequence."""
    lengths = np.full(len(group.x), group.steps)
    with np.errstate(over="ignore", invalid="ignore"):
        if network.read == "step":
            return network_predictor(network)(group.x, lengths, "average")
        return network_predictor(network)(group.x, lengths, "last")[:, None]


def _rounding(network: Network, dtype: torch.dtype, group: InputGroup, want: Wanted) -> float:
    """How far the logits move when every weight moves in its last bits; inf where they overflow."""
    if not np.isfinite(want.logits).all():
        return np.inf
    moved = _logits(_jittered(network, 4.0 * torch.finfo(dtype).eps), group)
    largest = float(np.abs(moved - want.logits).max())
    return largest if np.isfinite(largest) else np.inf


def _jittered(network: Network, scale: float) -> Network:
    rng = np.random.default_rng(0)

    def moved(block: Block) -> Block:
        noise = rng.choice([-scale, scale], size=block.shape)
        return replace(block, value=block.value * (1.0 + noise))

    return with_blocks(network, moved)


def with_blocks(network: Network, change: Callable[[Block], Block]) -> Network:
    """The same network with every block replaced."""

    def layer(old: Layer) -> Layer:
        blocks = {role: change(block) for role, block in old.blocks.items()}
        return Layer(old.cell, blocks, old.activation)

    def dense(old: Dense) -> Dense:
        return replace(old, A=change(old.A), b=None if old.b is None else change(old.b))

    head = network.head
    return replace(
        network,
        layers=tuple(
            Bidirectional(layer(old.forward), layer(old.backward))
            if isinstance(old, Bidirectional)
            else layer(old)
            for old in network.layers
        ),
        head=replace(
            head,
            V=change(head.V),
            b=None if head.b is None else change(head.b),
            hidden=tuple(map(dense, head.hidden)),
        ),
        embedding=None if network.embedding is None else change(network.embedding),
        encoder=tuple(map(dense, network.encoder)),
    )
