"""Training: repeatable, inside its caps, and quiet when interrupted."""

import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

torch = pytest.importorskip("torch")

from recert.data import SequenceData, SyntheticLanguage  # noqa: E402
from recert.errors import InputError  # noqa: E402
from recert.networks.forward import network_predictor  # noqa: E402
from recert.numerics.norms import convolution_matrix  # noqa: E402
from recert.training import (  # noqa: E402
    CELLS,
    Architecture,
    Recipe,
    RecurrentClassifier,
    error_rate,
    loop,
    outputs,
    projections,
    recipes,
    train,
)
from recert.training import model as steps  # noqa: E402

SENTENCES = SyntheticLanguage(3, 6, 2, "last", 0.1).sample(600, seed=5)
SMALL = Recipe(
    d_h=4,
    caps={"U": 0.8, "W": 2.0, "V": 1.0},
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
    spectral = projections.project_spectral(torch.from_numpy(A), cap).numpy()
    columns = projections.project_columns(torch.from_numpy(A), cap).numpy()
    assert np.linalg.norm(spectral.astype(float), 2) <= cap * (1 + 1e-5)
    assert np.linalg.norm(columns.astype(float), axis=0).max() <= cap * (1 + 1e-5)
    if np.linalg.norm(A, 2) <= cap:
        np.testing.assert_allclose(spectral, A, atol=1e-5 * cap)
        np.testing.assert_allclose(columns, A, atol=1e-5 * cap)


@settings(max_examples=60, deadline=None)
@given(MATRIX, CAP)
def test_the_spectral_projection_is_the_nearest_point(A, cap):
    near = projections.project_spectral(torch.from_numpy(A).double(), cap).numpy()
    scaled = A * min(1.0, cap / max(np.linalg.norm(A.astype(float), 2), 1e-30))
    assert np.linalg.norm(A - near) <= np.linalg.norm(A - scaled) + 1e-6


BANK = hnp.arrays(
    np.float32, st.tuples(*[st.integers(1, 4)] * 3), elements=st.floats(-100, 100, width=32)
)


@settings(max_examples=60, deadline=None)
@given(BANK, CAP, st.sampled_from([1, 3, 40]))
def test_filter_banks_are_scaled_inside(bank, cap, positions):
    scaled = projections.scale_bank(torch.from_numpy(bank), cap, positions).numpy()
    exact = np.linalg.norm(convolution_matrix(scaled.astype(float), positions), 2)
    assert exact <= cap * (1 + 1e-5)
    if positions < 40:  # there the norm is the matrix's own, so nothing inside is moved
        norm = np.linalg.norm(convolution_matrix(bank.astype(float), positions), 2)
        np.testing.assert_allclose(scaled, bank * min(1.0, cap / max(norm, 1e-30)), 1e-4, 1e-30)


def architecture(cell="vanilla", **options):
    return Architecture(3, 4, 5, cell=cell, **options)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CELLS), CAP, st.booleans(), st.integers(0, 2**31))
def test_final_weights_are_strictly_inside(cell, cap, tokens, seed):
    rng = np.random.default_rng(seed)
    plan = Architecture(4, 4, 5, cell=cell, tokens=tokens, bias=True, bidirectional=True, layers=2)
    parts = list(plan.parts())
    weights = {part.name: 10 ** rng.uniform(-2, 2) * rng.random(part.shape) for part in parts}
    inside = projections.enforce(weights, parts, {part.name: cap for part in parts})
    for part in parts:
        value = inside[part.name]
        assert value.dtype == np.float64
        assert projections.capped_norm(part, value) <= cap * (1 - 0.99e-9)


def test_enforce_without_caps_changes_nothing():
    A = np.array([[3.0, 1.0], [0.5, -2.0]])
    parts = list(Architecture(2, 2, 2).parts())
    weights = dict.fromkeys("UWV", A)
    for caps in ({}, {"U": 9.0}):
        for value in projections.enforce(weights, parts, caps).values():
            np.testing.assert_array_equal(value, A)


