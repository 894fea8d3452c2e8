"""Which tensor of all that a module returns is its answer.

The one that is named; else the one called ``logits``; else the first of a tuple or list. Another
tensor is none, however well it may fit.

What a module's forward asks for besides the sequences: lengths, or initial states of zeros.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recert.certificates.predictor import LOGITS, Output
from recert.errors import ParityError, UnsupportedModelError

MOST_SHOWN = 8


class NoAnswerError(ParityError):
    """Of what the module returned none can be taken for its answer."""


def answer(returned: Any, output: Output = None) -> tuple[Tensor, Output]:
    """The tensor that counts, and which it is: None for the only one, "" for the first.

    Args:
        returned: what the module returned.
        output: the name or the number (from 0) of the part that counts, or None.

    Raises:
        NoAnswerError: there is no such part, or it is no tensor of floating-point numbers.
    """
    if output is not None:
        part = _named(returned, output)
        tensor, _ = answer(part)
        return tensor, output
    if isinstance(returned, Tensor):
        if not returned.is_floating_point():
            raise NoAnswerError(
                f"the model answers with a tensor of {returned.dtype}, which holds no logits; let "
                "forward return the logits first, or name them with output="
            )
        return returned, None
    if isinstance(returned, PackedSequence):
        raise NoAnswerError(
            "the model answers with a PackedSequence; let forward unpack it and return the logits"
        )
    parts = parts_of(returned)
    if LOGITS in parts:
        return answer(parts[LOGITS])[0], LOGITS
    held = {name: part for name, part in parts.items() if _holds_tensors(part)}
    if not held:
        raise NoAnswerError(
            f"the model returns no tensor but a {type(returned).__name__}; let forward return the "
            "logits"
        )
    if len(held) > 1 and not isinstance(returned, (tuple, list)):
        raise NoAnswerError(
            f"the model returns several tensors, {_listed(held)}, and none is called {LOGITS!r}; "
            "name the one that is its answer with output="
        )
    tensor, _ = answer(next(iter(held.values())))
    return tensor, "" if len(held) > 1 else None


def parts_of(returned: Any) -> dict[str | int, Any]:
    """The parts of what a module returned, by name, else by number; none of what has none."""
    if isinstance(returned, Mapping):
        return dict(returned)
    if isinstance(returned, tuple) and hasattr(returned, "_fields"):
        return dict(zip(returned._fields, returned, strict=True))
    if isinstance(returned, (tuple, list)):
        return dict(enumerate(returned))
    if dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        return {f.name: getattr(returned, f.name) for f in dataclasses.fields(returned)}
    return dict(vars(returned)) if hasattr(returned, "__dict__") else {}


def _named(returned: Any, output: str | int) -> Any:
    parts = parts_of(returned)
    if output in parts:
        return parts[output]
    if isinstance(output, int) and output < len(parts):
        return list(parts.values())[output]
    if isinstance(output, str) and hasattr(returned, output) and not hasattr(Tensor, output):
        return getattr(returned, output)
    what = f"its outputs are {_listed(parts)}" if parts else "it returns one thing only"
    raise NoAnswerError(f"the model has no output {output!r}; {what}")


def _holds_tensors(part: Any) -> bool:
    if isinstance(part, (Tensor, PackedSequence)):
        return True
    return any(_holds_tensors(inner) for inner in parts_of(part).values()) if _deep(part) else False


def _deep(part: Any) -> bool:
    return isinstance(part, (Mapping, tuple, list)) or dataclasses.is_dataclass(part)


def _listed(parts: Mapping[Any, Any]) -> str:
    names = ", ".join(map(repr, list(parts)[:MOST_SHOWN]))
    return names if len(parts) <= MOST_SHOWN else f"{names}, …"


INSIDE = frozenset({"c", "c0", "c_0", "cx", "cell", "cell_state", "c_t", "prev_c"})
STATES = INSIDE | {
    "h", "h0", "h_0", "hx", "hidden", "state", "states", "hidden_state", "h_t", "prev_h", "hc",
    "hidden_states", "prev_state", "prev_hidden", "init_hidden", "initial_state", "hiddens",
}  # fmt: skip
# Names of arguments that take the sequences' lengths.
_LENGTHS = re.compile(r"(.*_)?(lens|lengths?|seq_?len)")
# Batches that a module may ask for by an attribute batch_size; larger ones are not tried.
MOST_BATCH = 1024


@dataclass(frozen=True)
class Arguments:
    """Names of forward's further arguments, and the states' shapes.

    Args:
        names: what must be given after the sequences.
        layers: number of states, all layers and directions.
        outer: dimension of a layer's output in one direction.
        inner: number of its units.
        pair: whether a state is a pair (h, c), as LSTMs have it.
        batch: the batch size that the module insists on, or None.
        optional: an argument that it does not ask for and that takes lengths, by its name.
    """

    names: tuple[str, ...] = ()
    layers: int = 1
    outer: int = 1
    inner: int = 1
    pair: bool = False
    batch: int | None = None
    optional: str = ""

    @property
    def variants(self) -> int:
        """In how many ways the arguments may be given."""
        return 3 if STATES.intersection(self.names) else 1

    def values(
        self,
        variant: int,
        n: int,
        steps: int,
        device: torch.device,
        dtype: torch.dtype,
        lengths: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Zeros of shape (layers, n, d), or (n, d), or None for states; (n,) lengths."""
        leading = (self.layers, n) if variant == 0 else (n,)
        apart = bool(INSIDE.intersection(self.names))

        def zeros(size: int) -> torch.Tensor:
            return torch.zeros((*leading, size), dtype=dtype, device=device)

        def value(name: str) -> Any:
            if name not in STATES:
                every = [steps] * n if lengths is None else lengths
                return torch.as_tensor(every, dtype=torch.int64)
            if variant == 2:
                return None
            if name in INSIDE:
                return zeros(self.inner)
            if self.pair and not apart:
                return zeros(self.outer), zeros(self.inner)
            return zeros(self.outer)

        return {name: value(name) for name in self.names}


