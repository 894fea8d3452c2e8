"""What is repeated with the package's own code, for lack of a second method, and says so.

Two counts have no independent derivation here: what moves of the weights do to a sample (theory
4d) and draws of weights (theory 5b). They are counted again from the recorded choices and the data,
so a certificate whose counts were made up is caught; an error in the package's own code is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from recert.errors import InputError
from recert.verifier import contradictions
from recert.verifier.costs import always
from recert.verifier.measure import MeasuredAgain, check_repetitions
from recert.verifier.record import ENCODINGS, TRIED, Record, Sheet
from recert.verifier.sample import GivenSample
from recert.verifier.statements import PAC_BAYES

# Networks for each sequence that are drawn again; more are not confirmed.
MOST = 1000
# A ball whose radii promise nothing is not counted: all units are lost.
COUNTED = ("posterior_risk", "lost_outright", "undecided", "draws", "draws_lost")
NOTHING_COUNTED = [1.0, 1.0, 0.0, 0.0, 0.0]


def check_local_ball(
    record: Record, sheet: Sheet, bound: Mapping[str, Any], network: Any, found: MeasuredAgain
) -> None:
    """The posterior's risk at the recorded radii, counted again."""
    from recert.networks.margins import MarginTable
    from recert.perturbation import posterior_risk
    from recert.perturbation.posterior_risk import Sequences

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
    counted = [terms[key] for key in COUNTED]
    if counted == NOTHING_COUNTED:
        sheet.holds("local_ball.terms.posterior_risk", True, 1.0, "nothing is claimed")
        return
    if terms["draws"]:
        paid = math.fsum(c["nats"] for c in bound["cost"] if c["what"] in (TRIED, ENCODINGS))
        level = terms["delta_of_draws"] * math.exp(-paid) * (1.0 - 1e-12)
        again = posterior_risk.drawn(form, data, table, parts, radii, level)
    elif terms["undecided"] or terms["lost_outright"] != terms["posterior_risk"]:
        again = posterior_risk.drawn(form, data, table, parts, radii, terms["delta_of_draws"])
    else:
        again = posterior_risk.reached(form, data, table, parts, radii)
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
    from recert.perturbation.ball import parts_of

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
    record: Record, sheet: Sheet, posterior: Any, whole: GivenSample, held: GivenSample | None
) -> None:
    """Draws on the units of the bound, and on held-out ones, made again from the recorded seed."""
    bounds = [b for b in record.bounds if b["name"] in PAC_BAYES and record.claims(b)]
    bounds += [
        b
        for b in record.bounds
        if b["name"] in PAC_BAYES and b["kind"] == "estimate" and b not in bounds
    ]
    if not bounds:
        raise InputError("the certificate has no bound on drawn weights")
    choices, terms = bounds[0]["choices"], bounds[0]["terms"]
    seed, repetitions = int(choices["seed"]), int(choices["repetitions"])
    if not sheet.holds("choices.repetitions", 0 < repetitions <= MOST, repetitions, MOST):
        return
    for bound in bounds[1:]:
        for key in ("seed", "repetitions", "prior_units", "prior_digest"):
            same = bound["choices"].get(key) == choices[key]
            found = bound["choices"].get(key)
            sheet.holds(f"{bound['name']}.choices.{key}", same, found, choices[key])
    rest = whole.rows(np.flatnonzero(whole.units >= int(choices["prior_units"])))
    sheet.holds("sample.m", record.m == rest.m, record.m, rest.m, "re-measured")
    contradictions.check_prior(record, sheet, posterior, whole, rest)
    check_repetitions(record, sheet, rest)
    drawn, counted = _drawn(
        posterior, rest, record.data["at"], repetitions, seed, float(terms["monte_carlo_delta"]),
        math.fsum(math.log(count) for count in always(record).values()),
    )  # fmt: skip
    said = record.sample
    sheet.holds("sample.zero_one", said["zero_one"] == drawn.zero_one, said["zero_one"],
                drawn.zero_one, "re-measured")  # fmt: skip
    same = abs(said["training_error"] - counted.mean) <= 1e-9
    sheet.holds("sample.training_error", same, said["training_error"], counted.mean, "repeated")
    for bound in bounds:
        _check_drawn(bound, drawn.rate, counted, sheet)
    if held is not None:
        _check_held(record, sheet, posterior, held, repetitions, seed)


def _check_drawn(bound: Mapping[str, Any], rate: float | None, counted: Any, sheet: Sheet) -> None:
    name, terms = f"{bound['name']}.terms", bound["terms"]
    said, mean = terms["gibbs_error_drawn"], counted.mean
    ok = said >= mean * (1 - 1e-12)
    sheet.holds(f"{name}.gibbs_error_drawn", ok, said, mean, "repeated")
    if "disagreement" in terms:
        said, again = terms["disagreement"], counted.disagreement
        ok = again is not None and said >= again * (1 - 1e-12)
        sheet.holds(f"{name}.disagreement", ok, said, again, "repeated")
        # Fixed by a trial before these draws, not by them.
        said = terms["monte_carlo_rate"]
        ok = rate is not None and abs(said - rate) <= 1e-9 * rate
        sheet.holds(f"{name}.monte_carlo_rate", ok, said, rate, "repeated")


def _drawn(
    posterior: Any,
    rest: GivenSample,
    at: Any,
    repetitions: int,
    seed: int,
    delta: float,
    nats: float,
) -> tuple[Any, Any]:
    """The limit of the draws and what it is made of."""
    from recert.pac_bayes.measure import Drawing, draw, zero_one
    from recert.samples.sample import Batch

    part: Any = SimpleNamespace(
        batch=Batch(rest.x, rest.labels, rest.lengths), units=rest.units, m=rest.m
    )
    reading: Any = SimpleNamespace(at=at)
    drawing, shares = Drawing(repetitions, 0.0, seed), {"monte_carlo": delta}
    limit, counted = draw(posterior, part, reading, drawing, shares, None, nats=nats)
    return SimpleNamespace(rate=limit.rate, zero_one=zero_one(part, at)), counted


def _check_held(
    record: Record, sheet: Sheet, posterior: Any, held: GivenSample, repetitions: int, seed: int
) -> None:
    from recert.pac_bayes.sampling import gibbs_losses, tally
    from recert.samples.sample import Batch

    at, said = record.data["at"], record.sample["holdout"]
    losses = gibbs_losses(
        posterior, Batch(held.x, held.labels, held.lengths), at,
        repetitions=repetitions, seed=seed, stream="holdout",
    )  # fmt: skip
    found = tally(losses, held.units, held.m)
    sheet.holds("sample.holdout.m", said["m"] == held.m, said["m"], held.m, "re-measured")
    single = at != "average" and held.m == len(held.x)
    sheet.holds("sample.holdout.zero_one", said["zero_one"] == single, said["zero_one"], single,
                "re-measured")  # fmt: skip
    same = abs(said["error"] - found.mean) <= 1e-9
    sheet.holds("sample.holdout.error", same, said["error"], found.mean, "repeated")
    bound = record.bound("held_out")
    if bound is not None and bound["terms"]:
        error = bound["terms"]["error"]
        ok = error >= found.first * (1 - 1e-12)
        sheet.holds("held_out.terms.error", ok, error, found.first, "repeated")
