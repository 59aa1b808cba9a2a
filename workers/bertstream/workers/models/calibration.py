"""Measure how large the inputs of linear layers become, which decides how they are best rounded to int8.

Made-up texts show it: a few columns of the states are far larger than all others, whatever the text.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bertstream.workers.models.linear import Linear
from bertstream.workers.models.model import Model
from bertstream.workers.models.shape import EncoderShape, Operators

TEXTS = 32
SHORTEST, LONGEST = 8, 128


@torch.inference_mode()
def largest_inputs(shape: EncoderShape, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return, by name, the largest size of each input, [K] float32, of linear layers that read normalised states."""
    with torch.device("meta"):
        model = Model(shape, Operators())
    own = {name: weights[name].to(torch.float32) for name in model.state_dict()}
    model.load_state_dict(own, assign=True)
    model.encoder.prepare()
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, Linear) and module.reads_normalized:
            _watch(module, name, found)
    generator = torch.Generator().manual_seed(0)
    last = min(LONGEST, shape.max_tokens)
    lengths = torch.randint(min(SHORTEST, last), last + 1, (TEXTS,), generator=generator)
    ids = torch.randint(shape.vocabulary_size, (int(lengths.sum()),), generator=generator, dtype=torch.int32)
    model(ids, None, lengths.tolist(), [shape.layers])
    return found


def _watch(module: nn.Module, name: str, found: dict[str, Tensor]) -> None:
    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        here = inputs[0].abs().amax(0)
        found[name] = here if name not in found else torch.maximum(found[name], here)  # it may be several layers

    module.register_forward_pre_hook(look)
