"""The reading on enclosures, against exact numbers: activations, ellipsoids, every value of a walk.

The oracle is ``Shadow``: the same walk, which beside each enclosure computes what one moved network
has there, in float64 for many moves side by side or in 60 digits of mpmath for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import family
from recert.networks.activations import ACTIVATIONS
from recert.networks.blocks import Block, FixedMap
from recert.networks.network import MarginForm, margin_basis
from recert.numerics.norms import convolution_matrix, convolution_norm_bound
from recert.perturbation import ellipsoids
from recert.perturbation.adjoint import backward, forward
from recert.perturbation.ball import BallParts, can_draw, draw, parts_of
from recert.perturbation.ellipsoids import Frame, Node, box, merged, side_by_side
from recert.perturbation.enclosure_domain import EnclosureAlgebra, step_frame

DIGITS = 60
Exact = Callable[[Any], Any]

# Activations.


def exact(name: str, x: Any) -> Any:
    if name == "tanh":
        return mpmath.tanh(x)
    if name == "sigmoid":
        # Far to the left 1 + exp(−x) is exp(−x) in any number of digits.
        return 1 / (1 + mpmath.exp(-x)) if x > -500 else mpmath.exp(x)
    if name == "elu":
        return x if x >= 0 else mpmath.expm1(x)
    if name == "identity":
        return x
    return x if x >= 0 else mpmath.mpf({"relu": 0.0, "leaky_relu": 0.01}[name]) * x


PEAKS = (0.0, math.atanh(math.sqrt(1 / 3)), 2 * math.atanh(math.sqrt(1 / 3)), 18.0, 36.0, 745.0)
SIZES = st.one_of(
    st.floats(0.0, 5.0), st.floats(-300, 300).map(lambda e: 10.0**e), st.sampled_from(PEAKS)
)
SHARES = st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, 1.0, 0.0, 1e-9, -1e-9]))


def departure_allowed(name: str, x: float, e: float, d: float) -> float:
    sigma = ACTIVATIONS[name]
    at, reach = np.array([[x]]), np.array([[e]])
    if sigma.curvature is not None:
        return float(sigma.curvature(at, reach)[0, 0]) * ellipsoids.LARGER * d * d
    assert sigma.departure is not None
    return float(sigma.departure(at, reach)[0, 0]) * ellipsoids.LARGER


@pytest.mark.parametrize("name", ACTIVATIONS)
@settings(max_examples=150, deadline=None)
@given(size=SIZES, sign=st.sampled_from([-1.0, 1.0]), e=SIZES, share=SHARES)
def test_an_activation_departs_from_its_tangent_by_no_more_than_it_says(
    name: str, size: float, sign: float, e: float, share: float
) -> None:
    x, d = sign * size, share * e
    sigma = ACTIVATIONS[name]
    with np.errstate(over="ignore"):
        c = sigma.function(np.array([[x]]))
        slope = float(sigma.slope(np.array([[x]]), c)[0, 0])
    with mpmath.workdps(DIGITS):
        X, d_exact = mpmath.mpf(x), mpmath.mpf(d)
        gone = abs(exact(name, X + d_exact) - mpmath.mpf(float(c[0, 0])) - slope * d_exact)
        rounding = ellipsoids.ROUND * (e + abs(float(c[0, 0]))) + ellipsoids.UNDERFLOW
        assert gone <= mpmath.mpf(departure_allowed(name, x, e, d)) + rounding


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n != "identity"])
def test_what_an_activation_says_is_not_far_too_much(name: str) -> None:
    """At its best point the allowance is used up to a tenth, so that smaller ones would fail."""
    used = 0.0
    for x in np.linspace(-3, 3, 61):
        for e in (0.01, 0.5):
            sigma = ACTIVATIONS[name]
            slope = float(sigma.slope(np.array([[x]]), sigma.function(np.array([[x]])))[0, 0])
            for d in (-e, e):
                gone = abs(float(exact(name, x + d) - exact(name, x)) - slope * d)
                allowed = departure_allowed(name, float(x), e, d)
                used = max(used, gone / allowed if allowed > 1e-9 else 0.0)
    assert 0.9 < used <= 1.0


# Ellipsoids.

AXES = st.lists(
    st.one_of(st.just(0.0), st.floats(-200, 140).map(lambda e: 10.0**e)), min_size=3, max_size=3
).map(lambda a: np.array([a]))


def support(a: np.ndarray, u: np.ndarray) -> float:
    """The largest u·(a ∘ ξ), without squares of extreme numbers."""
    return math.hypot(*(a[0] * u))


DIRECTIONS = [np.eye(3)[i] for i in range(3)] + list(
    np.random.default_rng(0).standard_normal((12, 3)) * 10.0 ** np.arange(-6, 6)[:, None]
)


@settings(max_examples=150, deadline=None)
@given(a=AXES, b=AXES)
def test_sums_and_boxes_lie_in_their_ellipsoids(a: np.ndarray, b: np.ndarray) -> None:
    """An ellipsoid contains a convex set if its support function is nowhere smaller."""
    with np.errstate(over="ignore", invalid="ignore"):
        both, around = merged(a, b), box(a)
    for u in DIRECTIONS:
        assert not support(both, u) < (support(a, u) + support(b, u)) * (1 - 1e-12)
        assert not support(around, u) < np.abs(u) @ a[0] * (1 - 1e-12)


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(AXES, min_size=1, max_size=3), seed=st.integers(0, 2**32))
def test_products_lie_in_their_ellipsoid(parts: list[np.ndarray], seed: int) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        whole = side_by_side(parts)
    assert whole.shape == (1, 3 * len(parts))
    rng = np.random.default_rng(seed)
    for _ in range(8):
        u = [rng.standard_normal(3) * 10.0 ** rng.integers(-6, 6) for _ in parts]
        most = sum(support(a, v) for a, v in zip(parts, u, strict=True))
        assert not math.hypot(*(whole[0] * np.concatenate(u))) < most * (1 - 1e-12)


def test_what_overflowed_is_never_forgotten() -> None:
    bad = [np.array([[x, 1.0, 0.0]]) for x in (math.inf, math.nan)]
    zero = np.zeros((1, 3))
    with np.errstate(over="ignore", invalid="ignore"):
        for a in bad:
            for found in (merged(a, zero), merged(zero, a), merged(merged(a, zero), zero), box(a)):
                assert not np.isfinite(found).all()
            assert not np.isfinite(side_by_side([zero, a])).all()
            node = Node(0, a, None, a, None)
            assert not np.isfinite(step_frame([node]).P).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_frame_holds_the_deviations_of_all_states(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, dims = 2, (2, 3)
    root = rng.standard_normal((n, 5, 5)) * 10.0 ** rng.integers(-5, 3, (n, 1, 5))
    frame = Frame.of(root @ np.swapaxes(root, 1, 2))
    states = [
        Node(0, np.zeros((n, d)), rng.standard_normal((n, d, 5)),
             np.abs(rng.standard_normal((n, d))) * 10.0 ** rng.integers(-6, 2), frame)
        for d in dims
    ]  # fmt: skip
    found = step_frame(states)
    assert found.size == pytest.approx(np.sqrt(np.trace(found.P, axis1=1, axis2=2)))
    shares = []
    for _ in range(300):
        u = rng.standard_normal((n, 5)) * 10.0 ** rng.integers(-3, 3, (n, 5))
        one, two = u[:, :2], u[:, 2:]
        drawn = np.einsum("nid,ni->nd", states[0].J, one) + np.einsum(
            "nid,ni->nd", states[1].J, two
        )
        reached = np.linalg.norm(np.einsum("nde,nd->ne", root, drawn), axis=1)
        reached += np.linalg.norm(states[0].a * one, axis=1)
        reached += np.linalg.norm(states[1].a * two, axis=1)
        shares.append(reached / np.sqrt(np.einsum("ni,nij,nj->n", u, found.P, u)))
    assert 0.5 < np.max(shares) <= 1.0


# Walks.


class Shadow(EnclosureAlgebra):
    """The reading on enclosures; every node also holds what a moved network has there, exactly.

    Args:
        moved: block name → moves of the weights (n, …), a network of its own for every sequence.
        number: float64 → a number of the arithmetic that counts as exact.
        drawn: weights (n, …) from which to move, and how far they are ``apart`` from the blocks'.
    """

    def __init__(
        self,
        parts: BallParts,
        radii: np.ndarray,
        moved: Mapping[str, np.ndarray],
        number: Exact | None = None,
        drawn: Mapping[str, np.ndarray] | None = None,
        apart: np.ndarray | None = None,
    ) -> None:
        far = None if apart is None else parts.spread(apart)
        super().__init__(parts.blocks, parts.spread(radii), drawn, far)
        self.digits = number is not None
        self._number = np.frompyfunc(number, 1, 1) if number else np.array
        self.moved = {}
        for b in parts.blocks:
            value, change = (drawn or {}).get(b.name, b.value), moved[b.name]
            if b.norm == "operator":
                value = convolution_matrix(value, b.positions)
                change = np.stack([convolution_matrix(a, b.positions) for a in change])
            self.moved[b.name] = self._number(value) + self._number(change)

    def _with(self, node: Node, value: np.ndarray) -> Node:
        node.exact = value  # type: ignore[attr-defined]
        return node

    def given(self, c: np.ndarray) -> Node:
        return self._with(super().given(c), self._number(c))

    def starting(self, states: Sequence[Node]) -> Sequence[Node]:
        return self.based(states, step_frame(states))  # all nodes stay, to be checked in the end

    def based(self, nodes: Sequence[Node], frame: Frame) -> list[Node]:
        found = super().based(nodes, frame)
        return [self._with(new, old.exact) for new, old in zip(found, nodes, strict=True)]

    def free(self, v: Node) -> Node:
        return self._with(super().free(v), v.exact)

    def linear(self, block: Block, v: Any) -> Node:
        A, node = self.moved[block.name], super().linear(block, v)
        if not isinstance(v, Node):
            return self._with(node, A[np.arange(len(A)), :, v])
        return self._with(node, (A @ v.exact[:, :, None])[:, :, 0])

    def bias(self, block: Block) -> Node:
        return self._with(super().bias(block), self.moved[block.name])

    def fixed(self, fixed: FixedMap, v: Node) -> Node:
        return self._with(super().fixed(fixed, v), v.exact @ self._number(fixed.matrix).T)

    def add(self, u: Node, v: Node) -> Node:
        return self._with(super().add(u, v), u.exact + v.exact)

    def mul(self, u: Node, v: Node) -> Node:
        return self._with(super().mul(u, v), u.exact * v.exact)

    def scaled(self, v: Node, factor: np.ndarray) -> Node:
        steps = round(1.0 / float(factor[0]))
        return self._with(super().scaled(v, factor), v.exact / steps)

    def activation(self, name: str, v: Node) -> Node:
        function = ACTIVATIONS[name].function
        if self.digits:
            function = np.frompyfunc(lambda x: exact(name, x), 1, 1)
        return self._with(super().activation(name, v), function(v.exact))

    def gate(self, r: Node, a: Node, b: Node) -> Node:
        return self._with(super().gate(r, a, b), a.exact + r.exact * (b.exact - a.exact))

    def concatenate(self, values: Sequence[Node]) -> Node:
        node = super().concatenate(values)
        if len(values) == 1:
            return node
        return self._with(node, np.concatenate([v.exact for v in values], axis=1))


def moves(block: Block, radius: float | np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, …) moves in the block's ball: on its surface, of rank one or full, or inside."""
    shape = (n, *block.shape)
    raw = rng.standard_normal(shape)
    if block.norm == "spectral":
        u, s, v = np.linalg.svd(raw, full_matrices=False)
        s = np.where(rng.random((n, 1)) < 0.5, s / s[:, :1], 1.0)
        s[rng.random(n) < 0.3, 1:] = 0.0
        raw = (u * s[:, None, :]) @ v
    elif block.norm == "operator":
        norms = [convolution_norm_bound(a, block.positions) for a in raw]
        raw = raw / np.reshape(norms, (n, 1, 1, 1))
    else:
        raw = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    inside = np.where(rng.random(n) < 0.8, 1.0, rng.random(n)).reshape(n, *[1] * (raw.ndim - 1))
    return raw * inside * radius


