"""The encodings of the fake server: whole numbers that follow from a text, and their messages."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types

HIDDEN, LAYERS, HEADS = 8, 2, 3
FloatArray = NDArray[np.float32]
Spans = list[tuple[int, int]]

HIDDEN_STATES = encoding.ENCODING_OUTPUT_HIDDEN_STATES
LAST_HIDDEN_STATE = encoding.ENCODING_OUTPUT_LAST_HIDDEN_STATE
ATTENTIONS = encoding.ENCODING_OUTPUT_ATTENTIONS


def keys_of(batch: types.TextBatch) -> list[str]:
    """Return a key for each text, which has its kind and content."""
    match batch.WhichOneof("content"):
        case "texts":
            return [f"text:{text}" for text in batch.texts.texts]
        case "pairs":
            pairs = zip(batch.pairs.first_texts, batch.pairs.second_texts, strict=True)
            return [f"pair:{first}|{second}" for first, second in pairs]
        case "word_lists":
            lists = batch.word_lists
            return ["words:" + "|".join(words) for words in split(list(lists.words), lists.word_counts)]
        case "token_ids":
            return ["ids:" + ",".join(map(str, ids)) for ids in split(_ids(batch), batch.token_ids.lengths)]
    raise AssertionError("no content")


def vector(key: str) -> FloatArray:
    """Return the pooled vector of a text: whole numbers, which half precision represents exactly."""
    return np.array([zlib.crc32(f"{index}{key}".encode()) % 200 for index in range(HIDDEN)], np.float32)


def states(key: str, layer: int = LAYERS) -> FloatArray:
    """Return the states of a text in a layer: one row per character of its key."""
    rows: FloatArray = np.arange(len(key), dtype=np.float32)[:, None] + vector(key) + 300 * (layer - LAYERS)
    return rows


def attentions(key: str, layer: int, heads: Sequence[int] = range(HEADS)) -> FloatArray:
    """Return the attention weights in a layer [heads, n, n]: eighths, which need not add up to 1."""
    one = np.arange(len(key))
    weights: FloatArray = (one[:, None] + 2 * one + np.array(heads)[:, None, None] + 3 * layer) % 8 / np.float32(8)
    return weights


def span_vector(key: str, start: int, end: int) -> FloatArray:
    """Return the pooled vector of a span."""
    return vector(key) + np.float32(3 * start + end)


def spans_of(lists: encoding.SpanLists) -> list[Spans]:
    """Return the spans of each text of a message."""
    return split(list(zip(lists.starts, lists.ends, strict=True)), lists.span_counts)


def tensor(values: NDArray[Any], data_type: int, flat: bool = False) -> types.Tensor:
    """Return an array as a Tensor; a `flat` one has one dimension, but still a scale for each row."""
    message = types.Tensor(shape=[values.size] if flat else values.shape)
    message.data_type = types.DataType.ValueType(data_type or types.DATA_TYPE_FLOAT32)
    match message.data_type:
        case types.DATA_TYPE_FLOAT32:
            message.data = values.astype("<f4").tobytes()
        case types.DATA_TYPE_FLOAT16:
            message.data = values.astype("<f2").tobytes()
        case types.DATA_TYPE_BFLOAT16:
            message.data = (values.astype("<f4").view(np.uint32) >> 16).astype("<u2").tobytes()
        case types.DATA_TYPE_INT8:
            scales = np.abs(values).max(-1, keepdims=True).clip(1e-6) / 127
            message.data = np.rint(values / scales).astype(np.int8).tobytes()
            message.scales = scales.astype("<f4").tobytes()
    return message


def with_layers(options: encoding.EncodingOptions) -> encoding.EncodingOptions:
    """Return the options with layers and heads filled in, and counted from the start."""
    filled = encoding.EncodingOptions()
    filled.CopyFrom(options)
    if HIDDEN_STATES in options.outputs:
        filled.hidden_state_layers[:] = _resolved(options.hidden_state_layers, range(LAYERS + 1))
    if ATTENTIONS in options.outputs:
        filled.attention_layers[:] = _resolved(options.attention_layers, range(1, LAYERS + 1))
        filled.attention_heads[:] = [head % HEADS for head in options.attention_heads] or range(HEADS)
    return filled


def encodings(keys: list[str], options: encoding.EncodingOptions, spans: list[Spans]) -> encoding.Encodings:
    """Return all outputs of some texts."""
    answer = vectors(keys, options, spans)
    answer.token_counts.extend(map(len, keys))
    filled, data_type = with_layers(options), options.data_type
    if LAST_HIDDEN_STATE in options.outputs:
        answer.last_hidden_state.CopyFrom(_ragged([states(key) for key in keys], data_type))
    if encoding.ENCODING_OUTPUT_TOKEN_VECTORS in options.outputs:
        answer.token_vectors.CopyFrom(_ragged([states(key) for key in keys], data_type))
    for layer in filled.hidden_state_layers:
        ragged = _ragged([states(key, layer) for key in keys], data_type)
        answer.hidden_states.add(layer=layer, states=ragged)
    for layer in filled.attention_layers:
        maps = [attentions(key, layer, filled.attention_heads) for key in keys]
        answer.attentions.add(layer=layer, heads=filled.attention_heads, weights=_flat(maps, data_type))
    return answer


def vectors(keys: list[str], options: encoding.EncodingOptions, spans: list[Spans]) -> encoding.Encodings:
    """Return the outputs that are one vector per text or span, and the tokens."""
    outputs = list(options.outputs) or [encoding.ENCODING_OUTPUT_POOLED]
    answer = encoding.Encodings()
    width = options.pooling.dimensions or HIDDEN
    rows = np.stack([vector(key) for key in keys])
    if encoding.ENCODING_OUTPUT_POOLED in outputs:
        answer.pooled.CopyFrom(tensor(rows[:, :width], options.data_type))
    if options.window_pooling == types.WINDOW_POOLING_NONE:
        answer.window_counts.extend([1] * len(keys))
    if encoding.ENCODING_OUTPUT_POOLER_OUTPUT in outputs:
        answer.pooler_output.CopyFrom(tensor(-rows, options.data_type))
    if encoding.ENCODING_OUTPUT_POOLED_SPANS in outputs:
        pooled = [span_vector(key, *span) for key, some in zip(keys, spans, strict=True) for span in some]
        answer.pooled_spans.CopyFrom(tensor(np.array(pooled).reshape(-1, HIDDEN)[:, :width], options.data_type))
        answer.span_counts.extend(map(len, spans))
    if options.token_outputs:
        answer.tokens.CopyFrom(tokens(keys))
    return answer


def tokens(keys: list[str]) -> tokenization.Tokenizations:
    """Return tokens, one for each character of a key."""
    text = "".join(keys)
    answer = tokenization.Tokenizations(token_ids=map(ord, text), lengths=map(len, keys), tokens=text)
    for key in keys:
        answer.starts.extend(range(len(key)))
        answer.ends.extend(range(1, len(key) + 1))
    return answer


def parts(
    ids: list[int], keys: list[str], options: encoding.EncodingOptions, spans: list[Spans], rows: int
) -> Iterator[encoding.EncodedItems]:
    """Yield the messages for some texts: one for all, or several with some rows of each text's outputs."""
    if not ids:
        return
    if not rows:
        items = encoding.EncodedItems(ids=ids, encodings=encodings(keys, options, spans))
        cost(items, len(ids), sum(map(len, keys)))
        yield items
        return
    for item, key, some in zip(ids, keys, spans, strict=True):
        pieces = [vectors([key], options, [some]), *_row_pieces(key, with_layers(options), rows)]
        pieces[0].token_counts.append(len(key))
        for number, piece in enumerate(pieces, 1):
            more = number < len(pieces)
            items = encoding.EncodedItems(ids=[item], encodings=piece, more=more)
            if not more:
                cost(items, 1, len(key))
            yield items


