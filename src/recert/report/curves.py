"""Bounds, rates and certificates as curves: against the horizon, and against code length.

What was monitored through training, as curves against the step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recert.numerics.rounding import rounded_up
from recert.report.canvas import pyplot, save


def against_time(
    panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]],
    path: str | Path,
    *,
    longest: int,
    marked: int | None = None,
) -> Path:
    """log10 of bounds against the horizon t = 1..T, one panel for each network.

    Args:
        panels: (title, name of a curve → log10 values at t = 1..T, NaN where not applicable).
        path: the picture.
        longest: the last horizon drawn.
        marked: a horizon to mark, such as the declared T.
    """
    plt = pyplot()
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.9 * len(panels), 4.8), squeeze=False, sharey=True
    )
    highest = max(
        (v for _, curves in panels for vs in curves.values() for v in vs if math.isfinite(v)),
        default=1.0,
    )
    for axis, (title, curves) in zip(axes[0], panels, strict=True):
        for name, values in curves.items():
            printed = "printed" in name
            axis.plot(
                range(1, longest + 1),
                values,
                linestyle="--" if printed else "-",
                linewidth=1.3 if printed else 2.0,
                label=name,
            )
        axis.axhline(0.0, color="black", linewidth=1.2)
        if marked is not None:
            axis.axvline(marked, color="#8c8c8c", linewidth=0.9, linestyle=":")
        axis.set_title(title, fontsize=10.5)
        axis.set_xlabel("horizon t (steps)")
        axis.set_ylim(-1.0, min(highest, 24.0) + 0.5)
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("log10 of the bound (0: says nothing)")
    axes[0][-1].legend(fontsize=7.5, loc="upper left")
    return save(figure, path)


def gates_against_time(
    panels: Sequence[tuple[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]],
    path: str | Path,
    *,
    longest: int,
    marked: int | None = None,
) -> Path:
    """Rates such as β_t and θ_t of several networks against t = 1..T, one panel for each rate.

    Args:
        panels: (title, name of a network → its rate at t = 1..T as measured and class-wide), as
            `recert.report.gates.curves` makes them; measured is solid, class-wide dashed.
        path: a PNG, SVG or PDF file, written through a temporary name.
        longest: T.
        marked: a step to mark, or None.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    from matplotlib.ticker import FuncFormatter

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    sparse = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    figure, axes = plt.subplots(1, len(panels), figsize=(5.6 * len(panels), 4.6), squeeze=False)
    for axis, (title, networks) in zip(axes[0], panels, strict=True):
        for number, (name, pair) in enumerate(networks.items()):
            for values, style, label in zip(pair, ("-", "--"), (name, None), strict=True):
                axis.plot(
                    range(1, len(values[:longest]) + 1),
                    values[:longest],
                    style,
                    color=f"C{number}",
                    linewidth=2.0 if style == "-" else 1.3,
                    label=label,
                )
        axis.axhline(1.0, color="black", linewidth=1.0)
        if marked is not None:
            axis.axvline(marked, color="#8c8c8c", linewidth=0.9, linestyle=":")
        axis.plot([], [], "-", color="#555555", label="measured")
        axis.plot([], [], "--", color="#555555", label="class-wide")
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(plain)
        axis.yaxis.set_minor_formatter(sparse)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(title, fontsize=10.5)
        axis.set_xlabel("step t")
        axis.grid(alpha=0.25, which="both")
    axes[0][-1].legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return save(figure, path)


@dataclass(frozen=True)
class CodePoint:
    """A compressed network: bytes of its file, training error, certified error, test error."""

    bytes: int
    training_error: float
    certified: float
    test_error: float | None = None


def frontier(points: Sequence[CodePoint], title: str, path: str | Path) -> Path:
    """Certified error against code length, with the errors below it; the best one is marked.

    Args:
        points: in any order, at least one.
        title: of the picture.
        path: a PNG, SVG or PDF file, written through a temporary name.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    ordered = sorted(points, key=lambda point: (point.bytes, point.certified))
    best = min(ordered, key=lambda point: point.certified)
    figure, axis = plt.subplots(figsize=(7.6, 4.8))
    sizes = [point.bytes for point in ordered]
    axis.plot(sizes, [p.certified for p in ordered], "o-", color="#1b7837", label="certified error")
    tested = [p for p in ordered if p.test_error is not None]
    if tested:
        axis.plot(
            [p.bytes for p in tested], [p.test_error for p in tested], "s--", color="#b2182b",
            label="error on units held back",
        )  # fmt: skip
    errors = [p.training_error for p in ordered]
    axis.plot(sizes, errors, "^:", color="#555555", label="training error")
    axis.annotate(
        f"{rounded_up(best.certified, 4)} at {best.bytes} bytes",
        (best.bytes, best.certified),
        textcoords="offset points",
        xytext=(-12, 14),
        ha="right",
        fontsize=9.5,
    )
    axis.plot([best.bytes], [best.certified], "o", color="#1b7837", markersize=11, fillstyle="none")
    axis.set_xlabel("bytes of the file that decodes to the network")
    axis.set_ylabel("error")
    axis.set_ylim(0.0, None)
    axis.set_title(title, fontsize=11)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=9)
    return save(figure, path)


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
