"""Define what layers of most architectures are made of: linear layers, with what follows them in the same pass.

T tokens, H hidden size, I intermediate size.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows only the old spellings.
from typing import Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.activations import GELUS, Activation
from bertstream.workers.models.linear import Linear
from bertstream.workers.models.shape import Operators

# The activations that the C++ operators multiply by -> their names for them.
_GATES = {
    **dict.fromkeys(GELUS, "gelu_tanh"),
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
}


class LinearAddNorm(nn.Module):
    """Compute LayerNorm(x W' + b + residual).

    In C++, all but the product, or even with it, is one pass.
    """

    __constants__ = ("eps", "native", "packs")

    def __init__(self, size: int, hidden_size: int, eps: float, operators: Operators, *, bias: bool = True) -> None:
        super().__init__()
        self.linear = Linear(size, hidden_size, operators, bias=bias)
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        self.eps = eps
        self.native = operators.native
        self.packs = self.linear.packs

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Apply the layer.

        x: [T, size]; residual: [T, H] -> [T, H].
        """
        linear = self.linear
        if self.packs:
            return torch.ops.bertstream.linear_add_layer_norm(
                x,
                linear.packed,
                linear.columns,
                linear.factors,
                linear.bias,
                residual,
                self.weight,
                self.bias,
                self.eps,
            )
        elif self.native:
            return self.normalized(linear.product(x), residual)
        else:
            return functional.layer_norm(linear(x).add_(residual), self.weight.shape, self.weight, self.bias, self.eps)

    def forward_quantized(self, numbers: Tensor, scales: Tensor, residual: Tensor) -> Tensor:
        """Apply the layer by the C++ operators to an x that is rounded to fp8.

        numbers: float8 [T, size]; scales: [T, 1]; residual: [T, H] -> [T, H].
        """
        return self.normalized(self.linear.product_of(numbers, scales), residual)

    def normalized(self, product: Tensor, residual: Tensor) -> Tensor:
        """Add bias and residual to a product, and normalise.

        product, residual: [T, H] -> [T, H].
        """
        return torch.ops.bertstream.add_layer_norm_(
            product, self.linear.bias, residual, self.weight, self.bias, self.eps
        )


class LinearAdd(Linear):
    """Compute x W' + b + residual, for layers whose norms come first (pre-norm)."""

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """Apply the layer.

        x: [T, size]; residual: [T, H] -> [T, H].
        """
        if self.packs:
            return torch.ops.bertstream.linear_add(x, self.packed, self.columns, self.factors, self.bias, residual)
        else:
            return self.linear(x).add_(residual)


class Projection(Linear):
    """Project to queries, keys and values.

    Where the product is ATen's, attention in C++ adds the bias, unless something else reads the product before.
    """

    __constants__ = ("float8", "native", "packs", "pends", "plain")
    reads_normalized = True

    def __init__(self, hidden_size: int, operators: Operators, *, bias: bool = True) -> None:
        super().__init__(hidden_size, 3 * hidden_size, operators, bias=bias)
        self.pends = operators.native and not self.packs and not operators.flash

    def pending(self, x: Tensor) -> Tuple[Tensor, Optional[Tensor]]:  # noqa: UP006, UP045
        """Return the product [T, 3H], and the bias [3H] that is still to be added to it, if any."""
        if self.pends:
            return self.product(x), self.bias
        return self(x), None


class NormalizedLinear(Linear):
    """Compute x W' + b of normalised states."""

    reads_normalized = True


class LinearActivation(Linear):
    """Compute activation(x W' + b).

    In C++, bias and GELU are one pass, where they are not part of the product.
    """

    __constants__ = ("float8", "fuses", "has_epilogue", "native", "packs", "plain", "tanh")
    reads_normalized = True

    def __init__(self, inputs: int, outputs: int, activation: str, operators: Operators) -> None:
        super().__init__(inputs, outputs, operators)
        self.activation = Activation(activation, invariant=self.packs)
        self.fuses = operators.native and activation in GELUS
        self.tanh = activation != "gelu"
        self.has_epilogue = operators.epilogue and self.plain and self.tanh and activation in GELUS
        if self.has_epilogue:
            self.epilogue = False  # a worker switches it on, once its GPU has given the right numbers

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer. x: [T, H] -> [T, I]."""
        if self.has_epilogue:  # noqa: SIM102  # TorchScript leaves out a branch by one constant alone
            if self.epilogue:
                return torch._addmm_activation(self.bias, x, self.weight.t(), use_gelu=True)
        if self.fuses:
            return self.fused(x)
        else:
            return self.activation(self.linear(x))

    def fused(self, x: Tensor) -> Tensor:
        """Apply the layer by the C++ operators. x: [T, H] -> [T, I]."""
        if self.packs:
            return torch.ops.bertstream.linear_gelu(x, self.packed, self.columns, self.factors, self.bias, self.tanh)
        else:
            return torch.ops.bertstream.add_gelu_(self.product(x), self.bias, self.tanh)

    def quantized(self, x: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        """Apply the layer by the C++ operators, rounded to fp8 for the next product.

        x: [T, H] -> float8 [T, I], scales [T, 1].
        """
        return torch.ops.bertstream.add_gelu_quantize_rows(self.product(x), self.bias, self.tanh)


class GatedLinear(nn.Module):
    """Compute activation(x A' + a) (x B' + b), a gated linear unit (arXiv 2002.05202).

    In C++, activation and multiplication are part of the second product.
    """

    __constants__ = ("form", "fuses")

    def __init__(self, inputs: int, outputs: int, activation: str, operators: Operators, *, bias: bool) -> None:
        super().__init__()
        self.gate = NormalizedLinear(inputs, outputs, operators, bias=bias)  # A
        self.up = NormalizedLinear(inputs, outputs, operators, bias=bias)  # B
        self.activation = Activation(activation, invariant=self.gate.packs)
        self.form = _GATES.get(activation, "")
        self.fuses = self.gate.packs and self.form != ""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer. x: [T, H] -> [T, I]."""
        if self.fuses:
            gate = self.gate
            return torch.ops.bertstream.linear_gate_(
                self.up(x), x, gate.packed, gate.columns, gate.factors, gate.bias, self.form
            )
        else:
            return self.activation(self.gate(x)).mul_(self.up(x))


class FeedForward(nn.Module):
    """Compute the two-layer network, with residual and norm after it (post-norm)."""

    __constants__ = ("quantizes",)

    def __init__(
        self, hidden_size: int, intermediate_size: int, activation: str, eps: float, operators: Operators
    ) -> None:
        super().__init__()
        self.intermediate = LinearActivation(hidden_size, intermediate_size, activation, operators)
        self.output = LinearAddNorm(intermediate_size, hidden_size, eps, operators)
        self.quantizes = self.intermediate.fuses and self.output.linear.float8

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network. x: [T, H] -> [T, H]."""
        if self.quantizes:  # the widest tensor of all then exists only as fp8
            numbers, scales = self.intermediate.quantized(x)
            return self.output.forward_quantized(numbers, scales, x)
        else:
            return self.output(self.intermediate(x), x)
