"""Sensitivities: an adversary below, the paper's lemmas above, an exact oracle between."""

from __future__ import annotations

import functools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from recert import printed
from recert.errors import InputError
from recert.networks.forward import margins_of, network_predictor
from recert.networks.network import Block, Head, Layer, Network, vanilla
from recert.networks.norm_class import Cap
from recert.sensitivities.norm_domain import _log_tanh
from recert.sensitivities.sensitivity import sensitivities, sensitivity

CLOSE = mpf("1e-9")


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


def shape_of(activation, *, d=3, d_x=2, K=2, b=False, b_V=False, kind="real"):
    """A vanilla network whose weights do not matter."""
    return vanilla(
        np.eye(d),
        np.ones((d, d_x)),
        np.ones((K, d)),
        b=np.ones(d) if b else None,
        b_V=np.ones(K) if b_V else None,
        activation=activation,
        input_kind=kind,
    )


# --- an oracle: the recursion of a vanilla cell in 50 digits, written from the mathematics ---


def oracle(activation, d, caps, B_x, T, *, kind="real"):
    """(N_y, {block: Λ}) at steps 1..T; caps maps names to ``Cap``."""
    c = {k: mpf(cap.norm) for k, cap in caps.items()}
    row = {k: None if cap.row is None else mpf(cap.row) for k, cap in caps.items()}
    read = mpf(1) if kind == "onehot" else mpf(B_x)
    root = mp.sqrt(d)
    N = Z = mpf(0)
    lam = dict.fromkeys((k for k in c if k not in ("V", "b_V")), mpf(0))
    out = []
    for _ in range(T):
        lam = {k: c["U"] * v + {"U": N, "W": read, "b": mpf(1)}[k] for k, v in lam.items()}
        Wx = c["W"] if kind == "onehot" else c["W"] * read
        Zx = Wx if row["W"] is None or kind == "onehot" else min(Wx, row["W"] * read)
        ZU = c["U"] * N if row["U"] is None else min(c["U"] * N, row["U"] * Z)
        N, Z = Wx + c["U"] * N, Zx + ZU
        if "b" in c:
            N, Z = N + c["b"], Z + c["b"]
        if activation == "tanh":
            N, Z = root * mp.tanh(min(N / root, Z)), mp.tanh(Z)
        final = {k: c["V"] * v for k, v in lam.items()} | {"V": N}
        N_y = c["V"] * N
        if "b_V" in c:
            final["b_V"], N_y = mpf(1), N_y + c["b_V"]
        out.append((N_y, final))
    return out


def check_close(log_found, exact, tolerance=CLOSE):
    """The found logarithm is that of the exact value, rounded up and not much."""
    if exact == 0:
        assert log_found == -math.inf
        return
    want = mp.log(exact)
    assert want <= mpf(float(log_found)) <= want + tolerance * max(1, abs(want))


CASES = [
    ("tanh", 0.3, 1.0, False, False, "real"),
    ("tanh", 1.0, 0.2, True, True, "real"),
    ("tanh", 2.68, 1.5, True, False, "onehot"),
    ("tanh", 1 - 1e-12, 0.01, False, True, "onehot"),
    ("relu", 0.3, 1.0, True, True, "real"),
    ("relu", 1.0, 1.0, False, False, "onehot"),
    ("relu", 1 + 1e-12, 0.5, True, False, "real"),
    ("relu", 2.68, 3.0, False, True, "real"),
]


@pytest.mark.parametrize(("activation", "beta", "c_W", "b", "b_V", "kind"), CASES)
@pytest.mark.parametrize("rows", [False, True])
def test_every_step_is_the_exact_recursion_rounded_up(activation, beta, c_W, b, b_V, kind, rows):
    caps = {
        "U": Cap(beta, 0.8 * beta if rows else None),
        "W": Cap(c_W, 0.7 * c_W if rows else None),
    }
    caps |= {"b": Cap(0.25)} if b else {}
    caps |= {"V": Cap(1.75)} | ({"b_V": Cap(0.5)} if b_V else {})
    B_x = 1.0 if kind == "onehot" else 1.3
    net = shape_of(activation, d=5, b=b, b_V=b_V, kind=kind)
    found = sensitivity(net, steps=60, input_bound=B_x, caps=caps, every=True)
    exact = oracle(activation, 5, caps, B_x, 60, kind=kind)
    assert set(found.log_lambda) == set(caps)
    for t, (N, lam) in enumerate(exact):
        check_close(found.log_norm[t], N)
        for name, value in lam.items():
            check_close(found.log_lambda[name][t], value)


