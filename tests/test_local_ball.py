"""The local margin ball as a statement: its value, how it reads a sample, how often it fails.

python -m pytest tests/test_local_ball.py -m slow -s   # 500 samples, prints what it found
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
import pytest

import family
import recert
from recert.certification.certify import prepare
from recert.networks.blocks import Block
from recert.networks.layers import group_average
from recert.networks.network import Head, Network, vanilla
from recert.numerics.concentration import kl_inverse_lower, kl_inverse_upper, maurer_log_term
from recert.numerics.union_bound import total_nats
from recert.perturbation import posterior_risk
from recert.perturbation import radius_search as radii_module
from recert.perturbation.ball import BallParts, parts_of
from recert.perturbation.posterior_risk import Sequences
from recert.perturbation.radius_search import on_grid
from recert.samples import sample as sample_module
from recert.theorems.local_ball import LocalBall
from recert.theorems.setting import Setting
from test_coverage import CAPS, DELTA, LANGUAGE, PURE_NOISE, adversary, allowed, world

Array = np.ndarray


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short search and few draws: what is found is worse, and as true."""
    monkeypatch.setattr(radii_module, "ROUNDS", 20)
    few_draws(monkeypatch, 400)


def few_draws(monkeypatch: pytest.MonkeyPatch, draws: int) -> None:
    monkeypatch.setattr(posterior_risk, "FEWEST", draws)
    monkeypatch.setattr(posterior_risk, "MOST", draws)


def bound(setting: Setting, delta: float = DELTA) -> recert.Bound:
    theorem = LocalBall()
    assert theorem.supports(setting) == ""
    return theorem.bound(setting, delta)


def parts_in(setting: Setting, columns: bool) -> BallParts:
    return parts_of(tuple(setting.network.blocks()), columns=columns)


def labels_of(net: Network, x: Array, rng: np.random.Generator, **reading: Any) -> Array:
    """What the network answers itself, and now and then something else."""
    from recert.networks.forward import network_predictor

    lengths = reading.get("lengths", np.full(len(x), x.shape[1]))
    y = network_predictor(net)(x, np.asarray(lengths), reading.get("at", "last")).argmax(axis=1)
    return np.where(rng.random(len(x)) < 0.1, rng.integers(0, net.K, len(x)), y)


# Readings.

READINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lengths": ({"cell": "vanilla", "tokens": True}, {"lengths": True}),
    "a step": ({"cell": "gru", "tokens": True}, {"at": 3}),
    "a step, two ways": ({"cell": "mgu", "tokens": True, "two_way": True}, {"at": 3}),
    "final, two ways": (
        {"cell": "lstm", "tokens": True, "two_way": True, "layers": 2, "read": "final"},
        {"lengths": True},
    ),
    "mean": ({"cell": "gru", "tokens": True, "read": "mean", "K": 2}, {"lengths": True}),
    "cut": ({"cell": "vanilla", "tokens": True, "embedding": 3}, {"max_length": 4}),
    "float32": ({"cell": "gru_original", "encoder": 3}, {"input_bound": 9.0}),
    "enforced": ({"cell": "vanilla", "hidden": 3}, {"input_bound": recert.Enforced(0.5)}),
    "groups": ({"cell": "conv", "embedding": 4, "tokens": True}, {"groups": True}),
}


def case_of(name: str, m: int = 36) -> Setting:
    rng = np.random.default_rng(sum(map(ord, name)))
    kind, reading = READINGS[name]
    kind, reading = dict(kind), dict(reading)
    net = family.random_network(rng, kind.pop("cell"), d_h=4, **{"K": 3, **kind})
    T = 6
    if net.input_kind == "onehot":
        x = rng.integers(0, 4, (m, T))
    else:
        x = rng.standard_normal((m, T, 4)).astype(np.float32)
    if reading.pop("lengths", False):
        reading["lengths"] = rng.integers(1, T + 1, m)
    if reading.pop("groups", False):
        reading["groups"] = rng.integers(0, m // 3, m)
    y = labels_of(net, x, rng, **{k: reading[k] for k in ("lengths", "at") if k in reading})
    return prepare(net, x, y, delta=DELTA, **{"max_length": T, **reading}).setting


@pytest.mark.parametrize("name", READINGS)
def test_the_passes_read_what_the_table_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "BATCH", 16)
    setting = case_of(name)
    assert setting.reread is not None
    data, parts = (
        Sequences.of(setting.reread()),
        parts_in(setting, True),
    )
    still = data.losses(setting.network, parts, np.zeros(parts.count), data.all())
    np.testing.assert_allclose(still.M.min(axis=0), setting.table.margins, rtol=1e-9, atol=1e-9)


