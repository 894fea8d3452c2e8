"""From a certificate's JSON to a verification, level by level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recert.errors import InputError, RecertError
from recert.verifier import arithmetic, full, model
from recert.verifier.balls import precise
from recert.verifier.reading import Progress
from recert.verifier.record import Sheet
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
    subject = None if passed is None else model.opened(passed)
    level: Level = "arithmetic" if subject is None else "model" if sample is None else "full"
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
    if subject is not None and record is not None:
        try:
            model.check(record, subject, initial, sheet)
            if sample is not None and sheet.fits:
                full.check(record, subject, sample, holdout, sheet, progress)
        except RecertError:
            raise
        except arithmetic.UNUSABLE as error:
            sheet.decisive = True
            sheet.unchecked(level, "…", f"unusable values: {error}")
    return Verification(level, tuple(sheet.checks))
