"""Training on another device: every tensor is there, numbers are those of the CPU, studies use it.

`elsewhere` stands for a GPU, so that machines without one test this, too; what a GPU alone can tell
is tested where there is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

torch = pytest.importorskip("torch")

import recert  # noqa: E402
from elsewhere import NAME, Elsewhere, OtherDevice  # noqa: E402
from recert.data import SyntheticLanguage  # noqa: E402
from recert.errors import InputError  # noqa: E402
from recert.networks.network import Network  # noqa: E402
from recert.training import (  # noqa: E402
    Recipe,
    RecurrentClassifier,
    Tracker,
    check,
    constrain,
    devices,
    error_rate,
    penalty,
    prior,
    recipes,
    release,
    settle,
    train,
)
from recert.training.posterior import train_posterior  # noqa: E402
from recert.training.quantized import RoundedRecipe, train_rounded  # noqa: E402
from recert.training.recipes import PosteriorRecipe, RecipeCandidate  # noqa: E402
from recert.training.sgd import CONSTRAINTS, Descent, descend  # noqa: E402
from recert.workflows import compress  # noqa: E402
from recert_studies import framework as running  # noqa: E402
from recert_studies.framework import Cell, Conclusion, Study  # noqa: E402
from recert_studies.menu import STUDIES, study  # noqa: E402

Run = Callable[..., tuple[int, str, str]]
Weights = Mapping[str, np.ndarray]
SAMPLE = SyntheticLanguage(3, 6, 2, "last", 0.1).sample(120, seed=5)
CAPS = {"U": 0.9, "W": 2.0, "V": 1.0}
POSTERIOR = PosteriorRecipe(
    candidates=(RecipeCandidate(d_h=3, epochs=2, batch=20),), epochs=2, batch=20
)
HAS_GPU = torch.cuda.is_available()


@contextmanager
def other_device() -> Iterator[OtherDevice]:
    """There is another device, and training goes there."""
    with OtherDevice() as device, devices.on(NAME):
        yield device


def blocks(network: Network) -> Weights:
    return {block.name: block.value for block in network.blocks()}


# The device that stands for a GPU is as strict as one.


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + torch.ones(2),
        lambda x: torch.stack([x, torch.ones(2)]),
        lambda x: torch.randn(2, generator=torch.Generator(), device=NAME),
        lambda x: torch.ones(2)[x.long()] @ x,
        lambda x: x.numpy(),
        lambda x: np.asarray(x),
        lambda x: x.add_(torch.ones(2)),
    ],
    ids=["add", "stack", "generator", "index", "numpy", "asarray", "in place"],
)
def test_what_fails_on_a_gpu_fails_there(wrong: Callable[[Any], Any]) -> None:
    with OtherDevice(), pytest.raises((RuntimeError, TypeError)):
        wrong(torch.ones(2).to(NAME))


def test_tensors_go_there_and_come_back() -> None:
    with OtherDevice() as device:
        x = torch.arange(6.0).to(NAME)
        made = torch.zeros(6, device=NAME)
        assert isinstance(x, Elsewhere) and isinstance(made, Elsewhere)
        assert x.device == made.device == torch.device(NAME)
        made.copy_(x.square() + 1.0)
        back = made.cpu()
    assert device.operations["copy_"] == 1 and device.operations["square"] + device.operations[
        "pow"
    ] == 1  # fmt: skip
    assert type(back) is torch.Tensor
    assert back.tolist() == [1.0, 2.0, 5.0, 10.0, 17.0, 26.0]


# Trainers.


def _train(**fields: Any) -> Callable[[], Weights]:
    recipe = Recipe(**{"d_h": 4, "epochs": 2, "batch": 40, **fields})
    return lambda: train(SAMPLE, recipe).weights


def _descend(constraint: str) -> Callable[[], Weights]:
    descent = Descent("momentum", constraint=constraint, batch=30)
    recipe = Recipe(d_h=4)
    return lambda: blocks(descend(SAMPLE, recipe, descent, steps=6).recert_network())


def _rounded() -> Weights:
    recipe = Recipe(d_h=3, bias=True, epochs=6, batch=40)
    return blocks(train_rounded(SAMPLE, RoundedRecipe(recipe)).network())


def _posterior(**options: Any) -> Weights:
    found = train_posterior(SAMPLE, POSTERIOR, **options).posterior
    scales = {f"scale of {name}": scale for name, scale in found.log_scales.items()}
    return {**blocks(found.mean), **scales}


def _centre() -> Weights:
    with devices.arithmetic():
        candidate = POSTERIOR.candidates[0]
        return blocks(prior.train_centre(SAMPLE, POSTERIOR, candidate, 0, lambda epochs: None))


TRAINERS = {
    **{
        cell: _train(cell=cell, caps=CAPS, loss="margin", margin=0.1)
        for cell in ("vanilla", "mgu", "gru", "lstm", "conv")
    },
    "two layers, two ways": _train(cell="lstm", layers=2, bidirectional=True, bias=True),
    "clipped": _train(clip=0.1),
    **{f"descend, {constraint}": _descend(constraint) for constraint in CONSTRAINTS},
    "rounded": _rounded,
    "centre": _centre,
    "posterior": _posterior,
}


@pytest.mark.parametrize("name", TRAINERS)
def test_training_elsewhere_gives_the_same_numbers(name: str) -> None:
    trainer = TRAINERS[name]
    here = trainer()
    with other_device() as device:
        there = trainer()
    assert here.keys() == there.keys()
    for block, value in here.items():
        np.testing.assert_array_equal(value, there[block])
    matrices = device.operations["mm"] + device.operations["addmm"]
    assert matrices > 20, device.operations  # the network itself ran there, not only its loss


def test_a_device_that_is_named_goes_before_the_current_one() -> None:
    with OtherDevice() as device:
        train(SAMPLE, d_h=2, epochs=1, device="cpu")
        assert not device.operations
        train(SAMPLE, d_h=2, epochs=1, device=NAME)
        assert device.operations["mm"]


def test_trained_models_are_on_the_cpu_and_can_be_read_anywhere() -> None:
    with other_device():
        trained = train(SAMPLE, d_h=3, epochs=2)
        assert {type(p.data) for p in trained.model.parameters()} == {torch.Tensor}
        model = descend(SAMPLE, Recipe(d_h=3), Descent(), steps=2)
        assert {type(p.data) for p in model.parameters()} == {torch.Tensor}
        here = error_rate(trained.model, SAMPLE)
        assert error_rate(trained.model.to(NAME), SAMPLE) == here


def test_rehearsals_in_other_processes_go_to_the_same_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which device it is travels with the job, as a process knows nothing of `devices.on`."""
    seen: list[str] = []

    def in_turn(work: Any, jobs: Any, processes: int) -> Iterator[Any]:
        assert processes == 2
        for job in jobs:
            with devices.on("cpu"):  # what a fresh process would find
                yield work(*job)

    def watched(*arguments: Any) -> Network:
        seen.append(devices.current())
        return centre(*arguments)

    centre = prior.train_centre
    monkeypatch.setattr(prior, "in_processes", in_turn)
    monkeypatch.setattr(prior, "train_centre", watched)
    here = _posterior(views=(SAMPLE,), processes=2)
    assert set(seen) == {"cpu"}
    seen.clear()
    with other_device():
        there = _posterior(views=(SAMPLE,), processes=2)
    assert set(seen) == {NAME} and len(seen) > 8
    for block, value in here.items():
        np.testing.assert_array_equal(value, there[block])


