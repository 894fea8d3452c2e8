"""Statements on predictors that draw their weights (theory, 5b)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recert.verifier import costs
from recert.verifier.balls import ONE, Ball, ball, kl_inverse, lesser, total
from recert.verifier.class_wide import confidence, maurer
from recert.verifier.record import Record, Sheet, is_share, number, share

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
    known = source is not None and source["name"] in costs.PAC_BAYES
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
