"""Margins of the verifier: enclosures hold, operation by operation and for whole networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("flint")

from flint import ctx

import family
import recert
from recert.verifier.forward import HELD_BALLS
from recert.verifier.margins import Balls, Decided
from recert.verifier.pairs import ACTIVATIONS, Matrix, Pair, spectral
from recert.verifier.sample import GivenSample
from test_verify_full import KINDS, T, case_of, exact_margin, walk_of

BITS = 400
# Room for the doubles of a test's own arithmetic.
ROOM = 1e-12


def moved(rng: np.random.Generator, x: np.ndarray, how: str, size: float) -> Pair:
    """A value that is off by as much as it says: at a corner of its box, or by a whole row."""
    signs = rng.choice([-1.0, 1.0], x.shape)
    if how == "box":
        e = size * rng.uniform(0.1, 1.0, x.shape)
        return Pair.of(x + signs * e, e * (1.0 + ROOM))
    # One direction, its length known, its entries not.
    direction = signs * rng.exponential(size=x.shape) ** 3
    direction *= size / np.linalg.norm(direction, axis=1, keepdims=True)
    e, s = np.full_like(x, size), np.full(len(x), size)
    return Pair.of(x + direction, e * (1.0 + ROOM), s * (1.0 + ROOM))


Operation = tuple[Callable[..., Pair], Callable[..., np.ndarray]]


def sigmoid(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1.0 / (1.0 + np.exp(-x))
    return found


def operations(rng: np.random.Generator, d: int) -> dict[str, Operation]:
    """Each operation on pairs, and in doubles."""
    A = rng.normal(size=(d, d))
    # A line that sends every error into one place.
    ones = np.ones((1, d))
    gates = lambda r, a, b: (1.0 - sigmoid(r)) * a + sigmoid(r) * b  # noqa: E731
    found: dict[str, Operation] = {
        "under": (lambda p, q, r: p.under(Matrix.of(A)), lambda p, q, r: p @ A.T),
        "sum": (lambda p, q, r: p.under(Matrix.of(ones)), lambda p, q, r: p @ ones.T),
        "plus": (lambda p, q, r: p.plus(q), lambda p, q, r: p + q),
        "times": (lambda p, q, r: p.times(q), lambda p, q, r: p * q),
        "scaled": (lambda p, q, r: p.scaled(np.full(p.n, 3.0)), lambda p, q, r: p / 3.0),
        "beside": (lambda p, q, r: p.beside(q), lambda p, q, r: np.concatenate([p, q], axis=1)),
        "between": (
            lambda p, q, r: r.activation("sigmoid").between(p, q), lambda p, q, r: gates(r, p, q),
        ),
    }  # fmt: skip
    for name, (function, *_) in ACTIVATIONS.items():
        found[name] = (
            lambda p, q, r, name=name: p.activation(name),
            lambda p, q, r, function=function: function(p),
        )
    return found


def worst(seed: int, name: str, how: str, size: float, shrink: float = 1.0) -> float:
    """By which share of its bounds an operation's result is off at most, entries and rows."""
    rng = np.random.default_rng(seed)
    # Small values too, where curves are steepest and kinks lie.
    exact = [rng.normal(size=(5, 4)) * rng.choice([1e-3, 0.3, 3.0]) for _ in range(3)]
    on_pairs, plain = operations(rng, 4)[name]
    found = on_pairs(*(moved(rng, x, how, size) for x in exact))
    off = np.abs(found.v - plain(*exact))
    bounds = shrink * found.e + ROOM, shrink * found.s + ROOM
    return float(max((off / bounds[0]).max(), (np.linalg.norm(off, axis=1) / bounds[1]).max()))


NAMES = (*operations(np.random.default_rng(0), 4),)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["box", "row"]), st.sampled_from([1e-6, 0.05, 1.0]))
def test_an_operation_encloses_whatever_its_inputs_enclose(
    name: str, seed: int, how: str, size: float
) -> None:
    assert worst(seed, name, how, size) <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_half_of_a_bound_would_not_hold(name: str) -> None:
    """The test above can fail: for every operation, some inputs reach more than half its bounds."""
    shares = [
        worst(seed, name, how, size, shrink=0.5)
        for seed in range(60)
        for how in ("box", "row")
        for size in (1e-6, 0.05)
    ]
    assert max(shares) > 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 9), st.integers(1, 9), st.integers(-320, 300))
