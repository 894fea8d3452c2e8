"""Whatever answers, called for its answers: modules, ONNX, estimators, Keras models, functions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recert.certificates.predictor import LOGITS, Output
from recert.errors import InputError, MissingDependencyError, UnsupportedModelError, type_of
from recert.networks.forward import network_predictor
from recert.networks.network import Network
from recert.readers import ONNX, as_network, is_module
from recert.samples.sample import At
from recert.utils.validation import Brief

Kind = Literal["module", "onnx", "network", "keras", "estimator", "function"]
Run = Callable[[NDArray[Any], "NDArray[np.int64] | None"], Any]

_LENGTHS = re.compile(r"(.*_)?(lens|lengths?|seq_?len)")
_TYPES = {"float": "f4", "double": "f8", "float16": "f2", "int64": "i8", "int32": "i4",
          "uint8": "u1", "int8": "i1", "bool": "?", "string": "U"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Caller(Brief):
    """One way of calling a predictor.

    Attributes:
        kind, name: what it is, and what its type is called.
        run: a batch (n, …) and lengths (n,) or None → its answers.
        lengths: whether it is passed lengths.
        states: whether it is passed initial states of zeros.
        steps_first: whether it is given batches with steps first.
        batch: the only size of batch that it takes, or None.
        classes: whether its answers are classes, of whatever type.
    """

    kind: Kind
    name: str
    run: Run
    lengths: bool = False
    states: bool = False
    steps_first: bool = False
    batch: int | None = None
    classes: bool = False

    def __call__(self, x: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[Any]:
        """The answers to a batch, longest sequences first where lengths are passed."""
        if not self.lengths or lengths is None:
            return self._answers(x, lengths if self.lengths else None)
        order = np.argsort(-lengths, kind="stable")
        found = self._answers(x[order], lengths[order])
        if len(found) != len(x):
            return found
        back = np.empty_like(found)
        back[order] = found
        return back

    def _answers(self, x: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[Any]:
        n, size = len(x), self.batch or len(x)
        if n > size:
            raise InputError(f"batches of {size} sequences are the only ones that it takes")
        rows = np.resize(np.arange(n), size)
        given = x[rows] if size != n else x
        given = np.ascontiguousarray(given.swapaxes(0, 1)) if self.steps_first else given
        found = as_array(self.run(given, None if lengths is None else lengths[rows]))
        return found[:n] if size != n and len(found) == size else found


def as_array(value: Any) -> NDArray[Any]:
    """What a predictor gave, as numpy reads it."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    found = np.asarray(value)
    return found.astype(np.str_) if found.dtype.kind in "OS" else found


@contextmanager
def callers(
    model: Any, *, output: Output, steps_first: bool | None, with_lengths: bool, at: At
) -> Iterator[list[Caller]]:
    """Every way in which a predictor may be called, in the order in which it is tried.

    Raises:
        InputError: it is nothing that answers; UnsupportedModelError: it asks for more than
        sequences and lengths.
    """
    name = type(model).__name__
    if is_module(model) and not isinstance(model, tuple):
        from recert.readers.torch import black_box

        with black_box.calls(model, output, with_lengths=with_lengths) as (ways, takes, batch):
            found = [Caller("module", name, run, takes, states, False, batch)
                     for run, states in ways]  # fmt: skip
            yield _ordered(found, steps_first)
        return
    session = _session(model)
    if session is not None:
        yield _ordered([_of_session(session, output, with_lengths)], steps_first)
        return
    if steps_first is not None:
        raise InputError("steps_first is for torch modules; other models read batches of sequences")
    yield [_plain(model, name, output, with_lengths, at)]


def _ordered(found: list[Caller], steps_first: bool | None) -> list[Caller]:
    orders = (False, True) if steps_first is None else (steps_first,)
    return [replace(way, steps_first=first) for first in orders for way in found]


def _plain(model: Any, name: str, output: Output, with_lengths: bool, at: At) -> Caller:
    if isinstance(model, (Network, tuple, str, Path)):
        network = as_network(model)
        predict = network_predictor(network)

        def answers(x: NDArray[Any], lengths: NDArray[np.int64] | None) -> Any:
            if lengths is None and x.dtype.kind == "i" and x.min() < 0:
                raise InputError("tokens below 0 are no tokens; pass lengths of padded sequences")
            full = np.full(len(x), x.shape[1]) if lengths is None else lengths
            return predict(x, full, at)

        return Caller("network", "Network", answers, with_lengths)
    if hasattr(model, "predict_on_batch"):
        return Caller("keras", name, lambda x, _: _part(model.predict_on_batch(x), output))
    if hasattr(model, "predict"):
        classes = hasattr(model, "classes_")
        return Caller(
            "estimator", name, lambda x, _: _part(model.predict(x), output), classes=classes
        )
    if callable(model):
        takes = with_lengths and _takes_lengths(model)
        name = getattr(model, "__name__", name)
        if takes:
            return Caller("function", name, lambda x, n: _part(model(x, n), output), True)
        return Caller("function", name, lambda x, _: _part(model(x), output))
    raise InputError(
        f"{type_of(model)} is no predictor; pass a torch module, an ONNX file or session, an "
        "object with predict, or a function of a batch"
    )


