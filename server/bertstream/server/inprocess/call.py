"""The two ends of a call within a process: what grpc.aio gives its caller, and what it gives the handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from typing import Any, NoReturn, TypeAlias

import grpc

from bertstream.server.inprocess.pipe import Pipe, PipeClosed
from bertstream.server.protocols.decoding import Decoded

Metadata: TypeAlias = "tuple[tuple[str, str | bytes], ...]"
Run: TypeAlias = "Callable[[HandlerEnd], Awaitable[Any]]"  # runs the handler, and returns the only answer or None


class HandlerEnd:
    """The handler's end of a call, in place of grpc.aio's ServicerContext."""

    def __init__(self, timeout: float | None, metadata: Metadata) -> None:
        self._until = None if timeout is None else time.monotonic() + timeout
        self._metadata = metadata
        self._code: grpc.StatusCode | None = None
        self.details = ""
        self.trailers: Metadata = ()
        self.requests: Pipe[Any] = Pipe()
        self.responses: Pipe[Any] = Pipe()

    async def read(self) -> Any:
        """Return the next request, or EOF after the last."""
        message = await self.requests.get()
        return grpc.aio.EOF if message is None else Decoded(message)

    async def write(self, message: Any) -> None:
        """Return once the caller has room for the answer."""
        await self.responses.put(message)

    def code(self) -> grpc.StatusCode | None:
        """Return the status that the call was ended with; None while it is under way, or ends well."""
        return self._code

    def end(self, code: grpc.StatusCode, details: str = "", trailers: Metadata | None = None) -> None:
        """Note how the call ends."""
        self._code, self.details = code, details
        self.trailers = self.trailers if trailers is None else trailers

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with an error."""
        self.end(code, details, trailing_metadata)
        raise grpc.aio.AbortError

    def set_trailing_metadata(self, trailers: Metadata) -> None:
        """Set what goes with the status."""
        self.trailers = trailers

    def invocation_metadata(self) -> Metadata:
        """Return what the caller sent beside its messages."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Return how many seconds the call may still take, None for any number."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def peer(self) -> str:
        """Return the caller's address, in gRPC's form."""
        return "unix:"

    def auth_context(self) -> Mapping[str, Any]:
        """Return what is known of the caller's certificate: there is none."""
        return {}


class CallerEnd:
    """The caller's end of a call, in place of grpc.aio's Call. Its handler begins to run when it is made."""

    def __init__(self, run: Run, timeout: float | None = None, metadata: Metadata = ()) -> None:
        self._other = HandlerEnd(timeout, tuple(metadata))
        self._cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []
        self._task = asyncio.create_task(self._run(run), name="bertstream-call")
        self._task.add_done_callback(self._ended)

    async def write(self, request: Any) -> None:
        """Return once the handler has room for a request. Raises InvalidStateError after the call's end."""
        try:
            await self._other.requests.put(request)
        except PipeClosed:
            raise asyncio.InvalidStateError("the call has ended") from None

    async def done_writing(self) -> None:
        """Tell the handler that no more requests come."""
        self._other.requests.close()

    async def read(self) -> Any:
        """Return the next answer, or EOF after the last. Raises AioRpcError, and CancelledError."""
        message = await self._other.responses.get()
        if message is not None:
            return message
        await self._status()
        return grpc.aio.EOF

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield all answers. Raises as `read`."""
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the only answer. Raises as `read`."""
        return self._status().__await__()

    def cancel(self) -> bool:
        """End the call, unless it has ended."""
        if not self._task.done():
            self._cancelled = True
            self._task.cancel()
        return self._cancelled

    def cancelled(self) -> bool:
        """Tell whether the call has ended by being cancelled."""
        return self._cancelled and self._task.done()

    def done(self) -> bool:
        """Tell whether the call has ended."""
        return self._task.done()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have a function called with this call once it has ended."""
        if self._task.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    async def code(self) -> grpc.StatusCode:
        """Return the call's status, when it has ended."""
        if not self._task.done():
            await asyncio.wait([self._task])
        return self._other.code() or grpc.StatusCode.OK

    async def details(self) -> str:
        """Return what the status says in words."""
        await self.code()
        return self._other.details

    async def trailing_metadata(self) -> Metadata:
        """Return what came with the status."""
        await self.code()
        return self._other.trailers

    async def _run(self, run: Run) -> Any:
        """Run the handler until it returns, has no time left, or is cancelled; it leaves its status in `_other`."""
        try:
            async with asyncio.timeout(self._other.time_remaining()):
                return await run(self._other)
        except TimeoutError:
            self._other.end(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")  # as gRPC says it
        except grpc.aio.AbortError:
            return None  # it has left the status
        except asyncio.CancelledError:
            self._other.end(grpc.StatusCode.CANCELLED)
        except Exception as error:  # the chain of links turns those of handlers into statuses; so this is a link's
            self._other.end(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")
        return None

    def _ended(self, _: object) -> None:
        if self._task.cancelled():  # before it began
            self._other.end(grpc.StatusCode.CANCELLED)
        self._other.requests.close()
        self._other.responses.close()
        for callback in self._callbacks:
            callback(self)

    async def _status(self) -> Any:
        """Return the only answer, if there is one. Raises the error that the call has ended with."""
        code = await self.code()
        if code is grpc.StatusCode.CANCELLED:
            raise asyncio.CancelledError
        if code is not grpc.StatusCode.OK:
            trailers = grpc.aio.Metadata(*self._other.trailers)
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, self._other.details)
        return self._task.result()
