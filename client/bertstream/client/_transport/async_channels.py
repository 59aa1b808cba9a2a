"""The channels of the asynchronous client. A channel of grpc.aio belongs to the event loop in which it was made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

import grpc

from bertstream.client._calls.health import HEALTH_RPC, OPEN_SERVICE, check_request, is_open
from bertstream.client._errors import RpcError
from bertstream.client._transport.balance import ANSWER_SECONDS, Place
from bertstream.client._transport.channels import Connection, stubs

SETTLE_SECONDS = 0.1  # for gRPC to notify a loop of cancelled calls, since it logs errors if the loop is gone


class LoopChannels:
    """The channels of one event loop, made while it runs, and closed when it shuts down as asyncio.run does."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channels = {place: _channel(connection, place) for place in connection.places()}
        self._loop = asyncio.get_running_loop()
        self._balance = connection.balance()
        self._asking: set[asyncio.Task[None]] = set()
        self._under_way, self._cut_at = 0, float("-inf")
        self._closing: asyncio.Task[None] | None = None
        self.closed = False
        self.rpcs: dict[Place, dict[str, Any]] = {
            place: stubs(channel, connection.servers[place.server]) for place, channel in self._channels.items()
        }
        # asyncio's only hook for the end of a loop is that it closes generators that have begun.
        self._guard = self._until_shutdown()
        with suppress(StopIteration):
            self._guard.__anext__().send(None)

    def acquire(self, refused: Collection[int] = ()) -> Place:
        """Return the place for a new call, and ask servers that took none whether they do again."""
        self._ask_again()
        self._under_way += 1
        return self._balance.acquire(refused)

    def acquire_at(self, server: int) -> Place:
        """Return the place for a new call to this server."""
        self._under_way += 1
        return self._balance.acquire_at(server)

    def best_lane(self, lanes: Sequence[int], at_any_cost: bool) -> int | None:
        """Return the lane of these that is best opened, as `Connection.best_lane`, and ask servers as `acquire`."""
        self._ask_again()
        return self._connection.best_lane(self._balance, lanes, at_any_cost)

    def release(self, place: Place, call: Any) -> None:
        """Note that a call of that channel has ended or is about to be cancelled; `call` is None if it never began."""
        self._under_way -= 1
        self._balance.release(place)
        if call is not None and (not call.done() or call.cancelled()):
            self._cut_at = self._loop.time()

    def error_at(self, place: Place) -> Callable[[Any], RpcError]:
        """Return what makes an exception of a call's grpc.RpcError, and notes what it says of the server."""
        return lambda error: self._balance.failed(place.server, self._connection.error_of(error, place.server))

    async def close(self) -> None:
        """Close the channels, in their loop; calls under way raise Cancelled."""
        self.closed = True
        for task in self._asking:
            task.cancel()
        if self._connection.given_channel is None:
            await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    def close_soon(self) -> None:
        """Close the channels from a callback of their loop."""
        self._closing = asyncio.ensure_future(self.close())

    def _ask_again(self) -> None:
        for server in self._balance.to_ask():
            task = asyncio.create_task(self._ask(server), name="bertstream-health")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask(self, server: int) -> None:
        check, metadata = self.rpcs[Place(server, 0)][HEALTH_RPC], self._connection.metadata
        opened = False
        try:
            request = check_request(OPEN_SERVICE)
            opened = is_open(await check(request, timeout=ANSWER_SECONDS, metadata=metadata, wait_for_ready=True))
        except grpc.RpcError as error:
            opened = is_open(self._connection.error_of(error, server))
        except RpcError:  # an answer that makes no sense
            opened = False
        finally:
            self._balance.answered(server, opened)

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


def _channel(connection: Connection, place: Place) -> grpc.aio.Channel:
    if connection.given_channel is not None:
        given: grpc.aio.Channel = connection.given_channel
        return given
    address, options = connection.servers[place.server], connection.options(place)
    credentials = connection.security.credentials
    if credentials is None:
        return grpc.aio.insecure_channel(address, options)
    return grpc.aio.secure_channel(address, credentials, options)
