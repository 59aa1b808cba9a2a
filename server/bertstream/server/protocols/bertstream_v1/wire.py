"""Writes columns and arrays into protobuf messages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.layout import Layout, Tensors, cut, outputs_of
from bertstream.server.core.splitting import Part, TensorRows
from bertstream.server.core.tokenization import Column, Tokenized
from bertstream.server.core.windows import WholeTexts
from bertstream.server.settings import Limits
from bertstream.v1 import encoding_pb2, tasks_pb2, tokenization_pb2, types_pb2

_DATA_TYPES = {
    "<f4": types_pb2.DATA_TYPE_FLOAT32,
    "<f2": types_pb2.DATA_TYPE_FLOAT16,
    "<i2": types_pb2.DATA_TYPE_BFLOAT16,  # NumPy has no bfloat16, so its bits travel as integers
    "|i1": types_pb2.DATA_TYPE_INT8,
}

ALL_COLUMNS: frozenset[Column] = frozenset({"tokens", "offsets", "special_tokens_mask", "word_ids"})
_FIELDS: Mapping[Column, tuple[str, ...]] = {
    "offsets": ("starts", "ends"),
    "special_tokens_mask": ("special_tokens_mask",),
    "word_ids": ("word_ids", "sequence_ids"),
}


def fill(
    message: types_pb2.Tensor, values: NDArray[np.generic], scales: NDArray[np.generic] | None = None
) -> types_pb2.Tensor:
    """Write an array into a message that is already in its place, so that its bytes are not copied again."""
    message.data_type = _DATA_TYPES[values.dtype.str]
    message.shape.extend(values.shape)
    message.data = values.tobytes()
    if scales is not None:
        message.scales = scales.tobytes()
    return message


def encodings(
    message: encoding_pb2.Encodings, tensors: Tensors, layout: Layout, first: int, last: int
) -> encoding_pb2.Encodings:
    """Write the outputs of the texts from `first` up to `last`; the layout is that of all texts in `tensors`."""
    lengths = layout.lengths[first:last].tolist()
    message.token_counts.extend(lengths)
    for name in outputs_of(tensors):
        target = place_of(message, name, layout, layout.counts(name)[first:last].tolist())
        scales = tensors.get(f"{name}.scales")
        fill(
            target,
            tensors[name][layout.rows(name, first, last)],
            None if scales is None else scales[layout.rows(f"{name}.scales", first, last)],
        )
    if "sparse_weights.ids" in tensors:
        write_sparse(message.sparse_weights, tensors, layout, first, last)
    if layout.span_counts is not None and "token_vectors" not in tensors:
        message.span_counts.extend(layout.span_counts[first:last].tolist())
    return message


def write_sparse(message: tasks_pb2.SparseVectors, tensors: Tensors, layout: Layout, first: int, last: int) -> None:
    """Write the sparse weights of the texts from `first` up to `last`."""
    own = {name: each for name, each in tensors.items() if name.startswith("sparse_weights.")}
    found = cut(own, layout, first, last)
    message.weight_counts.extend(found["sparse_weights.counts"].tolist())
    message.token_ids.extend(found["sparse_weights.ids"].tolist())
    message.weights.extend(found["sparse_weights.weights"].tolist())


def whole_texts(message: encoding_pb2.Encodings, whole: WholeTexts, first: int, last: int) -> None:
    """Write the vectors of texts that were read in windows, from `first` up to `last`."""
    message.token_counts.extend(whole.layout.lengths[first:last].tolist())
    rows = slice(first, last)
    if whole.window_counts is not None:
        message.window_counts.extend(whole.window_counts[first:last].tolist())
        rows = slice(int(whole.window_counts[:first].sum()), int(whole.window_counts[:last].sum()))
    scales = whole.tensors.get("pooled.scales")
    fill(message.pooled, whole.tensors["pooled"][rows], None if scales is None else scales[rows])


def write_part(message: encoding_pb2.Encodings, part: Part) -> None:
    """Write the part of the outputs that belongs to one message."""
    if part.rows is None:
        encodings(message, part.tensors, part.layout, part.first, part.last)
    else:
        write_rows(message, part.rows, part.layout)


def write_rows(message: encoding_pb2.Encodings, rows: TensorRows, layout: Layout) -> None:
    """Write some rows of one text's output as a part of it."""
    target = place_of(message, rows.name, layout, [len(rows.values)])
    flat = rows.name.startswith("attentions")
    fill(target, rows.values.reshape(-1) if flat else rows.values, rows.scales)
    part: types_pb2.RaggedTensor | encoding_pb2.LayerAttentions = message.last_hidden_state
    if flat:
        part = message.attentions[0]
    elif rows.name.startswith("hidden_states"):
        part = message.hidden_states[0].states
    elif rows.name == "token_vectors":
        part = message.token_vectors
    part.first_row, part.more_rows = rows.first_row, rows.more


