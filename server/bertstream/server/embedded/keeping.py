"""Keeps the workers of an embedded server, in a thread with an event loop of its own.

So they are pinged and replaced however long the caller's event loop is busy, and whatever kind of loop that is. The
thread is a daemon, as it must not keep a process whose main thread has ended; the workers then end by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future

from bertstream.server.config import ServeConfig
from bertstream.server.settings import FrontendSettings
from bertstream.server.supervisor.hosting import Host
from bertstream.workers.process.control import call_in

log = logging.getLogger(__name__)

STOPPED = "the server was stopped before it was ready"


class Keeper:
    """The thread that runs a Host."""

    def __init__(self, config: ServeConfig, cores: int = 0) -> None:
        self.ready: Future[FrontendSettings] = Future()  # fails as Host.run does
        self._host = Host(config, self.ready.set_result, cores)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stops = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="bertstream-workers", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the workers are still kept."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to start the workers."""
        self._thread.start()

    def stop(self) -> None:
        """Have the workers end; when called again, at once."""
        with self._lock:
            self._stops += 1
            if self._loop is not None:
                call_in(self._loop, self._host.stop)

    def join(self, seconds: float | None = None) -> None:
        """Return once all workers are gone, or after `seconds`."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            asyncio.run(self._keep())  # of the kind that the process has chosen: its policy has to start processes
        except Exception as error:  # Host.run has it worded for people
            if self.ready.done():
                log.exception("the workers are kept no more")
            else:
                self.ready.set_exception(error)
        if not self.ready.done():
            self.ready.set_exception(asyncio.CancelledError(STOPPED))

    async def _keep(self) -> None:
        running = asyncio.create_task(self._host.run())
        await asyncio.sleep(0)  # the host begins, so that it can be stopped
        with self._lock:
            self._loop = asyncio.get_running_loop()
            for _ in range(self._stops):
                self._host.stop()
        await running
