"""The door of a replica: calls that come through Ray's proxy pass the links that all calls do, to the same handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from bertstream.ray.serve.call import Pipe, RayCall
from bertstream.ray.serve.contract import ENDED
from bertstream.server.core.serving import ServingCore
from bertstream.server.frontend.handling import DESCRIPTORS, all_handlers
from bertstream.server.frontend.links import links_of
from bertstream.server.frontend.load import FrontendLoad
from bertstream.server.messages import ChangeOutcome, ForSupervisor, Refusal
from bertstream.server.protocols.call import CURRENT, Stream
from bertstream.server.protocols.changes import Changes
from bertstream.server.protocols.decoding import Decoded, decoder
from bertstream.server.protocols.interceptors.counting import CallMeasures
from bertstream.server.protocols.interceptors.links import Kind, joined_by_kind
from bertstream.server.protocols.rpc import Handler, rpcs_of


@dataclass(frozen=True, slots=True)
class _Method:
    full_name: str
    handler: Handler
    decode: Callable[[bytes], Decoded[Any]]


class Sent:
    """A serialized answer, of which Ray asks the bytes as of a message."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return the bytes."""
        return self._raw


class Door:
    """All rpcs of one replica, by their names."""

    def __init__(self, core: ServingCore) -> None:
        settings, models = core.settings, core.models
        # Models come and go by deploying them, so a replica loads none by itself.
        changes = Changes(models, _refuse, max_workers=0)
        self._methods = {
            method.name: _method(method, by_rpc[method.name], settings.limits.max_request_bytes)
            for service, by_rpc in all_handlers(models, settings, changes).items()
            for method in service.methods
        }
        links = links_of(
            core.gate,
            core.keys,
            measures=CallMeasures(core.registry, rpcs_of(*DESCRIPTORS)),
            load=FrontendLoad(models, core.gate, settings.queue_seconds),
        )
        self._through = joined_by_kind(links)[Kind.OURS]

    async def answer(self, rpc: str, request: bytes | AsyncIterator[bytes], context: Any) -> Sent:
        """Answer a call that has one answer."""
        method = self._methods[rpc]
        call = RayCall(method.full_name, context)
        if isinstance(request, bytes):
            given: Any = self._decoded(method, request, call)
        else:
            given = Stream[Any](Pipe(request, method.decode))
        answer = await self._pass(call, partial(method.handler, given, call))
        return Sent(ENDED if call.failed else _encoded(answer, call))

    async def stream(self, rpc: str, request: bytes | AsyncIterator[bytes], context: Any) -> AsyncIterator[Sent]:
        """Answer a call that has a stream of answers; the last one tells the relay that it has ended."""
        method = self._methods[rpc]
        call = RayCall(method.full_name, context)
        if isinstance(request, bytes):
            pipe = Pipe(_nothing(), method.decode)
            given: tuple[Any, ...] = (self._decoded(method, request, call), Stream[Any](pipe))
        else:
            pipe = Pipe(request, method.decode)
            given = (Stream[Any](pipe),)
        working = asyncio.create_task(self._pass(call, partial(method.handler, *given, call)))
        try:
            async for written in pipe.until(working):
                call.sent_bytes += len(written)
                yield Sent(written)
            await working
        finally:
            if not working.done():  # the caller is gone
                working.cancel()
                await asyncio.wait((working,))
        yield Sent(ENDED)

    async def _pass(self, call: RayCall, handle: Callable[[], Awaitable[Any]]) -> Any:
        CURRENT.set(call)
        return await self._through(call, handle)

    def _decoded(self, method: _Method, request: bytes, call: RayCall) -> Decoded[Any]:
        call.received_bytes = len(request)
        return method.decode(request)


def _method(method: MethodDescriptor, handler: Handler, max_bytes: int) -> _Method:
    service = method.containing_service.full_name
    return _Method(f"{service}/{method.name}", handler, decoder(GetMessageClass(method.input_type), max_bytes))


def _encoded(answer: Any, call: RayCall) -> bytes:
    raw: bytes = b"" if answer is None else answer.SerializeToString()
    call.sent_bytes += len(raw)
    return raw


async def _nothing() -> AsyncIterator[bytes]:
    none: tuple[bytes, ...] = ()
    for message in none:
        yield message


async def _refuse(asked: ForSupervisor) -> ChangeOutcome:
    return ChangeOutcome(Refusal("draining"))
