"""``recert reproduce open-1``: the ladder of theorems on trained networks, against m, width, cell.

The paper's first open problem asks for tighter bounds. Several networks are trained on several
sample sizes and certified by the package's menu, from Theorem 2 as printed (an order, not a bound)
down to the limit of units held back; `open1_anatomy` takes the values apart. Beside them stand what
leaves norms behind at the same sizes: short files and posteriors.

The picture of the study of open problem 1: ladders against m, steps, parts of a value.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recert.data import SequenceData
from recert.errors import InputError
from recert.numerics.rounding import written_up
from recert.report.canvas import pyplot, save
from recert_studies.framework import Cell, Conclusion, Option, Request, Result, Study
from recert_studies.open1_tightness import networks, training
from recert_studies.open1_tightness.anatomy import (
    STEPS,
    TITLES,
    anatomy,
    nats_a_parameter,
    slope,
    steps,
    unsaturated,
    without_logarithms,
)
from recert_studies.open1_tightness.answers import answers
from recert_studies.open1_tightness.networks import Trainee
from recert_studies.statistics import mean_and_half, spread

DRAWN = tuple(name for name in TITLES if name not in ("margin_cover", "theorem_3_l1_cover"))
"""Rungs in the picture: those that others hide are left out."""
Runs = Mapping[tuple[str, int, int], Result]


def sizes(request: Request) -> list[int]:
    """The sample sizes; InputError where there are not two."""
    found = spread(
        request.options["smallest"], request.options["largest"], request.options["sizes"]
    )
    if len(found) < 2 or found[0] != request.options["smallest"]:
        raise InputError("sizes of samples do not rise; lower smallest or raise largest and sizes")
    return found


def _keys(request: Request) -> Iterable[tuple[str, int, int]]:
    names = networks.named(request.options["networks"])
    return itertools.product(names, sizes(request), request.seeds)


def _cells(request: Request) -> list[Cell]:
    keys, trainees = list(_keys(request)), networks.named(request.options["networks"])
    orders: dict[tuple[str, int], SequenceData] = {}
    for trainee, seed in itertools.product(trainees.values(), request.seeds):
        if (trainee.data, seed) not in orders:
            orders[trainee.data, seed] = networks.loaded(trainee, seed)
    return [
        _cell(request, name, trainees[name], orders[trainees[name].data, seed], m, seed)
        for name, m, seed in keys
    ]


def _cell(
    request: Request, name: str, trainee: Trainee, loaded: SequenceData, m: int, seed: int
) -> Cell:
    options = {key: request.options[key] for key in ("steps", "batch", "held", "delta")}
    local = trainee.local and m <= request.options["local"]
    sample, held = networks.parts(loaded, m, options["held"])
    what = {
        "study": "open-1", "revision": 1, "network": name, "m": m, "seed": seed, "local": local,
        "data": trainee.data, "sample": sample.digest, "held back": held.digest, **options,
    }  # fmt: skip
    if trainee.how == "posterior":
        what |= networks.paid(trainee, sample)
    steps, batch, delta = options["steps"], options["batch"], options["delta"]
    task = training.TightnessTask(trainee, sample, held, seed, steps, batch, delta, local)
    title = f"{name}, m = {m:,}, seed {seed}"
    return Cell(title, what, lambda bar: training.trained(task, bar))


def rows_of(runs: Runs) -> list[dict[str, Any]]:
    """The table: a rung of a network at a size, with mean and half the range over seeds."""
    rows = []
    for (name, m), seeds in _by_seed(runs).items():
        for rung in TITLES:
            there = [run for run in seeds if rung in run["rungs"]]
            if not there:
                continue
            value, wide = mean_and_half([run["rungs"][rung]["value"] for run in there])
            over = [run["rungs"][rung]["value"] - run["held_error"] for run in there]
            paid = [nats_a_parameter(rung, r["rungs"][rung], r["parameters"]) for r in there]
            nats = [x for x in paid if x is not None]
            rows.append(
                {
                    "network": name,
                    "m": m,
                    "bound": rung,
                    "kind": there[0]["rungs"][rung]["kind"],
                    "value": value,
                    "half range": wide,
                    "over test error": mean_and_half(over)[0],
                    "training error": mean_and_half([r["error"] for r in there])[0],
                    "test error": mean_and_half([r["held_error"] for r in there])[0],
                    "nats a parameter": mean_and_half(nats)[0] if nats else None,
                    "parameters": there[0]["parameters"],
                    "slope in m": slopes(runs, name, rung)[0],
                    "slope half range": slopes(runs, name, rung)[1],
                    "seeds": len(there),
                }
            )
    return rows


def slopes(runs: Runs, network: str, rung: str) -> tuple[float | None, float | None]:
    """Mean and half the range over seeds of the exponent of m in (value − test error)."""
    seeds = dict.fromkeys(seed for name, _, seed in runs if name == network)
    there = {
        (m, seed): run
        for (name, m, seed), run in runs.items()
        if name == network and rung in run["rungs"]
    }
    sizes_ = unsaturated(rung, {key: run["rungs"][rung]["value"] for key, run in there.items()})
    found = []
    for seed in seeds:
        values = {m: there[m, seed]["rungs"][rung]["value"] for m in sizes_}
        power = slope(values, {m: there[m, seed]["held_error"] for m in sizes_})
        found += [] if power is None else [power]
    return mean_and_half(found) if found else (None, None)


def parts_of(runs: Runs) -> list[dict[str, Any]]:
    """Steps, and parts of the margin balls' values, by network and size: means over seeds."""
    found = []
    for (name, m), seeds in _by_seed(runs).items():
        row: dict[str, Any] = {"network": name, "m": m}
        taken = [{step.name: step for step in steps(run["rungs"])} for run in seeds]
        for step in STEPS:
            if all(step in one for one in taken):
                row[f"decades: {step}"] = mean_and_half([o[step].decades for o in taken])[0]
                row[f"useful: {step}"] = mean_and_half([o[step].useful for o in taken])[0]
        for ball in ("margin_ball", "local_ball"):
            there = [run for run in seeds if ball in run["rungs"]]
            parts = [anatomy(run["rungs"][ball], run["error"], m) for run in there]
            for part in parts[0] if parts else ():
                row[f"{ball}: {part}"] = mean_and_half([p[part] for p in parts])[0]
            if there:
                row[f"{ball}: at one nat a parameter"] = mean_and_half(
                    [without_logarithms(r["rungs"][ball], r["parameters"], m) for r in there]
                )[0]
        found.append(row)
    return found