# Anybody's module.


class TimeFirst(torch.nn.Module):
    """Recurrent layer and head; time comes first, as in-place transposes are beyond `elsewhere`."""

    def __init__(self, layer: type[torch.nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.recurrent, self.head = layer(3, 5), torch.nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.recurrent(x.transpose(0, 1))[0][-1])
        return found


def real_data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).random((40, 4, 3)).astype(np.float32)
    return x, (x.sum(axis=(1, 2)) > 6).astype(np.int64)


def constrained(layer: type[torch.nn.Module], device: str) -> tuple[TimeFirst, list[Any]]:
    """A module trained in a loop of its own with constraints, a penalty and a tracker."""
    x, labels = real_data()
    module = TimeFirst(layer).to(device)
    caps = {"U": 0.5, "V": 1.0}
    constrain(module, caps)
    tracker = Tracker((x, labels), at="last")
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    for step in range(4):
        y = module(torch.from_numpy(x).to(device))
        loss = torch.nn.functional.cross_entropy(y, torch.from_numpy(labels).to(device))
        loss = loss + penalty(module, {"W": 1e-3}, kind="two_one")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        settle(module)
        tracker.record(module, step)
    release(module)
    check(module, caps)
    return module, list(tracker.rows)


@pytest.mark.parametrize("layer", [torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU])
def test_tools_and_certificates_of_a_module_elsewhere(layer: type[torch.nn.Module]) -> None:
    here, rows = constrained(layer, "cpu")
    with OtherDevice():
        there, others = constrained(layer, NAME)
        x, labels = real_data()
        certificates = [
            recert.certify(module, x, labels, delta=0.05, bounds="margin_ball")
            for module in (here, there)
        ]
    for p, q in zip(here.parameters(), there.parameters(), strict=True):
        assert isinstance(q.data, Elsewhere)
        torch.testing.assert_close(p.data, q.data.here)
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        assert row["error"] == other["error"]
        assert row["V.spectral"] == pytest.approx(other["V.spectral"], rel=1e-5)
    log10 = [certificate.bounds[0].log10 for certificate in certificates]
    assert log10[0] == pytest.approx(log10[1], abs=1e-5)


