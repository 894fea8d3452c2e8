"""A case: a network and its sample, read, checked and measured; what statements are evaluated on.

Three stages: ``read_model`` makes a model a `Network` (which brings along what only it knows),
``measure_sample`` reads the sample through once, ``decide`` and ``describe`` set the hypotheses:
first the numbers that statements are evaluated on, then the rows of the ledger that explain them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recert import compression, readers
from recert.certificates.certificate import Assumption
from recert.certificates.predictor import Call, predictor_row
from recert.certification import ledger
from recert.certification.declared import Declared, Holdout
from recert.certification.record import describe_sample
from recert.errors import InputError
from recert.networks.forward import Predictor
from recert.networks.margins import MarginTable, announce, margin_table
from recert.networks.network import MarginForm, Network
from recert.networks.norm_class import HELD, Cap, class_of, complete_caps
from recert.numerics import rounding
from recert.readers.padding import Given, Told, given_sample, read_as
from recert.samples import arrays
from recert.samples.leakage import Between, Within, between, within
from recert.samples.sample import At, Reading, Sample, groups_digest, unit_numbers
from recert.sensitivities.gate_ranges import Gates, measured_gates
from recert.theorems import Setting
from recert.theorems.setting import shared_costs
from recert.utils.validation import Brief

# Gates are reported on this many sequences.
GATE_SEQUENCES = 1024


@dataclass(frozen=True, eq=False, repr=False)
class Case(Brief):
    """A network and its sample, measured: what ``conclude`` evaluates the menu on."""

    network: Network
    setting: Setting
    rows: tuple[Assumption, ...]
    described: Mapping[str, Any]
    at: At
    delta: float
    population: int | None = None
    gates: Gates | None = None
    of_model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class Subject(Brief):
    """The network that is certified, on a sample that is not read yet.

    A model that is more than a network (the decoding of a file) adds its part here, with the rows
    of the ledger that its statements need.
    """

    network: Network
    call: Call
    given: Given
    holdout: Holdout | None
    reading: Reading
    predictor: Predictor
    initial: Network | None
    code_bytes: int | None = None
    rows: tuple[Assumption, ...] = ()
    described: Mapping[str, Any] = field(default_factory=dict)

    def opened(self, track: bool = False, most: int | None = None) -> Sample:
        """The sample, or its first sequences; batches may be readable only once."""
        given, few = self.given, slice(0, most)
        sequences, labels, lengths = (
            value if most is None or value is None else value[few]
            for value in (given.sequences, given.labels, given.lengths)
        )
        return Sample(sequences, labels, self.reading, lengths=lengths, track=track)


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Brief):
    """What was found in a sample and in its held-out units, once they were read through.

    Attributes:
        sample: its running facts (longest, largest norm, digest, traces) are complete.
        table: margins of the sample.
        held: margins of the held-out units, or None.
        gates: their ranges on the first sequences; None without gates or in batches.
        call: how the model is called, having been shown every kind of padding.
        told: how the sample is padded, and the held-out units.
        recurring: units that recur in the sample, and those of the held-out units, in themselves
            and in both; None where nobody looked.
    """

    sample: Sample
    table: MarginTable
    held: MarginTable | None
    gates: Gates | None
    call: Call
    told: tuple[Told, ...]
    recurring: Within | None = None
    held_recurring: Within | None = None
    shared: Between | None = None


def prepare(model: Any, sequences: Any, labels: Any = None, **declared: Any) -> Case:
    """Read, check and measure everything that a certificate needs; arguments as in ``certify``."""
    return measure(model, sequences, labels, Declared(**declared))


@rounding.usual
def measure(model: Any, sequences: Any, labels: Any, declared: Declared) -> Case:
    """As ``prepare``, from declarations in one value."""
    declared = declared.checked()
    subject = read_model(model, sequences, labels, declared)
    found = measure_sample(subject, declared)
    return describe(subject, found, decide(subject, found, declared), declared)


def read_model(model: Any, sequences: Any, labels: Any, declared: Declared) -> Subject:
    """The first stage: an array network, a torch module, a file of either or of a program.

    Args:
        model: as in ``certify``.
        sequences: likewise.
        labels: likewise.
        declared: checked.
    """
    if labels is not None:
        sequences, labels = arrays.numbers(sequences, "sequences"), arrays.numbers(labels, "labels")
    lengths = declared.lengths
    if lengths is not None:
        lengths = arrays.numbers(lengths, "lengths")
    given = given_sample(sequences, labels, lengths, declared.padding, last=declared.at == "last")
    network, call, of_model = _network(model, given.shown, declared)
    holdout = declared.held_back()
    return Subject(
        network=network,
        call=call if holdout is None else _shown(call, [holdout.shown]),
        given=given,
        holdout=holdout,
        reading=declared.reading(network),
        predictor=readers.predictor_of(network, declared.arithmetic),
        initial=None if declared.initial is None else _initial(declared, network),
        **of_model,
    )


def _network(
    model: Any, shown: tuple[Any, Any], declared: Declared
) -> tuple[Network, Call, dict[str, Any]]:
    """The network of a model, how that is called, and what a file of a program adds."""
    if isinstance(model, (str, Path)) and Path(model).suffix == compression.SUFFIX:
        program = compression.load_program(model)
        data = compression.encode(program)
        sha256 = hashlib.sha256(data).hexdigest()
        of_model = {
            "code_bytes": len(data),
            "rows": (ledger.program_row(len(data), sha256),),
            "described": {"program": {"bytes": len(data), "sha256": sha256}},
        }
        return program.network(), Call(), of_model
    network, call = readers.read_model(
        model, shown[0], lengths=shown[1], padding=declared.padding, output=declared.output,
        steps_first=declared.steps_first, at=declared.at,
        recurrent=declared.recurrent, head=declared.head, embedding=declared.embedding,
    )  # fmt: skip
    return network, call, {}


def _shown(call: Call, padded: Iterable[tuple[Any, Any]]) -> Call:
    """The call of a model that is shown further sequences and lengths, as they came."""
    for sequences, lengths in padded:
        call = call if call.again is None else call.again(sequences, lengths)
    return call


def _initial(declared: Declared, network: Network) -> Network:
    how: dict[str, Any] = {}
    if readers.is_module(declared.initial):
        how = {"output": declared.output, "steps_first": declared.steps_first}
    start = readers.as_network(declared.initial, **how)
    if start.description() != network.description():
        raise InputError(
            "the initial network has another architecture than the trained one; "
            "pass it as it was before training"
        )
    return start


def measure_sample(subject: Subject, declared: Declared, *, track: bool = True) -> Measured:
    """The second stage: read sample and held-out units through, take margins, look for repeats.

    Args:
        subject: the network, and its sample.
        declared: checked.
        track: whether to look for units that recur, and to digest what is read.
    """
    given, holdout, groups = subject.given, subject.holdout, declared.groups
    sample = subject.opened(track)
    if given.labels is not None:
        announce(declared.progress, len(given.labels))
    found = Measured(
        sample=sample,
        table=margin_table(sample, subject.predictor, groups=groups, progress=declared.progress),
        held=None,
        gates=_measured_gates(subject),
        call=_shown(subject.call, given.kept),
        told=tuple(given.told),
    )
    if track:
        units = _units(groups, len(sample.traces))
        found = replace(found, recurring=within(sample.traces, units))
    if holdout is None:
        return found
    declared.need_groups_of(holdout)
    held = Sample(
        holdout.sequences, holdout.labels, subject.reading, lengths=holdout.lengths,
        what="held-out sequences", track=track,
    )  # fmt: skip
    table = margin_table(held, subject.predictor, groups=holdout.groups)
    found = replace(found, held=table, told=(*found.told, holdout.told))
    if not track:
        return found
    own = _units(holdout.groups, len(held.traces))
    of_held = within(held.traces, own)
    shared = between(sample.traces, held.traces, units, own, found.recurring, of_held)
    return replace(found, held_recurring=of_held, shared=shared)


def _units(groups: Any, sequences: int) -> NDArray[np.int64] | None:
    """The unit of every sequence; groups were checked when margins were taken."""
    return None if groups is None else unit_numbers(groups, sequences)


def _measured_gates(subject: Subject) -> Gates | None:
    """Gate ranges on the first sequences; None without gates or where batches are read once."""
    gated = any(layer.spec.sigmoids for layer in subject.network.directions())
    if not gated or subject.given.labels is None or not hasattr(subject.given.sequences, "shape"):
        return None
    return measured_gates(subject.network, subject.opened(most=GATE_SEQUENCES))


def decide(subject: Subject, found: Measured, declared: Declared) -> Setting:
    """The third stage, its numbers: B_x, T, the class, and what every statement pays."""
    network, sample, form = subject.network, found.sample, subject.network.margin_form()
    B_x = ledger.input_bound(network, sample, declared.input_bound)
    B_x = B_x if network.input_kind == "onehot" else B_x * HELD
    T = ledger.horizon(sample, declared.at, declared.max_length)
    caps, cap_costs, l1_costs = class_of(form, _declared_caps(form, declared))
    centre = subject.initial
    return Setting(
        network=form,
        table=found.table.with_slack(ledger.rounding_slack(network, T, B_x)),
        steps=T,
        input_bound=B_x,
        caps=caps,
        cap_costs=cap_costs,
        l1_costs=l1_costs,
        choice_costs=shared_costs(declared.tried, declared.encoding),
        margin=declared.margin,
        # Priors are centred at the initial network, block by block.
        initial=None
        if centre is None
        else {block.name: block.value for block in centre.margin_form().blocks()},
        holdout=found.held,
        code_bytes=subject.code_bytes,
        reread=None if subject.given.labels is None else subject.opened,
        budget=declared.budget,
        memory=declared.memory,
        progress=declared.progress,
    )


def _declared_caps(form: MarginForm, declared: Declared) -> dict[str, Cap] | None:
    return None if declared.caps is None else complete_caps(form, declared.caps)


def caps_row(network: Network, setting: Setting, declared: Declared) -> Assumption:
    """Whether the class is that of declared caps, and whether the network is in it."""
    form = setting.network
    return ledger.caps_row(network, form, _declared_caps(form, declared))


def describe(subject: Subject, found: Measured, setting: Setting, declared: Declared) -> Case:
    """The third stage, its words: every hypothesis with its status, and the sample."""
    network, sample, reading = subject.network, found.sample, subject.reading
    input_row = ledger.input_bound_row(network, sample, declared.input_bound)
    horizon_row = ledger.horizon_row(network, sample, declared.at, declared.max_length)
    assert found.recurring is not None
    held_rows: tuple[Assumption, ...] = ()
    if found.shared is not None and found.held_recurring is not None:
        role, why = declared.holdout_role, declared.holdout_why
        held_rows = (ledger.holdout_row(role, found.shared, found.held_recurring, why=why),)
    cut = setting.steps if horizon_row.status == "enforced" else None
    read = read_as(found.told, cut=cut, radius=reading.enforce)
    rows = (
        predictor_row(found.call, read),
        input_row,
        horizon_row,
        caps_row(network, setting, declared),
        ledger.draws_row(declared.draws, found.recurring, population=declared.population),
        *ledger.common_rows(setting.table, tried=declared.tried, margin=declared.margin),
        ledger.encoding_row(declared.encoding),
        ledger.settings_row(),
        ledger.prior_row(network, subject.initial),
        *held_rows,
        *subject.rows,
        *ledger.together_rows(declared.together, declared.delta),
    )
    described = describe_sample(
        sample,
        setting,
        input_row,
        declared,
        groups_digest(declared.groups, len(sample.traces)),
        read.padding,
    )
    return Case(
        network,
        setting,
        rows,
        described,
        declared.at,
        declared.delta,
        declared.population,
        found.gates,
        subject.described,
    )
