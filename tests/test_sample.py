"""Bad input: every refusal is a typed exception of one line that names the thing and a remedy."""

from __future__ import annotations

import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recert
from recert.errors import FileError, InputError, RecertError, UnsupportedModelError
from recert.samples.sample import Enforced, Reading, Sample, SampleDigest
from recert.samples.vectors import scale_into_ball

rng = np.random.default_rng(0)
X = rng.integers(0, 4, (20, 4))
Y = rng.integers(0, 2, 20)
REAL_X = rng.normal(size=(20, 4, 2))
STEPS_Y = rng.integers(0, 2, (20, 4))


def network(**more: object) -> recert.Network:
    return recert.vanilla(
        more.get("U", np.eye(2) * 0.3),
        more.get("W", np.ones((2, 4))),
        more.get("V", np.eye(2)),
        **{k: v for k, v in more.items() if len(k) > 1},
    )


def real_network() -> recert.Network:
    return recert.vanilla(np.eye(2) * 0.3, np.ones((2, 2)), np.eye(2), input_kind="real")


def refused(call: object, *words: str, kind: type[RecertError] = InputError) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.strip()
    for word in words:
        assert word in message, message
    return message


def with_value(array: np.ndarray, place: object, value: object, dtype: type = float) -> np.ndarray:
    changed = array.astype(dtype)
    changed[place] = value
    return changed


