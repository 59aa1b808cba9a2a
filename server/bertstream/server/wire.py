"""Columns and arrays to protobuf messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from bertstream.server.tokenization import Tokenized
from bertstream.v1 import encoding_pb2, tokenization_pb2, types_pb2

MESSAGE_BYTES = 1 << 20  # a stream's message is at most about this large
Tensors = Mapping[str, NDArray[np.generic]]

_DATA_TYPES = {
    "<f4": types_pb2.DATA_TYPE_FLOAT32,
    "<f2": types_pb2.DATA_TYPE_FLOAT16,
    "<i2": types_pb2.DATA_TYPE_BFLOAT16,  # NumPy has no bfloat16, so its bits travel as integers
    "|i1": types_pb2.DATA_TYPE_INT8,
}


def tensor(tensors: Tensors, name: str, rows: slice) -> types_pb2.Tensor:
    """Some rows of one output."""
    values = tensors[name][rows]
    scales = tensors.get(f"{name}.scales")
    return types_pb2.Tensor(
        data_type=_DATA_TYPES[values.dtype.str],
        shape=values.shape,
        data=values.tobytes(),
        scales=b"" if scales is None else scales[rows].tobytes(),
    )


def encodings(tensors: Tensors, lengths: NDArray[np.int32], first: int, last: int) -> encoding_pb2.Encodings:
    """The outputs of the texts from `first` up to `last`; `lengths` are those of all texts in `tensors`."""
    message = encoding_pb2.Encodings(token_counts=lengths[first:last].tolist())
    texts = slice(first, last)
    if "pooled" in tensors:
        message.pooled.CopyFrom(tensor(tensors, "pooled", texts))
    if "pooler_output" in tensors:
        message.pooler_output.CopyFrom(tensor(tensors, "pooler_output", texts))
    if "last_hidden_state" in tensors:
        start = int(lengths[:first].sum())
        rows = slice(start, start + int(lengths[texts].sum()))
        message.last_hidden_state.values.CopyFrom(tensor(tensors, "last_hidden_state", rows))
        message.last_hidden_state.row_counts.extend(lengths[texts].tolist())
    return message


def split_encodings(
    tensors: Tensors, lengths: NDArray[np.int32], row_bytes: int, token_bytes: int
) -> Iterator[tuple[int, int, encoding_pb2.Encodings]]:
    """Messages of at most about 1 MiB, each with its range of texts; one text that is larger comes in parts by rows.

    The range is empty for all parts but the last, which completes the text.
    """
    sizes = row_bytes + lengths.astype(np.int64) * token_bytes
    ends = np.cumsum(sizes)
    first = 0
    while first < lengths.size:
        before = int(ends[first] - sizes[first])
        last = max(int(np.searchsorted(ends, before + MESSAGE_BYTES, side="right")), first + 1)
        if last == first + 1 and sizes[first] > MESSAGE_BYTES and token_bytes:
            yield from _parts(tensors, lengths, first, token_bytes)
        else:
            yield first, last, encodings(tensors, lengths, first, last)
        first = last


def _parts(
    tensors: Tensors, lengths: NDArray[np.int32], text: int, token_bytes: int
) -> Iterator[tuple[int, int, encoding_pb2.Encodings]]:
    start, count = int(lengths[:text].sum()), int(lengths[text])
    step = max(1, MESSAGE_BYTES // token_bytes)
    small = {name: values for name, values in tensors.items() if not name.startswith("last_hidden_state")}
    for first_row in range(0, count, step):
        rows = min(step, count - first_row)
        message = encodings(small, lengths, text, text + 1) if first_row == 0 else encoding_pb2.Encodings()
        states = message.last_hidden_state
        states.values.CopyFrom(tensor(tensors, "last_hidden_state", slice(start + first_row, start + first_row + rows)))
        states.row_counts.append(rows)
        states.first_row = first_row
        states.more_rows = first_row + rows < count
        yield text, text + (not states.more_rows), message


def join(parts: Sequence[Tensors]) -> Tensors:
    """The rows of several pieces of a job, end to end."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def tokenizations(tokens: Tokenized, *, windows: bool = False, type_ids: bool = True) -> tokenization_pb2.Tokenizations:
    """All rows of a tokenization, in the columns that it has."""
    message = tokenization_pb2.Tokenizations(
        token_ids=tokens.ids.tolist(),
        lengths=tokens.lengths.tolist(),
        token_type_ids=tokens.filled_type_ids().tolist() if type_ids else (),
        text_indexes=tokens.text_indexes.tolist() if windows else (),
    )
    if tokens.tokens is not None:
        message.tokens.extend(tokens.tokens)
    for name in ("starts", "ends", "special_tokens_mask", "word_ids", "sequence_ids"):
        column = getattr(tokens, name)
        if column is not None:
            getattr(message, name).extend(column.tolist())
    return message


def usage(texts: int, tokens: int, truncated: int) -> types_pb2.Usage:
    """What a message cost."""
    return types_pb2.Usage(texts=texts, tokens=tokens, truncated_texts=truncated)


def timings(
    tokenize: float, total: float, queue: float | None = None, compute: float | None = None
) -> types_pb2.Timings:
    """Seconds to durations; those that do not apply stay unset."""
    message = types_pb2.Timings(tokenize=duration(tokenize), total=duration(total))
    if queue is not None:
        message.queue.CopyFrom(duration(queue))
    if compute is not None:
        message.compute.CopyFrom(duration(compute))
    return message


def duration(seconds: float) -> Duration:
    """As google.protobuf.Duration."""
    nanoseconds = int(seconds * 1e9)
    return Duration(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)
