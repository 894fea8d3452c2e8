"""The ledger: every hypothesis that some statement uses, with its status and the evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recert import norms
from recert.caps import HELD, Cap
from recert.certificate import SOUND, Assumption, Bound, Kind, Status
from recert.errors import InputError
from recert.margins import MarginTable
from recert.network import Network
from recert.recurrence import Between, Shifted, Within
from recert.sample import Enforced, Sample
from recert.sensitivities import sensitivity


def input_bound_row(
    network: Network, sample: Sample, declared: float | Enforced | None
) -> tuple[float, Assumption]:
    """B_x and how far it is known."""
    if network.input_kind == "onehot":
        if declared is not None and not (isinstance(declared, (int, float)) and declared == 1):
            raise InputError(
                f"input_bound is {declared}; tokens are one-hot vectors of norm 1, leave it out"
            )
        return 1.0, _input_row(1.0, "proved", "tokens are one-hot vectors of norm 1")
    seen = sample.largest_norm
    if declared is None:
        evidence = "read off the sample; a certificate needs input_bound, fixed before looking"
        return seen, _input_row(seen, "estimated", evidence)
    if isinstance(declared, Enforced) and seen <= declared.value * HELD:
        return declared.value, _input_row(
            declared.value, "enforced", "inputs are scaled into the ball as part of the model"
        )
    if isinstance(declared, Enforced):
        declared = declared.value
    if seen > declared * HELD:
        return declared, _input_row(
            declared, "violated", f"the sample holds an input of norm {seen:.6g}"
        )
    return declared, _input_row(declared, "declared", f"declared; largest norm seen is {seen:.6g}")


def _input_row(bound: float, status: Status, evidence: str) -> Assumption:
    short = f"{bound:g}"
    exact = short if float(short) == bound else repr(bound)
    statement = f"every input has Euclidean norm at most {exact}, fixed before looking"
    return Assumption("input_bound", statement, status, evidence)


def horizon_row(
    network: Network, sample: Sample, at: object, max_length: int | None
) -> tuple[int, Assumption]:
    """T and how far it is known."""
    T: int
    status: Status
    if isinstance(at, int) and network.two_way:
        T, status = at, "enforced"
        evidence = f"the loss is read at step {at}; inputs are cut there, as part of the model"
    elif isinstance(at, int):
        T, status, evidence = at, "declared", f"the loss is read at step {at}, nothing later counts"
    elif max_length is None:
        T, status = sample.longest, "estimated"
        evidence = "read off the sample; a certificate needs max_length, fixed before looking"
    elif sample.truncated:
        T, status = max_length, "enforced"
        evidence = f"{sample.truncated} longer sequences were cut, as part of the model"
    else:
        T, status = max_length, "enforced"
        evidence = f"longer inputs are cut as part of the model; longest seen {sample.longest}"
    return T, Assumption(
        "horizon", f"the network reads at most {T} steps, fixed before looking", status, evidence
    )


def caps_row(network: Network, form: Network, caps: Mapping[str, Cap] | None) -> Assumption:
    """Whether the trained network lies within the class, and whether the class was paid for."""
    statement = "the norms of the weights are at most the caps"
    if caps is None:
        return Assumption(
            "caps", statement, "proved", "measured, rounded up to a grid, and paid for"
        )
    broken = []
    for raw, block in zip(network.blocks(), form.blocks(), strict=True):
        held = min(raw.norm_bound(), block.norm_bound())
        cap = caps[block.name]
        if held > cap.norm * HELD:
            broken.append(f"{block.name} has norm {held:.6g} > {cap.norm:.6g}")
        for what in ("row", "l1"):
            limit = getattr(cap, what)
            if limit is not None and (norm := _other_norm(block.value, what)) > limit * HELD:
                broken.append(f"{block.name} has {what} norm {norm:.6g} > {limit:.6g}")
    if broken:
        return Assumption("caps", statement, "violated", "; ".join(broken))
    return Assumption("caps", statement, "declared", "declared before training; all hold")


def _other_norm(value: NDArray[np.float64], what: str) -> float:
    bound = norms.row_sum_norm_bound if what == "row" else norms.l1_norm_bound
    return bound(value.reshape(len(value), -1))


def recipe_rows(tried: int, fixed: str) -> tuple[Assumption, Assumption]:
    """That recipe and step were fixed beforehand; ``fixed`` says so where nothing was tried."""
    chosen = f"the recipe was one of {tried:,} fixed beforehand; the choice is paid for"
    return (
        Assumption(
            "architecture",
            "the architecture was fixed beforehand, or its choice is paid for",
            "declared",
            fixed if tried == 1 else chosen,
        ),
        Assumption(
            "step",
            "the step at which the loss is read was fixed beforehand",
            "declared",
            "declared by the user",
        ),
    )


def common_rows(table: MarginTable, *, tried: int, margin: float | None) -> list[Assumption]:
    """The rows that do not depend on norms."""
    row: tuple[Status, str] = (
        ("proved", "chosen on a grid after looking, and paid for")
        if margin is None
        else ("declared", f"γ = {margin:g} was declared before looking")
    )
    fixed = "the architecture and training recipe were fixed before looking at the sample"
    rows = [
        *recipe_rows(tried, fixed),
        Assumption("margin", "the margin γ was fixed, or its choice is paid for", *row),
        Assumption(
            "l1_caps",
            "the entrywise l1 norms of the weights are at most their caps",
            "proved",
            "measured, rounded up to a grid, and paid for, where not declared",
        ),
    ]
    return [*rows, _floats_row(table), _enclosures_row()]


def _floats_row(table: MarginTable) -> Assumption:
    slack, scale = table.slack, float(np.abs(table.sorted_margins[[0, -1]]).max())
    statement = "margins of the real-number network differ from the float64 ones by at most η"
    if not math.isfinite(slack) or slack > scale:
        return Assumption(
            "floats",
            statement,
            "proved",
            "η exceeds the largest margin: float64 cannot tell this network's margins apart, "
            "and every unit is counted as an error",
        )
    return Assumption(
        "floats", statement, "proved", f"η = {slack:.3g}, a forward-error bound, added to γ"
    )


def _enclosures_row() -> Assumption:
    return Assumption(
        "enclosures",
        "what moves of the weights can do was bounded at the trained network, roundings included",
        "proved",
        "by enclosures of every value, forward and back (theory 4d)",
    )


def encoding_row(
    encoding: str | int, *, units: str = "sample", who: str = "declared by the user"
) -> Assumption:
    """Whether the encoding of inputs is a choice that the sample made, or these units of it."""
    statement = f"the encoding of inputs was fixed before looking at the {units}"
    if encoding == "learnt":
        evidence = (
            "learnt from the sample (a vocabulary, a normaliser), which nothing here pays for"
        )
        return Assumption("encoding", statement, "violated", evidence)
    if encoding == "fixed" or encoding == 1:
        return Assumption("encoding", statement, "declared", who)
    statement = (
        "the encoding of inputs was one of a number fixed beforehand; the choice is paid for"
    )
    return Assumption(
        "encoding", statement, "declared", f"one of {encoding:,}, declared by the user"
    )


def holdout_row(role: str, overlap: Between, copies: Shifted, *, why: str = "") -> Assumption:
    """Whether the held-out units were used for anything else."""
    statement = "the held-out units are independent draws that were used for nothing else"
    seen = (
        f"{overlap.shared:,} of {overlap.held_out:,} held-out sequences occur in the sample, "
        f"{copies.told('of it')}"
    )
    if overlap.suspicious or copies.blatant:
        return Assumption("holdout", statement, "violated", f"{seen}, more than chance explains")
    if role == "checking":
        why = why or "may have been seen before"
        return Assumption("holdout", statement, "estimated", f"for checking: {why}; {seen}")
    return Assumption("holdout", statement, "declared", f"{why or 'declared by the user'}; {seen}")


def draws_row(
    draws: str, repeated: Within, copies: Shifted, *, population: int | None, discrete: bool
) -> Assumption:
    """In what sense the units are independent draws."""
    seen = (
        f"{repeated.distinct:,} of {repeated.sequences:,} sequences are distinct, "
        f"{copies.told('of other units')}"
    )
    if population is not None and not draws:
        return Assumption(
            "iid",
            f"the sample was drawn without replacement from a list of {population:,} units, of "
            "which the statements speak",
            "declared",
            f"declared by the user; {seen}",
        )
    statement = "the units of the sample are independent draws from the distribution of new units"
    if copies.blatant:
        why = "windows of one text are one unit: pass groups"
        return Assumption("iid", statement, "violated", f"{why}; {seen}, at a shift of {copies.by}")
    if repeated.tiled and not discrete:
        return Assumption("iid", statement, "violated", f"most sequences are repeated; {seen}")
    of_list = "" if population is None else f", drawn without replacement from {population:,}"
    evidence = f"{draws or 'declared by the user'}{of_list}; {seen}"
    return Assumption("iid", statement, "declared", evidence)


def together_rows(names: Sequence[str], share: float) -> tuple[Assumption, ...]:
    """That networks were certified together, each at its share of δ; nothing for one alone."""
    if len(names) < 2:
        return ()
    statement = (
        f"this is one of {len(names)} networks certified together; each statement holds at its "
        "share of δ, so all hold at once with probability 1 − δ, and the best may be chosen after "
        "looking"
    )
    evidence = f"a share of {share:.6g} each, for {', '.join(names)}"
    return (Assumption("together", statement, "proved", evidence),)


def program_row(length: int, sha256: str) -> Assumption:
    """That the network is what a file of so many bytes says, and nothing else."""
    return Assumption(
        "program",
        f"the network is the decoding of a file of {length:,} bytes, in which nothing but the "
        "file is read",
        "proved",
        f"decoded here, and coded again to the same bytes (sha256 {sha256[:16]}…)",
    )


def prior_row(network: Network, initial: Network | None) -> Assumption:
    """Whether the prior's centre may depend on the sample."""
    statement = "the prior's centre was fixed before looking at the sample"
    if initial is None:
        return Assumption("prior", statement, "proved", "the centre is zero")
    same = [
        trained.name
        for trained, start in zip(network.blocks(), initial.blocks(), strict=True)
        if trained.value.any() and np.allclose(trained.value, start.value, rtol=1e-4, atol=0.0)
    ]
    if same:
        return Assumption(
            "prior", statement, "violated", f"blocks {', '.join(same)} are the trained ones"
        )
    return Assumption("prior", statement, "declared", "the initial weights, as declared")


def grade(bound: Bound, rows: Sequence[Assumption]) -> Kind:
    """``certificate`` only if every hypothesis that the bound needs is sound."""
    status = {row.id: row.status for row in rows}
    return "certificate" if all(status[need] in SOUND for need in bound.needs) else "estimate"


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
