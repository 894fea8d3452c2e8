"""Images in MNIST's idx format, read as sequences of pixel rows or strips."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recert.data.dataset import SequenceData
from recert.errors import FileError, InputError
from recert.utils.files import open_regular

LAYOUTS = {"rows": 1, "strips": 2}
"""How many pieces each pixel row gives: 28 steps of 28 pixels, or 56 steps of 14."""

_UNSIGNED_BYTE = 0x08
_CHUNK = 1 << 20
# No images are compressed so well; what expands further is made to fill the memory.
_EXPANSION, _SMALL = 100, 1 << 24


def load(
    images: str | Path,
    labels: str | Path,
    *,
    layout: str = "rows",
    classes: tuple[str, ...] = tuple("0123456789"),
) -> SequenceData:
    """Images as sequences of their rows from the top; pixels are divided by 255, so lie in [0, 1].

    Args:
        images: idx file (or .gz) of m × height × width unsigned bytes.
        labels: idx file (or .gz) of m unsigned bytes.
        layout: "rows", a step per row; or "strips", two steps per row (56 × 14 for 28 × 28).
        classes: names of the classes, declared; labels must be smaller than their number.

    Raises:
        FileError: a file is missing, truncated, of another kind, or its sizes contradict its
            length.
        InputError: layout unknown, files that do not belong together, a label out of range.

    """
    if layout not in LAYOUTS:
        raise InputError(f"idx layout is {layout!r}; use one of {', '.join(LAYOUTS)}")
    pixels = read_idx(images, dimensions=3)
    answers = read_idx(labels, dimensions=1)
    m, height, width = pixels.shape
    if len(answers) != m:
        raise InputError(f"{images} has {m} images but {labels} has {len(answers)} labels")
    pieces = LAYOUTS[layout]
    if width % pieces:
        raise InputError(f"images {width} pixels wide have no half rows; use layout 'rows'")
    steps, step_width = height * pieces, width // pieces
    scaled = pixels.astype(np.float32)
    scaled /= np.float32(255)  # in place: 60,000 images have 188 MB
    return SequenceData(
        name="idx",
        sequences=scaled.reshape(m, steps, step_width),
        labels=answers.astype(np.int64),
        lengths=np.full(m, steps, dtype=np.int64),
        classes=classes,
        alphabet=None,
        max_length=steps,
        input_kind="real",
        unit="image",
        population=None,
        source=f"idx files {Path(images).name} and {Path(labels).name}",
        input_bound=math.sqrt(step_width),
    )


def read_idx(path: str | Path, *, dimensions: int) -> np.ndarray:
    """The unsigned-byte array in an idx file, gzipped if the name ends in .gz.

    The header's sizes are compared with the file's length before memory is taken for them; a
    gzipped file is refused at once if its sizes are far beyond what images are compressed to.

    Raises:
        FileError: as for `load`.

    """
    path = Path(path)
    try:
        with open_regular(path) as plain:
            size = os.fstat(plain.fileno()).st_size
            compressed = path.suffix == ".gz"
            file = gzip.GzipFile(fileobj=plain) if compressed else plain
            shape = _read_header(file, path, dimensions)
            expected = math.prod(shape)
            if expected > (max(size * _EXPANSION, _SMALL) if compressed else size):
                raise FileError(
                    f"{path} declares {expected} bytes of data but is {size} bytes long; "
                    "it is cut off or not an idx file: fetch it again"
                )
            data = _read_exactly(file, expected, path)
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"cannot read the idx file {path}: {error}") from error
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _read_header(file: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE:
        raise FileError(f"{path} does not begin as an idx file of unsigned bytes does")
    if magic[3] != dimensions:
        raise FileError(
            f"{path} holds {magic[3]}-dimensional data where {dimensions} dimensions are needed; "
            "were images and labels exchanged?"
        )
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise FileError(f"{path} ends inside its header; fetch it again")
    shape = struct.unpack(f">{dimensions}I", sizes)
    if 0 in shape:
        raise FileError(f"{path} declares an empty array of shape {shape}")
    return shape


def _read_exactly(file: BinaryIO | gzip.GzipFile, expected: int, path: Path) -> bytearray:
    data = bytearray()
    while len(data) <= expected:
        chunk = file.read(min(_CHUNK, expected + 1 - len(data)))
        if not chunk:
            break
        data += chunk
    if len(data) != expected:
        found = "more" if len(data) > expected else f"only {len(data)}"
        raise FileError(f"{path} declares {expected} bytes of data and has {found}; fetch it again")
    return data
