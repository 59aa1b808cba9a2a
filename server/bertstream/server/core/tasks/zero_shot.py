"""ClassifyZeroShot: the caller's labels, as hypotheses that a text entails or not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from bertstream.server.core.errors import invalid, not_utf8, too_large
from bertstream.server.core.selection import select_rows
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task
from bertstream.server.core.tasks.sent import Sent
from bertstream.server.core.tasks.sums import softmax
from bertstream.server.core.tasks.texts import parse_texts, tokenize
from bertstream.server.core.tokenization import Pairs, Texts, TokenizeOptions
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    not_suitable,
    parse_priority,
    parse_task_truncation,
    refuse_texts,
    require_head,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import Batch, HeadWish, Wishes
from bertstream.workers.programs.description import ModelDescription

DEFAULT_TEMPLATE = "This example is {}."
_PLACE = "{}"


@dataclass(frozen=True)
class ClassifyZeroShot(Task[None]):
    """A row for each pair of text and hypothesis, the hypotheses of a text next to each other."""

    tokenize: TokenizeOptions
    hypotheses: tuple[str, ...]
    entailment: int  # the label's number
    multi_label: bool

    def prepare(self, sent: Sent) -> Rows[None]:
        inputs = parse_texts(self.model, sent, ("texts",))
        assert isinstance(inputs, Texts)
        many, most = len(self.hypotheses), self.model.limits.max_texts
        if len(inputs) * many > most and len(inputs) > 1:
            about = f"{len(inputs)} texts of {many} labels each are more than {most} pairs: use StreamPredictions"
            raise too_large(sent.path, about)
        firsts = [text for text in inputs.texts for _ in range(many)]
        pairs = Pairs(firsts, self.hypotheses * len(inputs))
        of_pairs = replace(sent, bad=())
        texts = tokenize(self.model, pairs, self.tokenize, of_pairs, at=lambda row: sent.at(row // many))
        failed = {row // many: error for row, error in texts.failed.items()} | {
            i: not_utf8(sent.at(i)) for i in sent.bad
        }
        kept = select_rows(texts.tokens, np.flatnonzero(~np.isin(texts.tokens.text_indexes // many, list(failed))))
        truncated = np.asarray(texts.tokens.truncated.reshape(-1, many).any(axis=1))
        items = (kept.text_indexes // many).astype(np.int32)
        return Rows(Batch(kept.ids, kept.lengths, kept.type_ids), items, failed, truncated, None)

    def answer(self, rows: Rows[None], share: Share) -> Message:
        logits = share.tensors["label_scores"].astype(np.float64)
        scores = self._scores(logits.reshape(share.items.size, len(self.hypotheses), -1)).astype(np.float32)
        order = np.argsort(scores, axis=1, kind="stable")[:, ::-1]  # of equal ones the last first, as in transformers
        return tasks_pb2.ZeroShotLabels(
            label_count=len(self.hypotheses),
            label_indexes=order.ravel().tolist(),
            scores=np.take_along_axis(scores, order, axis=1).ravel().tolist(),
        )

    def _scores(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """[m, labels, classes] -> [m, labels]"""
        if not self.multi_label and len(self.hypotheses) > 1:
            return softmax(logits[:, :, self.entailment])
        contradiction = -1 if self.entailment == 0 else 0
        return softmax(logits[:, :, [contradiction, self.entailment]])[:, :, 1]


def parse_zero_shot(
    options: tasks_pb2.ZeroShotOptions, model: HeadModel, default_priority: int, path: str
) -> ClassifyZeroShot:
    """Raises INVALID_ARGUMENT with the field's path, HEAD_NOT_AVAILABLE or HEAD_NOT_SUITABLE."""
    entailment = _entailment(model.description)
    truncation = parse_task_truncation(options.truncation, model.description, f"{path}.truncation", "only_first")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    template = options.hypothesis_template or DEFAULT_TEMPLATE
    if template.count(_PLACE) != 1:
        about = "it must have {} once, where the label goes"
        raise invalid(f"{path}.hypothesis_template", about, "INVALID_TEMPLATE")
    if not options.labels:
        raise invalid(f"{path}.labels", "the list is empty", "INVALID_EMPTY_LIST")
    if len(options.labels) > (most := model.limits.max_texts):
        raise too_large(f"{path}.labels", f"{len(options.labels)} labels; the limit is {most}")
    refuse_texts(options.labels, f"{path}.labels", "INVALID_LABEL")
    effective = tasks_pb2.ZeroShotOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        labels=options.labels,
        hypothesis_template=template,
        multi_label=options.multi_label or len(options.labels) == 1,
    )
    return ClassifyZeroShot(
        model,
        Wishes(("label_scores",), head=HeadWish("sequence_classification", "none")),
        priority,
        effective,
        TokenizeOptions(truncation),
        tuple(template.replace(_PLACE, label) for label in options.labels),
        entailment,
        options.multi_label,
        rows_per_item=len(options.labels),
    )


def _entailment(description: ModelDescription) -> int:
    """The first label that says so, as in transformers, which takes the last label where there is none."""
    require_head(description, "sequence_classification")
    there = ", ".join(description.labels)
    numbers = [number for number, label in enumerate(description.labels) if label.lower().startswith("entail")]
    if not numbers or len(description.labels) < 2:
        raise not_suitable(f"zero-shot needs a label that begins with entail, and another one; there: {there}")
    return numbers[0]
