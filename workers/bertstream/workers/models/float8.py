"""Products of 8-bit floats, four bits of them the exponent and three the mantissa (OCP's E4M3), as a GPU takes them.

T tokens, K inputs, N outputs. Each row of inputs has a scale, and each output's weights have one, in float32.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows the old spellings only.
from typing import Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor

GROUP = 16  # the GPU's product takes only multiples of it, of inputs and of outputs


def takes(inputs: int, outputs: int) -> bool:
    """Whether there is such a product of these sizes."""
    return inputs % GROUP == 0 and outputs % GROUP == 0


def quantize_rows(x: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
    """By ATen, each row over its own range. x: [T, K] -> float8 [T, K], to be multiplied with scales [T, 1] float32"""
    wide = x.to(torch.float32)
    # Over the largest number that there is, 448; never 0, so that 1 / scale is finite.
    scales = wide.abs().amax(1, keepdim=True).clamp_min(1e-30) * (1.0 / 448.0)
    return (wide * scales.reciprocal()).to(torch.float8_e4m3fn), scales


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[N, K] -> float8 [N, K], and scales [1, N] float32"""
    numbers, scales = quantize_rows(weight)
    return numbers, scales.t().contiguous()


def product(
    numbers: Tensor,
    scales: Tensor,
    weight: Tensor,
    columns: Tensor,
    bias: Optional[Tensor],  # noqa: UP045
) -> Tensor:
    """x W' + bias, x being float8 [T, K] times scales [T, 1], and W [N, K] times columns [1, N] -> [T, N] bfloat16

    Not every torch and GPU gives other types of such a product.
    """
    return torch._scaled_mm(
        numbers, weight.t(), scales, columns, bias=bias, out_dtype=torch.bfloat16, use_fast_accum=True
    )
