"""Units that recur: every kind that is found, and honest data that must not be (theory 6, "Roles").

python -m pytest tests/test_tripwires.py -m slow -s   # 2,300 honest samples, prints what it found
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recert
from recert import data
from recert.samples.leakage import (
    NEAR,
    OVERLAP,
    REPEATED,
    Between,
    Traces,
    Within,
    between,
    evidence,
    joined,
    traces,
    within,
)

RNG = np.random.default_rng(14)


def traced(x: np.ndarray, y: np.ndarray | None = None, n: np.ndarray | None = None) -> Traces:
    labels = np.zeros(len(x), dtype=np.int64) if y is None else y
    return traces(x, labels, np.full(len(x), x.shape[1]) if n is None else n)


def alone(x: np.ndarray, y: np.ndarray | None = None, units: Any = None) -> Within:
    return within(traced(x, y), units)


def apart(x: np.ndarray, held: np.ndarray) -> Between:
    return between(traced(x), traced(held))


def tokens(m: int, T: int = 10, letters: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, letters, (m, T))


def reals(m: int, T: int = 12, d: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((m, T, d))


def walks(m: int, T: int = 12, d: int = 2, seed: int = 0) -> np.ndarray:
    return np.cumsum(reals(m, T, d, seed), axis=1)


def edited(x: np.ndarray, letters: int, seed: int = 1) -> np.ndarray:
    """Every sequence with one token changed."""
    rng = np.random.default_rng(seed)
    rows, places = np.arange(len(x)), rng.integers(0, x.shape[1], len(x))
    found = x.copy()
    found[rows, places] = (x[rows, places] + rng.integers(1, letters, len(x))) % letters
    return found


def windows(series: np.ndarray, T: int, stride: int) -> np.ndarray:
    found = np.lib.stride_tricks.sliding_window_view(series, T, axis=0)[::stride]
    return np.moveaxis(found, -1, 1)[RNG.permutation(len(found))]


def shuffled(x: np.ndarray) -> np.ndarray:
    return x[RNG.permutation(len(x))]


# What recurs within a sample.


@pytest.mark.parametrize("make", [tokens, reals, walks])
@pytest.mark.parametrize(("distinct", "times"), [(40, 2), (40, 3), (300, 2), (100, 10), (20, 500)])
def test_a_sample_that_was_repeated(make: Any, distinct: int, times: int) -> None:
    found = alone(shuffled(np.concatenate([make(distinct)] * times)))
    assert found.suspicious and found.kind == REPEATED
    assert found.distinct == distinct and found.sequences == distinct * times


def test_repeated_units_have_their_labels_with_them_or_not() -> None:
    x = tokens(300, 4, 3)
    y = np.random.default_rng(3).integers(0, 5, 300)
    both = np.concatenate([x, x]), np.concatenate([y, y])
    assert alone(*both).kind == REPEATED
    assert not alone(x, y).suspicious


def test_a_part_of_a_sample_that_was_repeated() -> None:
    once = tokens(500, 20)
    assert alone(shuffled(np.concatenate([once, *[tokens(300, 20, seed=1)] * 2]))).suspicious
    assert alone(shuffled(np.concatenate([once, *[tokens(20, 20, seed=1)] * 50]))).suspicious
    some = shuffled(np.concatenate([tokens(100)] * 20))[:1800]
    assert alone(some).suspicious


def test_short_sequences_over_few_letters_that_were_repeated() -> None:
    assert not alone(tokens(3000, 3)).suspicious
    assert alone(shuffled(np.concatenate([tokens(3000, 3)] * 2))).kind == REPEATED


def test_reals_that_were_drawn_again_from_a_few() -> None:
    x = reals(100)[np.random.default_rng(5).integers(0, 100, 2000)]
    assert alone(x).kind == REPEATED
    # Looked-up tokens are no such reals.
    table = np.random.default_rng(6).standard_normal((4, 3))
    assert not alone(table[tokens(3000, 5)]).suspicious


@pytest.mark.parametrize("seed", range(20))
def test_curves_at_a_few_whole_phases_recur_by_nature(seed: int) -> None:
    phase = np.random.default_rng(seed).integers(0, 24, (143, 1, 1))
    x = np.sin(2 * np.pi * (np.arange(36)[:, None] + phase) / 24)
    for curves in (x, x.round(9), x.astype(np.float32)):
        assert not alone(curves).suspicious
        for cut in (5, 40):
            assert not apart(curves[cut:], curves[:cut]).suspicious
            assert not apart(curves[:cut], curves[cut:]).suspicious


def test_curves_at_many_phases_that_were_repeated() -> None:
    phase = np.random.default_rng(2).integers(0, 10_000, (200, 1, 1))
    x = np.sin(2 * np.pi * (np.arange(36)[:, None] + phase / 500.0) / 24)
    assert not alone(x).suspicious
    assert alone(shuffled(np.concatenate([x, x]))).kind == REPEATED
    assert apart(np.concatenate([x, x]), x[:60].astype(np.float32)).suspicious


@pytest.mark.parametrize(
    ("m", "T", "letters"), [(300, 24, 26), (300, 10, 4), (1000, 10, 4), (400, 80, 3), (400, 6, 30)]
)
def test_copies_with_one_token_changed(m: int, T: int, letters: int) -> None:
    x = tokens(m, T, letters)
    found = alone(shuffled(np.concatenate([x, edited(x, letters)])))
    assert found.kind == NEAR


@pytest.mark.parametrize("size", [1e-7, 1e-3, 1e-2, 3e-2])
@pytest.mark.parametrize("make", [reals, walks])
def test_copies_that_were_jittered(make: Any, size: float) -> None:
    x = make(400)
    assert alone(np.concatenate([x, x + size * RNG.standard_normal(x.shape)])).kind == NEAR
    assert not alone(x).suspicious


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8, 13, 17, 22, 26, 29])
def test_overlapping_windows_of_a_real_series(stride: int) -> None:
    series = np.cumsum(
        np.random.default_rng(stride).standard_normal((900 * stride + 30, 2)), axis=0
    )
    x = windows(series, 30, stride)
    assert alone(x).kind == OVERLAP
    assert apart(x[300:], x[:300]).suspicious
    assert not alone(windows(series[: 900 * 30], 30, 30)).suspicious


@pytest.mark.parametrize("T", [3, 7, 24, 200])
def test_overlapping_windows_of_tokens(T: int) -> None:
    for stride in sorted({1, 2, T // 3, T // 2, 2 * T // 3, T - 4} & set(range(1, T - 1))):
        series = np.random.default_rng(T).integers(0, 1000, 1200 * stride + T)
        x = windows(series, T, stride)
        assert alone(x).kind == OVERLAP, stride
        assert apart(x[400:], x[:400]).suspicious, stride
        # The held-out ones come from between the others.
        if 2 * stride < T:
            ordered = np.lib.stride_tricks.sliding_window_view(series, T)[::stride]
            assert apart(ordered[::2], ordered[1::2]).suspicious, stride
    assert not alone(np.random.default_rng(T).integers(0, 1000, (1200, T))).suspicious


def normalised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)


def between_0_and_1(x: np.ndarray) -> np.ndarray:
    low = x.min(axis=1, keepdims=True)
    return (x - low) / (x.max(axis=1, keepdims=True) - low)


ALONE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normalised": normalised,
    "normalised, float32": lambda x: normalised(x).astype(np.float32),
    "normalised together": lambda x: (
        (x - x.mean(axis=(1, 2), keepdims=True)) / x.std(axis=(1, 2), keepdims=True)
    ),
    "to [0, 1]": between_0_and_1,
    "from its first value": lambda x: x - x[:, :1],
    "three decimals": lambda x: normalised(x).round(3),
}


@pytest.mark.parametrize("change", ALONE)
@pytest.mark.parametrize(
    ("T", "stride", "d"), [(20, 2, 1), (10, 2, 2), (20, 10, 1), (30, 25, 2), (8, 1, 6)]
)
def test_windows_each_in_units_of_its_own(change: str, T: int, stride: int, d: int) -> None:
    steps = np.random.default_rng(T).standard_normal((900 * stride + T, d))
    x = ALONE[change](windows(np.cumsum(steps, axis=0), T, stride))
    assert alone(x).kind == OVERLAP
    assert apart(x[300:], x[:300]).suspicious
    disjoint = np.cumsum(np.random.default_rng(T).standard_normal((900 * T, d)), axis=0)
    y = ALONE[change](windows(disjoint, T, T))
    assert not alone(y).suspicious and not apart(y[300:], y[:300]).suspicious


@pytest.mark.parametrize(
    ("m", "T", "letters"), [(150, 10, 4), (300, 8, 4), (300, 16, 2), (300, 5, 26), (60, 24, 26)]
)
@pytest.mark.parametrize("seed", range(3))
def test_edits_of_short_strings(m: int, T: int, letters: int, seed: int) -> None:
    x = tokens(m, T, letters, seed)
    both = np.concatenate([x, edited(x, letters, seed)])
    assert alone(shuffled(both), np.arange(2 * m) % 3).kind == NEAR
    assert not alone(tokens(2 * m, T, letters, seed)).suspicious


@pytest.mark.parametrize(("m", "T", "letters"), [(300, 10, 10), (100, 24, 26), (300, 5, 26)])
def test_copies_with_two_tokens_changed(m: int, T: int, letters: int) -> None:
    x = tokens(m, T, letters)
    twice = edited(edited(x, letters), letters, seed=2)
    assert alone(shuffled(np.concatenate([x, twice]))).kind == NEAR


@pytest.mark.parametrize("size", [0.1, 0.2])
def test_copies_that_were_jittered_much(size: float) -> None:
    x = reals(400)
    copies = x + size * RNG.standard_normal(x.shape)
    assert alone(np.concatenate([x, copies])).kind == NEAR
    assert apart(np.concatenate([x, reals(600, seed=4)]), copies[:60]).suspicious


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "reversed": lambda x: x[:, ::-1],
    "rolled": lambda x: np.roll(x, 3, axis=1),
    "first step cut": lambda x: x[:, 1:],
    "last step cut": lambda x: x[:, :-1],
    "first steps cut": lambda x: x[:, 3:],
    "last steps cut": lambda x: x[:, :-3],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("make", [reals, walks, tokens])
def test_copies_turned_or_cut(make: Any, change: str) -> None:
    x = make(300)
    y = CHANGES[change](x)
    missing = ((0, 0), (0, x.shape[1] - y.shape[1]), *[(0, 0)] * (x.ndim - 2))
    both = np.concatenate([x, np.pad(y, missing)])
    lengths = np.repeat([x.shape[1], y.shape[1]], 300)
    order = RNG.permutation(600)
    assert within(traced(both[order], n=lengths[order])).suspicious
    fresh = np.concatenate([x, make(300, seed=8)])
    if make is not tokens or change != "rolled":
        assert apart(fresh, y[:100]).suspicious
    assert not apart(fresh, CHANGES[change](make(100, seed=9))).suspicious


def test_copies_in_other_units() -> None:
    x = walks(300)
    assert alone(np.concatenate([x, 1.7 * x + 0.3])).suspicious
    assert apart(x, 0.2 * x[:60] - 4.0).suspicious
    assert not apart(x, 0.2 * walks(60, seed=5) - 4.0).suspicious


# What is not seen, as theory.md says: were it found, that would have to be changed.


def test_draws_from_a_few_are_draws() -> None:
    x = tokens(300, 24, 26)
    assert not alone(x[np.random.default_rng(1).integers(0, 300, 300)]).suspicious
    assert apart(x, x[np.random.default_rng(1).integers(0, 300, 60)]).suspicious


def test_a_few_near_ones_are_what_a_source_of_families_gives() -> None:
    x = tokens(950, 24, 26)
    assert not alone(np.concatenate([x, edited(x[:50], 26)])).suspicious
    # Draws: 10^4 families of 26, whose members differ in one token.
    rng = np.random.default_rng(2)
    families = np.random.default_rng(3).integers(0, 26, (10_000, 24))
    drawn = families[rng.integers(0, 10_000, 1000)]
    drawn[:, 7], drawn[:, 8] = rng.integers(0, 26, 1000), 0
    assert not alone(drawn).suspicious


# What recurs between roles.

CASTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "itself": lambda x: x,
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "bfloat16": lambda x: (
        (x.astype(np.float32).view(np.uint32) + 0x8000) & np.uint32(0xFFFF0000)
    ).view(np.float32),
    "two decimals": lambda x: x.round(2),
    "scaled up": lambda x: x * 1.001,
    "scaled down": lambda x: x * 0.999,
    "jittered": lambda x: x + 0.01 * RNG.standard_normal(x.shape),
    "first step cut": lambda x: x[:, 1:],
    "last step cut": lambda x: x[:, :-1],
    "a step changed": lambda x: np.concatenate([x[:, :5], x[:, 5:6] + 9.0, x[:, 6:]], axis=1),
}


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("make", [reals, walks])
def test_training_units_of_reals_held_out_in_disguise(make: Any, cast: str) -> None:
    x = make(1000)
    for held in (x[:60], x[:400]):
        assert apart(x, CASTS[cast](held)).suspicious
    twice = np.concatenate([x, x])
    assert apart(twice, CASTS[cast](x[:100])).suspicious
    fresh = CASTS[cast](make(400, seed=9))
    assert not apart(x, fresh).suspicious and not apart(twice, fresh).suspicious


@pytest.mark.parametrize("times", [1, 2, 3, 10])
@pytest.mark.parametrize("n", [60, 300])
def test_training_units_of_tokens_held_out(times: int, n: int) -> None:
    x = tokens(2000)
    sample = shuffled(np.concatenate([x] * times))
    for held in (x[:n], x[:n, 1:], x[:n, :-1], edited(x[:300], 4)):
        assert apart(sample, held).suspicious
    assert not apart(sample, tokens(n, seed=9)).suspicious
    longer = apart(sample[:, 1:], x[:n])
    assert longer.suspicious and longer.shared == 0


def test_a_repeated_sample_does_not_make_its_units_pass() -> None:
    x = tokens(300)
    for sample in (x, np.concatenate([x, x]), np.concatenate([x, x[:150]])):
        found = apart(sample, x)
        assert found.suspicious and (found.shared, found.held_out) == (300, 300)


def test_units_that_were_repeated_before_they_were_dealt_out() -> None:
    x = shuffled(np.concatenate([tokens(1000)] * 2))
    assert apart(x[600:], x[:600]).suspicious
    r = shuffled(np.concatenate([reals(1000)] * 2))
    assert apart(r[600:], r[:600]).suspicious


def test_whole_units_are_what_recurs() -> None:
    """Documents of several windows: a document twice over, whatever the name of its group."""
    x = np.random.default_rng(2).integers(0, 26, (200, 60))
    parts = np.lib.stride_tricks.sliding_window_view(x, 20, axis=1)[:, ::10].reshape(-1, 20)
    units = np.repeat(np.arange(200), 5)
    assert not within(traced(parts), units).suspicious
    assert within(traced(parts)).kind == OVERLAP
    twice, both = np.concatenate([parts, parts]), np.concatenate([units, units + 200])
    assert within(traced(twice), both).kind == REPEATED
    order = RNG.permutation(len(both))
    assert within(traced(twice[order]), both[order]).kind == REPEATED
    held = between(traced(parts), traced(parts[:500]), units, units[:500])
    assert held.suspicious and held.shared == 500


# Honest data.


def test_held_out_units_are_judged_by_themselves() -> None:
    """A sample that is no independent draws makes no held-out unit suspicious."""
    series = np.random.default_rng(3).integers(0, 5, 9000)
    overlapping, later = windows(series[:6000], 20, 2), windows(series[6000:], 20, 20)
    assert alone(overlapping).kind == OVERLAP
    assert not apart(overlapping, later).suspicious
    walk = np.cumsum(np.random.default_rng(3).standard_normal((9000, 2)), axis=0)
    assert not apart(windows(walk[:6000], 20, 2), windows(walk[6000:], 20, 20)).suspicious
    for make in (tokens, reals):
        x = make(900)
        weighted = np.concatenate([x, x[:300], x[:300]])
        assert not apart(weighted, make(300, seed=5)).suspicious
        jittered = np.concatenate([x, edited(x, 4)]) if make is tokens else x.repeat(2, 0)
        assert not apart(jittered, make(300, seed=5)).suspicious


def natural(name: str) -> tuple[np.ndarray, np.ndarray]:
    found = data.load(name)
    return np.where(found.valid, found.sequences, 0), found.lengths


@pytest.mark.parametrize("name", ["german-nouns", "cmudict", "synthetic", "recall"])
def test_our_own_data_are_honest(name: str) -> None:
    x, n = natural(name)
    order = np.random.default_rng(0).permutation(len(x))[:30_000]
    known = traced(x[order], n=n[order])
    assert not within(known).suspicious
    for share in (0.5, 0.9, 0.98):
        cut = int(share * len(known))
        assert not between(known[:cut], known[cut:]).suspicious


def honest(rng: np.random.Generator, m: int) -> dict[str, np.ndarray]:
    """Independent draws of many sorts."""
    few = rng.integers(0, 5, (300, 9))
    chances = rng.dirichlet(np.full(300, rng.choice([0.05, 0.3, 3.0])))
    series = np.lib.stride_tricks.sliding_window_view(rng.integers(0, 3, 60), 12)
    template = rng.integers(0, 30, 200)
    grid = np.linspace(0, 1, 14)
    at = rng.random((m, 2, 1, 1))
    picture = np.exp(-((grid[:, None] - at[:, 0]) ** 2 + (grid - at[:, 1]) ** 2) / 0.05)
    words = rng.integers(0, 26, (500, 6))
    chosen = rng.zipf(1.5, (2, m)) % 500
    phase = rng.integers(0, 24, (m, 1, 1))
    chain = np.cumsum(rng.random((m, 30)) < 0.1, axis=1) % 3
    smooth = np.cumsum(np.cumsum(rng.standard_normal((m, 24, 2)), axis=1), axis=1)
    constant = rng.integers(0, 10, (m, 8))
    constant[:, 3:] = constant[:, :1]
    return {
        "coins": rng.integers(0, 2, (m, 1)),
        "three coins": rng.integers(0, 2, (m, 3)),
        "letters": rng.integers(0, 4, (m, 5)),
        "a few sequences": few[rng.choice(300, m, p=chances)],
        "a few windows": series[rng.integers(0, len(series), m)],
        "rotations": template[np.arange(40) + rng.integers(0, 160, (m, 1))],
        "steps up": (np.arange(64) >= rng.integers(0, 60, (m, 1))).astype(int),
        "two words": np.concatenate([words[chosen[0]], words[chosen[1]]], axis=1),
        "nearly constant": constant,
        "constant reals": np.repeat(rng.standard_normal((m, 1, 2)), 20, axis=1),
        "mostly silent": rng.standard_normal((m, 20, 1)) * (rng.random((m, 1, 1)) < 0.3),
        "one number": rng.standard_normal((m, 1, 1)).round(1),
        "a sensor": (0.1 * np.cumsum(rng.standard_normal((m, 30, 1)), axis=1)).round(1),
        "one-hot": np.eye(4)[rng.integers(0, 4, (m, 5))],
        "waves": np.sin(0.2 * np.arange(50)[:, None] + 6.28 * rng.random((m, 1, 1))),
        "pictures": (255 * picture).round() / 255,
        "templates": few[rng.integers(0, 20, m), :, None] + 0.05 * rng.standard_normal((m, 9, 2)),
        "a season with noise": np.sin(2 * np.pi * (np.arange(36)[:, None] + phase) / 24)
        + 0.3 * rng.standard_normal((m, 36, 1)),
        "a season": np.sin(2 * np.pi * (np.arange(36)[:, None] + phase) / 24),
        "a slow chain": chain,
        "smooth": smooth,
        "smooth, normalised": normalised(smooth).astype(np.float32),
        "padded": rng.standard_normal((m, 30, 2))
        * (np.arange(30) < rng.integers(9, 30, (m, 1)))[..., None],
    }


def check_honest(seed: int, m: int) -> list[tuple[str, float, float]]:
    rng = np.random.default_rng(seed)
    found = []
    for name, x in honest(rng, m).items():
        cut = int(rng.integers(1, m))
        known = traced(x)
        whole, roles = within(known), between(known[:cut], known[cut:])
        if whole.suspicious or roles.suspicious:
            found.append((name, whole.excess, roles.excess))
    return found


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 1500))
def test_independent_draws_are_not_accused(seed: int, m: int) -> None:
    assert check_honest(seed, m) == []


@pytest.mark.slow
def test_false_alarms_are_rare() -> None:
    """2,300 samples in two roles each: at α = 10⁻⁶ even one alarm would be strange."""
    alarms = [a for seed in range(100) for a in check_honest(seed, 20 + 15 * seed)]
    print(f"{len(alarms)} alarms in {100 * 23} honest samples: {alarms}")
    assert not alarms


# The evidence itself: its mean is at most 1, whatever the distribution.


@pytest.mark.parametrize("rate", [0.02, 0.5, 1.4, 2.5, 5.0, 30.0])
def test_evidence_of_even_counts_has_mean_at_most_one(rate: float) -> None:
    rng = np.random.default_rng(int(100 * rate))
    for zeros in (False, True):
        found = []
        for _ in range(1500):
            counts = rng.poisson(rate, 8)
            none = int((counts == 0).sum()) if zeros else None
            found.append(math.exp(evidence.too_even(counts[counts > 0], 10**4, none)[0]))
        assert np.mean(found) <= 1.0 + 4 * np.std(found) / math.sqrt(len(found))


@pytest.mark.parametrize("share", [None, 0.1, 0.5, 0.8])
def test_evidence_of_mixed_roles_has_mean_at_most_one(share: float | None) -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(3000):
        rates = rng.choice([0.1, 1.0, 3.0], 6)
        p = rng.random(6) if share is None else share
        first, second = rng.poisson(rates * (1 - p)), rng.poisson(rates * p)
        found.append(math.exp(evidence.too_mixed(first, second, share)))
    assert np.mean(found) <= 1.0 + 4 * np.std(found) / math.sqrt(len(found))


def test_chances_are_the_largest_of_all_rates() -> None:
    """Against sums of the Poisson distribution in 30 digits."""
    from mpmath import exp, factorial, mp, mpf

    with mp.workdps(30):
        for k, width, least in ((1, 0, 0), (2, 0, 1), (3, 0, 2), (10, 0, 5), (12, 1, 6)):
            claimed = math.exp(evidence._log_chance(k, width, least))
            for rate in [mpf(k) * i / 20 for i in range(1, 40)]:
                pmf = [exp(-rate) * rate**c / factorial(c) for c in range(4 * k + 40)]
                near = sum(pmf[c] for c in range(k - width, k + width + 1))
                assert near / sum(pmf[least:]) <= claimed
        for k in (2, 3, 7, 32):
            claimed = math.exp(evidence._log_multiples(k))
            for rate in [mpf(k) * i / 10 for i in range(1, 40)]:
                pmf = [exp(-rate) * rate**c / factorial(c) for c in range(8 * k + 60)]
                assert sum(pmf[k::k]) / sum(pmf[1:]) <= claimed


def test_the_verifier_has_the_same_room_for_rounding() -> None:
    from recert.verifier import contradictions

    assert contradictions.ROUNDING == evidence.ROUNDING


# Traces.


def test_traces_do_not_see_padding_batches_or_number_types() -> None:
    rng = np.random.default_rng(1)
    n = rng.integers(1, 31, 300)
    y = rng.integers(0, 3, 300)
    x = np.where(np.arange(30) < n[:, None], rng.integers(0, 9, (300, 30)), 0)
    wider = np.concatenate([x, np.zeros((300, 5), dtype=int)], axis=1)
    one = np.eye(9)[x] * (np.arange(30) < n[:, None])[..., None]
    found = traces(x, y, n)
    batches = [traces(x[i : i + 7], y[i : i + 7], n[i : i + 7]) for i in range(0, 300, 7)]
    same(found, joined(batches))
    same(found, traces(wider, y, n))
    same(traces(one, y, n), traces(one.astype(np.float16), y, n))


def same(first: Any, second: Any) -> None:
    for name in first.__dataclass_fields__:
        a, b = getattr(first, name), getattr(second, name)
        if a is None or name == "course":
            assert (a is None) == (b is None)
            if a is not None:
                same(a, b)
            continue
        if a.ndim == 2:
            a, b = a[:, : b.shape[1]], b[:, : a.shape[1]]
        if name == "numbers":
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(a, b)


def test_what_is_cut_has_the_print_of_what_is_left() -> None:
    x = tokens(50, 9)
    found = traced(x)
    np.testing.assert_array_equal(found.front, traced(x[:, 1:]).exact)
    np.testing.assert_array_equal(found.back, traced(x[:, :-1]).exact)
    a, b = traced(x[:, :4]), traced(x[:, 3:])
    np.testing.assert_array_equal(a.ends[:, 0], b.starts[:, 0])
    assert len(np.unique(found.exact)) == len(np.unique(x, axis=0))


# From the public face, and by the verifier.


def network() -> recert.Network:
    return recert.vanilla(0.05 * np.eye(4), 2 * np.eye(4) - 0.5, 2 * np.eye(4))


def labelled(m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x = tokens(m, seed=seed)
    return x, np.random.default_rng(seed + 1).integers(0, 4, m)


def forged(found: recert.Certificate, id: str) -> recert.Certificate:
    """The same with a hypothesis declared, and sealed."""
    from dataclasses import replace

    innocent = {"fault": None, "shift": 0} if id == "iid" else {"fault": None, "own_fault": None}
    rows = tuple(
        replace(row, status="declared", facts={**row.facts, **innocent}) if row.id == id else row
        for row in found.assumptions
    )
    return replace(found, assumptions=rows)


def test_repeated_tokens_are_no_certificate() -> None:
    x, y = labelled(18)
    X, Y = np.tile(x, (500, 1)), np.tile(y, 500)
    found = recert.certify(network(), X, Y, max_length=10, bounds="margin_ball")
    row = found.assumption("iid")
    assert row.status == "violated" and "18 of 9,000 sequences are distinct" in row.evidence
    assert found.kind == "estimate" and recert.verify(found, network(), X, Y)
    assert not recert.verify(forged(found, "iid"), network(), X, Y)
    listed = recert.certify(
        network(), X, Y, max_length=10, bounds="margin_ball", population=100_000
    )
    assert listed.assumption("iid").status == "violated"


@pytest.mark.parametrize("times", [1, 2])
def test_training_units_held_out_are_no_certificate(times: int) -> None:
    x, y = labelled(300)
    X, Y = np.tile(x, (times, 1)), np.tile(y, times)
    common: dict[str, Any] = {"max_length": 10, "bounds": "held_out"}
    for held in ((x, y), (edited(x, 4), y), (x[:, 1:], y)):
        found = recert.certify(network(), X, Y, holdout=held, **common)
        assert found.assumption("holdout").status == "violated"
        assert found.kind == "estimate"
        assert recert.verify(found, network(), X, Y, holdout=held)
        assert not recert.verify(forged(found, "holdout"), network(), X, Y, holdout=held)
    fresh = labelled(300, seed=7)
    found = recert.certify(network(), X, Y, holdout=fresh, **common)
    assert found.assumption("holdout").status == "declared" and found.kind == "certificate"


def test_held_out_units_that_were_repeated_are_no_certificate() -> None:
    sample, (x, y) = labelled(500), labelled(200, seed=5)
    held = np.tile(x, (5, 1)), np.tile(y, 5)
    common: dict[str, Any] = {"max_length": 10, "bounds": "held_out", "holdout": held}
    found = recert.certify(network(), *sample, **common)
    row = found.assumption("holdout")
    assert row.status == "violated" and "themselves" in row.evidence
    assert not recert.verify(forged(found, "holdout"), network(), *sample, holdout=held)
