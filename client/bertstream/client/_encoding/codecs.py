"""The codecs of a `BulkStream` for the streaming rpcs of the encoder and the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bertstream.client._calls.answers import SmallAnswers, errors_of, item_ids
from bertstream.client._calls.codec import Answers, Started
from bertstream.client._encoding.decode import tokens_of, vectors_of
from bertstream.client._encoding.options import pooled_width
from bertstream.client._encoding.outputs import Piece, bytes_of, pieces_of, whole
from bertstream.client._encoding.reports import effective_options
from bertstream.client._encoding.spans import prepare_spanned, span_lists
from bertstream.client._errors import RpcError, unexpected_response
from bertstream.client._texts import ITEMS, Group, PreparedText, prepare
from bertstream.client._types import EncodedBatch, FloatArray, Model, Outputs, OutputsBatch, TokenizedBatch, Tokens
from bertstream.client._usage import Cost, cost_of
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types


class _EncodingStream(SmallAnswers):
    """The requests of StreamEncodings."""

    rpc = "StreamEncodings"

    def __init__(self, options: encoding.EncodingOptions) -> None:
        self._options = options

    def options(self) -> encoding.StreamEncodingsRequest:
        return encoding.StreamEncodingsRequest(options=self._options)

    def request(self, group: Group) -> encoding.StreamEncodingsRequest:
        return encoding.StreamEncodingsRequest(items=encoding.EncodingItems(**item_ids(group), inputs=group.batch()))


class VectorStream(_EncodingStream):
    """One vector per text, as `encode_stream` returns them."""

    def __init__(self, options: encoding.EncodingOptions, model: Model | None) -> None:
        super().__init__(options)
        self._model = model
        self._width = pooled_width(options.pooling, model)
        self._dtype: Any = np.float16 if options.data_type == types.DATA_TYPE_FLOAT16 else np.float32

    def parse(self, response: encoding.StreamEncodingsResponse) -> Started | Answers:
        match response.WhichOneof("event"):
            case "started":
                self._width = pooled_width(response.started.options.pooling, self._model)
                return _started(response.started)
            case "items":
                return self._answers(response.items)
        raise unexpected_response("a stream's message without an event")

    def batch(self, ids: list[int], outcomes: Sequence[FloatArray | RpcError], cost: Cost) -> EncodedBatch:
        errors = errors_of(ids, outcomes)
        vectors = self._stacked(outcomes) if errors else np.stack(outcomes)  # type: ignore[arg-type]
        return EncodedBatch(np.array(ids, np.int64), vectors, errors, *cost)

    def _stacked(self, outcomes: Sequence[FloatArray | RpcError]) -> FloatArray:
        """Return the rows as one array, with NaN for items that failed."""
        good = [row for row in outcomes if not isinstance(row, RpcError)]
        vectors = np.full((len(outcomes), len(good[0]) if good else self._width), np.nan, self._dtype)
        for index, row in enumerate(outcomes):
            if not isinstance(row, RpcError):
                vectors[index] = row
        return vectors

    def _answers(self, items: encoding.EncodedItems) -> Answers:
        vectors = vectors_of(items.encodings.pooled) if items.ids else ()
        return _answers(items, vectors)


class OutputStream(_EncodingStream):
    """All outputs of each text, as `forward` returns them."""

    def __init__(
        self, options: encoding.EncodingOptions, span_unit: encoding.SpanUnit.ValueType, model: Model | None
    ) -> None:
        super().__init__(options)
        self._unit = span_unit if encoding.ENCODING_OUTPUT_POOLED_SPANS in options.outputs else None
        self.typical_bytes = largest_bytes(options, model) if model else 0

    def prepare(self, text: object, index: int) -> PreparedText:
        return (prepare if self._unit is None else prepare_spanned)(text, index, ITEMS)

    def request(self, group: Group) -> encoding.StreamEncodingsRequest:
        request = super().request(group)
        if self._unit is not None:
            request.items.spans.CopyFrom(span_lists(group, self._unit))
        return request

    def parse(self, response: encoding.StreamEncodingsResponse) -> Started | Answers:
        match response.WhichOneof("event"):
            case "started":
                return _started(response.started)
            case "items":
                items = response.items
                return _answers(items, pieces_of(items.encodings, len(items.ids)) if items.ids else ())
        raise unexpected_response("a stream's message without an event")

    def joined(self, pieces: list[Piece]) -> Outputs:
        return whole(pieces)

    def bytes_of(self, answer: Outputs) -> int:
        return bytes_of(answer)

    def batch(self, ids: list[int], outcomes: Sequence[Outputs | RpcError], cost: Cost) -> OutputsBatch:
        good = [(item, row) for item, row in zip(ids, outcomes, strict=True) if not isinstance(row, RpcError)]
        good_ids = np.array([item for item, _ in good], np.int64)
        return OutputsBatch(good_ids, [row for _, row in good], errors_of(ids, outcomes), *cost)


class SpanStream(OutputStream):
    """The vectors of each text's spans, as `encode_spans` returns them."""

    def batch(self, ids: list[int], outcomes: Sequence[Outputs | RpcError], cost: Cost) -> Any:
        return [row.pooled_spans for row in super().batch(ids, outcomes, cost).outputs]


