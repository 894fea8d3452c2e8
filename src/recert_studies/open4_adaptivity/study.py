"""``recert reproduce open-4``: which bounds notice how hard a task is, and which cannot.

One architecture is trained on nouns with true labels, on nouns with labels that are partly or all
random, and on easier languages. A bound notices if it ranks the tasks as the true risk does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from recert import data
from recert.data import SequenceData
from recert.errors import InputError
from recert_studies.framework import Cell, Conclusion, Option, Request, Result, Study
from recert_studies.open4_adaptivity import claims
from recert_studies.open4_adaptivity import posteriors as adaptivity_posterior_claims
from recert_studies.open4_adaptivity import posteriors as adaptivity_posteriors
from recert_studies.open4_adaptivity import tasks as adaptivity_bounds
from recert_studies.open4_adaptivity.claims import Series
from recert_studies.open4_adaptivity.figure import Line, PosteriorLines, tasks_against_bounds
from recert_studies.open4_adaptivity.posteriors import Posteriors
from recert_studies.open4_adaptivity.tasks import PREDICTORS, RANDOM, TASKS, TRUE, Task, material
from recert_studies.statistics import limit_and_spread, mean_and_spread

TABLE = (
    "predictor", "bound", "kind", "true", "random", "ratio", "τ", "complexity ratio",
    "τ of complexity", "τ of complexity, nouns", "verdict",
)  # fmt: skip
TRAIN = {
    "free": adaptivity_bounds.free,
    "capped": adaptivity_bounds.capped,
    "compressed": adaptivity_bounds.compressed,
}
NORMS = ("U", "W", "V")
# What a cell of networks depends on, and what one of posteriors does.
OF_NETWORKS = ("units", "few", "held", "hidden", "horizon", "epochs", "memorising", "delta")
OF_POSTERIORS = (
    "units", "held", "hidden", "horizon", "delta", "cell", "share", "price", "passes", "steps",
)  # fmt: skip


def _cells(request: Request) -> list[Cell]:
    options = dict(request.options)
    if options["few"] > options["units"]:
        raise InputError(f"few is more than the {options['units']:,} units; use fewer")
    adaptivity_posteriors.check(options, _sizes(request))
    nouns = data.load("german-nouns", seed=0, max_length=options["horizon"])
    tasks = [(seed, task) for seed in request.seeds for task in TASKS]
    return [
        *(_networks(task, nouns, options, seed) for seed, task in tasks),
        *(
            _posteriors(task, nouns, options, seed, m)
            for m in _sizes(request)
            for seed, task in tasks
        ),
    ]


def _sizes(request: Request) -> list[int]:
    """Numbers of units of posteriors: those of free networks, and of capped ones if asked for."""
    few, units = request.options["few"], request.options["units"]
    return [few] if request.options["posteriors"] == "few" else list(dict.fromkeys((few, units)))


def _networks(task: Task, nouns: SequenceData, options: dict[str, Any], seed: int) -> Cell:
    what = {
        "study": "open-4", "revision": 1, "seed": seed, "task": task.name,
        "digest": nouns.digest[:20], **{name: options[name] for name in OF_NETWORKS},
    }  # fmt: skip
    return Cell(
        f"seed {seed}: {task.name}", what, lambda bar: _done(task, nouns, options, seed, bar)
    )


def _posteriors(
    task: Task, nouns: SequenceData, options: dict[str, Any], seed: int, m: int
) -> Cell:
    what = {
        "study": "open-4, posteriors", "revision": 2, "seed": seed, "task": task.name, "m": m,
        "digest": nouns.digest[:20], **{name: options[name] for name in OF_POSTERIORS},
    }  # fmt: skip

    def work(bar: Progress) -> Result:
        units = material(task, nouns, options["units"], options["held"], seed)
        return adaptivity_posteriors.posteriors(units, m, options, seed, bar)

    return Cell(f"seed {seed}: {task.name}, posteriors, m = {m:,}", what, work)


def _done(
    task: Task, nouns: SequenceData, options: dict[str, Any], seed: int, bar: Progress
) -> Result:
    units = material(task, nouns, options["units"], options["held"], seed)
    progress = bar.add_task("training and bounds", total=len(PREDICTORS))
    found = {}
    for name in PREDICTORS:
        bar.update(progress, description=f"{name} network")
        found[name] = TRAIN[name](units, options, seed)
        bar.advance(progress)
    bar.remove_task(progress)
    return found


@dataclass(frozen=True)
class _Runs:
    """Results by seed and task."""

    found: Mapping[tuple[int, str], Result]
    seeds: Sequence[int]

    def over(self, predictor: str, seed: int) -> list[Result]:
        """A predictor's results at one seed, by task in the order of `TASKS`."""
        return [self.found[seed, task.name][predictor] for task in TASKS]


