"""The pipeline: a trained network and its sample in, a certificate out."""

from __future__ import annotations

import datetime
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from recert import adapters, arguments, ledger
from recert.caps import HELD, Cap, class_of, complete_caps
from recert.certificate import Assumption, Bound, Certificate
from recert.choices import Cost, FiniteChoice, split_delta
from recert.describe import (
    describe_gates,
    describe_network,
    describe_sample,
    finite_list,
    only_for_lists,
)
from recert.errors import InputError
from recert.gates import SIGMOIDS, Gates, classwide_gates, measured_gates
from recert.margins import MarginTable, margin_table
from recert.network import Network
from recert.orders import order_bounds
from recert.predict import Predictor, check_reading, network_predictor
from recert.recurrence import Prints, between, within
from recert.sample import At, Enforced, Reading, Sample
from recert.theorems import THEOREMS, Setting, Theorem

# Gates are reported on this many sequences, and class-wide up to this many steps.
GATE_SEQUENCES, GATE_STEPS = 1024, 500


def certify(
    model: Any,
    sequences: Any,
    labels: Any = None,
    *,
    delta: float = 0.01,
    at: At = "last",
    lengths: Any = None,
    groups: Any = None,
    input_bound: float | Enforced | None = None,
    max_length: int | None = None,
    caps: Mapping[str, Cap | float] | None = None,
    margin: float | None = None,
    initial: Any = None,
    holdout: Sequence[Any] | None = None,
    holdout_role: Literal["certificate", "checking"] = "certificate",
    population: int | None = None,
    tried: int = 1,
    draws: str = "",
    bounds: str | Sequence[str] = "all",
    progress: Any = None,
    recurrent: Any = None,
    head: Any = None,
    embedding: Any = None,
) -> Certificate:
    """Bounds on the error of a trained recurrent network on new sequences.

    Args:
        model: a torch module, a ``Network``, or the path of a network on disk.
        sequences: (m, T, d_x) real or (m, T) integer tokens, numpy or torch, padded on the right
            (tokens with −1), or an iterable of batches.
        labels: (m,) classes 0..K−1, or (m, T) for losses at a step or averaged over steps.
        delta: failure probability of the whole certificate, split over its bounds.
        at: ``"last"`` valid step, ``"average"`` over valid steps, or a step 1..T.
        lengths: (m,) valid steps of padded sequences.
        groups: (m,) ids; sequences of one id (a document) are one independent unit.
        input_bound: B_x, declared before looking; ``Enforced(B)`` scales inputs into the ball as
            part of the model; None estimates it from the sample, which is no certificate.
        max_length: T, declared; longer sequences are cut as part of the model.
        caps: block name → ``Cap`` or norm, declared before training; None measures and pays.
        margin: γ, declared before looking; None chooses it on a grid and pays.
        initial: the network before training, as the centre of Gaussian priors.
        holdout: ``(sequences, labels[, lengths[, groups]])`` held back.
        holdout_role: ``"certificate"`` declares that the held-back units were used for nothing
            else; ``"checking"`` says that they may have been seen: their limit is an estimate.
        population: N when the sample is drawn without replacement from a list of N units; the
            statements then speak of that list, or, where ``draws`` says in what sense units are
            independent draws, of new draws with the list's statement beside.
        tried: number of recipes among which this one was chosen on this sample.
        draws: in what sense the units are independent draws, for the ledger.
        bounds: ``"all"`` or names of certified statements; δ is split over these.
        progress: called with the number of sequences done, for progress bars.
        recurrent: the recurrent part of a torch model, or its name, where it cannot be found.
        head: the linear head, likewise.
        embedding: the embedding, likewise.

    Raises:
        InputError, UnsupportedModelError, ParityError, FileError: with one line that says what is
        wrong, where, and what to do.

    Source: theory, sections 4 to 7.
    """
    theorems = _menu(bounds)
    case = prepare(
        model,
        sequences,
        labels,
        delta=delta,
        at=at,
        lengths=lengths,
        groups=groups,
        input_bound=input_bound,
        max_length=max_length,
        caps=caps,
        margin=margin,
        initial=initial,
        holdout=holdout,
        holdout_role=holdout_role,
        tried=tried,
        draws=draws,
        population=population,
        progress=progress,
        recurrent=recurrent,
        head=head,
        embedding=embedding,
    )
    return conclude(case, theorems)


@dataclass(frozen=True, eq=False)
class Case:
    """A network and its sample, measured: what ``conclude`` evaluates the menu on."""

    network: Network
    setting: Setting
    rows: tuple[Assumption, ...]
    described: Mapping[str, Any]
    at: At
    delta: float
    population: int | None = None
    gates: Gates | None = None


