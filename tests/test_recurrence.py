"""What the roles of data and models must not hide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import poisson

import recert
from recert.errors import InputError, ParityError
from recert.samples.leakage import evidence

RNG = np.random.default_rng(7)
X, Y = RNG.standard_normal((200, 4, 2)), RNG.integers(0, 3, 200)
DECLARED = {"input_bound": 20.0, "max_length": 4}


def network(scale: float = 1.0) -> recert.Network:
    rng = np.random.default_rng(1)
    U, W, V = rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), rng.normal(size=(3, 3))
    return recert.vanilla(scale * U, scale * W, scale * V, input_kind="real")


def test_relabelled_training_sequences_are_no_holdout() -> None:
    found = recert.certify(network(), X, Y, holdout=(X, (Y + 1) % 3), **DECLARED)
    assert found.assumption("holdout").status == "violated"
    assert found["held_out"].kind == "estimate"
    fresh = (RNG.standard_normal((50, 4, 2)), RNG.integers(0, 3, 50))
    assert recert.certify(network(), X, Y, holdout=fresh, **DECLARED)["held_out"].kind == (
        "certificate"
    )


def test_a_tiled_sample_with_one_more_row_is_still_tiled() -> None:
    tiled = np.concatenate([np.tile(X[:40], (5, 1, 1)), RNG.standard_normal((1, 4, 2))])
    labels = np.concatenate([np.tile(Y[:40], 5), [0]])
    found = recert.certify(network(), tiled, labels, **DECLARED)
    assert found.assumption("iid").status == "violated"
    assert found.kind == "estimate"
    assert recert.certify(network(), X, Y, **DECLARED).assumption("iid").sound


def test_nearly_the_trained_weights_are_no_prior() -> None:
    found = recert.certify(network(), X, Y, initial=network(1 + 1e-9), **DECLARED)
    assert found.assumption("prior").status == "violated"
    honest = recert.certify(network(), X, Y, initial=network(0.7), **DECLARED)
    assert honest.assumption("prior").status == "declared"


def test_a_model_that_remembers_is_refused() -> None:
    torch = pytest.importorskip("torch")

    class Remembers(torch.nn.Module):
        def __init__(self, keep: bool) -> None:
            super().__init__()
            self.rnn = torch.nn.RNN(2, 4, batch_first=True)
            self.head = torch.nn.Linear(4, 3)
            self.keep, self.h = keep, None

        def forward(self, x):  # type: ignore[no-untyped-def]
            fits = self.h is not None and self.h.shape[1] == len(x)
            out, h = self.rnn(x, self.h if fits else None)
            self.h = h.detach() if self.keep else None
            return self.head(out)

    assert recert.from_torch(Remembers(False), X).d_h == 4
    with pytest.raises(ParityError, match="keeps a state"):
        recert.from_torch(Remembers(True), X)


def test_empty_batches_are_passed_over_and_wrong_objects_named() -> None:
    batches = [(X, Y), (X[:0], Y[:0])]
    assert recert.certify(network(), iter(batches), **DECLARED).sample["m"] == 200
    for wrong in ({"caps": 3}, {"tried": 10**400}, {"holdout_role": "z"}):
        with pytest.raises(InputError):
            recert.certify(network(), X, Y, **{**DECLARED, **wrong})
    with pytest.raises(InputError, match="from_torch"):
        recert.sensitivity(object(), steps=3)


def test_what_evidence_must_exceed() -> None:
    """A false alarm in a million for each row, and e√n for each role of n units (theory 6)."""
    assert evidence.limit() == pytest.approx(math.log(1e6), rel=1e-12)
    assert evidence.limit(10**4) == pytest.approx(math.log(1e6 * math.e * 100.0), rel=1e-12)
    both = math.log(1e6 * math.e**2 * math.sqrt(50.0 * 800.0))
    assert evidence.limit(50, 800) == pytest.approx(both, rel=1e-12)
    assert evidence.limit(0) == evidence.limit(1)


@pytest.mark.parametrize(("k", "width"), [(301, 0), (400, 2), (1000, 10)])
def test_chances_of_large_counts_are_those_of_the_likeliest_rate(k: int, width: int) -> None:
    counts, rates = np.arange(k - width, k + width + 1), np.linspace(0.95, 1.05, 401)[:, None] * k
    near = poisson.pmf(counts, rates).sum(axis=1)
    largest = float((near / poisson.sf(-(-k // 2) - 1, rates[:, 0])).max())
    claimed = math.exp(evidence._log_chance(k, width, -(-k // 2)))
    assert largest <= claimed < 1.1 * largest
