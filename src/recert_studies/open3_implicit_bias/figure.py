"""The picture of open problem 3: norms through training, at equal error, and the spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recert.report.canvas import pyplot, save

COLOURS = {"sgd": "#2166ac", "momentum": "#1b7837", "adam": "#b2182b"}
LEVELS = (0.3, 0.2, 0.1, 0.05)
STYLES = {"none": "-", "cap": "--", "orthogonal": ":", "decay": "-."}


@dataclass(frozen=True, eq=False)
class Course:
    """One setting over seeds.

    Attributes:
        cell: of the network.
        optimiser: its colour.
        step_size: its place on the axis of step sizes.
        constraint: its style.
        steps: looked at, by seed.
        norms: ‖U‖ at those, by seed.
        at_errors: training error → ‖U‖ where it is first reached, of the seeds that reach it.
        spectra: singular values of U at the end, by seed; empty lists for gated cells.
    """

    cell: str
    optimiser: str
    step_size: float
    constraint: str
    steps: Sequence[Sequence[int]]
    norms: Sequence[Sequence[float]]
    at_errors: Mapping[float, Sequence[float]]
    spectra: Sequence[Sequence[float]]


def courses(drawn: Mapping[str, Course], path: str | Path, *, title: str) -> Path:
    """Three panels: ‖U‖ against steps, ‖U‖ against training error, final spectra.

    Args:
        drawn: by name.
        path: a PNG, SVG or PDF file, written through a temporary name.
        title: of the picture.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    plt = pyplot()
    vanilla = [c for c in drawn.values() if c.cell == "vanilla"]
    figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.4))
    _through(axes[0], vanilla)
    _at_equal_error(axes[1], vanilla)
    _spectra(axes[2], vanilla)
    for axis in axes:
        axis.grid(alpha=0.25)
    figure.suptitle(title, fontsize=11)
    return save(figure, path)


def _through(axis: Any, vanilla: Sequence[Course]) -> None:
    """Means over seeds, the range of free runs shaded; strength of colour by step size."""
    for c in vanilla:
        length = min(map(len, c.norms))
        norms = np.array([n[:length] for n in c.norms])
        steps = np.array(c.steps[0][:length], dtype=float)
        what = "" if c.constraint == "none" else f", {c.constraint}"
        axis.plot(
            steps, np.exp(np.log(norms).mean(axis=0)), STYLES[c.constraint],
            color=COLOURS[c.optimiser], alpha=_strength(c, vanilla), linewidth=1.5,
            label=f"{c.optimiser} {c.step_size:g}{what}",
        )  # fmt: skip
        if c.constraint == "none":
            axis.fill_between(
                steps, norms.min(axis=0), norms.max(axis=0), color=COLOURS[c.optimiser],
                alpha=0.10, linewidth=0,
            )  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("steps")
    axis.set_ylabel("‖U‖")
    axis.set_title("through training (geometric mean; range of seeds)", fontsize=10)
    axis.legend(fontsize=6.5, ncol=2, frameon=False)


def _at_equal_error(axis: Any, vanilla: Sequence[Course]) -> None:
    """Free runs; errors that not every seed reaches are left out."""
    for c in vanilla:
        found = {e: n for e, n in c.at_errors.items() if len(n) == len(c.norms)}
        if c.constraint != "none" or not found:
            continue
        means = [float(np.mean(n)) for n in found.values()]
        spreads = [float(np.std(n, ddof=1)) if len(n) > 1 else 0.0 for n in found.values()]
        axis.errorbar(
            list(found), means, yerr=spreads, fmt="o-", color=COLOURS[c.optimiser], capsize=2,
            alpha=_strength(c, vanilla), markersize=3.5, label=f"{c.optimiser} {c.step_size:g}",
        )  # fmt: skip
    axis.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    axis.set_xscale("log")
    axis.invert_xaxis()
    axis.set_xticks(LEVELS, [f"{e:g}" for e in LEVELS])
    axis.minorticks_off()
    axis.set_xlabel("training error")
    axis.set_ylabel("‖U‖")
    axis.set_title("where the training error is first reached (mean ± s.d.)", fontsize=10)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False)


def _strength(c: Course, vanilla: Sequence[Course]) -> float:
    """Of the colour: the larger the step size, the stronger."""
    rank = sorted({o.step_size for o in vanilla if o.optimiser == c.optimiser})
    return 0.4 + 0.6 * rank.index(c.step_size) / max(1, len(rank) - 1)


def _spectra(axis: Any, vanilla: Sequence[Course]) -> None:
    """Mean singular values at the end, of each optimiser's middle step size."""
    for c in vanilla:
        sizes = sorted(o.step_size for o in vanilla if o.optimiser == c.optimiser
                       and o.constraint == "none")  # fmt: skip
        if c.constraint == "none" and c.step_size != sizes[len(sizes) // 2]:
            continue
        values = np.array(list(c.spectra))
        axis.plot(
            range(1, values.shape[1] + 1), values.mean(axis=0), STYLES[c.constraint],
            color=COLOURS[c.optimiser], marker=".",
            label=f"{c.optimiser} {c.step_size:g}, {c.constraint}",
        )  # fmt: skip
    axis.axhline(0.7, color="black", linewidth=0.8, linestyle=":", label="start")
    axis.set_xlabel("i")
    axis.set_ylabel("singular value of U")
    axis.set_title("spectra at the end (mean of seeds)", fontsize=10)
    axis.legend(fontsize=7, frameon=False)
