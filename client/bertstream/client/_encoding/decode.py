"""Messages with tokens and vectors to the SDK's values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.client._encoding.tensors import array_of
from bertstream.client._errors import unexpected_response
from bertstream.client._types import FloatArray, Tokens
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types


def tokens_of(message: tokenization.Tokenizations, texts: int) -> list[list[Tokens]]:
    """Return for each of the message's texts its Tokens, one per window; text_index counts within the message."""
    ends = np.cumsum([0, *message.lengths])
    indexes = list(message.text_indexes) or list(range(len(message.lengths)))
    if len(indexes) != len(message.lengths) or ends[-1] != len(message.token_ids):
        raise unexpected_response("tokenizations whose columns differ in length")
    columns = _columns_of(message)
    rows: list[list[Tokens]] = [[] for _ in range(texts)]
    for row, index in enumerate(indexes):
        if not 0 <= index < texts:
            raise unexpected_response(f"tokens of text {index}, of {texts}")
        part = slice(ends[row], ends[row + 1])
        rows[index].append(Tokens(**{name: column[part] for name, column in columns.items()}, text_index=index))
    return rows


def vectors_of(tensor: types.Tensor) -> FloatArray:
    """Return vectors [texts, dimensions]. Raises Internal for a tensor of another shape."""
    vectors = array_of(tensor)
    if vectors.ndim != 2:
        raise unexpected_response(f"vectors of shape {list(vectors.shape)}")
    return vectors


def _columns_of(message: tokenization.Tokenizations) -> dict[str, Any]:
    starts, ends = _integers(message.starts), _integers(message.ends)
    if len(starts) != len(ends):
        raise unexpected_response("offsets with more starts than ends, or fewer")
    columns: dict[str, Any] = {
        "token_ids": _integers(message.token_ids),
        "tokens": list(message.tokens),
        "offsets": np.stack([starts, ends], axis=1),
        "token_type_ids": _integers(message.token_type_ids),
        "special_tokens_mask": np.fromiter(message.special_tokens_mask, np.bool_),
        "word_ids": _integers(message.word_ids),
        "sequence_ids": _integers(message.sequence_ids),
    }
    if any(len(column) not in (0, len(message.token_ids)) for column in columns.values()):
        raise unexpected_response("tokenizations whose columns differ in length")
    return columns


def _integers(values: Iterable[int]) -> NDArray[np.int32]:
    return np.fromiter(values, np.int32)
