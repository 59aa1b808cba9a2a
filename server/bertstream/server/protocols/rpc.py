"""From the methods of our own servicers to the handlers that gRPC calls."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bertstream.server.protocols.call import CURRENT, Stream
from bertstream.server.protocols.decoding import Decoded, decoder

# Of a unary rpc: `async (Decoded[Request], Call) -> Response`. Of a bidirectional one: `async (Stream[Request], Call)
# -> None`. Of one that streams answers: `async (Decoded[Request], Stream, Call) -> None`.
Handler = Callable[..., Awaitable[Any]]


def handlers_of(servicer: object, service: ServiceDescriptor) -> dict[str, Handler]:
    """Return the servicer's method for each rpc: the one of the same name in snake case."""
    names = {method.name: re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower() for method in service.methods}
    return {rpc: getattr(servicer, name) for rpc, name in names.items()}


def add_service(
    server: grpc.aio.Server,
    service: ServiceDescriptor,
    by_rpc: Mapping[str, Handler],
    max_bytes: int,
    stalled_seconds: float | None = None,
) -> None:
    """Serve each rpc by its handler; KeyError where one has none.

    A message of a stream that its reader has not taken after `stalled_seconds` ends the call; None for no end. The
    server must have the chain of interceptors, which makes the Call and tells callers what handlers raise.
    """
    handlers = {
        method.name: _handler(method, by_rpc[method.name], max_bytes, stalled_seconds) for method in service.methods
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.full_name, handlers)])


def _handler(
    method: MethodDescriptor, function: Handler, max_bytes: int, stalled_seconds: float | None
) -> grpc.RpcMethodHandler[Any, Any]:
    decode = decoder(GetMessageClass(method.input_type), max_bytes)
    serialize = GetMessageClass(method.output_type).SerializeToString

    async def unary(request: Decoded[Message], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await function(request, CURRENT.get())

    async def stream(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await function(Stream[Message](context, stalled_seconds), CURRENT.get())

    async def server_stream(request: Decoded[Message], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await function(request, Stream[Message](context, stalled_seconds), CURRENT.get())

    if method.server_streaming and not method.client_streaming:
        return grpc.unary_stream_rpc_method_handler(server_stream, decode, serialize)
    if method.client_streaming and method.server_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, decode, serialize)
    return grpc.unary_unary_rpc_method_handler(unary, decode, serialize)
