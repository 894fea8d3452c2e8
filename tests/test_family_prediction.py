"""Prediction of the whole family: torch's kernels, the papers' formulas, exact numbers."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from family import random_network
from recert.certification.ledger import rounding_slack
from recert.networks import cells, reading
from recert.networks.blocks import FixedMap
from recert.networks.forward import margins_of, network_predictor
from recert.networks.layers import layer_of
from recert.networks.network import Bidirectional, Block, Head, Network

torch = pytest.importorskip("torch")
functional = torch.nn.functional

# torch's gates, stacked, in the package's letters.
TORCH_GATES = {"vanilla": ("",), "gru": ("_r", "_z", "_n"), "lstm": ("_r", "_g", "_c", "_o")}
READS = ("step", "final", "mean")


# --- an independent implementation: torch's kernels, and formulas by hand ---


def torch_layer(layer, d_in):
    """nn.RNN, nn.GRU or nn.LSTM with the weights of a layer in one direction or in two."""
    ways = layer.directions
    first = ways[0]
    options = dict(bidirectional=len(ways) == 2, batch_first=True, dtype=torch.float64)
    if first.cell == "vanilla":
        kernel = torch.nn.RNN(d_in, first.d_h, nonlinearity=first.activation, **options)
    elif first.cell == "gru":
        kernel = torch.nn.GRU(d_in, first.d_h, **options)
    else:
        proj = first.d_out if "P" in first.blocks else 0
        kernel = torch.nn.LSTM(d_in, first.d_h, proj_size=proj, **options)
    with torch.no_grad():
        for way, end in zip(ways, ("", "_reverse"), strict=False):
            value = {role: torch.as_tensor(b.value.copy()) for role, b in way.blocks.items()}
            gates = TORCH_GATES[way.cell]
            for name, letter in (("ih", "W"), ("hh", "U")):
                target = getattr(kernel, f"weight_{name}_l0{end}")
                target.copy_(torch.cat([value[f"{letter}{g}"] for g in gates]))
            zero = torch.zeros(way.d_h, dtype=torch.float64)
            b = torch.cat([value.get(f"b{g}", zero) for g in gates])
            getattr(kernel, f"bias_ih_l0{end}").copy_(b)
            inner = [zero] * (len(gates) - 1) + [value.get("b_hn", zero)]
            getattr(kernel, f"bias_hh_l0{end}").copy_(torch.cat(inner))
            if "P" in value:
                getattr(kernel, f"weight_hr_l0{end}").copy_(value["P"])
    return kernel


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def by_hand(layer, x):
    """All outputs (T, d) of one layer in one direction on x (T, d_in), from the formulas."""
    p = {role: b.value for role, b in layer.blocks.items()}
    zero = np.zeros(layer.d_h)
    b = {g: p.get(f"b{g}", zero) for g in layer.gates}
    h, c, out = np.zeros(layer.d_out), zero, []
    act = {"tanh": np.tanh, "relu": lambda v: np.maximum(v, 0)}[layer.activation]
    for x_t in x:
        if layer.cell == "vanilla":
            h = act(p["U"] @ h + p["W"] @ x_t + b[""])
        elif layer.cell == "mgu":  # Section 5: r gates both the candidate's state and the update
            r = sigmoid(p["W_r"] @ x_t + p["U_r"] @ h + b["_r"])
            candidate = np.tanh(p["W_h"] @ x_t + p["U_h"] @ (r * h) + b["_h"])
            h = (1 - r) * h + r * candidate
        elif layer.cell == "gru_original":  # ONNX, linear_before_reset = 0
            z = sigmoid(p["W_z"] @ x_t + p["U_z"] @ h + b["_z"])
            r = sigmoid(p["W_r"] @ x_t + p["U_r"] @ h + b["_r"])
            n = np.tanh(p["W_n"] @ x_t + p["U_n"] @ (r * h) + b["_n"])
            h = (1 - z) * n + z * h
        elif layer.cell == "gru":  # ONNX, linear_before_reset = 1
            z = sigmoid(p["W_z"] @ x_t + p["U_z"] @ h + b["_z"])
            r = sigmoid(p["W_r"] @ x_t + p["U_r"] @ h + b["_r"])
            n = np.tanh(p["W_n"] @ x_t + b["_n"] + r * (p["U_n"] @ h + p.get("b_hn", zero)))
            h = (1 - z) * n + z * h
        elif layer.cell == "lstm":
            f, i, o = (
                sigmoid(p[f"W{g}"] @ x_t + p[f"U{g}"] @ h + b[g]) for g in ("_g", "_r", "_o")
            )
            c = f * c + i * np.tanh(p["W_c"] @ x_t + p["U_c"] @ h + b["_c"])
            h = o * np.tanh(c)
            h = p["P"] @ h if "P" in p else h
        else:
            L = layer.positions
            z = convolved(p["U"], h, L) + convolved(p["W"], x_t, L)
            z = z.mean(axis=0) if layer.cell == "conv_averaged" else z + p.get("b", 0.0 * z[:, 0])[
                :, None
            ]  # fmt: skip
            h = act(z).reshape(-1)
        out.append(h)
    return np.array(out)


def convolved(bank, v, L):
    """(channels out, L) by torch's Conv1d with padding that keeps the length."""
    left = (bank.shape[2] - 1) // 2
    x = functional.pad(torch.as_tensor(v).reshape(1, -1, L), (left, bank.shape[2] - 1 - left))
    return functional.conv1d(x, torch.as_tensor(bank.copy()))[0].numpy()


