"""Networks on disk: weights in safetensors or a torch state_dict, and a JSON description beside.

ONNX models describe themselves and need no JSON. Nothing is ever unpickled into code: ``.pt`` files
go through torch's weights-only reader.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.adapters import assembly, state_dicts
from recert.adapters import description as descriptions
from recert.compression import SUFFIX, load_program
from recert.errors import FileError, MissingDependencyError, UnsupportedModelError
from recert.network import Network

Array = NDArray[np.float64]

SAFETENSORS, TORCH, ONNX = ".safetensors", (".pt", ".pth"), ".onnx"
STEM = "network"
MOST_BYTES = 4 << 30
MOST_ONNX_BYTES = 2 << 30  # what protobuf allows
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def load_network(path: str | Path) -> Network:
    """A network from disk, as float64.

    Args:
        path: a directory with ``network.safetensors`` and ``network.json``; a ``.safetensors``,
            ``.pt`` or ``.pth`` file with a ``.json`` of the same stem beside it; or that stem. The
            JSON's form is in `recert.adapters.description`. Or an ``.onnx`` file alone, which
            `recert.adapters.onnx_reader` reads, and runs to check what it read; or an ``.rcz`` file
            that `recert compress` wrote.

    Raises:
        FileError: a file is missing, damaged, or the description does not suit the weights.
        InputError: weights are not finite or their shapes do not fit.
        UnsupportedModelError: a part is not covered.
        ParityError: an ONNX model computes something else than the Network read from it.
        MissingDependencyError: safetensors, or torch for ``.pt``, or onnx, is not installed.

    """
    if Path(path).suffix == ONNX:
        return _onnx(Path(path))
    if Path(path).suffix == SUFFIX:
        return load_program(path).network()
    weights, description = _locate(Path(path))
    if not description.is_file():
        raise _undescribed(weights, description)
    entry = load_description(path)
    return assembly.network_from(entry, _tensors(weights), str(weights))


def load_description(path: str | Path) -> dict[str, Any]:
    """The JSON description of a saved network, with its ``meta`` if there is one.

    Raises:
        FileError: it is missing or not a description.

    """
    where = _locate(Path(path))[1]
    if not where.is_file():
        raise FileError(f"{where} does not exist; a network's weights need a description beside")
    return descriptions.parse(_read(where, descriptions.MOST_BYTES), str(where))


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
    path = Path(path)
    pair = path.suffix == SAFETENSORS
    weights = path if pair else path / f"{STEM}{SAFETENSORS}"
    text = descriptions.to_bytes(descriptions.describe(network, meta))
    _need_safetensors()
    import safetensors.numpy

    raw = safetensors.numpy.save(descriptions.tensors_of(network))
    try:
        weights.parent.mkdir(parents=True, exist_ok=True)
        _write_together({weights: raw, weights.with_suffix(".json"): text})
    except OSError as error:
        raise FileError(
            f"cannot write {weights} ({error.strerror or error}); choose a directory you may write"
        ) from None
    return weights


def _locate(path: Path) -> tuple[Path, Path]:
    """Weights and description of what a path means; FileError if there are no weights."""
    if path.is_dir():
        weights = path / f"{STEM}{SAFETENSORS}"
        if not weights.is_file():
            raise FileError(f"{path} holds no {weights.name}; pass the weights' file itself")
    elif path.suffix in (SAFETENSORS, *TORCH):
        weights = path
    else:
        stem = path.with_suffix("") if path.suffix == ".json" else path
        there = [p for s in (SAFETENSORS, *TORCH) if (p := Path(f"{stem}{s}")).is_file()]
        if not there:
            raise FileError(
                f"{path} is no network; pass a directory that `recert train` wrote, or a "
                ".safetensors, .pt, .pth or .onnx file"
            )
        weights = there[0]
    if not weights.is_file():
        raise FileError(f"{weights} does not exist; check the path")
    return weights, weights.with_suffix(".json")


def _read(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise FileError(f"{path} is larger than {most} bytes; that is no file of this kind")
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path} ({error.strerror or error})") from None


def _tensors(path: Path) -> dict[str, Array]:
    return _safetensors(path) if path.suffix == SAFETENSORS else _state_dict(path)


def _safetensors(path: Path) -> dict[str, Array]:
    _need_safetensors()
    from safetensors import SafetensorError, deserialize

    raw = _read(path, MOST_BYTES)
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
    values = np.frombuffer(entry["data"], dtype=_DTYPES[entry["dtype"]])
    if entry["dtype"] == "BF16":
        values = (values.astype("<u4") << 16).view("<f4")
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64).reshape(entry["shape"])


def _state_dict(path: Path) -> dict[str, Array]:
    try:
        import torch
    except ImportError:
        raise MissingDependencyError(
            f"reading {path} needs torch: pip install 'recert[torch]'"
        ) from None
    size = len(_read(path, MOST_BYTES))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many types
        why = f"{type(error).__name__}: {str(error).strip().split(chr(10))[0][:120]}"
        raise FileError(
            f"{path} is no complete state_dict that torch reads as weights only ({why}); "
            "write it with torch.save(model.state_dict(), path)"
        ) from None
    if not isinstance(state, Mapping) or not state:
        raise FileError(
            f"{path} holds no state_dict; write it with torch.save(model.state_dict(), …)"
        )
    tensors = {}
    for name, tensor in state.items():
        usable = isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided
        if not isinstance(name, str) or not usable or not tensor.is_floating_point():
            raise FileError(
                f"{path}: entry {name!r} is not a dense tensor of floats; store the model's "
                "state_dict alone, without what is not a weight"
            )
        if tensor.numel() * tensor.element_size() > size:
            raise FileError(f"{path}: tensor {name!r} claims more entries than the file holds")
        tensors[name] = tensor.detach().to(torch.float64).numpy()
    return tensors


def _onnx(path: Path) -> Network:
    if not path.is_file():
        raise FileError(f"{path} does not exist; check the path")
    raw = _read(path, MOST_ONNX_BYTES)
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            f"reading {path} needs onnx: pip install 'recert[onnx]'"
        ) from None
    from recert.adapters.onnx_reader import read

    return read(raw, str(path))


def _undescribed(weights: Path, description: Path) -> FileError:
    """The error for weights without a description: says what to write, guessed from the names."""
    shapes = {name: value.shape for name, value in _tensors(weights).items()}
    try:
        entry = state_dicts.suggestion(shapes, ordered=weights.suffix in TORCH)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{weights}: {error}") from None
    return FileError(
        f"{weights} has no description; write {description} such as {json.dumps(entry)} "
        '(check "activation"; "input": "onehot" for tokens, "real" for vectors; "read": "step", '
        '"final" or "mean")'
    )


def _write_together(contents: Mapping[Path, bytes]) -> None:
    """Write beside, then rename: a stop in between leaves files that the digest tells apart."""
    written: list[tuple[str, Path]] = []
    try:
        for path, raw in contents.items():
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            written.append((name, path))
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
            os.chmod(name, 0o666 & ~_umask())
        for name, path in written:
            os.replace(name, path)
    finally:
        for name, _ in written:
            with suppress(FileNotFoundError):
                os.unlink(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _need_safetensors() -> None:
    try:
        import safetensors  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "networks on disk need safetensors: pip install 'recert[torch]'"
        ) from None
