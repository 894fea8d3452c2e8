"""The ledger: every hypothesis that some statement uses, with its status and the evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from recert.certificates.certificate import Assumption
from recert.certificates.hypotheses import SAMPLE, Status
from recert.errors import InputError
from recert.networks.margins import MarginTable
from recert.networks.network import MarginForm, Network
from recert.networks.norm_class import HELD, Cap
from recert.samples.leakage import REPEATED, Between, Within
from recert.samples.sample import Enforced, Sample
from recert.sensitivities.sensitivity import sensitivity
from recert.utils import validation


def input_bound(network: Network, sample: Sample, declared: float | Enforced | None) -> float:
    """B_x: 1 for tokens, what is declared, or else the largest norm seen."""
    if network.input_kind == "onehot":
        if declared is not None and not (isinstance(declared, (int, float)) and declared == 1):
            raise InputError(
                f"input_bound is {declared}; tokens are one-hot vectors of norm 1, leave it out"
            )
        return 1.0
    if declared is None:
        return float(sample.largest_norm)
    return float(declared.value if isinstance(declared, Enforced) else declared)


def input_bound_row(
    network: Network, sample: Sample, declared: float | Enforced | None
) -> Assumption:
    """How far B_x is known."""
    value, seen = input_bound(network, sample, declared), float(sample.largest_norm)
    if network.input_kind == "onehot":
        return _input_row(value, "proved")
    if declared is None:
        return _input_row(value, "estimated")
    if seen > value * HELD:
        return _input_row(value, "violated", seen)
    if isinstance(declared, Enforced):
        return _input_row(value, "enforced")
    return _input_row(value, "declared", seen)


def _input_row(bound: float, status: Status, largest: float | None = None) -> Assumption:
    return Assumption("input_bound", status, {"value": bound, "largest": largest})


def horizon(sample: Sample, at: object, max_length: int | None) -> int:
    """T: the step that is read, what is declared, or else the longest sequence seen."""
    if isinstance(at, int):
        return at
    return sample.longest if max_length is None else max_length


def horizon_row(network: Network, sample: Sample, at: object, max_length: int | None) -> Assumption:
    """How far T is known."""
    T = horizon(sample, at, max_length)
    if isinstance(at, int):
        return _steps_row(T, "enforced" if network.two_way else "declared", read_at=at)
    if max_length is None:
        return _steps_row(T, "estimated")
    return _steps_row(T, "enforced", cut=sample.truncated, longest=sample.longest)


def _steps_row(steps: int, status: Status, **known: int) -> Assumption:
    facts = {"steps": steps, "read_at": None, "cut": None, "longest": None}
    return Assumption("horizon", status, facts | known)


def caps_row(network: Network, form: MarginForm, caps: Mapping[str, Cap] | None) -> Assumption:
    """Whether the trained network lies within the class, and whether the class was paid for."""
    if caps is None:
        return Assumption("caps", "proved", {"broken": []})
    broken = []
    for raw, block in zip(network.blocks(), form.blocks(), strict=True):
        held, cap = min(raw.norm_bound(), block.norm_bound()), caps[block.name]
        found = [("norm", held, cap.norm)]
        if cap.row is not None:
            found.append(("row norm", block.matrix_norm("row_sum"), cap.row))
        if cap.l1 is not None:
            found.append(("l1 norm", block.matrix_norm("l1"), cap.l1))
        broken += [
            [block.name, what, float(norm), float(limit)]
            for what, norm, limit in found
            if norm > limit * HELD
        ]
    return Assumption("caps", "violated" if broken else "declared", {"broken": broken})


def recipe_rows(tried: int, of: str = SAMPLE) -> tuple[Assumption, Assumption]:
    """That recipe and step were fixed before looking at the sample, or at these units of it."""
    return (
        Assumption("architecture", "declared", {"tried": tried, "of": of}),
        Assumption("step", "declared"),
    )


def common_rows(table: MarginTable, *, tried: int, margin: float | None) -> list[Assumption]:
    """The rows that do not depend on norms."""
    slack, largest = float(table.slack), float(np.abs(table.sorted_margins[[0, -1]]).max())
    known = slack if math.isfinite(slack) else None
    return [
        *recipe_rows(tried),
        Assumption("margin", "proved" if margin is None else "declared", {"gamma": margin}),
        Assumption("l1_caps", "proved"),
        Assumption("floats", "proved", {"slack": known, "largest_margin": largest}),
        Assumption("enclosures", "proved"),
    ]


def encoding_row(encoding: str | int, of: str = SAMPLE) -> Assumption:
    """Whether the encoding of inputs is a choice that the sample made, or these units of it."""
    status: Status = "violated" if encoding == "learnt" else "declared"
    return Assumption("encoding", status, {"encoding": encoding, "of": of})


def settings_row() -> Assumption:
    """That nobody tried other values of what is not paid for, and kept the best."""
    return Assumption("settings", "declared")


def holdout_row(role: str, overlap: Between, own: Within, *, why: str = "") -> Assumption:
    """Whether the held-out units were used for anything else, and are draws themselves."""
    facts = {
        "role": role,
        "why": validation.line("holdout_why", why),
        "shared": overlap.shared,
        "held_out": overlap.held_out,
        "fault": overlap.kind or None,
        "own_fault": own.kind or None,
    }
    status: Status = "estimated" if role == "checking" else "declared"
    if overlap.suspicious or own.suspicious:
        status = "violated"
    return Assumption("holdout", status, facts)


def draws_row(
    draws: str, recurring: Within, *, population: int | None, prior_units: int | None = None
) -> Assumption:
    """In what sense the units are independent draws; ``prior_units`` is how many made the prior."""
    # A list may hold what is alike; that it was drawn many times over is another thing.
    of_list = population is not None and not draws
    fault = recurring.kind if recurring.kind == REPEATED or not of_list else ""
    facts = {
        "words": validation.line("draws", draws),
        "population": population,
        "prior_units": prior_units,
        "sequences": recurring.sequences,
        "distinct": recurring.distinct,
        "shift": recurring.by if fault else 0,
        "fault": fault or None,
    }
    return Assumption("iid", "violated" if fault else "declared", facts)


def together_rows(names: Sequence[str], share: float) -> tuple[Assumption, ...]:
    """That networks were certified together, each at its share of δ; nothing for one alone."""
    if len(names) < 2:
        return ()
    return (Assumption("together", "proved", {"names": list(names), "share": share}),)


def program_row(length: int, sha256: str) -> Assumption:
    """That the network is what a file of so many bytes says, and nothing else."""
    return Assumption("program", "proved", {"bytes": length, "sha256": sha256})


def prior_row(network: Network, initial: Network | None) -> Assumption:
    """Whether the prior's centre may depend on the sample."""
    if initial is None:
        return Assumption("prior", "proved", {"centre": "zero", "same": []})
    same = [
        trained.name
        for trained, start in zip(network.blocks(), initial.blocks(), strict=True)
        if trained.value.any() and np.allclose(trained.value, start.value, rtol=1e-4, atol=0.0)
    ]
    status: Status = "violated" if same else "declared"
    return Assumption("prior", status, {"centre": "initial weights", "same": same})


def rounding_slack(network: Network, steps: int, input_bound: float) -> float:
    """η ≥ |computed margin − exact margin|: √2·‖ỹ − y‖, from the same walk as sensitivities.

    The walk's norms are enlarged at every operation by more than its roundings, so that they bound
    what is computed as well as what is exact; local errors are charged at these norms.
    """
    log_error = float(
        sensitivity(network, steps=steps, input_bound=input_bound, computed=True).log_rounding
    )
    if log_error > 700.0:
        return math.inf
    return math.sqrt(2.0) * math.exp(log_error) * 1.01
