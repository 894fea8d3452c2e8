"""Each erratum of docs/errata.md, run: the printed line fails, the corrected line holds."""

from __future__ import annotations

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom

from recert import printed
from recert.networks import reading
from recert.networks.forward import NumbersAlgebra
from recert.networks.layers import channel_average, layer_of
from recert.networks.network import Block, Head, Network
from recert.numerics.logspace import log_S
from recert.numerics.norms import convolution_matrix, convolution_norm_bound
from recert.printed.evaluate import orthogonality
from recert.sensitivities.gate_ranges import classwide_gates
from recert.sensitivities.growth_rates import rates
from recert.sensitivities.sensitivity import sensitivity

FLOATS = st.floats(-1e3, 1e3).map(lambda v: round(v, 6))


def margin(y: np.ndarray, z: int) -> float:
    return float(y[z] - np.max(np.delete(y, z)))


def value(result: printed.Printed) -> float:
    assert result.log10 is not None
    return 10.0**result.log10


def spectral(A: np.ndarray) -> float:
    return float(np.linalg.norm(A, 2))


def with_norm(A: np.ndarray, norm: float) -> np.ndarray:
    return A * (norm / spectral(A))


# --- 1: Lemma 5 ----------


def test_1_printed_chain_of_lemma_5_is_false():
    e1 = np.array([1.0, 0.0])
    assert 2 * np.max(np.abs(e1)) > np.linalg.norm(e1)  # printed: ≤
    step = np.array([1.0, -1.0]) / math.sqrt(2.0)
    change = abs(margin(step, 0) - margin(np.zeros(2), 0))
    assert change > 1.4 * np.linalg.norm(step)  # so the margin is not 1-Lipschitz
    assert change == pytest.approx(math.sqrt(2.0) * np.linalg.norm(step), rel=1e-15)  # attained


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(2, 6))
def test_1_the_margin_is_root_two_lipschitz(data, K):
    y = np.array(data.draw(st.lists(FLOATS, min_size=K, max_size=K)))
    step = np.array(data.draw(st.lists(FLOATS, min_size=K, max_size=K)))
    z = data.draw(st.integers(0, K - 1))
    change = abs(margin(y + step, z) - margin(y, z))
    assert change <= math.sqrt(2.0) * np.linalg.norm(step) + 1e-9


# --- 2: the range in Lemma 4 ----------


def test_2_printed_range_of_the_margin_is_exceeded():
    B_V, h = 3.0, np.array([0.7])
    V = B_V * np.array([[1.0], [-1.0]]) / math.sqrt(2.0)
    assert spectral(V) == pytest.approx(B_V)
    M = margin(V @ h, 0)
    assert 1.4 * B_V * np.linalg.norm(h) < M  # printed: ≤ B_V ‖h‖
    assert pytest.approx(math.sqrt(2.0) * B_V * np.linalg.norm(h), rel=1e-14) == M


def test_2_root_two_covers_the_range():
    rng = np.random.default_rng(2)
    for _ in range(500):
        K, d_h = rng.integers(2, 6), rng.integers(1, 5)
        V, h = rng.normal(size=(K, d_h)), rng.normal(size=d_h)
        M = max(abs(margin(V @ h, z)) for z in range(K))
        assert math.sqrt(2.0) * spectral(V) * np.linalg.norm(h) * (1 + 1e-12) >= M


# --- 3: the norm in Lemma 9 ----------


def mean_absolute_rademacher_sum(m: int) -> float:
    heads = np.arange(m + 1)
    return float(np.sum(binom.pmf(heads, m, 0.5) * np.abs(2 * heads - m)))


def test_3_a_sup_norm_cover_in_lemma_9_gives_less_than_the_complexity():
    # H = {−r, 0, r}, constant functions on m points: everything is known exactly.
    r, m = 1.0, 2000
    complexity = r * mean_absolute_rademacher_sum(m) / m

    def sup_norm(epsilon):
        return math.log(3.0) if epsilon < r else 0.0

    def euclidean(epsilon):  # ‖c − c'‖ over the sample is √m |c − c'|
        return sup_norm(epsilon / math.sqrt(m))

    as_in_print = value(printed.lemma_9(r=r, m=m, log_covering=sup_norm, alpha=1e-6))
    corrected = value(printed.lemma_9(r=r, m=m, log_covering=euclidean, alpha=1e-6))
    assert as_in_print < 0.5 * complexity  # printed: an upper bound of the complexity
    assert corrected >= complexity


def test_3_the_scale_that_makes_a_sup_norm_cover_a_euclidean_one():
    m, epsilon = 50, 0.2
    constants = np.linspace(-1.0, 1.0, 201)[:, None] * np.ones((1, m))

    def worst(scale):
        centres = np.arange(-1.0 + scale, 1.0 + scale, 2 * scale)[:, None] * np.ones((1, m))
        gaps = constants[:, None, :] - centres[None, :, :]
        assert np.abs(gaps).max(axis=2).min(axis=1).max() <= scale + 1e-12  # a sup-norm cover
        return np.linalg.norm(gaps, axis=2).min(axis=1).max()

    assert worst(epsilon) > 5 * epsilon  # printed: at most ε
    assert worst(epsilon / math.sqrt(m)) <= epsilon * (1 + 1e-12)


# --- 4: log(1 + x) against log(2x) ----------


