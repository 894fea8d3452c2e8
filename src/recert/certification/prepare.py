"""A case: a network and its sample, read, checked and measured; what statements are evaluated on.

``prepare`` takes a model and a sample through the rooms above: the model becomes a `Network` (and
brings along what only it knows), the sample its margins, the declarations the rows of the ledger.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recert import compression, readers
from recert.certificates.certificate import Assumption
from recert.certificates.predictor import Call, Padding, check_padding, predictor_row
from recert.certification import ledger
from recert.certification.record import describe_sample
from recert.errors import InputError
from recert.networks.forward import Predictor, check_reading, network_predictor
from recert.networks.margins import MarginTable, announce, margin_table
from recert.networks.network import Network
from recert.networks.norm_class import HELD, Cap, class_of, complete_caps
from recert.numerics import rounding
from recert.readers.padding import Told, aligned_holdout, given_sample, read_as
from recert.samples import arrays
from recert.samples.leakage import Within, between, within
from recert.samples.sample import At, Enforced, Reading, Sample, groups_digest, unit_numbers
from recert.sensitivities.gate_ranges import SIGMOIDS, Gates, measured_gates
from recert.theorems import Setting
from recert.theorems.setting import encoding_of, shared_costs
from recert.utils import validation
from recert.utils.validation import Brief, short

# Gates are reported on this many sequences.
GATE_SEQUENCES = 1024

Role = Literal["certificate", "checking"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Declared(Brief):
    """What a user says of a sample, before and after looking; ``recert.certify`` explains it all.

    Two fields are not among that function's arguments: ``together`` lists the names of the networks
    that are certified together (δ is this network's share), ``holdout_why`` says why the held-out
    units have their role.
    """

    delta: float = 0.01
    at: At = "last"
    lengths: Any = None
    groups: Any = None
    input_bound: float | Enforced | None = None
    max_length: int | None = None
    caps: Mapping[str, Cap | float] | None = None
    margin: float | None = None
    initial: Any = None
    holdout: Sequence[Any] | None = None
    holdout_role: Role = "certificate"
    holdout_why: str = ""
    population: int | None = None
    tried: int = 1
    encoding: str | int = "fixed"
    draws: str = ""
    together: tuple[str, ...] = ()
    budget: float = 60.0
    memory: float = 1.0
    progress: Any = None
    recurrent: Any = None
    head: Any = None
    embedding: Any = None
    output: str | int | None = None
    steps_first: bool | None = None
    padding: Padding | None = None

    def checked(self) -> Declared:
        """The same, its plain values checked; InputError for the first that is out of range."""
        validation.word("holdout_role", self.holdout_role, ("certificate", "checking"))
        validation.text("draws", self.draws)
        if self.progress is not None and not callable(self.progress):
            raise InputError(f"progress is {short(self.progress)}; pass a function of a count")
        margin, population, T = self.margin, self.population, self.max_length
        padding = check_padding(self.padding)
        if padding == "as given" and self.at != "last":
            raise InputError("with padding='as given' the loss is read at='last' only")
        return replace(
            self,
            padding=padding,
            delta=validation.probability("delta", self.delta),
            at=validation.step("at", self.at),
            max_length=None if T is None else validation.whole("max_length", T),
            input_bound=_radius(self.input_bound),
            margin=None if margin is None else validation.positive("margin", margin),
            tried=validation.whole("tried", self.tried),
            encoding=encoding_of(self.encoding),
            budget=_limit("budget", self.budget),
            memory=_limit("memory", self.memory),
            population=None if population is None else validation.whole("population", population),
        )

    def recorded(self) -> dict[str, Any]:
        """What certificates keep of it: from these values follows which choices are paid for."""
        given = self.input_bound
        bound = given.value if isinstance(given, Enforced) else given
        return {
            "margin": self.margin,
            "tried": self.tried,
            "encoding": self.encoding,
            "together": len(self.together) or 1,
            "input_bound": None if bound is None else float(bound),
        }


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
    """The network that is certified, and what else its model says of it.

    A model that is more than a network (the decoding of a file, a posterior) adds its part here,
    with the rows of the ledger that its statements need.
    """

    network: Network
    code_bytes: int | None = None
    rows: tuple[Assumption, ...] = ()
    described: Mapping[str, Any] = field(default_factory=dict)
    call: Call = field(default_factory=Call)


def prepare(model: Any, sequences: Any, labels: Any = None, **declared: Any) -> Case:
    """Read, check and measure everything that a certificate needs; arguments as in ``certify``."""
    return measure(model, sequences, labels, Declared(**declared))


@rounding.usual
def measure(model: Any, sequences: Any, labels: Any, declared: Declared) -> Case:
    """As ``prepare``, from declarations in one value."""
    declared = declared.checked()
    if labels is not None:
        sequences, labels = arrays.numbers(sequences, "sequences"), arrays.numbers(labels, "labels")
    if declared.lengths is not None:
        declared = replace(declared, lengths=arrays.numbers(declared.lengths, "lengths"))
    given = given_sample(
        sequences, labels, declared.lengths, declared.padding, last=declared.at == "last"
    )
    subject = _subject(model, given.shown, declared)
    holdout = _holdout(declared)
    call = subject.call if holdout is None else _shown(subject.call, [holdout.shown])
    sequences, labels, network = given.sequences, given.labels, subject.network
    reading = _reading(network, declared)
    check_reading(network, reading.at)
    predictor = _predictor(network)

    def opened(track: bool = False) -> Sample:
        return Sample(sequences, labels, reading, lengths=given.lengths, track=track)

    sample = opened(track=True)
    if labels is not None:
        announce(declared.progress, len(labels))
    table = margin_table(sample, predictor, groups=declared.groups, progress=declared.progress)
    call = _shown(call, given.kept)
    B_x, input_row = ledger.input_bound_row(network, sample, declared.input_bound)
    T, horizon_row = ledger.horizon_row(network, sample, declared.at, declared.max_length)
    form = network.margin_form()
    declared_caps = None if declared.caps is None else complete_caps(form, declared.caps)
    class_caps, cap_costs, l1_costs = class_of(form, declared_caps)
    B_x = B_x if network.input_kind == "onehot" else B_x * HELD
    table = table.with_slack(ledger.rounding_slack(network, T, B_x))
    start = None if declared.initial is None else _initial(declared, network)
    recurring = within(sample.traces, _units(declared.groups, len(sample.traces)))
    held, held_rows, held_told = _held_out(declared, holdout, sample, reading, predictor, recurring)
    read = read_as(
        (*given.told, *held_told),
        cut=T if horizon_row.status == "enforced" else None,
        radius=reading.enforce,
    )
    rows = (
        predictor_row(call, read),
        input_row,
        horizon_row,
        ledger.caps_row(network, form, declared_caps),
        ledger.draws_row(declared.draws, recurring, population=declared.population),
        *ledger.common_rows(table, tried=declared.tried, margin=declared.margin),
        ledger.encoding_row(declared.encoding),
        ledger.settings_row(),
        ledger.prior_row(network, start),
        *held_rows,
        *subject.rows,
        *ledger.together_rows(declared.together, declared.delta),
    )
    setting = Setting(
        form,
        table,
        T,
        B_x,
        class_caps,
        cap_costs,
        l1_costs,
        shared_costs(declared.tried, declared.encoding),
        declared.margin,
        _centre(start),
        held,
        code_bytes=subject.code_bytes,
        reread=_reader(opened, labels),
        budget=declared.budget,
        memory=declared.memory,
        progress=declared.progress,
    )
    of_list = declared.population is not None and not declared.draws
    described = describe_sample(
        sample,
        setting,
        input_row,
        "finite list" if of_list else "new draws",
        declared.population,
        groups_digest(declared.groups, len(sample.traces)),
        declared.recorded(),
        read.padding,
    )
    gates = _measured_gates(network, sequences, labels, reading, given.lengths)
    return Case(
        network,
        setting,
        rows,
        described,
        declared.at,
        declared.delta,
        declared.population,
        gates,
        subject.described,
    )


def _subject(model: Any, shown: tuple[Any, Any], declared: Declared) -> Subject:
    """What a model is: an array network, a torch module, a file of either or of a program."""
    sequences, lengths = shown
    if isinstance(model, (str, Path)) and Path(model).suffix == compression.SUFFIX:
        program = compression.load_program(model)
        data = compression.encode(program)
        sha256 = hashlib.sha256(data).hexdigest()
        row = ledger.program_row(len(data), sha256)
        described = {"program": {"bytes": len(data), "sha256": sha256}}
        return Subject(program.network(), len(data), (row,), described)
    network, call = readers.read_model(
        model, sequences, lengths=lengths, padding=declared.padding, output=declared.output,
        steps_first=declared.steps_first, at=declared.at,
        recurrent=declared.recurrent, head=declared.head, embedding=declared.embedding,
    )  # fmt: skip
    return Subject(network, call=call)


def _reader(opened: Callable[[], Sample], labels: Any) -> Callable[[], Sample] | None:
    """Opens the sample once more; None where its batches could be read only once."""
    return None if labels is None else opened


def _radius(given: Any) -> float | Enforced | None:
    """An input bound as a plain float, whatever number it came as."""
    if isinstance(given, Enforced):
        return Enforced(validation.positive("input_bound", given.value))
    return None if given is None else validation.positive("input_bound", given)


def _limit(what: str, value: Any) -> float:
    """A number of seconds or GiB; infinity lifts the limit."""
    if isinstance(value, float) and value == math.inf:
        return value
    return validation.positive(what, value)


def _reading(network: Network, declared: Declared) -> Reading:
    at, max_length, input_bound = declared.at, declared.max_length, declared.input_bound
    if not isinstance(at, str):
        if max_length is not None and max_length < at:
            raise InputError(
                f"at is step {at}, beyond max_length = {max_length}; sequences are cut there"
            )
        max_length = at
    enforce = input_bound.value if isinstance(input_bound, Enforced) else None
    return Reading(network.input_kind, network.d_x, network.K, at, max_length, enforce)


def _predictor(network: Network) -> Predictor:
    """Torch's fused kernels where torch is loaded anyway, else the cells' own equations."""
    if sys.modules.get("torch") is not None:
        return readers.torch_predictor(network)
    return network_predictor(network)


def _units(groups: Any, sequences: int) -> NDArray[np.int64] | None:
    """The unit of every sequence; groups were checked when margins were taken."""
    return None if groups is None else unit_numbers(groups, sequences)


def _shown(call: Call, padded: Iterable[tuple[Any, Any]]) -> Call:
    """The call of a model that is shown further sequences and lengths, as they came."""
    for sequences, lengths in padded:
        call = call if call.again is None else call.again(sequences, lengths)
    return call


@dataclass(frozen=True, eq=False)
class _Holdout(Brief):
    """Held-out units as they came, as they are read, and how they are padded."""

    shown: tuple[Any, Any]
    read: tuple[Any, Any, Any, Any]
    told: Told


def _holdout(declared: Declared) -> _Holdout | None:
    if declared.holdout is None:
        return None
    read, told = aligned_holdout(declared.holdout, declared.padding, last=declared.at == "last")
    lengths = declared.holdout[2] if len(declared.holdout) > 2 else None
    return _Holdout((declared.holdout[0], lengths), read, told)


def _held_out(
    declared: Declared,
    holdout: _Holdout | None,
    sample: Sample,
    reading: Reading,
    predictor: Predictor,
    recurring: Within,
) -> tuple[MarginTable | None, tuple[Assumption, ...], tuple[Told, ...]]:
    """Margins of the held-out units, whether they were used before, and how they are padded."""
    if holdout is None:
        return None, (), ()
    table, held = _held_sample(
        holdout.read, reading, predictor, grouped=declared.groups is not None
    )
    units = _units(declared.groups, len(sample.traces))
    own = _units(holdout.read[3], len(held.traces))
    of_held = within(held.traces, own)
    overlap = between(sample.traces, held.traces, units, own, recurring, of_held)
    row = ledger.holdout_row(declared.holdout_role, overlap, of_held, why=declared.holdout_why)
    return table, (row,), (holdout.told,)


def _held_sample(
    holdout: tuple[Any, Any, Any, Any], reading: Reading, predictor: Predictor, *, grouped: bool
) -> tuple[MarginTable, Sample]:
    sequences, labels, lengths, groups = holdout
    if grouped and groups is None:
        raise InputError(
            "the sample has groups and the held-out units have none; pass them as the fourth "
            "member of holdout"
        )
    held = Sample(
        sequences, labels, reading, lengths=lengths, what="held-out sequences", track=True
    )
    return margin_table(held, predictor, groups=groups), held


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


def _centre(start: Network | None) -> dict[str, NDArray[np.float64]] | None:
    """Blocks of the initial network, as the centre of priors."""
    if start is None:
        return None
    return {block.name: block.value for block in start.margin_form().blocks()}


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
