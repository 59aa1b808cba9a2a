"""Lays out the tokens found in texts as the columns of rows that a caller gets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.tokenization import ragged
from bertstream.server.core.tokenization.sequences import Sequences
from bertstream.server.core.tokenization.templates import SPECIAL, Template
from bertstream.server.core.tokenization.truncation import KeptTokens
from bertstream.server.core.tokenization.values import Column, TokenizationError, Tokenized

Int32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The names of the ids, and the ids that the tokenizer itself adds to texts."""

    names: Sequence[str]
    special_ids: Collection[int]

    def spell(self, ids: Int32) -> list[str]:
        """Return the names of these ids: [T] -> [T]."""
        return list(map(self.names.__getitem__, ids.tolist()))


class TokenLayout:
    """Where each of the T output tokens comes from: from the rows' parts of the sequences, or the special tokens."""

    def __init__(self, sequences: Sequences, template: Template, rows: KeptTokens) -> None:
        self._template = template
        self._width = len(template.pieces)
        source = len(sequences.ids)  # the special tokens are put behind the S tokens found
        starts = np.empty((len(rows.texts), self._width), np.int64)
        lengths = np.ones((len(rows.texts), self._width), np.int64)
        first = sequences.starts.reshape(len(rows.starts), -1)
        for place, piece in enumerate(template.pieces):
            if piece.sequence == SPECIAL:
                starts[:, place] = source
                source += 1
            else:
                starts[:, place] = first[piece.sequence, rows.texts] + rows.starts[piece.sequence]
                lengths[:, place] = rows.lengths[piece.sequence]
        self._piece_lengths = lengths.ravel()
        self._indexes = ragged.slice_indexes(starts.ravel(), self._piece_lengths)
        self.row_lengths = lengths.sum(axis=1).astype(np.int32)

    def take(self, found: NDArray[Any], special: Sequence[int] | int) -> NDArray[Any]:
        """Lay out a column of the tokens found, with `special` at the special tokens' places: [S, …] -> [T, …]."""
        count = len(self._template.special_ids)
        values = np.empty((count, *found.shape[1:]), found.dtype)
        values[:] = special
        return np.concatenate([found, values])[self._indexes]

    def repeat(self, of_pieces: Sequence[int]) -> Int32:
        """Repeat the value of each piece of the template for its tokens: one value a piece -> [T]."""
        rows = len(self.row_lengths)
        return np.repeat(np.tile(np.array(of_pieces, np.int32), rows), self._piece_lengths)


def lay_out(
    sequences: Sequences,
    template: Template,
    rows: KeptTokens,
    truncated: NDArray[np.bool_],
    errors: Mapping[int, TokenizationError],
    wanted: frozenset[Column],
    vocabulary: Vocabulary,
) -> Tokenized:
    """Lay out the rows; wanted columns that `sequences` does not have are None."""
    layout = TokenLayout(sequences, template, rows)
    ids = layout.take(sequences.ids, template.special_ids)
    places = sequences.places
    offsets = layout.take(places.offsets, 0) if places and "offsets" in wanted else None
    word_ids = layout.take(places.word_ids, -1) if places and "word_ids" in wanted else None
    return Tokenized(
        ids=ids,
        lengths=layout.row_lengths,
        text_indexes=rows.texts.astype(np.int32),
        type_ids=_type_ids(layout, sequences, template),
        truncated=truncated,
        errors=errors,
        tokens=vocabulary.spell(ids) if "tokens" in wanted else None,
        starts=None if offsets is None else np.ascontiguousarray(offsets[:, 0]),
        ends=None if offsets is None else np.ascontiguousarray(offsets[:, 1]),
        special_tokens_mask=_mask(layout, sequences, vocabulary) if "special_tokens_mask" in wanted else None,
        word_ids=word_ids,
        sequence_ids=None if word_ids is None else _sequence_ids(layout, sequences, template),
    )


def _type_ids(layout: TokenLayout, sequences: Sequences, template: Template) -> Int32 | None:
    if sequences.type_ids is not None:
        special = [piece.type_id for piece in template.pieces if piece.sequence == SPECIAL]
        type_ids: Int32 = layout.take(sequences.type_ids, special)
    elif template.has_segments:
        type_ids = layout.repeat([piece.type_id for piece in template.pieces])
    else:
        return None
    return type_ids if type_ids.any() else None


def _mask(layout: TokenLayout, sequences: Sequences, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    if sequences.given:  # ids that are sent mostly have their special tokens among them
        found = np.isin(sequences.ids, list(vocabulary.special_ids))
    else:
        found = sequences.places.is_prompt if sequences.places else np.zeros(len(sequences.ids), np.bool_)
    return layout.take(found, 1)


def _sequence_ids(layout: TokenLayout, sequences: Sequences, template: Template) -> Int32:
    sequence_ids = layout.repeat([piece.sequence for piece in template.pieces])
    if sequences.places:
        sequence_ids[layout.take(sequences.places.is_prompt, 0)] = -1
    return sequence_ids
