"""A channel of grpc.aio whose server is in the same process and event loop.

Messages are handed over as they are, and neither side may change them afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from bertstream.server.core.errors import method_not_found
from bertstream.server.inprocess.call import CallerEnd, HandlerEnd, Metadata
from bertstream.server.protocols.call import CURRENT, GrpcCall, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.interceptors.links import Kind, Links, joined_by_kind
from bertstream.server.protocols.rpc import Handler

Rpc = Callable[..., CallerEnd]


class InProcessChannel(grpc.aio.Channel):
    """Makes calls to handlers, each of which passes the links."""

    def __init__(self, services: Mapping[ServiceDescriptor, Mapping[str, Handler]], links: Links) -> None:
        """Take the handlers of each service by the names of its rpcs, and the links that all calls pass."""
        self._through = joined_by_kind(links)
        self._methods: dict[str, tuple[MethodDescriptor, Handler]] = {
            f"/{service.full_name}/{method.name}": (method, by_rpc[method.name])
            for service, by_rpc in services.items()
            for method in service.methods
        }

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Any:
        """Return the rpc of one request and one answer."""
        return self._rpc(method)

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Any:
        """Return the rpc of one request and any number of answers."""
        return self._rpc(method)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> Any:
        """Return the rpc of any number of requests and one answer."""
        return self._rpc(method)

    def stream_stream(self, method: str, *_: Any, **__: Any) -> Any:
        """Return the rpc of any number of requests and answers."""
        return self._rpc(method)

    async def close(self, grace: float | None = None) -> None:
        """Do nothing: there is no connection."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return READY, which a process is to itself."""
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return where the state is another one, which READY never becomes here."""

    async def channel_ready(self) -> None:
        """Return at once."""

    def _rpc(self, name: str) -> Rpc:
        found = self._methods.get(name)
        through = self._through[Kind.MISSING if found is None else Kind.OURS]
        serve = _missing(name) if found is None else _serving(*found)

        def begin(
            request: Any = None, *, timeout: float | None = None, metadata: Metadata = (), **_: object
        ) -> CallerEnd:
            async def run(end: HandlerEnd) -> Any:
                context: Any = end
                call = GrpcCall(name.removeprefix("/"), context, end.time_remaining())
                CURRENT.set(call)
                return await through(call, lambda: serve(request, context))

            return CallerEnd(run, timeout, metadata)

        return begin


def _serving(method: MethodDescriptor, handler: Handler) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a function of the request and the context that runs the handler with what its kind of rpc takes."""

    def serve(request: Any, context: Any) -> Awaitable[Any]:
        sent = Stream[Any](context) if method.client_streaming else Decoded(request)
        answers = (Stream[Any](context),) if method.server_streaming and not method.client_streaming else ()
        return handler(sent, *answers, CURRENT.get())

    return serve


def _missing(name: str) -> Callable[[Any, Any], Awaitable[Any]]:
    async def refuse(request: Any, context: Any) -> NoReturn:
        raise method_not_found(name.removeprefix("/"))

    return refuse
