"""Weights drawn for every sequence, the roles of data, posteriors on disk, the certificate."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import family
import recert
from recert.certificates.certificate import Certificate
from recert.compression.program import with_values
from recert.data import SequenceData, SyntheticLanguage
from recert.errors import FileError, InputError
from recert.networks.forward import (
    NumbersAlgebra,
    SampledAlgebra,
    margins_of,
    network_predictor,
    sorted_logits,
)
from recert.networks.network import Block, Network
from recert.pac_bayes import (
    assign_roles,
    certify_posterior,
    draw_weights,
    drift,
    fixed_losses,
    gibbs_losses,
    part_digest,
    read,
    tally,
    unit_losses,
)
from recert.pac_bayes import sampling as draws_module
from recert.pac_bayes.posterior import Posterior, Prior, around, load_posterior, save_posterior
from recert.samples.sample import Batch, Reading

DIGEST = "0" * 64
LANGUAGE = SyntheticLanguage(letters=3, max_length=6, min_length=2, rule="majority", noise=0.2)

KINDS: list[dict[str, object]] = [
    {"cell": cell, "tokens": tokens, "two_way": two_way, "bias": True}
    for cell, tokens, two_way in itertools.product(family.CELLS, (False, True), (False, True))
    if cell in family.SIMPLE or not tokens
] + [
    {"cell": "conv", "tokens": True, "embedding": 4, "read": "mean"},
    {"cell": "conv_averaged", "tokens": True, "embedding": 4},
    {"cell": "lstm", "proj": 2, "layers": 2, "two_way": True, "read": "final"},
    {"cell": "gru", "tokens": True, "embedding": 3, "encoder": 3, "hidden": 3, "layers": 2},
    {"cell": "mgu", "tokens": True, "encoder": 5, "read": "mean", "head_activation": "elu"},
    {"cell": "vanilla", "activation": "relu", "bias": False, "hidden": 4, "read": "final"},
    {"cell": "gru_original", "tokens": True, "two_way": True, "read": "final", "bias": False},
]


def name_of(kind: dict[str, object]) -> str:
    return ", ".join(str(value) for value in kind.values())


def made(kind: dict[str, object], seed: int = 0, d_x: int = 4) -> Network:
    rng = np.random.default_rng(seed)
    options = {key: value for key, value in kind.items() if key != "cell"}
    return family.random_network(rng, str(kind["cell"]), d_x=d_x, **options)


def inputs(net: Network, n: int, T: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of falling lengths."""
    rng = np.random.default_rng(seed)
    lengths = np.sort(rng.integers(1, T + 1, size=n))[::-1].copy()
    lengths[0] = T
    if net.input_kind == "onehot":
        x = rng.integers(net.d_x, size=(n, T))
        x[np.arange(T)[None, :] >= lengths[:, None]] = 0
        return x, lengths
    x = rng.standard_normal((n, T, net.d_x))
    x[np.arange(T)[None, :] >= lengths[:, None]] = 0.0
    return x, lengths


def ats(net: Network) -> tuple[object, ...]:
    return ("last", "average") if net.read == "step" else ("last",)


# The algebra.


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_rows_with_equal_weights_are_the_reading_on_numbers(kind: dict[str, object]) -> None:
    net = made(kind)
    x, lengths = inputs(net, 7, 5)
    tiled = {
        b.name: np.repeat((b.value.T if b.norm == "column" else b.value)[None], 7, axis=0)
        for b in net.blocks()
    }
    for at in ats(net):
        one = sorted_logits(NumbersAlgebra(net), net, x, lengths, at)
        own = sorted_logits(SampledAlgebra(tiled), net, x, lengths, at)
        assert own.dtype == np.float64
        np.testing.assert_allclose(own, one, rtol=1e-11, atol=1e-12)


def row_network(posterior: Posterior, weights: dict, slots: object, x: object, i: int) -> Network:
    """The network of row i, its matrices put together from what was drawn."""
    values = {}
    for block in posterior.mean.blocks():
        value = weights[block.name][i].astype(np.float64)
        if block.norm == "column":
            matrix = np.full(block.shape, 7.7)  # what was not drawn is never read
            columns = range(block.shape[1]) if slots is x else x[i]
            matrix[:, list(columns)] = value.T
            for t, slot in enumerate([] if slots is x else slots[i]):
                matrix[:, x[i, t]] = value[slot]
            value = matrix
        values[block.name] = value
    return with_values(posterior.mean, values)


def random_posterior(net: Network, seed: int, size: float = 0.3) -> Posterior:
    rng = np.random.default_rng(seed)
    scales = {
        b.name: math.log(size) + (0.5 * rng.standard_normal(b.shape) if i % 2 else 0.0)
        for i, b in enumerate(net.blocks())
    }
    return Posterior(net, scales, Prior(net, 3, DIGEST, 0.1))


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_rows_are_networks_of_their_own(kind: dict[str, object]) -> None:
    net = made(kind)
    posterior = random_posterior(net, 1)
    for T in (3, 9):  # fewer steps than tokens, and more
        x, lengths = inputs(net, 6, T)
        tokens = x if net.input_kind == "onehot" else None
        rng = np.random.default_rng(5)
        weights, slots = draw_weights(posterior, tokens, 6, rng)
        feed = x if slots is None else slots
        for at in ats(net):
            found = sorted_logits(SampledAlgebra(weights), net, feed, lengths, at)
            assert found.shape[0] == 6
            for i in range(6):
                own = row_network(posterior, weights, slots, x, i)
                n = int(lengths[i])
                y = network_predictor(own)(x[i : i + 1], lengths[i : i + 1], at)[0]
                np.testing.assert_allclose(
                    found[i, :n] if at == "average" else found[i],
                    y[:n] if at == "average" else y,
                    rtol=2e-4, atol=2e-4,
                )  # fmt: skip


