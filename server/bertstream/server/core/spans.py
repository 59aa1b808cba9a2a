"""Finds the ranges of tokens for spans of characters or words, for all texts of a message at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.tokenization import OffsetUnit, Tokenized
from bertstream.server.core.tokenization.offsets import convert_offsets
from bertstream.workers.contract import Spans
from bertstream.workers.ragged import starts_of

SpanUnit = Literal["characters", "words", "tokens"]
Ints = NDArray[np.int64]

_STRIDE = 1 << 32  # larger than any offset, so that it sets the texts apart in one sorted column


@dataclass(frozen=True, slots=True)
class AskedSpans:
    """Spans [start, end) of n texts, end to end; `counts` [n] add up to the number of spans."""

    counts: NDArray[np.int32]
    starts: Ints
    ends: Ints
    unit: SpanUnit


def token_spans(
    asked: AskedSpans, tokens: Tokenized, texts_sent: Sequence[str] = (), offset_unit: OffsetUnit = "code_points"
) -> tuple[Spans, dict[int, str]]:
    """Return the token ranges of all spans, and why there are none for a text's spans, by the index of the text.

    `tokens` has a row for each text that did not fail, with offsets for spans of characters and word ids for spans of
    words. Where offsets do not count code points, as spans do, the texts are needed. The ranges of spans of texts that
    failed, in tokenization or here, are empty.
    """
    if not tokens.lengths.size:
        nothing = np.zeros(asked.starts.size, np.int32)
        return Spans(asked.counts, nothing, nothing), {}
    texts = np.repeat(np.arange(asked.counts.size), asked.counts)
    rows = np.full(asked.counts.size, -1, np.int64)
    rows[tokens.text_indexes] = np.arange(tokens.lengths.size)
    row = rows[texts]
    moves = asked.unit == "characters" and offset_unit != "code_points"
    in_unit = _in_unit(asked, texts_sent, offset_unit) if moves else asked
    first, last = _ranges(in_unit, tokens, row)
    cut_off = tokens.truncated
    bad = {int(text): _why(asked, span, bool(cut_off[text])) for text, span in _first_bad(texts, row, first, last)}
    return Spans(asked.counts, first.astype(np.int32), np.maximum(last - first, 0).astype(np.int32)), bad


def _in_unit(asked: AskedSpans, texts: Sequence[str], unit: OffsetUnit) -> AskedSpans:
    """Convert spans of code points to another unit; a span outside of its text stays outside."""
    of = np.repeat(np.arange(asked.counts.size), asked.counts)
    bounds = np.stack([asked.starts, asked.ends], axis=1)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))[of][:, None]
    inside = np.clip(bounds, 0, sizes).astype(np.int32)
    moved = convert_offsets(inside, of, texts, unit).astype(np.int64) + (bounds - inside)
    return replace(asked, starts=moved[:, 0], ends=moved[:, 1])


def _ranges(asked: AskedSpans, tokens: Tokenized, row: Ints) -> tuple[Ints, Ints]:
    """Return the tokens [first, last) of its text that each span touches; empty where it touches none."""
    if asked.unit == "tokens":
        lengths = tokens.lengths[row]
        valid = (asked.starts >= 0) & (asked.ends <= lengths)
        return np.where(valid, asked.starts, 0), np.where(valid, asked.ends, 0)
    low, high = _bounds(asked.unit, tokens)
    row_of_token = np.repeat(np.arange(tokens.lengths.size), tokens.lengths)
    real = np.flatnonzero(low >= 0)
    base = row_of_token[real] * _STRIDE
    # The first token that ends behind the span's start, and the first that starts at its end or behind it.
    first = np.searchsorted(base + high[real], row * _STRIDE + asked.starts, side="right")
    last = np.searchsorted(base + low[real], row * _STRIDE + asked.ends, side="left")
    empty = (first >= last) | (asked.starts < 0) | (asked.ends <= asked.starts) | (asked.ends > _STRIDE)
    first, last = np.where(empty, 0, first), np.where(empty, 0, last)
    padded = np.append(real, 0)
    starts = starts_of(tokens.lengths)[row]
    return (
        np.where(empty, 0, padded[first] - starts),
        np.where(empty, 0, padded[np.maximum(last - 1, 0)] + 1 - starts),
    )


def _bounds(unit: SpanUnit, tokens: Tokenized) -> tuple[Ints, Ints]:
    """Return where each token starts and ends in the spans' unit; -1 for special tokens, which no span touches."""
    assert tokens.word_ids is not None
    words = tokens.word_ids.astype(np.int64)
    if unit == "words":
        return words, words + 1
    assert tokens.starts is not None
    assert tokens.ends is not None
    special = words < 0
    return np.where(special, -1, tokens.starts), np.where(special, -1, tokens.ends)


def _first_bad(texts: Ints, row: Ints, first: Ints, last: Ints) -> list[tuple[int, int]]:
    bad = np.flatnonzero((last <= first) & (row >= 0))
    found, at = np.unique(texts[bad], return_index=True)
    return list(zip(found.tolist(), bad[at].tolist(), strict=True))


def _why(asked: AskedSpans, span: int, truncated: bool) -> str:
    where = "the text, which was cut to its maximum length" if truncated else "the text"
    return f"the span of {asked.unit} [{asked.starts[span]}, {asked.ends[span]}) touches no token of {where}"
