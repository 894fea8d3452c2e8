"""Random honest certificates over everything that `certify` accepts, with what `verify` needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import family
import recert
from recert import compression
from recert.compression import CodedBlock, Grid, program_of, save_program
from recert.networks.forward import network_predictor
from recert.networks.network import Block, Network
from recert.networks.norm_class import Cap
from recert.pac_bayes import assign_roles, certify_posterior, part_digest
from recert.pac_bayes.posterior import around
from recert.samples.sample import Reading
from recert.theorems import THEOREMS
from recert.verifier import Verification, verify

# What weights are multiplied by, block by block; ordinary networks most of the time.
SCALES = (1e-300, 1e-150, 1e-20, 1e-6, 1e6, 1e30)
LONG = ("local_ball", "occam")
# The smallest double is 5e-324.
SUBNORMAL = 1e-310


@dataclass(frozen=True)
class Honest:
    """A certificate, the model that it speaks of, its data, and how it came about."""

    certificate: Any
    model: Any
    x: Any
    y: Any
    more: Mapping[str, Any]
    told: str

    def verified(self, certificate: Any = None) -> Verification:
        """At level full."""
        found = self.certificate if certificate is None else certificate
        return verify(found, self.model, self.x, self.y, **self.more)


def honest(seed: int, folder: Path, *, large: bool = False) -> Honest:
    """One of every kind: a network, now and then a program or a posterior.

    ``large`` goes to d_h = 128 and T = 1,000.
    """
    rng = np.random.default_rng(seed)
    kind = rng.choice(["network", "program", "posterior"], p=[0.84, 0.08, 0.08])
    if kind == "posterior":
        return _posterior(rng, large)
    network, told = _network(rng, large)
    path: Any = network
    if kind == "program":
        network, path = _program(rng, network, folder / f"{seed}.rcz")
        told += ", a program"
    x, y, n, options = _data(rng, network, large)
    # A certificate of a program rests on its length.
    bounds: dict[str, Any] = {"bounds": "occam"}
    if kind != "program":
        bounds = _declarations(rng, network, x, y, n, options)
    certificate = recert.certify(path, x, y, lengths=n, **options, **bounds)
    more = {
        "lengths": n, "groups": options.get("groups"), "holdout": bounds.get("holdout"),
        "initial": bounds.get("initial"),
    }  # fmt: skip
    told += f", m={len(x)}, T={x.shape[1]}, {sorted({**options, **bounds})}"
    return Honest(certificate, path, x, y, more, told)


def _one(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _network(rng: np.random.Generator, large: bool) -> tuple[Network, str]:
    cell = _one(rng, *family.CELLS)
    simple = cell in family.SIMPLE
    options: dict[str, Any] = {
        "K": int(rng.integers(2, 6)),
        "bias": bool(rng.integers(2)),
        "scale": float(rng.choice([0.3, 1.0, 2.5])),
        "read": _one(rng, "step", "step", "final", "mean"),
        "layers": _one(rng, 1, 1, 1, 2),
        "d_h": int(_one(rng, 4, 8, 16)),
    }
    if simple:
        options |= {"tokens": bool(rng.integers(2)), "two_way": rng.random() < 0.3}
        options |= {"hidden": 3 * _one(rng, 0, 0, 1), "encoder": 3 * _one(rng, 0, 0, 1)}
        options["head_activation"] = _one(
            rng, "identity", "relu", "leaky_relu", "elu", "tanh", "sigmoid"
        )
        if large:
            options["d_h"] = int(_one(rng, 32, 64, 128))
    else:
        options["d_h"] = 4
    if options.get("tokens") and rng.integers(2):
        options["embedding"] = 3
    if cell == "lstm":
        options["proj"] = 2 * _one(rng, 0, 0, 1)
    if cell in ("vanilla", "conv"):
        options["activation"] = _one(rng, "tanh", "relu")
    network = family.random_network(rng, cell, **options)
    told = f"{cell} {options}"
    if rng.random() < 0.35:
        name = _one(rng, *(block.name for block in network.blocks()))
        factor = _one(rng, 0.0, SUBNORMAL, *SCALES)
        if options.get("activation") == "relu":
            factor = min(factor, 1e6)  # else its outputs overflow, and are refused
        network = changed(network, lambda block: factor if block.name == name else 1.0)
        told += f", {name} times {factor:g}"
    if rng.random() < 0.1:
        network = changed(network, lambda block: 0.0 if block.name == "V" else 1.0)
        told += ", V = 0"
    return network, told


def changed(network: Network, factor: Any) -> Network:
    """The network with blocks multiplied, ``factor`` being a function of the block."""
    values = {block.name: block.value * factor(block) for block in network.blocks()}
    return with_values(network, values)


def with_values(network: Any, values: Mapping[str, Any]) -> Any:
    """The same structure with other weights."""
    if isinstance(network, Block):
        return replace(network, value=values[network.name])
    if isinstance(network, tuple):
        return tuple(with_values(part, values) for part in network)
    if isinstance(network, Mapping):
        return {key: with_values(part, values) for key, part in network.items()}
    if hasattr(network, "__dataclass_fields__"):
        fields = {
            name: with_values(getattr(network, name), values)
            for name, field in network.__dataclass_fields__.items()
            if field.init
        }
        return replace(network, **fields)
    return network


def _data(
    rng: np.random.Generator, network: Network, large: bool
) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Sequences, labels, lengths, and how they are read: groups, at, max_length, input bound."""
    m = int(_one(rng, 1, 12, 60)) if large else int(_one(rng, 1, 30, 200))
    T = int(_one(rng, 60, 300, 1000)) if large else int(_one(rng, 1, 5, 20, 60))
    options: dict[str, Any] = {"max_length": T}
    x: Any = rng.integers(0, network.d_x, (m, T))
    if network.input_kind == "real":
        x = rng.standard_normal((m, T, network.d_x)) * _one(rng, 1.0, 1.0, 1e-3, 30.0)
        x = x.astype(_one(rng, np.float32, np.float64))
        norm = float(np.linalg.norm(x.astype(float), axis=-1).max())
        options["input_bound"] = _one(rng, None, norm * 1.5, norm * 1.5, recert.Enforced(norm / 2))
    n = rng.integers(1, T + 1, m) if rng.integers(2) else None
    at: Any = "last"
    if network.read == "step":
        at = _one(rng, "last", "average", max(1, T // 2))
        if isinstance(at, int):
            n = None
            options.pop("max_length")
    options["at"] = at
    if rng.integers(4) == 0:
        options["groups"] = rng.integers(0, m // 2 + 1, m)
    full = np.full(m, T) if n is None else n
    with np.errstate(all="ignore"):
        y = network_predictor(network)(x.astype(float) if x.ndim == 3 else x, full, at)
    y = y.argmax(axis=-1)
    y = np.where(rng.random(y.shape) < 0.15, rng.integers(0, network.K, y.shape), y)
    if at == "average":
        y = np.where(np.arange(T) < full[:, None], y, -1)
    return x, y, n, options


def _declarations(
    rng: np.random.Generator, network: Network, x: Any, y: Any, n: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """Caps, margins, lists, held-out units, statements."""
    more: dict[str, Any] = {}
    if rng.integers(3) == 0:
        room = _one(rng, 1.1, 3.0)
        more["caps"] = {
            b.name: Cap(
                b.norm_bound() * room + 1e-12,
                None
                if b.norm == "operator" or rng.integers(2)
                else float(np.abs(b.matrix()).sum(1).max() * 1.01 + 1e-12),
                float(np.abs(b.matrix()).sum() * room + 1e-12) if rng.integers(2) else None,
            )
            for b in network.margin_form().blocks()
        }
    for name, value in (("margin", 0.3), ("tried", 5), ("encoding", 3), ("draws", "as draws"),
                        ("population", 3 * len(x))):  # fmt: skip
        if rng.integers(3) == 0:
            more[name] = value
    if rng.integers(4) == 0:
        more["initial"] = changed(network, lambda _: rng.uniform(0.5, 0.9))
    held = max(1, len(x) // 3)
    if rng.integers(3) == 0 and "groups" not in options:
        other = _other(rng, x)
        more["holdout"] = (other[:held], y[:held], None if n is None else n[:held])
        more["holdout_role"] = _one(rng, "checking", "certificate", "certificate")
    # The local ball follows every entry of the losses through the network, which takes long.
    quick = tuple(theorem.name for theorem in THEOREMS if theorem.name not in LONG)
    everything = "all" if x.shape[0] * x.shape[1] <= 400 else quick
    more["bounds"] = _one(
        rng, everything, everything, ("margin_ball", "theorem_3_gaussian"), "theorem_2"
    )
    if more.get("holdout_role") == "certificate" and rng.integers(2):
        more["bounds"] = "held_out"
    return more


def _other(rng: np.random.Generator, x: Any) -> Any:
    """Sequences like these, drawn anew."""
    if x.ndim == 2:
        return rng.permuted(x, axis=1)
    return (rng.standard_normal(x.shape) * (np.abs(x).mean() * 0.3)).astype(x.dtype)


def _program(rng: np.random.Generator, network: Network, path: Path) -> tuple[Network, Path]:
    values = {
        block.name: CodedBlock((Grid(rng.integers(-2, 3, size=block.shape), 1, -2),))
        for block in network.blocks()
    }
    program = program_of(network, values)
    save_program(program, path)
    return compression.load_program(path).network(), path


def _posterior(rng: np.random.Generator, large: bool) -> Honest:
    cell = _one(rng, *family.SIMPLE)
    two_way = bool(rng.integers(2))
    network = family.random_network(
        rng, cell, d_x=4, d_h=int(_one(rng, 4, 32)) if large else 4, tokens=True, two_way=two_way,
        read="final" if two_way else "step",
    )  # fmt: skip
    m, T, m_0 = 240, int(_one(rng, 3, 40)) if large else 6, 80
    x = rng.integers(0, 4, (m, T))
    y = network_predictor(network)(x, np.full(m, T), "last").argmax(axis=-1)
    y = np.where(rng.random(m) < 0.15, rng.integers(0, network.K, m), y)
    reading = Reading("onehot", 4, network.K, "last", T)
    seen = assign_roles(x, y, reading, m_0=m_0, digest=None).seen
    tempered = bool(rng.integers(2))
    posterior = around(
        network, m_0, part_digest(seen), 0.1, temperature=0.1 if tempered else None,
        index=2 if tempered else None,
    )  # fmt: skip
    options: dict[str, Any] = {"repetitions": 2}
    if rng.integers(2):
        options["tried"] = 4
    if rng.integers(2):
        options["population"] = 5000
    if rng.integers(2):
        options["holdout"] = (rng.integers(0, 4, (60, T)), rng.integers(0, network.K, 60), None)
    found = certify_posterior(posterior, x, y, max_length=T, **options)
    more = {"holdout": options.get("holdout")}
    return Honest(found, posterior, x, y, more, f"posterior {cell}, {sorted(options)}")
