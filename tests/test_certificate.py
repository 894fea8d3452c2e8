"""Certificates as values and as files: the JSON Schema, the round trip, no NaN, plain words."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import recert
from recert.certificates.certificate import SCHEMA, Assumption, Bound, Certificate, load_certificate
from recert.certificates.schema import certificate_schema
from recert.errors import FileError, InputError

VALIDATOR = jsonschema.Draft202012Validator(certificate_schema())
CAPS = {"U": 0.9, "W": 4.0, "V": 4.0}


def tokens(m: int = 300, T: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, (m, T))
    return x, (x[:, -1] > 1).astype(int)


def token_network(scale: float = 1.0, activation: str = "tanh", **more: object) -> recert.Network:
    U = np.array([[0.3, 0.1], [0.0, 0.2]]) * scale
    W = np.array([[-2.0, -2.0, 2.0, 2.0], [0.1, 0.2, 0.0, 0.1]]) * scale
    V = np.array([[-2.0, 0.1], [2.0, 0.0]]) * scale
    return recert.vanilla(U, W, V, activation=activation, **more)


def real_network() -> recert.Network:
    rng = np.random.default_rng(3)
    return recert.vanilla(
        rng.normal(size=(3, 3)) * 0.3,
        rng.normal(size=(3, 2)),
        rng.normal(size=(3, 3)),
        b=rng.normal(size=3) * 0.1,
        b_V=rng.normal(size=3) * 0.1,
        input_kind="real",
    )


def reals(m: int = 200, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (m, 4, 2)), rng.integers(0, 3, m)


def huge(T: int, activation: str, scale: float) -> Certificate:
    x, y = tokens(20)
    return recert.certify(token_network(scale, activation), x, y, max_length=T)


CASES = {
    "tokens, declared": lambda: recert.certify(token_network(), *tokens(), max_length=4, caps=CAPS),
    "tokens, measured": lambda: recert.certify(token_network(), *tokens(), max_length=4),
    "estimate": lambda: recert.certify(token_network(), *tokens()),
    "held out": lambda: recert.certify(
        token_network(), *tokens(), max_length=4, holdout=tokens(50, seed=9)
    ),
    "finite list": lambda: recert.certify(
        token_network(), *tokens(), max_length=4, caps=CAPS, population=400
    ),
    "finite list, as draws": lambda: recert.certify(
        token_network(), *tokens(), max_length=4, population=400, draws="regarded as draws"
    ),
    "finite list, held out": lambda: recert.certify(
        token_network(), *tokens(), max_length=4, population=400, holdout=tokens(50, seed=9)
    ),
    "tried": lambda: recert.certify(token_network(), *tokens(), max_length=4, tried=7),
    "real, estimate": lambda: recert.certify(real_network(), *reals()),
    "real, declared": lambda: recert.certify(
        real_network(), *reals(), input_bound=math.sqrt(2.0), max_length=4
    ),
    "real, enforced": lambda: recert.certify(
        real_network(), *reals(), input_bound=recert.Enforced(1.0), max_length=4
    ),
    "step": lambda: recert.certify(token_network(), *tokens(), at=2),
    "one bound": lambda: recert.certify(
        token_network(), *tokens(), max_length=4, bounds=("margin_ball",), margin=0.5
    ),
    "no bound": lambda: recert.certify(token_network(), *tokens(), bounds="held_out"),
    "groups": lambda: recert.certify(
        token_network(), *tokens(), max_length=4, groups=np.arange(300) // 3
    ),
    "all wrong": lambda: recert.certify(
        token_network(), tokens()[0], 1 - tokens()[1], max_length=4, holdout=tokens(9, seed=5)
    ),
    "one unit": lambda: recert.certify(token_network(), *tokens(1), max_length=4),
    "relu, T = 1e5": lambda: huge(100_000, "relu", 3.0),
    "tanh, T = 1e5": lambda: huge(100_000, "tanh", 3.0),
    "huge norms": lambda: huge(4, "tanh", 1e30),
    "tiny norms": lambda: huge(4, "tanh", 1e-30),
    "constant network": lambda: huge(4, "tanh", 0.0),
}


@pytest.fixture(scope="module", params=CASES)
def certificate(request: pytest.FixtureRequest) -> Certificate:
    return CASES[request.param]()


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(certificate_schema())
    assert certificate_schema()["properties"]["schema"]["const"] == SCHEMA


def test_file_is_valid_finite_and_comes_back(certificate: Certificate, tmp_path: Path) -> None:
    path = certificate.save(tmp_path / "deep" / "certificate.json")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(NaN|Infinity)\b", text)
    data = json.loads(text)
    VALIDATOR.validate(data)
    back = load_certificate(path)
    assert back.to_json() == data == certificate.to_json()
    assert back.risk_bound == certificate.risk_bound and back.kind == certificate.kind
    assert [p.name for p in path.parent.iterdir()] == ["certificate.json"]


def test_every_need_is_in_the_ledger(certificate: Certificate) -> None:
    ids = [row.id for row in certificate.assumptions]
    assert len(set(ids)) == len(ids)
    for bound in certificate.bounds:
        if bound.kind == "not applicable":
            continue
        assert set(bound.needs) <= set(ids)
        sound = all(row.sound for row in certificate.rests_on(bound))
        if bound.kind in ("certificate", "estimate"):
            assert (bound.kind == "certificate") == (sound and not bound.reason)
            assert bound.log10 is not None and not math.isnan(bound.log10)
            assert bound.value > 0


def test_log10_and_value_agree_and_log10_is_not_below(certificate: Certificate) -> None:
    for bound in certificate.bounds:
        if bound.log10 is not None and 0 < bound.value < math.inf:
            assert bound.log10 == pytest.approx(math.log10(bound.value), abs=1e-9)
            if bound.kind in ("certificate", "estimate"):
                assert bound.log10 >= math.log10(bound.value) - 1e-14


def test_best_is_the_smallest_certificate(certificate: Certificate) -> None:
    sound = [b.value for b in certificate.bounds if b.kind == "certificate"]
    if sound:
        assert certificate.kind == "certificate"
        assert certificate.risk_bound == min(1.0, *sound)
    assert certificate.kind != "order"
    assert certificate.vacuous == (certificate.risk_bound >= 1.0)


def test_plain_words_say_what_it_rests_on() -> None:
    sound = CASES["tokens, declared"]()
    assert sound.statement().startswith("With probability at least 99%")
    for row in sound.rests_on(sound.best):
        assert row.statement[1:] in sound.statement()
    assert sound.statement().endswith("The predictor is the network as given, cut at 4 steps.")
    found = CASES["estimate"]()
    weak = tuple(
        replace(b, log10=0.0, terms={**b.terms, "value": 1.0}) if b.kind == "certificate" else b
        for b in found.bounds
    )
    assert "An estimate, not a certificate" in replace(found, bounds=weak).statement()
    estimate = recert.certify(token_network(), *tokens(), bounds="margin_ball")
    assert "This is an estimate, not a certificate" in estimate.statement()
    assert "No bound" in CASES["no bound"]().statement()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(extra=1),
        lambda d: d.pop("at"),
        lambda d: d.update(schema="recert-certificate-0"),
        lambda d: d.update(delta=1.0),
        lambda d: d["bounds"][0].update(kind="bound"),
        lambda d: d["bounds"][0].update(log10=None),
        lambda d: d["bounds"][0].update(kind="not applicable"),
        lambda d: d["bounds"][0]["terms"].update(a="1"),
        lambda d: d["bounds"][0]["cost"][0].pop("nats"),
        lambda d: d["assumptions"][0].update(status="true"),
        lambda d: d["network"]["blocks"][0]["norms"].pop("spectral"),
        lambda d: d["sample"].update(m=0),
    ],
)
def test_schema_refuses(change: object) -> None:
    data = json.loads(json.dumps(CASES["tokens, declared"]().to_json()))
    VALIDATOR.validate(data)
    change(data)
    assert not VALIDATOR.is_valid(data)


def bound(kind: str = "certificate", log10: float | None = -1.0, **more: object) -> Bound:
    return Bound("b", "a bound", kind, log10, "nowhere", ("step",), 0.01, **more)


def test_a_bound_too_large_for_a_float() -> None:
    vast = bound(log10=1e6)
    assert vast.value == math.inf and vast.vacuous
    assert vast.to_json()["value"] is None and vast.to_json()["log10"] == 1e6
    assert Bound.from_json(vast.to_json()) == vast


def test_a_smaller_estimate_never_beats_a_certificate() -> None:
    rows = (Assumption("step", "declared"),)
    found = Certificate(
        {}, {}, "last", 0.1, rows, (bound("estimate", -3.0), bound(), bound("order", -9.0))
    )
    assert found.kind == "certificate" and found.risk_bound == pytest.approx(0.1)
    only_order = Certificate({}, {}, "last", 0.1, rows, (bound("order", -9.0),))
    assert only_order.best is None and only_order.risk_bound == 1.0 and only_order.vacuous


@pytest.mark.parametrize("value", [0.123449, 0.5, 0.99999999, 1e-5, 0.00994999])
@pytest.mark.parametrize("delta", [0.01, 0.3, 1e-9, 1e-15])
def test_plain_words_are_rounded_outwards(value: float, delta: float) -> None:
    """ "At most 12.34%" would be false of 0.123449, "probability at least 100%" of any δ."""
    sound = bound(log10=math.log10(value), terms={"value": value})
    rows = (Assumption("step", "declared"),)
    found = Certificate({}, {"m": 9, "unit": "u"}, "last", delta, rows, (sound,))
    words = found.statement()
    at_most = float(re.search(r"at most ([0-9.e+-]+)%", words).group(1))
    at_least = float(re.search(r"at least ([0-9.e+-]+)%", words).group(1))
    assert at_most >= 100 * value * (1 - 1e-12)
    assert at_least <= 100 * (1 - delta) * (1 + 1e-15) and at_least < 100


def test_unknown_names_are_named() -> None:
    found = CASES["one bound"]()
    with pytest.raises(InputError, match="no bound 'ball'"):
        found["ball"]
    with pytest.raises(InputError, match="no row 'sun'"):
        found.assumption("sun")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"schema": "recert-certificate-0"}',
        '{"schema": "recert-certificate-2"}',
        '{"schema": "recert-certificate-3"}',
        '{"schema": NaN}',
        "\x00\x01",
    ],
)
def test_files_that_are_no_certificate(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(FileError) as caught:
        load_certificate(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = CASES["tokens, declared"]().save(tmp_path / "c.json").read_text(encoding="utf-8")
    path = tmp_path / "cut.json"
    for length in range(0, len(whole.rstrip()) - 1, 997):
        path.write_text(whole[:length], encoding="utf-8")
        with pytest.raises(FileError):
            load_certificate(path)


def damaged(field: str, value: object) -> dict[str, object]:
    data = json.loads(json.dumps(CASES["tokens, declared"]().to_json()))
    *path, last = field.split("/")
    place = data
    for key in path:
        place = place[int(key) if key.isdigit() else key]
    place[int(last) if last.isdigit() else last] = value
    return data


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bounds", 5),
        ("bounds/0", "ball"),
        ("bounds/0/kind", "theorem"),
        ("bounds/0/log10", "0.1"),
        ("bounds/0/terms", [1]),
        ("bounds/0/terms/value", "small"),
        ("assumptions/0/status", "true"),
        ("sample", {}),
        ("sample/m", "many"),
        ("delta", "0.01"),
    ],
)
def test_files_with_wrong_values_are_refused(field: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(damaged(field, value)))
    with pytest.raises(FileError):
        load_certificate(path)


def test_unwritable_places(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    found = CASES["one bound"]()
    with pytest.raises(FileError, match="cannot write"):
        found.save(file / "certificate.json")
    with pytest.raises(FileError, match="cannot write"):
        found.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = CASES["one bound"]().save(tmp_path / "certificate.json")
    before = path.read_bytes()
    broken = Certificate({"x": math.nan}, {"m": 1, "unit": "u"}, "last", 0.1, (), (), (), "")
    with pytest.raises(ValueError):
        broken.save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_frozen() -> None:
    found = CASES["one bound"]()
    with pytest.raises(AttributeError):
        found.delta = 0.5
    with pytest.raises(AttributeError):
        found.best.kind = "certificate"


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("tokens, declared", "relu, T = 1e5", "no bound"):
        path = CASES[name]().plot(tmp_path / "ladder.png")
        assert path.read_bytes().startswith(b"\x89PNG")
