"""From a file of one's own to a certificate: train, certify, verify, compress, pacbayes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import recert
from recert import data
from recert.cli.entry import app
from recert.errors import InputError
from recert.workflows import networks, split

pytest.importorskip("torch")
RUN = CliRunner()


def table(path: Path, m: int, seed: int, roles: str = "") -> Path:
    """Series of 4 to 6 steps, sorted by class as files often are: whether a step falls or rises."""
    rng = np.random.default_rng(seed)
    head = "id,step,a,b,label" + (",role" if roles else "")
    lines = [head]
    for i in range(m):
        up = i >= m // 2
        for t in range(int(rng.integers(4, 7))):
            a, b = 0.3 * rng.normal() + (0.2 if up else -0.2) * t, rng.normal()
            role = f",{'test' if i % 3 == 0 else 'train'}" if roles else ""
            lines.append(f"{i},{t},{a:.4f},{b:.4f},{'up' if up else 'down'}{role}")
    path.write_text("\n".join(lines) + "\n")
    return path


def call(*arguments: Any, status: int = 0) -> str:
    found = RUN.invoke(app, [str(a) for a in arguments])
    assert found.exit_code == status, (found.output, found.exception)
    return found.output


def trained(folder: Path, data_path: Path, *more: Any) -> Path:
    out = folder / "net"
    call("train", data_path, "--cell", "gru", "--hidden", 4, "--epochs", 3, "--out", out, *more)
    return out


def certificate(folder: Path, model: Path, data_path: Path, *more: Any) -> Any:
    call("certify", model, "--data", data_path, "--out", folder / "c", "--bounds",
         "held_out,margin_ball", *more)  # fmt: skip
    return recert.load_certificate(folder / "c" / "certificate.json")


def kind(found: Any, name: str) -> str:
    return next(bound.kind for bound in found.bounds if bound.name == name)


def test_a_csv_file_is_trained_on_certified_and_verified(tmp_path: Path) -> None:
    path = table(tmp_path / "my.csv", 60, 0)
    net = trained(tmp_path, path, "--holdout", 20)
    found = certificate(tmp_path, net, path)
    assert found.sample["m"] == 40 and kind(found, "held_out") == "certificate"
    # T was read off the data, which no statement that needs it takes for declared.
    assert found.assumption("horizon").status == "estimated"
    assert "level full" in call("verify", tmp_path / "c/certificate.json", "--model", net,
                                "--data", path)  # fmt: skip
    other = table(tmp_path / "other.csv", 60, 1)
    other.replace(path)
    with pytest.raises(InputError, match="is not what the network was trained on"):
        networks.roles_of(net, str(path))


def test_a_declared_length_is_a_hypothesis_that_is_met(tmp_path: Path) -> None:
    path = table(tmp_path / "my.csv", 60, 0)
    net = trained(
        tmp_path, path, "-o", "max_length=5", "-o", "input_bound=9", "-o", "classes=up,down"
    )
    found = certificate(tmp_path, net, path)
    assert found.assumption("horizon").status == "enforced"
    assert kind(found, "margin_ball") == "certificate"


def test_a_second_file_is_held_out(tmp_path: Path) -> None:
    path, held = table(tmp_path / "my.csv", 40, 0), table(tmp_path / "test.csv", 30, 1)
    net = trained(tmp_path, path, "--holdout-data", held)
    found = certificate(tmp_path, net, path)
    row = found.assumption("holdout")
    assert row.status == "declared" and "by the data's own roles before training" in row.evidence
    assert found.sample["m"] == 40
    # Another second file is what the user says it is.
    third = table(tmp_path / "third.csv", 30, 2)
    again = certificate(tmp_path, net, path, "--holdout-data", third)
    assert again.assumption("holdout").status == "declared"
    assert "before training" not in again.assumption("holdout").evidence
    same = certificate(tmp_path, net, path, "--holdout-data", path)
    assert same.assumption("holdout").status == "violated"


def test_a_second_file_beside_units_that_were_drawn(tmp_path: Path) -> None:
    path, held = table(tmp_path / "my.csv", 40, 0), table(tmp_path / "test.csv", 30, 1)
    net = trained(tmp_path, path, "--holdout", 10)
    divided = networks.roles_of(net, str(path), {"holdout": str(held)})
    assert (divided.sample.m, divided.held and divided.held.m) == (30, 30)
    assert divided.sample.digest == networks.meta_of(net)["digest"]


def test_roles_of_a_column_go_with_the_network(tmp_path: Path) -> None:
    path = table(tmp_path / "my.csv", 60, 0, roles="yes")
    net = trained(tmp_path, path)
    divided = networks.roles_of(net, str(path))
    assert divided.held is not None and (divided.sample.m, divided.held.m) == (40, 20)
    assert divided.role == "certificate" and "before training" in divided.why
    with pytest.raises(InputError, match="itself says which units are held out"):
        networks.train_and_save(
            str(path), tmp_path / "n", options={}, caps=None, free=True, units=None, seed=0,
            changes={"epochs": 1}, holdout=5, progress=False,
        )  # fmt: skip


def test_units_that_were_trained_on_are_not_held_out_afterwards(tmp_path: Path) -> None:
    path = table(tmp_path / "my.csv", 60, 0)
    net = trained(tmp_path, path)
    table(path, 60, 0, roles="yes")
    divided = networks.roles_of(net, str(path))
    assert divided.role == "checking" and "trained on other units of these data" in divided.why
    assert networks.roles_of(net, str(path), asked="certificate").role == "certificate"


def test_a_network_whose_roles_are_gone_is_told_so(tmp_path: Path) -> None:
    path, held = table(tmp_path / "my.csv", 40, 0), table(tmp_path / "test.csv", 30, 1)
    loaded = data.load(str(path), holdout=str(held))
    roles = split.for_training(loaded, units=None, usual=None, holdout=0, seed=0)
    meta = split.recorded(roles, 0)
    assert meta["holdout"]["seed"] is None
    with pytest.raises(InputError, match="give the same again"):
        split.for_certifying(data.load(str(path)), meta, units=None)


def test_the_first_units_of_a_sorted_file_are_a_sample_of_it(tmp_path: Path) -> None:
    path = table(tmp_path / "my.csv", 200, 0)
    plain, shuffled = data.load(str(path)), data.load(str(path), seed=3)
    assert plain.labels[:60].sum() == 0 and 15 < shuffled.labels[:60].sum() < 45
    held = table(tmp_path / "test.csv", 30, 1)
    with_file = data.load(str(path), seed=3, holdout=str(held)).by_role()
    assert with_file[0].digest == shuffled.digest
    assert data.load(str(path), seed=4).digest != shuffled.digest


def test_a_network_from_elsewhere_says_how_many_classes_and_tokens_there_are(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    net = recert.vanilla(
        0.2 * rng.normal(size=(3, 3)), rng.normal(size=(3, 7)), rng.normal(size=(4, 3))
    )
    recert.save_network(net, tmp_path / "net")
    path = tmp_path / "my.jsonl"
    path.write_text('{"tokens": [1, 2, 3], "y": 0}\n{"tokens": [1, 4], "y": 1}\n' * 3)
    found = networks.roles_of(tmp_path / "net", str(path), network=net).sample
    assert (found.K, found.input_dim, found.encoding) == (4, 7, "fixed")
    assert data.load(str(path)).encoding == "learnt"
    path.write_text('{"tokens": [1, 2, 3], "y": 1}\n{"tokens": [1, 4], "y": 4}\n')
    with pytest.raises(InputError, match="line 2: label 4 is none of"):
        networks.roles_of(tmp_path / "net", str(path), network=net)


def test_what_is_read_is_described_and_remembered(tmp_path: Path) -> None:
    path = table(tmp_path / "my.csv", 40, 0)
    said = call("data", path, "-o", "max_length=5", "--remember")
    for part in (
        "40 sequences",
        "4 to 5",
        "2 numbers a step",
        "down (20), up (20)",
        "read off  classes",
    ):
        assert part in said
    assert data.load(str(path)).max_length == 5


@pytest.mark.parametrize(
    "arguments",
    [
        ("certify", "net", "--data", "none.csv"),
        ("train", "german-nouns", "--holdout-data", "none.csv"),
        ("data", "none.npz"),
        ("data", "german-nouns", "-o", "seed=1"),
    ],
)
def test_one_line_for_what_is_not_there(arguments: tuple[str, ...]) -> None:
    found = RUN.invoke(app, list(arguments))
    assert found.exit_code != 0 and isinstance(found.exception, recert.errors.RecertError)
    assert "\n" not in str(found.exception)


def test_own_data_as_a_short_file(tmp_path: Path) -> None:
    path = table(tmp_path / "my.csv", 60, 0)
    call("compress", "--data", path, "--hidden", 2, "--epochs", 1, "--prices", "3",
         "--out", tmp_path / "short")  # fmt: skip
    found = recert.load_certificate(tmp_path / "short" / "certificate.json")
    assert kind(found, "occam") == "certificate" and found.sample["m"] == 60


@pytest.mark.slow
def test_a_posterior_on_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "my.csv", 120, 0)
    call("pacbayes", path, "--cell", "gru", "--hidden", 2, "--epochs", 1, "--out", tmp_path / "p")
    found = recert.load_certificate(tmp_path / "p" / "certificate.json")
    assert found.best.kind == "certificate"
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    path.rename(moved / "my.csv")
    assert "level full" in call("verify", tmp_path / "p/certificate.json", "--model",
                                tmp_path / "p", "--data", moved / "my.csv")  # fmt: skip
