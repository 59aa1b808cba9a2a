"""TaskService: unary calls and streams give the same answers, and what is wrong with one item stays with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.message import Message

from bertstream.server.core import errors
from bertstream.server.protocols.bertstream_v1.services import predictions
from bertstream.server.protocols.bertstream_v1.wire import window_of
from bertstream.v1 import tasks_pb2 as t
from bertstream.v1 import types_pb2 as y
from bertstream.workers.contract import BULK, INTERACTIVE, HeadOptions
from tests.server.core.tasks.conftest import Stub
from tests.server.protocols.bertstream_v1.services.tasks.served import (
    Served,
    details,
    made_up_scores,
    reason_and_fields,
    serving,
)

Serve = Callable[..., AbstractAsyncContextManager[Served]]
HEADS = ("fill_mask", "next_sentence", "sequence_classification", "multiple_choice")
NLI = ("contradiction", "neutral", "entailment")
TEXTS = ["the quick [MASK] fox", "a [MASK] and a [MASK]", "[MASK]", "sleeps in the [MASK]"]
PAIRS = y.TextPairs(first_texts=TEXTS, second_texts=["dog", "fox", "", "sun"])
CHOICES = t.ChoiceLists(prompts=["fox", "dog"], choices=["a", "b", "c", "d", "e"], choice_counts=[3, 2])


@pytest.fixture
async def served(stub: Stub) -> AsyncIterator[Served]:
    async with serving(stub("bert", *HEADS, labels=NLI)) as made:
        yield made


def batch(texts: Sequence[str] = TEXTS) -> y.TextBatch:
    return y.TextBatch(texts=y.Texts(texts=texts))


PAIR_BATCH = y.TextBatch(pairs=PAIRS)
TASKS: dict[str, tuple[str, Message, type[Message], t.PredictionOptions, t.PredictionItems]] = {
    "fill_mask": (
        "FillMasks",
        t.FillMasksRequest(inputs=batch()),
        t.FillMasksResponse,
        t.PredictionOptions(fill_mask=t.FillMaskOptions()),
        t.PredictionItems(inputs=batch()),
    ),
    "score_text": (
        "ScoreTexts",
        t.ScoreTextsRequest(inputs=batch(["a fox", "", "the lazy dog"])),
        t.ScoreTextsResponse,
        t.PredictionOptions(score_text=t.ScoreTextOptions()),
        t.PredictionItems(inputs=batch(["a fox", "", "the lazy dog"])),
    ),
    "next_sentence": (
        "PredictNextSentences",
        t.PredictNextSentencesRequest(inputs=PAIR_BATCH),
        t.PredictNextSentencesResponse,
        t.PredictionOptions(next_sentence=t.NextSentenceOptions()),
        t.PredictionItems(inputs=PAIR_BATCH),
    ),
    "classify_text": (
        "ClassifyTexts",
        t.ClassifyTextsRequest(inputs=batch()),
        t.ClassifyTextsResponse,
        t.PredictionOptions(classify_text=t.ClassifyTextOptions()),
        t.PredictionItems(inputs=batch()),
    ),
    "zero_shot": (
        "ClassifyZeroShot",
        t.ClassifyZeroShotRequest(options=t.ZeroShotOptions(labels=["x", "y"]), inputs=y.Texts(texts=TEXTS)),
        t.ClassifyZeroShotResponse,
        t.PredictionOptions(zero_shot=t.ZeroShotOptions(labels=["x", "y"])),
        t.PredictionItems(inputs=batch()),
    ),
    "choose": (
        "ChooseAnswers",
        t.ChooseAnswersRequest(inputs=CHOICES),
        t.ChooseAnswersResponse,
        t.PredictionOptions(choose=t.ChooseOptions()),
        t.PredictionItems(choices=CHOICES),
    ),
    "encode_sparse": (
        "EncodeSparse",
        t.EncodeSparseRequest(options=t.SparseOptions(include_tokens=True), inputs=batch()),
        t.EncodeSparseResponse,
        t.PredictionOptions(encode_sparse=t.SparseOptions(include_tokens=True)),
        t.PredictionItems(inputs=batch()),
    ),
}


def options(of: t.PredictionOptions) -> t.StreamPredictionsRequest:
    return t.StreamPredictionsRequest(options=of)


def items(of: t.PredictionItems) -> t.StreamPredictionsRequest:
    return t.StreamPredictionsRequest(items=of)


def answer_of(message: Message) -> Message:
    """Return the answer of a unary response, or of a stream's items."""
    if isinstance(message, t.PredictedItems):
        found: Message = getattr(message, message.WhichOneof("predictions") or "")
        return found
    (name,) = [field.name for field in message.DESCRIPTOR.fields if field.name not in ("options", "usage", "timings")]
    unary: Message = getattr(message, name)
    return unary