def lemma_4_setting():
    d = math.sqrt(2 * 3 + 3 * 3 + 3 * 2)
    caps = {"t": 2, "d_x": 2, "d_h": 3, "d_y": 2, "B_x": 1.0, "B_U": 0.5, "B_V": 1.0, "B_W": 0.4}
    S = math.exp(log_S(0.5, 2))
    c = 1.0 * 0.4  # ρ_y ρ_h B_V B_W B_x max{1, ρ_h B_U}
    r = min(math.sqrt(d), 0.4 * S)
    C = c * math.sqrt(d) * 2 * S
    return caps, d, C, r


def test_4_the_replacement_fails_exactly_past_the_threshold():
    _, _, C, r = lemma_4_setting()
    threshold = (6 * C / r) ** 2
    for m, printed_holds in ((0.99 * threshold, True), (1.01 * threshold, False)):
        epsilon = 2 * r * math.sqrt(m)  # the upper end of the integral
        x = 12 * C / epsilon
        assert (math.log1p(x) <= math.log(2 * x)) is printed_holds
    m = 5 * threshold
    assert 24 * C / (2 * r * math.sqrt(m)) < 1  # here the printed integrand is not even real


def test_4_log_one_plus_x_bounds_the_integral_at_every_m():
    caps, d, C, r = lemma_4_setting()
    for m in (10, 10**3, 10**5, 10**7):
        alpha, top = 1 / math.sqrt(m), 2 * r * math.sqrt(m)
        integral = quad(
            lambda u: math.exp(u) * math.sqrt(3 * d**2 * math.log1p(12 * C / math.exp(u))),
            math.log(alpha),
            math.log(top),
            limit=200,
        )[0]
        corrected = top * math.sqrt(3 * d**2 * math.log1p(12 * C / alpha))
        assert integral <= corrected
        # the integrand is Lemma 3's covering number at ε/2
        from_lemma_3 = printed.lemma_3(**caps, epsilon=alpha / 2).ln
        assert from_lemma_3 == pytest.approx(3 * d**2 * math.log1p(12 * C / alpha), rel=1e-12)


# --- 5: a margin or a cap chosen after looking ----------

# x is uniform on {0,1}^J; network j errs on x where x_j = 1, so every true error is 1/2, and its
# margins are ±3^-j. At a margin γ_j just below 3^-j, networks 1..j have R̂_γj = R̂_0, and the later
# ones R̂_γj = 1 (in ramp loss at least 1/2), never below their true error. With 3^j read as a norm,
# the same nested classes are those of a growing cap. The statement at a fixed γ_j, "for all
# networks: error ≤ R̂_γj + q_j", is taken at its sharpest: q_j is the exact quantile of the largest
# deviation. The learner picks j by the smallest bound.
J, M_SAMPLE, DELTA = 60, 400, 0.1


def quantile(j: int, delta: float) -> float:
    """The least q with P(max over i ≤ j of 1/2 − R̂_i > q) ≤ δ."""
    k = np.arange(M_SAMPLE + 1)
    fails = 1.0 - binom.sf(k - 1, M_SAMPLE, 0.5) ** j  # some network has fewer than k errors
    return 0.5 - float(k[fails <= delta].max()) / M_SAMPLE


def failure_when_chosen(budget: float) -> tuple[float, float]:
    """Exact and simulated probability that the bound of the chosen j is below the true error."""
    q = np.array([quantile(j, budget) for j in range(1, J + 1)])
    floors = np.round((0.5 - q) * M_SAMPLE)
    exact = 1.0 - float(np.prod(binom.sf(floors - 1, M_SAMPLE, 0.5)))
    rng = np.random.default_rng(5)
    risks = rng.binomial(M_SAMPLE, 0.5, size=(4000, J)) / M_SAMPLE
    chosen = np.argmin(risks + q, axis=1)
    bounds = risks[np.arange(len(risks)), chosen] + q[chosen]
    return exact, float(np.mean(bounds < 0.5 - 1e-12))


def test_5_each_fixed_choice_fails_at_most_delta():
    for j in (1, 5, J):
        q = quantile(j, DELTA)
        exact = 1.0 - float(binom.sf(round((0.5 - q) * M_SAMPLE) - 1, M_SAMPLE, 0.5)) ** j
        assert 0.02 < exact <= DELTA


def test_5_choosing_after_looking_breaks_the_fixed_statement():
    exact, simulated = failure_when_chosen(DELTA)
    assert exact > 2.5 * DELTA  # printed: at most δ "for every γ"
    assert simulated == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000))


def test_5_a_union_over_the_choices_repairs_it():
    exact, simulated = failure_when_chosen(DELTA / J)
    assert exact <= DELTA
    assert simulated <= DELTA + 4 * math.sqrt(DELTA * (1 - DELTA) / 4000)


# --- 6: Lemma 8's factor, Lemma 3's exponent ----------


@pytest.mark.parametrize(("d_1", "d_2"), [(2, 2), (4, 9), (128, 128)])
def test_6_lemma_8_is_loose_by_the_factor(d_1, d_2):
    lam, epsilon = 1.0, 1e-4
    ours = d_1 * d_2 * math.log1p(2 * lam / epsilon)  # the cover of a ball in its own norm
    as_printed = printed.lemma_8(d_1=d_1, d_2=d_2, lam=lam, epsilon=epsilon).ln
    lost = d_1 * d_2 * 0.5 * math.log(min(d_1, d_2))
    assert as_printed > ours + 0.99 * lost
    assert as_printed <= ours + lost * (1 + 1e-9)


