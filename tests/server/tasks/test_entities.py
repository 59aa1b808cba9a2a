"""Entities equal those of transformers' token classification pipeline, where both are given the same logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer
from transformers.pipelines.token_classification import TokenClassificationPipeline

from bertstream.server.errors import RequestError
from bertstream.server.tasks.base import Rows
from bertstream.server.tasks.entities import ClassifyTokens, parse_classify_tokens
from bertstream.server.tasks.sent import Sent
from bertstream.v1 import tasks_pb2, tokenization_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE
from tests.server.tasks.stubs import StubModel, share_of, stub_model
from tests.support.checkpoints import TEXTS

Floats = NDArray[np.float32]
Entity = dict[str, Any]

FAMILIES = ["bert", "bert-cased", "roberta", "xlm-roberta", "camembert", "distilbert", "electra"]
STRATEGIES = ["none", "simple", "first", "average", "max"]
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC", "GPE-X")
SEED = 11
UNKNOWN: Any = 77
AWKWARD = [
    *TEXTS,
    "[CLS] typed [SEP] by hand [MASK] <s> <mask> </s>",
    "don't can't it's; New-York, (well) ... e.g. 3.14 $5",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈 fox\tfox\n fox  fox",
    "  leading and trailing   spaces  ",
    "ᚠ fox ᚠᛇᚻ dog",
]


class Setting:
    """A tokenizer, read by us and by transformers, and made-up logits for its tokens."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.model: StubModel = stub_model(checkpoint, folder, "token_classification", labels=LABELS)
        random = np.random.default_rng(SEED)
        self._by_id = random.normal(size=(self.model.description.vocabulary_size, len(LABELS))) * 2
        self._by_place = random.normal(size=(4096, len(LABELS)))
        self._pipeline = _pipeline(checkpoint)

    def logits(self, ids: Sequence[int]) -> Floats:
        """[n, labels]; what the id says, and what its place in the row says"""
        logits: Floats = (self._by_id[list(ids)] + self._by_place[: len(ids)]).astype(np.float32)
        return logits

    def tensors(self, rows: Rows[Any]) -> Mapping[str, Floats]:
        """As workers give them."""
        parts = np.split(rows.batch.ids, np.cumsum(rows.batch.lengths)[:-1])
        logits = torch.from_numpy(np.concatenate([self.logits(part.tolist()) for part in parts]))
        return {"token_label_scores": logits.softmax(-1).numpy()}

    def expected(self, inputs: str | list[str], *, max_length: int = 512, **options: Any) -> list[Entity]:
        """What transformers finds; `options` as its pipeline has them."""
        pipeline = self._pipeline
        pipeline.tokenizer.model_max_length = max_length
        split = isinstance(inputs, list)
        before, _, after = pipeline._sanitize_parameters(is_split_into_words=split, **options)
        outputs = [
            {**window, "logits": torch.from_numpy(self.logits(window["input_ids"][0].tolist()))[None]}
            for window in pipeline.preprocess(inputs, **before)
        ]
        return list(pipeline.postprocess(outputs, **after))


def _pipeline(checkpoint: Path) -> Any:
    """transformers' pipeline, but for its model."""
    pipeline: Any = TokenClassificationPipeline.__new__(TokenClassificationPipeline)
    pipeline.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    pipeline.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(LABELS))))
    return pipeline


@pytest.fixture(params=FAMILIES)
def setting(
    request: pytest.FixtureRequest, checkpoint: Callable[[str], Path], settings: dict[str, Setting], tmp_path: Path
) -> Setting:
    return _setting(request.param, checkpoint, settings, tmp_path)


@pytest.fixture
def bert(checkpoint: Callable[[str], Path], settings: dict[str, Setting], tmp_path: Path) -> Setting:
    return _setting("bert", checkpoint, settings, tmp_path)


@pytest.fixture(scope="module")
def settings() -> dict[str, Setting]:
    return {}


def _setting(name: str, checkpoint: Callable[[str], Path], made: dict[str, Setting], folder: Path) -> Setting:
    if name not in made:
        made[name] = Setting(checkpoint(name), folder)
    return made[name]


def _options(aggregation: str, **options: Any) -> tasks_pb2.ClassifyTokenOptions:
    strategy = tasks_pb2.AggregationStrategy.Value(f"AGGREGATION_STRATEGY_{aggregation.upper()}")
    return tasks_pb2.ClassifyTokenOptions(aggregation=strategy, **options)


