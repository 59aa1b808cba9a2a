"""Parses the options of EncodeSparse."""

from __future__ import annotations

from bertstream.server.core.tasks.base import HeadModel
from bertstream.server.core.tasks.sparse import EncodeSparse, encode_sparse, own_top_k, require_weights
from bertstream.server.protocols.bertstream_v1.tasks.asked import Asked
from bertstream.server.protocols.bertstream_v1.validation.names import TEXT_KINDS
from bertstream.server.protocols.bertstream_v1.validation.prompts import parse_prompt
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_count,
    parse_priority,
    parse_task_truncation,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.server.protocols.enums import name_of, value_of
from bertstream.v1 import tasks_pb2


def parse_encode_sparse(
    options: tasks_pb2.SparseOptions, model: HeadModel, default_priority: int, path: str
) -> Asked[EncodeSparse, tasks_pb2.SparseOptions]:
    """Parse the options. Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE."""
    description = model.description
    require_weights(description)
    truncation = parse_task_truncation(options.truncation, description, f"{path}.truncation")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    top_k = parse_count(options.top_k, own_top_k(description), description.vocabulary_size, f"{path}.top_k")
    kind = name_of(TEXT_KINDS, options.text_kind, f"{path}.text_kind")
    prompt = parse_prompt(options, description, path, kind)
    effective = tasks_pb2.SparseOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        top_k=top_k,
        prompt=prompt,
        include_tokens=options.include_tokens,
        text_kind=value_of(TEXT_KINDS, kind),
    )
    asked, shows = options.WhichOneof("prefix") is not None, options.include_tokens
    task = encode_sparse(
        model, truncation, priority, prompt=prompt, prompt_asked=asked, top_k=top_k, shows_tokens=shows, kind=kind
    )
    return Asked(task, effective)
