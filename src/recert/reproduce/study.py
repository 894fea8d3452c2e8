"""What a study is: what it may be asked, the cells of work it consists of, what it concludes."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.progress import Progress

from recert.arguments import probability, whole
from recert.errors import InputError

Result = dict[str, Any]
VERDICTS = ("held", "held in part", "not held")


@dataclass(frozen=True)
class Option:
    """An option of a study, given as ``-o NAME=VALUE``.

    Attributes:
        default: its value in full size; its type is the option's type. Where None, any text.
        help: one line.
        quick: its value with ``--quick``, or None for the same.
        choices: the only values allowed; empty for any.
        least: the smallest number allowed.
    """

    default: Any
    help: str
    quick: Any = None
    choices: tuple[Any, ...] = ()
    least: float = 1


@dataclass(frozen=True)
class Request:
    """What a run was asked for.

    Attributes:
        study: its name.
        out: the folder for everything.
        quick: whether a small run is wanted.
        seeds: distinct, at least one.
        given: options that were given; those of `options` complete them.
        options: every option's value.
        device: on which networks are trained: auto, cpu, cuda or cuda:N.
    """

    study: str
    out: Path
    quick: bool
    seeds: tuple[int, ...]
    given: Mapping[str, Any]
    options: Mapping[str, Any]
    device: str = "auto"

    @property
    def command(self) -> str:
        """The exact command that asks for the same."""
        words = ["recert", "reproduce", self.study, "--out", str(self.out)]
        words += ["--quick"] if self.quick else []
        words += ["--seeds", ",".join(map(str, self.seeds))]
        words += [] if self.device == "auto" else ["--device", self.device]
        for name, value in self.given.items():
            words += ["-o", f"{name}={value}"]
        return shlex.join(words)


@dataclass(frozen=True, eq=False)
class Cell:
    """A piece of work that is done once and kept, such as one seed at one setting.

    Attributes:
        title: beside the progress bar.
        parameters: everything that the result depends on, as JSON can hold it.
        work: called with a progress display; its result must be JSON and depend on nothing else.
    """

    title: str
    parameters: Mapping[str, Any]
    work: Callable[[Progress], Result]

    @cached_property
    def digest(self) -> str:
        """Names the cell's file: 20 hex digits of the parameters' SHA-256."""
        text = json.dumps(self.parameters, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def on(self, device: str) -> Cell:
        """The cell whose networks are trained there: another one, as other devices round otherwise.

        Results without a device in their parameters are the CPU's.
        """
        if device == "cpu":
            return self
        return replace(self, parameters={**self.parameters, "device": device})


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and the figure that decides it.

    Attributes:
        place: section or theorem.
        quote: the paper's words, shortened.
        verdict: one of `VERDICTS`.
        figure: the numbers that decide it, in words.
    """

    place: str
    quote: str
    verdict: str
    figure: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise InputError(f"a verdict is one of {', '.join(VERDICTS)}, not {self.verdict!r}")


@dataclass(frozen=True)
class Conclusion:
    """What a study concludes from its cells.

    Attributes:
        rows: the table, a dictionary of plain values a row; the CSV's columns are their keys.
        claims: claims of the paper with their verdicts.
        notes: sentences for the reader, such as what data were used.
        extra: more for the JSON file.
        draw: called with a path, draws the picture there; suffixes are PNG and SVG.
        table: columns of `rows` that are printed; empty for all.
        limits: columns that bound from above, which are printed rounded up.
    """

    rows: Sequence[Mapping[str, Any]]
    draw: Callable[[Path], Path]
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    table: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A command of ``recert reproduce``.

    Attributes:
        name: as it is called.
        summary: one line.
        options: by name.
        cells: the work, in order, from a request; reads and checks the data.
        conclude: from a request and the cells' results, in the same order.
        seeds: used where none are given.
        quick_seeds: used in a quick run where none are given; None for the same.
        trains: whether its cells train networks; if not, no device matters and torch is not needed.
    """

    name: str
    summary: str
    options: Mapping[str, Option]
    cells: Callable[[Request], Sequence[Cell]]
    conclude: Callable[[Request, Sequence[Result]], Conclusion]
    seeds: tuple[int, ...] = (0, 1, 2)
    quick_seeds: tuple[int, ...] | None = None
    trains: bool = True

    def request(
        self,
        out: Path,
        *,
        quick: bool = False,
        seeds: Sequence[int] | None = None,
        given: Mapping[str, Any] | None = None,
        device: str = "auto",
    ) -> Request:
        """The request with its options checked and completed.

        Raises:
            InputError: seeds repeat or are negative, or an option is unknown or out of range.
        """
        usual_seeds = self.quick_seeds if quick and self.quick_seeds else self.seeds
        chosen = usual_seeds if seeds is None else tuple(seeds)
        for seed in chosen:
            whole("seed", seed, least=0)
        if not chosen or len(set(chosen)) != len(chosen) or min(chosen) < 0:
            raise InputError(f"seeds are {list(chosen)}; give distinct whole numbers from 0 up")
        given = dict(given or {})
        unknown = sorted(set(given) - set(self.options))
        if unknown:
            raise InputError(
                f"{self.name} has no option {', '.join(unknown)}; it has {', '.join(self.options)}"
            )
        values = {}
        for name, option in self.options.items():
            usual = option.quick if quick and option.quick is not None else option.default
            values[name] = _checked(name, option, given[name]) if name in given else usual
        return Request(self.name, out, quick, chosen, given, values, device)


def _checked(name: str, option: Option, value: Any) -> Any:
    """The value as the option's type; InputError if it is not of it or out of range."""
    kind = str if option.default is None else type(option.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is str and not isinstance(value, str):
        value = str(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"option {name} is {value!r}; use a value like {option.default!r}")
    if option.choices and value not in option.choices:
        raise InputError(
            f"option {name} is {value!r}; use one of {', '.join(map(str, option.choices))}"
        )
    if isinstance(value, (int, float)) and not option.least <= value < 1e12:
        raise InputError(f"option {name} is {value!r}; use a number from {option.least} up")
    return probability(name, value) if name == "delta" else value
