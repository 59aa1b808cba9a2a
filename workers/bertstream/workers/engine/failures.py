"""Decide what an error of the model means for this worker, and find which work of a batch causes it."""

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
class FailedComputation:
    """Stand in for the result of a computation that failed.

    It does not hold the error, which would keep the tensors around it alive.
    """

    reason: FailureReason


def attempt(compute: Callable[[], R], name: str, *, alone: bool) -> R | FailedComputation:
    """Return what `compute` returns, or FailedComputation, with a line in the log that names the computation.

    alone: whether the computation cannot be halved, so that the error is its own. Raises errors that nothing in this
    process would survive.
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
        return FailedComputation(reason)


def halve(group: Sequence[T], again: Callable[[Sequence[T]], None], fail: Callable[[T], None]) -> None:
    """Run each half of a group that failed again, so that in the end what fails stands alone."""
    give_memory_back()
    if len(group) == 1:
        fail(group[0])
        return
    middle = len(group) // 2
    for half in (group[:middle], group[middle:]):
        again(half)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, for which torch raises a plain RuntimeError on the CPU and within a program."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "allocate memory" in str(error) or "out of memory" in str(error)


def is_fatal(error: BaseException) -> bool:
    """Return whether this is an error of the GPU itself, after which nothing works any more in this process."""
    broken = isinstance(error, torch.AcceleratorError) or "CUDA error:" in str(error)
    return broken and not is_out_of_memory(error)


def reason_of(error: BaseException) -> FailureReason:
    """Return the reason that the server is told."""
    return "out_of_memory" if is_out_of_memory(error) else "internal"


def give_memory_back() -> None:
    """Empty the allocator's cache after a failure: the memory that it keeps may be what the next try lacks."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
