"""The picture of the study of open problem 2: margins, their best γ, bounds and errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recert.report.canvas import pyplot, save

Row = Mapping[str, Any]
Key = tuple[int, float]

ERRORS = {
    "margin_ball": ("margin ball (monitoring)", "#1b7837"),
    "test error": ("test error", "#000000"),
    "training error": ("training error", "#8c8c8c"),
}


def margins_through_training(
    rows: Sequence[Row],
    base: Key,
    final: Mapping[Key, Sequence[Row]],
    path: str | Path,
    *,
    further: Sequence[Row] = (),
) -> Path:
    """Six panels: margins, normalised margins, γ against the median; bounds and errors.

    Three more of gated cells through training and of networks that fit noise, where there are.

    Args:
        rows: means over seeds, a row for every (d_h, noise) and epoch.
        base: the (d_h, noise) that is drawn against the epoch.
        final: (d_h, noise) → the last row of each seed.
        path: a PNG, SVG or PDF file, written through a temporary name.
        further: means over seeds, a row for every run and look of series "gated" and "fitting".

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    lines = 3 if further else 2
    figure, axes = plt.subplots(lines, 3, figsize=(15.0, 4.3 * lines), squeeze=False)
    there = [row for row in rows if (row["d_h"], row["noise"]) == base and row["epoch"] > 0]
    _margins(axes[0][0], there, base)
    _normalised(axes[0][1], rows)
    _gamma(axes[0][2], rows)
    _epochs(axes[1][0], there, base)
    widths = {float(key[0]): final[key] for key in sorted(final) if key[1] == 0.0}
    noises = {key[1]: final[key] for key in sorted(final) if key[0] == base[0]}
    _ends(axes[1][1], widths, "hidden units d_h (no noise)")
    _ends(axes[1][2], noises, f"share of labels drawn afresh (d_h = {base[0]})")
    if further:
        _gated(axes[2][0], [row for row in further if row["series"] == "gated"], there, base)
        fitting = [row for row in further if row["series"] == "fitting"]
        _fitting(axes[2][1], fitting, "median margin / √2 N_y", lambda r: r["median"] / r["range"])
        _fitting(axes[2][2], fitting, "nats a unit of the margin ball", lambda r: r["ball nats"])
        axes[2][2].set_yscale("log")
        axes[2][2].margins(y=0.5)  # room for the legend
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


def _gated(axis: Any, rows: Sequence[Row], vanilla: Sequence[Row], base: Key) -> None:
    styles = {"gru": "-", "lstm": "--"}
    seen = dict.fromkeys((row["cell"], row["d_h"]) for row in rows)
    for number, (cell, d_h) in enumerate(seen):
        there = [r for r in rows if (r["cell"], r["d_h"]) == (cell, d_h) and r["epoch"] > 0]
        axis.plot(
            [r["epoch"] for r in there],
            [r["median"] / r["range"] for r in there],
            styles[cell],
            color=f"C{number % 10}",
            label=f"{cell.upper()}, d_h = {d_h}",
        )
    values = [row["median"] / row["range"] for row in vanilla]
    label = f"vanilla, d_h = {base[0]}"
    axis.plot([r["epoch"] for r in vanilla], values, ":", color="black", label=label)
    _finish(axis, "epoch", "median margin / √2 N_y", "gated cells: normalised margins")


def _fitting(axis: Any, rows: Sequence[Row], label: str, value: Callable[[Row], float]) -> None:
    last = {(r["cell"], r["d_h"], r["units"], r["noise"]): r for r in rows}
    groups = dict.fromkeys(key[:3] for key in last)
    noises = sorted({key[3] for key in last})
    styles = {"vanilla": "o-", "gru": "s--"}
    units = sorted({key[2] for key in last})
    for cell, d_h, m in groups:
        axis.plot(
            range(len(noises)),
            [value(last[cell, d_h, m, noise]) for noise in noises],
            styles[cell],
            color=f"C{units.index(m) % 10}",
            label=f"{'GRU' if cell == 'gru' else cell}, d_h = {d_h}, {m:,} units",
        )
    axis.set_xticks(range(len(noises)), [f"{noise:g}" for noise in noises])
    _finish(axis, "share of labels drawn afresh", label, "noise that is fitted, last epoch")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _finish(axis: Any, x: str, y: str, title: str) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_title(title, fontsize=10.5)
    axis.grid(alpha=0.25)
    if axis.lines:
        axis.legend(fontsize=7.5)
