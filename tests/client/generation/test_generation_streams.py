"""Both clients against a fake server: generation piece by piece, and for any number of prompts."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import bertstream.client as sdk
from bertstream.client import AsyncClient, Client, GenerationDone, GenerationPiece, InvalidArgument, Progress, Report
from bertstream.client._generation.options import generation_options
from bertstream.client._generation.pieces import PieceEvents
from bertstream.v1 import generation_pb2 as generation
from bertstream.v1 import types_pb2 as types
from tests.client.fake_server import Code, FakeServer, status
from tests.client.fake_status import PATIENCE

GONE = status(Code.UNAVAILABLE, "gone", "WORKER_LOST")


@pytest.mark.parametrize("count", [None, 3])
def test_pieces_add_up(client: Any, count: int | None) -> None:
    *pieces, done = client.stream_generate("ab", max_new_tokens=4, num_return_sequences=count, token_scores=True)
    assert isinstance(done, GenerationDone)
    assert len(done.outputs) == (count or 1)
    for index, output in enumerate(done.outputs):
        mine = [piece for piece in pieces if piece.sequence_index == index]
        assert "".join(map(str, mine)) == output.text == f"text:ab>{index} w1 w2 w3"
        assert tuple(token for piece in mine for token in piece.token_ids) == output.token_ids
        assert tuple(score for piece in mine for score in piece.token_scores) == output.token_scores
        assert (mine[0].text, mine[0].token_ids) == ("", (100 * index,))
    assert done.usage == sdk.Usage(1, 7 + 4 * (count or 1), 0, 4 * (count or 1))
    assert done.timings == sdk.Timings(None, None, 0.5, 2.0)


def test_the_last_item_is_an_empty_piece(client: Any) -> None:
    *pieces, done = client.stream_generate("ab")
    assert (isinstance(done, GenerationPiece), type(done)) == (True, GenerationDone)
    assert (str(done), done.text, done.token_ids, done.sequence_index) == ("", "", (), -1)
    assert [piece.token_scores for piece in pieces] == [None] * 4
    assert "".join(map(str, [*pieces, done])) == done.outputs[0].text


def test_the_answer_is_that_of_generate(server: FakeServer, client: Any) -> None:
    given = {"max_new_tokens": 2, "num_return_sequences": 2, "seed": 3, "do_sample": True}
    reports: list[Report] = []
    *_, done = client.stream_generate([[5, 6]], report=reports.append, priority="interactive", **given)
    streamed = server.seen.requests[-1]
    assert done.outputs == client.generate([[5, 6]], **given)[0]
    assert streamed.options == server.seen.requests[-1].options
    assert streamed.inputs == server.seen.requests[-1].inputs
    options: Any = reports[0].options
    assert (len(reports), reports[0].usage, options.seed) == (1, done.usage, 3)


def test_a_piece_is_seen_before_the_next_is_made(server: FakeServer, client: Any) -> None:
    server.does.layer_gate = threading.Event()
    stream = client.stream_generate("ab")
    assert (next(stream).token_ids, server.seen.pieces) == ((0,), 1)
    server.does.layer_gate.set()
    assert len(list(stream)) == 4


def test_closing_early_cancels_the_call(server: FakeServer, client: Any) -> None:
    server.does.layer_gate = threading.Event()
    stream = client.stream_generate("ab", max_new_tokens=10**6)
    next(stream)
    assert not server.seen.cancelled.is_set()
    stream.close()
    assert server.seen.cancelled.wait(20)
    server.does.layer_gate.set()
    time.sleep(0.1)
    assert server.seen.pieces < 10


def test_dropping_the_generator_cancels_the_call(server: FakeServer) -> None:
    with Client(server.address) as client:
        for _ in client.stream_generate("ab", max_new_tokens=10**6):
            break
        gc.collect()
        assert server.seen.cancelled.wait(20)


def whole(pieces: list[Any], index: int = 0) -> tuple[str, tuple[int, ...], tuple[float, ...]]:
    """Return the pieces of an answer, end to end."""
    mine = [piece for piece in pieces if piece.sequence_index == index]
    scores = tuple(score for piece in mine for score in piece.token_scores or ())
    return "".join(map(str, mine)), tuple(token for piece in mine for token in piece.token_ids), scores


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("after", [1, 3, 8])
def test_an_interrupted_stream_is_taken_up_and_repeats_nothing(
    server: FakeServer, client: Any, after: int, count: int
) -> None:
    server.does.breaks.extend([(after, GONE), (1, status(Code.RESOURCE_EXHAUSTED, "busy")), (after + 1, GONE)])
    given = {"max_new_tokens": 8, "num_return_sequences": count, "token_scores": True}
    reports: list[Report] = []
    *pieces, done = client.stream_generate("ab", report=reports.append, **given)
    assert server.seen.rpcs["StreamGeneration"] == 4
    for index, output in enumerate(done.outputs):
        assert whole(pieces, index) == (output.text, output.token_ids, output.token_scores)
    assert all(piece.text or piece.token_ids for piece in pieces)
    assert len(reports) == 1


def test_it_goes_on_with_the_seed_that_was_drawn(server: FakeServer, client: Any) -> None:
    server.does.breaks.append((2, GONE))
    *pieces, done = client.stream_generate("ab", max_new_tokens=4, do_sample=True)
    first, second = server.seen.requests
    assert (first.options.HasField("seed"), second.options.seed) == (False, 1)
    assert whole(pieces)[1] == done.outputs[0].token_ids == (1000, 1001, 1002, 1003)


def test_one_that_would_go_on_otherwise_is_not_taken_up(server: FakeServer, client: Any) -> None:
    server.does.breaks.append((2, GONE))
    stream = client.stream_generate("ab")
    assert next(stream).token_ids == (0,)
    server.does.broken_part = "tokens"
    with pytest.raises(sdk.Unavailable, match="goes on with other tokens than have come; ask anew") as caught:
        next(stream)
    assert caught.value.reason == "ANSWER_CHANGED"
    assert server.seen.rpcs["StreamGeneration"] == 2


def test_one_that_is_broken_for_too_long_is_given_up(server: FakeServer, connect: Any) -> None:
    server.does.breaks.append((3, GONE))
    seen: list[Any] = []
    with pytest.raises(sdk.Unavailable, match="the stream of pieces was interrupted: gone") as caught:
        seen.extend(connect(server.address, reconnect_seconds=0).stream_generate("ab"))
    assert caught.value.reason == "WORKER_LOST"
    assert (len(seen), server.seen.rpcs["StreamGeneration"]) == (2, 1)


def test_one_that_fails_for_another_reason_is_not_taken_up(server: FakeServer, client: Any) -> None:
    server.does.breaks.append((3, status(Code.ABORTED, "poison", "POISONOUS_INPUT")))
    with pytest.raises(sdk.Aborted, match=r"^poison$"):
        list(client.stream_generate("ab"))
    assert server.seen.rpcs["StreamGeneration"] == 1


def test_a_deadline_holds_while_it_is_broken(server: FakeServer, client: Any) -> None:
    """The error of the last break is told where no time is left to wait before the next."""
    server.does.breaks.extend([(1, GONE)] * 100)
    before = time.monotonic()
    with pytest.raises((sdk.DeadlineExceeded, sdk.Unavailable)):
        list(client.stream_generate("ab", timeout=1))
    assert time.monotonic() - before < 10


def test_a_stream_that_has_not_begun_is_tried_again(server: FakeServer, client: Any) -> None:
    server.does.breaks.append((0, GONE))
    assert len(list(client.stream_generate("ab"))) == 5
    assert server.seen.rpcs["StreamGeneration"] == 2


def test_a_bad_prompt(client: Any) -> None:
    with pytest.raises(InvalidArgument, match="is bad") as caught:
        list(client.stream_generate("bad"))
    assert caught.value.fields == [("inputs.texts[0]", "bad")]


def test_a_stream_that_ends_early(server: FakeServer, client: Any) -> None:
    server.does.bad_answer = True
    with pytest.raises(sdk.Internal, match="before it was complete"):
        list(client.stream_generate("ab"))


def test_a_deadline(server: FakeServer, client: Any) -> None:
    server.does.layer_gate = threading.Event()
    with pytest.raises(sdk.DeadlineExceeded):
        list(client.stream_generate("ab", timeout=0.2))
    server.does.layer_gate.set()


@pytest.mark.parametrize("prompts", [[], ["a", "b"]])
def test_there_must_be_one_prompt(client: Any, prompts: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"takes one prompt, not {len(prompts)}; for several see generate_stream"):
        getattr(client, "client", client).stream_generate(prompts)


async def test_cancelling_a_task_cancels_the_call(server: FakeServer) -> None:
    server.does.layer_gate = threading.Event()
    async with AsyncClient(server.address) as client:

        async def all_pieces() -> list[GenerationPiece]:
            return [piece async for piece in client.stream_generate("ab")]

        task = asyncio.create_task(all_pieces())
        await server.seen.call_of("StreamGeneration")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.seen.cancelled.wait, PATIENCE)


STARTED = generation.StreamGenerationResponse(started=generation.GenerationStarted())
COMPLETED = generation.StreamGenerationResponse(
    completed=generation.GenerationCompleted(output=generation.GeneratedTexts(texts=[generation.GeneratedText()]))
)


def piece(**fields: Any) -> generation.StreamGenerationResponse:
    return generation.StreamGenerationResponse(piece=generation.GeneratedPiece(**fields))


BROKEN: dict[str, list[generation.StreamGenerationResponse]] = {
    "nothing in it": [STARTED, generation.StreamGenerationResponse()],
    "a piece before the start": [piece()],
    "completed before the start": [COMPLETED],
    "started twice": [STARTED, STARTED],
    "a piece after the end": [STARTED, COMPLETED, piece()],
    "a piece of no answer": [STARTED, piece(sequence_index=1)],
    "fewer scores than tokens": [STARTED, piece(token_ids=[1])],
    "no answer": [STARTED, generation.StreamGenerationResponse(completed=generation.GenerationCompleted())],
}


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN)
def test_messages_that_make_no_sense(messages: list[generation.StreamGenerationResponse]) -> None:
    request = generation.StreamGenerationRequest(options=generation_options(token_scores=True))
    events = PieceEvents(request)
    for message in messages[:-1]:
        events.receive(message)
    with pytest.raises(sdk.Internal, match="unexpected answer"):
        events.receive(messages[-1])


def gathered(stream: Iterator[Any]) -> tuple[list[int], list[Any]]:
    batches = list(stream)
    ids = [item for batch in batches for item in batch.ids.tolist()]
    return ids, [result for batch in batches for result in batch.results]


@pytest.mark.parametrize("ordered", [True, False])
def test_answers_in_any_order(server: FakeServer, client: Any, ordered: bool) -> None:
    server.does.reverse, server.does.hold_first = True, 60
    prompts = [f"t{number}" for number in range(200)]
    batches = list(client.generate_stream(prompts, ordered=ordered, batch_size=25, max_new_tokens=1))
    ids, outputs = gathered(iter(batches))
    assert (ids == list(range(200))) == ordered
    assert sorted(ids) == list(range(200))
    assert all(len(batch) == 25 for batch in batches)
    assert [output.text for output in outputs] == [f"text:t{item}>0" for item in ids]


def test_ids_of_the_callers_own_and_several_answers(server: FakeServer, client: Any) -> None:
    items = [(9, "a"), (2**40, [5, 6]), (7, ["b"])]
    ids, outputs = gathered(client.generate_stream(items, num_return_sequences=2, max_new_tokens=1))
    assert ids == [9, 2**40, 7]
    assert [[answer.text for answer in each] for each in outputs] == [
        [f"{key}>0", f"{key}>1"] for key in ("text:a", "ids:5,6", "words:b")
    ]
    assert server.seen.task.priority == types.PRIORITY_BULK


def test_constant_memory(server: FakeServer, client: Any) -> None:
    taken = given = ahead = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for taken in range(1, 5001):
            yield f"t{taken}"

    for batch in client.generate_stream(source(), batch_size=32, max_new_tokens=1):
        given += len(batch)
        ahead = max(ahead, taken - given)
    assert given == 5000
    assert ahead <= 2 * server.does.window + 32
    assert set(server.seen.answered.values()) == {1}


def test_a_broken_connection_loses_nothing_and_repeats_nothing(server: FakeServer, client: Any) -> None:
    server.does.breaks.extend([(0, GONE), (50, GONE), (90, status(Code.RESOURCE_EXHAUSTED, "busy"))])
    prompts = [f"t{number}" for number in range(500)]
    ids, outputs = gathered(client.generate_stream(prompts, max_new_tokens=1))
    assert ids == list(range(500))
    assert [output.text for output in outputs] == [f"text:{prompt}>0" for prompt in prompts]
    assert server.seen.answered == Counter(f"text:{prompt}" for prompt in prompts)
    assert server.seen.rpcs["StreamGeneratedTexts"] == 4


def test_failed_items(client: Any) -> None:
    items = [(3, "a"), (4, "bad"), (5, "\ud800"), (6, "d")]
    (batch,) = client.generate_stream(items, on_error="collect")
    assert (batch.ids.tolist(), len(batch.results), len(batch)) == ([3, 6], 2, 2)
    assert [(failure.id, failure.error.reason) for failure in batch.errors] == [
        (4, "INVALID_TEXT"),
        (5, "INVALID_TEXT"),
    ]
    assert batch.usage == sdk.Usage(2, 12 + 6, 0, 6)
    seen: list[int] = []
    with pytest.raises(InvalidArgument, match="item 70: a bad text") as caught:
        seen.extend(item for part in client.generate_stream(["a"] * 70 + ["bad"]) for item in part.ids.tolist())
    assert (caught.value.item_id, seen) == (70, list(range(70)))
    with pytest.raises(TypeError, match=r"items.inputs.texts\[1\]"):
        list(client.generate_stream(["a", 1]))


def test_batches_and_reports_add_up(server: FakeServer, client: Any) -> None:
    server.does.reverse = True
    reports: list[Report] = []
    seen: list[Progress] = []
    prompts = ["bad" if number == 5 else "a" for number in range(100)]
    stream = client.generate_stream(
        prompts, batch_size=30, on_error="collect", report=reports.append, progress=seen.append, temperature=0.3
    )
    batches = list(stream)
    for usages in ([batch.usage for batch in batches], [report.usage for report in reports]):
        assert sum(usage.texts for usage in usages) == 99
        assert sum(usage.tokens for usage in usages) == 99 * 9
        assert sum(usage.generated_tokens for usage in usages) == 99 * 3
    options: Any = reports[0].options
    assert (options.temperature, options.num_return_sequences) == (0.3, 1)
    assert (seen[-1].texts, seen[-1].failed, seen[-1].total, seen[-1].finished) == (100, 1, 100, True)


def test_closing_a_bulk_stream_early_cancels_the_call(server: FakeServer, client: Any) -> None:
    stream = client.generate_stream(f"t{number}" for number in range(10**9))
    next(stream)
    assert not server.seen.cancelled.is_set()
    stream.close()
    assert server.seen.cancelled.wait(20)


@pytest.mark.parametrize(("how", "message"), [("output", "1 outputs for 2 ids"), ("answer", "0 answers where 1")])
def test_bulk_answers_that_make_no_sense(server: FakeServer, client: Any, how: str, message: str) -> None:
    server.does.broken_part = how
    with pytest.raises(sdk.Internal, match=message):
        list(client.generate_stream(["a", "b"]))


async def test_an_asynchronous_source(server: FakeServer) -> None:
    async def source() -> AsyncIterator[tuple[int, str]]:
        for number in range(50):
            await asyncio.sleep(0)
            yield 2 * number, f"t{number}"

    async with AsyncClient(server.address) as client:
        ids = [item async for batch in client.generate_stream(source()) for item in batch.ids.tolist()]
    assert ids == list(range(0, 100, 2))
