"""Entities equal those of transformers' token classification pipeline, where both are given the same logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.bertstream_v1.tasks.entities import parse_classify_tokens
from bertstream.server.protocols.bertstream_v1.tasks.writing import write
from bertstream.v1 import tasks_pb2, tokenization_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE
from tests.server.core.tasks.recogniser import (
    AWKWARD,
    STRATEGIES,
    Setting,
    as_texts,
    as_words,
    assert_same,
    by_item,
    effective_of,
    entities_of,
    options_of,
    task_of,
)
from tests.server.core.tasks.stubs import prepare, share_of, stub_model

UNKNOWN: Any = 77


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("aggregation", STRATEGIES)
def test_texts(setting: Setting, aggregation: str) -> None:
    found = entities_of(setting, options_of(aggregation), as_texts(AWKWARD))
    assert_same(found, [setting.expected(text, aggregation_strategy=aggregation) for text in AWKWARD])
    assert sum(map(len, found)) > 100


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("aggregation", STRATEGIES)
def test_words(setting: Setting, aggregation: str) -> None:
    lists = [text.split() for text in AWKWARD] + [["New York", "", "fox"], ["狐狸", "é", "👍🏽x"]]
    lists = [each for each in lists if each]  # transformers takes no empty list
    found = entities_of(setting, options_of(aggregation), as_words([*lists[:3], [], *lists[3:]]))
    assert found.pop(3) == []
    assert_same(found, [setting.expected(each, aggregation_strategy=aggregation) for each in lists])


@pytest.mark.parametrize("ignored", [["PER"], ["LOC", "X", "unknown"], ["B-PER"], ["O", "MISC"]])
def test_ignored_labels(bert: Setting, ignored: list[str]) -> None:
    for aggregation in ("none", "simple"):
        found = entities_of(bert, options_of(aggregation, ignored_labels=ignored), as_texts(AWKWARD))
        asked: dict[str, Any] = {"aggregation_strategy": aggregation, "ignore_labels": ignored}
        assert_same(found, [bert.expected(text, **asked) for text in AWKWARD])


def test_all_labels(setting: Setting) -> None:
    for aggregation in ("none", "simple"):
        found = entities_of(setting, options_of(aggregation, keep_all_labels=True), as_texts(AWKWARD))
        asked: dict[str, Any] = {"aggregation_strategy": aggregation, "ignore_labels": []}
        assert_same(found, [setting.expected(text, **asked) for text in AWKWARD])
        assert any(entity.get("entity", entity.get("entity_group")) == "O" for text in found for entity in text)


def test_long_texts_are_cut(bert: Setting) -> None:
    options = options_of("simple", truncation=types_pb2.TruncationOptions(max_length=9))
    found = entities_of(bert, options, as_texts(AWKWARD))
    assert_same(found, [bert.expected(text, aggregation_strategy="simple", max_length=9) for text in AWKWARD])
    rows = prepare(task_of(bert, options), as_texts(AWKWARD))
    assert rows.truncated.any()
    assert not prepare(task_of(bert, options_of("simple", windows=True)), as_texts(AWKWARD)).truncated.any()


@pytest.mark.parametrize("unit", ["UTF16_UNITS", "UTF8_BYTES"])
def test_offset_units(setting: Setting, unit: str) -> None:
    texts = [*AWKWARD, "😀 fox 😀 dog 👍🏽 é fox"]
    encoding, width = ("utf-16-le", 2) if unit == "UTF16_UNITS" else ("utf-8", 1)
    asked = tokenization_pb2.OffsetUnit.Value(f"OFFSET_UNIT_{unit}")
    by_unit = entities_of(setting, options_of("simple", offset_unit=asked), as_texts(texts))
    by_code_point = entities_of(setting, options_of("simple"), as_texts(texts))
    for text, ours, expected in zip(texts, by_unit, by_code_point, strict=True):
        for entity, same in zip(ours, expected, strict=True):
            for end in ("start", "end"):
                assert entity[end] == len(text[: same[end]].encode(encoding)) // width
    words = entities_of(setting, options_of("simple", offset_unit=asked), as_words([text.split(" ") for text in texts]))
    in_code_points = entities_of(setting, options_of("simple"), as_words([text.split(" ") for text in texts]))
    for text, ours, expected in zip(texts, words, in_code_points, strict=True):
        assert [each["start"] for each in ours] == [
            len(text[: each["start"]].encode(encoding)) // width for each in expected
        ]


@pytest.mark.parametrize("aggregation", ["none", "simple"])
def test_token_ids(setting: Setting, aggregation: str) -> None:
    task = task_of(setting, options_of(aggregation))
    texts = [text for text in AWKWARD if "[SEP]" not in text]  # ids do not show which special tokens were typed
    tokens = prepare(task, as_texts(texts)).batch
    lists = types_pb2.TokenIdLists(token_ids=tokens.ids, lengths=tokens.lengths)
    found = entities_of(setting, options_of(aggregation), types_pb2.TextBatch(token_ids=lists))
    same = entities_of(setting, options_of(aggregation), as_texts(texts))
    unknown = setting.model.description.special_tokens["unk"][0]
    for ours, expected in zip(found, same, strict=True):
        assert [each["score"] for each in ours] == [each["score"] for each in expected]
        assert [each["start"] for each in ours] == [None] * len(expected)
        for entity, like in zip(ours, expected, strict=True):
            assert unknown in entity["word"] or entity["word"] == like["word"]


def test_some_items_of_a_message(setting: Setting) -> None:
    options = options_of("average", windows=True, truncation=types_pb2.TruncationOptions(max_length=16))
    task = task_of(setting, options)
    rows = prepare(task, as_texts(AWKWARD))
    tensors = setting.tensors(rows)
    whole = by_item(write(task.answer(rows, share_of(rows, range(len(AWKWARD)), tensors))), task.aggregation)
    assert sum(map(len, whole)) > 20
    for items in ([0], [3, 7], [len(AWKWARD) - 1], [5, 6, 7, 8]):
        part = by_item(write(task.answer(rows, share_of(rows, items, tensors))), task.aggregation)
        assert part == [whole[item] for item in items]


def test_a_bad_item_leaves_its_neighbours_alone(bert: Setting) -> None:
    options = options_of(
        "simple", truncation=types_pb2.TruncationOptions(strategy=types_pb2.TRUNCATION_STRATEGY_REFUSE, max_length=8)
    )
    task = task_of(bert, options)
    rows = prepare(task, as_texts(["fox", "the quick brown fox jumps over the dog", "dog", "?"]), bad=[3])
    assert {index: error.reason for index, error in rows.failed.items()} == {
        1: "INVALID_TEXT_LENGTH",
        3: "INVALID_UTF8",
    }
    assert rows.failed[1].violations[0].field == "inputs.texts[1]"
    answer: Any = write(task.answer(rows, share_of(rows, [0, 2], bert.tensors(rows))))
    assert len(answer.entity_counts) == 2


def test_the_least_size_of_an_answer(setting: Setting) -> None:
    task = task_of(setting, options_of("none", keep_all_labels=True))
    rows = prepare(task, as_texts(AWKWARD))
    assert rows.least_bytes is not None
    tensors, items = setting.tensors(rows), range(len(AWKWARD))
    sizes = [write(task.answer(rows, share_of(rows, [item], tensors))).ByteSize() for item in items]
    assert (rows.least_bytes <= sizes).all()
    assert rows.least_bytes.sum() > sum(sizes) / 4
    assert prepare(task_of(setting, options_of("none")), as_texts(AWKWARD)).least_bytes is None


def test_effective_options(bert: Setting) -> None:
    plain = effective_of(bert, tasks_pb2.ClassifyTokenOptions())
    assert (plain.model, list(plain.ignored_labels), plain.HasField("stride")) == ("stub", ["O"], False)
    assert plain.aggregation == tasks_pb2.AGGREGATION_STRATEGY_SIMPLE
    assert plain.truncation.max_length == 512
    assert plain.offset_unit == tokenization_pb2.OFFSET_UNIT_CODE_POINTS
    assert plain.priority == types_pb2.PRIORITY_INTERACTIVE
    assert effective_of(bert, options_of("max", windows=True)).stride == 128
    none = options_of("max", windows=True, stride=0)
    assert (effective_of(bert, none).HasField("stride"), effective_of(bert, none).stride) == (True, 0)
    assert task_of(bert, none).tokenize.stride == 0
    everything = effective_of(bert, options_of("none", keep_all_labels=True))
    assert everything.keep_all_labels
    assert not everything.ignored_labels


def test_output_options(bert: Setting) -> None:
    output_options = task_of(bert, options_of("first")).output_options
    assert output_options.outputs == ("token_label_scores",)
    assert output_options.head is not None
    assert (output_options.head.name, output_options.head.function) == ("token_classification", "softmax")


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        (options_of("simple", stride=3), "options.stride", "INVALID_COMBINATION"),
        (options_of("simple", stride=0), "options.stride", "INVALID_COMBINATION"),
        (options_of("simple", windows=True, stride=-1), "options.stride", "INVALID_RANGE"),
        (options_of("simple", windows=True, stride=512), "options.stride", "INVALID_RANGE"),
        (
            options_of("simple", keep_all_labels=True, ignored_labels=["O"]),
            "options.keep_all_labels",
            "INVALID_COMBINATION",
        ),
        (tasks_pb2.ClassifyTokenOptions(aggregation=UNKNOWN), "options.aggregation", "INVALID_ENUM"),
        (tasks_pb2.ClassifyTokenOptions(offset_unit=UNKNOWN), "options.offset_unit", "INVALID_ENUM"),
        (tasks_pb2.ClassifyTokenOptions(priority=UNKNOWN), "options.priority", "INVALID_ENUM"),
        (
            tasks_pb2.ClassifyTokenOptions(truncation=types_pb2.TruncationOptions(max_length=513)),
            "options.truncation.max_length",
            "INVALID_RANGE",
        ),
    ],
)
def test_options_that_make_no_sense(
    bert: Setting, options: tasks_pb2.ClassifyTokenOptions, field: str, reason: str
) -> None:
    with pytest.raises(RequestError) as raised:
        task_of(bert, options)
    assert (raised.value.reason, raised.value.violations[0].field) == (reason, field)


@pytest.mark.parametrize(
    ("options", "batch", "reason"),
    [
        (
            options_of("simple"),
            types_pb2.TextBatch(pairs=types_pb2.TextPairs(first_texts=["a"], second_texts=["b"])),
            "INVALID_INPUT_KIND",
        ),
        (
            options_of("first"),
            types_pb2.TextBatch(token_ids=types_pb2.TokenIdLists(token_ids=[5], lengths=[1])),
            "INVALID_COMBINATION",
        ),
        (
            options_of("simple", windows=True),
            types_pb2.TextBatch(token_ids=types_pb2.TokenIdLists(token_ids=[5], lengths=[1])),
            "INVALID_COMBINATION",
        ),
        (options_of("simple"), types_pb2.TextBatch(texts=types_pb2.Texts()), "INVALID_EMPTY_LIST"),
    ],
)
def test_inputs_that_make_no_sense(
    bert: Setting, options: tasks_pb2.ClassifyTokenOptions, batch: types_pb2.TextBatch, reason: str
) -> None:
    with pytest.raises(RequestError) as raised:
        prepare(task_of(bert, options), batch)
    assert raised.value.reason == reason


def test_a_model_without_the_head(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    model = stub_model(checkpoint("bert"), tmp_path, "fill_mask")
    with pytest.raises(RequestError) as raised:
        parse_classify_tokens(tasks_pb2.ClassifyTokenOptions(), model, INTERACTIVE, "options")
    assert raised.value.reason == "HEAD_NOT_AVAILABLE"
    assert raised.value.metadata["heads"] == "fill_mask"
