"""Statements on a class with fixed caps (theory, 4a to 4c): each derived from recorded inputs.

Every function takes a record, one bound and the sheet, notes every term, and returns the number
that the bound's value must not be below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flint import arb

from recert.verifier import costs
from recert.verifier.balls import HALF, ZERO, Ball, ball, kl_inverse, lesser, log_of, total
from recert.verifier.calculus import RecordedCap
from recert.verifier.record import Record, Sheet, is_share, number
from recert.verifier.structure import RecordedPart

Bound = Mapping[str, Any]
# Cells per octave of the entropy's upper sum.
PER_OCTAVE, MOST_OCTAVES = 32, 40


def sqrt2() -> Ball:
    """√2."""
    return ball(2).sqrt()


def gamma_of(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """γ: positive, and the declared one where one was declared."""
    gamma, declared = bound["choices"].get("gamma"), record.declared["margin"]
    where = f"{bound['name']}.choices.gamma"
    ok = number(gamma) and gamma > 0 and declared in (None, gamma)
    if not sheet.holds(where, ok, gamma, "positive" if declared is None else declared):
        raise ValueError(where)
    return ball(float(gamma))


def risk_of(record: Record, bound: Bound, term: str, sheet: Sheet, *, counted: bool) -> Ball:
    """An empirical risk, taken as given in [0, 1]; a share of the units where it is a count."""
    found, where = bound["terms"].get(term), f"{bound['name']}.terms.{term}"
    if not sheet.within(where, found, 0.0, 1.0):
        raise ValueError(where)
    if counted and record.sample["zero_one"]:
        sheet.holds(where, is_share(found, record.m), found, f"a share of {record.m}", "given")
        return record.risk(found)
    return ball(float(found))


def confidence(bound: Bound) -> Ball:
    """ln(1/δ) at the bound's δ."""
    return -ball(bound["delta"]).log()


def maurer(m: int, delta: Ball) -> Ball:
    """ln(2√m/δ)."""
    return (2 * ball(m).sqrt() / delta).log()


def _free(record: Record) -> list[RecordedPart]:
    return [part for part in record.network.blocks if part.parameters > 0]


def _slopes(record: Record) -> list[tuple[RecordedPart, Ball]]:
    """a_k = 2√2·c_k Λ_k P/P_k."""
    lam, P = record.at_caps().lam, record.network.parameters
    return [
        (part, 2 * sqrt2() * record.caps[part.name].norm * lam[part.name] * P / part.parameters)
        for part in _free(record)
    ]


def _deviation(record: Record, bound: Bound, nats: Ball) -> Ball:
    """√((ln(1/δ) + nats)/(2m))."""
    return ((confidence(bound) + nats) / (2 * record.m)).sqrt()


def _range(record: Record, gamma: Ball | None) -> Ball:
    """R = √2·N_y, or at most γ/2."""
    full = sqrt2() * record.at_caps().N
    return full if gamma is None else lesser(full, gamma * HALF)