def prepare(
    model: Any,
    sequences: Any,
    labels: Any = None,
    *,
    delta: float = 0.01,
    at: At = "last",
    lengths: Any = None,
    groups: Any = None,
    input_bound: float | Enforced | None = None,
    max_length: int | None = None,
    caps: Mapping[str, Cap | float] | None = None,
    margin: float | None = None,
    initial: Any = None,
    holdout: Sequence[Any] | None = None,
    holdout_role: Literal["certificate", "checking"] = "certificate",
    tried: int = 1,
    draws: str = "",
    population: int | None = None,
    progress: Any = None,
    recurrent: Any = None,
    head: Any = None,
    embedding: Any = None,
) -> Case:
    """Read, check and measure everything that a certificate needs; arguments as in ``certify``."""
    delta = arguments.probability("delta", delta)
    margin = None if margin is None else arguments.positive("margin", margin)
    tried = arguments.whole("tried", tried)
    if holdout_role not in ("certificate", "checking"):
        raise InputError(f"holdout_role is {holdout_role!r}; use 'certificate' or 'checking'")
    if population is not None:
        population = arguments.whole("population", population)
    shown, sequences = _peek(sequences, labels)
    network = adapters.as_network(
        model, shown, lengths=lengths, at=at, recurrent=recurrent, head=head,
        embedding=embedding,
    )  # fmt: skip
    reading = _reading(network, at, max_length, input_bound)
    check_reading(network, reading.at)
    sample = Sample(sequences, labels, reading, lengths=lengths, track=True)
    predictor = _predictor(network)
    table = margin_table(sample, predictor, groups=groups, progress=progress)
    discrete = network.input_kind == "onehot"

    B_x, input_row = ledger.input_bound_row(network, sample, input_bound)
    T, horizon_row = ledger.horizon_row(network, sample, at, max_length)
    form = network.margin_form()
    declared_caps = None if caps is None else complete_caps(form, caps)
    class_caps, cap_costs, l1_costs = class_of(form, declared_caps)
    B_x = B_x if network.input_kind == "onehot" else B_x * HELD
    table = table.with_slack(ledger.rounding_slack(network, T, B_x))
    start = None if initial is None else _initial(initial, network)
    repeated = within(sample.prints)
    rows = [
        input_row,
        horizon_row,
        ledger.caps_row(network, form, declared_caps),
        ledger.draws_row(draws, repeated, population=population, discrete=discrete),
        *ledger.common_rows(table, tried=tried, margin=margin),
        ledger.prior_row(network, start),
    ]
    held = None
    if holdout is not None:
        held, prints = _holdout(holdout, reading, predictor, grouped=groups is not None)
        overlap = between(sample.prints, prints, discrete=discrete)
        rows.append(ledger.holdout_row(holdout_role, overlap))
    centre = None
    if start is not None:
        centre = {block.name: block.value for block in start.margin_form().blocks()}
    setting = Setting(
        form, table, T, B_x, class_caps, cap_costs, l1_costs, _tried(tried), margin, centre, held
    )
    reading_of = "finite list" if population is not None and not draws else "new draws"
    described = describe_sample(sample, setting, input_row, reading_of, population)
    gates = _measured_gates(network, sequences, labels, reading, lengths)
    return Case(network, setting, tuple(rows), described, at, delta, population, gates)


