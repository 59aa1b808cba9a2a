"""Linear layers, with weights in the form that their products take.

T tokens, K inputs, N outputs.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows the old spellings only.
from typing import Tuple  # noqa: UP035

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models import float8
from bertstream.workers.models.packing import byte_product, pack, quantized, smoothing
from bertstream.workers.models.shape import Operators, Products

Packed = tuple[Tensor, Tensor | None, Tensor | None]
Source = tuple[int, torch.Size]  # which weight it was made of: where it lies, and its shape


class Linear(nn.Module):
    """x W' + b. Where products are not ATen's, `weight` becomes `packed`.

    And of int8 `columns` and `factors`, of fp8 `columns`.
    """

    __constants__: tuple[str, ...] = ("float8", "native", "packs", "plain")
    reads_normalized = False  # whether its inputs are normalised states, of which some columns are far larger

    def __init__(self, inputs: int, outputs: int, operators: Operators) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        products: Products = operators.products
        if products == "fp8" and not float8.takes(inputs, outputs):
            products = "plain"
        self.plain = products == "plain"
        self.float8 = products == "fp8"
        self.bytes = products == "int8"
        self.coarse = self.bytes or self.float8  # less than states have, and so made of the checkpoint's own numbers
        self.native = operators.native
        self.packs = operators.native and not self.plain and not self.float8

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
        if self.float8:
            return (*float8.quantize_weight(weight), None)
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
        elif self.float8:
            numbers, scales = self.quantize(x)
            return float8.product(numbers, scales, self.packed, self.columns, self.bias)  # type: ignore[arg-type]
        else:
            return self.product(x) + self.bias

    def product(self, x: Tensor) -> Tensor:
        """x W' but for what is packed. [T, K] -> [T, N]"""
        if self.plain:
            return functional.linear(x, self.weight)
        elif self.float8:
            numbers, scales = self.quantize(x)
            return self.product_of(numbers, scales)
        else:
            # All are from finish(). TorchScript takes a comment after the next one's for its own.
            return byte_product(x, self.packed, self.columns, self.factors)  # type: ignore[arg-type]

    def quantize(self, x: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        """Return what a product of fp8 reads. [T, K] -> float8 [T, K], scales [T, 1]"""
        if self.native:
            return torch.ops.bertstream.quantize_rows(x)
        else:
            return float8.quantize_rows(x)

    def product_of(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """x W' of an x that is rounded already. float8 [T, K], scales [T, 1] -> [T, N]"""
        return float8.product(numbers, scales, self.packed, self.columns, None)  # type: ignore[arg-type]