@pytest.mark.parametrize("name", TASKS)
async def test_a_stream_answers_as_a_call_does(served: Served, name: str) -> None:
    rpc, request, response, stream_options, stream_items = TASKS[name]
    stream_items.first_id = 7
    answered: Any = await served.call(rpc, request, response)
    paid = served.purse.paid
    assert paid == answered.usage.tokens
    started, *parts = await served.stream(options(stream_options), items(stream_items))
    assert served.purse.paid == 2 * paid
    assert len(parts) == 1
    assert answer_of(parts[0].items) == answer_of(answered)
    assert parts[0].items.usage == answered.usage
    count = answered.usage.texts
    assert list(parts[0].items.ids) == list(range(7, 7 + count))
    assert answered.timings.queue.ToMilliseconds() == parts[0].items.timings.queue.ToMilliseconds() == 250
    assert started.started.window == window_of(served.limits)
    effective = getattr(started.started.options, name)
    assert (answered.options.priority, effective.priority) == (y.PRIORITY_INTERACTIVE, y.PRIORITY_BULK)
    effective.priority = y.PRIORITY_INTERACTIVE
    assert effective == answered.options
    assert [job.priority for job in served.dispatcher.jobs] == [INTERACTIVE, BULK]


async def test_candidates(served: Served) -> None:
    request = t.FillMasksRequest(options=t.FillMaskOptions(top_k=2, omit_sequences=True), inputs=batch())
    found = await served.call("FillMasks", request, t.FillMasksResponse)
    assert list(found.candidates.mask_counts) == [1, 2, 1, 1]
    assert list(found.candidates.token_ids) == [20, 21] * 5
    assert list(found.candidates.tokens) == list(served.tokenizer.spelling.names[20:22]) * 5
    assert not found.candidates.sequences
    assert (found.options.top_k, found.options.model) == (2, "stub")
    (job,) = served.dispatcher.jobs
    assert (found.usage.texts, found.usage.tokens) == (4, job.batch.ids.size)


async def test_scoring_counts_all_copies(served: Served) -> None:
    request = t.ScoreTextsRequest(inputs=batch(["a fox", "", "the lazy dog"]))
    found = await served.call("ScoreTexts", request, t.ScoreTextsResponse)
    assert list(found.scores.token_counts) == [2, 0, 3]
    assert found.usage.tokens == 2 * 4 + 3 * 5
    sums = np.array([sum(ids) for ids in (found.scores.token_ids[:2], [], found.scores.token_ids[2:])])
    assert np.allclose(list(found.scores.scores), -sums / 64)


async def test_nothing_but_empty_texts_to_score(served: Served) -> None:
    found = await served.call("ScoreTexts", t.ScoreTextsRequest(inputs=batch(["", ""])), t.ScoreTextsResponse)
    assert list(found.scores.scores) == [0.0, 0.0]
    score = t.PredictionOptions(score_text=t.ScoreTextOptions())
    _, part = await served.stream(options(score), items(t.PredictionItems(ids=[5, 3], inputs=batch(["", ""]))))
    assert list(part.items.ids) == [5, 3]


async def test_documents_are_sorted(served: Served) -> None:
    documents = ["a", "fox", "a", "dog", "sun"]
    wish = t.RerankOptions(label="entailment", function=t.SCORE_FUNCTION_NONE)
    request = t.RerankTextsRequest(options=wish, query="the fox", documents=documents)
    found = await served.call("RerankTexts", request, t.RerankTextsResponse)
    (job,) = served.dispatcher.jobs
    scores = made_up_scores(job.batch, 3)[:, 2]
    assert scores[0] == scores[2]
    assert list(found.document_indexes) == np.argsort(-scores, kind="stable").tolist()
    assert list(found.scores) == sorted(scores.tolist(), reverse=True)
    assert (found.options.top_k, found.usage.texts) == (5, 5)
    request.options.top_k = 2
    best = await served.call("RerankTexts", request, t.RerankTextsResponse)
    assert (list(best.document_indexes), best.options.top_k) == (list(found.document_indexes[:2]), 2)
    pairs = y.TextBatch(pairs=y.TextPairs(first_texts=["the fox"] * 5, second_texts=documents))
    _, part = await served.stream(options(t.PredictionOptions(rerank=wish)), items(t.PredictionItems(inputs=pairs)))
    assert list(part.items.relevances.scores) == scores.tolist()


