"""The picture of the study of open problem 2: margins, their best γ, bounds and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recert.plots.canvas import pyplot, save

Row = Mapping[str, Any]
Key = tuple[int, float]

ERRORS = {
    "margin_ball": ("margin ball (monitoring)", "#1b7837"),
    "test error": ("test error", "#000000"),
    "training error": ("training error", "#8c8c8c"),
}


def margins_through_training(
    rows: Sequence[Row], base: Key, final: Mapping[Key, Sequence[Row]], path: str | Path
) -> Path:
    """Six panels: margins, normalised margins, γ against the median; bounds and errors.

    Args:
        rows: means over seeds, a row for every (d_h, noise) and epoch.
        base: the (d_h, noise) that is drawn against the epoch.
        final: (d_h, noise) → the last row of each seed.
        path: a PNG, SVG or PDF file, written through a temporary name.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    figure, axes = plt.subplots(2, 3, figsize=(15.0, 8.6), squeeze=False)
    there = [row for row in rows if (row["d_h"], row["noise"]) == base and row["epoch"] > 0]
    _margins(axes[0][0], there, base)
    _normalised(axes[0][1], rows)
    _gamma(axes[0][2], rows)
    _epochs(axes[1][0], there, base)
    widths = {float(key[0]): final[key] for key in sorted(final) if key[1] == 0.0}
    noises = {key[1]: final[key] for key in sorted(final) if key[0] == base[0]}
    _ends(axes[1][1], widths, "hidden units d_h (no noise)")
    _ends(axes[1][2], noises, f"share of labels drawn afresh (d_h = {base[0]})")
    return save(figure, path)


def _margins(axis: Any, rows: Sequence[Row], base: Key) -> None:
    epochs = [row["epoch"] for row in rows]
    axis.fill_between(
        epochs, [r["q25"] for r in rows], [r["q75"] for r in rows], alpha=0.3, label="q25 to q75"
    )
    axis.plot(epochs, [row["median"] for row in rows], label="median")
    chosen = [(row["epoch"], row["gamma"]) for row in rows if row["gamma"] is not None]
    axis.plot([e for e, _ in chosen], [g for _, g in chosen], "o-", color="#d73027", label="best γ")
    axis.plot(epochs, [row["range"] for row in rows], ":", color="black", label="√2 N_y")
    axis.set_yscale("symlog", linthresh=1.0)
    _finish(axis, "epoch", "margin", f"margins, d_h = {base[0]}, noise {base[1]:g}")


def _normalised(axis: Any, rows: Sequence[Row]) -> None:
    kinds = dict.fromkeys((row["d_h"], row["noise"]) for row in rows)
    for number, key in enumerate(kinds):
        there = [r for r in rows if (r["d_h"], r["noise"]) == key and r["epoch"] > 0]
        values = [row["median"] / row["range"] for row in there]
        style = "-" if key[1] == 0.0 else "--"
        label = f"d_h = {key[0]}" + (f", noise {key[1]:g}" if key[1] else "")
        axis.plot([r["epoch"] for r in there], values, style, color=f"C{number % 10}", label=label)
    _finish(axis, "epoch", "median margin / √2 N_y", "normalised margins")


def _gamma(axis: Any, rows: Sequence[Row]) -> None:
    kinds = dict.fromkeys((row["d_h"], row["noise"]) for row in rows)
    for number, key in enumerate(kinds):
        there = [
            r
            for r in rows
            if (r["d_h"], r["noise"]) == key and r["gamma"] is not None and r["median"] > 0
        ]
        if not there:
            continue
        label = f"d_h = {key[0]}" + (f", noise {key[1]:g}" if key[1] else "")
        axis.plot(
            [r["median"] for r in there],
            [r["gamma"] for r in there],
            "o" if key[1] == 0.0 else "x",
            color=f"C{number % 10}",
            label=label,
        )
    if axis.lines:
        axis.set_xscale("log")
        axis.set_yscale("log")
    _finish(axis, "median margin", "best γ of the margin ball", "best γ, all epochs")


def _epochs(axis: Any, rows: Sequence[Row], base: Key) -> None:
    epochs = [row["epoch"] for row in rows]
    for name, (label, colour) in ERRORS.items():
        axis.plot(
            epochs, [row[name] for row in rows], "o-", color=colour, markersize=3, label=label
        )
    _finish(axis, "epoch", "error", f"bound and errors, d_h = {base[0]}, noise {base[1]:g}")


def _ends(axis: Any, kinds: Mapping[float, Sequence[Row]], label: str) -> None:
    places = range(len(kinds))
    for name, (title, colour) in ERRORS.items():
        means = [_mean([row[name] for row in rows]) for rows in kinds.values()]
        axis.plot(places, means, "-", color=colour, label=title)
        for place, rows in zip(places, kinds.values(), strict=True):
            axis.plot([place] * len(rows), [r[name] for r in rows], "o", color=colour, markersize=3)
    axis.set_xticks(list(places), [f"{kind:g}" for kind in kinds])
    _finish(axis, label, "error", "last epoch, a point a seed")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _finish(axis: Any, x: str, y: str, title: str) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_title(title, fontsize=10.5)
    axis.grid(alpha=0.25)
    if axis.lines:
        axis.legend(fontsize=7.5)
