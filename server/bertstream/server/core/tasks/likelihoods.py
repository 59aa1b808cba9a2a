"""ScoreTexts: the pseudo-log-likelihood of texts (Salazar et al. 2020, https://arxiv.org/abs/1910.14659)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.sent import ChoiceLists, SentItems
from bertstream.server.core.tasks.base import Rows, Share, Task
from bertstream.server.core.tasks.masks import with_own_mask
from bertstream.server.core.tasks.sums import segment_sums
from bertstream.server.core.tasks.texts import tokenize
from bertstream.server.core.tokenization import TokenizeOptions
from bertstream.workers.contract import Batch, Spans
from bertstream.workers.ragged import rows_of, starts_of


@dataclass(frozen=True, slots=True)
class Scored:
    """The tokens that are scored, which are all but the special ones, for all rows end to end."""

    counts: NDArray[np.int64]  # [r]
    places: NDArray[np.int32]  # [S] within the row
    ids: NDArray[np.int32]  # [S]

    def slice(self, first: int, last: int) -> slice:
        """Return the slice of the tokens of the rows from `first` up to `last`."""
        start = int(self.counts[:first].sum())
        return slice(start, start + int(self.counts[first:last].sum()))


@dataclass(frozen=True, slots=True)
class TextScores:
    """The pseudo-log-likelihood of each text, and of its tokens, text by text."""

    scores: NDArray[np.float64]  # of each text
    token_counts: NDArray[np.int64]
    token_ids: NDArray[np.int32]
    log_probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class ScoreTexts(Task[Scored]):
    """Makes a row for each text, which becomes one copy for each scored token, with that token masked."""

    tokenize: TokenizeOptions
    mask: str
    mask_id: int

    def prepare(self, sent: SentItems) -> Rows[Scored]:
        assert not isinstance(sent.inputs, ChoiceLists)
        inputs = with_own_mask(sent.inputs, self.mask)
        texts = tokenize(self.model, inputs, self.tokenize, sent)
        tokens = texts.tokens
        assert tokens.special_tokens_mask is not None
        at = np.flatnonzero(~tokens.special_tokens_mask.astype(np.bool_))
        rows = np.repeat(np.arange(tokens.lengths.size), tokens.lengths)[at]
        counts = np.bincount(rows, minlength=tokens.lengths.size).astype(np.int64)
        places = (at - starts_of(tokens.lengths)[rows]).astype(np.int32)
        scored = Scored(counts, places, tokens.ids[at])
        return Rows(texts.batch, tokens.text_indexes, texts.failed, tokens.truncated, scored, copies=counts)

    def expand(self, rows: Rows[Scored], first: int, last: int) -> Batch:
        scored, batch = rows.context, rows.batch
        which = scored.slice(first, last)
        places, original = scored.places[which], scored.ids[which]
        copies = np.repeat(np.arange(first, last), scored.counts[first:last])  # the row of each copy
        lengths = batch.lengths[copies]
        at = rows_of(starts_of(batch.lengths)[copies], lengths)
        ids = batch.ids[at]
        ids[starts_of(lengths) + places] = self.mask_id
        type_ids = None if batch.type_ids is None else batch.type_ids[at]
        one = np.ones(copies.size, np.int32)
        return Batch(ids, lengths, type_ids, Spans(one, places, one, original))

    def answer(self, rows: Rows[Scored], share: Share) -> TextScores:
        scored = rows.context
        which = rows_of(starts_of(scored.counts)[share.rows], scored.counts[share.rows])
        counts = scored.counts[share.rows]
        nothing = np.zeros(0, np.float32)  # where all texts of the share are empty, the workers had nothing to compute
        logs = share.tensors.get("token_log_probabilities", nothing).astype(np.float64)
        return TextScores(segment_sums(logs, counts), counts, scored.ids[which], logs)
