"""Multiply 8-bit floats with four bits of exponent and three of mantissa (OCP's E4M3), as GPUs do.

T tokens, K inputs, N outputs. Each row of inputs has a scale, and each output's weights have one, in float32.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows only the old spellings.
from typing import Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor

GROUP = 16  # inputs and outputs must be multiples of it for the GPU's product


def takes(inputs: int, outputs: int) -> bool:
    """Return whether there is such a product of these sizes."""
    return inputs % GROUP == 0 and outputs % GROUP == 0


def quantize_rows(x: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
    """Round each row over its own range, by ATen.

    x: [T, K] -> float8 [T, K], to be multiplied by scales [T, 1] float32.
    """
    wide = x.to(torch.float32)
    # 448 is the largest number. The scale is never 0, so that 1 / scale is finite.
    scales = wide.abs().amax(1, keepdim=True).clamp_min(1e-30) * (1.0 / 448.0)
    return (wide * scales.reciprocal()).to(torch.float8_e4m3fn), scales


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round the weights of each output.

    [N, K] -> float8 [N, K], and scales [1, N] float32.
    """
    numbers, scales = quantize_rows(weight)
    return numbers, scales.t().contiguous()


def product(
    numbers: Tensor,
    scales: Tensor,
    weight: Tensor,
    columns: Tensor,
    bias: Optional[Tensor],  # noqa: UP045
) -> Tensor:
    """Return x W' + bias, where x is `numbers` times `scales`, and W is `weight` times `columns`, as bfloat16.

    numbers: float8 [T, K]; scales: [T, 1]; weight: [N, K]; columns: [1, N] -> [T, N]. Other types of result are not
    available with every torch and GPU.
    """
    return torch._scaled_mm(
        numbers, weight.t(), scales, columns, bias=bias, out_dtype=torch.bfloat16, use_fast_accum=True
    )
