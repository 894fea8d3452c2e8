"""Level full: what a certificate says of its sample, measured again on the data.

Margins come from plain loops with running error bounds, and where these leave a count open from
balls (`forward`, `reading`, `deciding`). An upper quantity stands if it is at least what is
possible within these bounds, so a recorded risk is proved for the network in real arithmetic. Three
rows are repeated with the package's own code rather than derived independently, and say so: what
moves of the weights do (4d), draws of weights (5b), and errors as computed where bounds on
roundings leave them open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert.verifier.forward import ForwardWalk, Margins, Progress, RecordedWeights
from recert.verifier.losses import losses_again
from recert.verifier.margins import Decided
from recert.verifier.record import Record, Sheet
from recert.verifier.sample import GivenSample

Array = NDArray[np.float64]

# Weights and losses are rounded a few times each; their sum, at most 1, only once.
SUM = 2.0**-48


@dataclass(frozen=True, eq=False)
class MeasuredAgain:
    """Margins of a sample and the weight of every entry in the mean over units."""

    sample: GivenSample
    decided: Decided
    network: Any
    at: str | int

    @property
    def margins(self) -> Margins:
        """As doubles found them."""
        return self.decided.margins

    @cached_property
    def weights(self) -> Array:
        """(n,) with sum 1: units alike, sequences alike in a unit, steps alike in a sequence."""
        units, owner = self.sample.units, self.margins.owner
        sequences, steps = np.bincount(units), np.bincount(owner, minlength=len(units))
        found: Array = 1.0 / (self.sample.m * sequences[units[owner]] * steps[owner])
        return found

    @property
    def zero_one(self) -> bool:
        """Whether every unit has one entry, read at one step."""
        return self.at != "average" and len(self.margins.M) == self.sample.m

    def share(self, chosen: NDArray[np.bool_]) -> float:
        """The mean over units of entries that are 0 or 1."""
        if self.zero_one:
            return int(chosen.sum()) / self.sample.m
        return math.fsum(self.weights[chosen])

    @property
    def lost(self) -> float:
        """What a sum of weights may miss."""
        return 0.0 if self.zero_one else SUM

    def possible(self, gamma: float) -> float:
        """The largest hard-margin risk at γ that the error bounds allow."""
        return self.share(~self.decided.above(gamma))

    def between(self, t: float) -> tuple[float, float]:
        """The least and the largest share of margins up to t that doubles allow."""
        M, e = self.margins.M, self.margins.e
        return self.share(M + e <= t), self.share(~(M - e > t))

    def again(self) -> float:
        """The error that the package's own code computes."""
        sizes = np.bincount(self.sample.units)[self.sample.units]
        losses = losses_again(self.network, self.sample, self.at)
        return math.fsum(losses / (sizes * float(self.sample.m)))

    def certain(self) -> float:
        """The least error that the error bounds allow; ties are not counted."""
        return self.share(self.decided.beneath(0.0))

    def ramp(self, gamma: float) -> float:
        """The largest ramp risk at γ that the error bounds allow, to float64."""
        M = self.margins.M - self.margins.e
        M = np.where(self.decided.above(gamma), np.fmax(M, gamma), M)
        loss = np.nan_to_num(np.clip(1.0 - M / gamma, 0.0, 1.0), nan=1.0)
        return math.fsum(self.weights * loss)


def measured(
    record: Record, network: Any, sample: GivenSample, progress: Progress | None = None
) -> MeasuredAgain:
    """Margins of a sample, by the structure that the certificate records."""
    arrays = {block.name: np.asarray(block.value, dtype=float) for block in network.blocks()}
    pool = None if network.head.pool is None else network.head.pool.matrix
    read = str(record.data["network"].get("read", "step"))
    walk = ForwardWalk(record.network, RecordedWeights(arrays, pool), read, record.data["at"])
    margins = walk.margins(sample.x, sample.labels, sample.lengths, progress)
    return MeasuredAgain(sample, Decided(walk, sample, margins), network, record.data["at"])


def check_sample(record: Record, sheet: Sheet, sample: GivenSample) -> None:
    """Digest, size, horizon, norm of inputs, repetitions."""
    said = record.sample
    sheet.holds(
        "sample.digest",
        said["digest"] == sample.digest(),
        said["digest"],
        sample.digest(),
        "re-measured",
    )
    if said["groups"] is not None:
        found = sample.units_digest()
        sheet.holds("sample.groups", said["groups"] == found, said["groups"], found, "re-measured")
    unit = "sequence" if len(np.unique(sample.units)) == len(sample.x) else "group of sequences"
    if said["unit"] == "sequence":
        sheet.holds("sample.unit", unit == "sequence", said["unit"], unit, "re-measured")
    bound, largest = said["input_bound"], sample.norm_bound()
    held = bound["status"] == "violated" or float(bound["value"]) * (1.0 + 1e-9) >= largest
    with sheet.needed_by(record, "input_bound"):
        sheet.holds("sample.input_bound", held, bound["value"], largest, "re-measured")
    told = record.facts("input_bound").get("largest")
    if told is not None:
        same = abs(told - largest) <= 1e-9 * largest
        sheet.holds("assumptions.input_bound.facts.largest", same, told, largest, "re-measured")
    if record.statuses.get("horizon") == "estimated":
        same = record.sample["T"] == sample.longest
        sheet.holds("sample.T", same, record.sample["T"], sample.longest, "re-measured")
    elif record.facts("horizon").get("cut") is not None:
        sheet.facts(record, "horizon", "re-measured", cut=sample.cut, longest=sample.longest)
    if not record.gibbs:
        check_repetitions(record, sheet, sample)


