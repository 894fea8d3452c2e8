"""The torch module that is trained here: nn.RNN and a linear head, tokens read one-hot."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RecurrentClassifier(nn.Module):
    """A vanilla RNN h_t = σ(U h_{t−1} + W x_t + b) from h_0 = 0, and outputs y_t = V h_t + b_V.

    Args:
        input_dim: d_x; for tokens the size of the alphabet.
        d_h: hidden dimension.
        classes: K.
        tokens: whether the inputs are integers (−1 being padding), encoded one-hot in the model.
        activation: "tanh" or "relu".
        bias: whether there are b and b_V. torch's second hidden bias is fixed at 0.

    """

    def __init__(
        self,
        input_dim: int,
        d_h: int,
        classes: int,
        *,
        tokens: bool = True,
        activation: str = "tanh",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.input_dim = input_dim
        self.rnn = nn.RNN(input_dim, d_h, nonlinearity=activation, bias=bias, batch_first=True)
        self.head = nn.Linear(d_h, classes, bias=bias)
        if bias:
            self.rnn.get_parameter("bias_hh_l0").requires_grad_(False).zero_()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Outputs (B, T, K) at all steps, or (B, K) at step `lengths[i]` of sequence i.

        `x` is (B, T) integers, padded with −1, or (B, T, d_x) reals.
        """
        outputs = self.head(self.rnn(self.encode(x) if self.tokens else x)[0])
        if lengths is None:
            return outputs
        return outputs[torch.arange(len(x), device=x.device), lengths - 1]

    def encode(self, x: Tensor) -> Tensor:
        """Tokens (B, T) as one-hot vectors (B, T, d_x); padding as the zero vector."""
        one_hot = nn.functional.one_hot(x.long() + 1, self.input_dim + 1)[..., 1:]
        return one_hot.to(self.head.weight.dtype)

    def states(self, x: Tensor) -> Tensor:
        """Hidden states (T, B, d_h), as `forward` computes them but faster on short sequences.

        Here `x` has the time first: (T, B) integers with d_x for padding, or (T, B, d_x) reals.
        """
        blocks = self.blocks()
        W = blocks["W"]
        if self.tokens:
            # Looking columns of W up costs far less than multiplying by one-hot vectors.
            drive = nn.functional.embedding(x, torch.cat([W.T, W.new_zeros(1, W.shape[0])]))
        else:
            drive = x @ W.T
        if "b" in blocks:
            drive = drive + blocks["b"]
        activate = torch.tanh if self.rnn.nonlinearity == "tanh" else torch.relu
        states = [activate(drive[0])]
        transposed = blocks["U"].T
        for step in drive[1:]:
            states.append(activate(torch.addmm(step, states[-1], transposed)))
        return torch.stack(states)

    def blocks(self) -> dict[str, nn.Parameter]:
        """The trained parameters under the letters U, W, V and, with biases, b and b_V."""
        names = {"U": "rnn.weight_hh_l0", "W": "rnn.weight_ih_l0", "V": "head.weight"}
        if self.rnn.bias:
            names |= {"b": "rnn.bias_ih_l0", "b_V": "head.bias"}
        return {letter: self.get_parameter(name) for letter, name in names.items()}
