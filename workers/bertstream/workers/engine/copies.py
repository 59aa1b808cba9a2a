"""Copies between the CPU and a GPU for which nobody waits, since they are from and to pinned memory."""

from __future__ import annotations

import torch
from torch import Tensor

# What is larger is waited for: pinned memory is taken from all that the machine has, and not given back.
PINNED_BYTES = 32 << 20


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """values, on the CPU, as what is computed there next finds them. On the CPU they are given back as they are."""
    device = torch.device(device)
    if device.type != "cuda" or values.nbytes > PINNED_BYTES:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def to_host(values: Tensor) -> Tensor:
    """values, on the CPU, to be read only once an Event that is recorded after this has passed."""
    if not values.is_cuda or values.nbytes > PINNED_BYTES:
        return values.cpu()
    return values.to("cpu", non_blocking=True)  # to pinned memory, which the allocator keeps until the copy is done
