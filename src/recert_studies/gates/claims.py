"""Answers of ``recert reproduce gates``, each decided by the run's own figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

from recert.numerics.rounding import rounded_down, rounded_up
from recert_studies.claims import Claim
from recert_studies.gates.measures import (
    FREE,
    GOLDEN_REACH,
    RECURRENT,
    SMALL,
    bound_value,
    crossing,
    growth_a_step,
)
from recert_studies.statistics import limits, ranged, verdict

Keyed = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
GATED = ("MGU", "GRU", "LSTM")
SAME_CAP = f"vanilla, ‖U‖ ≤ {RECURRENT:g}"
# The vanilla networks that a gated one is held against.
RIVALS = {SMALL: (SAME_CAP, "vanilla, ‖U‖ ≤ 0.8"), FREE: ("vanilla",)}
# Errors that differ by less are called comparable.
COMPARABLE = 0.02


def claims(keyed: Keyed, ts: Sequence[int], place: int) -> list[Claim]:
    """Every answer; ``place`` is that of the nouns' own horizon among ``ts``."""
    return [
        _below_one(keyed),
        _free_rates(keyed),
        _change_below_state(keyed),
        _decay(keyed, ts),
        _certified(keyed, ts, place, SMALL),
        _certified(keyed, ts, place, FREE),
        _cost(keyed, place, SMALL),
        _cost(keyed, place, FREE),
    ]


def comparable(keyed: Keyed, regime: str) -> str:
    """A sentence on whether the errors of a regime's networks can be compared."""
    errors = {n: mean(r["error"] for r in seeds) for (g, n), seeds in keyed.items() if g == regime}
    low, high = min(errors, key=errors.__getitem__), max(errors, key=errors.__getitem__)
    gap = errors[high] - errors[low]
    said = "comparable" if gap <= COMPARABLE else "more than two points apart"
    return (
        f"Training errors, {regime}: {errors[low]:.3f} ({low}) to {errors[high]:.3f} ({high}), "
        f"{said}."
    )


def _rate(result: Mapping[str, Any], source: str, letter: str = "θ") -> float:
    return float(result["rates"][source][letter][-1])


def _listed(keyed: Keyed, regime: str, value: Callable[[Mapping[str, Any]], float]) -> str:
    return ", ".join(f"{n} {ranged(value(r) for r in keyed[regime, n])}" for n in GATED)


def _certified_errors(keyed: Keyed, regime: str, place: int) -> str:
    found = ((n, (bound_value(r, place) for r in keyed[regime, n])) for n in GATED)
    return ", ".join(f"{n} {limits(values)}" for n, values in found)


def _gated(keyed: Keyed, regime: str) -> list[Mapping[str, Any]]:
    return [r for n in GATED for r in keyed[regime, n]]


def _below_one(keyed: Keyed) -> Claim:
    found = _gated(keyed, SMALL)
    norms = ranged((r["U"] for r in found), ".2f")
    reach = ranged((r["reach"] for r in found), ".2f")
    return Claim(
        "Section 5", "with small B_W and ‖U‖ of the gates β, θ < 1 even where B_Uh > 1",
        verdict(_rate(r, "class, repaired") < 1 < r["U"] for r in found),
        f"trained inside small gates (reach {reach}), ‖U‖ = {norms}: class-wide θ, repaired: "
        f"{_listed(keyed, SMALL, lambda r: _rate(r, 'class, repaired'))}; largest ‖U‖ for θ < 1: "
        f"{_listed(keyed, SMALL, lambda r: r['largest U, θ'])}; none above 2, and none above 1 "
        f"once gates reach {rounded_up(GOLDEN_REACH, 4)}",
    )  # fmt: skip


def _free_rates(keyed: Keyed) -> Claim:
    found = _gated(keyed, FREE)
    return Claim(
        "Section 5", "… of gates as training leaves them",
        verdict(_rate(r, "class, repaired") < 1 for r in found),
        f"free training: gates reach {_listed(keyed, FREE, lambda r: r['reach'])}; class-wide θ, "
        f"repaired: {_listed(keyed, FREE, lambda r: _rate(r, 'class, repaired'))}; with gates "
        f"measured on the nouns {_listed(keyed, FREE, lambda r: _rate(r, 'measured, repaired'))}",
    )  # fmt: skip


