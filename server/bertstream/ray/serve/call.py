"""A call as a replica of Ray Serve gets it, and the two directions of one that streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from bertstream.ray.serve.contract import SECONDS_LEFT
from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.call import GrpcCall
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.statuses import code_of, trailers_of


class RayCall(GrpcCall):
    """A call that came through Ray's gRPC proxy; its context is a RayServegRPCContext."""

    def __init__(self, method: str, context: Any) -> None:
        seconds = dict(context.invocation_metadata()).get(SECONDS_LEFT)
        super().__init__(method, context, None if seconds is None else float(seconds))
        self.failed = False

    async def fail(self, error: RequestError) -> Any:
        """Set how the call ends; the relay in the proxy ends it, so nothing is raised, which Ray would log."""
        self.failed = True
        self._context.set_code(code_of(error))
        self._context.set_details(error.message)
        self._context.set_trailing_metadata(list(trailers_of(error, self.request_id, self.trailers)))


class Pipe:
    """The two directions of a call that streams, as `protocols.call.Stream` uses them of gRPC's context.

    What is written waits for Ray to take it, one message at a time.
    """

    def __init__(self, requests: AsyncIterator[bytes], decode: Callable[[bytes], Decoded[Any]]) -> None:
        self._requests = requests
        self._decode = decode
        self._written: asyncio.Queue[bytes] = asyncio.Queue(1)

    async def read(self) -> Any:
        """Return the next request, decoded, or gRPC's EOF."""
        try:
            return self._decode(await anext(self._requests))
        except StopAsyncIteration:
            return grpc.aio.EOF

    async def write(self, message: Message) -> None:
        """Return once there is room for the message."""
        await self._written.put(message.SerializeToString())

    async def until(self, task: asyncio.Task[Any]) -> AsyncIterator[bytes]:
        """Yield all that the task writes, until it has ended."""
        while True:
            taking = asyncio.ensure_future(self._written.get())
            try:
                await asyncio.wait((taking, task), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not taking.done():
                    taking.cancel()
            if not taking.done():
                break
            yield taking.result()
        while not self._written.empty():
            yield self._written.get_nowait()