def check_repetitions(record: Record, sheet: Sheet, sample: GivenSample) -> None:
    """What the ledger says of sequences that are alike."""
    distinct = len(set(sample.sequences()))
    sheet.facts(record, "iid", "re-measured", distinct=distinct, sequences=len(sample.x))


def check_network(record: Record, sheet: Sheet, found: MeasuredAgain) -> None:
    """Every empirical number of the certificate of a network."""
    said = record.sample
    sheet.holds("sample.m", said["m"] == found.sample.m, said["m"], found.sample.m, "re-measured")
    sheet.holds(
        "sample.zero_one", said["zero_one"] == found.zero_one, said["zero_one"], found.zero_one,
        "re-measured",
    )  # fmt: skip
    _error(sheet, "sample.training_error", said["training_error"], found)
    _check_largest(record, sheet, found)
    for bound in record.bounds:
        if bound["kind"] in ("certificate", "estimate"):
            _check_bound(sheet, bound, found)
    for row in record.data["finite_list"]:
        _check_list(sheet, row, found)


def _check_largest(record: Record, sheet: Sheet, found: MeasuredAgain) -> None:
    """The largest margin, beside which η is said to be small or not."""
    said = record.facts("floats").get("largest_margin")
    largest, room = float(np.abs(found.margins.M).max()), float(found.margins.e.max())
    if said is not None and math.isfinite(largest) and math.isfinite(room):
        same = abs(said - largest) <= room + 1e-9 * largest
        where = "assumptions.floats.facts.largest_margin"
        sheet.holds(where, same, said, largest, "re-measured")


def _check_bound(sheet: Sheet, bound: Mapping[str, Any], found: MeasuredAgain) -> None:
    name, terms = bound["name"], bound["terms"]
    gamma = bound["choices"].get("gamma")
    risks = {
        "hard_margin_risk": lambda: found.possible(float(gamma)) - found.lost,
        "ramp_risk": lambda: found.ramp(float(gamma)) - SUM,
    }
    for term, risk in risks.items():
        if term in terms:
            if terms[term] < risk():
                found.decided.decide(float(gamma))
            _not_below(sheet, f"{name}.terms.{term}", terms[term], risk())
    if name == "occam":
        _error(sheet, f"{name}.terms.error", terms["error"], found)


def _check_list(sheet: Sheet, row: Mapping[str, Any], found: MeasuredAgain) -> None:
    """What is subtracted for the part of a list that was seen is an error from below."""
    if row["bound"] == "held_out":
        return
    N, m = row["population"], found.sample.m
    error = (N * row["threshold"] - (N - m)) / m
    if error > found.certain() + 1e-9:
        found.decided.decide(0.0)
    known = found.certain() + 1e-9
    where = f"finite_list.{row['bound']}.threshold"
    sheet.holds(where, error <= known, error, known, "re-measured")


def check_holdout(record: Record, sheet: Sheet, held: MeasuredAgain, sample: GivenSample) -> None:
    """Held-out units: how many, their errors, and which of them the sample holds as well."""
    said = record.sample["holdout"]
    sheet.holds(
        "sample.holdout.m", said["m"] == held.sample.m, said["m"], held.sample.m, "re-measured"
    )
    sheet.holds(
        "sample.holdout.zero_one", said["zero_one"] == held.zero_one, said["zero_one"],
        held.zero_one, "re-measured",
    )  # fmt: skip
    _error(sheet, "sample.holdout.error", said["error"], held)
    bound = record.bound("held_out")
    if bound is not None and bound["kind"] in ("certificate", "estimate"):
        _error(sheet, "held_out.terms.error", bound["terms"]["error"], held)
    check_overlap(record, sheet, held.sample, sample)


def check_overlap(record: Record, sheet: Sheet, held: GivenSample, sample: GivenSample) -> None:
    """How many held-out sequences occur in the sample."""
    seen = set(sample.sequences())
    shared = sum(one in seen for one in held.sequences())
    sheet.facts(record, "holdout", "re-measured", shared=shared, held_out=len(held.x))


def _not_below(sheet: Sheet, row: str, recorded: float, derived: float) -> None:
    sheet.holds(row, float(recorded) >= derived, recorded, derived, "re-measured")


def _error(sheet: Sheet, row: str, recorded: float, found: MeasuredAgain) -> None:
    """An error as computed: what is not proved right is wrong, ties foremost.

    A sign that rounding alone decides would else be the forger's to choose. Where it does decide,
    and balls say otherwise, the count is what the package's own code computes.
    """
    room, recorded = 1e-12 + found.lost, float(recorded)
    least, most = found.between(0.0)
    derived, undecided = found.possible(0.0), least - room <= recorded <= most + room
    if undecided and abs(recorded - derived) > room:
        found.decided.decide(0.0)
        derived = found.possible(0.0)
    if not undecided or abs(recorded - derived) <= room:
        ok = abs(recorded - derived) <= room
        sheet.holds(row, ok, recorded, derived, "re-measured")
        return
    again = found.again()
    sheet.holds(row, abs(recorded - again) <= room, recorded, again, "repeated")
