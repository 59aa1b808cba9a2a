"""Pack weights of linear layers as the C++ operators read them.

native/panels.h describes the tiles.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows only the old spellings.
from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 32  # outputs are padded to a multiple of it
TILE = 16  # outputs in a tile, which are its rows
BYTE_RANGE = 127.0


def pack(weight: Tensor, *, amx: bool = False) -> Tensor:
    """Pack a weight into tiles, with outputs and inputs padded with zeros.

    [N, K] float32, bfloat16 or int8 -> [N / 16, K / depth, planes, 16, depth]. For AMX float32 becomes three planes of
    bfloat16.
    """
    planes = parts(weight) if amx and weight.dtype == torch.float32 else weight.unsqueeze(0)  # [planes, N, K]
    group = 4 // planes.element_size()
    depth = group * TILE
    outputs, inputs = weight.shape
    padded = functional.pad(planes, (0, -inputs % depth, 0, -outputs % BLOCK))
    tiles = padded.view(len(planes), -1, TILE, padded.size(2) // depth, TILE, group)
    return tiles.permute(1, 3, 0, 4, 2, 5).reshape(tiles.size(1), tiles.size(3), len(planes), TILE, depth).contiguous()


def parts(weight: Tensor) -> Tensor:
    """Split float32 into a sum of three bfloat16, which together have all of its bits.

    [N, K] -> [3, N, K].
    """
    first = weight.to(torch.bfloat16)
    rest = weight - first
    second = rest.to(torch.bfloat16)
    return torch.stack([first, second, (rest - second).to(torch.bfloat16)])


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight to int8.

    [N, K] -> int8 [N, K], and [2, N] float32: each output's scale, and the sum of its rounded weights.
    """
    weight = weight.to(torch.float32)
    scale = weight.abs().amax(1).clamp_min(1e-30) / BYTE_RANGE  # [N]
    numbers = torch.round(weight / scale.unsqueeze(1))
    return numbers.to(torch.int8), torch.stack([scale, numbers.sum(1) * scale])


def smoothing(weight: Tensor, largest: Tensor) -> Tensor:
    """Return the factors that inputs are multiplied by, and weights divided by, so that no column of either stands out.

    SmoothQuant (arXiv 2211.10438), with alpha 1/2. weight: [N, K]; largest: [K], the largest size of each input -> [K].
    """
    weights = weight.to(torch.float32).abs().amax(0)
    return torch.where((weights > 0) & (largest > 0), (weights / largest).sqrt(), torch.ones_like(weights))


def byte_product(
    x: Tensor,
    numbers: Tensor,
    columns: Tensor,
    factors: Optional[Tensor],  # noqa: UP045
    pairs: bool = False,
) -> Tensor:
    """Compute x W' by ATen, with the same numbers as the operators.

    x: [T, K]; numbers, columns: as `quantized` makes them -> [T, N]. The range of each row, times `factors` [K], from
    its least value to its greatest, is cut into 255 equal steps. pairs: into so few that no two neighbours, inputs 2 k
    and 2 k + 1, are more than 258 steps above the least together, as the operators do by AVX2 and AVX-512 without VNNI.
    """
    wide = x.to(torch.float32)
    if factors is not None:
        wide = wide * factors
    least = wide.amin(1, keepdim=True)  # [T, 1]
    above = wide - least
    scale = above.amax(1, keepdim=True) / 255.0
    if pairs and x.size(1) > 1:
        both = above[:, : x.size(1) // 2 * 2].unflatten(1, (-1, 2)).sum(2)
        scale = torch.maximum(scale, both.amax(1, keepdim=True) / 257.0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    steps = torch.round(above * (1.0 / scale)) - 128.0  # around zero, so that sums of more inputs are exact
    # As float32, which is exact for sums of up to 1,032 inputs. ATen's own product of int8 is wrong without VNNI: sums
    # of two products do not fit the 16 bits that it adds them in.
    sums = functional.linear(steps, numbers.to(torch.float32))  # [T, N]
    return (sums * (scale * columns[0]) + (least + 128.0 * scale) * columns[1]).to(x.dtype)
