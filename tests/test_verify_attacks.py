"""Forgeries that were once accepted: consistent, sealed, and false."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flint")

from flint import ctx

import family
import recert
from recert import compression
from recert.certificates.certificate import Certificate, seal
from recert.errors import InputError
from recert.networks import margins
from recert.networks.layers import layer_of
from recert.networks.network import Block, Head, Network
from recert.numerics.concentration import kl_inverse_upper
from recert.pac_bayes import assign_roles, certify_posterior, part_digest
from recert.pac_bayes.posterior import Posterior, around
from recert.samples.sample import Reading
from recert.verifier import balls, verify

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 4, (60, 6)), RNG.integers(0, 2, 60)


def plain(certificate: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(certificate.to_json()))
    return found


def sealed(data: dict[str, Any]) -> dict[str, Any]:
    """With everything that follows from the rest written anew."""
    data = data | {"seal": seal(data)}
    again = Certificate.from_json(data).to_json()
    keys = ("statement", "assumptions", "best", "bounds", "finite_list")
    data = data | {key: again[key] for key in keys}
    return data | {"seal": seal(data)}


def bound_of(data: dict[str, Any], name: str) -> dict[str, Any]:
    return next(bound for bound in data["bounds"] if bound["name"] == name)


def row_of(data: dict[str, Any], id: str) -> dict[str, Any]:
    return next(row for row in data["assumptions"] if row["id"] == id)


def sound(data: dict[str, Any], id: str, status: str, **more: Any) -> dict[str, Any]:
    """A hypothesis declared to hold, and every estimate a certificate."""
    row_of(data, id)["status"] = status
    row_of(data, id)["facts"] |= more
    for bound in data["bounds"]:
        if bound["kind"] == "estimate":
            bound |= {"kind": "certificate", "reason": ""}
    return sealed(data)


def valued(bound: dict[str, Any], value: float) -> None:
    bound |= {"value": value, "log10": math.log10(value) + 1e-12, "vacuous": value >= 1.0}
    bound["terms"]["value"] = value


def failed(found: Any) -> set[str]:
    assert not found
    return {check.row for check in found.failures()}


def one(**options: Any) -> Network:
    rng = np.random.default_rng(1)
    cell = options.pop("cell", "vanilla")
    return family.random_network(rng, cell, d_x=4, d_h=3, K=2, **{"tokens": True} | options)


# Another network with the same weights.


def twins() -> dict[str, tuple[Network, Network]]:
    original = one(cell="gru_original", bias=False)
    relu, mean = one(activation="relu"), one(cell="gru", read="mean")
    values = {role: block.value for role, block in relu.layers[0].blocks.items()}  # type: ignore[union-attr]
    other = {role: block.value for role, block in original.layers[0].blocks.items()}  # type: ignore[union-attr]
    values["W"] = values["W"] * np.array([1.0, 1.0, 0.0, 1.0])

    def with_layer(cell: str, blocks: Any, like: Network, **more: Any) -> Network:
        layer = layer_of(cell, blocks, reads_tokens=True, **more)
        return Network((layer,), like.head, "onehot")

    return {
        "cell": (original, with_layer("gru", other, original)),
        "activation": (
            with_layer("vanilla", values, relu, activation="relu"),
            with_layer("vanilla", values, relu, activation="tanh"),
        ),
        "read": (mean, Network(mean.layers, mean.head, "onehot")),
        "zero columns": (
            with_layer("vanilla", values, relu, zero_columns=(2,)),
            with_layer("vanilla", values, relu),
        ),
    }


@pytest.mark.parametrize("name", ["cell", "activation", "read", "zero columns"])
def test_another_network_with_the_same_weights(name: str) -> None:
    first, second = twins()[name]
    found = recert.certify(first, X, Y, max_length=6, bounds=("margin_ball",))
    assert verify(found, first, X, Y)
    rows = failed(verify(found, second))
    assert rows & {"network", "network.blocks.W"} and not verify(found, second, X, Y)


def test_exchanged_roles() -> None:
    network = one(cell="gru")
    data = plain(recert.certify(network, X, Y, max_length=6, bounds=("local_ball",)))
    rows = {row["role"].rpartition(".")[2]: row for row in data["network"]["blocks"]}
    for first, second in (("W_r", "W_z"), ("U_r", "U_z"), ("b_r", "b_z")):
        a, b = rows[first], rows[second]
        a["role"], b["role"] = b["role"], a["role"]
    assert "network.blocks.W_r" in failed(verify(sealed(data), network))


def test_margins_that_overflow_are_lost(monkeypatch: Any) -> None:
    """inf − inf compares with nothing, and was once no error."""
    values = {"U": np.full((3, 3), 1e200), "W": np.full((3, 4), 1e200)}
    layer = layer_of("vanilla", values, reads_tokens=True, activation="relu")
    V = Block("V", np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]) * 1e200, "spectral")
    network, zeros = Network((layer,), Head(V), "onehot"), np.zeros(60, dtype=int)
    held = (RNG.integers(0, 4, (60, 6)), zeros)
    monkeypatch.setattr(margins, "_finite", lambda m: np.nan_to_num(m, nan=1.0))
    with np.errstate(all="ignore"):
        found = recert.certify(network, X, zeros, max_length=6, holdout=held, bounds="held_out")
        assert found.risk_bound < 0.1
        rows = failed(verify(found, network, X, zeros, holdout=held))
    assert {"sample.training_error", "held_out.terms.error"} <= rows


# Fields that nobody read.


@cache
def certificate() -> str:
    held = (np.random.default_rng(7).integers(0, 4, (40, 6)), Y[:40])
    found = recert.certify(one(), X, Y, max_length=6, holdout=held, encoding=5)
    return json.dumps(plain(found))


def lookalike(data: dict[str, Any]) -> None:
    more = {"name": "m\u0430rgin_ball", "title": "margin ball", "kind": "order", "reason": ""}
    more |= {"value": 1e-3, "log10": -3.0, "vacuous": False, "terms": {"value": 1e-3}}
    data["bounds"].append(dict(data["bounds"][-1], **more))


FIELDS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "title": (
        lambda d: bound_of(d, "margin_ball").update(title="the error is 0"), "margin_ball.title",
    ),
    "reference": (
        lambda d: bound_of(d, "margin_ball").update(reference="Gauss 1801"),
        "margin_ball.reference",
    ),
    "unit": (lambda d: d["sample"].update(unit="continent"), "sample.unit"),
    "look-alike": (lookalike, "m\u0430rgin_ball.title"),
    "centre": (
        lambda d: bound_of(d, "theorem_3_gaussian")["choices"].update(prior_center="w"),
        "theorem_3_gaussian.choices.prior_center",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_fields_that_nobody_read(name: str) -> None:
    mutate, row = FIELDS[name]
    data = json.loads(certificate())
    assert verify(data)
    mutate(data)
    assert row in failed(verify(sealed(data)))


def test_whole_numbers_are_written_as_such() -> None:
    """3.0 was a step to the schema, and the last step to those who asked for the type."""
    for change in (
        lambda d: d.update(at=3.0),
        lambda d: d["sample"]["declared"].update(encoding=5.0),
    ):
        data = json.loads(certificate())
        change(data)
        with pytest.raises(InputError):
            sealed(data)
        assert failed(verify(data | {"seal": seal(data)})) == {"schema"}


@pytest.mark.parametrize(
    ("given", "recorded", "status"),
    [(1.0, 5.0, None), (recert.Enforced(1.0), 5.0, None), (None, None, "declared"),
     (1.0, None, None)],
)  # fmt: skip
def test_an_input_bound_is_the_declared_one(given: Any, recorded: Any, status: Any) -> None:
    x = RNG.normal(size=(60, 6, 4))
    x /= 1.5 * np.linalg.norm(x, axis=-1, keepdims=True)
    network = one(tokens=False)
    found = recert.certify(network, x, Y, max_length=6, input_bound=given, bounds="margin_ball")
    assert verify(found, network, x, Y)
    data = plain(found)
    data["sample"]["declared"]["input_bound"] = recorded
    if status is not None:
        data["sample"]["input_bound"]["status"] = status
        seen = row_of(data, "input_bound")["facts"]["value"]
        data = sound(data, "input_bound", status, largest=seen)
    where = "sample.input_bound.value" if recorded else "sample.declared.input_bound"
    assert where in failed(verify(sealed(data)))


@pytest.mark.parametrize("what", ["spectral", "frobenius", "two_one", "row_sum", "column", "l1"])
def test_norms_of_blocks_are_norms_whether_needed_or_not(what: str) -> None:
    network, held = one(), (RNG.integers(0, 4, (40, 6)), Y[:40])
    found = recert.certify(network, X, Y, max_length=6, holdout=held, bounds="held_out")
    assert verify(found, network)
    data = plain(found)
    data["network"]["blocks"][1]["norms"][what] *= 1.0 - 1e-6
    assert f"network.blocks.{data['network']['blocks'][1]['name']}.norms.{what}" in failed(
        verify(sealed(data), network)
    )


def test_an_estimate_beside_a_certificate_follows() -> None:
    """Where all certificates are vacuous, the plain words tell the smallest estimate as well."""
    held = (RNG.integers(0, 4, (40, 6)), Y[:40])
    found = recert.certify(
        one(), X, Y, max_length=6, holdout=held, holdout_role="checking",
        bounds=("held_out", "theorem_2"),
    )  # fmt: skip
    data = plain(found)
    assert verify(data) and data["best"] == "theorem_2" and found.vacuous
    valued(bound_of(data, "held_out"), 1e-3)
    data = sealed(data)
    assert "An estimate, not a certificate, is 0.1" in data["statement"]
    assert "held_out.value" in failed(verify(data))


def test_the_best_estimate_follows() -> None:
    data = plain(recert.certify(one(), X, Y, bounds=("margin_ball",)))
    assert verify(data) and data["bounds"][0]["kind"] == "estimate"
    valued(data["bounds"][0], 1e-3)
    assert "margin_ball.value" in failed(verify(sealed(data)))


# Hypotheses that the data contradict.


def test_held_out_units_of_the_sample() -> None:
    network, x = one(cell="gru"), RNG.integers(0, 4, (60, 12))
    held = (x[:30], Y[:30])
    found = recert.certify(network, x, Y, max_length=12, holdout=held, bounds="held_out")
    assert verify(found, network, x, Y, holdout=held)
    data = sound(plain(found), "holdout", "declared", fault=None)
    rows = failed(verify(data, network, x, Y, holdout=held))
    assert rows == {"assumptions.holdout.status", "assumptions.holdout.facts.fault"}


@pytest.mark.parametrize("how", ["repeated", "windows"])
def test_units_that_are_not_independent(how: str) -> None:
    network, options = one(tokens=False), {"max_length": 12, "input_bound": 9.0}
    x: Any = np.tile(RNG.normal(size=(20, 12, 4)), (3, 1, 1))
    if how == "windows":
        network, text, options = one(), RNG.integers(0, 4, 320), {"max_length": 12}
        x = np.stack([text[i : i + 12] for i in range(300)])
    y = RNG.integers(0, 2, len(x))
    found = recert.certify(network, x, y, bounds="margin_ball", **options)
    assert verify(found, network, x, y)
    data = sound(plain(found), "iid", "declared", fault=None, shift=0)
    rows = failed(verify(sealed(data), network, x, y))
    assert rows == {"assumptions.iid.status", "assumptions.iid.facts.fault"}


def test_a_prior_centred_at_the_trained_weights() -> None:
    network = one()
    found = recert.certify(
        network, X, Y, max_length=6, initial=network, bounds="theorem_3_gaussian"
    )
    data = sound(plain(found), "prior", "declared", same=[])
    rows = failed(verify(data, network, initial=network))
    assert rows == {"assumptions.prior.status"}


# Counts that were not counted again.


def test_the_local_ball_s_draws() -> None:
    pytest.importorskip("torch")
    from recert.training import train

    data = recert.data.load("synthetic", m=300, seed=3)
    network = train(data, d_h=4, epochs=12, batch=60, learning_rate=0.05).model.recert_network()
    four = (data.sequences, data.labels)
    found = recert.certify(
        network, *four, lengths=data.lengths, max_length=data.max_length, bounds="local_ball"
    )
    forged = plain(found)
    bound = bound_of(forged, "local_ball")
    terms = bound["terms"]
    assert terms["draws"] and verify(forged, network, *four, lengths=data.lengths)
    terms["draws"] *= 1e6
    with ctx.workprec(192):
        n = int(terms["draws"])
        limit = balls.kl_inverse(
            balls.ball(int(terms["draws_lost"])) / n, -balls.ball(terms["delta_of_draws"]).log() / n
        )
        risk = balls.ball(terms["lost_outright"]) + balls.ball(terms["undecided"]) * limit
        value = float(balls.kl_inverse(risk, balls.ball(terms["rate"])).upper()) * (1 + 1e-12)
    assert value < bound["value"]
    valued(bound, value)
    rows = failed(verify(sealed(forged), network, *four, lengths=data.lengths))
    assert {"local_ball.value", "local_ball.terms.draws"} <= rows
    # That all is lost is counted too, unless nothing is said to have been.
    more = int(bound_of(plain(found), "local_ball")["terms"]["draws"]) + 1
    for said, stands in (((0.0, 1.0, more, more), False), ((1.0, 0.0, 0, 0), True)):
        names = ("lost_outright", "undecided", "draws", "draws_lost")
        terms.update(zip(names, map(float, said), strict=True), posterior_risk=1.0)
        valued(bound, 1.0)
        answer = verify(sealed(forged), network, *four, lengths=data.lengths)
        assert bool(answer) is stands, str(answer)


@cache
def gibbs() -> tuple[Posterior, str, tuple[Any, ...], tuple[Any, ...]]:
    rng = np.random.default_rng(3)
    x, y, n = rng.integers(3, size=(300, 12)), rng.integers(2, size=300), np.full(300, 12)
    held = (rng.integers(3, size=(80, 12)), rng.integers(2, size=80))
    net = family.random_network(rng, "gru", d_x=3, K=2, tokens=True)
    reading = Reading("onehot", 3, 2, "last")
    seen = assign_roles(x, y, reading, m_0=100, digest=None, lengths=n).seen
    posterior = around(net, 100, part_digest(seen), 0.05, temperature=0.2)
    found = certify_posterior(
        posterior, x, y, lengths=n, max_length=12, holdout=held, repetitions=2
    )
    return posterior, json.dumps(plain(found)), (x, y, n), held


def drawn(data: dict[str, Any], posterior: Any = None) -> Any:
    own, _, (x, y, n), held = gibbs()
    return verify(data, posterior or own, x, y, lengths=n, holdout=held)


def each(data: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> None:
    for bound in data["bounds"]:
        if bound["name"].startswith("pac_bayes"):
            change(bound)


def without_kl(data: dict[str, Any]) -> None:
    """The statement at a fixed temperature has both shares of δ."""
    kl = bound_of(data, "pac_bayes_kl")
    share = kl["delta"]
    kl |= {
        "kind": "not applicable", "value": None, "log10": None, "vacuous": True, "delta": None,
        "terms": {}, "choices": {}, "cost": [], "needs": [], "reason": "not needed",
    }  # fmt: skip
    for name in ("pac_bayes_temperature", "majority_vote"):
        bound_of(data, name)["delta"] += share


GIBBS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "more draws than were made": (
        lambda d: each(d, lambda b: b["terms"].update(monte_carlo_draws=4e5)),
        "pac_bayes_kl.choices.repetitions",
    ),
    "too many draws": (
        lambda d: each(d, lambda b: (
            b["terms"].update(monte_carlo_draws=4e5), b["choices"].update(repetitions=2e3))),
        "choices.repetitions",
    ),
    "the second bound's errors": (
        lambda d: bound_of(d, "pac_bayes_kl")["terms"].update(gibbs_error_drawn=0.0),
        "pac_bayes_kl.terms.gibbs_error_drawn",
    ),
    "two limits for one δ'": (
        lambda d: [bound_of(d, "pac_bayes_kl")["terms"].pop(key)
                   for key in ("disagreement", "monte_carlo_rate")],
        "delta",
    ),
    "the rate of the limit": (
        lambda d: each(d, lambda b: b["terms"].update(
            monte_carlo_rate=b["terms"]["monte_carlo_rate"] * 1.01, gibbs_error_limit=1.0)),
        "pac_bayes_kl.terms.monte_carlo_rate",
    ),
    "more held-out units": (
        lambda d: (d["sample"]["holdout"].update(m=8000),
                   bound_of(d, "held_out")["terms"].update(units=8000.0)),
        "sample.holdout.m",
    ),
    "the sample's error": (
        lambda d: d["sample"].update(training_error=0.0), "sample.training_error",
    ),
    "units of the prior": (
        lambda d: row_of(d, "prior")["facts"].update(units=1), "assumptions.prior.facts.units",
    ),
    "scales of another posterior": (
        lambda d: each(d, lambda b: b["choices"].update(mean_scales=[0.5] * 9)),
        "pac_bayes_kl.choices.mean_scales",
    ),
    "a choice that nobody made": (
        lambda d: each(d, lambda b: b["choices"].update(audit="passed")),
        "pac_bayes_temperature.choices",
    ),
    "a statement's share that another takes": (
        lambda d: without_kl(d), "pac_bayes",
    ),
    "how many units come again": (
        lambda d: row_of(d, "roles")["facts"].update(further=2000),
        "assumptions.roles.facts.further",
    ),
    "copies of other units": (
        lambda d: row_of(d, "roles")["facts"].update(shared=7), "assumptions.roles.facts.shared",
    ),
    "one error of the prior's centre": (
        lambda d: row_of(d, "prior")["facts"].update(
            own=row_of(d, "prior")["facts"]["own"] - 0.01),
        "assumptions.prior.facts.own",
    ),
    "errors of the prior's centre": (
        lambda d: row_of(d, "prior")["facts"].update(own=0.0, rest=0.0),
        "assumptions.prior.facts.own",
    ),
    "an encoding that looked at nothing": (
        lambda d: row_of(d, "encoding")["facts"].update(of="sample"),
        "assumptions.encoding.facts.of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GIBBS)
def test_gibbs_forgeries(name: str) -> None:
    mutate, row = GIBBS[name]
    data = json.loads(gibbs()[1])
    assert name != "more held-out units" or drawn(data)
    mutate(data)
    assert row in failed(drawn(sealed(data)))


def test_a_prior_made_from_other_units() -> None:
    own, text, _, _ = gibbs()
    other = Posterior(own.mean, own.log_scales, replace(own.prior, digest="0" * 64))
    data = json.loads(text)
    each(data, lambda b: b["choices"].update(prior_digest="0" * 64, posterior_digest=other.digest))
    assert failed(drawn(sealed(data), other)) == {"choices.prior_digest"}


def test_draws_of_a_posterior_chosen_among_many() -> None:
    """A limit that holds for one posterior alone does not stand where it is one of twenty."""
    own, _, (x, y, n), _ = gibbs()
    alone, chosen = (
        plain(certify_posterior(own, x, y, lengths=n, max_length=12, repetitions=2, tried=tried))
        for tried in (1, 20)
    )
    assert verify(chosen, own, x, y, lengths=n)
    limit = bound_of(alone, "pac_bayes_kl")["terms"]["gibbs_error_limit"]
    each(chosen, lambda b: b["terms"].update(gibbs_error_limit=limit))
    rows = failed(verify(sealed(chosen), own, x, y, lengths=n))
    assert rows == {f"pac_bayes_{k}.terms.gibbs_error_limit" for k in ("kl", "temperature")}


def test_lists_may_be_long() -> None:
    own, _, (x, y, n), _ = gibbs()
    for seed in range(4):
        found = certify_posterior(
            own, x, y, lengths=n, max_length=12, population=10**13, repetitions=40, seed=seed
        )
        assert found.kind == "certificate" and found.finite_list
        # At the arithmetic level, where it is decided.
        assert verify(found)


def test_held_out_units_may_be_longer_where_no_horizon_is_declared() -> None:
    rng = np.random.default_rng(2)
    x, y, n = rng.integers(3, size=(200, 12)), rng.integers(2, size=200), np.full(200, 5)
    held = (rng.integers(3, size=(80, 12)), rng.integers(2, size=80), np.full(80, 12))
    seen = assign_roles(x, y, Reading("onehot", 3, 2, "last"), m_0=50, digest=None, lengths=n).seen
    net = gibbs()[0].mean
    own = around(net, 50, part_digest(seen), 0.05, temperature=0.2)
    for model, found in (
        (own, certify_posterior(own, x, y, lengths=n, holdout=held, repetitions=2)),
        (net, recert.certify(net, x, y, lengths=n, holdout=held, bounds=("held_out",))),
    ):
        assert found["held_out"].kind == "certificate"
        assert verify(found, model, x, y, lengths=n, holdout=held)


def test_an_encoding_is_said_to_be_paid_for_where_it_is() -> None:
    own, text, (x, y, n), held = gibbs()
    data = json.loads(text)
    facts = {"assumptions.encoding.facts.encoding"}
    row_of(data, "encoding")["facts"].update(encoding=4)
    assert failed(drawn(sealed(data))) == facts
    data = plain(certify_posterior(own, x, y, lengths=n, max_length=12, encoding=4, holdout=held))
    assert drawn(data)
    row_of(data, "encoding")["facts"].update(encoding="fixed")
    assert failed(drawn(sealed(data))) == facts
    network = one()
    data = plain(recert.certify(network, X, Y, max_length=6, bounds=("margin_ball",)))
    row_of(data, "encoding")["facts"].update(encoding=4)
    assert failed(verify(sealed(data), network, X, Y)) == facts


def test_of_which_list_statements_speak() -> None:
    own, _, (x, y, n), _ = gibbs()
    data = plain(certify_posterior(own, x, y, lengths=n, max_length=12, population=900))
    assert verify(data, own, x, y, lengths=n)
    assert row_of(data, "iid")["statement"].endswith("less the units that made the prior")
    facts = {"assumptions.iid.facts.prior_units"}
    row_of(data, "iid")["facts"].update(prior_units=None)
    assert failed(verify(sealed(data), own, x, y, lengths=n)) == facts
    network = one()
    data = plain(
        recert.certify(network, X, Y, max_length=6, population=900, bounds=("margin_ball",))
    )
    assert verify(data, network, X, Y)
    row_of(data, "iid")["facts"].update(prior_units=9)
    assert failed(verify(sealed(data), network, X, Y)) == facts


# Hostile values.

HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "NaN": lambda d: d.update(delta=math.nan),
    "infinity": lambda d: bound_of(d, "margin_ball")["terms"].update(rate=math.inf),
    "a huge value": lambda d: bound_of(d, "margin_ball").update(value=10**400),
    "a long text": lambda d: row_of(d, "iid").update(evidence="1" * 2_000_000),
    "a long list": lambda d: bound_of(d, "local_ball")["choices"].update(log_radii=[0.0] * 10**6),
    "needs of two kinds": lambda d: bound_of(d, "margin_ball").update(
        needs=[{"a": i} if i % 2 else f"{i}" for i in range(5000)]),
    "no JSON": lambda d: d.update(best=object()),
    "a key": lambda d: d["sample"].update({3: 4}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_certificate_is_refused(name: str) -> None:
    data = json.loads(certificate())
    HOSTILE[name](data)
    with pytest.raises(InputError, match="no certificate"):
        verify(data, one(), X, Y)


def test_nesting_is_refused() -> None:
    data, deep = json.loads(certificate()), []
    for _ in range(100_000):
        deep = [deep]
    data["bounds"][0]["choices"]["x"] = deep
    with pytest.raises(InputError, match="too large"):
        verify(data)


STRANGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a row of costs": lambda d: bound_of(d, "margin_ball")["cost"].append(
        {"what": "radii of the columns of NOPE", "index": None, "value": 1, "nats": 1}),
    "γ is a text": lambda d: bound_of(d, "margin_ball")["choices"].update(gamma="x"),
    "γ is a list": lambda d: bound_of(d, "margin_ball")["choices"].update(gamma=[1.0]),
    "no radii": lambda d: bound_of(d, "margin_ball")["choices"].pop("log_radii"),
    "α": lambda d: bound_of(d, "theorem_3_l1")["choices"].update(alpha=5e-324),
    "T": lambda d: d["sample"].update(T=10**12),
    "held-out units": lambda d: (
        d["sample"]["holdout"].update(m=10**12, error=0.5),
        bound_of(d, "held_out")["terms"].update(units=1e12, error=0.5)),
    "positions": lambda d: d["network"]["blocks"][0].update(
        norm="operator", positions=10**9, shape=[3, 3, 1]),
    "layers": lambda d: d["network"].update(layers=d["network"]["layers"] * 5000),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_strange_values_get_an_answer_in_time(name: str) -> None:
    data = json.loads(certificate())
    STRANGE[name](data)
    start = time.process_time()
    assert not verify(data | {"seal": seal(data)}, one(), X, Y)
    assert time.process_time() - start < 20.0


def test_tails_from_the_top() -> None:
    from scipy.stats import binom, hypergeom

    with ctx.workprec(192):
        for k, n, p in ((3, 50, 0.2), (0, 9, 0.3), (40, 4000, 0.02), (900, 10**6, 0.001)):
            found = float(balls.binomial_tail(k, n, balls.ball(p)).upper())
            assert found == pytest.approx(binom.cdf(k, n, p), rel=1e-8)
        for k, n, N, D in ((3, 50, 200, 30), (0, 9, 20, 5), (40, 400, 900, 120), (5, 8, 10, 7)):
            found = float(balls.hypergeometric_tail(k, n, N, D).upper())
            assert found == pytest.approx(hypergeom.cdf(k, N, D, n), rel=1e-8)
        assert balls.binomial_limit(5 * 10**8, 10**9, balls.ball(0.01)) < balls.ball(0.51)


def test_ties_cannot_be_counted_as_right(tmp_path: Path) -> None:
    """A network that answers nothing ties everywhere; its file, claimed to err nowhere."""
    rng = np.random.default_rng(0)
    net = recert.vanilla(np.zeros((2, 2)), np.zeros((2, 4)), np.zeros((3, 2)))
    found = compression.compress(net, lambda _: 0.3, m=60, delta=0.01, evaluations=10)
    path = tmp_path / "t.rcz"
    compression.save_program(found.best.program, path)
    x, y = rng.integers(0, 4, (400, 5)), rng.integers(0, 3, 400)
    data = recert.certify(path, x, y, max_length=5, bounds=("occam",)).to_json()
    assert data["sample"]["training_error"] == 1.0 and verify(data, path, x, y)
    bound = next(b for b in data["bounds"] if b["name"] == "occam")
    value = float(kl_inverse_upper(0.0, bound["terms"]["rate"]))
    bound["terms"].update(error=0.0, value=value)
    bound.update(value=value, log10=math.log10(value) + 1e-12, vacuous=False)
    data["sample"]["training_error"] = 0.0
    data["statement"] = recert.Certificate.from_json(data | {"seal": seal(data)}).statement()
    data["seal"] = seal(data)
    assert verify(data) and verify(data, path)
    rows = {check.row for check in verify(data, path, x, y).failures()}
    assert {"sample.training_error", "occam.terms.error"} <= rows


def test_ties_are_not_subtracted_from_a_list() -> None:
    """What was seen to err for certain may be subtracted from the unseen part, ties may not."""
    net = recert.vanilla(np.zeros((2, 2)), np.zeros((2, 4)), np.zeros((3, 2)))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (60, 5)), rng.integers(0, 3, 60)
    data = recert.certify(net, x, y, max_length=5, population=100).to_json()
    assert data["finite_list"] and verify(data, net, x, y)
    for row in data["finite_list"]:
        row.update(threshold=1.0, trivial=row["value"] >= 1.0)
    data["seal"] = seal(data)
    assert verify(data)
    rows = {check.row for check in verify(data, net, x, y).failures()}
    assert rows == {f"finite_list.{row['bound']}.threshold" for row in data["finite_list"]}


def test_shares_of_estimates_add_up_too() -> None:
    network = family.random_network(np.random.default_rng(5), "vanilla", d_x=4, K=2, tokens=True)
    found = plain(recert.certify(network, X, Y, bounds=("margin_ball", "theorem_2")))
    assert {bound["kind"] for bound in found["bounds"]} <= {"estimate", "order", "not applicable"}
    assert verify(found, network, X, Y)
    found["delta"] = max(bound["delta"] or 0.0 for bound in found["bounds"])
    assert "delta" in failed(verify(sealed(found), network, X, Y))


def test_printed_formulas_are_the_producer_s_word() -> None:
    rng = np.random.default_rng(5)
    U, W, V = (rng.normal(size=shape) / 4.0 for shape in ((3, 3), (3, 2), (2, 3)))
    x, y = rng.uniform(-0.5, 0.5, (60, 6, 2)), rng.integers(0, 2, 60)
    network = recert.networks.network.vanilla(U, W, V, input_kind="real")
    found = recert.certify(network, x, y, max_length=6, input_bound=1.0)
    printed = [b for b in found.bounds if b.kind == "order" and b.value is not None]
    answer = verify(found, network, x, y)
    said = {check.row: check.how for check in answer.checks}
    assert answer and printed
    assert {said[f"{bound.name}.value"] for bound in printed} == {"not checked"}
