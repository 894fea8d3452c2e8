"""Whatever answers is certified on units that it never met; what is no function of them is not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

import recert
from recert.certificates.certificate import Certificate
from recert.errors import CallError, InputError, ParityError, UnsupportedModelError
from recert.numerics.concentration import binomial_upper_limit
from recert.theorems.held_out import HeldOutLosses, Losses

D, K, T, N = 4, 3, 6, 400


def real(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (n, T, D)).astype("f4"), rng.integers(0, K, n)


def scores(x: np.ndarray) -> np.ndarray:
    return x[:, -1, :K].astype(float)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.a, self.fc = (
            nn.LSTM(D, 8, batch_first=True),
            nn.Linear(8, 1),
            nn.Linear(8, K),
        )

    def forward(self, x: Any) -> Any:
        h = self.rnn(x)[0]
        return self.fc((h * self.a(torch.tanh(h)).softmax(1)).sum(1))


class StepsFirst(nn.Module):
    """Reads (T, n, d) and answers at every step; a layer that is not covered stands in it."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.rnn, self.norm, self.fc, self.flat = (
            nn.GRU(D, 8),
            nn.LayerNorm(8),
            nn.Linear(8, K),
            flat,
        )

    def forward(self, x: Any, hidden: Any) -> Any:
        o, hidden = self.rnn(x, hidden)
        y = self.fc(self.norm(o))
        return (y.reshape(-1, K) if self.flat else y), hidden


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.norm, self.fc = (
            nn.LSTM(D, 8, batch_first=True),
            nn.LayerNorm(8),
            nn.Linear(8, K),
        )

    def forward(self, x: Any, lengths: Any) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        o = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]
        return self.fc(self.norm(o))


class Noisy(Attention):
    def forward(self, x: Any) -> Any:
        return super().forward(nn.functional.dropout(x, 0.5))


class Centred(Attention):
    """Subtracts the mean of the batch."""

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        return y - y.mean(0) if len(y) > 1 else y


class Keeping(Attention):
    calls = 0

    def forward(self, x: Any) -> Any:
        Keeping.calls += 1
        return super().forward(x) + Keeping.calls * torch.arange(K)


class Estimator:
    classes_ = np.array(["a", "b", "c"])

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.classes_[scores(x).argmax(1)]


class Keras:
    def predict_on_batch(self, x: np.ndarray) -> np.ndarray:
        return scores(x).astype("f4")


class Session:
    def get_inputs(self) -> list[Any]:
        return [type("I", (), {"name": "x", "type": "tensor(float)", "shape": [None, T, D]})]

    def get_outputs(self) -> list[Any]:
        return [type("O", (), {"name": "y"})]

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert names == ["y"] and given["x"].dtype == np.float32
        return [scores(given["x"])]


def held(certificate: Certificate) -> float:
    assert certificate["held_out"].kind == "certificate"
    return float(certificate["held_out"].terms["error"])


PREDICTORS: dict[str, Callable[[], Any]] = {
    "scores": lambda: scores,
    "classes": lambda: lambda x: scores(x).argmax(1),
    "log-probabilities": lambda: lambda x: torch.tensor(scores(x)).log_softmax(1),
    "a dictionary": lambda: lambda x: {"hidden": x, "logits": scores(x)},
    "Keras": Keras,
    "a session": Session,
}


@pytest.mark.parametrize("name", PREDICTORS)
def test_whatever_answers_has_the_exact_binomial_limit(name: str) -> None:
    x, y = real()
    wrong = int((scores(x).argmax(1) != y).sum())
    model = PREDICTORS[name]()
    for certificate in (
        recert.certify(model, holdout=(x, y)),
        recert.certify(model, *real(300, 5), holdout=(x, y)),
    ):
        assert held(certificate) == wrong / N
        assert certificate.risk_bound == binomial_upper_limit(wrong, N, 0.01)
        assert [b.name for b in certificate.bounds if b.kind != "not applicable"] == ["held_out"]
        assert recert.verify(certificate).ok
        found = recert.verify(certificate, model, holdout=(x, y))
        assert found.ok and found.level == "full", list(found.failures())


