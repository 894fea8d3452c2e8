"""``recert reproduce open-3``: does SGD keep the spectra of a recurrent network controlled?

One architecture is trained at constant step sizes by SGD, SGD with momentum and Adam, free and with
constraints, from the same initial weights. All singular values of every block are recorded along
the way. Optimisers are compared where they first reach the same training error, and at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from recert import data
from recert.certification.certify import certify
from recert.data import SequenceData
from recert.errors import InputError
from recert.networks.network import Network
from recert.samples.sample import Reading, Sample
from recert.sensitivities import gate_ranges, growth_rates
from recert_studies.framework import Cell, Conclusion, Option, Request, Result, Study
from recert_studies.open3_implicit_bias.claims import LEVELS, BiasRun, claims
from recert_studies.open3_implicit_bias.figure import Course, courses
from recert_studies.statistics import (
    TRENDS,
    Trend,
    limit_and_spread,
    mean_and_spread,
    spread,
    trend,
)

LOOKS_A_DECADE = 20
# The part of the run, from its end, over which growth is fitted: a factor in steps.
FITTED = 10.0


@dataclass(frozen=True)
class BiasSetting:
    """One row of the table: what is trained, and how."""

    cell: str
    optimiser: str
    step_size: float
    constraint: str = "none"

    @property
    def name(self) -> str:
        """As the table calls it."""
        return f"{self.cell}, {self.optimiser} {self.step_size:g}, {self.constraint}"


FREE = {"sgd": (0.1, 0.3, 1.0), "momentum": (0.01, 0.03, 0.1), "adam": (0.003, 0.01, 0.03)}
CONSTRAINED = {"sgd": 0.3, "adam": 0.01}
GRU = {"sgd": 1.0, "adam": 0.01}


def settings() -> list[BiasSetting]:
    """Every optimiser at three step sizes, two of them with each constraint, and a GRU."""
    free = [BiasSetting("vanilla", name, size) for name, sizes in FREE.items() for size in sizes]
    held = [
        BiasSetting("vanilla", name, size, constraint)
        for constraint in ("cap", "orthogonal", "decay")
        for name, size in CONSTRAINED.items()
    ]
    return free + held + [BiasSetting("gru", name, size) for name, size in GRU.items()]


def looks(steps: int) -> list[int]:
    """The steps at which a run is looked at: 0, all up to 10, then evenly in their logarithms."""
    count = int(LOOKS_A_DECADE * np.log10(steps)) + 2
    return sorted({0, *range(1, min(10, steps) + 1), *spread(1, steps, count)})


def _cells(request: Request) -> list[Cell]:
    options = dict(request.options)
    nouns = data.load("german-nouns", seed=0, max_length=options["horizon"])
    if not isinstance(nouns, SequenceData) or options["units"] + options["held"] > nouns.m:
        raise InputError(f"units and held are more than the {nouns.m:,} nouns; use fewer")
    return [
        _cell(nouns, setting, options, seed) for seed in request.seeds for setting in settings()
    ]


def _cell(nouns: SequenceData, setting: BiasSetting, options: dict[str, Any], seed: int) -> Cell:
    what = {
        "study": "open-3", "revision": 1, "seed": seed, "digest": nouns.digest[:20],
        "cell": setting.cell, "optimiser": setting.optimiser, "step size": setting.step_size,
        "constraint": setting.constraint, **options,
    }  # fmt: skip
    title = f"seed {seed}: {setting.name}"
    return Cell(title, what, lambda bar: _trained(nouns, setting, options, seed, bar))


def _trained(
    nouns: SequenceData, setting: BiasSetting, options: dict[str, Any], seed: int, bar: Progress
) -> Result:
    """Train one network and record it at every look."""
    from recert.training import Recipe, RecurrentClassifier, error_rate
    from recert.training.sgd import Descent, descend

    sample, held = _drawn(nouns, options, seed)
    recipe = Recipe(d_h=options["hidden"], cell=setting.cell)
    descent = Descent(
        setting.optimiser, setting.step_size, setting.constraint,
        cap=options["cap"], decay=options["decay"], batch=options["batch"],
    )  # fmt: skip
    at = looks(options["steps"])
    seen: list[Result] = []
    reached: dict[str, Any] = {}
    task = bar.add_task(f"training, seed {seed}", total=len(at))
    first: dict[str, np.ndarray] = {}

    def watch(model: RecurrentClassifier, step: int) -> bool:
        network = model.recert_network()
        first.update({} if first else {b.name: np.array(b.value) for b in network.blocks()})
        row = {"step": step, "error": error_rate(model, sample), **spectra(network, first)}
        row["beta"] = _beta(network, sample)
        seen.append(row)
        if not reached and row["error"] <= options["target"]:
            reached.update(row, held_error=error_rate(model, held))
        bar.advance(task)
        return False

    note = ""
    try:
        model = descend(sample, recipe, descent, steps=options["steps"], seed=seed, at=at,
                        watch=watch)  # fmt: skip
    except InputError as error:
        note = str(error)
        model = None
    bar.remove_task(task)
    return {
        "looks": seen,
        "reached": reached,
        "diverged": note,
        "held_error": None if model is None else error_rate(model, held),
        "nats a unit": None if model is None else _nats(model.recert_network(), sample),
    }


def _drawn(
    nouns: SequenceData, options: dict[str, Any], seed: int
) -> tuple[SequenceData, SequenceData]:
    """Nouns to train on and others, drawn by the seed."""
    order = np.random.Generator(np.random.PCG64([3, seed])).permutation(nouns.m)
    m, n = options["units"], options["held"]
    return nouns.take(order[:m]), nouns.take(order[m : m + n])


def spectra(network: Network, first: dict[str, np.ndarray]) -> Result:
    """Singular values of every block, largest first, and distances ‖A − A_0‖_F, six digits."""
    values = {b.name: np.linalg.svd(b.matrix(), compute_uv=False) for b in network.blocks()}
    return {
        "singular values": {name: [_short(x) for x in s] for name, s in values.items()},
        "distance": {
            b.name: _short(np.linalg.norm(b.value - first[b.name])) for b in network.blocks()
        },
    }


def largest(look: Result, letter: str = "U") -> float:
    """The largest norm ‖·‖ over a letter's blocks: ‖U‖, of a GRU the largest of its three."""
    return max(s[0] for name, s in look["singular values"].items() if name[0] == letter)