def kinds(rng: np.random.Generator) -> tuple[MarginForm, np.ndarray]:
    """A random network of the family in margin form, and one sequence."""
    cell = str(rng.choice(family.CELLS))
    filters = cell.startswith("conv")
    d_h, tokens = int(rng.choice([2, 4])), bool(rng.random() < 0.5)
    net = family.random_network(
        rng,
        cell,
        d_h=d_h,
        K=int(rng.choice([2, 3])),
        layers=int(rng.choice([1, 2])),
        two_way=not filters and bool(rng.random() < 0.4),
        bias=bool(rng.random() < 0.6),
        proj=2 if cell == "lstm" and rng.random() < 0.5 else 0,
        tokens=tokens or filters,
        embedding=d_h if filters else 3 * int(tokens and rng.random() < 0.4),
        encoder=0 if filters else 3 * int(rng.random() < 0.4),
        hidden=3 * int(rng.random() < 0.5),
        read=str(rng.choice(["step", "final", "mean"])),
        activation=str(rng.choice(["tanh", "relu"])) if filters or cell == "vanilla" else "tanh",
        head_activation=str(rng.choice(list(ACTIVATIONS))),
        scale=float(rng.choice([0.5, 1.0, 3.0])),
    ).margin_form()
    T = int(rng.integers(1, 7))
    x = rng.integers(0, 4, (1, T)) if net.input_kind == "onehot" else rng.normal(size=(1, T, 4))
    return net, x


