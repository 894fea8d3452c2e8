"""Runs of ``recert reproduce open-2`` besides free vanilla networks that fit no noise.

*Gated*: a GRU and an LSTM with about as many weights as a vanilla network, through training.
*Fitting*: networks that are large for their few units, so that they fit any share of noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recert.data import SequenceData
from recert.networks.cells import CELLS
from recert_studies.framework import Cell, Request, Result
from recert_studies.open1_tightness import networks as open1_networks
from recert_studies.open2_margins import watch
from recert_studies.open2_margins.answers import mean_of, readable

GATED_CELLS = ("gru", "lstm")
NAMES = {"vanilla": "vanilla", "gru": "GRU", "lstm": "LSTM"}
# Networks that fit are looked at this often, besides untrained; their epochs are many.
LOOKS = 10
COLUMNS = (
    "training error", "test error", "clean test error", "margin_ball", "min", "q05", "median",
    "range", "sensitivity", "ball gamma", "ball risk", "ball density", "ball nats",
    "ball shortfall", "slack",
)  # fmt: skip


@dataclass(frozen=True, order=True)
class MarginRun:
    """A kind of run, done once a seed.

    Attributes:
        series: "gated" or "fitting".
        cell: of the recipe.
        units: trained on.
        d_h: hidden units.
        noise: share of labels drawn afresh.
    """

    series: str
    cell: str
    units: int
    d_h: int
    noise: float = 0.0

    @property
    def network(self) -> str:
        """For people."""
        return f"{NAMES[self.cell]}, d_h = {self.d_h}"

    def weights(self, d_x: int, K: int) -> int:
        """P, of all U and W and of the head in K − 1 rows."""
        return weights(self.cell, self.d_h, d_x, K)


Found = Mapping[MarginRun, Sequence[Sequence[Result]]]
"""Run → for every seed its rows, one a look."""


def weights(cell: str, d_h: int, d_x: int, K: int) -> int:
    """Number of weights of a cell without biases and its head, counted in K − 1 rows."""
    return len(CELLS[cell].gates) * d_h * (d_h + d_x) + (K - 1) * d_h


def matched(cell: str, vanilla: int, d_x: int, K: int) -> int:
    """The d_h for which a gated cell has most nearly the weights of a vanilla one.

    Args:
        cell: of the family, with at least one gate.
        vanilla: hidden units of the vanilla network.
        d_x: size of the alphabet.
        K: classes.
    """
    wanted = weights("vanilla", vanilla, d_x, K)
    return min(range(1, vanilla + 1), key=lambda d_h: abs(weights(cell, d_h, d_x, K) - wanted))


def gated(request: Request, widths: Sequence[int], d_x: int, K: int) -> list[MarginRun]:
    """A GRU and an LSTM for every vanilla width; each kind once."""
    units = request.options["units"]
    return list(
        dict.fromkeys(
            MarginRun("gated", cell, units, matched(cell, width, d_x, K))
            for cell in GATED_CELLS
            for width in widths
        )
    )


def fitting(request: Request, units: Sequence[int], noises: Sequence[float]) -> list[MarginRun]:
    """A vanilla network and a GRU for every number of units and share of noise."""
    options = request.options
    networks = (("vanilla", options["fit_vanilla"]), ("gru", options["fit_gru"]))
    return [
        MarginRun("fitting", cell, m, d_h, noise)
        for cell, d_h in networks
        for m in units
        for noise in noises
    ]


def looks(epochs: int) -> list[int]:
    """At most `LOOKS` epochs, evenly spread, the last among them, and 0."""
    return sorted({round(epochs * k / LOOKS) for k in range(LOOKS + 1)})


def cell_of(request: Request, run: MarginRun, loaded: SequenceData, seed: int) -> Cell:
    """The work of one run at one seed.

    Raises:
        InputError: the data set has fewer units.
    """
    chosen = {key: request.options[key] for key in ("learning_rate", "delta")}
    prefix = "fit_" if run.series == "fitting" else ""
    chosen |= {key: request.options[f"{prefix}{key}"] for key in ("epochs", "batch")}
    at = looks(chosen["epochs"]) if run.series == "fitting" else None
    sample, held = open1_networks.parts(loaded, run.units, request.options["held"])
    what = {
        "study": "open-2", "series": run.series, "revision": 1, "cell": run.cell,
        "d_h": run.d_h, "noise": run.noise, "looks": at, "seed": seed,
        "sample": sample.digest, "held back": held.digest, **chosen,
    }  # fmt: skip
    return Cell(
        f"{run.network}, noise {run.noise:g}, seed {seed}",
        what,
        lambda bar: watch.watched(
            sample, held, d_h=run.d_h, noise=run.noise, seed=seed, options=chosen, progress=bar,
            cell=run.cell, looks=at, ball=True,
        ),
    )  # fmt: skip


def table(found: Found) -> list[dict[str, Any]]:
    """A row for every run and look: means over seeds, half the range of some."""
    rows = []
    for run, seeds in found.items():
        for k in range(len(seeds[0])):
            there = [readable(one[k]) for one in seeds]
            row: dict[str, Any] = {
                "series": run.series, "cell": run.cell, "units": run.units, "d_h": run.d_h,
                "noise": run.noise, "epoch": there[0]["epoch"],
            }  # fmt: skip
            for column in COLUMNS:
                row[column], wide = mean_of([one[column] for one in there])
                if column in ("test error", "median", "ball gamma", "ball nats"):
                    row[f"{column} half range"] = wide
            rows.append(row)
    return rows