def arguments_of(model: nn.Module, recurrent: Any = None) -> Arguments:
    """What forward asks for.

    Args:
        model: a module.
        recurrent: its first recurrent layer, whose states forward may ask for, or None.

    Raises:
        UnsupportedModelError: forward asks for arguments that are not known here.

    """
    asked = [
        parameter
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ][1:]
    names = tuple(parameter.name for parameter in asked)
    unknown = [name for name in names if name not in STATES]
    positional = [p.name for p in asked if p.kind is inspect.Parameter.POSITIONAL_ONLY]
    if len(unknown) > 1 or positional:
        raise UnsupportedModelError(
            f"the model's forward asks for {', '.join(names)} besides the sequences; wrap it in a "
            "module whose forward reads sequences, or sequences and lengths"
        )
    optional = "" if unknown else _takes_lengths(model)
    batch = getattr(model, "batch_size", None)
    batch = batch if isinstance(batch, int) and 1 <= batch <= MOST_BATCH else None
    if recurrent is None:
        return Arguments(names, batch=batch, optional=optional)
    units = recurrent.hidden_size
    directions = 2 if getattr(recurrent, "bidirectional", False) else 1
    return Arguments(
        names,
        getattr(recurrent, "num_layers", 1) * directions,
        getattr(recurrent, "proj_size", 0) or units,
        units,
        isinstance(recurrent, (nn.LSTM, nn.LSTMCell)),
        batch,
        optional,
    )


def _takes_lengths(model: nn.Module) -> str:
    """An argument with a default that is called lengths, or something like it."""
    names = inspect.signature(model.forward).parameters
    return next((name for name in list(names)[1:] if _LENGTHS.fullmatch(name)), "")
