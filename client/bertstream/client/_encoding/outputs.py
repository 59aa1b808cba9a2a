"""Messages with encodings to Outputs: several texts in one message, or one text in several messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from bertstream.client._encoding.decode import tokens_of, vectors_of
from bertstream.client._encoding.tensors import matrices_of, rows_of
from bertstream.client._errors import unexpected_response
from bertstream.client._sparse import sparse_vectors
from bertstream.client._types import FloatArray, Outputs
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types

Source: TypeAlias = tuple[Literal["last_hidden_state", "hidden_states", "attentions", "token_vectors"], int]
"""An output that consists of rows, and its layer (0 for last_hidden_state and token_vectors)."""

Column: TypeAlias = FloatArray | list[Any]
"""A value for each text."""


class Rows(NamedTuple):
    """Some rows of one output of one text."""

    first: int
    values: FloatArray  # states [rows, hidden]; attentions flattened, [rows * tokens]


@dataclass(slots=True)
class Piece:
    """The outputs of one text that are in one message: all of them, or a part."""

    token_count: int = 0  # 0 if the message does not have it
    columns: dict[str, Any] = field(default_factory=dict)  # outputs that are never split: vectors, tokens
    rows: dict[Source, Rows] = field(default_factory=dict)
    heads: tuple[int, ...] = ()


def pieces_of(message: encoding.Encodings, texts: int) -> list[Piece]:
    """Return what the message has of each of its texts. Raises Internal if it makes no sense."""
    counts = list(message.token_counts) or [0] * texts
    pieces = [Piece(count) for count in counts]
    if len(pieces) != texts:
        raise unexpected_response(f"{len(pieces)} rows for {texts} ids")
    for name, column in _columns(message, texts).items():
        _check(name, column, texts)
        for piece, value in zip(pieces, column, strict=True):
            piece.columns[name] = value
    _add_states(message, pieces)
    for layer in message.attentions:
        _add_attentions(layer, counts, pieces)
    return pieces


def whole(pieces: Sequence[Piece]) -> Outputs:
    """Return one text's Outputs from all its pieces. Raises Internal if something is missing."""
    tokens, columns = pieces[0].token_count, dict[str, Any]()
    heads = next((piece.heads for piece in pieces if piece.heads), ())
    parts: dict[Source, list[Rows]] = {}
    for piece in pieces:
        columns |= piece.columns
        for source, rows in piece.rows.items():
            parts.setdefault(source, []).append(rows)
    states: dict[int, FloatArray] = {}
    attentions: dict[int, FloatArray] = {}
    for (name, layer), some in sorted(parts.items()):
        if name == "attentions":
            attentions[layer] = _joined_attentions(some, tokens, len(heads))
        elif name == "hidden_states":
            states[layer] = _joined(some, 1, tokens)
        elif name == "token_vectors":  # of the tokens that count
            columns[name] = _joined(some, 1, sum(len(part.values) for part in some))
        else:
            columns[name] = _joined(some, 1, tokens)
    return Outputs(tokens, **columns, hidden_states=states, attentions=attentions, heads=heads)


def bytes_of(outputs: Outputs) -> int:
    """Return how many bytes the arrays of rows take."""
    arrays = [
        outputs.last_hidden_state,
        outputs.token_vectors,
        *outputs.hidden_states.values(),
        *outputs.attentions.values(),
    ]
    return sum(array.nbytes for array in arrays if array is not None)


def token_columns(message: tokenization.Tokenizations, texts: int) -> dict[str, Column]:
    """Return the tokens of the texts, each of which has one window, as columns of Outputs."""
    rows = [windows[0] for windows in tokens_of(message, texts) if len(windows) == 1]
    return {name: [getattr(row, name) for row in rows] for name in ("token_ids", "tokens", "offsets")}


def _columns(message: encoding.Encodings, texts: int) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    if message.HasField("pooled"):
        columns["pooled"] = vectors_of(message.pooled)
    if message.HasField("pooler_output"):
        columns["pooler_output"] = vectors_of(message.pooler_output)
    if message.HasField("pooled_spans"):
        columns["pooled_spans"] = _split(vectors_of(message.pooled_spans), list(message.span_counts))
    if message.HasField("sparse_weights"):
        columns["sparse_weights"] = sparse_vectors(message.sparse_weights, texts)
    if message.HasField("tokens"):
        columns |= token_columns(message.tokens, texts)
    return columns


def _add_states(message: encoding.Encodings, pieces: list[Piece]) -> None:
    sources: list[tuple[Source, types.RaggedTensor]]
    sources = [(("hidden_states", layer.layer), layer.states) for layer in message.hidden_states]
    if message.HasField("last_hidden_state"):
        sources.append((("last_hidden_state", 0), message.last_hidden_state))
    if message.HasField("token_vectors"):
        sources.append((("token_vectors", 0), message.token_vectors))
    for source, states in sources:
        rows = rows_of(states)
        _check(source[0], rows, len(pieces))
        for piece, values in zip(pieces, rows, strict=True):
            piece.rows[source] = Rows(states.first_row, values)


def _add_attentions(layer: encoding.LayerAttentions, counts: list[int], pieces: list[Piece]) -> None:
    heads = tuple(layer.heads)
    if len(pieces) == 1:
        matrices = matrices_of(layer.weights, None)
    else:
        matrices = matrices_of(layer.weights, [(len(heads) * count, count) for count in counts])
    for piece, weights in zip(pieces, matrices, strict=True):
        piece.rows["attentions", layer.layer] = Rows(layer.first_row, weights)
        piece.heads = heads


def _joined_attentions(parts: list[Rows], tokens: int, heads: int) -> FloatArray:
    return _joined(parts, tokens, heads * tokens * tokens).reshape(heads, tokens, tokens)


def _joined(parts: list[Rows], row_length: int, length: int) -> FloatArray:
    """Return the parts concatenated, if they follow each other; a row has `row_length` entries of the first axis.

    Raises Internal if a part is missing.
    """
    filled = 0
    for part in parts:
        if part.first * row_length != filled:
            raise unexpected_response(f"row {part.first} of a text out of turn")
        filled += len(part.values)
    if filled != length:
        raise unexpected_response(f"{filled} entries where there are {length}")
    return parts[0].values if len(parts) == 1 else np.concatenate([part.values for part in parts])


def _split(values: FloatArray, counts: list[int]) -> list[FloatArray]:
    if sum(counts) != len(values):
        raise unexpected_response(f"span_counts add up to {sum(counts)} for {len(values)} vectors")
    ends = np.cumsum([0, *counts]).tolist()
    return [values[start:end] for start, end in pairwise(ends)]


def _check(name: str, column: Column, texts: int) -> None:
    if len(column) != texts:
        raise unexpected_response(f"{len(column)} rows of {name} for {texts} texts")