@pytest.mark.parametrize("beta", [0.3, 1 - 1e-12, 1.0, 1 + 1e-12, 1.5, 2.68])
def test_a_million_relu_steps_are_a_matrix_power(beta):
    T, c_W, c_V, B_x = 10**6, 0.75, 2.0, 1.25
    net = shape_of("relu")
    found = sensitivity(net, steps=T, input_bound=B_x, caps={"U": beta, "W": c_W, "V": c_V})
    # (Λ_U, Λ_W, N, 1)
    step = mp.matrix([[beta, 0, 1, 0], [0, beta, 0, B_x], [0, 0, beta, c_W * B_x], [0, 0, 0, 1]])
    end = step**T * mp.matrix([0, 0, 0, 1])
    # T slopes are each raised by 2e-14 or so: 1e-7 at the most.
    slack = mpf("1e-7")
    check_close(found.log_lambda["U"], c_V * end[0], slack)
    check_close(found.log_lambda["W"], c_V * end[1], slack)
    check_close(found.log_lambda["V"], end[2], slack)
    check_close(found.log_norm, c_V * end[2], slack)


@pytest.mark.parametrize("beta", [0.3, 0.9, 1.2, 2.68])
def test_a_million_tanh_steps_are_geometric_once_norms_stand_still(beta):
    T, d, c_W, c_V = 10**6, 4, 0.75, 2.0
    net = shape_of("tanh", d=d)
    found = sensitivity(net, steps=T, caps={"U": beta, "W": c_W, "V": c_V})
    root, N, lam_U, lam_W, t = mp.sqrt(d), mpf(0), mpf(0), mpf(0), 0
    while True:
        lam_U, lam_W, t = beta * lam_U + N, beta * lam_W + 1, t + 1
        new = root * mp.tanh((c_W + beta * N) / root)
        if new - N < mpf(10) ** -45:
            break
        N = new
    growth, S = mpf(beta) ** (T - t), (mpf(beta) ** (T - t) - 1) / (mpf(beta) - 1)
    check_close(found.log_norm, c_V * new)
    check_close(found.log_lambda["V"], new)
    check_close(found.log_lambda["U"], c_V * (growth * lam_U + S * new))
    check_close(found.log_lambda["W"], c_V * (growth * lam_W + S))


# --- the paper's lemmas ---

BETAS = [0.3, 1 - 1e-12, 1.0, 1 + 1e-12, 2.68]


def below(log_ours, log_printed):
    return float(log_ours) <= log_printed + 2e-9 * max(1.0, abs(log_printed))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("t", [1, 2, 3, 56, 1000, 10**6])
