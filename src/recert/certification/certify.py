"""The pipeline: a trained network and its sample in, a certificate out.

Several networks certified together: one failure probability for all, and the best may be chosen.

Each of n networks is certified at δ/n, every one of its bounds and its held-out limit included. By
a union bound all n certificates hold at once with probability 1 − δ, so that choosing the best
of them after looking costs nothing more.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from recert.certificates.certificate import Assumption, Bound, Certificate
from recert.certificates.predictor import Padding
from recert.certification.black_box import without_structure
from recert.certification.declared import Declared, Role
from recert.certification.prepare import Case, measure, prepare
from recert.certification.record import (
    describe_class,
    describe_gates,
    describe_network,
    finite_list,
    only_for_lists,
)
from recert.errors import BatchError, CallError, InputError, ParityError, UnsupportedModelError
from recert.networks.norm_class import Cap
from recert.numerics import rounding
from recert.numerics.rounding import significant_up, written_up
from recert.numerics.union_bound import split_delta
from recert.printed.evaluate import order_bounds
from recert.samples.sample import At, Enforced
from recert.sensitivities.gate_ranges import classwide_gates
from recert.theorems import THEOREMS, Setting, Theorem
from recert.theorems.menu import evaluate, graded, menu, split_among
from recert.utils import validation
from recert.utils.validation import Brief, short

__all__ = [
    "Case",
    "certify",
    "certify_declared",
    "conclude",
    "evaluate_menu",
    "menu",
    "prepare",
]

Structure = Literal["optional", "required"]

# Gates are bounded class-wide up to this many steps.
GATE_STEPS = 500


def certify(
    model: Any,
    sequences: Any = None,
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
    holdout_role: Role = "certificate",
    population: int | None = None,
    tried: int = 1,
    encoding: str | int = "fixed",
    draws: str = "",
    bounds: str | Sequence[str] = "all",
    budget: float = 60.0,
    memory: float = 1.0,
    progress: Any = None,
    recurrent: Any = None,
    head: Any = None,
    embedding: Any = None,
    output: str | int | None = None,
    steps_first: bool | None = None,
    padding: Padding | None = None,
    threshold: float | None = None,
    structure: Structure = "optional",
) -> Certificate:
    """Bounds on the error of a trained network, or of whatever answers, on new sequences.

    Args:
        model: a torch module, a ``Network``, or the path of a network on disk; with ``holdout``
            whatever answers: modules of any structure, an ONNX path or session, an object with
            ``predict`` (scikit-learn, Keras), a function of a batch that returns logits, scores
            or classes. Then held-out units alone are enough.
        sequences: (m, T, d_x) real or (m, T) integer tokens, numpy or torch, padded on the right
            (tokens with −1), or an iterable of batches; None where ``holdout`` is all there is.
        labels: (m,) classes 0..K−1, or (m, T) for losses at a step or averaged over steps.
        delta: failure probability of the whole certificate, split over its bounds.
        at: ``"last"`` valid step, ``"average"`` over valid steps, or a step 1..T.
        lengths: (m,) valid steps of padded sequences, or a (m, T) mask that is true at them, also
            as the third member of batches and of ``holdout``.
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
        encoding: how the encoding of inputs (alphabet, vocabulary, normaliser) came about:
            ``"fixed"`` before looking; ``"learnt"`` from the sample, which makes every number an
            estimate; or n, chosen after looking among n fixed beforehand, which costs ln n.
        draws: in what sense the units are independent draws, for the ledger.
        bounds: ``"all"`` or names of certified statements; δ is split over these.
        budget: seconds of one core that a statement may take, by an estimate made beforehand; a
            statement above it, or without hope, is skipped and keeps its share of δ. With
            ``math.inf`` it is worked out whatever it takes and promises.
        memory: GiB that a statement may hold at once; a statement that cannot is skipped.
        progress: called with the number of sequences done since the last call: once through for
            margins, and again where a statement follows sequences. If it has a method ``expect``,
            that is called with about how many more will come, each time that more will.
        recurrent: the recurrent part of a torch model, or its name, where it cannot be found.
        head: the linear head, likewise.
        embedding: the embedding, likewise.
        output: name or number (from 0) of the output of a torch or ONNX model that is its answer;
            None for the one called ``logits``, else the first.
        steps_first: whether a torch module is given its batches with steps first, as (T, m, …);
            None asks where the module runs on both.
        padding: which answer to padded sequences is meant, where a model's differ: ``"cut"``, on
            sequences without their padding, or passed their lengths where that is the same;
            ``"left"``, likewise, it stands on the left; ``"as given"``, with their padding, which
            is then part of the inputs, and without lengths where the model does not ask for them.
        threshold: the score above which a black box with one score a unit says class 1: 0 for
            logits, 0.5 for probabilities.
        structure: ``"optional"`` certifies what is left where the structure of a model is not
            covered, its answers to held-out units; ``"required"`` refuses such a model.

    Raises:
        InputError, UnsupportedModelError, ParityError, FileError: with one line that says what is
        wrong, where, and what to do.

    Source: theory, sections 4 to 7.
    """
    return certify_declared(model, sequences, labels, Declared.among(locals()), bounds, structure)


@rounding.usual
def certify_declared(
    model: Any,
    sequences: Any,
    labels: Any,
    declared: Declared,
    bounds: str | Sequence[str] = "all",
    structure: Structure = "required",
) -> Certificate:
    """As ``certify``, from declarations in one value."""
    validation.word("structure", structure, ("optional", "required"))
    theorems = menu(bounds)
    if structure == "required" and sequences is not None:
        return conclude(measure(model, sequences, labels, declared), theorems)
    offered = without_structure(model, sequences, labels, declared, theorems, structure)
    if isinstance(offered, Certificate):
        return offered
    try:
        case = measure(model, sequences, labels, declared)
    except (UnsupportedModelError, ParityError) as refusal:
        # Those two ask which of a model's answers is meant.
        if offered is None or isinstance(refusal, (CallError, BatchError)):
            raise
        return offered(refusal)
    return conclude(case, theorems)


@rounding.usual
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
        network=describe_network(case.network)
        | {"caps": describe_class(case.setting)}
        | _gate_ranges(case)
        | dict(case.of_model),
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
    if not any(layer.spec.sigmoids for layer in case.network.directions()):
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
    """Every statement that applies, each at its share of δ, graded; the others with reasons."""
    shares = split_among(theorems, setting, delta)
    return graded(evaluate(theorems, setting, shares, setting.choice_costs), rows)


def reported_margin(found: list[Bound], setting: Setting) -> float:
    """The γ at which the printed orders are evaluated: that of the best certified statement."""
    with_gamma = [bound for bound in found if "gamma" in bound.choices]
    if not with_gamma:
        return setting.margin or float(np.median(np.abs(setting.table.margins))) or 1.0
    return float(min(with_gamma, key=lambda bound: bound.value).choices["gamma"])


@dataclass(frozen=True, repr=False)
class JointCertificate(Brief):
    """Certificates that hold together with probability 1 − δ.

    Attributes:
        names: one for each network, in order.
        certificates: likewise; the delta of each is its share.
        delta: δ of all together.

    Raises:
        InputError: names repeat, or the certificates were made apart and need more than this δ.
    """

    names: tuple[str, ...]
    certificates: tuple[Certificate, ...]
    delta: float

    def __post_init__(self) -> None:
        check_names(self.names)
        if len(self.names) != len(self.certificates):
            raise InputError(f"{len(self.names)} names for {len(self.certificates)} certificates")
        needed = sum((Fraction(c.delta) for c in self.certificates), Fraction(0))
        if needed > Fraction(self.delta):
            raise InputError(
                f"these certificates hold together only at δ = {significant_up(needed, 6)}, not at "
                f"{written_up(self.delta, 6)}; certify them together"
            )

    def __len__(self) -> int:
        return len(self.certificates)

    def __iter__(self) -> Iterator[Certificate]:
        return iter(self.certificates)

    def __getitem__(self, name: str) -> Certificate:
        """The certificate of the network of that name."""
        if name not in self.names:
            raise InputError(f"there is no network {name!r}; there are {', '.join(self.names)}")
        return self.certificates[self.names.index(name)]

    def pairs(self) -> list[tuple[str, Certificate]]:
        """Names with certificates."""
        return list(zip(self.names, self.certificates, strict=True))

    @property
    def best_name(self) -> str:
        """The network with the smallest certificate; without one, with the smallest estimate."""
        sound = [pair for pair in self.pairs() if pair[1].kind == "certificate"]
        return min(sound or self.pairs(), key=lambda pair: pair[1].risk_bound)[0]

    @property
    def best(self) -> Certificate:
        """The certificate of that network."""
        return self[self.best_name]

    def statement(self) -> str:
        """One paragraph in plain words."""
        return (
            f"Of {len(self)} networks certified together the best is {self.best_name}. "
            f"{self.best.statement()} All {len(self)} statements hold at once with a failure "
            f"probability of {written_up(self.delta, 6)}, each at its share of it."
        )

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``folder/NAME/certificate.json`` for each network."""
        return [
            certificate.save(Path(folder) / name / "certificate.json")
            for name, certificate in self.pairs()
        ]


