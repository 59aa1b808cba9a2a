"""Serve every rpc alike: one function prepares a message, whether it has a call of its own or is one of a stream."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.errors import not_utf8
from bertstream.server.core.models import FEW_TEXTS, Models, ServedModel
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.ordered import OrderedStream, Step
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.choosing import Wanted
from bertstream.workers.contract import BULK, INTERACTIVE

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Turn:
    """Hold what is known of one message of a call, such as the model that answers it."""

    model: ServedModel
    call: Call
    arrived: float  # time.monotonic()
    priority: int = INTERACTIVE
    waits: bool = False  # for room, as messages of streams do

    def check_room(self) -> None:
        """Raise QUOTA_EXCEEDED or OVERLOADED, before any work, for a message that does not wait for room."""
        if not self.waits:
            self.model.check_room(self.call.caller, self.call.deadline)

    def metadata(
        self, characters: int, tokens: int, tokenize_seconds: float, outcomes: Sequence[Outcome]
    ) -> tei_pb2.Metadata:
        """Return what an answer took; of several outcomes the slowest counts."""
        return tei_pb2.Metadata(
            compute_chars=characters,
            compute_tokens=tokens,
            total_time_ns=_nanoseconds(time.monotonic() - self.arrived),
            tokenization_time_ns=_nanoseconds(tokenize_seconds),
            queue_time_ns=_nanoseconds(max(outcome.queue_seconds for outcome in outcomes)),
            inference_time_ns=_nanoseconds(max(outcome.compute_seconds for outcome in outcomes)),
        )


# Raises RequestError for a message that cannot be answered.
Prepare = Callable[[Request, Turn], Awaitable[Step[Response]]]


@dataclass(frozen=True, slots=True)
class Operation(Generic[Request, Response]):
    """Do one thing for messages; `one` and `many` are the handlers of its two rpcs."""

    models: Models
    wanted: Wanted
    prepare: Prepare[Request, Response]

    async def one(self, request: Decoded[Request], call: Call) -> Response:
        """Answer the message of a unary call."""
        message = checked(request)
        step = await self.prepare(message, Turn(self.wanted.choose(self.models, call), call, call.arrived))
        return await step.answer()

    async def many(self, stream: Stream[Request], call: Call) -> None:
        """Answer each message of a stream, in their order."""
        model = self.wanted.choose(self.models, call)
        await OrderedStream(stream, call, model.limits, partial(self._next, model, call)).run()

    async def _next(self, model: ServedModel, call: Call, request: Decoded[Request], number: int) -> Step[Response]:
        # There are clients that open a stream for each of their calls, so a stream of few texts does not wait as bulk.
        priority = INTERACTIVE if number < FEW_TEXTS else BULK
        turn = Turn(model, call, time.monotonic(), priority, waits=True)
        return await self.prepare(checked(request), turn)


def checked(request: Decoded[Any]) -> Any:
    """Return the message. Raises INVALID_ARGUMENT for one that is malformed, or has a string that is not UTF-8."""
    message = request.value()
    for bad in request.bad_strings:
        single = isinstance(getattr(message, bad.path), str)
        raise not_utf8(bad.path if single else f"{bad.path}[{bad.index}]")
    return message


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
