"""What runs in Ray's actors: one engine a process, and a task over blocks of rows."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from bertstream.ray.data.carried import outcomes_table, works_of
from bertstream.ray.data.engine import EmbeddedEngine
from bertstream.ray.data.filetasks import FileTask
from bertstream.ray.data.pools import engine_options
from bertstream.ray.data.tables import TableTask

_ENGINES: dict[str, EmbeddedEngine] = {}  # of this process, by their options
_LOCK = threading.Lock()


def engine_of(options: Mapping[str, Any]) -> EmbeddedEngine:
    """Return the engine with these options, of which a process has one, however many of Ray's calls run in it."""
    # Ray's actors may have uvloop, whose policy gives no loop what it needs to start processes.
    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    with _LOCK:
        key = repr(sorted(options.items()))
        if key not in _ENGINES:
            _ENGINES[key] = EmbeddedEngine(options)
            atexit.register(_ENGINES[key].close)
        return _ENGINES[key]


class TableActor:
    """Extends blocks of rows by the answers of a task; several calls may run at once, in threads."""

    def __init__(self, task: TableTask, server: Mapping[str, Any]) -> None:
        """Take the task, and the options of the embedded server."""
        self._task = task
        self._engine = engine_of(options_here(server))

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return the block with more columns. Raises as TableTask.extend, and where the server does not start."""
        return self._task.extend(self._engine, block)


def options_here(server: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the server of this actor, which takes the cores that Ray has given to the actor."""
    import ray

    own = ray.get_runtime_context().get_assigned_resources()
    return engine_options(server, own.get("CPU", 1.0), own.get("GPU", 0.0), len(os.sched_getaffinity(0)))


class FileActor:
    """Makes files of files; several calls may run at once, in threads."""

    def __init__(self, task: FileTask, server: Mapping[str, Any]) -> None:
        """Take what is done with each file, and the options of the embedded server."""
        self._task = task
        self._engine = engine_of(options_here(server))

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return the outcome of each file of a block of work."""
        return outcomes_table([self._task.outcome(self._engine, work) for work in works_of(block)])
