"""The main job on real data: train two vanilla networks, certify both, draw what was found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from recert import data, readers, report
from recert.certificates.certificate import Certificate
from recert.certification.certify import Case, conclude, prepare
from recert.data import SequenceData
from recert.numerics.rounding import confidence, percent_up, written_up
from recert.report import horizons, tables
from recert.utils import consoles
from recert.workflows import networks

TRAINING_UNITS = 70_000
DELTA = 0.01
# Horizons drawn, in multiples of the declared one.
DRAWN = 4


@dataclass(frozen=True)
class Outcome:
    """One network of the demo, and what is recorded beside it."""

    title: str
    case: Case
    certificate: Certificate
    meta: dict[str, Any]


def run(out: Path, *, seed: int = 0, console: Console | None = None) -> list[Outcome]:
    """Train, certify, print and draw; files go to ``out``.

    Args:
        out: folder for networks and certificates, ``ladder.png`` and ``time.png``.
        seed: of the shuffle of the data and of both trainings.
        console: where to print.
    """
    from recert.training.recipes import GERMAN_NOUNS_CAPPED, GERMAN_NOUNS_FREE

    console = console or consoles.results()
    nouns = data.load("german-nouns", seed=seed)
    training, test = nouns.split(TRAINING_UNITS)
    consoles.messages().print(
        f"{nouns.m:,} German nouns with one gender; the last {nouns.max_length} letters tell it: "
        f"{training.m:,} to train on, {test.m:,} held back for checking only."
    )
    plan = (
        ("capped", GERMAN_NOUNS_CAPPED, f"inside ‖U‖ ≤ {_cap(GERMAN_NOUNS_CAPPED)}"),
        ("free", GERMAN_NOUNS_FREE, "trained freely"),
    )
    outcomes = []
    with _progress() as bar:
        for name, recipe, how in plan:
            outcomes.append(_one(name, recipe, how, training, test, seed, bar))
    for (name, *_), outcome in zip(plan, outcomes, strict=True):
        readers.save_network(outcome.case.network, out / name, meta=outcome.meta)
        outcome.certificate.save(out / name / "certificate.json")
    _draw(outcomes, out)
    for outcome in outcomes:
        console.print(tables.ladder(outcome.certificate, outcome.title))
        console.print(tables.finite_list(outcome.certificate), "")
    console.print(tables.ledger(outcomes[0].certificate))
    console.print(_explanation(outcomes), soft_wrap=True)
    console.print(
        f"\nWritten to {out}: networks and certificates in capped and free, ladder.png, time.png. "
        "To check one:\n"
        f"    recert verify {out}/capped/certificate.json --model {out}/capped --data german-nouns",
        soft_wrap=True,
    )
    return outcomes


def _one(
    name: str,
    recipe: object,
    how: str,
    training: SequenceData,
    test: SequenceData,
    seed: int,
    bar: Progress,
) -> Outcome:
    from recert.training import Recipe, train

    assert isinstance(recipe, Recipe)
    trained = train(training, recipe, seed=seed, progress=bar, description=f"training, {name}")
    task = bar.add_task(f"certifying, {name}", total=training.m)
    case = prepare(
        trained.model.recert_network(),
        training.sequences,
        training.labels,
        lengths=training.lengths,
        max_length=training.max_length,
        caps=trained.caps or None,
        holdout=(test.sequences, test.labels, test.lengths),
        holdout_role="checking",
        draws="nouns are regarded as draws from an unbounded vocabulary of German nouns",
        tried=networks.recipes_tried(training.name, "vanilla"),
        encoding=training.encoding,
        population=training.population,
        delta=DELTA,
        progress=lambda n: bar.advance(task, n),
    )
    certificate = conclude(case)
    norm = next(b for b in certificate.network["blocks"] if b["name"] == "U")["norms"]["spectral"]
    title = f"Vanilla RNN of {case.network.d_h} units, {how}; ‖U‖ ≤ {written_up(norm, 3)}"
    meta = {
        "data": {"name": training.name, "options": {"seed": seed}},
        "units": training.units,
        "digest": training.digest,
        "max_length": training.max_length,
        "caps": trained.caps or None,
        "tried": networks.recipes_tried(training.name, "vanilla"),
    }
    return Outcome(title, case, certificate, meta)


def _draw(outcomes: list[Outcome], out: Path) -> None:
    report.ladder([(o.certificate, o.title) for o in outcomes], out / "ladder.png")
    capped, free = outcomes[0].case, outcomes[1].case
    longest = DRAWN * capped.setting.steps
    beta, beta_free = (written_up(case.setting.caps["U"].norm, 3) for case in (capped, free))
    at_one = horizons.with_recurrent_cap(capped, 1.0)
    panels = [
        (f"capped, class ‖U‖ ≤ {beta} (β < 1)", horizons.curves(capped, longest)),
        ("capped, seen in the class ‖U‖ ≤ 1 (β = 1)",
         horizons.curves(at_one, longest, {"B_U": 1.0})),
        (f"free, class ‖U‖ ≤ {beta_free} (β > 1)", horizons.curves(free, longest)),
    ]  # fmt: skip
    report.against_time(panels, out / "time.png", longest=longest, marked=capped.setting.steps)


def _explanation(outcomes: list[Outcome]) -> str:
    capped, free = (o.certificate for o in outcomes)
    ball, other = capped["local_ball"], free["local_ball"]
    paper, printed = capped["theorem_2"], capped["printed_theorem_2"]
    held = capped.sample["holdout"]
    at_most, other_at_most = (percent_up(bound.value, 1) for bound in (ball, other))
    return (
        "\nWhat you are looking at: with probability at least "
        f"{confidence(capped.delta)}% over the draw of the {capped.sample['m']:,} nouns, "
        f"the capped network is wrong on at most {at_most} of new nouns (the held-back ones say "
        f"{held['error']:.1%}), which needs no test set (for every network inside its caps "
        f"{percent_up(capped['margin_ball'].value, 1)}); the paper's Theorem 2 says "
        f"{report.value_text(printed)} as printed and {report.value_text(paper)} with its "
        "constants and its own range.\n"
        f"The free network pays for its norms and its size: {other_at_most}, and in time.png "
        "no printed bound outgrows a power of t while β = ‖U‖ is at most 1, but above 1 all of "
        "them save Theorem 2 grow exponentially, which the certificate feels only in a logarithm."
    )


def _cap(recipe: object) -> str:
    caps = getattr(recipe, "caps", None)
    if caps is None:
        return "∞"
    return f"{caps['U']:g}, ‖W‖_col ≤ {caps['W']:g}, ‖V‖ ≤ {caps['V']:g}"


def _progress() -> Progress:
    return consoles.progress(
        TextColumn("{task.description:22}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
