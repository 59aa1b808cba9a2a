"""The engine of one actor: the models of a server, in this process, and a client of it that needs no port."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from importlib.metadata import version
from typing import Any, TypeVar

from bertstream.client import AsyncClient
from bertstream.ray.data.tasks import EngineFailed
from bertstream.server.config import ConfigError

T = TypeVar("T")


class EmbeddedEngine:
    """An embedded server, in a thread with an event loop of its own, so that its loop is never held up by Ray's."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Take the options of an EmbeddedServer, and begin to start it; what is asked for waits until then."""
        self._options = dict(options)
        self._loop = asyncio.SelectorEventLoop()  # whatever kind the process has chosen for itself
        self._ready: Future[AsyncClient] = Future()
        self._stop = asyncio.Event()
        # A daemon, as it must not keep the process of an actor that Ray ends; the workers then end by themselves.
        self._thread = threading.Thread(target=self._run, name="bertstream-engine", daemon=True)
        self._thread.start()

    def begin(self, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]) -> Future[T]:
        """Begin what is done with the client, in the engine's loop, and return its outcome to come.

        Any thread may call this; it waits until the server is ready. Raises EngineFailed.
        """
        return asyncio.run_coroutine_threadsafe(work(self._ready.result()), self._loop)

    def close(self) -> None:
        """End the server and its workers."""
        with contextlib.suppress(RuntimeError):  # of a loop that is closed, as that of a server that did not start
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # whoever waits for the server must learn of it
            if self._ready.done():
                raise
            self._ready.set_exception(EngineFailed(_words(error)))
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        from bertstream.server.embedded import EmbeddedServer
        from bertstream.server.inprocess.services import channel_to

        async with EmbeddedServer(**self._options) as server:
            self._ready.set_result(AsyncClient(channel=channel_to(server.models, version("bertstream"))))
            await self._stop.wait()


def _words(error: BaseException) -> str:
    """Return what an error says; by its name where that is not meant for people."""
    from bertstream.server.embedded import ServerFailed

    told = str(error)
    return told if isinstance(error, ServerFailed | ConfigError) else f"{type(error).__name__}: {told}"
