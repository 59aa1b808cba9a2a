"""Serve every rpc alike: one function prepares messages, one of a call of its own or several of a stream."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.errors import not_utf8
from bertstream.server.core.models import FEW_TEXTS, Models, ServedModel
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.ordered import Group, OrderedStream
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.choosing import Wanted
from bertstream.workers.contract import BULK, INTERACTIVE

_INPUTS = "inputs"  # the field with what is answered; the others say how
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Turn:
    """Hold what is known of messages of a call that are answered together, such as the model that answers them."""

    model: ServedModel
    call: Call
    arrived: float  # time.monotonic()
    priority: int = INTERACTIVE
    waits: bool = False  # for room, as messages of streams do

    def check_room(self) -> None:
        """Raise QUOTA_EXCEEDED or OVERLOADED, before any work, for a message that does not wait for room."""
        if not self.waits:
            self.model.check_room(self.call.caller, self.call.deadline)

    def metadata(self, tokenize_seconds: float, outcomes: Sequence[Outcome]) -> tei_pb2.Metadata:
        """Return what answers took; of several outcomes the slowest counts. Characters and tokens are yet to be set."""
        return tei_pb2.Metadata(
            total_time_ns=_nanoseconds(time.monotonic() - self.arrived),
            tokenization_time_ns=_nanoseconds(tokenize_seconds),
            queue_time_ns=_nanoseconds(max(outcome.queue_seconds for outcome in outcomes)),
            inference_time_ns=_nanoseconds(max(outcome.compute_seconds for outcome in outcomes)),
        )


# Takes messages that differ in `inputs` alone, and have equally many of them. Raises RequestError where the first of
# them cannot be answered.
Prepare = Callable[[Sequence[Request], Turn], Awaitable[Group[Response]]]


@dataclass(frozen=True, slots=True)
class Operation(Generic[Request, Response]):
    """Do one thing for messages; `one` and `many` are the handlers of its two rpcs."""

    models: Models
    wanted: Wanted
    prepare: Prepare[Request, Response]
    together: bool = True  # whether messages of a stream that are alike are answered together

    async def one(self, request: Decoded[Request], call: Call) -> Response:
        """Answer the message of a unary call."""
        message = checked(request)
        group = await self.prepare([message], Turn(self.wanted.choose(self.models, call), call, call.arrived))
        if group.error is not None:
            raise group.error
        answers = await group.answer(0, 1)
        if answers.error is not None:
            raise answers.error
        return answers.good[0]

    async def many(self, stream: Stream[Request], call: Call) -> None:
        """Answer each message of a stream, in their order."""
        model = self.wanted.choose(self.models, call)
        await OrderedStream(stream, call, model.limits, partial(self._next, model, call), self._key).run()

    async def _next(
        self, model: ServedModel, call: Call, requests: Sequence[Decoded[Request]], number: int
    ) -> Group[Response]:
        turn = Turn(model, call, time.monotonic(), _priority(number), waits=True)
        return await self.prepare([checked(request) for request in requests], turn)

    def _key(self, request: Decoded[Request], number: int) -> Hashable:
        """Return what messages have in common that are answered together; one that is faulty stays alone."""
        if not self.together or request.error is not None or request.bad_strings:
            return number
        fields = request.message.ListFields()
        options = ((field.name, value) for field, value in fields if field.name != _INPUTS)
        inputs = getattr(request.message, _INPUTS)
        return _priority(number), isinstance(inputs, str) or len(inputs), *options


def _priority(number: int) -> int:
    """Return the priority of a stream's message with this number.

    There are clients that open a stream for each of their calls, so a stream of few texts does not wait as bulk.
    """
    return INTERACTIVE if number < FEW_TEXTS else BULK


def checked(request: Decoded[Any]) -> Any:
    """Return the message. Raises INVALID_ARGUMENT for one that is malformed, or has a string that is not UTF-8."""
    message = request.value()
    for bad in request.bad_strings:
        single = isinstance(getattr(message, bad.path), str)
        raise not_utf8(bad.path if single else f"{bad.path}[{bad.index}]")
    return message


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