def norm_at(seen: Sequence[Result], target: float) -> float | None:
    """‖U‖ where the training error first comes down to ``target``; None where it does not.

    Between the two looks in question it is interpolated linearly in the error, or a run that falls
    fast would be measured further down than a slow one.
    """
    for i, look in enumerate(seen):
        if look["error"] <= target:
            if i == 0:
                return largest(look)
            before = seen[i - 1]
            share = (before["error"] - target) / (before["error"] - look["error"])
            return largest(before) + share * (largest(look) - largest(before))
    return None


def stable_rank(look: Result) -> float:
    """‖A‖_F²/‖A‖² of that block U whose norm is largest."""
    s = max((v for n, v in look["singular values"].items() if n[0] == "U"), key=lambda v: v[0])
    return float(sum(x * x for x in s) / s[0] ** 2)


def distance(look: Result) -> float:
    """‖U − U_0‖_F, over all blocks U together."""
    return float(np.sqrt(sum(x**2 for name, x in look["distance"].items() if name[0] == "U")))


def fitted(seen: Sequence[Result]) -> Trend:
    """The trend of ‖U‖ over the last decade of steps."""
    last = seen[-1]["step"]
    late = [look for look in seen if look["step"] >= max(1.0, last / FITTED)]
    return trend([look["step"] for look in late], [largest(look) for look in late])


def _short(x: float | np.floating[Any]) -> float:
    return float(f"{float(x):.6g}")


def _beta(network: Network, sample: SequenceData) -> float:
    """β_t of the paper at the last step, gates as measured on the sample."""
    if "U" in {block.name for block in network.blocks()}:
        return _short(np.linalg.norm(network.block("U").value, 2))
    reading = Reading(network.input_kind, network.d_x, network.K, "last", sample.max_length)
    opened = Sample(sample.sequences, sample.labels, reading, lengths=sample.lengths)
    measured = gate_ranges.measured_gates(network, opened)
    return _short(growth_rates.rates(network, measured)[0].beta[-1])


def _nats(network: Network, sample: SequenceData) -> float:
    """Nats a unit of the class-wide margin ball, caps measured; what its certificate pays."""
    found = certify(
        network, sample.sequences, sample.labels, lengths=sample.lengths,
        max_length=sample.max_length, encoding=sample.encoding, bounds="margin_ball",
    ).bounds[0]  # fmt: skip
    return _short(found.terms["rate"])


def _conclude(request: Request, results: Sequence[Result]) -> Conclusion:
    every = settings()
    by_setting = {
        setting: [results[k * len(every) + i] for k in range(len(request.seeds))]
        for i, setting in enumerate(every)
    }
    target = request.options["target"]
    rows = [_row(setting, found, target) for setting, found in by_setting.items()]
    runs = [
        _run(setting, seed, result, target)
        for setting, found in by_setting.items()
        for seed, result in zip(request.seeds, found, strict=True)
    ]
    title = (
        f"{request.options['units']:,} German nouns, d_h = {request.options['hidden']}; seeds "
        f"{', '.join(map(str, request.seeds))}"
    )

    def draw(path: Path) -> Path:
        drawn = {s.name: _course(s, found) for s, found in by_setting.items()}
        return courses(drawn, path, title=title)

    return Conclusion(
        rows,
        draw,
        claims(runs),
        _notes(request),
        {"runs": [asdict(run) for run in runs]},
        table=TABLE,
    )


TABLE = (
    "cell", "optimiser", "step size", "constraint", "reached", "‖U‖ there", "‖U‖ at the end",
    "error at the end", "stable rank", "‖U − U_0‖_F", "trends",
)  # fmt: skip