def conclude(case: Case, theorems: Sequence[Theorem] = THEOREMS) -> Certificate:
    """Evaluate the menu and the printed orders on a case."""
    found = evaluate_menu(theorems, case.setting, case.delta, case.rows)
    if case.described["reading"] == "finite list":
        found = [only_for_lists(bound) for bound in found]
    orders = order_bounds(
        case.network,
        case.setting.table,
        steps=case.setting.steps,
        input_bound=case.setting.input_bound,
        gamma=reported_margin(found, case.setting),
        delta=case.delta,
        measured=case.gates,
    )
    return Certificate(
        network=describe_network(case.network) | _gate_ranges(case),
        sample=case.described,
        at=case.at,
        delta=case.delta,
        assumptions=case.rows,
        bounds=(*found, *orders),
        finite_list=finite_list(found, case.setting, case.population, case.rows),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _gate_ranges(case: Case) -> dict[str, Any]:
    """Gate ranges for the certificate: class-wide, and measured where they were."""
    if not any(layer.cell in SIGMOIDS for layer in case.network.directions()):
        return {}
    bounded = classwide_gates(
        case.network,
        steps=min(case.setting.steps, GATE_STEPS),
        input_bound=case.setting.input_bound,
        caps=case.setting.caps,
    )
    return {"gates": describe_gates(bounded, case.gates)}


def evaluate_menu(
    theorems: Sequence[Theorem], setting: Setting, delta: float, rows: Sequence[Assumption]
) -> list[Bound]:
    """Every statement that applies, each at its share of δ; the others with their reasons."""
    reasons = {theorem.name: theorem.supports(setting) for theorem in theorems}
    applicable = [name for name, reason in reasons.items() if not reason]
    shares = split_delta(delta, applicable) if applicable else {}
    found = []
    for theorem in theorems:
        if reasons[theorem.name]:
            found.append(
                Bound(
                    theorem.name, theorem.title, "not applicable", None, theorem.reference,
                    needs=theorem.needs, reason=reasons[theorem.name],
                )
            )  # fmt: skip
            continue
        bound = theorem.bound(setting, shares[theorem.name])
        found.append(replace(bound, kind=ledger.grade(bound, rows)))
    return found


def _peek(sequences: Any, labels: Any) -> tuple[Any, Any]:
    """Sequences to compare a model on, and the sample; batches may be readable only once."""
    if labels is not None or hasattr(sequences, "shape"):
        return sequences, sequences
    try:
        batches = iter(sequences)
        first = next(batches)
    except (TypeError, StopIteration):
        raise InputError("sequences hold no batch; pass (sequences, labels) pairs") from None
    if not isinstance(first, (tuple, list)) or len(first) not in (2, 3):
        raise InputError("a batch must be (sequences, labels) or (sequences, labels, lengths)")
    return first[0], itertools.chain([first], batches)


def _measured_gates(
    network: Network, sequences: Any, labels: Any, reading: Reading, lengths: Any
) -> Gates | None:
    """Gate ranges on the first sequences; None without gates or where batches are read once."""
    gated = any(layer.cell in SIGMOIDS for layer in network.directions())
    if not gated or labels is None or not hasattr(sequences, "shape"):
        return None
    few = slice(0, GATE_SEQUENCES)
    some = None if lengths is None else lengths[few]
    return measured_gates(network, Sample(sequences[few], labels[few], reading, lengths=some))


def _menu(bounds: str | Sequence[str]) -> list[Theorem]:
    if bounds == "all":
        return list(THEOREMS)
    if bounds is None:
        raise InputError("bounds is None; use 'all' or names of statements")
    wanted = [bounds] if isinstance(bounds, str) else list(bounds)
    known = {theorem.name: theorem for theorem in THEOREMS}
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise InputError(f"unknown bounds {unknown}; the menu is {', '.join(known)}")
    return [known[name] for name in known if name in wanted]


def _reading(
    network: Network, at: At, max_length: int | None, input_bound: float | Enforced | None
) -> Reading:
    if not isinstance(at, str):
        at = arguments.whole("at", at)
    elif at not in ("last", "average"):
        raise InputError(f"at is {at!r}; use 'last', 'average' or a step 1..T")
    if max_length is not None:
        max_length = arguments.whole("max_length", max_length)
    if not isinstance(at, str):
        if max_length is not None and max_length < at:
            raise InputError(f"at is step {at}, beyond max_length = {max_length}")
        max_length = at
    radius = input_bound.value if isinstance(input_bound, Enforced) else input_bound
    if radius is not None:
        radius = arguments.positive("input_bound", radius)
    enforce = radius if isinstance(input_bound, Enforced) else None
    return Reading(network.input_kind, network.d_x, network.K, at, max_length, enforce)


def _predictor(network: Network) -> Predictor:
    """Torch's fused kernels where torch is loaded anyway, else the cells' own equations."""
    if sys.modules.get("torch") is not None:
        return adapters.torch_predictor(network)
    return network_predictor(network)


def _holdout(
    holdout: Sequence[Any], reading: Reading, predictor: Predictor, *, grouped: bool
) -> tuple[MarginTable, Prints]:
    """Margins and fingerprints of the held-out units."""
    if not isinstance(holdout, (tuple, list)) or not 2 <= len(holdout) <= 4:
        raise InputError("holdout must be (sequences, labels[, lengths[, groups]])")
    sequences, labels, lengths, groups = (*holdout, None, None)[:4]
    if grouped and groups is None:
        raise InputError(
            "the sample has groups and the held-out units have none; pass them as the fourth "
            "member of holdout"
        )
    held = Sample(
        sequences, labels, reading, lengths=lengths, what="held-out sequences", track=True
    )
    return margin_table(held, predictor, groups=groups), held.prints


def _tried(tried: int) -> tuple[Cost, ...]:
    if tried == 1:
        return ()
    return (Cost("recipes tried on this sample", None, float(tried), FiniteChoice(tried).cost()),)


def _initial(initial: Any, network: Network) -> Network:
    start = adapters.as_network(initial)
    if start.description() != network.description():
        raise InputError("the initial network has another architecture than the trained one")
    return start


def reported_margin(found: list[Bound], setting: Setting) -> float:
    """The γ at which the printed orders are evaluated: that of the best certified statement."""
    with_gamma = [bound for bound in found if "gamma" in bound.choices]
    if not with_gamma:
        return setting.margin or float(np.median(np.abs(setting.table.margins))) or 1.0
    return float(min(with_gamma, key=lambda bound: bound.value).choices["gamma"])
