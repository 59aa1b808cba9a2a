"""All tasks, by their field in PredictionOptions; a new one is a line here."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import FieldDescriptor

from bertstream.server.core.errors import invalid
from bertstream.server.protocols.bertstream_v1.tasks.answers import parse_answer_questions
from bertstream.server.protocols.bertstream_v1.tasks.asked import Parse
from bertstream.server.protocols.bertstream_v1.tasks.choices import parse_choose
from bertstream.server.protocols.bertstream_v1.tasks.entities import parse_entities
from bertstream.server.protocols.bertstream_v1.tasks.labels import parse_classify, parse_rerank_pairs
from bertstream.server.protocols.bertstream_v1.tasks.likelihoods import parse_score_text
from bertstream.server.protocols.bertstream_v1.tasks.masks import parse_fill_mask
from bertstream.server.protocols.bertstream_v1.tasks.sentences import parse_next_sentence
from bertstream.server.protocols.bertstream_v1.tasks.sparse import parse_encode_sparse
from bertstream.server.protocols.bertstream_v1.tasks.zero_shot import parse_zero_shot
from bertstream.v1 import tasks_pb2

TASKS: Mapping[str, Parse] = {
    "fill_mask": parse_fill_mask,
    "score_text": parse_score_text,
    "next_sentence": parse_next_sentence,
    "classify_text": parse_classify,
    "zero_shot": parse_zero_shot,
    "rerank": parse_rerank_pairs,
    "classify_tokens": parse_entities,
    "answer": parse_answer_questions,
    "choose": parse_choose,
    "encode_sparse": parse_encode_sparse,
}
SERVICE = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"]


def task_of(options: tasks_pb2.PredictionOptions) -> str:
    """Return which task a stream is for. Raises INVALID_TASK where that is not said."""
    name = options.WhichOneof("task")
    if name is None:
        raise invalid("options", f"say which task by setting one of {', '.join(TASKS)}", "INVALID_TASK")
    return name


def tasks_by_rpc() -> dict[str, str]:
    """Return the task of each unary rpc of TaskService: the one whose options its request has."""
    fields = tasks_pb2.PredictionOptions.DESCRIPTOR.oneofs_by_name["task"].fields
    tasks = {_kind(field): field.name for field in fields}
    options = {method.name: _kind(method.input_type.fields_by_name.get("options")) for method in SERVICE.methods}
    return {rpc: tasks[kind] for rpc, kind in options.items() if kind in tasks}


def _kind(field: FieldDescriptor | None) -> str:
    """Return the full name of a field's message; empty where there is none."""
    return "" if field is None or field.message_type is None else field.message_type.full_name
