"""Call a server by another server's interface, as any client does that was made from its .proto file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Metadata = tuple[tuple[str, str], ...]


class SpokenCalls:
    """Hold a connection, with a function for each kind of call."""

    def __init__(self, channel: grpc.Channel, file: FileDescriptor, metadata: Metadata = ()) -> None:
        self._channel = channel
        self._file = file
        self._metadata = metadata

    def one(self, rpc: str, request: Message, **options: Any) -> Any:
        """Return the answer of a unary call of "Service/Method"."""
        return self._rpc(rpc)(request, **self._options(options))

    def many(self, rpc: str, requests: Iterable[Message], **options: Any) -> Iterator[Any]:
        """Return the answers of a bidirectional call, as they come."""
        answers: Iterator[Any] = self._rpc(rpc)(iter(requests), **self._options(options))
        return answers

    def together(self, rpc: str, requests: Iterable[Message], **options: Any) -> Any:
        """Return the only answer of a call that streams its requests."""
        return self._rpc(rpc)(iter(requests), **self._options(options))

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"timeout": 60, "metadata": self._metadata, **options}

    def _rpc(self, rpc: str) -> Any:
        service, name = rpc.split("/")
        method = self._file.services_by_name[service].methods_by_name[name]
        kinds: dict[tuple[bool, bool], Any] = {
            (False, False): self._channel.unary_unary,
            (True, False): self._channel.stream_unary,
            (True, True): self._channel.stream_stream,
        }
        return kinds[method.client_streaming, method.server_streaming](
            f"/{method.containing_service.full_name}/{name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
