"""A posterior and the whole sample in, a certificate for its Gibbs predictor out (theory, 5b)."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recert import arguments, floats, ledger
from recert.case import Declared, Role
from recert.certificate import Certificate
from recert.choices import total_nats
from recert.describe import describe_network
from recert.errors import InputError, type_of
from recert.gibbs.measure import Drawing, Held, Progress, draw, held_out, zero_one
from recert.gibbs.menu import MONTE_CARLO_SHARE, described, evaluate, finite_list, shares_of
from recert.gibbs.roles import Roles, assign_roles
from recert.gibbs.rows import rows_of
from recert.network import Network
from recert.padding import aligned, read_as, width_of
from recert.payment import shared_costs
from recert.posterior import Posterior, load_posterior
from recert.predict import check_reading
from recert.predictor import Call, Padding, predictor_row
from recert.sample import At, Reading, groups_digest
from recert.theorems.pac_bayes import GibbsSetting


@floats.usual
def certify_posterior(
    posterior: Posterior | str | Path,
    sequences: Any,
    labels: Any,
    *,
    delta: float = 0.01,
    at: At = "last",
    lengths: Any = None,
    groups: Any = None,
    max_length: int | None = None,
    repetitions: int = 4,
    monte_carlo_share: float = MONTE_CARLO_SHARE,
    seed: int = 0,
    holdout: Sequence[Any] | None = None,
    holdout_role: Role = "certificate",
    population: int | None = None,
    tried: int = 1,
    encoding: str | int = "fixed",
    draws: str = "",
    padding: Padding | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Bounds on the error of the predictor that draws fresh weights for every sequence.

    Args:
        posterior: the posterior with its prior, or the folder of a saved one.
        sequences: (m, T, d_x) reals or (m, T) integer tokens, the **whole** sample, the units that
            made the prior first and in the order of training. It is split here; the bound counts
            the others alone, and a sample whose first units are not the prior's is refused.
        labels: (m,) classes 0..K−1, or (m, T).
        delta: failure probability of everything together, Monte Carlo included.
        at: ``"last"`` valid step, ``"average"`` over valid steps, or a step 1..T.
        lengths: (m,) valid steps of padded sequences, or a (m, T) mask that is true at them.
        groups: (m,) ids; sequences of one id are one unit, and count as one draw.
        max_length: T, declared; longer sequences are cut as part of the model.
        repetitions: networks drawn for each sequence; an even number is used best.
        monte_carlo_share: δ'/δ, what the draws may fail with.
        seed: of the draws.
        holdout: ``(sequences, labels[, lengths[, groups]])`` held back.
        holdout_role: as in ``recert.certify``.
        population: N when the sample is drawn without replacement from a list of N units.
        tried: number of recipes among which this one was chosen on units that the bound counts.
        encoding: as in ``recert.certify``.
        draws: in what sense the units are independent draws, for the ledger.
        padding: as in ``recert.certify``; None takes it off.
        progress: called with the number of (sequence, repetition) pairs done.

    Raises:
        InputError: the first units are not those of the prior, none is left for the bound, or an
            argument is out of range; FileError: the posterior cannot be read.

    Source: theory, sections 5b and 6.
    """
    declared = Declared(
        delta=delta,
        at=at,
        lengths=lengths,
        groups=groups,
        max_length=max_length,
        holdout=holdout,
        holdout_role=holdout_role,
        population=population,
        tried=tried,
        encoding=encoding,
        draws=draws,
        padding=padding,
        progress=progress,
    ).checked()
    drawing = Drawing(
        arguments.whole("repetitions", repetitions),
        arguments.share("monte_carlo_share", monte_carlo_share),
        arguments.whole("seed", seed, least=0),
    )
    if isinstance(posterior, (str, Path)):
        posterior = load_posterior(posterior)
    if not isinstance(posterior, Posterior):
        raise InputError(f"{type_of(posterior)} is no posterior; pass one, or its folder")
    return _certify(posterior, sequences, labels, declared, drawing)