def certify_all(
    models: Sequence[Any],
    sequences: Any,
    labels: Any = None,
    *,
    delta: float = 0.01,
    names: Sequence[str] | None = None,
    each: Sequence[Mapping[str, Any]] | None = None,
    bounds: str | Sequence[str] = "all",
    **declared: Any,
) -> JointCertificate:
    """Certify several networks on one sample, so that the best may be chosen after looking.

    Args:
        models: as ``certify`` takes them, one or more.
        sequences: the sample; batches that can be read only once will not do for several networks.
        labels: as in ``certify``.
        delta: failure probability of everything together; each network gets an equal share.
        names: what the networks are called, for people and files; numbers by default.
        each: arguments of ``certify`` for each network by itself (``caps``, ``initial``, …).
        bounds: as in ``certify``.
        declared: further arguments of ``certify``, for all networks.

    Raises:
        InputError: names repeat, or an argument is not one of ``certify``; else as there.

    Source: theory, section 6.
    """
    models = validation.listed("models", models, "pass a list of networks")
    chosen = check_names([str(i + 1) for i in range(len(models))] if names is None else names)
    own: list[Any] = [{} for _ in models]
    if each is not None:
        own = validation.listed("each", each, "pass a mapping of arguments for each network")
    if not len(chosen) == len(own) == len(models):
        raise InputError(
            f"there are {len(models)} models, {len(chosen)} names and {len(own)} sets of "
            "arguments; give one of each for every model"
        )
    if labels is None and len(models) > 1 and hasattr(sequences, "__next__"):
        raise InputError("these batches can be read only once; pass arrays, or a list of batches")
    for options in (declared, *own):
        _known(options)
    shares = shares_of(delta, chosen)
    found = []
    for name, model, more in zip(chosen, models, own, strict=True):
        said = Declared(**{**declared, **more}, delta=shares[name], together=chosen)
        found.append(certify_declared(model, sequences, labels, said, bounds))
    return JointCertificate(chosen, tuple(found), validation.probability("delta", delta))


def _known(options: Any) -> None:
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InputError(f"arguments of a network are {short(options)}; pass a mapping by name")
    known = set(Declared.__dataclass_fields__) - {"delta", "together", "holdout_why", "arithmetic"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is no argument that networks certified together can have; see "
            "help(recert.certify), delta is shared by all"
        )


def shares_of(delta: float, names: Sequence[str]) -> dict[str, float]:
    """The share of δ of each network: equal, and together no more than δ."""
    return split_delta(validation.probability("delta", delta), names)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of networks, each one piece of a path; InputError if some repeat or are none."""
    listed = validation.listed("names", names, "pass a list of names, one for each network")
    found = tuple(validation.text("name of a network", name) for name in listed)
    if not found:
        raise InputError("there is no network to certify; give at least one")
    for name in found:
        if not name or name in (".", "..") or set(name) & set("/\\\0"):
            raise InputError(f"{name!r} is no name for a network; use letters without slashes")
        validation.line("the name of a network", name)
    if len(set(found)) != len(found):
        raise InputError(f"names of networks repeat: {', '.join(found)}; give each its own")
    return found