WEIGHTS = {
    "NaN": (lambda: network(U=[[math.nan, 0], [0, 0]]), "U", "NaN"),
    "infinite": (lambda: network(W=np.full((2, 4), math.inf)), "W", "infinite"),
    "one class": (lambda: network(V=np.ones((1, 2))), "2 classes"),
    "no class": (lambda: network(V=np.ones((0, 2))), "V", "empty"),
    "U not square": (lambda: network(U=np.ones((2, 3))), "U"),
    "W does not fit": (lambda: network(W=np.ones((3, 4))), "W"),
    "V does not fit": (lambda: network(V=np.ones((2, 3))), "V"),
    "vector": (lambda: network(U=np.ones(2)), "U"),
    "bias does not fit": (lambda: network(b_V=np.ones(3)), "b_V"),
    "nothing": (lambda: network(U=np.zeros((0, 0))), "U", "empty"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str) -> None:
    call, *words = WEIGHTS[name]
    refused(call, *words)


def test_activation_and_norm_are_checked() -> None:
    refused(lambda: network(activation="gelu"), "gelu", "tanh", kind=UnsupportedModelError)


TOKENS = {
    "no sequences": ((X[:0], Y[:0]), {}, "empty"),
    "no steps": ((X[:, :0], Y), {}, "T = 0"),
    "length 0": ((X, Y), {"lengths": np.zeros(20, int)}, "length 0", "drop"),
    "all padding": ((with_value(X, 3, -1, int), Y), {}, "sequence 3 begins with -1", "drop"),
    "too long": ((X, Y), {"lengths": np.full(20, 5)}, "length 5"),
    "negative length": ((X, Y), {"lengths": np.full(20, -1)}, "length -1"),
    "fractional length": ((X, Y), {"lengths": np.full(20, 1.5)}, "lengths", "whole"),
    "infinite length": ((X, Y), {"lengths": np.full(20, math.inf)}, "length"),
    "few lengths": ((X, Y), {"lengths": [4, 4]}, "lengths"),
    "one length": ((X, Y), {"lengths": 4}, "lengths"),
    "lengths in columns": ((X, Y), {"lengths": np.full((20, 1), 4)}, "lengths"),
    "lengths of text": ((X, Y), {"lengths": ["four"] * 20}, "lengths"),
    "token too large": ((with_value(X, (5, 2), 4, int), Y), {}, "token 4", "sequence 5", "step 3"),
    "token negative, in lengths": (
        (with_value(X, (5, 2), -1, int), Y),
        {"lengths": np.full(20, 4)},
        "token -1",
        "sequence 5",
    ),
    "token of another sign": ((with_value(X, (5, 2), -7, int), Y), {}, "-7"),
    "token inside padding": ((with_value(X, (5, 1), -1, int), Y), {}, "sequence 5"),
    "fractional tokens": ((X + 0.5, Y), {}, "3.5", "no token", "x[..., None]"),
    "NaN tokens": ((with_value(X, (0, 0), math.nan), Y), {}, "nan", "no token"),
    "infinite tokens": ((with_value(X, (0, 0), math.inf), Y), {}, ""),
    "huge tokens": ((with_value(X, (0, 0), 2**64 - 1, np.uint64), Y), {}, str(2**64 - 1)),
    "reals for tokens": ((REAL_X, Y), {}, "tokens"),
    "one sequence": ((X[0], Y), {}, "shape"),
    "a number": ((3, 1), {}, "shape"),
    "text": ((np.array([["a", "b"]] * 20), Y), {}, "texts"),
    "a string": (("abcd", Y), {}, "texts"),
    "complex": ((X + 0j, Y), {}, "complex"),
    "objects": ((np.array([[None, 1]] * 20, dtype=object), Y), {}, "Python objects"),
    "ragged": (([[0, 1], [1]] * 10, Y), {}, "ragged", "pad"),
    "None": ((None, Y), {}, ""),
    "label too large": ((X, with_value(Y, 7, 2, int)), {}, "label 2", "sequence 7", "0..1"),
    "label negative": ((X, with_value(Y, 7, -1, int)), {}, "label -1", "sequence 7"),
    "fractional labels": ((X, Y + 0.5), {}, "labels", "whole"),
    "NaN labels": ((X, with_value(Y, 7, math.nan)), {}, "labels"),
    "infinite labels": ((X, with_value(Y, 7, math.inf)), {}, "label"),
    "labels of text": ((X, ["m"] * 20), {}, "labels"),
    "few labels": ((X, Y[:5]), {}, "labels"),
    "labels in columns": ((X, Y[:, None]), {}, "labels"),
    "labels for other steps": ((X, np.zeros((20, 9), int)), {}, "labels"),
    "no labels": ((X,), {}, "labels are missing"),
    "labels for an average": ((X, Y), {"at": "average"}, "(m, T)"),
    "few groups": ((X, Y), {"groups": [1, 2]}, "groups"),
    "groups in columns": ((X, Y), {"groups": np.zeros((20, 1))}, "groups"),
    "groups that have no order": ((X, Y), {"groups": [None, "a"] * 10}, "groups"),
    "at beyond the end": ((X, Y), {"at": 5}, "step 5"),
    "at beyond a length": ((X, Y), {"at": 3, "lengths": [2] + [4] * 19}, "sequence 0", "step 3"),
    "at beyond max_length": ((X, Y), {"at": 4, "max_length": 3}, "step 4", "max_length"),
    "at 0": ((X, Y), {"at": 0}, "at is 0"),
    "at negative": ((X, Y), {"at": -1}, "at is -1"),
    "at True": ((X, Y), {"at": True}, "True"),
    "at a word": ((X, Y), {"at": "first"}, "first", "last"),
    "at a fraction": ((X, Y), {"at": 2.5}, "2.5"),
    "at None": ((X, Y), {"at": None}, "None"),
    "at several": ((X, Y), {"at": [1, 2]}, "at is"),
    "at an array": ((X, Y), {"at": np.array([1, 2])}, "at is"),
    "max_length 0": ((X, Y), {"max_length": 0}, "max_length"),
    "max_length True": ((X, Y), {"max_length": True}, "max_length"),
    "max_length a fraction": ((X, Y), {"max_length": 2.5}, "max_length"),
    "max_length a word": ((X, Y), {"max_length": "4"}, "max_length"),
    "delta 0": ((X, Y), {"delta": 0}, "delta is 0"),
    "delta 1": ((X, Y), {"delta": 1}, "delta is 1"),
    "delta 2": ((X, Y), {"delta": 2}, "delta is 2"),
    "delta negative": ((X, Y), {"delta": -0.1}, "delta"),
    "delta NaN": ((X, Y), {"delta": math.nan}, "delta"),
    "delta a word": ((X, Y), {"delta": "0.01"}, "delta"),
    "delta None": ((X, Y), {"delta": None}, "delta"),
    "margin 0": ((X, Y), {"margin": 0}, "margin"),
    "margin negative": ((X, Y), {"margin": -1}, "margin"),
    "margin infinite": ((X, Y), {"margin": math.inf}, "margin"),
    "margin a word": ((X, Y), {"margin": "1"}, "margin"),
    "caps of unknown blocks": ((X, Y), {"caps": {"Q": 1.0}}, "Q", "U"),
    "caps missing": ((X, Y), {"caps": {"U": 1.0}}, "W", "V"),
    "caps negative": ((X, Y), {"caps": {"U": -1.0, "W": 1, "V": 1}}, "cap"),
    "caps NaN": ((X, Y), {"caps": {"U": math.nan, "W": 1, "V": 1}}, "cap"),
    "caps of text": ((X, Y), {"caps": {"U": "big", "W": 1, "V": 1}}, "big"),
    "caps None": ((X, Y), {"caps": {"U": None, "W": 1, "V": 1}}, "cap"),
    "unknown bound": ((X, Y), {"bounds": ["ball"]}, "ball", "margin_ball"),
    "no bounds": ((X, Y), {"bounds": []}, "bounds"),
    "bounds None": ((X, Y), {"bounds": None}, "bounds"),
    "tried 0": ((X, Y), {"tried": 0}, "0"),
    "tried None": ((X, Y), {"tried": None}, "tried"),
    "population small": ((X, Y), {"population": 19}, "population", "20"),
    "population a word": ((X, Y), {"population": "30"}, "population"),
    "holdout of one": ((X, Y), {"holdout": (X,)}, "holdout"),
    "holdout an array": ((X, Y), {"holdout": X}, "holdout"),
    "holdout empty": ((X, Y), {"holdout": (X[:0], Y[:0])}, "held-out", "empty"),
    "holdout labels": ((X, Y), {"holdout": (X, Y + 1)}, "label 2"),
    "holdout role": (
        (X, Y),
        {"holdout": (X[:9], Y[:9]), "holdout_role": "test"},
        "holdout_role",
        "test",
    ),
    "input_bound for tokens": ((X, Y), {"input_bound": 3.0}, "input_bound", "one-hot"),
    "iterable of numbers": (([1, 2, 3],), {}, ""),
    "iterable of triples short": (([(X,)],), {}, "batch"),
    "iterable of nothing": (([],), {}, "batch"),
    "iterable with an empty batch": (([(X, Y[:3])],), {}, "labels"),
}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens(name: str) -> None:
    args, options, *words = TOKENS[name]
    refused(lambda: recert.certify(network(), *args, **options), *words)


REALS = {
    "NaN": ((with_value(REAL_X, (6, 1, 0), math.nan), Y), {}, "sequence 6", "NaN"),
    "infinite": ((with_value(REAL_X, (6, 1, 0), -math.inf), Y), {}, "sequence 6"),
    "other dimension": ((np.ones((20, 4, 3)), Y), {}, "(20, 4, 3)"),
    "tokens": ((X, Y), {}, "vectors"),
    "complex": ((REAL_X + 0j, Y), {}, "complex"),
    "norm overflows": ((np.full((20, 4, 2), 1.7e308), Y), {}, ""),
    "bound 0": ((REAL_X, Y), {"input_bound": 0}, "input_bound"),
    "bound negative": ((REAL_X, Y), {"input_bound": -1.0}, "input_bound"),
    "bound infinite": ((REAL_X, Y), {"input_bound": math.inf}, "input_bound"),
    "bound NaN": ((REAL_X, Y), {"input_bound": math.nan}, "input_bound"),
    "bound a word": ((REAL_X, Y), {"input_bound": "1"}, "input_bound"),
    "enforced 0": ((REAL_X, Y), {"input_bound": Enforced(0.0)}, "input_bound"),
    "enforced NaN": ((REAL_X, Y), {"input_bound": Enforced(math.nan)}, "input_bound"),
}


@pytest.mark.parametrize("name", REALS)
def test_reals(name: str) -> None:
    args, options, *words = REALS[name]
    refused(lambda: recert.certify(real_network(), *args, **options), *words)


def test_padding_may_hold_anything() -> None:
    dirty = with_value(REAL_X, (6, 3, 0), math.nan)
    lengths = [4] * 20
    lengths[6] = 3
    found = recert.certify(real_network(), dirty, Y, lengths=lengths)
    assert found.sample["m"] == 20


@pytest.mark.parametrize("sequences", [X, X.astype(np.uint8), X.astype(float), X.tolist()])
@pytest.mark.parametrize("labels", [Y, Y.astype(bool), Y.astype(np.float32), Y.tolist()])
def test_every_numeric_dtype_means_the_same(sequences: object, labels: object) -> None:
    found = recert.certify(network(), sequences, labels, bounds="margin_ball")
    assert found.bounds == recert.certify(network(), X, Y, bounds="margin_ball").bounds


@pytest.mark.parametrize("m", [1, 2, 3])
def test_few_units_work(m: int) -> None:
    found = recert.certify(network(), X[:m], Y[:m], max_length=4)
    assert found.sample["m"] == m and found.kind == "certificate"


def test_overflowing_outputs_are_refused() -> None:
    wild = recert.vanilla(np.eye(2) * 1e200, np.ones((2, 4)) * 1e200, np.eye(2), activation="relu")
    with np.errstate(all="ignore"):
        refused(lambda: recert.certify(wild, X, Y), "overflow")


@pytest.mark.parametrize("margin", [5e-324, 1e-308, 1e-300, 1e300, 1.7e308])
def test_absurd_margins_are_refused_or_say_nothing(margin: float) -> None:
    try:
        found = recert.certify(network(), X, Y, max_length=4, margin=margin)
    except InputError as error:
        assert "margin" in str(error)
    else:
        assert found.risk_bound == 1.0


@pytest.mark.parametrize("weight", [0.0, 1e-200, 1e-320])
def test_networks_that_do_nothing(weight: float) -> None:
    nothing = network(U=np.eye(2) * weight, W=np.ones((2, 4)) * weight, V=np.eye(2) * weight)
    found = recert.certify(nothing, X, Y, max_length=4)
    assert found.sample["training_error"] == 1.0 and found.risk_bound == 1.0


@pytest.mark.parametrize("zero", [{"U": 0.0}, {"W": 0.0}, {"V": 0.0}, {"U": 0.0, "V": 0.0}])
def test_caps_of_zero(zero: dict[str, float]) -> None:
    shapes = {"U": np.eye(2) * 0.3, "W": np.ones((2, 4)), "V": np.eye(2)}
    net = network(**{k: v * zero.get(k, 1.0) for k, v in shapes.items()})
    caps = {"U": 1.0, "W": 2.0, "V": 1.0, **zero}
    found = recert.certify(net, X, Y, max_length=4, caps=caps)
    for bound in found.bounds:
        assert bound.log10 is None or not math.isnan(bound.value)
        if bound.kind == "certificate":
            assert bound.value >= found.sample["training_error"]


def test_models_that_are_none(tmp_path: Path) -> None:
    refused(lambda: recert.certify(5, X, Y), "int")
    refused(lambda: recert.certify(None, X, Y), "NoneType")
    for path in (tmp_path / "absent", tmp_path, Path("/dev/null/network")):
        refused(lambda path=path: recert.certify(path, X, Y), str(path), kind=FileError)


def test_unknown_block() -> None:
    refused(lambda: network().block("Q"), "'Q'", "U, W, V")
    refused(lambda: recert.sensitivity(network(), steps=3, caps={"Q": 1}), "Q")


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, "3", None, math.nan])
def test_sensitivity_horizons(steps: object) -> None:
    refused(lambda: recert.sensitivity(network(), steps=steps), "steps")


