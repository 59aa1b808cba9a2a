from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from bertstream.server.core.callers import NOBODY
from bertstream.server.core.generation.answers import GeneratedPiece
from bertstream.server.core.generation.generator import Generation
from bertstream.server.core.generation.inputs import prepare_prompts
from bertstream.server.protocols.bertstream_v1.validation.generation import parse_generation
from bertstream.server.protocols.bertstream_v1.validation.inputs import parse_sent
from bertstream.v1 import generation_pb2 as g
from bertstream.v1 import types_pb2 as t
from bertstream.workers import ipc
from bertstream.workers.contract import BULK, INTERACTIVE, Failure, Generate
from tests.server.protocols.bertstream_v1.services.generation.conftest import (
    ID,
    LIMITS,
    Serve,
    byte_level,
    refusal,
    status_told,
    told,
)
from tests.support.scripts import SCORE, completed, generated, script
from tests.support.waiting import until
from tests.support.works import make_work

THE, CAT, SAT, RUN, NING, DOT, SEP, CLS = (
    ID[word] for word in ("the", "cat", "sat", "run", "##ning", ".", "[SEP]", "[CLS]")
)


async def rest_of(call: Any) -> list[Any]:
    """Return all messages that are still to come."""
    came = []
    while (message := await call.read()) is not grpc.aio.EOF:
        came.append(message)
    return came


async def events(call: Any) -> tuple[g.GenerationStarted, list[g.GeneratedPiece], g.GenerationCompleted]:
    """Return all events of one generation, after checking their order and that the pieces add up to the texts."""
    came = await rest_of(call)
    assert [each.WhichOneof("event") for each in came] == ["started", *["piece"] * (len(came) - 2), "completed"]
    pieces = [each.piece for each in came[1:-1]]
    completed = came[-1].completed
    for index, text in enumerate(completed.output.texts):
        own = [piece for piece in pieces if piece.sequence_index == index]
        assert "".join(piece.text for piece in own) == text.text
        assert [id for piece in own for id in piece.token_ids] == list(text.token_ids)
        assert [score for piece in own for score in piece.token_scores] == list(text.token_scores)
    return came[0].started, pieces, completed


async def test_pieces_come_while_the_rest_is_generated(serve: Serve) -> None:
    served = await serve()
    call = served.stream("the cat", token_scores=True)
    started = (await call.read()).started
    assert (started.input_tokens, started.options.model, started.options.max_new_tokens) == (3, "mine", 20)
    await until(lambda: served.sent)
    assert served.sent == [[CLS, THE, CAT]]
    work = served.worker.generations[0]
    assert (work.options.stream, work.priority, work.deadline < 1e300) == (True, INTERACTIVE, True)
    for token, text in ((RUN, "run"), (NING, "ning"), (DOT, "."), (SEP, "")):
        await served.worker.send(generated(work.id, [token]))
        piece = (await call.read()).piece
        assert (piece.text, list(piece.token_ids), list(piece.token_scores)) == (text, [token], [SCORE])
    await served.worker.send(completed(work, [[RUN, NING, DOT, SEP]]))
    end = (await call.read()).completed
    [text] = end.output.texts
    assert (text.text, text.finish_reason) == ("running.", g.FINISH_REASON_END_OF_SEQUENCE)
    assert (text.score, end.output.input_tokens) == (4 * SCORE, 3)
    assert end.usage == g.GenerationUsage(inputs=1, input_tokens=3, generated_tokens=4)
    assert (end.timings.queue.nanos, end.timings.compute.nanos) == (100_000_000, 200_000_000)
    assert await call.read() is grpc.aio.EOF


async def test_no_piece_ends_within_a_character(serve: Serve) -> None:
    served = await serve(tokenizer=byte_level(), max_tokens=100)
    ids = byte_level().encode("a😀é", add_special_tokens=False).ids
    call = served.stream("x")
    await call.read()
    await until(lambda: served.sent)
    work, texts = served.worker.generations[0], []
    for id in ids:
        await served.worker.send(generated(work.id, [id]))
        piece = (await call.read()).piece
        assert list(piece.token_ids) == [id]  # tokens come before their text does
        texts.append(piece.text)
    assert texts == ["a", "", "", "", "😀", "", "é"]
    await served.worker.send(generated(work.id, ids[1:2]))
    assert (await call.read()).piece.text == ""
    await served.worker.send(completed(work, [[*ids, ids[1]]]))
    last = (await call.read()).piece
    assert (last.text, list(last.token_ids)) == ("\ufffd", [])  # it never became one
    assert (await call.read()).completed.output.texts[0].text == "a😀é\ufffd"


