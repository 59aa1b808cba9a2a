"""The channels of the asynchronous client. One of grpc.aio belongs to the event loop that runs when it is made."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc

from bertstream.client._channels import Connection, LeastLoaded, stubs


class LoopChannels:
    """The channels of one event loop, made when it runs."""

    def __init__(self, connection: Connection) -> None:
        self._channels = [_channel(connection, index) for index in range(connection.channels)]
        self._closing: asyncio.Task[None] | None = None
        self.rpcs: list[dict[str, Any]] = [stubs(channel) for channel in self._channels]
        self.balance = LeastLoaded(connection.channels)

    async def close(self) -> None:
        """Closes them, in their loop; calls under way raise Cancelled."""
        await asyncio.gather(*(channel.close() for channel in self._channels))

    def close_soon(self) -> None:
        """As `close`, from a callback of their loop."""
        self._closing = asyncio.ensure_future(self.close())


class AsyncChannels:
    """The channels of a client: some for each event loop that uses it.

    Those of a loop that is closed are dropped, as nothing can run there any more; what was under way has ended with it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._by_loop: dict[asyncio.AbstractEventLoop, LoopChannels] = {}
        self._lock = threading.Lock()  # loops may run in several threads
        self._closed = False

    def here(self) -> LoopChannels:
        """Those of the running loop. ValueError where the client is closed."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise ValueError("the client is closed")
            if loop not in self._by_loop:
                self._by_loop = {each: channels for each, channels in self._by_loop.items() if not each.is_closed()}
                self._by_loop[loop] = LoopChannels(self._connection)
            return self._by_loop[loop]

    async def close(self) -> None:
        """Closes those of the running loop, and has other loops that run close theirs."""
        with self._lock:
            self._closed = True
            by_loop, self._by_loop = self._by_loop, {}
        here = by_loop.pop(asyncio.get_running_loop(), None)
        for loop, channels in by_loop.items():
            try:
                loop.call_soon_threadsafe(channels.close_soon)
            except RuntimeError:
                continue  # it is closed
        if here:
            await here.close()


def _channel(connection: Connection, index: int) -> grpc.aio.Channel:
    if connection.credentials is None:
        return grpc.aio.insecure_channel(connection.address, connection.options(index))
    return grpc.aio.secure_channel(connection.address, connection.credentials, connection.options(index))
