"""Bulk streams over a real connection, with handlers that the test controls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from bertstream.server.core import errors
from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.frontend.links import chain
from bertstream.server.protocols import window
from bertstream.server.protocols.bertstream_v1.streams import BulkStream, Items, Reply, first_message, parse_items
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.rpc import add_service, handlers_of
from bertstream.server.protocols.utf8 import BadString
from bertstream.v1 import encoding_pb2 as e
from bertstream.v1 import generation_pb2 as g
from bertstream.v1 import tasks_pb2 as p
from bertstream.v1 import types_pb2 as t
from tests.support.waiting import until

SERVICE = e.DESCRIPTOR.services_by_name["EncodingService"]
Answers = AsyncIterator[Reply[e.StreamEncodingsResponse]]


def answer(ids: list[int], size: int = 0, tokens: int = 0) -> Reply[e.StreamEncodingsResponse]:
    pooled = t.Tensor(data=bytes(size))
    items = e.EncodedItems(ids=ids, encodings=e.Encodings(pooled=pooled))
    return Reply(e.StreamEncodingsResponse(items=items), len(ids), tokens)


def request(count: int, first_id: int = 0, text: str = "a") -> e.StreamEncodingsRequest:
    inputs = t.TextBatch(texts=t.Texts(texts=[text] * count))
    return e.StreamEncodingsRequest(items=e.EncodingItems(first_id=first_id, inputs=inputs))


OPTIONS = e.StreamEncodingsRequest(options=e.EncodingOptions(model="mine"))


class Servicer:
    """Runs every stream as a BulkStream with the test's handler."""

    def __init__(self) -> None:
        self.window = t.StreamWindow(max_items=8, max_tokens=100)
        self.max_texts = 8
        self.handled: list[list[int]] = []
        self.handle: Callable[[Items], Answers] = self._echo
        self.bulk: BulkStream[e.StreamEncodingsResponse]

    def __getattr__(self, name: str) -> Any:
        return self.stream_encodings  # for the service's other rpcs, which nobody calls

    async def stream_encodings(self, stream: Stream[Any], call: Call) -> None:
        messages = aiter(stream)
        if await first_message(messages, "options") is None:
            return
        self.bulk = BulkStream(stream, call, self.window, self._count)
        await self.bulk.run(messages, self.max_texts)

    async def _count(self, items: Items) -> Answers:
        self.handled.append(list(items.ids))
        async for each in self.handle(items):
            yield each

    async def _echo(self, items: Items) -> Answers:
        yield answer(list(items.ids))


class Served:
    def __init__(self, servicer: Servicer, channel: grpc.aio.Channel) -> None:
        self.servicer = servicer
        self.method = channel.stream_stream(
            "/bertstream.v1.EncodingService/StreamEncodings",
            request_serializer=e.StreamEncodingsRequest.SerializeToString,
            response_deserializer=e.StreamEncodingsResponse.FromString,
        )

    async def open(self) -> Any:
        call = self.method()
        await call.write(OPTIONS)
        return call

    async def handled(self, count: int) -> None:
        await until(lambda: len(self.servicer.handled) >= count)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    server, servicer = grpc.aio.server(interceptors=(chain(Gate(100), Keys()),)), Servicer()
    add_service(server, SERVICE, handlers_of(servicer, SERVICE), 1 << 20)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(servicer, channel)
    await server.stop(None)