def test_batches_that_are_read_once_and_averages_over_steps_are_refused() -> None:
    setting = case_of("lengths")
    assert LocalBall().supports(replace(setting, reread=None))
    rng = np.random.default_rng(0)
    net = family.random_network(rng, "vanilla", tokens=True)
    x, y = rng.integers(0, 4, (9, 3)), rng.integers(0, 3, (9, 3))
    every = prepare(net, x, y, at="average", max_length=3).setting
    once = prepare(net, [(x, y[:, 0])], max_length=3).setting
    assert "averaged" in LocalBall().supports(every)
    assert "read only once" in LocalBall().supports(once)


# The value.


def kl_upper(q: float, c: float) -> Any:
    """sup{p : kl(q, p) ≤ c} by bisection in mpmath."""
    q_, lo, hi = mpmath.mpf(q), mpmath.mpf(q), mpmath.mpf(1)

    def kl(p: Any) -> Any:
        left = q_ * mpmath.log(q_ / p) if q_ else mpmath.mpf(0)
        return left + ((1 - q_) * mpmath.log((1 - q_) / (1 - p)) if q_ < 1 else 0)

    for _ in range(120):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if kl(middle) <= c else (lo, middle)
    return lo


@pytest.mark.parametrize("name", ["lengths", "enforced", "groups", "a step, two ways"])
def test_the_value_is_the_statement_at_its_own_choices(name: str) -> None:
    setting = case_of(name, 400 if name != "groups" else 1600)
    found = bound(setting)
    terms, choices, m = found.terms, found.choices, setting.m
    blocks = tuple(setting.network.blocks())
    parts = next(
        p for p in (parts_of(blocks, columns=True), parts_of(blocks, columns=False))
        if p.count == len(choices["parts"])
    )  # fmt: skip
    far, caps = np.exp(choices["log_radii"]), np.exp(choices["log_caps"])
    for b in blocks:
        first, last = parts.starts[b.name]
        lengths = np.linalg.norm(b.value, axis=0) if parts.split(b) else [b.norm_bound()]
        assert (np.array(lengths) <= caps[first:last] * (1 + 1e-9)).all()
    with mpmath.workdps(40):
        nats = sum(
            p * mpmath.log1p(mpmath.mpf(c) / e)
            for p, c, e in zip(parts.parameters, caps, far, strict=True) if p
        )  # fmt: skip
        share = mpmath.mpf(terms["delta_of_draws"])
        confidence = mpmath.log(2 * mpmath.sqrt(m) / (mpmath.mpf(DELTA) - share))
        rate = (nats + confidence + sum(mpmath.mpf(row.nats) for row in found.cost)) / m
        bound_on_risk = mpmath.mpf(terms["posterior_risk"])
        if terms["draws"]:
            lost = terms["draws_lost"] / terms["draws"]
            limit = kl_upper(lost, mpmath.log(1 / share) / int(terms["draws"]))
            risk_found = terms["lost_outright"] + terms["undecided"] * limit
            assert risk_found - 1e-9 <= bound_on_risk <= risk_found + 1e-9 or bound_on_risk == 1
        exact = kl_upper(float(bound_on_risk), rate)
        assert exact - mpmath.mpf(10) ** -9 <= found.value <= exact + mpmath.mpf(10) ** -9
    what = " ".join(row.what for row in found.cost)
    assert all(f"radius of {b.name}," in what and f"cap of {b.name}" in what for b in blocks)
    assert ("columns apart" in what) == any(b.norm == "column" for b in blocks)


