"""Claims of Section 6, each with the figure over seeds that decides it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from recert.numerics.logspace import log_S
from recert.numerics.rounding import rounded_down, rounded_up
from recert_studies.claims import Claim
from recert_studies.framework import Result
from recert_studies.statistics import ranged, verdict

SECTION = "Section 6"
PAPER = {"‖U‖": 2.6801, "‖U‖_F": 13.6823, "M_U": 154.5439}
"""Norms of U that Section 6 prints, of a network with d_h = 128 read at t = 56."""


def claims(results: Sequence[Result]) -> list[Claim]:
    """The claims of Section 6 on networks that were trained anew."""
    return [
        _above_one(results),
        *(_ours_below(results, f"Bound {k}") for k in (1, 2, 3)),
        _paper_itself(),
        *_exponential(results),
        _three_below_two(results),
        _reason(results),
        _stable_rank(results),
        _columns(results),
    ]


def _letters(results: Sequence[Result], name: str) -> list[float]:
    return [r["letters"][name] for r in results]


def _seeds(held: Sequence[bool]) -> str:
    return f"{sum(held)} of {len(held)} seeds"


def _above_one(results: Sequence[Result]) -> Claim:
    spectral = _letters(results, "B_U")
    held = [norm > 1 for norm in spectral]
    return Claim(
        SECTION, "the trained vanilla RNN takes B_U = 2.6801 > 1", verdict(held),
        f"{_seeds(held)}; ‖U‖ = {ranged(spectral, '.4g')}",
    )  # fmt: skip


def _ours_below(results: Sequence[Result], bound: str) -> Claim:
    gaps = [r["printed"][bound] - r["printed"].get("Ours", math.inf) for r in results]
    below, much = [gap > 0 for gap in gaps], [gap > 1 for gap in gaps]
    return Claim(
        SECTION, f"our complexity bound is much smaller than {bound}", verdict([*below, *much]),
        f"{_seeds(below)}, {sum(much)} by more than a factor ten; {bound} is larger by "
        f"10^({ranged(gaps, '.2f')})",
    )  # fmt: skip


def _exponential(every: Sequence[Result]) -> list[Claim]:
    """Asked of the seeds with B_U > 1 only; nothing where there is none."""
    results = [r for r in every if r["letters"]["B_U"] > 1]
    if not results:
        return []
    grown = {
        name: [r["printed at twice t"][name] - r["printed"][name] for r in results]
        for name in results[0]["printed"]
    }
    # From t to 2t a power of at most 3 grows by less than a decade.
    held = [
        grown["Ours"][i] < 1 < min(grown[f"Bound {k}"][i] for k in (1, 2, 3))
        for i in range(len(results))
        if "Ours" in grown
    ]
    text = "; ".join(f"{name} 10^({ranged(values, '.2f')})" for name, values in grown.items())
    quote = "for B_U > 1 only ours is polynomial, Bounds 1 to 3 are exponential in t"
    figure = f"{_seeds(held)} with ‖U‖ > 1; growth from t to 2t: {text}"
    return [Claim(SECTION, quote, verdict(held), figure)]


def _paper_itself() -> Claim:
    """What the printed norms decide; the norms of V and W are not printed."""
    B_U, t, d = PAPER["‖U‖"], 56, math.log10(128)
    S = float(log_S(B_U, t))
    S10 = S / math.log(10)
    ours = 1.5 * d + 0.5 * math.log10(S)  # over B_V
    one = d + 2 * math.log10(t) + t * math.log10(B_U)  # over B_V B_W
    two = math.log10(PAPER["M_U"]) + math.log10(t) + S10  # over B_V B_W, with M_V = M_W = 0
    # Bound 3 over B_V, with ‖V‖_F as small as B_V and B_W = 0.
    three = d / 2 + math.log10(B_U) + S10 + d / 2
    # Ours is smaller still where B_W S < √d; then it falls with ‖W‖ as Bounds 1 and 2 do.
    small = d + S10 + 0.5 * math.log10(S)
    least_one, least_two = one - small, two - small
    held = ours < three and min(least_one, least_two) > 0 and max(ours - one, ours - two) < -20
    return Claim(
        SECTION, "… and for the paper's own network", "held" if held else "held in part",
        "V and W are not printed; at the printed norms of U ours is below Bound 3 whatever they "
        f"are, by 10^{rounded_down(three - ours, 1)} at least, and below Bounds 1 and 2 by factors "
        f"of {rounded_down(10**least_one, 1)} and {rounded_down(10**least_two, 1)} at least, and "
        "of more than 10^20 "
        f"unless ‖W‖ is below 10^{rounded_up(20 + ours - one, 1)} and "
        f"10^{rounded_up(20 + ours - two, 1)}. Whether Bound 3 is below Bound 2 they do not decide",
    )  # fmt: skip


def _three_below_two(results: Sequence[Result]) -> Claim:
    gaps = [r["printed"]["Bound 2"] - r["printed"]["Bound 3"] for r in results]
    held = [gap > 0 for gap in gaps]
    return Claim(
        SECTION, "Bound 3 is smaller than Bound 2", verdict(held),
        f"{_seeds(held)}; Bound 2 over Bound 3 is 10^({ranged(gaps, '.2f')})",
    )  # fmt: skip


def _stable_rank(results: Sequence[Result]) -> Claim:
    found = [r["letters"]["U_F"] / r["letters"]["B_U"] for r in results]
    limits = [math.sqrt(r["letters"]["d_h"]) / 2 for r in results]
    held = [ratio < limit for ratio, limit in zip(found, limits, strict=True)]
    squares = ranged([ratio**2 for ratio in found], ".1f")
    return Claim(
        SECTION, "the stable rank ‖U‖_F/‖U‖ = 5.1 < √d/2: singular values are uneven",
        verdict(held),
        f"{_seeds(held)}; {ranged(found, '.2f')} against {limits[0]:.2f}; the usual stable rank, "
        f"its square, is {squares} of {results[0]['letters']['d_h']:g} (the paper's 26.1)",
    )  # fmt: skip


def _columns(results: Sequence[Result]) -> Claim:
    found = [r["letters"]["M_U"] / r["letters"]["U_F"] for r in results]
    root = math.sqrt(results[0]["letters"]["d_h"])
    held = [ratio > 0.95 * root for ratio in found]
    return Claim(
        SECTION, "M_U/‖U‖_F = 11.3 ≈ √d: row norms are approximately equal", verdict(held),
        f"{_seeds(held)} within 5%; {ranged(found, '.2f')} against √d = {root:.2f}; M_U sums "
        "columns, so it is these that are alike (errata 13)",
    )  # fmt: skip


def _reason(results: Sequence[Result]) -> Claim:
    shares, rests = [], []
    for r in results:
        a = r["letters"]
        columns = sum(a[f"M_{k}"] for k in "UVW")
        squares = sum(a[f"{k}_F"] ** 2 for k in "UVW")
        shares.append(math.log10(columns / math.sqrt(a["d_h"] * squares)))
        rests.append(r["printed"]["Bound 2"] - r["printed"]["Bound 3"] - shares[-1])
    held = [share > rest for share, rest in zip(shares, rests, strict=True)]
    return Claim(
        SECTION, "… because Frobenius norms are small and (2,1) norms large", verdict(held),
        f"{_seeds(held)}; ΣM over √(d Σ‖·‖_F²) makes 10^({ranged(shares, '.2f')}) of the gap, and "
        "can't make more than √3 as ‖·‖_{2,1} ≤ √d‖·‖_F, with equal columns making it largest; "
        f"10^({ranged(rests, '.2f')}) is t B_V B_W over min{{√d, …}} B_U + B_W",
    )  # fmt: skip