def series(runs: _Runs) -> list[Series]:
    """Every bound of every predictor, with values by seed and task; norms are listed as bounds."""
    made = []
    for predictor in PREDICTORS:
        every = {seed: runs.over(predictor, seed) for seed in runs.seeds}
        first = [r["bounds"] for results in every.values() for r in results]
        for name in [n for n in first[0] if all(n in bounds for bounds in first)]:
            about = first[0][name]
            made.append(
                Series(
                    predictor, name, about["title"], _kind([b[name]["kind"] for b in first]),
                    [[10 ** r["bounds"][name]["log10"] for r in v] for v in every.values()],
                    [[r["bounds"][name]["complexity"] for r in v] for v in every.values()],
                    [[r["true risk"] for r in v] for v in every.values()],
                )
            )  # fmt: skip
    norms = {
        f"‖{letter}‖": [[r["norms"][letter] for r in runs.over("free", s)] for s in runs.seeds]
        for letter in NORMS
    }
    risks = [[r["true risk"] for r in runs.over("free", s)] for s in runs.seeds]
    return made + [
        Series("free", name, name, "norm", values, values, risks) for name, values in norms.items()
    ]


def _conclude(request: Request, results: Sequence[Result]) -> Conclusion:
    names = [(seed, task.name) for seed in request.seeds for task in TASKS]
    runs = _Runs(dict(zip(names, results[: len(names)], strict=True)), request.seeds)
    posteriors = _of_posteriors(request, results[len(names) :])
    every = series(runs)
    by_task = [_task_row(task, runs) for task in TASKS]

    def draw(path: Path) -> Path:
        title = f"{request.options['units']:,} units; mean and range of seeds " + ", ".join(
            map(str, request.seeds)
        )
        return tasks_against_bounds(
            _lines(every, by_task), _posterior_lines(posteriors), path, title=title
        )

    return Conclusion(
        [_row(s) for s in (*every, *adaptivity_posterior_claims.series(posteriors))],
        draw,
        [
            *claims.claims(every, runs.found),
            *adaptivity_posterior_claims.claims(posteriors),
        ],
        _notes(request, by_task),
        {"tasks": by_task, "posteriors": adaptivity_posterior_claims.rows(posteriors)},
        table=TABLE,
    )


def _of_posteriors(request: Request, results: Sequence[Result]) -> Posteriors:
    names = [
        (m, seed, task.name) for m in _sizes(request) for seed in request.seeds for task in TASKS
    ]
    return Posteriors(dict(zip(names, results, strict=True)))


def _posterior_lines(runs: Posteriors) -> list[PosteriorLines]:
    return [
        PosteriorLines(
            m, runs.table(m, "memorising", "nats"), runs.table(m, "memorising", "least nats"),
            runs.table(m, "memorising", "value"), runs.table(m, "careful", "value"),
            runs.table(m, "centre", "limit"), runs.table(m, "careful", "true risk"),
        )
        for m in runs.sizes
    ]  # fmt: skip


def _kind(kinds: Sequence[str]) -> str:
    """An estimate if it is one anywhere."""
    return "estimate" if "estimate" in kinds else kinds[0]


def _row(s: Series) -> dict[str, Any]:
    places = {task.name: i for i, task in enumerate(TASKS)}
    true, random = places[TRUE], places[RANDOM]
    costs = [c for c in s.complexities if None not in c]
    return {
        "predictor": s.predictor,
        "bound": s.title,
        "kind": s.kind,
        "true": limit_and_spread([v[true] for v in s.values]),
        "random": limit_and_spread([v[random] for v in s.values]),
        "ratio": mean_and_spread([v[random] / v[true] for v in s.values]),
        "τ": _taus(s.taus()),
        "complexity ratio": mean_and_spread([(c[random] or 0.0) / (c[true] or 1.0) for c in costs]),
        "τ of complexity": _taus(s.complexity_taus()),
        "τ of complexity, nouns": _taus(s.complexity_taus(nouns=True)),
        "verdict": s.verdict,
        "name": s.name,
        **{f"mean, {task.name}": _mean([v[places[task.name]] for v in s.values]) for task in TASKS},
    }


