"""Our part of Ray's gRPC proxy: what stands between gRPC's server and Ray's handlers of our rpcs.

Ray calls `add_bertstream` (grpc_servicer_functions) to learn of the rpcs, and replaces their handlers by its own.
Around these, a relay passes requests on as bytes, so that the proxy parses none; tells replicas the deadline; finds the
application of the model that a request names; and ends calls as a server without Ray does, with all details.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from bertstream.ray.serve.contract import (
    APPLICATION,
    ENDED,
    RAY_REQUEST_ID,
    SECONDS_LEFT,
    Metadata,
    Pair,
    application_of,
)
from bertstream.ray.serve.endings import error_of
from bertstream.ray.serve.rpcs import RPCS, Rpc, named_model
from bertstream.server.protocols.call import REQUEST_ID, request_id_in
from bertstream.server.protocols.statuses import code_of, trailers_of

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def add_bertstream(servicer: object, server: Any) -> None:
    """Add all of our services to Ray's gRPC proxy; for `grpc_servicer_functions`.

    servicer: not used, as replicas serve.
    """
    for service in dict.fromkeys(rpc.service for rpc in RPCS):
        server.add_generic_rpc_handlers((Relay([rpc for rpc in RPCS if rpc.service == service]),))


class Relay(grpc.GenericRpcHandler):
    """The rpcs of one service."""

    def __init__(self, rpcs: list[Rpc]) -> None:
        self._rpcs = {f"/{rpc.method}": rpc for rpc in rpcs}
        # Ray puts its own handlers here; the name is that of gRPC's class for such services.
        self._method_handlers = {method: _handler(rpc) for method, rpc in self._rpcs.items()}
        self._relayed: dict[str, Handler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the handler of a method, None for a method of others."""
        method = handler_call_details.method
        if method not in self._rpcs:
            return None
        if method not in self._relayed:
            self._relayed[method] = _around(self._rpcs[method], self._method_handlers[method])
        return self._relayed[method]


class RelayedContext:
    """A call's context as Ray's handlers see it: with more metadata, and an end that is only noted.

    It has what they use of grpc.aio.ServicerContext.
    """

    def __init__(self, context: Context, rpc: Rpc, model: str) -> None:
        """Take the call's context, its rpc, and the model that its first message names."""
        self._context = context
        self._rpc = rpc
        self._model = model
        given = tuple(context.invocation_metadata() or ())
        self._metadata = relayed_metadata(given, context.time_remaining(), model)
        self._code: Any = None
        self._details = ""
        self._trailers: Metadata = ()

    def __getattr__(self, name: str) -> Any:
        """Return all else of the context: the peer, its certificate, whether it has cancelled."""
        return getattr(self._context, name)

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def code(self) -> Any:
        return self._code

    def set_code(self, code: Any) -> None:
        self._code = code

    def details(self) -> str:
        return self._details

    def set_details(self, details: str) -> None:
        self._details = details

    def trailing_metadata(self) -> Metadata:
        return self._trailers

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        self._trailers = tuple(trailing_metadata)

    async def end(self, *, by_replica: bool) -> None:
        """End the call as the replica has, or, where Ray did, with an error of ours. Raises where it fails.

        A stream that the replica has not ended is not whole, whatever Ray says.
        """
        trailers = tuple(pair for pair in self._trailers if pair[0] != RAY_REQUEST_ID)
        if self._code in (None, grpc.StatusCode.OK) and (by_replica or not self._rpc.streams_answers):
            self._context.set_trailing_metadata(trailers)
        elif by_replica:
            await self._context.abort(self._code, self._details, trailers)
        else:
            await self._fail()

    async def _fail(self) -> None:
        error, request_id = error_of(self._code, self._model, self._rpc.name), str(dict(self._metadata)[REQUEST_ID])
        if error is None:
            await self._context.abort(grpc.StatusCode.CANCELLED, "the call was cancelled")
        else:
            trailers = trailers_of(error, request_id, {REQUEST_ID: request_id})
            await self._context.abort(code_of(error), error.message, trailers)


def relayed_metadata(given: Metadata, seconds: float | None, model: str) -> Metadata:
    """Return the metadata for Ray and the replica.

    It is the caller's, with the request's id, the deadline and the model's application, unless the caller names one.
    """
    known = dict(given)
    request_id = request_id_in(known)
    own: list[Pair] = [(REQUEST_ID, request_id), (RAY_REQUEST_ID, request_id)]
    if seconds is not None:
        own.append((SECONDS_LEFT, repr(seconds)))
    if model and APPLICATION not in known:
        own.append((APPLICATION, application_of(model)))
    replaced = {REQUEST_ID, RAY_REQUEST_ID, SECONDS_LEFT}
    return (*(pair for pair in given if pair[0] not in replaced), *own)


def _handler(rpc: Rpc) -> Handler:
    """Return a handler of the rpc's kind, whose function Ray replaces. Requests stay bytes, as do Ray's answers."""

    def replaced(request: object, context: object) -> None:
        raise NotImplementedError

    if rpc.streams_requests:
        make = grpc.stream_stream_rpc_method_handler if rpc.streams_answers else grpc.stream_unary_rpc_method_handler
    else:
        make = grpc.unary_stream_rpc_method_handler if rpc.streams_answers else grpc.unary_unary_rpc_method_handler
    handler: Handler = make(replaced)
    return handler


def _around(rpc: Rpc, handler: Handler) -> Handler:
    """Return the handler with the relay around Ray's function."""
    rays: Any
    if rpc.streams_answers:
        rays = handler.stream_stream if rpc.streams_requests else handler.unary_stream
        stream = _streaming(rpc, rays)
        if rpc.streams_requests:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_stream_rpc_method_handler(stream)
    rays = handler.stream_unary if rpc.streams_requests else handler.unary_unary
    single = _single(rpc, rays)
    if rpc.streams_requests:
        return grpc.stream_unary_rpc_method_handler(single)
    return grpc.unary_unary_rpc_method_handler(single)


def _single(rpc: Rpc, rays: Callable[..., Awaitable[bytes]]) -> Any:
    async def single(request: Any, context: Context) -> bytes:
        request, model = await _model_of(rpc, request)
        relayed = RelayedContext(context, rpc, model)
        answer = await rays(request, relayed)
        await relayed.end(by_replica=answer == ENDED)
        return answer

    return single


def _streaming(rpc: Rpc, rays: Callable[..., Any]) -> Any:
    async def stream(request: Any, context: Context) -> AsyncIterator[bytes]:
        request, model = await _model_of(rpc, request)
        relayed, ended = RelayedContext(context, rpc, model), False
        async with contextlib.aclosing(rays(request, relayed)) as answers:
            async for answer in answers:
                if answer == ENDED:
                    ended = True
                else:
                    yield answer
        await relayed.end(by_replica=ended)

    return stream


async def _model_of(rpc: Rpc, request: Any) -> tuple[Any, str]:
    """Return the request, or the stream of requests, and the model that the first one names."""
    if not rpc.streams_requests:
        return request, named_model(request, rpc.model_paths)
    if not rpc.model_paths:
        return request, ""
    messages = aiter(request)
    try:
        first: bytes = await anext(messages)
    except StopAsyncIteration:
        return messages, ""
    return _chained(first, messages), named_model(first, rpc.model_paths)


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for message in rest:
        yield message