def drawn_parts(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the largest m; where the local ball stopped before it, its last step is added."""
    largest = max(row["m"] for row in parts)
    key = "decades: locality"
    last = {row["network"]: row[key] for row in parts if key in row}
    return [
        {**row, **({key: last[row["network"]]} if row["network"] in last else {})}
        for row in parts
        if row["m"] == largest
    ]


def _by_seed(runs: Runs) -> dict[tuple[str, int], list[Result]]:
    found: dict[tuple[str, int], list[Result]] = {}
    for (name, m, _), run in runs.items():
        found.setdefault((name, m), []).append(run)
    return found


def _conclude(request: Request, results: Sequence[Result]) -> Conclusion:
    runs: Runs = dict(zip(_keys(request), results, strict=True))
    of_norms = {key: run for key, run in runs.items() if networks.TRAINEES[key[0]].how == "norms"}
    rows, parts = rows_of(runs), parts_of(of_norms)

    def draw(path: Path) -> Path:
        return ladder_against_m(
            {
                name: [
                    row
                    for row in rows
                    if row["network"] in (name, *_beyond(runs, name)) and row["bound"] in DRAWN
                ]
                for name in _shown(of_norms)
            },
            drawn_parts(parts),
            path,
            titles=TITLES,
            steps=tuple(STEPS),
        )

    said = answers(of_norms, rows, parts)
    notes = [
        f"Certified at δ = {written_up(request.options['delta'], 6)}, all statements of a network "
        "together, each network alone; printed formulas are orders and bound nothing.",
        "The held-out limit is for checking: its units were in view when the recipes were found.",
        *said.values(),
    ]
    return Conclusion(
        rows,
        draw,
        notes=notes,
        extra={"answers": said, "parts": parts},
        table=("network", "m", "bound", "kind", "value", "half range", "test error", "slope in m"),
        limits=("value", "half range"),
    )


def _shown(runs: Runs) -> list[str]:
    """The two networks whose ladders are drawn: the first, and the first with no caps if any."""
    names = list(dict.fromkeys(name for name, _, _ in runs))
    free = [n for n in names[1:] if not networks.TRAINEES[n].capped]
    return [names[0], *(free or names[1:])[:1]]


def _beyond(runs: Runs, network: str) -> list[str]:
    """What leaves norms behind on the same data."""
    kinds = networks.TRAINEES
    names = dict.fromkeys(name for name, _, _ in runs)
    data = kinds[network].data
    return [n for n in names if kinds[n].how != "norms" and kinds[n].data == data]


OPEN_1 = Study(
    "open-1",
    "Open problem 1: every rung of the ladder against m, width and cell",
    {
        "networks": Option("all", "kinds of networks, files and posteriors, separated by commas, "
                           "or all",
                           quick=networks.QUICK),
        "smallest": Option(1000, "smallest number of units to train on", least=50),
        "largest": Option(64_000, "largest number of units", quick=8000, least=51),
        "sizes": Option(3, "numbers of units, evenly in their logarithms", quick=2, least=2),
        "held": Option(10_000, "units held back"),
        "steps": Option(200, "steps of training, about, whatever m is", quick=120),
        "batch": Option(512, "units a step"),
        "local": Option(64_000, "largest m for the local margin ball", quick=1000, least=0),
        "delta": Option(0.01, "failure probability of a network's bounds", least=1e-300),
    },
    _cells,
    _conclude,
)  # fmt: skip


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
