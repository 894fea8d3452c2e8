"""``recert reproduce gates``: the paper's second question, do gates help to generalize.

Every cell is trained on German nouns twice: with *small gates*, inside caps for which the paper's
rate θ is below 1 though the candidate's ‖U‖ may be 1.2 (two vanilla networks and a convolutional
one beside them), and *freely*. Bounds are evaluated at horizons 1 to a few hundred. At horizons
below the nouns' 12 letters they describe a class and certify nothing; from 12 on they are
certificates of these nouns, for a declared longest length of t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.progress import Progress

from recert import data
from recert.data import SequenceData, german_nouns
from recert_studies.framework import Cell, Conclusion, Option, Request, Result, Study
from recert_studies.gates import claims
from recert_studies.gates.figure import gate_study
from recert_studies.gates.measures import (
    CONTENDERS,
    FREE,
    SMALL,
    Contender,
    bound_value,
    case_of,
    gate_range,
    growth_a_step,
    largest_recurrent_norm,
    measure,
)
from recert_studies.statistics import means, spread

# Options that decide a network's results, besides its horizons.
_DECIDING = ("units", "effort", "batch", "delta")
# Nouns held back on which errors are checked.
HELD = 5_000
SHOWN = (
    "regime", "network", "d_h", "training error", "± training error", "‖U‖", "reach of gates",
    "largest ‖U‖ for θ < 1", "θ, class", "nats of gates", "other nats", "certified",
    "certified at the longest t", "a step",
)  # fmt: skip


LIMITS = ("θ, class", "nats of gates", "other nats", "certified", "certified at the longest t")


def horizons(request: Request) -> list[int]:
    """Horizons at which bounds are evaluated: 1 to the longest, the nouns' T among them."""
    T, longest = german_nouns.MAX_LENGTH, request.options["longest"]
    return sorted({*spread(1, longest, request.options["points"]), min(T, longest)})


def _cells(request: Request) -> list[Cell]:
    options = request.options
    nouns = data.load("german-nouns", path=options["data_path"])
    digest = nouns.digest[:20]
    samples = {s: _split(options, s) for s in request.seeds}
    ts = horizons(request)
    cells = []
    for contender in CONTENDERS:
        for seed in request.seeds:
            what = {
                "study": "gates", "revision": 1, "network": contender.name,
                "regime": contender.regime, "fields": dict(contender.fields), "seed": seed,
                "digest": digest, "horizons": ts,
                **{name: options[name] for name in _DECIDING},
            }  # fmt: skip
            cells.append(
                Cell(
                    f"{contender.name}, {contender.regime}, seed {seed}", what,
                    _worker(contender, samples[seed], seed, ts, options),
                )
            )  # fmt: skip
    return cells


def _split(options: Mapping[str, Any], seed: int) -> tuple[SequenceData, SequenceData]:
    nouns = data.load("german-nouns", path=options["data_path"], seed=seed)
    sample, rest = nouns.split(options["units"])
    return sample, rest.take(slice(0, HELD))


def _worker(
    contender: Contender,
    parts: tuple[SequenceData, SequenceData],
    seed: int,
    ts: Sequence[int],
    options: Mapping[str, Any],
) -> Callable[[Progress], Result]:
    def work(_: Progress) -> Result:
        from recert.training import error_rate, train
        from recert.training.recipes import GERMAN_NOUNS_CHOICES

        sample, held = parts
        recipe = contender.recipe(options["effort"], options["batch"])
        trained = train(sample, recipe, seed=seed)
        tried = GERMAN_NOUNS_CHOICES[contender.cell] * len(CONTENDERS)
        network = trained.model.recert_network()
        case = case_of(network, sample, trained.caps, tried, options["delta"])
        found = measure(contender, case, sample, ts)
        return found | {"held-back error": error_rate(trained.model, held)}

    return work


def by_network(request: Request, results: Sequence[Result]) -> dict[Contender, list[Result]]:
    """Results of every network, by seed."""
    n = len(request.seeds)
    return {c: list(results[i * n : (i + 1) * n]) for i, c in enumerate(CONTENDERS)}


def _conclude(request: Request, results: Sequence[Result]) -> Conclusion:
    found, ts = by_network(request, results), horizons(request)
    place = ts.index(min(german_nouns.MAX_LENGTH, ts[-1]))
    rows = [_row(contender, seeds, ts, place) for contender, seeds in found.items()]
    keyed = {(c.regime, c.name): seeds for c, seeds in found.items()}

    def draw(path: Path) -> Path:
        return gate_study(_region(found), _curves(keyed, ts), _bars(keyed, place), path)

    return Conclusion(
        rows, draw, claims.claims(keyed, ts, place), _notes(request, keyed, ts),
        {"horizons": ts}, table=SHOWN, limits=LIMITS,
    )  # fmt: skip


