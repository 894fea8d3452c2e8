"""The independent verifier: it confirms what the producer derives, and nothing that was touched."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

pytest.importorskip("flint")

from flint import arb, arb_mat, ctx

import family
import recert
from recert.certificates.schema import seal
from recert.certification.record import describe_network
from recert.compression import CodedBlock, Grid, program_of, save_program
from recert.data import SyntheticLanguage
from recert.errors import FileError, InputError
from recert.networks.forward import network_predictor
from recert.networks.layers import group_average, layer_of
from recert.networks.network import Block, Head, Network
from recert.networks.norm_class import Cap
from recert.pac_bayes import assign_roles, certify_posterior, part_digest
from recert.pac_bayes.posterior import Posterior, around, save_posterior
from recert.samples.sample import Reading
from recert.sensitivities.sensitivity import sensitivities
from recert.verifier import Verification, balls, calculus, horizon, structure, verify
from recert.verifier import balls as matrices

LANGUAGE = SyntheticLanguage(letters=3, max_length=6, min_length=2, rule="majority", noise=0.2)


# What no bound rests on.
DESCRIPTIVE = {"network.gates"}


def named(found: Verification) -> set[str]:
    return {check.row for check in found.failures()}


# Certificates of every kind.

TRAINED: dict[str, dict[str, Any]] = {
    "vanilla": {},
    "vanilla, caps": {"caps": {"U": 0.9, "W": 3.0, "V": 3.0}},
    "mgu": {"cell": "mgu"},
    "gru": {"cell": "gru"},
    "lstm, two layers": {"cell": "lstm", "layers": 2, "bias": True},
    "conv": {"cell": "conv"},
    "gru, two-way": {"cell": "gru", "bidirectional": True},
    "lstm, caps": {"cell": "lstm", "caps": {"U": 0.5, "W": 1.0, "V": 3.0}},
}


@cache
def trained(kind: str) -> tuple[Network, Any]:
    pytest.importorskip("torch")
    from recert.training import train

    options = TRAINED[kind]
    data = recert.data.load("synthetic", m=300, seed=3)
    done = train(data, d_h=4, epochs=12, batch=60, learning_rate=0.05, **options)
    network, caps = done.model.recert_network(), done.caps or None
    found = recert.certify(
        network, data.sequences, data.labels, lengths=data.lengths, max_length=data.max_length,
        caps=caps, holdout=(data.sequences[:50], data.labels[:50], data.lengths[:50]), tried=3,
        encoding=2, holdout_role="checking",
    )  # fmt: skip
    return network, found


@pytest.mark.parametrize("kind", TRAINED)
def test_certificates_of_trained_networks_stand(kind: str) -> None:
    network, found = trained(kind)
    assert found.kind == "certificate"
    for result in (verify(found), verify(found.to_json(), network)):
        assert result and result.first_failure is None, str(result)
    assert "stands at level model" in str(result) and "taken as given" in str(result)
    assert all(not c.decisive for c in result.checks if c.how == "not checked")


def random_certificate(seed: int) -> tuple[Network, Any]:
    """Any cell, any declarations."""
    rng = np.random.default_rng(seed)
    cell = family.CELLS[int(rng.integers(len(family.CELLS)))]
    simple = cell in family.SIMPLE
    options: dict[str, Any] = {
        "layers": int(rng.integers(1, 3)),
        "two_way": simple and bool(rng.integers(2)),
        "K": int(rng.integers(2, 5)),
        "bias": bool(rng.integers(2)),
        "scale": float(rng.uniform(0.1, 1.2)),
        "read": ["step", "final", "mean"][int(rng.integers(3))],
        "d_h": 4,
    }
    if simple:
        options |= {"tokens": bool(rng.integers(2)), "hidden": 3 * int(rng.integers(2))}
        options |= {"encoder": 3 * int(rng.integers(2))}
    if options.get("tokens") and rng.integers(2):
        options["embedding"] = 3
    if cell == "lstm":
        options["proj"] = 2 * int(rng.integers(2))
    if cell in ("vanilla", "conv"):
        options["activation"] = ["tanh", "relu"][int(rng.integers(2))]
    network = family.random_network(rng, cell, **options)
    m, T = int(rng.choice([1, 8, 40])), int(rng.choice([1, 3, 12]))
    x = rng.integers(0, 4, (m, T))
    if network.input_kind == "real":
        x = rng.normal(size=(m, T, 4))
    y, more = rng.integers(0, network.K, m), {"max_length": T}
    if network.input_kind == "real":
        more["input_bound"] = [None, 50.0, recert.Enforced(1.3)][int(rng.integers(3))]
    if rng.integers(2):
        more["caps"] = {
            b.name: Cap(
                b.norm_bound() * 1.1,
                None if b.norm == "operator" else float(np.abs(b.matrix()).sum(1).max() * 1.01),
                float(np.abs(b.matrix()).sum()) if rng.integers(2) else None,
            )
            for b in network.margin_form().blocks()
        }
    for name, value in (("margin", 0.3), ("tried", 5), ("encoding", 3), ("draws", "as draws"),
                        ("population", 3 * m), ("initial", network)):  # fmt: skip
        if rng.integers(2):
            more[name] = value
    if more.get("initial") is network:
        more["initial"] = family.random_network(rng, cell, **options)
    if rng.integers(3) == 0:
        more["groups"] = np.arange(m) // 2
    elif rng.integers(2):
        more["holdout"] = (x[: m // 2 + 1], y[: m // 2 + 1])
        more["holdout_role"] = ["checking", "certificate"][int(rng.integers(2))]
    bounds = "all" if rng.integers(3) else ("margin_ball", "theorem_3_gaussian")
    found = recert.certify(network, x, y, **more, bounds=bounds)
    return network, (found, more.get("initial"))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9))
def test_random_certificates_stand(seed: int) -> None:
    network, (found, initial) = random_certificate(seed)
    result = verify(found)
    assert result, str(result)
    result = verify(found, network, initial=initial)
    assert result, str(result)


@pytest.mark.slow
def test_thousands_of_certified_values_stand() -> None:
    values = 0
    for seed in range(1000):
        network, (found, initial) = random_certificate(10**9 + seed)
        assert verify(found, network, initial=initial), seed
        values += sum(bound.kind == "certificate" for bound in found.bounds)
    print(f"\n{values} certified values in 1,000 random certificates, none below what follows")
    assert values > 2000


def odd_networks() -> dict[str, Network]:
    """Pooled heads, filter banks in the head, columns that are always zero."""
    rng = np.random.default_rng(0)
    maps = family.random_network(rng, "conv", d_h=4, d_x=4, K=6)
    pool = group_average(6, 3)
    bank = Block("V", rng.normal(size=(3, 2, 3)) * 0.3, "operator", positions=2)
    W, V = rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    W[:, 0], V[:, 3:] = 0.0, 0.0
    values = {"U": rng.normal(size=(3, 3)) * 0.3, "W": W, "b": rng.normal(size=3)}
    layer = layer_of("vanilla", values, reads_tokens=True, zero_columns=(0,))
    two_way = family.random_network(rng, "gru", tokens=True, two_way=True, d_h=3, d_x=6)
    one_side = Head(Block("V", V, "spectral", (3, 4, 5)))
    return {
        "pooled": Network(maps.layers, Head(maps.head.V, pool=pool), "real"),
        "pooled bank": Network(maps.layers, Head(bank, pool=pool), "real"),
        "padding": Network((layer,), Head(Block("V", rng.normal(size=(3, 3)), "spectral"))),
        "one side": Network(two_way.layers, one_side, read="final"),
    }


@pytest.mark.parametrize("name", odd_networks())
def test_certificates_of_odd_networks_stand(name: str) -> None:
    network, rng = odd_networks()[name], np.random.default_rng(1)
    real = network.input_kind == "real"
    x = rng.normal(size=(50, 5, 4)) if real else rng.integers(0, 6, (50, 5))
    more = {"input_bound": recert.Enforced(2.0)} if real else {}
    found = recert.certify(network, x, rng.integers(0, 3, 50), max_length=5, **more)
    assert verify(found, network), str(verify(found, network))


def test_joint_certificates_and_torch_modules_stand() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 6, (50, 5)), rng.integers(0, 3, 50)
    networks = [odd_networks()[name] for name in ("padding", "one side")]
    both = recert.certify_all(networks, x, y, max_length=5)
    for found, network in zip(both.certificates, networks, strict=True):
        assert verify(found, network) and "together" in {a.id for a in found.assumptions}
    torch.manual_seed(0)
    module = (
        torch.nn.Embedding(6, 3, padding_idx=0),
        torch.nn.LSTM(3, 4, batch_first=True, bidirectional=True),
        torch.nn.Linear(8, 3),
    )
    found = recert.certify(module, x, y, max_length=5)
    assert verify(found, module), str(verify(found, module))


def posterior_case(**more: Any) -> tuple[Posterior, Any]:
    data, held = LANGUAGE.sample(900, 1), LANGUAGE.sample(300, 2)
    rng = np.random.default_rng(0)
    net = family.random_network(rng, "gru", d_x=3, tokens=True, two_way=True, read="final")
    reading = Reading("onehot", 3, 3, "last", 6)
    seen = assign_roles(data.sequences, data.labels, reading, m_0=300, digest=None).seen
    posterior = around(net, 300, part_digest(seen), 0.1, temperature=0.1, index=2)
    wider = {name: value + 0.1 for name, value in posterior.log_scales.items()}
    posterior = Posterior(posterior.mean, wider, posterior.prior)
    options: dict[str, Any] = {
        "holdout": (held.sequences, held.labels, held.lengths), "tried": 4, "encoding": 3,
        "repetitions": 2,
    }  # fmt: skip
    found = certify_posterior(
        posterior, data.sequences, data.labels, lengths=data.lengths, max_length=6,
        **(options | more),
    )  # fmt: skip
    return posterior, found


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"population": 5000, "draws": "drawn on the spot"},
        {"population": 5000},
        {"repetitions": 3},
        {"tried": 1, "encoding": "fixed", "holdout": None},
        {"encoding": "learnt"},
    ],
    ids=str,
)
def test_certificates_of_posteriors_stand(more: dict[str, Any], tmp_path: Path) -> None:
    posterior, found = posterior_case(**more)
    folder = save_posterior(posterior, tmp_path / "q")
    for result in (verify(found), verify(found, posterior), verify(found, folder)):
        assert result, str(result)
    further = {name: value + 0.5 for name, value in posterior.log_scales.items()}
    failed = named(verify(found, Posterior(posterior.mean, further, posterior.prior)))
    assert "pac_bayes_kl.terms.KL" in failed and "pac_bayes_kl.choices.posterior_digest" in failed
    assert not verify(found, posterior.mean)


def program_case(folder: Path) -> tuple[Path, Any]:
    rng = np.random.default_rng(11)
    network = family.random_network(rng, "gru", d_x=3, tokens=True)
    values = {
        block.name: CodedBlock((Grid(rng.integers(-2, 3, size=block.shape), 1, -2),))
        for block in network.blocks()
    }
    path = folder / "n.rcz"
    save_program(program_of(network, values), path)
    data = LANGUAGE.sample(2000, 1)
    found = recert.certify(
        path, data.sequences, data.labels, lengths=data.lengths, bounds=("occam",)
    )
    return path, found


def test_certificates_of_programs_stand(tmp_path: Path) -> None:
    path, found = program_case(tmp_path)
    assert found.best.name == "occam" and found.kind == "certificate"
    assert verify(found) and verify(found, path), str(verify(found, path))
    from recert.compression import load_program

    bare = verify(found, load_program(path).network())
    assert named(bare) == {"network.program"} and bare.first_failure.how == "not checked"
    data = found.to_json()
    for what, value in (("bytes", 3), ("sha256", "0" * 64)):
        changed = copy.deepcopy(data)
        changed["network"]["program"][what] = value
        assert f"network.program.{what}" in named(verify(resealed(changed), path))
        assert what == "sha256" or "occam.choices.bytes" in named(verify(resealed(changed)))


# What was touched.


def resealed(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"seal": seal(data)}


def fresh(kind: str = "vanilla") -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(trained(kind)[1].to_json()))
    return data


def bound_of(data: dict[str, Any], name: str) -> dict[str, Any]:
    return next(bound for bound in data["bounds"] if bound["name"] == name)


def refresh(data: dict[str, Any]) -> dict[str, Any]:
    """The plain words and the best bound as they follow from the rest, sealed."""
    from recert.certificates.certificate import Certificate

    data = resealed(data)
    again = Certificate.from_json(data).to_json()
    return resealed(data | {"statement": again["statement"], "best": again["best"]})


def lowered(data: dict[str, Any], name: str, value: float) -> dict[str, Any]:
    bound = bound_of(data, name)
    bound["value"] = bound["terms"]["value"] = value
    bound["log10"] = math.log10(value) + 1e-12
    bound["vacuous"] = value >= 1.0
    return refresh(data)


def certified(data: dict[str, Any]) -> list[str]:
    return [b["name"] for b in data["bounds"] if b["kind"] == "certificate" and b["value"]]


@pytest.mark.parametrize("kind", ["vanilla", "vanilla, caps", "lstm, caps"])
def test_a_value_below_what_follows_is_caught_for_every_statement(kind: str) -> None:
    """The largest double below the derived upper end falls; the smallest above it stands."""
    whole = verify(fresh(kind))
    derived = {c.row: c.derived for c in whole.checks}
    for name in certified(fresh(kind)):
        limit = float(derived[f"{name}.value"])
        below = limit
        for _ in range(2):
            below = math.nextafter(below, 0.0)
        found = verify(lowered(fresh(kind), name, below))
        assert f"{name}.value" in named(found), name
        above = verify(lowered(fresh(kind), name, limit))
        assert f"{name}.value" not in named(above), (name, str(above))


def test_values_of_gibbs_statements_are_caught() -> None:
    plain = posterior_case()[1].to_json()
    for name in ("pac_bayes_kl", "pac_bayes_temperature", "held_out", "majority_vote"):
        data = json.loads(json.dumps(plain))
        limit = {c.row: c.derived for c in verify(data).checks}[f"{name}.value"]
        below = math.nextafter(math.nextafter(float(limit), 0.0), 0.0)
        assert f"{name}.value" in named(verify(lowered(data, name, below)))


GIBBS_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "KL": (lambda d: bound_of(d, "pac_bayes_kl")["terms"].update(KL=1e3),
           "pac_bayes_kl.terms.rate"),
    "limit": (lambda d: bound_of(d, "pac_bayes_kl")["terms"].update(gibbs_error_limit=0.0),
              "pac_bayes_kl.terms.gibbs_error_limit"),
    "draws": (lambda d: bound_of(d, "pac_bayes_kl")["terms"].update(monte_carlo_draws=1e3),
              "pac_bayes_kl.terms.monte_carlo_draws"),
    "delta of draws": (lambda d: bound_of(d, "pac_bayes_kl")["terms"].update(
        monte_carlo_delta=0.009), "delta"),
    "rate of the limit": (lambda d: bound_of(d, "pac_bayes_temperature")["terms"].update(
        monte_carlo_rate=0.999), "pac_bayes_temperature.terms.gibbs_error_limit"),
    "disagreement": (lambda d: bound_of(d, "pac_bayes_kl")["terms"].pop("monte_carlo_rate"),
                     "pac_bayes_kl.terms.disagreement"),
    "temperature": (lambda d: bound_of(d, "pac_bayes_temperature")["choices"].update(
        temperature=0.0), "pac_bayes_temperature.choices.temperature"),
    "unpaid": (lambda d: bound_of(d, "pac_bayes_kl").update(cost=[]), "pac_bayes_kl.cost"),
    "vote": (lambda d: bound_of(d, "majority_vote")["terms"].update(gibbs=0.01),
             "majority_vote.terms.gibbs"),
    "predictor": (lambda d: bound_of(d, "pac_bayes_kl").update(predictor="network"),
                  "pac_bayes_kl.predictor"),
    "prior, proved": (lambda d: next(a for a in d["assumptions"] if a["id"] == "prior").update(
        status="proved"), "assumptions.prior.facts"),
    "needs": (lambda d: bound_of(d, "pac_bayes_kl")["needs"].remove("draws"),
              "pac_bayes_kl.needs"),
}  # fmt: skip


@cache
def gibbs_json() -> str:
    return json.dumps(posterior_case()[1].to_json())


@pytest.mark.parametrize("name", GIBBS_CHANGES)
def test_what_was_changed_in_a_gibbs_certificate_is_named(name: str) -> None:
    mutate, row = GIBBS_CHANGES[name]
    data = json.loads(gibbs_json())
    assert verify(data)
    mutate(data)
    found = verify(resealed(data))
    assert not found and row in named(found), str(found)


def change(path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def changed(data: dict[str, Any]) -> None:
        place: Any = data
        *way, last = path.split("/")
        for key in way:
            if isinstance(place, list):
                place = place[int(key)] if key.isdigit() else next(
                    row for row in place if key in (row.get("name"), row.get("id"),
                                                    row.get("what"), row.get("block"))
                )  # fmt: skip
            else:
                place = place[key]
        key = int(last) if last.isdigit() else last
        place[key] = to(place[key]) if callable(to) else to

    return changed


BALL = "bounds/margin_ball"
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "value": (change(f"{BALL}/value", lambda v: v * 0.9), "bounds"),
    "log10": (change(f"{BALL}/log10", lambda v: v - 1e-6), "margin_ball.log10"),
    "log10, up": (change(f"{BALL}/log10", lambda v: v + 1e-7), "margin_ball.log10"),
    "log10, far up": (change(f"{BALL}/log10", lambda v: v + 1e-5), "schema"),
    "vacuous": (change(f"{BALL}/vacuous", lambda v: not v), "bounds"),
    "gamma": (change(f"{BALL}/choices/gamma", lambda v: v * 0.5), "margin_ball.choices.gamma"),
    "gamma's index": (change(f"{BALL}/cost/margin γ/index", lambda v: v + 1),
                      "margin_ball.cost.margin γ.value"),
    "gamma's nats": (change(f"{BALL}/cost/margin γ/nats", lambda v: math.nextafter(v, 0) - 1e-12),
                     "margin_ball.cost.margin γ.nats"),
    "cap's index": (change(f"{BALL}/cost/cap of U/index", 0), "margin_ball.cost.cap of U.value"),
    "cap's value": (change(f"{BALL}/cost/cap of U/value", lambda v: v * 2),
                    "margin_ball.cost.cap of U.value"),
    "class": (change("network/caps/U/norm", lambda v: v * 0.99), "margin_ball.cost.cap of U.value"),
    "class, unpaid": (change("network/caps/U/measured", False), "margin_ball.cost"),
    "l1 cap": (change("network/caps/U/l1", lambda v: v / 2), "theorem_3_l1.cost.l1 cap of U.value"),
    "a row of costs": (change(f"{BALL}/cost", lambda rows: rows[1:]), "margin_ball.cost"),
    "tried": (change("sample/declared/tried", 2), "assumptions.architecture.facts.tried"),
    "encoding": (change("sample/declared/encoding", "fixed"),
                 "assumptions.encoding.facts.encoding"),
    "margin declared": (change("sample/declared/margin", 0.25), "assumptions.margin.facts.gamma"),
    "m": (change("sample/m", 10**6), "margin_ball.terms.confidence_nats"),
    "T": (change("sample/T", 4), "assumptions.horizon.facts.steps"),
    "input bound": (change("sample/input_bound/value", 0.5), "sample.input_bound.value"),
    "delta": (change("delta", 0.001), "delta"),
    "bound's delta": (change(f"{BALL}/delta", 0.009), "delta"),
    "a radius": (change(f"{BALL}/choices/log_radii/0", lambda v: v + 0.5),
                 "margin_ball.choices.gamma"),
    "a risk": (change(f"{BALL}/terms/hard_margin_risk", lambda v: v + 0.5 / 300),
               "margin_ball.terms.hard_margin_risk"),
    "complexity": (change(f"{BALL}/terms/complexity_nats", lambda v: v * 0.999),
                   "margin_ball.terms.complexity_nats"),
    "confidence": (change(f"{BALL}/terms/confidence_nats", lambda v: v * 0.999),
                   "margin_ball.terms.confidence_nats"),
    "rate": (change(f"{BALL}/terms/rate", lambda v: v * 0.999), "margin_ball.terms.rate"),
    "a term removed": (lambda d: bound_of(d, "margin_ball")["terms"].pop("rate"),
                       "margin_ball.terms.rate"),
    "deviation": (change("bounds/theorem_2/terms/deviation", lambda v: v * 0.999),
                  "theorem_2.terms.deviation"),
    "range": (change("bounds/theorem_2/choices/log_range", lambda v: v - 1e-9),
              "theorem_2.choices.log_range"),
    "scale": (change("bounds/theorem_2_single_scale/choices/eta_over_gamma", 0.3),
              "theorem_2_single_scale.choices.eta_over_gamma"),
    "alpha": (change("bounds/theorem_3_l1/choices/alpha", lambda v: v * 8),
              "theorem_3_l1.terms.log10_complexity"),
    "sigma": (change("bounds/theorem_3_gaussian/choices/log_sigma/0", lambda v: v + 0.3),
              "theorem_3_gaussian.choices.gamma"),
    "prior scale": (change("bounds/theorem_3_gaussian/cost/prior scale of U/value",
                           lambda v: v * 1.5), "theorem_3_gaussian.cost.prior scale of U.value"),
    "local radius": (change("bounds/local_ball/choices/log_radii/0", lambda v: v + 0.1),
                     "local_ball.choices.log_radii"),
    "local radius index": (change("bounds/local_ball/cost/radius of V, in caps/index",
                                  lambda v: v + 1), "local_ball.cost.radius of V, in caps.value"),
    "lost": (change("bounds/local_ball/terms/posterior_risk", 0.0),
             "local_ball.terms.posterior_risk"),
    "needs": (change(f"{BALL}/needs", lambda v: [n for n in v if n != "caps"]),
              "margin_ball.needs"),
    "status, too strong": (change("assumptions/iid/status", "proved"), "assumptions.iid.status"),
    "status, weaker": (change("assumptions/iid/status", "violated"), "assumptions.iid.facts"),
    "kind": (change("bounds/held_out/kind", "certificate"), "held_out.kind"),
    "kind, modest": (change(f"{BALL}/kind", "estimate"), "margin_ball.kind"),
    "kind, order": (
        lambda d: bound_of(d, "margin_ball").update(kind="order", delta=None, needs=[], cost=[]),
        "margin_ball.kind",
    ),
    "predictor": (change(f"{BALL}/predictor", "gibbs"), "margin_ball.predictor"),
    "an assumption removed": (
        lambda d: d.update(assumptions=[a for a in d["assumptions"] if a["id"] != "caps"]),
        "margin_ball.needs",
    ),
    "an unknown hypothesis": (change("assumptions/iid/id", "iidd"), "assumptions.iidd.status"),
    "best": (change("best", "theorem_2"), "best"),
    "statement": (change("statement", "With probability 1 the error is 0."), "statement"),
    "a printed formula": (
        lambda d: bound_of(d, "printed_theorem_2").update(
            kind="certificate", delta=0.001, needs=["iid"]
        ),
        "printed_theorem_2.kind",
    ),
    "a block's shape": (change("network/blocks/U/shape", [4, 5]), "network"),
    "a block's role": (change("network/blocks/U/role", "layers.0.W"), "network"),
    "parameters": (change("network/parameters", 3), "network"),
    "a cell": (change("network/layers/0/cell", "mgu"), "network"),
    "classes": (change("network/classes", 2), "network"),
    "reading": (change("sample/reading", "finite list"), "sample.reading"),
    "zero_one": (change("sample/zero_one", False), "sample.zero_one"),
    "a hypothesis in other words": (
        change("assumptions/iid/statement", "the sample is a sample"),
        "assumptions.iid.statement",
    ),
    "an encoding that looked": (
        change(
            "assumptions/encoding/statement",
            "the encoding of inputs was fixed before looking at the units that the bound counts",
        ),
        "assumptions.encoding.statement",
    ),
    "a term too many": (
        lambda d: bound_of(d, "margin_ball")["terms"].update(units=1e9),
        "margin_ball.terms",
    ),
    "rounding": (change("sample/float_slack", lambda v: v / 2), "sample.float_slack"),
    "a norm": (change("network/blocks/U/norms/spectral", lambda v: v * 2), "sample.float_slack"),
    "unknown field": (lambda d: d.update(extra=1), "schema"),
}  # fmt: skip


def test_a_hole_in_the_table_would_show() -> None:
    assert verify(resealed(fresh()))


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_named(name: str) -> None:
    mutate, row = CHANGES[name]
    data = fresh()
    if name == "classes" and data["network"]["classes"] == 2:
        mutate = change("network/classes", 3)
    mutate(data)
    found = verify(resealed(data))
    assert not found and row in named(found), str(found)
    assert found.first_failure is not None and found.first_failure.row in str(found)


def test_seals_and_schemas(tmp_path: Path) -> None:
    data = fresh()
    path = tmp_path / "c.json"
    path.write_text(json.dumps(data))
    assert verify(path) and recert.load_certificate(path)
    data["delta"] = 0.02
    assert named(verify(data)) == {"seal"}
    path.write_text(json.dumps(data))
    with pytest.raises(FileError, match="seal does not fit"):
        recert.load_certificate(path)
    with pytest.raises(InputError, match="certify the network again"):
        verify(resealed(fresh() | {"schema": "recert-certificate-2"}))
    for wrong in ({}, [], 5):
        with pytest.raises(InputError):
            verify(wrong)
    with pytest.raises(InputError, match="pass the model"):
        verify(fresh(), None, np.zeros((1, 1), int), np.zeros(1, int))


def test_sealing_again_passes_the_seal_alone() -> None:
    data = fresh()
    bound_of(data, "margin_ball")["terms"]["rate"] *= 0.5
    found = verify(resealed(data))
    assert named(found) == {"margin_ball.terms.rate"}


# Models.


def with_value(network: Network, name: str, change: Callable[[np.ndarray], None]) -> Network:
    from recert.compression.program import with_values

    values = {block.name: block.value.copy() for block in network.blocks()}
    change(values[name])
    return with_values(network, values)


@pytest.mark.parametrize("kind", ["vanilla", "gru", "conv"])
def test_another_model_is_noticed(kind: str) -> None:
    network, found = trained(kind)

    def nudge(value: np.ndarray) -> None:
        value.flat[1] += 1e-7

    for name in (next(network.blocks()).name, network.head.V.name):
        result = verify(found, with_value(network, name, nudge))
        assert named(result) >= {"network.digest"}
    assert named(verify(found, trained("mgu")[0])) & {"network.digest", "network.blocks"}


def test_a_network_outside_its_class_is_noticed() -> None:
    """Even where everything in the certificate was made to fit the weights."""
    network, _ = trained("vanilla, caps")

    def grow(value: np.ndarray) -> None:
        value *= 0.9 * (1 + 1e-9) / np.linalg.norm(value, 2)

    larger = with_value(network, "U", grow)
    data = fresh("vanilla, caps")
    described = describe_network(larger)
    data["network"] |= {key: described[key] for key in ("digest", "blocks")}
    data["network"]["caps"][0]["held"] = 0.9
    result = verify(resealed(data), larger)
    assert "network.caps.U.norm" in named(result), str(result)


# The calculus.


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(family.CELLS), st.sampled_from([1, 2, 17, 64, 3000]))
def test_the_calculus_agrees_with_the_producer_s(seed: int, cell: str, T: int) -> None:
    rng = np.random.default_rng(seed)
    simple = cell in family.SIMPLE
    options: dict[str, Any] = {
        "layers": int(rng.integers(1, 4)), "two_way": simple and bool(rng.integers(2)),
        "K": int(rng.integers(2, 5)), "bias": bool(rng.integers(2)),
        "scale": float(rng.uniform(0.2, 2.0)), "tokens": simple and bool(rng.integers(2)),
    }  # fmt: skip
    if simple and rng.integers(2):
        options |= {"encoder": 3, "hidden": 3}
    if cell in ("vanilla", "conv", "conv_averaged"):
        options["activation"] = ["tanh", "relu"][int(rng.integers(2))]
    if cell == "lstm":
        options["proj"] = 2 * int(rng.integers(2))
        T = min(T, 64)
    network = family.random_network(rng, cell, **options)
    form, B_x = network.margin_form(), 1.0 if network.input_kind == "onehot" else 1.7
    caps = {}
    for block in form.blocks():
        held = block.norm != "operator" and bool(rng.integers(2))
        caps[block.name] = Cap(block.norm_bound(), 0.8 * block.norm_bound() if held else None)
    theirs = sensitivities(form, [caps], steps=T, input_bound=B_x)
    with ctx.workprec(balls.PRECISION):
        own = {
            name: calculus.RecordedCap(arb(c.norm), None if c.row is None else arb(c.row))
            for name, c in caps.items()
        }
        network_read = structure.read(describe_network(network))
        mine = horizon.reach(network_read, own, T, arb(B_x))
        pairs = [(mine.N, float(theirs.log_norm[0]))]
        pairs += [(x, float(theirs.log_lambda[name][0])) for name, x in mine.lam.items()]
        for x, log in pairs:
            if x.is_zero():
                continue
            assert x.log().upper() <= arb(log) + arb(1e-9)
            assert T > 64 or x.log().lower() >= arb(log) - arb(1e-6)


@pytest.mark.parametrize("kind", ["gru", "conv", "lstm, two layers"])
def test_the_bound_on_roundings_is_the_producer_s(kind: str) -> None:
    found = {check.row: check for check in verify(fresh(kind)).checks}["sample.float_slack"]
    # The producer adds one per cent.
    assert found.recorded == pytest.approx(1.01 * found.derived, rel=1e-6)


def test_columns_outside_their_caps_are_noticed() -> None:
    rng = np.random.default_rng(0)
    network = family.random_network(rng, "vanilla", tokens=True, d_x=12, d_h=3, K=2, bias=False)
    network = with_value(network, "W", lambda W: W.__imul__(np.geomspace(1, 0.02, 12)))
    often = np.geomspace(1, 1e-4, 12)
    x = rng.choice(12, p=often / often.sum(), size=(3000, 3))
    y = network_predictor(network)(x, np.full(3000, 3), "last").argmax(1)
    found = recert.certify(network, x, y, max_length=3, bounds="local_ball")
    assert ("columns apart", 1.0) in [(c.what, c.value) for c in found["local_ball"].cost]
    assert found.risk_bound < 0.2 and verify(found, network), str(verify(found, network))
    data = json.loads(json.dumps(found.to_json()))
    place = found["local_ball"].choices["parts"].index("W[:, 0]")
    data["bounds"][0]["choices"]["log_caps"][place] -= math.log(2.0)
    assert "local_ball.choices.log_caps.W[:, 0]" in named(verify(resealed(data), network))
    data["bounds"][0]["choices"]["log_caps"][place] -= 0.1
    assert "local_ball.choices.log_caps" in named(verify(resealed(data)))


def test_long_horizons() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 4, (30, 5)), rng.integers(0, 3, 30)
    kinds = (
        ("gru", {}),
        ("vanilla", {"activation": "relu"}),
        ("vanilla", {}),
        ("lstm", {"d_h": 8}),
    )
    for cell, options in kinds:
        network = family.random_network(rng, cell, tokens=True, **options)
        found = recert.certify(network, x, y, max_length=10**6, bounds=("margin_ball", "theorem_2"))
        result = verify(found, network)
        assert result, str(result)
        assert {c.row for c in result.checks if c.how == "not checked"} <= DESCRIPTIVE


def test_stretches_bound_what_steps_reach(monkeypatch: Any) -> None:
    """After 400 steps in stretches from the 40th on: no less than step by step, and not much."""
    network = family.random_network(np.random.default_rng(2), "lstm", tokens=True, scale=0.4)
    form = structure.read(describe_network(network))
    caps = {b.name: calculus.RecordedCap(balls.ball(b.norm_bound())) for b in network.blocks()}

    def reached() -> Any:
        with ctx.workprec(balls.PRECISION):
            return horizon.output(calculus.Equations(caps), plain, 400, balls.ONE)

    plain = structure.read(describe_network(network), as_computed=True)
    exact = reached()
    monkeypatch.setattr(horizon, "SLOW", 40)
    monkeypatch.setattr(horizon, "_rises", lambda: [])
    found = reached()
    assert form.parameters < plain.parameters
    assert exact.N <= found.N <= exact.N * 1.1
    for tag, x in exact.lam.items():
        assert x <= found.lam[tag] and found.lam[tag].log() <= x.log() * 1.2 + 1, tag
    # A stretch at the norms with which it begins would be too low.
    monkeypatch.setattr(horizon._Walk, "_end", lambda self, i, N, Z, *rest: (N[i], Z[i]))
    assert any(not x <= reached().lam[tag] for tag, x in exact.lam.items())


def test_a_horizon_that_cannot_be_walked_is_not_confirmed(monkeypatch: Any) -> None:
    monkeypatch.setattr(horizon, "LONGEST", 50)
    rng = np.random.default_rng(1)
    network = family.random_network(rng, "lstm", tokens=True, bias=True)
    x, y = rng.integers(0, 4, (30, 5)), rng.integers(0, 3, 30)
    found = recert.certify(network, x, y, max_length=1000, bounds="margin_ball")
    result = verify(found)
    assert not result and result.first_failure.how == "not checked"
    assert "horizon too long" in str(result)


# Balls.


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 50))
def test_kl_inverse_is_an_upper_end(q: float, c: float) -> None:
    with ctx.workprec(balls.PRECISION), mp.workdps(60):
        p = balls.kl_inverse(arb(q), arb(c))
        x = mpf(p.str(50, radius=False))
        assert q <= x <= 1
        if 1 - x > mpf(10) ** -9:
            value = (1 - mpf(q)) * mp.log((1 - mpf(q)) / (1 - x))
            value += mpf(q) * mp.log(mpf(q) / x) if q else 0
            assert value >= mpf(c) * (1 - mpf(10) ** -25) - mpf(10) ** -25
            assert value <= mpf(c) + mpf(10) ** -15


@pytest.mark.parametrize(
    ("k", "n", "delta"), [(0, 5, 0.1), (3, 50, 0.01), (49, 50, 0.2), (5, 5, 0.1)]
)
def test_tails(k: int, n: int, delta: float) -> None:
    from scipy.stats import binom, hypergeom

    with ctx.workprec(balls.PRECISION):
        p = float(balls.binomial_limit(k, n, arb(delta)).upper())
        assert (k == n and p == 1.0) or binom.cdf(k, n, p) == pytest.approx(delta, rel=1e-9)
        N = 4 * n
        D = balls.hypergeometric_limit(k, n, N, arb(delta))
        assert hypergeom.cdf(k, N, D, n) > delta or k == n
        assert N - (n - k) == D or hypergeom.cdf(k, N, D + 1, n) <= delta


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 7), st.integers(1, 7))
def test_spectral_norms_are_decided(seed: int, rows: int, columns: int) -> None:
    A = np.random.default_rng(seed).normal(size=(rows, columns))
    norm = float(np.linalg.norm(A, 2))
    with ctx.workprec(balls.PRECISION):
        exact = matrices.balls_of(A)
        assert matrices.spectral_at_most(exact, arb(norm * (1 + 1e-12)))
        assert not matrices.spectral_at_most(exact, arb(norm * (1 - 1e-12)))


def test_large_matrices_are_decided_by_a_factor(monkeypatch: Any) -> None:
    monkeypatch.setattr(matrices, "PIVOTS", 4)
    A = np.random.default_rng(0).normal(size=(40, 30))
    norm = float(np.linalg.norm(A, 2))
    with ctx.workprec(balls.PRECISION):
        exact = matrices.balls_of(A)
        assert matrices.spectral_at_most(exact, arb(norm * (1 + 1e-8)))
        assert not matrices.spectral_at_most(exact, arb(norm * (1 - 1e-8)))
        assert matrices.spectral_at_most(arb_mat(1200, 1200), arb(1)) is None


def test_filter_banks_act_as_the_producer_s() -> None:
    from recert.numerics.norms import convolution_matrix

    bank = np.random.default_rng(0).normal(size=(2, 3, 4))
    for positions in (1, 2, 5):
        assert np.array_equal(matrices.acting(bank, positions), convolution_matrix(bank, positions))


def test_the_verifier_shares_no_arithmetic() -> None:
    import ast

    allowed = {
        "recert.errors", "recert.samples.arrays", "recert.utils.files",
        "recert.certificates.schema", "recert.certificates.certificate",
        "recert.certificates.hypotheses",
    }  # fmt: skip
    lazily = {"recert.readers", "recert.compression", "recert.pac_bayes.posterior"}
    repeated = (
        "recert.perturbation", "recert.pac_bayes", "recert.networks", "recert.samples",
        "recert.certification", "recert.readers.outcomes",
    )  # fmt: skip
    for path in Path(structure.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner = {
            id(node)
            for f in ast.walk(tree)
            if isinstance(f, ast.FunctionDef)
            for node in ast.walk(f)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("recert"):
                continue
            names = {node.module}
            if node.module in ("recert", "recert.samples", "recert.utils"):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
            names = {n for n in names if not n.startswith("recert.verifier")}
            if (
                path.name in ("repeat.py", "losses.py", "contradictions.py", "black_box.py")
                and id(node) in inner
            ):
                names = {n for n in names if not n.startswith(repeated)}
            assert names <= (allowed | lazily if id(node) in inner else allowed), (path, names)


def test_blocks_must_have_a_place() -> None:
    network = family.random_network(np.random.default_rng(0), "gru", tokens=True)
    described = describe_network(network)
    structure.read(described)
    described["blocks"].append(described["blocks"][0] | {"name": "X", "role": "layers.7.U_r"})
    described["parameters"] = sum(row["parameters"] for row in described["blocks"])
    with pytest.raises(InputError, match="no place"):
        structure.read(described)
    assert isinstance(next(network.blocks()), Block)
