"""All rpcs that go through Ray's proxy, as their descriptors have them, and where a request names its model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor

from bertstream.server.protocols.inference import inference_pb2
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.v1 import encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2

_FILES = (encoding_pb2, tokenization_pb2, tasks_pb2, generation_pb2, models_pb2, inference_pb2, tei_pb2)
SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values()
)
_NAMES = ("model", "name", "model_name")  # of a model, in requests and in options
_OPTIONS = "options"
Paths = tuple[tuple[int, ...], ...]  # of a field: the numbers of those around it, and its own


@dataclass(frozen=True, slots=True)
class Rpc:
    """One rpc. Ray finds a replica's method by the last part of its name, so no two may share that."""

    service: str
    name: str
    streams_requests: bool
    streams_answers: bool
    model_paths: Paths  # to where the model's name may be; empty: there is no such place

    @property
    def method(self) -> str:
        """The full name, as the chain of interceptors knows it: "package.Service/Method"."""
        return f"{self.service}/{self.name}"


def _rpc(service: ServiceDescriptor, method: MethodDescriptor) -> Rpc:
    paths = _model_paths(method.input_type)
    return Rpc(service.full_name, method.name, method.client_streaming, method.server_streaming, paths)


def _model_paths(message: Descriptor) -> Paths:
    """Return where the model's name is in a request: a field of its own, of its options, or of one kind of options."""
    if own := _name_in(message):
        return own
    options = message.fields_by_name.get(_OPTIONS)
    if options is None or options.message_type is None:
        return ()
    inner = options.message_type
    kinds = [(field.number, field.message_type) for oneof in inner.oneofs for field in oneof.fields]
    deeper = tuple((number, *path) for number, kind in kinds if kind is not None for path in _name_in(kind))
    return tuple((options.number, *path) for path in (_name_in(inner) or deeper))


def _name_in(message: Descriptor) -> Paths:
    fields = [message.fields_by_name[name] for name in _NAMES if name in message.fields_by_name]
    return tuple((field.number,) for field in fields if field.type == field.TYPE_STRING)[:1]


RPCS = tuple(_rpc(service, method) for service in SERVICES for method in service.methods)


def named_model(raw: bytes, paths: Paths) -> str:
    """Return the model that a serialized request names; "" where it names none, or is malformed."""
    return next(filter(None, (_text_at(memoryview(raw), path) for path in paths)), "")


def _text_at(part: memoryview, path: tuple[int, ...]) -> str:
    for number in path:
        found = [value for field, value in _parts(part) if field == number]
        if not found:
            return ""
        part = found[-1]
    try:
        return str(part, "utf-8")
    except UnicodeDecodeError:
        return ""


def _parts(raw: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and the bytes of each field that has a length, as far as the message is well-formed.

    Source: https://protobuf.dev/programming-guides/encoding.
    """
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        match tag & 7:
            case 0:
                _, at = _varint(raw, at)
            case 1:
                at += 8
            case 2:
                size, at = _varint(raw, at)
                if at + size > len(raw):
                    return
                yield tag >> 3, raw[at : at + size]
                at += size
            case 5:
                at += 4
            case _:
                return


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    """Return a number and the place behind it; one that is cut off ends at the message's end."""
    value = shift = 0
    while at < len(raw):
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80 or shift > 63:
            break
    return value, at
