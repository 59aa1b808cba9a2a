"""What the supervisor tells a worker, over its control line."""

from __future__ import annotations

from dataclasses import dataclass

from bertstream.workers.serving.cores import Share


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """A worker's whole configuration."""

    name: str
    directory: str  # the compiled model
    device: str  # "cpu", "cuda:0"
    threads: int  # of each matrix product, on the CPU
    socket: str  # where to listen
    running: str  # where to record what is being computed
    batch_tokens: int
    queue_tokens: int
    queue_seconds: float  # until the batch of interactive work begins, by the worker's estimate; else it is refused
    session_bytes: int  # of states kept for computations that go layer by layer
    log_level: str = "info"
    cache_tokens: int = 0  # of keys and values kept, where the model generates
    generation_sequences: int = 64  # the most in one step
    cores: tuple[int, ...] = ()  # that it stays on; none: wherever the system puts it
    share: Share | None = None  # of all cores, where it takes those that are idle
