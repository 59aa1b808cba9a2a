"""One streaming call of the asynchronous client: a task reads, the caller writes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from bertstream.client._errors import Cancelled, Internal, RpcError, parsed
from bertstream.client._transport.sync_call import END_SECONDS, End, Response

MASKED = "Internal error from Core"
STATUS_POLLS, STATUS_POLL_SECONDS = 50, 0.01


class AsyncInbox:
    """What has come over all calls of a stream.

    It is bounded by the stream's windows, since a server sends nothing that was not asked for.
    """

    def __init__(self) -> None:
        self._events: deque[Response | End] = deque()
        self._arrived = asyncio.Event()

    def put(self, event: Response | End) -> None:
        """Add an event."""
        self._events.append(event)
        self._arrived.set()

    def poll(self) -> Response | End | None:
        """Return the next event that has come, or None."""
        return self._events.popleft() if self._events else None

    async def wait(self) -> None:
        """Wait until `poll` has an event."""
        self._arrived.clear()
        if not self._events:
            await self._arrived.wait()


class AsyncStreamCall:
    """A call whose responses its own task reads, so that a write that waits for the server cannot block them."""

    def __init__(
        self, lane: int, inbox: AsyncInbox, on_close: Callable[[Any], None], error_of: Callable[[Any], RpcError]
    ) -> None:
        self._lane, self._inbox = lane, inbox
        self._on_close: Callable[[Any], None] | None = on_close
        self._error_of = error_of
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None

    def start(self, rpc: Any, **arguments: Any) -> None:
        """Start the call."""
        self._call = rpc(**arguments)
        self._reader = asyncio.create_task(self._read(), name="bertstream-stream")

    async def send(self, request: Any) -> None:
        """Send a request, waiting for flow control. If the call has ended, the reader will report how."""
        await self._write(self._call.write(request))

    async def half_close(self) -> None:
        """Tell the server that no more requests come."""
        await self._write(self._call.done_writing())

    async def close(self, patient: bool = False) -> None:
        """End the call by cancelling it; with `patient`, for a call that is answered, wait a moment for its own end."""
        try:
            if patient and self._reader:
                await asyncio.wait([self._reader], timeout=END_SECONDS)
        finally:
            self._release()
            if self._reader:
                self._reader.cancel()
            if self._call is not None:
                self._call.cancel()

    async def _write(self, writing: Any) -> None:
        try:
            await writing
        except (grpc.RpcError, asyncio.InvalidStateError):
            return
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    async def _read(self) -> None:
        try:
            # Not by read(): after a write has failed because the server ended the call, read() returns none of the
            # messages that came before the status. Iterating returns all of them.
            async for message in self._call:
                self._inbox.put(Response(self._lane, parsed(message)))
            code = await self._call.code()
            self._end(None if code is grpc.StatusCode.OK else Cancelled("the call was cancelled"))
        except grpc.aio.AioRpcError as error:
            self._end(await self._true_error(error))
        except RpcError as error:
            self._end(error)
        except asyncio.CancelledError:
            self._end(Cancelled("the call was cancelled"))  # by closing the client, if a caller still waits
        except Exception as error:  # any error must reach the caller, who would otherwise wait forever
            self._end(Internal(f"the call failed: {error!r}"))

    async def _true_error(self, error: grpc.aio.AioRpcError) -> RpcError:
        """Return the server's error, which grpc.aio may hide behind one of its own.

        A write that failed because the call had ended raises INTERNAL before the call's status, which arrives soon
        after.
        """
        for _ in range(STATUS_POLLS):
            if error.details() != MASKED:
                return self._error_of(error)
            await asyncio.sleep(STATUS_POLL_SECONDS)
            code, trailing = await self._call.code(), await self._call.trailing_metadata()
            error = _error(code, await self._call.details(), trailing)
        return self._error_of(_error(grpc.StatusCode.UNAVAILABLE, "the stream broke while it was written to"))

    def _end(self, error: RpcError | None) -> None:
        self._inbox.put(End(self._lane, error))

    def _release(self) -> None:
        if self._on_close:
            self._on_close(self._call)
            self._on_close = None


def _error(code: grpc.StatusCode, details: str, trailing: grpc.aio.Metadata | None = None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing or grpc.aio.Metadata(), details)
