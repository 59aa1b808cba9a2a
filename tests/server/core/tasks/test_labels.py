"""Labels of texts, relevances of documents and next sentences: their options, and answers from the head's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.preparation import refuse_failed
from bertstream.server.core.sent import Sent, SentItems
from bertstream.server.core.tasks.base import Rows, Share
from bertstream.server.core.tasks.labels import ClassifyTexts, Relevances, RerankTexts, sort_documents
from bertstream.server.core.tasks.sentences import PredictNextSentences
from bertstream.server.core.tasks.similarities import rerank_by_similarity
from bertstream.server.core.tokenization import Pairs, Truncation
from bertstream.server.protocols.bertstream_v1.tasks.labels import parse_classify, parse_rerank
from bertstream.server.protocols.bertstream_v1.tasks.sentences import parse_next_sentence
from bertstream.server.protocols.bertstream_v1.tasks.writing import write
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE
from bertstream.workers.programs.description import MultiVectorDescription
from tests.server.core.tasks.conftest import Stub
from tests.server.core.tasks.stubs import prepare
from tests.server.protocols.bertstream_v1.validation.support import refused

HEAD = "sequence_classification"
SOFTMAX, SIGMOID, NONE = (
    tasks_pb2.SCORE_FUNCTION_SOFTMAX,
    tasks_pb2.SCORE_FUNCTION_SIGMOID,
    tasks_pb2.SCORE_FUNCTION_NONE,
)
PAIRS = types_pb2.TextBatch(pairs=types_pb2.TextPairs(first_texts=["a fox", "b"], second_texts=["c", "d"]))


def classify(stub: Stub, labels: tuple[str, ...] = ("bad", "good", "so"), **changed: Any) -> ClassifyTexts:
    options = changed.pop("options", tasks_pb2.ClassifyTextOptions())
    return parse_classify(options, stub("bert", HEAD, labels=labels, **changed), INTERACTIVE, "options").task


def rerank(stub: Stub, labels: tuple[str, ...], options: dict[str, Any], **changed: Any) -> RerankTexts:
    model = stub("bert", HEAD, labels=labels, **changed)
    task = parse_rerank(tasks_pb2.RerankOptions(**options), model, INTERACTIVE, "options").task
    assert isinstance(task, RerankTexts)
    return task


def documents(queries: list[str], listed: list[str]) -> SentItems:
    return Sent(Pairs(queries, listed), "documents", "documents", of_pairs=("query", "documents[]"))


def share(rows: Rows[Any], **tensors: Any) -> Share:
    numbers = {name.replace("__", "."): np.array(values) for name, values in tensors.items()}
    return Share(rows.items.astype(np.int64), np.arange(rows.items.size), np.ones(rows.items.size, np.int64), numbers)


def test_how_large_an_answer_is_is_known_before_anything_is_computed(stub: Stub) -> None:
    task = classify(stub, options=tasks_pb2.ClassifyTextOptions(top_k=2))
    rows = prepare(task, PAIRS, bad=[0])
    assert rows.least_bytes is not None
    assert rows.least_bytes.tolist() == [0, 10]
    labels = write(task.answer(rows, share(rows, label_scores__ids=[[1, 0]], label_scores__scores=[[0.75, 0.25]])))
    assert labels.ByteSize() >= 10


def test_labels_come_as_the_workers_sort_them(stub: Stub) -> None:
    task = classify(stub, options=tasks_pb2.ClassifyTextOptions(top_k=2))
    rows = prepare(task, PAIRS)
    head = task.output_options.head
    assert head is not None
    assert (head.name, head.function, head.top_k) == (HEAD, "softmax", 2)
    labels = write(
        task.answer(rows, share(rows, label_scores__ids=[[1, 0], [2, 0]], label_scores__scores=[[0.75, 0.25]] * 2))
    )
    assert labels == tasks_pb2.TextLabels(
        labels=["bad", "good", "so"], label_counts=[2, 2], label_ids=[1, 0, 2, 0], scores=[0.75, 0.25] * 2
    )


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [("sigmoid", 0, SIGMOID), ("none", 0, NONE), ("softmax", NONE, NONE), ("none", SOFTMAX, SOFTMAX)],
)
def test_the_function_is_the_checkpoints_unless_another_is_asked_for(
    stub: Stub, own: str, asked: tasks_pb2.ScoreFunction.ValueType, expected: int
) -> None:
    model = stub("bert", HEAD, labels=("bad", "good", "so"), score_function=own)
    effective = parse_classify(tasks_pb2.ClassifyTextOptions(function=asked), model, INTERACTIVE, "options").effective
    assert (effective.function, effective.top_k) == (expected, 3)


def test_more_labels_than_there_are_are_all(stub: Stub) -> None:
    task = classify(stub, options=tasks_pb2.ClassifyTextOptions(top_k=99))
    assert task.output_options.head is not None
    assert task.output_options.head.top_k == 3


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        (tasks_pb2.ClassifyTextOptions(top_k=-1), "INVALID_RANGE", "options.top_k"),
        (tasks_pb2.ClassifyTextOptions(function=8), "INVALID_ENUM", "options.function"),  # type: ignore[arg-type]
    ],
)
def test_classification_that_makes_no_sense(
    stub: Stub, options: tasks_pb2.ClassifyTextOptions, reason: str, field: str
) -> None:
    with pytest.raises(RequestError) as raised:
        classify(stub, options=options)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, field)


@pytest.mark.parametrize(
    ("labels", "options", "own", "function", "label"),
    [
        (("score",), {}, "", SIGMOID, "score"),
        (("score",), {}, "none", NONE, "score"),
        (("score",), {"function": SOFTMAX}, "none", SOFTMAX, "score"),
        (("no", "yes"), {"label": "yes"}, "", SOFTMAX, "yes"),
        (("no", "yes"), {"label": "yes"}, "sigmoid", SIGMOID, "yes"),
    ],
)
def test_defaults_of_reranking(
    stub: Stub, labels: tuple[str, ...], options: dict[str, Any], own: str, function: int, label: str
) -> None:
    model = stub("bert", HEAD, labels=labels, rerank_function=own)
    effective = parse_rerank(tasks_pb2.RerankOptions(**options), model, INTERACTIVE, "options").effective
    assert (effective.function, effective.label) == (function, label)
    assert effective.truncation.strategy == types_pb2.TRUNCATION_STRATEGY_ONLY_SECOND


def test_the_named_labels_score_counts(stub: Stub) -> None:
    task = rerank(stub, ("no", "yes"), {"label": "yes"})
    rows = task.prepare(documents(["q"] * 3, ["a", "b", "c"]))
    relevances: Any = write(task.answer(rows, share(rows, label_scores=[[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])))
    assert list(relevances.scores) == [0.25, 0.5, 0.875]


@pytest.mark.parametrize(("label", "named"), [("", "several labels"), ("maybe", "no label has this name")])
def test_labels_that_do_not_say_which(stub: Stub, label: str, named: str) -> None:
    with pytest.raises(RequestError, match=rf"{named}.*no, yes") as raised:
        rerank(stub, ("no", "yes"), {"label": label})
    assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_LABEL", "options.label")


def test_only_documents_are_cut(stub: Stub) -> None:
    task = rerank(stub, ("score",), {"truncation": types_pb2.TruncationOptions(max_length=8)})
    rows = task.prepare(documents(["the lazy dog"] * 2, ["fox " * 9, "fox"]))
    assert rows.truncated.tolist() == [True, False]
    long = task.prepare(documents(["dog " * 9] * 2, ["fox", "fox " * 3]))
    assert {error.reason for error in long.failed.values()} == {"INVALID_TEXT_LENGTH"}
    assert long.failed[1].violations[0].field == "query"
    assert long.failed[0].message == (
        "query: the query has 12 tokens with the special ones, which leaves no room for the other in 8"
    )


def test_a_query_that_is_too_long_is_named_once(stub: Stub) -> None:
    task = rerank(stub, ("score",), {"truncation": types_pb2.TruncationOptions(max_length=8)})
    with pytest.raises(RequestError) as raised:
        refuse_failed(task.prepare(documents(["dog " * 9] * 3, ["fox", "fox", "the lazy dog"])).failed)
    assert [each.field for each in raised.value.violations] == ["query"]
    in_stream = prepare(
        task, types_pb2.TextBatch(pairs=types_pb2.TextPairs(first_texts=["a " * 9], second_texts=["b"]))
    )
    assert in_stream.failed[0].message.startswith("inputs.pairs[0]: the query has 12 tokens")


def test_a_query_or_a_document_that_may_not_be_cut_is_named(stub: Stub) -> None:
    refuse = types_pb2.TruncationOptions(max_length=8, strategy=types_pb2.TRUNCATION_STRATEGY_REFUSE)
    task = rerank(stub, ("score",), {"truncation": refuse})
    for query, document, field in (
        ("dog " * 9, "fox", "query"),
        ("dog", "fox " * 9, "documents[0]"),
        ("dog " * 4, "fox " * 4, "documents[0]"),
    ):
        (error,) = task.prepare(documents([query], [document])).failed.values()
        assert (error.reason, error.violations[0].field) == ("INVALID_TEXT_LENGTH", field)


def test_late_interaction_names_the_query_that_is_too_long(stub: Stub) -> None:
    model = stub("bert", "multi_vector", multi_vector=MultiVectorDescription(8))
    task = rerank_by_similarity(model, Truncation("refuse", 8), INTERACTIVE)
    for query, document, field in (("dog", "fox " * 9, "documents[0]"), ("dog " * 600, "fox", "query")):
        (error,) = task.prepare(documents([query], [document])).failed.values()
        assert (error.reason, error.violations[0].field) == ("INVALID_TEXT_LENGTH", field)


def test_documents_are_sorted_and_the_earlier_one_is_first_where_two_are_equal() -> None:
    relevances = Relevances(np.array([0.5, 0.75, 0.5, -1.0, 0.75], np.float32))
    assert sort_documents(relevances, 0) == ([1, 4, 0, 2, 3], [0.75, 0.75, 0.5, 0.5, -1.0])
    assert sort_documents(relevances, 3)[0] == [1, 4, 0]


def next_sentences(stub: Stub) -> PredictNextSentences:
    model = stub("bert", "next_sentence")
    return parse_next_sentence(tasks_pb2.NextSentenceOptions(), model, INTERACTIVE, "options").task


def test_the_first_number_is_that_of_following(stub: Stub) -> None:
    task = next_sentences(stub)
    rows = prepare(task, PAIRS)
    assert rows.batch.type_ids is not None
    assert write(task.answer(rows, share(rows, label_scores=[[0.75, 0.25], [0.5, 0.5]]))) == tasks_pb2.NextSentences(
        probabilities=[0.75, 0.5]
    )


@pytest.mark.parametrize(
    ("inputs", "reason", "field"),
    [
        (types_pb2.TextBatch(texts=types_pb2.Texts(texts=["a"])), "INVALID_INPUT_KIND", "inputs.texts"),
        (types_pb2.TextBatch(), "INVALID_EMPTY_LIST", "inputs"),
        (
            types_pb2.TextBatch(token_ids=types_pb2.TokenIdLists(token_ids=[2, 9, 3], lengths=[3])),
            "INVALID_LENGTHS",
            "inputs.token_ids.token_type_ids",
        ),
    ],
)
def test_what_are_no_pairs_of_sentences(stub: Stub, inputs: types_pb2.TextBatch, reason: str, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        prepare(next_sentences(stub), inputs)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, field)


def test_token_ids_say_which_are_of_the_second_text(stub: Stub) -> None:
    ids = types_pb2.TokenIdLists(token_ids=[2, 9, 3] * 3, lengths=[3, 3, 0, 3], token_type_ids=[0, 0, 1] + [0] * 6)
    batch = types_pb2.TextBatch(token_ids=ids)
    rows = prepare(next_sentences(stub), batch)
    assert rows.items.tolist() == [0]
    assert {index: (error.reason, error.violations[0].field) for index, error in rows.failed.items()} == {
        1: ("INVALID_TOKEN_TYPE_ID", "inputs.token_ids[1]"),
        2: ("INVALID_EMPTY_TEXT", "inputs.token_ids[2]"),
        3: ("INVALID_TOKEN_TYPE_ID", "inputs.token_ids[3]"),
    }
    model = stub("bert", "next_sentence", type_vocabulary_size=1)
    alike = parse_next_sentence(tasks_pb2.NextSentenceOptions(), model, INTERACTIVE, "options").task
    assert 1 not in prepare(alike, batch).failed


def test_texts_that_are_not_utf8_fail_alone(stub: Stub) -> None:
    rows = prepare(classify(stub), PAIRS, "items.inputs", bad=[1])
    assert rows.items.tolist() == [0]
    assert (rows.failed[1].reason, rows.failed[1].violations[0].field) == ("INVALID_UTF8", "items.inputs.pairs[1]")
