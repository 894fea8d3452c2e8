"""Running a user's module on sequences of one length, and reading logits off what it returns."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from recert.errors import ParityError, UnsupportedModelError
from recert.network import Network

Array = NDArray[np.float64]

# Largest difference, relative to 1 + max |logit|, by the precision in which the module runs.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}
STATE_ARGUMENTS = frozenset({"h", "h0", "h_0", "hx", "hidden", "state", "states"})


class DoesNotRunError(ParityError):
    """The module raised an error on every way of giving it the sequences."""


@dataclass(frozen=True)
class Group:
    """Sequences of one length: their numbers (n,) in the sample, and x (n, T) or (n, T, d_x)."""

    rows: NDArray[np.int64]
    x: NDArray[Any]

    @property
    def steps(self) -> int:
        """T."""
        return int(self.x.shape[1])


@contextmanager
def evaluation_copy(model: nn.Module, dtype: torch.dtype | None) -> Iterator[nn.Module]:
    """A copy on the CPU in that dtype (None: as it is) in evaluation mode, without gradients.

    A module that cannot be copied is lent itself, and its training mode restored.
    """
    try:
        module = copy.deepcopy(model)
        if dtype is not None:
            module = module.to("cpu", dtype)
    except Exception:  # a user's module may raise anything here
        module = model
    with evaluating(module):
        yield module


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, and back to how it was."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, training in modes:
            m.training = training


class _AllFloat64(TorchFunctionMode):
    """Conversions to a narrower float, such as ``one_hot(x).float()``, give float64 instead."""

    NARROW = frozenset({torch.float32, torch.float16, torch.bfloat16})
    CASTS = frozenset({Tensor.float, Tensor.half, Tensor.bfloat16})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        func = Tensor.double if func in self.CASTS else func
        args = tuple(self._wide(a) for a in args)
        return func(*args, **{k: self._wide(v) for k, v in (kwargs or {}).items()})

    def _wide(self, value: Any) -> Any:
        narrow = isinstance(value, torch.dtype) and value in self.NARROW
        return torch.float64 if narrow else value


@contextmanager
def _float64_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _AllFloat64():
            yield
    finally:
        torch.set_default_dtype(before)


class Runner:
    """Runs a module on a group and reads logits off whatever it returns.

    Raises:
        DoesNotRunError: the module's precision is too coarse to compare.

    """

    def __init__(self, module: nn.Module, extra: str | None, network: Network) -> None:
        some = next(module.parameters())
        self.module, self.extra, self.network = module, extra, network
        self.dtype, self.device = some.dtype, some.device
        if self.dtype not in TOLERANCE:
            raise DoesNotRunError(
                f"the model could be run in {self.dtype} only, too coarse to compare; "
                "convert it with model.float()"
            )
        self.tolerance = TOLERANCE[self.dtype]

    def readings(self, group: Group) -> Iterator[Array]:
        """Possible logits (n, K) of the last step or (n, T, K) of all, with either axis first."""
        failure: Exception | None = None
        ran = False
        for batch_first in (True, False):
            try:
                out = _first_tensor(self._run(group, batch_first))
            except Exception as error:  # a user's forward may raise anything
                failure = failure or error
                continue
            ran = True
            if out is not None:
                value = out.detach().to("cpu", torch.float64).numpy()
                yield from _readings(value, len(group.x), group.steps, self.network.K)
        if not ran:
            what = (
                f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"
            )
            raise DoesNotRunError(
                f"the model does not run on inputs of shape {group.x.shape} ({what}); pass "
                "sequences of the kind that it reads, or wrap it in a module whose forward reads "
                "sequences alone"
            )

    def _run(self, group: Group, batch_first: bool) -> Any:
        real = group.x.dtype.kind == "f"
        x = torch.as_tensor(group.x, dtype=self.dtype if real else torch.int64, device=self.device)
        x = x if batch_first else x.transpose(0, 1).contiguous()
        wide = self.dtype == torch.float64
        with _float64_by_default() if wide else nullcontext():
            return self.module(x, *self._extra(len(group.x), group.steps))

    def _extra(self, n: int, steps: int) -> tuple[Tensor, ...]:
        if self.extra is None:
            return ()
        if self.extra in STATE_ARGUMENTS:
            shape = (len(self.network.layers), n, self.network.d_h)
            return (torch.zeros(shape, dtype=self.dtype, device=self.device),)
        return (torch.full((n,), steps, dtype=torch.int64),)


def extra_argument(model: nn.Module) -> str | None:
    """The name of forward's second argument, if it must be given."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    asked = [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.default is inspect.Parameter.empty
        and (p.kind in positional or p.kind is inspect.Parameter.KEYWORD_ONLY)
    ][1:]
    if len(asked) > 1:
        raise UnsupportedModelError(
            f"the model's forward asks for {', '.join(asked)} besides the sequences; wrap it in a "
            "module whose forward reads sequences, or sequences and lengths"
        )
    return asked[0] if asked else None


def _first_tensor(out: Any) -> Tensor | None:
    if isinstance(out, Tensor):
        return out
    if isinstance(out, dict):
        out = [out["logits"]] if "logits" in out else list(out.values())
    if isinstance(out, (tuple, list)):
        return next((t for t in map(_first_tensor, out) if t is not None), None)
    return None


def _readings(out: Array, n: int, steps: int, K: int) -> Iterator[Array]:
    """An output as logits (n, K) or (n, T, K), in every layout that its shape allows."""
    if out.shape in ((n, K), (1, n, K)):
        yield out.reshape(n, K)
    if out.shape == (n, steps, K):
        yield out
    if out.shape == (steps, n, K):
        yield out.transpose(1, 0, 2)
    if out.shape == (n, K, steps):
        yield out.transpose(0, 2, 1)
    if out.shape == (n * steps, K):
        yield out.reshape(n, steps, K)
        yield out.reshape(steps, n, K).transpose(1, 0, 2)
