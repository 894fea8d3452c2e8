"""``recert ladder``: every certificate there is on one data set, from Theorem 2 as printed down.

Three predictors are trained on the same units: a network, a network as a short file, a posterior
over networks. Each is certified at δ, alone; the units held back are for checking only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from recert import data, report
from recert.certificates.certificate import Certificate
from recert.numerics.rounding import written_up
from recert.report import Rung, value_text
from recert.utils import consoles, files
from recert.utils.validation import probability
from recert.workflows import compress, networks, posteriors, split

# From top to bottom: bound, and what it is called here.
OF_NETWORK = (
    ("printed_theorem_2", "Theorem 2, as printed"),
    ("theorem_2", "Theorem 2 with constants, the paper's range"),
    ("theorem_2_clipped", "Theorem 2 with constants, clipped range"),
    ("theorem_3_l1", "Theorem 3 (3) repaired"),
    ("theorem_2_single_scale", "Theorem 2 with constants, single scale"),
    ("theorem_3_gaussian", "Theorem 3 (4) repaired"),
    ("margin_ball", "margin ball, class-wide"),
    ("local_ball", "local margin ball"),
)
OF_POSTERIOR = (
    ("majority_vote", "PAC-Bayes, the vote"),
    ("pac_bayes_kl", "PAC-Bayes-kl, weights drawn"),
    ("pac_bayes_temperature", "PAC-Bayes at one temperature, weights drawn"),
)

# Prices of a bit: the two of `recert compress`, and dearer ones for the picture.
FRONTIER = (*compress.PRICES, 6.0, 12.0)


@dataclass(frozen=True)
class Training:
    """What the three trainings have in common: data, folder, seed, δ."""

    name: str
    out: Path
    options: dict[str, Any]
    units: int | None
    seed: int
    delta: float


def run(
    name: str,
    out: Path,
    *,
    options: Mapping[str, Any] | None = None,
    units: int | None = None,
    seed: int = 0,
    delta: float = 0.01,
    console: Console | None = None,
) -> list[Rung]:
    """Train, certify, draw ``ladder.png`` and write ``ladder.md``; files go to ``out``.

    Args:
        name: of the data set.
        out: folder.
        options: of the data set.
        units: to train on; by default those of ``recert train``.
        seed: of the data's order and of all trainings.
        delta: of each certificate.
        console: where to print.
    """
    console, options = console or consoles.results(), dict(options or {})
    what = Training(name, out, options, units, seed, probability("delta", delta))
    _check(what)
    network, program, gibbs = _network(what), _program(what), _gibbs(what)
    error = _error(network)
    rungs = [Rung(label, network[key], error) for key, label in OF_NETWORK]
    size = int(program.network["program"]["bytes"])
    rungs.append(Rung(f"Occam, a network of {size} bytes", program["occam"], _error(program)))
    for key, label in OF_POSTERIOR:
        # What was drawn for the units held back is the error of single networks, not of a vote.
        rungs.append(Rung(label, gibbs[key], None if key == "majority_vote" else _error(gibbs)))
    rungs.append(Rung("held-out limit (for checking)", network["held_out"], error))
    rungs = [rung for rung in rungs if rung.bound.log10 is not None]
    title = f"{name}: {network.sample['m']:,} units, each bound at δ = {written_up(delta, 3)}"
    picture = report.rungs(rungs, title, out / "ladder.png")
    table = files.write_text(out / "ladder.md", markdown(rungs))
    console.print(markdown(rungs), markup=False)
    console.print(f"written: {picture}, {table}", soft_wrap=True)
    return rungs


def _check(what: Training) -> None:
    """InputError before anything is trained, where the data or their division are impossible."""
    loaded = data.load(what.name, **networks.seeded(what.name, what.options, what.seed))
    usual = networks.DEFAULT_UNITS.get(what.name)
    split.for_training(loaded, units=what.units, usual=usual, holdout=0, seed=what.seed)


def markdown(rungs: list[Rung]) -> str:
    """The rungs as a table of a page."""
    lines = ["| bound | kind | value | error held back |", "|---|---|---:|---:|"]
    for rung in rungs:
        error = "" if rung.test_error is None else f"{rung.test_error:.4f}"
        lines.append(f"| {rung.label} | {rung.bound.kind} | {value_text(rung.bound)} | {error} |")
    return "\n".join(lines) + "\n"


def _error(certificate: Certificate) -> float | None:
    held = certificate.sample.get("holdout")
    return None if held is None else float(held["error"])


def _network(what: Training) -> Certificate:
    consoles.messages().print("a network:")
    out = what.out / "network"
    networks.train_and_save(
        what.name, out, options=what.options, caps=None, free=False, units=what.units,
        seed=what.seed, changes={},
    )  # fmt: skip
    certificate = networks.certify_saved(out, what.name, delta=what.delta, budget=math.inf)
    return _saved(certificate, out)


def _program(what: Training) -> Certificate:
    consoles.messages().print("a network as a file:")
    out = what.out / "compressed"
    found = compress.compress_and_save(
        what.name, out, options=what.options, units=what.units, seed=what.seed, delta=what.delta,
        prices=FRONTIER,
    )  # fmt: skip
    title = f"Certified error against code length, {what.name}"
    report.frontier(found.points(), title, out / "frontier.png")
    certificate = networks.certify_saved(found.path, what.name, delta=what.delta, bounds="occam")
    return _saved(certificate, out)


def _gibbs(what: Training) -> Certificate:
    consoles.messages().print("a posterior over networks:")
    out = what.out / "posterior"
    posteriors.train_and_save(
        what.name, out, options=what.options, units=what.units, seed=what.seed, delta=what.delta
    )
    return _saved(posteriors.certify_saved(out, delta=what.delta), out)


def _saved(certificate: Certificate, out: Path) -> Certificate:
    certificate.save(out / "certificate.json")
    return certificate