async def reason(call: Any) -> tuple[str, str]:
    """Return the code and the reason that a stream ended with."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:  # noqa: PT012
        while await call.read() is not grpc.aio.EOF:
            pass
    trailing = dict(raised.value.trailing_metadata() or ())
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(trailing["grpc-status-details-bin"]).details[0].Unpack(info)
    return raised.value.code().name, info.reason


async def settle() -> None:
    """Give the server, in this event loop, enough time to do all that it can do."""
    for _ in range(30):
        await asyncio.sleep(0.002)


async def test_messages_are_answered_and_the_stream_ends_well(served: Served) -> None:
    call = await served.open()
    for number in range(20):
        await call.write(request(3, number * 3))
    await call.done_writing()
    ids = [id for message in [each async for each in call] for id in message.items.ids]
    assert sorted(ids) == list(range(60))
    assert await call.code() is grpc.StatusCode.OK
    assert served.servicer.bulk.items.held == 0
    assert served.servicer.bulk.request_bytes.held == 0


async def test_answers_come_as_they_are_ready(served: Served) -> None:
    gate = asyncio.Event()

    async def handle(items: Items) -> Answers:
        if items.ids[0] == 0:
            await gate.wait()
        yield answer(list(items.ids))

    served.servicer.handle = handle
    call = await served.open()
    await call.write(request(1, 0))
    await call.write(request(1, 1))
    assert list((await call.read()).items.ids) == [1]
    gate.set()
    assert list((await call.read()).items.ids) == [0]
    call.cancel()


async def test_no_more_than_the_window_is_under_way(served: Served) -> None:
    gate = asyncio.Semaphore(0)

    async def handle(items: Items) -> Answers:
        async with gate:
            yield answer(list(items.ids))

    served.servicer.handle = handle
    call = await served.open()
    for number in range(5):
        await call.write(request(3, number * 3))
    await served.handled(2)
    await settle()
    assert len(served.servicer.handled) == 2  # three more items would not fit into eight
    gate.release()
    assert len((await call.read()).items.ids) == 3
    await served.handled(3)
    call.cancel()


async def test_a_message_larger_than_the_window_goes_alone(served: Served) -> None:
    served.servicer.max_texts = 50
    call = await served.open()
    await call.write(request(50))
    assert len((await call.read()).items.ids) == 50
    await call.write(request(50, 50))
    assert len((await call.read()).items.ids) == 50
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_large_texts_are_bounded_by_their_bytes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "REQUEST_BYTES", 25_000)
    gate = asyncio.Event()

    async def handle(items: Items) -> Answers:
        await gate.wait()
        yield answer(list(items.ids))

    served.servicer.handle = handle
    call = await served.open()
    for number in range(4):
        await call.write(request(1, number, text="x" * 10_000))
    await served.handled(2)
    await settle()
    assert len(served.servicer.handled) == 2
    gate.set()
    assert sorted([(await call.read()).items.ids[0] for _ in range(4)]) == [0, 1, 2, 3]
    call.cancel()


async def test_a_caller_that_does_not_read_stops_the_server(served: Served) -> None:
    served.servicer.window = t.StreamWindow(max_items=1000, max_tokens=100)
    made = 0

    async def handle(items: Items) -> Answers:
        nonlocal made
        for number in range(1000):
            made += 1
            yield answer([number], size=200_000)

    served.servicer.handle = handle
    call = await served.open()
    await call.write(request(1))
    await until(lambda: made)
    before = -1
    while made != before:  # until the server makes no more answers
        before = made
        await settle()
    assert 1 <= made < 100
    await call.read()
    for _ in range(30):
        await call.read()
    await until(lambda: made > before)
    call.cancel()


async def test_room_comes_back_as_answers_go_out(served: Served) -> None:
    written = asyncio.Event()

    async def handle(items: Items) -> Answers:
        held = await served.servicer.bulk.tokens.acquire(60)
        yield answer(list(items.ids[:2]), tokens=0)
        yield answer(list(items.ids[2:]), tokens=held)
        written.set()

    served.servicer.handle = handle
    call = await served.open()
    for number in range(3):
        await call.write(request(4, number * 4))
    await call.done_writing()
    assert len([each async for each in call]) == 6
    assert served.servicer.bulk.tokens.held == 0
    assert served.servicer.bulk.items.held == 0


async def test_a_handler_that_answers_less_gives_the_rest_back(served: Served) -> None:
    async def handle(items: Items) -> Answers:
        for _ in ():
            yield answer([])

    served.servicer.handle = handle
    call = await served.open()
    for number in range(5):
        await call.write(request(8, number * 8))
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert len(served.servicer.handled) == 5


async def test_an_error_of_one_message_ends_the_stream_with_its_status(served: Served) -> None:
    async def handle(items: Items) -> Answers:
        if items.ids[0] == 0:
            await asyncio.sleep(60)
        yield answer(list(items.ids))
        raise errors.worker_lost("gone")

    served.servicer.handle = handle
    call = await served.open()
    await call.write(request(1, 0))
    await call.write(request(1, 1))
    assert await reason(call) == ("UNAVAILABLE", "WORKER_LOST")


async def test_an_error_while_an_answer_is_being_written_ends_the_stream_too(served: Served) -> None:
    failing = asyncio.Event()

    async def handle(items: Items) -> Answers:
        if items.ids[0] == 1:
            await failing.wait()
            raise errors.worker_lost("gone")
        for number in range(100):
            yield answer([number], size=1_000_000)

    served.servicer.handle = handle
    call = await served.open()
    await call.write(request(1, 0))
    await call.write(request(1, 1))
    await served.handled(2)
    await settle()  # the writer is stuck, as nobody reads
    failing.set()
    await settle()
    assert await asyncio.wait_for(reason(call), 20) == ("UNAVAILABLE", "WORKER_LOST")


async def test_a_caller_that_goes_while_it_is_written_to_is_no_error(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def handle(items: Items) -> Answers:
        try:
            while True:
                yield answer([1], size=1_000_000)
        finally:
            ended.set()

    served.servicer.handle = handle
    call = await served.open()
    await call.write(request(1))
    await served.handled(1)
    await settle()
    call.cancel()
    await asyncio.wait_for(ended.wait(), 20)
    await settle()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_error_while_the_caller_is_silent_ends_the_stream_too(served: Served) -> None:
    """The stream ends although its reader waits for a message that never comes."""

    async def handle(items: Items) -> Answers:
        if items.ids:
            raise errors.invalid("items", "is bad")
        yield answer([])

    served.servicer.handle = handle
    call = await served.open()
    await call.write(request(1))
    assert await asyncio.wait_for(reason(call), 20) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


async def test_a_bug_in_a_handler_is_internal(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async def handle(items: Items) -> Answers:
        if items.ids:
            raise KeyError("secret")
        yield answer([])

    served.servicer.handle = handle
    call = await served.open()
    await call.write(request(1))
    assert await reason(call) == ("INTERNAL", "INTERNAL")
    assert any("secret" in str(record.exc_text) for record in caplog.records)


async def test_a_caller_that_goes_is_no_error(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    async def handle(items: Items) -> Answers:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        yield answer([])

    served.servicer.handle = handle
    call = await served.open()
    await call.write(request(1))
    await served.handled(1)
    call.cancel()
    await asyncio.wait_for(ended.wait(), 20)
    await settle()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_stream_that_ends_at_once_is_empty(served: Served) -> None:
    call = served.method()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("messages", [[request(1)], [OPTIONS, OPTIONS], [e.StreamEncodingsRequest()]])
async def test_options_come_first_and_once(served: Served, messages: list[e.StreamEncodingsRequest]) -> None:
    call = served.method()
    for message in messages:
        await call.write(message)
    assert await reason(call) == ("INVALID_ARGUMENT", "INVALID_STREAM")


async def test_options_that_are_not_utf8_are_refused() -> None:
    async def messages() -> AsyncIterator[Decoded[Any]]:
        yield Decoded(OPTIONS, (BadString("options.prompt", 0),))

    with pytest.raises(errors.RequestError) as raised:
        await first_message(messages(), "options")
    assert (raised.value.reason, raised.value.violations[0].field) == ("INVALID_UTF8", "options.prompt")


def parse(items: e.EncodingItems, *bad: BadString) -> Items:
    return parse_items(e.StreamEncodingsRequest(items=items), bad, 4)


TEXTS = t.TextBatch(texts=t.Texts(texts=["a", "b"]))


def test_ids_count_up_or_are_given() -> None:
    assert list(parse(e.EncodingItems(first_id=7, inputs=TEXTS)).ids) == [7, 8]
    assert list(parse(e.EncodingItems(first_id=7, ids=[-1, 2**63 - 1], inputs=TEXTS)).ids) == [-1, 2**63 - 1]
    assert list(parse(e.EncodingItems(first_id=2**63 - 2, inputs=TEXTS)).ids)[-1] == 2**63 - 1


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (e.EncodingItems(ids=[1], inputs=TEXTS), "INVALID_LENGTHS"),
        (e.EncodingItems(inputs=t.TextBatch(texts=t.Texts(texts=["a"] * 5))), "REQUEST_TOO_LARGE"),
        (e.EncodingItems(first_id=2**63 - 1, inputs=TEXTS), "INVALID_RANGE"),
    ],
)
def test_items_that_make_no_sense(items: e.EncodingItems, expected: str) -> None:
    with pytest.raises(errors.RequestError) as raised:
        parse(items)
    assert raised.value.reason == expected


def test_texts_that_are_not_utf8_are_told_apart() -> None:
    items = e.EncodingItems(inputs=TEXTS)
    assert list(parse(items, BadString("items.inputs.texts.texts", 1)).bad) == [1]
    for strange in (BadString("items.inputs.pairs.first_texts", 0), BadString("items.inputs.texts.texts", 9)):
        with pytest.raises(errors.RequestError) as raised:
            parse(items, strange)
        assert raised.value.reason == "INVALID_UTF8"


CHOICES = p.ChoiceLists(prompts=["p", "q"], choices=["a", "b", "c"], choice_counts=[2, 1])


def parse_predictions(items: p.PredictionItems, *bad: BadString) -> Items:
    return parse_items(p.StreamPredictionsRequest(items=items), bad, 4)


def test_choices_are_counted_by_their_questions() -> None:
    found = parse_predictions(p.PredictionItems(first_id=3, choices=CHOICES))
    assert (list(found.ids), found.choices) == ([3, 4], CHOICES)
    assert found.size == p.PredictionItems(first_id=3, choices=CHOICES).ByteSize()
    assert list(parse_predictions(p.PredictionItems(choices=CHOICES), BadString("items.choices.choices", 2)).bad) == [1]
    assert list(parse_predictions(p.PredictionItems(choices=CHOICES), BadString("items.choices.prompts", 0)).bad) == [0]
    assert parse_predictions(p.PredictionItems(inputs=TEXTS)).choices is None


@pytest.mark.parametrize(
    ("items", "reason", "field"),
    [
        (p.PredictionItems(inputs=TEXTS, choices=CHOICES), "INVALID_COMBINATION", "items.choices"),
        (p.PredictionItems(ids=[1, 2, 3], choices=CHOICES), "INVALID_LENGTHS", "items.ids"),
        (p.PredictionItems(choices=p.ChoiceLists(choice_counts=[1] * 5)), "REQUEST_TOO_LARGE", "items.choices"),
    ],
)
def test_choices_that_make_no_sense(items: p.PredictionItems, reason: str, field: str) -> None:
    with pytest.raises(errors.RequestError) as raised:
        parse_predictions(items)
    assert (raised.value.reason, raised.value.violations[0].field) == (reason, field)


def test_items_to_generate_for_are_items_too() -> None:
    found = parse_items(g.StreamGeneratedTextsRequest(items=g.GenerationItems(first_id=5, inputs=TEXTS)), (), 4)
    assert (list(found.ids), found.inputs) == ([5, 6], TEXTS)