def cost(answer: Any, texts: int, count: int) -> None:
    """Return the usage and timings of an answer."""
    answer.usage.texts, answer.usage.tokens = texts, count
    answer.timings.compute.nanos, answer.timings.total.seconds = 500_000_000, 2


def spoil(items: encoding.EncodedItems, how: str) -> None:
    """Change an answer so that it makes no sense."""
    answer = items.encodings
    match how:
        case "row" if answer.hidden_states:
            answer.hidden_states[0].states.first_row += 1
        case "missing" if answer.attentions and items.more:
            answer.ClearField("attentions")
        case "heads" if answer.attentions:
            answer.attentions[0].heads.append(0)
        case "spans":
            answer.span_counts.append(1)
        case "tokens":
            answer.tokens.lengths.append(0)
        case "two":
            items.more = True


def layer_rows(key: str, text: int, options: encoding.EncodingOptions, rows: int) -> Iterator[encoding.TensorRows]:
    """Yield the rows of one text's layers, as StreamLayers sends them, for options with their layers filled in."""
    for layer in range(LAYERS + 1):
        wanted: list[tuple[encoding.RowSource.ValueType, FloatArray]] = []
        last = layer == LAYERS and LAST_HIDDEN_STATE in options.outputs
        if last or layer in options.hidden_state_layers:
            wanted.append((encoding.ROW_SOURCE_HIDDEN_STATE, states(key, layer)))
        if layer in options.attention_layers:
            maps = attentions(key, layer, options.attention_heads)
            wanted.append((encoding.ROW_SOURCE_ATTENTION, maps.reshape(-1, len(key))))
        for source, values in wanted:
            for first, some in _cut(values, rows):
                part = encoding.TensorRows(source=source, layer=layer, text_index=text, first_row=first)
                part.rows.CopyFrom(tensor(some, options.data_type))
                yield part


