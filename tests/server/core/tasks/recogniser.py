"""A token classification model of made-up numbers, read by us and by transformers' pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer
from transformers.pipelines.token_classification import TokenClassificationPipeline

from bertstream.server.core.tasks.base import Rows
from bertstream.server.core.tasks.entities import ClassifyTokens
from bertstream.server.protocols.bertstream_v1.tasks.entities import parse_classify_tokens
from bertstream.server.protocols.bertstream_v1.tasks.writing import write
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE
from tests.server.core.tasks.stubs import StubModel, prepare, share_of, stub_model
from tests.support.checkpoints import TEXTS

Floats = NDArray[np.float32]
Entity = dict[str, Any]

FAMILIES = [
    *("bert", "bert-cased", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet", "modernbert"),
    "deberta-v2",
]
STRATEGIES = ["none", "simple", "first", "average", "max"]
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC", "GPE-X")
SEED = 11
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
        self.place_weight = 1.0
        self._pipeline = _pipeline(checkpoint)

    def logits(self, ids: Sequence[int]) -> Floats:
        """Return logits by each token's id and, as far as that matters, by its place in the row: [n, labels]."""
        logits: Floats = (self._by_id[list(ids)] + self.place_weight * self._by_place[: len(ids)]).astype(np.float32)
        return logits

    def scores(self, ids: Sequence[int]) -> Floats:
        """Return the probabilities of these tokens: [n, labels]."""
        scores: Floats = torch.from_numpy(self.logits(ids)).softmax(-1).numpy()
        return scores

    def tensors(self, rows: Rows[Any]) -> Mapping[str, Floats]:
        """Return the tensors that workers give for these rows."""
        parts = np.split(rows.batch.ids, np.cumsum(rows.batch.lengths)[:-1])
        return {"token_label_scores": np.concatenate([self.scores(part.tolist()) for part in parts])}

    def expected(self, inputs: str | list[str], *, max_length: int = 512, **options: Any) -> list[Entity]:
        """Return the entities that transformers finds, with these options of its pipeline."""
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
    """Return transformers' pipeline without its model."""
    pipeline: Any = TokenClassificationPipeline.__new__(TokenClassificationPipeline)
    pipeline.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    pipeline.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(LABELS))))
    return pipeline


def options_of(aggregation: str, **options: Any) -> tasks_pb2.ClassifyTokenOptions:
    strategy = tasks_pb2.AggregationStrategy.Value(f"AGGREGATION_STRATEGY_{aggregation.upper()}")
    return tasks_pb2.ClassifyTokenOptions(aggregation=strategy, **options)


def task_of(setting: Setting, options: tasks_pb2.ClassifyTokenOptions) -> ClassifyTokens:
    return parse_classify_tokens(options, setting.model, INTERACTIVE, "options").task


def effective_of(setting: Setting, options: tasks_pb2.ClassifyTokenOptions) -> tasks_pb2.ClassifyTokenOptions:
    return parse_classify_tokens(options, setting.model, INTERACTIVE, "options").effective


def as_texts(texts: Sequence[str]) -> types_pb2.TextBatch:
    return types_pb2.TextBatch(texts=types_pb2.Texts(texts=texts))


def as_words(lists: Sequence[Sequence[str]]) -> types_pb2.TextBatch:
    counts = [len(each) for each in lists]
    words = [word for each in lists for word in each]
    return types_pb2.TextBatch(word_lists=types_pb2.WordLists(words=words, word_counts=counts))


def entities_of(
    setting: Setting, options: tasks_pb2.ClassifyTokenOptions, batch: types_pb2.TextBatch
) -> list[list[Entity]]:
    """Return the entities of each item, as transformers names their parts."""
    return answers_of(setting, task_of(setting, options), batch)


def answers_of(setting: Setting, task: ClassifyTokens, batch: types_pb2.TextBatch) -> list[list[Entity]]:
    """Return the entities of each item, for a task that is made already."""
    rows = prepare(task, batch)
    assert not rows.failed
    items = list(range(rows.truncated.size))
    return by_item(write(task.answer(rows, share_of(rows, items, setting.tensors(rows)))), task.aggregation)


def by_item(message: Any, aggregation: str) -> list[list[Entity]]:
    alone = aggregation == "none"
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


def assert_same(found: list[list[Entity]], expected: list[list[Entity]]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert [each | {"score": 0} for each in ours] == [each | {"score": 0} for each in theirs]
        np.testing.assert_allclose([e["score"] for e in ours], [e["score"] for e in theirs], atol=1e-6)
