"""Makes gRPC's handlers from the methods of our servicers."""

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

# For a unary rpc: `async (Decoded[Request], Call) -> Response`. For a bidirectional one: `async (Stream[Request], Call)
# -> None`. For one that streams answers: `async (Decoded[Request], Stream, Call) -> None`, and for one that streams
# requests: `async (Stream[Request], Call) -> Response`.
Handler = Callable[..., Awaitable[Any]]


def handlers_of(servicer: object, service: ServiceDescriptor) -> dict[str, Handler]:
    """Return the servicer's method for each rpc: the one of the same name in snake case."""
    names = {method.name: re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower() for method in service.methods}
    return {rpc: getattr(servicer, name) for rpc, name in names.items()}


def rpcs_of(*services: ServiceDescriptor) -> list[str]:
    """Return the full names of all rpcs: "package.Service/Method"."""
    return [f"{service.full_name}/{method.name}" for service in services for method in service.methods]


def add_service(
    server: grpc.aio.Server,
    service: ServiceDescriptor,
    by_rpc: Mapping[str, Handler],
    max_bytes: int,
    stalled_seconds: float | None = None,
) -> None:
    """Serve each rpc by its handler. Raises KeyError for an rpc without one.

    A stream's call ends if its reader has not taken a message after `stalled_seconds`; None means no limit. The server
    must have the chain of interceptors, which makes the Call and answers callers with the errors of handlers.
    """
    handlers = {
        method.name: _handler(method, by_rpc[method.name], max_bytes, stalled_seconds) for method in service.methods
    }
    add_handlers(server, service.full_name, handlers)


def add_handlers(
    server: grpc.aio.Server, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
) -> None:
    """Add a service's handlers by the short names of its methods, and register them, which older grpcio do not know."""
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, dict(handlers))])
    server.add_registered_method_handlers(service, dict(handlers))


def _handler(
    method: MethodDescriptor, function: Handler, max_bytes: int, stalled_seconds: float | None
) -> grpc.RpcMethodHandler[Any, Any]:
    decode = decoder(GetMessageClass(method.input_type), max_bytes)
    serialize = GetMessageClass(method.output_type).SerializeToString

    async def unary(request: Decoded[Message], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await function(request, CURRENT.get())

    async def stream(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await function(Stream[Message](context, stalled_seconds), CURRENT.get())

    async def server_stream(request: Decoded[Message], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await function(request, Stream[Message](context, stalled_seconds), CURRENT.get())

    if method.server_streaming and not method.client_streaming:
        return grpc.unary_stream_rpc_method_handler(server_stream, decode, serialize)
    if method.client_streaming and method.server_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, decode, serialize)
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(stream, decode, serialize)
    return grpc.unary_unary_rpc_method_handler(unary, decode, serialize)
