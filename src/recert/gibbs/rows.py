"""The ledger of a Gibbs certificate: what it rests on, and how far that is known."""

from __future__ import annotations

import numpy as np

from recert import ledger
from recert.case import Declared
from recert.certificate import Assumption
from recert.gibbs.measure import Held, fixed_losses
from recert.gibbs.roles import DEVIATIONS, Roles, drift
from recert.hypotheses import COUNTED
from recert.posterior import Posterior
from recert.recurrence import between, joined
from recert.sample import At, Reading


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
        *ledger.recipe_rows(declared.tried, COUNTED),
        ledger.encoding_row(declared.encoding, COUNTED),
        ledger.settings_row(),
        _prior_row(posterior, roles, reading.at),
        _roles_row(roles),
        Assumption("draws", "declared"),
    ]
    if held is not None:
        seen = joined([roles.seen.traces, roles.rest.traces])
        units = np.concatenate([roles.seen.units, roles.rest.units + roles.seen.m])
        own = held.part.recurring
        overlap = between(seen, held.part.traces, units, held.part.units, of_held=own)
        rows.append(ledger.holdout_row(declared.holdout_role, overlap, own))
    return tuple(rows)


def _draws_row(roles: Roles, declared: Declared) -> Assumption:
    return ledger.draws_row(
        declared.draws,
        roles.rest.recurring,
        population=declared.population,
        prior_units=roles.seen.m,
    )


def _prior_row(posterior: Posterior, roles: Roles, at: At) -> Assumption:
    """That the prior knows the first units alone: declared, unless its own errors contradict."""
    centre = posterior.prior.centre
    on_rest = fixed_losses(centre, roles.rest, at)
    found = drift(on_rest)
    facts = {
        "units": roles.seen.m,
        "own": float(fixed_losses(centre, roles.seen, at).mean()),
        "rest": float(on_rest.mean()),
        "deviations": found if found > DEVIATIONS else None,
    }
    return Assumption("prior", "violated" if found > DEVIATIONS else "declared", facts)


def _roles_row(roles: Roles) -> Assumption:
    shared = roles.shared
    facts = {
        "units": roles.seen.m,
        "shared": shared.shared,
        "further": shared.held_out,
        "fault": shared.kind or None,
    }
    return Assumption("roles", "violated" if shared.suspicious else "enforced", facts)