class MultiVectorStream(OutputStream):
    """The vectors of each text's tokens, as `encode_multi` returns them."""

    def batch(self, ids: list[int], outcomes: Sequence[Outputs | RpcError], cost: Cost) -> Any:
        return [row.token_vectors for row in super().batch(ids, outcomes, cost).outputs]


class TokenStream(SmallAnswers):
    """Tokens, as `tokenize_stream` returns them."""

    rpc = "StreamTokenizations"

    def __init__(self, options: tokenization.TokenizationOptions) -> None:
        self._options = options

    def options(self) -> tokenization.StreamTokenizationsRequest:
        return tokenization.StreamTokenizationsRequest(options=self._options)

    def request(self, group: Group) -> tokenization.StreamTokenizationsRequest:
        items = tokenization.TokenizationItems(**item_ids(group), inputs=group.batch())
        return tokenization.StreamTokenizationsRequest(items=items)

    def parse(self, response: tokenization.StreamTokenizationsResponse) -> Started | Answers:
        match response.WhichOneof("event"):
            case "started":
                return _started(response.started)
            case "items":
                return _answers(response.items, tokens_of(response.items.tokenizations, len(response.items.ids)))
        raise unexpected_response("a stream's message without an event")

    def batch(self, ids: list[int], outcomes: Sequence[list[Tokens] | RpcError], cost: Cost) -> TokenizedBatch:
        rows = (
            replace(tokens, text_index=index)
            for index, outcome in enumerate(outcomes)
            if not isinstance(outcome, RpcError)
            for tokens in outcome
        )
        return TokenizedBatch(np.array(ids, np.int64), list(rows), errors_of(ids, outcomes), *cost)


def largest_bytes(options: encoding.EncodingOptions, model: Model) -> int:
    """Return an upper bound of the bytes that the rows of one text's outputs take as float32."""
    tokens = options.truncation.max_length or model.default_max_length
    layers = int(encoding.ENCODING_OUTPUT_LAST_HIDDEN_STATE in options.outputs)
    if encoding.ENCODING_OUTPUT_HIDDEN_STATES in options.outputs:
        layers += len(options.hidden_state_layers) or model.layers + 1
    maps = 0
    if encoding.ENCODING_OUTPUT_ATTENTIONS in options.outputs:
        maps = (len(options.attention_layers) or model.layers) * (len(options.attention_heads) or model.attention_heads)
    width = layers * model.hidden_size
    if encoding.ENCODING_OUTPUT_TOKEN_VECTORS in options.outputs and model.multi_vector is not None:
        width += model.multi_vector.dimensions
    return 4 * tokens * (width + maps * tokens)


def _started(message: encoding.EncodingStarted | tokenization.TokenizationStarted) -> Started:
    return Started(message.window.max_items, effective_options(message.options))


def _answers(
    items: encoding.EncodedItems | tokenization.TokenizedItems, rows: Sequence[object] | FloatArray
) -> Answers:
    if len(items.ids) != len(rows):
        raise unexpected_response(f"{len(rows)} rows for {len(items.ids)} ids")
    cost = cost_of(items) if items.HasField("usage") else None
    more = isinstance(items, encoding.EncodedItems) and items.more
    return Answers(list(zip(items.ids, rows, strict=True)), items.errors, cost, more)
