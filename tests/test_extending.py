"""CONTRIBUTING is true: a toy cell and a toy statement of this file get everything by one line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

import recert
from family import random_network
from recert import compression
from recert.errors import FileError
from recert.networks.cells import CELLS, CellSpec
from recert.networks.forward import network_predictor
from recert.sensitivities.sensitivity import sensitivity
from recert.theorems import menu
from recert.theorems.setting import SAID, Theorem, finish, owed
from test_compression import random_program


def independent(algebra, layer, x, states):
    """h = tanh(W x + b + u⊙h): every unit sees itself alone (Li et al., IndRNN, 2018)."""
    (h,) = states
    z = algebra.add(algebra.linear(layer.blocks["W"], x), algebra.bias(layer.blocks["b"]))
    z = algebra.add(z, algebra.mul(algebra.bias(layer.blocks["u"]), h))
    return (algebra.activation("tanh", z),)


@pytest.fixture
def toy(monkeypatch):
    """The cell in the table, as CONTRIBUTING says, while a test runs."""
    spec = CellSpec("toy", independent, reads_state=False, vectors=("u",))
    monkeypatch.setitem(CELLS, "toy", spec)
    return random_network(np.random.default_rng(1), "toy", d_x=5, d_h=4, K=3, scale=0.7)


def sample(rng, network, m=80, T=5):
    return rng.standard_normal((m, T, network.d_x)), rng.integers(0, network.K, m)


def test_a_toy_cell_predicts(toy):
    rng = np.random.default_rng(2)
    x, _ = sample(rng, toy, 7)
    block = toy.layers[0].blocks
    h = np.zeros((7, 4))
    for t in range(5):
        h = np.tanh(x[:, t] @ block["W"].value.T + block["b"].value + block["u"].value * h)
    expected = h @ toy.head.V.value.T + toy.head.b.value
    found = network_predictor(toy)(x, np.full(7, 5), "last")
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_a_toy_cell_has_sensitivities_that_no_move_exceeds(toy):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((50, 5, 5))
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    caps = {b.name: 1.5 * b.norm_bound() for b in toy.blocks()}
    found = sensitivity(toy, steps=5, input_bound=1.0, caps=caps)
    lengths = np.full(50, 5)
    before = network_predictor(toy)(x, lengths, "last")
    for _ in range(20):
        values = {b.name: b.value + 0.1 * rng.standard_normal(b.shape) for b in toy.blocks()}
        moved = compression.program.with_values(toy, values)
        if any(b.norm_bound() > caps[b.name] for b in moved.blocks()):
            continue
        change = np.linalg.norm(network_predictor(moved)(x, lengths, "last") - before, axis=1)
        allowed = 0.0
        for old, new in zip(toy.blocks(), moved.blocks(), strict=True):
            step = np.linalg.norm(new.matrix() - old.matrix(), 2)
            allowed += float(np.exp(found.log_lambda[old.name])) * step
        assert change.max() <= allowed
    assert np.isfinite(list(found.log_lambda.values())).all()


def test_a_toy_cell_gets_a_certificate_and_a_picture_and_a_refusal_that_names_the_checker(
    toy, tmp_path
):
    pytest.importorskip("matplotlib")
    certificate = recert.certify(toy, *sample(np.random.default_rng(4), toy))
    assert certificate.best is not None
    assert 0.0 < certificate.best.value <= 1.0
    certificate.plot(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
    pytest.importorskip("flint")
    found = recert.verify(certificate)
    assert not found.ok
    assert any("no checker for cell 'toy'" in str(check.recorded) for check in found.checks)


def test_a_toy_cell_is_saved_and_loaded(toy, tmp_path):
    recert.save_network(toy, tmp_path / "toy.safetensors")
    assert recert.load_network(tmp_path / "toy.safetensors").digest == toy.digest


def test_a_toy_cell_is_compressed_and_its_file_names_it(toy, monkeypatch):
    pytest.importorskip("constriction")
    data = compression.encode(random_program(toy, np.random.default_rng(5)))
    assert compression.encode(compression.decode(data)) == data
    assert compression.decode(data).network().layers[0].cell == "toy"
    monkeypatch.delitem(CELLS, "toy")
    with pytest.raises(FileError, match="cell 'toy' is not covered"):
        compression.decode(data)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if not CELLS[cell].filters])
def test_every_cell_of_the_table_is_read_and_confirmed(cell, tmp_path):
    pytest.importorskip("flint")
    rng = np.random.default_rng(6)
    network = random_network(rng, cell, d_x=3, d_h=3, scale=0.5)
    data = sample(rng, network)
    certificate = recert.certify(network, *data)
    assert recert.verify(certificate, network, *data).ok
    recert.save_network(network, tmp_path / "net.safetensors")
    assert recert.load_network(tmp_path / "net.safetensors").digest == network.digest


@dataclass(frozen=True)
class ErrorsAreShares(Theorem):
    """At most the whole of a population errs: true, and of no use."""

    name: str = "toy"
    title: str = "Toy (an error is a share)"
    needs: tuple[str, ...] = ("iid", *SAID)
    reference: str = "no theory"

    def supports(self, setting):
        """Every network."""
        return ""

    def bound(self, setting, delta):
        """1, whatever is paid."""
        cost = owed(self, setting.choice_costs)
        terms = {"error": setting.table.error}
        return finish(self, 1.0, math.log(1.0), delta=delta, terms=terms, choices={}, cost=cost)


def test_a_toy_statement_is_on_the_menu_and_in_the_picture_and_not_confirmed(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(menu, "THEOREMS", (*menu.THEOREMS, ErrorsAreShares()))
    rng = np.random.default_rng(7)
    network = random_network(rng, "vanilla", d_x=3, d_h=3)
    data = sample(rng, network)
    certificate = recert.certify(network, *data, bounds=["toy", "margin_ball"])
    found = {bound.name: bound for bound in certificate.bounds}
    assert (found["toy"].value, found["toy"].title) == (1.0, ErrorsAreShares.title)
    # δ is shared with it.
    alone = recert.certify(network, *data, bounds=["margin_ball"])
    assert (
        found["margin_ball"].delta < next(b for b in alone.bounds if b.name == "margin_ball").delta
    )
    certificate.plot(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
    path = tmp_path / "certificate.json"
    certificate.save(path)
    assert recert.load_certificate(path).to_json() == certificate.to_json()
    pytest.importorskip("flint")
    checks = recert.verify(path).checks
    assert any("no checker for statement 'toy'" in str(c.derived) for c in checks if not c.ok)
    assert not recert.verify(path).ok