def test_6_the_same_norm_cover_is_a_cover():
    # A maximal packing of the spectral unit ball of R^(2×2) covers it, and stays within the count.
    rng = np.random.default_rng(6)
    epsilon = 0.9

    def distances(A, points):
        return np.linalg.norm(np.stack(points) - A, ord=2, axis=(1, 2))

    def draw():
        return with_norm(rng.normal(size=(2, 2)), rng.uniform() ** 0.25)

    kept = [draw()]
    for _ in range(6000):
        A = draw()
        if distances(A, kept).min() > epsilon:
            kept.append(A)
    uncovered = sum(distances(draw(), kept).min() > epsilon for _ in range(2000))
    assert uncovered <= 2  # maximal up to what 6000 draws can see
    ours = (1 + 2 / epsilon) ** 4
    as_printed = value(printed.lemma_8(d_1=2, d_2=2, lam=1.0, epsilon=epsilon))
    assert len(kept) <= ours < 0.5 * as_printed


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_6_one_d_squared_suffices_in_lemma_3(data):
    size, cap = st.integers(1, 50), st.floats(0.01, 10.0)
    d_x, d_h, d_y = (data.draw(size) for _ in range(3))
    B_x, B_U, B_V, B_W = (data.draw(cap) for _ in range(4))
    t, epsilon = data.draw(st.integers(1, 60)), data.draw(st.floats(1e-3, 1.0))
    L = printed.lemma_2(t=t, B_x=B_x, B_U=B_U, B_V=B_V, B_W=B_W)
    product = 0.0  # the three covers of Lemma 3's proof, each with its own number of parameters
    for d_1, d_2, B, constant in (
        (d_h, d_h, B_U, value(L.L_U)),
        (d_y, d_h, B_V, value(L.L_V)),
        (d_h, d_x, B_W, value(L.L_W)),
    ):
        product += printed.lemma_8(d_1=d_1, d_2=d_2, lam=B, epsilon=epsilon / (3 * constant)).ln
    as_printed = printed.lemma_3(
        t=t, epsilon=epsilon, d_x=d_x, d_h=d_h, d_y=d_y, B_x=B_x, B_U=B_U, B_V=B_V, B_W=B_W
    ).ln
    corrected = as_printed / 3  # exponent d² for 3d²
    assert product <= corrected * (1 + 1e-9)
    assert as_printed > 2.9 * product


# --- 7: Lemma 10 ----------


@pytest.mark.parametrize("d_1", [22, 23, 50, 1000])
def test_7_lemma_10_is_below_the_volume(d_1):
    # For d_2 = 1 the set is a Euclidean ball: a cover at λ/2 needs 2^(d_1) points.
    as_printed = printed.lemma_10(d_1=d_1, d_2=1, lam=1.0, epsilon=0.5).ln
    assert as_printed == pytest.approx(4 * math.log(2 * d_1))
    assert d_1 * math.log(2.0) > as_printed  # printed: N is at most this


def test_7_the_first_failure_is_at_22():
    assert 21 * math.log(2.0) < printed.lemma_10(d_1=21, d_2=1, lam=1.0, epsilon=0.5).ln


def maurey(lam: float, epsilon: float, d_1: int, d_2: int) -> float:
    return math.ceil(4 * lam**2 / epsilon**2) * math.log(2 * d_1 * d_2 + 1)


@pytest.mark.parametrize("d_1", [2, 22, 1000])
@pytest.mark.parametrize("epsilon", [0.9, 0.5, 0.1, 0.01])
def test_7_corrected_lines_respect_the_volume(d_1, epsilon):
    volume = d_1 * math.log(1.0 / epsilon)
    assert maurey(math.sqrt(d_1), epsilon, d_1, 1) >= volume  # ℓ1 cap: λ√d_1
    scaled = d_1 * printed.lemma_10(d_1=d_1, d_2=1, lam=1.0, epsilon=epsilon).ln
    assert scaled >= volume  # d_1 λ² for λ²


def test_7_maurey_averages_cover_the_l1_ball_properly():
    # R^(3×1), entrywise ℓ1 norm ≤ 1, ε = 1: averages of 4 vertices or zeros, inside the ball.
    epsilon, dims = 1.0, 3
    k = math.ceil(4 / epsilon**2)
    vertices = np.vstack([np.zeros(dims), np.eye(dims), -np.eye(dims)])
    combinations = itertools.combinations_with_replacement(range(len(vertices)), k)
    centres = np.unique([vertices[list(c)].mean(axis=0) for c in combinations], axis=0)
    assert math.log(len(centres)) <= maurey(1.0, epsilon, dims, 1)
    assert np.abs(centres).sum(axis=1).max() <= 1 + 1e-12
    rng = np.random.default_rng(7)
    points = rng.laplace(size=(3000, dims))
    points *= rng.uniform(size=(3000, 1)) ** (1 / dims) / np.abs(points).sum(axis=1, keepdims=True)
    nearest = np.linalg.norm(points[:, None] - centres[None], axis=2).min(axis=1)
    assert nearest.max() <= epsilon / 2  # Maurey: ‖A − average‖² ≤ λ²/k for some average


@pytest.mark.parametrize("k", [1, 4, 16])
def test_7_maurey_mean_square(k):
    rng = np.random.default_rng(70 + k)
    A = rng.normal(size=(4, 5))
    lam = np.abs(A).sum()
    index = rng.choice(A.size, size=(20000, k), p=(np.abs(A) / lam).ravel())
    counts = np.zeros((20000, A.size))
    for column in range(k):
        counts[np.arange(20000), index[:, column]] += 1
    averages = lam * np.sign(A).ravel() * counts / k
    mean_square = np.mean(np.sum((averages - A.ravel()) ** 2, axis=1))
    assert mean_square <= lam**2 / k
    # the (2,1) norm caps the entrywise ℓ1 norm only with √d_1
    two_one = np.linalg.norm(A, axis=0).sum()
    assert two_one < lam <= math.sqrt(4) * two_one


