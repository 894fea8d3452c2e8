"""Pictures of the studies of `recert.reproduce`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from recert.numerics.rounding import rounded_up
from recert.report.canvas import pyplot, save

# Above this many decades nobody reads the height of a curve.
DECADES = 16.0

Curves = Mapping[str, Sequence[float]]


def growth(
    panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[int], Curves]]]],
    path: str | Path,
    *,
    titles: Mapping[str, str],
) -> Path:
    """log10 of complexities against t on a log axis, three panels a row.

    Args:
        panels: (title, curves), where curves are (kind, horizons, name → log10 values); those of
            kind "printed" are dashed, others solid.
        path: a PNG, SVG or PDF file, written through a temporary name.
        titles: names of curves for people; others are their own.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    rows = (len(panels) + 2) // 3
    figure, axes = plt.subplots(rows, 3, figsize=(13.5, 4.1 * rows), squeeze=False, sharey=True)
    for axis, (title, drawn) in zip(axes.flat, panels, strict=False):
        for kind, steps, curves in drawn:
            style = "--" if kind == "printed" else "-"
            for number, (name, values) in enumerate(curves.items()):
                label = f"{titles.get(name, name)}{', printed' if kind == 'printed' else ''}"
                axis.plot(steps, values, style, color=f"C{number}", linewidth=1.6, label=label)
        axis.axhline(0.0, color="black", linewidth=1.0)
        axis.set_xscale("log")
        axis.set_ylim(-2.0, DECADES)
        axis.set_title(title, fontsize=10.5)
        axis.set_xlabel("horizon t (steps)")
        axis.grid(alpha=0.25)
    for row in axes:
        row[0].set_ylabel("log10 of the complexity term")
    axes[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    figure.tight_layout()
    return save(figure, path)


def bars(
    groups: Sequence[tuple[str, Sequence[tuple[str, str, Sequence[float]]]]],
    path: str | Path,
    *,
    title: str,
) -> Path:
    """Values as bars on a log axis, one panel for each group, seeds as points on the bars.

    Args:
        groups: (label of the axis, bars), where a bar is (name, colour, log10 values by seed); it
            goes from 0 to their median.
        path: a PNG, SVG or PDF file, written through a temporary name.
        title: of the picture.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    widths = [len(drawn) for _, drawn in groups]
    figure, axes = plt.subplots(
        1, len(groups), figsize=(1.2 * sum(widths) + 2.5, 5.0), squeeze=False, width_ratios=widths
    )
    for axis, (label, drawn) in zip(axes[0], groups, strict=True):
        lowest = min(0.0, *(min(values) for _, _, values in drawn)) - 0.3
        for place, (_, colour, values) in enumerate(drawn):
            middle = median(values)
            axis.bar(place, middle, color=colour, width=0.7, alpha=0.9)
            axis.plot([place] * len(values), values, "o", color="black", markersize=3.5)
            axis.annotate(
                rounded_up(middle, 2).replace("-", "−"),
                (place, max(0.0, *values)),
                textcoords="offset points",
                xytext=(0, 6),
                ha="center",
            )
        axis.axhline(0.0, color="black", linewidth=1.0)
        names = [name for name, _, _ in drawn]
        axis.set_xticks(range(len(drawn)), names, fontsize=8.5, rotation=25, ha="right")
        top = max(0.0, *(max(values) for _, _, values in drawn))
        axis.set_ylim(lowest, top + 0.08 * (top - lowest) + 0.3)
        axis.set_ylabel(label)
        axis.grid(alpha=0.25, axis="y")
        axis.set_axisbelow(True)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    return save(figure, path)
