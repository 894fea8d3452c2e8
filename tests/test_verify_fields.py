"""Every field of a certificate, from the schema: changed and sealed anew, it is caught or exempt.

A field that is added to the schema and that nothing checks fails here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import family
import recert
from recert import compression
from recert.certificates.schema import certificate_schema, seal
from recert.errors import RecertError
from recert.networks.layers import Bidirectional, layer_of
from recert.networks.network import Block, Head, Network
from recert.pac_bayes import assign_roles, certify_posterior, part_digest
from recert.pac_bayes.posterior import around
from recert.samples.sample import Reading
from recert.verifier import verify

EXEMPT = {
    "recert": "the version that wrote it",
    "created": "when it was written",
    "seal": "made anew by every change here; tests/test_verify.py",
    "network.gates": "monitoring; no bound rests on it",
    "network.gates.layer": "monitoring",
    "network.gates.direction": "monitoring",
    "network.gates.gate": "monitoring",
    "network.gates.bound": "monitoring",
    "network.gates.measured": "monitoring",
    "bounds": "a printed formula may be left out",
    "network": "so may what is exempt in it",
    "finite_list": "a reading may be left out",
}  # fmt: skip
# Here δ may change, and all is true: the shares of estimates are not counted.
SOMEWHERE = {"delta"}
# Fields that the samples below do not have, and what has them.
ELSEWHERE = {
    "network.encoder", "network.head_hidden", "network.pooled", "network.head_filters",
    "network.read", "network.pool_norm", "network.layers.filters", "network.blocks.positions",
    "network.encoder.d_in", "network.encoder.d_out", "network.encoder.bias",
    "network.encoder.activation", "network.head_hidden.d_in", "network.head_hidden.d_out",
    "network.head_hidden.bias", "network.head_hidden.activation", "network.blocks.norms.operator",
}  # fmt: skip


@cache
def samples() -> dict[str, tuple[dict[str, Any], Any, tuple[Any, ...], Any]]:
    """Certificates with, together, nearly every field: JSON, model, data, held-out data."""
    rng = np.random.default_rng(5)
    x, y, n = rng.integers(0, 4, (90, 5)), rng.integers(0, 3, 90), rng.integers(2, 6, 90)
    held = (x[:20], y[:20], n[:20])
    four = (x[20:], y[20:], n[20:], np.arange(70) // 2)
    found: dict[str, Any] = {}
    U, P = rng.normal(size=(3, 2)) * 0.3, rng.normal(size=(2, 3)) * 0.4
    values = {f"U{g}": U for g in ("_g", "_r", "_o", "_c")} | {"P": P}
    values |= {f"W{g}": rng.normal(size=(3, 4)) * [1, 1, 1, 0] for g in ("_g", "_r", "_o", "_c")}
    one, two = (
        layer_of("lstm", values, suffix=s, reads_tokens=True, zero_columns=(3,)) for s in ("", "_b")
    )
    head = Head(Block("V", rng.normal(size=(3, 4)), "spectral"), Block("b_V", rng.normal(size=3),
                "euclidean"))  # fmt: skip
    net = Network((Bidirectional(one, two),), head, "onehot")
    x3 = x % 3
    found["two ways, groups"] = (
        recert.certify(
            net, x3[20:], y[20:], lengths=n[20:], groups=four[3], max_length=5, tried=3,
            holdout=(x3[:20], y[:20], n[:20], np.arange(20)), population=200, encoding=4,
            bounds=("margin_ball", "theorem_3_l1_cover", "held_out"),
        ).to_json(),
        net, (x3[20:], y[20:], n[20:], four[3]), (x3[:20], y[:20], n[:20], np.arange(20)),
    )  # fmt: skip
    small = family.random_network(rng, "vanilla", tokens=True, embedding=2, scale=0.4)
    found["a list"] = (
        recert.certify(small, x[20:], y[20:], lengths=n[20:], max_length=5, population=100,
                       holdout=held, caps={b.name: 9.0 for b in small.blocks()}).to_json(),
        small, (*four[:3], None), held,
    )  # fmt: skip
    reading = Reading("onehot", 4, 3, "last")
    seen = assign_roles(x, y, reading, m_0=30, digest=None, lengths=n).seen
    gru = family.random_network(rng, "gru", tokens=True, scale=0.3)
    posterior = around(gru, 30, part_digest(seen), 0.05, temperature=0.2)
    found["a posterior"] = (
        certify_posterior(posterior, x, y, lengths=n, max_length=5).to_json(),
        posterior, (x, y, n, None), None,
    )  # fmt: skip
    real, classes = rng.normal(size=(60, 5, 3)), rng.integers(0, 3, 60)

    def rule(x: Any) -> Any:
        return x[:, -1]

    found["a black box"] = (
        recert.certify(rule, holdout=(real, classes)).to_json(),
        rule, (None, None, None, None), (real, classes),
    )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    net = family.random_network(rng, "vanilla", tokens=True, scale=0.5)
    best = compression.compress(net, lambda _: 0.3, m=60, delta=0.01, evaluations=10).best.program
    path: Path = tmp_path_factory.mktemp("p") / "p.rcz"
    compression.save_program(best, path)
    x, y = rng.integers(0, 4, (60, 5)), rng.integers(0, 3, 60)
    plain = recert.certify(path, x, y, max_length=5, bounds=("occam",)).to_json()
    return plain, path, (x, y, None, None), None


def properties(node: dict[str, Any], defs: dict[str, Any], path: str = "") -> Iterator[str]:
    """Qualified names of all properties of the schema."""
    if "$ref" in node:
        node = defs[node["$ref"].rpartition("/")[2]]
    for name, inner in node.get("properties", {}).items():
        if inner is True:  # what one kind of certificate must have, described elsewhere
            continue
        two_way = name in ("forward", "backward") and path == "network.layers"
        here = path if two_way else f"{path}.{name}" if path else name
        yield here
        yield from properties(inner, defs, here)
    branches = (node.get("then"), node.get("else"))
    for inner in (node.get("items"), *branches, *node.get("anyOf", ()), *node.get("oneOf", ())):
        if isinstance(inner, dict):
            yield from properties(inner, defs, path)


def places(value: Any, name: str = "", at: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Qualified name and path of every value; the directions of a layer are that layer."""
    if name:
        yield name, at
    if isinstance(value, dict):
        for key, inner in value.items():
            skip = key in ("forward", "backward") and name == "network.layers"
            yield from places(inner, name if skip else f"{name}.{key}" if name else key, (*at, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from places(inner, name, (*at, i))


def changes(value: Any) -> Iterator[Any]:
    """Other values of its kind, those first that claim more."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, max(0, value - 1))
    elif isinstance(value, float):
        yield from (value * 0.99 - 1e-3 * (value == 0), value * 1.01 + 1e-3)
    elif isinstance(value, str):
        yield from ("0" * 64 if len(value) == 64 else f"{value}x",)
    elif value is None:
        yield from (0.5, 7, "certificate")
    elif isinstance(value, list) and value:
        yield value[:-1]
    elif isinstance(value, dict) and value:
        yield {key: value[key] for key in list(value)[:-1]}


def put(data: dict[str, Any], at: tuple[Any, ...], new: Any) -> dict[str, Any]:
    changed = copy.deepcopy(data)
    inner: Any = changed
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return changed | {"seal": seal(changed)}


LEVELS = ("arithmetic", "model", "full")


def documented() -> dict[str, str]:
    """Field → the level at which docs/certificate.md says that it is checked, the last it names."""
    page = (Path(__file__).parents[1] / "docs" / "certificate.md").read_text(encoding="utf-8")
    found = dict.fromkeys(("sample", "assumptions", "finite_list"), "arithmetic")
    for section in page.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        prefix = f"{title}." if title in ("network", "sample", "assumptions", "bounds") else ""
        if not prefix and title != "The whole":
            continue
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            levels = [level for level in LEVELS if cells and level in cells[-1]]
            if len(cells) < 3 or not levels:
                continue
            for name in re.findall(r"`(\w+)`", cells[0]):
                where = "network.blocks.norms" if "of a block" in cells[0] else f"{prefix}{name}"
                found.setdefault(where, levels[-1])
    return found


def level_of(name: str, levels: dict[str, str]) -> str:
    """The level of a field, or of what it is a part of."""
    while name not in levels:
        name, _, last = name.rpartition(".")
        assert last, name
    return levels[name]


def refused(case: tuple[Any, ...], data: dict[str, Any], level: str) -> bool:
    """Whether a certificate does not stand at this level."""
    _, model, (x, y, n, groups), held = case
    passed = {"arithmetic": (), "model": (model,), "full": (model, x, y)}[level]
    more = {"lengths": n, "groups": groups, "holdout": held} if level == "full" else {}
    try:
        return not verify(data, *passed, **more)
    except RecertError:
        return True


def loose(case: tuple[Any, ...], wanted: str, level: str) -> list[Any] | None:
    """Places of a field where no change is refused at this level; None where it has no place."""
    spots = [at for name, at in places(case[0]) if name == wanted]
    spots.sort(key=lambda at: not _claimed(case[0], at))
    found, tried = [], False
    for at in spots[:3]:
        value: Any = case[0]
        for key in at:
            value = value[key]
        new = list(changes(value))
        tried |= bool(new)
        if new and not any(refused(case, put(case[0], at, x), level) for x in new):
            found.append((at, value))
    return found if tried else None


def _claimed(data: dict[str, Any], at: tuple[Any, ...]) -> bool:
    return at[0] != "bounds" or len(at) < 2 or data["bounds"][at[1]]["kind"] == "certificate"


def test_samples_stand(program: tuple[Any, ...]) -> None:
    for name, case in {**samples(), "program": program}.items():
        data, model, (x, y, n, groups), held = case
        found = verify(data, model, x, y, lengths=n, groups=groups, holdout=held)
        assert found and found.level == "full", (name, str(found))


def test_every_field_of_the_schema_is_checked_where_the_page_says(program: tuple[Any, ...]) -> None:
    schema, levels = certificate_schema(), documented()
    wanted = set(properties(schema, schema["$defs"])) - set(EXEMPT) - ELSEWHERE
    missing, unchecked = [], []
    for name in sorted(wanted):
        cases = (*samples().values(), program)
        answers = [loose(case, name, level_of(name, levels)) for case in cases]
        found = [spot for answer in answers for spot in answer or ()]
        if name in SOMEWHERE and [] in answers:
            found = []
        missing += [name] if all(answer is None for answer in answers) else []
        unchecked += [(name, found)] if found else []
    assert not unchecked and not missing, {"unchecked": unchecked, "in no sample": missing}