def share(reached: np.ndarray, allowed: np.ndarray) -> float:
    """The largest quotient, of what is above roundings."""
    counted = np.broadcast_to(reached > 1e-9, np.broadcast(reached, allowed).shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(counted, reached / allowed, 0.0).max())


def check_nodes(algebra: Shadow, tolerance: float = 0.0) -> float:
    """Every deviation lies in what its node says; the largest share of what entries allow."""
    largest, rng = 0.0, np.random.default_rng(0)
    for node in algebra.nodes:
        value = node.exact  # type: ignore[attr-defined]
        away = (value - algebra._number(np.broadcast_to(node.c, value.shape))).astype(float)
        away = np.abs(away)
        slack = tolerance * (1.0 + np.abs(node.c))
        assert not (away > node.entries + slack).any()
        length, loose = np.linalg.norm(away, axis=1), np.linalg.norm(slack)
        assert not (length > np.fmin(node.size, node.rough) + loose).any()
        w = rng.random(np.shape(node.c)) * 10.0 ** rng.integers(-3, 3, np.shape(node.c))
        weighed = np.sqrt((w * np.square(away)).sum(axis=1))
        assert not (weighed > node.weighted(w) + np.sqrt(w.max()) * loose).any()
        largest = max(largest, share(away, node.entries))
    return largest