def test_never_above_the_paper_s_lemmas(activation, beta, t):
    d_h, d_x, K, B_x, B_V, B_W = 8, 5, 3, 1.7, 2.0, 0.6
    net = shape_of(activation, d=d_h, d_x=d_x, K=K)
    caps = {"U": beta, "W": B_W, "V": B_V}
    ours = sensitivity(net, steps=t, input_bound=B_x, caps=caps)
    two = printed.lemma_2(t=t, B_x=B_x, B_U=beta, B_V=B_V, B_W=B_W)
    seven = printed.lemma_7(t=t, B_x=B_x, B_U=beta, B_W=B_W)
    six = printed.lemma_6(t=t, d_x=d_x, d_h=d_h, d_y=K, B_x=B_x, B_U=beta, B_W=B_W)
    assert below(ours.log_lambda["U"], two.L_U.ln)
    assert below(ours.log_lambda["V"], two.L_V.ln)
    assert below(ours.log_lambda["W"], two.L_W.ln)
    assert below(ours.log_lambda["U"] - math.log(B_V), seven.L_U.ln)
    assert below(ours.log_lambda["W"] - math.log(B_V), seven.L_W.ln)
    if activation == "tanh":
        assert below(ours.log_lambda["V"], six.ln)
        # b√d_h, where the paper has b times the root of the parameter count.
        assert float(ours.log_norm) <= math.log(B_V) + 0.5 * math.log(d_h) + 1e-9
    if activation == "relu":  # attained: the state's norm and the move with W are the paper's
        assert below(-float(ours.log_lambda["W"]), -two.L_W.ln + 1e-7)
        assert below(-float(ours.log_lambda["V"]), -two.L_V.ln + 1e-7)
    if t == 1:
        assert float(ours.log_lambda["U"]) == -math.inf


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["tanh", "relu"]), st.sampled_from(BETAS), st.integers(1, 40), st.integers(0)
)
def test_attained_is_below_ours_is_below_printed(activation, beta, t, seed):
    rng = np.random.default_rng(seed)
    d, B_W, B_V, B_x = 3, 0.6, 2.0, 1.7

    def scaled(shape, cap):
        A = np.abs(rng.normal(size=shape)) if rng.integers(2) else rng.normal(size=shape)
        return A * (cap * (1 - 1e-12) / np.linalg.norm(A, 2))

    def weights():
        return {"U": scaled((d, d), beta), "W": scaled((d, 2), B_W), "V": scaled((2, d), B_V)}

    one, two = weights(), weights()
    x = np.abs(rng.normal(size=(6, t, 2)))
    x *= B_x * (1 - 1e-12) / np.linalg.norm(x, axis=-1, keepdims=True)
    lengths = np.full(6, t)
    caps = {"U": beta, "W": B_W, "V": B_V}
    limits = printed.lemma_2(t=t, B_x=B_x, B_U=beta, B_V=B_V, B_W=B_W)
    for name in "UVW":
        other = one | {name: two[name]}
        y, y_other = (
            network_predictor(vanilla(**w, activation=activation, input_kind="real"))(
                x, lengths, "last"
            )
            for w in (one, other)
        )
        attained = np.linalg.norm(y - y_other, axis=1).max()
        attained /= np.linalg.norm(one[name] - two[name], 2)
        net = shape_of(activation, d=d)
        ours = sensitivity(net, steps=t, input_bound=B_x, caps=caps)
        log_ours = float(ours.log_lambda[name])
        scale = math.exp(float(ours.log_norm))
        assert attained <= math.exp(log_ours) * (1 + 1e-10) + 1e-13 * scale
        if getattr(limits, f"L_{name}").log10 != -math.inf:
            assert below(log_ours, getattr(limits, f"L_{name}").ln)


# --- horizons, monotonicity, several systems at once ---


@functools.cache
def every_step(activation, beta, c_W):
    net = two_layers(activation) if activation not in ("tanh", "relu") else shape_of(activation)
    return net, sensitivity(net, steps=5000, caps=some_caps(net, beta, c_W), every=True)


def two_layers(activations):
    names = activations.split("+")
    layers = tuple(
        Layer(
            "vanilla",
            {
                "U": Block(f"U{i}", np.eye(2), "spectral"),
                "W": Block(f"W{i}", np.eye(2), "spectral"),
            },
            name,
        )
        for i, name in enumerate(names)
    )
    return Network(layers, Head(Block("V", np.eye(2), "spectral")), "real")


def some_caps(net, beta, c_W):
    values = {"U": beta, "W": c_W, "V": 1.5}
    return {block.name: values[block.name[0]] for block in net.blocks()}


