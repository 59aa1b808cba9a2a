"""Hold a bulk stream open for as long as a test likes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import grpc

from bertstream.v1 import encoding_pb2, encoding_pb2_grpc


class OpenStream:
    """A stream on a connection of its own that goes on until its caller ends it."""

    _made = itertools.count()

    def __init__(self, address: str) -> None:
        self._ended = threading.Event()
        self._channel = grpc.insecure_channel(address, [("grpc.enable_retries", 0), ("test.number", next(self._made))])
        self._call = encoding_pb2_grpc.EncodingServiceStub(self._channel).StreamEncodings(self._requests())
        assert next(self._call).HasField("started")

    def _requests(self) -> Iterator[encoding_pb2.StreamEncodingsRequest]:
        yield encoding_pb2.StreamEncodingsRequest(options=encoding_pb2.EncodingOptions())
        self._ended.wait(240)

    def code(self) -> grpc.StatusCode:
        """Return the status with which the server ends the stream."""
        code: grpc.StatusCode = self._call.code()
        self.end()
        return code

    def end(self) -> None:
        self._ended.set()
        self._call.code()
        self._channel.close()