def test_texts_as_classes_and_as_units() -> None:
    x, y = real()
    names = np.array(["a", "b", "c"])[y]
    assert held(recert.certify(Estimator(), holdout=(x, names))) == held(
        recert.certify(scores, holdout=(x, y))
    )
    words = [f"w{i}" for i in range(60)]
    longer = recert.certify(lambda w: np.char.str_len(w) > 2, holdout=(words, [0] * 10 + [1] * 50))
    assert held(longer) == 0.0
    with pytest.raises(InputError, match="different kinds"):
        recert.certify(Estimator(), holdout=(x, y))


def test_ties_and_what_is_no_number_are_errors() -> None:
    x, y = real()
    assert held(recert.certify(lambda x: np.zeros((len(x), K)), holdout=(x, y))) == 1.0

    def nowhere(x: np.ndarray) -> np.ndarray:
        found = np.eye(K)[np.zeros(len(x), int)]
        found[:, 1] = np.nan
        return found

    assert held(recert.certify(nowhere, holdout=(x, np.zeros(N, int)))) == 1.0
    none = recert.certify(lambda x: np.full(len(x), 0.5), holdout=(x, y % 2), threshold=0.5)
    assert held(none) == 1.0


def test_one_score_needs_its_threshold() -> None:
    x, y = real()
    y = y % 2
    with pytest.raises(InputError, match="threshold="):
        recert.certify(lambda x: x[:, 0, 0], holdout=(x, y))
    found = recert.certify(lambda x: x[:, 0, 0], holdout=(x, y), threshold=-0.25)
    assert held(found) == float(((x[:, 0, 0] > -0.25) != y).mean())
    assert "above the score -0.25" in found.statement()
    assert recert.verify(found, lambda x: x[:, 0, 0], holdout=(x, y)).ok


def test_structure_that_is_not_covered_says_so_in_its_row() -> None:
    torch.manual_seed(0)
    model, (x, y), test = Attention(), real(100, 1), real()
    how: dict[str, Any] = {"max_length": T, "input_bound": 3.0}
    with pytest.raises((UnsupportedModelError, ParityError)) as refused:
        recert.certify(model, x, y, holdout=test, structure="required", **how)
    found = recert.certify(model, x, y, holdout=test, **how)
    with torch.no_grad():
        said = model(torch.tensor(test[0])).argmax(1).numpy()
    assert held(found) == float((said != test[1]).mean())
    assert str(refused.value)[:60] in found["margin_ball"].reason
    # After a look at the sample the limit has the share that it would have beside all others.
    alone = recert.certify(model, x, y, holdout=test, bounds="held_out", **how)
    assert alone.risk_bound < found.risk_bound
    assert alone["held_out"].delta == pytest.approx(len(found.bounds) * found["held_out"].delta)
    assert recert.verify(found, model, holdout=test).ok
    with pytest.raises((UnsupportedModelError, ParityError)):
        recert.certify(model, x, y, **how)


@pytest.mark.parametrize("flat", [False, True])
def test_steps_first_states_and_flattened_answers(flat: bool) -> None:
    torch.manual_seed(1)
    model, x = StepsFirst(flat), real()[0]
    labels = np.random.default_rng(3).integers(0, K, (N, T))
    found = recert.certify(model, holdout=(x, labels), at="average")
    with torch.no_grad():
        y = model(torch.tensor(x).transpose(0, 1), None)[0].reshape(T, N, K)
    wrong = (y.argmax(2).T.numpy() != labels).mean()
    assert held(found) == pytest.approx(wrong, abs=1e-12)
    facts = found.assumption("predictor").facts
    assert facts["steps_first"] and facts["states"]
    assert recert.verify(found, model, holdout=(x, labels)).ok


