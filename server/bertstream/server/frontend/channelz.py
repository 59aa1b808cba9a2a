"""gRPC's own service for looking into its connections: who is connected, and what each connection has carried.

It tells callers' addresses, so it is for administrators, or for where nobody else can reach the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import channelz_pb2
from grpc_channelz.v1.channelz import aio

from bertstream.server.core.errors import Code, RequestError
from bertstream.server.protocols.decoding import Decoded, decoder
from bertstream.server.protocols.rpc import add_handlers

SERVICE: Any = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"]
SERVICE_NAME: str = SERVICE.full_name
METHODS = tuple(f"{SERVICE_NAME}/{method.name}" for method in SERVICE.methods)
_MAX_BYTES = 1 << 12  # of one request
_Context = grpc.aio.ServicerContext[Any, Any]


def add_channelz(server: grpc.aio.Server) -> None:
    """Add `grpc.channelz.v1.Channelz`."""
    handlers = {method.name: _handler(method) for method in SERVICE.methods}
    add_handlers(server, SERVICE_NAME, handlers)


def _handler(method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
    answer: Callable[[Any, _Context], Awaitable[Any]] = getattr(aio.ChannelzServicer, method.name)

    async def answering(request: Decoded[Any], context: _Context) -> Any:
        found = await answer(request.value(), context)
        if found is None:  # with a status, as gRPC's servicer does
            raise RequestError(Code.NOT_FOUND, "CHANNELZ_NOT_FOUND", "gRPC has nothing of this id")
        return found

    decode = decoder(GetMessageClass(method.input_type), _MAX_BYTES)
    return grpc.unary_unary_rpc_method_handler(answering, decode, GetMessageClass(method.output_type).SerializeToString)