def _takes_lengths(model: Any) -> bool:
    try:
        names = list(inspect.signature(model).parameters)
    except (TypeError, ValueError):
        return False
    return len(names) > 1 and _LENGTHS.fullmatch(names[1]) is not None


def _part(returned: Any, output: Output) -> Any:
    """The answer among several outputs: the one that is named, ``logits``, or the first."""
    parts: Mapping[Any, Any] = {}
    if isinstance(returned, Mapping):
        parts = returned
    elif isinstance(returned, tuple):
        parts = dict(enumerate(returned))
    if output is not None:
        if output not in parts:
            raise InputError(f"the predictor has no output {output!r}; leave it out")
        return parts[output]
    return parts.get(LOGITS, next(iter(parts.values()))) if parts else returned


def _session(model: Any) -> Any:
    """An ONNX session, of a file's where its path is given; None for anything else."""
    if hasattr(model, "run") and hasattr(model, "get_inputs"):
        return model
    if not isinstance(model, (str, Path)) or Path(model).suffix != ONNX:
        return None
    try:
        import onnxruntime
    except ImportError:
        return _reference(model)
    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def _reference(path: str | Path) -> Any:
    """ONNX's own evaluator, where onnxruntime is not installed."""
    try:
        import onnx
        from onnx.reference import ReferenceEvaluator
    except ImportError:
        raise MissingDependencyError(
            "running an ONNX model needs onnxruntime, or pip install 'recert[onnx]'"
        ) from None
    return _Evaluator(onnx.load(str(path)), ReferenceEvaluator(str(path)))


@dataclass(frozen=True)
class _Named:
    name: str
    type: str
    shape: tuple[Any, ...]


class _Evaluator:
    """The reference evaluator, with a session's methods."""

    def __init__(self, model: Any, evaluator: Any) -> None:
        known = {1: "float", 11: "double", 10: "float16", 7: "int64", 6: "int32", 2: "uint8",
                 3: "int8", 9: "bool", 8: "string"}  # fmt: skip
        constants = {c.name for c in model.graph.initializer}
        self._evaluator, self._inputs = evaluator, []
        for given in model.graph.input:
            kind = given.type.tensor_type
            if given.name not in constants:
                shape = tuple(d.dim_value or None for d in kind.shape.dim)
                named = _Named(given.name, f"tensor({known.get(kind.elem_type, '')})", shape)
                self._inputs.append(named)
        self._outputs = [_Named(o.name, "", ()) for o in model.graph.output]

    def get_inputs(self) -> list[_Named]:
        """Its inputs."""
        return self._inputs

    def get_outputs(self) -> list[_Named]:
        """Its outputs."""
        return self._outputs

    def run(self, names: list[str], given: Mapping[str, Any]) -> list[Any]:
        """Those outputs."""
        found: list[Any] = self._evaluator.run(names, dict(given))
        return found


def _of_session(session: Any, output: Output, with_lengths: bool) -> Caller:
    first, *others = session.get_inputs()
    unknown = [i.name for i in others if not _LENGTHS.fullmatch(i.name)]
    if unknown or len(others) > 1:
        raise UnsupportedModelError(
            f"the ONNX model asks for {', '.join(i.name for i in others)} besides the sequences; "
            "wrap it in a function of a batch of sequences"
        )
    names = [o.name for o in session.get_outputs()]
    which = LOGITS if LOGITS in names else names[0]
    if output is not None:
        named = names[output] if isinstance(output, int) and output < len(names) else output
        if named not in names:
            raise InputError(f"the ONNX model has no output {output!r}; it has {', '.join(names)}")
        which = str(named)

    def run(x: NDArray[Any], lengths: NDArray[np.int64] | None) -> Any:
        given = {first.name: x.astype(_type(first))}
        for other in others:
            valid = np.full(len(x), x.shape[1]) if lengths is None else lengths
            given[other.name] = valid.astype(_type(other))
        return session.run([which], given)[0]

    size = first.shape[0] if first.shape else None
    batch = size if isinstance(size, int) and size > 0 else None
    return Caller("onnx", "ONNX", run, bool(others) and with_lengths, batch=batch)


def _type(given: Any) -> str:
    return _TYPES.get(str(given.type).removeprefix("tensor(").rstrip(")"), "f4")