def _row(
    contender: Contender, seeds: Sequence[Result], ts: Sequence[int], place: int
) -> dict[str, Any]:
    """Means over seeds, and half the spread of what varies most."""
    row: dict[str, Any] = {
        "regime": contender.regime,
        "network": contender.name,
        "d_h": contender.fields["d_h"],
        "weights": seeds[0]["weights"],
    }
    columns = {
        "training error": [r["error"] for r in seeds],
        "held-back error": [r["held-back error"] for r in seeds],
        "‖U‖": [r["U"] for r in seeds],
        "cap on ‖U‖": [r["cap on U"] for r in seeds],
        "reach of gates": [r["reach"] for r in seeds if r["reach"] is not None],
        "largest ‖U‖ for β < 1": [max(0.0, r["largest U, β"]) for r in seeds],
        "largest ‖U‖ for θ < 1": [max(0.0, r["largest U, θ"]) for r in seeds],
        **{
            f"{letter}, {title}": [r["rates"][source][letter][-1] for r in seeds]
            for letter in "βθ"
            for title, source in _SOURCES.items()
        },
        "nats of gates": [r["nats"][place]["gates"] for r in seeds],
        "other nats": [_others(r, place) for r in seeds],
        "certified": [bound_value(r, place) for r in seeds],
        "certified at the longest t": [bound_value(r, -1) for r in seeds],
        "a step": [growth_a_step(r, ts) for r in seeds],
        "log10 as printed": [r["log10"]["as printed"][place] for r in seeds if _printed(r)],
        "log10 as printed at the longest t": [
            r["log10"]["as printed"][-1] for r in seeds if _printed(r)
        ],
    }
    return row | means(columns)


_SOURCES = {
    "class": "class, repaired",
    "class, as printed": "class, printed",
    "measured": "measured, repaired",
    "measured, as printed": "measured, printed",
}


def _others(result: Result, place: int) -> float:
    nats: dict[str, float] = result["nats"][place]
    return nats["candidate"] + nats["head"]


def _printed(result: Result) -> bool:
    return "as printed" in result["log10"]


def _region(found: Mapping[Contender, Sequence[Result]]) -> dict[str, Any]:
    """The curve below which rates are less than 1, and where the trained networks lie."""
    reaches = [10 ** (-3 + 0.05 * i) for i in range(81)]
    limit = [largest_recurrent_norm("mgu", {"r": gate_range(a)}) for a in reaches]
    points = [
        (c.cell, c.regime, r["reach"], r["cap on U"])
        for c, seeds in found.items()
        for r in seeds
        if r["reach"] is not None
    ]
    return {"reaches": reaches, "limit": limit, "points": points}


def _curves(
    keyed: Mapping[tuple[str, str], Sequence[Result]], ts: Sequence[int]
) -> list[tuple[str, str, list[tuple[str, Sequence[int], list[list[float]]]]]]:
    """Panels (title, axis, curves); a curve is (network, horizons, values by seed)."""
    panels = []
    for regime in (SMALL, FREE):
        chosen = {name: seeds for (r, name), seeds in keyed.items() if r == regime}
        bounds = [
            (name, ts, [[bound_value(r, i) for i in range(len(ts))] for r in seeds])
            for name, seeds in chosen.items()
        ]
        panels.append((f"{regime}: margin ball", "certified error", bounds))
    for regime in (SMALL, FREE):
        chosen = {name: seeds for (r, name), seeds in keyed.items() if r == regime}
        orders = [
            (name, ts, [r["log10"]["as printed"] if _printed(r) else [] for r in seeds])
            for name, seeds in chosen.items()
        ]
        panels.append((f"{regime}: Theorems 2, 4, 5 as printed", "log10 (no bound)", orders))
    return panels


def _bars(
    keyed: Mapping[tuple[str, str], Sequence[Result]], place: int
) -> list[tuple[str, str, dict[str, float]]]:
    """(regime, network, nats by what its blocks are for), means over seeds."""
    return [
        (regime, name, {k: mean(r["nats"][place][k] for r in seeds) for k in _PARTS})
        for (regime, name), seeds in keyed.items()
    ]


_PARTS = ("gates", "candidate", "head")


def _notes(
    request: Request, keyed: Mapping[tuple[str, str], Sequence[Result]], ts: Sequence[int]
) -> list[str]:
    kinds = {kind for seeds in keyed.values() for r in seeds for kind in r["kinds"].values()}
    return [
        f"{request.options['units']:,} German nouns, seeds {', '.join(map(str, request.seeds))}; "
        "± is half the distance of the largest and the smallest value over seeds.",
        *(claims.comparable(keyed, regime) for regime in (SMALL, FREE)),
        f"Bounds at t ≥ {german_nouns.MAX_LENGTH} hold for these nouns ({', '.join(kinds)}), "
        "at a declared longest length t, each for all statements of its network; every network "
        f"pays for being one of {len(CONTENDERS)}. At smaller t they describe the class.",
        "Rates are class-wide unless they say measured; measured gates describe one network on "
        "these nouns and bound nothing. Theorems 4 to 6 do not speak of GRUs, nor of "
        "convolutional cells that are not orthogonal.",
        f"'a step': by which factor the margin ball's radii shrink a step at t near {ts[-1]}.",
    ]


GATES = Study(
    "gates",
    "Do gates help: every cell at comparable error, rates and bounds against t",
    {
        "data_path": Option(None, "nouns.csv; by default that of the package german-nouns"),
        "units": Option(10_000, "nouns to train on", quick=3_000, least=100),
        "effort": Option(1.0, "share of the recipes' epochs", quick=0.5, least=1e-3),
        "batch": Option(256, "nouns a step", quick=128),
        "longest": Option(400, "the longest horizon", quick=200, least=4),
        "points": Option(10, "horizons at which bounds are evaluated", quick=4, least=3),
        "delta": Option(0.01, "failure probability of a network's bounds", least=1e-300),
    },
    _cells,
    _conclude,
)  # fmt: skip
