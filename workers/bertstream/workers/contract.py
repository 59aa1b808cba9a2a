"""All that passes between the server and a worker process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PoolingMode = Literal["cls", "mean", "max", "mean_sqrt_len", "last_token", "pooler"]
LayerCombination = Literal["mean", "sum", "concatenate"]
WireType = Literal["float32", "float16", "bfloat16", "int8"]
Output = Literal["pooled", "pooler_output", "last_hidden_state"]
FailureReason = Literal["out_of_memory", "expired", "queue_full", "internal"]

INTERACTIVE, BULK = 0, 1


@dataclass(frozen=True, slots=True)
class Pooling:
    """How token states become one vector a text; `layers` count from 0 (the embeddings) and are never empty."""

    mode: PoolingMode
    layers: tuple[int, ...]
    combination: LayerCombination = "mean"
    normalize: bool = False
    dimensions: int = 0  # 0 keeps all


@dataclass(frozen=True, slots=True)
class Wishes:
    """What to compute for every text of a batch; `pooling` is set where "pooled" is among the outputs."""

    outputs: tuple[Output, ...]
    pooling: Pooling | None = None
    wire_type: WireType = "float32"


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts end to end. T tokens in all, n texts."""

    ids: NDArray[np.int32]  # [T]
    lengths: NDArray[np.int32]  # [n], each at least 1
    type_ids: NDArray[np.int32] | None = None  # [T]; None means all zero


@dataclass(frozen=True, slots=True)
class Work:
    """One entry of a worker's queue. `alone` keeps it out of batches with others, as it may be what kills workers."""

    id: int
    batch: Batch
    wishes: Wishes
    priority: int = INTERACTIVE
    deadline: float = math.inf  # time.monotonic(), which all processes of a machine share
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for these any more."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker's first message on each connection."""

    worker: str
    pid: int
    connection: int  # this connection's number, by which `running` names its work
    batch_tokens: int  # no Work may have more
    running: str  # path of the file that says which work is being computed; it outlives the worker


@dataclass(frozen=True, slots=True)
class Result:
    """`tensors` has each output by name, [n, d] or [T, d], bfloat16 as int16; int8 has "NAME.scales" beside it."""

    id: int
    tensors: dict[str, NDArray[np.generic]]
    queue_seconds: float
    compute_seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """This work failed; the worker goes on."""

    id: int
    reason: FailureReason
    message: str
