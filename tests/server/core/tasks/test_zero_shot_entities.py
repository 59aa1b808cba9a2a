"""Labels come before a text, windows read long ones, and options that make no sense are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from bertstream.server.core.errors import Code, RequestError
from bertstream.server.core.tasks.base import Rows, Share
from bertstream.server.core.tasks.entities import Entities
from bertstream.server.core.tasks.labelled_words import split
from bertstream.server.core.tasks.zero_shot_entities import FindEntities, WordContext
from bertstream.server.core.tokenization import Texts, Words
from bertstream.server.protocols.bertstream_v1.tasks.entities import parse_entities
from bertstream.v1 import tasks_pb2, tokenization_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE
from bertstream.workers.programs.description import EntityDescription
from tests.server.core.tasks.stubs import StubModel, prepare

LABELS = ["quick person", "lazy dog"]
LONGEST = 3
# Marks that the stub's tokenizer has.
MARKED = EntityDescription(longest=LONGEST, max_words=30, label_token="[MASK]", text_token="[SEP]")
LONG = "The quick brown fox-trot jumps, over the lazy dog; and then it sleeps in the sun for a while. " * 4
Stub = Callable[..., StubModel]


@pytest.fixture
def model(stub: Stub) -> StubModel:
    return stub("bert", "zero_shot_entities", zero_shot_entities=MARKED)


def options_of(**options: Any) -> tasks_pb2.ClassifyTokenOptions:
    truncation = types_pb2.TruncationOptions(**options.pop("truncation", {}))
    return tasks_pb2.ClassifyTokenOptions(truncation=truncation, **{"labels": LABELS, **options})


def task_of(model: StubModel, **options: Any) -> FindEntities:
    task = parse_entities(options_of(**options), model, INTERACTIVE).task
    assert isinstance(task, FindEntities)
    return task


def texts(*some: str) -> types_pb2.TextBatch:
    return types_pb2.TextBatch(texts=types_pb2.Texts(texts=some))


def word_lists(*lists: Sequence[str]) -> types_pb2.TextBatch:
    words = [word for each in lists for word in each]
    return types_pb2.TextBatch(word_lists=types_pb2.WordLists(words=words, word_counts=map(len, lists)))


def score(words: Sequence[str], label: int) -> float:
    """Return a made-up probability that depends on a span's words and the label alone."""
    return (sum(map(ord, "".join(words))) * 37 + 11 * len(words) + 59 * label) % 97 / 97


def answered(task: FindEntities, rows: Rows[WordContext], threshold: float = 0.6) -> Entities:
    """Answer all items, where a worker has found spans by `score`."""
    context, labels = rows.context, len(task.labels)
    assert rows.batch.spans is not None
    columns: dict[str, list[Any]] = {name: [] for name in ("starts", "ends", "labels", "scores", "counts")}
    for row, count in enumerate(rows.batch.spans.counts.tolist()):
        before = len(columns["starts"])
        first = context.firsts[row]
        words = [context.texts.words[i] for i in context.words[first : first + count - labels].tolist()]
        for start in range(len(words)):
            for end in range(start, min(start + LONGEST, len(words))):
                for label in range(labels):
                    if (its := score(words[start : end + 1], label)) > threshold:
                        values = (start, end, label, its)
                        for name, value in zip(("starts", "ends", "labels", "scores"), values, strict=True):
                            columns[name].append(value)
        columns["counts"].append(len(columns["starts"]) - before)
    types = {"scores": np.float32}
    tensors = {f"entity_spans.{name}": np.array(each, types.get(name, np.int32)) for name, each in columns.items()}
    items, counts = np.unique(rows.items, return_counts=True)
    share = Share(items.astype(np.int64), np.arange(rows.items.size), counts, tensors)
    return task.answer(rows, share)


def listed(found: Entities) -> list[tuple[Any, ...]]:
    starts, ends = (np.asarray(each).tolist() for each in (found.starts, found.ends))
    return list(zip(found.labels, starts, ends, found.words, found.scores.tolist(), strict=True))


def test_texts_are_split_as_the_models_were_trained() -> None:
    found = split(Texts(["Angela's fox-trot, in_2015 .", "", " ½日本 "]))
    assert found.words == ["Angela", "'", "s", "fox-trot", ",", "in_2015", ".", "½日本"]
    assert found.counts.tolist() == [7, 0, 1]
    assert (found.starts.tolist()[:4], found.ends.tolist()[:4]) == ([0, 6, 7, 9], [6, 7, 8, 17])
    given = split(Words(["New York", "", "x"], np.array([2, 1], np.int32)))
    assert (given.texts, given.starts.tolist(), given.ends.tolist()) == (["New York ", "x"], [0, 9, 0], [8, 9, 1])


