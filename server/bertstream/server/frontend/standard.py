"""The services that every gRPC server may have: their names, health, and reflection in both of its versions.

They are added by hand and not by the generated functions, since we decode all messages ourselves, also compressed and
malformed ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from bertstream.server.frontend import channelz
from bertstream.server.protocols import orca
from bertstream.server.protocols.call import CallerGone, Stream
from bertstream.server.protocols.decoding import Decoded, decoder
from bertstream.server.protocols.rpc import add_handlers
from bertstream.server.settings import KeysSettings

_MAX_BYTES = 1 << 16  # of one request
_STABLE_FILE = "grpc/reflection/v1/reflection.proto"
STABLE_REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_SERVICES = (STABLE_REFLECTION, reflection.SERVICE_NAME)
SERVICES = (health.SERVICE_NAME, *REFLECTION_SERVICES, orca.SERVICE_NAME, channelz.SERVICE_NAME)
METHODS = (
    *(f"{health.SERVICE_NAME}/{rpc}" for rpc in ("Check", "Watch")),
    *(f"{name}/ServerReflectionInfo" for name in REFLECTION_SERVICES),
    f"{orca.SERVICE_NAME}/StreamCoreMetrics",
    *channelz.METHODS,
)
_Context = grpc.aio.ServicerContext[Any, Any]
_Check = Decoded[health_pb2.HealthCheckRequest]


def open_services(settings: KeysSettings | None) -> tuple[str, ...]:
    """Return the services that need no key, where others do."""
    if settings is None:
        return ()
    return (
        *((health.SERVICE_NAME,) if settings.open_health else ()),
        *(REFLECTION_SERVICES if settings.open_reflection else ()),
    )


def add_health(server: grpc.aio.Server, servicer: health.aio.HealthServicer) -> None:
    """Add `grpc.health.v1.Health`, without List, which grpcio-health-checking does not have either."""
    decode, encode = (
        decoder(health_pb2.HealthCheckRequest, _MAX_BYTES),
        health_pb2.HealthCheckResponse.SerializeToString,
    )

    async def check(request: _Check, context: _Context) -> Any:
        return await servicer.Check(request.value(), context)

    async def watch(request: _Check, context: _Context) -> None:
        try:
            await servicer.Watch(request.value(), context)
        except grpc.aio.InternalError as error:  # a write failed, as the connection is gone
            raise CallerGone from error

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Check": grpc.unary_unary_rpc_method_handler(check, decode, encode),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, decode, encode),
    }
    add_handlers(server, health.SERVICE_NAME, handlers)


def add_reflection(server: grpc.aio.Server, services: Iterable[str], files: Iterable[FileDescriptor] = ()) -> None:
    """Add `grpc.reflection.v1` and `v1alpha`, which list these services, and themselves.

    What no file imports but errors carry, `google.rpc`'s details, can be looked up, too.

    grpcio-reflection has v1alpha alone. Version 1 differs only in its name, not in the bytes of its messages.

    files: those of services that are not in the process's own descriptor pool.
    """
    _add_stable_reflection()
    names, own = (*services, *REFLECTION_SERVICES), descriptor_pool.Default()
    apart = {service.full_name for file in files for service in file.services_by_name.values()}
    shared = (own.FindFileContainingSymbol(name) for name in names if name not in apart)
    servicer: Any = reflection.aio.ReflectionServicer(
        names, pool=pool_of([*shared, *files, error_details_pb2.DESCRIPTOR])
    )
    decode = decoder(reflection_pb2.ServerReflectionRequest, _MAX_BYTES)
    encode = reflection_pb2.ServerReflectionResponse.SerializeToString

    async def requests(context: _Context) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        async for decoded in Stream[reflection_pb2.ServerReflectionRequest](context):
            yield decoded.value()

    async def info(_: object, context: _Context) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        async for answer in servicer.ServerReflectionInfo(requests(context), context):
            yield answer

    handler: grpc.RpcMethodHandler[Any, Any]
    handler = grpc.stream_stream_rpc_method_handler(info, decode, encode)
    for name in REFLECTION_SERVICES:
        add_handlers(server, name, {"ServerReflectionInfo": handler})


def pool_of(files: Iterable[FileDescriptor]) -> descriptor_pool.DescriptorPool:
    """Return a pool of these files, which may be of several pools, and of all that they import."""
    pool, there = descriptor_pool.DescriptorPool(), set[str]()

    def add(file: FileDescriptor) -> None:
        if file.name not in there:
            there.add(file.name)
            for imported in file.dependencies:
                add(imported)
            pool.AddSerializedFile(file.serialized_pb)

    for file in files:
        add(file)
    return pool


def _add_stable_reflection() -> None:
    """Add the .proto file of reflection v1 to those that callers may ask for, unless it is among them."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_STABLE_FILE)
    except KeyError:
        pool.AddSerializedFile(_stable_file().SerializeToString())


def _stable_file() -> descriptor_pb2.FileDescriptorProto:
    """Return the .proto file of v1alpha, with the version changed wherever it occurs."""
    alpha = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
    stable: descriptor_pb2.FileDescriptorProto = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    stable.name = _STABLE_FILE
    stable.options.ClearField("deprecated")
    return stable
