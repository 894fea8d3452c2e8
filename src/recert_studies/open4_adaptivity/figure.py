"""The picture of open problem 4: bounds and complexities by task, beside the true risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recert.report.canvas import pyplot, save

TEN = ("blue", "orange", "green", "red", "purple", "brown", "pink", "gray", "olive", "cyan")
SMALLEST = 1e-3  # nats a unit that are drawn


@dataclass(frozen=True, eq=False)
class Line:
    """A bound of one predictor over tasks.

    Attributes:
        predictor: "free", "capped" or "compressed".
        name: of the bound.
        title: for people.
        kind: "certificate", "estimate", "order" or "norm".
        tasks: names.
        values: by seed and task.
        complexities: likewise; None where there is none.
        risks: true risks, likewise.
    """

    predictor: str
    name: str
    title: str
    kind: str
    tasks: Sequence[str]
    values: Sequence[Sequence[float]]
    complexities: Sequence[Sequence[float | None]]
    risks: Sequence[Sequence[float]]


@dataclass(frozen=True, eq=False)
class PosteriorLines:
    """Posteriors on m units over tasks, everything by seed and task.

    Attributes:
        m: units, prior's and bound's together.
        nats: KL of the memorising posterior, nats a unit of the bound.
        least: what any posterior with its errors pays.
        memorising: limits of the memorising posterior.
        careful: limits of the careful one.
        limits: for the prior's centre, the same units held out.
        risks: true risks of the careful posterior.
    """

    m: int
    nats: Sequence[Sequence[float]]
    least: Sequence[Sequence[float]]
    memorising: Sequence[Sequence[float]]
    careful: Sequence[Sequence[float]]
    limits: Sequence[Sequence[float]]
    risks: Sequence[Sequence[float]]


def tasks_against_bounds(
    lines: Sequence[Line], posteriors: Sequence[PosteriorLines], path: str | Path, *, title: str
) -> Path:
    """Four panels: complexities of free networks over that on the easiest task; certified errors;
    what memorising posteriors pay; limits of posteriors.

    Tasks stand in the order of the free networks' true risk.

    Args:
        lines: every bound.
        posteriors: by number of units.
        path: a PNG, SVG or PDF file, written through a temporary name.
        title: of the picture.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    figure, grid = plt.subplots(2, 2, figsize=(12.5, 12.4))
    axes = grid.ravel()
    free = [line for line in lines if line.predictor == "free"]
    order = np.argsort(np.mean(np.array(free[0].risks), axis=0), kind="stable")
    _relative(axes[0], free, order)
    _errors(axes[1], [line for line in lines if line.predictor != "free"], order)
    _nats(axes[2], posteriors, order)
    _limits(axes[3], posteriors, order)
    for axis in axes:
        axis.set_xticks(
            range(len(order)), [free[0].tasks[i] for i in order], fontsize=8.5, rotation=20,
            ha="right",
        )  # fmt: skip
        axis.grid(alpha=0.25)
        axis.legend(
            fontsize=8, frameon=False, loc="upper center", ncols=2, bbox_to_anchor=(0.5, -0.22)
        )
    figure.suptitle(title, fontsize=11)
    return save(figure, path)


def _relative(axis: Any, free: Sequence[Line], order: np.ndarray) -> None:
    axis.set_prop_cycle(color=[f"tab:{name}" for name in TEN] + ["black"])
    bounds = [line for line in free if line.kind != "norm"]
    for line in bounds:
        costs = [c for c in line.complexities if all(x is not None for x in c)]
        if not costs:
            continue
        values = np.array(costs, dtype=float)[:, order]
        _band(axis, values / values[:, :1], line.title, "s--" if line.kind == "order" else "o-")
    axis.set_yscale("log")
    axis.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    axis.set_ylabel("complexity, over that of the easiest task")
    axis.set_title("free networks, units memorised; tasks by rising true risk", fontsize=10)


def _errors(axis: Any, lines: Sequence[Line], order: np.ndarray) -> None:
    drawn = set()
    for line in lines:
        if line.predictor not in drawn:
            drawn.add(line.predictor)
            risks = np.array(line.risks).mean(axis=0)[order]
            style = "k-" if line.predictor == "capped" else "k:"
            axis.plot(risks, style, linewidth=2.2, label=f"true risk, {line.predictor}")
        if line.kind in ("certificate", "estimate"):
            values = np.minimum(np.array(line.values)[:, order], 1.0)
            _band(axis, values, line.title, "^-" if line.predictor == "compressed" else "o-")
    axis.set_ylim(-0.02, 1.05)
    axis.set_ylabel("error; certificates are cut at 1")
    axis.set_title("capped and compressed networks", fontsize=10)


def _nats(axis: Any, posteriors: Sequence[PosteriorLines], order: np.ndarray) -> None:
    for colour, found in zip(TEN, posteriors, strict=False):
        for values, style, label in (
            (found.nats, "o-", "paid"),
            (found.least, "s--", "least for such errors"),
        ):
            # Where there is nothing to pay the logarithm still needs a number.
            shown = np.maximum(np.array(values)[:, order], SMALLEST)
            _band(axis, shown, f"{label}, m = {found.m:,}", style, color=f"tab:{colour}")
    axis.set_yscale("log")
    axis.set_ylabel(f"KL, nats a unit of the bound; at least {SMALLEST:g} is drawn")
    axis.set_title("memorising posteriors, prior from the first part", fontsize=10)


def _limits(axis: Any, posteriors: Sequence[PosteriorLines], order: np.ndarray) -> None:
    for colour, found in zip(TEN, posteriors, strict=False):
        for values, style, label in (
            (found.memorising, "v-", "memorising"),
            (found.careful, "o-", "careful"),
            (found.limits, "s--", "held-out units, prior's centre"),
            (found.risks, ":", "true risk, careful"),
        ):
            shown = np.array(values)[:, order]
            _band(axis, shown, f"{label}, m = {found.m:,}", style, color=f"tab:{colour}")
    axis.set_ylim(-0.02, 1.05)
    axis.set_ylabel("error")
    axis.set_title("limits of posteriors, and of the same units held out", fontsize=10)


def _band(axis: Any, values: np.ndarray, label: str, style: str, **options: Any) -> None:
    """Mean over seeds, and their range shaded."""
    (drawn,) = axis.plot(
        values.mean(axis=0), style, markersize=4, linewidth=1.3, label=label, **options
    )
    axis.fill_between(
        range(values.shape[1]), values.min(axis=0), values.max(axis=0), alpha=0.12, linewidth=0,
        color=drawn.get_color(),
    )  # fmt: skip