def test_caps_by_letter_by_role_and_by_block():
    parts = list(architecture("mgu", bias=True, bidirectional=True).parts())
    caps = {"U": 1.0, "U_r": 0.5, "U_r_reverse": 0.25, "b": 2.0, "b_V": 3.0}
    assert projections.resolve(caps, parts) == {
        "U_r": 0.5, "U_h": 1.0, "U_r_reverse": 0.25, "U_h_reverse": 1.0, "b_V": 3.0,
        "b_r": 2.0, "b_h": 2.0, "b_r_reverse": 2.0, "b_h_reverse": 2.0,
    }  # fmt: skip
    assert projections.resolve(None, parts) == {}


@pytest.mark.parametrize("name", ["b", "U_g", "E", "W0", ""])
def test_a_cap_on_a_missing_block_is_refused(name):
    with pytest.raises(InputError, match=f"no block {name}.* U, W, V"):
        train(SENTENCES, SMALL, caps={name: 1.0})


@pytest.mark.parametrize("cap", [0.0, -1.0, float("nan"), float("inf")])
def test_caps_are_positive_numbers(cap):
    with pytest.raises(InputError, match="cap on U"):
        Recipe(caps={"U": cap})


# the model


EVERY = list(itertools.product(CELLS, [True, False], [1, 2], [True, False], ["step", "final"]))


@pytest.mark.parametrize(("cell", "tokens", "layers", "bidirectional", "read"), EVERY)
@pytest.mark.parametrize("bias", [True, False])
def test_the_module_is_its_network(cell, tokens, layers, bidirectional, read, bias):
    torch.manual_seed(0)
    model = RecurrentClassifier(
        4, 4, 3, cell=cell, tokens=tokens, layers=layers, bidirectional=bidirectional, read=read,
        bias=bias, embedded=2,
    ).double()  # fmt: skip
    x = torch.tensor([[0, 2, 1, -1], [1, 1, 0, 3], [3, -1, -1, -1]])
    x = x if tokens else torch.rand(3, 4, 4).double()
    lengths = torch.tensor([3, 4, 1])
    predict = network_predictor(model.recert_network())
    with torch.no_grad():
        y, whole = model(x, lengths).numpy(), model(x[1:2]).numpy()
    np.testing.assert_allclose(y, predict(x.numpy(), lengths.numpy(), "last"), atol=1e-13)
    at = "average" if read == "step" else "last"
    np.testing.assert_allclose(whole, predict(x[1:2].numpy(), np.array([4]), at), atol=1e-13)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("cell", ["vanilla", "conv"])
def test_activations(cell, activation):
    model = RecurrentClassifier(3, 4, 2, cell=cell, activation=activation).double()
    x = np.array([[0, 2, 1], [1, 1, 0]])
    y = network_predictor(model.recert_network())(x, np.array([3, 3]), "last")
    with torch.no_grad():
        np.testing.assert_allclose(model(torch.from_numpy(x))[:, -1].numpy(), y, atol=1e-13)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 2), (3, 2, 3), (1, 2, 9)])
def test_a_bank_s_matrix(shape):
    bank = np.random.default_rng(0).standard_normal(shape)
    matrix = steps.bank_matrix(torch.from_numpy(bank), steps.bank_index(shape, 4))
    np.testing.assert_array_equal(matrix.numpy(), convolution_matrix(bank, 4))


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "transformer"},
        {"cell": "lstm", "activation": "relu"},
        {"activation": "gelu"},
        {"cell": "conv", "channels": 3},
        {"cell": "conv", "channels": 2, "tokens": False},
        {"layers": 0},
        {"read": "mean"},
    ],
)
def test_architectures_that_are_none(options):
    with pytest.raises(InputError):
        RecurrentClassifier(3, 4, 2, **options)


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
    assert trained.caps == SMALL.caps
    for part in trained.model.architecture.parts():
        assert projections.capped_norm(part, trained.weights[part.name]) < trained.caps[part.name]
    assert np.abs(trained.weights["V"].mean(axis=0)).max() < 1e-12


