"""Roundings of the reading on enclosures: its claims against networks computed in 60 digits.

Nothing is allowed beyond what the enclosures say themselves: saturated networks, long sequences,
numbers whose squares leave the range of float64, heads whose rows have a large part in common.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import family
from recert.networks.network import Network, vanilla
from recert.perturbation import adjoint, ellipsoids, enclosure_domain
from recert.perturbation.adjoint import forward, losses
from recert.perturbation.ball import parts_of
from test_enclosures import DIGITS, Shadow, check_margins, check_nodes, moves


def in_digits(net: Network, x: np.ndarray, radius: float, seed: int = 0) -> tuple[float, float]:
    """`check_nodes` and `check_margins` with nothing allowed beyond the enclosures themselves."""
    rng, parts = np.random.default_rng(seed), parts_of(tuple(net.blocks()), columns=True)
    radii = np.concatenate([
        np.full(np.ptp(parts.starts[b.name]), radius * b.norm_bound()) for b in parts.blocks
    ])  # fmt: skip
    spread = parts.spread(radii)
    moved = {b.name: moves(b, spread[b.name], 1, rng) * (1 - 1e-12) for b in parts.blocks}
    with mpmath.workdps(DIGITS), np.errstate(over="ignore", invalid="ignore"):
        algebra = Shadow(parts, radii, moved, mpmath.mpf)
        y = forward(algebra, net, x)
        return check_nodes(algebra), check_margins(algebra, parts, y)


def tokens(T: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (1, T))


@pytest.mark.parametrize("cell", ["vanilla", "gru", "lstm", "conv"])
@pytest.mark.parametrize(("scale", "T"), [(1.0, 8), (1e3, 5), (1e8, 3)])
def test_roundings_are_part_of_deviations(cell: str, scale: float, T: int) -> None:
    """Networks that do not move, up to saturation, where tangents are flat."""
    rng = np.random.default_rng(3)
    net = family.random_network(
        rng, cell, d_h=2, tokens=True, embedding=2 * (cell == "conv"), scale=scale, hidden=2,
        head_activation="elu", layers=1 + (cell == "gru"),
    )  # fmt: skip
    for radius in (0.0, 1e-14, 1e-7):
        in_digits(net.margin_form(), tokens(T), radius)


@pytest.mark.parametrize("cell", ["vanilla", "lstm"])
def test_roundings_of_long_sequences(cell: str) -> None:
    net = family.random_network(np.random.default_rng(0), cell, d_h=2, tokens=True, K=2)
    in_digits(net.margin_form(), tokens(200 if cell == "vanilla" else 40), 0.0)


def test_without_roundings_enclosures_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ellipsoids, enclosure_domain, adjoint):
        monkeypatch.setattr(module, "ROUND", 0.0)
    net = family.random_network(np.random.default_rng(0), "vanilla", d_h=2, tokens=True)
    with pytest.raises(AssertionError):
        in_digits(net.margin_form(), tokens(12), 0.0)


def scaled(activation: str, down: float, up: float) -> Network:
    """W times one number and V times another; a ReLU network's answers stay in proportion."""
    rng = np.random.default_rng(1)
    U, W, V = rng.normal(size=(2, 2)), rng.normal(size=(2, 4)), rng.normal(size=(3, 2))
    return vanilla(U, down * np.abs(W), up * V, activation=activation).margin_form()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(
    ("down", "up"),
    [(1e-100, 1e100), (1e-150, 1e150), (1e-162, 1e150), (1e-170, 1e150), (1e-310, 1e150),
     (1e-170, 1e-170), (1e-320, 1.0), (1.0, 1e-170), (1.0, 1e150), (1e150, 1e-160)],
)  # fmt: skip
def test_numbers_whose_squares_leave_the_range_are_enclosed(
    activation: str, down: float, up: float
) -> None:
    net = scaled(activation, down, up)
    for radius in (0.0, 1e-3, 0.5):
        in_digits(net, tokens(3), radius)


@pytest.mark.parametrize("down", [1.0, 1e-100, 1e-150, 1e-158, 1e-162, 1e-165, 1e-200, 1e-320])
def test_a_head_that_may_vanish_leaves_nothing(down: float) -> None:
    """Moves as large as V reach V = 0, at which every margin is 0, however inputs are scaled."""
    net = scaled("relu", down, min(1.0 / down, 1e150))
    parts = parts_of(tuple(net.blocks()), columns=False)
    radii = np.array([b.norm_bound() if b.name == "V" else 0.0 for b in parts.blocks])
    x = np.array([[a, b] for a in range(4) for b in range(4)])
    with np.errstate(over="ignore", invalid="ignore"):
        for z in range(3):
            found = losses(net, x, np.full(16, z), parts, radii)
            assert not (found.left(radii) > 0).any()


@pytest.mark.parametrize("scale", [1e4, 1e9, 1e12])
def test_a_head_with_a_common_part_keeps_its_margins(scale: float) -> None:
    """The margin form's roundings are small beside the form, not only beside the head."""
    rng = np.random.default_rng(0)
    V = scale * rng.standard_normal((1, 3)) + np.round(rng.standard_normal((4, 3)) * 2**20) / 2**20
    b_V = scale + np.round(rng.standard_normal(4) * 2**20) / 2**20
    form = vanilla(np.eye(3), np.eye(3), V, b_V=b_V).margin_form()
    with mpmath.workdps(DIGITS):
        for name, value in (("V", V), ("b_V", b_V[:, None])):
            computed = form.block(name).value.reshape(3, -1)
            for j in range(1, 4):
                rows = [[mpmath.mpf(float(v)) for v in row] for row in value]
                root = mpmath.sqrt(j * (j + 1))
                for c in range(value.shape[1]):
                    exactly = (sum(r[c] for r in rows[:j]) - j * rows[j][c]) / root
                    assert abs(computed[j - 1, c] - exactly) <= 1e-14 * np.linalg.norm(computed)
