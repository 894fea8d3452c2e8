"""Reading and writing files: nothing half-written, no absurd sizes, one clear line on failure."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recert.errors import FileError, MissingDependencyError

LARGEST_JSON = 64 * 2**20


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Call ``write`` on a temporary name beside ``path``, then move it there.

    Raises:
        FileError: the folder cannot be made or written.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
        )
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(f"cannot write {target}: {reason}; choose another folder") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text, atomically."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: str | Path, largest: int = LARGEST_JSON) -> Any:
    """Read a JSON file of at most ``largest`` bytes; FileError says what is wrong with it."""
    target = Path(path)
    try:
        size = target.stat().st_size
        if size > largest:
            raise FileError(
                f"{target} has {size} bytes, more than the {largest} that JSON may have"
            )
        return json.loads(target.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise FileError(
            f"cannot read {target}: {error.strerror or error}; check the path"
        ) from None
    except (ValueError, RecursionError):
        raise FileError(f"{target} is not valid JSON; it may be truncated") from None


def missing(package: str, extra: str, what: str) -> MissingDependencyError:
    """The error for an optional library that is needed and absent."""
    return MissingDependencyError(
        f"{what} needs {package}, which is not installed; pip install {extra}"
    )


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
