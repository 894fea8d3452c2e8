"""Caps by parametrizations on every module that is read, their exact check, and penalties."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import parametrize  # noqa: E402

import recert  # noqa: E402
from recert.errors import InputError, UnsupportedModelError  # noqa: E402
from recert.numerics.norms import norm_bounds, spectral_norm_bound  # noqa: E402
from recert.training import (  # noqa: E402
    KINDS,
    RecurrentClassifier,
    check,
    constrain,
    declared,
    penalty,
    projections,
    release,
    settle,
)
from recert.training.parametrizations import Constrained  # noqa: E402
from recert.training.tensor_layout import layout_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
D, H, K, T = 3, 4, 3, 5


class Reader(nn.Module):
    """A recurrent layer and a linear head at every step."""

    def __init__(self, kind: type[nn.Module], classes: int = K, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(D, H, batch_first=True, **options)
        width = (options.get("proj_size") or H) * (2 if options.get("bidirectional") else 1)
        self.out = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0])


class Looped(nn.Module):
    """An embedding, a cell in a loop, a head with a hidden layer, one logit."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.table = nn.Embedding(6, D)
        self.cell = kind(D, H)
        self.inner, self.out = nn.Linear(H, 5), nn.Linear(5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state: Any = None
        for t in range(x.shape[1]):
            state = self.cell(self.table(x[:, t]), state)
        h = state[0] if isinstance(state, tuple) else state
        return self.out(torch.relu(self.inner(h)))


MODULES: dict[str, Any] = {
    "tanh": lambda: Reader(nn.RNN),
    "relu, 2 layers": lambda: Reader(nn.RNN, nonlinearity="relu", num_layers=2),
    "two-way": lambda: Reader(nn.RNN, bidirectional=True),
    "LSTM": lambda: Reader(nn.LSTM),
    "LSTM projected": lambda: Reader(nn.LSTM, proj_size=2),
    "GRU": lambda: Reader(nn.GRU, bias=False),
    "GRU, one logit": lambda: Reader(nn.GRU, classes=1),
    "LSTM cell": lambda: Looped(nn.LSTMCell),
    "own GRU": lambda: RecurrentClassifier(6, H, K, cell="gru", bias=True),
    "own conv": lambda: RecurrentClassifier(6, H, K, cell="conv", bias=True),
    "own reals": lambda: RecurrentClassifier(D, H, K, tokens=False, layers=2),
}


def made(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    module: nn.Module = MODULES[name]()
    return module


def inputs(name: str, m: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = "cell" in name or name in ("own GRU", "own conv")
    x = rng.integers(0, 6, (m, T)) if tokens else rng.standard_normal((m, T, D))
    return x if tokens else x.astype(np.float32), rng.integers(0, 2, m)


def letters(module: nn.Module, cap: float) -> dict[str, float]:
    """A cap for every letter that the module has."""
    return {site.part.letter: cap for site in layout_of(module).sites.values()}


def trained(module: nn.Module, x: np.ndarray, steps: int = 3, settled: bool = True) -> None:
    """A few large steps that make outputs, hence weights, grow."""
    optimiser = torch.optim.SGD(module.parameters(), lr=5.0)
    for _ in range(steps):
        optimiser.zero_grad()
        out = module(torch.from_numpy(x))
        (-out.square().mean()).backward()
        nn.utils.clip_grad_norm_(list(module.parameters()), 1.0)
        optimiser.step()
        if settled:
            settle(module)


def norm_in(kind: str, A: np.ndarray) -> float:
    """By numpy, apart from the package."""
    if A.ndim == 1 or kind == "frobenius":
        return float(np.linalg.norm(A))
    if kind == "column":
        return float(np.linalg.norm(A, axis=0).max())
    return float(np.linalg.norm(A, 2))


@pytest.mark.parametrize("name", MODULES)
def test_caps_hold_through_training_release_and_certificate(name: str) -> None:
    module = made(name)
    x, y = inputs(name)
    caps = letters(module, 0.6)
    certified = constrain(module, caps, sequences=x)
    trained(module, x)
    inside = recert.from_torch(module, x)
    for block in inside.blocks():
        assert block.norm_bound() <= 0.6 * (1.0 + 1e-6), block.name
    rows = recert.certify(module, x, y, caps=certified, bounds="margin_cover").assumptions
    assert {row.id: row.status for row in rows}["caps"] == "declared"
    copied = copy.deepcopy(module)
    before = module(torch.from_numpy(x)).detach()
    assert torch.equal(copied(torch.from_numpy(x)), before)
    found = release(module)
    assert not any(parametrize.is_parametrized(m) for m in module.modules())
    assert torch.allclose(module(torch.from_numpy(x)), before, atol=1e-5)
    assert set(found) == set(layout_of(module).sites) == set(certified)
    assert all(norm <= cap == 0.6 for norm, cap in found.values())
    assert check(module, caps) == found
    network = recert.from_torch(module, x)
    for block in network.blocks():
        assert block.norm_bound() == found[block.name][0]
    cert = recert.certify(
        module, x, y, max_length=T, input_bound=None if x.ndim == 2 else 9.0,
        caps=certified, bounds="margin_ball",
    )  # fmt: skip
    assert {row.id: row.status for row in cert.assumptions}["caps"] == "declared"
    assert cert.bounds[0].kind == "certificate"


KINDLESS = ("tanh", "LSTM cell", "own conv")  # filter banks have one kind; the others are alike


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in MODULES if name not in KINDLESS])
def test_every_kind_is_kept_and_checked(name: str, kind: str) -> None:
    module = made(name)
    x, _ = inputs(name)
    caps = letters(module, 0.7)
    certified = constrain(module, caps, kind=kind)
    one_logit = name == "GRU, one logit"
    trained(module, x, settled=False)
    network = recert.from_torch(module)
    for block in network.blocks():
        assert norm_in(kind, block.value) <= 0.7 * (1.0 + 1e-6), block.name
    if kind == "orthogonal":
        for block in network.blocks():
            if block.value.ndim == 2 and not (block.name == "V" and one_logit):
                sigma = np.linalg.svd(block.value, compute_uv=False)
                assert np.allclose(sigma, 0.7, rtol=1e-5)
    found = release(module)
    assert check(module, caps, kind=kind) == found
    for block in recert.from_torch(module).blocks():
        norm, _ = found[block.name]
        assert norm_in(kind, block.value) <= norm <= 0.7
        assert block.norm_bound() <= certified[block.name]
    assert certified == declared(module, caps, kind=kind)


def test_gates_have_caps_of_their_own() -> None:
    module = made("LSTM")
    before = recert.from_torch(module)
    caps = {"U_g": 0.3, "U": 0.5, "W_o": 0.2}
    constrain(module, caps)
    during = recert.from_torch(module)
    limits = {"U_g": 0.3, "U_r": 0.5, "U_o": 0.5, "U_c": 0.5, "W_o": 0.2}
    for block in before.blocks():
        now = during.block(block.name).value
        if block.name not in limits:
            assert np.array_equal(now, block.value)
            continue
        left, sigma, right = np.linalg.svd(block.value, full_matrices=False)
        nearest = (left * np.minimum(sigma, limits[block.name])) @ right
        assert np.allclose(now, nearest, atol=1e-6)
    assert {n: cap for n, (_, cap) in release(module).items()} == limits


def test_kinds_may_differ_by_block() -> None:
    module = made("tanh")
    found = constrain(module, {"U": 0.5, "V": 0.5}, kind={"U": "column"})
    assert found["V"] == 0.5 and 1.0 <= found["U"] <= 1.0 + 1e-15  # c·√4
    network = recert.from_torch(module)
    assert np.linalg.norm(network.block("U").value, axis=0).max() <= 0.5 + 1e-6
    assert spectral_norm_bound(network.block("V").value) <= 0.5 + 1e-6


FINITE = st.floats(-3, 3, allow_nan=False, width=32)


@settings(max_examples=12, deadline=None)
@given(
    entries=st.lists(FINITE, min_size=H * H, max_size=H * H),
    cap=st.floats(1e-3, 10.0),
    kind=st.sampled_from(["spectral", "column", "frobenius"]),
    double=st.booleans(),
)
def test_drawn_weights_are_inside(
    entries: list[float], cap: float, kind: str, double: bool
) -> None:
    module = made("tanh")
    module = module.double() if double else module
    with torch.no_grad():
        module.rnn.weight_hh_l0.copy_(torch.tensor(entries).reshape(H, H))
    constrain(module, {"U": cap}, kind=kind)
    weight = module.rnn.weight_hh_l0.detach().double().numpy()
    assert norm_in(kind, weight) <= cap * (1.0 + 1e-6)
    found = release(module)
    value = module.rnn.weight_hh_l0.detach().double().numpy()
    bounds = norm_bounds(value)
    assert getattr(bounds, kind) == found["U"][0] <= cap
    assert np.allclose(value, weight, rtol=1e-5, atol=1e-7)
    assert check(module, {"U": cap}, kind=kind) == found


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
@pytest.mark.parametrize("kind", ["spectral", "orthogonal", "columns", "frobenius"])
def test_gradients(shape: tuple[int, int], kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    project = getattr(projections, kind)
    for cap in (0.4, 1.5, 50.0):
        assert torch.autograd.gradcheck(lambda M, c=cap: project(M, c), (A,), atol=1e-6)


def test_gradients_where_singular_values_coincide() -> None:
    """SVD itself has no derivative there; the projection has."""
    Q = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).double())[0]
    G = torch.randn(5, 5, generator=torch.Generator().manual_seed(2)).double()
    for scale, cap in ((0.5, 1.0), (1.0, 1.0)):
        A = (scale * Q).requires_grad_()
        (projections.spectral(A, cap) * G).sum().backward()
        assert torch.allclose(A.grad, G, atol=1e-12)
    A = Q.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda M: projections.orthogonal(M, 2.0), (A,), atol=1e-6)
    zero = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    for kind in ("spectral", "columns", "frobenius"):
        zero.grad = None
        getattr(projections, kind)(zero, 1.0).sum().backward()
        assert torch.equal(zero.grad, torch.ones(3, 3, dtype=torch.float64))


