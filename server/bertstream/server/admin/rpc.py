"""Pass rpcs that come as JSON over HTTP on to the frontends, as calls like any others.

`POST /api/rpc/{service}/{method}` takes the request in the JSON mapping of proto3, of an rpc that streams requests a
list of them, and answers with the response. An rpc that streams answers gives server-sent events: one for each message,
then `end`, or `error` with the status. Errors are google.rpc.Status as JSON.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bertstream.server.admin.channels import FrontendChannels
from bertstream.server.admin.statuses import refusal, status_answer, status_json
from bertstream.server.core.errors import RequestError, invalid, method_not_found, too_large
from bertstream.server.protocols.bertstream_v1.changing import CHANGING_METHODS
from bertstream.server.protocols.http.statuses import HTTP_STATUSES
from bertstream.v1 import encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2

MAX_BODY_BYTES = 4 << 20
FORWARDED = ("authorization", "x-request-id", "traceparent", "tracestate")
_NO_STORE = {"cache-control": "no-store"}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rpc:
    """One rpc, as its .proto file has it."""

    path: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool
    changes: bool

    def open(self, channel: grpc.aio.Channel, requests: Sequence[Message], metadata: Any) -> Any:
        """Begin the call on this channel."""
        sides = tuple("stream" if streams else "unary" for streams in (self.client_streaming, self.server_streaming))
        callable_of = getattr(channel, "_".join(sides))
        begin = callable_of(self.path, self.request.SerializeToString, self.response.FromString)
        return begin(iter(requests) if self.client_streaming else requests[0], metadata=metadata)


def _rpc(method: MethodDescriptor) -> Rpc:
    return Rpc(
        f"/{method.containing_service.full_name}/{method.name}",
        GetMessageClass(method.input_type),
        GetMessageClass(method.output_type),
        method.client_streaming,
        method.server_streaming,
        f"{method.containing_service.full_name}/{method.name}" in CHANGING_METHODS,
    )


RPCS = {
    f"{service.full_name}/{method.name}": _rpc(method)
    for file in (encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class CallerLeft(Exception):
    """Whoever asked has closed the connection."""


def rpc_routes(frontends: FrontendChannels) -> list[Route]:
    """Return the route of all rpcs."""
    return [Route("/api/rpc/{service}/{method}", partial(_answer, frontends), methods=["POST"])]


async def _answer(frontends: FrontendChannels, request: Request) -> Response:
    try:
        return await _pass_on(frontends, request)
    except RequestError as error:
        return refusal(error)
    except grpc.aio.AioRpcError as error:
        return status_answer(status_of(error))
    except (CallerLeft, ClientDisconnect):
        return Response(status_code=HTTP_STATUSES["CANCELLED"])


async def _pass_on(frontends: FrontendChannels, request: Request) -> Response:
    name = "{service}/{method}".format(**request.path_params)
    if name not in RPCS:
        raise method_not_found(name)
    rpc, body = RPCS[name], await _body(request)
    # In a thread, since a large message takes long enough for others to notice.
    messages = await asyncio.to_thread(parsed, rpc, body)
    metadata = tuple((key, value) for key in FORWARDED if _is_forwarded(value := request.headers.get(key, "")))

    async def begin() -> tuple[Any, Any]:
        call = rpc.open(await frontends.channel(), messages, metadata)
        return call, await _while_connected(request, call, call.read if rpc.server_streaming else lambda: call)

    try:
        call, answer = await begin()
    except grpc.aio.AioRpcError as error:
        if rpc.changes or not _is_lost(error):
            raise
        call, answer = await begin()
    if not rpc.server_streaming:
        return Response(await asyncio.to_thread(_json, answer), media_type="application/json", headers=_NO_STORE)
    # The first message decides whether the answer is a status of HTTP, or a stream.
    return StreamingResponse(_events(call, answer), media_type="text/event-stream", headers=_NO_STORE)


def _is_lost(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether the frontend has gone, and another may answer; what a server refuses has details."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and not _details(error)


def _is_forwarded(value: str) -> bool:
    """Tell whether there is a value that gRPC takes as metadata: printable ASCII."""
    return bool(value) and value.isascii() and value.isprintable()


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise too_large("", f"the request has more than {MAX_BODY_BYTES} bytes: send less at a time, or use gRPC")
    return b"".join(parts)


def parsed(rpc: Rpc, body: bytes) -> list[Message]:
    """Return the request messages, one unless the rpc streams them. Raises RequestError where the body has none."""
    try:
        value = json.loads(body or b"{}")
        if isinstance(value, list) != rpc.client_streaming:
            raise ValueError(f"send {'a list of objects' if rpc.client_streaming else 'one object'}")
        given = value if rpc.client_streaming else [value]
        return [json_format.ParseDict(each, rpc.request()) for each in given]
    except (ValueError, TypeError, AttributeError, RecursionError, DecodeError, json_format.ParseError) as error:
        reason = str(error).partition("\n")[0][:300]
        message = f"this is not JSON of {rpc.request.DESCRIPTOR.full_name}: {reason}"
        raise invalid("", message, "MALFORMED_MESSAGE") from None


def _json(message: Message) -> str:
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False)


async def _while_connected(request: Request, call: Any, step: Callable[[], Awaitable[T]]) -> T:
    """Return what the step gives; cancel the call where its caller leaves first. Raises CallerLeft then."""

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    async def answer() -> T:
        return await step()

    leaving, answering = asyncio.create_task(leave()), asyncio.create_task(answer())
    try:
        await asyncio.wait((leaving, answering), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise CallerLeft
        return answering.result()
    finally:
        if not answering.done():
            call.cancel()
        for task in (leaving, answering):
            task.cancel()
        await asyncio.gather(leaving, answering, return_exceptions=True)


async def _events(call: Any, message: Any) -> AsyncIterator[str]:
    """Yield the call's messages as server-sent events. Cancels the call where nobody reads on."""
    try:
        while message is not grpc.aio.EOF:
            yield _event("message", await asyncio.to_thread(_json, message))
            message = await call.read()
        yield _event("end", "{}")
    except grpc.aio.AioRpcError as error:
        yield _event("error", json.dumps(status_json(status_of(error))))
    finally:
        call.cancel()


def _event(kind: str, data: str) -> str:
    return f"event: {kind}\ndata: {data}\n\n"


def _details(error: grpc.aio.AioRpcError) -> bytes:
    return bytes(dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b""))


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """Return the status of a call that failed, with its details where the server sent them."""
    if packed := _details(error):
        return status_pb2.Status.FromString(packed)
    return status_pb2.Status(code=error.code().value[0], message=error.details() or "")