@pytest.mark.parametrize(
    ("activation", "beta", "c_W"),
    [
        ("tanh", 0.3, 1.0),
        ("tanh", 1.0, 1e-4),
        ("tanh", 2.68, 1.0),
        ("relu", 0.9999, 1.0),
        ("relu", 1.0, 1.0),
        ("relu", 2.68, 1.0),
        ("tanh+relu", 0.9, 0.7),
        ("relu+relu", 1.1, 0.7),
        ("tanh+tanh", 1.0, 1e-3),
    ],
)
@pytest.mark.parametrize("T", [1, 3, 64, 65, 2048, 2049, 5000])
def test_every_step_agrees_with_single_horizons(activation, beta, c_W, T):
    net, every = every_step(activation, beta, c_W)
    one = sensitivity(net, steps=T, caps=some_caps(net, beta, c_W))
    up = 1e-9 * max(1.0, abs(float(one.log_norm)))
    assert float(one.log_norm) == pytest.approx(every.log_norm[T - 1], rel=1e-9, abs=up)
    for name in every.log_lambda:
        want = every.log_lambda[name][T - 1]
        assert float(one.log_lambda[name]) == pytest.approx(want, rel=1e-8, abs=1e-8)
        path = every.log_lambda[name]
        assert (np.diff(path[np.isfinite(path)]) >= -1e-11).all()
    assert (np.diff(every.log_norm) >= -1e-11).all()
    assert every.log_norm.shape == (5000,)


@pytest.mark.parametrize(("T", "beta"), [(300, 1.0), (5000, 1.0)])
def test_a_growing_layer_above_a_bounded_one_is_exact(T, beta):
    """tanh below ReLU: no affine map serves, so every step is taken, and rounding is covered."""
    net = two_layers("tanh+relu")
    found = sensitivity(net, steps=T, caps={"U0": 0.5, "W0": 1.0, "U1": beta, "W1": 1.0, "V": 1.0})
    N0 = N1 = U0 = W0 = U1 = W1 = mpf(0)
    with mpmath.workdps(30):
        root, u1 = mp.sqrt(2), mpf(beta)
        for t in range(T):
            U0, W0 = U0 / 2 + N0, W0 / 2 + 1
            if t < 300:  # the lower layer stands still to 30 digits by then
                N0 = root * mp.tanh((1 + N0 / 2) / root)
            U1, W1 = u1 * U1 + N1, u1 * W1 + N0
            N1 = N0 + u1 * N1
        check_close(found.log_norm, N1)
        check_close(found.log_lambda["U1"], U1)
        check_close(found.log_lambda["W1"], W1)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["tanh", "relu"]),
    st.lists(st.sampled_from([0.0, 1e-3, 0.5, 1.0, 1.1, 2.68]), min_size=4, max_size=4),
    st.sampled_from([1, 2, 10, 65, 300]),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.floats(1.0, 1.5),
)
def test_monotone_in_caps_and_inputs_and_horizon(activation, values, T, B_x, factor):
    net = shape_of(activation, b=True)
    caps = dict(zip(("U", "W", "b", "V"), values, strict=True))
    base = sensitivity(net, steps=T, input_bound=B_x, caps=caps)
    larger = [
        sensitivity(net, steps=T, input_bound=B_x * factor, caps=caps),
        sensitivity(net, steps=T + 3, input_bound=B_x, caps=caps),
        *(
            sensitivity(net, steps=T, input_bound=B_x, caps=caps | {name: value * factor})
            for name, value in caps.items()
        ),
    ]
    for other in larger:
        pairs = [(base.log_norm, other.log_norm)]
        pairs += [(base.log_lambda[k], other.log_lambda[k]) for k in caps]
        for small, large in pairs:
            assert not np.isnan(small) and float(small) < math.inf
            if float(small) > -math.inf:
                assert float(small) <= float(large) + 1e-10 * max(1.0, abs(float(large)))


def test_row_caps_only_help_and_infinite_ones_change_nothing():
    net = shape_of("tanh", d=6)
    plain = {"U": Cap(2.0), "W": Cap(1.0), "V": Cap(1.0)}
    wide = sensitivity(net, steps=20, caps=plain | {"U": Cap(2.0, 1e9)})
    none = sensitivity(net, steps=20, caps=plain)
    tight = sensitivity(net, steps=20, caps=plain | {"U": Cap(2.0, 0.5), "W": Cap(1.0, 0.3)})
    assert float(wide.log_norm) == float(none.log_norm)
    assert float(tight.log_norm) < float(none.log_norm) - 0.1
    assert float(tight.log_lambda["U"]) < float(none.log_lambda["U"]) - 0.1
    assert float(tight.log_lambda["W"]) == pytest.approx(float(none.log_lambda["W"]), rel=1e-11)