# --- 8: equation (10) and α ----------


def test_8_equation_10_has_the_wrong_power_of_M():
    L, d, epsilon = 1.3, 10, 0.1
    for M in (5.0, 50.0):
        block = printed.lemma_10(d_1=d, d_2=d, lam=M, epsilon=epsilon / (3 * L)).ln
        as_printed = 9 * M * L**2 / epsilon**2 * math.log(2 * d * d)
        corrected = 9 * M**2 * L**2 / epsilon**2 * math.log(2 * d * d)
        assert as_printed < block / (0.99 * M)  # printed: at least what Lemma 10 gives
        assert corrected == pytest.approx(block, rel=1e-12)


def three_terms(t, B_x, B_U, B_V, B_W, M_U, M_V, M_W):
    """What the proof arrives at, √(Σ M² L²), what is printed for it, and what may replace it."""
    L = printed.lemma_2(t=t, B_x=B_x, B_U=B_U, B_V=B_V, B_W=B_W)
    constants = [value(L.L_U), value(L.L_V), value(L.L_W)]
    needed = math.sqrt(sum((M * k) ** 2 for M, k in zip((M_U, M_V, M_W), constants, strict=True)))
    alpha = B_V * B_W * B_x
    as_printed = alpha * (M_U + M_V + M_W) * t * math.exp(log_S(B_U, t))
    return needed, as_printed, max(constants) * (M_U + M_V + M_W)


def test_8_alpha_drops_two_of_the_three_blocks():
    # d_h = 100, t = 1, U = 0, V = 10⁻³ I, W one column of norm 1.
    d_h = 100
    M_V = np.linalg.norm(1e-3 * np.eye(d_h), axis=0).sum()
    caps = {"t": 1, "B_x": 1.0, "B_U": 0.0, "B_V": 1e-3, "B_W": 1.0}
    needed, as_printed, corrected = three_terms(**caps, M_U=0.0, M_V=M_V, M_W=1.0)
    assert needed > 90 * as_printed  # printed: at most a constant times this
    assert corrected >= needed
    bigger, smaller, _ = three_terms(**caps, M_U=0.0, M_V=1e2 * M_V, M_W=1.0)
    assert bigger > 900 * smaller  # and no constant will do


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-3, 10.0), min_size=7, max_size=7), st.integers(1, 30))
def test_8_the_largest_constant_does(caps, t):
    needed, as_printed, corrected = three_terms(t, *caps)
    assert needed <= corrected * (1 + 1e-9)
    B_V, B_W = caps[2], caps[3]
    if B_V * t >= 1 and B_W * t >= 1:  # L_V ≤ L_U and L_W ≤ L_U: here α is right
        assert needed <= as_printed * (1 + 1e-9)


# --- 9: the perturbations of equation (4) ----------


def run_rnn(U, V, W, xs):
    h = np.zeros(U.shape[0])
    for x in xs:
        h = np.tanh(U @ h + W @ x)
    return h, V @ h


def eq_14(t, B_x, B_U, B_W, d, xi):
    """The change that the proof of (4) allows when every block moves by at most ξ."""
    S = math.exp(log_S(B_U, t))
    lam = min(math.sqrt(d), B_x * B_W * S)
    return ((lam * B_U + B_x * B_W) * S + lam) * xi


def test_9_the_true_change_exceeds_the_printed_one():
    U, V, W = (np.array([[v]]) for v in (0.1, 100.0, 0.5))
    xi, xs = 1e-6, [np.ones(1)] * 2
    change = abs(run_rnn(U + xi, V, W, xs)[1] - run_rnn(U, V, W, xs)[1])[0]
    as_printed = eq_14(2, 1.0, 0.1, 0.5, math.sqrt(3.0), xi)
    assert change == pytest.approx(3.5e-5, rel=0.01)
    assert as_printed == pytest.approx(1.2e-6, rel=0.05)
    assert change > 29 * as_printed  # printed: at most this


def test_9_the_perturbed_state_is_not_within_the_unperturbed_norm():
    W, relative = np.array([[0.01]]), 0.5
    lam = value(printed.lemma_6(t=1, d_x=1, d_h=1, d_y=1, B_x=1.0, B_U=0.0, B_W=0.01))
    h, _ = run_rnn(np.zeros((1, 1)), np.eye(1), (1 + relative) * W, [np.ones(1)])
    assert np.linalg.norm(h) > 1.4 * lam  # printed: (12) is used for the perturbed network
    inflated = printed.lemma_6(t=1, d_x=1, d_h=1, d_y=1, B_x=1.0, B_U=0.0, B_W=0.015)
    assert np.linalg.norm(h) <= value(inflated)


def test_9_absolute_perturbations_with_enlarged_caps_hold():
    rng = np.random.default_rng(9)
    ratios = []
    for trial in range(300):
        t, xi = int(rng.integers(1, 6)), 10.0 ** rng.uniform(-6, 0)
        B_U, B_V, B_W = 10.0 ** rng.uniform(-2, 1, size=3)
        d_x, d_h, d_y = rng.integers(1, 4, size=3)
        U, V, W = (
            with_norm(rng.normal(size=shape), B)
            for shape, B in (((d_h, d_h), B_U), ((d_y, d_h), B_V), ((d_h, d_x), B_W))
        )
        dU, dV, dW = (with_norm(rng.normal(size=A.shape), xi) for A in (U, V, W))
        scale = rng.choice([1.0, 1e-2])
        xs = [scale * x / np.linalg.norm(x) for x in rng.normal(size=(t, d_x))]
        change = np.linalg.norm(run_rnn(U + dU, V + dV, W + dW, xs)[1] - run_rnn(U, V, W, xs)[1])
        L = printed.lemma_2(t=t, B_x=scale, B_U=B_U + xi, B_V=B_V + xi, B_W=B_W + xi)
        corrected = xi * (value(L.L_U) + value(L.L_V) + value(L.L_W))
        assert change <= corrected * (1 + 1e-9) + 1e-12, trial
        ratios.append(change / eq_14(t, scale, B_U, B_W, math.sqrt(d_h * (d_x + d_h + d_y)), xi))
    assert max(ratios) > 1  # the printed line fails among them


