"""The Occam bound: its formula, how often it fails, and variants of it that fail too often.

python -m pytest tests/test_occam.py            # exact probabilities, a few dozen samples
python -m pytest tests/test_occam.py -m slow -s # 600 samples each, prints what it found
"""

from __future__ import annotations

import math
from collections import Counter
from functools import cache

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy.stats import binom

import recert
from recert.compression import CodedBlock, Grid, decode, encode, file_bytes, program_of
from recert.data import SyntheticLanguage
from recert.networks.margins import MarginTable
from recert.networks.norm_class import Cap
from recert.numerics.concentration import kl_inverse_upper
from recert.numerics.union_bound import Cost
from recert.theorems.occam import Occam, code_nats, rounded_up_error
from recert.theorems.setting import Setting
from test_coverage import LANGUAGE, PURE_NOISE, World, allowed, outputs

DELTA = 0.2
NETWORK = recert.vanilla(np.eye(1), np.ones((1, 2)), [[1.0], [-1.0]])


def setting(table: MarginTable, length: int | None, costs: tuple[Cost, ...] = ()) -> Setting:
    caps = {name: Cap(1.0) for name in "UWV"}
    return Setting(NETWORK, table, 4, 1.0, caps, choice_costs=costs, code_bytes=length)


def counted(errors: int, m: int) -> MarginTable:
    """A table with so many errors, one of them a tie."""
    margins = np.ones(m)
    margins[:errors] = -1.0
    margins[: min(errors, 1)] = 0.0
    return MarginTable(margins, m)


@cache
def limit(errors: int, m: int, length: int, delta: float = DELTA) -> float:
    return Occam().bound(setting(counted(errors, m), length), delta).value


# The formula.


def outward(value: float, risk: mpf, nats: mpf, m: int) -> bool:
    """Value is at least sup{p ≥ q : kl(q, p) ≤ nats/m}, and 1e-9 less would be below it."""

    def kl(p: mpf) -> mpf:
        if p >= 1:
            return mp.inf if risk < 1 else mpf(0)
        first = mpf(0) if risk == 0 else risk * mp.log(risk / p)
        return first + (mpf(0) if risk == 1 else (1 - risk) * mp.log((1 - risk) / (1 - p)))

    found = mpf(value)
    less = found * (1 - mpf("1e-9"))
    above = found >= 1 or kl(found) >= nats / m
    return above and found >= risk and (less <= risk or kl(less) <= nats / m)


def nats_of(length: int, delta: float, paid: float = 0.0) -> mpf:
    return 8 * length * mp.log(2) + mp.log(1 / mpf(delta)) + mpf(paid)


