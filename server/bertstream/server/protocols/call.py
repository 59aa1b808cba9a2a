"""One call, as the chain of interceptors and the handlers see it, by whatever protocol it came."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Generic, Literal, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from bertstream.server.core import tracing
from bertstream.server.core.callers import Caller
from bertstream.server.core.errors import RequestError, deadline_exceeded, reader_stalled
from bertstream.server.core.permits import Permits
from bertstream.server.core.tracing import Value
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.statuses import code_of, trailers_of

RefusalOf = Literal["call", "item"]
_NOT_IDENTIFIED = Caller("")
REQUEST_ID = "x-request-id"  # in metadata, headers and trailers
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
M = TypeVar("M", bound=Message)


class Holding(Protocol):
    """What a bulk stream has under way, as bounds count it."""

    @property
    def items(self) -> Permits: ...

    @property
    def tokens(self) -> Permits: ...

    @property
    def request_bytes(self) -> Permits: ...


def _tell_nobody(of: RefusalOf, reason: str) -> None:
    return


def request_id_in(metadata: Mapping[str, str | bytes]) -> str:
    """Return the id that the caller has given its request, or a new one."""
    given = str(metadata.get(REQUEST_ID, ""))
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class Call(ABC):
    """One call: its method, deadline, metadata and caller, and how its protocol ends it."""

    def __init__(self, method: str, metadata: Mapping[str, str | bytes], seconds: float | None) -> None:
        """Take the method's name, what the caller sent beside its messages, and how long the call may take."""
        self.method = method  # "bertstream.v1.EncodingService/EncodeTexts", "POST /v1/embeddings"
        self.arrived = time.monotonic()
        self.deadline = math.inf if seconds is None else self.arrived + seconds
        # A caller's own time ends earlier by the way to here, and by what gRPC adds as it rounds the time up.
        self._early = 0.01 * (1.0 + (seconds or 0.0))
        self.metadata = metadata
        self.request_id = request_id_in(metadata)
        self.trailers: dict[str, str | bytes] = {REQUEST_ID: self.request_id}  # to end with
        self.caller = _NOT_IDENTIFIED  # until the link that identifies callers has the call
        self.until_end = contextlib.ExitStack()  # contexts that stay open until the call ends
        self.received_bytes = 0  # of the messages read so far, as they came
        self.sent_bytes = 0  # of the answer's messages so far
        self.holding: Holding | None = None  # what a bulk stream holds, from when it has begun
        self.refused: Callable[[RefusalOf, str], None] = _tell_nobody  # told of each error that the caller gets
        self.trace_id = ""  # of the trace that the call belongs to, where it is traced

    @property
    @abstractmethod
    def peer(self) -> str:
        """The caller's address, as gRPC writes it: "ipv4:127.0.0.1:5000"."""

    @property
    @abstractmethod
    def code(self) -> str:
        """The name of the call's status: OK, until the call was ended with another one."""

    @property
    @abstractmethod
    def subjects(self) -> Iterable[str]:
        """The names in the caller's certificate, where it was verified: "CN=…" and "SAN=…"."""

    @abstractmethod
    def attributes(self, code: str) -> Mapping[str, Value]:
        """Return what a span says of the call, which has ended with this status, in the terms of its protocol."""

    @abstractmethod
    async def complete(self, answer: Any) -> Any:
        """End the call with what its handler has returned; return what the transport is given."""

    @abstractmethod
    async def fail(self, error: RequestError) -> Any:
        """End the call with an error, in the form of its protocol; return as `complete` does, or raise."""

    def ended(self, *, cancelled: bool) -> str:
        """Return the name of the status that the call has ended with, also where nobody was there to be told."""
        if not cancelled:
            return self.code
        return "DEADLINE_EXCEEDED" if time.monotonic() >= self.deadline - self._early else "CANCELLED"

    def check_deadline(self) -> None:
        """Raise DEADLINE_EXCEEDED when the deadline is over."""
        if time.monotonic() >= self.deadline:
            raise deadline_exceeded()


