"""The picture of ``recert reproduce gates``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from recert.report.canvas import pyplot, save

CELLS = {"mgu": "C1", "gru": "C2", "lstm": "C3"}
PARTS = {"gates": "#b2182b", "candidate": "#2166ac", "head": "#8c8c8c"}
COLOURS = {"MGU": "C1", "GRU": "C2", "LSTM": "C3", "conv": "C4", "vanilla": "C0"}
# Of printed orders nobody reads more decades.
DECADES = 8.0

Curve = tuple[str, Sequence[int], Sequence[Sequence[float]]]


def gate_study(
    region: Mapping[str, Any],
    panels: Sequence[tuple[str, str, Sequence[Curve]]],
    bars: Sequence[tuple[str, str, Mapping[str, float]]],
    path: str | Path,
) -> Path:
    """Where rates are below 1, what networks cost in nats, and bounds against the horizon.

    Args:
        region: reaches and limit of the curve, points (cell, regime, reach, ‖U‖).
        panels: four of (title, axis, curves), a curve being (network, horizons, values by seed).
        bars: (regime, network, part → nats).
        path: a PNG, SVG or PDF file, written through a temporary name.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    figure, axes = plt.subplots(2, 3, figsize=(15.0, 8.4))
    _region(axes[0][0], region)
    _bars(axes[1][0], bars)
    for column, top in ((1, panels[0]), (2, panels[1])):
        _curves(axes[0][column], *top)
    for column, low in ((1, panels[2]), (2, panels[3])):
        _curves(axes[1][column], *low)
    figure.tight_layout()
    return save(figure, path)


def _region(axis: Any, region: Mapping[str, Any]) -> None:
    axis.plot(region["reaches"], region["limit"], color="black", linewidth=1.6)
    axis.fill_between(region["reaches"], 0.0, region["limit"], color="#1b7837", alpha=0.12)
    axis.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    seen: set[str] = set()
    for cell, regime, reach, norm in region["points"]:
        label = f"{cell.upper()}, {regime}"
        axis.plot(
            [min(reach, 1e3)], [norm], "o" if regime == "free" else "s", color=CELLS[cell],
            markersize=6, label=None if label in seen else label, alpha=0.8,
        )  # fmt: skip
        seen.add(label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(0.2, None)
    axis.set_xlabel("reach of the gates, B_W B_x + ‖U‖_row")
    axis.set_ylabel("‖U‖ of the candidate (class)")
    axis.set_title("β < 1 in the green part, gates alike", fontsize=10.5)
    axis.grid(alpha=0.25, which="both")
    axis.legend(fontsize=8)


def _bars(axis: Any, bars: Sequence[tuple[str, str, Mapping[str, float]]]) -> None:
    for place, (_, _, parts) in enumerate(bars):
        bottom = 0.0
        for part, colour in PARTS.items():
            label = part if place == 0 else None
            axis.bar(place, parts[part], bottom=bottom, color=colour, width=0.7, label=label)
            bottom += parts[part]
    names = [f"{name} ({regime})" for regime, name, _ in bars]
    axis.set_xticks(range(len(bars)), names, fontsize=7.5, rotation=35, ha="right")
    axis.set_ylabel("nats of the margin ball")
    axis.set_title("what the parameters cost at the data's own t", fontsize=10.5)
    axis.grid(alpha=0.25, axis="y")
    axis.legend(fontsize=8)


def _curves(axis: Any, title: str, label: str, curves: Sequence[Curve]) -> None:
    plain = [name for name, _, _ in curves if name.startswith("vanilla")]
    for name, steps, by_seed in curves:
        colour = COLOURS[name.split(",")[0]]
        style = "--" if name in plain[1:] else "-"
        values = [seed for seed in by_seed if len(seed)]
        if not values:
            continue
        middle = [mean(column) for column in zip(*values, strict=True)]
        axis.plot(steps, middle, style, color=colour, linewidth=1.8, label=name)
        low = [min(column) for column in zip(*values, strict=True)]
        high = [max(column) for column in zip(*values, strict=True)]
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    if "log10" in label:
        axis.set_ylim(0.0, DECADES)
    else:
        axis.set_ylim(0.0, 1.03)
    axis.set_xscale("log")
    axis.set_xlabel("horizon t (steps)")
    axis.set_ylabel(label)
    axis.set_title(title, fontsize=10.5)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8)
