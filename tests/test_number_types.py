"""Numbers in whatever type they come: exact, or refused in one line, never a traceback."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recert
from recert.errors import RecertError
from recert.networks.network import vanilla
from recert.pac_bayes.posterior import around
from recert.samples import arrays
from recert.samples.vectors import largest_norm

torch = pytest.importorskip("torch")
nn = torch.nn

RNG = np.random.default_rng(5)
M, T = 40, 4
TOKENS = RNG.integers(0, 5, (M, T))
VECTORS = RNG.standard_normal((M, T, 2))
LABELS = RNG.integers(0, 3, M)
READS_TOKENS = vanilla(U=0.1 * np.eye(3), W=np.ones((3, 5)), V=RNG.standard_normal((3, 3)))
READS_VECTORS = vanilla(
    U=0.1 * np.eye(3),
    W=RNG.standard_normal((3, 2)),
    V=RNG.standard_normal((3, 3)),
    input_kind="real",
)
SHORT: dict[str, Any] = {"max_length": T, "bounds": "margin_ball"}


def certify(x: Any = VECTORS, y: Any = LABELS, **more: Any) -> recert.Certificate:
    network = READS_TOKENS if getattr(x, "ndim", 3) == 2 else READS_VECTORS
    if network is READS_VECTORS:
        more = {"input_bound": 9.0, **more}
    return recert.certify(network, x, y, **{**SHORT, **more})


def one_line(call: Callable[[], object], *words: str) -> str:
    with pytest.raises(RecertError) as caught:
        call()
    message = str(caught.value)
    assert message.strip() and "\n" not in message and len(message) < 700
    for word in words:
        assert word in message, message
    return message


# Norms, in float64 whatever the inputs come in.


def exact_norm(x: np.ndarray[Any, Any]) -> float:
    return max(math.hypot(*map(float, row)) for row in x)


TYPES = ("f2", "f4", "f8", ">f2", ">f4", ">f8", "g")


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=60, deadline=None)
@given(
    scale=st.integers(-40, 12),
    width=st.sampled_from([1, 2, 3, 40]),
    seed=st.integers(0, 2**32 - 1),
    near=st.integers(0, 12),
)
def test_no_input_is_longer_than_the_largest_norm(
    kind: str, scale: int, width: int, seed: int, near: int
) -> None:
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        x = (rng.standard_normal((30, width)) * 2.0**scale).astype(kind)
    x = arrays.numbers(x[None], "x")[0]
    if not np.isfinite(x).all():
        return
    known = exact_norm(x) * (1.0 + 2.0**-near * rng.choice([-1, 1]))
    assert largest_norm(x, max(known, 0.0)) >= exact_norm(x)
    assert largest_norm(x, 0.0) <= exact_norm(x) * (1.0 + 1e-12)


def test_half_floats_beyond_a_bound_are_seen_in_any_batch() -> None:
    m = 8192 + 100
    x = np.zeros((m, 2, 2), np.float16)
    x[:, 0] = 2.6e-4, 1e-7
    x[-100:, 0] = 2.98e-4, 1.2e-4
    network = vanilla(U=[[0.1]], W=[[1.0, 0.5]], V=[[1.0], [-1.0]], input_kind="real")
    y = RNG.integers(0, 2, m)
    for kind in (np.float16, np.float32, np.float64):
        found = recert.certify(
            network, x.astype(kind), y, max_length=2, input_bound=2.8e-4, bounds="margin_ball"
        )
        assert found.assumption("input_bound").status == "violated"
        assert found["margin_ball"].kind == "estimate"


WAYS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "float32": lambda x: x.astype("f4"),
    "float16": lambda x: x.astype("f2"),
    "big-endian": lambda x: x.astype(">f4"),
    "long double": lambda x: x.astype("g"),
    "not contiguous": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "list": lambda x: x.tolist(),
    "torch": torch.tensor,
    "torch, with gradients": lambda x: torch.tensor(x, requires_grad=True) * 1.0,
    "torch bfloat16": lambda x: torch.tensor(x).bfloat16(),
    "torch float16": lambda x: torch.tensor(x).half(),
    "list of torch": lambda x: list(torch.tensor(x).bfloat16()),
    "masked, with nothing masked": lambda x: np.ma.masked_array(x, mask=False),
}
# Numbers that bfloat16 and float16 hold.
COARSE = np.round(VECTORS * 16) / 16


@pytest.mark.parametrize("way", WAYS)
def test_the_same_numbers_give_the_same_certificate(way: str) -> None:
    usual = certify(COARSE)
    found = certify(WAYS[way](COARSE), LABELS.tolist())
    assert found.sample["digest"] == usual.sample["digest"]
    assert found["margin_ball"].value == usual["margin_ball"].value
    pytest.importorskip("flint")
    assert recert.verify(found, READS_VECTORS, WAYS[way](COARSE), LABELS).ok


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.uint64, np.float16, np.float32, ">i4"])
def test_tokens_and_labels_of_any_type(kind: Any) -> None:
    usual = certify(TOKENS)
    found = certify(TOKENS.astype(kind), LABELS.astype(kind), lengths=np.full(M, T, kind))
    assert found.sample["digest"] == usual.sample["digest"]


def test_modules_in_half_precision_are_read_exactly() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.fc = nn.LSTM(2, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            return self.fc(self.rnn(x)[0][:, -1])

    module = Net().bfloat16()
    x = torch.tensor(COARSE).bfloat16()
    found = recert.certify(module, x, LABELS, input_bound=9.0, **SHORT)
    assert found.network["digest"] == recert.from_torch(module.double()).digest


# Declared numbers are plain ones.


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64, torch.tensor])
def test_declared_numbers_of_any_type_are_taken_as_they_are(kind: Any) -> None:
    caps = {"U": 0.5, "W": 4.0, "V": 4.0}
    given = {"delta": 0.25, "margin": 0.5, "input_bound": 8.0}
    usual = certify(caps=caps, **given)
    found = certify(
        caps={name: kind(value) for name, value in caps.items()},
        **{name: kind(value) for name, value in given.items()},
    )
    assert found["margin_ball"].value == usual["margin_ball"].value
    assert dict(found.sample) == dict(usual.sample)
    enforced = certify(caps=caps, **{**given, "input_bound": recert.Enforced(kind(1.0))})
    assert enforced.assumption("input_bound").status == "enforced"
    enforced.to_json()


# What cannot be read is refused in one line.


def quantised(x: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _quantised(x)


def _quantised(x: Any) -> Any:
    return torch.quantize_per_tensor(torch.tensor(x, dtype=torch.float32), 0.1, 0, torch.qint8)


def nested(x: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor(list(torch.tensor(x)))


class Hostile:
    """Raises whatever is asked of it."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("two\nlines")

    def __float__(self) -> float:
        raise RuntimeError("no")

    def __index__(self) -> int:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


