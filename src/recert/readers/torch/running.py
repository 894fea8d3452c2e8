"""Running a user's module on sequences of one width, for the tensor that is its answer."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from recert.certificates.predictor import Output
from recert.errors import InputError, ParityError
from recert.readers.torch.calls import Arguments, NoAnswerError, answer
from recert.utils.validation import short

Array = NDArray[np.float64]

# Largest difference, relative to 1 + max |logit|, by the precision in which the module runs.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}


class DoesNotRunError(ParityError):
    """The module raised an error on every way of giving it the sequences."""


@contextmanager
def usual_torch() -> Iterator[None]:
    """New tensors are made on the CPU, and no operation is made narrower by a caller's autocast."""
    with torch.device("cpu"), torch.autocast("cpu", enabled=False):
        yield


@dataclass(frozen=True)
class InputGroup:
    """Sequences of one length: their numbers (n,) in the sample, and x (n, T) or (n, T, d_x)."""

    rows: NDArray[np.int64]
    x: NDArray[Any]

    @property
    def steps(self) -> int:
        """T."""
        return int(self.x.shape[1])

    def short(self, steps: int) -> InputGroup:
        """The same sequences up to that step."""
        return InputGroup(self.rows, self.x[:, :steps])

    def of_size(self, n: int) -> InputGroup:
        """The same sequences again and again until there are n of them, or the first n."""
        index = np.resize(np.arange(len(self.rows)), n)
        return InputGroup(self.rows[index], self.x[index])


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


@dataclass(frozen=True)
class Usage:
    """What a user says of how the module is used.

    Attributes:
        output: the name or number of the output that counts; None for the first, or ``logits``.
        steps_first: whether sequences are given with steps first; None asks, where that matters.
    """

    output: Output = None
    steps_first: bool | None = None

    @property
    def orders(self) -> tuple[bool, ...]:
        """Whether steps come first, in the order in which it is tried."""
        return (False, True) if self.steps_first is None else (self.steps_first,)


def check_order(steps_first: object) -> bool | None:
    """True, False or None; InputError for anything else."""
    if steps_first is None or isinstance(steps_first, bool):
        return steps_first
    raise InputError(f"steps_first is {short(steps_first)}; use True or False, or leave it out")


@dataclass(frozen=True)
class CallForm:
    """One way of giving a module its sequences: steps first or not, and how states are given."""

    steps_first: bool = False
    variant: int = 0


class Runner:
    """Runs a module on a group, sequences first and steps first.

    Args:
        module: in evaluation mode.
        arguments: what its forward asks for.
        usage: what the user says of it.
        coarse: whether precisions will do that are too coarse to compare numbers in.

    Raises:
        DoesNotRunError: the module's precision is too coarse to compare.

    """

    def __init__(
        self, module: nn.Module, arguments: Arguments, usage: Usage, *, coarse: bool = False
    ) -> None:
        some = next(module.parameters())
        self.module, self.arguments, self.usage = module, arguments, usage
        self.dtype, self.device = some.dtype, some.device
        self.answered: Output = None
        if self.dtype not in TOLERANCE and not coarse:
            raise DoesNotRunError(
                f"the model could be run in {self.dtype} only, too coarse to compare; "
                "convert it with model.float()"
            )
        self.tolerance = TOLERANCE.get(self.dtype, 1.0)

    def with_order(self, steps_first: bool) -> Runner:
        """The same, run in one order of the axes only."""
        usage = replace(self.usage, steps_first=steps_first)
        return Runner(self.module, self.arguments, usage)

    def outputs(self, group: InputGroup) -> list[Array]:
        """The answers in float64, whatever their shape, on every way of giving the sequences.

        Raises:
            DoesNotRunError: on no way of giving it the sequences does the module run.
            NoAnswerError: what it returns holds no answer.

        """
        return [found for _, found in self.answers(group)]

    def answers(self, group: InputGroup) -> list[tuple[CallForm, Array]]:
        """As ``outputs``, each with the way that it was run."""
        found, failure = [], None
        for steps_first in self.usage.orders:
            for variant in range(self.arguments.variants):
                form = CallForm(steps_first, variant)
                try:
                    found.append((form, self.run(group, form)))
                except NoAnswerError:
                    raise
                except Exception as error:  # a user's forward may raise anything
                    failure = failure or error
                    continue
                break
        if not found:
            lines = str(failure).splitlines()
            raise DoesNotRunError(
                f"the model does not run on inputs of shape {group.x.shape} "
                f"({type(failure).__name__}: {lines[0] if lines else ''}); pass sequences of the "
                "kind that it reads, or wrap it in a module whose forward reads sequences alone"
            )
        return found

    def why_other(self, group: InputGroup, form: CallForm) -> str:
        """Why the module gives other outputs for the same sequences: chance, or a memory."""
        found = []
        for _ in range(2):
            with _seeded():
                found.append(self.call(group, form))
        again = "the model gives other outputs when the same sequences are run again"
        if same(*found):
            return (
                f"{again}, because it draws random numbers in evaluation mode, too (such as "
                "nn.functional.dropout without training=self.training); let forward compute the "
                "same every time"
            )
        return f"{again}, so it keeps a state between calls; let forward start from zero states"

    def run(self, group: InputGroup, form: CallForm, lengths: Sequence[int] | None = None) -> Array:
        """The answer to one call, in float64; whatever the module raises."""
        tensor = self.call(group, form, lengths)
        found: Array = tensor.detach().to("cpu", torch.float64).numpy()
        return found

    def call(
        self,
        group: InputGroup,
        form: CallForm = CallForm(),
        lengths: Sequence[int] | None = None,
        *,
        optional: str = "",
    ) -> Tensor:
        """The answer to one call, as the module gives it.

        Args:
            group: sequences.
            form: how they are given.
            lengths: valid steps of each, where the module asks for them; None for all.
            optional: an argument of the module that it does not ask for, and that takes lengths.
        """
        real = group.x.dtype.kind == "f"
        x = torch.as_tensor(group.x, dtype=self.dtype if real else torch.int64, device=self.device)
        x = x.transpose(0, 1).contiguous() if form.steps_first else x
        extra = self.arguments.values(
            form.variant, len(group.x), group.steps, x.device, self.dtype, lengths
        )
        if optional:
            extra[optional] = torch.as_tensor(lengths, dtype=torch.int64)
        wide = self.dtype == torch.float64
        with _float64_by_default() if wide else nullcontext():
            tensor, self.answered = answer(self.module(x, **extra), self.usage.output)
        return tensor


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
