"""Apply sentence-transformers' modules to the last layer's states: pool in one or several ways, then refine.

H hidden size, P pooled size (H for each mode), D the vector's size. All is float32, whatever the states are.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows only the old spellings.
from typing import List  # noqa: UP035

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.invariant import OF_CLASSES
from bertstream.workers.models.linear import Linear
from bertstream.workers.models.pooling import PoolingModule
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import Operators, SentenceShape, VectorShape

# Classes of torch.nn, as a Dense module's configuration names them.
DENSE_ACTIVATIONS = (
    *("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU", "Mish", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU"),
    *("Hardtanh", "Hardswish", "Hardsigmoid", "LogSigmoid", "Softplus", "Softsign", "Tanhshrink"),
)
PREFIX = "sentence."  # of these weights' names in a Model


class Dense(nn.Module):
    """Compute activation(x W' + b), and add x to it where the module is residual."""

    __constants__ = ("is_residual",)

    def __init__(self, shape: VectorShape, operators: Operators) -> None:
        super().__init__()
        own = operators.beside_layers
        self.linear = Linear(shape.inputs, shape.outputs, own, bias=shape.bias)
        self.activation = _activation(shape.activation, invariant=self.linear.packs)
        self.is_residual = shape.residual
        projects = shape.residual and shape.inputs != shape.outputs
        self.residual = Linear(shape.inputs, shape.outputs, own, bias=False) if projects else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module. x: [n, inputs] -> [n, outputs]."""
        made: Tensor = self.activation(self.linear(x))
        return made + self.residual(x) if self.is_residual else made


class Norm(nn.Module):
    """Apply LayerNorm to a vector."""

    def __init__(self, shape: VectorShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module. x: [n, D] -> [n, D]."""
        return self.norm(x)


class Normalize(nn.Module):
    """Scale a vector to unit length."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module. x: [n, D] -> [n, D]."""
        return functional.normalize(x, dim=1)


class SentenceModules(nn.Module):
    """Apply all modules.

    For a checkpoint that has none it is empty, and must not be run.
    """

    def __init__(self, shape: SentenceShape, operators: Operators) -> None:
        super().__init__()
        self.poolings = nn.ModuleList([PoolingModule(mode) for mode in shape.modes])
        self.steps = nn.ModuleList([new_step(each, operators) for each in shape.steps])

    def forward(self, states: Tensor, where: Segments, skipped: int) -> Tensor:
        """Return vectors.

        states: [T, H] -> [n, D]; skipped: as poolings take it.
        """
        pooled: List[Tensor] = []  # noqa: UP006
        for pooling in self.poolings:
            pooled.append(pooling(states, where, skipped))  # noqa: PERF401  # TorchScript unrolls loops alone
        x = torch.cat(pooled, dim=1)  # [n, P]
        for step in self.steps:
            x = step(x)
        return x


def _activation(name: str, *, invariant: bool) -> nn.Module:
    made: nn.Module = OF_CLASSES[name]() if invariant and name in OF_CLASSES else getattr(nn, name)()
    return made


def new_step(shape: VectorShape, operators: Operators) -> nn.Module:
    """Make the module that a shape describes, with weights that are yet to be loaded."""
    if shape.kind == "normalize":
        return Normalize()
    return Dense(shape, operators) if shape.kind == "dense" else Norm(shape)


def sentence_weight_shapes(shape: SentenceShape) -> dict[str, torch.Size]:
    """Return the shapes of all steps' weights, by a Model's names."""
    with torch.device("meta"):
        module = SentenceModules(shape, Operators())
    return {PREFIX + name: weight.shape for name, weight in module.state_dict().items()}
