"""What the streaming rpcs send and give back, for `_stream.BulkStream`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from bertstream.client._decode import outputs_of, tokens_of, vectors_of
from bertstream.client._errors import RpcError, unexpected_response
from bertstream.client._options import pooled_width
from bertstream.client._stream import Answers, Started
from bertstream.client._texts import Group
from bertstream.client._types import EncodedBatch, FloatArray, ItemError, Outputs, TokenizedBatch, Tokens
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types

V = TypeVar("V")


class _EncodingStream:
    """The requests of StreamEncodings."""

    rpc = "StreamEncodings"

    def __init__(self, options: encoding.EncodingOptions) -> None:
        self._options = options

    def options(self) -> encoding.StreamEncodingsRequest:
        return encoding.StreamEncodingsRequest(options=self._options)

    def request(self, group: Group) -> encoding.StreamEncodingsRequest:
        return encoding.StreamEncodingsRequest(items=encoding.EncodingItems(**_items(group)))


class VectorStream(_EncodingStream):
    """One vector a text, as `encode_stream` gives them."""

    def __init__(self, options: encoding.EncodingOptions, hidden_size: int) -> None:
        super().__init__(options)
        self._hidden_size = hidden_size
        self._width = pooled_width(options.pooling, hidden_size)
        self._dtype: Any = np.float16 if options.data_type == types.DATA_TYPE_FLOAT16 else np.float32

    def parse(self, response: encoding.StreamEncodingsResponse) -> Started | Answers[FloatArray]:
        match response.WhichOneof("event"):
            case "started":
                pooling = response.started.options.pooling
                self._width = pooled_width(pooling, self._hidden_size)
                return Started(response.started.window.max_items)
            case "items":
                return self._answers(response.items)
        raise unexpected_response("a stream's message without an event")

    def joined(self, parts: list[FloatArray]) -> FloatArray:
        raise unexpected_response("a vector in several messages")

    def batch(self, ids: list[int], outcomes: Sequence[FloatArray | RpcError]) -> EncodedBatch:
        errors = _errors(ids, outcomes)
        if not errors:
            return EncodedBatch(np.array(ids, np.int64), np.stack(outcomes), [])  # type: ignore[arg-type]
        good = [row for row in outcomes if not isinstance(row, RpcError)]
        vectors = np.full((len(ids), len(good[0]) if good else self._width), np.nan, self._dtype)
        for index, row in enumerate(outcomes):
            if not isinstance(row, RpcError):
                vectors[index] = row
        return EncodedBatch(np.array(ids, np.int64), vectors, errors)

    def _answers(self, items: encoding.EncodedItems) -> Answers[FloatArray]:
        vectors = vectors_of(items.encodings.pooled) if items.ids else ()
        return Answers(_paired(items.ids, vectors), items.errors, items.usage.tokens)


class OutputStream(_EncodingStream):
    """All outputs of each text, as `forward` gives them."""

    def parse(self, response: encoding.StreamEncodingsResponse) -> Started | Answers[Outputs]:
        match response.WhichOneof("event"):
            case "started":
                return Started(response.started.window.max_items)
            case "items":
                items = response.items
                more = items.encodings.last_hidden_state.more_rows
                rows = _paired(items.ids, outputs_of(items.encodings) if items.ids else ())
                return Answers(rows, items.errors, items.usage.tokens, more)
        raise unexpected_response("a stream's message without an event")

    def joined(self, parts: list[Outputs]) -> Outputs:
        states = [part.last_hidden_state for part in parts if part.last_hidden_state is not None]
        whole = np.concatenate(states)
        if len(whole) != parts[0].token_count:
            raise unexpected_response(f"{len(whole)} rows for a text of {parts[0].token_count} tokens")
        return replace(parts[0], last_hidden_state=whole)

    def batch(self, ids: list[int], outcomes: Sequence[Outputs | RpcError]) -> list[Outputs]:
        return [outcome for outcome in outcomes if not isinstance(outcome, RpcError)]


class TokenStream:
    """Tokens, as `tokenize_stream` gives them."""

    rpc = "StreamTokenizations"

    def __init__(self, options: tokenization.TokenizationOptions) -> None:
        self._options = options

    def options(self) -> tokenization.StreamTokenizationsRequest:
        return tokenization.StreamTokenizationsRequest(options=self._options)

    def request(self, group: Group) -> tokenization.StreamTokenizationsRequest:
        return tokenization.StreamTokenizationsRequest(items=tokenization.TokenizationItems(**_items(group)))

    def parse(self, response: tokenization.StreamTokenizationsResponse) -> Started | Answers[list[Tokens]]:
        match response.WhichOneof("event"):
            case "started":
                return Started(response.started.window.max_items)
            case "items":
                items = response.items
                rows = tokens_of(items.tokenizations, len(items.ids))
                return Answers(_paired(items.ids, rows), items.errors, items.usage.tokens)
        raise unexpected_response("a stream's message without an event")

    def joined(self, parts: list[list[Tokens]]) -> list[Tokens]:
        raise unexpected_response("tokens in several messages")

    def batch(self, ids: list[int], outcomes: Sequence[list[Tokens] | RpcError]) -> TokenizedBatch:
        rows = (
            replace(tokens, text_index=index)
            for index, outcome in enumerate(outcomes)
            if not isinstance(outcome, RpcError)
            for tokens in outcome
        )
        return TokenizedBatch(np.array(ids, np.int64), list(rows), _errors(ids, outcomes))


def _items(group: Group) -> dict[str, Any]:
    first, last = group.indexes[0], group.indexes[-1]
    if last - first == len(group.indexes) - 1:  # indexes only grow
        return {"first_id": first, "inputs": group.batch()}
    return {"ids": group.indexes, "inputs": group.batch()}


def _paired(ids: Sequence[int], rows: Sequence[V] | FloatArray) -> list[tuple[int, Any]]:
    if len(ids) != len(rows):
        raise unexpected_response(f"{len(rows)} rows for {len(ids)} ids")
    return list(zip(ids, rows, strict=True))


def _errors(ids: Sequence[int], outcomes: Sequence[object]) -> list[ItemError]:
    failed = ((item_id, outcome) for item_id, outcome in zip(ids, outcomes, strict=True))
    return [ItemError(item_id, outcome) for item_id, outcome in failed if isinstance(outcome, RpcError)]