def test_a_token_that_comes_again_is_read_with_the_same_column() -> None:
    net = made({"cell": "gru", "tokens": True}, d_x=9)
    tokens = np.array([[3, 5, 3, 3, 5], [1, 2, 4, 6, 8]])
    weights, slots = draw_weights(random_posterior(net, 2), tokens, 2, np.random.default_rng(0))
    assert slots.tolist() == [[0, 1, 0, 0, 1], [0, 1, 2, 3, 4]]
    assert weights["W_n"].shape == (2, 5, 4)


def test_draws_have_the_means_and_scales_of_the_posterior() -> None:
    E = np.random.default_rng(0).standard_normal((3, 5))
    E[:, 1] = 0.0
    inner = made({"cell": "gru", "bias": True}, d_x=3)
    net = Network(inner.layers, inner.head, "onehot", Block("E", E, "column", (1,)))
    posterior = random_posterior(net, 3)
    tokens = np.tile(np.arange(5), (20_000, 1))
    weights, _ = draw_weights(posterior, tokens, 20_000, np.random.default_rng(1))
    for block in net.blocks():
        w, s = posterior.drawn[block.name]
        found = weights[block.name].astype(np.float64)
        if block.norm == "column":
            w, s = w.T, s.T
        assert np.abs(found.mean(axis=0) - w).max() < 6 * s.max() / math.sqrt(20_000)
        assert np.abs(found.std(axis=0) - s).max() < 6 * s.max() / math.sqrt(40_000)
        flat = found.reshape(20_000, -1)
        if flat.shape[1] > 1 and flat.std(axis=0).min() > 0:
            other = np.corrcoef(flat[:, 0], flat[:, -1])[0, 1]
            assert abs(other) < 6 / math.sqrt(20_000)
    assert not weights["E"][:, 1].any()  # a column that is always zero stays so


# Losses.


def language_batch(m: int = 300, seed: int = 1) -> Batch:
    data = LANGUAGE.sample(m, seed)
    return Batch(np.maximum(data.sequences, 0).astype(np.int64), data.labels, data.lengths)


@pytest.mark.parametrize("cell", family.SIMPLE)
def test_without_noise_losses_are_those_of_the_network(cell: str) -> None:
    net = made({"cell": cell, "tokens": True, "two_way": True, "bias": True}, d_x=3)
    batch = language_batch()
    still = around(net, 1, DIGEST, 1e-15)
    losses = gibbs_losses(still, batch, "last", repetitions=2, seed=0)
    margins = margins_of(network_predictor(net)(batch.x, batch.lengths, "last"), batch.labels)
    assert np.array_equal(losses, np.tile(margins <= 0.0, (2, 1)))
    at_two = gibbs_losses(still, batch, 2, repetitions=1, seed=0)[0]
    early = margins_of(network_predictor(net)(batch.x, batch.lengths, 2), batch.labels)
    assert np.array_equal(at_two, early <= 0.0)


def test_losses_averaged_over_steps() -> None:
    net = made({"cell": "mgu", "tokens": True}, d_x=3)
    one = language_batch(50)
    labels = np.tile(one.labels[:, None], (1, one.x.shape[1]))
    batch = Batch(one.x, labels, one.lengths)
    losses = gibbs_losses(around(net, 1, DIGEST, 1e-15), batch, "average", repetitions=1, seed=0)
    margins = margins_of(network_predictor(net)(batch.x, batch.lengths, "average"), labels)
    valid = np.arange(6)[None, :] < batch.lengths[:, None]
    wrong = ((margins <= 0) & valid).sum(axis=1) / batch.lengths
    np.testing.assert_allclose(losses[0], wrong, atol=1e-12)
    part, _ = read(one.x, labels, Reading("onehot", 3, 3, "average"), lengths=one.lengths)
    np.testing.assert_allclose(fixed_losses(net, part, "average"), wrong, atol=1e-12)


def test_draws_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = random_posterior(made({"cell": "gru", "tokens": True}, d_x=3), 4)
    batch, done = language_batch(), []
    monkeypatch.setattr(draws_module, "MOST_ROWS", 64)
    one = gibbs_losses(posterior, batch, "last", repetitions=3, seed=7, progress=done.append)
    assert sum(done) == 3 * 300 and one.shape == (3, 300)
    monkeypatch.setattr(draws_module.os, "cpu_count", lambda: 1)
    assert np.array_equal(one, gibbs_losses(posterior, batch, "last", repetitions=3, seed=7))
    other = gibbs_losses(posterior, batch, "last", repetitions=3, seed=8)
    apart = gibbs_losses(posterior, batch, "last", repetitions=3, seed=7, stream="holdout")
    for found in (other, apart, one[[1, 0, 2]]):
        assert 0.02 < (found != one).mean() < 0.7
    # Every pair has weights of its own: equal sequences err apart.
    zeros = np.zeros(400, dtype=np.int64)
    same = Batch(batch.x[zeros], batch.labels[zeros], batch.lengths[zeros])
    losses = gibbs_losses(posterior, same, "last", repetitions=1, seed=1)[0]
    assert 0.02 < losses.mean() < 0.98