# --- 10 to 12: what the tests of gated and convolutional cells share ----------


def network_of(cell, values, *, positions=1):
    """One layer without biases; with several units the head is the identity: y is the state."""
    layer = layer_of(cell, values, positions=positions)
    V = np.eye(layer.d_out) if layer.d_out > 1 else np.ones((2, 1))
    return Network((layer,), Head(Block("V", V, "spectral")), "real")


def scalars(**values):
    """A block for every role: a number is 1 x 1, a list is one row."""
    return {role: np.atleast_2d(np.asarray(value, dtype=float)) for role, value in values.items()}


def states_of(network, xs):
    """All states after every step of one sequence (T, d_x), by the cells' own equations."""
    (stage,) = reading.stages(network)
    algebra = NumbersAlgebra(network)
    states = tuple(np.zeros((1, dim)) for dim in stage.dimensions)
    trace = []
    for x in np.asarray(xs, dtype=float):
        states = stage.step(algebra, x[None], states)
        trace.append(tuple(state[0] for state in states))
    return trace


def sigmoid(v):
    return 1 / (1 + mp.exp(-mp.mpf(v)))


def unit_inputs(rng, T, d_x):
    xs = rng.normal(size=(T, d_x))
    return xs * rng.uniform(size=(T, 1)) ** 0.3 / np.linalg.norm(xs, axis=1, keepdims=True)


