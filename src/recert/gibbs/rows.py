"""The ledger of a Gibbs certificate: what it rests on, and how far that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recert import ledger
from recert.case import Declared
from recert.certificate import Assumption
from recert.gibbs.measure import Held, fixed_losses
from recert.gibbs.roles import DEVIATIONS, Roles, drift
from recert.posterior import Posterior
from recert.recurrence import between, shifted_between, shifted_within, within
from recert.sample import At, Reading

COUNTED = "units that the bound counts"
FIXED = f"the architecture and the recipe for the prior were fixed before looking at the {COUNTED}"
REHEARSED = "declared by the user, or chosen on the units that made the prior"


def rows_of(
    posterior: Posterior,
    roles: Roles,
    reading: Reading,
    declared: Declared,
    held: Held | None,
) -> tuple[Assumption, ...]:
    """Every hypothesis that some statement on the Gibbs predictor uses."""
    rows = [
        _draws_row(roles, declared),
        *ledger.recipe_rows(declared.tried, FIXED),
        ledger.encoding_row(declared.encoding, units=COUNTED, who=REHEARSED),
        _prior_row(posterior, roles, reading.at),
        _roles_row(roles),
        Assumption(
            "draws",
            "weights are drawn independently, from normal distributions, for a posterior and from "
            "a seed that were fixed before",
            "declared",
            "by a pseudo-random generator, in float32; the divergence is that of the float32 means "
            "and scales",
        ),
    ]
    if held is not None:
        seen = np.concatenate([roles.seen.prints, roles.rest.prints])
        anchors = np.concatenate([roles.seen.anchors, roles.rest.anchors])
        discrete = reading.input_kind == "onehot"
        overlap = between(seen, held.part.prints, discrete=discrete)
        copies = shifted_between(anchors, held.part.anchors)
        rows.append(ledger.holdout_row(declared.holdout_role, overlap, copies))
    return tuple(rows)


def _draws_row(roles: Roles, declared: Declared) -> Assumption:
    rest = roles.rest
    row = ledger.draws_row(
        declared.draws,
        within(rest.prints),
        shifted_within(rest.anchors, None if declared.groups is None else rest.units),
        population=declared.population,
        discrete=rest.batch.x.ndim == 2,
    )
    if row.sound and roles.tiled:
        why = "every sequence of the bound's part occurs as often as another: it was repeated"
        return replace(row, status="violated", evidence=f"{why}; {row.evidence}")
    if declared.population is not None and not declared.draws:
        return replace(row, statement=f"{row.statement}, less the units that made the prior")
    return row


def _prior_row(posterior: Posterior, roles: Roles, at: At) -> Assumption:
    """That the prior knows the first units alone: declared, unless its own errors contradict."""
    centre, m_0 = posterior.prior.centre, roles.seen.m
    statement = (
        f"the prior, its centre, scale and temperature, was made from the first {m_0:,} units alone"
    )
    on_rest = fixed_losses(centre, roles.rest, at)
    own = float(fixed_losses(centre, roles.seen, at).mean())
    errors = f"its centre errs on {own:.2%} of them and on {float(on_rest.mean()):.2%} of the rest"
    found = drift(on_rest)
    if found > DEVIATIONS:
        evidence = (
            f"{errors}, but on fewer of the first ones of the rest than of the last, by "
            f"{found:.1f} deviations: it has seen more than it says"
        )
        return Assumption("prior", statement, "violated", evidence)
    return Assumption(
        "prior",
        statement,
        "declared",
        f"declared where it was trained, no file can prove it; {errors}",
    )


def _roles_row(roles: Roles) -> Assumption:
    shared, copies = roles.shared, roles.copies
    seen = (
        f"the first {roles.seen.m:,} units have the digest that the prior was made with; "
        f"{shared.shared:,} of {shared.held_out:,} further sequences occur among them, "
        f"{copies.told('of theirs')}"
    )
    statement = "no unit that made the prior is counted by the bound"
    if shared.suspicious or copies.blatant:
        return Assumption("roles", statement, "violated", f"{seen}, more than chance explains")
    return Assumption("roles", statement, "enforced", seen)
