"""PredictNextSentences: whether the second text of a pair follows the first."""

from __future__ import annotations

from google.protobuf.message import Message

from bertstream.server.core.errors import invalid
from bertstream.server.core.tasks.base import HeadModel, Rows, Share
from bertstream.server.core.tasks.labels import TextTask
from bertstream.server.core.tasks.sent import Sent
from bertstream.server.core.tokenization import TokenizeOptions
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_priority,
    parse_task_truncation,
    require_head,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import HeadWish, Wishes

_IS_NEXT = 0  # of the head's two numbers, as in transformers


class PredictNextSentences(TextTask):
    """A probability for each pair."""

    def prepare(self, sent: Sent) -> Rows[None]:
        inputs = sent.inputs
        if isinstance(inputs, types_pb2.TextBatch) and inputs.token_ids.lengths and not inputs.token_ids.token_type_ids:
            about = "say which tokens are of the second text"
            raise invalid(f"{sent.path}.token_ids.token_type_ids", about, "INVALID_LENGTHS")
        return super().prepare(sent)

    def answer(self, rows: Rows[None], share: Share) -> Message:
        return tasks_pb2.NextSentences(probabilities=share.tensors["label_scores"][:, _IS_NEXT].tolist())


def parse_next_sentence(
    options: tasks_pb2.NextSentenceOptions, model: HeadModel, default_priority: int, path: str
) -> PredictNextSentences:
    """Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE."""
    require_head(model.description, "next_sentence")
    truncation = parse_task_truncation(options.truncation, model.description, f"{path}.truncation")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    effective = tasks_pb2.NextSentenceOptions(
        model=model.name, truncation=effective_truncation(truncation), priority=effective_priority(priority)
    )
    wishes = Wishes(("label_scores",), head=HeadWish("next_sentence", "softmax"))
    return PredictNextSentences(model, wishes, priority, effective, TokenizeOptions(truncation), ("pairs", "token_ids"))
