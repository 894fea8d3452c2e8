"""Arrays as people have them (numpy, torch, lists, tables), as plain numpy arrays of numbers.

Values come out as they went in. What numpy cannot hold, or would read as something else than was
meant (a mask that it ignores, an imaginary part that it drops), is refused in one line.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.errors import InputError, type_of

# Torch's floats that numpy lacks, each with the first whole number beyond which it skips some.
_NARROW = {
    "bfloat16": 256,
    "float8_e4m3fn": 16,
    "float8_e4m3fnuz": 16,
    "float8_e5m2": 8,
    "float8_e5m2fnuz": 8,
}
_KINDS = {
    "c": ("complex", "pass real numbers (of vectors both parts as entries)"),
    "M": ("dates", "pass numbers"),
    "m": ("spans of time", "pass numbers"),
    "U": ("texts", "pass whole numbers (classes and tokens count from 0)"),
    "S": ("texts", "pass whole numbers (classes and tokens count from 0)"),
    "V": ("records", "pass one field, or a plain array"),
    "O": ("Python objects", "pass an array of numbers"),
}


def numbers(value: Any, what: str) -> NDArray[Any]:
    """A numpy array of booleans, integers or floats, in the machine's byte order.

    Floats that numpy lacks (bfloat16) become float32, which holds them exactly. Long doubles are
    rounded to float64, which is what networks read.

    Args:
        value: an array, a tensor on any device, a table, or lists of numbers or of tensors.
        what: its name in messages, a plural.

    Raises:
        InputError: it is none of these, or ragged, sparse, nested, masked, complex, …
    """
    array = _numpy(value, what)
    kind = array.dtype.kind
    if array.dtype.name in _NARROW:  # of a library that teaches numpy such types
        array = _widened(array, array.dtype.name, what)
    elif kind not in "biuf":
        name, remedy = _KINDS.get(kind, ("no numbers", "pass a numeric array"))
        raise InputError(f"{what} are {name} (dtype {array.dtype}); {remedy}")
    elif kind == "f" and array.dtype.itemsize > 8:
        with np.errstate(over="ignore"):
            return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def whole(array: NDArray[Any], what: str) -> NDArray[np.int64]:
    """The same numbers as int64.

    Raises:
        InputError: some are not whole, or so large that their type may have rounded them.
    """
    kind = array.dtype.kind
    if kind == "f" and array.size:
        bad = np.argwhere(~np.isfinite(array) | (array != np.floor(array)))
        if bad.size:
            raise InputError(
                f"{what} must be whole numbers, and {array[tuple(bad[0])]} is among them"
            )
        limit = 2.0 / float(np.finfo(array.dtype).eps)
        largest = float(np.abs(array).max())
        if largest >= limit:
            raise InputError(
                f"{what} hold {largest:.0f} as {array.dtype}, which skips whole numbers from "
                f"{limit:.0f} on; pass integers"
            )
    if kind == "u" and array.size and int(array.max()) >= 2**63:
        raise InputError(f"{what} hold {int(array.max())}; whole numbers lie below 2^63")
    return array.astype(np.int64, copy=False)


def ids(value: Any, count: int) -> NDArray[Any]:
    """Ids (count,) of any one kind that can be compared: integers, texts, dates, …

    Raises:
        InputError: there are not as many, some are missing, or they are of several types.
    """
    found = _numpy(value, "groups")
    if found.shape != (count,):
        raise InputError(f"groups have shape {found.shape} for {count} sequences; give one each")
    if _gaps(found):
        raise InputError("groups hold None or NaN; give every sequence the id of its unit")
    return found


def _gaps(found: NDArray[Any]) -> bool:
    """Whether an entry is missing."""
    if found.dtype.kind != "O":
        return bool((found != found).any())
    return any(entry is None or type(entry).__name__ in ("NAType", "NaTType") for entry in found)


def refuse_fractions(array: NDArray[Any], what: str) -> None:
    """InputError for (m, T) floats that are no tokens: a series of numbers is (m, T, 1)."""
    if array.ndim != 2 or array.dtype.kind != "f":
        return
    bad = np.argwhere(~np.isfinite(array) | (array != np.floor(array)))
    if bad.size:
        raise InputError(
            f"{what} of shape {array.shape} hold {array[tuple(bad[0])]:.4g}, which is no token; "
            "floats are vectors (m, T, d_x): add an axis, x[..., None], for one number a step, and "
            "let the model read it so"
        )


def _numpy(value: Any, what: str) -> NDArray[Any]:
    """As numpy reads it; InputError where it cannot, or would leave something out."""
    if hasattr(value, "detach"):
        return _of_tensor(value, what)
    if isinstance(value, (list, tuple)) and any(hasattr(entry, "detach") for entry in value):
        if hasattr(value, "batch_sizes"):
            raise InputError(
                f"{what} are a PackedSequence; pass what "
                "torch.nn.utils.rnn.pad_packed_sequence(x, batch_first=True) gives, with lengths"
            )
        value = [_numpy(entry, what) for entry in value]
    if hasattr(value, "toarray"):  # scipy's and others' sparse matrices
        raise InputError(f"{what} are sparse; pass x.toarray()")
    if np.ma.is_masked(value):
        raise InputError(
            f"{what} are a masked array, whose mask would be ignored; fill it, x.filled(0), and "
            "pass lengths"
        )
    try:
        return np.asarray(value)
    except Exception as error:  # whatever __array__ raises
        if isinstance(error, ValueError) and isinstance(value, (list, tuple)):
            raise InputError(f"{what} are ragged; pad them and pass lengths") from None
        raise _unreadable(value, what, error) from None


def _of_tensor(tensor: Any, what: str) -> NDArray[Any]:
    """A torch tensor on any device, whether or not it requires gradients."""
    for attribute, kind, remedy in (
        ("is_nested", "a nested tensor", "torch.nested.to_padded_tensor(x, 0.0), and lengths"),
        ("is_quantized", "a quantised tensor", "x.dequantize()"),
    ):
        if getattr(tensor, attribute, False):
            raise InputError(f"{what} are {kind}; pass {remedy}")
    if getattr(tensor, "is_meta", False):
        raise InputError(f"{what} are on the meta device, where there are no numbers; load them")
    if str(getattr(tensor, "layout", "torch.strided")) != "torch.strided":
        raise InputError(f"{what} are a sparse tensor; pass x.to_dense()")
    name = str(getattr(tensor, "dtype", "")).removeprefix("torch.")
    try:
        if name in _NARROW:
            return _widened(tensor.detach().float().cpu().numpy(), name, what)
        found: NDArray[Any] = tensor.numpy(force=True)
        return found
    except InputError:
        raise
    except Exception as error:  # kinds of tensors that nobody here knows
        raise _unreadable(tensor, what, error) from None


def _widened(array: NDArray[Any], name: str, what: str) -> NDArray[np.float32]:
    """As float32; InputError for whole numbers, labels or tokens, that their type may have rounded.

    Only vectors have three axes.
    """
    wide = array.astype(np.float32)
    limit = _NARROW[name]
    if wide.ndim < 3 and wide.size and float(np.abs(wide).max()) >= limit:
        raise InputError(
            f"{what} are {name}, which skips whole numbers from {limit} on; pass integers"
        )
    return wide


def _unreadable(value: Any, what: str, error: Exception) -> InputError:
    lines = str(error).splitlines() or [type(error).__name__]
    return InputError(
        f"{what} cannot be read from {type_of(value)} ({lines[0][:120]}); pass a numpy "
        "array or a torch tensor of numbers"
    )
