"""What all pictures share: colours, numbers as text, and how a figure is written."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recert.errors import InputError
from recert.numerics.rounding import bound_text
from recert.utils import files

if TYPE_CHECKING:
    from recert.certificates.certificate import Bound

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = {"certificate": "#1b7837", "estimate": "#b8860b", "order": "#8c8c8c"}
# Values above this are drawn on a broken scale's end; nobody reads their exact height.
TALLEST = 1e12


def value_text(bound: Bound) -> str:
    """A bound for people, rounded up: 0.3714, or 10^7.3 where large; '—' when not applicable."""
    return bound_text(bound.value, bound.log10)


def plain(text: str) -> str:
    """Text of a file as matplotlib shows it, which else reads formulae between dollar signs."""
    return text.replace("$", r"\$")


def pyplot() -> Any:
    """Matplotlib's pyplot, drawing to files; MissingDependencyError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise files.missing("matplotlib", "'recert[plots]'", "drawing") from None
    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    return plt


def save(figure: Any, path: str | Path) -> Path:
    """Lay a figure out, write it through a temporary name, and close it."""
    import matplotlib.pyplot as plt

    if Path(path).suffix.lower() not in SUFFIXES:
        plt.close(figure)
        raise InputError(f"{path}: pictures are written as {', '.join(SUFFIXES)}; choose one")
    suffix = Path(path).suffix.lstrip(".").lower() or "png"
    try:
        with warnings.catch_warnings():
            # Letters that no font has are drawn as boxes, and long titles are cut.
            warnings.filterwarnings("ignore", "Glyph|Tight layout", UserWarning)
            figure.tight_layout()
            return files.write_atomically(
                path, lambda temporary: figure.savefig(temporary, format=suffix, dpi=130)
            )
    finally:
        plt.close(figure)