@given(
    st.integers(1, 5000),
    st.floats(0, 1),
    st.integers(0, 3000),
    st.sampled_from([0.5, 0.05, 1e-9]),
    st.sampled_from([0.0, 3.7]),
)
@settings(max_examples=60, deadline=None)
def test_the_value_is_the_formula_rounded_up(
    m: int, share: float, length: int, delta: float, paid: float
) -> None:
    errors = round(share * m)
    costs = (Cost("recipes", None, 40.0, paid),) if paid else ()
    bound = Occam().bound(setting(counted(errors, m), length, costs), delta)
    with mpmath.workdps(50):
        assert outward(bound.value, mpf(errors) / m, nats_of(length, delta, paid), m)
    assert bound.kind == "certificate" and bound.delta == delta and bound.cost == costs
    assert bound.choices == {"bytes": length, "bits": 8 * length}
    total = bound.terms["complexity_nats"] + bound.terms["confidence_nats"] + paid
    assert bound.terms["rate"] * m == pytest.approx(total, rel=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_fractional_losses_are_rounded_up(seed: int, n: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(n))
    margins = rng.normal(size=n) * rng.integers(0, 2, size=n)
    table = MarginTable(margins, max(1, n // 3), weights=weights)
    value = Occam().bound(setting(table, length), 0.1).value
    with mpmath.workdps(50):
        risk = mp.fsum(mpf(w) for w, a in zip(weights, margins, strict=True) if a <= 0)
        assert mpf(rounded_up_error(table)) >= min(risk, mpf(1))
        assert outward(value, min(risk, mpf(1)), nats_of(length, 0.1), table.m)


def test_nats_of_a_file_are_rounded_up() -> None:
    with mpmath.workdps(50):
        for length in (0, 1, 7, 300, 10**6):
            found = mpf(code_nats(length))
            assert 8 * length * mp.log(2) <= found <= 8 * length * mp.log(2) * (1 + mpf("1e-11"))


def test_margins_count_as_they_are_computed() -> None:
    """The program is the hypothesis: what float64 did to its margins is part of it."""
    plain = counted(30, 100)
    slack = MarginTable(plain.margins, 100, slack=5.0)
    values = [Occam().bound(setting(table, 9), 0.1).value for table in (plain, slack)]
    assert values[0] == values[1] < 1


def test_only_networks_from_files_are_certified() -> None:
    without = setting(counted(3, 10), None)
    assert "recert compress" in Occam().supports(without)
    assert Occam().supports(setting(counted(3, 10), 12)) == ""
    assert Occam().needs == ("iid", "predictor", "encoding", "step", "settings", "program")


# How often it fails, exactly: programs with independent errors, each of risk 1/2.
#
# With N programs of a length the smallest number of errors is below k with probability
# 1 − P(Bin(m, ½) ≥ k)^N, and the bound fails if some length's smallest number is small enough.

LENGTHS = range(1, 121)
M = 1000


@cache
def largest_failing(m: int, length: int) -> int:
    """The most errors at which the bound for that length is below 1/2; −1 for none."""
    low, high = -1, m  # the limit grows with the errors
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if limit(middle, m, length) < 0.5 else (low, middle)
    return low


def failure(m: int, programs: dict[int, float]) -> float:
    """Probability that some program's bound is below its risk 1/2; programs by length."""
    log_none = 0.0
    for length, number in programs.items():
        k = largest_failing(m, length)
        if k >= 0:
            log_none += number * math.log1p(-float(binom.cdf(k, m, 0.5)))
    return -math.expm1(log_none)


def test_a_full_prefix_code_fails_rarely_and_uses_its_share() -> None:
    """The byte strings of one length are a prefix code with nothing to spare."""
    found = [failure(M, {length: 256.0**length}) for length in (0, *LENGTHS)]
    assert max(found) <= DELTA and max(found) > 0.1 * DELTA
    shared = {length: 256.0**length / len(LENGTHS) for length in LENGTHS}
    assert 0.005 * DELTA < failure(M, shared) <= DELTA


def test_files_that_are_ended_by_their_end_fail_too_often() -> None:
    """Every string of every length is a file: networks hide in the length."""
    ended = {length: 256.0**length for length in LENGTHS}
    assert failure(M, ended) > 1.5 * DELTA
    # With the price of the length it holds again: ln(L_max + 1) nats, theory 5a.
    paid = {length: 256.0**length / (max(LENGTHS) + 1) for length in LENGTHS}
    assert failure(M, paid) <= DELTA


def simulated(runs: int, seed: int, programs: dict[int, float]) -> int:
    """The same by drawing the smallest number of errors of each length."""
    rng = np.random.default_rng(seed)
    cdf = binom.cdf(np.arange(M + 1), M, 0.5)
    failed = 0
    for _ in range(runs):
        for length, number in programs.items():
            u = -math.expm1(math.log(rng.random()) / number)  # smallest of so many uniforms
            errors = int(np.searchsorted(cdf, u))
            if limit(errors, M, length) < 0.5:
                failed += 1
                break
    return failed


@pytest.mark.slow
def test_idealised_codes_in_many_samples() -> None:
    runs = 600
    shared = {length: 256.0**length / len(LENGTHS) for length in LENGTHS}
    ended = {length: 256.0**length for length in LENGTHS}
    tight = max(range(M // 8), key=lambda length: failure(M, {length: 256.0**length}))
    good, bad = simulated(runs, 1, shared), simulated(runs, 2, ended)
    full = simulated(runs, 3, {tight: 256.0**tight})
    print(f"\nof {runs} {allowed(runs)} may fail; all lengths sharing: {good}, ", end="")
    print(f"one length alone: {full}, ended by the end: {bad}")
    assert good <= allowed(runs) < bad and 0 < full <= allowed(runs)


# Real files of real networks on a language of known risk.


@cache
def place(language: SyntheticLanguage, pool: int = 600, seed: int = 0) -> tuple[World, np.ndarray]:
    """A pool of coded networks as margins, and the lengths of their files."""
    rng = np.random.default_rng(seed)
    sentences, lengths, p = language.sentences()
    classes = language.class_probabilities(sentences, lengths)
    networks, sizes, signed = [], [], []
    for _ in range(pool):
        d = int(rng.integers(1, 3))
        shapes = {"U": (d, d), "W": (d, 2), "V": (2, d)}
        skeleton = recert.vanilla(*(np.zeros(shapes[name]) for name in "UWV"))
        integers = {name: rng.integers(-2, 3, size=shape) for name, shape in shapes.items()}
        program = program_of(
            skeleton, {name: CodedBlock((Grid(n, 1, -1),)) for name, n in integers.items()}
        )
        networks.append(program.network())
        sizes.append(file_bytes(program))
        signed.append(outputs(networks[-1], sentences))
    margins = np.concatenate([np.stack(signed), -np.stack(signed)], axis=1)
    labels = np.repeat([0, 1], len(sentences))
    tokens = np.concatenate([sentences, sentences])
    world = World(tokens, labels, np.concatenate(classes.T * p), tuple(networks), margins)
    return world, np.array(sizes)


def count_failures(runs: int, m: int, language: SyntheticLanguage, seed: int) -> Counter[str]:
    """An adversary takes, of all programs, the one that a sample flatters most."""
    world, sizes = place(language)
    rng, failed = np.random.default_rng(seed), Counter[str]()
    wrong = world.margins <= 0
    for _ in range(runs):
        counts = world.draw(m, rng)
        errors = (wrong @ counts).astype(int)
        gap = world.risks - errors / m
        luckiest = int(np.argmax(gap))
        # By its own bound, too: short files are cheap.
        values = kl_inverse_upper(errors / m, (sizes * 8 * math.log(2) - math.log(DELTA)) / m)
        picks = {luckiest, int(np.argmax(world.risks - values)), int(np.argmin(values))}
        outcome = set()
        for i in picks:
            risk, k = world.risks[i], int(errors[i])
            outcome |= {"occam"} if limit(k, m, int(sizes[i])) < risk else set()
            failed["occam below 1"] += limit(k, m, int(sizes[i])) < 1
            # Broken: the weights lie in a table of the package, the file says "the network".
            outcome |= {"hidden table"} if limit(k, m, 0) < risk else set()
            # Broken: the size of the weights is counted as if the grid had been known to be tiny.
            outcome |= {"one byte"} if limit(k, m, 1) < risk else set()
        failed.update(outcome)
    return failed


def check(runs: int, m: int, language: SyntheticLanguage, seed: int) -> Counter[str]:
    found = count_failures(runs, m, language, seed)
    assert found["occam"] <= allowed(runs)
    assert found["hidden table"] > allowed(runs)
    return found


def test_files_fail_rarely_and_hidden_tables_do_not() -> None:
    check(25, 60, PURE_NOISE, 1)
    found = check(15, 400, LANGUAGE, 2)
    assert found["occam below 1"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("m", [60, 200, 2000])
@pytest.mark.parametrize("language", [LANGUAGE, PURE_NOISE], ids=["majority", "noise"])
def test_files_fail_rarely_in_many_samples(m: int, language: SyntheticLanguage) -> None:
    runs = 600
    found = check(runs, m, language, seed=m)
    print(
        f"\nm = {m}, {runs} samples, δ = {DELTA}, {allowed(runs)} failures allowed: {dict(found)}"
    )


def test_the_pool_is_made_of_real_files() -> None:
    world, sizes = place(LANGUAGE)
    assert sizes.min() >= 5 and len(set(sizes)) > 3
    program = program_of(
        world.networks[0],
        {
            b.name: CodedBlock((Grid(np.rint(2 * b.value), 1, -1),))
            for b in world.networks[0].blocks()
        },
    )
    data = encode(program)
    assert len(data) == sizes[0]
    back = decode(data).network()
    assert np.array_equal(
        outputs(back, world.tokens), world.margins[0] * np.where(world.labels, -1, 1)
    )


# Networks hidden in the length of a file, with the decoder that makes it possible.


def hidden_in_length(index: int) -> bytes:
    """Broken: an empty file of that many bytes, of which the decoder counts none as content."""
    return b"\0" * index


def test_a_file_of_blanks_must_be_paid_for_by_its_length() -> None:
    """Three thousand programs as files of 0 to 2999 blank bytes, charged for their content only."""
    rng, runs, n = np.random.default_rng(5), 60, 3000
    failed = Counter[str]()
    for _ in range(runs):
        errors = rng.binomial(M, 0.5, size=n)
        i = int(np.argmin(errors))
        failed["content"] += limit(int(errors[i]), M, len(hidden_in_length(i).rstrip(b"\0"))) < 0.5
        failed["length"] += limit(int(errors[i]), M, len(hidden_in_length(i))) < 0.5
    assert failed["length"] <= allowed(runs) < failed["content"]