def check_margins(algebra: Shadow, parts: BallParts, y: Node, tolerance: float = 0.0) -> float:
    """Every functional of the output falls by at most Σ r S + Q; the largest share of that."""
    radii = np.concatenate([np.atleast_1d(algebra.radii[b.name]) for b in parts.blocks])
    basis, largest = margin_basis(y.c.shape[1] + 1), 0.0
    for z, j in ((0, 1), (1, 0)):
        u = np.broadcast_to(basis[z] - basis[j], y.c.shape)
        S, Q = backward(algebra, y, u, parts)
        fall = (u * (y.c - y.exact).astype(float)).sum(axis=1)  # type: ignore[attr-defined]
        allowed = S @ radii + Q
        assert not (fall > allowed + tolerance * (1.0 + np.abs(y.c).sum(axis=1))).any()
        largest = max(largest, share(fall, allowed))
    return largest


def walk(seed: int, n: int = 12) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    net, x = kinds(rng)
    parts = parts_of(tuple(net.blocks()), columns=bool(rng.random() < 0.5))
    radii = np.concatenate([
        np.full(np.ptp(parts.starts[b.name]), b.norm_bound()) for b in parts.blocks
    ])  # fmt: skip
    radii *= 10.0 ** rng.uniform(-5, 0.7) * 10.0 ** rng.uniform(-1, 0, parts.count)
    radii *= rng.random(parts.count) < rng.choice([0.3, 1.0])
    spread = parts.spread(radii)
    moved = {b.name: moves(b, spread[b.name], n, rng) for b in parts.blocks}
    drawn = apart = None
    if can_draw(parts.blocks) and rng.random() < 0.3:
        apart = radii * rng.choice([0.1, 1.0, 3.0])
        drawn = draw(parts, apart, n, rng)
    algebra = Shadow(parts, radii, moved, drawn=drawn, apart=apart)
    with np.errstate(over="ignore", invalid="ignore"):
        y = forward(algebra, net, np.repeat(x, n, axis=0))
        return check_nodes(algebra, 1e-12), check_margins(algebra, parts, y, 1e-12)


def test_every_value_of_a_moved_network_lies_in_its_enclosure() -> None:
    shares = np.array([walk(seed) for seed in range(24)])
    # Enclosures are not so large that nothing could be outside of them.
    assert np.median(shares[:, 0]) > 0.5 and np.median(shares[:, 1]) > 0.05


@pytest.mark.slow
def test_every_value_lies_in_its_enclosure_in_many_walks() -> None:
    shares = np.array([walk(seed) for seed in range(1000, 2500)])
    print(f"\nentries used up to {np.median(shares[:, 0]):.2f}, margins {shares[:, 1].max():.2f}")
