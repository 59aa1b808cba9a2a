"""Runs the compiler's process: at the start, when a signal may stop it, and for each model that is loaded later."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from msgspec import convert

from bertstream.server.supervisor.progress import ProgressDisplay
from bertstream.workers.compile.compiling import Compiled, CompileStep, CompileTask
from bertstream.workers.native import processor
from bertstream.workers.process.child import Child, ChildSpec

log = logging.getLogger(__name__)

OFFLINE = {"HF_HUB_OFFLINE": "1"}  # as huggingface_hub reads it


async def run_compiler(
    task: CompileTask, on_step: Callable[[CompileStep], None], *, may_use_hub: bool = True
) -> Compiled:
    """Compile what the cache lacks. Cancelling ends the process.

    may_use_hub: whether the hub may be asked; its cache may be read in any case.

    Raises ChildFailed and ProcessorError, whose messages are for people.
    """
    spec = ChildSpec(
        "compile",
        "bertstream.workers.compile.compiling",
        lambda life: task,
        processor.environment() | ({} if may_use_hub else OFFLINE),
        on_progress=lambda made: on_step(convert(made, CompileStep)),
    )
    child = await Child.start(spec, 0)
    ended = asyncio.create_task(child.wait())
    try:
        return convert(await asyncio.shield(child.ready), Compiled)
    finally:
        child.kill()
        await ended


async def compile_models(task: CompileTask, display: ProgressDisplay) -> Compiled | None:
    """Compile, and show the progress. Returns None if the user stopped it. Raises ChildFailed."""
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(run_compiler(task, display.update))

    def stop(number: signal.Signals) -> None:
        log.info("%s: nothing is compiled any more", number.name, extra={"signal": number.name})
        running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        return await running
    except asyncio.CancelledError:
        return None