def test_a_result_is_equal_to_itself_alone_and_may_be_a_key():
    net = shape_of("tanh", d=6)
    one, two = (sensitivity(net, steps=3, caps=dict.fromkeys("UWV", 0.5)) for _ in range(2))
    assert one == one and one != two and len({one, two, one}) == 2


@pytest.mark.parametrize("log_x", [-800.0, -21.0, -20.5, -20.0, -19.5, -3.0, 0.0, 2.0, 3.9])
def test_log_tanh_is_above_the_exact_one_and_close(log_x):
    with mpmath.workdps(40):
        exact = mpmath.log(mpmath.tanh(mpmath.exp(mpmath.mpf(log_x))))
        found = float(_log_tanh(np.array(log_x)))
        assert abs(found - exact) <= 1e-14 * (1 + abs(exact))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_systems_side_by_side_are_the_systems_one_by_one(activation):
    net = shape_of(activation, b=True)
    systems = [
        {k: Cap(c * s) for k, c in (("U", 1.0), ("W", 0.5), ("b", 0.1), ("V", 2.0))}
        for s in (1e-6, 0.5, 1.0, 1.3)
    ]
    for s, system in zip((1.0, 0.4, 0.7, 2.0), systems, strict=True):
        system["U"] = Cap(system["U"].norm, s)
    together = sensitivities(net, systems, steps=700)
    for g, system in enumerate(systems):
        alone = sensitivity(net, steps=700, caps=system)
        assert float(alone.log_norm) == pytest.approx(together.log_norm[g], rel=1e-9, abs=1e-9)
        for name in system:
            want = together.log_lambda[name][g]
            assert float(alone.log_lambda[name]) == pytest.approx(want, rel=1e-9, abs=1e-9)


def test_what_is_refused():
    net = shape_of("tanh")
    for steps in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="steps"):
            sensitivity(net, steps=steps)
    for bound in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="input_bound"):
            sensitivity(net, steps=1, input_bound=bound)
    with pytest.raises(InputError, match="one-hot"):
        sensitivity(shape_of("tanh", kind="onehot"), steps=1, input_bound=2.0)
    with pytest.raises(InputError, match="missing"):
        sensitivity(net, steps=1, caps={"U": 1.0, "W": 1.0})
    with pytest.raises(InputError, match="unknown"):
        sensitivity(net, steps=1, caps={"U": 1.0, "W": 1.0, "V": 1.0, "X": 1.0})


# --- an adversary ---


