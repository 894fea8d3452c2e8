"""Networks on disk: weights in safetensors or a torch state_dict, and a JSON description beside.

ONNX models describe themselves and need no JSON. Nothing is ever unpickled into code: ``.pt`` files
are read by `recert.readers.weights.pickled`, without torch.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.certificates.predictor import Call, check_output
from recert.compression import SUFFIX, load_program
from recert.errors import (
    FileError,
    InputError,
    MissingDependencyError,
    ParityError,
    UnsupportedModelError,
    type_of,
)
from recert.networks.network import Network
from recert.numerics import rounding
from recert.readers.padding import aligned, refusal, runs_apart
from recert.readers.weights import assembly, pickled, state_dicts
from recert.readers.weights import description as descriptions
from recert.samples.sample import At
from recert.utils import files

Array = NDArray[np.float64]

SAFETENSORS, TORCH, ONNX = ".safetensors", (".pt", ".pth"), ".onnx"
STEM = "network"
MOST_BYTES = 4 << 30
MOST_ONNX_BYTES = 2 << 30  # what protobuf allows
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@rounding.usual
def load_network(path: str | Path) -> Network:
    """A network from disk, as float64.

    Args:
        path: a directory with ``network.safetensors`` and ``network.json``; a ``.safetensors``,
            ``.pt`` or ``.pth`` file with a ``.json`` of the same stem beside it; or that stem. The
            JSON's form is in `recert.readers.weights.description`. Or an ``.onnx`` file alone,
            which `recert.readers.onnx.read` reads, and runs to check what it read; or an ``.rcz``
            file that `recert compress` wrote.

    Raises:
        FileError: a file is missing, damaged, or the description does not suit the weights.
        InputError: weights are not finite or their shapes do not fit.
        UnsupportedModelError: a part is not covered.
        ParityError: an ONNX model computes something else than the Network read from it.
        MissingDependencyError: safetensors or onnx is needed and not installed.

    """
    path = files.path_of(path)
    if path.suffix == ONNX:
        return load_onnx(path)[0]
    if path.suffix == SUFFIX:
        return load_program(path).network()
    entry, weights = load_description(path), _locate(path)[0]
    return assembly.network_from(entry, _tensors(weights), str(weights))


def load_description(path: str | Path) -> dict[str, Any]:
    """The JSON description of a saved network, with its ``meta`` if there is one.

    Raises:
        FileError: it is missing or not a description.

    """
    weights, where = _locate(files.path_of(path))
    if not os.path.lexists(where):
        raise _undescribed(weights, f"write {where}")
    if files.is_certificate(where):
        raise _undescribed(weights, f"{where} is a certificate: move it, and write {where}")
    return descriptions.parse(files.read_bytes(where, descriptions.MOST_BYTES), str(where))


def save_network(
    network: Network, path: str | Path, *, meta: Mapping[str, Any] | None = None
) -> Path:
    """Write a network so that `load_network` gives it back with the same digest.

    Args:
        network: any Network.
        path: a directory, made if need be; or a ``.safetensors`` file, the JSON going beside it.
        meta: plain values that go into the description unread (caps declared, alphabet, …).

    Returns:
        The path of the weights.

    Raises:
        FileError: it cannot be written there; no half-written file is left.
        InputError: meta is not JSON.
        MissingDependencyError: safetensors is not installed.

    """
    contents = network_files(network, path, meta=meta)
    files.write_together(contents)
    return next(iter(contents))


def network_files(
    network: Network, path: str | Path, *, meta: Mapping[str, Any] | None = None
) -> dict[Path, bytes]:
    """What `save_network` writes, by path, the weights first.

    Raises:
        InputError: meta is not JSON.
        MissingDependencyError: safetensors is not installed.

    """
    path = files.path_of(path)
    if not isinstance(network, Network):
        raise InputError(f"{type_of(network)} is no Network; save what recert reads")
    pair = path.suffix == SAFETENSORS
    weights = path if pair else path / f"{STEM}{SAFETENSORS}"
    text = descriptions.to_bytes(descriptions.describe(network, meta))
    _need_safetensors()
    import safetensors.numpy

    raw = safetensors.numpy.save(descriptions.tensors_of(network))
    return {weights: raw, weights.with_suffix(".json"): text}


def _locate(path: Path) -> tuple[Path, Path]:
    """Weights and description of what a path means; FileError if there are no weights."""
    if os.path.isdir(path):
        weights = path / f"{STEM}{SAFETENSORS}"
        if not _there(weights):
            raise FileError(f"{path} holds no {weights.name}; pass the weights' file itself")
    elif path.suffix in (SAFETENSORS, *TORCH):
        weights = path
    else:
        stem = path.with_suffix("") if path.suffix == ".json" else path
        there = [p for s in (SAFETENSORS, *TORCH) if _there(p := Path(f"{stem}{s}"))]
        if not there:
            what = "is no network" if _there(path) else "does not exist"
            raise FileError(
                f"{path} {what}; pass a directory that `recert train` wrote, a .onnx or .rcz file, "
                "or a .safetensors, .pt or .pth file of weights, as torch.save(model.state_dict(), "
                "path) writes"
            )
        weights = there[0]
    if not _there(weights):
        raise FileError(f"{weights} does not exist; check the path")
    return weights, weights.with_suffix(".json")


def _there(path: Path) -> bool:
    """Whether there is anything of this name; reading it says whether it can be read."""
    try:
        return os.path.lexists(path)
    except ValueError:  # a zero byte
        return False


def _tensors(path: Path) -> dict[str, Array]:
    return _safetensors(path) if path.suffix == SAFETENSORS else _state_dict(path)


def _safetensors(path: Path) -> dict[str, Array]:
    _need_safetensors()
    from safetensors import SafetensorError, deserialize

    raw = files.read_bytes(path, MOST_BYTES)
    try:
        entries = deserialize(raw)
    except SafetensorError as error:
        raise FileError(
            f"{path} is no complete safetensors file ({error}); copy or save it again"
        ) from None
    return {name: _float64(entry, name, path) for name, entry in entries}


def _float64(entry: Mapping[str, Any], name: str, path: Path) -> Array:
    if entry["dtype"] not in _DTYPES:
        raise FileError(
            f"{path}: tensor {name!r} has dtype {entry['dtype']}; weights are "
            f"{', '.join(_DTYPES)}: convert or remove it"
        )
    if math.prod(n or 1 for n in entry["shape"]) > 1 << 50:  # only of tensors without entries
        raise FileError(f"{path}: tensor {name!r} has an absurd shape; save the file again")
    values = np.frombuffer(entry["data"], dtype=_DTYPES[entry["dtype"]])
    if entry["dtype"] == "BF16":
        values = (values.astype("<u4") << 16).view("<f4")
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64).reshape(entry["shape"])


def _state_dict(path: Path) -> dict[str, Array]:
    raw = files.read_bytes(path, MOST_BYTES)
    try:
        return pickled.read(raw)
    except FileError as error:
        raise FileError(
            f"{path} is no complete state_dict, read as weights only: {error}; write it with "
            "torch.save(model.state_dict(), path)"
        ) from None


@rounding.usual
def load_onnx(
    path: str | Path, output: str | int | None = None, given: tuple[Any, Any, Any, At] | None = None
) -> tuple[Network, Call]:
    """The network of an ONNX model, and which of its outputs that is.

    Args:
        path: an ``.onnx`` file.
        output: name or number (from 0) of the output that is the model's answer; None for the one
            called ``logits``, else the first.
        given: sequences, lengths, padding and where the loss is read, as in ``recert.certify``.

    Raises:
        ParityError: padding changes the model's answer, and nobody says which one is meant.
        Otherwise as `load_network`.
    """
    path = files.path_of(path)
    if not _there(path):
        raise FileError(f"{path} does not exist; check the path")
    raw = files.read_bytes(path, MOST_ONNX_BYTES)
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            f"reading {path} needs onnx: pip install 'recert[onnx]'"
        ) from None
    from recert.readers.onnx import read

    found = read.read(raw, str(path), check_output(output))
    sequences, lengths, padding, at = given or (None, None, None, "last")
    call = Call("onnx", output=found.output)

    def shown(call: Call, sequences: Any, lengths: Any) -> Call:
        read_as = aligned(sequences, None, lengths, padding)
        apart = runs_apart(found.network, sequences, read_as, at, every=found.every)
        if apart and padding is None:
            raise ParityError(f"{path}: {refusal(read_as)}")
        call = replace(call, apart="padding") if apart else call
        return replace(call, again=partial(shown, call))

    if sequences is None:
        return found.network, replace(call, again=partial(shown, call))
    return found.network, shown(call, sequences, lengths)


def _undescribed(weights: Path, remedy: str) -> FileError:
    """The error for weights without a description: says what to write, guessed from the names."""
    shapes = {name: value.shape for name, value in _tensors(weights).items()}
    try:
        entry = state_dicts.suggestion(shapes, ordered=weights.suffix in TORCH)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{weights}: {error}") from None
    lacking = state_dicts.lacking(entry, shapes)
    if lacking:
        return FileError(
            f"{weights} has no description and holds {lacking}; if the weights were split into "
            f"several files (shards), join them in one, and {remedy}, as "
            "recert.readers.weights.description says"
        )
    return FileError(
        f"{weights} has no description; {remedy} such as {json.dumps(entry)} "
        '(check "activation"; "input": "onehot" for tokens, "real" for vectors; "read": "step", '
        '"final" or "mean")'
    )


def _need_safetensors() -> None:
    try:
        import safetensors  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "networks on disk need safetensors: pip install 'recert[torch]'"
        ) from None