def test_lengths_are_passed_to_what_asks_for_them() -> None:
    torch.manual_seed(2)
    model, (x, y) = Packed(), real()
    lengths = np.random.default_rng(4).integers(1, T + 1, N)
    found = recert.certify(model, holdout=(x, y, lengths))
    with torch.no_grad():
        said = [
            model(torch.tensor(x[i : i + 1]), lengths[i : i + 1])[0, -1].argmax() for i in range(N)
        ]
    assert held(found) == float((np.array(said) != y).mean())
    seen = recert.certify(lambda x, lengths: np.eye(K)[lengths % K], holdout=(x, y, lengths))
    assert held(seen) == float((lengths % K != y).mean())
    assert seen.assumption("predictor").facts["lengths"]
    assert (
        not recert.certify(scores, holdout=(x, y, lengths)).assumption("predictor").facts["lengths"]
    )


@pytest.mark.parametrize("model", [Noisy, Centred, Keeping])
def test_what_is_no_function_of_the_unit_is_refused(model: Any) -> None:
    torch.manual_seed(0)
    with pytest.raises(ParityError, match=r"run again|alone|batches"):
        recert.certify(model(), holdout=real())


def test_what_draws_seldom_or_looks_at_order_is_refused() -> None:
    x, y = real()

    def seldom(x: np.ndarray) -> np.ndarray:
        return np.roll(scores(x), 1 if len(x) == 97 else 0, axis=1)

    with pytest.raises(ParityError, match="other batches"):
        recert.certify(seldom, holdout=(x, y))


def test_a_module_in_training_mode_is_certified_in_evaluation_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(T * D), nn.Dropout(0.5), nn.Linear(T * D, K))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    recert.certify(model.train(), holdout=real())
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_groups_are_units() -> None:
    x, y = real()
    groups = np.arange(N) // 4
    found = recert.certify(scores, holdout=(x, y, None, groups))
    wrong = (scores(x).argmax(1) != y).reshape(-1, 4).mean(1)
    assert found.sample["m"] == N // 4
    assert held(found) == pytest.approx(wrong.mean(), abs=1e-12)
    assert recert.verify(found, scores, holdout=(x, y, None, groups)).ok


def test_units_of_the_sample_among_those_held_out_are_found() -> None:
    x, y = real()
    found = recert.certify(scores, x[:200], y[:200], holdout=(x, y))
    assert found.assumption("holdout").status == "violated"
    assert found.kind == "estimate"
    twice = recert.certify(scores, holdout=(np.tile(x, (3, 1, 1)), np.tile(y, 3)))
    assert twice.kind == "estimate"


def test_an_onnx_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    w = np.random.default_rng(0).normal(size=(T * D, K)).astype("f4")
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [None, T, D])],
        [helper.make_tensor_value_info("y", 1, [None, K])], [numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    x, y = real()
    wrong = float(((x.reshape(N, -1) @ w).argmax(1) != y).mean())
    assert held(recert.certify(path, holdout=(x, y))) == wrong
    assert held(recert.certify(path, *real(100, 2), holdout=(x, y))) == wrong


def test_somebody_elses_network_from_one_call() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10_000, 3))
    y = (x[:, 0] > 0).astype(int) ^ (rng.random(10_000) < 0.03)
    found = recert.certify(lambda x: np.stack([-x[:, 0], x[:, 0]], 1), holdout=(x, y))
    assert found.risk_bound - held(found) < 0.005


@pytest.mark.parametrize(
    "case",
    [
        {"holdout": None},
        {"holdout": (real()[0], real()[1] + 1)},
        {"holdout": (real()[0], real()[1][:5])},
        {"input_bound": recert.Enforced(1.0)},
        {"population": 10_000},
        {"padding": "cut"},
        {"max_length": T - 1},
        {"structure": "maybe"},
        {"structure": "required"},
        {"at": T + 1},
    ],
)
def test_unusable_declarations(case: dict[str, Any]) -> None:
    with pytest.raises((InputError, UnsupportedModelError)):
        recert.certify(scores, **{"holdout": real(), **case})
    with pytest.raises(InputError, match="no predictor"):
        recert.certify(object(), holdout=real())


