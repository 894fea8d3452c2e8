"""Statements on predictors that draw their weights (theory, 5b).

Certificates read for a finite list, of which the sample was drawn without replacement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recert.verifier import costs
from recert.verifier.balls import (
    ONE,
    ZERO,
    Ball,
    ball,
    hypergeometric_limit,
    kl_inverse,
    lesser,
    total,
)
from recert.verifier.class_bounds import confidence, maurer
from recert.verifier.costs import always
from recert.verifier.hypotheses import SOUND
from recert.verifier.record import Record, Sheet, is_share, number, share
from recert.verifier.statements import LISTED, PAC_BAYES

Bound = Mapping[str, Any]


def pac_bayes_kl(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """kl⁻¹(limit of R̂(Q), (KL + costs + ln(2√m'/δ))/m')."""
    limit, sure = drawn_limit(record, bound, sheet), maurer(record.m, ball(bound["delta"]))
    return kl_inverse(limit, _rate(record, bound, sure, sheet))


def pac_bayes_temperature(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """(1 − exp(−λ R̂(Q) − (KL + costs + ln(1/δ))/m'))/(1 − e^−λ)."""
    where, lam = f"{bound['name']}.choices.temperature", bound["choices"].get("temperature")
    if not sheet.holds(where, number(lam) and lam > 0, lam, "positive", "given"):
        raise ValueError(where)
    limit = drawn_limit(record, bound, sheet)
    exponent = ball(lam) * limit + _rate(record, bound, confidence(bound), sheet)
    return lesser(ONE, (-exponent).expm1() / (-ball(lam)).expm1())


def _rate(record: Record, bound: Bound, sure: Ball, sheet: Sheet) -> Ball:
    """(KL + costs + confidence)/m', KL as recorded."""
    name, terms = bound["name"], bound["terms"]
    KL, units = terms.get("KL"), terms.get("units")
    if not sheet.within(f"{name}.terms.KL", KL, 0.0, 1e300):
        raise ValueError(name)
    sheet.holds(f"{name}.terms.units", units == record.m, units, record.m)
    rate = (ball(KL) + costs.paid(record, bound, sheet) + sure) / record.m
    sheet.at_least(f"{name}.terms.confidence_nats", terms.get("confidence_nats"), sure)
    sheet.at_least(f"{name}.terms.rate", terms.get("rate"), rate)
    return rate


def drawn_limit(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """An upper limit of R̂(Q) from n draws at δ': by pairs where their disagreement is recorded."""
    name, terms = bound["name"], bound["terms"]
    n, delta = terms.get("monte_carlo_draws"), terms.get("monte_carlo_delta")
    where = f"{name}.terms.gibbs_error_drawn"
    ok = number(n) and n >= 1 and n == int(n) and int(n) % record.m == 0
    ok = sheet.holds(f"{name}.terms.monte_carlo_draws", ok, n, f"a multiple of {record.m}")
    made = bound["choices"].get("repetitions")
    ok = ok and number(made) and n == made * record.m
    sheet.holds(f"{name}.choices.repetitions", ok, made, f"{n} draws of {record.m} units")
    ok &= sheet.within(f"{name}.terms.monte_carlo_delta", delta, 1e-300, record.data["delta"])
    ok &= sheet.within(where, terms.get("gibbs_error_drawn"), 0.0, 1.0)
    if not ok:
        raise ValueError(where)
    limit = limit_at(record, bound, _mean(record, bound, sheet), sheet)
    sheet.at_least(f"{name}.terms.gibbs_error_limit", terms.get("gibbs_error_limit"), limit)
    return limit


def _mean(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """R_MC; the share itself where losses are 0 or 1."""
    mean, n = bound["terms"]["gibbs_error_drawn"], int(bound["terms"]["monte_carlo_draws"])
    if not record.sample["zero_one"]:
        return ball(float(mean))
    where = f"{bound['name']}.terms.gibbs_error_drawn"
    sheet.holds(where, is_share(mean, n), mean, f"a share of {n}", "given")
    return share(mean, n)


def limit_at(record: Record, bound: Bound, mean: Ball, sheet: Sheet) -> Ball:
    """The limit at this mean of the draws."""
    name, terms = bound["name"], bound["terms"]
    n, sure = int(terms["monte_carlo_draws"]), -ball(terms["monte_carlo_delta"]).log()
    # Every posterior among which this one was chosen has draws of its own.
    sure = sure + total(ball(count).log() for count in costs.always(record).values())
    if "disagreement" not in terms and "monte_carlo_rate" not in terms:
        return kl_inverse(mean, sure / n)
    D, a = terms.get("disagreement"), terms.get("monte_carlo_rate")
    repetitions = n // record.m
    ok = number(a) and 0 < a < 1 and number(D) and 0 <= D <= 1 and record.sample["zero_one"]
    ok = ok and repetitions % 2 == 0 and is_share(D, n // 2)
    if not sheet.holds(f"{name}.terms.disagreement", ok, D, "a share of pairs", "given"):
        raise ValueError(name)
    pairs, rate = n // 2, ball(float(a))
    price = -((ONE - rate).log() + rate)
    return lesser(ONE, mean + (price * share(D, pairs) + sure / pairs) / (2 * rate))


def majority_vote(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """min(1, twice the limit of the Gibbs predictor)."""
    source = record.bound(str(bound["choices"].get("from")))
    where = "majority_vote.choices.from"
    known = source is not None and source["name"] in PAC_BAYES
    if not sheet.holds(where, known, bound["choices"].get("from"), "a PAC-Bayes bound"):
        raise ValueError(where)
    assert source is not None
    sheet.holds("majority_vote.terms.gibbs", bound["terms"].get("gibbs") == source["value"],
                bound["terms"].get("gibbs"), source["value"])  # fmt: skip
    sheet.holds("majority_vote.terms.units", bound["terms"].get("units") == record.m,
                bound["terms"].get("units"), record.m)  # fmt: skip
    for key in ("delta", "cost", "needs", "kind"):
        sheet.holds(f"majority_vote.{key}", bound[key] == source[key], bound[key], source[key])
    return lesser(ONE, 2 * ball(source["value"]))


Row = Mapping[str, Any]


def check(record: Record, sheet: Sheet) -> None:
    """Every row of the list's statements (theory, section 6, finite lists)."""
    rows, population = record.data["finite_list"], record.sample["population"]
    names = [row["bound"] for row in rows]
    sheet.holds("finite_list", len(set(names)) == len(names), names, "no bound twice")
    if not rows:
        return
    if not sheet.holds("finite_list", population is not None, population, "a population"):
        return
    for row in rows:
        _row(record, row, sheet)


def _row(record: Record, row: Row, sheet: Sheet) -> None:
    where, bound = f"finite_list.{row['bound']}", record.bound(row["bound"])
    held = row["bound"] == "held_out" and not record.gibbs
    # Of the vote no error is counted, from which the unseen part's could follow.
    known = row["bound"] in LISTED and row["bound"] != "majority_vote"
    known = bound is not None and (known or held)
    if not sheet.holds(where, known, row["bound"], "a statement that holds for lists"):
        return
    assert bound is not None
    N = record.sample["population"] - _seen(record, bound)
    sheet.holds(f"{where}.population", row["population"] == N >= record.m, row["population"], N)
    if held:
        _unseen(record, row, bound, N, sheet)
        return
    if row["bound"] in record.unverified:
        sheet.decisive = False
        sheet.unchecked(where, row["value"], "its bound was not checked")
        sheet.decisive = True
        return
    certified = bound["kind"] == "certificate"
    sheet.holds(where, certified, bound["kind"], "certificate")
    sheet.holds(f"{where}.value", row["value"] == bound["value"], row["value"], bound["value"])
    error = _error(record, row, bound, N, sheet)
    rest = N - record.m
    unseen = (N * ball(bound["value"]) - record.m * error) / rest if rest else ZERO
    sheet.at_least(f"{where}.unseen", row["unseen"], lesser(ONE, unseen))


def _seen(record: Record, bound: Row) -> int:
    """Units of the list that made the prior: the statements speak of the others."""
    return int(bound["choices"].get("prior_units", 0)) if record.gibbs else 0


def _error(record: Record, row: Row, bound: Row, N: int, sheet: Sheet) -> Ball:
    """The sample's error, from below: as the threshold (m·R̂ + N − m)/N has it."""
    m, where = record.m, f"finite_list.{row['bound']}.threshold"
    error = (N * ball(row["threshold"]) - (N - m)) / m
    if bound["name"] in PAC_BAYES:
        # The draws' limit once more, for the mean of what is right.
        mean = ball(1) - ball(bound["terms"]["gibbs_error_drawn"]) + ball(2) ** -52
        lowest = ONE - limit_at(record, bound, lesser(ONE, mean), sheet)
        # A threshold is one double, from which N/m times its rounding comes back.
        room = ball(1e-9) + N * ball(2) ** -50 / m
        ok = bool(error <= (lowest + room).lower()) or bool(error <= room.lower())
        sheet.holds(where, ok, row["threshold"], "the draws' lower limit")
        return lesser(error, greater_zero(lowest))
    top = record.risk(record.sample["training_error"])
    ok = bool(error >= ball(-1e-9)) and bool(error <= top + ball(1e-9))
    sheet.holds(where, ok, row["threshold"], "an error of at most the sample's", "given")
    if record.sample["zero_one"]:
        return ball(round(float(error.mid()) * m)) / m
    return error


def greater_zero(x: Ball) -> Ball:
    """X, or 0 where it is below."""
    return x if x > 0 else ZERO


def _unseen(record: Record, row: Row, bound: Row, N: int, sheet: Sheet) -> None:
    """Held-out units are a sample of the unseen part: the hypergeometric tail."""
    where, held, m = f"finite_list.{row['bound']}", record.sample["holdout"], record.m
    weak = [id for id in bound["needs"] if record.statuses.get(id) not in SOUND]
    sheet.holds(where, not weak, weak, "every hypothesis of the held-out limit met")
    error, n = bound["terms"]["error"], held["m"]
    ok = held["zero_one"] and record.sample["zero_one"] and is_share(error, n) and N - m >= n
    if not sheet.holds(where, ok, error, f"whole errors on {n} of {N - m} unseen units"):
        return
    level = ball(bound["delta"])
    for count in always(record, encoding_alone=True).values():
        level = level / count
    wrong = hypergeometric_limit(round(error * n), n, N - m, level.lower())
    unseen = ball(wrong) / (N - m)
    sheet.at_least(f"{where}.unseen", row["unseen"], unseen)
    seen = share(record.sample["training_error"], m)
    sheet.at_least(f"{where}.value", row["value"], lesser(ONE, (m * seen + (N - m) * unseen) / N))
    sheet.at_least(f"{where}.threshold", row["threshold"] * (1 + 1e-12) + 1e-15,
                   (m * seen + (N - m)) / N)  # fmt: skip
