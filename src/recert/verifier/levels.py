"""From a certificate's JSON to a verification, level by level.

Level "full": the sample that a certificate speaks of, read and measured again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recert.errors import InputError, RecertError
from recert.verifier import arithmetic, black_box, contradictions, measure, model, repeat
from recert.verifier.balls import precise
from recert.verifier.forward import Progress
from recert.verifier.model import VerifiedModel
from recert.verifier.record import Record, Sheet
from recert.verifier.sample import read
from recert.verifier.verification import Level, Verification


@precise
def run(
    data: Mapping[str, Any],
    seal: str,
    passed: Any,
    initial: Any,
    sample: tuple[Any, ...] | None,
    holdout: tuple[Any, ...] | None,
    progress: Progress | None = None,
) -> Verification:
    """The checks of the highest level that what was passed allows."""
    network = data.get("network")
    boxed = isinstance(network, Mapping) and "black_box" in network
    subject = None if passed is None or boxed else model.opened(passed)
    level: Level = (
        "full"
        if passed is not None and boxed
        else "arithmetic"
        if subject is None
        else "model"
        if sample is None
        else "full"
    )
    fits = arithmetic.sealed(data, seal)
    if not fits.ok:
        return Verification(level, (fits,))
    sheet = Sheet()
    sheet.checks.append(fits)
    try:
        record = arithmetic.check(data, sheet)
    except (InputError, *arithmetic.UNUSABLE) as error:
        sheet.decisive = True
        sheet.holds("schema", False, str(error), "a certificate")
        return Verification(level, tuple(sheet.checks))
    if boxed and record is not None and passed is not None:
        black_box.recount(record, passed, holdout, sheet)
    if subject is not None and record is not None:
        try:
            model.check(record, subject, initial, sheet)
            if sample is not None and sheet.fits:
                check_data(record, subject, sample, holdout, sheet, progress)
        except RecertError:
            raise
        except arithmetic.UNUSABLE as error:
            sheet.decisive = True
            sheet.unchecked(level, "…", f"unusable values: {error}")
    return Verification(level, tuple(sheet.checks))


def check_data(
    record: Record,
    subject: VerifiedModel,
    data: tuple[Any, ...],
    holdout: tuple[Any, ...] | None,
    sheet: Sheet,
    progress: Progress | None = None,
) -> None:
    """Digests, counts, risks and roles of the data.

    Args:
        record: the certificate.
        subject: its network or posterior.
        data: sequences, labels, and lengths and groups or None.
        holdout: likewise, of the units held out; None where there are none.
        sheet: where checks are noted.
        progress: called with the number of sequences walked after each piece, or None.

    Raises:
        InputError: the data cannot be what the certificate was made from.
    """
    sample = read(record.data, data)
    said = record.sample["holdout"]
    # A horizon that was read off the sample cuts no other sequence.
    whole = record.statuses.get("horizon") == "estimated"
    held = None if holdout is None or said is None else read(record.data, holdout, whole=whole)
    if said is None:
        sheet.holds("sample.holdout", holdout is None, said, "held-out units were passed")
    _check_padding(record, sheet, sample, held)
    measure.check_sample(record, sheet, sample)
    if subject.posterior is not None:
        repeat.check_draws(record, sheet, subject.posterior, sample, held)
    else:
        found = measure.measured(record, subject.network, sample, progress)
        measure.check_network(record, sheet, found)
        contradictions.check_iid(record, sheet, sample)
        bound = record.bound("local_ball")
        if bound is not None and bound["kind"] in ("certificate", "estimate"):
            with sheet.of(record, bound):
                repeat.check_local_ball(record, sheet, bound, subject.network, found)
    _check_holdout(record, subject, sheet, sample, held, progress)


def _check_padding(record: Record, sheet: Sheet, sample: Any, held: Any) -> None:
    """Padding that is taken off, and steps that are cut off, are in the predictor's row."""
    read = [part for part in (sample, held) if part is not None]
    padding, T = record.sample["padding"], int(record.sample["T"])
    if any(part.padded for part in read):
        known = padding in ("cut", "left")
        sheet.holds("sample.padding", known, padding, "cut or left", "re-measured")
    said = record.facts("predictor")
    if said and not isinstance(record.data["at"], int):
        # A horizon that was read off the sample cuts no held-out sequence.
        off_sample = record.statuses.get("horizon") == "estimated"
        longer = said["cut"] is None and any(p.longest > T for p in read[: 1 if off_sample else 2])
        sheet.holds("assumptions.predictor", not longer, said["cut"], T, "re-measured")
    width = said.get("width")
    if width is not None:
        seen = sorted({int(part.x.shape[1]) for part in read})
        sheet.holds("assumptions.predictor", seen == [width], width, seen, "re-measured")


def _check_holdout(
    record: Record,
    subject: VerifiedModel,
    sheet: Sheet,
    sample: Any,
    held: Any,
    progress: Progress | None,
) -> None:
    if record.sample["holdout"] is None:
        return
    if held is not None:
        contradictions.check_held_out(record, sheet, sample, held)
    if held is None:
        with sheet.of(record, record.bound("held_out")):
            said = record.sample["holdout"]
            sheet.unchecked("sample.holdout", said, "held-out units were not passed")
    elif subject.posterior is None:
        measure.check_holdout(
            record, sheet, measure.measured(record, subject.network, held, progress), sample
        )
    else:
        measure.check_overlap(record, sheet, held, sample)