ARRAYS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "complex": (lambda x: np.asarray(x) + 0j, "complex"),
    "torch complex": (lambda x: torch.tensor(x) + 0j, "complex"),
    "sparse": (lambda x: torch.tensor(x).to_sparse(), "to_dense"),
    "nested": (nested, "nested"),
    "quantised": (quantised, "dequantize"),
    "meta": (lambda x: torch.tensor(x).to("meta"), "meta"),
    "masked": (lambda x: np.ma.masked_array(x, mask=np.asarray(x) > 0), "mask"),
    "objects": (lambda x: np.full(np.shape(x), None), "objects"),
    "text": (lambda x: np.asarray(x).astype(str), "texts"),
    "bytes": (lambda x: np.asarray(x).astype(str).astype("S"), "texts"),
    "dates": (lambda x: np.asarray(x).astype("M8[s]"), "dates"),
    "spans": (lambda x: np.asarray(x).astype("m8[s]"), "spans"),
    "records": (lambda x: np.zeros(np.shape(x), [("a", "f4"), ("b", "i4")]), "records"),
    "a dict": (lambda x: {"x": x}, "objects"),
    "a set": (lambda x: {1, 2}, "objects"),
    "a generator": (lambda x: (row for row in x), "objects"),
    "a number": (lambda x: 3, ""),
    "ragged": (lambda x: [*np.asarray(x).tolist()[:-1], []], ""),
    "hostile": (lambda x: Hostile(), "Hostile"),
    "NaN": (lambda x: np.full(np.shape(x), np.nan), ""),
    "infinite": (lambda x: np.full(np.shape(x), np.inf), ""),
    "too large": (lambda x: np.full(np.shape(x), 2**64 - 1, np.uint64), ""),
    "huge float": (lambda x: np.full(np.shape(x), 1e300), ""),
    "negative": (lambda x: np.full(np.shape(x), -3), ""),
    "one more axis": (lambda x: np.asarray(x)[None], ""),
    "empty": (lambda x: np.asarray(x)[:0], ""),
    "half": (lambda x: np.asarray(x)[: M // 2], ""),
}
# Real vectors may be any finite numbers.
FINE = {("vectors", "negative"), ("vectors", "too large"), ("vectors", "huge float")}
HELD = {"vectors": VECTORS, "tokens": TOKENS, "labels": LABELS, "lengths": np.full(M, T)}


def calls(where: str, bad: Any) -> dict[str, Callable[[], object]]:
    """Every public call that takes this array, with a bad one in its place."""
    x = bad if where in ("vectors", "tokens") else VECTORS
    y = bad if where == "labels" else LABELS
    n = bad if where == "lengths" else None
    network = READS_TOKENS if where == "tokens" else READS_VECTORS
    bound = {} if where == "tokens" else {"input_bound": 9.0}
    fine = TOKENS if where == "tokens" else VECTORS
    usual = recert.certify(network, fine, LABELS, **bound, **SHORT)
    return {
        "certify": lambda: recert.certify(network, x, y, lengths=n, **bound, **SHORT),
        "holdout": lambda: recert.certify(
            network, fine, LABELS, holdout=(x, y, n), **bound, **SHORT
        ),
        "certify_all": lambda: recert.certify_all([network], x, y, lengths=n, **bound, **SHORT),
        "batches": lambda: recert.certify(network, iter([(x, y, n)]), **bound, **SHORT),
        "certify_posterior": lambda: recert.certify_posterior(
            around(network, 1, "0" * 64, 0.1), x, y, lengths=n
        ),
        "verify": lambda: recert.verify(usual, network, x, y, lengths=n),
    }


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("where", HELD)
def test_bad_arrays_are_refused_in_one_line_everywhere(where: str, kind: str) -> None:
    make, word = ARRAYS[kind]
    if (where, kind) in FINE:
        pytest.skip("vectors may hold these")
    for name in calls(where, None):
        call = calls(where, make(HELD[where]))[name]  # generators are read once
        one_line(call, word)


def test_one_hot_labels_are_not_labels_of_steps() -> None:
    rows = np.eye(3, dtype=int)[LABELS]
    one_line(lambda: certify(y=rows), "one-hot", "argmax")
    one_line(lambda: certify(y=LABELS[:, None]), "labels[:, 0]")
    # With K = T steps they would be read as labels 0 and 1 of a step.
    network = vanilla(U=np.eye(2), W=np.ones((2, 2)), V=np.ones((4, 2)), input_kind="real")
    rows = np.eye(4, dtype=int)[LABELS]
    one_line(lambda: recert.certify(network, VECTORS, rows, input_bound=9.0, **SHORT), "one-hot")


def test_masks_are_of_the_shape_of_sequences() -> None:
    for shape in ((M,), (M, T + 1)):
        one_line(lambda shape=shape: certify(lengths=np.ones(shape, bool)), "a mask (m, T)")
    assert certify(lengths=np.ones((M, T), bool)).sample == certify().sample
    one_line(
        lambda: recert.certify(READS_VECTORS, iter([(VECTORS, LABELS)]), lengths=[T] * M, **SHORT),
        "lengths",
    )


def test_series_of_floats_are_no_tokens() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.fc = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            return self.fc(self.rnn(x.unsqueeze(-1))[0][:, -1])

    for x in (RNG.uniform(-1, 1, (M, T)), RNG.uniform(0, 1, (M, T)).astype("f4")):
        for call in (
            lambda x=x: recert.certify(Net(), x, LABELS, input_bound=1.0, **SHORT),
            lambda x=x: recert.from_torch(Net(), x),
            lambda x=x: recert.certify(READS_TOKENS, x, LABELS, **SHORT),
        ):
            one_line(call, "floats are vectors (m, T, d_x)", "x[..., None]")
    narrow = vanilla(U=[[0.1]], W=[[1.0]], V=[[1.0], [-1.0]], input_kind="real")
    one_line(lambda: recert.certify(narrow, VECTORS[:, :, 0], LABELS, **SHORT), "x[..., None]")


def test_whole_numbers_that_their_type_may_have_rounded_are_refused() -> None:
    network = vanilla(U=np.eye(2), W=np.ones((2, 4000)), V=np.ones((3, 2)))
    x = np.full((M, T), 3000)
    recert.certify(network, x.astype("f4"), LABELS, **SHORT)
    one_line(lambda: recert.certify(network, x.astype("f2"), LABELS, **SHORT), "2048", "integers")
    narrow = torch.tensor(x).bfloat16()
    one_line(lambda: recert.certify(network, narrow, LABELS, **SHORT), "256", "integers")


def test_a_bound_that_rounding_exceeds_says_which_one_holds() -> None:
    x = VECTORS / np.linalg.norm(VECTORS, axis=2, keepdims=True) * (1.0 + 2e-7)
    found = certify(x, input_bound=1.0)
    row = found.assumption("input_bound")
    assert row.status == "violated" and "float32 rounds" in row.evidence
    assert "1.00001" in row.evidence
    assert certify(x, input_bound=1.00001).assumption("input_bound").status == "declared"
    far = certify(2.0 * x, input_bound=1.0).assumption("input_bound")
    assert far.status == "violated" and "rounds" not in far.evidence


# Modules whose weights are no plain arrays.


class Small(nn.Module):
    def __init__(self, device: Any = None) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 4, batch_first=True, device=device)
        self.fc = nn.Linear(4, 3, device=device)

    def forward(self, x: Any) -> Any:
        return self.fc(self.rnn(x)[0][:, -1])