async def test_several_answers_are_told_apart(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = script([THE, CAT, SEP], [SAT, DOT, THE, DOT])
    _, pieces, end = await events(served.stream("the", do_sample=True, num_return_sequences=2, max_new_tokens=4))
    assert {piece.sequence_index for piece in pieces} == {0, 1}
    assert [text.text for text in end.output.texts] == ["the cat", "sat. the."]
    reasons = [g.FINISH_REASON_END_OF_SEQUENCE, g.FINISH_REASON_LENGTH]
    assert [text.finish_reason for text in end.output.texts] == reasons
    assert end.usage.generated_tokens == 7


async def test_what_may_be_a_stop_string_is_held_back(serve: Serve) -> None:
    served = await serve()
    call = served.stream("the", stop_strings=["cat sat."])
    await call.read()
    await until(lambda: served.sent)
    work, given = served.worker.generations[0], []
    for token in (THE, CAT, SAT, SAT, CAT, SAT, DOT):
        await served.worker.send(generated(work.id, [token]))
        given.append((await call.read()).piece.text)
    assert given == ["the", " ", "", "cat sat sat", " ", "", ""]
    end = (await call.read()).completed  # without a word of the worker's
    [text] = end.output.texts
    assert (text.text, text.finish_reason) == ("the cat sat sat ", g.FINISH_REASON_STOP_STRING)
    assert list(text.token_ids) == [THE, CAT, SAT, SAT, CAT, SAT, DOT]
    await until(lambda: served.worker.cancelled == [work.id])
    assert end.timings.compute.nanos > 0


async def test_a_reader_that_is_slow_gets_what_came_meanwhile_at_once(serve: Serve) -> None:
    served = await serve(max_tokens=64)
    gate, tokens = asyncio.Event(), [CAT, DOT] * 20

    async def generate() -> None:
        await until(lambda: served.sent)
        for token in tokens:
            await served.worker.send(generated(served.worker.generations[0].id, [token]))
        # The worker sends what it answers in order, so that with this answer all tokens have come.
        await served.model.dispatcher.live[0].call(make_work(0, [3]))
        gate.set()

    options = g.GenerationOptions(max_new_tokens=40)
    plan = parse_generation(options, "mine", served.model.description, INTERACTIVE, pieces=True)
    inputs = t.TextBatch(texts=t.Texts(texts=["the"]))
    prepared = await prepare_prompts(served.model, plan, (), parse_sent(inputs, "inputs", 1))
    running = asyncio.create_task(generate())
    pieces = Generation(served.model, plan, float("inf"), NOBODY, waits=True).stream(prepared.prompts[0])
    first = await anext(pieces)
    await gate.wait()
    second = await anext(pieces)
    assert isinstance(first, GeneratedPiece)
    assert isinstance(second, GeneratedPiece)
    assert [*first.token_ids, *second.token_ids] == tokens
    await running
    await pieces.aclose()
    await until(lambda: served.worker.cancelled)
    assert served.model.generation_admission.tokens == 0


async def test_who_goes_frees_the_worker(serve: Serve) -> None:
    served = await serve()
    call = served.stream("the")
    await call.read()
    await until(lambda: served.sent)
    await served.worker.send(generated(served.worker.generations[0].id, [THE]))
    await call.read()
    call.cancel()
    await until(lambda: served.worker.cancelled == [served.worker.generations[0].id])
    await until(lambda: served.model.generation_admission.tokens == 0)
    assert served.purse.paid == served.worker.generations[0].ids.size + 1  # for what came


async def test_a_lost_worker_is_not_noticed(serve: Serve) -> None:
    served = await serve()
    call = served.stream("the")
    await call.read()
    await until(lambda: served.sent)
    await served.worker.send(generated(served.worker.generations[0].id, [THE]))
    assert (await call.read()).piece.text == "the"
    served.worker.generate = script([THE, CAT, SEP])
    await served.worker.kill()
    await until(lambda: not served.model.dispatcher.live)
    await served.worker.start()
    rest = await rest_of(call)
    assert "".join(each.piece.text for each in rest) == " cat"
    assert rest[-1].completed.output.texts[0].text == "the cat"
    options = [work.options for work in served.worker.generations]
    assert options[0] == options[1]


async def test_a_failure_ends_the_stream(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = lambda work: [generated(work.id, [THE]), Failure(work.id, "out_of_memory", "no")]
    call = served.stream("the")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await events(call)
    assert told(raised.value)[:2] == ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY")


async def test_streams_wait_where_unary_calls_are_refused(serve: Serve) -> None:
    served = await serve(queue_tokens=30)
    first = asyncio.create_task(events(served.stream("the")))
    await until(lambda: len(served.sent) == 1)
    second = asyncio.create_task(events(served.stream("the")))
    await asyncio.sleep(0.03)
    assert len(served.sent) == 1
    served.worker.generate = script([SAT])
    await served.worker.send(completed(served.worker.generations[0], [[]]))
    await first
    await second
    assert len(served.sent) == 2


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"num_beams": 2}, ("INVALID_COMBINATION", "options.num_beams")),
        ({"bad_words": [""]}, ("INVALID_EMPTY_TEXT", "options.bad_words[0]")),
    ],
)
async def test_what_a_stream_refuses(serve: Serve, options: dict[str, Any], found: tuple[str, str]) -> None:
    served = await serve()
    assert (await refusal(events(served.stream("the", **options))))[1:] == found


