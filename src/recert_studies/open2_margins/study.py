"""``recert reproduce open-2``: margins through training, against width and label noise.

The paper's second open problem asks what margins trained networks have. Free networks are watched
by the tracker; every number is monitoring, none a certificate. `open2_answers` tells what the
numbers of vanilla ones say, `open2_gated` and `open2_fits` those of `open2_runs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recert import data
from recert.data import SequenceData
from recert.errors import InputError
from recert_studies.framework import Cell, Conclusion, Option, Request, Result, Study
from recert_studies.open1_tightness import networks
from recert_studies.open2_margins import figure, fits, watch
from recert_studies.open2_margins import gated as open2_gated
from recert_studies.open2_margins import runs as open2_runs
from recert_studies.open2_margins.answers import Key, answers, claims, final, mean_of, readable
from recert_studies.open2_margins.runs import MarginRun

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
SHOWN = ("series", "cell", "units", "d_h", "noise", "epoch", "training error", "test error",
         "margin_ball", "gamma", "ball gamma", "ball nats", "median", "range")  # fmt: skip
Kind = Key | MarginRun


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


def further(request: Request, d_x: int, K: int) -> list[MarginRun]:
    """Runs of gated cells, and of networks that are to fit their noise."""
    options = request.options
    gated = numbers(options["gated"], int, "widths that gated cells match", 4096)
    units = numbers(options["fit_units"], int, "numbers of units to fit", 1e9)
    noises = numbers(options["fit_noises"], float, "noises to fit", 1.0)
    return [
        *open2_runs.gated(request, gated, d_x, K),
        *open2_runs.fitting(request, units, noises),
    ]


def _cells(request: Request) -> list[Cell]:
    options = request.options
    kinds = runs(request)
    found = []
    for seed in request.seeds:
        loaded = data.load(options["data"], seed=seed)
        sample, held = networks.parts(loaded, options["units"], options["held"])
        more = further(request, loaded.input_dim, loaded.K)
        found += [_cell(request, sample, held, kind, seed) for kind in kinds]
        found += [open2_runs.cell_of(request, run, loaded, seed) for run in more]
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
        lambda bar: watch.watched(
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
    loaded = data.load(request.options["data"], seed=request.seeds[0])
    d_x, K = loaded.input_dim, loaded.K
    kinds, more = runs(request), further(request, d_x, K)
    by_kind = _by_kind([*kinds, *more], results)
    found = {key: by_kind[key] for key in kinds}
    gated = {run: by_kind[run] for run in more if run.series == "gated"}
    fitting = {run: by_kind[run] for run in more if run.series == "fitting"}
    base = (request.options["base"], 0.0)
    if base not in found:
        base = kinds[0]
    rows, further_rows = table(found), open2_runs.table({**gated, **fitting})
    count = {key: open2_runs.weights("vanilla", key[0], d_x, K) for key in kinds}
    said = {
        **answers(found, base, count, request.options["units"]),
        **open2_gated.answers(gated, found, d_x, K),
        **fits.answers(fitting, d_x, K),
    }
    made = [
        *claims(found, base),
        *open2_gated.claims("gated cells", open2_gated.series_of(gated)),
        *open2_gated.claims("networks that fit noise", fits.series_of(fitting)),
    ]

    def draw(path: Path) -> Path:
        return figure.margins_through_training(rows, base, final(found), path, further=further_rows)

    return Conclusion(
        [*rows, *further_rows], draw, claims=made, notes=_notes(request, said.values()),
        extra={"answers": said}, table=SHOWN, limits=("margin_ball", "ball nats", "range"),
    )  # fmt: skip


def _by_kind(kinds: Sequence[Kind], results: Sequence[Result]) -> dict[Kind, list[list[Result]]]:
    """Kind → a seed's rows each; results are those of all kinds, seed by seed."""
    return {
        kind: [result["rows"] for result in results[k :: len(kinds)]]
        for k, kind in enumerate(kinds)
    }


def _notes(request: Request, said: Iterable[str]) -> list[str]:
    """What was done, in words, and then the answers."""
    options = request.options
    return [
        f"Free vanilla networks on {options['units']:,} units of "
        f"{options['data']}, Adam, cross-entropy; seeds "
        f"{', '.join(map(str, request.seeds))}. All numbers are monitoring, no certificates.",
        "Noise is in the labels held back, too ('test error': what the bound speaks of); 'clean "
        "test error' is the error on true labels.",
        f"Besides, a GRU and an LSTM with the weights of vanilla networks of d_h = "
        f"{options['gated']}, likewise; and networks that are large for {options['fit_units']} "
        f"units, trained for {options['fit_epochs']} epochs.",
        *said,
    ]


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
        "gated": Option("8,16,32", "vanilla widths whose weights gated cells have", quick="8"),
        "fit_units": Option("400,1600", "units that large networks are to fit", quick="200"),
        "fit_noises": Option("0,0.2,0.5,1", "shares of labels drawn afresh", quick="0,0.5,1"),
        "fit_vanilla": Option(64, "hidden units of the vanilla network that is to fit"),
        "fit_gru": Option(32, "hidden units of the GRU that is to fit"),
        "fit_epochs": Option(100, "passes over the units to fit", quick=60),
        "fit_batch": Option(50, "units a step, where they are to be fitted"),
    },
    _cells,
    _conclude,
)  # fmt: skip