_SUBJECTS = {"x509_common_name": "CN", "x509_subject_alternative_name": "SAN"}  # gRPC's names, and those of the keys


class GrpcCall(Call):
    """A call that came over gRPC; the context is a grpc.aio.ServicerContext, or stands in for one."""

    def __init__(self, method: str, context: Any, seconds: float | None) -> None:
        """Take the call's context, and what is left until its deadline.

        Its trailers are set at once, as services that are not ours end calls themselves.
        """
        super().__init__(method, dict(context.invocation_metadata() or ()), seconds)
        self._context = context
        self._set_trailers()

    @property
    def peer(self) -> str:
        peer: str = self._context.peer()
        return peer

    @property
    def code(self) -> str:
        code: grpc.StatusCode | None = self._context.code()
        return "OK" if code is None else code.name

    @property
    def subjects(self) -> Iterable[str]:
        """The names in the certificate; gRPC reports only certificates that it has verified."""
        shown = self._context.auth_context()
        for name, kind in _SUBJECTS.items():
            for value in shown.get(name, ()):
                yield f"{kind}={value.decode('utf-8', 'replace')}"

    def attributes(self, code: str) -> Mapping[str, Value]:
        found = {"rpc.system.name": "grpc", "rpc.method": self.method, "rpc.response.status_code": code}
        attempts = str(self.metadata.get("grpc-previous-rpc-attempts", ""))
        return found | ({"previous_attempts": attempts} if attempts else {})

    async def complete(self, answer: Any) -> Any:
        self._set_trailers()  # with those that links have added
        return answer

    async def fail(self, error: RequestError) -> Any:
        trailing = trailers_of(error, self.request_id, self.trailers)
        await self._context.abort(code_of(error), error.message, trailing)

    def _set_trailers(self) -> None:
        self._context.set_trailing_metadata(list(self.trailers.items()))  # a list, as stand-ins want it


CURRENT: ContextVar[Call] = ContextVar("call")  # of the handler that runs; gRPC runs each in a task of its own


class CallerGone(Exception):
    """The caller went, or lost its connection, while an answer was being written."""


class Messages(Protocol):
    """What a transport takes and gives: gRPC's context of a call, or what stands in for it."""

    async def read(self) -> Any:
        """Return the next message, decoded, or grpc.aio.EOF."""

    async def write(self, message: Any, /) -> None:
        """Return once the transport has taken the message."""


class Stream(Generic[M]):
    """The two directions of a bidirectional call."""

    def __init__(self, context: Messages, stalled_seconds: float | None = None) -> None:
        self._context = context
        self._stalled_seconds = stalled_seconds

    async def __aiter__(self) -> AsyncIterator[Decoded[M]]:
        """Read one message at a time, and only when the next one is asked for."""
        while (message := await self._context.read()) is not grpc.aio.EOF:
            CURRENT.get().received_bytes += message.wire_bytes
            yield message

    async def write(self, message: Message) -> None:
        """Return once the transport has taken the message; wait for a slow reader, raise for one that stalls.

        A write that has begun is awaited to its end even when it is cancelled: until then gRPC could not send the
        status that the call ends with, and the caller would wait for ever.
        """
        with tracing.span("wire"):
            await self._write(message)

    async def _write(self, message: Message) -> None:
        writing = asyncio.ensure_future(self._context.write(message))
        writing.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio warns
        try:
            async with asyncio.timeout(self._stalled_seconds):
                await asyncio.shield(writing)
        except TimeoutError:  # if the caller ever reads again, it finds the status behind the waiting messages
            raise reader_stalled(self._stalled_seconds or 0.0) from None
        except asyncio.CancelledError:
            await asyncio.wait((writing,))
            raise
        except grpc.aio.InternalError as error:
            raise CallerGone from error
