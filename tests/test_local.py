"""Moves of the weights on given sequences: parts, draws, radii, and what the passes promise.

Beside what is promised stands an adversary who climbs: conditional gradients in torch float64 over
the product of the balls, one step of which goes to the networks that are worst to first order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import family
from recert.networks import cells, reading
from recert.networks.blocks import Block, FixedMap
from recert.networks.network import MarginForm, margin_basis
from recert.networks.reading import Stage
from recert.numerics.norms import convolution_matrix, convolution_norm_bound
from recert.perturbation.adjoint import MarginLosses, by_length, losses
from recert.perturbation.ball import BallParts, draw, euclidean_ball, parts_of, spectral_ball, whole
from recert.perturbation.radius_search import (
    CAP_LEVELS,
    RADIUS_GRID,
    RADIUS_LEVELS,
    Radii,
    column_caps,
    on_grid,
)
from test_enclosures import kinds, moves

Array = np.ndarray

# Parts.


def reader(columns: int = 5, zero: tuple[int, ...] = (), seed: int = 0) -> Block:
    value = np.random.default_rng(seed).standard_normal((3, columns))
    value[:, list(zero)] = 0.0
    return Block("W", value, "column", zero)


def dense(name: str = "U", seed: int = 1) -> Block:
    return Block(name, np.random.default_rng(seed).standard_normal((3, 3)), "spectral")


def test_parts_are_blocks_or_columns() -> None:
    blocks = (reader(5, (2,)), dense(), Block("b", np.ones(3), "euclidean"))
    apart, joined = parts_of(blocks, columns=True), parts_of(blocks, columns=False)
    assert apart.parameters.tolist() == [3, 3, 0, 3, 3, 9, 3]
    assert joined.parameters.tolist() == [12, 9, 3]
    assert apart.parameters.sum() == sum(b.parameters for b in blocks)
    assert apart.split(blocks[0]) and not joined.split(blocks[0]) and not apart.split(blocks[1])
    spread = apart.spread(np.arange(7.0))
    assert spread["W"].tolist() == [0, 1, 2, 3, 4] and spread["U"] == 5.0 and spread["b"] == 6.0
    S = np.arange(14.0).reshape(2, 7)
    assert whole(apart, S, joined).tolist() == [[10, 5, 6], [45, 12, 13]]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(1, 4))
def test_batches_hold_every_sequence_once_and_one_length(lengths: list[int], batch: int) -> None:
    found = list(by_length(np.array(lengths), batch))
    assert sorted(i for rows in found for i in rows) == list(range(len(lengths)))
    assert all(len(rows) <= batch and len({lengths[i] for i in rows}) == 1 for rows in found)


# Draws.


def uniform(values: Array) -> float:
    """p-value that values are uniform on [0, 1]."""
    return float(stats.kstest(values, "uniform").pvalue)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 3), (3, 1), (2, 2), (4, 3), (2, 5)])
def test_matrices_are_uniform_in_the_spectral_ball(rows: int, columns: int) -> None:
    """P(‖X‖ ≤ t) is a ratio of volumes, and a ball is what rejection leaves of a cube."""
    rng = np.random.default_rng(0)
    drawn = spectral_ball(rows, columns, 4000, rng)
    assert drawn.shape == (4000, rows, columns)
    norms = np.linalg.norm(drawn, 2, axis=(1, 2))
    assert norms.max() <= 1.0 + 1e-12 and uniform(norms ** (rows * columns)) > 1e-3
    cube = rng.uniform(-1, 1, (200_000, rows, columns))
    kept = cube[np.linalg.norm(cube, 2, axis=(1, 2)) <= 1.0]
    for one in (lambda X: X[:, 0, 0], lambda X: X[:, -1, -1], lambda X: (X**2).sum(axis=(1, 2))):
        if len(kept) > 300:
            assert stats.ks_2samp(one(drawn), one(kept)).pvalue > 1e-3
    # Orthonormal columns of another length are not uniform.
    q, _ = np.linalg.qr(rng.standard_normal((4000, rows + columns + 3, min(rows, columns))))
    wrong = np.linalg.norm(q[:, : max(rows, columns)], 2, axis=(1, 2))
    assert uniform(wrong ** (rows * columns)) < 1e-6


@pytest.mark.parametrize("d", [1, 2, 7])
def test_vectors_are_uniform_in_the_ball(d: int) -> None:
    drawn = euclidean_ball(d, 4000, np.random.default_rng(1))
    assert uniform(np.linalg.norm(drawn, axis=1) ** d) > 1e-3
    assert uniform((np.sign(drawn[:, 0]) * np.abs(drawn[:, 0]) + 1) / 2) > 1e-3 or d > 1
    assert np.abs(drawn.mean(axis=0)).max() < 0.06


@pytest.mark.parametrize("columns", [True, False])
def test_draws_lie_in_their_balls_and_leave_padding_alone(columns: bool) -> None:
    padded = Block("V", np.array([[1.0, 0.0, 2.0], [3.0, 0.0, 4.0]]), "spectral", (1,))
    blocks = (reader(4, (2,)), dense(), padded, Block("b", np.ones(3), "euclidean"))
    parts = parts_of(blocks, columns=columns)
    far = np.arange(1.0, parts.count + 1)
    found = draw(parts, far, 500, np.random.default_rng(2))
    spread = parts.spread(far)
    moved = {b.name: found[b.name] - b.value for b in blocks}
    assert not found["W"][:, :, 2].any() and not found["V"][:, :, 1].any()
    lengths = np.linalg.norm(moved["W"], axis=1) / spread["W"]
    assert lengths.max() <= 1 + 1e-9 and uniform(lengths[:, 1] ** 3) > 1e-3
    for name, P in (("U", 9), ("V", 4)):
        norms = np.linalg.norm(moved[name], 2, axis=(1, 2)) / spread[name]
        assert norms.max() <= 1 + 1e-9 and uniform(norms**P) > 1e-3
    assert uniform((np.linalg.norm(moved["b"], axis=1) / spread["b"]) ** 3) > 1e-3


# Radii and caps on their grids.

WANTED = st.floats(-320, 300).map(lambda e: 10.0**e)


@settings(max_examples=60, deadline=None)
@given(
    wanted=st.lists(WANTED, min_size=7, max_size=7),
    cap=st.sampled_from([1.0, 3.7, 1e-250, 1e100]),
    columns=st.booleans(),
)
def test_radii_lie_on_declared_grids_and_their_indices_are_paid_for(
    wanted: list[float], cap: float, columns: bool
) -> None:
    blocks = (reader(5, (2,)), dense(), Block("b", np.ones(3), "euclidean"))
    blocks = tuple(Block(b.name, b.value * (cap / 10), b.norm, b.zero_columns) for b in blocks)
    parts = parts_of(blocks, columns=columns)
    caps = {b.name: cap * (1 + i) for i, b in enumerate(blocks)}
    found = on_grid(parts, cap * np.clip(wanted[: parts.count], 1e-55, 1e200), caps)
    price, rows = 0.0, {row.what: row for row in found.costs}
    for b in blocks:
        row = rows.pop(f"radius of {b.name}, in caps")
        base = caps[b.name] * RADIUS_GRID.value(row.index)
        # An index of a grid on which Σ exp(−cost) ≤ 1.
        price += math.log(2 * (abs(row.index) + 1) * (abs(row.index) + 2))
        first, last = parts.starts[b.name]
        moving = parts.parameters[first:last] > 0
        levels = 2 * np.log2(found.radii[first:last][moving] / base)
        falls = -2 * np.log2(found.caps[first:last] / caps[b.name])
        assert np.allclose(levels, np.round(levels), atol=1e-6)
        assert np.allclose(falls, np.round(falls), atol=1e-6)
        if parts.split(b):
            assert levels.min() >= 0 and levels.max() < RADIUS_LEVELS - 0.5
            assert falls.min() >= -1e-6 and falls.max() < CAP_LEVELS - 0.5
            price += moving.sum() * (math.log(RADIUS_LEVELS) + math.log(CAP_LEVELS))
        else:
            assert np.allclose(levels, 0) and np.allclose(falls, 0)
        assert not found.radii[first:last][~moving].any()
        # Never a radius that rounding of the weights could exceed.
        assert found.radii[first:last][moving].min() >= 0.9e-6 * caps[b.name]
    assert sum(row.nats for row in found.costs) >= price * (1 - 1e-15)
    assert math.isfinite(found.nats(parts))


def test_the_price_of_an_index_is_that_of_a_prefix_code() -> None:
    total = sum(math.exp(-RADIUS_GRID.cost(j)) for j in range(-30_000, 30_000))
    assert 0.74 < total <= 0.75


@given(st.lists(st.floats(-300, 0).map(lambda e: 10.0**e), min_size=5, max_size=5))
def test_columns_lie_within_their_caps(norms: list[float]) -> None:
    raw = np.random.default_rng(0).standard_normal((3, 5))
    block = Block("W", raw / np.linalg.norm(raw, axis=0) * norms * (1 - 1e-15), "column")
    parts = parts_of((block,), columns=True)
    found = column_caps(parts, {"W": 1.0})
    for i in range(5):
        length = math.hypot(*block.value[:, i])
        assert length <= found[i] <= 1.0
        # A smaller cap on the grid would not have held.
        assert found[i] * 2**-0.5 < length * (1 + 1e-6) or found[i] == 2.0 ** (-3.5)


SHARE = st.floats(-7, 3).map(lambda e: 10.0**e)


@given(st.lists(st.tuples(WANTED, SHARE, st.integers(0, 10**6)), min_size=1, max_size=5))
def test_nats_are_logarithms_of_volumes_rounded_up(rows: list[tuple[float, float, int]]) -> None:
    caps, shares, P = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    caps = np.clip(caps, 1e-250, 1e150)
    far = caps * shares
    parts = BallParts((), {}, P)
    with mpmath.workdps(30):
        triples = zip(caps, far, P, strict=True)
        exact = sum(p * mpmath.log1p(mpmath.mpf(c) / e) for c, e, p in triples)
        found = Radii(far, caps, ()).nats(parts)
        assert exact <= found <= exact * (1 + mpmath.mpf(10) ** -11)


# Passes: an adversary who climbs.


FUNCTIONS = {
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "identity": lambda v: v,
    "leaky_relu": lambda v: torch.where(v >= 0, v, 0.01 * v), "elu": torch.nn.functional.elu,
}  # fmt: skip


class TorchAlgebra(cells.Algebra):
    """The cells' equations on torch tensors, with weights (n, …) of their own for every row."""

    def __init__(self, blocks: Sequence[Block], weights: dict[str, torch.Tensor]) -> None:
        self.weights = dict(weights)
        for b in blocks:
            if b.norm == "operator":
                units = np.eye(b.value.size).reshape(-1, *b.shape)
                maps = torch.tensor(np.stack([convolution_matrix(e, b.positions) for e in units]))
                flat = weights[b.name].flatten(1)
                self.weights[b.name] = torch.einsum("np,poi->noi", flat, maps)

    def linear(self, block: Block, v: torch.Tensor) -> torch.Tensor:
        A = self.weights[block.name]
        if v.dtype == torch.int64:
            return A[torch.arange(len(A)), :, v]
        return torch.einsum("noi,ni->no", A, v)

    def bias(self, block: Block) -> torch.Tensor:
        return self.weights[block.name]

    def fixed(self, fixed: FixedMap, v: torch.Tensor) -> torch.Tensor:
        return v @ torch.tensor(fixed.matrix).T

    def add(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return u + v

    def mul(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return u * v

    def activation(self, name: str, v: torch.Tensor) -> torch.Tensor:
        return FUNCTIONS[name](v)

    def gate(self, r: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (1 - r) * a + r * b

    def concatenate(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat(list(values), dim=1)


def outputs(algebra: TorchAlgebra, net: MarginForm, steps: list[torch.Tensor]) -> torch.Tensor:
    """The network's answers to sequences of one length, written out once more."""

    def run(stage: Stage, values: list[Any]) -> list[Any]:
        states = [torch.zeros(len(steps[0]), d, dtype=torch.float64) for d in stage.dimensions]
        found = []
        for x in values:
            states = stage.step(algebra, x, states)
            found.append(states[stage.output_index])
        return found

    values = [reading.encode(algebra, net, x) for x in steps]
    for stage in reading.stages(net):
        if not stage.two_way:
            values = run(stage, values)
            final = values[-1]
            continue
        ahead, back = (Stage((layer,)) for layer in stage.layers)
        one, other = run(ahead, values), run(back, values[::-1])[::-1]
        final = torch.cat([one[-1], other[0]], dim=1)
        values = [torch.cat(pair, dim=1) for pair in zip(one, other, strict=True)]
    last = sum(values) / len(values) if net.read == "mean" else values[-1]
    return reading.head(algebra, net, final if net.read == "final" else last)


def steepest(block: Block, G: torch.Tensor, radius: Any) -> torch.Tensor:
    """The move in the ball that gains most along G (for filter banks, along G itself)."""
    if block.norm == "spectral":
        u, _, v = torch.linalg.svd(G, full_matrices=False)
        return radius * (u @ v)
    if block.norm != "operator":
        lengths = G.norm(dim=1, keepdim=True).clamp_min(1e-300)
        return G / lengths * torch.as_tensor(radius, dtype=torch.float64)
    norms = [max(1e-300, convolution_norm_bound(g.numpy(), block.positions)) for g in G]
    return radius * G / torch.tensor(norms).reshape(-1, 1, 1, 1)


def climb(
    net: MarginForm, parts: BallParts, far: Array, x: Array, u: Array, rng: np.random.Generator,
    *, n: int = 4, rounds: int = 14,
) -> float:  # fmt: skip
    """How far the functional u of the output can be made to fall on one sequence, as found."""
    spread = parts.spread(far)
    base = {b.name: torch.tensor(np.array(b.value))[None] for b in parts.blocks}
    steps = [torch.tensor(np.repeat(x[t : t + 1], n, axis=0)) for t in range(len(x))]
    at = {b.name: torch.tensor(moves(b, spread[b.name], n, rng)) for b in parts.blocks}
    for move in at.values():
        move[0] = 0.0

    def value(moved: dict[str, torch.Tensor]) -> torch.Tensor:
        algebra = TorchAlgebra(parts.blocks, {k: base[k] + moved[k] for k in base})
        return outputs(algebra, net, steps) @ torch.tensor(u)

    start, lowest = None, math.inf
    for k in range(rounds):
        leaves = {name: move.clone().requires_grad_(True) for name, move in at.items()}
        found = value(leaves)
        values = found.detach().numpy()
        start = float(values[0]) if start is None else start
        lowest = min(lowest, float(values.min()))
        slopes = torch.autograd.grad(found.sum(), list(leaves.values()), allow_unused=True)
        for b, G in zip(parts.blocks, slopes, strict=True):
            if G is not None and torch.isfinite(G).all():
                pace = 1.0 if k < 6 and k % 2 == 0 else 2.0 / (k / 2 + 2.0)
                goal = steepest(b, -G, spread[b.name])
                at[b.name] = (1 - pace) * at[b.name] + pace * goal
    assert start is not None
    return start - lowest


def sizes(parts: BallParts, rng: np.random.Generator, exponent: float) -> Array:
    norms = [np.full(np.ptp(parts.starts[b.name]), b.norm_bound()) for b in parts.blocks]
    spread = 10.0 ** (exponent + rng.uniform(-1, 0, parts.count))
    return np.concatenate(norms) * spread * (rng.random(parts.count) < rng.choice([0.4, 1.0]))


def climbed(seed: int, exponent: float | None = None) -> float:
    """The largest share of the promised loss that the adversary reaches; never above 1."""
    rng = np.random.default_rng(seed)
    net, x = kinds(rng)
    parts = parts_of(tuple(net.blocks()), columns=bool(rng.random() < 0.5))
    far = sizes(parts, rng, rng.uniform(-4, 0.7) if exponent is None else exponent)
    K, reached = net.classes, 0.0
    z, basis = int(rng.integers(K)), margin_basis(K)
    with np.errstate(over="ignore", invalid="ignore"):
        found = losses(net, x, np.array([z]), parts, far)
    for i in range(K - 1):
        u = basis[z] - basis[(z + 1 + i) % K]
        fall = climb(net, parts, far, x[0], u, rng)
        promised = float(found.S[i, 0] @ far + found.Q[i, 0])
        assert not fall > promised + 1e-10 * (1 + abs(found.M[i, 0])), (seed, fall, promised)
        if fall > 1e-9 and promised > 0:
            reached = max(reached, fall / promised)
    return reached


def test_no_climb_passes_the_promised_loss() -> None:
    shares = [climbed(seed) for seed in range(8)]
    assert max(shares) > 0.9  # the adversary is good enough to catch a promise that is short


@pytest.mark.slow
def test_no_climb_passes_the_promised_loss_in_many_networks() -> None:
    shares = np.array([climbed(seed) for seed in range(1000, 1400)])
    print(f"\npromised losses reached: median {np.median(shares):.2f}, most {shares.max():.4f}")


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_one_step_of_a_vanilla_network_loses_what_is_promised(activation: str) -> None:
    """Every block is used once: the first order is exact, and second order is small."""
    rng = np.random.default_rng(5)
    for _ in range(5):
        net = family.random_network(
            rng, "vanilla", d_h=4, K=3, tokens=True, activation=activation
        ).margin_form()
        parts = parts_of(tuple(net.blocks()), columns=True)
        far = np.concatenate([
            np.full(np.ptp(parts.starts[b.name]), 1e-4 * b.norm_bound()) for b in parts.blocks
        ])  # fmt: skip
        x, basis = rng.integers(0, 4, (1, 1)), margin_basis(3)
        found = losses(net, x, np.array([1]), parts, far)
        promised = float(found.S[0, 0] @ far)
        if promised > 1e-9:
            assert climb(net, parts, far, x[0], basis[1] - basis[2], rng) > 0.97 * promised


def test_what_is_left_is_the_least_over_wrong_classes() -> None:
    found = MarginLosses(
        np.array([[3.0], [2.0]]), np.array([[[1.0]], [[0.5]]]), np.array([[0.1], [0.2]])
    )
    assert found.left(np.array([2.0])) == pytest.approx([0.8])
    assert np.isnan(MarginLosses(found.M * np.nan, found.S, found.Q).left(np.zeros(1))).all()


def test_columns_apart_cost_what_their_block_costs() -> None:
    rng = np.random.default_rng(2)
    net = family.random_network(rng, "gru", tokens=True).margin_form()
    apart, joined = (parts_of(tuple(net.blocks()), columns=c) for c in (True, False))
    x, z = rng.integers(0, 4, (6, 4)), np.zeros(6, dtype=int)
    one = losses(net, x, z, apart, np.full(apart.count, 1e-3))
    other = losses(net, x, z, joined, np.full(joined.count, 1e-3))
    np.testing.assert_allclose(whole(apart, one.S, joined), other.S, rtol=1e-12)
    np.testing.assert_allclose(one.Q, other.Q, rtol=1e-12)
    np.testing.assert_array_equal(one.M, other.M)
    # A column of a letter that no sequence holds may move without loss.
    few = losses(net, np.minimum(x, 2), z, apart, np.full(apart.count, 1e-3))
    assert not few.S[:, :, apart.starts["W_n"][0] + 3].any()
