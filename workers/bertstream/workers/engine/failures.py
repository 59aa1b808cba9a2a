"""What an error of the model means for this worker, and how what fails is found among what was computed with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from bertstream.workers.contract import FailureReason

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Failed:
    """In place of what a computation gives. Without the error, which holds on to the tensors around it."""

    reason: FailureReason


def attempt(compute: Callable[[], R], name: str, *, alone: bool) -> R | Failed:
    """What `compute` gives, or that it failed, which is logged by its name: that belongs to what is computed alone.

    alone: whether it cannot be halved. Raises what nothing in this process would survive.
    """
    try:
        return compute()
    except Exception as error:  # any failure of the model
        if is_fatal(error):
            raise
        reason = reason_of(error)
        if alone:
            log.error("%s failed (%s): %s", name, reason, error, exc_info=error)
        else:
            log.warning("%s failed and is computed again in halves: %s", name, error)
        return Failed(reason)


def halve(group: Sequence[T], again: Callable[[Sequence[T]], None], fail: Callable[[T], None]) -> None:
    """After a group has failed: each half again, so that in the end what fails stands alone."""
    give_memory_back()
    if len(group) == 1:
        fail(group[0])
        return
    middle = len(group) // 2
    for half in (group[:middle], group[middle:]):
        again(half)


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch raises where memory runs out: on the CPU, and within a program, a plain RuntimeError."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "allocate memory" in str(error) or "out of memory" in str(error)


def is_fatal(error: BaseException) -> bool:
    """Return True for errors of the GPU itself, after which nothing works any more in this process."""
    broken = isinstance(error, torch.AcceleratorError) or "CUDA error:" in str(error)
    return broken and not is_out_of_memory(error)


def reason_of(error: BaseException) -> FailureReason:
    """Return what the server is told."""
    return "out_of_memory" if is_out_of_memory(error) else "internal"


def give_memory_back() -> None:
    """After a failure: what the allocator keeps may be just what the next try lacks."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
