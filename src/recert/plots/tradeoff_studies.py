"""The picture of ``recert reproduce tradeoff``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from recert.plots.canvas import pyplot, save

STYLES = {
    "margin ball (certified)": ("#1b7837", "-", "o"),
    "local ball (certified)": ("#7fbf7b", "--", "D"),
    "error held back": ("#b2182b", "-", "s"),
    "training error": ("#555555", ":", "^"),
}

Values = Sequence[Sequence[float]]


def tradeoff(
    panels: Sequence[tuple[str, Sequence[str], Mapping[str, Values], float]], path: str | Path
) -> Path:
    """Errors and certified errors by constraint, one panel a task; seeds as points.

    Args:
        panels: (task, constraints, curve → values by constraint and seed, error of guessing or
            NaN).
        path: a PNG, SVG or PDF file, written through a temporary name.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    figure, axes = plt.subplots(1, len(panels), figsize=(6.6 * len(panels), 5.0), squeeze=False)
    for axis, (task, names, curves, chance) in zip(axes[0], panels, strict=True):
        for label, by_place in curves.items():
            colour, line, marker = STYLES[label]
            filled = [(i, values) for i, values in enumerate(by_place) if values]
            if not filled:
                continue
            # A line joins caps; what is no cap stands apart.
            joined = [(i, mean(v)) for i, v in filled if names[i].startswith("‖U‖")]
            axis.plot(*zip(*joined, strict=True), line, color=colour, linewidth=1.6)
            axis.plot(
                [i for i, _ in filled], [mean(v) for _, v in filled], marker, color=colour,
                markersize=7, label=label,
            )  # fmt: skip
            axis.plot(
                [i for i, v in filled for _ in v], [x for _, v in filled for x in v], ".",
                color=colour, markersize=4, alpha=0.6,
            )  # fmt: skip
        if math.isfinite(chance):
            axis.axhline(chance, color="#8c8c8c", linewidth=1.0, linestyle="-.", label="guessing")
        axis.set_xticks(range(len(names)), names, rotation=25, ha="right", fontsize=9)
        axis.set_ylim(0.0, 1.02)
        axis.set_ylabel("error")
        axis.set_title(task, fontsize=11)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8)
    figure.tight_layout()
    return save(figure, path)
