"""Several networks certified together: one failure probability for all, and the best may be chosen.

Each of n networks is certified at δ/n, every one of its bounds and its held-out limit included. By
a union bound all n certificates hold at once with probability 1 − δ, so that choosing the best
of them after looking costs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from recert import arguments
from recert.arguments import short
from recert.brief import Brief
from recert.case import Declared
from recert.certificate import Certificate
from recert.choices import split_delta
from recert.errors import InputError
from recert.numerals import significant_up, written_up
from recert.pipeline import certify_declared


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
    models = arguments.listed("models", models, "pass a list of networks")
    chosen = check_names([str(i + 1) for i in range(len(models))] if names is None else names)
    own: list[Any] = [{} for _ in models]
    if each is not None:
        own = arguments.listed("each", each, "pass a mapping of arguments for each network")
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
    return JointCertificate(chosen, tuple(found), arguments.probability("delta", delta))


def _known(options: Any) -> None:
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InputError(f"arguments of a network are {short(options)}; pass a mapping by name")
    known = set(Declared.__dataclass_fields__) - {"delta", "together", "holdout_why"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is no argument that networks certified together can have; see "
            "help(recert.certify), delta is shared by all"
        )


def shares_of(delta: float, names: Sequence[str]) -> dict[str, float]:
    """The share of δ of each network: equal, and together no more than δ."""
    return split_delta(arguments.probability("delta", delta), names)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of networks, each one piece of a path; InputError if some repeat or are none."""
    listed = arguments.listed("names", names, "pass a list of names, one for each network")
    found = tuple(arguments.text("name of a network", name) for name in listed)
    if not found:
        raise InputError("there is no network to certify; give at least one")
    for name in found:
        if not name or name in (".", "..") or set(name) & set("/\\\0"):
            raise InputError(f"{name!r} is no name for a network; use letters without slashes")
        arguments.line("the name of a network", name)
    if len(set(found)) != len(found):
        raise InputError(f"names of networks repeat: {', '.join(found)}; give each its own")
    return found