def dense(layer, v):
    functions = {
        "identity": lambda u: u,
        "tanh": np.tanh,
        "relu": lambda u: np.maximum(u, 0),
        "sigmoid": sigmoid,
        "leaky_relu": lambda u: np.where(u >= 0, u, 0.01 * u),
        "elu": lambda u: functional.elu(torch.as_tensor(u)).numpy(),
    }
    b = 0.0 if layer.b is None else layer.b.value
    return functions[layer.activation](v @ layer.A.value.T + b)


def reference(network, x, length, *, kernels):
    """Logits (T, K) at every step, or (1, K), of one sequence, one layer after the other."""
    v = np.eye(network.d_x)[x[:length]] if network.input_kind == "onehot" else x[:length]
    if network.embedding is not None:
        v = v @ network.embedding.value.T
    for layer in network.encoder:
        v = dense(layer, v)
    ends = v[-1:]
    for layer in network.layers:
        d = layer.d_out if not isinstance(layer, Bidirectional) else layer.forward.d_out
        if kernels:
            with torch.no_grad():
                v = torch_layer(layer, v.shape[1])(torch.as_tensor(v)[None])[0][0].numpy()
        elif isinstance(layer, Bidirectional):
            back = by_hand(layer.backward, v[::-1])[::-1]
            v = np.concatenate([by_hand(layer.forward, v), back], axis=1)
        else:
            v = by_hand(layer, v)
        ends = np.concatenate([v[-1:, :d], v[:1, d:]], axis=1)
    h = {"step": v, "final": ends, "mean": v.mean(axis=0, keepdims=True)}[network.read]
    for layer in network.head.hidden:
        h = dense(layer, h)
    y = h @ network.head.V.value.T
    if network.head.pool is not None:
        y = y @ network.head.pool.matrix.T
    return y + (0.0 if network.head.b is None else network.head.b.value)


SHAPES = {
    "plain": {},
    "two layers": {"layers": 2},
    "three layers": {"layers": 3, "bias": False},
    "both ways": {"two_way": True},
    "two layers both ways": {"layers": 2, "two_way": True},
    "tokens": {"tokens": True},
    "embedding": {"tokens": True, "embedding": 4, "two_way": True},
    "dense": {"encoder": 4, "hidden": 3, "head_activation": "elu"},
}


def some_network(rng, cell, shape, read, **more):
    free = cell in ("vanilla", "conv", "conv_averaged")
    return random_network(
        rng,
        cell,
        d_x=4,
        d_h=4,
        read=read,
        activation=str(rng.choice(["tanh", "relu"])) if free else "tanh",
        proj=int(rng.choice([0, 2])) if cell == "lstm" else 0,
        **SHAPES[shape],
        **more,
    )


