"""Level full: margins against mpmath and against the package, forged counts, changed data."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

import family
import recert
from recert import compression, data
from recert.certificates.schema import certificate_schema, seal
from recert.data import SequenceData
from recert.networks.forward import margins_of, network_predictor
from recert.networks.layers import group_average
from recert.networks.network import Block, Head, Network
from recert.pac_bayes import assign_roles, certify_posterior, part_digest
from recert.pac_bayes.posterior import around, save_posterior
from recert.samples.sample import Reading
from recert.training import Recipe
from recert.training.quantized import RoundedRecipe, train_rounded
from recert.verifier import structure, verify
from recert.verifier.forward import ForwardWalk, RecordedWeights

DELTA, T = 0.05, 6

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lengths": ({"cell": "vanilla", "tokens": True, "activation": "relu"}, {"lengths": True}),
    "a step": ({"cell": "gru", "tokens": True}, {"at": 3}),
    "a step, two ways": ({"cell": "mgu", "tokens": True, "two_way": True}, {"at": 3}),
    "final, two ways": (
        {"cell": "lstm", "tokens": True, "two_way": True, "layers": 2, "read": "final"},
        {"lengths": True},
    ),
    "final, a stack": ({"cell": "gru", "layers": 2, "read": "final"}, {"lengths": True}),
    "mean": ({"cell": "gru", "tokens": True, "read": "mean", "K": 2}, {"lengths": True}),
    "mean, two ways": ({"cell": "vanilla", "two_way": True, "read": "mean"}, {"lengths": True}),
    "cut": ({"cell": "vanilla", "tokens": True, "embedding": 3}, {"max_length": 4}),
    "original": ({"cell": "gru_original", "encoder": 3, "head_activation": "elu"}, {}),
    "projected": ({"cell": "lstm", "proj": 2, "two_way": True}, {"lengths": True}),
    "hidden": ({"cell": "vanilla", "hidden": 3, "head_activation": "leaky_relu"}, {}),
    "encoder on tokens": (
        {"cell": "mgu", "tokens": True, "encoder": 3, "head_activation": "sigmoid"}, {},
    ),
    "conv, groups": ({"cell": "conv", "embedding": 4, "tokens": True}, {"groups": True}),
    "conv averaged": ({"cell": "conv_averaged"}, {}),
    "averaged": ({"cell": "lstm", "tokens": True}, {"at": "average", "lengths": True}),
    "averaged, two ways, groups": (
        {"cell": "gru", "two_way": True},
        {"at": "average", "lengths": True, "groups": True},
    ),
    "enforced": ({"cell": "vanilla"}, {"input_bound": recert.Enforced(0.5)}),
}  # fmt: skip


def case_of(name: str, m: int = 60) -> tuple[Network, tuple[Any, ...], dict[str, Any]]:
    """A network, its data (sequences, labels, lengths, groups), and what else certify is told."""
    rng = np.random.default_rng(sum(map(ord, name)))
    kind, options = dict(KINDS[name][0]), dict(KINDS[name][1])
    net = family.random_network(rng, kind.pop("cell"), **{"K": 3, **kind})
    x: Any = rng.integers(0, 4, (m, T))
    if net.input_kind == "real":
        x = rng.standard_normal((m, T, 4)).astype(np.float32)
        options.setdefault("input_bound", 9.0)
    n = rng.integers(1, T + 1, m) if options.pop("lengths", False) else None
    groups = rng.integers(0, m // 3, m) if options.pop("groups", False) else None
    at = options.get("at", "last")
    full = np.full(m, T) if n is None else n
    y = network_predictor(net)(x.astype(float) if x.ndim == 3 else x, full, at).argmax(axis=-1)
    y = np.where(rng.random(y.shape) < 0.2, rng.integers(0, net.K, y.shape), y)
    if at == "average":
        y = np.where(np.arange(T) < full[:, None], y, -1)
    return net, (x, y, n, groups), {"max_length": T, **options}


def certified(net: Any, sample: tuple[Any, ...], options: dict[str, Any], **more: Any) -> Any:
    x, y, n, groups = sample
    return recert.certify(net, x, y, lengths=n, groups=groups, delta=DELTA, **options, **more)


def checked(certificate: Any, model: Any, sample: tuple[Any, ...], **more: Any) -> Any:
    x, y, n, groups = sample
    return verify(certificate, model, x, y, lengths=n, groups=groups, **more)


@pytest.mark.parametrize("name", KINDS)
def test_certificates_of_the_family_stand(name: str) -> None:
    net, sample, options = case_of(name)
    found = certified(net, sample, options)
    answer = checked(found, net, sample)
    assert answer and answer.level == "full", str(answer)
    measured = {c.row for c in answer.checks if c.how == "re-measured"}
    assert {"sample.digest", "sample.m", "sample.training_error", "sample.zero_one"} <= measured
    for bound in found.bounds:
        for term in ("hard_margin_risk", "ramp_risk"):
            assert (
                term not in bound.terms
                or bound.kind == "order"
                or (f"{bound.name}.terms.{term}" in measured)
            )


@pytest.mark.parametrize("name", KINDS)
def test_plain_loops_agree_with_the_package_within_their_own_errors(name: str) -> None:
    net, (x, y, n, _), options = case_of(name)
    walk = walk_of(net, options)
    lengths = np.full(len(x), T) if n is None else n
    cut = options["max_length"]
    x, lengths = x[:, :cut].astype(float if x.ndim == 3 else int), np.minimum(lengths, cut)
    labels = np.maximum(y[:, :cut] if y.ndim == 2 else y, 0)
    found = walk.margins(x, labels, lengths)
    at = options.get("at", "last")
    expected = margins_of(network_predictor(net)(x, lengths, at), labels)
    if at == "average":
        steps = [np.flatnonzero(lengths > t) for t in range(int(lengths.max()))]
        expected = np.concatenate([expected[rows, t] for t, rows in enumerate(steps)])
    assert (np.abs(found.M - expected) <= 2.0 * found.e + 1e-15).all()
    assert 0.0 < found.e.max() < 1e-9


def walk_of(net: Network, options: dict[str, Any]) -> ForwardWalk:
    rows = recert.certify(
        net, *dummy(net), max_length=T, bounds="margin_ball", input_bound=None
    ).to_json()["network"]
    arrays = {b.name: b.value for b in net.blocks()}
    pool = None if net.head.pool is None else net.head.pool.matrix
    at = options.get("at", "last")
    return ForwardWalk(structure.read(rows), RecordedWeights(arrays, pool), net.read, at)


def dummy(net: Network) -> tuple[np.ndarray, np.ndarray]:
    x = np.zeros((3, T), dtype=int) if net.input_kind == "onehot" else np.ones((3, T, net.d_x))
    return x, np.zeros(3, dtype=int)


def exact_margin(net: Network, x: np.ndarray, label: int) -> Any:
    """Margin of one real sequence by an LSTM or GRU of one layer, in mpmath."""
    (layer,) = net.layers
    B = {role: mpmath.matrix(block.value.tolist()) for role, block in layer.blocks.items()}  # type: ignore[union-attr]

    def pre(gate: str, v: Any, h: Any) -> Any:
        return B[f"W{gate}"] * v + B[f"U{gate}"] * h + B[f"b{gate}"]

    def each(f: Any, v: Any) -> Any:
        return mpmath.matrix([f(a) for a in v])

    def times(u: Any, v: Any) -> Any:
        return mpmath.matrix([a * b for a, b in zip(u, v, strict=True)])

    def sigmoid(a: Any) -> Any:
        return 1 / (1 + mpmath.exp(-a))

    d = layer.d_out
    h, c, one = mpmath.zeros(d, 1), mpmath.zeros(d, 1), mpmath.ones(d, 1)
    for row in x:
        v = mpmath.matrix([mpmath.mpf(float(a)) for a in row])
        if layer.cell == "lstm":  # type: ignore[union-attr]
            g, r, o = (each(sigmoid, pre(gate, v, h)) for gate in ("_g", "_r", "_o"))
            c = times(g, c) + times(r, each(mpmath.tanh, pre("_c", v, h)))
            h = times(o, each(mpmath.tanh, c))
        else:
            r, z = (each(sigmoid, pre(gate, v, h)) for gate in ("_r", "_z"))
            inner = B["U_n"] * h + B["b_hn"]
            new = each(mpmath.tanh, B["W_n"] * v + B["b_n"] + times(r, inner))
            h = times(one - z, new) + times(z, h)
    assert net.head.b is not None
    y = mpmath.matrix(net.head.V.value.tolist()) * h + mpmath.matrix(net.head.b.value.tolist())
    return y[label] - max(y[j] for j in range(net.K) if j != label)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_error_bounds_hold_against_mpmath(cell: str, scale: float) -> None:
    rng = np.random.default_rng(4)
    net = family.random_network(rng, cell, scale=scale)
    x, y = rng.standard_normal((6, 12, 4)), rng.integers(0, 3, 6)
    found = walk_of(net, {}).margins(x, y, np.full(6, 12))
    with mpmath.workdps(50):
        away = [abs(exact_margin(net, x[i], int(y[i])) - found.M[i]) for i in range(6)]
    assert all(a <= e for a, e in zip(away, found.e, strict=True))
    assert found.e.max() < 1e-7 and max(away) > 0.0


def test_a_pooled_head() -> None:
    rng = np.random.default_rng(1)
    net = family.random_network(rng, "vanilla", tokens=True)
    V = Block("V", rng.standard_normal((5, 4)), "spectral")
    net = Network(net.layers, Head(V, pool=group_average(5, 2)), "onehot")
    x, y = rng.integers(0, 4, (40, T)), rng.integers(0, 2, 40)
    sample = (x, y, None, None)
    answer = checked(certified(net, sample, {"max_length": T}), net, sample)
    assert answer, str(answer)


# Data that are not the certificate's.

NET, SAMPLE, OPTIONS = case_of("lengths", 80)
CERTIFICATE = certified(NET, SAMPLE, OPTIONS)


def changed(what: str) -> tuple[Any, ...]:
    x, y, n, groups = (None if a is None else a.copy() for a in SAMPLE)
    if what == "a label flipped":
        y[7] = (y[7] + 1) % 3
    elif what == "a sequence dropped":
        x, y, n = x[1:], y[1:], n[1:]
    elif what == "a letter changed":
        x[3, 0] = (x[3, 0] + 1) % 4
    elif what == "two exchanged":
        x[[0, 1]], y[[0, 1]], n[[0, 1]] = x[[1, 0]], y[[1, 0]], n[[1, 0]]
    elif what == "a length changed":
        n[5] = n[5] % T + 1
    elif what == "a sequence twice":
        x, y, n = (np.concatenate([a, a[-1:]]) for a in (x, y, n))
    elif what == "units joined":
        groups = np.arange(len(x)) // 2
    return x, y, n, groups


@pytest.mark.parametrize("what", [
    "a label flipped", "a sequence dropped", "a letter changed", "two exchanged",
    "a length changed", "a sequence twice", "units joined",
])  # fmt: skip
def test_other_data_do_not_verify(what: str) -> None:
    assert checked(CERTIFICATE, NET, SAMPLE)
    answer = checked(CERTIFICATE, NET, changed(what))
    assert not answer and answer.first_failure is not None


def test_padding_and_number_types_do_not_matter() -> None:
    x, y, n, _ = SAMPLE
    wide = np.where(np.arange(9) < n[:, None], np.pad(x, ((0, 0), (0, 3))), -1).astype(np.int16)
    assert checked(CERTIFICATE, NET, (wide, y.astype(np.int8), None, None))


@pytest.mark.parametrize("what", ["shape", "labels", "tokens", "lengths", "groups", "empty"])
def test_impossible_data_are_refused(what: str) -> None:
    x, y, n, groups = changed("nothing")
    x = x[:, :, None] if what == "shape" else x + 4 if what == "tokens" else x
    y, n = (y + 3 if what == "labels" else y), (n + 9 if what == "lengths" else n)
    groups = np.zeros(3) if what == "groups" else groups
    if what == "empty":
        x, y, n = x[:0], y[:0], n[:0]
    with pytest.raises(recert.errors.InputError):
        checked(CERTIFICATE, NET, (x, y, n, groups))
    with pytest.raises(recert.errors.InputError, match="pass"):
        verify(CERTIFICATE, None, x, y)


# Forgeries: consistent certificates of counts that the data do not bear out.


def resealed(plain: dict[str, Any]) -> dict[str, Any]:
    return plain | {"seal": seal(plain)}


def test_a_certificate_made_on_other_labels_is_caught_by_its_counts() -> None:
    """Everything is consistent: it was made honestly on labels that the network likes."""
    x, _, n, groups = SAMPLE
    liked = network_predictor(NET)(x, n, "last").argmax(axis=1)
    plain = certified(NET, (x, liked, n, groups), OPTIONS).to_json()
    plain["sample"]["digest"] = CERTIFICATE.sample["digest"]
    forged = resealed(plain)
    assert verify(forged, NET)
    answer = checked(forged, NET, SAMPLE)
    rows = {check.row for check in answer.failures()}
    assert "sample.digest" not in rows and "sample.training_error" in rows
    assert "margin_ball.terms.hard_margin_risk" in rows
    ball = CERTIFICATE["local_ball"]
    assert ball.kind == "certificate"
    assert any(row.startswith("local_ball.terms") for row in rows)


def test_every_empirical_number_is_counted_again() -> None:
    """Lowered by one unit, alone, each is named at level full."""
    one = 1.0 / CERTIFICATE.sample["m"]
    plain = CERTIFICATE.to_json()
    for i, bound in enumerate(plain["bounds"]):
        for term in ("hard_margin_risk", "ramp_risk", "posterior_risk"):
            if bound["kind"] not in ("certificate",) or bound["terms"].get(term, 0.0) < one:
                continue
            other = copy.deepcopy(plain)
            other["bounds"][i]["terms"][term] -= one
            rows = {c.row for c in checked(resealed(other), NET, SAMPLE).failures()}
            assert any(row.startswith(f"{bound['name']}.terms.") for row in rows)
    other = copy.deepcopy(plain)
    other["sample"]["training_error"] -= one
    assert not checked(resealed(other), NET, SAMPLE)
    other = copy.deepcopy(plain)
    row = next(a for a in other["assumptions"] if a["id"] == "iid")
    row["facts"]["distinct"] -= 1
    again = recert.Certificate.from_json(resealed(other)).to_json()
    other |= {key: again[key] for key in ("statement", "assumptions")}
    assert "assumptions.iid.facts.distinct" in {
        c.row for c in checked(resealed(other), NET, SAMPLE).failures()
    }


def test_held_out_units() -> None:
    x, y, n, _ = SAMPLE
    held = (x[:30], y[:30], n[:30])
    rest = (x[30:], y[30:], n[30:], None)
    found = certified(NET, rest, OPTIONS, holdout=held)
    assert checked(found, NET, rest, holdout=held)
    assert not checked(found, NET, rest)  # the limit was not measured
    for other in ((x[1:31], y[1:31], n[1:31]), (x[:30], (y[:30] + 1) % 3, n[:30])):
        rows = {c.row for c in checked(found, NET, rest, holdout=other).failures()}
        assert rows & {"sample.holdout.error", "assumptions.holdout.facts.shared"}
    assert not checked(CERTIFICATE, NET, SAMPLE, holdout=held)


def test_progress_counts_every_sequence() -> None:
    net, (x, y, n, groups), options = case_of("lengths")
    holdout = (x[:30], y[:30], n[:30])
    found = certified(net, (x[30:], y[30:], n[30:], None), options, holdout=holdout)
    done: list[int] = []
    rest = (x[30:], y[30:], n[30:], None)
    assert checked(found, net, rest, holdout=holdout, progress=done.append).level == "full"
    assert groups is None and sum(done) == 60


def test_inputs_beyond_their_bound() -> None:
    net, sample, options = case_of("conv averaged")
    plain = certified(net, sample, options).to_json()
    assert checked(plain, net, sample)
    longer = (sample[0] * 50, *sample[1:])
    rows = {c.row for c in checked(plain, net, longer).failures()}
    assert "sample.input_bound" in rows


# Files and posteriors.


def small() -> SequenceData:
    return data.load("synthetic", m=200, seed=3)


def test_a_file(tmp_path: Path) -> None:
    sample = small()
    how = RoundedRecipe(Recipe(d_h=4, epochs=3, batch=100, learning_rate=0.05))
    compression.save_program(train_rounded(sample, how), tmp_path / "p.rcz")
    path = tmp_path / "p.rcz"
    four = (sample.sequences, sample.labels, sample.lengths, None)
    found = certified(path, four, {"max_length": sample.max_length})
    assert found["occam"].kind == "certificate"
    assert checked(found, path, four)
    plain = found.to_json()
    i = next(i for i, b in enumerate(plain["bounds"]) if b["name"] == "occam")
    less = plain["sample"]["training_error"] - 1 / sample.m
    plain["bounds"][i]["terms"]["error"] = plain["sample"]["training_error"] = less
    rows = {c.row for c in checked(resealed(plain), path, four).failures()}
    assert {"sample.training_error", "occam.terms.error"} <= rows


def test_a_posterior_is_drawn_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x, y, n = rng.integers(3, size=(300, 12)), rng.integers(3, size=300), np.full(300, 12)
    net = family.random_network(rng, "gru", d_x=3, tokens=True)
    reading = Reading("onehot", 3, 3, "last")
    seen = assign_roles(x, y, reading, m_0=100, digest=None, lengths=n).seen
    posterior = around(net, 100, part_digest(seen), 0.05, temperature=0.2)
    save_posterior(posterior, tmp_path / "q")
    found = certify_posterior(tmp_path / "q", x, y, lengths=n, max_length=12)
    four = (x, y, n, None)
    answer = checked(found, tmp_path / "q", four)
    assert answer, str(answer)
    assert "repeated" in {c.how for c in answer.checks}
    other = (x, np.where(np.arange(300) == 250, (y + 1) % 3, y), n, None)
    assert not checked(found, tmp_path / "q", other)
    plain = found.to_json()
    for bound in plain["bounds"]:
        if "gibbs_error_drawn" in bound["terms"]:
            bound["terms"]["gibbs_error_drawn"] -= 0.01
    rows = {c.row for c in checked(resealed(plain), tmp_path / "q", four).failures()}
    assert any(row.endswith("gibbs_error_drawn") for row in rows)


# The page that describes the file.


def fields(node: Any, found: set[str]) -> set[str]:
    """Every property of a JSON Schema."""
    for name, inner in node.get("properties", {}).items():
        found.add(name)
        fields(inner, found)
    for inner in [*node.get("anyOf", []), node.get("items", {}), *node.get("$defs", {}).values()]:
        if inner and isinstance(inner, dict):
            fields(inner, found)
    return found


def test_the_page_describes_every_field() -> None:
    page = (Path(__file__).parents[1] / "docs" / "certificate.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`\"?(\w+)\"?`", page))
    assert fields(certificate_schema(), set()) <= named
