"""From a model as people keep it (torch module, file) to a Network; importing needs no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recert.certificates.predictor import Call, Padding
from recert.errors import InputError, MissingDependencyError, type_of
from recert.networks.forward import Predictor, network_predictor
from recert.networks.network import InputKind, Network
from recert.numerics import rounding
from recert.readers.load import ONNX, load_description, load_network, load_onnx, save_network
from recert.samples.sample import At

if TYPE_CHECKING:
    from torch import nn

Arithmetic = Literal["numpy", "torch"]

__all__ = [
    "ONNX",
    "Arithmetic",
    "as_network",
    "from_torch",
    "is_module",
    "load_description",
    "load_network",
    "predictor_of",
    "read_model",
    "save_network",
    "torch_predictor",
]


def as_network(model: Any, sequences: Any = None, **how: Any) -> Network:
    """The Network of whatever a user calls a model; arguments as in ``read_model``."""
    return read_model(model, sequences, **how)[0]


def read_model(
    model: Any,
    sequences: Any = None,
    *,
    lengths: Any = None,
    padding: Padding | None = None,
    output: str | int | None = None,
    steps_first: bool | None = None,
    **parts: Any,
) -> tuple[Network, Call]:
    """The Network of whatever a user calls a model, and how that model is called.

    Args:
        model: a Network (returned as it is), a torch module, a tuple (nn.LSTM, nn.Linear) or
            (nn.Embedding, nn.LSTM, nn.Linear), or the path of a saved network.
        sequences: (m, T) tokens or (m, T, d_x) vectors, as given, on which a model is compared.
        lengths: of the sequences, or a mask.
        padding: how it is read.
        output: which output of a torch module or an ONNX model counts.
        steps_first: whether a torch module is given steps first.
        parts: further keywords of `from_torch`, for torch modules.

    Raises:
        InputError: the model is none of these. Otherwise what `from_torch` or `load_network` raise.

    """
    if is_module(model):
        return _read_torch(
            model, sequences, lengths=lengths, padding=padding, output=output,
            steps_first=steps_first, **parts,
        )  # fmt: skip
    if steps_first is not None:
        raise InputError("steps_first is for torch modules; other models read batches of sequences")
    if isinstance(model, (str, Path)) and Path(model).suffix == ONNX:
        return load_onnx(model, output, (sequences, lengths, padding, parts.get("at", "last")))
    if output is not None:
        raise InputError("output names what a torch module or an ONNX model returns; leave it out")
    if isinstance(model, Network):
        return model, Call()
    if isinstance(model, (str, Path)):
        return load_network(model), Call()
    raise InputError(
        f"{type_of(model)} is not a model that recert.certify reads; for a Posterior use "
        "recert.certify_posterior, else pass a recert Network, "
        "a torch module, a tuple (nn.LSTM, nn.Linear), or the path of a saved network"
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
    output: str | int | None = None,
    steps_first: bool | None = None,
    padding: Padding | None = None,
) -> Network:
    """The Network that a torch module computes, checked by running both.

    Parts are found by their exact type: ``nn.RNN``, ``nn.LSTM``, ``nn.GRU`` with all their options
    and ``nn.RNNCell``, ``nn.LSTMCell``, ``nn.GRUCell``, one above the other; ``nn.Linear`` layers
    before them and after them; at most one ``nn.Embedding``. Every parameter and persistent buffer
    must belong to them. How they are put together is found by trying: the order, activations
    between linear layers (identity, tanh, relu, sigmoid, leaky_relu with slope 0.01, elu), and what
    the head reads (the outputs at a step, the final states, their mean). The module, in evaluation
    mode and float64, is then run on up to 256 sequences and must give the Network's logits, up to a
    constant common to all classes, or their softmax, log-softmax or sigmoids; and the Network's
    classes, also in the precision in which it is stored. Of several tensors that it returns the one
    called ``logits`` counts, else the first, or the one that ``output`` names. Sequences are given
    without padding; where padding makes another answer, ``padding`` says which one is meant. The
    module itself is left as it was.

    A module with a method ``recert_network()`` is read through it; the Network's blocks must hold
    exactly the module's parameters, and it is run and compared like any other.

    Args:
        model: a module, or a tuple (nn.LSTM, nn.Linear) or (nn.Embedding, nn.LSTM, nn.Linear).
        sequences: (m, T) integer tokens, padded with −1 on the right, or (m, T, d_x) vectors, numpy
            or torch. None: random sequences of 1, 2 and 7 steps are drawn.
        lengths: (m,) numbers of valid steps, a (m, T) mask that is true at them, or None.
        recurrent: the only recurrent layer or its dotted name; None searches.
        head: the last nn.Linear or its dotted name; None searches.
        embedding: the nn.Embedding or its dotted name; None searches.
        at: the step that is read; at ``"last"`` only outputs at the last step are compared.
        input_kind: ``"onehot"`` or ``"real"``; None decides by the embedding and the sequences.
        output: name or number (from 0) of the output that is the module's answer.
        steps_first: whether the module is given (T, m, …); None asks where both run.
        padding: ``"cut"``, ``"as given"`` or ``"left"``, as in ``recert.certify``.

    Returns:
        Network in float64 with blocks E (embedding), F, b_F (before the recurrent layers), the
        cells' own (U, W, b with the gate as an index, `recert.networks.layers`), G, b_G (the head's
        hidden layers), V, b_V, numbered where there are several. Both of torch's biases are summed,
        except for a GRU's n gate. One logit y becomes two, −y/2 and y/2. Where an activation stands
        before the head's first linear layer there is a block I, the identity, before it; where the
        head reads one direction of two, its block has zero columns for the other.

    Raises:
        UnsupportedModelError: a part is not covered, shared or unused; the message names it.
        ParityError: the module computes something else than any such Network.
        InputError: weights or sequences are unusable, or a named part does not exist.
        MissingDependencyError: torch is not installed.

    """
    return _read_torch(
        model,
        sequences,
        lengths=lengths,
        recurrent=recurrent,
        head=head,
        embedding=embedding,
        at=at,
        input_kind=input_kind,
        output=output,
        steps_first=steps_first,
        padding=padding,
    )[0]


@rounding.usual
def _read_torch(model: Any, sequences: Any, **how: Any) -> tuple[Network, Call]:
    _need_torch()
    from recert.readers.torch import read

    found = read.read_torch(model, sequences, **how)
    return found.network, found.call


def predictor_of(network: Network, arithmetic: Arithmetic | None = None) -> Predictor:
    """A network's answers, in the arithmetic of certificates; it is chosen here alone.

    Args:
        network: any.
        arithmetic: ``"torch"``, its kernels in float64, or ``"numpy"``, the cells' own equations;
            both stay within the slack that certificates allow for. None: torch if the caller has
            loaded it already, so that nobody waits for that, else numpy.

    """
    if arithmetic is None:
        arithmetic = "numpy" if sys.modules.get("torch") is None else "torch"
    return torch_predictor(network) if arithmetic == "torch" else network_predictor(network)


def torch_predictor(network: Network) -> Predictor:
    """`recert.networks.forward.network_predictor`, computed by torch in float64: the same, sooner.

    Raises:
        MissingDependencyError: torch is not installed.

    """
    _need_torch()
    from recert.readers.torch import predictor

    return predictor.torch_predictor(network)


def is_module(model: Any) -> bool:
    """Whether this is a torch module, or a tuple of such."""
    if isinstance(model, tuple):
        return bool(model) and all(map(_is_torch, model))
    return _is_torch(model)


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
