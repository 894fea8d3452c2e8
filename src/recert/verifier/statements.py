"""What the verifier knows of every statement: one row each, apart from the producer's menu."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

Kind = Callable[[Any], bool]

_ANY = frozenset({"predictor", "encoding", "step", "settings"})
_UNIVERSAL = _ANY | {"iid", "architecture"}
_CLASS = _UNIVERSAL | {"input_bound", "horizon", "caps", "margin", "floats"}
_DRAWN = _UNIVERSAL | {"prior", "roles", "draws"}


def is_float(x: Any) -> bool:
    """A finite double, and not a whole number."""
    return type(x) is float and math.isfinite(x)


def _whole(x: Any) -> bool:
    return type(x) is int and x >= 0


def _text(x: Any) -> bool:
    return isinstance(x, str)


def _list(of: Kind) -> Kind:
    return lambda x: isinstance(x, list) and all(map(of, x))


@dataclass(frozen=True)
class Row:
    """A statement.

    Args:
        title: what certificates call it.
        reference: where it is proved.
        checker: function of the verifier that derives its value, as ``module:name``.
        needs: ids of its hypotheses.
        terms: its terms.
        choices: its choices → their types.
        pays: kinds of what it owes for besides encodings (`recert.verifier.costs.expected`).
        of: whose error it bounds.
        lists: whether a sample without replacement does not weaken it.
        reasons: why it may not apply; # stands for a number.
    """

    title: str
    reference: str
    checker: str
    needs: frozenset[str]
    terms: frozenset[str]
    choices: Mapping[str, Kind] = field(default_factory=dict)
    pays: tuple[str, ...] = ("recipes",)
    of: tuple[str, ...] = ("network",)
    lists: bool = False
    reasons: tuple[str, ...] = ()

    def derive(self, *args: Any) -> Any:
        """The value, from record, bound and sheet; imported late, for checkers read this table."""
        module, name = self.checker.split(":")
        return getattr(import_module(f"recert.verifier.{module}"), name)(*args)


_TWO = "theory 4a; Theorem 2 of the paper with its constants"
_THREE = "theory 4c; Theorem 3 (3) of the paper, repaired"
_FOUR = "theory 5c; Theorem 3 (4) of the paper, repaired; Neyshabur et al. 2018"
HELD = "theory 5d; Clopper and Pearson 1934"
_NO_L1 = "no block has a cap on its entrywise l1 norm"
_SIZE = "sequences: #, steps: #, wrong classes: #, parts: #, weights: #"
_RAMP = frozenset({"ramp_risk", "log10_complexity", "deviation"})
_HARD = frozenset({"hard_margin_risk", "complexity_nats", "confidence_nats", "rate"})
_GAUSS = frozenset({"hard_margin_risk", "KL", "confidence_nats", "rate"})
_SAID_OF_DRAWS = frozenset({
    "units", "KL", "gibbs_error_drawn", "gibbs_error_limit", "monte_carlo_draws",
    "monte_carlo_delta", "confidence_nats", "rate", "disagreement", "monte_carlo_rate",
})  # fmt: skip
GAMMA: dict[str, Kind] = {"gamma": is_float}
_RADII = GAMMA | {"log_radii": _list(is_float)}
_SIGMA = GAMMA | {
    "Z": is_float, "log_sigma": _list(is_float), "prior_center": _text,
    "distances": _list(is_float),
}  # fmt: skip
_PRIOR = {
    "posterior_digest": _text, "prior_units": _whole, "prior_digest": _text,
    "prior_scale": is_float, "mean_scales": _list(is_float), "repetitions": _whole, "seed": _whole,
}  # fmt: skip
_CAPS = ("recipes", "caps", "margin")

STATEMENTS: dict[str, Row] = {
    "theorem_2": Row(
        "Theorem 2 with constants, paper’s range", _TWO, "class_bounds:theorem_2",
        _CLASS, _RAMP, GAMMA | {"log_range": is_float}, _CAPS,
    ),
    "theorem_2_clipped": Row(
        "Theorem 2 with constants, clipped range", _TWO, "class_bounds:theorem_2",
        _CLASS, _RAMP, GAMMA | {"log_range": is_float}, _CAPS,
    ),
    "theorem_2_single_scale": Row(
        "Theorem 2 with constants, single scale", _TWO, "class_bounds:single_scale",
        _CLASS, frozenset({"ramp_risk", "scale", "deviation", "log_cover"}),
        GAMMA | {"eta_over_gamma": is_float}, _CAPS,
    ),
    "theorem_3_l1": Row(
        "Theorem 3 (3) repaired, entropy integral", _THREE, "class_bounds:theorem_3_l1",
        _CLASS | {"l1_caps"}, _RAMP, GAMMA | {"alpha": is_float}, (*_CAPS, "l1 caps"),
        reasons=(_NO_L1,),
    ),
    "theorem_3_l1_cover": Row(
        "Theorem 3 (3) repaired, covering form", _THREE, "class_bounds:theorem_3_l1_cover",
        _CLASS | {"l1_caps"}, _HARD, GAMMA, (*_CAPS, "l1 caps"), reasons=(_NO_L1,),
    ),
    "theorem_3_gaussian": Row(
        "Theorem 3 (4) repaired", _FOUR, "network_bounds:gaussian",
        (_CLASS - {"caps"}) | {"prior"}, _GAUSS, _SIGMA, ("recipes", "margin", "prior scales"),
        lists=True,
    ),
    "theorem_3_gaussian_paper": Row(
        "Theorem 3 (4) repaired, the paper’s one σ", _FOUR, "network_bounds:gaussian",
        (_CLASS - {"caps"}) | {"prior"}, _GAUSS, _SIGMA, ("recipes", "margin", "scale"), lists=True,
    ),
    "margin_cover": Row(
        "margin ball, covering form", "theory 4b, covering form; Chernoff–Hoeffding",
        "class_bounds:margin_cover", _CLASS, _HARD, _RADII, _CAPS, lists=True,
    ),
    "margin_ball": Row(
        "margin ball (PAC-Bayes-kl)", "theory 4b; Maurer 2004", "class_bounds:margin_ball",
        _CLASS, _HARD, _RADII, _CAPS, lists=True,
    ),
    "local_ball": Row(
        "local margin ball (PAC-Bayes-kl)", "theory 4d; Maurer 2004", "network_bounds:local_ball",
        _UNIVERSAL | {"caps", "enclosures"},
        frozenset({"posterior_risk", "lost_outright", "undecided", "draws", "draws_lost",
                   "delta_of_draws", "complexity_nats", "confidence_nats", "rate"}),
        {"parts": _list(_text), "log_radii": _list(is_float), "log_caps": _list(is_float)},
        ("recipes", "caps", "radii"),
        lists=True,
        reasons=(
            "the sequences came in batches that can be read only once",
            "it reads one output a sequence; here losses are averaged over steps",
            "a block sums more than # products, more than roundings allow for",
            f"skipped as hopeless: to first order no radii promise a value below # ({_SIZE})",
            f"skipped: it takes about # s of one core, the budget is # s ({_SIZE})",
            f"skipped: it needs about # GiB of memory, the limit is # GiB ({_SIZE})",
        ),
    ),
    "occam": Row(
        "Occam (length of the file)", "theory 5a; Chernoff–Hoeffding and Kraft",
        "network_bounds:occam", _ANY | {"iid", "program"},
        frozenset({"error", "complexity_nats", "confidence_nats", "rate"}),
        {"bytes": _whole, "bits": _whole}, (), lists=True,
        reasons=("the network is not the decoding of a file; `recert compress` writes one",),
    ),
    "held_out": Row(
        "held-out units (Clopper–Pearson)", HELD, "network_bounds:held_out",
        _ANY | {"holdout"}, frozenset({"error", "units"}), {}, (), ("network", "gibbs"),
        reasons=("no held-out units were given",),
    ),
    "held_out_losses": Row(
        "held-out losses (kl, or variance)", "theory 5e; Maurer and Pontil 2009, Theorem 4",
        "black_box:held_out_losses", frozenset({"predictor", "holdout", "settings"}),
        frozenset({"error", "variance", "units", "low", "high", "loss"}),
    ),
    "pac_bayes_kl": Row(
        "PAC-Bayes-kl (Gibbs)", "theory 5b; Maurer 2004, Langford and Seeger 2001",
        "posterior_bounds:pac_bayes_kl", _DRAWN, _SAID_OF_DRAWS, _PRIOR,
        of=("gibbs",), lists=True,
    ),
    "pac_bayes_temperature": Row(
        "PAC-Bayes at a fixed temperature (Gibbs)", "theory 5b; Catoni 2007",
        "posterior_bounds:pac_bayes_temperature", _DRAWN, _SAID_OF_DRAWS,
        _PRIOR | {"temperature": is_float}, of=("gibbs",), lists=True,
        reasons=("the prior fixed no temperature",),
    ),
    "majority_vote": Row(
        "plurality vote, twice the Gibbs limit", "theory 5b", "posterior_bounds:majority_vote",
        _DRAWN, frozenset({"gibbs", "units"}), {"from": _text}, of=("majority vote",), lists=True,
    ),
}  # fmt: skip
# Of priors that are centred somewhere, and of posteriors, whose value comes from draws.
GAUSSIAN = tuple(name for name, row in STATEMENTS.items() if row.choices is _SIGMA)
PAC_BAYES = tuple(name for name, row in STATEMENTS.items() if row.of == ("gibbs",))
LISTED = {name for name, row in STATEMENTS.items() if row.lists}
