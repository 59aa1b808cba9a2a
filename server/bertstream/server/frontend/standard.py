"""The services that every gRPC server may have: health, and reflection in both of its versions.

Added by their descriptors and not by the generated functions, since compressed messages are inflated by us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from bertstream.server.protocols.compression import TooLong, inflated

_MAX_BYTES = 1 << 16  # of one request
_STABLE_FILE = "grpc/reflection/v1/reflection.proto"
STABLE_REFLECTION = "grpc.reflection.v1.ServerReflection"
M = TypeVar("M", bound=Message)


def add_health(server: grpc.aio.Server, servicer: health.aio.HealthServicer) -> None:
    """`grpc.health.v1.Health`, but for List, which grpcio-health-checking does not answer either."""
    decode, encode = _decoder(health_pb2.HealthCheckRequest), health_pb2.HealthCheckResponse.SerializeToString
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Check": grpc.unary_unary_rpc_method_handler(servicer.Check, decode, encode),
        "Watch": grpc.unary_stream_rpc_method_handler(servicer.Watch, decode, encode),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(health.SERVICE_NAME, handlers)])


def add_reflection(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """`grpc.reflection.v1` and `v1alpha`, which list these services, and themselves.

    grpcio-reflection has v1alpha alone. Version 1 is the same but for its name, and so are the bytes of its messages.
    """
    _add_stable_reflection()
    names = (STABLE_REFLECTION, reflection.SERVICE_NAME)
    servicer: Any = reflection.aio.ReflectionServicer((*services, *names))
    decode = _decoder(reflection_pb2.ServerReflectionRequest)
    encode = reflection_pb2.ServerReflectionResponse.SerializeToString
    handler: grpc.RpcMethodHandler[Any, Any]
    handler = grpc.stream_stream_rpc_method_handler(servicer.ServerReflectionInfo, decode, encode)
    handlers = [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}) for name in names]
    server.add_generic_rpc_handlers(handlers)


def _add_stable_reflection() -> None:
    """Puts the file of reflection v1 among those that callers may ask for, unless it is there."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_STABLE_FILE)
    except KeyError:
        pool.AddSerializedFile(_stable_file().SerializeToString())


def _stable_file() -> descriptor_pb2.FileDescriptorProto:
    """The file of v1alpha, with the version changed wherever it stands."""
    alpha = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
    stable: descriptor_pb2.FileDescriptorProto = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    stable.name = _STABLE_FILE
    stable.options.ClearField("deprecated")
    return stable


def _decoder(message_class: type[M]) -> Callable[[bytes], M]:
    def decode(raw: bytes) -> M:
        try:
            return message_class.FromString(inflated(raw, _MAX_BYTES))
        except TooLong:
            raise DecodeError(f"the message has more than {_MAX_BYTES} bytes") from None

    return decode
