"""The picture of the study of open problem 1: ladders against m, steps, parts of a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recert.plots.canvas import pyplot, save

Row = Mapping[str, Any]

COLOURS = (
    "#000000", "#d73027", "#fc8d59", "#b8860b", "#c51b7d", "#7b3294", "#8c510a", "#1b7837",
    "#01665e", "#2166ac", "#e7298a", "#66a61e", "#4393c3",
)  # fmt: skip
PARTS = {
    "training error": "#8c8c8c",
    "margin": "#b8860b",
    "complexity": "#1b7837",
    "confidence and choices": "#2166ac",
}


def ladder_against_m(
    ladders: Mapping[str, Sequence[Row]],
    parts: Sequence[Row],
    path: str | Path,
    *,
    titles: Mapping[str, str],
    steps: Sequence[str],
) -> Path:
    """Values of all rungs against m for some networks; what steps gain; what a value consists of.

    Args:
        ladders: network → rows with ``network``, ``bound``, ``m``, ``value``, ``half range``,
            ``test error``; those of other predictors on the same data are drawn, too.
        parts: a row for every network: ``network``, ``decades: <step>``, ``margin_ball: <part>``.
        path: a PNG, SVG or PDF file, written through a temporary name.
        titles: of bounds, in the order of the legend.
        steps: names of the steps.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(14.5, 9.0), squeeze=False)
    for axis, (network, rows) in zip(axes[0], ladders.items(), strict=False):
        _ladder(axis, network, rows, titles)
    for axis in axes[0][len(ladders) :]:
        axis.set_axis_off()
    last = axes[0][min(len(ladders), 2) - 1]
    last.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False)
    _steps(axes[1][0], parts, steps)
    _parts(axes[1][1], parts)
    return save(figure, path)


def _ladder(axis: Any, network: str, rows: Sequence[Row], titles: Mapping[str, str]) -> None:
    for number, bound in enumerate(titles):
        there = [row for row in rows if row["bound"] == bound]
        if not there:
            continue
        style = "--" if there[0]["kind"] == "order" else "-"
        sizes, values = [row["m"] for row in there], [row["value"] for row in there]
        colour = "#8c8c8c" if style == "--" else COLOURS[number % len(COLOURS)]
        wide = [row["half range"] for row in there]
        axis.plot(sizes, values, f"o{style}", color=colour, markersize=3.5, label=titles[bound])
        low = [v - w for v, w in zip(values, wide, strict=True)]
        high = [v + w for v, w in zip(values, wide, strict=True)]
        axis.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
    errors = {row["m"]: row["test error"] for row in rows if row["network"] == network}
    axis.plot(list(errors), list(errors.values()), "k:", linewidth=1.6, label="test error")
    axis.axhline(1.0, color="black", linewidth=1.0)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_title(network, fontsize=10.5)
    axis.set_xlabel("m, units trained on")
    axis.set_ylabel("value (1: says nothing)")
    axis.grid(alpha=0.25)


def _steps(axis: Any, parts: Sequence[Row], steps: Sequence[str]) -> None:
    width = 0.8 / max(1, len(parts))
    for number, row in enumerate(parts):
        places, heights = [], []
        for place, step in enumerate(steps):
            if f"decades: {step}" in row:
                places.append(place + (number - (len(parts) - 1) / 2) * width)
                heights.append(row[f"decades: {step}"])
        axis.bar(places, heights, width, label=row["network"], color=f"C{number % 10}")
    axis.axhline(0.0, color="black", linewidth=1.0)
    # The local ball is run on smaller samples only.
    names = [f"{step} (largest m run)" if step == "locality" else step for step in steps]
    axis.set_xticks(range(len(steps)), names, rotation=20, ha="right", fontsize=8.5)
    axis.set_ylabel("log10 of what a step divides the value by")
    axis.set_title(f"steps of the ladder at m = {_size(parts)}", fontsize=10.5)
    axis.legend(fontsize=7.5)
    axis.grid(alpha=0.25, axis="y")


def _parts(axis: Any, parts: Sequence[Row]) -> None:
    names = [row["network"] for row in parts]
    bottom = [0.0] * len(parts)
    for part, colour in PARTS.items():
        heights = [row[f"margin_ball: {part}"] for row in parts]
        axis.bar(names, heights, 0.7, bottom=bottom, label=part, color=colour)
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    axis.tick_params(axis="x", labelsize=8.5, rotation=20)
    axis.set_ylabel("parts of the margin ball's value")
    axis.set_title(f"what the margin ball consists of at m = {_size(parts)}", fontsize=10.5)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.25, axis="y")


def _size(parts: Sequence[Row]) -> str:
    return f"{parts[0]['m']:,}" if parts else "?"
