"""Grids are searched robustly, costs form sub-probabilities, shares never exceed delta."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recert.errors import InputError
from recert.numerics import union_bound
from recert.numerics.union_bound import Cost, FiniteChoice, GeometricGrid

grids = st.builds(GeometricGrid, st.floats(1e-6, 1e6), st.floats(1.01, 10.0))
positive = st.floats(-30, 30).map(lambda e: 10.0**e)


@settings(max_examples=200, deadline=None)
@given(grids, positive)
def test_indices_bracket_any_number(grid, x):
    up, down = grid.index_at_least(x), grid.index_at_most(x)
    assert grid.value(up) >= x > grid.value(up - 1)
    assert grid.value(down) <= x < grid.value(down + 1)
    assert up - down in (0, 1)


@settings(max_examples=200, deadline=None)
@given(grids, st.integers(-500, 500), st.integers(-1, 1))
@example(union_bound.CAP_GRID, 7, 1)
def test_indices_are_exact_at_and_beside_grid_points(grid, j, side):
    if not 1e-200 < grid.base * grid.ratio ** min(j, 200) < 1e200 or abs(j) > 200:
        return
    x = grid.value(j)
    x = x if side == 0 else math.nextafter(x, math.inf * side)
    assert grid.index_at_least(x) == j + (side > 0)
    assert grid.index_at_most(x) == j - (side < 0)


@pytest.mark.parametrize(
    "grid", [union_bound.MARGIN_GRID, union_bound.CAP_GRID, union_bound.SCALE_GRID]
)
def test_package_grids(grid):
    assert grid.value(0) == 1.0 and grid.index_at_least(1.0) == grid.index_at_most(1.0) == 0
    indices = grid.values_between(0.5, 2.0)
    assert indices.tolist() == list(range(indices[0], -indices[0] + 1))
    assert grid.value(int(indices[0])) >= 0.5 > grid.value(int(indices[0]) - 1)
    values = [grid.value(j) for j in range(-500, 501)]
    assert all(a < b for a, b in itertools.pairwise(values))


def test_values_between_may_be_empty():
    grid = GeometricGrid(1.0, 2.0)
    assert grid.values_between(1.1, 1.9).tolist() == []
    assert grid.values_between(1.0, 8.0).tolist() == [0, 1, 2, 3]


def test_grid_cost_is_a_sub_probability():
    partial = sum(
        (Fraction(1, 2 * (abs(j) + 1) * (abs(j) + 2)) for j in range(-400, 401)), Fraction(0)
    )
    assert partial < Fraction(3, 4)
    js = range(-1000, 1001)
    assert math.fsum(math.exp(-GeometricGrid.cost(j)) for j in js) <= 0.75
    for j in (0, 1, -1, 17, 10**6):
        exact = math.log(2 * (abs(j) + 1) * (abs(j) + 2))
        assert exact <= GeometricGrid.cost(j) <= exact * (1 + 1e-15)
    assert GeometricGrid.cost(np.int64(-3)) == GeometricGrid.cost(3)


def test_finite_choice():
    assert FiniteChoice(1).cost() == 0.0
    assert math.log(12) <= FiniteChoice(12).cost(11) <= math.log(12) * (1 + 1e-15)
    for bad in (-1, 12):
        with pytest.raises(InputError, match="item index"):
            FiniteChoice(12).cost(bad)
    with pytest.raises(InputError, match="at least one"):
        FiniteChoice(0)


def test_total_nats_rounds_up():
    rows = [Cost(f"choice {i}", i, 1.0, 0.1 * (i + 1)) for i in range(50)]
    total = union_bound.total_nats(rows)
    assert total >= sum((Fraction(r.nats) for r in rows), Fraction(0))
    assert total == pytest.approx(127.5)
    assert union_bound.total_nats([]) == 0.0
    assert union_bound.total_nats([Cost("step", None, 3.0, 0.5)] * 4) == 2.0
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="nats"):
            Cost("margin", 0, 1.0, bad)


@settings(max_examples=150, deadline=None)
@given(
    st.floats(1e-12, 0.999),
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12),
    st.booleans(),
)
def test_split_delta_never_exceeds_delta(delta, weights, mapping):
    names = [f"method {i}" for i in range(len(weights))]
    given_weights = dict(zip(names, weights, strict=True)) if mapping else weights
    shares = union_bound.split_delta(delta, names, given_weights)
    assert list(shares) == names
    assert sum(map(Fraction, shares.values())) <= Fraction(delta)
    for name, w in zip(names, weights, strict=True):
        assert shares[name] == pytest.approx(delta * w / math.fsum(weights), rel=1e-13)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, math.nan])
def test_split_delta_says_what_a_failure_probability_is(delta):
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        union_bound.split_delta(delta, ["a"])


def test_split_delta_equal_shares():
    assert union_bound.split_delta(0.05, ["a", "b"]) == {"a": 0.025, "b": 0.025}
    assert union_bound.split_delta(0.05, ("only",)) == {"only": 0.05}


@pytest.mark.parametrize(
    ("delta", "names", "weights"),
    [
        (0.0, ["a"], None),
        (1.0, ["a"], None),
        (math.nan, ["a"], None),
        (0.1, [], None),
        (0.1, "ab", None),
        (0.1, ["a", "a"], None),
        (0.1, ["a", "b"], [1.0]),
        (0.1, ["a", "b"], {"a": 1.0, "c": 1.0}),
        (0.1, ["a", "b"], [1.0, 0.0]),
        (0.1, ["a", "b"], [1.0, math.inf]),
        (5e-324, ["a", "b"], [1.0, 1.0]),
    ],
)
def test_split_delta_bad_input(delta, names, weights):
    with pytest.raises(InputError):
        union_bound.split_delta(delta, names, weights)


@pytest.mark.parametrize(
    "call",
    [
        lambda: GeometricGrid(0.0, 2.0),
        lambda: GeometricGrid(math.inf, 2.0),
        lambda: GeometricGrid(1.0, 1.0),
        lambda: GeometricGrid(1.0, math.nan),
        lambda: GeometricGrid(1.0, 2.0).index_at_least(0.0),
        lambda: GeometricGrid(1.0, 2.0).index_at_most(math.inf),
        lambda: GeometricGrid(1.0, 2.0).value(5000),
        lambda: GeometricGrid(1.0, 2.0).value(-5000),
        lambda: GeometricGrid(1.0, 2.0).value(0.5),
        lambda: GeometricGrid(1.0, 2.0).values_between(2.0, 1.0),
    ],
)
def test_grid_bad_input(call):
    with pytest.raises(InputError):
        call()
