"""Transformer layers over packed tokens.

T tokens, H hidden size, I intermediate size.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows the old spellings only.
from typing import List, Tuple  # noqa: UP035

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.activations import Activation
from bertstream.workers.models.attention import Attention, Wanted
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import EncoderShape, Operators


class LinearAddNorm(nn.Module):
    """LayerNorm(x W' + b + residual). In C++ the bias, the sum and the norm are one pass over the product."""

    __constants__ = ("eps", "native")

    def __init__(self, size: int, shape: EncoderShape, operators: Operators) -> None:
        super().__init__()
        self.linear = nn.Linear(size, shape.hidden_size)
        self.weight = nn.Parameter(torch.ones(shape.hidden_size))
        self.bias = nn.Parameter(torch.zeros(shape.hidden_size))
        self.eps = shape.layer_norm_eps
        self.native = operators.native

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """x: [T, size], residual: [T, H] -> [T, H]"""
        if self.native:
            product = functional.linear(x, self.linear.weight)
            return torch.ops.bertstream.add_layer_norm_(
                product, self.linear.bias, residual, self.weight, self.bias, self.eps
            )
        total = self.linear(x).add_(residual)
        return functional.layer_norm(total, self.weight.shape, self.weight, self.bias, self.eps)


class Layer(nn.Module):
    """Attention, then the two-layer network, each with residual and norm (post-norm, as in the BERT paper)."""

    def __init__(self, shape: EncoderShape, operators: Operators) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.attention = Attention(shape, operators)
        self.attention_output = LinearAddNorm(hidden, shape, operators)
        self.intermediate = nn.Linear(hidden, shape.intermediate_size)
        self.activation = Activation(shape.activation)
        self.output = LinearAddNorm(shape.intermediate_size, shape, operators)

    def forward(self, x: Tensor, segments: Segments, wanted: Wanted, whole: bool) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """x: [T, H] -> [T, H] and the attention weights wanted; x as it came where the `whole` layer is not needed."""
        if whole:
            return self.run(x, segments, wanted)
        return x, self.attention.weights(self.query_key_value(x), wanted)

    def run(self, x: Tensor, segments: Segments, wanted: Wanted) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """The whole layer, in one block: TorchScript holds what an `if` uses from before it until the `if` ends."""
        qkv = self.query_key_value(x)
        weights = self.attention.weights(qkv, wanted)
        x = self.attention_output(self.attention(qkv, segments), x)
        widened = self.activation(self.intermediate(x))  # [T, I]
        return self.output(widened, x), weights