def _task(setting: Setting, options: tasks_pb2.ClassifyTokenOptions) -> ClassifyTokens:
    return parse_classify_tokens(options, setting.model, INTERACTIVE, "options")


def _texts(texts: Sequence[str]) -> types_pb2.TextBatch:
    return types_pb2.TextBatch(texts=types_pb2.Texts(texts=texts))


def _words(lists: Sequence[Sequence[str]]) -> types_pb2.TextBatch:
    counts = [len(each) for each in lists]
    words = [word for each in lists for word in each]
    return types_pb2.TextBatch(word_lists=types_pb2.WordLists(words=words, word_counts=counts))


def _found(setting: Setting, options: tasks_pb2.ClassifyTokenOptions, batch: types_pb2.TextBatch) -> list[list[Entity]]:
    """The entities of each item, as transformers names their parts."""
    task = _task(setting, options)
    rows = task.prepare(Sent(batch))
    assert not rows.failed
    items = list(range(rows.truncated.size))
    return _by_item(task.answer(rows, share_of(rows, items, setting.tensors(rows))), options)


def _by_item(message: tasks_pb2.Entities, options: tasks_pb2.ClassifyTokenOptions) -> list[list[Entity]]:
    alone = options.aggregation == tasks_pb2.AGGREGATION_STRATEGY_NONE
    columns: dict[str, Sequence[Any]] = {
        "entity" if alone else "entity_group": message.labels,
        "score": message.scores,
        "word": message.words,
        "start": message.starts or [None] * len(message.labels),
        "end": message.ends or [None] * len(message.labels),
    }
    if alone:
        columns["index"] = message.token_indexes
    entities = iter([dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)])
    return [[next(entities) for _ in range(count)] for count in message.entity_counts]


