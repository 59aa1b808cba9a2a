"""Linear layers, with weights in the form that their products take.

T tokens, K inputs, N outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.packing import byte_product, pack, quantized, smoothing
from bertstream.workers.models.shape import Operators

Packed = tuple[Tensor, Tensor | None, Tensor | None]
Source = tuple[int, torch.Size]  # which weight it was made of: where it lies, and its shape


class Linear(nn.Module):
    """x W' + b. Where products are not ATen's, `weight` becomes `packed` and, of int8, `columns` and `factors`."""

    __constants__: tuple[str, ...] = ("packs", "plain")

    def __init__(self, inputs: int, outputs: int, operators: Operators) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.plain = operators.products == "plain"
        self.packs = operators.native and not self.plain
        self.bytes = operators.products == "int8"

    def finish(self, made: dict[Source, Packed], largest: Tensor | None = None) -> None:
        """Make of the weight, once it is there, what the product reads; one that was `made` already is shared.

        largest: [K], of each input's size, where that is known; of int8 alone.
        """
        if self.plain:
            return
        weight = self.weight.detach()
        source = weight.data_ptr(), weight.shape
        if source not in made:
            made[source] = self._made_of(weight, largest)
        del self.weight
        for name, tensor in zip(("packed", "columns", "factors"), made[source], strict=True):
            self.register_buffer(name, tensor)

    def _made_of(self, weight: Tensor, largest: Tensor | None) -> Packed:
        columns, factors = None, None
        if self.bytes:
            factors = None if largest is None else smoothing(weight, largest)
            weight, columns = quantized(weight if factors is None else weight / factors)
        return pack(weight) if self.packs else weight, columns, factors

    def forward(self, x: Tensor) -> Tensor:
        """x: [T, K] -> [T, N]"""
        return self.linear(x)

    def linear(self, x: Tensor) -> Tensor:
        """x: [T, K] -> [T, N]"""
        if self.packs:
            return torch.ops.bertstream.linear(x, self.packed, self.columns, self.factors, self.bias)
        elif self.plain:
            return functional.linear(x, self.weight, self.bias)
        else:
            return self.product(x) + self.bias

    def product(self, x: Tensor) -> Tensor:
        """x W' by ATen. [T, K] -> [T, N]"""
        if self.plain:
            return functional.linear(x, self.weight)
        else:
            # All are from finish(). TorchScript takes a comment after the next one's for its own.
            return byte_product(x, self.packed, self.columns, self.factors)  # type: ignore[arg-type]
