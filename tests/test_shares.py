"""How many units make the prior: power laws, the rule, and that it looks at the pilot alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recert.data import SyntheticLanguage
from recert.errors import InputError
from recert.numerics.concentration import kl_inverse_upper

pytest.importorskip("torch")

from recert.training import Recipe, prior
from recert.training.posterior import train_posterior
from recert.training.prior import LearningCurve, learning_curve, prior_units
from recert.training.recipes import PosteriorRecipe, RecipeCandidate

RULE = {"nats": 7.0, "closeness": 0.05, "disagreement": 0.003, "delta": 2e-4}


@given(st.floats(0.01, 5.0), st.floats(0.0, 0.5), st.integers(50, 10_000))
def test_a_power_law_is_found_again(scale: float, slope: float, n: int) -> None:
    sizes = [n, 2 * n, 4 * n]
    errors = [scale * size**-slope for size in sizes]
    curve = learning_curve(sizes, errors, trial=10**9)
    assert curve.slope == pytest.approx(slope, abs=1e-6)
    assert curve.error(16 * n) == pytest.approx(min(1.0, scale * (16 * n) ** -slope), rel=1e-5)


def test_slopes_stay_in_range_and_no_error_is_read_as_none() -> None:
    assert learning_curve([10, 100], [0.1, 0.3], 1000).slope == 0.0
    assert learning_curve([10, 100], [0.9, 0.001], 1000).slope == 0.5
    assert learning_curve([10, 20, 40], [0.0, 0.0, 0.0], 100).error(40) == pytest.approx(0.005)
    assert LearningCurve(3.0, 0.0).error(5) == 1.0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.3, 30.0), st.floats(0.0, 0.5), st.integers(100, 10**6), st.floats(0.02, 0.3))
def test_the_rule_stays_in_range(scale: float, slope: float, units: int, pilot: float) -> None:
    least = math.ceil(pilot * units)
    found = prior_units(LearningCurve(scale, slope), units, least, **RULE)
    assert least <= found <= max(least, 0.8 * units) and units - found >= 8


def test_where_nothing_is_learnt_the_pilot_is_enough() -> None:
    assert prior_units(LearningCurve(0.3, 0.0), 50_000, 5_000, **RULE) == 5_000


def test_of_close_limits_the_smallest_is_taken() -> None:
    curve, units = LearningCurve(3.0, 0.35), 70_000
    tight, loose = (
        prior_units(curve, units, 7_000, **{**RULE, "closeness": c}) for c in (0.05, 10.0)
    )
    assert 7_000 < tight < loose

    def limit(m_0: int) -> float:
        return float(kl_inverse_upper(curve.error(m_0), RULE["nats"] / (units - m_0)))

    assert limit(loose) < limit(tight) < 1.05 * curve.error(tight)
    # What cannot be close is as small as can be.
    never = prior_units(curve, units, 7_000, **{**RULE, "closeness": 1e-6})
    assert never == loose == prior_units(curve, units, 7_000, **{**RULE, "closeness": None})


@pytest.mark.parametrize("units", [8, 9, 10, 11, 100])
@pytest.mark.parametrize("together", [1, 3])
def test_every_unit_is_on_trial_once(units: int, together: int) -> None:
    data = SyntheticLanguage(letters=3, max_length=5).sample(units * together, 3)
    groups = None if together == 1 else np.arange(data.m) % units
    marked = replace(data, groups=groups)
    seen = []
    for turn in range(4):
        training, trial = prior._quarters(marked, turn)
        assert training.m + trial.m == data.m and training.units + trial.units == units
        assert abs(trial.units - units / 4) < 1
        seen.append(trial)
    assert sum(part.units for part in seen) == units
    # The first turn is the last quarter.
    rest = marked.split(units - math.ceil(units / 4))[1]
    assert np.array_equal(seen[0].sequences, rest.sequences)
    if groups is not None:
        names = np.concatenate([np.unique(part.groups) for part in seen])
        assert sorted(names) == list(range(units))


def test_the_number_depends_on_the_pilot_alone() -> None:
    data = SyntheticLanguage(letters=3, max_length=5, rule="majority", noise=0.1).sample(1500, 3)
    quick = RecipeCandidate(0.1, 0.0, 0.0, d_h=4, bidirectional=False, epochs=4, batch=32)
    recipe = PosteriorRecipe(prior=Recipe(bias=True), candidates=(quick,), epochs=0, pilot=0.2)
    found = train_posterior(data, recipe, seed=1).posterior.prior
    assert 300 <= found.units <= 1200
    after = np.arange(data.m) >= 300
    turned = replace(data, labels=np.where(after, (data.labels + 1) % 3, data.labels))
    other = train_posterior(turned, recipe, seed=1).posterior.prior
    assert other.units == found.units and other.scale == found.scale
    assert other.temperature == found.temperature and other.digest != found.digest
    fixed = train_posterior(data, replace(recipe, share=0.2), seed=1).posterior.prior
    assert fixed.units == 300
    # The least that there can be: a pilot of 8 units, the curve on 6, 3 and 1 of them.
    least = train_posterior(data.take(slice(0, 40)), recipe, seed=1).posterior
    assert 8 <= least.prior.units <= 32 and least.prior.scale > 0
    with pytest.raises(InputError, match="leave 7 for the prior"):
        train_posterior(data.take(slice(0, 35)), recipe, seed=1)
    for field, value in (("pilot", 0.0), ("pilot", 1.0), ("closeness", 0.0)):
        with pytest.raises(InputError):
            PosteriorRecipe(**{field: value})
