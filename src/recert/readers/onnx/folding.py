"""Arithmetic on what is known: shapes taken from shapes, weights cut and put together.

Entries that are made are counted, so that no small file makes a large array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import FileError, UnsupportedModelError
from recert.readers.onnx.model import FLOATS, OnnxNode
from recert.readers.onnx.values import Filled, Known, Size, Value, product

MOST_AXES = 8
# A fill of zeros, as it is made when the model is run: unknown sizes count as this many.
MOST_FILLED, UNKNOWN = 1 << 26, 16
_ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}


class Budget:
    """How many entries folding may still make."""

    def __init__(self, entries: int) -> None:
        self.left = entries

    def spend(self, entries: int, node: OnnxNode) -> None:
        """Count entries; UnsupportedModelError when there are too many."""
        self.left -= entries
        if self.left < 0:
            raise node.unsupported("the constants that it makes are larger than the model")


def integers(value: Value, node: OnnxNode, what: str) -> list[int]:
    """A known tensor's integers, flat.

    Raises:
        UnsupportedModelError: they depend on the sequences.
        FileError: they are no integers.
    """
    if not isinstance(value, Known) or value.symbolic:
        raise node.unsupported(f"its {what} must be constant")
    if value.array.dtype.kind != "i" or value.array.size > 64:
        raise FileError(f"{node.where}: its {what} are no short list of integers; export it again")
    return [int(entry) for entry in value.array.reshape(-1)]


def sizes_of(value: Value, node: OnnxNode) -> tuple[Size, ...]:
    """A shape given as a tensor."""
    if not isinstance(value, Known) or value.array.ndim != 1 or value.array.size > MOST_AXES:
        raise node.unsupported("its shape must be computed from constants and shapes")
    if value.symbolic:
        return tuple(value.array)
    if value.array.dtype.kind != "i":
        raise FileError(f"{node.where}: its shape holds no integers; export the model again")
    return tuple(Size(int(entry)) for entry in value.array)


def known_sizes(entries: Any) -> Known:
    """Sizes as a value: integers where all are known."""
    flat = list(entries)
    if all(size.known for size in flat):
        return Known(np.array([size.factor for size in flat], dtype=np.int64))
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return Known(array)


def axis_of(axis: int, rank: int, node: OnnxNode) -> int:
    """An axis counted from the front; FileError if there is none."""
    if not -rank <= axis < rank:
        raise FileError(f"{node.where}: there is no axis {axis} among {rank}; export it again")
    return axis % rank


def constant(node: OnnxNode) -> Value:
    """The value of a Constant node."""
    for key in ("value", "value_int", "value_ints", "value_float", "value_floats"):
        if key in node.attributes:
            value = node.attributes[key]
            if isinstance(value, (np.ndarray, int, float, tuple)):
                whole = key.startswith("value_int")
                plain = value if isinstance(value, np.ndarray) else _plain(value, whole)
                return Known(plain)
    raise node.unsupported("only constants of numbers are covered")


def _plain(value: Any, whole: bool) -> NDArray[Any]:
    return np.array(value, dtype=np.int64 if whole else np.float64)


def constant_of_shape(node: OnnxNode, shape: Value) -> Value:
    """A fill, made only in name."""
    value = node.attributes.get("value", np.zeros(1))
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise FileError(f"{node.where}: its value is not one number; export the model again")
    sizes = sizes_of(shape, node)
    _check_fill(sizes, node)
    return Filled(float(value.reshape(())), sizes)


def expand(node: OnnxNode, value: Value, shape: Value) -> Value:
    """A fill expanded to a larger shape."""
    sizes = sizes_of(shape, node)
    if isinstance(value, Known) and not value.symbolic and value.array.size:
        first = value.array.reshape(-1)[0]
        if (value.array == first).all():
            value = Filled(float(first), tuple(map(Size, value.array.shape)))
    if not isinstance(value, Filled):
        raise node.unsupported("only tensors of one repeated number may be expanded")
    own = (Size(1),) * (len(sizes) - len(value.shape)) + value.shape
    sizes = (Size(1),) * (len(own) - len(sizes)) + sizes
    both = tuple(b if a == Size(1) else a for a, b in zip(own, sizes, strict=True))
    _check_fill(both, node)
    return Filled(value.value, both)


def _check_fill(sizes: tuple[Size, ...], node: OnnxNode) -> None:
    total = product(sizes)
    if any(size.factor < 0 for size in sizes) or len(total.unknown) > MOST_AXES:
        raise FileError(f"{node.where}: its shape is no shape; export the model again")
    if total.factor * UNKNOWN ** len(total.unknown) > MOST_FILLED:
        raise node.unsupported("the tensor that it makes is too large")


def slice_filled(
    value: Filled, axis: int, start: int, end: int, step: int, node: OnnxNode
) -> Filled:
    """A part of a fill along an axis of known length."""
    size = value.shape[axis]
    if not size.known:
        raise node.unsupported("a part of constant states along an unknown axis is not covered")
    count = len(range(*slice(start, end, step).indices(size.factor)))
    shape = list(value.shape)
    shape[axis] = Size(count)
    return Filled(value.value, tuple(shape))


def cast(node: OnnxNode, value: Value) -> Value:
    """Between number types; sizes stay whole."""
    to = node.attribute("to", int, 1)
    if not isinstance(value, Known):
        return value
    if value.symbolic:
        if to in FLOATS:
            raise node.unsupported("sizes are not computed in floats")
        return value
    return Known(value.array.astype(np.float64 if to in FLOATS else np.int64))


def arithmetic(node: OnnxNode, left: Known, right: Known, budget: Budget) -> Value:
    """A sum, difference or product, with broadcasting."""
    if node.op not in _ARITHMETIC or (node.op != "Mul" and (left.symbolic or right.symbolic)):
        raise node.unsupported("this arithmetic on sizes is not covered")
    shape = np.broadcast_shapes(left.array.shape, right.array.shape)
    budget.spend(int(np.prod(shape, dtype=object)), node)
    if left.symbolic or right.symbolic:
        one, other = _as_sizes(left), _as_sizes(right)
        return _settled(np.asarray(np.multiply(one, other), dtype=object))
    with np.errstate(all="ignore"):
        return Known(np.asarray(_ARITHMETIC[node.op](left.array, right.array)))


def concatenate(node: OnnxNode, values: list[Known], axis: int, budget: Budget) -> Value:
    """One after the other along an axis."""
    budget.spend(sum(value.array.size for value in values), node)
    if any(value.symbolic for value in values):
        return _settled(np.concatenate([_as_sizes(value) for value in values], axis=axis))
    return Known(np.concatenate([value.array for value in values], axis=axis))


def gather(node: OnnxNode, value: Known, indices: Known, axis: int, budget: Budget) -> Value:
    """Entries by index along an axis."""
    if indices.symbolic or indices.array.dtype.kind != "i":
        raise node.unsupported("its indices must be constant integers")
    each = value.array.size // max(1, value.array.shape[axis])
    budget.spend(indices.array.size * each, node)
    taken = np.take(value.array, indices.array, axis=axis)
    if not value.symbolic:
        return Known(np.asarray(taken))
    array = np.empty(np.shape(indices.array), dtype=object)
    array[...] = taken
    return _settled(array)


def reshape(node: OnnxNode, value: Known, shape: list[int]) -> Value:
    """The same entries in another shape; 0 copies a size."""
    resolved = [value.array.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return Known(value.array.reshape(resolved))


def _as_sizes(value: Known) -> NDArray[Any]:
    if value.symbolic:
        return value.array
    if value.array.dtype.kind != "i" or value.array.size > 64:
        raise UnsupportedModelError(
            "a size is computed from what is none; export the model with fixed shapes"
        )
    array = np.empty(value.array.shape, dtype=object)
    for index in np.ndindex(value.array.shape):
        array[index] = Size(int(value.array[index]))
    return array


def _settled(array: NDArray[Any]) -> Known:
    if all(size.known for size in array.reshape(-1)):
        whole = [size.factor for size in array.reshape(-1)]
        return Known(np.array(whole, dtype=np.int64).reshape(array.shape))
    return Known(array)
