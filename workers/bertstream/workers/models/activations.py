"""Compute activations by the names that config.json uses, with transformers' numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.invariant import OF_CONFIGS

SUPPORTED = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "silu", "swish", "tanh")
GELUS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast")  # by erf, and three ways to write the tanh form


class Activation(nn.Module):
    """Compute one activation.

    Which one is a constant, so that the compiled program holds only its branch. With `invariant` no bit depends on what
    else is computed in the same batch.
    """

    __constants__ = ("name", "replaced")

    def __init__(self, name: str, *, invariant: bool = False) -> None:
        super().__init__()
        if name not in SUPPORTED:
            raise ValueError(f"activation {name!r} is not one of {', '.join(SUPPORTED)}")
        self.name = name
        self.replaced = invariant and name in OF_CONFIGS
        if self.replaced:
            self.invariant = OF_CONFIGS[name]()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation, overwriting x where ATen can.

        x has just been computed, and is the widest tensor of all.
        """
        if self.replaced:
            return self.invariant(x.float()).to(x.dtype)
        elif self.name == "gelu":
            return torch.ops.aten.gelu_(x)
        elif self.name == "gelu_pytorch_tanh":
            return torch.ops.aten.gelu_(x, approximate="tanh")
        elif self.name == "gelu_new":
            inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
            return 0.5 * x * (1.0 + torch.tanh(inner))
        elif self.name == "gelu_fast":
            return 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x)))
        elif self.name == "relu":
            return torch.relu_(x)
        elif self.name == "tanh":
            return torch.tanh_(x)
        else:
            return functional.silu(x, inplace=True)
