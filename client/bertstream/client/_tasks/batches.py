"""The batches that streams of task heads return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertstream.client._types import ItemError
from bertstream.client._usage import Timings, Usage

R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False)
class PredictedBatch(Generic[R]):
    """Answers for some items of a stream."""

    ids: NDArray[np.int64]
    """[k]: the caller's ids, or the items' positions in the input; without the items that failed."""
    results: list[R]
    """[k]: results[i] belongs to ids[i]: what the task's method returns for one item, or for "rerank" a score."""
    errors: list[ItemError]
    """The items that failed (with `on_error="collect"`)."""
    usage: Usage
    """As in EncodedBatch."""
    timings: Timings
    """As in EncodedBatch."""

    def __len__(self) -> int:
        return len(self.ids)