def _change_below_state(keyed: Keyed) -> Claim:
    """Within a cell θ ≥ β always; the question is θ of a gated cell against ‖U‖ of a vanilla."""
    held, figures = [], []
    for regime in (SMALL, FREE):
        rival = keyed[regime, RIVALS[regime][0]]
        for source in ("class, repaired", "measured, repaired"):
            wins = [
                _rate(r, source) < v["cap on U"]
                for n in GATED for r, v in zip(keyed[regime, n], rival, strict=True)
            ]  # fmt: skip
            held += wins
            figures.append(f"{regime}, {source}: {sum(wins)} of {len(wins)}")
    smallest = min(_rate(r, "class, repaired") - _rate(r, "class, repaired", "β")
                   for regime in (SMALL, FREE) for r in _gated(keyed, regime))  # fmt: skip
    return Claim(
        "Section 5", "θ of a gated cell is below β = ‖U‖ of a vanilla cell of like error",
        verdict(held),
        f"{'; '.join(figures)} pairs (last step). Within one cell θ − β is never negative, "
        f"{rounded_down(smallest, 4)} at least here",
    )  # fmt: skip


def _decay(keyed: Keyed, ts: Sequence[int]) -> Claim:
    held, figures = [], []
    for regime in (SMALL, FREE):
        rival = keyed[regime, RIVALS[regime][0]]
        held += [
            growth_a_step(r, ts) < growth_a_step(v, ts)
            for n in GATED for r, v in zip(keyed[regime, n], rival, strict=True)
        ]  # fmt: skip
        vanilla = ranged((growth_a_step(v, ts) for v in rival), ".4f")
        gated = ", ".join(
            f"{n} {ranged((growth_a_step(r, ts) for r in keyed[regime, n]), '.4f')}" for n in GATED
        )
        figures.append(f"{regime}: {gated} against {RIVALS[regime][0]} {vanilla}")
    return Claim(
        "Section 1", "gated units introduce extra decaying factors",
        verdict(held),
        f"factor a step of the certificate's radii near t = {ts[-1]}; {'; '.join(figures)}",
    )  # fmt: skip


def _certified(keyed: Keyed, ts: Sequence[int], place: int, regime: str) -> Claim:
    held, figures = [], []
    for rival in RIVALS[regime]:
        for name in GATED:
            pairs = list(zip(keyed[regime, name], keyed[regime, rival], strict=True))
            wins = [bound_value(r, place) < bound_value(v, place) for r, v in pairs]
            held += wins
            figures.append(f"{name} {sum(wins)} of {len(wins)}, {_from(pairs, ts, place)}")
        values = [bound_value(v, place) for v in keyed[regime, rival]]
        far = [bound_value(v, -1) for v in keyed[regime, rival]]
        figures[-1] += f" (against {rival}, {limits(values)}; {limits(far)} at {ts[-1]})"
    own = _certified_errors(keyed, regime, place)
    far_own = _certified_errors(keyed, regime, -1)
    return Claim(
        "Abstract, remark 3", f"an advantage in generalization: a smaller certificate, {regime}",
        verdict(held),
        f"certified error at t = {ts[place]}: {own}; at {ts[-1]}: {far_own}. Smaller at t = "
        f"{ts[place]} at {'; '.join(figures)}",
    )  # fmt: skip


def _from(pairs: Sequence[Any], ts: Sequence[int], place: int) -> str:
    """From which horizon on the first of each pair is certified below the second."""
    series = [[[bound_value(r, i) for i in range(place, len(ts))] for r in pair] for pair in pairs]
    found = [crossing(ts[place:], *pair) for pair in series]
    known = sorted(t for t in found if t is not None)
    if not known:
        return f"nor from any t up to {ts[-1]} on"
    missing = f" at {len(known)} of {len(found)} seeds" if len(known) < len(found) else ""
    span = f"{known[0]}" if known[0] == known[-1] else f"{known[0]} to {known[-1]}"
    return f"from t = {span} on{missing}"


def _cost(keyed: Keyed, place: int, regime: str) -> Claim:
    """A gate pays if its nats are fewer than those that the rest of the network saves."""
    rival = RIVALS[regime][0]
    held, figures = [], []
    for when, at in ((place, "the nouns' t"), (-1, "the longest t")):
        for name in GATED:
            pairs = list(zip(keyed[regime, name], keyed[regime, rival], strict=True))
            cost = [r["nats"][when]["gates"] for r, _ in pairs]
            gain = [_rest(v, when) - _rest(r, when) for r, v in pairs]
            held += [g > c for g, c in zip(gain, cost, strict=True)]
            figures.append(
                f"{name} costs {mean(cost):,.0f}, the rest saves {mean(gain):,.0f}"
                + (f" (at {at})" if name == GATED[-1] else "")
            )
    return Claim(
        "Section 5", f"what gates save is more than what they cost, {regime}", verdict(held),
        f"nats of the margin ball, means over seeds, against {rival}: {'; '.join(figures)}",
    )  # fmt: skip


def _rest(result: Mapping[str, Any], place: int) -> float:
    nats = result["nats"][place]
    return float(nats["candidate"] + nats["head"])
