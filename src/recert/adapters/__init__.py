"""From a model as people keep it (torch module, file) to a Network; importing needs no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recert.adapters.files import load_description, load_network, save_network
from recert.errors import InputError, MissingDependencyError
from recert.network import InputKind, Network
from recert.predict import Predictor
from recert.sample import At

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "as_network",
    "from_torch",
    "load_description",
    "load_network",
    "save_network",
    "torch_predictor",
]


def as_network(model: Any, sequences: Any = None, **parts: Any) -> Network:
    """The Network of whatever a user calls a model.

    Args:
        model: a Network (returned as it is), a torch module, a tuple (nn.RNN, nn.Linear) or
            (nn.Embedding, nn.RNN, nn.Linear), or the path of a saved network.
        sequences: (m, T) tokens or (m, T, d_x) vectors on which a torch module is compared.
        parts: keywords of `from_torch`, for torch modules.

    Raises:
        InputError: the model is none of these. Otherwise what `from_torch` or `load_network` raise.

    """
    if isinstance(model, Network):
        return model
    if isinstance(model, (str, Path)):
        return load_network(model)
    if _is_torch(model) or (isinstance(model, tuple) and model and all(map(_is_torch, model))):
        return from_torch(model, sequences, **parts)
    raise InputError(
        f"a {type(model).__name__} is not a model that recert reads; pass a recert Network, "
        "a torch module, a tuple (nn.RNN, nn.Linear), or the path of a saved network"
    )


def from_torch(
    model: nn.Module | tuple[nn.Module, ...],
    sequences: Any = None,
    *,
    lengths: Any = None,
    recurrent: nn.Module | str | None = None,
    head: nn.Module | str | None = None,
    embedding: nn.Module | str | None = None,
    at: At = "last",
    input_kind: InputKind | None = None,
) -> Network:
    """The Network that a torch module computes, checked by running both.

    The recurrent layers (one ``nn.RNN``), the head (one ``nn.Linear``) and the embedding (at most
    one ``nn.Embedding``) are found by their exact type, or named. Every parameter and persistent
    buffer must belong to them. The module, in evaluation mode and float64, is then run on up to 256
    sequences and must give the Network's logits, up to a constant common to all classes, which no
    margin sees. The module itself is left as it was.

    Args:
        model: a module, or a tuple (nn.RNN, nn.Linear) or (nn.Embedding, nn.RNN, nn.Linear).
        sequences: (m, T) integer tokens, padded with −1 on the right, or (m, T, d_x) vectors, numpy
            or torch. None: random sequences of 1, 2 and 7 steps are drawn.
        lengths: (m,) numbers of valid steps, or None.
        recurrent: the nn.RNN or its dotted name; None searches.
        head: the nn.Linear or its dotted name; None searches.
        embedding: the nn.Embedding or its dotted name; None searches.
        at: the step that is read; at ``"last"`` only outputs at the last step are compared.
        input_kind: ``"onehot"`` or ``"real"``; None decides by the embedding and the sequences.

    Returns:
        Network with blocks U, W, b (U0, W0, b0, U1, … for several layers; b sums both of torch's
        biases), V, b_V and E, in float64.

    Raises:
        UnsupportedModelError: a part is not covered; the message names it.
        ParityError: the module computes something else than the Network.
        InputError: weights or sequences are unusable, or a named part does not exist.
        MissingDependencyError: torch is not installed.

    """
    _need_torch()
    from recert.adapters import torch_modules

    return torch_modules.from_torch(
        model,
        sequences,
        lengths=lengths,
        recurrent=recurrent,
        head=head,
        embedding=embedding,
        at=at,
        input_kind=input_kind,
    )


def torch_predictor(network: Network) -> Predictor:
    """`recert.predict.network_predictor`, computed by torch in float64: the same, sooner.

    Raises:
        MissingDependencyError: torch is not installed.

    """
    _need_torch()
    from recert.adapters import torch_prediction

    return torch_prediction.torch_predictor(network)


def _is_torch(model: Any) -> bool:
    """Whether this is a torch module, without importing torch for those who have none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "reading a torch module needs torch: pip install 'recert[torch]'"
        ) from None
