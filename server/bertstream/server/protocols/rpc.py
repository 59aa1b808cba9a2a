"""How every rpc is served: decoding, request ids, logging, and one place where errors become statuses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from bertstream.server.core.errors import RequestError, deadline_exceeded, internal, invalid, too_large
from bertstream.server.core.gate import Gate
from bertstream.server.protocols.compression import TooLong, inflated
from bertstream.server.protocols.statuses import code_of, to_status
from bertstream.server.protocols.utf8 import BadString, blank_bad_strings

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Decoded(Generic[M]):
    """A message as it came: parsed, or with the error that it deserves; `bad_strings` were blanked."""

    message: M
    bad_strings: tuple[BadString, ...] = ()
    error: RequestError | None = None

    def value(self) -> M:
        """The message; raises its error."""
        if self.error is not None:
            raise self.error
        return self.message


class Call:
    """What a handler may know of the call that it serves."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.context = context
        self.arrived = time.monotonic()
        remaining: float | None = context.time_remaining()  # typed as never None, which it is without a deadline
        self.deadline = math.inf if remaining is None else self.arrived + remaining
        given = str(dict(context.invocation_metadata() or ()).get("x-request-id", ""))
        self.until_end = contextlib.ExitStack()  # what is held for the call
        self.request_id: str = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

    def check_deadline(self) -> None:
        """Raises DEADLINE_EXCEEDED when it is too late for any work."""
        if time.monotonic() >= self.deadline:
            raise deadline_exceeded()


class CallerGone(Exception):
    """The caller went, or lost its connection, while an answer was being written."""


class Stream(Generic[M]):
    """The two directions of a bidirectional call."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context

    async def __aiter__(self) -> AsyncIterator[Decoded[M]]:
        """Reads one message at a time, only when asked for."""
        while (message := await self._context.read()) is not grpc.aio.EOF:
            yield message

    async def write(self, message: Message) -> None:
        """Returns once the transport has taken the message: a slow reader makes it wait.

        A write that has begun is seen to its end even when it is cancelled: meanwhile gRPC could not send the status
        that the call ends with, and the caller would wait for ever.
        """
        writing = asyncio.ensure_future(self._context.write(message))
        writing.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, if nobody waits any more
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait((writing,))
            raise
        except grpc.aio.InternalError as error:
            raise CallerGone from error


def decoder(message_class: type[M], max_bytes: int) -> Callable[[bytes], Decoded[M]]:
    """A deserializer that never raises: what is wrong becomes an error that the handler answers with."""

    def decode(raw: bytes) -> Decoded[M]:
        if len(raw) > max_bytes:
            return _too_long(message_class, f"{len(raw)} bytes", max_bytes)
        try:
            raw = inflated(raw, max_bytes)
            return Decoded(message_class.FromString(raw))
        except TooLong:
            return _too_long(message_class, f"{len(raw)} bytes, and more when inflated", max_bytes)
        except DecodeError:
            return _decode_again(message_class, raw)

    return decode


def _too_long(message_class: type[M], size: str, max_bytes: int) -> Decoded[M]:
    error = too_large("", f"the message has {size}; the limit is {max_bytes} bytes: send less at a time")
    return Decoded(message_class(), error=error)


def _decode_again(message_class: type[M], raw: bytes) -> Decoded[M]:
    try:
        blanked, bad = blank_bad_strings(raw, cast(Descriptor, message_class.DESCRIPTOR))
        return Decoded(message_class.FromString(blanked), bad_strings=tuple(bad))
    except DecodeError:
        return Decoded(
            message_class(), error=invalid("", "the bytes are not a message of this type", "MALFORMED_MESSAGE")
        )


def add_service(
    server: grpc.aio.Server, service: ServiceDescriptor, servicer: object, max_bytes: int, gate: Gate
) -> None:
    """Serves each rpc by the servicer's method of the same name in snake case.

    Unary: `async (Decoded[Request], Call) -> Response`. Bidirectional: `async (Stream[Request], Call) -> None`.
    Server-streaming: `async (Decoded[Request], Stream, Call) -> None`.
    """
    handlers = {}
    for method in service.methods:
        function = getattr(servicer, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
        handlers[method.name] = _handler(method, function, max_bytes, gate)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.full_name, handlers)])


def _handler(
    method: MethodDescriptor, function: Callable[..., Awaitable[Any]], max_bytes: int, gate: Gate
) -> grpc.RpcMethodHandler[Any, Any]:
    name = f"{method.containing_service.full_name}/{method.name}"
    decode = decoder(GetMessageClass(method.input_type), max_bytes)
    serialize = GetMessageClass(method.output_type).SerializeToString

    async def unary(request: Decoded[Message], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        call = Call(context)
        return await _guard(name, call, gate, lambda: function(request, call))

    async def stream(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        call = Call(context)
        await _guard(name, call, gate, lambda: function(Stream[Message](context), call))

    async def server_stream(request: Decoded[Message], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        call = Call(context)
        await _guard(name, call, gate, lambda: function(request, Stream[Message](context), call))

    if method.server_streaming and not method.client_streaming:
        return grpc.unary_stream_rpc_method_handler(server_stream, decode, serialize)
    if method.client_streaming and method.server_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, decode, serialize)
    return grpc.unary_unary_rpc_method_handler(unary, decode, serialize)


async def _guard(name: str, call: Call, gate: Gate, function: Callable[[], Awaitable[Any]]) -> Any:
    """Runs one call; whatever it raises becomes a status with details, and never a traceback."""
    code = "OK"
    try:
        with gate.passing(), call.until_end:
            return await function()
    except (asyncio.CancelledError, CallerGone):
        code = "CANCELLED"
        raise asyncio.CancelledError from None
    except RequestError as error:
        code = error.code.name
        await _abort(call, error)
    except Exception:  # a bug of ours: the caller gets a request id, the log gets the rest
        code = "INTERNAL"
        log.exception("%s failed", name, extra={"request_id": call.request_id})
        await _abort(call, internal())
    finally:
        milliseconds = round((time.monotonic() - call.arrived) * 1e3, 1)
        log.debug("%s %s", name, code, extra={"request_id": call.request_id, "milliseconds": milliseconds})


async def _abort(call: Call, error: RequestError) -> None:
    status = to_status(error, call.request_id)
    trailing: list[tuple[str, str | bytes]] = [
        ("grpc-status-details-bin", status.SerializeToString()),
        ("x-request-id", call.request_id),
    ]
    # Read by gRPC's own retries (proposal A6): how many milliseconds to wait, or a negative number for not at all.
    pushback = -1 if error.retry_seconds is None else int(error.retry_seconds * 1e3)
    trailing.append(("grpc-retry-pushback-ms", str(pushback)))
    await call.context.abort(code_of(error), error.message, tuple(trailing))
