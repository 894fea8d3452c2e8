"""Every argument of the public face, wrong in every way: one line that names it, no traceback."""

from __future__ import annotations

import datetime
import decimal
import fractions
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recert
from recert.errors import RecertError, an
from recert.networks.network import vanilla
from recert.pac_bayes.posterior import around

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((30, 4, 2)), RNG.integers(0, 3, 30)
NETWORK = vanilla(
    U=0.1 * np.eye(3),
    W=RNG.standard_normal((3, 2)),
    V=RNG.standard_normal((3, 3)),
    input_kind="real",
)
USUAL: dict[str, Any] = {"max_length": 4, "input_bound": 9.0, "bounds": "margin_ball"}


class Hostile:
    """Raises whatever is asked of it."""

    __hash__ = None  # type: ignore[assignment]

    def _raise(self, *_: Any) -> Any:
        raise RuntimeError("two\nlines")

    __float__ = __index__ = __repr__ = __iter__ = __len__ = __eq__ = _raise  # type: ignore[assignment]


BAD: dict[str, Any] = {
    "None": None, "text": "abc", "no text": "", "bytes": b"1", "NaN": float("nan"),
    "infinite": float("inf"), "0": 0, "negative": -1, "True": True, "numpy's True": np.True_,
    "complex": 1j, "numpy's complex": np.complex128(1 + 1j), "list": [0.1], "empty list": [],
    "dict": {}, "tuple": (0.1,), "set": {1}, "array": np.array([0.1, 0.2]), "0-d": np.array(0.1),
    "array of one": np.array([0.1]), "tensor": torch.tensor([0.1, 0.2]),
    "0-d tensor": torch.tensor(0.1),
    "with gradients": torch.tensor(0.1, requires_grad=True), "Decimal": decimal.Decimal("0.1"),
    "no Decimal": decimal.Decimal("sNaN"), "Fraction": fractions.Fraction(1, 10), "huge": 10**400,
    "large": 1e308, "tiny": 5e-324, "float32": np.float32(0.1), "uint64": np.uint64(2**63),
    "time": datetime.datetime(2020, 1, 1), "object": object(), "type": int, "hostile": Hostile(),
    "list of None": [None], "list of lists": [[1]], "meta": torch.tensor(1.0, device="meta"),
    "module": np, "ellipsis": ...,
}  # fmt: skip


