"""Compute activations so that a number's result depends on nothing but the number.

ATen's own loops compute what is left behind their last whole vector by other functions, of other bits: in rows of odd
widths, and at the end of each thread's share. Those functions of ATen's that are used here do not, each being a pass by
itself. All are for float32; they may overwrite x, and are as exact as ATen's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Gelu(nn.Module):
    """Compute x Phi(x), Phi being the normal distribution's function, by erf."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        return torch.mul(x, math.sqrt(0.5)).erf_().add_(1.0).mul_(x).mul_(0.5)


class TanhGelu(nn.Module):
    """Compute x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        inner = torch.mul(x, x).mul_(0.044715).add_(1.0).mul_(x).mul_(math.sqrt(2.0 / math.pi))
        return inner.tanh_().add_(1.0).mul_(x).mul_(0.5)


class Sigmoid(nn.Module):
    """Compute 1 / (1 + e^-x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        return x.neg_().exp_().add_(1.0).reciprocal_()


class Silu(nn.Module):
    """Compute x / (1 + e^-x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        return x.div_(torch.neg(x).exp_().add_(1.0))


class Elu(nn.Module):
    """Compute x above 0, and e^x - 1 below."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        return torch.where(x > 0.0, x, torch.expm1(x))


class Selu(nn.Module):
    """Compute ELU with the two factors that keep mean and variance."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        below = torch.expm1(x).mul_(1.6732632423543772848170429916717)
        return torch.where(x > 0.0, x, below).mul_(1.0507009873554804934193349852946)


class Softplus(nn.Module):
    """Compute log(1 + e^x), which is x from 20 on."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        return torch.where(x > 20.0, x, torch.exp(x).log1p_())


class Mish(nn.Module):
    """Compute x tanh(log(1 + e^x))."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        return torch.exp(x).log1p_().tanh_().mul_(x)


# By config.json's names, and by those of torch.nn's classes. All others are invariant as ATen computes them.
OF_CONFIGS: Mapping[str, type[nn.Module]] = {
    "gelu": Gelu,
    "gelu_pytorch_tanh": TanhGelu,
    "silu": Silu,
    "swish": Silu,
}
OF_CLASSES: Mapping[str, type[nn.Module]] = {
    "GELU": Gelu,
    "Sigmoid": Sigmoid,
    "SiLU": Silu,
    "Mish": Mish,
    "ELU": Elu,
    "SELU": Selu,
    "CELU": Elu,  # with torch's defaults the same
    "Softplus": Softplus,
}