def test_what_is_counted_is_what_is_lost_unit_by_unit() -> None:
    """Groups: the mean over groups of means over their sequences, of what one by one is lost."""
    setting = case_of("groups", 45)
    assert setting.reread is not None and setting.table.weights is not None
    data, parts = (
        Sequences.of(setting.reread()),
        parts_in(setting, False),
    )
    far = np.array([0.002 * setting.caps[b.name].norm for b in parts.blocks])
    found = posterior_risk.reached(setting.network, data, setting.table, parts, far)
    alone = [data.left(setting.network, parts, 2 * far, np.array([i]))[0] <= 0 for i in data.all()]
    expected = float(setting.table.weights @ np.array(alone))
    assert found.bound == pytest.approx(expected, abs=1e-9) and 0 < expected < 1
    assert found.bound >= expected


@pytest.mark.parametrize("name", ["lengths", "enforced", "a step, two ways"])
def test_every_draw_reaches_the_trained_network(name: str) -> None:
    """1[M_w ≤ 0] ≤ L(f, ·): w lies within ε of f, so what is left at f is at most M_w."""
    setting = case_of(name)
    assert setting.reread is not None
    data, parts = Sequences.of(setting.reread()), parts_in(setting, True)
    rng, every = np.random.default_rng(0), np.repeat(data.all(), 5)
    norms = [np.full(np.ptp(parts.starts[n]), cap.norm) for n, cap in setting.caps.items()]
    for share in (1e-4, 1e-2, 0.3):
        far = share * np.concatenate(norms)
        left = data.left_of_draws(
            setting.network, parts, far, posterior_risk.REACH * far, every, rng
        )
        assert (left <= setting.table.margins[every] + 1e-9).all()
        # A loss that reaches less far does not hold the trained network.
        short = data.left_of_draws(setting.network, parts, far, 0.2 * far, every, rng)
        assert share > 0.1 or (short > setting.table.margins[every] + 1e-9).any()


def test_the_limit_of_draws_fails_as_rarely_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = case_of("cut", 30)
    assert setting.reread is not None
    data, network = Sequences.of(setting.reread()), setting.network
    parts = parts_in(setting, True)
    far = np.full(parts.count, 0.04)

    def draw(seed: int, draws: int) -> posterior_risk.Risk:
        few_draws(monkeypatch, draws)
        monkeypatch.setattr(posterior_risk, "SEED", seed)
        return posterior_risk.drawn(network, data, setting.table, parts, far, 0.2)

    many = draw(1, 1500)
    truth = many.outright + many.undecided * many.lost / many.draws
    assert many.undecided > 0.1 and 0.05 < many.lost / many.draws < 0.95
    few = [draw(seed, 40) for seed in range(40)]
    assert sum(one.bound < truth for one in few) <= allowed(40, 0.2)
    plain = [one.outright + one.undecided * one.lost / one.draws for one in few]
    assert sum(one < truth for one in plain) > allowed(40, 0.2)


# Odd networks.