def _row(setting: BiasSetting, found: Sequence[Result], target: float) -> dict[str, Any]:
    """One setting over seeds, each number as mean ± standard deviation."""
    there = [r["reached"] for r in found if r["reached"]]
    last = [r["looks"][-1] for r in found]
    trends = [fitted(r["looks"]) for r in found]
    norms = [n for r in found if (n := norm_at(r["looks"], target)) is not None]
    return {
        "cell": setting.cell,
        "optimiser": setting.optimiser,
        "step size": setting.step_size,
        "constraint": setting.constraint,
        "reached": f"{len(there)} of {len(found)}",
        "step there": mean_and_spread([look["step"] for look in there]),
        "error there": mean_and_spread([look["error"] for look in there]),
        "‖U‖ there": mean_and_spread(norms),
        "β there": mean_and_spread([look["beta"] for look in there]),
        "stable rank there": mean_and_spread([stable_rank(look) for look in there]),
        "held-out error there": mean_and_spread([look["held_error"] for look in there]),
        "error at the end": mean_and_spread([look["error"] for look in last]),
        "‖U‖ at the end": mean_and_spread([largest(look) for look in last]),
        "‖W‖ at the end": mean_and_spread([largest(look, "W") for look in last]),
        "‖V‖ at the end": mean_and_spread([largest(look, "V") for look in last]),
        "β at the end": mean_and_spread([look["beta"] for look in last]),
        "stable rank": mean_and_spread([stable_rank(look) for look in last]),
        "‖U − U_0‖_F": mean_and_spread([distance(look) for look in last]),
        "held-out error": mean_and_spread([r["held_error"] for r in found if not r["diverged"]]),
        "nats a unit": limit_and_spread([r["nats a unit"] for r in found if not r["diverged"]]),
        "trends": _counted([t.kind for t in trends]),
        "powers": mean_and_spread([t.power for t in trends]),
        "growth a decade": mean_and_spread([t.slope * float(np.log(10)) for t in trends]),
        "diverged": sum(bool(r["diverged"]) for r in found),
    }


def _counted(kinds: Sequence[str]) -> str:
    """Such as "2 log, 1 jump"."""
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in TRENDS if kind in kinds)


def _run(setting: BiasSetting, seed: int, result: Result, target: float) -> BiasRun:
    there, last = result["reached"], result["looks"][-1]
    return BiasRun(
        setting.cell, setting.optimiser, setting.step_size, setting.constraint, seed,
        there.get("step"), norm_at(result["looks"], target), there.get("held_error"),
        last["error"], largest(last), fitted(result["looks"]).kind, result["diverged"],
        {level: norm_at(result["looks"], float(level)) for level in LEVELS},
    )  # fmt: skip


def _course(setting: BiasSetting, found: Sequence[Result]) -> Course:
    steps = [[look["step"] for look in r["looks"]] for r in found]
    norms = [[largest(look) for look in r["looks"]] for r in found]
    return Course(
        setting.cell, setting.optimiser, setting.step_size, setting.constraint, steps, norms,
        _at_errors(found),
        [r["looks"][-1]["singular values"].get("U", []) for r in found],
    )  # fmt: skip


def _at_errors(found: Sequence[Result]) -> dict[float, list[float]]:
    """Training error → ‖U‖ where it is reached, of the seeds that reach it."""
    return {
        float(level): [n for r in found if (n := norm_at(r["looks"], float(level))) is not None]
        for level in LEVELS
    }


def _notes(request: Request) -> list[str]:
    options = request.options
    return [
        f"'there' is where the training error first comes down to {options['target']:g}: "
        "‖U‖ interpolated between looks, all else at the first look past it. All runs go "
        f"on to step {options['steps']:,} at a constant step size.",
        "Vanilla runs of one seed start from the same weights, U = 0.7 times an orthogonal matrix "
        "(where U is kept orthogonal, at once that multiple which is asked for); ‖U‖ of a GRU is "
        "the largest of its three, its β with gates as measured.",
        "Errors and norms on the way are monitoring; 'nats a unit' is what the class-wide margin "
        "ball pays at the final weights, useful well below 1.",
    ]


OPEN_3 = Study(
    "open-3",
    "Open problem 3, implicit bias: spectra through training by SGD, momentum and Adam",
    {
        "units": Option(500, "nouns to train on", quick=300, least=10),
        "held": Option(1000, "other nouns, for the error", least=10),
        "hidden": Option(16, "hidden units d_h"),
        "horizon": Option(8, "t, the last letters of a noun that are read"),
        "steps": Option(1500, "steps of each run", quick=200, least=10),
        "target": Option(0.1, "training error at which runs are compared", quick=0.3, least=0.0),
        "batch": Option(64, "nouns a step"),
        "cap": Option(1.0, "on ‖U‖ under the constraints cap and orthogonal", least=1e-6),
        "decay": Option(1e-3, "λ of the penalty λΣ‖A‖_F²", least=1e-12),
    },
    _cells,
    _conclude,
)  # fmt: skip