def _assert_same(found: list[list[Entity]], expected: list[list[Entity]]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert [each | {"score": 0} for each in ours] == [each | {"score": 0} for each in theirs]
        np.testing.assert_allclose([e["score"] for e in ours], [e["score"] for e in theirs], atol=1e-6)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("aggregation", STRATEGIES)
def test_texts(setting: Setting, aggregation: str) -> None:
    found = _found(setting, _options(aggregation), _texts(AWKWARD))
    _assert_same(found, [setting.expected(text, aggregation_strategy=aggregation) for text in AWKWARD])
    assert sum(map(len, found)) > 100


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("aggregation", STRATEGIES)
def test_words(setting: Setting, aggregation: str) -> None:
    lists = [text.split() for text in AWKWARD] + [["New York", "", "fox"], ["狐狸", "é", "👍🏽x"]]
    lists = [each for each in lists if each]  # transformers takes no empty list
    found = _found(setting, _options(aggregation), _words([*lists[:3], [], *lists[3:]]))
    assert found.pop(3) == []
    _assert_same(found, [setting.expected(each, aggregation_strategy=aggregation) for each in lists])


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("aggregation", STRATEGIES[1:])
@pytest.mark.parametrize(("max_length", "stride"), [(12, 5), (33, 9)])
def test_windows(setting: Setting, aggregation: str, max_length: int, stride: int) -> None:
    texts = [text[:400] for text in AWKWARD if text.strip()]
    options = _options(
        aggregation, windows=True, stride=stride, truncation=types_pb2.TruncationOptions(max_length=max_length)
    )
    asked: dict[str, Any] = {"aggregation_strategy": aggregation, "stride": stride, "max_length": max_length}
    _assert_same(_found(setting, options, _texts(texts)), [setting.expected(text, **asked) for text in texts])
    lists = [text.split() for text in texts]
    _assert_same(_found(setting, options, _words(lists)), [setting.expected(each, **asked) for each in lists])


@pytest.mark.parametrize("ignored", [["PER"], ["LOC", "X", "unknown"], ["B-PER"], ["O", "MISC"]])
def test_ignored_labels(bert: Setting, ignored: list[str]) -> None:
    for aggregation in ("none", "simple"):
        found = _found(bert, _options(aggregation, ignored_labels=ignored), _texts(AWKWARD))
        asked: dict[str, Any] = {"aggregation_strategy": aggregation, "ignore_labels": ignored}
        _assert_same(found, [bert.expected(text, **asked) for text in AWKWARD])


def test_all_labels(setting: Setting) -> None:
    for aggregation in ("none", "simple"):
        found = _found(setting, _options(aggregation, keep_all_labels=True), _texts(AWKWARD))
        asked: dict[str, Any] = {"aggregation_strategy": aggregation, "ignore_labels": []}
        _assert_same(found, [setting.expected(text, **asked) for text in AWKWARD])
        assert any(entity.get("entity", entity.get("entity_group")) == "O" for entity in found[0])


def test_long_texts_are_cut(bert: Setting) -> None:
    options = _options("simple", truncation=types_pb2.TruncationOptions(max_length=9))
    found = _found(bert, options, _texts(AWKWARD))
    _assert_same(found, [bert.expected(text, aggregation_strategy="simple", max_length=9) for text in AWKWARD])
    rows = _task(bert, options).prepare(Sent(_texts(AWKWARD)))
    assert rows.truncated.any()
    assert not _task(bert, _options("simple", windows=True)).prepare(Sent(_texts(AWKWARD))).truncated.any()


@pytest.mark.parametrize("unit", ["UTF16_UNITS", "UTF8_BYTES"])
def test_offset_units(setting: Setting, unit: str) -> None:
    texts = [*AWKWARD, "😀 fox 😀 dog 👍🏽 é fox"]
    encoding, width = ("utf-16-le", 2) if unit == "UTF16_UNITS" else ("utf-8", 1)
    asked = tokenization_pb2.OffsetUnit.Value(f"OFFSET_UNIT_{unit}")
    by_unit = _found(setting, _options("simple", offset_unit=asked), _texts(texts))
    by_code_point = _found(setting, _options("simple"), _texts(texts))
    for text, ours, expected in zip(texts, by_unit, by_code_point, strict=True):
        for entity, same in zip(ours, expected, strict=True):
            for end in ("start", "end"):
                assert entity[end] == len(text[: same[end]].encode(encoding)) // width
    words = _found(setting, _options("simple", offset_unit=asked), _words([text.split(" ") for text in texts]))
    in_code_points = _found(setting, _options("simple"), _words([text.split(" ") for text in texts]))
    for text, ours, expected in zip(texts, words, in_code_points, strict=True):
        assert [each["start"] for each in ours] == [
            len(text[: each["start"]].encode(encoding)) // width for each in expected
        ]


@pytest.mark.parametrize("aggregation", ["none", "simple"])
def test_token_ids(setting: Setting, aggregation: str) -> None:
    task = _task(setting, _options(aggregation))
    texts = [text for text in AWKWARD if "[SEP]" not in text]  # of ids nobody knows which ones were typed
    tokens = task.prepare(Sent(_texts(texts))).batch
    lists = types_pb2.TokenIdLists(token_ids=tokens.ids, lengths=tokens.lengths)
    found = _found(setting, _options(aggregation), types_pb2.TextBatch(token_ids=lists))
    same = _found(setting, _options(aggregation), _texts(texts))
    unknown = setting.model.description.special_tokens["unk"][0]
    for ours, expected in zip(found, same, strict=True):
        assert [each["score"] for each in ours] == [each["score"] for each in expected]
        assert [each["start"] for each in ours] == [None] * len(expected)
        for entity, like in zip(ours, expected, strict=True):
            assert unknown in entity["word"] or entity["word"] == like["word"]


def test_some_items_of_a_message(setting: Setting) -> None:
    options = _options("average", windows=True, truncation=types_pb2.TruncationOptions(max_length=16))
    task = _task(setting, options)
    rows = task.prepare(Sent(_texts(AWKWARD)))
    tensors = setting.tensors(rows)
    whole = _by_item(task.answer(rows, share_of(rows, range(len(AWKWARD)), tensors)), options)
    assert sum(map(len, whole)) > 20
    for items in ([0], [3, 7], [len(AWKWARD) - 1], [5, 6, 7, 8]):
        part = _by_item(task.answer(rows, share_of(rows, items, tensors)), options)
        assert part == [whole[item] for item in items]


def test_a_bad_item_leaves_its_neighbours_alone(bert: Setting) -> None:
    options = _options(
        "simple", truncation=types_pb2.TruncationOptions(strategy=types_pb2.TRUNCATION_STRATEGY_REFUSE, max_length=8)
    )
    task = _task(bert, options)
    rows = task.prepare(Sent(_texts(["fox", "the quick brown fox jumps over the dog", "dog", "?"]), bad=[3]))
    assert {index: error.reason for index, error in rows.failed.items()} == {
        1: "INVALID_TEXT_LENGTH",
        3: "INVALID_UTF8",
    }
    assert rows.failed[1].violations[0].field == "inputs.texts[1]"
    answer = task.answer(rows, share_of(rows, [0, 2], bert.tensors(rows)))
    assert len(answer.entity_counts) == 2


def test_the_least_size_of_an_answer(setting: Setting) -> None:
    task = _task(setting, _options("none", keep_all_labels=True))
    rows = task.prepare(Sent(_texts(AWKWARD)))
    assert rows.least_bytes is not None
    tensors, items = setting.tensors(rows), range(len(AWKWARD))
    sizes = [task.answer(rows, share_of(rows, [item], tensors)).ByteSize() for item in items]
    assert (rows.least_bytes <= sizes).all()
    assert rows.least_bytes.sum() > sum(sizes) / 4
    assert _task(setting, _options("none")).prepare(Sent(_texts(AWKWARD))).least_bytes is None


def test_effective_options(bert: Setting) -> None:
    plain = _task(bert, tasks_pb2.ClassifyTokenOptions()).effective
    assert (plain.model, list(plain.ignored_labels), plain.stride) == ("stub", ["O"], 0)
    assert plain.aggregation == tasks_pb2.AGGREGATION_STRATEGY_SIMPLE
    assert plain.truncation.max_length == 512
    assert plain.offset_unit == tokenization_pb2.OFFSET_UNIT_CODE_POINTS
    assert plain.priority == types_pb2.PRIORITY_INTERACTIVE
    assert _task(bert, _options("max", windows=True)).effective.stride == 128
    everything = _task(bert, _options("none", keep_all_labels=True)).effective
    assert everything.keep_all_labels
    assert not everything.ignored_labels


def test_wishes(bert: Setting) -> None:
    wishes = _task(bert, _options("first")).wishes
    assert wishes.outputs == ("token_label_scores",)
    assert wishes.head is not None
    assert (wishes.head.name, wishes.head.function) == ("token_classification", "softmax")


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        (_options("none", windows=True), "options.windows", "INVALID_COMBINATION"),
        (_options("simple", stride=3), "options.stride", "INVALID_COMBINATION"),
        (_options("simple", windows=True, stride=-1), "options.stride", "INVALID_RANGE"),
        (_options("simple", windows=True, stride=512), "options.stride", "INVALID_RANGE"),
        (
            _options("simple", keep_all_labels=True, ignored_labels=["O"]),
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
        _task(bert, options)
    assert (raised.value.reason, raised.value.violations[0].field) == (reason, field)


@pytest.mark.parametrize(
    ("options", "batch", "reason"),
    [
        (
            _options("simple"),
            types_pb2.TextBatch(pairs=types_pb2.TextPairs(first_texts=["a"], second_texts=["b"])),
            "INVALID_INPUT_KIND",
        ),
        (
            _options("first"),
            types_pb2.TextBatch(token_ids=types_pb2.TokenIdLists(token_ids=[5], lengths=[1])),
            "INVALID_COMBINATION",
        ),
        (
            _options("simple", windows=True),
            types_pb2.TextBatch(token_ids=types_pb2.TokenIdLists(token_ids=[5], lengths=[1])),
            "INVALID_COMBINATION",
        ),
        (_options("simple"), types_pb2.TextBatch(texts=types_pb2.Texts()), "INVALID_EMPTY_LIST"),
    ],
)
def test_inputs_that_make_no_sense(
    bert: Setting, options: tasks_pb2.ClassifyTokenOptions, batch: types_pb2.TextBatch, reason: str
) -> None:
    with pytest.raises(RequestError) as raised:
        _task(bert, options).prepare(Sent(batch))
    assert raised.value.reason == reason


def test_a_model_without_the_head(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    model = stub_model(checkpoint("bert"), tmp_path, "fill_mask")
    with pytest.raises(RequestError) as raised:
        parse_classify_tokens(tasks_pb2.ClassifyTokenOptions(), model, INTERACTIVE, "options")
    assert raised.value.reason == "HEAD_NOT_AVAILABLE"
    assert raised.value.metadata["heads"] == "fill_mask"
