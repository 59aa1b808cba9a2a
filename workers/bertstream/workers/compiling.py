"""Compiles models in a process of its own, so that its supervisor never loads torch.

Run as `python -m bertstream.workers.compiling '{…}' CONTROL_FD` with the fields of CompileTask.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from bertstream.workers import logs
from bertstream.workers.control import ControlLine

log = logging.getLogger(__name__)

EMBEDDED_NAME = "all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class CompileTask:
    """What to compile, and for what."""

    sources: tuple[str, ...]  # hub names or directories; "" is the embedded model
    device: str  # "auto", "cpu", "cuda"
    dtype: str  # "auto", "float32", "float16", "bfloat16"
    cache: str  # "" is the default one
    log_level: str = "info"

    def to_json(self) -> str:
        """For the command line of the process."""
        return json.dumps(dataclasses.asdict(self))


@dataclass(frozen=True, slots=True)
class Compiled:
    """What came of it."""

    directories: tuple[str, ...]  # in the order of the sources
    device: str  # "cpu" or "cuda"
    devices: int  # how many GPUs there are
    dtype: str
    operators: str  # "native", or why not


def compile_all(task: CompileTask, progress: ControlLine | None) -> Compiled:
    """Compiles each model that the cache lacks. Raises CheckpointError; ValueError for a device that is not there."""
    import torch

    from bertstream.workers import checkpoints, native
    from bertstream.workers.compile import compile_model

    device = choose_device(task.device, torch.cuda.is_available())
    dtype = choose_dtype(task.dtype, device)
    directories = []
    for source in task.sources:

        def tell(step: str, done: int, total: int, source: str = source) -> None:
            if progress is not None:
                progress.send("progress", source=source or EMBEDDED_NAME, step=step, done=done, total=total)

        path = source or str(checkpoints.embedded())
        cache = Path(task.cache) if task.cache else None
        directories.append(str(compile_model(path, dtype=dtype, device=device, cache=cache, progress=tell)))
    in_use, reason = native.status()
    return Compiled(tuple(directories), device, torch.cuda.device_count(), dtype, "native" if in_use else reason)


def choose_device(asked: str, cuda: bool) -> str:
    """The device kind to use. Raises ValueError where it is not there."""
    if asked == "cuda" and not cuda:
        raise ValueError("--device cuda was asked for, but torch sees no CUDA device")
    return ("cuda" if cuda else "cpu") if asked == "auto" else asked


def choose_dtype(asked: str, device: str) -> str:
    """The precision to use: float16 is as exact as needed and fast on CUDA; on the CPU float32 is exact and fast."""
    return asked if asked != "auto" else {"cuda": "float16", "cpu": "float32"}[device]


def main(argv: list[str]) -> int:
    """Compiles, and tells the supervisor."""
    values = json.loads(argv[1])
    task = CompileTask(**{**values, "sources": tuple(values["sources"])})
    logs.setup("compile", task.log_level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    control = ControlLine(int(argv[2]))
    control.listen(lambda event: control.send("pong"), orphaned=lambda: os._exit(0))
    try:
        control.send("ready", **dataclasses.asdict(compile_all(task, control)))
    except ModuleNotFoundError as error:
        control.send("failed", message=f"{error}: install the server with pip install 'bertstream[server]'")
        return 1
    except Exception as error:  # told to the supervisor, which has a person to tell
        log.debug("could not compile", exc_info=True)
        control.send("failed", message=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
