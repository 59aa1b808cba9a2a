"""The chain for gRPC: one interceptor, which wraps each method once and passes each call through the links."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias

import grpc

from bertstream.server.core.errors import method_not_found
from bertstream.server.protocols.call import CURRENT, GrpcCall, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.interceptors.links import Kind, Link, Links, joined_by_kind

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic for the type checker alone
Encode = Callable[[Any], bytes]


class Chain(grpc.aio.ServerInterceptor):
    """Passes every call through the links for its kind, the first of them outermost."""

    def __init__(self, links: Links, standard: Collection[str] = ()) -> None:
        """Take the links, each with the kinds of calls that pass it, and the full names of the standard services."""
        self._through = joined_by_kind(links)
        self._standard = frozenset(standard)
        self._wrapped: dict[str, Handler] = {}  # by the method's name; missing methods are not kept

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the handler of the method with the links around it; it stays the same for all its calls."""
        method = handler_call_details.method.removeprefix("/")
        if method in self._wrapped:
            return self._wrapped[method]
        found = await continuation(handler_call_details)
        if found is None:
            return _wrapped(method, _missing(method), self._through[Kind.MISSING])
        kind = Kind.STANDARD if method.partition("/")[0] in self._standard else Kind.OURS
        self._wrapped[method] = _wrapped(method, found, self._through[kind])
        return self._wrapped[method]


def _wrapped(method: str, handler: Handler, through: Link) -> Handler:
    """Return a handler of the same kind whose calls go through the links."""
    makers: dict[tuple[bool, bool], tuple[Any, Any]] = {
        (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
        (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
        (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
        (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
    }
    function, make = makers[handler.request_streaming, handler.response_streaming]
    encode = _counting(handler.response_serializer)
    run = partial(_write_all, function) if inspect.isasyncgenfunction(function) else function
    # A single answer is encoded within the chain, so that its links see the size.
    run = run if handler.response_streaming else partial(_encoded, run, encode)

    async def intercepted(request: Any, context: Context) -> Any:
        remaining: float | None = context.time_remaining()  # None without a deadline, although gRPC's types forbid it
        call = GrpcCall(method, context, remaining)
        CURRENT.set(call)
        if isinstance(request, Decoded):
            call.received_bytes += request.wire_bytes
        return await through(call, partial(run, request, context))

    wrapped: Handler = make(intercepted, handler.request_deserializer, encode if handler.response_streaming else None)
    return wrapped


def _counting(encode: Encode | None) -> Encode:
    """Return the serializer of answers, which counts the bytes of the call that it is used in."""

    def encoded(message: Any) -> bytes:
        raw: bytes = message if encode is None else encode(message)
        CURRENT.get().sent_bytes += len(raw)
        return raw

    return encoded


async def _encoded(function: Callable[..., Any], encode: Encode, request: Any, context: Context) -> bytes | None:
    answer = await function(request, context)
    return None if answer is None else encode(answer)


async def _write_all(generate: Callable[..., Any], request: Any, context: Context) -> None:
    """Write the answers that a handler yields, so that the links around it see the whole call."""
    stream = Stream[Any](context)
    async with aclosing(generate(request, context)) as answers:
        async for answer in answers:
            await stream.write(answer)


def _missing(method: str) -> Handler:
    """Return a handler that refuses calls of a missing method, without reading a message."""

    async def refuse(_: object, context: Context) -> None:
        raise method_not_found(method)

    return grpc.stream_stream_rpc_method_handler(refuse)
