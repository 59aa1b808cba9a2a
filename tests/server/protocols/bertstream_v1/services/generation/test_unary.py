from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from bertstream.v1 import generation_pb2 as g
from bertstream.v1 import types_pb2 as t
from bertstream.workers import ipc
from bertstream.workers.contract import INTERACTIVE, Failure, Generate
from tests.server.protocols.bertstream_v1.services.generation.conftest import ID, WORDS, Serve, byte_level, refusal
from tests.support.scripts import SCORE, completed, script
from tests.support.waiting import until, with_more_time

THE, CAT, SAT, RUN, NING, DOT, SEP, CLS = (
    ID[word] for word in ("the", "cat", "sat", "run", "##ning", ".", "[SEP]", "[CLS]")
)


def texts(*given: str) -> t.TextBatch:
    return t.TextBatch(texts=t.Texts(texts=given))


async def test_a_prompt_is_continued(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = script([RUN, NING, DOT, SEP])
    response = await served.generate("The cat", token_scores=True)
    assert served.sent == [[CLS, THE, CAT]]  # it begins as a text does, and does not end as one
    work = served.worker.generations[0]
    assert (work.options.max_new_tokens, work.options.stream, work.priority) == (20, False, INTERACTIVE)
    [output] = response.outputs
    [text] = output.texts
    assert (text.text, list(text.token_ids)) == ("running.", [RUN, NING, DOT, SEP])
    assert text.finish_reason == g.FINISH_REASON_END_OF_SEQUENCE
    assert text.score == 4 * SCORE
    assert list(text.token_scores) == [SCORE] * 4
    assert output.input_tokens == 3
    assert response.usage == g.GenerationUsage(inputs=1, input_tokens=3, generated_tokens=4)
    assert (response.timings.queue.nanos, response.timings.compute.nanos) == (100_000_000, 200_000_000)
    assert response.timings.total.nanos > 0
    assert response.options.model == "mine"


async def test_special_tokens_are_kept_where_asked(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = script([RUN, SEP])
    response = await served.generate("", keep_special_tokens=True)
    assert served.sent == [[CLS]]
    [text] = response.outputs[0].texts
    assert (text.text, list(text.token_scores)) == ("run [SEP]", [])


@pytest.mark.parametrize(("asked", "sent"), [(True, [CLS, THE, SEP]), (False, [THE])])
async def test_special_tokens_of_a_prompt(serve: Serve, asked: bool, sent: list[int]) -> None:
    served = await serve()
    served.worker.generate = script([SAT])
    await served.generate("the", add_special_tokens=asked)
    assert served.sent == [sent]


async def test_words_and_token_ids(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = script([SAT])
    await served.send(t.TextBatch(word_lists=t.WordLists(words=["the", "cat"], word_counts=[2])))
    await served.send(t.TextBatch(token_ids=t.TokenIdLists(token_ids=[CAT, THE], lengths=[2])))
    await served.send(t.TextBatch(token_ids=t.TokenIdLists(token_ids=[CAT], lengths=[1])), add_special_tokens=True)
    assert served.sent == [[CLS, THE, CAT], [CAT, THE], [CLS, CAT, SEP]]


async def test_an_encoders_text_is_whole_and_may_be_a_pair(serve: Serve) -> None:
    served = await serve(heads=("sequence_to_sequence",), defaults={"max_length": 31})
    served.worker.generate = script([SAT])
    response = await served.generate("the cat")
    await served.send(t.TextBatch(pairs=t.TextPairs(first_texts=["the"], second_texts=["cat"])))
    assert served.sent == [[CLS, THE, CAT, SEP], [CLS, THE, SEP, CAT, SEP]]
    types = served.worker.generations[1].type_ids
    assert types is not None
    assert types.tolist() == [0, 0, 0, 1, 1]
    assert response.options.max_new_tokens == 30


async def test_a_decoder_takes_no_pairs(serve: Serve) -> None:
    served = await serve()
    pairs = t.TextBatch(pairs=t.TextPairs(first_texts=["the"], second_texts=["cat"]))
    assert await refusal(served.send(pairs)) == ("INVALID_ARGUMENT", "INVALID_INPUT_KIND", "inputs.pairs")


async def test_a_long_prompt_is_cut_from_the_left(serve: Serve) -> None:
    served = await serve(max_tokens=30)
    served.worker.generate = script([SAT])
    response = await served.generate("the " * 40 + "cat", max_new_tokens=25)
    assert served.sent == [[CLS, THE, THE, THE, CAT]]
    assert response.usage.truncated_inputs == 1
    cut = t.TruncationOptions(side=t.TRUNCATION_SIDE_RIGHT)
    await served.generate("the " * 40 + "cat", max_new_tokens=25, truncation=cut)
    assert served.sent[1] == [CLS, THE, THE, THE, THE]
    refuse = t.TruncationOptions(strategy=t.TRUNCATION_STRATEGY_REFUSE)
    found = await refusal(served.generate("the", "the " * 40, max_new_tokens=25, truncation=refuse))
    assert found == ("INVALID_ARGUMENT", "INVALID_TEXT_LENGTH", "inputs.texts[1]")


async def test_what_was_not_asked_for_gives_way_to_the_prompt(serve: Serve) -> None:
    served = await serve(max_tokens=64, defaults={"max_new_tokens": 60, "min_new_tokens": 50}, cache_tokens=60)
    served.worker.generate = script([SAT])
    response = await served.generate("the " * 30, "the")
    assert [work.options.max_new_tokens for work in served.worker.generations] == [60 - 31, 60 - 2]
    assert [work.options.min_new_tokens for work in served.worker.generations] == [29, 50]
    assert response.options.max_new_tokens == 58


async def test_what_a_worker_does_not_hold_is_refused(serve: Serve) -> None:
    served = await serve(cache_tokens=100)
    found = await refusal(served.generate("the", "the cat", num_beams=4, max_new_tokens=25))
    assert found == ("INVALID_ARGUMENT", "REQUEST_TOO_LARGE", "inputs.texts[0]")
    assert served.sent == []


async def test_several_inputs_keep_their_order(serve: Serve) -> None:
    served = await serve()
    waiting: list[Generate] = []

    def generate(work: Generate) -> list[ipc.Message]:
        waiting.append(work)
        done = [completed(each, [each.ids[1:].tolist()]) for each in reversed(waiting)]
        return [*done] if len(waiting) == 3 else []

    served.worker.generate = generate
    response = await served.generate("the", "cat", "sat")
    assert [output.texts[0].text for output in response.outputs] == ["the", "cat", "sat"]
    assert response.usage == g.GenerationUsage(inputs=3, input_tokens=6, generated_tokens=3)
    assert served.model.generation_admission.tokens == 0


async def test_several_answers(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = script([RUN, SEP], [SAT, DOT])
    response = await served.generate("the", num_beams=3, num_return_sequences=2)
    assert [text.text for text in response.outputs[0].texts] == ["run", "sat."]
    reasons = [g.FINISH_REASON_END_OF_SEQUENCE, g.FINISH_REASON_LENGTH]
    assert [text.finish_reason for text in response.outputs[0].texts] == reasons
    assert served.worker.generations[0].options.num_beams == 3


async def test_a_stop_string_ends_the_text_and_the_work(serve: Serve) -> None:
    served = await serve()
    alive: list[ipc.Message] = []

    def generate(work: Generate) -> list[ipc.Message]:
        alive.extend(script([THE, CAT, RUN, NING, DOT, THE])(work)[:-1])  # does not end by itself
        return alive

    served.worker.generate = generate
    response = await served.generate("the", stop_strings=["t run"], token_scores=True)
    [text] = response.outputs[0].texts
    assert (text.text, list(text.token_ids)) == ("the ca", [THE, CAT, RUN])
    assert text.finish_reason == g.FINISH_REASON_STOP_STRING
    assert text.score == 3 * SCORE
    assert list(text.token_scores) == [SCORE] * 3
    assert response.usage.generated_tokens == 3
    await until(lambda: served.worker.cancelled == [served.worker.generations[0].id])


async def test_a_stop_string_that_does_not_come_holds_nothing_back_at_the_end(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = script([THE, CAT, SEP])
    response = await served.generate("the", stop_strings=["cat."])
    [text] = response.outputs[0].texts
    assert (text.text, text.finish_reason) == ("the cat", g.FINISH_REASON_END_OF_SEQUENCE)
    assert served.worker.cancelled == []


async def test_each_of_several_answers_stops_by_itself(serve: Serve) -> None:
    served = await serve()
    # The first stops, the second ends, the third stops last: then there is nothing more to wait for.
    steps = script([DOT, THE, THE, THE], [CAT, SEP], [THE, THE, DOT, THE])
    served.worker.generate = lambda work: steps(work)[:-1]
    response = await served.generate("the", stop_strings=["."], do_sample=True, num_return_sequences=3)
    found = [(each.text, list(each.token_ids), each.finish_reason) for each in response.outputs[0].texts]
    assert found == [
        ("", [DOT], g.FINISH_REASON_STOP_STRING),
        ("cat", [CAT, SEP], g.FINISH_REASON_END_OF_SEQUENCE),
        ("the the", [THE, THE, DOT], g.FINISH_REASON_STOP_STRING),
    ]


async def test_seeds(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = script([SAT])
    given = await served.generate("the", "the", do_sample=True, seed=7)
    drawn = await served.generate("the", "the", do_sample=True)
    told = await served.generate("the", do_sample=True)
    greedy = await served.generate("the")
    seeds = [work.options.seed for work in served.worker.generations]
    assert seeds[:2] == [7, 7]
    assert len(set(seeds[2:5])) == 3
    assert seeds[5] == 0
    assert given.options.seed == 7
    assert not drawn.options.HasField("seed")  # there is not one
    assert told.options.seed == seeds[4]
    assert not greedy.options.HasField("seed")


async def test_bad_words(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = script([SAT])
    words = ["cat", "running", "Cat", "unheard", "[SEP]", "the cat"]
    response = await served.generate("the", bad_words=words)
    # In lower case, without what cannot be spelled and what ends sequences.
    assert served.worker.generations[0].options.bad_words == ((CAT,), (RUN, NING), (THE, CAT))
    assert list(response.options.bad_words) == words
    await served.generate("the", bad_words=["[UNK]"])
    assert served.worker.generations[1].options.bad_words == ((ID["[UNK]"],),)
    found = await refusal(served.generate("the", bad_words=["cat", "  "]))
    assert found == ("INVALID_ARGUMENT", "INVALID_EMPTY_TEXT", "options.bad_words[1]")


async def test_bad_words_with_a_space_before_them(serve: Serve) -> None:
    served = await serve(tokenizer=byte_level(), max_tokens=100)
    served.worker.generate = script([SAT])
    await served.generate("x", bad_words=["a"])
    tokenizer = byte_level()
    expected = {tuple(tokenizer.encode(word, add_special_tokens=False).ids) for word in ("a", " a")}
    assert set(served.worker.generations[0].options.bad_words) == expected
    assert {len(ids) for ids in expected} == {1, 2}


@pytest.mark.parametrize(
    ("given", "options", "found"),
    [
        (["the", ""], {"add_special_tokens": False}, ("INVALID_EMPTY_TEXT", "inputs.texts[1]")),
        ([], {}, ("INVALID_EMPTY_LIST", "inputs")),
        (["the"] * 9, {}, ("REQUEST_TOO_LARGE", "inputs.texts")),
        (["the"] * 8, {"max_new_tokens": 63, "add_special_tokens": False}, ("REQUEST_TOO_LARGE", "inputs")),
        (["the"], {"temperature": 2.0}, ("INVALID_COMBINATION", "options.temperature")),
        (["the"], {"model": "other"}, ("MODEL_NOT_FOUND", "")),
    ],
)
async def test_what_is_refused(serve: Serve, given: list[str], options: dict[str, Any], found: tuple[str, str]) -> None:
    served = await serve()
    inputs = texts(*given) if given else t.TextBatch()
    assert (await refusal(served.send(inputs, **options)))[1:] == found
    assert served.sent == []


async def test_a_prompt_without_room_behind_the_special_token(serve: Serve) -> None:
    served = await serve()
    found = await refusal(served.generate("the", max_new_tokens=63))
    assert found == ("INVALID_ARGUMENT", "INVALID_RANGE", "options.max_new_tokens")
    found = await refusal(served.generate("the", truncation=t.TruncationOptions(max_length=1)))
    assert found == ("INVALID_ARGUMENT", "INVALID_TRUNCATION", "options.truncation.max_length")


async def test_a_model_without_the_heads(serve: Serve) -> None:
    served = await serve(heads=())
    assert await refusal(served.generate("the")) == ("FAILED_PRECONDITION", "HEAD_NOT_AVAILABLE", "")


@pytest.mark.parametrize(("options", "answers", "made"), [({}, [[SAT]], 1), ({"num_beams": 3}, [[SAT, CAT]], 6)])
async def test_what_does_not_come_is_not_paid_for(
    serve: Serve, options: dict[str, int], answers: list[list[int]], made: int
) -> None:
    served = await serve()
    running = asyncio.create_task(served.generate("the cat", max_new_tokens=20, **options))
    await until(lambda: served.sent)
    work = served.worker.generations[0]
    assert served.purse.paid == work.ids.size + 20 * options.get("num_beams", 1)
    await served.worker.send(completed(work, answers))
    await running
    assert served.purse.paid == work.ids.size + made


async def test_one_that_fails_fails_the_call_and_ends_the_others(serve: Serve) -> None:
    served = await serve()

    def generate(work: Generate) -> list[ipc.Message]:
        return [Failure(work.id, "out_of_memory", "no")] if CAT in work.ids else []

    served.worker.generate = generate
    found = await refusal(served.generate("the", "cat", "sat"))
    assert found == ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", "inputs.texts[1]")
    others = [work.id for work in served.worker.generations if CAT not in work.ids]
    await until(lambda: sorted(served.worker.cancelled) == others)
    assert served.model.generation_admission.tokens == 0


async def test_an_overloaded_server_says_so_at_once(serve: Serve) -> None:
    served = await serve(queue_tokens=50)
    first = asyncio.create_task(served.generate("the"))
    await until(lambda: served.sent)
    assert await refusal(served.generate("the", max_new_tokens=40)) == ("RESOURCE_EXHAUSTED", "OVERLOADED", "")
    assert served.model.admission.tokens == 0  # there is still room for what is to be encoded
    await served.worker.send(completed(served.worker.generations[0], [[SAT]]))
    await first


async def test_a_cancelled_call_is_cancelled_at_the_worker(serve: Serve) -> None:
    served = await serve()
    running = asyncio.create_task(served.generate("the", "cat"))
    await until(lambda: len(served.sent) == 2)
    running.cancel()
    await until(lambda: len(served.worker.cancelled) == 2)
    await until(lambda: served.model.generation_admission.tokens == 0)


async def test_the_deadline_goes_along(serve: Serve) -> None:
    served = await serve()
    request = g.GenerateTextsRequest(inputs=texts("the"))

    async def late(seconds: float) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await served.stub.GenerateTexts(request, timeout=seconds)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    await with_more_time(late, lambda: served.worker.generations, 0.2)
    assert served.worker.generations[0].deadline < 1e300
    await until(lambda: served.worker.cancelled)


async def test_how_a_model_is_described(serve: Serve) -> None:
    served = await serve(cache_tokens=123)
    its = served.described.generation
    assert (its.vocabulary_size, its.max_tokens, its.cache_tokens) == (len(WORDS), 64, 123)
    assert list(its.eos_token_ids) == [SEP]


async def test_other_models_have_no_such_description(serve: Serve) -> None:
    assert not (await serve(heads=())).described.HasField("generation")
