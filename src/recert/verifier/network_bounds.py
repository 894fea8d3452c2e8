"""Statements on one trained network (theory, 4d, 5a, 5c, 5d)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recert.verifier import costs
from recert.verifier.balls import ONE, ZERO, Ball, ball, binomial_limit, kl_inverse, lesser, total
from recert.verifier.calculus import RecordedCap
from recert.verifier.class_bounds import confidence, gamma_of, maurer, radii_of, risk_of, sqrt2
from recert.verifier.record import Record, Sheet, is_share, number
from recert.verifier.structure import RecordedPart

Bound = Mapping[str, Any]


def occam(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """kl⁻¹(R̂_0, (8|h| ln 2 + ln(1/δ) + costs)/m) (theory, 5a)."""
    name, terms, choices = bound["name"], bound["terms"], bound["choices"]
    length = record.data["network"].get("program", {}).get("bytes", 0)
    sheet.holds(f"{name}.choices.bytes", choices.get("bytes") == length > 0,
                choices.get("bytes"), length)  # fmt: skip
    sheet.holds(f"{name}.choices.bits", choices.get("bits") == 8 * length,
                choices.get("bits"), 8 * length)  # fmt: skip
    error = terms.get("error")
    sheet.holds(f"{name}.terms.error", error == record.sample["training_error"], error,
                record.sample["training_error"], "given")  # fmt: skip
    risk = risk_of(record, bound, "error", sheet, counted=True)
    nats, sure = 8 * length * ball(2).log(), confidence(bound)
    rate = (nats + sure + costs.paid(record, bound, sheet)) / record.m
    sheet.at_least(f"{name}.terms.complexity_nats", terms.get("complexity_nats"), nats)
    sheet.at_least(f"{name}.terms.confidence_nats", terms.get("confidence_nats"), sure)
    sheet.at_least(f"{name}.terms.rate", terms.get("rate"), rate)
    return kl_inverse(risk, rate)


def held_out(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """Clopper and Pearson's limit at δ·e^−costs; kl⁻¹ for fractions (theory, 5d)."""
    name, terms, held = bound["name"], bound["terms"], record.sample["holdout"]
    if not sheet.holds(f"{name}.terms.units", held is not None, None, "held-out units"):
        raise ValueError(name)
    n, error = held["m"], terms.get("error")
    sheet.holds(f"{name}.terms.units", terms.get("units") == n, terms.get("units"), n)
    if not sheet.within(f"{name}.terms.error", error, 0.0, 1.0):
        raise ValueError(name)
    if not record.gibbs:
        same = error == held["error"]
        sheet.holds(f"{name}.terms.error", same, error, held["error"], "given")
    level = ball(bound["delta"]) * (-costs.paid(record, bound, sheet)).exp()
    if held["zero_one"]:
        sheet.holds(f"{name}.terms.error", is_share(error, n), error, f"a share of {n}", "given")
        return binomial_limit(round(error * n), n, level.lower())
    return kl_inverse(ball(error), -level.log() / n)