def split(values: list[Any], lengths: Iterable[int]) -> list[list[Any]]:
    """Return a concatenated list split into lists of these lengths."""
    return [values[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]


def _row_pieces(key: str, options: encoding.EncodingOptions, rows: int) -> Iterator[encoding.Encodings]:
    if LAST_HIDDEN_STATE in options.outputs:
        for first, some in _cut(states(key), rows):
            piece = encoding.Encodings(last_hidden_state=_ragged([some], options.data_type))
            piece.last_hidden_state.first_row = first
            yield piece
    for layer in options.hidden_state_layers:
        for first, some in _cut(states(key, layer), rows):
            piece = encoding.Encodings()
            piece.hidden_states.add(layer=layer, states=_ragged([some], options.data_type)).states.first_row = first
            yield piece
    for layer in options.attention_layers:
        maps = attentions(key, layer, options.attention_heads)
        for first, some in _cut(maps.reshape(-1, len(key)), rows):
            piece, weights = encoding.Encodings(), _flat([some], options.data_type)
            piece.attentions.add(layer=layer, heads=options.attention_heads, weights=weights, first_row=first)
            yield piece


def _cut(values: FloatArray, rows: int) -> Iterator[tuple[int, FloatArray]]:
    for start in range(0, len(values), rows or len(values) or 1):
        yield start, values[start : start + rows] if rows else values


def _ragged(matrices: list[FloatArray], data_type: int) -> types.RaggedTensor:
    values = tensor(np.concatenate(matrices), data_type)
    return types.RaggedTensor(values=values, row_counts=[len(matrix) for matrix in matrices])


def _flat(matrices: list[FloatArray], data_type: int) -> types.Tensor:
    each = [tensor(matrix, data_type, flat=True) for matrix in matrices]
    data, scales = b"".join(one.data for one in each), b"".join(one.scales for one in each)
    shape = [sum(matrix.size for matrix in matrices)]
    return types.Tensor(data_type=each[0].data_type, shape=shape, data=data, scales=scales)


def _resolved(layers: Sequence[int], every: range) -> list[int]:
    """Return numbers counted from the start, in ascending order."""
    assert all(layer in every or -len(every) <= layer < 0 for layer in layers), (layers, every)
    return sorted(layer if layer in every else every[layer] for layer in layers) or list(every)


def _ids(batch: types.TextBatch) -> list[str]:
    ids, kinds = batch.token_ids.token_ids, batch.token_ids.token_type_ids
    return [f"{a}/{b}" for a, b in zip(ids, kinds, strict=True)] if kinds else [str(number) for number in ids]