def some_inputs(rng, network, n, T):
    if network.input_kind == "onehot":
        return rng.integers(0, network.d_x, size=(n, T))
    x = rng.normal(size=(n, T, network.d_x))
    return x / np.maximum(1.0, np.linalg.norm(x, axis=-1, keepdims=True))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["vanilla", "mgu", "gru", "gru_original", "lstm", "conv", "conv_averaged"]),
    st.sampled_from(list(SHAPES)),
    st.sampled_from(READS),
    st.sampled_from([0.3, 1.0, 4.0]),
    st.integers(0, 10**6),
)
def test_predictions_are_the_reference_s(cell, shape, read, scale, seed):
    rng = np.random.default_rng(seed)
    if cell.startswith("conv") and shape == "tokens":
        shape = "embedding"
    net = some_network(rng, cell, shape, read, scale=scale)
    n, T = 4, int(rng.integers(1, 7))
    x, lengths = some_inputs(rng, net, n, T), rng.integers(1, T + 1, size=n)
    predict = network_predictor(net)
    last = predict(x, lengths, "last")
    every = predict(x, lengths, "average") if read == "step" else None
    for kernels in (False, True) if cell in TORCH_GATES else (False,):
        for i in range(n):
            want = reference(net, x[i], lengths[i], kernels=kernels)
            atol = 1e-12 * max(1.0, np.abs(want).max())
            np.testing.assert_allclose(last[i], want[-1], rtol=1e-10, atol=atol)
            if every is not None:
                np.testing.assert_allclose(every[i, : lengths[i]], want, rtol=1e-10, atol=atol)
                assert not every[i, lengths[i] :].any()
    if read == "step":
        step = int(lengths.min())
        at_step = predict(x, lengths, step)
        for i in range(n):
            # A sequence is cut where its loss is read, for both directions.
            want = reference(net, x[i], step, kernels=False)
            np.testing.assert_allclose(at_step[i], want[-1], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("read", READS)
def test_what_lies_beyond_a_sequence_s_end_does_not_matter(read):
    rng = np.random.default_rng(5)
    net = some_network(rng, "lstm", "two layers both ways", read)
    x, lengths = some_inputs(rng, net, 6, 9), np.array([9, 1, 4, 4, 7, 2])
    noisy = x.copy()
    for i, length in enumerate(lengths):
        noisy[i, length:] = 1e6
    predict = network_predictor(net)
    assert np.array_equal(predict(x, lengths, "last"), predict(noisy, lengths, "last"))


# --- rounding: float64 against 60 digits ---


class ExactNumbers(cells.Algebra):
    """The cells' equations on lists of mpmath numbers."""

    def linear(self, block, v):
        A = block.value
        if isinstance(v, int):
            return [mpf(float(a)) for a in A[:, v]]
        if block.norm != "operator":
            return [mp.fsum(mpf(float(a)) * b for a, b in zip(r, v, strict=True)) for r in A]
        out, channels, width = A.shape
        L, left = block.positions, (width - 1) // 2
        return [
            mp.fsum(
                mpf(float(A[o, i, j])) * v[i * L + p + j - left]
                for i in range(channels)
                for j in range(width)
                if 0 <= p + j - left < L
            )
            for o in range(out)
            for p in range(L)
        ]

    def bias(self, block):
        return [mpf(float(b)) for b in block.value]

    def fixed(self, fixed, v):
        rows = fixed.matrix
        return [mp.fsum(mpf(float(a)) * b for a, b in zip(r, v, strict=True)) for r in rows]

    def add(self, u, v):
        return [a + b for a, b in zip(u, v, strict=True)]

    def mul(self, u, v):
        return [a * b for a, b in zip(u, v, strict=True)]

    def activation(self, name, v):
        functions = {
            "identity": lambda a: a,
            "tanh": mp.tanh,
            "relu": lambda a: max(a, mpf(0)),
            "sigmoid": lambda a: 1 / (1 + mp.exp(-a)),
            "leaky_relu": lambda a: a if a >= 0 else mpf(0.01) * a,
            "elu": lambda a: a if a >= 0 else mp.expm1(a),
        }
        return [functions[name](a) for a in v]

    def gate(self, r, a, b):
        return [(1 - q) * u + q * w for q, u, w in zip(r, a, b, strict=True)]

    def concatenate(self, values):
        return [a for v in values for a in v]


def exact_logits(network, x):
    """The last step's logits of one sequence in the working precision."""
    algebra = ExactNumbers()
    read = [int(t) if network.input_kind == "onehot" else [mpf(float(a)) for a in t] for t in x]
    values = [reading.encode(algebra, network, t) for t in read]
    ends = values[-1]
    for stage in reading.stages(network):
        runs = []
        for way in [reading.Stage((s,)) for s in stage.layers] if stage.two_way else [stage]:
            states, run = [[mpf(0)] * d for d in way.dimensions], []
            for v in values[::-1] if runs else values:
                states = way.step(algebra, v, states)
                run.append(states[way.output_index])
            runs.append(run)
        ends = [a for run in runs for a in run[-1]]
        aligned = [run if k == 0 else run[::-1] for k, run in enumerate(runs)]
        values = [[a for v in pair for a in v] for pair in zip(*aligned, strict=True)]
    if network.read == "final":
        h = ends
    elif network.read == "mean":
        h = [mp.fsum(a) / len(values) for a in zip(*values, strict=True)]
    else:
        h = values[-1]
    return reading.head(algebra, network, h)


ROUNDED = [
    ("vanilla", {}), ("vanilla", {"activation": "relu", "layers": 2}), ("mgu", {"layers": 2}),
    ("gru", {"two_way": True}), ("gru_original", {"hidden": 3, "head_activation": "sigmoid"}),
    ("lstm", {"layers": 2}), ("lstm", {"proj": 2, "two_way": True}), ("conv", {"encoder": 4}),
    ("conv", {"activation": "relu"}), ("conv_averaged", {"two_way": True}),
]  # fmt: skip


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("scale", [0.5, 2.5, 8.0])
def test_slack_bounds_every_rounding(read, scale):
    """In numpy's order and in torch's, saturated gates and growing states included."""
    for k, (cell, shape) in enumerate(ROUNDED):
        rng = np.random.default_rng(k)
        net = random_network(rng, cell, read=read, scale=scale, **shape)
        T = 12
        x = some_inputs(rng, net, 3, T)
        labels = np.zeros(3, dtype=np.int64)
        y = network_predictor(net)(x, np.full(3, T), "last")
        slack = rounding_slack(net, T, float(np.linalg.norm(x, axis=-1).max()) * (1 + 1e-12))
        with mpmath.workdps(60):
            for i in range(3):
                exact = exact_logits(net, x[i])
                margin = exact[0] - max(exact[1:])
                found = margins_of(y, labels)[i]
                assert abs(mpf(float(found)) - margin) <= mpf(slack)
                if cell in TORCH_GATES:
                    other = reference(net, x[i], T, kernels=True)[-1]
                    found = margins_of(other[None], labels[:1])[0]
                    assert abs(mpf(float(found)) - margin) <= mpf(slack)
        if scale == 0.5:
            assert slack < 1e-6


def test_saturated_gates_carry_their_roundings():
    """Forget gates near 1 over hundreds of steps: errors add up, and so does the slack."""
    T = 300
    rng = np.random.default_rng(0)
    for cell, closed in (("lstm", "b_g"), ("gru", "b_z"), ("mgu", "b_r"), ("gru_original", "b_z")):
        net = random_network(rng, cell, d_x=2, d_h=2, K=2, scale=0.4)
        (layer,) = net.layers
        values = {role: b.value.copy() for role, b in layer.blocks.items()}
        values[closed] = values[closed] + (9.0 if cell != "mgu" else -9.0)
        net = Network((layer_of(cell, values),), net.head, "real")
        x = some_inputs(rng, net, 1, T)
        y = network_predictor(net)(x, np.array([T]), "last")
        slack = rounding_slack(net, T, 1.0 + 1e-12)
        with mpmath.workdps(40):
            exact = exact_logits(net, x[0])
            assert abs(mpf(float(y[0, 0] - y[0, 1])) - (exact[0] - exact[1])) <= mpf(slack)


def test_a_long_fixed_map_is_charged_for_its_own_length():
    """A pool over many rows rounds as often as it adds, however short the blocks' own sums."""
    n = 1 << 18
    pool = FixedMap(np.repeat(np.array([[1.0], [0.5]]), n, axis=1))
    layer = layer_of("vanilla", {"U": np.zeros((1, 1)), "W": np.ones((1, 1))}, activation="relu")
    for c in np.random.default_rng(0).uniform(0.5, 1.0, size=5):
        V = Block("V", np.full((n, 1), c), "spectral")
        net = Network((layer,), Head(V, pool=pool), "real")
        y = network_predictor(net)(np.ones((1, 1, 1)), np.array([1]), "last")
        with mpmath.workdps(40):
            exact = mpf(float(c)) * n / 2
            slack = rounding_slack(net, 1, 1.0)
            assert abs(mpf(float(y[0, 0] - y[0, 1])) - exact) <= mpf(slack)
            # The worst order of summation, one term after the other, is covered.
            assert slack >= n * 2.0**-53 * n * c


def test_products_that_underflow_are_within_the_slack():
    """W x underflows to 0 and U, V would have brought it back: an absolute error, not relative."""
    layer = layer_of("vanilla", {"U": np.eye(2), "W": np.full((2, 1), 1e-200)}, activation="relu")
    V = 1e250 * np.array([[1.0, 0.0], [0.0, 0.0]])
    net = Network((layer,), Head(Block("V", V, "spectral")), "real")
    x = np.full((1, 1, 1), 1e-180)
    y = network_predictor(net)(x, np.array([1]), "last")
    exact = mpf(1e250) * mpf(1e-200) * mpf(1e-180)
    assert abs(mpf(float(y[0, 0] - y[0, 1])) - exact) <= mpf(rounding_slack(net, 1, 1e-180))
