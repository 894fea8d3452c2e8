"""``recert reproduce tradeoff``: representation against generalization, end of Section 2.

A vanilla tanh network learns German nouns, whose gender shows in their last letters, and a task
that needs memory: the first of T random letters, where forgetting means guessing. U alone is
constrained, ‖U‖ ≤ 0.5 to 3, UᵀU = I, or not at all; training is by cross-entropy, and certificates
measure all norms and pay for it, and for the network's being one of eight.

The picture of ``recert reproduce tradeoff``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from rich.progress import Progress

from recert import data
from recert.certification.certify import evaluate_menu, menu, prepare, reported_margin
from recert.data import SequenceData, recall
from recert.printed.evaluate import order_bounds
from recert.report.canvas import pyplot, save
from recert_studies.framework import Cell, Conclusion, Option, Request, Result, Study
from recert_studies.statistics import means
from recert_studies.tradeoff import claims
from recert_studies.tradeoff.training import CONSTRAINTS, Constraint, largest_margin, trained

NOUNS, RECALL = "german-nouns", "recall"
TASKS = (NOUNS, RECALL)
CERTIFIED = ("theorem_2_clipped", "theorem_2_single_scale", "margin_ball")
LOCAL = "local_ball"
# Units on which errors are checked.
HELD = 5_000
# Recipes ranged over d_h in 1..32 with nouns in view, and encodings over T, which they pay for.
SIZES = 32
SHOWN = (
    "task", "U", "‖U‖", "training error", "held-back error", "gap", "± gap", "margin ball",
    "± margin ball", "local ball", "nats a unit", "median margin/M*",
)  # fmt: skip


def _cells(request: Request) -> list[Cell]:
    options = request.options
    cells = []
    for task in TASKS:
        parts = {seed: _parts(task, options, seed) for seed in request.seeds}
        for constraint in CONSTRAINTS:
            for seed in request.seeds:
                local = options["local"] == "yes"
                what = {
                    "study": "tradeoff", "revision": 1, "task": task, "U": constraint.name,
                    "seed": seed, "local": local, "digest": parts[seed][0].digest[:20],
                    **{name: options[name] for name in _DECIDING},
                }  # fmt: skip
                cells.append(
                    Cell(
                        f"{task}, {constraint.name}, seed {seed}", what,
                        _worker(task, constraint, parts[seed], what),
                    )
                )  # fmt: skip
    return cells


_DECIDING = ("hidden", "epochs", "batch", "learning_rate", "delta")


def _parts(task: str, options: Mapping[str, Any], seed: int) -> tuple[SequenceData, SequenceData]:
    """The sample and the units held back of a task at a seed."""
    units = options["units"]
    if task == NOUNS:
        nouns = data.load(NOUNS, path=options["data_path"], seed=seed)
        sample, rest = nouns.split(units)
        return sample, rest.take(slice(0, HELD))
    strings = recall.load(
        units + HELD, seed=seed, letters=options["letters"], max_length=options["length"]
    )
    return strings.split(units)


def _worker(
    task: str,
    constraint: Constraint,
    parts: tuple[SequenceData, SequenceData],
    what: Mapping[str, Any],
) -> Callable[[Progress], Result]:
    return lambda _: _measured(task, constraint, parts, what)


def _measured(
    task: str,
    constraint: Constraint,
    parts: tuple[SequenceData, SequenceData],
    what: Mapping[str, Any],
) -> Result:
    """Train one network, measure its errors, evaluate what is printed and what holds."""
    from recert.training import Recipe, error_rate

    sample, held = parts
    recipe = Recipe(
        d_h=what["hidden"], epochs=what["epochs"], batch=what["batch"],
        learning_rate=what["learning_rate"],
    )  # fmt: skip
    model = trained(sample, recipe, constraint, what["seed"])
    network = model.model.recert_network()
    case = prepare(
        network, sample.sequences, sample.labels, lengths=sample.lengths,
        max_length=sample.max_length, delta=what["delta"],
        tried=len(CONSTRAINTS) * (SIZES if task == NOUNS else 1), encoding=sample.encoding,
        budget=math.inf,
        draws=f"{sample.unit}s are regarded as draws from an unbounded source of them",
    )  # fmt: skip
    names = (*CERTIFIED, LOCAL) if what["local"] else CERTIFIED
    bounds = evaluate_menu(menu(names), case.setting, case.delta, case.rows)
    gamma = reported_margin(bounds, case.setting)
    orders = order_bounds(
        network, case.setting.table, steps=sample.max_length, input_bound=1.0, gamma=gamma,
        delta=case.delta,
    )  # fmt: skip
    ball = next(bound for bound in bounds if bound.name == "margin_ball")
    singular = np.linalg.svd(network.block("U").value, compute_uv=False)
    table = case.setting.table
    return {
        "error": table.error,
        "held-back error": error_rate(model.model, held),
        "singular values": [float(v) for v in singular],
        "V": network.block("V").norm_bound(),
        "W": network.block("W").norm_bound(),
        "gamma": float(ball.choices["gamma"]),
        "median margin": float(np.median(table.margins)),
        "largest margin": largest_margin(network, sample.max_length) if task == RECALL else None,
        "nats": float(ball.terms["complexity_nats"]),
        "nats a unit": float(ball.terms["rate"]),
        "bounds": {
            b.name: {"kind": b.kind, "log10": b.log10, "value": min(float(b.value), 1e300)}
            for b in (*bounds, *orders)
            if b.log10 is not None
        },
    }


Keyed = dict[tuple[str, str], list[Result]]


def keyed(request: Request, results: Sequence[Result]) -> Keyed:
    """(task, constraint) → results by seed."""
    n, found = len(request.seeds), {}
    names = [(task, constraint.name) for task in TASKS for constraint in CONSTRAINTS]
    for i, name in enumerate(names):
        found[name] = list(results[i * n : (i + 1) * n])
    return found


def _conclude(request: Request, results: Sequence[Result]) -> Conclusion:
    found = keyed(request, results)
    rows = [_row(task, name, seeds) for (task, name), seeds in found.items()]
    chance = recall.chance_error(request.options["letters"])

    def draw(path: Path) -> Path:
        return tradeoff(_panels(found, chance), path)

    return Conclusion(
        rows, draw, claims.claims(found), _notes(request, found, chance),
        {"chance error of recall": chance}, table=SHOWN,
        limits=("margin ball", "± margin ball", "local ball", "nats a unit"),
    )  # fmt: skip


def _row(task: str, name: str, seeds: Sequence[Result]) -> dict[str, Any]:
    """Means over seeds, and half the spread."""
    columns = {
        "‖U‖": [r["singular values"][0] for r in seeds],
        "smallest singular value": [r["singular values"][-1] for r in seeds],
        "training error": [r["error"] for r in seeds],
        "held-back error": [r["held-back error"] for r in seeds],
        "gap": [r["held-back error"] - r["error"] for r in seeds],
        "margin ball": [value(r) for r in seeds],
        "Theorem 2, single scale": [value(r, "theorem_2_single_scale") for r in seeds],
        "Theorem 2, clipped": [value(r, "theorem_2_clipped") for r in seeds],
        "local ball": [value(r, LOCAL) for r in seeds if LOCAL in r["bounds"]],
        "nats a unit": [r["nats a unit"] for r in seeds],
        "γ": [r["gamma"] for r in seeds],
        "log10 Theorem 2, printed": [r["bounds"]["printed_theorem_2"]["log10"] for r in seeds],
        "log10 Theorem 1, printed": [r["bounds"]["printed_theorem_1"]["log10"] for r in seeds],
        "log10 Zhang et al., printed": [r["bounds"]["printed_zhang"]["log10"] for r in seeds],
        "median margin/M*": [
            r["median margin"] / r["largest margin"] for r in seeds if r["largest margin"]
        ],
    }
    return {"task": task, "U": name, **means(columns)}


def value(result: Mapping[str, Any], name: str = "margin_ball") -> float:
    """The certified error, as it is found; above 1 it says nothing."""
    return float(result["bounds"][name]["value"])


def _panels(found: Keyed, chance: float) -> list[tuple[str, list[str], dict[str, Any], float]]:
    """(task, constraints, curve → values by constraint and seed, error of guessing or NaN)."""
    names = [constraint.name for constraint in CONSTRAINTS]
    panels = []
    for task in TASKS:
        rows = [found[task, name] for name in names]
        curves = {
            "margin ball (certified)": [[value(r) for r in seeds] for seeds in rows],
            "local ball (certified)": [
                [value(r, LOCAL) for r in seeds if LOCAL in r["bounds"]] for seeds in rows
            ],
            "error held back": [[r["held-back error"] for r in seeds] for seeds in rows],
            "training error": [[r["error"] for r in seeds] for seeds in rows],
        }
        panels.append((task, names, curves, chance if task == RECALL else float("nan")))
    return panels


def _notes(request: Request, found: Keyed, chance: float) -> list[str]:
    options = request.options
    kinds = {
        b["kind"] for seeds in found.values() for r in seeds
        for name, b in r["bounds"].items() if name in (*CERTIFIED, LOCAL)
    }  # fmt: skip
    best = [claims.best(found, task) for task in TASKS]
    return [
        f"{options['units']:,} units each; recall: the first of {options['length']} letters of "
        f"{options['letters']} kinds, guessing errs with probability {chance:.3f}; d_h = "
        f"{options['hidden']}; ± is half the distance of the largest and the smallest over seeds "
        f"{', '.join(map(str, request.seeds))}.",
        f"Statements are of kind {', '.join(sorted(kinds))}. {' '.join(best)}",
        "M* = √2‖V‖‖W‖_col‖U‖^(T−1): at γ ≥ M* the hard-margin risk on recall is that of guessing.",
    ]


TRADEOFF = Study(
    "tradeoff",
    "Representation against generalization: ‖U‖ capped, orthogonal, free; with and without memory",
    {
        "data_path": Option(None, "nouns.csv; by default that of the package german-nouns"),
        "units": Option(8_000, "nouns, or strings, to train on", quick=2_000, least=100),
        "hidden": Option(8, "hidden units d_h"),
        "length": Option(10, "T of the strings to recall from", quick=6),
        "letters": Option(3, "kinds of letters to recall", least=2),
        "epochs": Option(14, "passes over the sample", quick=10),
        "batch": Option(256, "units a step", quick=128),
        "learning_rate": Option(0.02, "peak of Adam's rate", least=1e-9),
        "local": Option("yes", "whether the local margin ball is evaluated, too", quick="no",
                        choices=("no", "yes")),
        "delta": Option(0.01, "failure probability of a network's bounds", least=1e-300),
    },
    _cells,
    _conclude,
)  # fmt: skip


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
