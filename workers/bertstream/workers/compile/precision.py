"""Measure, at compile time, how far a program's numbers are from those of float32.

The reference is the same model in float32 with ATen's operators alone, on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bertstream.workers.compile.checkpoints import CheckpointError
from bertstream.workers.models import EncoderShape, Model, Operators, load_model
from bertstream.workers.programs.description import PrecisionTest

LENGTHS = (1, 2, 7, 16, 33, 128)  # of the made-up texts, as far as the model has positions
PLAIN = Operators()


def measure(
    shape: EncoderShape,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype,
    device: str,
    operators: Operators,
    largest: Mapping[str, Tensor] | None = None,
) -> PrecisionTest:
    """Compare the last hidden states with those of the reference.

    weights: float32. The other arguments are load_model's. Raises CheckpointError where numbers are not finite.
    """
    if (dtype, device, operators) == (torch.float32, "cpu", PLAIN):
        return PrecisionTest()  # float32 is the reference itself
    if device == "cuda" and not torch.cuda.is_available():
        # The GPU is on another machine: only the CPU can show what the precision does, without the GPU's kernels.
        device, operators = "cpu", Operators(products=operators.products)
    want = _last_states(load_model(shape, PLAIN, weights, torch.float32), shape, "cpu")
    got = _last_states(load_model(shape, operators, weights, dtype, largest=largest), shape, device)
    if not bool(want.isfinite().all()):
        raise CheckpointError("the checkpoint's weights give numbers that are not finite, so it cannot be served")
    if not bool(got.isfinite().all()):
        name = str(dtype).removeprefix("torch.")
        raise CheckpointError(f"the checkpoint's numbers are too large for {name}; choose another precision")
    return PrecisionTest(
        max_abs_difference=float((got - want).abs().max()),
        min_cosine=min(1.0, float(torch.cosine_similarity(got, want, dim=1).min())),
    )


@torch.inference_mode()
def _last_states(model: Model, shape: EncoderShape, device: str) -> Tensor:
    """Return the last states [T, H] as float64 on the CPU."""
    lengths, ids = texts(shape)
    states: list[Tensor] = model.to(device)(ids.to(device), None, lengths, [shape.layers])
    return states[0].to("cpu", torch.float64)


def texts(shape: EncoderShape) -> tuple[list[int], Tensor]:
    """Return lengths, and ids [T] end to end, of made-up texts, which are the same every time."""
    lengths = [min(length, shape.max_tokens) for length in LENGTHS]
    generator = torch.Generator().manual_seed(0)
    return lengths, torch.randint(shape.vocabulary_size, (sum(lengths),), generator=generator, dtype=torch.int32)
