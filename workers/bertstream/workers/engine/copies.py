"""Copy between the CPU and a GPU without waiting, by way of pinned memory."""

from __future__ import annotations

import torch
from torch import Tensor

# Larger copies are waited for: pinned memory is taken from all that the machine has, and not given back.
PINNED_BYTES = 32 << 20


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Return CPU values on the device, in time for what is computed there next; on the CPU, return them as they are."""
    device = torch.device(device)
    if device.type != "cuda" or values.nbytes > PINNED_BYTES:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def to_host(values: Tensor) -> Tensor:
    """Return values on the CPU, to be read only once an Event that is recorded after this call has passed."""
    if not values.is_cuda or values.nbytes > PINNED_BYTES:
        return values.cpu()
    return values.to("cpu", non_blocking=True)  # the allocator keeps pinned memory until the copy is done