def test_truncated_network_files(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    weights = recert.save_network(network(), tmp_path / "net")
    whole = weights.read_bytes()
    for length in (0, 4, 9, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:length])
        refused(lambda: recert.certify(tmp_path / "net", X, Y), str(weights), kind=FileError)
    weights.unlink()
    refused(lambda: recert.certify(tmp_path / "net", X, Y), "network.safetensors", kind=FileError)


def test_scaling_leaves_what_is_inside_alone() -> None:
    x = np.array([[0.3, 0.4], [3.0, 4.0], [0.0, 0.0]])
    scaled = scale_into_ball(x, 1.0)
    assert np.array_equal(scaled[[0, 2]], x[[0, 2]])
    assert np.linalg.norm(scaled[1]) == pytest.approx(1.0, abs=2e-6)
    assert np.linalg.norm(scaled[1]) <= 1.0
    assert scaled[1, 0] / scaled[1, 1] == pytest.approx(0.75)


@pytest.mark.parametrize("size", [1e-310, 1e-170, 1e-100, 1.0, 1e100, 1e153])
def test_the_largest_norm_is_never_understated(size: float) -> None:
    sample = Sample(np.full((3, 2, 2), size), [0, 1, 0], Reading("real", 2, 2))
    list(sample)
    assert sample.largest_norm >= size * math.sqrt(2.0) * (1 - 1e-15)


