"""ClassifyTexts and RerankTexts: the labels of a sequence classification head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from google.protobuf.message import Message

from bertstream.server.core.errors import invalid
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task
from bertstream.server.core.tasks.sent import Sent
from bertstream.server.core.tasks.texts import ALL_KINDS, parse_texts, tokenize
from bertstream.server.core.tokenization import TokenizeOptions
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_function,
    effective_priority,
    own_function,
    parse_count,
    parse_function,
    parse_priority,
    parse_task_truncation,
    require_head,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import HeadWish, ScoreFunction, Wishes
from bertstream.workers.programs.description import ModelDescription

_MOST_LABELS = (1 << 31) - 1  # more than there are means all
_LABEL_BYTES = 5  # that a label has at least in an answer: its number, and a score


@dataclass(frozen=True)
class TextTask(Task[None]):
    """A task whose items are texts with one row each."""

    tokenize: TokenizeOptions
    kinds: Sequence[str]

    def prepare(self, sent: Sent) -> Rows[None]:
        inputs = parse_texts(self.model, sent, self.kinds)
        texts = tokenize(self.model, inputs, self.tokenize, sent)
        return Rows(texts.batch, texts.tokens.text_indexes, texts.failed, texts.tokens.truncated, None)


class ClassifyTexts(TextTask):
    """Labels of texts or pairs, best first."""

    def prepare(self, sent: Sent) -> Rows[None]:
        rows = super().prepare(sent)
        assert self.wishes.head is not None
        sizes = np.full(rows.truncated.size, _LABEL_BYTES * self.wishes.head.top_k, np.int64)
        sizes[list(rows.failed)] = 0
        return replace(rows, least_bytes=sizes)

    def answer(self, rows: Rows[None], share: Share) -> Message:
        ids, scores = share.tensors["label_scores.ids"], share.tensors["label_scores.scores"]
        return tasks_pb2.TextLabels(
            labels=self.model.description.labels,
            label_counts=[ids.shape[1]] * share.items.size,
            label_ids=ids.ravel().tolist(),
            scores=scores.ravel().tolist(),
        )


def parse_classify(
    options: tasks_pb2.ClassifyTextOptions, model: HeadModel, default_priority: int, path: str
) -> ClassifyTexts:
    """Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE."""
    its = model.description
    require_head(its, "sequence_classification")
    truncation = parse_task_truncation(options.truncation, its, f"{path}.truncation")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    function = parse_function(options.function, own_function(its.score_function), f"{path}.function")
    there = len(its.labels)
    top_k = min(parse_count(options.top_k, there, _MOST_LABELS, f"{path}.top_k"), there)
    effective = tasks_pb2.ClassifyTextOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        top_k=top_k,
        function=effective_function(function),
    )
    wishes = Wishes(("label_scores",), head=HeadWish("sequence_classification", function, top_k))
    return ClassifyTexts(model, wishes, priority, effective, TokenizeOptions(truncation), ALL_KINDS)


@dataclass(frozen=True)
class RerankTexts(TextTask):
    """A score for each pair of query and document."""

    label: int

    def answer(self, rows: Rows[None], share: Share) -> tasks_pb2.Relevances:
        return tasks_pb2.Relevances(scores=share.tensors["label_scores"][:, self.label].tolist())


def parse_rerank(options: tasks_pb2.RerankOptions, model: HeadModel, default_priority: int, path: str) -> RerankTexts:
    """Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE."""
    its = model.description
    require_head(its, "sequence_classification")
    truncation = parse_task_truncation(options.truncation, its, f"{path}.truncation", "only_second")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    label = _label(options.label, its, path)
    function = parse_function(options.function, _rerank_function(its), f"{path}.function")
    effective = tasks_pb2.RerankOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        function=effective_function(function),
        label=its.labels[label],
        top_k=parse_count(options.top_k, 0, _MOST_LABELS, f"{path}.top_k"),
    )
    wishes = Wishes(("label_scores",), head=HeadWish("sequence_classification", function))
    tokenize_options = TokenizeOptions(truncation)
    return RerankTexts(model, wishes, priority, effective, tokenize_options, ("pairs",), label)


def sort_documents(relevances: tasks_pb2.Relevances, top_k: int) -> tuple[list[int], list[float]]:
    """The places and the scores of the best documents, falling; the earlier one where two are equal."""
    scores = np.array(relevances.scores, np.float32)
    order = np.argsort(-scores, kind="stable")[: top_k or None]
    return order.tolist(), scores[order].tolist()


def _label(name: str, description: ModelDescription, path: str) -> int:
    there = ", ".join(description.labels)
    if not name:
        if len(description.labels) > 1:
            about = f"this checkpoint has several labels, so say whose score counts: {there}"
            raise invalid(f"{path}.label", about, "INVALID_LABEL")
        return 0
    if name not in description.labels:
        raise invalid(f"{path}.label", f"no label has this name; there: {there}", "INVALID_LABEL")
    return description.labels.index(name)


def _rerank_function(description: ModelDescription) -> ScoreFunction:
    if description.rerank_function:
        return own_function(description.rerank_function)
    return "sigmoid" if len(description.labels) == 1 else "softmax"
