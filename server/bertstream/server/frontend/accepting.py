"""Take gRPC's calls one by one, so that no call's path can end the server.

grpcio's asyncio server, of 1.85.3, decodes the path of a call to an unregistered method in the one loop that takes all
calls. Bytes there that are no UTF-8 end the loop, and with it the server: its port closes, before any key is checked.
So methods must be registered, by which gRPC's core finds them by their bytes, and no other path is read here.

This goes through names of grpcio's own, as there is no public one. A grpcio without them is used as it is; with any, a
frontend ends when its gRPC server does, and is replaced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from inspect import signature
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # types-grpcio has no types for it

UNKNOWN = ""  # stands for the names of all methods that are not there
_UNDECODED = "Invalid encoding on"  # begins grpcio's own line on metadata that is no UTF-8; the bytes follow


def server(interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, Any]]) -> grpc.aio.Server:
    """Make a server. The interceptors see calls of methods that are not registered under the name UNKNOWN."""
    if not _fits():
        return grpc.aio.server(interceptors=interceptors, options=options)
    theirs, cygrpc.AioServer = cygrpc.AioServer, _accepting(interceptors)
    try:
        return grpc.aio.server(interceptors=interceptors, options=options)
    finally:
        cygrpc.AioServer = theirs


async def until_stopped(server: grpc.aio.Server, stop: asyncio.Event) -> None:
    """Wait until told to stop. Raises RuntimeError where the server ends before: another process must serve."""
    stopping, ended = asyncio.create_task(stop.wait()), asyncio.create_task(server.wait_for_termination())
    # The second is not cancelled afterwards, which would cancel the server's own end.
    await asyncio.wait((stopping, ended), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        stopping.cancel()
        raise RuntimeError("gRPC's server has ended by itself") from ended.exception()


def keep_bytes_out_of_the_log() -> None:
    """Drop grpcio's lines on metadata that is no text: they quote it, which may be a key, and have a traceback each."""
    logging.getLogger(cygrpc.__name__).addFilter(lambda record: not str(record.msg).startswith(_UNDECODED))


def _fits() -> bool:
    """Tell whether this grpcio takes calls in the way that is replaced here, by functions of these parameters."""
    wanted = {
        "_handle_rpc": ["method_name", "method_resolver", "interceptors", "rpc_state", "loop", "concurrency_exceeded"],
        "_schedule_rpc_coro": ["rpc_coro", "rpc_state", "loop", "method_name"],
    }
    return (
        hasattr(cygrpc.AioServer, "_make_request_call_future")
        and hasattr(cygrpc, "_MethodResolver")
        and all(list(signature(getattr(cygrpc, name)).parameters) == names for name, names in wanted.items())
    )


def _accepting(interceptors: Sequence[grpc.aio.ServerInterceptor]) -> type[Any]:
    """Return grpcio's server with other futures for its loop: they take calls until the server stops."""

    class Accepting(cygrpc.AioServer):  # type: ignore[misc]  # has none
        def __init__(self, *given: Any, **named: Any) -> None:
            self.generic: list[Any] = []
            self.registered: dict[str, Any] = {}
            self.running: set[asyncio.Task[None]] = set()  # a loop itself holds its tasks weakly
            super().__init__(*given, **named)

        def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
            self.generic.extend(handlers)
            super().add_generic_rpc_handlers(handlers)

        def add_registered_method_handlers(self, handlers: dict[str, Any]) -> None:
            self.registered.update(handlers)
            super().add_registered_method_handlers(handlers)

        def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[None]:
            # The loop cancels these when the server begins to stop, but calls may have come that it has not seen yet.
            accepting = self.run(self.accept(method))
            accepting.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio logs it then
            return asyncio.shield(accepting)

        def run(self, coroutine: Any) -> asyncio.Task[None]:
            task = asyncio.create_task(coroutine)
            self.running.add(task)
            task.add_done_callback(self.running.discard)
            return task

        async def accept(self, method: bytes | None) -> None:
            """Take calls of one method, or of those that are not registered, until the server stops."""
            loop, resolver = asyncio.get_running_loop(), cygrpc._MethodResolver(self.generic, self.registered)
            name = UNKNOWN if method is None else method.decode()
            while True:
                state = await (self._request_call() if method is None else self._request_registered_call(method))
                run = cygrpc._handle_rpc(name, resolver, tuple(interceptors), state, loop, False)
                self.run(cygrpc._schedule_rpc_coro(run, state, loop, name))

    return Accepting
