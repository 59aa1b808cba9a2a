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
Output = Literal["pooled", "pooler_output", "last_hidden_state", "hidden_states", "attentions", "pooled_spans"]
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
    """What to compute for every text of a batch; what an output needs is set where it is among the outputs."""

    outputs: tuple[Output, ...]
    pooling: Pooling | None = None  # of "pooled" and "pooled_spans"
    wire_type: WireType = "float32"
    hidden_layers: tuple[int, ...] = ()  # of "hidden_states", ascending, 0 the embeddings
    attention_layers: tuple[int, ...] = ()  # of "attentions", ascending, 1 the first layer
    attention_heads: tuple[int, ...] = ()  # of "attentions", in the order wanted, 0 the first head


@dataclass(frozen=True, slots=True)
class Spans:
    """Ranges of tokens to pool, for n texts end to end: S in all."""

    counts: NDArray[np.int32]  # [n]
    starts: NDArray[np.int32]  # [S], the first token, counted within the text
    lengths: NDArray[np.int32]  # [S], tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts end to end. T tokens in all, n texts."""

    ids: NDArray[np.int32]  # [T]
    lengths: NDArray[np.int32]  # [n], each at least 1
    type_ids: NDArray[np.int32] | None = None  # [T]; None means all zero
    spans: Spans | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """One entry of a worker's queue. `alone` keeps it out of batches with others, as it may be what kills workers."""

    id: int
    batch: Batch
    wishes: Wishes
    priority: int = INTERACTIVE
    deadline: float = math.inf  # time.monotonic(), which all processes of a machine share
    alone: bool = False
    # A computation in steps, each of which wants higher layers: its number on this connection, or 0. The worker keeps
    # the states that a step has reached, unless it is the final one.
    session: int = 0
    final: bool = True


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for these works any more, and these sessions will have no more steps."""

    ids: tuple[int, ...]
    sessions: tuple[int, ...] = ()


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
    """The outputs by name; bfloat16 comes as int16, and int8 has "NAME.scales" beside it, float32, one a row.

    "pooled", "pooler_output" [n, d]; "pooled_spans" [S, d]; "last_hidden_state", "hidden_states.3" [T, H];
    "attentions.3" one dimension, for each text [heads, tokens, tokens].
    """

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