async def test_one_input_a_stream(serve: Serve) -> None:
    served = await serve()
    request = g.StreamGenerationRequest(inputs=t.TextBatch(texts=t.Texts(texts=["the", "cat"])))
    found = await refusal(events(served.stub.StreamGeneration(request, timeout=60)))
    assert found == ("INVALID_ARGUMENT", "REQUEST_TOO_LARGE", "inputs.texts")


def items(first_id: int, *texts: str) -> g.StreamGeneratedTextsRequest:
    inputs = t.TextBatch(texts=t.Texts(texts=texts))
    return g.StreamGeneratedTextsRequest(items=g.GenerationItems(first_id=first_id, inputs=inputs))


async def answers(call: Any) -> tuple[dict[int, list[str]], dict[int, tuple[str, str, str]], list[g.GeneratedItems]]:
    """Return the texts and the errors by id, and the messages, of all that follows the start."""
    texts: dict[int, list[str]] = {}
    errors: dict[int, tuple[str, str, str]] = {}
    messages = [each.items for each in await rest_of(call)]
    for message in messages:
        for id, output in zip(message.ids, message.outputs, strict=True):
            texts[id] = [text.text for text in output.texts]
        errors |= {error.id: status_told(error.status) for error in message.errors}
        assert message.usage.inputs == len(message.ids)
    return texts, errors, messages


