"""What was monitored through training, as curves against the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recert.plots.canvas import pyplot, save

# Values of larger spread are drawn on a logarithmic axis.
_SPREAD = 30.0


def through_training(
    steps: Sequence[int],
    panels: Sequence[tuple[str, str, Mapping[str, NDArray[np.float64]]]],
    path: str | Path,
) -> Path:
    """Curves against the step, one panel for each group of columns.

    Args:
        steps: of the rows, (n,).
        panels: (title, label of the axis, name of a curve → (n,) values, NaN where there is none).
        path: a PNG, SVG or PDF file, written through a temporary name.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InputError: another suffix.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    figure, axes = plt.subplots(1, len(panels), figsize=(5.4 * len(panels), 4.6), squeeze=False)
    for axis, (title, label, curves) in zip(axes[0], panels, strict=True):
        for name, values in curves.items():
            drawn = np.where(np.isfinite(values), values, np.nan)
            if not np.isnan(drawn).all():
                style = "--" if name.startswith("printed") else "-"
                axis.plot(steps, drawn, style, marker=".", linewidth=1.6, label=name)
        axis.set_title(title, fontsize=10.5)
        axis.set_xlabel("step of training")
        axis.set_ylabel(label)
        axis.grid(alpha=0.25)
        if _spread(curves) > _SPREAD and label != "log10":
            axis.set_yscale("log")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    figure.tight_layout()
    return save(figure, path)


def _spread(curves: Mapping[str, NDArray[np.float64]]) -> float:
    """The ratio of the largest to the smallest value, 1 unless all are positive."""
    values = np.concatenate([np.ravel(v) for v in curves.values()])
    values = values[np.isfinite(values)]
    if not values.size or values.min() <= 0.0:
        return 1.0
    return float(values.max() / values.min())
