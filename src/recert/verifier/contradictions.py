"""What data can contradict: declared hypotheses that the units themselves make incredible.

Nothing proves that units are independent or that roles were kept apart. That they were not may show
(theory, 5b and 6, "Roles"): then the hypothesis is violated, whatever a certificate declares.
Traces of sequences are taken with the package's own code.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from recert.verifier.forward import Array
from recert.verifier.record import Record, Sheet, number
from recert.verifier.sample import GivenSample

# Deviations between the beginning and the rest that units in random order do not show.
DEVIATIONS = 6.0
# Nats that the order of sums may move the evidence that units recur.
ROUNDING = 1e-6
# Running error bounds within which a margin may be computed with either sign.
TIES = 4.0


def _traces(sample: GivenSample) -> Any:
    from recert.samples.leakage import traces

    labels = np.where(sample.valid, sample.labels, 0) if sample.labels.ndim == 2 else sample.labels
    return traces(sample.x, labels, sample.lengths)


def check_iid(record: Record, sheet: Sheet, sample: GivenSample) -> None:
    """Units that repeat or overlap are no independent draws, whatever is declared (theory, 6)."""
    from recert.samples.leakage import REPEATED, within

    found = within(_traces(sample), sample.units)
    speaks = found.kind == REPEATED or not record.of_list
    _doubted(record, sheet, "iid", found.blatant and speaks, "sequences recur more than draws do")
    _fault(record, sheet, "iid", "fault", found if speaks else None)
    if record.facts("iid").get("fault") is not None and found.blatant:
        sheet.facts(record, "iid", "repeated", shift=found.by)


def check_held_out(record: Record, sheet: Sheet, sample: GivenSample, held: GivenSample) -> None:
    """Held-out units that recur in the sample, or among themselves, oftener than draws do."""
    from recert.samples.leakage import within

    own = within(_traces(held), held.units)
    shared = _shared(sample, held)
    doubted = shared.blatant or own.blatant
    _doubted(record, sheet, "holdout", doubted, "held-out units recur more than draws do")
    _fault(record, sheet, "holdout", "fault", shared)
    _fault(record, sheet, "holdout", "own_fault", own)


def _shared(sample: GivenSample, other: GivenSample) -> Any:
    from recert.samples.leakage import between

    return between(_traces(sample), _traces(other), sample.units, other.units)


def _fault(record: Record, sheet: Sheet, id: str, name: str, found: Any) -> None:
    """What recurs, in one word; where rounding may decide, either answer stands."""
    if found is None or abs(found.excess) > ROUNDING:
        derived = None if found is None else found.kind or None
        sheet.facts(record, id, "repeated", **{name: derived})


def _doubted(record: Record, sheet: Sheet, id: str, doubted: bool, why: str) -> None:
    status = record.statuses.get(id)
    ok = not doubted or status == "violated"
    with sheet.needed_by(record, id):
        sheet.holds(f"assumptions.{id}.status", ok, status, why if doubted else status, "repeated")


def check_prior(
    record: Record, sheet: Sheet, posterior: Any, whole: GivenSample, rest: GivenSample
) -> None:
    """Which units made the prior, that none of them is counted, and that it knows no others."""
    from recert.verifier.measure import measured

    prior = posterior.prior
    seen = whole.rows(np.flatnonzero(whole.units < prior.units))
    both = f"{seen.digest()}\n{seen.units_digest()}"
    found = hashlib.sha256(both.encode()).hexdigest()
    sheet.holds("choices.prior_digest", prior.digest == found, prior.digest, found, "re-measured")
    check_iid(record, sheet, rest)
    again = _shared(seen, rest)
    _doubted(record, sheet, "roles", again.blatant, "units that made the prior are counted")
    known = set(seen.sequences())
    shared = sum(one in known for one in rest.sequences())
    sheet.facts(record, "roles", "re-measured", units=seen.m, shared=shared, further=len(rest.x))
    _fault(record, sheet, "roles", "fault", again)
    counted = measured(record, prior.centre, rest)
    wrong = counted.weights * ~(counted.margins.M > 0.0)
    sums = np.bincount(rest.units[counted.margins.owner], wrong, minlength=rest.m)
    losses = rest.m * sums.astype(np.float64)
    _errors(record, sheet, (_range(measured(record, prior.centre, seen)), _range(counted)))
    doubted = _drift(losses) > DEVIATIONS
    _doubted(record, sheet, "prior", doubted, "it errs less on the first units than later")


def _errors(record: Record, sheet: Sheet, found: Any) -> None:
    """What the ledger says of the errors of the prior's centre."""
    for name, (least, most) in zip(("own", "rest"), found, strict=True):
        said = record.facts("prior").get(name)
        ok = number(said) and least - 1e-9 <= said <= most + 1e-9
        sheet.holds(f"assumptions.prior.facts.{name}", ok, said, [least, most], "re-measured")


def _range(found: Any) -> tuple[float, float]:
    """Least and largest error that doubles can compute: margins within roundings may go either way.

    Roundings of the package's own walk are of the size of those of this one.
    """
    M, room = found.margins.M, TIES * found.margins.e
    with np.errstate(invalid="ignore"):
        sides = M + room <= 0.0, ~(M - room > 0.0)
    least, most = (float((found.weights * side).sum()) for side in sides)
    return least, most


def _drift(losses: Array) -> float:
    """How much less is lost on the first of these units than later, in deviations (5b)."""
    m = len(losses)
    cuts = np.unique(np.arange(1, 64) * m // 64)
    cuts = cuts[(cuts >= 10) & (cuts <= m - 10)]
    if not len(cuts):
        return 0.0
    mean, sums = float(losses.mean()), np.cumsum(losses)
    spread = np.sqrt(max(mean * (1.0 - mean), 10.0 / m))
    gaps = (sums[-1] - sums[cuts - 1]) / (m - cuts) - sums[cuts - 1] / cuts
    return float((gaps / (spread * np.sqrt(1.0 / cuts + 1.0 / (m - cuts)))).max())
