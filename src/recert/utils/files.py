"""Reading and writing files: nothing half-written, no absurd sizes, one clear line on failure."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from recert.errors import FileError, InputError, MissingDependencyError, type_of

LARGEST_JSON = 64 * 2**20
DEEPEST_JSON = 64
# What a terminal may take for an instruction.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HALF = re.compile("[\ud800-\udfff]")


def path_of(value: Any) -> Path:
    """What a user gives as a path; InputError for what is none."""
    if isinstance(value, (str, os.PathLike)):
        with suppress(TypeError):  # of paths in bytes
            return Path(value)
    raise InputError(f"{type_of(value)} is no path; pass a text or a pathlib.Path")


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Call ``write`` on a temporary name beside ``path``, then move it there.

    Raises:
        FileError: the folder cannot be made or written, or ``path`` is there and no plain file.
    """
    target = path_of(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_replaceable(target)
        with uninterrupted():
            temporary = _temporary(target)
        write(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except (OSError, ValueError) as error:
        raise _cannot_write(target, error) from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    return target


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text, atomically."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all beside their places first, then all moved there.

    Ctrl-C comes before all moves or after them. A stop of another kind between two moves leaves
    some old and some new files, each whole.

    Raises:
        FileError: one cannot be written; then all files are as they were.
    """
    written: list[tuple[Path, Path]] = []
    path = Path()
    try:
        for path, raw in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _check_replaceable(path)
            with uninterrupted():
                written.append((_temporary(path), path))
            written[-1][0].write_bytes(raw)
            written[-1][0].chmod(0o666 & ~_umask())
        with uninterrupted():
            for temporary, path in written:
                os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from None
    finally:
        for temporary, _ in written:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is done; for a few file operations, never for work."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    waiting: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting:
            signal.raise_signal(signal.SIGINT)


def open_regular(path: str | Path) -> BinaryIO:
    """A file opened for reading, if it is a plain one: pipes and devices may never end.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    # Without O_NONBLOCK, opening a pipe waits for whoever writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except ValueError:  # a zero byte in the path
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise OSError(errno.EINVAL, f"it is {what}, no plain file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: str | Path, largest: int) -> bytes:
    """The bytes of a plain file, at most ``largest``; FileError says what is wrong with it."""
    path = path_of(path)
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= largest:
                # One more than it has, for files that grow meanwhile.
                raw = file.read(size + 1)
                size = len(raw)
            if size > largest:
                raise FileError(
                    f"{path} is larger than {largest} bytes, more than such a file may have; "
                    "check the path"
                )
            return raw
    except OSError as error:
        raise FileError(f"cannot read {path}: {_reason(error)}; check the path") from None
    except MemoryError:
        raise FileError(f"{path} has {size} bytes, more than there is memory for") from None


def read_json(path: str | Path, largest: int = LARGEST_JSON, *, printable: bool = False) -> Any:
    """Read a JSON file of at most ``largest`` bytes; FileError says what is wrong with it.

    Where it is to be ``printable``, texts with control characters are refused.
    """
    raw = read_bytes(path, largest)
    try:
        value = parse_json(raw)
        if printable and any(CONTROL.search(text) for text in texts(value)):
            raise ValueError("a text holds control characters")
        return value
    except ValueError as error:
        raise FileError(f"{path} is not valid JSON ({error}); it may be truncated") from None


def is_certificate(path: str | Path) -> bool:
    """Whether a certificate stands here, whole or not."""
    return str(_peeked(path).get("schema", "")).startswith("recert-certificate")


def spare_description(path: str | Path) -> None:
    """FileError where a network's description, or a program's record, would be written over."""
    found = _peeked(path)
    record = "data" in found and path_of(path).with_suffix(".rcz").exists()
    if str(found.get("format", "")).startswith("recert-") or record:
        raise FileError(
            f"cannot write {path}: the description of a network stands there; choose another name, "
            "such as certificate.json"
        )


def _peeked(path: str | Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is none."""
    try:
        found = read_json(path)
    except FileError:
        return {}
    return found if isinstance(found, dict) else {}


def parse_json(raw: bytes) -> Any:
    """A value of strict JSON: distinct keys, numbers that float64 holds, texts that UTF-8 holds.

    Raises:
        ValueError: anything else, with a short reason.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_distinct_keys,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_int,
        )
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST_JSON} levels") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    if any(_HALF.search(text) for text in texts(value)):
        raise ValueError("a text holds half a character")
    return value


def missing(package: str, extra: str, what: str) -> MissingDependencyError:
    """The error for an optional library that is needed and absent."""
    return MissingDependencyError(
        f"{what} needs {package}, which is not installed; pip install {extra}"
    )


def texts(value: Any, levels: int = DEEPEST_JSON) -> Iterator[str]:
    """Every text in a JSON value, keys as well.

    Raises:
        ValueError: it is nested deeper than so many levels.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        if not levels:
            raise ValueError(f"it is nested deeper than {DEEPEST_JSON} levels")
        for inner in (*value, *value.values()) if isinstance(value, dict) else value:
            if isinstance(inner, (str, dict, list)):
                yield from texts(inner, levels - 1)


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return entry


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is larger than a number may be")
    return number


def _int(text: str) -> int:
    _finite(text)
    return int(text)


def _temporary(target: Path) -> Path:
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem[:64]}-", suffix=target.suffix
    )
    os.close(handle)
    return Path(name)


def _check_replaceable(target: Path) -> None:
    """OSError where something stands that is no plain file: no device or folder is replaced."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise OSError(errno.EINVAL, f"there is {what} of this name")


def _cannot_write(target: Path, error: OSError | ValueError) -> FileError:
    return FileError(f"cannot write {target}: {_reason(error)}; choose another folder")


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