def test_labels_stand_before_each_text_and_spans_name_them_and_the_words(model: StubModel) -> None:
    rows = prepare(task_of(model), texts("Unbelievable brown foxes", "fox"))
    names, spans = model.tokenizer.spelling.names, rows.batch.spans
    assert spans is not None
    tokens = [names[i] for i in rows.batch.ids.tolist()]
    first = tokens[: rows.batch.lengths[0]]
    assert first[:2] == ["[CLS]", "[MASK]"]
    assert first.count("[MASK]") == 2
    assert first.count("[SEP]") == 2
    assert spans.counts.tolist() == [2 + 3, 2 + 1]
    at = spans.starts[: spans.counts[0]].tolist()
    assert [first[place] for place in at[:2]] == ["[MASK]", "[MASK]"]
    assert at[2] == first.index("[SEP]") + 1
    assert not any(first[place].startswith("##") for place in at)
    named = task_of(replace(model, description=_reading_names(model)))
    assert named.prompt.places.tolist() == [place + 1 for place in task_of(model).prompt.places.tolist()]


def _reading_names(model: StubModel) -> Any:
    own = msgspec.structs.replace(MARKED, reads_name=True)
    return msgspec.structs.replace(model.description, zero_shot_entities=own)


@pytest.mark.parametrize("side", [types_pb2.TRUNCATION_SIDE_RIGHT, types_pb2.TRUNCATION_SIDE_LEFT])
@pytest.mark.parametrize("options", [{}, {"nested": True, "multi_label": True}])
@pytest.mark.parametrize(("max_length", "stride"), [(60, None), (45, 14), (512, 25)])
def test_windows_find_what_the_whole_text_has(
    stub: Stub, side: Any, options: dict[str, bool], max_length: int, stride: int | None
) -> None:
    """Where a span means the same in every window, and is whole in one of them."""
    whole = stub("bert", "zero_shot_entities", zero_shot_entities=EntityDescription(LONGEST, 500, "[MASK]", "[SEP]"))
    items = texts("Größere fox", LONG, "", "fox")
    wanted = task_of(whole, **options)
    in_windows = stub("bert", "zero_shot_entities", zero_shot_entities=MARKED)
    truncation = {"max_length": max_length, "side": side}
    task = task_of(in_windows, truncation=truncation, windows=True, stride=stride, **options)
    rows = prepare(task, items)
    assert rows.items.size > 4
    assert not rows.truncated.any()
    found = answered(task, rows)
    expected = answered(wanted, prepare(wanted, items))
    assert listed(found) == listed(expected)
    assert found.entity_counts.tolist() == expected.entity_counts.tolist()
    assert found.entity_counts[1] > 9


def test_a_word_that_a_window_cuts_is_read_where_it_is_whole(model: StubModel) -> None:
    task = task_of(model, truncation={"max_length": 18}, windows=True, stride=0)
    rows = prepare(task, texts("unbelievableness unbelievableness unbelievableness"))
    context = rows.context
    assert rows.items.size > 1
    assert context.words.size < 3 * rows.items.size
    ends = [*context.firsts[1:].tolist(), context.words.size]
    for row, (first, last) in enumerate(zip(context.firsts.tolist(), ends, strict=True)):
        assert rows.batch.spans is not None
        assert rows.batch.spans.counts[row] == 2 + last - first


def test_long_texts_are_cut_to_what_the_model_reads(model: StubModel) -> None:
    words = [f"w{i}" for i in range(40)]
    for side, kept in ((types_pb2.TRUNCATION_SIDE_RIGHT, words[:30]), (types_pb2.TRUNCATION_SIDE_LEFT, words[10:])):
        rows = prepare(task_of(model, truncation={"side": side}), word_lists(words, ["a"]))
        context = rows.context
        assert [context.texts.words[i] for i in context.words.tolist()] == [*kept, "a"]
        assert rows.truncated.tolist() == [True, False]
    refusing = {"strategy": types_pb2.TRUNCATION_STRATEGY_REFUSE}
    rows = prepare(task_of(model, truncation=refusing), word_lists(words, ["a"]))
    assert rows.items.tolist() == [1]
    assert "inputs.word_lists[0]: has 40 words, more than the 30" in rows.failed[0].message


