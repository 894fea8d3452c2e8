"""A certificate is the same number whatever a program has set: threads, float modes, torch's state.

Losses are counted in float64 with an allowance for its rounding, and every mode below either does
not reach the arithmetic or is set aside while a certificate is computed.
"""

from __future__ import annotations

import contextlib
import decimal
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest

import hostile
import recert
from test_gibbs import posterior_for, sampled

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 4, (200, 3)), RNG.integers(0, 2, 200)


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = torch.nn.LSTM(4, 3, batch_first=True)
        self.head = torch.nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        x = torch.nn.functional.one_hot(x, 4).to(self.head.weight.dtype)
        return self.head(self.rnn(x)[0])


@cache
def model() -> Model:
    return Model()


def plain(certificate: recert.Certificate) -> str:
    entry = certificate.to_json()
    del entry["created"], entry["seal"]
    return json.dumps(entry, sort_keys=True)


def of_network() -> str:
    held = (X[:40], Y[:40])
    return plain(recert.certify(hostile.small_network(), X, Y, max_length=3, holdout=held))


def of_module() -> str:
    return plain(recert.certify(model(), X, Y, max_length=3))


def of_posterior() -> str:
    x, y, n = sampled()
    posterior = posterior_for(x, y, n)
    return plain(recert.certify_posterior(posterior, x, y, lengths=n, max_length=20, repetitions=1))


SUBJECTS = {"network": of_network, "module": of_module, "posterior": of_posterior}


@cache
def usual(subject: str) -> str:
    return SUBJECTS[subject]()


@contextlib.contextmanager
def setting(on: Callable[[], object], off: Callable[[], object]) -> Iterator[None]:
    on()
    try:
        yield
    finally:
        off()


@contextlib.contextmanager
def decimals() -> Iterator[None]:
    with decimal.localcontext() as context:
        context.prec, context.traps[decimal.Inexact] = 4, True
        yield


def threads(count: int) -> Callable[[], Any]:
    before = torch.get_num_threads()
    return lambda: setting(
        lambda: torch.set_num_threads(count), lambda: torch.set_num_threads(before)
    )


def dtype(which: Any) -> Callable[[], Any]:
    return lambda: setting(
        lambda: torch.set_default_dtype(which), lambda: torch.set_default_dtype(torch.float32)
    )


MODES: dict[str, Callable[[], Any]] = {
    **{f"{count} threads": threads(count) for count in (1, 2, 3, 4)},
    **{f"numpy {how}": lambda how=how: np.errstate(all=how) for how in ("raise", "ignore")},
    "denormals flushed": lambda: setting(
        lambda: torch.set_flush_denormal(True), lambda: torch.set_flush_denormal(False)
    ),
    "float64": dtype(torch.float64),
    "bfloat16": dtype(torch.bfloat16),
    "deterministic": lambda: setting(
        lambda: torch.use_deterministic_algorithms(True),
        lambda: torch.use_deterministic_algorithms(False),
    ),
    "inference mode": lambda: torch.inference_mode(),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another device": lambda: torch.device("meta"),
    "decimals": decimals,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_certificate_is_the_same_in_every_mode(subject: str, mode: str) -> None:
    expected = usual(subject)
    with MODES[mode]():
        assert SUBJECTS[subject]() == expected


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_certificate_is_the_same_from_several_threads(subject: str) -> None:
    expected, before = usual(subject), torch.get_default_dtype()
    model().train()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: SUBJECTS[subject](), range(8))) == {expected}
    assert torch.get_default_dtype() == before and model().training and model().rnn.training


@pytest.mark.parametrize("count", [1, 3])
def test_a_certificate_is_the_same_in_processes_with_other_threads(count: int) -> None:
    script = "import test_float_modes as t; print(*(f() for f in t.SUBJECTS.values()), sep='\\n')"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "OMP_NUM_THREADS": str(count), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.splitlines() == [usual(subject) for subject in SUBJECTS]