MASKLESS = t.FillMasksRequest(inputs=batch(["fox", "[MASK]", ""]))
OFF_TARGET = t.FillMasksRequest(options=t.FillMaskOptions(targets=["foxdog"]), inputs=batch())
NO_TEXTS = t.ClassifyZeroShotRequest(options=t.ZeroShotOptions(labels=["x"]))
NO_CHOICES = t.ChooseAnswersRequest(inputs=t.ChoiceLists(prompts=["p", "q"], choices=["a"], choice_counts=[1, 0]))
MANY = t.RerankTextsRequest(query="q", documents=["a"] * 1001)
NO_LABEL = t.RerankTextsRequest(query="q", documents=["a"])
NO_PAIRS = t.PredictNextSentencesRequest(inputs=batch())


@pytest.mark.parametrize(
    ("rpc", "request_message", "reason", "fields"),
    [
        ("FillMasks", MASKLESS, "INVALID_MASK", ["inputs.texts[0]", "inputs.texts[2]"]),
        ("FillMasks", OFF_TARGET, "INVALID_TARGET", ["options.targets[0]"]),
        ("FillMasks", t.FillMasksRequest(), "INVALID_EMPTY_LIST", ["inputs"]),
        ("ClassifyZeroShot", NO_TEXTS, "INVALID_EMPTY_LIST", ["inputs.texts"]),
        ("RerankTexts", t.RerankTextsRequest(query="q"), "INVALID_EMPTY_LIST", ["documents"]),
        ("RerankTexts", MANY, "REQUEST_TOO_LARGE", ["documents"]),
        ("RerankTexts", NO_LABEL, "INVALID_LABEL", ["options.label"]),
        ("ChooseAnswers", NO_CHOICES, "INVALID_EMPTY_LIST", ["inputs.choice_counts[1]"]),
        ("PredictNextSentences", NO_PAIRS, "INVALID_INPUT_KIND", ["inputs.texts"]),
    ],
)
async def test_calls_that_make_no_sense(
    served: Served, rpc: str, request_message: Message, reason: str, fields: list[str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await served.call(rpc, request_message, Message)
    assert details(raised.value) == ("INVALID_ARGUMENT", reason, fields)
    assert not served.dispatcher.jobs


async def test_a_head_that_the_model_lacks(stub: Stub) -> None:
    async with serving(stub("bert", "next_sentence")) as served:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await served.call("FillMasks", t.FillMasksRequest(inputs=batch()), t.FillMasksResponse)
        assert details(raised.value)[:2] == ("FAILED_PRECONDITION", "HEAD_NOT_AVAILABLE")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await served.stream(options(t.PredictionOptions(choose=t.ChooseOptions())))
        assert details(raised.value)[:2] == ("FAILED_PRECONDITION", "HEAD_NOT_AVAILABLE")


BAD, WORSE = b"not utf-8", b"not \xff\xfe\xff-8"


B = BAD.decode()
BAD_PAIR = y.TextPairs(first_texts=["a", "b"], second_texts=["c", B])
BAD_CHOICES = t.ChoiceLists(prompts=["p", "q"], choices=["a", "b", B], choice_counts=[2, 1])


@pytest.mark.parametrize(
    ("rpc", "request_message", "fields"),
    [
        ("FillMasks", t.FillMasksRequest(inputs=batch(["[MASK]", B])), ["inputs.texts[1]"]),
        ("ClassifyZeroShot", t.ClassifyZeroShotRequest(inputs=y.Texts(texts=["a", B])), ["inputs.texts[1]"]),
        ("AnswerQuestions", t.AnswerQuestionsRequest(inputs=BAD_PAIR), ["inputs[1]"]),
        ("RerankTexts", t.RerankTextsRequest(query=B, documents=["a", B]), ["query", "documents[1]"]),
        ("ChooseAnswers", t.ChooseAnswersRequest(inputs=BAD_CHOICES), ["inputs.prompts[1]"]),
    ],
)
async def test_strings_that_are_not_utf8_are_named(
    served: Served, rpc: str, request_message: Message, fields: list[str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await served.call(rpc, request_message.SerializeToString().replace(BAD, WORSE), Message)
    assert details(raised.value) == ("INVALID_ARGUMENT", "INVALID_UTF8", fields)


async def test_copies_of_one_call_are_bounded(served: Served) -> None:
    served.limits = replace(served.limits, stream_tokens=20)
    request = t.ScoreTextsRequest(inputs=batch(["the lazy dog sleeps"]))
    with pytest.raises(grpc.aio.AioRpcError, match=r"have 24 tokens.*StreamPredictions") as raised:
        await served.call("ScoreTexts", request, t.ScoreTextsResponse)
    assert details(raised.value) == ("INVALID_ARGUMENT", "REQUEST_TOO_LARGE", ["inputs"])
    score = t.PredictionOptions(score_text=t.ScoreTextOptions())
    _, part = await served.stream(options(score), items(t.PredictionItems(inputs=request.inputs)))
    assert part.items.usage.tokens == 24


async def test_answers_of_one_call_are_bounded(served: Served) -> None:
    served.limits = replace(served.limits, max_response_bytes=3000)
    pairs = y.TextBatch(pairs=y.TextPairs(first_texts=["fox"] * 900, second_texts=["dog"] * 900))
    requests: list[tuple[str, Message]] = [
        ("FillMasks", t.FillMasksRequest(options=t.FillMaskOptions(top_k=40), inputs=batch(TEXTS * 2))),
        ("ClassifyTexts", t.ClassifyTextsRequest(inputs=batch(["fox"] * 300))),
        ("PredictNextSentences", t.PredictNextSentencesRequest(inputs=pairs)),
    ]
    for rpc, request in requests:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await served.call(rpc, request, Message)
        assert details(raised.value) == ("INVALID_ARGUMENT", "REQUEST_TOO_LARGE", ["inputs"])
    # Masks and labels are counted before.
    assert [job.output_options.head for job in served.dispatcher.jobs] == [HeadOptions("next_sentence", "softmax")]


async def test_a_failed_row_fails_its_item_alone(served: Served) -> None:
    (killer,) = served.tokenizer.ids_of(["lazy"])
    assert killer is not None
    served.dispatcher.killer = killer
    choices = t.ChoiceLists(
        prompts=["fox", "dog", "sun"], choices=["a", "b", "c", "lazy", "d", "e"], choice_counts=[2, 2, 2]
    )
    choose = t.PredictionOptions(choose=t.ChooseOptions())
    _, bad, good = await served.stream(options(choose), items(t.PredictionItems(ids=[10, 20, 30], choices=choices)))
    assert [each.id for each in bad.items.errors] == [20]
    assert reason_and_fields(bad.items.errors[0].status)[0] == "POISONOUS_INPUT"
    assert list(good.items.ids) == [10, 30]
    assert list(good.items.choices.choice_counts) == [2, 2]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await served.call("ChooseAnswers", t.ChooseAnswersRequest(inputs=choices), t.ChooseAnswersResponse)
    assert details(raised.value)[:2] == ("ABORTED", "POISONOUS_INPUT")


async def test_items_that_cannot_be_computed_fail_alone(served: Served) -> None:
    raw = items(t.PredictionItems(first_id=1, inputs=batch(["[MASK]", "fox", BAD.decode()]))).SerializeToString()
    mask = options(t.PredictionOptions(fill_mask=t.FillMaskOptions()))
    _, bad, good = await served.stream(mask, raw.replace(BAD, WORSE))
    failed = {each.id: reason_and_fields(each.status) for each in bad.items.errors}
    assert failed == {
        2: ("INVALID_MASK", ["items.inputs.texts[1]"]),
        3: ("INVALID_UTF8", ["items.inputs.texts[2]"]),
    }
    assert list(good.items.ids) == [1]


async def test_messages_are_cut_by_their_size(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "MESSAGE_BYTES", 600)
    classify = options(t.PredictionOptions(classify_text=t.ClassifyTextOptions()))
    _, *parts = await served.stream(classify, items(t.PredictionItems(inputs=batch(["fox"] * 300))))
    assert len(parts) > 5
    assert all(part.items.labels.ByteSize() <= 600 for part in parts)
    assert [id for part in parts for id in part.items.ids] == list(range(300))
    assert [label for part in parts for label in part.items.labels.label_ids] == [
        *parts[0].items.labels.label_ids[:3]
    ] * 300
    mask = options(t.PredictionOptions(fill_mask=t.FillMaskOptions()))
    _, *parts = await served.stream(mask, items(t.PredictionItems(inputs=batch(TEXTS * 9))))
    assert [id for part in parts for id in part.items.ids] == list(range(36))
    assert all(part.items.candidates.ByteSize() <= 600 for part in parts)


async def test_one_items_answer_may_be_too_large(served: Served) -> None:
    served.limits = replace(served.limits, max_response_bytes=30)
    classify = options(t.PredictionOptions(classify_text=t.ClassifyTextOptions()))
    _, part = await served.stream(classify, items(t.PredictionItems(inputs=batch(["fox"]))))
    (error,) = part.items.errors
    assert reason_and_fields(error.status) == ("REQUEST_TOO_LARGE", ["items.inputs.texts[0]"])


async def test_slices_keep_items_whole(served: Served) -> None:
    served.limits = replace(served.limits, stream_tokens=40, stream_items=3)
    zero = options(t.PredictionOptions(zero_shot=t.ZeroShotOptions(labels=["x", "y", "z"])))
    texts = [f"fox {'dog ' * (i % 5)}" for i in range(40)]
    messages = [items(t.PredictionItems(first_id=i, inputs=batch(texts[i : i + 10]))) for i in range(0, 40, 10)]
    _, *parts = await served.stream(zero, *messages)
    assert sorted(id for part in parts for id in part.items.ids) == list(range(40))
    assert all(job.batch.lengths.size % 3 == 0 for job in served.dispatcher.jobs)
    assert len(served.dispatcher.jobs) > 10
    whole = await served.call(
        "ClassifyZeroShot",
        t.ClassifyZeroShotRequest(options=t.ZeroShotOptions(labels=["x", "y", "z"]), inputs=y.Texts(texts=texts)),
        t.ClassifyZeroShotResponse,
    )
    expected = np.array(whole.labels.scores).reshape(40, 3)
    for part in parts:
        found = np.array(part.items.zero_shot_labels.scores).reshape(-1, 3)
        assert np.array_equal(found, expected[list(part.items.ids)])


async def test_many_labels_are_prepared_in_parts(served: Served) -> None:
    served.limits = replace(served.limits, max_texts=10)
    zero = options(t.PredictionOptions(zero_shot=t.ZeroShotOptions(labels=["x", "y", "z"])))
    _, *parts = await served.stream(zero, items(t.PredictionItems(ids=range(90, 98), inputs=batch(["fox"] * 8))))
    assert [list(part.items.ids) for part in parts] == [[90, 91, 92], [93, 94, 95], [96, 97]]


@pytest.mark.parametrize(
    ("messages", "reason", "fields"),
    [
        ([options(t.PredictionOptions())], "INVALID_TASK", ["options"]),
        ([items(t.PredictionItems())], "INVALID_STREAM", ["options"]),
        (
            [options(t.PredictionOptions(rerank=t.RerankOptions(label="neutral", top_k=3)))],
            "INVALID_COMBINATION",
            ["options.rerank.top_k"],
        ),
        (
            [options(t.PredictionOptions(fill_mask=t.FillMaskOptions(top_k=-3)))],
            "INVALID_RANGE",
            ["options.fill_mask.top_k"],
        ),
        (
            [options(TASKS["choose"][3]), items(t.PredictionItems(inputs=batch()))],
            "INVALID_INPUT_KIND",
            ["items.inputs"],
        ),
        (
            [options(TASKS["fill_mask"][3]), items(t.PredictionItems(choices=CHOICES))],
            "INVALID_INPUT_KIND",
            ["items.choices"],
        ),
        (
            [options(TASKS["choose"][3]), items(t.PredictionItems(choices=CHOICES, inputs=batch()))],
            "INVALID_COMBINATION",
            ["items.choices"],
        ),
    ],
)
async def test_streams_that_make_no_sense(
    served: Served, messages: list[t.StreamPredictionsRequest], reason: str, fields: list[str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await served.stream(*messages)
    assert details(raised.value) == ("INVALID_ARGUMENT", reason, fields)


async def test_errors_of_items_name_the_option_at_fault_by_its_path(served: Served) -> None:
    truncation = y.TruncationOptions(max_length=1)
    asked = {
        "fill_mask": t.PredictionOptions(fill_mask=t.FillMaskOptions(truncation=truncation)),
        "choose": t.PredictionOptions(choose=t.ChooseOptions(truncation=truncation)),
    }
    for name, of in asked.items():
        _, *answers = await served.stream(options(of), items(TASKS[name][4]))
        said = [each.status.message for part in answers for each in part.items.errors]
        assert said
        assert all(message.endswith(f"(see options.{name}.truncation.max_length)") for message in said)
    request = t.FillMasksRequest(options=t.FillMaskOptions(truncation=truncation), inputs=batch(["[MASK]"]))
    with pytest.raises(grpc.aio.AioRpcError, match=r"\(see options\.truncation\.max_length\)"):
        await served.call("FillMasks", request, t.FillMasksResponse)


async def test_a_deadline_is_the_streams(served: Served) -> None:
    served.dispatcher.error = errors.deadline_exceeded()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await served.stream(options(TASKS["fill_mask"][3]), items(t.PredictionItems(inputs=batch())))
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_empty_stream_ends_well(served: Served) -> None:
    assert await served.stream() == []
    (started,) = await served.stream(options(TASKS["fill_mask"][3]))
    assert started.HasField("started")
