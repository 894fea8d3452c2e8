"""Plumbing of signals: axes moved, merged and split, pieces picked and joined, steps picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recert.errors import UnsupportedModelError
from recert.readers.onnx.folding import MOST_AXES, axis_of
from recert.readers.onnx.model import OnnxNode
from recert.readers.onnx.values import (
    Atom,
    DenseStep,
    OnnxPiece,
    RecurrentStep,
    Signal,
    Size,
    Step,
    When,
    product,
)

# Ends of slices from here on mean the axis' end.
TO_THE_END = (1 << 31) - 1


@dataclass(frozen=True)
class Settled:
    """All pieces of a signal as one: the steps done, the step read, the order of the directions."""

    steps: tuple[Step, ...]
    when: When
    order: tuple[int, ...]


def settle(signal: Signal, node: OnnxNode) -> Settled:
    """Pieces as what a layer gives out; UnsupportedModelError if they are no whole output."""
    first = signal.pieces[0]
    if first.direction is None:
        if len(signal.pieces) > 1:
            raise node.unsupported("it joins tensors that are not directions of one layer")
        return Settled(first.steps, first.when, (0,))
    last = first.steps[-1]
    assert isinstance(last, RecurrentStep)
    order = tuple(int(piece.direction or 0) for piece in signal.pieces)
    same = all(piece.steps is first.steps for piece in signal.pieces)
    if not same or sorted(order) != list(range(len(last.directions))):
        raise node.unsupported(
            "it reads something else than the whole output of one recurrent layer (each direction "
            "once)"
        )
    whens = tuple(
        piece.when for _, piece in sorted(zip(order, signal.pieces, strict=True), key=_key)
    )
    if len(set(whens)) == 1 and whens[0] != "first":
        return Settled(first.steps, whens[0], order)
    if whens == ("last", "first"):
        return Settled(first.steps, "final", order)
    raise node.unsupported(
        f"it reads directions at their {' and '.join(whens)} steps; covered are every step, the "
        "last one, the mean, and the steps with which the directions end"
    )


def _key(pair: tuple[int, OnnxPiece]) -> int:
    return pair[0]


def transpose(signal: Signal, perm: Sequence[int], node: OnnxNode) -> Signal:
    """Axes in another order."""
    if sorted(perm) != list(range(len(signal.axes))):
        raise node.unsupported("it permutes other axes than the tensor has")
    return replace(signal, axes=tuple(signal.axes[k] for k in perm))


def squeeze(signal: Signal, axes: Sequence[int] | None, node: OnnxNode) -> Signal:
    """Axes of size 1 dropped: those named, or all."""
    rank = len(signal.axes)
    if axes is None:
        if not all(signal.size(k).known for k in range(rank)):
            raise node.unsupported(
                "it squeezes every axis of size 1 where sizes vary; squeeze a named axis"
            )
        axes = [k for k in range(rank) if signal.size(k) == Size(1)]
    drop = {axis_of(k, rank, node) for k in axes}
    if any(signal.size(k) != Size(1) for k in drop):
        raise node.unsupported("it squeezes an axis whose size is not known to be 1")
    return replace(signal, axes=tuple(g for k, g in enumerate(signal.axes) if k not in drop))


def unsqueeze(signal: Signal, axes: Sequence[int], node: OnnxNode) -> Signal:
    """Axes of size 1 put in, at their places in the result."""
    rank = len(signal.axes) + len(axes)
    if rank > MOST_AXES:
        raise node.unsupported(f"tensors of more than {MOST_AXES} axes are not covered")
    places = {axis_of(k, rank, node) for k in axes}
    left = iter(signal.axes)
    found = tuple(() if k in places else next(left) for k in range(rank))
    return replace(signal, axes=found)


def reshape(signal: Signal, shape: Sequence[Size], node: OnnxNode) -> Signal:
    """Neighbouring axes merged, or taken apart where they were merged."""
    sizes = [
        signal.size(k) if size == Size(0) and k < len(signal.axes) else size
        for k, size in enumerate(shape)
    ]
    groups = _grouped(signal.atoms, tuple(sizes))
    if groups is None:
        raise node.unsupported(
            "it mixes axes in a way that is not covered (a fixed batch size in a reshape, perhaps)"
        )
    return replace(signal, axes=groups)


def _grouped(
    atoms: tuple[Atom, ...], sizes: tuple[Size, ...]
) -> tuple[tuple[Atom, ...], ...] | None:
    """Consecutive atoms for each size (−1: any), so that the products fit; None if impossible.

    The order of the entries in memory is that of the atoms, so whatever fits is what happens.
    """
    if not sizes:
        return () if all(atom.size == Size(1) for atom in atoms) else None
    first, rest = sizes[0], sizes[1:]
    for count in (*range(1, len(atoms) + 1), 0):
        group = atoms[:count]
        if first == Size(-1) or product(atom.size for atom in group) == first:
            after = _grouped(atoms[count:], rest)
            if after is not None:
                return (group, *after)
    return None


def pick(signal: Signal, axis: int, index: int, time: int | str | None, node: OnnxNode) -> Signal:
    """One entry along an axis, which goes: a step, or a direction."""
    group = signal.axes[axis]
    if [atom.label for atom in group] == ["D"]:
        count = len(signal.pieces)
        chosen = (signal.pieces[axis_of(index, count, node)],)
        left = replace(signal, pieces=chosen)
    elif signal.size(axis) == Size(1) and index in (0, -1) and not _is_time(group, time):
        left = signal
    else:
        left = _at_step(signal, axis, index, time, node)
    return replace(left, axes=(*signal.axes[:axis], *signal.axes[axis + 1 :]))


def _is_time(group: tuple[Atom, ...], time: int | str | None) -> bool:
    return time is not None and [atom.label for atom in group] == [time]


def _at_step(
    signal: Signal, axis: int, index: int, time: int | str | None, node: OnnxNode
) -> Signal:
    if not _is_time(signal.axes[axis], time):
        raise node.unsupported("it picks entries of an axis that is no time axis")
    size = signal.size(axis)
    if index == -1 or (size.known and index == size.factor - 1):
        return _read(signal, "last", node)
    if index == 0 or (size.known and index == -size.factor):
        return _read(signal, "first", node)
    raise node.unsupported("it picks a step that is neither the last nor the first")


def _read(signal: Signal, when: When, node: OnnxNode) -> Signal:
    if any(piece.when != "every" for piece in signal.pieces):
        raise node.unsupported("it picks steps of what has no steps left")
    return replace(signal, pieces=tuple(replace(p, when=when) for p in signal.pieces))


def cut(
    signal: Signal,
    axis: int,
    start: int,
    end: int,
    step: int,
    time: int | str | None,
    node: OnnxNode,
) -> Signal:
    """A slice: everything, the last step, the first step, or some directions."""
    size = signal.size(axis)
    if size.known:
        start, end, step = slice(start, end, step).indices(size.factor)
    if step == 1 and start == 0 and (end == size.factor if size.known else end >= TO_THE_END):
        return signal
    group = signal.axes[axis]
    labels = [atom.label for atom in group]
    if step == 1 and labels in (["D"], ["D", "F"]):
        return _cut_pieces(signal, axis, start, end, node)
    whole = size.factor if size.known else 0
    from_last = start in (-1, whole - 1) and (end >= TO_THE_END or end == whole > 0)
    if step == 1 and _is_time(group, time) and (from_last or (start == 0 and end == 1)):
        read = _at_step(signal, axis, -1 if from_last else 0, time, node)
        return replace(read, axes=(*signal.axes[:axis], (), *signal.axes[axis + 1 :]))
    raise node.unsupported("it takes a part of a tensor that is neither one step nor a direction")


def _cut_pieces(signal: Signal, axis: int, start: int, end: int, node: OnnxNode) -> Signal:
    group = signal.axes[axis]
    width = group[1].size.factor if len(group) > 1 else 1
    pieces = signal.pieces[start // width : end // width]
    if start % width or end % width or not pieces:
        raise node.unsupported("it takes a part of a direction's features")
    return _with_pieces(signal, axis, pieces, group[1:])


def _with_pieces(
    signal: Signal, axis: int, pieces: tuple[OnnxPiece, ...], features: tuple[Atom, ...]
) -> Signal:
    """The signal with other pieces along an axis, which has a ``D`` atom if there are several."""
    side = (Atom("D", Size(len(pieces))),) if len(pieces) > 1 else ()
    axes = (*signal.axes[:axis], (*side, *features), *signal.axes[axis + 1 :])
    return replace(signal, axes=axes, pieces=pieces)


def join(signals: Sequence[Signal], axis: int, node: OnnxNode) -> Signal:
    """Pieces of several signals side by side: a new ``D`` axis, or features after features."""
    first = signals[0]
    axis = axis_of(axis, len(first.axes), node)
    if len(signals) == 1:
        return first
    features = [tuple(a for a in s.axes[axis : axis + 1][0] if a.label != "D") for s in signals]
    others = [(*s.axes[:axis], *s.axes[axis + 1 :]) for s in signals if len(s.axes) > axis]
    plain = all([a.label for a in s.axes[axis]] in ([], ["D"], ["F"], ["D", "F"]) for s in signals)
    apart = all(len(s.pieces) == 1 or s.axes[axis][:1] == (_side(s),) for s in signals)
    fits = len({len(s.axes) for s in signals}) == 1 and others.count(others[0]) == len(others)
    if not (plain and apart and fits and features.count(features[0]) == len(features)):
        raise node.unsupported(
            "it joins tensors that are not outputs of the same width, side by side"
        )
    if any(s.normalized for s in signals):
        raise node.unsupported("it reads what went through a softmax")
    return _with_pieces(first, axis, tuple(p for s in signals for p in s.pieces), features[0])


def _side(signal: Signal) -> Atom:
    return Atom("D", Size(len(signal.pieces)))


def mean_over(
    signal: Signal, axes: Sequence[int], keep: bool, time: int | str | None, node: OnnxNode
) -> Signal:
    """The mean over all steps; of outputs, or of what is linear in them."""
    found = [axis_of(k, len(signal.axes), node) for k in axes]
    if len(found) != 1 or not _is_time(signal.axes[found[0]], time):
        raise node.unsupported("a mean over something else than the time axis is not covered")
    for piece in signal.pieces:
        if any(isinstance(s, DenseStep) and s.activation != "identity" for s in _after(piece)):
            raise node.unsupported("a mean of what went through an activation is not covered")
    read = _read(signal, "mean", node)
    axis = found[0]
    gap: tuple[tuple[Atom, ...], ...] = ((),) if keep else ()
    return replace(read, axes=(*signal.axes[:axis], *gap, *signal.axes[axis + 1 :]))


def _after(piece: OnnxPiece) -> tuple[Step, ...]:
    """The steps after the last recurrent layer."""
    places = [k for k, step in enumerate(piece.steps) if isinstance(step, RecurrentStep)]
    if not places:
        raise UnsupportedModelError("a mean before the recurrent layers is not covered")
    return piece.steps[places[-1] + 1 :]
