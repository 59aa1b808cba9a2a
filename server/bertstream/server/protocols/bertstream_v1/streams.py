"""The part that all bulk streams share: options first, then items with ids, a window, and answers as they are ready.

Three kinds of asyncio tasks serve a stream. The reader takes one message at a time, and only while the window has room
for its items. A handler for each message makes its answers. The writer sends them, and gives the room back once the
transport has taken them. So a caller that does not read stops the reader, and the window bounds what is held for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from bertstream.server.core import tracing
from bertstream.server.core.errors import RequestError, invalid, not_utf8
from bertstream.server.protocols.bertstream_v1.validation.inputs import bad_texts, count_texts
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.statuses import to_status
from bertstream.server.protocols.utf8 import BadString
from bertstream.server.protocols.window import Window, ended_by_one_error
from bertstream.v1 import encoding_pb2, tasks_pb2, types_pb2

_OUTBOX_MESSAGES = 2  # answers that wait to be written
_MAX_ID = (1 << 63) - 1

Response = TypeVar("Response", bound=Message)


class ItemsMessage(Protocol):
    """A message such as TokenizationItems or EncodingItems. Some also have `spans` or `choices`."""

    first_id: int

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def inputs(self) -> types_pb2.TextBatch: ...

    def ByteSize(self) -> int: ...  # noqa: N802 - protobuf's


@dataclass(frozen=True, slots=True)
class Items:
    """The items of one message: their ids, and which of them are not UTF-8."""

    ids: Sequence[int]
    inputs: types_pb2.TextBatch
    bad: Sequence[int]  # indexes of items that are not UTF-8
    size: int = 0  # bytes of the message
    spans: encoding_pb2.SpanLists = field(default_factory=encoding_pb2.SpanLists)
    choices: tasks_pb2.ChoiceLists | None = None  # in place of `inputs`


@dataclass(frozen=True, slots=True)
class Reply(Generic[Response]):
    """A message to send, and the room in the window that it gives back once it is sent."""

    message: Response
    items: int
    tokens: int = 0


class BulkStream(Window, Generic[Response]):
    """Runs one stream. `handle` makes the answers to one message, and acquires `tokens` for the work of each answer."""

    def __init__(
        self,
        stream: Stream[Any],
        call: Call,
        window: types_pb2.StreamWindow,
        handle: Callable[[Items], AsyncIterator[Reply[Response]]],
    ) -> None:
        super().__init__(call, window.max_items, window.max_tokens)
        self._stream = stream
        self._call = call
        self._handle = handle
        self._outbox: asyncio.Queue[Reply[Response] | None] = asyncio.Queue(_OUTBOX_MESSAGES)

    async def run(self, messages: AsyncIterator[Any], max_texts: int) -> None:
        """Serve the messages after the first. An error that concerns a whole message ends the stream."""
        with ended_by_one_error():
            async with asyncio.TaskGroup() as everything:
                everything.create_task(self._write())
                async with asyncio.TaskGroup() as handlers:
                    async for decoded in messages:
                        self._call.caller.quota.check_key()
                        items = parse_items(decoded.value(), decoded.bad_strings, max_texts)
                        held = await self.items.acquire(len(items.ids))
                        size = await self.request_bytes.acquire(items.size)
                        handlers.create_task(self._answer(items, held, size))
                await self._outbox.put(None)

    async def _answer(self, items: Items, held: int, size: int) -> None:
        """Answer one message; the room of its items is given back as their answers go out."""
        with tracing.span("items") as span:
            span.set(items=len(items.ids), bytes=items.size)
            async for answer in self._handle(items):
                given = min(answer.items, held)
                held -= given
                await self._outbox.put(Reply(answer.message, given, answer.tokens))
        self.items.release(held)
        self.request_bytes.release(size)

    async def _write(self) -> None:
        while (answer := await self._outbox.get()) is not None:
            await self._stream.write(answer.message)
            self.items.release(answer.items)
            self.tokens.release(answer.tokens)


async def first_message(messages: AsyncIterator[Any], field: str) -> Any:
    """Return the options that a stream begins with, or None if it ends at once.

    Raises INVALID_ARGUMENT if it begins with anything else.
    """
    async for decoded in messages:
        message = decoded.value()
        if message.WhichOneof("message") != field:
            raise invalid(field, f"the first message of the stream must set `{field}`", "INVALID_STREAM")
        if decoded.bad_strings:
            raise not_utf8(decoded.bad_strings[0].path)
        return getattr(message, field)
    return None


def parse_items(message: Any, bad_strings: Sequence[BadString], max_texts: int) -> Items:
    """Return the items of a later message. Raises INVALID_ARGUMENT if the message as a whole is invalid."""
    if message.WhichOneof("message") != "items":
        raise invalid(
            "items", "after the first message, every message of the stream must set `items`", "INVALID_STREAM"
        )
    items: ItemsMessage = message.items
    choices = _choices(message.items)
    batch, path = (items.inputs, "items.inputs") if choices is None else (choices, "items.choices")
    count = count_texts(batch)
    if items.ids and len(items.ids) != count:
        raise invalid("items.ids", f"{len(items.ids)} ids for {count} items", "INVALID_LENGTHS")
    if count > max_texts:
        raise invalid(path, f"{count} items; the limit of one message is {max_texts}", "REQUEST_TOO_LARGE")
    if not items.ids and items.first_id + count - 1 > _MAX_ID:
        raise invalid("items.first_id", f"with {count} items the ids leave the range of int64", "INVALID_RANGE")
    ids = items.ids or range(items.first_id, items.first_id + count)
    bad = bad_texts(batch, bad_strings)
    if bad and not 0 <= bad[0] <= bad[-1] < count:
        raise not_utf8(bad_strings[0].path)
    spans = getattr(items, "spans", encoding_pb2.SpanLists())
    return Items(ids, items.inputs, bad, items.ByteSize(), spans, choices)


def _choices(items: Any) -> tasks_pb2.ChoiceLists | None:
    """Return the choices of PredictionItems, None where it has texts. Raises INVALID_ARGUMENT where it has both."""
    if not (isinstance(items, tasks_pb2.PredictionItems) and items.HasField("choices")):
        return None
    if items.HasField("inputs"):
        raise invalid("items.choices", "only one of inputs and choices may be set", "INVALID_COMBINATION")
    return items.choices


def item_error(item_id: int, error: RequestError, call: Call) -> types_pb2.ItemError:
    """Return the message for one item's failure."""
    call.refused("item", error.reason)
    return types_pb2.ItemError(id=item_id, status=to_status(error, call.request_id))
