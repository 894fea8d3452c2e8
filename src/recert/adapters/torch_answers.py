"""Which tensor of all that a module returns is its answer.

The one that is named; else the one called ``logits``; else the first of a tuple or list. Another
tensor is none, however well it may fit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from recert.errors import ParityError
from recert.predictor import LOGITS, Output

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
