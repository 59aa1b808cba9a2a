"""Define linear layers, with weights in the form that their products take.

T tokens, K inputs, N outputs.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows only the old spellings.
from typing import Tuple  # noqa: UP035

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models import float8
from bertstream.workers.models.packing import byte_product, pack, quantized, smoothing
from bertstream.workers.models.shape import Operators, Products

Packed = tuple[Tensor, Tensor | None, Tensor | None]
Source = tuple[int, torch.Size]  # which weight it was made of: its address and its shape


class Linear(nn.Module):
    """Compute x W' + b.

    Where products are not ATen's, `weight` becomes `packed`, with `columns` and `factors` for int8, and `columns` for
    fp8.
    """

    __constants__: tuple[str, ...] = ("float8", "native", "packs", "plain")
    reads_normalized = False  # whether its inputs are normalised states, some columns of which are far larger

    def __init__(self, inputs: int, outputs: int, operators: Operators, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.has_bias = bias
        # None is for ATen's products alone: finish() makes zeros of it for all that our operators read.
        self.bias: nn.Parameter = nn.Parameter(torch.empty(outputs)) if bias else None  # type: ignore[assignment]
        products: Products = operators.products
        if products == "fp8" and not float8.takes(inputs, outputs):
            products = "plain"
        self.plain = products == "plain"
        self.float8 = products == "fp8"
        self.bytes = products == "int8"
        # Less exact than the states, and so rounded from the checkpoint's own numbers.
        self.coarse = self.bytes or self.float8
        self.amx = operators.amx
        self.keeps_bfloat16 = operators.bfloat16
        self.native = operators.native
        self.packs = operators.native and not self.plain and not self.float8

    def finish(self, made: dict[Source, Packed], largest: Tensor | None = None) -> None:
        """Make what the product reads from the loaded weight; what was `made` already is shared.

        largest: [K], the largest size of each input, where that is known; for int8 alone.
        """
        weight = self.weight.detach()
        if not self.has_bias and (self.native or not self.plain):
            kind = torch.bfloat16 if self.float8 else weight.dtype  # of results
            self.bias = nn.Parameter(torch.zeros(len(weight), dtype=kind, device=weight.device))
        if self.plain:
            return
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
        if not self.packs:
            return weight, columns, factors
        if weight.dtype == torch.bfloat16 and not self.keeps_bfloat16:
            weight = weight.to(torch.float32)
        return pack(weight, amx=self.amx), columns, factors

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer. x: [T, K] -> [T, N]."""
        return self.linear(x)

    def linear(self, x: Tensor) -> Tensor:
        """Compute x W' + b. x: [T, K] -> [T, N]."""
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
        """Compute x W' for weights that are not packed. x: [T, K] -> [T, N]."""
        if self.plain:
            return functional.linear(x, self.weight)
        elif self.float8:
            numbers, scales = self.quantize(x)
            return self.product_of(numbers, scales)
        else:
            # All are made by finish(). TorchScript would take a comment behind the next line's for its own.
            return byte_product(x, self.packed, self.columns, self.factors)  # type: ignore[arg-type]

    def quantize(self, x: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        """Round x for a product of fp8.

        x: [T, K] -> float8 [T, K], scales [T, 1].
        """
        if self.native:
            return torch.ops.bertstream.quantize_rows(x)
        else:
            return float8.quantize_rows(x)

    def product_of(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """Compute x W' for an x that is rounded already.

        numbers: float8 [T, K]; scales: [T, 1] -> [T, N].
        """
        return float8.product(numbers, scales, self.packed, self.columns, None)  # type: ignore[arg-type]
