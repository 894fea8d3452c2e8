"""Running a user's module on sequences of one length, for all the tensors that it returns."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode

from recert.adapters.torch_arguments import Arguments
from recert.errors import ParityError

Array = NDArray[np.float64]

# Largest difference, relative to 1 + max |logit|, by the precision in which the module runs.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}
# Tensors that are looked at in what a module returns.
MOST_OUTPUTS = 8


class DoesNotRunError(ParityError):
    """The module raised an error on every way of giving it the sequences."""


@contextmanager
def usual_torch() -> Iterator[None]:
    """New tensors are made on the CPU, and no operation is made narrower by a caller's autocast."""
    with torch.device("cpu"), torch.autocast("cpu", enabled=False):
        yield


@dataclass(frozen=True)
class Group:
    """Sequences of one length: their numbers (n,) in the sample, and x (n, T) or (n, T, d_x)."""

    rows: NDArray[np.int64]
    x: NDArray[Any]

    @property
    def steps(self) -> int:
        """T."""
        return int(self.x.shape[1])

    def of_size(self, n: int) -> Group:
        """The same sequences again and again until there are n of them, or the first n."""
        index = np.resize(np.arange(len(self.rows)), n)
        return Group(self.rows[index], self.x[index])


@contextmanager
def evaluation_copy(model: nn.Module, dtype: torch.dtype | None) -> Iterator[nn.Module]:
    """A copy on the CPU in that dtype (None: as it is) in evaluation mode, without gradients.

    A module that cannot be copied is lent itself, and its training mode restored.
    """
    try:
        module = copy.deepcopy(model, _computed(model))
        if dtype is not None:
            module = module.to("cpu", dtype)
    except Exception:  # a user's module may raise anything here
        module = model
    with evaluating(module):
        yield module


def _computed(model: nn.Module) -> dict[int, Any]:
    """Copies of tensors that were computed with gradients, which deepcopy refuses."""
    memo: dict[int, Any] = {}
    waiting: list[Any] = [list(vars(module).values()) for module in model.modules()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if not value.is_leaf:
                memo[id(value)] = value.detach().clone()
        elif type(value) in (list, tuple):
            waiting += value
    return memo


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
    """Runs a module on a group, sequences first and steps first.

    Raises:
        DoesNotRunError: the module's precision is too coarse to compare.

    """

    def __init__(self, module: nn.Module, arguments: Arguments) -> None:
        some = next(module.parameters())
        self.module, self.arguments = module, arguments
        self.dtype, self.device = some.dtype, some.device
        if self.dtype not in TOLERANCE:
            raise DoesNotRunError(
                f"the model could be run in {self.dtype} only, too coarse to compare; "
                "convert it with model.float()"
            )
        self.tolerance = TOLERANCE[self.dtype]

    def outputs(self, group: Group) -> Iterator[Array]:
        """Every tensor that the module returns, in float64, whatever its shape.

        The module is run with steps first only if more is asked for than it returned before.

        Raises:
            DoesNotRunError: on no way of giving it the sequences does the module run.

        """
        failure: Exception | None = None
        ran = False
        for batch_first in (True, False):
            for variant in range(self.arguments.variants):
                try:
                    returned = self.run(group, variant, batch_first=batch_first)
                except Exception as error:  # a user's forward may raise anything
                    failure = failure or error
                    continue
                ran = True
                yield from (tensor.detach().to("cpu", torch.float64).numpy() for tensor in returned)
                break
        if not ran:
            lines = str(failure).splitlines()
            raise DoesNotRunError(
                f"the model does not run on inputs of shape {group.x.shape} "
                f"({type(failure).__name__}: {lines[0] if lines else ''}); pass sequences of the "
                "kind that it reads, or wrap it in a module whose forward reads sequences alone"
            )

    def why_other(self, group: Group) -> str:
        """Why the module gives other outputs for the same sequences: chance, or a memory."""
        found = []
        for _ in range(2):
            with _seeded():
                found.append(self.run(group))
        again = "the model gives other outputs when the same sequences are run again"
        if len(found[0]) == len(found[1]) and all(map(same, *found)):
            return (
                f"{again}, because it draws random numbers in evaluation mode, too (such as "
                "nn.functional.dropout without training=self.training); let forward compute the "
                "same every time"
            )
        return f"{again}, so it keeps a state between calls; let forward start from zero states"

    def run(self, group: Group, variant: int = 0, *, batch_first: bool = True) -> list[Tensor]:
        """The tensors that one call returns; whatever the module raises."""
        real = group.x.dtype.kind == "f"
        x = torch.as_tensor(group.x, dtype=self.dtype if real else torch.int64, device=self.device)
        x = x if batch_first else x.transpose(0, 1).contiguous()
        extra = self.arguments.values(variant, len(group.x), group.steps, x.device, self.dtype)
        wide = self.dtype == torch.float64
        with _float64_by_default() if wide else nullcontext():
            return _tensors(self.module(x, **extra))[:MOST_OUTPUTS]


@contextmanager
def _seeded() -> Iterator[None]:
    """The same random numbers each time, of torch, numpy and Python; then theirs go on."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two outputs are equal, rounding apart."""
    return a.shape == b.shape and torch.allclose(a, b, equal_nan=True)


def _tensors(out: Any) -> list[Tensor]:
    """The tensors in what a module returned, logits first."""
    if isinstance(out, Tensor):
        return [out] if out.is_floating_point() else []
    if isinstance(out, PackedSequence):
        return []
    if isinstance(out, dict):
        out = sorted(out.items(), key=lambda item: item[0] != "logits")
        out = [value for _, value in out]
    if isinstance(out, (tuple, list)):
        return [tensor for part in out for tensor in _tensors(part)]
    return []
