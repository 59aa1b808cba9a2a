"""Define what the supervisor tells a worker over its control line."""

from __future__ import annotations

from dataclasses import dataclass

from bertstream.workers.serving.cores import Share


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Hold a worker's whole configuration."""

    name: str
    directory: str  # the compiled model
    device: str  # "cpu", "cuda:0"
    threads: int  # for each matrix product, on the CPU
    socket: str  # where to listen
    running: str  # where to record what is being computed
    batch_tokens: int
    queue_tokens: int
    queue_seconds: float  # interactive work that would wait longer, by the worker's estimate, is refused
    session_bytes: int  # for states of computations that go layer by layer
    log_level: str = "info"
    operators: str = ""  # the library of C++ operators for this processor; "" where there is none
    cache_tokens: int = 0  # whose keys and values are kept, where the model generates
    generation_sequences: int = 64  # the most in one step
    cores: tuple[int, ...] = ()  # to stay on; empty: wherever the system puts it
    share: Share | None = None  # of all cores, where it also uses idle ones of others
    model: str = ""  # the name that it is served under
    folder: str = ""  # of sockets and records, which is the supervisor's: removed where that was killed
