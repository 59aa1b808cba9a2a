"""Runs the compiler's process: at the start, where a signal may stop it, and for a model that is loaded later."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from bertstream.server.supervisor.progress import ProgressDisplay
from bertstream.workers.compile.compiling import Compiled, CompileTask
from bertstream.workers.process.child import Child, ChildSpec
from bertstream.workers.process.control import Event

log = logging.getLogger(__name__)


async def run_compiler(task: CompileTask, on_event: Callable[[Event], None]) -> Compiled:
    """Compiles what the cache lacks. Cancelling it ends the process. Raises ChildFailed with words for people."""
    spec = ChildSpec(
        "compile",
        lambda life, fd: ["bertstream.workers.compile.compiling", task.to_json(), str(fd)],
        {},
        on_event=on_event,
    )
    child = await Child.start(spec, 0)
    ended = asyncio.create_task(child.wait())
    try:
        return Compiled.from_event(await asyncio.shield(child.ready))
    finally:
        child.kill()
        await ended


async def compile_models(task: CompileTask, display: ProgressDisplay) -> Compiled | None:
    """Compiles, and shows it. None where the user stopped it; raises ChildFailed."""
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
