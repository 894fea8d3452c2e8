"""Ways of calling a torch module of any structure, in evaluation mode, for its answers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recert.certificates.predictor import Output
from recert.readers.torch.calls import STATES, answer, arguments_of
from recert.readers.torch.running import evaluation_copy

Run = Callable[[NDArray[Any], NDArray[np.int64] | None], NDArray[Any]]


@contextmanager
def calls(
    model: nn.Module, output: Output, *, with_lengths: bool
) -> Iterator[tuple[list[tuple[Run, bool]], bool, int | None]]:
    """Ways to call a module, each with whether states are passed; whether it is passed lengths.

    The last is the size of batches that it insists on, or None. Real inputs are given in the type
    of its weights, on their device.

    Raises:
        UnsupportedModelError: forward asks for what is not known here.
    """
    kinds = (nn.RNNBase, nn.RNNCellBase)
    recurrent = next((part for part in model.modules() if isinstance(part, kinds)), None)
    asked = arguments_of(model, recurrent)
    optional = asked.optional if with_lengths else ""
    with evaluation_copy(model, None) as module:
        some = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(1))

        def run(variant: int) -> Run:
            def found(x: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[Any]:
                real = x.dtype.kind == "f"
                given = torch.as_tensor(x, dtype=some.dtype if real else torch.int64)
                valid = None if lengths is None else lengths.tolist()
                n, steps = len(x), x.shape[1] if x.ndim > 1 else 1
                extra = asked.values(variant, n, steps, some.device, some.dtype, valid)
                if optional:
                    extra[optional] = torch.as_tensor(lengths, dtype=torch.int64)
                return _numbers(module(given.to(some.device), **extra), output)

            return found

        states = bool(STATES.intersection(asked.names))
        takes = bool(optional) or any(name not in STATES for name in asked.names)
        yield [(run(v), states) for v in range(asked.variants)], takes, asked.batch


def _numbers(returned: Any, output: Output) -> NDArray[Any]:
    """Scores as float64, or classes as whole numbers."""
    whole = output is None and isinstance(returned, Tensor) and not returned.is_floating_point()
    tensor = (returned if whole else answer(returned, output)[0]).detach().cpu()
    found: NDArray[Any] = tensor.numpy() if whole else tensor.to(torch.float64).numpy()
    return found
