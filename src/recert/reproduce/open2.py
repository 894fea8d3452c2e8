"""``recert reproduce open-2``: margins through training, against width and label noise.

The paper's second open problem asks what margins trained networks have. Free vanilla networks are
watched by the tracker; every number is monitoring, none a certificate. `open2_answers` tells what
the numbers say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recert import data
from recert.data import SequenceData
from recert.errors import InputError
from recert.plots import margin_study
from recert.reproduce import open1_networks, open2_watch
from recert.reproduce.open2_answers import Key, answers, claims, final, mean_of, readable
from recert.reproduce.study import Cell, Conclusion, Option, Request, Result, Study

COLUMNS = (
    "training error",
    "test error",
    "clean test error",
    "margin_ball",
    "hard risk",
    "gamma",
    "median",
    "q25",
    "q75",
    "range",
    "sensitivity",
)


def numbers(text: str, kind: type[int] | type[float], what: str, most: float) -> list[Any]:
    """Distinct numbers separated by commas, rising.

    Raises:
        InputError: a part is no such number, is out of range, or repeats.
    """
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        found = []
    least = 1 if kind is int else 0
    if not found or len(set(found)) != len(found) or not all(least <= x <= most for x in found):
        raise InputError(
            f"{what} are {text!r}; use distinct numbers from {least} to {most:g} "
            "separated by commas"
        )
    return sorted(found)


def runs(request: Request) -> list[Key]:
    """(d_h, noise) of every kind of run: all widths without noise, all noises at one width."""
    options = request.options
    widths = numbers(options["widths"], int, "widths", 4096)
    noises = numbers(options["noises"], float, "noises", 1.0)
    base = options["base"]
    return list(dict.fromkeys([(d_h, 0.0) for d_h in widths] + [(base, q) for q in noises]))


def _cells(request: Request) -> list[Cell]:
    options = request.options
    kinds = runs(request)
    found = []
    for seed in request.seeds:
        loaded = data.load(options["data"], seed=seed)
        sample, held = open1_networks.parts(loaded, options["units"], options["held"])
        found += [_cell(request, sample, held, kind, seed) for kind in kinds]
    return found


def _cell(request: Request, sample: SequenceData, held: SequenceData, kind: Key, seed: int) -> Cell:
    d_h, noise = kind
    options = {key: request.options[key] for key in ("epochs", "batch", "learning_rate", "delta")}
    what = {
        "study": "open-2", "revision": 1, "d_h": d_h, "noise": noise, "seed": seed,
        "sample": sample.digest, "held back": held.digest, **options,
    }  # fmt: skip
    return Cell(
        f"d_h = {d_h}, noise {noise:g}, seed {seed}",
        what,
        lambda bar: open2_watch.watched(
            sample, held, d_h=d_h, noise=noise, seed=seed, options=options, progress=bar
        ),
    )


def table(found: Mapping[Key, Sequence[Sequence[Result]]]) -> list[dict[str, Any]]:
    """A row for every kind of run and epoch: means over seeds, half the range of some."""
    rows = []
    for (d_h, noise), seeds in found.items():
        for k in range(len(seeds[0])):
            there = [readable(rows[k]) for rows in seeds]
            row: dict[str, Any] = {"d_h": d_h, "noise": noise, "epoch": there[0]["epoch"]}
            for column in COLUMNS:
                row[column], wide = mean_of([one[column] for one in there])
                if column in ("test error", "margin_ball", "gamma"):
                    row[f"{column} half range"] = wide
            rows.append(row)
    return rows


def _conclude(request: Request, results: Sequence[Result]) -> Conclusion:
    kinds = runs(request)
    found: dict[Key, list[list[Result]]] = {kind: [] for kind in kinds}
    for k, result in enumerate(results):
        found[kinds[k % len(kinds)]].append(result["rows"])
    base = (request.options["base"], 0.0)
    if base not in found:
        base = kinds[0]
    rows = table(found)
    loaded = data.load(request.options["data"], seed=request.seeds[0])
    # Of U, W and the head in K − 1 rows.
    count = {k: k[0] * (k[0] + loaded.input_dim + loaded.K - 1) for k in kinds}
    said = answers(found, base, count, request.options["units"])

    def draw(path: Path) -> Path:
        return margin_study.margins_through_training(rows, base, final(found), path)

    notes = [
        f"Free vanilla networks on {request.options['units']:,} units of "
        f"{request.options['data']}, Adam, cross-entropy; seeds "
        f"{', '.join(map(str, request.seeds))}. All numbers are monitoring, no certificates.",
        "Noise is in the labels held back, too ('test error': what the bound speaks of); 'clean "
        "test error' is the error on true labels.",
        *said.values(),
    ]
    shown = ("d_h", "noise", "epoch", "training error", "test error", "margin_ball", "gamma",
             "median", "range")  # fmt: skip
    return Conclusion(
        rows, draw, claims=claims(found, base), notes=notes, extra={"answers": said}, table=shown
    )


OPEN_2 = Study(
    "open-2",
    "Open problem 2: margins and the best margin through training, width and label noise",
    {
        "data": Option("german-nouns", "data set", choices=("german-nouns", "cmudict")),
        "units": Option(10_000, "units trained on", quick=4000, least=50),
        "held": Option(10_000, "units held back", quick=4000, least=50),
        "widths": Option("4,8,16,32", "hidden units without noise", quick="4,8,16"),
        "base": Option(16, "hidden units where noise varies", quick=8),
        "noises": Option("0,0.1,0.3,0.5", "shares of labels drawn afresh", quick="0,0.3"),
        "epochs": Option(12, "passes over the sample", quick=8),
        "batch": Option(128, "units a step"),
        "learning_rate": Option(0.01, "peak of Adam's rate", least=1e-9),
        "delta": Option(0.01, "failure probability of a row's bounds", least=1e-300),
    },
    _cells,
    _conclude,
)  # fmt: skip
