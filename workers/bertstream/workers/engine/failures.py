"""What an error of the model means for this worker."""

from __future__ import annotations

import torch

from bertstream.workers.contract import FailureReason


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch raises where memory runs out: on the CPU, and within a program, a plain RuntimeError."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "allocate memory" in str(error) or "out of memory" in str(error)


def is_fatal(error: BaseException) -> bool:
    """True for errors of the GPU itself, after which nothing works any more in this process."""
    broken = isinstance(error, torch.AcceleratorError) or "CUDA error:" in str(error)
    return broken and not is_out_of_memory(error)


def reason_of(error: BaseException) -> FailureReason:
    """What the server is told."""
    return "out_of_memory" if is_out_of_memory(error) else "internal"


def give_memory_back() -> None:
    """After a failure: what the allocator keeps may be just what the next try lacks."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