def test_digest_depends_on_everything_read() -> None:
    def digest(x: np.ndarray, y: np.ndarray, lengths: object = None) -> str:
        sample = Sample(x, y, Reading("onehot", 4, 2), lengths=lengths, track=True)
        list(sample)
        return sample.digest

    first = digest(X, Y)
    assert digest(X.copy(), Y.copy()) == first
    others = [
        digest(with_value(X, (0, 0), (X[0, 0] + 1) % 4, int), Y),
        digest(X, with_value(Y, 0, 1 - Y[0], int)),
        digest(X, Y, [3] + [4] * 19),
        digest(X[::-1], Y[::-1]),
        digest(X[1:], Y[1:]),
    ]
    assert len({first, *others}) == 6


def test_the_digest_is_of_content_alone() -> None:
    """Neither batches, padding nor number types are in it; every value, label and length is."""
    rng = np.random.default_rng(0)
    x, y, n = rng.integers(0, 4, (30, 5)), rng.integers(0, 3, 30), rng.integers(1, 6, 30)

    def digest(x: Any, y: Any, n: Any, width: int | None = None) -> str:
        found = SampleDigest()
        for i in range(0, len(x), width or len(x)):
            piece = slice(i, i + (width or len(x)))
            found.update(x[piece], y[piece], n[piece])
        return found.hexdigest()

    plain = digest(x, y, n)
    padded = np.where(np.arange(8) < n[:, None], np.pad(x, ((0, 0), (0, 3))), -1)
    assert plain == digest(padded, y, n) == digest(x.astype(np.int32), y, n, 7)
    values = b"".join(row[:k].astype("<i8").tobytes() for row, k in zip(x, n, strict=True))
    streams = (values, y.astype("<i8").tobytes(), n.astype("<i8").tobytes())
    lines = ["recert-sample-1 tokens 0 sequence", *(sha256(s).hexdigest() for s in streams)]
    assert plain == sha256("\n".join(lines).encode()).hexdigest()
    for i in range(3):
        changed = [x.copy(), y.copy(), n.copy()]
        changed[i][4] = changed[i][4] % 2 + 1 if i == 2 else (changed[i][4] + 1) % 3
        assert digest(*changed) != plain or np.array_equal(changed[i], (x, y, n)[i])
    real = rng.normal(size=(30, 5, 2))
    assert digest(real, y, n) != digest(real.reshape(30, 10, 1), y, 2 * n)
