"""Settings of torch that several adapters share."""

from __future__ import annotations

import torch

from benchmarks.peers import Settings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def set_threads(settings: Settings) -> None:
    """Let torch use only the threads of the settings."""
    torch.set_num_threads(settings.threads)
    torch.set_num_interop_threads(1)