def test_offsets_in_other_units_and_in_lists_of_words(model: StubModel) -> None:
    text, unit = "🚀 fox 🎉 dog", tokenization_pb2.OFFSET_UNIT_UTF16_UNITS
    found = answered(task := task_of(model, offset_unit=unit), prepare(task, texts(text)), 0.0)
    parts = [text.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le") for _, start, end, *_ in listed(found)]
    assert found.words == parts
    assert len(parts) > 1
    found = answered(task := task_of(model), prepare(task, word_lists(["New York", "fox"], ["🚀", "dog"])), 0.0)
    sentences = [
        each for each, count in zip(("New York fox", "🚀 dog"), found.entity_counts, strict=True) for _ in range(count)
    ]
    assert found.words == [text[start:end] for text, (_, start, end, *_) in zip(sentences, listed(found), strict=True)]


@pytest.mark.parametrize(
    ("options", "reason", "message"),
    [
        ({"labels": []}, "INVALID_EMPTY_LIST", "options.labels: the list is empty; say what to look for"),
        ({"labels": ["a", " "]}, "INVALID_LABEL", r"options.labels\[1\]: it is empty"),
        ({"labels": ["a", "a"]}, "INVALID_LABEL", r"options.labels\[1\]: it is there twice"),
        ({"labels": ["a"] * 2000}, "REQUEST_TOO_LARGE", "options.labels: 2000 labels; the limit is 1000"),
        (
            {"labels": ["fox " * 600]},
            "INVALID_TEXT_LENGTH",
            "options.labels: with their marks they have more than 509 tokens, which leaves no room for a text",
        ),
        (
            {"truncation": {"max_length": 3}},
            "INVALID_TEXT_LENGTH",
            "more than 0 tokens, which leaves no room for a text",
        ),
        ({"threshold": 1.0}, "INVALID_RANGE", "options.threshold: 1 is not between 0 and 1"),
        ({"threshold": float("nan")}, "INVALID_RANGE", "options.threshold: nan is not between 0 and 1"),
        ({"stride": 3}, "INVALID_COMBINATION", "options.stride: it means something only with windows"),
        ({"aggregation": 2}, "INVALID_COMBINATION", "options.aggregation: it goes with a checkpoint's own labels"),
        ({"ignored_labels": ["O"]}, "INVALID_COMBINATION", "options.ignored_labels: it goes with"),
        ({"keep_all_labels": True}, "INVALID_COMBINATION", "options.keep_all_labels: it goes with"),
    ],
)
def test_options_that_are_refused(model: StubModel, options: dict[str, Any], reason: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as raised:
        task_of(model, **options)
    assert (raised.value.code, raised.value.reason) == (Code.INVALID_ARGUMENT, reason)


def test_a_model_with_labels_of_its_own_takes_none(stub: Stub) -> None:
    own = stub("bert", "token_classification", labels=("O", "B-X"))
    for options, code, message in (
        ({}, Code.FAILED_PRECONDITION, "options.labels: this checkpoint has labels of its own: leave yours out"),
        ({"labels": [], "threshold": 0.5}, Code.INVALID_ARGUMENT, "options.threshold: it goes with labels"),
        ({"labels": [], "nested": True}, Code.INVALID_ARGUMENT, "options.nested: it goes with labels"),
        ({"labels": [], "multi_label": True}, Code.INVALID_ARGUMENT, "options.multi_label: it goes with labels"),
    ):
        with pytest.raises(RequestError, match=message) as raised:
            parse_entities(options_of(**options), own, INTERACTIVE)
        assert raised.value.code == code
        assert raised.value.violations[0].field == message.split(":")[0]
    with pytest.raises(RequestError, match="no head token_classification"):
        parse_entities(options_of(), stub("bert"), INTERACTIVE)


def test_token_ids_are_refused(model: StubModel) -> None:
    ids = types_pb2.TextBatch(token_ids=types_pb2.TokenIdLists(token_ids=[5], lengths=[1]))
    with pytest.raises(RequestError, match="takes texts or word_lists"):
        prepare(task_of(model), ids)


def test_the_options_in_effect(model: StubModel) -> None:
    effective = parse_entities(options_of(windows=True), model, INTERACTIVE).effective
    assert (effective.threshold, list(effective.labels), effective.truncation.max_length) == (0.5, LABELS, 512)
    assert (effective.stride, effective.aggregation) == (7, 0)  # a quarter of 30 tokens, as many as there are words
