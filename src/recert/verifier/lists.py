"""Certificates read for a finite list, of which the sample was drawn without replacement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recert.verifier.balls import ONE, ZERO, Ball, ball, hypergeometric_limit, lesser
from recert.verifier.costs import PAC_BAYES, always
from recert.verifier.ledger import FOR_LISTS, SOUND
from recert.verifier.posteriors import limit_at
from recert.verifier.record import Record, Sheet, is_share, share

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
    known = row["bound"] in FOR_LISTS and row["bound"] != "majority_vote"
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