def place_of(message: encoding_pb2.Encodings, name: str, layout: Layout, row_counts: Sequence[int]) -> types_pb2.Tensor:
    """Return the tensor that takes an output's numbers, after filling in the fields beside it; each layer adds one."""
    kind, _, layer = name.partition(".")
    if kind == "attentions":
        return message.attentions.add(layer=int(layer), heads=layout.heads).weights
    if kind == "hidden_states":
        states = message.hidden_states.add(layer=int(layer)).states
        states.row_counts.extend(row_counts)
        return states.values
    if kind in ("last_hidden_state", "token_vectors"):
        ragged: types_pb2.RaggedTensor = getattr(message, kind)
        ragged.row_counts.extend(row_counts)
        return ragged.values
    place: types_pb2.Tensor = getattr(message, kind)
    return place


def tokenizations(
    tokens: Tokenized, *, windows: bool = False, type_ids: bool = True, columns: frozenset[Column] = ALL_COLUMNS
) -> tokenization_pb2.Tokenizations:
    """Return all rows of a tokenization, with those of `columns` that it has."""
    message = tokenization_pb2.Tokenizations(
        token_ids=tokens.ids.tolist(),
        lengths=tokens.lengths.tolist(),
        token_type_ids=tokens.filled_type_ids().tolist() if type_ids else (),
        text_indexes=tokens.text_indexes.tolist() if windows else (),
    )
    if tokens.tokens is not None and "tokens" in columns:
        message.tokens.extend(tokens.tokens)
    for column, names in _FIELDS.items():
        for name in names if column in columns else ():
            values = getattr(tokens, name)
            if values is not None:
                getattr(message, name).extend(values.tolist())
    return message


def usage(texts: int, tokens: int, truncated: int) -> types_pb2.Usage:
    """Return the usage of a message."""
    return types_pb2.Usage(texts=texts, tokens=tokens, truncated_texts=truncated)


def window_of(limits: Limits) -> types_pb2.StreamWindow:
    """Return how much of one stream may be under way."""
    return types_pb2.StreamWindow(max_items=limits.stream_items, max_tokens=limits.stream_tokens)


def timings(
    tokenize: float, total: float, queue: float | None = None, compute: float | None = None
) -> types_pb2.Timings:
    """Return seconds as durations; those that are None stay unset."""
    message = types_pb2.Timings(tokenize=duration(tokenize), total=duration(total))
    if queue is not None:
        message.queue.CopyFrom(duration(queue))
    if compute is not None:
        message.compute.CopyFrom(duration(compute))
    return message


def timings_of(tokenize_seconds: float, since: float, outcomes: Sequence[Outcome]) -> types_pb2.Timings:
    """Return the timings from `since` (of time.monotonic()) until now; the slowest of several outcomes counts."""
    total = time.monotonic() - since
    if not outcomes:
        return timings(tokenize_seconds, total)
    queue = max(outcome.queue_seconds for outcome in outcomes)
    return timings(tokenize_seconds, total, queue, max(outcome.compute_seconds for outcome in outcomes))


def duration(seconds: float) -> Duration:
    """Return seconds as a google.protobuf.Duration."""
    nanoseconds = int(seconds * 1e9)
    return Duration(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)