def attack(activation, caps, B_x, T, *, d, kind, bias, seed, rounds=350):
    """Largest ratio of true to bounded change that gradient ascent finds (torch, float64)."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(seed)
    R, d_x, K = 6, 2, 2
    shapes = {"U": (d, d), "W": (d, d_x), "V": (K, d)} | ({"b": (d, 1)} if bias else {})

    def draw(*shape):
        return torch.randn(R, *shape, generator=generator, dtype=torch.float64).requires_grad_()

    raw = {k: draw(*s) for k, s in shapes.items()}
    move = {k: draw(*s) for k, s in shapes.items()}
    x_raw = draw(T, d_x)
    step = 1e-4

    def norm(k, A):
        if k in ("U", "V") or (k == "W" and kind == "real"):
            return torch.linalg.matrix_norm(A, 2)
        return torch.linalg.vector_norm(A, dim=-2).amax(-1)

    def weights():
        # Centres at norm c − step, moves of norm step: both ends lie inside the caps.
        centre = {k: (caps[k] - step) * A / norm(k, A)[:, None, None] for k, A in raw.items()}
        delta = {k: step * D / norm(k, D)[:, None, None] for k, D in move.items()}
        return centre, {k: centre[k] + delta[k] for k in centre}

    if kind == "real":
        tokens = None
    else:
        tokens = torch.randint(0, d_x, (R, T), generator=generator)
        tokens[: R // 2] = 0

    def forward(w, x):
        h = torch.zeros(R, d, 1, dtype=torch.float64)
        for t in range(T):
            z = w["U"] @ h + w["W"] @ x[:, t, :, None]
            z = z + w["b"] if bias else z
            h = torch.tanh(z) if activation == "tanh" else torch.relu(z)
        return (w["V"] @ h)[..., 0]

    net = shape_of(activation, d=d, b=bias, kind=kind)
    found = sensitivity(net, steps=T, input_bound=B_x, caps=caps)
    budget = sum(math.exp(float(found.log_lambda[k])) for k in shapes)
    optimiser = torch.optim.Adam([*raw.values(), *move.values(), x_raw], lr=0.05)
    best = 0.0
    for _ in range(rounds):
        if tokens is None:
            x = B_x * x_raw / torch.linalg.vector_norm(x_raw, dim=-1, keepdim=True)
        else:
            x = torch.nn.functional.one_hot(tokens, d_x).double()
        one, two = weights()
        ratio = torch.linalg.vector_norm(forward(two, x) - forward(one, x), dim=-1)
        ratio = ratio / (step * budget)
        best = max(best, float(ratio.detach().max()))
        optimiser.zero_grad()
        (-torch.log(ratio + 1e-9).sum()).backward()
        optimiser.step()
    return best


@pytest.mark.parametrize(
    ("activation", "caps", "B_x", "T", "kind", "bias", "reaches"),
    [
        ("relu", {"U": 1.0, "W": 1.0, "V": 1.0}, 1.0, 4, "real", False, 0.95),
        ("relu", {"U": 1.5, "W": 0.5, "V": 2.0, "b": 0.5}, 2.0, 3, "real", True, 0.95),
        ("relu", {"U": 0.8, "W": 1.0, "V": 1.0}, 1.0, 4, "onehot", False, 0.95),
        ("tanh", {"U": 0.9, "W": 0.02, "V": 1.0}, 1.0, 4, "real", False, 0.95),
        ("tanh", {"U": 0.9, "W": 0.02, "V": 1.0, "b": 0.02}, 1.0, 3, "onehot", True, 0.95),
        ("tanh", {"U": 2.0, "W": 1.0, "V": 1.0}, 1.0, 6, "real", False, 0.0),
    ],
)
def test_an_adversary_comes_close_and_never_above(activation, caps, B_x, T, kind, bias, reaches):
    caps = {k: caps[k] for k in ("U", "W", "b", "V") if k in caps}
    ratio = attack(activation, caps, B_x, T, d=3, kind=kind, bias=bias, seed=1)
    assert reaches <= ratio <= 1.0 + 1e-9
    assert ratio > 1e-3


# --- float64 evaluation ---


def evaluate_exactly(net, x, activation):
    U, W, V = (mp.matrix(net.block(k).value.tolist()) for k in "UWV")
    names = {block.name for block in net.blocks()}
    b = mp.matrix(net.block("b").value.tolist()) if "b" in names else mp.zeros(U.rows, 1)
    b_V = mp.matrix(net.block("b_V").value.tolist()) if "b_V" in names else mp.zeros(V.rows, 1)
    h = mp.zeros(U.rows, 1)
    for x_t in x:
        read = W[:, int(x_t)] if np.ndim(x_t) == 0 else W * mp.matrix(x_t.tolist())
        z = U * h + read + b
        h = z.apply(mp.tanh if activation == "tanh" else lambda a: max(a, mpf(0)))
    return V * h + b_V


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["tanh", "relu"]),
    st.sampled_from(["onehot", "real"]),
    st.booleans(),
    st.sampled_from([0.3, 1.0, 3.0]),
    st.integers(1, 6),
    st.integers(0, 10**6),
)
def test_float64_errs_by_at_most_its_bound(activation, kind, biased, scale, T, seed):
    rng = np.random.default_rng(seed)
    d, d_x, K = (int(k) for k in rng.integers(2, 6, size=3))
    net = vanilla(
        rng.normal(size=(d, d)) * scale,
        rng.normal(size=(d, d_x)) * scale,
        rng.normal(size=(K, d)) * scale,
        b=rng.normal(size=d) if biased else None,
        b_V=rng.normal(size=K) if biased else None,
        activation=activation,
        input_kind=kind,
    )
    x = rng.integers(0, d_x, size=(2, T)) if kind == "onehot" else rng.normal(size=(2, T, d_x))
    B_x = 1.0 if kind == "onehot" else float(np.linalg.norm(x, axis=-1).max()) * (1 + 1e-12)
    y = network_predictor(net)(x, np.full(2, T), "last")
    found = sensitivity(net, steps=T, input_bound=B_x)
    bound = mp.exp(mpf(float(found.log_rounding)))
    for i in range(2):
        exact = evaluate_exactly(net, x[i], activation)
        error = mp.sqrt(sum((mpf(y[i, j]) - exact[j]) ** 2 for j in range(K)))
        assert error <= bound
    # Not absurd: T steps of d terms each, carried forward at the rate of the weights.
    moved = sum(math.exp(float(found.log_lambda[k])) for k in found.blocks)
    sizes = sum(block.norm_bound() for block in net.blocks())
    assert bound <= 200 * (d + d_x) ** 1.5 * 2.0**-53 * (moved * sizes + 1)


def test_rounding_bound_is_small_for_a_contraction():
    net = shape_of("tanh", d=16)
    found = sensitivity(net, steps=1000, caps={"U": 0.9, "W": 1.0, "V": 1.0})
    assert -39 < float(found.log_rounding) < math.log(1e-11)


# --- the head in K − 1 rows ---


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 7), st.integers(1, 5), st.booleans(), st.integers(0, 10**6))
def test_margin_form_has_the_same_margins_and_no_larger_norms(K, d, biased, seed):
    rng = np.random.default_rng(seed)
    V, b_V = rng.normal(size=(K, d)), rng.normal(size=K)
    net = vanilla(np.eye(d), np.eye(d), V, b_V=b_V if biased else None, input_kind="real")
    form = net.margin_form()
    small = form.head.V.value
    assert small.shape == (K - 1, d) and form.head.V.parameters == (K - 1) * d
    assert form.layers is net.layers and form.input_kind == net.input_kind
    assert np.linalg.norm(small, 2) <= np.linalg.norm(V, 2) * (1 + 1e-14)
    # Rows of the small head are coordinates in an orthonormal basis of the centred vectors.
    centred = V - V.mean(axis=0)
    np.testing.assert_allclose(small.T @ small, centred.T @ centred, atol=1e-12)
    h = rng.normal(size=(20, d))
    full = h @ V.T + (b_V if biased else 0)
    coordinates = h @ small.T + (form.head.b.value if biased else 0)
    basis = np.linalg.qr(np.eye(K)[:, 1:] - 1.0 / K)[0]
    back, _, _, _ = np.linalg.lstsq(basis @ basis.T - 0, full.T, rcond=None)
    np.testing.assert_allclose(
        np.linalg.norm(coordinates, axis=1), np.linalg.norm(back, axis=0), atol=1e-12
    )
    for z in range(K):
        labels = np.full(20, z)
        want = margins_of(full, labels)
        # The margin is a minimum of linear forms in the coordinates: e_z − e_j, centred already.
        from recert.networks.network import margin_basis

        B = margin_basis(K)
        np.testing.assert_allclose(margins_of(coordinates @ B.T, labels), want, atol=1e-12)
        # √2-Lipschitz in the coordinates.
        moved = coordinates + rng.normal(size=coordinates.shape)
        change = np.abs(margins_of(moved @ B.T, labels) - want)
        allowed = math.sqrt(2) * np.linalg.norm(moved - coordinates, axis=1)
        assert (change <= allowed + 1e-12).all()