def test_settling_lets_weights_come_back() -> None:
    module = made("tanh")
    constrain(module, {"U": 0.5})
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    original = module.rnn.parametrizations.weight_hh_l0.original
    assert any(original is p for g in optimiser.param_groups for p in g["params"])
    with torch.no_grad():
        original.mul_(10.0)
    shown = module.rnn.weight_hh_l0.detach().clone()
    settle(module)
    assert torch.allclose(original, shown, atol=1e-6)
    assert torch.allclose(module.rnn.weight_hh_l0, shown, atol=1e-6)
    module.rnn.weight_hh_l0.square().sum().backward()
    optimiser.step()  # w − 2w
    assert float(torch.linalg.matrix_norm(original.detach() + shown, 2)) < 1e-5


def test_each_weight_is_projected_once_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    module = made("LSTM")
    constrain(module, {"U_g": 0.5, "V": 0.5})
    calls = []
    original = Constrained.forward
    monkeypatch.setattr(
        Constrained, "forward", lambda self, X: calls.append(self) or original(self, X)
    )
    module(torch.from_numpy(inputs("LSTM")[0]))
    assert len(calls) == len(set(map(id, calls))) == 2
    release(module)
    assert not module.rnn._forward_hooks and not module.rnn._forward_pre_hooks
    assert "_update_flat_weights" not in vars(module.rnn)