async def test_a_corpus_is_answered(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = lambda work: [completed(work, [work.ids[1:].tolist()])]
    call = await served.bulk(max_new_tokens=5)
    started = (await call.read()).started
    assert (started.options.max_new_tokens, started.options.priority) == (5, t.PRIORITY_BULK)
    assert (started.window.max_items, started.window.max_tokens) == (LIMITS.stream_items, LIMITS.stream_tokens)
    for number in range(0, 30, 3):
        await call.write(items(number, "the", "cat", "sat ."))
    await call.done_writing()
    texts, errors, messages = await answers(call)
    assert errors == {}
    assert texts == {id: [["the"], ["cat"], ["sat."]][id % 3] for id in range(30)}
    assert sum(message.usage.generated_tokens for message in messages) == 40
    assert {work.priority for work in served.worker.generations} == {BULK}
    assert served.model.generation_admission.tokens == 0


async def test_they_are_answered_as_they_are_done(serve: Serve) -> None:
    served = await serve()
    call = await served.bulk()
    await call.read()
    await call.write(items(0, "the", "cat"))
    await until(lambda: len(served.sent) == 2)
    for place, id in ((1, 1), (0, 0)):
        work = served.worker.generations[place]
        await served.worker.send(completed(work, [[SAT, SEP]]))
        message = (await call.read()).items
        assert list(message.ids) == [id]
        assert message.outputs[0].texts[0].text == "sat"
    call.cancel()


async def test_an_item_that_fails_fails_alone(serve: Serve) -> None:
    served = await serve(cache_tokens=60)

    def generate(work: Generate) -> list[ipc.Message]:
        if CAT in work.ids:
            return [Failure(work.id, "out_of_memory", "no")]
        return [completed(work, [[SAT]])]

    served.worker.generate = generate
    refuse = t.TruncationOptions(strategy=t.TRUNCATION_STRATEGY_REFUSE)
    call = await served.bulk(truncation=refuse, max_new_tokens=30)
    await call.read()
    await call.write(items(5, "the", "cat", "the " * 40, "sat", "the " * 32))
    await call.done_writing()
    texts, errors, _ = await answers(call)
    assert texts == {5: ["sat"], 8: ["sat"]}
    assert errors == {
        6: ("", "OUT_OF_MEMORY", ""),
        7: ("", "INVALID_TEXT_LENGTH", "items.inputs.texts[2]"),
        9: ("", "REQUEST_TOO_LARGE", "items.inputs.texts[4]"),
    }


async def test_stop_strings_in_a_corpus(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = lambda work: script([THE, DOT, CAT, CAT])(work)[:-1]
    call = await served.bulk(stop_strings=["."])
    await call.read()
    await call.write(items(0, "the", "cat"))
    await call.done_writing()
    texts, _, _ = await answers(call)
    assert texts == {0: ["the"], 1: ["the"]}
    await until(lambda: len(served.worker.cancelled) == 2)


async def test_no_more_than_the_window_is_under_way(serve: Serve) -> None:
    served = await serve(max_tokens=64, cache_tokens=200)
    call = await served.bulk(max_new_tokens=48)  # with [CLS] and a word, 50 tokens of the window's 400
    await call.read()
    await call.write(items(0, *["the"] * 8))
    await call.write(items(8, *["the"] * 4))
    await until(lambda: len(served.sent) == 8)
    await asyncio.sleep(0.03)
    assert len(served.sent) == 8
    served.worker.generate = lambda work: [completed(work, [[SAT]])]
    for work in served.worker.generations[:8]:
        await served.worker.send(completed(work, [[SAT]]))
    await call.done_writing()
    texts, _, _ = await answers(call)
    assert len(texts) == 12


async def test_pieces_do_not_wait_behind_a_corpus(serve: Serve) -> None:
    served = await serve(queue_tokens=100)
    call = await served.bulk()
    await call.read()
    await call.write(items(0, *["the"] * 6))  # of 22 tokens each; streams hold half
    await until(lambda: len(served.sent) == 2)
    served.worker.generate = script([SAT])
    patient = served.stream("cat", priority=t.PRIORITY_BULK)
    await patient.read()
    await events(served.stream("run"))
    await asyncio.sleep(0.03)
    assert served.sent[2:] == [[CLS, RUN]]
    patient.cancel()
    call.cancel()
    await until(lambda: served.model.generation_admission.tokens == 0)


async def test_who_goes_frees_all_that_was_under_way(serve: Serve) -> None:
    served = await serve()
    call = await served.bulk()
    await call.read()
    await call.write(items(0, "the", "cat", "sat"))
    await until(lambda: len(served.sent) == 3)
    call.cancel()
    await until(lambda: len(served.worker.cancelled) == 3)
    await until(lambda: served.model.generation_admission.tokens == 0)


async def test_a_deadline_is_the_streams(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = lambda work: [Failure(work.id, "expired", "late")] if CAT in work.ids else []
    call = await served.bulk()
    await call.read()
    await call.write(items(0, "the", "cat"))
    assert (await refusal(answers(call)))[:2] == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    await until(lambda: served.worker.cancelled == [served.worker.generations[0].id])


async def test_a_message_without_items_ends_the_stream(serve: Serve) -> None:
    served = await serve()
    call = await served.bulk()
    await call.read()
    await call.write(items(0))
    assert (await refusal(answers(call)))[1] == "INVALID_EMPTY_LIST"
