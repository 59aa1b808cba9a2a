"""Test a GPU before a program uses its fp8 matrix products, or its GELU at the end of a product."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bertstream.workers.models import float8

FLOAT8_CAPABILITY = (9, 0)  # Hopper
# How far a product of fp8, which is bfloat16, may be from the product of the same numbers in float64, relative to its
# norm.
NEAR_FLOAT8 = 0.01
# How far numbers of at most 4 may be from float64's. The two forms of GELU are 5e-4 apart at most.
NEAR = {torch.float16: 4e-3, torch.bfloat16: 2e-2}


def float8_problem(device: torch.device) -> str:
    """Return why this GPU cannot compute fp8 products; "" if it can."""
    capability = torch.cuda.get_device_capability(device)
    if capability < FLOAT8_CAPABILITY:
        has, needs = (".".join(map(str, each)) for each in (capability, FLOAT8_CAPABILITY))
        return f"{device} has compute capability {has}, and fp8 needs {needs} (Hopper) or newer"
    return float8_difference(device)


def float8_difference(device: torch.device) -> str:
    """Return what is wrong with the GPU's fp8 products; "" for nothing."""
    try:
        for tokens in (1, 37, 200):
            if (share := _share_off(tokens, device)) > NEAR_FLOAT8 or share != share:
                return f"a product of fp8 on {device} is off by {share:.3f} of its size"
    except RuntimeError as error:
        return f"a product of fp8 on {device} fails: {str(error).splitlines()[0]}"
    return ""


def _share_off(tokens: int, device: torch.device) -> float:
    x, weight, bias = _made_up(tokens, 128, 48, device, torch.bfloat16)
    (numbers, scales), (weights, columns) = float8.quantize_rows(x), float8.quantize_weight(weight)
    got = float8.product(numbers, scales, weights, columns, bias).double()
    exact = (numbers.double() * scales.double()) @ (weights.double().t() * columns.double()) + bias.double()
    return float((got - exact).norm() / exact.norm())


def use_epilogue(module: Any, device: torch.device) -> str:
    """Have a loaded program compute GELU at the end of a product, where it can and the GPU's numbers are right.

    Returns "", or why it does not.
    """
    places = [each for each in module.modules() if hasattr(each, "epilogue")]
    if not places or (reason := epilogue_problem(device, places[0].weight.dtype)):
        return reason if places else ""
    for each in places:
        each._c.setattr("epilogue", True)
    return ""


def epilogue_problem(device: torch.device, dtype: torch.dtype) -> str:
    """Return what is wrong with the GPU's GELU at the end of a product, which must be the tanh form; "" for nothing."""
    try:
        return _other_form(device, dtype) or _other_numbers(device, dtype)
    except RuntimeError as error:
        return f"GELU at the end of a product fails: {str(error).splitlines()[0]}"


def _other_form(device: torch.device, dtype: torch.dtype) -> str:
    """Test the GELU alone, after a product that changes nothing, on small numbers, where the two forms differ most."""
    x = torch.linspace(-4, -1, 512).view(8, 64).to(device, dtype)
    got = product_with_gelu(
        x, torch.eye(64, device=device, dtype=dtype), torch.zeros(64, device=device, dtype=dtype)
    ).double()
    off, off_erf = (
        float((got - functional.gelu(x.double(), approximate=form)).abs().mean()) for form in ("tanh", "none")
    )
    return "" if off < off_erf / 2 else "GELU at the end of a product is not the tanh form"


def _other_numbers(device: torch.device, dtype: torch.dtype) -> str:
    for tokens in (1, 37, 200):
        x, weight, bias = _made_up(tokens, 128, 48, device, dtype)
        want = functional.gelu(functional.linear(x.double(), weight.double(), bias.double()), approximate="tanh")
        if not float((product_with_gelu(x, weight, bias).double() - want).abs().max()) <= NEAR[dtype]:
            return f"GELU at the end of a product differs from ATen's for {tokens} rows"
    return ""


def product_with_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute a product that ends in GELU, as models/fused.py does."""
    return torch._addmm_activation(bias, x, weight.t(), use_gelu=True)


def _made_up(
    tokens: int, inputs: int, outputs: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x [T, K], weight [N, K] and bias [N], whose product is about 1."""
    generator = torch.Generator().manual_seed(tokens)
    x, weight, bias = (
        torch.randn(shape, generator=generator) for shape in ((tokens, inputs), (outputs, inputs), (outputs,))
    )
    return x.to(device, dtype), (weight * inputs**-0.5 / 2).to(device, dtype), (bias / 2).to(device, dtype)