def told(call: Callable[[], object]) -> str:
    """The message of a call that may as well succeed; it is one line of bearable length."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            call()
        except RecertError as error:
            message = str(error)
            assert message.strip() and "\n" not in message and len(message) < 600, message
            return message
    return ""


def arguments_of(function: Callable[..., Any], *besides: str) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in besides]


@pytest.mark.parametrize(
    "name", arguments_of(recert.certify, "sequences", "labels", "progress", "model")
)
def test_certify(name: str) -> None:
    for bad in BAD.values():
        told(lambda bad=bad: recert.certify(NETWORK, X, Y, **{**USUAL, name: bad}))


@pytest.mark.parametrize("name", arguments_of(recert.certify_posterior, "progress", "repetitions"))
def test_certify_posterior(name: str) -> None:
    usual = {"posterior": around(NETWORK, 5, "0" * 64, 0.1), "sequences": X, "labels": Y}
    for bad in BAD.values():
        told(lambda bad=bad: recert.certify_posterior(**{**usual, name: bad}))


@pytest.mark.parametrize("name", arguments_of(recert.verify))
def test_verify(name: str) -> None:
    pytest.importorskip("flint")
    held = (X[:5] + 1.0, Y[:5])
    usual = {
        "certificate": recert.certify(NETWORK, X, Y, holdout=held, **USUAL),
        "model": NETWORK, "sequences": X, "labels": Y, "holdout": held,
    }  # fmt: skip
    for bad in BAD.values():
        told(lambda bad=bad: recert.verify(**{**usual, name: bad}))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(2, 6, batch_first=True)
        self.head = torch.nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("name", arguments_of(recert.from_torch))
def test_from_torch(name: str) -> None:
    for bad in BAD.values():
        told(lambda bad=bad: recert.from_torch(**{"model": Net(), "sequences": X[:5], name: bad}))


CALLS: dict[str, Callable[[Any], object]] = {
    "model": lambda bad: recert.certify(bad, X, Y, **USUAL),
    "Enforced": lambda bad: recert.certify(
        NETWORK, X, Y, **{**USUAL, "input_bound": recert.Enforced(bad)}
    ),
    "a cap": lambda bad: recert.certify(
        NETWORK, X, Y, **{**USUAL, "caps": {"U": bad, "W": 9.0, "V": 9.0}}
    ),
    "Cap": lambda bad: recert.Cap(1.0, row=bad, l1=bad),
    "groups of holdout": lambda bad: recert.certify(
        NETWORK, X, Y, **{**USUAL, "holdout": (X, Y, None, bad)}
    ),
    "batches": lambda bad: recert.certify(NETWORK, bad, **USUAL),
    "second batch": lambda bad: recert.certify(NETWORK, [(X, Y), bad], **USUAL),
    "models": lambda bad: recert.certify_all(bad, X, Y, **USUAL),
    "names": lambda bad: recert.certify_all([NETWORK], X, Y, names=bad, **USUAL),
    "each": lambda bad: recert.certify_all([NETWORK], X, Y, each=bad, **USUAL),
    "each one": lambda bad: recert.certify_all([NETWORK], X, Y, each=[bad], **USUAL),
    "delta of all": lambda bad: recert.certify_all([NETWORK], X, Y, delta=bad, **USUAL),
    "load_network": recert.load_network,
    "load_posterior": recert.load_posterior,
    "load_certificate": recert.load_certificate,
    "save_network": lambda bad: recert.save_network(bad, "nowhere"),
    "save_posterior": lambda bad: recert.save_posterior(bad, "nowhere"),
    "meta": lambda bad: recert.save_network(NETWORK, "somewhere", meta=bad),
    "weights": lambda bad: vanilla(U=bad, W=np.ones((3, 2)), V=np.eye(3), b=bad),
    "activation": lambda bad: vanilla(U=np.eye(3), W=np.ones((3, 2)), V=np.eye(3), activation=bad),
    "input_kind": lambda bad: vanilla(U=np.eye(3), W=np.ones((3, 2)), V=np.eye(3), input_kind=bad),
    "steps": lambda bad: recert.sensitivity(NETWORK, steps=4, input_bound=bad),
    **{
        f"{name} of a prior": lambda bad, name=name: around(
            **{"centre": NETWORK, "units": 5, "digest": "0" * 64, "scale": 0.1, name: bad}
        )
        for name in ("centre", "units", "digest", "scale", "index", "temperature")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_other_calls(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for bad in BAD.values():
        told(lambda bad=bad: CALLS[name](bad))


def test_lookups_say_what_there_is() -> None:
    found = recert.certify(NETWORK, X, Y, **USUAL)
    for bad in BAD.values():
        assert "margin_ball" in told(lambda bad=bad: found[bad])
        assert "input_bound" in told(lambda bad=bad: found.assumption(bad))


def test_delta_of_all_networks_may_be_any_number() -> None:
    usual = recert.certify_all([NETWORK], X, Y, delta=0.25, **USUAL)
    for number in (np.float32(0.25), torch.tensor(0.25), fractions.Fraction(1, 4)):
        found = recert.certify_all([NETWORK], X, Y, delta=number, **USUAL)
        assert found.delta == usual.delta and type(found.delta) is float
        assert found.statement() == usual.statement()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("list", "a list"), ("int", "an int"), ("ndarray", "an ndarray"), ("uint64", "a uint64"),
        ("lstm", "an lstm"), ("gru", "a gru"), ("ONNX", "an ONNX"), ("ellipsis", "an ellipsis"),
    ],
)  # fmt: skip
def test_articles(word: str, expected: str) -> None:
    assert an(word) == expected