def odd(name: str) -> tuple[Network, Array, Array]:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (30, 4)), rng.integers(0, 2, 30)
    one = np.ones((1, 1))
    if name == "one unit, one letter":
        return vanilla(0.1 * one, one, np.array([[1.0], [-1.0]])), 0 * x, 0 * y
    if name == "one sequence":
        return family.random_network(rng, "gru", K=2, tokens=True), x[:1], y[:1]
    if name == "all zero":
        return vanilla(np.zeros((2, 2)), np.zeros((2, 4)), np.zeros((2, 2))), x, y
    if name == "all wrong":
        return vanilla(0.1 * one, np.ones((1, 4)), np.array([[1.0], [-1.0]])), x, 0 * y + 1
    if name == "padding":
        net = family.random_network(rng, "vanilla", K=2, tokens=True)
        W = Block("W", net.block("W").value * [1, 1, 0, 1], "column", (2,))
        layer = replace(net.layers[0], blocks={**net.layers[0].blocks, "W": W})
        return replace(net, layers=(layer,)), np.tile(x, (25, 1)), np.tile(y, 25)
    if name == "pooled":
        V = Block("V", rng.standard_normal((5, 3)), "spectral")
        net = vanilla(np.eye(3), rng.standard_normal((3, 4)), V.value[:2])
        net = replace(net, head=Head(V, pool=group_average(5, 2)))
        return net, np.tile(x, (25, 1)), np.tile(y, 25)
    if name == "many letters":
        net = family.random_network(rng, "vanilla", d_x=300, K=2, tokens=True)
        return net, rng.integers(0, 300, (30, 4)), y
    x, y = np.tile(x, (25, 1)), np.tile(y, 25)
    scale = {"explodes": 30.0, "grows": 1.5, "saturated": 1e3, "vanishes": 1e-156, "faint": 1e-320}
    U, W, V = rng.normal(size=(3, 3)), rng.normal(size=(3, 4)), rng.normal(size=(2, 3))
    s, kind = scale[name], "relu" if name in ("explodes", "grows") else "tanh"
    x = np.tile(x, (1, 20 if kind == "relu" else 1))
    return vanilla(s * U, s * W, s * V, activation=kind), x, y


VALUED = ("one unit, one letter", "padding", "pooled", "explodes", "grows", "saturated")


@pytest.mark.parametrize("name", [
    "one unit, one letter", "one sequence", "all zero", "all wrong", "padding", "pooled",
    "many letters", "explodes", "grows", "saturated", "vanishes", "faint",
])  # fmt: skip
def test_odd_networks_have_values(name: str) -> None:
    net, x, y = odd(name)
    setting = prepare(net, x, y, max_length=80, delta=DELTA).setting
    found = bound(setting)
    hopeless = found.kind == "not applicable"
    assert hopeless == (name not in VALUED)
    assert (
        found.reason.startswith("skipped as hopeless: to first order no radii promise")
        if hopeless
        else setting.table.error <= found.value <= 1.0
    )


def test_a_network_cannot_be_scaled_until_moves_go_unseen() -> None:
    """A ReLU network with W times s and V times 1/s is the same function, and as complex."""
    rng = np.random.default_rng(3)
    U, W, V = rng.normal(size=(2, 2)), np.abs(rng.normal(size=(2, 4))), rng.normal(size=(2, 2))
    x = rng.integers(0, 4, (300, 3))
    net = vanilla(U, W, V, activation="relu")
    y = labels_of(net, x, rng)
    plain = bound(prepare(net, x, y, max_length=3, delta=DELTA).setting)
    assert plain.value < 1.0
    values = []
    for down, up in ((1e-90, 1e90), (1e-163, 1e150), (1e-170, 1e150)):
        same = vanilla(U, down * W, up * V, activation="relu")
        values.append(bound(prepare(same, x, y, max_length=3, delta=DELTA).setting).value)
    assert np.isfinite(values[0]) and not (np.array(values) <= 0.9 * plain.value).any()


# Coverage.

LETTERS = 300  # more than columns that move apart


def memoriser(x: Array, y: Array, rng: np.random.Generator, margin: float) -> Network:
    """For every letter the label that the sample shows most often; labels are coin tosses."""
    votes = np.bincount(x[:, 0], weights=1.0 - 2.0 * y, minlength=LETTERS)
    signs = np.where(votes == 0, rng.choice([-1, 1], LETTERS), np.sign(votes))
    return vanilla(np.zeros((1, 1)), signs[None, :] * margin, np.array([[1.0], [-1.0]]))


def at_shares(setting: Setting, share: float, reach: float, price: float, inverse: Any) -> float:
    """The statement with every radius a share of its cap; ``reach`` 2 and ``price`` 1 are right."""
    assert setting.reread is not None
    data, m = Sequences.of(setting.reread()), setting.m
    parts = parts_in(setting, False)
    caps = {name: cap.norm for name, cap in setting.caps.items()}
    chosen = on_grid(parts, share * np.array(list(caps.values())), caps)
    lost = data.left(setting.network, parts, reach * chosen.radii, data.all()) <= 0.0
    costs = total_nats((*setting.cap_costs, *setting.choice_costs, *chosen.costs))
    rate = (price * (chosen.nats(parts) + costs) + maurer_log_term(m, DELTA)) / m
    return float(inverse(setting.table.share(lost), rate))