# Studies.

OPEN_4 = {"units": 120, "few": 40, "held": 60, "hidden": 4, "horizon": 3, "epochs": 2,
          "memorising": 3, "passes": 2, "steps": 8}  # fmt: skip
# Options of a tiny run, and which of its cells train differently.
TRAINING: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "figure4": ({"hidden": 4, "horizon": 4, "classes": 3, "epochs": 2}, (0,)),
    "gates": ({"units": 200, "batch": 64, "effort": 0.05, "longest": 14, "points": 3}, (0, 5)),
    "tradeoff": (
        {"units": 200, "epochs": 1, "batch": 64, "hidden": 3, "length": 4, "local": "no"},
        (0, 6, 8),
    ),
    "open-1": (
        {"networks": "nouns-capped-8,nouns-file,nouns-posterior", "smallest": 200, "largest": 400,
         "held": 100, "steps": 3, "batch": 64, "local": 0, "sizes": 2},
        (0, 2, 4),
    ),
    "open-2": (
        {"units": 100, "held": 100, "widths": "2", "base": 2, "noises": "0", "epochs": 1,
         "gated": "3", "fit_units": "60", "fit_noises": "0.5", "fit_vanilla": 3, "fit_gru": 2,
         "fit_epochs": 1, "fit_batch": 20},
        (0, 1, 3),
    ),
    "open-3": (
        {"units": 40, "held": 20, "hidden": 3, "horizon": 3, "steps": 10, "target": 0.6},
        (0, 8, 12),
    ),
    "open-4": (OPEN_4, (0, 8)),
}  # fmt: skip


def cells_of(name: str, folder: Path, corpus: Path) -> list[Cell]:
    options, places = TRAINING[name]
    if name == "figure4":
        options = {**options, "data_path": str(corpus)}
    else:
        pytest.importorskip("german_nouns")
    chosen = study(name)
    cells = chosen.cells(chosen.request(folder / "out", seeds=[0], given=options))
    return [cells[place] for place in places]


def test_every_study_that_trains_is_tested_on_another_device() -> None:
    assert {one.name for one in STUDIES if one.trains} == set(TRAINING)