def test_the_model_holds_exactly_the_weights(trained):
    for name, block in trained.model.blocks().items():
        np.testing.assert_array_equal(block.detach().numpy(), trained.weights[name])
    x = torch.from_numpy(SENTENCES.sequences)
    y = trained.model(x, torch.from_numpy(SENTENCES.lengths)).detach().numpy()
    np.testing.assert_allclose(outputs(trained.model, SENTENCES, batch=77), y, atol=1e-12)


OPTIONS = [
    {"bias": True},
    {"layers": 2},
    {"bidirectional": True},
    {"layers": 2, "bidirectional": True, "bias": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options))
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_trains_inside_its_caps_and_repeats(cell, options):
    caps = {"U": 0.7, "W": 1.5, "V": 1.0, **({"b": 0.1, "b_V": 0.2} if "bias" in options else {})}
    caps |= {"E": 2.0} if cell == "conv" else {}
    runs = [
        train(SENTENCES, SMALL, cell=cell, caps=caps, epochs=2, seed=1, **options) for _ in range(2)
    ]
    network = runs[0].model.recert_network()
    assert set(runs[0].caps) == {block.name for block in network.blocks()}
    for block in network.blocks():
        np.testing.assert_array_equal(block.value, runs[0].weights[block.name])
        np.testing.assert_array_equal(block.value, runs[1].weights[block.name])
        assert block.norm_bound() < runs[0].caps[block.name]
    want = network_predictor(network)(SENTENCES.sequences, SENTENCES.lengths, "last")
    np.testing.assert_allclose(outputs(runs[0].model, SENTENCES, batch=77), want, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns(cell):
    done = train(SENTENCES, cell=cell, d_h=4, epochs=12, batch=60, learning_rate=0.05)
    assert done.losses[-1] < 0.8 * done.losses[0]


@pytest.mark.parametrize("cell", CELLS)
def test_two_ways_with_labels_at_every_step(cell):
    data = real_data()
    options = {"cell": cell, "bidirectional": True, "d_h": 6}
    done = train(data, epochs=1, batch=20, **options)
    network = done.model.recert_network()
    assert network.read == "step"
    assert network_predictor(network)(data.sequences, data.lengths, "average").shape == (60, 4, 2)


@pytest.mark.parametrize("changes", [{}, {"bias": True, "caps": {"b": 0.1, "W": 0.5}}])
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

    monkeypatch.setattr(loop, "project", interrupt)
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
        {"cell": "transformer"},
        {"cell": "mgu", "activation": "relu"},
        {"layers": 0},
        {"cell": "conv", "d_h": 5},
    ],
)
def test_recipes_out_of_range(changes):
    with pytest.raises(InputError):
        train(SENTENCES, **changes)


def test_the_margin_loss_ends_near_the_step_it_stands_for():
    margins = torch.tensor([-1.0, 0.0, 0.09, 0.11, 0.5])
    recipe = Recipe(loss="margin", margin=0.1, softness=(1.0, 1e-3))
    assert float(loop.margin_loss(margins, recipe, 1.0)) == pytest.approx(3 / 5, abs=1e-6)
    assert float(loop.margin_loss(margins, recipe, 0.0)) > 3 / 5


def test_the_learning_rate_rises_and_falls():
    rates = [loop.learning_rate(SMALL, step, 500) for step in range(500)]
    assert rates[0] < rates[49] > rates[499]
    assert max(rates) <= SMALL.learning_rate and rates[-1] < 1e-4


def test_the_recipes_for_the_default_data_are_declared():
    assert set(recipes.GERMAN_NOUNS) == set(recipes.GERMAN_NOUNS_CHOICES) == set(CELLS)
    assert recipes.GERMAN_NOUNS_FREE.caps is None
    for cell, recipe in recipes.GERMAN_NOUNS.items():
        assert recipe.cell == cell
        options = {name: getattr(recipe, name) for name in recipes.ARCHITECTURE}
        for bias in (False, True):
            plan = Architecture(30, recipe.d_h, 3, **{**options, "bias": bias})
            caps = {**recipe.caps, **(recipes.WITH_BIASES if bias else {})}
            assert set(projections.resolve(caps, plan.parts())) == {p.name for p in plan.parts()}