@pytest.mark.parametrize("field", ["error", "digest", "units", "kind"])
def test_forged_certificates_fall(field: str) -> None:
    from recert.certificates.schema import seal

    data = json.loads(json.dumps(recert.certify(scores, holdout=real()).to_json()))
    bound = next(b for b in data["bounds"] if b["name"] == "held_out")
    if field == "error":
        bound["terms"]["error"] = 0.1
    elif field == "units":
        bound["terms"]["units"] = 4000.0
    elif field == "digest":
        data["network"]["digest"] = "0" * 64
    else:
        data["bounds"][0] |= {"kind": "certificate", "value": 0.01, "log10": -2.0, "delta": 1e-5}
    assert not recert.verify(data | {"seal": seal(data)}).ok


# Losses in a range.


def test_losses_against_mpmath() -> None:
    mpmath.mp.dps = 40
    rng = np.random.default_rng(0)
    for n, delta, shape in itertools.product((1, 2, 50, 3000), (0.1, 1e-3), (0.1, 1.0, 20.0)):
        losses = rng.beta(shape, 3.0, n)
        mean, V = mpmath.mpf(0), mpmath.mpf(0)
        exact = [mpmath.mpf(float(x)) for x in losses]
        mean = mpmath.fsum(exact) / n
        rate = mpmath.log(mpmath.mpf(2) / delta) / n

        def divergence(p: Any, q: Any = mean) -> Any:
            return q * mpmath.log(q / p) + (1 - q) * mpmath.log((1 - q) / (1 - p))

        low, high = mean, mpmath.mpf(1) - mpmath.mpf(10) ** -30
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if divergence(middle) < rate else (low, middle)
        value = high
        if n > 1:
            V = mpmath.fsum((x - mean) ** 2 for x in exact) / (n - 1)
            log4 = mpmath.log(mpmath.mpf(4) / delta)
            value = min(value, mean + mpmath.sqrt(2 * V * log4 / n) + 7 * log4 / (3 * (n - 1)))
        found = recert.certify_losses(losses, delta=delta)["held_out_losses"].terms["value"]
        assert value <= found <= value * (1 + 1e-9) + 1e-12


def test_losses_in_a_declared_range() -> None:
    rng = np.random.default_rng(0)
    losses = rng.uniform(-1.0, 1.0, 500)
    found = recert.certify_losses(losses, range=(-2.0, 3.0))
    limit = found["held_out_losses"].terms["loss"]
    assert losses.mean() < limit < losses.mean() + 0.5
    assert limit == pytest.approx(-2.0 + 5.0 * found.risk_bound)
    assert recert.verify(found).ok
    assert "the mean loss on a new draw is at most" in found.statement()
    missing = recert.certify_losses([*losses, float("nan")], range=(-2.0, 3.0))
    assert missing["held_out_losses"].terms["loss"] > limit
    for bad in (dict(range=(0.0, 1.0)), dict(range=(3.0, -2.0)), dict(range=1.0), dict(delta=0.0)):
        with pytest.raises(InputError):
            recert.certify_losses(losses, **bad)
    with pytest.raises(InputError):
        recert.certify_losses([])
    # The width of this range is infinite in float64: every loss would be rescaled to 0.
    with pytest.raises(InputError, match="apart"):
        recert.certify_losses([0.0, 1e308], range=(-1e308, 1e308))
    wide = recert.certify_losses([0.0, 0.0], range=(-8e307, 8e307))
    assert wide["held_out_losses"].terms["error"] >= 0.5


def failures(runs: int, once: Callable[[np.random.Generator], tuple[float, float]]) -> int:
    """In how many runs the limit lay below the true risk."""
    found = [once(np.random.default_rng([7, seed])) for seed in range(runs)]
    return sum(limit < risk for limit, risk in found)


