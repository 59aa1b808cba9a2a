"""Transformer layers over packed tokens.

T tokens, H hidden size, I intermediate size.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows the old spellings only.
from typing import Final, List, Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.activations import GELUS, Activation
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


class Projection(nn.Linear):
    """To queries, keys and values. The bias of what only attention reads is left to attention, where that is in C++."""

    def __init__(self, hidden_size: int, operators: Operators) -> None:
        super().__init__(hidden_size, 3 * hidden_size)
        self.native: Final[bool] = operators.native

    def pending(self, x: Tensor) -> Tuple[Tensor, Optional[Tensor]]:  # noqa: UP006, UP045
        """[T, 3H], and the bias [3H] that is still to be added to it."""
        if self.native:
            return functional.linear(x, self.weight), self.bias
        return self.forward(x), None


class LinearActivation(nn.Linear):
    """activation(x W' + b). In C++ the bias and a GELU are one pass over the product."""

    def __init__(self, shape: EncoderShape, operators: Operators) -> None:
        super().__init__(shape.hidden_size, shape.intermediate_size)
        self.activation = Activation(shape.activation)
        self.fused: Final[bool] = operators.native and shape.activation in GELUS
        self.tanh: Final[bool] = shape.activation != "gelu"

    def forward(self, x: Tensor) -> Tensor:
        """x: [T, H] -> [T, I]"""
        if self.fused:
            return torch.ops.bertstream.add_gelu_(functional.linear(x, self.weight), self.bias, self.tanh)
        return self.activation(functional.linear(x, self.weight, self.bias))


class Layer(nn.Module):
    """Attention, then the two-layer network, each with residual and norm (post-norm, as in the BERT paper)."""

    def __init__(self, shape: EncoderShape, operators: Operators) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self.query_key_value = Projection(hidden, operators)
        self.attention = Attention(shape, operators)
        self.attention_output = LinearAddNorm(hidden, shape, operators)
        self.intermediate = LinearActivation(shape, operators)
        self.output = LinearAddNorm(shape.intermediate_size, shape, operators)

    def forward(self, x: Tensor, segments: Segments, wanted: Wanted, whole: bool) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """x: [T, H] -> [T, H] and the attention weights wanted; x as it came where the `whole` layer is not needed."""
        if whole:
            return self.run(x, segments, wanted)
        qkv, bias = self.query_key_value.pending(x)
        return x, self.attention.weights(qkv, bias, wanted)

    def run(self, x: Tensor, segments: Segments, wanted: Wanted) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """The whole layer, in one block: TorchScript holds what an `if` uses from before it until the `if` ends."""
        qkv, bias = self.query_key_value.pending(x)
        weights = self.attention.weights(qkv, bias, wanted)
        x = self.attention_output(self.attention(qkv, bias, segments), x)
        return self.feed_forward(x), weights

    def feed_forward(self, x: Tensor) -> Tensor:
        """x: [T, H] -> [T, H]"""
        return self.output(self.intermediate(x), x)