def test_a_constrained_module_may_be_moved_saved_and_loaded() -> None:
    module = made("GRU")
    x = torch.from_numpy(inputs("GRU")[0])
    constrain(module, {"U": 0.4})
    other = made("GRU", seed=1)
    constrain(other, {"U": 0.4})
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), module(x))
    wide = module.double()(x.double())
    assert torch.allclose(wide.float(), other(x), atol=1e-6)
    copied = copy.deepcopy(module)
    assert release(copied)["U_r"][0] <= 0.4
    assert not copied.rnn._forward_hooks
    assert parametrize.is_parametrized(module.rnn)


def test_an_optimiser_made_before_goes_on() -> None:
    module = made("GRU")
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    constrain(module, {"U": 0.5, "W": 0.5})
    before = {b.name: b.value for b in recert.from_torch(module).blocks()}
    x = torch.from_numpy(inputs("GRU")[0])
    module(x).square().mean().backward()
    optimiser.step()
    after = recert.from_torch(module)
    assert all(not np.array_equal(before[b.name], b.value) for b in after.blocks())


def test_other_parametrizations_are_read_as_they_run() -> None:
    module = made("LSTM")
    nn.utils.parametrizations.orthogonal(module.rnn, "weight_ih_l0")
    nn.utils.parametrizations.weight_norm(module.out, "weight")
    x, y = inputs("LSTM")
    cert = recert.certify(module, x, y, max_length=T, input_bound=9.0, bounds="margin_ball")
    assert cert.bounds[0].kind == "certificate"
    trained_once = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.from_numpy(x)).square().mean().backward()
    trained_once.step()  # torch's own list of weights is now that of the step before
    network = recert.from_torch(module, x)
    assert np.allclose(network.block("W_r").value, module.rnn.weight_ih_l0.detach()[:H], atol=1e-6)


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"U_x": 0.5}, {}, "no block U_x; its blocks are U_g, W_g, "),
    ({}, {}, "no caps; the blocks are U_g"),
    ({"U": 0.0}, {}, "cap on U is 0.0"),
    ({"U": float("nan")}, {}, "cap on U is nan"),
    ({"U": 0.5}, {"kind": "nuclear"}, "kind is 'nuclear'; use spectral, column"),
    ({"U": 0.5}, {"kind": {"Q": "column"}}, "no block Q"),
]


@pytest.mark.parametrize(("caps", "options", "message"), BAD, ids=lambda v: str(v)[:20])
def test_bad_caps_are_refused(caps: Any, options: Any, message: str) -> None:
    module = made("LSTM")
    for function in (constrain, check, declared):
        with pytest.raises(InputError, match=re.escape(message)):
            function(module, caps, **options)
    assert not parametrize.is_parametrized(module.rnn)


