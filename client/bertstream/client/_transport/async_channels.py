"""The channels of the asynchronous client. A channel of grpc.aio belongs to the event loop in which it was made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import grpc

from bertstream.client._transport.channels import Connection, LeastLoaded, stubs

SETTLE_SECONDS = 0.1  # for gRPC to notify a loop of cancelled calls, since it logs errors if the loop is gone


class LoopChannels:
    """The channels of one event loop, made while it runs, and closed when it shuts down as asyncio.run does."""

    def __init__(self, connection: Connection) -> None:
        self._channels = [_channel(connection, index) for index in range(connection.channels)]
        self._loop = asyncio.get_running_loop()
        self._balance = LeastLoaded(connection.channels)
        self._under_way, self._cut_at = 0, float("-inf")
        self._closing: asyncio.Task[None] | None = None
        self.closed = False
        self.rpcs: list[dict[str, Any]] = [stubs(channel) for channel in self._channels]
        # asyncio's only hook for the end of a loop is that it closes generators that have begun.
        self._guard = self._until_shutdown()
        with suppress(StopIteration):
            self._guard.__anext__().send(None)

    def acquire(self) -> int:
        """Return the channel for a new call."""
        self._under_way += 1
        return self._balance.acquire()

    def release(self, index: int, call: Any) -> None:
        """Note that a call of that channel has ended or is about to be cancelled; `call` is None if it never began."""
        self._under_way -= 1
        self._balance.release(index)
        if call is not None and (not call.done() or call.cancelled()):
            self._cut_at = self._loop.time()

    async def close(self) -> None:
        """Close the channels, in their loop; calls under way raise Cancelled."""
        self.closed = True
        await asyncio.gather(*(channel.close() for channel in self._channels))

    def close_soon(self) -> None:
        """Close the channels from a callback of their loop."""
        self._closing = asyncio.ensure_future(self.close())

    async def _until_shutdown(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            were_cut = self._under_way > 0 or self._loop.time() - self._cut_at < SETTLE_SECONDS
            await self.close()
            if were_cut:
                await asyncio.sleep(SETTLE_SECONDS)


class AsyncChannels:
    """The channels of a client, for each event loop that uses it.

    The channels of a closed loop are dropped, since nothing can run there any more; its calls have ended with it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._by_loop: dict[asyncio.AbstractEventLoop, LoopChannels] = {}
        self._lock = threading.Lock()  # loops may run in several threads
        self._closed = False

    def here(self) -> LoopChannels:
        """Return the channels of the running loop. Raises ValueError if the client is closed."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise ValueError("the client is closed")
            if loop not in self._by_loop or self._by_loop[loop].closed:
                self._by_loop = {each: channels for each, channels in self._by_loop.items() if not each.is_closed()}
                self._by_loop[loop] = LoopChannels(self._connection)
            return self._by_loop[loop]

    async def close(self) -> None:
        """Close the channels of the running loop, and ask other running loops to close theirs."""
        with self._lock:
            self._closed = True
            by_loop, self._by_loop = self._by_loop, {}
        here = by_loop.pop(asyncio.get_running_loop(), None)
        for loop, channels in by_loop.items():
            with suppress(RuntimeError):  # raised if that loop is closed
                loop.call_soon_threadsafe(channels.close_soon)
        if here:
            await here.close()


def _channel(connection: Connection, index: int) -> grpc.aio.Channel:
    if connection.security.credentials is None:
        return grpc.aio.insecure_channel(connection.address, connection.options(index))
    return grpc.aio.secure_channel(connection.address, connection.security.credentials, connection.options(index))