def _task_row(task: Task, runs: _Runs) -> dict[str, Any]:
    """True risks and training errors of a task's predictors."""
    row: dict[str, Any] = {
        "task": task.name,
        "true risk is": "exact" if task.exact else "estimated",
    }
    for predictor in PREDICTORS:
        found = [runs.found[seed, task.name][predictor] for seed in runs.seeds]
        row[f"{predictor}: training error"] = mean_and_spread([r["training error"] for r in found])
        row[f"{predictor}: true risk"] = mean_and_spread([r["true risk"] for r in found])
        row[f"{predictor}: mean true risk"] = _mean([r["true risk"] for r in found])
    return row


def _lines(every: Sequence[Series], by_task: Sequence[Mapping[str, Any]]) -> list[Line]:
    names = [row["task"] for row in by_task]
    return [
        Line(s.predictor, s.name, s.title, s.kind, names, s.values, s.complexities, s.risks)
        for s in every
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _taus(taus: Sequence[float | None]) -> str:
    known = [t for t in taus if t is not None]
    return mean_and_spread(known) if len(known) == len(taus) and known else "all alike"


def _notes(request: Request, by_task: Sequence[Mapping[str, Any]]) -> list[str]:
    options = request.options
    errors = "; ".join(
        f"{row['task']} "
        + ", ".join(f"{row[f'{p}: training error']} / {row[f'{p}: true risk']}" for p in PREDICTORS)
        for row in by_task
    )
    return [
        f"free: d_h = {options['hidden']}, {options['few']} units, no caps; capped and compressed: "
        f"d_h = 8, {options['units']:,} units; the capped one inside declared caps "
        f"{adaptivity_bounds.CAPS} and at a declared γ = {adaptivity_bounds.MARGIN}.",
        f"posteriors: {options['cell']}, d_h = {options['hidden']}, {options['share']:.0%} of the "
        f"units make the prior; memorising ones pay {options['price']:g} nats for one error; "
        f"{adaptivity_posteriors.TRIED} settings are paid for. Their complexity is KL, nats a unit "
        "of the bound.",
        f"Training error / true risk of the {', '.join(PREDICTORS)} network: {errors}.",
        "'true' and 'random' are values on nouns with true and with random labels, 'ratio' the "
        "latter over the former. τ is Kendall's rank correlation with the true risk over the tasks "
        "at one seed, certificates being cut at 0.999. Complexity is what is paid besides the risk "
        "on the sample.",
    ]


OPEN_4 = Study(
    "open-4",
    "Open problem 4, adaptivity: which bounds notice random labels and easy tasks",
    {
        "units": Option(2500, "units of capped and compressed networks", quick=1000, least=50),
        "few": Option(400, "units that the free network memorises", quick=200, least=20),
        "held": Option(1000, "units held out", quick=500, least=20),
        "hidden": Option(24, "hidden units d_h of the free network and of posteriors' networks"),
        "horizon": Option(9, "t, the last letters of a noun, the letters of a sentence", quick=7),
        "epochs": Option(30, "passes of the capped and the compressed network", quick=15),
        "memorising": Option(120, "passes of the free network", quick=100),
        "posteriors": Option("both", "numbers of units of posteriors: few, or both few and units",
                             quick="few", choices=("few", "both")),
        "cell": Option("gru", "cell of posteriors' networks",
                       choices=("vanilla", "mgu", "gru", "lstm")),
        "share": Option(0.5, "share of the units that makes a posterior's prior", least=0.01),
        "price": Option(100.0, "nats that a memorising posterior pays for one error", least=0.01),
        "passes": Option(50, "passes of the prior", quick=30),
        "steps": Option(640, "steps of a memorising posterior, about; a careful one has an eighth",
                        quick=320),
        "delta": Option(0.01, "failure probability of each certificate", least=1e-300),
    },
    _cells,
    _conclude,
    quick_seeds=(0, 1),
)  # fmt: skip