def test_draws_do_not_see_padding() -> None:
    """Without max_length a sample may be padded wider than its longest sequence; verify cuts it."""
    rng = np.random.default_rng(0)
    x, y, n = rng.integers(50, size=(1200, 40)), rng.integers(2, size=1200), np.full(1200, 10)
    net = family.random_network(rng, "gru", d_x=50, d_h=16, K=2, tokens=True)
    posterior = around(net, 1, DIGEST, 0.3)
    wide, narrow = (
        gibbs_losses(posterior, Batch(part, y, n), "last", repetitions=1, seed=1)
        for part in (x, x[:, :10])
    )
    assert (wide == narrow).all()


def test_outputs_that_overflow_are_refused() -> None:
    net = made({"cell": "vanilla", "activation": "relu", "scale": 1.0})
    wild = replace(random_posterior(net, 1), log_scales={b.name: 60.0 for b in net.blocks()})
    x, lengths = inputs(net, 5, 4)
    batch = Batch(x, np.zeros(5, dtype=np.int64), lengths)
    with pytest.raises(InputError, match="not finite"):
        gibbs_losses(wild, batch, "last", repetitions=1, seed=0)


def test_tallies() -> None:
    losses = np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    alone = tally(losses, np.arange(3), 3)
    assert alone.mean == 7 / 12 and alone.disagreement == 3 / 6 and alone.first == 2 / 3
    assert (alone.draws, alone.pairs) == (12, 6) and alone.zero_one
    assert tally(losses[:3], np.arange(3), 3).disagreement is None
    grouped = tally(losses, np.array([0, 0, 1]), 2)
    assert not grouped.zero_one and grouped.disagreement is None
    assert grouped.mean == pytest.approx((0.5 + 1 + 1 + 0 + 0 + 1 + 0.5 + 1) / 8)
    np.testing.assert_allclose(unit_losses(losses[:1], np.array([1, 0, 0]), 2), [[1.0, 0.0]])


# Posteriors as values and on disk.