def test_coverage_of_losses() -> None:
    """At δ = 0.1 at most 10% of limits lie below the mean; most of all with rare large losses."""
    for p in (0.5, 0.02, 0.002):

        def once(rng: np.random.Generator, p: float = p) -> tuple[float, float]:
            losses = rng.random(200) * (rng.random(200) < p)
            bound = HeldOutLosses().bound(Losses(losses, 0.0, 1.0), 0.1)
            return bound.terms["value"], p / 2

        assert failures(300, once) <= 30


def plain_limit(rule: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    return recert.certify(rule, holdout=(x, y), delta=0.1).risk_bound


def drawn(rng: np.random.Generator, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(n, 2))
    return x, ((x[:, 0] > 0) ^ (rng.random(n) < 0.3)).astype(int)


def test_coverage_of_a_fixed_predictor() -> None:
    def once(rng: np.random.Generator) -> tuple[float, float]:
        return plain_limit(lambda x: (x[:, 0] > 0).astype(int), *drawn(rng)), 0.3

    assert failures(100, once) <= 18  # δ = 0.1, three standard deviations more


def test_a_predictor_that_saw_the_inputs_without_labels_breaks_the_limit() -> None:
    """Why the row says "labelled or not": inputs that were seen can be looked up later."""

    def once(rng: np.random.Generator) -> tuple[float, float]:
        x, y = drawn(rng)
        seen = {row.tobytes() for row in x}

        def rule(z: np.ndarray) -> np.ndarray:
            known = np.array([row.tobytes() in seen for row in z])
            return np.where(known, z[:, 0] > 0, z[:, 0] <= 0).astype(int)

        return plain_limit(rule, x, y), 0.7

    assert failures(40, once) > 30


def test_the_best_of_several_checkpoints_unpaid_breaks_the_limit() -> None:
    """Why choosing by these units is a use of them; at δ over their number it is paid."""

    def once(rng: np.random.Generator, paid: bool) -> tuple[float, float]:
        y = rng.integers(0, 2, 60)
        fewest = min(int((rng.integers(0, 2, 60) != y).sum()) for _ in range(50))
        return binomial_upper_limit(fewest, 60, 0.1 / 50 if paid else 0.1), 0.5

    assert failures(200, lambda rng: once(rng, paid=False)) > 60
    assert failures(200, lambda rng: once(rng, paid=True)) <= 33


def test_which_answer_is_meant_is_asked_not_guessed() -> None:
    """Padding that changes the answer of a network that is read: as without a holdout, refused."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.fc = nn.RNN(D, 8, batch_first=True), nn.Linear(8, K)

        def forward(self, x: Any) -> Any:
            return self.fc(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    (x, y), model = real(), Last()
    lengths = np.arange(N) % T + 1
    x[np.arange(T) >= lengths[:, None]] = 0.0
    with pytest.raises(CallError, match="padding='cut'"):
        recert.certify(model, *real(100, 1), holdout=(x, y, lengths), max_length=T, input_bound=3.0)


def test_answers_that_hang_on_roundings_are_errors() -> None:
    """Two runs whose scores agree to roundings, and whose classes do not, say nothing."""

    def wavering(x: np.ndarray) -> np.ndarray:
        near = 1e-9 if len(x) == 256 else -1e-9  # as a sum in another order
        return np.stack([np.ones(len(x)), 1.0 + np.where(x[:, 0] > 0.5, near, 1.0)], axis=1)

    x = np.random.default_rng(0).uniform(size=(512, 3))
    said = np.ones(512, dtype=int)  # right wherever the scores are apart, and in the first run
    found = recert.certify(wavering, holdout=(x, said))
    wavers = int((x[:, 0] > 0.5).sum())
    assert found.sample["holdout"]["error"] == pytest.approx(wavers / 512) and wavers > 200