@st.composite
def gated_pairs(draw, cell, gates):
    """Two members of one class of gated networks, inputs in the unit ball, and the caps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    d_h, d_x, T = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 8))
    far = 10.0 ** draw(st.floats(-6, 0.5))
    first, second, caps = {}, {}, {"V": 1.0}
    for role in (f"{letter}_{gate}" for gate in gates for letter in "UW"):
        shape = (d_h, d_h if role[0] == "U" else d_x)
        size = 10.0 ** draw(st.floats(-2, 1))
        first[role] = with_norm(rng.normal(size=shape), size)
        second[role] = first[role] + with_norm(rng.normal(size=shape), far * size)
        caps[role] = max(spectral(first[role]), spectral(second[role])) * (1 + 1e-12)
    pair = [network_of(cell, values) for values in (first, second)]
    return pair, unit_inputs(rng, T, d_x), caps


def move_sizes(pair):
    """How far each block moved, in its own norm."""
    sizes = {}
    for a, b in zip(*(network.blocks() for network in pair), strict=True):
        step = b.value - a.value
        operator = a.norm == "operator"
        sizes[a.name] = convolution_norm_bound(step, a.positions) if operator else spectral(step)
    return sizes


def check_calculus(pair, xs, caps):
    """The calculus bounds the norm of the last state and its change."""
    found = sensitivity(pair[0], steps=len(xs), input_bound=1.0, caps=caps)
    h, other = (states_of(network, xs)[-1][0] for network in pair)
    allowed = sum(math.exp(found.log_lambda[k]) * size for k, size in move_sizes(pair).items())
    assert np.linalg.norm(h - other) <= allowed * (1 + 1e-9) + 1e-13
    assert np.linalg.norm(h) <= math.exp(found.log_norm) * (1 + 1e-9)


def class_rates(network, caps, T):
    """Class-wide ĝ, r̂, ô by gate, and the repaired β and θ, at step T."""
    gates = classwide_gates(network, steps=T, caps=caps)
    (found,) = rates(network, gates, repaired=True, caps=caps)
    ranges = {gate.gate: gate.up_to(T)[0] for gate in gates.ranges}
    return ranges, float(found.beta[-1]), float(found.theta[-1])


# --- 10: Theorem 4 ----------


def test_10_gates_of_one_member_do_not_serve_the_class():
    # ‖W_r‖ ≤ 20 for both; the trained network has r = 1/2 at every step, so its β is 1.
    B_W, B_U, T = 0.01, 2.0, 6
    trained, other = (
        network_of("mgu", scalars(W_r=W_r, U_r=0, W_h=B_W, U_h=B_U)) for W_r in (0.0, 20.0)
    )
    xs = np.ones((T, 1))
    allowed = B_W * math.exp(log_S(0.5 + B_U * 0.5**2, T))
    assert states_of(trained, xs)[-1][0][0] <= allowed
    reached = states_of(other, xs)[-1][0][0]
    assert reached > 6 * allowed  # printed: ‖h_t‖ ≤ B_Wh B_x S(β, t) for every member
    s = classwide_gates(other, steps=T).of("r").up_to(T)[0]
    assert reached <= B_W * math.exp(log_S(s + B_U * s**2, T))


def test_10_gates_on_the_sample_do_not_serve_other_inputs():
    # One network; the second input drives the gate, and is 0 throughout the sample.
    T = 6
    network = network_of("mgu", scalars(W_r=[0, 20], U_r=0, W_h=[0.01, 0], U_h=2))
    allowed = 0.01 * math.exp(log_S(0.5 + 2 * 0.5**2, T))
    seen, new = np.tile([1.0, 0.0], (T, 1)), np.tile([0.6, 0.8], (T, 1))
    assert states_of(network, seen)[-1][0][0] <= allowed
    assert states_of(network, new)[-1][0][0] > 3 * allowed


def test_10_the_sum_runs_from_zero():
    # t = 1, W_r = 10, U = 0, x = 1: h_1 = r tanh(W_h) with r = σ(10), so θ = β = 1 − r.
    with mp.workdps(30):
        step, r = mp.mpf("1e-3"), sigmoid(10)
        change, theta = r * mp.tanh(step), 1 - r
        as_printed = theta * step  # B_x Σ_{j=1}^{1} θ^j ‖W_h − W_h'‖
        assert change > 22000 * as_printed  # printed: at most this; the ratio is near e^10
        assert change <= step  # B_x Σ_{j=0}^{0} θ^j ‖W_h − W_h'‖
    pair = [network_of("mgu", scalars(W_r=10, U_r=0, W_h=w, U_h=0)) for w in (0.0, float(step))]
    a, b = (states_of(network, [[1.0]])[0][0][0] for network in pair)
    assert b - a == pytest.approx(float(change), rel=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.floats(-50, 50), st.floats(-50, 50))
def test_10_the_sigmoid_has_slope_one_quarter(a, b):
    assert abs(sigmoid(a) - sigmoid(b)) <= mp.mpf(abs(a - b)) / 4 + mp.mpf("1e-14")
    near = mp.mpf("1e-4")
    assert (sigmoid(near) - sigmoid(-near)) / (2 * near) > mp.mpf("0.2499999")  # attained at 0


@settings(max_examples=150, deadline=None)
@given(gated_pairs("mgu", "rh"))
def test_10_corrected_theorem_4_holds(drawn):
    pair, xs, caps = drawn
    T, H = len(xs), math.sqrt(pair[0].d_h)
    _, beta, theta = class_rates(pair[0], caps, T)
    size = move_sizes(pair)
    step = H * size["U_h"] + size["W_h"]
    step += 0.25 * (2 + caps["U_h"]) * (H * size["U_r"] + size["W_r"])
    h, other = (states_of(network, xs)[-1][0] for network in pair)
    assert np.linalg.norm(h - other) <= step * math.exp(log_S(theta, T)) * (1 + 1e-9) + 1e-13
    assert np.linalg.norm(h) <= min(H, caps["W_h"] * math.exp(log_S(beta, T))) * (1 + 1e-9)
    check_calculus(pair, xs, caps)


# --- 11: Theorem 5 ----------


def test_11_the_cell_state_is_not_bounded_by_one():
    # U = 0 and all gates nearly 1: c_t = r c̃ S(g, t) for every t.
    T = 30
    network = network_of(
        "lstm", scalars(W_g=10, W_r=10, W_o=10, W_c=10, U_g=0, U_r=0, U_o=0, U_c=0)
    )
    c = [states[1][0] for states in states_of(network, np.ones((T, 1)))]
    g = float(sigmoid(10))
    exact = sigmoid(10) * mp.tanh(10) * (1 - sigmoid(10) ** T) / (1 - sigmoid(10))
    assert c[-1] == pytest.approx(float(exact), rel=1e-12)
    assert c[-1] > 29  # printed: c_{t−1} is dropped as if at most 1
    for t, reached in enumerate(c, start=1):
        limit = math.exp(log_S(g, t))
        assert 0.9999 * limit < reached <= limit


def test_11_the_printed_step_forgets_the_cell_state():
    # Twenty steps fill c with an open gate; at the last one the gate is at its steepest.
    xi = 1e-6
    other = {"W_r": [10, -10], "W_o": [0, 0], "W_c": [10, 0]}
    zero = {"U_g": 0, "U_r": 0, "U_o": 0, "U_c": 0}
    pair = [network_of("lstm", scalars(W_g=[10, second], **other, **zero)) for second in (0.0, xi)]
    xs = np.array([[1.0, 0.0]] * 20 + [[0.0, 1.0]])
    a, b = (states_of(network, xs) for network in pair)
    assert all(np.array_equal(x, y) for x, y in zip(a[-2], b[-2], strict=True))
    change = b[-1][1][0] - a[-1][1][0]
    assert change > 4.9 * xi  # printed: ‖c_t − c_t'‖ ≤ B_x ‖W_g − W_g'‖ here
    assert change <= 0.25 * a[-2][1][0] * xi * (1 + 1e-6)
    assert a[-2][1][0] <= math.exp(log_S(float(sigmoid(10)), 20))


def test_11_the_output_gate_is_dropped():
    zero = {"U_g": 0, "U_r": 0, "U_o": 0, "U_c": 0}
    pair = [network_of("lstm", scalars(W_g=1, W_r=1, W_o=w, W_c=1, **zero)) for w in (0.0, 0.1)]
    a, b = (states_of(network, np.ones((3, 1)))[-1] for network in pair)
    B_Uc = B_Ug = B_Ur = 0.0
    as_printed = math.exp(log_S(float(sigmoid(1)), 3)) * (B_Uc + B_Ug + B_Ur) * 0.1
    assert as_printed == 0.0  # printed: what moving W_o may change in h_t
    assert b[0][0] - a[0][0] > 0.01
    assert a[1][0] == b[1][0]  # c_t is the same: ‖h_t − h_t'‖ ≤ ‖c_t − c_t'‖ fails, too
    exact = (sigmoid(0.1) - sigmoid(0)) * mp.tanh(a[1][0])
    assert b[0][0] - a[0][0] == pytest.approx(float(exact), rel=1e-12)
    assert exact <= 0.25 * 0.1  # ‖tanh c_t‖_∞ B_x ‖W_o − W_o'‖/4


@pytest.mark.parametrize("gate", ["g", "r"])
def test_11_a_gate_reads_the_state_through_U(gate):
    # B_{W_g} = 0 and U_g = 4: the gate of step 2 moves when h_1 does.
    values = {"W_g": 1, "W_r": 1, "W_c": 1, "U_g": 0, "U_r": 0, "U_o": 0, "U_c": 0}
    values |= {f"W_{gate}": 0, f"U_{gate}": 4}
    h, other = (
        states_of(network_of("lstm", scalars(W_o=w, **values)), [[1.0]])[0][0][0]
        for w in (0.0, 0.5)
    )
    change = abs(sigmoid(4 * h) - sigmoid(4 * other))
    assert change > 0.01  # printed: at most B_{W_g} ‖h − h'‖ = 0, no block of the gate having moved
    assert change <= 0.25 * 4 * abs(h - other)


def test_11_the_printed_quotient_is_one():
    # ‖c_t‖ ≤ B_Wc B_x (β^t − 1)/(β^t − 1), as printed, is B_Wc B_x.
    zero = {"U_g": 0, "U_r": 0, "U_o": 0, "U_c": 0}
    network = network_of("lstm", scalars(W_g=10, W_r=10, W_o=0, W_c=1, **zero))
    c = states_of(network, np.ones((10, 1)))[-1][1][0]
    assert c > 7.6  # printed: at most 1
    assert c <= math.exp(log_S(float(sigmoid(10)), 10))


def test_11_the_candidate_reads_the_output_gate_of_the_step_before():
    # o is open at step 1 and shut at step 2.
    values = scalars(
        W_g=[10, 10], W_r=[30, 30], W_o=[30, -30], W_c=[0.1, 0], U_g=0, U_r=0, U_o=0, U_c=10
    )
    first, second = (states[1][0] for states in states_of(network_of("lstm", values), np.eye(2)))
    g, r, shut, opened = float(sigmoid(10)), float(sigmoid(30)), float(sigmoid(-30)), 1.0
    assert second > 4 * ((g + r * shut * 10) * first + 0.1)  # printed: at most this, with o_t
    assert second <= (g + r * opened * 10) * first + 0.1  # with o_{t−1}


@settings(max_examples=150, deadline=None)
@given(gated_pairs("lstm", "groc"))
def test_11_corrected_theorem_5_holds(drawn):
    pair, xs, caps = drawn
    T, H = len(xs), math.sqrt(pair[0].d_h)
    ranges, beta, theta = class_rates(pair[0], caps, T)
    C = ranges["r"] * math.exp(log_S(ranges["g"], T - 1))
    moves, size = {}, move_sizes(pair)
    for gate in "groc":
        moves[gate] = H * size[f"U_{gate}"] + size[f"W_{gate}"]
    of_c = 0.25 * (C * moves["g"] + moves["r"]) + ranges["r"] * moves["c"]
    step = ranges["o"] * of_c + 0.25 * moves["o"]
    (h, c), (h_, c_) = (states_of(network, xs)[-1] for network in pair)
    S = math.exp(log_S(theta, T)) * (1 + 1e-9)
    assert np.linalg.norm(h - h_) <= S * step + 1e-13
    assert np.linalg.norm(c - c_) <= S * step / ranges["o"] + 1e-13
    assert np.linalg.norm(c) <= caps["W_c"] * math.exp(log_S(beta, T)) * (1 + 1e-9)
    assert np.abs(c).max() <= ranges["r"] * math.exp(log_S(ranges["g"], T)) * (1 + 1e-9)
    check_calculus(pair, xs, caps)


# --- 12: Theorem 6 ----------


def orthogonal_filters(rng, k):
    """A bank (k, 1, k) that satisfies Assumption 8 to rounding."""
    return (np.linalg.qr(rng.normal(size=(k, k)))[0] / math.sqrt(k))[:, None, :]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 12))
def test_12_assumption_8_bounds_the_operator_norm_by_one(seed, k, d):
    bank = orthogonal_filters(np.random.default_rng(seed), k)
    assert orthogonality(bank) < 1e-14
    assert spectral(convolution_matrix(bank, d)) <= 1 + 1e-12
    average = channel_average(k, d).matrix @ convolution_matrix(bank, d)
    assert spectral(average) <= 1 / math.sqrt(k) + 1e-12


def test_12_a_little_training_breaks_it():
    k, d = 3, 12
    bank = (np.eye(k) / math.sqrt(k))[:, None, :]
    assert spectral(convolution_matrix(bank, d)) == pytest.approx(1.0, rel=1e-12)
    trained = bank + 0.02
    measured = spectral(convolution_matrix(trained, d))
    assert measured > 1.08  # printed: ‖W_U‖ ≤ 1
    assert orthogonality(trained) > 0.05
    assert measured <= convolution_norm_bound(trained, d) <= measured * (1 + 1e-9)


def test_12_the_state_outgrows_what_is_printed():
    # Every filter is 3/2 at its centre: the averaged operator is 3/2 of the identity.
    k, d, T, B_x = 3, 5, 12, 1e-4
    same = np.zeros((k, 1, k))
    same[:, 0, 1] = 1.0
    network = network_of("conv_averaged", {"U": 1.5 * same, "W": same}, positions=d)
    h = states_of(network, np.full((T, d), B_x / math.sqrt(d)))[-1][0]
    assert np.linalg.norm(h) > 20 * B_x * T  # printed: ‖h_t‖ ≤ B_x t
    P = channel_average(k, d).matrix
    beta, W = (
        spectral(P @ convolution_matrix(block.value, d))
        for block in (network.block("U"), network.block("W"))
    )
    assert np.linalg.norm(h) <= B_x * W * math.exp(log_S(beta, T)) * (1 + 1e-9)


@pytest.mark.parametrize("k", [1, 2, 3, 16])
def test_12_an_average_has_norm_one_over_root_k(k):
    P = channel_average(k, 7)
    assert spectral(P.matrix) == pytest.approx(1 / math.sqrt(k), rel=1e-12)  # printed: 1
    assert P.norm == pytest.approx(1 / math.sqrt(k), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(2, 9), st.integers(1, 8))
def test_12_under_assumption_8_states_do_not_grow_with_t(seed, k, d, T):
    rng = np.random.default_rng(seed)
    values = {"U": orthogonal_filters(rng, k), "W": orthogonal_filters(rng, k)}
    network = network_of("conv_averaged", values, positions=d)
    h = states_of(network, unit_inputs(rng, T, d))[-1][0]
    rate = 1 / math.sqrt(k)
    assert np.linalg.norm(h) <= rate * math.exp(log_S(rate, T)) * (1 + 1e-9)


def test_12_zero_padding_keeps_more_than_d_minus_k_copies():
    k, d = 3, 5
    centre = np.zeros((k, 1, k))
    centre[:, 0, 1] = 1.0
    squared = np.linalg.norm(convolution_matrix(centre, d)) ** 2
    printed_copies, copies = d - k, squared / np.linalg.norm(centre) ** 2
    assert copies == pytest.approx(d, rel=1e-12) and copies > 2 * printed_copies


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(2, 9))
def test_12_d_copies_suffice(seed, k, d):
    bank = np.random.default_rng(seed).normal(size=(k, 1, k))
    squared = np.linalg.norm(convolution_matrix(bank, d)) ** 2
    assert squared <= d * np.linalg.norm(bank) ** 2 * (1 + 1e-12)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_12_measured_operator_norms_hold(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    k, d, T = (data.draw(st.integers(*ends)) for ends in ((1, 4), (2, 7), (1, 8)))
    far = 10.0 ** data.draw(st.floats(-6, 0.5))
    first, second, caps = {}, {}, {"V": 1.0}
    for role in "UW":
        first[role] = 10.0 ** data.draw(st.floats(-1, 1)) * rng.normal(size=(k, 1, k))
        second[role] = first[role] + far * rng.normal(size=(k, 1, k))
        norms = [convolution_norm_bound(v[role], d) for v in (first, second)]
        caps[role] = max(norms) * (1 + 1e-12)
    pair = [network_of("conv_averaged", values, positions=d) for values in (first, second)]
    check_calculus(pair, unit_inputs(rng, T, d), caps)


# --- 13: stable rank, rows and columns ----------


def test_13_the_stable_rank_is_a_ratio_of_squares():
    for rank in (1, 4, 25):
        A = np.diag([2.0] * rank + [0.0] * (30 - rank))
        ratio = np.linalg.norm(A) / spectral(A)
        assert ratio**2 == pytest.approx(rank)
        assert rank == 1 or ratio < 0.6 * rank  # printed: ‖U‖_F/‖U‖ is the stable rank
    ratio = 13.6823 / 2.6801
    assert ratio == pytest.approx(5.1, abs=0.01)  # the printed number
    assert ratio**2 == pytest.approx(26.06, abs=0.01)  # the stable rank of the same matrix


def test_13_the_two_one_norm_speaks_of_columns():
    # Section 6 concludes from M_U/‖U‖_F ≈ √d that the rows have nearly equal norms.
    d = 16
    one_row = np.zeros((d, d))
    one_row[0] = 1.0
    M = np.linalg.norm(one_row, axis=0).sum()
    assert M / np.linalg.norm(one_row) == pytest.approx(math.sqrt(d))
    rows, columns = np.linalg.norm(one_row, axis=1), np.linalg.norm(one_row, axis=0)
    assert rows.max() == 4.0 and rows.min() == 0.0  # rows as unequal as they can be
    assert np.ptp(columns) == 0.0  # columns equal


# --- 14: b√d and b√d_h ----------


def test_14_the_state_stays_below_root_d_h():
    rng = np.random.default_rng(14)
    largest = 0.0
    for _ in range(200):
        d_x, d_h = rng.integers(1, 6, size=2)
        U, W = 10 * rng.normal(size=(d_h, d_h)), 10 * rng.normal(size=(d_h, d_x))
        h, _ = run_rnn(U, np.eye(d_h), W, list(rng.normal(size=(4, d_x))))
        assert np.linalg.norm(h) <= math.sqrt(d_h)
        largest = max(largest, float(np.linalg.norm(h)) / math.sqrt(d_h))
    assert largest > 0.999  # attained in the limit


@pytest.mark.parametrize(("d_x", "d_h", "d_y"), [(1, 1, 2), (14, 128, 10), (27, 16, 3)])
def test_14_the_printed_cap_is_never_reached(d_x, d_h, d_y):
    as_printed = value(printed.lemma_6(t=50, d_x=d_x, d_h=d_h, d_y=d_y, B_x=1.0, B_U=1e3, B_W=1e3))
    h, _ = run_rnn(np.zeros((d_h, d_h)), np.eye(d_h), np.full((d_h, 1), 1e3), [np.ones(1)])
    reached = np.linalg.norm(h)
    assert reached == pytest.approx(math.sqrt(d_h), rel=1e-12)
    assert as_printed / reached == pytest.approx(((d_x + d_h + d_y) / d_h) ** 0.25, rel=1e-12)
    assert as_printed > 1.01 * reached