def test_bad_values_are_refused() -> None:
    net = made({"cell": "gru", "bias": True})
    good = random_posterior(net, 1)
    for field, value, message in (
        ("units", 0, "units"), ("units", 1.5, "units"), ("digest", "abc", "digest"),
        ("scale", 0.0, "scale"), ("scale", math.nan, "scale"), ("index", 0.5, "index"),
        ("index", 401, "index"), ("index", True, "index"), ("temperature", -1.0, "temperature"),
        ("temperature", math.inf, "temperature"), ("centre", None, "Network"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            replace(good.prior, **{field: value})
    scales = dict(good.log_scales)
    for wrong in (61.0, math.nan, np.zeros(17), "x"):
        with pytest.raises(InputError, match="log_scales"):
            replace(good, log_scales={**scales, "U_r": wrong})
    with pytest.raises(InputError, match="log_scales must name"):
        replace(good, log_scales={"U_r": 0.0})
    with pytest.raises(InputError, match="differ in architecture"):
        replace(good, mean=made({"cell": "gru", "bias": False}))
    with pytest.raises(InputError, match="float32"):
        huge = with_values(net, {b.name: b.value * 1e39 for b in net.blocks()})
        _ = replace(good, mean=huge).divergence


@pytest.mark.parametrize("kind", KINDS[::3], ids=name_of)
def test_posteriors_on_disk_come_back_the_same(kind: dict[str, object], tmp_path: Path) -> None:
    net = made(kind)
    start = random_posterior(net, 2)
    moved = with_values(net, {b.name: b.value + 0.01 for b in net.blocks()})
    saved = replace(start, mean=moved, prior=replace(start.prior, index=-3, temperature=0.05))
    back = load_posterior(save_posterior(saved, tmp_path / "q"))
    assert back.digest == saved.digest and back.divergence == saved.divergence
    assert back.prior.cost == saved.prior.cost and back.prior.units == 3
    assert saved.digest != start.digest


def edit(folder: Path, **changes: object) -> None:
    where = folder / "posterior.json"
    entry = json.loads(where.read_text())
    for name, value in changes.items():
        entry.pop(name) if value is None and name != "index" else entry.update({name: value})
    where.write_text(json.dumps(entry))


@pytest.mark.parametrize(
    "changes",
    [
        {"units": 2}, {"units": True}, {"units": "3"}, {"units_digest": "1" * 64}, {"scale": 0.2},
        {"scale": -1}, {"index": 1}, {"temperature": 0.7}, {"digest": "0" * 64}, {"format": "x"},
        {"version": 2}, {"extra": 1}, {"scale": None}, {"mean": "0" * 64}, {"index": 10**9},
        {"units_digest": "Z" * 64}, {"scale": 1e300}, {"temperature": "hot"},
    ],
    ids=str,
)  # fmt: skip
def test_files_that_were_edited_are_refused(changes: dict[str, object], tmp_path: Path) -> None:
    folder = save_posterior(random_posterior(made({"cell": "mgu"}), 1), tmp_path)
    edit(folder, **changes)
    with pytest.raises((FileError, InputError)) as caught:
        load_posterior(folder)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_posteriors_are_refused(tmp_path: Path) -> None:
    folder = save_posterior(random_posterior(made({"cell": "mgu"}), 1), tmp_path / "a")
    other = save_posterior(random_posterior(made({"cell": "mgu"}, 5), 2), tmp_path / "b")
    with pytest.raises(FileError, match="cannot read"):
        load_posterior(tmp_path / "nowhere")
    for name in ("mean", "centre", "scales"):
        for suffix in (".safetensors", ".json"):
            path = folder / f"{name}{suffix}"
            kept = path.read_bytes()
            for raw in (kept[: len(kept) // 2], b"", b"[" * 10_000):
                path.write_bytes(raw)
                with pytest.raises((FileError, InputError)):
                    load_posterior(folder)
            path.write_bytes(kept)
        mixed = {s: (folder / f"{name}{s}").read_bytes() for s in (".safetensors", ".json")}
        for suffix in mixed:
            (folder / f"{name}{suffix}").write_bytes((other / f"{name}{suffix}").read_bytes())
        with pytest.raises((FileError, InputError)):
            load_posterior(folder)
        for suffix, raw in mixed.items():
            (folder / f"{name}{suffix}").write_bytes(raw)
    load_posterior(folder)
    (folder / "posterior.json").write_text('{"format": "recert-posterior"' + " " * 200_000 + "}")
    with pytest.raises(FileError):
        load_posterior(folder)
    (folder / "posterior.json").write_text("[]")
    with pytest.raises(FileError, match="no posterior"):
        load_posterior(folder)
    assert not list((tmp_path / "a").glob(".*"))


# Roles of the data: attempts to let the bound count what the prior has seen.


def sampled(m: int = 400, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sequences long enough that hardly one comes twice."""
    rng = np.random.default_rng(seed)
    x = rng.integers(3, size=(m, 20))
    return x, rng.integers(3, size=m), np.full(m, 20)


READING = Reading("onehot", 3, 3, "last")


def posterior_for(x: np.ndarray, y: np.ndarray, n: np.ndarray, m_0: int = 150) -> Posterior:
    net = made({"cell": "gru", "tokens": True}, d_x=3)
    seen = assign_roles(x, y, READING, m_0=m_0, digest=None, lengths=n).seen
    return around(net, m_0, part_digest(seen), 0.05, temperature=0.2)


def test_the_sample_is_cut_after_the_prior_s_units() -> None:
    x, y, n = sampled()
    found = certify_posterior(posterior_for(x, y, n), x, y, lengths=n, max_length=20)
    assert found.kind == "certificate" and found.sample["m"] == 250
    assert found["pac_bayes_kl"].terms["units"] == 250
    roles = found.assumption("roles")
    assert roles.status == "enforced" and "150 units have the digest" in roles.evidence
    assert found.assumption("prior").status == "declared"
    assert "no file can prove it" in found.assumption("prior").evidence


def smuggled(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """A sample that is not the one that the prior knows the beginning of."""
    x, y, n = (a.copy() for a in sampled())
    m_0 = 150
    if kind == "two units exchanged between the parts":
        x[[0, 200]] = x[[200, 0]]
    elif kind == "two units exchanged within the prior's":
        x[[0, 100]], y[[0, 100]] = x[[100, 0]], y[[100, 0]]
    elif kind == "reversed":
        x, y = x[::-1].copy(), y[::-1].copy()
    elif kind == "relabelled":
        y[5] = (y[5] + 1) % 3
    elif kind == "one letter":
        x[7, 3] = (x[7, 3] + 1) % 3
    elif kind == "one length":
        n[7] = 19
    elif kind == "without the prior's units":
        x, y, n = x[150:], y[150:], n[150:]
    elif kind == "one unit earlier":
        m_0 = 149
    elif kind == "one unit later":
        m_0 = 151
    return x, y, n, m_0


@pytest.mark.parametrize(
    "kind",
    [
        "two units exchanged between the parts", "two units exchanged within the prior's",
        "reversed", "relabelled", "one letter", "one length", "without the prior's units",
        "one unit earlier", "one unit later",
    ],
)  # fmt: skip
def test_other_first_units_are_refused(kind: str) -> None:
    posterior = posterior_for(*sampled())
    x, y, n, m_0 = smuggled(kind)
    posterior = replace(posterior, prior=replace(posterior.prior, units=m_0))
    with pytest.raises(InputError, match="not those that the prior was made from"):
        certify_posterior(posterior, x, y, lengths=n, max_length=20)


def test_the_digest_sees_content_and_nothing_else() -> None:
    x, y, n = sampled(60)
    n = np.random.default_rng(0).integers(5, 21, size=60)
    x[np.arange(20)[None, :] >= n[:, None]] = -1
    wide = np.pad(x, ((0, 0), (0, 3)), constant_values=-1)
    groups = np.repeat(np.arange(30), 2)

    def digest(x: np.ndarray, **options: object) -> str:
        return part_digest(assign_roles(x, y, READING, m_0=10, digest=None, **options).seen)

    assert digest(x) == digest(wide) == digest(x.astype(np.int32), lengths=n)
    assert digest(x) != digest(x, groups=groups) != digest(x, groups=groups // 2)
    assert digest(x, groups=groups) == digest(x, groups=np.array([f"d{g}" for g in groups]))
    real = np.random.default_rng(1).standard_normal((60, 4, 3)).astype(np.float32)
    reading = replace(READING, input_kind="real")
    found = {
        part_digest(assign_roles(v, y, reading, m_0=20, digest=None).seen)
        for v in (real, real.astype(np.float64), np.pad(real, ((0, 0), (0, 2), (0, 0)))[:, :4])
    }
    assert len(found) == 1


def test_units_that_come_again_make_it_an_estimate() -> None:
    x, y, n = sampled()
    posterior = posterior_for(x, y, n)
    again = [np.concatenate([a, a[:150]]) for a in (x, y, n)]
    found = certify_posterior(posterior, *again[:2], lengths=again[2], max_length=20)
    assert found.assumption("roles").status == "violated"
    assert found["pac_bayes_kl"].kind == "estimate" and found.kind == "estimate"
    assert "estimate" in found.statement()
    turned = (again[1] + 1) % 3  # other labels do not hide them
    turned[:150] = y[:150]
    hidden = certify_posterior(posterior, again[0], turned, lengths=again[2], max_length=20)
    assert hidden.assumption("roles").status == "violated"


def test_a_rest_that_is_repeated_is_no_larger_sample() -> None:
    x, y, n = sampled()
    posterior = posterior_for(x, y, n)
    order = np.concatenate([np.arange(400), 150 + np.random.default_rng(0).permutation(250)])
    found = certify_posterior(posterior, x[order], y[order], lengths=n[order], max_length=20)
    assert found.assumption("iid").status == "violated"
    assert found["pac_bayes_temperature"].kind == "estimate"


def memorising(x: np.ndarray, y: np.ndarray, units: int) -> Network:
    """A network that reads one letter of many and knows the class of the first units' letters."""
    W = np.zeros((1, 1 + int(x.max())))
    W[0, x[:units, 0]] = np.where(y[:units] == 0, 1.0, -1.0)
    W[0, x[units:, 0]] = np.random.default_rng(0).choice([-1.0, 1.0], size=len(x) - units)
    return recert.vanilla(np.zeros((1, 1)), W, np.array([[1.0], [-1.0]]))


def test_a_prior_that_claims_fewer_units_than_it_has_seen_gives_itself_away() -> None:
    """The digest is that of the units it claims, so that only its errors tell."""
    m, claimed = 600, 100
    x = np.arange(m)[:, None]
    y = np.random.default_rng(1).integers(2, size=m)
    reading = Reading("onehot", m, 2, "last", 1)
    seen = assign_roles(x, y, reading, m_0=claimed, digest=None).seen
    for units, status in ((claimed, "declared"), (250, "violated"), (450, "violated")):
        posterior = around(memorising(x, y, units), claimed, part_digest(seen), 1e-3)
        found = certify_posterior(posterior, x, y, max_length=1)
        assert found.assumption("prior").status == status
        assert (found["pac_bayes_kl"].kind == "certificate") == (status == "declared")


def test_drift_of_exchangeable_units_stays_small() -> None:
    rng = np.random.default_rng(0)
    for p in (0.0, 0.02, 0.5, 1.0):
        for m in (5, 30, 1000):
            assert max(drift((rng.random(m) < p).astype(float)) for _ in range(200)) < 6.0
    assert drift(np.repeat([0.0, 1.0], [100, 100])) > 6.0


def test_arguments_of_no_use_are_refused() -> None:
    x, y, n = sampled()
    posterior = posterior_for(x, y, n)
    for options, message in (
        ({"repetitions": 0}, "repetitions"), ({"monte_carlo_share": 1.5}, "monte_carlo_share"),
        ({"delta": 0.0}, "delta"), ({"seed": -1}, "seed"), ({"at": "first"}, "at"),
        ({"population": 399}, "population"), ({"holdout": (x,)}, "holdout"), ({"at": 21}, "step"),
        ({"monte_carlo_share": 0.6, "population": 1000}, "monte_carlo_share"),
        ({"holdout_role": "x"}, "holdout_role"), ({"groups": np.zeros(3)}, "groups"),
        ({"encoding": 0.5}, "encoding"), ({"tried": 0}, "tried"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            certify_posterior(posterior, x, y, **{"lengths": n, "max_length": 20, **options})
    with pytest.raises(InputError, match="none is left"):
        certify_posterior(posterior, x[:150], y[:150], lengths=n[:150])
    with pytest.raises(InputError, match="arrays"):
        certify_posterior(posterior, [(x, y)], None)
    with pytest.raises(InputError, match="no posterior"):
        certify_posterior(posterior.mean, x, y)


# The certificate.


def test_a_certificate_with_everything_in_it(tmp_path: Path) -> None:
    data, held = LANGUAGE.sample(900, 1), LANGUAGE.sample(300, 2)
    net = made({"cell": "lstm", "tokens": True, "two_way": True, "read": "final"}, d_x=3)
    reading = Reading("onehot", 3, 3, "last", 6)
    seen = assign_roles(data.sequences, data.labels, reading, m_0=300, digest=None).seen
    posterior = around(net, 300, part_digest(seen), 0.1, temperature=0.1, index=2)
    folder = save_posterior(posterior, tmp_path / "q")
    done: list[int] = []
    found = certify_posterior(
        folder, data.sequences, data.labels, lengths=data.lengths, max_length=6, seed=5,
        holdout=(held.sequences, held.labels, held.lengths), population=5000, tried=4, encoding=3,
        draws="drawn on the spot", repetitions=2, progress=done.append,
    )  # fmt: skip
    assert sum(done) == 2 * (600 + 300)
    names = [bound.name for bound in found.bounds]
    assert names == [
        "pac_bayes_temperature", "pac_bayes_kl", "held_out", "majority_vote", "mean_network"
    ]  # fmt: skip
    kl, held_out = found["pac_bayes_kl"], found["held_out"]
    assert [c.what for c in kl.cost] == [
        "recipes tried on this sample", "encodings to choose among", "prior scale s_0"
    ]  # fmt: skip
    assert [c.what for c in held_out.cost] == ["encodings to choose among"]
    spent = sum(b.delta for b in found.bounds[:3]) + 2 * kl.terms["monte_carlo_delta"]
    assert spent == pytest.approx(found.delta) and spent <= found.delta * (1 + 1e-12)
    assert found["majority_vote"].value == min(1.0, 2 * min(kl.value, found.bounds[0].value))
    assert found["mean_network"].kind == "not applicable"
    assert kl.choices["posterior_digest"] == posterior.digest
    assert {row.bound for row in found.finite_list} == {"pac_bayes_temperature", "pac_bayes_kl"}
    assert all(row.population == 4700 and row.unseen >= row.value for row in found.finite_list)
    assert "drawn afresh" in found.statement()
    back = Certificate.from_json(json.loads(json.dumps(found.to_json())))
    assert back.to_json() == found.to_json()
    again = certify_posterior(
        posterior, data.sequences, data.labels, lengths=data.lengths, max_length=6, seed=5,
        holdout=(held.sequences, held.labels, held.lengths), population=5000, tried=4, encoding=3,
        draws="drawn on the spot", repetitions=2,
    )  # fmt: skip
    assert replace(again, created="") == replace(found, created="")


def test_the_ledger_says_when_posterior_and_seed_were_fixed() -> None:
    """The luckiest of many seeds shows less than R̂(Q); nothing is paid for it."""
    x, y, n = sampled()
    net = made({"cell": "gru", "tokens": True}, d_x=3)
    seen = assign_roles(x, y, READING, m_0=100, digest=None, lengths=n).seen
    posterior = around(net, 100, part_digest(seen), 0.3)
    drawn = [
        certify_posterior(posterior, x, y, lengths=n, max_length=20, seed=seed, repetitions=2)
        for seed in range(12)
    ]
    errors = [c["pac_bayes_kl"].terms["gibbs_error_drawn"] for c in drawn]
    assert min(errors) < np.mean(errors)
    assert "a seed that were fixed before" in drawn[0].statement()


def test_choices_make_certificates_larger() -> None:
    x, y, n = sampled()
    posterior = posterior_for(x, y, n)
    plain = certify_posterior(posterior, x, y, lengths=n, max_length=20)
    for changed in (
        certify_posterior(posterior, x, y, lengths=n, max_length=20, tried=9),
        certify_posterior(posterior, x, y, lengths=n, max_length=20, encoding=9),
        certify_posterior(
            replace(posterior, prior=replace(posterior.prior, index=0)),
            x, y, lengths=n, max_length=20,
        ),
        certify_posterior(posterior, x, y, lengths=n, max_length=20, delta=0.001),
    ):  # fmt: skip
        assert changed["pac_bayes_kl"].value > plain["pac_bayes_kl"].value
        assert changed["pac_bayes_temperature"].value > plain["pac_bayes_temperature"].value
    learnt = certify_posterior(posterior, x, y, lengths=n, max_length=20, encoding="learnt")
    assert learnt.kind == "estimate"
    bare = replace(posterior, prior=replace(posterior.prior, temperature=None))
    found = certify_posterior(bare, x, y, lengths=n, max_length=20)
    assert found["pac_bayes_temperature"].kind == "not applicable"
    assert found["pac_bayes_kl"].value < plain["pac_bayes_kl"].value  # it has all of δ


def test_a_finite_list() -> None:
    x, y, n = sampled()
    found = certify_posterior(
        posterior_for(x, y, n), x, y, lengths=n, max_length=20, population=2000,
        holdout=sampled(100, 9)[:2],
    )  # fmt: skip
    assert found.sample["reading"] == "finite list"
    assert "less the units that made the prior" in found.assumption("iid").statement
    assert found["held_out"].kind == "estimate" and found["pac_bayes_kl"].kind == "certificate"
    assert "on the whole list" in found.statement()


def test_groups_are_units() -> None:
    x, y, n = sampled()
    groups = np.repeat(np.arange(100), 4)
    net = made({"cell": "gru", "tokens": True}, d_x=3)
    seen = assign_roles(x, y, READING, m_0=30, digest=None, lengths=n, groups=groups).seen
    posterior = around(net, 30, part_digest(seen), 0.05)
    found = certify_posterior(posterior, x, y, lengths=n, max_length=20, groups=groups)
    drawn = found["pac_bayes_kl"].terms
    assert drawn["units"] == 70 and drawn["monte_carlo_draws"] == 280
    assert "disagreement" not in drawn  # fractions: Hoeffding's limit
    assert found.sample["unit"] == "group of sequences" and found.kind == "certificate"
    shuffled = np.random.default_rng(0).permutation(400)
    with pytest.raises(InputError, match="not those that the prior was made from"):
        certify_posterior(
            posterior, x[shuffled], y[shuffled], lengths=n, max_length=20, groups=groups[shuffled]
        )
    with pytest.raises(InputError, match="have none"):
        certify_posterior(posterior, x, y, lengths=n, groups=groups, holdout=(x[:5], y[:5]))


def test_gibbs_runs_from_training_to_certificate(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from recert.workflows import posteriors

    done = posteriors.train_and_save(
        "synthetic", tmp_path / "q", options={"m": 3000, "rule": "last", "noise": 0.1}, seed=1,
        holdout=0.2, processes=1, changes={
            "d_h": 6, "bidirectional": False, "epochs": 6, "batch": 64, "learning_rate": 0.1,
            "weight_decay": 0.1, "cell": "gru", "posterior_epochs": 1, "posterior_batch": 128,
            "share": 0.3,
        },
    )  # fmt: skip
    assert done.prior_units == 720 and done.bound_units == 1680
    found = posteriors.certify_saved(tmp_path / "q", repetitions=4)
    assert found.kind == "certificate" and found["held_out"].kind == "certificate"
    assert found["pac_bayes_temperature"].value < 0.2 < found["pac_bayes_kl"].value + 0.1
    assert found.sample["holdout"]["error"] < found["pac_bayes_temperature"].value
    assert 0.0 < done.posterior.divergence < 20.0
    sample, held = posteriors.sample_of(tmp_path / "q")
    assert (sample.units, held.units) == (2400, 600)
    record = tmp_path / "q" / "data.json"
    entry = json.loads(record.read_text())
    for changes in ({"units": 2000}, {"digest": "0" * 64}, {"data": {}}, {"more": 1}):
        record.write_text(json.dumps({**entry, **changes}))
        with pytest.raises((InputError, FileError)):
            posteriors.certify_saved(tmp_path / "q")
    with pytest.raises(InputError, match="unknown recipe fields"):
        posteriors.recipe_for({"wings": 2})


def test_recipes_that_were_declared_in_training_are_paid_for_later(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from recert.workflows import posteriors

    quick = {
        "d_h": 2, "bidirectional": False, "epochs": 1, "cell": "vanilla", "learning_rate": 0.1,
        "weight_decay": 0.0, "label_smoothing": 0.0, "batch": 16, "posterior_epochs": 0,
    }  # fmt: skip
    posteriors.train_and_save(
        "synthetic", tmp_path / "q", options={"m": 300}, changes=quick, processes=1, tried=12
    )
    found = posteriors.certify_saved(tmp_path / "q", repetitions=2)
    assert [cost.value for cost in found["pac_bayes_kl"].cost] == [12]
    assert "one of 12" in found.assumption("architecture").evidence
    record = tmp_path / "q" / "data.json"
    entry = json.loads(record.read_text())
    record.write_text(json.dumps({key: entry[key] for key in entry if key != "tried"}))
    with pytest.raises(FileError, match="tried"):
        posteriors.certify_saved(tmp_path / "q")


def test_posterior_recipes_refuse_bad_values() -> None:
    pytest.importorskip("torch")
    from recert.training.posterior import train_posterior
    from recert.training.recipes import PosteriorRecipe, RecipeCandidate
    from recert.workflows import posteriors

    for field, value in (
        ("share", 1.0), ("share", 0.0), ("candidates", ()), ("epochs", -1), ("batch", 0),
        ("rate", 0.0), ("width", -1.0), ("disagreement", 2.0), ("temperature", 0.0),
    ):  # fmt: skip
        with pytest.raises(InputError):
            PosteriorRecipe(**{field: value})
    for field, value in (
        ("learning_rate", 0.0), ("weight_decay", -1.0), ("label_smoothing", 1.0), ("d_h", 0),
        ("weight_decay", math.nan),
    ):  # fmt: skip
        with pytest.raises(InputError):
            RecipeCandidate(**{field: value})
    assert len(PosteriorRecipe().fixing(d_h=5, bidirectional=False).candidates) == 10
    # By default the smallest limit is sought; nearness to the error is a wish, and above 0.
    assert PosteriorRecipe().closeness is None
    assert posteriors.recipe_for({"closeness": 0.06}).closeness == 0.06
    with pytest.raises(InputError, match="closeness"):
        posteriors.recipe_for({"closeness": -0.1})
    with pytest.raises(InputError, match="at least 8"):
        train_posterior(LANGUAGE.sample(20), PosteriorRecipe(share=0.2))


def test_training_a_posterior_lowers_what_it_descends_on() -> None:
    """With a weak prior there is something to gain, and the gain is real."""
    pytest.importorskip("torch")
    from recert.training import Recipe
    from recert.training.posterior import train_posterior
    from recert.training.recipes import PosteriorRecipe, RecipeCandidate

    language = SyntheticLanguage(letters=3, max_length=4, rule="last", noise=0.05)
    data = language.sample(4000, 3)
    prior = Recipe(bias=True)
    weak = RecipeCandidate(
        0.02, 0.0, 0.0, d_h=4, bidirectional=False, cell="vanilla", epochs=2, batch=32
    )
    options = {"prior": prior, "share": 0.02, "candidates": (weak,), "disagreement": 0.2}
    bounds = []
    for epochs in (0, 4):
        recipe = PosteriorRecipe(**options, epochs=epochs, batch=128, rate=0.1)
        trained = train_posterior(data, recipe, seed=1)
        found = certify_posterior(
            trained.posterior, data.sequences, data.labels, lengths=data.lengths, max_length=4
        )
        bounds.append(found["pac_bayes_temperature"].value)
        again = train_posterior(data, recipe, seed=1)
        assert again.posterior.digest == trained.posterior.digest
    assert train_posterior(data, recipe, seed=2).posterior.digest != trained.posterior.digest
    assert bounds[1] < bounds[0] - 0.05


def cut_to(data: SequenceData, length: int) -> SequenceData:
    """Its first letters alone."""
    lengths = np.minimum(data.lengths, length)
    return replace(
        data, sequences=data.sequences[:, :length], lengths=lengths, max_length=length, encoding=4
    )


def test_the_rehearsal_chooses_the_encoding_on_the_priors_part_alone() -> None:
    pytest.importorskip("torch")
    from recert.training import Recipe
    from recert.training.posterior import train_posterior
    from recert.training.recipes import PosteriorRecipe, RecipeCandidate

    whole = SyntheticLanguage(letters=3, max_length=4, min_length=4, rule="last", noise=0.0).sample(
        600, 3
    )
    first, two = cut_to(whole, 1), cut_to(whole, 2)
    quick = RecipeCandidate(0.1, 0.0, 0.0, d_h=4, bidirectional=False, epochs=6, batch=32)
    recipe = PosteriorRecipe(prior=Recipe(bias=True), share=0.4, candidates=(quick,), epochs=1)
    trained = train_posterior(first, recipe, views=[two, whole], seed=1)
    assert trained.data is whole and trained.rehearsed_error < 0.05
    assert trained.posterior.mean.description() == trained.posterior.prior.centre.description()
    apart = train_posterior(first, recipe, views=[two, whole], seed=1, processes=2)
    assert apart.posterior.digest == trained.posterior.digest
    # No encoding is before another.
    turned_about = train_posterior(whole, recipe, views=[two, first], seed=1)
    assert turned_about.posterior.digest == trained.posterior.digest
    # Labels of the bound's part are nothing to the rehearsal.
    m_0 = trained.posterior.prior.units
    labels = np.where(np.arange(whole.m) < m_0, whole.labels, (whole.labels + 1) % 3)
    turned = [replace(view, labels=labels) for view in (first, two, whole)]
    other = train_posterior(turned[0], recipe, views=turned[1:], seed=1)
    assert other.data is turned[2]
    assert other.posterior.prior.centre.digest == trained.posterior.prior.centre.digest
    assert other.posterior.prior.temperature == trained.posterior.prior.temperature
    for view in (whole.take(slice(0, 500)), replace(whole, labels=(whole.labels + 1) % 3)):
        with pytest.raises(InputError, match="not of one sample"):
            train_posterior(first, recipe, views=[view])


def test_choices_raise_the_temperature() -> None:
    pytest.importorskip("torch")
    from recert.training import Recipe
    from recert.training.posterior import train_posterior
    from recert.training.recipes import PosteriorRecipe, RecipeCandidate

    data = LANGUAGE.sample(400, 3)
    quick = (RecipeCandidate(0.1, 0.0, 0.0, d_h=2, bidirectional=False, epochs=1, batch=32),)
    recipe = PosteriorRecipe(prior=Recipe(), candidates=quick, share=0.17, epochs=0)

    def temperature(data: SequenceData, **options: object) -> float:
        found = train_posterior(data, recipe, seed=1, **options).posterior.prior.temperature
        assert found is not None
        return found

    plain, coded = temperature(data), replace(data, encoding=20)
    assert temperature(data, tried=20) == temperature(coded) > plain
    assert temperature(data, delta=0.001) > plain
    assert temperature(coded, views=[coded]) == plain


@pytest.mark.skipif(find_spec("german_nouns") is None, reason="no german-nouns")
def test_lengths_are_rehearsed_and_need_no_payment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from recert.workflows import posteriors

    monkeypatch.setattr(posteriors, "LENGTHS", {"german-nouns": (2, 3)})
    changes = {
        "d_h": 2, "bidirectional": False, "epochs": 1, "cell": "vanilla", "learning_rate": 0.1,
        "weight_decay": 0.0, "label_smoothing": 0.0, "batch": 16, "posterior_epochs": 0,
    }  # fmt: skip
    quick = {"units": 400, "changes": changes, "processes": 1}
    posteriors.train_and_save("german-nouns", tmp_path / "q", **quick)
    record = json.loads((tmp_path / "q" / "data.json").read_text())
    assert record["max_length"] == record["data"]["options"]["max_length"]
    assert record["max_length"] in (3, 2)
    assert record["encoding"] == "fixed"
    found = posteriors.certify_saved(tmp_path / "q", repetitions=2)
    assert [cost.what for cost in found["pac_bayes_kl"].cost] == ["recipes tried on this sample"]
    row = found.assumption("encoding")
    assert row.statement.endswith("before looking at the units that the bound counts")
    assert "on the units that made the prior" in row.evidence
    # Who says how long nouns are to be has chosen with all of them in view.
    posteriors.train_and_save("german-nouns", tmp_path / "r", options={"max_length": 3}, **quick)
    told = posteriors.certify_saved(tmp_path / "r", repetitions=2)
    costs = told["pac_bayes_kl"].cost
    assert [cost.value for cost in costs] == [300, 32]
    assert [cost.nats for cost in costs] == pytest.approx([math.log(300), math.log(32)])
    assert found["pac_bayes_kl"].value < told["pac_bayes_kl"].value
    # What training recorded is paid for whatever is declared later.
    less = posteriors.certify_saved(tmp_path / "r", repetitions=2, tried=1, encoding="fixed")
    assert less["pac_bayes_kl"] == told["pac_bayes_kl"]
    more = posteriors.certify_saved(tmp_path / "r", repetitions=2, tried=301, encoding=33)
    assert more["pac_bayes_kl"].value > told["pac_bayes_kl"].value


def test_the_whole_house_imports_gibbs_without_torch() -> None:
    import subprocess
    import sys

    code = "import recert.pac_bayes, sys; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