def test_what_does_not_suit_a_module_is_refused() -> None:
    with pytest.raises(InputError, match="not a torch module"):
        constrain(3, {"U": 1.0})  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModelError, match=r"no nn\.RNN"):
        constrain(nn.Linear(2, 2), {"V": 1.0})
    module = made("own conv")
    with pytest.raises(InputError, match="U is a filter bank"):
        constrain(module, {"U": 1.0}, kind="column")
    with pytest.raises(InputError, match="not constrained"):
        release(module)
    constrain(module, {"U": 1.0})
    with pytest.raises(InputError, match="constrained already"):
        constrain(module, {"W": 1.0})


def test_check_names_what_is_outside() -> None:
    module = made("tanh")
    with torch.no_grad():
        module.rnn.weight_hh_l0.copy_(torch.eye(H))
    with pytest.raises(InputError, match=r"^outside the caps: U has spectral norm 1\.0.* > 0\.5;"):
        check(module, {"U": 0.5, "V": 100.0})
    assert check(module, {"U": 1.001})["U"][1] == 1.001


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    module = made("LSTM")
    constrain(module, {"U_g": 1.0})
    with torch.no_grad():
        module.rnn.parametrizations.weight_hh_l0.original[H, 0] = float("nan")  # a row of U_g
    with pytest.raises(InputError, match="block U_g holds NaN"):
        module(torch.zeros(1, T, D))
    broken = made("LSTM")
    with torch.no_grad():
        broken.out.weight[0, 0] = float("inf")
    with pytest.raises(InputError, match="V holds NaN or infinite"):
        constrain(broken, {"U": 1.0})
    singular = made("tanh")
    with torch.no_grad():
        singular.rnn.weight_hh_l0.zero_()
    with pytest.raises(InputError, match="full rank"):
        constrain(singular, {"U": 1.0}, kind="orthogonal")
    assert not parametrize.is_parametrized(singular.rnn)


PENALTIES = ("spectral", "frobenius", "two_one", "orthogonal", "hinge")


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize("name", ["LSTM", "GRU, one logit", "own GRU"])
def test_penalties(name: str, kind: Any) -> None:
    module = made(name).double()
    network = recert.from_torch(module)
    caps = {"U": 0.1, "V": 0.2}
    value = penalty(module, {"U": 0.5, "V": 2.0}, kind=kind, caps=caps)
    expected = 0.0
    for block in network.blocks():
        if block.name[0] not in "UV":
            continue
        A, weight = block.value, 0.5 if block.name[0] == "U" else 2.0
        gram = A.T @ A if len(A) >= A.shape[1] else A @ A.T
        expected += (
            weight
            * {
                "spectral": np.linalg.norm(A, 2) ** 2,
                "frobenius": np.linalg.norm(A) ** 2,
                "two_one": np.linalg.norm(A, axis=0).sum(),
                "orthogonal": np.linalg.norm(gram - np.eye(len(gram))) ** 2,
                "hinge": max(0.0, np.linalg.norm(A, 2) - caps[block.name[0]]) ** 2,
            }[kind]
        )
    assert float(value.detach()) == pytest.approx(expected, rel=1e-12)
    value.backward()
    grads = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    assert grads and all(torch.isfinite(g).all() for g in grads.values())
    some = next(n for n in grads if "hh" in n or "U" in n)
    parameter = dict(module.named_parameters())[some]
    direction = torch.randn(parameter.shape, dtype=torch.float64)
    with torch.no_grad():
        slope, h = float((grads[some] * direction).sum()), 1e-6
        parameter.add_(direction, alpha=h)
        up = penalty(module, {"U": 0.5, "V": 2.0}, kind=kind, caps=caps)
        parameter.add_(direction, alpha=-2 * h)
        down = penalty(module, {"U": 0.5, "V": 2.0}, kind=kind, caps=caps)
    assert float(up - down) / (2 * h) == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_penalties_of_banks_and_biases_and_refusals() -> None:
    module = made("own conv").double()
    network = recert.from_torch(module)
    for name in ("U", "b", "E"):
        assert float(penalty(module, {name: 1.0}, kind="hinge", caps={name: 1e-9}).detach()) == (
            pytest.approx((network.block(name).norm_bound() - 1e-9) ** 2, rel=1e-9)
        )
    for weights, options, message in (
        ({"Q": 1.0}, {}, "no block Q"),
        ({}, {}, "no weights"),
        ({"U": -1.0}, {}, "weight of U is -1.0"),
        ({"U": 1.0}, {"kind": "nuclear"}, "kind is 'nuclear'"),
        ({"U": 1.0, "W": 1.0}, {"kind": "hinge", "caps": {"U": 1.0}}, "block W has no cap"),
        ({"b": 1.0}, {"kind": "orthogonal"}, "b is no matrix"),
    ):
        with pytest.raises(InputError, match=message):
            penalty(module, weights, **options)  # type: ignore[arg-type]
