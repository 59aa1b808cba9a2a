"""Transformer layers over packed tokens. Only attention knows where a text ends.

T tokens, H hidden size, I intermediate size, h heads of D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.activations import Activation
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import EncoderShape, Operators


class Attention(nn.Module):
    """softmax(q k' / sqrt(D)) v within each text, no masks and no padding."""

    __constants__ = ("flash", "head_size", "heads")

    def __init__(self, shape: EncoderShape, operators: Operators) -> None:
        super().__init__()
        self.heads = shape.attention_heads
        self.head_size = shape.hidden_size // shape.attention_heads
        self.flash = operators.flash and self.head_size % 8 == 0 and self.head_size <= 256  # what the kernel takes

    def forward(self, qkv: Tensor, segments: Segments) -> Tensor:
        """qkv: [T, 3H] -> [T, H]"""
        if self.flash:
            return self.packed(qkv, segments)
        return self.by_runs(qkv, segments)

    def packed(self, qkv: Tensor, segments: Segments) -> Tensor:
        """CUDA's kernel for texts of any lengths. qkv: [T, 3H] -> [T, H]"""
        q, k, v = qkv.view(-1, 3, self.heads, self.head_size).unbind(1)  # each [T, h, D]
        cu, longest = segments.cu_seqlens, segments.longest
        context = torch.ops.aten._flash_attention_forward(q, k, v, cu, cu, longest, longest, 0.0, False, False)[0]
        return context.reshape(-1, self.heads * self.head_size)

    def by_runs(self, qkv: Tensor, segments: Segments) -> Tensor:
        """Neighbours of equal length are a dense batch, by a view. qkv: [T, 3H] -> [T, H]"""
        context = torch.empty([qkv.size(0), self.heads * self.head_size], dtype=qkv.dtype, device=qkv.device)
        for first, texts, length in segments.runs:
            rows = qkv[first : first + texts * length]
            q, k, v = rows.view(texts, length, 3, self.heads, self.head_size).permute(2, 0, 3, 1, 4).unbind(0)
            found = functional.scaled_dot_product_attention(q, k, v)  # [texts, h, length, D]
            run = context[first : first + texts * length].view(texts, length, self.heads, self.head_size)
            run.copy_(found.transpose(1, 2))
        return context


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

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        """x: [T, H] -> [T, H]"""
        context = self.attention(self.query_key_value(x), segments)
        x = self.attention_output(context, x)
        widened = self.activation(self.intermediate(x))  # [T, I]
        return self.output(widened, x)
