"""What is repeated with the package's own code, for lack of a second method, and says so.

Two counts have no independent derivation here: what moves of the weights do to a sample (theory
4d) and draws of weights (theory 5b). They are counted again from the recorded choices and the data,
so a certificate whose counts were made up is caught; an error in the package's own code is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from recert.errors import InputError
from recert.verifier.measure import Measured, check_repetitions
from recert.verifier.record import ENCODINGS, TRIED, Record, Sheet
from recert.verifier.sample import Sample


def check_local_ball(
    record: Record, sheet: Sheet, bound: Mapping[str, Any], network: Any, found: Measured
) -> None:
    """The posterior's risk at the recorded radii, counted again."""
    from recert.local import risk
    from recert.local.sequences import Sequences
    from recert.margins import MarginTable

    form, terms = network.margin_form(), bound["terms"]
    parts = _parts(form, bound)
    if parts is None:
        sheet.unchecked("local_ball.choices.parts", bound["choices"]["parts"], "unknown parts")
        return
    sample = found.sample
    lengths = sample.lengths
    if isinstance(record.data["at"], int):
        lengths = np.minimum(lengths, record.data["at"])
    data = Sequences(sample.x, sample.labels, lengths)
    weights = None if found.zero_one else found.weights
    table = MarginTable(found.margins.M, sample.m, weights=weights)
    # A little further than recorded, so that the logarithm's rounding cannot fall short.
    radii = np.where(
        np.array(parts.parameters) > 0, np.exp(bound["choices"]["log_radii"]) * (1.0 + 1e-14), 0.0
    )
    if terms["posterior_risk"] >= 1.0:
        return
    if terms["draws"]:
        paid = math.fsum(c["nats"] for c in bound["cost"] if c["what"] in (TRIED, ENCODINGS))
        level = terms["delta_of_draws"] * math.exp(-paid) * (1.0 - 1e-12)
        again = risk.drawn(form, data, table, parts, radii, level)
    elif terms["undecided"] or terms["lost_outright"] != terms["posterior_risk"]:
        again = risk.drawn(form, data, table, parts, radii, terms["delta_of_draws"])
    else:
        again = risk.reached(form, data, table, parts, radii)
    for name, derived in (
        ("posterior_risk", again.bound), ("lost_outright", again.outright),
        ("undecided", again.undecided), ("draws_lost", float(again.lost)),
    ):  # fmt: skip
        ok = terms[name] >= derived * (1.0 - 1e-12)
        sheet.holds(f"local_ball.terms.{name}", ok, terms[name], derived, "repeated")
    same = terms["draws"] == again.draws
    sheet.holds("local_ball.terms.draws", same, terms["draws"], again.draws, "repeated")


def _parts(form: Any, bound: Mapping[str, Any]) -> Any:
    """The parts whose names are recorded; None where there are none such."""
    from recert.local.parts import parts_of

    for columns in (True, False):
        parts = parts_of(tuple(form.blocks()), columns=columns)
        if _names(parts) == list(bound["choices"]["parts"]):
            return parts
    return None


def _names(parts: Any) -> list[str]:
    found = []
    for block in parts.blocks:
        first, last = parts.starts[block.name]
        alone = last - first == 1
        found += [block.name] if alone else [f"{block.name}[:, {i}]" for i in range(last - first)]
    return found


def check_draws(
    record: Record, sheet: Sheet, posterior: Any, whole: Sample, held: Sample | None
) -> None:
    """Draws on the units of the bound, and on held-out ones, made again from the recorded seed."""
    from recert.gibbs.draws import gibbs_losses
    from recert.gibbs.tally import tally
    from recert.sample import Batch

    bound = next((b for b in record.bounds if "gibbs_error_drawn" in b["terms"]), None)
    if bound is None:
        raise InputError("the certificate has no bound on drawn weights")
    choices, terms = bound["choices"], bound["terms"]
    at, seed = record.data["at"], int(choices["seed"])
    rest = whole.rows(np.flatnonzero(whole.units >= int(choices["prior_units"])))
    sheet.holds("sample.m", record.m == rest.m, record.m, rest.m, "re-measured")
    check_repetitions(record, sheet, rest)
    losses = gibbs_losses(
        posterior, Batch(rest.x, rest.labels, rest.lengths), at,
        repetitions=int(choices["repetitions"]), seed=seed,
    )  # fmt: skip
    counted = tally(losses, rest.units, rest.m)
    name = f"{bound['name']}.terms"
    drawn = terms["gibbs_error_drawn"]
    sheet.holds(
        f"{name}.gibbs_error_drawn",
        drawn >= counted.mean * (1 - 1e-12),
        drawn,
        counted.mean,
        "repeated",
    )
    if "disagreement" in terms:
        said, again = terms["disagreement"], counted.disagreement
        ok = again is not None and said >= again * (1 - 1e-12)
        sheet.holds(f"{name}.disagreement", ok, said, again, "repeated")
    if held is None:
        return
    found = tally(
        gibbs_losses(
            posterior, Batch(held.x, held.labels, held.lengths), at,
            repetitions=int(choices["repetitions"]), seed=seed, stream="holdout",
        ),
        held.units, held.m,
    )  # fmt: skip
    said = record.bound("held_out")
    if said is not None and said["terms"]:
        error = said["terms"]["error"]
        sheet.holds(
            "held_out.terms.error",
            error >= found.first * (1 - 1e-12),
            error,
            found.first,
            "repeated",
        )


def check_prior_units(sheet: Sheet, recorded: str, whole: Sample, units: int) -> None:
    """That the prior's units are the first ones, by their digest."""
    import hashlib

    seen = whole.rows(np.flatnonzero(whole.units < units))
    both = f"{seen.digest()}\n{seen.units_digest()}"
    found = hashlib.sha256(both.encode()).hexdigest()
    sheet.holds("choices.prior_digest", recorded == found, recorded, found, "re-measured")
