"""Selects rows of a tokenization."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.tokenization import Tokenized
from bertstream.workers.ragged import rows_of, starts_of

_COLUMNS = ("ids", "type_ids", "starts", "ends", "special_tokens_mask", "word_ids", "sequence_ids")


def select_rows(tokens: Tokenized, rows: NDArray[np.integer]) -> Tokenized:
    """Return these rows, in this order, with every column; text indexes and `truncated` stay as they are."""
    lengths = tokens.lengths[rows]
    at = rows_of(starts_of(tokens.lengths)[rows], lengths)
    columns: dict[str, Any] = {}
    for name in _COLUMNS:
        column = getattr(tokens, name)
        columns[name] = None if column is None else column[at]
    if tokens.tokens is not None:
        columns["tokens"] = [tokens.tokens[i] for i in at.tolist()]
    if tokens.skipped is not None:
        columns["skipped"] = tokens.skipped[:, rows]
    return dataclasses.replace(tokens, lengths=lengths, text_indexes=tokens.text_indexes[rows], **columns)