def _certify(
    posterior: Posterior, sequences: Any, labels: Any, declared: Declared, drawing: Drawing
) -> Certificate:
    reading = _reading(posterior.mean, declared)
    check_reading(posterior.mean, reading.at)
    prior = posterior.prior
    one = aligned(sequences, labels, declared.lengths, declared.padding, last=declared.at == "last")
    roles = assign_roles(
        one.sequences, one.labels, reading, m_0=prior.units, digest=prior.digest,
        lengths=one.lengths, groups=declared.groups,
    )  # fmt: skip
    _check_population(declared, roles)
    held = None if declared.holdout is None else held_out(posterior, reading, declared, drawing)
    told = [(one.padding, width_of(sequences)), *(() if held is None else (held.told,))]
    read = read_as(told, cut=_cut(posterior.mean, reading), radius=None)
    rows = (
        predictor_row(Call("posterior"), read),
        *rows_of(posterior, roles, reading, declared, held),
    )
    shares = shares_of(declared, drawing, posterior)
    chosen = shared_costs(declared.tried, declared.encoding)
    drawn, counted = draw(
        posterior, roles.rest, reading, drawing, shares, declared.progress, nats=total_nats(chosen)
    )
    setting = GibbsSetting(
        divergence=posterior.divergence,
        monte_carlo=drawn,
        costs=(*chosen, *prior.cost),
        temperature=prior.temperature,
        holdout=None if held is None else (held.tally.first, held.tally.units, held.zero_one),
        choices=described(posterior, drawing),
    )
    of_list = declared.population is not None and not declared.draws
    found = evaluate(setting, shares, declared, rows, of_list=of_list)
    B_x, input_row = ledger.input_bound_row(posterior.mean, roles.sample, None)
    return Certificate(
        network=describe_network(posterior.mean),
        sample={
            "m": roles.rest.m,
            "unit": "sequence" if declared.groups is None else "group of sequences",
            "reading": "finite list" if of_list else "new draws",
            "population": declared.population,
            "T": reading.max_length or _longest(roles, held),
            "padding": read.padding,
            "digest": roles.sample.digest,
            "groups": groups_digest(declared.groups, len(roles.sample.traces)),
            "input_bound": {"value": B_x, "status": input_row.status},
            "training_error": counted.mean,
            "zero_one": zero_one(roles.rest, reading.at),
            "holdout": None
            if held is None
            else {"m": held.tally.units, "error": held.tally.mean, "zero_one": held.zero_one},
            "float_slack": None,
            "declared": declared.recorded(),
        },
        at=declared.at,
        delta=declared.delta,
        assumptions=rows,
        bounds=found,
        finite_list=finite_list(found, drawn, roles, declared.population),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _reading(network: Network, declared: Declared) -> Reading:
    at, max_length = declared.at, declared.max_length
    if not isinstance(at, str):
        if max_length is not None and max_length < at:
            raise InputError(
                f"at is step {at}, beyond max_length = {max_length}; sequences are cut there"
            )
        max_length = at
    return Reading(network.input_kind, network.d_x, network.K, at, max_length)


def _cut(network: Network, reading: Reading) -> int | None:
    """T where longer sequences are cut there; what follows a step that is read may not count."""
    after = isinstance(reading.at, int) and not network.two_way
    return None if after else reading.max_length


def _longest(roles: Roles, held: Held | None) -> int:
    """Steps of the longest sequence that is read."""
    seen = roles.sample.longest
    return seen if held is None else max(seen, int(held.part.batch.lengths.max()))


def _check_population(declared: Declared, roles: Roles) -> None:
    units = roles.seen.m + roles.rest.m
    if declared.population is not None and declared.population < units:
        raise InputError(
            f"population is {declared.population}, smaller than the {units} units drawn from it"
        )