def gaussian(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """kl⁻¹(R̂_γ^hard, ((KL + H(Z))/Z + ln(2√m/δ) + costs)/m) (theory, 5c)."""
    name, terms, choices = bound["name"], bound["terms"], bound["choices"]
    gamma_of(record, bound, sheet)
    if _hopeless(bound):
        sheet.holds(f"{name}.choices.log_sigma", True, "no σ is admissible", "nothing is claimed")
        return ONE
    sigmas, scales = _scales(record, bound, sheet)
    expected = 0.5 if name.endswith("_paper") else 0.999
    sheet.holds(f"{name}.choices.Z", choices.get("Z") == expected, choices.get("Z"), expected)
    Z, blocks = ball(expected), record.network.blocks
    reach = [s * _spread(part, len(blocks), Z) for part, s in zip(blocks, sigmas, strict=True)]
    caps = {
        part.name: RecordedCap((ball(record.class_rows[part.name]["held"]) + xi).upper())
        for part, xi in zip(blocks, reach, strict=True)
    }
    lam = record.reach(caps).lam
    moved = sqrt2() * total(lam[p.name] * xi for p, xi in zip(blocks, reach, strict=True))
    sheet.at_least(f"{name}.choices.gamma", choices["gamma"], 2 * moved)
    KL = _divergence(record, bound, sigmas, scales, sheet)
    entropy = -(Z * Z.log()) - (ONE - Z) * (ONE - Z).log()
    sure = maurer(record.m, ball(bound["delta"]))
    rate = ((KL + entropy) / Z + sure + costs.paid(record, bound, sheet)) / record.m
    risk = risk_of(record, bound, "hard_margin_risk", sheet, counted=True)
    for term, derived in (("KL", KL), ("confidence_nats", sure), ("rate", rate)):
        if not (derived > ball(10) ** 300 and terms.get(term) == 1e300):
            sheet.at_least(f"{name}.terms.{term}", terms.get(term), derived)
    return kl_inverse(risk, rate)


def _spread(part: RecordedPart, n: int, Z: Ball) -> Ball:
    """ξ_k/σ_k for n blocks."""
    root = (2 * (n / (ONE - Z)).log()).sqrt()
    if part.norm == "spectral":
        return ball(part.rows).sqrt() + ball(part.columns).sqrt() + root
    if part.norm == "operator":
        o, i, w = part.shape
        sides = lesser(
            ball(o).sqrt() + ball(i * w).sqrt(), ball(o * w).sqrt() + ball(i).sqrt()
        )  # fmt: skip
        return ball(w).sqrt() * (sides + root)
    return ball(part.rows).sqrt() + (2 * (n * part.columns / (ONE - Z)).log()).sqrt()


def _hopeless(bound: Bound) -> bool:
    """Whether no σ was admissible, so that the bound is 1 and says nothing."""
    logs = bound["choices"].get("log_sigma")
    return isinstance(logs, list) and -1e300 in logs and bound["value"] >= 1.0


def _scales(record: Record, bound: Bound, sheet: Sheet) -> tuple[list[Ball], list[Ball]]:
    """Posterior scales σ_k, and the prior's s_k as paid for; the paper's shape has σ = s."""
    name, blocks = bound["name"], record.network.blocks
    sigmas = radii_of(record, bound, "log_sigma", sheet)
    values = {row["what"]: row["value"] for row in bound["cost"]}
    common = name.endswith("_paper")
    rows = ["scale σ" if common else f"prior scale of {part.name}" for part in blocks]
    found = [values.get(row, 0.0) for row in rows]
    if not sheet.holds(f"{name}.cost", all(x > 0 for x in found), found, "a scale a block"):
        raise ValueError(name)
    scales = [ball(float(x)) for x in found]
    if common:
        near = [abs(u - v) <= v * ball(1e-11) for u, v in zip(sigmas, scales, strict=True)]
        sheet.holds(f"{name}.choices.log_sigma", all(near), bound["choices"]["log_sigma"], "s")
        sigmas = scales
    return sigmas, scales


def _divergence(
    record: Record, bound: Bound, sigmas: list[Ball], scales: list[Ball], sheet: Sheet
) -> Ball:
    """Σ_k ½[P_k(σ_k²/s_k² − 1 + ln(s_k²/σ_k²)) + ‖w_k − w_0k‖²/s_k²]."""
    name, blocks = bound["name"], record.network.blocks
    distances = bound["choices"].get("distances")
    ok = isinstance(distances, list) and len(distances) == len(blocks)
    ok = ok and all(number(d) and d >= 0 for d in distances)
    if not sheet.holds(f"{name}.choices.distances", ok, distances, "one a block", "given"):
        raise ValueError(name)
    found = ZERO
    for part, sigma, s, d in zip(blocks, sigmas, scales, distances, strict=True):
        ratio = (sigma / s) ** 2
        found = found + (part.parameters * (ratio - ONE - ratio.log()) + (ball(d) / s) ** 2) / 2
    return found


def local_ball(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """kl⁻¹(risk, (Σ_p P_p ln(1 + c_p/ε_p) + ln(2√m/(δ − δ')) + costs)/m) (theory, 4d)."""
    name, terms = bound["name"], bound["terms"]
    delta, drawn = ball(bound["delta"]), terms.get("delta_of_draws")
    if not sheet.within(f"{name}.terms.delta_of_draws", drawn, 0.0, 0.5 * bound["delta"]):
        raise ValueError(name)
    paid = costs.paid(record, bound, sheet)
    nats, sure = _parts(record, bound, sheet), maurer(record.m, delta - ball(drawn))
    rate = (nats + sure + paid) / record.m
    risk = _posterior_risk(record, bound, sheet)
    sheet.at_least(f"{name}.terms.complexity_nats", terms.get("complexity_nats"), nats)
    sheet.at_least(f"{name}.terms.confidence_nats", terms.get("confidence_nats"), sure)
    sheet.at_least(f"{name}.terms.rate", terms.get("rate"), rate)
    # What is counted again is the recorded risk: the value must follow from that.
    return kl_inverse(
        risk if risk >= terms["posterior_risk"] else ball(terms["posterior_risk"]), rate
    )


def _posterior_risk(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """Share in full + u·kl⁻¹(k/n, ln(1/δ')/n); choices among networks are paid for in δ' too."""
    name, terms = bound["name"], bound["terms"]
    full = risk_of(record, bound, "lost_outright", sheet, counted=True)
    undecided = risk_of(record, bound, "undecided", sheet, counted=True)
    n, k = terms.get("draws"), terms.get("draws_lost")
    ok = number(n) and number(k) and n == int(n) and k == int(k) and 0 <= k <= n
    if not sheet.holds(f"{name}.terms.draws", ok, n, f"whole, of which {k} lost", "given"):
        raise ValueError(name)
    limit = ONE
    if n > 0 and terms["delta_of_draws"] > 0:
        nats = total(ball(count).log() for count in costs.always(record).values())
        sure = -ball(terms["delta_of_draws"]).log() + nats
        limit = kl_inverse(ball(int(k)) / int(n), sure / int(n))
    risk = lesser(ONE, full + undecided * limit)
    # A double stands for a share k/m up to its rounding; the value follows from the share itself.
    rounded = risk * (ONE - ball(2) ** -52)
    sheet.at_least(f"{name}.terms.posterior_risk", terms.get("posterior_risk"), rounded)
    return risk


def _parts(record: Record, bound: Bound, sheet: Sheet) -> Ball:
    """Σ_p P_p ln(1 + c_p/ε_p) at radii and caps that the paid-for indices allow."""
    name, choices = bound["name"], bound["choices"]
    rows = {row["what"]: row for row in bound["cost"]}
    names, radii, caps, sizes = [], [], [], []
    for part in record.network.blocks:
        base = rows.get(f"radius of {part.name}, in caps", {"index": 0})["index"] or 0
        split = costs.splits(part) and f"radii of the columns of {part.name}" in rows
        count = part.columns if split else 1
        names += [f"{part.name}[:, {i}]" for i in range(count)] if split else [part.name]
        radii += [base] * count
        caps += [part] * count
        dead = set(part.zero_columns) if split else set()
        each = part.rows if split else part.parameters
        sizes += [0 if i in dead else each for i in range(count)]
    sheet.holds(f"{name}.choices.parts", choices.get("parts") == names, choices.get("parts"), names)
    lists = [choices.get(key) for key in ("log_radii", "log_caps")]
    if not all(isinstance(x, list) and len(x) == len(names) for x in lists):
        sheet.holds(f"{name}.choices.log_radii", False, lists, f"{len(names)} numbers")
        raise ValueError(name)
    found = ZERO
    for i, (part, size) in enumerate(zip(caps, sizes, strict=True)):
        split = names[i] != part.name
        cap = record.caps[part.name].norm
        b = _level(cap, lists[1][i], 0, -2, costs.CAP_LEVELS if split else 1)
        sheet.holds(f"{name}.choices.log_caps", b is not None, lists[1][i], f"cap of {names[i]}")
        if not size:
            continue
        a = _level(cap, lists[0][i], radii[i], 2, costs.RADIUS_LEVELS if split else 1)
        sheet.holds(f"{name}.choices.log_radii", a is not None, lists[0][i], f"ε of {names[i]}")
        if a is None or b is None:
            raise ValueError(name)
        ratio = costs.grid(2, -b) / (costs.grid(costs.RADIUS, radii[i]) * costs.grid(2, a))
        found = found + size * ratio.log1p()
    return found


def column_caps(record: Record, bound: Bound) -> dict[str, list[Ball]]:
    """Block name → caps c_k·2^(−b/2) of its columns, of blocks whose columns move apart."""
    rows = {row["what"] for row in bound["cost"]}
    logs, first = bound["choices"]["log_caps"], 0
    found: dict[str, list[Ball]] = {}
    for part in record.network.blocks:
        split = costs.splits(part) and f"radii of the columns of {part.name}" in rows
        count = part.columns if split else 1
        if split:
            cap = record.caps[part.name].norm
            levels = [_level(cap, x, 0, -2, costs.CAP_LEVELS) for x in logs[first : first + count]]
            found[part.name] = [cap * costs.grid(2, -(b or 0)) for b in levels]
        first += count
    return found


def _level(cap: Ball, log_value: Any, index: int, per_octave: int, levels: int) -> int | None:
    """The a in 0..levels − 1 with value = cap·2^(index/16)·2^(a/per_octave); None without one."""
    if not number(log_value):
        return None
    octaves = (ball(float(log_value)) - cap.log()) / ball(2).log()
    a = (octaves - ball(index) / costs.RADIUS) * per_octave
    nearest = round(float(a.mid())) if abs(a) < 10_000 else -1
    near = bool(abs(a - nearest) < ball(1e-9))
    return nearest if near and 0 <= nearest < levels else None