def theorem_2(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """R̂_γ + 24 J(r)/(γ√m) + √((ln(1/δ) + costs)/(2m)) (theory, 4a)."""
    name = bound["name"]
    gamma = gamma_of(record, bound, sheet)
    risk = risk_of(record, bound, "ramp_risk", sheet, counted=False)
    r = _range(record, gamma if name == "theorem_2_clipped" else None)
    sheet.at_least(f"{name}.choices.log_range", bound["choices"].get("log_range"), log_of(r))
    entropy = total(
        part.parameters * (r * (a / r).log1p() + (a * (r / a).log1p() if a > 0 else ZERO))
        for part, a in (_slopes(record) if r > 0 else [])
    )
    complexity = 24 * (r * entropy).sqrt() / (gamma * ball(record.m).sqrt())
    spread = _deviation(record, bound, costs.paid(record, bound, sheet))
    _log10(name, bound, complexity, sheet)
    sheet.at_least(f"{name}.terms.deviation", bound["terms"].get("deviation"), spread)
    return risk + complexity + spread


def _log10(name: str, bound: Bound, complexity: Ball, sheet: Sheet) -> None:
    derived = log_of(complexity) / ball(10).log()
    sheet.at_least(
        f"{name}.terms.log10_complexity", bound["terms"].get("log10_complexity"), derived
    )


def single_scale(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """R̂_γ + 2η/γ + √((ln N(η) + ln(1/δ) + costs)/(2m)), η on its grid (theory, 4a)."""
    name, terms = bound["name"], bound["terms"]
    gamma = gamma_of(record, bound, sheet)
    risk = risk_of(record, bound, "ramp_risk", sheet, counted=False)
    ratio = bound["choices"].get("eta_over_gamma")
    where = f"{name}.choices.eta_over_gamma"
    ok = number(ratio) and any(costs.on_grid(ratio, 4, -j) for j in range(4, 121))
    if not sheet.holds(where, ok, ratio, "2^(-j/4), j in 4..120"):
        raise ValueError(where)
    eta = ball(float(ratio)) * gamma
    cover = total(part.parameters * (a / eta).log1p() for part, a in _slopes(record))
    spread = _deviation(record, bound, costs.paid(record, bound, sheet) + cover)
    scale = 2 * ball(float(ratio))
    sheet.at_least(f"{name}.terms.scale", terms.get("scale"), scale)
    sheet.at_least(f"{name}.terms.log_cover", terms.get("log_cover"), cover)
    sheet.at_least(f"{name}.terms.deviation", terms.get("deviation"), spread)
    return risk + scale + spread


def log_cover(record: Record, s: Ball) -> Ball:
    """ln N at which no margin moves by more than s: per block the better of two (theory, 4c)."""
    lam, P, found = record.at_caps().lam, record.network.parameters, ZERO
    for part in _free(record):
        row = record.class_rows[part.name]
        if lam[part.name].is_zero():
            continue
        eps = s * part.parameters / (P * sqrt2() * lam[part.name])
        dense = part.parameters * (2 * ball(row["norm"]) / eps).log1p()
        if row["l1"] is not None:
            width = part.shape[2] if part.norm == "operator" else 1
            count = (4 * width * (ball(row["l1"]) / eps) ** 2).upper().ceil()
            sparse = count.upper() * ball(2 * part.entries + 1).log()
            dense = lesser(dense, sparse)
        found = found + dense
    return found


def theorem_3_l1(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """R̂_γ + 8α/γ + (24/(γ√m))∫_α^r √ln N + √((ln(1/δ) + costs)/(2m)) (theory, 4c)."""
    name, terms = bound["name"], bound["terms"]
    gamma = gamma_of(record, bound, sheet)
    risk = risk_of(record, bound, "ramp_risk", sheet, counted=False)
    r, alpha = _range(record, gamma), bound["choices"].get("alpha")
    # The producer's α is at most 24 octaves below r.
    ok = number(alpha) and alpha > 0 and bool(r <= ball(alpha) * ball(2) ** MOST_OCTAVES)
    if not sheet.holds(f"{name}.choices.alpha", ok, alpha, "positive, not far below r"):
        raise ValueError(name)
    record.budget.spend(6 * len(record.network.blocks) * PER_OCTAVE * MOST_OCTAVES)
    area = total(width * log_cover(record, s).sqrt() for s, width in _cells(ball(alpha), r))
    complexity = 8 * ball(alpha) / gamma + 24 * area / (gamma * ball(record.m).sqrt())
    spread = _deviation(record, bound, costs.paid(record, bound, sheet))
    _log10(name, bound, complexity, sheet)
    sheet.at_least(f"{name}.terms.deviation", terms.get("deviation"), spread)
    return risk + complexity + spread


def _cells(alpha: Ball, r: Ball) -> Iterator[tuple[Ball, Ball]]:
    """Left ends and widths of cells that cover [α, r]; ln N falls, so left ends bound it."""
    ratio = (-arb(2).log() / PER_OCTAVE).exp()
    right = r
    while right > alpha:
        left = right * ratio
        if left < alpha:
            left = alpha
        yield left.lower(), right - left
        right = left.mid()


def theorem_3_l1_cover(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """kl⁻¹(R̂_γ^hard, (ln N(γ/2) + ln(1/δ) + costs)/m) (theory, 4c in the covering form of 4b)."""
    gamma = gamma_of(record, bound, sheet)
    return _by_kl(record, bound, log_cover(record, gamma * HALF), confidence(bound), sheet)


def margin_ball(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """kl⁻¹(R̂_γ^hard, (Σ P_k ln(1 + c_k/ε_k) + ln(2√m/δ) + costs)/m) (theory, 4b)."""
    gamma, radii = gamma_of(record, bound, sheet), radii_of(record, bound, "log_radii", sheet)
    caps = {}
    for part, radius in zip(record.network.blocks, radii, strict=True):
        cap = record.caps[part.name]
        row = None if cap.row is None else (cap.row + ball(part.columns).sqrt() * radius).upper()
        caps[part.name] = RecordedCap((cap.norm + radius).upper(), row)
    _admissible(record, bound, caps, radii, gamma, sheet)
    nats = _ball_nats(record, radii, 1)
    return _by_kl(record, bound, nats, maurer(record.m, ball(bound["delta"])), sheet)


def margin_cover(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """kl⁻¹(R̂_γ^hard, (Σ P_k ln(1 + 2c_k/ε_k) + ln(1/δ) + costs)/m), Λ at the caps (4b)."""
    gamma, radii = gamma_of(record, bound, sheet), radii_of(record, bound, "log_radii", sheet)
    _admissible(record, bound, record.caps, radii, gamma, sheet)
    return _by_kl(record, bound, _ball_nats(record, radii, 2), confidence(bound), sheet)


def radii_of(record: Record, bound: Bound, key: str, sheet: Sheet) -> list[Ball]:
    """ε_k from their recorded logarithms, one for every block."""
    logs, where = bound["choices"].get(key), f"{bound['name']}.choices.{key}"
    blocks = record.network.blocks
    ok = isinstance(logs, list) and len(logs) == len(blocks) and all(map(number, logs))
    if not sheet.holds(where, ok, logs, f"{len(blocks)} numbers"):
        raise ValueError(where)
    return [ball(float(x)).exp() for x in logs]


def _admissible(
    record: Record,
    bound: Bound,
    caps: Mapping[str, RecordedCap],
    radii: Sequence[Ball],
    gamma: Ball,
    sheet: Sheet,
) -> None:
    """√2·Σ_k Λ_k ε_k ≤ γ/2."""
    lam = record.reach(caps).lam
    moved = sqrt2() * total(
        lam[part.name] * radius for part, radius in zip(record.network.blocks, radii, strict=True)
    )
    sheet.at_least(f"{bound['name']}.choices.gamma", bound["choices"]["gamma"], 2 * moved)


def _ball_nats(record: Record, radii: Sequence[Ball], factor: int) -> Ball:
    """Σ P_k ln(1 + factor·c_k/ε_k)."""
    pairs = zip(record.network.blocks, radii, strict=True)
    return total(
        part.parameters * (factor * record.caps[part.name].norm / radius).log1p()
        for part, radius in pairs
        if part.parameters > 0
    )


def _by_kl(record: Record, bound: Bound, nats: Ball, sure: Ball, sheet: Sheet) -> Ball:
    """kl⁻¹(R̂_γ^hard, (nats + confidence + costs)/m), every term noted."""
    name, terms = bound["name"], bound["terms"]
    risk = risk_of(record, bound, "hard_margin_risk", sheet, counted=True)
    rate = (nats + sure + costs.paid(record, bound, sheet)) / record.m
    sheet.at_least(f"{name}.terms.complexity_nats", terms.get("complexity_nats"), nats)
    sheet.at_least(f"{name}.terms.confidence_nats", terms.get("confidence_nats"), sure)
    sheet.at_least(f"{name}.terms.rate", terms.get("rate"), rate)
    return kl_inverse(risk, rate)