class Opaque(torch.Tensor):
    """A subclass that nobody can read."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("to", "numpy"):
            raise NotImplementedError("two\nlines")
        return super().__torch_function__(func, types, args, kwargs or {})


def dynamic() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: nn.Module = torch.ao.quantization.quantize_dynamic(
            Small(), {nn.LSTM, nn.Linear}, dtype=torch.qint8
        )
        return found


def lazy() -> nn.Module:
    found = Small()
    found.fc = nn.LazyLinear(3)
    return found


def with_weight(value: Callable[[Any], Any]) -> nn.Module:
    found = Small()
    found.fc.weight = nn.Parameter(value(found.fc.weight.detach()), requires_grad=False)
    return found


MODULES: dict[str, tuple[Callable[[], Any], str]] = {
    "dynamically quantised": (dynamic, "quantised"),
    "meta": (lambda: Small(device="meta"), "meta"),
    "lazy": (lazy, "run the model once"),
    "complex": (lambda: with_weight(lambda w: w + 0j), "complex"),
    "sparse": (lambda: with_weight(lambda w: w.to_sparse()), "to_dense"),
    "a subclass": (lambda: with_weight(lambda w: w.as_subclass(Opaque)), "Opaque"),
}


@pytest.mark.parametrize("kind", MODULES)
def test_modules_with_other_weights_are_refused_in_one_line(kind: str) -> None:
    make, word = MODULES[kind]
    one_line(lambda: recert.from_torch(make()), word)
    one_line(lambda: recert.certify(make(), VECTORS, LABELS, input_bound=9.0, **SHORT), word)


def test_chance_is_not_called_memory() -> None:
    class Noisy(Small):
        def forward(self, x: Any) -> Any:
            return nn.functional.dropout(super().forward(x))

    class Keeps(Small):
        state = None

        def forward(self, x: Any) -> Any:
            out, self.state = self.rnn(x, self.state)
            return self.fc(out[:, -1])

    one_line(lambda: recert.from_torch(Noisy()), "random numbers")
    assert "state between calls" in one_line(lambda: recert.from_torch(Keeps()))


def test_a_module_that_describes_itself_may_sum_both_biases() -> None:
    module = Small()
    network = recert.from_torch(module)
    Small.recert_network = lambda self: network  # type: ignore[attr-defined]
    try:
        assert recert.from_torch(module).digest == network.digest
        other = Small()
        one_line(lambda: recert.from_torch(other), "exactly one block")
    finally:
        del Small.recert_network