SHARES = (64.0, 8.0, 0.2, 0.01, 1e-4)
VARIANTS = {
    "as stated": (2.0, 1.0, kl_inverse_upper),
    "plain errors": (0.0, 1.0, kl_inverse_upper),
    "unpaid": (2.0, 0.0, kl_inverse_upper),
    "a tenth paid": (2.0, 0.1, kl_inverse_upper),
    "lower inverse": (2.0, 1.0, kl_inverse_lower),
}


def coin_failures(runs: int, seed: int, whole: int) -> Counter[str]:
    """Labels are tosses of a coin, so every network errs on half of what is new."""
    rng, failures = np.random.default_rng(seed), Counter()
    for run in range(runs):
        x, y = rng.integers(0, LETTERS, (1000, 1)), rng.integers(0, 2, 1000)
        net = memoriser(x, y, rng, float(rng.choice([0.5, 2.0, 10.0])))
        setting = prepare(net, x, y, max_length=1, delta=DELTA).setting
        for name, variant in VARIANTS.items():
            failures[name] += min(at_shares(setting, s, *variant) for s in SHARES) < 0.5
        if run < whole:
            failures["local_ball"] += bound(setting).value < 0.5
    return failures


def check_coins(runs: int, seed: int, whole: int) -> Counter[str]:
    found = coin_failures(runs, seed, whole)
    assert found["local_ball"] <= allowed(whole) and found["as stated"] <= allowed(runs)
    for name in ("plain errors", "unpaid", "a tenth paid", "lower inverse"):
        assert found[name] > allowed(runs), name
    return found


def language_failures(runs: int, m: int, language: Any, seed: int) -> Counter[str]:
    """As tests/test_coverage.py: networks that a sample flatters, from a pool of known risks."""
    place, rng, failures = world(language), np.random.default_rng(seed), Counter()
    for _ in range(runs):
        counts, failed = place.draw(m, rng), Counter()
        for i in adversary(place, counts)[:1]:
            x, y = place.sample(counts)
            order = rng.permutation(m)
            case = prepare(
                place.networks[i], x[order], y[order], max_length=4, caps=CAPS, delta=DELTA
            )
            value = bound(case.setting).value
            failures["below 1"] += value < 1
            failed["local_ball"] |= value < place.risks[i]
            small = min(at_shares(case.setting, s, *VARIANTS["as stated"]) for s in SHARES)
            failed["as stated"] |= small < place.risks[i]
            lower = VARIANTS["lower inverse"]
            failed["lower inverse"] |= at_shares(case.setting, 0.01, *lower) < place.risks[i]
        failures.update(failed)
    return failures


def check_language(runs: int, m: int, language: Any, seed: int) -> Counter[str]:
    found = language_failures(runs, m, language, seed)
    assert found["local_ball"] <= allowed(runs) and found["as stated"] <= allowed(runs)
    assert found["lower inverse"] > allowed(runs)
    return found


def test_it_fails_rarely_where_its_broken_variants_do_not() -> None:
    check_coins(8, 1, 1)
    assert check_language(7, 300, LANGUAGE, 1)["below 1"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_it_fails_rarely_on_many_samples_of_coins(seed: int) -> None:
    print(f"\ncoins, 100 samples, δ = {DELTA}: {dict(check_coins(100, 10 + seed, 100))}")


@pytest.mark.slow
@pytest.mark.parametrize("m", [100, 1000, 10_000])
@pytest.mark.parametrize("language", [LANGUAGE, PURE_NOISE], ids=["majority", "noise"])
def test_it_fails_rarely_on_many_samples_of_languages(m: int, language: Any) -> None:
    runs = 500 if m <= 1000 else 100
    print(f"\nm = {m}, {runs} samples, δ = {DELTA}: {dict(check_language(runs, m, language, m))}")
