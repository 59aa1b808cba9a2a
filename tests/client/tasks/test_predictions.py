"""Both clients against a fake server: bulk streams of task heads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import bertstream.client as sdk
from bertstream.client import AsyncClient, InvalidArgument, Progress, Report
from bertstream.v1 import tasks_pb2 as tasks
from bertstream.v1 import types_pb2 as types
from tests.client.fake_server import Code, FakeServer, status
from tests.client.fake_tasks import labels_of, next_probability, probabilities_of, relevance

GONE = status(Code.UNAVAILABLE, "gone")
# For each task: items, options, and a call of the method that gives the same answers.
TASKS: dict[str, tuple[list[Any], dict[str, Any], Any]] = {
    "fill_mask": (["[MASK]", ("a [MASK]", "[MASK]")], {"top_k": 2}, None),
    "score_text": (["ab", "c"], {}, lambda client, items, given: client.score_text(items)),
    "next_sentence": ([("a", "b"), ("cc", "d")], {}, None),
    "classify": (["a", ("b", "c"), ["d"]], {"top_k": 2, "function": "none"}, None),
    "zero_shot": (["a", "bb"], {"labels": ["x", "y"]}, None),
    "rerank": ([("q", "a"), ("q", "z")], {}, lambda client, items, given: [relevance(text) for _, text in items]),
    "entities": (["An Elk", ["An", "Elk"]], {"aggregation": "none"}, None),
    "answer": ([("q", "a b"), ("q", "c")], {"top_k": 2}, None),
    "choose": ([("p", ["a", "b"]), ("p", ["c"])], {}, None),
    "encode_sparse": (["ab", "cb"], {"top_k": 1, "tokens": True}, None),
}


def gathered(stream: Iterator[Any]) -> tuple[list[int], list[Any]]:
    batches = list(stream)
    ids = [item for batch in batches for item in batch.ids.tolist()]
    return ids, [result for batch in batches for result in batch.results]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_gives_what_its_method_gives(server: FakeServer, client: Any, name: str) -> None:
    items, given, call = TASKS[name]
    ids, results = gathered(client.predict_stream(name, items, **given))
    assert ids == list(range(len(items)))
    expected = call(client, items, given) if call else getattr(client, name)(items, **given)
    if name == "score_text":
        results, expected = [each.score for each in results], [each.score for each in expected]
    if name == "encode_sparse":
        results, expected = [each.tokens for each in results], [each.tokens for each in expected]
    assert results == expected


def test_one_answer_a_question(client: Any) -> None:
    items = [("q", "a b"), ("q", "")]
    assert gathered(client.predict_stream("answer", items))[1] == client.answer(items)


@pytest.mark.parametrize("ordered", [True, False])
def test_answers_in_any_order(server: FakeServer, client: Any, ordered: bool) -> None:
    server.does.reverse, server.does.hold_first = True, 150
    pairs = [("a" * (index % 9), "b") for index in range(500)]
    batches = list(client.predict_stream("next_sentence", pairs, ordered=ordered, batch_size=50))
    ids = [item for batch in batches for item in batch.ids.tolist()]
    assert (ids == list(range(500))) == ordered
    assert sorted(ids) == list(range(500))
    assert all(len(batch) == 50 for batch in batches)
    results = [result for batch in batches for result in batch.results]
    assert results == [next_probability("pair:" + "|".join(pairs[item])) for item in ids]


def test_ids_of_the_callers_own(client: Any) -> None:
    items = [(9, ("p", ["a", "b"])), (2**40, ("p", ["c"])), (7, ("p", ["d"] * 3))]
    ids, results = gathered(client.predict_stream("choose", items))
    assert ids == [9, 2**40, 7]
    assert results == [probabilities_of("choices:p" + "|x" * count) for count in (2, 1, 3)]


def test_constant_memory(server: FakeServer, client: Any) -> None:
    taken = given = ahead = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for taken in range(1, 20_001):
            yield f"t{taken}"

    for batch in client.predict_stream("classify", source(), batch_size=128, top_k=1):
        given += len(batch)
        ahead = max(ahead, taken - given)
    assert given == 20_000
    assert ahead <= 2 * server.does.window + 128
    assert set(server.seen.answered.values()) == {1}


def test_a_broken_connection_loses_nothing_and_repeats_nothing(server: FakeServer, client: Any) -> None:
    server.does.breaks.extend([(0, GONE), (100, GONE), (300, status(Code.RESOURCE_EXHAUSTED, "busy"))])
    texts = [f"t{index}" for index in range(2000)]
    ids, results = gathered(client.predict_stream("classify", texts, top_k=1))
    assert ids == list(range(2000))
    assert [label.label_id for (label,) in results] == [labels_of(f"text:{text}")[0] for text in texts]
    assert server.seen.answered == Counter(f"text:{text}" for text in texts)
    assert server.seen.rpcs["StreamPredictions"] == 4


def test_failed_items(client: Any) -> None:
    items = [(3, "a"), (4, "bad"), (5, "\ud800"), (6, "d")]
    (batch,) = client.predict_stream("classify", items, on_error="collect", top_k=1)
    assert (batch.ids.tolist(), len(batch.results), len(batch)) == ([3, 6], 2, 2)
    assert [(failure.id, failure.error.reason) for failure in batch.errors] == [
        (4, "INVALID_TEXT"),
        (5, "INVALID_TEXT"),
    ]
    assert batch.usage.texts == 2
    stream = client.predict_stream("choose", [("p", ["a"])] * 70 + [("p", ["bad"])], batch_size=16)
    seen: list[int] = []
    with pytest.raises(InvalidArgument, match="item 70: a bad text") as caught:
        seen.extend(item for part in stream for item in part.ids.tolist())
    assert (caught.value.item_id, seen) == (70, list(range(70)))
    (batch,) = client.predict_stream("classify", ["bad"], on_error="collect")
    assert (batch.ids.tolist(), batch.results, len(batch.errors)) == ([], [], 1)


def test_paths_in_a_stream(server: FakeServer, client: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        list(client.predict_stream("choose", [("p", ["a"]), ("p\ud800", ["a"])]))
    assert caught.value.fields[0].path == "items.choices.prompts[1]"
    with pytest.raises(TypeError, match=r"items.inputs.texts\[1\]: answer takes pairs"):
        list(client.predict_stream("answer", [("a", "b"), "c"]))


def test_options_and_items_reach_the_server(server: FakeServer, client: Any) -> None:
    reports: list[Report] = []
    seen: list[Progress] = []
    given = {"label": "yes", "function": "sigmoid", "priority": "interactive", "max_length": 20}
    texts = [("q", "d")] * 300
    list(client.predict_stream("rerank", texts, report=reports.append, progress=seen.append, **given))
    options: Any = reports[0].options
    assert (options.label, options.function, options.max_length) == ("yes", "sigmoid", 20)
    assert isinstance(server.seen.task, tasks.RerankOptions)
    assert server.seen.task.priority == types.PRIORITY_INTERACTIVE
    assert sum(report.usage.texts for report in reports) == 300
    assert (seen[-1].texts, seen[-1].total, seen[-1].finished) == (300, 300, True)


def test_the_messages_of_heavy_tasks_are_small(server: FakeServer, client: Any) -> None:
    assert len(gathered(client.predict_stream("zero_shot", ["a"] * 64, labels=["x"] * 32))[0]) == 64
    assert server.seen.messages == 32


def test_closing_early_cancels_the_call(server: FakeServer, client: Any) -> None:
    stream = client.predict_stream("classify", (f"t{index}" for index in range(10**9)))
    next(stream)
    assert not server.seen.cancelled.is_set()
    stream.close()
    assert server.seen.cancelled.wait(20)


def test_misuse(server: FakeServer, client: Any) -> None:
    cases: list[tuple[Any, str]] = [
        (lambda: client.predict_stream("encode", []), "task must be one of 'fill_mask', .* not 'encode'"),
        (lambda: client.predict_stream("rerank", [], top_k=3), "top_k is not for streams"),
        (lambda: client.predict_stream("classify", [], on_error="ignore"), "on_error must be"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            list(call())
    with pytest.raises(TypeError, match="labels"):
        list(client.predict_stream("zero_shot", ["a"]))
    with pytest.raises(TypeError, match="truncation"):
        list(client.predict_stream("answer", ["a"], truncation=False))
    assert server.seen.messages == 0


def test_answers_that_make_no_sense(server: FakeServer, client: Any) -> None:
    server.does.bad_answer = True
    with pytest.raises(sdk.Internal, match="None in a stream of classify_text"):
        list(client.predict_stream("classify", ["a"]))


async def test_an_asynchronous_source(server: FakeServer) -> None:
    async def source() -> AsyncIterator[tuple[int, str]]:
        for index in range(150):
            await asyncio.sleep(0)
            yield 2 * index, f"t{index}"

    async with AsyncClient(server.address) as client:
        ids = [item async for batch in client.predict_stream("entities", source()) for item in batch.ids.tolist()]
    assert ids == list(range(0, 300, 2))
