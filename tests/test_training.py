"""Training: repeatable, inside its caps, and quiet when interrupted."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

torch = pytest.importorskip("torch")

from recert.data import SequenceData, SyntheticLanguage  # noqa: E402
from recert.errors import InputError  # noqa: E402
from recert.training import (  # noqa: E402
    Caps,
    Recipe,
    RecurrentClassifier,
    constraints,
    error_rate,
    outputs,
    recipes,
    train,
    vanilla,
)

SENTENCES = SyntheticLanguage(3, 6, 2, "last", 0.1).sample(600, seed=5)
SMALL = Recipe(
    d_h=4,
    caps=Caps(U=0.8, W=2.0, V=1.0),
    loss="margin",
    margin=0.1,
    epochs=6,
    batch=100,
    learning_rate=0.05,
)


def real_data() -> SequenceData:
    rng = np.random.default_rng(0)
    x = rng.random((60, 4, 3))
    return SequenceData(
        name="reals",
        sequences=x,
        labels=np.tile(rng.integers(0, 2, size=(60, 1)), (1, 4)),
        lengths=np.full(60, 4),
        classes=("a", "b"),
        alphabet=None,
        max_length=4,
        input_kind="real",
        unit="sequence",
        population=None,
        source="here",
    )


# constraints

CAP = st.floats(1e-3, 10)
MATRIX = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-100, 100, width=32),
)


@settings(max_examples=60, deadline=None)
@given(MATRIX, CAP)
def test_projections_land_inside_and_leave_the_inside_alone(A, cap):
    spectral = constraints.project_spectral(torch.from_numpy(A), cap).numpy()
    columns = constraints.project_columns(torch.from_numpy(A), cap).numpy()
    assert np.linalg.norm(spectral.astype(float), 2) <= cap * (1 + 1e-5)
    assert np.linalg.norm(columns.astype(float), axis=0).max() <= cap * (1 + 1e-5)
    if np.linalg.norm(A, 2) <= cap:
        np.testing.assert_allclose(spectral, A, atol=1e-5 * cap)
        np.testing.assert_allclose(columns, A, atol=1e-5 * cap)


@settings(max_examples=60, deadline=None)
@given(MATRIX, CAP)
def test_the_spectral_projection_is_the_nearest_point(A, cap):
    near = constraints.project_spectral(torch.from_numpy(A).double(), cap).numpy()
    scaled = A * min(1.0, cap / max(np.linalg.norm(A.astype(float), 2), 1e-30))
    assert np.linalg.norm(A - near) <= np.linalg.norm(A - scaled) + 1e-6


@settings(max_examples=60, deadline=None)
@given(MATRIX, CAP, st.booleans())
def test_final_weights_are_strictly_inside(A, cap, tokens):
    weights = {"U": A, "W": A, "V": A, "b": A[0], "b_V": A[:, 0]}
    inside = constraints.enforce(weights, Caps(cap, cap, cap, cap, cap), tokens=tokens)
    for name, value in inside.items():
        assert value.dtype == np.float64
        assert constraints.capped_norm(name, value, tokens=tokens) < cap * (1 - 1e-10)


def test_enforce_without_caps_changes_nothing():
    A = np.array([[3.0, 1.0], [0.5, -2.0]])
    np.testing.assert_array_equal(constraints.enforce({"V": A}, None, tokens=True)["V"], A)
    np.testing.assert_array_equal(constraints.enforce({"U": A}, Caps(U=9), tokens=True)["U"], A)


def test_a_cap_on_a_missing_block_is_refused():
    with pytest.raises(InputError, match="no block b"):
        train(SENTENCES, SMALL, caps=Caps(b=1.0))


@pytest.mark.parametrize("cap", [0.0, -1.0, float("nan"), float("inf")])
def test_caps_are_positive_numbers(cap):
    with pytest.raises(InputError, match="cap on U"):
        Caps(U=cap)


# the model


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_fast_states_are_those_of_the_module(tokens, activation, bias):
    torch.manual_seed(0)
    model = RecurrentClassifier(3, 5, 4, tokens=tokens, activation=activation, bias=bias).double()
    x = torch.tensor([[0, 2, 1, -1], [1, 1, 0, 2]]) if tokens else torch.rand(2, 4, 3).double()
    lengths = torch.tensor([3, 4])
    fast_x = torch.where(x < 0, 3, x).T if tokens else x.transpose(0, 1)
    everywhere = model.head(model.states(fast_x)).transpose(0, 1)
    torch.testing.assert_close(model(x), everywhere)
    torch.testing.assert_close(model(x, lengths), everywhere[[0, 1], lengths - 1])
    assert sum(p.requires_grad for p in model.parameters()) == len(model.blocks())


# training


@pytest.fixture(scope="module")
def trained():
    return train(SENTENCES, SMALL, seed=3)


def test_training_repeats_its_numbers(trained):
    torch.manual_seed(999)
    again, other = train(SENTENCES, SMALL, seed=3), train(SENTENCES, SMALL, seed=4)
    for name, value in trained.weights.items():
        np.testing.assert_array_equal(value, again.weights[name])
        assert not np.array_equal(value, other.weights[name])
    assert trained.losses == again.losses


def test_training_learns_and_stays_inside(trained):
    assert trained.losses[-1] < 0.6 * trained.losses[0]
    assert error_rate(trained.model, SENTENCES) < 0.2
    for name, cap in (("U", 0.8), ("W", 2.0), ("V", 1.0)):
        assert constraints.capped_norm(name, trained.weights[name], tokens=True) < cap
    assert np.abs(trained.weights["V"].mean(axis=0)).max() < 1e-12


def test_the_model_holds_exactly_the_weights(trained):
    for name, block in trained.model.blocks().items():
        np.testing.assert_array_equal(block.detach().numpy(), trained.weights[name])
    x = torch.from_numpy(SENTENCES.sequences)
    y = trained.model(x, torch.from_numpy(SENTENCES.lengths)).detach().numpy()
    np.testing.assert_allclose(outputs(trained.model, SENTENCES, batch=77), y, atol=1e-12)


@pytest.mark.parametrize("changes", [{}, {"bias": True, "caps": Caps(b=0.1, W=0.5)}])
@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
def test_real_inputs_labelled_at_every_step(changes, loss):
    done = train(real_data(), d_h=3, epochs=4, batch=20, loss=loss, learning_rate=0.05, **changes)
    assert np.isfinite(done.losses).all()
    if changes:
        assert np.linalg.norm(done.weights["W"], 2) < 0.5
        assert np.linalg.norm(done.weights["b"]) < 0.1
    with pytest.raises(InputError, match="one label"):
        error_rate(done.model, real_data())


def test_an_interrupt_passes_through_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vanilla, "project", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(SENTENCES, SMALL, progress=True)
    assert os.listdir(tmp_path) == []
    assert torch.get_num_threads() == threads


def test_a_progress_of_ones_own_gets_a_full_task():
    progress_of = pytest.importorskip("rich.progress").Progress
    bar = progress_of(disable=True)
    train(SENTENCES, SMALL, epochs=2, progress=bar, description="capped")
    (task,) = bar.tasks
    assert task.finished and task.description == "capped"


def test_divergence_is_one_clear_line():
    with pytest.raises(InputError, match="learning_rate"):
        train(SENTENCES, activation="relu", learning_rate=1e30, clip=None, epochs=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"d_h": 0},
        {"epochs": 0},
        {"batch": 0},
        {"margin": 0.0},
        {"learning_rate": float("nan")},
        {"softness": (1.0, 0.0)},
        {"clip": -1.0},
        {"activation": "gelu"},
        {"loss": "mse"},
        {"convex_part": 0.0},
        {"hidden": 3},
        {"seed": -1},
    ],
)
def test_recipes_out_of_range(changes):
    with pytest.raises(InputError):
        train(SENTENCES, **changes)


def test_the_margin_loss_ends_near_the_step_it_stands_for():
    margins = torch.tensor([-1.0, 0.0, 0.09, 0.11, 0.5])
    recipe = Recipe(loss="margin", margin=0.1, softness=(1.0, 1e-3))
    assert float(vanilla.margin_loss(margins, recipe, 1.0)) == pytest.approx(3 / 5, abs=1e-6)
    assert float(vanilla.margin_loss(margins, recipe, 0.0)) > 3 / 5


def test_the_learning_rate_rises_and_falls():
    rates = [vanilla.learning_rate(SMALL, step, 500) for step in range(500)]
    assert rates[0] < rates[49] > rates[499]
    assert max(rates) <= SMALL.learning_rate and rates[-1] < 1e-4


def test_the_recipes_for_the_default_data_are_declared():
    assert recipes.GERMAN_NOUNS_CAPPED.caps is not None
    assert recipes.GERMAN_NOUNS_FREE.caps is None