def test_spectral_norms_are_bounded_closely(seed: int, n: int, d: int, power: int) -> None:
    A = np.random.default_rng(seed).normal(size=(n, d))
    norm = np.linalg.norm(A, 2)
    scaled = A * 10.0**power
    found = spectral(scaled)
    with mpmath.workdps(40):
        # What underflowed on the way is in the matrix, not in this norm.
        assert (
            mpmath.mpf(found) >= mpmath.mpf(norm) * (1 - 1e-12) * mpmath.mpf(10.0**power) - 1e-322
        )
    assert power < -290 or found <= norm * 10.0**power * (1.0 + 1e-2)
    assert spectral(np.zeros((3, 2))) == 0.0 and spectral(np.full((2, 2), np.inf)) == np.inf


def in_balls(walk: Any, x: Any, labels: Any, lengths: Any) -> list[Any]:
    with ctx.workprec(BITS):
        pieces = walk.pieces(Balls, HELD_BALLS, x, labels, lengths)
        return [M for found, _ in pieces for M in found]


@pytest.mark.parametrize("name", KINDS)
def test_doubles_and_balls_enclose_the_same_margins(name: str) -> None:
    net, (x, y, n, _), options = case_of(name, m=9)
    walk, cut = walk_of(net, options), options["max_length"]
    lengths = np.minimum(np.full(9, T) if n is None else n, cut)
    x, labels = x[:, :cut].astype(float if x.ndim == 3 else int), y
    labels = np.maximum(y[:, :cut] if y.ndim == 2 else y, 0)
    found = walk.margins(x, labels, lengths)
    balls = in_balls(walk, x, labels, lengths)
    with ctx.workprec(BITS):
        off = [float(abs(ball - M).upper()) for ball, M in zip(balls, found.M, strict=True)]
        assert all(float(ball.rad()) < 1e-90 for ball in balls)
    assert all(a <= e for a, e in zip(off, found.e, strict=True)) and max(found.e) < 1e-8


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["lstm", "gru"]), st.sampled_from([0.5, 2.0, 6.0]))
def test_balls_and_doubles_hold_against_mpmath(seed: int, cell: str, scale: float) -> None:
    rng = np.random.default_rng(seed)
    net = family.random_network(rng, cell, scale=scale, d_h=3)
    x, y = rng.standard_normal((2, 8, 4)), rng.integers(0, 3, 2)
    found = walk_of(net, {}).margins(x, y, np.full(2, 8))
    balls = in_balls(walk_of(net, {}), x, y, np.full(2, 8))
    with mpmath.workdps(150):
        for i in range(2):
            exact = exact_margin(net, x[i], int(y[i]))
            assert abs(exact - found.M[i]) <= found.e[i]
            middle, away = mpmath.mpf(balls[i].mid().str(140, radius=False)), balls[i].rad()
            assert abs(exact - middle) <= mpmath.mpf(float(away)) + mpmath.mpf(10) ** -100


def growing() -> tuple[Any, GivenSample]:
    """A network that enlarges what it is given 2.5-fold at a step, and 40 sequences of 60."""
    rng = np.random.default_rng(3)
    U = rng.standard_normal((16, 16))
    U *= 2.5 / np.linalg.norm(U, 2)
    net = recert.vanilla(U, rng.standard_normal((16, 4)), rng.standard_normal((3, 16)))
    x, y = rng.integers(0, 4, (40, 60)), rng.integers(0, 3, 40)
    return net, GivenSample(x, y, np.full(40, 60), np.arange(40), 60, 0)


def test_what_doubles_leave_open_balls_decide_within_their_work() -> None:
    net, sample = growing()
    walk = walk_of(net, {})
    margins = walk.margins(sample.x, sample.labels, sample.lengths)
    decided = Decided(walk, sample, margins)
    assert decided.open(0.0).any()
    decided.decide(0.0)
    assert not decided.open(0.0).any()
    exact = in_balls(walk, sample.x, sample.labels, sample.lengths)
    assert [bool(M > 0) for M in exact] == list(decided.above(0.0))
    idle = Decided(walk, sample, margins, work=1.0)
    idle.decide(0.0)
    assert (idle.open(0.0) == Decided(walk, sample, margins).open(0.0)).all()
    # Bounds that are too small decide too early, and wrongly somewhere.
    hasty = Decided(walk, sample, replace(margins, e=margins.e * 0.0))
    assert not hasty.open(0.0).any()


def test_ties_are_decided_where_they_are_exact() -> None:
    net, sample = growing()
    still = recert.vanilla(net.block("U").value, net.block("W").value, np.zeros((3, 16)))
    walk = walk_of(still, {})
    decided = Decided(walk, sample, walk.margins(sample.x, sample.labels, sample.lengths))
    decided.decide(0.0)
    assert decided.below(0.0).all() and not decided.beneath(0.0).any()