@pytest.mark.studies
@pytest.mark.parametrize(
    ("name", "place"),
    [(name, place) for name, (_, places) in TRAINING.items() for place in range(len(places))],
)
def test_studies_train_on_the_device_and_conclude_the_same(
    name: str, place: int, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    cell = cells_of(name, tmp_path, corpus)[place]
    with Progress(console=Console(quiet=True)) as bar:
        here = cell.work(bar)
        with other_device() as device:
            there = cell.work(bar)
    assert device.operations["mm"] + device.operations["addmm"] > 5
    assert_near(here, there)


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few epochs where a study has no option for them."""
    rounded = RoundedRecipe(Recipe(d_h=3, bias=True, epochs=2, batch=64))
    monkeypatch.setattr(compress, "recipe_for", lambda sample, changes: rounded)
    for kind in (RecipeCandidate, PosteriorRecipe):
        monkeypatch.setattr(recipes, kind.__name__, partial(kind, epochs=2))


def assert_near(here: Any, there: Any) -> None:
    """Results are alike up to sums that are taken in another order."""
    if isinstance(here, dict):
        assert here.keys() == there.keys()
        for key, value in here.items():
            assert_near(value, there[key])
    elif isinstance(here, list):
        assert len(here) == len(there)
        for value, other in zip(here, there, strict=True):
            assert_near(value, other)
    elif isinstance(here, float):
        assert here == pytest.approx(there, rel=1e-4, abs=1e-6)
    else:
        assert here == there


def seeing(log: list[str]) -> Study:
    """A study that notes on which device its cells work."""

    def work(_: Progress) -> dict[str, Any]:
        log.append(devices.current())
        return {}

    return Study(
        "seeing", "device", {}, lambda request: [Cell("one", {"a": 1}, work)],
        lambda request, results: Conclusion(
            [{"a": 1}], lambda path: recert.utils.files.write_text(path, "picture") or path
        ),
    )  # fmt: skip


def test_a_run_takes_the_fastest_device_and_keeps_its_cells_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    quiet, one = Console(quiet=True), seeing(log)
    monkeypatch.setattr(devices, "fastest", lambda: "cpu")
    running.run(one, one.request(tmp_path), console=quiet)
    assert log == ["cpu"] and devices.current() == "cpu"
    monkeypatch.setattr(devices, "fastest", lambda: NAME)
    running.run(one, one.request(tmp_path), console=quiet)
    running.run(one, one.request(tmp_path), console=quiet)
    assert log == ["cpu", NAME] and devices.current() == "cpu"
    found = recert.utils.files.read_json(tmp_path / "results.json")
    assert found["machine"]["device"] == NAME
    assert found["cells"][0]["parameters"] == {"a": 1, "device": NAME}
    running.run(one, one.request(tmp_path, device="cpu"), console=quiet)
    assert log == ["cpu", NAME]
    assert (tmp_path / "command.txt").read_text().split()[-2:] == ["--device", "cpu"]


@pytest.mark.parametrize("wrong", ["gpu", "meta", "cuda:99", "", "cuda:-1", "mps"])
def test_devices_that_are_not_there_are_refused(run: Run, tmp_path: Path, wrong: str) -> None:
    with pytest.raises(InputError, match="device"):
        devices.named(wrong)
    status, _, err = run(
        "reproduce", "open-3", "--quick", "--device", wrong, "--out", tmp_path / "out"
    )
    assert status == 2 and len(err.strip().splitlines()) == 1 and "device" in err
    assert not (tmp_path / "out" / "cells").exists()


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_the_cpu_is_fastest() -> None:
    assert devices.fastest() == devices.named("auto") == devices.described("cpu") == "cpu"
    with pytest.raises(InputError, match="no GPUs"):
        devices.named("cuda")


# Repeating numbers.


def test_deterministic_algorithms_last_as_long_as_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    threads = torch.get_num_threads()
    with devices.arithmetic("cpu"):
        assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), devices.arithmetic(NAME) as where:
        assert where == torch.device(NAME) and devices.current() == NAME
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.get_num_threads() == 1
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()
    assert devices.current() == "cpu" and torch.get_num_threads() == threads


@pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")
@pytest.mark.parametrize("name", TRAINERS)
def test_a_gpu_repeats_its_numbers_and_is_near_the_cpu(name: str) -> None:
    trainer = TRAINERS[name]
    here = trainer()
    with devices.on("cuda"):
        there, again = trainer(), trainer()
    for block, value in here.items():
        np.testing.assert_array_equal(there[block], again[block])
        if name not in ("rounded", "posterior"):  # where a rounding can become a whole step
            np.testing.assert_allclose(value, there[block], rtol=1e-2, atol=1e-3)


@pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")
def test_models_on_a_gpu_are_certified_as_on_the_cpu() -> None:
    model = RecurrentClassifier(SAMPLE.input_dim, 4, SAMPLE.K)
    arguments: dict[str, Any] = {"lengths": SAMPLE.lengths, "bounds": "margin_ball"}
    here = recert.certify(model, SAMPLE.sequences, SAMPLE.labels, **arguments)
    there = recert.certify(model.cuda(), SAMPLE.sequences, SAMPLE.labels, **arguments)
    assert there.bounds[0].log10 == here.bounds[0].log10
